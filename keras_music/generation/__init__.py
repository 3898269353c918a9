"""Generation: from a trained network and a prompt to new ids, one at a time.

`sampling` draws one id from one row of scores; `onestep` turns a Keras model into a step and
repeats it; `generator` is the door through which a model, a SavedModel and a server are asked. All
know ids only, never notes. The door does not need TensorFlow, and nothing is loaded before it is
used.
"""

import importlib

_NAMES = {"Generated": "generator", "Generator": "generator", "OneStep": "onestep"}

__all__ = [*_NAMES]


def __getattr__(name):
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
