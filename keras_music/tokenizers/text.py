"""Text as a sequence of characters, in Python and inside a TensorFlow graph.

The simplest vocabulary there is: every character that occurs in the corpus gets an id, in the
order of the Unicode code points. Nothing is lost and nothing is learned: the network has to find
out by itself that letters make words. Shakespeare needs about 65 ids, folk tunes in ABC about 90.

    "First"  ->  START F i r s t END  ->  [1, 20, 49, 58, 59, 60, 2]

The same two tables exist a second time as TensorFlow operations (`encode_in_graph`,
`decode_in_graph`), so that an exported model takes and returns strings. They are constants, not
lookup tables: nothing to initialise, nothing that a server could fail to restore.

What this file does not do: no words, no subwords, no normalisation of the text.

Reference: A. Karpathy, "The Unreasonable Effectiveness of Recurrent Neural Networks" (2015), and
TensorFlow's text-generation tutorial. Differences: `PAD`, `START` and `END` instead of `[UNK]`; a
character outside the vocabulary is an error with a name, not a silent unknown.
"""

from __future__ import annotations

import numpy as np

from keras_music.tokenizers.vocabulary import SPECIAL, Tokenizer, Vocabulary


class CharTokenizer(Tokenizer):
    """One id a character.

    Args:
      text: a string, or an iterable of strings such as a `Corpus`, whose characters make the
        vocabulary.

    Raises:
      ValueError: there is no character.

    Example:
      >>> tokenizer = CharTokenizer("hello world")
      >>> tokenizer.encode("hold")
      array([1, 6, 8, 7, 4, 2], dtype=int32)
      >>> tokenizer.decode([1, 6, 8, 7, 4, 2])
      'hold'
    """

    def __init__(self, text):
        texts = [text] if isinstance(text, str) else text
        texts = list(texts)
        if wrong := [t for t in texts if not isinstance(t, str)]:
            raise ValueError(
                "`text` must be a str or hold nothing else. "
                f"Received: {type(wrong[0]).__name__}. Music needs a `PerformanceTokenizer`."
            )
        characters = sorted(set().union(*texts))
        if not characters:
            raise ValueError(
                "`text` must hold at least one character. Received: none. Give the training text."
            )
        self.characters = "".join(characters)
        if any("\ud800" <= character <= "\udfff" for character in characters):
            raise ValueError(
                "`text` must be Unicode text. Received: half of a surrogate pair, which stands for "
                "no character. Read the file with encoding='utf-8' and errors='replace'."
            )
        self.table = Vocabulary([*SPECIAL, ("CHAR", 0, len(characters) - 1)])
        self._code_points = _code_points(self.characters)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        return (*(kind for kind, _, _ in SPECIAL), *self.characters)

    def settings(self):
        return {"text": self.characters}

    def encode(self, text: str) -> np.ndarray:
        """Text -> ids, `START` before and `END` after it; int32, shape (len(text) + 2,).

        Nothing is lost: `decode(encode(text)) == text`.

        Raises:
          ValueError: a character is not in the vocabulary; the sentence names it.
        """
        if not isinstance(text, str):
            raise ValueError(f"`text` must be a str. Received: {type(text).__name__}.")
        code_points = _code_points(text)
        index = np.searchsorted(self._code_points, code_points)
        index = np.minimum(index, len(self._code_points) - 1)
        if (unknown := self._code_points[index] != code_points).any():
            names = sorted({chr(c) for c in code_points[unknown]})
            raise ValueError(
                "`text` must be written in the tokenizer's characters. Received: "
                f"{', '.join(map(repr, names[:10]))}. Replace them, or train with a corpus that "
                f"has them. Known: {self.characters!r}."
            )
        special = self.table.ids("START"), self.table.ids("END")
        return np.concatenate([special[:1], self.table.ids("CHAR", index), special[1:]])

    def decode(self, ids) -> str:
        """Ids, shape (time,) -> text; `PAD`, `START` and `END` leave no trace."""
        ids = self.table.check(ids)
        return "".join(self.characters[i - len(SPECIAL)] for i in ids if i >= len(SPECIAL))

    def encode_in_graph(self, text, longest=None):
        """Strings, shape (batch,) -> int32 ids, shape (batch, time), `START` first, no `END`.

        Rows are padded with 0 at the end. In a graph an unknown character, or a row of more than
        `longest` ids, raises INVALID_ARGUMENT, with a sentence that says so.
        """
        import tensorflow as tf

        known = tf.constant(self._code_points, tf.int32)
        points = tf.strings.unicode_decode(text, "UTF-8")  # (batch, None)
        index = tf.searchsorted(known, points.flat_values)
        index = tf.minimum(index, len(self._code_points) - 1)
        unknown = points.flat_values[tf.gather(known, index) != points.flat_values]
        shown = tf.strings.unicode_encode(unknown[:10], "UTF-8")
        message = "`prompt` must be written in the characters of the model. It does not know:"
        check = tf.debugging.Assert(tf.size(unknown) == 0, [message, shown])
        checks = [check]
        if longest is not None:  # before rows are padded: one long row makes all of them long
            message = f"`prompt` must hold at most {longest} ids a row."
            lengths = points.row_lengths() + 1
            checks.append(tf.debugging.Assert(tf.reduce_all(lengths <= longest), [message]))
        with tf.control_dependencies([check for check in checks if check is not None]):
            ids = points.with_flat_values(index + int(self.table.ids("CHAR")))
        start = tf.fill([points.nrows(), 1], self.start_id)
        return tf.concat([start, ids.to_tensor(0)], axis=1)  # (batch, time)

    def decode_in_graph(self, ids):
        """Ids, shape (batch, time) -> strings, shape (batch,)."""
        import tensorflow as tf

        pieces = [""] * len(SPECIAL) + list(self.characters)
        return tf.strings.reduce_join(tf.gather(tf.constant(pieces), ids), axis=-1)


def _code_points(text):
    """The characters' Unicode numbers, int32: "Az" -> [65, 122]."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<i4")
