# %% [markdown]
# # Your network behind a server
#
# A model in your Python is an instrument in your room: only you can play it. A *server* keeps it
# loaded and answers whoever asks: a web page, a plug-in of a music program. TensorFlow Serving is
# one. It is written in C++ and knows no Python, so it gets a folder with everything in it: the
# *SavedModel*.
#
# This script trains a small network, exports it to `out/bach/1/`, and then does by hand what
# server and clients do. (A second run exports to the next number.) It **starts no server**, and
# needs none. It writes a piece (`out/served.mid`, `.wav`, `.png`), a question for a server
# (`out/request.json`) and how fast the answer comes (`out/latency.png`). You need Python; tutorial
# 2 explains the network. It takes one to two minutes on two CPU cores; no GPU, and no download
# beyond pip.

# %%
import json
import os
import pathlib
import platform
import threading
import time

# TensorFlow prints fewer lines then; those that remain are harmless.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import keras_music as km
from keras_music.serving import warmup

started = time.time()
out = pathlib.Path("out")
out.mkdir(exist_ok=True)


def check(what, is_true):
    print(f"{what}: {bool(is_true)}")
    if not is_true:
        raise SystemExit("This must be true: something is wrong.")


# %% [markdown]
# ## 1. From a network to a folder
#
# Four quick epochs: the harmony will be rough, but a server does not mind. What the network
# computes is a *graph*: a list of *operations* (multiply, add, look up). What flows between them
# are *tensors*, arrays of numbers; the learned ones are kept in *variables*.

# %%
corpus = km.corpora.bach_chorales()
train, valid, test = corpus.split(seed=0)
tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0, program=19)  # 19 = church organ
train_ds = km.make_dataset(train, tokenizer, sequence_length=64, batch_size=16, seed=0)

EPOCHS, UNITS = 4, 256
keras.utils.set_random_seed(0)
model = km.build_model(tokenizer.vocab_size, cell="gru", embedding_dim=64, units=UNITS)
model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(6e-3, EPOCHS * len(train_ds))),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
)
history = model.fit(train_ds, epochs=EPOCHS, shuffle=False, verbose=2)  # the pipeline shuffles
loss = km.evaluation.model_loss(model, km.make_dataset(valid, tokenizer, 64))
nothing = np.log(tokenizer.vocab_size)
print(f"held-out loss {loss:.2f} nats a token; knowing nothing: {nothing:.2f}")
km.plots.learning_curve(
    history, out / "learning_curve.png", {"knowing nothing": nothing, "held out, at the end": loss}
)

# %% [markdown]
# A server looks into the model's folder once a second and serves the subfolder with the highest
# number. Looking while we write, it would find half a model. So the subfolder gets its number in
# the very end, by renaming, which happens at once or not at all. Let us be an impatient server:

# %%
seen, is_done = [], threading.Event()  # (name of a subfolder, whether there was a graph in it)


def look_often():
    while not is_done.wait(0.01):
        seen.extend((f.name, (f / "saved_model.pb").exists()) for f in (out / "bach").glob("*"))


threading.Thread(target=look_often, daemon=True).start()
card = {"data": repr(corpus), "held-out loss": loss, "command": "python tutorials/06_serving.py"}
version = km.export(km.OneStep(model, tokenizer), out / "bach", card=card)
time.sleep(0.5)
is_done.set()
print("names seen:", sorted({name for name, _ in seen}))
half = [name for name, has_graph in seen if name.isdecimal() and not has_graph]
check("a number always had a model behind it", not half)

# %%
ABOUT = {
    "saved_model.pb": "the graph: what to compute",
    "variables.index": "where in variables.data each weight stands",
    "variables.data-00000-of-00001": "the weights",
    "fingerprint.pb": "numbers that tell two exports apart",
    "tokenizer.json": "what the ids mean, for clients in Python",
    "model_card.json": "data, loss, limits, for people",
    "tf_serving_warmup_requests": "what the server asks itself at its start",
}
files = sorted(file for file in version.rglob("*") if file.is_file())
for file in files:
    name = file.relative_to(version).as_posix()
    print(f"{name:40} {file.stat().st_size:9,} bytes  {ABOUT.get(file.name, '')}")
figure = km.plots.Picture(figsize=(7, 2.4), layout="constrained")
axes = figure.add_subplot(xscale="log", xlabel="bytes")
axes.barh([file.name for file in files], [f.stat().st_size for f in files], color=km.plots.BLUE)
figure.savefig(out / "folder.png", dpi=150)
figure

