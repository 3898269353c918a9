"""The grammar: which ids may come next, said for each tokenizer, and that models obey."""

import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music.midi import Piece
from keras_music.tokenizers.event_grammar import PRESSES, EventGrammar
from keras_music.tokenizers.grammar import LONGEST

ROOT = pathlib.Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("validity", ROOT / "benchmarks" / "validity.py")
validity = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(validity)  # a plain reader that shares no code with the grammar

TOKENIZERS = validity.tokenizers()
BY_NAME = pytest.mark.parametrize("name", TOKENIZERS)


def after(tokenizer, text, remaining=LONGEST):
    """The tokens that may come after these, as a set; what is in {} stands for all its values."""
    grammar, state = tokenizer.grammar, tokenizer.grammar.start(1)
    for token in text.split():
        state = grammar.advance(state, np.array([tokenizer.vocabulary.index(token)]))
    allowed = grammar.allowed(state, np.array([remaining], np.int32))[0]
    return {tokenizer.vocabulary[i] for i in np.flatnonzero(allowed)}


def kinds(tokens):
    return {validity.split(token)[0] for token in tokens}


def test_a_key_is_pressed_when_it_is_up_and_released_when_it_is_down():
    tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=2)
    nothing = after(tokenizer, "START")
    assert kinds(nothing) == {"NOTE_ON", "TIME_SHIFT", "VELOCITY", "END"}
    pressed = after(tokenizer, "START NOTE_ON_60")
    assert nothing - pressed == {"NOTE_ON_60", "END"}
    assert kinds(pressed) == {"NOTE_ON", "TIME_SHIFT", "VELOCITY"}  # not yet released: no length
    sounding = after(tokenizer, "START NOTE_ON_60 TIME_SHIFT_5")
    assert sounding - pressed == {"NOTE_OFF_60"}
    assert after(tokenizer, "START NOTE_ON_60 TIME_SHIFT_5 NOTE_OFF_60") == nothing
    assert kinds(after(tokenizer, "START VELOCITY_1")) == {"NOTE_ON"}


def test_what_sounds_is_closed_before_the_room_is_used_up():
    tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0)
    chord = "START NOTE_ON_60 NOTE_ON_64"
    assert kinds(after(tokenizer, chord, 3)) == {"TIME_SHIFT"}
    # A third needs a wait and three releases after it.
    assert kinds(after(tokenizer, chord, 4)) == {"TIME_SHIFT"}
    assert kinds(after(tokenizer, chord, 5)) == {"TIME_SHIFT", "NOTE_ON"}
    later = f"{chord} TIME_SHIFT_9"
    assert after(tokenizer, later, 2) == {"NOTE_OFF_60", "NOTE_OFF_64"}
    assert kinds(after(tokenizer, later, 3)) == {"NOTE_OFF", "TIME_SHIFT"}
    assert after(tokenizer, f"{later} NOTE_OFF_60", 1) == {"NOTE_OFF_64"}
    closed = f"{later} NOTE_OFF_60 NOTE_OFF_64"
    assert kinds(after(tokenizer, closed, 1)) == {"TIME_SHIFT", "END"}


def test_a_prompt_that_leaves_too_little_room_is_closed_as_far_as_it_goes():
    tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0)
    chord = "START NOTE_ON_60 NOTE_ON_64 NOTE_ON_67 TIME_SHIFT_9"
    assert kinds(after(tokenizer, chord, 1)) == {"NOTE_OFF"}


def test_keys_are_counted_also_where_ids_may_not_come():
    """Released in the step of the press, pressed while down, released while up: all silent."""
    tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0)
    again = "NOTE_ON_60 TIME_SHIFT_1 NOTE_ON_60 NOTE_OFF_60"
    for text in ("NOTE_ON_60 NOTE_OFF_60", again, "NOTE_OFF_60"):
        state = tokenizer.grammar.start(1)
        for token in f"START {text}".split():
            ids = np.array([tokenizer.vocabulary.index(token)])
            state = tokenizer.grammar.advance(state, ids)
        assert (state["sounding"][0], state["fresh"][0], state["keys"].any()) == (0, 0, False)
        assert after(tokenizer, f"START {text}", 1) == after(tokenizer, "START", 1)


