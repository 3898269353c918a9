"""The arithmetic of a network, step by step, on numbers small enough to check by hand.

    import keras_music as km
    km.explain.dense(x=[2, 3, 1], kernel=[-1, -2, 0.5], activation="tanh")

prints each step with its formula, its shape and its numbers (in a notebook: a table), and has
compared the result with the layer of Keras that does the same before it returns. What it returns is
an `Explanation`: `.result`, `["sum"]` for the value of one step, `.table` (pandas), `.draw()`.

Weights are those of Keras: `km.explain.gru_cell(x, h, *cell.get_weights())` explains your cell.
"""

from keras_music.explain.calculation import Explanation, Step
from keras_music.explain.cells import gru_cell, lstm_cell, rnn_cell, unfold
from keras_music.explain.exercise import check
from keras_music.explain.layers import attention_head, dense, embedding, softmax_cross_entropy

__all__ = [
    "Explanation",
    "Step",
    "attention_head",
    "check",
    "dense",
    "embedding",
    "gru_cell",
    "lstm_cell",
    "rnn_cell",
    "softmax_cross_entropy",
    "unfold",
]
