# %% [markdown]
# # Your own MIDI files
#
# You have a folder of MIDI files, collected over the years, from many hands. You would like a
# network to learn from them. The first thing that goes wrong is not the network: it is the folder.
# One file is cut off, one is no MIDI file at all, one is there three times under three names, and
# a program that says nothing about them either stops at the first one or trains on what is left,
# be it nothing.
#
# This script
#
# - makes a small messy folder, as they are in real life, so that it runs anywhere;
# - reads the first bytes of a MIDI file by hand;
# - reads the folder, and looks together with you at the report: what was kept, what was not, why;
# - trains a network on it, stops, and goes on where it was;
# - lets the network continue one of the files.
#
# To use your own files, put their folder in place of `my_midis` in section 3.
# It takes about two minutes on two CPU cores; no GPU, and no download beyond pip.

# %%
import os
import pathlib
import shutil
import struct
import time

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_music as km

started = time.time()
out = pathlib.Path("out")
my_midis = out / "my midis"
shutil.rmtree(my_midis, ignore_errors=True)

# %% [markdown]
# ## 1. A folder as they are
#
# A hundred and twenty chorales of Bach play the part of your collection. To them we add what real
# folders have: subfolders, names with spaces and accents, endings in capitals, a copy in another
# key, and seven files that hold no music, each in its own way.

# %%
chorales = km.corpora.bach_chorales()[:120]
for number, chorale in enumerate(chorales):
    folder = my_midis / ("choir" if number % 2 else "choir/old computer")
    km.write_midi(chorale, folder / f"{chorale.name}.mid")

