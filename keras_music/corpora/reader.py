"""One MIDI file, whoever made it: its bytes to a row of a report, and a `Piece` if there is music.

Files from the wild are damaged, cut short, empty, or no MIDI at all; others can be read and are
still not what a model should learn from: a forgotten key that sounds for an hour, or one note a
year after the others. A corpus that drops such files in silence teaches its user nothing, and one
that stops at the first teaches nothing either. So each file gets one row of a table: what is in it,
whether it was kept, and why not, in words. `read_entry` is the one function that says so. It has no
memory and touches no file, so that a loop, worker processes and a cluster come to the same rows.

To find copies, each piece has a *digest*, a short number made from its notes: the same music in
any key has the same digest. `split_of` draws a side from it, so that copies of a piece are never
on two sides, and no machine has to know what the others have read.

Conventions: times are in **seconds**, tempo in quarter notes a minute. A reason and a warning begin
with what they have in common with those of other files; what is special stands behind a colon or in
brackets: "it is damaged: ...", "zero-length notes (3)".

What this file does not do: it repairs nothing, and it cannot outlive a reader that crashes (see
`workers`).

References: the Standard MIDI Files 1.0 specification (MIDI Association, 1996); J.-P. Aumasson and
others, "BLAKE2: simpler, smaller, fast as MD5" (2013), for the digests.
"""

from __future__ import annotations

import hashlib
import math
import re
import struct

import numpy as np
import symusic  # noqa: F401  so that a worker has it before its clock runs

from keras_music.corpora.corpus import music_of, three_shares
from keras_music.midi import Piece, read_midi
from keras_music.midi.note_ons import num_note_ons

READER_VERSION = 2  # raised when `read_entry` comes to other results than before
MAX_BYTES = 64 * 2**20  # the longest concerts are a hundred times smaller
MAX_SECONDS = 24 * 3600.0
LONG_PIECE_SECONDS = 2 * 3600.0  # from here on there is a warning
LONG_NOTE_SECONDS = 60.0
LONG_SILENCE_SECONDS = 60.0
MAX_COUNTED_BYTES = 2**20  # the messages of larger files are not counted: it takes too long
MAX_CHUNKS = 70_000  # a header can promise 65,535 tracks

# How files begin that are often called .mid, and what they are.
BEGINNINGS = (
    (b"ID3", "a sound file (MP3)"),
    (b"\xff\xfb", "a sound file (MP3)"),
    (b"OggS", "a sound file (Ogg)"),
    (b"fLaC", "a sound file (FLAC)"),
    (b"RIFF", "a sound file (WAV) or another RIFF file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a compressed file (gzip)"),
    (b"Rar!", "a compressed file (RAR)"),
    (b"7z\xbc\xaf", "a compressed file (7z)"),
    (b"%PDF", "a PDF"),
    (b"<!DOCTYPE", "a web page; the download failed"),
    (b"<html", "a web page; the download failed"),
    (b"<?xml", "an XML file, such as MusicXML"),
    (b"\x00\x05\x16\x07", "a Macintosh's note on another file"),
)

# What the parser says of damaged bytes (a pattern), and what that means.
DAMAGES = (
    ("Invalid chunk length|Unexpected EOF|size is less", "it is cut short"),
    ("Inva[il]+d midi format", "it is damaged: its header names a format that is not 0, 1 or 2"),
    ("first chunk length", "it is damaged: its header has a wrong length"),
    ("Division type", "it is damaged: its header says nothing of use on its clock"),
    (r"0 ticks", "it is damaged: its header says that a quarter note has 0 ticks"),
    (r"Get \w+=", "it is damaged: a message holds a number over 127"),
    ("running status|status byte", "it is damaged: there is something that is no message"),
    ("impossible values", "it is damaged: a note begins before the piece, or ends before it began"),
    ("without notes", "it has no notes"),
)


