"""The command line: the same names and defaults as in Python, one answer, one sentence."""

import inspect
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import types
import wave

import numpy as np
import pytest
import shard_files

import keras_music as km
from keras_music import cli
from keras_music.cli import explaining, loading, sources
from keras_music.cli import training as training_commands
from keras_music.cli.training import TRAIN_ARGUMENTS
from keras_music.cli.writing import WISHES
from keras_music.midi import Piece
from keras_music.training.folder import describe

COMMANDS = ("ingest", "train", "evaluate", "export", "generate", "play", "explain")
SMALL = ("--units", "8", "--embedding-dim", "4", "--sequence-length", "32", "--epochs", "2")


@pytest.fixture
def run(capsys):
    """Runs a command; returns its exit code, its answer and what it said meanwhile."""

    def run_command(*argv):
        try:
            code = cli.main([str(word) for word in argv])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return run_command


def melody(seed):
    rng = np.random.default_rng(seed)
    start = np.arange(40) * 0.25
    return Piece({"pitch": rng.integers(55, 75, 40), "start": start, "end": start + 0.2})


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    """A folder as people have them."""
    folder = tmp_path_factory.mktemp("music") / "my midis"
    for number in range(12):
        km.write_midi(
            melody(number), folder / ("für Anna" if number % 2 else ".") / f"{number}.mid"
        )
    (folder / "empty.MID").write_bytes(b"")
    (folder / "cover.jpg").write_bytes(b"no music")
    return folder


@pytest.fixture(scope="module")
def trained(music):
    """A run that the command made, and the JSON that it answered with."""
    out = music.parent / "run"
    report = music.parent / "report.csv"
    command = ["train", music, "--out", out, "--report", report, "--sample-tokens", "8", *SMALL]
    assert cli.main([str(word) for word in command]) == 0
    return out


def options_of(*command):
    """What the parser makes of a command without any option: a dict by name."""
    return vars(cli.make_parser().parse_args(command))


def defaults_of(function, names=None):
    parameters = inspect.signature(function).parameters.values()
    return {
        parameter.name: parameter.default
        for parameter in parameters
        if parameter.default is not inspect.Parameter.empty
        and (names is None or parameter.name in names)
    }


# Names and defaults


def test_train_has_the_defaults_of_the_function():
    options = options_of("train", "music", "--out", "run")
    not_typed = {"valid", "test", "command"}  # the command itself knows the sides and its words
    defaults = defaults_of(km.train)
    assert {*TRAIN_ARGUMENTS} == {*defaults} - not_typed - {"augment", "strategy", "verbose"}
    for name in {*TRAIN_ARGUMENTS, "strategy", "verbose"}:
        assert options[name] == defaults[name], name
    for name, default in defaults_of(km.Augmentation, {"semitones", "stretch"}).items():
        assert options[name] == default, name


@pytest.mark.parametrize(
    ("function", "command"),
    [
        (km.ingest, ("ingest", "music", "--out", "shards")),
        (km.OneStep.generate, ("generate", "run")),
        (km.audio.write_wav, ("play", "a.mid")),
        (km.corpora.midi_folder, ("train", "music", "--out", "run")),
    ],
)
def test_commands_have_the_defaults_of_their_functions(function, command):
    options = options_of(*command)
    for name, default in defaults_of(function).items():
        if name != "name":  # of a corpus
            assert options[name] == default, name


def test_export_and_wishes():
    options = options_of("export", "run", "--out", "model")
    assert options["max_num_tokens"] == defaults_of(km.export)["max_num_tokens"]
    from keras_music.generation.wishes import KNOWN_WISHES

    assert WISHES == KNOWN_WISHES


@pytest.mark.parametrize("name", explaining.FUNCTIONS)
def test_explain_has_the_arguments_of_its_functions(name):
    parameters = inspect.signature(getattr(km.explain, name)).parameters
    ours = explaining.FUNCTIONS[name]
    assert [*ours, "show"] == [*parameters]
    for argument, parameter in parameters.items():
        if argument != "show":
            is_optional = parameter.default is not inspect.Parameter.empty
            is_switch = isinstance(ours[argument], bool) or argument == "cell"
            assert is_optional == (argument in explaining.OPTIONAL or is_switch), argument
            if is_switch:
                assert ours[argument] == parameter.default


# Help


def test_help_comes_at_once():
    """Without any library that takes time to load, and within 0.3 s of a processor's time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "keras_music", "--help"], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3
    code = f"""
import contextlib, io, sys
from keras_music import cli
said = io.StringIO()
for argv in [[], ["--version"], *([name, "--help"] for name in {COMMANDS}), ["train"], ["trian"],
             ["train", "a", "--out", "b", "--units", "many"], ["explain", "dense"]]:
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            cli.main(argv)
        except SystemExit as end:
            print(end.code, end=" ", file=sys.__stdout__)
