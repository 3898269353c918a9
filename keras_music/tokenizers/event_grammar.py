"""The grammar of tokens that come one after another: presses and releases, or notes with lengths.

Which type may follow which is a table below. The rest is counting. Of each key it is known when it
was pressed, so a release may come only later; of each note with a length, when it ends, so that its
pitch may come again only then; of a bar, which positions are still to come:

    written                                  PITCH_60    POSITION_3    POSITION_6
    BAR POSITION_4 PITCH_60 DURATION_4       no          no            yes
    ... POSITION_8                           yes         no            no

And of each id it is known how many ids must follow it: two after a `PITCH` (velocity, duration), a
wait and a release after a `NOTE_ON`. An id for which there is no room may not come.

Conventions: a *key* is what sounds once at a time: a pitch of one program, or its pedal. Of notes
with a length the state holds when they end (`OPEN` before that is known), and `now` counts steps.
Of keys that an id of their own releases it holds when they were pressed (1 + now; 0: silent), and
`now` counts waits: a release must come later, and how much later does not matter.

What this file does not do: it reads no ids (the tokenizers do), and has no opinion on harmony.
"""

from __future__ import annotations

import numpy as np

from keras_music.tokenizers.grammar import LONGEST, Grammar
from keras_music.tokenizers.vocabulary import DRUMS

EVENTS = (
    "NOTE_ON",
    "NOTE_OFF",
    "TIME_SHIFT",
    "VELOCITY",
    "PROGRAM",
    "PEDAL_ON",
    "PEDAL_OFF",
    "END",
)
BEATS = ("POSITION", "BAR", "END")
# What may follow what, and, second, what follows when none of that is possible. Types that a
# vocabulary does not have are passed over; of those in inner brackets the first that it has counts.
PRESSES = (
    dict.fromkeys(("START", "TIME_SHIFT", "NOTE_ON", "NOTE_OFF", "PEDAL_ON", "PEDAL_OFF"), EVENTS)
    | {"VELOCITY": ("NOTE_ON",)}
    | {"PROGRAM": ("VELOCITY", "NOTE_ON", "NOTE_OFF", "PEDAL_ON", "PEDAL_OFF")},
    {"VELOCITY": ("TIME_SHIFT",), "PROGRAM": ("TIME_SHIFT",), "END": ("END",)},
)
NOTES = (
    {"START": ("STEP", "END"), "STEP": ("PITCH",), "DURATION": ("STEP", "END")}
    | {"PITCH": (("VELOCITY", "DURATION"),), "VELOCITY": ("DURATION",)},
    {"STEP": ("STEP",), "END": ("END",)},
)
BARS = (
    {"START": ("BAR", "END"), "BAR": ("TIME_SIGNATURE", *BEATS), "TIME_SIGNATURE": BEATS}
    | {"POSITION": ("TEMPO", "PROGRAM", "PITCH"), "TEMPO": ("PROGRAM", "PITCH", *BEATS)}
    | {"PROGRAM": ("PITCH",), "PITCH": (("VELOCITY", "DURATION"),), "VELOCITY": ("DURATION",)}
    | {"DURATION": ("PROGRAM", "PITCH", *BEATS)},
    {"POSITION": BEATS, "PROGRAM": BEATS, "END": ("END",)},
)

OPEN = 2**30  # the end of a note whose length comes next


