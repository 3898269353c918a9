"""Many devices are one device: the same losses and weights, whatever the padding of each."""

import json
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from small_runs import small_train
from test_training import arrays, assert_same_run, best_weights, files

from keras_music.models import _explained
from keras_music.training import TokenLoss, distributed

TESTS = pathlib.Path(__file__).parent


def start(*arguments):
    command = [sys.executable, "on_devices.py", *map(str, arguments)]
    return subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True)


def result(process):
    """What `on_devices.py` printed last."""
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return json.loads(output.splitlines()[-1])


# ---- The loss ------------------------------------------------------------------------------------


def test_token_loss_on_one_device_is_keras_own():
    """Values and slopes, with padding at the end of rows."""
    draw = np.random.default_rng(0)
    logits = tf.Variable(draw.normal(size=(3, 5, 7)), dtype=tf.float32)
    targets = draw.integers(1, 7, (3, 5)) * (np.arange(5) < [[5], [2], [0]])
    slopes, values = [], []
    for loss in (
        TokenLoss(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
    ):
        with tf.GradientTape() as tape:
            values.append(loss(targets, logits))
        slopes.append(tape.gradient(values[-1], logits))
    np.testing.assert_allclose(*values, rtol=1e-6)
    np.testing.assert_allclose(*slopes, rtol=1e-5, atol=1e-8)


def test_token_loss_of_nothing_but_padding_is_zero():
    assert float(TokenLoss()(np.zeros((2, 3)), np.zeros((2, 3, 4)))) == 0


def test_token_loss_can_be_saved():
    assert isinstance(TokenLoss.from_config(TokenLoss().get_config()), TokenLoss)


# ---- The devices of one machine ------------------------------------------------------------------


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mirrored")
    return folder, result(start("mirrored", folder))


def test_two_devices_are_one_device(mirrored):
    """Losses, weights, and what Adam remembers; 17 texts in batches of 8, the last one smaller."""
    folder, _ = mirrored
    tables = [pd.read_csv(folder / name / "history.csv") for name in ("one", "two")]
    for column in ("loss", "val_loss"):
        np.testing.assert_allclose(tables[0][column], tables[1][column], rtol=1e-5)
    one, two = arrays(folder / "one"), arrays(folder / "two")
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_on_two_devices_a_run_goes_on_as_well(tmp_path):
    """With Dropout, whose random numbers are kept for both."""
    result(start("parts", tmp_path))
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_a_mean_of_means_is_not_the_mean(mirrored):
    """The story of `TokenLoss`: four tokens on one device, one token and padding on the other."""
    _, losses = mirrored
    np.testing.assert_allclose(losses["TokenLoss on 2"], losses["TokenLoss on 1"], rtol=1e-5)
    name = "SparseCategoricalCrossentropy"
    np.testing.assert_allclose(losses[f"{name} on 1"], losses["TokenLoss on 1"], rtol=1e-5)
    first, second = np.abs(np.subtract(losses[f"{name} on 2"], losses[f"{name} on 1"]))
    assert first > 1e-2 and second > 1e-2


# ---- Several machines ----------------------------------------------------------------------------


def test_only_the_error_about_perreplica_is_explained():
    def fit(error):
        raise ValueError(error)

    with pytest.raises(ValueError, match=r"^Keras' `fit` cannot work under a MultiWorker"):
        _explained(fit)("Attempt to convert a value (PerReplica: ...) with an unsupported type")
    with pytest.raises(ValueError, match="^another$"):
        _explained(fit)("another")


def work_together(folder, epochs):
    """Two workers on this machine; what each of them printed."""
    with socket.socket() as first, socket.socket() as second:
        for place in (first, second):
            place.bind(("127.0.0.1", 0))
        ports = f"{first.getsockname()[1]},{second.getsockname()[1]}"
    workers = [start("worker", folder, ports, number, epochs) for number in range(2)]
    try:
        return [result(process) for process in workers]
    finally:
        for process in workers:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("workers")
    return folder, work_together(folder, epochs=2)


@pytest.mark.slow
def test_two_workers_are_one_process(workers, tmp_path):
    folder, found = workers
    one = small_train(tmp_path / "one", dropout=0.0, epochs=2)
    for worker in found:
        np.testing.assert_allclose(worker["loss"], one.history["loss"], rtol=1e-5)
        for ours, theirs in zip(worker["weights"], one.model.get_weights(), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    for name, array in arrays(one.path, epoch=2).items():
        actual = arrays(folder / "workers", epoch=2)[name]
        np.testing.assert_allclose(actual, array, rtol=1e-4, atol=1e-5)
    assert files(folder / "workers") == files(one.path)


@pytest.mark.slow
def test_the_first_worker_is_the_chief(workers):
    """And the only one that wrote: the other had nothing to write with."""
    assert [worker["chief"] for worker in workers[1]] == [True, False]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_sentence_where_keras_says_perreplica(workers, method):
    for worker in workers[1]:
        assert worker["errors"][method] == (
            f"Keras' `{method}` cannot work under a MultiWorkerMirroredStrategy "
            "(https://github.com/keras-team/keras/issues/20585). Train with "
            "`keras_music.train(..., strategy=strategy)`, which has a loop of its own for it."
        )


@pytest.mark.slow
def test_workers_that_do_not_agree(workers):
    for worker in workers[1]:
        assert worker["errors"]["train"].startswith(
            "`train` must be called by all workers with the same arguments and data"
        )


@pytest.mark.slow
def test_nobody_waits_for_a_chief_that_may_not_write(workers):
    chief, other = (worker["errors"]["held"] for worker in workers[1])
    assert "where a training runs now" in chief
    assert other.startswith("`train` must be called by all workers with the same arguments")


@pytest.mark.slow
def test_both_workers_go_on(workers, tmp_path):
    folder, _ = workers
    work_together(folder, epochs=4)
    one = small_train(tmp_path / "one", dropout=0.0, epochs=4)
    table = pd.read_csv(folder / "workers" / "history.csv")
    for column in ("loss", "val_loss"):  # the second decides which weights are the best ones
        np.testing.assert_allclose(table[column], one.history[column], rtol=1e-5)
    for ours, theirs in zip(best_weights(folder / "workers"), one.model.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_without_a_strategy_there_is_one_process():
    assert distributed.is_chief(None) and distributed.is_chief(tf.distribute.get_strategy())
