"""The REMI tokenizer: a score in, bars and positions out; and back."""

import json
import re

import miditok
import numpy as np
import pytest
import symusic
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music import tokenizers
from keras_music.midi import Piece
from keras_music.tokenizers import RemiTokenizer
from keras_music.tokenizers.quantise import settle
from keras_music.tokenizers.remi import TEMPOS, TIME_SIGNATURES

SETTINGS = {
    "default": {},
    "programs": {"multi_program": True},
    "coarse": {"positions_per_beat": 2, "max_duration_beats": 1, "velocity_bins": 1},
    "notes only": {"velocity_bins": 0, "tempos": [90], "time_signatures": ["4/4"], "program": 40},
    "fine": {
        "positions_per_beat": 480,
        "max_duration_beats": 3,
        "velocity_bins": 127,
        "tempos": range(40, 251),
        "time_signatures": ["7/8", "4/4", "9/16"],
        "multi_program": True,
    },
}


@pytest.fixture(scope="module")
def chorales():
    return list(km.corpora.bach_chorales())


def piece_of(*notes, bpm=120, time_signatures=None, tempos=None, **columns):
    """(pitch, start beat, end beat[, velocity]) ... -> Piece; signatures are (beat, n, d)."""
    names = ["pitch", "start", "end", "velocity"]
    table = dict(zip(names, zip(*notes, strict=True), strict=False)) | columns
    clock = Piece([], tempos=tempos or [{"time": 0, "tempo_bpm": bpm}])
    if notes:
        table |= {name: clock.to_seconds(table[name]) for name in ("start", "end")}
    rows = [
        {"time": float(clock.to_seconds(beat)), "numerator": n, "denominator": d}
        for beat, n, d in time_signatures or []
    ]
    return Piece(table, tempos=clock.tempos, time_signatures=rows)


def tokens(piece, **arguments):
    """The tokens between `START` and `END`, as one line."""
    tokenizer = RemiTokenizer(**arguments)
    first, *middle, last = tokenizer.tokens(tokenizer.encode(piece))
    assert (first, last) == ("START", "END")
    return " ".join(middle)


def ids_of(tokenizer, line):
    return np.array([tokenizer.vocabulary.index(token) for token in line.split()], np.int32)


def beats(piece, seconds, tokenizer):
    """Seconds -> whole positions."""
    positions = piece.to_beats(seconds.to_numpy()) * tokenizer.positions_per_beat
    assert np.abs(positions - np.rint(positions)).max(initial=0) < 1e-3
    return np.rint(positions).astype(int).tolist()


def notes_of(piece, tokenizer):
    """[(program, pitch, start position, end position, velocity), ...], sorted; 128 are drums."""
    table = piece.notes
    program = np.where(table["is_drum"], 128, table["program"]).tolist()
    start, end = (beats(piece, table[name], tokenizer) for name in ("start", "end"))
    columns = (program, table["pitch"].tolist(), start, end, table["velocity"].tolist())
    return sorted(zip(*columns, strict=True))


def tempos_of(piece, tokenizer):
    bpm = np.rint(piece.tempos["tempo_bpm"]).astype(int).tolist()
    return list(zip(beats(piece, piece.tempos["time"], tokenizer), bpm, strict=True))


def signatures_of(piece, tokenizer):
    table = piece.time_signatures
    parts = [f"{n}/{d}" for n, d in zip(table["numerator"], table["denominator"], strict=True)]
    return list(zip(beats(piece, table["time"], tokenizer), parts, strict=True))


# Notes in, tokens out


@pytest.mark.parametrize(
    ("notes", "line"),
    [
        ([], ""),
        ([(60, 0, 1, 80)], "BAR POSITION_0 PITCH_60 VELOCITY_20 DURATION_12"),
        (  # a chord, from low to high; then sixteenths and triplets
            [(64, 0, 0.25, 80), (60, 0, 1 / 3, 80), (62, 0.25, 0.5, 1), (65, 1 / 3, 2 / 3, 127)],
            "BAR POSITION_0 PITCH_60 VELOCITY_20 DURATION_4 PITCH_64 VELOCITY_20 DURATION_3 "
            "POSITION_3 PITCH_62 VELOCITY_1 DURATION_3 POSITION_4 PITCH_65 VELOCITY_32 DURATION_4",
        ),
        (  # a bar for every bar up to the last note, also where nothing begins
            [(60, 11.5, 13, 80)],
            "BAR BAR BAR POSITION_42 PITCH_60 VELOCITY_20 DURATION_18",
        ),
        ([(60, 4, 5, 80)], "BAR BAR POSITION_0 PITCH_60 VELOCITY_20 DURATION_12"),
        (  # the longest note has eight beats
            [(60, 0, 8, 80), (62, 0, 8.1, 80), (64, 0, 1000, 80)],
            "BAR POSITION_0 PITCH_60 VELOCITY_20 DURATION_96 PITCH_62 VELOCITY_20 DURATION_96 "
            "PITCH_64 VELOCITY_20 DURATION_96",
        ),
        (  # the shortest has one position
            [(60, 1, 1, 80), (62, 1, 1.01, 80)],
            "BAR POSITION_12 PITCH_60 VELOCITY_20 DURATION_1 PITCH_62 VELOCITY_20 DURATION_1",
        ),
        (  # onsets and ends are rounded, not cut off: 0.46 / 12 before the beat is on the beat
            [(60, 0.9617, 1.5383, 80)],
            "BAR POSITION_12 PITCH_60 VELOCITY_20 DURATION_6",
        ),
        (  # a pitch that sounds and is struck again ends, and sounds to the last of the ends
            [(60, 0, 4, 80), (60, 1, 2, 80)],
            "BAR POSITION_0 PITCH_60 VELOCITY_20 DURATION_12 "
            "POSITION_12 PITCH_60 VELOCITY_20 DURATION_36",
        ),
        (  # a unison is one note, at the highest velocity, to the last of the ends
            [(60, 0, 1, 127), (60, 0.01, 2, 1)],
            "BAR POSITION_0 PITCH_60 VELOCITY_32 DURATION_24",
        ),
    ],
)
def test_encode(notes, line):
    assert tokens(piece_of(*notes)) == line


def test_the_example_of_the_lesson():
    piece = piece_of((60, 0, 2), (64, 3, 4), (67, 3, 4), bpm=100, time_signatures=[(0, 3, 4)])
    assert tokens(piece) == (
        "BAR TIME_SIGNATURE_3/4 POSITION_0 TEMPO_100 PITCH_60 VELOCITY_20 DURATION_24 "
        "BAR POSITION_0 PITCH_64 VELOCITY_20 DURATION_12 PITCH_67 VELOCITY_20 DURATION_12"
    )