# %% [markdown]
# ## 2. What it can be asked
#
# A *signature* is a function of the graph whose inputs and outputs have names, and the signatures
# are all that a server knows of our model. `?` is an axis of any length. The first axis is always
# the batch: how many questions come at once. `generate` writes a whole piece, `step` one token
# (section 6), `score` says how likely given tokens are, `describe` gives card and tokenizer.

# %%
loaded = km.load(version)
# "serving_default" is "generate" again, "generate_controlled" takes rules (tutorial 05), too.
for name in ["generate", "step", "score", "describe"]:
    signature = loaded.signatures[name]
    sides = [("in", signature.structured_input_signature[1]), ("out", signature.structured_outputs)]
    for side, specs in sides:
        for key, spec in sorted(specs.items()):
            shape = ", ".join("?" if size is None else str(size) for size in spec.shape)
            print(f"{name:9} {side:4} {key:15} {spec.dtype.name:8} ({shape})")

# %% [markdown]
# ## 3. Load it as the server does
#
# `km.load` rebuilds Python's objects. The server has none: it imports the graph, runs *one*
# operation that fills the variables, and then feeds and fetches tensors by their names. By hand:


# %%
def open_as_server(folder):
    file = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    meta = file.meta_graphs[0]
    with tf.Graph().as_default():
        tf.graph_util.import_graph_def(meta.graph_def, name="")
        session = tf.compat.v1.Session()
    weights = {meta.saver_def.filename_tensor_name: str(folder / "variables" / "variables")}
    session.run(meta.saver_def.restore_op_name, weights)

    def ask(signature, **inputs):
        entry = meta.signature_def[signature]
        feeds = {entry.inputs[name].name: value for name, value in inputs.items()}
        return session.run({name: info.name for name, info in entry.outputs.items()}, feeds)

    return ask


# %% [markdown]
# Why does that matter? Because of a trap. Five lines that anybody would write:

# %%
trap = tf.Module()
trap.model = model  # the module now tracks the Keras model
spec = tf.TensorSpec([None, None], tf.int32, name="tokens")
function = tf.function(lambda tokens: {"scores": model(tokens)}, input_signature=[spec])
tf.saved_model.save(trap, str(out / "trap"), signatures=function)

ids = tokenizer.encode(test[0])[None, :20]
in_python = tf.saved_model.load(str(out / "trap")).signatures["serving_default"]
difference = np.abs(in_python(tokens=tf.constant(ids))["scores"] - model(ids)).max()
print(f"in Python it answers as the model does; largest difference: {difference:.1e}")
try:
    open_as_server(out / "trap")("serving_default", tokens=ids)
    raise SystemExit("The trap did not snap: this version of Keras has none.")
except tf.errors.FailedPreconditionError as error:
    print("as a server:", error.message[error.message.index("Could not") :][:48], "...")

# %% [markdown]
# A Keras variable writes a second variable when it is exported. That one is filled, but the
# signature reads the first. A server would say AVAILABLE, and fail when asked. `km.export` finds
# it in two ways: `check_saved_model` reads the graph, `self_test` asks the warm-up questions.

# %%
warmup.write_warmup(out / "trap", [("serving_default", {"tokens": ids})])
for problem in km.serving.check_saved_model(out / "trap") + warmup.self_test(out / "trap"):
    print("-", problem[:96], "...")
problems = km.serving.check_saved_model(version) + warmup.self_test(version)
check("our export has no problem", problems == [])

# %% [markdown]
# ## 4. A MIDI file, byte by byte
#
# Now ask for music: two bars of a chorale that the network has never seen, to be continued. The
# answer holds the tokens and a whole MIDI file, made in the graph: nobody needs our tokenizer. Each
# byte is printed as two *hexadecimal* digits (0-9, a-f): 01 e0 is 1 * 256 + 14 * 16 + 0 = 480.

# %%
prompt = test[0].crop(float(test[0].to_seconds(8)))  # 8 quarter notes
prompt_ids = tokenizer.encode(prompt)[:-1].tolist()  # without END: something follows
settings = {"num_tokens": 300, "temperature": 0.9, "top_k": 0, "top_p": 0.95, "seed": 1}
row = {"prompt": prompt_ids} | settings
columns = {name: [value] for name, value in row.items()}

