"""MIDI files from inside a graph: ids in, bytes out; what they hold is what `write_midi` writes."""

import functools
import io

import cpp_loader
import mido
import numpy as np
import pretty_midi
import pytest
import symusic
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music.midi.files import MAX_TICK, midi_bytes
from keras_music.serving import check_saved_model, smf
from keras_music.tokenizers import PerformanceTokenizer

SETTINGS = {
    "default": {},
    "a step is less than a tick": {"steps_per_second": 1000, "max_shift_steps": 3},
    "ties, decided by float64": {"steps_per_second": 768, "velocity_bins": 127, "program": 19},
    "no velocity": {"steps_per_second": 24, "velocity_bins": 0, "program": 19},
    "a step is a second": {"steps_per_second": 1, "max_shift_steps": 40, "velocity_bins": 1},
    "long waits": {"max_shift_steps": 10000, "program": 127},
}
TOKENS = tf.TensorSpec([None, None], tf.int32, name="tokens")
every_setting = pytest.mark.parametrize("name", SETTINGS)


@functools.cache
def tokenizer_and_graph(name):
    """A tokenizer, and its `tokens_to_midi` as a graph that knows neither batch nor time."""
    tokenizer = PerformanceTokenizer(**SETTINGS[name])
    return tokenizer, tf.function(
        lambda tokens: smf.tokens_to_midi(tokenizer, tokens), input_signature=[TOKENS]
    )


def hexdump(text):
    """Bytes written as hexadecimal pairs, with comments behind `#`."""
    return bytes.fromhex("".join(line.split("#")[0] for line in text.splitlines()))


def ids_of(tokenizer, line):
    return [tokenizer.vocabulary.index(token) for token in line.split()]


def pad(rows, width=0):
    """Rows of ids -> int32 (batch, time), filled up with `PAD`."""
    width = max([width, *map(len, rows)])
    return np.array([[*row, *[0] * (width - len(row))] for row in rows], np.int32)


def rows(name, max_rows=4):
    """Rows of any ids of a vocabulary; half of the ids are few enough to meet again."""
    tokenizer = PerformanceTokenizer(**SETTINGS[name])
    kinds = ("NOTE_ON_60", "NOTE_ON_61", "NOTE_OFF_60", "NOTE_OFF_61", "TIME_SHIFT", "VELOCITY_1")
    few = [i for i, token in enumerate(tokenizer.vocabulary) if token.startswith(kinds)]
    few = few[:4] + few[4:7] + few[-2:]
    ids = st.sampled_from(few * 3 + [0, 2]) | st.integers(0, tokenizer.vocab_size - 1)
    return st.lists(st.lists(ids, max_size=40), min_size=1, max_size=max_rows)


# What a file holds, by three readers: sorted (pitch, velocity, start, end, program)


def by_symusic(data):
    return sorted(
        (note.pitch, note.velocity, note.time, note.end, track.program)
        for track in symusic.Score.from_midi(data).tracks
        for note in track.notes
    )


def by_mido(data):
    """Of two notes of one pitch, the one that went down first comes up first."""
    found, down, now, program = [], {}, 0, None
    for message in mido.merge_tracks(mido.MidiFile(file=io.BytesIO(data)).tracks):
        now += message.time
        if message.type == "program_change":
            program = message.program
        elif message.type == "note_on":
            down.setdefault(message.note, []).append((message.velocity, now))
        elif message.type == "note_off":
            found.append((message.note, *down[message.note].pop(0), now, program))
    assert not any(down.values())
    return sorted(found)


def by_pretty_midi(data):
    """Here, a key that comes up ends all notes of its pitch; times are in seconds."""
    return sorted(
        (note.pitch, note.velocity, note.start, note.end, instrument.program)
        for instrument in pretty_midi.PrettyMIDI(io.BytesIO(data)).instruments
        for note in instrument.notes
    )


# Literals: ids in, bytes out


def test_a_file_byte_by_byte():
    tokenizer = PerformanceTokenizer(program=19)
    ids = ids_of(
        tokenizer,
        "START VELOCITY_20 NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60 NOTE_ON_64 TIME_SHIFT_100 "
        "NOTE_OFF_64 END",
    )
    (data,) = smf.tokens_to_midi(tokenizer, [ids]).numpy()
    assert data == hexdump("""
        4D 54 68 64  00 00 00 06    # "MThd", six bytes follow
        00 00  00 01  01 E0         # format 0, one track, 480 ticks to a quarter note

        4D 54 72 6B  00 00 00 20    # "MTrk", 32 bytes follow
        00 FF 51 03 07 A1 20        # 500,000 microseconds a quarter note: 120 a minute
        00 C0 13                    # program 19
        00 90 3C 4E                 # C4 down, velocity 78
        83 60 80 3C 40              # 480 ticks later up
        00 90 40 4E                 # E4 down
        87 40 80 40 40              # 960 ticks later up
        00 FF 2F 00                 # end of track
    """)
    assert by_symusic(data) == [(60, 78, 0, 480, 19), (64, 78, 480, 1440, 19)]


