"""A melody as a list of notes: how long after the one before, how high, how loud, how long.

The smallest step from a table of notes to a sequence is to write the table down row by row. What
a row says of time is made relative: not "at 12.3 s", which a network would see once, but "half a
second after the note before", which it sees all the time.

    C4 and E4 together for half a     STEP_0 PITCH_60 VELOCITY_20 DURATION_25
    second, then G4 (20 ms a step)    STEP_0 PITCH_64 VELOCITY_20 DURATION_25
                                      STEP_25 PITCH_67 VELOCITY_20 DURATION_50

Nothing has to be closed: a note carries its length with it. The price is that how a chord ends is
spread over its notes, and that lengths are a class of their own with many members.

Conventions: seconds times `steps_per_second`, rounded, gives the step of an event; only then are
differences taken. Notes stand in order of time, in one step from low to high. Read, a value holds
until the next of its type, and a note is there when its `DURATION` is. This file also keeps what
all tokenizers of notes with lengths share: the calculations are written down once and run on NumPy
arrays (`InNumPy`) or in a graph (`in_tensorflow()`).

What this file does not do: as in `performance`, all tracks are laid on one keyboard, without drums
and pedals, and tempo and bars are forgotten (`decode` gives 120).

Reference: TensorFlow's tutorial "Generate music with an RNN". Differences: it lets the network
guess `step` and `duration` as real numbers, so that chords come apart; here they are classes. It
writes no velocity, no end, and no gap that is longer than those of its training.
"""

from __future__ import annotations

import functools

import numpy as np

from keras_music.arguments import whole_number
from keras_music.midi import Piece, check_piece
from keras_music.tokenizers.event_grammar import NOTES, EventGrammar
from keras_music.tokenizers.quantise import check_length, settle, velocity_tables
from keras_music.tokenizers.reading import InNumPy, in_tensorflow
from keras_music.tokenizers.vocabulary import SPECIAL, Tokenizer, Vocabulary

PASSED_OVER, END, STEP, PITCH, VELOCITY, DURATION = range(6)
KINDS = {"END": END, "STEP": STEP, "PITCH": PITCH, "VELOCITY": VELOCITY, "DURATION": DURATION}


