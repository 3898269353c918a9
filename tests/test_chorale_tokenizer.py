"""The chorale tokenizer: voices on a grid in, one token a voice and step out, and back."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_music as km
from keras_music import tokenizers
from keras_music.midi import Piece
from keras_music.midi.files import midi_bytes
from keras_music.tokenizers import ChoraleTokenizer

SETTINGS = {
    "default": {},
    "quarter notes, two voices": {"steps_per_beat": 1, "num_voices": 2, "program": 19},
    "one voice": {"num_voices": 1, "tempo_bpm": 77},
    "triplets, many voices": {"steps_per_beat": 12, "num_voices": 15, "tempo_bpm": 1000},
}
every_setting = pytest.mark.parametrize("name", SETTINGS)
TOKENS = {"-": "HOLD", ".": "REST"}


def grid(text):
    """A table of words, one line a frame, `-` hold and `.` rest -> the tokens in a row."""
    return [TOKENS.get(word, f"NOTE_{word}") for word in text.split()]


def piece_of(*notes, beats_per_second=2, **tables):
    """(track, pitch, start, end) ..., in beats -> a `Piece` at 120 quarters a minute"""
    track, pitch, start, end = np.array(notes, float).reshape(-1, 4).T
    columns = {"track": track, "pitch": pitch}
    columns |= {"start": start / beats_per_second, "end": end / beats_per_second}
    return Piece(columns, **tables)


def tokens(piece, **arguments):
    tokenizer = ChoraleTokenizer(**arguments)
    first, *middle, last = tokenizer.tokens(tokenizer.encode(piece))
    assert (first, last) == ("START", "END")
    return middle


def ids_of(tokenizer, words):
    return [tokenizer.vocabulary.index(word) for word in words]


def notes_of(piece, tokenizer):
    """A piece -> sorted [(track, pitch, start step, end step), ...]"""
    steps = piece.to_beats(piece.notes[["start", "end"]].to_numpy()) * tokenizer.steps_per_beat
    assert np.abs(steps - np.rint(steps)).max(initial=0) < 1e-6
    rows = np.column_stack([piece.notes[["track", "pitch"]], np.rint(steps)])
    return sorted(map(tuple, rows.astype(int).tolist()))


def decoded(text, **arguments):
    tokenizer = ChoraleTokenizer(**arguments)
    words = [word if word in ("PAD", "START", "END") else grid(word)[0] for word in text.split()]
    return notes_of(tokenizer.decode(ids_of(tokenizer, words)), tokenizer)


# Notes in, tokens out


@pytest.mark.parametrize(
    ("notes", "table"),
    [
        ([], ""),
        (  # the table in the module's docstring
            [(0, 67, 0, 1), (1, 64, 0, 0.5), (1, 62, 0.5, 1), (2, 55, 0.5, 1), (3, 48, 0, 1)],
            """67  64  .   48
               -   -   .   -
               -   62  55  -
               -   -   -   -""",
        ),
        (  # a voice may be silent at the beginning, between notes and at the end
            [(0, 60, 0.25, 0.5), (0, 60, 0.75, 1), (3, 50, 0, 1.25)],
            """.   .   .   50
               60  .   .   -
               .   .   .   -
               60  .   .   -
               .   .   .   -""",
        ),
        (  # a note that is struck again is no held note; voices may sing one pitch, and cross
            [(0, 60, 0, 0.25), (0, 60, 0.25, 0.75), (1, 60, 0, 0.5), (1, 64, 0.5, 0.75)],
            """60  60  .  .
               60  -   .  .
               -   64  .  .""",
        ),
        (  # times are rounded to the step, and a note has at least one
            [(0, 60, 0.1, 0.1), (0, 62, 0.6, 0.9)],
            """60  .  .  .
               .   .  .  .
               62  .  .  .
               -   .  .  .""",
        ),
        (  # a little overlap is legato, not a chord
            [(0, 60, 0, 0.6), (0, 62, 0.5, 1)],
            """60  .  .  .
               -   .  .  .
               62  .  .  .
               -   .  .  .""",
        ),
        (  # of two that begin in one step the longer is kept, of two as long the nearer
            [(0, 60, 0, 0.05), (0, 62, 0.05, 0.5), (1, 50, 0, 0.125), (1, 52, 0.125, 0.25),
             (1, 53, 0.375, 0.5), (1, 55, 0.5, 0.625), (2, 40, 0, 0.75)],
            """62  50  40  .
               -   .   -   .
               .   55  -   .""",
        ),
        (  # as long but for a rounding error: the nearer
            [(0, 60, 0.15, 0.325), (0, 62, 0.325, 0.5), (1, 50, 0.175, 0.275),
             (1, 52, 0.275, 0.375)],
            """.   .   .  .
               62  52  .  .""",
        ),
    ],
)  # fmt: skip
def test_encode(notes, table):
    assert tokens(piece_of(*notes)) == grid(table)


def test_tracks_are_voices_by_number_or_else_in_their_order():
    """Up to number 3 a track is that voice, though others are silent; beyond, they are counted."""
    assert tokens(piece_of((1, 60, 0, 0.25), (3, 50, 0, 0.25))) == grid(". 60 . 50")
    assert tokens(piece_of((1, 60, 0, 0.25), (4, 50, 0, 0.25))) == grid("60 50 . .")


@pytest.mark.parametrize(
    ("notes", "table"),
    [
        (  # a chord in one track: the highest, those below, and the lowest to the last voice
            [(0, 60, 0, 0.25), (0, 64, 0, 0.25), (0, 67, 0, 0.25), (0, 72, 0, 0.25)],
            "72 67 64 60",
        ),
        ([(0, 60, 0, 0.25), (0, 64, 0, 0.25), (0, 67, 0, 0.25)], "67 64 . 60"),
        ([(0, 60, 0, 0.25), (0, 64, 0, 0.25)], "64 . . 60"),
        (  # also a chord of which one note is shorter than half a step
            [(0, 60, 0, 0.1), (0, 64, 0, 0.5)],
            """64 . . 60
               -  . . .""",
        ),
        (  # five at once: the fourth from above is lost
            [(track, 60 + track, 0, 0.25) for track in range(5)],
            "64 63 62 60",
        ),
        (  # a held note goes to another voice when one below it begins, and is struck again
            [(0, 60, 0, 1), (0, 55, 0.5, 1), (0, 50, 0.75, 1)],
            """60  .   .  .
               -   .   .  .
               -   .   .  55
               -   55  .  50""",
        ),
        (  # one pitch of several tracks is one note, pressed again where one of them begins
            [(track, 60, track / 4, 1.25) for track in range(5)],
            "60 . . . " * 5,
        ),
    ],
)
def test_without_voices_notes_are_given_to_voices_by_pitch(notes, table):
    assert tokens(piece_of(*notes)) == grid(table)


def test_the_highest_and_the_lowest_with_one_voice_and_with_two():
    chord = piece_of(*[(0, pitch, 0, 1) for pitch in (60, 64, 67)])
    assert tokens(chord, num_voices=1, steps_per_beat=1) == ["NOTE_67"]
    assert tokens(chord, num_voices=2, steps_per_beat=1) == ["NOTE_67", "NOTE_60"]


def test_the_grid_is_in_beats_of_the_piece():
    """A quarter at 60, then one at 120: they last two steps each, if steps are eighths."""
    piece = Piece(
        {"pitch": [60, 62], "start": [0.0, 1.0], "end": [1.0, 1.5]},
        tempos=[{"time": 0, "tempo_bpm": 60}, {"time": 1, "tempo_bpm": 120}],
    )
    assert tokens(piece, num_voices=1, steps_per_beat=2) == grid("60 - 62 -")


def test_drums_are_no_voice():
    piece = Piece(
        [
            {"pitch": 36, "start": 0, "end": 9, "track": 0, "is_drum": True},
            {"pitch": 60, "start": 0, "end": 0.125, "track": 1},
        ]
    )
    assert tokens(piece) == grid(". 60 . .")


# Tokens in, notes out


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("", []),
        ("START END", []),
        ("60 . . 50  - . . -  . . . -", [(0, 60, 0, 2), (3, 50, 0, 3)]),
        ("- . - .  - 60 - .", [(1, 60, 1, 2)]),  # nothing to hold: a rest
        ("60 . . .  . . . .  - . . .", [(0, 60, 0, 1)]),
        ("60 . . .  60 60 . .  - - . .", [(0, 60, 0, 1), (0, 60, 1, 3), (1, 60, 1, 3)]),
        ("60 61 62 63  - 64", [(0, 60, 0, 2), (1, 61, 0, 1), (1, 64, 1, 2), (2, 62, 0, 1),
                              (3, 63, 0, 1)]),  # an incomplete frame: the other voices are silent
        ("60 PAD 61 START 62 . PAD PAD -", [(0, 60, 0, 2), (1, 61, 0, 1), (2, 62, 0, 1)]),
        ("60 61 END - -", [(0, 60, 0, 1), (1, 61, 0, 1)]),
    ],
)  # fmt: skip
def test_decode(text, notes):
    assert decoded(text) == notes


def test_decode_gives_seconds_program_velocity_and_tempo():
    """At 70 quarters a minute a MIDI file says 857,143 microseconds, so does the piece."""
    tokenizer = ChoraleTokenizer(tempo_bpm=70, program=19, num_voices=1)
    piece = tokenizer.decode(ids_of(tokenizer, grid(". 60 -")))
    (row,) = piece.notes.to_dict("records")
    assert (row["start"], row["end"]) == (857_143 / 4e6, 3 * 857_143 / 4e6)
    assert (row["program"], row["velocity"], row["track"]) == (19, 80, 0)
    assert piece.tempos.to_dict("records") == [{"time": 0.0, "tempo_bpm": 60e6 / 857_143}]


# Frames


def test_frames():
    tokenizer = ChoraleTokenizer(num_voices=3)
    ids = [1, 65, 0, 53, 3, 4, 4, 3, 70, 2, 4, 4]
    assert tokenizer.frames(ids).tolist() == [[65, 53, 3], [4, 4, 3], [70, 0, 0]]
    assert tokenizer.frame_of(ids).tolist() == [-1, 0, -1, 0, 0, 1, 1, 1, 2, -1, -1, -1]
    assert tokenizer.in_frame([ids]).tolist() == [[i > 2 for i in ids]]
    assert (tokenizer.frames(ids).dtype, tokenizer.frames([]).shape) == (np.int32, (0, 3))


@every_setting
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_frames_lose_nothing(name, data):
    tokenizer = ChoraleTokenizer(**SETTINGS[name])
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=50))
    frame, frames = tokenizer.frame_of(ids), tokenizer.frames(ids)
    sizes = np.bincount(frame[frame >= 0], minlength=len(frames))
    assert sizes[:-1].tolist() == [tokenizer.num_voices] * len(sizes[:-1])
    assert frames[frames > 0].tolist() == np.array(ids)[frame >= 0].tolist()
    assert (np.diff(frame[frame >= 0]) >= 0).all()


# The vocabulary


def test_the_layout_of_the_vocabulary():
    tokenizer = ChoraleTokenizer()
    assert tokenizer.vocabulary[:6] == ("PAD", "START", "END", "REST", "HOLD", "NOTE_0")
    assert tokenizer.vocabulary[-1] == "NOTE_127"
    assert tokenizer.vocab_size == 133


def test_ids_are_int32():
    for notes in ([], [(0, 60, 0, 0.25)]):
        ids = ChoraleTokenizer().encode(piece_of(*notes))
        assert (ids.dtype, ids.ndim) == (np.int32, 1)
    assert ids.tolist() == [1, 65, 3, 3, 3, 2]


# Properties

TIMES = st.floats(0, 6)
NOTES = st.lists(
    st.tuples(st.integers(0, 5), st.integers(58, 61) | st.integers(0, 127), TIMES, TIMES),
    max_size=12,
).map(lambda notes: [(t, p, min(a, b), max(a, b)) for t, p, a, b in notes])


def as_voices(tracks):
    """Each track's notes in order, each cut where the next one begins."""
    notes = []
    for track, voice in enumerate(tracks):
        voice = sorted((min(a, b), max(a, b), pitch) for pitch, a, b in voice)
        following = [start for start, _, _ in [*voice, (99, 99, 0)]][1:]
        notes += [
            (track, pitch, start, min(end, then))
            for (start, end, pitch), then in zip(voice, following, strict=True)
            if start < then
        ]
    return notes


