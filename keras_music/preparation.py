"""One file to one record of ids and one row of the report: what a worker does, wherever it is.

A corpus of a thousand files is prepared by the two cores of a laptop, one of ten million by a
hundred machines. What is done with each file is the same, and must come to the same. So it stands
here, once, as a function without a memory: `keras_music.ingestion` runs it in the processes of one
machine, `keras_music.beam` in a cluster.

    name, bytes -> read_entry -> row, piece -> encode -> ids -> split_of(digest) -> side, record

What a run decides, it decides before: tokenizer, seed and fractions. They stand in the manifest
beside the versions of reader and package, because ids from two settings in one corpus would be two
languages in one book.

Conventions: a row is a dict as `read_entry` gives it, and `split`: "train", "valid", "test" or "".

What this file does not do: it opens no file and knows no engine. No TensorFlow.
"""

from __future__ import annotations

import csv
import functools
import json
import math
import os

import numpy as np

from keras_music import __version__
from keras_music.arguments import whole_number
from keras_music.corpora.corpus import three_shares
from keras_music.corpora.reader import READER_VERSION, dropped_row, read_entry, split_of
from keras_music.records import example, tokenizer_key
from keras_music.tokenizers import from_json

PREPARE = "keras_music.preparation:prepare"  # workers import it by this name
COLUMNS = (  # of report.csv
    *("name", "notes", "seconds", "kept", "reason", "same_as", "tempo_bpm", "programs"),
    *("warnings", "split", "shard"),
)


def preparation_settings(tokenizer, seed, fractions) -> dict:
    """What decides on the ids and the sides, for the manifest.

    Raises:
      ValueError: one of the arguments is out of range.
    """
    try:
        tokenizer_json = tokenizer.to_json()
        from_json(tokenizer_json)
    except (AttributeError, TypeError, ValueError):
        raise ValueError(
            "`tokenizer` must be one of `keras_music.tokenizers`, such as `RemiTokenizer()`: other "
            f"processes make it anew from its JSON text. Received: {tokenizer!r}."
        ) from None
    seed = whole_number("seed", seed, 0)
    return {
        "keras_music": __version__,
        "reader": READER_VERSION,
        "tokenizer": tokenizer_key(tokenizer_json),
        "split": {"seed": seed, "fractions": list(three_shares(fractions))},
    }


def check_out(out, names, found, settings):
    """Makes sure that the folder to be written is new, or was begun by the same call.

    Args:
      out: the folder, for the sentence.
      names: of what it holds; what is hidden does not count.
      found: the JSON text that an earlier run left there, None if there is none.
      settings: dict, what this run would leave.

    Raises:
      ValueError: it holds something else, which would be lost, or was begun with other settings.
    """
    try:
        theirs = json.loads(found or "")
    except (ValueError, RecursionError):
        theirs = None
    strangers = sorted(name for name in names if not name.startswith("."))
    if not isinstance(theirs, dict):
        if strangers:
            raise ValueError(
                "`out` must be a new folder, or one that this function began. Received: "
                f"{out}, which holds {', '.join(strangers[:3])} of another origin. "
                "Give another folder."
            )
        return
    if _was_moved(theirs.get("source"), settings["source"]):
        theirs["source"] = settings["source"]
    differing = [key for key in settings if theirs.get(key) != settings[key]]
    if differing:
        there, here = ({key: s.get(key) for key in differing} for s in (theirs, settings))
        raise ValueError(
            "`out` must be a new folder, or one that was begun with the same arguments. "
            f"Received: {out}, which was begun with {there} and not with {here}. "
            "Give another folder, or delete this one."
        )


def _was_moved(old, new):
    """Whether the music of an earlier run is now elsewhere: where it was, there is nothing."""
    is_path = isinstance(old, str) and "://" not in old
    return is_path and os.path.basename(old) == os.path.basename(new) and not os.path.exists(old)


def worker_context(tokenizer, settings):
    """What `prepare` has to know: JSON text, seed, fractions; it can be pickled."""
    return tokenizer.to_json(), settings["split"]["seed"], tuple(settings["split"]["fractions"])


def prepare(context, item):
    """One file to its row and its record: what a worker does, here or in a cluster.

    Args:
      context: what `worker_context` gave.
      item: the file's name, and its `bytes`, or a `str`: why they cannot be had.

    Returns:
      The file's row of the report, with `split`; the number of its ids; and the `bytes` of its
      tf.train.Example. (Row, 0, b"") if it is not kept.
    """
    tokenizer_json, seed, fractions = context
    name, data = item
    if isinstance(data, str):
        return _nothing(dropped_row(name, data))
    row, piece = read_entry(name, data)
    if piece is None:
        return _nothing(row)
    try:
        ids = _tokenizer(tokenizer_json).encode(piece)
        reason = "" if len(ids) >= 2 else "the tokenizer makes nothing of it"
    except Exception as error:  # it costs this piece and not the run
        reason = f"the tokenizer cannot write it: {' '.join(str(error).split())}"[:300]
    if reason:
        unknown = {"digest": "", "tempo_bpm": math.nan}
        return _nothing(row | unknown | {"kept": False, "reason": reason})
    row["split"] = split_of(row["digest"], seed, fractions)
    return row, len(ids), example(ids, name)


def lost(name, reason, bytes_hash=""):
    """What stands for the result of `prepare` where the process died or was too slow."""
    return _nothing(dropped_row(name, f"it cannot be read ({reason})", bytes_hash))


def _nothing(row):
    return row | {"split": ""}, 0, b""


_tokenizer = functools.lru_cache(maxsize=1)(from_json)


def first_of_same(digests):
    """Index of the first of the same digest for each, or -1 where it is the first, or is "".

    A digest is told from others by 64 of its bits: 8 bytes a file, whatever their number.

    >>> first_of_same(["0a", "0b", "", "0a", ""]).tolist()
    [-1, -1, -1, 0, -1]
    """
    digests = np.fromiter((int(d[:16] or "0", 16) for d in digests), np.uint64)
    _, firsts, of_same = np.unique(digests, return_index=True, return_inverse=True)
    index = np.arange(len(digests))
    return np.where((firsts[of_same] == index) | (digests == 0), -1, firsts[of_same])


def report_writer(file):
    """A function that writes rows, dicts, into an open text file as CSV; the header is there."""
    writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()

    def write(row):
        tempo_bpm = row["tempo_bpm"]
        writer.writerow(row | {"tempo_bpm": "" if math.isnan(tempo_bpm) else tempo_bpm})

    return write
