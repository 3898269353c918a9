"""A folder of anybody's MIDI: what a new user has in it, and what may go wrong while it is read."""

import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time

import pytest
from midi_files import DROPPED, KEPT, NOTE, mutants
from test_midi import assert_same, smf

from keras_music.corpora import Report, bach_chorales, folder, midi_folder
from keras_music.corpora.reader import read_entry
from keras_music.corpora.workers import Workers
from keras_music.midi import midi_bytes, read_midi, write_midi

PLAIN = smf(NOTE)
LONGER = smf(NOTE * 2)


def fill(path, files):
    """Writes {name: bytes} and returns the folder."""
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.fixture
def midis(tmp_path):
    """A folder beside the cache."""
    (tmp_path / "midis").mkdir()
    return tmp_path / "midis"


@pytest.fixture
def no_workers(monkeypatch):
    """From here on nothing may be read."""

    def fail(*_):
        raise AssertionError("a worker was started")

    monkeypatch.setattr(Workers, "_start", fail)


def table(corpus):
    """What a report says, as text, in which NaN is equal to itself."""
    return corpus.report.to_csv()


class TestNewUser:
    FILES = {
        "Für Elise.MID": LONGER,
        "rock & roll/...And Justice/One.midi": smf("00 99 24 40  60 89 24 40", NOTE),
        "rock & roll/copy of Für Elise.mid": LONGER,
        "rock & roll/cover.jpg": b"\xff\xd8",
        "empty.mid": b"",
        "really.mid": b"ID3\3\0",
        "._really.mid": b"\0\5\26\7",
        "雪.kar": PLAIN,
    }

    @pytest.mark.parametrize("kind", [str, pathlib.Path])
    def test_a_messy_folder(self, midis, own_cache, kind, capfd):
        corpus = midi_folder(kind(fill(midis, self.FILES)))
        assert (
            repr(corpus) == "Corpus('midis', 4 pieces, 7 notes, 0 minutes, 2 left out: see .report)"
        )
        assert [piece.name for piece in corpus] == list(corpus.names) == [
            "Für Elise.MID",
            "rock & roll/...And Justice/One.midi",
            "rock & roll/copy of Für Elise.mid",
            "雪.kar",
        ]  # fmt: skip
        assert type(corpus.report) is Report
        shown = corpus.report[["name", "notes", "seconds", "programs", "kept", "reason", "same_as"]]
        assert shown.values.tolist() == [
            ["Für Elise.MID", 2, 1.0, "0", True, "", ""],
            ["rock & roll/...And Justice/One.midi", 2, 0.5, "0 drums", True, "", ""],
            ["rock & roll/copy of Für Elise.mid", 2, 1.0, "0", True, "", "Für Elise.MID"],
            ["雪.kar", 1, 0.5, "0", True, "", ""],
            ["empty.mid", 0, 0.0, "", False, "it is empty (0 bytes)", ""],
            ["really.mid", 0, 0.0, "", False, "it is no MIDI file: it is a sound file (MP3)", ""],
        ]
        assert set(corpus.report) == {*shown, "tempo_bpm", "warnings"}
        assert corpus.report["tempo_bpm"].isna().tolist() == [False] * 4 + [True] * 2
        counted = corpus.report.summary()["number"]
        assert counted["left out"].to_dict() == {"it is empty": 1, "it is no MIDI file": 1}
        assert counted["files"].tolist() == [4, 2, 1]
        assert capfd.readouterr() == ("", "")  # not a terminal: no progress bar

    def test_the_same_as_a_zip(self, midis, tmp_path, own_cache):
        corpus = midi_folder(fill(midis, self.FILES), name="mine")
        archive = shutil.make_archive(tmp_path / "music", "zip", midis)
        zipped = midi_folder(archive)
        assert repr(zipped) == repr(corpus).replace("mine", "music")
        assert table(zipped) == table(corpus)
        for one, other in zip(corpus, zipped, strict=True):
            assert_same(one, other)

    @pytest.mark.parametrize("name", ["Für Elise.mid", "no suffix"])
    def test_one_file(self, midis, own_cache, name):
        corpus = midi_folder(fill(midis, {name: PLAIN}) / name)
        assert [piece.name for piece in corpus] == [name]
        assert corpus.name == pathlib.Path(name).stem

    def test_pieces_are_those_of_read_midi(self, midis, own_cache):
        fill(midis, {name: data for name, (data, _) in KEPT.items()})
        corpus = midi_folder(midis)
        assert sorted(corpus.names) == sorted(KEPT)
        for piece in corpus:
            assert_same(piece, read_midi(KEPT[piece.name][0]))

    def test_every_trap_has_its_row(self, midis, own_cache):
        files = {name: data for name, (data, _) in {**KEPT, **DROPPED}.items()}
        report = midi_folder(fill(midis, files)).report.set_index("name")
        for name, data in files.items():
            row, _ = read_entry(name, data)
            found = {**row, **report.loc[name].drop("same_as").to_dict()}
            assert str(found) == str(row)

    def test_a_current_folder_and_a_home(self, midis, own_cache, monkeypatch):
        fill(midis, {"a.mid": PLAIN})
        monkeypatch.chdir(midis)
        assert midi_folder(".").name == "midis"
        monkeypatch.setenv("HOME", str(midis.parent))
        assert midi_folder("~/midis").name == "midis"
        midis.rename(midis.parent / "op. 27.2")
        assert midi_folder("~/op. 27.2").name == "op. 27.2"

    def test_pieces_go_on_into_a_split(self, midis, own_cache):
        for number, piece in enumerate(bach_chorales()[:10]):
            write_midi(piece, midis / f"{number}.mid")
        train, valid, test = midi_folder(midis).split(seed=0)
        assert (len(train), len(valid), len(test)) == (8, 1, 1)


