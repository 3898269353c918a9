"""A piece of music as a table of notes, and the way in and out of MIDI files.

`piece` is the table, `files` reads and writes Standard MIDI Files (`running_status` mends what its
parser would misread, `note_ons` counts what it leaves out), `packing` keeps a piece as bytes,
`interop` is the bridge to pretty_midi. Pitch is the MIDI number (60 = middle C = C4), velocity
1-127, program 0-127 as in General MIDI (0 = piano), and every time is in seconds.
"""

from keras_music.midi.files import (
    midi_bytes,
    read_midi,
    write_midi,
)
from keras_music.midi.interop import from_pretty_midi, to_pretty_midi
from keras_music.midi.piece import Piece, check_piece

__all__ = [
    "Piece",
    "check_piece",
    "from_pretty_midi",
    "midi_bytes",
    "read_midi",
    "to_pretty_midi",
    "write_midi",
]
