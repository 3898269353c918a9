"""The laws of the tokenizers on whole corpora: all of Bach's works that music21 brings, not only
those in four parts, and folk tunes: melodies with repeats, grace notes and odd metres."""

import contextlib
import os

import pytest
import symusic

import keras_music as km

TOKENIZERS = {
    "performance": km.tokenizers.PerformanceTokenizer(multi_program=True, pedal="tokens"),
    "remi": km.tokenizers.RemiTokenizer(),
    "note": km.tokenizers.NoteTokenizer(),
}


@contextlib.contextmanager
def quiet():
    """abc2midi, inside symusic, writes to the file descriptors of the process."""
    kept = [os.dup(1), os.dup(2)]
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        for descriptor, place in zip(kept, (1, 2), strict=True):
            os.dup2(descriptor, place)
            os.close(descriptor)
        os.close(nothing)


def tunes(step):
    """Those of every `step`-th tune that abc2midi can play, as pieces."""
    for tune in km.corpora.folk_tunes()[::step]:
        try:
            with quiet():
                data = symusic.Score.from_abc(f"X:1\n{tune}").dumps_midi()
        except RuntimeError:  # abc2midi could not play it
            continue
        yield km.read_midi(data)


def check(pieces, num_voices):
    """Both laws on all pieces; returns their number."""
    chorale = km.tokenizers.ChoraleTokenizer(num_voices=num_voices, steps_per_beat=12)
    count = 0
    for piece in pieces:
        count += 1
        for name, tokenizer in {**TOKENIZERS, "chorale": chorale}.items():
            ids = tokenizer.encode(piece)
            again = tokenizer.encode(tokenizer.decode(ids))
            assert again.tolist() == ids.tolist(), (name, piece)
            if count % 10 == 1:  # it walks through the ids one by one
                assert tokenizer.grammar.first_wrong(ids) is None, (name, piece)
    return count


def test_the_laws_hold_on_every_hundredth_tune():
    assert check(tunes(step=100), num_voices=1) >= 30


@pytest.mark.slow
def test_the_laws_hold_on_every_tune():
    assert check(tunes(step=1), num_voices=1) >= 3500


@pytest.mark.slow
def test_the_laws_hold_on_all_of_bach():
    assert check(km.corpora.bach_chorales(parts=None), num_voices=4) == 408
