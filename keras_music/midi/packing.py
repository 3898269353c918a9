"""A piece as a few bytes, to be kept or sent, and back: exactly the same numbers.

A MIDI file is the wrong place to keep a piece that was read: it rounds times to ticks. A pickle is
exact and can run any program when it is opened. Between them stands what every binary format of
numbers does: a header in JSON that says how many numbers of which kind there are, then the numbers
as the processor holds them.

Conventions: four bytes with the header's length, the header, then the columns of the tables in the
order of `PACKED_DTYPES`, each in the smallest type that holds it, little end first.

What this file does not do: it does not compress, and it does not notice a flipped bit; whoever
keeps the bytes does.
"""

from __future__ import annotations

import json
import struct

import numpy as np

from keras_music.midi.piece import Piece

PACKED_DTYPES = {
    "notes": {
        "pitch": "u1",
        "velocity": "u1",
        "start": "<f8",
        "end": "<f8",
        "program": "u1",
        "is_drum": "?",
        "track": "<u4",
    },
    "tempos": {"time": "<f8", "tempo_bpm": "<f8"},
    "time_signatures": {"time": "<f8", "numerator": "u1", "denominator": "u1"},
    "pedals": {"start": "<f8", "end": "<f8", "track": "<u4"},
}
LENGTH = struct.Struct("<I")


def pack_piece(piece: Piece) -> bytes:
    """Turns a piece into bytes, from which `unpack_piece` makes the same piece."""
    tables = {table: piece.columns(table) for table in PACKED_DTYPES}
    header = {
        "name": piece.name,
        "ticks_per_quarter": piece.ticks_per_quarter,
        "rows": {table: len(next(iter(columns.values()))) for table, columns in tables.items()},
    }
    text = json.dumps(header).encode()
    arrays = [
        tables[table][column].astype(dtype).tobytes()
        for table, dtypes in PACKED_DTYPES.items()
        for column, dtype in dtypes.items()
    ]
    return b"".join([LENGTH.pack(len(text)), text, *arrays])


def unpack_piece(data: bytes, name=None) -> Piece:
    """The piece that was packed; under another name, if one is given.

    Raises:
      ValueError: these bytes are no packed piece.

    >>> piece = Piece([{"pitch": 60, "start": 0.0, "end": 0.1}], name="a")
    >>> unpack_piece(pack_piece(piece))
    Piece('a', notes=1, seconds=0.1)
    """
    try:
        (length,) = LENGTH.unpack_from(data)
        place = LENGTH.size + length
        header = json.loads(data[LENGTH.size : place])
        tables = {}
        for table, dtypes in PACKED_DTYPES.items():
            tables[table] = {}
            for column, dtype in dtypes.items():
                values = np.frombuffer(data, dtype, header["rows"][table], place)
                place += values.nbytes
                wide = {"f": np.float64, "b": np.bool_}.get(values.dtype.kind, np.int64)
                tables[table][column] = values.astype(wide)
        name = header["name"] if name is None else name
        return Piece(**tables, ticks_per_quarter=header["ticks_per_quarter"], name=name)
    except (
        struct.error,
        LookupError,
        TypeError,
        ValueError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(f"`data` must come from `pack_piece`. Received: {error}.") from None
