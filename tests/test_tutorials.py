"""The tutorials run from start to end as they stand, in a folder of their own, without a flag."""

import json
import os
import pathlib
import re
import subprocess
import sys
import wave

import numpy as np
import pretty_midi
import pytest
from rest_server import serve

ROOT = pathlib.Path(__file__).parents[1]

pytestmark = pytest.mark.slow


# Runs the script as it stands; then its exercises once more, with the answers given as arguments.
RUNNER = """
import json, re, runpy, sys

script, tries = sys.argv[1], json.loads(sys.argv[2])
names = runpy.run_path(script, run_name="__main__")
cells = re.split(r"^# %%.*$", open(script, encoding="utf-8").read(), flags=re.MULTILINE)
exercises = [cell for cell in cells if "km.explain.check(" in cell]
for answers in tries:
    for cell, answer in zip(exercises, answers, strict=True):
        exec(cell.replace("...  # your answer", answer), dict(names))
"""


def run_tutorial(name, folder, right, wrong):
    """What the script prints. Its three exercises must know right answers from wrong ones."""
    printed = subprocess.run(
        [sys.executable, "-c", RUNNER, ROOT / "tutorials" / name, json.dumps([right, wrong])],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "agg"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=1200,
    ).stdout
    said = re.findall(r"^exercise (\d): (no answer yet|right!|not yet)", printed, re.MULTILINE)
    assert said == [
        (str(number), words)
        for words in ("no answer yet", "right!", "not yet")
        for number in (1, 2, 3)
    ]
    assert re.search(r"^done in \d+ s", printed, re.MULTILINE)
    return printed


def check_pictures(folder, *names):
    for name in names:
        assert (folder / "out" / name).read_bytes().startswith(b"\x89PNG")


def losses_in(printed):
    """The four lines that the ladder printed, as a dict."""
    names = ["uniform", "unigram", "repeat the last token", "model"]
    return {name: float(re.search(rf"^{name} +([\d.]+)$", printed, re.M)[1]) for name in names}


def test_layers_by_hand(tmp_path):
    """Every number of the lecture stands there."""
    printed = run_tutorial(
        "00_layers_by_hand.py",
        tmp_path,
        right=["0", "5.883", "z * h + (1 - z) * c"],
        wrong=["-1", "5.8", "(1 - z) * h + z * c"],
    )
    for line in (
        "2·(-1) + 3·(-2) + 1·0.5 = -7.5",
        "tanh(-7.5) = -0.999999",
        "2·(-1) + 3·(-2) + (-1)·0.5 = -8.5",
        "2·0.5 + 3·0.5 + (-1)·1 = 1.5",
        "tanh(1.5) = 0.905148",
        "2·(-1) + 3·(-2) + (-1)·0.5 + (-1)·1 + 1·2 = -7.5",
        "2·0.5 + 3·0.5 + (-1)·1 + (-1)·(-1) + 1·(-0.5) = 2",
        "tanh(2) = 0.964028",
    ):
        assert line in printed
    pictures = ("embedding", "activations", "dense", "softmax", "rnn_cell", "unfold", "gru_cell")
    check_pictures(tmp_path, *(f"{p}.png" for p in (*pictures, "lstm_cell", "attention")))


def test_shakespeare(tmp_path):
    printed = run_tutorial(
        "01_shakespeare.py",
        tmp_path,
        right=[
            "np.exp(scores / 0.5) / np.exp(scores / 0.5).sum()",
            "one_step.generate('ROMEO:', num_tokens=250, top_k=1, seed=5)",
            "np.log(their_tokenizer.vocab_size)",
        ],
        wrong=[
            "probabilities",
            "one_step.generate('ROMEO:', num_tokens=250, seed=5)",
            "np.log(tokenizer.vocab_size)",
        ],
    )
    losses = losses_in(printed)
    assert losses["model"] < 1.8 < 3 < losses["repeat the last token"]
    before, fair = re.search(
        r"loss before training ([\d.]+), ln\(\d+\) = ([\d.]+)", printed
    ).groups()
    assert float(before) == pytest.approx(float(fair), rel=0.01)
    assert "same questions: True, same answers: True" in printed
    text = (tmp_path / "out" / "shakespeare.txt").read_text()
    assert text.startswith("ROMEO:\n")
    assert len(re.findall(r"^[A-Z][A-Z ]+:$", text, re.M)) >= 2  # it has learned to name speakers
    check_pictures(tmp_path, "shakespeare.png", "characters.png", "next_character.png")
    assert (tmp_path / "out" / "shakespeare" / "1" / "saved_model.pb").is_file()


