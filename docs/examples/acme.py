"""Acme, a gateway that we do not ship: `POST messages` and `GET credit`, by its API guide."""

from decimal import Decimal

from flask_smsverify.errors import Rejected, Unknown
from flask_smsverify.senders.base import Capability, Credit, Receipt, Sender, Status, credential
from flask_smsverify.senders.http import HttpTransport


class Acme(Sender):
    """One account at Acme."""

    gateway = "acme"

    def __init__(self, *, key, base_url="https://api.acme.example/v1", name=None):
        super().__init__(name=name)
        self._key = credential(self.name, "key", key)
        self._http = HttpTransport(self.name, base_url)

    @property
    def capabilities(self):
        return frozenset({Capability.TEXT, Capability.CODE_SMS, Capability.CREDIT})

    def _send_batch(self, batch):
        return [self._send(text) for text in batch]  # never more than `batch_limit`, which is 1

    def send_code(self, message):
        if message.channel != "sms":
            raise self._unable("codes by call")
        return self.send_text(message.to, message.text, reference=message.reference)

    def credit(self):
        left = self._ask("GET", "/credit").get("credit")
        if type(left) is not int:
            raise Unknown(self.name, "its credit is not a number")
        return Credit(Decimal(left), "IRR")

    def close(self):
        self._http.close()

    def _send(self, text):
        sent = self._ask("POST", "/messages", {"to": text.to, "text": text.text}).get("id")
        if not isinstance(sent, str) or not sent:
            raise Unknown(self.name, "its answer holds no id")
        return Receipt(text.to, Status.QUEUED, sent, reference=text.reference)

    def _ask(self, method, path, body=None):
        headers = {"Authorization": f"Key {self._key}"}
        answer = self._http.request(method, path, json=body, headers=headers)
        answer.refuse_service_faults()  # 401, 402, 403, 429, redirects and 5xx: Unavailable
        answer.refuse_wrong_address()  # 404 and 405: Misconfigured
        if answer.status == 422:  # Acme's guide: this number, or this text
            raise Rejected(self.name, "it refuses the number or the text", code="422")
        found = answer.json()  # Unknown where it is no JSON
        if answer.status not in (200, 201) or not isinstance(found, dict):
            answer.unreadable("an object")  # Unknown: it may have been sent
        return found
