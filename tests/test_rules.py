"""What may be drawn: grammar and wishes together, in one step and in whole pieces."""

import importlib.util
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import keras_music as km
from keras_music.generation.rules import Rules
from keras_music.generation.wishes import wish_rows
from keras_music.tokenizers.event_grammar import EventGrammar
from keras_music.tokenizers.vocabulary import SPECIAL, Tokenizer, Vocabulary

ROOT = pathlib.Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("validity", ROOT / "benchmarks" / "validity.py")
validity = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(validity)

TOKENIZERS = {
    "performance": km.tokenizers.PerformanceTokenizer(),
    "programs": km.tokenizers.PerformanceTokenizer(multi_program=True),
    "remi": km.tokenizers.RemiTokenizer(),
    "note": km.tokenizers.NoteTokenizer(),
    "chorale": km.tokenizers.ChoraleTokenizer(),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def one_step(request):
    """A network to which all types are as likely, but for the end; and that likes 60 and 61."""
    tokenizer = TOKENIZERS[request.param]
    model = km.build_model(tokenizer.vocab_size, "gru", 8, units=8)
    grammar = tokenizer.grammar
    bias = np.array([-np.log((grammar.kind_of == kind).sum()) for kind in grammar.kind_of])
    is_note = np.isin(grammar.kind_of, ["NOTE", "NOTE_ON", "NOTE_OFF", "PITCH"])
    bias += 3.0 * (is_note & np.isin(grammar.value_of, [60, 61]))
    bias -= 9.0 * (grammar.kind_of == "END")
    model.layers[-1].bias.assign(bias)
    return km.OneStep(model, tokenizer)


def onsets(piece):
    notes = piece.notes[~piece.notes.is_drum]
    return notes.pitch.to_numpy(), np.sort(piece.notes.start.to_numpy())


def test_without_a_grammar_all_but_pad_and_start_may_come():
    tokenizer = km.tokenizers.CharTokenizer("ab")
    rules = Rules(tokenizer)
    logits = rules.limit(tf.zeros([1, 5]), rules.start(1), tf.constant([1]))
    assert logits.numpy().tolist() == [[-np.inf, -np.inf, 0, 0, 0]]


def test_the_grammar_can_be_left_out():
    tokenizer = TOKENIZERS["performance"]
    rules = Rules(tokenizer, use_grammar=False)
    logits = rules.limit(tf.zeros([1, tokenizer.vocab_size]), {}, tf.constant([1]))
    assert np.isfinite(logits).sum() == tokenizer.vocab_size - 2


def test_only_the_key_and_the_range_begin(one_step):
    pieces = one_step.generate(
        [None] * 6, num_tokens=160, seed=1, pitch_classes="A minor", pitch_range=(50, 70)
    )
    pitches = np.concatenate([onsets(piece)[0] for piece in pieces])
    assert len(pitches) > 20
    assert set(pitches % 12) <= {9, 11, 0, 2, 4, 5, 7}
    assert pitches.min() >= 50
    assert pitches.max() <= 70


def test_no_second_has_more_notes_than_the_ceiling(one_step):
    free = one_step.generate([None] * 4, num_tokens=200, seed=2)
    slow = one_step.generate([None] * 4, num_tokens=200, seed=2, max_notes_per_second=3)
    grid = 1e-3
    assert any((s[3:] - s[:-3] < 1 - grid).any() for s in (onsets(p)[1] for p in free))
    for piece in slow:
        start = onsets(piece)[1]
        assert len(start) > 3
        assert (start[3:] - start[:-3] >= 1 - grid).all()


@pytest.mark.parametrize(("ceiling", "num_notes"), [(1, 50), (3, 150), (8, 400)])
def test_on_a_grid_as_many_notes_begin_as_the_ceiling_allows(ceiling, num_notes):
    """The last voice's id ends the frame, and its note was counted as if it began with the next:
    one voice with a ceiling of 1 sang at 0, 1.125 and 2.25 s instead of at 0, 1 and 2.
    """
    tokenizer = km.tokenizers.ChoraleTokenizer(num_voices=1)  # 8 steps a second
    model = km.build_model(tokenizer.vocab_size, "gru", 4, units=4)
    bias = 20.0 * (tokenizer.grammar.kind_of == "NOTE") - 20.0 * (np.arange(133) == 2)
    model.layers[-1].bias.assign(bias)
    piece = km.OneStep(model, tokenizer).generate(
        num_tokens=400, seed=1, max_notes_per_second=ceiling
    )
    start = onsets(piece)[1]
    assert len(start) == num_notes
    assert (start[ceiling:] - start[:-ceiling] >= 1 - 1e-6).all()


def by_part(one_step, row):
    """The pitches that each program or voice begins, in order; drums left out."""
    grammar, parts = one_step.tokenizer.grammar, {}
    state = grammar.start(1)
    for token in row:
        pitch, part = grammar.onset_of[token], int(grammar.part(state)[0])
        if pitch >= 0 and not grammar.is_drum(state)[0]:
            parts.setdefault(part, []).append(pitch)
        state = grammar.advance(state, np.array([token]))
    return [np.array(pitches) for pitches in parts.values()]


def test_no_pitch_begins_more_often_in_a_row(one_step):
    """Ids are read, because notes of a chord stand in the order of their pitches in a piece."""
    written = one_step.generate_tokens([None] * 6, num_tokens=200, seed=3, max_repeats=1)
    for pitches in (p for row in written.tokens for p in by_part(one_step, row)):
        assert (pitches[1:] != pitches[:-1]).all()
    if one_step.tokenizer.grammar.num_parts < 129:  # where programs change, repeats are rare
        free = one_step.generate_tokens([None] * 20, num_tokens=200, seed=3)
        rows = [p for row in free.tokens for p in by_part(one_step, row)]
        assert any((p[1:] == p[:-1]).any() for p in rows)


def test_wishes_hold_in_each_row_for_itself(one_step):
    keys = [None, "C major", [0], [1]]
    together = one_step.generate_tokens([None] * 4, 60, seed=[5] * 4, pitch_classes=keys)
    for row, key in enumerate(keys):
        alone = one_step.generate_tokens(None, 60, seed=5, pitch_classes=key)
        length = alone.length[0]
        assert together.tokens[row, :length].tolist() == alone.tokens[0].tolist()


def test_log_prob_is_of_what_was_left_to_draw_from():
    """With one pitch class and one octave a note has one pitch: no choice, probability 1."""
    tokenizer = km.tokenizers.ChoraleTokenizer(num_voices=1)
    model = km.build_model(tokenizer.vocab_size, "gru", 8, units=8)
    bias = np.zeros(tokenizer.vocab_size)
    bias[[tokenizer.vocabulary.index(t) for t in ("REST", "HOLD", "END")]] = -1e9
    model.layers[-1].bias.assign(bias)
    one_step = km.OneStep(model, tokenizer)
    wishes = {"pitch_classes": [0], "pitch_range": (60, 71)}
    forced = one_step.generate_tokens(None, 20, **wishes)
    assert tokenizer.tokens(forced.tokens[0]) == ["START"] + ["NOTE_60"] * 20
    assert forced.log_prob[0] == pytest.approx(0, abs=1e-4)
    free = one_step.generate_tokens(None, 20)
    assert free.log_prob[0] == pytest.approx(-20 * np.log(128), rel=0.05)


def test_drums_have_no_key():
    tokenizer = TOKENIZERS["programs"]
    grammar = tokenizer.grammar
    wishes = {name: tf.constant(rows) for name, rows in wish_rows(1, pitch_classes=[0]).items()}
    rules = Rules(tokenizer, wishes)
    allowed = {}
    for program in ("PROGRAM_5", "PROGRAM_128"):
        state = rules.start(1)
        for token in ("START", program):
            state = rules.advance(state, tf.constant([tokenizer.vocabulary.index(token)]))
        logits = rules.limit(tf.zeros([1, tokenizer.vocab_size]), state, tf.constant([99]))
        pitches = grammar.onset_of[np.isfinite(logits[0])]
        allowed[program] = set(pitches[pitches >= 0].tolist())
    assert allowed["PROGRAM_5"] == set(range(0, 128, 12))
    assert allowed["PROGRAM_128"] == set(range(128))


def test_wishes_leave_no_token_without_effect(one_step):
    """No velocity, program or position is begun where the ceiling leaves no room for a note."""
    wishes = {"max_notes_per_second": 2, "max_repeats": 2, "pitch_range": (40, 90)}
    written = one_step.generate_tokens([None] * 20, num_tokens=100, seed=4, **wishes)
    found = [validity.faults(one_step.tokenizer, row) for row in written.tokens]
    assert sum(f["dropped"] + f["hanging"] for f in found) == 0


def test_time_cannot_stand_still():
    """A network that likes chords asked for few notes a second: it once wrote STEP_0 for ever."""
    tokenizer = TOKENIZERS["note"]
    model = km.build_model(tokenizer.vocab_size, "gru", 8, units=8)
    bias = np.zeros(tokenizer.vocab_size)
    bias[[tokenizer.vocabulary.index("STEP_0"), tokenizer.end_id]] = 20.0, -20.0
    model.layers[-1].bias.assign(bias)
    piece = km.OneStep(model, tokenizer).generate(num_tokens=200, max_notes_per_second=2, seed=1)
    assert len(piece) > 20
    assert piece.duration > 8


def test_drums_repeat_as_they_like_and_programs_for_themselves():
    tokenizer = TOKENIZERS["programs"]
    wishes = {name: tf.constant(rows) for name, rows in wish_rows(1, max_repeats=1).items()}
    rules = Rules(tokenizer, wishes)
    state = rules.start(1)
    text = "START PROGRAM_128 NOTE_ON_42 TIME_SHIFT_1 NOTE_OFF_42 PROGRAM_5 NOTE_ON_42 TIME_SHIFT_1"
    for token in f"{text} NOTE_OFF_42 PROGRAM_9".split():
        state = rules.advance(state, tf.constant([tokenizer.vocabulary.index(token)]))
    may = {}
    for program in (9, 5, 128):
        here = state
        if program != 9:
            token = tokenizer.vocabulary.index(f"PROGRAM_{program}")
            here = rules.advance(state, tf.constant([token]))
        logits = rules.limit(tf.zeros([1, tokenizer.vocab_size]), here, tf.constant([99]))
        may[program] = bool(np.isfinite(logits[0, tokenizer.vocabulary.index("NOTE_ON_42")]))
    assert may == {9: True, 5: False, 128: True}


def test_time_passes_where_no_note_may_begin():
    """After a velocity only a note may come; if none may, the wish holds and time goes on."""
    tokenizer = TOKENIZERS["performance"]
    wishes = {
        name: tf.constant(rows) for name, rows in wish_rows(1, max_notes_per_second=1).items()
    }
    rules = Rules(tokenizer, wishes)
    state = rules.start(1)
    for token in ["START", "NOTE_ON_60", "TIME_SHIFT_10", "VELOCITY_3"]:
        state = rules.advance(state, tf.constant([tokenizer.vocabulary.index(token)]))
    logits = rules.limit(tf.zeros([1, tokenizer.vocab_size]), state, tf.constant([99]))
    kinds = {tokenizer.vocabulary[i][:10] for i in np.flatnonzero(np.isfinite(logits[0]))}
    assert kinds == {"TIME_SHIFT"}


def test_without_the_grammar_there_are_no_wishes(one_step, tmp_path):
    free = km.OneStep(one_step.model, one_step.tokenizer, use_grammar=False)
    with pytest.raises(ValueError, match="`max_repeats` must be asked of a model of music"):
        free.generate(num_tokens=3, pitch_range=None, max_repeats=1)
    with pytest.raises(TypeError, match="no argument 'key'. What may be wished: pitch_classes"):
        one_step.generate(num_tokens=3, key=None)


def test_an_export_without_the_grammar_takes_no_wishes(tmp_path):
    tokenizer = TOKENIZERS["chorale"]
    model = km.build_model(tokenizer.vocab_size, "gru", 4, units=4)
    path = km.export(km.OneStep(model, tokenizer, use_grammar=False), tmp_path)
    with pytest.raises(ValueError, match="`max_repeats` must be asked of a model of music"):
        km.load(path).generate(num_tokens=3, max_repeats=1)


def test_a_grammar_that_knows_no_pitches_takes_no_wishes():
    """Intervals are no pitches: wishes were taken, and the ids were the same with and without."""

    class Melody(Tokenizer):
        table = Vocabulary([*SPECIAL, ("INTERVAL", -12, 12), ("LENGTH", 1, 4)])
        follows = {"START": ("INTERVAL",), "INTERVAL": ("LENGTH",), "LENGTH": ("INTERVAL", "END")}
        grammar = EventGrammar(table, follows, {"END": ("END",)}, step_seconds={"": 0.125})

    one_step = km.OneStep(km.build_model(Melody().vocab_size, "gru", 4, units=4), Melody())
    assert not one_step.takes_wishes
    with pytest.raises(ValueError, match="whose tokens name pitches. Received: one of a Melody"):
        one_step.generate_tokens([1], num_tokens=3, max_repeats=1)
    assert one_step.generate_tokens([1], num_tokens=8).tokens[0, 1] in range(3, 28)


def test_text_has_no_key():
    tokenizer = km.tokenizers.CharTokenizer("ab")
    one_step = km.OneStep(km.build_model(tokenizer.vocab_size, units=4), tokenizer)
    with pytest.raises(ValueError, match="`pitch_classes` must be asked of a model of music"):
        one_step.generate("a", pitch_classes="C major")
    assert one_step.generate("a", num_tokens=2, pitch_classes=None)
