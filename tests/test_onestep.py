"""One step, repeated: the same numbers as the whole sequence, and a loop that keeps its word."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_music as km
from keras_music.generation.generator import pad_rows

TOKENIZER = km.tokenizers.CharTokenizer("abcdefghijklmnopqrstuvwxyz ")
VOCAB_SIZE = TOKENIZER.vocab_size


def build(cell="gru", layers=1, seed=0, **kwargs):
    keras.utils.set_random_seed(seed)
    settings = {"embedding_dim": 8, "units": 32} | kwargs
    model = km.build_model(VOCAB_SIZE, cell=cell, layers=layers, **settings)
    for layer in model.layers:  # a network with opinions: untrained ones find all ids alike
        if isinstance(layer, keras.layers.Dense):
            layer.kernel.assign(layer.kernel * 8)
    return model


@pytest.fixture(scope="module")
def one_step():
    return km.OneStep(build(), TOKENIZER)


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_step_repeated_equals_the_whole_sequence(cell, layers):
    """float32, 60 steps, dropout layers in place: at most 1e-5 apart."""
    model = build(cell, layers, dropout=0.2)
    one_step = km.OneStep(model, TOKENIZER)
    ids = np.random.default_rng(0).integers(1, VOCAB_SIZE, (5, 60)).astype(np.int32)
    whole = model(ids, training=False).numpy()
    state, stepped = None, []
    for t in range(60):
        logits, state = one_step.step(ids[:, t], state)
        stepped.append(logits.numpy())
    assert np.abs(np.stack(stepped, axis=1) - whole).max() <= 1e-5
    assert all(tensor.shape == (5, 32) for tensor in state)
    assert len(state) == layers * (2 if cell == "lstm" else 1)


def test_other_layers_that_see_one_moment_can_be_stepped():
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(VOCAB_SIZE, 8),
            keras.layers.LayerNormalization(),
            keras.layers.RNN([keras.layers.GRUCell(7), keras.layers.LSTMCell(6)], True),
            keras.layers.Dense(9, activation="relu"),
            keras.layers.Dense(VOCAB_SIZE),
        ]
    )
    one_step = km.OneStep(model, TOKENIZER)
    ids = np.random.default_rng(0).integers(1, VOCAB_SIZE, (2, 10))
    state = None
    for t in range(10):
        logits, state = one_step.step(ids[:, t], state)
    np.testing.assert_allclose(logits, model(ids)[:, -1], atol=1e-5)


def test_score_is_the_log_softmax_of_the_whole_sequence(one_step):
    tokens = pad_rows([[1, 5, 6, 7, 2], [1, 9, 9]])
    scores = one_step.score(tf.constant(tokens)).numpy()
    whole = tf.nn.log_softmax(one_step.model(tokens)).numpy()
    for row, length in ((0, 5), (1, 3)):
        expected = [whole[row, t, tokens[row, t + 1]] for t in range(length - 1)]
        np.testing.assert_allclose(scores[row], [0, *expected] + [0] * (5 - length), atol=1e-5)


class CountingCell(keras.layers.Layer):
    """A cell without weights whose memory is the sum of its inputs: a fake model's heart."""

    state_size = 1
    output_size = 1

    def call(self, inputs, states, training=False):
        total = states[0] + inputs
        return total, [total]


def fake_one_step(tokenizer, logits_of):
    """A OneStep whose next scores are `logits_of(sum of the ids so far)`: known by hand."""
    vocab_size = tokenizer.vocab_size
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            keras.layers.Embedding(vocab_size, 1),
            keras.layers.RNN(CountingCell(), return_sequences=True),
            keras.layers.Dense(100),
            keras.layers.Dense(vocab_size),
        ]
    )
    model.layers[0].set_weights([np.arange(vocab_size, dtype=np.float32)[:, None]])
    one_step = km.OneStep(model, tokenizer)
    step = one_step.step

    def fake(ids, state=None, weights=None):
        _, state = step(ids, state, weights)
        return logits_of(state[0][:, 0]), state

    one_step.step = fake
    return one_step


