# %% [markdown]
# # Images first: three fully connected layers read handwritten digits
#
# Before a network writes music, let one read digits. It is the easier case, because you can see
# what it sees: a picture goes in, one of ten answers comes out. Its three parts (numbers in,
# weighted sums, probabilities out) are the parts of every network that writes music, too.
#
# You will see a picture turn into numbers, compute one neuron and then three layers of them with
# NumPy, measure how surprised the network is, and improve it with a step of *gradient descent*
# computed by hand. Each result is compared with Keras. Then `fit` does the same for all layers, and
# we look at what the network has learned, and at the digits that it still gets wrong.
#
# You need Python and school mathematics, no deep learning. It takes less than half a minute on two
# CPU cores; no GPU, no download. It writes into the folder `out/`: `digits.png`,
# `mean_images.png`, `neuron.png`, `softmax.png`, `descent.png`, `digits_curve.png`,
# `mistakes.png`, `first_layer.png`, `brother_john.png` and `brother_john.wav`.

# %%
import os
import pathlib
import time
from collections import Counter, defaultdict

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd
import sklearn.datasets
import tensorflow as tf
from sklearn.model_selection import train_test_split

import keras_music as km

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## 1. A picture is numbers
#
# scikit-learn brings 1,797 digits that people wrote by hand. Each is a picture of 8 x 8 *pixels*,
# and each pixel is a number: how much ink there is, here from 0 (paper) to 1.
#
# With a network connection you can set `DATA = "mnist"`. That downloads (once, 11 MB) the 70,000
# digits of the MNIST collection, 28 x 28 pixels each. All that follows runs on them, too, in some
# minutes; the numbers in the text are those of `"digits"`.

# %%
DATA = "digits"  # or "mnist"


def load(name):
    """The pictures, (pictures, height, width), and the digit that each of them shows."""
    if name == "mnist":
        parts = keras.datasets.mnist.load_data()
        pictures, labels = (np.concatenate(both) for both in zip(*parts, strict=True))
        return pictures.astype("float32") / 255, labels.astype(int)
    digits = sklearn.datasets.load_digits()
    return digits.images.astype("float32") / 16, digits.target


pictures, labels = load(DATA)
print(f"{len(pictures):,} pictures of {pictures.shape[1]} x {pictures.shape[2]} pixels")
print(f"the first one is a {labels[0]}; its ink, in sixteenths:")
print((16 * pictures[0]).round().astype(int))

# %% [markdown]
# You can just see the 0 in the numbers. With ink it is easier:


