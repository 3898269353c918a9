"""drawings.py and cell_drawings.py: the numbers on the pictures, and that one can read them."""

import matplotlib.pyplot
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from matplotlib.text import Text

from keras_music import explain
from keras_music.explain.cell_drawings import short
from keras_music.plots import BLUE, ORANGE

TABLE = np.array([[0.1, -0.4, 0.5], [-0.4, 0.8, 1.2], [-0.4, -0.2, 0.7]])
SLIDE = np.array([[-1, -2, 0.5, 1, 2], [0.5, 0.5, 1, -1, -0.5]])  # for 3 inputs and 2 memories
KERNEL, RECURRENT = SLIDE[:, :3].T, SLIDE[:, 3:].T
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


LECTURE = {
    "embedding": lambda: explain.embedding([1, 0, 1], TABLE, show=False),
    "dense": lambda: explain.dense([2, 3, -1], KERNEL, activation="tanh", show=False),
    "softmax": lambda: explain.softmax_cross_entropy([2, 1, 0.1], 0, show=False),
    "rnn": lambda: explain.rnn_cell([2, 3, -1], [-1, 1], KERNEL, RECURRENT, show=False),
    "unfold": lambda: explain.unfold(TABLE[[1, 0, 2, 1]], KERNEL, RECURRENT, show=False),
    "gru": lambda: explain.gru_cell(
        [1, -0.5], [0.8], [[0.5, -1, 1], [1, 0.5, -2]], [[2, 1, 0.5]], show=False
    ),
    "lstm": lambda: explain.lstm_cell(
        [1, -0.5], [0.8], [1.5], [[0.5, -1, 1, 0.5], [1, 0.5, -2, 0]], [[1, 2, 0.5, 1]], show=False
    ),
    "attention": lambda: explain.attention_head(
        [[1, 0], [0, 1], [1, 1]], np.eye(2), np.eye(2), np.eye(2), show=False
    ),
}
LARGE = {
    "embedding": lambda: explain.embedding(
        [999, 5, 5, 17, 300, 2, 1, 7, 8, 0], normal(1000, 64), show=False
    ),
    "dense": lambda: explain.dense(
        normal(100), normal(100, 100), normal(100), activation="silu", show=False
    ),
    "softmax": lambda: explain.softmax_cross_entropy(3 * normal(1000), 17, show=False),
    "rnn": lambda: explain.rnn_cell(
        normal(64), normal(100), normal(64, 100), normal(100, 100), normal(100), show=False
    ),
    "unfold": lambda: explain.unfold(
        normal(50, 64), 0.1 * normal(64, 300), 0.1 * normal(100, 300), cell="gru", show=False
    ),
    "unfold LSTM": lambda: explain.unfold(
        normal(12, 2), normal(2, 16), normal(4, 16), cell="lstm", show=False
    ),
    "gru": lambda: explain.gru_cell(
        normal(64), normal(100), normal(64, 300), normal(100, 300), normal(2, 300), show=False
    ),
    "gru, reset before": lambda: explain.gru_cell(
        normal(64), normal(9), normal(64, 27), normal(9, 27), reset_after=False, show=False
    ),
    "lstm": lambda: explain.lstm_cell(
        normal(64), normal(99), 99 * normal(99), normal(64, 396), normal(99, 396), show=False
    ),
    "attention": lambda: explain.attention_head(
        normal(40, 16), normal(16, 8), normal(16, 8), normal(16, 12), show=False
    ),
}
SMALLEST = {
    "embedding": lambda: explain.embedding([0], [[0.0]], show=False),
    "dense": lambda: explain.dense([0], [[0]], show=False),
    "softmax": lambda: explain.softmax_cross_entropy([0], 0, show=False),
    "rnn": lambda: explain.rnn_cell([0], [0], [[0]], [[0]], [0], show=False),
    "unfold": lambda: explain.unfold([[0]], [[0]], [[0]], show=False),
    "attention": lambda: explain.attention_head([[0]], [[0]], [[0]], [[0]], show=False),
}
EVERY = {f"{name}, lecture": make for name, make in LECTURE.items()}
EVERY |= {f"{name}, large": make for name, make in LARGE.items()}
EVERY |= {f"{name}, smallest": make for name, make in SMALLEST.items()}


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]


