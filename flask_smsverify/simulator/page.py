"""The phone page: what phones received, what gateways were sent, and a switch for every fault.

It works without JavaScript: lists are rendered here and switches are plain forms. The script only
fetches this page again every second and moves what is new into place. Nothing comes from outside.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from .api import Wrong, fault_named, iso, receive, switch_fault
from .bodies import form_fields
from .gateway import Gateway
from .state import FAULTS, World

SHOWN_MESSAGES: Final = 60
SHOWN_REQUESTS: Final = 25

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

WORDS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "title": "SMS simulator",
        "lead": "Five gateways and the phone they reach. Nothing leaves this machine.",
        "phone": "Messages",
        "empty": "No message yet. Point a sender here and send one.",
        "call": "Voice call",
        "play": "Answer and listen",
        "copy_code": "Copy code",
        "copied": "Copied",
        "gateways": "Gateways",
        "requests": "Requests",
        "none": "No request yet.",
        "credit": "Credit",
        "on": "on",
        "off": "off",
        "no_answer": "no answer",
        "write": "Write from the phone",
        "from": "From",
        "to": "To line",
        "text": "Text",
        "send": "Send",
        "forget": "Clear the lists",
        "language": "فارسی",
        "queued": "queued",
        "sent": "at the operator",
        "delivered": "delivered",
        "slow": "Slow",
        "timeout": "Timeout",
        "http_500": "HTTP 500",
        "down": "Down",
        "refuse": "Refuse number",
        "no_credit": "No credit",
        "bad_credentials": "Bad credentials",
        "late_delivery": "Late delivery",
        "lost_answer": "Lost answer",
    },
    "fa": {
        "title": "شبیه‌ساز پیامک",
        "lead": "پنج درگاه پیامک و گوشی گیرنده. چیزی از این دستگاه بیرون نمی‌رود.",
        "phone": "پیام‌ها",
        "empty": "هنوز پیامی نرسیده است. یک فرستنده را به اینجا وصل کنید.",
        "call": "تماس صوتی",
        "play": "پاسخ و شنیدن",
        "copy_code": "رونوشت کد",
        "copied": "رونوشت شد",
        "gateways": "درگاه‌ها",
        "requests": "درخواست‌ها",
        "none": "هنوز درخواستی نیامده است.",
        "credit": "اعتبار",
        "on": "روشن",
        "off": "خاموش",
        "no_answer": "بی‌پاسخ",
        "write": "نوشتن از گوشی",
        "from": "از",
        "to": "به خط",
        "text": "متن",
        "send": "فرستادن",
        "forget": "پاک کردن فهرست‌ها",
        "language": "English",
        "queued": "در صف",
        "sent": "نزد اپراتور",
        "delivered": "رسید",
        "slow": "کند",
        "timeout": "بی‌پاسخ",
        "http_500": "خطای ۵۰۰",
        "down": "قطع",
        "refuse": "رد شماره",
        "no_credit": "بدون اعتبار",
        "bad_credentials": "نام یا رمز نادرست",
        "late_delivery": "تحویل با تأخیر",
        "lost_answer": "پاسخ گم‌شده",
    },
}


def blueprint(world: World, gateways: Mapping[str, Gateway]) -> Blueprint:
    """The page at `/` and the forms on it."""
    routes = Blueprint("page", __name__)

    @routes.get("/")
    def phone() -> ResponseReturnValue:
        language = _language()
        switched = {(fault.gateway, fault.fault): fault for fault in world.faults()}
        now = world.clock()
        recent = list(reversed(list(world.requests)))
        return render_template(
            "simulator/phone.html",
            words=WORDS[language],
            language=language,
            other="en" if language == "fa" else "fa",
            messages=[
                {
                    "message": message,
                    "state": message.state(now, world.pace),
                    "at": iso(message.arrives_at),
                    "clock": _clock(message.arrives_at),
                    "pieces": _around(message.text, message.code),
                }
                for message in world.arrived(limit=SHOWN_MESSAGES)
            ],
            gateways=[
                {
                    "name": name,
                    "title": gateway.title,
                    "credit": f"{world.accounts[name].credit:,.0f}",
                    "faults": [
                        {
                            "name": fault,
                            "means": means,
                            "on": (name, fault) in switched,
                            "times": switched[name, fault].times
                            if (name, fault) in switched
                            else None,
                        }
                        for fault, means in FAULTS.items()
                    ],
                    "requests": [
                        {"received": each, "clock": _clock(each.at)}
                        for each in recent
                        if each.gateway == name
                    ][:SHOWN_REQUESTS],
                    "count": sum(each.gateway == name for each in recent),
                }
                for name, gateway in gateways.items()
            ],
        )

    @routes.post("/faults")
    def switch() -> ResponseReturnValue:
        fields = form_fields(request)
        if fields.text("on") == "1":
            switch_fault(world, fields)
        else:
            world.switch_off(*fault_named(world, fields))
        return _back()

    @routes.post("/incoming")
    def write() -> ResponseReturnValue:
        receive(world, gateways, form_fields(request))
        return _back()

    @routes.post("/forget")
    def forget() -> ResponseReturnValue:
        world.clear_phone()
        world.requests.clear()
        return _back()

    @routes.errorhandler(Wrong)
    def wrong(error: Wrong) -> ResponseReturnValue:
        return Response(f"{error}\n", 422, content_type="text/plain; charset=utf-8")

    @routes.after_request
    def guarded(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _POLICY
        response.headers["Cache-Control"] = "no-store"
        return response

    return routes


def _language() -> str:
    return "fa" if request.values.get("lang") == "fa" else "en"


def _back() -> ResponseReturnValue:
    language = _language()
    return redirect(url_for("page.phone", lang=language if language == "fa" else None), 303)


def _clock(moment: datetime) -> str:
    """The time of day where the simulator runs."""
    return moment.astimezone().strftime("%H:%M:%S")


def _around(text: str, code: str | None) -> tuple[str, str, str]:
    """The text before the code, the code, and the text after it."""
    if not code or code not in text:
        return text, "", ""
    before, _, after = text.partition(code)
    return before, code, after
