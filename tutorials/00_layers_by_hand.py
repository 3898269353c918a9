# %% [markdown]
# # Layers by hand
#
# A network that writes music is a pile of school arithmetic: sums, products, and a curve that bends
# them. Here you compute every layer of it on numbers so small that a pencil is enough, from the
# embedding to the memory cells, and at the end you put them together into a network that says which
# token comes next. The examples are those of the lecture *A.I. for Music: MIDI generation in deep
# learning*; where a number on its slides is another, we say so.
#
# You need Python and school mathematics, no deep learning. It takes some seconds; no GPU, no
# download. Most sections have three parts: the arithmetic in a line or two of NumPy, the same as a
# page with every step on it (`km.explain`), which is compared with the real layer of Keras before
# it is shown, and a drawing. The drawings are also written to `out/`.

# %%
import os
import pathlib
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
# ## 1. Music becomes numbers
#
# A network reads numbers and nothing else. So music is first written as a sequence of *tokens*,
# words like "press key 60", and every word has a number, its *id*. Here are four notes, as a table
# (pitch 60 is the middle C; times in seconds), as tokens and as ids. `NOTE_ON_60` presses the key
# 60, `TIME_SHIFT_50` waits 50 hundredths of a second, `NOTE_OFF_60` lifts the key; `START` and
# `END` open and close. (`velocity_bins=0`: how hard a key is struck is left out.)

# %%
melody = km.Piece(
    [
        {"pitch": 60, "start": 0.0, "end": 0.5},
        {"pitch": 62, "start": 0.5, "end": 1.0},
        {"pitch": 64, "start": 1.0, "end": 1.5},
        {"pitch": 60, "start": 1.5, "end": 2.0},
    ],
    name="Brother John",
)
tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0)
ids = tokenizer.encode(melody)
print(melody.notes[["pitch", "start", "end"]].to_string())
for number, token in zip(ids, tokenizer.tokens(ids), strict=True):
    print(f"{number:4}  {token}")
km.audio.player(melody)

# %% [markdown]
# ## 2. Embedding: a token gets numbers of its own
#
# An id has no size: 65 is not "more" than 63, and 308 is not even a key, but a wait. So a layer
# called *embedding* keeps a table with one row for each token (of the whole *vocabulary*, as all
# possible tokens are called), and the ids only say which rows to take. Take three tokens, 0, 1 and
# 2, with three numbers each:

# %%
table = np.array([[0.1, -0.4, 0.5], [-0.4, 0.8, 1.2], [-0.4, -0.2, 0.7]])  # a row for each token
print("token 2 is", table[2])
print("tokens 1, 0, 1 are\n", table[[1, 0, 1]])

# %% [markdown]
# That is all. There is a second way to compute it, and it is the reason why training can change
# the table like everything else: write the id as a row of zeros with a single 1 (*one-hot*) and
# multiply it by the table. The page below does both. In it, `(time, vocab_size) = (3, 3)` is the
# *shape*: how many numbers there are in each direction, and what the directions are called. `a @
# b` is the product of two matrices: each row of a, times each column of b, summed.

# %%
page = km.explain.embedding([1, 0, 1], table)

# %%
page.draw(out / "embedding.png")

# %% [markdown]
# ## 3. Dense: a weighted sum of everything
#
# A *dense* (or *fully connected*) layer takes some numbers x and gives others. Each of its outputs
# is a sum of all inputs, each input times a *weight*. The weights are what training changes. (Most
# layers also add one number of their own to each sum, the *bias*. Here it is 0 and left out.)

# %%
x = np.array([2, 3, 1])
w = np.array([-1, -2, 0.5])
total = 2 * (-1) + 3 * (-2) + 1 * 0.5
print("by hand:", total, "  with NumPy:", x @ w)