BEATS = st.integers(0, 6000).map(lambda x: x / 1000)
VOICES = st.lists(
    st.lists(st.tuples(st.integers(0, 127), BEATS, BEATS), max_size=5), max_size=4
).map(as_voices)


@settings(deadline=None, max_examples=600)
@given(name=st.sampled_from(list(SETTINGS)), notes=NOTES | VOICES, tempo_bpm=st.floats(30, 300))
def test_encoding_what_was_decoded_gives_the_same_ids(name, notes, tempo_bpm):
    tokenizer = ChoraleTokenizer(**SETTINGS[name])
    piece = piece_of(*notes, tempos=[{"time": 0, "tempo_bpm": tempo_bpm}])
    ids = tokenizer.encode(piece)
    assert (len(ids) - 2) % tokenizer.num_voices == 0
    assert tokenizer.encode(tokenizer.decode(ids)).tolist() == ids.tolist()


@settings(deadline=None, max_examples=300)
@given(notes=VOICES, steps_per_beat=st.sampled_from([1, 4, 12]))
def test_voices_lose_at_most_half_a_step(notes, steps_per_beat):
    """Every note kept is one of its voice that begins in this step, none of them longer."""
    tokenizer = ChoraleTokenizer(steps_per_beat)
    piece = piece_of(*notes)
    found = notes_of(tokenizer.decode(tokenizer.encode(piece)), tokenizer)
    begun = {}  # (track, step) -> the notes that begin there
    for track, pitch, start, end in notes:
        begun.setdefault((track, round(start * steps_per_beat)), []).append((pitch, start, end))
    assert sorted((track, first) for track, _, first, _ in found) == sorted(begun)
    for track, pitch, first, last in found:
        candidates = begun[track, first]
        longest = max(end - start for _, start, end in candidates)
        ends = [end for p, start, end in candidates if p == pitch and end - start > longest - 1e-5]
        following = min([step for t, step in begun if t == track and step > first], default=1e9)
        assert last in [min(max(round(e * steps_per_beat), first + 1), following) for e in ends]


