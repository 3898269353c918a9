"""Shards: the ids of a large corpus in a few files, written and checked without TensorFlow.

A corpus that does not fit into memory is tokenized once and read again in each epoch. One file for
each piece would be slow (a disk is fast only in one go), one file for all could not be shuffled or
written by many workers. So ids are kept in *shards*: files of some hundred pieces, which
`tf.data` reads several at a time. Their format is TensorFlow's own, a TFRecord of records

    length    uint64        of the data, in bytes; little-endian, as the two checksums
    checksum  uint32        of the 8 bytes of the length
    data      length bytes  a tf.train.Example {"ids": int64 list, "name": bytes list}
    checksum  uint32        of the data

The checksum is CRC-32C, rotated and shifted: where records hold records, the checksum of data with
its own checksum in it would be of little use.

Beside the shards lies `manifest.json`, which is written last: where it is, everything is. It says
what was tokenized by whom, and of each shard the side (train, valid, test), the size, a checksum
and how many ids each record has, so that the number of windows is known before a shard is opened.

    shards/manifest.json  tokenizer.json  report.csv  train-00000.tfrecord  valid-00000.tfrecord ...

Conventions: ids are int32, shape (time,); a shard's name is "side-number.tfrecord".

What this file does not do: no compression, no other features, no remote file systems; it makes no
shards out of MIDI files (`keras_music.ingest` does) and no batches out of shards
(`keras_music.data` does).

References: https://www.tensorflow.org/tutorials/load_data/tfrecord; RFC 3720, appendix B.4, for
CRC-32C.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import struct

import google_crc32c
import numpy as np
import pandas as pd

from keras_music.corpora.report import Report
from keras_music.messages import message_classes

FORMAT, FORMAT_VERSION = "keras_music shards", 1  # of the manifest and the records
MANIFEST, REPORT, TOKENIZER = "manifest.json", "report.csv", "tokenizer.json"
SIDES = ("train", "valid", "test")
AGAIN = "Run ingest again with the same arguments: it mends what is damaged."
CHECKED_BYTES = 2**24  # read at a time

MESSAGES = {
    "Int64List": [("value", 1, "int64*")],
    "BytesList": [("value", 1, "bytes*")],
    "Feature": [("bytes_list", 1, "BytesList"), ("int64_list", 3, "Int64List")],
    "Entry": [("key", 1, "string"), ("value", 2, "Feature")],
    "Features": [("feature", 1, "Entry*")],
    "Example": [("features", 1, "Features")],
}
*_, Example = message_classes("keras_music.records", MESSAGES)


def example(ids, name) -> bytes:
    """Ids of one piece, shape (time,), and its name -> the bytes of a tf.train.Example."""
    features = [
        {"key": "ids", "value": {"int64_list": {"value": np.asarray(ids).tolist()}}},
        {"key": "name", "value": {"bytes_list": {"value": [name.encode()]}}},
    ]
    return Example(features={"feature": features}).SerializeToString()


def parse_example(data):
    """The bytes of a tf.train.Example -> its ids, int32, shape (time,), and its name.

    >>> parse_example(example([1, 5, 2], "a.mid"))
    (array([1, 5, 2], dtype=int32), 'a.mid')
    """
    features = {entry.key: entry.value for entry in Example.FromString(data).features.feature}
    ids = np.array(features["ids"].int64_list.value, np.int32)
    name = features["name"].bytes_list.value[0]
    return ids, name.decode("utf-8", "backslashreplace")


def record(data: bytes) -> bytes:
    """Bytes -> one record of a TFRecord file, with its length and its checksums.

    >>> record(b"abcd").hex(" ", -4)
    '04000000 00000000 42455204 61626364 6810e6b6'
    """
    length = struct.pack("<Q", len(data))
    return b"".join((length, _checksum(length), data, _checksum(data)))


def _checksum(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def read_records(path):
    """The records of a TFRecord file, one after the other, each `bytes`.

    Raises:
      ValueError: the file is damaged; the sentence names it and the record.
    """
    with open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        count = 0
        while header := file.read(12):
            is_whole = len(header) == 12 and _checksum(header[:8]) == header[8:]
            length = struct.unpack("<Q", header[:8])[0] if is_whole else 0
            data = file.read(length) if length < num_bytes else b""
            if not is_whole or len(data) != length or _checksum(data) != file.read(4):
                raise ValueError(f"{path} is damaged in record {count}. {AGAIN}")
            yield data
            count += 1


def shard(examples):
    """Examples -> a shard's bytes, and what the manifest says of them.

    Args:
      examples: list of (number of ids, `bytes` of a tf.train.Example).

    Returns:
      `bytes`, and {"bytes": size, "crc32c": checksum, "ids": number of ids of each record}.
    """
    data = b"".join(record(content) for _, content in examples)
    return data, {
        "bytes": len(data),
        "crc32c": f"{google_crc32c.value(data):08x}",
        "ids": [int(num_ids) for num_ids, _ in examples],
    }


def is_whole(path, row) -> bool:
    """Whether a shard is there with the size and the checksum of its row in the manifest."""
    try:
        if path.stat().st_size != row["bytes"]:
            return False
        crc = 0
        with open(path, "rb") as file:
            while data := file.read(CHECKED_BYTES):
                crc = google_crc32c.extend(crc, data)
    except OSError:
        return False
    return f"{crc:08x}" == row["crc32c"]


def manifest_json(settings, shards) -> str:
    """The text of a manifest: settings first, then one line a shard.

    Args:
      settings: {"tokenizer": `tokenizer_key(...)`, "reports": names of CSV files, and for people
        whatever tells how the shards came to be}.
      shards: list of {"file", "split", "bytes", "crc32c", "ids"}.
    """
    head = {"format": FORMAT, "format_version": FORMAT_VERSION, **settings}
    head = json.dumps(head, indent=1)
    rows = ",\n".join("  " + json.dumps(row, separators=(",", ":")) for row in shards)
    return f'{head[:-2]},\n "shards": [\n{rows}\n ]\n}}\n'


def tokenizer_key(tokenizer_json) -> dict:
    """What tells one tokenizer from another: its name, and a hash of its JSON text."""
    sha256 = hashlib.sha256(tokenizer_json.encode()).hexdigest()
    return {"name": json.loads(tokenizer_json)["tokenizer"], "sha256": sha256}


@dataclasses.dataclass(frozen=True, eq=False)
class Side:
    """The shards of one side of the split: what `make_dataset` reads.

    Its length is the number of pieces.
    """

    name: str
    folder: pathlib.Path
    rows: tuple[dict, ...]  # of the manifest
    tokenizer: dict  # what `tokenizer_key` gave

    def __len__(self):
        return len(self.num_ids)

    def __repr__(self):
        return f"Side({self.name!r}, {len(self)} pieces, {self.num_ids.sum()} ids)"

    @property
    def empty_reason(self) -> str:
        """Why there are no pieces, for the error message of an empty side."""
        return f"the split left no piece for {self.name!r}"

    @property
    def files(self) -> list[pathlib.Path]:
        """The shards, in the order of their numbers."""
        return [self.folder / row["file"] for row in self.rows]

    @functools.cached_property
    def num_ids(self) -> np.ndarray:
        """How many ids each piece has, int64, shape (pieces,), in the order of `records`."""
        return np.concatenate([np.zeros(0, np.int64), *(row["ids"] for row in self.rows)])

    def records(self):
        """Yields each piece's ids, int32, shape (time,), and its name."""
        for file in self.files:
            yield from map(parse_example, read_records(file))

    def check(self, tokenizer):
        """Reads all shards once, as each epoch of a training will, and compares the checksums.

        Raises:
          ValueError: `tokenizer` is not the one that made these shards, or one of them is damaged.
        """
        name, to_json = type(tokenizer).__name__, getattr(tokenizer, "to_json", None)
        if to_json is None or tokenizer_key(to_json()) != self.tokenizer:
            other = " with other settings" if name == self.tokenizer["name"] else ""
            raise ValueError(
                f"`tokenizer` must be the {self.tokenizer['name']} that made these shards. "
                f"Received: a {name}{other}. Give "
                f'`keras_music.tokenizers.load("{self.folder / TOKENIZER}")`.'
            )
        for row in self.rows:
            if not is_whole(self.folder / row["file"], row):
                raise ValueError(f"{self.folder / row['file']} is damaged. {AGAIN}")


