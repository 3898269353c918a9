# %% [markdown]
# # A network that writes Shakespeare
#
# Nobody teaches this network a word. It sees nine plays as one long row of characters, learns to
# guess the next character, and in about two minutes it spells, it knows that a speaker's name
# stands in capitals before a colon, and it writes lines in something that looks like English.
#
# The script writes `out/shakespeare.txt`, `out/shakespeare.png` (the learning curve), two small
# pictures, and `out/shakespeare/1/`, a *SavedModel*: a folder that another
# program can run (tutorial 06).
#
# You need Python and school mathematics, no deep learning. It takes about two minutes on two CPU
# cores; no GPU, and no download beyond pip. It follows TensorFlow's text-generation tutorial, on
# Keras 3, and measures what it learns on text that it has never seen.

# %%
import os
import pathlib
import time

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_music as km

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## 1. The text
#
# One long text cannot be split by pieces; everybody takes the first 90 % to learn from and keeps
# the last 10 % to test with, and so do we.

# %%
corpus = km.corpora.shakespeare()
train, valid, _ = corpus.split()
print(corpus)
print(train[0][:220])

# %% [markdown]
# ## 2. Characters become numbers
#
# Every character that occurs gets a number. Three more have a meaning of their own: 0 `PAD` fills
# gaps, 1 `START` opens a text, 2 `END` closes it. By hand that is a dictionary:

# %%
vocabulary = ["PAD", "START", "END", *sorted(set(corpus[0]))]
number_of = {token: number for number, token in enumerate(vocabulary)}
by_hand = [number_of["START"], *[number_of[c] for c in "First Citizen:"], number_of["END"]]

tokenizer = km.tokenizers.CharTokenizer(corpus)
print("by hand:   ", by_hand)
print("tokenizer: ", tokenizer.encode("First Citizen:").tolist())
print("and back:  ", repr(tokenizer.decode(by_hand)))
print(f"{tokenizer.vocab_size} tokens, three of them special: {''.join(vocabulary[3:])!r}")

# %% [markdown]
# Not all of them are equally frequent. Whoever has counted them can already guess better than
# whoever has not; that is one of the predictors that the network will have to beat.

# %%
ids = tokenizer.encode(train[0])
counts = np.bincount(ids, minlength=tokenizer.vocab_size)
order = np.argsort(-counts)
figure = km.plots.Picture(figsize=(10, 2.6), layout="constrained")
axes = figure.add_subplot()
axes.bar(range(len(order)), counts[order] / counts.sum(), color=km.plots.BLUE)
axes.set_xticks(range(len(order)), [repr(vocabulary[i])[1:-1] for i in order], fontsize=8)
axes.set(title="the 51 most frequent characters", ylabel="share", xlim=(-1, 50.5))
figure.savefig(out / "characters.png")
figure

# %% [markdown]
# ## 3. Questions and answers
#
# The network asks itself one question everywhere: *which character comes next?* So a window of 100
# characters is the question, and the same window one character later holds the answers. By hand:

# %%
SEQUENCE_LENGTH, BATCH_SIZE = 100, 64
windows = [
    ids[start : start + SEQUENCE_LENGTH + 1]
    for start in range(0, len(ids) - SEQUENCE_LENGTH, SEQUENCE_LENGTH)
]
questions = np.array([window[:-1] for window in windows])
answers = np.array([window[1:] for window in windows])
print("question:", repr(tokenizer.decode(questions[0][1:41])))  # after START
print("answer:  ", repr(tokenizer.decode(answers[0][1:41])))

# %% [markdown]
# The package does the same as a `tf.data` pipeline, a chain of small steps: cut windows, keep them
# in memory (*cache*), *shuffle* them anew for every round, put 64 at a time together (a *batch*),
# and prepare the next batch while one is in use (*prefetch*). Without a seed it does not shuffle,
# so we can compare the first batch.

# %%
inputs, targets = next(iter(km.make_dataset(train, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE)))
print("same questions:", np.array_equal(inputs, questions[:BATCH_SIZE]), end=", ")
print("same answers:", np.array_equal(targets, answers[:BATCH_SIZE]))

train_ds = km.make_dataset(train, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE, seed=0)
valid_ds = km.make_dataset(valid, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE)
print(f"{len(train_ds)} batches an epoch")

# %% [markdown]
# ## 4. The network
#
# - The **embedding** looks up 64 numbers for each character.
# - The **GRU** reads them from left to right. It keeps 256 numbers as its memory, and at every
#   character decides what to forget and what to add.
# - The **dense** layer turns the memory into one score for each possible next character.
#
# The *loss* is the surprise at the character that really came: minus the natural logarithm of its
# probability, in *nats*. It is 0 if it was certain, and 0.69 for heads or tails.
#
# Before training, all characters should be about equally likely. A fair guess among V characters
# has the loss ln(V), so that is what we must see. If we saw more, something would be wrong already.

