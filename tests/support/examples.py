"""The number of examples in tests with generated input.

`SMSTESTS_EXAMPLES` is a percentage of the usual number. `make test-fast` sets a small one, and 1000
means ten times as many examples.
"""

from __future__ import annotations

import os

PERCENT = int(os.environ.get("SMSTESTS_EXAMPLES", "100"))


def examples(usual: int) -> int:
    """Return the number of examples, which is `usual` in a full run.

    It is at least 2, because the first example is always the simplest input.
    """
    return max(2, usual * PERCENT // 100)
