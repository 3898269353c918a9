"""A score as a sequence of bars, positions and notes: time is counted as musicians count it.

Seconds say nothing of the beat. A network that reads waits in seconds has to find out by itself
that 0.5 s at 120 quarters a minute and 0.6 s at 100 are the same note value, and where a bar
begins. Here a sequence says so: a bar, a place in it, what begins there.

    two bars of 3/4, 12 positions     BAR TIME_SIGNATURE_3/4
    to the quarter; C4 for half a     POSITION_0 TEMPO_100 PITCH_60 VELOCITY_20 DURATION_24
    note, a quarter rest, E4 and G4   BAR POSITION_0 PITCH_64 VELOCITY_20 DURATION_12
    for a quarter                     PITCH_67 VELOCITY_20 DURATION_12

12 positions to the quarter are the fewest that both sixteenths (every 3) and triplets (every 4)
fall on. What falls between, such as a thirty-second, moves by at most a 24th of a quarter. What was
played without a beat wants `PerformanceTokenizer`.

Conventions: times are in quarter-note beats. Beats times `positions_per_beat`, rounded, gives the
place in the piece; bars are counted off from there. Time signature, tempo and program are written
when they change, and hold until then: from the start 4/4, 120 and 0. A signature belongs to the
bar in which it stands. In one position notes stand by program, then from low to high.

What this file does not do: no pedals, no chords by name; one program plays a pitch once at a time.

References: Y.-S. Huang and Y.-H. Yang, "Pop Music Transformer" (2020), REMI; D. von Rütte et al.,
"FIGARO" (2022), REMI+, which adds programs and time signatures. Differences: a tempo is one token
and needs no note beside it; what does not change is not repeated.
"""

from __future__ import annotations

import functools
import re

import numpy as np

from keras_music.arguments import one_of, whole_number
from keras_music.midi import Piece, check_piece
from keras_music.tokenizers.event_grammar import BARS, EventGrammar
from keras_music.tokenizers.note import KINDS, complete_notes, masked, read_ids
from keras_music.tokenizers.quantise import check_length, settle, steps_a_beat, velocity_tables
from keras_music.tokenizers.reading import InNumPy, in_tensorflow
from keras_music.tokenizers.vocabulary import DRUMS, SPECIAL, Tokenizer, Vocabulary

BAR, POSITION, TEMPO, TIME_SIGNATURE, PROGRAM = range(10, 15)
OTHERS = ("BAR", "POSITION", "TEMPO", "TIME_SIGNATURE", "PROGRAM")
REMI_KINDS = KINDS | {name: number for number, name in enumerate(OTHERS, 10)}
# From 40 to 250 by equal ratios, through 120: a step is 6.3%, so a tempo moves by some 3%.
TEMPOS = tuple(round(120 * 3 ** (k / 18)) for k in range(-18, 13))
# The metres of hymnals, dances and songs; 1/4 is how files write a pickup.
TIME_SIGNATURES = ("1/4", "2/4", "3/4", "4/4", "5/4", "6/4", "2/2", "3/2")
TIME_SIGNATURES += ("3/8", "5/8", "6/8", "7/8", "9/8", "12/8")