# %%
UNITS, EPOCHS = 256, 3
keras.utils.set_random_seed(0)
model = km.build_model(tokenizer.vocab_size, cell="gru", embedding_dim=64, units=UNITS)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
print("scores (batch, time, vocab_size):", model(inputs).shape)
print(f"loss before training {loss(targets, model(inputs)):.3f}", end=", ")
print(f"ln({tokenizer.vocab_size}) = {np.log(tokenizer.vocab_size):.3f}")

# %% [markdown]
# **Training** repeats one thing. It shows the network a batch, computes the mean loss, and asks of
# every number in the network: if it were a little larger, would the loss rise or fall? Then it
# moves each a little to where it falls. Once through all windows is an *epoch*. `Adam` decides how
# far each number moves; the *learning rate* 0.008 sets the scale, and `CosineDecay` lets it sink
# to 0. (`from_logits=True`: the network gives scores, not probabilities. `ignore_class=0`: gaps do
# not count. Tutorial 03 does such a step by hand.)

# %%
steps = EPOCHS * len(train_ds)
model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(8e-3, steps)), loss)
history = model.fit(
    train_ds,
    validation_data=valid_ds,
    epochs=EPOCHS,
    shuffle=False,  # the pipeline shuffles
    verbose=2,
)

# %% [markdown]
# Is that good? Compare it with three predictors that know little: one that knows nothing
# (*uniform*), one that has counted the characters (*unigram*), and one that has noticed how often
# a character is repeated. All are asked about the text that was put aside (*held out*).

# %%
losses = km.evaluation.ladder(model, tokenizer, train, valid, SEQUENCE_LENGTH, BATCH_SIZE)
print("held-out loss, in nats a character (less is better)")
print(losses.round(3).to_string())
km.plots.learning_curve(
    history,
    out / "shakespeare.png",
    baselines=losses.drop("model"),
    title="Surprise at Shakespeare's next character",
)

# %% [markdown]
# ## 5. One step, by hand
#
# To write, the network must go one character at a time: what it has just written is what it reads
# next. One step of a GRU is six products of a matrix and a vector. With x the embedding of the
# character and h the memory (all zeros in the beginning):
#
#     z = sigmoid(Wz x + Uz h)                how much of the old memory stays
#     r = sigmoid(Wr x + Ur h)                how much of it is used for the new idea
#     c = tanh(Wc x + r * (Uc h))             the new idea
#     h = z * h + (1 - z) * c                 the new memory
#
# `Wz x` is a product of a matrix and a vector, `*` multiplies number by number, and each sum has
# one number more of its own, the *bias*. Keras stores the three W side by side in one matrix, and
# the three U, each turned on its side: so the code says `x @ W`. `OneStep` is the package's step.

# %%
table = model.layers[0].get_weights()[0]
W, U, bias = model.layers[1].get_weights()
dense_W, dense_bias = model.layers[2].get_weights()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def step_by_hand(character, h):
    x = table[character]
    from_x = np.split(x @ W + bias[0], 3)
    from_h = np.split(h @ U + bias[1], 3)
    z = sigmoid(from_x[0] + from_h[0])
    r = sigmoid(from_x[1] + from_h[1])
    c = np.tanh(from_x[2] + r * from_h[2])
    h = z * h + (1 - z) * c
    return h @ dense_W + dense_bias, h


one_step = km.OneStep(model, tokenizer)
state, h = None, np.zeros(UNITS)
for character in tokenizer.encode("ROMEO:")[:-1]:  # without END: something follows
    scores, h = step_by_hand(character, h)
    package_scores, state = one_step.step([character], state)
difference = np.abs(scores - package_scores[0]).max()
print(f"largest difference between the step by hand and the package's: {difference:.1e}")
if not difference < 1e-4:
    raise SystemExit("The step by hand and the package differ: something is wrong.")

# %% [markdown]
# The scores become probabilities by the softmax. What does it expect after "ROMEO:"?

# %%
probabilities = np.exp(scores) / np.exp(scores).sum()
likely = np.argsort(-probabilities)[:12]
figure = km.plots.Picture(figsize=(7, 2.6), layout="constrained")
axes = figure.add_subplot()
axes.bar([repr(vocabulary[i]) for i in likely], probabilities[likely], color=km.plots.BLUE)
axes.set(title="the next character after ROMEO:", ylabel="probability")
figure.savefig(out / "next_character.png")
for number in likely[:4]:
    print(f"{vocabulary[number]!r:8} {probabilities[number]:6.1%}")
