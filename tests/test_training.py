"""A run folder: what is in it, and that a run that was stopped ends like one that was not."""

import errno
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest
import shard_files
from small_runs import MUSIC_TOKENIZER, TOKENIZER, pieces, small_train, texts

import keras_music as km
from keras_music import disk
from keras_music.disk import locked
from keras_music.training import Run, checkpoint, load_run, trainer
from keras_music.training.callbacks import WholeEpoch
from keras_music.training.card import finish

TESTS = pathlib.Path(__file__).parent


class Killed(BaseException):
    """Nothing catches it: as sudden as a signal, but at a moment of our choice."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An unbroken run of three epochs."""
    return small_train(tmp_path_factory.mktemp("runs") / "whole", sample_tokens=8)


def arrays(path, epoch=3):
    with np.load(path / "checkpoints" / f"epoch_{epoch:03d}.npz") as content:
        return {name: content[name] for name in content.files if name != "header"}


def assert_same_run(path, other, epoch=3):
    """The same weights, optimizer, random numbers, losses and samples; no other files."""
    expected = arrays(other, epoch)
    for name, array in arrays(path, epoch).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-6)
    for first, second in zip(best_weights(path), best_weights(other), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)
    tables = [
        pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (path, other)
    ]
    pd.testing.assert_frame_equal(*tables)
    assert files(path) == files(other)
    for name in files(path / "samples"):
        assert (path / "samples" / name).read_bytes() == (other / "samples" / name).read_bytes()


def best_weights(path):
    return keras.saving.load_model(path / "best.keras").get_weights()


def files(path):
    return sorted(
        str(p.relative_to(path))
        for p in path.rglob("*")
        if p.is_file() and p.name != ".lock" and "logs" not in p.relative_to(path).parts
    )


# ---- The folder ----------------------------------------------------------------------------------


def test_the_folder_of_a_run(tmp_path):
    corpus = km.corpora.Corpus(pieces(), name="scales")
    run = small_train(
        tmp_path / "run",
        corpus,
        epochs=2,
        command="train.py",
        tokenizer=MUSIC_TOKENIZER,
        sample_tokens=16,
    )
    assert files(run.path) == [
        "best.keras",
        "checkpoints/epoch_001.npz",
        "checkpoints/epoch_002.npz",
        "config.json",
        "history.csv",
        "learning_curve.png",
        "model_card.json",
        "samples/epoch_001.mid",
        "samples/epoch_002.mid",
        "tokenizer.json",
    ]
    table = pd.read_csv(run.path / "history.csv")
    assert list(table) == ["epoch", "loss", "val_loss", "seconds", "learning_rate"]
    assert table["epoch"].tolist() == [1, 2] and set(table["learning_rate"]) == {0.01}
    pd.testing.assert_frame_equal(table, run.history)

    config = json.loads((run.path / "config.json").read_text())
    assert config == run.config
    assert config["arguments"]["units"] == 8 and config["arguments"]["cell"] == "rnn"
    assert config["data"]["train"]["pieces"] == 6
    assert (
        config["data"]["train"]["data"] == "Corpus('scales/train', 6 pieces, 72 notes, 1 minutes)"
    )

    card = json.loads((run.path / "model_card.json").read_text())
    assert card["command"] == "train.py" and card["held out"] == "test" and card["epochs"] == 2
    losses = card["held-out loss (nats a token)"]
    assert list(losses) == ["uniform", "unigram", "repeat the last token", "model"]
    assert losses["uniform"] == round(np.log(MUSIC_TOKENIZER.vocab_size), 4)


def test_logs_for_tensorboard(whole):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logs = accumulator.EventAccumulator(str(whole.path / "logs" / "validation")).Reload()
    assert logs.Tags()["tensors"] == ["evaluation_loss_vs_iterations", "epoch_loss"]
    assert [event.step for event in logs.Tensors("epoch_loss")] == [0, 1, 2]


def test_without_tensorboard_one_sentence(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name)
    )
    small_train(tmp_path / "run", epochs=1, verbose=2)
    assert "No logs for TensorBoard: it is not installed" in capsys.readouterr().out
    assert not (tmp_path / "run" / "logs").exists()


def test_samples_of_text_are_text(whole):
    for epoch in (1, 2, 3):
        sample = (whole.path / "samples" / f"epoch_{epoch:03d}.txt").read_text()
        assert set(sample) <= set("abcdef ") and len(sample) <= 8


