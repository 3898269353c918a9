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

The first byte of a message, its *status*, is 128 or more: 0x90 key down, 0x80 key up, 0xb0 a
controller, 0xc0 program (each plus the channel, here 0), 0xff a message for the file's reader. The
data bytes after it are below 128. A delta time is a *variable-length quantity*: seven bits a byte,
highest first, and every byte but the last has its top bit set. 480 = 3 * 128 + 96 needs two:
0x80 + 3 and 96, so 83 60. Four bytes hold at most 2**28 - 1, over three days at 960 ticks a second.

A *channel* plays one program at a time, so each instrument has a channel and, in format 1, a track
of its own. The track before them, the conductor's, has no notes. Channel 9 is the drums', whose
keys are not pitches but instruments. Here a piano with its pedal, and a bass drum:

    4d 54 68 64 | 00 00 00 06 | 00 01 | 00 03 | 01 e0     format 1, 3 tracks
    4d 54 72 6b | 00 00 00 13
    00          | ff 51 03 0f 42 40                       1,000,000 microseconds a quarter
    00          | ff 58 04 03 02 18 08                    time signature: 3 over 2**2 (and 24 clocks
                                                          a click, 8 32nd notes a quarter: as usual)
    00          | ff 2f 00
    4d 54 72 6b | 00 00 00 18
    00          | c0 00                                   program 0, piano
    00          | b0 40 7f                                controller 64, the pedal: 127, down
    00          | 90 3c 50
    83 60       | 80 3c 40
    00          | b0 40 00                                the pedal: 0, up
    00          | ff 2f 00
    4d 54 72 6b | 00 00 00 10
    00          | c9 00                                   0xc0 + 9: the drums' program 0
    00          | 99 24 50                                36, bass drum
    81 70       | 89 24 40                                wait 128 + 112 = 240
    00          | ff 2f 00

A graph makes bytes as it makes words from ids: every byte is looked up in a table of strings, the
strings are joined to messages, and these, in the order of time, to tracks. Files are of different
lengths and tensors are not, so the table has one more string, the empty one, and what is not needed
in a row is looked up there.

Conventions: a file holds, note for note and tick for tick, what `keras_music.write_midi` writes:
480 ticks a quarter; steps of a second become ticks by the same float64 arithmetic at 120 quarters a
minute, steps of a beat are whole ticks; a note lasts at least one tick. On one tick keys come up,
then pedals move, then keys go down; a key that goes down twice comes up first for the note that
began first. Format 0 where there can be but one track and one tempo, format 1 elsewhere. Numbers of
bytes are int64, shape (..., bytes), and 256 is no byte.

What this file does not do: no running status (leaving out a status that repeats), which saves 15%
in a chorale. The 16th track that is no drum shares the channel of the first, and so on, as in
`write_midi`: whoever reads tracks (`read_midi`, pretty_midi) finds every program, but a player,
which hears channels, plays both tracks with the program, and the pedal, that it was told last.

