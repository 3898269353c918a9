"""A piece of music as a table of notes, and the way in and out of MIDI files.

A MIDI file is a list of messages ("key 60 goes down with force 80", "key 60 comes up") with a
clock of its own: time is counted in *ticks*, `ticks_per_quarter` of them to a quarter note, and
the tempo says how long a quarter note lasts. A network wants neither messages nor ticks, and a
musician thinks in notes. So a file becomes a `Piece`: one row a note, with the moment it starts
and the moment it ends, and beside it what gives these moments a meaning (tempo map, time
signatures) or changes how they sound (sustain pedal).

Conventions: every time in a `Piece` is in **seconds** from the beginning; `Piece.to_beats` turns
seconds into quarter-note beats and `Piece.to_seconds` back. Pitch is the MIDI number (60 = middle
C = C4), velocity 1-127, program 0-127 as in General MIDI (0 = piano), tempo in quarter notes a
minute. Ticks are never rounded twice: reading multiplies integers, writing rounds once.

What this file does not do: it keeps no controllers but the sustain pedal (64), no pitch bends, no
lyrics, no key signatures; it does not repair music (a key that never comes up is not a note).

References: the Standard MIDI Files 1.0 specification (MIDI Association, 1996); symusic
(https://github.com/Yikai-Liao/symusic) parses and writes the bytes; pretty_midi
(https://github.com/craffel/pretty-midi) is the object that users know.
"""

from __future__ import annotations

import dataclasses
import io
import os
import pathlib
import tempfile

import numpy as np
import pandas as pd

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
SUSTAIN_PEDAL = 64  # the controller's number; values from 64 on mean "down"
MAX_TICK = 2**28 - 1  # the longest wait that four bytes of a MIDI file can hold


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
    tempos: pd.DataFrame | None = None
    time_signatures: pd.DataFrame | None = None
    pedals: pd.DataFrame | None = None
    ticks_per_quarter: int = 480
    name: str = ""

    def __post_init__(self):
        def put(field, value):
            object.__setattr__(self, field, value)

        put("notes", _check_notes(_table("notes", self.notes, NOTE_DTYPES, NOTE_DEFAULTS)))
        put("tempos", _check_tempos(_table("tempos", self.tempos, TEMPO_DTYPES)))
        signatures = _table("time_signatures", self.time_signatures, TIME_SIGNATURE_DTYPES)
        put("time_signatures", _check_time_signatures(signatures))
        pedals = _table("pedals", self.pedals, PEDAL_DTYPES, {"track": 0})
        _check_times("pedals", pedals)
        put("pedals", pedals.sort_values(["start", "track", "end"], ignore_index=True))
        _check_range("ticks_per_quarter", self.ticks_per_quarter, 1, 32767)
        put("ticks_per_quarter", int(self.ticks_per_quarter))

    def __len__(self):
        """The number of notes."""
        return len(self.notes)

    def __repr__(self):
        name = f"{self.name!r}, " if self.name else ""
        return f"Piece({name}notes={len(self)}, seconds={self.duration:.1f})"

    @property
    def duration(self) -> float:
        """Seconds from 0 to the end of the last note (0.0 without notes)."""
        return float(self.notes["end"].max()) if len(self) else 0.0

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
        times = self.tempos["time"].to_numpy()
        beats_per_second = self.tempos["tempo_bpm"].to_numpy() / 60.0
        beats = np.concatenate([[0.0], np.cumsum(np.diff(times) * beats_per_second[:-1])])
        return times, beats, beats_per_second