class EventGrammar(Grammar):
    """Rules for tokens that come one after another: presses and releases, or notes with lengths.

    Args:
      table: the tokenizer's `Vocabulary`.
      follows: for each type, the types that may follow it, a dict such as `PRESSES[0]`.
      instead: the same for the case that none of them is possible, because the keys that are left
        are forbidden from outside, such as `PRESSES[1]`.
      step_seconds: > 0, how many seconds a step lasts, for each row `TEMPO_...` and for "", before
        the first of them: {"": 0.01}.
      bars: the length in positions of each row `TIME_SIGNATURE_...`, and of "", the first bar.
    """

    def __init__(self, table, follows, instead, *, step_seconds, bars=None):
        super().__init__(table)
        kinds = list(dict.fromkeys(self.kind_of.tolist()))
        self._set_follows(kinds, follows, instead)
        self._set_keys(kinds)
        rows = np.array([table.rows[row][0] for row in table.row_of])  # (vocab_size,)
        self._set_time(kinds, rows, step_seconds, bars or {})

    def _set_follows(self, kinds, follows, instead):
        """`follow`, bool (kinds, vocab_size), and `need`: how many ids each id asks for."""

        def existing(names):
            choices = [(name,) if isinstance(name, str) else name for name in names]
            return [k for choice in choices for k in [k for k in choice if k in kinds][:1]]

        follows, instead = (
            {kind: existing(lists.get(kind, ())) for kind in kinds} for lists in (follows, instead)
        )
        self.follow = np.stack([self.is_kind(*follows[kind]) for kind in kinds])
        self.instead = np.stack([self.is_kind(*instead[kind]) for kind in kinds])
        self.instead &= ~(self.is_kind("STEP") & (self.value_of == 0))  # time must pass
        self.row_of = np.array([kinds.index(kind) for kind in self.kind_of], np.int32)
        if "STEP" in kinds:  # the longest wait, and only it, may be followed by more of it
            self.row_of[np.flatnonzero(self.is_kind("STEP"))[-1]] = len(kinds)
            more = self.follow[kinds.index("STEP")] | self.is_kind("STEP")
            self.follow, self.instead = (np.vstack([m, more]) for m in (self.follow, self.instead))
        # A press asks for a wait and a release; a release is what was asked for.
        own = {"NOTE_ON": 2, "PEDAL_ON": 2, "NOTE_OFF": -1, "PEDAL_OFF": -1}
        ends = {kind for kind in kinds if kind == "END" or "END" in follows[kind]}
        need = {kind: own.get(kind, 0) if kind in ends else LONGEST for kind in kinds}
        for kind in kinds * len(kinds):  # the shortest way to a place where the piece may end
            ways = [need[k] for k in follows[kind] if 0 <= need[k] < LONGEST]
            need[kind] = min([need[kind], *(own.get(kind, 0) + 1 + way for way in ways)])
        self.need = np.array([need[kind] for kind in self.kind_of], np.int32)
        self.asks_wait = ((self.need >= 2) & ("NOTE_ON" in kinds)).astype(np.int32)

    def _set_keys(self, kinds):
        """Which key an id touches, where that must stand, and what becomes of it."""
        self.is_end = self.is_kind("END")
        self.opens = "NOTE_ON" in kinds
        self.num_keys = 128 + ("PEDAL_ON" in kinds)
        presses = self.is_kind("NOTE_ON", "PITCH", "PEDAL_ON")
        releases = self.is_kind("NOTE_OFF", "PEDAL_OFF")
        pedal = np.where(self.is_kind("PEDAL_ON", "PEDAL_OFF"), 128, 0)
        self.key_of = self._values("NOTE_ON", "NOTE_OFF", "PITCH") + pedal.astype(np.int32)
        self.presses, self.releases = presses, releases
        self.length_of = self._values("DURATION")
        self.has_programs = "PROGRAM" in kinds
        self.num_programs = self.num_parts = DRUMS + 1 if self.has_programs else 1
        self.is_program, self.program_of = self.is_kind("PROGRAM"), self._values("PROGRAM")
        self.programs = np.arange(self.num_programs, dtype=np.int32)
        self.no_key = self.num_keys * self.num_programs  # one more: written to and not read
        self.is_lead = self.is_kind("POSITION", "PROGRAM", *(["VELOCITY"] if self.opens else []))
        self.is_lead |= self.is_kind("STEP") & (
            self.value_of < self.value_of[self.is_kind("STEP")].max(initial=0)
        )

    def _set_time(self, kinds, rows, step_seconds, bars):
        """How time passes: by waits, or by positions in a bar; and how long a step lasts."""
        self.is_time = self.is_kind("TIME_SHIFT", "STEP")
        self.wait_of = self._values("TIME_SHIFT", "STEP")
        self.has_bars = "BAR" in kinds
        self.is_bar, self.is_position = self.is_kind("BAR"), self.is_kind("POSITION")
        self.position_of = self._values("POSITION")
        self.first_bar, self.longest_bar = bars.get("", 0), max(bars.values(), default=0)
        self.bar_of = np.array([bars.get(row, 0) for row in rows], np.int32)
        micro = {row: round(1e6 * seconds) for row, seconds in step_seconds.items()}
        self.first_tempo = micro[""]
        self.tempo_of = np.array([micro.get(row, 0) for row in rows], np.int32)
        self.has_tempos = bool(self.tempo_of.any())

    def start(self, batch_size):
        """Before the first id: zeros. Nothing sounds, no bar has begun."""
        names = ["last", "now"]
        names += ["sounding", "fresh"] if self.opens else ["open"]
        names += ["program"] if self.has_programs else []
        names += ["next", "bar"] if self.has_bars else []
        names += ["tempo"] if self.has_tempos else []
        state = {name: self.ops.full([batch_size], 0) for name in names}
        state["keys"] = self.ops.full([batch_size, self.no_key + 1], 0)
        if self.has_programs and self.opens:
            state["all_sounding"] = self.ops.full([batch_size, self.num_programs], 0)
            state["all_fresh"] = self.ops.full([batch_size, self.num_programs], 0)
        return state

    def choices(self, state, remaining):
        fits = self._fits(state)
        otherwise = fits & self.ops.take(self.instead, state["last"])
        possible = fits & self.ops.take(self.follow, state["last"])
        usual = possible & self._has_room(state, remaining - 1)
        is_stuck = ~self.ops.any(usual, 1)[:, None]  # a prompt may leave no room, or no key
        return usual | (is_stuck & (possible | otherwise)), otherwise

    def _fits(self, state):
        """Which ids make sense for their keys and at this time: bool (batch, vocab_size)."""
        key, now = self._keys(state), state["now"][:, None]
        if self.opens:
            is_silent, is_older = key == 0, (key > 0) & (key <= now)
            fits = (is_silent | ~self.presses) & (is_older | ~self.releases)
        else:
            fits = (key <= now) | ~self.presses
        if self.has_bars:
            is_later = self.position_of >= state["next"][:, None]
            is_inside = self.position_of < state["bar"][:, None]
            fits &= ~self.is_position | (is_later & is_inside)
        if self.has_programs:  # changing the program changes it
            fits &= ~self.is_program | (self.program_of != state["program"][:, None])
        return fits

    def advance(self, state, ids):
        """The state after these ids; ids that may not come do no harm."""
        ops = self.ops
        passed = self._steps(state, ids)
        passed = ops.minimum(passed, 1) if self.opens else passed  # how long does not matter
        now = ops.minimum(state["now"] + passed, OPEN - 1)
        new = {"last": ops.take(self.row_of, ids), "now": now}
        place = ops.take(self.key_of, ids)
        if self.has_programs:
            given = ops.take(self.is_program, ids)
            new["program"] = ops.where(given, ops.take(self.program_of, ids), state["program"])
            place = place + state["program"] * self.num_keys
        is_press, is_release = ops.take(self.presses, ids), ops.take(self.releases, ids)
        if self.opens:
            new |= self._count(state, place, is_press, is_release, passed)
            value = ops.where(is_press, now + 1, 0)
            place = ops.where(is_press | is_release, place, self.no_key)
        else:
            # The length of a note is written where its pitch said that it would be.
            length = ops.take(self.length_of, ids)
            value = ops.where(is_press, OPEN, now + length)
            ends = ops.where((length > 0) & (state["open"] > 0), state["open"] - 1, self.no_key)
            new["open"] = ops.where(is_press, place + 1, ops.where(length > 0, 0, state["open"]))
            place = ops.where(is_press, place, ends)
        new["keys"] = ops.put(state["keys"], place, value)
        if self.has_bars:
            position, bar = ops.take(self.position_of, ids), ops.take(self.bar_of, ids)
            later = ops.where(ops.take(self.is_position, ids), position + 1, state["next"])
            new["next"] = ops.where(ops.take(self.is_bar, ids), 0, later)
            bar = ops.where(bar > 0, bar, state["bar"])
            new["bar"] = ops.where((bar == 0) & ops.take(self.is_bar, ids), self.first_bar, bar)
        if self.has_tempos:
            tempo = ops.take(self.tempo_of, ids)
            new["tempo"] = ops.where(tempo > 0, tempo, state["tempo"])
        return new

    def largest(self):
        counts = dict.fromkeys(("sounding", "fresh", "open"), self.no_key)
        counts |= dict.fromkeys(("all_sounding", "all_fresh"), self.num_keys)
        limits = {"last": len(self.follow) - 1, "now": OPEN - 1, "keys": LONGEST, "program": DRUMS}
        limits |= counts
        longest = self.longest_bar
        limits |= {"next": longest + 1, "bar": longest} if self.has_bars else {}
        return limits | ({"tempo": LONGEST} if self.has_tempos else {})

    def _count(self, state, place, is_press, is_release, passed):
        """How many keys sound, and how many of them since this step; of each program, too."""
        ops = self.ops
        held = ops.rows(state["keys"], place)
        was_down, was_fresh = held > 0, held == state["now"] + 1
        change = ops.integer(is_press & ~was_down) - ops.integer(is_release & was_down)
        # A release of what was pressed in this step may not come, but does no harm.
        fresh_change = ops.integer(is_press) * ops.integer(~was_down)
        fresh_change += ops.integer(is_press & was_down & ~was_fresh)
        fresh_change -= ops.integer(is_release & was_fresh)
        still = 1 - passed
        new = {
            "sounding": state["sounding"] + change,
            "fresh": state["fresh"] * still + fresh_change,
        }
        if self.has_programs:
            here = ops.integer(state["program"][:, None] == self.programs)
            new["all_sounding"] = state["all_sounding"] + here * change[:, None]
            fresh = state["all_fresh"] * still[:, None]
            new["all_fresh"] = fresh + here * fresh_change[:, None]
        return new

    def seconds(self, state, ids):
        return self.ops.real(self._steps(state, ids)) * self._tempo(state)[:, 0]

    def _tempo(self, state):
        """Seconds a step: float32 (batch or 1, 1)."""
        ops = self.ops
        if not self.has_tempos:
            return ops.real([[self.first_tempo]]) * np.float32(1e-6)
        tempo = ops.where(state["tempo"] > 0, state["tempo"], self.first_tempo)
        return ops.real(tempo)[:, None] * np.float32(1e-6)

    def leads(self, state):
        """A note must begin after a `VELOCITY`, a `POSITION`, a `STEP` that is not the longest, and
        after a `PROGRAM` in which nothing can be released.
        """
        ops, tempo = self.ops, self._tempo(state)
        wait = self.wait_of[None]
        if self.has_bars:
            now = ops.maximum(state["next"] - 1, 0)[:, None]
            wait = ops.where(self.is_position, ops.maximum(self.position_of - now, 0), 0)
        leads = self.is_lead[None]
        if self.has_programs and self.opens:
            there = ops.columns(self.can_release(state), self.program_of) > 0
            leads = leads & ~(self.is_program & there)
        return leads, ops.real(wait) * tempo

    def part(self, state):
        return state["program"] if self.has_programs else super().part(state)

    def is_drum(self, state):
        return state["program"] == DRUMS if self.has_programs else super().is_drum(state)

    def _steps(self, state, ids):
        """How many steps pass with these ids, int32 (batch,)."""
        ops = self.ops
        if not self.has_bars:
            return ops.take(self.wait_of, ids)
        now = ops.maximum(state["next"] - 1, 0)
        to_position = ops.maximum(ops.take(self.position_of, ids) - now, 0)
        to_bar = ops.where(ops.take(self.is_bar, ids), state["bar"] - now, 0)
        return ops.where(ops.take(self.is_position, ids), to_position, to_bar)

    def _keys(self, state):
        """What is known of the key of each id, in the program in force: (batch, vocab_size)."""
        if not self.has_programs:
            return self.ops.columns(state["keys"], self.key_of)
        return self.ops.rows(state["keys"], self.key_of + state["program"][:, None] * self.num_keys)

    def can_release(self, state):
        """In which programs a key could be released now: int32 (batch, programs)."""
        return self.ops.integer(state["all_sounding"] > state["all_fresh"])

    def _has_room(self, state, after):
        """Which ids leave room to close what sounds: bool (batch, vocab_size).

        Args:
          after: int32 (batch,), how many ids may come after the next.
        """
        ops = self.ops
        if not self.opens:
            return self.need <= after[:, None]
        num = state["sounding"]
        # Keys pressed in this step ask for a wait before they come up, which serves all of them.
        is_fresh = ops.integer(state["fresh"] > 0)
        room = after - num - is_fresh
        need = self.need - is_fresh[:, None] * self.asks_wait
        if self.has_programs:  # each other program in which something sounds asks for its token
            has_sound = ops.integer(state["all_sounding"] > 0)  # (batch, 129)
            here = ops.rows(has_sound, state["program"])
            room = room - ops.sum(has_sound, 1) + here
            # Going where nothing can be released asks for a press there; going where something
            # can, for no more than what is to be done there anyway.
            there = ops.columns(self.can_release(state), self.program_of)
            beside = here[:, None] + there * (is_fresh[:, None] - 4)
            need = need + ops.where(self.is_program, beside, 0)
        # Where even that is too much (a prompt that left no room) only closing helps.
        room = ops.maximum(room, -1)[:, None]
        has_room = need <= room + is_fresh[:, None] * ops.integer(self.is_time)
        return has_room & (~self.is_end | (num == 0)[:, None])
