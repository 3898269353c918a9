"""What is served: the functions of an exported graph, each with its inputs checked.

A SavedModel is a graph and its weights, without Python. Its *signatures* are functions of their
inputs alone (the memory of a sequence and the seed go in and come out as tensors), so that any
number of servers and clients can share one:

    generate   prompt, num_tokens, temperature, top_k, top_p, seed -> tokens, length, log_prob,
               and the whole piece as `midi_bytes` or `text`; it is also `serving_default`
    generate_controlled      the same with wishes (music): pitch_classes, lowest_pitch,
               highest_pitch, max_notes_per_second, max_repeats
    step       token, state_0 ..., temperature, top_k, top_p, seed -> next_token, log_prob, state_0
    score      tokens -> log_prob
    describe   row -> tokenizer_json, card_json: what a client must know to write a prompt

Conventions: every input and output has the batch as its first axis, also where one value would
do (`row` may hold any number): only so do REST's row form and a server's batching work. `tokens`,
`midi_bytes` and `text` are whole pieces, prompt included; `num_tokens` counts what is drawn.

In `step`, states of zeros start a row. First come the network's (they travel as float32), then one
that counts the ids that were fed, so that stepping with one seed draws exactly what `generate`
draws (in a model of another precision, nearly so), then those of the grammar. With programs one of
these holds over 16,500 keys a row, up to 16,642: as JSON 50 kB of zeros and more, each way. `step`
does not know how many ids will follow, so it makes no room to close what sounds: near its end a
piece of `generate` differs.

A server compares neither shapes nor values with anything. So each input is checked in the graph
and refused with INVALID_ARGUMENT and a sentence that names it; `num_tokens` and the prompt have a
limit, because a server must not be made to loop for ever.

What this file does not do: it writes no file (`saved_model` does).

Reference: TF Serving's SavedModel conventions.
"""

from __future__ import annotations

import tensorflow as tf

from keras_music.generation.generator import is_text
from keras_music.generation.rules import Rules, wished_pitches
from keras_music.generation.sampling import sample, uniforms
from keras_music.generation.wishes import MOST_NOTES, WISHES
from keras_music.serving.smf import tokens_to_midi

CONTROLS = [
    tf.TensorSpec([None], tf.float32, name="temperature"),
    tf.TensorSpec([None], tf.int32, name="top_k"),
    tf.TensorSpec([None], tf.float32, name="top_p"),
    tf.TensorSpec([None], tf.int64, name="seed"),
]
WISH_SPECS = [
    tf.TensorSpec([None, 12] if name == "pitch_classes" else [None], tf.int32, name=name)
    for name in WISHES
]


