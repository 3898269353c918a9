"""The files of a folder or a zip that may be MIDI, one after the other, in an order that stays.

People keep music in folders within folders, in zips that a Macintosh made with a second file for
each, under names in any alphabet, behind links that lead in circles. Here all that becomes a plain
sequence of *entries*: a name, and a function that loads the bytes. Names come first and bytes when
they are asked for, so that a folder of any size takes the memory of one file; what cannot be loaded
is an entry, too, whose function says why, so that it is not lost on the way to the report.

Conventions: names are relative to the folder, with "/" on every system; in a zip they are those of
the members. Entries are sorted by name within each folder, and a folder's content stands where its
name does. What can be no name in a table (line feeds, bytes of an unknown alphabet) is written
with a backslash.

What this file does not do: it reads no music, opens no zip within a folder or a zip, and unpacks
nothing to the disk. What is no file of the user's is passed over without a word: the notes that a
Macintosh leaves (`._name`, `__MACOSX`), hidden folders, and a folder that was seen before.

References: APPNOTE.TXT, the .ZIP file format (PKWARE); D. Fifield, "A better zip bomb" (2019).
"""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import stat
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

from keras_music.corpora.reader import MAX_BYTES, too_large

MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi", ".smf")
ZIP_BEGINS = b"PK\x03\x04"
IS_ENCRYPTED, NAME_IS_UTF8 = 0x1, 0x800  # in the flags of a zip's member


class Entry(NamedTuple):
    """A file that may be MIDI."""

    name: str
    load: Callable[[], bytes]  # or raises `Unreadable`


class Unreadable(ValueError):
    """Bytes that cannot be had; its text is the reason, in words, without the file's name."""


def entries(path, others=None) -> Iterator[Entry]:
    """The MIDI files of a folder and its folders, of a zip, or one file.

    In a folder or a zip these are the files with a suffix of MIDI files, in any case: .mid, .midi,
    .kar (karaoke), .rmi, .smf. A file that is given itself may have any name. Links are followed.

    Args:
      path: a folder, a .zip, or one file.
      others: a `collections.Counter`, which counts the other files by suffix (".mp3").

    Returns:
      An iterator of `Entry`. The names of a zip's members are made different, if two are the same.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: `path` is no path, or a damaged zip.
    """
    try:
        path = pathlib.Path(os.fsdecode(path)).expanduser()
        exists = path.exists()
    except (TypeError, ValueError, RuntimeError) as error:  # the last: no such user's home
        raise ValueError(
            "`path` must be the path of a folder, a .zip or a MIDI file. "
            f"Received: {path!r} ({error})."
        ) from None
    if not exists:
        raise FileNotFoundError(
            f"There is no file or folder {path}. "
            f"Check the path (the current folder is {pathlib.Path.cwd()})."
        )
    others = collections.Counter() if others is None else others
    if path.is_dir():
        return _walk(str(path), others)
    if _is_zip(path):
        return _members(_open_zip(path), others)
    return iter([_file_entry(printable(path.name), path)])


def _walk(root, others):
    """The entries of a folder, without recursion, for a path can have a thousand folders."""
    seen = set()  # folders; each once, so that links cannot lead in circles
    stack = [(root, "", _listing(root, seen))]
    while stack:
        folder, prefix, names = stack[-1]
        if isinstance(names, OSError):
            reason = f"the folder cannot be opened ({_why(names)})"
            stack.pop()
            yield Entry(prefix or ".", lambda reason=reason: _refuse(reason))
        elif not names:
            stack.pop()
        elif (name := names.pop()).endswith("/"):
            path = os.path.join(folder, name[:-1])
            stack.append((path, prefix + printable(name), _listing(path, seen)))
        elif _is_wanted(name, others):
            yield _file_entry(prefix + printable(name), os.path.join(folder, name))


