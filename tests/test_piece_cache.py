"""The cache of files read: what it survives, and that it is never worse than none."""

import os
import sqlite3
import subprocess
import sys
import textwrap
import time
import warnings
import zlib

import pytest
import symusic
from midi_files import DROPPED, KEPT
from test_midi import assert_same

from keras_music.corpora import piece_cache as module
from keras_music.corpora.piece_cache import PieceCache, pack_entry, unpack_entry
from keras_music.corpora.reader import bytes_hash, read_entry

HASHES = [bytes_hash(bytes([number])) for number in range(100)]


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def fill(*answers):
    with PieceCache() as cache:
        for key, answer in zip(HASHES, answers, strict=False):
            cache.put(key, answer)


def content(num_hashes=3):
    with PieceCache() as cache:
        return [cache.get(key) for key in HASHES[:num_hashes]]


class TestPacking:
    @pytest.mark.parametrize("name", KEPT)
    def test_what_is_kept_comes_back_under_another_name(self, name):
        row, piece = read_entry(name, KEPT[name][0])
        again, same = unpack_entry(pack_entry(row, piece), "other.mid")
        assert again == {**row, "name": "other.mid"}
        assert list(again) == list(row)
        assert_same(same, piece)
        assert same.name == "other.mid"

    @pytest.mark.parametrize("name", DROPPED)
    def test_what_is_dropped_comes_back(self, name):
        row, piece = read_entry(name, DROPPED[name][0])
        again, nothing = unpack_entry(pack_entry(row, piece), name)
        assert piece is nothing is None
        assert str(again) == str(row)  # NaN is not equal to itself

    def test_any_flipped_byte_is_noticed(self):
        """Or it does not count: the last bits of the compressed stream are there to fill a byte."""
        row, piece = read_entry("a", KEPT["plain.mid"][0])
        packed = pack_entry(row, piece)
        for place in range(len(packed)):
            damaged = packed[:place] + bytes([packed[place] ^ 0x40]) + packed[place + 1 :]
            if (found := unpack_entry(damaged, "a")) is not None:
                assert found[0] == row
                assert_same(found[1], piece)

    @pytest.mark.parametrize(
        "data",
        [
            None,
            b"",
            "text",
            b"no zlib",
            *map(zlib.compress, (b"", b"[]", b"{}", b'{"kept": true}', b'{"kept": false}')),
            zlib.compress(b"[" * 200_000),
        ],
    )
    def test_what_was_never_packed(self, data):
        assert unpack_entry(data, "a") is None

    @pytest.mark.parametrize(
        "change", [{"seconds": "long"}, {"kept": 1}, {"notes": None}, {"x": 1}]
    )
    def test_a_row_of_another_kind(self, change):
        """It would be a column of the report in which nothing can be added up."""
        row, piece = read_entry("a", KEPT["plain.mid"][0])
        assert unpack_entry(pack_entry(row | change, piece), "a") is None


class TestKeeping:
    def test_an_answer_is_there_at_once_and_later(self, own_cache):
        with PieceCache() as cache:
            assert cache.get(HASHES[0]) is None
            cache.put(HASHES[0], b"answer")
            assert cache.get(HASHES[0]) == b"answer"
        assert content() == [b"answer", None, None]
        versions = f"reader{module.READER_VERSION}-symusic-{symusic.__version__}"
        assert only_file(own_cache).name == f"midi_files-{versions}.sqlite"

    def test_an_answer_can_be_replaced(self, own_cache):
        fill(b"old")
        fill(b"new")
        assert content(1) == [b"new"]

    def test_another_reader_has_another_file(self, own_cache, monkeypatch):
        fill(b"old")
        monkeypatch.setattr(module, "READER_VERSION", 99)
        assert content(1) == [None]
        assert len(list(own_cache.iterdir())) == 2

    def test_what_was_read_before_an_error_is_kept(self, own_cache):
        with pytest.raises(KeyboardInterrupt), PieceCache() as cache:
            cache.put(HASHES[0], b"answer")
            raise KeyboardInterrupt
        assert content(1) == [b"answer"]

    @pytest.mark.parametrize(
        ("limit", "value"),
        [("BATCH_ANSWERS", 2), ("BATCH_BYTES", 10), ("BATCH_SECONDS", -1.0)],
    )
    def test_answers_are_written_in_batches(self, own_cache, monkeypatch, limit, value):
        for name in ("BATCH_ANSWERS", "BATCH_BYTES", "BATCH_SECONDS"):
            monkeypatch.setattr(module, name, 10**9)
        with PieceCache() as cache:
            cache.put(HASHES[0], b"answer")
            assert content(2) == [None, None]
            monkeypatch.setattr(module, limit, value)
            cache.put(HASHES[1], b"answer")
            assert content(2) == [b"answer", b"answer"]  # as another process sees it


