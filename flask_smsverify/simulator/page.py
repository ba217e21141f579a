"""The phone page: the messages on phones, and the requests and faults of each gateway.

It works without JavaScript: the server renders the lists, and the switches are plain forms. The
script only fetches the page every second and replaces what has changed.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from .api import InvalidInput, disable_faults, enable_fault, iso_time, receive_message
from .faults import FAULTS, LINK_GATEWAYS, Fault
from .gateways.base import Gateway
from .http_data import form_fields
from .messages import FORCED_STATES, Message
from .page_texts import FAULT_DESCRIPTIONS_FA, PAGE_TEXTS
from .phone_numbers import national, parse_mobile
from .state import SimulatorState

MAX_SHOWN_MESSAGES: Final = 60
MAX_SHOWN_REQUESTS: Final = 25

_PERSIAN_DIGITS: Final = str.maketrans("0123456789,", "۰۱۲۳۴۵۶۷۸۹٬")

_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def create_blueprint(state: SimulatorState, gateways: Mapping[str, Gateway]) -> Blueprint:
    """Create the page at `/` and the routes of its forms."""
    page = Blueprint("page", __name__)

    @page.get("/")
    def phone() -> ResponseReturnValue:
        language = _language()
        everything = state.phones.messages(state.clock())
        shown_phone = request.args.get("to")
        return render_template(
            "simulator/phone.html",
            texts=PAGE_TEXTS[language],
            language=language,
            other_language="en" if language == "fa" else "fa",
            shown_phone=shown_phone,
            phones={
                to: _recipient(to, language)
                for to in dict.fromkeys(message.to for message in everything)
            },
            messages=[
                _message_item(message, state, language)
                for message in everything
                if shown_phone in (None, message.to)
            ][:MAX_SHOWN_MESSAGES],
            gateways=[
                _gateway_item(name, gateway, state, language) for name, gateway in gateways.items()
            ],
        )

    @page.post("/faults")
    def switch_fault() -> ResponseReturnValue:
        fields = form_fields(request)
        fault, _, value = fields.text("fault").partition(" ")
        if value:  # an error code or a state of the menu
            fields = fields.replaced("fault", fault).replaced(fault, value)
        if fields.text("on") == "1":
            enable_fault(state, gateways, fields)
        else:
            disable_faults(state, fields)
        return _redirect_to_page()

    @page.post("/incoming")
    def incoming() -> ResponseReturnValue:
        receive_message(state, gateways, form_fields(request))
        return _redirect_to_page()

    @page.post("/clear")
    def clear() -> ResponseReturnValue:
        state.phones.delete()
        state.requests.clear()
        return _redirect_to_page()

    @page.errorhandler(InvalidInput)
    def invalid_input(error: InvalidInput) -> ResponseReturnValue:
        return Response(f"{error}\n", 422, content_type="text/plain; charset=utf-8")

    @page.after_request
    def add_headers(response: Response) -> Response:
        response.headers["Content-Security-Policy"] = _CONTENT_SECURITY_POLICY
        response.headers["Cache-Control"] = "no-store"
        return response

    return page


def _message_item(message: Message, state: SimulatorState, language: str) -> dict[str, object]:
    return {
        "message": message,
        "sender": _localized(message.sender, language),
        "to": _recipient(message.to, language),
        "state": message.state_at(state.clock(), state.timing),
        "at": iso_time(message.arrives_at),
        "time": _localized(_local_time_of_day(message.arrives_at), language),
        "text_parts": _split_at_code(message.text, message.code),
    }


def _gateway_item(
    name: str, gateway: Gateway, state: SimulatorState, language: str
) -> dict[str, object]:
    active = {fault.name: fault for fault in state.faults.active() if fault.gateway == name}
    requests = [each for each in reversed(list(state.requests)) if each.gateway == name]
    descriptions = FAULT_DESCRIPTIONS_FA if language == "fa" else FAULTS
    return {
        "name": name,
        "title": gateway.title,
        "credit": _localized(f"{state.accounts[name].credit:,.0f}", language),
        "faults": [
            {
                "name": fault,
                "description": descriptions[fault],
                "is_on": fault in active,
                "times": _localized(active[fault].times or "", language) if fault in active else "",
                "value": _shown_value(_fault_value(active.get(fault)), language),
            }
            for fault in FAULTS
            if fault != "refuse_links" or name in LINK_GATEWAYS
        ],
        "is_idle": not requests and not active,
        "codes": {code: _localized(code, language) for code in gateway.codes},
        "states": {
            state: _shown_value(state, language) for state in [*FORCED_STATES, *gateway.raw_states]
        },
        "requests": [
            {"request": each, "time": _localized(_local_time_of_day(each.at), language)}
            for each in requests[:MAX_SHOWN_REQUESTS]
        ],
        "request_count": _localized(len(requests), language),
    }


def _fault_value(fault: Fault | None) -> str:
    """Return the code or the state of a fault that is on."""
    if fault is None:
        return ""
    return fault.state or ("" if fault.code is None else str(fault.code))


def _shown_value(value: str, language: str) -> str:
    """Return a state by its name in the language, and a code in its digits."""
    return PAGE_TEXTS[language].get(value) or _localized(value, language)


def _language() -> str:
    """Return the chosen language, otherwise the browser's."""
    chosen = request.values.get("lang")
    if chosen in PAGE_TEXTS:
        return str(chosen)
    # In the browser's order. `best_match` would choose an exact `fa` before a preferred `en-GB`.
    tags = (tag.partition("-")[0].lower() for tag in request.accept_languages.values())
    return next((tag for tag in tags if tag in PAGE_TEXTS), "en")


def _redirect_to_page() -> ResponseReturnValue:
    to = request.form.get("phone") or None
    return redirect(url_for("page.phone", lang=request.values.get("lang"), to=to), 303)


def _local_time_of_day(moment: datetime) -> str:
    return moment.astimezone().strftime("%H:%M:%S")


def _localized(value: str | int, language: str) -> str:
    """Return a value with the digits of the language."""
    return str(value).translate(_PERSIAN_DIGITS) if language == "fa" else str(value)


def _recipient(to: str, language: str) -> str:
    """Return a recipient, on the Persian page in national form: «۰۹۱۲ ۳۴۵ ۶۷۸۹»."""
    mobile = parse_mobile(to)
    if language != "fa" or mobile is None:
        return to
    number = national(mobile)
    return _localized(f"{number[:4]} {number[4:7]} {number[7:]}", language)


def _split_at_code(text: str, code: str | None) -> tuple[str, str, str]:
    """Return the text before the code, the code, and the text after it."""
    if not code or code not in text:
        return text, "", ""
    before, _, after = text.partition(code)
    return before, code, after
