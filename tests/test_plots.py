"""Pictures: what is drawn, how many, in which colour, and where it is saved."""

import inspect
import math
import re
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure

from keras_music import audio
from keras_music.corpora import Corpus
from keras_music.midi import Piece
from keras_music.plots import (
    BLUE,
    ORANGE,
    corpus_overview,
    learning_curve,
    piano_roll,
    roll_and_spectrogram,
    rolls,
)

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def five_notes():
    return Piece({"pitch": [60, 62, 64, 65, 67], "start": [0, 1, 2, 3, 4], "end": [1, 2, 3, 4, 5]})


def collections(figure, kind=PolyCollection):
    """{label: collection} of the picture."""
    found = [c for c in figure.axes[0].collections if isinstance(c, kind)]
    return {collection.get_label(): collection for collection in found}


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def vertical_lines(figure):
    lines = [list(map(float, line.get_xdata())) for line in figure.axes[0].lines]
    return [x[0] for x in lines if len(x) == 2 and x[0] == x[1]]


def png_size(data):
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


class TestPianoRoll:
    def test_prompt_and_continuation_have_their_own_colour(self):
        figure = piano_roll(five_notes(), prompt_end=2.0)
        drawn = collections(figure)
        assert {label: len(c.get_paths()) for label, c in drawn.items()} == {
            "prompt": 2,  # the notes that start at 0 and 1
            "continuation": 3,  # the note that starts at 2 does not start before 2
        }
        assert np.allclose(drawn["prompt"].get_facecolor()[:, :3], to_rgba(BLUE)[:3])
        assert np.allclose(drawn["continuation"].get_facecolor()[:, :3], to_rgba(ORANGE)[:3])
        assert vertical_lines(figure) == [2.0]
        assert legend_texts(figure) == ["prompt", "continuation"]

    def test_without_prompt_end_there_is_one_colour_no_line_and_no_legend(self):
        figure = piano_roll(five_notes())
        drawn = collections(figure)
        assert {label: len(c.get_paths()) for label, c in drawn.items()} == {"notes": 5}
        assert vertical_lines(figure) == []
        assert legend_texts(figure) == []

    def test_prompt_end_at_zero_leaves_a_continuation_only(self):
        drawn = collections(piano_roll(five_notes(), prompt_end=0))
        assert {label: len(c.get_paths()) for label, c in drawn.items()} == {"continuation": 5}

    def test_prompt_end_after_the_last_note_stays_in_the_picture(self):
        figure = piano_roll(five_notes(), prompt_end=9.0)
        assert vertical_lines(figure) == [9.0]
        assert figure.axes[0].get_xlim()[1] >= 9.0

    def test_a_note_is_a_bar_from_start_to_end_at_its_pitch(self):
        figure = piano_roll(Piece([{"pitch": 60, "start": 1.0, "end": 3.0}]))
        (bar,) = collections(figure)["notes"].get_paths()
        low, high = bar.get_extents().get_points()
        assert low[0] == 1.0
        assert high[0] == pytest.approx(3.0, abs=0.02)  # less the gap to a repetition
        assert (low[1], high[1]) == pytest.approx((59.575, 60.425))

    def test_a_repeated_note_does_not_touch_the_one_before(self):
        figure = piano_roll(Piece({"pitch": [60, 60], "start": [0, 1], "end": [1, 2]}))
        first, second = (p.get_extents() for p in collections(figure)["notes"].get_paths())
        assert first.x1 < second.x0 == 1.0

    def test_the_shortest_note_keeps_a_width(self):
        piece = Piece({"pitch": [60, 62], "start": [0, 0], "end": [0.001, 300]})
        short = collections(piano_roll(piece))["notes"].get_paths()[0].get_extents()
        assert short.width == pytest.approx(0.00075)

    def test_louder_is_darker(self):
        piece = Piece({"pitch": [60, 62], "velocity": [1, 127], "start": [0, 1], "end": [1, 2]})
        soft, loud = collections(piano_roll(piece))["notes"].get_facecolor()[:, 3]
        assert (soft, loud) == pytest.approx((0.45 + 0.55 / 127, 1.0))

    def test_drums_are_crosses_in_the_darker_colour_of_their_part(self):
        piece = Piece(
            {
                "pitch": [60, 36, 42, 38],
                "start": [0, 0, 1, 2],
                "end": [1, 0.1, 1.1, 2.1],
                "is_drum": [False, True, True, True],
            }
        )
        figure = piano_roll(piece, prompt_end=1.5)
        assert {k: len(c.get_paths()) for k, c in collections(figure).items()} == {"prompt": 1}
        drums = collections(figure, PathCollection)
        offsets = {label: c.get_offsets().tolist() for label, c in drums.items()}
        assert offsets == {
            "prompt, drums": [[0, 36], [1, 42]],
            "continuation, drums": [[2, 38]],
        }
        edge = drums["continuation, drums"].get_edgecolor()[0, :3]
        assert np.allclose(edge, 0.55 * np.array(to_rgba(ORANGE)[:3]))
        assert legend_texts(figure) == ["prompt", "continuation", "drums"]

    @pytest.mark.parametrize(
        ("pitches", "names"),
        [
            ([60], ["C4"]),
            ([62, 70], ["C4", "C5"]),
            ([21, 108], ["C1", "C2", "C3", "C4", "C5", "C6", "C7", "C8"]),
            ([0], ["C-1"]),
            ([127], ["C9"]),
        ],
    )
    def test_the_axis_names_the_cs(self, pitches, names):
        piece = Piece({"pitch": pitches, "start": [0] * len(pitches), "end": [1] * len(pitches)})
        axes = piano_roll(piece).axes[0]
        assert [label.get_text() for label in axes.get_yticklabels()] == names
        assert min(pitches) - 2 >= axes.get_ylim()[0]
        assert max(pitches) + 2 <= axes.get_ylim()[1]

    @pytest.mark.parametrize("pitch", range(128))
    def test_every_single_pitch_has_a_c_beside_it(self, pitch):
        low, high = rolls._pitch_limits([pitch])
        assert len([c for c in range(0, 128, 12) if low <= c <= high]) >= 1

    @pytest.mark.parametrize(("seconds", "inches"), [(1, 6), (40, 12), (3600, 18)])
    def test_the_width_grows_with_the_length_up_to_a_limit(self, seconds, inches):
        figure = piano_roll(Piece([{"pitch": 60, "start": 0, "end": seconds}]))
        assert figure.get_size_inches()[0] == inches

    def test_the_title_is_the_name_unless_given(self):
        piece = Piece([{"pitch": 60, "start": 0, "end": 1}], name="BWV 1")
        assert piano_roll(piece).axes[0].get_title(loc="left") == "BWV 1"
        assert piano_roll(piece, title="Mine").axes[0].get_title(loc="left") == "Mine"
        assert piano_roll(piece, title="").axes[0].get_title(loc="left") == ""

    def test_a_long_file_name_is_broken_and_dollars_are_no_formula(self, tmp_path):
        r"""Matplotlib reads text between dollars as TeX, and `$\x$` stops it."""
        piece = Piece([{"pitch": 60, "start": 0, "end": 1}], name="word " * 30 + r"$\x$")
        figure = piano_roll(piece, tmp_path / "long.png")
        lines = figure.axes[0].get_title(loc="left").split("\n")
        assert len(lines) == 3
        assert max(map(len, lines)) <= 54

    def test_three_thousand_notes_take_less_than_a_fifth_of_a_second(self):
        start = np.arange(3000) / 10
        piece = Piece({"pitch": 40 + np.arange(3000) % 40, "start": start, "end": start + 0.4})
        times = []
        for _ in range(3):  # the best of three, for the machine may be busy
            begin = time.perf_counter()
            figure = piano_roll(piece, prompt_end=60)
            times.append(time.perf_counter() - begin)
        assert min(times) < 0.2
        assert len(collections(figure)) == 2

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"piece": Piece([])}, "`piece` must have at least one note. Received: Piece(notes=0"),
            ({"piece": "a.mid"}, "`piece` must be a Piece. Received: str."),
            (
                {"piece": five_notes(), "prompt_end": -1},
                "`prompt_end` must be in seconds and >= 0. Received: prompt_end=-1.",
            ),
            (
                {"piece": five_notes(), "prompt_end": float("nan")},
                "`prompt_end` must be in seconds and >= 0. Received: prompt_end=nan.",
            ),
        ],
    )
    def test_bad_arguments(self, arguments, sentence):
        with pytest.raises(ValueError) as caught:
            piano_roll(**arguments)
        assert str(caught.value).startswith(sentence)


