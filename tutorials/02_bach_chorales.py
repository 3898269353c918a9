# %% [markdown]
# # A network that continues Bach's chorales
#
# In a few minutes this script reads 364 four-part chorales, turns them into tokens, trains a
# recurrent network (a GRU) to guess the next token, lets it continue a chorale that it has never
# seen, and gives you the result to see and to hear:
#
# - `out/chorale.mid`, `out/chorale.wav`, `out/chorale.png`: the continued chorale;
# - `out/learning_curve.png`: how the surprise of the network fell;
# - `out/saved_model/1/`: the generator, ready for TensorFlow Serving.
#
# You need Python, and no more: no music theory, no deep learning.
# It takes about two minutes on two CPU cores; no GPU, and no download beyond pip.
#
# **The idea.** Music is written as a sequence of tokens. The network reads the tokens one by one
# and says after each how likely every possible next token is. If it is good at that, we let it
# roll dice with its own probabilities, write down the result, read that, and go on: it composes.

# %%
import json
import os
import pathlib
import subprocess
import sys
import time

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_music as km

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## 1. The corpus
#
# The chorales come with the package music21. They are read once (a few seconds, with a progress
# bar) and kept in a cache for the next run.
#
# Some of them we put aside at once. A network can learn its training pieces by heart; only pieces
# that it has never seen show whether it has understood anything. `split` moves whole chorales
# (never a half) and keeps those with the same music on the same side.

# %%
corpus = km.corpora.bach_chorales()
train, valid, test = corpus.split(seed=0)
print(corpus)
print(f"{len(train)} to learn from, {len(valid)} to watch the learning, {len(test)} for the end")

# %% [markdown]
# ## 2. Tokens
#
# A piano would dictate a chorale like this: press these keys, wait, release those, press others.
# That is all a *performance tokenizer* does: `NOTE_ON_60` presses the key 60 (the middle C),
# `TIME_SHIFT_50` waits 50 hundredths of a second, `NOTE_OFF_60` lifts the key. Here are the first
# notes of a chorale:
# as a picture, as sound, as a table of notes (times in seconds) and as tokens.

# %%
example = train[0]
km.plots.piano_roll(example.crop(10.0), out / "example.png")

# %%
km.audio.player(example.crop(10.0))

# %%
tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0, program=19)  # 19 = church organ
print(example)
print(example.notes.head(8).to_string())
ids = tokenizer.encode(example)
print("\n".join(" ".join(tokenizer.tokens(ids)[i : i + 5]) for i in range(0, 20, 5)))
print("the same as numbers, which is all that the network sees:", ids[:10].tolist())

# %% [markdown]
# What sounds is not lost on the way: decode the numbers, and the same keys are down at the same
# times. Two things are gone: who sings what, and where two voices meet on one key, one note
# remains. Decoding the numbers and encoding the result again gives the same numbers.

# %%
decoded = tokenizer.decode(ids)
print(f"{len(example)} notes in four voices, {len(decoded)} keys pressed")
print("encode(decode(ids)) == ids:", np.array_equal(tokenizer.encode(decoded), ids))

# %% [markdown]
# ## 3. Questions and answers
#
# The network gets windows of 128 tokens, and for each token the answer is the one that follows.
# By hand that is one line; the package does the same for all pieces, shuffles anew in every epoch,
# and never lets a window run from one piece into the next.

# %%
SEQUENCE_LENGTH = 128
question, answer = ids[:SEQUENCE_LENGTH], ids[1 : SEQUENCE_LENGTH + 1]

first_piece = km.make_dataset([example], tokenizer, SEQUENCE_LENGTH, batch_size=1)
inputs, targets = next(iter(first_piece))
print("by hand and by the package alike:", np.array_equal(inputs[0], question), end=" ")
print(np.array_equal(targets[0], answer))

train_ds = km.make_dataset(train, tokenizer, SEQUENCE_LENGTH, batch_size=32, seed=0)
valid_ds = km.make_dataset(valid, tokenizer, SEQUENCE_LENGTH, batch_size=32)
print(f"{train_ds.cardinality()} batches of 32 windows of {SEQUENCE_LENGTH} tokens an epoch")
batch, _ = next(iter(valid_ds))
figure = km.plots.Picture(figsize=(9, 2.8), layout="constrained")
axes = figure.add_subplot(xlabel="token of the window", ylabel="window")
axes.imshow(batch, aspect="auto", cmap="viridis", interpolation="nearest")
axes.set_title("one batch, as the network gets it; the colour is the token's number", loc="left")
figure.savefig(out / "batch.png")
figure

