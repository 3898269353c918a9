"""MAESTRO: the official split, from a download, a zip or a folder; never from the network here."""

import csv
import hashlib
import importlib
import io
import zipfile

import numpy as np
import pytest
from file_server import serve

from keras_music.corpora.maestro import maestro
from keras_music.midi import Piece, midi_bytes

# The package `corpora` has a function of the same name.
module = importlib.import_module("keras_music.corpora.maestro")

COLUMNS = (
    "canonical_composer",
    "canonical_title",
    "split",
    "year",
    "midi_filename",
    "audio_filename",
    "duration",
)
ROWS = [
    ("Alban Berg", "Sonata Op. 1", "train", 2018, "2018/Berg--1"),
    ("Franz Liszt", 'Étude No. 3, "La Campanella"', "validation", 2004, "2004/Liszt,1"),
    ("Franz Liszt", "Sonata in B Minor", "test", 2004, "2004/Liszt_2"),
    ("Alban Berg", "Sonata Op. 1", "train", 2009, "2009/Berg--2"),
]


def performance(seed):
    """Twenty notes of a pianist who is not on any grid."""
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.uniform(0.05, 0.5, 20))
    pitch, velocity = rng.integers(21, 109, 20), rng.integers(20, 120, 20)
    return Piece({"pitch": pitch, "velocity": velocity, "start": start, "end": start + 0.3})


def table(rows=ROWS):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for *about, stem in rows:
        writer.writerow([*about, f"{stem}.midi", f"{stem}.wav", 9.5])
    return text.getvalue().encode()


def files(rows=ROWS):
    """What is in the zip, by name."""
    found = {f"{stem}.midi": midi_bytes(performance(i)) for i, (*_, stem) in enumerate(rows)}
    found |= {"maestro-v3.0.0.csv": table(rows), "LICENSE": b"CC BY-NC-SA 4.0", "README": b"..."}
    return {f"maestro-v3.0.0/{name}": data for name, data in found.items()}


def zipped(content):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, member in content.items():
            archive.writestr(name, member)
    return data.getvalue()


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "by hand.zip"
    path.write_bytes(zipped(files()))
    return path


@pytest.fixture
def folder(tmp_path):
    for name, data in files().items():
        (tmp_path / "unpacked" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "unpacked" / name).write_bytes(data)
    return tmp_path / "unpacked"


@pytest.fixture
def server(monkeypatch, own_cache):
    content = zipped(files())
    with serve(content) as file_server:
        monkeypatch.setattr(module, "MAESTRO_URL", file_server.url)
        monkeypatch.setattr(module, "MAESTRO_SHA256", hashlib.sha256(content).hexdigest())
        yield file_server


def check(corpus):
    assert corpus.name == "maestro"
    assert corpus.names == tuple(sorted(f"{stem}.midi" for *_, stem in ROWS))
    train, valid, test = corpus.split(seed=3)
    assert train.names == ("2009/Berg--2.midi", "2018/Berg--1.midi")
    assert (valid.names, test.names) == (("2004/Liszt,1.midi",), ("2004/Liszt_2.midi",))
    np.testing.assert_array_equal(train[1].notes["pitch"], performance(0).notes["pitch"])


def test_the_download(server, own_cache):
    check(maestro())
    assert (own_cache / "maestro-v3.0.0-midi.zip").read_bytes() == server.content
    check(maestro())
    assert len(server.asked) == 1


def test_a_download_that_breaks_off(server, monkeypatch):
    monkeypatch.setattr("keras_music.corpora.download.WAIT_SECONDS", (0.0,) * 4)
    server.plans = [{"cut": 1000}, {"cut": 500}, {"status": 503}]
    check(maestro())
    assert server.asked[-1]["Range"] == "bytes=1500-"


def test_the_zip_put_into_its_place_by_hand(server, own_cache, archive):
    own_cache.mkdir()
    (own_cache / "maestro-v3.0.0-midi.zip").write_bytes(archive.read_bytes())
    check(maestro())
    assert not server.asked


def test_the_zip_or_folder_by_its_path(server, archive, folder):
    check(maestro(archive))
    check(maestro(str(folder)))
    check(maestro(folder / "maestro-v3.0.0", num_workers=1))
    assert not server.asked


def test_offline(server, own_cache):
    server.plans = [{"status": 404}]
    with pytest.raises(ConnectionError) as error:
        maestro()
    assert str(error.value) == (
        f"MAESTRO could not be downloaded: {server.host} answered 404 Not Found; try again to go "
        f"on, or download {server.url} by hand to {own_cache / 'maestro-v3.0.0-midi.zip'} "
        "(or elsewhere, and give its path: maestro(path=...))."
    )


def test_what_is_published():
    """The address and the checksum of the page of MAESTRO; a change of them is no accident."""
    assert module.MAESTRO_URL.endswith("/maestro/v3.0.0/maestro-v3.0.0-midi.zip")
    assert module.MAESTRO_SHA256.startswith("70470ee253295c8d")


