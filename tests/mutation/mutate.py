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
TAKING_BACK = "tests/verification/test_taking_back.py"
TOKENS = "tests/test_proof_tokens.py"
LEDGER = "tests/test_ledger.py"
FUZZ = "tests/web/test_web_fuzz.py"
HOOKS = "tests/web/test_web_hooks.py"
TRACKING = "tests/test_tracking.py"
VERIFICATION = "flask_smsverify/verification"


class Mutant(NamedTuple):
    file: str
    source: str
    instead: str
    tests: str
    words: str = ""


def in_rooms(source: str, instead: str, tests: str, words: str = "") -> Mutant:
    """In whichever file of the rules of proof holds the source."""
    rooms = sorted((ROOT / VERIFICATION).glob("*.py"))
    room = next((room for room in rooms if source in room.read_text()), ROOT / VERIFICATION)
    return Mutant(str(room.relative_to(ROOT)), source, instead, tests, words)


def in_budgets(source: str, instead: str) -> Mutant:
    return Mutant("flask_smsverify/verification/budgets.py", source, instead, BUDGETS)


def in_delivery(source: str, instead: str) -> Mutant:
    return Mutant("flask_smsverify/delivery.py", source, instead, DRAINING)


def in_targets(source: str, instead: str) -> Mutant:
    return Mutant("flask_smsverify/web/targets.py", source, instead, FUZZ, "target or path")


def in_answers(source: str, instead: str) -> Mutant:
    return Mutant(
        "flask_smsverify/web/answers.py",
        source,
        instead,
        FUZZ,
        "long or parsed or much or length or query or refusal or none_too",
    )


def in_hooks(source: str, instead: str) -> Mutant:
    return Mutant("flask_smsverify/web/hooks.py", source, instead, HOOKS)


def in_tracking(source: str, instead: str) -> Mutant:
    return Mutant("flask_smsverify/messaging/tracking.py", source, instead, TRACKING)


def in_noting(source: str, instead: str, tests: str = TRACKING) -> Mutant:
    return Mutant("flask_smsverify/delivery.py", source, instead, tests)


LOCKED_AT_CHECK = """        if standing is not None and self._parts.rules.is_locked(standing):
            raise AccountLocked("too many failures in a row; staff must unlock this account")
        exhausted"""
LOCKED_AT_START = """        if standing is not None and self._parts.rules.is_locked(standing):
            raise AccountLocked("too many failures in a row; staff must unlock this account")
        return standing"""
LOCKED_AT_CLAIM = """            if self._parts.rules.is_locked(standing):
                raise AccountLocked("too many failures in a row; staff must unlock this account")
            if standing"""

