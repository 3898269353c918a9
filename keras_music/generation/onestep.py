"""One step of the network, repeated: the loop that writes.

Training runs the network over a whole sequence at once. Writing cannot: the next id is an input
only after it has been drawn. So the same layers are used a second way, as a *step*:

    step(ids, state) -> (logits, state)        ids (batch,), logits (batch, vocab_size)

`state` is a flat tuple of tensors whose first axis is the batch: the memory of each recurrent
layer (one tensor for an RNN or a GRU, two for an LSTM), all zeros in the beginning. The step uses
the layers' own cells and weights, nothing is copied; feeding a sequence one id at a time gives
what the model gives for all of it (to 1e-5; the tests say so).

Writing is then a loop: feed an id, draw the next. The loop runs inside the graph, for many
prompts at once. While a row is still inside its prompt, what was drawn is thrown away and the
prompt's next id is taken; so prompts of different lengths need no padding on the left, and no
row ever waits for another:

    position        0      1      2      3      4
    row 0 (2 ids)   START  R      drawn  drawn  drawn
    row 1 (4 ids)   START  J      U      L      drawn

Conventions: `PAD` (0) and `START` are never drawn. A row ends with `END`, or after `num_tokens`.
The random point for the id at position t depends on the row's seed and on t alone.

What this file does not do: it has no grammar (an id may be drawn that makes no sense in music;
`decode` copes), and it cannot step layers that look at more than one moment, other than
recurrent ones.

Reference: the OneStep model of TensorFlow's text-generation tutorial. Differences: the loop is in
the graph, every row has its own controls, and state is an argument.
"""

from __future__ import annotations

import typing

import keras
import numpy as np
import tensorflow as tf

from keras_music.generation.sampling import sample, uniforms

PAD = 0
# Layers that treat each moment by itself: what they do to a sequence they do to one moment of it.
POINTWISE = (
    keras.layers.Embedding,
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Dropout,
    keras.layers.GaussianNoise,
    keras.layers.GaussianDropout,
    keras.layers.AlphaDropout,
    keras.layers.Activation,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.LayerNormalization,
    keras.layers.Rescaling,
    keras.layers.Identity,
)


class Generated(typing.NamedTuple):
    """What a generator wrote, one row a prompt.

    tokens: int32 (batch, time), prompts included, padded with 0; length: int32 (batch,), ids of
    each row, prompt included; log_prob: float32 (batch,), the summed log-probability of what was
    drawn, in the distribution from which it was drawn (after temperature, top-k and top-p).
    """

    tokens: np.ndarray
    length: np.ndarray
    log_prob: np.ndarray


