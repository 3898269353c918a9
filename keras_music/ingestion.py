"""From a folder of MIDI files of any size to shards of ids: in pieces that can be done again.

A run over 200,000 files takes a while, and whatever takes a while is interrupted: a battery, a
full disk, somebody's Ctrl-C. So the work is cut into *tasks* of a thousand files each. Worker
processes read and tokenize; this process collects what they made of one task, writes it (at most
one shard for train, valid and test) and then a *part*, a file that says: this task is done, with
these files, and this is what became of each. When the last part is there, the report is written,
and last of all the manifest. Killed at any moment, the next run goes through the same tasks, finds
the parts and does the rest; what it ends with is the same, byte for byte.

    shards/parts/00012.jsonl    the shards of task 12, then one line a file
    shards/train-00012.tfrecord  valid-00012.tfrecord  test-00012.tfrecord
    shards/report.csv  tokenizer.json  manifest.json

A task counts as done while its files have the same names and the same bytes (by a hash: dates lie),
and its shards are whole. Then nothing is read but the bytes.

Conventions: a piece's side is drawn from a hash of its music (`split_of`), so that copies are on
one side, and no task has to know of another. Names are those of `midi_folder`.

What this file does not do: no text, and no machine but this one (see `keras_music.beam`). No
augmentation, which is drawn anew in each epoch by `make_dataset`.

Reference: J. Dean, S. Ghemawat, "MapReduce" (2004): tasks that can be done twice, and a result that
is renamed into its place when it is whole.
"""

from __future__ import annotations

import collections
import io
import itertools
import json
import operator
import os
import pathlib
import re

from keras_music.arguments import whole_number
from keras_music.corpora.entries import Unreadable, entries
from keras_music.corpora.folder import nothing_survived
from keras_music.corpora.progress import progress_bar
from keras_music.corpora.reader import bytes_hash
from keras_music.corpora.workers import Lost, Workers
from keras_music.disk import explained, locked, opened_atomically, write_atomically
from keras_music.preparation import (
    PREPARE,
    check_out,
    first_of_same,
    lost,
    preparation_settings,
    report_writer,
    worker_context,
)
from keras_music.records import (
    MANIFEST,
    REPORT,
    SIDES,
    TOKENIZER,
    Shards,
    is_whole,
    manifest_json,
    open_shards,
    path_text,
    shard,
)

PARTS, SETTINGS, LOCK = "parts", "settings.json", ".lock"
OURS = re.compile(r"(train|valid|test)-\d{5,}\.tfrecord|\d{5,}\.jsonl")
UNFINISHED = re.compile(  # what a killed run leaves behind
    rf"\.({OURS.pattern}|(manifest|tokenizer|settings)\.json|report\.csv)\.\w{{8}}"
)