class RemiTokenizer(Tokenizer):
    """Bars, positions, tempos and time signatures, and pitch, velocity and duration of notes.

    Args:
      positions_per_beat: a divisor of 480, the resolution of time: positions to a quarter note.
      max_duration_beats: 1-128, the longest note, in quarter notes; longer ones are cut. 8 is
        enough for all but 2 of the 84,737 notes of Bach's chorales.
      velocity_bins: 0-127, into how many classes the velocities 1-127 fall. 0: velocity is
        neither kept nor learned, and `decode` gives 80.
      tempos: whole numbers 4-1000, quarter notes a minute; a tempo becomes the nearest by ratio.
        Default: 31 from 40 to 250, each 6.3% faster than the one before. The nearest to 120 holds
        until a tempo is written; if it is the only one, tempo is neither kept nor learned.
      time_signatures: strings such as "6/8", "4/4" among them; any other becomes the one whose
        bar is nearest in length. Default: those of fourteen usual ones whose bar is a whole
        number of positions. If "4/4" is the only one, bars are neither kept nor learned.
      program: 0-127, the General MIDI program that `decode` gives to the notes (0 = piano).
      multi_program: False: all tracks are laid on one keyboard, and drums are left out. True:
        notes keep their programs, of which 128 means drums; `program` is not used.

    Attributes:
      steps_per_beat, tempo_bpm: what a MIDI file must know: positions to a quarter note, and
        quarters a minute before the first `TEMPO`.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> from keras_music.midi import Piece
      >>> tokenizer = RemiTokenizer()
      >>> ids = tokenizer.encode(Piece([{"pitch": 60, "start": 0.75, "end": 1.0}]))
      >>> tokenizer.tokens(ids)
      ['START', 'BAR', 'POSITION_18', 'PITCH_60', 'VELOCITY_20', 'DURATION_6', 'END']
    """

    def __init__(
        self,
        positions_per_beat=12,
        max_duration_beats=8,
        velocity_bins=32,
        tempos=TEMPOS,
        time_signatures=None,
        program=0,
        *,
        multi_program=False,
    ):
        self.positions_per_beat = steps_a_beat("positions_per_beat", positions_per_beat)
        self.steps_per_beat = self.positions_per_beat
        self.max_duration_beats = whole_number("max_duration_beats", max_duration_beats, 1, 128)
        self.velocity_bins = whole_number("velocity_bins", velocity_bins, 0, 127)
        self.program = whole_number("program", program, 0, 127)
        self.multi_program = one_of("multi_program", multi_program, (False, True))
        self._bin_of, self._velocity_of = velocity_tables(self.velocity_bins)
        self._set_tempos(np.ravel(tempos).tolist())
        self._set_time_signatures(time_signatures)
        self._set_table()

    # Tempos and signatures have numbers from 1; at 0 their tables say what holds at the start.

    def _set_tempos(self, tempos):
        self.tempos = tuple(sorted({whole_number("tempos", bpm, 4, 1000) for bpm in tempos}))
        if not self.tempos:
            raise ValueError("`tempos` must have at least one. Received: none. Give [120].")
        table = np.array(self.tempos)
        self._tempo_bounds = np.sqrt(table[1:] * table[:-1])
        self._first_tempo = 1 + int(np.searchsorted(self._tempo_bounds, 120))
        self.tempo_bpm = self.tempos[self._first_tempo - 1]
        self._microseconds = np.rint(60e6 / np.append(self.tempo_bpm, table)).astype(np.int64)

    def _set_time_signatures(self, signatures):
        is_usual = signatures is None
        signatures = TIME_SIGNATURES if is_usual else np.ravel(signatures).tolist()
        parts = dict.fromkeys(map(_parts, signatures))
        fits = [(n, d) for n, d in parts if 4 * self.positions_per_beat * n % d == 0]
        if (4, 4) not in fits or (len(fits) < len(parts) and not is_usual):
            raise ValueError(
                "`time_signatures` must have bars of a whole number of positions, and have '4/4', "
                f"which holds where none is written. Received: {signatures}. Add it, or raise "
                "`positions_per_beat`."
            )
        self.time_signatures = tuple(f"{n}/{d}" for n, d in fits)
        self._number_of = {part: number for number, part in enumerate(fits, start=1)}
        self._numerator, self._denominator = np.array([(4, 4), *fits]).T
        self._bar_length = 4 * self.positions_per_beat * self._numerator // self._denominator

    def _set_table(self):
        tempos = [f"TEMPO_{bpm}" for bpm in self.tempos]
        signatures = [f"TIME_SIGNATURE_{signature}" for signature in self.time_signatures]
        tempos, signatures = (kinds if len(kinds) > 1 else [] for kinds in (tempos, signatures))
        rows = [*SPECIAL, ("BAR", 0, 0), ("POSITION", 0, self._bar_length.max() - 1)]
        rows += [("PITCH", 0, 127)]
        rows += [("VELOCITY", 1, self.velocity_bins)] if self.velocity_bins else []
        rows += [("DURATION", 1, self.positions_per_beat * self.max_duration_beats)]
        rows += [(kind, 0, 0) for kind in (*tempos, *signatures)]
        rows += [("PROGRAM", 0, DRUMS)] if self.multi_program else []
        self.table = Vocabulary(rows)
        self._tempo_ids, self._signature_ids = (
            np.array([0, *(self.table.ids(kind) for kind in kinds)])
            for kinds in (tempos, signatures)
        )
        self._value_of = self.table.value_of.copy()
        for ids in (self._tempo_ids, self._signature_ids):
            self._value_of[ids] = np.arange(len(ids))
        self._kind_of = np.array([REMI_KINDS.get(kind, 0) for kind in self.table.kind_of])

    def settings(self):
        return {
            "positions_per_beat": self.positions_per_beat,
            "max_duration_beats": self.max_duration_beats,
            "velocity_bins": self.velocity_bins,
            "tempos": list(self.tempos),
            "time_signatures": list(self.time_signatures),
            "program": self.program,
            "multi_program": self.multi_program,
        }

    @functools.cached_property
    def grammar(self):
        """Which ids may come next: an `EventGrammar`."""
        signatures = ["", *(f"TIME_SIGNATURE_{name}" for name in self.time_signatures)]
        bars = dict(zip(signatures, self._bar_length.tolist(), strict=True))
        tempos = {"": self.tempo_bpm} | {f"TEMPO_{bpm}": bpm for bpm in self.tempos}
        seconds = {kind: 60 / bpm / self.positions_per_beat for kind, bpm in tempos.items()}
        return EventGrammar(self.table, *BARS, bars=bars, step_seconds=seconds)

    def encode(self, piece: Piece) -> np.ndarray:
        """A `Piece` -> ids from `START` to `END`; int32, shape (time,).

        What is lost, and how much of it, in beats: onsets and ends move by at most half a
        position (an end to one position after the onset, if it would come before); notes longer
        than `max_duration_beats` end there; a tempo becomes the nearest of the table, in the
        nearest position. A time signature that is not in the table becomes the one of the nearest
        bar length, and one that does not stand on a bar line goes to the nearest, by at most half
        a bar; notes keep their beats. Velocities move by at most half a bin. Tracks, pedals and
        what changes after the last note are not written. Notes of one pitch (and program) that
        overlap are settled as `settle` says. Encoding what was decoded gives the same ids again.

        Raises:
          ValueError: it is no `Piece`, or one of over 10 million tokens.
        """
        check_piece(piece)
        notes = self._quantise(piece)
        if not len(notes[0]):
            return np.array([self.start_id, self.end_id], np.int32)
        last = int(notes[2].max())
        return self._write(piece, *notes, *self._metre(piece, last), *self._tempo(piece, last))

    def _quantise(self, piece):
        """Notes in order: program * 128 + pitch, start and end in positions, velocity."""
        notes = piece.columns("notes")
        key, is_drum = notes["pitch"], notes["is_drum"]
        if self.multi_program:
            key = np.where(is_drum, DRUMS, notes["program"]) * 128 + key
        is_heard = ~is_drum | self.multi_program
        start, end = self._places(piece, np.stack([notes["start"], notes["end"]])[:, is_heard])
        check_length(start.max(initial=0) / self._bar_length.max(), piece)
        end = np.minimum(end, start + self.positions_per_beat * self.max_duration_beats)
        settled = settle(key[is_heard], start, end, notes["velocity"][is_heard])
        order = np.argsort(settled[1], kind="stable")
        return tuple(values[order] for values in settled)

    def _places(self, piece, seconds):
        """Seconds -> positions from the beginning, whole numbers, but not yet integers."""
        with np.errstate(over="ignore"):  # infinity is too long, as is said before it is used
            return np.rint(piece.to_beats(seconds) * self.positions_per_beat)

    def _metre(self, piece, last):
        """The bar lines before `last` where signatures begin, and the signatures' numbers."""
        times, *parts = piece.columns("time_signatures").values()
        places = self._places(piece, times)
        places = places[places < last + self._bar_length.max()].astype(np.int64).tolist()
        lines, numbers = [0], [self._number_of[4, 4]]
        for place, *part in zip(places, *(part.tolist() for part in parts), strict=False):
            length = int(self._bar_length[numbers[-1]])
            num_bars = max((2 * (place - lines[-1]) + length) // (2 * length), 0)
            line = lines[-1] + num_bars * length
            if num_bars == 0:  # of several on one bar line the last counts
                numbers[-1] = self._nearest_signature(*part)
            elif line < last:
                lines.append(line)
                numbers.append(self._nearest_signature(*part))
        changes = np.diff(numbers, prepend=0) != 0  # the first always
        return np.array(lines)[changes], np.array(numbers)[changes]

    def _nearest_signature(self, numerator, denominator):
        """The number of the signature itself, or of the one whose bar is nearest in length."""
        if (numerator, denominator) in self._number_of:
            return self._number_of[numerator, denominator]
        length = 4 * self.positions_per_beat * numerator / denominator
        other_unit = self._denominator[1:] != denominator  # of two that are as near
        return 1 + int(np.argmin(np.abs(self._bar_length[1:] - length) + 1e-6 * other_unit))

    def _tempo(self, piece, last):
        """Where the tempo changes before the position `last`, and the tempos' numbers."""
        times, bpm = piece.columns("tempos").values()
        places = self._places(piece, times)
        places = places[places < last].astype(np.int64)
        counts = np.diff(places, append=last) > 0  # of several in one position the last counts
        bpm = bpm[: len(places)][counts]
        places, number = places[counts], 1 + np.searchsorted(self._tempo_bounds, bpm)
        changes = np.diff(number, prepend=self._first_tempo) != 0
        return places[changes], number[changes]

    def _write(self, piece, key, start, end, velocity, lines, signature, tempo_at, tempo):
        """Notes, bar lines and tempos, each in order -> ids. No loop over notes."""
        place = np.unique(np.concatenate([start, tempo_at]))  # each gives a `POSITION`
        length = self._bar_length[signature]
        line_bar = np.append(0, np.cumsum(np.diff(lines) // length[:-1]))
        line = np.searchsorted(lines, place, side="right") - 1
        bar = line_bar[line] + (place - lines[line]) // length[line]
        position = (place - lines[line]) % length[line]
        signed = np.diff(signature, prepend=self._number_of[4, 4]) != 0
        signed_bar, signature = line_bar[signed], signature[signed]
        program, pitch = key // 128, key % 128
        changes = np.diff(program, prepend=0) != 0
        has_velocity = self.velocity_bins > 0
        width = 2 + has_velocity + changes  # tokens of each note
        num_bars = max(int(bar[-1]), int(line_bar[-1])) + 1
        parts = (num_bars, len(signature), len(place), len(tempo), width.sum())
        check_length(num_tokens := 2 + sum(map(int, parts)), piece)
        # `before`: the tokens of all places before each place, and at last of all places.
        has_tempo = np.isin(place, tempo_at)
        of_notes = np.append(0, np.cumsum(width))  # before each note, and of all
        of_notes_before = of_notes[np.searchsorted(start, np.append(place, place[-1] + 1))]
        before = np.append(0, np.cumsum(1 + has_tempo)) + of_notes_before
        bars = np.arange(num_bars)
        bar_at = 1 + bars + np.searchsorted(signed_bar, bars) + before[np.searchsorted(bar, bars)]
        place_at = 2 + bar + np.searchsorted(signed_bar, bar, side="right") + before[:-1]
        # A note comes after its `POSITION`, the tempo there, and the notes there before it.
        here = np.searchsorted(place, start)
        note_at = (place_at + 1 + has_tempo - of_notes_before[:-1])[here] + of_notes[:-1]
        stop = note_at + width
        ids = np.full(num_tokens, self.end_id, np.int32)
        ids[0] = self.start_id
        ids[bar_at] = self.table.ids("BAR")
        ids[bar_at[signed_bar] + 1] = self._signature_ids[signature]
        ids[place_at] = self.table.ids("POSITION", position)
        ids[place_at[has_tempo] + 1] = self._tempo_ids[tempo]
        ids[stop - 1] = self.table.ids("DURATION", end - start)
        if has_velocity:
            ids[stop - 2] = self.table.ids("VELOCITY", self._bin_of[velocity])
        ids[stop - 2 - has_velocity] = self.table.ids("PITCH", pitch)
        if self.multi_program:
            ids[note_at[changes]] = self.table.ids("PROGRAM", program[changes])
        return ids

    def decode(self, ids) -> Piece:
        """Ids, shape (time,) -> a `Piece`; any ids of the vocabulary give one.

        A `DURATION` makes a note of the last pitch, unless that has become one already, at the
        last velocity (80 before the first), in the last position (0 where a bar begins). A note
        ends at the latest where its pitch begins again in its program; of two that begin
        together the last one written stays, as of tempos and signatures. Reading stops at `END`.
        """
        read = self._read(InNumPy, self.table.check(ids))
        tempos, signatures = _events(read, "is_tempo"), _events(read, "is_time_signature")
        notes = _events(read, "is_note")
        tempo_at = np.append(0, tempos["start"])
        tempo = np.append(self._microseconds[0], tempos["tempo"])
        # Positions times microseconds are whole numbers; only the last division rounds.
        elapsed = np.append(0.0, np.cumsum(np.diff(tempo_at) * tempo[:-1].astype(np.float64)))

        def to_seconds(position):
            knot = np.searchsorted(tempo_at, position, side="right") - 1
            exact = elapsed[knot] + (position - tempo_at[knot]) * tempo[knot].astype(np.float64)
            return exact / (1e6 * self.positions_per_beat)

        columns = {name: to_seconds(notes[name]) for name in ("start", "end")}
        columns |= {name: notes[name] for name in ("pitch", "velocity")}
        columns["program"] = np.full(len(notes["start"]), self.program)
        if self.multi_program:
            is_drum = columns["is_drum"] = notes["program"] == DRUMS
            columns["program"] = np.where(is_drum, 0, notes["program"])
            columns["track"] = np.unique(notes["program"], return_inverse=True)[1]
        return Piece(
            columns,
            tempos={"time": to_seconds(tempo_at), "tempo_bpm": 60e6 / tempo},
            time_signatures={name: signatures[name] for name in ("numerator", "denominator")}
            | {"time": to_seconds(signatures["start"])},
        )

    def notes_in_graph(self, ids):
        """What `decode` gives, as TensorFlow operations: many rows at once, no loop.

        A note stands where its `DURATION` stands, all else at its own token:

            ids       START  BAR  POSITION_6  TEMPO_100  PITCH_60  VELOCITY_20  DURATION_24  END
            is_note   -      -    -           -          -         -            yes          -
            pitch     0      0    0           0          0         0            60           0
            start     0      0    0           6          0         0            6            0
            end       0      0    0           0          0         0            30           0
            tempo     0      0    0           600000     0         0            0            0

        Args:
          ids: int32, shape (batch, time): any ids of the vocabulary, such as rows padded with 0.

        Returns:
          A dict of tensors, each of shape (batch, time): `is_note`, `is_tempo` and
          `is_time_signature`, bool; `pitch`, `velocity`, `program` (if `multi_program`; 128 means
          drums), `tempo` in microseconds a quarter, `numerator`, `denominator`, int32; `start`
          and `end`, int64, in positions from the beginning. All are 0 where they say nothing.
        """
        return self._read(in_tensorflow(), ids)

    def _read(self, ops, ids):
        """What `notes_in_graph` returns, with either library."""
        kind, value = read_ids(ops, self._kind_of, self._value_of, ids)
        is_bar, is_signature = kind == BAR, kind == TIME_SIGNATURE
        # A bar begins where the one before it, in the signature that then holds, is over.
        signature = ops.in_force(ops.where(is_signature, value, -1))
        ends_bar = is_bar & (ops.total(is_bar) > 1)
        line = ops.total(ops.where(ends_bar, ops.take(self._bar_length, signature), 0))
        position = ops.where(kind == POSITION, value, ops.where(is_bar, 0, -1))
        start = ops.where(is_signature, line, line + ops.long(ops.in_force(position)))
        is_note, pitch, velocity = complete_notes(ops, kind, value, self._velocity_of)
        program = ops.in_force(ops.where(kind == PROGRAM, value, -1))
        # Tempos and signatures are keys like others: of two in one place one remains.
        key = ops.where(is_note, program * 128 + pitch, -1)
        key = ops.where(kind == TEMPO, 128 * (DRUMS + 1), key)
        key = ops.where(is_signature, 128 * (DRUMS + 1) + 1, key)
        remains, end = ops.separate(key, start, start + ops.long(value))
        is_note, is_signature = remains & is_note, remains & is_signature
        is_tempo = remains & (kind == TEMPO)
        notes = {"pitch": pitch, "velocity": velocity, "end": end}
        notes |= {"program": program} if self.multi_program else {}
        parts = {"numerator": self._numerator, "denominator": self._denominator}
        parts = {name: ops.take(part, signature) for name, part in parts.items()}
        tempo = ops.take(self._microseconds, ops.where(is_tempo, value, 0))
        read = {"is_note": is_note, "is_tempo": is_tempo, "is_time_signature": is_signature}
        read |= masked(ops, remains, {"start": start}) | masked(ops, is_note, notes)
        return read | masked(ops, is_tempo, {"tempo": tempo}) | masked(ops, is_signature, parts)


def _parts(signature):
    """From "6/8" to (6, 8), or one sentence on why not."""
    if not re.fullmatch(r"[1-9]\d{0,2}/(1|2|4|8|16|32|64|128)", str(signature)):
        raise ValueError(
            f"`time_signatures` must be strings such as '6/8' or '3/4'. Received: {signature!r}."
        )
    numerator, denominator = map(int, signature.split("/"))
    return whole_number("time_signatures", numerator, 1, 255), denominator


def _events(read, name):
    """All that was read, at the places where `name` says so, in order of time."""
    places = np.flatnonzero(read[name])
    places = places[np.argsort(read["start"][places], kind="stable")]
    return {column: values[places] for column, values in read.items()}
