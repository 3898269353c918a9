"""The pipeline comes to the same rows and records as one machine; on the DirectRunner."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import keras_music as km
from keras_music.corpora.folder import midi_folder
from keras_music.ingestion import ingest
from keras_music.records import open_shards
from keras_music.tokenizers import NoteTokenizer

apache_beam = pytest.importorskip("apache_beam", reason='pip install "keras_music[beam]"')

from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.testing.util import assert_that, equal_to  # noqa: E402

from keras_music import beam  # noqa: E402

TOKENIZER = NoteTokenizer()
NO_OPTIONS = PipelineOptions([])  # and not those of pytest's command line
SPLIT = {"seed": 1, "fractions": (0.4, 0.3, 0.3)}


def melody(seed, count=20):
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.integers(1, 4, count)) * 0.125
    return km.Piece({"pitch": rng.integers(40, 80, count), "start": start, "end": start + 0.25})


@pytest.fixture(scope="module")
def midis(tmp_path_factory):
    """Good files, some that are not, and some that are not looked at."""
    folder = tmp_path_factory.mktemp("midi files [live]")
    for number in range(12):
        km.write_midi(
            melody(number), folder / ("été" if number % 3 else "a b") / f"{number:03}.mid"
        )
    (folder / "empty.mid").write_bytes(b"")
    (folder / "song.MID").write_bytes(b"ID3 no MIDI")
    (folder / "readme.txt").write_text("not looked at")
    for hidden in ("._000.mid", ".trash/000.mid"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_bytes(b"not looked at")
    km.write_midi(km.Piece(melody(1).notes.assign(pitch=lambda n: n.pitch + 3)), folder / "z.midi")
    return folder


def records_of(shards):
    """All records, sorted: which pieces share a shard is another matter."""
    sides = shards.split()
    return sorted((s.name, name, ids.tolist()) for s in sides for ids, name in s.records())


def rows_of(report):
    columns = [name for name in report if name != "shard"]
    return report[columns].sort_values("name", ignore_index=True)


@pytest.fixture(scope="module")
def shards(midis, tmp_path_factory):
    out = tmp_path_factory.mktemp("beam") / "new" / "out"
    return beam.ingest(midis, TOKENIZER, out, num_shards=3, **SPLIT)


def test_it_is_what_one_machine_makes(midis, shards, tmp_path, own_cache):
    one_machine = ingest(midis, TOKENIZER, tmp_path / "out", num_workers=1, **SPLIT)
    assert records_of(shards) == records_of(one_machine)
    assert rows_of(shards.report).equals(rows_of(one_machine.report))
    assert shards.tokenizer_path.read_bytes() == one_machine.tokenizer_path.read_bytes()
    ours, theirs = shards.manifest, one_machine.manifest
    for key in ("format", "format_version", "keras_music", "reader", "tokenizer", "split"):
        assert ours[key] == theirs[key]
    assert ours["source"] == theirs["source"]

    corpus = midi_folder(midis, num_workers=1)
    in_memory = sorted((piece.name, TOKENIZER.encode(piece).tolist()) for piece in corpus)
    assert sorted((name, ids) for _, name, ids in records_of(shards)) == in_memory
    report = corpus.report.sort_values("name", ignore_index=True)
    for column in report:
        assert rows_of(shards.report)[column].tolist() == pytest.approx(
            report[column].tolist(), nan_ok=True
        )


def test_the_shards_of_the_report_hold_the_pieces(shards):
    report = shards.report[shards.report["kept"]]
    for side in shards.split():
        for file in side.files:
            names = report[report["shard"] == file.name]["name"].tolist()
            rows = tuple(row for row in side.rows if row["file"] == file.name)
            assert names == [name for _, name in type(side)("", side.folder, rows, {}).records()]


def test_make_dataset_reads_them(shards):
    from keras_music.data import make_dataset

    dataset = make_dataset(shards.train, TOKENIZER, 16, 4, seed=0)
    assert len(list(dataset)) == dataset.cardinality() > 0


def test_beam_reads_them(shards):
    """TFRecord as Beam understands it: its own reader is the oracle."""
    from apache_beam.io.tfrecordio import ReadFromTFRecord

    expected = [len(ids) for ids, _ in shards.train.records()]
    with apache_beam.Pipeline(options=NO_OPTIONS) as pipeline:
        lengths = (
            pipeline
            | ReadFromTFRecord(str(shards.folder / "train-*.tfrecord"))
            | apache_beam.Map(lambda data: len(km.records.parse_example(data)[0]))
        )
        assert_that(lengths, equal_to(expected))


def test_again_it_makes_the_same_bytes(midis, shards, tmp_path):
    """The order in which a runner comes to the files does not matter; nothing old is left."""
    out = tmp_path / "out"
    shutil.copytree(shards.folder, out)
    (out / "manifest.json").unlink()
    (out / "train-00007.tfrecord").write_bytes(b"of a run that was given up")
    for _ in range(2):
        beam.ingest(midis, TOKENIZER, out, num_shards=3, **SPLIT)
    files = {path.name: path.read_bytes() for path in shards.folder.iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files


@pytest.mark.parametrize("pattern", ["a b/*.mid", "*/00*.mid", "**.midi", "été/010.mid"])
def test_patterns(midis, tmp_path, pattern):
    """As on a bucket; names are relative to what stands before the first wildcard."""
    source = tmp_path / "midis"
    shutil.copytree(midis, source)
    out = beam.ingest(f"{source}/{pattern}", TOKENIZER, tmp_path / "out", num_shards=1)
    names = sorted(name for _, name, _ in records_of(out))
    folder = source / pattern.partition("/")[0] if pattern[0] not in "*" else source
    glob = "*.midi" if pattern == "**.midi" else pattern.split("/")[-1]
    expected = [path.relative_to(folder).as_posix() for path in folder.rglob(glob)]
    assert names == sorted(name for name in expected if not name.startswith("."))


def test_the_parts_can_be_used_alone(midis):
    """In a pipeline of one's own: rows and records are collections, and files are counted."""
    data = (midis / "a b" / "000.mid").read_bytes()
    pipeline = apache_beam.Pipeline(options=NO_OPTIONS)
    files = pipeline | apache_beam.Create([("x.mid", data), ("y.mid", b""), ("z.mid", "locked")])
    prepared = files | beam.Prepare(TOKENIZER, fractions=(1, 0, 0))
    rows = prepared.rows | "what" >> apache_beam.Map(lambda row: (row["name"], row["reason"]))
    expected = [("x.mid", ""), ("y.mid", "it is empty (0 bytes)"), ("z.mid", "locked")]
    assert_that(rows, equal_to(expected), "rows")
    num_ids = len(TOKENIZER.encode(km.read_midi(data)))
    records = prepared.records | "but" >> apache_beam.Map(lambda record: record[:3])
    assert_that(records, equal_to([("x.mid", "train", num_ids)]), "records")
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query()["counters"]
    counted = {
        c.key.metric.name: c.committed for c in counters if "keras" in c.key.metric.namespace
    }
    assert counted == {"kept": 1, "dropped": 2}


