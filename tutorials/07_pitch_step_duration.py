# %% [markdown]
# # Pitch, step, duration: a model with four defects
#
# TensorFlow's tutorial *Generate music with an RNN* writes a note as three numbers: its *pitch*,
# its *step* (the seconds since the note before began) and its *duration*. A network reads 25 notes
# and says the next. The idea is good, many programs are built on it, and its training loss falls
# as it should. But the music stalls, and nothing says why.
#
# Here you rebuild that model, in other words and on two voices of Bach, hear it fail, find four
# defects, measure each, and mend them. None of them raises an error. They are easy to make and
# worth knowing.
#
# You need Python and school mathematics, no deep learning. It takes about two minutes on two CPU
# cores; no GPU, and no download beyond pip. The script writes into `out/`:
#
# - `rebuilt.wav`, `rebuilt.png`: what the rebuilt model plays; `mended.wav`, `mended.mid`;
# - `fed_back.png`, `times.png`, `rolls.png`: two of the defects, and before and after.

# %%
import math
import os
import pathlib
import time

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

import keras_music as km
from keras_music.plots import BLUE, GREY, ORANGE, Picture  # Picture: matplotlib's Figure

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## 1. Notes as rows of three numbers
#
# Of each chorale we take the highest voice and the lowest. All are brought to one tempo: a beat
# lasts half a second, a sixteenth an eighth of a second. Some chorales are held out, to ask the
# network about music that it has never seen.


# %%
def outer_voices(piece):
    notes = piece.notes[piece.notes["track"].isin([0, 3])]  # soprano and bass
    start, end = (piece.to_beats(notes[side]) * 0.5 for side in ("start", "end"))
    pitch = notes["pitch"].to_numpy()
    return km.Piece({"pitch": pitch, "start": start, "end": end, "program": 19}, name=piece.name)


train, _, test = km.corpora.bach_chorales().split(seed=0)
train = [outer_voices(piece) for piece in train]
test = [outer_voices(piece) for piece in test]
print(f"{len(train)} chorales to learn from, {sum(map(len, train))} notes; {len(test)} held out")

# %% [markdown]
# A row is (pitch, step, duration). The notes stand in order of their beginning, so that a step is
# the difference to the row before; two notes that begin together have a step of 0 between them.


# %%
def to_rows(piece):
    pitch, start, end = (piece.notes[name].to_numpy() for name in ("pitch", "start", "end"))
    return np.stack([pitch, np.diff(start, prepend=start[0]), end - start], axis=1)


def to_piece(rows):
    pitch, step, duration = np.transpose(rows)
    start = np.cumsum(step)
    notes = {"pitch": pitch.astype(int), "start": start, "end": start + duration, "program": 19}
    return km.Piece(notes)


train_rows = [to_rows(piece) for piece in train]
test_rows = [to_rows(piece) for piece in test]
print(pd.DataFrame(test_rows[0][:6], columns=["pitch", "step", "duration"]).to_string())
km.plots.piano_roll(test[0].crop(12.0), out / "two_voices.png", title="two voices of a chorale")

# %% [markdown]
# ## 2. The model, rebuilt
#
# A *window* is 26 notes in a row: 25 are the question, the last one is the answer. The network gets
# pitches divided by 128, for it learns best from numbers that are not much larger than 1. The
# answer keeps its whole number: it says *which* of 128 keys.

# %%
LENGTH = 25
SCALE = np.array([128, 1, 1])


def windows(rows):
    """Rows (notes, 3) -> all windows of 26 rows, (windows, 26, 3)."""
    return np.lib.stride_tricks.sliding_window_view(rows, (LENGTH + 1, 3))[:, 0]


def answers_of(windows):
    return dict(zip(["pitch", "step", "duration"], windows[:, -1].T, strict=True))


def pipeline(examples, batch_size=64):
    dataset = tf.data.Dataset.from_tensor_slices(examples)
    dataset = dataset.shuffle(len(dataset), seed=0).batch(batch_size, drop_remainder=True)
    return dataset.cache().prefetch(tf.data.AUTOTUNE)


everything = np.concatenate(train_rows)  # all chorales, one after the other
train_windows = windows(everything)
train_ds = pipeline((train_windows[:, :-1] / SCALE, answers_of(train_windows)))
print(f"{len(train_windows)} windows, {len(train_ds)} batches")