# %%
def figure_of(images, titles, name, columns=10):
    """A grid of pictures; one with negative numbers gets colours: blue below 0, red above."""
    rows = -(-len(images) // columns)
    figure = km.plots.Picture(figsize=(columns, 1.25 * rows), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid:
        axes.axis("off")
    for axes, image, title in zip(grid, images, titles, strict=False):  # some axes may stay empty
        limit = np.abs(image).max()
        if image.min() < 0:
            axes.imshow(image, "RdBu_r", vmin=-limit, vmax=limit)
        else:
            axes.imshow(image, "gray_r", vmin=0, vmax=1)
        axes.set_title(title, fontsize=9)
    return km.plots.saved(figure, out / name)


figure_of(pictures[:40], labels[:40], "digits.png")

# %% [markdown]
# ## 2. Put some aside
#
# A network can learn its examples by heart. Whether it can *read* shows only on pictures that it
# has not learned from. So we deal them out at random, with a seed, and so that each digit is
# equally frequent everywhere (*stratified*):
#
# - 60 % to **train**: the network learns from them;
# - 20 % to **validate**: we watch them during the learning, and may choose settings by them;
# - 20 % to **test**: the last word; nothing is chosen by them.
#
# A dense layer does not know that pixels have neighbours. It takes a row of numbers, so each
# picture becomes one row, line after line.

# %%
x = pictures.reshape(len(pictures), -1)  # (pictures, pixels)
train, rest = train_test_split(np.arange(len(x)), test_size=0.4, stratify=labels, random_state=0)
valid, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=0)
x_train, x_valid, x_test = x[train], x[valid], x[test]
y_train, y_valid, y_test = labels[train], labels[valid], labels[test]

print(f"{len(train):,} to learn from, {len(valid):,} to watch, {len(test):,} for the end")
print("shape of the training pictures (pictures, pixels):", x_train.shape)
seen = {row.tobytes() for row in x_train}
print("test pictures that are also training pictures:", sum(r.tobytes() in seen for r in x_test))

# %% [markdown]
# One thing this split does not do. The 1,797 digits were written by 13 people, and the data does
# not say who wrote which, so each hand is on both sides. Our result will hold for *new digits of
# these people*; a stranger's hand may be harder. In music we know the piece that each note comes
# from, and always put whole pieces aside.
#
# ## 3. What is easy?
#
# A result is good or bad only beside what can be had without a network. Two ideas:
#
# - always say the digit that is most frequent in training;
# - draw the mean of all training pictures of each digit, and say the digit whose mean picture is
#   nearest (the sum of the squared differences of the pixels is smallest).

# %%
means = np.array([x_train[y_train == digit].mean(axis=0) for digit in range(10)])  # (10, pixels)


def nearest_mean(x):
    distances = [((x - mean) ** 2).sum(axis=1) for mean in means]
    return np.argmin(distances, axis=0)


most_frequent = np.bincount(y_train).argmax()
accuracies = {
    "most frequent digit": np.mean(y_test == most_frequent),
    "nearest mean image": np.mean(y_test == nearest_mean(x_test)),
}
print(f"test digits read correctly, of {len(test):,}")
print(pd.Series(accuracies).map("{:.1%}".format).to_string())
figure_of(means.reshape(10, *pictures.shape[1:]), range(10), "mean_images.png")

# %% [markdown]
# Ten mean pictures already read nine of ten test digits. That is what the network has to beat.
#
# ## 4. One neuron
#
# A *neuron* is a weighted sum. It has one *weight* for each pixel and one more number, the *bias*:
#
#     sum = ink of pixel 0 * weight 0 + ink of pixel 1 * weight 1 + ... + bias
#
# and then a bend, the *ReLU*: what is negative becomes 0. So a neuron looks for something, and says
# how strongly it sees it, or nothing.
#
# Training will find weights. To see what they do, choose some by hand: a neuron that asks "rather a
# 0 than a 1?". Ink counts for it where the mean 0 has more ink than the mean 1, and against it
# where the mean 1 has more. With this bias, a picture halfway between the two means gives 0.

# %%
weights = means[0] - means[1]  # (pixels,)
bias = -weights @ (means[0] + means[1]) / 2


def neuron(picture):
    total = sum(ink * weight for ink, weight in zip(picture, weights, strict=True)) + bias
    return max(total, 0)  # the ReLU


zeros, ones = x_valid[y_valid == 0], x_valid[y_valid == 1]
print("on the validation pictures, it says something at", end=" ")
print(f"{sum(neuron(picture) > 0 for picture in zeros)} of {len(zeros)} zeros", end=" and ")
print(f"{sum(neuron(picture) > 0 for picture in ones)} of {len(ones)} ones")
shown = [*zeros[:4], *ones[:4]]
titles = ["weights", *(f"{neuron(picture):.1f}" for picture in shown)]
rows = [row.reshape(pictures.shape[1:]) for row in (weights, *shown)]
figure_of(rows, titles, "neuron.png", columns=9)

# %% [markdown]
# Red weights want ink, blue ones want paper; above the pictures stands what the neuron says.
#
# ## 5. Three layers
#
# A **dense** (or *fully connected*) layer is many neurons that all read the same numbers, each with
# its own weights. The next layer reads what they say. Our network has three:
#
# - 128 neurons that look at the pixels;
# - 64 neurons that look at what the 128 have seen;
# - 10 neurons, one for each digit, without the bend: their sums are *scores*. The highest wins.
#
# Why the bend? A weighted sum of weighted sums is itself a weighted sum: without the ReLU, three
# layers could do no more than one (exercise 2).

# %%
FIRST, SECOND = 128, 64
keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((x.shape[1],)),
        keras.layers.Dense(FIRST, activation="relu"),
        keras.layers.Dense(SECOND, activation="relu"),
        keras.layers.Dense(10),
    ]
)
model.summary()
count = (x.shape[1] + 1) * FIRST + (FIRST + 1) * SECOND + (SECOND + 1) * 10
print(f"weights and biases, counted by hand: {count:,}; by Keras: {model.count_params():,}")

