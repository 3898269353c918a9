"""What commands have in common: how options are read, and how an answer is written.

Conventions: a command is a function of its options that returns two things, the answer for
machines (a dict, for `--json`) and the answer for people (str).

What this file does not do: it imports nothing of the package.
"""

from __future__ import annotations

import argparse

TOKENIZERS = {
    "performance": "PerformanceTokenizer",
    "remi": "RemiTokenizer",
    "note": "NoteTokenizer",
    "chorale": "ChoraleTokenizer",
    "char": "CharTokenizer",
}


class Parser(argparse.ArgumentParser):
    """A parser that says a mistake in one sentence, not below ten lines of usage."""

    def __init__(self, **settings):
        settings.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}. `{self.prog} --help` says what can be given.\n")


def add_command(commands, name, usage, run, summary, *, examples, stopped="Stopped."):
    """Adds a command.

    Args:
      commands: what `add_subparsers` gave.
      name: str; usage: str, what stands behind it.
      run: the function of its options.
      summary: one sentence on what it does.
      examples: list of str, lines to type.
      stopped: one sentence for Ctrl-C, how to go on.

    Returns:
      Its `Parser`.
    """
    lines = "\n".join(f"  {line}" for line in examples)
    parser = commands.add_parser(
        name,
        usage=f"keras-music {name} {usage}",
        help=summary,
        description=summary,
        epilog=f"examples:\n{lines}",
    )
    parser.add_argument("--json", action="store_true", help="answer with one JSON object")
    parser.set_defaults(run=run, stopped=stopped, prog=parser.prog)
    return parser


def add_options(parser, title, *rows):
    """Adds options under a title, "" for none.

    Args:
      rows: (name, default, help) of each, and a dict of what else `add_argument` takes. A number
        as the default makes the option one of such numbers.
    """
    group = parser.add_argument_group(title) if title else parser
    for name, default, text, *more in rows:
        settings = {"default": default, "help": text} | (more[0] if more else {})
        if isinstance(default, int | float):
            settings = {"type": type(default)} | settings
        if settings.get("type") in (int, float):
            settings = {"metavar": "N"} | settings
        if default is not None and "action" not in settings:
            shown = default if isinstance(default, tuple) else (default,)
            settings["help"] += f" (default: {' '.join(map(str, shown))})"
        group.add_argument(name, **settings)


def add_tokenizer(parser, default_text):
    """The two options that choose a tokenizer."""
    add_options(
        parser,
        "tokenizer",
        (
            "--tokenizer",
            None,
            f"{', '.join(TOKENIZERS)}, or a tokenizer.json (default: {default_text})",
            {"metavar": "NAME"},
        ),
        (
            "--set",
            [],
            "its settings, such as: --set multi_program=true velocity_bins=8",
            {"nargs": "+", "metavar": "NAME=VALUE", "action": "extend"},
        ),
    )


def sheet(*rows) -> str:
    """Rows of (label, text) as lines of two columns; rows without a text are left out.

    >>> print(sheet(("files", "80 kept"), ("left out", ""), ("report", "a.csv")))
    files     80 kept
    report    a.csv
    """
    rows = [(label, str(text)) for label, text in rows if text not in (None, "")]
    width = max(10, *(len(label) + 2 for label, _ in rows))
    return "\n".join(f"{label:{width}}{text}" for label, text in rows)


def plural(number, noun) -> str:
    """`1 note`, `2 notes`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def counted(counts, most=6) -> str:
    """{what: how often} in words.

    >>> counted({"it is empty": 2, "it has no notes": 1})
    'it is empty (2), it has no notes (1)'
    """
    words = [f"{what} ({number})" for what, number in list(counts.items())[:most]]
    if (rest := len(counts) - most) > 0:
        words.append(f"and {rest} other kinds")
    return ", ".join(words)
