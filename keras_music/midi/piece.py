"""A piece of music as a table of notes.

A network wants neither messages nor ticks, and a musician thinks in notes. So a `Piece` has one row
a note, with the moment it starts and the moment it ends, and beside it what gives these moments a
meaning (tempo map, time signatures) or changes how they sound (sustain pedal).

Conventions: every time is in **seconds** from the beginning; `Piece.to_beats` turns seconds into
quarter-note beats and `Piece.to_seconds` back. Tempo is in quarter notes a minute.

What this file does not do: it knows nothing of files; it does not repair music, it refuses values
that no MIDI file could hold.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd

from keras_music.arguments import whole_number

NOTE_DTYPES = {
    "pitch": "int64",
    "velocity": "int64",
    "start": "float64",
    "end": "float64",
    "program": "int64",
    "is_drum": "bool",
    "track": "int64",
}
NOTE_DEFAULTS = {"velocity": 80, "program": 0, "is_drum": False, "track": 0}
TEMPO_DTYPES = {"time": "float64", "tempo_bpm": "float64"}
TIME_SIGNATURE_DTYPES = {"time": "float64", "numerator": "int64", "denominator": "int64"}
PEDAL_DTYPES = {"start": "float64", "end": "float64", "track": "int64"}

DEFAULT_TEMPO_BPM = 120.0  # what a MIDI file without a tempo means


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """One work: a table of notes, times in seconds, with its tempo map, metre and pedals.

    Args:
      notes: table (or anything `pandas.DataFrame` takes) with one row a note. Columns: `pitch`
        0-127, `start` and `end` in seconds with 0 <= start <= end; and, where absent filled in,
        `velocity` 1-127 (80), `program` 0-127 (0), `is_drum` (False), `track` >= 0 (0).
        It is sorted by start, pitch, end and track.
      tempos: table with `time` in seconds and `tempo_bpm` > 0 in quarter notes a minute; default
        and before the first row: 120.
      time_signatures: table with `time` in seconds, `numerator` 1-255, `denominator` (a power of
        two from 1 to 128).
      pedals: table with `start`, `end` in seconds and `track`: the sustain pedal is down.
      ticks_per_quarter: 1-32767, the grid on which `write_midi` puts the piece.
      name: what the piece is called in reports.

    Raises:
      ValueError: a column is missing or a value is out of range.

    Example:
      >>> piece = Piece([{"pitch": 60, "start": 0.0, "end": 0.5}])
      >>> len(piece), piece.duration, int(piece.notes.velocity[0])
      (1, 0.5, 80)
    """

    notes: pd.DataFrame
    tempos: pd.DataFrame = dataclasses.field(default_factory=list)
    time_signatures: pd.DataFrame = dataclasses.field(default_factory=list)
    pedals: pd.DataFrame = dataclasses.field(default_factory=list)
    ticks_per_quarter: int = 480
    name: str = ""

    def __post_init__(self):
        ticks = whole_number("ticks_per_quarter", self.ticks_per_quarter, 1, 32767)
        object.__setattr__(self, "ticks_per_quarter", ticks)
        arrays = {}
        for table, (dtypes, defaults, check) in TABLES.items():
            arrays[table] = check(_columns(table, self.__dict__.pop(table), dtypes, defaults))
        object.__setattr__(self, "_arrays", arrays)

    def __getattr__(self, table):
        """A table, made when it is first asked for: pandas is slow, and most are never seen."""
        if table not in TABLES:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {table!r}")
        arrays = self._arrays  # first this and then the table: another thread may be making it
        if table not in vars(self):
            vars(self).setdefault(table, pd.DataFrame(arrays[table]))
            # From here on the table alone counts: whoever has it may change it.
            others = {name: columns for name, columns in arrays.items() if name != table}
            object.__setattr__(self, "_arrays", others)
        return vars(self)[table]

    def columns(self, table: str) -> dict[str, np.ndarray]:
        """The columns of `notes`, `tempos`, `time_signatures` or `pedals` as arrays, by name.

        They are the same numbers as in the table, and come without pandas, which is faster. They
        are for reading only.

        >>> Piece([{"pitch": 60, "start": 0.0, "end": 0.5}]).columns("notes")["pitch"].tolist()
        [60]
        """
        arrays = self._arrays
        if table in TABLES and table not in vars(self):
            return arrays[table]
        frame = getattr(self, table)
        return {name: frame[name].to_numpy() for name in TABLES[table][0]}

    def __len__(self):
        """The number of notes."""
        return len(self.columns("notes")["pitch"])

    def __repr__(self):
        name = f"{self.name!r}, " if self.name else ""
        return f"Piece({name}notes={len(self)}, seconds={self.duration:.1f})"

    @property
    def duration(self) -> float:
        """Seconds from 0 to the end of the last note (0.0 without notes)."""
        return float(self.columns("notes")["end"].max(initial=0.0))

    def crop(self, end: float) -> Piece:
        """The piece up to `end` (seconds): later notes are left out, sounding ones end there.

        >>> piece = Piece({"pitch": [60, 62], "start": [0.0, 1.0], "end": [1.0, 2.0]})
        >>> piece.crop(1.5).notes.end.tolist()
        [1.0, 1.5]
        """
        if not end > 0:
            raise ValueError(f"`end` must be > 0 seconds. Received: end={end}.")

        def cut(spans):
            return spans[spans["start"] < end].assign(end=lambda s: s["end"].clip(upper=end))

        return dataclasses.replace(
            self,
            notes=cut(self.notes),
            pedals=cut(self.pedals),
            tempos=self.tempos[self.tempos["time"] < end],
            time_signatures=self.time_signatures[self.time_signatures["time"] < end],
        )

    def transpose(self, semitones: int) -> Piece:
        """The piece so many semitones higher (or lower, if negative); drums stay as they are.

        Raises:
          ValueError: a note would leave the range of MIDI pitches, 0-127.

        >>> Piece([{"pitch": 60, "start": 0.0, "end": 1.0}]).transpose(-2).notes.pitch.tolist()
        [58]
        """
        pitch = self.notes["pitch"] + int(semitones) * ~self.notes["is_drum"]
        return dataclasses.replace(self, notes=self.notes.assign(pitch=pitch))

    def to_beats(self, seconds):
        """Turns seconds into quarter-note beats by the tempo map; any shape, float64.

        >>> float(Piece([], tempos=[{"time": 0, "tempo_bpm": 60}]).to_beats(2.5))
        2.5
        """
        times, beats, beats_per_second = self._tempo_knots()
        seconds = np.asarray(seconds, dtype=np.float64)
        knot = np.maximum(np.searchsorted(times, seconds, side="right") - 1, 0)
        return beats[knot] + (seconds - times[knot]) * beats_per_second[knot]

    def to_seconds(self, beats):
        """Turns quarter-note beats into seconds by the tempo map; any shape, float64."""
        times, knot_beats, beats_per_second = self._tempo_knots()
        beats = np.asarray(beats, dtype=np.float64)
        knot = np.maximum(np.searchsorted(knot_beats, beats, side="right") - 1, 0)
        return times[knot] + (beats - knot_beats[knot]) / beats_per_second[knot]

    def _tempo_knots(self):
        """Where the tempo changes: seconds, beats, and beats a second from there on."""
        times, tempo_bpm = self.columns("tempos").values()
        beats_per_second = tempo_bpm / 60.0
        beats = np.concatenate([[0.0], np.cumsum(np.diff(times) * beats_per_second[:-1])])
        return times, beats, beats_per_second


def check_piece(piece, *, needs_notes=False):
    """Raises a ValueError unless this is one `Piece`, with a note in it if `needs_notes`."""
    if not isinstance(piece, Piece):
        raise ValueError(
            f"`piece` must be a Piece. Received: {type(piece).__name__}. "
            "Read a MIDI file with `keras_music.read_midi(path)`; give pieces one by one."
        )
    if needs_notes and not len(piece):
        raise ValueError(
            f"`piece` must have at least one note. Received: {piece!r}. "
            "Generate more tokens, or give another piece."
        )


def _columns(name, value, dtypes, defaults):
    """Exactly the columns of `dtypes` as arrays, converted, defaults filled in.

    Arrays that are right already do not go through pandas, where each step between two tables takes
    a millisecond, which is longer than reading or decoding a piece.
    """
    if value is None or (hasattr(value, "__len__") and len(value) == 0):
        return {column: np.empty(0, dtype) for column, dtype in dtypes.items()}
    arrays = _as_they_are(value, dtypes, defaults)
    if arrays is None:
        value = _to_frame(name, value, dtypes, defaults)
        arrays = {
            column: _column(f"{name}.{column}", value[column], dtype, column, defaults)
            for column, dtype in dtypes.items()
            if column in value
        }
    size = len(next(iter(arrays.values())))
    return {
        column: arrays[column] if column in arrays else np.full(size, defaults[column], dtype)
        for column, dtype in dtypes.items()
    }


def _as_they_are(value, dtypes, defaults):
    """The columns of a dict of arrays of such types, all of one length; None if it is no such."""
    if not isinstance(value, dict):
        return None
    arrays, shape = {}, None
    for column, dtype in dtypes.items():
        array = value.get(column)
        if array is None and column in defaults:
            continue
        if not isinstance(array, np.ndarray) or array.shape != (shape or (*array.shape, 0)[:1]):
            return None
        if array.dtype != dtype:
            if array.dtype != np.int32 or dtype != "int64":
                return None
            array = array.astype(np.int64)
        arrays[column], shape = array, array.shape
    return arrays


def _to_frame(name, value, dtypes, defaults):
    """What pandas makes of it, if that has all columns that are needed."""
    try:
        table = value if isinstance(value, pd.DataFrame) else pd.DataFrame(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be a table: a pandas.DataFrame, a list of dicts (rows) or a dict of "
            f"lists (columns). Received: {type(value).__name__} ({error})."
        ) from None
    missing = [column for column in dtypes if column not in table and column not in defaults]
    if missing:
        raise ValueError(
            f"`{name}` must have the columns {list(dtypes)}. Received: {list(table.columns)}. "
            f"Add {missing}."
        )
    return table


def _in_order(columns, order):
    """The rows of these columns in this order; arrays of the piece's own."""
    return {name: values[order] for name, values in columns.items()}


