"""The calculations as pictures, with the numbers on the wires.

A network is often drawn as circles and arrows, without saying what they do. Here each arrow carries
its number: what goes in, what it is multiplied by, what comes out; so the picture can be checked
with a pencil, like the page that `Explanation` prints.

Conventions: the unit of all coordinates is the inch, (0, 0) is the corner at the lower left.
Numbers are shortened to three digits, and 0.999… is one that is not quite 1. Blue is above 0,
orange is below. Of a large layer the first numbers are drawn, and a line says how many more there
are; sums are always those of all numbers. Each function takes an `Explanation` and returns a
`matplotlib.figure.Figure`; `Explanation.draw` calls it and saves it. No display is needed, and
pyplot's list of open figures is not touched.

What this file does not do: it computes nothing; GRU, LSTM, unfolding, and the paper and pencil that
all drawings use are in `cell_drawings.py`.
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from keras_music.explain.cell_drawings import (
    GREEN,
    LINE,
    PURPLE,
    RED,
    SKY,
    box,
    canvas,
    dot,
    gru_cell,
    lstm_cell,
    more,
    node,
    pale,
    short,
    unfold,
    wire,
    words,
)
from keras_music.plots import BLUE, GREY, ORANGE, Picture

__all__ = [
    "attention_head",
    "dense",
    "embedding",
    "gru_cell",
    "lstm_cell",
    "rnn_cell",
    "softmax_cross_entropy",
    "unfold",
]

MOST_INPUTS, MOST_UNITS = 6, 4
MOST_MEMORIES = 4  # and as many inputs beside them
INPUT_GAP, GROUP_GAP = 0.7, 1.35  # inches, from one input to the next, from a group to the next
LABEL = 0.78  # of the way along a wire stands its weight
WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # behind words on a wire
MOST_ROWS, MOST_COLUMNS = 8, 6  # of a table of numbers
CELL_WIDTH, CELL_HEIGHT = 0.66, 0.34  # inches, of a number in a table
COLORS = LinearSegmentedColormap.from_list("signs", [ORANGE, "white", BLUE])
CURVES = {  # formula of the step -> what its box is called, and the curve
    "sum": ("as it is", lambda x: x),
    "1 / (1 + exp(-sum))": ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    "tanh(sum)": ("tanh", np.tanh),
    "max(sum, 0)": ("ReLU", lambda x: np.maximum(x, 0)),
    "sum / (1 + exp(-sum))": ("SiLU", lambda x: x / (1 + np.exp(-x))),
}


def _grid(axes, left, top, values, largest, hidden=None, writes=short):
    """A table of numbers, coloured by sign and size; hidden ones are hatched. Its bottom."""
    for i, row in enumerate(values):
        for j, value in enumerate(row):
            is_hidden = hidden is not None and hidden[i, j]
            x, y = left + j * CELL_WIDTH, top - (i + 1) * CELL_HEIGHT
            face = "white" if is_hidden else COLORS(0.5 + 0.3 * value / largest)
            axes.add_patch(
                Rectangle(
                    (x, y),
                    CELL_WIDTH,
                    CELL_HEIGHT,
                    facecolor=face,
                    edgecolor="#bbbbbb",
                    hatch="////" if is_hidden else None,
                    linewidth=0.8,
                )
            )
            if not is_hidden:
                text = writes(value)
                size = 9 if len(text) < 9 else 8
                words(axes, x + CELL_WIDTH / 2, y + CELL_HEIGHT / 2, text, size)
    return top - len(values) * CELL_HEIGHT


def _largest(*arrays):
    return max(np.max(np.abs(a), initial=0.0) for a in arrays) or 1.0


def embedding(explanation):
    """Draws the table, and arrows from its rows to where the ids put them.

    Args:
      explanation: an `Explanation` of `explain.embedding`.

    Returns:
      The `Figure`. Of a large table, the rows that are looked up are drawn before others.
    """
    table, ids = explanation["table"], explanation["ids"].astype(int)
    shown_ids = ids[:MOST_ROWS]
    rows = list(dict.fromkeys(int(i) for i in shown_ids))
    rows += [row for row in range(len(table)) if row not in rows]
    rows = sorted(rows[:MOST_ROWS])
    columns = min(table.shape[1], MOST_COLUMNS)
    wide = columns * CELL_WIDTH
    tall = max(len(rows), len(shown_ids)) * CELL_HEIGHT
    space = 0.3 + 0.075 * len(f"moment 7: id {ids.max()}")  # for the names at the right
    width, height = wide + 3.5 + space + max(wide, 2.0), tall + 1.9
    axes = canvas(width, height, explanation.title)
    left, right, top = 1.2, wide + 2.9 + space, height - 1.1
    largest = _largest(table[rows])
    _grid(axes, left, top, table[rows, :columns], largest)
    _grid(axes, right, top, table[shown_ids, :columns], largest)
    words(axes, left, top + 0.2, "the table: a row for each token", ha="left")
    words(axes, right, top + 0.2, "the output: a row for each moment", ha="left")
    _look_ups(axes, rows, shown_ids, left, wide, right, top, space)
    bottom = top - tall - 0.2
    words(axes, left, bottom, more(len(rows), len(table), "tokens"), ha="left", color=GREY)
    words(axes, right, bottom, more(len(shown_ids), len(ids), "moments"), ha="left", color=GREY)
    text = f"blue: above 0, orange: below 0.  {more(columns, table.shape[1], 'numbers a row')}"
    words(axes, 0.25, 0.25, text, 8.5, ha="left", color=GREY)
    return axes.figure


def _look_ups(axes, rows, ids, left, wide, right, top, space):
    """Names, frames and arrows, in one colour for each token that is looked up."""
    palette = [GREEN, RED, PURPLE, SKY, GREY, BLUE, ORANGE, "black"]
    colors = {int(i): palette[k] for k, i in enumerate(dict.fromkeys(ids.tolist()))}

    def frame(x, y, color):
        style = {"facecolor": "none", "edgecolor": color, "linewidth": 2, "zorder": 3}
        size = (wide - 0.04, CELL_HEIGHT - 0.04)  # frames of neighbours do not touch
        axes.add_patch(Rectangle((x + 0.02, y - CELL_HEIGHT + 0.02), *size, **style))

    for k, row in enumerate(rows):
        y = top - k * CELL_HEIGHT
        words(axes, left - 0.1, y - CELL_HEIGHT / 2, f"token {row}", ha="right")
        if row in colors:
            frame(left, y, colors[row])
    for k, i in enumerate(ids.tolist()):
        y = top - k * CELL_HEIGHT
        start = (left + wide + 0.05, top - (rows.index(i) + 0.5) * CELL_HEIGHT)
        words(axes, right - 0.1, y - CELL_HEIGHT / 2, f"moment {k}: id {i}", ha="right")
        wire(axes, start, (right - space, y - CELL_HEIGHT / 2), color=colors[i], bridges=False)
        frame(right, y, colors[i])


def dense(explanation):
    """Draws inputs, weights, sums, activation and outputs of a dense layer.

    Args:
      explanation: an `Explanation` of `explain.dense`.

    Returns:
      The `Figure`.
    """
    groups = [("input x", "inputs", SKY, explanation["x"], explanation["kernel"], MOST_INPUTS)]
    return _network(explanation, groups, "output")


def rnn_cell(explanation):
    """Draws the same for a cell with a memory: it reads x and h, and its output comes back as h.

    Args:
      explanation: an `Explanation` of `explain.rnn_cell`.

    Returns:
      The `Figure`.
    """
    x, h, kernel, recurrent = (explanation[n] for n in ("x", "h", "kernel", "recurrent_kernel"))
    groups = [
        ("input x", "inputs", SKY, x, kernel, MOST_MEMORIES),
        ("memory h", "memories", PURPLE, h, recurrent, MOST_MEMORIES),
    ]
    return _network(explanation, groups, "h'")


def _network(explanation, groups, output):
    """Groups of inputs: (name, plural, colour, values, kernel, how many of them to draw)."""
    steps = {step.name: step for step in explanation.steps}
    has_memory = len(groups) > 1
    num_units = min(len(steps["sum"].value), MOST_UNITS)
    # As many labels as inputs stand on the wires to a unit, and must not reach the next unit's.
    span = sum(min(len(g[3]), g[5]) - 1 for g in groups) * INPUT_GAP + has_memory * GROUP_GAP
    unit_gap = max(1.2, ((1 - LABEL) * span + 1.3 * LINE) / LABEL)
    right = (num_units - 1) * unit_gap
    tall = max(span, right)
    bottom = 1.15 + 0.55 * has_memory
    axes = canvas(10.2, bottom + tall + 1.75, explanation.title)
    inputs = _inputs(axes, groups, bottom + (tall + span) / 2)
    centres = [bottom + (tall + right) / 2 - k * unit_gap for k in range(num_units)]
    largest = _largest(*(g[4][: g[5], :num_units] for g in groups))
    for unit, centre in enumerate(centres):
        for y, weights in inputs:
            _weight(axes, (1.3, y), (5.2, centre), weights[unit], largest)
        _unit(axes, centre, steps, output, unit)
    heading = {"h'": "new memory h'"}.get(output, output)
    for x, text in ((3.2, "weights"), (5.5, "sum"), (7.2, "activation"), (8.9, heading)):
        words(axes, x, bottom + tall + 0.95, text, 10, fontweight="bold")
    sums = steps["sum"].value
    rest = more(num_units, len(sums), "units")
    words(axes, 5.5, centres[-1] - 0.55, rest, 8.5)
    if has_memory:
        memories = [y for y, weights in inputs][-min(len(groups[1][3]), MOST_MEMORIES) :]
        _come_back(axes, centres, memories)
    is_cut = num_units < len(sums) or any(len(g[3]) > g[5] for g in groups)
    text = "Blue: weights above 0, orange: below 0; the thicker, the larger."
    text += "   The sums count what is not drawn, too." if is_cut else ""
    words(axes, 0.25, 0.25, text, 8.5, ha="left", color=GREY)
    return axes.figure


def _inputs(axes, groups, y):
    """The circles at the left from y downwards: [(y, weights)] of each that is drawn."""
    inputs = []
    for name, plural, color, values, kernel, most in groups:
        words(axes, 0.7, y + 0.5, name, 10, ha="left", fontweight="bold")
        for value, weights in zip(values[:most], kernel, strict=False):
            node(axes, 1.0, y, short(value), pale(color), 0.3, 9)
            inputs.append((y, weights))
            y -= INPUT_GAP
        words(axes, 0.7, y + 0.3, more(most, len(values), plural), 8.5, ha="left", bbox=WHITE)
        y -= GROUP_GAP - INPUT_GAP
    return inputs


def _come_back(axes, centres, memories):
    """From the outputs at the right, below everything, to the memory's circles at the left."""
    style = {"color": PURPLE, "dashed": True}
    corners = ((9.85, centres[0]), (9.85, 0.65), (0.3, 0.65), (0.3, memories[0]))
    wire(axes, *corners, arrow=False, **style)
    for y in centres:
        wire(axes, (9.6, y), (9.85, y), arrow=False, **style)
        dot(axes, 9.85, y, PURPLE)
    for y in memories:
        wire(axes, (0.3, y), (0.7, y), **style)
        dot(axes, 0.3, y, PURPLE)
    words(axes, 5.5, 0.8, "at the next moment, h' is the memory h")


