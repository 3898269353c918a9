"""The run folder: what a run was told, and how one is opened again.

A result whose arguments nobody remembers is no result. So before the first step, all arguments,
the data in numbers and the versions of the packages are written into the folder. Two runs on the
same data have the same *digest* of it: a hash of all ids, in which one changed note shows.

It is also what makes going on safe. Weights of 512 units do not fit into 256, which would be an
error anyway; but another learning rate or a corpus with one more piece would go unnoticed, and the
run would be neither the old one nor a new one. So `open_run` compares, and names what differs.
More epochs are no other run: it goes on.

Conventions: files appear whole or not at all.

What this file does not do: it does not train.

Reference: M. Mitchell et al., "Model Cards for Model Reporting" (2019).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import platform
import shutil
import tempfile
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

import keras_music
from keras_music.corpora import Corpus
from keras_music.data import encode_all
from keras_music.disk import explained, locked, write_atomically
from keras_music.records import Side
from keras_music.tokenizers import load as load_tokenizer
from keras_music.training.checkpoint import UNFINISHED

CONFIG, TOKENIZER, CARD = "config.json", "tokenizer.json", "model_card.json"
BEST, HISTORY, CURVE = "best.keras", "history.csv", "learning_curve.png"
CHECKPOINTS, LOGS, SAMPLES = "checkpoints", "logs", "samples"
LOCK = ".lock"  # two processes in one folder would spoil each other's run
FILES = {CONFIG, TOKENIZER, CARD, BEST, HISTORY, CURVE, CHECKPOINTS, LOGS, SAMPLES}


@dataclasses.dataclass(frozen=True)
class Run:
    """What `train` gives back.

    Attributes:
      path: the run folder.
      model: the network with its best weights: those of the epoch with the lowest validation
        loss, or of the last epoch where there was no validation.
      tokenizer: as it was given to `train`.
      config: what config.json says.
      history: one row an epoch: `epoch` (from 1), `loss`, `val_loss` (nats a token; the second
        only with validation), `seconds`, `learning_rate`.
    """

    path: pathlib.Path
    model: keras.Sequential
    tokenizer: Any
    config: dict
    history: pd.DataFrame


def folder_path(out) -> pathlib.Path:
    """The path of a run folder to be.

    Raises:
      ValueError: it is no path, or one that TensorFlow or the system cannot write.
    """
    try:
        path = pathlib.Path(out).expanduser()
        str(path).encode()  # as TensorFlow does
        os.fsencode(path)  # as the system does
    except (TypeError, UnicodeEncodeError):
        raise ValueError(
            "`out` must be the path of a folder, in characters that can be written here. "
            f"Received: {ascii(out)}. Choose another name."
        ) from None
    return path


def load_run(path):
    """The network of a run, finished or not, with its best weights.

    Args:
      path: the run folder.

    Returns:
      model, tokenizer, config: a `keras.Sequential`, the tokenizer, and config.json as a dict.

    Raises:
      FileNotFoundError: there is no run, or none that has finished an epoch.
      ValueError: a file in it is damaged.
    """
    path = pathlib.Path(path).expanduser()
    config = read_config(path)
    if config is None:
        raise FileNotFoundError(
            f"{path} is not the folder of a run: it has no {CONFIG}. Give the `out` of `train`."
        )
    if not (path / BEST).is_file():
        raise FileNotFoundError(
            f"The run in {path} has not finished its first epoch. Start it again to go on."
        )
    return load_best(path), load_tokenizer(path / TOKENIZER), config


def load_best(path):
    """The model in best.keras."""
    try:
        return keras.saving.load_model(path / BEST, compile=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path / BEST} is damaged ({error}). Delete the run's folder and start again."
        ) from None


def describe(side, tokenizer) -> dict | None:
    """A side of the corpus in numbers, and the hash of its ids; None for none.

    >>> from keras_music.tokenizers import CharTokenizer
    >>> describe(["ab", "a"], CharTokenizer("ab"))["tokens"]  # START and END count
    7
    """
    if side is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(side, Side):  # the manifest knows, and nothing has to be read
        num_ids = side.num_ids
        for row in side.rows:
            digest.update(f"{row['file']} {row['bytes']} {row['crc32c']};".encode())
    else:
        rows = encode_all(side, tokenizer)
        num_ids = [len(ids) for ids in rows]
        for ids in rows:
            digest.update(len(ids).to_bytes(8, "little") + ids.astype("<i4").tobytes())
    data = repr(side) if isinstance(side, Side | Corpus) else f"{len(num_ids)} pieces"
    numbers = {"pieces": len(num_ids), "tokens": int(np.sum(num_ids))}
    return {"data": data, **numbers, "digest": digest.hexdigest()}


def make_config(arguments, tokenizer, sides) -> tuple[dict, bytes]:
    """What config.json will say, and what tokenizer.json will.

    Args:
      arguments: `train`'s, as JSON can write them.
      tokenizer: its `save(path)` writes a file.
      sides: a dict of the sides by name.
    """
    # Describing comes first: whoever reads the ids says best what is wrong with a tokenizer.
    data = {name: describe(side, tokenizer) for name, side in sides.items()}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(pathlib.Path(folder) / TOKENIZER)
        text = (pathlib.Path(folder) / TOKENIZER).read_bytes()
    digest = hashlib.blake2b(text, digest_size=16).hexdigest()
    config = {
        "arguments": arguments,
        "tokenizer": {"kind": type(tokenizer).__name__, "digest": digest},
        "data": data,
        "versions": {
            "keras_music": keras_music.__version__,
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }
    return config, text


@contextlib.contextmanager
def open_run(path, config, tokenizer_json, *, writes=True):
    """Makes the folder, or checks that the run in it is this one, and holds it for this process.

    Args:
      path: a `pathlib.Path`.
      config, tokenizer_json: as `make_config` gives them.
      writes: whether this process may write.

    Raises:
      OSError: the folder cannot be written to.
      ValueError: there is another run, or something that is no run; or another process writes it.
    """
    _check_run(path, config)  # before anything is made
    if not writes:
        yield
        return
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    with locked(path / LOCK, lambda: _taken(path)):
        old = _check_run(path, config)  # again: another process may have been faster
        if old is None or config["arguments"]["epochs"] > old["arguments"]["epochs"]:
            write_atomically(path / TOKENIZER, tokenizer_json)
            write_atomically(path / CONFIG, json.dumps(config, indent=1).encode())
        for left in _left_behind(path):
            shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
        yield


def _taken(path):
    raise ValueError(
        f"`out` must be a folder that no other process is writing. Received: {path}, where a "
        "training runs now. Wait until it has ended, stop it, or give another folder."
    )


def _check_run(path, config):
    """The old run's config; None if there is no run yet."""
    if os.path.lexists(path) and not path.is_dir():
        what = "link that leads nowhere" if path.is_symlink() and not path.exists() else "file"
        raise ValueError(
            f"`out` must be a folder. Received: the {what} {path}. Choose another name."
        )
    old = read_config(path)
    if old is None:
        _check_no_strangers(path)
    elif changes := _differences(old, config):
        raise ValueError(
            f"`out` must be a new folder, or hold a run with the same arguments. Received: {path}, "
            f"where {'; '.join(changes)}. Give the same arguments to go on, or another folder."
        )
    return old


