"""The table from which a tokenizer's vocabulary, encoder and decoder are all read.

A network sees integers. A *vocabulary* says which integer stands for what. Here it is written
down once, as rows `(type, low, high)`: each row takes the next `high - low + 1` ids. Nothing else
in the package knows at which id a type begins, so no offset can be written twice and disagree.

    rows = [("PAD", 0, 0), ("START", 0, 0), ("END", 0, 0), ("NOTE_ON", 0, 127)]
    id       0                1                2               3 ... 130
    token    PAD              START            END             NOTE_ON_0 ... NOTE_ON_127

Conventions: id 0 is always `PAD` (it fills short windows and is never learned or generated);
`START` opens a piece, so that an empty prompt is a prompt too; `END` closes it.

Reference: note-seq's performance encoding (Magenta) keeps such a table of event ranges; ours also
carries the special tokens and names every id.
"""

from __future__ import annotations

import json
import pathlib
import re

import numpy as np

from keras_music.disk import write_atomically

SPECIAL = (("PAD", 0, 0), ("START", 0, 0), ("END", 0, 0))
DRUMS = 128  # the value of `PROGRAM` that stands for drums


class Vocabulary:
    """Integer ids for the rows `(type, low, high)`; both bounds belong to the row.

    Attributes:
      row_of: for each id the number of its row; value_of: its value; kind_of: its type without a
        number: rows such as TEMPO_60 and TEMPO_120 are of one type. Shape (size,) each.

    Example:
      >>> table = Vocabulary([*SPECIAL, ("NOTE_ON", 60, 62)])
      >>> table.tokens
      ('PAD', 'START', 'END', 'NOTE_ON_60', 'NOTE_ON_61', 'NOTE_ON_62')
      >>> table.ids("NOTE_ON", [61, 62]).tolist()
      [4, 5]
    """

    def __init__(self, rows):
        self.rows = tuple((str(kind), int(low), int(high)) for kind, low, high in rows)
        sizes = [high - low + 1 for _, low, high in self.rows]
        first = np.concatenate([[0], np.cumsum(sizes)])
        self._first = {row[0]: int(start) for row, start in zip(self.rows, first, strict=False)}
        self._low = {kind: low for kind, low, _ in self.rows}
        self.size = int(first[-1])
        self.row_of = np.repeat(np.arange(len(self.rows)), sizes)
        kinds = np.array([re.sub(r"_\d.*", "", kind) for kind, _, _ in self.rows])
        self.kind_of = kinds[self.row_of]
        self.value_of = np.concatenate([np.arange(low, high + 1) for _, low, high in self.rows])
        self.tokens = tuple(
            kind if low == high == 0 else f"{kind}_{value}"
            for kind, low, high in self.rows
            for value in range(low, high + 1)
        )

    def ids(self, kind, values=0):
        """The ids of these values of one type; int32, the shape of `values`."""
        return np.asarray(np.asarray(values) - self._low[kind] + self._first[kind], np.int32)

    def is_kind(self, *kinds):
        """For each id: is it of one of these types? Bool, shape (size,).

        >>> Vocabulary([*SPECIAL, ("NOTE_ON", 60, 61)]).is_kind("NOTE_ON", "PITCH").tolist()
        [False, False, False, True, True]
        """
        return np.isin(self.kind_of, kinds)

    def check(self, ids):
        """The ids as a one-dimensional int32 array.

        Raises:
          ValueError: they are not a row of whole numbers from 0 to `size - 1`.
        """
        try:
            array = np.asarray(ids)
        except ValueError:  # rows of different lengths
            array = np.empty((0, 0))
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise ValueError(
                "`ids` must be one row of whole numbers, shape (time,). "
                f"Received: shape {array.shape}, dtype {array.dtype}."
            )
        wrong = array[(array < 0) | (array >= self.size)] if array.size else array
        if wrong.size:
            raise ValueError(
                f"`ids` must be from 0 to {self.size - 1}. Received: {wrong[0]}. "
                "Use the tokenizer with which they were made."
            )
        return array.astype(np.int32)


class Tokenizer:
    """What all tokenizers share: the vocabulary, the special tokens and their JSON file.

    A subclass sets `self.table` (a `Vocabulary` that begins with `SPECIAL`) and writes `encode`,
    `decode` and `settings` (the keyword arguments that make an equal tokenizer).
    """

    table: Vocabulary
    start_id = 1
    end_id = 2

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The tokens as readable strings; the index of each is its id."""
        return self.table.tokens

    @property
    def vocab_size(self) -> int:
        """How many ids there are, `PAD` included."""
        return self.table.size

    def tokens(self, ids) -> list[str]:
        """The readable strings of a row of ids."""
        return [self.vocabulary[i] for i in self.table.check(ids)]

    def settings(self) -> dict:
        raise NotImplementedError

    def to_json(self) -> str:
        """The tokenizer as JSON text; `keras_music.tokenizers.from_json` reads it."""
        return json.dumps({"tokenizer": type(self).__name__} | self.settings(), indent=1)

    def save(self, path) -> pathlib.Path:
        """Writes the tokenizer as a JSON file, whole or not at all."""
        return write_atomically(path, self.to_json().encode())

    def __eq__(self, other):
        return type(self) is type(other) and self.settings() == other.settings()

    __hash__ = None