def read_entry(name: str, data: bytes) -> tuple[dict, Piece | None]:
    """Reads the bytes of one file; whatever they are, it returns.

    Args:
      name: what the file is called in the report, and the piece, too.
      data: the file's bytes.

    Returns:
      The file's row, and its `Piece`, or None if it was not kept. The row is a dict with, in this
      order: `name`; `notes`, their number; `seconds`, to the end of the last note; `tempo_bpm`,
      the tempo that is in force longest (NaN if not kept); `programs`, such as "0 33 drums";
      `kept`; `reason` in words, "" if it was kept; `warnings` in words, with "; " between them;
      `digest` of the music and `bytes_hash` of the file, 32 hexadecimal digits ("" for the
      digest of what was not kept).

    Example:
      >>> row, piece = read_entry("a.mid", b"")
      >>> row["kept"], row["reason"], piece
      (False, 'it is empty (0 bytes)', None)
    """
    row = dropped_row(name, "", bytes_hash=bytes_hash(data))
    row["reason"] = _what_is_wrong(data)
    if row["reason"]:
        return row, None
    try:
        piece = read_midi(data, name=name)
        row["notes"], row["seconds"] = len(piece), piece.duration
        if piece.duration > MAX_SECONDS:
            row["reason"] = f"it lasts longer than a day ({_time(piece.duration)})"
            return row, None
        row |= {
            "tempo_bpm": _longest_tempo(piece),
            "programs": _programs(piece),
            "warnings": "; ".join([*_file_warnings(data, len(piece)), *_music_warnings(piece)]),
            "digest": music_digest(piece),
            "kept": True,
        }
    except Exception as error:  # whatever it is, it costs this file and not the run
        return row | {"reason": _reason(error), "kept": False}, None
    return row, piece


def dropped_row(name, reason, bytes_hash="") -> dict:
    """The row of a file of which nothing is known but why it was not kept."""
    return {
        "name": name,
        "notes": 0,
        "seconds": 0.0,
        "tempo_bpm": math.nan,
        "programs": "",
        "kept": False,
        "reason": reason,
        "warnings": "",
        "digest": "",
        "bytes_hash": bytes_hash,
    }


def too_large(num_bytes) -> str:
    """The reason for not reading a file of so many bytes."""
    return f"it is too large ({num_bytes / 2**20:,.0f} MB; the most is {MAX_BYTES >> 20} MB)"


