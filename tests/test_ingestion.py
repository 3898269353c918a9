"""`ingest`: the same as `midi_folder`, whatever stops it and however often."""

import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import keras_music as km
from keras_music import ingestion, preparation
from keras_music.corpora.folder import midi_folder
from keras_music.corpora.reader import bytes_hash, read_entry, split_of
from keras_music.data import make_dataset
from keras_music.ingestion import ingest
from keras_music.records import open_shards, parse_example
from keras_music.tokenizers import NoteTokenizer, PerformanceTokenizer, RemiTokenizer

TESTS = pathlib.Path(__file__).parent
TOKENIZER = NoteTokenizer()
SPLIT = {"seed": 1, "fractions": (0.4, 0.3, 0.3)}


def melody(seed, count=20):
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.integers(1, 4, count)) * 0.125
    return km.Piece({"pitch": rng.integers(40, 80, count), "start": start, "end": start + 0.25})


def write_folder(folder, count=12):
    """Good files in two folders, and some that are not."""
    for number in range(count):
        km.write_midi(
            melody(number), folder / ("été" if number % 3 else "a b") / f"{number:03}.mid"
        )
    (folder / "empty.mid").write_bytes(b"")
    (folder / "song.MID").write_bytes(b"ID3 no MIDI")
    (folder / "readme.txt").write_text("not looked at")
    km.write_midi(km.Piece(melody(1).notes.assign(pitch=lambda n: n.pitch + 3)), folder / "z.midi")
    return folder


@pytest.fixture(scope="module")
def midis(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("midis"))


@pytest.fixture
def own_midis(tmp_path):
    return write_folder(tmp_path / "midis")


def run(midis, out, **kwargs):
    return ingest(midis, TOKENIZER, out, **{"files_per_shard": 4, "num_workers": 1} | kwargs)


def contents(out):
    """All files of a folder but the lock, {name: bytes}."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def pieces_of(shards):
    return [
        (side.name, name, ids.tolist()) for side in shards.split() for ids, name in side.records()
    ]


# ---- What is written -----------------------------------------------------------------------------


def test_it_is_what_midi_folder_reads(midis, tmp_path, own_cache):
    shards = run(midis, tmp_path / "out", **SPLIT)
    corpus = midi_folder(midis, num_workers=1)
    assert len(corpus) == 13
    sides = {}
    for path in midis.rglob("*.mid*"):
        row, _ = read_entry("", path.read_bytes())
        sides[path.relative_to(midis).as_posix()] = split_of(row["digest"], **SPLIT)
    expected = [(sides[p.name], p.name, TOKENIZER.encode(p).tolist()) for p in corpus]
    assert pieces_of(shards) == sorted(
        expected, key=lambda row: ("train", "valid", "test").index(row[0])
    )
    assert {side for side, *_ in expected} == {"train", "valid", "test"}

    ours, theirs = (
        r.sort_values("name", ignore_index=True) for r in (shards.report, corpus.report)
    )
    assert list(ours) == [*theirs, "split", "shard"]
    for column in theirs:
        assert ours[column].equals(theirs[column].astype(ours[column].dtype)), column
    kept = ours[ours["kept"]]
    assert kept["split"].tolist() == [sides[name] for name in kept["name"]]
    assert (kept["shard"].str.split("-").str[0] == kept["split"]).all()
    assert set(ours[~ours["kept"]]["shard"]) == {""}
    assert (
        ours["same_as"].tolist()[-1] == "a b/001.mid" if "a b/001.mid" in sides else "été/001.mid"
    )
    assert shards.report.summary().loc[("files", "kept"), "number"] == 13


def test_windows_are_those_of_memory(midis, tmp_path, own_cache):
    """All in train: then one shard after the other holds the pieces in the corpus' order."""
    shards = run(midis, tmp_path / "out", fractions=(1, 0, 0))
    streamed, in_memory = (
        [x.tolist() for x, _ in make_dataset(corpus, TOKENIZER, 16, 4).as_numpy_iterator()]
        for corpus in (shards.train, midi_folder(midis, num_workers=1))
    )
    assert streamed == in_memory


