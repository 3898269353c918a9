"""What can be asked of anything that writes: one prompt or many, and controls for each.

A trained model in Python, a SavedModel and a server are asked the same way and answer alike. This
file is the door: it turns prompts into rows of ids and controls into one value a row, and says in
one sentence what cannot be used.

Conventions: ids 0 = `PAD`; every control has the batch as its only axis, (batch,).

What this file does not do: it draws nothing. `OneStep` and `keras_music.load` do.
"""

from __future__ import annotations

import numbers
import typing

import numpy as np

from keras_music.generation.wishes import KNOWN_WISHES, as_rows, whole_rows, wish_rows

PAD = 0
INT32_MAX = 2**31 - 1
MAX_NUM_TOKENS = 1_000_000  # random points for all of them are made before the loop begins
FLOAT_MAX = float(np.finfo(np.float32).max)
TINY = float(np.finfo(np.float32).tiny)


class Generated(typing.NamedTuple):
    """What a generator wrote, one row a prompt.

    Attributes:
      tokens: int32 (batch, time), prompts included, padded with 0.
      length: int32 (batch,), ids of each row, prompt included.
      log_prob: float32 (batch,), the summed log-probability of what was drawn, in the distribution
        from which it was drawn (what grammar and wishes leave, after temperature, top-k, top-p).
    """

    tokens: np.ndarray
    length: np.ndarray
    log_prob: np.ndarray


class Generator:
    """What a trained model and a loaded SavedModel have in common: `generate`.

    A subclass has a `tokenizer` and writes `_generate(prompts, controls) -> Generated`, where
    `prompts` is a list of id rows and `controls` a dict of arrays with one value a row.
    """

    tokenizer = None

    def generate(
        self,
        prompt=None,
        num_tokens=256,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        seed=0,
        **wishes,
    ):
        """Continues one prompt, or many at once.

        Args:
          prompt: a `Piece` or a str, as the tokenizer encodes it; or ids, shape (time,), that
            begin with START; or a list of these; None begins from nothing.
          num_tokens: 1-1,000,000, how many ids are drawn at most (fewer if END is drawn).
          temperature: >= 0; 1 is the network's own opinion, 0 always takes the likeliest id.
          top_k: >= 0; draw among the k likeliest ids; 0 means all.
          top_p: 0 < top_p <= 1; draw among the likeliest ids that together have this
            probability; 1 means all.
          seed: a whole number. The same seed gives the same music; another seed, other music.
          wishes: for music, what may begin (see `keras_music.generation.wishes`):
            `pitch_classes`, a key such as "A minor" or numbers 0-11; `pitch_range`, (lowest,
            highest) MIDI pitch; `max_notes_per_second`, 1-64; `max_repeats` >= 1, how often one
            pitch may begin in a row.

          With many prompts every control may be a list with one value for each. A single seed
          gives row i the seed `seed + i`, so that equal prompts get different continuations.

        Returns:
          What the tokenizer decodes (a `Piece` or a str), prompt included; a list for a list.

        Raises:
          ValueError: a control is out of range, the prompt cannot be encoded, or something is
            wished of a model that takes no wishes.
          TypeError: there is no such wish.
        """
        many = is_many(prompt)
        written = self.generate_tokens(
            prompt, num_tokens, temperature, top_k, top_p, seed, **wishes
        )
        rows = zip(written.tokens, written.length, strict=True)
        decoded = [self.tokenizer.decode(tokens[:length]) for tokens, length in rows]
        return decoded if many else decoded[0]

    def generate_tokens(
        self,
        prompt=None,
        num_tokens=256,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        seed=0,
        **wishes,
    ) -> Generated:
        """As `generate`, but returns ids: a `Generated` with one row a prompt."""
        prompts = [self._encode(p) for p in (prompt if is_many(prompt) else [prompt])]
        if not prompts:
            raise ValueError("`prompt` must hold at least one prompt. Received: an empty list.")
        rows = len(prompts)
        controls = {
            "num_tokens": whole_rows("num_tokens", num_tokens, rows, 1, MAX_NUM_TOKENS),
            "temperature": _real_rows(
                "temperature", temperature, rows, 0, "must be >= 0", FLOAT_MAX
            ),
            "top_k": whole_rows("top_k", top_k, rows, 0, INT32_MAX),
            "top_p": _real_rows("top_p", top_p, rows, TINY, "must be above 0 and at most 1", 1),
            "seed": _seed_rows(seed, rows),
        }
        if unknown := set(wishes) - set(KNOWN_WISHES):
            raise TypeError(
                f"generate() has no argument {min(unknown)!r}. What may be wished: "
                f"{', '.join(KNOWN_WISHES)}."
            )
        wishes = {name: wish for name, wish in wishes.items() if wish is not None}
        if wishes and not self.takes_wishes:
            raise ValueError(
                f"`{next(iter(wishes))}` must be asked of a model of music that was built with the "
                "grammar of its tokenizer, and whose tokens name pitches. Received: one of a "
                f"{type(self.tokenizer).__name__}, which is not. Leave it out."
            )
        controls |= wish_rows(rows, **wishes) if wishes else {}
        return self._generate(prompts, controls)

    @property
    def takes_wishes(self):
        """Whether there is a grammar that knows which ids begin which pitch: wishes need it."""
        grammar = getattr(self.tokenizer, "grammar", None)
        return grammar is not None and bool((grammar.onset_of >= 0).any())

    @property
    def start_id(self):
        """The id that opens a piece, or None if the tokenizer has none."""
        return getattr(self.tokenizer, "start_id", None)

    @property
    def end_id(self):
        """The id that closes a piece, or None if the tokenizer has none."""
        return getattr(self.tokenizer, "end_id", None)

    def _encode(self, prompt):
        """One prompt as ids, without the END that would say that nothing follows."""
        if prompt is None:
            if self.start_id is None:
                raise ValueError(
                    "`prompt` must be given: the tokenizer has no START to begin from."
                )
            return np.array([self.start_id], np.int32)
        if isinstance(prompt, list | tuple) or hasattr(prompt, "__array__"):
            return self._check_ids(prompt)
        ids = np.asarray(self.tokenizer.encode(prompt))
        vocab_size = self.tokenizer.vocab_size
        are_ids = ids.ndim == 1 and len(ids) and ids.dtype.kind in "iu"
        if not are_ids or not ((ids >= 0) & (ids < vocab_size)).all():
            raise ValueError(
                "`tokenizer.encode` must give one row of whole numbers from 0 to "
                f"{vocab_size - 1}, one or more. Received: {ids.tolist()!r:.200}. Correct the "
                "tokenizer."
            )
        ids = ids.astype(np.int32)
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.end_id else ids

    def _check_ids(self, prompt):
        """A prompt of ids: padding and an END at its end are dropped, elsewhere they are errors."""
        ids = np.asarray(prompt)
        vocab_size = self.tokenizer.vocab_size
        are_ids = ids.ndim == 1 and ids.dtype.kind in "iu"
        if not are_ids or not ((ids >= 0) & (ids < vocab_size)).all():
            raise ValueError(
                f"`prompt` must be ids from 0 to {vocab_size - 1}, shape (time,). "
                f"Received: {prompt!r:.200}. Use the tokenizer with which the model was trained."
            )
        ids = np.trim_zeros(ids.astype(np.int32), "b")
        if len(ids) > 1 and ids[-1] == self.end_id:
            ids = ids[:-1]
        if self.start_id is not None and (not len(ids) or ids[0] != self.start_id):
            raise ValueError(
                f"`prompt` must begin with START ({self.start_id}). Received: {ids.tolist()[:20]}. "
                "`tokenizer.encode` begins with it."
            )
        special = [i for i in (PAD, self.start_id, self.end_id) if i is not None]
        if not len(ids) or np.isin(ids[1:], special).any():
            raise ValueError(
                "`prompt` must hold one piece: no PAD, START or END inside. "
                f"Received: {ids.tolist()[:20]}. Cut it there."
            )
        return ids