class TestRollAndSpectrogram:
    mel = np.ones((259, 128))  # 6.01 s of the default settings

    def test_the_roll_is_piano_rolls(self):
        figure = roll_and_spectrogram(five_notes(), self.mel, prompt_end=2.0, title="Mine")
        drawn = {label: len(c.get_paths()) for label, c in collections(figure).items()}
        assert drawn == {"prompt": 2, "continuation": 3}
        assert vertical_lines(figure) == [2.0]
        assert legend_texts(figure) == ["prompt", "continuation"]
        assert figure.axes[0].get_title(loc="left") == "Mine"

    def test_both_have_one_time_axis_under_each_other(self):
        figure = roll_and_spectrogram(five_notes(), self.mel)
        figure.draw_without_rendering()  # lays it out
        roll, sound, _ = figure.axes
        assert roll.get_xlim() == sound.get_xlim()
        assert sound.get_xlim() == pytest.approx((0, 1.005 * 259 * 1024 / 44100))
        above, below = roll.get_position(), sound.get_position()
        assert (above.x0, above.x1) == pytest.approx((below.x0, below.x1), abs=1e-9)
        assert above.y0 > below.y1
        assert (roll.get_xlabel(), sound.get_xlabel()) == ("", "time (seconds)")

    def test_what_comes_after_the_sound_has_room(self):
        assert roll_and_spectrogram(five_notes(), self.mel, prompt_end=9).axes[0].get_xlim()[1] > 9

    @pytest.mark.parametrize(
        "settings",
        [
            {},
            {"sample_rate": 16000, "frame_length": 1000, "frame_step": 400},
            {"lowest_hz": 0, "highest_hz": 4000},
        ],
    )
    def test_a_cell_is_where_its_frame_and_its_band_have_their_middle(self, settings):
        """Frame 10 of the default is around 10 * 1024 + 4096 / 2 samples."""
        figure = roll_and_spectrogram(five_notes(), np.ones((300, 20)), **settings)
        (image,) = figure.axes[1].images
        left, right, bottom, top = image.get_extent()
        assert image.get_array().shape == (20, 300)
        given = inspect.signature(roll_and_spectrogram).parameters
        given = {name: parameter.default for name, parameter in given.items()} | settings
        samples = 10 * given["frame_step"] + given["frame_length"] / 2
        middle = left + (right - left) * 10.5 / 300
        assert middle == pytest.approx(samples / given["sample_rate"])
        low, high = (1127 * np.log(1 + given[name] / 700) for name in ("lowest_hz", "highest_hz"))
        assert figure.axes[1].get_ylim() == pytest.approx((low, high))
        assert bottom + (top - bottom) * 3.5 / 20 == pytest.approx(low + 4 * (high - low) / 21)

    def test_the_defaults_are_those_of_mel_spectrogram(self):
        ours = inspect.signature(roll_and_spectrogram).parameters
        theirs = inspect.signature(audio.mel_spectrogram).parameters
        names = {"sample_rate", "frame_length", "frame_step", "lowest_hz", "highest_hz"}
        assert names == set(ours) & set(theirs)
        for name in names:
            assert ours[name].default == theirs[name].default

    def test_the_loudest_is_0_decibels_and_a_thousandth_of_it_the_least(self):
        mel = np.full((259, 4), 8.0)
        mel[0] = [0.0, 0.004, 0.8, 4.0]
        (image,) = roll_and_spectrogram(five_notes(), mel).axes[1].images
        expected = [-60, -60, -20, -6.0206, 0]
        assert [*image.get_array()[:, 0], image.get_array()[0, 1]] == pytest.approx(expected)
        assert image.get_clim() == (-60, 0)

    def test_silence_is_black(self):
        (image,) = roll_and_spectrogram(five_notes(), 0 * self.mel).axes[1].images
        assert (image.get_array() == -60).all()

    @pytest.mark.parametrize(
        ("lowest_hz", "highest_hz", "names"),
        [
            (27.5, 8000, ["C3  131", "C4  262", "C5  523", "C6  1047", "C7  2093", "C8  4186"]),
            (200, 1000, ["C4  262", "C5  523"]),
            (300, 400, []),
        ],
    )
    def test_the_cs_are_named_as_in_the_roll(self, lowest_hz, highest_hz, names):
        limits = {"lowest_hz": lowest_hz, "highest_hz": highest_hz}
        axes = roll_and_spectrogram(five_notes(), self.mel, **limits).axes[1]
        assert [label.get_text() for label in axes.get_yticklabels()] == names
        hertz = [700 * (np.exp(tick / 1127) - 1) for tick in axes.get_yticks()]
        assert hertz == pytest.approx([float(name.split()[1]) for name in names], abs=0.5)

    def test_a_note_of_the_roll_is_above_its_sound(self):
        """The whole chain: A4 from 1 s to 2 s."""
        piece = Piece([{"pitch": 69, "start": 1.0, "end": 2.0}])
        times = np.arange(3 * 44100) / 44100
        wave = np.sin(2 * np.pi * 440 * times) * ((times >= 1) & (times < 2))
        mel = audio.mel_spectrogram(wave)
        axes = roll_and_spectrogram(piece, mel).axes[1]
        (image,) = axes.images
        left, right, bottom, top = image.get_extent()
        rows, columns = np.nonzero(image.get_array() > -6)
        times = left + (columns + 0.5) * (right - left) / len(mel)
        assert (times.min(), times.max()) == pytest.approx((1.0, 2.0), abs=0.03)
        row = np.bincount(rows).argmax()
        middle = bottom + (row + 0.5) * (top - bottom) / 128
        assert 700 * (np.exp(middle / 1127) - 1) == pytest.approx(440, abs=10)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"piece": Piece([])}, "`piece` must have at least one note."),
            ({"prompt_end": -1}, "`prompt_end` must be in seconds and >= 0."),
            ({"mel": np.ones(259)}, "`mel` must be finite magnitudes >= 0 of shape (frames, num_m"),
            ({"mel": np.ones((259, 4), int)}, "`mel` must be finite magnitudes >= 0 of shape"),
            ({"mel": np.ones((259, 0))}, "`mel` must be finite magnitudes >= 0 of shape"),
            ({"mel": -np.ones((259, 4))}, "`mel` must be finite magnitudes >= 0 of shape"),
            ({"mel": np.full((259, 4), np.nan)}, "`mel` must be finite magnitudes >= 0 of shape"),
            ({"mel": np.full((259, 4), np.inf)}, "`mel` must be finite magnitudes >= 0 of shape"),
            ({"mel": "a.wav"}, "`mel` must be finite magnitudes >= 0 of shape"),
            ({"mel": np.ones((200, 4))}, "`mel` must last as long as the piece. Received: 4.6 s"),
            ({"sample_rate": 96000}, "`mel` must last as long as the piece. Received: 2.8 s of"),
        ],
    )
    def test_bad_arguments(self, arguments, sentence):
        with pytest.raises(ValueError) as caught:
            roll_and_spectrogram(**({"piece": five_notes(), "mel": self.mel} | arguments))
        assert str(caught.value).startswith(sentence)


