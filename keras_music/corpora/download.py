"""A file from the network: whole or not at all, in as many attempts as it takes.

HTTP lets a client ask for the rest of a file. Between two attempts the file may have been replaced
by another one, and two halves of two files are no file. So the server gives each file a mark (its
`ETag`), and a client that shows the mark gets the rest of that file, or all of the new one:

    GET /maestro.zip                     200 OK, ETag: "a1"
                                         ... 1000 of 5000 bytes, and the connection breaks
    GET /maestro.zip                     206 Partial Content
    Range: bytes=1000-                   Content-Range: bytes 1000-4999/5000
    If-Range: "a1"                       (or 200 OK and all bytes, if the mark is another by now)

What has come so far stands in `<name>.part` and its mark in `<name>.part.mark`. A process can be
killed between any two lines of this module, so the part is emptied before a new mark is written,
and bytes are added after that. At the end the SHA-256 of the whole is compared, and only then is it
renamed: under its own name there is a whole file or none. Of two processes that want the same file
one downloads and the other waits: the operating system keeps a lock for them, and takes it back
from a process that dies. (Windows has no such lock; what two processes wrote at once fails the
comparison and is fetched again.)

Conventions: sizes in bytes, times in seconds; checksums are SHA-256 in lower-case hexadecimal.

What this file does not do: no login, no mirrors, no several connections at once.

References: RFC 9110, HTTP Semantics, sections 13.1.5 (If-Range) and 14 (range requests).
Our difference from `keras.utils.get_file`, which this package would rather use: that one cannot go
on with a broken download; it deletes what has come and begins again.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import pathlib
import re
import time
import urllib.error
import urllib.parse
import urllib.request

from keras_music.corpora.progress import progress_bar
from keras_music.disk import locked, write_atomically

TIMEOUT_SECONDS = 30  # without a byte
WAIT_SECONDS = (1, 2, 4, 8)  # before the next attempts, if the last one brought nothing
CHUNK_BYTES = 2**18
PASSING_STATUS = {408, 429, 500, 502, 503, 504}  # the server is busy, and may not be in a moment


class _Interrupted(Exception):
    """The download stopped before its end; another attempt may bring the rest."""


class _Unreachable(_Interrupted):
    """There is no connection to the server."""


def download(url, path, sha256, name, by_hand) -> pathlib.Path:
    """Fetches a file, going on where an earlier attempt broke off, also that of a killed process.

    Args:
      url: str, http or https.
      path: where the file shall be. If a file with this checksum is there, nothing is fetched.
      sha256: 64 hexadecimal digits, the checksum of the whole file.
      name: str, what the file is called, also beside the progress bar that a terminal shows.
      by_hand: str, the end of the sentence that says why there is no file: what else can be done,
        with the address.

    Returns:
      The path.

    Raises:
      ConnectionError: the server cannot be reached, refuses, or breaks off again and again.
      OSError: the server sent another file, or `path` cannot be written.
    """
    path = pathlib.Path(path)
    if file_sha256(path) == sha256:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(path.name + ".lock")
        with locked(lock, taken=lambda: _waiting(name)):
            if file_sha256(path) != sha256:  # else another process has been faster
                part = path.with_name(path.name + ".part")
                _complete(url, part, sha256, name)
                os.replace(part, path)
                _mark_of(part).unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:  # a reason from below, else from the disk
            raise type(error)(f"{name} could not be downloaded: {error}; {by_hand}.") from error
        raise type(error)(
            f"{name} could not be written to {path} ({error.strerror}): choose a folder that you "
            "may write to, on a disk with room, by the environment variable KERAS_MUSIC_CACHE."
        ) from error
    return path


def file_sha256(path) -> str:
    """The checksum of a file, "" if there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return ""


def _waiting(name):
    """What is shown while another process downloads the same file."""
    words = f"Waiting for another process that downloads {name}"
    return progress_bar(desc=words, bar_format="{desc}")


def _complete(url, part, sha256, name):
    """Attempts until the part is the whole file."""
    before = most = _size(part)
    failures = 0  # in a row, without a byte more than ever before
    while file_sha256(part) != sha256:
        try:
            first = _attempt(url, part, name)
        except _Interrupted as error:
            failures = 0 if _size(part) > most else failures + 1
            most = max(most, _size(part))
            is_offline = isinstance(error, _Unreachable) and most == before
            if is_offline or failures == len(WAIT_SECONDS):
                raise ConnectionError(str(error)) from error.__cause__
            time.sleep(WAIT_SECONDS[failures])
            continue
        if (digest := file_sha256(part)) != sha256:
            part.unlink()
            if first == 0:
                raise OSError(
                    f"{_host(url)} sent something else, perhaps the page of a proxy (its SHA-256 "
                    f"must be {sha256}, received: {digest})"
                )
            # The part was not of this file: once more, from the first byte.


def _attempt(url, part, name):
    """Fetches what is missing and returns the position at which it began."""
    with _ask(url, part) as response:
        first, total = _extent(response)
        if first == 0:
            part.write_bytes(b"")
            _write_mark(response, _mark_of(part))
        progress = progress_bar(
            desc=f"Downloading {name}",
            total=total,
            initial=first,
            unit="B",
            unit_scale=True,
        )
        with open(part, "ab", buffering=0) as file, progress:
            for chunk in _chunks(response):
                file.write(chunk)
                progress.update(len(chunk))
            os.fsync(file.fileno())
    if total is not None and _size(part) < total:
        raise _Interrupted(f"{_host(url)} broke off after {_size(part)} of {total} bytes")
    return first


def _ask(url, part):
    """The server's answer when it is asked for what is missing."""
    request, size = urllib.request.Request(url), _size(part)
    if size:
        request.add_header("Range", f"bytes={size}-")
        with contextlib.suppress(FileNotFoundError):
            request.add_header("If-Range", _mark_of(part).read_text(encoding="utf-8"))
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code != 416 or not size:
            answer = f"{_host(url)} answered {error.code} {error.reason}"
            kind = _Interrupted if error.code in PASSING_STATUS else ConnectionError
            raise kind(answer) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        reason = getattr(reason, "strerror", None) or reason
        raise _Unreachable(f"{_host(url)} cannot be reached ({reason})") from error
    else:
        if _extent(response)[0] in (0, size):
            return response
        response.close()
    # The file has no such part. It is asked for again, as a whole.
    part.unlink(missing_ok=True)
    if not size:
        raise ConnectionError(f"{_host(url)} answered with a part that nobody asked for")
    return _ask(url, part)


def _extent(response):
    """At which byte of the file the answer begins, and how long the file is (None: not said)."""
    if response.status != 206:
        return 0, response.length
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers["Content-Range"] or "")
    if found is None:
        return None, None
    return int(found[1]), None if found[2] == "*" else int(found[2])


def _write_mark(response, path):
    """Keeps what the server calls this state of the file; a weak ETag (W/"...") does not count."""
    tag = response.headers["ETag"] or ""
    if mark := tag if tag.startswith('"') else response.headers["Last-Modified"]:
        write_atomically(path, mark.encode())
    else:
        path.unlink(missing_ok=True)


def _chunks(response):
    """The bytes of an answer, as they come."""
    try:
        while chunk := response.read1(CHUNK_BYTES):
            yield chunk
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(f"{_host(response.url)} broke off ({error})") from error


def _host(url):
    """The server's name; the sentence of which it is a part has the whole address already."""
    return urllib.parse.urlsplit(url).netloc


def _mark_of(part):
    return part.with_name(part.name + ".mark")


def _size(path):
    return path.stat().st_size if path.exists() else 0
