"""One sentence when an argument cannot be used.

Numbers come from many hands: Python, NumPy, a table, a form. What counts as a whole number is said
here once, so that every public function says it in the same words.
"""

from __future__ import annotations

import operator


def whole_number(name, value, low, high=None) -> int:
    """The value as an `int` from `low` to `high` (None: no upper limit).

    Raises:
      ValueError: it is no whole number (a bool, a fraction, text) or is out of range.

    >>> whole_number("units", 64.0, 1)
    64
    >>> whole_number("units", 0, 1)
    Traceback (most recent call last):
    ValueError: `units` must be a whole number >= 1. Received: units=0.
    """
    try:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < low or (high is not None and number > high):
        rule = f">= {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"`{name}` must be a whole number {rule}. Received: {name}={value!r}.")
    return number


def one_of(name, value, choices):
    """The value, if it is one of these, of which none is a number (1 is not True).

    Raises:
      ValueError: it is none of them.

    >>> one_of("pedal", "ignore", ("extend", "ignore"))
    'ignore'
    >>> one_of("multi_program", 1, (False, True))
    Traceback (most recent call last):
    ValueError: `multi_program` must be one of [False, True]. Received: multi_program=1.
    """
    if not any(value is c or (isinstance(value, str) and value == c) for c in choices):
        raise ValueError(f"`{name}` must be one of {list(choices)}. Received: {name}={value!r}.")
    return value