def test_programs_have_keys_of_their_own():
    tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0, multi_program=True)
    text = "START PROGRAM_32 NOTE_ON_40 TIME_SHIFT_5"
    assert "NOTE_OFF_40" in after(tokenizer, text)
    assert "NOTE_ON_40" not in after(tokenizer, text)
    other = after(tokenizer, f"{text} PROGRAM_128")
    assert "NOTE_ON_40" in other
    assert kinds(other) == {"NOTE_ON"}  # no release there, and no program without a note
    # Two programs sound: two releases and one change of program are needed.
    both = f"{text} PROGRAM_128 NOTE_ON_40 TIME_SHIFT_1"
    assert after(tokenizer, both, 3) == {"NOTE_OFF_40"}
    assert after(tokenizer, f"{both} NOTE_OFF_40", 2) == {"PROGRAM_32"}
    assert "PROGRAM_32" in after(tokenizer, both, 4)


def test_the_pedal_is_a_key():
    tokenizer = km.tokenizers.PerformanceTokenizer(pedal="tokens")
    assert "PEDAL_ON" in after(tokenizer, "START")
    assert "PEDAL_OFF" not in after(tokenizer, "START")
    down = after(tokenizer, "START PEDAL_ON TIME_SHIFT_1")
    assert {"PEDAL_ON", "END"} & down == set()
    assert "PEDAL_OFF" in down


def test_in_a_bar_time_goes_forward():
    tokenizer = km.tokenizers.RemiTokenizer(positions_per_beat=2, velocity_bins=0)
    assert after(tokenizer, "START") == {"BAR", "END"}
    positions = {f"POSITION_{p}" for p in range(8)}
    bar = after(tokenizer, "START BAR")
    assert {t for t in bar if t.startswith("POSITION")} == positions
    assert kinds(bar) == {"BAR", "POSITION", "TIME_SIGNATURE", "END"}
    waltz = after(tokenizer, "START BAR TIME_SIGNATURE_3/4")
    assert waltz == {f"POSITION_{p}" for p in range(6)} | {"BAR", "END"}
    note = "START BAR TIME_SIGNATURE_3/4 POSITION_3 PITCH_60"
    assert kinds(after(tokenizer, note)) == {"DURATION"}
    later = after(tokenizer, f"{note} DURATION_3")
    assert {t for t in later if t.startswith("POSITION")} == {"POSITION_4", "POSITION_5"}
    assert "PITCH_60" not in later
    assert "PITCH_61" in later
    # It sounds for three positions: over the bar line at 6, not in the next bar.
    for place, is_silent in (
        ("POSITION_4", False),
        ("POSITION_5", False),
        ("BAR POSITION_0", True),
    ):
        assert ("PITCH_60" in after(tokenizer, f"{note} DURATION_3 {place}")) == is_silent
    # The signature holds for the bars that follow.
    assert "POSITION_6" not in after(tokenizer, f"{note} DURATION_3 BAR")


def test_a_note_is_begun_only_if_there_is_room_for_all_of_it():
    tokenizer = km.tokenizers.RemiTokenizer(tempos=(120,))
    assert "POSITION" in kinds(after(tokenizer, "START BAR", 4))
    assert kinds(after(tokenizer, "START BAR", 3)) == {"BAR", "TIME_SIGNATURE", "END"}
    notes = km.tokenizers.NoteTokenizer()
    assert kinds(after(notes, "START", 4)) == {"STEP", "END"}
    assert after(notes, "START", 3) == {"END"}


