"""The report of a corpus: a table with a row a file, and what is to be said of all of them.

Ten thousand rows are not read by anybody. What one wants to know first is how much music there is,
how much was left out and for which reasons, and what the files that were kept have in common that a
model should not learn. `Report.summary` counts that.

Conventions: reasons and warnings begin with what they have in common with others; what is special
stands behind a colon or in brackets, and is left out here.

What this file does not do: it opens no file. It is a `pandas.DataFrame`, and all that works with
one works with it.
"""

from __future__ import annotations

import re

import pandas as pd

SECONDS_PER_HOUR = 3600.0
MOST_PROGRAMS = 10  # that `summary` names


class Report(pd.DataFrame):
    """A table with a row a file; see `Corpus.report` for its columns.

    What pandas makes of a report (a selection, a sorted copy) is a report, too.

    Example:
      >>> report = Report([
      ...     {"name": "a.mid", "notes": 9, "seconds": 1.8, "kept": True},
      ...     {"name": "b.mid", "kept": False, "reason": "it is damaged: ..."},
      ... ])
      >>> report.summary()
                              number
      files    kept                1
               left out            1
      left out it is damaged       1
      music    notes               9
               hours             0.0
    """

    @property
    def _constructor(self):
        return Report

    def summary(self) -> pd.DataFrame:
        """Counts what is in the report.

        Returns:
          A table with one column, `number`, and two levels of names: "files" (kept, left out, and
          the kept ones that are the same music as another one), "left out" (the reasons), "music"
          (of the kept: notes or characters, hours, tempo), "programs" (files with each, the
          instruments of General MIDI, 0-127) and "warnings" (kept files with each). What the
          report does not know, it leaves out.
        """
        kept = self[self._column("kept", True).astype(bool)]
        dropped = self[~self._column("kept", True).astype(bool)]
        parts = {
            "files": {"kept": len(kept), "left out": len(dropped)},
            "left out": _counts(dropped._column("reason").map(_kind)),
            "music": _music(kept),
            "programs": _programs(kept._column("programs").str.split().explode()),
            "warnings": _counts(kept._column("warnings").str.split("; ").explode().map(_kind)),
        }
        if copies := int((kept._column("same_as") != "").sum()):
            parts["files"]["kept, the same music as another one"] = copies
        numbers = {(part, what): n for part, counts in parts.items() for what, n in counts.items()}
        index = pd.MultiIndex.from_tuples(numbers)
        return pd.DataFrame({"number": list(numbers.values())}, index=index, dtype=object)

    def _column(self, name, missing=""):
        """A column without gaps. A CSV file makes gaps of empty texts, and numbers of "0"."""
        if name not in self:
            return pd.Series(missing, index=self.index)
        values = pd.Series(self[name])
        values = values.where(values.notna(), missing)
        if missing != "":
            return values
        return values.map(lambda value: f"{value:g}" if isinstance(value, float) else str(value))


def _kind(sentence):
    """What a reason or a warning has in common with others.

    >>> _kind("it is damaged: a message is missing"), _kind("zero-length notes (3)")
    ('it is damaged', 'zero-length notes')
    """
    return re.split(r": | \(", sentence, maxsplit=1)[0] if isinstance(sentence, str) else ""


def _counts(values):
    """{value: how often}, the most frequent first; of equal ones in order, 9 before 10."""
    counts = values[values.notna() & (values != "")].value_counts()
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], len(pair[0]), pair[0])))


def _programs(values):
    """How many files have each program; of many programs, only those in most files by name."""
    counts = _counts(values)
    named = dict(sorted(counts.items(), key=lambda pair: -pair[1])[:MOST_PROGRAMS])
    others = values[values.isin(set(counts) - set(named))]
    if len(others):
        named[f"{others.nunique()} others"] = others.index.nunique()
    return named


def _music(kept):
    """How much music there is, and how fast it is."""
    music = {name: int(kept[name].sum()) for name in ("notes", "characters") if name in kept}
    if "seconds" in kept:
        music["hours"] = round(float(kept["seconds"].sum()) / SECONDS_PER_HOUR, 2)
    tempos_bpm = kept["tempo_bpm"].dropna() if "tempo_bpm" in kept else ()
    if len(tempos_bpm):
        for what in ("min", "median", "max"):
            music[f"tempo, {what} (bpm)"] = round(float(getattr(tempos_bpm, what)()), 1)
    return music
