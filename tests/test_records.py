"""Shards: the bytes are TensorFlow's, and what is not whole is not read."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import shard_files
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music import records

IDS = st.lists(st.integers(0, 2**31 - 1), max_size=50)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TOKENIZER = km.tokenizers.CharTokenizer("abc")


@pytest.fixture
def folder(tmp_path):
    train = [[("a.mid", [1, 3, 4, 2]), ("b.mid", [1, 5, 2])], [("c.mid", [1, 4, 4, 4, 2])]]
    return shard_files.write(
        tmp_path / "shards", {"train": train, "valid": [[("d.mid", [1, 2])]]}, TOKENIZER
    )


# ---- The bytes -----------------------------------------------------------------------------------

EXAMPLE = bytes.fromhex(
    "0a 20"  # Example, field 1: features, of 32 bytes
    "  0a 0f"  # Features, field 1: an entry of the map
    "    0a 03 69 64 73"  # field 1: the key, "ids"
    "    12 08"  # field 2: the value, a Feature
    "      1a 06"  # field 3: int64_list
    "        0a 04 01 ac 02 02"  # field 1: 1, 300 (in two bytes), 2
    "  0a 0d"  # another entry
    "    0a 04 6e 61 6d 65"  # "name"
    "    12 05"
    "      0a 03"  # field 1: bytes_list
    "        0a 01 61"  # field 1: "a"
)


def test_an_example_byte_by_byte():
    assert records.example([1, 300, 2], "a") == EXAMPLE
    assert records.example(np.array([1, 300, 2], np.int32), "a") == EXAMPLE


@settings(max_examples=60, deadline=None)
@given(IDS, NAMES)
def test_examples_are_tensorflows(ids, name):
    """The bytes of an empty list may differ: an empty message can be written or left out."""
    ours = records.example(ids, name)
    theirs = tf.train.Example()
    theirs.features.feature["ids"].int64_list.value.extend(ids)
    theirs.features.feature["name"].bytes_list.value.append(name.encode())
    assert tf.train.Example.FromString(ours) == theirs
    if ids:
        assert ours == theirs.SerializeToString(deterministic=True)
    back, same_name = records.parse_example(theirs.SerializeToString())
    assert (back.tolist(), back.dtype, same_name) == (ids, np.int32, name)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=5))
def test_records_are_tensorflows(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("records") / "x"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    assert path.read_bytes() == b"".join(map(records.record, contents))
    assert list(records.read_records(path)) == contents


def test_it_does_not_need_tensorflow():
    code = "import sys, keras_music.records; print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    assert subprocess.run(command, capture_output=True, check=True, text=True).stdout == "False\n"


# ---- Damage --------------------------------------------------------------------------------------


def test_every_flipped_byte_and_every_cut_is_seen(tmp_path):
    data = b"".join(map(records.record, (b"abc", b"", b"defgh")))
    path = tmp_path / "x"
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ValueError, match="x is damaged in record [012]. Run ingest again"):
            list(records.read_records(path))
        ends = {0, 19, 35}  # after a whole record, a cut cannot be seen in the file alone
        path.write_bytes(data[:place])
        if place not in ends:
            with pytest.raises(ValueError, match="is damaged"):
                list(records.read_records(path))


def test_a_length_that_lies_takes_no_memory(tmp_path):
    header = records.record(struct.pack("<Q", 2**62))[12:]  # the length, and its checksum
    (tmp_path / "x").write_bytes(header)
    with pytest.raises(ValueError, match="damaged in record 0"):
        list(records.read_records(tmp_path / "x"))


# ---- The manifest --------------------------------------------------------------------------------


def test_what_is_written_is_opened(folder):
    shards = records.open_shards(folder)
    assert repr(shards) == f"Shards({str(folder)!r}, pieces: 3 train, 1 valid, 0 test)"
    train, valid, test = shards.split()
    assert repr(train) == "Side('train', 3 pieces, 12 ids)"
    assert [len(train), len(valid), len(test)] == [3, 1, 0]
    assert train.num_ids.tolist() == [4, 3, 5]
    assert [file.name for file in train.files] == ["train-00000.tfrecord", "train-00001.tfrecord"]
    assert [(name, ids.tolist()) for ids, name in train.records()] == [
        ("a.mid", [1, 3, 4, 2]),
        ("b.mid", [1, 5, 2]),
        ("c.mid", [1, 4, 4, 4, 2]),
    ]
    assert km.tokenizers.load(shards.tokenizer_path) == TOKENIZER
    train.check(TOKENIZER)
    assert test.num_ids.tolist() == []


def test_the_manifest_is_json_with_a_line_for_each_shard(folder):
    text = (folder / "manifest.json").read_text()
    manifest = json.loads(text)
    assert manifest["format"] == "keras_music shards"
    assert manifest["format_version"] == 1
    assert manifest["tokenizer"]["name"] == "CharTokenizer"
    last = manifest["shards"][-1]
    assert last["ids"] == [2]
    assert json.dumps(last, separators=(",", ":")) in text.splitlines()[-3]


def test_a_report_keeps_names_that_look_like_nothing(folder):
    report = records.open_shards(folder).report
    assert report["name"].tolist() == ["NA", "b.mid"]
    assert report["kept"].tolist() == [True, False]
    assert report["tempo_bpm"].isna().tolist() == [False, True]


def test_errors_for_people(folder):
    with pytest.raises(FileNotFoundError, match="There is no folder nowhere. .*ingest"):
        records.open_shards("nowhere")
    shard = folder / "train-00001.tfrecord"
    data = shard.read_bytes()
    shard.write_bytes(data[:-1])
    sentence = f"must have {len(data)} bytes. Received: {len(data) - 1}. Run ingest again"
    with pytest.raises(ValueError, match=sentence):
        records.open_shards(folder)
    shard.unlink()
    with pytest.raises(ValueError, match="train-00001.tfrecord is missing. Run ingest again"):
        records.open_shards(folder)
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(ValueError, match="of the format 1. Received: .* 2. Run ingest again, into"):
        records.open_shards(folder)
    manifest.unlink()
    with pytest.raises(
        ValueError, match="no manifest.json: .*not finished. Run ingest again.*goes"
    ):
        records.open_shards(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda m: json.dumps(m | {"shards": 5}),
        lambda m: json.dumps(m | {"shards": [{}]}),
        lambda m: json.dumps(m | {"shards": [m["shards"][0] | {"file": "..\\x.tfrecord"}]}),
        lambda m: json.dumps(m | {"shards": [m["shards"][0] | {"file": "../x.tfrecord"}]}),
        lambda m: json.dumps(m | {"shards": [m["shards"][0] | {"ids": [[1]]}]}),
        lambda m: json.dumps(m | {"shards": [m["shards"][0] | {"ids": [1]}]}),
        lambda m: json.dumps(m | {"shards": [m["shards"][0] | {"ids": [10**30]}]}),
        lambda m: json.dumps(m | {"shards": [m["shards"][0] | {"ids": [2**62] * 4}]}),
        lambda m: json.dumps(m | {"shards": [m["shards"][0] | {"split": "exam"}]}),
        lambda m: json.dumps(m | {"reports": [".."]}),
        lambda m: json.dumps(m | {"reports": []}),
        lambda m: json.dumps(m | {"reports": ["/etc/passwd"]}),
        lambda m: json.dumps(m | {"tokenizer": None}),
    ],
)
def test_a_manifest_from_a_stranger(folder, damage):
    """No other folder is read, and whatever is wrong is one sentence."""
    path = folder / "manifest.json"
    path.write_text(damage(json.loads(path.read_text())))
    with pytest.raises(ValueError, match="manifest.json is damaged. Run ingest again"):
        records.open_shards(folder)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000, "\xff", '{"name": "My app"}'])
def test_a_manifest_of_something_else(folder, text):
    """A web app's, say: nobody is told to delete what may be dear to him."""
    (folder / "manifest.json").write_text(text, "latin-1")
    sentence = "manifest.json is damaged or of another origin. Give the folder that ingest wrote"
    with pytest.raises(ValueError, match=sentence):
        records.open_shards(folder)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_report_that_is_gone_or_no_table(folder, content):
    (folder / "report.csv").unlink()
    if content is not None:
        (folder / "report.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"report.csv cannot be read \(.*\). Run ingest again"):
        _ = records.open_shards(folder).report


@pytest.mark.parametrize("path", ["", None, 5, "a\0b", "~nobody-of-this-name/x"])
def test_what_is_no_path(path):
    with pytest.raises(ValueError, match="`path` must be a path. Received: path="):
        records.open_shards(path)


def test_a_flipped_byte_is_found_before_training(folder):
    shard = folder / "train-00000.tfrecord"
    data = bytearray(shard.read_bytes())
    data[30] ^= 4
    shard.write_bytes(data)
    side = records.open_shards(folder).train  # sizes agree
    with pytest.raises(ValueError, match="train-00000.tfrecord is damaged. Run ingest again"):
        side.check(TOKENIZER)


def test_the_tokenizer_must_be_the_one_of_the_shards(folder):
    side = records.open_shards(folder).train
    sentence = "must be the CharTokenizer that made these shards. Received: a CharTokenizer with "
    with pytest.raises(ValueError, match=f"{sentence}other settings. Give .*load.*tokenizer.json"):
        side.check(km.tokenizers.CharTokenizer("abcd"))
    with pytest.raises(ValueError, match="Received: a RemiTokenizer. Give"):
        side.check(km.tokenizers.RemiTokenizer())
    with pytest.raises(ValueError, match="Received: a Ids. Give"):
        side.check(type("Ids", (), {"encode": None})())


def test_a_shard_of_many_blocks_is_checked_as_a_whole(folder, monkeypatch):
    """A shard is read 16 MB at a time; a fault in the first of them is a fault, too."""
    monkeypatch.setattr(records, "CHECKED_BYTES", 32)
    row, path = records.open_shards(folder).manifest["shards"][0], folder / "train-00000.tfrecord"
    content = path.read_bytes()
    assert len(content) > 3 * 32
    assert records.is_whole(path, row)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    assert not records.is_whole(path, row)
