"""What the attack scripts share: a server, browsers, a meter, and the attacks themselves.

A script subclasses `Target` for one package and hands it to `main`. The package's app runs on a
real HTTP server on loopback, with its own views and a SQLite file; the attacks only speak HTTP to
it. What cannot be seen from outside is read by a `Meter` in the server: how many guesses were
compared with the right code, and which messages went out. The result is one line of JSON.

Nothing here imports a package under attack, so all of them meet the same code.
"""

from __future__ import annotations

import abc
import argparse
import http.client
import json
import logging
import platform
import secrets
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from http.cookies import SimpleCookie
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

from stolen import find_code
from werkzeug.serving import WSGIRequestHandler, make_server

SEQUENTIAL_GUESSES = 1500
PARALLEL_GUESSES = 60
PARALLEL_ROUNDS = 5
SEND_REQUESTS = 200
REPEATS = 10
RESEND_ROUNDS = 6
#: How long an attacker waits for another code before taking a refusal for final, in seconds.
TIMEOUT = 130
#: Guesses in a row that must not be compared before a limit counts as reached.
CERTAIN = 3

ADDRESS_HEADER = "X-Attack-From"


# --- what is measured inside the server ----------------------------------------------------------


class Meter:
    """Counts comparisons and keeps the messages that went out. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._compared = 0
        self._codes: list[str] = []

    @property
    def compared(self) -> int:
        """Guesses that were compared with a right code so far."""
        with self._lock:
            return self._compared

    @property
    def codes(self) -> list[str]:
        """The codes that were sent so far, oldest first; one for each message."""
        with self._lock:
            return list(self._codes)

    def note_comparison(self) -> None:
        """A guess is being compared."""
        with self._lock:
            self._compared += 1

    def note_message(self, code: str) -> None:
        """A message goes out, with this code or, where it carries none, an empty text."""
        with self._lock:
            self._codes.append(code)

    def watch(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with a comparison noted at each call."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            self.note_comparison()
            return function(*args, **kwargs)

        return watched


class _Quiet(WSGIRequestHandler):
    """A handler that logs no requests; thousands are coming."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


@contextmanager
def serving(app: Any) -> Iterator[int]:
    """Serve a WSGI app on loopback, a thread for each request; yields the port."""

    def from_many_addresses(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        # Loopback has one address. Victims that must not share limits by address get their own.
        header = "HTTP_" + ADDRESS_HEADER.upper().replace("-", "_")
        environ["REMOTE_ADDR"] = environ.pop(header, "127.0.0.1")
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, from_many_addresses, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- the attacker's side -------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """An answer: its status, where it sends to (or an empty text), and its body."""

    status: int
    location: str
    body: str

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class Browser:
    """One attacker's browser: cookies, an address, and no redirects followed.

    With a barrier in `hold`, a request stops short of its last bytes and waits there for the
    others, so that the server gets them all at the same moment.

    It sends a CSRF token that it made up in both places where Django looks for one. An attacker
    gets a true one at any form, so CSRF protection has no part in this.
    """

    port: int
    address: str
    cookies: dict[str, str] = field(default_factory=lambda: {"csrftoken": "a" * 32})
    hold: threading.Barrier | None = None

    def get(self, path: str) -> Reply:
        """GET a page."""
        return self._ask("GET", path, "", {})

    def post(self, path: str, form: dict[str, str]) -> Reply:
        """POST a form."""
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, urlencode(form), kind)

    def post_json(self, path: str, body: dict[str, Any]) -> Reply:
        """POST JSON, and ask for JSON."""
        kind = {"Content-Type": "application/json", "Accept": "application/json"}
        return self._ask("POST", path, json.dumps(body), kind)

    def _ask(self, method: str, path: str, body: str, headers: dict[str, str]) -> Reply:
        headers = headers | {
            "Host": f"127.0.0.1:{self.port}",
            "Connection": "close",
            "Content-Length": str(len(body.encode())),
            "Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items()),
            "X-CSRFToken": self.cookies.get("csrftoken", ""),
            ADDRESS_HEADER: self.address,
        }
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {headers[name]}" for name in headers)]
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            connection.sendall("\r\n".join(lines).encode())
            if self.hold is not None:
                self.hold.wait()
            connection.sendall(b"\r\n\r\n" + body.encode())
            answer = http.client.HTTPResponse(connection, method=method)
            answer.begin()
            text = answer.read().decode(errors="replace")
        for line in answer.headers.get_all("Set-Cookie", []):
            self._keep(line)
        return Reply(answer.status, answer.headers.get("Location", ""), text)

    def _keep(self, line: str) -> None:
        for name, morsel in SimpleCookie(line).items():
            if morsel["max-age"] == "0" or not morsel.value:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value


