"""A corpus: pieces of one kind, a report on them, and a split in which nothing leaks.

To keep copies of a work together, `Corpus.split` must recognise them. It gives every piece a few
*fingerprints*, and pieces with a fingerprint in common are one group. If A agrees with B, and B
with C, all three are one group, though A and C have nothing in common; groups are therefore the
trees of a forest, which a common fingerprint joins at the roots (*union-find*).

Conventions: times in a `Piece` are in **seconds**; fingerprints count quarter-note **beats**, so
that the tempo does not matter. Pieces keep the order they were given in.

What this file does not do: it reads no file, and it does not recognise a variation.

References: B. Galler, M. Fischer, "An Improved Equivalence Algorithm" (1964), for the forest;
S. Kapoor, A. Narayanan, "Leakage and the Reproducibility Crisis in Machine-Learning-Based Science"
(2023), for what becomes of results where training data stands in the test.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import numbers
import operator
from collections.abc import Sequence

import numpy as np

from keras_music.corpora.report import Report
from keras_music.midi import Piece

TICKS_PER_BEAT = 96  # the grid on which `split` compares onsets: exact for 32nds and triplets
SAME_MUSIC_NOTES = 16  # fewer equal notes than this may be chance
SIDES = ("train", "valid", "test")
SHARES = (0.8, 0.1, 0.1)


class Corpus(Sequence):
    """A sequence of pieces of one kind, with a report and a split that does not leak.

    Args:
      pieces: `Piece`s or `str`s, not both.
      name: what the corpus is called.
      names: one `str` a piece; default: the pieces' own, else "name[0]", "name[1]", ...
      dropped: what was looked at and left out, for the report: dicts with `name`, `reason` and,
        where they are known, `notes` and `seconds` or `characters`.
      keys: one `str` a piece; equal keys mean "the same music". Default: `split` compares the
        pieces themselves.
      rows: one dict a piece: what more the report says of it, a column for each key. Those in
        `dropped` may have the same keys.
      sides: "train", "valid" or "test" for each piece, where others have split this corpus before
        and results are compared with theirs: `split` gives these sides.
      empty: why there are no pieces, for the error message of an empty corpus.

    Raises:
      ValueError: pieces of two kinds; as many names, keys, rows or sides as there are not pieces.

    Example:
      >>> corpus = Corpus(["do re mi", "fa sol la"], name="scales")
      >>> corpus, corpus[0]
      (Corpus('scales', 2 texts, 17 characters), 'do re mi')
    """

    def __init__(
        self,
        pieces,
        *,
        name="corpus",
        names=None,
        dropped=(),
        keys=None,
        rows=None,
        sides=None,
        empty="",
    ):
        if isinstance(pieces, str | Piece):
            raise ValueError(
                f"`pieces` must be a list of pieces. Received: one {type(pieces).__name__}. "
                "Put it into a list: Corpus([piece])."
            )
        self._pieces = tuple(pieces)
        kinds = {str if isinstance(piece, str) else type(piece) for piece in self._pieces}
        if len(kinds) > 1 or not kinds <= {str, Piece}:
            raise ValueError(
                "`pieces` must be all `Piece` or all `str`. "
                f"Received: {sorted(kind.__name__ for kind in kinds)}. "
                "Make one corpus for each kind; `read_midi` turns a file into a `Piece`."
            )
        if names is None:
            own = [getattr(piece, "name", "") for piece in self._pieces]
            names = [text or f"{name}[{i}]" for i, text in enumerate(own)]
        lists = {"names": names, "keys": keys, "rows": rows, "sides": sides}
        for argument, values in lists.items():
            if values is not None and len(values) != len(self._pieces):
                raise ValueError(
                    f"`{argument}` must have one entry for each of the {len(self._pieces)} pieces. "
                    f"Received: {len(values)} entries. Leave it out to have it filled in."
                )
        self.name = name
        self.names = tuple(names)
        self._is_text = kinds == {str}
        self._dropped = tuple(dropped)
        self._keys = None if keys is None else tuple(keys)
        self._rows = ({},) * len(self._pieces) if rows is None else tuple(rows)
        self._sides = None if sides is None else tuple(sides)
        if unknown := set(self._sides or ()) - set(SIDES):
            raise ValueError(
                f"`sides` must be of {SIDES}. Received: {sorted(map(str, unknown))}. Rename them."
            )
        self.empty_reason = empty or "it was made from no pieces"

    def __len__(self):
        return len(self._pieces)

    def __iter__(self):
        return iter(self._pieces)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._subset(range(len(self))[index], self.name)
        if not self._pieces:
            raise IndexError(f"Corpus {self.name!r} is empty: {self.empty_reason}.")
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"Corpus {self.name!r} has {len(self)} pieces. Received: {index}.")
        return self._pieces[index]

    def __repr__(self):
        if not self._pieces:
            return f"Corpus({self.name!r}, empty)"
        count = f"{len(self)} {'text' if self._is_text else 'piece'}{'s' if len(self) > 1 else ''}"
        total = sum(map(len, self._pieces))
        left_out = f", {len(self._dropped)} left out: see .report" if self._dropped else ""
        if self._is_text:
            return f"Corpus({self.name!r}, {count}, {total} characters{left_out})"
        minutes = sum(piece.duration for piece in self._pieces) / 60
        return f"Corpus({self.name!r}, {count}, {total} notes, {minutes:.0f} minutes{left_out})"

    @functools.cached_property
    def report(self) -> Report:
        """A table with one row a piece, kept ones first, then those that were left out.

        Columns: `name`; `notes` and `seconds` (text: `characters`); `kept`; `reason` (why it was
        left out); `same_as` (the first piece that has the same music, "" if there is none); and
        what else is known of the pieces of this corpus. `report.summary()` counts what is in it.
        """
        rows = [
            {
                **self._rows[index],
                "name": self.names[index],
                "characters" if self._is_text else "notes": len(piece),
                "seconds": getattr(piece, "duration", 0.0),
                "kept": True,
                "reason": "",
                "same_as": "" if group == index else self.names[group],
            }
            for index, (piece, group) in enumerate(zip(self._pieces, self._groups(), strict=True))
        ]
        unknown = {"notes": 0, "seconds": 0.0, "characters": 0, "kept": False, "same_as": ""}
        rows += [{**unknown, **row} for row in self._dropped]
        counts = ["characters"] if self._is_text else ["notes", "seconds"]
        columns = ["name", *counts, "kept", "reason", "same_as"]
        columns += [key for row in rows for key in row if key not in unknown]
        return Report(rows, columns=list(dict.fromkeys(columns)))

    def split(self, seed=0, fractions=SHARES):
        """Splits by piece into train, validation and test, so that no music is on two sides.

        Two pieces count as the same music if their onsets and pitches agree, in any key, in the
        whole or in one whole quarter of the piece (16 notes or more): a copy with a few corrected
        notes or other note lengths is still a copy. Another harmonisation of the same hymn is not.
        Texts are the same if their characters are. Each group of such pieces goes to the side that
        has least of its share so far, in an order drawn from the names by SHA-256: the result
        is the same on every computer, and no side is empty while there are groups enough.

        A corpus of one long text is cut by characters instead: the last `fractions[1]` of it
        validates, all before trains, the test corpus is empty. With the defaults that is the 90 %
        and 10 % that everybody uses for tiny Shakespeare. A corpus with `sides` of its own, such as
        MAESTRO, gives these, whatever the seed.

        Args:
          seed: int; another seed, another split.
          fractions: three shares >= 0 of train, validation and test, by number of pieces; sum 1.

        Returns:
          Three `Corpus`, the pieces in the order they had.

        Raises:
          ValueError: `seed` or `fractions` is out of range, or the corpus has `sides` and other
            fractions are asked for.
        """
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise ValueError(f"`seed` must be an int. Received: seed={seed!r}. Try seed=0.")
        shares = three_shares(fractions)
        if self._sides is not None:
            return self._split_by_sides(shares)
        if self._is_text and len(self) == 1:
            return self._split_text(shares[1])
        groups = collections.defaultdict(list)
        for index, group in enumerate(self._groups()):
            groups[group].append(index)
        sides = ([], [], [])
        open_sides = [side for side in range(3) if shares[side] > 0]
        for group in sorted(groups, key=self._draws(seed).__getitem__):
            side = min(open_sides, key=lambda side: len(sides[side]) / shares[side])
            sides[side].extend(groups[group])
        return tuple(
            self._subset(sorted(side), f"{self.name}/{label}")
            for side, label in zip(sides, SIDES, strict=True)
        )

    def _split_by_sides(self, shares):
        if shares != SHARES:
            raise ValueError(
                f"`fractions` must be left out: {self.name!r} has a split of its own. Received: "
                f"fractions={shares}. To split it otherwise: Corpus(list(corpus)).split(...)."
            )
        indices = {side: [i for i, own in enumerate(self._sides) if own == side] for side in SIDES}
        return tuple(
            self._subset(indices[side], f"{self.name}/{side}", keep_sides=False) for side in SIDES
        )

    def _split_text(self, valid_share):
        text, name = self._pieces[0], self.name
        cut = len(text) - round(len(text) * valid_share)
        why = "one long text is split into train and valid only; use valid, or more than one text"
        train, valid = (
            Corpus([part] if part else [], name=f"{name}/{label}", names=self.names if part else ())
            for label, part in (("train", text[:cut]), ("valid", text[cut:]))
        )
        return train, valid, Corpus([], name=f"{name}/test", empty=why)

    def _subset(self, indices, name, keep_sides=True):
        sides = self._sides if keep_sides else None
        return Corpus(
            [self._pieces[i] for i in indices],
            name=name,
            names=[self.names[i] for i in indices],
            keys=None if self._keys is None else [self._keys[i] for i in indices],
            rows=[self._rows[i] for i in indices],
            sides=None if sides is None else [sides[i] for i in indices],
            empty=f"the {len(self)} pieces of {self.name!r} left none for it",
        )

    def _draws(self, seed):
        """One reproducible random number a piece; pieces of one name get different ones."""
        seen = collections.Counter()
        draws = []
        for name in self.names:
            draws.append(hashlib.sha256(f"{seed}:{seen[name]}:{name}".encode()).hexdigest())
            seen[name] += 1
        return draws

    def _groups(self):
        """One number a piece: the index of the first piece with the same music."""
        if self._keys is not None:
            fingerprints = [[key] for key in self._keys]
        else:
            fingerprints = [_fingerprints(piece) for piece in self._pieces]
        parents = list(range(len(self)))  # a forest: every root stands for one group

        def root(index):
            while parents[index] != index:
                index = parents[index]
            return index

        seen = {}
        for index, marks in enumerate(fingerprints):
            for mark in marks:
                low, high = sorted((root(index), root(seen.setdefault(mark, index))))
                parents[high] = low
        return [root(index) for index in range(len(self))]


def three_shares(fractions) -> tuple[float, float, float]:
    """The shares of train, validation and test, as floats.

    Raises:
      ValueError: they are not three numbers >= 0 whose sum is 1.

    >>> three_shares([1, 0, 0])
    (1.0, 0.0, 0.0)
    """
    try:
        given = tuple(fractions)
        are_numbers = all(isinstance(share, numbers.Real) for share in given)
        shares = tuple(map(float, given)) if are_numbers else ()
    except (TypeError, OverflowError):
        shares = ()
    if len(shares) != 3 or not min(shares) >= 0 or not abs(sum(shares) - 1) < 1e-6:
        raise ValueError(
            "`fractions` must be three numbers >= 0 that add up to 1. "
            f"Received: fractions={fractions!r}. Try fractions=(0.8, 0.1, 0.1)."
        )
    return shares


def music_of(piece: Piece) -> np.ndarray:
    """The onsets of a piece, whatever its key and tempo; int64, shape (onsets, 2), sorted.

    Each row is an onset in 96ths of a beat after the first and a pitch in semitones above the
    lowest. Unisons count once; note lengths, tracks and velocities do not count.
    """
    notes = piece.columns("notes")
    onsets = np.rint(piece.to_beats(notes["start"]) * TICKS_PER_BEAT).astype(np.int64)
    music = np.unique(np.stack([onsets, notes["pitch"]], axis=1), axis=0)
    return music - music.min(axis=0)


def _fingerprints(piece) -> list:
    """Marks of a piece; two pieces with a mark in common have the same music.

    A text is its own mark. A `Piece` has up to five: its `music_of` as a whole, and that of each
    quarter of it (by time) that has 16 notes or more.
    """
    if isinstance(piece, str):
        return [piece.strip()]
    if not len(piece):
        return ["no notes"]
    notes = music_of(piece)
    quarters = notes[:, 0] * 4 // (notes[-1, 0] + 1)  # (notes,), 0 to 3
    parts = [(quarter, notes[quarters == quarter]) for quarter in range(4)]
    parts = [(quarter, part) for quarter, part in parts if len(part) >= SAME_MUSIC_NOTES]
    marks = [("whole", notes), *parts]
    return [(where, (part - part.min(axis=0)).tobytes()) for where, part in marks]
