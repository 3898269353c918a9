"""Layers with a memory, on paper: the RNN cell, the GRU cell, the LSTM cell, and their unfolding.

A recurrent cell is one step. It reads an input x and its own memory h, and gives a new memory:

    RNN   h' = tanh(x W + h U + b)                                  everything is new, always
    GRU   h' = z * h + (1 - z) * c                                  z: how much of the old stays
    LSTM  c' = f * c + i * g,   h' = o * tanh(c')                   a second memory, only added to

z, r, f, i and o are *gates*: numbers between 0 and 1 that the cell computes from x and h like any
dense layer. *Unfolding* is the same cell, with the same numbers, once for each moment.

Conventions: see `calculation.py`. Weights are those of `layer.get_weights()` in Keras: `kernel`
`(features, k * units)` for the input, `recurrent_kernel` `(units, k * units)` for the memory, with
k = 1 (RNN), 3 (GRU: z, r, c) or 4 (LSTM: i, f, g, o) blocks side by side. A slide that writes one
matrix for x and h below each other, a row an output, has both in one: `W[:, :features].T` is the
kernel, `W[:, features:].T` the recurrent kernel.

What this file does not do: no gradients through time (tutorial 04), no dropout, no masks.

References: J. Elman, *Finding Structure in Time* (1990); K. Cho and others (2014), with Keras'
`reset_after` as in cuDNN; S. Hochreiter and J. Schmidhuber, *Long Short-Term Memory* (1997).
"""

from __future__ import annotations

import numpy as np

from keras_music.explain import drawings
from keras_music.explain.calculation import (
    MOST_SUMS,
    Explanation,
    Step,
    array,
    explained,
    number,
    plural,
    signed,
)
from keras_music.explain.layers import activated, weighted_sums

UNITS = ("units",)
MOST_MOMENTS = 8  # of an unfolded sequence whose sums are written out


def rnn_cell(x, h, kernel, recurrent_kernel, bias=None, *, show=True) -> Explanation:
    """One step of the simple recurrent cell: h' = tanh(x W + h U + b).

    Args:
      x: array `(features,)`, the input.
      h: array `(units,)`, the memory.
      kernel: array `(features, units)`.
      recurrent_kernel: array `(units, units)`.
      bias: array `(units,)`; default: none.
      show: whether to print the calculation (in a notebook: to show it as a table).

    Returns:
      An `Explanation`; `result` is the new memory, `(units,)`.

    Raises:
      ValueError: shapes that do not fit.

    Example (of the lecture, whose one matrix is taken apart here):
      >>> W = np.array([[-1, -2, 0.5, 1, 2], [0.5, 0.5, 1, -1, -0.5]])
      >>> cell = rnn_cell([2, 3, -1], [-1, 1], W[:, :3].T, W[:, 3:].T, show=False)
      >>> cell["sum"].tolist(), cell.result.round(3).tolist()
      ([-7.5, 2.0], [-1.0, 0.964])
    """
    sizes = {}
    x = array("x", x, "features", sizes=sizes)
    h = array("h", h, "units", sizes=sizes)
    weights = _weights(kernel, recurrent_kernel, bias, 1, sizes)
    steps, new = _rnn_step(x, (h,), *weights)
    return explained(
        f"RNN cell: {plural(len(h), 'unit')}",
        [*_given({"x": x, "h": h}, weights), *steps],
        new[0],
        "keras.layers.SimpleRNNCell",
        _keras_cell("rnn", x, (h,), weights)[0],
        drawings.rnn_cell,
        show,
    )


def gru_cell(
    x, h, kernel, recurrent_kernel, bias=None, reset_after=True, *, show=True
) -> Explanation:
    """One step of the gated recurrent unit: h' = z * h + (1 - z) * c.

    Args:
      x: array `(features,)`, the input.
      h: array `(units,)`, the memory.
      kernel: array `(features, 3 * units)`, the blocks for z, r and c side by side.
      recurrent_kernel: array `(units, 3 * units)`, the same for the memory.
      bias: array `(2, 3 * units)` (for the input, for the memory) with `reset_after`, else
        `(3 * units,)`; default: none.
      reset_after: whether r is applied after the product with the memory (Keras' default) or
        before it (Cho's paper).
      show: whether to print the calculation (in a notebook: to show it as a table).

    Returns:
      An `Explanation`; `result` is the new memory, `(units,)`.

    Raises:
      ValueError: shapes that do not fit.
    """
    sizes = {}
    x = array("x", x, "features", sizes=sizes)
    h = array("h", h, "units", sizes=sizes)
    weights = _weights(kernel, recurrent_kernel, bias, 3, sizes, two_biases=reset_after)
    steps, new = _gru_step(x, (h,), *weights, reset_after)
    when = "after" if reset_after else "before"
    return explained(
        f"GRU cell: {plural(len(h), 'unit')}, reset {when} the product",
        [*_given({"x": x, "h": h}, weights), *steps],
        new[0],
        "keras.layers.GRUCell",
        _keras_cell("gru", x, (h,), weights, reset_after)[0],
        drawings.gru_cell,
        show,
    )