def test_the_report_knows_composer_and_title(archive):
    report = maestro(archive).report.set_index("name")
    row = report.loc["2004/Liszt,1.midi"]
    assert (row["composer"], row["title"]) == ("Franz Liszt", 'Étude No. 3, "La Campanella"')
    assert (row["year"], row["split"], row["kept"]) == (2004, "valid", True)
    assert row["notes"] == 20


def test_what_is_not_in_both_is_reported(folder):
    root = folder / "maestro-v3.0.0"
    (root / "2004" / "Liszt_2.midi").unlink()
    (root / "2018" / "Berg--1.midi").write_bytes(b"")
    (root / "2018" / "mine.mid").write_bytes(midi_bytes(performance(9)))
    corpus = maestro(folder)
    assert corpus.names == ("2004/Liszt,1.midi", "2009/Berg--2.midi")
    dropped = corpus.report[~corpus.report["kept"]].set_index("name")
    assert dropped["reason"].to_dict() == {
        "2018/Berg--1.midi": "it is empty (0 bytes)",
        "2018/mine.mid": "MAESTRO's table does not name it, so it has no side of the split",
        "2004/Liszt_2.midi": "MAESTRO's table names it, and it is not there",
    }
    assert dropped["split"].fillna("").tolist() == ["train", "", "test"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"a.mid": b""}, "it holds no table maestro-v"),
        (
            {"maestro-v3.0.0/maestro-v3.0.0.csv": b"a,b\n1,2\n"},
            "its table knows no 'midi_filename'",
        ),
        (files([("B", "C", "dev", 2018, "d")]), "its table knows no 'dev'"),
        (
            files() | {"maestro-v3.0.0/maestro-v3.0.0.csv": table() + b"Alban Berg,Sonata"},
            "invalid literal for int",
        ),
        ({"maestro-v3.csv": b"," * (2**24 + 1)}, "its table has more than 16 MB"),
    ],
)
def test_what_is_not_maestro(tmp_path, content, reason):
    path = tmp_path / "file.zip"
    path.write_bytes(zipped(content))
    with pytest.raises(ValueError, match=rf"`path` must be MAESTRO's zip .*\({reason}.*Leave"):
        maestro(path)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (6, b"\x01", "its table cannot be read: .*password"),
        (8, b"\x63", "its table cannot be read: That compression method"),
        (8, b"\x08", "its table cannot be read: Error -3"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, place, value, reason):
    """Bytes of a zip's two headers: it is locked, packed in an unknown way, or damaged."""
    data = bytearray(zipped({"maestro-v3.0.0.csv": table()}))
    for header in (data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02") + 2):
        data[header + place : header + place + 1] = value
    (tmp_path / "file.zip").write_bytes(data)
    with pytest.raises(ValueError, match=rf"`path` must be MAESTRO's zip .*\({reason}.*Leave"):
        maestro(tmp_path / "file.zip")


@pytest.mark.parametrize("path", ["", 5, "~nobody-of-this-name/x"])
def test_what_is_no_path(path):
    with pytest.raises(ValueError, match="`path` must be the path of a zip or a folder. Received"):
        maestro(path)


def test_a_path_that_leads_nowhere(tmp_path):
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(ValueError, match="`path` must be MAESTRO's zip .*not a zip file"):
        maestro(tmp_path / "text.zip")
    with pytest.raises(FileNotFoundError, match="There is no file or folder .*nothing"):
        maestro(tmp_path / "nothing")


def test_num_workers_reach_the_reading(archive, monkeypatch):
    """On a machine that is shared, one process was asked for."""
    asked, read = [], module.midi_folder

    def watched(path, *, num_workers, **more):
        asked.append(num_workers)
        return read(path, num_workers=num_workers, **more)

    monkeypatch.setattr(module, "midi_folder", watched)
    check(maestro(archive, num_workers=1))
    assert asked == [1]


def test_what_a_macintosh_and_a_spreadsheet_add(tmp_path):
    """A note on each file, here before the table itself; a mark at the table's beginning."""
    content = {"__MACOSX/maestro-v3.0.0/._maestro-v3.0.0.csv": b"\0\5\26\7"} | files()
    content["maestro-v3.0.0/maestro-v3.0.0.csv"] = b"\xef\xbb\xbf" + table()
    (tmp_path / "packed again.zip").write_bytes(zipped(content))
    check(maestro(tmp_path / "packed again.zip"))


def test_what_was_read_of_a_file_stays_in_its_row(folder):
    """Behind a file that is left out, each row would tell of the file before it."""
    root = folder / "maestro-v3.0.0"
    notes = performance(9).notes.assign(program=40)
    (root / "2003").mkdir()
    (root / "2003" / "mine.mid").write_bytes(midi_bytes(Piece(notes)))
    report = maestro(folder).report.set_index("name")
    assert report["programs"].to_dict() == {
        **{f"{stem}.midi": "0" for *_, stem in ROWS},
        "2003/mine.mid": "40",
    }