def ingest(
    path,
    tokenizer,
    out,
    *,
    seed=0,
    fractions=(0.8, 0.1, 0.1),
    files_per_shard=1000,
    num_workers=None,
) -> Shards:
    """Writes the ids of all MIDI files of a folder as shards; goes on where a run was stopped.

    A file that was there before and has not changed is not read again. Files that crashed their
    reader or took too long are tried again. On a terminal there is a progress bar.

    Args:
      path: a folder, a .zip, or one MIDI file; see `midi_folder`.
      tokenizer: one of `keras_music.tokenizers`. A piece that it cannot write is left out, with
        the reason in the report.
      out: the folder to write, new or begun by the same call.
      seed: a whole number >= 0; another seed, another split.
      fractions: three shares >= 0 of train, valid and test, sum 1; see `split_of`.
      files_per_shard: >= 1, the files of a task. All that a task makes is in memory at once.
      num_workers: how many processes read files, >= 1; default: one a core.

    Returns:
      `Shards`; their `report` has a row a file: the columns of a corpus's report, and `split` and
      `shard`. `same_as` is the first file whose whole music is the same.

    Raises:
      FileNotFoundError: there is nothing at `path`.
      ValueError: no file could be used, with the counted reasons; or an argument is out of range;
        or `out` holds something else, such as the shards of another folder of the same name, or
        another process is writing it.
      OSError: `out` cannot be written, or its disk is full; whatever is there is whole.

    Example:
      >>> import tempfile
      >>> from keras_music.midi import Piece, write_midi
      >>> from keras_music.tokenizers import NoteTokenizer
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     _ = write_midi(Piece([{"pitch": 60, "start": 0.0, "end": 0.5}]), f"{folder}/a/b.mid")
      ...     shards = ingest(f"{folder}/a", NoteTokenizer(), f"{folder}/out", fractions=(1, 0, 0))
      ...     [name for _, name in shards.train.records()]
      ['b.mid']
    """
    files_per_shard = whole_number("files_per_shard", files_per_shard, 1)
    if num_workers is not None:
        num_workers = whole_number("num_workers", num_workers, 1)
    settings = preparation_settings(tokenizer, seed, fractions)
    path, out = pathlib.Path(path_text("path", path)), pathlib.Path(path_text("out", out))
    num_files = sum(1 for _ in entries(path))  # if there is nothing at `path`, nothing is made
    settings |= {"files_per_shard": files_per_shard, "source": str(path.resolve())}
    context = worker_context(tokenizer, settings)
    others, parts, handed_out = collections.Counter(), [], collections.deque()
    _check(out, settings)  # before anything is made in it
    with _alone(out):
        _begin(out, settings, tokenizer)
        with (
            Workers(PREPARE, num_workers, context=context) as workers,
            progress_bar(desc="Ingest", unit="file", total=num_files) as bar,
        ):
            tasks = _tasks(entries(path, others), out, files_per_shard, parts)
            results = workers.map(_items(tasks, out, handed_out, bar))
            answers = ((*handed_out.popleft(), result) for result in results)
            for part, answers_of_part in itertools.groupby(answers, key=operator.itemgetter(0)):
                _write_part(part, answers_of_part, bar)
        return _finish(path, out, settings, parts, others)


def _alone(out):
    """A context manager that holds the folder for this process."""

    def taken():
        raise ValueError(
            f"`out` must be a folder that no other process is writing. Received: {out}, which "
            "an ingest is writing now. Wait until it has ended, or give another folder."
        )

    with explained(out):
        (out / PARTS).mkdir(parents=True, exist_ok=True)
    return locked(out / PARTS / LOCK, taken)


def _check(out, settings):
    """Makes sure that `out` is new, or was begun by the same call."""
    names = [file.name for file in out.iterdir() if file.name != PARTS] if out.is_dir() else []
    if (out / PARTS).is_dir():
        names += [file.name for file in (out / PARTS).iterdir()]
    path = out / PARTS / SETTINGS
    check_out(out, names, path.read_bytes() if path.is_file() else None, settings)


def _begin(out, settings, tokenizer):
    """Removes what is half-written, and leaves word of what is made here."""
    _check(out, settings)  # again: another process may have been faster
    for file in [*out.iterdir(), *(out / PARTS).iterdir()]:
        if UNFINISHED.fullmatch(file.name):
            file.unlink()
    write_atomically(out / PARTS / SETTINGS, json.dumps(settings).encode())
    tokenizer.save(out / TOKENIZER)


def _read_json(path):
    """The content of a JSON file, None if there is none or it is damaged."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _tasks(all_entries, out, files_per_shard, parts):
    """Yields (part, entries) of each task; `parts` grows by the paths, done and to be done."""
    while task := list(itertools.islice(all_entries, files_per_shard)):
        parts.append(out / PARTS / f"{len(parts):05d}.jsonl")
        yield parts[-1], task


def _items(tasks, out, handed_out, bar):
    """Yields what `prepare` is to do; `handed_out` has (part, name, hash of bytes) of each."""
    for part, task in tasks:
        if _is_done(part, task):
            bar.update(len(task))
            continue
        (out / MANIFEST).unlink(missing_ok=True)  # from here on `out` is not what it says
        part.unlink(missing_ok=True)
        for entry in task:
            data = _load(entry)
            key = "" if isinstance(data, str) else bytes_hash(data)
            handed_out.append((part, entry.name, key))
            yield entry.name, data


def _load(entry):
    """The file's bytes, or a `str`: why they cannot be had."""
    try:
        return entry.load()
    except Unreadable as error:
        return str(error)


