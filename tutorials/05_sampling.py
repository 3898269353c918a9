# %% [markdown]
# # Sampling: what temperature, top-k and top-p do to one distribution, and to music
#
# A network that writes does not write. It gives every token a score, and then somebody has to draw
# one of them. *How* is not learned and costs nothing to change, and yet it decides whether the
# piece goes round in circles, sounds like music, or falls apart.
#
# You will see all of it first on five notes, with numbers that can be checked with a pocket
# calculator: the softmax, entropy and perplexity, temperature, top-k, top-p, and two ways to draw.
# Each is compared with the package. Then a small network learns Bach's chorales and continues some
# with seven different settings, and we measure what changed. At last, the rules of the notation
# and a wish ("A minor, please") turn out to be the same thing: a mask on the distribution.
#
# It writes pictures of the five notes (`out/softmax.png`, `temperature.png`, `distributions.png`,
# `draw.png` and `counts.png`), pictures of the music (`piano_rolls.png`, `entropy.png`,
# `moments.png` and `masks.png`) and one sound, `out/sampling.wav`.
#
# You need Python and school mathematics (powers, logarithms); tutorial 2 explains the network, and
# is not needed here. It takes one to two minutes on two CPU cores; no GPU, and no download.

# %%
import os
import pathlib
import time

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pandas as pd

import keras_music as km
from keras_music.generation import sampling
from keras_music.plots import BLUE, GREY, ORANGE, Picture  # a matplotlib Figure

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)


def check(what, is_true):
    print(f"{what}: {bool(is_true)}")
    if not is_true:
        raise SystemExit("This must be true: something is wrong.")


# %% [markdown]
# ## 1. From scores to probabilities
#
# Five notes may come next, and some network has given each a *score*. A score can be any number;
# the higher, the likelier. The *softmax* makes probabilities of them, in two steps:
#
# 1. e to the power of each score: now all are positive;
# 2. divided by their sum: now they sum to 1.

# %%
NOTES = ["C", "D", "E", "F", "G"]
scores = np.array([2.0, 0.0, 1.0, -1.0, 1.5])

powers = np.exp(scores)
probabilities = powers / powers.sum()
table = pd.DataFrame({"score": scores, "e^score": powers, "probability": probabilities}, NOTES)
print(table.round(3).to_string())
print(f"sums: {powers.sum():.3f} and {probabilities.sum():.3f}")

# %%
figure = Picture(figsize=(7, 2.6), layout="constrained")
for place, (name, values) in enumerate(table.items(), 1):
    axes = figure.add_subplot(1, 3, place)
    bars = axes.bar(NOTES, values, color=BLUE)
    axes.bar_label(bars, fmt="{:.2f}", fontsize=8)
    axes.set_title(name, loc="left", fontsize=10)
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.margins(y=0.15)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
figure.savefig(out / "softmax.png", dpi=150)
figure

# %% [markdown]
# Take two notes and divide their probabilities: the sum falls out, and what remains is e to the
# power of the *difference* of their scores. So only differences count. Add 100 to all five scores
# and nothing changes. Everybody uses that: the largest score is subtracted first, so that no power
# becomes too large for the computer.


# %%
def softmax(scores):
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


print(f"C is {probabilities[0] / probabilities[2]:.3f} times as likely as E;", end=" ")
print(f"e^(2 - 1) = {np.exp(2 - 1):.3f}")
difference = np.abs(softmax(scores + 100) - probabilities).max()
print(f"100 more for each: the largest difference is {difference:.0e}")

# %% [markdown]
# ## 2. How undecided is it? Entropy and perplexity
#
# If a note with probability p comes, how surprised are we? -ln(p) is a good measure, in *nats*:
# 0 for what was certain, 0.69 for heads or tails, and surprises of things that happen one after
# the other add up, because their probabilities are multiplied.
#
# The *entropy* is the mean surprise to be expected: each note's surprise, times how often it comes.
# e to the power of it is the *perplexity*: among how many equally likely notes would we be just as
# undecided? A fair die has perplexity 6, a certain thing 1.


# %%
def entropy(probabilities):
    possible = probabilities[probabilities > 0]  # what never comes surprises nobody
    return np.sum(possible * np.log(1 / possible))


for note, p in zip(NOTES, probabilities, strict=True):
    print(f"{note}: surprise -ln({p:.3f}) = {-np.log(p):.3f} nats, times {p:.3f} = ", end="")
    print(f"{-p * np.log(p):.3f}")
print(f"their sum, the entropy: {entropy(probabilities):.3f} nats", end="; ")
print(f"perplexity e^{entropy(probabilities):.3f} = {np.exp(entropy(probabilities)):.2f} notes")
die = np.full(6, 1 / 6)
print(f"a fair die: entropy {entropy(die):.3f} nats, perplexity {np.exp(entropy(die)):.2f}")

# %% [markdown]
# ## 3. Temperature
#
# Divide all scores by a number T before the softmax. That stretches or shrinks their differences:
#
# - T = 1 changes nothing;
# - T = 0.5 doubles the differences: the likely gets likelier, the perplexity falls;
# - T = 2 halves them: the unlikely gets its chance, and the perplexity rises, but
#   however large T is, never above 5;
# - by 0 nothing can be divided, but see where it leads: at T = 0.1 the best note has nearly
#   everything. So T = 0 means: always take the best one (*greedy*).

# %%
by_temperature = {}
for temperature in [0.1, 0.5, 1.0, 2.0, 10.0]:
    p = softmax(scores / temperature)
    by_temperature[f"T = {temperature}"] = [*p, np.exp(entropy(p))]
