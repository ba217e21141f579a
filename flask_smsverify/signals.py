"""The signals and the values that each carries.

The sender of every signal, in blinker's sense, is the Flask app. Receivers usually name that
argument `sender`, so the name of a sender in `SMSVERIFY_SENDERS` is the value `sender_name`. No
signal carries a code or a text, and mobiles are masked.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: A code was sent. `challenge_id`, `user_id` (or None), `mobile`, `channel`, `sender_name`.
code_sent = _signals.signal("code-sent")
#: A mobile was proved. `user_id` (or None), `mobile`, `channel`, `purpose`. The channel is `sms` or
#: `voice`, or `staff` if a staff member marked the user as verified. A proof without an account is
#: signalled twice: after the right code with the user id None, and after the host has committed the
#: claim of its token with the user's id. In the second signal the channel is None if the challenge
#: has been erased. The purpose is `change` if the new number of a change replaced the old one.
mobile_verified = _signals.signal("mobile-verified")
#: A user signed in with a mobile. `user_id`, `mobile`, `is_new` (the account was created).
signed_in = _signals.signal("signed-in")
#: A wrong code was compared. `user_id` (or None), `mobile`, `attempts_left`.
verification_failed = _signals.signal("verification-failed")
#: A verification was revoked. `user_id`, `by`.
verification_revoked = _signals.signal("verification-revoked")
#: A gateway accepted a message. `message_id`, `kind`, `sender_name`, `mobile`.
message_sent = _signals.signal("message-sent")
#: An attempt failed: the gateway refused it, or reported later that the message will not arrive.
#: Another sender may still send the message. `message_id`, `kind`, `sender_name`, `mobile`.
message_failed = _signals.signal("message-failed")
#: A gateway reported that a message has arrived. This signal can precede `message_sent`.
#: `message_id`, `kind`, `sender_name`, `mobile`.
message_delivered = _signals.signal("message-delivered")
#: A number opted out of texts. `mobile`, `line` (or None).
opted_out = _signals.signal("opted-out")
#: A message from a phone arrived. `incoming_id`, `sender_name`, `mobile`.
message_received = _signals.signal("message-received")
#: A limit of codes or wrong guesses is used up (`limit` is `whole`). For `site`, `foreign` and
#: `site_failures`, the signal is also sent when half is used (`half`). It is also sent when the
#: part of `site` for requests without evidence, or the part of `mobile` that is not reserved for
#: its owner, is used up (`open`). `scope`, `limit`.
limit_reached = _signals.signal("limit-reached")