def test_the_loop_with_a_model_known_by_hand():
    """Ids a=3 b=4 c=5 d=6. The next id is 3 + (sum so far) % 4; 1 is START.

    START b: sum 5 -> 4 (b), sum 9 -> 4 (b), sum 13 -> 4 (b) ...
    START a a: sum 7 -> 6 (d), sum 13 -> 4 (b), sum 17 -> 4 (b).
    """
    tokenizer = km.tokenizers.CharTokenizer("abcd")

    def logits_of(total):
        return tf.one_hot(3 + tf.cast(total, tf.int32) % 4, tokenizer.vocab_size) * 50.0

    fake = fake_one_step(tokenizer, logits_of)
    assert fake.generate(["b", "aa"], num_tokens=3) == ["bbbb", "aadbb"]
    assert fake.generate(["b", "aa"], num_tokens=[1, 3]) == ["bb", "aadbb"]
    written = fake.generate_tokens(["b", "aa"], num_tokens=[1, 3])
    assert written.tokens.tolist() == [[1, 4, 4, 0, 0, 0], [1, 3, 3, 6, 4, 4]]
    assert written.length.tolist() == [3, 6]


def test_a_row_ends_with_end_and_the_others_go_on():
    """The next id is END (2) once the sum reaches 10, else a (3)."""
    tokenizer = km.tokenizers.CharTokenizer("abcd")

    def logits_of(total):
        return tf.one_hot(tf.where(total >= 10, 2, 3), tokenizer.vocab_size) * 50.0

    fake = fake_one_step(tokenizer, logits_of)
    written = fake.generate_tokens(["a", "dd", None], num_tokens=20)
    assert written.tokens.tolist() == [
        [1, 3, 3, 3, 2],
        [1, 6, 6, 2, 0],
        [1, 3, 3, 3, 2],
    ]
    assert written.length.tolist() == [5, 4, 5]
    assert fake.generate(["a", "dd", None], num_tokens=20) == ["aaa", "dd", "aaa"]


def test_pad_and_start_are_never_drawn():
    """Even by a model that wants nothing else."""
    tokenizer = km.tokenizers.CharTokenizer("abcd")

    def logits_of(total):
        return tf.tile([[90.0, 80.0, -5.0, 1.0, 1.0, 1.0, 1.0]], [tf.size(total), 1])

    fake = fake_one_step(tokenizer, logits_of)
    for temperature in (0.0, 1.0, 50.0):
        written = fake.generate_tokens([None] * 50, num_tokens=40, temperature=temperature)
        drawn = written.tokens[:, 1:]
        assert not (drawn == 1).any()
        assert ((drawn != 0).sum(axis=1) + 1 == written.length).all()


PROMPTS = ["hello", "a", "to be or not to be", None] * 16


def test_alone_or_among_64_the_same_seed_gives_the_same_tokens(one_step):
    settings = [(0.7, 0, 1.0), (1.0, 5, 1.0), (1.3, 0, 0.8), (0.0, 0, 1.0)] * 16
    temperature, top_k, top_p = zip(*settings, strict=True)
    lengths = [40 + i for i in range(64)]
    seeds = [7 * i for i in range(64)]
    together = one_step.generate_tokens(PROMPTS, lengths, temperature, top_k, top_p, seeds)
    for i in range(64):
        alone = one_step.generate_tokens(
            PROMPTS[i], lengths[i], temperature[i], top_k[i], top_p[i], seeds[i]
        )
        assert together.tokens[i, : together.length[i]].tolist() == alone.tokens[0].tolist()
        assert together.log_prob[i] == pytest.approx(alone.log_prob[0], abs=1e-3)


def test_a_prompt_is_never_overwritten(one_step):
    texts = one_step.generate(["hello world", "x"], num_tokens=[1, 30], seed=5)
    assert texts[0].startswith("hello world")
    assert texts[1].startswith("x")
    assert len(texts[0]) <= len("hello world") + 1


def test_seeds(one_step):
    same = [one_step.generate("a", num_tokens=30, seed=3) for _ in range(2)]
    assert same[0] == same[1]
    assert one_step.generate("a", num_tokens=30, seed=4) != same[0]
    rows = one_step.generate(["a"] * 3, num_tokens=30, seed=3)  # row i has seed 3 + i
    assert rows[0] == same[0]
    assert rows[1] == one_step.generate("a", num_tokens=30, seed=4)
    assert one_step.generate(["a", "a"], num_tokens=30, seed=[3, 3]) == same


