"""audio: the pitch, the length and the loudness of what is heard, and who plays it."""

import base64
import html.parser
import importlib.util
import re
import sys
import types
import wave

import numpy as np
import pytest

from keras_music import audio
from keras_music.audio import sound, wav
from keras_music.midi import Piece

needs_midirenderer = pytest.mark.skipif(
    importlib.util.find_spec("midirenderer") is None, reason="midirenderer is not installed"
)
BOTH = ["sines", pytest.param("soundfont", marks=needs_midirenderer)]


def note(pitch=69, start=0.0, end=2.0, **others):
    return Piece([{"pitch": pitch, "start": start, "end": end, **others}])


def loudest_frequency(samples, sample_rate):
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.argmax(spectrum) * sample_rate / len(samples))


@pytest.fixture
def uninstall(monkeypatch):
    """uninstall("x", ...) makes `import x` raise ImportError."""

    def hide(*names):
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


@pytest.fixture
def install(monkeypatch):
    """install(name, **contents) makes `import name` give a module with these contents."""

    def put(name, **contents):
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.mark.parametrize("instruments", BOTH)
class TestBothKindsOfSound:
    @pytest.mark.parametrize("sample_rate", [22050, 44100, 48000])
    def test_a4_sounds_at_440_hz(self, instruments, sample_rate):
        samples = audio.render(note(69), sample_rate, instruments)
        assert loudest_frequency(samples, sample_rate) == pytest.approx(440.0, abs=2.0)

    def test_mono_float32_one_second_longer_than_the_piece(self, instruments):
        samples = audio.render(note(end=1.5), 16000, instruments)
        assert (samples.shape, samples.dtype) == ((40000,), np.float32)

    @pytest.mark.parametrize("velocity", [30, 127])
    def test_the_loudest_sample_is_one_decibel_below_full_scale(self, instruments, velocity):
        samples = audio.render(note(velocity=velocity), 16000, instruments)
        assert np.abs(samples).max() == pytest.approx(0.8912509, abs=1e-6)

    def test_a_hundred_loud_notes_at_once_are_not_clipped(self, instruments):
        chord = Piece([{"pitch": p, "start": 0, "end": 0.5, "velocity": 127} for p in range(100)])
        samples = audio.render(chord, 44100, instruments)
        magnitudes = np.abs(samples)
        assert np.isfinite(samples).all()
        assert np.sum(magnitudes > 0.89) < 10  # a clipped wave has many samples at its top

    def test_a_note_sounds_when_it_should(self, instruments):
        samples = audio.render(note(start=1.0, end=1.5), 16000, instruments)
        assert np.abs(samples[:15900]).max() < 0.01
        assert np.abs(samples[16000:24000]).max() > 0.5

    def test_it_ends_in_silence_even_while_a_pedal_is_down(self, instruments):
        piece = Piece(
            [{"pitch": 40, "start": 0, "end": 0.5}],
            pedals=[{"start": 0.0, "end": 9.0, "track": 0}],
        )
        samples = audio.render(piece, 16000, instruments)
        assert len(samples) == 24000
        assert samples[-1] == 0

    def test_drums_alone_can_be_heard(self, instruments):
        samples = audio.render(note(38, 0.0, 0.1, is_drum=True), 16000, instruments)
        assert np.abs(samples).max() == pytest.approx(0.8912509, abs=1e-6)

    def test_the_same_piece_gives_the_same_wave(self, instruments):
        piece = Piece({"pitch": [60, 38], "start": [0, 0], "end": [1, 1], "is_drum": [False, True]})
        first = audio.render(piece, 16000, instruments)
        second = audio.render(piece, 16000, instruments)
        assert np.array_equal(first, second)

    def test_a_note_without_length_gives_no_nan(self, instruments):
        samples = audio.render(note(start=0.0, end=0.0), 16000, instruments)
        assert samples.shape == (16000,)
        assert np.isfinite(samples).all()

    def test_nothing_is_printed(self, instruments, capfd):
        audio.render(note(), 16000, instruments)
        assert capfd.readouterr() == ("", "")


