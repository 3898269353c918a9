"""One file, one row: a file for every trap, a thousand mutants, pretty_midi and symusic beside."""

import collections
import io
import math
import time
import warnings

import numpy as np
import pretty_midi
import pytest
import symusic
from hypothesis import given
from hypothesis import strategies as st
from midi_files import DROPPED, KEPT, NOTE, TEMPO_60, mutants, riff
from test_midi import WILD, assert_same, needs_wild, smf

from keras_music.corpora import Corpus, bach_chorales, reader
from keras_music.corpora.reader import bytes_hash, music_digest, read_entry, split_of
from keras_music.midi import Piece, midi_bytes, read_midi

KEYS = [
    *("name", "notes", "seconds", "tempo_bpm", "programs"),
    *("kept", "reason", "warnings", "digest", "bytes_hash"),
]
TYPES = [str, int, float, float, str, bool, str, str, str, str]


def check_row(row, piece, name):
    """What holds for any bytes."""
    assert list(row) == KEYS
    assert [type(value) for value in row.values()] == TYPES
    assert row["name"] == name
    assert len(row["bytes_hash"]) == 32
    assert row["kept"] == (piece is not None) == (row["reason"] == "") == (row["digest"] != "")
    if piece is None:
        assert math.isnan(row["tempo_bpm"])
        assert row["warnings"] == row["programs"] == ""
    else:
        assert (row["notes"], row["seconds"]) == (len(piece), piece.duration)
        assert row["notes"] > 0 and 0 <= row["seconds"] <= reader.MAX_SECONDS
        assert piece.name == name


class TestTraps:
    @pytest.mark.parametrize("name", KEPT)
    def test_kept(self, name):
        data, expected = KEPT[name]
        row, piece = read_entry(name, data)
        check_row(row, piece, name)
        expected = {"reason": "", "warnings": "", "kept": True} | expected
        assert {key: row[key] for key in expected} == expected
        assert_same(piece, read_midi(data))

    @pytest.mark.parametrize("name", DROPPED)
    def test_dropped(self, name):
        data, reason = DROPPED[name]
        row, piece = read_entry(name, data)
        check_row(row, piece, name)
        assert row["reason"] == reason

    def test_too_large(self, monkeypatch):
        monkeypatch.setattr(reader, "MAX_BYTES", 2 * 2**20)
        row, _ = read_entry("a.mid", smf(NOTE) + bytes(3 * 2**20))
        assert row["reason"] == "it is too large (3 MB; the most is 2 MB)"

    def test_too_long_says_how_long(self):
        row, _ = read_entry("years.mid", DROPPED["years.mid"][0])
        assert (row["notes"], row["seconds"]) == (2, pytest.approx(33_554_431.0 + 0.5 + 48 * 0.5))

    def test_several_warnings(self):
        data = smf(NOTE, TEMPO_60 + "00 90 3C 40  00 80 3C 40", kind=2)
        assert read_entry("a", data)[0]["warnings"].split("; ") == [
            "tempo on another track than the first",
            "independent tracks (format 2), which are read as sounding together",
            "zero-length notes (1)",
        ]

    def test_keys_without_a_release_are_counted_where_all_messages_are_known(self, monkeypatch):
        stuck = read_entry("a", riff(smf("00 90 3D 40" + NOTE)))[0]
        assert (
            stuck["warnings"] == "keys pressed without a release of their own, and so no notes (1)"
        )
        row = read_entry("a", smf("00 F6  00 90 3D 40" + NOTE))[0]
        assert row["kept"] and row["warnings"] == ""
        monkeypatch.setattr(reader, "MAX_COUNTED_BYTES", 30)
        row = read_entry("a", smf("00 90 3D 40" + NOTE))[0]
        assert row["kept"] and row["warnings"] == ""

    def test_two_voices_on_one_pitch_do_not_overlap(self):
        assert read_entry("a", smf(NOTE, NOTE))[0]["warnings"] == ""

    def test_repeated_notes_do_not_overlap(self):
        assert read_entry("a", smf(NOTE * 3))[0]["warnings"] == ""

    def test_an_error_that_nobody_expected_is_a_reason(self, monkeypatch):
        def read_midi(data, name):
            raise MemoryError

        monkeypatch.setattr(reader, "read_midi", read_midi)
        row, piece = read_entry("a", smf(NOTE))
        check_row(row, piece, "a")
        assert row["reason"] == "it cannot be read (MemoryError)"

    def test_a_million_chunks_take_no_time(self):
        data = smf(NOTE) + b"XXXX\0\0\0\0" * 1_000_000
        assert read_entry("a", data)[0]["kept"]


