"""The signals, each with what it carries. None carries a code or a text.

The sender of every signal is the Flask app. Mobiles in them are masked.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: A code went out. `challenge_id`, `user_id` (or None), `mobile` (masked), `channel`, `gateway`.
code_sent = _signals.signal("code-sent")
#: A user proved a mobile. `user_id` (or None), `mobile` (masked), `channel`, `purpose`.
mobile_verified = _signals.signal("mobile-verified")
#: A compared code was wrong. `user_id` (or None), `mobile` (masked), `attempts_left`.
verification_failed = _signals.signal("verification-failed")
#: A verification was taken back. `user_id`, `by`.
verification_revoked = _signals.signal("verification-revoked")
#: A message was handed to a gateway. `message_id`, `kind`, `gateway`, `mobile` (masked).
message_sent = _signals.signal("message-sent")
#: A gateway did not take a message, and another may have; or it reports that the message will not
#: arrive. `message_id`, `kind`, `gateway`, `mobile` (masked).
message_failed = _signals.signal("message-failed")
#: A gateway reports a message on the phone, at times before we announce that it was sent.
#: `message_id`, `kind`, `gateway`, `mobile` (masked).
message_delivered = _signals.signal("message-delivered")
#: A message from a phone came in. `incoming_id`, `gateway`, `mobile` (masked).
message_received = _signals.signal("message-received")
#: A budget has nothing left, or the site's failures passed half of theirs. `scope`, `limit`.
budget_spent = _signals.signal("budget-spent")
