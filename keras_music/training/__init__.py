"""Training: a run folder that survives everything, on one device, several, or several machines.

Training takes hours, and hours are long enough for a power cut. So a run lives in a folder, and
the folder is all there is to know: started again with the same arguments, `train` goes on after
the last whole epoch and ends with the weights that an unbroken run would have.

    run/
      config.json            all arguments, the data in numbers, the versions of the packages
      tokenizer.json
      checkpoints/           what going on needs: weights, optimizer, random numbers (the last two)
      best.keras             the weights with the lowest validation loss: an ordinary Keras model
      history.csv            one row an epoch
      logs/                  for TensorBoard
      samples/epoch_001.mid  what the network writes after each epoch; text: .txt
      learning_curve.png, model_card.json        at the end

`trainer` is the way through it from start to end, a plain `model.fit` with callbacks; `callbacks`
what happens after each epoch; `checkpoint` one file that is whole or not there; `folder` what the
run folder says; `distributed` what is different on many devices.

What these files do not do: they make no network and no batches of their own, and search no
arguments.
"""

from keras_music.training.distributed import TokenLoss
from keras_music.training.folder import Run, load_run
from keras_music.training.trainer import train

__all__ = ["Run", "TokenLoss", "load_run", "train"]
