"""A training run from start to end: the recipe of this package in one function.

It is what the first page of the README does by hand, in the same order: split, encode, cut into
windows, build, compile, fit. What `train` adds is the run folder (see `keras_music.training`), and
that it can be stopped. A run that goes on must be the run that was stopped, and one thing of it is
in no checkpoint: the order of the windows. `make_dataset` draws a new order (and changes pieces
anew) each time it is opened, and what it draws the k-th time is always the same. So whoever goes on
with epoch k opens it as often as has been done before, and reads one batch, because parts of the
pipeline draw only when they are asked for something (for 290 chorales this takes 0.02 s an epoch,
with augmentation 0.6 s):

    unbroken   open, epoch 1         open, epoch 2         open, epoch 3
    killed     open, epoch 1         open, (killed)
    goes on    open, read a batch    open, epoch 2         open, epoch 3

On CPUs all sums are taken in the same order, and the weights agree to the last bit. On a GPU some
are not, and runs drift apart by rounding, with or without a break;
`tf.config.experimental.enable_op_determinism()` forbids it.

Conventions: losses are in nats a token, as Keras averages them: each batch counts by its windows;
epochs are counted from 1.

What this file does not do: no search for good arguments; it exports nothing (`keras_music.export`
does, from what `load_run` gives).

Reference: TensorFlow's text-generation tutorial.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import json
import math
import numbers
import sys
from collections.abc import Iterable, Sized

import keras
import pandas as pd
import tensorflow as tf

from keras_music.arguments import whole_number
from keras_music.corpora import Corpus
from keras_music.data import make_dataset
from keras_music.models import build_model
from keras_music.records import Shards, Side
from keras_music.training import checkpoint, distributed
from keras_music.training.callbacks import WholeEpoch, state
from keras_music.training.card import finish
from keras_music.training.folder import (
    CARD,
    CHECKPOINTS,
    LOGS,
    Run,
    folder_path,
    load_best,
    make_config,
    open_run,
)

NETWORK = ("cell", "embedding_dim", "units", "layers", "dropout")  # what `build_model` is given


def train(
    train,
    out,
    *,
    tokenizer,
    valid=None,
    test=None,
    cell="gru",
    embedding_dim=128,
    units=512,
    layers=1,
    dropout=0.0,
    sequence_length=256,
    batch_size=64,
    epochs=10,
    learning_rate=1e-3,
    seed=0,
    augment=None,
    sample_tokens=256,
    strategy=None,
    command=None,
    verbose="auto",
) -> Run:
    """Trains a network in a run folder, or goes on with the run that is there.

    Args:
      train: the training side: what `make_dataset` takes. Without `valid` a whole `Corpus` (or a
        list of pieces, or a text), which is split here, `Corpus(...).split(seed)`; or `Shards`,
        which have been split.
      out: the run folder; a new one, or that of this run, which then goes on after its last whole
        epoch.
      tokenizer: a tokenizer.
      valid: the validation side; the epoch with the lowest loss on it is the best one. An empty
        list: no validation.
      test: what is held out until the end, for the model card; default: the split's third side.
      cell, embedding_dim, units, layers, dropout: as `build_model` takes them.
      sequence_length, batch_size, augment: as `make_dataset` takes them. On several devices the
        batch is that of all together.
      epochs: >= 1, how many there shall be in the end. A finished run goes on if it is raised.
      learning_rate: > 0, Adam's; or a `keras.optimizers.schedules.LearningRateSchedule`.
      seed: 0 to 2**32 - 1, fixes the split, the first weights, the order of the data and Dropout.
      sample_tokens: >= 0, how long the sample after each epoch is at most; 0: no samples.
      strategy: a `tf.distribute.MirroredStrategy` or `MultiWorkerMirroredStrategy`, made before
        anything else of TensorFlow; default: one device.
      command: what the model card says of how to make this model again; default: this call.
      verbose: as `fit` takes it: 0 silent, 1 a progress bar, 2 a line an epoch; "auto": 1 on a
        terminal or in a notebook, else 2.

    Returns:
      A `Run`: `model` (its best weights), `history`, `path`, `tokenizer`, `config`.

    Raises:
      KeyboardInterrupt: stopped with Ctrl-C; the sentence says how to go on.
      OSError: the folder cannot be written to, or the disk is full.
      ValueError: an argument is out of range; `out` holds another run, or another process is
        training in it; or training has diverged.

    Example:
      >>> import tempfile
      >>> from keras_music.tokenizers import CharTokenizer
      >>> tokenizer = CharTokenizer("abc ")
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     run = train(
      ...         "abc abc " * 20, folder, tokenizer=tokenizer, units=8, sequence_length=16,
      ...         epochs=2, sample_tokens=8, verbose=0,
      ...     )
      >>> run.history["epoch"].tolist()
      [1, 2]
    """
    path = folder_path(out)
    arguments = _checked(
        cell=cell,
        embedding_dim=embedding_dim,
        units=units,
        layers=layers,
        dropout=dropout,
        sequence_length=sequence_length,
        batch_size=batch_size,
        epochs=epochs,
        learning_rate=learning_rate,
        seed=seed,
        augment=augment,
        sample_tokens=sample_tokens,
    )
    command = _checked_command(command, path, arguments)
    writes = distributed.is_chief(strategy)
    verbose = _verbosity(verbose) if writes else 0
    sides = _sides(train, valid, test, seed)
    config, tokenizer_json = make_config(arguments, tokenizer, sides)
    model, plain = _networks(tokenizer, arguments, learning_rate, strategy)
    _check_workers(strategy, f"{config['arguments']} {config['data']}")
    begun = _begun(path, config, tokenizer_json, model, strategy, writes)
    with distributed.together(strategy, begun) as rows:
        _check_workers(strategy, f"{len(rows)} epochs done")
        if _is_finished(path, rows, epochs):
            _say(f"The run in {path} is finished: {len(rows)} epochs. Nothing was done.", verbose)
            return Run(path, load_best(path), tokenizer, config, pd.DataFrame(rows))
        _announce(path, rows, epochs, sides, verbose)
        data = _datasets(sides, tokenizer, arguments, augment)
        epoch = WholeEpoch(path, plain, tokenizer, rows, sample_tokens=sample_tokens, writes=writes)
        with _in_memory(arguments), _explained(path, rows, epochs):
            _fit(model, data, len(rows), epochs, _callbacks(epoch, verbose), verbose, strategy)
            if writes:
                finish(path, config, tokenizer, sides, rows, command)
    return Run(path, load_best(path), tokenizer, config, pd.DataFrame(rows))


def _checked(*, dropout, learning_rate, augment, **others):
    """The arguments as config.json keeps them; `build_model` checks the rest."""
    ranges = {"seed": (0, 2**32 - 1), "sample_tokens": (0, None)}
    return {
        **{
            name: value if name == "cell" else whole_number(name, value, *ranges.get(name, (1,)))
            for name, value in others.items()
        },
        "dropout": float(dropout) if isinstance(dropout, numbers.Real) else dropout,
        "learning_rate": _rate_for_json(learning_rate),
        "augment": _augment_for_json(augment),
    }


def _rate_for_json(learning_rate):
    """A number as it is; a schedule as Keras writes it."""
    if isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule):
        return keras.saving.serialize_keras_object(learning_rate)
    is_number = isinstance(learning_rate, numbers.Real) and not isinstance(learning_rate, bool)
    if not is_number or not 0 < learning_rate < math.inf:
        raise ValueError(
            "`learning_rate` must be a number above 0, or a schedule of Keras. "
            f"Received: learning_rate={learning_rate!r}. Try 0.001."
        )
    return float(learning_rate)


def _augment_for_json(augment):
    """What is known of it in words: an `Augmentation` says all, a function its name."""
    if augment is None or dataclasses.is_dataclass(augment):
        return augment if augment is None else repr(augment)
    return f"{getattr(augment, '__module__', '')}.{getattr(augment, '__qualname__', augment)}"


def _checked_command(command, path, arguments):
    """How to make the model again: what the caller says, or a call in Python."""
    if command is None:
        named = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        return f"keras_music.train(..., {str(path)!r}, tokenizer=..., {named})"
    if not isinstance(command, str):
        raise ValueError(f"`command` must be text. Received: {command!r}. Leave it out, or quote.")
    return command


def _verbosity(verbose):
    """ "auto": a bar where it can move, else one line an epoch."""
    if verbose != "auto":
        return verbose
    return 1 if sys.stdout.isatty() or "ipykernel" in sys.modules else 2


def _say(sentence, verbose):
    if verbose:
        print(sentence, flush=True)


def _sides(train, valid, test, seed):
    """The three sides by name; None for what there is not."""
    if isinstance(train, Side) and valid is None:
        raise ValueError(
            "`valid` must be given with one side of shards. Received: None. Give the shards as a "
            "whole, or their `valid`, or an empty list for no validation."
        )
    if valid is None:
        if not isinstance(train, Shards | Corpus):
            train = Corpus([train] if isinstance(train, str) else _held("train", train))
        split = train.split() if isinstance(train, Shards) else train.split(seed)
        train, valid, test = *split[:2], split[2] if test is None else test
    sides = {"train": train, "valid": valid, "test": test}
    sides = {name: _held(name, side) for name, side in sides.items()}
    return {
        name: side if name == "train" or (side is not None and len(side)) else None
        for name, side in sides.items()
    }


def _held(name, side):
    """A side as it is; of what can be read only once, a list, because each epoch reads it."""
    if isinstance(side, Side | Shards) or (side is None and name != "train"):
        return side
    if not isinstance(side, Iterable) or isinstance(side, bytes):
        raise ValueError(
            f"`{name}` must be a corpus, a list of pieces, a text, or shards. "
            f"Received: {side!r}. `keras_music.corpora` has some to begin with."
        )
    return side if isinstance(side, Sized) else list(side)


def _networks(tokenizer, arguments, learning_rate, strategy):
    """The network that is trained, compiled, and one like it on one device."""
    vocab_size = whole_number("tokenizer.vocab_size", getattr(tokenizer, "vocab_size", None), 2)
    network = {name: arguments[name] for name in NETWORK}
    keras.utils.set_random_seed(arguments["seed"])
    with _in_memory(arguments):
        with distributed.scope(strategy):
            model = build_model(vocab_size, **network)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
            if strategy is not None:
                loss = distributed.TokenLoss()
            model.compile(keras.optimizers.Adam(learning_rate), loss)
            model.optimizer.build(model.trainable_variables)
        return model, build_model(vocab_size, **network)


def _datasets(sides, tokenizer, arguments, augment):
    """Training and validation batches; None for no validation."""
    sizes = {name: arguments[name] for name in ("sequence_length", "batch_size")}
    seed, valid = arguments["seed"], sides["valid"]
    return (
        make_dataset(sides["train"], tokenizer, **sizes, seed=seed, augment=augment),
        None if valid is None else make_dataset(valid, tokenizer, **sizes),
    )


@contextlib.contextmanager
def _begun(path, config, tokenizer_json, model, strategy, writes):
    """Holds the run folder; gives what `_go_back` does."""
    with open_run(path, config, tokenizer_json, writes=writes):
        yield _go_back(path, model, strategy)


def _go_back(path, model, strategy):
    """The history of the newest checkpoint, whose state the model takes on; [] if there is none."""
    found = checkpoint.newest(path / CHECKPOINTS)
    if found is None:
        return []
    header, arrays = found
    with distributed.scope(strategy):
        checkpoint.restore(arrays, state(model))
    return header["history"]


def _check_workers(strategy, words):
    """Workers that train something else, or from somewhere else, would spoil it silently."""
    if strategy is None or not distributed.has_workers(strategy):
        return
    if not distributed.meet(strategy, words):
        raise ValueError(
            "`train` must be called by all workers with the same arguments and data, and `out` be "
            "a folder that all of them share. Received: something else by one of them. Correct it "
            "and start all workers again."
        )


def _is_finished(path, rows, epochs):
    """Whether all is done, the model card as the last thing."""
    try:
        card = json.loads((path / CARD).read_bytes())
        return len(rows) >= epochs and card["epochs"] == len(rows)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _announce(path, rows, epochs, sides, verbose):
    if rows:
        _say(f"Going on with the run in {path} after epoch {len(rows)} of {epochs}.", verbose)
    if sides["valid"] is None:
        _say("There are no validation pieces: the last epoch will count as the best.", verbose)


def _callbacks(epoch, verbose):
    """What is done in an epoch, and TensorBoard's logs, where it is installed."""
    if not epoch.writes:
        return [epoch]
    if importlib.util.find_spec("tensorboard") is None:
        _say("No logs for TensorBoard: it is not installed (pip install tensorboard).", verbose)
        return [epoch]
    return [keras.callbacks.TensorBoard(epoch.path / LOGS, write_graph=False), epoch]


