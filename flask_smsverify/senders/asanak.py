"""Asanak (asanak.com): texts, codes, credit and states over REST, and messages pushed to a hook.

It has two interfaces with one account each. `v1rest` takes a form and answers in whichever of
three formats it likes: JSON, the same list as text, or XML. `v2rest` takes and answers JSON and
also sends differing texts in one call and codes by a template. Messages from phones come to a URL
of the host's; `read_push` reads one.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from typing import ClassVar, Literal, NoReturn
from xml.parsers import expat

import httpx

from ..errors import (
    ConfigurationError,
    Rejected,
    SenderError,
    Unavailable,
    Unknown,
)
from .base import (
    Capability,
    CodeMessage,
    Credit,
    Incoming,
    Receipt,
    Report,
    Sender,
    Status,
    Text,
    credential,
    e164,
    isolate,
    national,
    own_id,
    safe_reason,
    send_alike,
    status_of,
)
from .http import DEFAULT_TIMEOUT, Answer, HttpTransport, Timeout

BASE_URLS = {
    "v1rest": "https://panel.asanak.com/webservice/v1rest",
    "v2rest": "https://sms.asanak.ir/webservice/v2rest",
}

#: Asanak's web-service guide, 3-2 "msgstatus"; 20 is answered, and not in the guide.
STATES: dict[object, Status] = {
    "-1": Status.UNKNOWN,  # NotFound
    "1": Status.QUEUED,  # InQueue
    "4": Status.QUEUED,  # Pending: on its way to the operator
    "2": Status.SENT,  # Sent: the operator has it
    "7": Status.UNKNOWN,  # NoResponse: the operator did not say whether it took it
    "8": Status.REJECTED,  # Reject
    "10": Status.SENT,  # PartiallySent
    "9": Status.SENT,  # SentToDest
    "6": Status.DELIVERED,  # Success
    "5": Status.UNDELIVERED,  # Failed
    "11": Status.SENT,  # NoMsgID: parts of it are at the operator
    "12": Status.SENT,  # PartiallySuccess: parts are on the phone, of others nothing is known
    "13": Status.UNKNOWN,  # NoDelivery: no report within four hours
    "20": Status.UNKNOWN,
}

#: What v1rest says instead of a list of ids, with HTTP 200. Its guide, 3-1, promises "a message or
#: an error code" and lists none.
V1_WORDS: dict[str, tuple[type[SenderError], str]] = {
    "username or password is not valid": (Unavailable, "wrong username or password"),
    "source number is not valid": (Unavailable, "the line is not valid"),
}

#: `meta.status` of v2rest.
V2_CODES: dict[int, tuple[type[SenderError], str]] = {
    1002: (Unavailable, "the line is not valid"),
    1006: (Unavailable, "no credit"),
    1008: (Unavailable, "the account may not be used"),
    1009: (Unavailable, "the account may not be used"),
    1010: (Rejected, "the recipient's number is not valid"),
    1012: (Unavailable, "the account may not be used"),
    1015: (Unavailable, "the account may not be used"),
}

#: `V2_CODES` that mean one recipient of a call, not its text.
RECIPIENT_CODES = frozenset({"1010"})

#: `ReceiveTime` and the times of `msgstatus` name no zone. The gateway is in Iran, which has had no
#: daylight saving time since September 2022.
TEHRAN = timezone(timedelta(hours=3, minutes=30))


class Asanak(Sender):
    """One account at Asanak.

    :param line: the number to send from, `021…` or `9821…`.
    :param api: the interface the account was made for.
    :param template_id: v2rest's template that carries codes; without it a code goes as a text.
    :param code_parameter: the template's variable that is the code.
    :param base_url: everything before the method's name; the default is the interface's own.
    :raises ConfigurationError: an option that cannot work.
    """

    gateway = "asanak"
    batch_limit: ClassVar[int] = 100  # the guide, 3-1
    push_methods: ClassVar[frozenset[str]] = frozenset({"GET"})  # the guide, 4

    def __init__(
        self,
        username: str,
        password: str,
        line: str,
        api: Literal["v1rest", "v2rest"] = "v1rest",
        template_id: int | None = None,
        code_parameter: str = "code",
        *,
        base_url: str | None = None,
        timeout: Timeout | tuple[float, float, float] = DEFAULT_TIMEOUT,
        allow_http: bool = False,
        client: httpx.Client | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name=name)
        if api not in BASE_URLS:
            raise ConfigurationError(f"{self.name}: api must be 'v1rest' or 'v2rest'")
        self._username = credential(self.name, "username", username)
        self._password = credential(self.name, "password", password)
        self._line = credential(self.name, "line", line)
        self._v2 = api == "v2rest"
        self._template_id = _template_id(self.name, template_id)
        self._code_parameter = credential(self.name, "code_parameter", code_parameter)
        if self._template_id is not None and not self._v2:
            raise ConfigurationError(f"{self.name}: template_id needs api='v2rest'")
        self._http = HttpTransport(
            self.name,
            base_url or BASE_URLS[api],
            timeout=timeout,
            allow_http=allow_http,
            client=client,
        )

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(
            {Capability.TEXT, Capability.CODE_SMS, Capability.CREDIT, Capability.STATUS}
        )

    # --- what it writes -------------------------------------------------------------------------

    def _send_batch(self, batch: Sequence[Text]) -> list[Receipt]:
        if self._v2 and len({text.text for text in batch}) > 1:
            return isolate(batch, self._send_differing, RECIPIENT_CODES)
        return send_alike(batch, lambda texts: isolate(texts, self._send_one_text, RECIPIENT_CODES))

    def _send_one_text(self, texts: Sequence[Text]) -> list[Receipt]:
        return self._receipts(texts, self.send_sms([text.to for text in texts], texts[0].text))

    def _send_differing(self, texts: Sequence[Text]) -> list[Receipt]:
        return self._receipts(texts, self.send_p2p([(text.to, text.text) for text in texts]))

    def send_code(self, message: CodeMessage) -> Receipt:
        if message.channel != "sms":
            raise self._unable(f"codes by {message.channel}")
        if self._template_id is None:
            return self.send_text(message.to, message.text, reference=message.reference)
        ids = self.send_template(
            message.to, self._template_id, {self._code_parameter: message.code}
        )
        text = Text(message.to, message.text, message.reference)
        [receipt] = self._receipts([text], ids)
        if receipt.error is not None:
            raise receipt.error
        return receipt

    def send_sms(self, to: Sequence[str], text: str) -> list[str | None]:
        """One text to at most 100 recipients: Asanak's web-service guide, 3-1 "sendsms".

        :param to: E.164.
        :returns: an id per recipient, in order, shorter where the gateway left some out; None for
            what is no id.
        :raises SenderError: as the answer's words or code say; `Unknown` where no table has them.
        """
        request = {
            "source": self._line,
            "destination": ",".join(national(mobile) for mobile in to),
            "message": text,
        }
        return self._ids("sendsms", request, sent=[text])

    def send_p2p(self, texts: Sequence[tuple[str, str]]) -> list[str | None]:
        """Differing texts in one call: v2rest's "p2psendsms".

        :param texts: pairs of a mobile, E.164, and its text; at most 100.
        :returns: and raises as `send_sms`.
        """
        data = [
            {"source": self._line, "destination": national(mobile), "message": text}
            for mobile, text in texts
        ]
        return self._ids("p2psendsms", {"data": data}, sent=[text for _, text in texts])

    def send_template(
        self, to: str, template_id: int, parameters: Mapping[str, str]
    ) -> list[str | None]:
        """A template to one mobile: v2rest's "template".

        :param to: E.164.
        :param parameters: the template's variables by name.
        :returns: and raises as `send_sms`.
        """
        request = {
            "template_id": template_id,
            "parameters": dict(parameters),
            "destination": national(to),
        }
        return self._ids("template", request, sent=list(parameters.values()))

    # --- what it reads --------------------------------------------------------------------------

    def credit(self) -> Credit:
        """What is left, in the account's own unit: the guide, 3-3 "getcredit"."""
        answer = self._call("getcredit", {})
        if isinstance(answer, list) and len(answer) == 1:
            [answer] = answer
        if isinstance(answer, dict):
            answer = _field(answer, "credit")
        if isinstance(answer, int | float | str) and not isinstance(answer, bool):
            try:
                amount = Decimal(str(answer).strip())
            except InvalidOperation:
                amount = Decimal("NaN")
            # A negative number is how the older interface tells an error.
            if amount.is_finite() and 0 <= amount < 10**15:
                return Credit(amount)
        raise self._not_understood(answer, "a credit")

    def statuses(self, ids: Sequence[str]) -> dict[str, Status]:
        """Where these messages are: the guide, 3-2 "msgstatus"."""
        found = dict.fromkeys(ids, Status.UNKNOWN)
        for start in range(0, len(ids), self.batch_limit):
            part = ids[start : start + self.batch_limit]
            answer = self._call("msgstatus", {"msgid": ",".join(part)})
            if isinstance(answer, dict) and _field(answer, "MsgID") is not None:
                answer = [answer]
            if not isinstance(answer, list):
                raise self._not_understood(answer, "a list of states")
            for row in answer:
                id_ = _id(_field(row, "MsgID")) if isinstance(row, dict) else None
                if id_ in found:
                    state = _field(row, "Status")
                    if isinstance(state, int) and not isinstance(state, bool):
                        state = str(state)
                    found[id_] = status_of(STATES, state, gateway=self.name)
        return found

    def read_push(self, said: object) -> Sequence[Incoming | Report]:
        """A message from a phone, as Asanak calls the hook: the guide, 4.

        :param said: the query's `Destination`, `Source`, `ReceiveTime` and `MsgBody`, in any
            case; the guide also prints the last one as `Msg Body`.
        :returns: one message, with an id of our own making, since the gateway gives none: the same
            message pushed twice has the same id.
        :raises Unknown: without a source or a body it is no such message.
        """
        params = said if isinstance(said, Mapping) else {}
        given = {
            re.sub(r"[\s_+]", "", str(key)).casefold(): str(value) for key, value in params.items()
        }
        source, line, time = (
            given.get(key, "").strip() for key in ("source", "destination", "receivetime")
        )
        if not source or "msgbody" not in given:
            raise Unknown(self.name, "what was pushed is not a message", written=False)
        text = given["msgbody"]
        message = Incoming(
            id=own_id(self.gateway, line, e164(source), time, text),
            sender=e164(source),
            line=line,
            text=text,
            received_at=_time(time),
        )
        return [message]

    def close(self) -> None:
        self._http.close()

    # --- the two interfaces ---------------------------------------------------------------------

    def _call(
        self, method: str, request: Mapping[str, object], *, sent: Sequence[str] = ()
    ) -> object:
        """Make a call, and refuse what the interface's own errors say.

        :returns: the answer as JSON's types.
        """
        account = {"username": self._username, "password": self._password}
        headers = {"Accept": "application/json"}
        if self._v2:
            answer = self._http.request(
                "POST", f"/{method}", json=account | dict(request), headers=headers
            )
            return self._of_v2(answer, sent)
        form = account | {key: str(value) for key, value in request.items()}
        answer = self._http.request("POST", f"/{method}", form=form, headers=headers)
        return self._of_v1(answer, sent)

    def _of_v1(self, answer: Answer, sent: Sequence[str]) -> object:
        answer.refuse_service_faults()
        answer.refuse_wrong_address()
        value = read_any_format(answer)
        for words in _words(value):
            for known, (kind, reason) in V1_WORDS.items():
                if known in words.casefold():
                    raise kind(self.name, reason)
        if answer.status != 200:
            raise self._not_understood(value, "HTTP 200", sent)
        if isinstance(value, dict) and _field(value, "status") is not None and "MsgID" not in value:
            raise self._not_understood(value, "a success", sent)
        return value

    def _of_v2(self, answer: Answer, sent: Sequence[str]) -> object:
        try:
            value = answer.json()
        except Unknown:
            value = None
        meta = value.get("meta") if isinstance(value, dict) else None
        code = meta.get("status") if isinstance(meta, dict) else None
        if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
            code = int(code)
        if isinstance(code, int) and code in V2_CODES:
            kind, reason = V2_CODES[code]
            raise kind(self.name, reason, code=str(code))
        answer.refuse_service_faults()
        if value is None:
            answer.refuse_wrong_address()
            answer.unreadable("JSON")
        if answer.status == 200 and code == 200 and isinstance(value, dict):
            return value.get("data")
        raise self._not_understood(meta, "a success", sent, code=code)

    def _not_understood(
        self,
        value: object,
        expected: str,
        sent: Sequence[str] = (),
        *,
        code: object = None,
    ) -> Unknown:
        """What is in no table. Its words are kept, where they are words."""
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10_000:
            code = value
        words = " ".join(_words(value))
        echoes = (self._username, self._password, *sent)
        got = f": {safe_reason(words, sent=echoes)}" if words else " something else"
        reason = f"expected {expected}, got{got}"
        known = isinstance(code, int) and not isinstance(code, bool) and abs(code) < 10_000
        return Unknown(self.name, reason, code=str(code) if known else None)

    def _ids(
        self, method: str, request: Mapping[str, object], *, sent: Sequence[str]
    ) -> list[str | None]:
        """Make a call that sends. A list of ids is success, and nothing else is."""
        value = self._call(method, request, sent=sent)
        if not isinstance(value, list):
            raise self._not_understood(value, "a list of ids", sent)
        return [_id(item) for item in value]

    def _receipts(self, texts: Sequence[Text], ids: Sequence[str | None]) -> list[Receipt]:
        """Ids come in the order of the recipients. More than there are recipients fit none."""
        if len(ids) > len(texts):
            ids = ()
        receipts = []
        for place, text in enumerate(texts):
            id_ = ids[place] if place < len(ids) else None
            if id_ is not None:
                receipts.append(Receipt(text.to, Status.QUEUED, id_, text.reference))
                continue
            unsure = Unknown(self.name, "the answer holds no id for this recipient")
            receipts.append(
                Receipt(text.to, Status.UNKNOWN, reference=text.reference, error=unsure)
            )
        return receipts


