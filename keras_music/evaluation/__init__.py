"""Evaluation: numbers that say whether a network has learned anything."""

from keras_music.evaluation.likelihood import ladder, model_loss, repeat_last, uniform, unigram

__all__ = ["ladder", "model_loss", "repeat_last", "unigram", "uniform"]