def test_the_file_in_the_docstring():
    notes = {"is_note": [[True]], "pitch": [[60]], "velocity": [[80]], "start": [[0]], "end": [[1]]}
    notes = {name: tf.constant(value) for name, value in notes.items()}
    (data,) = smf.midi_bytes(notes, steps_per_second=2, program=19).numpy()
    lines = [line[:56] for line in smf.__doc__.splitlines() if line.startswith("    ")]
    assert data == bytes.fromhex("".join(lines).replace("|", ""))


def test_what_stands_where_no_note_is_does_not_matter():
    """The second place holds numbers that no file could, the first the note of the docstring."""
    notes = {"is_note": [[True, False]], "pitch": [[60, 999]], "velocity": [[80, -1]]}
    notes |= {"start": [[0, 2**40]], "end": [[1, 2**40]]}
    notes = {name: tf.constant(value) for name, value in notes.items()}
    (data,) = smf.midi_bytes(notes, steps_per_second=2, program=19).numpy()
    assert by_symusic(data) == [(60, 80, 0, 480, 19)]
    assert len(data) == 14 + 8 + 23


@pytest.mark.parametrize("line", ["", "START", "START END", "END NOTE_ON_60 TIME_SHIFT_9", "PAD"])
def test_a_row_without_notes_is_a_file_without_notes(line):
    tokenizer, graph = tokenizer_and_graph("default")
    (data,) = graph(pad([ids_of(tokenizer, line)])).numpy()
    assert data == hexdump("""
        4D 54 68 64  00 00 00 06  00 00  00 01  01 E0
        4D 54 72 6B  00 00 00 0E  00 FF 51 03 07 A1 20  00 C0 00  00 FF 2F 00
    """)
    assert by_symusic(data) == by_mido(data) == by_pretty_midi(data) == []


def test_a_batch_without_rows_gives_no_file():
    _, graph = tokenizer_and_graph("default")
    assert graph(np.zeros((0, 5), np.int32)).shape == (0,)
    assert graph(np.zeros((0, 0), np.int32)).shape == (0,)


@pytest.mark.parametrize(
    ("number", "dump"),
    [
        (0, "00"),
        (127, "7F"),
        (128, "81 00"),
        (480, "83 60"),
        (16383, "FF 7F"),
        (16384, "81 80 00"),
        (2097151, "FF FF 7F"),
        (2097152, "81 80 80 00"),
        (2**28 - 1, "FF FF FF 7F"),
    ],
)
def test_variable_length_quantities(number, dump):
    assert smf.join(smf.variable_length([number])).numpy().tolist() == [bytes.fromhex(dump)]
    assert mido.midifiles.meta.encode_variable_int(number) == list(bytes.fromhex(dump))


# Notes in the graph are the notes of `decode`


def test_notes_stand_where_their_note_on_stands():
    tokenizer = PerformanceTokenizer()
    ids = ids_of(tokenizer, "START VELOCITY_20 NOTE_ON_60 TIME_SHIFT_50 NOTE_OFF_60 END NOTE_ON_61")
    notes = {name: x.numpy().tolist() for name, x in tokenizer.notes_in_graph([ids]).items()}
    assert notes == {
        "is_note": [[False, False, True, False, False, False, False]],
        "pitch": [[0, 0, 60, 0, 0, 0, 0]],
        "velocity": [[0, 0, 78, 0, 0, 0, 0]],
        "start": [[0, 0, 0, 0, 0, 0, 0]],
        "end": [[0, 0, 50, 0, 0, 0, 0]],
    }


