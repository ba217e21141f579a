"""A loopback gateway with Raygan's calls for texts, which counts the accepted texts."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from flask_smsverify.testing.loopback import LoopbackGateway, Reply, Request


class RayganGateway(LoopbackGateway):
    """Accepts texts. `taken` counts them by recipient, even if the answer is lost.

    `before_answer` is called with the number of the send, after the texts were accepted.
    """

    def __init__(self) -> None:
        super().__init__(self._reply)
        self.taken: Counter[str] = Counter()
        self.before_answer: Callable[[int], None] = lambda _number: None
        self._lock = threading.Lock()
        self._sends = 0
        self._groups: dict[str, tuple[str, list[str]]] = {}

    @property
    def sender(self) -> dict[str, Any]:
        """The options of a sender that uses this gateway."""
        return {
            "gateway": "raygan",
            "username": "user",
            "password": "password",
            "line": "50001",
            "base_url": self.url,
        }

    def _reply(self, request: Request) -> Reply:
        import json

        body: Any = request.json
        method = request.path.rpartition("/")[2]
        result: Any
        if method == "SendMessage":
            with self._lock:
                self._sends += 1
                number = self._sends
                self.taken.update(body["Mobiles"])
                group = str(uuid.uuid4())
                self._groups[body["UserGroupID"]] = (group, body["Mobiles"])
            self.before_answer(number)
            result = group
        elif method == "ShowWhiteList":
            result = [int(mobile) for mobile in body["Mobiles"]]
        elif method == "GetGroupMessageId":
            found = self._groups.get(body["groupId"])
            if found is None:
                return _json(json.dumps({"Code": 3002, "Message": "", "Result": None}))
            result = found[0]
        elif method == "GroupMessageStatus":
            mobiles = next(
                mobiles
                for group, mobiles in self._groups.values()
                if group == body["GroupMessageId"]
            )
            states = [{"Mobile": mobile, "Status": 1} for mobile in mobiles]
            result = {"StatusCode": 1, "MessagesListState": states}
        else:
            result = {"Page": 1, "TotalPage": 1, "ReceivedMsgs": []}
        return _json(json.dumps({"Code": 0, "Message": "", "Result": result}))


def _json(text: str) -> Reply:
    return Reply(200, text.encode())