def _weight(axes, start, end, weight, largest):
    """A wire, its weight written on it near its end, where wires to one unit are side by side."""
    color = GREY if weight == 0 else BLUE if weight > 0 else ORANGE
    axes.plot(
        *zip(start, end, strict=True),
        color=color,
        linewidth=0.8 + 3 * abs(weight) / largest,
        linestyle=":" if weight == 0 else "-",
        zorder=1,
    )
    x, y = (s + LABEL * (e - s) for s, e in zip(start, end, strict=True))
    words(axes, x, y, short(weight), bbox=WHITE)


def _unit(axes, y, steps, output, unit):
    """A unit: the sum, the box with the curve, the way to the output."""
    name, curve = CURVES[steps[output].formula]
    if "bias" in steps:
        wire(axes, (5.5, y + 0.58), (5.5, y + 0.33))
        words(axes, 5.58, y + 0.5, f"bias {short(steps['bias'].value[unit])}", 8.5, ha="left")
    wire(axes, (5.8, y), (6.75, y))
    node(axes, 5.5, y, short(steps["sum"].value[unit]), "white", 0.32, 9)
    box(axes, 7.2, y, "", width=0.9, height=0.8)
    words(axes, 7.2, y + 0.27, name, 8.5)
    x = np.linspace(-3, 3, 61)
    bent = curve(x) / max(curve(x).max(), 1.0)
    axes.plot(7.2 + 0.13 * x, y - 0.1 + 0.22 * bent, color=BLUE, zorder=5)
    wire(axes, (7.65, y), (8.55, y))
    words(axes, 8.65, y, short(steps[output].value[unit]), 11, ha="left", fontweight="bold")


