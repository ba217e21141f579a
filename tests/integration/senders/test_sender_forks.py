"""Case 62 of docs/safety.md: a forked process uses connections of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: The parent makes a request and forks twice. Each process makes two requests at the same time as
#: the others, and checks that every answer is the answer to its own request.
SCRIPT = """
import os, sys
from flask_smsverify.senders.base import SenderIdentity
from flask_smsverify.senders.http import HttpTransport
from flask_smsverify.testing import LoopbackGateway, Reply

with LoopbackGateway(lambda request: Reply(200, request.target.encode())) as gateway:
    http = HttpTransport(SenderIdentity("main", "test"), gateway.url)

    def ask(name):
        for number in range(20):
            path = f"/{name.replace(chr(32), chr(45))}/{number}"
            assert http.request("GET", path).text == path, name

    ask("parent before")
    children = []
    for name in ("one", "two"):
        child = os.fork()
        if not child:
            try:
                ask(name)
            except BaseException as error:
                print("child", name, repr(error), file=sys.stderr, flush=True)
                os._exit(1)
            os._exit(0)
        children.append(child)
    ask("parent")
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    ask("parent after")
    print(codes, gateway.connections)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_forked_processes_share_no_connection_with_their_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[0, 0] 3", "one connection for each of the three processes"