def test_settings_change_the_tokens():
    piece = piece_of((60, 0.5, 1.5, 80), (62, 4.5, 8, 20), bpm=87, time_signatures=[(0, 3, 4)])
    line = "BAR POSITION_2 PITCH_60 DURATION_4 BAR POSITION_2 PITCH_62 DURATION_4"
    arguments = {"tempos": [120], "time_signatures": ["4/4"], "velocity_bins": 0}
    assert tokens(piece, positions_per_beat=4, max_duration_beats=1, **arguments) == line
    assert tokens(piece, tempos=[60, 90], velocity_bins=127) == (  # the nearest to 120 is 90
        "BAR TIME_SIGNATURE_3/4 POSITION_6 PITCH_60 VELOCITY_80 DURATION_12 "
        "BAR POSITION_18 PITCH_62 VELOCITY_20 DURATION_42"
    )


SHORT = {"velocity_bins": 0, "max_duration_beats": 16}  # tokens for the tests of bars


@pytest.mark.parametrize(
    ("signatures", "line"),
    [
        # No signature is 4/4, and 4/4 is not written.
        ([], "BAR {0} BAR BAR BAR {0}"),
        ([(0, 4, 4)], "BAR {0} BAR BAR BAR {0}"),
        ([(0, 2, 4)], "BAR 2/4 {0} BAR BAR BAR BAR BAR BAR {0}"),
        ([(0, 6, 8)], "BAR 6/8 {0} BAR BAR BAR BAR {0}"),
        # A pickup of one quarter, as files write it.
        ([(0, 1, 4), (1, 4, 4)], "BAR 1/4 {0} BAR 4/4 BAR BAR {36}"),
        # What is repeated is not a change, wherever it stands.
        ([(0, 3, 4), (1, 3, 4), (6, 3, 4)], "BAR 3/4 {0} BAR BAR BAR BAR {0}"),
        # A signature that does not stand on a bar line goes to the nearest one ...
        ([(5, 3, 4)], "BAR {0} BAR 3/4 BAR BAR {24}"),
        ([(1.9, 3, 4)], "BAR 3/4 {0} BAR BAR BAR BAR {0}"),
        ([(3.9, 3, 4)], "BAR {0} BAR 3/4 BAR BAR {24}"),
        ([(2, 3, 4)], "BAR {0} BAR 3/4 BAR BAR {24}"),  # the middle belongs to the next
        # ... and of several that come to one line the last counts.
        ([(4, 2, 4), (4.5, 3, 4)], "BAR {0} BAR 3/4 BAR BAR {24}"),
        ([(3, 2, 4), (4.5, 4, 4)], "BAR {0} BAR BAR BAR {0}"),
        # One that is not in the table becomes the nearest in length: 5/16 is 1.25 beats.
        ([(0, 5, 16), (1.5, 4, 4)], "BAR 1/4 {0} BAR BAR 4/4 BAR BAR {24}"),
        ([(0, 8, 8)], "BAR {0} BAR BAR BAR {0}"),  # as long as 4/4 and 2/2: the first
        ([(0, 6, 4)], "BAR 6/4 {0} BAR BAR {0}"),
        ([(0, 24, 16)], "BAR 6/4 {0} BAR BAR {0}"),
        ([(0, 24, 8)], "BAR 12/8 {0} BAR BAR {0}"),  # of the longest the one in eighths
        # What comes after the last note is not written.
        ([(12, 3, 4)], "BAR {0} BAR BAR BAR 3/4 {0}"),
        ([(16, 3, 4)], "BAR {0} BAR BAR BAR {0}"),
        ([(100, 3, 4), (1000, 2, 4)], "BAR {0} BAR BAR BAR {0}"),
    ],
)
def test_bars(signatures, line):
    """Two notes, at beat 0 and at beat 12, four beats long; {0} stands for one in position 0."""
    piece = piece_of((60, 0, 4), (60, 12, 16), time_signatures=signatures)
    line = re.sub(r"\{(\d+)\}", r"POSITION_\1 PITCH_60 DURATION_48", line)
    assert tokens(piece, **SHORT) == re.sub(r"(\d+/\d+)", r"TIME_SIGNATURE_\1", line)


def test_a_signature_may_stand_in_a_bar_in_which_nothing_begins():
    """The last note sounds on over a change of metre; its bars are written up to there."""
    piece = piece_of((60, 0, 8), time_signatures=[(4, 3, 4), (7, 2, 4), (9, 4, 4)])
    assert tokens(piece, velocity_bins=0) == (
        "BAR POSITION_0 PITCH_60 DURATION_96 BAR TIME_SIGNATURE_3/4 BAR TIME_SIGNATURE_2/4"
    )


def test_tempos():
    """The nearest of the table, in the nearest position, where it changes, up to the last end."""
    tempos = [(0, 119), (0.5, 90), (0.52, 60), (1, 62), (2, 118), (4, 300), (4.5, 10), (9, 44)]
    tempos = [{"time": time, "tempo_bpm": bpm} for time, bpm in tempos]
    piece = Piece({"pitch": [60, 62], "start": [0, 3.0], "end": [0.25, 7.0]}, tempos=tempos)
    assert tokens(piece, velocity_bins=0) == (
        "BAR POSITION_0 PITCH_60 DURATION_6 POSITION_12 TEMPO_61 POSITION_30 TEMPO_120 "
        "BAR POSITION_6 PITCH_62 DURATION_59 POSITION_30 TEMPO_250 BAR POSITION_12 TEMPO_40"
    )


def test_the_nearest_tempo_is_the_nearest_by_ratio():
    """Between 50 and 200 the middle is 100: twice the one, half the other."""
    assert RemiTokenizer(tempos=[50, 200]).tempo_bpm == 200  # the nearest to 120
    line = "BAR POSITION_0 PITCH_60 DURATION_12"
    slow = line.replace(" PITCH", " TEMPO_50 PITCH")
    for bpm, expected in ((110, line), (101, line), (99, slow)):
        found = tokens(piece_of((60, 0, 1), bpm=bpm), tempos=[50, 200], velocity_bins=0)
        assert found == expected


