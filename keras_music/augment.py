"""Every piece in another key and at another speed, anew each epoch: more music from one corpus.

A chorale in G is as good a chorale in A. A network does not know that: to it `NOTE_ON_67` and
`NOTE_ON_69` are two numbers that have nothing to do with each other, and it must see the same turn
in every key to play it in every key. So before each epoch every piece is moved by a few semitones,
and played a little faster or slower, louder or softer. The corpus stays small, but no two epochs
are alike, and learning by heart no longer pays.

This is done on ids. The values of one row of the vocabulary are neighbours, so that s more on the
id is s more on the value:

    ids    START VELOCITY_20 NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60 END
    + 2    START VELOCITY_20 NOTE_ON_62 TIME_SHIFT_50 NOTE_OFF_62 END

Time is harder. A wait times 1.04, rounded, is off by up to half a step, and a thousand waits are
off by a thousand times that. So waits are added up first, and only whole times are rounded:

    waits              10    10    10
    steps              10    20    30
    times 1.04         10.4  20.8  31.2
    rounded            10    21    31
    waits              10    11    10

Conventions: what is drawn holds for one whole piece and one epoch, and pitches and velocities are
never cut off at the end of their range: the draw is limited to what the piece has room for. So the
ids of a transposed piece are those that `encode` writes of it, and what was encoded once is never
changed into something that `encode` would not write. Drums (`PROGRAM_128`) have no key and are not
transposed. Beats are not stretched: a tokenizer that counts beats has no waits.

What this file does not do: it knows rows of a vocabulary, never notes. Rows `NOTE_ON`, `NOTE_OFF`,
`PITCH` and `NOTE` hold pitches, `VELOCITY` velocities, `PROGRAM` the program of what follows,
`TIME_SHIFT` and `STEP` waits in steps, `DURATION` lengths in steps.

Reference: Magenta's Performance RNN, whose corpus is written in several keys and at five speeds,
0.95 to 1.05. Differences: drawn anew each epoch, so that the corpus does not grow; times are
stretched after they were quantised, within the bound that `stretched` states.
"""

from __future__ import annotations

import dataclasses
import numbers

import numpy as np
import tensorflow as tf

from keras_music.arguments import whole_number

