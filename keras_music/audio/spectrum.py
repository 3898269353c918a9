"""Which frequencies sound when: a wave as a spectrogram, in Hz or on the mel scale.

A wave says how the air moves, 44,100 times a second, and hides what an ear hears at once: which
tones sound. The *Fourier transform* of a stretch of the wave says how strong each frequency is in
it. So the wave is cut into overlapping *frames*, each is faded in and out (a *Hann window*, without
which the cut itself would be heard as a click), and transformed. Frames beside each other are the
*spectrogram*. A long frame tells close tones apart, a short one tells when they begin; none does
both. Two tones surely stand apart if there are `4 * sample_rate / frame_length` Hz between them:
43 Hz for the default, 4096 samples or 93 ms. (From middle C to the E above it there are 68.)

The *mel scale* spaces frequencies as we hear them: about evenly up to 1000 Hz, then by ratios.
`mel_spectrogram` adds up the bins of the spectrogram in bands that are evenly wide on it:

    mel(hz) = 1127 * ln(1 + hz / 700)

band `k` of `n` is a triangle, 1 in the middle at `low + (k + 1) * (high - low) / (n + 1)` mel, and
0 at the middles of its neighbours.

Two engines compute both, with the same numbers: `tensorflow_io.audio` (`pip install tensorflow-io`,
Python 3.11 or 3.12), and `tf.signal`, a part of TensorFlow. TensorFlow is loaded by the first call.

Conventions: frame `i` is the samples from `i * frame_step` on, the last frames padded with zeros,
so that there are `ceil(samples / frame_step)`; its middle is at
`(i * frame_step + frame_length / 2) / sample_rate` seconds. Bin `b` is at
`b * sample_rate / fft_length` Hz. Magnitudes are not scaled: a sine of amplitude 1 in the middle of
a bin is `frame_length / 4` there.

What this file does not do: no phases, no way back to a wave, no channels, no gradients.

References: S. S. Stevens, J. Volkmann and E. B. Newman, A Scale for the Measurement of the
Psychological Magnitude Pitch (1937); D. O'Shaughnessy, Speech Communication (1987), for the
formula. Our difference from librosa: its frames are centred on `i * frame_step`, its mel scale is
another (`htk=False`), its bands hold squared magnitudes and are divided by their width.
"""

from __future__ import annotations

import math
import numbers
import types
import warnings

import numpy as np

from keras_music.arguments import whole_number
from keras_music.audio.sound import check_sample_rate

ENGINES = ("auto", "tensorflow-io", "tf.signal")
SAMPLES_AT_ONCE = 2**22  # needs 0.1 GB; all frames of 10 minutes at once would need 1 GB


def spectrogram(
    wave, frame_length=4096, frame_step=1024, fft_length=None, engine="auto"
) -> np.ndarray:
    """Says how strong each frequency is in each frame of a wave.

    Args:
      wave: floats of shape `(samples,)`, at least one frame of them.
      frame_length: samples in a frame, a whole number >= 2.
      frame_step: samples from the start of one frame to the start of the next, from 1 to
        `frame_length`.
      fft_length: samples that are transformed, an even number >= `frame_length`; more of them
        (zeros) give more bins, not more detail. Default: the next power of two.
      engine: `"tensorflow-io"`, `"tf.signal"`, or `"auto"`, the first of the two that is there.

    Returns:
      Magnitudes, float32 of shape `(frames, bins)`, with `frames = ceil(samples / frame_step)` and
      `bins = fft_length / 2 + 1`.

    Raises:
      ValueError: an argument is out of range, the wave is shorter than a frame or holds NaN, or
        the engine is not installed.

    Example:
      >>> wave = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
      >>> magnitudes = spectrogram(wave)
      >>> magnitudes.shape, int(magnitudes[0].argmax())  # 41 * 44100 / 4096 = 441 Hz
      ((44, 2049), 41)
    """
    frames = _check_frames(frame_length, frame_step, fft_length)
    wave = _check_wave(wave, frame_length)
    audio = _audio_functions(engine)
    return _in_blocks(lambda part: audio.spectrogram(part, *frames), wave, *frames)


