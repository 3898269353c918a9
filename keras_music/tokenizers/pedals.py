"""The sustain pedal on a grid: how long a note sounds whose key came up while the pedal was down.

On a piano the dampers fall back on the strings when a key comes up, unless the right pedal holds
them off. So a note has two ends: that of the key and that of the sound.

    pedal          |=====|    |====|      down at 3 and 14, up at 9 and 19
    key 60     |=====|    |=|             0 to 6: sounds to 9; 11 to 13: comes up between the two
    key 64           |=====|              6 to 12: held beyond the pedal, so it ends with its key

Conventions: steps are whole numbers, int64; a span is down from its `start` up to, not including,
its `end`: a key that comes up in the step in which the pedal goes down is held, one that comes up
together with the pedal is not. A span without length is none.

What this file does not do: half pedal, or the strings that sound along.
"""

from __future__ import annotations

import numpy as np


def merge(key, start, end):
    """Spans of several keys -> the same without overlaps; sorted by key, then start.

    Overlapping spans of one key become one; touching ones stay two (the pedal was lifted).

    Args:
      key, start, end: whole numbers, shape (spans,) each; 0 <= key, 0 <= start.

    >>> key, start, end = merge([1, 1, 1, 2], [0, 3, 9, 5], [5, 9, 12, 5])
    >>> key.tolist(), start.tolist(), end.tolist()
    ([1, 1], [0, 9], [9, 12])
    """
    key, start, end = (np.asarray(x, np.int64) for x in (key, start, end))
    order = np.lexsort((start, key))
    order = order[(end > start)[order]]
    key, start, end = key[order], start[order], end[order]
    if not len(key):
        return key, start, end
    apart = key * (end.max() + 1)  # keys are kept apart by a large offset
    until = np.maximum.accumulate(end + apart)
    first = np.flatnonzero(np.append(True, (start + apart)[1:] >= until[:-1]))
    last = np.append(first[1:], len(key)) - 1
    return key[first], start[first], (until - apart)[last]


def of_players(track, player, pedals):
    """The pedals of tracks -> the pedals of who plays on these tracks, as `merge` gives them.

    A track's pedal is everybody's who has a note on it; that of a track without notes is nobody's.

    Args:
      track, player: whole numbers, shape (notes,) each: where a note stands, and who plays it.
      pedals: track, start and end of the spans, shape (spans,) each.

    >>> player, start, end = of_players([0, 0, 1], [7, 8, 7], ([0, 1, 2], [0, 3, 0], [5, 6, 9]))
    >>> player.tolist(), start.tolist(), end.tolist()
    ([7, 8], [0, 0], [6, 5])
    """
    pedal_track, start, end = (np.asarray(x, np.int64) for x in pedals)
    apart = np.max(player, initial=0) + 1  # a pair as one number, which is faster to sort
    pairs = np.unique(np.asarray(track, np.int64) * apart + player)
    track, player = pairs // apart, pairs % apart  # (pairs,), sorted by track
    first = np.searchsorted(track, pedal_track)
    num = np.searchsorted(track, pedal_track, side="right") - first  # players of each span
    pair = np.arange(num.sum()) + np.repeat(first - np.cumsum(num) + num, num)
    return merge(player[pair], np.repeat(start, num), np.repeat(end, num))


def extend(player, end, pedals):
    """The ends of notes as they are heard: those under their player's pedal move to its end.

    Args:
      player, end: whole numbers, shape (notes,) each.
      pedals: player, start and end of the spans, as `merge` returns them.

    Returns:
      The ends, int64, shape (notes,).

    >>> extend([0, 0, 1], [6, 13, 6], merge([0, 0], [3, 14], [9, 19])).tolist()
    [9, 13, 6]
    """
    player, end = np.asarray(player, np.int64), np.asarray(end, np.int64)
    pedal_player, down, up = pedals
    if not len(down):
        return end
    apart = max(end.max(initial=0), up.max()) + 1
    place = np.searchsorted(pedal_player * apart + down, player * apart + end, side="right") - 1
    is_held = (place >= 0) & (pedal_player[place] == player)
    return np.where(is_held, np.maximum(end, up[place]), end)
