"""Training on several devices and machines: every device its share of each batch.

A *strategy* of TensorFlow keeps the same network on N devices. A batch is cut into N parts, each
device computes the gradient of its part, the gradients are added, and all networks take the same
step. So N devices are one device with N times the memory, if the parts add up to the whole. They
do not by themselves: Keras takes the mean on each device and then the mean of the means, and where
one part has more padding than another, that is another number:

    device 0    surprises 2 2 2 2      mean 2     sum 8
    device 1    surprises 5 0 0 0      mean 5     sum 5       (three are padding)
    mean of the means 3.5              13 nats / 5 tokens = 2.6

`TokenLoss` divides by the tokens of all devices.

`MirroredStrategy` (the devices of one machine) works with Keras' own `fit`.
`MultiWorkerMirroredStrategy` (several machines) does not, in Keras 3: its `fit` ends with a
ValueError about `PerReplica` (https://github.com/keras-team/keras/issues/20585). `fit_workers` is
the same loop, written out: Keras' `train_step`, metrics and callbacks, run by the strategy.

With Dropout, N devices are not quite one: each draws the same mask for its part of the batch.

Conventions: the batch size is that of the whole batch. One of the workers, the *chief*, writes
files; all of them read the run folder, so it must be on a disk that all share.

What this file does not do: no parameter servers, no networks that do not fit on one device.

Reference: TensorFlow's guide "Distributed training", https://www.tensorflow.org/guide/distributed_training
"""

from __future__ import annotations

import contextlib
import hashlib

import keras
import tensorflow as tf

WORKER_LOST = (  # what TensorFlow says of it depends on the moment
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.UnavailableError,
)
LOST = "Another worker has stopped, or cannot be reached. Start all of them again."


class TokenLoss(keras.losses.Loss):
    """Nats a token over the whole batch, however it is spread over devices; padding never counts.

    On one device this is `SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)`.

    Example:
      >>> loss = TokenLoss()
      >>> round(float(loss([[3, 0]], tf.zeros([1, 2, 4]))), 4)  # one token in four, one padding
      1.3863
    """

    def __init__(self, name="token_loss", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        """Targets (batch, time) and logits (batch, time, vocab_size) of this device -> scalar.

        Keras adds the gradients of all devices, so each gives its sum over the tokens of all. But
        it shows the mean of what the devices say, so each says the loss of the whole batch.
        """
        targets = tf.cast(y_true, tf.int32)
        counts = tf.cast(targets != 0, y_pred.dtype)
        surprise = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, y_pred)
        total = tf.reduce_sum(surprise * counts)
        sums = [tf.stop_gradient(total), tf.reduce_sum(counts)]
        context = tf.distribute.get_replica_context()
        num_devices = 1
        if context is not None:  # else no device in particular is meant, and this is all there is
            sums = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
            num_devices = context.num_replicas_in_sync
        said = tf.math.divide_no_nan(*sums) / num_devices
        share = tf.math.divide_no_nan(total, sums[1])
        return said + share - tf.stop_gradient(share)  # the value of `said`, the slope of `share`


def has_workers(strategy) -> bool:
    """Whether this strategy spans several processes, so that Keras' `fit` would fail."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and bool(
        strategy.cluster_resolver.cluster_spec().as_dict()
    )


def is_chief(strategy) -> bool:
    """Whether this process is the one that writes files."""
    if strategy is None or not has_workers(strategy):
        return True
    resolver = strategy.cluster_resolver
    if "chief" in resolver.cluster_spec().as_dict():
        return resolver.task_type == "chief"
    return resolver.task_id == 0


def scope(strategy):
    """`strategy.scope()`, or nothing.

    Raises:
      ValueError: it is not one of the two kinds that are tested.
    """
    if strategy is None:
        return contextlib.nullcontext()
    kinds = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    if not isinstance(strategy, kinds):
        raise ValueError(
            "`strategy` must be a MirroredStrategy or a MultiWorkerMirroredStrategy. "
            f"Received: {strategy!r}. Leave it out to train on one device."
        )
    return strategy.scope()


def fit_workers(
    model,
    dataset,
    *,
    steps_per_epoch,
    validation_data,
    initial_epoch,
    epochs,
    callbacks,
    verbose,
    strategy,
):
    """What `model.fit` does, for a strategy with several workers; the arguments are `fit`'s."""
    train, valid = (
        None if data is None else strategy.experimental_distribute_dataset(_shared(data))
        for data in (dataset, validation_data)
    )
    callbacks = keras.callbacks.CallbackList(
        callbacks,
        add_progbar=verbose != 0 and is_chief(strategy),
        verbose=verbose,
        epochs=epochs,
        steps=steps_per_epoch,
        model=model,
    )
    train_step = tf.function(lambda batch: strategy.run(model.train_step, args=(batch,)))
    test_step = tf.function(lambda batch: strategy.run(model.test_step, args=(batch,)))
    callbacks.on_train_begin()
    batches = iter(train)
    for epoch in range(initial_epoch, epochs):
        callbacks.on_epoch_begin(epoch)
        model.reset_metrics()
        for step in range(steps_per_epoch):
            callbacks.on_train_batch_begin(step)
            train_step(next(batches))
            # Reading the loss is work for all workers together: once an epoch is enough.
            callbacks.on_train_batch_end(step, {})
        logs = _results(model)
        if valid is not None:
            model.reset_metrics()
            for batch in valid:
                test_step(batch)
            logs |= {f"val_{name}": value for name, value in _results(model).items()}
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end(logs)
    meet(strategy)


def meet(strategy, words="") -> bool:
    """Waits until all workers have come here; whether all of them say the same words."""
    number = int.from_bytes(hashlib.blake2b(words.encode(), digest_size=3).digest())

    @tf.function
    def gather():
        each = strategy.run(lambda: tf.constant([1, number, number**2], tf.int64))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, each, axis=None)

    try:  # without reading the sums nobody waits for them
        count, total, squares = gather().numpy().tolist()
    except WORKER_LOST as error:
        raise ConnectionError(LOST) from error
    # Numbers that differ have a variance.
    return squares * count == total**2


@contextlib.contextmanager
def together(strategy, context):
    """Enters a context; where one worker cannot, the next `meet` of the others says so.

    Else they would wait for it there, for as long as its process lives.
    """
    with contextlib.ExitStack() as stack:
        try:
            value = stack.enter_context(context)
        except Exception:
            if has_workers(strategy):
                with contextlib.suppress(Exception):  # the first one counts
                    meet(strategy, "this worker cannot")
            raise
        yield value


def _results(model):
    return {name: float(value) for name, value in model.get_metrics_result().items()}


def _shared(dataset):
    """Every worker reads all data and takes its rows of each batch."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
    return dataset.with_options(options)