def _template_id(name: str, value: object) -> int | None:
    if value in (None, ""):
        return None
    text = credential(name, "template_id", value)
    if not text.isascii() or not text.isdigit():
        raise ConfigurationError(f"{name}: template_id must be the template's number")
    return int(text)


def _id(value: object) -> str | None:
    """A message's id: a positive number, or its digits. A negative one is an error code."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    text = str(value).strip()
    valid = text.isascii() and text.isdigit() and len(text) <= 30 and text.strip("0") != ""
    return text if valid else None


def _field(row: Mapping[object, object], name: str) -> object:
    """A member by its name in any case."""
    for key, value in row.items():
        if isinstance(key, str) and key.casefold() == name.casefold():
            return value
    return None


def _words(value: object) -> list[str]:
    """The sentences in an answer: itself, or its members that are text."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [member for member in value.values() if isinstance(member, str)]
    return []


def _time(text: str) -> datetime | None:
    try:
        local = datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=TEHRAN)
    except ValueError:
        return None
    # A year of the Persian calendar is read as none: it would be off by six centuries.
    return local.astimezone(UTC) if local.year >= 2000 else None


# --- three formats, one meaning -----------------------------------------------------------------


def read_any_format(answer: Answer) -> object:
    """An answer of v1rest as JSON's types, whichever of its formats it has; else its text.

    As XML, `<response>` of `MsgID`s is a list of texts, of `MsgStatus`es a list of objects, of
    other elements an object, and of none its text: the guide, 3-1 and 3-2.

    :raises Unknown: XML with a DTD, nested too deep, or cut off.
    """
    text = answer.text.strip()
    if text.startswith("<"):
        own_text, rows = _read_xml(answer)
        if not rows:
            return own_text
        if all(tag == "MsgID" and isinstance(value, str) for tag, value in rows):
            return [value for _, value in rows]
        if all(tag == "MsgStatus" and isinstance(value, dict) for tag, value in rows):
            return [value for _, value in rows]
        return dict(rows)
    if text[:1] in ("[", "{") or re.fullmatch(r"-?\d{1,30}(\.\d{1,30})?", text):
        return answer.json()
    if text[:1] == text[-1:] == '"' and len(text) > 1:
        # Words, quoted or not, mean the same here.
        return str(json.loads(text)) if _is_json(text) else text
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _NotOurs(Exception):
    """XML that this gateway does not write."""