print(pd.DataFrame(by_temperature, [*NOTES, "perplexity"]).T.round(3).to_string())

# %% [markdown]
# The lines never cross: no temperature makes F likelier than D. At the left one note has all, at
# the right all have nearly 1/5.

# %%
figure = Picture(figsize=(7, 3.2), layout="constrained")
axes = figure.add_subplot(xlabel="temperature", ylabel="probability", xscale="log", ylim=(0, 1))
temperatures = np.geomspace(0.1, 10, 100)
lines = axes.plot(temperatures, [softmax(scores / t) for t in temperatures], color=BLUE)
for note, line in zip(NOTES, lines, strict=True):
    end = (2, np.interp(2, temperatures, line.get_ydata()))
    axes.annotate(note, end, (0, 2), textcoords="offset points", weight="bold")
axes.set_xticks([0.1, 0.5, 1, 2, 10], ["0.1", "0.5", "1", "2", "10"])
axes.axvline(1, color=GREY, linestyle="--", linewidth=1)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(out / "temperature.png", dpi=150)
figure

# %% [markdown]
# ## 4. Top-k and top-p
#
# A vocabulary of music has hundreds of tokens. Each of the hopeless ones has a tiny probability,
# but together they may have 5 %, and then one token in twenty is nonsense. So cut them off:
#
# - **top-k** keeps the k likeliest, always as many, whether the network is sure or not;
# - **top-p** (the *nucleus*) goes down from the likeliest until what it has kept reaches the
#   probability p. Where the network is sure it keeps one or two, where it is not it keeps many.
#
# What is left must sum to 1 again, so it is divided by its sum: it is *renormalised*.


# %%
def only(kept, probabilities):
    left = np.where(kept, probabilities, 0.0)
    return left / left.sum()


def keep_top_k(probabilities, k):
    order = np.argsort(-probabilities, kind="stable")  # numbers of the notes, likeliest first
    return only(np.isin(np.arange(len(order)), order[:k]), probabilities)


def keep_top_p(probabilities, p):
    order = np.argsort(-probabilities, kind="stable")
    so_far = np.cumsum(probabilities[order])
    before = np.append(0.0, so_far[:-1])  # what the likelier ones have together
    return only(np.isin(np.arange(len(order)), order[before < p]), probabilities)


likeliest_first = np.sort(probabilities)[::-1]
print("likeliest first:", likeliest_first.round(3))
print("together so far:", np.cumsum(likeliest_first).round(3))
print("top-k 3:  ", dict(zip(NOTES, keep_top_k(probabilities, 3).round(3).tolist(), strict=True)))
print("top-p 0.8:", dict(zip(NOTES, keep_top_p(probabilities, 0.8).round(3).tolist(), strict=True)))

# %% [markdown]
# C, G and E have 0.463, 0.281 and 0.170. C and G alone have 0.744, less than 0.8, so E is kept,
# too; with it 0.914 is reached, and D and F are gone. Here both filters keep the same three.
#
# **The order matters** when more than one is used. Our package takes the temperature first, then
# top-k, then top-p among what top-k has left (and renormalised): there C and G have 0.814, so
# top-p 0.8 after top-k 3 keeps two notes. This function does all of it, and we need no other:


# %%
def shaped(scores, temperature=1.0, top_k=0, top_p=1.0):
    """The distribution from which is drawn; top_k 0 and top_p 1 keep everything."""
    if temperature == 0:
        return (np.arange(len(scores)) == scores.argmax()).astype(float)
    probabilities = softmax(scores / temperature)
    if top_k > 0:
        probabilities = keep_top_k(probabilities, top_k)
    if top_p < 1:
        probabilities = keep_top_p(probabilities, top_p)
    return probabilities


FIVE_NOTES = {  # temperature, top-k, top-p
    "temperature 1": (1.0, 0, 1.0),
    "temperature 0.5": (0.5, 0, 1.0),
    "temperature 2": (2.0, 0, 1.0),
    "temperature 0": (0.0, 0, 1.0),
    "top-k 3": (1.0, 3, 1.0),
    "top-k 3, top-p 0.8": (1.0, 3, 0.8),
    "temperature 2, top-p 0.8": (2.0, 0, 0.8),
    "temperature 0.5, top-p 0.8": (0.5, 0, 0.8),
}

# %% [markdown]
# The same five scores with eight settings, all on one scale. The grey outline is always that of
# temperature 1. Look at the two nuclei in the lower right: at temperature 2 top-p 0.8 keeps three
# notes, at 0.5 only two. It asks how much they have together, not how many they are.