def lstm_cell(x, h, c, kernel, recurrent_kernel, bias=None, *, show=True) -> Explanation:
    """One step of the long short-term memory: c' = f * c + i * g, h' = o * tanh(c').

    Args:
      x: array `(features,)`, the input.
      h: array `(units,)`, the short memory, which is also the output.
      c: array `(units,)`, the long memory.
      kernel: array `(features, 4 * units)`, the blocks for i, f, g and o side by side.
      recurrent_kernel: array `(units, 4 * units)`, the same for h.
      bias: array `(4 * units,)`; default: none.
      show: whether to print the calculation (in a notebook: to show it as a table).

    Returns:
      An `Explanation`; `result` is the tuple (new h, new c), each `(units,)`.

    Raises:
      ValueError: shapes that do not fit.
    """
    sizes = {}
    x = array("x", x, "features", sizes=sizes)
    h = array("h", h, "units", sizes=sizes)
    c = array("c", c, "units", sizes=sizes)
    weights = _weights(kernel, recurrent_kernel, bias, 4, sizes)
    steps, new = _lstm_step(x, (h, c), *weights)
    return explained(
        f"LSTM cell: {plural(len(h), 'unit')}",
        [*_given({"x": x, "h": h, "c": c}, weights), *steps],
        new,
        "keras.layers.LSTMCell",
        _keras_cell("lstm", x, (h, c), weights),
        drawings.lstm_cell,
        show,
    )


def unfold(
    x, kernel, recurrent_kernel, bias=None, cell="rnn", state=None, reset_after=True, *, show=True
) -> Explanation:
    """The same cell over a sequence: what it gives at one moment it gets at the next.

    Args:
      x: array `(time, features)`.
      kernel, recurrent_kernel, bias: the weights of the cell, as for `rnn_cell`, `gru_cell` or
        `lstm_cell`.
      cell: `"rnn"`, `"gru"` or `"lstm"`.
      state: array `(units,)`, the memory before the first moment; for `"lstm"` two of them, (h, c).
        Default: zeros.
      reset_after: of the GRU.
      show: whether to print the calculation (in a notebook: to show it as a table).

    Returns:
      An `Explanation`; `result` is the memory after each moment, `(time, units)`.

    Raises:
      ValueError: shapes that do not fit, or another cell.

    Example (a memory of one number, which fades):
      >>> unfold([[1], [0], [0]], [[1]], [[0.5]], show=False).result.round(3).tolist()
      [[0.762], [0.363], [0.18]]
    """
    if cell not in CELLS:
        raise ValueError(
            f"`cell` must be one of {', '.join(map(repr, CELLS))}. Received: {cell!r}."
        )
    step, blocks, names = CELLS[cell]
    sizes = {}
    x = array("x", x, "time", "features", sizes=sizes)
    sizes["units"] = np.shape(recurrent_kernel)[0] if np.ndim(recurrent_kernel) else 1
    weights = _weights(
        kernel, recurrent_kernel, bias, blocks, sizes, two_biases=cell == "gru" and reset_after
    )
    states = _states(state, names, sizes)
    extra = (reset_after,) if cell == "gru" else ()
    steps = [Step("x", "given", x, ("time", "features"))]
    steps += [Step(f"{n}0", "given", s, UNITS) for n, s in zip(names, states, strict=True)]
    memory = [states]  # before each moment
    for t, features in enumerate(x):
        memory.append(step(features, memory[t], *weights, *extra)[1])
        before = ", ".join(f"{name}{t}" for name in names)
        for name, value in zip(names, memory[t + 1], strict=True):
            if t < MOST_MOMENTS:
                formula = f"{cell}_cell(x[{t}], {before})"
                steps.append(Step(f"{name}{t + 1}", formula, value, UNITS))
    outputs = np.array([now[0] for now in memory[1:]])
    steps.append(Step("output", "h1, h2, ...", outputs, ("time", "units")))
    return explained(
        f"{cell.upper()} unfolded over {plural(len(x), 'moment')}",
        steps,
        outputs,
        f"keras.layers.{_LAYERS[cell]}",
        _keras_layer(cell, x, memory[:-1], weights, reset_after),
        drawings.unfold,
        show,
    )


