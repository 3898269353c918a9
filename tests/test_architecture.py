"""Imports run one way only, in the order in which data flows; files and functions stay small."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "keras_music").rglob("*.py"))

# Each part may import the ones named here, and itself.
MAY_IMPORT = {
    "__init__": set(),
    "arguments": set(),
    "disk": set(),
    "midi": {"arguments", "disk"},
    "messages": set(),
    "corpora": {"midi", "arguments", "disk"},
    "tokenizers": {"midi", "arguments", "disk"},
    "augment": {"arguments"},
    "records": {"messages", "corpora"},
    "preparation": {"arguments", "corpora", "tokenizers", "records"},
    "data": {"arguments", "records"},
    "ingestion": {"arguments", "disk", "corpora", "preparation", "records"},
    "beam": {"arguments", "corpora", "preparation", "tokenizers", "records"},
    "models": {"arguments"},
    "generation": {"arguments"},
    "evaluation": {"data"},
    "serving": {"midi", "tokenizers", "generation", "arguments", "messages"},
    "audio": {"midi", "arguments", "disk"},
    "plots": {"midi", "disk"},
    "explain": {"arguments", "plots"},
    "training": {
        "arguments",
        "corpora",
        "data",
        "disk",
        "evaluation",
        "generation",
        "midi",
        "models",
        "plots",
        "records",
        "tokenizers",
    },
}
MAY_IMPORT["cli"] = MAY_IMPORT.keys() - {"beam"}
MAY_IMPORT["__main__"] = {"cli"}
WITHOUT_TENSORFLOW = {"midi", "corpora", "tokenizers", "audio", "plots", "explain", "Client"}
WITHOUT_TENSORFLOW |= {"records", "preparation", "ingestion"}


def part_of(path):
    return path.relative_to(ROOT / "keras_music").with_suffix("").parts[0]


def imported(tree):
    """The dotted names that a file imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"relative import in line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    part = part_of(path)
    names = [name.split(".") for name in imported(ast.parse(path.read_text(encoding="utf-8")))]
    used = {name[1] for name in names if name[0] == "keras_music" and name[1:]} - {"__version__"}
    assert used <= MAY_IMPORT[part] | {part}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_is_a_chapter(path):
    """A docstring, at most 400 lines with it, functions of at most 60 code lines."""
    source = path.read_text(encoding="utf-8")
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    assert source.count("\n") <= 400
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"assert in line {node.lineno}"
        if isinstance(node, ast.FunctionDef):
            docstring = ast.get_docstring(node, clean=False) or ""
            assert node.end_lineno - node.lineno - docstring.count("\n") <= 60, node.name


def run(code):
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_import_alone_does_not_load_tensorflow():
    code = "import sys, keras_music; print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    assert run(code) == "False False\n"


@pytest.mark.parametrize("part", sorted(WITHOUT_TENSORFLOW))
def test_notes_and_tokens_do_not_need_tensorflow(part):
    code = f"import sys, keras_music; keras_music.{part}; print('tensorflow' in sys.modules)"
    assert run(code) == "False\n"


def test_every_public_name_is_there():
    import keras_music as km

    for name in km.__all__:
        assert getattr(km, name) is not None
    assert set(km.__all__) <= set(dir(km))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = km.nothing


def test_the_version_is_that_of_the_changelog():
    import keras_music as km

    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\d+\.\d+\.\d+)", changelog, re.MULTILINE)[1] == km.__version__