class TestLearningCurve:
    HISTORY = {"loss": [3.0, 2.0, 1.5], "val_loss": [3.1, 2.2, 2.4]}

    def test_epochs_begin_with_1_and_ticks_are_whole(self):
        axes = learning_curve(self.HISTORY).axes[0]
        drawn = {
            line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist())
            for line in axes.lines[:2]
        }
        assert drawn == {
            "training": ([1, 2, 3], [3.0, 2.0, 1.5]),
            "validation": ([1, 2, 3], [3.1, 2.2, 2.4]),
        }
        low, high = axes.get_xlim()
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [1, 2, 3]

    @pytest.mark.parametrize("num_epochs", [1, 2, 7, 30, 100])
    def test_no_tick_at_epoch_0_or_between_epochs(self, num_epochs):
        axes = learning_curve({"loss": [2.0] * num_epochs}).axes[0]
        low, high = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert ticks == [int(tick) for tick in ticks if tick >= 1]
        assert ticks

    def test_the_lowest_validation_loss_is_in_the_legend(self):
        assert legend_texts(learning_curve(self.HISTORY)) == [
            "training",
            "validation",
            "lowest: 2.20 at epoch 2",
        ]

    def test_without_validation_there_is_one_curve(self):
        assert legend_texts(learning_curve({"loss": [2.0, 1.0]})) == ["training"]

    def test_a_diverged_run_is_drawn_as_far_as_it_went(self):
        figure = learning_curve({"loss": [2.0, np.nan], "val_loss": [np.nan, np.nan]})
        assert legend_texts(figure) == ["training", "validation"]

    def test_what_fit_returns_is_taken_as_it_is(self):
        figure = learning_curve(types.SimpleNamespace(history=self.HISTORY))
        assert figure.axes[0].lines[0].get_ydata().tolist() == [3.0, 2.0, 1.5]

    def test_baselines_are_lines_with_their_name_and_value(self):
        figure = learning_curve(self.HISTORY, baselines={"uniform": 5.9636, "bigram": 2.5})
        axes = figure.axes[0]
        heights = [line.get_ydata() for line in axes.lines if line.get_linestyle() == "--"]
        assert [(y[0], y[1]) for y in heights] == [(5.9636, 5.9636), (2.5, 2.5)]
        assert [text.get_text() for text in axes.texts] == ["bigram 2.50", "uniform 5.96"]
        assert axes.get_ylim()[1] > 5.9636

    def test_names_of_close_baselines_do_not_overlap(self):
        baselines = {"bigram": 2.40, "trigram": 2.41, "4-gram": 2.41, "uniform": 5.9}
        figure = learning_curve(self.HISTORY, baselines=baselines)
        figure.draw_without_rendering()  # lays it out
        boxes = sorted(
            (text.get_window_extent() for text in figure.axes[0].texts), key=lambda box: box.y0
        )
        assert len(boxes) == 4
        assert all(below.y1 <= above.y0 + 1 for below, above in zip(boxes, boxes[1:], strict=False))
        assert max(box.x1 for box in boxes) <= figure.bbox.x1  # nothing is cut off

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"history": {}}, '`history` must be a dict with a list "loss"'),
            ({"history": {"loss": []}}, '`history` must be a dict with a list "loss"'),
            ({"history": [1.0]}, '`history` must be a dict with a list "loss"'),
            (
                {"history": {"loss": [1.0]}, "baselines": {"bigram": float("inf")}},
                "`baselines` must be finite numbers, in nats per token. Received: bigram=inf.",
            ),
        ],
    )
    def test_bad_arguments(self, arguments, sentence):
        with pytest.raises(ValueError) as caught:
            learning_curve(**arguments)
        assert str(caught.value).startswith(sentence)