def test_temperature_0_and_top_k_1_are_greedy(one_step):
    greedy = one_step.generate(["abc", "x"], num_tokens=30, temperature=0)
    assert one_step.generate(["abc", "x"], num_tokens=30, top_k=1, seed=99) == greedy
    assert one_step.generate(["abc", "x"], num_tokens=30, top_p=1e-6, seed=9) == greedy
    tokens = one_step.generate_tokens("abc", num_tokens=5, temperature=0).tokens
    expected = one_step.model(tokens)[0].numpy()
    expected[:, :2] = -np.inf
    assert tokens[0, 4:].tolist() == expected[3:-1].argmax(axis=-1).tolist()


def test_log_prob_is_that_of_the_distribution_drawn_from(one_step):
    """At temperature 1 without filters it is the model's own, less the mass of PAD and START."""
    written = one_step.generate_tokens("abc", num_tokens=25, seed=1)
    logits = one_step.model(written.tokens)[0].numpy()
    logits[:, :2] = -np.inf
    log_prob = tf.nn.log_softmax(logits).numpy()
    drawn = range(4, written.length[0])
    expected = sum(log_prob[t - 1, written.tokens[0, t]] for t in drawn)
    assert written.log_prob[0] == pytest.approx(expected, abs=1e-3)


def test_prompts_may_be_ids_and_pieces():
    tokenizer = km.tokenizers.PerformanceTokenizer()
    model = km.build_model(tokenizer.vocab_size, units=8, embedding_dim=4)
    one_step = km.OneStep(model, tokenizer)
    piece = km.Piece([{"pitch": 60, "start": 0.0, "end": 0.5}])
    ids = tokenizer.encode(piece)[:-1]
    written = one_step.generate_tokens(piece, num_tokens=20, seed=1)
    assert written.tokens[0, : len(ids)].tolist() == ids.tolist()
    for same in (ids, ids.tolist()):
        assert (one_step.generate_tokens(same, 20, seed=1).tokens == written.tokens).all()
    assert isinstance(one_step.generate(piece, 20), km.Piece)
    assert [type(p) for p in one_step.generate([piece, ids], 20)] == [km.Piece, km.Piece]


class TwoWords:
    """A user's own tokenizer: the least that generating and exporting need."""

    vocab_size = 3
    vocabulary = ("PAD", "la", "le")

    def encode(self, text):
        return np.array([self.vocabulary.index(word) for word in text.split()], np.int32)

    def decode(self, ids):
        return " ".join(self.vocabulary[i] for i in ids if i)

    def save(self, path):
        path.write_text("{}")


def test_a_tokenizer_of_ones_own(tmp_path):
    one_step = km.OneStep(km.build_model(3, units=4), TwoWords())
    text = one_step.generate("la le", num_tokens=5, seed=1)
    assert text.startswith("la le ")
    assert len(text.split()) == 7
    with pytest.raises(ValueError, match="`prompt` must be given"):
        one_step.generate()
    path = km.export(one_step, tmp_path)
    assert km.load(path, tokenizer=TwoWords()).generate("la le", num_tokens=5, seed=1) == text


def test_what_was_written_can_be_a_prompt_again(one_step):
    """Padding and END at the end of a row are dropped."""
    written = one_step.generate_tokens(["ab", "abcdef"], num_tokens=3, seed=1)
    more = one_step.generate_tokens(written.tokens, num_tokens=4, seed=1)
    ends = written.tokens == TOKENIZER.end_id
    for row in range(2):
        kept = written.length[row] - ends[row].sum()
        assert more.tokens[row, :kept].tolist() == written.tokens[row, :kept].tolist()


