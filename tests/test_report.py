"""The report of a corpus: what is counted, and that it stays a table."""

import io
import pickle

import numpy as np
import pandas as pd
import pytest

from keras_music.corpora import Corpus, Report
from keras_music.midi import Piece

ROWS = [
    {"name": "a.mid", "notes": 100, "seconds": 1800.0, "tempo_bpm": 120.0, "programs": "0 drums"},
    {"name": "b.mid", "notes": 50, "seconds": 1800.0, "tempo_bpm": 90.0, "programs": "0 33"}
    | {"warnings": "overlapping notes of one pitch (3); zero-length notes (1)", "same_as": "a.mid"},
    {"name": "c.mid", "notes": 7, "seconds": 360.0, "tempo_bpm": 100.0, "programs": "33"}
    | {"warnings": "overlapping notes of one pitch (1)"},
    {"name": "d.mid", "kept": False, "reason": "it is damaged: its header has a wrong length"},
    {"name": "e.mid", "kept": False, "reason": "it is damaged: a message holds a number over 127"},
    {"name": "f.mid", "kept": False, "reason": "it is empty (0 bytes)"},
]
DEFAULTS = {"notes": 0, "seconds": 0.0, "tempo_bpm": np.nan, "programs": "", "kept": True}
DEFAULTS |= {"reason": "", "same_as": "", "warnings": ""}
NUMBERS = {
    ("files", "kept"): 3,
    ("files", "left out"): 3,
    ("files", "kept, the same music as another one"): 1,
    ("left out", "it is damaged"): 2,
    ("left out", "it is empty"): 1,
    ("music", "notes"): 157,
    ("music", "hours"): 1.1,
    ("music", "tempo, min (bpm)"): 90.0,
    ("music", "tempo, median (bpm)"): 100.0,
    ("music", "tempo, max (bpm)"): 120.0,
    ("programs", "0"): 2,
    ("programs", "33"): 2,
    ("programs", "drums"): 1,
    ("warnings", "overlapping notes of one pitch"): 2,
    ("warnings", "zero-length notes"): 1,
}


@pytest.fixture
def report():
    return Report([DEFAULTS | row for row in ROWS])


def numbers(report):
    return report.summary()["number"].to_dict()


class TestSummary:
    def test_it_counts(self, report):
        assert numbers(report) == NUMBERS
        assert list(numbers(report)) == list(NUMBERS)

    def test_it_reads_well(self, report):
        assert str(report.summary()).splitlines()[:5] == [
            "                                             number",
            "files    kept                                     3",
            "         left out                                 3",
            "         kept, the same music as another one      1",
            "left out it is damaged                            2",
        ]

    def test_of_a_selection(self, report):
        assert numbers(report[~report["kept"]])["files", "left out"] == 3
        assert numbers(report[report["kept"]])["music", "notes"] == 157
        assert numbers(report.query("notes > 60"))["files", "kept"] == 1

    def test_of_nothing(self, report):
        assert numbers(report[:0])["files", "kept"] == 0
        assert numbers(Report())["files", "kept"] == 0

    def test_what_was_left_out_is_no_music(self):
        """Ten hours that cannot be learned from are not hours of the corpus; nor its warnings."""
        rows = [
            {"name": "a", "notes": 9, "seconds": 3600.0, "warnings": "zero-length notes (1)"},
            {"name": "b", "notes": 5, "seconds": 36000.0, "warnings": "zero-length notes (2)"},
        ]
        found = numbers(Report([DEFAULTS | rows[0], DEFAULTS | rows[1] | {"kept": False}]))
        assert (found["music", "notes"], found["music", "hours"]) == (9, 1.0)
        assert found["warnings", "zero-length notes"] == 1

    def test_rare_programs_are_counted_by_file(self):
        """Ten programs in two files each have names; one file has both of the other two."""
        common = " ".join(map(str, range(10)))
        rows = [{"name": "a", "programs": f"{common} 90 91"}, {"name": "b", "programs": common}]
        found = Report([DEFAULTS | row for row in rows]).summary()["number"]["programs"]
        assert found.to_dict() == dict.fromkeys(map(str, range(10)), 2) | {"2 others": 1}

    def test_of_texts(self):
        corpus = Corpus(["do re mi", "fa", "fa"], dropped=[{"name": "x", "reason": "it is a joke"}])
        assert numbers(corpus.report) == {
            ("files", "kept"): 3,
            ("files", "left out"): 1,
            ("files", "kept, the same music as another one"): 1,
            ("left out", "it is a joke"): 1,
            ("music", "characters"): 12,
        }

    def test_of_a_corpus_without_more_columns(self):
        corpus = Corpus([Piece([{"pitch": 60, "start": 0, "end": 36}])])
        found = numbers(corpus.report)
        assert found == {
            **{("files", "kept"): 1, ("files", "left out"): 0},
            **{("music", "notes"): 1, ("music", "hours"): 0.01},
        }


class TestTable:
    def test_what_pandas_makes_of_it_is_a_report(self, report):
        for other in (
            report.copy(),
            report.sort_values("notes"),
            report[["name", "notes"]],
            report[report["kept"]],
            report.drop(columns="name"),
            report.assign(more=1),
            pd.concat([report, report]),
            pickle.loads(pickle.dumps(report)),
        ):
            assert type(other) is Report
            assert ("files", "kept") in numbers(other)

    def test_by_way_of_a_csv_file_it_says_the_same(self, report):
        """Empty texts come back as gaps, "0" as a number."""
        again = Report(pd.read_csv(io.StringIO(report.to_csv(index=False))))
        assert numbers(again) == NUMBERS

    def test_by_way_of_json_it_says_the_same(self, report):
        again = Report(pd.read_json(io.StringIO(report.to_json(orient="records"))))
        assert numbers(again) == NUMBERS

    @pytest.mark.parametrize("dropped", [[], [DEFAULTS | {"name": "c", "kept": False}]])
    def test_programs_that_come_back_as_numbers(self, dropped):
        rows = [
            DEFAULTS | {"name": "a", "programs": "0"},
            DEFAULTS | {"name": "b", "programs": "5"},
        ]
        again = Report(pd.read_csv(io.StringIO(Report(rows + dropped).to_csv(index=False))))
        assert numbers(again)["programs", "0"] == numbers(again)["programs", "5"] == 1
