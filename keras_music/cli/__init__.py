"""The command line: `keras-music`, a thin face over the functions of this package.

    keras-music train my_midis/ --tokenizer remi --cell lstm --out run/
    keras-music generate run/ --prompt song.mid --out new.mid

A program on which others are built keeps a few promises. What it was asked for goes to standard
output, and what it has to tell meanwhile to standard error, so that `keras-music ... > file` holds
the answer and nothing else; with `--json` the answer is one JSON object, in which a number that is
none (NaN, infinity) is null. The exit code says how it went, for a script that cannot read:

    0      it is done
    2      it cannot be done as asked; one sentence on standard error says why, and what to do
    130    stopped with Ctrl-C (128, and 2 for the signal SIGINT)
    1      a fault of this program, with Python's traceback for those who will mend it

Help comes at once. TensorFlow takes seconds to load, NumPy and pandas take longer than a patient
person's glance; so each command imports what it needs when it runs, and these files import the
standard library only. This one imports the least, because a Ctrl-C is one sentence from `main` on.

`options` is what commands have in common, `sources` finds out what a PATH is. The commands:
`preparing` (ingest), `training` (train, evaluate, export), `writing` (generate, play) and
`explaining` (explain).

Conventions: an option is named like the argument of the function that it is for, with "-" in place
of "_", and has its default.

What these files do not do: nothing that cannot be done in Python with the functions they call.

Reference: POSIX.1-2017, chapter 12, Utility Conventions; https://clig.dev.
"""

from __future__ import annotations

import contextlib
import os
import sys
import warnings

DONE, MISTAKE, STOPPED = 0, 2, 130
PACKAGE = os.path.dirname(os.path.dirname(__file__))


def main(argv=None) -> int:
    """Runs one command.

    Args:
      argv: list of str, what stands behind the program's name; default: `sys.argv[1:]`.

    Returns:
      The exit code.

    Raises:
      SystemExit: after `--help` (0), or where an option cannot be understood (2).
    """
    with _standard_error():
        try:
            return _run(list(sys.argv[1:] if argv is None else argv))
        except KeyboardInterrupt:
            return _end("keras-music", "Stopped.", STOPPED)


def _run(argv):
    import shlex

    arguments = make_parser().parse_args(argv or ["--help"])
    arguments.command_line = shlex.join(["keras-music", *argv])
    # Read when TensorFlow is loaded: without it, ten lines on the processor and what it lacks.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        _check_filled(arguments)
        with contextlib.redirect_stdout(sys.stderr), _plain_warnings():
            facts, text = arguments.run(arguments)
        _answer(_json(facts) if arguments.json else text)
        return DONE
    except KeyboardInterrupt as stop:
        return _end(arguments.prog, str(stop) or arguments.stopped, STOPPED)
    except (OSError, ImportError, ValueError) as error:
        if not _is_mistake(error):
            raise
        return _end(arguments.prog, " ".join(str(error).split()), MISTAKE)


def make_parser():
    """All commands and their options: a `Parser`."""
    from keras_music import __version__
    from keras_music.cli import explaining, preparing, training, writing
    from keras_music.cli.options import Parser

    parser = Parser(
        prog="keras-music",
        description="Learns from music or text, and writes more of it.",
        epilog="`keras-music COMMAND --help` says what a command takes.",
    )
    parser.add_argument("--version", action="version", version=f"keras-music {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for part in (preparing, training, writing, explaining):
        part.add_to(commands)
    return parser


def _check_filled(arguments):
    """A path without a letter would be the current folder, and that is seldom meant."""
    for name, value in vars(arguments).items():
        if value == "":
            raise ValueError(
                f"`{name}` must not be empty. Perhaps a variable of the shell is not set."
            )


def _is_mistake(error):
    """Whether an error is a sentence for the user: of disk or net, or raised by this package.

    The same kinds of error from another library, or from Python, are a fault of ours: a value got
    through that should have been refused. `raise` is an instruction of its own, which tells them
    apart where a function of another library in C leaves no frame.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return True
    import dis

    trace = error.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    is_raised = dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return is_raised and code.co_filename.startswith(PACKAGE)


def _json(facts):
    """JSON as its standard has it: Python would write the words NaN and Infinity.

    >>> _json({"epochs": 2, "losses": {"model": float("nan")}})
    '{"epochs": 2, "losses": {"model": null}}'
    """
    import json

    return json.dumps(json.loads(json.dumps(facts), parse_constant=lambda word: None))


def _answer(text):
    """Writes to standard output; a reader who has had enough (`| head`) is no error."""
    try:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
        print(text, flush=True)
    except BrokenPipeError:
        # What is still in the buffer would be written when Python ends, and fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(prog, sentence, code):
    print(f"{prog}: {sentence}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _standard_error():
    """Makes one where there is none (2>&-, a daemon, pythonw); what goes there nobody reads.

    It is opened first, and so gets the number 2, unless more is closed: else the first file that a
    command writes would get it, and with it what C++ has to say. Worker processes inherit it.
    """
    if sys.stderr is not None:
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as nobody, contextlib.redirect_stderr(nobody):
        os.set_inheritable(nobody.fileno(), True)
        yield


@contextlib.contextmanager
def _plain_warnings():
    """Warnings as a sentence, without the line of Python that it came from."""

    def show(message, category, filename, lineno, file=None, line=None):
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