def test_training_on_changes_what_is_generated(one_step):
    model = build(seed=1)
    fresh = km.OneStep(model, TOKENIZER)
    before = fresh.generate("a", num_tokens=40, seed=1)
    model.layers[-1].bias.assign(np.eye(VOCAB_SIZE, dtype=np.float32)[5] * 100)
    assert fresh.generate("a", num_tokens=40, seed=1) != before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"temperature": -1}, "`temperature` must be >= 0. Received: temperature=-1"),
        ({"temperature": float("nan")}, "`temperature` must be >= 0. Received: temperature=nan"),
        ({"temperature": float("inf")}, "`temperature` must be >= 0"),
        ({"temperature": "hot"}, "`temperature` must be >= 0. Received: temperature='hot'"),
        ({"temperature": 1e39}, "`temperature` must be >= 0"),
        ({"top_k": -1}, "`top_k` must be a whole number from 0 to 2147483647. Received: top_k=-1"),
        ({"top_k": 1.5}, "`top_k` must be a whole number from 0 .* Received: top_k=1.5"),
        ({"top_p": 0.0}, "`top_p` must be above 0 and at most 1. Received: top_p=0.0"),
        ({"top_p": 1.01}, "`top_p` must be above 0 and at most 1"),
        ({"num_tokens": 0}, "`num_tokens` must be a whole number from 1 .* Received: num_tokens=0"),
        ({"seed": 0.5}, "`seed` must be a whole number from -9223372036854775808 .* seed=0.5"),
        ({"seed": [1, 2]}, "`seed` must be one value, or one for each of the 1 prompts"),
        ({"prompt": "Ä"}, "`text` must be written in the tokenizer's characters. Received: 'Ä'"),
        ({"prompt": []}, "`prompt` must hold at least one prompt"),
        ({"prompt": [1, 0, 5]}, "`prompt` must hold one piece: no PAD, START or END inside"),
        ({"prompt": [1, 2, 5]}, "`prompt` must hold one piece: no PAD, START or END inside"),
        ({"prompt": [1, 1]}, "`prompt` must hold one piece: no PAD, START or END inside"),
        ({"prompt": [5, 6]}, r"`prompt` must begin with START \(1\). Received: \[5, 6\]"),
        ({"prompt": [1, 999]}, r"`prompt` must be ids from 0 to 29, shape \(time,\)"),
        ({"prompt": [1.5, 2]}, "`prompt` must be ids from 0 to 29"),
        (
            {"num_tokens": 2**32 + 3},
            "`num_tokens` must be a whole number from 1 to 1000000. Received: num_tokens=42",
        ),
        ({"top_k": 2**32 + 1}, "`top_k` must be a whole number from 0 to 2147483647"),
        ({"seed": 2**63}, "`seed` must be a whole number from -9223372036854775808 to 9223372036"),
    ],
)
def test_errors(one_step, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        one_step.generate(**arguments)


def test_a_model_that_has_diverged_is_named():
    model = build()
    model.layers[-1].bias.assign(np.full(VOCAB_SIZE, np.nan))
    with pytest.raises(ValueError, match="`model` gave scores that are not numbers"):
        km.OneStep(model, TOKENIZER).generate("a", num_tokens=3)


def test_models_that_cannot_be_stepped_are_refused():
    def sequential(*layers):
        embedding = keras.layers.Embedding(VOCAB_SIZE, 4)
        return keras.Sequential([keras.Input((None,), dtype="int32"), embedding, *layers])

    dense = keras.layers.Dense(VOCAB_SIZE)
    both_ways = keras.layers.Bidirectional(keras.layers.GRU(4, return_sequences=True))
    with pytest.raises(ValueError, match=r"Bidirectional\) cannot be stepped"):
        km.OneStep(sequential(both_ways, dense), TOKENIZER)
    with pytest.raises(ValueError, match="must read forwards"):
        backwards = keras.layers.GRU(4, return_sequences=True, go_backwards=True)
        km.OneStep(sequential(backwards, keras.layers.Dense(VOCAB_SIZE)), TOKENIZER)
    with pytest.raises(ValueError, match="answer at every moment"):
        km.OneStep(sequential(keras.layers.GRU(4), keras.layers.Dense(VOCAB_SIZE)), TOKENIZER)
    with pytest.raises(ValueError, match=r"`model` must give logits of shape \(batch, time, 30\)"):
        km.OneStep(km.build_model(31, units=4), TOKENIZER)
    softmax = keras.layers.Dense(VOCAB_SIZE, activation="softmax")
    gru = keras.layers.GRU(4, return_sequences=True)
    with pytest.raises(ValueError, match="must end with scores .* from a softmax"):
        km.OneStep(sequential(gru, softmax), TOKENIZER)
    with pytest.raises(ValueError, match="`model` must be built"):
        km.OneStep(keras.Sequential([keras.layers.Embedding(30, 4), dense]), TOKENIZER)
    with pytest.raises(ValueError, match="`tokenizer` must be the tokenizer .*Received: None"):
        km.OneStep(build(), None)
    ids = keras.Input((None,), dtype="int32")
    functional = keras.Model(ids, keras.layers.Embedding(VOCAB_SIZE, VOCAB_SIZE)(ids))
    with pytest.raises(ValueError, match="`model` must be a keras.Sequential"):
        km.OneStep(functional, TOKENIZER)
