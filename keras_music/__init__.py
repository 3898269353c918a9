"""Networks that write music or text with Keras: learn from MIDI or text, generate, serve.

    corpora -> midi -> tokenizers -> data -> models -> training -> generation -> serving

The modules stand in the order in which data flows, and in which a student learns. The names below
are the ones a user types; each is loaded when it is first used, so that `import keras_music` alone
takes no time and does not load TensorFlow.
"""

import importlib

__version__ = "0.5.0"

_MODULES = (
    "audio",
    "augment",
    "corpora",
    "data",
    "evaluation",
    "explain",
    "generation",
    "ingestion",
    "midi",
    "models",
    "plots",
    "preparation",
    "records",
    "serving",
    "tokenizers",
    "training",
)
_NAMES = {
    "Piece": "midi",
    "read_midi": "midi",
    "write_midi": "midi",
    "from_pretty_midi": "midi",
    "to_pretty_midi": "midi",
    "ingest": "ingestion",
    "open_shards": "records",
    "make_dataset": "data",
    "Augmentation": "augment",
    "build_model": "models",
    "train": "training",
    "load_run": "training",
    "OneStep": "generation",
    "Client": "serving",
    "export": "serving",
    "load": "serving",
}

__all__ = [*_MODULES, *_NAMES]


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *__all__])
