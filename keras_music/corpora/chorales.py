"""Bach's chorales, read from compressed MusicXML.

A chorale is a hymn that a choir sings in four voices. MusicXML writes a score as it looks on paper:
part after part, measure after measure. A reader keeps a clock in each part, which notes and rests
move on and `backup` and `forward` set, for voices that sing at once. Two signs on the paper are one
note where a *tie* joins them.

Conventions: times in a `Piece` are in **seconds**; inside the score reader they are exact
quarter-note **beats** (`Fraction`), and the tempo turns one into the other once, at the end.
Repeats are not played out.

What this file does not do: it reads as much MusicXML as this collection uses: no transposing
instruments, no swing, no grace notes.

Reference: MusicXML 4.0, https://www.w3.org/2021/06/musicxml40/. Our differences from the reader in
music21: a bar begins at the same beat in all parts, though one of them did not fill the bar before;
a tie goes to the note that is marked as its end, not to another voice's note of that pitch.
"""

from __future__ import annotations

import functools
import io
import itertools
import xml.etree.ElementTree as ElementTree
import zipfile
from fractions import Fraction

import numpy as np
import pandas as pd

from keras_music.corpora.cache import cached, installed_version, package_files
from keras_music.corpora.corpus import Corpus
from keras_music.corpora.progress import progress_bar
from keras_music.midi import Piece

DEFAULT_TEMPO_BPM = 100.0  # a sixteenth lasts 0.15 s exactly, and most files ask for 86 to 104
CHURCH_ORGAN = 19  # it holds a note as long as a choir does
STEP_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def bach_chorales(parts=4) -> Corpus:
    """Bach's chorales, as `Piece`s, from the files of the music21 package.

    One track a voice, from the top (soprano 0, bass 3); church organ; velocity 80; named after the
    catalogue ("bwv1.6"). Tied notes are one note. The tempo is the file's own, where it has one (70
    of 408), else 100 quarter notes a minute. A bar that is shorter or longer than the metre says,
    such as the upbeat, has a time signature of its own, so that bar lines stay where they are
    printed. The first call reads for some seconds, later ones take the result from `cache_dir()`.

    Args:
      parts: number of parts, default 4 (364 works, 84,737 notes); None: all 408 works, which
        have from 1 to 15 (voices with orchestra, and one prelude for keyboard).

    Returns:
      A `Corpus` of `Piece`; its report also has the works that were left out.

    Raises:
      ModuleNotFoundError: music21 is not installed, and nothing is in the cache.
      ValueError: no work has so many parts.

    Example:
      >>> bach_chorales()[0]
      Piece('bwv10.7', notes=206, seconds=52.8)
    """
    content = cached("bach_chorales", "music21", installed_version("music21"), _read_chorales)
    works, dropped = content["header"]["works"], list(content["header"]["unreadable"])
    have = sorted({work["parts"] for work in works})
    if parts is not None and parts not in have:
        raise ValueError(
            f"`parts` must be None or one of {have}. Received: parts={parts!r}. Use parts=4 for "
            "the chorales in four voices."
        )
    kept, last = [], 0
    for work in works:
        first, last = last, last + work["notes"]
        if parts in (None, work["parts"]):
            columns = [column for column in content if column != "header"]
            notes = {column: content[column][first:last] for column in columns}
            tables = {key: work[key] for key in ("name", "tempos", "time_signatures")}
            kept.append(Piece(notes, **tables))
        else:
            size = {key: work[key] for key in ("name", "notes", "seconds")}
            dropped.append({**size, "reason": f"it has {work['parts']} parts, not {parts}"})
    return Corpus(kept, name="bach_chorales", dropped=dropped)


def _read_chorales():
    """Reads all works: their notes in long arrays, one a column, all else in the header."""
    files = package_files("music21", "music21/corpus/bach/", ".mxl")
    works, unreadable, tables = [], [], []
    for file in progress_bar(files, desc="Reading Bach", unit="work"):
        try:
            score = _read_musicxml(_unzip_musicxml(file.locate().read_bytes()))
            piece = _score_piece(score, file.stem)
        except (ElementTree.ParseError, zipfile.BadZipFile, LookupError, ValueError) as error:
            unreadable.append({"name": file.stem, "reason": f"it cannot be read: {error}"})
            continue
        tables.append(piece.notes)
        work = {"name": file.stem, "parts": score["parts"]}
        work |= {"notes": len(piece), "seconds": piece.duration}
        work |= {
            key: getattr(piece, key).to_dict("records") for key in ("tempos", "time_signatures")
        }
        works.append(work)
    notes = pd.concat(tables)
    header = {"works": works, "unreadable": unreadable}
    return {"header": header, **{column: notes[column].to_numpy() for column in notes}}


def _score_piece(score, name) -> Piece:
    """Turns what `_read_musicxml` returns, in beats, into a `Piece`, in seconds."""
    tempos = {0: DEFAULT_TEMPO_BPM, **score["tempos"]}
    knots = np.array(sorted(tempos.items()), dtype=np.float64)  # (tempos, 2): beat, tempo_bpm
    beats, seconds_per_beat = knots[:, 0], 60.0 / knots[:, 1]
    times = np.concatenate([[0.0], np.cumsum(np.diff(beats) * seconds_per_beat[:-1])])

    def seconds(column):
        column = np.asarray(column, dtype=np.float64)
        knot = np.searchsorted(beats, column, side="right") - 1
        return times[knot] + (column - beats[knot]) * seconds_per_beat[knot]

    pitch, start, end, part = zip(*score["notes"], strict=True)
    notes = {"pitch": pitch, "start": seconds(start), "end": seconds(end), "track": part}
    beat, numerator, denominator = zip(*score["time_signatures"], strict=True)
    signatures = {"time": seconds(beat), "numerator": numerator, "denominator": denominator}
    return Piece(
        pd.DataFrame({**notes, "program": CHURCH_ORGAN}),
        tempos=pd.DataFrame({"time": times, "tempo_bpm": knots[:, 1]}),
        time_signatures=pd.DataFrame(signatures),
        name=name,
    )


