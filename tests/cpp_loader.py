"""Run a SavedModel as TensorFlow Serving does, without TensorFlow's Python.

`tf.saved_model.load` proves too little: it rebuilds Python objects from the object graph, of which
the server knows nothing. TensorFlow Serving imports one graph, runs its restore operation, then the
signatures, by the names of their tensors. A variable that the restore operation forgets is an error
in the server only. So this file loads a model with the server's own C++ code, through TensorFlow's
C API and ctypes, in a process that imports neither tensorflow nor keras, with XLA compilation
disabled as it is by default in the server. It does no HTTP, gRPC, batching or warm-up.

Conventions: a tensor is a numpy array; a string tensor is an object array of `bytes`. Inputs may be
lists, numbers, str or bytes too, if no value changes its kind (float for int is refused)."""

import ctypes
import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict, namedtuple
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int64, c_void_p
from pathlib import Path

import numpy as np

# The types of TensorFlow's `DataType` that signatures use; "O", a Python object, stands for string.
DTYPES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 7: "O", 9: "int64", 10: "bool"}
STRING_SIZE = 24  # sizeof(TF_TString)

# Functions of tensorflow/c/c_api.h: a letter for the result, then one an argument (see `_TYPES`).
_FUNCTIONS = """
    TF_NewStatus:p  TF_DeleteStatus:-p  TF_GetCode:ip  TF_Message:tp  TF_NewSessionOptions:p
    TF_DeleteSessionOptions:-p  TF_LoadSessionFromSavedModel:ppptpippp  TF_NewGraph:p
    TF_GraphOperationByName:ppt  TF_SessionRun:-ppppippipipp
    TF_AllocateTensor:pipis  TF_DeleteTensor:-p  TF_TensorData:pp  TF_TensorType:ip
    TF_NumDims:ip  TF_Dim:spi  TF_StringInit:-p  TF_StringCopy:-pts
    TF_StringGetDataPointer:pp  TF_StringGetSize:sp
"""
_TYPES = {"-": None, "p": c_void_p, "t": c_char_p, "i": c_int, "s": c_int64}  # text, size

Signature = namedtuple("Signature", "inputs outputs")  # both {argument name: TensorInfo}
TensorInfo = namedtuple("TensorInfo", "name dtype shape")  # shape: a tuple with -1, or None


class CppError(RuntimeError):
    """An error status: `code` is 3 for INVALID_ARGUMENT, 9 for FAILED_PRECONDITION, and so on."""

    def __init__(self, code, message):
        super().__init__(f"code {code}: {message}")
        self.code, self.message = code, message


class _Output(ctypes.Structure):  # TF_Output: one of the tensors that an operation gives
    _fields_ = [("operation", c_void_p), ("index", c_int)]


