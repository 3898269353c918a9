"""MAESTRO: 200 hours of piano competitions, as the keys and pedals of the grand piano moved.

From 2004 to 2018 the players of a competition sat at instruments that write down what happens:
when each key goes down (to 3 milliseconds), with what force, where the pedal is. So these files
hold what scores do not: *performance*, the bend of time and loudness that makes a piece sound
played. 1,276 performances, 7 million notes; one piece is often there several times, by different
players. A split by file would put the same sonata into training and test. MAESTRO therefore comes
with a split in which each composition is on one side only, and figures in papers are those of it:
962 performances train, 137 validate, 177 test.

Conventions: times are in **seconds**; the files have a clock that knows no bars.

What this file does not do: no sound (the recordings are another 100 GB), no versions but 3.0.0
by itself (`path` takes others).

References: C. Hawthorne et al., "Enabling Factorized Piano Music Modeling and Generation with the
MAESTRO Dataset" (2019); https://magenta.withgoogle.com/datasets/maestro, which gives address and
checksum. The licence is CC BY-NC-SA 4.0: not for commercial use.
"""

from __future__ import annotations

import contextlib
import csv
import fnmatch
import io
import os
import pathlib
import zipfile

from keras_music.corpora.cache import cache_dir
from keras_music.corpora.corpus import Corpus
from keras_music.corpora.download import download
from keras_music.corpora.folder import midi_folder

MAESTRO_URL = (
    "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/maestro-v3.0.0-midi.zip"
)
MAESTRO_SHA256 = "70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c"  # 58 MB
MAESTRO_FILE = "maestro-v3.0.0-midi.zip"  # in `cache_dir()`
TABLE = "maestro-v*.csv"  # inside the zip, one row a performance
MAX_TABLE_BYTES = 2**24  # fifty times that of version 3.0.0
SIDES = {"train": "train", "validation": "valid", "test": "test"}


def maestro(path=None, *, num_workers=None) -> Corpus:
    """The piano performances of MAESTRO v3, with their official split.

    The first call downloads 58 MB into `cache_dir()` (going on where an earlier one broke off) and
    reads for a while; later ones take the result from the cache. Offline, download the address in
    `MAESTRO_URL` elsewhere and put it there, or give its `path`.

    Args:
      path: the zip, or the folder that it unpacks to; default: the download.
      num_workers: as in `midi_folder`.

    Returns:
      A `Corpus` of `Piece`, named like the files ("2018/MIDI-...midi"). `split()` gives the
      official sides; the report has the columns `composer`, `title`, `year` and `split`, too.

    Raises:
      ConnectionError: it is not there, and cannot be downloaded.
      FileNotFoundError: there is nothing at `path`.
      OSError: another file came, or it cannot be written.
      ValueError: what is at `path` is not MAESTRO.
    """
    path = _download() if path is None else _local(path)
    folder, table = _read_table(path)  # first: a folder of something else may be large
    pieces = midi_folder(path, num_workers=num_workers, name="maestro")
    return _with_official_split(pieces, folder, table)


def _download():
    path = cache_dir() / MAESTRO_FILE
    by_hand = (
        f"try again to go on, or download {MAESTRO_URL} by hand to {path} (or elsewhere, and give "
        "its path: maestro(path=...))"
    )
    return download(MAESTRO_URL, path, MAESTRO_SHA256, "MAESTRO", by_hand)


def _local(path):
    """The path that was given, if it leads somewhere."""
    try:
        text = os.fsdecode(path)
        found = pathlib.Path(text).expanduser()
        exists = found.exists()
    except (TypeError, ValueError, RuntimeError):  # the last: no such user's home
        text = ""
    if not text:  # it would be the current folder
        raise ValueError(f"`path` must be the path of a zip or a folder. Received: path={path!r}.")
    if not exists:
        raise FileNotFoundError(
            f"There is no file or folder {path}. Check the path, or leave it out to download."
        )
    return found


def _read_table(path):
    """The folder in which the table stands ("maestro-v3.0.0/"), and its rows by MIDI file."""
    try:
        name, data = _find_table(path)
        rows = csv.DictReader(io.StringIO(data.decode("utf-8-sig")))
        table = {row["midi_filename"]: _about(row) for row in rows}
    except (KeyError, ValueError, csv.Error, zipfile.BadZipFile) as error:
        unknown = f"its table knows no {error}" if isinstance(error, KeyError) else error
        raise ValueError(
            "`path` must be MAESTRO's zip of MIDI files, or the folder that it unpacks to. "
            f"Received: {path} ({unknown}). Leave `path` out to download it."
        ) from None
    return name[: name.rfind("/") + 1], table


def _about(row):
    """What the report says of a performance; a row that is cut short has None in its columns."""
    return {
        "composer": row["canonical_composer"],
        "title": row["canonical_title"],
        "year": int(row["year"] or ""),
        "split": SIDES[row["split"]],
    }


def _find_table(path):
    """The name of the table inside `path`, and its bytes."""
    archive = None if path.is_dir() else zipfile.ZipFile(path)
    with archive or contextlib.nullcontext():
        if archive is None:
            names = [found.relative_to(path).as_posix() for found in path.rglob(TABLE)]
        else:
            names = [name for name in archive.namelist() if fnmatch.fnmatch(name, f"*{TABLE}")]
        names = [name for name in names if "__MACOSX" not in name]
        if not names:
            raise ValueError(f"it holds no table {TABLE}")
        return names[0], _bytes_of_table(archive, path, names[0])


def _bytes_of_table(archive, path, name):
    try:
        with archive.open(name) if archive else open(path / name, "rb") as file:
            data = file.read(MAX_TABLE_BYTES + 1)
    except Exception as error:  # each way to compress has errors of its own
        raise ValueError(f"its table cannot be read: {error or type(error).__name__}") from None
    if len(data) > MAX_TABLE_BYTES:
        raise ValueError(f"its table has more than {MAX_TABLE_BYTES >> 20} MB")
    return data


def _with_official_split(corpus, folder, table):
    """The corpus with what the table says; what is not in both is left out, and reported."""
    table = {folder + name: row for name, row in table.items()}
    kept = [index for index, name in enumerate(corpus.names) if name in table]
    dropped = [row | table.get(row["name"], {}) for row in corpus._dropped]
    for index, name in enumerate(corpus.names):
        if name not in table:
            reason = "MAESTRO's table does not name it, so it has no side of the split"
            dropped.append(corpus._rows[index] | {"name": name, "kept": False, "reason": reason})
    seen = {*corpus.names, *(row["name"] for row in corpus._dropped)}
    for name in sorted(table.keys() - seen):
        reason = "MAESTRO's table names it, and it is not there"
        dropped.append({"name": name, "reason": reason, **table[name]})
    names = [corpus.names[index] for index in kept]
    return Corpus(
        [corpus[index] for index in kept],
        name=corpus.name,
        names=[name.removeprefix(folder) for name in names],
        dropped=[row | {"name": row["name"].removeprefix(folder)} for row in dropped],
        keys=None if corpus._keys is None else [corpus._keys[index] for index in kept],
        rows=[corpus._rows[i] | table[name] for i, name in zip(kept, names, strict=True)],
        sides=[table[name]["split"] for name in names],
        empty="none of the files that MAESTRO's table names could be read; see `report`",
    )
