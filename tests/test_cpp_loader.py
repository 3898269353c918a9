"""The C++ loader gives what Python gives, and fails where TensorFlow Serving fails."""

import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import cpp_loader
import numpy as np
import pytest
from cpp_loader import (
    CppError,
    CppSavedModel,
    Signature,
    TensorInfo,
    read_message,
    read_signatures,
    run_in_fresh_process,
)

tf = pytest.importorskip("tensorflow")

try:
    cpp_loader.library_paths()
except ImportError as error:
    pytest.skip(str(error), allow_module_level=True)

Spec = tf.TensorSpec


class Toy(tf.Module):
    """A signature for each kind of tensor, and the two ways in which a call can fail."""

    def __init__(self):
        super().__init__()
        self.scale = tf.Variable([[0.1, -2.0, 3.5]])

    @tf.function(input_signature=[Spec([None, 3], tf.float32), Spec([], tf.int64)])
    def numbers(self, x, shift):
        return {"scaled": x * self.scale, "shifted": tf.constant([1, 2**40], tf.int64) + shift}

    @tf.function(input_signature=[Spec(None, tf.bool), Spec([2], tf.int32)])
    def flags(self, flag, count):
        return {"inverse": tf.logical_not(flag), "double": 2 * count}

    @tf.function(input_signature=[Spec([None], tf.string)])
    def texts(self, text):
        return {"same": text, "joined": tf.strings.reduce_join(text), "length": tf.size(text)}

    @tf.function(input_signature=[Spec([], tf.int32)])
    def factorial(self, n):
        start = (n, tf.constant(1, tf.int64))
        loop = tf.while_loop(
            lambda k, _: k > 1, lambda k, product: (k - 1, product * tf.cast(k, tf.int64)), start
        )
        return {"product": loop[1]}

    @tf.function(input_signature=[Spec([], tf.float32)])
    def positive(self, x):
        tf.debugging.assert_greater(x, 0.0, "`x` must be > 0.")
        return {"root": tf.sqrt(x)}

    @tf.function(input_signature=[Spec([], tf.float32)], jit_compile=True)
    def compiled(self, x):
        return {"y": x + 1.0}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """Return the module and the directory it is saved in."""
    path = tmp_path_factory.mktemp("toy") / "1"
    module = Toy()
    names = ["numbers", "flags", "texts", "factorial", "positive", "compiled"]
    tf.saved_model.save(module, path, signatures={name: getattr(module, name) for name in names})
    return module, path


GOOD_CALLS = [
    ("numbers", {"x": np.float32([[1, 2, 3], [np.nan, np.inf, 1e-30]]), "shift": np.int64(7)}),
    ("numbers", {"x": np.zeros((0, 3), np.float32), "shift": np.int64(-(2**62))}),
    ("flags", {"flag": np.array([[True, False]]), "count": np.int32([3, -4])}),
    ("flags", {"flag": np.array(True), "count": np.int32([0, 2**30 - 1])}),
    ("texts", {"text": np.array([b"MThd\0\xff\0", b"", b"x" * 1000], dtype=object)}),
    ("factorial", {"n": np.int32(20)}),
    ("positive", {"x": np.float32(2)}),
]
BAD_CALLS = [
    ("positive", {"x": -1.0}),
    ("compiled", {"x": 1.0}),
    ("numbers", {"x": [[1.0, 2.0]], "shift": 0}),
]
LOOSE_CALLS = [
    ("texts", {"text": ["é", b"\xe9\0"]}),
    ("texts", {"text": []}),
    ("factorial", {"n": 5}),
]


@pytest.fixture(scope="module")
def answers(toy):
    """Return the answers to all the calls, which share one process."""
    return run_in_fresh_process(toy[1], GOOD_CALLS + BAD_CALLS + LOOSE_CALLS)


@pytest.mark.parametrize("index", range(len(GOOD_CALLS)))
def test_the_answers_are_those_of_python(toy, answers, index):
    name, inputs = GOOD_CALLS[index]
    expected = getattr(toy[0], name)(**{key: tf.constant(value) for key, value in inputs.items()})
    assert set(answers[index]) == set(expected)
    for key, tensor in expected.items():
        assert (
            answers[index][key].dtype == np.asarray(tensor.numpy()).dtype
            or tensor.dtype == "string"
        )
        assert answers[index][key].shape == tensor.shape
        np.testing.assert_array_equal(answers[index][key], tensor.numpy())


