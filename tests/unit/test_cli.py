"""`flask smsverify …`: output, exit status, and secrets that it never shows."""

from __future__ import annotations

import ast
import re
import socket
import threading
import uuid
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import flask.cli
import pytest
from click.testing import CliRunner
from commands import ACCOUNT, PATIENT, run
from conftest import MakeApp
from flask import Flask
from hostapp import TextUser, UuidUser, db
from leaks import LONG_CODES
from sqlalchemy import String

import flask_smsverify
from flask_smsverify.cli import smsverify
from flask_smsverify.cli.output import print_lines, print_table
from flask_smsverify.errors import ConfigurationError, WrongCode
from flask_smsverify.senders.base import Capability, Credit, Sender
from flask_smsverify.simulator import Simulator, running

SENDERS: dict[str, dict[str, Any]] = {
    "main": {"gateway": "raygan", **ACCOUNT, "line": "50002910"},
    "second": {"gateway": "wikipayam", "token": "a-token", "timeout": PATIENT},
    "third": {"gateway": "melipayamak", **ACCOUNT, "line": "50004001"},
    "fourth": {"gateway": "asanak", **ACCOUNT, "line": "982100021000"},
    "fifth": {"gateway": "smsir", "api_key": "a-key", "line": "30001234", "timeout": PATIENT},
}


def block(output: str, name: str) -> dict[str, str]:
    """Return the fields of one sender in the output of `senders`, with joined lines."""
    [found] = [
        part for part in re.split(r"\n(?=\S)", output.strip()) if part.startswith(f"{name} (")
    ]
    fields: dict[str, str] = {}
    for line in found.splitlines()[1:]:
        label, colon, value = line.partition(": ")
        if colon and re.fullmatch(r"  [a-z]+", label):
            fields[label.strip()] = value.strip()
        else:
            fields[[*fields][-1]] += " " + line.strip()
    return fields


# --- senders ----------------------------------------------------------------------------------


@pytest.fixture
def shop(make_app: MakeApp, sqlite: str, simulator: Simulator) -> Flask:
    return make_app(sqlite, SMSVERIFY_SENDERS=SENDERS, SMSVERIFY_SIMULATOR_URL=simulator.url)


def test_senders_shows_the_state_and_the_capabilities_of_each_sender(
    shop: Flask, simulator: Simulator
) -> None:
    output = run(shop, "senders")
    assert output.startswith(f"SMSVERIFY_SIMULATOR_URL is set: checking {simulator.url}\n")
    main = block(output, "main")
    assert re.fullmatch(r"ok, responded in \d+ ms", main["state"])
    assert main["credit"] == "1,000,000,000"
    assert main["routes"] == "sms (1 of 4), text (1 of 4)"
    assert main["can"] == (
        "codes by SMS, native codes, texts, credit, delivery states, received texts"
    )
    second = block(output, "second")
    assert second["credit"] == "1,000,000,000 IRR"
    assert second["routes"] == "voice (1 of 1)"
    assert [line for line in output.splitlines() if line and line[0] != " "][1:] == [
        "main (raygan)",
        "second (wikipayam)",
        "third (melipayamak)",
        "fourth (asanak)",
        "fifth (smsir)",
    ]
    assert "webhook" not in main
    assert block(output, "fourth")["webhook"] == "off: SMSVERIFY_WEBHOOK_SECRET is not set"
    assert simulator.messages() == [], "the check sends nothing"


def test_senders_shows_the_webhook_url_without_the_secret(
    make_app: MakeApp, sqlite: str, simulator: Simulator
) -> None:
    secret = "a-secret-of-the-webhooks"
    config = {"SMSVERIFY_SENDERS": SENDERS, "SMSVERIFY_SIMULATOR_URL": simulator.url}
    output = run(make_app(sqlite, **config, SMSVERIFY_WEBHOOK_SECRET=secret), "senders")
    said = block(output, "fourth")["webhook"]
    assert said == "/verify-mobile/webhooks/fourth/SMSVERIFY_WEBHOOK_SECRET"
    assert secret not in output


