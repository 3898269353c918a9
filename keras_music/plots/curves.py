"""A learning curve: the loss after each epoch.

It is drawn for the data trained on and for the data held out. The loss is in **nats per token**:
the mean of -ln(probability given to the token that came). A model that knows nothing has
ln(vocabulary size); exp(loss) is how many equally likely tokens the model hesitates between. Where
the held-out curve turns upwards, memorising begins.

Conventions: those of `keras_music.plots`.

What this file does not do: it trains nothing, and it smooths nothing.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_music.plots.figures import BLUE, GREY, ORANGE, Picture, finish, saved


def learning_curve(history, path=None, baselines=None, title=None) -> Figure:
    """Draws the loss after each epoch, and the losses to beat as horizontal lines.

    The lowest validation loss is marked with its value and epoch.

    Args:
      history: what `model.fit` returns, or its `.history`: a dict with `"loss"` and, if there is
        one, `"val_loss"`; lists with one number an epoch, in nats per token.
      path: where to save it as a PNG file, whole or not at all; default: it is not saved.
      baselines: dict of name -> nats per token, such as `{"uniform": 5.96, "bigram": 2.7}`.
      title: a line above the picture; default: none.

    Returns:
      The `Figure`, 7 by 4.2 inches.

    Raises:
      OSError: `path` cannot be written to; the sentence says what to do.
      ValueError: there is no loss in `history`, or a baseline is not a finite number.

    Example:
      >>> figure = learning_curve({"loss": [2.0, 1.5], "val_loss": [2.1, 1.8]})
      >>> [line.get_label() for line in figure.axes[0].lines][:2]
      ['training', 'validation']
    """
    curves = _check_history(history)
    # `fit` counts epochs from 0, and a run that was resumed does not begin with the first.
    first = 1 + (getattr(history, "epoch", None) or [0])[0]
    baselines = _check_baselines(baselines)
    figure = Picture(figsize=(7, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for (label, losses), color in zip(curves.items(), (BLUE, ORANGE), strict=False):
        epochs = first + np.arange(len(losses))
        marker = "o" if len(losses) <= 30 else None
        axes.plot(epochs, losses, color=color, marker=marker, markersize=4, label=label)
    num_epochs = max(len(losses) for losses in curves.values())
    last = first + num_epochs - 1
    axes.set(xlim=(first - 0.3, last + max(0.02 * num_epochs, 0.3)), xlabel="epoch")
    axes.set_ylabel("loss (nats per token)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for value in baselines.values():
        axes.axhline(value, color=GREY, linestyle="--", linewidth=1, zorder=1)
    axes.margins(y=0.1)
    axes.autoscale_view(scalex=False)
    _name_baselines(axes, baselines)
    _mark_lowest(axes, curves.get("validation"), first)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
    handles = [line for line in axes.lines if not line.get_label().startswith("_")]
    finish(axes, title, handles)
    return saved(figure, path)


def _name_baselines(axes, baselines):
    """Writes the names at the right, pushed apart where the lines are close to each other."""
    low, high = axes.get_ylim()
    gap = 0.055 * (high - low)  # the height of a line of text
    names = sorted(baselines, key=baselines.get)
    heights = [baselines[name] for name in names]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    for name, height in zip(names, heights, strict=True):
        axes.annotate(
            f"{name} {baselines[name]:.2f}",
            (1.015, height),
            xycoords=axes.get_yaxis_transform(),
            va="center",
            color=GREY,
            annotation_clip=False,
            parse_math=False,
        )


def _mark_lowest(axes, losses, first):
    """Rings the lowest validation loss; its numbers go to the legend, where nothing overlaps."""
    if losses is None or not np.isfinite(losses).any():
        return
    best = int(np.nanargmin(losses))
    ring = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "linestyle": "none"}
    label = f"lowest: {losses[best]:.2f} at epoch {first + best}"
    axes.plot([first + best], [losses[best]], color=ORANGE, label=label, **ring)


def _check_history(history):
    """{"training": losses, "validation": losses}, as arrays."""
    history = getattr(history, "history", history)  # model.fit returns it wrapped
    if not isinstance(history, dict) or not len(history.get("loss", ())):
        received = list(history) if isinstance(history, dict) else type(history).__name__
        raise ValueError(
            '`history` must be a dict with a list "loss" of one number or more. '
            f"Received: {received}. Give what `model.fit` returns."
        )
    names = {"training": "loss", "validation": "val_loss"}
    return {
        label: np.asarray(history[name], dtype=np.float64)
        for label, name in names.items()
        if len(history.get(name, ()))
    }


def _check_baselines(baselines):
    baselines = {} if baselines is None else dict(baselines)
    baselines = {str(name): float(nats) for name, nats in baselines.items()}
    for name, nats in baselines.items():
        if not math.isfinite(nats):
            raise ValueError(
                "`baselines` must be finite numbers, in nats per token. "
                f"Received: {name}={nats}. Leave it out."
            )
    return baselines