# %% [markdown]
# (The lecture's slide shows 5.5 for this sum. It is -7.5: a slip, and a good reason to let a
# machine check the numbers.)
#
# A sum of sums is again a sum: two such layers in a row could do nothing that one cannot do. So
# each sum goes through a curve, the *activation*. Four are used everywhere. Two of them you may not
# know: sigmoid(x) = 1 / (1 + e^-x), and tanh(x) = (e^x - e^-x) / (e^x + e^-x).

# %%
line = np.linspace(-4, 4, 161)
curves = {
    "sigmoid": 1 / (1 + np.exp(-line)),  # from 0 to 1: a gate, or a probability
    "tanh": np.tanh(line),  # from -1 to 1: a memory that cannot grow without end
    "ReLU": np.maximum(line, 0),  # cuts off what is negative
    "SiLU": line / (1 + np.exp(-line)),  # a ReLU without the corner
}
figure = km.plots.Picture(figsize=(10, 2.6), layout="constrained")
for axes, (name, values) in zip(figure.subplots(1, 4), curves.items(), strict=True):
    axes.plot(line, values, color=km.plots.BLUE)
    axes.set_title(name)
    axes.grid(alpha=0.3)
figure.savefig(out / "activations.png")
figure

# %% [markdown]
# With the tanh, the output of our sum is:

# %%
page = km.explain.dense(x, w, activation="tanh")

# %% [markdown]
# Almost -1, but not quite: tanh never reaches it.
#
# Several outputs are several sums over the same inputs, each with weights of its own. The lecture
# writes the weights of each output as a **row**:

# %%
x = np.array([2, 3, -1])
W = np.array([[-1, -2, 0.5], [0.5, 0.5, 1]])  # a row an output, as on the slide
sums = np.array([2 * (-1) + 3 * (-2) + (-1) * 0.5, 2 * 0.5 + 3 * 0.5 + (-1) * 1])
print("by hand:", sums, "  with NumPy:", W @ x)

# %% [markdown]
# (Here, too, the slide's first sum, -5.5, should be -8.5; the second is right.)
#
# Keras keeps one **column** an output and calls the matrix the *kernel*; it is the slide's matrix,
# turned on its side (`.T`). The names in the shapes: the inputs are *features*, the outputs
# *units*.

# %%
page = km.explain.dense(x, W.T, activation="tanh")

# %%
page.draw(out / "dense.png")

# %% [markdown]
# ## 4. Softmax and loss: from scores to a surprise
#
# At the end of a network stands a dense layer with one output for each token, the *scores* (or
# *logits*). The *softmax* turns scores into probabilities: raise e to the power of each score, then
# divide by the sum. The *loss* is the surprise at the token that really came: minus the logarithm
# of its probability. A token that was certain has the loss 0.

# %%
scores = np.array([2.0, 1.0, 0.1])
powers = np.exp(scores)
probabilities = powers / powers.sum()
print("probabilities:", probabilities.round(3))
print("loss if token 0 comes:", -np.log(probabilities[0]))

# %% [markdown]
# The page below first subtracts the largest score from all, so that no power gets too large. The
# probabilities stay the same, because all powers are divided by one number. *Classes* are the
# possible answers, the *target* is the one that came, and the unit of the loss is the *nat*.

# %%
page = km.explain.softmax_cross_entropy(scores, 0)

# %% [markdown]
# The last line of the page, the *gradient*, is what training uses: how the loss changes when a
# score changes. It is negative for the right token (its score should rise) and positive for all
# others.

# %%
page.draw(out / "softmax.png")

# %% [markdown]
# ## 5. The RNN cell: a layer with a memory
#
# A melody is more than its last note. A *recurrent* cell has a memory h, a few numbers, and at each
# moment computes a new memory from the input x and the old memory. It is a dense layer that reads
# x and h side by side, as one row:

# %%
x = np.array([2, 3, -1])
h = np.array([-1, 1])
W = np.array([[-1, -2, 0.5, 1, 2], [0.5, 0.5, 1, -1, -0.5]])  # for 3 inputs and 2 memories
print("sums:", W @ np.concatenate([x, h]), "  new memory:", np.tanh(W @ np.concatenate([x, h])))