def test_senders_names_the_fault_and_exits_with_1(shop: Flask, simulator: Simulator) -> None:
    for gateway, name, fault, state in (
        ("raygan", "main", "bad_credentials", "refused: the credentials were refused (code 401)"),
        ("wikipayam", "second", "bad_credentials", "refused: the credentials were refused"),
        ("melipayamak", "third", "bad_credentials", "check the credentials"),
        ("asanak", "fourth", "bad_credentials", "refused: wrong username or password"),
        ("smsir", "fifth", "bad_credentials", "refused: the API key is not valid (code 10)"),
        ("raygan", "main", "no_credit", "no credit left"),
        ("smsir", "fifth", "no_credit", "no credit left"),
        ("raygan", "main", "http_500", "refused: the service failed (code 500)"),
        ("raygan", "main", "down", "unclear: no complete answer (ReadError)"),
    ):
        simulator.reset()
        simulator.fault(gateway, fault)
        output = run(shop, "senders", ends=1)
        assert state in block(output, name)["state"], (gateway, fault)
        is_error = "no credit" not in state and state != "check the credentials"
        assert ("advice" in block(output, name)) is is_error, (gateway, fault)
        others = [sender for sender in SENDERS if sender != name]
        assert all(block(output, other)["state"].startswith("ok") for other in others)


def test_senders_reports_a_gateway_that_does_not_answer_in_time(
    make_app: MakeApp, sqlite: str, simulator: Simulator
) -> None:
    impatient = {**SENDERS["main"], "timeout": (60, 0.2, 60)}
    senders = SENDERS | {"main": impatient}
    app = make_app(sqlite, SMSVERIFY_SENDERS=senders, SMSVERIFY_SIMULATOR_URL=simulator.url)
    simulator.fault("raygan", "timeout")
    output = run(app, "senders", ends=1)
    assert block(output, "main")["state"] == "unclear: no complete answer (ReadTimeout)"


def test_senders_reports_unreachable_gateways(make_app: MakeApp, sqlite: str) -> None:
    with running() as gone:
        address = gone.url
    app = make_app(sqlite, SMSVERIFY_SENDERS=SENDERS, SMSVERIFY_SIMULATOR_URL=address)
    output = run(app, "senders", ends=1)
    for name in SENDERS:
        assert "no connection (ConnectError)" in block(output, name)["state"]
        assert block(output, name)["state"].startswith("not reachable: ")
        assert block(output, name)["credit"] == "unknown"


class Odd(Sender):
    """A host's own gateway."""

    gateway = "odd"
    asked: threading.Barrier | None = None

    def __init__(
        self, *, can: bool = True, fails: bool = False, left: int | None = None, name: str
    ) -> None:
        super().__init__(name=name)
        self._can, self._fails, self._left = can, fails, left

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset({Capability.CREDIT} if self._can else ())

    def credit(self) -> Credit:
        if self.asked is not None:
            self.asked.wait(10)
        if self._fails:
            raise KeyError("open-sesame")
        assert self._left is not None
        return Credit(Decimal(self._left), "IRR")


@pytest.fixture
def odd_shop(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Flask]:
    def make(**senders: dict[str, object]) -> Flask:
        from flask_smsverify.senders import registry

        real = registry._find_class
        monkeypatch.setattr(
            registry,
            "_find_class",
            lambda name, kind, registered: Odd if kind == "odd" else real(name, kind, registered),
        )
        return make_app(
            sqlite,
            SMSVERIFY_SENDERS={
                name: {"gateway": "odd", **options} for name, options in senders.items()
            },
        )

    return make


