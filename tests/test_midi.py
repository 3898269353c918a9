"""Pieces and MIDI files: annotated hexdumps in, notes out, and back; mido and pretty_midi agree."""

import collections
import concurrent.futures
import copy
import dataclasses
import io
import os
import pathlib
import pickle
import re
import struct
import sys

import mido
import numpy as np
import pandas as pd
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_music.midi import (
    Piece,
    from_pretty_midi,
    midi_bytes,
    read_midi,
    to_pretty_midi,
    write_midi,
)

NOTE = "00 90 3C 40   60 80 3C 40  # middle C, velocity 64, 96 ticks long"
WILD = pathlib.Path(__file__).parent / ".." / ".." / "shared" / "midi"
needs_wild = pytest.mark.skipif(not WILD.is_dir(), reason="../shared/midi is not here")


def hexdump(text):
    """Bytes written as hexadecimal pairs, with comments behind `#`."""
    return bytes.fromhex("".join(line.split("#")[0] for line in text.splitlines()))


def smf(*tracks, kind=1, ticks_per_quarter=96):
    """Track bodies as hexdumps -> the bytes of a file; each gets its header and End of Track."""
    data = b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks), ticks_per_quarter)
    for track in tracks:
        body = hexdump(track) + hexdump("00 FF 2F 00")
        data += b"MTrk" + struct.pack(">I", len(body)) + body
    return data


def rows(table, *columns):
    """The named columns, or all of them, as a list of tuples."""
    return list((table[list(columns)] if columns else table).itertuples(index=False, name=None))


def note(pitch, start, end, **more):
    return {"pitch": pitch, "start": start, "end": end} | more


def assert_same(first, second):
    """Two pieces are equal to the last bit; only the names may differ."""
    for table in ("notes", "tempos", "time_signatures", "pedals"):
        pd.testing.assert_frame_equal(
            getattr(first, table), getattr(second, table), check_exact=True
        )
    assert first.ticks_per_quarter == second.ticks_per_quarter


def seconds_per_tick(piece, seconds):
    """The length of a tick at these moments."""
    row = np.searchsorted(piece.tempos["time"], seconds, side="right") - 1
    return 60 / (piece.tempos["tempo_bpm"].to_numpy()[row] * piece.ticks_per_quarter)


def assert_within(read, piece, column, ticks):
    """Notes, matched within their track and pitch, moved by no more than so many ticks."""
    order = ["track", "pitch", "start"]
    before, after = (p.notes.sort_values(order)[column].to_numpy() for p in (piece, read))
    # At a tempo change either of the two ticks may be the one that rounds.
    tick = np.maximum(seconds_per_tick(read, before), seconds_per_tick(read, before - 1e-3))
    assert (np.abs(after - before) <= ticks * tick + 1e-9).all()


# Bytes in, piece out


def test_a_file_byte_by_byte():
    """Late tempo, velocity 0, running status, pedal, two programs, overlaps, drums, no length."""
    data = hexdump("""
        4D 54 68 64  00 00 00 06    # "MThd", six bytes follow
        00 01  00 03  00 60         # format 1, three tracks, 96 ticks to a quarter note

        4D 54 72 6B  00 00 00 0C    # "MTrk", 12 bytes follow
        00 FF 58 04 03 03 18 08     # time signature 3/2**3
        00 FF 2F 00                 # end of track

        4D 54 72 6B  00 00 00 3F    # "MTrk", 63 bytes follow
        00 FF 51 03 07 A1 20        # 500,000 microseconds a quarter note: 120 a minute
        00 C0 28                    # channel 1 plays program 40
        00 B0 40 7F                 # pedal down
        00 90 3C 64                 # C4 down, velocity 100
        60 3C 00                    # 96 ticks later, running status: C4 down with 0, which is up
        00 FF 51 03 0F 42 40        # from here on (0.5 s) 60 a minute, so that 48 ticks last 0.5 s
        30 B0 40 00                 # 48 ticks: pedal up
        00 C0 05                    # channel 1 now plays program 5
        00 90 3C 50                 # C4 down, velocity 80
        30 90 3C 46                 # 48 ticks: C4 down again while it sounds, velocity 70
        30 80 3C 40                 # 48 ticks: C4 up
        30 80 3C 40                 # 48 ticks: C4 up
        00 90 40 01  00 80 40 00    # E4 down and up at once
        00 FF 2F 00                 # end of track

        4D 54 72 6B  00 00 00 0C    # "MTrk", 12 bytes follow
        81 40 99 26 7F              # 1 * 128 + 64 = 192 ticks: drum 38 (channel 10), velocity 127
        18 26 00                    # 24 ticks: up
        00 FF 2F 00                 # end of track
    """)
    piece = read_midi(data)
    columns = ["start", "end", "pitch", "velocity", "program", "is_drum", "track"]
    assert rows(piece.notes, *columns) == [
        (0.0, 0.5, 60, 100, 40, False, 1),
        (1.0, 2.0, 60, 80, 5, False, 0),  # first down, first up
        (1.5, 1.75, 38, 127, 0, True, 2),
        (1.5, 2.5, 60, 70, 5, False, 0),
        (2.5, 2.5, 64, 1, 5, False, 0),
    ]
    assert rows(piece.tempos) == [(0.0, 120.0), (0.5, 60.0)]
    assert rows(piece.time_signatures) == [(0.0, 3, 8)]
    assert rows(piece.pedals) == [(0.0, 1.0, 1)]
    assert piece.ticks_per_quarter == 96
    assert (piece.name, len(piece), piece.duration) == ("", 5, 2.5)


