"""What is in a corpus, and what was left out: pitches, lengths, tempos.

Three questions are worth a look before a model is trained on anybody's files. Which pitches are
there: a few notes far above all others are often drums that were not marked as such. How long are
the pieces: the shortest are ringtones and fragments, the longest have a forgotten key. How fast:
a peak at 120 is the tempo of files that say nothing about it. And how much was left out, and why.

Conventions: those of `keras_music.plots`. Kept files are blue, those left out orange, where their
length is known; the bar at the top has them all. Lengths stand on a logarithmic axis, because a
piece of ten seconds and one of a minute differ as much as one of ten minutes and one of an hour.

What this file does not do: it reads no files; it counts no drums among the pitches.
"""

from __future__ import annotations

import re

import numpy as np
from matplotlib.figure import Figure

from keras_music.plots.figures import BLUE, ORANGE, Picture, finish, saved

PANEL_INCHES = (4.4, 3.6)
BAR_INCHES = 0.6
BINS_PER_DECADE = 8  # of lengths
BPM_PER_BIN = 5
LOWEST_BPM, HIGHEST_BPM = 20, 300  # what is beyond is drawn at the edge
LENGTH_LIMITS = 0.1, 86400.0  # seconds; so is this
MOST_REASONS = 4
LENGTHS = {  # seconds: how people say it
    **{1: "1 s", 3: "3 s", 10: "10 s", 30: "30 s", 60: "1 min", 180: "3 min", 600: "10 min"},
    **{1800: "30 min", 3600: "1 h", 10800: "3 h", 36000: "10 h", 86400: "1 day"},
}


def corpus_overview(corpus, path=None, title=None) -> Figure:
    """Draws histograms of a corpus: pitches, lengths, tempos; kept against left out.

    Args:
      corpus: a `Corpus` of pieces, or its `report`, which knows no pitches. Tempos are drawn if the
        report has them, as that of `midi_folder` does.
      path: where to save it as a PNG file, whole or not at all; default: it is not saved.
      title: a line above the picture; default: how many files were kept, and why others were not.

    Returns:
      The `Figure`, 4.4 inches wide for each histogram and 4.4 inches high.

    Raises:
      OSError: `path` cannot be written to; the sentence says what to do.
      ValueError: there is nothing to draw, or these are texts.

    Example:
      >>> from keras_music.midi import Piece
      >>> from keras_music.corpora import Corpus
      >>> corpus = Corpus([Piece([{"pitch": 60, "start": 0.0, "end": 1.0}])])
      >>> [axes.get_xlabel() for axes in corpus_overview(corpus).axes]
      ['', 'pitch', 'length']
    """
    report, pieces = _check_corpus(corpus)
    kept = report["kept"].astype(bool).to_numpy()
    panels = [] if pieces is None else [lambda axes: _draw_pitches(axes, pieces)]
    panels.append(lambda axes: _draw_lengths(axes, report["seconds"].to_numpy(float), kept))
    if "tempo_bpm" in report:
        panels.append(lambda axes: _draw_tempos(axes, report["tempo_bpm"].to_numpy(float)))
    width, height = PANEL_INCHES
    figure = Picture(figsize=(width * len(panels), height + BAR_INCHES), layout="constrained")
    grid = figure.add_gridspec(2, len(panels), height_ratios=(BAR_INCHES, height))
    _draw_bar(
        figure.add_subplot(grid[0, :]), kept, _counted(report, kept) if title is None else title
    )
    for index, draw in enumerate(panels):
        axes = figure.add_subplot(grid[1, index])
        draw(axes)
        axes.grid(axis="y", color="#e5e5e5", linewidth=0.8)
        finish(axes, None, None)
    return saved(figure, path)


def _draw_bar(axes, kept, title):
    """All files in one bar, kept ones first."""
    num_kept, num_files = int(kept.sum()), len(kept)
    for left, right, (color, ink), text in (
        (0, num_kept, (BLUE, "white"), f"{num_kept:,} kept"),
        (num_kept, num_files, (ORANGE, "black"), f"{num_files - num_kept:,} left out"),
    ):
        axes.barh(0, right - left, left=left, color=color, height=1)
        if (right - left) > 0.12 * num_files:  # else there is no room; the title has the number
            place = ((left + right) / 2, 0)
            axes.annotate(text, place, ha="center", va="center", color=ink, weight="bold")
    axes.set(xlim=(0, num_files), ylim=(-0.5, 0.5))
    axes.set_axis_off()
    finish(axes, title, None)