# %%
figure = Picture(figsize=(10, 4.8), layout="constrained")
panels = figure.subplots(2, 4, sharex=True, sharey=True)
for axes, (name, setting) in zip(panels.flat, FIVE_NOTES.items(), strict=True):
    p = shaped(scores, *setting)
    axes.bar(NOTES, p, color=BLUE)
    axes.bar(NOTES, probabilities, facecolor="none", edgecolor=GREY, linewidth=1)
    for x, value in enumerate(p):
        label = f"{value:.2f}" if value else "0"
        axes.text(x, max(value, probabilities[x]) + 0.02, label, ha="center", fontsize=8)
    axes.set_title(f"{name}\nperplexity {np.exp(entropy(p)):.2f}", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
for axes in panels[:, 0]:
    axes.set(ylabel="probability", ylim=(0, 1.1))
figure.savefig(out / "distributions.png", dpi=150)
figure

# %% [markdown]
# ## 5. Drawing
#
# A computer gives us a random number u between 0 and 1, all equally likely. How do we get a note?
# Lay the probabilities end to end on a line from 0 to 1, and take the note on which u falls. (The
# ends of the pieces are the *cumulative distribution*; we read it backwards, from the place u on
# the line back to the note, so this is called the inverse of the cumulative distribution.)


# %%
def draw(probabilities, u):
    line = np.cumsum(probabilities)  # where each note's piece ends
    return np.searchsorted(line, u, side="right")  # how many pieces end before u, or at it


print("the pieces end at", np.cumsum(probabilities).round(3))
for u in [0.10, 0.50, 0.60, 0.95]:
    print(f"u = {u:.2f} falls on {NOTES[draw(probabilities, u)]}")

# %% [markdown]
# The picture shows what a setting does to a draw: the points stay where they are, and the pieces
# move. The same luck gives another note. (The points are the package's own; see section 6.)

# %%
points = sampling.uniforms(np.arange(8), np.array(1)).numpy()
figure = Picture(figsize=(9, 3), layout="constrained")
axes = figure.add_subplot(xlim=(0, 1), xlabel="u")
lines = ["temperature 0.5", "temperature 1", "temperature 2", "top-k 3"]
shades = ["#7FC4EC", "#F0E442", "#6CC9A8", "#CC79A7", "#E9B44C"]  # of the five notes
for y, name in enumerate(reversed(lines)):
    left = 0.0
    for note, p, color in zip(NOTES, shaped(scores, *FIVE_NOTES[name]), shades, strict=True):
        axes.barh(y, p, left=left, height=0.6, color=color, edgecolor="white")
        if p > 0.03:
            axes.text(left + p / 2, y, note, ha="center", va="center")
        left += p
for u in points:
    axes.axvline(u, color="black", linestyle="--", linewidth=1)
axes.set_yticks(range(4), reversed(lines))
axes.spines[["top", "right", "left"]].set_visible(False)
axes.set_title("random points (dashed), and the notes on which they fall", loc="left")
figure.savefig(out / "draw.png", dpi=150)
figure

# %% [markdown]
# There is another way, without any sum. Give each score a random bonus g = -ln(-ln(u)), each with a
# u of its own, and take the note with the highest total. Bonuses of this kind are called *Gumbel
# noise*, and it can be proved that each note then wins exactly as often as the softmax says. Draw
# 20,000 notes in both ways and count:

# %%
NUM_DRAWS = 20_000
random = np.random.default_rng(0)
by_line = draw(probabilities, random.random(NUM_DRAWS))
noise = -np.log(-np.log(random.random((NUM_DRAWS, len(NOTES)))))
by_gumbel = np.argmax(scores + noise, axis=1)


def counts(drawn):
    return np.bincount(drawn, minlength=len(NOTES))


expected = NUM_DRAWS * probabilities
both = {"expected": expected, "line": counts(by_line), "Gumbel": counts(by_gumbel)}
print(pd.DataFrame(both, NOTES).round(0).astype(int).to_string())

# %% [markdown]
# The counts are never exactly those expected. How far off may they be? If a note has probability p,
# its count among n draws strays by about sqrt(n p (1 - p)); more than four times that happens once
# in 16,000 cases. We shall ask for that everywhere below.


# %%
def fit(drawn_counts, probabilities):
    n = np.sum(drawn_counts)
    stray = np.sqrt(n * probabilities * (1 - probabilities))
    is_near = np.abs(drawn_counts - n * probabilities) <= 4 * stray + 1  # counts are whole
    return np.all(np.where(probabilities == 0, drawn_counts == 0, is_near))


check("the counts of the line fit", fit(counts(by_line), probabilities))
check("the counts of the Gumbel noise fit", fit(counts(by_gumbel), probabilities))

# %% [markdown]
# ## 6. What the package does
#
# `keras_music/generation/sampling.py` is short enough to be read. It calls the controls
# `temperature`, `top_k` and `top_p`; every prompt of a batch has its own. It does what `shaped`
# does, in that order, and 0 (`top_k`) and 1 (`top_p`) keep everything. Temperature 0 takes the
# best score. It draws with the line, not with Gumbel noise. So one random point a token is enough;
# it is computed from the row's *seed* and the token's place in the row, and from nothing else.
#
# To look into it we need a network whose scores we know. Take a real one, set all its weights to
# zero, and write our scores into its last layer as the *bias*, the numbers that it always adds.
# So it says the same whatever it has read. (`PAD`, `START` and `END` are tokens, too. They get
# so low a score that they never come.)

# %%
tokenizer = km.tokenizers.CharTokenizer("".join(NOTES))
print("tokens:", tokenizer.vocabulary)
network = km.build_model(tokenizer.vocab_size, embedding_dim=1, units=1)
weights = [np.zeros_like(array) for array in network.get_weights()]
weights[-1] = np.array([-1e9, -1e9, -1e9, *scores], "float32")
network.set_weights(weights)

one_step = km.OneStep(network, tokenizer)
logits, _ = one_step.step([tokenizer.start_id])  # reads START; "logits" is another word for scores
package = keras.ops.softmax(logits)[0, 3:]  # Keras' softmax, without the three special tokens
difference = np.abs(package - probabilities).max()
print(f"largest difference between the softmax by hand and Keras': {difference:.0e}")
check("the network says our probabilities", difference < 1e-6)

# %% [markdown]
# Now let it write one token 2,000 times with each of the eight settings: 16,000 rows in one call,
# each with its own settings and its own *seed*. The seed says where the random points are; the
# same seed gives the same note, today and in a year.

# %%
NUM_ROWS = 2000
rows = [setting for setting in FIVE_NOTES.values() for _ in range(NUM_ROWS)]
temperature, top_k, top_p = (list(values) for values in zip(*rows, strict=True))
seeds = np.tile(np.arange(NUM_ROWS), len(FIVE_NOTES))
written = one_step.generate_tokens(
    [None] * len(rows),  # None: begin from nothing, that is from START
    num_tokens=1,
    temperature=temperature,
    top_k=top_k,
    top_p=top_p,
    seed=seeds,
)
drawn = written.tokens[:, 1].reshape(len(FIVE_NOTES), NUM_ROWS) - 3  # 0 for C, ... 4 for G
print("the first rows:", tokenizer.decode(written.tokens[:40, 1]))

# %% [markdown]
# Three questions. Do the counts fit our probabilities? Does the package report the probability that
# we have computed? (`log_prob` is its logarithm; with temperature 0 there was no choice, so the
# probability is 1.) And, more than that: `sampling.uniforms` gives the package's own random points,
# for a seed and a place in the row. Does `draw` by hand find the very same note in each row?
#
# Four of the settings are drawn, too: bars for what was expected, with whiskers for four times the
# stray, and a dot for what came.

# %%
log_prob = written.log_prob.reshape(drawn.shape)
points = sampling.uniforms(np.arange(NUM_ROWS), np.array(1)).numpy()  # place 0 has START
all_fit, largest, same, table = True, 0.0, 0, {}
for name, its_drawn, its_log_prob in zip(FIVE_NOTES, drawn, log_prob, strict=True):
    p = shaped(scores, *FIVE_NOTES[name])
    all_fit &= fit(counts(its_drawn), p)
    largest = max(largest, np.abs(np.exp(its_log_prob) - p[its_drawn]).max())
    same += np.sum(draw(p, points) == its_drawn)
    table[name, "expected"], table[name, "drawn"] = NUM_ROWS * p, counts(its_drawn)

print(pd.DataFrame(table, NOTES).T.round(0).astype(int).to_string())
check("the counts of the package fit", all_fit)
print(f"largest difference of a probability: {largest:.0e}")
print(f"{same:,} of {drawn.size:,} notes are those drawn by hand")
check("by hand and by the package alike", largest < 1e-6 and same > 0.999 * drawn.size)

# %%
figure = Picture(figsize=(9, 2.8), layout="constrained")
shown = ["temperature 1", "temperature 2", "top-k 3", "temperature 2, top-p 0.8"]
for axes, name in zip(figure.subplots(1, 4, sharey=True), shown, strict=True):
    p = shaped(scores, *FIVE_NOTES[name])
    stray = np.sqrt(NUM_ROWS * p * (1 - p))
    axes.bar(NOTES, NUM_ROWS * p, yerr=4 * stray, color="#A6CEE6", ecolor=BLUE)
    axes.plot(NOTES, table[name, "drawn"], "o", color=ORANGE, markersize=5)
    axes.set_title(name, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
figure.axes[0].set(ylabel="notes of 2,000", ylim=(0, None))
figure.savefig(out / "counts.png", dpi=150)
figure

# %% [markdown]
# ## 7. A network that knows some Bach
#
# Now to music. As in tutorial 2, chorales become tokens (`NOTE_ON_60` presses the key 60, the
# middle C; `TIME_SHIFT_60` waits for 60 hundredths of a second; `NOTE_OFF_60` lifts the key), and a
# GRU learns to guess the next one. It trains for about a minute, less than in tutorial 2; that will
# do for our purpose. The *loss* is the mean surprise at the token that came, in nats.

# %%
corpus = km.corpora.bach_chorales()
train, valid, test = corpus.split(seed=0)
tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0, program=19)  # 19 = church organ
train_ds = km.make_dataset(train, tokenizer, sequence_length=64, batch_size=16, seed=0)
valid_ds = km.make_dataset(valid, tokenizer, sequence_length=64, batch_size=16)

EPOCHS, UNITS = 5, 192
keras.utils.set_random_seed(0)
model = km.build_model(tokenizer.vocab_size, cell="gru", embedding_dim=64, units=UNITS)
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(8e-3, EPOCHS * len(train_ds))),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
)
model.fit(train_ds, validation_data=valid_ds, epochs=EPOCHS, shuffle=False, verbose=2)