@pytest.mark.parametrize(
    ("ticks_per_quarter", "wait"),
    [(1, "01"), (96, "60"), (480, "83 60"), (32767, "81 FF 7F")],
)
def test_a_quarter_note_lasts_half_a_second_on_any_grid(ticks_per_quarter, wait):
    data = smf(f"00 90 3C 40  {wait} 80 3C 00", ticks_per_quarter=ticks_per_quarter)
    piece = read_midi(data)
    assert rows(piece.notes, "start", "end") == [(0.0, 0.5)]
    assert piece.ticks_per_quarter == ticks_per_quarter
    assert_same(read_midi(midi_bytes(piece)), piece)


def test_formats_0_1_and_2():
    other = "60 91 43 40  60 81 43 40"
    for kind, tracks in ((0, [NOTE]), (1, [NOTE, other]), (2, [NOTE, other])):
        expected = [(60, 0.0, 0.5, 0), (67, 0.5, 1.0, 1)][: len(tracks)]
        piece = read_midi(smf(*tracks, kind=kind))
        assert rows(piece.notes, "pitch", "start", "end", "track") == expected


def test_tracks_keep_the_order_of_the_file_then_channel_then_program():
    data = smf(
        "00 C1 28  00 C0 32   00 91 3E 40  60 81 3E 40   00 90 3C 40  60 80 3C 40"
        "00 C0 05             00 90 40 40  60 80 40 40",
        "00 FF 03 04 66 72 65 65  # a track with a name and no notes",
        "00 C0 00             00 90 41 40  60 80 41 40",
    )
    assert rows(read_midi(data).notes.sort_values("track"), "track", "program", "pitch") == [
        (0, 5, 64),
        (1, 50, 60),
        (2, 40, 62),
        (3, 0, 65),
    ]


@pytest.mark.parametrize(
    ("clock", "seconds"),
    [
        (0xE728, 96 / (25 * 40)),  # -25 frames a second, 40 ticks a frame: milliseconds
        (0xE850, 96 / (24 * 80)),
        (0xE204, 96 / (30 * 4)),
        (0xE304, 96 / (30 * 4) * 1.001),  # -29: "drop frame", 30 frames in 1.001 s
    ],
)
def test_a_clock_of_film_frames(clock, seconds):
    """SMPTE time: tempos do not count. There are no beats, so a second is read as one."""
    piece = read_midi(smf("00 FF 51 03 01 00 00", NOTE, ticks_per_quarter=clock))
    assert rows(piece.notes, "start", "end") == [(0.0, pytest.approx(seconds, rel=1e-12))]
    assert rows(piece.tempos) == [(0.0, pytest.approx(60, rel=2e-3))]


def test_the_name_can_be_given(tmp_path):
    path = write_midi(read_midi(smf(NOTE)), tmp_path / "file.mid")
    assert [read_midi(path).name, read_midi(path, name="a").name] == ["file", "a"]
    assert [read_midi(smf(NOTE)).name, read_midi(smf(NOTE), name="a").name] == ["", "a"]


def test_a_file_in_a_riff_wrapper():
    data = smf(NOTE)
    chunk = b"data" + struct.pack("<I", len(data)) + data
    wrapped = b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"RMID" + chunk
    assert_same(read_midi(wrapped), read_midi(data))
    assert_same(read_midi(wrapped + b"LIST\4\0\0\0INFO"), read_midi(data))


def test_a_key_that_never_comes_up_is_no_note():
    assert rows(read_midi(smf("00 90 3D 40", NOTE)).notes, "pitch") == [(60,)]


def test_a_pedal_that_never_comes_up_lasts_to_the_end_of_its_track():
    piece = read_midi(smf("00 B0 40 40" + NOTE))
    assert rows(piece.pedals) == [(0.0, 0.5, 0)]
    piece = read_midi(smf("00 B0 40 3F" + NOTE))  # 63 is still up
    assert rows(piece.pedals) == []


def test_of_several_tempos_on_one_tick_the_last_counts():
    data = smf("00 FF 51 03 07 A1 20  00 FF 51 03 0F 42 40", NOTE)
    assert rows(read_midi(data).tempos) == [(0.0, 60.0)]


def test_a_path_gives_the_piece_its_name(tmp_path):
    (tmp_path / "blue moon.mid").write_bytes(smf(NOTE))
    piece = read_midi(tmp_path / "blue moon.mid")
    assert repr(piece) == "Piece('blue moon', notes=1, seconds=0.5)"
    assert repr(read_midi(smf(NOTE))) == "Piece(notes=1, seconds=0.5)"
    assert_same(piece, read_midi(str(tmp_path / "blue moon.mid")))


# The tempo map


def test_seconds_and_beats():
    """120 a minute, from 1 s (beat 2) on 60, from 3 s (beat 4) on 240."""
    tempos = {"time": [0, 1, 3], "tempo_bpm": [120, 60, 240]}
    piece = Piece([], tempos=tempos)
    seconds, beats = [0.0, 0.5, 1.0, 2.0, 3.0, 3.25, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0]
    assert piece.to_beats(seconds).tolist() == beats
    assert piece.to_seconds(beats).tolist() == seconds
    assert piece.to_beats([[2.0], [4.0]]).shape == (2, 1)


def test_without_a_tempo_it_is_120():
    assert float(Piece([]).to_beats(3.0)) == 6.0
    piece = Piece([], tempos=[{"time": 1, "tempo_bpm": 60}])
    assert rows(piece.tempos) == [(0.0, 120.0), (1.0, 60.0)]
    assert float(piece.to_beats(3.0)) == 4.0


# Piece in, bytes out


