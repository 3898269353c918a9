"""A stand-in for TensorFlow Serving's REST API, and the real one where there is one.

`serve(models)` starts a process that answers as TensorFlow Serving does: the same paths, the same
JSON rules, the same HTTP codes, and the models run by the same C++ code (`cpp_loader`), without
TensorFlow's Python. The rules were read in TensorFlow Serving's sources (json_tensor.cc,
http_rest_api_handler.cc, http_rest_api_util.cc, http_server.cc) and its page "RESTful API"; the
sentences of its refusals are our own, the graph's are the graph's.

It is a stand-in. It does not do: gRPC, batching, warm-up, labels, classify and regress, a time
limit of its own (504), a full queue (429, 503), loading in the background. It serves every version
whose folder is there at the moment of the request (the real server's default policy keeps only the
highest), reads JSON with Python's parser (which takes numbers more exactly, and the last of two
equal keys), and leaves the initializer out of the metadata. So `real_server(models)` runs the same
tests against the real one, wherever the environment has one.

Conventions: `models` is {name: folder that holds the folders of versions, 1, 2, ...}.
"""

import base64
import binascii
import contextlib
import http.server
import json
import os
import re
import reprlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
from cpp_loader import CppError, CppSavedModel

IMAGE = "tensorflow/serving:2.20.0"
NAMES = {"float32": "DT_FLOAT", "float64": "DT_DOUBLE", "int32": "DT_INT32", "uint8": "DT_UINT8"}
NAMES |= {"O": "DT_STRING", "int64": "DT_INT64", "bool": "DT_BOOL", None: "DT_INVALID"}
# TensorFlow's error codes as HTTP codes; all others are 500.
HTTP_CODES = {3: 400, 4: 504, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503}
POST_PATH = re.compile(r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+))?:(classify|regress|predict)")
GET_PATH = re.compile(r"(?i)/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata)?")
MAX_RANK = 31  # numpy iterates over 32 axes, one of them the rows; TensorFlow has 254
NO_SUCH_PATH = "<HTML><HEAD><TITLE>404 Not Found</TITLE></HEAD><BODY>Not Found</BODY></HTML>"


class Refused(Exception):
    """What becomes `{"error": message}` with this HTTP code."""

    def __init__(self, message, code=400):
        super().__init__(message)
        self.message, self.code = message, code


# --- JSON to tensors and back ---------------------------------------------------------------------


def parse(body):
    """The bytes of a request -> dict. NaN and Infinity are numbers here, as in the real server."""

    def whole(digits):  # beyond 64 bits a whole number is read as a decimal one
        number = int(digits)
        return number if -(2**63) <= number < 2**64 else float(number)

    try:
        request = json.loads(body.decode("utf-8"), parse_int=whole)
    except (ValueError, RecursionError) as error:
        raise Refused(f"The body is no JSON: {error}") from None
    if not isinstance(request, dict):
        raise Refused("The body must be a JSON object.")
    return request


def read_inputs(request, infos):
    """A request and {name: TensorInfo} -> {name: array}, and whether it was in row form."""
    if ("instances" in request) == ("inputs" in request):
        raise Refused("Exactly one of 'instances' and 'inputs' must be there.")
    if "instances" in request:
        return _read_rows(request["instances"], infos), True
    inputs = request["inputs"]
    if not _is_object(inputs):
        inputs = {_only_name(infos): inputs}
    if missing := infos.keys() - inputs.keys():
        raise Refused(f"Missing inputs: {sorted(missing)}")
    return {name: to_array(inputs[name], info.dtype) for name, info in infos.items()}, False


def _read_rows(rows, infos):
    """Row form: one object a row, each with exactly the signature's inputs, all of one shape."""
    if not isinstance(rows, list) or not rows:
        raise Refused("'instances' must be a list that holds something.")
    named = _is_object(rows[0])
    columns = {name: [] for name in infos}
    for k, row in enumerate(rows):
        if _is_object(row) != named:
            raise Refused(f"Row {k}: either all rows are objects, or none is.")
        row = row if named else {_only_name(infos): row}
        if row.keys() != infos.keys():
            raise Refused(f"Row {k} must have exactly these keys: {sorted(infos)}")
        for name, info in infos.items():
            columns[name].append(to_array(row[name], info.dtype))
            if columns[name][k].shape != columns[name][0].shape:
                raise Refused(f"Row {k}, {name}: the rows must have one shape.")
    return {name: np.stack(arrays) for name, arrays in columns.items()}


