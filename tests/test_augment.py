"""Pieces in other keys and tempos: the ids are those of the changed piece, drawn each epoch."""

import collections
import functools
import re
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music.augment import Augmentation, cumulative_max, is_drum, stretched
from keras_music.midi import Piece
from keras_music.tokenizers import (
    CharTokenizer,
    ChoraleTokenizer,
    NoteTokenizer,
    PerformanceTokenizer,
    RemiTokenizer,
)
from keras_music.tokenizers.vocabulary import SPECIAL, Tokenizer, Vocabulary


class Rows(Tokenizer):
    """A tokenizer that is nothing but a table: pieces are lines of tokens."""

    def __init__(self, *rows):
        self.table = Vocabulary([*SPECIAL, *rows])

    def encode(self, piece):
        return np.array([self.vocabulary.index(token) for token in piece.split()], np.int32)

    def line(self, ids):
        return " ".join(self.tokens(ids))


NOTES = ("NOTE_ON", 0, 127), ("NOTE_OFF", 0, 127)
PERFORMANCE = Rows(*NOTES, ("TIME_SHIFT", 1, 10), ("VELOCITY", 1, 8), ("PROGRAM", 0, 128))
NOTE = Rows(("STEP", 0, 10), ("PITCH", 0, 127), ("VELOCITY", 1, 8), ("DURATION", 1, 20))
CHORALE = Rows(("REST", 0, 0), ("HOLD", 0, 0), ("NOTE", 0, 127))


def in_graph(function, dtype):
    """A function of ids and a number as the pipeline runs it; far faster than step by step."""
    signature = [tf.TensorSpec([None], tf.int32), tf.TensorSpec([], dtype)]
    return tf.function(function, input_signature=signature)


def augmented(tokenizer, augmentation):
    return in_graph(lambda ids, seed: augmentation(tokenizer, ids, seed), tf.int64)


def drawn(tokenizer, line, augmentation, seeds=60):
    """What becomes of a line with each of many seeds."""
    ids, function = tokenizer.encode(line), augmented(tokenizer, augmentation)
    return [tokenizer.line(function(ids, seed)) for seed in range(seeds)]


# Transposition and velocity: tokens in, tokens out


@pytest.mark.parametrize(
    ("tokenizer", "line", "lines"),
    [
        (
            PERFORMANCE,
            "START VELOCITY_3 NOTE_ON_60 NOTE_ON_64 TIME_SHIFT_10 NOTE_OFF_60 NOTE_OFF_64 END",
            [
                "START VELOCITY_3 NOTE_ON_59 NOTE_ON_63 TIME_SHIFT_10 NOTE_OFF_59 NOTE_OFF_63 END",
                "START VELOCITY_3 NOTE_ON_60 NOTE_ON_64 TIME_SHIFT_10 NOTE_OFF_60 NOTE_OFF_64 END",
                "START VELOCITY_3 NOTE_ON_61 NOTE_ON_65 TIME_SHIFT_10 NOTE_OFF_61 NOTE_OFF_65 END",
            ],
        ),
        (  # drums stay: what sounds is what the last program says, and the first one is a piano
            PERFORMANCE,
            "START NOTE_ON_60 PROGRAM_128 NOTE_ON_38 NOTE_OFF_38 PROGRAM_127 NOTE_ON_62 END",
            [
                "START NOTE_ON_59 PROGRAM_128 NOTE_ON_38 NOTE_OFF_38 PROGRAM_127 NOTE_ON_61 END",
                "START NOTE_ON_60 PROGRAM_128 NOTE_ON_38 NOTE_OFF_38 PROGRAM_127 NOTE_ON_62 END",
                "START NOTE_ON_61 PROGRAM_128 NOTE_ON_38 NOTE_OFF_38 PROGRAM_127 NOTE_ON_63 END",
            ],
        ),
        (  # a drum at the end of the range hinders nothing
            PERFORMANCE,
            "START PROGRAM_128 NOTE_ON_127 PROGRAM_0 NOTE_ON_0 END",
            [
                "START PROGRAM_128 NOTE_ON_127 PROGRAM_0 NOTE_ON_0 END",
                "START PROGRAM_128 NOTE_ON_127 PROGRAM_0 NOTE_ON_1 END",
            ],
        ),
        (  # no room above: only down
            NOTE,
            "START STEP_0 PITCH_127 DURATION_5 STEP_3 PITCH_20 DURATION_5 END",
            [
                "START STEP_0 PITCH_126 DURATION_5 STEP_3 PITCH_19 DURATION_5 END",
                "START STEP_0 PITCH_127 DURATION_5 STEP_3 PITCH_20 DURATION_5 END",
            ],
        ),
        (
            CHORALE,
            "START NOTE_0 NOTE_127 HOLD REST END",
            ["START NOTE_0 NOTE_127 HOLD REST END"],
        ),
        (
            CHORALE,
            "START NOTE_60 REST HOLD HOLD END PAD",
            [
                "START NOTE_59 REST HOLD HOLD END PAD",
                "START NOTE_60 REST HOLD HOLD END PAD",
                "START NOTE_61 REST HOLD HOLD END PAD",
            ],
        ),
        (CHORALE, "START REST END", ["START REST END"]),
    ],
)
def test_transposed_by_one_at_most(tokenizer, line, lines):
    assert set(drawn(tokenizer, line, Augmentation(semitones=1))) == set(lines)