def library_paths():
    """Return the paths of libtensorflow_framework and libtensorflow_cc, or raise ImportError."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        raise ImportError("tensorflow is not installed")
    folder = Path(spec.submodule_search_locations[0])
    ending = ".2.dylib" if sys.platform == "darwin" else ".so.2"
    paths = [folder / f"libtensorflow_{name}{ending}" for name in ("framework", "cc")]
    for path in paths:
        if not path.exists():
            raise ImportError(f"{path} does not exist")
    return paths


@functools.cache
def _load_library():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for path in library_paths():  # the second uses symbols of the first
        library = ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
    for name, letters in (item.split(":") for item in _FUNCTIONS.split()):
        function = getattr(library, name)
        function.restype, *function.argtypes = [_TYPES[letter] for letter in letters]
    # tensorflow::DisableXlaCompilation() is no part of the C API: other versions may lack it.
    getattr(library, "_ZN10tensorflow21DisableXlaCompilationEv", lambda: None)()
    return library


@contextmanager
def _status(library):
    """Give a new status to the call inside, then raise the error that it holds."""
    status = library.TF_NewStatus()
    try:
        yield status
        if code := library.TF_GetCode(status):
            raise CppError(code, library.TF_Message(status).decode(errors="replace"))
    finally:
        library.TF_DeleteStatus(status)


def _varint(data, position):
    value = shift = 0
    while data[position] & 128:
        value |= (data[position] & 127) << shift
        position, shift = position + 1, shift + 7
    return value | data[position] << shift, position + 1


def read_message(data):
    """Return `{field number: [values]}` of a protobuf message: ints, or bytes for all else.

    Example: the bytes `08 96 01 12 01 41` are `{1: [150], 2: [b"A"]}`.
    """
    fields, position = defaultdict(list), 0
    while position < len(data):
        key, position = _varint(data, position)
        value, position = _varint(data, position)
        if key & 7 == 2:  # the value is the length of the bytes that follow
            value, position = data[position : position + value], position + value
        elif key & 7:
            raise ValueError(f"No signature has fields of fixed size. Received: key {key}")
        fields[key >> 3].append(value)
    return fields


def _read_map(entries):
    return {e[1][0].decode(): read_message(e[2][0]) for e in map(read_message, entries)}


def _read_info(info):
    shape = read_message(b"".join(info[3]))
    sizes = [sum(read_message(dim)[1]) for dim in shape[2]]  # a field that is absent is zero
    sizes = tuple(size - (1 << 64) if size >> 63 else size for size in sizes)  # two's complement
    return TensorInfo(info[1][0].decode(), DTYPES.get(sum(info[2])), None if shape[3] else sizes)


def read_signatures(path):
    """Return `{name: Signature}` of a SavedModel directory (see saved_model.proto)."""
    saved_model = read_message(Path(path, "saved_model.pb").read_bytes())
    signatures = {}
    for name, fields in _read_map(read_message(saved_model[2][0])[5]).items():
        if not name.startswith("__"):  # the initializer is stored as a signature
            infos = [_read_map(fields[number]).items() for number in (1, 2)]
            signatures[name] = Signature(*({k: _read_info(v) for k, v in pair} for pair in infos))
    return signatures


def as_array(value):
    """Return `value` as an array, text as objects: numpy's own strings cut b"a\\0" to b"a"."""
    texts = np.array(value, dtype=object)
    if not any(isinstance(text, (str, bytes)) for text in texts.flat):
        return np.asarray(value)
    texts.flat = [text.encode() if isinstance(text, str) else text for text in texts.flat]
    return texts


def _convert(name, value, dtype):
    array = as_array(value)
    if not array.size and dtype:
        return np.empty(array.shape, dtype)  # the type of an empty list says nothing
    is_text, wants_text = array.dtype == object, dtype == "O"
    if not dtype or is_text != wants_text or not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"`{name}` must be {dtype}. Received: {value!r}")
    result = array.astype(dtype, order="C")
    if result.dtype.kind == "i" and not np.array_equal(result, array):
        raise ValueError(f"`{name}` must fit in {dtype}. Received: {value!r}")
    return result