def words(figure):
    """Everything that is written on the picture, taken apart at spaces."""
    return " ".join(text.get_text() for text in texts(figure)).split()


def lines_of(figure, name):
    """The column of numbers that has this name above it."""
    columns = [text.get_text().split("\n") for text in texts(figure)]
    return next(lines[1:] for lines in columns if lines[0] == name and len(lines) > 1)


def patches(figure, kind):
    return [patch for patch in figure.axes[0].patches if type(patch) is kind]


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (-7.5, "-7.5"),
            (3.0, "3"),
            (0.1 + 0.2, "0.3"),
            (0.6590011, "0.659"),
            (np.tanh(-8.5), "-0.999…"),  # -0.9999999 is not -1
            (np.tanh(8.5), "0.999…"),
            (0.9996, "0.999…"),
            (2.0004, "2.00"),  # is not 2
            (-93.97, "-94.0"),
            (163.4, "163"),
            (123456.7, "123457"),
            (-1.234e8, "-1.23e8"),
            (2.5e-9, "2.5e-9"),
            (1.4e-130, "1e-130"),
            (-0.0, "0"),
        ],
    )
    def test_three_digits_and_no_whole_number_that_is_none(self, value, text):
        assert short(value) == text


class TestLecture:
    """The numbers of the lecture, as they stand on the pictures."""

    def test_embedding(self):
        figure = LECTURE["embedding"]().draw()
        written = words(figure)
        # The table's nine numbers, and rows 1, 0, 1 of it.
        assert [written.count(n) for n in ("0.1", "-0.4", "0.8", "1.2", "-0.2")] == [2, 6, 3, 3, 1]
        names = [t.get_text() for t in texts(figure) if t.get_text().startswith("moment")]
        assert names == ["moment 0: id 1", "moment 1: id 0", "moment 2: id 1"]

    def test_embedding_arrows_run_from_the_row_to_the_moment(self):
        figure = LECTURE["embedding"]().draw()
        height = {text.get_text(): text.get_position()[1] for text in texts(figure)}
        paths = [arrow.get_path() for arrow in patches(figure, FancyArrowPatch)]
        arrows = [path.vertices[path.codes != Path.CLOSEPOLY] for path in paths]
        starts = [points[points[:, 0].argmin(), 1] for points in arrows]
        tips = [points[points[:, 0].argmax(), 1] for points in arrows]
        assert starts == pytest.approx([height[f"token {k}"] for k in (1, 0, 1)], abs=0.02)
        moments = ("moment 0: id 1", "moment 1: id 0", "moment 2: id 1")
        assert tips == pytest.approx([height[moment] for moment in moments], abs=0.02)

    def test_dense(self):
        figure = LECTURE["dense"]().draw()
        written = words(figure)
        assert {"2", "3", "-1", "-2", "0.5", "1", "-8.5", "1.5", "-0.999…", "0.905"} <= {*written}
        assert "tanh" in written
        assert "bias" not in written

    def test_wires_have_the_colour_of_their_sign_and_the_thickness_of_their_size(self):
        figure = LECTURE["dense"]().draw()
        wires = [w for w in figure.axes[0].lines if list(w.get_xdata()) == [1.3, 5.2]]
        drawn = [(w.get_color(), w.get_linewidth()) for w in wires]
        signs = [ORANGE, ORANGE, BLUE, BLUE, BLUE, BLUE]  # -1, -2, 0.5 and 0.5, 0.5, 1
        assert [color for color, _ in drawn] == signs
        assert np.argmax([width for _, width in drawn]) == 1  # -2

    def test_dense_with_bias(self):
        explanation = explain.dense([1.0], [[2.0]], [0.25], "relu", show=False)
        written = words(explanation.draw())
        assert written[written.index("bias") + 1] == "0.25"
        assert {"2.25", "ReLU"} <= set(written)

    @pytest.mark.parametrize(
        ("activation", "name"), [(None, "as it is"), ("sigmoid", "sigmoid"), ("silu", "SiLU")]
    )
    def test_the_box_says_which_activation(self, activation, name):
        explanation = explain.dense([1.0], [[2.0]], activation=activation, show=False)
        assert name in [text.get_text() for text in texts(explanation.draw())]

    def test_softmax(self):
        figure = LECTURE["softmax"]().draw()
        panels = [[t.get_text() for t in axes.texts] for axes in figure.axes]
        assert panels == [["2", "1", "0.1"], ["1", "0.368", "0.15"], ["0.659", "0.242", "0.0986"]]
        assert "loss = -ln(0.659) = 0.417 nats: the surprise at class 0" in [
            t.get_text() for t in texts(figure)
        ]
        for axes in figure.axes:
            bars = [bar for bar in axes.patches if isinstance(bar, Rectangle)]
            assert [bar.get_facecolor() for bar in bars] == [
                to_rgba(color) for color in (ORANGE, BLUE, BLUE)
            ]

    def test_rnn_cell(self):
        figure = LECTURE["rnn"]().draw()
        assert {"-7.5", "2", "-0.999…", "0.964"} <= set(words(figure))
        written = [text.get_text() for text in texts(figure)]
        assert {"input x", "memory h", "new memory h'"} <= set(written)
        assert "at the next moment, h' is the memory h" in written
        wires = [w for w in figure.axes[0].lines if list(w.get_xdata()) == [1.3, 5.2]]
        assert len(wires) == SLIDE.size

    def test_gru_cell(self):
        figure = LECTURE["gru"]().draw()
        for name, text in {
            "input x": ["1", "-0.5"],
            "memory h": ["0.8"],
            "sum_z": ["1.6"],
            "z": ["0.832"],
            "1 - z": ["0.168"],
            "r": ["0.389"],
            "h_c": ["0.4"],
            "x_c": ["2"],
            "r * h_c": ["0.156"],
            "c": ["0.974"],
            "z * h": ["0.666"],
            "(1 - z) * c": ["0.164"],
            "new memory h'": ["0.829"],
        }.items():
            assert lines_of(figure, name) == text

    def test_gru_cell_with_the_reset_before_the_product(self):
        weights = normal(2, 6), normal(2, 6), normal(6)
        cell = explain.gru_cell([1, 2], [0.5, -0.5], *weights, reset_after=False, show=False)
        figure = cell.draw()
        assert lines_of(figure, "r * h") == [short(v) for v in cell["r*h"]]
        assert "h_c" not in words(figure)

    def test_lstm_cell(self):
        figure = LECTURE["lstm"]().draw()
        for name, text in {
            "short memory h": ["0.8"],
            "long memory c": ["1.5"],
            "f": ["0.587"],
            "i": ["0.69"],
            "g": ["0.984"],
            "o": ["0.786"],
            "f * c": ["0.88"],
            "i * g": ["0.679"],
            "tanh(c')": ["0.915"],
            "new long memory c'": ["1.56"],
            "new short memory h'": ["0.719"],
        }.items():
            assert lines_of(figure, name) == text

    def test_attention(self):
        figure = LECTURE["attention"]().draw()
        cells = patches(figure, Rectangle)
        # What lies ahead is hatched: 3 of the 9 weights.
        assert [bool(cell.get_hatch()) for cell in cells[:9]] == [0, 1, 1, 0, 0, 1, 0, 0, 0]
        assert not any(cell.get_hatch() for cell in cells[9:])
        written = words(figure)
        assert [written.count(n) for n in ("0.33", "0.67", "0.248", "0.752")] == [2, 2, 2, 2]

    def test_attention_that_looks_everywhere_hides_nothing(self):
        explanation = explain.attention_head(*[np.eye(2)] * 4, causal=False, show=False)
        assert not any(cell.get_hatch() for cell in patches(explanation.draw(), Rectangle))

    def test_unfold(self):
        explanation = LECTURE["unfold"]()
        figure = explanation.draw()
        assert lines_of(figure, "x[2]") == ["-0.4", "-0.2", "0.7"]
        assert lines_of(figure, "h0") == ["0", "0"]
        assert lines_of(figure, "h4") == ["-0.723", "0.625"]
        assert len(patches(figure, FancyBboxPatch)) == 4
        assert any("the same weights" in text.get_text() for text in texts(figure))

    def test_unfold_lstm_has_two_memories(self):
        explanation = LARGE["unfold LSTM"]()
        figure = explanation.draw()
        for name in ("h1", "c1", "h8", "c8"):
            assert lines_of(figure, name) == [*map(short, explanation[name][:3]), "..."]


