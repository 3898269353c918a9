"""One question to TensorFlow Serving over REST, and its answer or one sentence that says why not.

JSON goes to a URL by POST, or nothing by GET; JSON comes back. The HTTP code says what it is:

    200            the answer
    400            refused, with a sentence that says why
    404            no such model, or the version was dropped
    429, 502, 503  busy: the same question again, later
    500, 501       the server failed
    504            it took longer than the server allows

A question may be asked twice without harm, because no model of this package remembers anything.
So a busy server, and one that hangs up because it is being started again, is asked again, after
waits of 0.1, 0.2, 0.4 ... 5 seconds, as long as the call has time.

Conventions: seconds. The clock belongs to a call, and a call to a thread.

What this file does not do: it knows nothing of prompts and tokenizers (`client` does). No proxies,
no redirects, no credentials: what answers with them is not TensorFlow Serving.

Reference: TensorFlow Serving, "RESTful API" (tensorflow.org/tfx/serving/api_rest); the codes are in
its http_server.cc.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import threading
import time
import urllib.parse

from keras_music.arguments import whole_number

BUSY = {429, 502, 503}  # too many requests; a proxy whose server is away; unavailable
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # each wait is twice the one before


class BusyError(Exception):
    """The server cannot answer now; the same question may be asked again."""


class NotFoundError(Exception):
    """The server does not know the model, or has dropped the version."""


class Rest:
    """The REST API at one address.

    Args:
      url: str, "http://HOST:PORT", with or without a slash at its end.
      timeout: > 0, seconds for all questions of one call.
      retries: >= 0, how often a question is asked again.

    Attributes:
      call: what belongs to the call that goes on in this thread; forgotten at its end.
    """

    def __init__(self, url, timeout, retries):
        self.url = _check_url(url)
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not is_number or not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"`timeout` must be > 0 seconds. Received: timeout={timeout!r}.")
        self.timeout = timeout
        self.retries = whole_number("retries", retries, 0)
        self.call = threading.local()

    @contextlib.contextmanager
    def one_call(self):
        """Starts the clock of a call; a call within a call has the clock of the outer one."""
        if hasattr(self.call, "deadline"):
            yield
            return
        self.call.deadline, self.call.was_there = time.monotonic() + self.timeout, False
        try:
            yield
        finally:
            vars(self.call).clear()

    def patiently(self, question):
        """The result of a function that is called again, after a wait, as often as it is busy."""
        wait, asked = FIRST_WAIT, 0
        while True:
            asked += 1
            try:
                return question()
            except BusyError as error:
                busy = error
            if asked > self.retries:
                raise ConnectionError(
                    f"{self.url} is busy, or is being started again. Received, after asking "
                    f"{asked} times: {busy}. Try later, or raise `retries`."
                )
            if self._seconds_left() <= wait:
                raise self._too_late(busy)
            time.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT)

    def ask(self, method, path, body=None):
        """One question and its answer.

        Args:
          method: "GET" or "POST". path: str, from "/v1" on. body: a dict, or None.

        Returns:
          dict.

        Raises:
          ValueError: the server refuses the request. BusyError, NotFoundError: see there.
          ConnectionError, TimeoutError, RuntimeError: there is no answer.
        """
        status, reply = self._send(method, path, body)
        try:
            answer = json.loads(reply)
        except (ValueError, RecursionError):
            answer = None
        said = answer.get("error") if isinstance(answer, dict) else None
        if status in BUSY:
            raise BusyError(f"HTTP {status}, {said or reply[:100]}")
        if status == 504:
            raise self._too_late(f"HTTP 504, {said or reply[:100]}")
        if status == 200 and isinstance(answer, dict) and said is None:
            return answer
        if not isinstance(said, str):
            raise self._foreign(f"HTTP {status}, {reply[:100]}")
        if status == 404:
            raise NotFoundError(said)
        if status == 400:
            raise ValueError(clean(said))
        raise RuntimeError(f"{self.url} failed: HTTP {status}, {clean(said)}. See its log.")

    def _send(self, method, path, body):
        """One HTTP request -> the status and the whole body, within the time that is left."""
        url = urllib.parse.urlsplit(self.url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        body = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection = kind(url.hostname, url.port, timeout=self._seconds_left())
        try:
            with contextlib.closing(connection):
                connection.connect()
                self.call.was_there = True
                socket = connection.sock  # the connection lets go of it with the response
                connection.request(method, url.path + path, body, headers)
                with connection.getresponse() as response:
                    size, reply = response.length, b""
                    while size is None or len(reply) < size:
                        socket.settimeout(self._seconds_left())
                        if not (part := response.read1(65536)):
                            break
                        reply += part
        except TimeoutError:
            raise self._too_late("nothing") from None
        except ConnectionError as error:
            if isinstance(error, ConnectionRefusedError) and not self.call.was_there:
                raise self._unreachable(error) from None
            raise BusyError(error) from None
        except http.client.HTTPException as error:
            raise self._foreign(f"{type(error).__name__} {error}") from None
        except OSError as error:
            raise self._unreachable(error) from None
        if size is not None and len(reply) < size:
            raise BusyError(f"{len(reply)} of {size} bytes, then the connection ended")
        return response.status, reply

    @contextlib.contextmanager
    def reading(self, what):
        """What goes wrong while an answer is read, as one sentence."""
        try:
            yield
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
            raise self._foreign(f"an answer without {what}") from None

    def _seconds_left(self):
        if (seconds := self.call.deadline - time.monotonic()) > 0:
            return seconds
        raise self._too_late("nothing")

    def _foreign(self, what):
        return ConnectionError(
            f"{self.url} must be the REST API of TensorFlow Serving, with a model that this "
            f"version of keras_music exported. Received: {what}. Check the port (8501 is REST, "
            "8500 is gRPC), and whether a proxy answers in its place."
        )

    def _unreachable(self, error):
        return ConnectionError(
            f'No server answers at {self.url}: {error}. Start one (see "Serve it" in README.md), '
            "or check host and port."
        )

    def _too_late(self, last):
        return TimeoutError(
            f"{self.url} did not answer within `timeout`, {self.timeout} s, or within its own "
            f"limit. Received: {last}. Raise `timeout` (and --rest_api_timeout_in_ms of the "
            "server, by default 30 s), or ask for fewer tokens or prompts."
        )


def _check_url(url):
    """The server's address without a slash at its end."""
    try:
        parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        (parts.hostname or "").encode("idna")
        more = parts.query or parts.fragment or parts.username or "/v1" in parts.path
    except ValueError:  # the port is no number, or the host no name
        usable = more = False
    if not usable or more or not re.fullmatch(r"[!-~]+", url):
        raise ValueError(
            "`url` must be the address of the server's REST API: http:// or https://, host, port, "
            f"and nothing after it. Received: url={url!r}. Example: 'http://127.0.0.1:8501'."
        )
    return url.rstrip("/")


def clean(said):
    r"""TensorFlow's message without the names of its nodes.

    >>> clean("assertion failed: [`top_k` must be >= 0. Received:] [-1 2]\n\t [[{{node Assert}}]]")
    '`top_k` must be >= 0. Received: [-1 2]'
    """
    several = re.search(r"\(0\)[\w ]*: (.*?)(\n +\(1\)|\n\d+ successful|$)", said, re.DOTALL)
    said = several[1] if several else said  # "2 root error(s) found": mostly twice the same
    said = re.sub(r"\s*\[\[\{\{.*", "", said, flags=re.DOTALL)
    said = re.sub(r"^(\{\{.*?\}\} *)+", "", said)
    return re.sub(r"^assertion failed: \[(.*?)\]", r"\1", said, flags=re.DOTALL).strip()
