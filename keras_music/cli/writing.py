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
    default, source = (None, None) if text else ("new.mid", options.prompt)
    paths = _free_paths("--out", options.out, default, source, num)
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
    return _text_answer(written, paths) if text else _music_answer(written, paths, prompt)


def _read_prompt(options, text):
    if options.prompt is None or text:
        return options.prompt
    from keras_music.midi import read_midi

    piece, seconds = read_midi(options.prompt), options.prompt_seconds
    if seconds is not None and not seconds > 0:
        raise ValueError(f"--prompt-seconds must be > 0. Received: {seconds:g}.")
    return piece if seconds is None else piece.crop(seconds)


def _pitch_classes(words):
    """Numbers as numbers; all else is the name of a key, with or without quotes around it.

    >>> _pitch_classes(["0", "2", "4"]), _pitch_classes(["A", "minor"])
    ([0, 2, 4], 'A minor')
    """
    words = " ".join(words or []).split()
    if words and all(word.isdecimal() for word in words):
        return [int(word) for word in words]
    return " ".join(words) or None


def _free_paths(option, given, default, source=None, num=1):
    """Where results are written, so that nothing is lost by it.

    Args:
      option: str, for sentences.
      given: str or None, what stands behind the option.
      default: str, path or None, the name where nothing is given.
      source: str, path or None, the file that the results are made from.
      num: int, several results are numbered: new.mid -> new_1.mid, new_2.mid, ...

    Returns:
      list of `num` paths; of None, where there is neither a name nor a default.

    Raises:
      ValueError: it is a folder, or the source; or a file of that name exists, nobody typed the
        name, and the file is not ours.
    """
    if given is None and default is None:
        return [None] * num
    path = pathlib.Path(default if given is None else given).expanduser()
    if path.is_dir():
        raise ValueError(f"{option} must be a file. Received: {path}, which is a folder.")
    paths = [path]
    if num > 1:
        paths = [path.with_name(f"{path.stem}_{k}{path.suffix}") for k in range(1, num + 1)]
    for path in filter(pathlib.Path.exists, paths):
        if source is not None and path.samefile(pathlib.Path(source).expanduser()):
            raise ValueError(f"{option} must be another file than {source}, which it is made from.")
        if given is None and not _is_ours(path):
            raise ValueError(
                f"{path} exists. Give another name with {option}, or the same to replace it."
            )
    return paths


def _is_ours(path):
    """Whether this package wrote a sound or picture: they say so, at the end or the beginning."""
    with path.open("rb") as file:
        beginning = file.read(200)
        file.seek(max(path.stat().st_size - 50, 0))
        return b"keras_music" in beginning + file.read()


def _music_answer(written, paths, prompt):
    from keras_music.midi import write_midi

    files = []
    new = "" if prompt is None else f", new from {prompt.duration:.1f} s on"
    for (piece, about), path in zip(written, paths, strict=True):
        write_midi(piece, path)
        size = {"notes": len(piece), "seconds": round(piece.duration, 3)}
        files.append({"path": str(path), **size, **about})
    rows = [
        (
            f"{file['path']} ",
            f"{_size_text(file['notes'], file['seconds'])}{new}, seed {file['seed']}",
        )
        for file in files
    ]
    full = next((shlex.quote(file["path"]) for file in files if file["notes"]), None)
    listen = f"keras-music play {full}" if full else "nothing yet: train longer, or try other seeds"
    return {"files": files}, sheet(*rows, ("listen", listen))


def _size_text(num_notes, seconds):
    return f"{plural(num_notes, 'note')}, {seconds:.1f} s"


def _text_answer(written, paths):
    from keras_music.disk import write_atomically

    facts = []
    for (text, about), path in zip(written, paths, strict=True):
        facts.append({"text": text, **about})
        if path is not None:
            facts[-1]["path"] = str(write_atomically(path, text.encode()))
    answer = [fact.get("path", fact["text"]) for fact in facts]
    return {"texts": facts}, ("\n\n" if paths[0] is None else "\n").join(answer)


def run_play(options):
    from keras_music.audio import write_wav
    from keras_music.midi import read_midi
    from keras_music.plots import piano_roll

    source = pathlib.Path(options.file).expanduser()
    piece = read_midi(source)
    (wav,) = _free_paths("--wav", options.wav, source.with_suffix(".wav"), source)
    (png,) = _free_paths("--png", options.png, source.with_suffix(".png"), source)
    write_wav(piece, wav, options.sample_rate)
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
