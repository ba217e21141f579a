"""Acme's sender passes the contract of senders."""

from acme import Acme

from flask_smsverify.testing import Reply, SenderContract


class TestAcme(SenderContract):
    credentials = ("open-sesame",)

    def make_sender(self, base_url):
        return Acme(key="open-sesame", base_url=base_url)

    def answer(self, request):
        if request.path == "/credit":
            return Reply(200, b'{"credit": 120000}')
        return Reply(201, b'{"id": "m-17"}')