# %% [markdown]
# All weights are random as yet (the biases are 0). But it can already compute, and so can we. The
# weights of a layer are a matrix with one column for each neuron, and `x @ matrix` is all its sums,
# for all pictures: each row of x, times each column, summed.


# %%
def last_inputs(x, weights):
    """What the second layer says and the last one reads, (pictures, 64)."""
    w1, b1, w2, b2, _, _ = weights
    first = np.maximum(x @ w1 + b1, 0)
    return np.maximum(first @ w2 + b2, 0)


def forward(x, weights):
    """The scores, (pictures, 10)."""
    return last_inputs(x, weights) @ weights[4] + weights[5]


def compare(what, by_hand, by_keras):
    difference = np.abs(np.asarray(by_hand) - np.asarray(by_keras)).max()
    print(f"{what}, largest difference between by hand and Keras: {difference:.1e}")
    if not difference < 1e-5:
        raise SystemExit("By hand and Keras differ: something is wrong.")


# w1, b1, w2, b2, w3, b3, with more digits than Keras uses: section 7 looks at tiny differences.
weights_before = [w.astype("float64") for w in model.get_weights()]
scores = forward(x_train, weights_before)
compare("scores", scores, model.predict(x_train, batch_size=1024, verbose=0))
print(f"the first training picture, a {y_train[0]}, gets these scores:")
print(scores[0].round(2))

# %% [markdown]
# ## 6. How surprised is it?
#
# Scores become probabilities by the *softmax*: raise e to the power of each score, then divide by
# the sum. All are then positive, and they sum to 1.
#
# The *loss* is the surprise at the right answer: minus the logarithm of the probability that it
# got (*cross entropy*), in *nats*, the unit of the natural logarithm. 0 if the network was certain
# and right, about 0.7 at heads or tails, and without limit if it was certain and wrong. Here is
# the whole calculation for the first training picture; `km.explain` has compared it with Keras. It
# first subtracts the largest score from all, which changes no probability and keeps the powers
# small. Its last line is for the next section.

# %%
page = km.explain.softmax_cross_entropy(scores[0], y_train[0])

# %%
page.draw(out / "softmax.png")

# %% [markdown]
# The loss of a network is the mean over all pictures. A network that knows nothing gives each of
# ten digits the probability 1/10, and so has the loss -ln(1/10) = ln(10) = 2.303. Ours knows
# nothing either, but its random scores prefer some digits. So it starts near that, a little above.


# %%
def softmax(scores):
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))  # a shift that changes nothing
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(scores, labels):
    of_the_right_digit = softmax(scores)[np.arange(len(labels)), labels]
    return -np.log(of_the_right_digit).mean()


loss_function = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
loss_before = cross_entropy(scores, y_train)
compare("loss", loss_before, loss_function(y_train, scores))
print(f"loss before training {loss_before:.3f}, ln(10) = {np.log(10):.3f}")

# %% [markdown]
# ## 7. One step of gradient descent, by hand
#
# How must a weight change so that the loss falls? Try it: turn one weight of the last layer up by a
# millionth, and see how much the loss changes. Divided by that millionth it is the *slope* of the
# loss in this weight. If the slope is positive, turn the weight down; if negative, up.