def softmax_cross_entropy(explanation):
    """Draws scores, their powers and the probabilities as bars; the class that came is orange.

    Args:
      explanation: an `Explanation` of `explain.softmax_cross_entropy`.

    Returns:
      The `Figure`. Of many classes, those with the highest scores are drawn, and the one that came.
    """
    logits, target = explanation["logits"], int(explanation["target"])
    shown = [target, *(int(k) for k in np.argsort(-logits, kind="stable") if k != target)]
    shown = sorted(shown[:MOST_ROWS])
    size = (10, 1.7 + 0.36 * len(shown))
    figure = Picture(figsize=size, facecolor="white", layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.1)
    largest = short(logits.max())
    panels = {
        "logits": "1. logits: any scores",
        "powers": f"2. powers: exp(logit - {largest if largest[0] != '-' else f'({largest})'})",
        "probabilities": f"3. probabilities: power / {short(explanation['total'])}",
    }
    colors = [ORANGE if k == target else BLUE for k in shown]
    for axes, (name, title) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        _bars(axes, explanation[name][shown], colors)
        axes.set_title(title, fontsize=10)
    names = [f"class {k}{' came' * (k == target)}" for k in shown]
    figure.axes[0].set_yticks(range(len(shown)), names, fontsize=9)
    figure.suptitle(explanation.title, x=0.02, ha="left", fontsize=12, parse_math=False)
    probability, loss = explanation["probabilities"][target], explanation["loss"]
    caption = f"loss = -ln({short(probability)}) = {short(loss)} nats"
    caption += f": the surprise at class {target}"
    rest = more(len(shown), len(logits), "classes with lower scores")
    figure.supxlabel(caption + f"\n{rest}" * bool(rest), fontsize=10, parse_math=False)
    return figure


