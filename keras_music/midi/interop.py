"""To and from `pretty_midi.PrettyMIDI`, the MIDI object that users know.

Conventions: both count in seconds; an instrument there is a track here. What is not kept is what
`Piece` does not keep: controllers other than the sustain pedal, pitch bends, lyrics.

Reference: C. Raffel and D. Ellis, pretty_midi (2014), https://github.com/craffel/pretty-midi.
"""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pandas as pd

from keras_music.midi.files import SUSTAIN_PEDAL, merge, midi_bytes, spans
from keras_music.midi.piece import Piece


def from_pretty_midi(midi) -> Piece:
    """Turns a `pretty_midi.PrettyMIDI` into a `Piece`; instruments become tracks in their order.

    Times are taken as they are, in seconds. Controllers other than the sustain pedal and pitch
    bends are left behind.
    """
    times, tempos_bpm = midi.get_tempo_changes()
    columns = ["pitch", "velocity", "start", "end", "program", "is_drum", "track"]
    notes = [
        (n.pitch, n.velocity, n.start, n.end, instrument.program, instrument.is_drum, track)
        for track, instrument in enumerate(midi.instruments)
        for n in instrument.notes
    ]
    pedals = []
    for track, instrument in enumerate(midi.instruments):
        presses = [c for c in instrument.control_changes if c.number == SUSTAIN_PEDAL]
        time = np.array([c.time for c in presses], np.float64)
        value = np.array([c.value for c in presses])
        last = max([n.end for n in instrument.notes], default=0.0)
        down, up = spans(time, value, last)
        pedals += [{"start": a, "end": b, "track": track} for a, b in zip(down, up, strict=True)]
    return Piece(
        pd.DataFrame(notes, columns=columns),
        tempos={"time": times, "tempo_bpm": tempos_bpm},
        time_signatures=[
            {"time": s.time, "numerator": s.numerator, "denominator": s.denominator}
            for s in midi.time_signature_changes
        ],
        pedals=pedals,
        ticks_per_quarter=midi.resolution,
    )


def to_pretty_midi(piece: Piece):
    """Turns a piece into a `pretty_midi.PrettyMIDI`: one instrument for each track and program.

    Raises:
      ValueError: the tempo or time signature changes after pretty_midi's limit of 10 million ticks.
    """
    import pretty_midi

    # pretty_midi has no public way to set a tempo map; a file without notes carries it.
    frame = dataclasses.replace(piece, notes=[], pedals=[])
    midi = pretty_midi.PrettyMIDI(io.BytesIO(midi_bytes(frame)))
    for (number, program, is_drum), notes in piece.notes.groupby(["track", "program", "is_drum"]):
        instrument = pretty_midi.Instrument(int(program), bool(is_drum))
        instrument.notes = [
            pretty_midi.Note(int(n.velocity), int(n.pitch), float(n.start), float(n.end))
            for n in notes.itertuples()
        ]
        pedals = piece.pedals[piece.pedals["track"] == number]
        for down, up in merge(zip(pedals["start"], pedals["end"], strict=True)):
            for value, time in ((127, down), (0, up)):
                change = pretty_midi.ControlChange(SUSTAIN_PEDAL, value, float(time))
                instrument.control_changes.append(change)
        midi.instruments.append(instrument)
    return midi
