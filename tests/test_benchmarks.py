"""The benchmarks run and print their ratios; what the ratios are depends on the machine."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_generation():
    script = ROOT / "benchmarks" / "generation.py"
    command = [sys.executable, script, "--num-tokens", "8", "--rounds", "1", "--batches", "1", "3"]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = re.findall(r"^ +(\d+) +\d+ +(\d+\.\d\d) +(?:-|\d+\.\d\d)$", printed, re.MULTILINE)
    assert [batch for batch, _ in rows] == ["1", "3"]
    assert all(float(ratio) > 0 for _, ratio in rows)
    assert re.search(r"with top_k / without: \d+\.\d\d\n512 tokens.*: \d+\.\d\d\n$", printed)
