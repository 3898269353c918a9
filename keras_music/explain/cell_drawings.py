"""Boxes and wires: paper and pencil of the drawings, the GRU and LSTM cells, and unfolding.

A gated cell is drawn as its wires run. What the cell remembers runs along the top, from the moment
before (left) to the next one (right). From below, where x and h come in, rise the gates: a weighted
sum, a curve that bends it, and a number between 0 and 1 that multiplies something further up. So
one can follow with a finger what becomes of each number.

Conventions: the unit of all coordinates is the inch, (0, 0) is the corner at the lower left, sizes
of letters are in points, >= 8. A vector is written as a column, its name above it, of which at most
three numbers are shown. A dot joins wires; where there is none, they cross. Colours are Okabe and
Ito's: what is remembered is blue, gates are orange.

What this file does not do: it computes nothing but the products on the wires between two steps, and
knows nothing of layers without a memory (`drawings.py`).
"""

from __future__ import annotations

import math
import re

import numpy as np
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path

from keras_music.explain.calculation import number
from keras_music.plots import BLUE, GREY, ORANGE, Picture

GREEN, PURPLE, SKY, RED = "#009E73", "#CC79A7", "#56B4E9", "#D55E00"
LETTERS = 9  # points
LINE = 1.25 * LETTERS / 72  # inches from one line of text to the next
MOST_IN_COLUMN = 3
MOST_MOMENTS = 8
RADIUS = 0.17  # of a node with a sign in it


def short(value) -> str:
    """A number in three digits, which never looks like a whole number that it is not.

    >>> [short(v) for v in (-7.5, 0.65900114, np.tanh(-8.5), 2.0004, 3.0, 12345.6, 2e-9)]
    ['-7.5', '0.659', '-0.999…', '2.00', '3', '12346', '2e-9']
    """
    value = float(value)
    size = abs(value)
    if value == 0 or not 1e-4 <= size < 1e6:
        text = f"{value:.{0 if 0 < size < 1e-99 else 3}g}"
        return re.sub("e(-?)[+]?0*", r"e\1", text) if value else "0"
    text = f"{value:.3g}" if size < 999.5 else f"{value:.0f}"
    if number(value) == text or size >= 100 or "." in text:
        return text
    if size < 1:
        return f"{math.copysign(0.999, value)}…"
    return f"{value:.{2 if size < 10 else 1}f}"


def more(shown, total, of):
    """What is not drawn, in words.

    >>> more(6, 100, "inputs"), more(6, 7, "inputs"), more(6, 6, "inputs")
    ('... and 94 more inputs', '... and 1 more', '')
    """
    left_out = total - shown
    return f"... and {left_out} more{f' {of}' * (left_out > 1)}" if left_out > 0 else ""