class TestLarge:
    """Of what does not fit on a page the first part is drawn, and the rest is counted."""

    @pytest.mark.parametrize(
        ("name", "sentences"),
        [
            ("embedding", ["... and 992 more tokens", "... and 2 more moments"]),
            ("dense", ["... and 94 more inputs", "... and 96 more units"]),
            ("rnn", ["... and 60 more inputs", "... and 96 more memories"]),
            ("softmax", ["... and 992 more classes with lower scores"]),
            ("attention", ["... and 32 more moments", "... and 9 more numbers a moment"]),
            ("unfold", ["... and 42 more moments"]),
        ],
    )
    def test_it_says_how_much_is_left_out(self, name, sentences):
        written = " ".join(words(LARGE[name]().draw()))
        for sentence in sentences:
            assert sentence in written

    def test_rows_that_are_looked_up_are_drawn_wherever_they_stand(self):
        explanation = LARGE["embedding"]()
        figure = explanation.draw()
        names = [t.get_text() for t in texts(figure) if t.get_text().startswith("token")]
        assert names == [f"token {row}" for row in (0, 1, 2, 5, 7, 17, 300, 999)]
        assert short(explanation["table"][999, 0]) in words(figure)

    def test_the_class_that_came_is_drawn_with_the_most_probable(self):
        figure = LARGE["softmax"]().draw()
        names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
        best = np.argsort(-normal(1000))[:7]
        assert names == [f"class {k}{' came' * (k == 17)}" for k in sorted({17, *best.tolist()})]

    def test_a_vector_shows_three_numbers(self):
        explanation = LARGE["lstm"]()
        assert lines_of(explanation.draw(), "f") == [*map(short, explanation["f"][:3]), "..."]


