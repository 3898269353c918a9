"""Text as characters: in Python, and the same in a TensorFlow graph."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_music import tokenizers
from keras_music.tokenizers import CharTokenizer, PerformanceTokenizer

UNICODE = "Az é\n\t\0ß\u0301\ufeff\ufffd中\u202e😀𝄞"  # one to four bytes each in UTF-8


def in_graph(function, signature):
    return tf.function(function, input_signature=[signature])


# Literals


def test_text_in_ids_out():
    tokenizer = CharTokenizer("hello world")
    ids = tokenizer.encode("hold")
    assert ids.tolist() == [1, 6, 8, 7, 4, 2]
    assert (ids.dtype, ids.shape) == (np.int32, (6,))
    assert tokenizer.encode("").tolist() == [1, 2]
    assert tokenizer.decode(ids) == "hold"
    assert tokenizer.tokens(ids) == ["START", "h", "o", "l", "d", "END"]


def test_the_vocabulary_is_in_the_order_of_the_code_points():
    tokenizer = CharTokenizer("b😀aZ\né")
    assert tokenizer.vocabulary == ("PAD", "START", "END", "\n", "Z", "a", "b", "é", "😀")
    assert tokenizer.characters == "\nZabé😀"
    assert tokenizer.vocab_size == 9
    assert CharTokenizer("x").vocabulary == ("PAD", "START", "END", "x")


def test_a_corpus_of_strings_makes_one_vocabulary():
    assert CharTokenizer(["ab", "", "bc"]) == CharTokenizer("abc")
    assert CharTokenizer(text for text in ("ab", "c")) == CharTokenizer("cba")
    assert CharTokenizer("abc") != CharTokenizer("abcd")
    assert CharTokenizer("abc") != PerformanceTokenizer()


def test_special_ids_leave_no_trace_in_the_text():
    tokenizer = CharTokenizer("ab")
    assert tokenizer.decode([1, 3, 0, 2, 4, 0, 0]) == "ab"
    assert tokenizer.decode([]) == ""


def test_a_character_made_of_two_stays_two():
    """The letter e and a combining accent: nothing is normalised."""
    tokenizer = CharTokenizer("e\u0301é")
    assert tokenizer.encode("e\u0301").tolist() == [1, 3, 5, 2]
    assert tokenizer.encode("é").tolist() == [1, 4, 2]


# Properties


@settings(deadline=None)
@given(text=st.text(min_size=1, max_size=60))
def test_nothing_is_lost(text):
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert len(ids) == len(text) + 2
    assert [tokenizer.vocabulary[i] for i in ids[1:-1]] == list(text)
    assert tokenizers.from_json(tokenizer.to_json()) == tokenizer


@settings(deadline=None)
@given(known=st.text(min_size=1), text=st.text())
def test_an_unknown_character_is_never_passed_over(known, text):
    tokenizer = CharTokenizer(known)
    if set(text) <= set(known):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    else:
        with pytest.raises(
            ValueError, match="`text` must be written in the tokenizer's characters"
        ):
            tokenizer.encode(text)


# In a graph


TOKENIZER = CharTokenizer(UNICODE)
ENCODE = in_graph(TOKENIZER.encode_in_graph, tf.TensorSpec([None], tf.string))
DECODE = in_graph(TOKENIZER.decode_in_graph, tf.TensorSpec([None, None], tf.int32))


def test_texts_of_different_lengths_in_a_graph():
    tokenizer = CharTokenizer("hello world")
    for encode in (tokenizer.encode_in_graph, tf.function(tokenizer.encode_in_graph)):
        ids = encode(tf.constant(["hold", "", "ow"]))
        assert ids.dtype == tf.int32
        assert ids.numpy().tolist() == [[1, 6, 8, 7, 4], [1, 0, 0, 0, 0], [1, 8, 10, 0, 0]]
    for decode in (tokenizer.decode_in_graph, tf.function(tokenizer.decode_in_graph)):
        texts = decode(tf.constant([[1, 6, 8, 7, 4, 2], [1, 2, 0, 0, 0, 0], [8, 0, 10, 2, 0, 0]]))
        assert texts.numpy().tolist() == [b"hold", b"", b"ow"]


def test_an_empty_batch_in_a_graph():
    assert ENCODE(tf.constant([], tf.string)).shape == (0, 1)
    assert DECODE(tf.zeros([0, 3], tf.int32)).shape == (0,)


@settings(deadline=None, max_examples=60)
@given(texts=st.lists(st.text(UNICODE, max_size=12), min_size=1, max_size=5))
def test_the_graph_gives_what_python_gives(texts):
    ids = ENCODE(tf.constant([text.encode() for text in texts])).numpy()
    width = 1 + max(map(len, texts))
    assert ids.shape == (len(texts), width)
    for row, text in zip(ids, texts, strict=True):
        expected = TOKENIZER.encode(text)[:-1]  # a prompt has no END
        assert row.tolist() == expected.tolist() + [0] * (width - len(expected))
        assert TOKENIZER.decode(row) == text
    assert [text.decode() for text in DECODE(ids).numpy()] == texts


def test_the_graph_names_an_unknown_character():
    message = "`prompt` must be written in the characters of the model"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message) as caught:
        ENCODE(tf.constant(["Az", "AzöxAq"]))
    assert "[öxq]" in str(caught.value)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message) as caught:
        TOKENIZER.encode_in_graph(tf.constant(["AzxA"]))
    assert TOKENIZER.encode_in_graph(tf.constant(["AzA"]), longest=4).shape == (1, 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`prompt` must hold at most 4 ids"):
        TOKENIZER.encode_in_graph(tf.constant(["A", "AzAA"]), longest=4)
    assert "b'x'" in str(caught.value)
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        CharTokenizer("Az").encode_in_graph(tf.constant([b"A\xff"]))  # no UTF-8


# Files


def test_json_and_files(tmp_path):
    tokenizer = CharTokenizer(UNICODE)
    assert json.loads(tokenizer.to_json()) == {
        "tokenizer": "CharTokenizer",
        "text": "".join(sorted(UNICODE)),
    }
    loaded = tokenizers.load(tokenizer.save(tmp_path / "tokenizer.json"))
    assert loaded == tokenizer
    assert loaded.vocabulary == tokenizer.vocabulary
    assert loaded.encode(UNICODE).tolist() == tokenizer.encode(UNICODE).tolist()


@pytest.mark.parametrize("text", ["5", '""', "[]", '"a", "more": 1'])
def test_json_of_a_stranger(text):
    with pytest.raises(ValueError, match=r"^The JSON text does not describe a tokenizer \("):
        tokenizers.from_json(f'{{"tokenizer": "CharTokenizer", "text": {text}}}')


# Errors


def test_errors_name_the_characters():
    tokenizer = CharTokenizer("abc")
    sentence = (
        "`text` must be written in the tokenizer's characters. Received: '\\n', 'x', 'é'. "
        "Replace them, or train with a corpus that has them. Known: 'abc'."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        tokenizer.encode("axéab\nxx")
    sentence = "`text` must be a str. Received: list."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        tokenizer.encode(["a"])
    sentence = (
        "`ids` must be from 0 to 5. Received: 6. Use the tokenizer with which they were made."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        tokenizer.decode([3, 6])


@pytest.mark.parametrize("text", ["", [], [""]])
def test_a_tokenizer_needs_a_character(text):
    sentence = "`text` must hold at least one character. Received: none. Give the training text."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        CharTokenizer(text)


def test_only_text_makes_a_vocabulary():
    with pytest.raises(ValueError, match="`text` must be a str or hold nothing else. .* int"):
        CharTokenizer(["abc", 5])


def test_half_a_surrogate_pair_is_no_text():
    with pytest.raises(ValueError, match="`text` must be Unicode text. Received: half of a surr"):
        CharTokenizer("ab\ud800")
