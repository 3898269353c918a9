"""A model's layers as one step: one id a row goes in, one row of logits comes out.

Training runs a layer over a whole sequence, writing runs its *cell* over one moment. The GRU's cell
keeps a memory h of `units` numbers. With x what the layer is fed, W the kernel, U the recurrent
kernel and b, c the two biases, each cut into three parts of `units` columns:

    z = sigmoid(x W_z + b_z + h U_z + c_z)       update: how much of the memory stays
    r = sigmoid(x W_r + b_r + h U_r + c_r)       reset: how much of it the candidate sees
    g = tanh(x W_g + b_g + r * (h U_g + c_g))    candidate
    h' = z * h + (1 - z) * g

    one unit, h = 0.5, all sums before z and r are 0, x W_g + b_g = 1, h U_g + c_g = 0:
    z = r = 0.5, g = tanh(1) = 0.762, h' = 0.25 + 0.381 = 0.631

Two things make this a fast step without changing what it says:

- There are only `vocab_size` different inputs. Whatever stands before the first memory (Embedding,
  Dense, ...) and x W + b with it are computed once for every id, as one *table* of shape
  (vocab_size, 3 * units), c_z and c_r included. Feeding an id is then looking up a row.
- The recurrent kernel is cut between its gates into two pieces, so that two cores can multiply at
  once. A row of a piece for 1024 units is a multiple of 4096 bytes long, and rows that lie so far
  apart fight for the same lines of the processor's cache: 16 columns of zeros end that.

`Network.weights` computes the tables; they are arguments of the step, so that a loop computes them
once and an exported model stores them instead of what they were made of.

Conventions: ids int32 (batch,), logits float32 (batch, vocab_size); `state` is a flat tuple of
tensors with the batch as first axis.

What this file does not do: it draws nothing; layers that look at more than one moment, other than
recurrent ones, are refused.

References: K. Cho et al. (2014) for the GRU, in cuDNN's form (Keras' `reset_after=True`);
S. Hochreiter and J. Schmidhuber (1997) for the LSTM.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

MAX_TABLE = 2048  # ids; a larger vocabulary makes tables larger than what they replace
ODD = 16  # columns of zeros, one line of the cache

# Layers that treat each moment by itself: what they do to a sequence they do to one moment of it.
POINTWISE = (
    keras.layers.Embedding,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.LayerNormalization,
    keras.layers.Rescaling,
    keras.layers.Identity,
)
# Those among them that name axes by number, and must see a time axis: one moment long.
BY_AXIS = (keras.layers.EinsumDense, keras.layers.LayerNormalization)
# Layers that do something only in training.
SILENT = (
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
)


class Network:
    """The layers of a `keras.Sequential` as a step.

    Args:
      model: a built `keras.Sequential` from ids (batch, time) to logits (batch, time, vocab_size).
      vocab_size: how many ids there are.

    Raises:
      ValueError: a layer cannot be stepped.
    """

    def __init__(self, model, vocab_size):
        _check(model, vocab_size)
        layers = [layer for layer in model.layers if not isinstance(layer, SILENT)]
        memories = [i for i, layer in enumerate(layers) if isinstance(layer, keras.layers.RNN)]
        before = layers[: memories[0]] if memories else layers
        self._stages = []
        if vocab_size <= MAX_TABLE and before:
            first = layers[memories[0]] if memories and _is_known(layers[memories[0]]) else None
            self._stages.append(_Table(before, first and _Cell(first), vocab_size))
            layers = layers[len(before) :]
            if first is not None:
                self._stages.append(_Cell(layers.pop(0), is_fed_by_table=True))
        self._stages += [_stage(layer) for layer in layers]

    def weights(self):
        """What the step computes with: a list of lists of tensors, the tables among them."""
        return [stage.weights() for stage in self._stages]

    def initial_state(self, batch_size):
        """The memory before the first id: a tuple of zeros, first axis `batch_size`."""
        sizes = [size for stage in self._stages for size in stage.sizes]
        return tuple(tf.zeros((batch_size, size), dtype) for size, dtype in sizes)

    def step(self, ids, state, weights):
        """Feeds one id a row: logits float32 (batch, vocab_size), and the new state."""
        values, state, after = ids, list(state), []
        for stage, own in zip(self._stages, weights, strict=True):
            values, new = stage.step(values, state[: len(stage.sizes)], own)
            after += new
            del state[: len(stage.sizes)]
        return tf.cast(values, tf.float32), tuple(after)


class _Table:
    """Everything before the first memory, and what that is fed, for each id there is."""

    sizes = ()

    def __init__(self, layers, cell, vocab_size):
        self.layers, self.cell, self.vocab_size = layers, cell, vocab_size

    def weights(self):
        values = tf.range(self.vocab_size)
        for layer in self.layers:
            values = _call(layer, values)
        return [self.cell.feed(values) if self.cell else values]  # (vocab_size, ...)

    def step(self, ids, state, weights):
        return tf.gather(weights[0], ids), []


class _Pointwise:
    """A layer, or a cell whose arithmetic does not stand below, called as Keras would."""

    def __init__(self, layer):
        self.layer = layer
        self.sizes, self.state_size = (), []
        if isinstance(layer, keras.layers.RNN):
            self.layer = layer.cell
            size = layer.cell.state_size
            self.state_size = list(size) if isinstance(size, list | tuple) else [size]
            flat = tf.nest.flatten(self.state_size)
            self.sizes = [(size, layer.cell.compute_dtype) for size in flat]

    def weights(self):
        return [tf.convert_to_tensor(variable.value) for variable in self._variables()]

    def step(self, values, state, weights):
        # In this scope the layer computes with the tensors given instead of its own variables.
        with keras.StatelessScope(list(zip(self._variables(), weights, strict=True))):
            if not self.sizes:
                return _call(self.layer, values), []
            state = tf.nest.pack_sequence_as(self.state_size, state)
            values, new = self.layer(values, state, training=False)
            return values, tf.nest.flatten(new)

    def _variables(self):
        return [v for v in self.layer.variables if "seed_generator" not in v.path]


class _Cell:
    """A GRU, LSTM or SimpleRNN, step by step."""

    def __init__(self, layer, *, is_fed_by_table=False):
        self.cell = layer.cell
        self.is_fed_by_table = is_fed_by_table
        self.next = KNOWN[type(layer.cell)]
        sizes = self.cell.state_size
        sizes = sizes if isinstance(sizes, list | tuple) else [sizes]
        self.sizes = [(size, self.cell.compute_dtype) for size in sizes]

    def feed(self, values):
        """What the gates get from the input: (rows, features) -> (rows, gates * units)."""
        values = tf.cast(values, self.cell.compute_dtype)
        return tf.matmul(values, self.cell.kernel) + self._biases()[0]

    def weights(self):
        weights = [*self._recurrent_pieces(), *self._biases()[1:]]
        if not self.is_fed_by_table:
            weights += [_with_odd_rows(self.cell.kernel.value), self._biases()[0]]
        return weights

    def step(self, values, state, weights):
        if not self.is_fed_by_table:
            *weights, kernel, bias = weights
            values = tf.cast(values, kernel.dtype)
            values = tf.matmul(values, kernel)[:, : bias.shape[0]] + bias
        x = self._by_gate(values)
        num_pieces = min(2, len(x))
        products = [tf.matmul(state[0], kernel) for kernel in weights[:num_pieces]]
        recurrent = [gate for product in products for gate in self._by_gate(product)]
        new = self.next(self.cell, x, recurrent, state, *weights[num_pieces:])
        return new[0], new

    def _by_gate(self, sums):
        """(rows, gates * units and perhaps some zeros) -> a list of (rows, units)."""
        gates, odd = divmod(sums.shape[1], self.cell.units)
        return tf.split(sums, [self.cell.units] * gates + [odd], axis=1)[:gates]

    def _recurrent_pieces(self):
        kernel = tf.convert_to_tensor(self.cell.recurrent_kernel.value)
        units = self.cell.units
        pieces = [kernel[:, : 2 * units], kernel[:, 2 * units :]]
        return [_with_odd_rows(piece) for piece in pieces if piece.shape[1]]

    def _biases(self):
        """The bias of the input, and for a GRU that of the candidate's memory."""
        width = self.cell.kernel.shape[-1]
        if self.cell.bias is None:
            bias = tf.zeros([2, width], self.cell.compute_dtype)
        else:
            bias = tf.convert_to_tensor(self.cell.bias.value)
        if not isinstance(self.cell, keras.layers.GRUCell):
            return [bias if self.cell.bias is not None else bias[0]]
        units = self.cell.units
        both = tf.concat([bias[1, : 2 * units], tf.zeros([units], bias.dtype)], axis=0)
        return [bias[0] + both, bias[1, 2 * units :]]


