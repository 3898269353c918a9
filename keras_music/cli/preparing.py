"""`keras-music ingest`: a folder of MIDI files becomes shards of ids, and a report.

What this file does not do: anything that `keras_music.ingest` does.
"""

from __future__ import annotations

import pathlib
import shlex

from keras_music.cli.options import add_command, add_options, add_tokenizer, sheet
from keras_music.cli.sources import (
    REPORT_OPTIONS,
    make_tokenizer,
    report_facts,
    report_rows,
    write_report,
)


def add_to(commands):
    parser = add_command(
        commands,
        "ingest",
        "PATH --out FOLDER [options]",
        run_ingest,
        "Reads MIDI files once, and writes them as shards from which a large training reads.",
        examples=[
            "keras-music ingest my_midis/ --tokenizer remi --out shards/",
            "keras-music train shards/ --out run/",
        ],
        stopped="Stopped. The same command goes on where it was.",
    )
    parser.add_argument("path", metavar="PATH", help="a folder, a .zip or one MIDI file")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where to write the shards")
    add_tokenizer(parser, "performance")
    add_options(
        parser,
        "shards",
        ("--seed", 0, "another seed, another split"),
        (
            "--fractions",
            (0.8, 0.1, 0.1),
            "shares of train, valid and test",
            {"type": float, "nargs": 3, "metavar": ("TRAIN", "VALID", "TEST")},
        ),
        ("--files-per-shard", 1000, "MIDI files in one task"),
        ("--num-workers", None, "processes that read (default: one a core)", {"type": int}),
        *REPORT_OPTIONS,
    )


def run_ingest(options):
    from keras_music.ingestion import ingest

    if options.tokenizer == "char":
        raise ValueError("--tokenizer char is for texts, and `ingest` reads MIDI files. Take remi.")
    shards = ingest(
        options.path,
        make_tokenizer(options.tokenizer or "performance", options.set),
        options.out,
        seed=options.seed,
        fractions=tuple(options.fractions),
        files_per_shard=options.files_per_shard,
        num_workers=options.num_workers,
    )
    write_report(shards.report, options)
    sides = {side.name: side for side in shards.split()}
    facts = report_facts(shards.report) | {
        "out": options.out,
        "pieces": {name: len(side) for name, side in sides.items()},
        "ids": {name: int(side.num_ids.sum()) for name, side in sides.items()},
        "report": options.report or str(pathlib.Path(options.out) / "report.csv"),
    }
    pieces = ", ".join(
        f"{number} {name} ({facts['ids'][name]:,} ids)" for name, number in facts["pieces"].items()
    )
    return facts, sheet(
        *report_rows(facts),
        ("pieces", pieces),
        ("shards", options.out),
        ("report", facts["report"]),
        ("next", f"keras-music train {shlex.quote(options.out)} --out run/"),
    )
