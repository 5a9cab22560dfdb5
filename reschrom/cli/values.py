"""The values that options take: how a word is read as a size, a whole number, a part of many or a time."""

import argparse
import re
from collections.abc import Callable

from reschrom.theory.bands import Size, sides, size_of

SIZE, PIXELS = "N|HEIGHTxWIDTH", "pixels along one side, or along both, such as 104x152"


def size(text: str) -> Size:
    """Return the size that a word says: 64, or 104x152."""
    try:
        height, cross, width = text.partition("x")
        return size_of(*sides((int(height), int(width if cross else height))))
    except ValueError:
        raise argparse.ArgumentTypeError(f"a number of pixels is needed, or HEIGHTxWIDTH; got {text}") from None


def at_least(least: int, most: int = 2**32 - 1) -> Callable[[str], int]:
    """Return what reads a whole number of at least so much, and at most what any seed may be, or less."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = -1
        if not least <= number <= most:
            bound = f" and at most {most}" if number > most else ""
            raise argparse.ArgumentTypeError(f"must be a whole number, {least} or more{bound}; got {text}")
        return number

    return read


def shard(text: str) -> tuple[int, int]:
    """Return which part, counted from 0, of how many."""
    part, _, parts = text.partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"must be I/N, the I-th of N parts; got {text}")
    return int(part) - 1, int(parts)


def duration(text: str) -> float:
    """Return the seconds of a time such as 90s, 25m or 1.5h."""
    written = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)([smh])", text)
    if written is None or not float(written[1]):
        raise argparse.ArgumentTypeError(f"must be a time such as 90s, 25m or 3h; got {text}")
    return float(written[1]) * {"s": 1, "m": 60, "h": 3600}[written[2]]