slow = {{"numpy", "pandas", "tensorflow", "keras", "symusic", "tqdm", "matplotlib"}}
print(slow & set(sys.modules))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert result.stdout == "0 " * (2 + len(COMMANDS)) + "2 2 2 2 set()\n"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (["train"], "keras-music train: the following arguments are required: PATH, --out."),
        (["train", "a", "--out", "b", "--units", "x"], "keras-music train: argument --units: inv"),
        (
            ["train", "a", "--out", "b", "--uni", "8"],
            "keras-music: unrecognized arguments: --uni 8",
        ),
        (["trian"], "keras-music: argument COMMAND: invalid choice: 'trian'"),
        (
            ["explain", "dense", "--x", "1"],
            "keras-music explain dense: the following arguments are",
        ),
    ],
)
def test_what_cannot_be_understood(run, command, sentence):
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err.startswith(sentence)
    assert err.count("\n") == 1
    assert "--help` says what can be given." in err


def test_no_words_at_all(run):
    code, out, _ = run()
    assert code == 0
    assert all(f"    {command} " in out for command in COMMANDS)


# Mistakes


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("play nothing.mid", "There is no file nothing.mid. Check the path"),
        ("play text.txt", "text.txt is not a MIDI file"),
        ("play nowhere/a.mid --json", "There is no file nowhere/a.mid."),
        ("train nothing --out run", "There is no file or folder nothing, and no corpus of that"),
        ("train empty --out run", "There is no file in empty."),
        ("train empty.txt --out run", "empty.txt is empty."),
        ("train latin.txt --out run", "latin.txt is no text in UTF-8"),
        (
            "train text.txt --out run --tokenizer remi",
            "--tokenizer remi is for music. Received: a text (",
        ),
        (
            "train song.mid --out run --tokenizer char",
            "--tokenizer char is for a text. Received: music",
        ),
        ("train song.mid --out run --tokenizer rmi", "--tokenizer must be one of performance, rem"),
        ("train song.mid --out run --tokenizer a.json", "There is no tokenizer file a.json."),
        ("train song.mid --out run --set velocity", "--set takes NAME=VALUE. Received: velocity."),
        ("train song.mid --out run --set speed=3", "--set must be of the settings of --tokenizer "),
        ("train song.mid --out run --set program=200", "`program` must be a whole number from 0"),
        ("train song.mid --out run --verbose 3", "`verbose` must be auto, 0, 1 or 2."),
        ("train song.mid --out run --units 0", "`units` must be a whole number >= 1."),
        ("train song.mid --out text.txt", "`out` must be a folder."),
        ("ingest song.mid --out run --tokenizer char", "--tokenizer char is for texts"),
        ("ingest song.mid --out run --fractions 1 1 1", "`fractions` must be three numbers >= 0"),
        ("generate nothing", "There is no model in nothing."),
        ("generate empty --num 0", "`num` must be a whole number from 1 to 100000."),
        ("export empty --out model", "empty is not the folder of a run"),
        ("evaluate empty song.mid", "There is no model in empty."),
        ("explain dense --x 1 a --kernel 1 2", "`x` must be numbers. Received: 1 a."),
        ("explain dense --x 1 2 --kernel 1", "`kernel` must have the shape"),
    ],
)
def test_a_mistake_is_one_sentence(run, tmp_path, monkeypatch, command, sentence):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("empty").mkdir()
    pathlib.Path("empty.txt").write_text("")
    pathlib.Path("text.txt").write_text("To be, or not to be. " * 20)
    pathlib.Path("latin.txt").write_bytes("für".encode("latin-1"))
    km.write_midi(melody(0), "song.mid")
    code, out, err = run(*command.split())
    assert (code, out) == (2, "")
    *_, last = err.strip().split("\n")
    prog = " ".join(["keras-music", *command.split()[: 2 if command.startswith("explain") else 1]])
    assert last.startswith(f"{prog}: {sentence}")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["ingest", "", "--out", "shards"], "path"),
        (["ingest", "my_midis", "--out", ""], "out"),
        (["ingest", "my_midis", "--out", "shards", "--report="], "report"),
        (["train", "", "--out", "run"], "path"),
        (["evaluate", "", "my_midis"], "model"),
        (["export", "run", "--out", ""], "out"),
        (["generate", "run", "--out", ""], "out"),
        (["play", ""], "file"),
    ],
)
def test_an_empty_path_is_not_the_current_folder(run, tmp_path, monkeypatch, command, name):
    """Of `ingest "$MIDIS"` with a variable that is not set."""
    monkeypatch.chdir(tmp_path)
    sentence = f"`{name}` must not be empty. Perhaps a variable of the shell is not set."
    assert run(*command) == (2, "", f"keras-music {command[0]}: {sentence}\n")
    assert not list(tmp_path.iterdir())


def test_brackets_without_end(run):
    """More of them than Python's reader of JSON can hold open."""
    code, out, err = run("explain", "dense", "--x", "[" * 5000, "--kernel", "1")
    sentence = f"keras-music explain dense: `x` must be numbers. Received: {'[' * 80}. Write them"
    assert (code, out, err[: len(sentence)]) == (2, "", sentence)
    code, _, err = run("train", "my_midis", "--out", "run", "--set", f"velocity_bins={'[' * 5000}")
    assert (code, err.count("\n")) == (2, 1)