def test_load_run(whole):
    model, tokenizer, config = load_run(whole.path)
    assert type(model) is keras.Sequential and config == whole.config
    assert tokenizer.to_json() == TOKENIZER.to_json()
    for ours, theirs in zip(model.get_weights(), whole.model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    text = km.OneStep(model, tokenizer).generate("abc", num_tokens=4)
    assert text.startswith("abc")


def test_the_best_weights_are_those_of_the_lowest_validation_loss(tmp_path):
    """Learning that only "a" follows makes a text of "b" less and less likely."""
    sides = {"corpus": ["a" * 60] * 4, "valid": ["b" * 40]}
    run = small_train(tmp_path / "run", **sides, epochs=2, dropout=0.0, learning_rate=0.5)
    assert run.history["val_loss"].idxmin() == 0
    first = arrays(run.path, epoch=1)
    for weights in load_run(run.path)[0].get_weights():
        assert any(np.array_equal(weights, array) for array in first.values())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is not the folder of a run: it has no config.json"),
        (
            '{"arguments": {"epochs": 1}, "tokenizer": {}, "data": {}, "versions": {}}',
            "has not finished its first epoch. Start it again",
        ),
        ("{", "config.json cannot be read .* Restore it"),
        ('{"arguments": {}}', "config.json cannot be read .* Restore it"),
    ],
)
def test_load_run_where_there_is_none(tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises((FileNotFoundError, ValueError), match=sentence):
        load_run(tmp_path)


def test_load_run_with_a_damaged_file(tmp_path, whole):
    path = shutil.copytree(whole.path, tmp_path / "run")
    (path / "best.keras").write_bytes((path / "best.keras").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"best\.keras is damaged"):
        load_run(path)


# ---- Stopped, and started again ------------------------------------------------------------------

MOMENTS = {
    "before the best weights": (WholeEpoch, "_write_best", 2),
    "before the checkpoint has its name": (checkpoint, "bring_to_disk", 4),
    "before the history is written": (km.training.callbacks, "write_history", 2),
    "before the model card": (km.training.trainer, "finish", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_it_ends_as_if_it_were_not(tmp_path, whole, monkeypatch, moment):
    """Weights, optimizer, Dropout's random numbers, order of the data, history, samples."""
    where, name, count = MOMENTS[moment]
    calls, method = [], getattr(where, name)

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) == count:
            raise Killed
        return method(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, killed)
        with pytest.raises(Killed):
            small_train(tmp_path / "run", sample_tokens=8)
    (tmp_path / "run" / "checkpoints").mkdir(exist_ok=True)
    for left in (".unfinished-epoch_009.npz", "../.history.csv.abcd1234", "../.unfinished-best"):
        (tmp_path / "run" / "checkpoints" / left).write_bytes(b"half")  # `finally` cleans in Python
    small_train(tmp_path / "run", sample_tokens=8)
    assert_same_run(tmp_path / "run", whole.path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"cell": "lstm", "layers": 2},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.7)},
        {
            "corpus": pieces(),
            "tokenizer": MUSIC_TOKENIZER,
            "augment": km.Augmentation(semitones=3, stretch=0.05),
        },
    ],
    ids=["lstm", "schedule", "augment"],
)
def test_in_parts_it_is_the_same_as_in_one_go(tmp_path, arguments):
    for epochs in (1, 3):
        small_train(tmp_path / "parts", **arguments, epochs=epochs)
    small_train(tmp_path / "whole", **arguments, epochs=3)
    config = json.loads((tmp_path / "parts" / "config.json").read_text())
    assert config["arguments"]["epochs"] == 3
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


def test_shards_go_on_as_well(tmp_path):
    """Their order is drawn in two places, one of which draws only when it is read."""
    rows = [(str(i), TOKENIZER.encode(text)) for i, text in enumerate(texts())]
    sides = {"train": [rows[:5], rows[5:12], rows[12:18]], "valid": [rows[18:21]]}
    folder = shard_files.write(tmp_path / "shards", sides | {"test": [rows[21:]]}, TOKENIZER)
    shards = km.records.open_shards(folder)
    for epochs in (1, 3):
        run = small_train(tmp_path / "parts", shards, epochs=epochs)
    small_train(tmp_path / "whole", shards.train, valid=shards.valid, test=shards.test)
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
    assert run.config["data"]["train"]["pieces"] == 18
    with pytest.raises(ValueError, match="`valid` must be given with one side of shards"):
        small_train(tmp_path / "side", shards.train)


