"""The benchmarks run and print their ratios; what the ratios are depends on the machine."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
RATIO = r"(-|\d+\.\d\d)"


def printed(name, *arguments):
    command = [sys.executable, ROOT / "benchmarks" / f"{name}.py", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
def test_generation():
    lines = printed("generation", "--num-tokens", "8", "--rounds", "1", "--batches", "1", "3")
    rows = re.findall(r"^ +(\d+) +\d+ +(\d+\.\d\d) +(?:-|\d+\.\d\d)$", lines, re.MULTILINE)
    assert [batch for batch, _ in rows] == ["1", "3"]
    assert all(float(ratio) > 0 for _, ratio in rows)
    assert re.search(r"with top_k / without: \d+\.\d\d\n512 tokens.*: \d+\.\d\d\n", lines)
    pattern = r"^batch (\d+), (.*), beside free: grammar \d+\.\d\d, wishes \d+\.\d\d$"
    masks = re.findall(pattern, lines, re.MULTILINE)
    names = ["performance", "with programs", "remi"]
    assert masks == [(batch, name) for name in names for batch in ("1", "3")]


@pytest.mark.slow
def test_validity():
    lines = printed("validity", "--sequences", "40").splitlines()[2:]
    first = ["Performance", "Performance,", "REMI", "REMI,", "Note", "Chorale"]
    assert [line.split()[0] for line in lines] == first
    counts = [re.findall(r"(\d+) -> (\d+)", line) for line in lines]
    assert all(len(row) == 7 for row in counts)
    assert all(after == "0" for row in counts for _, after in row)
    assert all(int(row[5][0]) > 20 for row in counts)  # most are invalid without the grammar


@pytest.mark.slow
def test_encoding():
    lines = printed("encoding", "--num-pieces", "2", "--rounds", "1")
    pattern = rf"^(\w+) +(-|\w+) +\d+ +{RATIO} +{RATIO} +\d+ +{RATIO}$"
    rows = {row[0]: row[1:] for row in re.findall(pattern, lines, re.MULTILINE)}
    beside = {name: row[0] for name, row in rows.items()}
    assert beside == {"performance": "MIDILike", "remi": "REMI", "note": "TSD", "chorale": "-"}
    assert rows.pop("chorale")[1:] == ("-", "-", "-")
    assert all(float(ratio) > 0 for row in rows.values() for ratio in row[1:])


@pytest.mark.slow
def test_merges():
    few = "--vocabularies", "400", "--units", "4", "--seconds", "0", "--num-pieces", "12"
    lines = printed("merges", *few)
    rows = re.findall(r"^ +(\d+) +0 +(\d\.\d\d) +1 +1 +(\d+\.\d+) +(\d+\.\d+)$", lines, re.M)
    assert [row[0] for row in rows] == ["391", "400"]
    assert float(rows[1][1]) < float(rows[0][1])  # merged: fewer tokens a note
    assert re.search(r"after 1 epochs:\n +391 \d+\.\d+\n +400 \d+\.\d+\n$", lines)


@pytest.mark.slow
def test_ingest():
    lines = printed("ingest", "--num-files", "6", "--rounds", "1")
    rows = re.findall(r"^(\w.+?) +(\d+) +(\d+\.\d\d)$", lines, re.MULTILINE)
    sides = ["midi_to_notes", "read + note", "read + performance", "read + remi", "read_midi"]
    sides += ["only parsed", "only arrays"]
    assert [row[0] for row in rows] == sides
    assert lines.startswith("6 files of ") and rows[0][2] == "1.00"
    ratios = [float(row[2]) for row in rows]
    assert min(ratios[1:]) > 1 and ratios[-2] == max(ratios)
    lines = printed("ingest", "--memory", "--counts", "20", "40")
    assert re.search(r"^ +20 +\d+ +\d+\n +40 +\d+ +\d+\nparent, 40 files / 20: \d", lines, re.M)
