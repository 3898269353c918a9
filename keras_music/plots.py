"""Pictures: a piece as a piano roll, alone or above its sound, and a training run's learning curve.

A *piano roll* is the score of a machine, after the punched paper of player pianos: time runs to
the right, pitch upwards, and each note is a bar from the moment it starts to the moment it ends.
Repetitions, phrases and the seam between a prompt and its continuation can be seen in it at a
glance. The *spectrogram* below it says which frequencies sound: a note is a line at its own and
lines at multiples of it, its overtones.

A *learning curve* shows the loss after each epoch, on the data trained on and on the data held
out. The loss is in **nats per token**: the mean of -ln(probability given to the token that came).
A model that knows nothing has ln(vocabulary size); exp(loss) is how many equally likely tokens
the model hesitates between. Where the held-out curve turns upwards, memorising begins.

Conventions: time is in seconds, pitch is the MIDI number (60 = middle C = C4). Colours are from
Okabe and Ito's palette, which colour-blind readers can tell apart, also in print without colours.
Each function returns a `matplotlib.figure.Figure`, which a notebook shows when it is the last
line of a cell; `path=` saves it as a PNG file as well. No display is needed, and pyplot's list
of open figures is not touched, so a thousand pictures need not be closed.

What this file does not do: no interaction, no staff notation, no video.

References: M. Okabe and K. Ito, Color Universal Design (2008).
"""

from __future__ import annotations

import io
import math
import textwrap

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from keras_music.midi import check_piece, write_atomically

BLUE, ORANGE = "#0072B2", "#E69F00"
GREY = "#595959"
DOTS_PER_INCH = 150  # of saved files
MIN_SEMITONES = 14  # the least that is shown, so that there is always a C to name
ROLL_INCHES_PER_SECOND = 0.25
NOTE_HEIGHT = 0.85  # of a semitone
SOUND_INCHES = 3.4  # the height of a spectrogram
SOUND_DECIBELS = 60  # below the loudest, where it is black
GAP_INCHES = 0.025  # between a note and its repetition, which would look like one long note


class Picture(Figure):
    """A Figure that a notebook shows even if nothing in it has imported pyplot."""

    def _repr_png_(self):
        return _png_bytes(self, dpi=100)


def piano_roll(piece, path=None, prompt_end=None, title=None) -> Figure:
    """Draws a piece: time to the right, pitch upwards, the louder the note the darker.

    Notes that begin before `prompt_end` are blue and labelled "prompt", those after it orange
    and labelled "continuation". Drums are crosses: their number is an instrument, no pitch.

    Args:
      piece: a `Piece` with at least one note.
      path: where to save it as a PNG file, whole or not at all; default: it is not saved.
      prompt_end: in seconds, >= 0: where the continuation begins; default: one colour for all.
      title: a line above the picture; default: the piece's name.

    Returns:
      The `Figure`, from 6 to 18 inches wide, growing with the length.

    Raises:
      OSError: `path` cannot be written to; the sentence says what to do.
      ValueError: the piece has no notes, or `prompt_end` is negative.

    Example:
      >>> from keras_music.midi import Piece
      >>> piece = Piece([{"pitch": 60, "start": 0.0, "end": 1.0}])
      >>> piano_roll(piece, prompt_end=0.5).axes[0].get_xlabel()
      'time (seconds)'
    """
    check_piece(piece, needs_notes=True)
    _check_prompt_end(prompt_end)
    seconds = max(piece.duration, prompt_end or 0.0) or 1.0
    figure = _draw_roll(piece, prompt_end, title, seconds)
    figure.axes[0].set_xlabel("time (seconds)")
    return saved(figure, path)