def test_json_has_no_nan(run, monkeypatch):
    """Of a training that came to nothing: Python's NaN and Infinity are no JSON."""
    losses = {"model": float("nan"), "unigram": float("inf"), "uniform": 5.9}

    def run_evaluate(options):
        return {"side": "test", "losses": losses}, "nats"

    monkeypatch.setattr("keras_music.cli.training.run_evaluate", run_evaluate)
    code, out, _ = run("evaluate", "run", "my_midis", "--json")
    answer = '{"side": "test", "losses": {"model": null, "unigram": null, "uniform": 5.9}}\n'
    assert (code, out) == (0, answer)


def test_without_standard_error():
    """A daemon's: the answer is whole, and a mistake's sentence does not go where answers go."""
    code = """
import sys
sys.stderr = None
from keras_music import cli
from keras_music.cli.loading import load_tensorflow
def run_play(options):
    from tqdm import tqdm
    warnings = __import__("warnings")
    warnings.warn("This file is odd.")
    for _ in tqdm(range(2), disable=None):
        print("meanwhile")
    if options.file == "bad.mid":
        raise OSError(2, "No such file")
    return {}, "the answer"
from keras_music.cli import writing
writing.run_play = run_play
codes = [cli.main(["play", name]) for name in ("a.mid", "bad.mid")]
print(codes, sys.stderr)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("the answer\n[0, 2] None\n", 0)


@pytest.mark.skipif(os.name == "nt", reason="the shell is a POSIX one")
def test_ingest_with_standard_error_closed(music, tmp_path):
    """Its worker processes, too, have a descriptor 2 that is nobody's file."""
    code = '"$0" -m keras_music ingest "$1" --out "$2" --num-workers 1 --json 2>&-'
    command = ["sh", "-c", code, sys.executable, music, tmp_path / "shards"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0
    assert json.loads(result.stdout)["kept"] == 12


def test_a_fault_keeps_its_traceback(run, monkeypatch):
    """A value that another library refuses got through our doors: no mistake of the user's."""
    monkeypatch.setattr("keras_music.midi.read_midi", lambda path: np.zeros(2).reshape(3))
    with pytest.raises(ValueError, match="cannot reshape"):
        run("play", "a.mid")
    monkeypatch.setattr("keras_music.cli.writing.pathlib.Path", int)  # no frame between us and C
    with pytest.raises(ValueError, match="invalid literal for int"):
        run("play", "a.mid")


def test_a_disk_that_is_full_is_no_fault(run, monkeypatch):
    def read_midi(path):
        return pathlib.Path("/dev/full").write_text("full" * 10_000)

    monkeypatch.setattr("keras_music.midi.read_midi", read_midi)
    code, _, err = run("play", "a.mid")
    assert (code, err) == (2, "keras-music play: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ("Goes on after epoch 3.", "keras-music train: Goes on after epoch 3.\n"),
        ("", "keras-music train: Stopped. The same command goes on after the last whole epoch.\n"),
    ],
)
def test_ctrl_c(run, monkeypatch, said, sentence):
    def open_corpus(*_):
        raise KeyboardInterrupt(*filter(None, [said]))

    monkeypatch.setattr("keras_music.cli.training.open_corpus", open_corpus)
    assert run("train", "music", "--out", "run") == (130, "", sentence)


def test_ctrl_c_before_any_work(run, monkeypatch):
    """While the parser is made."""

    def make_parser():
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "make_parser", make_parser)
    assert run("train", "music", "--out", "run") == (130, "", "keras-music: Stopped.\n")


@pytest.mark.filterwarnings("default")
def test_a_warning_is_one_line(run, tmp_path, monkeypatch):
    def read_midi(path):
        import warnings

        warnings.warn("This file is odd.", stacklevel=2)
        return melody(0)

    monkeypatch.setattr("keras_music.midi.read_midi", read_midi)
    code, _, err = run("play", tmp_path / "a.mid")
    assert (code, err) == (0, "warning: This file is odd.\n")


# Commands


def test_train_writes_a_run(trained, music):
    config = json.loads((trained / "config.json").read_text())
    assert config["arguments"]["units"] == 8
    card = json.loads((trained / "model_card.json").read_text())
    assert card["command"].startswith(f"keras-music train '{music}' --out ")
    report = (music.parent / "report.csv").read_text().split("\n")
    assert report[0].startswith("name,notes,seconds,kept,reason")
    assert any(line.startswith("empty.MID,0,0.0,False,it is empty") for line in report)