@dataclass
class Victim:
    """Somebody whose code is guessed, or whose number gets the messages.

    :param number: counts the victims of a run; each has an account, a mobile and an address.
    :param browser: the attacker's, as far in as the attack needs.
    :param data: whatever else a target must remember.
    """

    number: int
    browser: Browser
    data: dict[str, Any] = field(default_factory=dict)

    def copy(self, hold: threading.Barrier) -> Victim:
        """The same victim before another window of the same session."""
        browser = replace(self.browser, cookies=dict(self.browser.cookies), hold=hold)
        return replace(self, browser=browser, data=dict(self.data))


class Target(abc.ABC):
    """One package, set up as its documentation says."""

    #: The distribution's name.
    package: ClassVar[str]
    #: Others whose versions matter here.
    beside: ClassVar[tuple[str, ...]] = ()
    #: Wrong codes after which the package says that it stops, by default; None for no limit.
    limit: ClassVar[int | None] = None
    #: Whether what stops a guesser is a growing pause instead of a number.
    slows_down: ClassVar[bool] = False
    #: Who can have 200 messages sent.
    sender: ClassVar[str] = "anybody"
    #: What a code looks like: its alphabet and its length.
    alphabet: ClassVar[str] = "0123456789"
    code_length: ClassVar[int] = 6
    #: For an attack that cannot be mounted: its key in the result, and why.
    not_mounted: ClassVar[dict[str, str]] = {}

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "app.sqlite"
        self.meter = Meter()
        self.port = 0
        self._victims = 0

    # --- what a script writes

    @abc.abstractmethod
    def app(self) -> Any:
        """Build the app over `database`, with its meter in place; a WSGI application."""

    @abc.abstractmethod
    def enrol(self, victim: Victim) -> None:
        """Make the victim's account, and log in as far as no code is needed; nothing is sent."""

    @abc.abstractmethod
    def guess(self, victim: Victim, code: str) -> bool:
        """Enter a code, and say whether it was taken."""

    @abc.abstractmethod
    def ask(self, victim: Victim) -> None:
        """Ask for another code, as the same attacker."""

    def begin(self, victim: Victim) -> None:
        """Go to where the code is asked; a first one goes out."""
        self.ask(victim)

    @abc.abstractmethod
    def come_again(self, victim: Victim) -> None:
        """After a right code: go to where the code is asked again."""

    @abc.abstractmethod
    def flood(self, victim: Victim) -> None:
        """Ask for a message to an enrolled victim's number, as whoever may."""

    def right_codes(self, victim: Victim) -> set[str]:
        """Codes that a wrong guess must not hit by luck."""
        return set(self.meter.codes)

    def codes_valid_at_once(self) -> int:
        """How many different codes are right for one victim at one time.

        Asks for a second code and tries the first. A package whose codes come from a clock
        replaces this.
        """
        victim = self.victim()
        first = self.meter.codes[-1]
        if not self.ask_patiently(victim) or self.meter.codes[-1] == first:
            return 1 if self.guess(victim, first) else 0
        second = self.meter.codes[-1]
        old_one = self.guess(victim, first)
        if old_one:
            self.come_again(victim)
        return old_one + self.guess(victim, second)

    # --- what a script uses

    def enrolled(self) -> Victim:
        """A new victim, to whom nothing was sent."""
        self._victims += 1
        number = self._victims
        victim = Victim(number, Browser(self.port, f"192.0.2.{number}"))
        self.enrol(victim)
        return victim

    def victim(self) -> Victim:
        """A new victim, whose code is on its way."""
        victim = self.enrolled()
        before = len(self.meter.codes)
        self.begin(victim)
        if len(self.meter.codes) == before:
            raise RuntimeError(f"{self.package}: no code went out to a new victim")
        return victim

    def wrong_codes(self, victim: Victim, count: int) -> list[str]:
        """Different codes, none of them right."""
        right = self.right_codes(victim)
        wrong: dict[str, None] = {}
        while len(wrong) < count:
            code = "".join(secrets.choice(self.alphabet) for _ in range(self.code_length))
            if code not in right:
                wrong[code] = None
        return list(wrong)

    def ask_patiently(self, victim: Victim) -> bool:
        """Ask for another code each second until one goes out, or the time is up."""
        before = len(self.meter.codes)
        until = time.monotonic() + TIMEOUT
        while time.monotonic() < until:
            self.ask(victim)
            if len(self.meter.codes) > before:
                return True
            time.sleep(1)
        return False