km.write_midi(chorales[0].transpose(2), my_midis / "for Anna, higher.MID")
km.write_midi(chorales[1], my_midis / "choir" / "Kopie von Übung 2.midi")
whole_file = km.midi.midi_bytes(chorales[2])
damaged = {
    "empty.mid": b"",
    "letter to Anna.mid": b"Dear Anna, here is the chorale that you asked for.",
    "cut off.mid": whole_file[: len(whole_file) // 3],
    "only a tempo.mid": km.midi.midi_bytes(km.Piece([])),
    "wrong length.mid": whole_file[:18] + struct.pack(">I", 2**31) + whole_file[22:],
    "old/zeros.mid": bytes(2000),
    "old/web page.mid": b"<html><body>404 Not Found</body></html>",
}
for name, data in damaged.items():
    (my_midis / name).parent.mkdir(parents=True, exist_ok=True)
    (my_midis / name).write_bytes(data)
(my_midis / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0 not music, and nobody would think so")
print(sum(path.is_file() for path in my_midis.rglob("*")), "files")

# %% [markdown]
# ## 2. What is in a MIDI file?
#
# No sound: a list of messages, *key 67 down, with force 80*, and between them the time to wait. The
# file begins with fourteen bytes: the letters `MThd`, the number 6 (so many bytes follow), the
# format, the number of tracks, and the *ticks* into which a quarter note is divided, the clock of
# the file. The bytes of each number stand with the big end first, as we write numbers, too.

# %%
header = whole_file[:14]
letters, length, midi_format, num_tracks, ticks_per_quarter = struct.unpack(">4sIHHH", header)
print(header.hex(" "))
print(f"{letters}, format {midi_format}, {num_tracks} tracks, {ticks_per_quarter} ticks a quarter")

# %% [markdown]
# A wait is written in as few bytes as it needs. Seven bits of each byte count; the eighth says
# that another byte follows. The tempo is a message of its own: how many *microseconds* a quarter
# note lasts. Let us read both by hand.


# %%
def read_wait(data):
    """The number at the beginning of these bytes, seven bits a byte."""
    ticks = 0
    for byte in data:
        ticks = ticks << 7 | byte & 0b0111_1111
        if byte < 0b1000_0000:
            return ticks


print("83 60 is a wait of", read_wait(bytes.fromhex("83 60")), "ticks")
tempo_at = whole_file.index(bytes.fromhex("ff 51 03")) + 3  # "a tempo follows, in three bytes"
microseconds = int.from_bytes(whole_file[tempo_at : tempo_at + 3], "big")
print(f"{microseconds} microseconds a quarter are {60e6 / microseconds:.1f} quarters a minute")
same_tempo = np.isclose(60e6 / microseconds, km.read_midi(whole_file).tempos["tempo_bpm"][0])
print("by hand and by the package alike:", same_tempo)

# %% [markdown]
# The rest are keys, pressed and released, track after track. All together:

# %%
km.plots.piano_roll(
    km.read_midi(whole_file).crop(10.0),
    out / "bytes.png",
    title=f"the first ten seconds of {len(whole_file)} bytes",
)

# %% [markdown]
# This is what a loop over the folder would do. `read_midi` reads one file, and if it cannot, it
# says why in one sentence. A loop that did not catch the error would stop here; a loop that caught
# it and said nothing would be worse. And `*.mid` does not find all of them.

# %%
read, refused = {}, {}
for path in sorted(my_midis.rglob("*.mid")):
    try:
        read[path.name] = km.read_midi(path)
    except ValueError as error:
        refused[path.name] = str(error)
print(f"{len(read)} were read. The others:")
for sentence in refused.values():
    print("-", sentence)

# %% [markdown]
# ## 3. The folder as a corpus
#
# `midi_folder` finds all of them, in subfolders and in zip files, too, and reads them in *worker
# processes*: a file so broken that it takes its reader down with it costs one file and not your
# session. What was read is kept in a cache, by what is in the file and not by its name; next time
# only new and changed files are read.

# %%
corpus = km.corpora.midi_folder(my_midis)
print(corpus)

# %% [markdown]
# **Read the report before you train.** It is a table with one row a file, a pandas `DataFrame`:
# `kept` or not, the `reason` in words, `warnings` about files that were kept, and in `same_as` the
# first file with the same music, in whatever key.

# %%
report = corpus.report
columns = ["name", "notes", "seconds", "tempo_bpm", "kept"]
print(report[columns].head(5).round(1).to_string(index=False))
print()
print(report[~report.kept][["name", "reason"]].to_string(index=False))
print()
print(report.summary())

# %% [markdown]
# A picture says it at once: which pitches, how long, how fast. A piece of four hours, or a tempo
# of 1,000, would stand out here.

# %%
km.plots.corpus_overview(corpus, out / "overview.png")

# %% [markdown]
# **The same music twice.** If one copy is in the training pieces and the other in the exam, the
# network is marked for its memory. By hand: two pieces are the same music if the beats at which
# notes begin agree, and the pitches counted from the lowest one. Whoever plays it a tone higher
# has the same numbers.


# %%
def music_of(piece):
    """Beats and pitches, counted from the first beat and the lowest pitch."""
    beats = np.rint(piece.to_beats(piece.notes["start"]) * 96).astype(int)
    pitches = piece.notes["pitch"] - piece.notes["pitch"].min()
    return frozenset(zip(beats - beats.min(), pitches, strict=True))


first_with, copies = {}, {}
for name, piece in zip(corpus.names, corpus, strict=True):
    music = music_of(piece)
    if music in first_with:
        copies[name] = first_with[music]
    first_with.setdefault(music, name)
for name, original in copies.items():
    print(f"{name} is {original}")
by_package = report[report.kept & (report.same_as != "")].set_index("name")["same_as"].to_dict()
print("by hand and by the package alike:", copies.items() <= by_package.items())

# %% [markdown]
# `split` keeps such pieces on one side. Here is the copy for Anna, and its original below: the
# same picture, a tone lower.

# %%
higher = "for Anna, higher.MID"
original = copies[higher]
both = [corpus[corpus.names.index(name)] for name in (higher, original)]
km.plots.piano_roll(both[0].crop(10.0), out / "copy.png", title=higher)

# %%
km.plots.piano_roll(both[1].crop(10.0), out / "original.png", title=original)

# %% [markdown]
# ## 4. Train, stop, go on
#
# `km.train` is `model.fit` with a folder around it, the *run*: its settings, the tokenizer, a
# checkpoint after each epoch, the losses in `history.csv`, a piece that the network wrote after
# each epoch, and at the end a model card that says what this model is and is not. Interrupt it
# (Ctrl-C; in a notebook: interrupt the kernel), close the computer, start it again: it goes on
# after the last whole epoch, and ends with the same weights as if nothing had happened.
#
# We do so here: two epochs first, then up to twenty.

# %%
train, valid, test = corpus.split(seed=0)
print(f"{len(train)} pieces to learn from, {len(valid)} to watch it, {len(test)} for the end")
tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0)
settings = {
    "tokenizer": tokenizer,
    "valid": valid,
    "cell": "gru",
    "embedding_dim": 64,
    "units": 192,
    "sequence_length": 128,
    "batch_size": 16,
    "learning_rate": 4e-3,
}
run_folder = out / "my run"
shutil.rmtree(run_folder, ignore_errors=True)
km.train(train, run_folder, epochs=2, **settings)

# %%
run = km.train(train, run_folder, epochs=20, **settings)
print((run_folder / "history.csv").read_text())

# %% [markdown]
# What has it learned, and how early? These are the pieces that it wrote after the first epoch and
# after the last one.

# %%
samples = sorted((run_folder / "samples").glob("*.mid"))
km.plots.piano_roll(km.read_midi(samples[0]), out / "first_sample.png", title=samples[0].name)

# %%
km.plots.piano_roll(km.read_midi(samples[-1]), out / "last_sample.png", title=samples[-1].name)

# %% [markdown]
# As always, a loss is a number among others: those of predictors that know little.

# %%
losses = km.evaluation.ladder(run.model, tokenizer, train, test, settings["sequence_length"])
print("held-out loss, in nats a token (less is better)")
print(losses.round(3).to_string())

# %% [markdown]
# ## 5. Continue one of your files
#
# The beginning of a file that it never learned from, and what the network makes of it.

# %%
prompt = test[0].crop(float(test[0].to_seconds(12)))  # 12 quarter notes
piece = km.OneStep(run.model, tokenizer).generate(
    prompt, num_tokens=250, temperature=0.9, top_p=0.95, seed=1
)
km.write_midi(piece, out / "continued.mid")
km.plots.piano_roll(
    piece, out / "continued.png", prompt_end=prompt.duration, title=f"{test.names[0]}, continued"
)

# %%
km.audio.player(piece)

# %% [markdown]
# ## 6. The same without Python, and with many more files
#
# All of this is there as a command line, with the same names and the same defaults:
#
# ```
# keras-music train "out/my midis" --out run --tokenizer performance --epochs 10
# keras-music generate run --prompt song.mid --out new.mid
# keras-music play new.mid
# ```
#
# A hundred thousand files do not fit into memory as pieces. `km.ingest` reads them once and writes
# their ids into *shards*, files of some thousand pieces each, in TensorFlow's own format; training
# reads these as a stream. A piece goes to train, valid or test by a *hash* of its music: a number
# that looks drawn by lot and is the same on every computer, so that copies stay together, and a
# thousand machines need not talk to each other about it.

# %%
shards = km.ingest(my_midis, tokenizer, out / "shards", files_per_shard=40)
first_shard = sorted((out / "shards").glob("train-*.tfrecord"))[0]
data = first_shard.read_bytes()

# %% [markdown]
# A record in such a file is: its length in eight bytes (little end first), four bytes that check
# the length, the data, four bytes that check the data. That is enough to walk through it by hand.

# %%
place, num_records = 0, 0
while place < len(data):
    (length,) = struct.unpack("<Q", data[place : place + 8])
    place += 8 + 4 + length + 4
    num_records += 1
train_shards, valid_shards, test_shards = shards.split()
print(f"{num_records} pieces in {first_shard.name}, {len(data) / 1024:.0f} kB")
batches = km.make_dataset(train_shards, tokenizer, sequence_length=128, batch_size=16, seed=0)
print(f"{batches.cardinality()} batches an epoch, read from the shards")
inputs, targets = next(iter(batches))
print("the targets are the inputs, one id later:", np.array_equal(inputs[:, 1:], targets[:, :-1]))

# %% [markdown]
# Where do the pieces go? One bar a piece, as long as the piece; the colour is its side.

# %%
sides = {"train": train_shards, "valid": valid_shards, "test": test_shards}
figure = km.plots.Picture(figsize=(9, 2.8), layout="constrained")
axes = figure.add_subplot(xlabel="piece, in the order of the shards", ylabel="tokens")
first = 0
for name, side in sides.items():
    axes.bar(range(first, first + len(side)), side.num_ids, width=1.0, label=name)
    first += len(side)
axes.legend(frameon=False)
axes.set_title("what `ingest` wrote", loc="left")
figure.savefig(out / "shards.png")
figure

# %% [markdown]
# ## What you have learned
#
# - A MIDI file is a list of messages with a clock of its own; many files that are called .mid are
#   none.
# - Know what was kept, what was dropped, and why, before you train.
# - The same music in two files belongs on one side of the split.
# - A run that can be stopped anywhere, and goes on, is not luck: all that an epoch depends on was
#   written down.
#
# ## Exercises
#
# Put your answer in place of the three dots, and run the cell again.
#
# 1. How many MIDI files did the loop of section 2 not even look at? (Look at the names in
#    `report`.)

# %%
answer = ...  # your answer
looked_at = len(read) + len(refused)
km.explain.check(1, answer, len(report) - looked_at, tolerance=0)

# %% [markdown]
# 2. A file has 480 ticks a quarter, and its tempo message holds the bytes `09 27 c0`. How many
#    seconds does a wait last that is written as `8f 00`?

# %%
answer = ...  # your answer
km.explain.check(2, answer, 4 * 0x0927C0 / 1e6)

# %% [markdown]
# 3. Somebody has 300 pieces and 100 of them twice, under other names. He splits the 400 files by
#    lot, 80 % and 20 %. How many of the 80 exam files, on average, have their copy among the
#    training files? (Each of the 200 files that have one finds it there with probability 0.8.)

# %%
answer = ...  # your answer
km.explain.check(3, answer, 200 * 0.2 * 0.8)

# %% [markdown]
# ## References
#
# - MIDI Association, *Standard MIDI Files 1.0* (1996).
# - C. Raffel, *Learning-Based Methods for Comparing Sequences* (2016), on the Lakh MIDI dataset:
#   176,581 different files that people had put on the web.
# - C. Hawthorne and others, *Enabling Factorized Piano Music Modeling and Generation with the
#   MAESTRO Dataset* (2019): `km.corpora.maestro()`.

# %%
print(f"done in {time.time() - started:.0f} s")