def test_train_tells_what_it_left_out_and_goes_on(run, trained, music):
    command = ["train", music, "--out", trained, "--sample-tokens", "8", *SMALL, "--json"]
    code, out, err = run(*command)
    assert code == 0
    assert "kept      12\nleft out  1: it is empty (1)\n" in err
    assert "is finished: 2 epochs. Nothing was done." in err
    facts = json.loads(out)
    assert facts["run"] == str(trained)
    assert (facts["epochs"], facts["files"]["kept"]) == (2, 12)
    assert [row["epoch"] for row in facts["history"]] == [1, 2]
    assert set(facts["held_out"]["losses"]) == {
        *("uniform", "unigram", "repeat the last token", "model"),
    }
    code, out, err = run(*command[:-1])
    assert code == 0
    assert out.split("\n")[0].startswith(f"run       {trained}, 2 epochs; best: ")
    assert out.endswith(f"next      keras-music generate {trained}\n")
    code, _, err = run(*command[:-1], "--units", "9")
    assert (code, err.split("\n")[-2][:50]) == (
        2,
        "keras-music train: `out` must be a new folder, or h"[:50],
    )


def test_options_are_checked_before_the_files_are_read(run, music, tmp_path):
    """A misspelt cell was refused after all files had been read."""
    code, _, err = run("train", music, "--out", tmp_path / "run", "--cell", "lstmm")
    assert (code, err.splitlines()) == (
        2,
        [
            "keras-music train: `cell` must be one of ['gru', 'lstm', 'rnn']. "
            "Received: cell='lstmm'."
        ],
    )


