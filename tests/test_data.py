"""The pipeline: each id is asked for exactly once, in windows of one piece."""

import keras
import numpy as np
import pytest
import shard_files
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music import data
from keras_music.data import encode_all, make_dataset, window_report, windows
from keras_music.records import open_shards


class Ids:
    """A tokenizer whose pieces are id rows already: the least that `make_dataset` asks for."""

    def encode(self, piece):
        return np.array(piece, np.int32)


def batches(*args, **kwargs):
    return [(x.tolist(), y.tolist()) for x, y in make_dataset(*args, **kwargs).as_numpy_iterator()]


def test_windows_of_two_pieces_and_their_targets():
    assert batches([[1, 5, 6, 7, 8, 2], [1, 9, 2]], Ids(), sequence_length=3, batch_size=2) == [
        ([[1, 5, 6], [7, 8, 2]], [[5, 6, 7], [8, 2, 0]]),
        ([[1, 9, 2]], [[9, 2, 0]]),
    ]


def test_one_long_text():
    tokenizer = km.tokenizers.CharTokenizer("abc")
    for text in ("abcabc", ["abcabc"]):
        assert batches(text, tokenizer, sequence_length=4, batch_size=9) == [
            ([[1, 3, 4, 5], [3, 4, 5, 2]], [[3, 4, 5, 3], [4, 5, 2, 0]])
        ]


def test_sizes_may_be_numpys():
    assert batches([[1, 5, 2]], Ids(), np.int64(2), np.int32(1)) == [([[1, 5]], [[5, 2]])]


def test_a_window_that_fits_exactly_has_no_empty_neighbour():
    assert windows(tf.constant([1, 5, 6, 2]), 3).numpy().tolist() == [[1, 5, 6, 2]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(1, 99), min_size=2, max_size=40), min_size=1, max_size=6),
    st.integers(1, 12),
    st.integers(1, 5),
)
def test_every_id_but_the_first_is_a_target_once(pieces, sequence_length, batch_size):
    """And a window never holds ids of two pieces: read in order, pieces come back whole."""
    dataset = make_dataset(pieces, Ids(), sequence_length, batch_size)
    assert len(list(dataset)) == dataset.cardinality()
    inputs = np.concatenate([x for x, _ in dataset.as_numpy_iterator()])
    targets = np.concatenate([y for _, y in dataset.as_numpy_iterator()])
    assert (inputs[:, 1:] == targets[:, :-1]).all()  # one sequence, shifted
    assert targets[targets != 0].tolist() == [i for piece in pieces for i in piece[1:]]


def test_shuffle_is_seeded_and_new_each_epoch():
    pieces = [[1, 10 + i] for i in range(50)]
    first = make_dataset(pieces, Ids(), 1, 50, seed=3)
    second = make_dataset(pieces, Ids(), 1, 50, seed=3)
    other = make_dataset(pieces, Ids(), 1, 50, seed=4)

    def epoch(dataset):
        return next(iter(dataset))[1].numpy().ravel().tolist()

    one, two = epoch(first), epoch(first)
    assert one != two
    assert sorted(one) == sorted(two) == list(range(10, 60))
    assert [epoch(second), epoch(second)] == [one, two]
    assert epoch(other) != one
    # The buffer holds all windows: any of them may come first.
    starts = {epoch(first)[0] for _ in range(40)}
    assert min(starts) < 20
    assert max(starts) > 49


def test_thousands_of_windows_are_shuffled_as_one():
    """With a short buffer the first batches of each epoch would be of the first pieces."""
    pieces = [[1, 3 + i] for i in range(5000)]
    targets = next(iter(make_dataset(pieces, Ids(), 1, 100, seed=0)))[1].numpy().ravel()
    assert targets.min() < 500 and targets.max() > 4500
    assert 2000 < targets.mean() < 3000


def test_without_a_seed_nothing_moves():
    dataset = make_dataset([[1, 10 + i] for i in range(50)], Ids(), 1, 50)
    assert next(iter(dataset))[1].numpy().ravel().tolist() == list(range(10, 60))


