"""Find, without running it, what breaks in a SavedModel only once TensorFlow Serving runs it.

`tf.saved_model.load` rebuilds Python objects, so a model may load and answer in Python and still
fail in the server, which knows only one graph: its restore operation fills the variables, then the
signatures run. All that can go wrong there is written in `saved_model.pb` and in the checkpoint
next to it. `check_saved_model` reads both and returns what is wrong in plain sentences.

Each rule below is a function of one signature. It sees every operation that a call of the signature
can run: those of the graph on which the outputs depend, and those of all functions that they call.

Conventions: "signature" means an entry of `signature_def` whose name does not start with "__",
which are TensorFlow's own. A rule returns a sentence, or None if there is nothing to say.

What this file does not do: it runs nothing, so shapes, values and the messages of assertions stay
unproven; it does not judge whether a REST client can send the inputs.

References:
    TensorFlow issue 72963 and Keras issues 20095 and 20096: variables that are never restored.
"""

from collections import defaultdict
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

PYTHON_OPS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
# Stateful operations whose results depend on a generator that all callers share.
RANDOM_OPS = {
    *("Multinomial", "NonDeterministicInts", "ParameterizedTruncatedNormal", "RandomCrop"),
    *("RandomGamma", "RandomPoisson", "RandomPoissonV2", "RandomShuffle", "RandomStandardNormal"),
    *("RandomUniform", "RandomUniformInt", "TruncatedNormal", "RngReadAndSkip", "RngSkip"),
    *("StatefulRandomBinomial", "StatefulStandardNormal", "StatefulStandardNormalV2"),
    *("StatefulTruncatedNormal", "StatefulUniform", "StatefulUniformFullInt", "StatefulUniformInt"),
    *("AllCandidateSampler", "FixedUnigramCandidateSampler", "LearnedUnigramCandidateSampler"),
    *("LogUniformCandidateSampler", "ThreadUnsafeUnigramCandidateSampler"),
    *("UniformCandidateSampler",),
}
# The first letters of the operations that write to a variable.
ASSIGNMENTS = ("Assign", "ResourceApply", "ResourceSparseApply", "ResourceScatter")
ASSIGNMENTS += ("ResourceStridedSliceAssign", "ResourceCountUpTo")
SMALLEST_WEIGHT = 1024  # bytes; a smaller array may be equal to another by chance


class _Reached(NamedTuple):
    """What one signature can run."""

    variables: dict  # {(container, shared name): name of the node} of the variables it reads
    ops: set  # names of operations, those of TensorFlow and of other libraries
    is_compiled: bool  # whether XLA compiles any part of it


def check_saved_model(path):
    """Return the reasons why TensorFlow Serving could not serve a SavedModel, or should not.

    Args:
        path: str or `Path` of a directory that holds `saved_model.pb`.

    Returns:
        List of str, one sentence or two for each problem, the signature named first; empty if
        nothing was found.

    Raises:
        ValueError: there is no `saved_model.pb` in `path`.

    Example:
        `check_saved_model("exported/1")` is `[]` for a model that can be served.
    """
    meta_graph = read_meta_graph(Path(path))
    if meta_graph is None:
        return ["The SavedModel has no graph with the tag 'serve', so the server cannot load it."]
    names = sorted(name for name in meta_graph.signature_def if not name.startswith("__"))
    if not names:
        return ["The SavedModel has no signature, so there is nothing that a client can call."]
    restored = _reach(meta_graph, [meta_graph.saver_def.restore_op_name]).variables
    problems = []
    for name in names:
        outputs = meta_graph.signature_def[name].outputs.values()
        reached = _reach(meta_graph, [output.name for output in outputs])
        for sentence in (
            find_lost_variables(reached, restored),
            find_compiled_functions(reached),
            find_python_ops(reached),
            find_foreign_ops(reached),
            find_random_ops(reached),
            find_assignments(reached),
        ):
            if sentence is not None:
                problems.append(f"Signature '{name}' {sentence}")
    return problems + find_weights_stored_twice(path)


# ---- The rules -----------------------------------------------------------------------------------


def find_lost_variables(reached, restored):
    """Report variables that a signature reads and the restore operation never fills.

    Protects from `FAILED_PRECONDITION: Could not find variable`, which no test in Python shows and
    the server gives at the first call only. A `tf.Module` that tracks a Keras 3 model is such a
    case: a Keras variable writes a second `tf.Variable` on export; the restore operation fills
    that one and the signatures read the first.
    """
    lost = sorted(reached.variables[key] for key in reached.variables.keys() - restored.keys())
    if not lost:
        return None
    return (
        f"reads variables that the restore operation never fills: {', '.join(lost)}. Track "
        "`[variable.value for variable in model.variables]` instead of the Keras model."
    )


def find_compiled_functions(reached):
    """Report functions with `jit_compile=True`.

    Protects from HTTP 500, "XLA compilation disabled": the server does not compile unless it was
    started with a flag for it.
    """
    if not reached.is_compiled:
        return None
    return "has a function with `jit_compile=True`, which the server refuses by default."


