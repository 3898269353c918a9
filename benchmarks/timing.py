"""Seconds of several sides that take turns: what disturbs the machine disturbs all of them."""

import statistics
import time


def in_turn(sides, rounds):
    """Median seconds of each side; the sides take turns, the first turn is not counted."""
    seconds = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}