def test_the_folder(midis, tmp_path):
    out = tmp_path / "new" / "out"
    shards = run(midis, out)
    names = {path.name for path in out.iterdir()}
    assert {"manifest.json", "report.csv", "tokenizer.json", "parts"} < names
    assert km.tokenizers.load(shards.tokenizer_path) == TOKENIZER
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["source"] == {"name": midis.name, "files": 15, "kept": 13}
    assert manifest["split"] == {"seed": 0, "fractions": [0.8, 0.1, 0.1]}
    assert manifest["keras_music"] == km.__version__
    assert sum(len(row["ids"]) for row in manifest["shards"]) == 13


def test_a_zip_and_one_file(midis, tmp_path):
    with zipfile.ZipFile(tmp_path / "midis.zip", "w") as archive:
        for path in sorted(midis.rglob("*")):
            archive.write(path, path.relative_to(midis))
    from_zip = run(tmp_path / "midis.zip", tmp_path / "zip")
    from_folder = run(midis, tmp_path / "folder")
    assert pieces_of(from_zip) == pieces_of(from_folder)
    one = run(midis / "a b" / "000.mid", tmp_path / "one")
    assert [name for _, name, _ in pieces_of(one)] == ["000.mid"]


def test_workers_never_import_tensorflow(tmp_path):
    code = "import sys; import keras_music.ingestion; print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "False\n"


# ---- What is left out ----------------------------------------------------------------------------


def test_a_piece_that_the_tokenizer_cannot_write_is_left_out(own_midis, tmp_path):
    """A note after three hours, in milliseconds: more ids than any network reads."""
    late = km.Piece([{"pitch": 60, "start": 1e4, "end": 1e4 + 1}])
    km.write_midi(late, own_midis / "late.mid")
    tokenizer = PerformanceTokenizer(1000, max_shift_steps=1)
    report = ingest(own_midis, tokenizer, tmp_path / "out", num_workers=1).report.set_index("name")
    row = report.loc["late.mid"]
    sentence = "the tokenizer cannot write it: `piece` must give at most 10000000 tokens. Received"
    assert not row["kept"] and row["reason"].startswith(sentence)
    assert (row["notes"], row["split"], row["shard"]) == (1, "", "")
    assert report["kept"].sum() == 13
    assert report["tempo_bpm"].isna().tolist() == (~report["kept"]).tolist()


def test_a_file_that_kills_its_reader_costs_one_file_and_is_tried_again(
    own_midis, tmp_path, monkeypatch
):
    shutil.copy(own_midis / "a b" / "000.mid", own_midis / "killer.mid")
    with monkeypatch.context() as context:
        context.setattr(ingestion, "PREPARE", "failing_prepare:prepare")
        row = run(own_midis, tmp_path / "out").report.set_index("name").loc["killer.mid"]
        assert row["reason"] == "it cannot be read (the process that worked on it died (SIGABRT))"
    shards = run(own_midis, tmp_path / "out")
    assert shards.report["kept"].sum() == 14
    assert contents(tmp_path / "out") == contents(run(own_midis, tmp_path / "other").folder)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "There is no file in .*midis. Only files named .mid"),
        (
            {"a.mp3": b"", "b.mp3": b""},
            "There is no MIDI file in .*: it holds 2 files .mp3.*record",
        ),
        (
            {"a.mid": b"", "b.mid": b"", "c.mid": b"x"},
            r"None of the 3 MIDI .*\(0 bytes\) \(2\); it",
        ),
    ],
)
def test_nothing_to_use_is_an_error_and_never_an_empty_corpus(tmp_path, files, sentence):
    (tmp_path / "midis").mkdir()
    for name, data in files.items():
        (tmp_path / "midis" / name).write_bytes(data)
    for _ in range(2):
        with pytest.raises(ValueError, match=sentence):
            run(tmp_path / "midis", tmp_path / "out")
        assert not (tmp_path / "out" / "manifest.json").exists()


def test_what_cannot_be_opened_has_a_row_and_is_not_done_again(own_midis, tmp_path):
    os.mkfifo(own_midis / "pipe.mid")
    shards = run(own_midis, tmp_path / "out")
    row = shards.report.set_index("name").loc["pipe.mid"]
    assert row["reason"] == "it is no file but a pipe or a device"
    before = times(tmp_path / "out")
    run(own_midis, tmp_path / "out")
    assert times(tmp_path / "out") == before


# ---- Going on ------------------------------------------------------------------------------------


