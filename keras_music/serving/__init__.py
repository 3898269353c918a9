"""Serving: an exported generator, as TensorFlow Serving runs it.

`export` writes the SavedModel and loads it back; `lint` finds, without running it, what a server
could not run.
"""

from keras_music.serving.export import LoadedModel, export, load
from keras_music.serving.lint import check_saved_model

__all__ = ["LoadedModel", "check_saved_model", "export", "load"]
