"""MIDI files as they should not be: one by hand for each trap, and mutants of good ones."""

import random
import re
import struct

from test_midi import hexdump, smf

NOTE = "00 90 3C 40  60 80 3C 40 "  # middle C, 96 ticks long
TEMPO_60 = "00 FF 51 03 0F 42 40 "  # a million microseconds a quarter note


def riff(data):
    """RMID: a MIDI file inside a RIFF wrapper."""
    chunk = b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"RMID" + chunk


def with_header(data, kind=None, num_tracks=None):
    """The same file with other words in its header."""
    old_kind, old_num = struct.unpack(">HH", data[8:12])
    kind, num_tracks = (old_kind if kind is None else kind), (num_tracks or old_num)
    return data[:8] + struct.pack(">HH", kind, num_tracks) + data[12:]


SEMPRE = "8F FF FF 7F"  # a variable-length number: 33,554,431 ticks

# name: (bytes, what the report must say of the file). A note is a quarter long, 0.5 s at 120.
KEPT = {
    "plain.mid": (smf(NOTE), {"notes": 1, "seconds": 0.5, "tempo_bpm": 120.0, "programs": "0"}),
    "tempo_elsewhere.mid": (
        smf(NOTE, TEMPO_60 + NOTE),
        {"notes": 2, "seconds": 1.0, "warnings": "tempo on another track than the first"},
    ),
    "tempo_first.mid": (smf(TEMPO_60, NOTE), {"seconds": 1.0, "tempo_bpm": 60.0}),
    "longest_tempo.mid": (
        smf("00 FF 51 03 07 A1 20  60 FF 51 03 0F 42 40", NOTE + NOTE + NOTE),
        {"seconds": 2.5, "tempo_bpm": 60.0},
    ),
    "velocity_0.mid": (smf("00 90 3C 40  60 90 3C 00"), {"notes": 1, "seconds": 0.5}),
    "overlap.mid": (
        smf("00 90 3C 40  30 90 3C 40  30 80 3C 40  30 80 3C 40"),
        {"notes": 2, "seconds": 0.75, "warnings": "overlapping notes of one pitch (1)"},
    ),
    "zero_length.mid": (
        smf(NOTE + "00 90 40 40  00 80 40 40"),
        {"notes": 2, "warnings": "zero-length notes (1)"},
    ),
    "pedal.mid": (smf("00 B0 40 7F" + NOTE + "60 B0 40 00"), {"notes": 1, "seconds": 0.5}),
    "drums.mid": (smf("00 99 24 40  60 89 24 40"), {"programs": "drums"}),
    "programs.mid": (
        smf("00 C0 21" + NOTE + "00 C0 02" + NOTE + "00 99 24 40  60 89 24 40"),
        {"notes": 3, "programs": "2 33 drums"},
    ),
    "twenty_hours.mid": (
        smf(NOTE + "86 CB E0 00 90 3C 40  60 80 3C 40", ticks_per_quarter=96),
        {
            "notes": 2,
            "seconds": 0.5 + 72000.0 + 0.5,
            "warnings": "a very long silence (20.0 h); a very long piece (20.0 h)",
        },
    ),
    "stuck_key.mid": (
        smf("00 90 3C 40  81 B4 00 80 3C 40"),
        {"seconds": 120.0, "warnings": "a very long note (2 min)"},
    ),
    "one_tick_a_quarter.mid": (
        smf("00 90 3C 40  01 80 3C 40", ticks_per_quarter=1),
        {"seconds": 0.5},
    ),
    "many_ticks_a_quarter.mid": (
        smf("00 90 3C 40  81 FF 7F 80 3C 40", ticks_per_quarter=32767),
        {"seconds": 0.5},
    ),
    "format_0.mid": (smf(NOTE, kind=0), {"notes": 1}),
    "format_0_with_two_tracks.mid": (smf(NOTE, NOTE, kind=0), {"notes": 2}),
    "format_2.mid": (
        smf(NOTE, NOTE, kind=2),
        {
            "notes": 2,
            "seconds": 0.5,
            "warnings": "independent tracks (format 2), which are read as sounding together",
        },
    ),
    "key_signature.mid": (smf("00 FF 59 02 63 07" + NOTE), {"notes": 1}),
    "time_signature.mid": (smf("00 FF 58 04 00 FF 18 08" + NOTE), {"notes": 1}),
    "no_tempo.mid": (smf("00 FF 51 03 00 00 00" + NOTE), {"tempo_bpm": 120.0}),
    "wrapped.rmi": (riff(smf(NOTE)), {"notes": 1}),
    "film.mid": (
        smf("00 90 3C 40  87 68 80 3C 40", ticks_per_quarter=0xE728),
        {
            "seconds": 1.0,
            "tempo_bpm": 60.0,
            "warnings": "a clock of film frames (SMPTE), without beats",
        },
    ),
    "unknown_chunk.mid": (
        smf(NOTE)[:14] + b"XFIH\0\0\0\3abc" + smf(NOTE)[14:] + b"XFKM\0\0\0\0",
        {"notes": 1},
    ),
    "too_few_tracks.mid": (
        with_header(smf(NOTE), num_tracks=3),
        {"notes": 1, "warnings": "a wrong number of tracks (it promises 3 and has 1)"},
    ),
    "too_many_tracks.mid": (
        with_header(smf(NOTE, NOTE), num_tracks=1),
        {"notes": 1, "warnings": "a wrong number of tracks (it promises 1 and has 2)"},
    ),
    "status_across_sysex.mid": (
        smf("00 90 3C 40  00 F0 03 7E 7F F7  60 3C 00"),
        {"notes": 1, "seconds": 0.5},
    ),
    "status_across_text.mid": (
        smf("00 90 3C 40  00 FF 01 02 68 69  60 3C 00"),
        {"notes": 1, "seconds": 0.5},
    ),
    "text_of_any_alphabet.mid": (smf("00 FF 03 04 83 8A FF FE" + NOTE), {"notes": 1}),
    "never_released.mid": (
        smf("00 90 3D 40  00 91 3D 40" + NOTE, NOTE + "00 90 3C 40"),
        {
            "notes": 2,
            "warnings": "keys pressed without a release of their own, and so no notes (3)",
        },
    ),
    "struck_twice.mid": (  # pretty_midi calls that two notes, symusic one
        smf("00 90 3C 40" + NOTE),
        {
            "notes": 1,
            "warnings": "keys pressed without a release of their own, and so no notes (1)",
        },
    ),
    "never_released_after_sysex.mid": (  # as pretty_midi reads it: symusic would not see the key
        smf(NOTE + "00 90 3D 40  00 F0 01 F7  00 3E 40"),
        {
            "notes": 1,
            "warnings": "keys pressed without a release of their own, and so no notes (2)",
        },
    ),
    "bytes_at_the_end.mid": (smf(NOTE) + b"\0", {"notes": 1}),
    "no_end_of_track.mid": (
        b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\x08" + hexdump(NOTE),
        {"notes": 1},
    ),
}
DROPPED = {
    "empty.mid": (b"", "it is empty (0 bytes)"),
    "zeros.mid": (bytes(1000), "it is no MIDI file: it holds nothing but zeros"),
    "text.mid": (b"do re mi", "it is no MIDI file: it begins with b'do r' and not with b'MThd'"),
    "song.mp3.mid": (b"ID3\3\0", "it is no MIDI file: it is a sound file (MP3)"),
    "page.mid": (b"\n<!doctype html>", "it is no MIDI file: it is a web page; the download failed"),
    "sound.mid": (
        b"RIFF\4\0\0\0WAVE",
        "it is no MIDI file: it is a sound file (WAV) or another RIFF file",
    ),
    "score.mid": (
        b"<?xml version='1.0'?>",
        "it is no MIDI file: it is an XML file, such as MusicXML",
    ),
    "archive.mid": (b"PK\3\4", "it is no MIDI file: it is a zip archive"),
    "header_only.mid": (smf()[:14], "it has no notes"),
    "no_notes.mid": (smf("00 FF 01 02 68 69"), "it has no notes"),
    "half_a_header.mid": (smf(NOTE)[:9], "it is cut short"),
    "cut.mid": (smf(NOTE)[:-6], "it is cut short"),
    "lying_length.mid": (smf(NOTE).replace(b"MTrk\0\0", b"MTrk\x7f\xff"), "it is cut short"),
    "no_ticks.mid": (
        smf(NOTE, ticks_per_quarter=0),
        "it is damaged: its header says that a quarter note has 0 ticks",
    ),
    "film_without_ticks.mid": (
        smf(NOTE, ticks_per_quarter=0xE700),
        "it is damaged: its header says that a quarter note has 0 ticks",
    ),
    "film_of_26_frames.mid": (
        smf(NOTE, ticks_per_quarter=0xE628),
        "it is damaged: its header says nothing of use on its clock",
    ),
    "format_7.mid": (
        with_header(smf(NOTE), kind=7),
        "it is damaged: its header names a format that is not 0, 1 or 2",
    ),
    "long_header.mid": (
        smf(NOTE).replace(b"\0\0\0\6", b"\0\0\1\0"),
        "it is damaged: its header has a wrong length",
    ),
    "pitch_200.mid": (
        smf("00 90 C8 40" + NOTE),
        "it is damaged: a message holds a number over 127",
    ),
    "no_message.mid": (
        smf("00 3C 40" + NOTE),
        "it is damaged: there is something that is no message",
    ),
    "years.mid": (
        smf(*[NOTE + f" {SEMPRE} 90 3C 40  {SEMPRE} 80 3C 40"], ticks_per_quarter=1),
        "it lasts longer than a day (388 days)",
    ),
    "time_beyond_32_bits.mid": (
        smf(" ".join([f"{SEMPRE} FF 01 00"] * 70) + NOTE, ticks_per_quarter=1),
        "it is damaged: a note begins before the piece, or ends before it began",
    ),
}


