"""Files that are whole or not there, and folders that two processes do not write at once.

A program can be killed at any moment, and a disk can be full at any byte. So a file is written
under a temporary name beside its own, and then renamed, which happens at once or not at all: who
reads it finds the old content or the new one. And where a process keeps several files that belong
together, it holds a *lock* on one of them, which the system takes from it when it ends, however it
ends: nothing has to be cleaned up after a power cut.

What this file does not do: a rename is not yet on the disk; what must outlive a power cut is
brought there by whoever writes it. Windows, and some network disks, have no such locks; there,
nothing keeps two processes apart.

Reference: POSIX.1-2017, rename(); flock(2) of the Linux manual.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
import tempfile

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


def write_atomically(path, data: bytes) -> pathlib.Path:
    """Writes bytes under a temporary name beside `path`, then renames: never half a file."""
    path = pathlib.Path(path).expanduser()
    with opened_atomically(path) as file:
        file.write(data)
    return path


@contextlib.contextmanager
def opened_atomically(path):
    """A binary file to write, which becomes `path` when the `with` block ends, or never.

    A symbolic link stays one: what it leads to is written. What is no file, such as /dev/stdout,
    is written to as it is, because renaming would replace the device.

    Raises:
      OSError: it cannot be written; the sentence says what to do.
    """
    path = pathlib.Path(path).expanduser()
    with explained(path):
        is_device = path.exists() and not path.is_file() and not path.is_dir()
        path = path.resolve() if path.is_symlink() and not is_device else path
    with explained(path):
        if is_device:
            with open(path, "wb") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private; others are not
            os.replace(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)


@contextlib.contextmanager
def locked(path, taken):
    """Holds the lock on a file while the `with` block runs, or until this process ends.

    Where the folder cannot be written, nothing is held, because nobody writes there.

    Args:
      path: the lock's file, made if it is missing; it stays, empty.
      taken: called if another process holds the lock. It raises, or gives a context manager
        within which is waited.

    Raises:
      OSError: the file cannot be opened in a folder that can be written.
    """
    with explained(path):
        opened = _opened(path)
    with opened as file:
        if not _is_free(file):
            with taken(), contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        owner = os.getpid()
        try:
            yield
        finally:
            # A forked child has it open, too: the lock must not outlive us, and is not the child's.
            if fcntl is not None and file is not None and os.getpid() == owner:
                with contextlib.suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_UN)


@contextlib.contextmanager
def explained(path):
    """One sentence where something cannot be written: what, why, and what to do."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"Cannot write {path}: {error.strerror or error}. "
            "Choose a folder that you may write to, on a disk with room."
        ) from error


def _opened(path):
    """The lock's file, open; to write, if that may be, because some network disks want it so."""
    for mode in ("ab", "rb"):
        try:
            return open(path, mode)
        except OSError as error:
            reason = error
    if reason.errno != errno.EROFS and os.access(path.parent, os.W_OK):
        raise reason
    return contextlib.nullcontext()


def _is_free(file):
    """Whether this process has the lock now, or there is nothing that could be locked."""
    try:
        if fcntl is not None and file is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # some network disks have no locks
    return True