class Signatures:
    """The functions that are exported, each with its inputs checked in the graph.

    Args:
      one_step: the `OneStep` to serve.
      weights: its weights as variables, nested as `one_step.weights()`.
      max_num_tokens: the most ids that a request may ask for, and the longest prompt.
      about: what `describe` answers, a dict of texts.
    """

    def __init__(self, one_step, weights, max_num_tokens, about):
        self.one_step = one_step
        self.weights = weights
        self.tokenizer = one_step.tokenizer
        self.max_num_tokens = max_num_tokens
        self.about = about
        rules = Rules(self.tokenizer, use_grammar=one_step.use_grammar)
        self.largest = rules.grammar.largest() if rules.grammar else {}
        self.rule_states = dict(sorted(rules.start(1).items()))

    def functions(self):
        """The signatures by name; the TensorSpecs' names are those of the served inputs."""
        if is_text(self.tokenizer):
            prompt = _spec("prompt", [None], tf.string)
        else:
            prompt = _spec("prompt", [None, None], tf.int32)
        states = [
            _spec(f"state_{i}", [None, *state.shape[1:]], tf.float32)
            for i, state in enumerate(self.one_step.initial_state(1))
        ]
        states.append(_spec(f"state_{len(states)}", [None], tf.int32))
        for state in self.rule_states.values():
            states.append(_spec(f"state_{len(states)}", [None, *state.shape[1:]], tf.int32))
        inputs = {
            "generate": [prompt, _spec("num_tokens", [None], tf.int32), *CONTROLS],
            "step": [_spec("token", [None], tf.int32), *CONTROLS, *states],
            "score": [_spec("tokens", [None, None], tf.int32)],
            "describe": [_spec("row", [None], tf.int32)],
        }
        inputs["generate_controlled"] = [*inputs["generate"], *WISH_SPECS]
        functions = {
            name: tf.function(_by_name(getattr(self, name), specs)).get_concrete_function(*specs)
            for name, specs in inputs.items()
            if name in signature_names(self.one_step)
        }
        return functions | {"serving_default": functions["generate"]}

    def generate(self, prompt, num_tokens, wishes=None, **controls):
        limit = (num_tokens >= 1) & (num_tokens <= self.max_num_tokens)
        message = f"`num_tokens` must be from 1 to {self.max_num_tokens}"
        checks = [*_check_controls(**controls), _check(limit, message, num_tokens)]
        checks += _check_wishes(**wishes) if wishes else []
        with tf.control_dependencies(checks):
            if is_text(self.tokenizer):
                prompt = self.tokenizer.encode_in_graph(prompt, self.max_num_tokens)
            prompt = self._check_ids("prompt", prompt, self.max_num_tokens)
        with tf.control_dependencies([self._is_one_piece(prompt)]):
            prompt = tf.identity(prompt)
        tokens, length, log_prob = self.one_step.loop(
            prompt, num_tokens, **controls, weights=self._weights(), controls=wishes
        )
        answer = {"tokens": tokens, "length": length, "log_prob": _check_scores(log_prob)}
        if is_text(self.tokenizer):
            answer["text"] = self.tokenizer.decode_in_graph(tokens)
        elif hasattr(self.tokenizer, "notes_in_graph"):
            answer["midi_bytes"] = tokens_to_midi(self.tokenizer, tokens)
        return answer

    def generate_controlled(self, **inputs):
        wishes = {name: inputs.pop(name) for name in WISHES}
        return self.generate(**inputs, wishes=wishes)

    def step(self, token, temperature, top_k, top_p, seed, **states):
        states = [states[f"state_{i}"] for i in range(len(states))]
        blank = self.one_step.initial_state(1)
        num = len(blank)  # states of the network; then the counter, then those of the rules
        rule_states = dict(zip(self.rule_states, states[num + 1 :], strict=True))
        checks = [
            *_check_controls(temperature, top_k, top_p),
            *self._check_states(states, num),
            self._in_vocabulary("token", token, 1),
        ]
        # The state travels as float32, whatever the model computes in: any client can send that.
        own = [tf.cast(s, zero.dtype) for s, zero in zip(states, blank, strict=False)]
        with tf.control_dependencies(checks):
            token = tf.identity(token)
            logits, new = self.one_step.step(token, own, self._weights())
            rules = Rules(self.tokenizer, use_grammar=self.one_step.use_grammar)
            ruled = rules.advance(rule_states, token)
        logits = rules.limit(logits, ruled, tf.fill(tf.shape(token), tf.int32.max))
        fed = states[num] + 1
        next_token, log_prob = sample(logits, uniforms(seed, fed), temperature, top_k, top_p)
        answer = {"next_token": next_token, "log_prob": _check_scores(log_prob)}
        new = [tf.cast(state, tf.float32) for state in new]
        new += [fed, *(ruled[name] for name in self.rule_states)]
        return answer | {f"state_{i}": state for i, state in enumerate(new)}

    def _check_states(self, states, num):
        """That the network's states are finite, the counter one, and the rules' in their range."""
        checks = [
            _check(tf.math.is_finite(state), f"`state_{i}` must hold finite numbers")
            for i, state in enumerate(states[:num])
        ]
        largest = [tf.int32.max - 1, *(self.largest[name] for name in self.rule_states)]
        return checks + [
            _check((state >= 0) & (state <= most), f"`state_{i}` must be from 0 to {most}", state)
            for i, (state, most) in enumerate(zip(states[num:], largest, strict=True), num)
        ]

    def score(self, tokens):
        # What `generate` wrote can be scored: a prompt and its continuation.
        ids = self._check_ids("tokens", tokens, 2 * self.max_num_tokens)
        return {"log_prob": _check_scores(self.one_step.score(ids, self._weights()))}

    def describe(self, row):
        return {name: tf.fill(tf.shape(row), text) for name, text in self.about.items()}

    def example(self):
        """A prompt that the model understands, and how much may be asked for, for the warm-up."""
        start = self.one_step.start_id
        usual = [i for i in range(self.tokenizer.vocab_size) if i not in self._special()]
        ids = ([] if start is None else [start]) + usual[:2]
        ids = ids[: self.max_num_tokens]
        text = self.tokenizer.decode(ids) if is_text(self.tokenizer) else ""
        return {
            "example_ids": ids,
            "example_text": text,
            "num_tokens": min(8, self.max_num_tokens),
        }

    def _special(self):
        return 0, self.one_step.start_id, self.one_step.end_id

    def _weights(self):
        """Read once, before any loop."""
        return tf.nest.map_structure(tf.convert_to_tensor, self.weights)

    def _is_one_piece(self, ids):
        """A prompt begins with START and holds no second START and no END, as in Python."""
        start, end = self.one_step.start_id, self.one_step.end_id
        rules = [tf.constant(True)]
        rules += [] if start is None else [ids[:, :1] == start, ids[:, 1:] != start]
        rules += [] if end is None else [ids[:, 1:] != end]
        return _check(
            tf.stack([tf.reduce_all(rule) for rule in rules]),
            f"`prompt` must begin with START ({start}) and hold no other START or END ({end})",
        )

    def _check_ids(self, name, ids, longest):
        """Ids (batch, time) once it is known that every row is an id row padded at its end."""
        is_pad = ids == 0
        checks = [
            _check(tf.shape(ids)[1] > 0, f"`{name}` must hold at least one id a row"),
            _check(tf.shape(ids)[1] <= longest, f"`{name}` must hold at most {longest} ids a row"),
            self._in_vocabulary(name, ids, 0),
        ]
        with tf.control_dependencies(checks):
            ids = tf.identity(ids)
        more = [
            _check(ids[:, 0] != 0, f"`{name}` must begin with an id, not with padding (0)"),
            _check(
                ~is_pad[:, :-1] | is_pad[:, 1:], f"`{name}` must have padding (0) only at the end"
            ),
        ]
        with tf.control_dependencies(more):
            return tf.identity(ids)

    def _in_vocabulary(self, name, ids, low):
        high = self.tokenizer.vocab_size - 1
        return _check(
            (ids >= low) & (ids <= high), f"`{name}` must hold ids from {low} to {high}", ids
        )


