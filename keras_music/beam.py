r"""From MIDI files to shards of ids on as many machines as there are: an Apache Beam pipeline.

Ten million files lie in no folder of a laptop. A *pipeline* says what is to be done with each
element of a large collection, and a *runner* does it: on the cores of this machine (DirectRunner),
on a cluster with Flink or Spark, on machines that Google lends for an hour (Dataflow). An element
may be worked on twice, when a machine is lost; so each step must be a function without a memory,
and each file is written under another name and then renamed.

    files -> (name, bytes) -> prepare -> rows, records ------> by bucket -> shards, report
                                         digests -> copies --/                        \-> manifest

`prepare` is the function that `ingest` runs on one machine, so that both come to the same rows and
the same records. What differs is who shares a shard: here it is drawn from a hash of the name
(*bucket*), because no machine sees all names. As there, files are read by worker processes beside
the runner's own, so that a file that kills its reader costs one file and not a machine.

    python -m keras_music.beam --input 'gs://bucket/midi/**' --output gs://bucket/shards \
        --tokenizer remi --runner DataflowRunner --project ... --region ... --temp_location ...

Conventions: `--input` and `--output` are paths of any file system of Beam. Names are relative to
the folder, or to what stands before the first wildcard of a pattern.

What this file does not do: no zip, no going on after a job that failed (the runner itself tries
again what failed). On a local disk it finds what Beam finds: unlike `ingest` it follows no links to
folders, and what cannot even be listed, such as a link to nothing or a folder that may not be
opened, has no row in the report. `open_shards` reads a local folder: copy the shards to where you
train.

References: T. Akidau and others, "The Dataflow Model" (2015); https://beam.apache.org
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import io
import json
import os
import pathlib
import re
import uuid

try:
    import apache_beam as beam
    from apache_beam.io import fileio
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "keras_music.beam needs Apache Beam, which is not installed: "
        'pip install "keras_music[beam]"'
    ) from error

from keras_music.arguments import whole_number
from keras_music.corpora.entries import MIDI_SUFFIXES, is_midi, printable
from keras_music.corpora.reader import MAX_BYTES, bytes_hash, too_large
from keras_music.corpora.workers import Lost, Workers
from keras_music.preparation import (
    PREPARE,
    check_out,
    lost,
    preparation_settings,
    report_writer,
    worker_context,
)
from keras_music.records import (
    MANIFEST,
    SIDES,
    TOKENIZER,
    manifest_json,
    open_shards,
    path_text,
    shard,
)
from keras_music.tokenizers import (
    ChoraleTokenizer,
    NoteTokenizer,
    PerformanceTokenizer,
    RemiTokenizer,
    load,
)

SETTINGS = "settings.json"  # written first: what is made here
TOKENIZERS = {
    "chorale": ChoraleTokenizer,
    "note": NoteTokenizer,
    "performance": PerformanceTokenizer,
    "remi": RemiTokenizer,
}


def ingest(
    source, tokenizer, out, *, seed=0, fractions=(0.8, 0.1, 0.1), num_shards=32, options=None
):
    """Runs the pipeline: all MIDI files of a folder or a pattern to shards of ids.

    Args:
      source: a folder or a pattern ("gs://bucket/midi/**.mid") on any file system of Beam.
      tokenizer: one of `keras_music.tokenizers`.
      out: the folder to write, new or of an earlier run with the same arguments.
      seed, fractions: of the split, as in `ingestion.ingest`.
      num_shards: >= 1, shards of each side; a thousand files to one are a good number. What goes
        into one is in the memory of one machine at once.
      options: `PipelineOptions` of Beam, or a list of its flags; default: none, the DirectRunner.

    Returns:
      `Shards`, or None if `out` is not a local path.

    Raises:
      ValueError: an argument is out of range, or `out` holds something else.
      Exception: of the runner, if the pipeline failed or no file could be used, with the reason.
    """
    settings = preparation_settings(tokenizer, seed, fractions)
    num_shards = whole_number("num_shards", num_shards, 1)
    source, out = path_text("source", source), path_text("out", out)
    out = out if "://" in out else os.path.normpath(out)
    folder, pattern = _folder_of(source)
    settings |= {"num_shards": num_shards, "source": os.path.basename(folder)}
    if options is None or isinstance(options, list | tuple):
        options = PipelineOptions(list(options or []))
    if not FileSystems.match([pattern], limits=[1])[0].metadata_list:
        raise ValueError(f"`source` must lead to files. Received: {source}, where there are none.")
    _begin(out, settings | {"source": source if "://" in source else os.path.abspath(source)})
    with beam.Pipeline(options=options) as pipeline:
        files = pipeline | "Read" >> ReadMidi(source)
        prepared = files | "Prepare" >> Prepare(tokenizer, seed=seed, fractions=fractions)
        write = WriteShards(out, settings, tokenizer.to_json(), num_shards)
        _ = (prepared.rows, prepared.records) | "Write" >> write
    return None if "://" in out else open_shards(out)


class ReadMidi(beam.PTransform):
    """The MIDI files of a folder or a pattern -> (name, `bytes`, or why they cannot be had)."""

    def __init__(self, source):
        super().__init__()
        self._folder, self._pattern = _folder_of(path_text("source", source))

    def expand(self, begin):
        folder = self._folder
        return (
            begin
            | fileio.MatchFiles(self._pattern, fileio.EmptyMatchTreatment.ALLOW)
            | beam.Filter(lambda file: file.path.startswith(folder))
            | beam.Map(lambda file: (_name(file.path, folder), file))
            | beam.Filter(lambda named: is_midi(named[0]))
            | beam.Reshuffle()  # so that all machines read
            | beam.MapTuple(_load)
        )


class Prepare(beam.PTransform):
    """(name, `bytes` or reason) -> `.rows`, dicts, and `.records` of what was kept.

    A record is (name, side, number of ids, `bytes` of a tf.train.Example). Counted are "kept",
    "dropped" and "lost" (the reader died or was too slow) in the namespace "keras_music".
    """

    def __init__(self, tokenizer, *, seed=0, fractions=(0.8, 0.1, 0.1)):
        super().__init__()
        self._context = worker_context(tokenizer, preparation_settings(tokenizer, seed, fractions))

    def expand(self, files):
        return files | beam.ParDo(_Prepare(self._context)).with_outputs("records", main="rows")


class _Prepare(beam.DoFn):
    """Hands each file to a worker process that lives as long as this object is in use."""

    def __init__(self, context):
        super().__init__()
        self._context = context
        self._counters = {
            name: beam.metrics.Metrics.counter("keras_music", name)
            for name in ("kept", "dropped", "lost")
        }

    def setup(self):
        self._workers = Workers(PREPARE, 1, context=self._context)

    def process(self, item):
        name, data = item
        [answer] = self._workers.map([item])
        if isinstance(answer, Lost):
            self._counters["lost"].inc()
            answer = lost(name, answer.reason, bytes_hash(data))
        row, num_ids, example = answer
        self._counters["kept" if row["kept"] else "dropped"].inc()
        yield row
        if row["kept"]:
            record = name, row["split"], num_ids, example
            yield beam.pvalue.TaggedOutput("records", record)

    def teardown(self):
        self._workers.close()


class WriteShards(beam.PTransform):
    """(rows, records) of `Prepare` -> shards, reports, the tokenizer, and last the manifest."""

    def __init__(self, out, settings, tokenizer_json, num_shards):
        super().__init__()
        self._out, self._settings = out, settings
        self._tokenizer_json, self._num_shards = tokenizer_json, num_shards

    def expand(self, prepared):
        rows, records = prepared
        num_shards = self._num_shards
        copies = (
            rows
            | beam.Filter(lambda row: row["digest"])
            | beam.Map(lambda row: (row["digest"], row["name"]))
            | beam.GroupByKey()
            | beam.FlatMapTuple(_copies)
        )
        by_bucket = {
            "rows": rows | "of row" >> beam.Map(lambda r: (_bucket(r["name"], num_shards), r)),
            "records": records | "of record" >> beam.Map(lambda r: (_bucket(r[0], num_shards), r)),
            "copies": copies | "of copy" >> beam.Map(lambda c: (_bucket(c[0], num_shards), c)),
        }
        return (
            by_bucket
            | beam.CoGroupByKey()
            | "Shards" >> beam.Map(_write_bucket, self._out)
            | beam.combiners.ToList()
            | "Manifest" >> beam.Map(_write_end, self._out, self._settings, self._tokenizer_json)
        )


def _folder_of(source):
    """The folder to which names are relative, and the pattern of its files."""
    source = source.rstrip("/")
    suffix = pathlib.PurePosixPath(source).suffix.lower()
    if suffix == ".zip":
        raise ValueError(
            f"`source` must be a folder or a pattern. Received: {source}. Unpack it, because many "
            "machines cannot read one zip."
        )
    if re.search(r"[*?[]", source) and not os.path.exists(source):
        return re.match(r"([^*?[]*)/|", source)[1] or "", source
    if suffix in MIDI_SUFFIXES and not os.path.isdir(source):
        return os.path.dirname(source), _as_pattern(source)
    return source, _as_pattern(source) + "/**"


def _as_pattern(path):
    """A pattern that matches a path, and few others: Beam knows no way to quote a wildcard."""
    return re.sub(r"[*?[]", "?", path)


def _name(path, folder):
    return printable(path.removeprefix(folder).replace(os.sep, "/").lstrip("/"))


def _load(name, file):
    """(name, bytes), or (name, why they cannot be had)."""
    if file.size_in_bytes > MAX_BYTES:
        return name, too_large(file.size_in_bytes)
    if os.path.exists(file.path) and not os.path.isfile(file.path):  # opening a pipe would wait
        return name, "it is no file but a pipe or a device"
    try:
        with FileSystems.open(file.path, compression_type="uncompressed") as opened:
            return name, opened.read(MAX_BYTES + 1)
    except OSError as error:
        return name, f"it cannot be opened ({error.strerror or error})"


def _bucket(name, num_shards):
    """The shard of a file, drawn from its name: the same on every machine."""
    drawn = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(drawn, "big") % num_shards


def _order(name):
    """The order in which `ingest` finds files: by folder, then by name."""
    return name.split("/")


def _copies(_, names):
    """The names of files with the same music -> (name, first of them) for all but the first."""
    first, *others = sorted(names, key=_order)
    return [(name, first) for name in others]


def _write_bucket(element, out):
    """Writes the shards and the report of one bucket; returns what the manifest says of them."""
    bucket, grouped = element
    rows = sorted(grouped["rows"], key=lambda row: _order(row["name"]))
    records = sorted(grouped["records"], key=lambda record: _order(record[0]))
    firsts = dict(grouped["copies"])
    shards = []
    for side in SIDES:
        examples = [(num_ids, data) for _, of, num_ids, data in records if of == side]
        if examples:
            file = f"{side}-{bucket:05d}.tfrecord"
            data, about = shard(examples)
            _write(out, file, data)
            shards.append({"file": file, "split": side, **about})
    names = {row["split"]: row["file"] for row in shards}
    text = io.StringIO()
    write = report_writer(text)
    for row in rows:
        same_as, file = firsts.get(row["name"], ""), names.get(row["split"], "")
        write(row | {"same_as": same_as, "shard": file})
    report = f"report-{bucket:05d}.csv"
    _write(out, report, text.getvalue().encode())
    reasons = collections.Counter(row["reason"] for row in rows if not row["kept"])
    return {"shards": shards, "report": report, "kept": len(records), "reasons": reasons}


def _write_end(buckets, out, settings, tokenizer_json):
    """Writes the tokenizer, and last of all the manifest; returns its path."""
    kept = sum(bucket["kept"] for bucket in buckets)
    reasons = sum((bucket["reasons"] for bucket in buckets), collections.Counter())
    if not kept:
        counted = "; ".join(f"{reason} ({n})" for reason, n in reasons.most_common(10))
        raise ValueError(
            f"None of the {reasons.total()} MIDI files of {settings['source']!r} can be used"
            f"{': ' if counted else ''}{counted}. Check --input."
        )
    shards = [row for bucket in buckets for row in bucket["shards"]]
    shards.sort(key=lambda row: (SIDES.index(row["split"]), row["file"]))
    source = {"name": settings["source"], "files": kept + reasons.total(), "kept": kept}
    reports = sorted(bucket["report"] for bucket in buckets)
    _write(out, TOKENIZER, tokenizer_json.encode())
    text = manifest_json(settings | {"source": source, "reports": reports}, shards)
    return _write(out, MANIFEST, text.encode())


def _write(out, file, data):
    """Writes a file under another name and renames it: a machine may be lost at any moment."""
    path = FileSystems.join(out, file)
    temporary = FileSystems.join(out, f".{file}.{uuid.uuid4().hex}")
    with FileSystems.create(temporary, compression_type="uncompressed") as opened:
        opened.write(data)
    if FileSystems.exists(path):  # of an attempt that was given up; not all systems replace
        FileSystems.delete([path])
    FileSystems.rename([temporary], [path])
    return path


def _begin(out, settings):
    """Makes the folder, or removes the shards of an earlier run of the same kind from it."""
    if not FileSystems.exists(out):
        FileSystems.mkdirs(out)
    found = None
    if FileSystems.exists(FileSystems.join(out, SETTINGS)):
        with FileSystems.open(FileSystems.join(out, SETTINGS)) as opened:
            found = opened.read()
    check_out(out, [path[len(out) :].lstrip("/\\") for path in _match(out, "**")], found, settings)
    _write(out, SETTINGS, json.dumps(settings).encode())
    for pattern in (MANIFEST, "report-*.csv", *(f"{side}-*.tfrecord" for side in SIDES)):
        if paths := _match(out, pattern):
            FileSystems.delete(paths)


def _match(out, pattern):
    """The files in `out` that match a pattern; others match it if `out` has a wildcard."""
    [match] = FileSystems.match([FileSystems.join(_as_pattern(out), pattern)])
    return [file.path for file in match.metadata_list if file.path.startswith(out)]


def main(arguments=None):
    """The command line: own arguments first, all others are Beam's."""
    parser = argparse.ArgumentParser(
        prog="python -m keras_music.beam",
        description="MIDI files to shards of ids, on any runner of Apache Beam.",
        epilog="All other arguments are Beam's, such as --runner.",
        allow_abbrev=False,
    )
    parser.add_argument("--input", required=True, help="a folder, or a pattern of files")
    parser.add_argument("--output", required=True, help="the folder to write")
    names = ", ".join(TOKENIZERS)
    parser.add_argument("--tokenizer", required=True, help=f"{names}, or a tokenizer's .json file")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    parser.add_argument("--fractions", type=float, nargs=3, default=(0.8, 0.1, 0.1))
    parser.add_argument("--num_shards", type=int, default=32, help="of each side")
    own, flags = parser.parse_known_args(arguments)
    kind = TOKENIZERS.get(own.tokenizer)
    try:
        shards = ingest(
            own.input,
            kind() if kind else load(own.tokenizer),
            own.output,
            seed=own.seed,
            fractions=own.fractions,
            num_shards=own.num_shards,
            options=flags,
        )
    except (ValueError, FileNotFoundError) as error:
        parser.error(str(error))
    print(own.output if shards is None else shards)


if __name__ == "__main__":
    # Under its own name: machines elsewhere know no `__main__` of ours.
    from keras_music.beam import main as run

    run()