# %% [markdown]
# ## 4. The network
#
# Three layers: the *embedding* turns each token into 64 numbers, the *GRU* reads them from left to
# right and keeps 256 numbers as its memory, and the *dense* layer turns the memory into one score
# for each of the 359 possible next tokens.

# %%
CELL, UNITS, EPOCHS = "gru", 256, 12
keras.utils.set_random_seed(0)
model = km.build_model(tokenizer.vocab_size, cell=CELL, embedding_dim=64, units=UNITS)
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(6e-3, EPOCHS * len(train_ds))),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
)
model.summary()

# %% [markdown]
# `fit` trains: it shows the network a *batch* of windows, computes the *loss*, and moves each of
# its numbers a little to where the loss falls, again and again; once through all windows is an
# *epoch* (tutorial 01 says more, tutorial 03 does a step by hand). The loss is the surprise at the
# right answer: minus the natural logarithm of the probability that the network gave to it, in
# *nats*. A network that knows nothing has ln(359) = 5.88. The second number, `val_loss`, is the
# surprise at chorales that it does not learn from. Stop it (Ctrl-C; in a notebook: interrupt the
# kernel) and start the script again: it goes on after the last finished epoch (with the windows in
# another order, so that its notes will be others).

# %%
backup = keras.callbacks.BackupAndRestore(out / f"training_{CELL}_{UNITS}", double_checkpoint=True)
history = model.fit(
    train_ds,
    validation_data=valid_ds,
    epochs=EPOCHS,
    shuffle=False,  # the pipeline shuffles
    callbacks=[backup],
    verbose=2,
)

# %% [markdown]
# ## 5. Has it learned anything?
#
# Compare it with three predictors that know little: one that knows nothing (*uniform*), one that
# has counted the tokens (*unigram*), and one that has noticed how often a token is repeated. All
# are asked about the chorales that were put aside for the end.

# %%
losses = km.evaluation.ladder(model, tokenizer, train, test, SEQUENCE_LENGTH)
print("held-out loss, in nats a token (less is better)")
print(losses.round(3).to_string())
if not losses["model"] < 0.5 * losses.drop("model").min():
    raise SystemExit("The model does not clearly beat the baselines: something is wrong.")

# %% [markdown]
# The learning curve shows how fast it learned; the dashed lines are the three predictors. Where
# the training line goes below the other, the network begins to remember its chorales, too. As long
# as the validation line falls, what it learns still holds for chorales that it does not know.

# %%
curve = history.history and km.plots.learning_curve(  # empty after a run stopped at its very end
    history,
    out / "learning_curve.png",
    baselines=losses.drop("model"),
    title="Surprise at the next token of a chorale",
)
curve  # a notebook shows it here

# %% [markdown]
# ## 6. Continue a chorale
#
# The prompt is the beginning of a chorale that the network has never seen, four bars of it.
# *Temperature* 0.9 makes it a little more careful than its own probabilities (it divides the
# scores; below 1 the likely gets likelier), *top-p* 0.95 keeps the likeliest tokens that together
# have 95 %, and the *seed* makes the dice repeatable. Tutorial 05 shows what each of them does.

# %%
prompt = test[0].crop(float(test[0].to_seconds(16)))  # 16 quarter notes
prompt_end = prompt.duration
settings = {"num_tokens": 300, "temperature": 0.9, "top_p": 0.95, "seed": 1}
one_step = km.OneStep(model, tokenizer)
piece = one_step.generate(prompt, **settings)
print(f"prompt: {prompt}   with its continuation: {piece}")

km.write_midi(piece, out / "chorale.mid")
km.audio.write_wav(piece, out / "chorale.wav")
print(f"sound by: {km.audio.engine()}")
print(
    "listen to out/chorale.wav, look at out/chorale.png, open out/chorale.mid in any music program"
)
km.plots.piano_roll(
    piece,
    out / "chorale.png",
    prompt_end=prompt_end,
    title=f"{test[0].name}, continued by a GRU",
)