def times(out):
    """When each shard and part was written."""
    files = [*out.glob("*.tfrecord"), *out.glob("parts/0*")]
    return {path.name: path.stat().st_mtime_ns for path in files}


def changed(out, before):
    now = times(out)
    return {
        int(name.split(".")[0][-5:]) for name in before | now if before.get(name) != now.get(name)
    }


def test_what_is_done_is_not_done_again(midis, tmp_path):
    first = run(midis, tmp_path / "out")
    before, written = contents(tmp_path / "out"), times(tmp_path / "out")
    for path in midis.rglob("*"):
        os.utime(path)  # a date is no content
    assert pieces_of(run(midis, tmp_path / "out")) == pieces_of(first)
    assert contents(tmp_path / "out") == before
    assert times(tmp_path / "out") == written


def test_changed_files_are_read_again(own_midis, tmp_path):
    """15 files in tasks of 4: a changed one costs its task; after a new one, all tasks shift."""
    out = tmp_path / "out"
    run(own_midis, out)
    before = times(out)
    path = own_midis / "été" / "010.mid"
    date = path.stat().st_mtime_ns
    data = km.midi.midi_bytes(melody(10).notes.assign(velocity=1).pipe(km.Piece))
    assert len(data) == path.stat().st_size
    path.write_bytes(data)
    os.utime(path, ns=(date, date))  # neither size nor date tell
    run(own_midis, out)
    number = [entry.name for entry in ingestion.entries(own_midis)].index("été/010.mid") // 4
    assert changed(out, before) == {number}
    assert contents(out) == contents(run(own_midis, tmp_path / "other").folder)

    km.write_midi(melody(99), own_midis / "été" / "0000.mid")
    run(own_midis, out)
    assert contents(out) == contents(run(own_midis, tmp_path / "third").folder)

    for path in own_midis.glob("été/*"):
        path.unlink()
    run(own_midis, out)
    assert contents(out) == contents(run(own_midis, tmp_path / "fourth").folder)


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "part", "manifest"])
def test_what_is_damaged_is_mended(midis, tmp_path, damage):
    out = tmp_path / "out"
    run(midis, out)
    before = contents(out)
    files = {"part": "parts/00001.jsonl", "manifest": "manifest.json"}
    path = out / files.get(damage, "train-00001.tfrecord")
    data = path.read_bytes()
    path.write_bytes(
        data[:40] + bytes([data[40] ^ 1]) + data[41:] if damage == "flip" else data[:9]
    )
    if damage == "delete":
        path.unlink()
    run(midis, out)
    assert contents(out) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda header, rows: [{}, *rows],
        lambda header, rows: [None],
        lambda header, rows: [[]],
        lambda header, rows: [header, *({} for _ in rows)],
        lambda header, rows: [header, *(row | {"kept": False} for row in rows)],
        lambda header, rows: [header | {"shards": [{"file": 5}]}, *rows],
    ],
)
def test_a_part_that_was_changed_by_hand_is_made_again(midis, tmp_path, damage):
    run(midis, tmp_path)
    before, part = contents(tmp_path), tmp_path / "parts" / "00000.jsonl"
    header, *rows = map(json.loads, part.read_text().splitlines())
    lines = damage(header, rows)
    part.write_text("\n".join(map(json.dumps, lines)))
    run(midis, tmp_path)
    assert contents(tmp_path) == before


def test_a_report_that_was_cut_is_written_again(midis, tmp_path):
    run(midis, tmp_path)
    before, path = contents(tmp_path), tmp_path / "report.csv"
    path.write_bytes(path.read_bytes()[:200])
    assert len(run(midis, tmp_path).report) == 15
    assert contents(tmp_path) == before


