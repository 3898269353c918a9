"""The note tokenizer: steps, pitches and durations; notes in, tokens out, and back."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music import tokenizers
from keras_music.midi import Piece
from keras_music.tokenizers import NoteTokenizer

SETTINGS = {
    "default": {},
    "coarse": {"steps_per_second": 4, "velocity_bins": 1, "max_step": 3, "max_duration": 5},
    "no velocity": {"steps_per_second": 10, "velocity_bins": 0, "max_step": 1},
    "fine": {"steps_per_second": 1000, "velocity_bins": 127, "program": 40, "max_duration": 10000},
}


def piece_of(*notes, **columns):
    """(pitch, start, end[, velocity]) ... in seconds -> Piece"""
    names = ["pitch", "start", "end", "velocity"]
    return Piece(dict(zip(names, zip(*notes, strict=True), strict=False)) | columns)


def tokens(piece, **arguments):
    """The tokens between `START` and `END`, as one line."""
    tokenizer = NoteTokenizer(**arguments)
    first, *middle, last = tokenizer.tokens(tokenizer.encode(piece))
    assert (first, last) == ("START", "END")
    return " ".join(middle)


def notes_of(piece, tokenizer):
    """[(pitch, start step, end step, velocity), ...], sorted."""
    steps = piece.notes[["start", "end"]].to_numpy() * tokenizer.steps_per_second
    assert np.abs(steps - np.rint(steps)).max(initial=0) < 1e-6
    start, end = np.rint(steps).astype(int).T.tolist()
    columns = (piece.notes["pitch"].tolist(), start, end, piece.notes["velocity"].tolist())
    return sorted(zip(*columns, strict=True))


# Notes in, tokens out


@pytest.mark.parametrize(
    ("notes", "line"),
    [
        ([], ""),
        ([(60, 0, 0.5, 80)], "STEP_0 PITCH_60 VELOCITY_20 DURATION_25"),
        (  # a chord, from low to high, after a rest
            [(64, 0.5, 1, 80), (60, 0.5, 0.74, 1), (67, 1, 2, 127)],
            "STEP_25 PITCH_60 VELOCITY_1 DURATION_12 STEP_0 PITCH_64 VELOCITY_20 DURATION_25 "
            "STEP_25 PITCH_67 VELOCITY_32 DURATION_50",
        ),
        # Gaps of over a second take several steps, the longest first.
        ([(60, 1, 1.5, 80)], "STEP_50 PITCH_60 VELOCITY_20 DURATION_25"),
        ([(60, 1.02, 1.5, 80)], "STEP_50 STEP_1 PITCH_60 VELOCITY_20 DURATION_24"),
        ([(60, 2, 2.5, 80)], "STEP_50 STEP_50 PITCH_60 VELOCITY_20 DURATION_25"),
        (  # the longest note has four seconds, the shortest one step
            [(60, 0, 4, 80), (62, 0, 4.02, 80), (64, 0, 999, 80), (65, 0, 0, 80)],
            "STEP_0 PITCH_60 VELOCITY_20 DURATION_200 STEP_0 PITCH_62 VELOCITY_20 DURATION_200 "
            "STEP_0 PITCH_64 VELOCITY_20 DURATION_200 STEP_0 PITCH_65 VELOCITY_20 DURATION_1",
        ),
        # Onsets and ends are rounded, not cut off.
        ([(60, 0.011, 0.029, 80)], "STEP_1 PITCH_60 VELOCITY_20 DURATION_1"),
        ([(60, 0.009, 0.031, 80)], "STEP_0 PITCH_60 VELOCITY_20 DURATION_2"),
        (  # a pitch that sounds and is struck again ends, and sounds to the last of the ends
            [(60, 0, 1, 80), (60, 0.2, 0.5, 80)],
            "STEP_0 PITCH_60 VELOCITY_20 DURATION_10 STEP_10 PITCH_60 VELOCITY_20 DURATION_40",
        ),
        (  # a unison is one note, at the highest velocity, to the last of the ends
            [(60, 0, 0.1, 127), (60, 0.004, 0.3, 1)],
            "STEP_0 PITCH_60 VELOCITY_32 DURATION_15",
        ),
    ],
)
def test_encode(notes, line):
    assert tokens(piece_of(*notes)) == line


def test_settings_change_the_tokens():
    piece = piece_of((60, 0.5, 1.5, 80), (62, 4, 8, 20))
    assert tokens(piece, steps_per_second=2, velocity_bins=0, max_step=3, max_duration=6) == (
        "STEP_1 PITCH_60 DURATION_2 STEP_3 STEP_3 STEP_1 PITCH_62 DURATION_6"
    )
    assert tokens(piece, steps_per_second=10, velocity_bins=127) == (
        "STEP_5 PITCH_60 VELOCITY_80 DURATION_10 STEP_10 STEP_10 STEP_10 STEP_5 PITCH_62 "
        "VELOCITY_20 DURATION_40"
    )


def test_drums_are_left_out_and_tracks_are_laid_together():
    loud = {"velocity": 80, "start": 0, "end": 0.1}
    piece = Piece(
        [
            {"pitch": 64, "track": 0, "program": 3} | loud,
            {"pitch": 60, "track": 1, "program": 40} | loud,
            {"pitch": 38, "track": 2, "is_drum": True} | loud,
        ]
    )
    line = "STEP_0 PITCH_60 VELOCITY_20 DURATION_5 STEP_0 PITCH_64 VELOCITY_20 DURATION_5"
    assert tokens(piece) == line
    assert tokens(piece_of((38, 0, 1), is_drum=True)) == ""


def test_ids_are_int32():
    for notes in ([], [(60, 0, 0.5, 80)]):
        ids = NoteTokenizer().encode(piece_of(*notes))
        assert (ids.dtype, ids.ndim) == (np.int32, 1)
    assert ids.tolist() == [1, 3, 114, 201, 238, 2]


# Tokens in, notes out


@pytest.mark.parametrize(
    ("line", "notes"),
    [
        ("", []),
        ("START END", []),
        ("START STEP_25 PITCH_60 VELOCITY_20 DURATION_50 END", [(60, 25, 75, 78)]),
        ("PITCH_60 DURATION_50", [(60, 0, 50, 80)]),  # no step, no velocity yet: 0 and 80
        ("STEP_3 STEP_50 STEP_2 PITCH_60 DURATION_5", [(60, 55, 60, 80)]),  # steps add up
        ("PITCH_60 STEP_3 DURATION_5", [(60, 3, 8, 80)]),  # a note is there with its length
        ("PITCH_60 VELOCITY_3 STEP_5", []),  # a note without its length
        ("PITCH_60 PITCH_62 DURATION_5", [(62, 0, 5, 80)]),
        ("PITCH_60 DURATION_5 DURATION_7", [(60, 0, 5, 80)]),  # a length without its note
        ("PITCH_60 START VELOCITY_1 PAD DURATION_5 PAD", [(60, 0, 5, 2)]),
        ("PITCH_60 DURATION_5 END PITCH_62 DURATION_5", [(60, 0, 5, 80)]),
        (  # a velocity holds until the next
            "PITCH_60 VELOCITY_1 DURATION_5 PITCH_62 DURATION_5",
            [(60, 0, 5, 2), (62, 0, 5, 2)],
        ),
        (  # a note ends where its pitch begins again
            "PITCH_60 DURATION_50 STEP_9 PITCH_60 DURATION_1 PITCH_62 DURATION_50",
            [(60, 0, 9, 80), (60, 9, 10, 80), (62, 9, 59, 80)],
        ),
        (  # of two that begin together the last stays
            "PITCH_60 DURATION_50 STEP_0 PITCH_60 VELOCITY_32 DURATION_2",
            [(60, 0, 2, 126)],
        ),
    ],
)
def test_decode(line, notes):
    tokenizer = NoteTokenizer()
    ids = [tokenizer.vocabulary.index(token) for token in line.split()]
    assert notes_of(tokenizer.decode(ids), tokenizer) == sorted(notes)


def test_decode_gives_seconds_program_and_120():
    tokenizer = NoteTokenizer(steps_per_second=8, program=40)
    ids = [tokenizer.vocabulary.index(t) for t in ("STEP_4", "PITCH_60", "DURATION_3")]
    piece = tokenizer.decode(np.array(ids, np.int64))
    (row,) = piece.notes.to_dict("records")
    assert (row["start"], row["end"], row["program"]) == (0.5, 0.875, 40)
    assert piece.tempos["tempo_bpm"].tolist() == [120.0]


def test_the_layout_of_the_vocabulary():
    tokenizer = NoteTokenizer()
    vocabulary = tokenizer.vocabulary
    assert vocabulary[:4] == ("PAD", "START", "END", "STEP_0")
    assert vocabulary[53:55] == ("STEP_50", "PITCH_0")
    assert vocabulary[181:183] == ("PITCH_127", "VELOCITY_1")
    assert vocabulary[213:215] == ("VELOCITY_32", "DURATION_1")
    assert vocabulary[-1] == "DURATION_200"
    assert tokenizer.vocab_size == len(vocabulary) == len(set(vocabulary)) == 414
    assert NoteTokenizer(velocity_bins=0, max_step=1, max_duration=1).vocab_size == 134
    assert NoteTokenizer(steps_per_second=7).vocab_size == 3 + 8 + 128 + 32 + 28


# What reading means, written as a walk


def walk(tokenizer, ids):
    """What ids say, read one after another as `decode` describes it: (pitch, start, end, force)."""
    step, velocity, pitch, begun = 0, 80, None, {}
    for token in tokenizer.tokens(ids):
        kind, _, value = token.rpartition("_")
        if token == "END":
            break
        if kind == "STEP":
            step += int(value)
        elif kind == "PITCH":
            pitch = int(value)
        elif kind == "VELOCITY":
            bins = np.arange(127) * tokenizer.velocity_bins // 127 + 1  # of velocities 1-127
            velocity = int(np.median(1 + np.flatnonzero(bins == int(value))))
        elif kind == "DURATION" and pitch is not None:
            begun.setdefault(pitch, {})[step] = (int(value), velocity)
            pitch = None
    notes = []
    for pitch, starts in begun.items():
        for start, following in zip(starts, [*starts][1:] + [np.inf], strict=True):
            duration, force = starts[start]
            notes.append((pitch, start, int(min(start + duration, following)), force))
    return sorted(notes)


def garbage(tokenizer, seed, shape):
    """Ids of few values of each type; few `END`s; some rows end in `PAD`."""
    random = np.random.default_rng(seed)
    few = re.compile(r"(PAD|START|STEP_\d|PITCH_[67]|VELOCITY_\d|DURATION_\d\d?)")
    ids = np.flatnonzero([bool(few.fullmatch(token)) for token in tokenizer.vocabulary])
    ids = random.choice([*ids, *range(tokenizer.vocab_size)], shape)
    length = random.integers(0, 2 * shape[1] + 1, shape[0])[:, np.newaxis]
    return np.where(np.arange(shape[1]) < length, ids, 0).astype(np.int32)


def of_graph(tokenizer, ids):
    """The notes that `notes_in_graph` gives of each row, as `walk` gives them."""
    read = {name: x.numpy() for name, x in tokenizer.notes_in_graph(tf.constant(ids)).items()}
    columns = ("pitch", "start", "end", "velocity")
    assert {name: x.dtype for name, x in read.items()} == {
        "is_note": bool,
        "pitch": np.int32,
        "velocity": np.int32,
        "start": np.int64,
        "end": np.int64,
    }
    assert {x.shape for x in read.values()} == {ids.shape}
    assert not any(read[name][~read["is_note"]].any() for name in columns)
    for row, is_note in enumerate(read["is_note"]):
        notes = (read[name][row][is_note].tolist() for name in columns)
        yield sorted(zip(*notes, strict=True))


@pytest.mark.parametrize("name", SETTINGS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 80))
def test_decode_and_the_graph_read_any_ids_as_the_walk_does(name, seed, length):
    tokenizer = NoteTokenizer(**SETTINGS[name])
    ids = garbage(tokenizer, seed, (4, length))
    for row, in_graph in zip(ids, of_graph(tokenizer, ids), strict=True):
        piece = tokenizer.decode(row)
        assert in_graph == notes_of(piece, tokenizer) == walk(tokenizer, row)
        once = tokenizer.encode(piece)
        assert tokenizer.encode(tokenizer.decode(once)).tolist() == once.tolist()


def test_the_graph_takes_any_number_of_rows_and_ids():
    """Traced once, with neither known; and what the lesson of `notes_in_graph` shows."""
    tokenizer = NoteTokenizer()
    spec = tf.TensorSpec([None, None], tf.int32)
    graph = tf.function(tokenizer.notes_in_graph, input_signature=[spec])
    for shape in [(0, 0), (0, 5), (3, 0), (1, 1), (5, 70)]:
        ids = tf.constant(garbage(tokenizer, 0, shape))
        eager = tokenizer.notes_in_graph(ids)
        for name, values in graph(ids).items():
            assert values.shape == shape
            assert (values.numpy() == eager[name].numpy()).all()
    line = ["START", "STEP_25", "PITCH_60", "VELOCITY_20", "DURATION_50", "END"]
    read = graph(np.array([[tokenizer.vocabulary.index(t) for t in line]], np.int32))
    assert {name: values.numpy().tolist() for name, values in read.items()} == {
        "is_note": [[False, False, False, False, True, False]],
        "pitch": [[0, 0, 0, 0, 60, 0]],
        "velocity": [[0, 0, 0, 0, 78, 0]],
        "start": [[0, 0, 0, 0, 25, 0]],
        "end": [[0, 0, 0, 0, 75, 0]],
    }


def test_very_long_rows_do_not_overflow():
    """The longest steps of a very long row add up to more than int32 holds."""
    tokenizer = NoteTokenizer(max_step=10000)
    words = ["STEP_10000", "PITCH_60", "DURATION_1"]
    step, pitch, duration = (tokenizer.vocabulary.index(word) for word in words)
    ids = np.full(230_000, step, np.int32)
    ids[-2:] = pitch, duration
    place = 10000 * 229_998
    assert place > 2**31
    assert list(of_graph(tokenizer, ids[np.newaxis])) == [[(60, place, place + 1, 80)]]
    assert notes_of(tokenizer.decode(ids), tokenizer) == [(60, place, place + 1, 80)]


def test_late_notes_of_one_pitch_are_not_taken_for_early_ones_of_another():
    """Two of one pitch after 2**20 steps overlap; one of the next pitch stands near the start."""
    tokenizer = NoteTokenizer(max_step=10000, max_duration=10000, velocity_bins=0)
    words = "STEP_2500 PITCH_61 DURATION_1" + 104 * " STEP_10000" + " STEP_6076 PITCH_60 "
    words = [*words.split(), "DURATION_10000", "STEP_5000", "PITCH_60", "DURATION_1"]
    ids = np.array([tokenizer.vocabulary.index(word) for word in words], np.int32)
    late = 2**20
    expected = [(60, late, late + 5000, 80), (60, late + 5000, late + 5001, 80)]
    expected.append((61, 2500, 2501, 80))
    assert walk(tokenizer, ids) == notes_of(tokenizer.decode(ids), tokenizer) == expected
    assert list(of_graph(tokenizer, ids[np.newaxis])) == [expected]


# Properties

TIMES = st.floats(0, 20)
NOTES = st.lists(
    st.tuples(st.integers(58, 61) | st.integers(0, 127), TIMES, TIMES, st.integers(1, 127)),
    max_size=15,
).map(lambda notes: [(p, min(a, b), max(a, b), v) for p, a, b, v in notes])


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(list(SETTINGS)), notes=NOTES)
def test_encoding_what_was_decoded_gives_the_same_ids(name, notes):
    tokenizer = NoteTokenizer(**SETTINGS[name])
    ids = tokenizer.encode(piece_of(*notes))
    again = tokenizer.encode(tokenizer.decode(ids))
    assert again.tolist() == ids.tolist()
    velocity = r" VELOCITY_\d+" if tokenizer.velocity_bins else ""
    longest = rf"(STEP_{tokenizer.max_step} )*"
    form = rf"START ({longest}STEP_\d+ PITCH_\d+{velocity} DURATION_\d+ )*END"
    assert re.fullmatch(form, " ".join(tokenizer.tokens(ids)))


def sounding(notes):
    """(pitch, step) for each step in which each pitch sounds."""
    return {(pitch, step) for pitch, start, end in notes for step in range(start, end)}


@pytest.mark.parametrize("name", SETTINGS)
@settings(deadline=None, max_examples=40)
@given(notes=NOTES)
def test_what_is_lost_is_bounded(name, notes):
    """Every onset is within half a step and every velocity within half a bin; the sound is kept,
    up to the longest duration of each note."""
    tokenizer = NoteTokenizer(**SETTINGS[name])
    rate, bins = tokenizer.steps_per_second, tokenizer.velocity_bins
    decoded = notes_of(tokenizer.decode(tokenizer.encode(piece_of(*notes))), tokenizer)
    heard, spans = {}, []  # (pitch, onset step) -> the highest velocity
    for pitch, start, end, velocity in notes:
        first = round(start * rate)
        longest = first + tokenizer.max_duration
        spans.append((pitch, first, min(max(round(end * rate), first + 1), longest)))
        heard[pitch, first] = max(velocity, heard.get((pitch, first), 0))
    assert len(decoded) == len(heard)
    half_bin = np.ceil(127 / bins) / 2 if bins else None
    for pitch, start, end, velocity in decoded:
        expected = heard[pitch, start]
        assert abs(velocity - expected) <= half_bin if bins else velocity == 80
        assert 1 <= end - start <= tokenizer.max_duration
    assert sounding(note[:3] for note in decoded) == sounding(spans)


def test_ten_minutes_do_not_drift():
    """Times are rounded, then differenced; rounding the steps would lose a third of a second."""
    random = np.random.default_rng(0)
    start = np.cumsum(random.uniform(0.03, 0.09, 10_000))
    piece = Piece({"pitch": 60 + np.arange(10_000) % 12, "start": start, "end": start + 0.2})
    for rate in (10, 31, 100):
        tokenizer = NoteTokenizer(steps_per_second=rate)
        decoded = tokenizer.decode(tokenizer.encode(piece)).notes
        assert np.abs(np.sort(decoded["start"]) - start).max() <= 0.5 / rate + 1e-9


def test_all_chorales():
    tokenizer = NoteTokenizer()
    for piece in km.corpora.bach_chorales():
        ids = tokenizer.encode(piece)
        decoded = tokenizer.decode(ids)
        assert tokenizer.encode(decoded).tolist() == ids.tolist()
        steps = np.rint(piece.notes["start"].to_numpy() * 50).astype(int).tolist()
        onsets = {(pitch, start) for pitch, start, _, _ in notes_of(decoded, tokenizer)}
        assert onsets == set(zip(piece.notes["pitch"], steps, strict=True))


# Files


@pytest.mark.parametrize("name", SETTINGS)
def test_save_and_load(name, tmp_path):
    tokenizer = NoteTokenizer(**SETTINGS[name])
    loaded = tokenizers.load(tokenizer.save(tmp_path / "tokenizer.json"))
    assert loaded == tokenizer == tokenizers.from_json(tokenizer.to_json())
    assert loaded.vocabulary == tokenizer.vocabulary
    piece = piece_of((60, 0, 1.3, 77), (64, 0.5, 7, 12))
    assert loaded.encode(piece).tolist() == tokenizer.encode(piece).tolist()


def test_json():
    assert json.loads(NoteTokenizer(steps_per_second=31).to_json()) == {
        "tokenizer": "NoteTokenizer",
        "steps_per_second": 31,
        "max_step": 31,
        "max_duration": 124,
        "velocity_bins": 32,
        "program": 0,
    }
    assert NoteTokenizer() == NoteTokenizer(max_step=50) != NoteTokenizer(program=1)


# Errors


@pytest.mark.parametrize(
    ("arguments", "bounds"),
    [
        ({"steps_per_second": 0}, "1 to 1000"),
        ({"steps_per_second": 2.5}, "1 to 1000"),
        ({"max_step": 0}, "1 to 10000"),
        ({"max_step": 10001}, "1 to 10000"),
        ({"max_duration": 0}, "1 to 10000"),
        ({"max_duration": 10001}, "1 to 10000"),
        ({"velocity_bins": -1}, "0 to 127"),
        ({"velocity_bins": 128}, "0 to 127"),
        ({"program": 128}, "0 to 127"),
    ],
)
def test_arguments_out_of_range(arguments, bounds):
    ((name, value),) = arguments.items()
    sentence = f"`{name}` must be a whole number from {bounds}. Received: {name}={value}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        NoteTokenizer(**arguments)


def test_impossible_ids_and_pieces():
    tokenizer = NoteTokenizer()
    with pytest.raises(ValueError, match="`ids` must be from 0 to 413. Received: 414."):
        tokenizer.decode([1, 414])
    with pytest.raises(ValueError, match="`piece` must be a Piece. Received: str"):
        tokenizer.encode("song.mid")


@pytest.mark.parametrize("start", [1.1e7, 1e9, 1e18, 1e300, 1.7e308])
def test_a_piece_that_claims_to_last_for_years_is_refused(start):
    """A MIDI file of a few bytes can; its steps would fill the memory."""
    for notes in ([(60, start, start + 1)], [(60, 0.0, 1.0), (60, start, 1.75e308)]):
        with pytest.raises(ValueError, match="`piece` must give at most 10000000 tokens"):
            NoteTokenizer().encode(piece_of(*notes))
    assert tokens(piece_of((60, 0, 1.7e308)), velocity_bins=0) == "STEP_0 PITCH_60 DURATION_200"
