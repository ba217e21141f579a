"""Third-party clients of the gateways, from PyPI, against the simulator."""

import importlib
import warnings
from types import ModuleType

import pytest


def load(name: str) -> ModuleType:
    """Import a client's module without the warnings that its own code causes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


@pytest.fixture
def proxied(simulator, monkeypatch):
    """The simulator, set as the proxy for http."""
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy",
                 "ALL_PROXY"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", simulator.url)
    return simulator


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the client never closes its sessions
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # the client never closes its sessions
def test_the_melipayamak_client_sends_by_soap_through_the_proxy(proxied, clock):
    sms = load("melipayamak").Api("user", "pass").sms("soap")
    rec_id = sms.send("09123456789", "50004001", "کد شما: 12345")
    assert len(rec_id) >= 15
    assert proxied.messages()[0]["code"] == "12345"
    clock.advance(5)
    assert sms.is_delivered(int(rec_id)) == 1
    assert sms.send_by_base_number("4821", "09123456789", 7).isdecimal()
    assert sms.get_credit() == 999_999_998.0
    sent = sms.send2(["09123456789", "09121112233"], "50004001", "سلام")
    assert sent.SendSmsResult == 1
    assert proxied.messages()[0]["text"] == "سلام"


def test_the_melipayamak_client_sends_by_rest(simulator, monkeypatch):
    api = load("melipayamak").Api("user", "pass")
    rest = api.sms()
    path = f"{simulator.url}/melipayamak/api/SendSMS/%s"
    monkeypatch.setattr(type(rest), "PATH", path)
    sent = rest.send("09123456789", "50004001", "سلام")
    assert sent["StrRetStatus"] == "Ok"
    assert rest.is_delivered(sent["Value"])["RetStatus"] == 1
    assert rest.send_by_base_number("4821", "09123456789", 7)["RetStatus"] == 1
    assert rest.get_credit()["Value"] == "999999998.0"
    assert rest.get_messages(2, 0, 10)["Data"][1]["Body"] == "سلام"
    assert rest.get_numbers()["Data"]
    assert rest.get_base_price()["RetStatus"] == 1


def test_the_legacy_smsir_client_sends_through_the_proxy(proxied):
    load("smsir")
    token = load("smsir.token").get_token("key", "secret")
    assert token
    sms, club = load("smsir.sms"), load("smsir.customerclub")
    assert sms.VerificationCode("4821", "09123456789", token).json()["IsSuccessful"]
    assert proxied.messages()[0]["code"] == "4821"
    values = [{"Parameter": "VerificationCode", "ParameterValue": "55555"}]
    assert sms.UltraFastSend(values, "09123456789", "1", token).json()["IsSuccessful"]
    sent = sms.send_by_mobile_number("سلام", "09123456789", "3000", "", token).json()
    assert sent["Ids"][0]["MobileNo"] == "09123456789"
    assert sms.get_sms_line(token).json()["SMSLines"]
    assert load("smsir.token").get_credit(token).json()["Credit"] == 999_999_997.0
    assert club.add_contact(Mobile="09123456789", CategoryId="3", Token=token).ok
    assert club.get_allcontacts_By_pageid("1", token).json()["AllRecords"] == 1
    added = club.add_Contact_send(
        Mobile="09121112233", FirstName="Sara", CategoryId="3", MessageText="خوش آمدید", Token=token
    ).json()
    assert added["IsSuccessful"]
    assert proxied.messages()[0]["text"] == "خوش آمدید"
    assert club.get_allcontacts_By_pageid("1", token).json()["AllRecords"] == 2
    paged = club.get_send_messages_by_pagination(2, 3, token).json()
    assert (len(paged["Messages"]), paged["CountOfAll"]) == (1, 4)
    last = str(sent["Ids"][0]["ID"])
    newer = club.get_send_messages_by_pagination_And_lastId(last, token).json()["Messages"]
    assert [row["SMSMessageBody"] for row in newer] == ["خوش آمدید"]


def test_the_reports_of_the_legacy_smsir_client_honour_ids_dates_and_pages(proxied, clock, http):
    load("smsir")
    token = load("smsir.token").get_token("key", "secret")
    sms = load("smsir.sms")
    for number in range(5):
        sms.send_by_mobile_number(f"m{number}", "09123456789", "3000", "", token)
        arrival = {"gateway": "smsir", "from": "09123456789", "to": "3000", "text": f"r{number}"}
        http.post("/_api/incoming", json=arrival)
        clock.advance(60)
    # 2026-03-21 is 1405/01/01.
    today, tomorrow = ("1405/01/01", "1405/01/01"), ("1405/01/02", "1405/01/09")
    report = sms.get_report_by_date(*today, 2, 3, token).json()
    assert [row["SMSMessageBody"] for row in report["Messages"]] == ["m0"]
    assert sms.get_report_by_date(*tomorrow, 10, 1, token).json()["Messages"] == []
    one = sms.get_report_by_id(None, report["Messages"][0]["ID"], token).json()["Messages"]
    assert (one["SMSMessageBody"], one["NeedsReCheck"]) == ("m0", False)
    received = sms.get_receive_message_by_date(*today, "2", "1", token).json()["Messages"]
    assert [row["SMSMessageBody"] for row in received] == ["r4", "r3"]
    assert sms.get_receive_message_by_date(*tomorrow, "2", "1", token).json()["Messages"] == []
    after = sms.get_receive_message_by_last_id(str(received[1]["ID"]), token).json()["Messages"]
    assert [row["SMSMessageBody"] for row in after] == ["r4"]
    wrong = sms.get_report_by_date("1405/13/01", "1405/01/01", 2, 1, token).json()
    assert wrong["IsSuccessful"] is False


def test_the_smsir_client_sends(simulator, monkeypatch):
    kind = load("sms_ir").SmsIr
    monkeypatch.setattr(kind, "ENDPOINT", f"{simulator.url}/smsir")
    client = kind("key", 30007732000000)
    sent = client.send_verify_code("09123456789", 1, [{"name": "CODE", "value": "4821"}]).json()
    assert sent["status"] == 1
    assert simulator.messages()[0]["code"] == "4821"
    assert client.report_message(sent["data"]["messageId"]).json()["data"]["mobile"] == 9123456789
    pack = client.send_bulk_sms(["09123456789", "09121112233"], "سلام").json()["data"]
    assert len(client.report_pack(pack["packId"]).json()["data"]) == 2
    assert client.send_like_to_like(["09123456789"], ["سلام"]).json()["status"] == 1
    assert client.get_credit().json()["data"] == 999_999_996.0
    assert client.get_line_numbers().json()["data"]
    assert len(client.report_today().json()["data"]) == 4
    assert client.report_archived().json()["data"] == []
    assert client.report_latest_received(5).json()["data"] == []
    assert len(client.report_today(page_size=3, page_number=2).json()["data"]) == 1


def test_the_archives_of_the_smsir_client_honour_dates_and_pages(
    simulator, monkeypatch, clock, http
):
    kind = load("sms_ir").SmsIr
    monkeypatch.setattr(kind, "ENDPOINT", f"{simulator.url}/smsir")
    client = kind("key", 30007732000000)
    for number in range(3):
        client.send_bulk_sms(["09123456789"], f"m{number}")
        arrival = {"gateway": "smsir", "from": "09123456789", "to": "3000", "text": f"r{number}"}
        http.post("/_api/incoming", json=arrival)
        clock.advance(86_400)
    days = [int(clock.start.timestamp()) + 86_400 * number for number in range(4)]
    archived = client.report_archived(days[1], days[3]).json()["data"]
    assert [row["messageText"] for row in archived] == ["m2", "m1"]
    assert [
        row["messageText"] for row in client.report_archived(days[0], days[3], 2, 2).json()["data"]
    ] == ["m0"]
    received = client.report_archived_received(days[0], days[2]).json()["data"]
    assert [row["messageText"] for row in received] == ["r1", "r0"]
    assert client.report_today().json()["data"] == []


def test_the_asanak_client_sends(simulator):
    client = load("asanak_sms_client").AsanakSmsClient(
        "user", "pass", base_url=f"{simulator.url}/asanak"
    )
    (ref,) = client.send_sms("982100021000", "09123456789", "کد: 12345")
    assert simulator.messages()[0]["code"] == "12345"
    assert client.msg_status([str(ref)])[0]["Status"] == "1"
    assert len(client.send_p2p(["9821", "9821"], ["09123456789", "09121112233"], ["a", "b"])) == 2
    assert client.send_template(1, {"code": "4821"}, "09123456789")
    assert client.get_credit()["credit"] == 999_999_996
    assert client.get_templates()
