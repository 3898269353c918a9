"""Asking a running server for music or text, without TensorFlow.

In *row form* of TensorFlow Serving's REST API each prompt is one object with all inputs of the
signature, and each answer one object with all its outputs:

    POST /v1/models/bach/versions/1:predict
    {"instances": [{"prompt": [1, 63, 0], "num_tokens": 200, "temperature": 0.9, "top_k": 0,
                    "top_p": 1.0, "seed": 7}]}
    {"predictions": [{"tokens": [1, 63, 191, ...], "length": 202, "log_prob": -150.2,
                      "midi_bytes": {"b64": "TVRoZAAA..."}}]}

JSON has one kind of number. A float32 is sent with all the digits of the double that equals it, so
the server gets the same float32; a whole number without a point, because 1.0 is refused for an int.

A server may begin to serve a new version of a model at any moment, and ids mean nothing without the
tokenizer that made them. So the client looks which version is served, asks this version for its
tokenizer (the signature `describe`), and from then on sends every request to this version by its
number. When the server has dropped it (HTTP 404), the client looks again, and checks the tokenizer
again. A version whose tokenizer differs is an error: no answer is ever read with the wrong table.

Conventions: `timeout` is in seconds, for one whole call with everything that it has to ask.

What this file does not do: no gRPC and no authentication. TensorFlow Serving itself lets everybody
in: keep it on 127.0.0.1, or put a web server before it (nginx, Caddy) that speaks https and lets in
only the addresses that it should. A version whose files are replaced while it keeps its number goes
unnoticed; `export` always takes a new one.

Reference: TensorFlow Serving, "RESTful API" (tensorflow.org/tfx/serving/api_rest).
"""

from __future__ import annotations

import base64
import functools
import json
import re
import urllib.parse

import numpy as np

from keras_music import tokenizers
from keras_music.generation.generator import (
    FLOAT_MAX,
    Generated,
    Generator,
    is_many,
    is_text,
    pad_rows,
)
from keras_music.serving.rest import BusyError, NotFoundError, Rest, clean