class TestWhatTheNotesSay:
    @pytest.mark.parametrize(
        ("tempos", "duration", "longest"),
        [
            ([(0, 60), (1, 120), (18, 60)], 20, 120.0),  # 60 twice, for 3 s; 120 once, for 17 s
            ([(0, 60), (10, 90), (100, 120)], 4, 60.0),  # the others begin when all is over
            ([(0, 60), (1, 120), (2, 60), (3, 120), (3.5, 60)], 5, 60.0),  # 3.5 s in three parts
        ],
    )
    def test_the_tempo_is_the_one_in_force_longest(self, tempos, duration, longest):
        """Not the one that is written most often, and none after the last note."""
        piece = Piece(
            [{"pitch": 60, "start": 0.0, "end": duration}],
            tempos=[{"time": time, "tempo_bpm": tempo_bpm} for time, tempo_bpm in tempos],
        )
        assert read_entry("a.mid", midi_bytes(piece))[0]["tempo_bpm"] == longest

    def test_below_a_long_note_there_is_no_silence(self):
        """An organ point: the short note above it ends first, and is not what is heard last."""
        starts, ends = [0.0, 0.0, 190.0], [200.0, 1.0, 191.0]
        piece = Piece({"pitch": [36, 60, 60], "start": starts, "end": ends})
        assert read_entry("a.mid", midi_bytes(piece))[0]["warnings"] == "a very long note (3 min)"


class TestHashes:
    def test_bytes_hash_is_blake2b(self):
        assert bytes_hash(b"") == "cae66941d9efbd404e4d88758ea67670"
        assert read_entry("a", b"x")[0]["bytes_hash"] == bytes_hash(b"x")

    def test_the_same_music_in_any_key_and_tempo_has_one_digest(self):
        piece = Piece({"pitch": [60, 64, 67], "start": [0.0, 1.0, 2.0], "end": [1.0, 2.0, 3.0]})
        slow = {"time": np.zeros(1), "tempo_bpm": np.full(1, 60.0)}
        slower = Piece(
            piece.notes.assign(start=lambda n: 2 * n.start, end=lambda n: 2 * n.end), slow
        )
        other = Piece(piece.notes.assign(pitch=[60, 63, 67]))
        assert music_digest(piece) == music_digest(piece.transpose(5)) == music_digest(slower)
        assert music_digest(piece) != music_digest(other)
        assert music_digest(piece) == "8bdfd4c618a3283cfaf3b049d855be48"  # on every machine

    def test_every_note_of_a_long_piece_counts(self):
        """80 notes, of which the first or the last differs: other music."""
        pitch, start = np.tile([60, 64, 67, 62, 65], 16), np.arange(80) * 0.5
        digests = [
            music_digest(Piece({"pitch": pitches, "start": start, "end": start + 0.5}))
            for pitches in (pitch, np.append(61, pitch[1:]), np.append(pitch[:-1], 61))
        ]
        assert len(set(digests)) == 3

    def test_equal_digests_are_what_split_calls_the_same(self):
        pieces = [read_entry(name, data)[1] for name, (data, _) in KEPT.items()]
        digests = [music_digest(piece) for piece in pieces]
        groups = Corpus(pieces).report["same_as"]
        first = [digests.index(digest) for digest in digests]
        assert [pieces[i].name if i != index else "" for index, i in enumerate(first)] == list(
            groups
        )


class TestSplitOf:
    def test_it_is_the_same_on_every_machine(self):
        assert [split_of(digit * 32) for digit in "0123456789"] == [
            *("test", "train", "train", "valid", "train"),
            *("train", "train", "valid", "train", "train"),
        ]

    @given(st.text("0123456789abcdef", min_size=32, max_size=32), st.integers(0, 9))
    def test_a_side_with_no_share_gets_nothing(self, digest, seed):
        assert split_of(digest, seed, (1, 0, 0)) == "train"
        assert split_of(digest, seed, (0, 1, 0)) == "valid"
        assert split_of(digest, seed, (0, 0, 1)) == "test"
        assert split_of(digest, seed, (0.3, 0.7, 0)) != "test"
        assert split_of(digest, seed, (0.1, 0, 0.9)) != "valid"

    @pytest.mark.parametrize("seed", [0, 1])
    def test_the_shares_are_met_on_average(self, seed):
        count = collections.Counter(split_of(str(i), seed) for i in range(10_000))
        assert count["train"] == pytest.approx(8000, abs=120)
        assert count["valid"] == pytest.approx(1000, abs=90)

    def test_another_seed_is_another_split(self):
        sides = [[split_of(str(i), seed) for i in range(100)] for seed in (0, 1)]
        assert sides[0] != sides[1]

    @pytest.mark.parametrize(
        "fractions", [(1, 0), (0.5, 0.5, 0.5), (1.2, -0.2, 0), (math.nan, 0, 1)]
    )
    def test_bad_fractions(self, fractions):
        with pytest.raises(ValueError, match="^`fractions` must be three numbers >= 0 that add up"):
            split_of("", fractions=fractions)


