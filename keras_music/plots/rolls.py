"""A piece as a piano roll, alone or above its sound.

A *piano roll* is the score of a machine, after the punched paper of player pianos: time runs to
the right, pitch upwards, and each note is a bar from the moment it starts to the moment it ends.
Repetitions, phrases and the seam between a prompt and its continuation can be seen in it at a
glance. The *spectrogram* below it says which frequencies sound: a note is a line at its own and
lines at multiples of it, its overtones.

Conventions: those of `keras_music.plots`.

What this file does not do: no staff notation, no sound.
"""

from __future__ import annotations

import math

import numpy as np
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from keras_music.midi import check_piece
from keras_music.plots.figures import BLUE, GREY, ORANGE, Picture, finish, saved

MIN_SEMITONES = 14  # the least that is shown, so that there is always a C to name
ROLL_INCHES_PER_SECOND = 0.25
NOTE_HEIGHT = 0.85  # of a semitone
SOUND_INCHES = 3.4  # the height of a spectrogram
SOUND_DECIBELS = 60  # below the loudest, where it is black
GAP_INCHES = 0.025  # between a note and its repetition, which would look like one long note


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
    finish(axes, piece.name if title is None else title, handles if len(handles) > 1 else None)
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
