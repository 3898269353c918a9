"""The lecture's arithmetic: its worked numbers, and Keras as the oracle for random ones."""

import sys
import types

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music.explain.calculation import explained, number, numbers, sum_of_products

TABLE = [[0.1, -0.4, 0.5], [-0.4, 0.8, 1.2], [-0.4, -0.2, 0.7]]
W = np.array([[-1, -2, 0.5, 1, 2], [0.5, 0.5, 1, -1, -0.5]])  # the RNN cell's, a row an output


# ---- The lecture's worked examples


def test_embedding_of_the_lecture():
    """The slide draws the vectors of the tokens 0, 1 and 2 as columns; Keras' table has rows."""
    result = km.explain.embedding([0, 1, 2], TABLE, show=False).result
    assert result[0].tolist() == [0.1, -0.4, 0.5]
    assert result[1].tolist() == [-0.4, 0.8, 1.2]
    assert result[2].tolist() == [-0.4, -0.2, 0.7]


def test_one_output_of_the_lecture():
    """The slide says 5.5; 2·(-1) + 3·(-2) + 1·0.5 is -7.5."""
    page = km.explain.dense([2, 3, 1], [-1, -2, 0.5], activation="tanh", show=False)
    assert page["sum"].tolist() == [-7.5]
    assert page.result == pytest.approx(np.tanh(-7.5), abs=1e-15)
    assert "2·(-1) + 3·(-2) + 1·0.5 = -7.5" in page.text
    assert "tanh(-7.5) = -0.999999" in page.text


def test_several_outputs_of_the_lecture():
    """The slide says -5.5 and 1.5; the first sum is -8.5."""
    kernel = np.transpose([[-1, -2, 0.5], [0.5, 0.5, 1]])
    page = km.explain.dense([2, 3, -1], kernel, activation="tanh", show=False)
    assert page["sum"].tolist() == [-8.5, 1.5]
    assert "2·(-1) + 3·(-2) + (-1)·0.5 = -8.5" in page.text
    assert "tanh(-8.5) = -0.9999999" in page.text  # not -1, which no tanh ever is
    assert "tanh(1.5) = 0.905148" in page.text


def test_rnn_cell_of_the_lecture():
    page = km.explain.rnn_cell([2, 3, -1], [-1, 1], W[:, :3].T, W[:, 3:].T, show=False)
    assert page["sum"].tolist() == [-7.5, 2.0]
    assert page.result.tolist() == [np.tanh(-7.5), np.tanh(2.0)]
    assert "2·(-1) + 3·(-2) + (-1)·0.5 + (-1)·1 + 1·2 = -7.5" in page.text
    assert "2·0.5 + 3·0.5 + (-1)·1 + (-1)·(-1) + 1·(-0.5) = 2" in page.text
    assert "tanh(2) = 0.964028" in page.text


# ---- Every step on paper


def test_gru_cell_with_numbers_for_a_pencil():
    """One unit, weights 0 and 1: z = r = 1/2, c = tanh(1 + 1/2 · 2) = tanh(2)."""
    kernel, recurrent_kernel = [[0, 0, 1]], [[0, 0, 1]]
    page = km.explain.gru_cell([1], [2], kernel, recurrent_kernel, show=False)
    assert page["z"] == page["r"] == [0.5]
    assert page["c"] == np.tanh([2.0])
    assert page.result == 0.5 * 2 + 0.5 * np.tanh([2.0])


def test_gru_reset_before_and_after_differ_with_a_bias():
    """Before: r·h goes into the product. After: the product, with its bias, is multiplied by r."""
    kernel, recurrent_kernel = [[0, 0, 1]], [[0, 0, 1]]
    after = km.explain.gru_cell(
        [1], [2], kernel, recurrent_kernel, [[0, 0, 0], [0, 0, 4]], show=False
    )
    before = km.explain.gru_cell(
        [1], [2], kernel, recurrent_kernel, [0, 0, 4], reset_after=False, show=False
    )
    assert after["sum_c"] == [1 + 0.5 * (2 + 4)]
    assert before["sum_c"] == [1 + 0.5 * 2 + 4]


def test_lstm_cell_with_numbers_for_a_pencil():
    """All gates 1/2 and the idea g = tanh(1): c' = 4/2 + tanh(1)/2, h' = tanh(c')/2."""
    page = km.explain.lstm_cell([1], [0], [4], [[0, 0, 1, 0]], [[0, 0, 0, 0]], show=False)
    h, c = page.result
    assert c == pytest.approx(2 + np.tanh(1) / 2, abs=1e-15)
    assert h == pytest.approx(np.tanh(2 + np.tanh(1) / 2) / 2, abs=1e-15)