def test_only_the_longest_step_goes_on():
    tokenizer = km.tokenizers.NoteTokenizer(max_step=20, velocity_bins=0)
    assert kinds(after(tokenizer, "START STEP_19")) == {"PITCH"}
    assert kinds(after(tokenizer, "START STEP_20")) == {"PITCH", "STEP"}
    note = "START STEP_0 PITCH_60 DURATION_30"
    assert "PITCH_60" not in after(tokenizer, f"{note} STEP_20 STEP_9")
    assert "PITCH_60" in after(tokenizer, f"{note} STEP_20 STEP_10")


def test_voices_take_turns():
    tokenizer = km.tokenizers.ChoraleTokenizer(num_voices=2)
    start = after(tokenizer, "START")
    assert kinds(start) == {"NOTE", "REST", "END"}
    second = after(tokenizer, "START NOTE_70")
    assert kinds(second) == {"NOTE", "REST"}
    assert "HOLD" in after(tokenizer, "START NOTE_70 REST")
    assert "HOLD" not in after(tokenizer, "START NOTE_70 REST HOLD")
    assert after(tokenizer, "START NOTE_70 REST", 1) == {"END"}
    assert kinds(after(tokenizer, "START NOTE_70 REST", 2)) == {"NOTE", "HOLD", "REST", "END"}


def test_what_is_held_in_silence_is_silence():
    """A prompt may say `HOLD` where nothing sounds: there is nothing to hold after it either."""
    tokenizer = km.tokenizers.ChoraleTokenizer(num_voices=1)
    assert kinds(after(tokenizer, "START HOLD")) == {"NOTE", "REST", "END"}
    assert kinds(after(tokenizer, "START NOTE_70 REST HOLD")) == {"NOTE", "REST", "END"}
    assert "HOLD" in after(tokenizer, "START NOTE_70 HOLD")


@BY_NAME
def test_it_allows_what_is_written(name):
    """No id that `encode` writes may be forbidden, or a model could not write what it learned."""
    tokenizer = TOKENIZERS[name]
    for piece in km.corpora.bach_chorales()[::40]:
        ids = tokenizer.encode(piece)
        assert tokenizer.grammar.first_wrong(ids) is None
        assert not sum(validity.faults(tokenizer, ids).values())


NOTE = st.tuples(
    st.integers(0, 127), st.integers(0, 400), st.integers(0, 120), st.integers(0, 3), st.booleans()
)


@BY_NAME
@settings(max_examples=25, deadline=None)
@given(notes=st.lists(NOTE, max_size=25), pedals=st.lists(st.integers(0, 300), max_size=2))
def test_it_allows_what_is_written_of_any_piece(name, notes, pedals):
    columns = zip(*notes, strict=True) if notes else [[]] * 5
    pitch, start, length, program, is_drum = (np.array(column) for column in columns)
    table = {"pitch": pitch, "start": start / 100, "end": (start + length) / 100}
    table |= {"program": program, "is_drum": is_drum.astype(bool)}
    piece = Piece(
        table if notes else [],
        tempos=[{"time": 0, "tempo_bpm": 90}, {"time": 1.3, "tempo_bpm": 150}],
        time_signatures=[{"time": 1.0, "numerator": 6, "denominator": 8}],
        pedals=[{"start": p / 100, "end": p / 100 + 1} for p in pedals],
    )
    ids = TOKENIZERS[name].encode(piece)
    assert TOKENIZERS[name].grammar.first_wrong(ids) is None
    assert not sum(validity.faults(TOKENIZERS[name], ids).values())


