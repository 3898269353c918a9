"""A calculation on paper: named steps, each with its formula, its shape and its numbers.

What a layer computes is school arithmetic, and too much of it to see through. On small numbers it
can be written down line by line, as on a blackboard:

    1. sum = x @ kernel + bias    (units,) = (1,)    -7.5
           2·(-1) + 3·(-2) + 1·0.5 = -7.5

An `Explanation` is such a page. It prints itself in a terminal, shows itself as a table in a
notebook, and has been compared with the layer of Keras that it explains before anybody sees it.

Conventions: everything is float64 and without a batch axis: one example at a time. Axes are named
as Keras names them: `units` are the outputs of a layer, `features` its inputs.

What this file does not do: it computes nothing; the layers are in `layers.py` and `cells.py`.
"""

from __future__ import annotations

import dataclasses
import html
import sys
import textwrap

import numpy as np
import pandas as pd

TOLERANCE = 1e-6  # between our arithmetic and Keras', relative and absolute
MOST_NUMBERS = 12  # of one array that are printed in a row
MOST_TERMS = 8  # of a sum that is written out
MOST_SUMS = 4  # that are written out in one step


def number(value) -> str:
    """A number as one would write it: no noise in the last digits, and no 1 that is none.

    >>> number(0.1 + 0.2), number(-7.0), number(3e-9), number(np.tanh(-7.5))
    ('0.3', '-7', '3e-09', '-0.999999')
    """
    value = float(value)
    if not np.isfinite(value):
        return str(value)
    if abs(value - round(value)) < 1e-12:
        return str(round(value))
    if abs(value) < 1e-4:
        return f"{value:.3g}"
    texts = (f"{value:.{digits}f}".rstrip("0") for digits in range(6, 13))
    return next(text for text in texts if not text.endswith("."))


