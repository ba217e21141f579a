"""Mount the same attacks on the peers and on flask_smsverify, and print one table.

::

    python tests/peers/run.py                    # all; about a quarter of an hour, mostly waiting
    python tests/peers/run.py --write            # and put the table into docs/peers.md
    python tests/peers/run.py django-allauth     # one package

The peers are installed into a virtual environment in a temporary directory, from whichever package
registry pip is set up for; flask_smsverify runs in the project's own environment. Nothing stays.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "peers.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

OURS = "flask-smsverify"
SCRIPTS = {
    OURS: "flask_smsverify_attack.py",
    "Flask-Security": "flask_security_attack.py",
    "django-two-factor-auth": "django_two_factor_auth_attack.py",
    "django-phone-verify": "django_phone_verify_attack.py",
    "django-allauth": "django_allauth_attack.py",
}
#: A script that takes longer hangs. The longest wait out pauses of minutes.
LONGEST = 1800

Result = Mapping[str, Any]


# --- running -------------------------------------------------------------------------------------


def install_peers(directory: Path) -> Path:
    """Make a virtual environment with the peers; returns its Python."""
    say("installing the peers")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    python = directory / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", HERE / "requirements.txt"], check=True)
    return python


def own_python() -> Path:
    """The Python that has flask_smsverify: this one, or that of `make test`."""
    if importlib.util.find_spec("flask_smsverify") and importlib.util.find_spec("pytest"):
        return Path(sys.executable)
    return ROOT / ".venv" / "bin" / "python"


def attack(python: Path, package: str) -> Result | None:
    """Run a package's script; what it measured, or None where it failed."""
    say(f"attacking {package}")
    try:
        done = subprocess.run(
            [python, "-W", "ignore", HERE / SCRIPTS[package]],
            stdout=subprocess.PIPE,
            text=True,
            timeout=LONGEST,
            check=True,
            cwd=ROOT,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        say(f"{package}: {error}")
        return None
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def say(text: str) -> None:
    """Tell whoever waits."""
    sys.stderr.write(f"== {text}\n")
    sys.stderr.flush()


# --- the table -----------------------------------------------------------------------------------


def _code(result: Result) -> str:
    length, _, characters, _ = str(result["code"]).split()
    return f"{length} digits" if characters == "10" else f"{length} of {characters} letters"


def _limit(result: Result) -> str:
    if result["slows_down"]:
        return "pauses of 1, 2, 4 … s"
    return "no limit" if result["limit"] is None else str(result["limit"])


def _in_a_row(result: Result, found: Result) -> str:
    # How long it took tells of the machine, but for a limit that is made of time.
    within = f" in {found['seconds']} s" if result["slows_down"] else ""
    return f"{found['compared']:,}{within}"


def _in_parallel(_: Result, found: Result) -> str:
    low, high = min(found["compared"]), max(found["compared"])
    return f"{low}" if low == high else f"{low} to {high}"


def _messages(_: Result, found: Result) -> str:
    return f"{found['messages']}; {found['by']} can ask"


def _again(_: Result, found: Result) -> str:
    return f"{found['accepted']} of {found['times']}"


def _valid_at_once(_: Result, found: Result) -> str:
    return str(found["codes"])


def _resend(_: Result, found: Result) -> str:
    if found["resets"] is None:
        return "no limit to reset"
    if not found["resets"]:
        return "no"
    codes = f"{found['compared']} with {found['codes']} codes"
    return f"yes: {codes}, then none" if found["ended"] else f"yes: {codes}, and on"


def _stolen(_: Result, found: Result) -> str:
    return f"yes, {found['found']}" if found["found"] else "no"


Cell = Callable[[Result, Result], str]

ROWS: tuple[tuple[str, str, Cell], ...] = (
    ("Wrong codes compared, of 1,500 in a row", "in_a_row", _in_a_row),
    ("Wrong codes compared, of 60 at once (5 times)", "in_parallel", _in_parallel),
    ("Messages sent for 200 requests in a row, to one number", "messages", _messages),
    ("The same right code accepted", "again", _again),
    ("Codes that are right at once", "valid_at_once", _valid_at_once),
    ("A new code resets the limit", "resend", _resend),
    ("The code can be read in a stolen database", "stolen", _stolen),
)


def table(results: Mapping[str, Result | None]) -> str:
    """The results as a Markdown table, a column for each package."""

    def cell(result: Result | None, name: str, write: Cell) -> str:
        if result is None:
            return "failed"
        found = result["measured"][name]
        return f"n/a: {found['n/a']}" if "n/a" in found else write(result, found)

    def facts(write: Callable[[Result], str]) -> list[str]:
        return ["failed" if result is None else write(result) for result in results.values()]

    lines = [
        ["", *results],
        ["---"] * (len(results) + 1),
        ["Version", *facts(lambda result: ", ".join(_versions(result)))],
        ["A code is", *facts(_code)],
        ["Wrong codes it allows", *facts(_limit)],
    ]
    for title, name, write in ROWS:
        lines.append([title, *(cell(result, name, write) for result in results.values())])
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _versions(result: Result) -> list[str]:
    first, *others = result["versions"].items()
    return [first[1], *(f"{name} {number}" for name, number in others)]


def write_into_page(text: str) -> None:
    """Put the table between the marks of the page."""
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n\n{text}\n{END}{tail}")


def main() -> int:
    """Attack what was asked for, print the table; 1 where a script failed."""
    parser = argparse.ArgumentParser(description="the same attacks on each package")
    parser.add_argument("packages", nargs="*", metavar="package", help=", ".join(SCRIPTS))
    parser.add_argument("--write", action="store_true", help="put the table into docs/peers.md")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep all that was measured")
    arguments = parser.parse_args()
    packages = arguments.packages or list(SCRIPTS)
    unknown = set(packages) - set(SCRIPTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(SCRIPTS)}")
    with tempfile.TemporaryDirectory(prefix="smsverify-peers-") as directory:
        theirs = install_peers(Path(directory)) if set(packages) - {OURS} else None
        results = {
            package: attack(theirs if theirs and package != OURS else own_python(), package)
            for package in packages
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1) + "\n")
    text = table(results)
    sys.stdout.write(text)
    if arguments.write:
        write_into_page(text)
    return 1 if None in results.values() else 0


if __name__ == "__main__":
    sys.exit(main())
