"""The bytes of a warm-up file, the requests in it, and what the self-test finds."""

import functools
import importlib
import logging
import shutil
import struct
import threading
from concurrent import futures

import cpp_loader
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_music as km
from keras_music.serving import warmup

TEXT = km.tokenizers.CharTokenizer("abc é\n")
MUSIC = km.tokenizers.PerformanceTokenizer(velocity_bins=4)
EXAMPLES = {"example_ids": [1, 5, 6], "example_text": "abé"}

load = functools.cache(km.load)


def export(tokenizer, path):
    keras.utils.set_random_seed(0)
    model = km.build_model(tokenizer.vocab_size, "rnn", embedding_dim=4, units=8, layers=1)
    folder = km.export(km.OneStep(model, tokenizer), path)
    requests = warmup.warmup_requests(load(folder).signatures, **EXAMPLES)
    warmup.write_warmup(folder, requests)
    return folder


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    return export(MUSIC, tmp_path_factory.mktemp("music"))


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return export(TEXT, tmp_path_factory.mktemp("text"))


def same(ours, theirs):
    """Two lists of requests: the same names, shapes, types and values."""
    assert [signature for signature, _ in ours] == [signature for signature, _ in theirs]
    for (_, mine), (_, other) in zip(ours, theirs, strict=True):
        assert list(mine) == list(other)
        for name in mine:
            assert mine[name].dtype == other[name].dtype
            np.testing.assert_array_equal(mine[name], other[name], strict=True)


# ---- The bytes -----------------------------------------------------------------------------------

REQUEST = [("score", {"tokens": np.array([[5]], np.int32)})]
RECORD = bytes.fromhex(
    "32 26"  # PredictionLog, field 6: predict_log, of 38 bytes
    "  0a 24"  # PredictLog, field 1: request
    "    0a 07"  # PredictRequest, field 1: model_spec
    "      1a 05 73 63 6f 72 65"  # ModelSpec, field 3: signature_name, "score"
    "    12 19"  # PredictRequest, field 2: inputs, one entry of the map
    "      0a 06 74 6f 6b 65 6e 73"  # field 1: the key, "tokens"
    "      12 0f"  # field 2: the value, a TensorProto
    "        08 03"  # field 1: dtype, 3 is DT_INT32
    "        12 08"  # field 2: tensor_shape
    "          12 02 08 01"  # dim, of size 1
    "          12 02 08 01"  # dim, of size 1
    "        3a 01 05"  # field 7: int_val, the number 5
)


