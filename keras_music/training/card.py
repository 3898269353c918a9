"""The end of a run: how good it has become, and how it was made.

A loss alone says little. The model card sets it beside what simpler predictors reach on the same
pieces (see `keras_music.evaluation.likelihood`), and says which pieces these were: the test side,
which nobody has looked at; without one the validation side, on which the best epoch was chosen, so
that the figure flatters.

Conventions: losses in nats a token.

What this file does not do: it does not say how the music sounds.

Reference: M. Mitchell et al., "Model Cards for Model Reporting" (2019).
"""

from __future__ import annotations

import json

import pandas as pd

from keras_music.disk import write_atomically
from keras_music.evaluation import ladder
from keras_music.plots import learning_curve
from keras_music.training.callbacks import best_epoch
from keras_music.training.folder import CARD, CURVE, load_best


def finish(path, config, tokenizer, sides, rows, command):
    """Writes model_card.json and learning_curve.png.

    Args:
      path: the run folder.
      config: what config.json says.
      tokenizer: the tokenizer.
      sides: the corpora by name: "train", "valid", "test"; None for what there is not.
      rows: the history.
      command: how to make the model again.
    """
    held_out = next((name for name in ("test", "valid") if sides[name] is not None), None)
    losses = {}
    if held_out is not None:
        windows = {name: config["arguments"][name] for name in ("sequence_length", "batch_size")}
        losses = ladder(load_best(path), tokenizer, sides["train"], sides[held_out], **windows)
        losses = losses.round(4).to_dict()
    card = {
        "data": config["data"],
        "held out": held_out or "nothing",
        "held-out loss (nats a token)": losses,
        "best epoch": best_epoch(rows),
        "epochs": len(rows),
        "recipe": config["arguments"],
        "tokenizer": config["tokenizer"]["kind"],
        "versions": config["versions"],
        "command": command,
        "seconds of training": round(sum(row["seconds"] for row in rows)),
    }
    write_atomically(path / CARD, json.dumps(card, indent=1).encode())
    history = pd.DataFrame(rows).to_dict("list")
    baselines = {name: loss for name, loss in losses.items() if name != "model"}
    learning_curve(history, path / CURVE, baselines=baselines, title=path.name)
