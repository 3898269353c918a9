"""The ladder of predictors, with sums that can be done by hand."""

import keras
import numpy as np
import pytest

import keras_music as km
from keras_music.evaluation import ladder, model_loss, repeat_last, uniform, unigram
from keras_music.evaluation.likelihood import nats_per_frame, token_losses
from keras_music.tokenizers import ChoraleTokenizer, PerformanceTokenizer


def test_uniform():
    assert uniform(391) == pytest.approx(np.log(391))


def test_unigram_counts_targets_and_adds_one():
    """Targets of training: 3, 3, 4. With one added: 3 -> 3/8, 4 -> 2/8, others 1/8 (5 ids)."""
    train, held_out = [[1, 3, 3, 4]], [[1, 3, 2]]
    expected = -(np.log(3 / 8) + np.log(1 / 8)) / 2
    assert unigram(_rows(train), _rows(held_out), 5) == pytest.approx(expected)


def test_unigram_counts_repeats_as_well():
    """Of the targets 3, 3, 2 the second 3 is one like any other."""
    expected = -(2 * np.log(3 / 8) + np.log(1 / 8)) / 3
    assert unigram(_rows([[1, 3, 3, 4]]), _rows([[1, 3, 3, 2]]), 5) == pytest.approx(expected)


def test_repeat_last():
    """Training repeats once in 3: rate (1 + 1) / (3 + 2). Held out: one repeat, one change."""
    train, held_out = [[1, 3, 3, 4]], [[3, 3, 4]]
    change = (1 - 2 / 5) * (2 / 8) / (1 - 3 / 8)
    expected = -(np.log(2 / 5) + np.log(change)) / 2
    assert repeat_last(_rows(train), _rows(held_out), 5) == pytest.approx(expected)


def test_the_repeater_is_a_distribution():
    """Over all ids that could follow, its probabilities sum to 1."""
    train = _rows([[1, 3, 3, 4, 4, 4, 2]])
    masses = [np.exp(-repeat_last(train, _rows([[4, after]]), 6)) for after in range(6)]
    assert sum(masses) == pytest.approx(1)


def test_rows_may_be_lists():
    """`before != after` of two lists is one bool, which once ended in NumPy's words."""
    train, held_out = [[1, 3, 3, 4], [2]], [[3, 3, 4], []]
    for predict in (unigram, repeat_last):
        assert predict(train, held_out, 5) == predict(_rows(train), _rows(held_out), 5)


@pytest.mark.parametrize("predict", [unigram, repeat_last])
@pytest.mark.parametrize(
    ("train", "held_out", "sentence"),
    [
        ([[1, 2, 4]], [[1, 2]], r"ids from 0 to 3, .* Received: \[1, 2, 4\]"),
        ([[1, 2]], [[1, -1]], r"ids from 0 to 3, .* Received: \[1, -1\]"),
        ([[1, 2]], [[1.5, 2.0]], "Each row must be a list of ids"),
        ([1, 2], [[1, 2]], "Each row must be a list of ids .* Received: 1"),
        ([], [], "`held_out` must have an id that follows another"),
        ([[1, 2]], [[1]], "`held_out` must have an id that follows another"),
    ],
)
def test_rows_that_cannot_be_counted(predict, train, held_out, sentence):
    with pytest.raises(ValueError, match=sentence):
        predict(train, held_out, 4)


def test_a_dataset_without_a_target_has_no_loss():
    model = km.build_model(5, units=2, embedding_dim=2)
    padding = (np.array([[3, 0]], np.int32), np.array([[0, 0]], np.int32))
    for dataset in ([], [padding]):
        for loss in (model_loss, token_losses):
            with pytest.raises(ValueError, match="`dataset` must have a target that is not"):
                loss(model, dataset)


def test_repeats_are_better_foretold_by_the_repeater():
    rows = _rows([[3, 3, 3, 3, 4, 4, 4, 4, 4, 5, 5, 5, 5]])
    assert repeat_last(rows, rows, 6) < unigram(rows, rows, 6) < uniform(6)


def test_model_loss_is_the_mean_over_all_targets():
    """By hand with NumPy: windows of different fillings, weighted by their targets; no dropout."""
    keras.utils.set_random_seed(0)
    model = km.build_model(12, units=4, embedding_dim=3, dropout=0.5)
    tokenizer = km.tokenizers.CharTokenizer("abcdefghi")
    texts = ["abcabcabc", "ihg"]
    sums, count = 0.0, 0
    for text in texts:
        ids = tokenizer.encode(text)
        for start in range(0, len(ids) - 1, 4):
            window = ids[start : start + 5]
            logits = model(window[None, :-1]).numpy()[0].astype(np.float64)
            log_prob = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            sums -= log_prob[np.arange(len(window) - 1), window[1:]].sum()
            count += len(window) - 1
    dataset = km.make_dataset(texts, tokenizer, sequence_length=4, batch_size=2)
    assert model_loss(model, dataset) == pytest.approx(sums / count, rel=1e-5)


