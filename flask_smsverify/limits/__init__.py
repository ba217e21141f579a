"""Rate limits: where each of them is counted, and by which keys.

`sends_and_guesses` counts codes and wrong guesses, `other_counts` the rest. `verification` decides
when: `send_limits` before a send, `check` before a guess.
"""
