"""How fast are MIDI files read and tokenized, and how much memory do many of them take?

    python benchmarks/ingest.py                    # the 408 Bach works that music21 brings
    python benchmarks/ingest.py my_midis/          # any folder
    python benchmarks/ingest.py --memory           # 5,000 and 50,000 synthetic files

**Speed**, all sides in turn, in one process, round after round; a ratio is that of the medians. The
other side is what TensorFlow's music tutorial does with a file, its `midi_to_notes`: pretty_midi
reads it, a table gets pitch, start, end, step and duration of the first instrument. Ours reads all
instruments, the tempo map, the metre and the pedals, checks them, and writes ids. The last lines
are ceilings: the file's bytes and symusic's parser; and with them the notes as arrays of NumPy, of
which nothing is made yet.

**Memory**: `keras_music.ingest` over folders of small files, each in a process of its own, with two
workers; the largest resident set of the parent, and of the largest worker, and the ratio of the two
folders. It writes the files into a temporary folder first (200 MB for 50,000) and takes minutes.
"""

import argparse
import collections
import json
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pandas as pd
import pretty_midi
import symusic
from timing import in_turn

import keras_music as km

MEASURED = """
import json, resource, sys
import keras_music as km
source, out = sys.argv[1:]
km.ingest(source, km.tokenizers.NoteTokenizer(), out, num_workers=2)
kinds = {"parent": resource.RUSAGE_SELF, "worker": resource.RUSAGE_CHILDREN}
print(json.dumps({k: resource.getrusage(v).ru_maxrss / 1024 for k, v in kinds.items()}))
"""


def midi_to_notes(path):
    """What the tutorial's function of this name does, written anew."""
    notes = collections.defaultdict(list)
    in_order = sorted(pretty_midi.PrettyMIDI(str(path)).instruments[0].notes, key=lambda n: n.start)
    before = in_order[0].start
    for note in in_order:
        notes["pitch"].append(note.pitch)
        notes["start"].append(note.start)
        notes["end"].append(note.end)
        notes["step"].append(note.start - before)
        notes["duration"].append(note.end - note.start)
        before = note.start
    return pd.DataFrame({name: np.array(values) for name, values in notes.items()})


def only_parse(path):
    return symusic.Score.from_midi(path.read_bytes())


def only_arrays(path):
    return [track.notes.numpy() for track in only_parse(path).tracks]


def for_each(read, paths):
    """One file after the other; nothing is kept, as where many files are read."""
    for path in paths:
        read(path)


def bach_files(folder):
    """All of Bach's works in music21, as MIDI files."""
    for piece in km.corpora.bach_chorales(parts=None):
        km.write_midi(piece, folder / f"{piece.name}.mid")
    return sorted(folder.glob("*.mid"))


def readable(paths):
    """Those that both sides can read; the tutorial stops at the first one that it cannot."""
    kept = []
    for path in paths:
        try:
            midi_to_notes(path), km.read_midi(path)
        except Exception:
            continue
        kept.append(path)
    return kept


def show_speed(paths, rounds):
    notes = np.mean([len(km.read_midi(path)) for path in paths])
    print(f"{len(paths)} files of {notes:.0f} notes on average")
    tokenizers = {
        "note": km.tokenizers.NoteTokenizer(),
        "performance": km.tokenizers.PerformanceTokenizer(),
        "remi": km.tokenizers.RemiTokenizer(),
    }
    reads = {"midi_to_notes": midi_to_notes}
    for name, tokenizer in tokenizers.items():
        reads[f"read + {name}"] = lambda path, encode=tokenizer.encode: encode(km.read_midi(path))
    reads |= {"read_midi": km.read_midi, "only parsed": only_parse, "only arrays": only_arrays}
    sides = {name: lambda read=read: for_each(read, paths) for name, read in reads.items()}
    seconds = in_turn(sides, rounds)
    print("                    files/s   times midi_to_notes")
    for name in reads:
        ratio = seconds["midi_to_notes"] / seconds[name]
        print(f"{name:18} {len(paths) / seconds[name]:8.0f}   {ratio:8.2f}")


def write_synthetic(folder, num_files):
    """Small files, no two alike, a thousand to a folder."""
    rng = np.random.default_rng(0)
    for number in range(num_files):
        start = np.cumsum(rng.integers(0, 4, 60)) * 0.125
        pitch = rng.integers(40, 90, 60)
        piece = km.Piece({"pitch": pitch, "start": start, "end": start + 0.25})
        path = folder / f"{number // 1000:03}" / f"{number:06}.mid"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(km.midi.midi_bytes(piece))


def show_memory(counts):
    peaks = []
    print("    files   parent MiB   worker MiB")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "files"
            write_synthetic(source, count)
            command = [sys.executable, "-c", MEASURED, source, pathlib.Path(folder) / "shards"]
            printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        peaks.append(json.loads(printed.splitlines()[-1]))
        print(f"{count:9}   {peaks[-1]['parent']:10.0f}   {peaks[-1]['worker']:10.0f}")
    for kind in ("parent", "worker"):
        print(f"{kind}, {counts[-1]} files / {counts[0]}: {peaks[-1][kind] / peaks[0][kind]:.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", help="default: Bach's works")
    parser.add_argument("--num-files", type=int, help="only the first so many")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--counts", type=int, nargs="+", default=[5000, 50000])
    options = parser.parse_args()
    if options.memory:
        show_memory(options.counts)
        return
    with tempfile.TemporaryDirectory() as temporary:
        if options.folder:
            paths = sorted(pathlib.Path(options.folder).rglob("*.mid"))
        else:
            paths = bach_files(pathlib.Path(temporary))
        show_speed(readable(paths[: options.num_files]), options.rounds)


if __name__ == "__main__":
    main()