def test_all_transpositions_are_equally_likely():
    counts = collections.Counter(drawn(CHORALE, "NOTE_60", Augmentation(semitones=5), 1100))
    assert set(counts) == {f"NOTE_{pitch}" for pitch in range(55, 66)}
    assert 60 < min(counts.values()) <= max(counts.values()) < 140


def test_a_piano_has_88_keys():
    piano = Augmentation(semitones=12, pitch_range=(21, 108))
    lines = set(drawn(CHORALE, "NOTE_22 NOTE_107", piano))
    assert lines == {"NOTE_21 NOTE_106", "NOTE_22 NOTE_107", "NOTE_23 NOTE_108"}
    # A piece that is outside already comes nearer or stays.
    assert set(drawn(CHORALE, "NOTE_20 NOTE_108", piano)) == {"NOTE_20 NOTE_108"}
    lines = set(drawn(CHORALE, "NOTE_20 NOTE_107", piano))
    assert lines == {"NOTE_20 NOTE_107", "NOTE_21 NOTE_108"}


def test_velocities_move_together_as_far_as_there_is_room():
    line = "START VELOCITY_2 NOTE_ON_60 VELOCITY_6 NOTE_ON_64 END"
    assert set(drawn(PERFORMANCE, line, Augmentation(velocity_bins=7))) == {
        f"START VELOCITY_{2 + k} NOTE_ON_60 VELOCITY_{6 + k} NOTE_ON_64 END" for k in (-1, 0, 1, 2)
    }


def test_each_change_is_drawn_for_itself():
    lines = drawn(PERFORMANCE, "VELOCITY_4 NOTE_ON_60", Augmentation(1, 0.0, 1), 200)
    assert set(lines) == {f"VELOCITY_{v} NOTE_ON_{p}" for v in (3, 4, 5) for p in (59, 60, 61)}


def test_is_drum():
    ids = PERFORMANCE.encode("NOTE_ON_60 PROGRAM_128 NOTE_ON_38 END PROGRAM_3 NOTE_ON_1")
    assert is_drum(PERFORMANCE.table, ids).numpy().tolist() == [0, 1, 1, 1, 0, 0]
    assert not is_drum(NOTE.table, NOTE.encode("START PITCH_3")).numpy().any()


# Stretching: tokens in, tokens out