class NoteTokenizer(Tokenizer):
    """Step, pitch, velocity and duration tokens, in this order for each note.

    Args:
      steps_per_second: 1-1000, the resolution of time. 50 means 20 ms, about as close as two
        notes can be for the ear to hear that they are not one.
      max_step: 1-10000, the longest `STEP`, in steps; longer gaps take several tokens. Default:
        one second.
      max_duration: 1-10000, the longest note, in steps; longer ones are cut. Default: four
        seconds.
      velocity_bins: 0-127, into how many classes the velocities 1-127 fall. 0: velocity is
        neither kept nor learned, and `decode` gives 80.
      program: 0-127, the General MIDI program that `decode` gives to the notes (0 = piano).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> from keras_music.midi import Piece
      >>> tokenizer = NoteTokenizer()
      >>> ids = tokenizer.encode(Piece([{"pitch": 60, "start": 1.5, "end": 2.0}]))
      >>> tokenizer.tokens(ids)
      ['START', 'STEP_50', 'STEP_25', 'PITCH_60', 'VELOCITY_20', 'DURATION_25', 'END']
    """

    def __init__(
        self, steps_per_second=50, max_step=None, max_duration=None, velocity_bins=32, program=0
    ):
        self.steps_per_second = whole_number("steps_per_second", steps_per_second, 1, 1000)
        max_step = self.steps_per_second if max_step is None else max_step
        self.max_step = whole_number("max_step", max_step, 1, 10000)
        max_duration = 4 * self.steps_per_second if max_duration is None else max_duration
        self.max_duration = whole_number("max_duration", max_duration, 1, 10000)
        self.velocity_bins = whole_number("velocity_bins", velocity_bins, 0, 127)
        self.program = whole_number("program", program, 0, 127)
        rows = [*SPECIAL, ("STEP", 0, self.max_step), ("PITCH", 0, 127)]
        rows += [("VELOCITY", 1, self.velocity_bins)] if self.velocity_bins else []
        self.table = Vocabulary([*rows, ("DURATION", 1, self.max_duration)])
        self._kind_of = np.array([KINDS.get(kind, 0) for kind in self.table.kind_of])
        self._bin_of, self._velocity_of = velocity_tables(self.velocity_bins)

    def settings(self):
        return {
            "steps_per_second": self.steps_per_second,
            "max_step": self.max_step,
            "max_duration": self.max_duration,
            "velocity_bins": self.velocity_bins,
            "program": self.program,
        }

    @functools.cached_property
    def grammar(self):
        """Which ids may come next: an `EventGrammar`."""
        return EventGrammar(self.table, *NOTES, step_seconds={"": 1 / self.steps_per_second})

    def encode(self, piece: Piece) -> np.ndarray:
        """A `Piece` -> ids from `START` to `END`; int32, shape (time,).

        What is lost, and how much of it: onsets and ends move by at most half a step (an end to
        one step after the onset, if it would come before); notes longer than `max_duration` end
        there; velocities move by at most half a bin; tracks, programs, drums, pedals, tempo and
        time signatures are not written. Notes of one pitch that overlap are settled as `settle`
        says. Encoding what was decoded gives the same ids again.

        Raises:
          ValueError: it is no `Piece`, or one of over 10 million tokens.
        """
        check_piece(piece)
        pitch, start, end, velocity = self._quantise(piece)
        wait = np.diff(start, prepend=0)
        # Each note becomes: the longest steps that its gap needs, the rest of it, then the note.
        full = np.maximum(-(-wait // self.max_step) - 1, 0)
        width = 3 + (self.velocity_bins > 0)
        stop = 1 + np.cumsum(full + width)
        num_tokens = stop[-1] + 1 if len(stop) else 2
        check_length(num_tokens, piece)
        ids = np.full(num_tokens, self.table.ids("STEP", self.max_step))
        ids[0], ids[-1] = self.start_id, self.end_id
        ids[stop - width] = self.table.ids("STEP", wait - full * self.max_step)
        ids[stop - width + 1] = self.table.ids("PITCH", pitch)
        if self.velocity_bins:
            ids[stop - 2] = self.table.ids("VELOCITY", self._bin_of[velocity])
        ids[stop - 1] = self.table.ids("DURATION", end - start)
        return ids

    def _quantise(self, piece):
        """Notes in order, as whole steps: pitch, start, end, velocity; none of a pitch overlap."""
        names = ("pitch", "start", "end", "velocity")
        notes = piece.columns("notes")
        is_heard = ~notes["is_drum"]
        pitch, start, end, velocity = (notes[name][is_heard] for name in names)
        with np.errstate(over="ignore"):  # infinity is too long, as is said before it is used
            start, end = (np.rint(x * self.steps_per_second) for x in (start, end))
        check_length(start.max(initial=0) / self.max_step, piece)
        notes = settle(pitch, start, np.minimum(end, start + self.max_duration), velocity)
        order = np.argsort(notes[1], kind="stable")
        return tuple(values[order] for values in notes)

    def decode(self, ids) -> Piece:
        """Ids, shape (time,) -> a `Piece`; any ids of the vocabulary give one.

        A `DURATION` makes a note of the last pitch, unless that has become one already, at the
        last velocity (80 before the first). A note ends at the latest where its pitch begins
        again; of two that begin together the last one written stays. Reading stops at `END`.
        """
        read = self._read(InNumPy, self.table.check(ids))
        is_note = np.flatnonzero(read["is_note"])
        notes = {name: read[name][is_note] for name in ("pitch", "velocity", "start", "end")}
        for name in ("start", "end"):
            notes[name] = notes[name] / self.steps_per_second
        return Piece(notes | {"program": np.full(len(is_note), self.program)})

    def notes_in_graph(self, ids):
        """The notes that `decode` gives, as TensorFlow operations: many rows at once, no loop.

        A note stands where its `DURATION` stands:

            ids       START  STEP_25  PITCH_60  VELOCITY_20  DURATION_50  END
            is_note   -      -        -         -            yes          -
            pitch     0      0        0         0            60           0
            velocity  0      0        0         0            78           0
            start     0      0        0         0            25           0
            end       0      0        0         0            75           0

        Args:
          ids: int32, shape (batch, time): any ids of the vocabulary, such as rows padded with 0.

        Returns:
          A dict of tensors, each of shape (batch, time): `is_note`, bool; `pitch` and `velocity`,
          int32; `start` and `end`, int64, in steps. The numbers are 0 where there is no note.
        """
        return self._read(in_tensorflow(), ids)

    def _read(self, ops, ids):
        """What `notes_in_graph` returns, with either library."""
        kind, value = read_ids(ops, self._kind_of, self.table.value_of, ids)
        start = ops.total(ops.where(kind == STEP, value, 0))
        is_note, pitch, velocity = complete_notes(ops, kind, value, self._velocity_of)
        key = ops.where(is_note, pitch, -1)
        is_note, end = ops.separate(key, start, start + ops.long(value))
        notes = {"pitch": pitch, "velocity": velocity, "start": start, "end": end}
        return masked(ops, is_note, notes) | {"is_note": is_note}


def read_ids(ops, kind_of, value_of, ids):
    """The kind and the value of each id; from `END` on all is passed over."""
    kind = ops.take(kind_of, ids)
    is_read = ops.total(kind == END) == 0
    return ops.where(is_read, kind, PASSED_OVER), ops.take(value_of, ids)


def complete_notes(ops, kind, value, velocity_of):
    """Where a note is complete, its pitch and its velocity: at each `DURATION` after a `PITCH`."""
    is_duration = kind == DURATION
    # One more than the pitch that waits for its length; 0 when it has had it.
    waiting = ops.where(kind == PITCH, value + 1, ops.where(is_duration, 0, -1))
    waiting = ops.before(ops.in_force(waiting))
    velocity = ops.take(velocity_of, ops.in_force(ops.where(kind == VELOCITY, value, -1)))
    return is_duration & (waiting > 0), waiting - 1, velocity


def masked(ops, where, values):
    """The values where they mean something, 0 elsewhere."""
    return {name: ops.where(where, value, 0) for name, value in values.items()}