def read_midi(source) -> Piece:
    """Reads a Standard MIDI File (format 0, 1 or 2, or one wrapped in RIFF).

    Args:
      source: the path of a file, or its `bytes`.

    Returns:
      A `Piece`. Tracks are numbered 0, 1, ... in the file's order, one for each track, channel
      and program that has notes; within a track of the file by channel, then program. (A pedal
      on a track without notes is lost.) Keys that go down twice before they come up are paired
      first down, first up.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, is no MIDI file, or has no notes; the sentence names it.
    """
    data, name, label = _read_source(source)
    if data[:4] == b"RIFF" and b"MThd" in data:  # RMID: a MIDI file inside a RIFF wrapper
        data = data[data.index(b"MThd") :]
    score = _parse(data, label)
    tracks = [track for track in score.tracks if len(track.notes)]
    if not tracks:
        raise ValueError(f"{label} is a MIDI file without notes. Leave it out, or check the file.")
    tempos, to_seconds = _read_tempos(score)
    signatures = [
        {"time": float(to_seconds(s.time)), "numerator": s.numerator, "denominator": s.denominator}
        for s in score.time_signatures
        if s.numerator >= 1 and s.denominator >= 1
    ]
    try:
        return Piece(
            pd.concat(
                [_read_notes(t, i, to_seconds) for i, t in enumerate(tracks)], ignore_index=True
            ),
            tempos=tempos,
            time_signatures=signatures,
            pedals=[
                {"start": float(to_seconds(start)), "end": float(to_seconds(end)), "track": i}
                for i, track in enumerate(tracks)
                for start, end in _pedal_spans(track)
            ],
            ticks_per_quarter=score.ticks_per_quarter,
            name=name,
        )
    except ValueError as error:
        raise ValueError(f"{label} holds impossible values and cannot be used: {error}") from None


def midi_bytes(piece: Piece) -> bytes:
    """Turns a piece into the bytes of a Standard MIDI File (format 1).

    Every time is rounded once, to the nearest of the file's ticks. A note shorter than one tick
    becomes one tick long, because most readers drop notes without a length. Each pair of track
    and program is written as one MIDI track, in ascending order (gaps in the numbering close).
    Pedals of a track without notes are left out; overlapping ones become one. Tempos are whole
    microseconds a quarter note in the file, which ends at 3.58 quarter notes a minute: a slower
    tempo is written as 3.58, and the notes keep their seconds.
    MIDI itself cannot say which of two overlapping notes of one pitch and track ends: reading
    gives the end that comes first to the note that started first.

    Raises:
      ValueError: the piece is too long for a MIDI file (over 2**28 ticks).
    """
    import symusic

    score = symusic.Score(piece.ticks_per_quarter)
    tempos, ticks = _write_tempos(piece)
    for tick, per_quarter in tempos.items():
        score.tempos.append(symusic.Tempo(tick, mspq=per_quarter))
    for tick, row in zip(
        ticks(piece.time_signatures["time"]), piece.time_signatures.itertuples(), strict=True
    ):
        score.time_signatures.append(
            symusic.TimeSignature(int(tick), int(row.numerator), int(row.denominator))
        )
    for (number, program, is_drum), notes in piece.notes.groupby(["track", "program", "is_drum"]):
        pedals = piece.pedals[piece.pedals["track"] == number]
        score.tracks.append(_write_track(notes, pedals, int(program), bool(is_drum), ticks))
    return score.dumps_midi()


def write_midi(piece: Piece, path) -> pathlib.Path:
    """Writes a piece as a .mid file, whole or not at all, and returns the path.

    Missing folders are made. See `midi_bytes` for what a MIDI file can hold.

    Raises:
      OSError: the folder cannot be written to; the sentence says what to do.
      ValueError: the piece is too long for a MIDI file.
    """
    return write_atomically(path, midi_bytes(piece))


def write_atomically(path, data: bytes) -> pathlib.Path:
    """Writes bytes under a temporary name beside `path`, then renames: never half a file."""
    path = pathlib.Path(path)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private; others are not
        os.replace(temporary, path)
    except OSError as error:
        raise type(error)(
            f"Cannot write {path}: {error.strerror or error}. "
            "Choose a folder that you may write to, on a disk with room."
        ) from error
    finally:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
    return path