def pad_rows(rows):
    """Rows of ids of different lengths -> int32 (batch, time), padded with 0 at the end.

    >>> pad_rows([[1, 5], [1, 6, 7]]).tolist()
    [[1, 5, 0], [1, 6, 7]]
    """
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: len(row)] = row
    return padded


def is_many(prompt):
    """Whether this is a list of prompts, and not one prompt (of ids, perhaps)."""
    if isinstance(prompt, str | dict) or prompt is None:
        return False
    if hasattr(prompt, "__array__"):
        array = np.asarray(prompt)
        return array.ndim == 2 or (array.ndim == 1 and array.dtype.kind not in "iuf")
    if not hasattr(prompt, "__getitem__"):
        return False
    return not (len(prompt) and isinstance(prompt[0], numbers.Real))


def is_text(tokenizer):
    """Whether its served prompts and answers are strings."""
    return hasattr(tokenizer, "encode_in_graph")


def _seed_rows(seed, num_rows):
    """Seeds are 64 bits wide; a single one gives row i the seed `seed + i`."""
    seeds = whole_rows("seed", seed, num_rows, -(2**63), 2**63 - 1, np.int64)
    if np.ndim(seed) == 0:
        seeds = seeds + np.arange(num_rows)  # past the largest it goes on at the smallest
    return seeds


def _real_rows(name, value, num_rows, low, rule, high):
    values = as_rows(name, value, num_rows)
    for v in values:
        if isinstance(v, bool | str) or not np.isscalar(v) or not low <= v <= high:
            raise ValueError(f"`{name}` {rule}. Received: {name}={v!r}.")
    return np.array(values, np.float32)