# %%
km.audio.player(out / "chorale.wav")  # in a notebook you can listen right here

# %% [markdown]
# A *spectrogram* shows what the ear gets: at each moment, how strong each frequency is (*mel*: the
# frequencies are spaced as the ear hears them). Below the notes stands the sound that they made,
# and over each note its overtones. The network has heard nothing of this. It knows tokens only.

# %%
mel = km.audio.mel_spectrogram(km.audio.render(piece))
km.plots.roll_and_spectrogram(piece, mel, out / "chorale_sound.png", prompt_end=prompt_end)

# %% [markdown]
# ## 7. Take it away
#
# `export` writes the generator as a SavedModel: graph and weights, without any Python. TensorFlow
# Serving can serve the folder as it is (tutorial 06). To see that the folder holds all that is
# needed, we load it in a new process, ask for the same continuation, and compare the notes.

# %%
version = km.export(
    one_step,
    out / "saved_model",
    card={
        "data": f"{corpus!r}, music21's corpus",
        "split": "by piece, seed 0, 80/10/10 %",
        "held-out loss (nats a token)": losses.round(4).to_dict(),
        "command": "python tutorials/02_bach_chorales.py",
    },
)
NEW_PROCESS = """
import json, sys
import keras_music as km
path, prompt, settings = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
written = km.load(path).generate_tokens(prompt, **settings)
print(json.dumps(written.tokens[0].tolist()))
"""
prompt_ids = tokenizer.encode(prompt)[:-1].tolist()  # without END: something follows
answer = subprocess.run(
    [sys.executable, "-c", NEW_PROCESS, version, json.dumps(prompt_ids), json.dumps(settings)],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
)
same = tokenizer.decode(json.loads(answer.stdout.splitlines()[-1]))
if not same.notes.equals(piece.notes):
    raise SystemExit("The SavedModel gives other notes than the model: something is wrong.")
print(f"{version}: loaded in a new process, it writes the same {len(piece)} notes")

# %% [markdown]
# ## What you have learned
#
# - Music becomes a sequence of tokens, and a network that predicts the next one can compose.
# - Whole pieces are held out, and a loss means something only beside simple baselines.
# - The generator is one function of prompt, seed and controls: the same here and in a new process.
#
# ## Exercises
#
# Put your answer in place of the three dots, and run the cell again.
#
# 1. How many different continuations do the seeds 1 to 20 give at temperature 0? (To see one:
#    `km.plots.piano_roll(tokenizer.decode(rows.tokens[0]))`.)

# %%
rows = one_step.generate_tokens([prompt] * 20, 60, temperature=0, seed=list(range(1, 21)))
answer = ...  # your answer
km.explain.check(1, answer, len({tuple(row) for row in rows.tokens.tolist()}))

# %% [markdown]
# 2. An LSTM has four blocks of weights where the GRU has three. A block is a matrix for the input
# (64 by 256), one for the memory (256 by 256), and a *bias*, one number more for each of the 256
# sums. How many numbers has this network, all three layers, with an LSTM in the middle? (The dense
# layer has a bias, too.)

# %%
answer = ...  # your answer
other = km.build_model(tokenizer.vocab_size, cell="lstm", embedding_dim=64, units=UNITS)
km.explain.check(2, answer, other.count_params(), tolerance=0)

# %% [markdown]
# 3. A loss of ln(n) is the surprise of somebody who hesitates between n equally likely tokens.
#    Between how many does this network hesitate, on chorales that it has never seen? (With two
#    digits behind the point.)

# %%
answer = ...  # your answer
km.explain.check(3, answer, lambda n: abs(np.log(n) - losses["model"]) < 0.01)

# %% [markdown]
# ## References
#
# - S. Oore and others, *This Time with Feeling: Learning Expressive Musical Performance* (2018).
# - K. Cho and others, *Learning Phrase Representations using RNN Encoder-Decoder* (2014).
# - M. Cuthbert and C. Ariza, *music21* (2010), whose corpus holds the chorales.

# %%
print(f"done in {time.time() - started:.0f} s")