def theirs(data):
    """pretty_midi's notes, in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        midi = pretty_midi.PrettyMIDI(io.BytesIO(data))
    rows = [
        (i.is_drum, -1 if i.is_drum else i.program, n.pitch, n.velocity, n.start, n.end)
        for i in midi.instruments
        for n in i.notes
    ]
    return np.array(sorted(rows), float).reshape(-1, 6)


def symusics(data, score=None):
    """symusic's notes that have a length, in order, by its own clock."""
    score = (score or symusic.Score.from_midi(data)).to("second")
    rows = [
        (t.is_drum, -1 if t.is_drum else t.program, n.pitch, n.velocity, n.start, n.end)
        for t in score.tracks
        for n in t.notes
        if n.duration > 0
    ]
    return np.array(sorted(rows), float).reshape(-1, 6)


def ours(piece):
    notes = piece.columns("notes")
    program = np.where(notes["is_drum"], -1, notes["program"])
    columns = [
        notes["is_drum"],
        program,
        *(notes[k] for k in ("pitch", "velocity", "start", "end")),
    ]
    rows = np.stack(columns, axis=1)[notes["end"] > notes["start"]]
    return np.array(sorted(map(tuple, rows.astype(float))), float).reshape(-1, 6)


def agree(first, second):
    """Both compute seconds from ticks, symusic in 32-bit numbers."""
    if first.shape != second.shape:
        return False
    return (
        np.allclose(first[:, 4:], second[:, 4:], rtol=1e-6, atol=1e-4)
        and (first[:, :4] == second[:, :4]).all()
    )


def compare(data):
    """How our notes compare with theirs, if both can read these bytes; None if not both can."""
    try:
        symusic_notes = symusics(data)
        pretty_notes = theirs(data)
    except Exception:  # pretty_midi's are of many kinds
        return None
    row, piece = read_entry("a", data)
    if piece is None:
        return f"not kept: {row['reason'].split('(')[0].strip()}"
    if not agree(ours(piece), symusic_notes):
        return "other notes than symusic"
    if agree(symusic_notes, pretty_notes):
        return "the same"
    return "they do not agree with each other"


@pytest.fixture(scope="module")
def bach():
    """Ten chorales as MIDI files."""
    return [midi_bytes(piece) for piece in bach_chorales()[:200:20]]


class TestOracles:
    """What pretty_midi and symusic both read, we read, with the same notes."""

    def test_bach(self, bach):
        assert [compare(data) for data in bach] == ["the same"] * len(bach)

    EACH_FOR_ITSELF = {
        "tempo_elsewhere.mid": "they do not agree with each other",  # pretty_midi ignores it
        "struck_twice.mid": "they do not agree with each other",  # pretty_midi reads two notes
        "overlap.mid": "they do not agree with each other",  # pretty_midi ends both at once
    }

    @pytest.mark.parametrize("name", KEPT)
    def test_traps(self, name):
        found = compare(KEPT[name][0])
        assert found in (self.EACH_FOR_ITSELF.get(name, "the same"), None)

    @needs_wild
    @pytest.mark.parametrize("path", sorted(WILD.glob("*/*.mid")), ids=lambda path: path.name)
    def test_the_wild(self, path):
        row, _ = read_entry(path.name, path.read_bytes())
        found = compare(path.read_bytes())
        if "overlapping" in row["warnings"] or "tempo on another" in row["warnings"]:
            assert found in ("the same", "they do not agree with each other", None)
        else:
            assert found in ("the same", "not kept: it has no notes", None)

    def test_a_thousand_mutants(self, bach):
        found = collections.Counter()
        for number, data in enumerate(mutants(bach, 1000, seed=0)):
            begin = time.perf_counter()
            row, piece = read_entry(str(number), data)
            assert time.perf_counter() - begin < 2
            check_row(row, piece, str(number))
            found[compare(data)] += 1
        allowed = {
            *(None, "the same", "they do not agree with each other"),
            *("not kept: it has no notes", "not kept: it lasts longer than a day"),
        }
        assert set(found) <= allowed, found
        assert found["the same"] > 150
