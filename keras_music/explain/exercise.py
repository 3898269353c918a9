"""Exercises that check themselves."""

from __future__ import annotations

import numpy as np


def check(number, answer, correct, tolerance=1e-3) -> bool | None:
    """Says whether the answer to an exercise is right.

    Args:
      number: int, the exercise's number.
      answer: the reader's answer; `...` as long as there is none.
      correct: what is right: a number, an array, a text, or a function `correct(answer) -> bool`.
      tolerance: largest difference between numbers, relative and absolute; default 0.001.

    Returns:
      True or False; None without an answer. The same is printed in words.

    Example:
      >>> check(1, ..., 0.25)
      exercise 1: no answer yet. Put yours in place of the three dots and run the cell again.
      >>> check(1, 1 / 4, 0.25)
      exercise 1: right!
      True
    """
    if answer is ...:
        print(
            f"exercise {number}: no answer yet. Put yours in place of the three dots and run the "
            "cell again."
        )
        return None
    right = bool(correct(answer)) if callable(correct) else _same(answer, correct, tolerance)
    print(f"exercise {number}: {'right!' if right else 'not yet. Your answer: ' + repr(answer)}")
    return right


def _same(answer, correct, tolerance):
    if isinstance(correct, str):
        return answer == correct
    try:
        answer, correct = np.asarray(answer, np.float64), np.asarray(correct, np.float64)
    except (TypeError, ValueError):
        return False
    close = answer.shape == correct.shape and np.allclose(answer, correct, tolerance, tolerance)
    return bool(close)
