"""A model's layers as a step: fed one id at a time it gives what the model gives for all."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_music as km
from keras_music.generation import network
from keras_music.generation.network import Network

VOCAB_SIZE, FEATURES, UNITS = 11, 5, 8
LAYERS = keras.layers


def sequential(*layers, vocab_size=VOCAB_SIZE):
    keras.utils.set_random_seed(0)
    first = LAYERS.Embedding(vocab_size, FEATURES)
    model = keras.Sequential([keras.Input((None,), dtype="int32"), first, *layers])
    model.add(LAYERS.Dense(vocab_size))
    for weight in model.weights:  # biases, too: zeros would hide which of them is forgotten
        if "seed" not in weight.path:
            weight.assign(np.random.default_rng(len(weight.shape)).normal(0, 0.5, weight.shape))
    return model


def step_by_step(model, ids, vocab_size=VOCAB_SIZE):
    stepped = Network(model, vocab_size)
    weights, state, logits = stepped.weights(), stepped.initial_state(len(ids)), []
    for column in np.transpose(ids):
        now, state = stepped.step(tf.constant(column), state, weights)
        logits.append(now)
    return np.stack(logits, axis=1)


def recurrent(kind, **settings):
    return kind(UNITS, return_sequences=True, **settings)


MODELS = {
    "gru": lambda: [recurrent(LAYERS.GRU)],
    "lstm": lambda: [recurrent(LAYERS.LSTM)],
    "rnn": lambda: [recurrent(LAYERS.SimpleRNN)],
    "gru without bias": lambda: [recurrent(LAYERS.GRU, use_bias=False)],
    "lstm without bias": lambda: [recurrent(LAYERS.LSTM, use_bias=False)],
    "rnn without bias": lambda: [recurrent(LAYERS.SimpleRNN, use_bias=False)],
    "gru, reset before": lambda: [recurrent(LAYERS.GRU, reset_after=False)],
    "other activations": lambda: [
        recurrent(LAYERS.GRU, activation="elu", recurrent_activation="hard_sigmoid"),
        recurrent(LAYERS.LSTM, activation="softsign", recurrent_activation="tanh"),
        recurrent(LAYERS.SimpleRNN, activation="relu"),
    ],
    "two of them": lambda: [recurrent(LAYERS.LSTM), recurrent(LAYERS.GRU)],
    "layers before, between, after": lambda: [
        LAYERS.LayerNormalization(),
        LAYERS.Dropout(0.5),
        LAYERS.Dense(7, activation="tanh"),
        recurrent(LAYERS.GRU, dropout=0.3, recurrent_dropout=0.3),
        LAYERS.Dropout(0.5),
        LAYERS.LayerNormalization(),
        recurrent(LAYERS.LSTM),
        LAYERS.Dense(6, activation="relu"),
    ],
    "stacked cells": lambda: [
        LAYERS.RNN([LAYERS.GRUCell(4), LAYERS.LSTMCell(6)], return_sequences=True)
    ],
    "axes by number": lambda: [
        LAYERS.EinsumDense("abc,cd->abd", output_shape=(None, 7)),
        recurrent(LAYERS.GRU),
        LAYERS.LayerNormalization(axis=2),
    ],
    "another precision": lambda: [recurrent(LAYERS.GRU, dtype="float64")],
    "two of different precision": lambda: [
        recurrent(LAYERS.GRU),
        recurrent(LAYERS.LSTM, dtype="float64"),
    ],
    "no memory": lambda: [LAYERS.Dense(7, activation="tanh")],
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("has_table", [True, False])
def test_stepping_is_the_forward_pass(name, has_table, monkeypatch):
    """With a table for each id and, as for large vocabularies, without one."""
    monkeypatch.setattr(network, "MAX_TABLE", 2048 if has_table else 0)
    model = sequential(*MODELS[name]())
    ids = np.random.default_rng(0).integers(0, VOCAB_SIZE, (3, 12)).astype(np.int32)
    expected = model(ids, training=False).numpy()
    np.testing.assert_allclose(step_by_step(model, ids), expected, atol=1e-5)


def test_one_unit_by_hand():
    """The numbers of the module's docstring: h = 0.5, z = r = 0.5, g = tanh(1), h' = 0.631."""
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            LAYERS.Embedding(1, 1),
            LAYERS.GRU(1, return_sequences=True),
        ]
    )
    embedding, kernel, recurrent_kernel, bias = model.weights
    embedding.assign([[1.0]])
    kernel.assign([[0.0, 0.0, 1.0]])
    recurrent_kernel.assign([[0.0, 0.0, 0.0]])
    bias.assign(np.zeros((2, 3)))
    stepped = Network(model, 1)
    h, _ = stepped.step(tf.constant([0]), (tf.constant([[0.5]]),), stepped.weights())
    assert float(h[0, 0]) == pytest.approx(0.25 + 0.5 * np.tanh(1.0))
    assert round(float(h[0, 0]), 3) == 0.631


def test_the_table_stands_for_all_that_comes_before_the_memory():
    """Embedding, kernel and biases are not among the weights, their products are."""
    model = sequential(recurrent(LAYERS.GRU))
    (table,), cell, dense = Network(model, VOCAB_SIZE).weights()
    assert table.shape == (VOCAB_SIZE, 3 * UNITS)
    assert [tuple(w.shape) for w in cell] == [(UNITS, 2 * UNITS), (UNITS, UNITS), (UNITS,)]
    assert [tuple(w.shape) for w in dense] == [(UNITS, VOCAB_SIZE), (VOCAB_SIZE,)]
    large = Network(sequential(recurrent(LAYERS.GRU), vocab_size=3000), 3000).weights()
    assert large[0][0].shape == (3000, FEATURES)  # the embedding itself


@pytest.mark.parametrize("units, columns", [(512, 1024 + 16), (500, 1000)])
def test_kernels_whose_rows_lie_in_step_with_the_cache_get_columns_of_zeros(units, columns):
    model = sequential(LAYERS.GRU(units, return_sequences=True))
    kernel = Network(model, VOCAB_SIZE).weights()[1][0]
    assert kernel.shape == (units, columns)
    np.testing.assert_array_equal(kernel[:, 2 * units :], 0)
    ids = np.array([[1, 2, 3]], np.int32)
    np.testing.assert_allclose(step_by_step(model, ids), model(ids).numpy(), rtol=1e-4, atol=1e-4)


def test_weights_are_those_of_now_and_can_be_kept():
    tokenizer = km.tokenizers.CharTokenizer("abcdefgh")
    model = sequential(recurrent(LAYERS.GRU))
    one_step = km.OneStep(model, tokenizer)
    kept, before = one_step.weights(), one_step.step([3])[0].numpy()
    cell = model.layers[1].cell
    cell.bias.assign(cell.bias + 1.0)
    assert np.abs(one_step.step([3])[0].numpy() - before).max() > 0.01
    np.testing.assert_array_equal(one_step.step([3], weights=kept)[0], before)


class EagerCell(LAYERS.SimpleRNNCell):
    """A cell that begins with something in its memory."""

    def get_initial_state(self, batch_size=None):
        return [keras.ops.ones((batch_size, self.units))]


@pytest.mark.parametrize(
    "layer, says",
    [
        (lambda: LAYERS.RNN(EagerCell(4), return_sequences=True), "must begin with zeros"),
        (lambda: LAYERS.LayerNormalization(axis=1), "features only .* Received: axis=.1"),
        (lambda: LAYERS.GRU(4), "return_sequences=True"),
        (lambda: LAYERS.GRU(4, return_sequences=True, go_backwards=True), "read forwards"),
        (lambda: LAYERS.Conv1D(4, 3, padding="causal"), "cannot be stepped one id at a time"),
    ],
)
def test_what_cannot_be_stepped_is_refused(layer, says):
    inputs = keras.Input((16,), dtype="int32")
    model = keras.Sequential([inputs, LAYERS.Embedding(VOCAB_SIZE, 4), layer()])
    with pytest.raises(ValueError, match=says):
        Network(model, VOCAB_SIZE)


def test_an_embedding_without_a_row_for_each_id_is_refused():
    model = sequential(recurrent(LAYERS.GRU))
    with pytest.raises(ValueError, match="tokenizer's 12 ids. Received: 11 rows"):
        Network(model, 12)
