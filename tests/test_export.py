"""An exported model, run as TensorFlow Serving runs it: C++ loader, no Python, XLA off."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import cpp_loader
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import keras_music as km
from keras_music.generation.generator import pad_rows
from keras_music.generation.wishes import wish_rows
from keras_music.serving import check_saved_model, saved_model

if not sys.platform.startswith("linux"):  # there TensorFlow brings the C++ library; elsewhere look
    try:
        cpp_loader.library_paths()
    except ImportError as error:
        pytest.skip(str(error), allow_module_level=True)

ROOT = pathlib.Path(__file__).parents[1]
TEXT = km.tokenizers.CharTokenizer("abcdefghijklmnopqrstuvwxyz :é\n")
MUSIC = km.tokenizers.PerformanceTokenizer(velocity_bins=4)
PIECE = km.Piece(
    {"pitch": [60, 64, 67], "start": [0.0, 0.5, 1.0], "end": [0.5, 1.0, 2.25], "velocity": 90}
)


def build(tokenizer, cell="gru", layers=1):
    keras.utils.set_random_seed(0)
    model = km.build_model(
        tokenizer.vocab_size, cell, embedding_dim=8, units=24, layers=layers, dropout=0.1
    )
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 8)  # a network with opinions
    return km.OneStep(model, tokenizer)


def controls(rows, num_tokens=40, temperature=1.0, top_k=0, top_p=1.0, seed=0):
    """The inputs of one request as arrays with one value a row."""
    return {
        "num_tokens": np.broadcast_to(num_tokens, rows).astype(np.int32),
        "temperature": np.broadcast_to(temperature, rows).astype(np.float32),
        "top_k": np.broadcast_to(top_k, rows).astype(np.int32),
        "top_p": np.broadcast_to(top_p, rows).astype(np.float32),
        "seed": np.broadcast_to(seed, rows).astype(np.int64),
    }


def first_states(one_step, rows):
    """Zeros for every `state_...` of `step`: the network's, the counter, the grammar's."""
    states = [np.zeros((rows, *s.shape[1:]), np.float32) for s in one_step.initial_state(1)]
    states.append(np.zeros(rows, np.int32))
    if hasattr(one_step.tokenizer, "grammar"):
        start = one_step.tokenizer.grammar.start(rows)
        states += [start[name] for name in sorted(start)]
    return {f"state_{i}": state for i, state in enumerate(states)}


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    one_step = build(MUSIC)
    return one_step, km.export(one_step, tmp_path_factory.mktemp("music"))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    one_step = build(TEXT)
    return one_step, km.export(one_step, tmp_path_factory.mktemp("text"), card={"data": "abc"})


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 2])
def test_every_signature_of_every_cell_gives_in_cpp_what_python_gives(cell, layers, tmp_path):
    one_step = build(MUSIC, cell, layers)
    path = km.export(one_step, tmp_path)
    prompts = [MUSIC.encode(PIECE)[:-1], np.array([1], np.int32), np.array([1, 63], np.int32)]
    settings = {"num_tokens": [30, 60, 45], "temperature": [1.0, 0.0, 1.5], "top_k": [0, 0, 20]}
    settings |= {"top_p": [0.9, 1.0, 1.0], "seed": [5, 6, -7]}
    expected = one_step.generate_tokens(prompts, **settings)
    inputs = {"prompt": pad_rows(prompts)} | controls(3, **settings)
    tokens = expected.tokens
    states = first_states(one_step, 3)
    step_inputs = {k: v for k, v in inputs.items() if k not in ("prompt", "num_tokens")} | states
    step_inputs["token"] = tokens[:, 0]
    generated, default, scored, stepped = cpp_loader.run_in_fresh_process(
        path,
        [
            ("generate", inputs),
            ("serving_default", inputs),
            ("score", {"tokens": tokens}),
            ("step", step_inputs),
        ],
    )
    for answer in (generated, default):
        np.testing.assert_array_equal(answer["tokens"], expected.tokens)
        np.testing.assert_array_equal(answer["length"], expected.length)
        np.testing.assert_allclose(answer["log_prob"], expected.log_prob, atol=1e-4, rtol=1e-5)
    np.testing.assert_allclose(scored["log_prob"], one_step.score(tf.constant(tokens)), atol=1e-4)
    _, new_state = one_step.step(tokens[:, 0])
    for i, tensor in enumerate(new_state):
        np.testing.assert_allclose(stepped[f"state_{i}"], tensor, atol=1e-5)
    assert stepped[f"state_{len(new_state)}"].tolist() == [1, 1, 1]


def test_the_same_seed_alone_and_in_a_batch_of_64_in_cpp(music):
    one_step, path = music
    prompts = [np.array([1, *range(3, 3 + i % 5)], np.int32) for i in range(64)]
    seeds = np.arange(64) * 3
    together = {"prompt": pad_rows(prompts)} | controls(64, num_tokens=50, seed=seeds)
    alone = [
        {"prompt": prompts[i][None]} | controls(1, num_tokens=50, seed=seeds[i])
        for i in range(0, 64, 9)
    ]
    batch, *singles = cpp_loader.run_in_fresh_process(
        path, [("generate", inputs) for inputs in (together, *alone)]
    )
    expected = one_step.generate_tokens(prompts, 50, seed=seeds)
    np.testing.assert_array_equal(batch["tokens"], expected.tokens)
    for i, single in zip(range(0, 64, 9), singles, strict=True):
        row = batch["tokens"][i, : batch["length"][i]]
        assert single["tokens"][0].tolist() == row.tolist()


def test_stepping_with_one_seed_draws_what_generate_draws(music):
    """A client that feeds ids one by one, states of zeros first, gets the same piece."""
    one_step, path = music
    loaded = km.load(path)
    # `step` does not know that the piece ends: the ids at its end, which close it, come later.
    settings = {"temperature": 1.2, "top_p": 0.95, "seed": 11}
    expected = loaded.generate_tokens(None, 60, **settings).tokens[0, :26]
    fed = dict(controls(1, temperature=1.2, top_p=0.95, seed=11))
    del fed["num_tokens"]
    states = first_states(one_step, 1)
    fed |= states
    token, drawn = np.array([1], np.int32), [1]
    for _ in range(25):
        answer = loaded.signatures["step"](
            **{name: tf.constant(value) for name, value in (fed | {"token": token}).items()}
        )
        token = answer["next_token"].numpy()
        fed |= {name: answer[name].numpy() for name in states}
        drawn.append(int(token[0]))
    assert drawn == expected.tolist()


TOKENIZERS = {
    "programs": km.tokenizers.PerformanceTokenizer(multi_program=True, pedal="tokens"),
    "remi": km.tokenizers.RemiTokenizer(multi_program=True),
    "note": km.tokenizers.NoteTokenizer(),
    "chorale": km.tokenizers.ChoraleTokenizer(),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_tokenizer_is_served_with_wishes_and_midi_files(name, tmp_path):
    """In C++ the ids, the log-probabilities and the files of Python, with and without wishes."""
    tokenizer = TOKENIZERS[name]
    one_step = build(tokenizer)
    end = tf.one_hot(tokenizer.end_id, tokenizer.vocab_size)
    one_step.model.layers[-1].bias.assign_sub(20.0 * end)
    path = km.export(one_step, tmp_path)
    prompts = [tokenizer.encode(PIECE)[:-1], np.array([1], np.int32)]
    inputs = {"prompt": pad_rows(prompts)} | controls(2, num_tokens=[120, 90], seed=[1, 2])
    wishes = {"pitch_classes": "C major", "pitch_range": (40, 80), "max_repeats": 2}
    expected = [
        one_step.generate_tokens(prompts, [120, 90], seed=[1, 2]),
        one_step.generate_tokens(prompts, [120, 90], seed=[1, 2], **wishes),
    ]
    answers = cpp_loader.run_in_fresh_process(
        path, [("generate", inputs), ("generate_controlled", inputs | wish_rows(2, **wishes))]
    )
    for answer, said in zip(answers, expected, strict=True):
        np.testing.assert_array_equal(answer["tokens"], said.tokens)
        np.testing.assert_allclose(answer["log_prob"], said.log_prob, atol=1e-3, rtol=1e-5)
        for row, data in zip(said.tokens, answer["midi_bytes"], strict=True):
            decoded = tokenizer.decode(row)
            if not len(decoded):  # a file without notes is no piece
                continue
            served = km.read_midi(data)
            written = km.read_midi(km.midi.midi_bytes(decoded))
            assert served.notes.equals(written.notes)
            assert served.tempos.equals(written.tempos)
            assert served.pedals.equals(written.pedals)
    loaded = km.load(path).generate_tokens(prompts, [120, 90], seed=[1, 2], **wishes)
    np.testing.assert_array_equal(loaded.tokens, expected[1].tokens)


def test_text_goes_in_and_comes_out(text):
    one_step, path = text
    prompts = ["romeo:", "é", ""]
    expected = one_step.generate(prompts, num_tokens=30, seed=4)
    inputs = {"prompt": prompts} | controls(3, num_tokens=30, seed=[4, 5, 6])
    (answer,) = cpp_loader.run_in_fresh_process(path, [("serving_default", inputs)])
    assert [t.decode() for t in answer["text"]] == expected
    assert all(t.startswith(p) for t, p in zip(expected, prompts, strict=True))
    assert set(answer) == {"text", "tokens", "length", "log_prob"}


def test_loaded_in_a_new_process_it_gives_the_same(music):
    one_step, path = music
    expected = one_step.generate_tokens(PIECE, num_tokens=40, seed=8, temperature=0.9)
    script = (
        "import sys, keras_music as km\n"
        "loaded = km.load(sys.argv[1])\n"
        "ids = [int(i) for i in sys.argv[2].split()]\n"
        "written = loaded.generate_tokens(ids, num_tokens=40, seed=8, temperature=0.9)\n"
        "print(*written.tokens[0])"
    )
    ids = " ".join(map(str, MUSIC.encode(PIECE)[:-1]))
    command = [sys.executable, "-c", script, str(path), ids]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    assert [int(i) for i in answer.stdout.split()] == expected.tokens[0].tolist()


def test_loaded_it_generates_pieces_and_text(music, text):
    for (one_step, path), prompt in ((music, PIECE), (text, "abc")):
        loaded = km.load(path.parent)
        assert loaded.tokenizer == one_step.tokenizer
        mine = one_step.generate([prompt, None], num_tokens=20, seed=2)
        theirs = loaded.generate([prompt, None], num_tokens=20, seed=2)
        if one_step is music[0]:
            mine, theirs = ([p.notes.to_dict("list") for p in pieces] for pieces in (mine, theirs))
        assert mine == theirs


def test_weights_are_stored_once_and_nothing_in_the_graph_needs_python(music):
    one_step, path = music
    assert check_saved_model(path) == []
    stored = tf.train.list_variables(str(path / "variables" / "variables"))
    numbers = sum(int(np.prod(shape)) for name, shape in stored if "VALUE" in name)
    # The table stands for the embedding, the GRU's kernel and its biases but one.
    units, vocab_size = 24, MUSIC.vocab_size
    table, recurrent = vocab_size * 3 * units, units * 3 * units + units
    assert numbers == table + recurrent + (units + 1) * vocab_size


def test_versions_count_up_and_the_card_says_where_it_comes_from(text, tmp_path):
    one_step, path = text
    assert path.name == "1"
    card = json.loads((path / "assets.extra" / "model_card.json").read_text())
    assert card["data"] == "abc"
    assert card["vocab_size"] == TEXT.vocab_size
    assert card["parameters"] == one_step.model.count_params()
    (tmp_path / "7").mkdir()
    assert km.export(one_step, tmp_path).name == "8"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["7", "8"]


def test_the_card_holds_what_python_people_measure_in(text, tmp_path):
    one_step, _ = text
    card = {"losses": pd.Series({"model": np.float32(1.5)}), "shape": np.arange(2)}
    path = km.export(one_step, tmp_path, card=card | {"max_num_tokens": 9, "who": tmp_path})
    read = km.load(path).card
    assert read["losses"] == {"model": 1.5}
    assert read["shape"] == [0, 1]
    assert read["max_num_tokens"] == 4096  # what is so cannot be overwritten
    assert read["who"] == str(tmp_path)


def test_what_is_named_like_a_version_is_never_in_the_way(text, tmp_path):
    """A file, a dangling link and a number with zeros before it; and a link that is not ours."""
    one_step, _ = text
    (tmp_path / "1").write_text("")
    (tmp_path / "2").symlink_to(tmp_path / "nowhere")
    (tmp_path / ".exporting-x").symlink_to(tmp_path / "nowhere")
    path = km.export(one_step, tmp_path)
    assert path.name == "3"
    path.rename(tmp_path / "007")
    assert km.load(tmp_path).path.name == "007"
    assert km.export(one_step, tmp_path).name == "8"


def test_layers_that_share_a_cell_are_exported_with_one_set_of_weights(tmp_path):
    keras.utils.set_random_seed(0)
    cell = keras.layers.GRUCell(32)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(TEXT.vocab_size, 32),
            keras.layers.RNN(cell, return_sequences=True),
            keras.layers.RNN(cell, return_sequences=True),
            keras.layers.Dense(TEXT.vocab_size),
        ]
    )
    one_step = km.OneStep(model, TEXT)
    loaded = km.load(km.export(one_step, tmp_path))
    assert loaded.generate("abc", 30, seed=1) == one_step.generate("abc", 30, seed=1)


def test_what_killed_exports_left_is_swept_away_an_hour_later(text, tmp_path):
    old, new = tmp_path / ".exporting-old", tmp_path / ".exporting-new"
    for left in (old, new):
        left.mkdir()
    os.utime(old, (0, 0))
    km.export(text[0], tmp_path)
    assert not old.exists()
    assert new.exists()  # perhaps another process is still writing it


def test_an_unfinished_higher_version_is_passed_over(text, tmp_path):
    path = km.export(text[0], tmp_path)
    (tmp_path / "2").mkdir()
    assert km.load(tmp_path).path == path


def test_a_model_that_has_diverged_is_not_exported(tmp_path):
    one_step = build(TEXT)
    one_step.model.layers[-1].bias.assign(np.full(TEXT.vocab_size, np.nan))
    with pytest.raises(ValueError, match="must have weights that are numbers. Received: NaN in"):
        km.export(one_step, tmp_path / "nan")
    assert not (tmp_path / "nan").exists()


def test_scores_that_are_not_numbers_are_an_error_in_the_graph(tmp_path, monkeypatch):
    """Finite weights can give NaN, too; here the check of the weights looks away."""
    one_step = build(TEXT)
    one_step.model.layers[-1].bias.assign(np.full(TEXT.vocab_size, np.nan))
    with monkeypatch.context() as patch:
        patch.setattr(np, "isfinite", lambda values: np.array(True))
        with pytest.raises(ValueError, match="warm-up request 1 .*The scores of the model are not"):
            km.export(one_step, tmp_path)
        assert list(tmp_path.iterdir()) == []
        patch.setattr(saved_model, "self_test", lambda folder: [])
        path = km.export(one_step, tmp_path)
    inputs = {"prompt": ["abc"]} | controls(1)
    (answer,) = cpp_loader.run_in_fresh_process(path, [("generate", inputs)])
    assert isinstance(answer, cpp_loader.CppError)
    assert "The scores of the model are not numbers" in answer.message


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_under_other_policies_the_state_still_travels_as_float32(policy, tmp_path):
    try:
        keras.config.set_dtype_policy(policy)
        one_step = build(MUSIC)
    finally:
        keras.config.set_dtype_policy("float32")
    path = km.export(one_step, tmp_path)
    loaded = km.load(path)
    states = {n: s for n, s in loaded.signatures["step"].structured_outputs.items() if "state" in n}
    types = dict.fromkeys([f"state_{i}" for i in range(1, 7)], tf.int32)
    assert {n: s.dtype for n, s in states.items()} == types | {"state_0": tf.float32}
    expected = one_step.generate_tokens(PIECE, num_tokens=30, seed=3)
    answer = loaded.generate_tokens(PIECE, num_tokens=30, seed=3)
    assert answer.tokens.tolist() == expected.tokens.tolist()


@pytest.mark.parametrize("at", ["save", "lint", "self-test", "rename"])
def test_an_export_that_fails_leaves_nothing_behind(at, text, tmp_path, monkeypatch):
    """And one that is killed leaves no folder with a number: it is written under another name."""
    one_step, _ = text

    def fail(*args, **kwargs):
        assert [p.name for p in tmp_path.iterdir() if p.name.isdecimal()] == []
        raise OSError(28, "No space left on device")

    target = {
        "save": (tf.saved_model, "save"),
        "lint": (saved_model, "check_saved_model"),
        "self-test": (saved_model, "self_test"),
        "rename": (os, "rename"),
    }[at]
    monkeypatch.setattr(*target, fail)
    with pytest.raises(OSError, match="Cannot write the SavedModel.*No space left"):
        km.export(one_step, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_cannot_be_served_is_refused(text, tmp_path, monkeypatch):
    one_step, _ = text
    monkeypatch.setattr(saved_model, "check_saved_model", lambda path: ["It holds a Python op."])
    with pytest.raises(ValueError, match="cannot be served: It holds a Python op"):
        km.export(one_step, tmp_path)
    assert list(tmp_path.iterdir()) == []


EXTRA = ["assets.extra/tokenizer.json", "assets.extra/model_card.json"]
BAD_CONTROLS = [
    ({"temperature": -0.5}, "`temperature` must be >= 0"),
    ({"temperature": np.nan}, "`temperature` must be >= 0"),
    ({"temperature": np.inf}, "`temperature` must be >= 0"),
    ({"top_k": -1}, "`top_k` must be >= 0"),
    ({"top_p": 0.0}, "`top_p` must be above 0 and at most 1"),
    ({"top_p": 1.5}, "`top_p` must be above 0 and at most 1"),
    ({"top_p": np.nan}, "`top_p` must be above 0 and at most 1"),
    ({"num_tokens": 0}, "`num_tokens` must be from 1 to 4096"),
    ({"num_tokens": 4097}, "`num_tokens` must be from 1 to 4096"),
]
BAD_PROMPTS = [
    ([[1, 400]], "`prompt` must hold ids from 0 to"),
    ([[1, -4]], "`prompt` must hold ids from 0 to"),
    ([[0, 1]], "`prompt` must begin with an id"),
    ([[1, 0, 5]], "`prompt` must have padding (0) only at the end"),
    ([[0, 0]], "`prompt` must begin with an id"),
    ([[63]], "`prompt` must begin with START (1) and hold no other START or END (2)"),
    ([[1, 1, 63]], "`prompt` must begin with START (1) and hold no other START or END (2)"),
    ([[1, 63, 2]], "`prompt` must begin with START (1) and hold no other START or END (2)"),
    ([[1] + [63] * 4096], "`prompt` must hold at most 4096 ids a row"),
    (np.zeros((1, 0), np.int32), "`prompt` must hold at least one id a row"),
    ([1, 5], "Shape of tensor _arg_generate_prompt"),
    ([[[1, 5]]], "Shape of tensor _arg_generate_prompt"),
    ([[1], [1]], "`num_tokens` must have as many rows as `prompt`"),
    (np.zeros((0, 3), np.int32), "`prompt` must have at least one row"),
]


def test_bad_values_are_refused_inside_the_graph_with_a_sentence(music, text):
    good = {"prompt": np.array([[1]], np.int32)} | controls(1)
    cases = [("generate", good | controls(1, **bad), says) for bad, says in BAD_CONTROLS]
    cases += [
        ("generate", good | {"prompt": np.array(prompt, np.int32)}, says)
        for prompt, says in BAD_PROMPTS
    ]
    step = {k: v for k, v in good.items() if k not in ("prompt", "num_tokens")}
    step |= {"token": np.array([1], np.int32)} | first_states(music[0], 1)
    cases += [
        ("step", step | {"token": np.array([0], np.int32)}, "`token` must hold ids from 1 to"),
        ("step", step | {"token": np.array([[1]], np.int32)}, "Shape of tensor _arg_step_token"),
        ("step", step | {"state_0": np.zeros((1, 3), np.float32)}, "Shape of tensor _arg_step_sta"),
        ("step", step | {"state_0": np.zeros((2, 24), np.float32)}, "`state_0` must have as many"),
        (
            "step",
            step | {"state_1": np.array([-1], np.int32)},
            "`state_1` must be from 0 to 214748",
        ),
        (
            "step",
            step | {"state_3": np.full((1, 129), -1, np.int32)},
            "`state_3` must be from 0",
        ),
        ("step", step | {"state_4": np.array([99], np.int32)}, "`state_4` must be from 0 to 6"),
        ("step", step | {"top_k": np.array([-1], np.int32)}, "`top_k` must be >= 0"),
        ("score", {"tokens": np.zeros((1, 0), np.int32)}, "`tokens` must hold at least one id"),
        ("score", {"tokens": np.array([[1, 999]], np.int32)}, "`tokens` must hold ids from 0"),
        ("score", {"tokens": np.ones((1, 8193), np.int32)}, "`tokens` must hold at most 8192 ids"),
        ("score", {"tokens": np.array([1], np.int32)}, "Shape of tensor _arg_score_tokens"),
    ]
    wishes = good | wish_rows(1)
    cases += [
        ("generate_controlled", wishes | {name: np.array(value, np.int32)}, says)
        for name, value, says in [
            ("pitch_classes", [[0] * 12], "`pitch_classes` must hold a 1 in each row"),
            ("pitch_classes", [[2] + [1] * 11], "`pitch_classes` must hold 0 and 1 only"),
            ("pitch_classes", [[1] * 11], "Shape of tensor _arg_generate_controlled_pitch_classes"),
            ("lowest_pitch", [-1], "`lowest_pitch` and `highest_pitch` must be from 0 to 127"),
            ("highest_pitch", [128], "`lowest_pitch` and `highest_pitch` must be from 0 to 127"),
            ("lowest_pitch", [128], "the lowest first"),
            ("max_notes_per_second", [65], "`max_notes_per_second` must be from 0"),
            ("max_notes_per_second", [-1], "`max_notes_per_second` must be from 0"),
            ("max_repeats", [-1], "`max_repeats` must be >= 0"),
            ("max_repeats", [1, 1], "`max_repeats` must have as many rows as `prompt`"),
        ]
    ]
    # Once only Python refused a key without a pitch in the range; the server answered with waits.
    no_c = {"lowest_pitch": np.array([61], np.int32), "highest_pitch": np.array([62], np.int32)}
    no_c |= wishes | no_c | {"pitch_classes": np.eye(12, dtype=np.int32)[:1]}
    cases.append(("generate_controlled", no_c, "`pitch_classes` must leave a pitch from `lowest_p"))
    answers = cpp_loader.run_in_fresh_process(music[1], [case[:2] for case in cases])
    unknown = {"prompt": ["abc!"]} | controls(1)
    answers += cpp_loader.run_in_fresh_process(text[1], [("generate", unknown)])
    cases.append(("generate", unknown, "It does not know:] [!]"))
    for (signature, _, says), answer in zip(cases, answers, strict=True):
        assert isinstance(answer, cpp_loader.CppError), (signature, says, answer)
        assert answer.code == 3, answer.message  # INVALID_ARGUMENT
        assert says in answer.message


def test_errors_of_export_and_load(text, tmp_path):
    one_step, path = text
    for wrong in (0, 2**31, True, 1.5):
        with pytest.raises(ValueError, match="`max_num_tokens` must be a whole number from 1 to 1"):
            km.export(one_step, tmp_path, max_num_tokens=wrong)
    with pytest.raises(ValueError, match="`one_step` must be a keras_music.OneStep.*Sequential"):
        km.export(one_step.model, tmp_path)
    with pytest.raises(ValueError, match="`card` must be a dict. Received: str"):
        km.export(one_step, tmp_path, card="text")
    with pytest.raises(ValueError, match="`card` must have texts as keys.* Received: keys must be"):
        km.export(one_step, tmp_path, card={(1, 2): 3})
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Cannot write the SavedModel.*Choose a folder"):
        km.export(one_step, tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="There is no exported model in .*nowhere"):
        km.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="`num_tokens` must be at most 4096.*Received: 5000"):
        km.load(path).generate("a", num_tokens=5000)
    with pytest.raises(ValueError, match="`prompt` must be at most 4096 ids long.*Received: 5001"):
        km.load(path).generate("a" * 5000)
    for file in ("saved_model.pb", "variables/variables.data-00000-of-00001", *EXTRA):
        damaged = tmp_path / file.replace("/", "-") / "1"
        shutil.copytree(path, damaged)
        (damaged / file).write_bytes((damaged / file).read_bytes()[:-40])
        with pytest.raises(ValueError, match="is damaged.* Copy or export it again"):
            km.load(damaged)
    shutil.copytree(path, tmp_path / "copy" / "1")
    (tmp_path / "copy" / "1" / "assets.extra" / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="was not exported by keras_music. There is no tokenizer"):
        km.load(tmp_path / "copy")


def copy_of_chorales(folder):
    shutil.copytree(ROOT / "saved_models" / "chorales" / "1", folder)
    return folder


@pytest.mark.parametrize(
    "tokenizer",
    [
        km.tokenizers.RemiTokenizer(),
        km.tokenizers.CharTokenizer("ab"),
        km.tokenizers.PerformanceTokenizer,
        "x",
    ],
)
def test_a_tokenizer_of_another_model_is_refused(tokenizer):
    """Its ids were read by the wrong table: a piece came out, of other notes."""
    with pytest.raises(ValueError, match="`tokenizer` must be the one with which the model was"):
        km.load(ROOT / "saved_models" / "chorales", tokenizer=tokenizer)


def test_a_tokenizer_file_that_was_edited_is_refused(tmp_path):
    folder = copy_of_chorales(tmp_path / "1")
    path = folder / "assets.extra" / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"velocity_bins": 32}))
    with pytest.raises(ValueError, match="with which the model was trained, Perf.* with 391"):
        km.load(folder)


@pytest.mark.parametrize("card", ["{}", "null", "[]", '{"max_num_tokens": "x"}'])
def test_a_damaged_card_is_refused(card, tmp_path):
    """It was loaded, and `generate` ended in a KeyError."""
    folder = copy_of_chorales(tmp_path / "1")
    (folder / "assets.extra" / "model_card.json").write_text(card)
    with pytest.raises(ValueError, match="is damaged: model_card.json does not say `tokenizer`"):
        km.load(folder)


class Own:
    """The least that a tokenizer of one's own has."""

    vocab_size = 10
    text = "{}"

    def encode(self, piece):
        return np.array([1, 3])

    def decode(self, ids):
        return list(ids)

    def save(self, path):
        if self.text:
            pathlib.Path(path).write_text(self.text)