def test_a_record_byte_by_byte(tmp_path):
    warmup.write_warmup(tmp_path, REQUEST)
    data = (tmp_path / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    assert struct.unpack("<Q", data[:8]) == (len(RECORD),)  # then 4 bytes of checksum
    assert data[12:-4] == RECORD


def test_field_numbers_are_those_that_the_server_reads():
    read = cpp_loader.read_message
    request = warmup.predict_request("bach", "step", {"a": np.zeros(2, bool), "b": np.int64(1)})
    fields = read(request.SerializeToString())
    assert set(fields) == {1, 2}
    assert read(fields[1][0]) == {1: [b"bach"], 3: [b"step"]}
    first, second = (read(entry) for entry in fields[2])
    assert (first[1], second[1]) == ([b"a"], [b"b"])
    assert read(first[2][0])[1] == [10]  # DT_BOOL
    assert read(second[2][0])[1] == [9]  # DT_INT64
    response = warmup.PredictResponse(outputs=warmup.to_entries({"y": np.zeros(2)}))
    assert set(read(response.SerializeToString())) == {1}


def test_what_goes_in_comes_out(tmp_path):
    arrays = {
        "text": np.array(["é", "", b"\xff\x00", "a\0"], object),
        "fixed": np.array([["ab", "c"]]),  # NumPy's own strings, of one width
        "long": np.array([-(2**63), 2**63 - 1]),
        "half": np.array([[0.5], [np.nan]], np.float16),
        "flag": np.array(True),
        "none": np.zeros((0, 3), np.int32),
        "no_text": np.zeros([0], object),
    }
    warmup.write_warmup(tmp_path, [("generate", arrays), ("empty", {})])
    bytes_of = {"text": [b"\xc3\xa9", b"", b"\xff\x00", b"a\0"], "fixed": [[b"ab", b"c"]]}
    expected = arrays | {name: np.array(value, object) for name, value in bytes_of.items()}
    same(warmup.read_warmup(tmp_path), [("generate", expected), ("empty", {})])


def test_a_request_without_a_signature_asks_for_the_default(tmp_path):
    warmup.write_warmup(tmp_path, [("", {})])
    assert warmup.read_warmup(tmp_path) == [("serving_default", {})]


def test_a_thousand_requests_and_no_more(tmp_path):
    warmup.write_warmup(tmp_path, [("score", {})] * 1000)
    assert len(warmup.read_warmup(tmp_path)) == 1000
    with pytest.raises(ValueError, match="`requests` must be at most 1,000.* Received: 1,001"):
        warmup.write_warmup(tmp_path, [("score", {})] * 1001)


def test_the_messages_are_those_of_tensorflow_serving_api(text):
    """An outside oracle, where it is installed; both sets of classes live in one process."""
    try:
        log = importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
        predict = importlib.import_module("tensorflow_serving.apis.predict_pb2")
    except ImportError as error:
        pytest.skip(str(error))
    requests = warmup.read_warmup(text)
    records = tf.data.TFRecordDataset(str(text / warmup.FILE)).as_numpy_iterator()
    for record, (signature, inputs) in zip(records, requests, strict=True):
        request = log.PredictionLog.FromString(record).predict_log.request
        assert request.model_spec.signature_name == signature
        theirs = {name: tf.make_ndarray(request.inputs[name]) for name in inputs}
        same([(signature, inputs)], [(signature, theirs)])
        assert request.SerializeToString(deterministic=True) == (
            warmup.predict_request("", signature, dict(sorted(inputs.items()))).SerializeToString()
        )
    response = predict.PredictResponse()
    response.model_spec.version.value = 3  # a field that ours do not know
    response.outputs["y"].CopyFrom(tf.make_tensor_proto([1.5, 2.5]))
    ours = warmup.PredictResponse.FromString(response.SerializeToString())
    assert warmup.from_entries(ours.outputs)["y"].tolist() == [1.5, 2.5]


# ---- The requests --------------------------------------------------------------------------------


def function(*specs):
    """A concrete function with these inputs, as an export has them."""
    return tf.function(lambda *inputs: {"y": inputs[0]}).get_concrete_function(*specs)


def spec(name, shape, dtype):
    return tf.TensorSpec(shape, dtype, name=name)


def test_one_row_and_two_rows_of_everything():
    controls = [spec("temperature", [None], tf.float32), spec("top_k", [None], tf.int32)]
    controls += [spec("top_p", [None], tf.float32), spec("seed", [None], tf.int64)]
    generate = function(
        spec("prompt", [None, None], tf.int32), spec("num_tokens", [None], tf.int32), *controls
    )
    step = function(spec("token", [None], tf.int32), spec("state_0", [None, 2], tf.float32))
    describe = function(spec("row", [None], tf.int32))
    functions = {"generate": generate, "step": step, "describe": describe}
    functions["serving_default"] = generate
    requests = warmup.warmup_requests(functions, example_ids=[1, 5, 6], num_tokens=4)
    one = {"prompt": [[1]], "num_tokens": [4], "temperature": [0.0], "top_k": [0]}
    one |= {"top_p": [1.0], "seed": [1]}
    two = {"prompt": [[1, 0, 0], [1, 5, 6]], "num_tokens": [4, 4], "temperature": [0.0, 1.0]}
    two |= {"top_k": [0, 5], "top_p": [1.0, np.float32(0.9)], "seed": [1, 2]}
    assert [(name, {k: v.tolist() for k, v in inputs.items()}) for name, inputs in requests] == [
        ("generate", one),
        ("generate", two),
        ("step", {"token": [1], "state_0": [[0, 0]]}),
        ("step", {"token": [1, 6], "state_0": [[0, 0], [0, 0]]}),
        ("describe", {"row": [0]}),
        ("describe", {"row": [0, 0]}),
        ("serving_default", one),
    ]
    assert requests[1][1]["seed"].dtype == np.int64


def test_prompts_of_text_and_inputs_that_nobody_knows():
    generate = function(spec("prompt", [None], tf.string))
    requests = warmup.warmup_requests({"generate": generate}, example_text="abé")
    assert [inputs["prompt"].tolist() for _, inputs in requests] == [["a"], ["a", "abé"]]
    for unknown in (spec("tempo", [None], tf.int32), spec("tokens", [None], tf.string)):
        with pytest.raises(ValueError, match=f"known names and types. Received: {unknown.name}"):
            warmup.warmup_requests({"f": function(unknown)}, example_ids=[1])


@pytest.mark.parametrize("name", ["music", "text"])
def test_a_fresh_export_answers_its_own_requests(name, request):
    """In TensorFlow's C++ as in Python, which is what a server does at its start."""
    folder = request.getfixturevalue(name)
    assert warmup.self_test(folder) == []
    requests = warmup.read_warmup(folder)
    signatures = cpp_loader.read_signatures(folder)
    assert {signature for signature, _ in requests} == set(signatures)
    answers = cpp_loader.run_in_fresh_process(folder, requests)
    loaded = load(folder).signatures
    for (signature, inputs), answer in zip(requests, answers, strict=True):
        assert set(answer) == set(signatures[signature].outputs)
        tensors = {key: tf.constant(value) for key, value in inputs.items()}
        for key, expected in loaded[signature](**tensors).items():
            if expected.dtype.is_floating:
                np.testing.assert_allclose(answer[key], expected, atol=1e-5)
            else:
                np.testing.assert_array_equal(answer[key], expected)


# ---- The self-test -------------------------------------------------------------------------------

X = spec("x", [None, 3], tf.float32)
GOOD = {"x": np.ones((2, 3), np.float32)}


def save(folder, call, requests, **tracked):
    module = tf.Module()
    for name, value in tracked.items():
        setattr(module, name, value)
    concrete = tf.function(call, input_signature=[X]).get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": concrete})
    warmup.write_warmup(folder, requests)
    return folder


@pytest.fixture
def dense():
    return keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])


