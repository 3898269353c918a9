"""Loading TensorFlow without the dozen lines that it prints on processor, CUDA and oneDNN.

Some of them are written before TensorFlow reads the variable that would silence them
(TF_CPP_MIN_LOG_LEVEL), by C++ code that knows nothing of Python's `sys.stderr`. So file descriptor
2, to which it writes, leads into a temporary file for as long as TensorFlow loads. Afterwards,
whatever there is besides notes (I) and warnings (W) is passed on: an error should be seen.

What this file does not do: it hides nothing that is written later.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile

NOISE = re.compile(
    rb"[IW]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IW] |WARNING: All log messages before absl"
)


def load_tensorflow():
    """Imports TensorFlow and Keras; a terminal is told, because it takes seconds."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    is_terminal = sys.stderr.isatty()
    if is_terminal:
        print("Loading TensorFlow ...", end="", file=sys.stderr, flush=True)
    with _without_noise():
        import keras  # noqa: F401
        import tensorflow  # noqa: F401
    if is_terminal:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _without_noise():
    """Holds back what C++ writes to standard error, and passes on what is no noise."""
    try:
        terminal = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            held_back.seek(0)
            for line in held_back:
                if not NOISE.match(line):
                    os.write(2, line)