# %% [markdown]
# The network is an *LSTM*: a layer that reads the notes from left to right and keeps 128 numbers as
# its memory. Three *dense* layers (sums of products) turn the memory into answers:
#
# - 128 scores for the pitch. The *softmax* makes probabilities of them. If the right key had
#   probability p, the surprise is -ln(p) *nats*; the mean surprise is the loss.
# - one number for the step and one for the duration. Their loss is the *squared error*, the square
#   of the difference to the right number.
#
# The tutorial adds the three, pitch with a weight of 0.05, and so do we. (It also punishes negative
# times, and cuts off at 0 those that come all the same. We cut only.)

# %%
keras.utils.set_random_seed(0)
notes_in = keras.Input((LENGTH, 3))
memory = keras.layers.LSTM(128, name="memory")(notes_in)
answers_out = {
    "pitch": keras.layers.Dense(128, name="pitch")(memory),
    "step": keras.layers.Dense(1, name="step")(memory),
    "duration": keras.layers.Dense(1, name="duration")(memory),
}
rebuilt = keras.Model(notes_in, answers_out)
pitch_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
rebuilt.compile(
    keras.optimizers.Adam(0.005),
    loss={"pitch": pitch_loss, "step": "mse", "duration": "mse"},
    loss_weights={"pitch": 0.05, "step": 1.0, "duration": 1.0},
)
rebuilt.fit(train_ds, epochs=3, shuffle=False, verbose=2)

# %% [markdown]
# The loss has fallen. Let it play: it reads 25 notes of a chorale that was held out, says a note,
# the window moves on by one, and so on. This is the loop of the tutorial, in our words. (The
# *temperature* divides the scores before the softmax; below 1 the likely gets likelier. The
# tutorial takes 2; we take 0.8 from here to the end.)


# %%
TEMPERATURE, NEW_NOTES, SHOWN_SECONDS = 0.8, 40, 24


def draw(scores, random, temperature=1.0):
    """An index, drawn with the probabilities that the softmax makes of the scores."""
    p = np.exp((scores - scores.max()) / temperature)
    return random.choice(len(scores), p=p / p.sum())


def play(model, prompt, num_notes, seed):
    """Rows of new notes, and every row that the network has read."""
    random = np.random.default_rng(seed)
    window = prompt[-LENGTH:] / SCALE
    new, read = [], list(window)
    for _ in range(num_notes):
        said = model.predict(window[None], verbose=0)
        pitch = draw(said["pitch"][0], random, TEMPERATURE)
        step, duration = (max(float(said[name][0, 0]), 0) for name in ("step", "duration"))
        new.append((pitch, step, duration))
        read.append(new[-1])
        window = np.array(read[-LENGTH:])
    return np.array(new), np.array(read)


# %%
prompt = test_rows[4][:LENGTH]
play(rebuilt, prompt, 1, seed=1)  # the first call is slow, and does not count
clock = time.perf_counter()
new_rows, read = play(rebuilt, prompt, NEW_NOTES, seed=1)
predict_seconds = (time.perf_counter() - clock) / NEW_NOTES

prompt_end = to_piece(prompt).notes["start"].max() + 0.01
rebuilt_piece = to_piece(np.concatenate([prompt, new_rows])).crop(SHOWN_SECONDS)
km.audio.write_wav(rebuilt_piece, out / "rebuilt.wav")
print(f"median step: read {np.median(prompt[:, 1]):.2f} s, written {np.median(new_rows[:, 1]):.2f}")
km.plots.piano_roll(
    rebuilt_piece, out / "rebuilt.png", prompt_end=prompt_end, title="The rebuilt model continues"
)

# %%
km.audio.player(out / "rebuilt.wav")

# %% [markdown]
# After the prompt the music nearly stands still. Bad luck, too little training? Let us look.
#
# ## 3. First defect: what comes out goes in again, but not as it was learned
#
# Here is the pitch column of what the network has read, the prompt and then its own notes:

# %%
print("end of the prompt:", read[LENGTH - 4 : LENGTH, 0].round(2))
print("its own notes:    ", read[LENGTH : LENGTH + 4, 0].round(2))

# %% [markdown]
# The prompt was divided by 128, the notes that were drawn were not. The network, which has only
# ever seen pitches between 0.28 and 0.63, suddenly reads numbers above 50. What does that do to
# it? To measure it, we ask about the held-out chorales, and spoil 0, 1, 2... of the 25 notes, the
# last ones, as the loop does. First the surprise by hand, checked against Keras:


