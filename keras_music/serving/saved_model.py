"""From a generator in Python to a folder that TF Serving serves, and back.

`export` writes the graph of `signatures` and the model's weights, tests what it wrote as a server
would use it, and only then gives the folder its name: a whole number, which TF Serving looks for.
Whatever goes wrong before, or whenever the process is killed, the versions that are being served
stay as they are.

    <path>/1/saved_model.pb, variables/           what TF Serving reads
    <path>/1/assets.extra/tokenizer.json          the tokenizer
    <path>/1/assets.extra/model_card.json         data, split, loss, the command that made it
    <path>/1/assets.extra/tf_serving_warmup_requests   requests that TF Serving runs at start

What this file does not do: it does not delete old versions; it does not ask a server (`client`).

Reference: TF Serving's SavedModel conventions. The Keras model itself is not tracked: a tracked
Keras 3 model loads in Python and fails in the server (tensorflow#72963).
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
import time

import numpy as np
import tensorflow as tf

from keras_music import tokenizers
from keras_music.arguments import whole_number
from keras_music.generation.generator import (
    MAX_NUM_TOKENS,
    Generated,
    Generator,
    is_text,
    pad_rows,
)
from keras_music.generation.onestep import OneStep
from keras_music.serving.lint import check_saved_model
from keras_music.serving.signatures import Signatures, signature_names
from keras_music.serving.warmup import self_test, warmup_requests, write_warmup

UNFINISHED = ".exporting-"  # how the name of a folder begins that is still being written


def export(one_step, path, *, max_num_tokens=4096, card=None) -> pathlib.Path:
    """Writes a generator as the next version of a SavedModel, whole or not at all.

    Args:
      one_step: a `keras_music.OneStep`.
      path: the model's folder, such as "saved_models/bach". The next free whole number below it
        becomes the version: saved_models/bach/1, then /2.
      max_num_tokens: 1-1,000,000, the most ids that one request may ask for, and the longest
        prompt that it may bring.
      card: a dict for the model card (data, split, loss, command): text, numbers, arrays, tables.

    Returns:
      The folder of the version.

    Raises:
      ValueError: an argument is out of range, or the graph could not be served.
      OSError: the folder cannot be written to.
    """
    if not isinstance(one_step, OneStep):
        raise ValueError(
            f"`one_step` must be a keras_music.OneStep. Received: {type(one_step).__name__}. "
            "Make one with keras_music.OneStep(model, tokenizer)."
        )
    max_num_tokens = whole_number("max_num_tokens", max_num_tokens, 1, MAX_NUM_TOKENS)
    for weight in one_step.model.weights:
        if not np.isfinite(weight.numpy()).all():
            raise ValueError(
                f"`one_step` must have weights that are numbers. Received: NaN in {weight.path}. "
                "Training has diverged: lower the learning rate, or load an earlier checkpoint."
            )
    card = _card_json(one_step, max_num_tokens, card)
    path = pathlib.Path(path).expanduser()
    temporary = None
    try:
        path.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        # TF Serving looks at whole numbers only: under this name nothing is half visible.
        temporary = pathlib.Path(tempfile.mkdtemp(dir=path, prefix=UNFINISHED))
        temporary.chmod(0o755)
        _write(one_step, temporary, max_num_tokens, card)
        if problems := check_saved_model(temporary) or self_test(temporary):
            raise ValueError(
                "`one_step` cannot be served: " + " ".join(problems) + " Nothing was exported."
            )
        return _publish(temporary, path)
    except OSError as error:
        raise OSError(
            f"Cannot write the SavedModel to {path}: {error.__cause__ or error}. "
            "Choose a folder that you may write to, on a disk with room."
        ) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def load(path, tokenizer=None) -> LoadedModel:
    """Loads what `export` wrote; it generates from the graph alone, without the Keras model.

    Args:
      path: the model's folder (its highest version is taken) or the folder of one version.
      tokenizer: needed only for a tokenizer that is not one of this package's.

    Raises:
      FileNotFoundError: there is no exported model.
      TypeError: it was exported with a tokenizer of another package, and none is given.
      ValueError: it was not exported by this package, is damaged, or the tokenizer is another.
    """
    path = pathlib.Path(path).expanduser()
    if not (path / "saved_model.pb").is_file():
        found = _versions(path)
        whole = [found[v] for v in sorted(found) if (found[v] / "saved_model.pb").is_file()]
        if not whole:
            raise FileNotFoundError(
                f"There is no exported model in {path}. `keras_music.export(one_step, path)` "
                f"writes one (the current folder is {pathlib.Path.cwd()})."
            )
        path = whole[-1]
    return LoadedModel(path, tokenizer)


class LoadedModel(Generator):
    """A SavedModel as a generator: `generate` as in `OneStep`, and its signatures.

    Attributes:
      path: the folder of the version. tokenizer: the tokenizer. card: the model card, a dict.
      signatures: the functions of the SavedModel by name, from tensors to a dict of tensors.
    """

    def __init__(self, path, tokenizer=None):
        self.path = pathlib.Path(path)
        extra = self.path / "assets.extra"
        try:
            self.card = _read_card(extra / "model_card.json")
            if tokenizer is None and self.card["tokenizer"] not in tokenizers.__all__:
                raise TypeError(
                    f"{self.path} was exported with the tokenizer {self.card['tokenizer']}, which "
                    "is not one of this package's. Give it: `load(path, tokenizer=...)`."
                )
            self.tokenizer = tokenizer or tokenizers.load(extra / "tokenizer.json")
        except FileNotFoundError as error:
            raise ValueError(f"{self.path} was not exported by keras_music. {error}") from None
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged: {error} Copy or export it again.") from None
        vocab_size = getattr(self.tokenizer, "vocab_size", None)
        if isinstance(self.tokenizer, type) or vocab_size != self.card["vocab_size"]:
            raise ValueError(
                f"`tokenizer` must be the one with which the model was trained, "
                f"{self.card['tokenizer']} with {self.card['vocab_size']} ids. Received: "
                f"{tokenizer or self.tokenizer!r} with {vocab_size}."
            )
        try:
            self._loaded = tf.saved_model.load(str(self.path))  # it must outlive its signatures
        except (OSError, IndexError, tf.errors.OpError) as error:
            raise ValueError(f"{self.path} is damaged: {error} Copy or export it again.") from None
        self.signatures = dict(self._loaded.signatures)

    def __repr__(self):
        return f"LoadedModel({str(self.path)!r})"

    @property
    def takes_wishes(self):
        return "generate_controlled" in self.signatures

    def _generate(self, prompts, controls):
        if (longest := max(map(len, prompts))) > self.card["max_num_tokens"]:
            raise ValueError(
                f"`prompt` must be at most {self.card['max_num_tokens']} ids long, the limit of "
                f"this export. Received: {longest}. Crop it."
            )
        if controls["num_tokens"].max() > self.card["max_num_tokens"]:
            raise ValueError(
                f"`num_tokens` must be at most {self.card['max_num_tokens']}, the limit of this "
                f"export. Received: {controls['num_tokens'].max()}. Export it with a higher "
                "`max_num_tokens`."
            )
        if is_text(self.tokenizer):
            prompt = tf.constant([self.tokenizer.decode(ids) for ids in prompts])
        else:
            prompt = tf.constant(pad_rows(prompts))
        signature = "generate_controlled" if "max_repeats" in controls else "generate"
        answer = self.signatures[signature](
            prompt=prompt, **{name: tf.constant(value) for name, value in controls.items()}
        )
        return Generated(*[answer[name].numpy() for name in Generated._fields])


def _read_card(path):
    """The model card, which says all that is asked of it below."""
    card = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"tokenizer": str, "vocab_size": int, "max_num_tokens": int}
    for name, kind in kinds.items():
        if not isinstance(card, dict) or not isinstance(card.get(name), kind):
            raise ValueError(f"{path.name} does not say `{name}`.")
    return card


def _card_json(one_step, max_num_tokens, card):
    """The model card as JSON text: what the caller says of the model, and what it is."""
    layers = [
        {"layer": type(layer).__name__, "parameters": layer.count_params()}
        for layer in one_step.model.layers
    ]
    facts = {
        "model": layers,
        "parameters": int(one_step.model.count_params()),
        "tokenizer": type(one_step.tokenizer).__name__,
        "vocab_size": one_step.tokenizer.vocab_size,
        "max_num_tokens": max_num_tokens,
        "signatures": signature_names(one_step),
        "tensorflow": tf.__version__,
    }

    def plain(value):
        """Arrays and NumPy numbers as lists and numbers, tables as dicts, all else as text."""
        for method in ("to_dict", "tolist"):
            if hasattr(value, method):
                return getattr(value, method)()
        return str(value)

    if not isinstance(card or {}, dict):
        raise ValueError(f"`card` must be a dict. Received: {type(card).__name__}.")
    try:
        return json.dumps((card or {}) | facts, indent=1, default=plain)
    except TypeError as error:
        raise ValueError(
            f"`card` must have texts as keys, in tables, too. Received: {error}. "
            "Turn them into str."
        ) from None


def _write(one_step, folder, max_num_tokens, card):
    """The SavedModel and what belongs to it, into an empty folder."""
    extra = folder / "assets.extra"
    extra.mkdir()
    one_step.tokenizer.save(extra / "tokenizer.json")
    if not (extra / "tokenizer.json").is_file():
        raise ValueError(
            "`tokenizer.save(path)` must write a file. Received: a tokenizer whose `save` wrote "
            f"none. Correct {type(one_step.tokenizer).__name__}.save."
        )
    (extra / "model_card.json").write_text(card, encoding="utf-8")
    about = {
        "tokenizer_json": (extra / "tokenizer.json").read_text(encoding="utf-8"),
        "card_json": card,
    }
    # Not the Keras model is stored but what its step computes with: the C++ loader fills the
    # variables that the signatures read, and no others.
    stored = {}

    def store(weight):
        """A variable; one for all equal weights, as of layers that share a cell."""
        key = (weight.dtype, tuple(weight.shape), weight.numpy().tobytes())
        return stored.setdefault(key, tf.Variable(weight, trainable=False))

    weights = tf.nest.map_structure(store, one_step.weights())
    module = tf.Module()
    module.weights = list(stored.values())
    signatures = Signatures(one_step, weights, max_num_tokens, about)
    functions = signatures.functions()
    try:
        tf.saved_model.save(module, str(folder), signatures=functions)
        write_warmup(folder, warmup_requests(functions, **signatures.example()))
    except tf.errors.OpError as error:  # TensorFlow's word for a disk that is full
        raise OSError(str(error)) from error


def _sweep(path):
    """Removes what exports left behind that were killed. They take seconds, not an hour."""
    for left in path.glob(UNFINISHED + "*"):
        with contextlib.suppress(OSError):  # another process may have been faster
            if time.time() - left.lstat().st_mtime > 3600:
                shutil.rmtree(left, ignore_errors=True)


def _publish(temporary, path):
    """Renames the finished folder to the next free version."""
    tried = 0
    while True:
        tried = max(tried, *_versions(path), 0) + 1
        version = path / str(tried)
        try:
            os.rename(temporary, version)  # never replaces a folder that holds something
            return version
        except OSError:
            if not os.path.lexists(version):
                raise


def _versions(path):
    """What is named by a whole number below a folder: {number: path}."""
    if not path.is_dir():
        return {}
    return {int(p.name): p for p in path.iterdir() if p.name.isdecimal()}