def test_programs_and_drums():
    loud = {"velocity": 80, "start": 0.0, "end": 0.5}
    late = loud | {"start": 0.5, "end": 1.0}
    piece = Piece(
        [
            {"pitch": 64, "track": 0, "program": 40} | loud,
            {"pitch": 64, "track": 1, "program": 0} | loud,
            {"pitch": 60, "track": 2, "program": 40} | loud,
            {"pitch": 38, "track": 3, "is_drum": True, "program": 5} | loud,
            {"pitch": 36, "track": 3, "is_drum": True} | late,
            {"pitch": 60, "track": 4, "program": 40} | late,
        ]
    )
    assert tokens(piece, velocity_bins=0) == (
        "BAR POSITION_0 PITCH_60 DURATION_12 PITCH_64 DURATION_12 POSITION_12 PITCH_60 DURATION_12"
    )
    # The program is written when it changes; before any it is 0.
    assert tokens(piece, velocity_bins=0, multi_program=True) == (
        "BAR POSITION_0 PITCH_64 DURATION_12 PROGRAM_40 PITCH_60 DURATION_12 PITCH_64 DURATION_12 "
        "PROGRAM_128 PITCH_38 DURATION_12 "
        "POSITION_12 PROGRAM_40 PITCH_60 DURATION_12 PROGRAM_128 PITCH_36 DURATION_12"
    )
    assert tokens(piece_of((38, 0, 1), is_drum=True)) == ""


def test_ids_are_int32():
    for notes in ([], [(60, 0, 0.5, 80)]):
        ids = RemiTokenizer().encode(piece_of(*notes))
        assert (ids.dtype, ids.ndim) == (np.int32, 1)
    assert ids.tolist() == [1, 3, 4, 136, 223, 241, 2]


# Tokens in, notes out


@pytest.mark.parametrize(
    ("line", "notes"),
    [
        ("", []),
        ("START END", []),
        ("START BAR POSITION_6 PITCH_60 VELOCITY_20 DURATION_24 END", [(60, 6, 30, 78)]),
        ("BAR POSITION_6 PITCH_60 DURATION_24", [(60, 6, 30, 80)]),  # no velocity yet: 80
        ("BAR PITCH_60 DURATION_24", [(60, 0, 24, 80)]),  # no position yet: the bar line
        ("POSITION_9 PITCH_60 DURATION_24", [(60, 9, 33, 80)]),  # no bar yet: the first
        ("BAR BAR BAR POSITION_1 PITCH_60 DURATION_2", [(60, 97, 99, 80)]),
        ("BAR TIME_SIGNATURE_3/4 BAR POSITION_1 PITCH_60 DURATION_2", [(60, 37, 39, 80)]),
        ("BAR POSITION_1 TIME_SIGNATURE_3/4 BAR PITCH_60 DURATION_2", [(60, 36, 38, 80)]),
        ("PITCH_60 VELOCITY_3 BAR", []),  # a note without its length
        ("PITCH_60 PITCH_62 DURATION_5", [(62, 0, 5, 80)]),
        ("PITCH_60 DURATION_5 DURATION_7", [(60, 0, 5, 80)]),  # a length without its note
        ("PITCH_60 START VELOCITY_1 PAD DURATION_5 PAD", [(60, 0, 5, 2)]),
        ("PITCH_60 DURATION_5 END PITCH_62 DURATION_5", [(60, 0, 5, 80)]),
        (  # a velocity holds until the next
            "PITCH_60 VELOCITY_1 DURATION_5 PITCH_62 DURATION_5",
            [(60, 0, 5, 2), (62, 0, 5, 2)],
        ),
        (  # a note ends where its pitch begins again
            "PITCH_60 DURATION_48 POSITION_12 PITCH_60 DURATION_1 PITCH_62 DURATION_48",
            [(60, 0, 12, 80), (60, 12, 13, 80), (62, 12, 60, 80)],
        ),
        (  # also where time runs backwards
            "POSITION_12 PITCH_60 DURATION_1 POSITION_0 PITCH_60 DURATION_48",
            [(60, 0, 12, 80), (60, 12, 13, 80)],
        ),
        (  # of two that begin together the last stays
            "PITCH_60 DURATION_48 PITCH_60 VELOCITY_32 DURATION_2",
            [(60, 0, 2, 126)],
        ),
    ],
)
def test_decode(line, notes):
    tokenizer = RemiTokenizer()
    piece = tokenizer.decode(ids_of(tokenizer, line))
    assert notes_of(piece, tokenizer) == sorted((0, *note) for note in notes)


def test_decode_gives_seconds_tempos_signatures_and_program():
    tokenizer = RemiTokenizer(program=40)
    line = (
        "BAR TIME_SIGNATURE_6/8 POSITION_0 TEMPO_61 PITCH_60 DURATION_12 POSITION_24 TEMPO_250 "
        "BAR TIME_SIGNATURE_2/4 PITCH_62 DURATION_96 POSITION_12 TEMPO_40 BAR TIME_SIGNATURE_4/4"
    )
    piece = tokenizer.decode(ids_of(tokenizer, line))
    # A file counts microseconds to the quarter, whole ones, so that 61 is 983,607 of them.
    slow, fast = 0.983607, 0.24
    assert piece.notes["start"].tolist() == pytest.approx([0, 2 * slow + fast])
    assert piece.notes["end"].tolist() == pytest.approx([slow, 2 * slow + 2 * fast + 7 * 1.5])
    assert piece.notes["program"].tolist() == [40, 40]
    assert piece.notes["track"].tolist() == [0, 0]
    times = [0, 2 * slow, 2 * slow + 2 * fast]
    assert piece.tempos["time"].tolist() == pytest.approx(times)
    assert piece.tempos["tempo_bpm"].tolist() == [60e6 / 983607, 250, 40]
    assert signatures_of(piece, tokenizer) == [(0, "6/8"), (36, "2/4"), (60, "4/4")]
    assert piece.ticks_per_quarter == 480


def test_decode_numbers_the_tracks_by_program():
    tokenizer = RemiTokenizer(multi_program=True, program=3)
    line = (
        "PROGRAM_128 PITCH_38 DURATION_1 PROGRAM_40 PITCH_60 DURATION_2 PITCH_62 DURATION_2 "
        "PROGRAM_5 PITCH_60 DURATION_9 POSITION_1 PROGRAM_40 PITCH_60 DURATION_5"
    )
    piece = tokenizer.decode(ids_of(tokenizer, "BAR PITCH_64 DURATION_3 " + line))
    columns = ["track", "program", "is_drum", "pitch"]
    assert sorted(piece.notes[columns].itertuples(index=False, name=None)) == [
        (0, 0, False, 64),  # before the first program it is 0
        (1, 5, False, 60),
        (2, 40, False, 60),
        (2, 40, False, 60),
        (2, 40, False, 62),
        (3, 0, True, 38),
    ]
    assert (5, 60, 0, 9, 80) in notes_of(piece, tokenizer)  # only its own program ends a note
    assert (40, 60, 0, 1, 80) in notes_of(piece, tokenizer)


