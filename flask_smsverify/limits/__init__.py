"""Rate limits: where each of them is counted, and under which keys.

`sends` counts codes, `guesses` wrong guesses, and `other_counts` the rest. `cooldown` is the pause
between two sends. `verification` decides when: `send_limits` before a send, `check` before a guess.
"""