def _is_object(value):
    return isinstance(value, dict) and not _is_base64(value)


def _is_base64(value):
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _only_name(infos):
    if len(infos) > 1:
        raise Refused(f"The inputs must be named: {sorted(infos)}")
    return next(iter(infos))


def to_array(value, dtype):
    """A JSON value -> array of the signature's type; lists of unequal lengths are refused."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > MAX_RANK:
        raise Refused(f"A list has {len(shape)} levels.")
    leaves = []

    def walk(value, level):
        if isinstance(value, list) != (level < len(shape)):
            raise Refused("A list is too deep, or not deep enough.")
        if not isinstance(value, list):
            leaves.append(_to_element(value, dtype))
        elif len(value) != shape[level]:
            raise Refused(f"A list has {len(value)} elements instead of {shape[level]}.")
        else:
            for element in value:
                walk(element, level + 1)

    walk(value, 0)
    array = np.empty(len(leaves), dtype)
    array[:] = leaves
    return array.reshape(shape)


def _to_element(value, dtype):
    """One JSON value of a tensor: 1 may stand for 1.0, but not 1.0 for 1."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if dtype == "O" and _is_base64(value):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except binascii.Error:
            raise Refused("This is no base64.") from None
    if dtype == "O" and isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError:
            raise Refused("A string holds half a surrogate pair.") from None
    if dtype == "bool" and isinstance(value, bool):
        return value
    if dtype in ("float32", "float64") and (is_whole or isinstance(value, float)):
        kind = np.finfo(dtype)
        limit = 2 ** (kind.nmant + 1) - 1 if is_whole else float(kind.max)
        if abs(value) > limit and np.isfinite(value):
            raise Refused(f"{value} as {dtype} would not be the same number.")
        return value
    if dtype in ("int32", "uint8", "int64") and is_whole:
        limit = 2**63 if dtype == "int64" else 2**31
        if -limit <= value < limit:
            return value
    raise Refused(f"{reprlib.repr(value)} is not of the type {NAMES[dtype]}.")


def write_outputs(outputs, is_row):
    """{name: array} -> the bytes of the reply."""
    if is_row:
        sizes = {name: array.shape[:1] for name, array in outputs.items()}
        if len(set(sizes.values())) != 1 or not all(size and size[0] for size in sizes.values()):
            raise Refused(f"The outputs must have the same first axis: {sizes}")
    values = {name: _to_json(name, array) for name, array in outputs.items()}
    if len(values) == 1:  # a signature with one output loses its name
        (answer,) = values.values()
    elif is_row:
        rows = zip(*values.values(), strict=True)
        answer = [dict(zip(values, row, strict=True)) for row in rows]
    else:
        answer = values
    text = json.dumps({"predictions" if is_row else "outputs": answer}, ensure_ascii=False)
    # Strings that are no UTF-8 make the reply invalid, as they do in the real server.
    return text.encode("utf-8", "surrogateescape")


def _to_json(name, array):
    if array.dtype == object and name.endswith("_bytes"):
        leaves = [{"b64": base64.b64encode(text).decode()} for text in array.flat]
    elif array.dtype == object:
        leaves = [text.decode("utf-8", "surrogateescape") for text in array.flat]
    elif array.dtype == np.float32:  # nine digits give every float32 back
        leaves = [float(f"{value:.9g}") for value in array.flat]
    else:
        leaves = array.ravel().tolist()
    nested = np.empty(array.size, object)
    nested[:] = leaves
    return nested.reshape(array.shape).tolist()


# --- HTTP -----------------------------------------------------------------------------------------