# %%
def surprise(scores, right):
    """-ln(probability of the right index), in nats; scores (n, classes), right (n,)."""
    scores = scores - scores.max(axis=1, keepdims=True)
    log_p = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(right)), right.astype(int)]


test_windows = np.concatenate([windows(rows) for rows in test_rows])
questions, answers = test_windows[:, :-1] / SCALE, answers_of(test_windows)
said = rebuilt.predict(questions, batch_size=512, verbose=0)
by_hand = surprise(said["pitch"], answers["pitch"]).mean()
difference = abs(by_hand - float(pitch_loss(answers["pitch"], said["pitch"])))
print(f"{len(questions)} questions, {by_hand:.2f} nats a pitch; Keras differs by {difference:.0e}")
if not difference < 1e-4:
    raise SystemExit("The surprise by hand and Keras' differ: something is wrong.")

# %%
COUNTS = [0, 1, 2, 4, 8, 16, 25]
spoiled_losses, spoiled_steps = [], []
for count in COUNTS:
    spoiled = questions.copy()
    spoiled[:, LENGTH - count :, 0] *= 128
    answer = rebuilt.predict(spoiled, batch_size=512, verbose=0)
    spoiled_losses.append(surprise(answer["pitch"], answers["pitch"]).mean())
    spoiled_steps.append(answer["step"].mean())
    favourites = len(np.unique(answer["pitch"].argmax(axis=1)))
    print(
        f"{count:2} undivided: {spoiled_losses[-1]:5.2f} nats a pitch, mean step "
        f"{spoiled_steps[-1]:.2f} s, {favourites} different favourite pitches"
    )
print(f"a guess among 128 keys: {np.log(128):.2f} nats")

