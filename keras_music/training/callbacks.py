"""What happens at the end of an epoch: it is heard, judged, and written down.

The order is what makes a run that is killed at any moment whole again. First comes what may be
written twice without harm, because the epoch would be trained again with the same result: the
sample, and the best weights. Then the checkpoint, whose rename is the moment at which the epoch is
done. Then what follows from it: history.csv is written anew from what the checkpoint knows, so that
it can neither miss a row nor have one twice.

Conventions: Keras counts epochs from 0, files and tables from 1.

What this file does not do: it shows nothing; Keras' progress bar and TensorBoard do.

Reference: Keras' guide "Writing your own callbacks".
"""

from __future__ import annotations

import os
import pathlib
import tempfile
import time

import keras
import numpy as np
import pandas as pd

from keras_music.disk import write_atomically
from keras_music.generation import OneStep
from keras_music.midi import write_midi
from keras_music.training import checkpoint
from keras_music.training.folder import BEST, CHECKPOINTS, HISTORY, SAMPLES


class WholeEpoch(keras.callbacks.Callback):
    """Writes each epoch into the run folder.

    Args:
      path: the run folder.
      plain: a network like the one in training, on one device: best.keras, and who writes the
        samples.
      tokenizer: its tokenizer.
      rows: the history so far, a list of dicts; it grows.
      sample_tokens: how many ids a sample has at most; 0 for no samples.
      writes: whether this process writes files.
    """

    def __init__(self, path, plain, tokenizer, rows, *, sample_tokens, writes):
        super().__init__()
        self.path, self.plain, self.tokenizer, self.rows = path, plain, tokenizer, rows
        self.sample_tokens, self.writes = sample_tokens, writes
        self._one_step = None

    def on_epoch_begin(self, epoch, logs=None):
        self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        check_finite(len(self.rows), (logs or {}).get("loss", 0.0))

    def on_epoch_end(self, epoch, logs=None):
        weights = self.model.get_weights()
        # Its loss was computed before the last step, which may have been the one that diverged.
        check_finite(epoch, logs["loss"], logs.get("val_loss", 0.0), *weights)
        row = {"epoch": epoch + 1, "loss": float(logs["loss"])}
        if "val_loss" in logs:
            row["val_loss"] = float(logs["val_loss"])
        row["seconds"] = round(time.perf_counter() - self._started, 3)
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        row["learning_rate"] = float(str(rate))  # 0.01, not the 0.009999999776 of 32 bits
        if self.writes:
            self._write([*self.rows, row], epoch + 1, weights)
        self.rows.append(row)

    def _write(self, rows, epoch, weights):
        self.plain.set_weights(weights)
        self._write_sample(epoch)
        if best_epoch(rows) == epoch:
            self._write_best()
        checkpoint.save(self.path / CHECKPOINTS, epoch, state(self.model), {"history": rows})
        write_history(self.path, rows)

    def _write_sample(self, epoch):
        if not self.sample_tokens or getattr(self.tokenizer, "start_id", None) is None:
            return
        if self._one_step is None:
            self._one_step = OneStep(self.plain, self.tokenizer)
        sample = self._one_step.generate(num_tokens=self.sample_tokens)
        stem = self.path / SAMPLES / f"epoch_{epoch:03d}"
        if isinstance(sample, str):
            write_atomically(stem.with_suffix(".txt"), sample.encode())
        else:
            write_midi(sample, stem.with_suffix(".mid"))

    def _write_best(self):
        with tempfile.TemporaryDirectory(dir=self.path, prefix=checkpoint.UNFINISHED) as folder:
            temporary = pathlib.Path(folder) / BEST
            self.plain.save(temporary)
            checkpoint.bring_to_disk(temporary)
            os.replace(temporary, self.path / BEST)


def state(model):
    """All variables on which the next step depends, in a fixed order."""
    return [*model.variables, *model.optimizer.variables]


def best_epoch(rows):
    """The epoch with the lowest validation loss; the last one where there is no validation."""
    losses = [row.get("val_loss", -row["epoch"]) for row in rows]
    return rows[int(np.argmin(losses))]["epoch"]


def write_history(path, rows):
    """history.csv, from the first epoch on."""
    write_atomically(path / HISTORY, pd.DataFrame(rows).to_csv(index=False).encode())


def check_finite(epoch, *values):
    """One sentence when training has diverged; nothing of this epoch will be kept.

    Args:
      epoch: from 0.
      values: losses and weights; numbers or arrays.
    """
    if not all(np.isfinite(value).all() for value in values):
        raise ValueError(
            f"In epoch {epoch + 1} a loss or a weight is not a number any more: training has "
            "diverged. Start a new run with a lower `learning_rate`. What this run had before is "
            "kept."
        )