class TestSoundOfSines:
    def test_louder_notes_are_louder(self):
        piece = Piece({"pitch": [60, 60], "velocity": [40, 80], "start": [0, 1], "end": [0.9, 1.9]})
        samples = np.abs(audio.render(piece, 16000, "sines"))
        ratio = samples[:14000].max() / samples[16000:30000].max()
        assert ratio == pytest.approx(0.5, abs=0.01)

    def test_a_drum_is_a_short_noise_and_no_tone(self):
        samples = audio.render(note(38, 0.0, 1.0, is_drum=True), 16000, "sines")
        assert np.abs(samples[: 16000 // 50]).max() > 0.5
        assert not samples[2400:].any()  # after 0.15 s
        spectrum = np.abs(np.fft.rfft(samples[:2400])) ** 2
        assert spectrum.max() < 0.05 * spectrum.sum()

    def test_the_release_is_heard_after_the_last_note(self):
        assert not audio.render(note(end=1.0), 16000, "sines")[16000:].any()


@needs_midirenderer
class TestSoundOfTheSoundfont:
    def test_programs_sound_different(self):
        piano, flute = (audio.render(note(program=p), 16000, "soundfont") for p in (0, 73))
        assert not np.allclose(piano, flute, atol=0.1)

    def test_the_last_note_rings_on_after_its_end(self):
        """midirenderer stops at a file's last message, in the middle of the release."""
        strings = audio.render(note(end=1.0, program=48), 16000, "soundfont")
        assert np.abs(strings[17600:20000]).max() > 0.1

    def test_the_tempo_map_does_not_move_the_sound(self):
        slow = Piece(
            [{"pitch": 69, "start": 1.0, "end": 1.5}], tempos=[{"time": 0.0, "tempo_bpm": 30.0}]
        )
        samples = audio.render(slow, 16000, "soundfont")
        assert len(samples) == 40000
        assert np.abs(samples[:15900]).max() < 0.01
        assert np.abs(samples[16000:24000]).max() > 0.5

    def test_another_soundfont_is_taken_by_path(self, tmp_path):
        own = sound._find_soundfont(None)
        copy = tmp_path / "mine.sf2"
        copy.write_bytes(own.read_bytes())
        expected = audio.render(note(), 16000, "soundfont")
        assert np.array_equal(audio.render(note(), 16000, soundfont=copy), expected)

    def test_half_a_soundfont_is_refused_with_a_remedy(self, tmp_path):
        half = tmp_path / "half.sf2"
        half.write_bytes(sound._find_soundfont(None).read_bytes()[:100_000])
        with pytest.raises(ValueError, match="must be a complete SoundFont 2 file.*half.sf2"):
            audio.render(note(), 16000, soundfont=half)


def test_silence_stays_silence_and_becomes_no_nan():
    """The soundfont's softest notes (velocity 10 and less) come back as zeros."""
    assert sound._finish(np.zeros(8000), 16000, 16000).tolist() == [0.0] * 16000


@pytest.mark.parametrize(
    ("old_rate", "new_rate", "frequency"),
    [(48000, 44100, 1000.0), (48000, 8000, 1000.0), (44100, 48000, 20000.0)],
)
def test_resampling_keeps_a_tone(old_rate, new_rate, frequency):
    old = np.sin(2 * np.pi * frequency * np.arange(2 * old_rate) / old_rate)
    new = np.sin(2 * np.pi * frequency * np.arange(2 * new_rate) / new_rate)
    assert np.allclose(sound._resample(old, old_rate, new_rate), new, atol=1e-9)


class TestEngine:
    """Which engine plays, with the engines replaced by empty modules."""

    @pytest.fixture
    def all_installed(self, install):
        install("midirenderer", render_wave_from=None)
        install("fluidsynth", Synth=None)

    def test_midirenderer_comes_first(self, all_installed):
        assert audio.engine() == "midirenderer"

    def test_then_fluidsynth(self, all_installed, uninstall):
        uninstall("midirenderer")
        assert audio.engine() == "fluidsynth"

    def test_then_sines(self, uninstall):
        uninstall("midirenderer", "fluidsynth")
        assert audio.engine() == "sines"

    def test_a_package_that_is_called_fluidsynth_too_does_not_count(self, install, uninstall):
        uninstall("midirenderer")
        install("fluidsynth")
        assert audio.engine() == "sines"

    def test_a_pretty_midi_without_its_soundfont_leaves_sines(self, all_installed, monkeypatch):
        monkeypatch.setattr(sound, "_find_soundfont", lambda soundfont: None)
        assert audio.engine() == "sines"

    def test_sines_can_be_asked_for(self, all_installed):
        assert audio.engine("sines") == "sines"

    def test_auto_plays_without_any_engine(self, uninstall):
        uninstall("midirenderer", "fluidsynth")
        samples = audio.render(note(), 16000)
        assert np.array_equal(samples, audio.render(note(), 16000, "sines"))

    def test_asking_for_a_soundfont_without_an_engine_names_the_remedy(self, uninstall):
        uninstall("midirenderer", "fluidsynth")
        for arguments in ({"instruments": "soundfont"}, {"soundfont": sound._find_soundfont(None)}):
            with pytest.raises(ValueError, match="neither .* Run `pip install midirenderer"):
                audio.engine(**arguments)
            with pytest.raises(ValueError, match="neither .* Run `pip install midirenderer"):
                audio.render(note(), **arguments)

    def test_fluidsynth_plays_through_pretty_midi_and_is_closed(
        self, install, uninstall, monkeypatch
    ):
        calls = []

        class Synth:
            def __init__(self, samplerate):
                calls.append(("open", samplerate))

            def sfload(self, path):
                calls.append(("load", path.endswith("TimGM6mb.sf2")))
                return 7

            def delete(self):
                calls.append(("close",))

        def play(self, fs, synthesizer, sfid, normalize):
            calls.append(("play", fs, sfid, normalize))
            return 1000.0 * np.sin(np.arange(3 * fs))

        uninstall("midirenderer")
        install("fluidsynth", Synth=Synth)
        monkeypatch.setattr("pretty_midi.PrettyMIDI.fluidsynth", play)
        samples = audio.render(note(end=1.0), 16000)
        assert calls == [("open", 16000.0), ("load", True), ("play", 16000, 7, False), ("close",)]
        assert samples.shape == (32000,)
        assert np.abs(samples).max() == pytest.approx(0.8912509, abs=1e-6)


class TestBadArguments:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"piece": Piece([])}, "`piece` must have at least one note. Received: Piece(notes=0"),
            ({"piece": "a.mid"}, "`piece` must be a Piece. Received: str."),
            (  # 15 GB, and the interpreter was aborted
                {"piece": note(end=80_000.0)},
                "`piece` must last at most 60 minutes to be played. Received: 1333.3 minutes. Play",
            ),
            ({"sample_rate": 44100.0}, "`sample_rate` must be an integer from 8000 to 192000"),
            ({"sample_rate": True}, "`sample_rate` must be an integer from 8000 to 192000"),
            ({"sample_rate": 7999}, "`sample_rate` must be an integer from 8000 to 192000"),
            ({"instruments": "piano"}, '`instruments` must be "auto", "soundfont" or "sines".'),
            ({"soundfont": "no/such.sf2"}, "`soundfont` must be the path of an .sf2 file."),
            (
                {"soundfont": "mine.sf2", "instruments": "sines"},
                '`soundfont` must be left out when `instruments="sines"`.',
            ),
        ],
    )
    def test_render(self, arguments, sentence):
        with pytest.raises(ValueError) as caught:
            audio.render(**({"piece": note()} | arguments))
        assert str(caught.value).startswith(sentence)

    def test_a_soundfont_of_another_kind(self, tmp_path):
        (tmp_path / "song.sf2").write_bytes(b"RIFF\0\0\0\0WAVE")
        with pytest.raises(ValueError, match="song.sf2, which is of another kind"):
            audio.render(note(), soundfont=tmp_path / "song.sf2")

    @pytest.mark.parametrize(
        ("samples", "sentence"),
        [
            (np.zeros(0), "must have at least one sample"),
            (np.zeros(4, np.int16), "Received: int16 of shape (4,)"),
            (np.zeros((4, 3)), "Received: float64 of shape (4, 3)"),
            (np.array([0.0, 1.5]), "Received: a largest magnitude of 1.5"),
            (np.array([0.0, np.nan]), "Received: a largest magnitude of nan"),
            ("song.mid", "must be a Piece or floats"),
            (Piece([]), "`piece` must have at least one note"),
        ],
    )
    def test_write_wav(self, samples, sentence, tmp_path):
        with pytest.raises(ValueError) as caught:
            audio.write_wav(samples, tmp_path / "x.wav")
        assert sentence in str(caught.value)
        assert list(tmp_path.iterdir()) == []


