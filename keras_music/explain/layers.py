"""Layers without a memory, on paper: embedding, dense, softmax with cross-entropy, attention.

**Embedding.** A token has no size: 60 is not twice 30. So each token gets a row of numbers of its
own, learned like all others. Looking a row up is the same as multiplying a *one-hot* vector (one 1,
else 0) by the table, which is why it can be learned by gradient descent.

**Dense**, or fully connected. Each output is a weighted sum of all inputs, plus a bias, through an
*activation* that bends it; without the bend, layers in a row would be one layer.

**Softmax and cross-entropy.** Scores become probabilities; the loss is -ln(that of the answer).

**Attention.** Each moment asks a question (query); every moment before it has a label (key) and a
content (value). What it gets is a mixture of the contents, by how well label and question fit.

Conventions: see `calculation.py`. A `kernel` is `(features, units)` as in Keras, one **column** an
output; books and slides often write one row an output: its transpose. Probabilities are natural.

What this file does not do: nothing with a memory (`cells.py`), no gradients but that of the loss.

References: A. Vaswani and others, *Attention Is All You Need* (2017); the layers of Keras.
"""

from __future__ import annotations

import numpy as np

from keras_music.arguments import whole_number
from keras_music.explain import drawings
from keras_music.explain.calculation import (
    MOST_SUMS,
    Explanation,
    Step,
    array,
    explained,
    number,
    numbers,
    plural,
    signed,
    sum_of_products,
)


def sigmoid(x):
    """1 / (1 + exp(-x)), between 0 and 1; for any finite x without overflow."""
    return np.where(x >= 0, 1, np.exp(-np.abs(x))) / (1 + np.exp(-np.abs(x)))


ACTIVATIONS = {  # name -> the function and how it is written
    "linear": (lambda x: x, "{}"),
    "sigmoid": (sigmoid, "1 / (1 + exp(-{}))"),
    "tanh": (np.tanh, "tanh({})"),
    "relu": (lambda x: np.maximum(x, 0.0), "max({}, 0)"),
    "silu": (lambda x: x * sigmoid(x), "{0} / (1 + exp(-{0}))"),
}


def embedding(ids, table, *, show=True) -> Explanation:
    """Looks up the row of each id, and multiplies the one-hot vectors by the table: it is the same.

    Args:
      ids: int array `(time,)`, each from 0 to vocab_size - 1.
      table: array `(vocab_size, embedding_dim)`: `layer.get_weights()[0]` of an Embedding.
      show: whether to print the calculation (in a notebook: to show it as a table).

    Returns:
      An `Explanation`; `result` is `(time, embedding_dim)`.

    Raises:
      ValueError: an id that is no row of the table, or an array of another shape.

    Example:
      >>> table = [[0.1, -0.4, 0.5], [-0.4, 0.8, 1.2], [-0.4, -0.2, 0.7]]
      >>> embedding([2, 0], table, show=False).result.tolist()
      [[-0.4, -0.2, 0.7], [0.1, -0.4, 0.5]]
    """
    import keras

    table = array("table", table, "vocab_size", "embedding_dim")
    ids = array("ids", ids, "time")
    ids = np.array([whole_number("ids", i, 0, len(table) - 1) for i in ids])
    one_hot = np.eye(len(table))[ids]
    rows = [f"row {i}: {numbers(table[i])}" for i in ids[:MOST_SUMS]]
    steps = [
        Step("table", "given", table, ("vocab_size", "embedding_dim")),
        Step("ids", "given", ids.astype(float), ("time",)),
        Step("output", "table[ids]", table[ids], ("time", "embedding_dim"), tuple(rows)),
        Step("one_hot", "1 at the id, else 0", one_hot, ("time", "vocab_size")),
        Step("product", "one_hot @ table", one_hot @ table, ("time", "embedding_dim")),
    ]
    layer = keras.layers.Embedding(*table.shape, dtype="float64")
    layer.build()
    layer.set_weights([table])
    title = f"embedding: {plural(len(table), 'token')}, {plural(table.shape[1], 'number')} each"
    theirs = np.array(layer(ids))
    result = table[ids]
    return explained(
        title, steps, result, "keras.layers.Embedding", theirs, drawings.embedding, show
    )