class CppSavedModel:
    """A SavedModel in a C++ session that lives as long as the process; threads may share it."""

    def __init__(self, path):
        self.signatures = read_signatures(path)
        self._library = library = _load_library()
        self._graph, options = library.TF_NewGraph(), library.TF_NewSessionOptions()
        tags = (c_char_p * 1)(b"serve")
        arguments = (options, None, os.fsencode(path), tags, 1, self._graph, None)
        try:
            with _status(library) as status:
                self._session = library.TF_LoadSessionFromSavedModel(*arguments, status)
        finally:
            library.TF_DeleteSessionOptions(options)

    def run(self, signature="serving_default", /, **inputs):
        """Return `{output name: array}`, or raise CppError (the graph fails) or ValueError."""
        wanted = self.signatures.get(signature)
        if wanted is None or set(wanted.inputs) != set(inputs):
            raise ValueError(f"Received: {signature}({list(inputs)}). Known: {self.signatures}")
        arrays = [_convert(name, inputs[name], info.dtype) for name, info in wanted.inputs.items()]
        feeds = [self._to_tensor(array) for array in arrays]
        fetches = (c_void_p * len(wanted.outputs))()
        sources, targets = map(self._outputs, wanted)
        feed = (sources, (c_void_p * len(feeds))(*feeds), len(feeds))
        arguments = (self._session, None, *feed, targets, fetches, len(fetches), None, 0, None)
        try:
            with _status(self._library) as status:
                self._library.TF_SessionRun(*arguments, status)
            return dict(zip(wanted.outputs, map(self._from_tensor, fetches), strict=True))
        finally:
            for tensor in filter(None, [*feeds, *fetches]):
                self._library.TF_DeleteTensor(tensor)  # with its strings

    def _outputs(self, infos):
        pairs = [info.name.split(":") for info in infos.values()]
        find = functools.partial(self._library.TF_GraphOperationByName, self._graph)
        return (_Output * len(pairs))(*[_Output(find(name.encode()), int(k)) for name, k in pairs])

    def _string_places(self, tensor, array):
        """Return the addresses of a tensor's strings, which lie side by side."""
        start, count = self._library.TF_TensorData(tensor), array.size * (array.dtype == object)
        return [start + STRING_SIZE * k for k in range(count)]

    def _to_tensor(self, array):
        number = next(k for k, dtype in DTYPES.items() if array.dtype == dtype)
        size = STRING_SIZE * array.size if array.dtype == object else array.nbytes
        dims = (c_int64 * array.ndim)(*array.shape)
        tensor = self._library.TF_AllocateTensor(number, dims, array.ndim, size)
        if array.dtype != object:
            ctypes.memmove(self._library.TF_TensorData(tensor), array.ctypes.data, size)
        for place, text in zip(self._string_places(tensor, array), array.flat, strict=False):
            self._library.TF_StringInit(place)
            self._library.TF_StringCopy(place, text, len(text))
        return tensor

    def _from_tensor(self, tensor):
        library = self._library
        shape = [library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor))]
        array = np.empty(shape, DTYPES[library.TF_TensorType(tensor)])
        if array.dtype != object:
            ctypes.memmove(array.ctypes.data, library.TF_TensorData(tensor), array.nbytes)
        for k, place in enumerate(self._string_places(tensor, array)):
            start, length = library.TF_StringGetDataPointer(place), library.TF_StringGetSize(place)
            array.flat[k] = ctypes.string_at(start, length)
        return array


def _encode(array):
    """Return an array as JSON. Floats survive exactly; latin-1 has a letter for every byte."""
    values = array.ravel().tolist()
    values = [text.decode("latin-1") for text in values] if array.dtype == object else values
    return {"dtype": array.dtype.str, "shape": array.shape, "values": values}


def _decode(fields):
    array, values = np.empty(fields["shape"], fields["dtype"]), fields["values"]
    array.flat = [text.encode("latin-1") for text in values] if array.dtype == object else values
    return array


def run_in_fresh_process(path, calls, timeout=60):
    """Run calls in a new process that imports neither tensorflow nor keras.

    Args:
        path: directory that holds `saved_model.pb`.
        calls: list of `(signature, {input name: array, list, number, str or bytes})`.
        timeout: seconds for the whole process.

    Returns:
        For each call a dict of arrays, or the `CppError` that it raised.

    Raises:
        ImportError: TensorFlow is not installed.
        RuntimeError: the process died or imported tensorflow or keras, with its standard error.
    """
    library_paths()
    calls = [(name, {k: _encode(as_array(v)) for k, v in inputs.items()}) for name, inputs in calls]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "calls.json")
        file.write_text(json.dumps([os.fspath(path), calls]))
        options = {"stderr": subprocess.PIPE, "errors": "replace", "timeout": timeout}
        options["env"] = os.environ | {"CUDA_VISIBLE_DEVICES": "-1"}
        child = subprocess.run([sys.executable, __file__, file], check=False, **options)
        if child.returncode:
            raise RuntimeError(f"The process ended with {child.returncode}:\n{child.stderr}")
        answers = json.loads(file.read_text())
    return [
        CppError(*error) if error else {name: _decode(value) for name, value in outputs.items()}
        for error, outputs in answers
    ]


def main(file):
    """Replace the calls in a JSON file, as `run_in_fresh_process` writes it, by their answers."""
    path, calls = json.loads(Path(file).read_text())
    model, answers = CppSavedModel(path), []
    for signature, inputs in calls:
        try:
            outputs = model.run(signature, **{name: _decode(v) for name, v in inputs.items()})
            answers.append((None, {name: _encode(array) for name, array in outputs.items()}))
        except CppError as error:
            answers.append(((error.code, error.message), None))
    imported = {name.partition(".")[0] for name in sys.modules} & {"tensorflow", "keras"}
    if imported:
        raise RuntimeError(f"This process proves nothing, because it imported {sorted(imported)}")
    Path(file).write_text(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