def _gru(cell, x, recurrent, state, bias):
    """One moment of a GRU: `x` and `recurrent` 3 tensors (batch, units), state (h,)."""
    (x_z, x_r, x_g), (h_z, h_r, h_g) = x, recurrent
    z = cell.recurrent_activation(x_z + h_z)
    r = cell.recurrent_activation(x_r + h_r)
    candidate = cell.activation(x_g + r * (h_g + bias))
    return [candidate + z * (state[0] - candidate)]


def _lstm(cell, x, recurrent, state):
    """One moment of an LSTM: `x` and `recurrent` 4 tensors (batch, units), state (h, c)."""
    i, f, g, o = [x_part + h_part for x_part, h_part in zip(x, recurrent, strict=True)]
    gate = cell.recurrent_activation
    c = gate(f) * state[1] + gate(i) * cell.activation(g)
    return [gate(o) * cell.activation(c), c]


def _rnn(cell, x, recurrent, state):
    """One moment of a simple RNN: `x` and `recurrent` 1 tensor (batch, units), state (h,)."""
    return [cell.activation(x[0] + recurrent[0])]


KNOWN = {
    keras.layers.GRUCell: _gru,
    keras.layers.LSTMCell: _lstm,
    keras.layers.SimpleRNNCell: _rnn,
}