@pytest.mark.parametrize(
    ("tokenizer", "factor", "line", "expected"),
    [
        (PERFORMANCE, 1.0, "START TIME_SHIFT_10 TIME_SHIFT_1 NOTE_ON_60 END", None),
        (
            PERFORMANCE,
            1.04,  # 10.4, 20.8, 31.2
            "START TIME_SHIFT_9 TIME_SHIFT_1 NOTE_ON_60 TIME_SHIFT_10 NOTE_OFF_60 TIME_SHIFT_10 "
            "NOTE_ON_60 END",
            "START TIME_SHIFT_10 NOTE_ON_60 TIME_SHIFT_10 TIME_SHIFT_1 NOTE_OFF_60 TIME_SHIFT_10 "
            "NOTE_ON_60 END",
        ),
        (  # a long wait needs fewer tokens
            PERFORMANCE,
            0.5,
            "START TIME_SHIFT_10 TIME_SHIFT_10 TIME_SHIFT_4 NOTE_ON_60 END",
            "START TIME_SHIFT_10 TIME_SHIFT_2 NOTE_ON_60 END",
        ),
        (  # or more
            PERFORMANCE,
            1.5,
            "START NOTE_ON_60 TIME_SHIFT_10 VELOCITY_2 NOTE_ON_62 END",
            "START NOTE_ON_60 TIME_SHIFT_10 TIME_SHIFT_5 VELOCITY_2 NOTE_ON_62 END",
        ),
        (  # in the middle of a long wait nothing happens: 23 is 11.5, rounded up
            PERFORMANCE,
            0.5,
            "START NOTE_ON_60 TIME_SHIFT_10 TIME_SHIFT_10 TIME_SHIFT_3 NOTE_OFF_60 END",
            "START NOTE_ON_60 TIME_SHIFT_10 TIME_SHIFT_2 NOTE_OFF_60 END",
        ),
        (  # neighbours stay apart and in order, a chord stays a chord
            PERFORMANCE,
            0.5,
            "NOTE_ON_60 NOTE_ON_64 TIME_SHIFT_1 NOTE_OFF_60 TIME_SHIFT_1 NOTE_OFF_64 TIME_SHIFT_10 "
            "NOTE_ON_1",
            "NOTE_ON_60 NOTE_ON_64 TIME_SHIFT_1 NOTE_OFF_60 TIME_SHIFT_1 NOTE_OFF_64 TIME_SHIFT_4 "
            "NOTE_ON_1",
        ),
        (  # onset 4 -> 6, end 7 -> 10.5 -> 11; the second onset, at 11, is 16.5 -> 17
            NOTE,
            1.5,
            "START STEP_4 PITCH_60 VELOCITY_3 DURATION_3 STEP_0 PITCH_62 VELOCITY_3 DURATION_4 "
            "STEP_7 PITCH_60 VELOCITY_3 DURATION_1 END",
            "START STEP_6 PITCH_60 VELOCITY_3 DURATION_5 STEP_0 PITCH_62 VELOCITY_3 DURATION_6 "
            "STEP_10 STEP_1 PITCH_60 VELOCITY_3 DURATION_1 END",
        ),
        (  # the longest duration cannot grow
            NOTE,
            1.5,
            "STEP_0 PITCH_60 DURATION_20 STEP_0 PITCH_62 DURATION_12",
            "STEP_0 PITCH_60 DURATION_20 STEP_0 PITCH_62 DURATION_18",
        ),
    ],
)
def test_stretched(tokenizer, factor, line, expected):
    ids = stretched(tokenizer.table, tf.constant(tokenizer.encode(line)), factor)
    assert ids.dtype == tf.int32
    assert tokenizer.line(ids) == (expected or line)


def test_factors_are_drawn_from_both_sides():
    augmentation = Augmentation(stretch=0.4)
    lines = drawn(PERFORMANCE, "NOTE_ON_60 TIME_SHIFT_5 NOTE_ON_62", augmentation, 200)
    assert set(lines) == {f"NOTE_ON_60 TIME_SHIFT_{k} NOTE_ON_62" for k in (3, 4, 5, 6, 7)}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 100])
def test_cumulative_max(size):
    values = np.random.default_rng(size).integers(-9, 9, size)
    result = cumulative_max(tf.constant(values))
    assert result.numpy().tolist() == np.maximum.accumulate(values).tolist()


# Held against encoding the changed piece

IN_SECONDS = {
    "performance": PerformanceTokenizer(),
    "coarse": PerformanceTokenizer(steps_per_second=10, velocity_bins=4, max_shift_steps=7),
    "many programs": PerformanceTokenizer(multi_program=True, pedal="tokens"),
    "note": NoteTokenizer(max_duration=300),
    "coarse note": NoteTokenizer(10, max_step=7, max_duration=500, velocity_bins=4),
}
IN_BEATS = {
    "remi": RemiTokenizer(),
    "remi, many programs": RemiTokenizer(multi_program=True, velocity_bins=0),
    "chorale": ChoraleTokenizer(),
}
TOKENIZERS = IN_SECONDS | IN_BEATS
TIMES = st.integers(0, 900)
DRUMS = 128
PIECES = st.lists(
    st.tuples(
        st.integers(30, 100),
        TIMES,
        st.integers(1, 300),
        st.integers(1, 127),
        st.sampled_from([0, 0, 40, DRUMS]),
    ),
    min_size=1,
    max_size=12,
).map(
    lambda notes: Piece(
        [
            {"pitch": pitch, "start": start / 100, "end": (start + length) / 100}
            | {"velocity": velocity, "program": program % DRUMS, "is_drum": program == DRUMS}
            for pitch, start, length, velocity, program in notes
        ],
        pedals=[{"start": 0.5, "end": 2.5}],
    )
)


