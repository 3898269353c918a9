"""`keras-music train`, `evaluate` and `export`: a run's life, from the first epoch to a server.

What this file does not do: anything that `keras_music.train`, `evaluation` and `export` do.
"""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import sys

from keras_music.cli.loading import load_tensorflow
from keras_music.cli.options import add_command, add_options, add_tokenizer, plural, sheet
from keras_music.cli.sources import (
    PATH_HELP,
    REPORT_OPTIONS,
    check_kind,
    is_shards,
    make_tokenizer,
    open_corpus,
    open_model,
    report_facts,
    show_report,
    suit_tokenizer,
    write_report,
)

STRATEGIES = {"mirrored": "MirroredStrategy", "multi_worker": "MultiWorkerMirroredStrategy"}
SIDES = ("train", "valid", "test", "all")


def add_to(commands):
    _add_train(commands)
    evaluate = add_command(
        commands,
        "evaluate",
        "RUN PATH [options]",
        run_evaluate,
        "Says how surprised a model is by music or text, beside what simple predictors reach.",
        examples=[
            "keras-music evaluate run/ my_midis/",
            "keras-music evaluate run/ other_midis/ --side all",
        ],
    )
    evaluate.add_argument("model", metavar="RUN", help="a run's folder")
    evaluate.add_argument("path", metavar="PATH", help=PATH_HELP)
    add_options(
        evaluate,
        "",
        (
            "--side",
            None,
            "which pieces: a side of the split that the run made of this PATH, or all of them, if "
            "the model has seen none (default: test, or valid where there is no test)",
            {"choices": SIDES},
        ),
        ("--sequence-length", None, "ids a window (default: the run's)", {"type": int}),
        ("--batch-size", None, "windows at a time (default: the run's)", {"type": int}),
    )
    export = add_command(
        commands,
        "export",
        "RUN --out FOLDER [options]",
        run_export,
        "Writes a run's best model as a SavedModel that TensorFlow Serving serves.",
        examples=["keras-music export run/ --out saved_models/bach"],
        stopped="Stopped. Nothing was exported.",
    )
    export.add_argument("run_folder", metavar="RUN", help="a run's folder")
    export.add_argument("--out", required=True, metavar="FOLDER", help="of all versions of a model")
    add_options(export, "", ("--max-num-tokens", 4096, "the most that one request may ask for"))


def _add_train(commands):
    train = add_command(
        commands,
        "train",
        "PATH --out RUN [options]",
        run_train,
        "Trains a network in a run folder; stopped and started again, it goes on.",
        examples=[
            "keras-music train my_midis/ --tokenizer remi --cell lstm --out run/",
            "keras-music train shakespeare --epochs 3 --out plays/",
        ],
        stopped="Stopped. The same command goes on after the last whole epoch.",
    )
    train.add_argument("path", metavar="PATH", help=PATH_HELP)
    train.add_argument("--out", required=True, metavar="RUN", help="the run's folder")
    add_tokenizer(train, "performance for music, char for texts; shards have one")
    add_options(
        train,
        "network",
        ("--cell", "gru", "gru, lstm or rnn", {"metavar": "CELL"}),
        ("--embedding-dim", 128, "numbers that stand for one id"),
        ("--units", 512, "size of the memory of each recurrent layer"),
        ("--layers", 1, "recurrent layers"),
        ("--dropout", 0.0, "share of values set to zero in training"),
    )
    add_options(
        train,
        "training",
        ("--sequence-length", 256, "ids a window"),
        ("--batch-size", 64, "windows a step"),
        ("--epochs", 10, "how many there shall be in the end"),
        ("--learning-rate", 1e-3, "of Adam"),
        ("--seed", 0, "fixes split, first weights, order of the data and dropout"),
        ("--sample-tokens", 256, "length of the sample that each epoch writes; 0 for none"),
        (
            "--strategy",
            None,
            "several devices of this machine (mirrored) or machines (multi_worker, TF_CONFIG)",
            {"choices": tuple(STRATEGIES)},
        ),
        ("--verbose", "auto", "0 silent, 1 a progress bar, 2 a line an epoch", {"metavar": "N"}),
    )
    add_options(
        train,
        "augmentation, anew in each epoch",
        ("--semitones", 0, "the most by which pieces are transposed"),
        ("--stretch", 0.0, "the largest share by which they get slower or faster, such as 0.05"),
        ("--velocity-bins", 0, "classes of velocity by which they get louder or softer"),
    )
    add_options(
        train,
        "reading",
        ("--num-workers", None, "processes that read (default: one a core)", {"type": int}),
        *REPORT_OPTIONS,
    )


