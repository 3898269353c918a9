"""audio.spectrogram and mel_spectrogram: which frequency, when, how strong; both engines."""

import importlib.util
import subprocess
import sys
import types

import numpy as np
import pytest

from keras_music import audio
from keras_music.audio import mel_spectrogram, spectrogram, spectrum
from keras_music.midi import Piece

needs_tensorflow_io = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_io") is None, reason="tensorflow-io is not installed"
)
BOTH = ["tf.signal", pytest.param("tensorflow-io", marks=needs_tensorflow_io)]


def sine(hz, seconds=1.0, amplitude=1.0, sample_rate=44100):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(int(seconds * sample_rate)) / sample_rate)


def noise(num_samples=20000):
    return np.random.default_rng(0).uniform(-1, 1, num_samples).astype(np.float32)


def mel(hz):
    return 1127 * np.log(1 + np.asarray(hz) / 700)


@pytest.fixture
def install(monkeypatch):
    """install(module or None): what `import tensorflow_io` gives; None: an ImportError."""
    return lambda module: monkeypatch.setitem(sys.modules, "tensorflow_io", module)


class TestSpectrogram:
    def test_440_hz_is_in_the_bin_nearest_to_it(self):
        magnitudes = spectrogram(sine(440))[:39]  # without the frames that are padded
        assert magnitudes.argmax(axis=1).tolist() == [41] * 39  # 41 * 44100 / 4096 = 441.4

    def test_a_note_that_is_rendered(self):
        piece = Piece([{"pitch": 69, "start": 0.0, "end": 1.0}])
        magnitudes = spectrogram(audio.render(piece, 16000, "sines"), 4096)
        assert magnitudes[0].argmax() == 113  # 113 * 16000 / 4096 = 441.4

    @pytest.mark.parametrize("amplitude", [1.0, 0.25])
    def test_a_sine_in_the_middle_of_a_bin_is_a_quarter_of_the_frame(self, amplitude):
        """The sum of a Hann window is half its length, and a sine is two rotations of half."""
        frame = spectrogram(sine(100 * 44100 / 4096, amplitude=amplitude))[5]
        expected = np.zeros(2049)
        expected[[99, 100, 101]] = np.array([0.5, 1.0, 0.5]) * 1024 * amplitude
        assert np.allclose(frame, expected, atol=0.01)

    def test_the_energy_is_that_of_the_samples_under_the_window(self):
        """Parseval: what the transform takes apart adds up again."""
        wave = noise(4096)
        energy = spectrogram(wave, 4096, 4096)[0].astype(np.float64) ** 2
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(4096) / 4096)
        both_sides = 2 * energy.sum() - energy[0] - energy[-1]
        assert both_sides / 4096 == pytest.approx(((wave * hann) ** 2).sum(), rel=1e-5)

    def test_numpy_says_the_same(self):
        wave = noise(5000)
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1000) / 1000)
        padded = np.append(wave, np.zeros(1000))
        frames = np.stack([padded[i : i + 1000] for i in range(0, 5000, 300)])
        expected = np.abs(np.fft.rfft(frames * hann, 1024))
        assert np.allclose(spectrogram(wave, 1000, 300), expected, atol=1e-3)

    @pytest.mark.parametrize(
        ("num_samples", "frames", "shape"),
        [
            (44100, (4096, 1024, None), (44, 2049)),
            (4096, (4096, 1024, None), (4, 2049)),
            (4097, (4096, 1024, None), (5, 2049)),
            (1000, (400, 160, None), (7, 257)),
            (1000, (400, 160, 400), (7, 201)),
            (1000, (1000, 1000, 4096), (1, 2049)),
            (7, (2, 1, None), (7, 2)),
        ],
    )
    def test_the_shape(self, num_samples, frames, shape):
        magnitudes = spectrogram(noise(num_samples), *frames)
        assert (magnitudes.shape, magnitudes.dtype) == (shape, np.float32)

    def test_a_click_is_in_the_frames_that_reach_it(self):
        wave = np.zeros(44100)
        wave[20000] = 1.0
        loudness = spectrogram(wave)[:, 0]
        assert np.flatnonzero(loudness).tolist() == [16, 17, 18, 19]  # 16 * 1024 + 4096 > 20000
        middle = loudness.argmax() * 1024 + 4096 / 2
        assert abs(middle - 20000) <= 512

    def test_silence_is_zeros(self):
        assert not spectrogram(np.zeros(10000)).any()

    def test_a_list_and_numpys_integers_are_taken(self):
        first = spectrogram([0.0, 0.5] * 50, np.int64(16), np.int32(8), np.int16(32))
        assert np.array_equal(first, spectrogram(np.array([0.0, 0.5] * 50), 16, 8, 32))

    @pytest.mark.parametrize("num_samples", [4096, 10 * 1024, 20 * 1024, 20 * 1024 + 1, 33333])
    @pytest.mark.parametrize("frames_at_once", [1, 7])
    def test_a_long_wave_is_done_a_stretch_at_a_time(
        self, num_samples, frames_at_once, monkeypatch
    ):
        wave = noise(num_samples)
        whole = spectrogram(wave), mel_spectrogram(wave, top_db=40)
        monkeypatch.setattr(spectrum, "SAMPLES_AT_ONCE", 4096 * frames_at_once)
        assert np.array_equal(spectrogram(wave), whole[0])
        assert np.allclose(mel_spectrogram(wave, top_db=40), whole[1], atol=1e-4)