# %%
figure = Picture(figsize=(9, 3.2), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(np.arange(LENGTH), read[:LENGTH, 0], ".", color=BLUE, label="prompt")
left.plot(np.arange(LENGTH, len(read)), read[LENGTH:, 0], ".", color=ORANGE, label="its own notes")
left.set(yscale="log", xlabel="note", ylabel="pitch as the network reads it")
left.set_yticks([0.5, 5, 50], ["0.5", "5", "50"])
left.legend(frameon=False)
right.plot(COUNTS, spoiled_losses, "o-", color=ORANGE)
right.axhline(np.log(128), color=GREY, linestyle="--")
right.text(25, np.log(128) + 0.15, "a guess among 128 keys", color=GREY, ha="right")
right.set(xlabel="undivided notes of 25", ylabel="surprise (nats a pitch)", ylim=(0, None))
figure.savefig(out / "fed_back.png", dpi=150)
figure

# %% [markdown]
# A single note of its own is enough: from then on the network does worse than somebody who guesses
# blindly. To see why, compute a step of the LSTM by hand. With x the note, h the answer so far and
# c the memory:
#
#     i = sigmoid(Wi x + Ui h)      how much of the new idea goes into the memory
#     f = sigmoid(Wf x + Uf h)      how much of the memory stays
#     g = tanh(Wg x + Ug h)         the new idea
#     o = sigmoid(Wo x + Uo h)      how much of the memory is told
#     c = f * c + i * g
#     h = o * tanh(c)
#
# (each sum has a bias, too). The sigmoid is a curve from 0 to 1. Around 0 it is steep, far out it
# is flat: a gate that gets numbers in the tens is open or shut, whatever the music is.

# %%
W, U, bias = rebuilt.get_layer("memory").get_weights()


def lstm_by_hand(rows):
    """The last h, (128,), and the gates i, f and o of the last step."""
    h, c = np.zeros(128), np.zeros(128)
    for x in rows:
        i, f, g, o = np.split(x @ W + h @ U + bias, 4)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c = f * c + i * np.tanh(g)
        h = o * np.tanh(c)
    return h, np.concatenate([i, f, o])


to_memory = keras.Model(rebuilt.input, rebuilt.get_layer("memory").output)
h, gates = lstm_by_hand(questions[0])
difference = np.abs(h - to_memory.predict(questions[:1], verbose=0)[0]).max()
print(f"largest difference between the LSTM by hand and Keras': {difference:.0e}")
if not difference < 1e-4:
    raise SystemExit("The LSTM by hand and Keras' differ: something is wrong.")

# %%
spoiled = questions[0].copy()
spoiled[-1, 0] *= 128
_, spoiled_gates = lstm_by_hand(spoiled)
for name, values in [("divided", gates), ("undivided", spoiled_gates)]:
    stuck = np.mean((values < 0.01) | (values > 0.99))
    print(f"last note {name}: {stuck:.0%} of the gates are open or shut to within 1 %")

# %% [markdown]
# Here is one unit of the 128 in full, as if its first note came undivided. (Its memory is still 0,
# so one row of U is enough.)

# %%
unit = np.array([0, 128, 256, 384])  # its columns in the four blocks i, f, g, o
first_note = prompt[0].round(3)
km.explain.lstm_cell(first_note, [0.0], [0.0], W[:, unit], U[:1, unit], bias[unit])

# %% [markdown]
# **The mend.** Not another division in the loop: then the same thing would stand in two places, and
# the next change would find only one. Notes stay notes, and *one* function prepares them, wherever
# they go into the network.


# %%
def prepare(notes):
    """Notes (..., 3) -> what the network reads. Training and playing call this, and only this."""
    return notes / SCALE


def play_prepared(model, prompt, num_notes, seed):
    random = np.random.default_rng(seed)
    notes = list(prompt)
    for _ in range(num_notes):
        said = model.predict(prepare(np.array(notes[-LENGTH:]))[None], verbose=0)
        pitch = draw(said["pitch"][0], random, TEMPERATURE)
        step, duration = (max(float(said[name][0, 0]), 0) for name in ("step", "duration"))
        notes.append((pitch, step, duration))
    return np.array(notes[len(prompt) :])


prepared_rows = play_prepared(rebuilt, prompt, NEW_NOTES, seed=1)
print(f"median step now {np.median(prepared_rows[:, 1]):.2f} s")
km.plots.piano_roll(
    to_piece(np.concatenate([prompt, prepared_rows])),
    prompt_end=prompt_end,
    title="The same network, reading its own notes as it has learned to",
)

# %% [markdown]
# The same weights, and it moves again. It is not good yet: look how the two voices, which should
# strike together, come apart.
#
# ## 4. Second defect: an order that is drawn once
#
# A network should meet its examples in a new order in every epoch. `pipeline` says `shuffle`, and
# it does not happen. To see it, send numbers through it instead of windows, twice:


# %%
def two_epochs(dataset):
    return [np.concatenate([batch.numpy() for batch in dataset]) for _ in range(2)]


numbers = np.arange(len(train_windows))
first, second = two_epochs(pipeline(numbers))
print("first epoch: ", first[:8])
print("second epoch:", second[:8])
print("the same order:", np.array_equal(first, second))
print(f"windows that are never seen, in no epoch: {len(numbers) - len(np.unique(first))}")

# %% [markdown]
# `cache` stands behind `shuffle` and `batch`. In the first epoch it keeps what comes by, shuffled
# batches, and plays that back ever after, like a tape. What `drop_remainder` has left out in the
# first epoch is left out for good. **The mend** is the order: keep the examples, then shuffle,
# then batch.


# %%
def mended_pipeline(examples, batch_size=64):
    dataset = tf.data.Dataset.from_tensor_slices(examples).cache()
    dataset = dataset.shuffle(len(dataset), seed=0, reshuffle_each_iteration=True)
    return dataset.batch(batch_size).prefetch(tf.data.AUTOTUNE)


first, second = two_epochs(mended_pipeline(numbers))
print("first epoch: ", first[:8])
print("second epoch:", second[:8])
print("mended, the same order:", np.array_equal(first, second))
print("all windows in both:", len(np.unique(first)) == len(np.unique(second)) == len(numbers))

# %% [markdown]
# ## 5. Third defect: windows across the ends of pieces
#
# The rows of all chorales were laid end to end before the windows were cut. So there are windows
# that begin in one chorale and end in the next. How many? Cut the numbers of the chorales into
# windows in the same way, and count the windows with two numbers in them:

# %%
chorale = np.repeat(np.arange(len(train_rows)), [len(rows) for rows in train_rows])
chorale_of = np.lib.stride_tricks.sliding_window_view(chorale, LENGTH + 1)
crosses = chorale_of[:, 0] != chorale_of[:, -1]
print(f"{crosses.sum()} of {len(crosses)} windows hold notes of two chorales: {crosses.mean():.0%}")
print(f"{len(train_rows) - 1} ends, {LENGTH} windows across each: {(len(train_rows) - 1) * LENGTH}")

# %% [markdown]
# Here are the four notes around the first seam:

# %%
seam = len(train_rows[0])
around = pd.DataFrame(everything[seam - 2 : seam + 2], columns=["pitch", "step", "duration"])
around["chorale"] = [train[number].name for number in chorale[seam - 2 : seam + 2]]
print(around.to_string())
pitch, step, duration = everything[seam - 12 : seam + 12].T
start = np.cumsum(step)
figure = Picture(figsize=(8, 3), layout="constrained")
axes = figure.add_subplot(xlabel="time (seconds)")
axes.hlines(pitch, start, start + duration - 0.03, colors=[BLUE] * 12 + [ORANGE] * 12, linewidth=5)
axes.set_yticks([36, 48, 60, 72], ["C2", "C3", "C4", "C5"])
axes.grid(axis="y", color="#d9d9d9")
title = f"The end of {train[0].name} (blue) and the beginning of {train[1].name} (orange)"
axes.set_title(title, loc="left")
figure.savefig(out / "seam.png", dpi=150)
figure

# %% [markdown]
# Such windows teach that after a final chord anything may come, in any key: nobody can learn that,
# and more than a fifth of the training goes into it. Worse, a first note has no note before it, so
# its step is 0: it is learned as struck together with the last note of another piece.
#
# **The mend**: windows are cut from each piece by itself. (For the held-out windows above we have
# done that from the beginning, so that the measurements are right.)

# %%
clean_windows = np.concatenate([windows(rows) for rows in train_rows])
print(f"{len(clean_windows)} windows, each of one chorale:", len(clean_windows) == (~crosses).sum())

# %% [markdown]
# ## 6. Fourth defect: a mean is not a note
#
# Which single number has the smallest squared error to 0, 0 and 0.5? Try all:

# %%
candidates = np.linspace(0, 0.5, 501)
errors = [np.mean((np.array([0, 0, 0.5]) - candidate) ** 2) for candidate in candidates]
print(f"the best number: {candidates[np.argmin(errors)]:.3f}, the mean: {np.mean([0, 0, 0.5]):.3f}")

# %% [markdown]
# The mean: a number that is never right. In music the next step is 0 *or* a quarter of a second
# *or* half a second; a network that is trained with the squared error answers with what lies
# between. So look at what it says, beside the steps and durations that really come:

# %%
figure = Picture(figsize=(9, 4.2), layout="constrained")
for column, name in enumerate(["step", "duration"]):
    real, predicted = answers[name], said[name][:, 0]
    bins = np.arange(-0.2125, 1.25, 0.025)  # multiples of 1/8 stand in the middle of a bar
    top, bottom = figure.add_subplot(2, 2, 1 + column), figure.add_subplot(2, 2, 3 + column)
    top.hist(real, bins, color=BLUE)
    top.set_title(f"{name}: real (held out)", loc="left")
    bottom.hist(predicted, bins, color=ORANGE)
    bottom.axvline(real.mean(), color=GREY, linestyle="--", label="mean of the real ones")
    bottom.set_title(f"{name}: predicted, squared error", loc="left")
    bottom.set_xlabel("seconds")
    bottom.legend(frameon=False)
    on_grid = [np.mean(np.abs(8 * x - np.rint(8 * x)) < 0.08) for x in (real, predicted)]
    print(
        f"{name:8}: within 10 ms of a sixteenth: {on_grid[0]:.0%} of the real ones, "
        f"{on_grid[1]:.0%} of the predicted; negative: {np.mean(predicted < 0):.1%}, "
        f"smallest {predicted.min():.2f} s"
    )
figure.savefig(out / "times.png", dpi=150)
figure

# %% [markdown]
# The real ones are a comb, a few values. The predicted steps lie smeared around its teeth, and a
# fifth are negative: a note before the one before it. The durations have almost become one lump
# near the mean. And there are no dice in it: whoever always takes the mean always plays the same
# rhythm.
#
# **The mend.** A *class* is one of a few possible answers, as with the pitch, and a time can be
# one: how many sixteenths? Then the softmax can say "0 with 60 %, 2 with 40 %", and we draw one of
# them. To see how much of the difference this is, keep the trained network as it is, its memory
# too, and learn only new last layers on top:

# %%
to_class = {"step": 25, "duration": 65}  # up to 3 and up to 8 seconds, in sixteenths
train_answers = answers_of(clean_windows)
features = to_memory.predict(prepare(clean_windows[:, :-1]), batch_size=512, verbose=0)
test_features = to_memory.predict(questions, batch_size=512, verbose=0)
class_scores = {}
for name, num_classes in to_class.items():
    head = keras.Sequential([keras.Input((128,)), keras.layers.Dense(num_classes)])
    head.compile(keras.optimizers.Adam(0.01), pitch_loss)  # the same loss as for the pitch
    sixteenths = np.rint(8 * train_answers[name])
    head.fit(mended_pipeline((features, sixteenths), 256), epochs=4, shuffle=False, verbose=0)
    class_scores[name] = head.predict(test_features, batch_size=512, verbose=0)
random = np.random.default_rng(0)
drawn = np.array([draw(scores, random) for scores in class_scores["step"]]) / 8
steps_of = {"real": answers["step"], "squared error": said["step"][:, 0], "classes, drawn": drawn}
for name, steps in steps_of.items():
    shares = [np.mean(np.abs(steps - value) < 0.01) for value in (0, 0.25, 0.5)]
    print(f"{name:15} 0 s {shares[0]:.0%}, 0.25 s {shares[1]:.0%}, 0.5 s {shares[2]:.0%}")

# %% [markdown]
# Is that the network's knowledge, or would counting do? And can a squared error be compared with
# nats? It can: to use it is to bet on a bell curve around the number that was said. The part of
# the curve that lies over a sixteenth is the probability of that sixteenth. We take the width that
# suits the held-out notes best, which is generous.


# %%
def below(x):
    """The part of the bell curve that lies below x."""
    return 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def bell_surprise(predicted, real):
    """In nats, for the sixteenth in which each real time lies, at the best width."""
    middle = np.rint(8 * real) / 8
    widths = np.geomspace(0.02, 0.5, 15)  # in seconds
    shares = [
        below((middle + 1 / 16 - predicted) / width) - below((middle - 1 / 16 - predicted) / width)
        for width in widths
    ]
    return min(-np.log(np.maximum(share, 1e-12)).mean() for share in shares)


def count_surprise(name, train_values, values, num_classes):
    counts = np.bincount(train_values.astype(int), minlength=num_classes) + 1.0
    return -np.log(counts / counts.sum())[values.astype(int)].mean()


# %%
in_classes = {name: np.rint(answers[name] * (1 if name == "pitch" else 8)) for name in answers}
prices = pd.DataFrame(columns=["pitch", "step", "duration"], dtype=float)
prices.loc["counting only"] = [
    count_surprise(
        name,
        np.rint(train_answers[name] * (1 if name == "pitch" else 8)),
        in_classes[name],
        {"pitch": 128, **to_class}[name],
    )
    for name in answers
]
prices.loc["rebuilt, squared error"] = [
    by_hand,
    *[bell_surprise(said[name][:, 0], answers[name]) for name in to_class],
]
prices.loc["rebuilt, classes"] = [
    by_hand,
    *[surprise(class_scores[name], in_classes[name]).mean() for name in to_class],
]
print("held-out surprise in nats (less is better)")
print(prices.assign(note=prices.sum(axis=1)).round(2).to_string())
figure = Picture(figsize=(8, 2.4), layout="constrained")
axes = figure.add_subplot(xlabel="held-out surprise (nats a note)")
left = np.zeros(len(prices))
for name, color in zip(prices, [GREY, BLUE, ORANGE], strict=True):
    axes.barh(prices.index, prices[name], left=left, color=color, label=name)
    left += prices[name].to_numpy()
axes.invert_yaxis()
axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
figure.savefig(out / "prices.png", dpi=150)
figure

# %% [markdown]
# Look at the column of the steps. On top of the same memory, classes are surprised far less than
# the squared error, and less than who only counts. The network knew the rhythm all the time. It
# had no way to say it.
#
# ## 7. The whole, mended
#
# The package has the four mends in it:
#
# - `NoteTokenizer` writes each note as three *tokens*, `STEP`, `PITCH`, `DURATION`, all classes,
#   and reads them back. Prompt and notes of its own go through it alike.
# - `make_dataset` cuts windows from each piece, keeps them, then shuffles in every epoch. A window
#   is 75 tokens, 25 notes again.
# - `build_model` is again an LSTM of 128 units. It now learns from every token of a window, not
#   from the last note only; and the three tokens of a note come in turn, so that the pitch may
#   depend on its step.
# - `OneStep` uses the trained layers themselves to write, and never draws a token that does not
#   fit: after a `PITCH` there is always a `DURATION`.

# %%
tokenizer = km.tokenizers.NoteTokenizer(
    steps_per_second=8, max_step=24, max_duration=64, velocity_bins=0, program=19
)
print(tokenizer.tokens(tokenizer.encode(test[0]))[:10])
same = np.allclose(to_rows(tokenizer.decode(tokenizer.encode(test[0]))), test_rows[0])
print("decoded again, the same rows:", same)

EPOCHS = 8
mended_ds = km.make_dataset(train, tokenizer, sequence_length=75, batch_size=16, seed=0)
test_ds = km.make_dataset(test, tokenizer, sequence_length=75, batch_size=16)
keras.utils.set_random_seed(0)
mended = km.build_model(tokenizer.vocab_size, cell="lstm", embedding_dim=64, units=128)
mended.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, EPOCHS * len(mended_ds))),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
)
mended.fit(mended_ds, validation_data=test_ds, epochs=EPOCHS, shuffle=False, verbose=2)

