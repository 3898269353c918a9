"""The performance tokenizer: notes in, tokens out; tokens in, notes out."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_music import tokenizers
from keras_music.midi import Piece
from keras_music.tokenizers import PerformanceTokenizer
from keras_music.tokenizers.vocabulary import SPECIAL, Vocabulary

SETTINGS = {
    "default": {},
    "coarse": {"steps_per_second": 4, "velocity_bins": 1, "max_shift_steps": 3},
    "no velocity": {"steps_per_second": 50, "velocity_bins": 0},
    "fine": {"steps_per_second": 1000, "velocity_bins": 127, "program": 40},
    "short waits": {"velocity_bins": 8, "max_shift_steps": 1, "steps_per_second": 10},
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
    ],
)
def test_a_stranger_s_file_gives_one_sentence_that_names_it(content, reason, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    sentence = (
        f"{path} does not describe a tokenizer ({reason}). "
        "Known: ['CharTokenizer', 'PerformanceTokenizer']. Write it again with "
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
    piece = Piece([{"pitch": 60, "start": 1e9, "end": 1e9 + 1}])
    with pytest.raises(ValueError, match="`piece` must give at most 10000000 tokens"):
        PerformanceTokenizer().encode(piece)