class TestMelSpectrogram:
    @pytest.mark.parametrize("hz", [110.0, 440.0, 1000.0, 5000.0])
    def test_a_tone_is_in_the_band_whose_middle_is_nearest(self, hz):
        middles = np.linspace(mel(27.5), mel(8000), 130)[1:-1]
        band = mel_spectrogram(sine(hz))[5].argmax()
        assert abs(middles[band] - mel(hz)) <= 0.55 * (middles[1] - middles[0])

    def test_the_bands_are_triangles_on_the_mel_scale(self):
        wave = noise()
        edges = np.linspace(mel(100), mel(4000), 22)
        bins = mel(np.arange(1025) * 22050 / 2048)[:, None]
        width = edges[1] - edges[0]
        rising, falling = (bins - edges[:-2]) / width, (edges[2:] - bins) / width
        weights = np.maximum(0, np.minimum(rising, falling))  # (bins, bands)
        bands = mel_spectrogram(wave, 22050, 20, 100, 4000, None, 2048, 512)
        assert np.allclose(bands, spectrogram(wave, 2048, 512) @ weights, rtol=1e-4)

    def test_no_band_of_the_default_is_empty(self):
        bands = mel_spectrogram(noise())
        assert (bands.shape, bands.dtype) == ((20, 128), np.float32)
        assert (bands > 0).all()

    def test_decibels(self):
        wave = np.append(sine(440), 0.001 * sine(440))
        magnitudes, decibels = mel_spectrogram(wave), mel_spectrogram(wave, top_db=80)
        expected = 20 * np.log10(np.maximum(magnitudes, 1e-5))
        assert np.allclose(decibels, np.maximum(expected, expected.max() - 80), atol=1e-3)
        assert decibels[5].max() - decibels[60].max() == pytest.approx(60, abs=0.1)
        assert decibels.max() - decibels.min() == pytest.approx(80, abs=1e-4)

    def test_top_db_counts_from_the_loudest(self):
        """Not from 0 dB: a wave that is louder has the same picture, at other numbers."""
        for amplitude in (0.001, 0.1, 10.0):
            wave = sine(440, amplitude=amplitude)
            decibels = mel_spectrogram(wave, top_db=20, engine="tf.signal")
            assert decibels.min() == pytest.approx(decibels.max() - 20, abs=1e-4)

    def test_silence_is_0_and_in_decibels_minus_100(self):
        assert not mel_spectrogram(np.zeros(10000)).any()
        assert np.allclose(mel_spectrogram(np.zeros(10000), top_db=80), -100)


