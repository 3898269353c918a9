"""A choir on a grid: in every step of time, each voice says one word.

A performance is a list of events; a chorale is a table. Time runs downwards in steps of equal
length (four to the beat are sixteenths), and across stand the voices, soprano first. Each cell
says what its voice does: a `NOTE` begins, the note before is held (`HOLD`), or it is silent
(`REST`). A chorale's first beat, with a quarter note in soprano and bass, two eighths in the alto
and a tenor that comes in late:

    step    soprano   alto      tenor     bass
    0       NOTE_67   NOTE_64   REST      NOTE_48
    1       HOLD      HOLD      REST      HOLD
    2       HOLD      NOTE_62   NOTE_55   HOLD
    3       HOLD      HOLD      HOLD      HOLD

Read line by line this is a sequence, 4 * 4 = 16 ids, and one line is a *frame*. What the voices do
at one moment stands together, so harmony is near and counting bars is counting tokens; but four
beats take 64 ids whatever happens in them, and nothing finer than a step exists. In Bach's chorales
72 of a hundred ids are `HOLD`.

The surprise of a network over such ids can be summed over a frame: the chance of a whole chord,
given all before, is the product of the chances of its voices. That is what papers on chorales
quote, in nats a frame (`keras_music.evaluation.nats_per_frame`).

Conventions: inside the tokenizer time is in quarter-note beats by the piece's tempo map, times
`steps_per_beat`, rounded. A piece of `decode` has one track a voice, the first is 0.

What this file does not do: no velocity (80), no drums, no tempo changes, no time signatures; a
piece with more notes at once than voices loses some (see `encode`).

References: G. Hadjeres et al., "DeepBach" (2017), has the grid, the voices and the hold symbol;
C.-Z. A. Huang et al., "Counterpoint by Convolution" (Coconet, 2017), frames of four voices without
hold. Differences: rests are tokens; voices are interleaved into one sequence with `START` and
`END`.
"""

from __future__ import annotations

import functools

import numpy as np

from keras_music.arguments import whole_number
from keras_music.midi import Piece, check_piece
from keras_music.tokenizers.grammar import Grammar
from keras_music.tokenizers.quantise import check_length, settle, steps_a_beat
from keras_music.tokenizers.reading import next_of_its_key, next_of_its_key_in_graph
from keras_music.tokenizers.vocabulary import SPECIAL, Tokenizer, Vocabulary

VELOCITY = 80  # of all notes
MAX_STEP = 10**9  # no piece of so many tokens lasts so long


