"""What all pictures share: their colours, their frame, and how they are shown and saved.

A picture is read faster if it has less in it: no frame at the top and at the right, the legend
beside the data, a grid only where a value is to be read off. Blue and orange from Okabe and Ito's
palette differ in lightness, too, so that they can be told apart in any print and by any eye.

What this file does not do: it draws nothing.

References: M. Okabe and K. Ito, Color Universal Design (2008); E. Tufte, The Visual Display of
Quantitative Information (1983).
"""

from __future__ import annotations

import io
import textwrap

from matplotlib.figure import Figure

from keras_music.disk import write_atomically

BLUE, ORANGE = "#0072B2", "#E69F00"
GREY = "#595959"
DOTS_PER_INCH = 150  # of saved files


class Picture(Figure):
    """A Figure that a notebook shows even if nothing in it has imported pyplot."""

    def _repr_png_(self):
        return _png_bytes(self, dpi=100)


def finish(axes, title, handles):
    """The title at the left and the legend at the right, both above the data."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_axisbelow(True)
    inches = axes.figure.get_size_inches()[0]
    axes.set_title(textwrap.fill(title or "", int(9 * inches)), loc="left", parse_math=False)
    if handles:
        axes.figure.legend(
            handles=handles, loc="outside upper right", ncols=len(handles), frameon=False
        )


def saved(figure, path=None):
    """The figure; if there is a path, it is now there as a PNG file, too, whole or not at all."""
    if path is not None:
        write_atomically(path, _png_bytes(figure, DOTS_PER_INCH))
    return figure


def _png_bytes(figure, dpi):
    buffer = io.BytesIO()
    made_by = {"Software": "keras_music"}
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata=made_by)
    return buffer.getvalue()
