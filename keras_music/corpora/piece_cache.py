"""What was read of each file before: a small database in the cache folder.

Reading a folder a second time should cost nothing, and a run that was killed should go on where it
was. So what was made of a file is kept under a number that its bytes give (a *hash*): whoever
renames or moves the file finds it again, whoever changes one byte does not, and no date of the
file system has to be trusted.

A database does what a folder of 200,000 small files does badly. It keeps several writers apart,
and a *transaction*, a group of changes, is there as a whole or not at all, however the process
ends. Answers are collected and written a few hundred at a time, for each transaction waits until
the disk has it.

A cache must never be worse than none. Where it cannot be written, all works without it, with one
warning; a database that is damaged is put aside, and a new one begun; and each answer is compressed
with a checksum, so that a flipped bit means that the file is read again.

Conventions: one SQLite database; its name has all that the answers depend on but the bytes: the
version of the reader and that of symusic. An answer is `pack_entry` of a row of the report and, if
the file was kept, its piece. Nothing in it can run code.

What this file does not do: it reads no MIDI, and it deletes nothing; the folder may be deleted at
any time.

References: SQLite, https://www.sqlite.org/atomiccommit.html
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
import warnings
import zlib

from keras_music.corpora.cache import cache_dir, installed_version
from keras_music.corpora.reader import READER_VERSION, dropped_row
from keras_music.midi.packing import pack_piece, unpack_piece

BATCH_ANSWERS = 256  # written at once at the latest
BATCH_BYTES = 2**24
BATCH_SECONDS = 0.5  # what a killed process may have read in vain
LOCK_SECONDS = 30.0  # how long another process may write
ROW_TYPES = {key: type(value) for key, value in dropped_row("", "").items()}
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT)


def pack_entry(row, piece) -> bytes:
    """What `reader.read_entry` returns, as bytes with a checksum, but for the file's name."""
    text = json.dumps({**row, "name": ""}).encode()
    return zlib.compress(text + b"\n" + (b"" if piece is None else pack_piece(piece)), 1)


def unpack_entry(data, name):
    """The row and the piece, under this name; None if the bytes are not what was packed.

    >>> from keras_music.corpora.reader import read_entry
    >>> unpack_entry(pack_entry(*read_entry("a.mid", b"?")), "b.mid")[0]["reason"]
    "it is no MIDI file: it begins with b'?' and not with b'MThd'"
    """
    try:
        text, _, packed = zlib.decompress(data).partition(b"\n")
        row = {**json.loads(text), "name": name}
        if {key: type(value) for key, value in row.items()} != ROW_TYPES:
            return None
        return row, unpack_piece(packed, name) if row["kept"] else None
    except (zlib.error, ValueError, TypeError, RecursionError):
        return None


class PieceCache:
    """The answers of earlier runs, to be used in a `with` statement, by one thread."""

    def __init__(self):
        version = installed_version("symusic")
        self.path = cache_dir() / f"midi_files-reader{READER_VERSION}-symusic-{version}.sqlite"
        self._database = None
        self._inode = None
        self._unwritten = {}
        self._num_bytes = 0
        self._written_at = time.monotonic()

    def __enter__(self):
        with self._guard("opened"):
            self._open()
        return self

    def __exit__(self, *_):
        self._write()
        self._close()

    def get(self, bytes_hash: str) -> bytes | None:
        """What `put` was given for these bytes, in this run or an earlier one."""
        if bytes_hash in self._unwritten:
            return self._unwritten[bytes_hash]
        with self._guard("read"):
            if self._database is not None:
                query = "SELECT answer FROM files WHERE hash = ?"
                found = self._database.execute(query, (bytes.fromhex(bytes_hash),)).fetchone()
                return found[0] if found else None
        return None

    def put(self, bytes_hash: str, answer: bytes):
        """Keeps an answer, at the latest when the `with` statement ends."""
        if self._database is None:
            return
        self._unwritten[bytes_hash] = answer
        self._num_bytes += len(answer)
        is_due = time.monotonic() - self._written_at > BATCH_SECONDS
        if is_due or len(self._unwritten) >= BATCH_ANSWERS or self._num_bytes >= BATCH_BYTES:
            self._write()

    def _write(self):
        rows = [(bytes.fromhex(key), answer) for key, answer in self._unwritten.items()]
        if rows and self._database is not None:
            with self._guard("written"), self._database:  # one transaction
                self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", rows)
        self._unwritten, self._num_bytes = {}, 0
        self._written_at = time.monotonic()

    def _open(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(self.path, timeout=LOCK_SECONDS)
        self._inode = os.stat(self.path).st_ino
        create = "CREATE TABLE IF NOT EXISTS files (hash BLOB PRIMARY KEY, answer BLOB NOT NULL)"
        self._database.execute(create)

    def _close(self):
        if self._database is not None:
            self._database.close()
        self._database = None

    @contextlib.contextmanager
    def _guard(self, what):
        """Goes on without the database, or with a new one, if anything is wrong with it."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            self._close()
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
                self._warn(f"could not be {what} ({error})")
                return
            self._warn(f"is damaged ({error}) and was put aside")
            try:
                self._put_aside()
                self._open()
            except (sqlite3.Error, OSError):
                self._close()

    def _put_aside(self):
        """Renames the database, unless another process was faster and has begun a new one."""
        if os.stat(self.path).st_ino != self._inode:
            return
        for suffix in ("-journal", ""):  # a journal that is left would be taken for the new one's
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{suffix}", f"{self.path}{suffix}.damaged")

    def _warn(self, what):
        warnings.warn(
            f"{self.path.name} in {self.path.parent}, the cache of files read before, {what}. "
            "Files will be read again; set KERAS_MUSIC_CACHE to a folder that can be written.",
            stacklevel=5,
        )
