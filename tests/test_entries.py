"""What is found in folders and zips as people have them, and what is said of the rest."""

import collections
import os
import pathlib
import stat
import struct
import zipfile

import pytest

from keras_music.corpora import entries as module
from keras_music.corpora.entries import Unreadable, entries
from keras_music.corpora.reader import MAX_BYTES

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def fill(folder, *names):
    """Makes files, each with its own name in it."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")


def names(path, others=None):
    return [entry.name for entry in entries(path, others)]


def loaded(path):
    """{name: bytes, or the reason why there are none}."""
    found = {}
    for name, load in entries(path):
        try:
            found[name] = load()
        except Unreadable as error:
            found[name] = str(error)
    return found


def make_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


class TestFolders:
    def test_files_of_all_midi_suffixes_in_any_case_in_order(self, tmp_path):
        files = ["b.mid", "B.MID", "a/2.midi", "a/1.Kar", "c d/é ü/雪.rmi", "z.smf"]
        fill(tmp_path, *files, "a.txt", "a/cover.JPG", "mid", "notes.mid.bak", "song.mp3")
        others = collections.Counter()
        expected = ["B.MID", "a/1.Kar", "a/2.midi", "b.mid", "c d/é ü/雪.rmi", "z.smf"]
        assert names(tmp_path, others) == names(str(tmp_path)) == expected
        assert others == {".txt": 1, ".jpg": 1, "without suffix": 1, ".bak": 1, ".mp3": 1}
        assert loaded(tmp_path)["c d/é ü/雪.rmi"].decode() == "c d/é ü/雪.rmi"

    def test_a_folder_may_be_named_like_a_file(self, tmp_path):
        fill(tmp_path, "a.mid/b.mid")
        assert names(tmp_path) == ["a.mid/b.mid"]

    def test_what_is_hidden_and_what_only_looks_so(self, tmp_path):
        music = ["...And Justice for All/One.mid", "...Baby One More Time.mid", ".a.mid"]
        fill(tmp_path, *music, "._a.mid", "__MACOSX/._b.mid", "__MACOSX/c.mid", ".git/d.mid")
        fill(tmp_path, ".DS_Store", ".Trash/e.mid")
        others = collections.Counter()
        assert names(tmp_path, others) == music
        assert not others

    def test_an_empty_folder(self, tmp_path):
        assert names(tmp_path) == []

    def test_names_come_before_bytes(self, tmp_path, monkeypatch):
        fill(tmp_path, "a.mid")
        (entry,) = entries(tmp_path)
        (tmp_path / "a.mid").write_bytes(b"new")
        assert entry.load() == b"new"

    def test_a_folder_that_is_deeper_than_python_can_call(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        depth = 1500
        for _ in range(depth):
            os.mkdir("d")
            os.chdir("d")
        pathlib.Path("a.mid").write_bytes(b"deep")
        found = loaded(tmp_path)
        os.remove("a.mid")
        for _ in range(depth):  # pytest cannot
            os.chdir("..")
            os.rmdir("d")
        assert found == {"d/" * depth + "a.mid": b"deep"}


class TestLinks:
    def test_links_are_followed_and_circles_end(self, tmp_path):
        fill(tmp_path / "here", "a.mid", "sub/b.mid")
        fill(tmp_path / "elsewhere", "c.mid")
        (tmp_path / "here" / "link.mid").symlink_to("a.mid")
        (tmp_path / "here" / "more").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "here")
        (tmp_path / "here" / "sub" / "up").symlink_to("..")
        assert names(tmp_path / "here") == ["a.mid", "link.mid", "more/c.mid", "sub/b.mid"]
        assert loaded(tmp_path / "here")["link.mid"] == b"a.mid"

    def test_links_that_lead_nowhere(self, tmp_path):
        (tmp_path / "a.mid").symlink_to("gone")
        (tmp_path / "b.mid").symlink_to("b.mid")
        found = loaded(tmp_path)
        assert found["a.mid"] == "it cannot be opened (No such file or directory)"
        assert found["b.mid"].startswith("it cannot be opened (Too many levels of symbolic links")


class TestFiles:
    @pytest.mark.parametrize("name", ["a.mid", "song", "a.txt"])
    def test_one_file_may_have_any_name(self, tmp_path, name):
        fill(tmp_path, name)
        assert loaded(tmp_path / name) == {name: name.encode()}

    @pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
    def test_one_file_whose_name_no_table_can_hold(self, tmp_path):
        """The report of a folder could hold such a name, that of the file itself could not."""
        path = tmp_path / "caf\udce9\n.mid"
        path.write_bytes(b"music")
        assert loaded(path) == loaded(tmp_path) == {r"caf\udce9\n.mid": b"music"}

    def test_too_large(self, tmp_path):
        for size, name in ((MAX_BYTES, "a.mid"), (MAX_BYTES + 1, "b.mid"), (2**40, "c.mid")):
            with open(tmp_path / name, "wb") as file:
                file.truncate(size)  # zeros that take no place
        found = loaded(tmp_path)
        assert len(found["a.mid"]) == MAX_BYTES
        assert found["b.mid"] == "it is too large (64 MB; the most is 64 MB)"
        assert found["c.mid"] == "it is too large (1,048,576 MB; the most is 64 MB)"

    def test_a_pipe_is_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "a.mid")
        assert loaded(tmp_path) == {"a.mid": "it is no file but a pipe or a device"}
        assert loaded("/dev/zero") == {"zero": "it is no file but a pipe or a device"}

    def test_names_that_no_table_can_hold(self, tmp_path):
        for name in (b"caf\xe9.mid", b"line\nfeed.mid", b"tab\there.mid"):
            try:
                open(os.path.join(os.fsencode(tmp_path), name), "wb").close()
            except OSError:
                pytest.skip("this file system knows UTF-8 only")
        assert names(tmp_path) == [r"caf\udce9.mid", r"line\nfeed.mid", r"tab\there.mid"]

    @pytest.mark.skipif(IS_ROOT, reason="root may read everything")
    def test_without_permission(self, tmp_path):
        fill(tmp_path, "a.mid", "sub/b.mid")
        (tmp_path / "a.mid").chmod(0)
        (tmp_path / "sub").chmod(0)
        assert loaded(tmp_path) == self.FORBIDDEN
        (tmp_path / "sub").chmod(stat.S_IRWXU)

    FORBIDDEN = {
        "a.mid": "it cannot be opened (Permission denied)",
        "sub/": "the folder cannot be opened (Permission denied)",
    }

    def test_without_permission_as_root_would_see_it(self, tmp_path, monkeypatch):
        fill(tmp_path, "a.mid", "sub/b.mid")
        real = os.scandir

        def forbidden(path, *_):
            if str(path).endswith(("a.mid", "sub")):
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr(module.os, "scandir", forbidden)
        monkeypatch.setattr(module, "open", forbidden, raising=False)
        assert loaded(tmp_path) == self.FORBIDDEN

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="^There is no file or folder .*nowhere. Check"):
            entries(tmp_path / "nowhere")

    @pytest.mark.parametrize("path", [None, 3, ["a"], "~nobody-at-all/midi"])
    def test_no_path(self, path):
        with pytest.raises(ValueError, match="^`path` must be the path of a folder, a .zip or a"):
            entries(path)


class TestZips:
    def test_members_are_entries(self, tmp_path):
        members = [
            "b.mid",
            "a/2.MIDI",
            "a/",
            "__MACOSX/._b.mid",
            "a/.git/c.mid",
            "x.mp3",
            "a/._d.mid",
        ]
        path = make_zip(tmp_path / "music.ZIP", [(name, name) for name in members])
        others = collections.Counter()
        assert names(path, others) == ["a/2.MIDI", "b.mid"]
        assert others == {".mp3": 1}
        assert loaded(path) == {"a/2.MIDI": b"a/2.MIDI", "b.mid": b"b.mid"}

    def test_a_zip_may_have_another_name(self, tmp_path):
        path = make_zip(tmp_path / "music.dat", [("a.mid", "a")])
        assert loaded(path) == {"a.mid": b"a"}

    def test_two_members_of_one_name(self, tmp_path):
        with pytest.warns(UserWarning, match="Duplicate name"):
            path = make_zip(tmp_path / "a.zip", [("a.mid", "1"), ("b.mid", "2"), ("a.mid", "3")])
        assert loaded(path) == {"a.mid": b"1", "a.mid (2)": b"3", "b.mid": b"2"}

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_a_damaged_member_costs_this_member(self, tmp_path, method):
        data = bytes(range(256)) * 4
        path = make_zip(tmp_path / "a.zip", [("a.mid", data), ("b.mid", data)], method)
        whole = bytearray(path.read_bytes())
        whole[80:90] = b"\xff" * 10
        path.write_bytes(whole)
        found = loaded(path)
        assert found["a.mid"].startswith("its place in the zip is damaged (")
        assert found["b.mid"] == data

    def test_bombs(self, tmp_path):
        """A megabyte of zeros takes a kilobyte; one member lies about its size."""
        zeros = bytes(MAX_BYTES + 1)
        path = make_zip(tmp_path / "a.zip", [("a.mid", zeros), ("b.mid", zeros), ("c.mid", "c")])
        whole = path.read_bytes()
        place = whole.rindex(b"b.mid") - 46  # its row in the list at the end
        assert struct.unpack_from("<I", whole, place + 24) == (MAX_BYTES + 1,)
        path.write_bytes(whole[: place + 24] + struct.pack("<I", 1000) + whole[place + 28 :])
        assert loaded(path) == {
            "a.mid": "it is too large (64 MB; the most is 64 MB)",
            "b.mid": "its place in the zip is damaged (Bad CRC-32 for file 'b.mid')",
            "c.mid": b"c",
        }

    def test_locked_and_unknown_members(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", [("a.mid", "a"), ("b.mid", "b"), ("c.mid", "c")])
        whole = bytearray(path.read_bytes())
        whole[whole.rindex(b"a.mid") - 46 + 8] |= 1  # encrypted
        whole[whole.rindex(b"b.mid") - 46 + 10] = 9  # deflate64
        whole[whole.index(b"b.mid") - 30 + 8] = 9
        path.write_bytes(whole)
        found = loaded(path)
        assert found["a.mid"] == "it is locked with a password; unpack the zip first"
        assert found["b.mid"].startswith("its place in the zip is damaged (That compression method")
        assert found["c.mid"] == b"c"

    def test_names_of_old_zips(self, tmp_path):
        """Without the flag for UTF-8: from a Macintosh (it is UTF-8 all the same), from DOS."""
        path = make_zip(tmp_path / "a.zip", [("xxxx.mid", "1"), ("yyyy.mid", "2")])
        whole = path.read_bytes().replace(b"xxxx", "éü".encode()).replace(b"yyyy", b"\x81ber")
        path.write_bytes(whole)
        assert names(path) == ["éü.mid", "über.mid"]

    def test_windows_separators_and_ways_out(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", [("../../evil.mid", "1"), ("/abs.mid", "2")])
        assert loaded(path) == {"../../evil.mid": b"1", "/abs.mid": b"2"}  # names, no paths

    @pytest.mark.parametrize("keep", [0, 10, 100])
    def test_a_zip_that_is_cut_short(self, tmp_path, keep):
        path = make_zip(tmp_path / "a.zip", [("a.mid", "a" * 500)], zipfile.ZIP_STORED)
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ValueError, match="a.zip is damaged, or is no zip .*download it again."):
            entries(path)

    def test_a_zip_in_a_folder_is_another_file(self, tmp_path):
        make_zip(tmp_path / "a.zip", [("a.mid", "a")])
        others = collections.Counter()
        assert names(tmp_path, others) == []
        assert others == {".zip": 1}

    def test_the_zip_stays_open_as_long_as_an_entry_is_there(self, tmp_path):
        path = make_zip(tmp_path / "a.zip", [("a.mid", "a"), ("b.mid", "b")])
        assert [entry.load() for entry in list(entries(path))] == [b"a", b"b"]