def _listing(folder, seen):
    """The names in a folder, the last one first, those of folders with a "/"; or the error."""
    try:
        info = os.stat(folder)
        if (info.st_dev, info.st_ino) in seen:
            return []
        seen.add((info.st_dev, info.st_ino))
        with os.scandir(folder) as scan:
            items = sorted(((item.name, _is_folder(item)) for item in scan), reverse=True)
    except OSError as error:
        return error
    return [
        f"{name}/" if is_folder else name
        for name, is_folder in items
        if not (is_folder and _is_hidden(name))
    ]


def _is_folder(item):
    try:
        return item.is_dir()
    except OSError:  # a link to itself; loading it will say so
        return False


def is_midi(name, others=None) -> bool:
    """Whether `entries` has a file of this name, which is relative to the folder or zip.

    >>> is_midi("a/b.MID"), is_midi("a/b.mp3"), is_midi(".git/b.mid")
    (True, False, False)
    """
    *folders, last = name.split("/")
    return not any(map(_is_hidden, folders)) and _is_wanted(last, others)


def _is_hidden(folder):
    """Two dots hide nothing: "...And Justice for All" is music."""
    return folder == "__MACOSX" or (folder.startswith(".") and not folder.startswith(".."))


def _is_wanted(name, others):
    suffix = os.path.splitext(name)[1].lower()
    if name.startswith("._"):
        return False
    if suffix in MIDI_SUFFIXES:
        return True
    if others is not None and not name.startswith("."):
        others[suffix or "without suffix"] += 1
    return False


def _file_entry(name, path):
    return Entry(name, lambda: _load_file(path))


def _load_file(path):
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):  # opening a pipe would wait for somebody to fill it
            _refuse("it is no file but a pipe or a device")
        if info.st_size > MAX_BYTES:
            _refuse(too_large(info.st_size))
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)  # it may be growing
    except OSError as error:
        raise Unreadable(f"it cannot be opened ({_why(error)})") from None


def _is_zip(path):
    if path.suffix.lower() == ".zip" or not path.is_file():
        return path.is_file()
    try:
        with open(path, "rb") as file:
            return file.read(4) == ZIP_BEGINS
    except OSError:  # loading it will say so
        return False


def _open_zip(path):
    try:
        return zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged, or is no zip ({error}). Copy or download it again."
        ) from None
    except OSError as error:
        raise type(error)(
            f"Cannot read {path}: {_why(error)}. Check that you may read it."
        ) from None


def _members(archive, others):
    """The archive stays open until the last entry is gone."""
    count = collections.Counter()
    names = [(_member_name(info), info) for info in archive.infolist() if not info.is_dir()]
    for name, info in sorted(names, key=lambda pair: pair[0]):
        if not is_midi(name, others):
            continue
        count[name] += 1
        unique = name if count[name] == 1 else f"{name} ({count[name]})"
        yield Entry(unique, lambda info=info: _load_member(archive, info))


def _member_name(info):
    """Old zips say nothing of their alphabet; if it can be UTF-8, as on a Macintosh, it is."""
    name = info.filename
    if not info.flag_bits & NAME_IS_UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return printable(name)


def _load_member(archive, info):
    if info.flag_bits & IS_ENCRYPTED:
        _refuse("it is locked with a password; unpack the zip first")
    if info.file_size > MAX_BYTES:
        _refuse(too_large(info.file_size))
    try:
        with archive.open(info) as file:
            return file.read(MAX_BYTES + 1)
    except Exception as error:  # each way to compress has errors of its own
        raise Unreadable(
            f"its place in the zip is damaged ({error or type(error).__name__})"
        ) from None


def printable(name):
    r"""A name that can stand in a table.

    >>> print(printable("caf\udce9\n.mid"))
    caf\udce9\n.mid
    """
    if name.isprintable():
        return name
    name = name.encode("utf-8", "backslashreplace").decode()
    return "".join(repr(c)[1:-1] if c < " " or c == "\x7f" else c for c in name)


def _why(error):
    return error.strerror or str(error) or type(error).__name__


def _refuse(reason):
    raise Unreadable(reason)