class TestCorpusOverview:
    """Two files kept, three left out, of which one is known to last a year."""

    PIECES = (
        Piece({"pitch": [60, 60, 72], "start": [0.0, 1.0, 2.0], "end": [1.0, 2.0, 30.0]}),
        Piece({"pitch": [60, 36], "start": [0, 0], "end": [5, 1], "is_drum": [False, True]}),
    )
    DROPPED = (
        {"name": "c", "reason": "it is empty (0 bytes)", "tempo_bpm": math.nan},
        {"name": "d", "reason": "it lasts longer than a day (365 days)", "seconds": 3e7},
        {"name": "e", "reason": "it is empty (0 bytes)"},
    )

    def corpus(self, tempos_bpm=(100.0, 123.0)):
        rows = [{"tempo_bpm": tempo_bpm} for tempo_bpm in tempos_bpm]
        return Corpus(self.PIECES, rows=rows, dropped=self.DROPPED)

    def bars(self, axes):
        """{left edge: height} of each colour's bars that can be seen."""
        found = {}
        for patch in axes.patches:
            if patch.get_height():
                bars = found.setdefault(to_hex(patch.get_facecolor()).upper(), {})
                bars[round(patch.get_x(), 1)] = patch.get_height()
        return found

    def test_pitches_without_drums(self):
        _, pitches, _, _ = corpus_overview(self.corpus()).axes
        assert self.bars(pitches) == {BLUE: {59.5: 3, 71.5: 1}}
        assert [label.get_text() for label in pitches.get_xticklabels()][5:7] == ["C4", "C5"]

    def test_lengths_of_kept_and_left_out(self):
        """A year stands where a day does."""
        _, _, lengths, _ = corpus_overview(self.corpus()).axes
        bars = self.bars(lengths)
        assert list(bars[BLUE].values()) == [1, 1]
        ((left, number),) = bars[ORANGE].items()
        assert left > max(bars[BLUE]) and number == 1
        assert left <= 86400 < lengths.get_xlim()[1] < 2 * 86400

    def test_lengths_that_are_all_about_equal_have_a_scale_too(self):
        """There was one label, at the edge, and no length could be read."""
        lengths = corpus_overview(Corpus(self.PIECES[:1] * 2)).axes[2]
        texts = [label.get_text() for label in lengths.get_xticklabels()]
        assert len(texts) == 2 and all(re.fullmatch(r"\d+ s", text) for text in texts)
        edges = [int(text.split()[0]) for text in texts]
        assert edges[0] < 30 <= edges[1]

    def test_tempos_in_steps_of_five(self):
        *_, tempos = corpus_overview(self.corpus()).axes
        assert self.bars(tempos) == {BLUE: {100.0: 1, 120.0: 1}}

    def test_absurd_tempos_stand_at_the_edge(self):
        *_, tempos = corpus_overview(self.corpus([1.0, 6e7])).axes
        assert self.bars(tempos) == {BLUE: {20.0: 1, 300.0: 1}}

    def test_the_bar_has_all_files_and_the_title_the_reasons(self):
        bar, *_ = corpus_overview(self.corpus()).axes
        assert [(p.get_x(), p.get_width()) for p in bar.patches] == [(0, 2), (2, 3)]
        assert [text.get_text() for text in bar.texts] == ["2 kept", "3 left out"]
        assert bar.get_title(loc="left") == (
            "2 files kept, 3 left out: it is empty (2), it lasts longer than a day (1)"
        )
        assert corpus_overview(self.corpus(), title="Mine").axes[0].get_title(loc="left") == "Mine"

    def test_of_many_reasons_some_are_named(self):
        dropped = [{"name": "x", "reason": f"reason {letter}"} for letter in "abcdefg"]
        bar, *_ = corpus_overview(Corpus(self.PIECES, dropped=dropped)).axes
        assert (
            bar.get_title(loc="left")
            .replace("\n", " ")
            .endswith(
                "7 left out: reason a (1), reason b (1), reason c (1), reason d (1), other reasons"
            )
        )

    def test_what_is_not_known_is_not_drawn(self):
        def labels(corpus):
            return [axes.get_xlabel() for axes in corpus_overview(corpus).axes[1:]]

        tempo = "tempo (quarter notes a minute)"
        assert labels(self.corpus()) == ["pitch", "length", tempo]
        assert labels(self.corpus().report) == ["length", tempo]
        assert labels(Corpus(self.PIECES)) == ["pitch", "length"]

    def test_nothing_was_kept(self):
        report = self.corpus().report
        bar, lengths, tempos = corpus_overview(report[~report["kept"]]).axes
        assert [text.get_text() for text in bar.texts] == ["3 left out"]
        assert self.bars(tempos) == {}

    def test_names_of_lengths_do_not_overlap(self):
        pieces = [Piece([{"pitch": 60, "start": 0, "end": 2.0**n}]) for n in range(-3, 17)]
        figure = corpus_overview(Corpus(pieces))
        figure.draw_without_rendering()
        labels = figure.axes[2].get_xticklabels()
        boxes = [label.get_window_extent() for label in labels]
        assert 4 <= len(boxes) <= 8
        assert all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))

    @pytest.mark.parametrize("corpus", [Corpus(["do re mi"]), Corpus([]), None, Corpus([]).report])
    def test_nothing_to_draw(self, corpus):
        with pytest.raises(ValueError, match="^`corpus` must be a corpus of pieces or its report"):
            corpus_overview(corpus)