class Models:
    """The models by name and version, loaded when they are first asked for."""

    def __init__(self, folders):
        self.folders = {name: Path(folder) for name, folder in folders.items()}
        self._loaded, self._lock = {}, threading.Lock()

    def versions(self, name):
        """The versions whose folders are there now, lowest first."""
        folder = self.folders.get(name)
        found = folder.iterdir() if folder and folder.is_dir() else []
        return sorted(int(p.name) for p in found if p.name.isdecimal() and p.is_dir())

    def get(self, name, version=None):
        """The model, and its version: the highest, if none is named."""
        with self._lock:
            versions = self.versions(name)
            for key in [k for k in self._loaded if k[0] == name and k[1] not in versions]:
                del self._loaded[key]
            wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            if not versions or version not in (None, *versions):
                raise Refused(f"Servable not found for request: {wanted}", 404)
            version = versions[-1] if version is None else version
            if (name, version) not in self._loaded:
                path = next(p for p in self.folders[name].iterdir() if p.name == str(version))
                self._loaded[name, version] = CppSavedModel(path)
            return self._loaded[name, version], version

    def predict(self, name, version, body):
        """The bytes of a request -> the bytes of the reply."""
        request = parse(body)
        signature = request.get("signature_name", "serving_default")
        if not isinstance(signature, str):
            raise Refused("'signature_name' must be a string.")
        model, _ = self.get(name, version)
        if signature not in model.signatures:
            raise Refused(f'Serving signature name: "{signature}" not found in signature def')
        inputs, is_row = read_inputs(request, model.signatures[signature].inputs)
        return write_outputs(model.run(signature, **inputs), is_row)

    def status(self, name, version):
        """The states of the versions, as in GET /v1/models/NAME."""
        versions = [v for v in self.versions(name) if version in (None, v)]
        if not versions:
            which = "any versions" if version is None else f"version {version}"
            raise Refused(f"Could not find {which} of model {name}", 404)
        states = []
        for v in versions:
            state, code, message = "AVAILABLE", "OK", ""
            try:
                self.get(name, v)
            except (CppError, OSError) as error:
                state, code, message = "END", "UNKNOWN", str(error)
            status = {"error_code": code, "error_message": message}
            states.append({"version": str(v), "state": state, "status": status})
        return json.dumps({"model_version_status": states}).encode()

    def metadata(self, name, version):
        """The signatures, as in GET /v1/models/NAME/metadata; sizes and versions are strings."""
        model, version = self.get(name, version)
        signatures = {}
        for key, signature in model.signatures.items():
            inputs, outputs = ({k: _info(v) for k, v in side.items()} for side in signature)
            signatures[key] = {"inputs": inputs, "outputs": outputs, "defaults": {}}
            signatures[key]["method_name"] = "tensorflow/serving/predict"
        spec = {"name": name, "signature_name": "", "version": str(version)}
        answer = {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}
        return json.dumps(answer).encode()


def _info(info):
    dims = [{"size": str(size), "name": ""} for size in info.shape or ()]
    shape = {"dim": dims, "unknown_rank": info.shape is None}
    return {"dtype": NAMES[info.dtype], "tensor_shape": shape, "name": info.name}


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection; `models` is set by `main`."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave together
    models = None

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, body):
        code, kind = 200, "application/json"
        try:
            reply = self.process(body)
            if reply is None:
                code, kind, reply = 404, "text/html", NO_SUCH_PATH.encode()
        except Refused as error:
            code, reply = error.code, json.dumps({"error": error.message}).encode()
        except CppError as error:
            code = HTTP_CODES.get(error.code, 500)
            reply = json.dumps({"error": error.message}).encode()
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def process(self, body):
        """The reply, or None where nothing has this path."""
        path = urllib.parse.urlsplit(self.path).path
        post, get = POST_PATH.fullmatch(path), GET_PATH.fullmatch(path)
        match = post if self.command == "POST" else get
        if not match:
            if post or get:
                raise Refused(f"Malformed request: {self.command} {path}")
            return None
        name, version, what = match.groups()
        name, version = urllib.parse.unquote(name), int(version) if version else None
        if self.command == "GET":
            return (self.models.metadata if what else self.models.status)(name, version)
        if what.lower() != "predict":
            raise Refused(f"The stand-in has no {what}.", 501)
        return self.models.predict(name, version, body)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    """Many clients may knock at the same moment; Python's own server resets the sixth."""

    request_queue_size = 128


def main(models):
    """Serves on a free port of 127.0.0.1, which it prints, until its standard input closes."""
    Handler.models = Models(json.loads(models))
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()
    imported = {name.partition(".")[0] for name in sys.modules} & {"tensorflow", "keras"}
    if imported:
        sys.exit(f"This process proves nothing, because it imported {sorted(imported)}")


# --- For tests ------------------------------------------------------------------------------------


@contextlib.contextmanager
def serve(models):
    """Yields the URL of a stand-in that serves `models`, and stops it."""
    folders = json.dumps({name: os.fspath(folder) for name, folder in models.items()})
    with tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, __file__, folders],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1"},
        )
        try:
            if not (port := child.stdout.readline().decode().strip()):
                log.seek(0)
                raise RuntimeError(f"The stand-in did not start:\n{log.read().decode()}")
            yield f"http://127.0.0.1:{port}"
        finally:
            child.stdin.close()
            try:
                code = child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                code = child.wait()
            child.stdout.close()
        if code:
            log.seek(0)
            raise RuntimeError(f"The stand-in ended with {code}:\n{log.read().decode()}")