def test_senders_are_checked_in_parallel(
    odd_shop: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = odd_shop(**{f"s{number}": {"fails": True} for number in range(6)})
    monkeypatch.setattr(Odd, "asked", threading.Barrier(6))
    output = run(app, "senders", ends=1)
    assert output.count("its code raised KeyError") == 6


def test_a_sender_that_reports_no_credit_is_not_checked(
    odd_shop: Callable[..., Flask],
) -> None:
    said = block(run(odd_shop(mute={"can": False}), "senders"), "mute")
    assert said["state"] == "not checked: it does not report credit"
    assert said["routes"] == "none, so it is not used"


def test_a_sender_whose_credit_is_low_can_send_and_is_reported(
    odd_shop: Callable[..., Flask],
) -> None:
    app = odd_shop(
        few={"left": 4999, "low_credit": 5000}, enough={"left": 5000, "low_credit": 5000}
    )
    output = run(app, "senders")
    assert block(output, "few")["state"] == "credit is low: less than 5,000"
    assert block(output, "few")["credit"] == "4,999 IRR"
    assert block(output, "enough")["state"].startswith("ok, ")
    found = run(app, "doctor", ends=1)  # no sender sends codes
    assert "warning  sender: few (odd): credit is low: less than 5,000\n" in found
    assert "ok       sender: enough (odd): ok, " in found


@pytest.mark.parametrize("value", ["5000", -1, True, None])
def test_low_credit_must_be_a_number(odd_shop: Callable[..., Flask], value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"SENDERS\['few'\]: low_credit must be a number"):
        odd_shop(few={"left": 1, "low_credit": value})


# --- output -----------------------------------------------------------------------------------


def test_a_table_without_rows_is_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("TABLE", "DELETED"), [])
    print_table(("TABLE", "DELETED"), [("smsverify_challenge", "12")])
    print_lines()
    assert capsys.readouterr().out == (
        "TABLE  DELETED\nTABLE                DELETED\nsmsverify_challenge  12\n"
    )


# --- simulator --------------------------------------------------------------------------------


def test_simulator_reports_that_its_port_is_in_use() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(smsverify, ["simulator", "--port", str(port)])
    assert done.exit_code == 1
    assert done.output == (
        f"Error: port {port} cannot be used (Address already in use); choose another with --port\n"
    )


def test_simulator_refuses_an_invalid_port(app: Flask) -> None:
    for port in ("-1", "65536", "http"):
        output = run(app, "simulator", "--port", port, ends=2)
        assert "Invalid value for '--port'" in output, port


# --- users ------------------------------------------------------------------------------------


def test_verify_and_revoke_change_the_status_of_a_user(app: Flask) -> None:
    assert "state:" in run(app, "status", "1")
    assert "unverified" in run(app, "status", "1")
    assert run(app, "verify", "1") == "+98912•••0001 is verified for user 1\n"
    status = run(app, "status", "1")
    assert re.search(r"^state: +verified$", status, re.M)
    assert re.search(r"^mobile: +\+98912•••0001$", status, re.M)
    assert re.search(r"^valid until: +20\d\d-\d\d-\d\d \d\d:\d\d UTC$", status, re.M)
    assert "asks for a code again" in run(app, "revoke", "1")
    assert re.search(r"^state: +unverified$", run(app, "status", "1"), re.M)


def test_the_status_shows_an_open_challenge_without_its_code(
    make_app: MakeApp, sqlite: str
) -> None:
    app = make_app(sqlite, **LONG_CODES)
    with app.app_context():
        state = app.extensions["smsverify"]
        state.verifier.start(state.users.find("1"))
        code = state.delivery.routes.senders["memory"].last.code
    status = run(app, "status", "1")
    assert re.search(r"^state: +pending$", status, re.M)
    assert re.search(r"^attempts: +0$", status, re.M)
    assert str(code) not in status


def test_a_locked_user_can_be_unlocked(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_CONSECUTIVE_FAILURES=1)
    with app.app_context():
        state = app.extensions["smsverify"]
        user = state.users.find("1")
        challenge = state.verifier.start(user)
        code = state.delivery.routes.senders["memory"].last.code
        wrong = "000000" if code != "000000" else "111111"
        with pytest.raises(Exception, match="wrong code"):
            state.verifier.check(challenge, wrong)
    assert "locked" in run(app, "status", "1")
    assert run(app, "unlock", "1").startswith("unlocked for user 1, ")
    assert "locked" not in run(app, "status", "1")


@pytest.mark.parametrize("text", ["0912", "+98912"])
def test_unlock_says_that_a_part_of_a_number_is_no_number(app: Flask, text: str) -> None:
    output = run(app, "unlock", text, ends=1)
    assert output.strip() == f"Error: {text} is neither a mobile number nor a user"