def test_bach_chorales(tmp_path):
    printed = run_tutorial(
        "02_bach_chorales.py",
        tmp_path,
        right=[
            "1",
            "359 * 64 + 4 * (64 * 256 + 256 * 256 + 256) + 257 * 359",
            "np.exp(losses['model'])",
        ],
        wrong=["20", "model.count_params()", "losses['model']"],
    )
    losses = losses_in(printed)
    assert losses["model"] < 1.3 < 4 < losses["repeat the last token"] < losses["uniform"]
    assert re.search(r"loaded in a new process, it writes the same \d+ notes", printed)
    out = tmp_path / "out"
    midi = pretty_midi.PrettyMIDI(str(out / "chorale.mid"))
    notes = [note for instrument in midi.instruments for note in instrument.notes]
    new = [note for note in notes if note.start >= 9.6]  # the prompt is 16 quarter notes long
    assert len(notes) > len(new) > 40
    assert all(30 <= note.pitch <= 90 for note in new)
    with wave.open(str(out / "chorale.wav")) as sound:
        assert sound.getnframes() / sound.getframerate() >= max(note.end for note in notes) - 0.1
    pictures = ("example", "batch", "learning_curve", "chorale", "chorale_sound")
    check_pictures(tmp_path, *(f"{name}.png" for name in pictures))
    card = json.loads((out / "saved_model" / "1" / "assets.extra" / "model_card.json").read_text())
    held_out = card["held-out loss (nats a token)"]
    assert held_out["model"] == pytest.approx(losses["model"], abs=1e-3)


def test_images_first(tmp_path):
    """Three dense layers beat the mean pictures; everything by hand is what Keras computes."""
    printed = run_tutorial(
        "03_images_first.py",
        tmp_path,
        right=["2 * np.log(2)", "a @ b @ c", "-(means**2).sum(axis=1) / 2"],
        wrong=["-np.log((1 / 2 + 1 / 8) / 2)", "c @ b @ a", "-(means**2).sum(axis=1)"],
    )
    names = ["most frequent digit", "nearest mean image", "last layer, by hand", "three layers"]
    frequent, nearest, last_layer, three = (
        float(re.findall(rf"^{name} +([\d.]+)%$", printed, re.M)[-1]) for name in names
    )
    assert three >= 97 > 95 > nearest > 85 > 15 > frequent
    assert 80 < last_layer < three
    before, fair = re.search(
        r"loss before training ([\d.]+), ln\(10\) = (2\.303)", printed
    ).groups()
    assert float(before) == pytest.approx(float(fair), rel=0.05)
    differences = re.findall(r"between by hand and Keras: ([\d.e-]+)$", printed, re.M)
    assert len(differences) == 4  # scores, loss, slopes of the weights and of the biases
    assert all(float(difference) < 1e-5 for difference in differences)
    tried, nudged = re.search(
        r"that we tried: (-?[\d.]+), by the nudge (-?[\d.]+)", printed
    ).groups()
    assert float(tried) == pytest.approx(float(nudged), abs=2e-6)
    start, once = re.search(r"before the step ([\d.]+), after it ([\d.]+)", printed).groups()
    many, valid = re.search(
        r"300 steps: ([\d.]+), on the validation pictures ([\d.]+)", printed
    ).groups()
    assert float(start) > float(once) > 2 > 1 > float(valid) > float(many)
    assert "test pictures that are also training pictures: 0" in printed
    assert "at 36 of 36 zeros and 0 of 36 ones" in printed
    assert "counted by hand: 17,226; by Keras: 17,226" in printed
    assert "largest change of their weights: 0.000" in printed  # of pixels that never have ink
    right = re.findall(r"^the last \d notes are known: (\d+) of 32 right", printed, re.M)
    assert right == ["10", "18", "28", "28", "30", "31", "31", "32", "32"]
    pictures = ("digits", "mean_images", "neuron", "softmax", "descent", "digits_curve")
    more = ("mistakes", "first_layer", "brother_john")
    check_pictures(tmp_path, *(f"{name}.png" for name in (*pictures, *more)))
    with wave.open(str(tmp_path / "out" / "brother_john.wav")) as sound:
        assert sound.getnframes() / sound.getframerate() == pytest.approx(13.8, abs=0.1)


