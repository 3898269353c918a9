"""A wave as a .wav file: on the disk, or inside a notebook with a button to play it.

A .wav file is a header of 44 bytes that says how many samples a second and how many channels there
are, and then the samples themselves, here as 16-bit integers: -32767 is -1, 32767 is 1. That is
5 MB a minute at 44100 Hz.

A notebook is a web page, and a page can hold the file itself, written in letters (base64: 4 letters
for 3 bytes), in the place where it would otherwise name the file. So what `player` returns needs
no server and no other package, and can still be heard when the notebook is sent to somebody. It
also makes the notebook as big as the sound, hence `LARGEST_PLAYER`.

What this file does not do: no playing through the loudspeaker outside of a browser, no compressed
formats.

References: IBM and Microsoft, Multimedia Programming Interface and Data Specifications 1.0 (1991);
RFC 2397 (data URLs). Our difference from `IPython.display.Audio`: that one makes the loudest sample
full scale; what is heard here is what `write_wav` writes.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import os
import pathlib
import wave as wave_files

import numpy as np

from keras_music.audio.sound import TAIL_SECONDS, check_sample_rate, render
from keras_music.disk import write_atomically
from keras_music.midi import Piece, check_piece

LARGEST_PLAYER = 30_000_000  # bytes of a .wav file: 5.7 minutes of 44100 Hz, mono


def write_wav(piece_or_wave, path, sample_rate=44100) -> pathlib.Path:
    """Writes a piece, or a wave made by `render`, as a 16-bit PCM .wav file, whole or not at all.

    Missing folders are made.

    Args:
      piece_or_wave: a `Piece`, which is rendered with `instruments="auto"`; or floats within
        [-1, 1] of shape `(samples,)`, or `(samples, channels)` with 1 or 2 channels.
      path: where to write.
      sample_rate: in Hz, an integer from 8000 to 192000; of a wave, the rate it was made with.

    Returns:
      The path.

    Raises:
      OSError: the folder cannot be written to; the sentence says what to do.
      ValueError: the piece or the wave is empty, the piece lasts more than an hour, or the wave
        is not what is asked for above.
    """
    check_sample_rate(sample_rate)
    if isinstance(piece_or_wave, Piece):
        wave = render(piece_or_wave, sample_rate)
    else:
        wave = _check_wave(piece_or_wave, "piece_or_wave")
    return write_atomically(path, _wav_bytes(wave, sample_rate))


def player(piece_or_wave_or_path, sample_rate=44100) -> Sound:
    """Makes a sound that a notebook shows as a player, when it is the last line of a cell.

    Args:
      piece_or_wave_or_path: a `Piece`, which is rendered with `instruments="auto"`; floats within
        [-1, 1] of shape `(samples,)`, or `(samples, channels)` with 1 or 2 channels; or the path
        of a .wav file.
      sample_rate: in Hz, an integer from 8000 to 192000; of a wave, the rate it was made with. A
        file has its own.

    Returns:
      A `Sound`, which a terminal shows as its length and sample rate.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: there is nothing to hear, it is not what is asked for above, or it would take
        more than 30 MB as a .wav file (5.7 minutes of 44100 Hz), for all of it becomes part of
        the notebook.

    Example:
      >>> import numpy as np
      >>> player(0.5 * np.sin(0.2 * np.arange(66150)))
      <sound: 1.5 s, 44100 Hz>
    """
    source = piece_or_wave_or_path
    check_sample_rate(sample_rate)
    if isinstance(source, str | os.PathLike):
        return _read_sound(pathlib.Path(source).expanduser())
    if isinstance(source, Piece):
        check_piece(source, needs_notes=True)
        seconds = source.duration + TAIL_SECONDS
        _check_size(seconds, 2 * sample_rate)  # before a minute is spent on rendering it
        wave = render(source, sample_rate)
    else:
        wave = _check_wave(source, "piece_or_wave_or_path")
        seconds = len(wave) / sample_rate
        _check_size(seconds, 2 * sample_rate * wave[0].size)
    return Sound(_wav_bytes(wave, sample_rate), seconds, int(sample_rate))


@dataclasses.dataclass(frozen=True, repr=False)
class Sound:
    """A .wav file that a notebook plays: `wav`, its bytes, `seconds`, `sample_rate` in Hz."""

    wav: bytes
    seconds: float
    sample_rate: int

    def __repr__(self):
        return f"<sound: {self.seconds:.1f} s, {self.sample_rate} Hz>"

    def _repr_html_(self):
        data = base64.b64encode(self.wav).decode("ascii")
        return f'<audio controls src="data:audio/wav;base64,{data}"></audio>'


def _wav_bytes(wave, sample_rate):
    """A whole .wav file of 16-bit samples."""
    buffer = io.BytesIO()
    with wave_files.open(buffer, "wb") as file:
        file.setnchannels(1 if wave.ndim == 1 else wave.shape[1])
        file.setsampwidth(2)
        file.setframerate(int(sample_rate))
        file.writeframes(np.rint(wave * 32767).astype("<i2").tobytes())
    # The name of the program that made it, as RIFF says it; the first size counts all that follows.
    data = buffer.getvalue() + _chunk(b"LIST", b"INFO" + _chunk(b"ISFT", b"keras_music\0"))
    return data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]


def _chunk(name, content):
    return name + len(content).to_bytes(4, "little") + content


def _read_sound(path):
    """The file as it is: a browser knows more kinds of samples than we write."""
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}. Check the path (the current folder is {pathlib.Path.cwd()})."
        )
    try:
        with wave_files.open(str(path), "rb") as file:
            num_samples, sample_rate = file.getnframes(), file.getframerate()
            bytes_per_second = sample_rate * file.getnchannels() * file.getsampwidth()
    except (wave_files.Error, EOFError, RuntimeError) as error:  # the last: damaged sizes
        raise _no_wav(path, str(error) or "it is damaged") from None
    if not num_samples or not sample_rate:
        raise _no_wav(path, "it holds no sound")
    seconds = num_samples / sample_rate
    _check_size(max(seconds, path.stat().st_size / bytes_per_second), bytes_per_second)
    return Sound(path.read_bytes(), seconds, sample_rate)


def _no_wav(path, reason):
    return ValueError(
        "`piece_or_wave_or_path` must be the path of a .wav file of whole numbers (PCM). "
        f"Received: {path} ({reason}). Save it as 16-bit PCM; of a MIDI file, give "
        "`keras_music.read_midi(path)`."
    )


def _check_size(seconds, bytes_per_second):
    if seconds * bytes_per_second > LARGEST_PLAYER:
        raise ValueError(
            "`piece_or_wave_or_path` must be at most "
            f"{LARGEST_PLAYER / bytes_per_second / 60:.1f} minutes long to be put into a notebook. "
            f"Received: {seconds / 60:.1f} minutes. Play a part of it, or write it with "
            "`write_wav` and listen to the file."
        )


def _check_wave(wave, name):
    """The wave as an array, or one sentence on what is wrong with it."""
    wave = np.asarray(wave)
    if wave.dtype.kind != "f" or not (wave.ndim == 1 or (wave.ndim == 2 and wave.shape[1] <= 2)):
        raise ValueError(
            f"`{name}` must be a Piece or floats of shape (samples,) or (samples, 2). "
            f"Received: {wave.dtype} of shape {wave.shape}. Make it with `render(piece)`."
        )
    if not wave.size:
        raise ValueError(
            f"`{name}` must have at least one sample. Received: an empty wave. "
            "Make it with `render(piece)`."
        )
    if not np.abs(wave).max() <= 1:  # written so that NaN is caught too
        raise ValueError(
            f"`{name}` must lie within [-1, 1]. "
            f"Received: a largest magnitude of {np.abs(wave).max()}. Divide by it."
        )
    return wave