def test_the_bytes_of_one_note():
    piece = Piece([note(60, 0, 0.5, velocity=64, program=5)], ticks_per_quarter=96)
    messages = mido.MidiFile(file=io.BytesIO(midi_bytes(piece)))
    assert (messages.type, messages.ticks_per_beat) == (1, 96)
    assert [[str(m) for m in t if not m.is_meta] for t in messages.tracks] == [
        [
            "program_change channel=0 program=5 time=0",
            "note_on channel=0 note=60 velocity=64 time=0",
            "note_off channel=0 note=60 velocity=64 time=96",
        ],
    ]


def test_a_note_has_at_least_one_tick():
    """Most readers drop notes without a length."""
    piece = Piece([note(60, 1.0, 1.0), note(62, 1.0, 1.0001)], ticks_per_quarter=500)
    assert rows(read_midi(midi_bytes(piece)).notes, "start", "end") == [(1.0, 1.001)] * 2


def test_more_tracks_than_channels():
    notes = [note(60, i, i + 1, track=i, program=i) for i in range(40)]
    piece = Piece(notes)
    assert_same(read_midi(midi_bytes(piece)), piece)


def test_gaps_in_the_numbering_of_tracks_close_and_programs_part():
    notes = [note(60, 0, 1, track=7, program=9), note(62, 0, 1, track=7, program=3)]
    piece = read_midi(midi_bytes(Piece([*notes, note(64, 0, 1, track=2)])))
    assert rows(piece.notes, "pitch", "track", "program") == [(60, 2, 9), (62, 1, 3), (64, 0, 0)]


def test_overlapping_pedals_become_one():
    """The first version let the pedal up at the first of the ends."""
    spans = {"start": [0.0, 0.5, 2.0, 2.5], "end": [1.0, 1.5, 2.5, 3.0]}
    piece = Piece([note(60, 0, 3)], pedals=spans)
    expected = [(0.0, 1.5, 0), (2.0, 2.5, 0), (2.5, 3.0, 0)]
    assert rows(read_midi(midi_bytes(piece)).pedals) == expected
    assert rows(from_pretty_midi(to_pretty_midi(piece)).pedals) == expected


def test_a_tempo_too_slow_for_midi_leaves_the_notes_where_they_are():
    """One quarter note a minute; the first version wrote a minute as 17 seconds."""
    piece = Piece([note(60, 6, 60)], tempos=[{"time": 0, "tempo_bpm": 1}])
    read = read_midi(midi_bytes(piece))
    assert rows(read.tempos) == [(0.0, pytest.approx(3.576, abs=1e-3))]
    tick = 16.777 / 480
    assert rows(read.notes, "start", "end") == [
        (pytest.approx(6, abs=tick / 2), pytest.approx(60, abs=tick / 2))
    ]


def test_ten_minutes_of_changing_tempos_do_not_drift():
    """The tempo map's own roundings must not add up; the first version put them on the notes."""
    random = np.random.default_rng(0)
    times = np.sort(random.uniform(0, 600, 1000))
    tempos = {"time": times, "tempo_bpm": random.uniform(30, 300, 1000)}
    start = np.arange(0, 600, 0.5) + random.uniform(0, 0.2, 1200)
    for ticks_per_quarter in (24, 480):
        piece = Piece(
            {"pitch": 60, "start": start, "end": start + 0.25},
            tempos=tempos,
            ticks_per_quarter=ticks_per_quarter,
        )
        read = read_midi(midi_bytes(piece))
        assert_within(read, piece, "start", 0.5)
        assert_within(read, piece, "end", 0.5)
        assert_same(read_midi(midi_bytes(read)), read)


def test_twenty_hours():
    """120.3 a minute is no whole number of microseconds a quarter note."""
    start = np.linspace(0, 72_000, 5000)
    piece = Piece(
        {"pitch": 60, "start": start, "end": start + 1},
        tempos=[{"time": 0, "tempo_bpm": 120.3}],
    )
    read = read_midi(midi_bytes(piece))
    assert_within(read, piece, "start", 0.5)
    assert_same(read_midi(midi_bytes(read)), read)