class Generator:
    """What a trained model and a loaded SavedModel have in common: `generate`.

    A subclass has a `tokenizer` and writes `_generate(prompts, controls) -> Generated`, where
    `prompts` is a list of id rows and `controls` a dict of arrays with one value a row.
    """

    tokenizer = None

    def generate(self, prompt=None, num_tokens=256, temperature=1.0, top_k=0, top_p=1.0, seed=0):
        """Continues one prompt, or many at once.

        Args:
          prompt: a `Piece` or a str, as the tokenizer encodes it; or ids, shape (time,); or a
            list of these; None begins from nothing.
          num_tokens: >= 1, how many ids are drawn at most (fewer if END is drawn).
          temperature: >= 0; 1 is the network's own opinion, 0 always takes the likeliest id.
          top_k: >= 0; draw among the k likeliest ids; 0 means all.
          top_p: 0 < top_p <= 1; draw among the likeliest ids that together have this
            probability; 1 means all.
          seed: a whole number. The same seed gives the same music; another seed, other music.

          With many prompts every control may be a list with one value for each. A single seed
          gives row i the seed `seed + i`, so that equal prompts get different continuations.

        Returns:
          What the tokenizer decodes (a `Piece` or a str), prompt included; a list for a list.

        Raises:
          ValueError: a control is out of range, or the prompt cannot be encoded.
        """
        many = _is_many(prompt)
        written = self.generate_tokens(prompt, num_tokens, temperature, top_k, top_p, seed)
        rows = zip(written.tokens, written.length, strict=True)
        decoded = [self.tokenizer.decode(tokens[:length]) for tokens, length in rows]
        return decoded if many else decoded[0]

    def generate_tokens(
        self, prompt=None, num_tokens=256, temperature=1.0, top_k=0, top_p=1.0, seed=0
    ) -> Generated:
        """As `generate`, but returns ids: a `Generated` with one row a prompt."""
        prompts = [self._encode(p) for p in (prompt if _is_many(prompt) else [prompt])]
        controls = _check_controls(
            len(prompts),
            num_tokens=num_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
        )
        return self._generate(prompts, controls)

    def _encode(self, prompt):
        """One prompt as ids, without the END that would say that nothing follows."""
        if prompt is None:
            return np.array([self.tokenizer.start_id], np.int32)
        if isinstance(prompt, np.ndarray | list | tuple):
            ids = self.tokenizer.table.check(prompt)
            if not len(ids) or (ids == PAD).any():
                raise ValueError(
                    "`prompt` must hold at least one id and no PAD (0). "
                    f"Received: {ids.tolist()[:20]}. Begin with START (1)."
                )
        else:
            ids = np.asarray(self.tokenizer.encode(prompt), np.int32)
        return ids[:-1] if len(ids) > 1 and ids[-1] == self.tokenizer.end_id else ids