# %%
w3, b3 = weights_before[4:]
NEURON, DIGIT, NUDGE = 5, 3, 1e-6
nudged = w3.copy()
nudged[NEURON, DIGIT] += NUDGE
loss_nudged = cross_entropy(forward(x_train, [*weights_before[:4], nudged, b3]), y_train)
slope = (loss_nudged - loss_before) / NUDGE
print(f"the slope of the weight from neuron {NEURON} to digit {DIGIT}: {slope:.6f}")

# %% [markdown]
# To try all 17,226 one by one, the network would have to read all pictures 17,226 times, for one
# step. Calculus gives all slopes at once (together they are the *gradient*), and for softmax with
# cross entropy the rule is short. The slope of the loss in a *score* is
#
#     probability - 1    for the right digit: its score should rise
#     probability        for all others: their scores should fall
#
# in short: probabilities minus *one-hot* (a row of zeros with a 1 at the right digit). That was the
# last line of the page above. A weight acts on the score through the number that it multiplies: if
# that number is 3, the score moves three times as far as the weight. So
#
#     slope in a weight = the number that it multiplies * slope in the score
#     slope in a bias   = slope in the score
#
# averaged over the pictures. For all weights of the last layer together that is one product of
# matrices.

# %%
inputs = last_inputs(x_train, weights_before)  # (pictures, 64)
one_hot = np.eye(10)[y_train]  # (pictures, 10); row d of `eye` has its 1 at place d
errors = (softmax(scores) - one_hot) / len(x_train)
w3_slopes = inputs.T @ errors  # (64, 10), like w3; .T turns a matrix on its side
b3_slopes = errors.sum(axis=0)  # (10,), like b3

with tf.GradientTape() as tape:  # TensorFlow writes down what it computes, then goes back
    loss_by_keras = loss_function(y_train, model(x_train))
by_keras = tape.gradient(loss_by_keras, model.layers[-1].trainable_variables)
compare("slopes of the weights", w3_slopes, by_keras[0])
compare("slopes of the biases", b3_slopes, by_keras[1])
print(f"the one that we tried: {w3_slopes[NEURON, DIGIT]:.6f}, by the nudge {slope:.6f}")

# %% [markdown]
# Now the step. Each weight goes down its slope, a little way: the slope times a *learning rate*.
# That is *gradient descent*.

# %%
LEARNING_RATE = 1.0
w3 = w3 - LEARNING_RATE * w3_slopes
b3 = b3 - LEARNING_RATE * b3_slopes
loss = cross_entropy(inputs @ w3 + b3, y_train)
print(f"loss before the step {loss_before:.3f}, after it {loss:.3f}")
if not loss < loss_before:
    raise SystemExit("The step does not go down: something is wrong.")

# %% [markdown]
# After the step the slopes are others, so we compute them again, and step again. Here are 299 more
# steps, still of the last layer only. Each takes all training pictures once: such a walk through
# the data is called an *epoch*.

# %%
valid_inputs = last_inputs(x_valid, weights_before)
losses = {"loss": [loss], "val_loss": [cross_entropy(valid_inputs @ w3 + b3, y_valid)]}
for _ in range(299):
    errors = (softmax(inputs @ w3 + b3) - one_hot) / len(x_train)
    w3 = w3 - LEARNING_RATE * inputs.T @ errors
    b3 = b3 - LEARNING_RATE * errors.sum(axis=0)
    losses["loss"].append(cross_entropy(inputs @ w3 + b3, y_train))
    losses["val_loss"].append(cross_entropy(valid_inputs @ w3 + b3, y_valid))

print(f"after 300 steps: {losses['loss'][-1]:.3f}", end=", ")
print(f"on the validation pictures {losses['val_loss'][-1]:.3f}")
scores_by_hand = last_inputs(x_test, weights_before) @ w3 + b3
accuracies["last layer, by hand"] = np.mean(scores_by_hand.argmax(axis=1) == y_test)
curve = km.plots.learning_curve(losses, baselines={"knowing nothing": np.log(10)})
curve.axes[0].set(ylabel="loss (nats per picture)")
km.plots.saved(curve, out / "descent.png")