PITCHES = ("NOTE_ON", "NOTE_OFF", "PITCH", "NOTE")
WAITS = ("TIME_SHIFT", "STEP")
DRUMS = 128  # the value of PROGRAM that stands for drums


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may be changed in a piece, and by how much: an `augment` for `make_dataset`.

    Args:
      semitones: 0-127, the most by which a piece is transposed, up or down. All whole numbers
        between are equally likely.
      stretch: 0 <= stretch <= 0.5. All times of a piece are multiplied by a factor between
        1 - stretch and 1 + stretch, all equally likely. Only for tokenizers that count seconds.
      velocity_bins: 0-127, the most by which a piece gets louder or softer, in the tokenizer's
        own classes of velocity.
      pitch_range: the lowest and the highest pitch, 0-127, to which a piece may be transposed.
        (21, 108) are the keys of a piano. A piece that is outside is not moved further out.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> from keras_music.midi import Piece
      >>> from keras_music.tokenizers import PerformanceTokenizer
      >>> tokenizer = PerformanceTokenizer(velocity_bins=0)
      >>> ids = tokenizer.encode(Piece([{"pitch": 60, "start": 0.0, "end": 0.5}]))
      >>> tokenizer.tokens(Augmentation(semitones=5)(tokenizer, ids, seed=3))
      ['START', 'NOTE_ON_62', 'TIME_SHIFT_50', 'NOTE_OFF_62', 'END']
    """

    semitones: int = 0
    stretch: float = 0.0
    velocity_bins: int = 0
    pitch_range: tuple[int, int] = (0, 127)

    def __post_init__(self):
        whole_number("semitones", self.semitones, 0, 127)
        whole_number("velocity_bins", self.velocity_bins, 0, 127)
        if not isinstance(self.stretch, numbers.Real) or not 0 <= self.stretch <= 0.5:
            raise ValueError(
                f"`stretch` must be from 0 to 0.5. Received: stretch={self.stretch!r}."
            )
        try:
            low, high = self.pitch_range
        except (TypeError, ValueError):
            raise ValueError(
                "`pitch_range` must be two pitches, such as (21, 108). "
                f"Received: pitch_range={self.pitch_range!r}."
            ) from None
        whole_number("pitch_range[1]", high, whole_number("pitch_range[0]", low, 0, 127), 127)

    def __call__(self, tokenizer, ids, seed):
        """The ids of one whole piece, changed by what `seed` draws, in TensorFlow operations.

        Args:
          tokenizer: a tokenizer with a `table` of rows that are named as above.
          ids: int32, shape (time,), as `tokenizer.encode` gives them.
          seed: whole number, shape (); equal seeds draw the same.

        Returns:
          int32, shape (time,); with `stretch` perhaps a few more or fewer.

        Raises:
          ValueError: the tokenizer has no rows for what shall be changed.
        """
        table = getattr(tokenizer, "table", None)  # without one the checks below say so
        ids = tf.convert_to_tensor(ids, tf.int32)
        if self.semitones:
            self._check_kinds("semitones", tokenizer, PITCHES)
            pitched = tf.gather(table.is_kind(*PITCHES), ids) & ~is_drum(table, ids)
            ids = shifted(table, ids, pitched, self.semitones, [seed, 0], self.pitch_range)
        if self.velocity_bins:
            self._check_kinds("velocity_bins", tokenizer, ["VELOCITY"])
            is_velocity = tf.gather(table.is_kind("VELOCITY"), ids)
            ids = shifted(table, ids, is_velocity, self.velocity_bins, [seed, 1])
        if self.stretch:
            self._check_kinds("stretch", tokenizer, WAITS)
            low, high = 1 - self.stretch, 1 + self.stretch
            ids = stretched(table, ids, tf.random.stateless_uniform([], [seed, 2], low, high))
        return ids

    def _check_kinds(self, argument, tokenizer, kinds):
        table = getattr(tokenizer, "table", None)
        if table is None or not table.is_kind(*kinds).any():
            raise ValueError(
                f"`{argument}` needs a vocabulary with tokens {' or '.join(kinds)}. "
                f"Received: {argument}={getattr(self, argument)} with "
                f"{type(tokenizer).__name__}, which has none. Leave `{argument}` at 0."
            )


def shifted(table, ids, moves, most, seed, limits=None):
    """Adds one number, from -most to most, to all ids that move; int32, shape (time,).

    It is drawn from those with which every value stays in its row, and, if `limits` are given,
    between them; 0 is always one of them.

    Args:
      table: the `Vocabulary` of the ids.
      ids: int32, shape (time,).
      moves: bool, shape (time,).
      most: >= 0.
      seed: two whole numbers.
      limits: the lowest and the highest value.
    """
    row_low, row_high = np.array([row[1:] for row in table.rows])[table.row_of].T
    low, high = limits or (row_low, row_high)
    below = np.clip(table.value_of - np.maximum(row_low, low), 0, most)  # for each id
    above = np.clip(np.minimum(row_high, high) - table.value_of, 0, most)
    down, up = (
        tf.reduce_min(tf.where(moves, tf.gather(tf.constant(room, tf.int32), ids), most))
        for room in (below, above)
    )
    by = tf.random.stateless_uniform([], seed, -down, up + 1, tf.int32)
    return tf.where(moves, ids + by, ids)


def is_drum(table, ids):
    """Where the program in force is that of the drums; bool, shape (time,)."""
    is_program = tf.gather(table.is_kind("PROGRAM"), ids)
    programs = tf.gather(tf.constant(table.value_of, tf.int32), ids[is_program])
    so_far = tf.cumsum(tf.cast(is_program, tf.int32))  # how many programs were named before
    return tf.gather(tf.concat([[0], programs], axis=0), so_far) == DRUMS


def stretched(table, ids, factor):
    """Multiplies all times of a piece by a factor; int32, another number of ids.

    Every moment at which something happens comes to the nearest whole step of its new time, so
    within half a step, and nothing adds up. But moments stay apart and in order: where after
    shrinking there are more moments than steps, each comes one step after the one before, and the
    last of k of them is up to (1 - factor) * k steps late. A duration that no longer fits its row
    is cut to the longest.

    Args:
      table: the `Vocabulary` of the ids.
      ids: int32, shape (time,).
      factor: float, shape (), > 0.

    >>> from keras_music.tokenizers import PerformanceTokenizer
    >>> table = PerformanceTokenizer(velocity_bins=0).table
    >>> ids = [1, 63, *table.ids("TIME_SHIFT", [10, 100]), 191, 2]
    >>> [table.tokens[i] for i in stretched(table, tf.constant(ids), 1.04)]
    ['START', 'NOTE_ON_60', 'TIME_SHIFT_100', 'TIME_SHIFT_14', 'NOTE_OFF_60', 'END']
    """
    is_wait = tf.gather(table.is_kind(*WAITS), ids)
    value = tf.gather(tf.constant(table.value_of, tf.int64), ids)
    step = tf.cumsum(tf.where(is_wait, value, 0))
    after_wait = tf.concat([[False], is_wait[:-1]], axis=0)
    # From here on without waits: (events,). In the middle of a long wait nothing happens.
    ids, step, value, after_wait = (x[~is_wait] for x in (ids, step, value, after_wait))
    is_length = tf.gather(table.is_kind("DURATION"), ids)
    end = step + tf.where(is_length, value, 0)
    moments = tf.sort(tf.concat([[0], step, end], axis=0))
    moments = moments[tf.concat([[True], moments[1:] > moments[:-1]], axis=0)]
    exact = tf.cast(moments, tf.float64) * tf.cast(factor, tf.float64)
    rank = tf.range(tf.size(moments, tf.int64))
    # The new time of each moment; one that would fall on the one before comes a step after it.
    moved = cumulative_max(tf.cast(tf.floor(exact + 0.5), tf.int64) - rank) + rank
    step, end = (tf.gather(moved, tf.searchsorted(moments, x)) for x in (step, end))

    if table.is_kind("DURATION").any():
        low, high = next(row[1:] for row in table.rows if row[0] == "DURATION")
        first = int(table.ids("DURATION", low))
        length = tf.cast(tf.clip_by_value(end - step, low, high), tf.int32) - low + first
        ids = tf.where(is_length, length, ids)
    return _with_waits(table, ids, step, after_wait)


def _with_waits(table, ids, step, after_wait):
    """Events and their steps -> the events with waits before them, full ones first.

    An event that had a wait before it has one again: a wait of 0 is written where it was written.
    """
    kind, _, longest = next(row for row in table.rows if row[0] in WAITS)
    wait = tf.concat([step[:1], step[1:] - step[:-1]], axis=0)
    num_waits = tf.where(after_wait, tf.maximum((wait + longest - 1) // longest, 1), 0)
    event = tf.repeat(tf.range(tf.size(ids)), num_waits + 1)  # to which event each place belongs
    first = tf.cumsum(num_waits + 1, exclusive=True)
    place = tf.range(tf.size(event, tf.int64)) - tf.gather(first, event)
    num_waits = tf.gather(num_waits, event)
    rest = tf.gather(wait, event) - (num_waits - 1) * longest
    value = tf.where(place == num_waits - 1, rest, longest)
    wait_id = tf.cast(value, tf.int32) - longest + int(table.ids(kind, longest))
    return tf.where(place == num_waits, tf.gather(ids, event), wait_id)


def cumulative_max(values):
    """The largest value so far, in log2(time) operations; shape (time,).

    >>> cumulative_max(tf.constant([1, 3, 2, 5, 4])).numpy().tolist()
    [1, 3, 3, 5, 5]
    """

    def twice_as_far(reach, values):
        before = tf.concat([values[:reach], values[:-reach]], axis=0)
        return reach * 2, tf.maximum(values, before)

    shapes = (tf.TensorShape([]), tf.TensorShape([None]))
    return tf.while_loop(
        lambda reach, _: reach < tf.size(values), twice_as_far, (1, values), shape_invariants=shapes
    )[1]