class OneStep(Generator):
    """Generates with a Keras model and its tokenizer.

    Args:
      model: a built `keras.Sequential` from ids (batch, time) to logits
        (batch, time, vocab_size): Embedding, recurrent layers, Dense and others that treat each
        moment by itself. It is used as it is; training it further changes what is generated.
      tokenizer: the tokenizer with which it was trained.

    Raises:
      ValueError: a layer cannot be stepped, or the sizes of model and tokenizer differ.

    Example:
      >>> from keras_music.models import build_model
      >>> from keras_music.tokenizers import CharTokenizer
      >>> tokenizer = CharTokenizer("ROMEO: abc")
      >>> one_step = OneStep(build_model(tokenizer.vocab_size, units=8), tokenizer)
      >>> one_step.generate("ROMEO:", num_tokens=4, seed=1)[:6]
      'ROMEO:'
    """

    def __init__(self, model, tokenizer):
        self.model = model
        self.tokenizer = tokenizer
        self._plan = _plan(model)
        output = model.output_shape
        if len(output) != 3 or output[-1] != tokenizer.vocab_size:
            raise ValueError(
                "`model` must give logits of shape (batch, time, "
                f"{tokenizer.vocab_size}), one for each id of the tokenizer. Received: {output}. "
                "Build it with vocab_size=tokenizer.vocab_size."
            )
        self._loop = tf.function(self.loop, reduce_retracing=True)

    def initial_state(self, batch_size):
        """The memory before the first id: a tuple of zeros, first axis `batch_size`."""
        return tuple(
            tf.zeros((batch_size, size), dtype) for _, sizes in self._plan for size, dtype in sizes
        )

    def step(self, ids, state=None):
        """Feeds one id a row.

        Args:
          ids: int32 (batch,).
          state: the tuple that the step before returned; None before the first.

        Returns:
          logits float32 (batch, vocab_size) for the id that comes next, and the new state.
        """
        values = tf.convert_to_tensor(ids)
        state = list(self.initial_state(tf.shape(values)[0]) if state is None else state)
        after = []
        for layer, sizes in self._plan:
            if sizes:
                own = tf.nest.pack_sequence_as(_state_size(layer), state[: len(sizes)])
                values, new = layer.cell(values, own, training=False)
                after += tf.nest.flatten(new)
                del state[: len(sizes)]
            else:
                values = layer(values)
        return tf.cast(values, tf.float32), tuple(after)

    def loop(self, prompt, num_tokens, temperature, top_k, top_p, seed):
        """The whole sampling loop, in TensorFlow operations; see `keras_music.generation`.

        Args:
          prompt: int32 (batch, time), time >= 1, padded with 0 at the end.
          num_tokens, top_k: int32 (batch,); temperature, top_p: float32 (batch,);
          seed: int64 (batch,).

        Returns:
          tokens int32 (batch, time), length int32 (batch,), log_prob float32 (batch,).
        """
        prompt_length = tf.reduce_sum(tf.cast(prompt != PAD, tf.int32), axis=1)
        stop = prompt_length + num_tokens  # (batch,)
        last = tf.reduce_max(stop) - 1
        points = uniforms(seed[:, None], tf.range(1, last + 1)[None])  # (batch, last)
        never = self.never()

        def unfinished(t, ids, state, length, log_prob, ended, written):
            return (t < last) & ~tf.reduce_all(ended)

        def write(t, ids, state, length, log_prob, ended, written):
            logits, state = self.step(ids, state)
            drawn, its_log_prob = sample(logits + never, points[:, t], temperature, top_k, top_p)
            t = t + 1
            given = t < prompt_length
            free = ~given & ~ended
            ids = tf.where(given, prompt[:, tf.minimum(t, tf.shape(prompt)[1] - 1)], drawn)
            ids = tf.where(given | free, ids, PAD)
            length = length + tf.cast(free, tf.int32)
            log_prob = log_prob + tf.where(free, its_log_prob, 0.0)
            ended = ended | free & ((ids == self._end_id()) | (t + 1 >= stop))
            return t, ids, state, length, log_prob, ended, written.write(t, ids)

        batch = tf.shape(prompt)[0]
        written = tf.TensorArray(tf.int32, size=last + 1, element_shape=[None])
        t, _, _, length, log_prob, _, written = tf.while_loop(
            unfinished,
            write,
            (
                0,
                prompt[:, 0],
                self.initial_state(batch),
                prompt_length,
                tf.zeros([batch]),
                num_tokens <= 0,
                written.write(0, prompt[:, 0]),
            ),
        )
        tokens = tf.transpose(written.gather(tf.range(t + 1)))  # (batch, time)
        return tokens, length, log_prob

    def score(self, tokens):
        """The log-probability of each id, given those before it.

        Args:
          tokens: int32 (batch, time), time >= 1, padded with 0 at the end.

        Returns:
          float32 (batch, time); 0 at the first id, which nothing comes before, and at padding.
        """
        batch, time = tf.unstack(tf.shape(tokens))

        def body(t, state, scores):
            logits, state = self.step(tokens[:, t], state)
            following = tokens[:, t + 1]
            log_prob = tf.gather(tf.nn.log_softmax(logits), following, batch_dims=1)
            return t + 1, state, scores.write(t + 1, tf.where(following == PAD, 0.0, log_prob))

        scores = tf.TensorArray(tf.float32, size=time, element_shape=[None])
        scores = scores.write(0, tf.zeros([batch]))
        _, _, scores = tf.while_loop(
            lambda t, state, scores: t + 1 < time, body, (0, self.initial_state(batch), scores)
        )
        return tf.transpose(scores.stack())

    def _generate(self, prompts, controls):
        dtypes = {"num_tokens": tf.int32, "top_k": tf.int32, "seed": tf.int64}
        tensors = {k: tf.constant(v, dtypes.get(k, tf.float32)) for k, v in controls.items()}
        prompt = tf.constant(pad_rows(prompts))
        written = Generated(*[t.numpy() for t in self._loop(prompt, **tensors)])
        if not np.isfinite(written.log_prob).all():
            raise ValueError(
                "`model` gave scores that are not numbers (NaN), so nothing can be drawn. "
                "Training has diverged: lower the learning rate, or load an earlier checkpoint."
            )
        return written

    def never(self):
        """0 for ids that may be drawn and -inf for PAD and START; float32 (vocab_size,)."""
        forbidden = np.zeros(self.tokenizer.vocab_size, np.float32)
        forbidden[[PAD, getattr(self.tokenizer, "start_id", PAD)]] = -np.inf
        return tf.constant(forbidden)

    def _end_id(self):
        return getattr(self.tokenizer, "end_id", -1)