Reference: Standard MIDI Files 1.0 (MIDI Association, 1996).
"""

from __future__ import annotations

import struct

import tensorflow as tf

from keras_music.midi.files import MAX_TICK, SUSTAIN_PEDAL
from keras_music.tokenizers.quantise import TICKS_PER_QUARTER
from keras_music.tokenizers.vocabulary import DRUMS

MICROSECONDS_PER_QUARTER = 500_000  # 120 quarters a minute
NO_BYTE = 256
STRINGS = [bytes([number]) for number in range(256)] + [b""]
END_OF_TRACK = b"\x00\xff\x2f\x00"
TEMPO, TIME_SIGNATURE = b"\xff\x51\x03", b"\xff\x58\x04"
KEY_UP, KEY_DOWN, CONTROLLER, PROGRAM = 0x80, 0x90, 0xB0, 0xC0
RELEASE_VELOCITY = 64  # what MIDI says when nothing is known of it
DRUM_CHANNEL, NUM_CHANNELS = 9, 16


def tokens_to_midi(tokenizer, ids):
    """Rows of ids -> Standard MIDI Files, as `write_midi(tokenizer.decode(row), path)` makes them.

    Args:
      tokenizer: a tokenizer that has `notes_in_graph`, such as a `PerformanceTokenizer`, a
        `program`, and a clock: `steps_per_second`, or `steps_per_beat` and `tempo_bpm`.
      ids: int32, shape (batch, time): ids of its vocabulary; what follows `END` is not read.

    Returns:
      A string tensor, shape (batch,): the bytes of one file a row.

    Raises:
      InvalidArgumentError: see `midi_bytes`.
    """
    names = ("steps_per_second", "steps_per_beat", "tempo_bpm")
    clock = {name: getattr(tokenizer, name) for name in names if hasattr(tokenizer, name)}
    return midi_bytes(tokenizer.notes_in_graph(ids), tokenizer.program, **clock)


def midi_bytes(notes, program, *, steps_per_second=None, steps_per_beat=None, tempo_bpm=120):
    """Rows of notes -> Standard MIDI Files.

    Args:
      notes: a dict of tensors, each of shape (batch, time). Each place holds one thing or nothing.
        Always: `is_note`, bool; `pitch` 0-127, `velocity` 1-127, `start` and `end` in steps, whole
        numbers. Notes of one pitch stand in the order in which they start and end.
        If there are any: `program` 0-127, or 128 for drums; `is_tempo`, bool, and `tempo` in
        microseconds a quarter, below 2**24, from `start` on; `is_time_signature`, bool, and
        `numerator` 1-255, `denominator` (a power of two up to 128), from `start` on (of several on
        one tick the last one counts); `is_pedal`, bool: the pedal of this `program` is down from
        `start` to `end`; spans of one pedal stand in their order and do not overlap.
        `track`, 0-1000, groups notes and pedals instead of `program`: two voices that sing one
        pitch at once need two tracks. All notes of a track have one program.
      program: 0-127, the General MIDI program of notes that have no other.
      steps_per_second: 1-1000, how long a step is; the file has 120 quarters a minute. Or:
      steps_per_beat: a divisor of 480, how many steps a quarter note has; and then
      tempo_bpm: at least 3.6, the quarters a minute before the first `tempo`.

    Returns:
      A string tensor, shape (batch,): the bytes of one file a row.

    Raises:
      ValueError: not exactly one of the two clocks is given, or it does not fit.
      InvalidArgumentError: a row is longer than 2**28 - 1 ticks, as the graph's INVALID_ARGUMENT.
    """
    per_quarter = _check_clock(notes, steps_per_second, steps_per_beat, tempo_bpm)
    has_one_track = not notes.keys() & {"program", "track", "is_tempo", "is_time_signature"}
    notes = _complete(notes, program)
    for name in ("start", "end"):
        notes[name] = _to_ticks(notes[name], steps_per_second, steps_per_beat)
    programs = _programs(notes)  # (batch, tracks); -1: a track without notes
    notes["is_pedal"] &= tf.gather(programs >= 0, notes["track"], batch_dims=1)
    with tf.control_dependencies(_check_length(notes, steps_per_second)):
        shortest = tf.cast(notes["is_note"], tf.int64)
        notes["end"] = tf.maximum(notes["end"], notes["start"] + shortest)
    channels = _channels(programs)
    messages = _played(notes, channels)  # (batch, tracks)
    if has_one_track:
        tempo = b"\x00" + TEMPO + per_quarter.to_bytes(3, "big")
        track = tempo + bytes([0, PROGRAM, program]) + messages[:, 0]
        return _header(0, tf.ones_like(channels[:, 0])) + _chunk(track)
    first = tf.stack([0 * channels, PROGRAM + channels, programs % DRUMS], axis=-1)
    tracks = tf.where(programs >= 0, _chunk(join(first) + messages), "")
    num_tracks = 1 + tf.reduce_sum(tf.cast(programs >= 0, tf.int32), axis=1)
    conductor = _chunk(_conducted(notes, per_quarter))
    return _header(1, num_tracks) + conductor + tf.strings.reduce_join(tracks, axis=1)


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
    """Numbers of bytes, shape (..., bytes) -> strings, shape (...); 256 leaves no trace."""
    return tf.strings.reduce_join(tf.gather(tf.constant(STRINGS), numbers), axis=-1)


def _check_clock(notes, steps_per_second, steps_per_beat, tempo_bpm):
    """The tempo at the beginning, in microseconds a quarter, once it is known what a step is."""
    if (steps_per_second is None) == (steps_per_beat is None):
        raise ValueError(
            "A tokenizer must have either `steps_per_second` or `steps_per_beat`. Received: "
            f"steps_per_second={steps_per_second}, steps_per_beat={steps_per_beat}."
        )
    if steps_per_second is not None:
        if "is_tempo" in notes:
            raise ValueError(
                "`is_tempo` must stand beside `steps_per_beat`: a note in seconds follows no "
                f"tempo. Received: steps_per_second={steps_per_second}. Leave out the tempos."
            )
        return MICROSECONDS_PER_QUARTER
    if TICKS_PER_QUARTER % steps_per_beat:
        raise ValueError(
            f"`steps_per_beat` must divide {TICKS_PER_QUARTER}, the ticks of a quarter note. "
            f"Received: steps_per_beat={steps_per_beat}."
        )
    return round(60e6 / tempo_bpm)


def _complete(notes, program):
    """The notes with all the keys that `midi_bytes` knows; what was left out is nowhere."""
    nowhere, zero = tf.zeros_like(notes["is_note"]), tf.zeros_like(notes["pitch"])
    absent = dict.fromkeys(("is_pedal", "is_tempo", "is_time_signature"), nowhere)
    absent |= dict.fromkeys(("tempo", "numerator", "denominator"), zero)
    absent |= {"program": zero + program, "track": notes.get("program", zero)}
    notes = absent | notes
    is_played = notes["is_note"] | notes["is_pedal"]
    return notes | {"track": tf.where(is_played, notes["track"], 0)}


def _programs(notes):
    """The program of each track of each row, -1 for a track without notes; (batch, tracks)."""
    num_tracks = 1 + tf.reduce_max(tf.pad(notes["track"], [[0, 1], [0, 1]]))  # at least one
    programs = tf.where(notes["is_note"], notes["program"], -1)
    programs = _by_track(tf.math.unsorted_segment_max, programs, notes["track"], num_tracks)
    return tf.maximum(programs, -1)  # the maximum of nothing is far below


def _channels(programs):
    """The channels of a row's tracks: 0, 1, ... without 9, then 0 again; drums have 9."""
    rank = tf.cumsum(tf.cast(programs >= 0, tf.int32), axis=1, exclusive=True)
    channels = rank % (NUM_CHANNELS - 1)
    channels += tf.cast(channels >= DRUM_CHANNEL, tf.int32)
    return tf.where(programs == DRUMS, DRUM_CHANNEL, channels)