def draw_roll(path):
    return piano_roll(five_notes(), path)


def draw_curve(path):
    return learning_curve({"loss": [2.0, 1.0]}, path)


def draw_sound(path):
    return roll_and_spectrogram(five_notes(), np.ones((259, 8)), path)


def draw_overview(path):
    return corpus_overview(Corpus([five_notes()]), path)


@pytest.mark.parametrize("draw", [draw_roll, draw_curve, draw_sound, draw_overview])
class TestSaving:
    def test_the_file_is_a_png_of_the_figure_at_150_dots_an_inch(self, draw, tmp_path):
        figure = draw(tmp_path / "new" / "picture.png")
        data = (tmp_path / "new" / "picture.png").read_bytes()
        assert data.startswith(PNG_SIGNATURE)
        assert png_size(data) == tuple(int(inches * 150) for inches in figure.get_size_inches())

    def test_a_failing_write_leaves_the_old_file_and_nothing_else(
        self, draw, tmp_path, monkeypatch
    ):
        path = tmp_path / "picture.png"
        path.write_bytes(b"old")

        def full_disk(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full_disk)
        with pytest.raises(OSError, match="No space left"):
            draw(path)
        assert path.read_bytes() == b"old"
        assert [file.name for file in tmp_path.iterdir()] == ["picture.png"]

    def test_a_folder_that_cannot_be_made_gets_one_sentence_with_a_remedy(self, draw, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError, match="Cannot write .*picture.png.* Choose a folder"):
            draw(tmp_path / "file" / "picture.png")

    def test_a_notebook_is_given_a_png(self, draw):
        figure = draw(None)
        assert isinstance(figure, Figure)
        assert figure._repr_png_().startswith(PNG_SIGNATURE)