@dataclasses.dataclass(frozen=True, eq=False)
class Shards:
    """A folder of shards and what its manifest says of them; `open_shards` makes it."""

    folder: pathlib.Path
    manifest: dict

    def __repr__(self):
        counts = ", ".join(f"{len(side)} {side.name}" for side in self.split())
        return f"Shards({str(self.folder)!r}, pieces: {counts})"

    @property
    def train(self) -> Side:
        return self._side("train")

    @property
    def valid(self) -> Side:
        return self._side("valid")

    @property
    def test(self) -> Side:
        return self._side("test")

    def split(self) -> tuple[Side, Side, Side]:
        """Train, validation and test, as they were split when the shards were made."""
        return self.train, self.valid, self.test

    @property
    def tokenizer_path(self) -> pathlib.Path:
        """The file from which `keras_music.tokenizers.load` makes the tokenizer."""
        return self.folder / TOKENIZER

    @functools.cached_property
    def report(self) -> pd.DataFrame:
        """A table with one row a file: what was kept, what was dropped and why, in which shard."""
        files = [self.folder / file for file in self.manifest["reports"]]
        return Report(pd.concat(list(map(read_report, files)), ignore_index=True))

    def _side(self, name):
        rows = tuple(row for row in self.manifest["shards"] if row["split"] == name)
        return Side(name, self.folder, rows, self.manifest["tokenizer"])


