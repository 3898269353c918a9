"""What README.md shows, runs; what it says, is true."""

import pathlib
import re
import shlex
import shutil

import cpp_loader
import pytest
import rest_server

import keras_music as km
from keras_music.cli import make_parser

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SERVER = "http://127.0.0.1:8501"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def smaller(code):
    """The same code with less training: one epoch of a small network on a handful of pieces."""
    changes = {
        "epochs=10": "epochs=1",
        "units=512": "units=16",
        "generate(prompt, num_tokens=512": "generate(prompt, num_tokens=40",
        "corpus.split(seed=0)": "[part[:3] for part in corpus.split(seed=0)]",
    }
    for old, new in changes.items():
        assert old in README, f"{old!r} is not in README.md any more: training would be long"
        code = code.replace(old, new)
    return code


def test_there_is_code_to_run():
    assert len(BLOCKS) >= 4


def test_the_python_blocks_run_one_after_the_other(tmp_path, monkeypatch):
    """As they stand but for their size; in one namespace, as a reader would in a notebook."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "saved_models").symlink_to(ROOT / "saved_models")
    for piece in km.corpora.bach_chorales()[:30]:
        km.write_midi(piece, tmp_path / "my_midis" / f"{piece.name}.mid")
    namespace = {}
    blocks = [block for block in BLOCKS if SERVER not in block]
    for i, block in enumerate(blocks):
        exec(compile(smaller(block), "README.md", "exec"), namespace)
        if i == 0:  # a reader's first piece should be one
            assert len(km.read_midi("out/new.mid")) > 100
            assert (tmp_path / "out" / "new.wav").stat().st_size > 1_000_000
    assert (tmp_path / "out" / "bach" / "1" / "saved_model.pb").is_file()
    assert f"\n```\n{namespace['page'].text}\n```\n" in README  # as it is shown there
    try:
        cpp_loader.library_paths()
    except ImportError as error:
        pytest.skip(f"The server's stand-in cannot run: {error}")
    shutil.copy("out/new.mid", "new.mid")  # the curl line is run in test_deploy
    with rest_server.serve({"bach": ROOT / "saved_models" / "chorales"}) as url:
        for block in BLOCKS:
            if SERVER in block:
                exec(compile(block.replace(SERVER, url), "README.md", "exec"), namespace)
    prompt, served = km.read_midi("out/new.mid").crop(6.0), km.read_midi("out/served.mid")
    assert served.duration > prompt.duration
    assert served.notes["pitch"][:20].tolist() == prompt.notes["pitch"][:20].tolist()


def test_the_command_lines_are_understood():
    lines = re.findall(r"^keras-music .+", README, re.MULTILINE)
    assert [line.split()[1] for line in lines] == ["train", "generate", "play"]
    for line in lines:
        make_parser().parse_args(shlex.split(line)[1:])


def test_the_page_on_tokenizers_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "tokenizers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 5
    namespace = {}
    for block in blocks:
        exec(compile(block, "docs/tokenizers.md", "exec"), namespace)


def test_the_korean_readme_follows():
    """The same code, the same links, as many headings, list items and rows of tables."""
    korean = (ROOT / "README.ko.md").read_text(encoding="utf-8")
    blocks = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    assert blocks.findall(korean) == blocks.findall(README)
    korean, english = blocks.sub("", korean), blocks.sub("", README)
    for pattern in (r"\]\([^)]+\)", r"^#+ ", r"^- ", r"^\|(?=.)"):
        found = re.findall(pattern, korean, re.MULTILINE)
        assert found == re.findall(pattern, english, re.MULTILINE)
    assert sorted(re.findall(r"`[^`]+`", korean)) == sorted(re.findall(r"`[^`]+`", english))
    assert re.search("[가-힣]{2}", korean)


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_the_test_command_is_marked_for_ci():
    assert re.search(r"<!-- test command -->\n+```(bash|sh)?\n.*pytest", README)
