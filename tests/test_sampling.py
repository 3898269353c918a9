"""Drawing one id: the distribution, its filters, and the random points."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_music.generation.sampling import kept, sample, threefry, uniforms


def draw(logits, uniform, temperature=1.0, top_k=0, top_p=1.0):
    """`sample` with the same controls in each row -> (ids, log-probabilities) as lists."""
    logits = tf.constant(logits, tf.float32)
    rows = logits.shape[0]
    ids, log_prob = sample(
        logits,
        tf.constant(np.broadcast_to(uniform, rows), tf.float32),
        tf.fill([rows], tf.constant(temperature, tf.float32)),
        tf.fill([rows], top_k),
        tf.fill([rows], tf.constant(top_p, tf.float32)),
    )
    return ids.numpy().tolist(), log_prob.numpy().tolist()


def test_threefry_gives_the_published_numbers():
    """Known answers of the Random123 library for threefry2x32 with 20 rounds."""

    def run(key, counter):
        words = [tf.constant([word], tf.uint32) for word in (*key, *counter)]
        return [int(word[0]) for word in threefry(words[:2], words[2:])]

    ones = 0xFFFFFFFF
    assert run((0, 0), (0, 0)) == [0x6B200159, 0x99BA4EFE]
    assert run((ones, ones), (ones, ones)) == [0x1CB996FC, 0xBB002BE7]
    pi = (0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3)
    assert run(*pi) == [0xC4923A9C, 0x483DF7A0]


def test_random_points_are_uniform_and_rows_are_independent():
    seeds = tf.constant([[0], [1], [2**40], [-1]], tf.int64)
    points = uniforms(seeds, tf.range(50_000)[None]).numpy()
    assert points.min() >= 0
    assert points.max() < 1
    counts = np.stack([np.histogram(row, 20, (0, 1))[0] for row in points])
    chi_square = ((counts - 2500) ** 2 / 2500).sum(axis=1)
    assert (chi_square < 43.8).all()  # 19 degrees of freedom, 0.1 %
    correlation = np.corrcoef(points) - np.eye(4)
    assert np.abs(correlation).max() < 0.02
    serial = [np.corrcoef(row[:-1], row[1:])[0, 1] for row in points]
    assert np.abs(serial).max() < 0.02


def test_a_point_depends_on_its_own_seed_and_position_only():
    many = uniforms(tf.constant([[7], [8]], tf.int64), tf.range(100)[None]).numpy()
    one = uniforms(tf.constant([8], tf.int64), tf.constant([57])).numpy()
    assert one[0] == many[1, 57]


def test_the_point_falls_on_the_line_of_probabilities():
    logits = np.log([[0.2, 0.5, 0.3]] * 6)
    points = [0.0, 0.19, 0.21, 0.69, 0.71, 0.999999]
    ids, log_prob = draw(logits, points)
    assert ids == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(np.exp(log_prob), [0.2, 0.2, 0.5, 0.5, 0.3, 0.3], rtol=1e-5)


def test_temperature():
    logits = [[2.0, 1.0, 0.0]]
    for temperature, expected in [(1, 0.665), (0.5, 0.867), (2, 0.506), (1e9, 1 / 3)]:
        _, log_prob = draw(logits, 0.0, temperature)
        assert np.exp(log_prob[0]) == pytest.approx(expected, abs=1e-3)
    assert draw(logits, 0.999, 0.0) == ([0], [0.0])
    assert draw(logits, 0.999, 1e-30)[0] == [0]


def test_without_temperature_the_best_wins_by_any_margin_and_at_no_price():
    """Also one that is hardly better; of equals the first, and there was no choice all the same."""
    assert draw([[0.99, 1.0]], 0.0, 0.0) == ([1], [0.0])
    assert draw([[0.0, 1.0, 1.0]], 0.999, 0.0) == ([1], [0.0])


def test_forbidden_ids_are_never_drawn():
    logits = [[-np.inf, 3.0, -np.inf, 1.0, -np.inf]] * 1000
    for temperature in (0.0, 0.3, 1.0, 100.0, 1e30):
        ids, _ = draw(logits, np.linspace(0, 1, 1000, endpoint=False), temperature)
        assert set(ids) <= {1, 3}
        ids, _ = draw(logits, np.linspace(0, 1, 1000, endpoint=False), temperature, 4, 0.99)
        assert set(ids) <= {1, 3}


def test_frequencies_follow_the_probabilities():
    probabilities = np.array([0.1, 0.0, 0.4, 0.2, 0.3])
    with np.errstate(divide="ignore"):
        logits = np.log([probabilities] * 20_000)
    points = uniforms(tf.constant(11, tf.int64), tf.range(20_000)).numpy()
    ids, _ = draw(logits, points)
    np.testing.assert_allclose(np.bincount(ids, minlength=5) / 20_000, probabilities, atol=0.012)


def test_filters_keep_what_they_say():
    logits = np.log([[0.1, 0.4, 0.2, 0.3]])

    def survivors(top_k, top_p):
        mask = kept(tf.constant(logits, tf.float32), tf.constant([top_k]), tf.constant([top_p]))
        return np.flatnonzero(mask[0]).tolist()

    assert survivors(0, 1.0) == [0, 1, 2, 3]
    assert survivors(1, 1.0) == [1]
    assert survivors(2, 1.0) == [1, 3]
    assert survivors(99, 1.0) == [0, 1, 2, 3]
    assert survivors(0, 0.35) == [1]
    assert survivors(0, 0.65) == [1, 3]
    assert survivors(0, 0.75) == [1, 2, 3]
    assert survivors(0, 1e-9) == [1]
    # top-p counts in what top-k has left: of (4/7, 3/7) the first alone reaches 0.5.
    assert survivors(2, 0.5) == [1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-20, 20, width=32, allow_subnormal=False), min_size=1, max_size=12),
    st.integers(0, 14),
    st.floats(0.015625, 1, width=32),
)
def test_kept_is_the_smallest_nucleus_of_the_k_likeliest(row, top_k, top_p):
    """Checked against the definition, written with sorted lists in double precision."""
    mask = kept(tf.constant([row]), tf.constant([top_k]), tf.constant([top_p])).numpy()[0]
    order = sorted(range(len(row)), key=lambda i: -row[i])[: top_k or len(row)]
    weights = np.exp(np.array([row[i] for i in order]) - max(row))
    before = np.cumsum(weights) / weights.sum() - weights / weights.sum()
    certain = np.abs(before - top_p) > 1e-5  # a tie with top_p may fall on either side
    expected = {i for i, mass in zip(order, before, strict=True) if mass < top_p or top_p == 1}
    unsure = {i for i, sure in zip(order, certain, strict=True) if not sure}
    assert set(np.flatnonzero(mask)) - unsure == expected - unsure
    assert mask.any()
    assert not top_k or mask.sum() <= top_k


def test_ties_are_cut_too():
    mask = kept(tf.zeros([1, 6]), tf.constant([2]), tf.constant([1.0])).numpy()[0]
    assert np.flatnonzero(mask).tolist() == [0, 1]


def test_a_row_does_not_see_its_neighbours():
    """The filters sort only if a row asks for it; rows that do not must not notice."""
    logits = tf.random.stateless_normal([4, 30], [1, 2])
    points = tf.constant([0.1, 0.5, 0.7, 0.9])
    plain = sample(logits, points, tf.ones(4), tf.zeros(4, tf.int32), tf.ones(4))
    mixed = sample(
        logits, points, tf.ones(4), tf.constant([0, 3, 0, 0]), tf.constant([1.0, 1.0, 1.0, 0.5])
    )
    for row in (0, 2):
        assert plain[0][row] == mixed[0][row]
        assert plain[1][row] == mixed[1][row]


def test_broken_scores_show():
    ids, log_prob = draw([[np.nan] * 4], 0.5)
    assert 0 <= ids[0] < 4
    assert np.isnan(log_prob[0])
    assert np.isnan(draw([[np.nan] * 4], 0.5, 0.0)[1][0])