def signature_names(one_step):
    """What is served of a generator, sorted; `serving_default` is `generate`."""
    names = ["describe", "generate", "score", "step"]
    return sorted(names + (["generate_controlled"] if one_step.takes_wishes else []))


def _spec(name, shape, dtype):
    return tf.TensorSpec(shape, dtype, name=name)


def _by_name(function, specs):
    """`function`, which takes its inputs by name, as one that takes checked ones in order."""
    names = [spec.name for spec in specs]

    def served(*tensors):
        inputs = dict(zip(names, tensors, strict=True))
        return function(**_rows(specs, inputs))

    return served


def _check(condition, message, shown=None):
    """An op that fails with INVALID_ARGUMENT and this sentence unless all of it is true."""
    data = [message + "."] if shown is None else [message + ". Received:", shown]
    return tf.debugging.Assert(tf.reduce_all(condition), data, summarize=8)


def _check_scores(log_prob):
    """The log-probabilities, once it is known that the weights gave numbers."""
    with tf.control_dependencies(
        [_check(log_prob <= 0, "The scores of the model are not numbers")]
    ):
        return tf.identity(log_prob)


def _check_controls(temperature, top_k, top_p, seed=None):
    finite = tf.math.is_finite(temperature)
    return [
        _check((temperature >= 0) & finite, "`temperature` must be >= 0 and finite", temperature),
        _check(top_k >= 0, "`top_k` must be >= 0", top_k),
        _check((top_p > 0) & (top_p <= 1), "`top_p` must be above 0 and at most 1", top_p),
    ]


def _check_wishes(pitch_classes, lowest_pitch, highest_pitch, max_notes_per_second, max_repeats):
    is_flag = (pitch_classes == 0) | (pitch_classes == 1)
    is_range = (lowest_pitch >= 0) & (lowest_pitch <= highest_pitch) & (highest_pitch <= 127)
    has_class = tf.reduce_any(pitch_classes == 1, 1)
    has_pitch = tf.reduce_any(wished_pitches(pitch_classes, lowest_pitch, highest_pitch), 1)
    ceiling = max_notes_per_second
    return [
        _check(is_flag, "`pitch_classes` must hold 0 and 1 only, for C, C sharp ... B"),
        _check(has_class, "`pitch_classes` must hold a 1 in each row"),
        _check(
            is_range,
            "`lowest_pitch` and `highest_pitch` must be from 0 to 127, the lowest first",
            tf.stack([lowest_pitch, highest_pitch]),
        ),
        _check(
            has_pitch | ~has_class | ~is_range,
            "`pitch_classes` must leave a pitch from `lowest_pitch` to `highest_pitch`",
            tf.stack([lowest_pitch, highest_pitch]),
        ),
        _check(
            (ceiling >= 0) & (ceiling <= MOST_NOTES),
            f"`max_notes_per_second` must be from 0 (no limit) to {MOST_NOTES}",
            ceiling,
        ),
        _check(max_repeats >= 0, "`max_repeats` must be >= 0", max_repeats),
    ]


def _rows(specs, inputs):
    """The inputs, once it is known that each has the axes of its spec, and all the same rows.

    A server does not compare shapes with the signature. `tf.ensure_shape` stays in the graph and
    refuses with "Shape of tensor prompt [1,2,3] is not compatible with expected shape [?,?]".
    """
    first = specs[0].name
    tensors = {s.name: tf.ensure_shape(inputs[s.name], s.shape, name=s.name) for s in specs}
    batch = tf.shape(tensors[first])[0]
    checks = [_check(batch > 0, f"`{first}` must have at least one row")]
    checks += [
        _check(tf.shape(tensor)[0] == batch, f"`{name}` must have as many rows as `{first}`")
        for name, tensor in tensors.items()
    ]
    with tf.control_dependencies(checks):
        return {name: tf.identity(tensor) for name, tensor in tensors.items()}
