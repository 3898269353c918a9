"""Drawing the next id from the network's scores.

The network gives each id a score (logit) z. Softmax makes probabilities of them,
p_i = exp(z_i / T) / sum_j exp(z_j / T), and the *temperature* T decides how bold the draw is:

    logits               2.0   1.0   0.0
    T = 1                0.67  0.24  0.09
    T = 0.5              0.87  0.12  0.02     sharper: safe, soon boring
    T = 2                0.51  0.31  0.19     flatter: surprising, soon wrong
    T = 0                1     0     0        greedy: always the best

*top-k* keeps the k likeliest ids; *top-p* (nucleus) keeps the likeliest ids until together they
have probability p, so that it keeps few where the network is sure and many where it is not.
Order: temperature, then top-k, then top-p among what is left; then what is left sums to 1 again.

The draw itself: lay the probabilities end to end on a line from 0 to 1, in the order of the ids,
and take the id on which a random point u falls. With T = 1 above, u = 0.7 falls on the second.

Randomness is a pure function: point number t of a row with seed s is Threefry-2x32-20 with key s
and counter t. No state, no order of calls and no neighbour in the batch can change it, and it is
made of integer operations of TensorFlow core, the same in Python and in a server.

Conventions: logits float32 (batch, vocab_size); every control has one value a row, (batch,).

References: A. Fan et al. (2018) for top-k; A. Holtzman et al., "The Curious Case of Neural Text
Degeneration" (2020) for top-p; J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3"
(2011) for Threefry. Difference from usual top-k: ties are cut too, never more than k ids stay.
"""

from __future__ import annotations

import tensorflow as tf

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
KEY_PARITY = 0x1BD11BDA
MIN_TEMPERATURE = 1e-30  # stands for 0: every gap between two logits becomes too wide to cross


def sample(logits, uniform, temperature, top_k, top_p):
    """Draws one id a row.

    Args:
      logits: float32 (batch, vocab_size); -inf for ids that must not be drawn.
      uniform: float32 (batch,), 0 <= u < 1, the random points.
      temperature: float32 (batch,), >= 0; 0 takes the best id.
      top_k: int32 (batch,), >= 0; 0 keeps all ids.
      top_p: float32 (batch,), 0 < p <= 1; 1 keeps all ids.

    Returns:
      ids int32 (batch,), and the log-probability float32 (batch,) that they had in the
      distribution from which they were drawn (0 where temperature is 0: there was no choice).
    """
    sampler = Sampler(temperature, top_k, top_p)
    return sampler.draw(logits, sampler.points(uniform))


class Sampler:
    """What follows from the controls alone, computed once for many draws.

    Args:
      temperature, top_k, top_p: as `sample` describes them.

    Attributes:
      any_filter: bool (), whether any row asks for top-k or top-p.
    """

    def __init__(self, temperature, top_k, top_p):
        self.divisor = tf.maximum(temperature, MIN_TEMPERATURE)[:, None]
        self.has_choice = tf.where(tf.equal(temperature, 0.0), 0.0, 1.0)
        self.top_k, self.top_p = top_k, top_p
        self.filters = (top_k > 0) | (top_p < 1.0)
        self.any_filter = tf.reduce_any(self.filters)

    def points(self, uniform):
        """Random points (..., batch) as `draw` wants them, (..., batch, 1).

        Where temperature is 0 all of the line belongs to the best id, or to several that are
        equally good; point 0 takes the first of them.
        """
        return (uniform * self.has_choice)[..., None]

    def draw(self, logits, points, *, may_filter=True):
        """One id a row: ids int32 (batch,), log_prob float32 (batch,).

        Args:
          logits: float32 (batch, vocab_size); -inf for ids that must not be drawn.
          points: float32 (batch, 1).
          may_filter: whether top-k and top-p are heeded.
        """
        scaled = (logits - tf.reduce_max(logits, axis=-1, keepdims=True)) / self.divisor
        if may_filter:
            is_kept = kept(scaled, self.top_k, self.top_p) | ~self.filters[:, None]
            scaled = tf.where(is_kept, scaled, -float("inf"))
        line = tf.cumsum(tf.exp(scaled), axis=-1)  # (batch, vocab_size)
        total = line[:, -1:]
        # A point is below 1, so below the end of the line, also after rounding: an id exists.
        ids = tf.reduce_sum(tf.cast(line <= points * total, tf.int32), axis=-1)
        # NaN scores give NaN, and whoever drew can see that the network is broken.
        log_prob = tf.gather(scaled, ids, batch_dims=1) - tf.math.log(total[:, 0])
        return ids, log_prob * self.has_choice


def kept(logits, top_k, top_p):
    """Which ids survive top-k and top-p; bool (batch, vocab_size). At least one does.

    >>> z = tf.math.log([[0.5, 0.125, 0.375]])
    >>> kept(z, tf.constant([2]), tf.constant([1.0])).numpy().tolist()
    [[True, False, True]]
    >>> kept(z, tf.constant([0]), tf.constant([0.5])).numpy().tolist()
    [[True, False, False]]
    """
    vocab_size = tf.shape(logits)[-1]
    order = tf.argsort(logits, direction="DESCENDING", stable=True)
    rank = tf.argsort(order)  # (batch, vocab_size): 0 for the likeliest id
    limit = tf.where(top_k > 0, top_k, vocab_size)[:, None]
    among = tf.where(rank < limit, logits, -float("inf"))
    ordered = tf.gather(tf.nn.softmax(among), order, batch_dims=1)
    before = tf.cumsum(ordered, axis=-1, exclusive=True)  # mass of the likelier ids
    nucleus = tf.gather((before < top_p[:, None]) | (top_p >= 1.0)[:, None], rank, batch_dims=1)
    return (rank < limit) & nucleus | (rank == 0)


def uniforms(seed, position):
    """The random points of rows with these seeds at these positions, 0 <= u < 1, float32.

    Args:
      seed: int64, any shape.
      position: int32 >= 0, of a shape that broadcasts with it.
    """
    bits = tf.bitcast(tf.cast(seed, tf.int64), tf.uint32)  # (..., 2): low half, high half
    counter = tf.cast(position, tf.uint32)
    high, _ = threefry((bits[..., 0], bits[..., 1]), (counter, tf.zeros_like(counter)))
    # 24 bits fill a float32's mantissa: every value is exact and none is 1.
    return tf.cast(tf.bitwise.right_shift(high, tf.constant(8, tf.uint32)), tf.float32) * 2.0**-24


def threefry(key, counter):
    """Threefry-2x32 with 20 rounds: two uint32 and a key of two uint32 -> two uint32."""
    key = (*key, key[0] ^ key[1] ^ tf.constant(KEY_PARITY, tf.uint32))
    x, y = counter[0] + key[0], counter[1] + key[1]
    for group in range(5):
        for bits in ROTATIONS[group % 2]:
            x = x + y
            left = tf.bitwise.left_shift(y, tf.constant(bits, tf.uint32))
            right = tf.bitwise.right_shift(y, tf.constant(32 - bits, tf.uint32))
            y = (left | right) ^ x
        x = x + key[(group + 1) % 3]
        y = y + key[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return x, y
