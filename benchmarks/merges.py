"""Do merged tokens help? Loss per note with and without byte-pair merges, in equal time.

    python benchmarks/merges.py

Byte-pair encoding replaces the most frequent pair of neighbouring tokens by one new token, then
again, until the vocabulary has the wanted size: `NOTE_OFF_60 NOTE_OFF_64` becomes one token.
Sequences get shorter and the vocabulary larger, so losses *a token* cannot be compared. A note is
a note in every vocabulary: we compare the surprise of all tokens of a held-out piece, divided by
its notes.

Corpus: Bach's chorales, split by piece. Network: embedding 128, GRU 256, windows of 128 tokens (of
more music, if tokens are merged). Each vocabulary gets the same processor time, which other work on
the machine does not shorten, as the clock on the wall would. The epoch that is best on the
validation pieces is measured on the test pieces, each read from its beginning to its end. As
merged epochs are shorter, the validation loss after equally many epochs is printed, too. The merges
are learned from the training pieces, with Hugging Face `tokenizers` as MidiTok does. A merged model
could also have written a piece with other merges; those probabilities are not counted for it, which
favours the plain vocabulary a little.
"""

import argparse
import importlib.util
import math
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

import keras_music as km

FIRST = 0x4E00  # ids become characters from here on: 20,000 letters without a space among them


class Merged:
    """A tokenizer whose frequent neighbours are one token; ids below `tokenizer.vocab_size` stay.

    Args:
      tokenizer: a tokenizer of the package.
      pieces: what the merges are learned from.
      vocab_size: how many ids there are then (that of `tokenizer`: no merges).
    """

    def __init__(self, tokenizer, pieces, vocab_size):
        import tokenizers

        self.tokenizer, self.vocab_size = tokenizer, vocab_size
        alphabet = [chr(FIRST + i) for i in range(tokenizer.vocab_size)]
        self.model = tokenizers.Tokenizer(tokenizers.models.BPE())
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False
        )
        self.model.train_from_iterator((self._text(p) for p in pieces), trainer)
        ids = self.model.get_vocab()
        merged = sorted((text for text in ids if len(text) > 1), key=ids.get)
        self.texts = alphabet + merged  # the texts by our ids
        self._ours = np.zeros(len(ids), np.int32)
        for ours, text in enumerate(self.texts):
            self._ours[ids[text]] = ours

    def _text(self, piece):
        """Ids without START and END, as characters: nothing is merged with these two."""
        return "".join(chr(FIRST + i) for i in self.tokenizer.encode(piece)[1:-1])

    def encode(self, piece):
        middle = self._ours[self.model.encode(self._text(piece)).ids]
        return np.concatenate([[self.tokenizer.start_id], middle, [self.tokenizer.end_id]])

    def unmerge(self, ids):
        """The plain ids again."""
        return [ord(letter) - FIRST for i in ids for letter in self.texts[i]]


def per_note(model, tokenizer, corpus):
    """Nats a note: each piece is one window, longer than the longest."""
    longest = max(len(tokenizer.encode(piece)) for piece in corpus)
    dataset = km.make_dataset(corpus, tokenizer, longest, batch_size=4)
    targets = sum(len(tokenizer.encode(piece)) - 1 for piece in corpus)
    return km.evaluation.model_loss(model, dataset) * targets / sum(map(len, corpus))


class Best(keras.callbacks.Callback):
    """After each epoch the loss per note; stops when the time is over, keeps the best weights."""

    def __init__(self, tokenizer, valid, seconds):
        super().__init__()
        self.tokenizer, self.valid, self.seconds = tokenizer, valid, seconds
        self.spent, self.losses, self.best = 0.0, [], math.inf

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        if epoch:  # the first one has traced the functions
            self.spent += time.process_time() - self.started
        self.losses.append(per_note(self.model, self.tokenizer, self.valid))
        if self.losses[-1] < self.best:
            self.best, self.weights = self.losses[-1], self.model.get_weights()
        self.model.stop_training = self.spent >= self.seconds


def one_run(tokenizer, train, valid, test, units, seconds, seed):
    """Trains for so many seconds -> epochs, loss per note on valid by epoch, and on test."""
    keras.utils.set_random_seed(seed)
    dataset = km.make_dataset(train, tokenizer, 128, 16, seed=seed)
    model = km.build_model(tokenizer.vocab_size, "gru", 128, units)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
    model.compile(keras.optimizers.Adam(3e-3), loss)
    best = Best(tokenizer, valid, seconds)
    model.fit(dataset, epochs=10_000, callbacks=[best], verbose=0, shuffle=False)
    model.set_weights(best.weights)
    return best.losses, per_note(model, tokenizer, test)


def main(vocabularies, units, seconds, seeds, num_pieces):
    if importlib.util.find_spec("tokenizers") is None:
        print("tokenizers is not installed: nothing to compare (`pip install tokenizers`)")
        return
    train, valid, test = km.corpora.bach_chorales()[:num_pieces].split(seed=0)
    plain = km.tokenizers.PerformanceTokenizer()
    counts = ", ".join(str(len(part)) for part in (train, valid, test))
    print(f"{counts} chorales; GRU {units}; {seconds:g} processor seconds a run")
    print(
        f"{'vocabulary':>10} {'seed':>5} {'tokens/note':>12} {'epochs':>7} {'best epoch':>11} "
        f"{'valid, nats/note':>17} {'test, nats/note':>16}"
    )
    curves = {}
    for seed in range(seeds):
        for vocab_size in [plain.vocab_size, *vocabularies]:
            tokenizer = Merged(plain, train, vocab_size)
            for piece in test:
                if tokenizer.unmerge(tokenizer.encode(piece)) != plain.encode(piece).tolist():
                    raise ValueError("Merging and unmerging gave another piece.")
            tokens = sum(len(tokenizer.encode(p)) - 1 for p in test) / sum(map(len, test))
            losses, loss = one_run(tokenizer, train, valid, test, units, seconds, seed)
            curves.setdefault(len(tokenizer.texts), []).append(losses)
            print(
                f"{len(tokenizer.texts):10} {seed:5} {tokens:12.2f} {len(losses):7} "
                f"{np.argmin(losses) + 1:11} {min(losses):17.3f} {loss:16.3f}",
                flush=True,
            )
    epochs = min(len(losses) for runs in curves.values() for losses in runs)
    print(f"valid, nats/note, after {epochs} epochs:")
    for size, runs in curves.items():
        print(f"{size:10} {np.mean([losses[epochs - 1] for losses in runs]):.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabularies", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--units", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--num-pieces", type=int, default=None, help="default: all chorales")
    args = parser.parse_args()
    main(args.vocabularies, args.units, args.seconds, args.seeds, args.num_pieces)
