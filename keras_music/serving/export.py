"""From a generator in Python to a folder that TF Serving serves, and back.

A SavedModel is a graph and its weights, without Python. `export` writes one whose signatures are
functions of their inputs alone (the memory of a sequence and the seed go in and come out as
tensors), so that any number of servers and clients can share it:

    generate   prompt, num_tokens, temperature, top_k, top_p, seed -> tokens, length, log_prob
               (and `text` for text); it is also `serving_default`
    step       token, state_0 ..., temperature, top_k, top_p, seed -> next_token, log_prob, state_0
    score      tokens -> log_prob

Every input and output has the batch as its first axis. In `step`, a state of zeros starts a row;
the last state tensor counts the ids that were fed, so that stepping with one seed draws exactly
what `generate` draws. `tokens` and `text` are whole pieces, prompt included; `num_tokens` counts
what is drawn. It and the prompt have a limit, because a server must not be made to loop for ever.
Bad values are refused from inside the graph, with a sentence that names the input.

    <path>/1/saved_model.pb, variables/           what TF Serving reads
    <path>/1/assets.extra/tokenizer.json          the tokenizer
    <path>/1/assets.extra/model_card.json         data, split, loss, the command that made it

What this file does not do: no MIDI bytes from the graph, no warm-up requests, no client.

Reference: TF Serving's SavedModel conventions. The Keras model itself is not tracked, only its
variables: a tracked Keras 3 model loads in Python and fails in the server (tensorflow#72963).
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from keras_music import tokenizers
from keras_music.arguments import whole_number
from keras_music.generation.generator import MAX_NUM_TOKENS, Generated, Generator, pad_rows
from keras_music.generation.onestep import OneStep
from keras_music.generation.sampling import sample, uniforms
from keras_music.serving.lint import check_saved_model

CONTROLS = [
    tf.TensorSpec([None], tf.float32, name="temperature"),
    tf.TensorSpec([None], tf.int32, name="top_k"),
    tf.TensorSpec([None], tf.float32, name="top_p"),
    tf.TensorSpec([None], tf.int64, name="seed"),
]


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
        # TF Serving looks at whole numbers only: under this name nothing is half visible.
        temporary = pathlib.Path(tempfile.mkdtemp(dir=path, prefix=".exporting-"))
        temporary.chmod(0o755)
        # The Keras model itself is not tracked, only its variables: each is stored once, and the
        # C++ loader fills the ones that the signatures read.
        module = tf.Module()
        module.weights = [variable.value for variable in one_step.model.weights]
        signatures = _Signatures(one_step, max_num_tokens).functions()
        tf.saved_model.save(module, str(temporary), signatures=signatures)
        if problems := check_saved_model(temporary):
            raise ValueError(
                "`one_step` cannot be served: " + " ".join(problems) + " Nothing was exported."
            )
        extra = temporary / "assets.extra"
        extra.mkdir()
        one_step.tokenizer.save(extra / "tokenizer.json")
        (extra / "model_card.json").write_text(card, encoding="utf-8")
        return _publish(temporary, path)
    except (OSError, tf.errors.OpError) as error:
        raise OSError(
            f"Cannot write the SavedModel to {path}: {error}. "
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
      ValueError: it was not exported by this package.
    """
    path = pathlib.Path(path).expanduser()
    if not (path / "saved_model.pb").is_file():
        whole = [v for v in _versions(path) if (path / str(v) / "saved_model.pb").is_file()]
        if not whole:
            raise FileNotFoundError(
                f"There is no exported model in {path}. `keras_music.export(one_step, path)` "
                f"writes one (the current folder is {pathlib.Path.cwd()})."
            )
        path = path / str(max(whole))
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
            self.tokenizer = tokenizer or tokenizers.load(extra / "tokenizer.json")
            self.card = json.loads((extra / "model_card.json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ValueError(f"{self.path} was not exported by keras_music. {error}") from None
        except ValueError as error:
            raise ValueError(f"{self.path} is damaged: {error} Copy or export it again.") from None
        try:
            self._loaded = tf.saved_model.load(str(self.path))  # it must outlive its signatures
        except (OSError, IndexError, tf.errors.OpError) as error:
            raise ValueError(f"{self.path} is damaged: {error} Copy or export it again.") from None
        self.signatures = dict(self._loaded.signatures)

    def __repr__(self):
        return f"LoadedModel({str(self.path)!r})"

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
        answer = self.signatures["generate"](
            prompt=prompt, **{name: tf.constant(value) for name, value in controls.items()}
        )
        return Generated(*[answer[name].numpy() for name in Generated._fields])


class _Signatures:
    """The functions that are exported, each with its inputs checked in the graph."""

    def __init__(self, one_step, max_num_tokens):
        self.one_step = one_step
        self.tokenizer = one_step.tokenizer
        self.max_num_tokens = max_num_tokens

    def functions(self):
        """The signatures by name; the TensorSpecs' names are those of the served inputs."""
        if is_text(self.tokenizer):
            prompt = _spec("prompt", [None], tf.string)
        else:
            prompt = _spec("prompt", [None, None], tf.int32)
        states = [
            _spec(f"state_{i}", [None, *state.shape[1:]], tf.float32)
            for i, state in enumerate(self.one_step.initial_state(1))
        ]
        states.append(_spec(f"state_{len(states)}", [None], tf.int32))
        inputs = {
            "generate": [prompt, _spec("num_tokens", [None], tf.int32), *CONTROLS],
            "step": [_spec("token", [None], tf.int32), *CONTROLS, *states],
            "score": [_spec("tokens", [None, None], tf.int32)],
        }
        functions = {
            name: tf.function(_by_name(getattr(self, name), specs)).get_concrete_function(*specs)
            for name, specs in inputs.items()
        }
        return functions | {"serving_default": functions["generate"]}

    def generate(self, prompt, num_tokens, **controls):
        limit = (num_tokens >= 1) & (num_tokens <= self.max_num_tokens)
        message = f"`num_tokens` must be from 1 to {self.max_num_tokens}"
        checks = [*_check_controls(**controls), _check(limit, message, num_tokens)]
        with tf.control_dependencies(checks):
            if is_text(self.tokenizer):
                prompt = self.tokenizer.encode_in_graph(prompt)
            prompt = self._check_ids("prompt", prompt, self.max_num_tokens)
        with tf.control_dependencies([self._is_one_piece(prompt)]):
            prompt = tf.identity(prompt)
        tokens, length, log_prob = self.one_step.loop(prompt, num_tokens, **controls)
        answer = {"tokens": tokens, "length": length, "log_prob": _check_scores(log_prob)}
        if is_text(self.tokenizer):
            answer["text"] = self.tokenizer.decode_in_graph(tokens)
        return answer

    def step(self, token, temperature, top_k, top_p, seed, **states):
        states = [states[f"state_{i}"] for i in range(len(states))]
        checks = [
            *_check_controls(temperature, top_k, top_p),
            _check(states[-1] >= 0, f"`state_{len(states) - 1}` must be >= 0", states[-1]),
            self._in_vocabulary("token", token, 1),
        ]
        # The state travels as float32, whatever the model computes in: any client can send that.
        blank = self.one_step.initial_state(1)
        own = [tf.cast(s, zero.dtype) for s, zero in zip(states[:-1], blank, strict=True)]
        with tf.control_dependencies(checks):
            logits, new = self.one_step.step(tf.identity(token), own)
        new = [tf.cast(state, tf.float32) for state in new]
        fed = states[-1] + 1
        next_token, log_prob = sample(
            logits + self.one_step.never(), uniforms(seed, fed), temperature, top_k, top_p
        )
        answer = {"next_token": next_token, "log_prob": _check_scores(log_prob)}
        return answer | {f"state_{i}": state for i, state in enumerate([*new, fed])}

    def score(self, tokens):
        # What `generate` wrote can be scored: a prompt and its continuation.
        ids = self._check_ids("tokens", tokens, 2 * self.max_num_tokens)
        return {"log_prob": self.one_step.score(ids)}

    def _is_one_piece(self, ids):
        """A prompt begins with START and holds no second START and no END, as in Python."""
        start, end = self.one_step.start_id, self.one_step.end_id
        rules = [tf.constant(True)]
        rules += [] if start is None else [ids[:, :1] == start, ids[:, 1:] != start]
        rules += [] if end is None else [ids[:, 1:] != end]
        return _check(
            tf.stack([tf.reduce_all(rule) for rule in rules]),
            f"`prompt` must begin with START ({start}) and hold no other START or END ({end})",
        )

    def _check_ids(self, name, ids, longest):
        """Ids (batch, time) once it is known that every row is an id row padded at its end."""
        is_pad = ids == 0
        checks = [
            _check(tf.shape(ids)[1] > 0, f"`{name}` must hold at least one id a row"),
            _check(tf.shape(ids)[1] <= longest, f"`{name}` must hold at most {longest} ids a row"),
            self._in_vocabulary(name, ids, 0),
        ]
        with tf.control_dependencies(checks):
            ids = tf.identity(ids)
        more = [
            _check(ids[:, 0] != 0, f"`{name}` must begin with an id, not with padding (0)"),
            _check(
                ~is_pad[:, :-1] | is_pad[:, 1:], f"`{name}` must have padding (0) only at the end"
            ),
        ]
        with tf.control_dependencies(more):
            return tf.identity(ids)

    def _in_vocabulary(self, name, ids, low):
        high = self.tokenizer.vocab_size - 1
        return _check(
            (ids >= low) & (ids <= high), f"`{name}` must hold ids from {low} to {high}", ids
        )


def _spec(name, shape, dtype):
    return tf.TensorSpec(shape, dtype, name=name)


def _by_name(function, specs):
    """`function`, which takes its inputs by name, as one that takes checked ones in order."""
    names = [spec.name for spec in specs]

    def served(*tensors):
        inputs = dict(zip(names, tensors, strict=True))
        return function(**_rows(specs, inputs))

    return served


def is_text(tokenizer):
    """Whether prompts and answers are strings."""
    return hasattr(tokenizer, "encode_in_graph")


def _check(condition, message, shown=None):
    """An op that fails with INVALID_ARGUMENT and this sentence unless all of it is true."""
    data = [message + "."] if shown is None else [message + ". Received:", shown]
    return tf.debugging.Assert(tf.reduce_all(condition), data, summarize=8)


def _check_scores(log_prob):
    """The log-probabilities, once it is known that the weights gave numbers."""
    with tf.control_dependencies(
        [_check(log_prob <= 0, "The scores of the model are not numbers")]
    ):
        return tf.identity(log_prob)


def _check_controls(temperature, top_k, top_p, seed=None):
    finite = tf.math.is_finite(temperature)
    return [
        _check((temperature >= 0) & finite, "`temperature` must be >= 0 and finite", temperature),
        _check(top_k >= 0, "`top_k` must be >= 0", top_k),
        _check((top_p > 0) & (top_p <= 1), "`top_p` must be above 0 and at most 1", top_p),
    ]


def _rows(specs, inputs):
    """The inputs, once it is known that each has the axes of its spec, and all the same rows.

    A server does not compare shapes with the signature. `tf.ensure_shape` stays in the graph and
    refuses with "Shape of tensor prompt [1,2,3] is not compatible with expected shape [?,?]".
    """
    first = specs[0].name
    tensors = {s.name: tf.ensure_shape(inputs[s.name], s.shape, name=s.name) for s in specs}
    batch = tf.shape(tensors[first])[0]
    checks = [_check(batch > 0, f"`{first}` must have at least one row")]
    checks += [
        _check(tf.shape(tensor)[0] == batch, f"`{name}` must have as many rows as `{first}`")
        for name, tensor in tensors.items()
    ]
    with tf.control_dependencies(checks):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}


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
    return json.dumps((card or {}) | facts, indent=1, default=plain)


def _publish(temporary, path):
    """Renames the finished folder to the next free version."""
    while True:
        version = path / str(max(_versions(path), default=0) + 1)
        try:
            os.rename(temporary, version)  # never replaces a folder that holds something
            return version
        except OSError:
            if not version.exists():
                raise


def _versions(path):
    if not path.is_dir():
        return []
    return [int(p.name) for p in path.iterdir() if p.is_dir() and p.name.isdecimal()]
