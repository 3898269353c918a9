"""A progress bar for who watches, and none for whom there is nobody.

Reading ten thousand files takes minutes, and a bar says how many are left. It is drawn on standard
error, and only if that is a terminal: in a file it would be garbage. Some programs have no standard
error at all (`2>&-`, pythonw, a daemon), and Python says so by `sys.stderr is None`; tqdm does not
expect that.

Conventions: a bar goes away when its work is done.

Reference: tqdm, https://tqdm.github.io
"""

from __future__ import annotations

import sys

from tqdm import tqdm


def progress_bar(items=None, **settings):
    """A `tqdm` around these items, or to be updated by hand; it is drawn on a terminal only.

    >>> list(progress_bar("ab", desc="Reading", unit="file"))
    ['a', 'b']
    """
    is_nowhere = True if sys.stderr is None else None  # None: tqdm looks for a terminal
    return tqdm(items, disable=is_nowhere, leave=False, **settings)