def test_the_longest_file():
    last = (2**28 - 1) / 960  # ticks in seconds, at 120 and 480 ticks to a quarter note
    piece = Piece([note(60, 0, last)])
    assert rows(read_midi(midi_bytes(piece)).notes, "end") == [(last,)]
    sentence = (
        "`piece` must be shorter than 268435455 ticks. Received: 268435456 ticks (279620 s). "
        "Cut it, or lower `ticks_per_quarter`."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        midi_bytes(Piece([note(60, 0, last + 1 / 960)]))
    too_long = "`piece` must be shorter than 268435455 ticks"
    with pytest.raises(ValueError, match=too_long):
        midi_bytes(Piece([note(60, 1e300, 1e301)]))
    with pytest.raises(ValueError, match=too_long):
        midi_bytes(Piece([note(60, 0, 1)], tempos=[{"time": 1e12, "tempo_bpm": 60}]))


def test_a_piece_without_notes_keeps_its_tempos_and_signatures_in_order():
    """symusic sorts them only where there is a track; `to_pretty_midi` writes such a frame."""
    piece = Piece(
        [note(60, 0, 4)],
        tempos={"time": [0, 1, 3], "tempo_bpm": [120, 60, 90]},
        time_signatures={"time": [0, 2], "numerator": [3, 4], "denominator": [8, 4]},
        ticks_per_quarter=100,
    )
    frame = dataclasses.replace(piece, notes=[])
    (track,) = mido.MidiFile(file=io.BytesIO(midi_bytes(frame))).tracks
    waits = [m.time for m in track if m.type in ("set_tempo", "time_signature")]
    assert waits == [0, 0, 200, 100, 100]
    midi = to_pretty_midi(piece)
    assert [list(v) for v in midi.get_tempo_changes()] == [
        [0.0, 1.0, 3.0],
        [120.0, 60.0, pytest.approx(90.0)],
    ]
    assert [(s.numerator, s.time) for s in midi.time_signature_changes] == [(3, 0.0), (4, 2.0)]


# Properties


@st.composite
def pieces(draw):
    """Up to four tracks; notes of one pitch, pedals, tempos and signatures two ticks apart."""
    ticks_per_quarter = draw(st.sampled_from([24, 96, 480, 32767]))
    tempos_bpm = draw(st.lists(st.floats(30, 400), min_size=1, max_size=8))
    tick = 60 / (min(tempos_bpm + [120.0]) * ticks_per_quarter)  # the longest one
    steps = st.floats(2, 300).map(lambda ticks: ticks * tick)

    def moments(count):
        return np.cumsum(draw(st.lists(steps, min_size=count, max_size=count)))

    def spans(most, least=0):
        count = draw(st.integers(least, most))
        return moments(2 * count).reshape(-1, 2).tolist()

    notes, pedals = [], []
    for track in range(draw(st.integers(1, 4))):
        sound = {
            "track": track,
            "program": draw(st.integers(0, 127)),
            "is_drum": draw(st.booleans()),
        }
        for pitch in draw(st.sets(st.integers(0, 127), min_size=1, max_size=3)):
            for start, end in spans(4, 1):
                notes.append(note(pitch, start, end, velocity=draw(st.integers(1, 127)), **sound))
        pedals += [{"start": a, "end": b, "track": track} for a, b in spans(3)]
    metre = st.tuples(st.integers(1, 255), st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]))
    metres = draw(st.lists(metre, max_size=4))
    return Piece(
        notes,
        tempos={"time": moments(len(tempos_bpm)), "tempo_bpm": tempos_bpm},
        time_signatures=[
            {"time": time, "numerator": n, "denominator": d}
            for time, (n, d) in zip(moments(len(metres)), metres, strict=True)
        ],
        pedals=pedals,
        ticks_per_quarter=ticks_per_quarter,
    )


@settings(deadline=None, max_examples=80)
@given(piece=pieces())
def test_what_is_written_is_read(piece):
    once = read_midi(midi_bytes(piece))
    assert_same(read_midi(midi_bytes(once)), once)
    order, exact = ["track", "pitch", "start"], ["track", "pitch", "velocity", "program", "is_drum"]
    assert rows(once.notes.sort_values(order), *exact) == rows(
        piece.notes.sort_values(order), *exact
    )
    assert_within(once, piece, "start", 0.5)
    assert_within(once, piece, "end", 0.5)
    tick = seconds_per_tick(once, once.tempos["time"]).max()
    changes, signatures = (
        [getattr(p, table) for p in (once, piece)] for table in ("tempos", "time_signatures")
    )
    pedals = [p.pedals.sort_values(["track", "start"]) for p in (once, piece)]
    assert rows(pedals[0], "track") == rows(pedals[1], "track")
    metres = [rows(s, "numerator", "denominator") for s in signatures]
    assert metres[0] == metres[1]
    for after, before in (
        [c["time"] for c in changes],
        [s["time"] for s in signatures],
        [p[["start", "end"]] for p in pedals],
    ):
        np.testing.assert_allclose(after, before, rtol=0, atol=tick / 2 + 1e-9)
    microseconds = [60e6 / c["tempo_bpm"] for c in changes]
    np.testing.assert_allclose(*microseconds, rtol=0, atol=0.5 + 1e-6)


SOMETIMES_OVERLAPPING = st.lists(
    st.tuples(st.integers(60, 62), st.integers(0, 40), st.integers(0, 20), st.integers(1, 127)),
    min_size=1,
    max_size=15,
)