def test_an_unknown_user_is_an_error(app: Flask) -> None:
    keys = ("2", "nobody", "", "1.5", "9" * 30, "-1", "nobody@example.com", "1; DROP TABLE")
    for command in ("status", "verify", "revoke", "unlock"):
        for key in keys:
            output = run(app, command, "--", key, ends=1)
            message = f"Error: there is no user {key}; give the primary key or the email\n"
            assert output == message, command


def test_a_user_without_a_mobile_cannot_be_verified(app: Flask) -> None:
    from hostapp import User

    with app.app_context():
        db.session.add(User(id=7, mobile=None))
        db.session.commit()
    assert run(app, "verify", "7", ends=1).startswith("Error: ")
    assert re.search(r"^mobile: +none$", run(app, "status", "7"), re.M)


def test_users_are_found_by_text_keys(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, user_model=TextUser)
    with app.app_context():
        db.session.add_all(
            [
                TextUser(id="aB3", mobile="09123450001"),
                TextUser(id="ab3@example.com", mobile="09123450002"),
            ]
        )
        db.session.commit()
    assert run(app, "verify", "aB3") == "+98912•••0001 is verified for user aB3\n"
    assert "for user ab3@example.com" in run(app, "verify", "ab3@example.com")
    assert "there is no user AB3" in run(app, "status", "AB3", ends=1)


def test_users_are_found_by_uuids(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, user_model=UuidUser)
    key = uuid.uuid4()
    with app.app_context():
        db.session.add(UuidUser(id=key, mobile="09123450001"))
        db.session.commit()
    for spelling in (str(key), key.hex):
        assert f"for user {key}" in run(app, "verify", spelling)
    assert "there is no user" in run(app, "status", str(uuid.uuid4()), ends=1)


@pytest.fixture(scope="module")
def mail_user() -> Any:
    from flask_login import UserMixin

    class MailUser(UserMixin, db.Model):
        __tablename__ = "host_mail_user"

        id = db.Column(db.Integer, primary_key=True)
        mobile = db.Column(db.String(32))
        email = db.Column(String(64))
        groups: tuple[str, ...] = ()

    return MailUser


def test_users_are_found_by_an_unambiguous_email(
    make_app: MakeApp, sqlite: str, mail_user: Any
) -> None:
    app = make_app(sqlite, user_model=mail_user)
    with app.app_context():
        for number, email in enumerate(["a@example.com", "0912@b.example", "0912@b.example"], 1):
            db.session.add(mail_user(id=number, mobile=f"0912345000{number}", email=email))
        db.session.commit()
    assert "for user 1" in run(app, "verify", "a@example.com")
    for command in ("status", "unlock"):
        assert "several users have the email" in run(app, command, "0912@b.example", ends=1)
    assert "there is no user c@example.com" in run(app, "status", "c@example.com", ends=1)