def test_softmax_cross_entropy():
    page = km.explain.softmax_cross_entropy(np.log([1, 2, 5]), 2, show=False)
    assert page["probabilities"] == pytest.approx([1 / 8, 2 / 8, 5 / 8])
    assert page.result == pytest.approx(np.log(8 / 5))
    assert page["gradient"] == pytest.approx([1 / 8, 2 / 8, -3 / 8])


def test_the_gradient_is_the_slope_of_the_loss():
    logits, tiny = np.array([0.3, -1.0, 2.0]), 1e-6
    page = km.explain.softmax_cross_entropy(logits, 1, show=False)
    for index in range(3):
        moved = logits + tiny * np.eye(3)[index]
        other = km.explain.softmax_cross_entropy(moved, 1, show=False)
        assert (other.result - page.result) / tiny == pytest.approx(
            page["gradient"][index], abs=1e-5
        )


def test_large_scores_do_not_overflow():
    page = km.explain.softmax_cross_entropy([1000.0, 0.0], 1, show=False)
    assert page.result == 1000
    assert km.explain.dense([-1000], [1], activation="sigmoid", show=False).result == [0.0]


def test_attention_looks_back_only():
    x = np.eye(3)
    page = km.explain.attention_head(x, x, x, x, show=False)
    assert np.triu(page["weights"], 1).tolist() == np.zeros((3, 3)).tolist()
    assert page["weights"].sum(axis=1) == pytest.approx(np.ones(3))
    assert np.isneginf(page["seen"][0, 1])
    everywhere = km.explain.attention_head(x, x, x, x, causal=False, show=False)
    assert (everywhere["weights"] > 0).all()


def test_unfolding_is_the_cell_again_and_again():
    x = np.array([[2, 3, -1], [0, 1, 1], [1, 0, 0]])
    page = km.explain.unfold(x, W[:, :3].T, W[:, 3:].T, state=[-1, 1], show=False)
    h = [-1, 1]
    for t in range(3):
        h = km.explain.rnn_cell(x[t], h, W[:, :3].T, W[:, 3:].T, show=False).result
        assert page[f"h{t + 1}"].tolist() == page.result[t].tolist() == h.tolist()


# ---- Keras for random weights, sizes and inputs


def compare(page, theirs, exact=1e-6):
    ours = page.result if isinstance(page.result, tuple) else (page.result,)
    theirs = theirs if isinstance(theirs, tuple) else (theirs,)
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, np.array(b), rtol=exact, atol=exact)


SIZES = st.tuples(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 6), st.integers(0, 2**32 - 1)
)
few = settings(max_examples=12, deadline=None)


@few
@given(SIZES, st.sampled_from([None, "sigmoid", "tanh", "relu", "silu"]), st.booleans())
def test_dense_is_keras(sizes, activation, use_bias):
    features, units, _, seed = sizes
    rng = np.random.default_rng(seed)
    layer = keras.layers.Dense(units, activation, use_bias=use_bias, dtype="float64")
    layer.build((1, features))
    layer.set_weights([rng.normal(size=w.shape) for w in layer.weights])
    x = rng.normal(size=features)
    page = km.explain.dense(x, *layer.get_weights(), activation=activation, show=False)
    compare(page, layer(x[None])[0])


@few
@given(SIZES)
def test_embedding_is_keras(sizes):
    dim, vocab_size, time, seed = sizes
    rng = np.random.default_rng(seed)
    table, ids = rng.normal(size=(vocab_size, dim)), rng.integers(0, vocab_size, time)
    layer = keras.layers.Embedding(vocab_size, dim, dtype="float64")
    layer.build()
    layer.set_weights([table])
    page = km.explain.embedding(ids, table, show=False)
    compare(page, layer(ids))
    assert page["product"].tolist() == page.result.tolist()


@few
@given(SIZES)
def test_softmax_cross_entropy_is_keras(sizes):
    classes, seed = sizes[0] + 1, sizes[3]  # Keras warns of a softmax over one class
    rng = np.random.default_rng(seed)
    logits, target = 5 * rng.normal(size=classes), int(rng.integers(classes))
    page = km.explain.softmax_cross_entropy(logits, target, show=False)
    probabilities = np.array(keras.ops.softmax(logits))
    compare(page, -np.log(probabilities[target]))


