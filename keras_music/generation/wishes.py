"""What a musician may ask of a piece before it is written, as numbers for the graph.

    generate(pitch_classes="A minor")             only C D E F G A B begin
    generate(pitch_classes=[0, 2, 4, 7, 9])       a pentatonic scale on C
    generate(pitch_range=(48, 72))                two octaves
    generate(max_notes_per_second=8)              however hasty the network is
    generate(max_repeats=2)                       never one pitch three times in a row

Nothing is trained for it: `rules` masks what was not asked for. With many prompts each may be a
list with one wish a prompt (None: no wish).

Conventions: pitch class 0 is C, 1 C sharp or D flat, ... 11 B; pitch 60 is the middle C. Minor is
natural minor. Drums have no pitch, and only the ceiling of notes holds for them. Programs, and
the voices of a chorale, repeat each for itself.

What this file does not do: it masks nothing. No TensorFlow here: a client of a server asks alike.
"""

from __future__ import annotations

import numbers

import numpy as np

from keras_music.arguments import whole_number

LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
ACCIDENTALS = {"": 0, "#": 1, "b": -1}
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
}
KNOWN_WISHES = ("pitch_classes", "pitch_range", "max_notes_per_second", "max_repeats")
# The same as inputs of the graph, each with one value a row.
WISHES = ("pitch_classes", "lowest_pitch", "highest_pitch", "max_notes_per_second", "max_repeats")
MOST_NOTES = 64  # the largest ceiling of notes a second: so many onsets are remembered


def wish_rows(
    num_rows, *, pitch_classes=None, pitch_range=None, max_notes_per_second=None, max_repeats=None
):
    """The wishes as arrays with one value a row, by the names of the served inputs.

    Returns:
      A dict of int32 arrays: `pitch_classes` (rows, 12) of 0 and 1; `lowest_pitch`,
      `highest_pitch`, `max_notes_per_second` (0: no limit) and `max_repeats` (0: no limit) (rows,).

    Raises:
      ValueError: a wish cannot be understood; TypeError: there is no such wish.

    >>> {name: rows.tolist() for name, rows in wish_rows(1, pitch_range=(60, 72)).items()}
    ... # doctest: +NORMALIZE_WHITESPACE
    {'pitch_classes': [[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]], 'lowest_pitch': [60],
     'highest_pitch': [72], 'max_notes_per_second': [0], 'max_repeats': [0]}
    """
    ranges = [_range(r) for r in _each("pitch_range", pitch_range, num_rows)]
    classes = [_classes(c) for c in _each("pitch_classes", pitch_classes, num_rows)]
    for row, (low, high) in zip(classes, ranges, strict=True):
        if not any(row[pitch % 12] for pitch in range(low, high + 1)):
            raise ValueError(
                "`pitch_classes` and `pitch_range` must leave a pitch. Received: the classes "
                f"{[c for c in range(12) if row[c]]} and the range {(low, high)}. Widen the range."
            )
    rows = {
        "pitch_classes": np.array(classes, np.int32),
        "lowest_pitch": np.array([low for low, _ in ranges], np.int32),
        "highest_pitch": np.array([high for _, high in ranges], np.int32),
    }
    for name, value, most in (
        ("max_notes_per_second", max_notes_per_second, MOST_NOTES),
        ("max_repeats", max_repeats, 2**31 - 1),
    ):
        values = as_rows(name, value, num_rows)
        limits = [0 if v is None else whole_number(name, v, 1, most) for v in values]
        rows[name] = np.array(limits, np.int32)
    return rows


def as_rows(name, value, num_rows):
    """A control as a list with one value a row."""
    values = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, list | tuple):
        return [values] * num_rows
    if len(values) != num_rows:
        raise ValueError(
            f"`{name}` must be one value, or one for each of the {num_rows} prompts. "
            f"Received: {len(values)} values."
        )
    return list(values)


def whole_rows(name, value, num_rows, low, high, dtype=np.int32):
    """A control of whole numbers as an array with one value a row."""
    values = [whole_number(name, v, low, high) for v in as_rows(name, value, num_rows)]
    return np.array(values, dtype)


def _each(name, wish, num_rows):
    """A wish that is itself a list of numbers, or a list of such wishes, one a row."""
    wish = wish.tolist() if hasattr(wish, "tolist") else wish
    if isinstance(wish, list | tuple) and not all(isinstance(w, numbers.Real) for w in wish):
        return as_rows(name, wish, num_rows)
    return [wish] * num_rows


def _range(wish):
    if wish is None:
        return 0, 127
    try:
        low, high = (whole_number("pitch_range", pitch, 0, 127) for pitch in wish)
    except (TypeError, ValueError):
        low, high = 1, 0
    if low > high:
        raise ValueError(
            "`pitch_range` must be (lowest, highest), MIDI pitches from 0 to 127. "
            f"Received: {wish!r}. The middle C is 60."
        )
    return low, high


def _classes(wish):
    """A key's name or numbers 0-11 as twelve numbers, 1 for the pitch classes that may begin."""
    if wish is None:
        return [1] * 12
    try:
        given = list(_scale(wish) if isinstance(wish, str) else wish)
        classes = {whole_number("pitch_classes", c, 0, 11) for c in given}
    except (TypeError, ValueError):
        given, classes = [], set()
    if not classes or len(given) > len(classes):  # twelve flags, perhaps: not meant as numbers
        raise ValueError(
            "`pitch_classes` must be a key such as 'C major', 'F# minor' or 'Bb harmonic minor', "
            f"or different numbers from 0 (C) to 11 (B), at least one. Received: {wish!r}."
        )
    return [int(c in classes) for c in range(12)]


def _scale(name):
    """'A minor' -> its pitch classes; empty if the name is none."""
    tonic, _, scale = " ".join(name.lower().split()).partition(" ")
    letter, accidental = tonic[:1].upper(), tonic[1:]
    if letter not in LETTERS or accidental not in ACCIDENTALS or scale not in SCALES:
        return set()
    first = LETTERS[letter] + ACCIDENTALS[accidental]
    return {(first + step) % 12 for step in SCALES[scale]}
