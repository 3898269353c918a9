"""What stands behind a PATH: files of music, shards, a text, a corpus by its name, a model.

Conventions: the name of a corpus goes before a file of that name; ./maestro is always a file or
folder.

What this file does not do: it reads nothing itself.
"""

from __future__ import annotations

import inspect
import json
import pathlib

from keras_music.cli.options import TOKENIZERS, counted, sheet

CORPORA = ("bach_chorales", "folk_tunes", "maestro", "shakespeare")
TEXT_SUFFIXES = (".txt", ".text")
PATH_HELP = (
    "a folder, a .zip or one file of MIDI; a folder of shards that `ingest` wrote; a .txt file; or "
    f"a corpus: {', '.join(CORPORA)}"
)

REPORT_OPTIONS = (
    ("--report", None, "write here what became of each file", {"metavar": "FILE.csv"}),
    ("--overview", None, "draw pitches, lengths and tempos", {"metavar": "FILE.png"}),
)


def open_corpus(path, num_workers=None):
    """A `Corpus`, or `Shards`.

    Raises:
      FileNotFoundError: there is nothing of that name.
      ValueError: there is, and it holds nothing to learn from.
    """
    from keras_music import corpora
    from keras_music.records import open_shards

    if path in CORPORA:
        return getattr(corpora, path)()
    place = pathlib.Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(
            f"There is no file or folder {path}, and no corpus of that name "
            f"({', '.join(CORPORA)}). Check the path (the current folder is {pathlib.Path.cwd()})."
        )
    if _has_shards(place):
        return open_shards(place)
    if place.suffix.lower() in TEXT_SUFFIXES:
        return corpora.Corpus([_read_text(place)], name=place.stem, names=[place.name])
    return corpora.midi_folder(place, num_workers=num_workers)


def _has_shards(folder):
    """Whether `ingest` wrote here: others, too, call a file manifest.json."""
    from keras_music.records import FORMAT, MANIFEST

    if any(folder.glob("*.tfrecord")):
        return True
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def is_shards(corpus):
    return hasattr(corpus, "tokenizer_path")


def is_text(corpus):
    return not is_shards(corpus) and isinstance(corpus[0], str)


def _read_text(path):
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}). "
            "Save it as UTF-8 in a text editor."
        ) from None
    if len(text) < 2:
        raise ValueError(f"{path} is empty. Give a text of some length.")
    return text


def make_tokenizer(name, settings):
    """What `--tokenizer` and `--set` ask for; None where it is for the corpus to say."""
    from keras_music import tokenizers

    given = dict(map(_setting, settings))
    if name in (None, "char") and not given:
        return None
    name = name or "performance"
    if name.endswith(".json") and not given:
        return tokenizers.load(name)
    if name not in TOKENIZERS:
        raise ValueError(
            f"--tokenizer must be one of {', '.join(TOKENIZERS)}, or (without --set) a .json file "
            f"that a tokenizer's `save` wrote. Received: {name}."
        )
    kind = getattr(tokenizers, TOKENIZERS[name])
    known = [] if name == "char" else list(inspect.signature(kind).parameters)
    if unknown := sorted(given.keys() - set(known)):
        raise ValueError(
            f"--set must be of the settings of --tokenizer {name}: {', '.join(known) or 'none'}. "
            f"Received: {', '.join(unknown)}."
        )
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"--set {' '.join(settings)} cannot be used ({error}).") from None


def suit_tokenizer(tokenizer, name, corpus):
    """The tokenizer, if it is for such a corpus; for None the one that the corpus calls for."""
    from keras_music import tokenizers

    if is_shards(corpus):
        return tokenizer or tokenizers.load(corpus.tokenizer_path)
    if tokenizer is not None or name == "char":
        check_kind(tokenizer, corpus, f"--tokenizer {name or 'performance'}")
    if tokenizer is None:
        is_one = is_text(corpus)
        tokenizer = (
            tokenizers.CharTokenizer(corpus) if is_one else tokenizers.PerformanceTokenizer()
        )
    return tokenizer


def check_kind(tokenizer, corpus, who):
    """Says in one sentence that music is no text; `None` stands for a tokenizer of texts."""
    from keras_music.generation.generator import is_text as reads_text

    for_text = tokenizer is None or reads_text(tokenizer)
    if not is_shards(corpus) and is_text(corpus) != for_text:
        wanted, received = ("a text", "music") if for_text else ("music", "a text")
        raise ValueError(f"{who} is for {wanted}. Received: {received} ({corpus.name}).")


def _setting(text):
    """("velocity_bins", 8) of "velocity_bins=8"."""
    name, sign, value = text.partition("=")
    if not (name and sign):
        raise ValueError(f"--set takes NAME=VALUE. Received: {text}.")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, {"True": True, "False": False, "None": None}.get(value, value)


def open_model(path):
    """What writes: a `OneStep` of a run folder, or an exported model; and the run's config or {}.

    Raises:
      FileNotFoundError: there is neither.
      ValueError: a file is damaged, or the model needs a tokenizer of another package.
    """
    place = pathlib.Path(path).expanduser()
    if (place / "config.json").is_file():
        from keras_music.generation import OneStep
        from keras_music.training import load_run

        model, tokenizer, config = load_run(place)
        return OneStep(model, tokenizer), config
    is_version = (place / "saved_model.pb").is_file()
    if not is_version and not any(place.glob("[0-9]*/saved_model.pb")):
        raise FileNotFoundError(
            f"There is no model in {path}. Give a run's folder (`keras-music train` writes one) "
            "or an exported model (`keras-music export`)."
        )
    from keras_music.serving import load

    try:
        return load(place), {}
    except TypeError as error:  # of a tokenizer that is not this package's
        raise ValueError(str(error)) from None


def report_facts(report) -> dict:
    """A corpus's report in numbers."""
    from keras_music.corpora import Report

    numbers = Report(report).summary()["number"]
    parts = {part: numbers[part].to_dict() for part in numbers.index.unique(0)}
    files = parts.get("files", {})
    same = [number for what, number in files.items() if what.startswith("kept, the same")]
    return {
        "kept": int(files["kept"]),
        "left_out": {what: int(number) for what, number in parts.get("left out", {}).items()},
        "copies": int(sum(same)),
        "warnings": {what: int(number) for what, number in parts.get("warnings", {}).items()},
    }


def report_rows(facts):
    """The same as rows of a `sheet`."""
    copies = f", {facts['copies']:,} of them the same music as another" if facts["copies"] else ""
    yield "kept", f"{facts['kept']:,}{copies}"
    if facts["left_out"]:
        yield "left out", f"{sum(facts['left_out'].values()):,}: {counted(facts['left_out'])}"
    yield "warnings", counted(facts["warnings"])


def write_report(corpus, options):
    """The files that `REPORT_OPTIONS` ask for: of a corpus, or of its report alone."""
    from keras_music.disk import write_atomically

    if options.report:
        text = getattr(corpus, "report", corpus).to_csv(index=False)
        write_atomically(options.report, text.encode("utf-8", "surrogateescape"))
    if options.overview:
        from keras_music.plots import corpus_overview

        corpus_overview(corpus, options.overview)


def show_report(report):
    """Tells what became of the files, while there is more to do."""
    print(sheet(*report_rows(report_facts(report))), flush=True)
