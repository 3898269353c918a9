"""Tokenizers: how music or text becomes a sequence of integers, and back.

Every tokenizer has `encode(piece) -> ids` (int32, shape (time,)), `decode(ids) -> piece`,
`vocabulary`, `vocab_size`, `save(path)`; `load(path)` brings any of them back. Id 0 is `PAD`,
1 `START`, 2 `END`. Anything with `encode`, `decode`, `vocab_size` and `save` can take a tokenizer's
place in the package. What it may also have is used: `start_id` and `end_id`; `table`, its rows, for
augmentation; `grammar`, what may come next, for valid output and wishes; and in a served model
`notes_in_graph` for MIDI files, `encode_in_graph` and `decode_in_graph` for text.

What these files do not do: no neural network, no TensorFlow at import.
"""

import json
import pathlib

from keras_music.tokenizers.chorale import ChoraleTokenizer
from keras_music.tokenizers.note import NoteTokenizer
from keras_music.tokenizers.performance import PerformanceTokenizer
from keras_music.tokenizers.remi import RemiTokenizer
from keras_music.tokenizers.text import CharTokenizer

__all__ = [
    "CharTokenizer",
    "ChoraleTokenizer",
    "NoteTokenizer",
    "PerformanceTokenizer",
    "RemiTokenizer",
    "from_json",
    "load",
]


def load(path):
    """Reads a tokenizer that `save` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file does not describe a tokenizer of this package.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no tokenizer file {path}. `tokenizer.save(path)` writes one."
        )
    return from_json(path.read_bytes(), source=str(path))


def from_json(text: str | bytes, source: str = "The JSON text"):
    """Makes the tokenizer that `to_json` described; `source` names it in an error."""
    tokenizers = (
        CharTokenizer,
        ChoraleTokenizer,
        NoteTokenizer,
        PerformanceTokenizer,
        RemiTokenizer,
    )
    kinds = {kind.__name__: kind for kind in tokenizers}
    try:
        settings = json.loads(text)
        return kinds[settings.pop("tokenizer")](**settings)
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise ValueError(
            f"{source} does not describe a tokenizer ({type(error).__name__}: {error}). "
            f"Known: {sorted(kinds)}. Write it again with `tokenizer.save(path)`."
        ) from None