@few
@given(SIZES, st.sampled_from(["rnn", "gru", "gru before", "lstm"]), st.booleans())
def test_cells_and_their_unfolding_are_keras(sizes, name, use_bias):
    features, units, time, seed = sizes
    rng = np.random.default_rng(seed)
    cell, extra = name.split()[0], {"reset_after": False} if name == "gru before" else {}
    kind = {"rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}[cell]
    one = getattr(keras.layers, f"{kind}Cell")(units, use_bias=use_bias, dtype="float64", **extra)
    one.build((1, features))
    one.set_weights([rng.normal(size=w.shape) for w in one.weights])
    x = rng.normal(size=(time, features))
    states = rng.normal(size=(2 if cell == "lstm" else 1, units))
    page = getattr(km.explain, f"{cell}_cell")(
        x[0], *states, *one.get_weights(), **extra, show=False
    )
    _, new = one(x[:1], [s[None] for s in states])
    compare(page, tuple(s[0] for s in new))

    layer = keras.layers.RNN(one, return_sequences=True, dtype="float64")
    state = tuple(states) if cell == "lstm" else states[0]
    page = km.explain.unfold(x, *one.get_weights(), cell=cell, state=state, **extra, show=False)
    compare(page, layer(x[None], initial_state=[keras.ops.array(s[None]) for s in states])[0])


def test_a_chaotic_network_is_no_error():
    """Over 50 moments rounding grew to 1e-4, and the page told its reader to report a fault."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 300)), rng.normal(size=(100, 300))
    page = km.explain.unfold(rng.normal(size=(60, 3)), *weights, cell="gru", show=False)
    assert page.difference < 1e-9


@few
@given(SIZES, st.booleans())
def test_attention_is_keras(sizes, causal):
    """Keras rounds 1 / √key_dim to float32, which large scores would show."""
    features, dim, time, seed = sizes
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(time + 1, features))  # Keras warns of a softmax over one moment
    wq, wk, wv = (rng.normal(size=(features, dim)) for _ in range(3))
    page = km.explain.attention_head(x, wq, wk, wv, causal, show=False)
    layer = keras.layers.Attention(dtype="float64")
    queries = keras.ops.array((x @ wq / np.sqrt(dim))[None])
    theirs = layer(
        [queries, keras.ops.array((x @ wv)[None]), keras.ops.array((x @ wk)[None])],
        use_causal_mask=causal,
    )
    compare(page, theirs[0])


def test_a_calculation_that_differs_is_never_shown(capsys):
    with pytest.raises(ArithmeticError, match="keras.layers.Dense differ by 0.01"):
        explained("wrong", [], np.ones(2), "keras.layers.Dense", np.ones(2) + 0.01, None, True)
    assert capsys.readouterr().out == ""


# ---- How it is shown


def test_it_prints_each_step_with_formula_shape_and_numbers(capsys):
    page = km.explain.dense([2, 3], [[1, 0], [0, 1]], [10, 20], "relu")
    printed = capsys.readouterr().out
    assert printed == (
        "dense: 2 outputs of 2 inputs\n"
        "----------------------------\n"
        "x = given                 (features,) = (2,)\n"
        "    2, 3\n"
        "kernel = given            (features, units) = (2, 2)\n"
        "    [1, 0] [0, 1]\n"
        "bias = given              (units,) = (2,)\n"
        "    10, 20\n"
        "sum = x @ kernel + bias   (units,) = (2,)\n"
        "    2·1 + 3·0 + 10 = 12\n"
        "    2·0 + 3·1 + 20 = 23\n"
        "output = max(sum, 0)      (units,) = (2,)\n"
        "    max(12, 0) = 12\n"
        "    max(23, 0) = 23\n"
        "keras.layers.Dense gives the same; largest difference: 0\n\n"
    )
    assert list(page.table.columns) == ["step", "formula", "shape", "value", "worked"]
    assert page.table["step"].tolist() == ["x", "kernel", "bias", "sum", "output"]
    assert page.table["value"].tolist()[3] == "12, 23"
    assert repr(page).startswith("<dense: 2 outputs of 2 inputs: 5 steps. keras.layers.Dense gives")


def test_a_notebook_gets_a_table(monkeypatch, capsys):
    shown = []
    shell = types.SimpleNamespace(kernel=object())
    display = types.SimpleNamespace(display=shown.append, HTML=lambda text: text)
    ipython = types.SimpleNamespace(get_ipython=lambda: shell, display=display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    page = km.explain.dense([1], [[2]], activation="tanh")
    assert capsys.readouterr().out == ""
    assert shown == [page._repr_html_()]
    assert shown[0].count("<tr>") == 1 + 4
    assert "<b>sum</b>" in shown[0] and "1·2 = 2" in shown[0]


def test_a_step_by_its_name():
    page = km.explain.dense([1], [[2]], show=False)
    assert page["kernel"].tolist() == [[2]]
    with pytest.raises(KeyError, match="no step 'weights'.*It has: x, kernel, sum, output"):
        page["weights"]


def test_long_sums_and_large_arrays_are_cut():
    assert sum_of_products([1] * 20, [1] * 20).endswith("... (20 products) = 20")
    assert numbers(range(100)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."
    page = km.explain.dense(np.ones(50), np.ones((50, 40)), show=False)
    assert "... (40 sums)" in page.text
    assert len(page.text.splitlines()) < 60


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1 * 3 - 0.3, "0"),
        (-0.0, "0"),
        (1e6, "1000000"),
        (0.5, "0.5"),
        (1.23456789, "1.234568"),
        (-0.9999999172, "-0.9999999"),
        (2e-7, "2e-07"),
        (-np.inf, "-inf"),
    ],
)
def test_numbers_are_written_as_by_hand(value, text):
    assert number(value) == text


# ---- What cannot be computed


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda e: e.dense([1, 2], [[1]]),
            r"`kernel` must have the shape \(features, units\) with features = 2",
        ),
        (
            lambda e: e.dense([1], [[1]], [1, 2]),
            r"`bias` must have the shape \(units,\) with units = 1",
        ),
        (
            lambda e: e.dense([[1]], [[1]]),
            r"`x` must have the shape \(features,\).*the shape \(1, 1\)",
        ),
        (lambda e: e.dense([], [[1]]), "no axis may be empty"),
        (lambda e: e.dense([float("nan")], [[1]]), "`x` must be finite. Received: x=nan"),
        (lambda e: e.dense("x", [[1]]), "`x` must be an array of numbers. Received: x='x'"),
        (
            lambda e: e.dense([1], [[1]], activation="gelu"),
            "`activation` must be one of 'linear', 'sigmoid'",
        ),
        (
            lambda e: e.embedding([3], TABLE),
            "`ids` must be a whole number from 0 to 2. Received: ids=3.",
        ),
        (lambda e: e.embedding([0.5], TABLE), "`ids` must be a whole number"),
        (
            lambda e: e.softmax_cross_entropy([1, 2], 2),
            "`target` must be a whole number from 0 to 1",
        ),
        (
            lambda e: e.gru_cell([1], [1], [[1, 2]], [[1, 2]]),
            r"`kernel` must have the shape .* with 3 \* units = 3",
        ),
        (
            lambda e: e.gru_cell([1], [1], [[1, 2, 3]], [[1, 2, 3]], [1, 2, 3]),
            r"`bias` must have the shape \(two, 3 \* units\)",
        ),
        (
            lambda e: e.lstm_cell([1], [1], [1, 2], [[1] * 4], [[1] * 4]),
            r"`c` must have the shape \(units,\) with units = 1",
        ),
        (
            lambda e: e.unfold([[1]], [[1]], [[1]], cell="tcn"),
            "`cell` must be one of 'rnn', 'gru', 'lstm'. Received: 'tcn'",
        ),
        (
            lambda e: e.unfold([[1]], [[1] * 4], [[1] * 4], cell="lstm", state=[[1]]),
            "`state` must hold 2 arrays, h and c. Received: 1",
        ),
    ],
)
def test_bad_input_gets_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(km.explain)


# ---- Exercises


def test_an_exercise_checks_itself(capsys):
    assert km.explain.check(1, ..., 0.25) is None
    assert km.explain.check(1, 0.2501, 0.25) is True
    assert km.explain.check(1, 0.26, 0.25) is False
    assert km.explain.check(2, [1, 2], np.array([1.0, 2.0])) is True
    assert km.explain.check(2, [1, 2, 3], np.array([1.0, 2.0])) is False
    assert km.explain.check(2, "two", 2) is False
    assert km.explain.check(3, "GRU", "GRU") is True
    assert km.explain.check(3, 5, lambda answer: answer > 4) is True
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("exercise 1: no answer yet")
    assert printed[1] == "exercise 1: right!"
    assert printed[2] == "exercise 1: not yet. Your answer: 0.26"