@pytest.fixture(scope="module", params=EVERY)
def figure(request):
    """Each picture once, laid out as it would be saved."""
    figure = EVERY[request.param]().draw()
    FigureCanvasAgg(figure).draw()
    return figure


class TestReadable:
    def test_no_two_texts_overlap(self, figure):
        boxes = [(t.get_text(), t.get_window_extent().padded(-1)) for t in texts(figure)]
        for k, (text, box) in enumerate(boxes):
            for other, other_box in boxes[:k]:
                assert not box.overlaps(other_box), (text, other)

    def test_nothing_is_cut_off(self, figure):
        page = figure.bbox
        for text in texts(figure):
            box = text.get_window_extent()
            assert page.x0 <= box.x0 and box.x1 <= page.x1, text
            assert page.y0 <= box.y0 and box.y1 <= page.y1, text

    def test_texts_stand_in_the_boxes_and_circles_or_beside_them(self, figure):
        shapes = patches(figure, FancyBboxPatch) + patches(figure, Circle)
        for shape in (shape.get_window_extent() for shape in shapes):
            for text in texts(figure):
                box = text.get_window_extent().padded(-2)
                is_inside = box.x0 >= shape.x0 and box.x1 <= shape.x1
                assert is_inside or not box.overlaps(shape), text

    def test_letters_are_large_enough_and_the_paper_is_white(self, figure):
        assert min(text.get_fontsize() for text in texts(figure)) >= 8
        assert figure.get_facecolor() == to_rgba("white")
        assert max(figure.get_size_inches()) <= 14


class TestFiles:
    def test_draw_writes_a_png_and_returns_the_figure(self, tmp_path):
        figure = LECTURE["dense"]().draw(tmp_path / "dense.png")
        assert isinstance(figure, Figure)
        assert (tmp_path / "dense.png").read_bytes().startswith(PNG_SIGNATURE)

    @pytest.mark.parametrize("name", LECTURE)
    def test_a_notebook_can_show_it(self, name):
        assert LECTURE[name]().draw()._repr_png_().startswith(PNG_SIGNATURE)

    @pytest.mark.parametrize("name", LECTURE)
    def test_the_title_stands_above_it(self, name):
        explanation = LECTURE[name]()
        assert explanation.title in [text.get_text() for text in texts(explanation.draw())]

    def test_pyplot_has_no_figure_left(self):
        for make in LECTURE.values():
            make().draw()
        assert matplotlib.pyplot.get_fignums() == []