def canvas(width, height, title):
    """White paper of that many inches, with a line above it; the axes to draw on."""
    figure = Picture(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    words(axes, 0.25, height - 0.3, title, 12, ha="left")
    return axes


def words(axes, x, y, text, size=LETTERS, **style):
    style = {"ha": "center", "va": "center", "color": "black"} | style
    return axes.text(x, y, text, fontsize=size, parse_math=False, zorder=5, **style)


def wire(axes, *points, color=GREY, width=1.5, arrow=True, dashed=False, bridges=True):
    """A line through the points, in a white one, so that it bridges the wires drawn before it."""
    white = {"color": "white", "linewidth": width + 5, "solid_capstyle": "butt"}
    if bridges:
        axes.plot(*zip(*points, strict=True), zorder=2, **white)
    axes.add_patch(
        FancyArrowPatch(
            path=Path(points),
            arrowstyle="-|>" if arrow else "-",
            mutation_scale=11,
            color=color,
            linewidth=width,
            linestyle=(0, (4, 2)) if dashed else "-",
            joinstyle="miter",
            capstyle="butt",
            zorder=2,
        )
    )


def dot(axes, x, y, color=GREY):
    axes.add_patch(Circle((x, y), 0.05, color=color, zorder=3))


def node(axes, x, y, text, color="white", radius=RADIUS, size=11):
    """A circle with a sign or a number in it."""
    axes.add_patch(Circle((x, y), radius, facecolor=color, edgecolor=GREY, zorder=4))
    words(axes, x, y, text, size if len(text) < 8 else 8)


def box(axes, x, y, text, color="white", width=0.84, height=0.4):
    corner = (x - width / 2, y - height / 2)
    style = {"boxstyle": "round,pad=0,rounding_size=0.08", "facecolor": color, "edgecolor": GREY}
    axes.add_patch(FancyBboxPatch(corner, width, height, zorder=4, **style))
    words(axes, x, y, text)


def pale(color):
    """The colour mixed with white, so that black letters can be read on it."""
    return tuple(1 - 0.35 * (1 - int(color[i : i + 2], 16) / 255) for i in (1, 3, 5))


def column_lines(vector, name=None):
    """A vector as lines of text: its name, its first numbers, three dots if there are more."""
    lines = [short(v) for v in vector[:MOST_IN_COLUMN]]
    return [*([name] if name else []), *lines, *["..."] * (len(vector) > MOST_IN_COLUMN)]


def column(axes, x, y, name, vector, side="above"):
    """Writes a vector above a horizontal wire at (x, y), or to the right or left of a vertical."""
    text = "\n".join(column_lines(vector, name))
    places = {
        "above": (x, y + 0.07, {"va": "bottom"}),
        "below": (x, y - 0.07, {"va": "top"}),
        "right": (x + 0.09, y, {"ha": "left"}),
        "left": (x - 0.09, y, {"ha": "right"}),
    }
    x, y, style = places[side]
    words(axes, x, y, text, linespacing=1.1, multialignment="center", **style)


BUS, MIDDLE, TOP = 1.2, 4.5, 6.5  # heights of the three long wires of a gated cell


def _gate(axes, x, explanation, name, meaning, curve="sigmoid"):
    """Rises from the bus at x: a weighted sum and a curve. What comes out is the caller's."""
    sums = f"sum_{name}"
    dot(axes, x, BUS)
    wire(axes, (x, BUS), (x, BUS + 0.35))
    node(axes, x, BUS + 0.52, "Σ")
    wire(axes, (x, BUS + 0.69), (x, BUS + 1.65))
    column(axes, x, BUS + 1.13, sums, explanation[sums], "right")
    box(axes, x, BUS + 1.85, curve, pale(ORANGE if curve == "sigmoid" else SKY))
    words(axes, x - 0.5, BUS + 1.85, meaning, ha="right", multialignment="right", color=GREY)


def _legend(axes, signs):
    """What the signs mean, at the bottom."""
    text = (
        f"Σ: weighted sum of all that comes in, plus the bias.   {signs}: number by number.   "
        "A dot joins wires.\n"
        "sigmoid: bends into the range from 0 to 1, a gate.   tanh: into the range from -1 to 1."
    )
    words(axes, 0.25, 0.3, text, 8.5, ha="left", color=GREY)


def gru_cell(explanation):
    """Draws the gated recurrent unit.

    Args:
      explanation: an `Explanation` of `explain.gru_cell`.

    Returns:
      The `Figure`, 11.2 inches wide.
    """
    h, z, c, new = (explanation[name] for name in ("h", "z", "c", "h'"))
    axes = canvas(11.2, TOP + 0.75 + len(column_lines(h, "h")) * LINE, explanation.title)
    _legend(axes, "×  +  1-")
    _gru_inputs(axes, explanation)
    _gate(axes, 2.9, explanation, "r", "reset gate r:\nhow much of h\nthe idea uses")
    _gru_idea(axes, explanation)
    _gate(axes, 8.3, explanation, "z", "update gate z:\nhow much of\nthe old stays")
    wire(axes, (7.42, MIDDLE), (9.23, MIDDLE))
    column(axes, 7.78, MIDDLE, "c", c)
    wire(axes, (8.3, BUS + 2.05), (8.3, TOP - RADIUS), color=ORANGE)
    column(axes, 8.3, 5.5, "z", z, "right")
    dot(axes, 8.3, 3.6, ORANGE)
    wire(axes, (8.3, 3.6), (9.23, 3.6), color=ORANGE)
    wire(axes, (9.4, 3.77), (9.4, MIDDLE - RADIUS), color=ORANGE)
    node(axes, 9.4, 3.6, "1-", size=9)
    column(axes, 9.55, 3.95, "1 - z", 1 - z, "right")
    node(axes, 9.4, MIDDLE, "×")
    wire(axes, (9.4, MIDDLE + RADIUS), (9.4, TOP - RADIUS))
    column(axes, 9.4, 5.5, "(1 - z) * c", (1 - z) * c, "right")
    wire(axes, (8.3 + RADIUS, TOP), (9.4 - RADIUS, TOP), color=BLUE, width=2.5)
    column(axes, 8.85, TOP, "z * h", z * h)
    node(axes, 8.3, TOP, "×")
    wire(axes, (9.4 + RADIUS, TOP), (10.9, TOP), color=BLUE, width=2.5)
    column(axes, 10.3, TOP, "new memory h'", new)
    node(axes, 9.4, TOP, "+")
    return axes.figure


def _resets_after(explanation):
    return any(step.name == "h_c" for step in explanation.steps)


def _gru_inputs(axes, explanation):
    """x from the left and h from above flow together into the bus; h runs along the top, too."""
    wire(axes, (0.3, TOP), (8.3 - RADIUS, TOP), color=BLUE, width=2.5)
    column(axes, 0.8, TOP, "memory h", explanation["h"])
    wire(axes, (1.3, TOP), (1.3, BUS), (8.3, BUS), arrow=False)
    dot(axes, 1.3, TOP, BLUE)
    end = BUS + 0.35 if _resets_after(explanation) else MIDDLE - RADIUS
    wire(axes, (0.3, 0.8), (5.7, 0.8), (5.7, end))
    column(axes, 0.7, 0.8, "input x", explanation["x"])
    wire(axes, (1.9, 0.8), (1.9, BUS))
    dot(axes, 1.9, 0.8)
    dot(axes, 1.9, BUS)
    words(axes, 2.05, BUS + 0.13, "x and h", 8.5, ha="left", color=GREY)


def _gru_idea(axes, explanation):
    """The new idea c: a tanh of x and of what r lets through of h."""
    r = explanation["r"]
    wire(axes, (2.9, BUS + 2.05), (2.9, MIDDLE), (3.93, MIDDLE), color=ORANGE)
    column(axes, 2.9, 3.85, "r", r, "right")
    dot(axes, 4.1, TOP, BLUE)
    if _resets_after(explanation):
        wire(axes, (4.1, TOP), (4.1, 6.02))
        wire(axes, (4.1, 5.85), (4.1, MIDDLE + RADIUS))
        node(axes, 4.1, 5.85, "Σ")
        column(axes, 4.1, 5.2, "h_c", explanation["h_c"], "right")
        name, passed, joint = "r * h_c", r * explanation["h_c"], "+"
        node(axes, 5.7, BUS + 0.52, "Σ")
        wire(axes, (5.7, BUS + 0.69), (5.7, MIDDLE - RADIUS))
        column(axes, 5.7, 2.9, "x_c", explanation["x_c"], "right")
    else:
        wire(axes, (4.1, TOP), (4.1, MIDDLE + RADIUS))
        column(axes, 4.1, 5.5, "h", explanation["h"], "right")
        name, passed, joint = "r * h", explanation["r*h"], "Σ"
        column(axes, 5.7, 2.9, "x", explanation["x"], "right")
    node(axes, 4.1, MIDDLE, "×")
    wire(axes, (4.1 + RADIUS, MIDDLE), (5.7 - RADIUS, MIDDLE))
    column(axes, 5.05, MIDDLE, name, passed)
    node(axes, 5.7, MIDDLE, joint)
    wire(axes, (5.7 + RADIUS, MIDDLE), (6.58, MIDDLE))
    column(axes, 6.2, MIDDLE, "sum_c", explanation["sum_c"])
    box(axes, 7.0, MIDDLE, "tanh", pale(SKY))
    words(axes, 7.0, MIDDLE - 0.35, "the new idea c", color=GREY)


def lstm_cell(explanation):
    """Draws the long short-term memory cell.

    Args:
      explanation: an `Explanation` of `explain.lstm_cell`.

    Returns:
      The `Figure`, 12.4 inches wide.
    """
    c, new_c, new_h = (explanation[name] for name in ("c", "c'", "h'"))
    i, f, g, o = (explanation[name] for name in "ifgo")
    axes = canvas(12.4, TOP + 0.75 + len(column_lines(c, "c")) * LINE, explanation.title)
    _legend(axes, "×  +")
    _lstm_inputs(axes, explanation)
    gates = {
        "f": "forget gate f:\nwhat is kept",
        "i": "input gate i:\nwhat comes in",
        "g": "the idea g",
        "o": "output gate o:\nwhat is shown",
    }
    places = {"f": 2.7, "i": 4.8, "g": 6.7, "o": 8.7}
    for name, meaning in gates.items():
        _gate(axes, places[name], explanation, name, meaning, "tanh" if name == "g" else "sigmoid")
    out, blue = BUS + 2.05, {"color": BLUE, "width": 2.5}
    wire(axes, (0.3, TOP), (2.7 - RADIUS, TOP), **blue)
    column(axes, 0.85, TOP, "long memory c", c)
    wire(axes, (2.7, out), (2.7, TOP - RADIUS), color=ORANGE)
    column(axes, 2.7, 4.8, "f", f, "right")
    node(axes, 2.7, TOP, "×")
    wire(axes, (2.7 + RADIUS, TOP), (5.75 - RADIUS, TOP), **blue)
    column(axes, 4.2, TOP, "f * c", f * c)
    wire(axes, (4.8, out), (4.8, MIDDLE), (5.75 - RADIUS, MIDDLE), color=ORANGE)
    column(axes, 4.8, 3.85, "i", i, "right")
    wire(axes, (6.7, out), (6.7, MIDDLE), (5.75 + RADIUS, MIDDLE))
    column(axes, 6.7, 3.85, "g", g, "right")
    node(axes, 5.75, MIDDLE, "×")
    wire(axes, (5.75, MIDDLE + RADIUS), (5.75, TOP - RADIUS))
    column(axes, 5.75, 5.5, "i * g", i * g, "right")
    wire(axes, (5.75 + RADIUS, TOP), (12.1, TOP), **blue)
    node(axes, 5.75, TOP, "+")
    column(axes, 11.3, TOP, "new long memory c'", new_c)
    dot(axes, 9.8, TOP, BLUE)
    wire(axes, (9.8, TOP), (9.8, 5.9))
    wire(axes, (9.8, 5.5), (9.8, MIDDLE + RADIUS))
    box(axes, 9.8, 5.7, "tanh", pale(SKY))
    column(axes, 9.8, 5.08, "tanh(c')", np.tanh(new_c), "right")
    wire(axes, (8.7, out), (8.7, MIDDLE), (9.8 - RADIUS, MIDDLE), color=ORANGE)
    column(axes, 8.7, 3.85, "o", o, "right")
    wire(axes, (9.8 + RADIUS, MIDDLE), (12.1, MIDDLE), **blue)
    node(axes, 9.8, MIDDLE, "×")
    column(axes, 11.4, MIDDLE, "new short memory h'", new_h)
    return axes.figure


def _lstm_inputs(axes, explanation):
    """h from the left and x from above flow together into the bus."""
    wire(axes, (0.3, BUS), (8.7, BUS), arrow=False)
    column(axes, 0.75, BUS, "short memory h", explanation["h"])
    wire(axes, (0.3, 2.7), (1.4, 2.7), (1.4, BUS))
    column(axes, 0.75, 2.7, "input x", explanation["x"])
    dot(axes, 1.4, BUS)
    words(axes, 1.55, BUS + 0.13, "x and h", 8.5, ha="left", color=GREY)


def unfold(explanation):
    """Draws the same cell once for each moment, and the memory that goes from one to the next.

    Args:
      explanation: an `Explanation` of `explain.unfold`.

    Returns:
      The `Figure`. Of a long sequence the first 8 moments are drawn.
    """
    steps = {step.name: step.value for step in explanation.steps}
    x, names = steps["x"], ["c", "h"] if "c0" in steps else ["h"]
    n, gap = min(len(x), MOST_MOMENTS), 1.4
    tall = 0.7 + 0.9 * (len(names) - 1)
    below = 0.55 + len(column_lines(x[0], "x")) * LINE
    base = 0.25 + below
    axes = canvas(max(2.4 + n * gap, 7.5), base + tall + 1.9, explanation.title)
    wires = {name: base + tall - 0.35 - 0.9 * k for k, name in enumerate(names)}
    for t in range(n + 1):
        start, end = (0.3 if t == 0 else 0.55 + t * gap), 1.25 + t * gap
        for name, y in wires.items():
            column(axes, (start + end) / 2, y, f"{name}{t}", steps[f"{name}{t}"])
            wire(axes, (start, y), (end, y), color=BLUE, width=2.5)
    for t in range(n):
        centre = 1.6 + t * gap
        wire(axes, (centre, base - 0.45), (centre, base))
        wire(axes, (centre, base + tall), (centre, base + tall + 0.45))
        words(axes, centre, base + tall + 0.57, f"h{t + 1}")
        box(axes, centre, base + tall / 2, "cell", pale(ORANGE), 0.7, tall)
        column(axes, centre, base - 0.4, f"x[{t}]", x[t], "below")
    if len(x) > n:
        words(axes, 1.45 + n * gap, base + tall - 0.35, "...", 14, ha="left")
    text = "The same cell, with the same weights, at every moment. "
    text += "Its memory h is also what it puts out (upwards)."
    text += f"\n{more(n, len(x), 'moments')}" * (len(x) > n)
    words(axes, 0.25, base + tall + 1.2, text, ha="left")
    return axes.figure