def _fit(model, data, epochs_done, epochs, callbacks, verbose, strategy):
    """Keras' `fit`, from the first epoch that is not done."""
    train, valid = data
    has_workers = strategy is not None and distributed.has_workers(strategy)
    # Under a strategy `fit` itself opens the data once before the first epoch, to look at it.
    looks_first = strategy is not None and not has_workers
    for _ in range(epochs_done + (0 if looks_first else 1)):
        next(iter(train))
    # How often `fit` opens a dataset is its own affair; `repeat` opens it once an epoch.
    arguments = {"steps_per_epoch": len(train), "validation_data": valid}
    arguments |= {"initial_epoch": epochs_done, "epochs": epochs}
    arguments |= {"callbacks": callbacks, "verbose": verbose}
    if has_workers:
        distributed.fit_workers(model, train.repeat(), strategy=strategy, **arguments)
    else:
        model.fit(train.repeat(), shuffle=False, **arguments)  # the pipeline shuffles


@contextlib.contextmanager
def _explained(path, rows, epochs):
    """What may stop a run, in one sentence that says how to go on."""

    def how():
        return f"Started again as before, it goes on after epoch {len(rows)} of {epochs}."

    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Training was stopped. {how()}") from None
    except OSError as error:
        reason = error.__cause__ or error  # `write_atomically` says of it what to do with one file
        why = getattr(reason, "strerror", None) or reason
        raise OSError(
            f"The run folder {path} cannot be written to: {why}. Correct that. {how()}"
        ) from error
    except distributed.WORKER_LOST as error:
        raise ConnectionError(f"{distributed.LOST} {how()}") from error


@contextlib.contextmanager
def _in_memory(arguments):
    """One sentence where a network, or a batch, is too large for the device."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        names = ("units", "embedding_dim", "sequence_length", "batch_size")
        received = ", ".join(f"{name}={arguments[name]}" for name in names)
        raise ValueError(
            "The network and a batch must fit into the memory of the device. "
            f"Received: {received}. Start a new run with less of one of them."
        ) from error
