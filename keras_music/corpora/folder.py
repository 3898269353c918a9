"""Anybody's own music: a folder, a zip or a file of MIDI becomes a corpus.

Three things are done with each file. Its bytes are loaded (`entries`), and what was made of the
same bytes before is looked up (`piece_cache`). If there is nothing, a worker process reads them
(`reader`, in `workers`), so that a file that kills its reader costs one file. In the end every file
has a row in the corpus's report, whether it was kept or not.

Conventions: names are relative to the folder, with "/" between them; pieces stand in the order of
`entries`.

What this file does not do: it changes no file and keeps no copy of one; it cleans no music. It is
for as much music as fits into memory; `keras_music.ingest` is for more.
"""

from __future__ import annotations

import collections
import os
import pathlib

from keras_music.corpora.corpus import Corpus
from keras_music.corpora.entries import MIDI_SUFFIXES, Unreadable, entries, printable
from keras_music.corpora.piece_cache import PieceCache, pack_entry, unpack_entry
from keras_music.corpora.progress import progress_bar
from keras_music.corpora.reader import bytes_hash, dropped_row, read_entry
from keras_music.corpora.workers import Lost, Workers

# What to do with files that are not MIDI, by their suffixes.
REMEDIES = (
    (
        {".mp3", ".wav", ".flac", ".ogg", ".m4a", ".aac", ".wma", ".aif", ".aiff"},
        "These are recordings, and MIDI files are lists of notes: look for the same music as MIDI, "
        "or let a transcription program such as basic-pitch write down the notes.",
    ),
    (
        {".mxl", ".musicxml", ".xml", ".mscz", ".sib", ".gp", ".gp5", ".gpx", ".ptb", ".abc"},
        "These are scores: open them in a notation program such as MuseScore and export MIDI.",
    ),
    (
        {".zip", ".rar", ".7z", ".gz", ".tgz", ".tar"},
        "Unpack the archives first, or give the path of one .zip.",
    ),
)
ONLY_MIDI = f"Only files named {', '.join(MIDI_SUFFIXES[:-1])} or {MIDI_SUFFIXES[-1]} are read."


def midi_folder(path, *, num_workers=None, name=None) -> Corpus:
    """All MIDI files of a folder and the folders in it, or of a zip, as a corpus.

    What cannot be read is left out and named in the corpus's report with the reason. What was read
    once is taken from `cache_dir()` later, as long as a file's bytes stay the same, wherever it
    lies. On a terminal there is a progress bar.

    Args:
      path: a folder, a .zip, or one MIDI file.
      num_workers: how many processes read files, >= 1; default: one a core.
      name: what the corpus is called; default: the name of the folder or file.

    Returns:
      A `Corpus` of `Piece`s, named by their paths in the folder. Its `report` has a row a file:
      `name`, `notes`, `seconds`, `tempo_bpm` (the tempo in force longest), `programs` ("0 33
      drums"), `kept`, `reason`, `same_as` and `warnings`; see also `report.summary()`.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: no file could be read, with the counted reasons; or an argument is out of range.

    Example:
      >>> import tempfile
      >>> from keras_music.midi import Piece, write_midi
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = write_midi(Piece([{"pitch": 60, "start": 0.0, "end": 0.5}]), f"{folder}/a/b.mid")
      ...     corpus = midi_folder(folder, name="mine")
      >>> corpus, corpus[0].name
      (Corpus('mine', 1 piece, 1 notes, 0 minutes), 'a/b.mid')
    """
    others = collections.Counter()
    found = list(entries(path, others))
    path = pathlib.Path(os.fsdecode(path)).expanduser()
    rows, pieces, dropped = [], [], []
    for row, piece in _read_all(found, num_workers):
        shown = {key: row[key] for key in row if key not in ("digest", "bytes_hash")}
        if piece is None:
            dropped.append(shown)
        else:
            rows.append(shown)
            pieces.append(piece)
    if not pieces:
        raise ValueError(nothing_survived(path, dropped, others))
    own_name = path.resolve().name if path.is_dir() else path.stem
    return Corpus(pieces, name=name or printable(own_name), rows=rows, dropped=dropped)


def _read_all(found, num_workers):
    """[(row, piece or None)] of these entries, in their order."""
    results = [None] * len(found)
    in_hand = collections.deque()  # (index, hash) of files that workers read

    def unread():
        for index, entry in enumerate(found):
            try:
                data = entry.load()
            except Unreadable as error:
                results[index] = dropped_row(entry.name, str(error)), None
            else:
                key = bytes_hash(data)
                results[index] = unpack_entry(cache.get(key), entry.name)
                if results[index] is None:
                    in_hand.append((index, key))
                    yield data
            bar.update(results[index] is not None)

    with (
        PieceCache() as cache,
        Workers("keras_music.corpora.folder:read_packed", num_workers) as workers,
        progress_bar(desc="Reading MIDI", unit="file", total=len(found)) as bar,
    ):
        for answer in workers.map(unread()):
            index, key = in_hand.popleft()
            name = found[index].name
            if isinstance(answer, Lost):  # not kept in the cache: another day it may be read
                results[index] = (
                    dropped_row(name, f"it cannot be read ({answer.reason})", key),
                    None,
                )
            else:
                cache.put(key, answer)
                results[index] = unpack_entry(answer, name)
            bar.update()
    return results


def read_packed(data: bytes) -> bytes:
    """What a worker does: `read_entry`, as bytes that cost the parent little."""
    return pack_entry(*read_entry("", data))


def nothing_survived(path, dropped, others):
    """The sentence for a path without music: what was found there instead, and what to do.

    Args:
      path: what was given.
      dropped: dicts with a `reason` each, one a file that could not be used.
      others: the other files counted by suffix, as `entries` does.
    """
    if not dropped and not others:
        return f"There is no file in {path}. {ONLY_MIDI} Check the path."
    if not dropped:
        return f"There is no MIDI file in {path}: it holds {_count(others)}. {_remedy(others)}"
    if path.is_file() and len(dropped) == 1:
        return f"{path} cannot be used: {dropped[0]['reason']}. Give another file."
    reasons = collections.Counter(row["reason"] for row in dropped).most_common()
    counted = "; ".join(f"{reason} ({number})" for reason, number in reasons[:10])
    more = f"; and {len(reasons) - 10} other reasons" if len(reasons) > 10 else ""
    beside = f" Beside them there are {_count(others)}." if others else ""
    return (
        f"None of the {len(dropped)} MIDI files in {path} can be used: {counted}{more}.{beside} "
        "Export them again from the program that made them, or give another folder."
    )


def _count(others):
    """How many files of which kinds, in words.

    >>> _count(collections.Counter({".mp3": 300, ".jpg": 1}))
    '300 files .mp3 and 1 file .jpg'
    """
    counted = [f"{n} file{'s' if n > 1 else ''} {s}" for s, n in others.most_common(5)]
    if rest := len(others) - len(counted):
        counted.append(f"files of {rest} other kinds")
    return " and ".join(counted)


def _remedy(others):
    (suffix, _), *_ = others.most_common(1)
    return next((remedy for suffixes, remedy in REMEDIES if suffix in suffixes), ONLY_MIDI)