def roll_and_spectrogram(
    piece,
    mel,
    path=None,
    prompt_end=None,
    title=None,
    *,
    sample_rate=44100,
    frame_length=4096,
    frame_step=1024,
    lowest_hz=27.5,
    highest_hz=8000.0,
) -> Figure:
    """Draws a piece and below it its sound, on one time axis: the louder the brighter.

    What is 60 decibels below the loudest, a thousandth of it, is black.

    Args:
      piece: a `Piece` with at least one note.
      mel: what `audio.mel_spectrogram(audio.render(piece))` returns: magnitudes >= 0 of shape
        `(frames, num_mels)`, that last as long as the piece or longer.
      path, prompt_end, title: as in `piano_roll`.
      sample_rate, frame_length, frame_step, lowest_hz, highest_hz: as they were given to
        `audio.mel_spectrogram`, which has the same defaults.

    Returns:
      The `Figure`, 3.4 inches higher than `piano_roll`'s.

    Raises:
      OSError: `path` cannot be written to; the sentence says what to do.
      ValueError: the piece has no notes, `prompt_end` is negative, or `mel` is not what is asked
        for above.

    Example:
      >>> from keras_music.midi import Piece
      >>> piece = Piece([{"pitch": 60, "start": 0.0, "end": 1.0}])
      >>> roll_and_spectrogram(piece, np.ones((88, 128))).axes[1].get_ylabel()
      'frequency (Hz)'
    """
    check_piece(piece, needs_notes=True)
    _check_prompt_end(prompt_end)
    mel = np.asarray(mel)
    sound_seconds = _check_mel(mel, frame_step / sample_rate, piece.duration)
    seconds = max(sound_seconds, prompt_end or 0.0)
    figure = _draw_roll(piece, prompt_end, title, seconds, [SOUND_INCHES])
    left = (frame_length - frame_step) / 2 / sample_rate  # of the column in the middle of frame 0
    _draw_mel(figure.axes[1], mel, (left, left + sound_seconds), (lowest_hz, highest_hz))
    return saved(figure, path)


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
    _finish(axes, title, handles)
    return saved(figure, path)


def _draw_roll(piece, prompt_end, title, seconds, more_heights=()):
    """A figure with the roll, and below it empty axes of other heights in inches."""
    low, high = _pitch_limits(piece.notes["pitch"])
    width = float(np.clip(2 + ROLL_INCHES_PER_SECOND * seconds, 6, 18))
    heights = [min(1.4 + 0.075 * (high - low), 7), *more_heights]
    figure = Picture(figsize=(width, sum(heights)), layout="constrained")
    figure.subplots(len(heights), sharex=True, height_ratios=heights)
    axes = figure.axes[0]
    axes.set(xlim=(0, seconds * 1.005), ylim=(low, high))
    handles = []
    gap = GAP_INCHES * seconds / width
    for label, color, notes in _parts(piece.notes, prompt_end):
        _draw_notes(axes, notes[~notes["is_drum"]], label, color, gap)
        _draw_drums(axes, notes[notes["is_drum"]], label, color)
        handles.append(Patch(color=color, label=label))
    if piece.notes["is_drum"].any():
        handles.append(Line2D([], [], marker="x", linestyle="none", color=GREY, label="drums"))
    if prompt_end is not None:
        axes.axvline(prompt_end, color=GREY, linestyle="--", linewidth=1)
    _name_octaves(axes, low, high)
    _finish(axes, piece.name if title is None else title, handles if len(handles) > 1 else None)
    return figure


def _draw_mel(axes, mel, seconds, hz):
    """`seconds`, `hz`: where the first column and band begin, and where the last ones end."""
    octaves = {i: 440 * 2 ** (i - 4.75) for i in range(3, 10)}  # the C's; lower ones have no room
    shown = {f"C{i}  {c:.0f}": c for i, c in octaves.items() if hz[0] <= c <= hz[1]}
    bottom, top, *ticks = 1127 * np.log1p(np.array([*hz, *shown.values()]) / 700)  # mel
    half = (top - bottom) / (mel.shape[1] + 1) / 2  # from the middle of a band to its row's edge
    floor = 10 ** (-SOUND_DECIBELS / 20)
    decibels = 20 * np.log10(np.maximum(mel / (mel.max() or 1), floor))
    extent = (*seconds, bottom + half, top - half)
    image = axes.imshow(decibels.T, "magma", aspect="auto", origin="lower", extent=extent)
    image.set_clim(-SOUND_DECIBELS, 0)
    axes.set_facecolor(image.cmap(0.0))  # before the middle of the first frame, after the last
    axes.set_yticks(ticks, shown)
    axes.set(ylim=(bottom, top), ylabel="frequency (Hz)", xlabel="time (seconds)")
    axes.figure.colorbar(image, ax=axes, label="decibels", pad=0.01)


