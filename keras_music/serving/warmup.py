"""Requests that a server answers before its first client asks, and a test that they succeed.

A graph is slow the first time: memory is reserved, kernels are chosen, executors are built. So
TensorFlow Serving runs a file of requests, if there is one beside the graph, when it loads a
version. If one fails, the version is not served, and a server that is starting stops. `self_test`
finds that out before: it opens the graph as a server does (`lint` only reads it) and runs them.

A message of Protocol Buffers is a list of (field number, value). Text, bytes and messages are
written as their length and their bytes, and a map as one message {1: key, 2: value} an entry:

    PredictionLog {6: PredictLog {1: PredictRequest {
        1: ModelSpec {1: "bach", 3: "score"},          the model, the signature
        2: {1: "tokens", 2: TensorProto}, ...}}}       an entry for each input

So the table `FIELDS` replaces the package tensorflow-serving-api. gRPC uses the same messages.

Conventions: a request is a pair (signature, {input name: array}); they are counted from 1. Strings
are arrays of objects. `folder` is the folder of one version, with its saved_model.pb.

What this file does not do: no gRPC, no HTTP, no classify, regress or session-run records; it tests
on the CPU, with the XLA of this process (`lint` finds what a server would refuse to compile).

Reference: TensorFlow Serving, "SavedModel Warmup", and its apis/*.proto; here without most fields.
"""

from __future__ import annotations

import contextlib
import functools
import pathlib

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.framework.tensor_pb2 import TensorProto

from keras_music.messages import message_classes
from keras_music.serving import lint

FILE = pathlib.PurePath("assets.extra", "tf_serving_warmup_requests")
MAX_REQUESTS = 1000  # with more, TensorFlow Serving refuses the whole version
PACKAGE = "tensorflow.serving"
FIELDS = {  # message: (field, number, type); "*" means that the field may occur many times
    "ModelSpec": [("name", 1, "string"), ("signature_name", 3, "string")],
    "Entry": [("key", 1, "string"), ("value", 2, "bytes")],  # the value is a TensorProto
    "PredictRequest": [("model_spec", 1, "ModelSpec"), ("inputs", 2, "Entry*")],
    "PredictResponse": [("outputs", 1, "Entry*"), ("model_spec", 2, "ModelSpec")],
    "PredictLog": [("request", 1, "PredictRequest"), ("response", 2, "PredictResponse")],
    "PredictionLog": [("predict_log", 6, "PredictLog")],
}
# What is raised for a graph, a request or a file that is not as it should be.
FAILURES = (tf.errors.OpError, message.DecodeError, OSError, ValueError, TypeError, KeyError)


_, _, PredictRequest, PredictResponse, _, PredictionLog = message_classes(PACKAGE, FIELDS)


def predict_request(model, signature, inputs):
    """Makes the message with which a client asks a server.

    Args:
      model: the model's name on the server; "" in a warm-up file, which lies beside its model.
      signature: the signature's name, such as "generate".
      inputs: {input name: array}.

    Example:
      >>> request = predict_request("bach", "score", {"tokens": np.array([[1, 5]], np.int32)})
      >>> request.model_spec.signature_name, from_entries(request.inputs)
      ('score', {'tokens': array([[1, 5]], dtype=int32)})
    """
    model_spec = {"name": model, "signature_name": signature}
    return PredictRequest(model_spec=model_spec, inputs=to_entries(inputs))


def to_entries(arrays):
    """{name: array} as the entries of a request's `inputs` or a response's `outputs`."""
    entries = []
    for name, array in arrays.items():
        is_text = np.asarray(array).dtype.kind in "OSU"  # an empty array of objects shows nothing
        proto = tf.make_tensor_proto(np.asarray(array), tf.string if is_text else None)
        entries.append({"key": name, "value": proto.SerializeToString()})
    return entries


def from_entries(entries):
    """The entries of a request's `inputs` or a response's `outputs` as {name: array}."""
    return {entry.key: tf.make_ndarray(TensorProto.FromString(entry.value)) for entry in entries}


def warmup_requests(functions, *, example_ids=(1,), example_text="", num_tokens=8):
    """Small requests for every signature: one row, then two of different lengths and settings.

    Args:
      functions: {signature: concrete function}, those of this package, exported or loaded.
      example_ids: a row of ids that begins with START, such as [1, 5, 6].
      example_text: a prompt for models of text.
      num_tokens: how many ids to draw. The export's limit holds for it and for the examples.

    Returns:
      List of (signature, {input name: array}). A second name of one function (`serving_default`)
      is asked with one row only.
    """
    ids = list(example_ids)
    prompts = [[ids[0]] + [0] * (len(ids) - 1), ids]
    rows = {  # the first row is the shortest and greedy, the second uses every setting
        **{"prompt": prompts, "tokens": prompts, "token": [ids[0], ids[-1]]},
        **{"num_tokens": [num_tokens] * 2, "temperature": [0.0, 1.0], "top_k": [0, 5]},
        **{"top_p": [1.0, 0.9], "seed": [1, 2], "row": [0, 0]},
        **{"pitch_classes": [[1] * 12, [1, 0] * 6], "lowest_pitch": [0, 40]},
        **{"highest_pitch": [127, 80], "max_notes_per_second": [0, 8], "max_repeats": [0, 2]},
    }
    tables = {False: rows, True: {"prompt": [example_text[:1], example_text]}}
    requests, seen = [], set()
    for signature, function in functions.items():
        args, kwargs = function.structured_input_signature
        specs = {spec.name: spec for spec in tf.nest.flatten(args)} | kwargs
        for batch in (1,) if function in seen else (1, 2):
            example = functools.partial(_example, tables, batch)
            requests.append((signature, {name: example(name, specs[name]) for name in specs}))
        seen.add(function)
    return requests