# %% [markdown]
# Keras keeps the weights for the input (the *kernel*) and those for the memory (the *recurrent
# kernel*) in two matrices, so we cut the slide's matrix after three columns. (Keras adds a bias,
# here 0.)

# %%
kernel, recurrent_kernel = W[:, :3].T, W[:, 3:].T
page = km.explain.rnn_cell(x, h, kernel, recurrent_kernel)

# %%
page.draw(out / "rnn_cell.png")

# %% [markdown]
# ## 6. Unfolding: the same cell at every moment
#
# Over a melody the cell is used again and again, with the same weights: the memory after the first
# note is what it reads, with the second note, at the second moment. Drawn side by side, one cell
# for each moment, that is the *unfolded* network.

# %%
sequence = table[[1, 0, 2, 1]]  # four tokens, embedded
memory = np.zeros(2)
for vector in sequence:
    memory = np.tanh(vector @ kernel + memory @ recurrent_kernel)
    print(memory.round(3))
page = km.explain.unfold(sequence, kernel, recurrent_kernel)

# %%
page.draw(out / "unfold.png")

# %% [markdown]
# ## 7. GRU and LSTM: gates
#
# The simple cell writes its whole memory anew at every moment, and so forgets quickly. A *gate* is
# a number between 0 and 1, computed like any dense layer with a sigmoid, that multiplies
# something: 0 stops it, 1 lets it through. The *GRU* has two. In words, for one memory:
#
#     z = sigmoid(...)             how much of the old memory stays
#     r = sigmoid(...)             how much of it is used for the new idea
#     c = tanh(... r ...)          the new idea
#     h' = z * h + (1 - z) * c     the new memory: a mixture of old and new
#
# With z near 1 the memory stays as it is, for as many moments as needed. On the page, `[x, h]` is x
# followed by h, `W_z` the column of the kernel for z, and `U_z` that of the recurrent kernel.

# %%
x, h = np.array([1.0, -0.5]), np.array([0.8])
kernel = np.array([[0.5, -1.0, 1.0], [1.0, 0.5, -2.0]])  # columns: for z, for r, for c
recurrent_kernel = np.array([[2.0, 1.0, 0.5]])
page = km.explain.gru_cell(x, h, kernel, recurrent_kernel)

# %%
page.draw(out / "gru_cell.png")

# %% [markdown]
# The *LSTM* is older. It has three gates and a second memory, c, which is only multiplied and added
# to on its way through time. (In the GRU c was the idea. Here the idea is called g.)
#
#     i = sigmoid(...)             how much of the new idea comes in
#     f = sigmoid(...)             how much of the long memory stays
#     g = tanh(...)                the new idea
#     o = sigmoid(...)             how much of the long memory is shown
#     c' = f * c + i * g           the new long memory
#     h' = o * tanh(c')            the new short memory, which is also the output

# %%
c = np.array([1.5])
kernel = np.array([[0.5, -1.0, 1.0, 0.5], [1.0, 0.5, -2.0, 0.0]])  # columns: for i, f, g, o
recurrent_kernel = np.array([[1.0, 2.0, 0.5, 1.0]])
page = km.explain.lstm_cell(x, h, c, kernel, recurrent_kernel)

# %%
page.draw(out / "lstm_cell.png")

# %% [markdown]
# ## 8. Attention: looking back instead of remembering
#
# A *Transformer* has no memory cell. Each moment looks at itself and at all moments before it, and
# takes from each a share. It asks with its *query*; each moment offers a *key*; how well the two
# fit (multiply them number by number and add up: a *score*) becomes, through the softmax, the share
# of that moment's *value*. Query, key and value are three dense layers of the moment; here their
# matrices change nothing (`np.eye`: ones on the diagonal).
#
# Two details of the page: a score is divided by the root of the number of columns, so that long
# rows do not give huge scores; and a moment that lies ahead gets the score -inf, because e to the
# power of that is 0. What the page calls *weights* are the shares.