def _last_of_each(time):
    """The order of these times, of equal ones the last given only."""
    if len(time) < 2:  # as most pieces have it
        return np.arange(len(time))
    order = np.argsort(time, kind="stable")
    return order[np.append(np.diff(time[order]) != 0, True)[: len(order)]]


def _column(name, values, dtype, column, defaults):
    """One column as an array of this dtype; whole numbers are not cut, gaps get the default."""
    if values.dtype == dtype:
        return values.to_numpy(copy=True)
    if column in defaults and (gaps := values.isna()).any():
        values = values.astype(object).where(~gaps, defaults[column])
    try:
        converted = values.astype(dtype).to_numpy()
        given = values.to_numpy(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must hold numbers only. Received: {error}.") from None
    if dtype == "int64" and (cut := converted != given).any():
        raise ValueError(f"`{name}` must be a whole number. Received: {given[cut][0]}. Round it.")
    return converted


def _check_range(name, values, low, high):
    if not len(values) or (values.min() >= low and values.max() <= high):
        return
    wrong = ~((values >= low) & (values <= high))
    raise ValueError(
        f"`{name}` must be from {low} to {high}. Received: {values[wrong][0]:g}. "
        "Correct or remove the row."
    )


def _check_times(name, table):
    start, end = table["start"], table["end"]
    wrong = ~((start >= 0) & (end >= start) & np.isfinite(end))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"`{name}` must have 0 <= start <= end, in seconds. Received: start={start[row]}, "
            f"end={end[row]} in row {row}. Correct or remove the row."
        )


