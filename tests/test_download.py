"""Downloads: they go on where they broke off, and nothing half is ever taken for whole."""

import errno
import fcntl
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from file_server import serve

from keras_music import disk
from keras_music.corpora import download as module
from keras_music.corpora.download import download

CONTENT = random.Random(0).randbytes(50_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(module, "WAIT_SECONDS", (0.0,) * 4)
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 1)


@pytest.fixture
def server():
    with serve(CONTENT) as file_server:
        yield file_server


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "file.zip"


def fetch(server, path, **changes):
    arguments = {"sha256": SHA256, "name": "the file", "by_hand": "copy it"} | changes
    return download(server.url, path, **arguments)


def ranges(server):
    return [asked.get("Range", "all") for asked in server.asked]


def left_over(path):
    return sorted(p.name for p in path.parent.iterdir() if p != path)


def test_a_file_is_fetched_once(server, path):
    assert fetch(server, path) == path
    assert path.read_bytes() == CONTENT
    assert left_over(path) == ["file.zip.lock"]
    fetch(server, path)
    assert ranges(server) == ["all"]


def test_a_broken_download_goes_on_with_the_same_file(server, path):
    server.plans = [{"cut": 7000}, {"cut": 20_000}]
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert ranges(server) == ["all", "bytes=7000-", "bytes=27000-"]
    assert [asked.get("If-Range") for asked in server.asked] == [None, '"first"', '"first"']


def test_the_next_call_goes_on_too(server, path):
    server.plans = [{"cut": 7000}, *[{"status": 503}] * 5]
    with pytest.raises(ConnectionError) as error:
        fetch(server, path)
    assert str(error.value) == (
        f"the file could not be downloaded: {server.host} answered 503 Service Unavailable; "
        "copy it."
    )
    assert left_over(path) == ["file.zip.lock", "file.zip.part", "file.zip.part.mark"]
    server.plans.clear()
    fetch(server, path)
    assert ranges(server)[-1] == "bytes=7000-"
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "plan",
    [{"ignore_range": True}, {"shift": 500}, {"shift": 10**6}],
    ids=["all is sent", "another part is sent", "416"],
)
def test_a_server_that_cannot_send_the_rest_sends_all(server, path, plan):
    server.plans = [{"cut": 7000}, plan]
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_a_file_that_was_changed_in_between_is_fetched_anew(server, path):
    old, server.content = server.content, CONTENT[::-1]
    server.plans = [{"cut": 7000}, *[{"status": 503}] * 5]
    with pytest.raises(ConnectionError):
        fetch(server, path)
    server.plans.clear()
    server.content, server.mark = old, '"second"'
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert ranges(server)[-1] == "bytes=7000-"  # one question: the mark said that it is another


@pytest.mark.parametrize("mark", ["", 'W/"weak"'])
def test_without_a_mark_the_checksum_decides(server, path, mark):
    old, server.content, server.mark = server.content, CONTENT[::-1], mark
    server.plans = [{"cut": 7000}, *[{"status": 503}] * 5]
    with pytest.raises(ConnectionError):
        fetch(server, path)
    server.plans.clear()
    server.content = old
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert ranges(server)[-2:] == ["bytes=7000-", "all"]


def test_another_file_is_refused_and_not_kept(server, path):
    server.content = b"<html>Please log in</html>"
    digest = hashlib.sha256(server.content).hexdigest()
    with pytest.raises(OSError) as error:
        fetch(server, path)
    assert str(error.value) == (
        f"the file could not be downloaded: {server.host} sent something else, perhaps the page of "
        f"a proxy (its SHA-256 must be {SHA256}, received: {digest}); copy it."
    )
    assert left_over(path) == ["file.zip.lock", "file.zip.part.mark"]
    server.content = CONTENT
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_a_damaged_file_in_its_place_is_replaced(server, path):
    path.parent.mkdir()
    path.write_bytes(CONTENT[:-1])
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_a_whole_part_needs_no_server(server, path):
    """Killed after the last byte and before the renaming."""
    path.parent.mkdir()
    (path.parent / "file.zip.part").write_bytes(CONTENT)
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert not server.asked


