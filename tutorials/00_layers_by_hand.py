# %% [markdown]
# # Layers by hand
#
# A network that writes music is a pile of school arithmetic: sums, products, and a curve that bends
# them. Here you compute every layer of it on numbers so small that a pencil is enough, from the
# embedding to the memory cells, and at the end you put them together into a network that says which
# note comes next.
#
# You need Python and school mathematics, no deep learning. It takes about half a minute; no GPU, no
# download. Each section has three parts: the arithmetic in a line or two of NumPy, the same as a
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
from matplotlib.figure import Figure

import keras_music as km

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)

# %% [markdown]
# ## 1. Music becomes numbers
#
# A network reads numbers and nothing else. So music is first written as a sequence of *tokens*,
# words like "press key 60", and every word has a number, its *id*. Here are four notes, as a table
# (pitch 60 is the middle C; times in seconds), as tokens and as ids.

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
# An id has no size: 62 is not "more" than 60. So a layer called *embedding* keeps a table with one
# row for each token, and the ids only say which rows to take. Take three tokens, 0, 1 and 2, with
# three numbers each:

# %%
table = np.array([[0.1, -0.4, 0.5], [-0.4, 0.8, 1.2], [-0.4, -0.2, 0.7]])  # (vocab_size, 3)
print("token 2 is", table[2])
print("tokens 1, 0, 1 are\n", table[[1, 0, 1]])

# %% [markdown]
# That is all. There is a second way to compute it, and it is the reason why the table can be
# learned like every other weight: write the id as a row of zeros with a single 1 (*one-hot*) and
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
# is a sum of all inputs, each input times a *weight*. The weights are what training changes.

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
# each sum goes through a curve, the *activation*. Four are used everywhere:

# %%
line = np.linspace(-4, 4, 161)
curves = {
    "sigmoid": 1 / (1 + np.exp(-line)),  # from 0 to 1: a gate, or a probability
    "tanh": np.tanh(line),  # from -1 to 1: a memory that cannot grow without end
    "ReLU": np.maximum(line, 0),  # cuts off what is negative
    "SiLU": line / (1 + np.exp(-line)),  # a ReLU without the corner
}
figure = Figure(figsize=(10, 2.6), layout="constrained")
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
print(
    "probabilities:", probabilities.round(3), "  loss if token 0 comes:", -np.log(probabilities[0])
)

# %%
page = km.explain.softmax_cross_entropy(scores, 0)

# %% [markdown]
# The last line of the page is what training uses: how the loss changes when a score changes. It is
# negative for the right token (its score should rise) and positive for all others.

# %%
page.draw(out / "softmax.png")

# %% [markdown]
# ## 5. The RNN cell: a layer with a memory
#
# A melody is more than its last note. A *recurrent* cell has a memory h, a few numbers, and at each
# moment computes a new memory from the input x and the old memory. It is a dense layer that reads
# both, x and h, one after the other:

# %%
x = np.array([2, 3, -1])
h = np.array([-1, 1])
W = np.array([[-1, -2, 0.5, 1, 2], [0.5, 0.5, 1, -1, -0.5]])  # for 3 inputs and 2 memories
print("sums:", W @ np.concatenate([x, h]), "  new memory:", np.tanh(W @ np.concatenate([x, h])))

# %% [markdown]
# Keras keeps the weights for the input (the *kernel*) and those for the memory (the *recurrent
# kernel*) in two matrices, so we cut the slide's matrix after three columns.

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
# With z near 1 the memory stays as it is, for as many moments as needed.

# %%
x, h = np.array([1.0, -0.5]), np.array([0.8])
kernel = np.array([[0.5, -1.0, 1.0], [1.0, 0.5, -2.0]])  # columns: for z, for r, for c
recurrent_kernel = np.array([[2.0, 1.0, 0.5]])
page = km.explain.gru_cell(x, h, kernel, recurrent_kernel)

# %%
page.draw(out / "gru_cell.png")

# %% [markdown]
# The *LSTM* is older and has three gates (i: what comes in, f: what is kept, o: what is shown) and
# a second memory c that is only multiplied and added to, never bent. Its idea is called g.

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
# A *Transformer* has no memory cell. Each moment looks at all moments before it and takes from
# each a share. It asks with its *query*; each moment offers a *key*; how well the two fit (a
# weighted sum again) becomes, through the softmax, the share of that moment's *value*.

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
# The package builds the same network out of Keras' layers. It must say the same.

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
# Thirty numbers. A network that writes chorales has some hundred thousand of them, and nobody
# chooses them by hand: they begin at random, and training moves each a little, again and again, so
# that the loss of section 4 gets smaller. The next tutorials do that, with text
# (`01_shakespeare.py`) and with music (`02_bach_chorales.py`).
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
# 2. A network knows nothing: all of its 359 scores are 0. What is its loss, whatever token comes?

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