figure

# %% [markdown]
# ## 6. Let it write
#
# Now repeat: step, draw a character, step... The package does that in a *graph*, the calculation
# written down once so that it runs without Python, for many *prompts* (the text to continue) at
# once. The *seed* makes the dice repeatable. Three controls say how to draw:
#
# - *temperature* divides the scores before the softmax: below 1 the likely becomes likelier, above
#   1 the unlikely gets its chance, and 0 means: always the likeliest;
# - *top-k* keeps only the k likeliest characters (0: all);
# - *top-p* keeps only the likeliest that together have the probability p (1: all).

# %%
texts = one_step.generate(
    ["ROMEO:"] * 4, num_tokens=250, temperature=[0.0, 0.5, 1.0, 1.5], seed=[1, 1, 1, 1]
)
for temperature, text in zip([0.0, 0.5, 1.0, 1.5], texts, strict=True):
    print(f"\n----- temperature {temperature} -----\n{text}")

# %% [markdown]
# At 0 it always takes the likeliest character, and soon goes round in circles. At 1.5 it stops
# spelling, and may even draw END, which closes a text early. Between them lies the useful range;
# 0.8 is a good beginning.

# %%
text = one_step.generate("ROMEO:", num_tokens=1000, temperature=0.8, seed=2)
(out / "shakespeare.txt").write_text(text, encoding="utf-8")

# %% [markdown]
# ## 7. Take it away
#
# `export` writes graph and weights as a SavedModel. It takes text and gives text, and temperature
# and seed are inputs of every request. TensorFlow's own loader is enough to use it:

# %%
version = km.export(
    one_step,
    out / "shakespeare",
    card={
        "data": repr(corpus),
        "split": "first 90 % of the characters, last 10 % held out",
        "held-out loss (nats a character)": losses.round(4).to_dict(),
        "command": "python tutorials/01_shakespeare.py",
    },
)
served = tf.saved_model.load(str(version)).signatures["serving_default"]
answer = served(
    prompt=tf.constant(["ROMEO:"]),
    num_tokens=tf.constant([1000]),
    temperature=tf.constant([0.8]),
    top_k=tf.constant([0]),
    top_p=tf.constant([1.0]),
    seed=tf.constant([2], tf.int64),
)
same = answer["text"].numpy()[0].decode() == text
print(f"{version}: the SavedModel writes the same {len(text)} characters: {same}")
if not same:
    raise SystemExit("The SavedModel writes another text: something is wrong.")

# %% [markdown]
# ## What you have learned
#
# - Text is a sequence of numbers; question and answer are the same text, one character apart.
# - Before training the loss is ln(V); after it, only the loss on held-out text counts.
# - A recurrent network is one step, repeated; you have written that step with NumPy.
# - The temperature decides between boring and wrong.
#
# ## Exercises
#
# Put your answer in place of the three dots, and run the cell again.
#
# 1. Write the temperature by hand: the probabilities that `scores` give at the temperature 0.5.

# %%
answer = ...  # your answer
km.explain.check(
    1,
    answer,
    lambda p: (
        np.isclose(sum(p), 1) and np.allclose(np.log(p), np.log(p)[0] + 2 * (scores - scores[0]))
    ),
)

# %% [markdown]
# 2. Temperature 0 always takes the likeliest character. Write the same text with
# `one_step.generate` and 250 tokens, but with temperature 1, any seed, and another control.

# %%
answer = ...  # your answer
km.explain.check(2, answer, texts[0])

# %% [markdown]
# 3. Another language: folk tunes, written as text. What is the loss of a new network that has not
#    been trained at all? (`their_tokenizer.vocab_size` says how many tokens there are.)

# %%
tunes = km.corpora.folk_tunes()[:500]
print(tunes[0])
their_tokenizer = km.tokenizers.CharTokenizer(tunes)
their_inputs, their_targets = next(iter(km.make_dataset(tunes, their_tokenizer)))
untrained = km.build_model(their_tokenizer.vocab_size)
their_loss = float(loss(their_targets, untrained(their_inputs)))
answer = ...  # your answer
km.explain.check(3, answer, their_loss, tolerance=0.005)

# %% [markdown]
# ## References
#
# - A. Karpathy, *The Unreasonable Effectiveness of Recurrent Neural Networks* (2015).
# - TensorFlow, *Text generation with an RNN* (tutorial).
# - K. Cho and others, *Learning Phrase Representations using RNN Encoder-Decoder* (2014).

# %%
print(f"done in {time.time() - started:.0f} s")