# %% [markdown]
# That was training, in a few lines of NumPy. The first two layers are as random as they were; the
# last one has learned to make some sense of what they say.
#
# ## 8. All layers
#
# The slopes of the earlier layers come by the same rule: an error at a score is handed back through
# the weights to the neurons that caused it, layer by layer (*backpropagation*). `fit` does that,
# with three refinements:
#
# - it takes not all pictures for a step, but a *batch* of 32, and shuffles them anew in every
#   epoch: many quick steps instead of few exact ones;
# - *Adam* gives each weight a learning rate of its own, by how steadily its slope points one way;
# - the learning rate falls to 0 until the end (*cosine decay*), so that it can settle.

# %%
EPOCHS, BATCH_SIZE = 30, 32
steps = EPOCHS * -(-len(x_train) // BATCH_SIZE)
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
    loss_function,
    metrics=["accuracy"],  # the share that is read correctly
)
history = model.fit(
    x_train,
    y_train,
    validation_data=(x_valid, y_valid),
    epochs=EPOCHS,
    batch_size=BATCH_SIZE,
    verbose=0,
)
epochs = pd.DataFrame(history.history, index=pd.RangeIndex(1, EPOCHS + 1, name="epoch"))
print(epochs[epochs.index.isin([1, 2, 5, 10, 20, EPOCHS])].round(3).to_string())

# %% [markdown]
# The learning curve, with the loss of the last section as a line to beat. The scale is logarithmic:
# from each grey line to the next the loss is ten times as small. On the way it may rise for some
# epochs: what helps the training pictures need not help the others. Where the two
# curves part, the network has begun to know its training pictures by heart: their loss goes on
# falling, that of the pictures it does not learn from stays behind.

# %%
baselines = {"knowing nothing": np.log(10), "last layer, by hand": losses["val_loss"][-1]}
curve = km.plots.learning_curve(history, baselines=baselines, title="Surprise at a digit")
curve.axes[0].set(yscale="log", ylabel="loss (nats per picture)")
curve.axes[0].yaxis.set_major_formatter("{x:g}")
km.plots.saved(curve, out / "digits_curve.png")

# %% [markdown]
# ## 9. Can it read?
#
# Now, once, the test pictures.

# %%
probabilities = softmax(model.predict(x_test, batch_size=1024, verbose=0))
said = probabilities.argmax(axis=1)
accuracies["three layers"] = np.mean(said == y_test)
print(f"test digits read correctly, of {len(test):,}")
print(pd.Series(accuracies).map("{:.1%}".format).to_string())
share = accuracies["three layers"]
spread = np.sqrt(share * (1 - share) / len(test))  # by so much a share strays by chance
print(f"(with {len(test):,} other digits it would be some {spread:.1%} more or less)")
if not share > 0.95 > accuracies["nearest mean image"]:
    raise SystemExit("The network does not clearly beat the baselines: something is wrong.")

# %% [markdown]
# About 98 %, beside about 91 % for the mean pictures. With a trained last layer on two random ones
# it was about 87 %, less than the mean pictures: what the first layers look for does matter.
#
# What does it get wrong? Above each picture stands which digit it is, what the network said, and
# the probability that it gave to what it said. What would you have said?

# %%
sure, is_right = probabilities.max(axis=1), said == y_test
wrong = np.flatnonzero(~is_right)
print(f"{len(wrong)} mistakes; on average it was", end=" ")
print(f"{sure[is_right].mean():.0%} sure when right, {sure[wrong].mean():.0%} when wrong")
wrong = wrong[np.argsort(-sure[wrong])][:16]  # the surest ones first
titles = [f"{y_test[i]}, said {said[i]}\n{sure[i]:.0%} sure" for i in wrong]
figure_of(pictures[test][wrong], titles, "mistakes.png", columns=8)

