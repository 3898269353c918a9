"""`keras-music generate` and `play`: new music or text, and what it sounds and looks like.

What this file does not do: it opens no window and no loudspeaker.
"""

from __future__ import annotations

import pathlib
import shlex

from keras_music.cli.loading import load_tensorflow
from keras_music.cli.options import add_command, add_options, plural, sheet
from keras_music.cli.sources import open_model

ROWS_AT_ONCE = 64  # pieces; the result does not depend on it
WISHES = ("pitch_classes", "pitch_range", "max_notes_per_second", "max_repeats")


def add_to(commands):
    _add_generate(commands)
    _add_play(commands)


def _add_generate(commands):
    generate = add_command(
        commands,
        "generate",
        "RUN [options]",
        run_generate,
        "Writes music or text with a trained model, from nothing or going on from a prompt.",
        examples=[
            "keras-music generate run/ --out new.mid",
            "keras-music generate run/ --prompt song.mid --prompt-seconds 8 --top-p 0.95",
            'keras-music generate run/ --num 5 --pitch-classes "A minor" --pitch-range 48 72',
            'keras-music generate plays/ --prompt "ROMEO:" --temperature 0.8',
        ],
    )
    generate.add_argument("model", metavar="RUN", help="a run's folder, or an exported model")
    add_options(
        generate,
        "prompt and result",
        (
            "--prompt",
            None,
            "a MIDI file, or of a model of text the text itself",
            {"metavar": "PROMPT"},
        ),
        ("--prompt-seconds", None, "only so much of the MIDI file's beginning", {"type": float}),
        ("--out", None, "where to write (default: new.mid; text is shown)", {"metavar": "FILE"}),
        ("--num", 1, "how many pieces, numbered new_1.mid, new_2.mid, ..."),
    )
    add_options(
        generate,
        "sampling",
        ("--num-tokens", 256, "ids to write at most"),
        ("--temperature", 1.0, "1 is the network's own opinion, 0 always takes the likeliest"),
        ("--top-k", 0, "draw among the k likeliest; 0 for all"),
        ("--top-p", 1.0, "draw among the likeliest that together have this probability"),
        ("--seed", 0, "the same seed, the same music; the k-th piece has seed + k - 1"),
    )
    add_options(
        generate,
        "wishes, for music",
        (
            "--pitch-classes",
            None,
            'a key such as "A minor", or numbers 0-11',
            {"nargs": "+", "metavar": "KEY"},
        ),
        (
            "--pitch-range",
            None,
            "lowest and highest MIDI pitch",
            {"nargs": 2, "type": int, "metavar": ("LOW", "HIGH")},
        ),
        ("--max-notes-per-second", None, "1-64", {"type": int}),
        ("--max-repeats", None, "how often one pitch may begin in a row", {"type": int}),
    )


def _add_play(commands):
    play = add_command(
        commands,
        "play",
        "FILE.mid [options]",
        run_play,
        "Writes a MIDI file as sound (.wav) and as a picture (piano roll, .png).",
        examples=["keras-music play new.mid"],
    )
    play.add_argument("file", metavar="FILE.mid", help="a MIDI file")
    add_options(
        play,
        "",
        ("--wav", None, "where to write the sound (default: beside the file)", {"metavar": "FILE"}),
        ("--png", None, "where to write the picture (default: beside it)", {"metavar": "FILE"}),
        ("--sample-rate", 44100, "of the sound, in Hz"),
    )


def run_generate(options):
    load_tensorflow()
    from keras_music.arguments import whole_number
    from keras_music.generation.generator import is_text

    num = whole_number("num", options.num, 1, 100_000)
    model, _ = open_model(options.model)
    text = is_text(model.tokenizer)
    prompt = _read_prompt(options, text)
    wishes = {name: getattr(options, name) for name in WISHES}
    wishes["pitch_classes"] = _pitch_classes(options.pitch_classes)
    written = []
    for first in range(0, num, ROWS_AT_ONCE):
        rows = min(num - first, ROWS_AT_ONCE)
        each = {name: wish and [wish] * rows for name, wish in wishes.items()}
        generated = model.generate_tokens(
            [prompt] * rows,
            options.num_tokens,
            options.temperature,
            options.top_k,
            options.top_p,
            options.seed + first,
            **{name: wish for name, wish in each.items() if wish},
        )
        for tokens, length, log_prob in zip(*generated, strict=True):
            piece = model.tokenizer.decode(tokens[:length])
            seed = options.seed + len(written)
            written.append((piece, {"seed": seed, "log_prob": float(log_prob)}))
    return (_text_answer if text else _music_answer)(written, options)


def _read_prompt(options, text):
    if options.prompt is None or text:
        return options.prompt
    from keras_music.midi import read_midi

    piece = read_midi(options.prompt)
    return piece if options.prompt_seconds is None else piece.crop(options.prompt_seconds)


def _pitch_classes(words):
    """Numbers as numbers; all else is the name of a key, with or without quotes around it.

    >>> _pitch_classes(["0", "2", "4"]), _pitch_classes(["A", "minor"])
    ([0, 2, 4], 'A minor')
    """
    words = " ".join(words or []).split()
    if words and all(word.isdecimal() for word in words):
        return [int(word) for word in words]
    return " ".join(words) or None


def _numbered(path, number, num):
    """The path of one of several pieces: new.mid -> new_1.mid."""
    path = pathlib.Path(path)
    return path if num == 1 else path.with_name(f"{path.stem}_{number}{path.suffix}")


def _music_answer(written, options):
    from keras_music.midi import write_midi

    files = []
    for number, (piece, about) in enumerate(written, 1):
        path = write_midi(piece, _numbered(options.out or "new.mid", number, len(written)))
        size = {"notes": len(piece), "seconds": round(piece.duration, 3)}
        files.append({"path": str(path), **size, **about})
    rows = [
        (f"{file['path']} ", _size_text(file["notes"], file["seconds"]) + f", seed {file['seed']}")
        for file in files
    ]
    full = next((shlex.quote(file["path"]) for file in files if file["notes"]), None)
    listen = f"keras-music play {full}" if full else "nothing yet: train longer, or try other seeds"
    return {"files": files}, sheet(*rows, ("listen", listen))


def _size_text(num_notes, seconds):
    return f"{plural(num_notes, 'note')}, {seconds:.1f} s"


def _text_answer(written, options):
    from keras_music.midi import write_atomically

    facts, paths = [], []
    for number, (text, about) in enumerate(written, 1):
        facts.append({"text": text, **about})
        if options.out:
            path = _numbered(options.out, number, len(written))
            paths.append(str(write_atomically(path, text.encode())))
            facts[-1]["path"] = paths[-1]
    return {"texts": facts}, "\n".join(paths) or "\n\n".join(text for text, _ in written)


def run_play(options):
    from keras_music.audio import write_wav
    from keras_music.midi import read_midi
    from keras_music.plots import piano_roll

    source = pathlib.Path(options.file)
    piece = read_midi(source)
    wav = write_wav(piece, options.wav or source.with_suffix(".wav"), options.sample_rate)
    png = pathlib.Path(options.png or source.with_suffix(".png"))
    piano_roll(piece, png)
    facts = {
        "file": options.file,
        "notes": len(piece),
        "seconds": round(piece.duration, 3),
        "wav": str(wav),
        "png": str(png),
    }
    return facts, sheet(
        ("music", _size_text(len(piece), piece.duration)),
        ("sound", wav),
        ("picture", png),
    )