@pytest.mark.parametrize(
    ("line", "notes"),  # (pitch, velocity, start, end)
    [
        ("NOTE_ON_60 TIME_SHIFT_5", [(60, 80, 0, 5)]),  # sounds to the last token
        ("NOTE_ON_60 NOTE_OFF_60", [(60, 80, 0, 1)]),  # at least one step
        ("NOTE_ON_60 TIME_SHIFT_5 END TIME_SHIFT_5 NOTE_OFF_60", [(60, 80, 0, 5)]),
        ("NOTE_ON_60 PAD TIME_SHIFT_5 START NOTE_OFF_60", [(60, 80, 0, 5)]),
        ("NOTE_ON_60 TIME_SHIFT_5 NOTE_ON_60 TIME_SHIFT_2", [(60, 80, 0, 5), (60, 80, 5, 7)]),
        ("NOTE_ON_60 NOTE_ON_60 TIME_SHIFT_9", [(60, 80, 0, 1), (60, 80, 0, 9)]),
        ("NOTE_OFF_60 TIME_SHIFT_1 NOTE_ON_61 TIME_SHIFT_1 NOTE_OFF_60", [(61, 80, 1, 2)]),
        (  # the last velocity before it; velocities after it change nothing
            "NOTE_ON_60 VELOCITY_1 NOTE_ON_61 VELOCITY_32 NOTE_ON_62 VELOCITY_1 TIME_SHIFT_3",
            [(60, 80, 0, 3), (61, 2, 0, 3), (62, 126, 0, 3)],
        ),
    ],
)
def test_notes_of_a_row(line, notes):
    tokenizer = PerformanceTokenizer()
    found = tokenizer.notes_in_graph([ids_of(tokenizer, line)])
    columns = [found[name][found["is_note"]] for name in ("pitch", "velocity", "start", "end")]
    assert list(zip(*(column.numpy().tolist() for column in columns), strict=True)) == notes


@every_setting
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_notes_in_graph_are_those_of_decode(name, data):
    tokenizer, _ = tokenizer_and_graph(name)
    batch = pad(data.draw(rows(name)))
    found = {key: value.numpy() for key, value in tokenizer.notes_in_graph(batch).items()}
    assert [x.shape for x in found.values()] == [batch.shape] * 5
    for i, row in enumerate(batch):
        is_note = found["is_note"][i]
        piece = tokenizer.decode(row)
        seconds = [found[key][i, is_note] / tokenizer.steps_per_second for key in ("start", "end")]
        columns = [found["pitch"][i, is_note], found["velocity"][i, is_note], *seconds]
        table = piece.notes[["pitch", "velocity", "start", "end"]]
        assert sorted(zip(*columns, strict=True)) == sorted(table.itertuples(index=False))


def test_steps_do_not_overflow():
    """2.5 billion steps, more than int32 holds."""
    tokenizer = PerformanceTokenizer(steps_per_second=1000, max_shift_steps=10000)
    ids = np.full((1, 250_002), tokenizer.table.ids("TIME_SHIFT", 10000))
    ids[:, -2:] = ids_of(tokenizer, "NOTE_ON_60 TIME_SHIFT_1")
    notes = tokenizer.notes_in_graph(ids)
    assert notes["start"][0, -2] == 2_500_000_000
    assert notes["end"][0, -2] == 2_500_000_001


# The law: what the file holds is what `write_midi(tokenizer.decode(ids), path)` holds


@every_setting
@settings(deadline=None, max_examples=20)
@given(data=st.data())
def test_a_file_holds_what_write_midi_writes(name, data):
    """And neither the other rows of a batch nor the padding leave a trace in its bytes."""
    tokenizer, graph = tokenizer_and_graph(name)
    batch = data.draw(rows(name))
    files = graph(pad(batch, width=45)).numpy().tolist()
    for row, found in zip(batch, files, strict=True):
        assert by_symusic(found) == by_symusic(midi_bytes(tokenizer.decode(row)))
    assert graph(pad(batch[:1])).numpy().tolist() == files[:1]


@every_setting
@settings(deadline=None, max_examples=6)
@given(data=st.data())
def test_mido_and_pretty_midi_agree(name, data):
    tokenizer, graph = tokenizer_and_graph(name)
    batch = pad(data.draw(rows(name, max_rows=2)))
    for row, found in zip(batch, graph(batch).numpy(), strict=True):
        written = midi_bytes(tokenizer.decode(row))
        assert by_mido(found) == by_mido(written) == by_symusic(written)
        assert by_pretty_midi(found) == by_pretty_midi(written)


@every_setting
def test_long_rows(name):
    """Thousands of notes on six keys, many of them on one tick."""
    tokenizer, graph = tokenizer_and_graph(name)
    table, rng = tokenizer.table, np.random.default_rng(0)
    keys = np.concatenate([table.ids(kind, np.arange(60, 66)) for kind in ("NOTE_ON", "NOTE_OFF")])
    waits = table.ids("TIME_SHIFT", np.arange(1, 4))
    few = rng.choice(np.concatenate([keys, waits]), (3, 3000))
    batch = np.where(rng.random(few.shape) < 0.9, few, rng.integers(3, table.size, few.shape))
    for row, found in zip(batch, graph(batch).numpy(), strict=True):
        notes = by_symusic(found)
        assert notes == by_mido(found) == by_symusic(midi_bytes(tokenizer.decode(row)))
        assert len(notes) > 1000