class Client(Generator):
    """A served model as a generator: `generate` as in `OneStep`, and `generate_midi`.

    Args:
      url: where the server's REST API is, such as "http://127.0.0.1:8501".
      name: the model's name on the server, such as "bach".
      tokenizer: None, or a tokenizer that must equal the server's.
      timeout: > 0, seconds, for one whole call.
      retries: None, so that a busy or restarting server is asked again until `timeout`, with
        growing waits; or >= 0, how often at most.

    Raises (here and in every call):
      ValueError: an argument cannot be used, the server refuses it, there is no such model, or its
        tokenizer is another one.
      ConnectionError: nothing answers at `url`, or not as TensorFlow Serving does.
      TimeoutError: the answer did not come in time.
      RuntimeError: the server failed.

    Example:
      >>> bach = Client("http://127.0.0.1:8501", "bach", timeout=120)
      >>> bach
      Client('http://127.0.0.1:8501', 'bach')
      >>> piece = bach.generate(num_tokens=200, seed=7)  # doctest: +SKIP
    """

    def __init__(self, url, name, tokenizer=None, *, timeout=60.0, retries=None):
        self._rest = Rest(url, timeout, retries)
        if not isinstance(name, str) or not re.fullmatch(r"[^/:]+", name):
            raise ValueError(
                f"`name` must be the model's name on the server. Received: name={name!r}. "
                "It has no slash and no colon: 'bach', for example."
            )
        self.url, self.name = self._rest.url, name
        self._path = "/v1/models/" + urllib.parse.quote(name, safe="")
        self._tokenizer = tokenizer
        self._served = None  # (version, card), once it is known that its tokenizer is ours

    def __repr__(self):
        return f"Client({self.url!r}, {self.name!r})"

    @property
    def tokenizer(self):
        """The model's tokenizer, asked from the server when it is first needed."""
        if self._tokenizer is None:
            self._with_version(lambda version, card: None)
        return self._tokenizer

    @property
    def card(self) -> dict:
        """The model card of the version that is asked: data, split, loss, limits."""
        return self._with_version(lambda version, card: card)

    @property
    def takes_wishes(self):
        """Whether the version that is asked serves `generate_controlled`."""
        return "generate_controlled" in self.card.get("signatures", [])

    @functools.wraps(Generator.generate_tokens)
    def generate_tokens(self, *args, **kwargs):
        with self._rest.one_call():
            return super().generate_tokens(*args, **kwargs)

    def generate_midi(
        self, prompt=None, num_tokens=256, temperature=1.0, top_k=0, top_p=1.0, seed=0, **wishes
    ):
        """As `generate`, but returns the MIDI file that the server wrote.

        Args:
          prompt, num_tokens, temperature, top_k, top_p, seed, wishes: as in `generate`.

        Returns:
          bytes, a whole .mid file, prompt included; a list for a list of prompts.

        Raises:
          ValueError: the model writes text, or what `generate` refuses.
        """
        with self._rest.one_call():
            if is_text(self.tokenizer):
                raise ValueError(
                    "`generate_midi` must be asked of a model that writes music. "
                    f"Received: {self.name!r}, which writes text. Use `generate`."
                )
            self.generate_tokens(prompt, num_tokens, temperature, top_k, top_p, seed, **wishes)
            with self._rest.reading("`midi_bytes`"):
                files = [_midi_file(row["midi_bytes"]["b64"]) for row in self._rest.call.rows]
        return files if is_many(prompt) else files[0]

    def _generate(self, prompts, controls):
        if is_text(self.tokenizer):
            column = [self.tokenizer.decode(ids) for ids in prompts]
        else:
            column = pad_rows(prompts).tolist()  # the rows of a request must have one length
        columns = {"prompt": column} | {name: v.tolist() for name, v in controls.items()}
        sent = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        request = {"instances": sent}
        if "max_repeats" in controls:
            request["signature_name"] = "generate_controlled"
        rows = self._with_version(lambda version, _: self._post(version, request))
        self._rest.call.rows = rows
        with self._rest.reading("`tokens`, `length` and `log_prob` for each prompt"):
            return _read_rows(rows, len(sent), self.tokenizer.vocab_size)

    def _with_version(self, use):
        """What `use(version, card)` gives; once a call the version may have to be found again."""
        dropped = version = None
        with self._rest.one_call():
            for may_look_again in (True, False):
                try:
                    version, card = self._find_version(dropped)
                    return use(version, card)
                except NotFoundError as error:
                    if not may_look_again:
                        raise self._unknown(error) from None
                    dropped = version

    def _post(self, version, request):
        """The rows with which one version answers."""
        path = f"{self._path}/versions/{version}:predict"
        answer = self._rest.patiently(lambda: self._rest.ask("POST", path, request))
        with self._rest.reading("`predictions`, a list"):
            return _of(list, answer["predictions"])

    def _find_version(self, dropped):
        """(version, card) to ask; the server is asked for them if none, or a dropped one, is known.

        Of several threads one looks, and the others take what it found: two that look while a new
        version comes could find both, and read the answer of one with the tokenizer of the other.
        """
        served = self._served
        if served is None or served[0] == dropped:
            with self._rest.turn():
                served = self._served
                if served is None or served[0] == dropped:
                    self._served = None
                    self._served = served = self._look_for_version()
        return served

    def _look_for_version(self):
        """The version that is served, and its card, if its tokenizer is ours."""
        try:
            version = self._rest.patiently(self._highest_version)
        except NotFoundError as error:
            raise self._unknown(error) from None
        try:
            rows = self._post(version, {"signature_name": "describe", "instances": [{"row": 0}]})
        except ValueError as error:
            raise ValueError(
                "`name` must be a model that this version of keras_music exported. Received: "
                f"{self.name!r}, version {version}, which cannot describe itself: {error}. "
                "Export it again with `keras_music.export`."
            ) from None
        with self._rest.reading("`tokenizer_json` and `card_json`"):
            text = _of(str, rows[0]["tokenizer_json"])
            card = _of(dict, json.loads(rows[0]["card_json"]))
            _of(list, card.get("signatures", []))
        theirs = tokenizers.from_json(text, f"{self.name!r}, version {version}, on {self.url}")
        if self._tokenizer is None:
            self._tokenizer = theirs
        if self._tokenizer != theirs:
            raise ValueError(
                f"`tokenizer` must be that of {self.name!r}, version {version}, on {self.url}. "
                f"Received: {_difference(self._tokenizer, theirs)}. The same ids would mean "
                "something else: make a new Client, which asks the server for its tokenizer, and "
                "encode prompts with that."
            )
        return version, card

    def _highest_version(self):
        """The version that TensorFlow Serving itself would take; one being loaded is busy."""
        answer = self._rest.ask("GET", self._path)
        with self._rest.reading("`model_version_status`"):
            found = {int(_of(str, v["version"])): v for v in answer["model_version_status"]}
            states = {number: _of(str, v["state"]) for number, v in found.items()}
            said = "; ".join(v["status"]["error_message"] for v in found.values())
        if available := [number for number, state in states.items() if state == "AVAILABLE"]:
            return max(available)
        if {"START", "LOADING"} & set(states.values()):
            raise BusyError(f"{self.name!r} is being loaded")
        raise RuntimeError(
            f"{self.url} knows {self.name!r}, but has no version to serve. "
            f"Received: {states}, {clean(said)!r}. See its log, or export the model again."
        )

    def _unknown(self, said):
        return ValueError(
            f"`name` must be a model that {self.url} serves. Received: {self.name!r} (the server: "
            f"{said}). Check the name with which it was started (MODEL_NAME, or models.config), "
            "and that the model's folder holds a version, such as 1/saved_model.pb."
        )


