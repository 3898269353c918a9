"""Keys that go down are counted as one reads messages: one by one, with the status of the last."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_midi import hexdump

from keras_music.midi.note_ons import num_note_ons

DATA = st.integers(0, 127)
END = "00 FF 2F 00"


@pytest.mark.parametrize(
    ("track", "count"),
    [
        ("", 0),
        (END, 0),
        (f"00 90 3C 40  60 80 3C 40  {END}", 1),
        (f"00 9F 3C 40  60 8F 3C 40  {END}", 1),  # the last channel
        (f"00 90 3C 40  60 90 3C 00  {END}", 1),  # velocity 0: it comes up
        (f"00 90 3C 40  60 3C 00  00 3E 40  {END}", 2),  # without status
        (f"00 80 3C 40  60 3C 20  00 3E 40  {END}", 0),  # they come up, without status
        (f"00 90 3C 40  00 3E 40  00 B0 40 7F  00 40 00  00 90 40 01  {END}", 3),
        (f"00 90 3C 40  00 C0 05  00 06  00 90 3E 40  00 3E 00  {END}", 2),  # programs
        (f"00 90 3C 40  00 D0 05  00 06  00 C0 07  00 08  00 E0 00 40  00 3E 40  {END}", 1),
        (f"00 90 3C 40  00 FF 01 02 90 3C  60 3E 40  {END}", 2),  # across a text
        (f"00 80 3C 40  00 FF 01 02 90 3C  60 3E 40  00 90 01 01  {END}", 1),
        (f"00 C0 05  00 FF 01 01 61  00 06  00 90 3C 40  {END}", 1),
        (f"00 90 3C 40  00 80 3C 00  00 3D 40  00 FF 01 00  00 3E 40  {END}", 1),  # last: up
        (f"00 90 3C 40  00 FF 01 01 61  00 3C 00  00 FF 01 01 61  00 3E 40  {END}", 2),
        (f"00 F0 03 90 3C F7  00 90 3C 40  {END}", 1),
        (f"00 F7 03 90 3C 40  00 90 3C 40  {END}", 1),
        (f"FF FF FF 7F 90 3C 40  90 00 90 3C 00  81 10 3C 40  {END}", 2),  # long times
        (f"00 FF 01 81 48 {'90 ' * 200} 00 90 3C 40  {END}", 1),  # a text of 200 bytes
        (f"00 90 3C 40  {END}  00 90 3C 40  00 FE", 1),  # behind the end nothing is read
        (f"00 FE  00 90 3C 40  {END}", None),  # no file may have that message
        (f"00 F1 00  00 90 3C 40  {END}", None),
        (f"00 90 3C 80  00 90 3C 40  {END}", None),  # data over 127
        (f"FF FF FF FF 7F 90 3C 40  {END}", None),  # a number of five bytes
        ("00 90 3C 40  00 FF 01 7F 61", None),  # it breaks off in a text
        ("00 90 3C 40  00 90 3E", None),
        ("00 90 3C 40  00 3E", None),
        ("00 B0 07 64  00 07  00 FF 2F 00", None),
        ("00 90 3C 40  00", None),
        ("00 90 3C 40  00 FF", None),
    ],
)
def test_one_by_one(track, count):
    assert num_note_ons(hexdump(track)) == count


def number(value):
    """A number of 7 bits a byte."""
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.insert(0, value & 0x7F | 0x80)
    return bytes(digits)


@st.composite
def tracks(draw):
    """The messages of a track, and how many of them say that a key goes down."""
    track, count, last = b"", 0, None
    for _ in range(draw(st.integers(0, 30))):
        track += number(draw(st.integers(0, 2**28 - 1) | st.integers(0, 300)))
        kind = draw(st.sampled_from(["channel", "channel", "channel", "text", "exclusive"]))
        if kind != "channel":
            payload = draw(st.binary(max_size=5))
            head = (
                b"\xff" + bytes([draw(DATA.filter(lambda kind: kind != 0x2F))])
                if kind == "text"
                else b"\xf7"
            )
            track += head + number(len(payload)) + payload
            continue
        status = draw(st.sampled_from([last] * (last is not None) + [0x80, 0x90, 0x9F, 0xB0, 0xC1]))
        if status != last or draw(st.booleans()):
            track += bytes([status])
        last = status
        data = [draw(DATA) for _ in range(1 if status == 0xC1 else 2)]
        track += bytes(data)
        count += status in (0x90, 0x9F) and data[1] > 0
    return track, count


@given(tracks())
@example((b"\x00\x90\x3c\x40" * 10_000, 10_000))
@example((b"\x00\x90\x3c\x40" + b"\x00\x3c\x40" * 10_000, 10_001))
def test_whatever_the_messages_are(track_and_count):
    track, count = track_and_count
    assert num_note_ons(track) == count


@given(st.binary(max_size=60))
def test_whatever_the_bytes_are(track):
    count = num_note_ons(track)
    assert count is None or 0 <= count <= len(track) / 3
