"""Generation: from a trained network and a prompt to new ids, one at a time.

`sampling` draws one id from one row of scores; `onestep` turns a Keras model into a step and
repeats it; `generator` is the door through which both a model and a SavedModel are asked. All know
ids only, never notes.
"""

from keras_music.generation.generator import Generated, Generator
from keras_music.generation.onestep import OneStep

__all__ = ["Generated", "Generator", "OneStep"]
