"""How fast does an exported model write? Ratios of tokens a second, measured side by side.

    python benchmarks/generation.py                 # TensorFlow chooses its threads
    python benchmarks/generation.py --one-thread    # one thread an operation, as in deploy/

Network: embedding 256, GRU 1024, 66 symbols; 200 tokens a row; batch 1, 16 and 64. The sides:

    export      one call of the served signature `generate`: the loop is in the graph
    tutorial    TensorFlow's text-generation tutorial: `generate_one_step`, a tf.function, called
                from a Python loop, one call a token
    torch       a loop over `torch.nn.GRUCell` in inference mode (skipped if torch is not
                installed; it needs no GPU)

All sides run in turn, in one process, round after round, and the ratio is that of the medians:
what disturbs the machine disturbs all. Threads are TensorFlow's, for `export` and `tutorial` alike;
with one thread an operation the two halves of a step's product run on two cores, and nothing has to
be woken for the many small operations between them. Two more ratios follow: what a request with
top-k costs beside one without (without, nothing is sorted), and what a request for 512 tokens costs
beside the same loop run by `OneStep` in Python. At last, with networks of the same size that write
music, what the grammar's mask costs, and wishes beside it: the loop with them beside the loop
without.
"""

import argparse
import os
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from timing import in_turn

import keras_music as km
from keras_music.generation.wishes import wish_rows

SYMBOLS, EMBEDDING, UNITS = 66, 256, 1024
CHARACTERS = "".join(chr(48 + i) for i in range(SYMBOLS - 3))  # PAD, START and END are symbols, too


def our_model():
    """A random network that does not end before it was asked to: END is never drawn."""
    keras.utils.set_random_seed(0)
    model = km.build_model(SYMBOLS, "gru", EMBEDDING, units=UNITS)
    model.layers[-1].bias.assign([0.0, 0.0, -1e9] + [0.0] * (SYMBOLS - 3))
    return km.OneStep(model, km.tokenizers.CharTokenizer(CHARACTERS))


def request(batch, num_tokens, top_k=0):
    return {
        "prompt": tf.constant([""] * batch),
        "num_tokens": tf.fill([batch], num_tokens),
        "temperature": tf.ones([batch]),
        "top_k": tf.fill([batch], top_k),
        "top_p": tf.ones([batch]),
        "seed": tf.range(batch, dtype=tf.int64),
    }


def music_loops(num_tokens, tokenizer):
    """The loop of a network of music, {name: batch -> ids}: free, with grammar, with wishes."""
    keras.utils.set_random_seed(0)
    model = km.build_model(tokenizer.vocab_size, "gru", EMBEDDING, units=UNITS)
    end = tf.one_hot(tokenizer.end_id, tokenizer.vocab_size)
    model.layers[-1].bias.assign(-1e9 * end)

    def loop(use_grammar, **wishes):
        one_step = km.OneStep(model, tokenizer, use_grammar=use_grammar)
        function = tf.function(one_step.loop, reduce_retracing=True)

        def run(batch):
            controls = request(batch, num_tokens) | {"prompt": tf.ones([batch, 1], tf.int32)}
            if wishes:
                rows = wish_rows(batch, **wishes)
                controls["controls"] = {name: tf.constant(row) for name, row in rows.items()}
            return function(**controls)[0].numpy()

        return run

    wishes = {"pitch_classes": "C major", "max_notes_per_second": 20, "max_repeats": 4}
    return {"free": loop(False), "grammar": loop(True), "wishes": loop(True, **wishes)}


class TutorialModel(keras.Model):
    """Embedding, GRU, Dense; the state of the GRU is given and returned."""

    def __init__(self):
        super().__init__()
        self.embedding = keras.layers.Embedding(SYMBOLS, EMBEDDING)
        self.gru = keras.layers.GRU(UNITS, return_sequences=True, return_state=True)
        self.dense = keras.layers.Dense(SYMBOLS)

    def call(self, ids, states=None):
        values = self.embedding(ids)
        if states is None:
            states = self.gru.get_initial_state(tf.shape(ids)[0])
        values, states = self.gru(values, initial_state=states)
        return self.dense(values), states


class TutorialOneStep(keras.Model):
    """A character in, a character out: strings are split, looked up and drawn in each call."""

    def __init__(self):
        super().__init__()
        self.model = TutorialModel()
        names = [*CHARACTERS, "a1", "a2"]
        self.ids_from_chars = keras.layers.StringLookup(vocabulary=names, mask_token=None)
        self.chars_from_ids = keras.layers.StringLookup(
            vocabulary=self.ids_from_chars.get_vocabulary(), invert=True, mask_token=None
        )
        self.mask = tf.one_hot(0, SYMBOLS, on_value=-np.inf, off_value=0.0)  # never [UNK]

    @tf.function
    def generate_one_step(self, texts, states=None):
        ids = self.ids_from_chars(tf.strings.unicode_split(texts, "UTF-8")).to_tensor()
        logits, states = self.model(ids, states)
        logits = logits[:, -1] + self.mask
        drawn = tf.squeeze(tf.random.categorical(logits, num_samples=1), axis=-1)
        return self.chars_from_ids(drawn), states