def test_a_keras_model_is_found_if_it_is_tracked_and_not_if_its_variables_are(tmp_path, dense):
    """The trap: both answer in Python, and only one in a server."""
    requests = [("serving_default", GOOD)]
    good = save(
        tmp_path / "good",
        lambda x: {"y": dense(x)},
        requests,
        weights=[variable.value for variable in dense.variables],
    )
    assert warmup.self_test(good) == []
    bad = save(tmp_path / "bad", lambda x: {"y": dense(x)}, requests, model=dense)
    python = tf.saved_model.load(str(bad)).signatures["serving_default"]
    assert python(x=tf.constant(GOOD["x"]))["y"].shape == (2, 2)
    (problem,) = warmup.self_test(bad)
    assert problem.startswith("The warm-up request 1 (signature serving_default) fails: ")
    assert "Could not find variable" in problem


def test_a_request_that_fails_is_named_with_the_words_of_its_assertion(tmp_path):
    def call(x):
        check = tf.debugging.Assert(tf.reduce_all(x < 9), ["`x` must be < 9. Received:", x])
        with tf.control_dependencies([check]):
            return {"y": tf.identity(x)}

    large = ("serving_default", {"x": np.full((1, 3), 10, np.float32)})
    folder = save(tmp_path / "1", call, [("serving_default", GOOD), large])
    assert warmup.self_test(folder) == [
        "The warm-up request 2 (signature serving_default) fails: assertion failed: "
        "[`x` must be < 9. Received:] [[10 10 10]]"
    ]


@pytest.mark.parametrize(
    "request_, words",
    [
        (("step", GOOD), "The model has only serving_default."),
        (("serving_default", {}), "It must have the inputs {'x': 'float32'}. Received: {}."),
        (
            ("serving_default", {"x": np.ones((2, 3))}),
            "It must have the inputs {'x': 'float32'}. Received: {'x': 'float64'}.",
        ),
        (
            ("serving_default", {"x": np.ones((2, 4), np.float32)}),
            "Cannot feed value of shape (2, 4) for Tensor serving_default_x:0, which has shape "
            "(None, 3)",
        ),
    ],
)
def test_a_request_that_does_not_fit_its_signature(request_, words, tmp_path):
    folder = save(tmp_path / "1", lambda x: {"y": x + 1}, [request_])
    assert warmup.self_test(folder) == [
        f"The warm-up request 1 (signature {request_[0]}) fails: {words}"
    ]