def test_without_standard_error_there_is_no_progress_bar(midis, own_cache, monkeypatch):
    """As under pythonw, in a daemon, and after `2>&-`: tqdm wrote into None."""
    monkeypatch.setattr(sys, "stderr", None)
    assert len(midi_folder(fill(midis, {"a.mid": PLAIN}))) == 1


class TestNothing:
    ONLY = "Only files named .mid, .midi, .kar, .rmi or .smf are read."

    @pytest.mark.parametrize(
        ("files", "sentence"),
        [
            ({}, f"There is no file in {{}}. {ONLY} Check the path."),
            (
                {"a.mp3": b"", "b.MP3": b"", "cover.jpg": b""},
                "There is no MIDI file in {}: it holds 2 files .mp3 and 1 file .jpg. These are "
                "recordings, and MIDI files are lists of notes: look for the same music as MIDI, "
                "or let a transcription program such as basic-pitch write down the notes.",
            ),
            (
                {"a.mscz": b""},
                "There is no MIDI file in {}: it holds 1 file .mscz. These are scores: open them "
                "in a notation program such as MuseScore and export MIDI.",
            ),
            (
                {"a.zip": b""},
                "There is no MIDI file in {}: it holds 1 file .zip. Unpack the archives first, or "
                "give the path of one .zip.",
            ),
            ({"a": b""}, f"There is no MIDI file in {{}}: it holds 1 file without suffix. {ONLY}"),
            (
                {"a.mid": b"", "b.mid": b"", "c.mid": b"?", "d.mp3": b""},
                "None of the 3 MIDI files in {} can be used: it is empty (0 bytes) (2); it is no "
                "MIDI file: it begins with b'?' and not with b'MThd' (1). Beside them there are 1 "
                "file .mp3. Export them again from the program that made them, or give another "
                "folder.",
            ),
        ],
    )
    def test_a_folder_in_which_nothing_survives(self, midis, own_cache, files, sentence):
        with pytest.raises(ValueError) as caught:
            midi_folder(fill(midis, files))
        assert str(caught.value) == sentence.format(midis)

    def test_a_single_file_that_is_bad(self, midis, own_cache):
        path = fill(midis, {"a.mid": b""}) / "a.mid"
        with pytest.raises(ValueError) as caught:
            midi_folder(path)
        assert str(caught.value) == (
            f"{path} cannot be used: it is empty (0 bytes). Give another file."
        )

    def test_reasons_without_end_are_not_all_told(self, midis, own_cache):
        fill(midis, {f"{number}.mid": bytes([number + 1]) for number in range(30)})
        with pytest.raises(ValueError, match=r"\(1\); and 20 other reasons\. Export"):
            midi_folder(midis)

    def test_nothing_there(self, midis):
        with pytest.raises(FileNotFoundError, match="^There is no file or folder"):
            midi_folder(midis / "nowhere")

    def test_num_workers(self, midis):
        with pytest.raises(
            ValueError, match="^`num_workers` must be a whole number >= 1. Received"
        ):
            midi_folder(fill(midis, {"a.mid": PLAIN}), num_workers=0)