@pytest.mark.parametrize("arguments", [{"tempos": [90]}, {"tempos": [60, 90]}])
def test_without_a_tempo_token_the_nearest_to_120_holds(arguments):
    tokenizer = RemiTokenizer(**arguments)
    assert tokenizer.tempo_bpm == 90
    piece = tokenizer.decode(ids_of(tokenizer, "BAR POSITION_12 PITCH_60 DURATION_12"))
    assert tempos_of(piece, tokenizer) == [(0, 90)]
    assert piece.notes["start"].tolist() == pytest.approx([2 / 3])


# The vocabulary


def test_the_layout_of_the_vocabulary():
    tokenizer = RemiTokenizer()
    vocabulary = tokenizer.vocabulary
    assert vocabulary[:5] == ("PAD", "START", "END", "BAR", "POSITION_0")
    assert vocabulary[75:77] == ("POSITION_71", "PITCH_0")
    assert vocabulary[203:205] == ("PITCH_127", "VELOCITY_1")
    assert vocabulary[235:237] == ("VELOCITY_32", "DURATION_1")
    assert vocabulary[331:334] == ("DURATION_96", "TEMPO_40", "TEMPO_43")
    assert vocabulary[362:365] == ("TEMPO_250", "TIME_SIGNATURE_1/4", "TIME_SIGNATURE_2/4")
    assert vocabulary[-1] == "TIME_SIGNATURE_12/8"
    assert tokenizer.vocab_size == len(vocabulary) == len(set(vocabulary)) == 377
    assert RemiTokenizer(multi_program=True).vocabulary[376:378] == (
        "TIME_SIGNATURE_12/8",
        "PROGRAM_0",
    )
    assert RemiTokenizer(multi_program=True).vocab_size == 377 + 129
    small = RemiTokenizer(4, 2, 0, [120], ["4/4"])
    assert small.vocab_size == 3 + 1 + 16 + 128 + 8
    assert (small.steps_per_beat, small.tempo_bpm, small.program) == (4, 120, 0)


def test_tempos_are_31_equal_ratios_from_40_to_250_through_120():
    assert len(TEMPOS) == len(set(TEMPOS)) == 31
    assert (TEMPOS[0], TEMPOS[18], TEMPOS[-1]) == (40, 120, 250)
    ratios = np.divide(TEMPOS[1:], TEMPOS[:-1])
    assert 1.04 < ratios.min() < ratios.max() < 1.08  # 1.063, but for rounding to whole numbers
    # What the lesson says: no tempo moves by more than 4%, and most by less than 3.2%.
    bpm = np.geomspace(40, 250, 1000)
    errors = np.array([np.abs(np.log(np.divide(TEMPOS, x))).min() for x in bpm])
    assert errors.max() < 0.037
    assert np.quantile(errors, 0.9) < 0.032


def test_bars_that_do_not_fit_the_positions_are_left_out_of_the_default():
    assert RemiTokenizer().time_signatures == TIME_SIGNATURES
    in_quarters = [s for s in TIME_SIGNATURES if not s.endswith("8")]
    assert RemiTokenizer(positions_per_beat=1).time_signatures == (*in_quarters, "6/8", "12/8")


# What reading means, written as a walk


def walk(tokenizer, ids):
    """What ids say, read one after another as `decode` describes it: notes, tempos, signatures."""
    line = position = num_bars = program = 0
    length, velocity, pitch = 4 * tokenizer.positions_per_beat, 80, None
    notes, tempos, signatures = {}, {0: tokenizer.tempo_bpm}, {}
    for token in tokenizer.tokens(ids):
        kind, _, value = token.rpartition("_")
        if token == "END":
            break
        if token == "BAR":
            line, position, num_bars = line + length * (num_bars > 0), 0, num_bars + 1
        elif kind == "TIME_SIGNATURE":
            numerator, denominator = map(int, value.split("/"))
            length = 4 * tokenizer.positions_per_beat * numerator // denominator
            signatures[line] = value
        elif kind == "POSITION":
            position = int(value)
        elif kind == "TEMPO":
            tempos[line + position] = int(value)
        elif kind == "PROGRAM":
            program = int(value)
        elif kind == "PITCH":
            pitch = int(value)
        elif kind == "VELOCITY":
            bins = np.arange(127) * tokenizer.velocity_bins // 127 + 1  # of velocities 1-127
            velocity = int(np.median(1 + np.flatnonzero(bins == int(value))))
        elif kind == "DURATION" and pitch is not None:
            own = program if tokenizer.multi_program else tokenizer.program
            notes.setdefault((own, pitch), {})[line + position] = (int(value), velocity)
            pitch = None
    spans = []
    for key, begun in notes.items():
        starts = sorted(begun)
        for start, following in zip(starts, [*starts[1:], np.inf], strict=True):
            duration, force = begun[start]
            spans.append((*key, start, int(min(start + duration, following)), force))
    return sorted(spans), sorted(tempos.items()), sorted(signatures.items())


def garbage(tokenizer, seed, shape):
    """Ids of which each type is as likely as any other; few `END`s; some rows end in `PAD`."""
    random = np.random.default_rng(seed)
    kinds = [re.sub(r"_\d.*", "", token) for token in tokenizer.vocabulary]
    _, kind, count = np.unique(kinds, return_inverse=True, return_counts=True)
    weight = 1 / count[kind]
    weight[[0, 1]] *= 0.2
    weight[2] *= 0.02
    ids = random.choice(tokenizer.vocab_size, shape, p=weight / weight.sum())
    length = random.integers(0, 2 * shape[1] + 1, shape[0])[:, np.newaxis]
    return np.where(np.arange(shape[1]) < length, ids, 0).astype(np.int32)


