"""From a piece to sound: a waveform to listen to, a .wav file, and a picture of what is heard.

    wave = keras_music.audio.render(piece)
    keras_music.audio.player(wave)  # the last line of a notebook's cell: a player to listen with
    keras_music.audio.write_wav(wave, "out/piece.wav")
    mel = keras_music.audio.mel_spectrogram(wave)

`sound` plays a piece with recorded instruments or sines, `wav` makes .wav files and the notebook's
player, `spectrum` says which frequencies sound when.

Conventions: a wave is float32 of shape `(samples,)`, **mono**, within [-1, 1]: what
`IPython.display.Audio` and `tf.signal` expect. Sample rates and frequencies are in Hz.

What these files do not do: no stereo, no effects, no playing through the loudspeaker, no
compressed formats.
"""

from keras_music.audio.sound import engine, render
from keras_music.audio.spectrum import mel_spectrogram, spectrogram
from keras_music.audio.wav import player, write_wav

__all__ = [
    "engine",
    "mel_spectrogram",
    "player",
    "render",
    "spectrogram",
    "write_wav",
]