@pytest.mark.parametrize(
    "config",
    ["", "{bad", "[]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 9}}'],
)
def test_several_machines_need_to_know_each_other(run, music, tmp_path, monkeypatch, config):
    """Without TF_CONFIG each of them would have trained alone, without a word."""
    monkeypatch.setenv("TF_CONFIG", config)
    command = ["train", music, "--out", tmp_path / "run", "--strategy", "multi_worker"]
    code, _, err = run(*command)
    assert code == 2 and "needs the environment variable TF_CONFIG on each machine" in err


def test_a_model_that_is_worse_than_counting_is_called_so():
    assert training_commands._advice({"uniform": 5.9, "unigram": 5.0, "model": 4.9}) == ""
    assert "train longer" in training_commands._advice({"uniform": 5.9, "model": 5.95})


def test_evaluate(run, trained, music, tmp_path):
    code, out, _ = run("evaluate", trained, music)
    assert code == 0
    assert out.startswith(f"nats a token, 1 piece (test) of {music}\nuniform                5.9")
    km.write_midi(melody(99), tmp_path / "unseen.mid")
    code, out, _ = run("evaluate", trained, tmp_path / "unseen.mid", "--side", "all", "--json")
    facts = json.loads(out)
    assert (facts["side"], facts["pieces"], len(facts["losses"])) == ("all", 1, 4)
    code, _, err = run("evaluate", trained, "shakespeare")
    assert (code, "run is for music. Received: a text (shakespeare).\n" in err) == (2, True)
    card = json.loads((trained / "model_card.json").read_text())
    facts = json.loads(run("evaluate", trained, music, "--json")[1])
    assert facts["losses"] == pytest.approx(card["held-out loss (nats a token)"], abs=1e-4)


def test_evaluate_refuses_a_folder_that_has_changed(run, trained, music, tmp_path):
    """With one file more the split is another one: pieces that were learned came into the exam."""
    grown = tmp_path / "grown"
    shutil.copytree(music, grown)
    code, out, _ = run("evaluate", trained, grown)
    assert (code, "1 piece (test)" in out) == (0, True)  # the same files, wherever they lie
    km.write_midi(melody(99), grown / "a first one.mid")
    code, out, err = run("evaluate", trained, grown)
    assert (code, out) == (2, "")
    assert f"{grown} is not, or not any more, what {trained} was trained on" in err


def test_generate_writes_files(run, trained, tmp_path, music):
    out = tmp_path / "new folder" / "new.mid"
    code, said, _ = run("generate", trained, "--num-tokens", "60", "--num", "2", "--out", out)
    assert code == 0
    first, second = (out.with_name(f"new_{number}.mid") for number in (1, 2))
    assert said.startswith(f"{first}   ")
    assert ", seed 1\n" in said
    assert said.endswith(f"listen{' ' * (len(str(first)) - 3)}keras-music play '{first}'\n")
    wishes = ["--pitch-classes", "A", "minor", "--pitch-range", "60", "71", "--max-repeats", "2"]
    command = ["generate", trained, "--num-tokens", "60", "--seed", "1", *wishes, "--json"]
    code, said, _ = run(*command, "--out", second)  # the file is replaced
    (about,) = json.loads(said)["files"]
    assert (about["path"], about["seed"]) == (str(second), 1)
    piece = km.read_midi(second)
    assert len(piece) == about["notes"]
    assert set(piece.notes["pitch"]) <= {60, 62, 64, 65, 67, 69, 71}


def test_generate_continues_a_prompt(run, trained, tmp_path, music):
    prompt = ["--prompt", music / "0.mid", "--prompt-seconds", "2"]
    code, said, _ = run(
        "generate", trained, "--num-tokens", "9", "--out", tmp_path / "a.mid", *prompt
    )
    prompt_end = km.read_midi(music / "0.mid").crop(2.0).duration
    assert (code, f", new from {prompt_end:.1f} s on, seed 0\n" in said) == (0, True), said
    code, _, err = run("generate", trained, *prompt[:-1], "0")
    assert (code, err) == (2, "keras-music generate: --prompt-seconds must be > 0. Received: 0.\n")
    written, source = km.read_midi(tmp_path / "a.mid"), melody(0)
    assert written.notes["pitch"].tolist()[:8] == source.notes["pitch"].tolist()[:8]
    code, _, err = run("generate", trained, "--prompt", "hello")
    assert (code, err[:50]) == (2, "keras-music generate: There is no file hello. Chec")


def test_many_pieces_are_written_in_rounds(run, trained, tmp_path, monkeypatch):
    """Each as it is alone, with its own seed."""
    monkeypatch.setattr("keras_music.cli.writing.ROWS_AT_ONCE", 2)
    command = ["generate", trained, "--num-tokens", "20", "--out", tmp_path / "a.mid", "--json"]
    files = json.loads(run(*command, "--num", "3", "--seed", "4")[1])["files"]
    assert [file["seed"] for file in files] == [4, 5, 6]
    (alone,) = json.loads(run(*command, "--seed", "6")[1])["files"]
    assert alone["log_prob"] == files[2]["log_prob"]


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    """A run on a text."""
    folder = tmp_path_factory.mktemp("plays")
    (folder / "plays.txt").write_text("To be, or not to be: that is the question.\n" * 40)
    command = ["train", folder / "plays.txt", "--out", folder / "run", "--sample-tokens", "5"]
    assert cli.main([str(word) for word in [*command, *SMALL]]) == 0
    return folder / "run"


def test_a_text(run, plays, tmp_path):
    command = ["generate", plays, "--num-tokens", "6", "--prompt", "To be"]
    code, said, _ = run(*command)
    assert (code, said[:5], len(said)) == (0, "To be", 5 + 6 + 1)
    texts = json.loads(run(*command, "--num", "2", "--json")[1])["texts"]
    assert [text["seed"] for text in texts] == [0, 1]
    assert texts[0]["text"] + "\n" == said
    code, said, _ = run(*command, "--out", tmp_path / "new.txt")
    assert said == f"{tmp_path / 'new.txt'}\n"
    assert (tmp_path / "new.txt").read_text() == texts[0]["text"]
    code, said, _ = run("evaluate", plays, plays.parent / "plays.txt")
    assert said.startswith("nats a token, 1 piece (valid) of ")  # one text has no third side


def test_export_and_generate_from_it(run, plays, tmp_path):
    model = tmp_path / "my model"
    code, out, _ = run("export", plays, "--out", model, "--max-num-tokens", "99", "--json")
    assert (code, json.loads(out)) == (0, {"path": str(model / "1"), "version": 1})
    card = json.loads((model / "1" / "assets.extra" / "model_card.json").read_text())
    assert (card["max_num_tokens"], card["epochs"]) == (99, 2)
    prompt = ["--prompt", "To be", "--num-tokens", "20"]
    assert run("generate", model, *prompt) == (0, *run("generate", plays, *prompt)[1:])
    code, _, err = run("generate", model / "1", "--num-tokens", "100")
    assert code == 2
    assert "`num_tokens` must be at most 99, the limit of this export." in err
    code, _, err = run("evaluate", model, "shakespeare")
    assert (code, "is an exported model. Give the folder of its run." in err) == (2, True)


def test_evaluate_names_the_way_for_one_new_piece(run, trained, tmp_path):
    path = km.write_midi(melody(99), tmp_path / "one.mid")
    code, out, err = run("evaluate", trained, path)
    assert (code, out) == (2, "")
    assert "The split of one left no piece for valid. If the model has seen none of its" in err
    assert err.endswith("pieces, give --side all.\n")


def test_a_folder_with_a_manifest_of_another_program(music, tmp_path):
    """Of a web app: only what `ingest` wrote are shards, finished or not."""
    shutil.copytree(music, tmp_path / "midis")
    manifest = tmp_path / "midis" / "manifest.json"
    for text in ('{"name": "My App", "icons": []}', "[]", "no JSON", "[" * 100_000):
        manifest.write_text(text)
        assert not sources.is_shards(sources.open_corpus(tmp_path / "midis"))
    manifest.write_text('{"format": "keras_music shards", "format_version": 99}')
    with pytest.raises(ValueError, match="must hold shards of the format"):
        sources.open_corpus(tmp_path / "midis")
    (tmp_path / "train-00000.tfrecord").write_bytes(b"")
    with pytest.raises(ValueError, match="this one is not finished"):
        sources.open_corpus(tmp_path)


def test_shards(run, music, tmp_path):
    shards, report = tmp_path / "my shards", tmp_path / "report.csv"
    command = ["ingest", music, "--tokenizer", "note", "--set", "velocity_bins=0", "--out", shards]
    code, out, _ = run(*command, "--num-workers", "1", "--report", report)
    assert code == 0
    assert out.startswith("kept      12\nleft out  1: it is empty (1)\npieces    ")
    assert f"\nnext      keras-music train '{shards}' --out run/\n" in out
    assert report.read_text().count("\n") == 14
    facts = json.loads(run(*command, "--json")[1])
    assert sum(facts["pieces"].values()) == 12
    assert facts["report"] == str(shards / "report.csv")
    assert km.tokenizers.load(shards / "tokenizer.json").velocity_bins == 0
    assert run(*command, "--overview", tmp_path / "overview.png")[0] == 0
    assert (tmp_path / "overview.png").is_file()
    code, _, err = run("train", shards, "--out", tmp_path / "run", "--tokenizer", "remi", *SMALL)
    assert code == 2
    assert "`tokenizer` must be the NoteTokenizer that made these shards." in err


def test_play(run, tmp_path):
    path = km.write_midi(melody(0), tmp_path / "my song.mid")
    code, out, _ = run("play", path, "--sample-rate", "8000")
    assert code == 0
    assert out == (
        f"music     40 notes, 9.9 s\nsound     {tmp_path / 'my song.wav'}\n"
        f"picture   {tmp_path / 'my song.png'}\n"
    )
    assert (tmp_path / "my song.wav").read_bytes()[:4] == b"RIFF"
    km.write_midi(melody(1), path)  # generated anew: its sound and picture are ours to replace
    before = (tmp_path / "my song.wav").read_bytes()
    assert run("play", path)[0] == 0
    assert (tmp_path / "my song.wav").read_bytes() != before
    code, out, _ = run("play", path, "--wav", tmp_path / "a", "--png", tmp_path / "b", "--json")
    assert json.loads(out) == {
        **{"file": str(path), "notes": 40, "seconds": 9.95},
        **{"wav": str(tmp_path / "a"), "png": str(tmp_path / "b")},
    }
    assert (tmp_path / "b").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("play song.mid", "song.wav exists. Give another name with --wav, or the same to replace"),
        ("play odd.wav", "--wav must be another file than odd.wav, which it is made from."),
        ("play song.mid --wav link.wav", "--wav must be another file than song.mid, which it is"),
        ("play song.mid --wav a.wav", "song.png exists. Give another name with --png, or the same"),
        (
            "play song.mid --wav a.wav --png .",
            "--png must be a file. Received: ., which is a folde",
        ),
        (
            "generate RUN",
            "new.mid exists. Give another name with --out, or the same to replace it.",
        ),
        ("generate RUN --num 2", "new_2.mid exists. Give another name with --out, or the same to"),
        ("generate RUN --num 2 --out .", "--out must be a file. Received: ., which is a folder."),
        (
            "generate RUN --num 2 --prompt a_1.mid --out a.mid",
            "--out must be another file than a_1.mid, which it is made from.",
        ),
    ],
)
def test_no_file_is_lost(run, trained, tmp_path, monkeypatch, command, sentence):
    """A source, or someone's recording beside it; what is typed behind --out is replaced."""
    monkeypatch.chdir(tmp_path)
    names = ("song.mid", "odd.wav", "new.mid", "new_2.mid", "a_1.mid")
    music = {name: km.write_midi(melody(0), name).read_bytes() for name in names}
    pathlib.Path("link.wav").symlink_to("song.mid")
    recordings = dict.fromkeys(("song.wav", "song.png"), b"my own")
    for name, data in recordings.items():
        pathlib.Path(name).write_bytes(data)
    words = [trained if word == "RUN" else word for word in command.split()]
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err.split("\n")[-2].startswith(f"keras-music {words[0]}: {sentence}")
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files == music | recordings | {"link.wav": music["song.mid"]}


