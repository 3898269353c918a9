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

import numpy as np
import tensorflow as tf

from keras_music.generation.generator import PAD, Generated, Generator, pad_rows
from keras_music.generation.network import Network
from keras_music.generation.sampling import sampler, uniforms

STEPS_AT_ONCE = 4  # ids drawn before the loop looks whether it is over: fewer turns, less overhead


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
        if not hasattr(tokenizer, "vocab_size"):
            raise ValueError(
                "`tokenizer` must be the tokenizer with which the model was trained. "
                f"Received: {type(tokenizer).__name__}."
            )
        self.model = model
        self.tokenizer = tokenizer
        self._network = Network(model, tokenizer.vocab_size)
        output = model.output_shape
        if len(output) != 3 or output[-1] != tokenizer.vocab_size:
            raise ValueError(
                "`model` must give logits of shape (batch, time, "
                f"{tokenizer.vocab_size}), one for each id of the tokenizer. Received: {output}. "
                "Build it with vocab_size=tokenizer.vocab_size."
            )
        self._loop = tf.function(self.loop, reduce_retracing=True)

    def weights(self):
        """What a step computes with: lists of tensors, tables among them.

        They follow from the model's weights as they are now, and take longer than a step to
        compute: a loop over `step` should compute them once.
        """
        return self._network.weights()

    def initial_state(self, batch_size):
        """The memory before the first id: a tuple of zeros, first axis `batch_size`."""
        return self._network.initial_state(batch_size)

    def step(self, ids, state=None, weights=None):
        """Feeds one id a row.

        Args:
          ids: int32 (batch,).
          state: the tuple that the step before returned; None before the first.
          weights: what `weights()` returned; None computes them.

        Returns:
          logits float32 (batch, vocab_size) for the id that comes next, and the new state.
        """
        ids = tf.convert_to_tensor(ids)
        state = self.initial_state(tf.shape(ids)[0]) if state is None else state
        weights = self.weights() if weights is None else weights
        return self._network.step(ids, state, weights)

    def loop(self, prompt, num_tokens, temperature, top_k, top_p, seed, weights=None):
        """The whole sampling loop, in TensorFlow operations.

        Args:
          prompt: int32 (batch, time), time >= 1, padded with 0 at the end.
          num_tokens, top_k: int32 (batch,); temperature, top_p: float32 (batch,);
          seed: int64 (batch,).
          weights: what `weights()` returned; None computes them.

        Returns:
          tokens int32 (batch, time), length int32 (batch,), log_prob float32 (batch,).
        """
        prompt_length = tf.reduce_sum(tf.cast(prompt != PAD, tf.int32), axis=1)
        stop = prompt_length + num_tokens  # (batch,)
        last = tf.reduce_max(stop) - 1
        longest = last + STEPS_AT_ONCE
        points = uniforms(seed[None], tf.range(1, longest)[:, None])  # (longest - 1, batch)
        given_ids = tf.transpose(prompt)
        longest_prompt = tf.shape(prompt)[1]
        never = self.never()
        draw = sampler(temperature, top_k, top_p)
        weights = self.weights() if weights is None else weights

        # Whether all had ended one id ago: so the next step need not wait for this draw, at the
        # price of one step too many in the end.
        def unfinished(t, ids, state, length, log_prob, ended, all_ended, written):
            return (t < last) & ~all_ended

        def write(*values):
            for _ in range(STEPS_AT_ONCE):
                values = write_one(*values)
            return values

        def write_one(t, ids, state, length, log_prob, ended, all_ended, written):
            logits, state = self.step(ids, state, weights)
            drawn, its_log_prob = draw(logits + never, tf.gather(points, t))
            t = t + 1
            given = t < prompt_length
            free = ~given & ~ended
            ids = tf.where(given, tf.gather(given_ids, tf.minimum(t, longest_prompt - 1)), drawn)
            ids = tf.where(given | free, ids, PAD)
            length = length + tf.cast(free, tf.int32)
            log_prob = log_prob + tf.where(free, its_log_prob, 0.0)
            all_ended = tf.reduce_all(ended)
            ended = ended | free & ((ids == end_id) | (t + 1 >= stop))
            return t, ids, state, length, log_prob, ended, all_ended, written.write(t, ids)

        end_id = -1 if self.end_id is None else self.end_id
        batch = tf.shape(prompt)[0]
        written = tf.TensorArray(tf.int32, size=longest, element_shape=[None])
        _, _, _, length, log_prob, _, _, written = tf.while_loop(
            unfinished,
            write,
            (
                0,
                prompt[:, 0],
                self.initial_state(batch),
                prompt_length,
                tf.zeros([batch]),
                tf.zeros_like(num_tokens, tf.bool),
                False,
                written.write(0, prompt[:, 0]),
            ),
        )
        tokens = tf.transpose(written.gather(tf.range(tf.reduce_max(length))))  # (batch, time)
        return tokens, length, log_prob

    def score(self, tokens, weights=None):
        """The log-probability of each id, given those before it.

        Args:
          tokens: int32 (batch, time), time >= 1, padded with 0 at the end.
          weights: what `weights()` returned; None computes them.

        Returns:
          float32 (batch, time); 0 at the first id, which nothing comes before, and at padding.
        """
        batch, time = tf.unstack(tf.shape(tokens))
        weights = self.weights() if weights is None else weights

        def body(t, state, scores):
            logits, state = self.step(tokens[:, t], state, weights)
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
        forbidden[PAD] = -np.inf
        if self.start_id is not None:
            forbidden[self.start_id] = -np.inf
        return tf.constant(forbidden)
