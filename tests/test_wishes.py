"""Wishes: what a musician says, as numbers."""

import numpy as np
import pytest

from keras_music.generation.wishes import wish_rows


def classes(wish):
    return np.flatnonzero(wish_rows(1, pitch_classes=wish)["pitch_classes"][0]).tolist()


def test_keys_have_names():
    assert classes("C major") == [0, 2, 4, 5, 7, 9, 11]
    assert classes("A minor") == [0, 2, 4, 5, 7, 9, 11]
    assert classes("A harmonic minor") == [0, 2, 4, 5, 8, 9, 11]
    assert classes("F# major") == [1, 3, 5, 6, 8, 10, 11]
    assert classes("Bb minor") == [0, 1, 3, 5, 6, 8, 10]
    assert classes(" a   minor ") == classes("A Minor") == classes("A minor")
    assert classes("bB HARMONIC minor") == classes("Bb harmonic minor")
    assert classes("Cb major") == [1, 3, 4, 6, 8, 10, 11]
    assert classes([0, 4, 7]) == [0, 4, 7]
    assert classes({11}) == [11]
    assert classes(None) == list(range(12))


def test_nothing_wished_is_no_limit():
    rows = wish_rows(2)
    assert {name: values.tolist() for name, values in rows.items()} == {
        "pitch_classes": [[1] * 12] * 2,
        "lowest_pitch": [0, 0],
        "highest_pitch": [127, 127],
        "max_notes_per_second": [0, 0],
        "max_repeats": [0, 0],
    }
    assert {values.dtype for values in rows.values()} == {np.dtype(np.int32)}


def test_each_row_may_wish_for_itself():
    rows = wish_rows(
        2,
        pitch_classes=["C major", None],
        pitch_range=[(60, 72), None],
        max_notes_per_second=[5, None],
        max_repeats=3,
    )
    assert rows["pitch_classes"].sum(axis=1).tolist() == [7, 12]
    assert rows["lowest_pitch"].tolist() == [60, 0]
    assert rows["highest_pitch"].tolist() == [72, 127]
    assert rows["max_notes_per_second"].tolist() == [5, 0]
    assert rows["max_repeats"].tolist() == [3, 3]
    # A list of numbers is one wish, and as many wishes as rows are one each.
    assert wish_rows(2, pitch_classes=[0, 4])["pitch_classes"].sum() == 4
    assert wish_rows(2, pitch_range=np.array([60, 72]))["lowest_pitch"].tolist() == [60, 60]


def test_a_range_holds_both_its_ends():
    """One pitch is a range too; and the highest alone may be what a key leaves."""
    one = wish_rows(1, pitch_classes=[0], pitch_range=(60, 60))
    assert one["lowest_pitch"].tolist() == one["highest_pitch"].tolist() == [60]
    assert wish_rows(1, pitch_classes=[0], pitch_range=(61, 72))["highest_pitch"].tolist() == [72]


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"pitch_classes": "H major"}, "`pitch_classes` must be a key such as 'C major'"),
        ({"pitch_classes": "C lydian"}, "`pitch_classes` must be a key"),
        ({"pitch_classes": ""}, "`pitch_classes` must be a key"),
        ({"pitch_classes": []}, "at least one. Received: \\[\\]"),
        ({"pitch_classes": [12]}, "different numbers from 0 \\(C\\) to 11"),
        ({"pitch_classes": 4}, "`pitch_classes` must be"),
        ({"pitch_classes": [1, 0] * 6}, "or different numbers from 0"),  # flags, as a server has
        ({"pitch_classes": [0.5]}, "`pitch_classes` must be"),
        ({"pitch_classes": [0], "pitch_range": (61, 62)}, "must leave a pitch"),
        ({"pitch_range": (72, 60)}, "`pitch_range` must be \\(lowest, highest\\)"),
        ({"pitch_range": (0, 128)}, "`pitch_range` must be"),
        ({"pitch_range": 60}, "`pitch_range` must be"),
        ({"pitch_range": (60,)}, "`pitch_range` must be"),
        ({"max_notes_per_second": 0}, "`max_notes_per_second` must be"),
        ({"max_notes_per_second": 65}, "`max_notes_per_second` must be"),
        ({"max_repeats": 0}, "`max_repeats` must be"),
        ({"max_repeats": [1, 2, 3]}, "one for each of the 1 prompts"),
    ],
)
def test_what_cannot_be_understood_is_said(wish, says):
    with pytest.raises(ValueError, match=says):
        wish_rows(1, **wish)


def test_a_wish_that_does_not_exist():
    with pytest.raises(TypeError, match="key"):
        wish_rows(1, key="C major")
