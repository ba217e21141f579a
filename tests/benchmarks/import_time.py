"""How much longer an app takes to start for importing the package.

Run it by hand: `python tests/benchmarks/import_time.py`. Times differ from machine to machine, so
what counts is the ratio to what such an app imports anyway.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

BASE = "flask, flask_sqlalchemy, flask_login, flask_wtf, httpx"

#: What is measured after the base, each in a new Python.
MEASURED = {
    "flask_smsverify": "import flask_smsverify",
    "and raygan": "import flask_smsverify, flask_smsverify.senders.raygan",
    "and all five gateways": "import flask_smsverify; from flask_smsverify.senders import "
    "raygan, wikipayam, melipayamak, asanak, smsir",
    "and zeep, as at the first SOAP call": "import flask_smsverify, zeep",
}


def seconds(statement: str) -> tuple[float, float]:
    """What the base took, and what the statement took after it."""
    script = (
        "from time import perf_counter as now\n"
        f"began = now(); import {BASE}\n"
        f"there = now(); {statement}\n"
        "print(there - began, now() - there)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    base, more = map(float, done.stdout.split())
    return base, more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9, help="the best of so many counts")
    runs = parser.parse_args().runs
    for name, statement in MEASURED.items():
        times = [seconds(statement) for _ in range(runs)]
        base, more = min(base for base, _ in times), min(more for _, more in times)
        print(  # noqa: T201 -- it is a script
            f"{name:<38}{more * 1000:7.0f} ms on top of {base * 1000:.0f} ms: {more / base:.2f}"
        )


if __name__ == "__main__":
    main()
