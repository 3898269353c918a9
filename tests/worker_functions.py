"""What the workers in the tests do: it must stand in a module that they can import."""

import ctypes
import os
import signal
import sys
import threading
import time


def double(item):
    return 2 * item


def with_context(context, item):
    return context, item, os.getpid()


def process_id(seconds):
    time.sleep(seconds)
    return os.getpid()


def modules(_):
    return sorted(sys.modules)


def big(num_bytes):
    return b"x" * num_bytes


class NotLoadable:
    """It can be pickled, and not unpickled."""

    def __reduce__(self):
        return int, ("no number",)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


def endless():
    while True:
        pass


def die_once(path):
    """Kills its worker if there is no such file yet."""
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done at the second try"


def compute_for_ever(path):
    """Leaves a word for each time that it was begun."""
    if not path:
        return "nothing"
    with open(path, "a") as file:
        file.write("tried")
    endless()


MISHAPS = {
    "exit 3": lambda: os._exit(3),
    "exit 0": lambda: os._exit(0),
    "wrong address": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "sys.exit": lambda: sys.exit(2),
    "Ctrl-C": lambda: signal.raise_signal(signal.SIGINT) or "not heard",
    "KeyError": lambda: {}["key"],
    "mute": lambda: (_ for _ in ()).throw(Mute),
    "too much memory": lambda: bytearray(2**40),
    "deep": lambda: eval("(" * 90 + ")" * 90),
    "cannot be sent": threading.Lock,
    "cannot be loaded": NotLoadable,
    "waits in Python": lambda: time.sleep(60),
    "loops in Python": endless,
    "waits in C with the lock": lambda: ctypes.PyDLL(None).sleep(60),
    "closes all files": lambda: os.closerange(3, 100),
    "noise": lambda: (print("noise"), os.write(1, b"noise"), os.write(2, b"noise"))[1],
    "reads the terminal": lambda: sys.stdin.read(),
}


def have(mishap):
    return MISHAPS[mishap]() if mishap in MISHAPS else mishap


def read_or_die(data):
    """`folder.read_packed` with a reader that some files kill or stop."""
    from keras_music.corpora.folder import read_packed

    if data in MISHAPS_BY_BYTES:
        have(MISHAPS_BY_BYTES[data])
    return read_packed(data)


MISHAPS_BY_BYTES = {
    b"MThd kills": "wrong address",
    b"MThd stops": "waits in C with the lock",
    b"MThd fills": "too much memory",
}