@BY_NAME
def test_the_graph_says_what_numpy_says(name):
    """For ids that may come and for ids that may not."""
    tokenizer, rng = TOKENIZERS[name], np.random.default_rng(0)
    grammar, rows = tokenizer.grammar, 40

    @tf.function
    def in_graph(state, ids, remaining):
        graph = tokenizer.grammar.in_graph
        state = graph.advance(state, ids)
        return state, graph.allowed(state, remaining), graph.seconds(state, ids)

    state = grammar.start(rows)
    tensors = {key: tf.constant(value) for key, value in state.items()}
    ids = np.full(rows, tokenizer.start_id, np.int32)
    for _ in range(60):
        remaining = rng.integers(1, 40, rows).astype(np.int32)
        tensors, allowed, seconds = in_graph(tensors, tf.constant(ids), tf.constant(remaining))
        state = grammar.advance(state, ids)
        expected = grammar.allowed(state, remaining)
        np.testing.assert_array_equal(allowed, expected)
        np.testing.assert_allclose(seconds, grammar.seconds(state, ids), atol=1e-6)
        assert sorted(state) == sorted(tensors)
        for key, value in state.items():
            np.testing.assert_array_equal(tensors[key], value)
            assert value.dtype == np.int32
            assert value.min() >= 0, key
            assert value.max() <= grammar.largest()[key], key
        assert expected[:30].any(axis=1).all()
        drawn = [rng.choice(np.flatnonzero(row) if row.any() else [2]) for row in expected]
        anything = rng.integers(0, tokenizer.vocab_size, rows)
        ids = np.where(np.arange(rows) < 30, drawn, anything).astype(np.int32)


@BY_NAME
def test_whatever_the_weights_every_sequence_is_valid(name):
    """And without the grammar, the same networks are not: so the count can count."""
    tokenizer = TOKENIZERS[name]
    with_it = validity.count_faults(tokenizer, 400, use_grammar=True)
    assert with_it.total() == 0, with_it
    without = validity.count_faults(tokenizer, 100, use_grammar=False)
    assert without["sequences"] > 50


@pytest.mark.slow
@BY_NAME
def test_ten_thousand_sequences_are_valid(name):
    found = validity.count_faults(TOKENIZERS[name], 10_000, use_grammar=True)
    assert found.total() == 0, found


def test_time_is_counted_in_seconds():
    def seconds(tokenizer, text):
        grammar, state, total = tokenizer.grammar, tokenizer.grammar.start(1), 0.0
        for token in text.split():
            ids = np.array([tokenizer.vocabulary.index(token)])
            total += float(grammar.seconds(state, ids)[0])
            state = grammar.advance(state, ids)
        return total

    kinds = km.tokenizers
    performance = "START NOTE_ON_60 TIME_SHIFT_100 TIME_SHIFT_50"
    assert seconds(kinds.PerformanceTokenizer(), performance) == pytest.approx(1.5)
    notes = "START STEP_25 PITCH_60 VELOCITY_1 DURATION_9 STEP_50"
    assert seconds(kinds.NoteTokenizer(), notes) == pytest.approx(1.5)
    remi = kinds.RemiTokenizer(positions_per_beat=4, tempos=(60, 120))
    # A bar at 120, half a bar more, then half a bar at 60, and a quarter of a bar.
    bars = "START BAR POSITION_4 BAR POSITION_8 TEMPO_60 BAR POSITION_4"
    assert seconds(remi, bars) == pytest.approx(2 + 1 + 2 + 1)
    chorale = kinds.ChoraleTokenizer(num_voices=2, steps_per_beat=4, tempo_bpm=60)
    assert seconds(chorale, "START REST REST REST REST REST") == pytest.approx(0.5)


def test_how_long_a_step_lasts_must_be_said():
    """Left out, no time passed: a ceiling of 3 notes a second let 3 notes begin, ever."""
    table = km.tokenizers.PerformanceTokenizer().table
    with pytest.raises(TypeError, match="step_seconds"):
        EventGrammar(table, *PRESSES)


def test_a_tempo_is_remembered_only_where_one_can_be_written():
    """A table of one tempo writes none: `step` carried a state that was always 0."""
    assert "tempo" not in km.tokenizers.RemiTokenizer(tempos=[90]).grammar.start(1)
    assert "tempo" in km.tokenizers.RemiTokenizer(tempos=[90, 120]).grammar.start(1)