def test_killed_ten_times_at_random_it_ends_with_the_same_bytes(tmp_path):
    midis = write_folder(tmp_path / "midis", 400)
    command = [sys.executable, TESTS / "killed_ingest.py", midis, tmp_path / "out", "10"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    parts = [int(line) for line in result.stdout.splitlines()]
    assert len(parts) == 10
    assert any(0 < number < 100 for number in parts)
    whole, *others = (contents(tmp_path / "out" / name) for name in ("whole", *folders(tmp_path)))
    assert others and all(other == whole for other in others)


def folders(tmp_path):
    return sorted(path.name for path in (tmp_path / "out").iterdir() if path.name != "whole")


def test_until_the_end_nothing_is_opened(midis, tmp_path, monkeypatch):
    monkeypatch.setattr(ingestion, "_write_report", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(midis, tmp_path / "out")
    with pytest.raises(ValueError, match="no manifest.json: .*not finished. Run ingest again"):
        open_shards(tmp_path / "out")


def test_a_finished_folder_that_is_done_anew_is_not_opened_meanwhile(
    own_midis, tmp_path, monkeypatch
):
    """Its manifest is of shards that are about to be others."""
    run(own_midis, tmp_path / "out")
    km.write_midi(melody(99), own_midis / "été" / "010.mid")
    with monkeypatch.context() as patch:
        patch.setattr(ingestion, "_write_part", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(own_midis, tmp_path / "out")
    with pytest.raises(ValueError, match="no manifest.json: .*not finished. Run ingest again"):
        open_shards(tmp_path / "out")


def test_a_report_that_was_deleted_is_written_again(midis, tmp_path):
    before = contents(run(midis, tmp_path / "out").folder)
    (tmp_path / "out" / "report.csv").unlink()
    run(midis, tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_what_a_killed_run_had_begun_to_write_is_removed(midis, tmp_path):
    """And nothing else: other hidden files are somebody's."""
    before = contents(run(midis, tmp_path / "out").folder)
    for name in (
        *(
            ".train-00001.tfrecord.abcd1_yz",
            "parts/.00001.jsonl.abcd1_yz",
            "parts/.settings.json.abcd1_yz",
        ),
        *(
            ".manifest.json.abcd1_yz",
            ".report.csv.abcd1_yz",
            ".tokenizer.json.abcd1_yz",
            ".DS_Store",
        ),
    ):
        (tmp_path / "out" / name).write_bytes(b"half")
    run(midis, tmp_path / "out")
    assert contents(tmp_path / "out") == before | {".DS_Store": b"half"}


# ---- What stands in the way ----------------------------------------------------------------------


def test_another_run_in_the_same_folder(midis, tmp_path):
    run(midis, tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(
        ValueError, match="begun with the same arguments. .*'name': 'NoteToken.*Remi"
    ):
        ingest(midis, RemiTokenizer(), tmp_path / "out", files_per_shard=4)
    with pytest.raises(ValueError, match="begun with {'split': .*'seed': 0.* and not .*'seed': 1"):
        run(midis, tmp_path / "out", seed=1)
    with pytest.raises(ValueError, match="begun with {'files_per_shard': 4} and not with .*: 5}"):
        run(midis, tmp_path / "out", files_per_shard=5)
    with pytest.raises(ValueError, match="'source': '.*a b'}. Give another folder, or delete this"):
        run(midis / "a b", tmp_path / "out")
    assert contents(tmp_path / "out") == before


@pytest.mark.parametrize(
    "name",
    [
        "train-00000.tfrecord",
        "tokenizer.json",
        "manifest.json",
        "parts/a.txt",
        "parts/settings.json",
    ],
)
def test_what_is_of_another_origin_is_not_touched(midis, tmp_path, name):
    """Such as the tokenizer of a training: `out` was mistyped, and nothing of it may be lost."""
    mine = {name: b"[]", ".hidden": b""}
    (tmp_path / "parts").mkdir()
    for file, data in mine.items():
        (tmp_path / file).write_bytes(data)
    sentence = f"which holds {name.split('/')[-1]} of another origin. Give another folder"
    with pytest.raises(ValueError, match=sentence):
        run(midis, tmp_path)
    assert contents(tmp_path) == mine


def test_only_what_a_killed_run_left_is_removed(midis, tmp_path):
    """A name of its own making with eight characters more; a copy that somebody made stays."""
    run(midis, tmp_path)
    for name in ("settings.json.bak", "report.csv.a1b2c3d4", "train-00000.tfrecord.a1b2c3d4"):
        (tmp_path / f".{name}").touch()
    run(midis, tmp_path)
    assert [path.name for path in tmp_path.glob(".*")] == [".settings.json.bak"]


def test_another_folder_of_the_same_name(tmp_path):
    """jazz/midi and rock/midi: only if jazz/midi is gone, rock/midi may be where it is now."""
    for kind, count in (("jazz", 3), ("rock", 2)):
        write_folder(tmp_path / kind / "midi", count)
    out = tmp_path / "out"
    run(tmp_path / "jazz" / "midi", out)
    before = contents(out)
    with pytest.raises(ValueError, match="begun with .*jazz/midi'} and not with .*rock/midi'}"):
        run(tmp_path / "rock" / "midi", out)
    assert contents(out) == before
    written = times(out)
    (tmp_path / "jazz").rename(tmp_path / "blues")
    run(tmp_path / "blues" / "midi", out)
    assert times(out) == written


def test_two_at_once(midis, tmp_path):
    with (
        ingestion._alone(tmp_path / "out"),
        pytest.raises(ValueError, match="which an ingest is writing now. Wait until it has ended"),
    ):
        run(midis, tmp_path / "out")
    run(midis, tmp_path / "out")


def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(midis, tmp_path):
    """A limit on the size of a file stands for the disk: the system's answer comes from `write`."""
    code = (
        "import resource, sys; from keras_music.ingestion import ingest;"
        "from keras_music.tokenizers import NoteTokenizer;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2);"
        "ingest(sys.argv[1], NoteTokenizer(), sys.argv[2], files_per_shard=4, num_workers=1)"
    )
    whole = contents(run(midis, tmp_path / "whole").folder)
    sizes = {name: len(data) for name, data in whole.items()}
    for limit in (300, sizes["report.csv"] - 1):
        command = [sys.executable, "-c", code, midis, tmp_path / "out", str(limit)]
        result = subprocess.run(command, capture_output=True, text=True)
        last = result.stderr.splitlines()[-1]
        assert last.startswith("OSError: Cannot write ") and last.endswith((" room.", " goes on."))
        left = contents(tmp_path / "out")
        assert all(whole[name] == data for name, data in left.items())
        assert "manifest.json" not in left
    run(midis, tmp_path / "out")
    assert contents(tmp_path / "out") == whole
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


class Own(NoteTokenizer):
    """A tokenizer that no worker can make from its JSON text."""


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ({"tokenizer": "remi"}, "`tokenizer` must be one of `keras_music.tokenizers`.*'remi'"),
        ({"tokenizer": NoteTokenizer}, "`tokenizer` must be one of `keras_music.tokenizers`"),
        ({"tokenizer": Own()}, "`tokenizer` must be one of `keras_music.tokenizers`"),
        ({"seed": -1}, "`seed` must be a whole number >= 0"),
        ({"fractions": (0.5, 0.4)}, "`fractions` must be three numbers"),
        ({"fractions": None}, "`fractions` must be three numbers .* Received: fractions=None"),
        ({"fractions": "abc"}, "`fractions` must be three numbers"),
        ({"path": ""}, "`path` must be a path. Received: path=''"),
        ({"out": ""}, "`out` must be a path. Received: out=''"),
        ({"out": None}, "`out` must be a path. Received: out=None"),
        ({"out": 5}, "`out` must be a path. Received: out=5"),
        ({"files_per_shard": 0}, "`files_per_shard` must be a whole number >= 1"),
        ({"num_workers": 0}, "`num_workers` must be a whole number >= 1"),
    ],
)
def test_errors(midis, tmp_path, argument, sentence):
    arguments = {"path": midis, "tokenizer": TOKENIZER, "out": tmp_path / "out"} | argument
    with pytest.raises(ValueError, match=sentence):
        ingest(**arguments)
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be(midis, tmp_path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(NotADirectoryError, match="Cannot write .*out: .*Choose a folder"):
        run(midis, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_nothing_is_made_for_a_path_that_leads_nowhere(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file or folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- The pure function ---------------------------------------------------------------------------


def test_prepare_returns_a_row_and_a_record():
    settings = preparation.preparation_settings(TOKENIZER, 0, (1, 0, 0))
    context = preparation.worker_context(TOKENIZER, settings)
    data = km.midi.midi_bytes(melody(0))
    row, num_ids, example = preparation.prepare(context, ("a.mid", data))
    ids, name = parse_example(example)
    expected = TOKENIZER.encode(km.read_midi(data)).tolist()
    assert (ids.tolist(), name, num_ids) == (expected, "a.mid", len(expected))
    assert row["split"] == "train" and row["bytes_hash"] == bytes_hash(data)
    assert preparation.prepare(context, ("b.mid", "it is locked"))[0]["reason"] == "it is locked"
    assert preparation.prepare(context, ("b.mid", b""))[1:] == (0, b"")