def test_padding_never_counts_in_the_loss_that_fit_shows():
    """One window of 2 targets padded to 40: Keras' loss is that of the 2 targets alone."""
    keras.utils.set_random_seed(0)
    model = km.build_model(12, units=4, embedding_dim=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(loss=loss)
    short = make_dataset([[1, 5, 2]], Ids(), 2, 1)
    padded = make_dataset([[1, 5, 2]], Ids(), 40, 1)
    expected = model.evaluate(short, verbose=0)
    assert model.evaluate(padded, verbose=0) == pytest.approx(expected, rel=1e-6)
    assert km.evaluation.model_loss(model, padded) == pytest.approx(expected, rel=1e-6)


def test_report_counts_padding():
    report = window_report([[1, 5, 6, 7, 8, 2], [1, 9, 2]], Ids(), 3)
    assert report.to_dict("list") == {
        "tokens": [6, 3],
        "windows": [2, 1],
        "padding": [1, 1],
        "shorter": [False, True],
    }


def test_errors():
    with pytest.raises(ValueError, match="`corpus` must hold at least one piece"):
        make_dataset([], Ids())
    with pytest.raises(ValueError, match="`sequence_length` must be a whole number from 1.*=0"):
        make_dataset([[1, 2]], Ids(), 0)
    with pytest.raises(ValueError, match="`batch_size` must be a whole number from 1.*=-1"):
        make_dataset([[1, 2]], Ids(), 4, -1)
    with pytest.raises(ValueError, match="`seed` must be a whole number >= 0. Received: seed='x'"):
        make_dataset([[1, 2]], Ids(), seed="x")
    with pytest.raises(ValueError, match="an empty one: one long text"):
        make_dataset(km.corpora.Corpus(["abc" * 50]).split()[2], Ids())
    with pytest.raises(ValueError, match="at least 2 ids for each piece.*Received: 1 for piece 1"):
        make_dataset([[1, 2], [1]], Ids())


# ---- What cannot be trusted


class Odd:
    """A tokenizer of one's own with a fault in it."""

    vocab_size = 10

    def __init__(self, *ids):
        self.ids = ids

    def encode(self, piece):
        return np.array(self.ids)


@pytest.mark.parametrize("ids", [(1.5, 2.0), (1, 10), (-1, 2), ((1, 2), (3, 4))])
def test_ids_of_a_tokenizer_of_ones_own_are_not_taken_on_trust(ids):
    """They were cut to whole numbers, and ids beyond the vocabulary went into training."""
    with pytest.raises(ValueError, match="encode` must give one row of whole numbers from 0 to 9"):
        make_dataset(["x"], Odd(*ids))


@pytest.mark.parametrize("tokenizer", [None, Odd, "chars"])
def test_what_is_no_tokenizer(tokenizer):
    with pytest.raises(ValueError, match="`tokenizer` must be a tokenizer.*Received: "):
        make_dataset(["x"], tokenizer)


@pytest.mark.parametrize("name", ["sequence_length", "batch_size"])
def test_sizes_have_a_limit(name):
    """A window of 10 ** 9 ids filled 4 GB with zeros."""
    with pytest.raises(ValueError, match=f"`{name}` must be a whole number from 1 to 1000000"):
        make_dataset(["x"], Odd(1, 2), **{name: 1_000_001})


@pytest.mark.parametrize(
    ("augment", "sentence"),
    [
        (lambda t, ids, seed: ids + 10, "give ids from 0 to 9"),
        (lambda t, ids, seed: -ids, "give ids from 0 to 9"),
        (lambda t, ids, seed: ids[:1], "leave at least 2 ids"),
        (lambda t, ids, seed: tf.cast(ids, tf.float32), "int32 of shape .*Received: float32"),
        (lambda t, ids, seed: ids[None], r"int32 of shape .*Received: int32 of shape \(1, 3\)"),
        (lambda t, ids, seed: None, "int32 of shape .*Received: None"),
    ],
)
def test_what_augment_gives_is_checked(augment, sentence):
    """Ids of 100,001 and batches of fractions went into training without a word."""
    with pytest.raises(ValueError, match=f"^`augment` must .*{sentence}"):
        make_dataset(["x"], Odd(1, 2, 3), seed=0, augment=augment)


def test_what_augment_gives_later_is_checked_too():
    def augment(tokenizer, ids, seed):
        return tf.cond(seed == 0, lambda: ids, lambda: ids + 10)  # the first try is right

    dataset = make_dataset(["x"], Odd(1, 2, 3), seed=0, augment=augment)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must give ids from 0 to 9"):
        next(iter(dataset))


# ---- Shards


class Letters(km.tokenizers.CharTokenizer):
    """Its pieces are id rows already, and it has the JSON text by which shards know it."""

    def encode(self, piece):
        return np.array(piece, np.int32)


LETTERS = Letters("abcdefghijklmnopqrstuvwxyz")  # ids up to 28


def in_shards(folder, pieces, per_shard=3, **sides):
    """The train side of shards with these pieces, in their order."""
    named = [(f"{i}.mid", piece) for i, piece in enumerate(pieces)]
    shards = [named[i : i + per_shard] for i in range(0, len(named), per_shard)]
    return open_shards(shard_files.write(folder, {"train": shards} | sides, LETTERS)).train


def random_pieces(count, seed=0):
    rng = np.random.default_rng(seed)
    return [[1, *rng.integers(3, 29, rng.integers(1, 30)).tolist(), 2] for _ in range(count)]


def rows_of(dataset):
    return [row.tolist() for x, _ in dataset.as_numpy_iterator() for row in x]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 12))