# %% [markdown]
# Here is a use for the perplexity: it says among how many tokens the network hesitates. Beside it
# stand three predictors that know little: one that knows nothing, one that has counted the tokens,
# one that knows how often a token is repeated. All are asked about chorales on which nothing was
# trained. Who knows nothing hesitates among 359 tokens; the network as if it had to choose among
# three.

# %%
losses = km.evaluation.ladder(model, tokenizer, train, test, 64)
print("held-out loss, in nats a token (less is better), and perplexity")
print(pd.DataFrame({"loss": losses, "perplexity": np.exp(losses)}).round(3).to_string())
if not losses["model"] < 0.5 * losses.drop("model").min():
    raise SystemExit("The model does not clearly beat the baselines: something is wrong.")

# %% [markdown]
# ## 8. The same beginnings, seven settings
#
# The prompts are the first 80 tokens of eight held-out chorales. Each is continued with each of
# seven settings: 56 rows in one call. A beginning has the same seed with every setting, so the
# random points are the same, too. (A prompt may be a `Piece`, or its ids, as here: so we know how
# Bach himself goes on after this very token.)

# %%
SETTINGS = {  # temperature, top-k, top-p
    "temperature 0": (0.0, 0, 1.0),
    "temperature 0.5": (0.5, 0, 1.0),
    "temperature 1": (1.0, 0, 1.0),
    "temperature 1.5": (1.5, 0, 1.0),
    "top-k 3": (1.0, 3, 1.0),
    "top-p 0.9": (1.0, 0, 0.9),
    "temperature 1.5, top-p 0.9": (1.5, 0, 0.9),
}
NUM_PIECES, PROMPT, NUM_TOKENS = 8, 80, 200
bach = [tokenizer.encode(piece)[: PROMPT + NUM_TOKENS] for piece in test[:NUM_PIECES]]
bach = np.stack(bach)  # (pieces, 280)
prompts = bach[:, :PROMPT]