def test_sampling(tmp_path):
    printed = run_tutorial(
        "05_sampling.py",
        tmp_path,
        right=[
            "0.5 / np.log(4)",
            "only(probabilities >= share * probabilities.max(), probabilities)",
            "0.85",
        ],
        wrong=["0.5", "keep_top_p(probabilities, share)", "0.5"],
    )
    for sentence in (
        "the counts of the line fit",
        "the counts of the Gumbel noise fit",
        "the network says our probabilities",
        "the counts of the package fit",
        "by hand and by the package alike",
        "the masked counts fit",
        "nothing forbidden was drawn",
        "no note outside A minor begins",
    ):
        assert f"{sentence}: True" in printed
    broken = re.findall(r"^temperature [\d.]+, no grammar: (\d) of 8 rows", printed, re.M)
    assert [int(rows) for rows in broken] == sorted(map(int, broken)) and broken[-1] == "8"
    pictures = ("distributions", "draw", "piano_rolls", "entropy", "moments", "masks")
    check_pictures(tmp_path, *(f"{name}.png" for name in pictures))
    with wave.open(str(tmp_path / "out" / "sampling.wav")) as sound:
        assert sound.getnframes() / sound.getframerate() > 5


def test_pitch_step_duration(tmp_path):
    """The four defects are there, and the mends mend."""
    printed = run_tutorial(
        "07_pitch_step_duration.py",
        tmp_path,
        right=[
            "sum(max(0, len(rows) - 99) for rows in train_rows)",
            "np.median(answers['duration'])",
            "twelve.cache().shuffle(12).batch(4)",
        ],
        wrong=[
            "sum(map(len, train_rows))",
            "np.mean(answers['duration'])",
            "twelve.shuffle(12).batch(4).cache()",
        ],
    )
    spoiled = re.findall(r"^ *\d+ undivided: +([\d.]+) nats a pitch", printed, re.M)
    assert float(spoiled[0]) < np.log(128) < 2 * np.log(128) < float(spoiled[1])
    stuck = re.findall(r"^last note \w+: (\d+)% of the gates", printed, re.M)
    assert int(stuck[0]) < 20 < 60 < int(stuck[1])
    for sentence in (
        "the same order: True",
        "mended, the same order: False",
        "all windows in both: True",
        "windows, each of one chorale: True",
        "decoded again, the same rows: True",
        "the same number of notes: True",
    ):
        assert f"{sentence}\n" in printed
    pattern = r"^{} +([\d.]+) +([\d.]+) +([\d.]+) +[\d.]+$"
    counting, squared, classes = (
        [float(x) for x in re.search(pattern.format(name), printed, re.M).groups()]
        for name in ("counting only", "rebuilt, squared error", "rebuilt, classes")
    )
    assert 3 * classes[1] < min(counting[1], squared[1])  # the step
    assert classes[2] < counting[2] < squared[2]  # the duration
    assert int(re.search(r"; (\d+) times as fast", printed)[1]) > 5
    pictures = ("two_voices", "rebuilt", "fed_back", "seam", "times", "prices", "rolls")
    check_pictures(tmp_path, *(f"{name}.png" for name in pictures))
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "out" / "mended.mid"))
    assert sum(len(instrument.notes) for instrument in midi.instruments) > 40


def test_three_memories(tmp_path):
    printed = run_tutorial(
        "04_three_memories.py",
        tmp_path,
        right=[
            "max(n for n in range(999) if count_cell('rnn', EMBEDDING_DIM, n) <= limit)",
            "np.log(2**-0.01 / (1 - 2**-0.01))",
            "gradient * min(1, limit / np.linalg.norm(gradient))",
        ],
        wrong=["96", "1", "np.clip(gradient, -limit, limit)"],
    )
    differences = re.findall(r"largest difference ([\d.e-]+)$", printed, re.M)
    assert len(differences) == 3 and max(map(float, differences)) < 1e-6
    rows = re.findall(r"^(\d+) +([\d.]+)% +([\d.]+)% +([\d.]+)%$", printed, re.M)
    far = [float(value) for value in rows[-1][1:]]
    assert rows[-1][0] == "40" and 13 < far[0] < 70 < 80 < min(far[1:])
    losses = {
        cell: float(re.search(rf"^{cell} +\d+ .* ([\d.]+)$", printed, re.M)[1])
        for cell in ("rnn", "gru", "lstm")
    }
    assert max(losses.values()) < 1.75  # which of the three is best depends on the seed
    parts = {
        (cell, when): float(part)
        for cell, when, part in re.findall(
            r"^(rnn|gru|lstm), (untrained|trained) .* ([\d.]+)%$", printed, re.M
        )
    }
    assert parts["rnn", "untrained"] > 50 > 10 > parts["lstm", "untrained"]
    assert parts["gru", "trained"] > parts["rnn", "trained"]
    pictures = ("vanishing", "lstm_cell", "recall", "grid", "curves", "influence", "three_rolls")
    check_pictures(tmp_path, *(f"{name}.png" for name in pictures))