def _is_done(part, task):
    """Whether a part is there, its shards are whole, and the files of its task are the same."""
    folder = part.parent.parent
    try:
        header, *rows = map(json.loads, part.read_bytes().splitlines())
        return (
            header["checksum"] == _checksum(header["shards"], header["lost"], rows)
            and not header["lost"]
            and len(rows) == len(task)
            and all(is_whole(folder / row["file"], row) for row in header["shards"])
            and all(_is_same(row, entry) for row, entry in zip(rows, task, strict=True))
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False  # cut short, or changed by hand


def _checksum(*content):
    """What shows that a part is as it was written."""
    return bytes_hash(json.dumps(content).encode())


def _is_same(row, entry):
    """Whether a file is the one of which this row was written, and nothing in it has changed."""
    if row["name"] != entry.name:
        return False
    data = _load(entry)
    return row["reason"] == data if isinstance(data, str) else row["bytes_hash"] == bytes_hash(data)


def _write_part(part, answers, bar):
    """Writes the shards of one task, and when they are there the part that says so."""
    rows, num_lost = [], 0
    pieces = {side: [] for side in SIDES}  # (number of ids, example) of each
    for _, name, key, answer in answers:
        if isinstance(answer, Lost):
            num_lost += 1
            answer = lost(name, answer.reason, key)
        row, *piece = answer
        if row["kept"]:
            pieces[row["split"]].append(piece)
        rows.append(row)
        bar.update()
    shards = []
    for side, examples in pieces.items():
        path = part.parent.parent / f"{side}-{part.stem}.tfrecord"
        if examples:
            data, about = shard(examples)
            write_atomically(path, data)
            shards.append({"file": path.name, "split": side, **about})
        else:
            path.unlink(missing_ok=True)  # of a run with other files
    checksum = _checksum(shards, num_lost, rows)
    header = {"shards": shards, "lost": num_lost, "checksum": checksum}
    write_atomically(part, "\n".join(map(json.dumps, [header, *rows])).encode())


def _finish(path, out, settings, parts, others):
    """Writes the report, and last of all the manifest."""
    shards, kept, dropped = [], 0, collections.Counter()
    for row in _rows(parts, shards):
        kept += row["kept"]
        dropped[row["reason"]] += not row["kept"]
    if not kept:
        reasons = [{"reason": reason} for reason in dropped.elements()]
        raise ValueError(nothing_survived(path, reasons, others))
    shards.sort(key=lambda row: (SIDES.index(row["split"]), row["file"]))
    name = os.path.basename(settings["source"])
    source = {"name": name, "files": kept + dropped.total(), "kept": kept}
    manifest = manifest_json(settings | {"source": source, "reports": [REPORT]}, shards)
    if _read_json(out / MANIFEST) != json.loads(manifest):
        (out / MANIFEST).unlink(missing_ok=True)
    _write_report(out / REPORT, parts)
    used = {row["file"] for row in shards} | {part.name for part in parts}
    for file in [*out.iterdir(), *(out / PARTS).iterdir()]:
        if OURS.fullmatch(file.name) and file.name not in used:
            file.unlink()
    write_atomically(out / MANIFEST, manifest.encode())
    return open_shards(out)


def _rows(parts, shards):
    """Yields the rows of all parts, each with its `shard`; `shards` grows by their headers."""
    for part in parts:
        with open(part, encoding="utf-8") as file:
            header = json.loads(next(file))
            shards.extend(header["shards"])
            names = {row["split"]: row["file"] for row in header["shards"]}
            for line in file:
                row = json.loads(line)
                yield row | {"shard": names.get(row["split"], "")}


def _write_report(path, parts):
    """Writes report.csv row by row, whole or not at all."""
    firsts, names = first_of_same(row["digest"] for row in _rows(parts, [])), {}
    wanted = set(firsts[firsts >= 0].tolist())  # rows of which others are copies
    with (
        opened_atomically(path) as binary,
        io.TextIOWrapper(binary, encoding="utf-8", newline="") as file,
    ):
        write = report_writer(file)
        for index, (row, first) in enumerate(zip(_rows(parts, []), firsts, strict=True)):
            if index in wanted:
                names[index] = row["name"]
            write(row | {"same_as": names.get(first, "")})