@pytest.mark.slow
def test_kill_9(tmp_path):
    """Ten kills at random moments; then it ends with the weights of a run that nobody killed."""
    command = [sys.executable, "killed_training.py", str(tmp_path), "10"]
    subprocess.run(command, cwd=TESTS, check=True)
    epoch = len(pd.read_csv(tmp_path / "whole" / "history.csv"))
    assert_same_run(tmp_path / "killed", tmp_path / "whole", epoch)


def test_finished_it_does_nothing(tmp_path, whole, capsys):
    path = shutil.copytree(whole.path, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in path.rglob("*")}
    for epochs in (3, 2):
        run = small_train(path, sample_tokens=8, epochs=epochs, verbose=2)
        assert isinstance(run, Run) and len(run.history) == 3
        said = capsys.readouterr().out
        assert said == f"The run in {path} is finished: 3 epochs. Nothing was done.\n"
    assert {p: p.stat().st_mtime_ns for p in path.rglob("*")} == before


def test_going_on_is_said(tmp_path, whole, capsys):
    path = shutil.copytree(whole.path, tmp_path / "run")
    small_train(path, sample_tokens=8, epochs=4, verbose=2)
    said = capsys.readouterr().out
    assert said.startswith(f"Going on with the run in {path} after epoch 3 of 4.\nEpoch 4/4\n")
    assert json.loads((path / "model_card.json").read_text())["epochs"] == 4


def test_a_damaged_checkpoint_is_not_read(tmp_path, whole):
    """The one before is, and the epoch is trained again."""
    path = shutil.copytree(whole.path, tmp_path / "run")
    newest = path / "checkpoints" / "epoch_003.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 0xFF  # one byte: the checksum sees it
    newest.write_bytes(content)
    with pytest.warns(UserWarning, match=r"epoch_003\.npz is damaged .* the one before is used"):
        small_train(path, sample_tokens=8)
    assert_same_run(path, whole.path)
    for checkpoint_path in (path / "checkpoints").iterdir():
        checkpoint_path.write_bytes(b"")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="No checkpoint in .* can be"):
        small_train(path, sample_tokens=8, epochs=4)


def test_control_c_says_how_to_go_on(tmp_path, whole, monkeypatch):
    method = WholeEpoch.on_train_batch_end

    def interrupted(self, batch, logs=None):
        method(self, batch, logs)
        if len(self.rows) == 1 and batch == 3:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(WholeEpoch, "on_train_batch_end", interrupted)
        with pytest.raises(KeyboardInterrupt) as stopped:
            small_train(tmp_path / "run", sample_tokens=8)
    assert str(stopped.value) == (
        "Training was stopped. Started again as before, it goes on after epoch 1 of 3."
    )
    small_train(tmp_path / "run", sample_tokens=8)
    assert_same_run(tmp_path / "run", whole.path)


def test_a_full_disk_says_how_to_go_on(tmp_path, whole, monkeypatch):
    save, calls = np.savez, []

    def full(file, **content):
        calls.append(file)
        if len(calls) == 2:
            file.write(b"PK half a file")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, **content)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left on device. Correct that. .* 1 of 3"):
            small_train(tmp_path / "run", sample_tokens=8)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir()] == ["epoch_001.npz"]
    small_train(tmp_path / "run", sample_tokens=8)
    assert_same_run(tmp_path / "run", whole.path)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    with pytest.raises(ValueError, match="In epoch 1 a loss .* is not a number any more: .* lower"):
        small_train(tmp_path / "run", learning_rate=1e38)
    assert files(tmp_path / "run") == ["config.json", "tokenizer.json"]


@pytest.mark.parametrize("valid", [["abc"], []], ids=["validation", "no validation"])
def test_the_last_step_of_an_epoch_may_be_the_one_that_diverges(tmp_path, valid):
    """The epoch's loss, computed before it, is a number. Such an epoch once became the best one,
    because `argmin` returns the place of a NaN, and the run ended as if all were well.
    """
    steps = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.01, 3e38])
    arguments = {"valid": valid, "learning_rate": steps, "batch_size": 100}  # one step an epoch
    with pytest.raises(ValueError, match="In epoch 3 a loss or a weight is not a number any more"):
        small_train(tmp_path / "run", **arguments)
    assert len(pd.read_csv(tmp_path / "run" / "history.csv")) == 2
    assert all(np.isfinite(weights).all() for weights in best_weights(tmp_path / "run"))