def by_walking(ids, num_voices):
    """What `decode` says, as one reads who goes from token to token: (track, pitch, start, end)"""
    found, sounding, place = [], {}, 0  # voice -> its note, which may still grow
    for i in ids:
        if i == 2:
            break
        if i < 2:
            continue
        frame, voice = divmod(place, num_voices)
        place += 1
        if i == 4 and voice in sounding:
            sounding[voice][3] = frame + 1
        elif i != 4:
            sounding.pop(voice, None)
        if i > 4:
            sounding[voice] = [voice, i - 5, frame, frame + 1]
            found.append(sounding[voice])
    return sorted(map(tuple, found))


def any_ids(tokenizer):
    """Rows of any ids: half of them few enough to meet again."""
    ids = st.sampled_from([0, 1, 2, 3, 4, 4, 4, 4, 65, 66]) | st.integers(3, 132)
    return st.lists(st.lists(ids, max_size=60), min_size=1, max_size=3)


@every_setting
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_ids_decode_and_the_graph_says_the_same(name, data):
    tokenizer = ChoraleTokenizer(**SETTINGS[name])
    rows = data.draw(any_ids(tokenizer))
    batch = np.zeros((len(rows), max(map(len, rows))), np.int32)
    for place, ids in enumerate(rows):
        batch[place, : len(ids)] = ids
    found = {key: x.numpy() for key, x in tokenizer.notes_in_graph(batch).items()}
    for place, ids in enumerate(rows):
        here = found["is_note"][place]
        columns = [found[key][place][here].tolist() for key in ("track", "pitch", "start", "end")]
        notes = notes_of(tokenizer.decode(ids), tokenizer)
        assert sorted(zip(*columns, strict=True)) == notes == by_walking(ids, tokenizer.num_voices)
        assert set(found["velocity"][place][here]) <= {80}
        for key in ("pitch", "velocity", "track", "start", "end"):
            assert not found[key][place][~here].any()