# %%
rows = [setting for setting in SETTINGS.values() for _ in range(NUM_PIECES)]
temperature, top_k, top_p = (list(values) for values in zip(*rows, strict=True))
one_step = km.OneStep(model, tokenizer)
written = one_step.generate_tokens(
    np.tile(prompts, (len(SETTINGS), 1)),
    NUM_TOKENS,
    temperature=temperature,
    top_k=top_k,
    top_p=top_p,
    seed=np.tile(np.arange(NUM_PIECES), len(SETTINGS)),
)
rows_of = dict(zip(SETTINGS, np.arange(len(rows)).reshape(-1, NUM_PIECES), strict=True))
print(f"{len(rows)} rows, {written.tokens.shape[1]} tokens at most (END may come earlier)")

# %% [markdown]
# What does it mean to go round in circles? A token is *repeated* if it ends a passage of 16 tokens
# (some two chords) that was there before in the same piece. To look at, we take the beginning at
# which temperature 0 repeats itself most: blue is the prompt, orange what follows. The last panel
# is what Bach wrote.


# %%
def repeated(tokens):
    """For each new token, whether it ends a passage of 16 that was there before."""
    seen, answers = set(), []
    for end in range(16, len(tokens) + 1):
        passage = tuple(tokens[end - 16 : end].tolist())
        answers.append(passage in seen)
        seen.add(passage)
    return answers[PROMPT - 15 :]


def row_of_tokens(row):
    return written.tokens[row, : written.length[row]]  # without the padding after END


greedy = [sum(repeated(row_of_tokens(row))) for row in rows_of["temperature 0"]]
shown = int(np.argmax(greedy))
pieces = {name: written.tokens[of[shown]] for name, of in rows_of.items()} | {"Bach": bach[shown]}
print(f"{test[shown].name}: temperature 0 has {greedy[shown]} repeated tokens of {NUM_TOKENS}")

