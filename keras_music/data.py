"""From pieces, or shards of ids, to the batches on which a network trains: a `tf.data` pipeline.

A network that writes learns from one question, asked at every position: *what comes next?* The
answer stands in the corpus. So a training example is a stretch of ids, the *inputs*, and the same
stretch one id later, the *targets*:

    piece    START F i r s t END         ids of one piece, sequence_length = 4
    inputs   START F i r  |  s t END 0   windows of the piece, the last one padded with 0
    targets  F i r s      |  t END 0 0   each id but START is asked for exactly once

Order of the pipeline: pieces -> windows -> cache -> shuffle (anew each epoch, seeded) -> batch ->
prefetch. Shuffling stands after the cache, or every epoch would repeat the first one's order;
before the batch, or whole batches would stay together. With `augment` there is nothing to cache:
pieces -> shuffle -> augment (drawn anew) -> windows -> shuffle -> batch -> prefetch.

A corpus that does not fit into memory stands in shards (`keras_music.records`). They are streamed:
shards, in another order each epoch -> records of eight shards in turn -> windows -> shuffle (as
many as fit into the buffer) -> batch -> prefetch. No two epochs are alike, nothing has to be held
but the buffer, and the windows are those of the same pieces in memory.

Conventions: shapes are `(batch, time)`, dtype int32; 0 is padding and belongs in no loss
(`SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)`).

What this file does not do: it knows ids, never notes; it does not split a corpus (`Corpus.split`
does, by piece, before windows are cut).

Reference: TensorFlow's text-generation tutorial. Differences: no window holds ids of two pieces,
nothing is dropped at the end, the order changes every epoch.
"""

from __future__ import annotations

import reprlib

import numpy as np
import pandas as pd
import tensorflow as tf

from keras_music.arguments import whole_number
from keras_music.records import Shards, Side

MAX_SIZE = 1_000_000  # of a window and of a batch: beyond it, somebody has mistaken an argument
SHARDS_AT_ONCE = 8  # fixed, because the order depends on it
BUFFER_WINDOWS = 100_000  # to shuffle; fewer exist of most corpora
BUFFER_BYTES = 2**28  # of windows that come from shards; those of memory are held once