def test_a_file_that_kills_its_reader_costs_one_file(midis, tmp_path, monkeypatch):
    monkeypatch.setattr(beam, "PREPARE", "failing_prepare:prepare")
    data = (midis / "a b" / "000.mid").read_bytes()
    with apache_beam.Pipeline(options=NO_OPTIONS) as pipeline:
        files = pipeline | apache_beam.Create([("killer.mid", data), ("x.mid", data)])
        rows = (files | beam.Prepare(TOKENIZER)).rows
        expected = [
            ("killer.mid", "it cannot be read (the process that worked on it died (SIGABRT))"),
            ("x.mid", ""),
        ]
        assert_that(rows | apache_beam.Map(lambda r: (r["name"], r["reason"])), equal_to(expected))


def test_files_that_are_too_large_or_gone_are_not_loaded(tmp_path, monkeypatch):
    from apache_beam.io.filesystem import FileMetadata

    large = FileMetadata("x", 70 * 2**20)
    assert beam._load("x.mid", large) == ("x.mid", "it is too large (70 MB; the most is 64 MB)")
    os.mkfifo(tmp_path / "pipe.mid")  # opened, it would wait for ever
    pipe = FileMetadata(str(tmp_path / "pipe.mid"), 0)
    assert beam._load("z.mid", pipe) == ("z.mid", "it is no file but a pipe or a device")
    name, reason = beam._load("y.mid", FileMetadata(str(tmp_path / "gone"), 10))
    assert name == "y.mid" and reason.startswith("it cannot be opened (")