def of_graph(tokenizer, ids):
    """What `notes_in_graph` says of each row, as `walk` says it."""
    read = {name: x.numpy() for name, x in tokenizer.notes_in_graph(tf.constant(ids)).items()}
    names = {"is_note", "pitch", "velocity", "start", "end", "is_tempo", "tempo"}
    names |= {"is_time_signature", "numerator", "denominator"}
    assert set(read) == names | ({"program"} if tokenizer.multi_program else set())
    for name, values in read.items():
        wide = name in ("start", "end")
        assert values.dtype == (bool if name.startswith("is_") else np.int64 if wide else np.int32)
        assert values.shape == ids.shape
    said = {name: values for name, values in read.items() if name.startswith("is_")}
    assert np.sum(list(said.values()), axis=0).max(initial=0) <= 1
    nothing = ~np.any(list(said.values()), axis=0)
    assert not any(values[nothing].any() for values in read.values())
    for row in range(len(ids)):
        row = {name: values[row] for name, values in read.items()}
        if not tokenizer.multi_program:
            row["program"] = np.full(len(row["pitch"]), tokenizer.program)

        def rows(name, *columns, row=row):
            return sorted(zip(*(row[c][row[name]].tolist() for c in columns), strict=True))

        tempos = {0: tokenizer.tempo_bpm}
        tempos |= {
            place: round(60e6 / tempo) for place, tempo in rows("is_tempo", "start", "tempo")
        }
        parts = rows("is_time_signature", "start", "numerator", "denominator")
        notes = rows("is_note", "program", "pitch", "start", "end", "velocity")
        yield notes, sorted(tempos.items()), [(place, f"{n}/{d}") for place, n, d in parts]


@pytest.mark.parametrize("name", SETTINGS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 80))
def test_decode_and_the_graph_read_any_ids_as_the_walk_does(name, seed, length):
    tokenizer = RemiTokenizer(**SETTINGS[name])
    ids = garbage(tokenizer, seed, (4, length))
    for row, in_graph in zip(ids, of_graph(tokenizer, ids), strict=True):
        expected = walk(tokenizer, row)
        piece = tokenizer.decode(row)
        read = (f(piece, tokenizer) for f in (notes_of, tempos_of, signatures_of))
        assert in_graph == tuple(read) == expected
        once = tokenizer.encode(piece)
        assert tokenizer.encode(tokenizer.decode(once)).tolist() == once.tolist()


def test_tempos_and_signatures_are_no_keys_of_any_instrument():
    """The lowest and the highest keys of the last program, where also all else changes."""
    tokenizer = RemiTokenizer(multi_program=True, velocity_bins=0)
    words = "START BAR TIME_SIGNATURE_3/4 POSITION_0 TEMPO_61 PROGRAM_128"
    words += "".join(f" PITCH_{pitch} DURATION_12" for pitch in (0, 1, 126, 127))
    ids = np.array([tokenizer.vocabulary.index(word) for word in words.split()], np.int32)
    notes = [(128, pitch, 0, 12, 80) for pitch in (0, 1, 126, 127)]
    expected = notes, [(0, 61)], [(0, "3/4")]
    assert walk(tokenizer, ids) == expected
    assert list(of_graph(tokenizer, ids[np.newaxis])) == [expected]
    piece = tokenizer.decode(ids)
    assert piece.notes["pitch"].tolist() == [0, 1, 126, 127]
    assert piece.tempos["tempo_bpm"].round().tolist() == [61]
    assert piece.time_signatures["numerator"].tolist() == [3]


def test_the_graph_takes_any_number_of_rows_and_ids():
    """Traced once, with neither known; and what the lesson of `notes_in_graph` shows."""
    tokenizer = RemiTokenizer()
    spec = tf.TensorSpec([None, None], tf.int32)
    graph = tf.function(tokenizer.notes_in_graph, input_signature=[spec])
    for shape in [(0, 0), (0, 5), (3, 0), (1, 1), (5, 70)]:
        ids = tf.constant(garbage(tokenizer, 0, shape))
        eager = tokenizer.notes_in_graph(ids)
        for name, values in graph(ids).items():
            assert values.shape == shape
            assert (values.numpy() == eager[name].numpy()).all()
    line = "START BAR POSITION_6 TEMPO_100 PITCH_60 VELOCITY_20 DURATION_24 END"
    read = graph(ids_of(tokenizer, line)[np.newaxis])
    assert np.flatnonzero(read["is_note"]).tolist() == [6]
    assert np.flatnonzero(read["is_tempo"]).tolist() == [3]
    assert read["start"].numpy().tolist() == [[0, 0, 0, 6, 0, 0, 6, 0]]
    assert read["end"].numpy().tolist() == [[0, 0, 0, 0, 0, 0, 30, 0]]
    assert read["tempo"].numpy().tolist() == [[0, 0, 0, 600000, 0, 0, 0, 0]]
    assert (read["pitch"][0, 6], read["velocity"][0, 6]) == (60, 78)


def test_very_long_rows_do_not_overflow():
    """A position of a very long row leaves int32: 5,000 bars of 255/1 and 489,600 positions do."""
    tokenizer = RemiTokenizer(480, time_signatures=["4/4", "255/1"], velocity_bins=0)
    num = 5000
    line = "BAR TIME_SIGNATURE_255/1 " + "BAR " * (num - 1) + "PITCH_60 DURATION_1"
    ids = ids_of(tokenizer, line)
    place = 255 * 4 * 480 * (num - 1)
    assert place > 2**31
    ((notes, _, _),) = of_graph(tokenizer, ids[np.newaxis])
    assert notes == [(0, 60, place, place + 1, 80)]
    assert notes_of(tokenizer.decode(ids), tokenizer) == notes


# Properties

TIMES = st.floats(0, 20)
NOTES = st.lists(
    st.fixed_dictionaries(
        {
            "pitch": st.integers(58, 61) | st.integers(0, 127),
            "start": TIMES,
            "end": TIMES,
            "velocity": st.integers(1, 127),
            "program": st.sampled_from([0, 0, 1, 40, 127]),
            "is_drum": st.booleans(),
            "track": st.integers(0, 3),
        }
    ).map(lambda note: note | {"end": max(note["start"], note["end"])}),
    max_size=12,
)
TEMPO_MAPS = st.lists(
    st.fixed_dictionaries({"time": st.just(0.0) | TIMES, "tempo_bpm": st.floats(20, 400)}),
    max_size=6,
)
SIGNATURES = st.lists(
    st.fixed_dictionaries(
        {
            "time": st.just(0.0) | TIMES,
            "numerator": st.integers(1, 13) | st.integers(1, 255),
            "denominator": st.sampled_from([4, 8, 2, 1, 16, 64, 128]),
        }
    ),
    max_size=6,
)
PIECES = st.builds(
    lambda notes, tempos, signatures: Piece(notes, tempos=tempos, time_signatures=signatures),
    NOTES,
    TEMPO_MAPS,
    SIGNATURES,
)