def test_tables_and_their_files_are_restored(tmp_path):
    """A vocabulary file is named by a tensor that the server feeds, wherever the folder lies."""
    (tmp_path / "words.txt").write_text("a\nb\n")
    table = tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(tmp_path / "words.txt"),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        default_value=-1,
    )

    def call(x):
        found = table.lookup(tf.constant(["b"]))
        with tf.control_dependencies([tf.debugging.Assert(found[0] == 1, [found])]):
            return {"y": tf.identity(x)}

    folder = save(tmp_path / "1", call, [("serving_default", GOOD)], table=table)
    (tmp_path / "words.txt").unlink()
    moved = folder.rename(tmp_path / "2")
    assert warmup.self_test(moved) == []


def test_damaged_files_are_problems_and_not_errors(text, tmp_path):
    def damaged(name, change):
        folder = shutil.copytree(text, tmp_path / "1", dirs_exist_ok=True)
        change(folder / name)
        return warmup.self_test(folder)

    def flip(file):
        data = bytearray(file.read_bytes())
        data[20] ^= 255
        file.write_bytes(data)

    file = str(warmup.FILE)
    (problem,) = damaged(file, lambda file: file.unlink())
    assert problem.startswith(f"The file {file} cannot be read: ")
    (problem,) = damaged(file, flip)
    assert problem.startswith(f"The file {file} cannot be read: corrupted record at 12")
    (problem,) = damaged("saved_model.pb", lambda file: file.write_bytes(b"\xff"))
    assert problem.startswith("The graph cannot be loaded: ")
    shutil.copy(text / "saved_model.pb", tmp_path / "1")
    (problem,) = damaged("variables/variables.data-00000-of-00001", lambda file: file.unlink())
    assert problem.startswith("The graph cannot be loaded: ")


def test_it_is_silent_and_works_beside_other_graphs_and_threads(tmp_path, dense, capfd, caplog):
    """Nothing deprecated, no line printed, no session left as the default one."""
    values = [variable.value for variable in dense.variables]
    requests = [("serving_default", GOOD)]
    folder = save(tmp_path / "1", lambda x: {"y": dense(x)}, requests, weights=values)
    capfd.readouterr()
    answers = []
    with caplog.at_level(logging.DEBUG, logger="tensorflow"):
        thread = threading.Thread(target=lambda: answers.append(warmup.self_test(folder)))
        thread.start()
        with tf.Graph().as_default() as graph:
            tf.constant(1)
            answers.append(warmup.self_test(folder))
            assert tf.compat.v1.get_default_graph() is graph
            assert len(graph.get_operations()) == 1
        thread.join()
    assert answers == [[], []]
    assert tf.executing_eagerly()
    assert tf.compat.v1.get_default_session() is None
    assert [record.getMessage() for record in caplog.records] == []
    assert capfd.readouterr() == ("", "")


# ---- Over a socket -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(music):
    """A server of gRPC in this process, that answers by the exported signatures."""
    grpc = pytest.importorskip("grpc")
    signatures = load(music).signatures

    def answer(request, context):
        spec = request.model_spec
        inputs = {k: tf.constant(v) for k, v in warmup.from_entries(request.inputs).items()}
        try:
            outputs = signatures[spec.signature_name](**inputs)
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        outputs = {name: tensor.numpy() for name, tensor in outputs.items()}
        return warmup.PredictResponse(
            outputs=warmup.to_entries(outputs), model_spec={"name": spec.name}
        )

    predict = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=warmup.PredictRequest.FromString,
        response_serializer=lambda response: response.SerializeToString(),
    )
    service = "tensorflow.serving.PredictionService"
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler(service, {"Predict": predict})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_requests_cross_a_socket(music, address):
    import grpc_client

    loaded = load(music).signatures
    for signature, inputs in warmup.read_warmup(music):
        answer = grpc_client.predict(address, "music", signature, inputs)
        expected = loaded[signature](**{k: tf.constant(v) for k, v in inputs.items()})
        assert set(answer) == set(expected)
        for name, value in expected.items():
            np.testing.assert_array_equal(answer[name], value)


def test_what_the_graph_refuses_comes_back_with_its_sentence(address):
    import grpc
    import grpc_client

    with pytest.raises(grpc.RpcError) as caught:
        grpc_client.predict(address, "music", "score", {"tokens": np.array([[0]], np.int32)})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "`tokens` must begin with an id, not with padding" in caught.value.details()
