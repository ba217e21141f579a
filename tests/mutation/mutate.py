"""Break one condition at a time in a copy of the package, and see that a test notices.

Run by hand: `python tests/mutation/mutate.py [WORD]`; with a word, only the mutants whose file,
source or tests hold it. A mutant is a file, an exact piece of its source, what to put there, and
the tests (as `pytest -k` has them) that must fail then. Source that has changed since makes the
script fail, so that the list stays true.

Left out, because nothing could tell: what `safe_path` asks of `urlsplit`'s scheme and host, which
cannot be there behind its other conditions.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: SQLite alone, and no processes: the conditions are the same everywhere, and this is quick.
QUICK = "not postgresql and not mariadb and not processes"
GUESSING = "tests/verification/test_guessing.py"
DRAINING = "tests/verification/test_draining.py"
IDENTITY = "tests/verification/test_identity.py"
BUDGETS = "tests/verification/test_budgets.py"
LEDGER = "tests/test_ledger.py"
FUZZ = "tests/web/test_web_fuzz.py"
VERIFIER = "flask_smsverify/verification/verifier.py"


class Mutant(NamedTuple):
    file: str
    source: str
    instead: str
    tests: str
    words: str = ""


def in_verifier(source: str, instead: str, tests: str, words: str = "") -> Mutant:
    return Mutant(VERIFIER, source, instead, tests, words)


def in_budgets(source: str, instead: str) -> Mutant:
    return Mutant("flask_smsverify/verification/budgets.py", source, instead, BUDGETS)


def in_delivery(source: str, instead: str) -> Mutant:
    return Mutant("flask_smsverify/delivery.py", source, instead, DRAINING)


def in_targets(source: str, instead: str) -> Mutant:
    return Mutant("flask_smsverify/web/targets.py", source, instead, FUZZ, "target or path")


LOCKED_AT_CHECK = """        if standing is not None and self._is_locked(standing):
            raise AccountLocked("too many failures in a row; staff must unlock this account")
        exhausted"""
LOCKED_AT_START = """            if standing is not None and self._is_locked(standing):
                raise AccountLocked("too many failures in a row; staff must unlock this account")
            current"""

MUTANTS = [
    # the attempt counter, expiry, the lock
    in_verifier("challenge.attempts += 1", "challenge.attempts += 0", GUESSING),
    in_verifier("standing.failures += 1", "standing.failures += 0", GUESSING),
    in_verifier(
        "exhausted = challenge.attempts >= self._rules.max_attempts",
        "exhausted = challenge.attempts > self._rules.max_attempts",
        GUESSING,
    ),
    in_verifier(
        "exhausted = challenge.attempts >= self._rules.max_attempts",
        "exhausted = False",
        GUESSING,
    ),
    in_verifier(LOCKED_AT_CHECK, "        exhausted", GUESSING),
    in_verifier(LOCKED_AT_START, "            current", GUESSING),
    in_verifier(
        "standing.locked_at is not None or standing.failures >= self._rules.consecutive_failures",
        "standing.locked_at is not None",
        GUESSING,
    ),
    in_verifier(
        "if standing and not standing.locked_at and self._is_locked(standing):",
        "if False:",
        GUESSING,
    ),
    in_verifier(
        "if challenge.state == Challenge.EXPIRED or _is_over(challenge, now):",
        "if challenge.state == Challenge.EXPIRED:",
        GUESSING,
    ),
    in_verifier(
        "return now >= challenge.expires_at or", "return now > challenge.expires_at or", GUESSING
    ),
    in_verifier(" or now < challenge.created_at - CLOCK_SKEW", "", GUESSING),
    in_verifier("if challenge.key_id not in self._keyring:", "if False:", GUESSING),
    # using a challenge up
    in_verifier(
        "        if row is None or row.state not in (Challenge.PENDING, Challenge.EXHAUSTED):",
        "        if row is None:",
        GUESSING,
    ),
    in_verifier(
        "                if standing is not None and standing.locked_at is not None:",
        "                if False:",
        GUESSING,
    ),
    in_verifier("self._budgets.put_back(rows, reservation)\n            self", "self", GUESSING),
    in_verifier(
        "            self._budgets.give_back(reservation)\n            raise",
        "            raise",
        GUESSING,
    ),
    in_verifier("if error.written or challenge.own_sent:", "if error.written:", GUESSING),
    in_verifier("if error.written or challenge.own_sent:", "if True:", GUESSING),
    in_verifier("if error.written or challenge.own_sent:", "if False:", GUESSING),
    in_verifier("if challenge.own_sent and codes.same", "if codes.same", GUESSING),
    Mutant(
        "flask_smsverify/verification/codes.py",
        "return hmac.compare_digest(typed.encode(), right.encode())",
        "return typed == right",
        GUESSING,
    ),
    # native codes
    in_verifier(
        "if self._ledger.read(lambda session: self._is_used(session, used, now)):",
        "if False:",
        GUESSING,
    ),
    in_verifier(
        "if self._is_used(session, digest, now):\n                raise NoChallenge",
        "if False:\n                raise NoChallenge",
        GUESSING,
    ),
    in_verifier("return row is not None and row.until > now", "return row is not None", GUESSING),
    in_verifier('challenge.mobile, code.lstrip("0"))', "challenge.mobile, code)", GUESSING),
    in_verifier("if not self._gives_way(session, holder, challenge):", "if False:", GUESSING),
    in_verifier("if closed and holder.user_id and whose ==", "if closed and whose !=", GUESSING),
    in_verifier("if closed and holder.user_id and whose ==", "if False and whose ==", GUESSING),
    # each budget
    in_verifier(
        '[Claim("mobile", mobile, limits["mobile"])]\n        if self',
        "[]\n        if self",
        DRAINING,
    ),
    in_verifier("        if self._is_stranger(subject):", "        if False:", DRAINING),
    in_verifier(
        "return last is not None and last != subject.user_id", "return last is not None", DRAINING
    ),
    in_verifier(
        ".where(Verification.revoked_at.is_(None))\n                .order",
        ".order",
        DRAINING,
    ),
    in_verifier(
        'claims.append(Claim("user", user_id, limits["user"]))\n            item',
        "item",
        f"{DRAINING} {BUDGETS}",
    ),
    in_verifier(
        'claims.append(Claim("mobiles_per_user", user_id, limits["mobiles_per_user"], item))',
        "pass",
        BUDGETS,
    ),
    in_verifier(
        'claims.append(Claim("ip", _network(ip), limits["ip"]))\n        if region',
        "pass\n        if region",
        DRAINING,
    ),
    in_verifier('claims.append(Claim("foreign", "", limits["foreign"]))', "pass", DRAINING),
    in_verifier('claims.append(Claim("site", "", limits["site"]))', "pass", DRAINING),
    in_verifier(
        "claims.append(Pace(self._pace_key(subject), self._rules.resend_delays))", "pass", DRAINING
    ),
    in_verifier(
        'claims = [Claim("failures", f"user {about.user_id}", limits)]', "claims = []", GUESSING
    ),
    in_verifier(
        'claims = [Claim("failures", f"mobile {about.mobile}", limits)]', "claims = []", BUDGETS
    ),
    in_verifier(
        'claims.append(Claim("failures", f"address {_network(ip)}", limits))\n        claims',
        "pass\n        claims",
        BUDGETS,
    ),
    in_verifier(
        'claims.append(Claim("site_failures", "", self._rules.budgets["site_failures"]))',
        "pass",
        BUDGETS,
    ),
    in_verifier("ip_network((int(address), 64)", "ip_network((int(address), 128)", DRAINING),
    in_budgets("        if spent_for:\n", "        if False:\n"),
    in_budgets("        if pause:\n", "        if False:\n"),
    in_budgets(
        "if _used(live.values()) < limit.amount:", "if _used(live.values()) <= limit.amount:"
    ),
    in_budgets("limit.seconds) - SLICES\n", "limit.seconds) - SLICES + 1\n"),
    in_budgets("if counts.get(key, 0) > 1:", "if False:"),
    in_budgets("if key in told and slot - told[key] <= SLICES:", "if False:"),
    in_budgets("if key in told and slot - told[key] <= SLICES:", "if key in told:"),
    in_budgets(
        "{limit.seconds: limit for limit in sorted(claim.limits, reverse=True)}",
        "dict(enumerate(claim.limits))",
    ),
    # what is given back
    in_verifier(' if unit[0] in rows and rows[unit[0]].scope != "ip"]', "]", DRAINING),
    in_verifier("                    kept.remove(unit)", "                    pass", DRAINING),
    in_verifier(
        "if row.generation == challenge.generation and challenge.generation > 0:",
        "if False:",
        GUESSING,
    ),
    in_delivery("if walk.paid:\n            return True", "if False:\n            return True"),
    in_delivery("walk.paid = order.pay_again()", "walk.paid = True"),
    in_delivery("if walk.paid:\n            order", "if False:\n            order"),
    in_delivery("walk.over = isinstance(error, Rejected | Misconfigured)", "walk.over = False"),
    in_delivery("            elif native:\n", "            elif False:\n"),
    # whose mobile
    in_verifier(
        "            current.mobile == subject.mobile\n            and ", "            ", IDENTITY
    ),
    in_verifier("            and not _is_void(current, subject.user_mobile)\n", "", IDENTITY),
    in_verifier("            and current.attempts < self._rules.max_attempts\n", "", DRAINING),
    in_verifier("            and now + WORTH_RESENDING <= current.expires_at\n", "", IDENTITY),
    in_verifier(
        "        if _is_void(challenge, self.mobile_of(user) if user is not None else None):",
        "        if False:",
        IDENTITY,
    ),
    in_verifier("            if _is_void(challenge, own):", "            if False:", IDENTITY),
    in_verifier(
        "_is_over(challenge, now) or _is_void(challenge, status.mobile)",
        "_is_over(challenge, now)",
        IDENTITY,
    ),
    in_verifier(
        "if limit and len(holding) >= limit:", "if limit and len(holding) > limit:", IDENTITY
    ),
    in_verifier("        if self._rules.accounts_per_mobile:\n", "        if False:\n", IDENTITY),
    in_verifier("return began is None or has == began.user_mobile", "return False", IDENTITY),
    in_verifier("return began is None or has == began.user_mobile", "return True", IDENTITY),
    in_verifier("or now >= row.verified_at + NOT_WRITTEN_YET:", "or False:", IDENTITY),
    in_verifier(
        "challenge.state, challenge.open_key = Challenge.CANCELLED, None", "pass", IDENTITY
    ),
    Mutant(
        "flask_smsverify/verification/policy.py",
        "row.verified_at <= now + CLOCK_SKEW and (expiry is None or now < expiry)",
        "expiry is None or now < expiry",
        IDENTITY,
    ),
    Mutant(
        "flask_smsverify/verification/policy.py", "or now < expiry)", "or now <= expiry)", IDENTITY
    ),
    # the ledger
    Mutant(
        "flask_smsverify/ledger.py",
        "if not read_only and self._host_is_writing():",
        "if False:",
        LEDGER,
        "uncommitted",
    ),
    Mutant(
        "flask_smsverify/ledger.py",
        "if self._reader != threading.get_ident():",
        "if True:",
        LEDGER,
        "memory",
    ),
    # where to go afterwards
    in_targets('not target.startswith("/") or ', ""),
    in_targets(" or len(target) > _MAX_LENGTH", ""),
    in_targets('target.startswith("//") or ', ""),
    in_targets(' or "\\\\" in target', ""),
    in_targets(
        "if any(unicodedata.category(char) in _NOT_IN_PATHS for char in target):", "if False:"
    ),
]


def main(word: str = "") -> int:
    chosen = [mutant for mutant in MUTANTS if any(word in part for part in mutant)]
    for mutant in chosen:
        found = (ROOT / mutant.file).read_text().count(mutant.source)
        if found != 1:
            sys.exit(f"{mutant.file} holds this {found} times, not once:\n{mutant.source}")
    untouched = {Mutant(one.file, "", "", one.tests, one.words): None for one in chosen}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for one, end in zip(untouched, pool.map(_end, untouched), strict=True):
            if end != "survived":
                sys.exit(f"{one.tests} must pass before anything is broken")
        ends = list(pool.map(_end, chosen))
    survivors = [mutant for mutant, end in zip(chosen, ends, strict=True) if end != "killed"]
    for mutant, end in zip(chosen, ends, strict=True):
        if end != "killed":
            print(f"{end}: {mutant.file}\n  {mutant.source!r}\n  -> {mutant.instead!r}")  # noqa: T201 -- a script's output
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants were killed")  # noqa: T201 -- likewise
    return 1 if survivors else 0


def _end(mutant: Mutant) -> str:
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        ignored = shutil.ignore_patterns("__pycache__", ".hypothesis")
        for name in ("flask_smsverify", "tests"):
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", copy)
        changed = copy / mutant.file
        text = changed.read_text().replace(mutant.source, mutant.instead)
        compile(text, mutant.file, "exec")
        changed.write_text(text)
        words = f"{QUICK} and ({mutant.words})" if mutant.words else QUICK
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"),
                *("--tb=line", "--show-capture=no", "-k", words, *mutant.tests.split()),
            ],
            cwd=copy,  # found before the installed package
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    # 1: tests failed. Anything else but 0 is a mistake in the script or in the mutant.
    if ended.returncode == 1 and " error" not in ended.stdout.splitlines()[-1]:
        return "killed"
    return "survived" if ended.returncode == 0 else f"could not be tried ({ended.stdout[-500:]})"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
