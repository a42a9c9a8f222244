"""How long to wait before trying again."""

import random


def delay_seconds(attempt: int, first: float, most: float, chance: float | None = None) -> float:
    """Return a wait that grows with each attempt: exponential backoff with full jitter.

    Marc Brooker, «Exponential Backoff And Jitter», AWS Architecture Blog, 2015.

    Args:
        attempt: how many attempts in a row have failed.
        first: the longest wait before the first new attempt, in seconds.
        most: the longest wait at all, in seconds.
        chance: a number from 0 to 1; None: a random one.

    Returns:
        Seconds, from 0 to ``most``.
    """
    longest = min(most, first * 2.0 ** min(attempt, 32))
    return longest * (random.random() if chance is None else chance)  # nosec B311  # noqa: S311 (jitter, not a secret)