class TestEngines:
    @needs_tensorflow_io
    @pytest.mark.parametrize(
        ("compute", "arguments"),
        [
            (spectrogram, {}),
            (spectrogram, {"frame_length": 1000, "frame_step": 333, "fft_length": 1500}),
            (mel_spectrogram, {}),
            (mel_spectrogram, {"top_db": 80}),
            (mel_spectrogram, {"sample_rate": 8000, "num_mels": 20, "highest_hz": 4000}),
        ],
    )
    def test_they_agree(self, compute, arguments):
        wave = noise(50001)
        ours = compute(wave, engine="tf.signal", **arguments)
        theirs = compute(wave, engine="tensorflow-io", **arguments)
        assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5)

    @needs_tensorflow_io
    def test_the_numbers_are_those_of_tensorflow_io(self):
        tensorflow_io_audio = spectrum._import_tensorflow_io()
        wave = noise()
        magnitudes = tensorflow_io_audio.spectrogram(wave, nfft=4096, window=4096, stride=1024)
        bands = tensorflow_io_audio.melscale(magnitudes, 44100, 128, 27.5, 8000.0)
        assert np.allclose(spectrogram(wave), magnitudes, rtol=1e-5, atol=1e-5)
        assert np.allclose(mel_spectrogram(wave), bands, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("engine", BOTH)
    def test_nothing_is_printed(self, engine, capfd):
        spectrogram(noise(), engine="tf.signal")  # when it starts, TensorFlow does say something
        capfd.readouterr()
        mel_spectrogram(noise(), top_db=80, engine=engine)
        assert capfd.readouterr() == ("", "")

    @needs_tensorflow_io
    def test_importing_tensorflow_io_prints_nothing(self):
        """Its two warnings about its libraries; in a process where it is not yet imported."""
        program = (
            "import sys, numpy, tensorflow as tf\n"
            "from keras_music.audio import spectrogram\n"
            "tf.constant(1.0) + 1\n"
            "sys.stderr.write('---')\n"
            "spectrogram(numpy.zeros(4096), engine='tensorflow-io')\n"
            "print('tensorflow_io' in sys.modules)\n"
        )
        result = subprocess.run(
            [sys.executable, "-W", "always", "-c", program], capture_output=True, text=True
        )
        assert (result.stdout, result.returncode) == ("True\n", 0), result.stderr
        assert result.stderr.split("---")[1] == ""

    def test_auto_takes_tensorflow_io_where_it_is(self, install):
        import tensorflow as tf

        taken = []

        def fake(wave, nfft, window, stride):
            taken.append((len(wave), nfft, window, stride))
            return tf.zeros([100, 3])

        install(types.SimpleNamespace(audio=types.SimpleNamespace(spectrogram=fake)))
        assert spectrogram(noise(5000), 600, 100).shape == (50, 3)
        assert taken == [(5000, 1024, 600, 100)]
        assert spectrogram(noise(5000), 600, 100, engine="tf.signal").shape == (50, 513)

    @pytest.mark.parametrize("module", [None, types.SimpleNamespace()], ids=["absent", "broken"])
    def test_auto_does_without_it(self, install, module):
        install(module)
        expected = spectrogram(noise(), engine="tf.signal")
        assert np.array_equal(spectrogram(noise()), expected)

    @pytest.mark.parametrize("line", ["raise SystemError('no')", "import no_such_module", "1 / 0"])
    def test_whatever_goes_wrong_in_its_import(self, line, tmp_path, monkeypatch):
        (tmp_path / "tensorflow_io.py").write_text(line, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "tensorflow_io", raising=False)
        assert spectrum._import_tensorflow_io() is None
        assert spectrogram(noise()).shape == (20, 2049)

    def test_asking_for_it_where_it_is_not_names_the_remedy(self, install):
        install(None)
        for compute in (spectrogram, mel_spectrogram):
            with pytest.raises(ValueError, match="cannot be imported.*`pip install tensorflow-io`"):
                compute(noise(), engine="tensorflow-io")


def test_importing_the_functions_imports_neither_tensorflow_nor_tensorflow_io():
    program = (
        "import sys, keras_music\n"
        "keras_music.audio\n"
        "keras_music.audio.spectrogram\n"
        "print({'tensorflow', 'tensorflow_io'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("set()\n", 0), result.stderr


class TestBadArguments:
    @pytest.mark.parametrize("compute", [spectrogram, mel_spectrogram])
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"wave": np.zeros(5000, np.int16)}, "`wave` must be floats of shape (samples,)."),
            ({"wave": np.zeros((5000, 2))}, "`wave` must be floats of shape (samples,)."),
            ({"wave": "a.wav"}, "`wave` must be floats of shape (samples,)."),
            ({"wave": np.zeros(4095)}, "`wave` must be at least one frame long. Received: 4095"),
            ({"wave": np.zeros(0)}, "`wave` must be at least one frame long. Received: 0 samples"),
            ({"wave": np.full(5000, np.nan)}, "`wave` must be finite, and about within [-1, 1]."),
            ({"wave": np.full(5000, np.inf)}, "`wave` must be finite, and about within [-1, 1]."),
            ({"wave": np.full(5000, 1e30)}, "`wave` must be finite, and about within [-1, 1]."),
            ({"frame_length": 1}, "`frame_length` must be a whole number >= 2."),
            ({"frame_length": 4096.5}, "`frame_length` must be a whole number >= 2."),
            ({"frame_step": 0}, "`frame_step` must be a whole number from 1 to 4096."),
            ({"frame_step": 4097}, "`frame_step` must be a whole number from 1 to 4096."),
            ({"frame_step": True}, "`frame_step` must be a whole number from 1 to 4096."),
            ({"fft_length": 2048}, "`fft_length` must be a whole number >= 4096."),
            ({"fft_length": 4097}, "`fft_length` must be even. Received: fft_length=4097."),
            ({"engine": "tfio"}, '`engine` must be "auto", "tensorflow-io" or "tf.signal".'),
        ],
    )
    def test_both(self, compute, arguments, sentence):
        with pytest.raises(ValueError) as caught:
            compute(**({"wave": np.zeros(5000)} | arguments))
        assert str(caught.value).startswith(sentence)

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"sample_rate": 44100.0}, "`sample_rate` must be an integer from 8000 to 192000"),
            ({"num_mels": 0}, "`num_mels` must be a whole number >= 1."),
            ({"num_mels": 2.5}, "`num_mels` must be a whole number >= 1."),
            ({"num_mels": 512}, "`num_mels` must leave at least one bin of the spectrogram"),
            ({"lowest_hz": -1}, "`lowest_hz` must be >= 0 and below `highest_hz`"),
            ({"lowest_hz": 8000}, "`lowest_hz` must be >= 0 and below `highest_hz`"),
            ({"lowest_hz": float("nan")}, "`lowest_hz` must be >= 0 and below `highest_hz`"),
            ({"lowest_hz": "27.5"}, "`lowest_hz` must be >= 0 and below `highest_hz`"),
            ({"highest_hz": 22051}, "`lowest_hz` must be >= 0 and below `highest_hz`"),
            ({"sample_rate": 8000}, "`lowest_hz` must be >= 0 and below `highest_hz`"),
            ({"top_db": 0}, "`top_db` must be in decibels, finite and > 0"),
            ({"top_db": float("inf")}, "`top_db` must be in decibels, finite and > 0"),
            ({"top_db": True}, "`top_db` must be in decibels, finite and > 0"),
        ],
    )
    def test_mel(self, arguments, sentence):
        with pytest.raises(ValueError) as caught:
            mel_spectrogram(np.zeros(5000), **arguments)
        assert str(caught.value).startswith(sentence)

    @pytest.mark.parametrize("num_mels", [100, 200, 300, 400, 500])
    def test_the_bands_called_empty_are_the_empty_ones(self, num_mels):
        import tensorflow as tf

        weights = tf.signal.linear_to_mel_weight_matrix(num_mels, 2049, 44100, 27.5, 8000.0)
        num_empty = int(np.sum(weights.numpy().max(axis=0) == 0))
        if not num_empty:
            assert mel_spectrogram(noise(), num_mels=num_mels).shape == (20, num_mels)
        else:
            with pytest.raises(ValueError, match=f"so that {num_empty} would be empty"):
                mel_spectrogram(noise(), num_mels=num_mels)
