"""Serving: an exported generator, as TensorFlow Serving runs it, and how to ask it.

    signatures    what is served: the functions of the graph, each with its inputs checked
    smf           tokens to the bytes of a MIDI file, in the graph
    saved_model   `export` writes the folder, whole or not at all; `load` reads it back
    lint, warmup  is it servable? without running it, and by running it as a server does
    client, rest  `Client` asks a running server, without TensorFlow

Nothing is loaded before it is used.
"""

import importlib

_NAMES = {
    "Client": "client",
    "LoadedModel": "saved_model",
    "check_saved_model": "lint",
    "export": "saved_model",
    "load": "saved_model",
    "self_test": "warmup",
}

__all__ = [*_NAMES]


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