def _notes(notes):
    """The table of notes, in order of start, pitch, end and track."""
    _check_times("notes", notes)
    _check_range("notes.pitch", notes["pitch"], 0, 127)
    _check_range("notes.velocity", notes["velocity"], 1, 127)
    _check_range("notes.program", notes["program"], 0, 127)
    _check_range("notes.track", notes["track"], 0, 2**31)
    return _in_order(notes, _note_order(**notes))


def _note_order(pitch, velocity, start, end, program, is_drum, track):
    """The order of notes by start and pitch; only where both are equal the rest is looked at."""
    order = np.arange(len(start))
    later, higher = np.diff(start), np.diff(pitch)
    if (later < 0).any() or (higher[later == 0] < 0).any():
        order = np.lexsort([pitch, start])  # the last one counts most
        later, higher = np.diff(start[order]), np.diff(pitch[order])
    is_tie = (later == 0) & (higher == 0)
    if is_tie.any():
        places = np.flatnonzero(np.append(is_tie, False) | np.append(False, is_tie))
        tied = order[places]
        keys = [velocity, program, track, end, pitch, start]
        order[places] = tied[np.lexsort([key[tied] for key in keys])]
    return order


def _tempos(tempos):
    """The table of tempos, one row a moment (the last given counts), and one at 0."""
    _check_range("tempos.time", tempos["time"], 0, 1e12)
    _check_range("tempos.tempo_bpm", tempos["tempo_bpm"], 1e-3, 60e6)
    if not (tempos["time"] == 0).any():
        first = {"time": 0.0, "tempo_bpm": DEFAULT_TEMPO_BPM}
        tempos = {column: np.append(first[column], values) for column, values in tempos.items()}
    return _in_order(tempos, _last_of_each(tempos["time"]))


def _time_signatures(signatures):
    """The table of time signatures, one row a moment (the last given counts)."""
    _check_range("time_signatures.time", signatures["time"], 0, 1e12)
    _check_range("time_signatures.numerator", signatures["numerator"], 1, 255)
    denominators = signatures["denominator"]
    if wrong := set(denominators.tolist()) - {1, 2, 4, 8, 16, 32, 64, 128}:
        raise ValueError(
            "`time_signatures.denominator` must be a power of two from 1 to 128. "
            f"Received: {min(wrong)}. Correct or remove the row."
        )
    return _in_order(signatures, _last_of_each(signatures["time"]))


def _pedals(pedals):
    _check_times("pedals", pedals)
    return _in_order(pedals, np.lexsort([pedals[key] for key in ("end", "track", "start")]))


# The tables of a piece: the columns, what is filled in, and what makes them right.
TABLES = {
    "notes": (NOTE_DTYPES, NOTE_DEFAULTS, _notes),
    "tempos": (TEMPO_DTYPES, {}, _tempos),
    "time_signatures": (TIME_SIGNATURE_DTYPES, {}, _time_signatures),
    "pedals": (PEDAL_DTYPES, {"track": 0}, _pedals),
}
