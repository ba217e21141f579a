"""What staff can do about the error of a sender, in their language.

Senders give advice in English, for logs and commands. The sentences of this package are translated.
Those of the app's own senders are shown as they are.
"""

from __future__ import annotations

import re

from markupsafe import Markup, escape

from ..web.interface import Interface


def _(message: str) -> str:
    """Mark a message id for extraction into the catalogues."""
    return message


#: Sorted. A test looks for sentences in the sources that are missing here.
_ADVICE = frozenset(
    {
        _("Add a second sender."),
        _("Add credit in Asanak's panel."),
        _("Add credit in MeliPayamak's panel."),
        _("Add credit in Raygan's panel."),
        _("Add credit in SMS.ir's panel."),
        _("Add credit to the account."),
        _("Add the opt-out text, for example with SMSVERIFY_OPT_OUT_FOOTER."),
        _("Allow this server's IP address for the API key in SMS.ir's panel."),
        _("Allow this server's IP address in MeliPayamak's panel."),
        _("Allow this server's IP address in Raygan's panel."),
        _("Ask MeliPayamak to enable shared lines for the account."),
        _("Ask MeliPayamak's support desk."),
        _("Ask Raygan to enable the recipient's operator, or add a second sender."),
        _("Ask Raygan's support desk."),
        _("Ask SMS.ir's support desk about the account."),
        _("Change the pattern in SMSVERIFY_PATTERNS or on the staff pages."),
        _("Change the text, or add a second sender."),
        _("Check base_url and whether this server can reach the gateway."),
        _("Check base_url."),
        _("Check the account's permissions and allowed IP addresses in the gateway's panel."),
        _("Check the credentials in the options."),
        _("Check the gateway's panel before sending again."),
        _("Check the gateway's status page and the account."),
        _("Check the id."),
        _("Check the option base_url."),
        _("Check the option body_id, or the template in SMSVERIFY_PATTERNS."),
        _("Check the option group_id."),
        _("Check the option line."),
        _("Check the option line: it must be a line of this account."),
        _("Check the option template_id, or the template in SMSVERIFY_PATTERNS."),
        _("Check the options api_key and secret_key."),
        _("Check the options line, template_id and code_parameter."),
        _("Check the options username and password."),
        _("Check the recipient and the text."),
        _("Check the recipient's number."),
        _("Check the sender's options in SMSVERIFY_SENDERS."),
        _("Check username and password, and ask Asanak's support desk about the account."),
        _("Choose an earlier date."),
        _("Choose another port."),
        _("Create a new API key in SMS.ir's panel and put it into the option api_key."),
        _("Enable the web service in Raygan's panel."),
        _("Give body_values, or the values in SMSVERIFY_PATTERNS, one value per variable."),
        _("Let this server connect to the gateway without a proxy."),
        _("Look for this message in Asanak's panel, or ask Asanak's support desk."),
        _("Put the API key into the option password."),
        _("Raise the account's limit in MeliPayamak's panel, or add a second sender."),
        _("Remove ';' from body_values."),
        _("Remove it from body_values, or from the values in SMSVERIFY_PATTERNS."),
        _("Remove the filtered word, or add a second sender."),
        _("Remove the link, or ask MeliPayamak to allow it."),
        _("Request an existing page."),
        _("Send in smaller batches."),
        _("Send less, or ask SMS.ir for a higher limit."),
        _("Send less, or ask the gateway for a higher limit."),
        _("Shorten the template's values."),
        _("Shorten the text."),
        _("The recipient can leave the blacklist at the operator."),
        _("Upgrade the plan at SMS.ir."),
        _("Upload the missing documents in MeliPayamak's panel."),
        _("Use a line of the account in the option line."),
        _("Use another sender for this, or complete this sender's options."),
        _("Wait until the update is over."),
        _("Write a text."),
    }
)


#: The name of an option or a setting, in a translation.
_NAME = re.compile("`([^`]+)`")


def show_advice(advice: str, ui: Interface) -> Markup:
    """Return advice in the reader's language if it is known, else unchanged."""
    shown = escape(ui.t(advice) if advice in _ADVICE else advice)
    return Markup(_NAME.sub(r'<code dir="ltr">\1</code>', str(shown)))  # noqa: S704 -- escaped above