def _stage(layer):
    return _Cell(layer) if _is_known(layer) else _Pointwise(layer)


def _is_known(layer):
    """Whether this is a recurrent layer whose arithmetic stands here."""
    cell = getattr(layer, "cell", None)
    return (
        type(cell) in KNOWN
        and getattr(cell, "reset_after", True)
        and cell.compute_dtype == cell.variable_dtype  # mixed precision is left to Keras
    )


def _call(layer, values):
    """A pointwise layer on one moment: (batch,) or (batch, features) -> (batch, features)."""
    return layer(values[:, None])[:, 0] if isinstance(layer, BY_AXIS) else layer(values)


def _with_odd_rows(kernel):
    """A kernel with some columns of zeros, if its rows would lie in step with the cache."""
    kernel = tf.convert_to_tensor(kernel)
    in_step = kernel.shape[-1] * kernel.dtype.size % 4096 == 0
    return tf.pad(kernel, [[0, 0], [0, ODD]]) if in_step else kernel


def _check(model, vocab_size):
    """Raises a ValueError unless every layer can be stepped."""
    if not isinstance(model, keras.Sequential):
        raise ValueError(
            "`model` must be a keras.Sequential. "
            f"Received: {type(model).__name__}. `keras_music.build_model` makes one."
        )
    if not model.built:
        raise ValueError(
            "`model` must be built. Received: one without weights. Begin it with "
            'keras.Input((None,), dtype="int32"), or call it once.'
        )
    if getattr(model.layers[-1], "activation", None) is keras.activations.softmax:
        raise ValueError(
            "`model` must end with scores (logits). Received: probabilities from a softmax. "
            "Remove the activation of the last layer and train with from_logits=True."
        )
    for layer in model.layers:
        if isinstance(layer, keras.layers.RNN):
            if layer.go_backwards or not layer.return_sequences:
                raise ValueError(
                    f"The layer {layer.name!r} cannot be stepped: a network that writes must read "
                    "forwards (`go_backwards=False`) and answer at every moment "
                    "(`return_sequences=True`)."
                )
            if any(np.any(state != 0) for state in _initial_state(layer)):
                raise ValueError(
                    f"The layer {layer.name!r} cannot be stepped: its memory must begin with "
                    "zeros. Received: a cell whose `get_initial_state` gives others."
                )
        elif not isinstance(layer, POINTWISE + SILENT):
            raise ValueError(
                f"The layer {layer.name!r} ({type(layer).__name__}) cannot be stepped one id at a "
                "time. Use Embedding, GRU, LSTM, SimpleRNN, Dense, Dropout or LayerNormalization."
            )
        elif isinstance(layer, keras.layers.LayerNormalization):
            axes = np.atleast_1d(layer.axis) % 3
            if axes.tolist() != [2]:
                raise ValueError(
                    f"The layer {layer.name!r} cannot be stepped: it must normalise the features "
                    f"only (axis=-1), not over time. Received: axis={layer.axis}."
                )
        elif isinstance(layer, keras.layers.Embedding) and layer.input_dim < vocab_size:
            raise ValueError(
                f"The layer {layer.name!r} must have a row for each of the tokenizer's "
                f"{vocab_size} ids. Received: {layer.input_dim} rows. Build the model with "
                "vocab_size=tokenizer.vocab_size."
            )


def _initial_state(layer):
    return [np.asarray(state) for state in tf.nest.flatten(layer.get_initial_state(batch_size=1))]