# %% [markdown]
# Is it better? Ask about the same notes of the same held-out chorales, from the 26th note on. One
# window now holds a whole chorale, so from each we take the tokens from the 26th note on:

# %%
all_ids = [tokenizer.encode(piece) for piece in test]
whole = km.make_dataset(test, tokenizer, max(map(len, all_ids)), batch_size=8)
kinds = np.array([token.split("_")[0].lower() for token in tokenizer.vocabulary])
of_kind = {"pitch": [], "step": [], "duration": []}
for inputs, targets in whole:
    scores = mended(inputs).numpy()
    for row, right in zip(scores, targets.numpy(), strict=True):
        for name, parts in of_kind.items():
            here = np.flatnonzero(kinds[right] == name)[LENGTH:]
            parts.append(surprise(row[here], right[here]))
prices.loc["mended"] = {name: np.concatenate(parts).mean() for name, parts in of_kind.items()}
same_notes = sum(map(len, of_kind["pitch"])) == len(questions)
print("the same number of notes:", same_notes)
print(prices.assign(note=prices.sum(axis=1)).round(2).to_string())
print(f"{'rebuilt, as it plays':22} {spoiled_losses[-1]:.2f} nats a pitch")
if not same_notes or not prices.loc["mended"].sum() < prices.drop("mended").sum(axis=1).min():
    raise SystemExit("The mended model is not better on the same notes: something is wrong.")