def _of(kind, value):
    """The value of an answer, if it is of this kind: JSON's true is no int, and its 1.0 neither."""
    if type(value) is not kind:
        raise TypeError
    return value


def _read_rows(rows, num_rows, vocab_size):
    """The rows of an answer as `Generated`; an error if they are no such rows."""
    length = np.array([_of(int, row["length"]) for row in rows], np.int32)
    log_prob = np.array([row["log_prob"] for row in rows])
    tokens = np.array([[_of(int, i) for i in row["tokens"]] for row in rows], np.int32)
    if log_prob.shape != (num_rows,) or not 1 <= length.min() <= length.max() <= tokens.shape[1]:
        raise ValueError
    if not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ValueError
    if log_prob.dtype.kind not in "if" or not (abs(log_prob) <= FLOAT_MAX).all():
        raise ValueError
    # A server that batches pads to the longest row of all requests in the batch.
    return Generated(tokens[:, : length.max()], length, log_prob.astype(np.float32))


def _midi_file(text):
    """The bytes of a MIDI file in base64; an error if it is none."""
    data = base64.b64decode(text, validate=True)
    if not data.startswith(b"MThd"):
        raise ValueError
    return data


def _difference(mine, theirs):
    """How two tokenizers that are not equal differ, in words."""
    if type(mine) is not type(theirs):
        return f"a {type(mine).__name__}, where the server has a {type(theirs).__name__}"
    words = []
    for name in mine.settings() | theirs.settings():
        # A setting that is not written down has its default, which is an attribute.
        own, other = (t.settings().get(name, getattr(t, name, None)) for t in (mine, theirs))
        if name == "text":  # only the characters that the other one lacks
            own, other = ("".join(sorted(set(a) - set(b))) for a, b in ((own, other), (other, own)))
        if own != other:
            words.append(f"{name} {own!r:.60}, where the server has {other!r:.60}")
    return "; ".join(words)