def from_pretty_midi(midi) -> Piece:
    """Turns a `pretty_midi.PrettyMIDI` into a `Piece`; instruments become tracks in their order.

    Times are taken as they are, in seconds. Controllers other than the sustain pedal and pitch
    bends are left behind.
    """
    times, tempos_bpm = midi.get_tempo_changes()
    columns = ["pitch", "velocity", "start", "end", "program", "is_drum", "track"]
    notes = [
        (n.pitch, n.velocity, n.start, n.end, instrument.program, instrument.is_drum, track)
        for track, instrument in enumerate(midi.instruments)
        for n in instrument.notes
    ]
    pedals = []
    for track, instrument in enumerate(midi.instruments):
        presses = [
            (c.time, c.value) for c in instrument.control_changes if c.number == SUSTAIN_PEDAL
        ]
        last = max([n.end for n in instrument.notes], default=0.0)
        pedals += [{"start": a, "end": b, "track": track} for a, b in _spans(presses, last)]
    return Piece(
        pd.DataFrame(notes, columns=columns),
        tempos={"time": times, "tempo_bpm": tempos_bpm},
        time_signatures=[
            {"time": s.time, "numerator": s.numerator, "denominator": s.denominator}
            for s in midi.time_signature_changes
        ],
        pedals=pedals,
        ticks_per_quarter=midi.resolution,
    )


def to_pretty_midi(piece: Piece):
    """Turns a piece into a `pretty_midi.PrettyMIDI`: one instrument for each track and program."""
    import pretty_midi

    # pretty_midi has no public way to set a tempo map; a file without notes carries it.
    frame = dataclasses.replace(piece, notes=[], pedals=[])
    midi = pretty_midi.PrettyMIDI(io.BytesIO(midi_bytes(frame)))
    for (number, program, is_drum), notes in piece.notes.groupby(["track", "program", "is_drum"]):
        instrument = pretty_midi.Instrument(int(program), bool(is_drum))
        instrument.notes = [
            pretty_midi.Note(int(n.velocity), int(n.pitch), float(n.start), float(n.end))
            for n in notes.itertuples()
        ]
        pedals = piece.pedals[piece.pedals["track"] == number]
        for down, up in _merge(zip(pedals["start"], pedals["end"], strict=True)):
            for value, time in ((127, down), (0, up)):
                change = pretty_midi.ControlChange(SUSTAIN_PEDAL, value, float(time))
                instrument.control_changes.append(change)
        midi.instruments.append(instrument)
    return midi


def _read_source(source):
    """The bytes, the piece's name, and how an error message calls the source."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "", "The MIDI data"
    path = pathlib.Path(source)
    if not path.exists():
        raise FileNotFoundError(
            f"There is no file {path}. Check the path (the current folder is {pathlib.Path.cwd()})."
        )
    if path.is_dir():
        raise ValueError(f"{path} is a folder. Give the path of one MIDI file inside it.")
    try:
        return path.read_bytes(), path.stem, str(path)
    except OSError as error:
        raise type(error)(
            f"Cannot read {path}: {error.strerror}. Check that you may read the file."
        ) from error


def _parse(data, label):
    """symusic's view of the bytes, or one sentence on what is wrong with them."""
    import symusic

    if not data:
        raise ValueError(f"{label} is empty (0 bytes). Copy or download it again.")
    if data[:4] != b"MThd":
        raise ValueError(
            f"{label} is not a MIDI file: it begins with {data[:4]!r} and not with b'MThd'. "
            "Give a .mid or .midi file."
        )
    if data[12:14] == b"\0\0":
        raise ValueError(
            f"{label} is damaged: its header says that a quarter note has 0 ticks. "
            "Export it again from the program that made it."
        )
    try:
        return symusic.Score.from_midi(data)
    except (RuntimeError, ValueError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{label} is damaged or uses a form of MIDI that cannot be read ({error}). "
            "Export it again from the program that made it."
        ) from None


def _read_tempos(score):
    """The tempo map in seconds, and the function that turns ticks into seconds.

    Ticks times microseconds a quarter are whole numbers, so that the sums are exact and only
    the last division rounds. Of several tempos on one tick the last one counts.
    """
    changes = {0: round(60e6 / DEFAULT_TEMPO_BPM)}
    changes |= {t.time: t.mspq for t in score.tempos if t.time >= 0 and t.mspq > 0}
    ticks = np.array(sorted(changes), dtype=np.int64)
    per_quarter = np.array([changes[t] for t in ticks], dtype=np.int64)
    elapsed = np.concatenate([[0], np.cumsum(np.diff(ticks) * per_quarter[:-1])])

    def to_seconds(tick):
        tick = np.asarray(tick, dtype=np.int64)
        knot = np.searchsorted(ticks, tick, side="right") - 1
        exact = elapsed[knot] + (tick - ticks[knot]) * per_quarter[knot]
        return exact / (1e6 * score.ticks_per_quarter)

    return {"time": to_seconds(ticks), "tempo_bpm": 60e6 / per_quarter}, to_seconds


