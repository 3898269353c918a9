"""All that a training run needs in order to go on, in one file that is whole or not there.

What does the next epoch depend on? On the weights; on the optimizer's memory (Adam keeps two
numbers for each weight, and counts its steps); on the random numbers that Dropout will draw, which
follow from a seed and a count; and on the order of the data, which follows from the epoch's number.
Keras' own `BackupAndRestore` keeps the first two and the number. Its file is overwritten in place,
and the number stands in a second file: killed between the two, a run repeats an epoch on weights
that have already seen it. And `save_weights` leaves out the count of Dropout, so that a run that
goes on draws other random numbers than one that never stopped.

So here everything is one `.npz` file of arrays, written under another name, brought to the disk,
and renamed, which happens at once or not at all:

    epoch_003.npz    header    JSON: what is known of the run after 3 epochs, such as its losses
                     0, 1 ...  one array for each variable, in the model's order

The rename is the moment at which the epoch counts as done. The file before it is kept, in case the
disk damages the newest one, which its checksums would show.

Conventions: epochs are counted from 1. The files hold arrays and JSON, never a pickle.

What this file does not do: it does not know what the variables are for.

Reference: the .npy format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

import json
import os
import warnings
import zipfile
import zlib

import keras
import numpy as np

UNFINISHED = ".unfinished-"  # the beginning of the name of a file that is being written
NUM_KEPT = 2


def save(folder, epoch, variables, header):
    """Writes `folder`/epoch_003.npz and removes all checkpoints but the newest two.

    Args:
      folder: a `pathlib.Path`; made if it is missing.
      epoch: >= 1, how many epochs are done.
      variables: Keras variables, in an order that will be the same next time.
      header: a dict of what JSON can write.

    Raises:
      OSError: the disk is full, or the folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {str(i): keras.ops.convert_to_numpy(variable) for i, variable in enumerate(variables)}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    path = folder / f"epoch_{epoch:03d}.npz"
    temporary = path.with_name(UNFINISHED + path.name)
    try:
        with open(temporary, "wb") as file:
            np.savez(file, **arrays)
        bring_to_disk(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    for old in _newest_first(folder)[NUM_KEPT:]:
        old.unlink(missing_ok=True)


def bring_to_disk(path):
    """Waits until a file is on the disk, which its new name might otherwise reach before it."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def newest(folder):
    """The newest whole checkpoint: its header and a list of arrays; None if there is none.

    Raises:
      ValueError: there are checkpoints, but none of them can be read.
    """
    paths = _newest_first(folder)
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as content:
                header = json.loads(content["header"].tobytes())
                return header, [content[str(i)] for i in range(len(content.files) - 1)]
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            warnings.warn(f"{path} is damaged ({error}); the one before is used.", stacklevel=2)
    if paths:
        raise ValueError(
            f"No checkpoint in {folder} can be read. Delete the run's folder and start again."
        )
    return None


def restore(arrays, variables):
    """Gives each variable its array.

    Raises:
      ValueError: they are not of the same number and shapes.
    """
    shapes = [array.shape for array in arrays]
    expected = [tuple(variable.shape) for variable in variables]
    if shapes != expected:
        raise ValueError(
            f"The checkpoint must have arrays of the shapes {expected}. Received: {shapes}. "
            "It belongs to another network, or to another version of Keras: start a new run."
        )
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def _newest_first(folder):
    return sorted(folder.glob("epoch_*.npz"), key=lambda path: (len(path.name), path.name))[::-1]
