"""How many examples the tests with generated input try.

`SMSTESTS_EXAMPLES` is a percentage of the usual number: `make test-fast` tries few of them, and
1000 searches ten times as long.
"""

from __future__ import annotations

import os

PERCENT = int(os.environ.get("SMSTESTS_EXAMPLES", "100"))


def examples(usual: int) -> int:
    """Return how many examples to try if `usual` is the number of a whole run.

    They are two at least, because the first one is the simplest input.
    """
    return max(2, usual * PERCENT // 100)