def _example(tables, batch, name, spec):
    """The first rows of one input; a row alone needs no padding."""
    rows, dtype = tables[spec.dtype == tf.string], spec.dtype.as_numpy_dtype
    if name.startswith("state_"):
        return np.zeros([batch, *spec.shape[1:]], dtype)
    if name not in rows:
        raise ValueError(
            f"`functions` must have inputs of known names and types. Received: {name}, {spec}. "
            "Write a request for it by hand, and give all requests to `write_warmup`."
        )
    values = np.array(rows[name][:batch], dtype)
    is_padded = values.ndim == 2 and spec.shape[1] is None
    return values[:, :1] if batch == 1 and is_padded else values


def write_warmup(folder, requests):
    """Writes the requests that a server runs at its start; more than 1,000 are a ValueError."""
    if len(requests) > MAX_REQUESTS:
        raise ValueError(
            f"`requests` must be at most {MAX_REQUESTS:,}, or the server refuses the version. "
            f"Received: {len(requests):,}. A few of different shapes are enough."
        )
    file = pathlib.Path(folder) / FILE
    file.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(file)) as writer:
        for signature, inputs in requests:
            log = {"request": predict_request("", signature, inputs)}
            writer.write(PredictionLog(predict_log=log).SerializeToString())


def read_warmup(folder):
    """Returns the list that `write_warmup` was given; raises one of `FAILURES` if it cannot."""
    requests = []
    with _session() as session:
        dataset = tf.data.TFRecordDataset(str(pathlib.Path(folder) / FILE))
        record = tf.compat.v1.data.make_one_shot_iterator(dataset).get_next()
        with contextlib.suppress(tf.errors.OutOfRangeError):  # there is no further record
            while True:
                request = PredictionLog.FromString(session.run(record)).predict_log.request
                signature = request.model_spec.signature_name or "serving_default"
                requests.append((signature, from_entries(request.inputs)))
    return requests


def self_test(folder):
    """Runs the warm-up requests of a SavedModel as a server would, in this process.

    `tf.saved_model.load` would rebuild Python's objects. This imports one graph, runs its restore
    operation and feeds tensors by name, so a variable that is never restored shows.

    Returns:
      List of str, a sentence for each problem; empty if all requests succeed.
    """
    doing, problems = f"The file {FILE} cannot be read", []
    try:
        requests = read_warmup(folder)
        doing = "The graph cannot be loaded"
        with _session() as session:
            signatures = _restore(session, pathlib.Path(folder))
            for number, (signature, inputs) in enumerate(requests, 1):
                try:
                    _run(session, signatures, signature, inputs)
                except FAILURES as error:
                    request = f"The warm-up request {number} (signature {signature})"
                    problems.append(f"{request} fails: {_sentence(error)}")
    except FAILURES as error:
        problems.append(f"{doing}: {_sentence(error)}")
    return problems


@contextlib.contextmanager
def _session():
    """A session with a graph of its own, whatever graph the caller may be building."""
    config = tf.compat.v1.ConfigProto(device_count={"GPU": 0}, allow_soft_placement=True)
    with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
        yield session


def _restore(session, folder):
    """Imports the graph, fills its variables and tables; {signature: SignatureDef}."""
    if (meta_graph := lint.read_meta_graph(folder)) is None:
        raise ValueError("None has the tag 'serve'.")
    tf.graph_util.import_graph_def(meta_graph.graph_def, name="")
    variables, saver = folder / "variables" / "variables", meta_graph.saver_def
    files, assets = meta_graph.asset_file_def, folder / "assets"
    feeds = {file.tensor_info.name: str(assets / file.filename) for file in files}
    if variables.with_suffix(".index").exists():
        session.run(saver.restore_op_name, feeds | {saver.filename_tensor_name: str(variables)})
    start = meta_graph.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name
    if start:
        session.run(start, feeds)
    return {k: v for k, v in meta_graph.signature_def.items() if not k.startswith("__")}


def _run(session, signatures, signature, inputs):
    """Asks one request; the types are compared, because Python's session would convert them."""
    if signature not in signatures:
        raise ValueError(f"The model has only {', '.join(sorted(signatures))}.")
    wanted = signatures[signature].inputs
    types = {name: tf.as_dtype(info.dtype).name for name, info in wanted.items()}
    received = {name: tf.as_dtype(array.dtype).name for name, array in inputs.items()}
    if types != received:
        raise ValueError(f"It must have the inputs {types}. Received: {received}.")
    outputs = {name: info.name for name, info in signatures[signature].outputs.items()}
    session.run(outputs, {wanted[name].name: array for name, array in inputs.items()})


def _sentence(error):
    """The first line of an error, in TensorFlow's words before Python put its own around them."""
    if isinstance(error, tf.errors.OpError) and isinstance(error.__context__, type(error)):
        error = error.__context__
    lines = str(getattr(error, "message", error)).splitlines()
    return next((line.strip() for line in lines if "root error(s) found" not in line), repr(error))