def _read_xml(answer: Answer) -> tuple[str, list[tuple[str, str | dict[str, str]]]]:
    """`<response>`: its text, and its children, each as its text or its own children's by name.

    expat loads nothing from outside on its own; a DTD, which any entity needs, is refused as soon
    as it starts.
    """
    rows: list[tuple[str, str | dict[str, str]]] = []
    path: list[str] = []
    texts: list[list[str]] = [[]]
    inner: dict[str, str] = {}

    def refuse(*_: object) -> NoReturn:
        raise _NotOurs

    def opened(tag: str, _attributes: object) -> None:
        path.append(tag)
        texts.append([])
        if len(path) > 3 or path[0] != "response":
            raise _NotOurs

    def closed(tag: str) -> None:
        text = "".join(texts.pop()).strip()
        path.pop()
        if len(path) == 2:
            inner[tag] = text
        elif len(path) == 1:
            rows.append((tag, dict(inner) if inner else text))
            inner.clear()
        else:
            texts[0].append(text)

    def said(text: str) -> None:
        texts[-1].append(text)

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = opened
    parser.EndElementHandler = closed
    parser.CharacterDataHandler = said
    with contextlib.suppress(expat.ExpatError, _NotOurs, ValueError, LookupError):
        parser.Parse(answer.body, True)
        return "".join(texts[0]), rows
    return answer.unreadable("XML of its own")