def find_python_ops(reached):
    """Report `tf.py_function` and `tf.numpy_function`.

    Protects from "No OpKernel was registered": the function is not stored in the model, only a
    number by which this very process of Python knows it. The model loads; the call fails.
    """
    return _list_ops(reached.ops & PYTHON_OPS, "calls Python, which the server does not have")


def find_foreign_ops(reached):
    """Report operations that TensorFlow's core does not register.

    Protects from a model that the server cannot load, because the library (tensorflow-io, say) is
    not linked into it. A ">" in the name is the mark of another library, which this process may
    have imported: then TensorFlow here knows the operation and the server does not.
    """
    from tensorflow.python.framework import op_def_registry

    foreign = {op for op in reached.ops if ">" in op or op_def_registry.get(op) is None}
    return _list_ops(foreign, "has operations that are not TensorFlow's own")


def find_random_ops(reached):
    """Report stateful random operations.

    Protects from answers that depend on the calls of all other clients, and that start anew with
    each load of the model. Stateless operations with a seed among the inputs repeat exactly.
    """
    return _list_ops(
        reached.ops & RANDOM_OPS,
        "draws from a random generator that all clients share; use stateless operations with a "
        "`seed` input",
    )


def find_assignments(reached):
    """Report variables that a call changes, counters for example.

    Protects from state that all clients share, that warm-up requests advance, that is lost at the
    next load, and that differs between two copies of the server.
    """
    assignments = {op for op in reached.ops if op.startswith(ASSIGNMENTS)}
    return _list_ops(assignments, "changes variables that all clients share")


def find_weights_stored_twice(path):
    """Report pairs of variables of the checkpoint with the same shape, type and bytes.

    Protects from a model of twice the size on disk and in the server's memory, as
    `keras.export.ExportArchive` and `model.export` write it. Arrays below 1 kB or with fewer than
    3 different values (a bias that was never trained, say) may be equal without being copies.

    Returns:
        List of str, one sentence for each group of copies.
    """
    import numpy as np
    import tensorflow as tf

    prefix = Path(path) / "variables" / "variables"
    if not prefix.with_suffix(".index").exists():
        return []
    reader = tf.train.load_checkpoint(str(prefix))
    copies = defaultdict(list)
    for key, dtype in sorted(reader.get_variable_to_dtype_map().items()):
        if dtype == tf.string:  # the object graph, which is no weight
            continue
        array = np.asarray(reader.get_tensor(key))
        if array.nbytes > SMALLEST_WEIGHT and np.unique(array).size > 2:
            copies[array.shape, dtype, sha256(array.tobytes()).digest()].append(key)
    return [
        f"The checkpoint stores the same weights of shape {shape} as {' and as '.join(keys)}."
        for (shape, _, _), keys in copies.items()
        if len(keys) > 1
    ]


def _list_ops(ops, reason):
    return f"{reason}: {', '.join(sorted(ops))}." if ops else None


# ---- Reading the graph ---------------------------------------------------------------------------


def read_meta_graph(path):
    """Return the MetaGraphDef that the server loads, which has the tag "serve", or None."""
    from tensorflow.core.protobuf import saved_model_pb2

    file = path / "saved_model.pb"
    if not file.exists():
        raise ValueError(
            f"`path` must be the directory of a SavedModel. Received: {str(path)!r}, which has no "
            "file saved_model.pb; give the folder of a version, such as model/1."
        )
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString(file.read_bytes())
    graphs = (
        graph for graph in saved_model.meta_graphs if list(graph.meta_info_def.tags) == ["serve"]
    )
    return next(graphs, None)


def _reach(meta_graph, names):
    """Return the `_Reached` of the named tensors or operations of the graph."""
    functions = {f.signature.name: f for f in meta_graph.graph_def.library.function}
    nodes = _upstream(meta_graph.graph_def, names)
    variables = {
        (node.attr["container"].s, node.attr["shared_name"].s or node.name.encode()): node.name
        for node in nodes
        if node.op == "VarHandleOp"
    }
    ops, seen, is_compiled = set(), set(), False
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        is_compiled |= _is_compiled(node)
        ops.add(node.op)
        for name in (_called_functions(node) & functions.keys()) - seen:
            is_compiled |= _is_compiled(functions[name])
            waiting.extend(functions[name].node_def)
            seen.add(name)
    return _Reached(variables, ops, is_compiled)


def _upstream(graph_def, names):
    """Return the nodes on which the named ones depend, themselves included."""
    nodes = {node.name: node for node in graph_def.node}
    found, waiting = {}, list(names)
    while waiting:
        # An input is "name", "name:1" for its second output, or "^name" to run after it.
        name = waiting.pop().removeprefix("^").partition(":")[0]
        if name in nodes and name not in found:
            found[name] = nodes[name]
            waiting.extend(nodes[name].input)
    return list(found.values())


def _called_functions(node):
    """Return the names in the attributes of a node that are functions: one, or one a branch."""
    values = node.attr.values()
    return {function.name for value in values for function in (value.func, *value.list.func)}


def _is_compiled(node_or_function):
    """Return whether `tf.function(jit_compile=True)` marked a node or a function."""
    attributes = node_or_function.attr
    return "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b
