"""How surprised is the network by music it has never seen? A ladder of predictors.

A predictor gives each possible next id a probability. Where the id that really comes had
probability p, its surprise is -ln(p) *nats*: 0 if it was certain, 0.69 at an even chance, ln(V)
if it thought all V ids alike. The mean over a held-out corpus is the loss on which networks are
trained and compared. By itself the number says little; beside simpler predictors it does:

    uniform       every id has probability 1/V: ln(V)
    unigram       counts how often each id occurs in the training corpus
    repeat_last   knows how often an id is followed by itself, else guesses like unigram
    the model     must stand below all of them, or it has learned nothing

Conventions: nats a token; the first id of a piece (`START`) is given, every later one is predicted
once; padding counts nowhere. Counts are taken from the training corpus only.

What this file does not do: it says nothing of how the music sounds.

Reference: C. Shannon, "Prediction and Entropy of Printed English" (1951).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import tensorflow as tf

from keras_music.data import encode_all, make_dataset


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
    """
    return float(-np.log(_frequencies(train, vocab_size)[_targets(held_out)]).mean())


def repeat_last(train, held_out, vocab_size: int) -> float:
    """The loss of a predictor that only knows how often an id is followed by itself.

    With r the share of repeats in training and q the unigram, the id before has probability r and
    every other id y has (1 - r) q(y) / (1 - q(before)). Arguments as in `unigram`.
    """
    frequency = _frequencies(train, vocab_size)
    repeats = _targets(train) == _inputs(train)
    rate = (repeats.sum() + 1) / (len(repeats) + 2)
    before, after = _inputs(held_out), _targets(held_out)
    changed = (1 - rate) * frequency[after] / (1 - frequency[before])
    return float(-np.log(np.where(before == after, rate, changed)).mean())


def model_loss(model, dataset) -> float:
    """The mean surprise of a model in nats a token, over every target that is not padding.

    Args:
      model: from int32 ids (batch, time) to logits (batch, time, vocab_size).
      dataset: of (inputs, targets), as `make_dataset` gives; targets 0 do not count.
    """

    @tf.function(reduce_retracing=True)
    def surprise(inputs, targets):
        log_prob = tf.nn.log_softmax(tf.cast(model(inputs, training=False), tf.float32))
        log_prob = tf.gather(log_prob, targets, batch_dims=2)  # (batch, time)
        counts = tf.cast(targets != 0, tf.float32)
        return -tf.reduce_sum(log_prob * counts), tf.reduce_sum(counts)

    total = np.sum([surprise(inputs, targets) for inputs, targets in dataset], axis=0, dtype="f8")
    return float(total[0] / total[1])


def ladder(model, tokenizer, train, held_out, sequence_length=256, batch_size=64) -> pd.Series:
    """The losses of uniform, unigram, repeat-the-last-token and the model, in nats a token.

    Args:
      model: a model that was trained on `train`.
      tokenizer: its tokenizer.
      train, held_out: corpora (or lists of pieces).
      sequence_length: the length of the windows in which the model reads the held-out corpus; it
        begins each of them without memory.
      batch_size: windows at a time.

    Returns:
      A `pandas.Series`, four floats by name.
    """
    train_ids = encode_all(train, tokenizer)
    held_out = held_out if isinstance(held_out, str) else list(held_out)
    held_out_ids = encode_all(held_out, tokenizer)
    vocab_size = tokenizer.vocab_size
    dataset = make_dataset(held_out, tokenizer, sequence_length, batch_size)
    losses = {
        "uniform": uniform(vocab_size),
        "unigram": unigram(train_ids, held_out_ids, vocab_size),
        "repeat the last token": repeat_last(train_ids, held_out_ids, vocab_size),
        "model": model_loss(model, dataset),
    }
    return pd.Series(losses, name="nats a token")


def _frequencies(rows, vocab_size):
    """How often each id is a target, one added to each count; sums to 1, shape (vocab_size,)."""
    counts = np.bincount(_targets(rows), minlength=vocab_size) + 1.0
    return counts / counts.sum()


def _targets(rows):
    return np.concatenate([row[1:] for row in rows])


def _inputs(rows):
    return np.concatenate([row[:-1] for row in rows])