def test_no_pyplot_no_tensorflow_no_display():
    """In a process of its own, because other tests may import what is forbidden here."""
    program = (
        "import sys\n"
        "from keras_music import plots\n"
        "from keras_music.midi import Piece\n"
        "figure = plots.piano_roll(Piece([{'pitch': 60, 'start': 0, 'end': 1}]))\n"
        "assert figure._repr_png_()\n"
        "print(sorted({'matplotlib.pyplot', 'tensorflow', 'keras'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr


def test_pyplot_has_no_open_figures_afterwards():
    import matplotlib.pyplot

    before = matplotlib.pyplot.get_fignums()
    draw_roll(None)
    draw_curve(None)
    draw_sound(None)
    draw_overview(None)
    assert matplotlib.pyplot.get_fignums() == before


def test_a_resumed_run_does_not_begin_with_epoch_1():
    """`fit` was stopped in its third epoch and went on: its History says where."""
    history = type("History", (), {})()
    history.epoch, history.history = [2, 3], {"loss": [1.5, 1.25], "val_loss": [1.75, 1.5]}
    axes = learning_curve(history).axes[0]
    assert axes.lines[0].get_xdata().tolist() == [3, 4]
    assert "lowest: 1.50 at epoch 4" in [line.get_label() for line in axes.lines]