# %% [markdown]
# ## 10. What do the neurons look for?
#
# Each neuron of the first layer has one weight for each pixel, so its weights are a picture, too,
# like those that we chose in section 4. They began at random, and much of that is still there, so
# below each picture stands the *change*: the weights now, minus those before the training. Here are
# the 20 neurons that have changed most, each with its number.

# %%
w1, w1_before = model.get_weights()[0], weights_before[0]  # (pixels, neurons)
change = w1 - w1_before
most = np.argsort(-np.linalg.norm(change, axis=0))[:20]
first_ten, next_ten = most[:10], most[10:]
columns = [w1.T[first_ten], change.T[first_ten], w1.T[next_ten], change.T[next_ten]]
images = np.concatenate(columns).reshape(-1, *pictures.shape[1:])
titles = [*first_ten, *["change"] * 10, *next_ten, *["change"] * 10]
figure_of(images, titles, "first_layer.png")

# %% [markdown]
# None of them looks like a digit. In a few changes you may see a piece of a stroke: ink wanted in
# one place (red) and paper beside it (blue). Most are nothing that we could name, and the next
# layers work with them all the same. Nobody told the network what to look for; it follows from the
# slopes.
#
# You can also see the rule of section 7 at work. The slope in a weight is the number that it
# multiplies, times another. Some pixels at the edge have no ink in any training picture. So the
# slopes in their weights are 0, and these weights stay where they were:

# %%
never = x_train.max(axis=0) == 0
print(f"pixels without ink in all training pictures: {never.sum()}")
print(f"largest change of their weights: {np.abs(change[never]).max(initial=0):.3f}", end=", ")
print(f"mean change of all others: {np.abs(change[~never]).mean():.3f}")

# %% [markdown]
# ## 11. From pictures to music
#
# Now read "which token comes next?" for "which digit is it?", and you have a network that writes:
#
# | | digits | music or text |
# | --- | --- | --- |
# | numbers in | 64 pixels | tokens, each looked up in a table (*embedding*) |
# | weighted sums | dense layers | dense layers that also read what they said last (GRU, LSTM) |
# | softmax over | 10 digits | all tokens, 359 in tutorial 2 |
# | right answer | somebody has written it down | the token that comes next in the piece |
# | loss before training | ln(10) = 2.30 | ln(359) = 5.88 |
# | slope in a score | probability - one-hot | probability - one-hot |
# | put aside | pictures | whole pieces |
#
# One line is a gift: nobody has to label music. Every piece contains its own answers.
#
# One line is a problem: a picture is there all at once. All its pixels go in together, always 64,
# and when the next picture comes, the last one can be forgotten. A melody comes one note after the
# other, and has no fixed length. What comes next depends on what was before. On how much of it?
# Take a tune that you know:

# %%
tune = list("CDECCDEC" + "EFGEFG" + "GAGFECGAGFEC" + "CgCCgC")
beats = [1, 1, 1, 1] * 2 + [1, 1, 2] * 2 + [0.5, 0.5, 0.5, 0.5, 1, 1] * 2 + [1, 1, 2] * 2
pitch_of = {"g": 55, "C": 60, "D": 62, "E": 64, "F": 65, "G": 67, "A": 69}  # g is below C
ends = 0.4 * np.cumsum(beats)  # in seconds
notes = [
    {"pitch": pitch_of[name], "start": end - 0.4 * length, "end": end}
    for name, length, end in zip(tune, beats, ends, strict=True)
]
piece = km.Piece(notes, name="Brother John")
km.audio.write_wav(piece, out / "brother_john.wav")
km.plots.piano_roll(piece, out / "brother_john.png")

# %%
km.audio.player(out / "brother_john.wav")