# ---- Other arguments, other folders --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"units": 9}, "where units is 8, and here 9. Give the same"),
        ({"seed": 1, "dropout": 0.0}, "seed is 0, and here 1; dropout is 0.3, and here 0.0"),
        ({"learning_rate": 0.02}, "learning_rate is 0.01, and here 0.02"),
        (
            {"tokenizer": km.tokenizers.CharTokenizer("abcdefg ")},
            "the tokenizer is a CharTokenizer, and here a CharTokenizer or has other settings",
        ),
        (
            {"corpus": [*texts()[:-1], "abc"]},
            r"the \w+ data is Corpus\('corpus/\w+', \d+ texts, \d+ characters\) with \d+ tokens"
            r", and here Corpus\(.*\) with \d+ tokens that differs",
        ),
        ({"corpus": texts(), "valid": []}, "the valid data is .*, and here None"),
    ],
)
def test_other_arguments_are_named(whole, changed, sentence):
    before = files(whole.path)
    with pytest.raises(ValueError, match=sentence):
        small_train(whole.path, **{"sample_tokens": 8, **changed})
    assert files(whole.path) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(ValueError, match=r"which holds letter\.txt and no config\.json"):
        small_train(tmp_path)
    with pytest.raises(ValueError, match="`out` must be a folder. Received: the file"):
        small_train(tmp_path / "letter.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_two_at_once(tmp_path, whole):
    """The second one once removed what the first was writing."""
    path = shutil.copytree(whole.path, tmp_path / "run")
    (path / ".history.csv.abcdefgh").touch()  # the first one is about to rename it
    before = {name: (path / name).read_bytes() for name in files(path)}
    with (
        locked(path / ".lock", None),
        pytest.raises(ValueError, match="where a training runs now. Wait until it has ended"),
    ):
        small_train(path, epochs=4, sample_tokens=8)
    assert {name: (path / name).read_bytes() for name in files(path)} == before
    assert len(small_train(path, epochs=4, sample_tokens=8).history) == 4


def test_the_folder_is_held_until_the_end_and_not_longer(tmp_path, monkeypatch):
    refused = []

    def finish(path, *_):
        with pytest.raises(ValueError, match="a training runs now") as caught:
            small_train(path, epochs=1)
        refused.append(caught)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "finish", finish)
        small_train(tmp_path, epochs=1)
    small_train(tmp_path, epochs=1)
    assert len(refused) == 1


def test_a_finished_run_in_a_folder_that_can_only_be_read(tmp_path, whole, monkeypatch, capsys):
    path = shutil.copytree(whole.path, tmp_path / "run")
    (path / ".lock").unlink()
    monkeypatch.setattr(disk, "open", raise_read_only, raising=False)
    small_train(path, sample_tokens=8, verbose=2)
    assert "is finished: 3 epochs. Nothing was done." in capsys.readouterr().out


def raise_read_only(*_):
    raise OSError(errno.EROFS, "Read-only file system")


def test_a_link_that_leads_nowhere_is_no_folder(tmp_path):
    (tmp_path / "run").symlink_to("nowhere")
    with pytest.raises(ValueError, match="`out` must be a folder. Received: the link that leads"):
        small_train(tmp_path / "run")


def test_a_run_that_has_lost_its_config_is_no_new_run(tmp_path, whole):
    """Other data, at another rate, once went on from its weights as if they were its own."""
    path = shutil.copytree(whole.path, tmp_path / "run")
    (path / "config.json").unlink()
    before = files(path)
    with pytest.raises(
        ValueError, match=r"which holds best\.keras, checkpoints, .* no config\.json"
    ):
        small_train(path, ["abc"] * 9, valid=["ab"], learning_rate=0.5, epochs=4)
    assert files(path) == before