def test_serving(tmp_path, monkeypatch):
    """Asked, too, is a stand-in for the server, which serves what the tutorial has just written."""
    out = tmp_path / "out"
    with serve({"bach": out / "bach"}) as url:
        monkeypatch.setenv("KERAS_MUSIC_SERVING_URL", url)
        printed = run_tutorial(
            "06_serving.py",
            tmp_path,
            right=[
                "[variable.value for variable in model.variables]",
                "sum((byte & 127) << 7 * i for i, byte in enumerate(reversed(data)))",
                "ask('score', tokens=drawn)['log_prob'].sum()",
            ],
            wrong=[
                "model",
                "int.from_bytes(data)",
                "ask('generate', prompt=[[1]], num_tokens=[300], **controls)['log_prob'][0]",
            ],
        )
    for sentence in (
        "a number always had a model behind it",
        "our export has no problem",
        "alike",
        "notes of the file are those of the tokens",
        "the server's file holds its notes",
        "they are our notes",
        "200 questions to `step` draw what one to `generate` draws",
        "a row alone is the row in a batch",
    ):
        assert f"{sentence}: True" in printed
    assert "as a server: Could not find variable" in printed
    for name in ("temperature", "prompt", "num_tokens"):
        assert re.search(rf"^{name}=.+: .*`{name}` must .+ Received:", printed, re.M)
    midi = pretty_midi.PrettyMIDI(str(out / "served.mid"))
    notes = [note for instrument in midi.instruments for note in instrument.notes]
    assert len(notes) == int(re.search(r"all (\d+) notes of the file", printed)[1]) > 40
    with wave.open(str(out / "served.wav")) as sound:
        assert sound.getnframes() / sound.getframerate() >= max(note.end for note in notes) - 0.1
    (row,) = json.loads((out / "request.json").read_text())["instances"]
    assert set(row) == {"prompt", "num_tokens", "temperature", "top_k", "top_p", "seed"}
    check_pictures(tmp_path, "learning_curve.png", "folder.png", "served.png", "latency.png")
    ratios = re.findall(r"^ *(\d+) +[\d,]+ +[\d,]+ +([\d.]+) \(", printed, re.M)
    assert [size for size, _ in ratios] == ["1", "16", "64"]
    assert float(ratios[0][1]) > 1  # with one row the loop in Python costs more than the work


def test_your_midi(tmp_path):
    printed = run_tutorial(
        "08_your_midi.py",
        tmp_path,
        right=[
            "sum(not name.endswith('.mid') for name in report['name'])",
            "(0x8F & 127) * 128 / 480 * 0x0927C0 / 1e6",
            "32",
        ],
        wrong=["0", "0.6", "40"],
    )
    assert printed.count("by hand and by the package alike: True") == 2
    assert printed.count("\n- out/my midis/") == 7
    assert "122 pieces" in printed and "7 left out: see .report" in printed
    for reason in ("it is empty (0 bytes)", "it has no notes", "it is a web page"):
        assert reason in printed
    assert "for Anna, higher.MID is choir/old computer/" in printed
    assert "Going on with the run in out/my run after epoch 2 of 20" in printed
    run = tmp_path / "out" / "my run"
    epochs = [line.split(",")[0] for line in (run / "history.csv").read_text().splitlines()]
    assert epochs == ["epoch", *map(str, range(1, 21))]
    assert len(list((run / "samples").glob("*.mid"))) == 20
    losses = losses_in(printed)
    assert losses["model"] < 1.7 < 3.5 < losses["repeat the last token"]
    assert "the targets are the inputs, one id later: True" in printed
    pictures = (
        "overview",
        "copy",
        "original",
        "first_sample",
        "last_sample",
        "continued",
        "shards",
    )
    check_pictures(tmp_path, *(f"{name}.png" for name in pictures))
    midi = pretty_midi.PrettyMIDI(str(tmp_path / "out" / "continued.mid"))
    assert sum(len(instrument.notes) for instrument in midi.instruments) > 60
