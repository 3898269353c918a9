"""The performance tokenizer: notes in, tokens out; tokens in, notes out."""

import functools
import json
import re

import miditok
import numpy as np
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music import tokenizers
from keras_music.midi import Piece
from keras_music.midi.files import merge, midi_bytes
from keras_music.tokenizers import PerformanceTokenizer
from keras_music.tokenizers.vocabulary import SPECIAL, Vocabulary

SETTINGS = {
    "default": {},
    "coarse": {"steps_per_second": 4, "velocity_bins": 1, "max_shift_steps": 3},
    "no velocity": {"steps_per_second": 50, "velocity_bins": 0},
    "fine": {"steps_per_second": 1000, "velocity_bins": 127, "program": 40},
    "short waits": {"velocity_bins": 8, "max_shift_steps": 1, "steps_per_second": 10},
    "programs": {"multi_program": True, "velocity_bins": 4},
    "pedal": {"pedal": "tokens", "steps_per_second": 31},
    "programs and pedals": {"multi_program": True, "pedal": "tokens", "steps_per_second": 10},
    "no pedal": {"pedal": "ignore", "multi_program": True},
}


def piece_of(*notes, **columns):
    """(pitch, start, end[, velocity]) ... -> Piece"""
    names = ["pitch", "start", "end", "velocity"]
    return Piece(dict(zip(names, zip(*notes, strict=True), strict=False)) | columns)


def tokens(piece, **arguments):
    """The tokens between `START` and `END`, as one line."""
    tokenizer = PerformanceTokenizer(**arguments)
    first, *middle, last = tokenizer.tokens(tokenizer.encode(piece))
    assert (first, last) == ("START", "END")
    return " ".join(middle)


def decoded(line, **arguments):
    """A line of tokens -> [(pitch, start step, end step, velocity), ...]"""
    tokenizer = PerformanceTokenizer(**arguments)
    piece = tokenizer.decode([tokenizer.vocabulary.index(token) for token in line.split()])
    steps = np.rint(piece.notes[["start", "end"]] * tokenizer.steps_per_second).astype(int)
    return list(
        zip(
            piece.notes["pitch"],
            steps["start"],
            steps["end"],
            piece.notes["velocity"],
            strict=True,
        )
    )


# Notes in, tokens out


@pytest.mark.parametrize(
    ("notes", "line"),
    [
        ([], ""),
        ([(60, 0, 0.5, 80)], "VELOCITY_20 NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60"),
        (  # a chord, from low to high, after a rest
            [(64, 0.25, 0.5, 80), (60, 0.25, 0.5, 80)],
            "TIME_SHIFT_25 VELOCITY_20 NOTE_ON_60 NOTE_ON_64 TIME_SHIFT_25 NOTE_OFF_60 NOTE_OFF_64",
        ),
        (  # velocity is written when it changes
            [(60, 0, 0.1, 1), (62, 0.1, 0.2, 4), (64, 0.2, 0.3, 5), (65, 0.3, 0.4, 127)],
            "VELOCITY_1 NOTE_ON_60 TIME_SHIFT_10 NOTE_OFF_60 NOTE_ON_62 TIME_SHIFT_10 NOTE_OFF_62 "
            "VELOCITY_2 NOTE_ON_64 TIME_SHIFT_10 NOTE_OFF_64 VELOCITY_32 NOTE_ON_65 TIME_SHIFT_10 "
            "NOTE_OFF_65",
        ),
        (  # a wait of one second is one token, longer ones are split
            [(60, 1, 2, 80), (62, 4.01, 4.02, 80)],
            "TIME_SHIFT_100 VELOCITY_20 NOTE_ON_60 TIME_SHIFT_100 NOTE_OFF_60 TIME_SHIFT_100 "
            "TIME_SHIFT_100 TIME_SHIFT_1 NOTE_ON_62 TIME_SHIFT_1 NOTE_OFF_62",
        ),
        (  # releases come before presses of the same step
            [(60, 0, 0.1, 80), (50, 0.1, 0.2, 80), (60, 0.1, 0.2, 80)],
            "VELOCITY_20 NOTE_ON_60 TIME_SHIFT_10 NOTE_OFF_60 NOTE_ON_50 NOTE_ON_60 TIME_SHIFT_10 "
            "NOTE_OFF_50 NOTE_OFF_60",
        ),
        (  # a sounding pitch pressed again sounds on to the last of the ends
            [(60, 0, 0.9, 80), (60, 0.2, 0.5, 80)],
            "VELOCITY_20 NOTE_ON_60 TIME_SHIFT_20 NOTE_OFF_60 NOTE_ON_60 TIME_SHIFT_70 NOTE_OFF_60",
        ),
        (  # but not beyond them
            [(60, 0, 0.9, 80), (60, 0.2, 0.5, 80), (60, 1, 1.1, 80)],
            "VELOCITY_20 NOTE_ON_60 TIME_SHIFT_20 NOTE_OFF_60 NOTE_ON_60 TIME_SHIFT_70 NOTE_OFF_60 "
            "TIME_SHIFT_10 NOTE_ON_60 TIME_SHIFT_10 NOTE_OFF_60",
        ),
        (  # a unison is one press, at the highest velocity
            [(60, 0, 0.1, 127), (60, 0.004, 0.3, 1)],
            "VELOCITY_32 NOTE_ON_60 TIME_SHIFT_30 NOTE_OFF_60",
        ),
        (  # a note has at least one step
            [(60, 0.5, 0.5, 80), (62, 0.5, 0.504, 80)],
            "TIME_SHIFT_50 VELOCITY_20 NOTE_ON_60 NOTE_ON_62 TIME_SHIFT_1 NOTE_OFF_60 NOTE_OFF_62",
        ),
        (  # times are rounded, not cut off
            [(60, 0.006, 0.016, 80)],
            "TIME_SHIFT_1 VELOCITY_20 NOTE_ON_60 TIME_SHIFT_1 NOTE_OFF_60",
        ),
    ],
)
def test_encode(notes, line):
    assert tokens(piece_of(*notes)) == line