def _unzip_musicxml(data: bytes) -> bytes:
    """The score inside a compressed MusicXML file, which its container names."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        return archive.read(next(container.iter("rootfile")).get("full-path"))


def _read_musicxml(xml: bytes) -> dict:
    """Reads a partwise MusicXML score; every time is a `Fraction` of quarter-note beats.

    Returns a dict: `notes`, a list of (pitch, start, end, part); `tempos`, {beat: tempo_bpm};
    `time_signatures`, a list of (beat, numerator, denominator); `parts`, their number. A bar is
    as long as its longest part, so that a part whose bar is not filled stays together with the
    others.
    """
    parts = ElementTree.fromstring(xml).findall("part")
    readers = [_PartReader(index) for index in range(len(parts))]
    bars, start = [], Fraction(0)
    for measures in itertools.zip_longest(*(part.findall("measure") for part in parts)):
        present = [pair for pair in zip(readers, measures, strict=True) if pair[1] is not None]
        end = max(reader.read_measure(measure, start) for reader, measure in present)
        bars.append((start, end - start, readers[0].signature))
        start = end
    notes = [tuple(note) for reader in readers for note in reader.notes]
    tempos = {beat: bpm for reader in reversed(readers) for beat, bpm in reader.tempos.items()}
    signatures = _time_signatures(bars)
    return {"notes": notes, "tempos": tempos, "time_signatures": signatures, "parts": len(parts)}


@functools.lru_cache(maxsize=4096)
def _quotient(numerator, denominator):
    return Fraction(numerator) / Fraction(denominator)


class _PartReader:
    """Reads one part, measure by measure; it remembers what holds on beyond a bar line."""

    def __init__(self, index):
        self.index = index
        self.notes = []  # [pitch, start, end, part], beats
        self.tempos = {}
        self.signature = (4, 4)
        self._divisions = "1"  # of a quarter note: the unit of every <duration>
        self._open_ties = {}  # (pitch, end) -> the notes that go on there

    def read_measure(self, measure, start):
        """Reads a measure that begins at the beat `start`; returns the beat where it ends."""
        now = onset = end = start
        for element in measure:
            if element.tag == "attributes":
                self._read_attributes(element)
            elif element.tag == "backup":
                now -= self._beats(element)
            elif element.tag == "forward":
                now += self._beats(element)
            elif element.tag == "note" and element.find("grace") is None:
                duration = self._beats(element)
                if element.find("chord") is None:  # else it sounds with the note before it
                    onset, now = now, now + duration
                self._read_note(element, onset, onset + duration)
            elif element.tag in ("direction", "sound"):
                for sound in element.iter("sound"):
                    if sound.get("tempo"):
                        self.tempos[now] = float(sound.get("tempo"))
            end = max(end, now)
        return end

    def _beats(self, element):
        return _quotient(element.findtext("duration"), self._divisions)

    def _read_attributes(self, attributes):
        self._divisions = attributes.findtext("divisions") or self._divisions
        beats, beat_type = attributes.findtext("time/beats"), attributes.findtext("time/beat-type")
        if beats and beat_type:
            self.signature = (sum(map(int, beats.split("+"))), int(beat_type))

    def _read_note(self, element, onset, end):
        step = element.findtext("pitch/step")
        if step is None:  # a rest
            return
        octave, alter = element.findtext("pitch/octave"), element.findtext("pitch/alter") or "0"
        pitch = STEP_SEMITONES[step] + round(float(alter)) + 12 * (int(octave) + 1)
        ties = {tie.get("type") for tie in element.findall("tie")}
        waiting = self._open_ties.get((pitch, onset)) if "stop" in ties else None
        if waiting:
            note = waiting.pop(0)
            note[2] = end
        else:
            note = [pitch, onset, end, self.index]
            self.notes.append(note)
        if "start" in ties:
            self._open_ties.setdefault((pitch, end), []).append(note)


def _time_signatures(bars):
    """Time signatures that put a bar line where each bar of the score begins.

    Args:
      bars: list of (start, length, (numerator, denominator)), in beats.

    Returns:
      List of (beat, numerator, denominator), one for each change. Bars that fill one bar between
      them, as before and after a repeat sign, are one; any other bar that does not last as long as
      its signature says, but for the last, has a signature of its own length.

      >>> _time_signatures([(0, 1, (4, 4)), (1, 4, (4, 4)), (5, 3, (4, 4)), (8, 1, (4, 4))])
      [(0, 1, 4), (1, 4, 4)]
    """
    merged = []
    for start, length, signature in bars:
        whole = Fraction(4 * signature[0], signature[1])
        if merged and merged[-1][2] == signature and merged[-1][1] + length <= whole:
            merged[-1][1] += length
        elif length:
            merged.append([start, length, signature])
    rows = []
    for index, (start, length, (numerator, denominator)) in enumerate(merged):
        own = Fraction(length) / 4 * denominator  # the bar's length in units of its signature
        if index == len(merged) - 1:
            own = Fraction(numerator)
        while own.denominator > 1 and denominator < 64:
            own, denominator = own * 2, denominator * 2
        if own != numerator and own.denominator == 1:
            numerator = int(own)
        if not rows or rows[-1][1:] != (numerator, denominator):
            rows.append((start, numerator, denominator))
    return rows