def test_shards_have_the_windows_of_memory(tmp_path_factory, count, per_shard, sequence_length):
    pieces = random_pieces(count, seed=count)
    side = in_shards(tmp_path_factory.mktemp("shards"), pieces, per_shard)
    args = LETTERS, sequence_length, 4
    assert batches(side, *args) == batches(pieces, *args)  # the order too
    streamed = make_dataset(side, *args, seed=1)
    shuffled = rows_of(streamed)
    assert sorted(shuffled) == sorted(rows_of(make_dataset(pieces, *args)))
    assert len(list(streamed)) == streamed.cardinality()


def test_shards_are_shuffled_anew_in_each_epoch_by_the_seed(tmp_path):
    side = in_shards(tmp_path, random_pieces(200), per_shard=7)

    def epochs(seed):
        dataset = make_dataset(side, LETTERS, 8, 4, seed=seed)
        return [rows_of(dataset) for _ in range(3)]

    one, two, other = epochs(3), epochs(3), epochs(4)
    assert one == two
    assert one[0] != one[1] != one[2] != one[0] and other[0] != one[0]
    assert sorted(one[0]) == sorted(one[1]) == sorted(other[2])


def test_what_does_not_fit_into_the_buffer_is_shuffled_by_shards(tmp_path, monkeypatch):
    """With room for one window there is only the order of the shards, eight of them in turn."""
    monkeypatch.setattr(data, "BUFFER_BYTES", 1)
    side = in_shards(tmp_path, [[1, 3 + shard] for shard in range(20) for _ in range(3)])
    dataset = make_dataset(side, LETTERS, 1, 60, seed=0)
    epochs = [next(dataset.as_numpy_iterator())[1].ravel().tolist() for _ in range(2)]
    for targets in epochs:
        assert sorted(targets) == sorted(3 + shard for shard in range(20) for _ in range(3))
        assert len(set(targets[:8])) == 8 and targets[:8] == targets[8:16] == targets[16:24]
    assert epochs[0][:8] != epochs[1][:8]


def test_shards_are_augmented_afresh_in_each_epoch(tmp_path):
    def augment(tokenizer, ids, seed):
        shift = tf.random.stateless_uniform([], [seed, 0], 0, 5, tf.int32)
        return tf.where(ids > 2, ids + shift, ids)

    pieces = [[1, 3 + i % 20, 2] for i in range(40)]
    side = in_shards(tmp_path, pieces)
    dataset = make_dataset(side, LETTERS, 2, 8, seed=0, augment=augment)
    one, two = rows_of(dataset), rows_of(dataset)
    assert len(one) == len(two) == 40 and one != two
    again = make_dataset(side, LETTERS, 2, 8, seed=0, augment=augment)
    assert [rows_of(again), rows_of(again)] == [one, two]
    with pytest.raises(ValueError, match="^`augment` must give a tensor of ids"):
        make_dataset(side, LETTERS, seed=0, augment=lambda tokenizer, ids, seed: None)


