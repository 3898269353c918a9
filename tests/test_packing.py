"""Pieces as bytes and back: the same numbers, and no harm from other bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_midi import assert_same

from keras_music.midi import Piece
from keras_music.midi.packing import LENGTH, PACKED_DTYPES, pack_piece, unpack_piece
from keras_music.midi.piece import TABLES

PIECE = Piece(
    [
        {"pitch": 0, "start": 0.1, "end": 0.1 + 0.2, "velocity": 1, "program": 127},
        {"pitch": 127, "start": 1e5 / 3, "end": 1e5, "velocity": 127, "is_drum": True},
        {"pitch": 60, "start": 0.0, "end": 0.0, "track": 2**31},
    ],
    tempos=[{"time": 0.0, "tempo_bpm": 100 / 3}, {"time": 7.7, "tempo_bpm": 1e-3}],
    time_signatures=[{"time": 0.5, "numerator": 255, "denominator": 128}],
    pedals=[{"start": 0.25, "end": 1 / 3, "track": 9}],
    ticks_per_quarter=32767,
    name="Für Elise",
)


def test_what_was_packed_comes_back_to_the_last_bit():
    back = unpack_piece(pack_piece(PIECE))
    assert_same(back, PIECE)
    assert back.name == "Für Elise"
    assert unpack_piece(pack_piece(PIECE), name="other").name == "other"


def test_a_piece_without_anything():
    assert_same(unpack_piece(pack_piece(Piece([]))), Piece([]))


@given(st.lists(st.tuples(st.integers(0, 127), st.floats(0, 1e6), st.floats(0, 1e3)), max_size=9))
def test_any_notes(rows):
    piece = Piece([{"pitch": p, "start": start, "end": start + more} for p, start, more in rows])
    assert_same(unpack_piece(pack_piece(piece)), piece)


def test_every_column_of_a_piece_is_packed():
    columns = {table: list(dtypes) for table, (dtypes, *_) in TABLES.items()}
    assert {table: list(dtypes) for table, dtypes in PACKED_DTYPES.items()} == columns


def test_a_note_takes_24_bytes():
    def size(n):
        return len(pack_piece(Piece({"pitch": [60] * n, "start": [0.0] * n, "end": [1.0] * n})))

    assert size(90) - size(10) == 80 * 24


@pytest.mark.parametrize("keep", [0, 3, 4, 50, 150, -1])
def test_cut_bytes_are_refused(keep):
    with pytest.raises(ValueError, match="^`data` must come from `pack_piece`"):
        unpack_piece(pack_piece(PIECE)[:keep])


@pytest.mark.parametrize(
    "header",
    [
        '{"rows": {"notes": 1' + "0" * 30 + "}}",
        '{"rows": {"notes": -1}}',
        '{"rows": []}',
        "[" * 200_000,
    ],
)
def test_a_header_from_a_stranger(header):
    with pytest.raises(ValueError, match="^`data` must come from `pack_piece`"):
        unpack_piece(LENGTH.pack(len(header)) + header.encode())


@given(st.binary(max_size=200), st.integers(0, 200))
def test_other_bytes_are_refused_or_are_a_piece(data, length):
    """A flipped bit in a number is another number; nothing else may come of it."""
    for candidate in (data, LENGTH.pack(length) + data, pack_piece(PIECE)[:length] + data):
        try:
            unpack_piece(candidate)
        except ValueError as error:
            assert str(error).startswith("`data` must come from `pack_piece`")


def test_every_time_and_tempo_keeps_all_its_bits():
    """A third has no end in any binary format: with fewer bits it would be another number."""
    third = 1 / 3
    piece = Piece(
        [{"pitch": 60, "start": third, "end": 2 * third}],
        tempos=[{"time": 0.0, "tempo_bpm": 100 * third}, {"time": third, "tempo_bpm": 60.0}],
        time_signatures=[{"time": third, "numerator": 3, "denominator": 4}],
        pedals=[{"start": third, "end": 2 * third, "track": 2**31}],
    )
    assert_same(unpack_piece(pack_piece(piece)), piece)