def test_explain_in_a_new_process(tmp_path):
    """Nothing of TensorFlow's own lines, and nothing but the answer on standard output."""
    command = "explain --json dense --x 2 3 1 --kernel -1 -2 0.5 --activation tanh --draw a.png"
    result = subprocess.run(
        [sys.executable, "-m", "keras_music", *command.split()],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")},
    )
    assert (result.returncode, result.stderr) == (0, "")
    facts = json.loads(result.stdout)
    assert facts["steps"][2] == {"step": "sum", "formula": "x @ kernel", "value": [-7.5]}
    assert (tmp_path / "a.png").is_file()


@pytest.mark.parametrize(
    "command",
    [
        "embedding --ids 0 1 --table 1,2;3,4",
        "softmax_cross_entropy --logits 1 2 3 --target 1",
        "rnn_cell --x 1 --h 0 --kernel 0.5 --recurrent-kernel 0.9 --bias 0.1",
        "gru_cell --x 1 --h 0 --kernel 1,2,3 --recurrent-kernel [[4,5,6]] --bias 1,2,3;4,5,6",
        "gru_cell --x 1 --h 0 --kernel 1,2,3 --recurrent-kernel 4,5,6 --no-reset-after",
        "lstm_cell --x 1 --h 0 --c 0 --kernel 1,2,3,4 --recurrent-kernel 1,2,3,4",
        "attention_head --x 1;2 --query-kernel 1 --key-kernel 2 --value-kernel 3 --no-causal",
        "unfold --x 1;0 --kernel 1,2,3,4 --recurrent-kernel 1,2,3,4 --cell lstm --state 1;0",
    ],
)
def test_explain(run, command):
    code, out, err = run("explain", *command.split())
    assert (code, err) == (0, "")
    assert "gives the same; largest difference: " in out