MUTANTS = [
    # the attempt counter, expiry, the lock
    in_rooms("row.attempts += 1", "row.attempts += 0", GUESSING),
    in_rooms("standing.failures += 1", "standing.failures += 0", GUESSING),
    in_rooms(
        "exhausted = challenge.attempts >= self._parts.rules.max_attempts",
        "exhausted = challenge.attempts > self._parts.rules.max_attempts",
        GUESSING,
    ),
    in_rooms(
        "exhausted = challenge.attempts >= self._parts.rules.max_attempts",
        "exhausted = False",
        GUESSING,
    ),
    in_rooms(LOCKED_AT_CHECK, "        exhausted", GUESSING),
    in_rooms(LOCKED_AT_START, "        return standing", GUESSING),
    in_rooms(
        "standing.locked_at is not None or standing.failures >= self.consecutive_failures",
        "standing.locked_at is not None",
        GUESSING,
    ),
    in_rooms(
        "if standing and not standing.locked_at and self._parts.rules.is_locked(standing):",
        "if False:",
        GUESSING,
    ),
    in_rooms(
        "if challenge.state == Challenge.EXPIRED or is_over(challenge, now):",
        "if challenge.state == Challenge.EXPIRED:",
        GUESSING,
    ),
    in_rooms(
        "return now >= challenge.expires_at or", "return now > challenge.expires_at or", GUESSING
    ),
    in_rooms(" or now < challenge.created_at - CLOCK_SKEW", "", GUESSING),
    in_rooms("if challenge.key_id not in self._parts.keyring:", "if False:", GUESSING),
    # using a challenge up
    in_rooms(
        "        if row is None or row.state not in (Challenge.PENDING, Challenge.EXHAUSTED):",
        "        if row is None:",
        GUESSING,
    ),
    in_rooms(
        "            if standing is not None and standing.locked_at is not None:",
        "            if False:",
        GUESSING,
    ),
    in_rooms("self._parts.budgets.put_back(rows, reservation)\n            self", "self", GUESSING),
    in_rooms(
        "            self._parts.budgets.give_back(reservation)\n            raise",
        "            raise",
        GUESSING,
    ),
    in_rooms("if error.written or challenge.own_sent:", "if error.written:", GUESSING),
    in_rooms("if error.written or challenge.own_sent:", "if True:", GUESSING),
    in_rooms("if error.written or challenge.own_sent:", "if False:", GUESSING),
    in_rooms("if challenge.own_sent and codes.same", "if codes.same", GUESSING),
    Mutant(
        "flask_smsverify/verification/codes.py",
        "return hmac.compare_digest(typed.encode(), right.encode())",
        "return typed == right",
        GUESSING,
    ),
    # native codes
    in_rooms(
        "if self._parts.ledger.read(lambda session: is_used(session, used, now)):",
        "if False:",
        GUESSING,
    ),
    in_rooms(
        "if is_used(session, digest, now):\n                raise NoChallenge",
        "if False:\n                raise NoChallenge",
        GUESSING,
    ),
    in_rooms("return row is not None and row.until > now", "return row is not None", GUESSING),
    in_rooms('challenge.mobile, code.lstrip("0"))', "challenge.mobile, code)", GUESSING),
    in_rooms("if not self._gives_way(session, holder, challenge):", "if False:", GUESSING),
    in_rooms("if closed and holder.user_id and whose ==", "if closed and whose !=", GUESSING),
    in_rooms("if closed and holder.user_id and whose ==", "if False and whose ==", GUESSING),
    # each budget
    in_rooms(
        '[Claim("mobile", mobile, limits["mobile"])]\n        if self',
        "[]\n        if self",
        DRAINING,
    ),
    in_rooms("        if self._is_stranger(subject):", "        if False:", DRAINING),
    in_rooms(
        "return last is not None and last != subject.user_id", "return last is not None", DRAINING
    ),
    in_rooms(
        ".where(Verification.revoked_at.is_(None))\n                .order",
        ".order",
        DRAINING,
    ),
    in_rooms(
        'claims.append(Claim("user", user_id, limits["user"]))\n            item',
        "item",
        f"{DRAINING} {BUDGETS}",
    ),
    in_rooms(
        'claims.append(Claim("mobiles_per_user", user_id, limits["mobiles_per_user"], item))',
        "pass",
        BUDGETS,
    ),
    in_rooms(
        'claims.append(Claim("ip", network(ip), limits["ip"]))\n        if region',
        "pass\n        if region",
        DRAINING,
    ),
    in_rooms('claims.append(Claim("foreign", "", limits["foreign"]))', "pass", DRAINING),
    in_rooms('claims.append(Claim("site", "", limits["site"]))', "pass", DRAINING),
    in_rooms(
        "claims.append(Pace(self.pace_key(subject), self._parts.rules.resend_delays))",
        "pass",
        DRAINING,
    ),
    in_rooms(
        'claims = [Claim("failures", f"user {about.user_id}", limits)]', "claims = []", GUESSING
    ),
    in_rooms(
        'claims = [Claim("failures", f"mobile {about.mobile}", limits)]', "claims = []", BUDGETS
    ),
    in_rooms(
        'claims.append(Claim("failures", f"address {network(ip)}", limits))\n        claims',
        "pass\n        claims",
        BUDGETS,
    ),
    in_rooms(
        'claims.append(Claim("site_failures", "", self._parts.rules.budgets["site_failures"]))',
        "pass",
        BUDGETS,
    ),
    in_rooms("ip_network((int(address), 64)", "ip_network((int(address), 128)", DRAINING),
    in_budgets("        if spent_for:\n", "        if False:\n"),
    in_budgets("        if pause:\n", "        if False:\n"),
    in_budgets(
        "if _used(live.values()) < limit.amount:", "if _used(live.values()) <= limit.amount:"
    ),
    in_budgets("limit.seconds) - back\n", "limit.seconds) - back + 1\n"),
    in_budgets("if counts.get(key, 0) > 1:", "if False:"),
    in_budgets("if key in told and slot - told[key] <= SLICES:", "if False:"),
    in_budgets("if key in told and slot - told[key] <= SLICES:", "if key in told:"),
    in_budgets(
        "{limit.seconds: limit for limit in sorted(claim.limits, reverse=True)}",
        "dict(enumerate(claim.limits))",
    ),
    # what is given back
    in_rooms(' if unit[0] in rows and rows[unit[0]].scope != "ip"]', "]", DRAINING),
    in_rooms("                    kept.remove(unit)", "                    pass", DRAINING),
    in_rooms(
        "if row.generation == challenge.generation and challenge.generation > 0:",
        "if False:",
        GUESSING,
    ),
    in_delivery("if walk.paid:\n            return True", "if False:\n            return True"),
    in_delivery("walk.paid = order.pay_again()", "walk.paid = True"),
    in_delivery("if walk.paid:\n            order", "if False:\n            order"),
    in_delivery("walk.over = isinstance(error, Rejected | Misconfigured)", "walk.over = False"),
    in_delivery("            elif native:\n", "            elif False:\n"),
    in_rooms("paces = [] if refused else reservation.paces", "paces = reservation.paces", DRAINING),
    in_rooms(
        "if refused or (row is not None and row.state == Challenge.VERIFIED):",
        "if row is not None and row.state == Challenge.VERIFIED:",
        DRAINING,
    ),
    in_rooms(
        "if refused or (row is not None and row.state == Challenge.VERIFIED):",
        "if refused:",
        DRAINING,
    ),
    in_rooms("            if not refused:\n", "            if True:\n", DRAINING),
    in_rooms("            if row.sends <= 0:\n", "            if False:\n", DRAINING),
    in_rooms("if self._parts.clock() >= challenge.expires_at:  # it", "if False:  # it", DRAINING),
    # what is refused before it costs anything
    in_rooms("self._parts.budgets.look(claims, self._parts.clock())", "pass", DRAINING),
    in_rooms(
        "self._parts.ledger.read(lambda session: self._refuse_closed(session, subject, again))",
        "pass",
        DRAINING,
    ),
    in_budgets(
        "        if spent_for:\n            wait, scope",
        "        if False:\n            wait, scope",
    ),
    Mutant(
        f"{VERIFICATION}/budgets.py",
        "kept=max(WINDOWS_KEPT * limit.seconds, longest)",
        "kept=limit.seconds",
        DRAINING,
        "ahead",
    ),
    in_rooms(".where(Challenge.created_at <= now + CLOCK_SKEW)", "", GUESSING, "ahead"),
    # native codes that nobody holds any more
    in_rooms(
        "elif self._lives_elsewhere(session, challenge, sender):", "elif False:", GUESSING, "native"
    ),
    in_rooms(
        "if is_used(session, self._challenges.outliving_digest(challenge.mobile, sender), now):",
        "if False:",
        GUESSING,
        "native",
    ),
    in_rooms(
        '.where(Message.kind == "native_code", Message.state != Message.FAILED)',
        '.where(Message.kind == "native_code")',
        GUESSING,
        "native",
    ),
    in_rooms(
        '.where(Message.kind == "native_code", Message.state != Message.FAILED)',
        ".where(Message.state != Message.FAILED)",
        GUESSING,
        "native",
    ),
    in_rooms("(user_id, purpose) != whose for", "True for", GUESSING, "native"),
    in_rooms(
        "        if wait := self.wait_of(claims):\n            raise TooManyAttempts",
        "        if False:\n            raise TooManyAttempts",
        GUESSING,
    ),
    # a proof that the host does not keep
    in_rooms("                    self._holding.take_back(proved)\n", "", TAKING_BACK),
    in_rooms(
        "if row is not None and row.verified_at == proved.verified_at:",
        "if row is not None:",
        TAKING_BACK,
    ),
    in_rooms("row.revoked_at = row.revoked_at or revoked_at", "pass", TAKING_BACK),
    in_rooms("                setattr(row, name, value)", "                pass", TAKING_BACK),
    in_rooms(
        "if earlier is None or earlier.revoked_at != proved.verified_at:",
        "if earlier is None:",
        TAKING_BACK,
    ),
    in_rooms(
        "if earlier is None or earlier.revoked_at != proved.verified_at:", "if True:", TAKING_BACK
    ),
    in_rooms("if self._has_room(session, earlier, now):", "if True:", TAKING_BACK),
    in_rooms(
        "if row.verified_at is not None and not self._has_room(session, row, now):",
        "if False:",
        TAKING_BACK,
    ),
    in_rooms(
        "was_held = standing.verified_at is not None and standing.revoked_at is None",
        "was_held = standing.verified_at is not None",
        TAKING_BACK,
    ),
    in_rooms("standing.verified_at = proved_at or now", "standing.verified_at = now", TAKING_BACK),
    in_rooms(
        "if standing.revoked_at is not None and standing.revoked_at >= proved_at:",
        "if False:",
        TAKING_BACK,
    ),
    Mutant(
        "flask_smsverify/verification/codes.py",
        "return self.digests(*parts)[-1]",
        "return self.digests(*parts)[0]",
        GUESSING,
    ),
    # tokens
    in_rooms(
        "if not self._parts.ledger.insert_if_absent(session, UsedToken, used):", "if False:", TOKENS
    ),
    in_rooms("if any(is_used(session, digest, now) for digest in digests):", "if False:", TOKENS),
    in_rooms(
        "            for digest in digests:\n", "            for digest in digests[:1]:\n", TOKENS
    ),
    in_rooms(
        "now + max(timedelta(seconds=max_age), _TOKEN_NOTED)",
        "now + timedelta(seconds=max_age)",
        TOKENS,
    ),
    # what is announced of a claim
    Mutant(
        "flask_smsverify/host.py", "if rolled_back not in announcement.within", "if False", TOKENS
    ),
    Mutant(
        "flask_smsverify/host.py", "if rolled_back not in announcement.within", "if True", TOKENS
    ),
    Mutant("flask_smsverify/host.py", "if column.name in str(error.orig):", "if True:", TOKENS),
    Mutant("flask_smsverify/host.py", "if column.name in str(error.orig):", "if False:", TOKENS),
    in_rooms(
        "lambda session: any(is_used(session, digest, now) for digest in digests)",
        "lambda session: False",
        TOKENS,
    ),
    in_rooms("        self._parts.users.after_commit(announce)", "        announce()", TAKING_BACK),
    in_rooms("loads(token, max_age=max_age)", "loads(token)", TOKENS),
    in_rooms('salt=f"flask_smsverify.proof {purpose}"', 'salt="flask_smsverify.proof"', TOKENS),
    in_rooms(LOCKED_AT_CLAIM, "            if standing", TAKING_BACK),
    # whose mobile
    in_rooms(
        "            current.mobile == subject.mobile\n            and ", "            ", IDENTITY
    ),
    in_rooms("            and not is_void(current, subject.user_mobile)\n", "", IDENTITY),
    in_rooms("            and current.attempts < self._parts.rules.max_attempts\n", "", DRAINING),
    in_rooms("            and now + WORTH_RESENDING <= current.expires_at\n", "", IDENTITY),
    in_rooms(
        "        if is_void(challenge, self._parts.mobile_of(user) if user is not None else None):",
        "        if False:",
        IDENTITY,
    ),
    in_rooms("            if is_void(challenge, own):", "            if False:", IDENTITY),
    in_rooms(
        "is_over(challenge, now) or is_void(challenge, status.mobile)",
        "is_over(challenge, now)",
        IDENTITY,
    ),
    in_rooms("if limit and len(holding) >= limit:", "if limit and len(holding) > limit:", IDENTITY),
    in_rooms(
        "        if self._parts.rules.accounts_per_mobile:\n", "        if False:\n", IDENTITY
    ),
    in_rooms("return began is None or has == began.user_mobile", "return False", IDENTITY),
    in_rooms("return began is None or has == began.user_mobile", "return True", IDENTITY),
    in_rooms("or now >= row.granted_at + NOT_WRITTEN_YET:", "or False:", IDENTITY),
    in_rooms("challenge.state, challenge.open_key = Challenge.CANCELLED, None", "pass", IDENTITY),
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
    # who has no guess left holds up nobody
    in_rooms("        self._refuse_early(challenge, claims)\n", "", GUESSING, "holds_up_nobody"),
    in_rooms(
        "        self._refuse_closed(challenge, standing, self._parts.clock())\n",
        "",
        GUESSING,
        "holds_up_nobody",
    ),
    in_rooms(
        "        self._spending.refuse_if_no_guess_is_left(claims)\n",
        "",
        GUESSING,
        "holds_up_nobody",
    ),
    # what takes long to read
    in_answers("if cut or sum(map(body.count, _SEPARATORS)) > MAX_SEPARATORS:", "if cut:"),
    in_answers("if cut or sum", "if sum"),
    in_answers("cut = body and request", "cut = request"),
    in_answers("MAX_SEPARATORS = 20_000", "MAX_SEPARATORS = 2_000"),
    in_answers('_SEPARATORS = (b",", b"&", b"%")', '_SEPARATORS = (b",", b"&")'),
    in_answers('_SEPARATORS = (b",", b"&", b"%")', '_SEPARATORS = (b",", b"%")'),
    in_answers('_SEPARATORS = (b",", b"&", b"%")', '_SEPARATORS = (b"&", b"%")'),
    in_answers('if request.mimetype.startswith("multipart/"):', "if False:"),
    in_answers('if len(request.headers.get("Accept", "")) > _LONGEST_ACCEPT:', "if False:"),
    in_answers("        request.query_string.decode()\n", ""),
    in_answers('    request.environ |= {"CONTENT_TYPE": "", "CONTENT_LENGTH": "0"}\n', ""),
    in_answers('    request.query_string = b""\n', ""),
    Mutant(
        "flask_smsverify/web/i18n.py",
        ' and len(request.headers.get("Accept-Language", "")) <= _LONGEST:',
        ":",
        FUZZ,
        "long",
    ),
    # who may call a hook, and what it tells
    in_hooks("if not known or speaker is None", "if speaker is None"),
    in_hooks("hmac.compare_digest(secret.encode(), expected.encode())", "secret == expected"),
    in_hooks("or request.method not in speaker.push_methods:", "or False:"),
    in_hooks("        protection.exempt(blueprint)", "        pass"),
    in_hooks("    look_over(_MAX_BODY_BYTES)", "    pass"),
    in_hooks("    if is_refused():\n", "    if False:\n"),
    in_hooks("        if len(told) > _MOST:", "        if False:"),
    in_hooks("endpoint=endpoint, methods=None", 'endpoint=endpoint, methods=["GET", "POST"]'),
    in_hooks("    request.path = path\n", ""),
    in_hooks('    request.environ["PATH_INFO"] = path', "    _ = path"),
    in_hooks("        request.__dict__.pop(worked_out, None)", "        pass"),
    in_hooks('sender if speaker is not None else "***"', "sender"),
    in_hooks('values.pop("address")', 'values["address"]'),
    in_hooks("        return request.form.to_dict()", "        return request.values.to_dict()"),
    in_hooks("    except Exception as error:", "    except KeyError as error:"),
    in_hooks("except RecursionError as error:", "except KeyError as error:"),
    in_hooks("    except HTTPException as error:", "    except KeyError as error:"),
    in_hooks("    except SenderError as error:", "    except KeyError as error:"),
    # a state goes forward only, and no report is lost
    in_tracking("if _progress(message.state) < _progress(state):", "if message.state != state:"),
    in_tracking("state = _further(before, states[id_])", "state = states[id_]"),
    in_tracking(
        "state = _further(before, states[id_])",
        "state = _further(states[id_], before or states[id_])",
    ),
    in_tracking("and report.until >= now else None", "else None"),
    in_tracking(", EarlyReport.until >= now)", ")"),
    in_tracking("there[key].state = _further(there[key].state, state)", "there[key].state = state"),
    in_tracking("_further(furthest.get(item.id), item.status)", "str(item.status)"),
    in_tracking("            elif item.status is not Status.UNKNOWN:", "            else:"),
    in_tracking(", Message.sender == sender)", ")"),
    in_tracking("            self.catch_up(sender, early)\n", ""),
    in_tracking("                session.delete(early[id_])", "                pass"),
    in_tracking("session.execute(delete(EarlyReport).where(EarlyReport.until < now))", "pass"),
    in_tracking("_WAITS = timedelta(minutes=5)", "_WAITS = timedelta(seconds=5)"),
    in_tracking(
        "if insert(session, models.Incoming, row)]",
        "if insert(session, models.Incoming, row) or True]",
    ),
    in_tracking("(id_ := own_id(sender, message.id))", "(id_ := own_id(message.id))"),
    in_tracking(
        "_storable(e164(ascii_digits(message.sender)), _LONGEST_NAME)",
        "_storable(message.sender, _LONGEST_NAME)",
    ),
    in_tracking('text.replace("\\0", "\\N{REPLACEMENT CHARACTER}")', "text"),
    in_noting("                self._noted(sender.name, [gateway_id])", "                pass"),
    in_noting(" and sender.push_methods:", ":"),
    in_noting(
        "(StoreUnavailable, ConfigurationError, SQLAlchemyError):  # it went",
        "StoreUnavailable:  # it went",
    ),
    in_noting("        return Report(item.id, Status(item.status))", "        return item", HOOKS),
    in_noting('        if "\\0" in item.id:', "        if False:", HOOKS),
    in_noting("        item.id.encode()\n", "", HOOKS),
    in_rooms(
        "session.execute(delete(Incoming).where(Incoming.originator.in_(mobiles)))",
        "pass",
        TRACKING,
    ),
]