# %%
prompt_end = tokenizer.decode(prompts[shown]).duration  # in seconds
figure = Picture(figsize=(11, 8), layout="constrained")
panels = figure.subplots(4, 2, sharex=True, sharey=True)
for axes, (name, tokens) in zip(panels.flat, pieces.items(), strict=True):
    notes = tokenizer.decode(tokens).notes
    colors = np.where(notes["start"] < prompt_end - 1e-6, BLUE, ORANGE)
    axes.hlines(notes["pitch"], notes["start"], notes["end"] - 0.05, colors, linewidth=2.5)
    axes.set_title(name, loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_yticks([36, 48, 60, 72, 84], ["C2", "C3", "C4", "C5", "C6"])
    axes.grid(axis="y", color="#e0e0e0")
for axes in panels[-1]:
    axes.set_xlabel("time (seconds)")
figure.savefig(out / "piano_rolls.png", dpi=150)
figure

# %% [markdown]
# At temperature 0 a chord or two come back again and again: what was likely once is likelier still
# after it has just been there. At 1.5 notes begin far away from all others, and the long bars are
# keys that were never lifted: the network has lost count of what sounds. Between them lies what
# one may call music, good or less good.
#
# ## 9. Measuring it
#
# To measure we need the distribution at every step. The model reads all rows at once and gives its
# scores at each place. Which tokens may stand there, the *grammar* says: the rules of the notation.
# A key that is not down cannot be lifted, a key that is down cannot be pressed, a piece cannot end
# while a note sounds. A token that breaks such a rule means nothing. So the package gives it the
# score minus infinity before it draws: e to the power of that is 0. The grammar counts, too: when
# only as many tokens remain as it takes to lift all keys, nothing else may come. It runs on NumPy
# arrays, and we can ask it:


# %%
def allowed_by_grammar(tokens, stop):
    """What may stand at each place after the first: bool (rows, time - 1, vocabulary)."""
    grammar = tokenizer.grammar
    state = grammar.advance(grammar.start(len(tokens)), tokens[:, 0])
    masks = []
    for place in range(1, tokens.shape[1]):
        remaining = np.full(len(tokens), max(stop - place, 1))  # tokens that may still come
        masks.append(grammar.allowed(state, remaining))
        state = grammar.advance(state, tokens[:, place])
    return np.stack(masks, axis=1)


def scores_and_mask(tokens, stop):
    """For each new token: the network's scores, and what the grammar allows."""
    new = slice(PROMPT - 1, None)
    all_scores = np.asarray(model(tokens[:, :-1]), np.float64)
    return all_scores[:, new], allowed_by_grammar(tokens, stop)[:, new]


stop = PROMPT + NUM_TOKENS
network_scores, allowed = scores_and_mask(written.tokens, stop)
print("scores (rows, new tokens, vocabulary):", network_scores.shape)
print(
    f"of {tokenizer.vocab_size} tokens the grammar allows {allowed.sum(axis=2).mean():.0f} (mean)"
)

# %% [markdown]
# Now one line for each new token, in one table:
#
# - `surprise`: the network's own, before any setting: -ln(its probability of this token);
# - `network`: the entropy of the network's own distribution;
# - `settings`: the entropy of the distribution from which was really drawn;
# - `log_prob`: ln of the token's probability in that distribution;
# - `forbidden`: how much probability the settings alone would give to what breaks the grammar;
# - `repeated`: whether the token ends a passage that was there before.
#
# Bach gets such lines, too: his next 200 tokens, as if the network had drawn them at temperature 1.


# %%
def measured(token, scores, allowed, setting):
    own = softmax(scores)
    final = shaped(np.where(allowed, scores, -np.inf), *setting)
    return {
        "token": tokenizer.vocabulary[token],
        "surprise": -np.log(own[token]),
        "network": entropy(own),
        "settings": entropy(final),
        "log_prob": np.log(max(final[token], 1e-30)),
        "forbidden": shaped(scores, *setting)[~allowed].sum(),
    }


def measured_row(row, name, tokens, scores, allowed, setting):
    """A dict for each new token; `tokens` with the prompt, `scores` and `allowed` without."""
    lines = []
    for place, is_repeated in enumerate(repeated(tokens)):
        line = {"row": row, "setting": name, "place": place}
        line |= measured(tokens[PROMPT + place], scores[place], allowed[place], setting)
        lines.append(line | {"repeated": is_repeated})
    return lines


# %%
lines = []
for row, name in enumerate(np.repeat(list(SETTINGS), NUM_PIECES)):
    tokens = row_of_tokens(row)
    lines += measured_row(row, name, tokens, network_scores[row], allowed[row], SETTINGS[name])
bach_scores, bach_allowed = scores_and_mask(bach, stop + 200)  # he does not end there
for i in range(NUM_PIECES):
    row = len(rows) + i
    lines += measured_row(row, "Bach", bach[i], bach_scores[i], bach_allowed[i], (1.0, 0, 1.0))

moments = pd.DataFrame(lines)
moments["kind"] = moments["token"].str.replace(r"_\d+$", "", regex=True)  # NOTE_ON, TIME_SHIFT ...
print(f"{len(moments):,} lines, four of them:")
print(moments[moments["row"] == 16].head(4).round(3).to_string(index=False))

# %% [markdown]
# Are these the distributions from which the package has drawn? It reports for each row the sum of
# its `log_prob`, and ours must be the same. (Where likelier tokens have 0.9 together up to the last
# digit, the next may be kept by one and cut by the other. So nine rows in ten are enough.)

# %%
by_hand = moments.groupby("row")["log_prob"].sum().to_numpy()[: len(rows)]
alike = np.abs(by_hand - written.log_prob) < 0.01
print(f"log-probability of row 16: by hand {by_hand[16]:.3f}, package {written.log_prob[16]:.3f}")
print(f"{alike.sum()} of {len(alike)} rows agree to 0.01 nats")
check("the distributions by hand are those of the package", alike.mean() >= 0.9)

# %% [markdown]
# Now the summary: means over the first 180 new tokens of each row. (In the last 20 the grammar
# begins to close the piece.) `keys` is how many different keys were pressed in them.

# %%
first = moments[moments["place"] < 180]
by_setting = first.groupby("setting", sort=False)
pressed = first[first["kind"] == "NOTE_ON"].groupby(["setting", "row"], sort=False)["token"]
summary = pd.DataFrame(
    {
        "keys": pressed.nunique().groupby("setting", sort=False).mean(),
        "repeated %": 100 * by_setting["repeated"].mean(),
        "log-prob": -by_setting["surprise"].mean(),
        "network": by_setting["network"].mean(),
        "settings": by_setting["settings"].mean(),
        "perplexity": np.exp(by_setting["settings"].mean()),
        "forbidden %": 100 * by_setting["forbidden"].mean(),
    }
)
print("a token: log-probability under the network, entropy of network and settings, in nats")
print(summary.round(2).to_string())

# %% [markdown]
# - **Loops.** At temperature 0 about a third of the tokens are repeated, and there are some 14 keys
#   where Bach has 22. (He repeats a little, too: his phrases come back.) All other settings end it.
# - **Likely is not good.** A token of temperature 0 has a log-probability of about -0.4, one of
#   Bach's about -1.1. The network finds him *less* likely than the loop. Who always takes what is
#   likeliest gets music that is too likely. Bach lies between top-p 0.9 and temperature 1.
# - **The tail.** With temperature 1.5 a quarter of the probability would go to tokens that mean
#   nothing. At temperature 1 it is still a tenth; top-k 3 or top-p 0.9 takes half of that away.
# - **Confusion feeds itself.** `network` is always the same network, without any setting. But after
#   the odd notes of temperature 1.5 it is more undecided than after Bach's: it has never read such
#   music. So it writes even odder notes.
#
# The curves show the two entropies on the way: what a setting makes of the distribution (left), and
# what it does to the network that must read the result (right).

# %%
COLORS = {"temperature 0": "black", "temperature 0.5": BLUE, "temperature 1": "#009E73"}
COLORS |= {"temperature 1.5": "#D55E00", "top-p 0.9": "#CC79A7"}
TITLES = {
    "settings": "the distribution drawn from (mean of 30 tokens)",
    "network": "the network's own at the same places",
}
figure = Picture(figsize=(10, 3.8), layout="constrained")
panels = figure.subplots(1, 2)
for axes, (column, title) in zip(panels, TITLES.items(), strict=True):
    for name, color in COLORS.items():
        means = first[first["setting"] == name].groupby("place")[column].mean()
        axes.plot(means.rolling(30).mean(), color=color, label=name)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set(xlabel="new tokens", ylabel="entropy (nats)")
    axes.spines[["top", "right"]].set_visible(False)
labels = axes.get_legend_handles_labels()
figure.legend(*labels, loc="outside lower center", ncols=5, frameon=False)
figure.savefig(out / "entropy.png", dpi=150)
figure

# %% [markdown]
# Those are means. Single tokens differ much more: here is one row, token by token. Orange bars are
# tall: which key to press is a decision, above all the first of a chord. Keys are lifted in order,
# from low to high, so grey bars are often short. Where a bar is short, top-p keeps a token or two,
# where it is tall, many. Top-k 3 keeps three everywhere.

# %%
at_1 = first[first["setting"] == "temperature 1"]
one = at_1[at_1["row"] == rows_of["temperature 1"][shown]]
figure = Picture(figsize=(10, 3), layout="constrained")
axes = figure.add_subplot(xlabel="new tokens", ylabel="entropy (nats)", xlim=(-1, 180))
for kind, color in {"NOTE_ON": ORANGE, "TIME_SHIFT": BLUE, "NOTE_OFF": GREY}.items():
    its = one[one["kind"] == kind]
    axes.bar(its["place"], its["settings"], color=color, width=0.8, label=kind)
axes.set_title(
    f"temperature 1, {test[shown].name}: coloured by the token that came", loc="left", fontsize=10
)
axes.spines[["top", "right"]].set_visible(False)
figure.legend(loc="outside lower center", ncols=3, frameon=False)
figure.savefig(out / "moments.png", dpi=150)
figure

# %%
by_kind = at_1.groupby("kind")[["network", "settings", "forbidden"]].mean()
print(by_kind.assign(tokens=at_1["kind"].value_counts()).round(3).to_string())

# %% [markdown]
# In the table the grammar can be seen at work: for `NOTE_OFF` the entropy of what was drawn from is
# far below the network's own, because only keys that are down may be lifted.
#
# ## 10. Two masks: the grammar, and a wish
#
# What if nobody masked? `use_grammar=False` lets the network write whatever it likes, and
# `first_wrong` finds the first token that means nothing.

# %%
free = km.OneStep(model, tokenizer, use_grammar=False)
for temperature in [0.5, 1.0, 1.5]:
    # One seed for many rows: row i gets seed + i.
    unmasked = free.generate_tokens(prompts, NUM_TOKENS, temperature=temperature, seed=0)
    wrong = [
        tokenizer.grammar.first_wrong(tokens[:length])
        for tokens, length in zip(unmasked.tokens, unmasked.length, strict=True)
    ]
    wrong = [place - PROMPT + 1 for place in wrong if place is not None]
    print(f"temperature {temperature}, no grammar: {len(wrong)} of 8 rows break a rule,", end=" ")
    print(f"for the first time at the new tokens {wrong}")

# %% [markdown]
# Even at temperature 0.5 most rows break a rule sooner or later, and who draws from all of the tail
# breaks one soon. A mask makes that impossible, whatever the network thinks.
#
# A *wish* is what the musician wants: "A minor, please". In the package it is written
# `pitch_classes="A minor"`. Nothing is learned for it. It is one more mask: of the tokens that
# press a key, those in A minor may stay (the white keys), and all other tokens, too.
#
# Let us find a moment, in a row of temperature 1, at which both masks take much away.

# %%
A_MINOR = [9, 11, 0, 2, 4, 5, 7]  # A B C D E F G, in semitones above C
presses = np.array([name.startswith("NOTE_ON") for name in tokenizer.vocabulary])
numbers = [name.rpartition("_")[2] for name in tokenizer.vocabulary]
pitches = np.array([int(number) if number.isdecimal() else 0 for number in numbers])
wished = ~presses | np.isin(pitches % 12, A_MINOR)


def taken_away(moment):
    own = softmax(network_scores[moment.row, moment.place])
    by_grammar = ~allowed[moment.row, moment.place]
    return min(own[by_grammar].sum(), own[~by_grammar & ~wished].sum())


moment = max(at_1.itertuples(), key=taken_away)
before = written.tokens[moment.row, : PROMPT + moment.place]
print(f"row {moment.row}, after", " ".join(tokenizer.tokens(before[-6:])))

# %%
its_scores = network_scores[moment.row, moment.place]
grammar = allowed[moment.row, moment.place]
masked = {
    "the network": softmax(its_scores),
    "with the grammar": softmax(np.where(grammar, its_scores, -np.inf)),
    "with grammar and wish": softmax(np.where(grammar & wished, its_scores, -np.inf)),
}
likeliest = np.argsort(-masked["the network"])[:10]
some = {name: p[likeliest] for name, p in masked.items()}
print(pd.DataFrame(some, tokenizer.tokens(likeliest)).round(3).to_string())
for name, p in masked.items():
    print(f"{name}: {np.sum(p > 0)} tokens possible, perplexity {np.exp(entropy(p)):.1f}")

# %%
figure = Picture(figsize=(10, 3.6), layout="constrained")
fate = np.where(wished[likeliest], BLUE, "#CC79A7")
fate[~grammar[likeliest]] = "#B0B0B0"
for axes, (name, p) in zip(
    figure.subplots(1, 3, sharex=True, sharey=True), masked.items(), strict=True
):
    bars = axes.barh(tokenizer.tokens(likeliest), p[likeliest], color=fate)
    axes.bar_label(bars, [f"{v:.2f}" if v else "0" for v in p[likeliest]], padding=2, fontsize=8)
    axes.set_title(name, loc="left", fontsize=10)
    axes.set_xlabel("probability")
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.15)
figure.axes[0].invert_yaxis()  # the likeliest on top; the axes share it
figure.savefig(out / "masks.png", dpi=150)
figure