def test_augment_that_shortens_begins_a_second_round_of_shards(tmp_path):
    side = in_shards(tmp_path, random_pieces(30))
    dataset = make_dataset(side, LETTERS, 4, 8, seed=0, augment=lambda t, ids, seed: ids[:3])
    assert len(rows_of(dataset)) == sum((side.num_ids - 2) // 4 + 1) > 30


def test_an_empty_side_is_an_error_and_never_an_empty_dataset(tmp_path):
    in_shards(tmp_path, random_pieces(3))
    valid = open_shards(tmp_path).valid
    for call in (make_dataset, encode_all, window_report):
        with pytest.raises(ValueError, match="an empty one: the split left no piece for 'valid'"):
            call(valid, LETTERS)


def test_one_side_is_asked_for(tmp_path):
    in_shards(tmp_path, random_pieces(3))
    with pytest.raises(ValueError, match="must be one side of the shards. .*Give `shards.train`"):
        make_dataset(open_shards(tmp_path), LETTERS)


def test_one_piece_in_one_shard(tmp_path):
    side = in_shards(tmp_path, [[1, 5, 6, 2]])
    for seed in (None, 0):
        dataset = make_dataset(side, LETTERS, 8, 4, seed=seed)
        assert rows_of(dataset) == [[1, 5, 6, 2, 0, 0, 0, 0]]


def test_encode_all_and_the_report_of_windows_read_shards(tmp_path):
    pieces = random_pieces(7)
    side = in_shards(tmp_path, pieces)
    assert [ids.tolist() for ids in encode_all(side, LETTERS)] == pieces
    assert window_report(side, LETTERS, 8).equals(window_report(pieces, LETTERS, 8))


def test_shards_are_checked_before_the_first_batch(tmp_path):
    side = in_shards(tmp_path, random_pieces(7))
    with pytest.raises(ValueError, match="`tokenizer` must be the Letters that made these shards"):
        make_dataset(side, km.tokenizers.RemiTokenizer())
    for not_one in (None, Letters):
        with pytest.raises(ValueError, match="`tokenizer` must be a tokenizer.*Received: "):
            make_dataset(side, not_one)
    file = side.files[1]
    content = bytearray(file.read_bytes())
    content[40] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match="train-00001.tfrecord is damaged. Run ingest again"):
        make_dataset(side, LETTERS)


def test_ids_in_shards_are_not_taken_on_trust(tmp_path):
    """An embedding has no such row; a graphics card would give zeros for it without a word."""
    side = in_shards(tmp_path, [[1, 5, 2], [1, 29, 2]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="must hold ids from 0 to 28"):
        list(make_dataset(side, LETTERS, 4, 4))


def test_a_negative_id_in_a_shard_is_refused(tmp_path):
    """No embedding has a row of such a number, either."""
    side = in_shards(tmp_path, [[1, 5, 2], [1, -1, 2]])
    with pytest.raises(tf.errors.InvalidArgumentError, match="must hold ids from 0 to 28"):
        list(make_dataset(side, LETTERS, 4, 4))


@pytest.mark.parametrize(("sequence_length", "buffer"), [(8, 10), (16, 5), (1, 80), (400, 1)])
def test_the_buffer_of_shards_is_a_number_of_bytes(tmp_path, monkeypatch, sequence_length, buffer):
    """Windows of a thousand ids need a thousand times the memory of windows of one."""
    monkeypatch.setattr(data, "BUFFER_BYTES", 4 * 80)  # 80 ids of four bytes each
    sizes, shuffle = [], tf.data.Dataset.shuffle

    def watched(dataset, size, **arguments):
        sizes.append(size)
        return shuffle(dataset, size, **arguments)

    monkeypatch.setattr(tf.data.Dataset, "shuffle", watched)
    side = in_shards(tmp_path, [[1, *[5] * 200, 2]] * 20)
    make_dataset(side, LETTERS, sequence_length, 4, seed=0)
    assert sizes == [buffer]
