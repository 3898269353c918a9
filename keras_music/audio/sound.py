"""From a piece to a wave: recorded instruments where a synthesizer is installed, else sines.

MIDI says which keys to press and not how they sound. A *soundfont* (.sf2) is a collection of
recorded notes; a synthesizer picks a recording for each note, shifts it to the pitch, and adds
them all up. pretty_midi carries a small soundfont of the 128 General MIDI instruments
(TimGM6mb.sf2, 6 MB), and two engines can play it:

| engine       | needs                                             | sounds like         |
| ------------ | ------------------------------------------------- | ------------------- |
| midirenderer | `pip install midirenderer`                        | the instruments     |
| fluidsynth   | `pip install pyfluidsynth`, the system's library  | the instruments     |
| sines        | nothing                                           | a plain sine a note |

`render` takes the first one that is there; `engine` says which one that is.

Conventions: a wave is float32 of shape `(samples,)`, **mono**, within [-1, 1]. Its loudest sample
is 1 dB below full scale (`PEAK`), however loud or soft the piece. It lasts `TAIL_SECONDS` longer
than the piece, so that the last notes can fade. Sample rates are in Hz.

What this file does not do: no stereo, no effects.

References: the SoundFont 2.04 technical specification (E-mu, 2006); midirenderer
(https://github.com/ryzhakar/midirenderer); `pretty_midi.Instrument.synthesize`, with our
difference: drums, silent there, are short bursts of noise here.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import io
import pathlib
import wave as wave_files

import numpy as np

from keras_music.midi import check_piece, midi_bytes, to_pretty_midi

PEAK = 10 ** (-1 / 20)  # of full scale, 0.891: louder would risk clipping in a player's resampler
TAIL_SECONDS = 1.0
LONGEST_SECONDS = 3600.0  # for which midirenderer needs 7 GB of memory; without, it ends Python
FADE_SECONDS = 0.05  # at the very end, for whatever still rings when the tail is over
DRUM_SECONDS = 0.15  # the length of the burst of noise that stands for a drum among sines
SOUNDFONT_ENGINES = ("midirenderer", "fluidsynth")


def render(piece, sample_rate=44100, instruments="auto", soundfont=None) -> np.ndarray:
    """Plays a piece into a waveform.

    Args:
      piece: a `Piece` with at least one note.
      sample_rate: in Hz, an integer from 8000 to 192000. Among sines, notes above half of it
        come out at a wrong pitch (8000 Hz is right up to MIDI pitch 107).
      instruments: `"auto"`, recorded instruments where an engine for them is installed, else
        sines; `"soundfont"`, recorded instruments or an error; `"sines"`, which sound the same
        everywhere.
      soundfont: path of an .sf2 file to take the instruments from; default: pretty_midi's own.

    Returns:
      float32, shape `(samples,)`, mono, with `samples = ceil((piece.duration + 1) * sample_rate)`
      and the loudest at 0.891. Silence stays at 0: midirenderer plays no note that is softer
      than velocity 11 or so.

    Raises:
      ValueError: the piece has no notes or lasts more than an hour, an argument is out of range,
        the soundfont is missing or damaged, or instruments were asked for and nothing here can
        play them.

    Example:
      >>> from keras_music.midi import Piece
      >>> piece = Piece([{"pitch": 69, "start": 0.0, "end": 0.5}])
      >>> wave = render(piece, sample_rate=16000, instruments="sines")
      >>> wave.shape, wave.dtype.name, round(float(abs(wave).max()), 3)
      ((24000,), 'float32', 0.891)
    """
    check_piece(piece, needs_notes=True)
    if piece.duration > LONGEST_SECONDS:
        raise ValueError(
            f"`piece` must last at most {LONGEST_SECONDS / 60:g} minutes to be played. "
            f"Received: {piece.duration / 60:.1f} minutes. Play a part of it: "
            "`piece.crop(600)` is its first 10 minutes."
        )
    check_sample_rate(sample_rate)
    name = engine(instruments, soundfont)
    if name == "sines":
        wave = _render_sines(piece, sample_rate)
    else:
        play = {"midirenderer": _render_midirenderer, "fluidsynth": _render_fluidsynth}[name]
        wave = play(piece, sample_rate, _find_soundfont(soundfont))
    return _finish(wave, int(np.ceil((piece.duration + TAIL_SECONDS) * sample_rate)), sample_rate)


def engine(instruments="auto", soundfont=None) -> str:
    """Says what `render` plays with: `"midirenderer"`, `"fluidsynth"` or `"sines"`.

    Args:
      instruments: as in `render`.
      soundfont: as in `render`.

    Raises:
      ValueError: as `render` does.

    Example:
      >>> engine("sines")
      'sines'
    """
    if instruments not in ("auto", "soundfont", "sines"):
        raise ValueError(
            '`instruments` must be "auto", "soundfont" or "sines". '
            f'Received: instruments={instruments!r}. Use "auto" for the best one at hand.'
        )
    if instruments == "sines":
        if soundfont is not None:
            raise ValueError(
                '`soundfont` must be left out when `instruments="sines"`. '
                f'Received: soundfont={str(soundfont)!r}. Use `instruments="soundfont"`.'
            )
        return "sines"
    if _find_soundfont(soundfont) is not None:
        for name in SOUNDFONT_ENGINES:
            if _is_installed(name):
                return name
    if instruments == "auto" and soundfont is None:
        return "sines"
    raise ValueError(
        '`instruments="soundfont"` or a `soundfont` needs a synthesizer and an .sf2 file. '
        f"Received: {_what_is_missing(soundfont)}. Run `pip install midirenderer pretty_midi`, "
        'or use `instruments="sines"`.'
    )


def _render_midirenderer(piece, sample_rate, soundfont):
    import midirenderer

    # It stops at the file's last message, in the middle of the last sound: add a message later.
    late = piece.duration + TAIL_SECONDS
    pedal = {"start": late, "end": late, "track": int(piece.notes["track"].iloc[0])}
    longer = dataclasses.replace(piece, pedals=[*piece.pedals.to_dict("records"), pedal])
    try:
        data = midirenderer.render_wave_from(soundfont.read_bytes(), midi_bytes(longer))
    except RuntimeError as error:
        raise _damaged_soundfont(soundfont, error) from None
    with wave_files.open(io.BytesIO(data)) as file:
        own_rate, channels = file.getframerate(), file.getnchannels()
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    wave = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return _resample(wave, own_rate, sample_rate)


def _render_fluidsynth(piece, sample_rate, soundfont):
    import fluidsynth

    synthesizer = fluidsynth.Synth(samplerate=float(sample_rate))
    try:
        number = synthesizer.sfload(str(soundfont))
        if number == -1:
            raise _damaged_soundfont(soundfont, "fluidsynth cannot load it")
        midi = to_pretty_midi(piece)
        return midi.fluidsynth(sample_rate, synthesizer, sfid=number, normalize=False)
    finally:
        synthesizer.delete()


def _render_sines(piece, sample_rate):
    """Sines for notes, and for a drum 0.15 s of noise that dies away (the same noise each time)."""
    wave = np.zeros(int((piece.duration + TAIL_SECONDS) * sample_rate) + 1)
    # Sines know no pedal, and one that is held on would only lengthen the wave.
    midi = to_pretty_midi(dataclasses.replace(piece, pedals=[]))
    for instrument in midi.instruments:  # one by one: a third of the memory
        part = instrument.synthesize(fs=sample_rate)  # a drum track is silent
        wave[: len(part)] += part
    times = np.arange(int(DRUM_SECONDS * sample_rate)) / sample_rate
    noise = np.random.default_rng(0).uniform(-1, 1, len(times)) * np.exp(-times / 0.03)
    drums = piece.notes[piece.notes["is_drum"]]
    for start, velocity in zip(drums["start"], drums["velocity"], strict=True):
        first = int(start * sample_rate)
        wave[first : first + len(noise)] += velocity * noise
    return wave


def _finish(wave, num_samples, sample_rate):
    """Cuts or pads to the length, fades the end, and scales the loudest sample to `PEAK`."""
    finished = np.zeros(num_samples, dtype=np.float32)
    finished[: len(wave)] = wave[:num_samples]
    fade = int(FADE_SECONDS * sample_rate)
    finished[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    peak = max(finished.max(), -finished.min())
    return finished * np.float32(PEAK / peak) if peak > 0 else finished


def _resample(wave, old_rate, new_rate):
    """Changes the sample rate by cutting or zero-padding the spectrum: exact below both limits."""
    if old_rate == new_rate:
        return wave
    seconds = -(-len(wave) // old_rate)  # whole seconds are a whole number of samples in both
    spectrum = np.fft.rfft(wave, old_rate * seconds)
    return np.fft.irfft(spectrum, new_rate * seconds) * (new_rate / old_rate)


def _find_soundfont(soundfont):
    """The user's soundfont, checked, or pretty_midi's own, or None where that is not there."""
    if soundfont is None:
        package = importlib.util.find_spec("pretty_midi")
        if package is None or package.origin is None:
            return None
        path = pathlib.Path(package.origin).with_name("TimGM6mb.sf2")
        return path if path.is_file() else None
    path = pathlib.Path(soundfont).expanduser()
    if not path.is_file():
        raise ValueError(
            "`soundfont` must be the path of an .sf2 file. "
            f"Received: {soundfont}, which is no file. Check the path, or leave it out."
        )
    with path.open("rb") as file:
        header = file.read(12)
    if header[:4] != b"RIFF" or header[8:] != b"sfbk":
        raise ValueError(
            "`soundfont` must be the path of an .sf2 file. "
            f"Received: {soundfont}, which is of another kind. Give a SoundFont 2 file."
        )
    return path


def _is_installed(name):
    """Whether an engine is really there: pyfluidsynth without the system's library is not."""
    try:
        module = importlib.import_module(name)
    except (ImportError, OSError):
        return False
    # An unrelated package on PyPI is called fluidsynth too, and has no Synth.
    return hasattr(module, {"midirenderer": "render_wave_from", "fluidsynth": "Synth"}[name])


def _what_is_missing(soundfont):
    if _find_soundfont(soundfont) is None:
        return "a pretty_midi without its soundfont"
    return "neither midirenderer nor fluidsynth is installed"


def _damaged_soundfont(soundfont, reason):
    return ValueError(
        f"`soundfont` must be a complete SoundFont 2 file. Received: {soundfont} ({reason}). "
        "Download it again, or leave `soundfont` out."
    )


def check_sample_rate(sample_rate):
    is_integer = isinstance(sample_rate, int | np.integer) and not isinstance(sample_rate, bool)
    if not is_integer or not 8000 <= sample_rate <= 192000:
        raise ValueError(
            "`sample_rate` must be an integer from 8000 to 192000, in Hz. "
            f"Received: sample_rate={sample_rate!r}. Use 44100 if in doubt."
        )
