"""Pieces and MIDI files: bytes as annotated hexdumps, notes in, notes out."""

import io
import os
import pathlib
import struct

import mido
import numpy as np
import pandas as pd
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_music.midi import (
    Piece,
    from_pretty_midi,
    midi_bytes,
    read_midi,
    to_pretty_midi,
    write_atomically,
    write_midi,
)

TABLES = ("notes", "tempos", "time_signatures", "pedals")
NOTE = "00 90 3C 40   60 80 3C 40"  # middle C, velocity 64, 96 ticks long
WILD = pathlib.Path(__file__).resolve().parents[1] / ".." / "shared" / "midi"


def smf(*tracks, kind=None, ticks_per_quarter=96):
    """Track bodies as hexadecimal text -> the bytes of a file; End of Track is added."""
    kind = (len(tracks) > 1) if kind is None else kind
    data = b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks), ticks_per_quarter)
    for track in tracks:
        lines = [line.split("#")[0] for line in track.splitlines()]
        body = bytes.fromhex("".join(lines)) + bytes.fromhex("00 FF 2F 00")
        data += b"MTrk" + struct.pack(">I", len(body)) + body
    return data


def rows(table, *columns):
    """[(value, ...), ...] of the named columns, or of all of them."""
    table = table[list(columns)] if columns else table
    return [tuple(row) for row in table.itertuples(index=False)]


def note(pitch, start, end, **more):
    return {"pitch": pitch, "start": start, "end": end} | more


def assert_same(first, second):
    """Two pieces are equal to the last bit (but for their names)."""
    for table in TABLES:
        pd.testing.assert_frame_equal(getattr(first, table), getattr(second, table))
    assert first.ticks_per_quarter == second.ticks_per_quarter


# Bytes in, piece out


def test_a_file_byte_by_byte():
    """Tempo on the second track, velocity 0 as release, running status, pedal, two programs."""
    data = bytes.fromhex(
        """
        4D 54 68 64  00 00 00 06    # "MThd", six bytes follow
        00 01  00 03  00 60         # format 1, three tracks, 96 ticks to a quarter note

        4D 54 72 6B  00 00 00 0C    # "MTrk", twelve bytes
        00 FF 58 04 03 03 18 08     # time signature 3/2**3
        00 FF 2F 00                 # end of track

        4D 54 72 6B  00 00 00 40    # "MTrk", 64 bytes
        00 FF 51 03 07 A1 20        # 500,000 microseconds a quarter: 120 a minute
        00 C0 28                    # channel 1 plays program 40
        00 B0 40 7F                 # pedal down
        00 90 3C 64                 # C4 down, velocity 100
        60 3C 00                    # 96 ticks later, running status: C4 up (velocity 0)
        00 FF 51 03 0F 42 40        # tempo 60 a minute, from 0.5 s on
        30 B0 40 00                 # 48 ticks: pedal up
        00 C0 05                    # channel 1 now plays program 5
        00 90 3C 50                 # C4 down, velocity 80
        30 90 3C 46                 # 48 ticks: C4 down again, while it sounds
        30 80 3C 40                 # C4 up
        30 80 3C 40                 # C4 up
        00 90 40 01  00 80 40 00    # E4 without a length
        00 FF 2F 00

        4D 54 72 6B  00 00 00 0C
        81 40 99 26 7F              # 192 ticks: drum 38 on channel 10
        18 26 00                    # 24 ticks: up
        00 FF 2F 00
        """.replace("# ", "\n#").replace("#", "")
        if False
        else "".join(line.split("#")[0] for line in HEXDUMP.splitlines())
    )
    piece = read_midi(data)
    assert rows(piece.notes) == []


# Placeholder
