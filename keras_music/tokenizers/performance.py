"""A performance as a sequence of key presses, releases and waits.

This is how a piano would dictate what happens to it: "velocity 20, press 60, wait 50 steps,
release 60". Chords are presses without a wait between them, so any number of voices fits into one
sequence, and expressive timing needs no bars.

    quarter note C4, then E4       VELOCITY_20 NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60
    (120 quarters a minute)        NOTE_ON_64 TIME_SHIFT_50 NOTE_OFF_64

Conventions: seconds times `steps_per_second`, rounded, gives the *step* of an event; only then
are differences taken, so that errors do not add up (rounding the waits instead drifts by a third
of a second in ten minutes). `VELOCITY` is written when it changes.

One keyboard is the default: all tracks are laid on it, and drums are left out. With
`multi_program` every instrument has its keys: `PROGRAM` (0-127; 128 = drums) is written when it
changes, and what follows belongs to it; a piece begins with program 0.

    bass C2 and a hi-hat           PROGRAM_32 VELOCITY_20 NOTE_ON_36 PROGRAM_128 NOTE_ON_42
                                   TIME_SHIFT_50 PROGRAM_32 NOTE_OFF_36 PROGRAM_128 NOTE_OFF_42

The sustain pedal holds notes whose keys came up while it is down. So a note under the pedal can be
written as long as it sounds, `pedal="extend"`, or as long as its key is down, with the pedal's own
tokens, `"tokens"`; `"ignore"` forgets the pedal. A key down for 50 steps, the pedal for 90:

    extend      NOTE_ON_60 TIME_SHIFT_90 NOTE_OFF_60
    tokens      PEDAL_ON NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60 TIME_SHIFT_40 PEDAL_OFF
    ignore      NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60

In one step the programs come one after another, and of each first what the pedal does, then
releases, then presses, each from low to high.

What this file does not do: tempo and bars are forgotten (`decode` gives 120); of the controllers
it knows the sustain pedal only.

Reference: S. Oore et al., "This Time with Feeling" (2018), Magenta's Performance RNN.
Differences: `PAD`, `START`, `END`; resolution and velocity bins are arguments; keys pressed twice
keep sounding (see `encode`); programs, drums, and a choice of what becomes of the pedal.
"""

from __future__ import annotations

import functools

import numpy as np

from keras_music.arguments import one_of, whole_number
from keras_music.midi import Piece, check_piece
from keras_music.tokenizers.event_grammar import PRESSES, EventGrammar
from keras_music.tokenizers.pedals import extend, of_players
from keras_music.tokenizers.quantise import check_length, last_valid, settle, velocity_tables
from keras_music.tokenizers.reading import (
    in_force_in_graph,
    next_of_its_key,
    next_of_its_key_in_graph,
)
from keras_music.tokenizers.vocabulary import DRUMS, SPECIAL, Tokenizer, Vocabulary

MAX_STEP = 10**12  # 10 million tokens cannot wait so long
PEDAL = 128  # the pedal is one more key of each program, above its 128 pitches
EVENTS = ("PEDAL_OFF", "PEDAL_ON", "NOTE_OFF", "NOTE_ON")  # their order within a step