class TestWriteWav:
    def read(self, path):
        with wave.open(str(path)) as file:
            header = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            return header, np.frombuffer(file.readframes(file.getnframes()), "<i2").tolist()

    def test_a_wave_becomes_16_bit_pcm(self, tmp_path):
        samples = np.array([0.0, 0.5, 1.0, -1.0], np.float32)
        path = audio.write_wav(samples, tmp_path / "x.wav", 8000)
        assert path == tmp_path / "x.wav"
        assert self.read(path) == ((1, 2, 8000), [0, 16384, 32767, -32767])

    def test_two_channels_are_interleaved(self, tmp_path):
        path = audio.write_wav(np.array([[0.0, 1.0], [-1.0, 0.0]]), tmp_path / "x.wav", 8000)
        assert self.read(path) == ((2, 2, 8000), [0, 32767, -32767, 0])

    def test_the_bytes_of_a_file(self, tmp_path):
        path = audio.write_wav(np.array([1.0]), tmp_path / "x.wav", 8000)
        assert path.read_bytes() == (
            b"RIFF" + bytes.fromhex("46000000") + b"WAVE"
            b"fmt "
            + bytes.fromhex("10000000 0100 0100 401f0000 803e0000 0200 1000")
            # 16 bytes, PCM, 1 channel, 8000 Hz, 16000 bytes a second, 2 a frame, 16 bits
            + b"data"
            + bytes.fromhex("02000000 ff7f")
            + b"LIST"
            + bytes.fromhex("18000000")  # who made it, behind the sound
            + (b"INFOISFT" + bytes.fromhex("0c000000") + b"keras_music\0")
        )

    def test_a_piece_is_rendered(self, tmp_path):
        path = audio.write_wav(note(end=0.5), tmp_path / "x.wav", 16000)
        header, samples = self.read(path)
        assert header == (1, 2, 16000)
        expected = np.rint(audio.render(note(end=0.5), 16000) * 32767)
        assert samples == expected.tolist()

    def test_missing_folders_are_made(self, tmp_path):
        audio.write_wav(np.zeros(4), tmp_path / "a" / "b" / "x.wav")
        assert self.read(tmp_path / "a" / "b" / "x.wav") == ((1, 2, 44100), [0, 0, 0, 0])

    def test_a_failing_write_leaves_the_old_file_and_nothing_else(self, tmp_path, monkeypatch):
        path = tmp_path / "x.wav"
        path.write_bytes(b"old")

        def full_disk(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full_disk)
        with pytest.raises(OSError, match="No space left"):
            audio.write_wav(np.zeros(4), path)
        assert path.read_bytes() == b"old"
        assert [file.name for file in tmp_path.iterdir()] == ["x.wav"]

    def test_a_folder_that_cannot_be_made_gets_one_sentence_with_a_remedy(self, tmp_path):
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(OSError, match="Cannot write .*x.wav.* Choose a folder"):
            audio.write_wav(np.zeros(4), tmp_path / "file" / "x.wav")