def run_train(options):
    load_tensorflow()
    strategy = _make_strategy(options.strategy)  # before anything else of TensorFlow
    from keras_music.models import build_model
    from keras_music.training import train

    # What is wrong with the options is said before hours of reading, by a small network.
    tokenizer = make_tokenizer(options.tokenizer, options.set)
    sizes = {name: min(getattr(options, name), 1) for name in ("embedding_dim", "units", "layers")}
    build_model(2, **sizes, cell=options.cell, dropout=options.dropout)
    augment, verbose = _make_augmentation(options), _make_verbosity(options.verbose)
    corpus = open_corpus(options.path, options.num_workers)
    tokenizer = suit_tokenizer(tokenizer, options.tokenizer, corpus)
    write_report(corpus, options)
    if not is_shards(corpus):
        show_report(corpus.report)
    run = train(
        corpus,
        options.out,
        tokenizer=tokenizer,
        augment=augment,
        strategy=strategy,
        command=options.command_line,
        verbose=verbose,
        **{name: getattr(options, name) for name in TRAIN_ARGUMENTS},
    )
    return _describe_run(run, report_facts(corpus.report))


def _describe_run(run, files):
    card = _read_card(run.path)
    losses = card.get("held-out loss (nats a token)", {})
    facts = {
        "run": str(run.path),
        "epochs": len(run.history),
        "best_epoch": card.get("best epoch"),
        "held_out": {"side": card.get("held out"), "losses": losses},
        "history": json.loads(run.history.to_json(orient="records")),
        "files": files,
    }
    samples = sorted((run.path / "samples").glob("epoch_*"))
    return facts, sheet(
        ("run", f"{run.path}, {plural(facts['epochs'], 'epoch')}; best: {facts['best_epoch']}"),
        ("loss", _ladder_text(losses, card.get("held out"))),
        ("curve", run.path / "learning_curve.png"),
        ("sample", samples[-1] if samples else ""),
        ("note", _advice(losses)),
        ("next", f"keras-music generate {shlex.quote(str(run.path))}"),
    )


TRAIN_ARGUMENTS = (
    *("cell", "embedding_dim", "units", "layers", "dropout", "sequence_length", "batch_size"),
    *("epochs", "learning_rate", "seed", "sample_tokens"),
)


def _make_strategy(name):
    if name is None:
        return None
    import tensorflow as tf

    if name == "multi_worker":
        print(f"Waiting for all of {_num_workers()} workers ...", file=sys.stderr, flush=True)
    return getattr(tf.distribute, STRATEGIES[name])()


def _num_workers():
    """How many machines TF_CONFIG names; TensorFlow takes what is missing for one machine."""
    config = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(config)
        cluster, task = config["cluster"], config["task"]
        _ = cluster[task["type"]][task["index"]]
        return len(cluster.get("worker", [])) + len(cluster.get("chief", []))
    except (ValueError, TypeError, LookupError, AttributeError):
        raise ValueError(
            "--strategy multi_worker needs the environment variable TF_CONFIG on each machine, "
            'such as {"cluster": {"worker": ["host1:2222", "host2:2222"]}, '
            '"task": {"type": "worker", "index": 0}}. Received: ' + repr(config) + "."
        ) from None


def _make_augmentation(options):
    names = ("semitones", "stretch", "velocity_bins")
    changes = {name: getattr(options, name) for name in names if getattr(options, name)}
    if not changes:
        return None
    from keras_music.augment import Augmentation

    return Augmentation(**changes)