def test_a_part_that_is_too_long(server, path):
    path.parent.mkdir()
    (path.parent / "file.zip.part").write_bytes(CONTENT + b"more")
    fetch(server, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("plan", [{"chunked": True}, {"chunked": True, "cut": 9500}])
def test_a_file_of_unknown_length(server, path, plan):
    server.plans = [plan]
    fetch(server, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_final(server, path, status):
    server.plans = [{"status": status}]
    with pytest.raises(ConnectionError, match=f"answered {status} .*; copy it.$"):
        fetch(server, path)
    assert len(server.asked) == 1


def test_a_busy_server_is_asked_again(server, path):
    server.plans = [{"status": 503}, {"status": 429}, {"cut": 100}, {"status": 500}]
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_in_the_same_place(server, path):
    server.plans = [{"cut": 7000, "ignore_range": True}] * 50
    with pytest.raises(ConnectionError, match="broke off after 7000 of 50000 bytes"):
        fetch(server, path)
    assert len(server.asked) == 5


def test_a_silent_server(server, path, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(module, "WAIT_SECONDS", (0.0,))
    server.plans = [{"cut": 3000, "seconds": 0.2}] * 9
    with pytest.raises(ConnectionError, match="broke off .*timed out"):
        fetch(server, path)


def test_offline_is_said_at_once(path):
    with socket.socket() as taken:  # a port at which nobody listens
        taken.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConnectionError) as error:
            download(f"http://{host}/file", path, SHA256, "the file", "copy it")
    sentence = str(error.value)
    assert sentence.startswith(f"the file could not be downloaded: {host} cannot be reached (")
    assert sentence.endswith("; copy it.")


def test_a_folder_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="could not be written to .*KERAS_MUSIC_CACHE"):
        fetch(server, tmp_path / "file" / "file.zip")


def test_a_full_disk_is_not_the_fault_of_the_server(server, path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left on device.*KERAS_MUSIC_CACHE"):
        fetch(server, path)
    assert len(server.asked) == 1


def test_the_second_process_waits_for_the_first(server, path):
    path.parent.mkdir()
    with open(path.parent / "file.zip.lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as another process would; locks belong to open files
        thread = threading.Thread(target=fetch, args=(server, path))
        thread.start()
        time.sleep(0.1)
        assert not server.asked
        path.write_bytes(CONTENT)
    thread.join()
    assert not server.asked


def test_a_system_without_locks(server, path, monkeypatch):
    monkeypatch.setattr(disk, "fcntl", None)
    fetch(server, path)
    assert path.read_bytes() == CONTENT


def test_killed_ten_times(server, path):
    """Each time at a random moment; the next process goes on, and the last one ends whole."""
    server.plans = [{"seconds": 0.01}] * 11  # the whole file takes half a second
    code = (
        "import sys; from keras_music.corpora.download import download\n"
        "print(flush=True); download(*sys.argv[1:], 'the file', 'copy it')"
    )
    command = [sys.executable, "-c", code, server.url, str(path), SHA256]
    wait = random.Random(1)
    for _ in range(10):
        child = subprocess.Popen(command, stdout=subprocess.PIPE)
        child.stdout.readline()
        time.sleep(wait.uniform(0, 0.09))
        os.kill(child.pid, signal.SIGKILL)
        child.communicate()
        assert not path.exists() or path.read_bytes() == CONTENT
    subprocess.run(command, check=True, capture_output=True)
    assert path.read_bytes() == CONTENT
    assert ranges(server)[-1].startswith("bytes="), "nothing was kept of ten attempts"


def test_killed_between_the_part_and_its_mark(server, path, monkeypatch):
    """The bytes of the old file must be gone before the mark of the new one is there."""
    server.content, server.plans = CONTENT[::-1], [{"cut": 7000}, *[{"status": 503}] * 5]
    with pytest.raises(ConnectionError):
        fetch(server, path)
    server.content, server.mark = CONTENT, '"second"'
    server.plans.clear()
    sizes, write_mark = [], module._write_mark

    def watched(response, mark):
        sizes.append((path.parent / "file.zip.part").stat().st_size)
        write_mark(response, mark)

    monkeypatch.setattr(module, "_write_mark", watched)
    fetch(server, path)
    assert sizes == [0]


def test_a_weak_mark_is_not_shown_to_the_server(server, path):
    """RFC 9110, 13.1.5: it must not match, so that such a download would never go on."""
    server.mark = 'W/"weak"'
    server.plans = [{"cut": 7000}]
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert [asked.get("If-Range") for asked in server.asked] == [None, None]


def test_nobody_else_gets_the_lock_meanwhile(server, path, monkeypatch):
    """Two processes that both write the part would each spoil what the other wrote."""
    complete, refused = module._complete, []

    def watched(*arguments):
        with open(path.parent / "file.zip.lock", "wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                refused.append(True)
        complete(*arguments)

    monkeypatch.setattr(module, "_complete", watched)
    fetch(server, path)
    assert refused == [True]


def test_a_mark_goes_with_its_file(server, path):
    """The new file has no mark: that of the old one would make the server send all, each time."""
    server.content, server.plans = CONTENT[::-1], [{"cut": 7000}, *[{"status": 503}] * 5]
    with pytest.raises(ConnectionError):
        fetch(server, path)
    server.content, server.mark, server.plans = CONTENT, "", [{"cut": 9000}]
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert ranges(server)[-2:] == ["bytes=7000-", "bytes=9000-"]
    assert "If-Range" not in server.asked[-1]


def test_the_waits_get_longer(server, path, monkeypatch):
    """A second after an attempt that brought something, then ever more: servers need a rest."""
    waits = []
    monkeypatch.setattr(module, "WAIT_SECONDS", (1, 2, 4, 8))
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.plans = [{"cut": 7000}, *[{"status": 503}] * 4]
    with pytest.raises(ConnectionError):
        fetch(server, path)
    assert [wait for wait in waits if wait] == [1, 2, 4, 8]  # the server of this test waits, too