def dense(x, kernel, bias=None, activation=None, *, show=True) -> Explanation:
    """Weighted sums, and an activation that bends them.

    Args:
      x: array `(features,)`.
      kernel: array `(features, units)`, or `(features,)` for one output.
      bias: array `(units,)`; default: none.
      activation: `"sigmoid"`, `"tanh"`, `"relu"`, `"silu"` or None (the sums as they are).
      show: whether to print the calculation (in a notebook: to show it as a table).

    Returns:
      An `Explanation`; `result` is `(units,)`.

    Raises:
      ValueError: shapes that do not fit, or an unknown activation.

    Example:
      >>> dense([2, 3, 1], [-1, -2, 0.5], activation="tanh", show=False)["sum"].tolist()
      [-7.5]
    """
    import keras

    sizes = {}
    x = array("x", x, "features", sizes=sizes)
    kernel = np.asarray(kernel)
    kernel = array(
        "kernel", kernel[:, None] if kernel.ndim == 1 else kernel, "features", "units", sizes=sizes
    )
    bias = None if bias is None else array("bias", bias, "units", sizes=sizes)
    given = [Step("x", "given", x, ("features",))]
    given.append(Step("kernel", "given", kernel, ("features", "units")))
    if bias is not None:
        given.append(Step("bias", "given", bias, ("units",)))
    sums = weighted_sums("sum", "x", x, kernel, bias)
    outputs = activated("output", "sum", sums.value, activation)
    layer = keras.layers.Dense(
        kernel.shape[1], activation=activation, use_bias=bias is not None, dtype="float64"
    )
    layer.build((None, len(x)))
    layer.set_weights([kernel] if bias is None else [kernel, bias])
    outputs_of, inputs = plural(kernel.shape[1], "output"), plural(len(x), "input")
    return explained(
        f"dense: {outputs_of} of {inputs}",
        [*given, sums, outputs],
        outputs.value,
        "keras.layers.Dense",
        np.array(layer(x[None]))[0],
        drawings.dense,
        show,
    )


def weighted_sums(name, x_name, x, kernel, bias=None, kernel_name="kernel") -> Step:
    """The step `x @ kernel + bias`, the first sums of it written out."""
    value = x @ kernel + (0.0 if bias is None else bias)
    biases = [None] * len(value) if bias is None else bias
    worked = [
        sum_of_products(x, kernel[:, unit], biases[unit])
        for unit in range(min(len(value), MOST_SUMS))
    ]
    worked += [f"... ({len(value)} sums)"] * (len(value) > MOST_SUMS)
    formula = f"{x_name} @ {kernel_name}" + (" + bias" if bias is not None else "")
    return Step(name, formula, value, ("units",), tuple(worked))


def activated(name, of, sums, activation) -> Step:
    """The step `activation(sums)`, number by number.

    Raises:
      ValueError: no such activation.
    """
    activation = activation or "linear"
    if activation not in ACTIVATIONS:
        names = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"`activation` must be one of {names}. Received: {activation!r}.")
    function, written = ACTIVATIONS[activation]
    value = function(sums)
    worked = [
        f"{written.format(signed(s) if activation == 'sigmoid' else number(s))} = {number(v)}"
        for s, v in zip(sums[:MOST_SUMS], value[:MOST_SUMS], strict=True)
        if activation != "linear"
    ]
    return Step(name, written.format(of), value, ("units",), tuple(worked))


def softmax_cross_entropy(logits, target, *, show=True) -> Explanation:
    """Scores become probabilities, and the loss is the surprise at what came.

    Args:
      logits: array `(classes,)`, any scores.
      target: int, the class that came, from 0 to classes - 1.
      show: whether to print the calculation (in a notebook: to show it as a table).

    Returns:
      An `Explanation`; `result` is the loss in nats, a scalar array. Its step `gradient` is the
      derivative of the loss by each logit: probabilities - one-hot.

    Raises:
      ValueError: no such class, or logits of another shape.

    Example:
      >>> e = softmax_cross_entropy([0.0, 0.0, 0.0, 0.0], 2, show=False)
      >>> round(float(e.result), 4) == round(float(np.log(4)), 4)
      True
    """
    import keras

    logits = array("logits", logits, "classes")
    target = whole_number("target", target, 0, len(logits) - 1)
    powers = np.exp(logits - logits.max())
    probabilities = powers / powers.sum()
    loss = np.log(powers.sum()) - (logits - logits.max())[target]
    gradient = probabilities - np.eye(len(logits))[target]
    axes = ("classes",)
    divisions = [
        f"{number(p)} / {number(powers.sum())} = {number(q)}"
        for p, q in zip(powers[:MOST_SUMS], probabilities[:MOST_SUMS], strict=True)
    ]
    steps = [
        Step("logits", "given", logits, axes),
        Step("target", "given", np.array(float(target))),
        Step("shifted", f"logits - largest ({number(logits.max())})", logits - logits.max(), axes),
        Step("powers", "exp(shifted)", powers, axes),
        Step("total", "sum of powers", powers.sum()),
        Step("probabilities", "powers / total", probabilities, axes, tuple(divisions)),
        Step(
            "loss",
            "-ln(probabilities[target])",
            np.asarray(loss),
            (),
            (f"-ln({number(probabilities[target])}) = {number(loss)} nats",),
        ),
        Step("gradient", "probabilities - one_hot(target)", gradient, axes),
    ]
    function = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    return explained(
        f"softmax and cross-entropy: {len(logits)} classes, class {target} came",
        steps,
        np.asarray(loss),
        "keras.losses.SparseCategoricalCrossentropy",
        np.array(function(np.array([target]), logits[None])),
        drawings.softmax_cross_entropy,
        show,
    )


