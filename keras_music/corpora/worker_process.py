"""Inside a worker process: where it begins, what it does until its parent is gone.

It asks for a *frame*, eight bytes that say how long a message is and the message, finds a batch of
items in it, and answers each item with a frame of its own, so that the parent knows at any moment
which item is in hand. Before each item it winds up two clocks that end this process. Neither can
use Python, for it may be Python's lock that is stuck.

- One counts how long the processor has worked on the item. When it runs out, the system ends the
  process with the signal SIGPROF: the item is to blame, nobody else.
- One is the clock on the wall, for an item that only waits. It goes on while the machine is busy
  with something else, or stopped with Ctrl-Z. All that `faulthandler` can do is to write a text and
  leave; the text goes down the pipe, and its first eight bytes, "Timeout ", read as the length of a
  frame would be a message of six million terabytes.

Conventions: `workers` describes the whole; times are in seconds.

What this file does not do: it chooses no items and starts no process.

References: faulthandler, https://docs.python.org/3/library/faulthandler.html; setitimer(2),
setrlimit(2). Windows has the clock on the wall only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import faulthandler
import importlib
import os
import pickle
import signal
import struct
import threading
import time

FRAME = struct.Struct(">Q")
LONGEST_FRAME = 2**48  # bytes; more can only be the watchdog's text, taken for a length
BUSY_SHARE = 0.9  # of the time on the wall: of an item that computes, this clock runs out first
WORKER_BYTES = 2**32  # of memory that a worker may ask for, where the system can limit it


@dataclasses.dataclass(frozen=True)
class Lost:
    """Stands in the place of a result that there is not, and says why in words.

    >>> Lost("it took longer than 2 seconds").reason
    'it took longer than 2 seconds'
    """

    reason: str


def serve():
    """What a worker process does until its parent closes the pipe or is gone."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    with contextlib.suppress(BrokenPipeError):  # the parent is gone
        try:
            name, context, seconds = pickle.loads(read_frame(inbox))
            module, attribute = name.split(":")
            function = getattr(importlib.import_module(module), attribute)
        except BaseException as error:
            write_frame(outbox, sentence(error).encode())
            return
        _limit_resources()
        if hasattr(signal, "SIGPROF"):
            signal.signal(signal.SIGPROF, signal.SIG_DFL)
        threading.Thread(target=_follow_parent, args=(os.getppid(),), daemon=True).start()
        os.dup2(nowhere, 2)
        write_frame(outbox, b"")
        arguments = () if context is None else (context,)
        while batch := read_frame(inbox):
            for payload in pickle.loads(batch):
                write_frame(outbox, _answer(function, arguments, payload, seconds, outbox))


def _answer(function, arguments, payload, seconds, outbox):
    """The pickled result for a pickled item, or a pickled `Lost`; or the end of this process."""
    faulthandler.dump_traceback_later(seconds, exit=True, file=outbox)
    _wind_up(BUSY_SHARE * seconds)
    try:
        result = function(*arguments, pickle.loads(payload))
        return pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # SystemExit and MemoryError, too, cost one item
        return pickle.dumps(Lost(sentence(error)))
    finally:
        _wind_up(0)
        faulthandler.cancel_dump_traceback_later()


def _wind_up(seconds):
    """Sets the clock of the processor's work; 0 stops it."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _follow_parent(parent):
    """Ends this process when the parent is gone, also in the middle of an item.

    Windows gives the old number for ever; there the end comes with the item's.
    """
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _limit_resources():
    """Too much memory becomes a MemoryError here, instead of the end of some other process."""
    try:
        import resource
    except ImportError:  # Windows
        return
    for limit, most in ((resource.RLIMIT_AS, WORKER_BYTES), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            _, hard = resource.getrlimit(limit)
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(limit, (most, hard))


def sentence(error) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:500]
    except Exception:  # an exception that cannot even say what it is
        return type(error).__name__


def write_frame(file, message):
    file.write(FRAME.pack(len(message)))
    file.write(message)
    file.flush()


def read_frame(file):
    """The next message; None at the end of the pipe. OverflowError: what came is no frame."""
    head = file.read(FRAME.size)
    if len(head) < FRAME.size:
        return None
    (length,) = FRAME.unpack(head)
    if length > LONGEST_FRAME:
        raise OverflowError
    message = file.read(length)
    return message if len(message) == length else None