class TestDamage:
    def damage_and_look(self, path, data):
        path.write_bytes(data)
        with pytest.warns(UserWarning, match="is damaged .* and was put aside"):
            first = content()
        assert first == [None] * 3
        assert path.with_name(f"{path.name}.damaged").read_bytes() == data
        fill(b"new")
        assert content(1) == [b"new"]

    def test_what_is_no_database_is_put_aside(self, own_cache):
        fill(b"answer" * 100)
        self.damage_and_look(only_file(own_cache), b"no database" * 1000)

    def test_a_database_that_is_cut_short(self, own_cache):
        fill(*[os.urandom(5000) for _ in HASHES])
        path = only_file(own_cache)
        self.damage_and_look(path, path.read_bytes()[:8192])

    def test_damage_that_is_met_later(self, own_cache):
        """All pages but the first: the database opens, and its answers cannot be found."""
        fill(*[os.urandom(5000) for _ in HASHES])
        path = only_file(own_cache)
        whole = path.read_bytes()
        self.damage_and_look(path, whole[:4096] + b"\xff" * (len(whole) - 4096))

    def test_what_another_process_began_anew_is_left_alone(self, own_cache):
        """Of two that meet one damaged database, the slower one must not put the new one aside."""
        fill(b"old")
        path = only_file(own_cache)
        error = sqlite3.DatabaseError("file is not a database")
        error.sqlite_errorcode = sqlite3.SQLITE_NOTADB
        with pytest.warns(UserWarning, match="is damaged .* put aside"), PieceCache() as slow:
            os.replace(path, f"{path}.damaged")
            fill(b"new")
            with slow._guard("read"):
                raise error
            assert slow.get(HASHES[0]) == b"new"
        assert content(1) == [b"new"]

    def test_an_empty_file_is_a_new_database(self, own_cache):
        fill(b"answer")
        only_file(own_cache).write_bytes(b"")
        assert content(1) == [None]

    def test_other_tables_are_an_error_of_reading(self, own_cache):
        fill(b"answer")
        with sqlite3.connect(only_file(own_cache)) as database:
            database.execute("DROP TABLE files")
            database.execute("CREATE TABLE files (something)")
        database.close()
        with pytest.warns(UserWarning, match="could not be read .*set KERAS_MUSIC_CACHE"):
            assert content() == [None] * 3


class TestDisks:
    """Where it cannot be written, there is one warning, and no answer is lost in this run."""

    def check_one_warning(self, what, number=50):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with PieceCache() as cache:
                for key in HASHES[:number]:
                    assert cache.get(key) is None
                    cache.put(key, b"answer" * 1000)
        assert len(caught) == 1
        assert f"could not be {what} (" in str(caught[0].message)
        assert "set KERAS_MUSIC_CACHE to a folder that can be written" in str(caught[0].message)

    def test_a_folder_that_cannot_be_made(self, own_cache):
        own_cache.write_bytes(b"a file")
        self.check_one_warning("opened")

    def test_a_folder_in_the_place_of_the_file(self, own_cache):
        with PieceCache() as cache:
            path = cache.path
        path.unlink()
        path.mkdir()
        self.check_one_warning("opened")

    def test_a_full_disk(self, own_cache, monkeypatch):
        real = sqlite3.connect

        def connect(*arguments, **settings):
            database = real(*arguments, **settings)
            database.execute("PRAGMA max_page_count = 20")
            return database

        monkeypatch.setattr(module.sqlite3, "connect", connect)
        self.check_one_warning("written")
        monkeypatch.undo()

    def test_a_read_only_disk_still_gives_answers(self, own_cache, monkeypatch):
        fill(b"answer")
        real = sqlite3.connect
        monkeypatch.setattr(
            module.sqlite3,
            "connect",
            lambda path, timeout: real(f"file:{path}?mode=ro", timeout=timeout, uri=True),
        )
        with (
            pytest.warns(UserWarning, match="could not be written .*readonly"),
            PieceCache() as cache,
        ):
            assert cache.get(HASHES[0]) == b"answer"
            cache.put(HASHES[1], b"new")

    def test_somebody_else_writes_for_ever(self, own_cache, monkeypatch):
        monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
        fill(b"answer")
        other = sqlite3.connect(only_file(own_cache))
        other.execute("BEGIN IMMEDIATE")
        with pytest.warns(UserWarning, match="could not be written .*locked"):
            fill(b"new", b"new")
        other.rollback()
        other.close()
        assert content() == [b"answer", None, None]


WRITER = """
    import sys, zlib
    from keras_music.corpora.piece_cache import PieceCache
    from keras_music.corpora.reader import bytes_hash
    import keras_music.corpora.piece_cache as module
    module.BATCH_ANSWERS = 7
    with PieceCache() as cache:
        for number in range(int(sys.argv[1]), int(sys.argv[2])):
            key = bytes_hash(str(number).encode())
            cache.put(key, zlib.compress(key.encode() * 50))
            if number % 100 == 0:
                print(number, flush=True)
"""


def writer(first, last):
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def how_many(last):
    """How many of the writer's answers are there; each is whole."""
    found = 0
    with PieceCache() as cache:
        for number in range(last):
            key = bytes_hash(str(number).encode())
            answer = cache.get(key)
            assert answer is None or zlib.decompress(answer) == key.encode() * 50
            found += answer is not None
    return found


class TestProcesses:
    def test_four_write_at_once(self, own_cache):
        writers = [writer(first, first + 500) for first in (0, 250, 500, 750)]
        for process in writers:
            _, error = process.communicate(timeout=120)
            assert (process.returncode, error) == (0, "")
        assert how_many(1250) == 1250

    def test_killed_at_any_moment(self, own_cache):
        """What was written before is there, and the next one writes on."""
        for number in range(1, 6):
            process = writer(0, 10**9)
            process.stdout.readline()
            time.sleep(0.02 * number)
            process.kill()
            process.communicate()
            assert how_many(10_000) > 0