def test_missing_tables_are_an_error_without_a_traceback(tmp_path: Path) -> None:
    from hostapp import create_app

    app = create_app(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    try:
        result = app.test_cli_runner().invoke(args=["smsverify", "limits"])
        assert result.exit_code == 1
        assert result.output.startswith("Error: The tables of flask_smsverify are not in the")
    finally:
        app.extensions["smsverify"].close()
        with app.app_context():
            db.session.remove()
            db.engine.dispose()


def test_an_app_without_the_extension_is_an_error() -> None:
    app = Flask("bare")
    result = app.test_cli_runner().invoke(smsverify, ["senders"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: SMSVerify.init_app was not called on this app. Call")


# --- limits -----------------------------------------------------------------------------------


def table(output: str) -> dict[str, list[str]]:
    """Return the rows of the table: scope and limit → used, left, next unit."""
    rows = [re.split(r" {2,}", line) for line in output.splitlines()]
    return {f"{row[0]} {row[1]}": row[2:] for row in rows[1:] if len(row) == 5}


def send(app: Flask, ip: str | None = None) -> None:
    with app.app_context():
        state = app.extensions["smsverify"]
        state.verifier.start(state.users.find("1"), ip=ip)


def test_limits_shows_those_of_the_site(app: Flask) -> None:
    send(app)
    rows = table(run(app, "limits"))
    assert rows["site 1000 in day"] == ["1", "999", "now"]
    assert rows["foreign 50 in day"] == ["0", "50", "now"]
    assert rows["site_failures 300 in hour"] == ["0", "300", "now"]
    assert not any(row.startswith("messages") for row in rows), "it has no limit"


def test_limits_shows_those_of_a_mobile_a_user_and_an_address(app: Flask) -> None:
    send(app, ip="192.0.2.7")
    rows = table(run(app, "limits", "--mobile", "0912 345 0001"))
    assert rows["mobile 5 in hour"] == ["1", "4", "now"]
    assert rows["mobile (unproven) 3 in hour"][1] == "3"
    assert table(run(app, "limits", "--user", "1"))["mobiles_per_user 3 in day"][0] == "1"
    assert table(run(app, "limits", "--ip", "192.0.2.7"))["ip 60 in hour"][0] == "1"
    assert table(run(app, "limits", "--ip", "192.0.2.8"))["ip 60 in hour"][0] == "0"
    every = run(app, "limits", "--mobile", "09123450001", "--user", "1", "--ip", "192.0.2.7")
    assert {"mobile", "user", "ip", "failures"} <= {row.split()[0] for row in table(every)}


def test_limits_shows_the_failures_on_the_devices_of_a_mobiles_owner(app: Flask) -> None:
    mobile = "+989123450001"
    with app.app_context():
        state = app.extensions["smsverify"]
        state.verifier.mark_verified(state.users.find("1"), by="staff")
        token = state.verifier.devices.dump(mobile, "1")
        challenge = state.verifier.start_for(mobile, purpose="sign-up", device=token)
        state.workers.wait()
        right = state.verifier._challenges.own_code(challenge)
        with pytest.raises(WrongCode):
            state.verifier.check(challenge, f"{(int(right) + 1) % 10**6:06}")
    rows = table(run(app, "limits", "--mobile", mobile, "--scope", "failures"))
    assert rows == {
        "failures 15 in day": ["0", "15", "now"],
        "failures (owner's device) 15 in day": ["1", "14", "now"],
    }
    run(app, "limits", "--mobile", mobile, "--scope", "failures", "--reset", "--yes")
    rows = table(run(app, "limits", "--mobile", mobile, "--scope", "failures"))
    assert rows == {"failures 15 in day": ["0", "15", "now"]}


def test_a_used_up_limit_shows_when_its_next_unit_is_free(make_app: MakeApp, sqlite: str) -> None:
    app = make_app(sqlite, SMSVERIFY_LIMITS={"mobile": "1/hour", "site": "1/minute"})
    send(app)
    [row] = [
        value
        for key, value in table(run(app, "limits", "--mobile", "09123450001")).items()
        if key == "mobile 1 in hour"
    ]
    assert row[:2] == ["1", "0"]
    assert re.fullmatch(r"in (60|59) min|in 1 h.*", row[2])
    assert re.fullmatch(r"in \d\d s", table(run(app, "limits"))["site 1 in minute"][2])


def test_reset_asks_and_resets_the_shown_limits_only(app: Flask) -> None:
    send(app)
    mobile = ["limits", "--mobile", "09123450001"]
    refused = run(app, *mobile, "--reset", answer="n\n")
    assert "Reset these limits?" in refused
    assert not refused.endswith("reset\n")
    assert table(run(app, *mobile))["mobile 5 in hour"][0] == "1"
    assert run(app, *mobile, "--reset", answer="y\n").endswith("reset\n")
    assert table(run(app, *mobile))["mobile 5 in hour"][0] == "0"
    assert table(run(app, "limits"))["site 1000 in day"][0] == "1", (
        "the limit of the site is not reset"
    )
    run(app, "limits", "--scope", "site", "--reset", "--yes")
    assert table(run(app, "limits"))["site 1000 in day"][0] == "0"


def test_a_reset_resets_all_limits_of_the_site_or_those_that_are_named(app: Flask) -> None:
    """A reset after an attack on guesses need not allow a second day's codes."""
    send(app)
    run(app, "limits", "--scope", "site_failures", "--scope", "foreign", "--reset", "--yes")
    assert table(run(app, "limits"))["site 1000 in day"][0] == "1"
    asked = run(app, "limits", "--reset", answer="y\n")
    assert "Reset these limits?" in asked
    assert table(run(app, "limits"))["site 1000 in day"][0] == "0"


def test_limits_shows_and_resets_only_the_scopes_that_are_named(app: Flask) -> None:
    send(app)
    mobile = ["limits", "--mobile", "09123450001", "--user", "1"]
    rows = table(run(app, *mobile, "--scope", "mobile"))
    assert {row.split()[0] for row in rows} == {"mobile"}
    assert len(rows) == 4, "the part without a proof too"
    run(app, *mobile, "--scope", "mobile", "--reset", "--yes")
    rows = table(run(app, *mobile))
    assert rows["mobile 5 in hour"][0] == "0"
    assert rows["user 5 in hour"][0] == "1"
    assert "there is no limit ip here" in run(app, *mobile, "--scope", "ip", ends=2)


def test_limits_refuses_an_invalid_address_mobile_or_user(app: Flask) -> None:
    for arguments, status in (
        (["--ip", "somewhere"], 2),
        (["--mobile", "12"], 1),
        (["--user", "99"], 1),
    ):
        assert "Error: " in run(app, "limits", *arguments, ends=status), arguments


def test_limits_says_that_no_such_limit_is_set(make_app: MakeApp, sqlite: str) -> None:
    scopes = ("ip", "network", "wide", "tries", "tries_network", "failures_ip", "failures_network")
    lifted = dict.fromkeys(scopes)
    app = make_app(sqlite, SMSVERIFY_LIMITS=lifted)
    assert "sets no such limit" in run(app, "limits", "--ip", "192.0.2.7")


def test_a_wrong_setting_is_an_error_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `flask` runs the command, which finds it by the entry point."""
    (tmp_path / "misspelled.py").write_text(
        "from hostapp import create_app as create\n"
        "def create_app():\n"
        "    return create('sqlite://', SMSVERIFY_CODE_LENGHT=6)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    done = CliRunner().invoke(flask.cli.cli, ["--app", "misspelled", "smsverify", "senders"])
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    assert "Traceback" not in done.output
    assert (
        "SMSVERIFY_CODE_LENGHT is not a setting; did you mean SMSVERIFY_CODE_LENGTH?" in done.output
    )
    assert ConfigurationError.__name__ not in done.output


# --- nothing of this over HTTP ----------------------------------------------------------------


def test_no_url_offers_what_the_commands_do(app: Flask) -> None:
    """Case 44 of docs/safety.md: outside the staff pages, a shell on the server is needed."""
    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    own = {endpoint for endpoint in endpoints if endpoint.startswith("smsverify")}
    assert {endpoint for endpoint in own if not endpoint.startswith("smsverify_admin.")} == {
        f"smsverify.{name}"
        for name in (
            *(
                "page",
                "send",
                "check",
                "mobile",
                "status",
                "sign_in",
                "sign_in_check",
                "first_proof",
                "first_proof_link",
                "leave",
                "static",
            ),
            *("confirm", "cancel", "undo"),
        )
    }
    assert not [
        endpoint
        for endpoint, view in app.view_functions.items()
        if view.__module__.startswith("flask_smsverify")
        and not endpoint.startswith(("smsverify.", "smsverify_admin."))
    ]
    visitor = app.test_client()
    visitor.get("/login/1")
    for name in ("admin", "staff", "users", "senders", "limits", "verify", "revoke", "unlock"):
        for path in (f"/verify-mobile/{name}", f"/verify-mobile/{name}/1", f"/smsverify/{name}"):
            for method in (visitor.get, visitor.post):
                assert method(path).status_code == 404


def test_no_view_calls_what_the_commands_call() -> None:
    """Case 44 of docs/safety.md."""
    methods = {"mark_verified", "revoke", "unlock", "forget", "reset"}
    package = Path(flask_smsverify.__file__).parent
    for path in (*(package / "web").glob("*.py"), package / "guard.py", package / "login_gate.py"):
        assert not methods & attributes_in(path), path
    used = set().union(*map(attributes_in, (package / "cli").glob("*.py")))
    assert methods - {"forget"} <= used


def attributes_in(path: Path) -> set[str]:
    """Return the names of the attributes that a module uses."""
    tree = ast.parse(path.read_text())
    return {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