@settings(deadline=None, max_examples=100)
@given(notes=SOMETIMES_OVERLAPPING)
def test_overlapping_notes_of_one_pitch_keep_their_starts_and_ends(notes):
    """First down, first up: which note ends when may change, the moments may not."""
    piece = Piece([note(p, t / 960, (t + d) / 960, velocity=v) for p, t, d, v in notes])
    once = read_midi(midi_bytes(piece))
    assert_same(read_midi(midi_bytes(once)), once)
    ticks = np.rint(once.notes[["start", "end"]] * 960).astype(int)
    expected_starts = collections.Counter((p, t) for p, t, _, _ in notes)
    expected_ends = collections.Counter((p, t + max(d, 1)) for p, t, d, _ in notes)
    assert (
        collections.Counter(zip(once.notes["pitch"], ticks["start"], strict=True))
        == expected_starts
    )
    assert collections.Counter(zip(once.notes["pitch"], ticks["end"], strict=True)) == expected_ends
    assert sorted(once.notes["velocity"]) == sorted(v for *_, v in notes)


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_damaged_files_give_a_piece_or_a_sentence(data):
    """Bytes changed, cut out and cut off: nothing but ValueError, and what is read can be kept."""
    whole = smf("00 FF 58 04 03 03 18 08  00 FF 51 03 07 A1 20", NOTE + "\n00 C0 05  00 B0 40 7F")
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(len(damaged) - 1, 0)))
        damaged[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        piece = read_midi(bytes(damaged))
    except ValueError as error:
        assert str(error).startswith("The MIDI data ")
        return
    assert_same(read_midi(midi_bytes(piece)), piece)


# Oracles: mido and pretty_midi read what we write


def mido_notes(data):
    """(ticks down, ticks up, pitch, velocity, program, channel is 10) by mido and a dictionary."""
    found = []
    for track in mido.MidiFile(file=io.BytesIO(data)).tracks:
        now, program, down = 0, {}, {}
        for message in track:
            now += message.time
            if message.type == "program_change":
                program[message.channel] = message.program
            elif message.type in ("note_on", "note_off"):
                key = message.channel, message.note
                if message.type == "note_on" and message.velocity:
                    down.setdefault(key, []).append((now, message.velocity))
                else:
                    start, velocity = down[key].pop(0)
                    kind = program.get(message.channel, 0), message.channel == 9
                    found.append((start, now, message.note, velocity, *kind))
        assert not any(down.values())
    return sorted(found)


@settings(deadline=None, max_examples=30)
@given(piece=pieces())
def test_mido_and_pretty_midi_read_the_same_notes(piece):
    data = midi_bytes(piece)
    read = read_midi(data)
    notes = read.notes
    beats = read.to_beats(notes[["start", "end"]])
    start, end = np.rint(beats * read.ticks_per_quarter).astype(int).T
    columns = [notes[c] for c in ("pitch", "velocity", "program", "is_drum")]
    assert mido_notes(data) == sorted(zip(start, end, *columns, strict=True))

    theirs = from_pretty_midi(pretty_midi.PrettyMIDI(io.BytesIO(data))).notes
    order = ["track", "pitch", "start"]
    pd.testing.assert_frame_equal(
        theirs.sort_values(order, ignore_index=True),
        notes.sort_values(order, ignore_index=True),
        rtol=0,
        atol=1e-6,
    )


@settings(deadline=None, max_examples=30)
@given(piece=pieces())
def test_to_pretty_midi_and_back(piece):
    back = from_pretty_midi(to_pretty_midi(piece))
    pd.testing.assert_frame_equal(back.notes, piece.notes, check_exact=True)
    pd.testing.assert_frame_equal(back.pedals, piece.pedals, check_exact=True)
    assert back.ticks_per_quarter == piece.ticks_per_quarter
    written = read_midi(midi_bytes(piece))
    changes = written.tempos["tempo_bpm"].diff().fillna(1) != 0  # pretty_midi drops repetitions
    np.testing.assert_allclose(back.tempos, written.tempos[changes], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(back.time_signatures, written.time_signatures, atol=1e-9)


def test_a_pedal_of_pretty_midi_that_is_never_lifted_ends_with_the_last_note():
    """Times from a network are often float32, the last note's end is not."""
    midi = pretty_midi.PrettyMIDI()
    piano = pretty_midi.Instrument(0)
    piano.notes = [pretty_midi.Note(80, 60, 0.0, 0.1 + 0.2)]
    piano.control_changes = [
        pretty_midi.ControlChange(64, value, np.float32(time))
        for value, time in ((0, 0.25), (127, 0.125), (100, 0.0625))  # in no order
    ]
    midi.instruments.append(piano)
    assert rows(from_pretty_midi(midi).pedals) == [(0.0625, 0.25, 0)]
    piano.control_changes.pop(0)
    assert rows(from_pretty_midi(midi).pedals) == [(0.0625, 0.1 + 0.2, 0)]
    piano.control_changes = [pretty_midi.ControlChange(64, 127, 2.0)]  # behind the last note
    assert rows(from_pretty_midi(midi).pedals) == [(2.0, 2.0, 0)]


def test_from_pretty_midi():
    midi = pretty_midi.PrettyMIDI(resolution=96, initial_tempo=90)
    for program, is_drum in ((40, False), (0, True)):
        instrument = pretty_midi.Instrument(program, is_drum)
        instrument.notes.append(pretty_midi.Note(100, 60 + program, 0.25, 1.5))
        midi.instruments.append(instrument)
    for value, time in ((127, 0.5), (0, 1.0), (64, 1.25)):
        midi.instruments[0].control_changes.append(pretty_midi.ControlChange(64, value, time))
    midi.time_signature_changes.append(pretty_midi.TimeSignature(6, 8, 0.0))
    piece = from_pretty_midi(midi)
    assert rows(piece.notes) == [
        (60, 100, 0.25, 1.5, 0, True, 1),
        (100, 100, 0.25, 1.5, 40, False, 0),
    ]
    assert rows(piece.tempos) == [(0.0, 90.0)]
    assert rows(piece.time_signatures) == [(0.0, 6, 8)]
    assert rows(piece.pedals) == [(0.5, 1.0, 0), (1.25, 1.5, 0)]
    assert piece.ticks_per_quarter == 96


# Files in the wild


@needs_wild
def test_every_readable_file_is_kept_exactly_and_no_other_error_than_valueerror():
    read, refused = 0, []
    for path in sorted(WILD.rglob("*.mid")):
        try:
            piece = read_midi(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused.append(path.name)
            continue
        assert_same(read_midi(midi_bytes(piece)), piece)
        read += 1
    assert read > 80
    assert {"test-empty-file.mid", "test-not-a-midi-file.mid", "test-empty.mid"} < set(refused)
    assert "test-corrupt-file-missing-byte.mid" in refused


@needs_wild
def test_pretty_midi_reads_the_pop_songs_note_for_note():
    paths = sorted((WILD / "pop").glob("*.mid"))
    assert paths
    for path in paths:
        ours = read_midi(path).notes
        ours = ours[ours["end"] > ours["start"]]  # pretty_midi drops notes without a length
        theirs = from_pretty_midi(pretty_midi.PrettyMIDI(str(path))).notes
        order = ["track", "pitch", "start", "end", "velocity"]
        ours, theirs = (n.round(6).sort_values(order, ignore_index=True) for n in (ours, theirs))
        pd.testing.assert_frame_equal(ours, theirs, rtol=0, atol=1e-3)


# Bad files


BAD_FILES = {
    "empty.mid": (b"", "{} is empty (0 bytes). Copy or download it again."),
    "text.mid": (
        b"Dear all, the song is attached.",
        "{} is not a MIDI file: it begins with b'Dear' and not with b'MThd'. "
        "Give a .mid or .midi file.",
    ),
    "sound.wav": (
        b"RIFF\x24\0\0\0WAVEfmt ",
        "{} is not a MIDI file: it begins with b'RIFF' and not with b'MThd'. "
        "Give a .mid or .midi file.",
    ),
    "silent.mid": (
        smf("00 FF 51 03 07 A1 20  00 90 3C 40"),
        "{} is a MIDI file without notes. Leave it out, or check the file.",
    ),
    "no_tracks.mid": (
        smf(),
        "{} is a MIDI file without notes. Leave it out, or check the file.",
    ),
    "cut.mid": (
        smf(NOTE)[:-7],
        "{} is damaged or uses a form of MIDI that cannot be read (...). "
        "Export it again from the program that made it.",
    ),
    "header.mid": (
        smf(NOTE)[:9],
        "{} is damaged or uses a form of MIDI that cannot be read (...). "
        "Export it again from the program that made it.",
    ),
    "film.mid": (
        smf(NOTE, ticks_per_quarter=0xE628),  # -26 frames a second: there is no such film
        "{} is damaged or uses a form of MIDI that cannot be read "
        "(MiniMidi: Division type is not ticks per quarter!). "
        "Export it again from the program that made it.",
    ),
    "no_ticks.mid": (
        smf(NOTE, ticks_per_quarter=0),
        "{} is damaged: its header says that a quarter note has 0 ticks. "
        "Export it again from the program that made it.",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gives_one_sentence_that_names_it(name, tmp_path):
    data, sentence = BAD_FILES[name]
    for source, label in ((tmp_path / name, str(tmp_path / name)), (data, "The MIDI data")):
        (tmp_path / name).write_bytes(data)
        pattern = re.escape(sentence.format(label)).replace(re.escape("..."), ".+")
        with pytest.raises(ValueError, match=f"^{pattern}$"):
            read_midi(source)


def test_a_missing_path_and_a_folder(tmp_path):
    path = tmp_path / "none.mid"
    sentence = f"There is no file {path}. Check the path (the current folder is {os.getcwd()})."
    with pytest.raises(FileNotFoundError, match=f"^{re.escape(sentence)}$"):
        read_midi(path)
    sentence = f"{tmp_path} is a folder. Give the path of one MIDI file inside it."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        read_midi(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = tmp_path / "secret.mid"
    path.touch()

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pathlib.Path, "read_bytes", refuse)
    sentence = f"Cannot read {path}: Permission denied. Check that you may read the file."
    with pytest.raises(PermissionError, match=f"^{re.escape(sentence)}$"):
        read_midi(path)


def test_more_ticks_than_a_number_holds():
    """Nine waits of 2**28 ticks each: symusic's clock of 32 bits wraps round."""
    data = smf("FF FF FF 7F FF 01 00" * 9 + NOTE)
    with pytest.raises(ValueError, match=r"^The MIDI data holds impossible values and cannot be"):
        read_midi(data)


# Writing files


def test_write_midi_makes_the_folder_and_returns_the_path(tmp_path):
    piece = Piece([note(60, 0, 1)])
    path = write_midi(piece, str(tmp_path / "a" / "b" / "new.mid"))
    assert path == tmp_path / "a" / "b" / "new.mid"
    assert path.read_bytes() == midi_bytes(piece)
    umask = os.umask(0)
    os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert_same(read_midi(write_midi(Piece([note(62, 0, 2)]), path)), Piece([note(62, 0, 2)]))
    assert os.listdir(path.parent) == ["new.mid"]


# The piece itself


def test_defaults_order_and_types():
    piece = Piece({"pitch": [64, 60, 60], "start": [1, 0, 0], "end": [2, 2, 1], "extra": "x"})
    assert rows(piece.notes) == [
        (60, 80, 0.0, 1.0, 0, False, 0),
        (60, 80, 0.0, 2.0, 0, False, 0),
        (64, 80, 1.0, 2.0, 0, False, 0),
    ]
    assert {c: str(t) for c, t in piece.notes.dtypes.items()} == {
        "pitch": "int64",
        "velocity": "int64",
        "start": "float64",
        "end": "float64",
        "program": "int64",
        "is_drum": "bool",
        "track": "int64",
    }
    holes = Piece([note(60, 0, 1, velocity=3), note(61, 0, 1)])
    assert holes.notes["velocity"].tolist() == [3, 80]
    twins = Piece([note(60, 0, 2, track=0), note(60, 0, 1, track=1), note(60, 0, 1, track=0)])
    assert rows(twins.notes, "end", "track") == [(1.0, 0), (1.0, 1), (2.0, 0)]


def test_an_empty_piece():
    piece = Piece([])
    assert (len(piece), piece.duration, repr(piece)) == (0, 0.0, "Piece(notes=0, seconds=0.0)")
    assert rows(piece.tempos) == [(0.0, 120.0)]
    assert len(piece.time_signatures) == len(piece.pedals) == 0


def test_the_last_of_several_tempos_or_signatures_at_one_moment_counts():
    piece = Piece(
        [],
        tempos={"time": [2, 0, 2], "tempo_bpm": [60, 90, 70]},
        time_signatures={"time": [0, 0], "numerator": [3, 4], "denominator": [4, 4]},
    )
    assert rows(piece.tempos) == [(0.0, 90.0), (2.0, 70.0)]
    assert rows(piece.time_signatures) == [(0.0, 4, 4)]


def test_crop():
    piece = Piece(
        {"pitch": [60, 62, 64], "start": [0.0, 1.0, 2.0], "end": [1.0, 3.0, 3.0]},
        tempos={"time": [0, 1, 2], "tempo_bpm": [60, 90, 70]},
        time_signatures={"time": [0, 2], "numerator": [3, 4], "denominator": [4, 4]},
        pedals={"start": [0.5, 2.0], "end": [2.5, 2.5], "track": [0, 0]},
        ticks_per_quarter=96,
        name="study",
    )
    short = piece.crop(2.0)
    assert rows(short.notes, "pitch", "start", "end") == [(60, 0.0, 1.0), (62, 1.0, 2.0)]
    assert rows(short.tempos) == [(0.0, 60.0), (1.0, 90.0)]
    assert rows(short.time_signatures) == [(0.0, 3, 4)]
    assert rows(short.pedals) == [(0.5, 2.0, 0)]
    assert (short.ticks_per_quarter, short.name, piece.duration) == (96, "study", 3.0)
    assert_same(piece.crop(100), piece)
    for end in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=rf"^`end` must be > 0 seconds. Received: end={end}.$"):
            piece.crop(end)


TIMES = "must have 0 <= start <= end, in seconds. Received: "
ROW = "Correct or remove the row."


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"notes": [{"pitch": 60, "start": 0}]},
            "`notes` must have the columns ['pitch', 'velocity', 'start', 'end', 'program', "
            "'is_drum', 'track']. Received: ['pitch', 'start']. Add ['end'].",
        ),
        (
            {"notes": 5},
            "`notes` must be a table: a pandas.DataFrame, a list of dicts (rows) or a dict of "
            "lists (columns). Received: int (...).",
        ),
        ({"notes": [note("C4", 0, 1)]}, "`notes.pitch` must hold numbers only. Received: ..."),
        ({"notes": [note(None, 0, 1)]}, "`notes.pitch` must hold numbers only. Received: ..."),
        (
            {"notes": [note(60, 0, 1), note(60.5, 0, 1)]},
            "`notes.pitch` must be a whole number. Received: 60.5. Round it.",
        ),
        (
            {"notes": [note(128, 0, 1)]},
            f"`notes.pitch` must be from 0 to 127. Received: 128. {ROW}",
        ),
        ({"notes": [note(-1, 0, 1)]}, f"`notes.pitch` must be from 0 to 127. Received: -1. {ROW}"),
        (
            {"notes": [note(60, 0, 1, velocity=0)]},
            f"`notes.velocity` must be from 1 to 127. Received: 0. {ROW}",
        ),
        (
            {"notes": [note(60, 0, 1, program=128)]},
            f"`notes.program` must be from 0 to 127. Received: 128. {ROW}",
        ),
        (
            {"notes": [note(60, 0, 1, track=-1)]},
            f"`notes.track` must be from 0 to 2147483648. Received: -1. {ROW}",
        ),
        ({"notes": [note(60, -1, 1)]}, f"`notes` {TIMES}start=-1.0, end=1.0 in row 0. {ROW}"),
        (
            {"notes": [note(60, 0, 1), note(60, 2, 1)]},
            f"`notes` {TIMES}start=2.0, end=1.0 in row 1. {ROW}",
        ),
        (
            {"notes": [note(60, float("nan"), 1)]},
            f"`notes` {TIMES}start=nan, end=1.0 in row 0. {ROW}",
        ),
        (
            {"notes": [note(60, 0, float("inf"))]},
            f"`notes` {TIMES}start=0.0, end=inf in row 0. {ROW}",
        ),
        (
            {"pedals": [{"start": 1, "end": 0}]},
            f"`pedals` {TIMES}start=1.0, end=0.0 in row 0. {ROW}",
        ),
        (
            {"tempos": [{"time": -1, "tempo_bpm": 60}]},
            f"`tempos.time` must be from 0 to 1000000000000.0. Received: -1. {ROW}",
        ),
        (
            {"tempos": [{"time": 0, "tempo_bpm": 0}]},
            f"`tempos.tempo_bpm` must be from 0.001 to 60000000.0. Received: 0. {ROW}",
        ),
        (
            {"tempos": [{"time": 0, "tempo_bpm": float("nan")}]},
            f"`tempos.tempo_bpm` must be from 0.001 to 60000000.0. Received: nan. {ROW}",
        ),
        (
            {"tempos": [{"time": 0}]},
            "`tempos` must have the columns ['time', 'tempo_bpm']. Received: ['time']. "
            "Add ['tempo_bpm'].",
        ),
        (
            {"time_signatures": [{"time": -2, "numerator": 4, "denominator": 4}]},
            f"`time_signatures.time` must be from 0 to 1000000000000.0. Received: -2. {ROW}",
        ),
        (
            {"time_signatures": [{"time": 0, "numerator": 0, "denominator": 4}]},
            f"`time_signatures.numerator` must be from 1 to 255. Received: 0. {ROW}",
        ),
        (
            {"time_signatures": [{"time": 0, "numerator": 4, "denominator": 6}]},
            "`time_signatures.denominator` must be a power of two from 1 to 128. Received: 6. "
            + ROW,
        ),
        (
            {"time_signatures": [{"time": 0, "numerator": 4, "denominator": 256}]},
            "`time_signatures.denominator` must be a power of two from 1 to 128. Received: 256. "
            + ROW,
        ),
        (
            {"ticks_per_quarter": 0},
            "`ticks_per_quarter` must be a whole number from 1 to 32767. "
            "Received: ticks_per_quarter=0.",
        ),
        (
            {"ticks_per_quarter": 32768},
            "`ticks_per_quarter` must be a whole number from 1 to 32767. "
            "Received: ticks_per_quarter=32768.",
        ),
    ],
)
def test_impossible_pieces(arguments, sentence):
    pattern = re.escape(sentence).replace(re.escape("..."), ".+")
    with pytest.raises(ValueError, match=f"^{pattern}$"):
        Piece(**({"notes": []} | arguments))