def _read_notes(track, number, to_seconds):
    arrays = track.notes.numpy()
    start = arrays["time"].astype(np.int64)
    return pd.DataFrame(
        {
            "pitch": arrays["pitch"].astype(np.int64),
            "velocity": arrays["velocity"].astype(np.int64),
            "start": to_seconds(start),
            "end": to_seconds(start + arrays["duration"]),
            "program": track.program,
            "is_drum": track.is_drum,
            "track": number,
        }
    )


def _pedal_spans(track):
    presses = [(c.time, c.value) for c in track.controls if c.number == SUSTAIN_PEDAL]
    return _spans(presses, track.end())


def _spans(presses, last):
    """(time, value) of a pedal's messages -> [(down, up)]; one never lifted lasts to `last`.

    >>> _spans([(0, 127), (5, 100), (9, 0), (12, 64)], 20)
    [(0, 9), (12, 20)]
    """
    spans, down = [], None
    for time, value in sorted(presses, key=lambda press: press[0]):
        if value >= 64 and down is None:
            down = time
        elif value < 64 and down is not None:
            spans.append((down, time))
            down = None
    if down is not None:
        spans.append((down, max(last, down)))
    return spans


def _merge(spans):
    """Spans in order of their starts; overlapping ones become one, touching ones stay two.

    >>> _merge([(0, 5), (3, 9), (9, 12)])
    [(0, 9), (9, 12)]
    """
    merged = []
    for start, end in spans:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _write_tempos(piece):
    """The file's tempo map {tick: microseconds a quarter}, and its function seconds -> ticks.

    The map is laid on whole ticks and whole microseconds first and the notes are then put on the
    clock that results, so that what the map loses by rounding never adds up in the notes.
    """
    units_per_second = 1e6 * piece.ticks_per_quarter  # a unit: a tick at one microsecond a quarter
    ticks, elapsed, per_quarter = [0], [0], []  # elapsed in units: whole numbers, exact sums
    for time, tempo_bpm in piece.tempos.itertuples(index=False):
        if per_quarter:  # the first row stands at 0
            wait = max(0, round((time * units_per_second - elapsed[-1]) / per_quarter[-1]))
            ticks.append(ticks[-1] + wait)
            elapsed.append(elapsed[-1] + wait * per_quarter[-1])
        per_quarter.append(_microseconds_per_quarter(tempo_bpm))
    knots, knot_ticks, rates = (np.array(v, np.float64) for v in (elapsed, ticks, per_quarter))

    def to_ticks(seconds):
        with np.errstate(over="ignore"):  # infinity is too long, as the check below says
            units = np.asarray(seconds, dtype=np.float64) * units_per_second
        knot = np.searchsorted(knots, units, side="right") - 1
        result = np.rint(knot_ticks[knot] + (units - knots[knot]) / rates[knot])
        if (longest := max(result.max(initial=0), ticks[-1])) > MAX_TICK:
            raise ValueError(
                f"`piece` must be shorter than {MAX_TICK} ticks. Received: {longest:.0f} ticks "
                f"({piece.duration:.0f} s). Cut it, or lower `ticks_per_quarter`."
            )
        return result.astype(np.int64)

    to_ticks(0.0)  # the map itself may be too long
    return dict(zip(ticks, per_quarter, strict=True)), to_ticks


def _write_track(notes, pedals, program, is_drum, ticks):
    import symusic

    track = symusic.Track("", program, is_drum)
    starts = ticks(notes["start"])
    lengths = np.maximum(ticks(notes["end"]) - starts, 1)
    track.notes = symusic.Note.from_numpy(
        time=starts.astype(np.int32),
        duration=lengths.astype(np.int32),
        pitch=notes["pitch"].to_numpy(np.int8),
        velocity=notes["velocity"].to_numpy(np.int8),
    )
    for down, up in _merge(zip(ticks(pedals["start"]), ticks(pedals["end"]), strict=True)):
        track.controls.append(symusic.ControlChange(int(down), SUSTAIN_PEDAL, 127))
        track.controls.append(symusic.ControlChange(int(up), SUSTAIN_PEDAL, 0))
    return track