def _rnn_step(x, states, kernel, recurrent_kernel, bias):
    (h,) = states
    sums = weighted_sums(
        "sum",
        "[x, h]",
        np.concatenate([x, h]),
        np.concatenate([kernel, recurrent_kernel]),
        bias,
        "[kernel, recurrent_kernel]",
    )
    new = activated("h'", "sum", sums.value, "tanh")
    return [sums, new], (new.value,)


def _gru_step(x, states, kernel, recurrent_kernel, bias, reset_after):
    (h,) = states
    w, u = np.split(kernel, 3, axis=1), np.split(recurrent_kernel, 3, axis=1)
    if bias is None:
        b = [None] * 3
        from_memory = [0.0] * 3
    elif reset_after:
        b, from_memory = np.split(bias[0], 3), np.split(bias[1], 3)
    else:
        b, from_memory = np.split(bias, 3), [0.0] * 3
    steps, gates = [], []
    for index, gate in enumerate("zr"):
        sums = _two_products(f"sum_{gate}", x, h, w[index], u[index], b[index], from_memory[index])
        steps += [sums, activated(gate, sums.name, sums.value, "sigmoid")]
        gates.append(steps[-1].value)
    z, r = gates
    if reset_after:
        memory = weighted_sums("h_c", "h", h, u[2], None, "U_c")
        memory = _plus(memory, from_memory[2])
        idea = weighted_sums("x_c", "x", x, w[2], b[2], "W_c")
        steps += [memory, idea]
        total = idea.value + r * memory.value
        worked = _elements("{} + {}·{} = {}", idea.value, r, memory.value, total)
        sums = Step("sum_c", "x_c + r * h_c", total, UNITS, worked)
    else:
        kept = Step("r*h", "r * h", r * h, UNITS, _elements("{}·{} = {}", r, h, r * h))
        steps.append(kept)
        sums = _two_products("sum_c", x, kept.value, w[2], u[2], b[2], 0.0, "r*h")
    steps += [sums, activated("c", "sum_c", sums.value, "tanh")]
    c = steps[-1].value
    new = z * h + (1 - z) * c
    worked = _elements("{}·{} + (1 - {})·{} = {}", z, h, z, c, new)
    steps.append(Step("h'", "z * h + (1 - z) * c", new, UNITS, worked))
    return steps, (new,)


def _lstm_step(x, states, kernel, recurrent_kernel, bias):
    h, c = states
    w, u = np.split(kernel, 4, axis=1), np.split(recurrent_kernel, 4, axis=1)
    b = [None] * 4 if bias is None else np.split(bias, 4)
    steps, values = [], []
    for index, gate in enumerate("ifgo"):
        sums = _two_products(f"sum_{gate}", x, h, w[index], u[index], b[index], 0.0)
        activation = "tanh" if gate == "g" else "sigmoid"
        steps += [sums, activated(gate, sums.name, sums.value, activation)]
        values.append(steps[-1].value)
    i, f, g, o = values
    long = f * c + i * g
    short = o * np.tanh(long)
    worked = _elements("{}·{} + {}·{} = {}", f, c, i, g, long)
    steps.append(Step("c'", "f * c + i * g", long, UNITS, worked))
    worked = _elements("{}·tanh({}) = {}", o, long, short)
    steps.append(Step("h'", "o * tanh(c')", short, UNITS, worked))
    return steps, (short, long)


CELLS = {  # name -> one step, blocks in a kernel, names of its memories
    "rnn": (_rnn_step, 1, ("h",)),
    "gru": (_gru_step, 3, ("h",)),
    "lstm": (_lstm_step, 4, ("h", "c")),
}
_LAYERS = {"rnn": "SimpleRNN", "gru": "GRU", "lstm": "LSTM"}