# %% [markdown]
# The comparison is as fair as it can be: the same chorales, notes and classes, an LSTM of the same
# size, and about the same time of training. Column by column the mended model has advantages that
# come from its form: it may remember more than 25 notes, and knows the step when it is asked for
# the pitch. The column "note" adds up all three, and is fair in this, too.

# %%
one_step = km.OneStep(mended, tokenizer)
settings = {"num_tokens": 3 * NEW_NOTES, "temperature": TEMPERATURE, "seed": 1}
one_step.generate(to_piece(prompt), **settings)  # the first call builds the graph
clock = time.perf_counter()
mended_piece = one_step.generate(to_piece(prompt), **settings)
loop_seconds = (time.perf_counter() - clock) / NEW_NOTES
km.write_midi(mended_piece, out / "mended.mid")
km.audio.write_wav(mended_piece.crop(SHOWN_SECONDS), out / "mended.wav")
print(f"a note with `predict`: {1000 * predict_seconds:.0f} ms, in the graph's loop:", end=" ")
print(f"{1000 * loop_seconds:.1f} ms; {predict_seconds / loop_seconds:.0f} times as fast")

# %% [markdown]
# That was a fifth defect, in passing: `predict` is made for large data and takes its time to start.
# The rebuilt loop calls it once for each note, and reads 25 notes anew to write one. The loop of
# `OneStep` runs inside the TensorFlow graph and carries its memory along, though it takes three
# steps a note.
#
# Before and after, the same prompt, the first 24 seconds of each:

# %%
figure = Picture(figsize=(10, 5), layout="constrained")
panels = zip(
    figure.subplots(2, 1, sharex=True, sharey=True),
    [rebuilt_piece, mended_piece],
    ["rebuilt, with its defects", "mended"],
    strict=True,
)
for axes, piece, title in panels:
    notes = piece.crop(SHOWN_SECONDS).notes
    colors = np.where(notes["start"] < prompt_end, BLUE, ORANGE)
    axes.hlines(notes["pitch"], notes["start"], notes["end"] - 0.03, colors=colors, linewidth=4)
    axes.axvline(prompt_end, color=GREY, linestyle="--", linewidth=1)
    axes.set_yticks([36, 48, 60, 72, 84], ["C2", "C3", "C4", "C5", "C6"])
    axes.grid(axis="y", color="#d9d9d9")
    axes.set_title(f"{title} (blue: prompt, orange: continuation)", loc="left")
axes.set(xlabel="time (seconds)", xlim=(0, SHOWN_SECONDS))
figure.savefig(out / "rolls.png", dpi=150)
figure

# %%
km.audio.player(out / "mended.wav")

# %% [markdown]
# ## 8. The common cause
#
# Where do such defects come from? Music was made ready for the network in two places, once for
# training and once for playing, and nothing compared the two. So one divided and the other did not
# (1); one asked for a mean and the other took it for a note (4); one ran through thousands of
# windows at once and the other crawled (5). The remaining two sat in a pipeline of which only the
# loss was looked at, never what came out of it (2, 3).
#
# Hence three habits: one function for one thing; let the network predict what you will draw; and
# look at what goes in, with numbers that you can follow on their way.
#
# ## What you have learned
#
# - What a network reads when it writes must look like what it has read when it learned.
# - Keep, then shuffle, then batch; and cut windows from each piece by itself.
# - The squared error teaches the mean. What has a few values is a class, for the softmax.
# - A loss that falls says nothing about the loop that plays: ask on held-out music, fed as in play.
#
# ## Exercises
#
# Put your answer in place of the three dots, and run the cell again.
#
# 1. How many windows of 100 notes do the training chorales give, if each is cut by itself? Some
#    chorales are shorter than that. `train_rows` is the list of their rows.

