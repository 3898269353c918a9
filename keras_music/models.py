"""The network: an embedding, recurrent layers, one score for every id that could come next.

    ids (batch, time)
      -> Embedding      a learned row of numbers for each id        (batch, time, embedding_dim)
      -> GRU            reads left to right, keeps a memory         (batch, time, units)
      -> Dense          one score ("logit") for each id             (batch, time, vocab_size)

It is a plain `keras.Sequential`: `fit`, `evaluate`, `save` and `summary` are Keras' own, and a
`.keras` file opens on a machine that has never heard of this package. The recurrent layers are
not stateful; whoever generates keeps the memory in his own hands (`keras_music.OneStep`).

Conventions: `vocab_size` counts `PAD`; the output is logits, so compile with
`SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)`. Before training, all ids are
about equally likely: the loss is close to ln(vocab_size).

What this file does not do: it does not train, and it knows nothing of music.

References: J. Elman, "Finding Structure in Time" (1990) for the RNN; S. Hochreiter and
J. Schmidhuber, "Long Short-Term Memory" (1997); K. Cho et al., "Learning Phrase Representations"
(2014) for the GRU. Difference from TensorFlow's tutorial: a Sequential instead of a subclass.
"""

from __future__ import annotations

import functools
import numbers

import keras
import tensorflow as tf

from keras_music.arguments import whole_number

CELLS = {"gru": keras.layers.GRU, "lstm": keras.layers.LSTM, "rnn": keras.layers.SimpleRNN}


def build_model(
    vocab_size: int,
    cell: str = "gru",
    embedding_dim: int = 128,
    units: int = 512,
    layers: int = 1,
    dropout: float = 0.0,
) -> keras.Sequential:
    """Embedding, recurrent layers and Dense, as an uncompiled `keras.Sequential`.

    Args:
      vocab_size: >= 2, the number of ids, `PAD` included (`tokenizer.vocab_size`).
      cell: "gru", "lstm" or "rnn".
      embedding_dim: >= 1, how many numbers stand for one id.
      units: >= 1, the size of the memory of each recurrent layer.
      layers: >= 1, how many recurrent layers are stacked.
      dropout: 0 <= dropout < 1, the share of values set to zero in training after the embedding
        and after each recurrent layer.

    Returns:
      A model from int32 ids (batch, time) to float32 logits (batch, time, vocab_size).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> model = build_model(vocab_size=66, units=16, embedding_dim=8)
      >>> [layer.__class__.__name__ for layer in model.layers]
      ['Embedding', 'GRU', 'Dense']
      >>> model.output_shape
      (None, None, 66)
    """
    vocab_size = whole_number("vocab_size", vocab_size, 2)
    embedding_dim = whole_number("embedding_dim", embedding_dim, 1)
    units = whole_number("units", units, 1)
    layers = whole_number("layers", layers, 1)
    if not isinstance(cell, str) or cell not in CELLS:
        raise ValueError(f"`cell` must be one of {sorted(CELLS)}. Received: cell={cell!r}.")
    if not isinstance(dropout, numbers.Real) or not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be at least 0, below 1. Received: dropout={dropout!r}.")
    model = keras.Sequential([keras.Input((None,), dtype="int32")])
    model.add(keras.layers.Embedding(vocab_size, embedding_dim))
    for _ in range(layers):
        if dropout:
            model.add(keras.layers.Dropout(dropout))
        model.add(CELLS[cell](units, return_sequences=True))
    if dropout:
        model.add(keras.layers.Dropout(dropout))
    # Logits are compared and summed in float32 even where the policy computes in 16 bits.
    model.add(keras.layers.Dense(vocab_size, dtype="float32"))
    if isinstance(tf.distribute.get_strategy(), tf.distribute.MultiWorkerMirroredStrategy):
        model.fit, model.evaluate = _explained(model.fit), _explained(model.evaluate)
    return model


def _explained(method):
    """Keras' method, with a sentence in place of the error that several machines end in.

    It is tried first: with one machine it works, and a later Keras may be able to do more.
    """

    @functools.wraps(method)
    def tried(*args, **kwargs):
        try:
            return method(*args, **kwargs)
        except ValueError as error:
            if "PerReplica" not in str(error):
                raise
            raise ValueError(
                f"Keras' `{method.__name__}` cannot work under a MultiWorkerMirroredStrategy "
                "(https://github.com/keras-team/keras/issues/20585). Train with "
                "`keras_music.train(..., strategy=strategy)`, which has a loop of its own for it."
            ) from None

    return tried
