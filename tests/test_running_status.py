"""Statuses that were left out after an exclusive message are put back; all else stays as it is."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_midi import WILD, hexdump, needs_wild, rows, smf

from keras_music.midi import read_midi
from keras_music.midi.running_status import with_status


@pytest.mark.parametrize(
    ("without", "expected"),
    [
        ("00 90 3C 40  00 F0 02 7E F7  60 3C 00", "00 90 3C 40  00 F0 02 7E F7  60 90 3C 00"),
        ("00 90 3C 40  00 F7 02 7E F7  60 3C 00", "00 90 3C 40  00 F7 02 7E F7  60 90 3C 00"),
        ("00 C1 05  00 F0 02 7E F7  81 00 06", "00 C1 05  00 F0 02 7E F7  81 00 C1 06"),
        (  # pressure on the whole channel has one byte, on one key two
            "00 D0 40  00 F0 02 7E F7  60 41  00 F0 02 7E F7  60 42",
            "00 D0 40  00 F0 02 7E F7  60 D0 41  00 F0 02 7E F7  60 D0 42",
        ),
        (  # twice, with a text between; what follows the mended message runs on as it did
            "00 90 3C 40  00 F0 01 F7  00 FF 01 01 61  10 3C 00  10 3E 40  00 F0 01 F7  10 3E 00",
            "00 90 3C 40  00 F0 01 F7  00 FF 01 01 61  10 90 3C 00  10 3E 40  00 F0 01 F7"
            " 10 90 3E 00",
        ),
        (  # of 200 bytes, so that the length takes two
            f"00 90 3C 40  00 F0 81 48 {'11 ' * 199} F7  60 3C 00",
            f"00 90 3C 40  00 F0 81 48 {'11 ' * 199} F7  60 90 3C 00",
        ),
    ],
)
def test_the_status_is_put_back(without, expected):
    assert with_status(smf(without)) == smf(expected)
    assert with_status(smf("00 90 3C 40", without)) == smf("00 90 3C 40", expected)


@pytest.mark.parametrize(
    "track",
    [
        "00 90 3C 40  00 F0 02 7E F7  60 80 3C 00",  # it is there
        "00 90 3C 40  60 3C 00",  # running status as it should be
        "00 90 3C 40  00 FF 01 01 61  60 3C 00",  # across a text: symusic understands that
        "00 F0 02 7E F7  60 3C 00",  # no message was before
        "00 90 3C 40  00 FF 01 05 F0 01 F7 00 11  60 80 3C 00",  # only looks like it, in a text
        "00 90 3C 40  00 F0 02 7E F7  60 3C 00  00 F1 00",  # a message that no file may have
        "00 90 3C 40  00 F0 02 7E F7  60 3C 00  00 F0 7F 00",  # it breaks off
    ],
)
def test_all_else_stays_as_it_is(track):
    assert with_status(smf(track)) == smf(track)


def test_other_chunks_and_the_rest_of_the_file_stay_as_they_are():
    more = b"XFIH\0\0\0\2hi" + b"MTrk\0\0\xff\xff\0\x90"
    mended = with_status(smf("00 90 3C 40  00 F0 02 7E F7  60 3C 00") + more)
    assert mended == smf("00 90 3C 40  00 F0 02 7E F7  60 90 3C 00") + more


@pytest.mark.parametrize(
    "data", [b"", b"MThd", b"MThd\xff\xff\xff\xff\0\1\0\1\0\x60\xf0\0\xf7\0\0"]
)
def test_what_is_no_file_stays_as_it_is(data):
    assert with_status(data) == data


MESSAGES = st.sampled_from(["90 3C 40", "80 3C 40", "C0 05", "FF 01 01 61", "F0 03 01 02 F7"])


@given(st.lists(st.tuples(st.sampled_from(["00", "60", "81 00"]), MESSAGES, st.booleans())))
def test_leaving_out_and_putting_back(messages):
    whole, without, status, exclusive = "", "", None, False
    for wait, message, leave_out in messages:
        is_channel = message[0] not in "F"
        can = is_channel and exclusive and leave_out and status == message[:2]
        whole += f"{wait} {message} "
        without += f"{wait} {message[3:] if can else message} "
        exclusive = (exclusive and not is_channel) or message.startswith("F0")
        status = message[:2] if is_channel else status
    assert with_status(smf(without)) == smf(whole)


@given(st.binary(max_size=60))
def test_any_bytes(data):
    start = smf()[:14]
    with_status(start + b"MTrk" + len(data).to_bytes(4, "big") + data)
    with_status(start + hexdump("F0 01 F7 00 11") + data)


@pytest.mark.parametrize(
    "track",
    [
        b"\0\xf0\0\xf7" + b"\xff" * 400_000,  # a number without end
        b"\0\xff\x01\x03\xf0\0\xf7" * 20_000,  # texts, each with the look of a message in it
    ],
)
def test_no_track_takes_the_square_of_its_length(track):
    """The first took 45 s, the second one minutes."""
    begin = time.process_time()
    assert with_status(whole := smf("") + track) == whole
    assert time.process_time() - begin < 1


def test_symusic_reads_what_was_lost():
    piece = read_midi(smf("00 90 3C 40  00 F0 03 7E 7F F7  60 3C 00  00 3E 40  60 3E 00"))
    assert rows(piece.notes, "pitch", "start", "end") == [(60, 0.0, 0.5), (62, 0.5, 1.0)]


@needs_wild
def test_the_conformance_file_is_a_whole_scale():
    piece = read_midi(WILD / "conformance" / "test-running-status-sysex.mid")
    assert piece.notes.pitch.tolist() == [60, 62, 64, 65, 67, 69, 71, 72]
