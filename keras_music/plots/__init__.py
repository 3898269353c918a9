"""Pictures: a piece, its sound, a training run, a corpus.

`rolls` draws a piece as a piano roll, alone or above its spectrogram; `curves` the losses of a
training run; `overview` what is in a corpus, and what was left out. `figures` is what they share.

Conventions: time is in seconds, pitch is the MIDI number (60 = middle C = C4). Colours are from
Okabe and Ito's palette, which colour-blind readers can tell apart, also in print without colours.
Each function returns a `matplotlib.figure.Figure`, which a notebook shows when it is the last
line of a cell; `path=` saves it as a PNG file as well. No display is needed, and pyplot's list
of open figures is not touched, so a thousand pictures need not be closed.

What these files do not do: no interaction, no staff notation, no video.

References: M. Okabe and K. Ito, Color Universal Design (2008).
"""

from keras_music.plots.curves import learning_curve
from keras_music.plots.figures import BLUE, GREY, ORANGE, Picture, saved
from keras_music.plots.overview import corpus_overview
from keras_music.plots.rolls import piano_roll, roll_and_spectrogram

__all__ = [
    "BLUE",
    "GREY",
    "ORANGE",
    "Picture",
    "corpus_overview",
    "learning_curve",
    "piano_roll",
    "roll_and_spectrogram",
    "saved",
]