def test_the_types_in_the_graph():
    found = ChoraleTokenizer().notes_in_graph([[1, 65, 3, 3, 3, 2]])
    types = {key: x.dtype.name for key, x in found.items()}
    numbers = dict.fromkeys(["pitch", "velocity", "track"], "int32")
    assert types == numbers | {"is_note": "bool", "start": "int64", "end": "int64"}
    assert ChoraleTokenizer().notes_in_graph(np.zeros((0, 0), np.int32))["end"].shape == (0, 0)


@every_setting
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_midi_file_keeps_every_voice(name, data):
    """Two voices on one pitch are two tracks; each step is the same number of ticks."""
    tokenizer = ChoraleTokenizer(**SETTINGS[name])
    ids = data.draw(st.lists(st.sampled_from([3, 4, 65, 66]), min_size=1, max_size=60))
    piece = tokenizer.decode(ids)
    if len(piece):
        again = km.read_midi(midi_bytes(piece))
        kept, numbers = np.unique(piece.notes["track"], return_inverse=True)
        expected = piece.notes.assign(track=numbers)  # silent voices are not in the file
        columns = ["track", "pitch", "velocity", "program"]
        assert again.notes[columns].equals(expected[columns])
        for column in ("start", "end"):
            ticks = again.to_beats(again.notes[column]) * 480
            steps = piece.to_beats(piece.notes[column]) * tokenizer.steps_per_beat
            assert np.allclose(ticks, np.rint(steps) * (480 / tokenizer.steps_per_beat))