# %%
answer = ...  # your answer
fits = [rows for rows in train_rows if len(rows) >= 100]
cut = [np.lib.stride_tricks.sliding_window_view(rows[:, 0], 100) for rows in fits]
km.explain.check(1, answer, sum(map(len, cut)))

# %% [markdown]
# 2. With the *absolute* error (the difference without its sign) instead of the squared one, another
#    number is the best answer for all held-out durations, `answers["duration"]`. Which one? Is it a
#    class that occurs?

# %%
answer = ...  # your answer
errors = [np.abs(answers["duration"] - candidate).mean() for candidate in np.arange(0, 2, 0.125)]
km.explain.check(2, answer, 0.125 * np.argmin(errors))

# %% [markdown]
# 3. Make of `twelve`, a dataset of the numbers 0 to 11, one of batches of 4 that mixes the numbers
#    anew in each epoch, but reads them from their source only once. `two_epochs` helps to look.

# %%
readings = []


def source():
    readings.append("again")
    yield from range(12)


twelve = tf.data.Dataset.from_generator(source, output_signature=tf.TensorSpec((), tf.int64))
answer = ...  # your answer


def is_mended(dataset):
    readings.clear()
    epochs = [[np.ravel(batch).tolist() for batch in dataset] for _ in range(2)]
    in_fours = all([len(batch) for batch in epoch] == [4, 4, 4] for epoch in epochs)
    has_all = all(sorted(sum(epoch, [])) == list(range(12)) for epoch in epochs)
    first, second = ({frozenset(batch) for batch in epoch} for epoch in epochs)
    return in_fours and has_all and first != second and len(readings) <= 1


km.explain.check(3, answer, is_mended)

# %% [markdown]
# ## References
#
# - TensorFlow, *Generate music with an RNN* (tutorial): the model that was rebuilt here.
# - S. Hochreiter and J. Schmidhuber, *Long Short-Term Memory* (1997).
# - C. Bishop, *Mixture Density Networks* (1994): why the squared error gives the mean, and another
#   way out of it.

# %%
print(f"done in {time.time() - started:.0f} s")