@pytest.mark.parametrize("wrong", [[Piece([])], "song.mid", None])
def test_only_a_piece_can_be_written(wrong, tmp_path):
    with pytest.raises(ValueError, match="`piece` must be a Piece. Received: .*one by one"):
        write_midi(wrong, tmp_path / "song.mid")
    assert list(tmp_path.iterdir()) == []


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_midi(Piece([note(60, 0, 1)]), "~/song.mid")
    assert (tmp_path / "song.mid").is_file()
    assert len(read_midi("~/song.mid")) == 1


def test_a_symbolic_link_stays_one(tmp_path):
    """It became a file of its own, and what it had led to stayed as it was."""
    (tmp_path / "real.mid").write_bytes(b"old")
    (tmp_path / "link.mid").symlink_to("real.mid")
    write_midi(Piece([{"pitch": 60, "start": 0.0, "end": 1.0}]), tmp_path / "link.mid")
    assert (tmp_path / "link.mid").is_symlink()
    assert len(read_midi(tmp_path / "real.mid")) == 1


def test_a_device_is_written_to_and_stays_one():
    """Renaming a file over /dev/full made it a file, for every program on the machine."""
    full = pathlib.Path("/dev/full")
    if not full.is_char_device():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="Cannot write /dev/full: No space left on device"):
        write_midi(Piece([{"pitch": 60, "start": 0.0, "end": 1.0}]), full)
    assert full.is_char_device()


