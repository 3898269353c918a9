"""What may be drawn: the tokenizer's grammar, and wishes that are made at run time.

Both are a mask: before an id is drawn, the scores of all ids that may not come are set to minus
infinity, and what is left sums to 1 again. So nothing is learned for it and nothing retrained.

    scores             NOTE_ON_60 2.0   NOTE_ON_61 1.0   TIME_SHIFT_10 0.0
    probability        0.67             0.24             0.09
    C major: no 61     0.88             0                0.12

The wishes (*controls*), each with one value a row:

    pitch_classes          (12,) of 0 and 1: which of C, C#, D ... B may begin
    lowest_pitch, highest_pitch      the range in which notes may begin, 0-127
    max_notes_per_second   at most so many notes begin within any second; 0: no limit
    max_repeats            one pitch begins at most so many times in a row; 0: no limit

Drums have no pitch: only the ceiling holds for them. Each program, and each voice of a chorale,
repeats for itself. What asks for a note (a velocity, a position in a bar) may come only where the
ceiling leaves room for one. Where grammar and wishes leave nothing all the same, because every key
that is wished for is down, the wishes hold and the grammar gives way: time passes.

Conventions: a *state* is a dict of tensors with the batch as first axis: the grammar's and, if
there are wishes, theirs.

What this file does not do: it draws nothing, and it knows no music but what the grammar tells.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_music.generation.wishes import MOST_NOTES

SECOND = 0.9995  # a grid's steps do not add up to a second exactly


class Rules:
    """The mask of a tokenizer's ids, as operations of the graph that is being built.

    Args:
      tokenizer: if it has a `grammar`, that decides; otherwise all ids but `PAD` and `START` may
        come at any time.
      controls: a dict of int32 tensors with the names above, or None.
        The loop gives what was made of them before it, the attribute `controls`.
      use_grammar: False leaves the grammar out.

    Attributes:
      controls: the wishes, and what follows from them alone: `fits`, bool (batch, vocab_size),
        which ids begin no note or one that is in the key and the range.
    """

    def __init__(self, tokenizer, controls=None, *, use_grammar=True):
        grammar = getattr(tokenizer, "grammar", None) if use_grammar else None
        self.grammar = grammar and grammar.in_graph
        if controls and "fits" not in controls:
            names = ("pitch_classes", "lowest_pitch", "highest_pitch")
            is_wanted = wished_pitches(*(controls[name] for name in names))
            free = tf.ones_like(is_wanted[:, :1])  # for all ids that begin no note
            columns = self.grammar.onset_of % 129
            fits = tf.gather(tf.concat([is_wanted, free], axis=1), columns, axis=1)
            controls = controls | {"fits": fits}
        self.controls = controls
        self.never = np.isin(
            np.arange(tokenizer.vocab_size), [0, getattr(tokenizer, "start_id", None) or 0]
        )

    def start(self, batch_size):
        """The state before the first id, of so many rows: a dict of tensors."""
        state = self.grammar.start(batch_size) if self.grammar else {}
        if self.controls:
            state |= {
                "ages": tf.fill([batch_size, MOST_NOTES], 1e9),  # seconds since the last onsets
                "pitch": tf.fill([batch_size, self.grammar.num_parts], -1),
                "times": tf.fill([batch_size, self.grammar.num_parts], 0),
            }
        return state

    def limit(self, logits, state, remaining):
        """The scores, with minus infinity for what may not come.

        Args:
          logits: float32 (batch, vocab_size).
          state: what `start` or `advance` returned.
          remaining: int32 (batch,), >= 1: how many ids may still come, this one included.

        Returns:
          float32 (batch, vocab_size).
        """
        if not self.grammar:
            return tf.where(self.never, -np.inf, logits)
        allowed, otherwise = self.grammar.choices(state, remaining)
        if self.controls:
            wanted = self._wanted(state)
            allowed = _first([allowed & wanted, otherwise & wanted, allowed])
        return tf.where(allowed, logits, -np.inf)

    def advance(self, state, ids):
        """The state after these ids, int32 (batch,)."""
        if not self.grammar:
            return state
        new = self.grammar.advance(state, ids)
        if self.controls:
            pitch = tf.gather(self.grammar.onset_of, ids)
            begins = pitch >= 0
            # First the note begins, then time passes: on a grid the last voice brings both.
            later = tf.concat([state["ages"][:, 1:], tf.zeros_like(state["ages"][:, :1])], axis=1)
            ages = tf.where(begins[:, None], later, state["ages"])
            new["ages"] = ages + self.grammar.seconds(state, ids)[:, None]
            here = self._here(state) & (begins & ~self.grammar.is_drum(state))[:, None]
            times = tf.where(pitch[:, None] == state["pitch"], state["times"] + 1, 1)
            new["pitch"] = tf.where(here, pitch[:, None], state["pitch"])
            new["times"] = tf.where(here, times, state["times"])
        return new

    def _wanted(self, state):
        """Which ids the wishes allow, bool (batch, vocab_size)."""
        wishes, onset_of = self.controls, self.grammar.onset_of
        here = tf.cast(self._here(state), tf.int32)  # (batch, parts)
        last, times = (tf.reduce_sum(state[k] * here, 1)[:, None] for k in ("pitch", "times"))
        most = wishes["max_repeats"][:, None]
        is_repeated = (most > 0) & (times >= most) & (onset_of == last)
        is_fine = (wishes["fits"] & ~is_repeated) | self.grammar.is_drum(state)[:, None]
        ceiling = wishes["max_notes_per_second"]
        age = tf.gather(state["ages"], MOST_NOTES - tf.maximum(ceiling, 1), batch_dims=1)
        age = tf.where(ceiling > 0, age, SECOND)[:, None]
        leads, seconds = self.grammar.leads(state)
        asks = leads | (onset_of >= 0)
        return is_fine & (~asks | (age + tf.where(leads, seconds, 0.0) >= SECOND))

    def _here(self, state):
        """Which part a note of now belongs to: bool (batch, parts)."""
        return self.grammar.part(state)[:, None] == tf.range(self.grammar.num_parts)


def wished_pitches(pitch_classes, lowest_pitch, highest_pitch):
    """Which pitches are in the key and in the range: bool (batch, 128)."""
    pitch = tf.range(128)
    in_key = tf.gather(pitch_classes > 0, pitch % 12, axis=1)
    return in_key & (pitch >= lowest_pitch[:, None]) & (pitch <= highest_pitch[:, None])


def _first(masks):
    """For each row the first mask that leaves it something; bool (batch, vocab_size)."""
    first = masks[0]
    for mask in masks[1:]:
        first |= mask & ~tf.reduce_any(first, 1, keepdims=True)
    return first