def _check_no_strangers(path):
    """No run is begun among other files: a mistyped name must not fill somebody's folder.

    Nor among those of a run that has lost its config.json, which alone would say whether this run
    is that one. What comes before the first epoch may be there: another worker may have begun.
    """
    names = {p.name for p in path.iterdir()} if path.is_dir() else set()
    if foreign := sorted(name for name in names - {TOKENIZER, CONFIG} if name[0] != "."):
        raise ValueError(
            f"`out` must be a new folder, or hold a run. Received: {path}, which holds "
            f"{', '.join(foreign[:3])} and no {CONFIG}. Choose another."
        )


def _left_behind(path):
    """What a killed run had begun to write, here and in its folders."""
    for folder in (path, path / CHECKPOINTS, path / SAMPLES):
        for prefix in (UNFINISHED, ".epoch_", *(f".{name}." for name in sorted(FILES))):
            yield from folder.glob(f"{prefix}*")


def read_config(path):
    """What config.json says; None if there is none."""
    try:
        config = json.loads((path / CONFIG).read_bytes())
        int(config["arguments"]["epochs"])
        return {name: dict(config[name]) for name in ("arguments", "tokenizer", "data", "versions")}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(
            f"{path / CONFIG} cannot be read ({error}). Restore it, or choose another folder."
        ) from None


def _differences(old, new):
    """What two configurations do not agree in, in words; the number of epochs may differ.

    >>> sides = {"data": {}, "tokenizer": {}}
    >>> _differences({"arguments": {"units": 8}, **sides}, {"arguments": {"units": 9}, **sides})
    ['units is 8, and here 9']
    """
    changes = [
        f"{name} is {old['arguments'].get(name)!r}, and here {value!r}"
        for name, value in new["arguments"].items()
        if name != "epochs" and old["arguments"].get(name) != value
    ]
    if old["tokenizer"] != new["tokenizer"]:
        kinds = (side["tokenizer"]["kind"] for side in (old, new))
        changes.append("the tokenizer is a {}, and here a {} or has other settings".format(*kinds))
    for name, side in new["data"].items():
        before = old["data"].get(name)
        if (before or {}).get("digest") != (side or {}).get("digest"):
            here = [s and f"{s['data']} with {s['tokens']} tokens" for s in (before, side)]
            changes.append("the {} data is {}, and here {} that differs".format(name, *here))
    return changes