def test_the_ladder_of_an_untrained_model():
    tokenizer = km.tokenizers.CharTokenizer("abcdefghi")
    model = km.build_model(12, units=4, embedding_dim=3)
    losses = ladder(model, tokenizer, ["aaaaab"] * 5, ["aab"], sequence_length=4)
    assert list(losses.index) == ["uniform", "unigram", "repeat the last token", "model"]
    assert losses["model"] == pytest.approx(np.log(12), rel=0.05)
    assert losses["unigram"] < losses["uniform"]


def test_the_ladder_learns_from_the_one_and_is_asked_about_the_other():
    """A predictor that has counted the held-out corpus would look better than any network."""
    tokenizer = km.tokenizers.CharTokenizer("abc")
    keras.utils.set_random_seed(0)
    model = km.build_model(6, units=4, embedding_dim=3)
    model.set_weights([4 * weights for weights in model.get_weights()])  # far from uniform
    train, held_out = ["aaaab", "ab"], ["cbbcbbcba"]
    losses = ladder(model, tokenizer, train, held_out, sequence_length=4, batch_size=2)
    rows = [[tokenizer.encode(text) for text in texts] for texts in (train, held_out)]
    windows = km.make_dataset(held_out, tokenizer, sequence_length=4)
    assert losses.to_dict() == pytest.approx(
        {
            "uniform": np.log(6),
            "unigram": unigram(*rows, 6),
            "repeat the last token": repeat_last(*rows, 6),
            "model": model_loss(model, windows),
        },
        rel=1e-6,
    )
    assert losses["unigram"] > losses["uniform"]  # what it knows of "a" is of no use
    assert losses["model"] != pytest.approx(
        model_loss(model, km.make_dataset(held_out, tokenizer)), rel=1e-3
    )


def _rows(rows):
    return [np.array(row, np.int32) for row in rows]


def test_one_text_is_one_piece_for_all_predictors():
    tokenizer = km.tokenizers.CharTokenizer("abc")
    model = km.build_model(6, units=4, embedding_dim=3)
    one = ladder(model, tokenizer, "aabca", "abc", sequence_length=4)
    assert one.equals(ladder(model, tokenizer, ["aabca"], iter(["abc"]), sequence_length=4))


def test_the_frame_is_the_sum_of_its_voices():
    """Two voices, two frames of 1.5 and 2.5 nats; what `END` and padding cost is no frame's."""
    tokenizer = ChoraleTokenizer(num_voices=2)
    targets = tokenizer.encode(
        km.Piece({"pitch": [67, 48], "start": 0, "end": 0.25, "track": [0, 1]})
    )[1:]
    assert targets.tolist() == [72, 53, 4, 4, 2]
    assert nats_per_frame([1.0, 0.5, 2.0, 0.5, 9.0], targets, tokenizer) == 2.0
    windows = np.array([[72, 53, 4], [4, 2, 0]])  # the second begins in the middle of a frame
    assert nats_per_frame([[1.0, 0.5, 2.0], [0.5, 9.0, 7.0]], windows, tokenizer) == 2.0


def test_nats_per_frame_of_a_model():
    """A model that knows nothing takes ln 133 a token, thus four times as much a frame.

    The targets are those of the pieces, each once, whatever the windows.
    """
    tokenizer = ChoraleTokenizer()
    pieces = [km.Piece({"pitch": 60 + np.arange(n), "start": np.arange(n), "end": 1 + np.arange(n)})
              for n in (2, 5)]  # fmt: skip
    model = km.build_model(tokenizer.vocab_size, units=4, embedding_dim=3)
    dataset = km.make_dataset(pieces, tokenizer, sequence_length=7, batch_size=4)
    losses, targets = token_losses(model, dataset)
    expected = np.concatenate([tokenizer.encode(piece)[1:] for piece in pieces])
    assert sorted(targets) == sorted(expected)
    assert losses.mean() == pytest.approx(model_loss(model, dataset))
    frames = sum(len(tokenizer.frames(tokenizer.encode(piece))) for piece in pieces)
    total = losses[targets != tokenizer.end_id].sum()
    assert nats_per_frame(losses, targets, tokenizer) == pytest.approx(total / frames, rel=1e-5)
    assert total / frames == pytest.approx(4 * np.log(133), rel=0.05)


def test_only_voices_have_frames():
    with pytest.raises(ValueError, match="`tokenizer` must have frames.* PerformanceTokenizer"):
        nats_per_frame([1.0], [5], PerformanceTokenizer())
    with pytest.raises(ValueError, match="`targets` must hold a token of a voice. Received: none"):
        nats_per_frame([1.0], [2], ChoraleTokenizer())
