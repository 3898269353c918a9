"""The corpus: a sequence with a report, and what its split promises."""

import collections
import hashlib

import numpy as np
import pytest

from keras_music.corpora import Corpus
from keras_music.midi import Piece


def melody(*pitches, name="", seconds=0.5, tempo_bpm=120, step=1.0):
    notes = [
        {"pitch": pitch, "start": i * seconds * step, "end": (i + 1) * seconds * step}
        for i, pitch in enumerate(pitches)
    ]
    return Piece(notes, tempos=[{"time": 0, "tempo_bpm": tempo_bpm}], name=name)


def different_pieces(count):
    """Pieces of 40 notes, no two alike."""
    rng = np.random.default_rng(7)
    return [melody(*rng.integers(40, 80, 40), name=f"piece {i}") for i in range(count)]


# Corpus


def test_a_corpus_is_a_sequence():
    pieces = different_pieces(3)
    corpus = Corpus(pieces, name="three")
    assert len(corpus) == 3
    assert list(corpus) == pieces
    assert corpus[0] is pieces[0] and corpus[-1] is pieces[2]
    assert corpus[1:].names == ("piece 1", "piece 2") and corpus[1:][0] is pieces[1]
    assert repr(corpus) == "Corpus('three', 3 pieces, 120 notes, 1 minutes)"
    assert Corpus(["a", "bc"]).names == ("corpus[0]", "corpus[1]")
    assert repr(Corpus(["abc"], name="x")) == "Corpus('x', 1 text, 3 characters)"
    assert repr(Corpus([])) == "Corpus('corpus', empty)"


def test_the_report_has_a_row_for_what_was_kept_and_for_what_was_not():
    first, other = different_pieces(2)
    again = Piece(first.notes.assign(pitch=first.notes.pitch + 5), name="again")
    dropped = [{"name": "bad.mid", "reason": "it has no notes"}]
    report = Corpus([first, other, again], dropped=dropped).report
    assert list(report.columns) == ["name", "notes", "seconds", "kept", "reason", "same_as"]
    assert report.values.tolist() == [
        ["piece 0", 40, 20.0, True, "", ""],
        ["piece 1", 40, 20.0, True, "", ""],
        ["again", 40, 20.0, True, "", "piece 0"],
        ["bad.mid", 0, 0.0, False, "it has no notes", ""],
    ]
    known = Corpus([first, other], rows=[{"tempo_bpm": 90}, {"warnings": "long"}], dropped=dropped)
    expected = [["piece 0", 90, None], ["piece 1", None, "long"], ["bad.mid", None, None]]
    table = known.report[["name", "tempo_bpm", "warnings"]].astype(object)
    assert table.where(table.notna(), None).values.tolist() == expected
    assert known[1:].report["warnings"].tolist() == ["long"]
    assert "80 notes, 1 minutes, 1 left out: see .report)" in repr(known)
    texts = Corpus(["do", "re"], names=["a", "b"]).report
    assert list(texts.columns) == ["name", "characters", "kept", "reason", "same_as"]
    assert texts.characters.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pieces": ["a", Piece([])]}, r"`pieces` must be .* Received: \['Piece', 'str'\]"),
        ({"pieces": [1.5]}, r"`pieces` must be .* Received: \['float'\]"),
        ({"pieces": ["a"], "names": []}, "`names` must have one entry .* Received: 0 entries"),
        ({"pieces": ["a"], "keys": "xy"}, "`keys` must have one entry .* Received: 2 entries"),
        ({"pieces": ["a"], "rows": []}, "`rows` must have one entry .* Received: 0 entries"),
    ],
)
def test_bad_arguments_get_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corpus(**arguments)


def test_an_index_outside_gets_a_sentence():
    with pytest.raises(IndexError, match=r"'corpus' has 1 pieces. Received: 5"):
        Corpus(["a"])[5]
    with pytest.raises(IndexError, match="'corpus' is empty: it was made from no pieces"):
        Corpus([])[0]


# Split


def test_a_split_is_a_partition_in_the_old_order():
    corpus = Corpus(different_pieces(100), name="hundred")
    sides = corpus.split(seed=3)
    assert [len(side) for side in sides] == [80, 10, 10]
    assert [side.name for side in sides] == ["hundred/train", "hundred/valid", "hundred/test"]
    assert sorted(name for side in sides for name in side.names) == sorted(corpus.names)
    for side in sides:
        places = [corpus.names.index(name) for name in side.names]
        assert places == sorted(places)


def test_a_split_depends_on_the_seed_and_on_nothing_else():
    """The literal holds on every platform: the order comes from SHA-256 of seed and name."""
    corpus = Corpus([f"text {i}" for i in range(10)], name="ten")
    again = Corpus([f"text {i}" for i in range(10)], name="ten")
    assert [s.names for s in corpus.split(1)] == [s.names for s in again.split(1)]
    assert len({corpus.split(seed)[2].names for seed in range(20)}) > 3
    drawn = sorted(range(10), key=lambda i: hashlib.sha256(f"1:0:ten[{i}]".encode()).hexdigest())
    assert corpus.split(1)[1].names == (f"ten[{drawn[1]}]",)  # the second goes to validation


def test_pieces_of_one_name_are_still_shuffled():
    corpus = Corpus([f"text {i}" for i in range(10)], names=["same"] * 10)
    assert len({tuple(corpus.split(seed)[2]) for seed in range(20)}) > 3