# The tables of a piece are made when they are asked for


def test_columns_are_the_table_and_a_changed_table_counts():
    piece = Piece({"pitch": [62, 60], "start": [0.5, 0.0], "end": [1.0, 0.5]})
    columns = piece.columns("notes")
    assert "notes" not in vars(piece) and len(piece) == 2 and piece.duration == 1.0
    assert list(columns) == list(piece.notes)
    for name, column in columns.items():
        np.testing.assert_array_equal(column, piece.notes[name])
        assert column.dtype == piece.notes[name].dtype
    piece.notes["pitch"] += 1
    assert piece.columns("notes")["pitch"].tolist() == [61, 63] and columns["pitch"][0] == 60
    with pytest.raises(AttributeError, match="'Piece' object has no attribute 'chords'"):
        _ = piece.chords


def test_columns_of_a_table_go_by_their_names():
    """Not by their places, which change when one is put back; columns of one's own stay out."""
    piece = Piece([{"pitch": 60, "start": 0.0, "end": 1.0}], [{"time": 0.0, "tempo_bpm": 240.0}])
    piece.tempos["time"] = piece.tempos.pop("time")
    piece.tempos["label"] = "adagio"
    piece.tempos.loc[1] = [60.0, 1.0, "largo"]
    assert list(piece.columns("tempos")) == ["time", "tempo_bpm"]
    assert piece.to_beats([0.0, 1.0, 2.0]).tolist() == [0.0, 4.0, 5.0]
    assert rows(read_midi(midi_bytes(piece)).tempos) == [(0.0, 240.0), (1.0, 60.0)]