def test_a_string_keeps_every_byte(answers):
    same = answers[4]["same"]
    assert same.dtype == object
    assert same.tolist() == [b"MThd\0\xff\0", b"", b"x" * 1000]
    assert answers[4]["joined"].item() == b"MThd\0\xff\0" + b"x" * 1000


def test_lists_numbers_and_text_are_inputs_too(answers):
    latin, empty, factorial = answers[-len(LOOSE_CALLS) :]
    assert latin["same"].tolist() == ["é".encode(), b"\xe9\0"]
    assert empty["length"] == 0
    assert empty["joined"].item() == b""
    assert factorial["product"] == 120


def test_an_assertion_in_the_graph_is_an_invalid_argument_with_its_message(answers):
    error = answers[len(GOOD_CALLS)]
    assert isinstance(error, CppError)
    assert error.code == 3
    assert "`x` must be > 0." in error.message


def test_xla_is_disabled_as_in_the_server(answers):
    error = answers[len(GOOD_CALLS) + 1]
    assert isinstance(error, CppError)
    assert "XLA compilation" in error.message
    assert "disabled" in error.message


def test_an_error_does_not_spoil_the_calls_that_follow(answers):
    error = answers[len(GOOD_CALLS) + 2]
    assert isinstance(error, CppError)
    assert error.code == 3  # the shapes (1, 2) and (1, 3) do not broadcast
    assert all(isinstance(answer, dict) for answer in answers[-len(LOOSE_CALLS) :])


def test_a_tracked_keras_model_answers_in_python_but_not_in_the_server(tmp_path):
    """Keras writes a second variable: the restore op fills it, the signature reads the first."""
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only a Keras model of the tensorflow backend can be tracked by a tf.Module")
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1, kernel_initializer="ones")])
    tracked, untracked = tf.Module(), tf.Module()
    tracked.model = model
    untracked.variables_of_the_model = [variable.value for variable in model.variables]
    call = tf.function(
        lambda x: {"y": model(x)}, input_signature=[Spec([None, 2], tf.float32, "x")]
    )
    for name, module in {"tracked": tracked, "untracked": untracked}.items():
        tf.saved_model.save(module, tmp_path / name, signatures=call.get_concrete_function())

    python = tf.saved_model.load(tmp_path / "tracked").signatures["serving_default"]
    assert python(x=tf.constant([[1.0, 2.0]]))["y"].numpy().tolist() == [[3.0]]
    calls = [("serving_default", {"x": [[1.0, 2.0]]})]
    (error,) = run_in_fresh_process(tmp_path / "tracked", calls)
    assert isinstance(error, CppError)
    assert error.code == 9
    assert "Could not find variable" in error.message
    (answer,) = run_in_fresh_process(tmp_path / "untracked", calls)
    assert answer["y"].tolist() == [[3.0]]


THREADS_AND_MEMORY = """
import json, resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from cpp_loader import CppError, CppSavedModel

def root(k):
    try:
        return float(model.run("positive", x=float(k))["root"])
    except CppError as error:
        return error.code

model = CppSavedModel(sys.argv[1])
with ThreadPoolExecutor(8) as pool:
    roots = list(pool.map(root, range(-200, 200)))
text, memory = ["x" * 1_000_000], Path("/proc/self/statm")
megabytes = []
for size in (10, 200):  # the first few calls fill the pools of the runtime
    for _ in range(size):
        model.run("texts", text=text)
    pages = int(memory.read_text().split()[1]) if memory.exists() else 0
    megabytes.append(pages * resource.getpagesize() / 1e6)
print(json.dumps({"roots": roots, "grown": megabytes[1] - megabytes[0]}))
"""


@pytest.fixture(scope="module")
def stressed(toy):
    """Return what a process saw that called `run` from 8 threads, then sent 210 MB of text."""
    return json.loads(
        subprocess.run(
            [sys.executable, "-c", THREADS_AND_MEMORY, str(toy[1])],
            env=os.environ | {"PYTHONPATH": str(Path(cpp_loader.__file__).parent)},
            check=True,
            capture_output=True,
            timeout=60,
        ).stdout
    )