@pytest.mark.parametrize(("count", "sizes"), [(0, [0] * 3), (2, [1, 1, 0]), (3, [1] * 3)])
def test_no_side_is_empty_while_there_are_pieces(count, sizes):
    assert [len(side) for side in Corpus(different_pieces(count)).split()] == sizes


def test_a_share_of_zero_gets_nothing():
    sides = Corpus(different_pieces(10)).split(fractions=(0.5, 0.5, 0))
    assert [len(side) for side in sides] == [5, 5, 0]
    with pytest.raises(IndexError, match="'corpus/test' is empty: the 10 pieces of 'corpus' left"):
        sides[2][0]


def test_the_same_music_is_never_on_two_sides():
    """A transposed copy, a faster one, one with other note lengths, one with a corrected note."""
    works = different_pieces(30)
    copies = []
    for i, piece in enumerate(works):
        notes = piece.notes.copy()
        if i % 4 == 0:
            notes["pitch"] += 7
            copies.append(Piece(notes, name=f"copy {i}"))
        elif i % 4 == 1:
            notes[["start", "end"]] *= 2
            copies.append(Piece(notes, tempos=[{"time": 0, "tempo_bpm": 60}], name=f"copy {i}"))
        elif i % 4 == 2:
            notes["end"] = notes["start"] + 0.1
            copies.append(Piece(notes, name=f"copy {i}"))
        else:
            notes = np.tile(notes["pitch"].to_numpy(), 2)  # 80 notes: 20 in each quarter
            works[i] = melody(*notes, name=piece.name)
            copies.append(melody(*notes[:75], 20, *notes[76:], name=f"copy {i}"))
    corpus = Corpus(works + copies)
    for seed in range(5):
        sides = corpus.split(seed, fractions=(0.4, 0.3, 0.3))
        assert min(map(len, sides)) >= 10
        for side in sides:
            numbers = collections.Counter(name.split()[1] for name in side.names)
            assert set(numbers.values()) == {2}


def test_different_music_is_not_taken_for_the_same():
    rhythm = [melody(60, 62, 64), melody(60, 62, 64, step=2)]
    pitches = [melody(60, 62, 65), melody(60, 62)]
    assert Corpus(rhythm + pitches).report.same_as.tolist() == [""] * 4


def test_equal_texts_and_equal_keys_stay_together():
    texts = Corpus(["a", "b", "a\n", "c"])
    assert texts.report.same_as.tolist() == ["", "", "corpus[0]", ""]
    keyed = Corpus(["a", "b", "c", "d"], keys=["x", "y", "z", "y"])
    assert keyed.report.same_as.tolist() == ["", "", "", "corpus[1]"]
    assert keyed[1:].report.same_as.tolist() == ["", "", "corpus[1]"]


def test_one_long_text_is_cut_by_characters():
    text = "".join(chr(97 + i % 26) for i in range(1005))
    train, valid, test = Corpus([text], name="long", names=["play"]).split()
    assert train[0] + valid[0] == text
    assert len(valid[0]) == 100
    assert train.names == valid.names == ("play",)
    assert len(test) == 0
    with pytest.raises(IndexError, match="one long text is split into train and valid only"):
        test[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": 1.5}, r"`seed` must be an int. Received: seed=1.5"),
        ({"seed": True}, r"`seed` must be an int. Received: seed=True"),
        ({"fractions": (0.8, 0.2)}, r"`fractions` must be three .* Received: fractions=\(0.8, 0.2"),
        ({"fractions": (0.8, 0.1, 0.2)}, "`fractions` must be three"),
        ({"fractions": (1.2, -0.1, -0.1)}, "`fractions` must be three"),
        ({"fractions": (float("nan"), 0.5, 0.5)}, "`fractions` must be three"),
        ({"fractions": "100"}, "`fractions` must be three"),
        ({"fractions": ("0.8", 0.1, 0.1)}, "`fractions` must be three"),
        ({"fractions": (0.5, 0.5, "", 0)}, "`fractions` must be three"),
        ({"fractions": (10**400, 0, 0)}, "`fractions` must be three"),
        ({"fractions": 0.8}, "`fractions` must be three"),
    ],
)
def test_a_split_checks_its_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Corpus(["a", "b"]).split(**arguments)


@pytest.mark.parametrize("one", ["hello", Piece([])])
def test_a_corpus_is_made_of_a_list(one):
    with pytest.raises(ValueError, match="`pieces` must be a list of pieces. Received: one"):
        Corpus(one)


def test_a_corpus_with_sides_of_its_own():
    """As others have split it, whatever the seed; part of it, too; and a side is split as ever."""
    pieces = different_pieces(4)
    corpus = Corpus(pieces, name="known", sides=["train", "test", "train", "valid"])
    train, valid, test = corpus.split(seed=5)
    assert [side.names for side in (train, valid, test)] == [
        ("piece 0", "piece 2"),
        ("piece 3",),
        ("piece 1",),
    ]
    assert (train.name, valid.name, test.name) == ("known/train", "known/valid", "known/test")
    assert [len(side) for side in corpus[1:3].split()] == [1, 0, 1]
    assert [len(side) for side in train.split()] == [1, 1, 0]
    with pytest.raises(ValueError, match="`fractions` must be left out: 'known' has a split of"):
        corpus.split(fractions=(0.5, 0.5, 0))
    with pytest.raises(ValueError, match=r"`sides` must be of .*Received: \['validation'\]"):
        Corpus(pieces, sides=["train", "validation", "test", "test"])
