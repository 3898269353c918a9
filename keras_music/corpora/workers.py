"""Worker processes that may die: one function over many items, the results in their order.

Whoever reads ten thousand files of strangers meets one that kills the reader. An exception can be
caught; a jump to a wrong address in a library's C code, or a loop in it that never ends, cannot: it
takes the whole process with it. So the work is done in other processes, and what dies there costs
one item and no more:

- *A wall.* Each worker is an operating-system process of its own. If it dies, the item that it
  was on is `Lost`, and a new worker goes on with the next one.
- *A clock.* Two of them inside the worker end it when an item takes too long, by the processor's
  work or by the clock on the wall. Neither needs Python to run, so they also end C code that never
  lets go of Python's lock. Behind them stands a longer deadline in the parent.
- *A second try.* A worker can also be killed from outside, or by the harm that an earlier item did
  to its memory, and the clock on the wall goes on while Ctrl-Z or a busy machine holds everything
  up. So an item is `Lost` only when a second worker dies over it, too; but at once if the processor
  has worked on it all the time.
- *A window.* Items are taken from their iterator only when there is room, a few for each worker and
  a bounded number of bytes, so that a million items need no more memory than a thousand.

Conventions: times are in seconds. The parent and a worker talk through a pair of pipes in *frames*:
eight bytes that say how long the message is, then the message. Messages are pickled, which is safe
here and only here: both ends are our own. File descriptors 1 and 2 of a worker lead nowhere,
because C libraries write there what nobody asked for.

What this file does not do: it knows nothing of music. It is no prison: the function may do to files
and network whatever its user may. And it does not use `multiprocessing`, which runs the user's
script anew in every worker, and so for ever in a script without `if __name__ == "__main__"`.

References: faulthandler, https://docs.python.org/3/library/faulthandler.html; C. Evans, J. Tinnes,
on why browsers do the same: https://www.chromium.org/developers/design-documents/sandbox/
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import math
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time

from keras_music.arguments import whole_number
from keras_music.corpora.worker_process import Lost, read_frame, sentence, write_frame

BATCH_ITEMS = 16  # sent at once at most, so that small items do not wait for a round trip each
BATCH_BYTES = 2**20  # a batch is closed once it has so many
ITEMS_AHEAD = 64  # taken from the iterator for each worker before the oldest result is there
BYTES_AHEAD = 2**28  # of items and results together
START_SECONDS = 120.0  # for a worker's imports, on a slow disk
STARTS = 3  # how often a worker may die while it starts before that is an error
TRIES = 2  # so many workers may die over an item, in whatever way

# -P: the current folder does not come before the standard library. Ctrl-C goes to all processes of
# a terminal; the parent deals with it.
START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); sys.path[:] = sys.argv[1:];"
    "from keras_music.corpora.worker_process import serve; serve()"
)


@dataclasses.dataclass(slots=True, eq=False)
class _Task:
    """One item on its way."""

    payload: bytes  # the item, pickled
    result: bytes | None = None  # pickled
    deaths: int = 0  # of workers that had it in hand


class Workers:
    """Worker processes for one function, to be used in a `with` statement.

    Args:
      function: "module:name" of a function at the top of a module; it is called as
        `function(item)`, or `function(context, item)` if there is a context. Its module is
        imported in the workers and not here.
      num_workers: number of processes >= 1; default: `num_cores()`. They are started when there
        is work for them.
      seconds_per_item: how long one item may take, > 0, default 2.0; twice, if it was waiting.
      context: what `function` gets as its first argument; it can be pickled and is sent to each
        worker once.

    Raises:
      ValueError: an argument is out of range.

    Example:
      >>> with Workers("math:sqrt", num_workers=1) as workers:
      ...     list(workers.map([4.0, -1.0, 9.0]))[::2]
      [2.0, 3.0]
    """

    def __init__(self, function, num_workers=None, seconds_per_item=2.0, context=None):
        if not isinstance(function, str) or len(function.split(":")) != 2:
            raise ValueError(
                '`function` must be "module:name" of a function at the top of a module. '
                f"Received: {function!r}. Workers import it by this name."
            )
        if not 0 < seconds_per_item < math.inf:
            raise ValueError(
                "`seconds_per_item` must be > 0 seconds and finite. "
                f"Received: seconds_per_item={seconds_per_item}. Try 2.0."
            )
        num_workers = num_cores() if num_workers is None else num_workers
        self.num_workers = whole_number("num_workers", num_workers, 1)
        self.seconds_per_item = float(seconds_per_item)
        self._greeting = pickle.dumps((function, context, self.seconds_per_item))
        self._batches = queue.SimpleQueue()  # of deques of tasks; None: go home
        self._threads = []  # one beside each worker
        self._changed = threading.Condition()  # guards all that follows
        self._workers = set()
        self._held_bytes = 0
        self._wanted = None  # the task whose result the caller waits for
        self._error = None
        self._closed = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Ends all workers at once; what they were doing is lost."""
        with self._changed:
            self._closed = True
            for worker in self._workers:
                worker.kill()
            self._changed.notify_all()
        for _ in self._threads:
            self._batches.put(None)
        for thread in self._threads:
            thread.join()

    def map(self, items):
        """Yields the function's result for each item, in their order; `Lost` where there is none.

        Items and results must be things that can be pickled. If the caller stops early, leaving
        the `with` statement ends the work.

        Raises:
          RuntimeError: workers cannot be started, or the function cannot be imported.
        """
        waiting, batch, num_sent = collections.deque(), collections.deque(), 0
        for item in items:
            task = _Task(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
            with self._changed:
                self._held_bytes += len(task.payload)
            waiting.append(task)
            batch.append(task)
            is_far = len(waiting) >= ITEMS_AHEAD * self.num_workers
            is_far |= self._held_bytes >= BYTES_AHEAD
            # The first batches are small, so that few items are enough for all workers.
            room = min(1 + num_sent // (4 * self.num_workers), BATCH_ITEMS)
            if is_far or len(batch) >= room or sum(len(t.payload) for t in batch) >= BATCH_BYTES:
                num_sent += len(batch)
                self._send(batch)
                batch = collections.deque()
            if is_far:
                yield self._take(waiting.popleft())
            while waiting and waiting[0].result is not None:
                yield self._take(waiting.popleft())
        if batch:
            self._send(batch)
        while waiting:
            yield self._take(waiting.popleft())

    def _send(self, batch):
        if self._closed:
            raise RuntimeError("These `Workers` were closed. Make new ones.")
        self._batches.put(batch)
        if len(self._threads) < self.num_workers:
            self._threads.append(threading.Thread(target=self._tend, daemon=True))
            self._threads[-1].start()

    def _take(self, task):
        """Waits for a task's result and returns it; ends workers that are far too late."""
        with self._changed:
            self._wanted = task
            self._changed.notify_all()
            while task.result is None and self._error is None and not self._closed:
                self._changed.wait(0.5)
                for worker in self._workers:
                    if worker.is_late():
                        worker.kill()
            if task.result is None:
                raise RuntimeError(self._error or "These `Workers` were closed. Make new ones.")
            self._held_bytes -= len(task.result)
        try:
            return pickle.loads(task.result)
        except Exception as error:  # whatever a class does when it is unpickled
            return Lost(sentence(error))

    def _put(self, task, result):
        with self._changed:
            self._held_bytes += len(result) - len(task.payload)
            task.result, task.payload = result, b""
            self._changed.notify_all()

    def _tend(self):
        """Runs in the thread beside a worker: gives it batches, and buries and replaces it."""
        worker = None
        try:
            while (batch := self._batches.get()) and not self._closed:
                while batch and (worker := worker or self._start()):
                    if not self._hand_over(worker, batch):
                        self._blame(batch, worker.end())
                        worker = self._forget(worker)
        except Exception as error:
            self._fail(sentence(error))
        finally:
            self._forget(worker)

    def _hand_over(self, worker, batch):
        """Takes tasks out of the batch as the worker does them; False if it died over one."""
        if not worker.send(pickle.dumps([task.payload for task in batch])):
            return False
        while batch:
            with self._changed:  # results must not pile up, but for the one that is waited for
                while self._held_bytes >= BYTES_AHEAD and self._wanted is not batch[0]:
                    if self._closed:
                        return True
                    self._changed.wait()
            result = worker.receive(2 * self.seconds_per_item + 10)
            if result is None:
                return False
            self._put(batch.popleft(), result)
        return True

    def _blame(self, batch, how):
        """The first task that was not answered was the one in hand."""
        task = batch[0]
        task.deaths += 1
        if task.deaths < TRIES and how != "SIGPROF":
            return
        reason = f"the process that worked on it died ({how})"
        if how in ("", "SIGPROF"):
            reason = f"it took longer than {self.seconds_per_item:g} s"
        self._put(batch.popleft(), pickle.dumps(Lost(reason)))

    def _start(self):
        """A worker that is ready; None if there is to be none any more."""
        for _ in range(STARTS):
            with self._changed:
                if self._closed or self._error is not None:
                    return None
                worker = _Worker()
                self._workers.add(worker)
            answer = worker.receive(START_SECONDS) if worker.send(self._greeting) else None
            if answer == b"":
                return worker
            how = answer.decode() if answer else f"it died ({worker.end() or 'too slow'})"
            self._forget(worker)
            if answer:
                break
        self._fail(how)
        return None

    def _forget(self, worker):
        if worker is not None:
            worker.end()
            with self._changed:
                self._workers.discard(worker)

    def _fail(self, how):
        with self._changed:
            self._error = f"A worker process could not be started: {how}."
            self._changed.notify_all()


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self):
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # one core each
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, *map(str, sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=2**18,
            env={**threads, **os.environ},
        )
        self._deadline = math.inf
        self._was_late = False

    def send(self, message) -> bool:
        """False if nobody is there any more."""
        try:
            write_frame(self._process.stdin, message)
        except OSError:
            return False
        return True

    def receive(self, seconds):
        """The next message; None if the worker died, or is killed as it did not come in time."""
        self._deadline = time.monotonic() + seconds
        try:
            message = read_frame(self._process.stdout)
        except OverflowError:
            self._was_late = True
            message = None
        self._deadline = math.inf
        return message

    def is_late(self):
        self._was_late |= time.monotonic() > self._deadline
        return self._was_late

    def kill(self):
        self._process.kill()

    def end(self) -> str:
        """Makes sure that the process is gone; how it died, "" if because it was too slow."""
        process = self._process
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0 if self._was_late else 1)
        process.kill()
        code = process.wait()
        process.stdout.close()
        with contextlib.suppress(OSError):  # what could not be written
            process.stdin.close()
        if self._was_late:
            return ""
        with contextlib.suppress(ValueError):
            return signal.Signals(-code).name
        return f"exit code {code}"


def num_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