class TestCache:
    FILES = {"a.mid": PLAIN, "b/c.mid": LONGER, "bad.mid": b"MThd"}

    def test_what_was_read_is_not_read_again(self, midis, own_cache, request):
        first = midi_folder(fill(midis, self.FILES))
        request.getfixturevalue("no_workers")
        second = midi_folder(midis)
        assert table(second) == table(first)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
        (midis / "b" / "c.mid").rename(midis / "moved.mid")
        (midis / "a.mid").touch()
        assert midi_folder(midis).names == ("a.mid", "moved.mid")

    def test_what_was_changed_is_read_again(self, midis, own_cache):
        """Though its size and its date are the same."""
        assert midi_folder(fill(midis, self.FILES))[0].notes.pitch.tolist() == [60]
        stat = (midis / "a.mid").stat()
        (midis / "a.mid").write_bytes(PLAIN.replace(b"\x3c", b"\x3d"))
        os.utime(midis / "a.mid", ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert midi_folder(midis)[0].notes.pitch.tolist() == [61]

    def test_a_run_that_was_stopped_goes_on(self, midis, own_cache, monkeypatch):
        """Ctrl-C at the third file: the first two are not read again."""
        files = {f"{number}.mid": smf(NOTE * (number + 1)) for number in range(5)}
        fill(midis, files)
        asked = []

        class Stopping(Workers):
            def map(self, items):
                for number, answer in enumerate(super().map(items)):
                    if number == 2 and len(asked) == 1:
                        raise KeyboardInterrupt
                    yield answer

        def stopping(*arguments):
            asked.append(arguments)
            return Stopping(*arguments)

        monkeypatch.setattr(folder, "Workers", stopping)
        with pytest.raises(KeyboardInterrupt):
            midi_folder(midis)
        read = []
        monkeypatch.setattr(folder.PieceCache, "put", lambda self, key, answer: read.append(key))
        assert len(midi_folder(midis)) == 5
        assert len(read) == 3

    def test_without_a_cache_it_works(self, midis, own_cache):
        own_cache.write_bytes(b"a file")
        with pytest.warns(UserWarning, match="could not be opened") as caught:
            assert len(midi_folder(fill(midis, self.FILES))) == 2
        assert len(caught) == 1


class TestDeadlyFiles:
    FILES = {
        "a.mid": PLAIN,
        "b.mid": b"MThd kills",
        "c.mid": LONGER,
        "d.mid": b"MThd stops",
        "e.mid": b"MThd fills",
        "f.mid": PLAIN,
    }

    def test_each_costs_itself(self, midis, own_cache, monkeypatch):
        def workers(_, num_workers):
            return Workers("worker_functions:read_or_die", num_workers, seconds_per_item=1)

        monkeypatch.setattr(folder, "Workers", workers)
        for _ in range(2):  # such answers are not kept: the machine may have been at fault
            report = midi_folder(fill(midis, self.FILES)).report
            assert dict(zip(report["name"], report["reason"], strict=True)) == {
                "a.mid": "",
                "c.mid": "",
                "f.mid": "",
                "b.mid": "it cannot be read (the process that worked on it died (SIGSEGV))",
                "d.mid": "it cannot be read (it took longer than 1 s)",
                "e.mid": "it cannot be read (MemoryError: )",
            }


@pytest.fixture(scope="module")
def bach():
    """Chorales as MIDI files."""
    return [midi_bytes(piece) for piece in bach_chorales()[:40]]


class TestMutants:
    def test_a_thousand(self, midis, own_cache, bach):
        """The run ends, every file has a row, and it is the one that `read_entry` gives."""
        files = {f"{i:04}.mid": data for i, data in enumerate(mutants(bach[:10], 1000, seed=1))}
        fill(midis, files)
        begin = time.perf_counter()
        corpus = midi_folder(midis)
        assert time.perf_counter() - begin < 120
        report = corpus.report.set_index("name")
        assert sorted(report.index) == sorted(files)
        assert 100 < len(corpus) < 900
        pieces = {piece.name: piece for piece in corpus}
        for name, data in files.items():
            row, piece = read_entry(name, data)
            found = {**row, **report.loc[name].drop("same_as").to_dict()}
            assert str(found) == str(row)
            if piece is not None:
                assert_same(pieces[name], piece)


def script(path, *arguments, text=""):
    """A student's script: no `if __name__ == "__main__"`, and it says when it begins."""
    program = f"""
        import sys
        print("begins", flush=True)
        from keras_music.corpora import midi_folder
        corpus = midi_folder(sys.argv[1], num_workers=2)
        {text or "print(corpus)"}
    """
    (path / "script.py").write_text(textwrap.dedent(program))
    return subprocess.Popen(
        [sys.executable, str(path / "script.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestProcesses:
    def test_a_script_without_a_guard(self, midis, tmp_path, own_cache):
        process = script(tmp_path, fill(midis, {"a.mid": PLAIN}))
        output, error = process.communicate(timeout=60)
        assert (output, error) == ("begins\nCorpus('midis', 1 piece, 1 notes, 0 minutes)\n", "")

    def test_two_at_once_on_one_cache(self, midis, tmp_path, own_cache, bach):
        fill(midis, {f"{i:03}.mid": data for i, data in enumerate(mutants(bach, 300, seed=2))})
        processes = [script(tmp_path, midis, text="print(corpus.report.to_csv())") for _ in "ab"]
        outputs = [process.communicate(timeout=120) for process in processes]
        assert outputs[0] == outputs[1]
        assert outputs[0][0] == f"begins\n{table(midi_folder(midis))}\n"

    @pytest.mark.slow
    def test_killed_at_random_moments(self, midis, tmp_path, own_cache, bach, monkeypatch):
        """The next run goes on, and ends with what an unbroken one has."""
        files = mutants(bach, 1500, seed=3)
        fill(midis, {f"{number:04}.mid": data for number, data in enumerate(files)})
        begin = time.perf_counter()
        with monkeypatch.context() as context:
            context.setenv("KERAS_MUSIC_CACHE", str(tmp_path / "other"))
            unbroken = table(midi_folder(midis, num_workers=2))
        seconds = time.perf_counter() - begin
        for moment in range(10):
            process = script(tmp_path, midis)
            process.stdout.readline()
            time.sleep(0.5 + moment / 10 * seconds)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        with contextlib.closing(sqlite3.connect(next(own_cache.glob("*.sqlite")))) as database:
            ((num_read,),) = database.execute("SELECT count(*) FROM files")
        assert num_read > 0
        assert table(midi_folder(midis)) == unbroken