# The noise of libraries


def test_what_is_held_back_and_what_is_passed_on(capfd):
    with loading._without_noise():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called\n")
        os.write(2, b"I0000 00:00:1795418363.045618   17077 port.cc:153] oneDNN is on\n")
        os.write(2, b"2026-11-23 07:00:00.123456: I tensorflow/core/x.cc:1] AVX2\n")
        os.write(2, b"E0000 00:00:1795418363.045618   17077 x.cc:1] an error\n")
        os.write(2, b"ImportError: a real problem\n")
    assert capfd.readouterr().err == (
        "E0000 00:00:1795418363.045618   17077 x.cc:1] an error\nImportError: a real problem\n"
    )


def test_a_reader_who_has_had_enough():
    code = "from keras_music import cli; cli._answer('line\\n' * 100_000)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1) as process:
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(), process.stderr.read()) == (0, b"")


# What was typed is what the function gets


class Reached(Exception):
    """Raised in the place of a function, with what it was given."""


@pytest.fixture
def given_to(monkeypatch):
    """Runs a command up to one function, whose arguments are returned: a tuple and a dict."""

    def run_command(function, *command):
        def stop(*args, **kwargs):
            raise Reached(args, kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(function, stop)
            with pytest.raises(Reached) as reached:
                cli.main([str(word) for word in command])
        return reached.value.args

    return run_command


def test_every_option_of_train_reaches_train(given_to, music, monkeypatch):
    """An option that is parsed and then lost trains another network for a night, in silence."""
    monkeypatch.setattr("keras_music.cli.training._make_strategy", lambda name: f"a {name}")
    typed = (
        "--tokenizer remi --set velocity_bins=4 --cell rnn --embedding-dim 3 --units 5 --layers 2 "
        "--dropout 0.25 --sequence-length 7 --batch-size 9 --epochs 4 --learning-rate 0.125 "
        "--seed 6 --sample-tokens 11 --strategy mirrored --verbose 2 --semitones 3 --stretch 0.05 "
        "--velocity-bins 1"
    )
    (corpus, out), named = given_to(
        "keras_music.training.train", "train", music, "--out", "my run", *typed.split()
    )
    assert (len(corpus), out) == (12, "my run")
    assert named.pop("command").startswith(f"keras-music train '{music}' --out 'my run' --tok")
    assert named == {
        "tokenizer": km.tokenizers.RemiTokenizer(velocity_bins=4),
        **{"cell": "rnn", "embedding_dim": 3, "units": 5, "layers": 2, "dropout": 0.25},
        **{"sequence_length": 7, "batch_size": 9, "epochs": 4, "learning_rate": 0.125},
        **{"seed": 6, "sample_tokens": 11, "strategy": "a mirrored", "verbose": 2},
        "augment": km.Augmentation(semitones=3, stretch=0.05, velocity_bins=1),
    }


def test_every_option_of_ingest_reaches_ingest(given_to):
    """A lost seed or share is another split: what was held out by one program trains another."""
    typed = (
        "--tokenizer note --set velocity_bins=0 --seed 3 --fractions 0.5 0.25 0.25 "
        "--files-per-shard 7 --num-workers 2"
    )
    assert given_to(
        "keras_music.ingestion.ingest", "ingest", "music", "--out", "shards", *typed.split()
    ) == (
        ("music", km.tokenizers.NoteTokenizer(velocity_bins=0), "shards"),
        {
            **{"seed": 3, "fractions": (0.5, 0.25, 0.25)},
            **{"files_per_shard": 7, "num_workers": 2},
        },
    )


def test_every_option_of_generate_reaches_the_model(given_to, trained, music):
    """The prompt as well: of 40 notes, 4 a second, 2 seconds are 8."""
    typed = (
        "--prompt-seconds 2 --num 2 --num-tokens 9 --temperature 0.5 --top-k 7 --top-p 0.75 "
        "--seed 4 --pitch-classes A minor --pitch-range 60 71 --max-notes-per-second 8 "
        "--max-repeats 2"
    )
    (_, prompts, *sampling), wishes = given_to(
        "keras_music.OneStep.generate_tokens",
        *("generate", trained, "--prompt", music / "0.mid", *typed.split()),
    )
    assert [len(prompt) for prompt in prompts] == [8, 8]
    assert sampling == [9, 0.5, 7, 0.75, 4]
    assert wishes == {
        **{"pitch_classes": ["A minor"] * 2, "pitch_range": [[60, 71]] * 2},
        **{"max_notes_per_second": [8] * 2, "max_repeats": [2] * 2},
    }


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (
            "softmax_cross_entropy --logits 1 2.5 3 --target 1",
            {"logits": [1, 2.5, 3], "target": 1},
        ),
        (
            "gru_cell --x 1 --h 0 --kernel 1,2,3 --recurrent-kernel 4,5,6 --no-reset-after",
            {
                **{"x": [1], "h": [0], "kernel": [[1, 2, 3]], "recurrent_kernel": [[4, 5, 6]]},
                **{"bias": None, "reset_after": False},
            },
        ),
        (
            "unfold --x 1;0 --kernel 1 --recurrent-kernel 2 --bias 3 --cell lstm --state 4;5",
            {
                **{"x": [[1], [0]], "kernel": [[1]], "recurrent_kernel": [[2]], "bias": [3]},
                **{"cell": "lstm", "state": [[4], [5]], "reset_after": True},
            },
        ),
        (
            "attention_head --x 1;2 --query-kernel 3 --key-kernel 4 --value-kernel 5 --no-causal",
            {
                **{"x": [[1], [2]], "query_kernel": [[3]], "key_kernel": [[4]]},
                **{"value_kernel": [[5]], "causal": False},
            },
        ),
    ],
)
def test_every_option_of_explain_reaches_its_function(given_to, command, named):
    """With another target or without its switch a page is right, and of another layer."""
    function = f"keras_music.explain.{command.split()[0]}"
    assert given_to(function, "explain", *command.split()) == ((), named | {"show": False})