def tutorial(num_tokens):
    one_step = TutorialOneStep()

    def run(batch):
        texts, states, written = tf.constant(["A"] * batch), None, []
        for _ in range(num_tokens):
            texts, states = one_step.generate_one_step(texts, states)
            written.append(texts)
        return tf.strings.join(written).numpy()

    return run


def torch_loop(num_tokens):
    """The same network as a loop over a GRUCell, or None without torch."""
    try:
        import torch
    except ImportError:
        return None
    embedding = torch.nn.Embedding(SYMBOLS, EMBEDDING)
    cell = torch.nn.GRUCell(EMBEDDING, UNITS)
    dense = torch.nn.Linear(UNITS, SYMBOLS)

    def run(batch):
        with torch.inference_mode():
            ids, state = torch.ones(batch, dtype=torch.long), torch.zeros(batch, UNITS)
            written = []
            for _ in range(num_tokens):
                state = cell(embedding(ids), state)
                probabilities = torch.softmax(dense(state), dim=-1)
                ids = torch.multinomial(probabilities, 1)[:, 0]
                written.append(ids)
            return torch.stack(written, dim=1).numpy()

    return run


def main(num_tokens, rounds, batches):
    one_step = our_model()
    with tempfile.TemporaryDirectory() as folder:
        loaded = km.load(km.export(one_step, folder))
    generate = loaded.signatures["generate"]
    torch_run, tutorial_run = torch_loop(num_tokens), tutorial(num_tokens)
    print(f"TensorFlow {tf.__version__}, {os.cpu_count()} cores, {num_tokens} tokens a row")
    if torch_run is None:
        print("torch is not installed: its column is left out (`pip install torch` brings it)")
    print(f"{'batch':>5} {'export, tokens/s':>17} {'/ tutorial':>11} {'/ torch':>8}")
    for batch in batches:
        sides = {
            "export": lambda b=batch: generate(**request(b, num_tokens))["tokens"].numpy(),
            "tutorial": lambda b=batch: tutorial_run(b),
        }
        if torch_run is not None:
            sides["torch"] = lambda b=batch: torch_run(b)
        seconds = in_turn(sides, rounds)
        ratios = {name: s / seconds["export"] for name, s in seconds.items()}
        per_second = batch * num_tokens / seconds["export"]
        torch_ratio = f"{ratios['torch']:.2f}" if "torch" in ratios else "-"
        print(f"{batch:5} {per_second:17.0f} {ratios['tutorial']:11.2f} {torch_ratio:>8}")

    plain, ranked = request(16, num_tokens), request(16, num_tokens, top_k=SYMBOLS)
    seconds = in_turn(
        {
            "all": lambda: generate(**plain)["tokens"].numpy(),
            "top_k": lambda: generate(**ranked)["tokens"].numpy(),
        },
        rounds,
    )
    print(f"batch 16, with top_k / without: {seconds['top_k'] / seconds['all']:.2f}")
    wanted = request(1, 512)
    seconds = in_turn(
        {
            "export": lambda: generate(**wanted)["tokens"].numpy(),
            "Python": lambda: one_step.generate_tokens("", num_tokens=512),
        },
        rounds,
    )
    ratio = seconds["export"] / seconds["Python"]
    print(f"512 tokens, one request of the export / OneStep in Python: {ratio:.2f}")
    for name, tokenizer in (
        ("performance", km.tokenizers.PerformanceTokenizer()),
        ("with programs", km.tokenizers.PerformanceTokenizer(multi_program=True)),
        ("remi", km.tokenizers.RemiTokenizer()),
    ):
        loops = music_loops(num_tokens, tokenizer)
        for batch in batches:
            seconds = in_turn({n: lambda b=batch, f=f: f(b) for n, f in loops.items()}, rounds)
            ratios = [seconds[n] / seconds["free"] for n in ("grammar", "wishes")]
            print(f"batch {batch}, {name}, beside free: grammar {ratios[0]:.2f}, ", end="")
            print(f"wishes {ratios[1]:.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--num-tokens", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--one-thread", action="store_true", help="one thread an operation")
    args = parser.parse_args()
    if args.one_thread:
        tf.config.threading.set_intra_op_parallelism_threads(1)
    main(args.num_tokens, args.rounds, args.batches)