def test_every_chorale():
    """All 364 in four parts; 3 of them have a few notes shorter than a sixteenth, the rest is kept.

    The three ornaments are pairs of thirty-seconds: of each pair, one note is a sixteenth then.
    """
    tokenizer = ChoraleTokenizer(program=19)
    kept_whole, lost, total, held = 0, 0, 0, 0
    for piece in km.corpora.bach_chorales():
        ids = tokenizer.encode(piece)
        again = tokenizer.decode(ids)
        assert tokenizer.encode(again).tolist() == ids.tolist()
        steps = np.rint(piece.to_beats(piece.notes[["start", "end"]].to_numpy()) * 4)
        notes = np.column_stack([piece.notes[["track", "pitch"]], steps]).astype(int).tolist()
        missing = set(map(tuple, notes)) - set(notes_of(again, tokenizer))
        kept_whole += not missing and len(again) == len(piece)
        lost += len(missing)
        total += len(ids) - 2
        held += (ids == tokenizer.hold_id).sum()
    assert (kept_whole, lost) == (361, 6)
    assert round(held / total, 2) == 0.72


# Files and errors


@every_setting
def test_save_and_load(name, tmp_path):
    tokenizer = ChoraleTokenizer(**SETTINGS[name])
    loaded = tokenizers.load(tokenizer.save(tmp_path / "tokenizer.json"))
    assert loaded == tokenizer
    assert loaded.settings() == tokenizer.settings()
    assert loaded.vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"steps_per_beat": 0}, "be a whole number from 1 to 480"),
        ({"steps_per_beat": 481}, "be a whole number from 1 to 480"),
        ({"num_voices": 0}, "be a whole number from 1 to 15"),
        ({"num_voices": 16}, "be a whole number from 1 to 15"),
        ({"tempo_bpm": 3}, "be a whole number from 4 to 1000"),
        ({"tempo_bpm": 99.5}, "be a whole number from 4 to 1000"),
        ({"program": 128}, "be a whole number from 0 to 127"),
    ],
)
def test_arguments_out_of_range(arguments, rule):
    ((name, value),) = arguments.items()
    sentence = f"`{name}` must {rule}. Received: {name}={value}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ChoraleTokenizer(**arguments)


def test_a_step_is_a_whole_number_of_ticks():
    sentence = (
        "`steps_per_beat` must divide 480, the ticks of a quarter note. Received: "
        "steps_per_beat=7. Take 4 for sixteenths, 12 for these and triplets."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ChoraleTokenizer(7)


@pytest.mark.parametrize("method", ["decode", "tokens", "frames", "frame_of"])
def test_impossible_ids(method):
    with pytest.raises(ValueError, match="`ids` must be from 0 to 132. Received: 133"):
        getattr(ChoraleTokenizer(), method)([1, 133])


def test_only_a_piece_can_be_encoded():
    with pytest.raises(ValueError, match="`piece` must be a Piece. Received: str"):
        ChoraleTokenizer().encode("song.mid")


@pytest.mark.parametrize("last", [1e6, 1e9, 1e300])
@pytest.mark.parametrize("num_tracks", [1, 5])
def test_a_piece_that_claims_to_last_for_years_is_refused(last, num_tracks):
    """A MIDI file of a few bytes can; its grid would fill the memory."""
    notes = [(track, 60 + track, 0, last) for track in range(num_tracks)]
    with pytest.raises(ValueError, match="`piece` must give at most 10000000 tokens"):
        ChoraleTokenizer().encode(piece_of(*notes, beats_per_second=0.5))
