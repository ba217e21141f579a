"""Acme, a gateway that this package does not include: `POST messages` and `GET credit`."""

from decimal import Decimal

from flask_smsverify import (
    Capability,
    Credit,
    DeliveryState,
    HttpTransport,
    Receipt,
    Rejected,
    Sender,
    Unknown,
    parse_credential,
)


class Acme(Sender):
    """One account at Acme. A code is sent as a text, and there are no patterns."""

    gateway = "acme"

    def __init__(self, *, key, base_url="https://api.acme.example/v1", name=None):
        super().__init__(name=name)
        self._key = parse_credential(self.name, "key", key)
        self._http = HttpTransport(self.identity, base_url)

    @property
    def capabilities(self):
        return frozenset({Capability.TEXT, Capability.CODE_SMS, Capability.CREDIT})

    def send_batch(self, batch):
        return [self._send(text) for text in batch]  # at most `batch_limit` texts, which is 1

    def send_code(self, message):
        if message.channel != "sms":
            raise self.not_supported("codes by phone call")
        return self.send_text(message.to, message.text, reference=message.reference)

    def credit(self):
        amount = self._call("GET", "/credit").get("credit")
        if type(amount) is not int:
            raise self.make_error(Unknown, "the credit is not a number")
        return Credit(Decimal(amount), "IRR")

    def close(self):
        self._http.close()

    def _send(self, text):
        id_ = self._call("POST", "/messages", {"to": text.to, "text": text.text}).get("id")
        if not isinstance(id_, str) or not id_:
            raise self.make_error(Unknown, "the answer has no id")
        return Receipt(text.to, DeliveryState.QUEUED, id_, reference=text.reference)

    def _call(self, method, path, body=None):
        headers = {"Authorization": f"Key {self._key}"}
        answer = self._http.request(method, path, json=body, headers=headers)
        answer.raise_for_service_error()  # 401, 402, 403, 429, redirects and 5xx: Unavailable
        answer.raise_for_wrong_url()  # 404 and 405: Misconfigured
        if answer.status == 422:  # Acme's API guide, "Errors"
            raise self.make_error(Rejected, "the number or the text is refused", code="422")
        result = answer.json()  # raises Unknown if the body is not JSON
        if answer.status not in (200, 201) or not isinstance(result, dict):
            answer.raise_unreadable("an object")  # Unknown: it may have been sent
        return result