def make_dataset(
    corpus, tokenizer, sequence_length=256, batch_size=64, *, seed=None, augment=None
) -> tf.data.Dataset:
    """Pieces -> batches of (inputs, targets), each int32 of shape (batch, sequence_length).

    Args:
      corpus: a `Corpus` or any iterable of pieces (`Piece` or str; what the tokenizer encodes).
        A corpus of one long text works too. Or one side of shards, `open_shards(path).train`.
      tokenizer: its `encode(piece)` gives ids, shape (time,). With shards, the one that made them.
      sequence_length: from 1 to 1,000,000, ids a window. Pieces shorter than a window are padded
        with 0.
      batch_size: from 1 to 1,000,000, windows a batch; the last batch may be smaller.
      seed: a whole number >= 0 shuffles the windows anew each epoch, in an order that the seed
        fixes (together with `keras.utils.set_random_seed`, if that was called before: `tf.data`
        mixes the two); None (for held-out data) keeps their order.
      augment: what changes a piece before each epoch, for training data only: an
        `Augmentation(semitones=5)` or any function `(tokenizer, ids, seed) -> ids` in TensorFlow
        operations, int32 of shape (time,), that draws by a `seed` (int64, shape ()). Where it
        makes pieces longer or shorter, an epoch still has as many windows as without it: the
        last of them are left out, or a second round begins, with other pieces in each epoch.

    Returns:
      A `tf.data.Dataset` of known cardinality, in memory; shards are read anew in each epoch.

    Raises:
      ValueError: an argument is out of range, the corpus holds nothing to predict, or a shard is
        damaged (all are read once to know; that takes a fraction of an epoch).

    Example:
      >>> from keras_music.tokenizers import CharTokenizer
      >>> dataset = make_dataset(["abc"], CharTokenizer("abc"), sequence_length=3, batch_size=2)
      >>> inputs, targets = next(iter(dataset))
      >>> inputs.numpy().tolist(), targets.numpy().tolist()
      ([[1, 3, 4], [5, 2, 0]], [[3, 4, 5], [2, 0, 0]])
    """
    sequence_length = whole_number("sequence_length", sequence_length, 1, MAX_SIZE)
    batch_size = whole_number("batch_size", batch_size, 1, MAX_SIZE)
    seed = None if seed is None else whole_number("seed", seed, 0)
    is_streamed = isinstance(corpus, Side)
    source = _from_shards if is_streamed else _from_memory
    read, num_ids, example = source(corpus, tokenizer)
    num_windows = int(_num_windows(num_ids, sequence_length).sum())
    if augment is not None:
        dataset = _augmented(read, example, tokenizer, augment, seed)
    else:
        dataset = _epochs(seed).flat_map(read) if is_streamed and seed is not None else read()
    dataset = dataset.flat_map(
        lambda ids: tf.data.Dataset.from_tensor_slices(windows(ids, sequence_length))
    )
    # Keras counts the batches of the first epoch and warns if a later one has fewer.
    dataset = dataset.take(num_windows)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(num_windows))
    if augment is None and not is_streamed:
        dataset = dataset.cache()
    if seed is not None:
        buffer = min(num_windows, BUFFER_WINDOWS)
        if is_streamed:
            buffer = max(min(buffer, BUFFER_BYTES // (4 * sequence_length)), 1)
        dataset = dataset.shuffle(buffer, seed=seed, reshuffle_each_iteration=True)
    dataset = dataset.batch(batch_size, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.map(split_input_target, num_parallel_calls=tf.data.AUTOTUNE)
    # Several machines that train together share windows, not files, of which there may be few.
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _from_memory(corpus, tokenizer):
    """What `make_dataset` reads of a corpus.

    Returns:
      A function that gives a `Dataset` of ids, int32, shape (time,), one element a piece: in
      their order, or in one drawn from an `epoch_seed`; the number of ids of each, shape
      (pieces,); and the ids of one piece.
    """
    pieces = encode_all(corpus, tokenizer)
    num_ids = np.array([len(ids) for ids in pieces])
    rows = tf.RaggedTensor.from_row_lengths(np.concatenate(pieces), num_ids)

    def read(epoch_seed=None):
        if epoch_seed is None:
            return tf.data.Dataset.from_tensor_slices(rows)
        order = _order(rows.nrows(), epoch_seed)
        return tf.data.Dataset.from_tensor_slices(order).map(lambda i: rows[i])

    return read, num_ids, rows[0]


def _from_shards(side, tokenizer):
    """The same of shards: the order of the files is drawn, and eight of them are read in turn."""
    _check_tokenizer(tokenizer)
    _check_not_empty(len(side), side)
    side.check(tokenizer)
    files = [str(file) for file in side.files]
    vocab_size = _vocab_size(tokenizer)

    def read(epoch_seed=None):
        if epoch_seed is None:
            dataset = tf.data.TFRecordDataset(files)
        else:
            order = tf.gather(files, _order(len(files), epoch_seed))
            dataset = tf.data.Dataset.from_tensor_slices(order).interleave(
                tf.data.TFRecordDataset,
                cycle_length=min(SHARDS_AT_ONCE, len(files)),
                num_parallel_calls=tf.data.AUTOTUNE,
                deterministic=True,
            )
        return dataset.map(parse, num_parallel_calls=tf.data.AUTOTUNE)

    def parse(record):
        feature = tf.io.FixedLenSequenceFeature([], tf.int64, allow_missing=True)
        ids = tf.io.parse_single_example(record, {"ids": feature})["ids"]
        is_known = tf.reduce_all((ids >= 0) & (ids < vocab_size))
        sentence = f"A shard must hold ids from 0 to {vocab_size - 1}. Run ingest again."
        with tf.control_dependencies([tf.debugging.Assert(is_known, [sentence])]):
            return tf.cast(ids, tf.int32)

    ids, _ = next(side.records())
    return read, side.num_ids, tf.constant(ids)


def _order(count, epoch_seed):
    return tf.argsort(tf.random.stateless_uniform([count], [epoch_seed, 0]))


def _epochs(seed):
    """One number, int64, shape (), which is another in each epoch.

    All draws of an epoch come from it. In a stream of draws through all epochs, the next would
    depend on how many pieces were prepared ahead in this one and then not used.
    """
    return tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)


def _augmented(read, example, tokenizer, augment, seed):
    """Pieces without end, in an order and with changes that are drawn anew in each epoch."""
    if seed is None or not callable(augment) or isinstance(augment, type):
        raise ValueError(
            "`augment` must be a function, and needs a `seed` to draw from. Received: "
            f"augment={augment!r}, seed={seed!r}. Give training data a seed, as in "
            "`make_dataset(train, tokenizer, seed=0, augment=Augmentation(semitones=5))`, and "
            "held-out data neither."
        )
    vocab_size = _vocab_size(tokenizer)
    # Once here, because from inside the pipeline a sentence arrives wrapped in others.
    _checked(augment(tokenizer, example, tf.constant(0, tf.int64)), vocab_size)

    def change(epoch_seed):
        return lambda count, ids: _checked(
            augment(tokenizer, ids, epoch_seed * 2**31 + count), vocab_size
        )

    return _epochs(seed).flat_map(
        lambda epoch_seed: (
            read(epoch_seed)
            .repeat()
            .enumerate()
            .map(change(epoch_seed), num_parallel_calls=tf.data.AUTOTUNE)
        )
    )


def _checked(ids, vocab_size):
    """Ids that `augment` gave, once it is known that a window can be cut from them."""
    if not tf.is_tensor(ids) or ids.dtype != tf.int32 or ids.shape.rank not in (1, None):
        received = f"{ids.dtype.name} of shape {ids.shape}" if tf.is_tensor(ids) else repr(ids)
        raise ValueError(
            "`augment` must give a tensor of ids, int32 of shape (time,). "
            f"Received: {received}. Correct it."
        )
    rules = {
        "leave at least 2 ids of each piece": tf.size(ids) >= 2,
        f"give ids from 0 to {vocab_size - 1}": tf.reduce_all((ids >= 0) & (ids < vocab_size)),
    }
    checks = []
    for rule, is_kept in rules.items():
        sentence = f"`augment` must {rule}. It did not. Correct it."
        if tf.executing_eagerly() and not is_kept:
            raise ValueError(sentence)
        checks.append(tf.debugging.Assert(is_kept, [sentence]))
    with tf.control_dependencies([] if tf.executing_eagerly() else checks):
        return tf.identity(ids)


def windows(ids, sequence_length):
    """Ids of one piece, shape (time,) -> (num_windows, sequence_length + 1), padded with 0.

    Neighbours share one id: the last of one window is the first of the next, so that every id
    but the piece's first is a target once.

    >>> windows(tf.constant([1, 2, 3, 4, 5]), 2).numpy().tolist()
    [[1, 2, 3], [3, 4, 5]]
    >>> windows(tf.constant([1, 2, 3, 4]), 2).numpy().tolist()
    [[1, 2, 3], [3, 4, 0]]
    """
    time = tf.size(ids)
    num_windows = (time - 2) // sequence_length + 1
    padded = tf.pad(ids, [[0, num_windows * sequence_length + 1 - time]])
    first = tf.range(num_windows)[:, None] * sequence_length  # (num_windows, 1)
    return tf.gather(padded, first + tf.range(sequence_length + 1))


def split_input_target(window):
    """Windows, shape (batch, time + 1) -> inputs and the same one id later, (batch, time) each."""
    return window[:, :-1], window[:, 1:]


def window_report(corpus, tokenizer, sequence_length=256) -> pd.DataFrame:
    """What `make_dataset` makes of each piece: a table with one row a piece.

    Columns: `tokens` (with START and END), `windows`, `padding` (zeros added), `shorter` (the
    piece is shorter than one window).
    """
    sequence_length = whole_number("sequence_length", sequence_length, 1, MAX_SIZE)
    pieces = encode_all(corpus, tokenizer)
    tokens = np.array([len(ids) for ids in pieces])
    num_windows = np.array([_num_windows(n, sequence_length) for n in tokens])
    padding = num_windows * sequence_length - (tokens - 1)
    shorter = tokens - 1 < sequence_length
    table = {"tokens": tokens, "windows": num_windows, "padding": padding, "shorter": shorter}
    return pd.DataFrame(table, index=getattr(corpus, "names", None))


def encode_all(corpus, tokenizer) -> list[np.ndarray]:
    """The ids of each piece of a corpus (or of one piece, or of shards), int32, shape (time,) each.

    Raises:
      ValueError: there is no piece, or one with nothing to predict.
    """
    return list(encode_each(corpus, tokenizer))


def encode_each(corpus, tokenizer):
    """Yields what `encode_all` returns, one after the other: shards need not fit into memory."""
    _check_tokenizer(tokenizer)
    if isinstance(corpus, Side):
        _check_not_empty(len(corpus), corpus)
        corpus.check(tokenizer)
        yield from (ids for ids, _ in corpus.records())
        return
    if isinstance(corpus, Shards):
        raise ValueError(
            "`corpus` must be one side of the shards. Received: all of them. Give `shards.train`, "
            "`shards.valid` or `shards.test`."
        )
    one_piece = isinstance(corpus, str) or not hasattr(corpus, "__iter__")
    num_pieces = 0
    for num_pieces, piece in enumerate([corpus] if one_piece else corpus, start=1):
        ids = _encode(piece, tokenizer)
        if len(ids) < 2:
            raise ValueError(
                "`tokenizer.encode` must give at least 2 ids for each piece (one to start from, "
                f"one to predict). Received: {len(ids)} for piece {num_pieces - 1}. Let it begin "
                "with START, or leave the piece out."
            )
        yield ids
    _check_not_empty(num_pieces, corpus)


def _check_tokenizer(tokenizer):
    if isinstance(tokenizer, type | str) or not hasattr(tokenizer, "encode"):
        raise ValueError(
            "`tokenizer` must be a tokenizer, such as `keras_music.tokenizers."
            f"PerformanceTokenizer()`. Received: {tokenizer!r}."
        )


def _check_not_empty(num_pieces, corpus):
    if not num_pieces:
        reason = getattr(corpus, "empty_reason", "it has no pieces")
        raise ValueError(
            f"`corpus` must hold at least one piece. Received: an empty one: {reason}. "
            "Look at its `report`: it says what was dropped and why."
        )


def _encode(piece, tokenizer):
    """The ids of one piece, int32; those of a tokenizer of one's own are not taken on trust.

    A fraction would be cut off, and an id outside the vocabulary is a row that no embedding has.
    """
    ids = np.asarray(tokenizer.encode(piece))
    is_row = ids.ndim == 1 and (not ids.size or ids.dtype.kind in "iu")
    vocab_size = _vocab_size(tokenizer)
    if not is_row or (ids.size and not 0 <= ids.min() <= ids.max() < vocab_size):
        raise ValueError(
            "`tokenizer.encode` must give one row of whole numbers from 0 to "
            f"{vocab_size - 1}. Received: {reprlib.repr(ids.tolist())}. Correct the tokenizer."
        )
    return ids.astype(np.int32)


def _vocab_size(tokenizer):
    return getattr(tokenizer, "vocab_size", np.iinfo(np.int32).max)


def _num_windows(time, sequence_length):
    """How many windows `windows` cuts from a piece of this many ids."""
    return (time - 2) // sequence_length + 1