ask = open_as_server(version)
answer = ask("generate", **columns)
midi, tokens = answer["midi_bytes"][0], answer["tokens"][0]
print(f"{len(tokens)} tokens, {len(midi)} bytes; the first of them:")
for first, last, meaning in [
    (0, 8, "'MThd', and 6 bytes follow"),
    (8, 14, f"format 0, 1 track, {int.from_bytes(midi[12:14])} ticks a quarter note"),
    (14, 22, f"'MTrk', and {int.from_bytes(midi[18:22])} bytes follow"),
    (22, 29, f"wait 0; tempo: {int.from_bytes(midi[26:29]):,} microseconds a quarter note"),
    (29, 32, f"wait 0; program {midi[31]}"),
    (32, 36, f"wait {midi[32]}; key {midi[34]} goes down with velocity {midi[35]}"),
]:
    print(f"{midi[first:last].hex(' '):24} {meaning}")

# %%
km.audio.player(tokenizer.decode(tokens))  # the tokens; the file's own sound follows below

# %% [markdown]
# Before each message stands how many ticks to wait. Of a byte's 8 bits 7 count; the top one says
# *there is more*. So a wait of 0 is one byte, and longer waits are more. (`& 127` keeps the lowest
# 7 bits, `>> 7` drops them: these are the digits to the base 128.) By hand:


# %%
def variable_length(ticks):
    groups = [ticks & 127]  # the last byte, top bit off
    while ticks := ticks >> 7:
        groups.insert(0, 128 + (ticks & 127))  # those before it, top bit on
    return bytes(groups)


piece = tokenizer.decode(tokens)
events = piece.notes[["start", "end"]].to_numpy().ravel()  # in seconds: a key goes down, or up
ticks = np.sort(np.rint(events * 960).astype(int))  # 2 quarter notes a second, 480 ticks each
waits = np.diff(ticks, prepend=0)
number = int(np.flatnonzero(waits)[0])  # the first message that waits; those before have 4 bytes
by_hand = variable_length(int(waits[number]))
in_file = midi[32 + 4 * number :][: len(by_hand)]
print(f"{waits[number]} ticks before message {number}; by hand {by_hand.hex(' ')}", end=", ")
check(f"in the file {in_file.hex(' ')}, alike", by_hand == in_file)

# %% [markdown]
# Read by the package, the file must hold the notes that the tokens mean, one by one. (Times may
# differ by half a tick, half a thousandth of a second: 10 ms, a step of our tokens, are 9.6 ticks.)

# %%
(out / "served.mid").write_bytes(midi)
read = km.read_midi(out / "served.mid")
NOTE = ["pitch", "velocity", "program", "start", "end"]
difference = (read.notes[NOTE] - piece.notes[NOTE]).abs().max()
print("largest differences:", difference.round(5).to_dict())
is_same = len(read) == len(piece) and (difference <= [0, 0, 0, 6e-4, 6e-4]).all()
check(f"all {len(read)} notes of the file are those of the tokens", is_same)

km.audio.write_wav(read, out / "served.wav")
print(f"sound by: {km.audio.engine()}; listen to out/served.wav, look at out/served.png")
title = f"{test[0].name}, continued as a server does it"
km.plots.piano_roll(read, out / "served.png", prompt_end=prompt.duration, title=title)

# %% [markdown]
# ## 5. The rules of REST
#
# *REST* means that a question is a web address and a text, and so is the answer. The text is
# *JSON*, lists and dictionaries as Python writes them, by *rows* (one object a question) or by
# *columns* (one list an input), and the answer comes back in the same form:
#
#     {"instances": [{"prompt": [1, ...], "seed": 1, ...}]}  {"predictions": [{"length": ..., ...}]}
#     {"inputs": {"prompt": [[1, ...]], "seed": [1], ...}}   {"outputs": {"length": [...], ...}}
#
# JSON has no bytes: they travel as *base64*, 4 letters for 3 bytes, `{"b64": "TVRo..."}`, where an
# output's name ends in `_bytes`. A 1 may stand for a float, but a 1.0 not for a whole number. A
# server checks names and types, not values. A bad value reaches the graph, and the graph must
# refuse it, with a sentence that helps (HTTP code 400). Three of them:

# %%
for name, value in [("temperature", -1.0), ("prompt", [1, 9999]), ("num_tokens", 1_000_000)]:
    try:
        ask("generate", **columns | {name: [value]})
        raise SystemExit(f"{name}={value} was not refused: something is wrong.")
    except tf.errors.InvalidArgumentError as error:
        sentence = error.message.partition("assertion failed: ")[2].splitlines()[0]
        print(f"{name}={value}: {sentence}")

