"""Training runs of a second, for the tests of `train` and for the scripts that these start."""

import numpy as np

from keras_music.midi import Piece
from keras_music.tokenizers import CharTokenizer, PerformanceTokenizer
from keras_music.training import train

TOKENIZER = CharTokenizer("abcdef ")
MUSIC_TOKENIZER = PerformanceTokenizer(velocity_bins=0)


def texts():
    """23 texts of very different lengths, so that batches have very different padding."""
    draw = np.random.default_rng(0)
    return ["".join(draw.choice(list("abcdef "), draw.integers(3, 60))) for _ in range(23)]


def pieces():
    """Eight pieces that `split` takes for different ones."""
    draw = np.random.default_rng(0)
    return [
        Piece(
            [
                {"pitch": int(pitch), "start": 0.5 * i, "end": 0.5 * i + 0.4}
                for i, pitch in enumerate(draw.integers(50, 80, 12))
            ]
        )
        for _ in range(8)
    ]


def small_train(out, corpus=None, **arguments):
    """`train` with a network as small as it gets, and Dropout."""
    defaults = {
        "tokenizer": TOKENIZER,
        "cell": "rnn",
        "units": 8,
        "embedding_dim": 4,
        "dropout": 0.3,
        "sequence_length": 16,
        "batch_size": 8,
        "epochs": 3,
        "learning_rate": 0.01,
        "sample_tokens": 0,
        "verbose": 0,
    }
    return train(texts() if corpus is None else corpus, out, **(defaults | arguments))