TRANSPOSED = {name: augmented(t, Augmentation(semitones=7)) for name, t in TOKENIZERS.items()}
CHANGED = {name: augmented(t, Augmentation(7, 0.5, 5)) for name, t in IN_SECONDS.items()}
STRETCHED = {
    name: in_graph(lambda ids, factor, table=t.table: stretched(table, ids, factor), tf.float64)
    for name, t in IN_SECONDS.items()
}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(deadline=None, max_examples=40)
@given(piece=PIECES, seed=st.integers(0, 2**63 - 1))
def test_ids_are_those_of_the_transposed_piece(name, piece, seed):
    """`Piece.transpose` leaves drums where they are, and so do ids."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(piece)
    other = TRANSPOSED[name](ids, seed).numpy()
    low, new_low = (
        notes["pitch"][~notes["is_drum"]].min()
        for notes in (tokenizer.decode(row).notes for row in (ids, other))
    )
    semitones = int(np.nan_to_num(new_low - low))  # without notes but drums: 0
    assert other.tolist() == tokenizer.encode(piece.transpose(semitones)).tolist()


@pytest.mark.parametrize("name", IN_SECONDS)
@settings(deadline=None, max_examples=40)
@given(piece=PIECES, seed=st.integers(0, 2**63 - 1))
def test_whatever_is_drawn_is_what_encode_writes(name, piece, seed):
    tokenizer = TOKENIZERS[name]
    other = CHANGED[name](tokenizer.encode(piece), seed).numpy()
    assert other.tolist() == tokenizer.encode(tokenizer.decode(other)).tolist()


@pytest.mark.parametrize("name", IN_SECONDS)
@settings(deadline=None, max_examples=60)
@given(piece=PIECES, factor=st.floats(0.5, 1.5))
def test_stretched_times_are_within_the_bound(name, piece, factor):
    """And where no two moments fall together, the ids are those of the stretched piece."""
    tokenizer = TOKENIZERS[name]
    ids = tokenizer.encode(piece)
    other = STRETCHED[name](ids, factor).numpy()
    before, after = (tokenizer.decode(row) for row in (ids, other))
    rate = tokenizer.steps_per_second
    spans, pedals, moved = (
        np.rint(table[["start", "end"]].to_numpy() * rate)
        for table in (before.notes, before.pedals, after.notes)
    )
    moments = np.unique(np.concatenate([[0], spans.ravel(), pedals.ravel()]))
    # How late a moment may be, to stay apart from each of those before it.
    apart = np.arange(len(moments)) - moments * factor
    late = (apart + np.maximum.accumulate(-apart))[np.searchsorted(moments, spans)]
    assert (moved - spans * factor >= -0.5 - 1e-6).all()
    assert (moved - spans * factor <= 0.5 + late + 1e-6).all()

    places = moments * factor
    assume(np.abs(places % 1 - 0.5).min() > 1e-6)
    assume(len(np.unique(np.rint(places))) == len(places))
    notes, pedals = (
        table.assign(start=table["start"] * factor, end=table["end"] * factor)
        for table in (before.notes, before.pedals)
    )
    assert other.tolist() == tokenizer.encode(Piece(notes, pedals=pedals)).tolist()


def test_an_hour_does_not_drift():
    start = np.arange(0, 3600, 0.25)
    piece = Piece({"pitch": 60 + np.arange(len(start)) % 12, "start": start, "end": start + 0.25})
    tokenizer = PerformanceTokenizer()
    ids = stretched(tokenizer.table, tf.constant(tokenizer.encode(piece)), 1.013)
    moved = tokenizer.decode(ids.numpy()).notes["start"]
    assert np.abs(moved - start * 1.013).max() <= 0.005 + 1e-3


# In the pipeline


def epoch(dataset, wait=0.0):
    """The targets of each window, padding left out, in the order of the windows."""
    rows = []
    for _, targets in dataset.as_numpy_iterator():
        rows += [row[row != 0].tolist() for row in targets]
        time.sleep(wait)
    return rows


@functools.cache
def chorales(count=6):
    return list(km.corpora.bach_chorales()[:count])


def test_an_epoch_holds_each_piece_once_in_a_key_of_its_own():
    tokenizer, pieces = PerformanceTokenizer(), chorales(4)
    known = {
        tuple(tokenizer.encode(piece.transpose(semitones))[1:].tolist()): (i, semitones)
        for i, piece in enumerate(pieces)
        for semitones in range(-5, 6)
    }
    dataset = km.make_dataset(pieces, tokenizer, 4000, 4, seed=0, augment=Augmentation(5))
    keys = []
    for _ in range(6):
        found = [known[tuple(row)] for row in epoch(dataset)]  # up to END, which counts, too
        assert sorted(i for i, _ in found) == list(range(len(pieces)))
        keys.append(dict(found))
    assert all(len({key[i] for key in keys}) > 1 for i in range(len(pieces)))
    assert all(len(set(key.values())) > 1 for key in keys)


def test_drawn_anew_each_epoch_and_fixed_by_the_seed():
    """However slowly batches are used: a second round of the pieces, which is prepared ahead and
    perhaps not used, once made the next epoch depend on the time that this one took."""
    arguments = chorales(2), PerformanceTokenizer(), 64, 4
    augment = Augmentation(semitones=5, stretch=0.05, velocity_bins=2)
    first, second, other = (
        km.make_dataset(*arguments, seed=seed, augment=augment) for seed in (3, 3, 4)
    )
    one, two, three = (epoch(first) for _ in range(3))
    assert len({str(sorted(rows)) for rows in (one, two, three)}) == 3
    assert [epoch(second, wait=0.05) for _ in range(3)] == [one, two, three]
    assert sorted(epoch(other)) not in [sorted(one), sorted(two)]


def test_windows_are_as_before_and_padding_stays_0():
    """Transposed pieces are cut where the pieces were: START, END and padding where they were."""
    tokenizer, pieces = PerformanceTokenizer(), chorales()
    plain = km.make_dataset(pieces, tokenizer, 64, 1000)
    augmented = km.make_dataset(pieces, tokenizer, 64, 1000, seed=0, augment=Augmentation(5, 0, 3))
    (inputs, targets), (new_inputs, new_targets) = (next(iter(d)) for d in (plain, augmented))
    assert (new_inputs[:, 1:] == new_targets[:, :-1]).numpy().all()
    for rows, new_rows in ((inputs, new_inputs), (targets, new_targets)):
        kinds, new_kinds = (tokenizer.table.row_of[x.numpy()] for x in (rows, new_rows))
        assert sorted(kinds.tolist()) == sorted(new_kinds.tolist())


def test_an_epoch_has_as_many_windows_when_pieces_get_longer():
    """Keras counts the batches of the first epoch, and warns if a later one has fewer."""
    arguments = chorales(), PerformanceTokenizer(max_shift_steps=5), 32, 8
    plain = km.make_dataset(*arguments)
    dataset = km.make_dataset(*arguments, seed=0, augment=Augmentation(stretch=0.5))
    assert dataset.cardinality() == plain.cardinality()
    sizes = [[len(x) for x, _ in dataset] for _ in range(3)]
    assert sizes == [[len(x) for x, _ in plain]] * 3


class Ids:
    """A tokenizer whose pieces are id rows already."""

    def encode(self, piece):
        return np.array(piece, np.int32)


def test_what_is_left_out_is_another_piece_each_time():
    """Twice as long, only half of the pieces fit into an epoch; in the end all are seen."""
    pieces = [[1, 10 + i, 2] for i in range(8)]
    dataset = km.make_dataset(
        pieces, Ids(), 2, 8, seed=0, augment=lambda tokenizer, ids, seed: tf.repeat(ids, 2)
    )
    seen = [{i for row in epoch(dataset) for i in row if i >= 10} for _ in range(12)]
    assert {len(found) for found in seen} <= {3, 4}
    assert set.union(*seen) == set(range(10, 18))


def test_fit_sees_other_pieces_in_every_epoch():
    """With a learning rate of 0 the loss of one epoch is that of the next, unless data change."""
    keras.utils.set_random_seed(0)
    tokenizer, pieces = PerformanceTokenizer(), chorales(2)
    model = km.build_model(tokenizer.vocab_size, units=4, embedding_dim=3)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.SGD(0.0), loss)
    augment = Augmentation(semitones=5, stretch=0.05)
    train = km.make_dataset(pieces, tokenizer, 64, 8, seed=0, augment=augment)
    valid = km.make_dataset(pieces, tokenizer, 64, 8)
    history = model.fit(train, validation_data=valid, epochs=3, verbose=0, shuffle=False).history
    assert len(set(history["loss"])) == 3
    assert len(set(history["val_loss"])) == 1


def test_a_function_of_one_s_own():
    def plus_ten(tokenizer, ids, seed):
        assert isinstance(tokenizer, Ids)
        assert (seed.dtype, seed.shape) == (tf.int64, ())
        return ids + 10

    dataset = km.make_dataset([[1, 5, 2]], Ids(), 2, 1, seed=0, augment=plus_ten)
    assert [x.tolist() for x in next(dataset.as_numpy_iterator())] == [[[11, 15]], [[15, 12]]]


# Errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"semitones": -1}, "`semitones` must be a whole number from 0 to 127. "
                            "Received: semitones=-1."),
        ({"velocity_bins": 0.5}, "`velocity_bins` must be a whole number from 0 to 127. "
                                 "Received: velocity_bins=0.5."),
        ({"stretch": 0.6}, "`stretch` must be from 0 to 0.5. Received: stretch=0.6."),
        ({"stretch": float("nan")}, "`stretch` must be from 0 to 0.5. Received: stretch=nan."),
        ({"stretch": "5 %"}, "`stretch` must be from 0 to 0.5. Received: stretch='5 %'."),
        ({"pitch_range": (0, 128)}, "`pitch_range[1]` must be a whole number from 0 to 127. "
                                    "Received: pitch_range[1]=128."),
        ({"pitch_range": (108, 21)}, "`pitch_range[1]` must be a whole number from 108 to 127. "
                                     "Received: pitch_range[1]=21."),
        ({"pitch_range": 60}, "`pitch_range` must be two pitches, such as (21, 108). "
                              "Received: pitch_range=60."),
    ],
)  # fmt: skip
def test_arguments_out_of_range(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Augmentation(**arguments)


@pytest.mark.parametrize(
    ("augmentation", "tokenizer", "piece", "sentence"),
    [
        (Augmentation(semitones=5), CharTokenizer("abc"), "abc",
         "`semitones` needs a vocabulary with tokens NOTE_ON or NOTE_OFF or PITCH or NOTE. "
         "Received: semitones=5 with CharTokenizer, which has none. Leave `semitones` at 0."),
        (Augmentation(stretch=0.1), CHORALE, "START NOTE_60 END",
         "`stretch` needs a vocabulary with tokens TIME_SHIFT or STEP. "
         "Received: stretch=0.1 with Rows, which has none. Leave `stretch` at 0."),
        (Augmentation(velocity_bins=2), CHORALE, "START NOTE_60 END",
         "`velocity_bins` needs a vocabulary with tokens VELOCITY. "
         "Received: velocity_bins=2 with Rows, which has none. Leave `velocity_bins` at 0."),
    ],
)  # fmt: skip
def test_a_vocabulary_without_such_tokens(augmentation, tokenizer, piece, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        km.make_dataset([piece], tokenizer, seed=0, augment=augmentation)


def test_a_tokenizer_without_a_table():
    """One that has only `encode`, `decode`, `vocab_size`, `save` got an AttributeError."""

    class Words:
        vocab_size = 2

        def encode(self, text):
            return np.ones(len(text), np.int32)

    for wanted in ({"semitones": 2}, {"stretch": 0.1}, {"velocity_bins": 1}):
        augment, (name,) = Augmentation(**wanted), wanted
        with pytest.raises(ValueError, match=f"`{name}` needs a vocabulary with.*with Words, whi"):
            km.make_dataset(["la le"], Words(), seed=0, augment=augment)


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"augment": Augmentation(3)}, r"augment=Augmentation\(semitones=3, .*\), seed=None"),
        ({"augment": 5, "seed": 0}, "augment=5, seed=0"),
    ],
)
def test_augmenting_needs_a_function_and_a_seed(arguments, received):
    with pytest.raises(ValueError, match=f"`augment` must be a function.*Received: {received}"):
        km.make_dataset(["START NOTE_60 END"], CHORALE, **arguments)