def test_rounding_to_ticks_makes_notes_meet():
    """Steps 12 and 13 of 1000 a second are both tick 12: a note lasts one tick, the next one
    begins before it is over, and still each keeps its velocity and its end."""
    tokenizer, graph = tokenizer_and_graph("a step is less than a tick")
    line = "TIME_SHIFT_3 TIME_SHIFT_3 TIME_SHIFT_3 TIME_SHIFT_3 VELOCITY_1 NOTE_ON_60 TIME_SHIFT_1 "
    line += "NOTE_OFF_60 VELOCITY_32 NOTE_ON_60 TIME_SHIFT_3 NOTE_OFF_60 END"
    (data,) = graph([ids_of(tokenizer, line)]).numpy()
    assert by_symusic(data) == by_mido(data) == [(60, 2, 12, 13, 0), (60, 126, 12, 15, 0)]


def test_a_chorale():
    piece = km.corpora.bach_chorales()[0]
    tokenizer = PerformanceTokenizer(velocity_bins=127, program=19)
    ids = tokenizer.encode(piece)
    (data,) = smf.tokens_to_midi(tokenizer, [ids]).numpy()
    written = midi_bytes(tokenizer.decode(ids))
    assert by_symusic(data) == by_mido(data) == by_symusic(written)
    assert len(by_symusic(data)) == 200
    assert len(data) < 1.3 * len(written)
    read = km.read_midi(data)
    assert np.array_equal(tokenizer.encode(read), ids)
    assert set(read.notes["program"]) == {19}
    assert read.tempos["tempo_bpm"].tolist() == [120]


# The length of a file has a limit


def test_a_row_that_is_too_long_is_refused():
    """279,620 seconds at 960 ticks a second are below 2**28 ticks; one more second is not."""
    tokenizer = PerformanceTokenizer(steps_per_second=1, max_shift_steps=10000)
    graph = tf.function(lambda ids: smf.tokens_to_midi(tokenizer, ids), input_signature=[TOKENS])
    start = "TIME_SHIFT_10000 " * 27
    ids = ids_of(tokenizer, start + "TIME_SHIFT_9619 NOTE_ON_60 TIME_SHIFT_1 NOTE_OFF_60")
    (data,) = graph([ids]).numpy()
    assert by_symusic(data) == [(60, 80, 960 * 279_619, 960 * 279_620, 0)]
    # A long silence after the last note is not in the file.
    silence = [*ids, *ids_of(tokenizer, "TIME_SHIFT_10000")]
    assert graph([silence]).numpy().tolist() == [data]

    ids = ids_of(tokenizer, start + "TIME_SHIFT_9619 NOTE_ON_60 TIME_SHIFT_2 NOTE_OFF_60")
    with pytest.raises(ValueError, match="shorter than"):
        midi_bytes(tokenizer.decode(ids))
    for function in (graph, graph.python_function):
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            function(pad([ids, [1, 2]]))
        message = error.value.message.replace("\\'", "'")
        assert f"`num_tokens` and `prompt` must make a piece of at most {MAX_TICK}" in message
        assert str(960 * 279_621) in message


# Export


def test_served_it_gives_what_python_gives(tmp_path):
    """In C++ as TensorFlow Serving runs it, with the graph optimiser. This made divisions by
    constants into multiplications, and one tick in a hundred was wrong at 768 steps a second."""
    name = "ties, decided by float64"
    tokenizer, _ = tokenizer_and_graph(name)
    line = "VELOCITY_9 " + "NOTE_ON_60 TIME_SHIFT_2 NOTE_ON_62 TIME_SHIFT_5 NOTE_OFF_60 " * 400
    batch = pad([ids_of(tokenizer, line), [1, 2], []])

    @tf.function(input_signature=[TOKENS])
    def midi(tokens):
        return {"midi_bytes": smf.tokens_to_midi(tokenizer, tokens)}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=midi.get_concrete_function())
    assert check_saved_model(tmp_path) == []
    signature = "serving_default"
    loaded = tf.saved_model.load(str(tmp_path)).signatures[signature]
    in_python = loaded(tokens=tf.constant(batch))["midi_bytes"].numpy().tolist()
    too_long = np.full((1, 400_000), tokenizer.table.ids("TIME_SHIFT", 768), np.int32)
    too_long[:, -2] = tokenizer.table.ids("NOTE_ON", 60)
    calls = [(signature, {"tokens": tokens}) for tokens in (batch, batch[:1], too_long)]
    together, alone, refused = cpp_loader.run_in_fresh_process(tmp_path, calls)
    assert together["midi_bytes"].tolist() == in_python
    assert alone["midi_bytes"].tolist() == in_python[:1]
    for row, found in zip(batch, in_python, strict=True):
        assert by_symusic(found) == by_symusic(midi_bytes(tokenizer.decode(row)))
    assert refused.code == 3  # INVALID_ARGUMENT
    assert "`num_tokens` and `prompt` must make a piece of at most" in refused.message