def bytes_hash(data: bytes) -> str:
    """BLAKE2b of a file's bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def music_digest(piece: Piece) -> str:
    """BLAKE2b of the music: onsets in beats and pitches, in any key; 32 hexadecimal digits.

    It is what `Corpus.split` compares of whole pieces.
    """
    return hashlib.blake2b(music_of(piece).tobytes(), digest_size=16).hexdigest()


def split_of(digest: str, seed=0, fractions=(0.8, 0.1, 0.1)) -> str:
    """The side that a piece with this digest is on: "train", "valid" or "test".

    It is drawn by BLAKE2b from seed and digest: the same on every machine, whatever other pieces
    there are, and the same for copies of a piece. The shares are met on average: of 1,000 pieces
    100 ± 10 validate. (`Corpus.split` meets them exactly, and has to see all pieces at once.)

    Args:
      digest: `row["digest"]` of a piece.
      seed: int; another seed, another split.
      fractions: three shares >= 0 of train, validation and test; their sum is 1.

    Raises:
      ValueError: `fractions` is something else.

    >>> [split_of(digest) for digest in ("1", "2", "3")]
    ['test', 'valid', 'train']
    """
    shares = three_shares(fractions)
    drawn = hashlib.blake2b(f"{seed}:{digest}".encode(), digest_size=8).digest()
    number = int.from_bytes(drawn, "big") / 2**64  # from 0 to 1
    if number < shares[0]:
        return "train"
    return "valid" if number < shares[0] + shares[1] or not shares[2] else "test"


def _what_is_wrong(data):
    """Why these bytes are not even tried, "" if they are."""
    if not data:
        return "it is empty (0 bytes)"
    if len(data) > MAX_BYTES:
        return too_large(len(data))
    if data[:4] == b"MThd" or (data[:4] == b"RIFF" and b"MThd" in data):
        return ""
    if not any(data):
        return "it is no MIDI file: it holds nothing but zeros"
    text = data[:64].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for beginning, kind in BEGINNINGS:
        if text.startswith(beginning.lower()):
            return f"it is no MIDI file: it is {kind}"
    return f"it is no MIDI file: it begins with {data[:4]!r} and not with b'MThd'"


def _reason(error):
    text = str(error).removeprefix("The MIDI data ")
    for pattern, words in DAMAGES:
        if isinstance(error, ValueError) and re.search(pattern, text):
            return words
    return f"it cannot be read ({text or type(error).__name__})"[:300]


def _longest_tempo(piece):
    time, tempo_bpm = piece.columns("tempos").values()
    ends = np.append(time[1:], max(piece.duration, time[-1]))
    seconds = np.clip(np.minimum(ends, piece.duration) - time, 0, None)  # (tempos,)
    tempos_bpm, which = np.unique(tempo_bpm.round(2), return_inverse=True)
    return float(tempos_bpm[np.bincount(which, seconds).argmax()])


def _programs(piece):
    notes = piece.columns("notes")
    programs = np.unique(notes["program"][~notes["is_drum"]])
    return " ".join([*map(str, programs), *(["drums"] if notes["is_drum"].any() else [])])


def _music_warnings(piece):
    """What a musician should know of these notes."""
    notes = piece.columns("notes")
    start, end = notes["start"], notes["end"]
    order = np.lexsort([start, notes["pitch"], notes["track"]])
    same_key = (np.diff(notes["track"][order]) == 0) & (np.diff(notes["pitch"][order]) == 0)
    overlaps = np.count_nonzero(same_key & (start[order][1:] < end[order][:-1]))
    if overlaps:
        yield f"overlapping notes of one pitch ({overlaps})"
    if without_length := np.count_nonzero(start == end):
        yield f"zero-length notes ({without_length})"
    if (longest := (end - start).max()) > LONG_NOTE_SECONDS:
        yield f"a very long note ({_time(longest)})"
    sounded_until = np.append(0.0, np.maximum.accumulate(end)[:-1])
    if (silence := (start - sounded_until).max()) > LONG_SILENCE_SECONDS:
        yield f"a very long silence ({_time(silence)})"
    if piece.duration > LONG_PIECE_SECONDS:
        yield f"a very long piece ({_time(piece.duration)})"


def _file_warnings(data, num_notes):
    """What a musician should know of this file, and the notes do not show."""
    data = data[data.index(b"MThd") :]
    kind, num_tracks = struct.unpack(">HH", data[8:12])
    tracks = list(_tracks(data))
    # No other message can hold these bytes, but for a text in an alphabet of its own.
    has_tempo = [data.find(b"\xff\x51\x03", first, last) >= 0 for first, last in tracks]
    if any(has_tempo[1:]):
        yield "tempo on another track than the first"
    if kind == 2 and len(tracks) > 1:
        yield "independent tracks (format 2), which are read as sounding together"
    if num_tracks != len(tracks):
        yield f"a wrong number of tracks (it promises {num_tracks} and has {len(tracks)})"
    if data[12] & 0x80:
        yield "a clock of film frames (SMPTE), without beats"
    if len(data) <= MAX_COUNTED_BYTES and len(tracks) <= num_tracks:  # the parser reads no more
        counts = [num_note_ons(data[first:last]) for first, last in tracks]
        if None not in counts and (lost := sum(counts) - num_notes) > 0:
            yield f"keys pressed without a release of their own, and so no notes ({lost})"


def _tracks(data):
    """Where the contents of the tracks begin and end, in bytes."""
    (length,) = struct.unpack(">I", data[4:8])
    place = 8 + length
    for _ in range(MAX_CHUNKS):
        head = data[place : place + 8]
        if len(head) < 8:
            return
        kind, length = struct.unpack(">4sI", head)
        if kind == b"MTrk":
            yield place + 8, place + 8 + length
        place += 8 + length


def _time(seconds):
    """A length of time as people say it.

    >>> _time(90), _time(7200), _time(1e7)
    ('90 s', '2.0 h', '116 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