def test_every_thread_gets_its_own_answer_or_its_own_error(stressed):
    expected = [3] * 201 + [float(np.sqrt(np.float32(k))) for k in range(1, 200)]
    assert stressed["roots"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_tensors_are_freed(stressed):
    """What is not freed of 200 calls with 1 MB of text in and 2 MB out is at least 200 MB."""
    assert stressed["grown"] < 50


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (("missing", {}), "missing"),
        (("factorial", {"m": 1}), "factorial"),
        (("factorial", {"n": np.nan}), "must be int32"),
        (("factorial", {"n": 2**40}), "must fit in int32"),
        (("factorial", {"n": "1"}), "must be int32"),
        (("texts", {"text": [1]}), "must be O"),
        (("half", {"x": 1.0}), "must be None"),  # a type that is not in `DTYPES`
    ],
)
def test_a_wrong_call_is_refused_before_the_graph_runs(toy, call, message):
    name, inputs = call
    model = CppSavedModel.__new__(CppSavedModel)  # no session: a call that reached it would fail
    half = Signature({"x": TensorInfo("x:0", None, ())}, {})
    model.signatures = read_signatures(toy[1]) | {"half": half}
    with pytest.raises(ValueError, match=message):
        model.run(name, **inputs)


def test_a_process_that_imported_keras_is_no_proof(monkeypatch, tmp_path, toy):
    (tmp_path / "keras.py").touch()
    (tmp_path / "sitecustomize.py").write_text("import keras\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"proves nothing.*keras"):
        run_in_fresh_process(toy[1], [])


def test_a_process_that_dies_shows_its_standard_error(tmp_path, toy):
    path = shutil.copytree(toy[1], tmp_path / "1")
    (path / "variables" / "variables.index").write_bytes(b"no checkpoint")
    with pytest.raises(RuntimeError, match=r"ended with 1:(.|\n)*CppError: code 15"):
        run_in_fresh_process(path, [])  # code 15 is DATA_LOSS


def test_lost_variables_are_found_by_a_call_only(tmp_path, toy):
    """The loader takes a directory without `variables` for a model without variables."""
    path = shutil.copytree(toy[1], tmp_path / "1", ignore=lambda *_: ["variables"])
    factorial, numbers = run_in_fresh_process(path, [GOOD_CALLS[5], GOOD_CALLS[0]])
    assert factorial["product"] == 2432902008176640000
    assert isinstance(numbers, CppError)
    assert numbers.code == 9


def test_signatures_are_read_without_tensorflow(toy):
    signatures = read_signatures(toy[1])
    assert sorted(signatures) == ["compiled", "factorial", "flags", "numbers", "positive", "texts"]
    inputs = signatures["numbers"].inputs
    assert inputs["x"] == TensorInfo("numbers_x:0", "float32", (-1, 3))
    assert inputs["shift"] == TensorInfo("numbers_shift:0", "int64", ())
    assert signatures["flags"].inputs["flag"].shape is None
    assert signatures["texts"].inputs["text"].dtype == "O"
    outputs = {key: info[1:] for key, info in signatures["numbers"].outputs.items()}
    assert outputs == {"scaled": ("float32", (-1, 3)), "shifted": ("int64", (2,))}


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        ("", {}),
        ("08 96 01  12 01 41", {1: [150], 2: [b"A"]}),  # a varint, then bytes
        ("08 01  08 02", {1: [1, 2]}),  # a repeated field
    ],
)
def test_messages_are_read(message, fields):
    assert read_message(bytes.fromhex(message)) == fields


def test_a_message_with_a_field_of_fixed_size_is_refused():
    with pytest.raises(ValueError, match="fixed size"):
        read_message(bytes.fromhex("0d 00 00 80 3f"))


@pytest.mark.parametrize(
    ("installed", "message"),
    [(False, "not installed"), (True, "libtensorflow_framework.* does not exist")],
)
def test_missing_libraries_are_named(monkeypatch, tmp_path, installed, message):
    """An empty package stands for a TensorFlow of another kind, whose libraries differ."""
    spec = ModuleSpec("tensorflow", None, is_package=True)
    spec.submodule_search_locations.append(str(tmp_path))
    found = spec if installed else None
    monkeypatch.setattr(cpp_loader.importlib.util, "find_spec", lambda name: found)
    with pytest.raises(ImportError, match=message):
        cpp_loader.library_paths()