class ChoraleTokenizer(Tokenizer):
    """One token a voice in each step of a grid: a note, hold or rest.

    Args:
      steps_per_beat: a divisor of 480, the resolution of time. 4 means sixteenth notes.
      num_voices: 1-15, tokens a frame (a MIDI file has 15 channels beside the drums').
      tempo_bpm: 4-1000, quarter notes a minute in what `decode` gives.
      program: 0-127, the General MIDI program that `decode` gives to the notes (0 = piano).

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> from keras_music.midi import Piece
      >>> tokenizer = ChoraleTokenizer(steps_per_beat=2, num_voices=2)
      >>> piece = Piece({"pitch": [67, 48], "start": [0, 0.5], "end": [1, 1], "track": [0, 1]})
      >>> tokenizer.tokens(tokenizer.encode(piece))  # doctest: +NORMALIZE_WHITESPACE
      ['START', 'NOTE_67', 'REST', 'HOLD', 'REST', 'HOLD', 'NOTE_48', 'HOLD', 'HOLD', 'END']
    """

    def __init__(self, steps_per_beat=4, num_voices=4, tempo_bpm=120, program=0):
        self.steps_per_beat = steps_a_beat("steps_per_beat", steps_per_beat)
        self.num_voices = whole_number("num_voices", num_voices, 1, 15)
        self.tempo_bpm = whole_number("tempo_bpm", tempo_bpm, 4, 1000)
        self.program = whole_number("program", program, 0, 127)
        self.table = Vocabulary([*SPECIAL, ("REST", 0, 0), ("HOLD", 0, 0), ("NOTE", 0, 127)])
        self.rest_id, self.hold_id = int(self.table.ids("REST")), int(self.table.ids("HOLD"))
        is_kind = self.table.is_kind
        self._is_voice = is_kind("REST", "HOLD", "NOTE")
        # What each id does to its voice: what sounds there ends, a pitch begins (-1: none).
        self._ends_note = is_kind("REST", "NOTE")
        self._pitch_of = np.where(is_kind("NOTE"), self.table.value_of, -1).astype(np.int32)

    def settings(self):
        return {
            "steps_per_beat": self.steps_per_beat,
            "num_voices": self.num_voices,
            "tempo_bpm": self.tempo_bpm,
            "program": self.program,
        }

    @functools.cached_property
    def grammar(self):
        """Which ids may come next: a `FrameGrammar`."""
        step_seconds = 60 / self.tempo_bpm / self.steps_per_beat
        return FrameGrammar(self.table, self.num_voices, step_seconds)

    def encode(self, piece: Piece) -> np.ndarray:
        """A `Piece` -> ids from `START` to `END`; int32, shape (num_frames * num_voices + 2,).

        Where the piece has at most `num_voices` tracks, and in each of them one note at a time,
        the tracks are the voices, in their order. (Two notes of a track may overlap by less than
        half a step, as singers do.) Where no track has a number over `num_voices - 1`, the number
        is the voice's; else the tracks are counted. Otherwise notes are given to voices by pitch,
        anew in each step: the highest to the first voice, the lowest to the last, those between
        from the second voice down.

        What is lost: onsets and ends move by at most half a step (an end to one step after the
        onset, if it would come before); velocities, drums, pedals, programs, tempo, time
        signatures. Of several notes of one voice that begin in one step the longest is kept, or
        the one nearest to the step; a note ends where the next one of its voice begins. Where
        voices are given by pitch, tracks are lost too, of notes of one pitch in several tracks one
        is kept, of more notes at once than voices the lower ones between bass and the others are
        silent for that step, and a note that comes to another voice is struck again. Silence after
        the last note is not written. Encoding what was decoded gives the same ids again.

        Raises:
          ValueError: it is no `Piece`, or one of over 10 million tokens.
        """
        check_piece(piece)
        notes = piece.columns("notes")
        if notes["is_drum"].any():
            notes = {name: column[~notes["is_drum"]] for name, column in notes.items()}
        times = piece.to_beats(np.stack([notes["start"], notes["end"]])) * self.steps_per_beat
        start, end = np.minimum(times, MAX_STEP)  # in steps, not yet rounded
        sung = self._by_track(notes["track"], notes["pitch"], start, end)
        if sung is None:
            start, end = np.rint([start, end]).astype(np.int64)
            pitch, start, end, _ = settle(notes["pitch"], start, end, np.zeros_like(start))
        else:
            voice, pitch, start, end = sung
        self._check_length(piece, start, end)
        step, note = _cells(start, end)
        if sung is None:
            step, note, voice = self._by_pitch(step, note, pitch)
        else:
            voice = voice[note]
        grid = np.full((end.max(initial=0), self.num_voices), -1)  # the note in each cell
        grid[step, voice] = note
        return self._write(grid, pitch)

    def _by_track(self, track, pitch, start, end):
        """Voice, pitch, start, end (whole steps) of notes that are voices already, else None."""
        tracks = np.unique(track)
        if len(tracks) > self.num_voices:
            return None
        is_number = tracks.max(initial=0) < self.num_voices
        voice = track if is_number else np.searchsorted(tracks, track)
        order = np.lexsort((start, voice))
        voice, pitch, start, end = (x[order] for x in (voice, pitch, start, end))
        is_after = (start[1:] > start[:-1]) & (start[1:] > end[:-1] - 0.5)
        if (~is_after & (np.diff(voice) == 0)).any():
            return None
        step = np.rint(start).astype(np.int64)
        last = np.maximum(np.rint(end).astype(np.int64), step + 1)
        # Of those that fall into one step the longest comes first, then the nearest.
        length = np.round(end - start, 6)  # what differs by less is a rounding error
        order = np.lexsort((np.abs(start - step), -length, step, voice))
        order = order[_is_new(voice[order], step[order])]
        voice, pitch, step, last = (x[order] for x in (voice, pitch, step, last))
        return voice, pitch, step, np.minimum(last, next_of_its_key(voice, step, MAX_STEP))

    def _by_pitch(self, step, note, pitch):
        """Cells of a step are given to voices: the highest first, the lowest last."""
        order = np.lexsort((-pitch[note], step))
        step, note = step[order], note[order]
        is_new = _is_new(step)
        first = np.flatnonzero(is_new)[np.cumsum(is_new) - 1]  # of the cells of the same step
        from_top = np.arange(len(step)) - first
        num = np.bincount(step)[step] if len(step) else step
        is_lowest = (from_top == num - 1) & (from_top > 0)
        last = self.num_voices - 1
        voice = np.where(is_lowest, last, from_top)
        has_voice = (is_lowest & (last > 0)) | (from_top < max(last, 1))
        return step[has_voice], note[has_voice], voice[has_voice]

    def _check_length(self, piece, start, end):
        """The cells of the grid, and of all notes laid out on it, are not too many."""
        num = max(end.max(initial=0) * self.num_voices, (end - start).sum())
        check_length(num, piece)

    def _write(self, grid, pitch):
        """The note in each cell, (frames, voices), -1 where none is -> ids."""
        before = np.concatenate([np.full_like(grid[:1], -1), grid[:-1]])
        notes = self.table.ids("NOTE", np.append(pitch, 0)[grid])
        ids = np.where(grid == before, self.hold_id, notes)
        ids = np.where(grid < 0, self.rest_id, ids).ravel()
        return np.concatenate([[self.start_id], ids, [self.end_id]]).astype(np.int32)

    def decode(self, ids) -> Piece:
        """Ids, shape (time,) -> a `Piece`; any ids of the vocabulary give one.

        `HOLD` where nothing sounds is a rest, `PAD` and `START` are passed over, and reading stops
        at `END`. The last frame may be incomplete: its missing voices are silent.
        """
        ids = self.table.check(ids)
        ids = ids[self._places(ids)]
        frame, voice = np.divmod(np.arange(len(ids)), self.num_voices)
        ends = np.flatnonzero(self._ends_note[ids])  # where the note before in a voice ends
        pitch, start, voice = self._pitch_of[ids[ends]], frame[ends], voice[ends]
        end = next_of_its_key(voice, start, self._num_frames(len(ids), voice))
        pitch, start, end, voice = (x[pitch >= 0] for x in (pitch, start, end, voice))
        # A MIDI file holds whole microseconds a quarter note; with these a step is whole ticks.
        microseconds = round(60e6 / self.tempo_bpm)
        seconds = np.stack([start, end]) * microseconds / (1e6 * self.steps_per_beat)
        return Piece(
            {
                "pitch": pitch.astype(np.int64),
                "start": seconds[0],
                "end": seconds[1],
                "program": np.full_like(start, self.program),
                "track": voice,
            },
            tempos={"time": np.zeros(1), "tempo_bpm": np.full(1, 60e6 / microseconds)},
        )

    def frames(self, ids) -> np.ndarray:
        """Ids, shape (time,) -> one row a frame: int32, shape (num_frames, num_voices).

        The cells hold ids (`START`, `PAD` and what follows `END` have none); where the last frame
        is incomplete, 0.

        >>> tokenizer = ChoraleTokenizer(num_voices=2)
        >>> tokenizer.frames([1, 72, 53, 4, 4, 2]).tolist()
        [[72, 53], [4, 4]]
        """
        ids = self.table.check(ids)
        ids = ids[self._places(ids)]
        shape = self._num_frames(len(ids), 0), self.num_voices
        return np.pad(ids, (0, shape[0] * shape[1] - len(ids))).reshape(shape)

    def frame_of(self, ids) -> np.ndarray:
        """The number of the frame in which each id stands, -1 for none; int64, shape (time,).

        With it whatever was counted for each id, such as its surprise, is summed over frames:

        >>> tokenizer = ChoraleTokenizer(num_voices=2)
        >>> frame = tokenizer.frame_of([1, 72, 53, 4, 4, 2])
        >>> frame.tolist()
        [-1, 0, 0, 1, 1, -1]
        >>> np.bincount(frame[1:-1], weights=[0.5, 1.5, 0.25, 0.25]).tolist()
        [2.0, 0.5]
        """
        ids = self.table.check(ids)
        places = self._places(ids)
        frame = np.full(len(ids), -1)
        frame[places] = np.arange(len(places)) // self.num_voices
        return frame

    def in_frame(self, ids) -> np.ndarray:
        """Whether each id is a voice's (`NOTE`, `HOLD`, `REST`): bool, the shape of `ids`."""
        return self._is_voice[np.asarray(ids)]

    def _places(self, ids):
        """Where the ids stand that are a voice's, up to the first `END`."""
        return np.flatnonzero(self._is_voice[ids] & (np.cumsum(ids == self.end_id) == 0))

    def _num_frames(self, num_ids, voice):
        """How many frames a voice has a part in, if so many ids are laid out."""
        return (num_ids - voice + self.num_voices - 1) // self.num_voices

    def notes_in_graph(self, ids):
        """The notes that `decode` gives, as TensorFlow operations: many rows at once, no loop.

        A note stands where its `NOTE` stands.

        Args:
          ids: int32, shape (batch, time): any ids of the vocabulary, such as rows padded with 0.

        Returns:
          A dict of tensors, each of shape (batch, time): `is_note`, bool; `pitch`, `velocity` and
          `track` (0 is the first voice's), int32; `start` and `end`, int64, in steps. The numbers
          are 0 where there is no note.
        """
        import tensorflow as tf

        def table(values):
            return tf.gather(tf.constant(values), ids)  # (batch, time)

        read = tf.cumsum(tf.cast(tf.equal(ids, self.end_id), tf.int32), axis=1) == 0
        is_voice = tf.cast(table(self._is_voice) & read, tf.int64)
        place = tf.cumsum(is_voice, axis=1, exclusive=True)  # among the ids of voices
        frame, voice = place // self.num_voices, place % self.num_voices
        num_frames = self._num_frames(tf.reduce_sum(is_voice, axis=1, keepdims=True), voice)
        ends = table(self._ends_note) & read
        end = next_of_its_key_in_graph(tf.where(ends, voice, -1), frame, num_frames)
        pitch = table(self._pitch_of)
        is_note = ends & (pitch >= 0)
        velocity = tf.fill(tf.shape(pitch), VELOCITY)
        voice = tf.cast(voice, tf.int32)
        notes = {"pitch": pitch, "velocity": velocity, "track": voice, "start": frame, "end": end}
        notes = {name: tf.where(is_note, x, tf.zeros_like(x)) for name, x in notes.items()}
        return notes | {"is_note": is_note}