# %% [markdown]
# Grey is what the grammar forbids, pink what was not wished, blue what stays. The blue bars grow
# from panel to panel, all by the same factor: that is renormalising. A mask has no opinion about
# what it leaves.
#
# Does the package do the same? Ask it 500 times for what follows (24 tokens, so that there is room
# for the keys to be lifted), and count the first of them.

# %%
ROOM, TIMES = 24, 500
extended = np.append(before, 0)[None]  # one place more, for which we want the mask
grammar = allowed_by_grammar(extended, len(before) + ROOM)[0, -1]
expected = softmax(np.where(grammar & wished, its_scores, -np.inf))
answers = one_step.generate_tokens([before] * TIMES, ROOM, seed=0, pitch_classes="A minor")
drawn = np.bincount(answers.tokens[:, len(before)], minlength=tokenizer.vocab_size)


def with_rest(values):
    return np.append(values[likeliest], values.sum() - values[likeliest].sum())


both = {"expected": TIMES * with_rest(expected), "drawn": with_rest(drawn)}
labels = [*tokenizer.tokens(likeliest), "all others"]
print(pd.DataFrame(both, labels).T.round(0).astype(int).T.to_string())
check("the masked counts fit", fit(with_rest(drawn), with_rest(expected)))
check("nothing forbidden was drawn", np.all(drawn[~(grammar & wished)] == 0))