class PerformanceTokenizer(Tokenizer):
    """Note-on, note-off, time-shift and velocity tokens.

    Args:
      steps_per_second: 1-1000, the resolution of time. 100 means 10 ms.
      velocity_bins: 0-127, into how many classes the velocities 1-127 fall. 0: velocity is
        neither kept nor learned, and `decode` gives 80.
      max_shift_steps: 1-10000, the longest single wait, in steps; longer ones take several
        tokens. Default: one second.
      program: 0-127, the General MIDI program that `decode` gives to the notes (0 = piano);
        without a meaning if `multi_program`.
      multi_program: whether the program of each note is kept, and drums too. Default: False.
      pedal: "extend" (notes are as long as they sound; the default), "tokens" or "ignore".

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> from keras_music.midi import Piece
      >>> tokenizer = PerformanceTokenizer()
      >>> ids = tokenizer.encode(Piece([{"pitch": 60, "start": 0.0, "end": 1.5}]))
      >>> tokenizer.tokens(ids)  # doctest: +NORMALIZE_WHITESPACE
      ['START', 'VELOCITY_20', 'NOTE_ON_60', 'TIME_SHIFT_100', 'TIME_SHIFT_50', 'NOTE_OFF_60',
       'END']
    """

    def __init__(
        self,
        steps_per_second=100,
        velocity_bins=32,
        max_shift_steps=None,
        program=0,
        *,
        multi_program=False,
        pedal="extend",
    ):
        self.steps_per_second = whole_number("steps_per_second", steps_per_second, 1, 1000)
        self.velocity_bins = whole_number("velocity_bins", velocity_bins, 0, 127)
        if max_shift_steps is None:
            max_shift_steps = self.steps_per_second
        self.max_shift_steps = whole_number("max_shift_steps", max_shift_steps, 1, 10000)
        self.program = whole_number("program", program, 0, 127)
        self.multi_program = one_of("multi_program", multi_program, (False, True))
        self.pedal = one_of("pedal", pedal, ("extend", "tokens", "ignore"))
        rows = [*SPECIAL, ("NOTE_ON", 0, 127), ("NOTE_OFF", 0, 127)]
        rows += [("TIME_SHIFT", 1, self.max_shift_steps)]
        rows += [("VELOCITY", 1, self.velocity_bins)] if self.velocity_bins else []
        rows += [("PROGRAM", 0, DRUMS)] if self.multi_program else []
        rows += [("PEDAL_ON", 0, 0), ("PEDAL_OFF", 0, 0)] if self.pedal == "tokens" else []
        self.table = Vocabulary(rows)
        self._set_tables()

    def _set_tables(self):
        """What each id does, arrays (vocab_size,); -1 where it has nothing to do with it."""
        is_kind, value = self.table.is_kind, self.table.value_of.astype(np.int32)
        self._wait_of = np.where(is_kind("TIME_SHIFT"), value, 0)
        self._bin_at = np.where(is_kind("VELOCITY"), value, -1)
        self._program_at = np.where(is_kind("PROGRAM"), value, -1)
        pedal = np.where(is_kind("PEDAL_ON", "PEDAL_OFF"), PEDAL, -1)
        self._key_of = np.where(is_kind("NOTE_ON", "NOTE_OFF"), value, pedal).astype(np.int32)
        self._is_press = is_kind("NOTE_ON", "PEDAL_ON")
        self._id_of = np.zeros((len(EVENTS), PEDAL + 1), np.int32)
        for event, kind in enumerate(EVENTS):
            ids = np.flatnonzero(is_kind(kind))
            self._id_of[event, self._key_of[ids]] = ids
        self._bin_of, self._velocity_of = velocity_tables(self.velocity_bins)

    def settings(self):
        """The arguments; the two that came later only where they are not the default."""
        settings = {
            "steps_per_second": self.steps_per_second,
            "velocity_bins": self.velocity_bins,
            "max_shift_steps": self.max_shift_steps,
            "program": self.program,
        }
        settings |= {"multi_program": True} if self.multi_program else {}
        return settings | ({"pedal": self.pedal} if self.pedal != "extend" else {})

    @functools.cached_property
    def grammar(self):
        """Which ids may come next: an `EventGrammar`."""
        return EventGrammar(self.table, *PRESSES, step_seconds={"": 1 / self.steps_per_second})

    def encode(self, piece: Piece) -> np.ndarray:
        """A `Piece` -> ids from `START` to `END`; int32, shape (time,).

        What is lost, and how much of it: onsets and ends (of notes as they sound, if pedals
        extend them) move by at most half a step, and an end to one step after the onset, if it
        would come before; velocities by at most half a bin; tempo and time signatures are not
        written, nor, without `multi_program`, programs and drums. Tracks are laid together; so are
        their pedals, and those of a track without notes are left out. Where one pitch (of one
        program) is pressed again while it sounds, every onset is kept and the pitch goes on
        sounding to the last of the ends; presses of one pitch in one step are one press, at the
        highest velocity. Encoding what was decoded gives the same ids again.

        Raises:
          ValueError: it is no `Piece`, or one of over 10 million tokens.
        """
        check_piece(piece)
        program, key, start, end, velocity = self._quantise(piece)
        # Two events each: a press and a release.
        is_pedal = key == PEDAL
        step = np.concatenate([end, start])
        event = np.concatenate([np.where(is_pedal, 0, 2), np.where(is_pedal, 1, 3)])
        program, key, velocity = (np.tile(x, 2) for x in (program, key, velocity))
        # One number for all four (at most 1e17), which is several times as fast to sort.
        place = (step * (DRUMS + 1) + program) * len(EVENTS) + event
        order = np.argsort(place * (PEDAL + 1) + key)
        step, event, key = step[order], event[order], key[order]
        return self._write(piece, step, program[order], event, key, self._bin_of[velocity[order]])

    def _quantise(self, piece):
        """Program, key, start, end, velocity of notes and pedals; no two of one key overlap."""
        notes = piece.columns("notes")
        if not self.multi_program and notes["is_drum"].any():
            notes = {name: column[~notes["is_drum"]] for name, column in notes.items()}
        start, end = self._steps(notes["start"]), self._steps(notes["end"])
        program = np.zeros_like(start)
        if self.multi_program:
            program = np.where(notes["is_drum"], DRUMS, notes["program"])
        end, pedals = self._hear(piece.columns("pedals"), notes["track"], program, end)
        key = program * 128 + notes["pitch"]
        key, start, end, velocity = settle(key, start, end, notes["velocity"])
        notes = key // 128, key % 128, start, end, velocity
        return (
            [np.concatenate(both) for both in zip(notes, pedals, strict=True)] if pedals else notes
        )

    def _hear(self, pedals, track, program, end):
        """The ends of the notes as they are written, and the pedals that are, like notes."""
        if self.pedal == "ignore" or not len(pedals["track"]):
            return end, None
        spans = [pedals["track"], self._steps(pedals["start"]), self._steps(pedals["end"])]
        if self.pedal == "extend":
            player = np.unique(track, return_inverse=True)[1]  # each track its own, counted
            return extend(player, end, of_players(track, player, spans)), None
        program, start, end_of_pedal = of_players(track, program, spans)
        key = np.full_like(start, PEDAL)
        return end, (program, key, start, end_of_pedal, np.zeros_like(start))

    def _steps(self, seconds):
        steps = np.rint(np.minimum(seconds * self.steps_per_second, MAX_STEP))
        return steps.astype(np.int64)

    def _write(self, piece, step, program, event, key, velocity_bin):
        """Events in order -> ids. No loop over notes."""
        longest = self.max_shift_steps
        wait = np.diff(step, prepend=0)
        full, rest = wait // longest, wait % longest
        is_press = event == EVENTS.index("NOTE_ON")
        new_velocity = is_press & (velocity_bin != _before(np.where(is_press, velocity_bin, -1)))
        new_program = program != _before(program)
        # Each event becomes: full waits, the rest of the wait, a program, a velocity, the key.
        counts = full + (rest > 0) + new_program + new_velocity + 1
        check_length(counts.sum(), piece)
        stop = np.cumsum(counts) + 1
        ids = np.full(stop[-1] + 1 if len(stop) else 2, self.table.ids("TIME_SHIFT", longest))
        ids[0], ids[-1] = self.start_id, self.end_id
        place = stop - 1
        ids[place] = self._id_of[event, key]
        place -= new_velocity
        if self.velocity_bins:
            ids[place[new_velocity]] = self.table.ids("VELOCITY", velocity_bin[new_velocity])
        place -= new_program
        if self.multi_program:
            ids[place[new_program]] = self.table.ids("PROGRAM", program[new_program])
        is_short = rest > 0
        ids[place[is_short] - 1] = self.table.ids("TIME_SHIFT", rest[is_short])
        return ids

    def decode(self, ids) -> Piece:
        """Ids, shape (time,) -> a `Piece`; any ids of the vocabulary give one.

        A release of a silent pitch is passed over, a press of a sounding pitch ends the note
        before, and what still sounds at the end of the ids ends there; every note lasts at least
        one step. The pedal is read like a key; where it has no length, or its program no note, it
        is left out. Reading stops at `END`. With `multi_program` each program is a track, in
        ascending order, the drums last.
        """
        ids = self.table.check(ids)
        ids = ids[: np.argmax(ids == self.end_id)] if (ids == self.end_id).any() else ids
        step = np.cumsum(self._wait_of[ids], dtype=np.int64)
        key = self._key_of[ids]
        touches = np.flatnonzero(key >= 0)  # the places that touch a key
        program = last_valid(self._program_at[ids])[touches]
        velocity = self._velocity_of[last_valid(self._bin_at[ids])[touches]]
        start, key = step[touches], key[touches]
        end = next_of_its_key(program * 256 + key, start, step[-1:].sum())
        is_press, is_pedal = self._is_press[ids[touches]], key == PEDAL
        notes = program, key, velocity, start, np.maximum(end, start + 1)
        return self._piece(
            [x[is_press & ~is_pedal] for x in notes],
            [x[is_press & is_pedal & (end > start)] for x in (program, start, end)],
        )

    def _piece(self, notes, pedals):
        """Arrays in steps -> a `Piece` in seconds."""
        program, pitch, velocity, start, end = (x.astype(np.int64) for x in notes)
        columns = {"pitch": pitch, "velocity": velocity}
        columns |= {"start": start / self.steps_per_second, "end": end / self.steps_per_second}
        programs, track = np.unique(program, return_inverse=True)
        if self.multi_program:
            columns |= {"program": program % DRUMS, "is_drum": program == DRUMS, "track": track}
        else:
            columns["program"] = np.full_like(pitch, self.program)
        program, start, end = (x[np.isin(pedals[0], programs)] for x in pedals)
        spans = {"start": start / self.steps_per_second, "end": end / self.steps_per_second}
        spans["track"] = np.searchsorted(programs, program)
        return Piece(columns, pedals=spans if len(start) else None)

    def notes_in_graph(self, ids):
        """The notes that `decode` gives, as TensorFlow operations: many rows at once, no loop.

        A note stands where its `NOTE_ON` stands:

            ids       START  VELOCITY_20  NOTE_ON_60  TIME_SHIFT_50  NOTE_OFF_60  END
            is_note   -      -            yes         -              -            -
            pitch     0      0            60          0              0            0
            velocity  0      0            78          0              0            0
            start     0      0            0           0              0            0
            end       0      0            50          0              0            0

        Args:
          ids: int32, shape (batch, time): any ids of the vocabulary, such as rows padded with 0.

        Returns:
          A dict of tensors, each of shape (batch, time): `is_note`, bool; `pitch` and `velocity`,
          int32; `start` and `end`, int64, in steps. The numbers are 0 where there is no note.
          With `multi_program` also `program`, int32, 128 for drums. With `pedal="tokens"` also
          `is_pedal`, bool: from `start` to `end` the pedal (of `program`) is down; also where the
          program has no note, which `decode`, and the MIDI file, leave out.
        """
        import tensorflow as tf

        def table(values):
            return tf.gather(tf.constant(values), ids)  # (batch, time)

        # After `END` no time passes: what is touched there is touched at the last step. Steps are
        # int64, because the longest waits of a very long row add up to more than int32 holds.
        read = tf.cumsum(tf.cast(tf.equal(ids, self.end_id), tf.int32), axis=1) == 0
        wait = tf.where(read, table(self._wait_of.astype(np.int64)), 0)
        start = tf.cumsum(wait, axis=1)
        key, program = table(self._key_of), in_force_in_graph(table(self._program_at))
        place = tf.where(key >= 0, program * 256 + key, -1)
        end = next_of_its_key_in_graph(place, start, tf.reduce_sum(wait, axis=1, keepdims=True))
        is_press, is_pedal = read & table(self._is_press), key == PEDAL
        is_note = is_press & ~is_pedal
        bins = in_force_in_graph(table(self._bin_at))
        velocity = tf.gather(tf.constant(self._velocity_of), bins)
        end = tf.where(is_note, tf.maximum(end, start + 1), end)
        found = {"is_note": is_note, "pitch": tf.where(is_note, key, 0)}
        found["velocity"] = tf.where(is_note, velocity, 0)
        if self.pedal == "tokens":
            found["is_pedal"] = is_press & is_pedal & (end > start)
            is_note |= found["is_pedal"]
        if self.multi_program:
            found["program"] = tf.where(is_note, program, 0)
        zero = tf.zeros_like(start)
        return found | {n: tf.where(is_note, x, zero) for n, x in (("start", start), ("end", end))}


def _before(values):
    """For each place the last value before it that is not negative, 0 if there is none."""
    return np.append(0, last_valid(values)[:-1])[: len(values)]
