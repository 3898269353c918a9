"""`keras-music explain`: the arithmetic of a layer, with numbers typed on the command line.

    keras-music explain dense --x 2 3 1 --kernel -1 -2 0.5 --activation tanh

Numbers stand with spaces between them, the rows of a matrix with ";" (in a shell, in quotes), or as
JSON: `--kernel "1 2; 3 4"` is `--kernel "[[1, 2], [3, 4]]"`.

What this file does not do: anything that `keras_music.explain` does.
"""

from __future__ import annotations

import argparse
import json

from keras_music.cli.loading import load_tensorflow
from keras_music.cli.options import Parser, add_command

VECTOR, MATRIX, EITHER = "numbers", "a matrix", "numbers, or a matrix"
CELL = {"kernel": MATRIX, "recurrent_kernel": MATRIX, "bias": EITHER}
# What each function takes: numbers, or a default.
FUNCTIONS = {
    "embedding": {"ids": VECTOR, "table": MATRIX},
    "dense": {"x": VECTOR, "kernel": EITHER, "bias": VECTOR, "activation": None},
    "softmax_cross_entropy": {"logits": VECTOR, "target": 0},
    "rnn_cell": {"x": VECTOR, "h": VECTOR, **CELL},
    "gru_cell": {"x": VECTOR, "h": VECTOR, **CELL, "reset_after": True},
    "lstm_cell": {"x": VECTOR, "h": VECTOR, "c": VECTOR, **CELL},
    "attention_head": {
        **{"x": MATRIX, "query_kernel": MATRIX, "key_kernel": MATRIX, "value_kernel": MATRIX},
        "causal": True,
    },
    "unfold": {"x": MATRIX, **CELL, "cell": "rnn", "state": EITHER, "reset_after": True},
}
SUMMARIES = {
    "embedding": "ids become rows of a table",
    "dense": "weighted sums, and an activation",
    "softmax_cross_entropy": "scores become probabilities and a loss",
    "rnn_cell": "one step of the simple recurrent cell",
    "gru_cell": "one step of the gated recurrent unit",
    "lstm_cell": "one step of the long short-term memory",
    "attention_head": "one head of attention, of a sequence with itself",
    "unfold": "a recurrent cell over a sequence",
}
OPTIONAL = {"bias", "state", "activation"}
NUMBERS_HELP = "numbers with spaces between them, rows of a matrix with ';', or JSON"


def add_to(commands):
    parser = add_command(
        commands,
        "explain",
        "LAYER --x N N ... [options]",
        None,
        "Computes a layer step by step, with every number, and compares it with Keras.",
        examples=[
            "keras-music explain dense --x 2 3 1 --kernel -1 -2 0.5 --activation tanh",
            'keras-music explain unfold --x "1; 0" --kernel 0.5 --recurrent-kernel 0.9',
        ],
    )
    layers = parser.add_subparsers(
        title="layers",
        metavar="LAYER",
        required=True,
        prog="keras-music explain",
        parser_class=Parser,
    )
    for name, arguments in FUNCTIONS.items():
        layer = layers.add_parser(
            name, help=SUMMARIES[name], description=SUMMARIES[name], epilog=NUMBERS_HELP
        )
        layer.set_defaults(run=run_explain, layer=name, prog=layer.prog)
        for argument, kind in arguments.items():
            _add_argument(layer, argument, kind)
        layer.add_argument("--draw", metavar="FILE.png", help="draw the calculation, too")
        layer.add_argument("--json", action="store_true", default=argparse.SUPPRESS)


def _add_argument(parser, name, kind):
    option = f"--{name.replace('_', '-')}"
    required = name not in OPTIONAL
    if kind in (VECTOR, MATRIX, EITHER):
        parser.add_argument(option, nargs="+", metavar="N", required=required, help=kind)
    elif isinstance(kind, bool):
        parser.add_argument(option, action=argparse.BooleanOptionalAction, default=kind)
    elif isinstance(kind, int):
        parser.add_argument(option, type=int, required=True, metavar="N")
    else:
        parser.add_argument(option, default=kind, metavar="NAME")


def run_explain(options):
    load_tensorflow()
    from keras_music import explain

    arguments = {}
    for name, kind in FUNCTIONS[options.layer].items():
        value = getattr(options, name)
        is_numbers = kind in (VECTOR, MATRIX, EITHER) and value is not None
        arguments[name] = read_numbers(name, value, kind) if is_numbers else value
    page = getattr(explain, options.layer)(**arguments, show=False)
    if options.draw:
        page.draw(options.draw)
    facts = {
        "title": page.title,
        "steps": [
            {"step": step.name, "formula": step.formula, "value": step.value.tolist()}
            for step in page.steps
        ],
        "keras": page.layer,
        "difference": page.difference,
        "picture": options.draw,
    }
    return facts, page.text + (f"\n\npicture   {options.draw}" if options.draw else "")


def read_numbers(name, words, kind=EITHER):
    """What was typed, as numbers in lists.

    Args:
      name: str, of the argument.
      words: list of str.
      kind: `VECTOR`, `MATRIX` or `EITHER`; then one row without brackets is a vector.

    Raises:
      ValueError: it holds something that is no number.

    >>> read_numbers("x", ["2", "-3"]), read_numbers("kernel", ["1 2; 3 4"])
    ([2, -3], [[1, 2], [3, 4]])
    """
    text = " ".join(words)
    try:
        if text.lstrip().startswith("["):
            return json.loads(text)
        rows = [
            [_number(word) for word in row.replace(",", " ").split()] for row in text.split(";")
        ]
    except (ValueError, RecursionError):
        raise ValueError(
            f"`{name}` must be {kind}. Received: {text:.80}. Write them like this: 1 2 3, or "
            '"1 2; 3 4" for the rows of a matrix.'
        ) from None
    return rows[0] if len(rows) == 1 and kind != MATRIX else rows


def _number(word):
    number = float(word)
    return int(number) if number.is_integer() and "." not in word else number
