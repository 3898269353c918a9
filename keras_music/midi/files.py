"""Standard MIDI Files: bytes to a `Piece`, and back.

A MIDI file is a list of messages ("key 60 goes down with force 80", "key 60 comes up") with a
clock of its own: time is counted in *ticks*, `ticks_per_quarter` of them to a quarter note, and
the tempo says how long a quarter note lasts. Reading pairs the messages into notes and turns ticks
into seconds; writing goes back. Ticks are never rounded twice: reading multiplies whole numbers
and divides once, writing rounds once.

What this file does not do: it keeps no controllers but the sustain pedal (64), no pitch bends, no
lyrics, no key signatures; a key that never comes up is not a note.

References: the Standard MIDI Files 1.0 specification (MIDI Association, 1996); symusic
(https://github.com/Yikai-Liao/symusic) parses and writes the bytes.
"""

from __future__ import annotations

import pathlib

import numpy as np

from keras_music.disk import write_atomically
from keras_music.midi.piece import DEFAULT_TEMPO_BPM, Piece, check_piece
from keras_music.midi.running_status import with_status

SUSTAIN_PEDAL = 64  # the controller's number; values from 64 on mean "down"
MAX_TICK = 2**28 - 1  # the longest wait that four bytes of a MIDI file can hold


def read_midi(source, name=None) -> Piece:
    """Reads a Standard MIDI File (format 0, 1 or 2, or one wrapped in RIFF).

    A file whose clock counts film frames (SMPTE) has no beats: each second is read as one.

    Args:
      source: the path of a file, or its `bytes`.
      name: the piece's name; default: the file's without its suffix, "" for bytes.

    Returns:
      A `Piece`. Tracks are numbered 0, 1, ... in the file's order, one for each track, channel
      and program that has notes; within a track of the file by channel, then program. (A pedal
      on a track without notes is lost.) Keys that go down twice before they come up are paired
      first down, first up.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, is no MIDI file, or has no notes; the sentence names it.
    """
    data, own_name, label = _read_source(source)
    if data[:4] == b"RIFF" and b"MThd" in data:  # RMID: a MIDI file inside a RIFF wrapper
        data = data[data.index(b"MThd") :]
    data, film_tempo = _without_film_clock(with_status(data))
    score = _parse(data, label)
    tracks = [track for track in score.tracks if len(track.notes)]
    if not tracks:
        raise ValueError(f"{label} is a MIDI file without notes. Leave it out, or check the file.")
    tempos, to_seconds = _read_tempos(score, film_tempo)
    try:
        return Piece(
            _read_notes(tracks, to_seconds),
            tempos=tempos,
            time_signatures=_read_signatures(score, to_seconds),
            pedals=_read_pedals(tracks, to_seconds),
            ticks_per_quarter=score.ticks_per_quarter,
            name=own_name if name is None else name,
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

    check_piece(piece)
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
    if not score.tracks:  # symusic sorts tempos and signatures into a track, if there is one
        score.tracks.append(symusic.Track("", 0, False))
    return score.dumps_midi()


def write_midi(piece: Piece, path) -> pathlib.Path:
    """Writes a piece as a .mid file, whole or not at all, and returns the path.

    Missing folders are made. See `midi_bytes` for what a MIDI file can hold.

    Raises:
      OSError: the folder cannot be written to; the sentence says what to do.
      ValueError: the piece is too long for a MIDI file.
    """
    return write_atomically(path, midi_bytes(piece))


def _read_source(source):
    """The bytes, the piece's name, and how an error message calls the source."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "", "The MIDI data"
    path = pathlib.Path(source).expanduser()
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


def _without_film_clock(data):
    """The same file with a clock of ticks a quarter note, and its only tempo; else None.

    SMPTE time: the first byte of the clock is the number of frames a second, negative, the second
    one that of ticks a frame. 29 means 30 frames in 1.001 s, the time of colour television.
    """
    frames = {232: 24, 231: 25, 227: 30, 226: 30}.get(data[12] if len(data) > 13 else 0)
    if frames is None or data[:4] != b"MThd":
        return data, None
    clock = (frames * data[13]).to_bytes(2, "big")
    return data[:12] + clock + data[14:], 1_001_000 if data[12] == 227 else 1_000_000


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


def _read_tempos(score, film_tempo):
    """The tempo map in seconds, and the function that turns ticks into seconds.

    Ticks times microseconds a quarter are whole numbers, so that the sums are exact and only
    the last division rounds. Of several tempos on one tick the last one counts.
    """
    given = score.tempos.numpy()
    changes = {0: round(60e6 / DEFAULT_TEMPO_BPM)}
    for time, mspq in zip(given["time"].tolist(), given["mspq"].tolist(), strict=True):
        if time >= 0 and mspq > 0:
            changes[time] = mspq
    if film_tempo:  # the tempos in such a file are for the eye
        changes = {0: film_tempo}
    ticks, per_quarter = np.array(sorted(changes.items()), np.int64).T
    elapsed = np.cumsum(np.append(0, np.diff(ticks) * per_quarter[:-1]))

    def to_seconds(tick):
        tick = np.asarray(tick, dtype=np.int64)
        if len(ticks) == 1:  # as most files have it
            return tick * per_quarter / (1e6 * score.ticks_per_quarter)
        knot = np.searchsorted(ticks, tick, side="right") - 1
        exact = elapsed[knot] + (tick - ticks[knot]) * per_quarter[knot]
        return exact / (1e6 * score.ticks_per_quarter)

    return {"time": to_seconds(ticks), "tempo_bpm": 60e6 / per_quarter}, to_seconds


def _read_signatures(score, to_seconds):
    rows = score.time_signatures.numpy()
    is_one = (rows["numerator"] >= 1) & (rows["denominator"] >= 1)
    rows = {key: values[is_one].astype(np.int64) for key, values in rows.items()}
    return {**rows, "time": to_seconds(rows["time"])}


def _read_notes(tracks, to_seconds):
    """The notes of all tracks as columns."""
    arrays = [track.notes.numpy() for track in tracks]
    number = np.repeat(np.arange(len(tracks)), [len(a["time"]) for a in arrays])
    time, duration, pitch, velocity = (
        np.concatenate([a[key] for a in arrays], dtype=np.int64)
        for key in ("time", "duration", "pitch", "velocity")
    )
    order = np.argsort(time * 128 + pitch)  # `Piece` sorts what is equal in both
    time, duration, number = time[order], duration[order], number[order]
    start, end = to_seconds(np.stack([time, time + duration]))
    return {
        "pitch": pitch[order],
        "velocity": velocity[order],
        "start": start,
        "end": end,
        "program": np.array([track.program for track in tracks])[number],
        "is_drum": np.array([track.is_drum for track in tracks])[number],
        "track": number,
    }


def _read_pedals(tracks, to_seconds):
    numbers = [number for number, track in enumerate(tracks) if track.controls]
    if not numbers:
        return None
    downs, ups = zip(*(_pedal_spans(tracks[number]) for number in numbers), strict=True)
    start, end = np.concatenate(downs), np.concatenate(ups)
    number = np.repeat(np.array(numbers), [len(down) for down in downs])
    return {"start": to_seconds(start), "end": to_seconds(end), "track": number}


def _pedal_spans(track):
    controls = track.controls.numpy()
    is_pedal = controls["number"] == SUSTAIN_PEDAL
    return spans(controls["time"][is_pedal], controls["value"][is_pedal], track.end())


def spans(time, value, last):
    """A pedal's messages -> the times at which it goes down, and those at which it comes up.

    Args:
      time, value: arrays, shape (messages,) each; a value from 64 on means "down".
      last: when a pedal comes up that is never lifted.

    Returns:
      Two arrays, shape (spans,) each, in order.

    >>> down, up = spans(np.array([0, 5, 9, 12]), np.array([127, 100, 0, 64]), 20)
    >>> down.tolist(), up.tolist()
    ([0, 12], [9, 20])
    """
    order = np.argsort(time, kind="stable")
    time, is_down = time[order], value[order] >= 64
    changes = is_down != np.append(False, is_down)[:-1]
    down, up = time[changes & is_down], time[changes & ~is_down]
    return down, np.append(up, np.maximum(down, last)[len(up) :])


def merge(spans):
    """Spans in order of their starts; overlapping ones become one, touching ones stay two.

    >>> merge([(0, 5), (3, 9), (9, 12)])
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
    for time, tempo_bpm in zip(*piece.columns("tempos").values(), strict=True):
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
    for down, up in merge(zip(ticks(pedals["start"]), ticks(pedals["end"]), strict=True)):
        track.controls.append(symusic.ControlChange(int(down), SUSTAIN_PEDAL, 127))
        track.controls.append(symusic.ControlChange(int(up), SUSTAIN_PEDAL, 0))
    return track


def _microseconds_per_quarter(tempo_bpm):
    return int(np.clip(round(60e6 / tempo_bpm), 1, 2**24 - 1))  # three bytes in the file