def attention_head(
    x, query_kernel, key_kernel, value_kernel, causal=True, *, show=True
) -> Explanation:
    """One head of scaled dot-product attention, of a sequence with itself.

    Args:
      x: array `(time, features)`.
      query_kernel, key_kernel: arrays `(features, key_dim)`.
      value_kernel: array `(features, value_dim)`.
      causal: whether a moment sees itself and those before it only, as in a network that writes.
      show: whether to print the calculation (in a notebook: to show it as a table).

    Returns:
      An `Explanation`; `result` is `(time, value_dim)`. Its step `weights`, `(time, time)`, says in
      each row how much that moment takes from every other.

    Raises:
      ValueError: shapes that do not fit.

    Example:
      >>> e = attention_head(np.eye(2), np.eye(2), np.eye(2), np.eye(2), show=False)
      >>> e["weights"].round(3).tolist()
      [[1.0, 0.0], [0.33, 0.67]]
    """
    sizes = {}
    x = array("x", x, "time", "features", sizes=sizes)
    wq = array("query_kernel", query_kernel, "features", "key_dim", sizes=sizes)
    wk = array("key_kernel", key_kernel, "features", "key_dim", sizes=sizes)
    wv = array("value_kernel", value_kernel, "features", "value_dim", sizes=sizes)
    queries, keys, values = x @ wq, x @ wk, x @ wv
    scores = queries @ keys.T / np.sqrt(sizes["key_dim"])
    seen = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf) if causal else scores
    powers = np.exp(seen - seen.max(axis=1, keepdims=True))
    weights = powers / powers.sum(axis=1, keepdims=True)
    last = len(x) - 1
    dot = sum_of_products(queries[last], keys[0])
    root, score = f"√{sizes['key_dim']}", number(scores[last, 0])
    mixed = sum_of_products(weights[last], values[:, 0])
    moments = ("time", "time")
    steps = [
        Step("x", "given", x, ("time", "features")),
        Step("queries", "x @ query_kernel", queries, ("time", "key_dim")),
        Step("keys", "x @ key_kernel", keys, ("time", "key_dim")),
        Step("values", "x @ value_kernel", values, ("time", "value_dim")),
        Step(
            "scores",
            "queries @ keysᵀ / √key_dim",
            scores,
            moments,
            (
                numbers(scores),
                f"moment {last} looks at moment 0: ({dot}) / {root} = {score}",
            ),
        ),
        *([Step("seen", "-inf where a moment lies ahead", seen, moments)] if causal else []),
        Step("weights", "softmax of each row", weights, moments),
        Step(
            "output",
            "weights @ values",
            weights @ values,
            ("time", "value_dim"),
            (numbers(weights @ values), f"first number of moment {last}: {mixed}"),
        ),
    ]
    where = "back" if causal else "everywhere"
    return explained(
        f"attention: {plural(len(x), 'moment')}, looking {where}",
        steps,
        weights @ values,
        "keras.layers.MultiHeadAttention",
        _keras_attention(x, wq, wk, wv, causal),
        drawings.attention_head,
        show,
    )


def _keras_attention(x, wq, wk, wv, causal):
    """The same head in Keras, whose last projection is made to change nothing."""
    import keras

    layer = keras.layers.MultiHeadAttention(
        num_heads=1,
        key_dim=wq.shape[1],
        value_dim=wv.shape[1],
        output_shape=wv.shape[1],
        use_bias=False,
        dtype="float64",
    )
    layer.build((1, *x.shape), (1, *x.shape))
    scale = 1 / np.sqrt(wq.shape[1])
    wq = wq * (scale / float(np.float32(scale)))  # Keras rounds the scale to float32
    heads = [kernel[:, None] for kernel in (wq, wk, wv)]  # (features, heads, dim)
    layer.set_weights([*heads, np.eye(wv.shape[1])[None]])
    return np.array(layer(x[None], x[None], use_causal_mask=causal))[0]