def _make_verbosity(text):
    if text not in ("auto", "0", "1", "2"):
        raise ValueError(f"`verbose` must be auto, 0, 1 or 2. Received: verbose={text}.")
    return text if text == "auto" else int(text)


def _read_card(path):
    try:
        return json.loads((path / "model_card.json").read_text(encoding="utf-8"))
    except FileNotFoundError:  # of a worker that is not the chief
        return {}


def _advice(losses):
    if not losses or losses["model"] < min(
        loss for name, loss in losses.items() if name != "model"
    ):
        return ""
    return "still worse than counting; train longer (--epochs) or in smaller steps (--batch-size)"


def _ladder_text(losses, side):
    """The losses of `evaluation.ladder` in one line."""
    if not losses:
        return ""
    others = ", ".join(f"{name} {loss:.3f}" for name, loss in losses.items() if name != "model")
    return f"{losses['model']:.3f} nats a token on {side}; without a network: {others}"


def run_evaluate(options):
    load_tensorflow()
    from keras_music.evaluation import ladder

    model, config = open_model(options.model)
    network = getattr(model, "model", None)
    if network is None:
        raise ValueError(f"{options.model} is an exported model. Give the folder of its run.")
    windows = {
        name: config["arguments"][name]
        if getattr(options, name) is None
        else getattr(options, name)
        for name in ("sequence_length", "batch_size")
    }
    corpus = open_corpus(options.path)
    check_kind(model.tokenizer, corpus, f"The model in {options.model}")
    side, train, held_out = _choose_side(corpus, options.side, config["arguments"]["seed"])
    if side != "all":
        _check_split(options, train, model.tokenizer, config)
    losses = ladder(network, model.tokenizer, train, held_out, **windows)
    facts = {
        "model": options.model,
        "path": options.path,
        "side": side,
        "pieces": len(held_out),
        "losses": {name: float(loss) for name, loss in losses.items()},
    }
    rows = [(name, f"{loss:.3f}") for name, loss in losses.items()]
    head = f"nats a token, {plural(len(held_out), 'piece')} ({side}) of {options.path}"
    return facts, f"{head}\n{_columns(rows)}"


def _columns(rows):
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:{width}}{number}" for name, number in rows)


def _choose_side(corpus, side, seed):
    """The name of the side, the pieces on which baselines count, the pieces that are judged."""
    if side == "all":
        if is_shards(corpus):
            raise ValueError("--side all cannot be asked of shards. Give train, valid or test.")
        return side, corpus, corpus
    parts = corpus.split() if is_shards(corpus) else corpus.split(seed)
    sides = dict(zip(SIDES, parts, strict=False))
    if side is None:
        side = "test" if len(sides["test"]) else "valid"
    if not len(sides[side]):
        raise ValueError(
            f"The split of {corpus.name} left no piece for {side}. If the model has seen none of "
            "its pieces, give --side all."
        )
    return side, sides["train"], sides[side]


def _check_split(options, train, tokenizer, config):
    """One file more in a folder, and its pieces are on other sides: some exam would be known."""
    from keras_music.training.folder import describe

    if describe(train, tokenizer)["digest"] != config["data"]["train"]["digest"]:
        raise ValueError(
            f"{options.path} is not, or not any more, what {options.model} was trained on, so it "
            "cannot be said which of its pieces the model has seen. Give the files as they were, "
            "or, with --side all, files of which it has seen none."
        )


def run_export(options):
    load_tensorflow()
    from keras_music.generation import OneStep
    from keras_music.serving import export
    from keras_music.training import load_run

    model, tokenizer, _ = load_run(options.run_folder)
    card = _read_card(pathlib.Path(options.run_folder).expanduser())
    one_step = OneStep(model, tokenizer)
    version = export(one_step, options.out, max_num_tokens=options.max_num_tokens, card=card)
    facts = {"path": str(version), "version": int(version.name)}
    return facts, sheet(
        ("model", f"{version}, ready for TensorFlow Serving (see deploy/README.md)"),
        ("next", f"keras-music generate {shlex.quote(options.out)}"),
    )