# %% [markdown]
# With a Docker engine the first command starts a server, the second asks how it is, the third asks
# it our question. It knows no passwords, so its door (*port* 8501) is open on this computer only:
# 127.0.0.1.

# %%
(out / "request.json").write_text(json.dumps({"instances": [row]}))
URL = "http://127.0.0.1:8501/v1/models/bach"
print(f"""
docker run --rm -p 127.0.0.1:8501:8501 -e MODEL_NAME=bach \\
    -v "$PWD/out/bach:/models/bach:ro" tensorflow/serving:2.20.0
curl -s {URL}
curl -s {URL}:predict -d @out/request.json | python3 -c "import base64, json, sys;
sys.stdout.buffer.write(base64.b64decode(
    json.load(sys.stdin)['predictions'][0]['midi_bytes']['b64']))" > out/from_server.mid
""")

# %% [markdown]
# This script starts no server. If you have one, set `KERAS_MUSIC_SERVING_URL` to its address
# (http://127.0.0.1:8501) and run the script again: `km.Client` asks its model `bach`. If that is
# not ours (its card tells), the notes are others, but its file and its tokens must agree.

# %%
if url := os.environ.get("KERAS_MUSIC_SERVING_URL"):
    bach = km.Client(url, "bach")
    from_server = tokenizer.encode(bach.generate(prompt, **settings))
    in_its_file = tokenizer.encode(km.read_midi(bach.generate_midi(prompt, **settings)))
    check("the server's file holds its notes", np.array_equal(in_its_file, from_server))
    if bach.card == loaded.card:
        check("they are our notes", np.array_equal(from_server, tokenizer.encode(piece)))
else:
    print("KERAS_MUSIC_SERVING_URL is not set: no server is asked")

# %% [markdown]
# ## 6. A server that remembers nothing
#
# `step` is one step of the network. Its memory goes in and comes out: the server keeps nothing
# between two questions, and may be restarted, or be ten servers. The dice remember nothing either:
# what is drawn follows from seed and position. So our own loop must draw what `generate` draws,
# and a row must draw alone what it draws beside others. One thing `step` cannot know: how many ids
# will follow. `generate` makes room at its end to release what sounds; so we compare with a longer
# piece.
#
# The memory is zeros in the beginning: that of the network, a counter of the ids that were fed, and
# that of the grammar, which knows what sounds.


# %%
def write_by_steps(num_tokens, **controls):
    batch = len(controls["seed"])
    inputs = loaded.signatures["step"].structured_input_signature[1].items()
    states = [(name, spec.shape[1:]) for name, spec in inputs if name.startswith("state_")]
    memory = {name: np.zeros((batch, *shape)) for name, shape in states}
    written = [np.ones(batch, int)]  # START
    for _ in range(num_tokens):
        answer = ask("step", token=written[-1], **controls, **memory)
        memory = {name: answer[name] for name in memory}
        written.append(answer["next_token"])
    return np.stack(written, axis=1)


controls = {"temperature": [0.5, 0.9, 1.3], "top_k": [0, 0, 5], "top_p": [1, 0.95, 1]}
controls |= {"seed": [7, 8, 9]}
together = ask("generate", prompt=[[1]] * 3, num_tokens=[200] * 3, **controls)
longer = ask("generate", prompt=[[1]] * 3, num_tokens=[400] * 3, **controls)["tokens"][:, :201]
stepped = write_by_steps(200, **controls)[:, : longer.shape[1]]
was_drawn = longer != 0  # END may come early
same = np.array_equal(stepped[was_drawn], longer[was_drawn])
check("200 questions to `step` draw what one to `generate` draws", same)

second = {name: values[1:2] for name, values in controls.items()}
alone = ask("generate", prompt=[[1]], num_tokens=[200], **second)["tokens"][0]
check("a row alone is the row in a batch", (alone == together["tokens"][1, : len(alone)]).all())

# %% [markdown]
# ## 7. How fast?
#
# Each token needs those before it, so somebody must loop: the graph (`generate`, one question for
# all tokens, and the MIDI file) or you (`step`, one question a token). Both are measured in turn,
# five times after a first time that does not count; the middle one is taken.

# %%
NUM_TOKENS, BATCHES = 128, [1, 16, 64]


