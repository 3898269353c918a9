"""Kills `train` with SIGKILL, some times and at random moments, and starts it again.

    python killed_training.py folder num_kills

The run in `folder/killed` is asked for more epochs than it will ever come to; the moments are drawn
from the time that 20 epochs take. Afterwards it is left in peace for three epochs, and the run in
`folder/whole` trains as many without a break. Prints how many epochs each kill left behind. Each
run is a fork of this process, which has imported all that it needs and used nothing of it.
"""

import os
import pathlib
import random
import signal
import sys
import time

from small_runs import small_train

MANY = 100_000


def start(out, epochs):
    """Trains in a process of its own and returns its number."""
    process = os.fork()
    if process == 0:
        small_train(out, epochs=epochs, sample_tokens=4)
        os._exit(0)
    return process


def end(process):
    """Waits for a process; True if it ended by itself, and well."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def epochs_of(run):
    return max((int(p.stem[6:]) for p in (run / "checkpoints").glob("epoch_*.npz")), default=0)


def main(folder, num_kills):
    folder, draw, begin = pathlib.Path(folder), random.Random(0), time.monotonic()
    is_good = end(start(folder / "short", 20))
    seconds = time.monotonic() - begin
    for _ in range(int(num_kills)):
        process = start(folder / "killed", MANY)
        time.sleep(draw.uniform(seconds / 4, seconds))
        os.kill(process, signal.SIGKILL)
        is_good &= not end(process)
        print(epochs_of(folder / "killed"))
    epochs = epochs_of(folder / "killed") + 3
    for name in ("killed", "whole"):
        is_good &= end(start(folder / name, epochs))
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