def pad_rows(rows):
    """Rows of ids of different lengths -> int32 (batch, time), padded with 0 at the end.

    >>> pad_rows([[1, 5], [1, 6, 7]]).tolist()
    [[1, 5, 0], [1, 6, 7]]
    """
    padded = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for padded_row, row in zip(padded, rows, strict=True):
        padded_row[: len(row)] = row
    return padded


def _plan(model):
    """The model's layers in order, each with the (size, dtype) of its state tensors."""
    if not isinstance(model, keras.Sequential):
        raise ValueError(
            "`model` must be a keras.Sequential. "
            f"Received: {type(model).__name__}. `keras_music.build_model` makes one."
        )
    plan = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.RNN):
            if layer.go_backwards or not layer.return_sequences:
                raise ValueError(
                    f"The layer {layer.name!r} cannot be stepped: a network that writes must read "
                    "forwards (`go_backwards=False`) and answer at every moment "
                    "(`return_sequences=True`)."
                )
            sizes = tf.nest.flatten(_state_size(layer))
            plan.append((layer, [(size, layer.cell.compute_dtype) for size in sizes]))
        elif isinstance(layer, POINTWISE):
            plan.append((layer, []))
        else:
            raise ValueError(
                f"The layer {layer.name!r} ({type(layer).__name__}) cannot be stepped one id at a "
                "time. Use Embedding, GRU, LSTM, SimpleRNN, Dense, Dropout or LayerNormalization."
            )
    return plan


def _state_size(layer):
    """The sizes of a recurrent layer's state tensors, nested as its cell wants them."""
    size = layer.cell.state_size
    return list(size) if isinstance(size, list | tuple) else [size]


def _is_many(prompt):
    """Whether this is a list of prompts, and not one prompt (of ids, perhaps)."""
    if isinstance(prompt, np.ndarray):
        return prompt.ndim == 2
    if isinstance(prompt, str) or not hasattr(prompt, "__getitem__"):
        return False
    return not (len(prompt) and isinstance(prompt[0], int | np.integer))


def _check_controls(batch_size, **controls):
    """Each control as an array with one value a row; seeds of equal rows are made different."""
    if not batch_size:
        raise ValueError("`prompt` must hold at least one prompt. Received: an empty list.")
    rules = {
        "num_tokens": (lambda v: v >= 1, ">= 1", np.int32),
        "temperature": (lambda v: (v >= 0) & np.isfinite(v), ">= 0", np.float32),
        "top_k": (lambda v: v >= 0, ">= 0", np.int32),
        "top_p": (lambda v: (v > 0) & (v <= 1), "above 0 and at most 1", np.float32),
        "seed": (lambda v: v == v, "a whole number", np.int64),
    }
    checked = {}
    for name, value in controls.items():
        is_right, rule, dtype = rules[name]
        array = np.asarray(value)
        if array.shape not in ((), (batch_size,)):
            raise ValueError(
                f"`{name}` must be one value, or one for each of the {batch_size} prompts. "
                f"Received: shape {array.shape}."
            )
        whole = dtype is not np.float32
        if array.dtype.kind not in ("iu" if whole else "iuf"):
            kind = "a whole number" if whole else "a number"
            raise ValueError(f"`{name}` must be {kind}. Received: {name}={value}.")
        if not is_right(array).all():
            raise ValueError(f"`{name}` must be {rule}. Received: {name}={value}.")
        row = np.arange(batch_size) if name == "seed" and array.ndim == 0 else 0
        checked[name] = (np.broadcast_to(array, batch_size) + row).astype(dtype)
    return checked
