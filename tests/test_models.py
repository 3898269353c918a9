"""The network is plain Keras: a Sequential that trains, is saved, and opens without the package."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import keras_music as km

CELLS = {"gru": "GRU", "lstm": "LSTM", "rnn": "SimpleRNN"}


@pytest.mark.parametrize("cell", CELLS)
def test_layers_and_shapes(cell):
    model = km.build_model(20, cell=cell, embedding_dim=6, units=5, layers=2)
    assert type(model) is keras.Sequential
    names = [type(layer).__name__ for layer in model.layers]
    assert names == ["Embedding", CELLS[cell], CELLS[cell], "Dense"]
    assert model(np.zeros((3, 7), np.int32)).shape == (3, 7, 20)
    assert not any(getattr(layer, "stateful", False) for layer in model.layers)


def test_sizes_may_be_numpys():
    model = km.build_model(np.int64(20), units=64.0, embedding_dim=np.int32(8))
    assert model(np.zeros((1, 2), np.int32)).shape == (1, 2, 20)


def test_dropout_stands_between_the_layers():
    model = km.build_model(20, units=5, layers=2, dropout=0.5)
    names = [type(layer).__name__ for layer in model.layers]
    assert names == ["Embedding", "Dropout", "GRU", "Dropout", "GRU", "Dropout", "Dense"]


@pytest.mark.parametrize("vocab_size", [10, 66, 391])
def test_loss_before_training_is_ln_vocab_size(vocab_size):
    keras.utils.set_random_seed(0)
    model = km.build_model(vocab_size)
    ids = np.random.default_rng(0).integers(1, vocab_size, (8, 50))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    assert float(loss(ids, model(ids))) == pytest.approx(np.log(vocab_size), rel=0.01)


@pytest.mark.parametrize("cell", CELLS)
def test_fit_learns_a_rule(cell):
    """Ids that count upwards can be foretold: the loss must fall far below a guess."""
    keras.utils.set_random_seed(0)
    model = km.build_model(12, cell=cell, embedding_dim=8, units=16)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(0.02), loss)
    ids = (np.arange(9)[None] + np.arange(11)[:, None]) % 11 + 1
    history = model.fit(ids[:, :-1], ids[:, 1:], epochs=30, batch_size=11, verbose=0)
    assert history.history["loss"][-1] < 0.5 < np.log(11) - 0.1 < history.history["loss"][0]


def test_a_saved_model_opens_without_keras_music(tmp_path):
    """A `.keras` file is handed to somebody who has Keras and has never heard of this package."""
    model = km.build_model(15, units=4, embedding_dim=3, dropout=0.1)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.save(tmp_path / "model.keras")
    ids = np.arange(1, 13).reshape(2, 6)
    np.save(tmp_path / "ids.npy", ids)
    script = (
        "import sys, keras, numpy as np\n"
        "sys.modules['keras_music'] = None\n"  # an import of it would now fail
        "model = keras.models.load_model('model.keras')\n"
        "np.save('logits.npy', model(np.load('ids.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), model(ids), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"vocab_size": 1}, "`vocab_size` must be a whole number >= 2. Received: vocab_size=1"),
        ({"cell": "gpt"}, r"`cell` must be one of \['gru', 'lstm', 'rnn'\]. Received: cell='gpt'"),
        ({"units": "big"}, "`units` must be a whole number >= 1. Received: units='big'"),
        ({"units": None}, "`units` must be a whole number >= 1. Received: units=None"),
        ({"dropout": "0.5"}, "`dropout` must be at least 0, below 1. Received: dropout='0.5'"),
        ({"units": 0}, "`units` must be a whole number >= 1. Received: units=0"),
        ({"embedding_dim": 1.5}, "`embedding_dim` must be a whole number"),
        ({"layers": True}, "`layers` must be a whole number"),
        ({"dropout": 1.0}, "`dropout` must be at least 0, below 1. Received: dropout=1.0"),
    ],
)
def test_errors(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        km.build_model(**{"vocab_size": 10} | arguments)