def test_a_tokenizer_of_ones_own_is_given_to_load(tmp_path):
    """The sentence said that the file was damaged, and to export it again."""
    path = km.export(km.OneStep(km.build_model(10, units=8), Own()), tmp_path)
    with pytest.raises(TypeError, match=r"tokenizer Own, which is not.*`load\(path, tokenizer="):
        km.load(path)
    assert len(km.load(path, tokenizer=Own()).generate("x", num_tokens=5)) == 2 + 5


def test_a_tokenizer_whose_save_writes_nothing(tmp_path):
    """The sentence blamed the disk."""
    own = Own()
    own.text = ""
    with pytest.raises(ValueError, match="`tokenizer.save.path.` must write a file.*Own.save"):
        km.export(km.OneStep(km.build_model(10, units=8), own), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_class_of_a_tokenizer_is_no_tokenizer():
    with pytest.raises(ValueError, match="`tokenizer` must be the tokenizer with which the model"):
        km.OneStep(km.build_model(10, units=8), Own)


@pytest.mark.parametrize("ids", [[1.5, 2.0], [1, 99], [-3, 1], []])
def test_ids_of_a_tokenizer_of_ones_own_are_checked(ids):
    own = Own()
    own.encode = lambda piece: np.array(ids)
    one_step = km.OneStep(km.build_model(10, units=8), own)
    with pytest.raises(ValueError, match="`tokenizer.encode` must give one row of whole numbers"):
        one_step.generate("x", num_tokens=4)
