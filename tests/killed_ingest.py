"""Kills `ingest` with SIGKILL, ten times and at random moments, and starts it again.

    python killed_ingest.py midis folder num_kills

The first run, into `folder/whole`, is not disturbed; its time is the range of the moments. A run
that was killed goes on in the same folder; if one ended before its kill, the next begins a new
folder, `folder/0`, `folder/1`, ... The last one is left to its end. Prints how many parts each kill
left behind. Each run is a fork of this process, which has imported all that it needs.
"""

import os
import pathlib
import random
import signal
import sys
import time

from keras_music.ingestion import ingest
from keras_music.tokenizers import NoteTokenizer


def start(midis, out):
    """Runs `ingest` in a process of its own and returns its number."""
    process = os.fork()
    if process == 0:
        ingest(midis, NoteTokenizer(), out, files_per_shard=4, num_workers=1)
        os._exit(0)
    return process


def end(process):
    """Waits for a process; True if it ended by itself, and well."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def main(midis, folder, num_kills):
    folder, draw, begin = pathlib.Path(folder), random.Random(0), time.monotonic()
    end(start(midis, folder / "whole"))
    seconds = time.monotonic() - begin
    number, kills = 0, 0
    while kills < int(num_kills):
        process = start(midis, folder / str(number))
        time.sleep(draw.uniform(0, seconds))
        os.kill(process, signal.SIGKILL)
        if end(process):
            number += 1
        else:
            kills += 1
            print(len(list((folder / str(number) / "parts").glob("0*.jsonl"))))
    sys.exit(0 if end(start(midis, folder / str(number))) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