def test_threads_get_the_same_table():
    """Two threads each made one, and what was changed in the first was lost."""
    pieces = [Piece([{"pitch": 60, "start": 0.0, "end": 1.0}]) for _ in range(200)]

    def look(piece):
        return piece.notes, piece.columns("notes")["pitch"].tolist()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(look, [piece for piece in pieces for _ in range(4)]))
    finally:
        sys.setswitchinterval(interval)
    for number, (notes, pitch) in enumerate(seen):
        assert notes is pieces[number // 4].notes and pitch == [60]


@pytest.mark.parametrize("is_seen", [False, True])
@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_a_copy_of_a_piece_is_a_piece(again, is_seen):
    """Also after the table of the first was made: copies once shared what it was made from."""
    piece = Piece([{"pitch": 60, "start": 0.0, "end": 0.5}], name="one")
    if is_seen:
        assert len(piece.notes)
    other = again(piece)
    assert len(piece.notes) == len(other.notes) == len(other) == 1 and other.name == "one"
    assert other.tempos["tempo_bpm"].tolist() == [120.0]


def test_arrays_given_to_a_piece_stay_the_givers():
    pitch = np.array([60, 62])
    piece = Piece({"pitch": pitch, "start": np.zeros(2), "end": np.ones(2)})
    pitch[0] = 0
    assert piece.columns("notes")["pitch"].tolist() == [60, 62]


def test_before_its_first_tempo_a_file_has_120():
    """A quarter at 120, then one at 60: the tempo that comes later is not that of the beginning."""
    notes = "00 90 3C 40  60 80 3C 40  00 90 3E 40  60 80 3E 40"
    piece = read_midi(smf("60 FF 51 03 0F 42 40", notes))
    assert rows(piece.tempos) == [(0.0, 120.0), (0.5, 60.0)]
    assert rows(piece.notes, "start", "end") == [(0.0, 0.5), (0.5, 1.5)]


def test_pedals_are_in_order_of_time():
    """Then of the track and the end, whatever the order in which they were given."""
    spans = [(2.0, 3.0, 0), (0.5, 4.0, 1), (0.5, 2.0, 1), (0.5, 9.0, 0)]
    pedals = [{"start": start, "end": end, "track": track} for start, end, track in spans]
    assert rows(Piece([], pedals=pedals).pedals) == sorted(spans, key=lambda s: (s[0], s[2], s[1]))