# %% [markdown]
# ## 11. In another key
#
# Now whole continuations with and without the wish, at top-p 0.9. The wish holds for what begins:
# the prompt stays as it is, and what sounds goes on. It changes nothing in the network, which still
# has the chorale's key in its memory; where its favourites are forbidden, it takes the next best.


# %%
def outside(tokens):
    """The share of new notes that are not in A minor."""
    new = tokens[:, PROMPT:]
    return np.mean(~wished[new][presses[new]])


without = written.tokens[rows_of["top-p 0.9"]]
minor = one_step.generate_tokens(prompts, NUM_TOKENS, top_p=0.9, seed=0, pitch_classes="A minor")
print(f"new notes outside A minor: {outside(without):.0%} without the wish,", end=" ")
print(f"{outside(minor.tokens):.0%} with it; what Bach wrote: {outside(bach):.0%}")
check("no note outside A minor begins", outside(minor.tokens) == 0)

# %% [markdown]
# Listen to one of them, from four seconds before the end of the prompt.

# %%
longest = minor.length.argmax()
piece = tokenizer.decode(minor.tokens[longest])
begin = max(tokenizer.decode(prompts[longest]).duration - 4, 0)
notes = piece.notes[piece.notes["start"] >= begin]
notes = notes.assign(start=notes["start"] - begin, end=notes["end"] - begin)
km.audio.write_wav(km.Piece(notes), out / "sampling.wav")
km.audio.player(out / "sampling.wav")

# %% [markdown]
# ## What you have learned
#
# - A network gives a distribution. How a token comes of it is your decision, and needs no training.
# - Temperature stretches the scores; top-k and top-p cut off the tail; then all is renormalised.
# - Entropy is the expected surprise in nats, perplexity the same as a number of equal choices.
# - A draw is a point on a line of length 1: the same seed is the same point, so the same music.
# - Grammar and wishes are masks: minus infinity before the softmax, and what is left keeps its
#   proportions.
#
# ## Exercises
#
# Put your answer in place of the three dots, and run the cell again.
#
# 1. Back to the five notes. At which temperature is C four times as likely as G? (Remember: only
#    the difference of their scores counts.)


# %%
def ratio(temperature):
    p = softmax(scores / temperature)
    return p[NOTES.index("C")] / p[NOTES.index("G")]


answer = ...  # your answer
km.explain.check(1, answer, lambda temperature: abs(ratio(temperature) - 4) < 0.05)

# %% [markdown]
# 2. A newer filter, *min-p*, keeps all tokens whose probability is at least some share of the
#    likeliest one's. Write it; `only` is a help.


# %%
def keep_min_p(probabilities, share):
    return ...  # your answer


tried = [keep_min_p(probabilities, share) for share in (0.3, 0.5)]
if tried[0] is ...:
    tried = ...
km.explain.check(2, tried, [[0.5065, 0, 0.1863, 0, 0.3072], [0.6225, 0, 0, 0, 0.3775]])

# %% [markdown]
# 3. Find a temperature at which the continuations surprise the network as much as Bach's own do,
#    to within 0.2 nats a token. (The check writes 24 continuations: a few seconds.)


# %%
def surprise_at(temperature):
    many = np.tile(prompts, (3, 1))
    pieces = one_step.generate_tokens(many, NUM_TOKENS, temperature=temperature, seed=100)
    log_prob = np.asarray(one_step.score(pieces.tokens))  # of each token, under the network
    return -log_prob[:, PROMPT:].sum() / (pieces.length - PROMPT).sum()


bach_surprise = moments[moments["setting"] == "Bach"]["surprise"].mean()
print(f"Bach: {bach_surprise:.2f} nats a token")
answer = ...  # your answer
km.explain.check(3, answer, lambda t: abs(surprise_at(t) - bach_surprise) < 0.2)

# %% [markdown]
# ## References
#
# - A. Fan and others, *Hierarchical Neural Story Generation* (2018), for top-k.
# - A. Holtzman and others, *The Curious Case of Neural Text Degeneration* (2020), for top-p,
#   and for why the likeliest text is not the best.
# - E. Gumbel, *Statistical Theory of Extreme Values* (1954), for the noise.
# - C. Shannon, *A Mathematical Theory of Communication* (1948), for the entropy.
# - N. N. Minh and others, *Turning Up the Heat: Min-p Sampling* (2024), for exercise 2.

# %%
print(f"done in {time.time() - started:.0f} s")