def _microseconds_per_quarter(tempo_bpm):
    return int(np.clip(round(60e6 / tempo_bpm), 1, 2**24 - 1))  # three bytes in the file


def _table(name, value, dtypes, defaults=()):
    """A table with exactly the columns of `dtypes`, converted, defaults filled in."""
    if value is None or (hasattr(value, "__len__") and len(value) == 0):
        value = {column: [] for column in dtypes}
    try:
        table = pd.DataFrame(value).reset_index(drop=True)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be a table: a pandas.DataFrame, a list of dicts (rows) or a dict of "
            f"lists (columns). Received: {type(value).__name__} ({error})."
        ) from None
    for column in dtypes:
        if column in defaults:
            given = table.get(column, pd.Series(defaults[column], index=table.index))
            table[column] = given.astype(object).where(given.notna(), defaults[column])
    missing = [column for column in dtypes if column not in table]
    if missing:
        raise ValueError(
            f"`{name}` must have the columns {list(dtypes)}. Received: {list(table.columns)}. "
            f"Add {missing}."
        )
    try:
        converted = table[list(dtypes)].astype(dtypes)
        whole = [column for column, dtype in dtypes.items() if dtype == "int64"]
        cut = converted[whole] != table[whole].astype("float64")
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` must hold numbers only. Received: {error}.") from None
    if cut.to_numpy().any():
        column = cut.any().idxmax()
        raise ValueError(
            f"`{name}.{column}` must be a whole number. "
            f"Received: {table[column][cut[column]].iloc[0]}. Round it."
        )
    return converted


def _check_range(name, values, low, high):
    values = np.atleast_1d(np.asarray(values, dtype=np.float64))
    wrong = ~((values >= low) & (values <= high))
    if wrong.any():
        raise ValueError(
            f"`{name}` must be from {low} to {high}. Received: {values[wrong][0]:g}. "
            "Correct or remove the row."
        )


def _check_times(name, table):
    start, end = table["start"].to_numpy(), table["end"].to_numpy()
    wrong = ~((start >= 0) & (end >= start) & np.isfinite(end))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"`{name}` must have 0 <= start <= end, in seconds. Received: start={start[row]}, "
            f"end={end[row]} in row {row}. Correct or remove the row."
        )


def _check_notes(notes):
    _check_times("notes", notes)
    _check_range("notes.pitch", notes["pitch"], 0, 127)
    _check_range("notes.velocity", notes["velocity"], 1, 127)
    _check_range("notes.program", notes["program"], 0, 127)
    _check_range("notes.track", notes["track"], 0, 2**31)
    order = ["start", "pitch", "end", "track", "program", "velocity"]
    return notes.sort_values(order, ignore_index=True)


def _check_tempos(tempos):
    """Sorted, one row a moment (the last given counts), and one at 0."""
    _check_range("tempos.time", tempos["time"], 0, 1e12)
    _check_range("tempos.tempo_bpm", tempos["tempo_bpm"], 1e-3, 60e6)
    tempos = tempos.sort_values("time", kind="stable").drop_duplicates("time", keep="last")
    if not len(tempos) or tempos["time"].iloc[0] > 0:
        first = pd.DataFrame({"time": [0.0], "tempo_bpm": [DEFAULT_TEMPO_BPM]})
        tempos = pd.concat([first, tempos], ignore_index=True) if len(tempos) else first
    return tempos.reset_index(drop=True)


def _check_time_signatures(signatures):
    _check_range("time_signatures.time", signatures["time"], 0, 1e12)
    _check_range("time_signatures.numerator", signatures["numerator"], 1, 255)
    denominators = signatures["denominator"].to_numpy()
    wrong = ~np.isin(denominators, 2 ** np.arange(8))
    if wrong.any():
        raise ValueError(
            "`time_signatures.denominator` must be a power of two from 1 to 128. "
            f"Received: {denominators[wrong][0]}. Correct or remove the row."
        )
    signatures = signatures.sort_values("time", kind="stable")
    return signatures.drop_duplicates("time", keep="last").reset_index(drop=True)
