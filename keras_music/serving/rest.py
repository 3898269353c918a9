"""One question to TensorFlow Serving over REST, and its answer or one sentence that says why not.

JSON goes to a URL by POST, or nothing by GET; JSON comes back. The HTTP code says what it is:

    200            the answer
    400            refused, with a sentence that says why
    404            no such model, or the version was dropped
    429, 502, 503  busy: the same question again, later
    500, 501       the server failed
    504            it took longer than the server allows

A question may be asked twice without harm, because no model of this package remembers anything.
So a busy server, and one that is away because it is being started again, is asked again, after
waits of 0.1, 0.2, 0.4 ... 5 seconds, as long as the call has time. Only a POST that was sent and
got no answer goes out just once more: it may be what ended the server.

Conventions: seconds. The clock belongs to a call, and a call to a thread. A time-out of a socket is
for one `recv`, and bytes may trickle for ever; so a timer shuts the socket down when time is over.

What this file does not do: it knows nothing of prompts and tokenizers (`client` does). No proxies,
no redirects, no credentials: what answers with them is not TensorFlow Serving. The time in which
the system looks up the name of a host is not cut short.

Reference: TensorFlow Serving, "RESTful API" (tensorflow.org/tfx/serving/api_rest); the codes are in
its http_server.cc.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import threading
import time
import urllib.parse

from keras_music.arguments import whole_number

BUSY = {429, 502, 503}  # too many requests; a proxy whose server is away; unavailable
FIRST_WAIT, LONGEST_WAIT = 0.1, 5.0  # each wait is twice the one before
MAX_REPLY = 2**28  # bytes


class BusyError(Exception):
    """The server cannot answer now; the same question may be asked again."""


class LostError(BusyError):
    """The connection ended after the question was sent, and before the answer was whole."""


class NotFoundError(Exception):
    """The server does not know the model, or has dropped the version."""


class Rest:
    """The REST API at one address.

    Args:
      url: str, "http://HOST:PORT", perhaps with a path, with or without a slash at its end.
      timeout: > 0, seconds for all questions of one call.
      retries: None, to ask again until the time is over; or >= 0, how often at most.

    Attributes:
      was_there: whether a connection was ever made; a server that was there may come back.
      call: what belongs to the call that goes on in this thread; forgotten at its end.
    """

    def __init__(self, url, timeout, retries):
        self.url = _check_url(url)
        is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not is_number or not 0 < timeout <= threading.TIMEOUT_MAX:
            raise ValueError(f"`timeout` must be > 0 seconds. Received: timeout={timeout!r}.")
        self.timeout = timeout
        self.retries = None if retries is None else whole_number("retries", retries, 0)
        self.was_there = False
        self.call = threading.local()
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one_call(self):
        """Starts the clock of a call; a call within a call has the clock of the outer one."""
        if hasattr(self.call, "deadline"):
            yield
            return
        self.call.deadline = time.monotonic() + self.timeout
        try:
            yield
        finally:
            vars(self.call).clear()

    @contextlib.contextmanager
    def turn(self):
        """Only one thread at a time is in here; the others wait, as long as they have time."""
        if not self._lock.acquire(timeout=self._seconds_left()):
            raise self._too_late("nothing")
        try:
            yield
        finally:
            self._lock.release()

    def patiently(self, question):
        """The result of a function that is called again, after a wait, as often as it is busy."""
        wait, asked, lost = FIRST_WAIT, 0, 0
        while True:
            asked += 1
            try:
                return question()
            except BusyError as error:
                busy = error
            lost += isinstance(busy, LostError)
            if lost > 1:
                raise ConnectionError(
                    f"{self.url} must not end the connection while it answers. Received, twice for "
                    f"the same request: {busy}. See its log: the request may be what ends it."
                )
            if self.retries is not None and asked > self.retries:
                raise ConnectionError(
                    f"{self.url} is busy, or is being started again. Received, after asking "
                    f"{asked} times: {busy}. Try later, or raise `retries` (None: until `timeout`)."
                )
            if (left := self.call.deadline - time.monotonic()) < FIRST_WAIT:
                raise self._too_late(busy)
            time.sleep(min(wait, left / 2))  # there is always time for a last question
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
        lost = BusyError if method == "GET" else LostError
        try:
            connected = self._connect()
        except ConnectionError as error:
            if isinstance(error, ConnectionRefusedError) and not self.was_there:
                raise self._unreachable(error) from None
            raise BusyError(error) from None
        except TimeoutError:
            raise self._too_late("nothing") from None
        except OSError as error:
            raise self._unreachable(error) from None
        self.was_there = True
        try:
            with contextlib.closing(connected), self._alarm(connected):
                status, size, reply = self._exchange(connected, method, path, body)
        except TimeoutError:
            raise self._too_late("nothing") from None
        except (ConnectionError, http.client.IncompleteRead) as error:
            raise lost(error) from None
        except http.client.HTTPException as error:
            raise self._foreign(f"{type(error).__name__} {error}") from None
        except OSError as error:
            raise self._unreachable(error) from None
        if max(size or 0, len(reply)) > MAX_REPLY:
            raise ConnectionError(
                f"{self.url} must answer with at most {MAX_REPLY} bytes. Received: "
                f"{size or 'more'}. Ask for fewer tokens or prompts."
            )
        if size is not None and len(reply) < size:
            raise lost(f"{len(reply)} of {size} bytes, then the connection ended")
        return status, reply

    def _connect(self):
        """A socket to the first address of the host that accepts, with TLS for https."""
        url = urllib.parse.urlsplit(self.url)
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = socket.getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
        for others, (family, kind, protocol, _, address) in zip(
            reversed(range(len(addresses))), addresses, strict=True
        ):
            connected = socket.socket(family, kind, protocol)
            try:
                connected.settimeout(self._seconds_left() / (1 + others))
                connected.connect(address)
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connected.settimeout(self._seconds_left())
                break
            except OSError:
                connected.close()
                if not others:
                    raise
        if url.scheme == "http":
            return connected
        return ssl.create_default_context().wrap_socket(connected, server_hostname=url.hostname)

    @contextlib.contextmanager
    def _alarm(self, connected):
        """Ends a connection, and what waits for it with TimeoutError, when the time is over."""
        rang = threading.Event()

        def ring():
            rang.set()
            with contextlib.suppress(OSError):  # it was closed just now
                socket.socket.shutdown(connected, socket.SHUT_RDWR)

        timer = threading.Timer(self._seconds_left(), ring)
        timer.daemon = True
        timer.start()
        try:
            yield
        except Exception:
            if not rang.is_set():
                raise
        finally:
            timer.cancel()
        if rang.is_set():
            raise TimeoutError

    def _exchange(self, connected, method, path, body):
        """The question, and the answer: its status, the size it announced or None, its body."""
        url = urllib.parse.urlsplit(self.url)
        connection = http.client.HTTPConnection(url.hostname, url.port or 80)  # 80: not in "Host:"
        connection.sock = connected
        body = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Connection": "close"}
        with contextlib.closing(connection):
            connection.request(method, url.path + path, body, headers)
            with connection.getresponse() as response:
                size = response.length
                reply = b"" if (size or 0) > MAX_REPLY else response.read(MAX_REPLY + 1)
                return response.status, size, reply

    @contextlib.contextmanager
    def reading(self, what):
        """What goes wrong while an answer is read, as one sentence."""
        try:
            yield
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
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
        more = "@" in parts.netloc or "/v1" in parts.path or re.search(r"[?#]|\.\.", url)
    except (ValueError, TypeError):  # the port is no number, or the host no name, or it is no str
        usable = more = False
    if not usable or more or not re.fullmatch(r"[!-~]+", url):
        shown = re.sub(r"^(.).*@", r"\1...@", repr(url))  # without a password
        raise ValueError(
            "`url` must be the address of the server's REST API: http:// or https://, host and "
            "port, and the path before /v1 if a proxy adds one; no user, no `?`, no `#`, no `..`. "
            f"Received: url={shown}. Example: 'http://127.0.0.1:8501'."
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
