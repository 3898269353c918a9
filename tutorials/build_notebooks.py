"""Builds the notebooks from the scripts: python tutorials/build_notebooks.py

The script is the source and the notebook is built, so that the two never differ: the same cells,
without outputs, behind a badge that opens it in Colab and a cell that installs the package there.
`tests/test_notebooks.py` says when they have to be built again. It needs jupytext, which the extra
`test` brings.
"""

import pathlib

import jupytext
import nbformat

TUTORIALS = pathlib.Path(__file__).parent
REPOSITORY = "keras-music/keras_music"  # on GitHub; Colab opens the notebooks from there
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
INSTALL = f'%pip install -q "keras_music[tutorials] @ git+https://github.com/{REPOSITORY}"'


def scripts():
    """All tutorials, those in Korean too."""
    return sorted(TUTORIALS.glob("[0-9]*.py")) + sorted(TUTORIALS.glob("ko/[0-9]*.py"))


def notebook_path(script):
    """Where a notebook lies: tutorials/ko/00_x.py -> tutorials/notebooks/ko/00_x.ipynb."""
    return TUTORIALS / "notebooks" / script.relative_to(TUTORIALS).with_suffix(".ipynb")


def build(script):
    """The notebook of a script, as text: the badge, the installation, then the script's cells."""
    notebook = jupytext.read(script, fmt="py:percent")
    address = notebook_path(script).relative_to(TUTORIALS.parent).as_posix()
    link = f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/{address}"
    badge = nbformat.v4.new_markdown_cell(f"[![Open in Colab]({BADGE})]({link})")
    install = nbformat.v4.new_code_cell(INSTALL)
    install.metadata["tags"] = ["skip-execution"]  # for nbclient, where the package is installed
    notebook.cells[:0] = [badge, install]
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # the same in every build
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook.nbformat_minor = 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def main():
    for script in scripts():
        path = notebook_path(script)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(build(script), encoding="utf-8")
        print(path.relative_to(TUTORIALS.parent))


if __name__ == "__main__":
    main()
