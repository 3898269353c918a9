"""How surprised is the network by music it has never seen? A ladder of predictors.

A predictor gives each possible next id a probability. Where the id that really comes had
probability p, its surprise is -ln(p) *nats*: 0 if it was certain, 0.69 at an even chance, ln(V)
if it thought all V ids alike. The mean over a held-out corpus is the loss on which networks are
trained and compared. By itself the number says little; beside simpler predictors it does:

    uniform       every id has probability 1/V: ln(V)
    unigram       counts how often each id occurs in the training corpus
    repeat_last   knows how often an id is followed by itself, else guesses like unigram
    the model     must stand below all of them, or it has learned nothing

Tokens differ in how much they say, so losses of different tokenizers cannot be compared. On a grid
of voices (`ChoraleTokenizer`) the surprises of all voices at one moment, a *frame*, add up to that
of the chord, whatever the order in which they are told:

    NOTE_67 0.9   NOTE_64 0.5   REST 0.1   NOTE_48 0.4      1.9 nats a frame

Conventions: nats a token, or a frame where it says so; the first id of a piece (`START`) is given,
every later one is predicted once; padding counts nowhere. Counts are taken from the training corpus
only.

What this file does not do: it says nothing of how the music sounds.

Reference: C. Shannon, "Prediction and Entropy of Printed English" (1951).
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import tensorflow as tf

from keras_music.data import encode_each, make_dataset


def uniform(vocab_size: int) -> float:
    """ln(vocab_size), the loss of a predictor without knowledge.

    >>> round(uniform(391), 4)
    5.9687
    """
    return float(np.log(vocab_size))


def unigram(train, held_out, vocab_size: int) -> float:
    """The loss of guessing each id as often as it occurs in training (one added to each count).

    Args:
      train, held_out: lists of id rows, shape (time,) each.
      vocab_size: how many ids there are.

    Raises:
      ValueError: a row is none of ids below `vocab_size`, or nothing is held out to be foretold.

    >>> round(unigram([[1, 3, 3, 3]], [[1, 3]], 4), 4)  # (3 + 1) in (3 + 4): ln(7 / 4)
    0.5596
    """
    return _unigram(_count(train, vocab_size), _count(held_out, vocab_size))


def repeat_last(train, held_out, vocab_size: int) -> float:
    """The loss of a predictor that only knows how often an id is followed by itself.

    With r the share of repeats in training and q the unigram, the id before has probability r and
    every other id y has (1 - r) q(y) / (1 - q(before)). Arguments as in `unigram`.
    """
    return _repeat_last(_count(train, vocab_size), _count(held_out, vocab_size))


def model_loss(model, dataset) -> float:
    """The mean surprise of a model in nats a token, over every target that is not padding.

    Args:
      model: from int32 ids (batch, time) to logits (batch, time, vocab_size).
      dataset: of (inputs, targets), as `make_dataset` gives; targets 0 do not count.

    Raises:
      ValueError: there is no target.
    """
    total, count = 0.0, 0
    for losses, _ in _batch_losses(model, dataset):
        total, count = total + losses.sum(dtype=np.float64), count + losses.size
    return float(total / count)


def token_losses(model, dataset):
    """The surprise of a model at each target that is not padding, in nats, and these targets.

    Args:
      model, dataset: as in `model_loss`.

    Returns:
      The losses, float32, and the targets, int32; shape (targets,) each.
    """

    losses, targets = zip(*_batch_losses(model, dataset), strict=True)
    return np.concatenate(losses), np.concatenate(targets)


def _batch_losses(model, dataset):
    """Yields `token_losses` of each batch."""
    found = False
    for inputs, targets in dataset:
        targets = tf.convert_to_tensor(targets)
        logits = tf.cast(model.predict_on_batch(inputs), tf.float32)  # (batch, time, vocab_size)
        log_prob = tf.gather(tf.nn.log_softmax(logits), targets, batch_dims=2)  # (batch, time)
        counts = targets != 0
        found = found or bool(tf.reduce_any(counts))
        yield -log_prob[counts].numpy(), targets[counts].numpy()
    if not found:
        raise ValueError(
            "`dataset` must have a target that is not padding. Received: none. "
            "Give it a piece of two ids or more."
        )


def nats_per_frame(losses, targets, tokenizer) -> float:
    """The surprise a frame of time, from that of each token: the sum over voices, on average.

    What is no voice's (`END`, padding) belongs to no frame and is not counted. Windows may begin
    in the middle of a frame: each token counts once, `num_voices` tokens are a frame. For the sums
    of single frames see `ChoraleTokenizer.frame_of`.

    Papers on chorales quote such numbers: for the JSB chorales, on a grid of quarter notes, 88
    pitches that are guessed one by one gave 8.45 (LSTM), and jointly 5.56 (RNN-NADE). They ask
    which keys sound; ours also says who sings, and whether a note is struck again.

    Args:
      losses, targets: nats (float32) and ids (int32), of one shape, as `token_losses` gives.
      tokenizer: the `ChoraleTokenizer` of these ids.

    Returns:
      Nats a frame, a float.

    Raises:
      ValueError: the tokenizer has no frames, or there is no token of a voice.

    >>> from keras_music.tokenizers import ChoraleTokenizer
    >>> nats_per_frame([1.0, 0.5, 2.0, 0.5, 9.0], [72, 53, 4, 4, 2], ChoraleTokenizer(num_voices=2))
    2.0
    """
    if not hasattr(tokenizer, "in_frame"):
        raise ValueError(
            "`tokenizer` must have frames, as `ChoraleTokenizer` has. "
            f"Received: {type(tokenizer).__name__}. Its losses can be quoted a token."
        )
    is_voice = tokenizer.in_frame(targets)
    if not is_voice.any():
        raise ValueError("`targets` must hold a token of a voice. Received: none. Give more ids.")
    mean = np.asarray(losses, np.float64)[is_voice].mean()
    return float(mean * tokenizer.num_voices)


def ladder(model, tokenizer, train, held_out, sequence_length=256, batch_size=64) -> pd.Series:
    """The losses of uniform, unigram, repeat-the-last-token and the model, in nats a token.

    Args:
      model: a model that was trained on `train`.
      tokenizer: its tokenizer.
      train, held_out: corpora (or lists of pieces, or sides of shards; all ids of `train` are held
        in memory to be counted).
      sequence_length: the length of the windows in which the model reads the held-out corpus; it
        begins each of them without memory.
      batch_size: windows at a time.

    Returns:
      A `pandas.Series`, four floats by name.
    """
    held_out = list(held_out) if isinstance(held_out, Iterator) else held_out
    counts = [
        _count(encode_each(corpus, tokenizer), tokenizer.vocab_size) for corpus in (train, held_out)
    ]
    dataset = make_dataset(held_out, tokenizer, sequence_length, batch_size)
    losses = {
        "uniform": uniform(tokenizer.vocab_size),
        "unigram": _unigram(*counts),
        "repeat the last token": _repeat_last(*counts),
        "model": model_loss(model, dataset),
    }
    return pd.Series(losses, name="nats a token")


def _count(rows, vocab_size):
    """What the simple predictors know of id rows, one after the other; int64, (3, vocab_size).

    How often each id is a target; how often it is one that differs from the id before it; and how
    often it stands before one that differs.
    """
    counts = np.zeros((3, vocab_size), np.int64)
    for row in rows:
        row = _checked(row, vocab_size)
        before, after = row[:-1], row[1:]
        changes = before != after
        for count, ids in zip(counts, (after, after[changes], before[changes]), strict=True):
            count += np.bincount(ids, minlength=vocab_size)
    return counts


def _checked(row, vocab_size):
    """A row of ids as an array; one that cannot be counted would end in NumPy's words."""
    ids = np.asarray(row)
    is_row = ids.ndim == 1 and (not ids.size or ids.dtype.kind in "iu")
    if not is_row or (ids.size and not 0 <= ids.min() <= ids.max() < vocab_size):
        raise ValueError(
            f"Each row must be a list of ids from 0 to {vocab_size - 1}, shape (time,). "
            f"Received: {reprlib.repr(row)}. Encode it with the tokenizer of this vocabulary."
        )
    return ids.astype(np.int64)


def _num_targets(counts):
    """How many ids are to be foretold, at least one."""
    if not counts[0].any():
        raise ValueError(
            "`held_out` must have an id that follows another. Received: none. Give longer rows."
        )
    return counts[0].sum()


def _frequencies(counts):
    """How often each id is a target, one added to each count; sums to 1, shape (vocab_size,)."""
    return (counts[0] + 1) / (counts[0] + 1).sum()


def _unigram(train, held_out):
    surprise = -np.log(_frequencies(train))
    return float(held_out[0] @ surprise / _num_targets(held_out))


def _repeat_last(train, held_out):
    frequency = _frequencies(train)
    total, changes = train[:2].sum(axis=1)
    rate = (total - changes + 1) / (total + 2)
    total, changes = _num_targets(held_out), held_out[1].sum()
    log_prob = (total - changes) * np.log(rate) + changes * np.log(1 - rate)
    log_prob += held_out[1] @ np.log(frequency) - held_out[2] @ np.log(1 - frequency)
    return float(-log_prob / total)
