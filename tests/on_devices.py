"""Trains on several devices or workers, for the tests of `keras_music.training.distributed`.

    python on_devices.py mirrored folder               one device and two, in one process
    python on_devices.py parts folder                  two devices, in parts and in one go
    python on_devices.py worker folder ports number    one of the workers at these ports

Prints, as its last line, what it found as JSON. The strategy comes before anything else of
TensorFlow, as it must.
"""

import contextlib
import json
import os
import pathlib
import sys

os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


def two_devices():
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def mirrored(folder):
    strategy = two_devices()
    from small_runs import small_train

    small_train(folder / "one", dropout=0.0)
    small_train(folder / "two", dropout=0.0, strategy=strategy)
    return mean_of_means(strategy)


def parts(folder):
    strategy = two_devices()
    from small_runs import small_train

    for epochs in (1, 3):
        small_train(folder / "parts", epochs=epochs, strategy=strategy, sample_tokens=4)
    small_train(folder / "whole", epochs=3, strategy=strategy, sample_tokens=4)


def mean_of_means(strategy):
    """What one device and two say of a batch of which one half is nearly all padding."""
    import keras
    import numpy as np
    import tensorflow as tf

    from keras_music.training import TokenLoss, distributed

    targets = np.array([[1, 2, 3, 4], [5, 0, 0, 0]], np.int32)
    dataset = tf.data.Dataset.from_tensors((targets, targets))
    found = {}
    for devices, where in ((1, None), (2, strategy)):
        for loss in (
            keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0),
            TokenLoss(),
        ):
            keras.utils.set_random_seed(0)
            with distributed.scope(where):
                model = keras.Sequential(
                    [keras.Input((None,), dtype="int32"), keras.layers.Embedding(6, 6, "normal")]
                )
                model.compile(keras.optimizers.SGD(1.0), loss)
            history = model.fit(dataset, epochs=2, verbose=0, shuffle=False).history["loss"]
            found[f"{type(loss).__name__} on {devices}"] = history
    return found


def worker(folder, ports, number, epochs):
    ports = [f"127.0.0.1:{port}" for port in ports.split(",")]
    task = {"type": "worker", "index": int(number)}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": ports}, "task": task})
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    from small_runs import TOKENIZER, small_train, texts

    import keras_music as km
    from keras_music import training
    from keras_music.disk import locked
    from keras_music.training import distributed

    found = {"chief": distributed.is_chief(strategy), "errors": {}}
    if not found["chief"]:  # who must not write has nothing to write with
        training.callbacks.checkpoint = training.callbacks.write_history = None
        training.trainer.finish = None
    with strategy.scope():
        model = km.build_model(TOKENIZER.vocab_size, units=4, embedding_dim=2)
        model.compile("adam", "sparse_categorical_crossentropy")
    for name in ("fit", "evaluate"):
        try:
            getattr(model, name)(km.make_dataset(texts(), TOKENIZER, 16, 8), verbose=0)
        except ValueError as error:
            found["errors"][name] = str(error)
    try:  # each worker has another seed
        small_train(folder / "other", strategy=strategy, seed=int(number))
    except ValueError as error:
        found["errors"]["train"] = str(error)
    with contextlib.ExitStack() as stack:
        if found["chief"]:  # as if another process were training there
            (folder / "held").mkdir(exist_ok=True)
            stack.enter_context(locked(folder / "held" / ".lock", None))
        try:
            small_train(folder / "held", strategy=strategy)
        except ValueError as error:
            found["errors"]["held"] = str(error)
    run = small_train(
        folder / "workers", dropout=0.0, epochs=int(epochs), strategy=strategy, sample_tokens=0
    )
    weights = [value.tolist() for value in run.model.get_weights()]
    return found | {"loss": run.history["loss"].tolist(), "weights": weights}


if __name__ == "__main__":
    mode, folder, *rest = sys.argv[1:]
    modes = {"mirrored": mirrored, "parts": parts, "worker": worker}
    print(json.dumps(modes[mode](pathlib.Path(folder), *rest)))