def test_settings_change_the_tokens():
    piece = piece_of((60, 0, 1, 80), (62, 2, 3.5, 20))
    assert tokens(piece, steps_per_second=2, velocity_bins=0, max_shift_steps=2) == (
        "NOTE_ON_60 TIME_SHIFT_2 NOTE_OFF_60 TIME_SHIFT_2 NOTE_ON_62 TIME_SHIFT_2 TIME_SHIFT_1 "
        "NOTE_OFF_62"
    )
    assert tokens(piece, steps_per_second=10, velocity_bins=127, max_shift_steps=50) == (
        "VELOCITY_80 NOTE_ON_60 TIME_SHIFT_10 NOTE_OFF_60 TIME_SHIFT_10 VELOCITY_20 NOTE_ON_62 "
        "TIME_SHIFT_15 NOTE_OFF_62"
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
    line = "VELOCITY_20 NOTE_ON_60 NOTE_ON_64 TIME_SHIFT_10 NOTE_OFF_60 NOTE_OFF_64"
    assert tokens(piece) == line
    assert tokens(piece_of((38, 0, 1), is_drum=True)) == ""


def test_ids_are_int32():
    for notes in ([], [(60, 0, 0.5, 80)]):
        ids = PerformanceTokenizer().encode(piece_of(*notes))
        assert (ids.dtype, ids.ndim) == (np.int32, 1)
    assert ids.tolist() == [1, 378, 63, 308, 191, 2]


# Tokens in, notes out


@pytest.mark.parametrize(
    ("line", "notes"),
    [
        ("", []),
        ("START END", []),
        ("START VELOCITY_20 NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60 END", [(60, 0, 50, 78)]),
        ("NOTE_ON_60 TIME_SHIFT_5 NOTE_OFF_60", [(60, 0, 5, 80)]),  # no velocity yet: 80
        ("TIME_SHIFT_5 NOTE_OFF_60", []),  # a release of a silent pitch
        ("NOTE_ON_60 NOTE_OFF_60", [(60, 0, 1, 80)]),  # no time between: one step
        (  # a press of a sounding pitch ends the note before
            "NOTE_ON_60 TIME_SHIFT_5 VELOCITY_1 NOTE_ON_60 TIME_SHIFT_7 NOTE_OFF_60",
            [(60, 0, 5, 80), (60, 5, 12, 2)],
        ),
        ("NOTE_ON_60 TIME_SHIFT_100 TIME_SHIFT_5", [(60, 0, 105, 80)]),  # never released
        ("NOTE_ON_60 TIME_SHIFT_5 END TIME_SHIFT_5 NOTE_ON_62", [(60, 0, 5, 80)]),
        ("PAD NOTE_ON_60 PAD START TIME_SHIFT_5 PAD", [(60, 0, 5, 80)]),
        ("TIME_SHIFT_3 VELOCITY_32 NOTE_ON_0 NOTE_ON_127 TIME_SHIFT_1 NOTE_OFF_127 NOTE_OFF_0",
         [(0, 3, 4, 126), (127, 3, 4, 126)]),
    ],
)  # fmt: skip
def test_decode(line, notes):
    assert decoded(line) == notes


def test_decode_gives_seconds_program_and_120():
    tokenizer = PerformanceTokenizer(steps_per_second=8, program=40)
    ids = [tokenizer.vocabulary.index(t) for t in ("NOTE_ON_60", "TIME_SHIFT_3", "NOTE_OFF_60")]
    piece = tokenizer.decode(np.array(ids, np.int64))
    (row,) = piece.notes.to_dict("records")
    assert (row["start"], row["end"], row["program"]) == (0.0, 0.375, 40)
    assert piece.tempos["tempo_bpm"].tolist() == [120.0]


# Several programs

BASS = {"velocity": 80, "program": 32, "track": 4}
HAT = {"pitch": 42, "velocity": 80, "program": 9, "is_drum": True, "track": 2}


@pytest.mark.parametrize(
    ("notes", "line"),
    [
        (  # the example of the module's docstring
            [BASS | {"pitch": 36, "start": 0, "end": 0.5}, HAT | {"start": 0, "end": 0.5}],
            "PROGRAM_32 VELOCITY_20 NOTE_ON_36 PROGRAM_128 NOTE_ON_42 "
            "TIME_SHIFT_50 PROGRAM_32 NOTE_OFF_36 PROGRAM_128 NOTE_OFF_42",
        ),
        (  # a piece begins with program 0
            [{"pitch": 60, "start": 0, "end": 0.5}],
            "VELOCITY_20 NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60",
        ),
        (  # a pitch of one program does not end that of another; velocity is one for all
            [BASS | {"pitch": 60, "start": 0, "end": 0.9, "velocity": 1},
             {"pitch": 60, "start": 0.2, "end": 0.3, "velocity": 1}],
            "PROGRAM_32 VELOCITY_1 NOTE_ON_60 TIME_SHIFT_20 PROGRAM_0 NOTE_ON_60 TIME_SHIFT_10 "
            "NOTE_OFF_60 TIME_SHIFT_60 PROGRAM_32 NOTE_OFF_60",
        ),
        (  # in a step one program after the other, though their numbers are neighbours
            [{"pitch": 60, "start": s, "end": s + 0.5, "program": p, "track": p, "velocity": 80}
             for p in (0, 1) for s in (0, 0.5)],
            "VELOCITY_20 NOTE_ON_60 PROGRAM_1 NOTE_ON_60 TIME_SHIFT_50 PROGRAM_0 NOTE_OFF_60 "
            "NOTE_ON_60 PROGRAM_1 NOTE_OFF_60 NOTE_ON_60 TIME_SHIFT_50 PROGRAM_0 NOTE_OFF_60 "
            "PROGRAM_1 NOTE_OFF_60",
        ),
        (  # tracks of one program are one
            [BASS | {"pitch": 60, "start": 0, "end": 0.9},
             BASS | {"pitch": 60, "start": 0.2, "end": 0.3, "track": 5}],
            "PROGRAM_32 VELOCITY_20 NOTE_ON_60 TIME_SHIFT_20 NOTE_OFF_60 NOTE_ON_60 "
            "TIME_SHIFT_70 NOTE_OFF_60",
        ),
    ],
)  # fmt: skip
def test_encode_programs(notes, line):
    assert tokens(Piece(notes), multi_program=True) == line


def test_decode_programs():
    """Each program is a track, in ascending order, the drums last; before the first: program 0."""
    tokenizer = PerformanceTokenizer(multi_program=True, program=7)
    line = (
        "NOTE_ON_60 PROGRAM_128 NOTE_ON_36 PROGRAM_40 NOTE_OFF_60 NOTE_ON_60 TIME_SHIFT_5 "
        "PROGRAM_0 NOTE_OFF_60 TIME_SHIFT_5 PROGRAM_128 NOTE_OFF_36"
    )
    piece = tokenizer.decode([tokenizer.vocabulary.index(token) for token in line.split()])
    columns = piece.notes[["pitch", "start", "end", "program", "is_drum", "track"]]
    assert columns.to_numpy().tolist() == [
        [36, 0.0, 0.1, 0, True, 2],
        [60, 0.0, 0.05, 0, False, 0],
        [60, 0.0, 0.1, 40, False, 1],
    ]


# The sustain pedal


@pytest.mark.parametrize(
    ("pedals", "extended", "with_tokens"),
    [
        (  # the example of the module's docstring
            [(0, 0.9)],
            "NOTE_ON_60 TIME_SHIFT_90 NOTE_OFF_60",
            "PEDAL_ON NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60 TIME_SHIFT_40 PEDAL_OFF",
        ),
        (  # pressed together with the release: held; lifted with it: not
            [(0.2, 0.4), (0.5, 0.6)],
            "NOTE_ON_60 TIME_SHIFT_60 NOTE_OFF_60",
            "NOTE_ON_60 TIME_SHIFT_20 PEDAL_ON TIME_SHIFT_20 PEDAL_OFF TIME_SHIFT_10 PEDAL_ON "
            "NOTE_OFF_60 TIME_SHIFT_10 PEDAL_OFF",
        ),
        (
            [(0.2, 0.5)],
            "NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60",
            "NOTE_ON_60 TIME_SHIFT_20 PEDAL_ON TIME_SHIFT_30 PEDAL_OFF NOTE_OFF_60",
        ),
        (  # lifted for less than a step: the strings fall silent all the same
            [(0.2, 0.7), (0.7, 0.9)],
            "NOTE_ON_60 TIME_SHIFT_70 NOTE_OFF_60",
            "NOTE_ON_60 TIME_SHIFT_20 PEDAL_ON TIME_SHIFT_30 NOTE_OFF_60 TIME_SHIFT_20 PEDAL_OFF "
            "PEDAL_ON TIME_SHIFT_20 PEDAL_OFF",
        ),
        (  # overlapping spans are one; one without length is none
            [(0.2, 0.7), (0.3, 0.9), (0.1, 0.104)],
            "NOTE_ON_60 TIME_SHIFT_90 NOTE_OFF_60",
            "NOTE_ON_60 TIME_SHIFT_20 PEDAL_ON TIME_SHIFT_30 NOTE_OFF_60 TIME_SHIFT_40 PEDAL_OFF",
        ),
    ],
)
def test_encode_pedals(pedals, extended, with_tokens):
    pedals = [{"start": start, "end": end} for start, end in pedals]
    piece = Piece([{"pitch": 60, "start": 0, "end": 0.5}], pedals=pedals)
    assert tokens(piece, velocity_bins=0) == extended
    assert tokens(piece, velocity_bins=0, pedal="tokens") == with_tokens
    unpedalled = "NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60"
    assert tokens(piece, velocity_bins=0, pedal="ignore") == unpedalled


def test_a_note_under_the_pedal_ends_where_its_key_is_pressed_again():
    notes = piece_of((60, 0, 0.1), (60, 0.5, 0.6)).notes
    piece = Piece(notes, pedals=[{"start": 0, "end": 1}])
    assert tokens(piece, velocity_bins=0) == (
        "NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60 NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60"
    )


def test_a_pedal_is_that_of_its_track():
    """Held: what stands on the pedal's track. As tokens: of the program, or of all tracks, merged.

    The pedal of a track without notes is nobody's.
    """
    piece = Piece(
        {"pitch": [60, 62], "start": 0, "end": 0.1, "track": [0, 1], "program": [0, 5]},
        pedals={"start": [0, 0.2, 0], "end": [0.3, 0.4, 0.9], "track": [1, 0, 7]},
    )
    assert tokens(piece, velocity_bins=0) == (
        "NOTE_ON_60 NOTE_ON_62 TIME_SHIFT_10 NOTE_OFF_60 TIME_SHIFT_20 NOTE_OFF_62"
    )
    assert tokens(piece, velocity_bins=0, pedal="tokens") == (
        "PEDAL_ON NOTE_ON_60 NOTE_ON_62 TIME_SHIFT_10 NOTE_OFF_60 NOTE_OFF_62 TIME_SHIFT_30 "
        "PEDAL_OFF"
    )
    assert tokens(piece, velocity_bins=0, pedal="tokens", multi_program=True) == (
        "NOTE_ON_60 PROGRAM_5 PEDAL_ON NOTE_ON_62 TIME_SHIFT_10 PROGRAM_0 NOTE_OFF_60 PROGRAM_5 "
        "NOTE_OFF_62 TIME_SHIFT_10 PROGRAM_0 PEDAL_ON TIME_SHIFT_10 PROGRAM_5 PEDAL_OFF "
        "TIME_SHIFT_10 PROGRAM_0 PEDAL_OFF"
    )


def test_in_a_step_a_program_ends_before_the_pedal_of_the_next_one():
    piece = Piece(
        {"pitch": 60, "start": [0.5, 0], "end": 1.0, "program": [0, 1], "track": [0, 1]},
        pedals={"start": [0], "end": [0.5], "track": [1]},
    )
    assert tokens(piece, velocity_bins=0, pedal="tokens", multi_program=True) == (
        "PROGRAM_1 PEDAL_ON NOTE_ON_60 TIME_SHIFT_50 PROGRAM_0 NOTE_ON_60 PROGRAM_1 PEDAL_OFF "
        "TIME_SHIFT_50 PROGRAM_0 NOTE_OFF_60 PROGRAM_1 NOTE_OFF_60"
    )


@pytest.mark.parametrize(
    ("line", "pedals"),
    [
        ("PEDAL_ON TIME_SHIFT_5 PEDAL_OFF NOTE_ON_60", [(0, 5)]),
        ("NOTE_ON_60 TIME_SHIFT_5 PEDAL_ON TIME_SHIFT_5 END TIME_SHIFT_5", [(5, 10)]),
        ("NOTE_ON_60 PEDAL_OFF TIME_SHIFT_5 PEDAL_ON", []),  # up already; down for no time
        ("NOTE_ON_60 PEDAL_ON TIME_SHIFT_5 PEDAL_ON TIME_SHIFT_5 PEDAL_OFF", [(0, 5), (5, 10)]),
        ("PEDAL_ON TIME_SHIFT_5 PEDAL_OFF", []),  # nobody plays
    ],
)
def test_decode_pedals(line, pedals):
    tokenizer = PerformanceTokenizer(pedal="tokens")
    piece = tokenizer.decode([tokenizer.vocabulary.index(token) for token in line.split()])
    assert np.rint(piece.pedals[["start", "end"]] * 100).to_numpy().tolist() == list(
        map(list, pedals)
    )


# The vocabulary


def test_the_layout_of_the_vocabulary():
    tokenizer = PerformanceTokenizer()
    vocabulary = tokenizer.vocabulary
    assert vocabulary[:4] == ("PAD", "START", "END", "NOTE_ON_0")
    assert vocabulary[130:132] == ("NOTE_ON_127", "NOTE_OFF_0")
    assert vocabulary[258:260] == ("NOTE_OFF_127", "TIME_SHIFT_1")
    assert vocabulary[358:360] == ("TIME_SHIFT_100", "VELOCITY_1")
    assert vocabulary[-1] == "VELOCITY_32"
    assert tokenizer.vocab_size == len(vocabulary) == len(set(vocabulary)) == 391
    assert PerformanceTokenizer(velocity_bins=0, max_shift_steps=1).vocab_size == 260
    assert PerformanceTokenizer(steps_per_second=7).vocab_size == 259 + 7 + 32
    everything = PerformanceTokenizer(multi_program=True, pedal="tokens")
    assert everything.vocabulary[:391] == vocabulary
    assert everything.vocabulary[391::128] == ("PROGRAM_0", "PROGRAM_128")
    assert everything.vocabulary[520:] == ("PEDAL_ON", "PEDAL_OFF")


def test_the_table_counts_the_ids_once():
    table = Vocabulary([*SPECIAL, ("A", 5, 7), ("B", 0, 1), ("C", 0, 0)])
    assert table.tokens == ("PAD", "START", "END", "A_5", "A_6", "A_7", "B_0", "B_1", "C")
    assert table.size == 9
    assert table.ids("A", [5, 7]).tolist() == [3, 5]
    assert table.ids("B", 1) == 7
    assert table.value_of.tolist() == [0, 0, 0, 5, 6, 7, 0, 1, 0]
    assert table.row_of.tolist() == [0, 1, 2, 3, 3, 3, 4, 4, 5]


# Properties

TIMES = st.floats(0, 20)
NOTES = st.lists(
    st.tuples(st.integers(58, 61) | st.integers(0, 127), TIMES, TIMES, st.integers(1, 127)),
    max_size=15,
).map(lambda notes: [(p, min(a, b), max(a, b), v) for p, a, b, v in notes])


@settings(deadline=None, max_examples=1000)
@given(name=st.sampled_from(list(SETTINGS)), notes=NOTES)
def test_encoding_what_was_decoded_gives_the_same_ids(name, notes):
    tokenizer = PerformanceTokenizer(**SETTINGS[name])
    ids = tokenizer.encode(piece_of(*notes))
    again = tokenizer.encode(tokenizer.decode(ids))
    assert again.tolist() == ids.tolist()


def sounding(notes, rate, num_steps):
    """At which steps each pitch sounds: (128, steps), true or false."""
    roll = np.zeros((128, num_steps), bool)
    for pitch, start, end in notes:
        first = round(start * rate)
        roll[pitch, first : max(round(end * rate), first + 1)] = True
    return roll


@pytest.mark.parametrize("name", SETTINGS)
@settings(deadline=None, max_examples=40)
@given(notes=NOTES)
def test_what_is_lost_is_bounded(name, notes):
    """Every onset is within half a step and every velocity within half a bin; the sound is kept."""
    tokenizer = PerformanceTokenizer(**SETTINGS[name])
    rate, bins = tokenizer.steps_per_second, tokenizer.velocity_bins
    decoded = tokenizer.decode(tokenizer.encode(piece_of(*notes))).notes
    heard = {}  # (pitch, onset step) -> the highest velocity
    for pitch, start, _, velocity in notes:
        key = pitch, round(start * rate)
        heard[key] = max(velocity, heard.get(key, 0))
        onsets = decoded["start"][decoded["pitch"] == pitch]
        assert np.abs(onsets - start).min() <= 0.5 / rate + 1e-9
    assert len(decoded) == len(heard)
    half_bin = np.ceil(127 / bins) / 2 if bins else None
    for row in decoded.itertuples():
        expected = heard[row.pitch, round(row.start * rate)]
        assert abs(row.velocity - expected) <= half_bin if bins else row.velocity == 80
    assert (decoded["program"] == tokenizer.program).all()
    spans = list(decoded[["pitch", "start", "end"]].itertuples(index=False))
    size = 20 * rate + 2
    assert (sounding(spans, rate, size) == sounding([n[:3] for n in notes], rate, size)).all()


def test_ten_minutes_do_not_drift():
    """Times are rounded, then differenced; rounding the waits would lose a third of a second."""
    random = np.random.default_rng(0)
    start = np.cumsum(random.uniform(0.03, 0.09, 10_000))
    assert start[-1] > 590
    piece = Piece({"pitch": 60 + np.arange(10_000) % 12, "start": start, "end": start + 0.2})
    for rate in (10, 31, 100):
        tokenizer = PerformanceTokenizer(steps_per_second=rate)
        decoded = tokenizer.decode(tokenizer.encode(piece)).notes
        # With ten steps a second the order within a step is lost; the onsets are not.
        onsets = np.sort(decoded["start"])
        assert len(onsets) == len(start)
        assert np.abs(onsets - start).max() <= 0.5 / rate + 1e-9


def test_every_velocity_is_played_within_half_a_bin():
    notes = [(60, v, v + 0.5, v) for v in range(1, 128)]
    for bins in (1, 2, 3, 8, 31, 32, 100, 126, 127):
        tokenizer = PerformanceTokenizer(velocity_bins=bins)
        played = tokenizer.decode(tokenizer.encode(piece_of(*notes))).notes["velocity"]
        assert np.abs(played - np.arange(1, 128)).max() <= np.ceil(127 / bins) / 2
        assert played.nunique() == bins


@pytest.mark.parametrize("name", SETTINGS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_ids_decode_and_every_note_has_a_step(name, data):
    tokenizer = PerformanceTokenizer(**SETTINGS[name])
    some = st.sampled_from([1, 2, 63, 64, 191, 192, 259, tokenizer.vocab_size - 1])
    ids = data.draw(st.lists(some | st.integers(0, tokenizer.vocab_size - 1), max_size=60))
    piece = tokenizer.decode(ids)
    steps = (piece.notes["end"] - piece.notes["start"]) * tokenizer.steps_per_second
    assert (steps >= 1 - 1e-6).all()
    presses = [i for i in ids[: ids.index(2) if 2 in ids else None] if 3 <= i <= 130]
    assert len(piece) == len(presses)
    once = tokenizer.encode(piece)
    assert tokenizer.encode(tokenizer.decode(once)).tolist() == once.tolist()


# Programs, drums and pedals: what is heard

BANDS = st.lists(
    st.fixed_dictionaries(
        {
            "pitch": st.integers(59, 61) | st.integers(0, 127),
            "velocity": st.integers(1, 127),
            "times": st.tuples(TIMES, TIMES),
            "track": st.integers(0, 2),
            "program": st.sampled_from([0, 0, 1, 127]),
            "is_drum": st.booleans(),
        }
    ),
    max_size=10,
)
PEDALS = st.lists(st.tuples(st.integers(0, 3), TIMES, TIMES), max_size=8)


def band(notes, pedals):
    notes = [note | {"start": min(note["times"]), "end": max(note["times"])} for note in notes]
    pedals = [{"track": track, "start": min(a, b), "end": max(a, b)} for track, a, b in pedals]
    return Piece(notes, pedals=pedals)


def written(piece, tokenizer):
    """What a tokenizer should write of a piece, told note by note and step by step.

    Returns:
      {(program, pitch): the steps in which it sounds}, {(program, pitch, onset): velocity} and
      {program: the spans of its pedal}.
    """

    def steps(row):
        return round(row.start * tokenizer.steps_per_second), round(
            row.end * tokenizer.steps_per_second
        )

    spans = {}  # track -> pedals
    for row in piece.pedals.itertuples():
        spans.setdefault(row.track, []).append(steps(row))
    sound, onsets, players = {}, {}, {}
    for row in piece.notes.itertuples():
        if row.is_drum and not tokenizer.multi_program:
            continue
        program = (128 if row.is_drum else row.program) if tokenizer.multi_program else 0
        start, end = steps(row)
        here = spans.get(row.track, [])
        if tokenizer.pedal == "extend" and any(down <= end < up for down, up in here):
            end += 1
            while any(down < end < up for down, up in here):
                end += 1
        sound.setdefault((program, row.pitch), set()).update(range(start, max(end, start + 1)))
        onset = program, row.pitch, start
        onsets[onset] = max(row.velocity, onsets.get(onset, 0))
        players.setdefault(program, set()).add(row.track)
    pedals = {}
    if tokenizer.pedal == "tokens":
        for program, tracks in players.items():
            down = sorted(s for track in tracks for s in spans.get(track, []) if s[0] < s[1])
            pedals |= {program: merge(down)} if down else {}
    return sound, onsets, pedals


@settings(deadline=None, max_examples=500)
@given(name=st.sampled_from(list(SETTINGS)), notes=BANDS, pedals=PEDALS)
def test_what_is_decoded_is_what_was_heard(name, notes, pedals):
    """Every onset of every program, its velocity within half a bin, its sound and its pedals."""
    tokenizer = PerformanceTokenizer(**SETTINGS[name])
    piece = band(notes, pedals)
    ids = tokenizer.encode(piece)
    again = tokenizer.decode(ids)
    assert tokenizer.encode(again).tolist() == ids.tolist()
    sound, onsets, spans = written(piece, tokenizer)
    if not tokenizer.multi_program:
        assert set(again.notes["program"]) <= {tokenizer.program}
        again = Piece(again.notes.assign(program=0), pedals=again.pedals)
    found_sound, found_onsets, found_spans = written(again, tokenizer)
    assert (found_sound, found_spans) == (sound, spans)
    assert found_onsets.keys() == onsets.keys()
    if tokenizer.velocity_bins:
        half_bin = np.ceil(127 / tokenizer.velocity_bins) / 2
        assert all(abs(found_onsets[key] - onsets[key]) <= half_bin for key in onsets)
    if not len(again.pedals):  # no note of a key begins while it sounds
        assert sum(map(len, found_sound.values())) == sum(
            round((row.end - row.start) * tokenizer.steps_per_second)
            for row in again.notes.itertuples()
        )


def by_walking(ids, tokenizer):
    """What `decode` says, as one reads who goes from token to token, in steps.

    Returns:
      Sorted [(program, pitch, start, end, velocity), ...] and [(program, start, end), ...].
    """
    step, program, velocity = 0, 0, 80
    sounding, notes, pedals = {}, [], []  # (program, pitch or "pedal") -> (start, velocity)

    def release(key):
        if (program, key) in sounding:
            close(program, key)

    def close(program, key):
        start, force = sounding.pop((program, key))
        if key != "pedal":
            notes.append((program, key, start, max(step, start + 1), force))
        elif step > start:
            pedals.append((program, start, step))

    for token in tokenizer.tokens(ids):
        kind, _, value = token.rpartition("_")
        if token == "END":
            break
        if kind == "TIME_SHIFT":
            step += int(value)
        elif kind == "VELOCITY":
            low, high = ((int(value) - i) * 127 / tokenizer.velocity_bins for i in (1, 0))
            velocity = int(np.median([v for v in range(1, 128) if low <= v - 1 < high]))
        elif kind == "PROGRAM":
            program = int(value)
        elif kind in ("NOTE_ON", "NOTE_OFF", "PEDAL"):
            key = "pedal" if kind == "PEDAL" else int(value)
            release(key)
            if token == "PEDAL_ON" or kind == "NOTE_ON":
                sounding[program, key] = step, velocity
    for key in list(sounding):
        close(*key)
    players = {note[0] for note in notes}
    return sorted(notes), sorted(pedal for pedal in pedals if pedal[0] in players)


def contents(piece, rate):
    """A piece as `by_walking` tells it: each program (128: drums) on a track of its own."""
    notes = piece.notes
    program = np.where(notes["is_drum"], 128, notes["program"])
    program_of = dict(zip(notes["track"], program, strict=True))
    steps = np.rint(notes[["start", "end"]].to_numpy() * rate).astype(int).T.tolist()
    columns = [program.tolist(), notes["pitch"], *steps, notes["velocity"]]
    spans = np.rint(piece.pedals[["start", "end"]].to_numpy() * rate).astype(int).T.tolist()
    pedals = [[int(program_of[track]) for track in piece.pedals["track"]], *spans]
    return [sorted(zip(*x, strict=True)) for x in (columns, pedals)]


@functools.cache
def tokenizer_and_graph(name):
    """A tokenizer, and its `notes_in_graph` as a graph that knows neither batch nor time."""
    import tensorflow as tf

    tokenizer = PerformanceTokenizer(**SETTINGS[name])
    signature = [tf.TensorSpec([None, None], tf.int32)]
    return tokenizer, tf.function(tokenizer.notes_in_graph, input_signature=signature)


def any_ids(tokenizer):
    """Rows of any ids; three quarters of them few enough to meet again."""
    kinds = ("NOTE_ON_60", "NOTE_OFF_60", "TIME_SHIFT_1", "PROGRAM_0", "PROGRAM_128", "PEDAL_O")
    few = [i for i, token in enumerate(tokenizer.vocabulary) if token.startswith(kinds)]
    few = [i for i in few if not tokenizer.vocabulary[i].startswith("TIME_SHIFT_1")] + [259, 2]
    ids = st.sampled_from(few * 3) | st.integers(0, tokenizer.vocab_size - 1)
    return st.lists(st.lists(ids, max_size=40), min_size=1, max_size=3)


@pytest.mark.parametrize("name", SETTINGS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_ids_are_read_alike_by_decode_by_the_graph_and_by_walking(name, data):
    tokenizer, graph = tokenizer_and_graph(name)
    rows = data.draw(any_ids(tokenizer))
    batch = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for place, ids in enumerate(rows):
        batch[place, : len(ids)] = ids
    found = {key: x.numpy() for key, x in graph(batch).items()}
    assert ("program" in found, "is_pedal" in found) == (
        tokenizer.multi_program,
        tokenizer.pedal == "tokens",
    )
    for place, ids in enumerate(rows):
        expected_notes, expected_pedals = by_walking(ids, tokenizer)
        piece = tokenizer.decode(ids)
        if not tokenizer.multi_program:
            piece = Piece(piece.notes.assign(program=0), pedals=piece.pedals)
        assert contents(piece, tokenizer.steps_per_second) == [expected_notes, expected_pedals]
        row = {key: x[place] for key, x in found.items()}
        row = {"program": 0 * row["pitch"], "is_pedal": row["is_note"] & False} | row
        with_notes = np.isin(row["program"], row["program"][row["is_note"]])
        for is_here, names, expected in (
            (row["is_note"], ("program", "pitch", "start", "end", "velocity"), expected_notes),
            (row["is_pedal"] & with_notes, ("program", "start", "end"), expected_pedals),
        ):
            columns = [row[name][is_here].tolist() for name in names]
            assert sorted(zip(*columns, strict=True)) == expected
        nothing = ~(row["is_note"] | row["is_pedal"])
        assert not (row["is_note"] & row["is_pedal"]).any()
        assert not any(row[name][nothing].any() for name in ("program", "start", "end"))
        assert not any(row[name][~row["is_note"]].any() for name in ("pitch", "velocity"))


def test_a_pedal_is_no_key_of_the_next_program():
    tokenizer, graph = tokenizer_and_graph("programs and pedals")
    words = "PEDAL_ON NOTE_ON_60 TIME_SHIFT_5 PROGRAM_1 NOTE_ON_0 TIME_SHIFT_5 NOTE_OFF_0 "
    words += "PROGRAM_0 NOTE_OFF_60 PEDAL_OFF TIME_SHIFT_5"
    ids = [tokenizer.vocabulary.index(word) for word in words.split()]
    notes, pedals = by_walking(ids, tokenizer)
    assert pedals == [(0, 0, 10)]
    assert contents(tokenizer.decode(ids), tokenizer.steps_per_second) == [notes, pedals]
    found = {key: x.numpy() for key, x in graph(np.array([ids], np.int32)).items()}
    assert found["end"][found["is_pedal"]].tolist() == [10]


def test_the_types_in_the_graph():
    _, graph = tokenizer_and_graph("programs and pedals")
    types = {key: x.dtype.name for key, x in graph([[1, 63, 2]]).items()}
    assert types == dict.fromkeys(["is_note", "is_pedal"], "bool") | dict.fromkeys(
        ["pitch", "velocity", "program"], "int32"
    ) | dict.fromkeys(["start", "end"], "int64")
    assert {x.shape for x in graph(np.zeros((0, 0), np.int32)).values()} == {(0, 0)}


# MidiTok's MIDI-like tokenizer as an oracle, on a grid of 16 steps a second: 8 to the beat at 120


@functools.cache
def oracle(*, programs, pedals=False):
    config = miditok.TokenizerConfig(
        pitch_range=(0, 127),
        num_velocities=127,
        beat_res={(0, 16): 8},
        use_programs=programs,
        programs=list(range(-1, 128)),
        use_pitchdrum_tokens=False,
        use_sustain_pedals=pedals,
    )
    return miditok.MIDILike(config)


def theirs(piece, *, programs):
    """A piece as it comes back from MidiTok: sorted [(program, pitch, start, end, velocity)]"""
    tokenizer = oracle(programs=programs)
    score = tokenizer.decode(tokenizer.encode(symusic.Score.from_midi(midi_bytes(piece))))
    has_notes = any(len(track.notes) for track in score.tracks)
    return contents(km.read_midi(score.dumps_midi()), 16)[0] if has_notes else []


def ours(piece, *, programs):
    """A piece as it comes back from us, and what that gives in MidiTok."""
    tokenizer = PerformanceTokenizer(16, 127, multi_program=programs)
    again = tokenizer.decode(tokenizer.encode(piece))
    return contents(again, 16)[0], theirs(again, programs=programs)


@pytest.mark.parametrize("programs", [False, True])
@settings(deadline=None, max_examples=60)
@given(notes=BANDS)
def test_miditok_agrees_note_for_note(programs, notes):
    """On what lies on the grid, and where no key is pressed while it sounds.

    So both read what our tokenizer made of a piece: then they find the same notes in it. What they
    make of other pieces differs, see below.
    """
    first, second = ours(band(notes, []), programs=programs)
    assert first == second


@pytest.mark.parametrize(
    ("notes", "by_us", "by_miditok"),
    [
        # A key pressed while it sounds: we let it up first, and it sounds to the last of the ends.
        # There both notes sound at once, and the release that comes first ends the first press.
        ([(60, 0, 8), (60, 4, 12)], [(60, 0, 4), (60, 4, 12)], [(60, 0, 8), (60, 4, 12)]),
        ([(60, 0, 12), (60, 4, 8)], [(60, 0, 4), (60, 4, 12)], [(60, 0, 8), (60, 4, 12)]),
        # Two presses in one step are one for us, and stay two there.
        ([(60, 0, 8), (60, 0, 4)], [(60, 0, 8)], [(60, 0, 4), (60, 0, 8)]),
        # Half a step: we round to the even step, as Python does; they round up.
        ([(60, 2.5, 4)], [(60, 2, 4)], [(60, 3, 5)]),
        # They round the length, so that an end can be a whole step off; we round the end.
        ([(60, 1.4, 2.6)], [(60, 1, 3)], [(60, 1, 2)]),
        ([(60, 1.6, 3.3)], [(60, 2, 3)], [(60, 2, 4)]),
    ],
)
def test_where_miditok_differs(notes, by_us, by_miditok):
    piece = piece_of(*[(pitch, start / 16, end / 16) for pitch, start, end in notes])
    tokenizer = PerformanceTokenizer(16)
    found = contents(tokenizer.decode(tokenizer.encode(piece)), 16)[0]
    assert [note[1:4] for note in found] == by_us
    assert [note[1:4] for note in theirs(piece, programs=False)] == by_miditok


@pytest.mark.slow
def test_miditok_agrees_on_every_chorale():
    """All 364, note for note: one program a voice, and all voices on one keyboard.

    On one keyboard two voices in unison press one key, which differs as said above; so there both
    read what our tokenizer made of it. With a program each, no note is lost by either.
    """
    for piece in km.corpora.bach_chorales():
        start, end = piece.to_beats(piece.notes[["start", "end"]].to_numpy()).T / 2  # at 120
        voices = piece.notes.assign(start=start, end=end, program=piece.notes["track"] * 10)
        choir = Piece(voices)
        first, second = ours(choir, programs=True)
        assert first == second == contents(choir, 16)[0]
        assert first == theirs(choir, programs=True)
        first, second = ours(Piece(voices.assign(program=0, track=0)), programs=False)
        assert first == second


def test_every_chorale():
    """All 364: with one program a voice, every note comes back, within half a step.

    All have velocity 80, whose bin is played at 78.
    """
    plain = PerformanceTokenizer()
    every_voice = PerformanceTokenizer(multi_program=True, pedal="tokens")
    for piece in km.corpora.bach_chorales():
        ids = plain.encode(piece)
        assert plain.encode(plain.decode(ids)).tolist() == ids.tolist()
        choir = Piece(piece.notes.assign(program=piece.notes["track"] + 50))
        ids = every_voice.encode(choir)
        again = every_voice.decode(ids)
        assert every_voice.encode(again).tolist() == ids.tolist()
        assert contents(again, 100) == contents(Piece(choir.notes.assign(velocity=78)), 100)


# Files


@pytest.mark.parametrize("name", SETTINGS)
def test_save_and_load(name, tmp_path):
    tokenizer = PerformanceTokenizer(**SETTINGS[name])
    path = tokenizer.save(tmp_path / "new" / "tokenizer.json")
    loaded = tokenizers.load(path)
    assert loaded == tokenizer == tokenizers.from_json(tokenizer.to_json())
    assert loaded.vocabulary == tokenizer.vocabulary
    piece = piece_of((60, 0, 1.3, 77), (64, 0.5, 7, 12))
    assert loaded.encode(piece).tolist() == tokenizer.encode(piece).tolist()


def test_json():
    assert json.loads(PerformanceTokenizer(steps_per_second=31).to_json()) == {
        "tokenizer": "PerformanceTokenizer",
        "steps_per_second": 31,
        "velocity_bins": 32,
        "max_shift_steps": 31,
        "program": 0,
    }
    assert json.loads(PerformanceTokenizer(multi_program=True, pedal="ignore").to_json()) == {
        "tokenizer": "PerformanceTokenizer",
        "steps_per_second": 100,
        "velocity_bins": 32,
        "max_shift_steps": 100,
        "program": 0,
        "multi_program": True,
        "pedal": "ignore",
    }


def test_a_file_of_before_programs_and_pedals():
    """It has none of the two keys and gives the tokenizer that it always gave."""
    text = """{"tokenizer": "PerformanceTokenizer", "steps_per_second": 100,
               "velocity_bins": 32, "max_shift_steps": 100, "program": 0}"""
    assert tokenizers.from_json(text) == PerformanceTokenizer()
    assert tokenizers.from_json(text).vocab_size == 391


def test_equality_is_of_kind_and_settings():
    assert PerformanceTokenizer() == PerformanceTokenizer(max_shift_steps=100)
    assert PerformanceTokenizer() != PerformanceTokenizer(program=1)
    assert PerformanceTokenizer() != "PerformanceTokenizer"
    with pytest.raises(TypeError, match="unhashable"):
        hash(PerformanceTokenizer())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"),
        (b"{", "JSONDecodeError: ..."),
        (b"\xff\xfe\xfa", "UnicodeDecodeError: ..."),
        (b"[" * 100_000, "RecursionError: ..."),
        (b"[]", "TypeError: ..."),
        (b"null", "AttributeError: ..."),
        (b"{}", "KeyError: 'tokenizer'"),
        (b'{"tokenizer": "Path"}', "KeyError: 'Path'"),
        (b'{"tokenizer": "PerformanceTokenizer", "color": 3}', "TypeError: ..."),
        (
            b'{"tokenizer": "PerformanceTokenizer", "program": 128}',
            "ValueError: `program` must ...",
        ),
        (b'{"tokenizer": "PerformanceTokenizer", "program": "x"}', "ValueError: ..."),
        (b'{"tokenizer": "PerformanceTokenizer", "program": Infinity}', "ValueError: ..."),
        (
            b'{"tokenizer": "PerformanceTokenizer", "multi_program": 1}',
            "ValueError: `multi_program` must ...",
        ),
        (b'{"tokenizer": "PerformanceTokenizer", "pedal": []}', "ValueError: `pedal` must ..."),
    ],
)
def test_a_stranger_s_file_gives_one_sentence_that_names_it(content, reason, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    known = sorted(name for name in tokenizers.__all__ if name.endswith("Tokenizer"))
    sentence = (
        f"{path} does not describe a tokenizer ({reason}). Known: {known}. Write it again with "
        "`tokenizer.save(path)`."
    )
    pattern = re.escape(sentence).replace(re.escape("..."), ".+")
    with pytest.raises(ValueError, match=f"^{pattern}$"):
        tokenizers.load(path)


def test_a_missing_file(tmp_path):
    sentence = f"There is no tokenizer file {tmp_path}. `tokenizer.save(path)` writes one."
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(sentence)}$"):
        tokenizers.load(tmp_path)


# Errors


@pytest.mark.parametrize(
    ("arguments", "bounds"),
    [
        ({"steps_per_second": 0}, "1 to 1000"),
        ({"steps_per_second": 1001}, "1 to 1000"),
        ({"steps_per_second": 2.5}, "1 to 1000"),
        ({"velocity_bins": -1}, "0 to 127"),
        ({"velocity_bins": 128}, "0 to 127"),
        ({"max_shift_steps": 0}, "1 to 10000"),
        ({"max_shift_steps": 10001}, "1 to 10000"),
        ({"program": -1}, "0 to 127"),
        ({"program": 128}, "0 to 127"),
    ],
)
def test_arguments_out_of_range(arguments, bounds):
    ((name, value),) = arguments.items()
    sentence = f"`{name}` must be a whole number from {bounds}. Received: {name}={value}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        PerformanceTokenizer(**arguments)


@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        ({"multi_program": 1}, "[False, True]"),
        ({"multi_program": "yes"}, "[False, True]"),
        ({"pedal": "sustain"}, "['extend', 'tokens', 'ignore']"),
        ({"pedal": None}, "['extend', 'tokens', 'ignore']"),
        ({"pedal": True}, "['extend', 'tokens', 'ignore']"),
    ],
)
def test_choices(arguments, choices):
    ((name, value),) = arguments.items()
    sentence = f"`{name}` must be one of {choices}. Received: {name}={value!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        PerformanceTokenizer(**arguments)


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        ([1, 391], "`ids` must be from 0 to 390. Received: 391. "
                   "Use the tokenizer with which they were made."),
        ([-1], "`ids` must be from 0 to 390. Received: -1. "
               "Use the tokenizer with which they were made."),
        ([[1, 2]], "`ids` must be one row of whole numbers, shape (time,). "
                   "Received: shape (1, 2), dtype int64."),
        ([1.0], "`ids` must be one row of whole numbers, shape (time,). "
                "Received: shape (1,), dtype float64."),
        (3, "`ids` must be one row of whole numbers, shape (time,). "
            "Received: shape (), dtype int64."),
        (["START"], "`ids` must be one row of whole numbers, shape (time,). "
                    "Received: shape (1,), dtype <U5."),
    ],
)  # fmt: skip
def test_impossible_ids(ids, sentence):
    tokenizer = PerformanceTokenizer()
    for method in (tokenizer.decode, tokenizer.tokens):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            method(ids)


def test_only_a_piece_can_be_encoded():
    with pytest.raises(ValueError, match="`piece` must be a Piece. Received: str"):
        PerformanceTokenizer().encode("song.mid")


def test_a_piece_that_claims_to_last_for_years_is_refused():
    """A MIDI file of a few bytes can; its waits would fill the memory."""
    for start in (1e9, 1e300):
        piece = Piece([{"pitch": 60, "start": start, "end": start + 1}])
        with pytest.raises(ValueError, match="`piece` must give at most 10000000 tokens"):
            PerformanceTokenizer().encode(piece)
