"""Evaluation: numbers that say whether a network has learned anything."""

from keras_music.evaluation.likelihood import ladder, model_loss, repeat_last, unigram, uniform

__all__ = ["ladder", "model_loss", "repeat_last", "unigram", "uniform"]