def _draw_pitches(axes, pieces):
    counts = np.zeros(128, dtype=np.int64)
    for piece in pieces:
        notes = piece.columns("notes")
        counts += np.bincount(notes["pitch"][~notes["is_drum"]], minlength=128)
    present = np.flatnonzero(counts)
    low, high = (present[0], present[-1]) if len(present) else (54, 66)
    axes.bar(np.arange(128), counts, width=1, color=BLUE)
    octaves = range(0, 128, 12)
    axes.set_xticks(octaves, [f"C{c // 12 - 1}" for c in octaves])
    axes.set(xlim=(low - 6, high + 6), xlabel="pitch", ylabel="notes")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _draw_lengths(axes, seconds, kept):
    is_known = seconds > 0
    seconds = np.clip(seconds, *LENGTH_LIMITS)
    decades = np.log10(seconds[is_known] if is_known.any() else [10.0, 100.0]) * BINS_PER_DECADE
    edges = 10 ** (
        np.arange(np.floor(decades.min()), np.floor(decades.max()) + 2) / BINS_PER_DECADE
    )
    parts = [seconds[is_known & kept], seconds[is_known & ~kept]]
    axes.hist(parts, edges, stacked=True, color=[BLUE, ORANGE], edgecolor="white", linewidth=0.5)
    axes.set_xscale("log")
    room = (edges[-1] / edges[0]) ** (1 / 7)  # a seventh of the axis
    ticks = {}
    for second, text in LENGTHS.items():
        is_free = not ticks or second >= room * max(ticks)
        if edges[0] <= second <= edges[-1] and is_free:
            ticks[second] = text
    if len(ticks) < 2:  # few files, all about as long: one round number is no scale
        ticks = {edge: _length_text(edge) for edge in (edges[0], edges[-1])}
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xticks([], minor=True)
    axes.set(xlim=(edges[0], edges[-1]), xlabel="length", ylabel="files")
    axes.yaxis.get_major_locator().set_params(integer=True)


def _length_text(seconds):
    """
    >>> _length_text(12.6), _length_text(158.5), _length_text(6310.0)
    ('13 s', '2.6 min', '1.8 h')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _draw_tempos(axes, tempos_bpm):
    tempos_bpm = np.clip(tempos_bpm[np.isfinite(tempos_bpm)], LOWEST_BPM, HIGHEST_BPM)
    bins = (tempos_bpm if len(tempos_bpm) else np.array([60.0, 120.0])) // BPM_PER_BIN
    edges = np.arange(bins.min(), bins.max() + 2) * BPM_PER_BIN
    axes.hist(tempos_bpm, edges, color=BLUE, edgecolor="white", linewidth=0.5)
    axes.set(xlim=(edges[0] - 5, edges[-1] + 5), xlabel="tempo (quarter notes a minute)")
    axes.set_ylabel("files")
    axes.yaxis.get_major_locator().set_params(integer=True)


def _counted(report, kept):
    """What the bar shows, in words.

    >>> import pandas as pd
    >>> report = pd.DataFrame({"reason": ["", "it is empty (0 bytes)", "it is damaged: no end"]})
    >>> _counted(report, np.array([True, False, False]))
    '1 file kept, 2 left out: it is damaged (1), it is empty (1)'
    """
    text = f"{kept.sum():,} file{'' if kept.sum() == 1 else 's'} kept"
    if kept.all():
        return text
    kinds = [re.split(r": | \(", str(reason))[0] for reason in report["reason"][~kept]]
    counts = sorted((-kinds.count(kind), kind) for kind in set(kinds))
    named = [f"{kind} ({-number:,})" for number, kind in counts[:MOST_REASONS]]
    more = ["other reasons"] if len(counts) > MOST_REASONS else []
    return f"{text}, {len(kinds):,} left out: {', '.join(named + more)}"


def _check_corpus(corpus):
    """The report, and the pieces or None."""
    report = getattr(corpus, "report", corpus)
    needed = {"kept", "reason", "seconds"}
    if not needed <= set(getattr(report, "columns", ())) or not len(report):
        received = f"{corpus!r}"[:80] if hasattr(corpus, "report") else type(corpus).__name__
        raise ValueError(
            "`corpus` must be a corpus of pieces or its report, with one row or more. "
            f"Received: {received}. Read one with `corpora.midi_folder(path)`."
        )
    return report, None if report is corpus else corpus