# %%
moments = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # three moments, two numbers each
same = np.eye(2)  # queries, keys and values are here the moments themselves
page = km.explain.attention_head(moments, same, same, same)

# %%
page.draw(out / "attention.png")

# %% [markdown]
# ## 9. All together: which token comes next?
#
# Embedding, RNN, dense layer, softmax: that is a network that predicts the next token. With the
# numbers of this page, and a last layer with one output for each of the three tokens, by hand:

# %%
kernel, recurrent_kernel = W[:, :3].T, W[:, 3:].T
last_kernel = np.array([[1.0, -1.0, 0.5], [0.5, 2.0, -1.0]])  # (units, vocab_size)
memory = np.zeros(2)
for token in [1, 0, 2]:
    memory = np.tanh(table[token] @ kernel + memory @ recurrent_kernel)
powers = np.exp(memory @ last_kernel)
by_hand = powers / powers.sum()
print("probabilities of the tokens 0, 1, 2:", by_hand.round(4))

# %% [markdown]
# The package builds the same network out of Keras' layers. It must say the same. (The outer
# brackets around the ids are a *batch*: a network reads many sequences at once, here one.)

# %%
model = km.build_model(vocab_size=3, cell="rnn", embedding_dim=3, units=2)
model.set_weights([table, kernel, recurrent_kernel, np.zeros(2), last_kernel, np.zeros(3)])
scores = model(np.array([[1, 0, 2]]))[0, -1]
by_keras = np.array(keras.ops.softmax(scores))
print("and by Keras:                       ", by_keras.round(4))
if not np.allclose(by_hand, by_keras, atol=1e-6):
    raise SystemExit("The network by hand and Keras' differ: something is wrong.")
model.summary()

# %% [markdown]
# Thirty numbers, five of them biases, which are 0 here. The network that writes chorales in
# tutorial 2 has about 360,000, and nobody chooses them by hand: they begin at random, and training
# moves each a little, again and again, so that the loss of section 4 gets smaller. The next
# tutorials do that, with text (`01_shakespeare.py`) and with music (`02_bach_chorales.py`).
#
# ## What you have learned
#
# - An embedding is a table, and looking up is multiplying by a one-hot row.
# - A dense layer is weighted sums and a curve; scores become probabilities by the softmax.
# - The loss is the surprise at what came, -ln(probability).
# - An RNN cell is a dense layer that reads its own output; gates decide what is kept.
# - A network is these layers in a row, and every number in it can be checked by hand.
#
# ## Exercises
#
# Put your answer in place of the three dots, and run the cell again.
#
# 1. What is the output of a dense layer with the weights (1, -1, 2) and ReLU for x = (3, 5, 0.5)?

# %%
answer = ...  # your answer
km.explain.check(1, answer, lambda y: y == max(0, np.dot([3, 5, 0.5], [1, -1, 2])))

# %% [markdown]
# 2. A network knows nothing: its scores for 359 tokens are all 0. What is its loss, whatever comes?

# %%
answer = ...  # your answer
km.explain.check(2, answer, -np.log(1 / 359))

# %% [markdown]
# 3. Complete the function: one step of a GRU whose gate z is given. With z = 1, nothing changes.

# %%


def gru_mixture(z, h, c):
    return ...  # your answer


km.explain.check(3, gru_mixture(0.25, 0.8, -0.4), 0.25 * 0.8 + (1 - 0.25) * -0.4)

# %% [markdown]
# ## References
#
# - J. Elman, *Finding Structure in Time* (1990): the simple recurrent cell.
# - S. Hochreiter and J. Schmidhuber, *Long Short-Term Memory* (1997).
# - K. Cho and others, *Learning Phrase Representations using RNN Encoder-Decoder* (2014): the GRU.
# - A. Vaswani and others, *Attention Is All You Need* (2017).

# %%
print(f"done in {time.time() - started:.0f} s")
