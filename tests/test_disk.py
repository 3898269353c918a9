"""Files are whole or not there, and no two processes write the same ones."""

import contextlib
import io
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import threading

import pytest

from keras_music import disk
from keras_music.disk import locked, write_atomically
from keras_music.midi import Piece, write_midi

PIECE = Piece([{"pitch": 60, "start": 0, "end": 1}])


def raising(error):
    def function(*args, **kwargs):
        raise error

    return function


class FullDisk(io.BytesIO):
    write = raising(OSError(28, "No space left on device"))


def open_full_disk(handle, mode):
    os.close(handle)
    return FullDisk()


@pytest.mark.parametrize(
    ("module", "function", "fault", "error", "reason"),
    [
        (os, "replace", raising(OSError(5, "Input/output error")), OSError, "Input/output error"),
        (os, "fdopen", open_full_disk, OSError, "No space left on device"),
        (
            tempfile,
            "mkstemp",
            raising(PermissionError(13, "Permission denied")),
            PermissionError,
            "Permission denied",
        ),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    module, function, fault, error, reason, tmp_path, monkeypatch
):
    path = tmp_path / "song.mid"
    path.write_bytes(b"the old song")
    sentence = (
        f"Cannot write {path}: {reason}. Choose a folder that you may write to, "
        "on a disk with room."
    )
    with monkeypatch.context() as patch:
        patch.setattr(module, function, fault)
        with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
            write_midi(PIECE, path)
    assert path.read_bytes() == b"the old song"
    assert os.listdir(tmp_path) == ["song.mid"]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "song.mid"
    path.write_bytes(b"the old song")
    monkeypatch.setattr(os, "replace", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"the new song")
    assert path.read_bytes() == b"the old song"
    assert os.listdir(tmp_path) == ["song.mid"]


def test_a_file_or_a_folder_in_the_way(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mid").mkdir()
    for path, reason in (
        (tmp_path / "file" / "new.mid", "File exists"),
        (tmp_path / "file" / "deep" / "new.mid", "Not a directory"),
        (tmp_path / "folder.mid", "Is a directory"),
    ):
        with pytest.raises(
            OSError, match=f"^Cannot write {re.escape(str(path))}: {reason}. Choose"
        ):
            write_midi(PIECE, path)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.mid"]


def test_the_temporary_file_is_beside_the_one_it_becomes(tmp_path, monkeypatch):
    """From another disk (/tmp often is one) a file cannot be renamed into its place."""
    renamed, replace = [], os.replace

    def watched(source, target):
        renamed.append(pathlib.Path(source).parent)
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_atomically(tmp_path / "new" / "a.bin", b"a")
    assert renamed == [tmp_path / "new"]


# The lock


class Taken(Exception):
    pass


def refuse():
    raise Taken


def is_free(path):
    try:
        with locked(path, refuse):
            return True
    except Taken:
        return False


def test_only_one_has_the_lock_and_it_goes_with_the_file(tmp_path):
    with locked(tmp_path / "lock", refuse):
        assert not is_free(tmp_path / "lock")
    assert is_free(tmp_path / "lock")
    with pytest.raises(ValueError, match="of the body"), locked(tmp_path / "lock", refuse):
        raise ValueError("of the body")
    assert is_free(tmp_path / "lock")
    assert os.listdir(tmp_path) == ["lock"]


def test_the_lock_goes_with_its_process_however_it_ends(tmp_path):
    code = (
        "import sys; from keras_music.disk import locked; lock = locked(sys.argv[1], None);"
        "lock.__enter__(); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, tmp_path / "lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        assert not is_free(tmp_path / "lock")
        process.kill()
        process.wait()
        assert is_free(tmp_path / "lock")


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of processes with threads
def test_the_lock_goes_though_a_forked_child_lives(tmp_path):
    """A pool of processes that somebody began in between has a copy of all open files."""
    with locked(tmp_path / "lock", refuse):
        child = os.fork()
        if not child:
            signal.pause()
    try:
        assert is_free(tmp_path / "lock")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_one_may_wait_for_the_lock(tmp_path):
    waits, has_it = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def wait():
        waits.set()
        yield

    def second():
        with locked(tmp_path / "lock", wait):
            has_it.set()

    with locked(tmp_path / "lock", refuse):
        threading.Thread(target=second, daemon=True).start()
        assert waits.wait(10)
        assert not has_it.wait(0.1)
    assert has_it.wait(10)


def test_a_folder_that_cannot_be_written_has_no_lock(tmp_path):
    with locked(tmp_path / "no folder" / "lock", refuse):
        pass
    assert not os.listdir(tmp_path)


def test_a_lock_that_cannot_be_opened_is_no_free_one(tmp_path):
    (tmp_path / "lock").mkdir()
    with (
        pytest.raises(OSError, match="^Cannot write .*lock: Is a directory. Choose a folder"),
        locked(tmp_path / "lock", refuse),
    ):
        pass


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of processes with threads
def test_a_forked_child_does_not_give_the_lock_away(tmp_path):
    answer = None
    with contextlib.suppress(ZeroDivisionError), locked(tmp_path / "lock", refuse):
        child = os.fork()
        if not child:
            1 / 0  # it leaves the block  # noqa: B018
        os.waitpid(child, 0)
        answer = is_free(tmp_path / "lock")
    if answer is None:
        os._exit(0)
    assert answer is False


def test_a_lock_that_can_only_be_read_is_held_as_well(tmp_path, monkeypatch):
    """It is somebody else's, in a folder that both may write."""
    (tmp_path / "lock").touch()

    def only_to_read(path, mode):
        if mode != "rb":
            raise PermissionError(13, "Permission denied")
        return open(path, mode)

    monkeypatch.setattr(disk, "open", only_to_read, raising=False)
    with locked(tmp_path / "lock", refuse):
        assert not is_free(tmp_path / "lock")


def test_behind_a_link_the_sentence_names_what_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link.mid").symlink_to(tmp_path / "file" / "song.mid")
    with pytest.raises(OSError, match=r"^Cannot write .*/file/song\.mid: "):
        write_atomically(tmp_path / "link.mid", b"")


def no_locks_here(*_):
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize("answer", [None, no_locks_here])
def test_a_system_without_locks_keeps_nobody_out(tmp_path, monkeypatch, answer):
    if answer is None:
        monkeypatch.setattr(disk, "fcntl", None)
    else:
        monkeypatch.setattr(disk.fcntl, "flock", answer)
    with locked(tmp_path / "lock", refuse), locked(tmp_path / "lock", refuse):
        pass