def _parts(notes, prompt_end):
    """[(label, colour, notes)], in the order of the legend."""
    if prompt_end is None:
        return [("notes", BLUE, notes)]
    is_prompt = notes["start"] < prompt_end
    return [("prompt", BLUE, notes[is_prompt]), ("continuation", ORANGE, notes[~is_prompt])]


def _draw_notes(axes, notes, label, color, gap):
    """Adds one collection of rectangles, for one call a note takes twenty times as long."""
    if not len(notes):
        return
    start, end = notes["start"].to_numpy(), notes["end"].to_numpy()
    end = end - np.minimum(0.25 * (end - start), gap)
    bottom = notes["pitch"].to_numpy() - NOTE_HEIGHT / 2
    top = bottom + NOTE_HEIGHT
    corners = np.stack([start, bottom, start, top, end, top, end, bottom], axis=1)
    colors = np.tile(to_rgba(color), (len(notes), 1))
    colors[:, 3] = 0.45 + 0.55 * notes["velocity"] / 127
    # The edges are there so that the shortest notes of a long piece can be seen.
    style = {"facecolors": colors, "edgecolors": colors, "linewidths": 0.3, "zorder": 2}
    bars = PolyCollection(corners.reshape(-1, 4, 2), label=label, **style)
    axes.add_collection(bars, autolim=False)


def _draw_drums(axes, notes, label, color):
    """Adds one collection of crosses, darker than the notes that they may stand on."""
    if len(notes):
        color = [0.55 * channel for channel in to_rgba(color)[:3]]
        style = {"marker": "x", "s": 16, "linewidths": 1.2, "zorder": 3, "clip_on": False}
        axes.scatter(notes["start"], notes["pitch"], color=color, label=f"{label}, drums", **style)


def _pitch_limits(pitches):
    """The lowest and highest pitch with a margin, at least 14 semitones apart.

    >>> _pitch_limits([60, 64])
    (55.0, 69.0)
    """
    low, high = min(pitches) - 2, max(pitches) + 2
    missing = max(MIN_SEMITONES - (high - low), 0)
    return float(low - missing / 2), float(high + missing / 2)


def _name_octaves(axes, low, high):
    """Names the C's, as musicians find their way on a keyboard."""
    octaves = [c for c in range(0, 128, 12) if low <= c <= high]
    axes.set_yticks(octaves, [f"C{c // 12 - 1}" for c in octaves])
    axes.set_ylabel("pitch")
    axes.grid(axis="y", color="#d9d9d9", linewidth=0.8)


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


def _finish(axes, title, handles):
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
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
    return buffer.getvalue()


def _check_prompt_end(prompt_end):
    if prompt_end is not None and not 0 <= prompt_end < math.inf:
        raise ValueError(
            f"`prompt_end` must be in seconds and >= 0. Received: prompt_end={prompt_end}. "
            "Use the prompt's duration, or leave it out."
        )


def _check_mel(mel, seconds_per_frame, duration):
    """How long the sound lasts, in seconds."""
    is_table = mel.dtype.kind == "f" and mel.ndim == 2 and mel.size
    if not is_table or not (mel.min() >= 0 and mel.max() < math.inf):  # so that NaN is caught too
        raise ValueError(
            "`mel` must be finite magnitudes >= 0 of shape (frames, num_mels). Received: "
            f"{mel.dtype} of shape {mel.shape}{f', from {mel.min():g}' if is_table else ''}. "
            "Make it with `audio.mel_spectrogram(wave)`, without `top_db`."
        )
    seconds = len(mel) * seconds_per_frame
    if not seconds >= duration:
        raise ValueError(
            "`mel` must last as long as the piece. "
            f"Received: {seconds:.1f} s of sound, {duration:.1f} s of music. "
            "Give the `sample_rate` and `frame_step` that it was made with."
        )
    return seconds


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
