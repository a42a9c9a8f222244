"""All checks, in their order."""

from collections.abc import Container, Iterator

from wire.check_broker import messages, sessions, sharing
from wire.check_broker.row import Answer, Row
from wire.check_broker.trial import Trial

FIRST_CHECKS = (*messages.CHECKS[:2], *sessions.FIRST_CHECKS)
"""What the others depend on: whether the client can connect, publish, receive, and connect a second time."""
CHECKS = (*FIRST_CHECKS, *messages.CHECKS[2:], *sessions.CHECKS, *sharing.CHECKS)


def examine(trial: Trial, only: Container[str] | None = None) -> Iterator[Row]:
    """Yield the rows, as far as ``only`` names them. If the client cannot connect, there is only the first one."""
    try:
        for check in CHECKS:
            if only is not None and check not in FIRST_CHECKS and check.name not in only:
                continue
            row = trial.row(check)
            yield row
            if check is CHECKS[0] and row.answer is not Answer.YES:
                return
    finally:
        trial.forget_sessions()