@pytest.mark.parametrize("files", [{"a.mp3": b""}, {"a.mid": b"", "b.mid": b"x"}])
def test_nothing_to_use_is_an_error(tmp_path, files):
    (tmp_path / "midis").mkdir()
    for name, data in files.items():
        (tmp_path / "midis" / name).write_bytes(data)
    num_midis = sum(name.endswith(".mid") for name in files)
    with pytest.raises(Exception, match=f"None of the {num_midis} MIDI files of 'midis' can be"):
        beam.ingest(tmp_path / "midis", TOKENIZER, tmp_path / "out")
    with pytest.raises(ValueError, match="no manifest.json"):
        open_shards(tmp_path / "out")


def test_another_run_in_the_same_folder(midis, shards, tmp_path):
    before = sorted(shards.folder.iterdir())
    with pytest.raises(ValueError, match="begun with {'split': .*'num_shards': 3} and not with"):
        beam.ingest(midis, TOKENIZER, shards.folder, num_shards=4, seed=2)
    assert sorted(shards.folder.iterdir()) == before
    ingest(midis, TOKENIZER, tmp_path / "out", num_workers=1)
    with pytest.raises(ValueError, match="holds manifest.json, .* of another origin. Give another"):
        beam.ingest(midis, TOKENIZER, tmp_path / "out")
    with pytest.raises(ValueError, match="holds manifest.json, .* of another origin. Give another"):
        ingest(midis, TOKENIZER, shards.folder)