def mel_spectrogram(
    wave,
    sample_rate=44100,
    num_mels=128,
    lowest_hz=27.5,
    highest_hz=8000.0,
    top_db=None,
    frame_length=4096,
    frame_step=1024,
    fft_length=None,
    engine="auto",
) -> np.ndarray:
    """Says how strong each band of the mel scale is in each frame of a wave.

    Args:
      wave: floats of shape `(samples,)`, at least one frame of them.
      sample_rate: in Hz, an integer from 8000 to 192000: the rate the wave was made with.
      num_mels: how many bands, a whole number >= 1; each must be wide enough for a bin.
      lowest_hz: where the lowest band begins, >= 0; default: the lowest key of a piano.
      highest_hz: where the highest band ends, up to half of `sample_rate`.
      top_db: default: magnitudes; a number > 0: decibels, `20 * log10(magnitude)`, where what is
        more than `top_db` below the loudest is set to that (80 is usual).
      frame_length: as in `spectrogram`.
      frame_step: as in `spectrogram`.
      fft_length: as in `spectrogram`.
      engine: as in `spectrogram`.

    Returns:
      float32 of shape `(frames, num_mels)`, the lowest band first. Silence is 0, in decibels -100.

    Raises:
      ValueError: an argument is out of range, the wave is shorter than a frame or holds NaN, a
        band holds no bin, or the engine is not installed.

    Example:
      >>> wave = np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)
      >>> mel = mel_spectrogram(wave, num_mels=40)  # band 6: its middle is at 7 / 41 of the way
      >>> mel.shape, int(mel[0].argmax())  # from 43 to 2840 mel: 520 mel, or 411 Hz
      ((44, 40), 6)
    """
    frames = _check_frames(frame_length, frame_step, fft_length)
    bands = _check_bands(sample_rate, num_mels, lowest_hz, highest_hz, frames[0])
    _check_top_db(top_db)
    wave = _check_wave(wave, frame_length)
    audio = _audio_functions(engine)
    mel = _in_blocks(
        lambda part: audio.melscale(audio.spectrogram(part, *frames), *bands), wave, *frames
    )
    return mel if top_db is None else audio.dbscale(mel, float(top_db)).numpy()