@contextlib.contextmanager
def real_server(models):
    """Yields the URL of a real TensorFlow Serving that serves `models`, or skips the test.

    Tried in this order: the server that `KERAS_MUSIC_SERVING_URL` names (it must serve models of
    these names already, such as those of deploy/), `tensorflow_model_server` on the PATH, Docker.
    """
    import pytest

    with contextlib.ExitStack() as stack:
        if url := os.environ.get("KERAS_MUSIC_SERVING_URL"):
            wait_until_served(url, models, 10)
            host = urllib.parse.urlsplit(url).hostname
            address = os.environ.get("KERAS_MUSIC_SERVING_GRPC", f"{host}:8500")
        elif shutil.which("tensorflow_model_server"):
            url, address = stack.enter_context(_binary(models))
        elif _has_docker():
            url, address = stack.enter_context(_container(models))
        else:
            pytest.skip(
                "no TensorFlow Serving: KERAS_MUSIC_SERVING_URL is not set, there is no "
                "tensorflow_model_server on the PATH, and no Docker engine answers"
            )
        yield url.rstrip("/"), address


def model_config(folders):
    """The text of a --model_config_file."""
    entries = [
        f'config {{ name: "{name}" base_path: "{folder}" model_platform: "tensorflow" }}'
        for name, folder in folders.items()
    ]
    return "model_config_list { " + " ".join(entries) + " }\n"


def wait_until_served(url, names, seconds, is_alive=lambda: True):
    """Returns when all models are AVAILABLE.

    Raises:
        RuntimeError: they are not within this time, or the server ended.
    """
    deadline, last = time.monotonic() + seconds, ""
    for name in names:
        while '"AVAILABLE"' not in last:
            if time.monotonic() > deadline or not is_alive():
                raise RuntimeError(f"{url} does not serve {name}. Its last answer: {last!r}")
            try:
                with urllib.request.urlopen(f"{url}/v1/models/{name}", timeout=2) as reply:
                    last = reply.read().decode()
            except OSError as error:  # urllib's errors are OSErrors
                last = str(error)
            time.sleep(0.1)
        last = ""


@contextlib.contextmanager
def _binary(models):
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        port, grpc_port = (free.getsockname()[1] for free in (one, other))
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder, "models.config"), Path(folder, "log")
        config.write_text(model_config(models))
        command = ["tensorflow_model_server", f"--port={grpc_port}", f"--rest_api_port={port}"]
        with log.open("wb") as file:
            child = subprocess.Popen(
                [*command, f"--model_config_file={config}"], stdout=file, stderr=file
            )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_served(url, models, 60, lambda: child.poll() is None)
            yield url, f"127.0.0.1:{grpc_port}"
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{log.read_text()[-4000:]}") from None
        finally:
            child.kill()
            child.wait()


def _has_docker():
    try:
        return not subprocess.run(["docker", "info"], capture_output=True, timeout=20).returncode
    except (OSError, subprocess.TimeoutExpired):
        return False


@contextlib.contextmanager
def _container(models):
    import pytest

    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        Path(folder, "models.config").write_text(model_config({n: f"/models/{n}" for n in models}))
        command = ["docker", "run", "--rm", "--detach", "--publish", "127.0.0.1::8501"]
        command += ["--publish", "127.0.0.1::8500"]
        command += ["--volume", f"{folder}:/config:ro"]
        for name, path in models.items():
            command += ["--volume", f"{Path(path).resolve()}:/models/{name}:ro"]
        command += [IMAGE, "--model_config_file=/config/models.config"]
        started = subprocess.run(command, capture_output=True, text=True)
        if started.returncode:
            pytest.skip(f"Docker could not start {IMAGE}: {started.stderr[-300:]}")
        container = started.stdout.strip()
        try:
            where = []
            for port in ("8501", "8500"):
                command = ["docker", "port", container, port]
                shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                where.append(shown.split()[0])
            url = "http://" + where[0]
            wait_until_served(url, models, 60)
            yield url, where[1]
        finally:
            subprocess.run(["docker", "rm", "--force", container], capture_output=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