class AudioElements(html.parser.HTMLParser):
    """The attributes of each <audio> in a page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "audio":
            self.found.append(dict(attributes))


def embedded_file(player):
    """The .wav file that a notebook gets to play."""
    (attributes,) = AudioElements(player._repr_html_()).found
    assert list(attributes) == ["controls", "src"]
    head, data = attributes["src"].split(",")
    assert head == "data:audio/wav;base64"
    return base64.b64decode(data, validate=True)


class TestPlayer:
    samples = 0.5 * np.sin(np.arange(24000) / 5)

    def test_a_terminal_shows_length_and_sample_rate(self):
        assert repr(audio.player(self.samples, 16000)) == "<sound: 1.5 s, 16000 Hz>"
        assert repr(audio.player(note(end=11.25), 8000)) == "<sound: 12.2 s, 8000 Hz>"

    def test_a_notebook_plays_the_file_that_write_wav_writes(self, tmp_path):
        path = audio.write_wav(self.samples, tmp_path / "x.wav", 16000)
        assert embedded_file(audio.player(self.samples, 16000)) == path.read_bytes()

    def test_two_channels(self, tmp_path):
        samples = np.stack([self.samples, -self.samples], axis=1)
        path = audio.write_wav(samples, tmp_path / "x.wav", 16000)
        player = audio.player(samples, 16000)
        assert embedded_file(player) == path.read_bytes()
        assert repr(player) == "<sound: 1.5 s, 16000 Hz>"

    def test_a_piece_is_rendered(self, tmp_path):
        path = audio.write_wav(note(), tmp_path / "x.wav", 16000)
        assert embedded_file(audio.player(note(), 16000)) == path.read_bytes()

    @pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
    def test_a_file_is_played_as_it_is_at_its_own_rate(self, kind, tmp_path):
        path = audio.write_wav(self.samples, tmp_path / "x.wav", 16000)
        player = audio.player(kind(path))
        assert embedded_file(player) == path.read_bytes()
        assert repr(player) == "<sound: 1.5 s, 16000 Hz>"

    def test_the_page_refers_to_nothing_outside(self):
        page = audio.player(self.samples)._repr_html_()
        assert re.fullmatch(r'<audio controls src="data:audio/wav;base64,[\w+/=]+"></audio>', page)

    @pytest.mark.parametrize(
        ("source", "sentence"),
        [
            (np.zeros(0), "must have at least one sample"),
            (np.zeros(4, np.int16), "Received: int16 of shape (4,)"),
            (np.array([0.0, np.nan]), "Received: a largest magnitude of nan"),
            (None, "`piece_or_wave_or_path` must be a Piece or floats"),
            (Piece([]), "`piece` must have at least one note"),
        ],
    )
    def test_bad_arguments(self, source, sentence):
        with pytest.raises(ValueError) as caught:
            audio.player(source)
        assert sentence in str(caught.value)

    def test_a_bad_sample_rate(self):
        with pytest.raises(ValueError, match="`sample_rate` must be an integer from 8000"):
            audio.player(self.samples, 44100.0)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="There is no file .*nothing.wav. Check"):
            audio.player(tmp_path / "nothing.wav")

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "it is damaged"),
            (b"MThd" + bytes(40), "file does not start with RIFF id"),
            (b"RIFF\x04\0\0\0WAVE", "fmt chunk and/or data chunk missing"),
            (wav._wav_bytes(np.zeros(4), 8000)[:20] + b"\x03" + bytes(40), "unknown format: 3"),
            (wav._wav_bytes(np.zeros(0), 8000), "it holds no sound"),
        ],
    )
    def test_no_wav_file(self, data, reason, tmp_path):
        path = tmp_path / "x.wav"
        path.write_bytes(data)
        with pytest.raises(ValueError) as caught:
            audio.player(path)
        assert f"x.wav ({reason}). Save it as 16-bit PCM; of a MIDI file, give" in str(caught.value)

    def test_damaged_files_get_a_sentence(self, tmp_path):
        """Python's reader has three kinds of exceptions for them, one without a text."""
        whole, random = wav._wav_bytes(self.samples[:100], 8000), np.random.default_rng(0)
        path, num_refused = tmp_path / "x.wav", 0
        for _ in range(300):
            data = bytearray(whole)
            data[random.integers(44)] = random.integers(256)
            path.write_bytes(data[: random.integers(1, 300)])
            try:
                audio.player(path)
            except ValueError as error:
                num_refused += 1
                assert "`piece_or_wave_or_path` must be" in str(error)
        assert 50 < num_refused < 300


class TestTooLongForANotebook:
    def test_a_piece_is_refused_before_it_is_rendered(self, monkeypatch):
        monkeypatch.setattr(wav, "render", None)
        with pytest.raises(ValueError) as caught:
            audio.player(note(end=1199.0))
        assert str(caught.value) == (
            "`piece_or_wave_or_path` must be at most 5.7 minutes long to be put into a notebook. "
            "Received: 20.0 minutes. Play a part of it, or write it with `write_wav` and listen "
            "to the file."
        )

    def test_the_limit_is_on_the_size(self):
        samples = np.zeros((3_800_000, 2), np.float32)
        with pytest.raises(ValueError, match="at most 15.6 minutes .* Received: 15.8 minutes"):
            audio.player(np.zeros(15_200_000, np.float32), 16000)
        assert len(audio.player(samples, 16000).wav) == 4 * 3_800_000 + 44 + 32

    def test_a_file(self, tmp_path, monkeypatch):
        path = audio.write_wav(np.zeros(96_000), tmp_path / "x.wav", 8000)
        monkeypatch.setattr(wav, "LARGEST_PLAYER", 96_000)
        with pytest.raises(ValueError, match="at most 0.1 minutes .* Received: 0.2 minutes"):
            audio.player(path)