@settings(deadline=None, max_examples=300)
@given(name=st.sampled_from(list(SETTINGS)), piece=PIECES)
def test_encoding_what_was_decoded_gives_the_same_ids(name, piece):
    tokenizer = RemiTokenizer(**SETTINGS[name])
    ids = tokenizer.encode(piece)
    again = tokenizer.encode(tokenizer.decode(ids))
    assert again.tolist() == ids.tolist()


def sounding(notes):
    """(program, pitch, position) for each position in which each pitch sounds."""
    return {
        (program, pitch, position)
        for program, pitch, start, end in notes
        for position in range(start, end)
    }


@pytest.mark.parametrize("name", ["default", "programs", "coarse", "notes only"])
@settings(deadline=None, max_examples=40)
@given(piece=PIECES)
def test_what_is_lost_is_bounded(name, piece):
    """In beats: every onset within half a position, velocities within half a bin, sound kept."""
    tokenizer = RemiTokenizer(**SETTINGS[name])
    rate, bins = tokenizer.positions_per_beat, tokenizer.velocity_bins
    longest = rate * tokenizer.max_duration_beats
    decoded = notes_of(tokenizer.decode(tokenizer.encode(piece)), tokenizer)
    table = piece.notes if tokenizer.multi_program else piece.notes[~piece.notes["is_drum"]]
    heard, spans = {}, []
    for row in table.itertuples():
        program = 128 if row.is_drum else row.program
        program = program if tokenizer.multi_program else tokenizer.program
        start, end = (round(float(x) * rate) for x in piece.to_beats([row.start, row.end]))
        spans.append((program, row.pitch, start, min(max(end, start + 1), start + longest)))
        key = (program, row.pitch, start)
        heard[key] = max(row.velocity, heard.get(key, 0))
    assert len(decoded) == len(heard)
    half_bin = np.ceil(127 / bins) / 2 if bins else None
    for program, pitch, start, end, velocity in decoded:
        expected = heard[program, pitch, start]
        assert abs(velocity - expected) <= half_bin if bins else velocity == 80
        assert 1 <= end - start <= longest
    assert sounding(note[:4] for note in decoded) == sounding(spans)


@settings(deadline=None, max_examples=100)
@given(name=st.sampled_from(list(SETTINGS)), piece=PIECES)
def test_bars_and_positions_stand_in_order(name, piece):
    """START (BAR [TIME_SIGNATURE] (POSITION [TEMPO] ([PROGRAM] PITCH [VELOCITY] DURATION)*)*)*"""
    tokenizer = RemiTokenizer(**SETTINGS[name])
    line = " ".join(tokenizer.tokens(tokenizer.encode(piece)))
    program, velocity = r"(PROGRAM_\d+ )?", r"VELOCITY_\d+ " if tokenizer.velocity_bins else ""
    note = rf"({program}PITCH_\d+ {velocity}DURATION_\d+ )"
    place = rf"(POSITION_\d+ (TEMPO_\d+ {note}*|{note}+))"
    assert re.fullmatch(rf"START (BAR (TIME_SIGNATURE_\d+/\d+ )?{place}*)*END", line)
    length = 4 * tokenizer.positions_per_beat
    for bar in line.split("BAR")[1:]:
        for numerator, denominator in re.findall(r"SIGNATURE_(\d+)/(\d+)", bar):
            length = 4 * tokenizer.positions_per_beat * int(numerator) // int(denominator)
        positions = [int(position) for position in re.findall(r"POSITION_(\d+)", bar)]
        assert positions == sorted(set(positions))
        assert all(position < length for position in positions)


@pytest.mark.parametrize("arguments", [{}, {"positions_per_beat": 24, "multi_program": True}])
def test_all_chorales(arguments, chorales):
    """Ten of Bach's notes begin or end on a thirty-second, which is on a grid of 24, not of 12."""
    tokenizer = RemiTokenizer(**arguments)
    rate = tokenizer.positions_per_beat
    num_moved = 0
    for piece in chorales:
        ids = tokenizer.encode(piece)
        decoded = tokenizer.decode(ids)
        assert tokenizer.encode(decoded).tolist() == ids.tolist()
        places = piece.to_beats(piece.notes[["start", "end"]].to_numpy()) * rate
        off = np.abs(places - np.rint(places)).max(axis=1)
        assert off.max() < 0.5 + 1e-6
        num_moved += (off > 1e-6).sum()
        onsets = {(pitch, start) for _, pitch, start, _, _ in notes_of(decoded, tokenizer)}
        starts = np.rint(places[:, 0]).astype(int).tolist()
        assert onsets == set(zip(piece.notes["pitch"], starts, strict=True))
        tempo = piece.tempos["tempo_bpm"][0]
        assert abs(np.log(decoded.tempos["tempo_bpm"][0] / tempo)) < 0.037
    assert num_moved == (10 if rate == 12 else 0)


def test_ten_thousand_tempos_do_not_drift():
    """Half an hour of rubato, a tempo every beat: the last note comes back to the position."""
    random = np.random.default_rng(0)
    beat = np.arange(5000.0)
    bpm = np.where(beat % 2, 60.0, 187.0) * random.uniform(0.99, 1.01, len(beat))
    times = np.append(0, np.cumsum(60 / bpm)[:-1])
    piece = Piece(
        {"pitch": [60] * len(beat), "start": times, "end": times + 0.1},
        tempos={"time": times, "tempo_bpm": bpm},
    )
    tokenizer = RemiTokenizer()
    ids = tokenizer.encode(piece)
    decoded = tokenizer.decode(ids)
    assert len(decoded.tempos) == 5000
    assert [note[2] for note in notes_of(decoded, tokenizer)] == (12 * beat).tolist()
    assert tokenizer.encode(decoded).tolist() == ids.tolist()


# An outside oracle: MidiTok