def test_a_folder_in_which_nothing_was_begun_but_the_tokenizer(tmp_path):
    """Killed between the first two files."""
    (tmp_path / "tokenizer.json").write_text("{")
    (tmp_path / ".DS_Store").write_text("")
    small_train(tmp_path, epochs=1)
    assert load_run(tmp_path)[1].to_json() == TOKENIZER.to_json()
    assert (tmp_path / ".DS_Store").exists()


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("epochs", 0),
        ("units", 0),
        ("dropout", 1.0),
        ("cell", "gnu"),
        ("seed", -1),
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("sample_tokens", -1),
        ("sequence_length", 2.5),
        ("tokenizer", "char"),
        ("strategy", "mirrored"),
        ("seed", 2**32),
        ("corpus", 5),
        ("valid", 5),
        ("test", b"abc"),
        ("command", b"train.py"),
    ],
)
def test_bad_arguments_leave_no_folder(tmp_path, argument, value):
    name = {"corpus": "train"}.get(argument, argument)
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        small_train(tmp_path / "run", **{argument: value})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("out", [None, 5, "un\udce9/run"])
def test_a_folder_must_have_a_name_that_can_be_written(tmp_path, monkeypatch, out):
    """The third is "uné" in Latin-1, as an old disk has it: TensorFlow writes UTF-8 only."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`out` must be the path of a folder") as refused:
        small_train(out)
    assert str(refused.value).isascii() and not list(tmp_path.iterdir())


def test_a_network_that_does_not_fit_into_memory(tmp_path):
    """10**11 units would take 120 TB for the first of their matrices."""
    with pytest.raises(ValueError, match=r"must fit into the memory.* units=100000000000, embed"):
        small_train(tmp_path / "run", units=10**11)
    assert not (tmp_path / "run").exists()


# ---- Corpora of all kinds ------------------------------------------------------------------------


def test_no_validation_is_said_and_the_last_epoch_is_the_best(tmp_path, capsys):
    run = small_train(tmp_path / "run", texts()[:1] * 3, epochs=2, verbose=2)  # one piece, thrice
    said = capsys.readouterr().out
    assert "There are no validation pieces: the last epoch will count as the best.\n" in said
    assert list(run.history) == ["epoch", "loss", "seconds", "learning_rate"]
    card = json.loads((run.path / "model_card.json").read_text())
    assert card["best epoch"] == 2 and card["held out"] == "nothing"
    assert card["held-out loss (nats a token)"] == {}


def test_one_long_text_is_cut(tmp_path):
    run = small_train(tmp_path / "run", "abc def " * 50, epochs=1, dropout=0.0)
    data = run.config["data"]
    assert data["train"]["tokens"] == 362 and data["valid"]["tokens"] == 42 and data["test"] is None
    assert json.loads((run.path / "model_card.json").read_text())["held out"] == "valid"


def test_sides_may_be_given(tmp_path):
    run = small_train(tmp_path / "run", texts()[:9], valid=texts()[9:12], epochs=1)
    assert run.config["data"]["train"]["data"] == "9 pieces"
    assert run.config["data"]["test"] is None


def test_what_can_be_read_only_once_is_held(tmp_path):
    """A generator was used up by the count of its ids, and then called "an empty corpus"."""
    run = small_train(tmp_path / "run", iter(texts()[:9]), valid=iter(texts()[9:12]), epochs=1)
    assert run.config["data"]["train"]["pieces"] == 9
    assert run.config["data"]["valid"]["pieces"] == 3


def test_a_tokenizer_without_start_writes_no_samples(tmp_path):
    class Ids:
        vocab_size = 9

        def encode(self, piece):
            return np.array(piece, np.int32)

        def save(self, path):
            path.write_text("{}")

    corpus = [[1, 5, 6, 7, 8, 2], [1, 9 - 1, 2]]
    small_train(tmp_path / "run", corpus, valid=[], tokenizer=Ids(), epochs=1, sample_tokens=8)
    assert not (tmp_path / "run" / "samples").exists()


def test_what_is_asked_of_the_pipeline_and_of_the_samples(tmp_path, monkeypatch):
    """The seed draws the split and the order; only training is shuffled and augmented.

    Without validation in batches of the same size, a large batch size would fill the memory.
    """
    made, sampled, make_dataset = [], [], km.make_dataset

    def watched(corpus, tokenizer, **arguments):
        made.append((corpus.names, arguments))
        return make_dataset(corpus, tokenizer, **arguments)

    def generate(self, num_tokens):
        sampled.append(num_tokens)
        return "abc"

    def augment(tokenizer, ids, seed):
        return ids

    monkeypatch.setattr("keras_music.training.trainer.make_dataset", watched)
    monkeypatch.setattr("keras_music.training.callbacks.OneStep.generate", generate)
    corpus = km.corpora.Corpus(texts())
    small_train(tmp_path, corpus, seed=5, epochs=2, augment=augment, sample_tokens=7)
    train, valid, _ = corpus.split(seed=5)
    assert train.names != corpus.split(seed=0)[0].names
    sizes = {"sequence_length": 16, "batch_size": 8}
    assert made == [(train.names, sizes | {"seed": 5, "augment": augment}), (valid.names, sizes)]
    assert sampled == [7, 7]


def test_the_losses_of_the_history_are_nats_a_token(tmp_path):
    """Of tokens alone: 2 to 60 of them in windows of 64 are padding for the most part."""
    run = small_train(tmp_path, epochs=1, sequence_length=64)
    valid = km.corpora.Corpus(texts()).split()[1]
    loss = km.evaluation.model_loss(run.model, km.make_dataset(valid, TOKENIZER, 64, 8))
    assert run.history["val_loss"].tolist() == [pytest.approx(loss, rel=1e-5)]


def test_the_card_adds_up_the_seconds_of_all_epochs(tmp_path):
    rows = [
        {"epoch": epoch, "loss": 2.0, "val_loss": loss, "seconds": seconds}
        for epoch, loss, seconds in ((1, 2.5, 10.4), (2, 1.5, 20.4), (3, 3.5, 0.4))
    ]
    config = {"arguments": {}, "data": {}, "tokenizer": {"kind": "Ids"}, "versions": {}}
    finish(tmp_path, config, TOKENIZER, dict.fromkeys(("train", "valid", "test")), rows, "again")
    card = json.loads((tmp_path / "model_card.json").read_text())
    assert (card["seconds of training"], card["best epoch"], card["epochs"]) == (31, 2, 3)


# ---- Checkpoints ---------------------------------------------------------------------------------


def test_a_checkpoint_is_arrays_and_json(tmp_path):
    variables = [keras.Variable([1.5, 2.5]), keras.Variable(7, dtype="int64", trainable=False)]
    for epoch in (1, 2, 3, 1000):
        checkpoint.save(tmp_path, epoch, variables, {"epoch": epoch})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch_003.npz", "epoch_1000.npz"]
    header, content = checkpoint.newest(tmp_path)
    assert header == {"epoch": 1000}
    others = [keras.Variable([0.0, 0.0]), keras.Variable(0, dtype="int64", trainable=False)]
    checkpoint.restore(content, others)
    assert [other.numpy().tolist() for other in others] == [[1.5, 2.5], 7]
    with pytest.raises(ValueError, match=r"must have arrays of the shapes \[\(2,\)\]"):
        checkpoint.restore(content, others[:1])


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    """Else a power cut leaves an empty file under the name of the newest checkpoint."""
    events, fsync, replace = [], os.fsync, os.replace

    def watched_fsync(handle):
        events.append(("fsync", os.fstat(handle).st_ino))
        fsync(handle)

    def watched_replace(source, target):
        events.append(("replace", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    checkpoint.save(tmp_path, 1, [keras.Variable([1.5])], {})
    inode = (tmp_path / "epoch_001.npz").stat().st_ino
    assert events == [("fsync", inode), ("replace", inode)]


def test_a_thousand_comes_after_nine_hundred_and_ninety_nine(tmp_path):
    """By name it comes before, and would be removed as the oldest as soon as it is written."""
    for epoch in (998, 999, 1000):
        checkpoint.save(tmp_path, epoch, [keras.Variable([1.0])], {"epoch": epoch})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["epoch_1000.npz", "epoch_999.npz"]
    assert checkpoint.newest(tmp_path)[0] == {"epoch": 1000}


def test_no_checkpoint_yet(tmp_path):
    assert checkpoint.newest(tmp_path / "checkpoints") is None


def test_why_keras_own_weights_file_is_not_enough(tmp_path):
    """`save_weights` forgets how many random numbers Dropout has drawn."""
    model = km.build_model(9, units=4, embedding_dim=2, dropout=0.5)
    ids = np.ones((1, 3), np.int32)
    drawn = [np.asarray(model(ids, training=True)) for _ in range(2)]
    model.save_weights(tmp_path / "model.weights.h5")
    twin = keras.models.clone_model(model)
    twin.load_weights(tmp_path / "model.weights.h5")
    assert not np.array_equal(twin(ids, training=True), model(ids, training=True))
    assert not np.array_equal(*drawn)
    checkpoint.save(tmp_path, 1, model.variables, {})
    checkpoint.restore(checkpoint.newest(tmp_path)[1], twin.variables)
    np.testing.assert_array_equal(twin(ids, training=True), model(ids, training=True))
