"""How often a key goes down in a MIDI file: more often than there are notes, and notes are lost.

A note is a key that goes down and comes up. In a recording that was stopped too early, some keys
never come up; in others a key goes down twice and comes up once. Readers of MIDI leave such a press
out (how long should it be?) and say nothing. To say it, the messages have to be counted. Regular
expressions walk over whole blocks of them, because from one to the next Python is slow:

    00 90 3C 40  60 80 3C 40  00 90 3E 40   00 FF 01 02 48 69   60 3E 00  00 FF 2F 00
    |---------- a block ----------------|   a text, 2 bytes     a block   the end
    |---------|               |---------|   keys go down

Conventions: `track` is the content of one MTrk chunk: messages, each after a time of 1-4 bytes. A
message without a status has that of the one before (*running status*), also across texts.

What this file does not do: it says nothing of a track in which it meets what it does not know.

Reference: the Standard MIDI Files 1.0 specification (MIDI Association, 1996).
"""

from __future__ import annotations

import re

NUMBER = rb"[\x80-\xff]{0,3}+[\x00-\x7f]"  # a time, or a length
DATA = rb"[\x00-\x7f]"

# Blocks of messages with two bytes of data, and with one; `status` is the last one in the block.
TWO = re.compile(rb"(?:%b(?P<status>[\x80-\xbf\xe0-\xef])?+%b{2})++" % (NUMBER, DATA))
ONE = re.compile(rb"(?:%b(?P<status>[\xc0-\xdf])?+%b)++" % (NUMBER, DATA))
NEW_ONE = re.compile(rb"(?=%b[\xc0-\xdf])%b" % (NUMBER, ONE.pattern))
# What says itself how long it is: texts and marks, and system exclusive messages.
LONG = re.compile(rb"%b(?:\xff(?P<kind>%b)|[\xf0\xf7])(?P<length>%b)" % (NUMBER, DATA, NUMBER))

END_OF_TRACK = b"\x2f"

RUN = rb"(?:%b%b{2})*+" % (NUMBER, DATA)  # messages without a status
WITHOUT_STATUS = re.compile(RUN)
# The velocity of a key that goes down, and what follows without a status; all else is passed over.
GO_DOWN = re.compile(
    rb"(?:%b[\x80-\x8f\xa0-\xbf\xe0-\xef]%b{2}%b)*+(?:%b[\x90-\x9f]%b(%b)(%b))?+"
    % (NUMBER, DATA, RUN, NUMBER, DATA, DATA, RUN)
)
VELOCITY = re.compile(rb"%b%b(%b)" % (NUMBER, DATA, DATA))


def num_note_ons(track: bytes) -> int | None:
    """How many messages say that a key goes down, up to the track's end; None if some are none.

    >>> num_note_ons(bytes.fromhex("00903C40 603C00 003E40 00FF2F00"))
    2
    """
    place, status, count = 0, b"", 0
    while place < len(track):
        kinds = (ONE, TWO) if b"\xc0" <= status <= b"\xdf" else (TWO, NEW_ONE)
        if block := kinds[0].match(track, place) or kinds[1].match(track, place):
            if block.re is TWO:
                count += _num_in_block(block[0], status)
            place, status = block.end(), block["status"] or status
        elif long := LONG.match(track, place):
            if long["kind"] == END_OF_TRACK:
                return count
            place = long.end() + _number(long["length"])
        else:
            return None
    return count if place == len(track) else None


def _num_in_block(block, status):
    """The same of a block, whose first messages may have the status of those before it."""
    first = WITHOUT_STATUS.match(block)
    down = GO_DOWN.findall(block, first.end())
    runs = [run for _, run in down]
    if b"\x90" <= status <= b"\x9f":
        runs.append(first[0])
    velocities = b"".join([velocity for velocity, _ in down] + VELOCITY.findall(b"".join(runs)))
    return len(velocities) - velocities.count(b"\0")  # velocity 0: the key comes up


def _number(digits):
    """A number of 7 bits a byte."""
    number = 0
    for byte in digits:
        number = number << 7 | byte & 0x7F
    return number