@pytest.mark.parametrize(
    ("name", "data"),
    [("report-2024.csv", "mine"), ("manifest.json", "[]"), ("a/b", ""), ("settings.json", "{")],
)
def test_what_is_of_another_origin_is_not_touched(midis, tmp_path, name, data):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(data)
    with pytest.raises(ValueError, match=f"which holds {name} of another origin. Give another"):
        beam.ingest(midis, TOKENIZER, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == data


def test_another_folder_of_the_same_name(midis, shards, tmp_path):
    before = {path.name: path.read_bytes() for path in shards.folder.iterdir()}
    other = tmp_path / midis.name
    shutil.copytree(midis / "a b", other)
    with pytest.raises(ValueError, match="begun with {'source': .*} and not with {'source'"):
        beam.ingest(other, TOKENIZER, shards.folder, num_shards=3, **SPLIT)
    assert {path.name: path.read_bytes() for path in shards.folder.iterdir()} == before


RUNNERS = [
    "--runner DataflowRunner --project P --region R --temp_location gs://B/temp "
    "--sdk_container_image IMAGE --sdk_location container",
    "--runner FlinkRunner --flink_master http://HOST:8081 --parallelism 50 "
    "--environment_type DOCKER --environment_config IMAGE",
    "--runner SparkRunner --spark_master_url spark://HOST:7077 "
    "--environment_type DOCKER --environment_config IMAGE",
]


@pytest.mark.parametrize("flags", RUNNERS, ids=lambda flags: flags.split()[1])
def test_the_options_of_other_runners_are_known_to_beam(flags):
    """They cannot be run here; that README.md spells them right can be seen."""
    names = [flag.removeprefix("--") for flag in flags.split()[::2]]
    options = PipelineOptions(flags.split())
    known = options.get_all_options(drop_default=True, retain_unknown_options=False)
    assert sorted(known) == sorted(names)


def test_errors(midis, tmp_path):
    with pytest.raises(ValueError, match="`num_shards` must be a whole number >= 1"):
        beam.ingest(midis, TOKENIZER, tmp_path / "out", num_shards=0)
    with pytest.raises(ValueError, match="`tokenizer` must be one of `keras_music.tokenizers`"):
        beam.ingest(midis, "remi", tmp_path / "out")
    with pytest.raises(ValueError, match="`fractions` must be three numbers"):
        beam.ingest(midis, TOKENIZER, tmp_path / "out", fractions=(1, 1, 1))
    for nowhere in (tmp_path / "nowhere", midis / "no*.mid"):
        with pytest.raises(ValueError, match="`source` must lead to files. Received: .*none"):
            beam.ingest(nowhere, TOKENIZER, tmp_path / "out")
    with pytest.raises(ValueError, match="must be a folder or a pattern. .*Unpack it"):
        beam.ingest("gs://bucket/midis.zip", TOKENIZER, tmp_path / "out")
    for nothing in ("", None):  # and not the current folder, or the whole disk
        with pytest.raises(ValueError, match="`source` must be a path. Received: source="):
            beam.ingest(nothing, TOKENIZER, tmp_path / "out")
        with pytest.raises(ValueError, match="`out` must be a path. Received: out="):
            beam.ingest(midis, TOKENIZER, nothing)
    assert not (tmp_path / "out").exists()


def test_a_mistake_on_the_command_line_is_one_sentence(midis, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        beam.main(["--input", str(midis), "--output", str(tmp_path), "--tokenizer", "remy"])
    assert exit.value.code == 2
    assert "There is no tokenizer file remy" in capsys.readouterr().err


def test_a_backslash_is_a_letter_where_folders_are_told_by_a_slash():
    assert beam._name("/midis/a/back\\slash.mid", "/midis") == "a/back\\slash.mid"


@pytest.mark.parametrize(
    ("source", "folder", "pattern"),
    [
        ("gs://b/maestro-v3.0.0/", "gs://b/maestro-v3.0.0", "gs://b/maestro-v3.0.0/**"),
        ("gs://b/x/*/a*.mid", "gs://b/x", "gs://b/x/*/a*.mid"),
        ("gs://b/x/a.mid", "gs://b/x", "gs://b/x/a.mid"),
        ("*.mid", "", "*.mid"),
    ],
)
def test_what_names_are_relative_to(source, folder, pattern):
    assert beam._folder_of(source) == (folder, pattern)


def test_the_command_line_in_processes_that_share_nothing(midis, shards, tmp_path):
    """Two worker processes of Beam: what they do goes there as bytes, as to another machine."""
    (tmp_path / "tokenizer.json").write_text(TOKENIZER.to_json())
    command = [
        *(sys.executable, "-m", "keras_music.beam", "--input", midis, "--output", tmp_path / "out"),
        *("--tokenizer", tmp_path / "tokenizer.json", "--num_shards", "3", "--seed", "1"),
        *("--fractions", "0.4", "0.3", "0.3", "--runner", "DirectRunner"),
        *("--direct_num_workers", "2", "--direct_running_mode", "multi_processing"),
    ]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Shards(")
    files = {path.name: path.read_bytes() for path in shards.folder.iterdir()}
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == files


def test_no_worker_needs_tensorflow():
    code = "import sys, keras_music.beam; print('tensorflow' in sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "False\n"


def test_a_manifest_of_beam_is_json(shards):
    text = pathlib.Path(shards.folder, "manifest.json").read_text()
    assert json.loads(text)["reports"] == [f"report-0000{i}.csv" for i in range(3)]
