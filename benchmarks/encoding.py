"""How fast do tokenizers read and write? Pieces a second, beside MidiTok, measured side by side.

    python benchmarks/encoding.py

Corpus: Bach's chorales, written as MIDI files into a temporary folder, all voices on one track, so
that both sides make one sequence of each. Encoding starts from what each library keeps in memory,
our `Piece` and MidiTok's symusic `Score`, and ends with ids; the second ratio begins with the file,
which symusic reads for both. Decoding starts from the ids that each side wrote and ends with a
`Piece` or a `Score`. The pairs, with settings that say the same (12 positions to the beat for bars,
50 or 25 to the beat for seconds, 32 velocities):

    PerformanceTokenizer   MIDILike
    RemiTokenizer          REMI, with tempos and time signatures
    NoteTokenizer          TSD, the closest: it writes a time shift where something begins, ours
                           a step for each note
    ChoraleTokenizer       none has a grid of voices: ours alone, on the files' four tracks

All sides run in turn, in one process, round after round, and a ratio is that of the medians: what
disturbs the machine disturbs all. Over 1, ours is faster.
"""

import argparse
import dataclasses
import importlib.util
import os
import pathlib
import tempfile

from timing import in_turn

import keras_music as km


def pairs():
    """Ours and MidiTok's (None: there is no match), by name."""
    import miditok

    def config(positions_per_beat, beats, **settings):
        return miditok.TokenizerConfig(
            pitch_range=(0, 127),
            beat_res={(0, beats): positions_per_beat},
            num_velocities=32,
            **{"use_time_signatures": False} | settings,
        )

    signatures = {"use_tempos": True, "log_tempos": True, "use_time_signatures": True}
    ours = km.tokenizers
    return {
        "performance": (ours.PerformanceTokenizer(), miditok.MIDILike(config(50, 2))),
        "remi": (ours.RemiTokenizer(), miditok.REMI(config(12, 8, **signatures))),
        "note": (ours.NoteTokenizer(), miditok.TSD(config(25, 8))),
        "chorale": (ours.ChoraleTokenizer(), None),
    }


def our_sides(tokenizer, paths):
    """What is timed: encode, with reading, decode; each for all files."""
    pieces = [km.read_midi(path) for path in paths]
    ids = [tokenizer.encode(piece) for piece in pieces]
    return {
        "encode": lambda: [tokenizer.encode(piece) for piece in pieces],
        "read": lambda: [tokenizer.encode(km.read_midi(path)) for path in paths],
        "decode": lambda: [tokenizer.decode(row) for row in ids],
    }


def miditok_sides(tokenizer, paths):
    import symusic

    scores = [symusic.Score(path) for path in paths]
    ids = [[row.ids for row in tokenizer.encode(score)] for score in scores]
    return {
        "encode": lambda: [tokenizer.encode(score) for score in scores],
        "read": lambda: [tokenizer.encode(symusic.Score(path)) for path in paths],
        "decode": lambda: [tokenizer.decode(rows) for rows in ids],
    }


def write_corpus(folder, num_pieces):
    """Chorales as files: the paths of those with all voices on one track, and of those with four.

    MidiTok makes one sequence a track, unless it writes programs, which ours then would, too.
    """
    paths = {"one": [], "four": []}
    for number, piece in enumerate(km.corpora.bach_chorales()[:num_pieces]):
        one = dataclasses.replace(piece, notes=piece.notes.assign(track=0))
        for name, tracks in (("one", one), ("four", piece)):
            path = pathlib.Path(folder) / f"{number}_{name}.mid"
            km.write_midi(tracks, path)
            paths[name].append(path)
    return paths


def main(num_pieces, rounds):
    if importlib.util.find_spec("miditok") is None:
        print("miditok is not installed: nothing to compare with (`pip install miditok`)")
        return
    with tempfile.TemporaryDirectory() as folder:
        paths = write_corpus(folder, num_pieces)
        num_notes = sum(len(km.read_midi(path)) for path in paths["one"])
        print(f"{len(paths['one'])} chorales, {num_notes} notes, {os.cpu_count()} cores")
        print(
            f"{'tokenizer':<12} {'beside':<9} {'encode, pieces/s':>17} {'/ MidiTok':>10} "
            f"{'with reading':>13} {'decode, pieces/s':>17} {'/ MidiTok':>10}"
        )
        for name, (ours, theirs) in pairs().items():
            files = paths["four" if theirs is None else "one"]
            sides = {("ours", what): side for what, side in our_sides(ours, files).items()}
            if theirs is not None:
                others = miditok_sides(theirs, files)
                sides |= {("theirs", what): side for what, side in others.items()}
            report(name, theirs, len(files), in_turn(sides, rounds))


def report(name, theirs, num_files, seconds):
    """One line of the table."""

    def ratio(what):
        if theirs is None:
            return "-"
        return f"{seconds['theirs', what] / seconds['ours', what]:.2f}"

    print(
        f"{name:<12} {type(theirs).__name__ if theirs is not None else '-':<9} "
        f"{num_files / seconds['ours', 'encode']:17.0f} {ratio('encode'):>10} "
        f"{ratio('read'):>13} {num_files / seconds['ours', 'decode']:17.0f} {ratio('decode'):>10}",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-pieces", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    main(args.num_pieces, args.rounds)
