"""Exponential backoff with jitter."""

import random


def delay_seconds(
    attempt: int, initial_seconds: float, max_seconds: float, *, jitter: float = 1.0, chance: float | None = None
) -> float:
    """Return the seconds to wait before the next attempt. The wait doubles with each attempt and has a random part.

    Marc Brooker, «Exponential Backoff And Jitter», AWS Architecture Blog, 2015.

    Args:
        attempt: how many attempts in a row have failed.
        initial_seconds: the longest wait for ``attempt`` 0.
        max_seconds: the longest wait for any attempt.
        jitter: the part of the wait that is random, 0 to 1. 1 is «full jitter»: from 0 to the longest wait.
        chance: a number from 0 to 1 that replaces the random one; for tests.
    """
    longest = min(max_seconds, initial_seconds * 2.0 ** min(attempt, 32))
    drawn = random.random() if chance is None else chance  # nosec B311  # noqa: S311 (jitter, not a secret)
    return longest * (1 - jitter + jitter * drawn)