speeds = []  # tokens a second of both ways, for each batch
print("tokens a second\nrows  generate  step by step  ratio (lowest to highest of 5)")
for size in BATCHES:
    controls = {"temperature": [1] * size, "top_k": [0] * size, "top_p": [1] * size}
    controls |= {"seed": range(size)}
    whole = {"prompt": [[1]] * size, "num_tokens": [NUM_TOKENS] * size} | controls
    times = []
    for _ in range(6):
        clock = [time.perf_counter()]
        answer = ask("generate", **whole)
        clock.append(time.perf_counter())
        write_by_steps(NUM_TOKENS, **controls)
        times.append(np.diff([*clock, time.perf_counter()]))
    drawn = answer["length"].sum() - size  # without START; END may come early
    speeds.append(drawn / np.median(times[1:], axis=0))
    ratios = [by_steps / in_graph for in_graph, by_steps in times[1:]]
    print(f"{size:4} {speeds[-1][0]:9,.0f} {speeds[-1][1]:13,.0f}", end=" ")
    print(f"{np.median(ratios):6.1f} ({min(ratios):.1f} to {max(ratios):.1f})")

figure = km.plots.Picture(figsize=(6, 3.4), layout="constrained")
axes = figure.add_subplot(xlabel="rows in a batch", ylabel="tokens a second")
places, (fast, slow) = np.arange(len(BATCHES)), np.transpose(speeds)
for bars in (
    axes.bar(places - 0.2, fast, 0.38, label="generate", color=km.plots.BLUE),
    axes.bar(places + 0.2, slow, 0.38, label="step by step", color=km.plots.ORANGE),
):
    axes.bar_label(bars, fmt="{:,.0f}")
axes.set_xticks(places, BATCHES)
axes.margins(y=0.12)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="upper left")
figure.savefig(out / "latency.png", dpi=150)
figure  # a notebook shows it here

# %% [markdown]
# Read this with care: it is one computer at one moment. Other programs slow both ways down, not
# always alike, and the brackets show how far the ratio moves. With more rows the loop matters less
# beside the work itself. And with a real server every step would also cross the network and back.
#
# ## What you have learned
#
# - A SavedModel is a graph and its weights; its signatures are all that a server knows of it.
# - That a model loads in Python proves nothing: load it as the server does.
# - A MIDI file can be read by eye, and written by a graph.
# - Memory and seed travel with the question, so servers may be many and forgetful.
#
# ## Exercises
#
# Put your answer in place of the three dots, and run the cell again.
#
# 1. Mend the trap: what must the module keep in the place of `model`, so that a server finds all
#    weights? (`model.variables` are Keras' variables; each has TensorFlow's own in `.value`.)

# %%


def serves(kept):
    mended = tf.Module()
    mended.kept = kept
    try:
        tf.saved_model.save(mended, str(out / "mended"), signatures=function)
        scores = open_as_server(out / "mended")("serving_default", tokens=ids)["scores"]
    except (tf.errors.FailedPreconditionError, AssertionError, ValueError):
        return False
    return np.allclose(scores, model(ids), atol=1e-4)


answer = ...  # your answer
km.explain.check(1, answer, serves)

# %% [markdown]
# 2. The way back: how many ticks do the bytes say? (7 bits of each byte count.)

# %%


def ticks_of(data):
    return ...  # your answer


km.explain.check(2, ticks_of(variable_length(123_456)), 123_456, tolerance=0)

# %% [markdown]
# 3. The signature `score` gives the log-probability of each id of `tokens`, as the network alone
# sees it. What is that of the whole row `drawn`? (It is lower than what `generate` reports: there
# the grammar has taken away what is forbidden, and releases what sounds at the end.)

# %%
controls = {"temperature": [1], "top_k": [0], "top_p": [1], "seed": [3]}
drawn = ask("generate", prompt=[[1]], num_tokens=[300], **controls)["tokens"]
scores = model(drawn[:, :-1])
by_keras = keras.losses.sparse_categorical_crossentropy(drawn[:, 1:], scores, from_logits=True)
answer = ...  # your answer
km.explain.check(3, answer, -float(np.sum(by_keras)), tolerance=1e-2)

# %% [markdown]
# ## References
#
# - TensorFlow, *Using the SavedModel format*; TensorFlow Serving, *RESTful API*.
# - MIDI Association, *Standard MIDI Files 1.0* (1996).
# - C. Olston and others, *TensorFlow-Serving: Flexible, High-Performance ML Serving* (2017).

# %%
print(f"done in {time.time() - started:.0f} s", end=" ")
print(f"on {os.cpu_count()} CPU cores ({platform.machine()}), TensorFlow {tf.__version__}")