# --- the attacks ---------------------------------------------------------------------------------


def check_the_meter(target: Target) -> None:
    """One wrong and one right code: both are compared, the right one is taken.

    :raises RuntimeError: the script does not measure what it says.
    """
    victim = target.victim()
    before = target.meter.compared
    if target.guess(victim, target.wrong_codes(victim, 1)[0]):
        raise RuntimeError(f"{target.package}: a wrong code was taken")
    if target.meter.compared != before + 1:
        raise RuntimeError(f"{target.package}: the meter does not see comparisons")
    if target.slows_down:
        time.sleep(2)
    if not target.guess(victim, target.meter.codes[-1]):
        raise RuntimeError(f"{target.package}: the right code was not taken")


def guess_in_a_row(target: Target) -> dict[str, Any]:
    """Wrong codes one after another, without asking for another code."""
    victim = target.victim()
    before = target.meter.compared
    began = time.monotonic()
    for code in target.wrong_codes(victim, SEQUENTIAL_GUESSES):
        target.guess(victim, code)
    return {
        "guesses": SEQUENTIAL_GUESSES,
        "compared": target.meter.compared - before,
        "seconds": round(time.monotonic() - began),
    }


def guess_in_parallel(target: Target) -> dict[str, Any]:
    """Wrong codes all at once from one session, several times on victims of their own."""
    compared = []
    for _ in range(PARALLEL_ROUNDS):
        victim = target.victim()
        codes = target.wrong_codes(victim, PARALLEL_GUESSES)
        before = target.meter.compared
        barrier = threading.Barrier(len(codes), timeout=60)
        threads = []
        for code in codes:
            window = victim.copy(barrier)
            threads.append(threading.Thread(target=target.guess, args=(window, code)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        compared.append(target.meter.compared - before)
    return {"guesses": PARALLEL_GUESSES, "compared": compared}


def send_in_a_row(target: Target) -> dict[str, Any]:
    """Requests for a message to one number from one address, one after another."""
    victim = target.enrolled()
    before = len(target.meter.codes)
    began = time.monotonic()
    for _ in range(SEND_REQUESTS):
        target.flood(victim)
    seconds = round(time.monotonic() - began)
    time.sleep(2)  # for what is sent in the background
    return {
        "requests": SEND_REQUESTS,
        "messages": len(target.meter.codes) - before,
        "seconds": seconds,
        "by": target.sender,
    }


def use_again(target: Target) -> dict[str, Any]:
    """One right code, entered again and again, within its lifetime."""
    victim = target.victim()
    code = target.meter.codes[-1]
    accepted = 0
    for attempt in range(REPEATS):
        if attempt:
            target.come_again(victim)
        accepted += target.guess(victim, code)
    return {"times": REPEATS, "accepted": accepted}


def resend_and_go_on(target: Target) -> dict[str, Any]:
    """Guess until stopped, ask for another code, guess on; several times over.

    Where a pause is what stops a guesser, the question is whether another code ends the pause.
    """
    if target.limit is None and not target.slows_down:
        return {"resets": None, "why": "there is no limit to reset"}
    victim = target.victim()
    before = target.meter.compared
    if target.slows_down:
        _guess_until_stopped(target, victim)
        stopped_at = target.meter.compared
        target.ask(victim)
        target.guess(victim, target.wrong_codes(victim, 1)[0])
        return {"resets": target.meter.compared > stopped_at, "compared": stopped_at - before}
    per_code = []
    for attempt in range(RESEND_ROUNDS):
        if attempt and not target.ask_patiently(victim):
            break
        start = target.meter.compared
        _guess_until_stopped(target, victim)
        per_code.append(target.meter.compared - start)
        if per_code[-1] == 0:
            break
    return {
        "resets": len(per_code) > 1 and per_code[1] > 0,
        "codes": len(per_code),
        "compared": target.meter.compared - before,
        "ended": len(per_code) < RESEND_ROUNDS or per_code[-1] == 0,
    }


def _guess_until_stopped(target: Target, victim: Victim) -> None:
    in_vain = 0
    for code in target.wrong_codes(victim, 100):
        before = target.meter.compared
        target.guess(victim, code)
        in_vain = 0 if target.meter.compared > before else in_vain + 1
        if in_vain == CERTAIN:
            return


def steal_the_database(target: Target) -> dict[str, Any]:
    """Look for an open code in the database's file, with no key at hand."""
    target.victim()
    return {"found": find_code(target.database, target.meter.codes[-1])}


ATTACKS: dict[str, Callable[[Target], dict[str, Any]]] = {
    "in_a_row": guess_in_a_row,
    "in_parallel": guess_in_parallel,
    "messages": send_in_a_row,
    "again": use_again,
    "valid_at_once": lambda target: {"codes": target.codes_valid_at_once()},
    "stolen": steal_the_database,
    "resend": resend_and_go_on,
}


@dataclass(frozen=True)
class Result:
    """What one script prints."""

    package: str
    versions: dict[str, str]
    python: str
    limit: int | None
    slows_down: bool
    code: str
    measured: dict[str, dict[str, Any]]


def run(target: Target, only: str | None = None) -> Result:
    """Mount every attack, or one."""
    app = target.app()
    measured: dict[str, dict[str, Any]] = {}
    with serving(app) as target.port:
        check_the_meter(target)
        for name, attack in ATTACKS.items():
            if only not in (None, name):
                continue
            if name in target.not_mounted:
                measured[name] = {"n/a": target.not_mounted[name]}
                continue
            measured[name] = attack(target)
            sys.stderr.write(f"{target.package}: {name}: {json.dumps(measured[name])}\n")
    return Result(
        package=target.package,
        versions={name: version(name) for name in (target.package, *target.beside)},
        python=platform.python_version(),
        limit=target.limit,
        slows_down=target.slows_down,
        code=f"{target.code_length} of {len(target.alphabet)} characters",
        measured=measured,
    )


def main(target: type[Target]) -> None:
    """What a script does: attack its target in a directory of its own and print the result."""
    parser = argparse.ArgumentParser(description=f"attacks on {target.package}")
    parser.add_argument("--only", choices=ATTACKS, help="mount one attack")
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="smsverify-peer-") as directory:
        result = run(target(Path(directory)), arguments.only)
    sys.stdout.write(json.dumps(asdict(result)) + "\n")
