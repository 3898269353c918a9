"""A server of one file that can fail in all the ways in which servers and networks fail.

It runs in a thread of the test, on 127.0.0.1, and follows RFC 9110: range requests, `If-Range`,
strong and weak marks. What it shall do wrong stands in `plans`, one dict a request, the first one
first; without a plan it does everything right.

    status          answer with this error
    cut             close the connection after so many bytes of the body
    ignore_range    send all, whatever was asked for
    shift           begin so many bytes after the byte that was asked for, and say so
    chunked         no Content-Length
    seconds         rest so long before each 1,000 bytes
"""

import contextlib
import http.server
import threading
import time


class FileServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.mark = content, '"first"'
        self.plans, self.asked = [], []  # `asked`: the headers of each request
        self.host = f"127.0.0.1:{self.server_port}"
        self.url = f"http://{self.host}/a%20file.zip"

    def handle_error(self, request, client_address):
        """Says nothing of clients that were killed."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        plan = server.plans.pop(0) if server.plans else {}
        server.asked.append(dict(self.headers))
        self.close_connection = True
        if "status" in plan:
            self.send_error(plan["status"])
            return
        content, first = server.content, 0
        wanted = self.headers["Range"]
        is_same = self.headers["If-Range"] in (None, server.mark)
        if wanted and is_same and not plan.get("ignore_range"):
            first = int(wanted.removeprefix("bytes=").removesuffix("-")) + plan.get("shift", 0)
            if first >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if server.mark:
            self.send_header("ETag", server.mark)
        if plan.get("chunked"):
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self._send(content[first:], plan)

    def _send(self, body, plan):
        body = body[: plan.get("cut", len(body))]
        for start in range(0, len(body), 1000):
            time.sleep(plan.get("seconds", 0))
            part = body[start : start + 1000]
            if plan.get("chunked"):
                part = b"%x\r\n%s\r\n" % (len(part), part)
            self.wfile.write(part)
        if plan.get("chunked") and "cut" not in plan:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args):
        """Nothing: the tests look into `asked`."""


@contextlib.contextmanager
def serve(content):
    server = FileServer(content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
