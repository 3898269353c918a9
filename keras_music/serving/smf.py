"""The bytes of a Standard MIDI File, made inside a TensorFlow graph.

A .mid file is short enough to be read by eye. It begins with a *header*, which says how many tracks
there are and how many *ticks* its clock counts to a quarter note; then comes each *track*: its
length in bytes, then messages, each after the ticks to wait before it (its *delta time*).

    4d 54 68 64 | 00 00 00 06 | 00 00 | 00 01 | 01 e0     "MThd", 6 bytes follow: format 0,
                                                          1 track, 0x01e0 = 480 ticks a quarter
    4d 54 72 6b | 00 00 00 17                             "MTrk", 0x17 = 23 bytes follow:
    00          | ff 51 03 07 a1 20                       wait 0; tempo: 0x07a120 = 500,000
                                                          microseconds a quarter (120 a minute)
    00          | c0 13                                   wait 0; program 19, church organ
    00          | 90 3c 50                                wait 0; key 60 down, velocity 80
    83 60       | 80 3c 40                                wait 480; key 60 up
    00          | ff 2f 00                                wait 0; end of track

The first byte of a message, its *status*, is 128 or more: 0x90 key down, 0x80 key up, 0xc0 program
(each plus the channel, here 0), 0xff a message for the file's reader. The data bytes after it are
below 128. A delta time is a *variable-length quantity*: seven bits a byte, highest first, and every
byte but the last has its top bit set. 480 = 3 * 128 + 96 needs two: 0x80 + 3 and 96, so 83 60.
Four bytes hold at most 2**28 - 1, over three days at 960 ticks a second.

A graph makes bytes as it makes words from ids: every byte is looked up in a table of strings, and
the strings are joined. Files are of different lengths and tensors are not, so the table has one
more string, the empty one, and what is not needed in a row is looked up there.

Conventions: a file holds, note for note and tick for tick, what `keras_music.write_midi` writes:
480 ticks a quarter, 120 quarters a minute; steps become ticks by the same float64 arithmetic, and
a note lasts at least one tick. On one tick keys come up before keys go down, and a key that goes
down twice comes up first for the note that began first. Numbers of bytes are int64, shape
(..., bytes), and 256 is no byte.

What this file does not do: one track, one channel, one program; no drums, pedals or time
signatures; no running status (leaving out a status that repeats), which saves 15% in a chorale.

Reference: Standard MIDI Files 1.0 (MIDI Association, 1996).
"""

from __future__ import annotations

import struct

import tensorflow as tf

from keras_music.midi.files import MAX_TICK

TICKS_PER_QUARTER = 480
MICROSECONDS_PER_QUARTER = 500_000  # 120 quarters a minute
NO_BYTE = 256
STRINGS = [bytes([number]) for number in range(256)] + [b""]
HEADER = b"MThd" + struct.pack(">IHHH", 6, 0, 1, TICKS_PER_QUARTER)
TEMPO = b"\x00\xff\x51\x03" + MICROSECONDS_PER_QUARTER.to_bytes(3, "big")
PROGRAM = b"\x00\xc0"
END_OF_TRACK = b"\x00\xff\x2f\x00"
KEY_UP, KEY_DOWN = 0x80, 0x90
RELEASE_VELOCITY = 64  # what MIDI says when nothing is known of it


def tokens_to_midi(tokenizer, ids):
    """Rows of ids -> Standard MIDI Files, as `write_midi(tokenizer.decode(row), path)` makes them.

    Args:
      tokenizer: a tokenizer that has `notes_in_graph`, such as a `PerformanceTokenizer`.
      ids: int32, shape (batch, time): ids of its vocabulary; what follows `END` is not read.

    Returns:
      A string tensor, shape (batch,): the bytes of one file a row.

    Raises:
      InvalidArgumentError: see `midi_bytes`.
    """
    notes = tokenizer.notes_in_graph(ids)
    return midi_bytes(notes, tokenizer.steps_per_second, tokenizer.program)


def midi_bytes(notes, steps_per_second, program):
    """Rows of notes -> Standard MIDI Files.

    Args:
      notes: a dict of tensors, each of shape (batch, time): `is_note`, bool; `pitch` 0-127,
        `velocity` 1-127, `start` and `end` in steps, whole numbers. Notes of one pitch stand in the
        order in which they start and end. A row may be without notes.
      steps_per_second: 1-1000, what a step is.
      program: 0-127, the General MIDI program of all notes.

    Returns:
      A string tensor, shape (batch,): the bytes of one file a row.

    Raises:
      InvalidArgumentError: a row is longer than 2**28 - 1 ticks, as the graph's INVALID_ARGUMENT.
    """
    is_note = notes["is_note"]
    start, end = (_to_ticks(notes[name], steps_per_second) for name in ("start", "end"))
    with tf.control_dependencies(_check_length(tf.where(is_note, end, 0))):
        end = tf.maximum(end, start + 1)
    head = TEMPO + PROGRAM + bytes([program])
    track = head + join(_messages(notes, start, end)) + END_OF_TRACK  # (batch,)
    return HEADER + b"MTrk" + join(_big_endian(tf.strings.length(track))) + track