def _in_blocks(transform, wave, fft_length, frame_length, frame_step):
    """`transform` of one stretch of the wave after the other, its frames put together."""
    num_frames = -(-len(wave) // frame_step)
    frames_at_once = max(SAMPLES_AT_ONCE // fft_length, 1)
    blocks = []
    for first in range(0, num_frames, frames_at_once):
        end = min(first + frames_at_once, num_frames)
        part = wave[first * frame_step : (end - 1) * frame_step + frame_length]
        # The last frames of a stretch are padded; they belong to the next one, and are cut off.
        blocks.append(transform(part).numpy()[: end - first])
    return np.concatenate(blocks)  # (frames, bins)


def _audio_functions(engine):
    """`tensorflow_io.audio`, or what we use of it made with `tf.signal`."""
    if engine not in ENGINES:
        raise ValueError(
            '`engine` must be "auto", "tensorflow-io" or "tf.signal". '
            f"Received: engine={engine!r}. The numbers are the same."
        )
    audio = None if engine == "tf.signal" else _import_tensorflow_io()
    if audio is None and engine == "tensorflow-io":
        raise ValueError(
            '`engine="tensorflow-io"` needs a package that cannot be imported here. '
            "Run `pip install tensorflow-io` (Python 3.12 at most), or leave `engine` out: "
            "the numbers are the same."
        )
    return audio or types.SimpleNamespace(
        spectrogram=_spectrogram, melscale=_melscale, dbscale=_dbscale
    )


def _import_tensorflow_io():
    """The module, or None. Its last release loads with warnings on any TensorFlow after 2.16."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_io
        return tensorflow_io.audio
    except Exception:  # whatever it is, there is a way without it
        return None


def _spectrogram(wave, fft_length, frame_length, frame_step):
    import tensorflow as tf

    return tf.abs(tf.signal.stft(wave, frame_length, frame_step, fft_length, pad_end=True))


def _melscale(magnitudes, sample_rate, num_mels, lowest_hz, highest_hz):
    import tensorflow as tf

    bands = tf.signal.linear_to_mel_weight_matrix(
        num_mels, magnitudes.shape[-1], sample_rate, lowest_hz, highest_hz
    )
    return tf.matmul(magnitudes, bands)


def _dbscale(magnitudes, top_db):
    import tensorflow as tf

    power = tf.maximum(tf.square(magnitudes), 1e-10)
    decibels = 10 * (tf.math.log(power) / tf.math.log(10.0))
    return tf.maximum(decibels, tf.reduce_max(decibels) - top_db)


def _check_frames(frame_length, frame_step, fft_length):
    """(fft_length, frame_length, frame_step), in the order in which they are taken."""
    frame_length = whole_number("frame_length", frame_length, 2)
    frame_step = whole_number("frame_step", frame_step, 1, frame_length)
    if fft_length is None:
        return 1 << (frame_length - 1).bit_length(), frame_length, frame_step
    fft_length = whole_number("fft_length", fft_length, frame_length)
    if fft_length % 2:
        raise ValueError(
            f"`fft_length` must be even. Received: fft_length={fft_length}. Leave it out for "
            "the next power of two, which is the fastest."
        )
    return fft_length, frame_length, frame_step


def _check_wave(wave, frame_length):
    """The wave as float32, or one sentence on what is wrong with it."""
    wave = np.asarray(wave)
    if wave.dtype.kind != "f" or wave.ndim != 1:
        raise ValueError(
            "`wave` must be floats of shape (samples,). "
            f"Received: {wave.dtype} of shape {wave.shape}. Make it with `render(piece)`; of two "
            "channels, take `wave.mean(axis=1)`."
        )
    if len(wave) < frame_length:
        raise ValueError(
            "`wave` must be at least one frame long. "
            f"Received: {len(wave)} samples, and frame_length={frame_length}. "
            "Use a shorter frame, or append zeros."
        )
    # Whole numbers of 16 bits made floats may pass; what is larger could not be squared later.
    if not np.abs(wave).max() <= 1e6:  # written so that NaN is caught too
        raise ValueError(
            "`wave` must be finite, and about within [-1, 1]. "
            f"Received: a largest magnitude of {np.abs(wave).max()}. Look at how it was made."
        )
    return wave.astype(np.float32)


def _check_bands(sample_rate, num_mels, lowest_hz, highest_hz, fft_length):
    """(sample_rate, num_mels, lowest_hz, highest_hz), in the order in which they are taken."""
    check_sample_rate(sample_rate)
    num_mels = whole_number("num_mels", num_mels, 1)
    are_numbers = isinstance(lowest_hz, numbers.Real) and isinstance(highest_hz, numbers.Real)
    if not are_numbers or not 0 <= lowest_hz < highest_hz <= sample_rate / 2:
        raise ValueError(
            "`lowest_hz` must be >= 0 and below `highest_hz`, which must be at most half of "
            f"`sample_rate`. Received: lowest_hz={lowest_hz!r}, highest_hz={highest_hz!r}, "
            f"sample_rate={sample_rate}. Use 0 and {sample_rate / 2:g} for all there is."
        )
    low, high = (1127 * math.log1p(hz / 700) for hz in (lowest_hz, highest_hz))
    edges = 700 * np.expm1(np.linspace(low, high, num_mels + 2) / 1127)  # of the triangles, in Hz
    bins = np.arange(1, fft_length // 2 + 1) * sample_rate / fft_length  # 0 Hz is in no band
    bins_below = np.searchsorted(bins, edges)
    num_empty = int(np.sum(bins_below[2:] == bins_below[:-2]))
    if num_empty:
        raise ValueError(
            "`num_mels` must leave at least one bin of the spectrogram to each band. Received: "
            f"num_mels={num_mels}, and bins of {sample_rate / fft_length:.1f} Hz, so that "
            f"{num_empty} would be empty. Use fewer bands, or a longer `fft_length`."
        )
    return int(sample_rate), num_mels, float(lowest_hz), float(highest_hz)


def _check_top_db(top_db):
    is_number = isinstance(top_db, numbers.Real) and not isinstance(top_db, bool)
    if top_db is not None and not (is_number and 0 < top_db < math.inf):
        raise ValueError(
            "`top_db` must be in decibels, finite and > 0, or None for magnitudes. "
            f"Received: top_db={top_db!r}. 80 is usual."
        )
