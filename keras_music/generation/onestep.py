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

What may be drawn at all, `rules` says: the tokenizer's grammar, and what was wished.

What this file does not do: it cannot step layers that look at more than one moment, other than
recurrent ones.

Reference: the OneStep model of TensorFlow's text-generation tutorial. Differences: the loop is in
the graph, every row has its own controls, and state is an argument.
"""

from __future__ import annotations

import functools
import reprlib

import numpy as np
import tensorflow as tf

from keras_music.arguments import whole_number
from keras_music.generation.generator import PAD, Generated, Generator, pad_rows
from keras_music.generation.network import Network
from keras_music.generation.rules import Rules
from keras_music.generation.sampling import Sampler, uniforms
from keras_music.generation.wishes import WISHES

STEPS_AT_ONCE = 4  # ids drawn before the loop looks whether it is over: fewer turns, less overhead


class OneStep(Generator):
    """Generates with a Keras model and its tokenizer.

    Args:
      model: a built `keras.Sequential` from ids (batch, time) to logits
        (batch, time, vocab_size): Embedding, recurrent layers, Dense and others that treat each
        moment by itself. It is used as it is; training it further changes what is generated.
      tokenizer: the tokenizer with which it was trained.
      use_grammar: whether the tokenizer's grammar, if it has one, is obeyed. Default: True.

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

    def __init__(self, model, tokenizer, *, use_grammar=True):
        if isinstance(tokenizer, type) or not hasattr(tokenizer, "vocab_size"):
            raise ValueError(
                "`tokenizer` must be the tokenizer with which the model was trained. "
                f"Received: {reprlib.repr(tokenizer)}."
            )
        whole_number("tokenizer.vocab_size", tokenizer.vocab_size, 2)
        self.model = model
        self.tokenizer = tokenizer
        self.use_grammar = use_grammar
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

    def loop(
        self, prompt, num_tokens, temperature, top_k, top_p, seed, *, weights=None, controls=None
    ):
        """The whole sampling loop, in TensorFlow operations.

        Args:
          prompt: int32 (batch, time), time >= 1, padded with 0 at the end.
          num_tokens, top_k: int32 (batch,); temperature, top_p: float32 (batch,);
          seed: int64 (batch,).
          weights: what `weights()` returned; None computes them.
          controls: wishes as `rules` describes them, a dict of tensors, or None.

        Returns:
          tokens int32 (batch, time), length int32 (batch,), log_prob float32 (batch,).
        """
        weights = self.weights() if weights is None else weights
        prompt_length = tf.reduce_sum(tf.cast(prompt != PAD, tf.int32), axis=1)
        stop = prompt_length + num_tokens  # (batch,)
        longest = -(-(tf.reduce_max(stop) - 1) // STEPS_AT_ONCE) * STEPS_AT_ONCE
        position = tf.range(1, longest + 1)[:, None]  # of the ids to be written
        sampler = Sampler(temperature, top_k, top_p)
        given = tf.transpose(prompt)[1:][:longest]
        by_position = {
            "point": sampler.points(uniforms(seed[None], position)),
            "given": tf.pad(given, [[0, longest - tf.shape(given)[0]], [0, 0]]),  # PAD: to be drawn
            "remaining": tf.maximum(stop - position, 1),
        }

        controls = self._rules(controls).controls  # with what follows from them alone, made once
        run = functools.partial(
            self._run,
            prompt,
            stop,
            by_position,
            weights=weights,
            sampler=sampler,
            controls=controls,
        )
        # Sorting costs more than all the rest: there is a loop without it.
        ids, log_probs = tf.cond(
            sampler.any_filter,
            lambda: run(num_steps=1, may_filter=True),
            lambda: run(num_steps=STEPS_AT_ONCE, may_filter=False),
        )
        return _pieces(ids, log_probs, prompt_length, stop, self._end)

    def _run(self, prompt, stop, by_position, *, weights, sampler, controls, num_steps, may_filter):
        """All turns of the loop, of so many steps each.

        Args:
          by_position: a dict of tensors (time, batch, ...), what each step needs.

        Returns:
          ids (steps + 1, batch), the prompt's first to begin with, and the log-probabilities
          (steps, batch) of all after it.
        """
        batch = prompt.shape[0] or tf.shape(prompt)[0]
        num_turns = tf.shape(by_position["given"])[0] // num_steps
        by_turn = {
            name: tf.reshape(value, [num_turns, num_steps, batch, *value.shape[2:]])
            for name, value in by_position.items()
        }

        def some_go_on(turn, ids, state, goes_on, fed, log_probs):
            return (turn < num_turns) & tf.reduce_any(goes_on)

        def write(turn, ids, state, goes_on, fed, log_probs):
            writer = _Writer(self, weights, sampler, controls, may_filter=may_filter)
            inputs = {name: value[turn] for name, value in by_turn.items()}
            ids, state, its_fed, its_log_probs = writer.write(ids, state, inputs)
            fed, log_probs = fed.write(turn, its_fed), log_probs.write(turn, its_log_probs)
            turn = turn + 1
            # Only of ids that were fed: so the next turn need not wait for the last draw.
            goes_on &= tf.reduce_all(its_fed != self._end, axis=0) & (turn * num_steps < stop)
            return turn, ids, state, goes_on, fed, log_probs

        rules = self._rules(controls)
        state = self.initial_state(batch), rules.advance(rules.start(batch), prompt[:, 0])
        fed, log_probs = (
            tf.TensorArray(dtype, size=num_turns, element_shape=[num_steps, None])
            for dtype in (tf.int32, tf.float32)
        )
        turn, ids, _, _, fed, log_probs = tf.while_loop(
            some_go_on,
            write,
            (0, prompt[:, 0], state, tf.fill([batch], True), fed, log_probs),
        )
        done = tf.range(turn)
        fed, log_probs = (tf.reshape(x.gather(done), [-1, batch]) for x in (fed, log_probs))
        return tf.concat([fed, ids[None]], axis=0), log_probs

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
        dtypes |= dict.fromkeys(WISHES, tf.int32)
        tensors = {k: tf.constant(v, dtypes.get(k, tf.float32)) for k, v in controls.items()}
        if wishes := {name: tensors.pop(name) for name in WISHES if name in tensors}:
            tensors["controls"] = wishes
        prompt = tf.constant(pad_rows(prompts))
        written = Generated(*[t.numpy() for t in self._loop(prompt, **tensors)])
        if not np.isfinite(written.log_prob).all():
            raise ValueError(
                "`model` gave scores that are not numbers (NaN), so nothing can be drawn. "
                "Training has diverged: lower the learning rate, or load an earlier checkpoint."
            )
        return written

    @property
    def takes_wishes(self):
        return self.use_grammar and super().takes_wishes

    def _rules(self, controls=None):
        return Rules(self.tokenizer, controls, use_grammar=self.use_grammar)

    @property
    def _end(self):
        return -1 if self.end_id is None else self.end_id


class _Writer:
    """Some steps of the loop; made anew inside the loop's body, where its constants belong."""

    def __init__(self, one_step, weights, sampler, controls, *, may_filter):
        self.one_step, self.weights = one_step, weights
        self.sampler, self.may_filter = sampler, may_filter
        self.rules = one_step._rules(controls)

    def write(self, ids, state, inputs):
        """Feeds `ids` and draws the next, as often as there are inputs.

        Args:
          ids: int32 (batch,); state: the network's and the rules'.
          inputs: a dict of tensors (num_steps, batch, ...).

        Returns:
          the ids drawn last, the state, all ids that were fed (num_steps, batch), and the
          log-probabilities of those that were drawn.
        """
        memory, rules_state = state
        is_given = tf.unstack(inputs["given"] != PAD)
        inputs = {name: tf.unstack(value) for name, value in inputs.items()}
        fed, log_probs = [], []
        for k in range(len(is_given)):
            fed.append(ids)
            logits, memory = self.one_step.step(ids, memory, self.weights)
            logits = self.rules.limit(logits, rules_state, inputs["remaining"][k])
            drawn, log_prob = self.sampler.draw(
                logits, inputs["point"][k], may_filter=self.may_filter
            )
            ids = tf.where(is_given[k], inputs["given"][k], drawn)
            rules_state = self.rules.advance(rules_state, ids)
            log_probs.append(log_prob)
        return ids, (memory, rules_state), tf.stack(fed), tf.stack(log_probs)


def _pieces(ids, log_probs, prompt_length, stop, end_id):
    """What counts of ids (time, batch) and the log-probabilities (time - 1, batch) of all but
    the first: tokens (batch, time), length (batch,), log_prob (batch,).
    """
    position = tf.range(tf.shape(ids)[0])[:, None]
    is_end = tf.cast((ids == end_id) & (position >= prompt_length), tf.int32)
    exists = (position < stop) & (tf.cumsum(is_end, axis=0, exclusive=True) == 0)
    length = tf.reduce_sum(tf.cast(exists, tf.int32), axis=0)
    is_drawn = exists & (position >= prompt_length)
    log_prob = tf.reduce_sum(tf.where(is_drawn[1:], log_probs, 0.0), axis=0)
    tokens = tf.where(exists, ids, PAD)[: tf.reduce_max(length)]
    return tf.transpose(tokens), length, log_prob