def variable_length(numbers):
    """Whole numbers below 2**28, shape (...) -> their bytes as numbers, int64, shape (..., 4).

    480 -> [256, 256, 0x83, 0x60]: two bytes, and two that are not there.
    """
    numbers = tf.cast(numbers, tf.int64)[..., tf.newaxis]
    rest = tf.bitwise.right_shift(numbers, tf.constant([21, 14, 7, 0], tf.int64))  # (..., 4)
    more = tf.constant([128, 128, 128, 0], tf.int64)  # the top bit: another byte follows
    is_last = more == 0
    return tf.where((rest > 0) | is_last, tf.bitwise.bitwise_and(rest, 127) | more, NO_BYTE)


def join(numbers):
    """Numbers of bytes, shape (batch, bytes) -> strings, shape (batch,); 256 leaves no trace."""
    return tf.strings.reduce_join(tf.gather(tf.constant(STRINGS), numbers), axis=-1)


def _to_ticks(step, steps_per_second):
    """Steps -> ticks, int64, rounded once, by the operations of `midi.files` in their order."""
    seconds = tf.cast(step, tf.float64) / _unfolded(steps_per_second)
    units = seconds * _unfolded(1e6 * TICKS_PER_QUARTER)
    return tf.cast(tf.round(units / _unfolded(MICROSECONDS_PER_QUARTER)), tf.int64)


def _unfolded(number):
    """A float64 that TensorFlow's graph optimiser does not treat as a constant.

    It makes `x / 3` into `x * (1 / 3)` and several factors into one, which rounds otherwise: at 768
    steps a second one tick in a hundred was wrong. It leaves alone what a caller could still feed.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tf.constant(number, tf.float64), shape=[])


def _check_length(ticks):
    """The assertion, in a list, that no note ends after the last tick of a MIDI file."""
    longest = tf.reduce_max(tf.pad(ticks, [[0, 0], [0, 1]]), axis=1)  # (batch,); 0 without notes
    message = (
        f"`num_tokens` and `prompt` must make a piece of at most {MAX_TICK} ticks, the most that "
        "a MIDI file can hold (960 a second). Ask for fewer tokens. Received:"
    )
    check = tf.debugging.Assert(tf.reduce_all(longest <= MAX_TICK), [message, longest], summarize=8)
    return [] if check is None else [check]  # None: checked already, outside a graph


def _messages(notes, start, end):
    """Notes -> their messages as numbers of bytes, shape (batch, 7 * the most messages of a row).

    Each note is two messages: delta time (4 bytes), status, pitch, velocity. 256 fills up a row.
    """
    twice = {name: tf.concat([notes[name]] * 2, axis=1) for name in ("is_note", "pitch")}
    tick = tf.concat([end, start], axis=1)  # (batch, 2 * time), as all below
    is_down = tf.concat([tf.zeros_like(start), tf.ones_like(start)], axis=1)
    velocity = tf.concat(
        [tf.fill(tf.shape(start), RELEASE_VELOCITY), tf.cast(notes["velocity"], tf.int32)], axis=1
    )
    # In order of time, on one tick up before down; what is no note comes last and is cut off.
    key = tf.where(twice["is_note"], 2 * tick + is_down, tf.int64.max)
    counts = 2 * tf.reduce_sum(tf.cast(notes["is_note"], tf.int32), axis=1)  # (batch,)
    num = tf.reduce_max(tf.pad(counts, [[0, 1]]))  # 0 in a batch without rows
    order = tf.argsort(key, axis=1, stable=True)[:, :num]

    def sort(values):
        return tf.gather(tf.cast(values, tf.int64), order, batch_dims=1)  # (batch, num)

    tick = sort(tick)
    wait = tick - tf.pad(tick, [[0, 0], [1, 0]])[:, :-1]
    status = KEY_UP + (KEY_DOWN - KEY_UP) * sort(is_down)
    data = tf.stack([status, sort(twice["pitch"]), sort(velocity)], axis=-1)
    numbers = tf.concat([variable_length(wait), data], axis=-1)  # (batch, num, 7)
    is_message = tf.sequence_mask(counts, num)[..., tf.newaxis]
    numbers = tf.where(is_message, numbers, NO_BYTE)
    return tf.reshape(numbers, [tf.shape(numbers)[0], 7 * num])


def _big_endian(numbers):
    """Whole numbers, shape (batch,) -> their four bytes as numbers, highest first; (batch, 4)."""
    shifts = tf.constant([24, 16, 8, 0], numbers.dtype)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(numbers[:, tf.newaxis], shifts), 255)