def read_report(path) -> pd.DataFrame:
    """A report as `ingest` wrote it; empty text stays text, and a file may be called "NA".

    Raises:
      ValueError: it is missing, or is no table.
    """
    text = dict.fromkeys(("name", "programs", "reason", "same_as", "warnings", "shard"), str)
    try:
        return pd.read_csv(path, dtype=text, keep_default_na=False, na_values={"tempo_bpm": [""]})
    except (OSError, ValueError) as error:
        raise ValueError(f"The report {path} cannot be read ({error}). {AGAIN}") from None


def path_text(name, path) -> str:
    """The text of a path that an argument of this name holds, with "~" written out.

    Raises:
      ValueError: it is no path; or it is empty, which would be the current folder.

    >>> path_text("out", b"shards")
    'shards'
    """
    try:
        text = os.path.expanduser(os.fsdecode(path))
    except TypeError:
        text = ""
    if not text or "\0" in text or text.startswith("~"):  # the last: there is no such user
        raise ValueError(f"`{name}` must be a path. Received: {name}={path!r}.")
    return text


def open_shards(path) -> Shards:
    """Opens a folder of shards that `ingest` or `keras_music.beam` wrote.

    The manifest and the sizes of the files are looked at; the shards are read by `make_dataset`.

    Args:
      path: of the folder.

    Returns:
      A `Shards`: `.train`, `.valid` and `.test` are for `make_dataset`, `.report` is a table.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: the folder is not finished, or holds something else, or a shard is missing or
        has another size.
    """
    folder = pathlib.Path(path_text("path", path))
    if not folder.is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder}. `keras_music.ingest(midi_folder, tokenizer, {path!r})` "
            "writes one."
        )
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        is_ours = isinstance(manifest, dict) and manifest.get("format") == FORMAT
    except FileNotFoundError:
        raise ValueError(
            f"`path` must be a folder of shards. Received: {folder}, which has no {MANIFEST}: it "
            "is written last, so this one is not finished. Run ingest again with the same "
            "arguments: it goes on where it stopped."
        ) from None
    except (ValueError, RecursionError):
        is_ours = False
    if not is_ours:
        raise ValueError(
            f"`path` must be a folder of shards. Received: {folder}, whose {MANIFEST} is damaged "
            "or of another origin. Give the folder that ingest wrote; if it is this one, run "
            "ingest again with the same arguments: it mends what is damaged."
        )
    if (version := manifest.get("format_version")) != FORMAT_VERSION:
        raise ValueError(
            f"`path` must hold shards of the format {FORMAT_VERSION}. Received: {folder} of the "
            f"format {version!r}. Run ingest again, into another folder."
        )
    try:
        shards = [_checked(row) for row in manifest["shards"]]
        reports = [_file_name(name) for name in manifest["reports"]]
        tokenizer = {key: str(manifest["tokenizer"][key]) for key in ("name", "sha256")}
        if not reports:
            raise ValueError("No report.")
    except (ValueError, KeyError, TypeError, OverflowError):
        raise ValueError(f"{folder / MANIFEST} is damaged. {AGAIN}") from None
    for row in shards:
        _check_size(folder / row["file"], row["bytes"])
    return Shards(folder, manifest | {"shards": shards, "reports": reports, "tokenizer": tokenizer})


def _checked(row):
    """A row of the manifest, if it is one; its numbers of ids become an array."""
    ids, num_bytes = np.array(row["ids"], np.int64), int(row["bytes"])
    if row["split"] not in SIDES or ids.ndim != 1 or not len(ids) or ids.min() < 2:
        raise ValueError("No row of a manifest.")
    if ids.max() > num_bytes:  # each id takes a byte at least
        raise ValueError("No number of ids.")
    return {
        **{"file": _file_name(row["file"]), "split": row["split"], "bytes": num_bytes},
        **{"crc32c": str(row["crc32c"]), "ids": ids},
    }


def _file_name(name):
    """A name that leads to no other folder: a manifest may come from a stranger."""
    if pathlib.PurePath(name).name != name or name in ("", "..") or "\\" in name:
        raise ValueError("No name of a file.")
    return name


def _check_size(path, num_bytes):
    if not path.is_file():
        raise ValueError(f"The shard {path} is missing. {AGAIN}")
    if (found := path.stat().st_size) != num_bytes:
        raise ValueError(
            f"The shard {path} must have {num_bytes} bytes. Received: {found}. {AGAIN}"
        )