def mutants(files, count, seed):
    """Yields mutants of these files: bytes flipped, cut, chunks swapped, lengths lied about."""
    drawn = random.Random(seed)
    for _ in range(count):
        data = bytearray(drawn.choice(files))
        for _ in range(drawn.randint(1, 4)):
            drawn.choice([_flip, _replace, _cut, _swap_tracks, _lie, _change_header])(data, drawn)
        yield bytes(data)


def _flip(data, drawn):
    if data:
        data[drawn.randrange(len(data))] ^= 1 << drawn.randrange(8)


def _replace(data, drawn):
    """From 0 to 8 bytes by others, as many or not."""
    place = drawn.randrange(len(data) + 1)
    data[place : place + drawn.randint(0, 8)] = drawn.randbytes(drawn.randint(0, 8))


def _cut(data, drawn):
    if drawn.random() < 0.3:
        del data[drawn.randrange(len(data) + 1) :]


def _swap_tracks(data, drawn):
    places = [match.start() for match in re.finditer(b"MTrk", data)]
    if len(places) > 1:
        chunks = [bytes(data[a:b]) for a, b in zip(places, [*places[1:], None], strict=True)]
        drawn.shuffle(chunks)
        data[places[0] :] = b"".join(chunks)


def _lie(data, drawn):
    """The length of a track, or of the header."""
    places = [match.start() for match in re.finditer(b"MT(rk|hd)", data)]
    if places:
        place = drawn.choice(places) + 4
        length = drawn.choice([0, 1, drawn.randrange(2**16), drawn.randrange(2**32), 2**32 - 1])
        data[place : place + 4] = length.to_bytes(4, "big")


def _change_header(data, drawn):
    """Format, number of tracks or clock."""
    if len(data) > 14:
        data[drawn.randrange(8, 14)] = drawn.choice([0, 1, 2, drawn.randrange(256)])
