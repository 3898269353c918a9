"""Notes on a grid: what every tokenizer of music does first.

A token sequence cannot say everything that a table of notes can. It counts time in whole *steps*,
and a key of a keyboard is either down or up: it cannot be pressed twice at once. So two notes of
one key that overlap (two voices in unison, a pedal) are settled in one way for all tokenizers:

    key 60   |=========|           pressed at 0 and at 4, ends at 10 and at 6
                 |==|
    settled  |===|=====|           both onsets are kept; the key sounds to the last of the ends

Conventions: steps are whole numbers, int64; a note lasts at least one step; a *key* is whatever
can sound once at a time: a pitch, or a pitch of one instrument.

What this file does not do: it does not say how long a step is.
"""

from __future__ import annotations

import numpy as np

from keras_music.arguments import whole_number

TICKS_PER_QUARTER = 480  # of the files that we write: a grid of beats must lie on their ticks
MAX_TOKENS = 10_000_000  # a file of a few bytes can claim to last for years


def settle(key, start, end, velocity):
    """Notes in steps -> the same so that no two of one key overlap; sorted by key, then start.

    Presses of one key in one step become one, at the highest velocity; every other onset is kept;
    a note ends where its key is pressed again, or at the last of the ends so far.

    Args:
      key, start, end, velocity: whole numbers, shape (notes,) each; 0 <= start; an `end` that is
        not after its `start` counts as one step after it.

    Returns:
      The four arrays again, int64, perhaps fewer notes.

    >>> key, start, end, velocity = settle([60, 60], [0, 4], [10, 6], [70, 90])
    >>> start.tolist(), end.tolist()
    ([0, 4], [4, 10])
    """
    key, start, end, velocity = (np.asarray(x, np.int64) for x in (key, start, end, velocity))
    if not len(key):
        return key, start, end, velocity
    order = np.argsort(key * (start.max() + 1) + start)
    key, start, velocity = key[order], start[order], velocity[order]
    end = np.maximum(end[order], start + 1)
    # The latest end so far at each key: keys are kept apart by a large offset.
    apart = key * (end.max() + 1)
    sounds_until = np.maximum.accumulate(end + apart) - apart
    first = np.flatnonzero(np.append(True, (np.diff(key) != 0) | (np.diff(start) != 0)))
    last = np.append(first[1:], len(key)) - 1
    velocity = np.maximum.reduceat(velocity, first)
    key, start, sounds_until = key[first], start[first], sounds_until[last]
    # A key comes up before it is pressed again.
    again = np.append(np.where(np.diff(key) == 0, start[1:], sounds_until.max()), 2**62)
    return key, start, np.minimum(sounds_until, again), velocity


def last_valid(values):
    """Each value, or the last one before it that is not negative (0 if there is none).

    >>> last_valid(np.array([-1, 3, -1, 5, -1])).tolist()
    [0, 3, 3, 5, 5]
    """
    index = np.maximum.accumulate(np.where(values >= 0, np.arange(len(values)), -1))
    return np.where(index >= 0, values[index], 0)


def velocity_tables(bins):
    """For each velocity 0-127 its bin, and for each bin from 0 the velocity at its middle.

    Velocity v is in bin (v - 1) * bins // 127 + 1. Bin 0 means that none was given: 80.

    >>> bin_of, velocity_of = velocity_tables(32)
    >>> int(bin_of[80]), int(velocity_of[20])
    (20, 78)
    """
    velocities = np.arange(1, 128)
    bin_of = (velocities - 1) * bins // 127 + 1 if bins else 0 * velocities
    middles = [int(np.median(velocities[bin_of == b])) for b in range(1, bins + 1)]
    return np.append(0, bin_of), np.array([80, *middles], np.int32)


def steps_a_beat(name, value):
    """How many steps a quarter note has: a divisor of 480, or one sentence on why not."""
    steps = whole_number(name, value, 1, TICKS_PER_QUARTER)
    if TICKS_PER_QUARTER % steps:
        raise ValueError(
            f"`{name}` must divide {TICKS_PER_QUARTER}, the ticks of a quarter note. Received: "
            f"{name}={value}. Take 4 for sixteenths, 12 for these and triplets."
        )
    return steps


def check_length(num_tokens, piece):
    """Raises a ValueError if these are too many tokens: before they take memory."""
    if num_tokens > MAX_TOKENS:
        raise ValueError(
            f"`piece` must give at most {MAX_TOKENS} tokens. Received: {num_tokens:.0f}, for "
            f"{piece.duration:g} s. Crop the piece."
        )