def _two_products(name, x, h, kernel, recurrent_kernel, bias, second_bias, h_name="h") -> Step:
    """The step `x @ W + h @ U + b`: one weighted sum over x and h in a row."""
    gate = name.removeprefix("sum_")
    return weighted_sums(
        name,
        f"[x, {h_name}]",
        np.concatenate([x, h]),
        np.concatenate([kernel, recurrent_kernel]),
        None if bias is None else bias + second_bias,
        f"[W_{gate}, U_{gate}]",
    )


def _plus(step, bias) -> Step:
    """The step with a bias added, if there is one."""
    if not np.any(bias):
        return step
    value = step.value + bias
    rows = zip(step.value[:MOST_SUMS], bias, value, strict=False)
    sums = [f"{number(old)} + {signed(b)} = {number(new)}" for old, b, new in rows]
    worked = [f"{line} ; {total}" for line, total in zip(step.worked, sums, strict=False)]
    worked += step.worked[len(sums) :]
    return Step(step.name, f"{step.formula} + bias", value, step.axes, tuple(worked))


def _elements(pattern, *arrays) -> tuple:
    """The pattern filled with the numbers of each unit, the first ones."""
    columns = list(zip(*arrays, strict=True))[:MOST_SUMS]
    return tuple(
        pattern.format(*map(signed, column[:-1]), number(column[-1])) for column in columns
    )


def _weights(kernel, recurrent_kernel, bias, blocks, sizes, two_biases=False):
    """The three arrays, checked; a bias that is missing stays None."""
    width = f"{blocks} * units" if blocks > 1 else "units"
    if blocks > 1 and "units" in sizes:
        sizes[width] = blocks * sizes["units"]
    kernel = array("kernel", kernel, "features", width, sizes=sizes)
    recurrent_kernel = array("recurrent_kernel", recurrent_kernel, "units", width, sizes=sizes)
    if bias is not None:
        axes = ("two", width) if two_biases else (width,)
        bias = array("bias", bias, *axes, sizes=sizes | {"two": 2})
    return kernel, recurrent_kernel, bias


def _given(vectors, weights):
    """The steps that are no steps: what the cell reads, and its weights."""
    kernel, recurrent_kernel, bias = weights
    blocks = kernel.shape[1] // len(recurrent_kernel)
    width = f"{blocks} * units" if blocks > 1 else "units"
    steps = [
        Step(name, "given", value, ("features",) if name == "x" else UNITS)
        for name, value in vectors.items()
    ]
    steps.append(Step("kernel", "given", kernel, ("features", width)))
    steps.append(Step("recurrent_kernel", "given", recurrent_kernel, ("units", width)))
    if bias is not None:
        steps.append(Step("bias", "given", bias, ("2", width)[-bias.ndim :]))
    return steps


def _states(state, names, sizes):
    """The memories before the first moment, one for each name."""
    if state is None:
        return tuple(np.zeros(sizes["units"]) for _ in names)
    states = (state,) if len(names) == 1 else tuple(state)
    if len(states) != len(names):
        raise ValueError(
            f"`state` must hold {len(names)} arrays, {' and '.join(names)}. "
            f"Received: {len(states)}."
        )
    return tuple(array("state", s, "units", sizes=sizes) for s in states)


def _in_keras(name, cell, states, weights, features, reset_after, **kwargs):
    """The layer of Keras of that name, with these weights."""
    import keras

    kernel, recurrent_kernel, bias = weights
    if cell == "gru":
        kwargs["reset_after"] = reset_after
    layer = getattr(keras.layers, name)(
        len(states[0]), use_bias=bias is not None, dtype="float64", **kwargs
    )
    layer.build((1, features) if name.endswith("Cell") else (1, None, features))
    layer.set_weights([kernel, recurrent_kernel, *([] if bias is None else [bias])])
    return layer


def _keras_cell(cell, x, states, weights, reset_after=True):
    """The new states as the cell of Keras computes them."""
    layer = _in_keras(f"{_LAYERS[cell]}Cell", cell, states, weights, len(x), reset_after)
    _, new = layer(x[None], [s[None] for s in states])
    return tuple(np.array(state)[0] for state in new)


def _keras_layer(cell, x, memory, weights, reset_after):
    """The outputs `(time, units)` as Keras computes them, each from our memory before it."""
    layer = _in_keras(_LAYERS[cell], cell, memory[0], weights, x.shape[1], reset_after)
    states = [np.array(moments) for moments in zip(*memory, strict=True)]
    # A batch of moments: in one run, a chaotic network would let the rounding grow.
    return np.array(layer(x[:, None], initial_state=states))
