"""What may come next: the rules of a token sequence, as a mask over the vocabulary.

A network learns which tokens are likely, not which are possible. Now and then it lifts a key that
is not down, presses one that is, or stops while a note sounds; and what a decoder should do with
that, nobody can say. A *grammar* keeps a little memory of what was written and says, for each id,
whether it may come next. What may not gets probability 0 before an id is drawn, so every sequence
that is generated means something, whatever the weights of the network are:

    written                       what the grammar remembers      NOTE_ON_60  NOTE_OFF_60  END
    START                         nothing sounds                  yes         no           yes
    START NOTE_ON_60              60 sounds, since now            no          no           no
    ... TIME_SHIFT_50             60 sounds                       no          yes          no
    ... NOTE_OFF_60               nothing sounds                  yes         no           yes

It also counts: two notes that sound need two releases. When only as many ids are left as it takes
to close what sounds, nothing else may come. So a piece ends well also where it is cut off.

Three pure functions for a batch of rows, and a state that is a dict of int32 arrays (batch, ...):

    start(batch_size) -> state
    allowed(state, remaining) -> bool (batch, vocab_size)       remaining: ids that may still come
    advance(state, ids) -> state                                ids int32 (batch,), any ids

They read the rows (type, low, high) of the tokenizer's vocabulary, and which type may follow which.
One text runs on NumPy arrays (for tests, and to look at) and, as `grammar.in_graph`, on tensors.

Who writes a grammar writes `start`, `advance`, `choices` (of which `allowed` is the first half),
and for an exported `step`, `largest`. Wishes ask for more: `onset_of`, `seconds`, `leads`, and
where there are several programs or voices, `num_parts`, `part` and `is_drum`. See `Grammar`.

Conventions: every array has the batch as first axis; a state of zeros is that before the first id.

What this file does not do: it judges no music, and it does not sort: notes of a chord may come in
any order. The rules themselves stand in `event_grammar` and, for voices on a grid, in `chorale`.

Reference: grammar-constrained decoding, as in MidiTok's graph of token types. Differences: it knows
what sounds and how much room is left; it is part of the exported graph.
"""

from __future__ import annotations

import copy

import numpy as np

from keras_music.tokenizers import array_ops

LONGEST = 2**31 - 1


class Grammar:
    """What both grammars share: tables read from a vocabulary, and a second life in a graph.

    Args:
      table: the tokenizer's `Vocabulary`.

    Attributes:
      onset_of: int32 (vocab_size,), the pitch of the note that begins with an id, or -1. Wishes
        work where it is known of any id.
      num_parts: how many programs or voices there are, each with notes of its own.
    """

    def __init__(self, table):
        self.ops = array_ops.NumPy
        self.is_kind, self.kind_of = table.is_kind, table.kind_of
        self.value_of = table.value_of.astype(np.int32)
        self.onset_of = self._values("NOTE_ON", "PITCH", "NOTE", otherwise=-1)
        self.num_parts = 1

    @property
    def in_graph(self):
        """The same grammar over TensorFlow's tensors instead of NumPy's arrays."""
        import tensorflow as tf

        twin = copy.copy(self)
        twin.ops = array_ops.tensorflow()
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) and value.dtype.kind in "bif":
                setattr(twin, name, tf.constant(value))
        return twin

    def first_wrong(self, ids):
        """The place of the first id that may not stand there, or None; `ids` of shape (time,).

        The first id, which nothing comes before, is taken as it is.
        """
        state = self.start(1)
        for place, token in enumerate(np.asarray(ids, np.int32)):
            if place and not self.allowed(state, np.array([LONGEST]))[0, token]:
                return place
            state = self.advance(state, np.array([token]))
        return None

    def allowed(self, state, remaining):
        """Which ids may come next: bool (batch, vocab_size). Arguments as in `choices`."""
        return self.choices(state, remaining)[0]

    def choices(self, state, remaining):
        """Which ids may come next, and which lead on if all of those are forbidden from outside.

        Args:
          state: what `start` or `advance` returned.
          remaining: int32 (batch,), >= 1: how many ids may still come, this one included.

        Returns:
          Two masks, bool, (batch, vocab_size) and (batch or 1, vocab_size). After `START` each row
          of the first has at least one id; in the second no id begins a note.
        """
        raise NotImplementedError

    def largest(self):
        """The largest number that each part of a state may hold: a dict of int by its name."""
        raise NotImplementedError

    def seconds(self, state, ids):
        """How many seconds pass with these ids, int32 (batch,): float32 (batch,)."""
        raise NotImplementedError

    def leads(self, state):
        """After which ids a note must begin, and how long after now: bool and seconds (float32),
        each (batch or 1, vocab_size).
        """
        raise NotImplementedError

    def is_drum(self, state):
        """Whether a note that begins now is one of the drums: bool (batch,)."""
        return state["last"] < 0

    def part(self, state):
        """Whose note begins now, a program's or a voice's: int32 (batch,), below `num_parts`."""
        return state["last"] * 0

    def _values(self, *kinds, otherwise=0):
        """The value of each id of these types, and a number for all others; int32."""
        return np.where(self.is_kind(*kinds), self.value_of, otherwise).astype(np.int32)