def _bars(axes, values, colors):
    """Horizontal bars, the first at the top, each with its number at its end."""
    axes.barh(range(len(values)), values, 0.7, color=colors)
    for place, value in enumerate(values):
        axes.annotate(
            short(value),
            (value, place),
            (3 if value >= 0 else -3, 0),
            textcoords="offset points",
            va="center",
            ha="left" if value >= 0 else "right",
            fontsize=9,
            parse_math=False,
        )
    low, high = min(values.min(), 0), max(values.max(), 0)
    room = 0.28 * (high - low or 1)
    axes.set(xlim=(low - room * (low < 0), high + room), ylim=(len(values) - 0.4, -0.6))
    axes.set(xticks=[], yticks=[])
    axes.axvline(0, color=GREY, linewidth=1)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _share(value):
    """A weight of attention: a tiny one is no power of ten here, but nearly nothing."""
    return "0.000…" if 0 < value < 0.0005 else short(value)


def attention_head(explanation):
    """Draws who looks at whom, and what each moment gets.

    Args:
      explanation: an `Explanation` of `explain.attention_head`.

    Returns:
      The `Figure`.
    """
    weights, values, output = (explanation[n] for n in ("weights", "values", "output"))
    steps = {step.name: step.value for step in explanation.steps}
    n, m = min(len(weights), MOST_ROWS), min(values.shape[1], 3)
    hidden = np.isneginf(steps["seen"])[:n, :n] if "seen" in steps else None
    width = 1.6 + n * CELL_WIDTH + 2 * (m * CELL_WIDTH + 0.9) + 0.3
    axes = canvas(max(width, 7.5), n * CELL_HEIGHT + 2.3, explanation.title)
    top, left = n * CELL_HEIGHT + 0.9, 1.6
    bottom = _grid(axes, left, top, weights[:n, :n], 1.0, hidden, _share)
    for k in range(n):
        words(axes, left + (k + 0.5) * CELL_WIDTH, top + 0.15, f"at {k}")
        words(axes, left - 0.1, top - (k + 0.5) * CELL_HEIGHT, f"moment {k} looks", ha="right")
    x, bold = left + n * CELL_WIDTH, {"ha": "left", "fontweight": "bold"}
    words(axes, left, top + 0.42, "weights", 10, **bold)
    largest = _largest(values[:n, :m], output[:n, :m])
    for sign, name, array in (("×", "values", values), ("=", "output", output)):
        words(axes, x + 0.3, (top + bottom) / 2, sign, 16)
        x += 0.9
        words(axes, x, top + 0.42, name, 10, **bold)
        _grid(axes, x, top, array[:n, :m], largest)
        for k in range(n):
            words(axes, x - 0.08, top - (k + 0.5) * CELL_HEIGHT, str(k), ha="right", color=GREY)
        x += m * CELL_WIDTH
    rest = [more(n, len(weights), "moments"), more(m, values.shape[1], "numbers a moment")]
    words(axes, left, bottom - 0.22, "   ".join(filter(None, rest)), ha="left", color=GREY)
    count = f" (all {len(weights)} of it)" if n < len(weights) else ""
    text = f"Each row of weights{count} sums to 1: the shares in which it mixes the values."
    text += "  Hatched: it lies ahead." if hidden is not None else ""
    words(axes, 0.25, 0.25, text, 8.5, ha="left", color=GREY)
    return axes.figure
