"""The notebooks are the scripts; the Korean scripts are the English ones, but for the prose."""

import ast
import importlib.util
import pathlib
import re

import jupytext
import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("builder", ROOT / "tutorials/build_notebooks.py")
builder = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(builder)
SCRIPTS = builder.scripts()
KOREAN = [script for script in SCRIPTS if script.parent.name == "ko"]


def names(scripts):
    return [str(script.relative_to(ROOT / "tutorials")) for script in scripts]


def cells(script):
    return jupytext.read(script, fmt="py:percent").cells


def test_every_tutorial_is_there():
    english = [name[:2] for name in names(SCRIPTS) if "/" not in name]
    assert english == ["00", "01", "02", "03", "04", "05", "06", "07", "08"]
    assert names(KOREAN) == [f"ko/{name}" for name in names(SCRIPTS) if name[:2] in "00 01 02"]


@pytest.mark.parametrize("script", SCRIPTS, ids=names(SCRIPTS))
def test_a_notebook_is_its_script(script):
    """If it fails: `python tutorials/build_notebooks.py`."""
    path = builder.notebook_path(script)
    notebook = nbformat.read(path, as_version=4)
    badge, install, *rest = notebook.cells
    assert [(c.cell_type, c.source) for c in rest] == [
        (c.cell_type, c.source) for c in cells(script)
    ]
    assert not any(c.get("outputs") or c.get("execution_count") for c in notebook.cells)
    assert path.relative_to(ROOT).as_posix() in badge.source
    assert install.source.startswith("%pip install")
    nbformat.validate(notebook)


def test_no_notebook_is_left_over():
    built = {builder.notebook_path(script) for script in SCRIPTS}
    assert set((ROOT / "tutorials" / "notebooks").rglob("*.ipynb")) == built


def shows_something(cell):
    """Its last line is a Figure, a player or a page of `km.explain`: a notebook shows those."""
    if cell.cell_type != "code" or not (statements := ast.parse(cell.source).body):
        return False
    last = ast.unparse(statements[-1])
    shown = (
        r"figure|curve|page\.draw\(|figure_of\(|km\.(plots\.|audio\.player\(|explain\.(?!check))"
    )
    return bool(re.match(shown, last.removeprefix("page = ")))


@pytest.mark.parametrize("script", SCRIPTS, ids=names(SCRIPTS))
def test_a_tutorial_shows_something_every_ten_cells(script):
    """A picture or a sound: the last line of a cell is a Figure or a player."""
    since = 0
    for cell in cells(script):
        since = 0 if shows_something(cell) else since + 1
        if "What you have learned" in cell.source or "배운 것" in cell.source:
            return
        assert since <= 10, cell.source
    pytest.fail("it does not say what was learned")


@pytest.mark.parametrize("script", SCRIPTS, ids=names(SCRIPTS))
def test_three_exercises_check_themselves(script):
    sources = [cell.source for cell in cells(script) if cell.cell_type == "code"]
    exercises = [source for source in sources if "km.explain.check(" in source]
    assert len(exercises) == 3
    for number, source in enumerate(exercises, 1):
        assert re.search(rf"km\.explain\.check\(\s*{number},", source)
        assert source.count("...  # your answer") == 1


@pytest.mark.parametrize("script", KOREAN, ids=names(KOREAN))
def test_the_korean_edition_has_the_same_code(script):
    theirs, ours = cells(script), cells(ROOT / "tutorials" / script.name)
    assert [c.cell_type for c in theirs] == [c.cell_type for c in ours]
    for korean, english in zip(theirs, ours, strict=True):
        if english.cell_type == "code":
            assert korean.source == english.source
        else:
            assert korean.source.count("\n#") == english.source.count("\n#")  # headings
            assert any("가" <= letter <= "힣" for letter in korean.source)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["00_layers_by_hand", "03_images_first"])
def test_a_notebook_runs_in_a_kernel_of_its_own(name, tmp_path):
    """But for its first cell, which installs the package in Colab; and it shows what it draws."""
    path = ROOT / "tutorials" / "notebooks" / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    html = "".join(output.get("data", {}).get("text/html", "") for output in outputs)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert html.count("<audio") == sum("km.audio.player(" in source for source in code) > 0
    shown = sum(map(shows_something, notebook.cells[2:])) - html.count("<audio")
    assert kinds.count("image/png") + html.count("<table><caption>") == shown > 5
    printed = "".join(output.get("text", "") for output in outputs)
    assert "done in" in printed
    assert printed.count("no answer yet") == 3
