"""Generation: from a trained network and a prompt to new ids, one at a time.

`sampling` draws one id from one row of scores; `onestep` turns a Keras model into a step and
repeats it. Both know ids only, never notes.
"""

from keras_music.generation.onestep import Generated, Generator, OneStep

__all__ = ["Generated", "Generator", "OneStep"]
