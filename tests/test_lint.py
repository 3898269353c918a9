"""Each rule finds the model that was made to break it; none finds anything in a clean one."""

import subprocess
import sys

import numpy as np
import pytest

from keras_music.serving import lint
from keras_music.serving.lint import check_saved_model

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

X = tf.TensorSpec([None, 40], tf.float32, "x")
NAME = "serving_default"


def save(path, function, **tracked):
    """Save `function` of one (batch, 40) array under the name of the default signature."""
    module = tf.Module()
    for name, value in tracked.items():
        setattr(module, name, value)
    concrete = tf.function(function, input_signature=[X]).get_concrete_function()
    tf.saved_model.save(module, path, signatures={NAME: concrete})
    return path


def edit(path, change):
    """Change the SavedModel message of a directory in place."""
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    message.ParseFromString((path / "saved_model.pb").read_bytes())
    change(message.meta_graphs[0])
    (path / "saved_model.pb").write_bytes(message.SerializeToString())


@pytest.fixture
def model():
    """Return a Keras model with 40 * 40 weights, which are above the smallest size that counts."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("only models of the tensorflow backend are exported")
    return keras.Sequential([keras.Input([40]), keras.layers.Dense(40)])


def test_a_clean_model_has_no_problem(tmp_path, model):
    """A loop, an assertion, stateless randomness and untracked Keras layers are all allowed."""

    def call(x):
        tf.debugging.assert_less(x, 9.0)
        noise = tf.random.stateless_uniform([40], seed=[1, 2])
        _, y = tf.while_loop(lambda k, y: k < 3, lambda k, y: (k + 1, model(y)), (0, x + noise))
        return {"y": y}

    path = save(tmp_path / "1", call, weights=[variable.value for variable in model.variables])
    assert check_saved_model(path) == []
    assert check_saved_model(str(path)) == []


def test_a_tracked_keras_model_has_variables_that_are_never_restored(tmp_path, model):
    """Python answers, the server does not: see `test_cpp_loader.py` for the proof."""
    path = save(tmp_path / "1", lambda x: {"y": model(x)}, model=model)
    problems = check_saved_model(path)
    assert len(problems) == 1
    assert problems[0].startswith(f"Signature '{NAME}' reads variables that the restore operation")
    assert "kernel" in problems[0]
    assert "bias" in problems[0]


COMPILED = tf.function(lambda x: tf.nn.relu(x), jit_compile=True)


@pytest.mark.parametrize(
    "function",
    [
        COMPILED,
        tf.function(lambda x: tf.map_fn(COMPILED, x)),  # inside a loop
        lambda x: tf.switch_case(tf.size(x), [lambda: x, lambda: x + 1, lambda: COMPILED(x)]),
    ],
)
def test_compiled_functions_are_found_at_any_depth(tmp_path, function):
    path = save(tmp_path / "1", lambda x: {"y": function(x)})
    (problem,) = check_saved_model(path)
    assert problem.startswith(f"Signature '{NAME}' has a function with `jit_compile=True`")


@pytest.mark.parametrize(("in_calls", "in_functions"), [(True, False), (False, True)])
def test_the_mark_of_a_compiled_function_or_of_its_call_is_enough(tmp_path, in_calls, in_functions):
    path = save(tmp_path / "1", lambda x: {"y": COMPILED(x)})

    def set_marks(meta_graph):
        for function in meta_graph.graph_def.library.function:
            if "_XlaMustCompile" in function.attr:
                function.attr["_XlaMustCompile"].b = in_functions
            for node in function.node_def:
                if "_XlaMustCompile" in node.attr:
                    node.attr["_XlaMustCompile"].b &= in_calls

    edit(path, set_marks)
    assert len(check_saved_model(path)) == 1


@pytest.mark.parametrize(
    ("wrap", "op"), [(tf.numpy_function, "PyFunc"), (tf.py_function, "EagerPyFunc")]
)
def test_python_functions_are_found(tmp_path, wrap, op):
    path = save(tmp_path / "1", lambda x: {"y": wrap(np.sin, [x], tf.float32)})
    assert check_saved_model(path) == [
        f"Signature '{NAME}' calls Python, which the server does not have: {op}."
    ]


@pytest.mark.parametrize("foreign", ["DecodeMidi", "Namespace>TestStringOutput"])
def test_operations_of_other_libraries_are_found(tmp_path, foreign):
    """The second is known to TensorFlow here, as if the library had been imported."""
    path = save(tmp_path / "1", lambda x: {"y": tf.nn.relu(x)})

    def rename(meta_graph):
        for function in meta_graph.graph_def.library.function:
            for node in function.node_def:
                node.op = foreign if node.op == "Relu" else node.op

    edit(path, rename)
    assert check_saved_model(path) == [
        f"Signature '{NAME}' has operations that are not TensorFlow's own: {foreign}."
    ]


@pytest.mark.parametrize(
    ("draw", "op"),
    [
        (lambda: tf.random.uniform([40]), "RandomUniform"),
        (lambda: tf.random.normal([40], seed=1), "RandomStandardNormal"),
        (lambda: tf.random.categorical([[0.0, 1.0]], 40), "Multinomial"),
        (lambda: tf.random.shuffle(tf.range(40.0)), "RandomShuffle"),
    ],
)
def test_stateful_randomness_is_found(tmp_path, draw, op):
    path = save(tmp_path / "1", lambda x: {"y": x + tf.cast(draw(), tf.float32)})
    (problem,) = check_saved_model(path)
    assert problem.startswith(f"Signature '{NAME}' draws from a random generator")
    assert problem.endswith(f": {op}.")


def test_a_node_that_must_run_before_the_others_counts(tmp_path):
    """An input "^draw" orders two nodes, and the server runs both."""
    path = save(tmp_path / "1", lambda x: {"y": x})

    def draw_first(meta_graph):
        graph_def = meta_graph.graph_def
        output = meta_graph.signature_def[NAME].outputs["y"].name.partition(":")[0]
        next(node for node in graph_def.node if node.name == output).input.append("^draw")
        graph_def.node.add(name="draw", op="RandomUniform")

    edit(path, draw_first)
    (problem,) = check_saved_model(path)
    assert problem.endswith(": RandomUniform.")


def test_two_nodes_may_share_one_restored_variable(tmp_path):
    """The C++ runtime finds a variable by its shared name; the names of nodes do not matter."""
    weight = tf.Variable([1.0])
    path = save(tmp_path / "1", lambda x: {"y": x * weight}, weight=weight)

    def read_through_another_node(meta_graph):
        graph_def = meta_graph.graph_def
        (variable,) = (node for node in graph_def.node if node.op == "VarHandleOp")
        output = meta_graph.signature_def[NAME].outputs["y"].name.partition(":")[0]
        call = next(node for node in graph_def.node if node.name == output)
        call.input[:] = ["twin" if name == variable.name else name for name in call.input]
        graph_def.node.add().CopyFrom(variable)
        graph_def.node[-1].name = "twin"

    edit(path, read_through_another_node)
    assert check_saved_model(path) == []
    edit(path, lambda meta_graph: meta_graph.graph_def.node[-1].attr["shared_name"].Clear())
    (problem,) = check_saved_model(path)
    assert "never fills: twin." in problem


def test_a_generator_is_random_and_an_unused_draw_counts_too(tmp_path):
    generator = tf.random.Generator.from_seed(1)

    def call(x):
        generator.normal([40])
        tf.random.uniform([40])
        return {"y": x}

    (problem,) = check_saved_model(save(tmp_path / "1", call, generator=generator))
    assert problem.endswith(": RandomUniform, RngReadAndSkip.")


@pytest.mark.parametrize(
    ("change", "op"),
    [
        (lambda count: count.assign([1.0, 2.0]), "AssignVariableOp"),
        (lambda count: count.assign_add([1.0, 1.0]), "AssignAddVariableOp"),
        (lambda count: count[0].assign(1.0), "ResourceStridedSliceAssign"),
        (lambda count: count.scatter_nd_add([[0]], [1.0]), "ResourceScatterNdAdd"),
    ],
)
def test_changed_variables_are_found(tmp_path, change, op):
    count = tf.Variable([0.0, 0.0])

    def call(x):
        change(count)
        return {"y": x + count[0]}

    assert check_saved_model(save(tmp_path / "1", call, count=count)) == [
        f"Signature '{NAME}' changes variables that all clients share: {op}."
    ]


def test_weights_stored_twice_by_keras_are_found(tmp_path, model):
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.call, input_signature=[X])
    archive.write_out(tmp_path / "1", verbose=False)
    (problem,) = check_saved_model(tmp_path / "1")
    assert problem.startswith("The checkpoint stores the same weights of shape (40, 40) as ")
    assert problem.count("/.ATTRIBUTES/VARIABLE_VALUE") == 2


@pytest.mark.parametrize(
    ("first", "second", "num_problems"),
    [
        (np.arange(300.0), np.arange(300.0), 1),
        (np.arange(300.0), np.arange(300.0).reshape(3, 100), 0),  # another shape
        (np.arange(300), np.arange(300).view(np.float64), 0),  # the same bytes of another type
        (np.arange(300.0), np.arange(300.0)[::-1], 0),  # another order
        (np.arange(128.0), np.arange(128.0), 0),  # 1,024 bytes
        (np.arange(129.0), np.arange(129.0), 1),  # 1,032 bytes
        (np.zeros(300), np.zeros(300), 0),  # biases that were never trained
        (np.eye(30)[0].repeat(30), np.eye(30)[0].repeat(30), 0),  # a forget gate's bias of ones
    ],
)
def test_what_counts_as_stored_twice(tmp_path, first, second, num_problems):
    weights = [tf.Variable(first), tf.Variable(second)]
    path = save(tmp_path / "1", lambda x: {"y": x}, weights=weights)
    assert len(check_saved_model(path)) == num_problems


def test_every_signature_is_named_and_every_rule_speaks(tmp_path):
    def shaky(x):
        return {"y": x + tf.random.uniform([40])}

    def python(x):
        return {"y": tf.numpy_function(np.sin, [tf.random.normal([40]) + x], tf.float32)}

    functions = {"b": shaky, "a": python, "clean": lambda x: {"y": x}}
    signatures = {
        name: tf.function(function, input_signature=[X]) for name, function in functions.items()
    }
    tf.saved_model.save(tf.Module(), tmp_path / "1", signatures=signatures)
    starts = [" ".join(problem.split()[:3]) for problem in check_saved_model(tmp_path / "1")]
    assert starts == ["Signature 'a' calls", "Signature 'a' draws", "Signature 'b' draws"]


def test_a_model_that_cannot_be_called_is_a_problem(tmp_path):
    tf.saved_model.save(tf.Module(), tmp_path / "1")
    assert check_saved_model(tmp_path / "1") == [
        "The SavedModel has no signature, so there is nothing that a client can call."
    ]


def test_a_model_without_the_tag_of_the_server_is_a_problem(tmp_path):
    path = save(tmp_path / "1", lambda x: {"y": x})
    edit(path, lambda meta_graph: meta_graph.meta_info_def.ClearField("tags"))
    assert check_saved_model(path) == [
        "The SavedModel has no graph with the tag 'serve', so the server cannot load it."
    ]


def test_a_directory_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`path` must be .* Received: .* saved_model\.pb"):
        check_saved_model(tmp_path)


def test_the_module_does_not_import_tensorflow():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); sys.exit('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code, lint.__file__]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
