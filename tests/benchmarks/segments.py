"""How long it takes to count the SMS parts of a text.

Run: python tests/benchmarks/segments.py

Each call gets another text, so that no cache can answer. The last column compares with a loop over
the characters, which is the obvious way to write it.
"""

# ruff: noqa: T201 -- a benchmark prints

from __future__ import annotations

import time

from flask_smsverify.i18n.segments import count_segments

_BASIC = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_EXTENSION = frozenset("\f^{}\\[~]|€")
_TEXTS = 2000
_ROUNDS = 15

TEXTS = {
    "code, 38 ASCII": "Your code is 123456. Do not share it. ",
    "160 ASCII": "The quick brown fox jumps over the lazy dog. " * 4,
    "160 accents": "Größe und Maß: àèéìòù " * 8,
    "160 with € and brackets": "The price is 5€ [each]. " * 7,
    "70 Persian": "کد تأیید شما ۱۲۳۴۵۶ است. " * 3,
    "160 Persian": "کد تأیید شما ۱۲۳۴۵۶ است. " * 7,
    "160 Persian and emoji": "سفارش شما رسید 😀. " * 10,
    "600 ASCII": "The quick brown fox jumps over the lazy dog. " * 14,
    "600 Persian": "کد تأیید شما ۱۲۳۴۵۶ است. " * 24,
}


def count_in_a_loop(text: str) -> int:
    """Count by looking at each character."""
    if all(char in _BASIC or char in _EXTENSION for char in text):
        sizes, single, multiple = [2 if char in _EXTENSION else 1 for char in text], 160, 153
    else:
        sizes, single, multiple = [2 if ord(char) > 0xFFFF else 1 for char in text], 70, 67
    if sum(sizes) <= single:
        return 1
    segments, free = 1, multiple
    for size in sizes:
        if size > free:
            segments, free = segments + 1, multiple
        free -= size
    return segments


def main() -> None:
    """Print microseconds per call: the best of some rounds, and the ratio to the loop."""
    print(f"{'text':26}{'µs':>8}{'loop/this':>12}")
    for label, words in TEXTS.items():
        length = int(label.split()[0]) if label[0].isdigit() else len(words)
        texts = [f"{number:04} {words}"[:length] for number in range(_TEXTS)]
        best = {}
        for count in (count_segments, count_in_a_loop):
            rounds = []
            for _ in range(_ROUNDS):
                start = time.perf_counter()
                for text in texts:
                    count(text)
                rounds.append((time.perf_counter() - start) / _TEXTS * 1e6)
            best[count] = min(rounds)
        ratio = best[count_in_a_loop] / best[count_segments]
        print(f"{label:26}{best[count_segments]:8.2f}{ratio:12.1f}")


if __name__ == "__main__":
    main()