def plural(count, noun) -> str:
    """`1 unit`, `2 units`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def signed(value) -> str:
    """A factor inside a sum: a negative one stands in brackets."""
    text = number(value)
    return f"({text})" if text.startswith("-") else text


def sum_of_products(factors, weights, bias=None) -> str:
    """A weighted sum, written out.

    >>> sum_of_products([2, 3, 1], [-1, -2, 0.5])
    '2·(-1) + 3·(-2) + 1·0.5 = -7.5'
    """
    terms = [f"{signed(f)}·{signed(w)}" for f, w in zip(factors, weights, strict=True)]
    if len(terms) > MOST_TERMS:
        terms = [*terms[: MOST_TERMS - 1], f"... ({len(terms)} products)"]
    total = float(np.dot(factors, weights))
    if bias is not None:
        terms, total = [*terms, signed(bias)], total + float(bias)
    return f"{' + '.join(terms)} = {number(total)}"


def numbers(array) -> str:
    """All numbers of a small array, the first of a large one."""
    array = np.asarray(array)
    if array.ndim > 1:
        rows = [f"[{numbers(row)}]" for row in array[:MOST_NUMBERS]]
        return " ".join([*rows, "..."] if len(array) > MOST_NUMBERS else rows)
    texts = [number(v) for v in np.atleast_1d(array)[:MOST_NUMBERS]]
    return ", ".join([*texts, "..."] if array.size > MOST_NUMBERS else texts)


@dataclasses.dataclass(frozen=True)
class Step:
    """One line of the calculation.

    Attributes:
      name: what the result is called.
      formula: how it is computed; `"given"` for an input.
      value: float64 array.
      axes: tuple of str, a name for each axis of `value`.
      worked: list of str, the arithmetic written out, at most a few lines.
    """

    name: str
    formula: str
    value: np.ndarray
    axes: tuple = ()
    worked: tuple = ()

    @property
    def shape(self) -> str:
        if not self.axes:
            return "()"
        names = ", ".join(self.axes) + ("," if len(self.axes) == 1 else "")
        return f"({names}) = {self.value.shape}"


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """A calculation, step by step, that agrees with Keras.

    Attributes:
      title: what was computed.
      steps: tuple of `Step`, inputs first.
      result: float64 array, what the layer gives (or a tuple of them: output and states).
      layer: str, the layer of Keras that gives the same.
      difference: float, the largest absolute difference between the two.
    """

    title: str
    steps: tuple
    result: object
    layer: str
    difference: float
    picture: object = dataclasses.field(default=None, compare=False)

    def __getitem__(self, name) -> np.ndarray:
        """The value of the step of that name."""
        for step in self.steps:
            if step.name == name:
                return step.value
        names = ", ".join(step.name for step in self.steps)
        raise KeyError(f"There is no step {name!r} in this calculation. It has: {names}.")

    @property
    def table(self) -> pd.DataFrame:
        """One row a step: `step`, `formula`, `shape`, `value` (str), `worked` (str)."""
        rows = [
            (s.name, s.formula, s.shape, numbers(s.value), "\n".join(s.worked)) for s in self.steps
        ]
        return pd.DataFrame(rows, columns=["step", "formula", "shape", "value", "worked"])

    @property
    def text(self) -> str:
        """The calculation as plain text, as a terminal shows it."""
        width = max(len(f"{s.name} = {s.formula}") for s in self.steps)
        lines = [self.title, "-" * len(self.title)]
        for step in self.steps:
            lines.append(f"{f'{step.name} = {step.formula}':{width}}   {step.shape}")
            lines += _wrapped(numbers(step.value), "    ") if not step.worked else []
            lines += [line for work in step.worked for line in _wrapped(work, "    ")]
        return "\n".join([*lines, self._verdict()])

    def draw(self, path=None):
        """Draws the calculation; `path=` saves it as a PNG file, too.

        Returns:
          A `matplotlib.figure.Figure`, which a notebook shows when it is the last line of a cell.
        """
        from keras_music import plots

        return plots.saved(self.picture(self), path)

    def _verdict(self):
        return f"{self.layer} gives the same; largest difference: {self.difference:.1g}"

    def __repr__(self):
        return f"<{self.title}: {len(self.steps)} steps. {self._verdict()}>"

    def _repr_html_(self):
        cells = []
        for step in self.steps:
            shown = step.worked or (numbers(step.value),)
            worked = "<br>".join(html.escape(line) for line in shown)
            name, formula, shape = map(html.escape, (step.name, step.formula, step.shape))
            cells.append(
                f"<tr><td><b>{name}</b></td><td>{formula}</td><td>{shape}</td>"
                f'<td style="text-align: left">{worked}</td></tr>'
            )
        head = "".join(f"<th>{name}</th>" for name in ("step", "formula", "shape", "numbers"))
        return (
            f"<table><caption>{html.escape(self.title)}</caption><tr>{head}</tr>"
            f"{''.join(cells)}</table><p>{html.escape(self._verdict())}</p>"
        )


def _wrapped(text, indent):
    return textwrap.wrap(text, 96, initial_indent=indent, subsequent_indent=indent + "  ")


def explained(title, steps, result, layer, keras_result, picture, show) -> Explanation:
    """Compares with Keras, shows the calculation, returns it.

    Args:
      result: array or tuple of arrays; `keras_result`: the same, from the layer of Keras.
      picture: function of the `Explanation` that returns a Figure.
      show: bool, whether to print it (in a notebook: to show it as a table).

    Raises:
      ArithmeticError: the two differ, by more than `TOLERANCE`.
    """
    pairs = zip(_tuple(result), _tuple(keras_result), strict=True)
    pairs = [(np.asarray(ours), np.asarray(theirs, np.float64)) for ours, theirs in pairs]
    difference = max(float(np.max(np.abs(o - t), initial=0.0)) for o, t in pairs)
    if not all(np.allclose(o, t, rtol=TOLERANCE, atol=TOLERANCE) for o, t in pairs):
        raise ArithmeticError(
            f"The calculation and {layer} differ by {difference:.3g}. One of them is wrong; please "
            "report it, with the numbers that you gave."
        )
    explanation = Explanation(title, tuple(steps), result, layer, difference, picture)
    if show:
        _show(explanation)
    return explanation


def _tuple(values):
    return values if isinstance(values, tuple) else (values,)


def _show(explanation):
    """As a table in a notebook, as text anywhere else."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is not None and getattr(shell, "kernel", None) is not None:
        ipython.display.display(ipython.display.HTML(explanation._repr_html_()))
    else:
        print(explanation.text, end="\n\n")


def array(name, value, *axes, sizes=None) -> np.ndarray:
    """The value as a float64 array with one axis for each name in `axes`.

    `sizes` is a dict of the sizes that axes must have, by name; a new name is added to it, so that
    several arrays can be checked against each other.

    Raises:
      ValueError: it is no array of finite numbers, or has other axes or sizes.
    """
    try:
        result = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"`{name}` must be an array of numbers. Received: {name}={value!r}."
        ) from None
    wanted = ", ".join(axes) + ("," if len(axes) == 1 else "")
    if result.ndim != len(axes) or not result.size:
        raise ValueError(
            f"`{name}` must have the shape ({wanted}), and no axis may be empty. Received: "
            f"{name} with the shape {result.shape}."
        )
    if not np.isfinite(result).all():
        raise ValueError(f"`{name}` must be finite. Received: {name}={numbers(result)}.")
    for axis, size in zip(axes, result.shape, strict=True):
        known = (sizes if sizes is not None else {}).setdefault(axis, size)
        if known != size:
            raise ValueError(
                f"`{name}` must have the shape ({wanted}) with {axis} = {known}, as the arguments "
                f"before it say. Received: {name} with the shape {result.shape}."
            )
    return result