def test_num_workers_of_train_reaches_the_reading(given_to, music):
    command = ("train", music, "--out", "run", "--num-workers", "3")
    assert given_to("keras_music.corpora.midi_folder", *command) == (
        (music,),
        {"num_workers": 3},
    )


@pytest.mark.parametrize(
    ("more", "windows"),
    [
        ([], {"sequence_length": 32, "batch_size": 5}),
        (["--sequence-length", "8"], {"sequence_length": 8, "batch_size": 5}),
        (["--batch-size", "2"], {"sequence_length": 32, "batch_size": 2}),
    ],
)
def test_evaluate_splits_and_cuts_as_the_run_did(given_to, monkeypatch, more, windows):
    """With another seed, pieces of the training side would be judged as if they were unseen."""
    tokenizer = km.tokenizers.CharTokenizer("text 0123456789")
    corpus = km.corpora.Corpus([f"text {number}" for number in range(30)])
    sides = corpus.split(seed=3)
    assert sides[2].names != corpus.split(seed=0)[2].names
    config = {
        "arguments": {"seed": 3, "sequence_length": 32, "batch_size": 5},
        "data": {"train": describe(sides[0], tokenizer)},
    }
    model = types.SimpleNamespace(model="the network", tokenizer=tokenizer)
    monkeypatch.setattr("keras_music.cli.training.open_model", lambda path: (model, config))
    monkeypatch.setattr("keras_music.cli.training.open_corpus", lambda path: corpus)
    for name, side in zip(("train", "valid", "test", None), [*sides, sides[2]], strict=True):
        (network, ours, train, held_out), named = given_to(
            "keras_music.evaluation.ladder",
            *("evaluate", "run", "texts", *more, *(["--side", name] if name else [])),
        )
        assert (network, ours, named) == ("the network", tokenizer, windows)
        assert (train.names, held_out.names) == (sides[0].names, side.names)


def test_shards_bring_their_tokenizer(given_to, tmp_path):
    """The tutorial's next line after `ingest`, in which no tokenizer is named."""
    tokenizer = km.tokenizers.NoteTokenizer(velocity_bins=0)
    folder = shard_files.write(tmp_path / "shards", {"train": [[("a", [1, 5, 2])]]}, tokenizer)
    (shards, _), named = given_to("keras_music.training.train", "train", folder, "--out", "run")
    assert (len(shards.train), named["tokenizer"]) == (1, tokenizer)


def test_a_text_of_windows_is_the_text(given_to, tmp_path):
    """Neither the mark that its editor puts before a text nor its line ends are letters."""
    (tmp_path / "play.txt").write_bytes(b"\xef\xbb\xbfTo be,\r\nor not.\r\n")
    (corpus, _), named = given_to(
        "keras_music.training.train", "train", tmp_path / "play.txt", "--out", "run"
    )
    assert list(corpus) == ["To be,\nor not.\n"]
    assert named["tokenizer"] == km.tokenizers.CharTokenizer("To be,\nor not.\n")


def test_copies_are_told(run, tmp_path):
    for name in ("a.mid", "b.mid", "c.mid"):
        km.write_midi(melody(name == "c.mid"), tmp_path / "music" / name)
    command = ["ingest", tmp_path / "music", "--out", tmp_path / "shards", "--fractions", 1, 0, 0]
    code, out, _ = run(*command)
    assert code == 0
    assert out.startswith("kept      3, 1 of them the same music as another\n")
    assert json.loads(run(*command, "--json")[1])["copies"] == 1


def test_play_has_the_sample_rate_that_was_asked_for(run, tmp_path):
    path = km.write_midi(melody(0), tmp_path / "a.mid")
    assert run("play", path, "--sample-rate", "8000")[0] == 0
    with wave.open(str(tmp_path / "a.wav")) as sound:
        assert sound.getframerate() == 8000