# %% [markdown]
# Somebody who has heard only the last note, and knows the tune, must guess the next one. After an E
# comes a C four times, and an F twice; the best guess is C, and it is wrong twice. Let us count how
# many of the 32 notes the best guess gets right if it knows the last 0, 1, 2, ... notes:


# %%
def best_guess(memory):
    """How many notes are right if the last `memory` notes are known, with the best guesses."""
    follows = defaultdict(Counter)  # what was heard -> how often each note came next
    for i, note in enumerate(tune):
        heard = tuple(tune[max(0, i - memory) : i])
        follows[heard][note] += 1
    return sum(max(counts.values()) for counts in follows.values())


for memory in range(9):
    print(f"the last {memory} notes are known: {best_guess(memory)} of {len(tune)} right")

# %% [markdown]
# With one note of memory it is 18 of 32; only with seven is all of it certain, because every phrase
# comes twice, and one must know whether this is the first time or the second. No training can help
# a network that does not get what it would need to know.
#
# One could lay the last seven notes side by side and give them to our three layers like seven
# pixels. That works for this tune. For a piece that returns to its beginning after a minute it
# would take hundreds of inputs, and a note would meet other weights in each place. A *recurrent*
# network instead keeps some numbers as its memory, and at every note computes a new memory from the
# note and the old memory, always with the same weights. In the simplest case that is one dense
# layer. `00_layers_by_hand.py` does it with a pencil, `01_shakespeare.py` with text and
# `02_bach_chorales.py` with music.
#
# ## What you have learned
#
# - A picture is a row of numbers; a dense layer is weighted sums of it, bent by the ReLU.
# - The softmax makes probabilities of scores; the loss is the surprise at the right answer, ln(10)
#   for a network that knows nothing.
# - The slope of the loss in a score is probability minus one-hot; gradient descent walks down.
# - An accuracy means something beside simple baselines and on pictures that were put aside.
# - A picture needs no memory, a melody does; all else stays as it is here.
#
# ## Exercises
#
# Put your answer in place of the three dots, and run the cell again.
#
# 1. A network gives the right digit the probability 1/2 on every other picture, and 1/8 on the
#    rest. What is its loss, in nats (with two digits behind the point)?

# %%
answer = ...  # your answer
km.explain.check(1, answer, lambda loss: abs(np.exp(loss) - 4) < 0.05)

# %% [markdown]
# 2. Three layers without biases and without ReLU compute `((x @ a) @ b) @ c`. Which single matrix,
#    made of `a`, `b` and `c`, does the same to every `x`?

# %%
random = np.random.default_rng(0)
a, b, c = random.normal(size=(3, 3, 3))  # three matrices of 3 rows and 3 columns
some = random.normal(size=(5, 3))
answer = ...  # your answer
km.explain.check(
    2,
    answer,
    lambda one: np.shape(one) == (3, 3) and np.allclose(some @ one, ((some @ a) @ b) @ c),
)

# %% [markdown]
# 3. The baseline "nearest mean image" is a dense layer in disguise. The squared distance of a
#    picture x to a mean m is `x @ x - 2 * x @ m + m @ m`. The first term is the same for all ten
#    means, so the nearest mean is the one with the highest score `x @ m + bias`. Which ten biases,
#    computed from `means` (10, pixels), give the same digits?

# %%
answer = ...  # your answer
km.explain.check(
    3,
    answer,
    lambda bias: np.array_equal((x_test @ means.T + bias).argmax(axis=1), nearest_mean(x_test)),
)

# %% [markdown]
# ## References
#
# - E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits* (1998), UCI Machine
#   Learning Repository: the data; scikit-learn brings its test part.
# - Y. LeCun and others, *Gradient-Based Learning Applied to Document Recognition* (1998): MNIST.
# - D. Rumelhart, G. Hinton and R. Williams, *Learning Representations by Back-Propagating Errors*
#   (1986).
# - D. Kingma and J. Ba, *Adam: A Method for Stochastic Optimization* (2015).

# %%
print(f"done in {time.time() - started:.0f} s")