def score_of(piece):
    """The piece as `symusic.Score`, 480 ticks a quarter, one track for each track."""
    score = symusic.Score(480)

    def ticks(seconds):
        return np.rint(piece.to_beats(seconds.to_numpy()) * 480).astype(np.int32)

    for tick, bpm in zip(ticks(piece.tempos["time"]), piece.tempos["tempo_bpm"], strict=True):
        score.tempos.append(symusic.Tempo(int(tick), qpm=float(bpm)))
    table = piece.time_signatures
    for tick, n, d in zip(
        ticks(table["time"]), table["numerator"], table["denominator"], strict=True
    ):
        score.time_signatures.append(symusic.TimeSignature(int(tick), int(n), int(d)))
    for (_, program, is_drum), notes in piece.notes.groupby(["track", "program", "is_drum"]):
        track = symusic.Track("", int(program), bool(is_drum))
        start = ticks(notes["start"])
        track.notes = symusic.Note.from_numpy(
            time=start,
            duration=ticks(notes["end"]) - start,
            pitch=notes["pitch"].to_numpy(np.int8),
            velocity=notes["velocity"].to_numpy(np.int8),
        )
        score.tracks.append(track)
    return score


def of_miditok(tokenizer, score):
    """What MidiTok's REMI keeps of a score: notes, tempos, signatures as `walk` gives them."""
    score = tokenizer.decode(tokenizer.encode(score))
    unit = score.ticks_per_quarter // 24
    programs = tokenizer.config.use_programs
    columns = [
        [
            128 * (128 if track.is_drum else track.program) * programs + note.pitch,
            note.time // unit,
            note.end // unit,
            note.velocity,
        ]
        for track in score.tracks
        for note in track.notes
        if note.time % unit == note.end % unit == 0 or pytest.fail(f"off the grid: {note}")
    ]
    settled = settle(*np.array(columns).T)
    notes = sorted(
        (key // 128, key % 128, start, end, velocity)
        for key, start, end, velocity in zip(*(x.tolist() for x in settled), strict=True)
    )
    tempos = [(tempo.time // unit, round(tempo.qpm)) for tempo in score.tempos]
    changes = [
        tempo for before, tempo in zip([None, *tempos], tempos, strict=False)
        if before is None or before[1] != tempo[1]
    ]  # fmt: skip
    signatures = [(s.time // unit, f"{s.numerator}/{s.denominator}") for s in score.time_signatures]
    return notes, changes, signatures


def miditok_remi(programs, signatures):
    return miditok.REMI(
        miditok.TokenizerConfig(
            pitch_range=(0, 127),
            drums_pitch_range=(0, 127),
            beat_res={(0, 32): 24},
            num_velocities=127,
            use_programs=programs,
            use_tempos=True,
            num_tempos=211,
            tempo_range=(40, 250),
            use_time_signatures=True,
            time_signature_range=signatures,
        )
    )


OURS = {
    "positions_per_beat": 24,
    "max_duration_beats": 16,
    "velocity_bins": 127,
    "tempos": range(40, 251),
}


@pytest.mark.parametrize("programs", [False, True])
def test_chorales_are_kept_as_miditok_keeps_them(programs, chorales):
    """Note for note, tempo for tempo, signature for signature, on one grid of 24 positions.

    Differences, and how they are met:

    - MidiTok keeps two voices in unison as two notes of one pitch, which no keyboard can play (and
      no MIDI file can tell apart); ours are settled. So MidiTok's are settled, too. Without
      programs it makes a sequence of each track; these are laid together first.
    - Its velocities are `num_velocities` values up to 127, ours the middles of `velocity_bins`
      classes. With 127 of either, both are the velocities themselves.
    - It counts positions and durations to the beat that the signature names: 3/2 halves the grid.
      The one chorale in 3/2 and the one with a bar of 10/4, which ours calls 6/4, are left out.
    - It writes 4/4 where ours holds without a word.
    """
    theirs = miditok_remi(programs, {4: [1, 2, 3, 4]})
    ours = RemiTokenizer(multi_program=programs, **OURS)
    compared = 0
    for piece in chorales:
        table = piece.time_signatures
        if ((table["denominator"] != 4) | (table["numerator"] > 4)).any():
            continue
        decoded = ours.decode(ours.encode(piece))
        notes, tempos, signatures = of_miditok(theirs, score_of(piece))
        assert notes_of(decoded, ours) == notes
        assert tempos_of(decoded, ours) == tempos
        said = signatures_of(decoded, ours)
        assert said == [s for s in signatures if s != (0, "4/4")]
        compared += 1
    assert compared == 362


def on_the_grid(seed):
    """A piece of many programs and drums on 24ths of a beat, whose metre changes on bar lines."""
    random = np.random.default_rng(seed)
    lines, signatures, line = [], [], 0
    for _ in range(5):
        n, d = [(4, 4), (3, 4), (6, 8), (2, 4), (12, 8)][random.integers(5)]
        if not signatures or signatures[-1] != (n, d):
            lines.append(line)
            signatures.append((n, d))
        line += int(random.integers(1, 4)) * 96 * n // d
    num = 200
    program = random.choice([0, 33, 40, 128], num)
    start = np.append(random.integers(0, line, num - 1), line)
    places = np.unique(np.append(0, random.integers(0, line, 6)))
    bpm = 60 + 7 * random.permutation(20)[: len(places)]
    seconds = np.append(0, np.cumsum(np.diff(places) / 24 * 60 / bpm[:-1]))
    clock = Piece([], tempos={"time": seconds, "tempo_bpm": bpm})
    end = start + random.integers(1, 16 * 24 + 1, num)
    return Piece(
        {
            "pitch": random.integers(30, 50, num),
            "velocity": random.integers(1, 128, num),
            "start": clock.to_seconds(start / 24),
            "end": clock.to_seconds(end / 24),
            "program": np.where(program == 128, 0, program),
            "is_drum": program == 128,
            "track": random.integers(0, 6, num),
        },
        tempos=clock.tempos,
        time_signatures={
            "time": clock.to_seconds(np.array(lines) / 24),
            "numerator": [n for n, _ in signatures],
            "denominator": [d for _, d in signatures],
        },
    )


@pytest.mark.parametrize("programs", [False, True])
def test_many_programs_tempos_and_metres_are_kept_as_miditok_keeps_them(programs):
    """As with the chorales; with tempo changes between notes, changes of metre, and drums.

    Two more differences: without programs MidiTok keeps drums as notes of a piano, which ours
    leaves out, so they are left out before. In eighths it counts 24ths of an eighth, a grid
    twice as fine, on which what is on ours stays where it is; its longest note is then 32 eighths.
    """
    theirs = miditok_remi(programs, {4: [2, 3, 4], 8: [6, 12]})
    ours = RemiTokenizer(multi_program=programs, **OURS)
    for seed in range(20):
        piece = on_the_grid(seed)
        if not programs:
            notes = piece.notes[~piece.notes["is_drum"]]
            piece = Piece(notes, tempos=piece.tempos, time_signatures=piece.time_signatures)
        decoded = ours.decode(ours.encode(piece))
        notes, tempos, signatures = of_miditok(theirs, score_of(piece))
        assert notes_of(decoded, ours) == notes
        last = max(note[3] for note in notes)
        assert tempos_of(decoded, ours) == [tempo for tempo in tempos if tempo[0] < last]
        assert signatures_of(decoded, ours) == [s for s in signatures if s != (0, "4/4")]


# Files


@pytest.mark.parametrize("name", SETTINGS)
def test_save_and_load(name, tmp_path):
    tokenizer = RemiTokenizer(**SETTINGS[name])
    path = tokenizer.save(tmp_path / "tokenizer.json")
    loaded = tokenizers.load(path)
    assert loaded == tokenizer == tokenizers.from_json(tokenizer.to_json())
    assert loaded.vocabulary == tokenizer.vocabulary
    piece = piece_of((60, 0, 1.3, 77), (64, 0.5, 7, 12), bpm=77, time_signatures=[(0, 3, 4)])
    assert loaded.encode(piece).tolist() == tokenizer.encode(piece).tolist()


def test_json():
    tokenizer = RemiTokenizer(4, 2, 8, [90, 60], ["3/4", "4/4"], 40, multi_program=True)
    assert json.loads(tokenizer.to_json()) == {
        "tokenizer": "RemiTokenizer",
        "positions_per_beat": 4,
        "max_duration_beats": 2,
        "velocity_bins": 8,
        "tempos": [60, 90],
        "time_signatures": ["3/4", "4/4"],
        "program": 40,
        "multi_program": True,
    }
    assert RemiTokenizer() == RemiTokenizer(tempos=TEMPOS, time_signatures=TIME_SIGNATURES)
    assert RemiTokenizer() != RemiTokenizer(multi_program=True)


# Errors


@pytest.mark.parametrize(
    ("arguments", "bounds"),
    [
        ({"positions_per_beat": 0}, "1 to 480"),
        ({"positions_per_beat": 481}, "1 to 480"),
        ({"max_duration_beats": 0}, "1 to 128"),
        ({"max_duration_beats": 129}, "1 to 128"),
        ({"max_duration_beats": 1.5}, "1 to 128"),
        ({"velocity_bins": 128}, "0 to 127"),
        ({"program": 128}, "0 to 127"),
    ],
)
def test_arguments_out_of_range(arguments, bounds):
    ((name, value),) = arguments.items()
    sentence = f"`{name}` must be a whole number from {bounds}. Received: {name}={value}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        RemiTokenizer(**arguments)


@pytest.mark.parametrize("value", ["no", 1, None])
def test_multi_program_is_true_or_false(value):
    """`multi_program="no"` meant yes."""
    sentence = f"`multi_program` must be one of [False, True]. Received: multi_program={value!r}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        RemiTokenizer(multi_program=value)
    with pytest.raises(TypeError):
        RemiTokenizer(12, 8, 32, (120,), None, 0, True)


NUMBER = "be a whole number from"
STRINGS = "be strings such as '6/8' or '3/4'. Received:"
BARS = (
    "have bars of a whole number of positions, and have '4/4', which holds where none is written. "
    "Received: {}. Add it, or raise `positions_per_beat`."
)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"positions_per_beat": 7},
            "`positions_per_beat` must divide 480, the ticks of a quarter note. Received: "
            "positions_per_beat=7. Take 4 for sixteenths, 12 for these and triplets.",
        ),
        ({"tempos": [3]}, f"`tempos` must {NUMBER} 4 to 1000. Received: tempos=3."),
        ({"tempos": [90.5]}, f"`tempos` must {NUMBER} 4 to 1000. Received: tempos=90.5."),
        ({"tempos": "90"}, f"`tempos` must {NUMBER} 4 to 1000. Received: tempos='90'."),
        ({"tempos": []}, "`tempos` must have at least one. Received: none. Give [120]."),
        ({"time_signatures": ["4/4", "3/5"]}, f"`time_signatures` must {STRINGS} '3/5'."),
        ({"time_signatures": ["4/4", "0/4"]}, f"`time_signatures` must {STRINGS} '0/4'."),
        ({"time_signatures": ["4/4", "C"]}, f"`time_signatures` must {STRINGS} 'C'."),
        ({"time_signatures": 4}, f"`time_signatures` must {STRINGS} 4."),
        (
            {"time_signatures": ["4/4", "256/4"]},
            f"`time_signatures` must {NUMBER} 1 to 255. Received: time_signatures=256.",
        ),
        ({"time_signatures": []}, f"`time_signatures` must {BARS.format([])}"),
        ({"time_signatures": ["3/4"]}, f"`time_signatures` must {BARS.format(['3/4'])}"),
        (
            {"time_signatures": ["4/4", "3/8"], "positions_per_beat": 1},
            f"`time_signatures` must {BARS.format(['4/4', '3/8'])}",
        ),
    ],
)  # fmt: skip
def test_impossible_arguments(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        RemiTokenizer(**arguments)


def test_impossible_ids_and_pieces():
    tokenizer = RemiTokenizer()
    with pytest.raises(ValueError, match="`ids` must be from 0 to 376. Received: 377."):
        tokenizer.decode([1, 377])
    with pytest.raises(ValueError, match="`piece` must be a Piece. Received: str"):
        tokenizer.encode("song.mid")


@pytest.mark.parametrize("start", [3e7, 1e9, 1e18, 1e300, 1.7e308])
def test_a_piece_that_claims_to_last_for_years_is_refused(start):
    """A MIDI file of a few bytes can; its bars would fill the memory."""
    for notes in ([(start, start + 1)], [(0.0, 1.0), (start, 1.75e308)]):
        piece = Piece([{"pitch": 60, "start": a, "end": b} for a, b in notes])
        with pytest.raises(ValueError, match="`piece` must give at most 10000000 tokens"):
            RemiTokenizer(time_signatures=["1/4", "4/4"], positions_per_beat=1).encode(piece)


def test_what_lies_far_behind_the_last_note_does_no_harm():
    far = [{"time": 1e12, "tempo_bpm": 60.0}, {"time": 9e11, "tempo_bpm": 59e6}]
    signature = [{"time": 1e12, "numerator": 3, "denominator": 4}]
    piece = Piece(
        [{"pitch": 60, "start": 0.0, "end": 1.7e308}], tempos=far, time_signatures=signature
    )
    assert tokens(piece, velocity_bins=0) == "BAR POSITION_0 PITCH_60 DURATION_96"