def broken(mutant: Mutant) -> str:
    """The text of the mutant's file with its one piece replaced.

    :raises ValueError: the file does not hold that piece, or holds it twice.
    :raises SyntaxError: what comes out is not Python.
    """
    path = ROOT / mutant.file
    text = path.read_text() if path.is_file() else ""
    if not mutant.source:  # nothing to break: the file as it is
        return text
    if (found := text.count(mutant.source)) != 1:
        raise ValueError(f"{mutant.file} holds this {found} times, not once:\n{mutant.source}")
    text = text.replace(mutant.source, mutant.instead)
    compile(text, mutant.file, "exec")
    return text


def main(word: str = "") -> int:
    chosen = [mutant for mutant in MUTANTS if any(word in part for part in mutant)]
    for mutant in chosen:
        broken(mutant)
    untouched = {Mutant(one.file, "", "", one.tests, one.words): None for one in chosen}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for one, end in zip(untouched, pool.map(_end, untouched), strict=True):
            if end != "survived":
                sys.exit(f"{one.tests} must pass before anything is broken: {end}")
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
        (copy / mutant.file).write_text(broken(mutant))
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
    if mutant.source and ended.returncode == 1 and " error" not in ended.stdout.splitlines()[-1]:
        return "killed"
    return "survived" if ended.returncode == 0 else f"could not be tried ({ended.stdout[-500:]})"


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
