"""Running status across a system exclusive message, which one parser in three gets wrong.

Most messages of a MIDI file begin with a *status* byte, 128 or more, which says what they are:
`90` is "a key goes down on channel 1". Where a message is of the same kind as the last one, the
status may be left out (*running status*); its bytes are all below 128. The standard says that a
system exclusive message ends this, and that afterwards the status must be written again. There are
programs that leave it out there, too, and most players understand them. symusic takes the bytes
that follow for another exclusive message, and the notes are gone without a word.

So here the status is put back. Few files need that, and reading messages one by one is slow in
Python, so that a quick search for such a place comes first.

Conventions: `track` is the content of one MTrk chunk: messages, each after a time of 1-4 bytes.

What this file does not do: it leaves all else as it is, and what it does not understand.

Reference: the Standard MIDI Files 1.0 specification (MIDI Association, 1996), page 6.
"""

from __future__ import annotations

import re
import struct

EXCLUSIVE_MESSAGE = re.compile(rb"[\xf0\xf7][\x80-\xff]{0,3}[\x00-\x7f]+\xf7")
NUM_DATA_BYTES = {0x80: 2, 0x90: 2, 0xA0: 2, 0xB0: 2, 0xC0: 1, 0xD0: 1, 0xE0: 2}
META, EXCLUSIVE, CONTINUED = 0xFF, 0xF0, 0xF7
LONGEST_NUMBER = 4  # bytes, says the standard; more are no number


def with_status(data: bytes) -> bytes:
    """The same MIDI file, with a status wherever one is missing after an exclusive message."""
    if data[:4] != b"MThd" or not _may_lack_one(data):
        return data
    (header_length,) = struct.unpack_from(">I", data, 4)
    place = 8 + header_length
    parts = [data[:place]]
    while len(head := data[place : place + 8]) == 8:
        kind, length = struct.unpack(">4sI", head)
        chunk = data[place + 8 : place + 8 + length]
        if kind == b"MTrk" and len(chunk) == length:
            chunk = _mended(chunk)
            head = kind + struct.pack(">I", len(chunk))
        parts += [head, chunk]
        place += 8 + length
    return b"".join([*parts, data[place:]])


def _may_lack_one(data):
    """Whether something that looks like an exclusive message has a byte below 128 behind it."""
    if data.find(b"\xf7", 14) < 0:  # none ends
        return False
    followed = bytearray(len(data))  # 1 where texts were passed over, which need no second look
    for match in EXCLUSIVE_MESSAGE.finditer(data, 14):
        place = match.end()
        try:
            _, place = _number(data, place)
            while data[place] == META and not followed[place]:  # texts may stand between
                followed[place] = 1
                length, place = _number(data, place + 2)
                _, place = _number(data, place + length)
            if data[place] < 0x80:
                return True
        except IndexError:  # it was the last message
            continue
    return False


def _mended(track):
    """The track with all its statuses; as it was, if it ends in the middle of a message.

    >>> _mended(bytes.fromhex("00903C40 00F0017F" "60" "3C00")).hex(" ")
    '00 90 3c 40 00 f0 01 7f 60 90 3c 00'
    """
    parts, copied, place = [], 0, 0
    status, after_exclusive = None, False
    try:
        while place < len(track):
            _, place = _number(track, place)  # the time
            first = track[place]
            if first >= 0x80:
                place += 1
            elif status is None:
                return track
            elif after_exclusive:
                parts += [track[copied:place], bytes([status])]
                copied = place
            if first in (META, EXCLUSIVE, CONTINUED):
                length, place = _number(track, place + (first == META))
                place += length
                after_exclusive = after_exclusive or first != META
            else:
                status, after_exclusive = (first if first >= 0x80 else status), False
                place += NUM_DATA_BYTES[status & 0xF0]
    except (IndexError, KeyError):
        return track
    return b"".join([*parts, track[copied:]]) if place == len(track) else track


def _number(track, place):
    """A number of 7 bits a byte, the last one below 128, and the place behind it.

    Raises:
      IndexError: it does not end, or not in time.
    """
    number = 0
    for behind in range(place + 1, place + 1 + LONGEST_NUMBER):
        byte = track[behind - 1]
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            return number, behind
    raise IndexError("a number of more than four bytes")