def _cells(start, end):
    """Notes -> the steps in which they sound: step and number of the note, shape (cells,) each.

    start [0, 2], end [2, 5] -> step [0, 1, 2, 3, 4], note [0, 0, 1, 1, 1]
    """
    length = end - start
    note = np.repeat(np.arange(len(start)), length)
    before = np.cumsum(length) - length
    return np.arange(len(note)) + (start - before)[note], note


def _is_new(*sorted_columns):
    """Whether a row differs from the one before; bool, shape (rows,)."""
    differs = np.any([np.diff(column) != 0 for column in sorted_columns], axis=0)
    return np.append(True, differs)[: len(sorted_columns[0])]


class FrameGrammar(Grammar):
    """Rules for a grid: in each step of time one token for each voice, in a fixed order.

    Args:
      table: the tokenizer's `Vocabulary`.
      num_voices: tokens a frame.
      step_seconds: > 0, how many seconds a frame lasts.
    """

    def __init__(self, table, num_voices, step_seconds):
        super().__init__(table)
        self.num_voices, self.step_seconds = num_voices, step_seconds
        self.num_parts = num_voices
        self.is_end, self.is_hold = self.is_kind("END"), self.is_kind("HOLD")
        self.is_voice = self.is_kind("NOTE", "HOLD", "REST")
        self.sounds, self.is_rest = self.is_kind("NOTE", "HOLD"), self.is_kind("REST")
        self.voices = np.arange(num_voices, dtype=np.int32)

    def largest(self):
        return {"last": self.num_voices - 1, "keys": 1}

    def start(self, batch_size):
        """Before the first id: it is the first voice's turn, and no voice sounds."""
        full = self.ops.full
        return {"last": full([batch_size], 0), "keys": full([batch_size, self.num_voices], 0)}

    def choices(self, state, remaining):
        """As `Grammar.choices`; `last` is the voice whose turn it is, and a voice may rest."""
        voice = state["last"][:, None]
        is_held = self.ops.rows(state["keys"], state["last"])[:, None] > 0
        # A frame is begun only if there is room for all of it; the piece ends between frames.
        has_room = (voice > 0) | (remaining[:, None] >= self.num_voices)
        usual = self.is_voice & (~self.is_hold | is_held) & has_room
        return usual | (self.is_end & (voice == 0)), self.is_rest[None]

    def advance(self, state, ids):
        """The state after these ids; `PAD`, `START` and `END` are no voice's."""
        ops = self.ops
        is_voice = ops.take(self.is_voice, ids)
        is_held = ops.rows(state["keys"], state["last"]) > 0
        sounds = ops.take(self.sounds, ids) & (is_held | ~ops.take(self.is_hold, ids))
        here = (state["last"][:, None] == self.voices) & is_voice[:, None]
        keys = ops.where(here, ops.integer(sounds)[:, None], state["keys"])
        voice = (state["last"] + ops.integer(is_voice)) % self.num_voices
        return {"last": voice, "keys": keys}

    def leads(self, state):
        """None: a voice may always rest."""
        return self.is_end[None] & False, self.ops.real([[0.0]])

    def part(self, state):
        return state["last"]

    def seconds(self, state, ids):
        is_last = self.ops.take(self.is_voice, ids) & (state["last"] == self.num_voices - 1)
        return self.ops.real(is_last) * np.float32(self.step_seconds)