def _by_track(reduce, values, track, num_tracks):
    """What a function of segments makes of the values of each track; (batch, tracks)."""
    num_rows = tf.shape(track)[0]
    segment = num_tracks * tf.range(num_rows)[:, tf.newaxis] + track
    return tf.reshape(reduce(values, segment, num_rows * num_tracks), [num_rows, num_tracks])


def _to_ticks(step, steps_per_second, steps_per_beat):
    """Steps -> ticks, int64; seconds are rounded once, by the operations of `midi.files`."""
    if steps_per_beat is not None:
        return tf.cast(step, tf.int64) * (TICKS_PER_QUARTER // steps_per_beat)
    seconds = tf.cast(step, tf.float64) / _unfolded(steps_per_second)
    units = seconds * _unfolded(1e6 * TICKS_PER_QUARTER)
    return tf.cast(tf.round(units / _unfolded(MICROSECONDS_PER_QUARTER)), tf.int64)


def _unfolded(number):
    """A float64 that TensorFlow's graph optimiser does not treat as a constant.

    It makes `x / 3` into `x * (1 / 3)` and several factors into one, which rounds otherwise: at 768
    steps a second one tick in a hundred was wrong. It leaves alone what a caller could still feed.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=tf.constant(number, tf.float64), shape=[])


def _check_length(notes, steps_per_second):
    """The assertion, in a list, that nothing stands after the last tick of a MIDI file."""
    is_change = notes["is_tempo"] | notes["is_time_signature"]
    ticks = tf.where(is_change, notes["start"], 0)
    ticks = tf.where(notes["is_note"] | notes["is_pedal"], notes["end"], ticks)
    longest = tf.reduce_max(tf.pad(ticks, [[0, 0], [0, 1]]), axis=1)  # (batch,); 0 without notes
    rate = f"{TICKS_PER_QUARTER} a quarter note" if steps_per_second is None else "960 a second"
    message = (
        f"`num_tokens` and `prompt` must make a piece of at most {MAX_TICK} ticks, the most that "
        f"a MIDI file can hold ({rate}). Ask for fewer tokens. Received:"
    )
    check = tf.debugging.Assert(tf.reduce_all(longest <= MAX_TICK), [message, longest], summarize=8)
    return [] if check is None else [check]  # None: checked already, outside a graph


def _played(notes, channels):
    """The messages of the notes and pedals of every track, joined; (batch, tracks).

    A note, or a span of a pedal, has two of them: one at its start and one at its end.
    """

    def twice(at_start, at_end):  # (batch, time) or a number each -> (batch, 2 * time)
        zero = tf.zeros_like(notes["start"])
        pair = tf.stack([zero + tf.cast(x, tf.int64) for x in (at_start, at_end)], axis=2)
        return tf.reshape(pair, tf.shape(zero) * [1, 2])

    tick = twice(notes["start"], notes["end"])
    track = twice(notes["track"], notes["track"])
    is_pedal = twice(notes["is_pedal"], notes["is_pedal"]) > 0
    is_played = (twice(notes["is_note"], notes["is_note"]) > 0) | is_pedal
    # On one tick keys come up (0), pedals move (1), keys go down (2).
    phase = tf.where(is_pedal, twice(1, 1), twice(2, 0))
    status = tf.where(is_pedal, twice(CONTROLLER, CONTROLLER), twice(KEY_DOWN, KEY_UP))
    pedal, pitch = twice(SUSTAIN_PEDAL, SUSTAIN_PEDAL), twice(notes["pitch"], notes["pitch"])
    number = tf.where(is_pedal, pedal, pitch)
    force = tf.where(is_pedal, twice(127, 0), twice(notes["velocity"], RELEASE_VELOCITY))
    key = (track * 2**29 + tick) * 4 + phase  # a tick is below 2**29
    is_message, track, tick, status, number, force = _sort(
        key, is_played, track, tick, status, number, force
    )
    wait = tick - tf.where(track == _before(track, -1), _before(tick, 0), 0)
    status += tf.gather(tf.cast(channels, tf.int64), track, batch_dims=1)
    data = tf.stack([status, number, force], axis=-1)
    messages = _messages(is_message, wait, data)  # (batch, num)
    track = tf.cast(track, tf.int32)
    return _by_track(tf.strings.unsorted_segment_join, messages, track, tf.shape(channels)[1])


def _conducted(notes, per_quarter):
    """The messages of the tempos and time signatures, joined; (batch,)."""

    def places(values, first):  # the tempo at the beginning, then all places; the last ones first
        values = tf.pad(tf.cast(values, tf.int64), [[0, 0], [1, 0]], constant_values=first)
        return tf.reverse(values, axis=[1])

    is_change = places(notes["is_tempo"] | notes["is_time_signature"], 1) > 0
    is_metre = places(notes["is_time_signature"], 0)
    tick = places(notes["start"], 0)
    value = tf.where(notes["is_tempo"], notes["tempo"], notes["numerator"])
    value, under = places(value, per_quarter), places(notes["denominator"], 1)
    is_message, tick, is_metre, value, under = _sort(
        2 * tick + is_metre, is_change, tick, is_metre, value, under
    )
    wait = tick - _before(tick, 0)
    # Of several of one kind on one tick the last one counts, which now comes first.
    kind = 2 * tick + is_metre
    is_message &= kind != _before(kind, -1)
    powers = tf.constant([2, 4, 8, 16, 32, 64, 128], tf.int64)
    power = tf.reduce_sum(tf.cast(under[..., tf.newaxis] >= powers, tf.int64), axis=-1)
    tempo = [*TEMPO, value // 2**16, value // 2**8 % 256, value % 256, NO_BYTE]
    metre = [*TIME_SIGNATURE, value, power, 24, 8]
    tempo, metre = (tf.stack([0 * tick + x for x in data], axis=-1) for data in (tempo, metre))
    data = tf.where(is_metre[..., tf.newaxis] > 0, metre, tempo)  # (batch, num, 7)
    messages = _messages(is_message, wait, data)
    return tf.strings.reduce_join(messages, axis=1)


def _sort(key, is_message, *columns):
    """Columns (batch, places) in the order of a key, and first which of them are messages.

    They come first and the rest is cut off: (batch, num), num that of the row with the most.
    """
    counts = tf.reduce_sum(tf.cast(is_message, tf.int32), axis=1)  # (batch,)
    num = tf.reduce_max(tf.pad(counts, [[0, 1]]))  # 0 in a batch without rows
    key = tf.where(is_message, key, tf.int64.max)
    order = tf.argsort(key, axis=1, stable=True)[:, :num]
    return tf.sequence_mask(counts, num), *(tf.gather(c, order, batch_dims=1) for c in columns)


def _before(values, first):
    """What stands one place before, (batch, num); before the first one `first`."""
    return tf.pad(values, [[0, 0], [1, 0]], constant_values=first)[:, :-1]


def _messages(is_message, wait, data):
    """Delta times (batch, num) and numbers of bytes (batch, num, bytes) -> strings (batch, num)."""
    numbers = tf.concat([variable_length(wait), data], axis=-1)
    return join(tf.where(is_message[..., tf.newaxis], numbers, NO_BYTE))


def _chunk(track):
    """The messages of a track, strings of any shape -> a track of a file."""
    track += END_OF_TRACK
    return b"MTrk" + join(_big_endian(tf.strings.length(track))) + track


def _header(kind, num_tracks):
    """The head of a file of format `kind`; num_tracks is int32, shape (batch,)."""
    num_tracks = join(_big_endian(num_tracks)[:, 2:])
    start, end = struct.pack(">IH", 6, kind), struct.pack(">H", TICKS_PER_QUARTER)
    return b"MThd" + start + num_tracks + end


def _big_endian(numbers):
    """Whole numbers, shape (...) -> their four bytes as numbers, highest first; (..., 4)."""
    shifts = tf.constant([24, 16, 8, 0], numbers.dtype)
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(numbers[..., tf.newaxis], shifts), 255)
