"""What all checks need: clients, topics of their own, and what an earlier check has found."""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wire import topics
from wire.check_broker.client import CheckClient
from wire.check_broker.row import Answer, Row
from wire.errors import FacewireError, Refused
from wire.mqtt.endpoint import Endpoint
from wire.mqtt.granted import Granted
from wire.mqtt.reason_codes import NOT_AUTHORIZED

_BAD_CLIENT_ID, _BAD_CREDENTIALS = 0x85, 0x86
_NOT_PERMITTED = (NOT_AUTHORIZED, _BAD_CLIENT_ID, _BAD_CREDENTIALS)


class CannotTell(Exception):
    """A check has no answer. The text is the row's detail."""

    def __init__(self, answer: Answer, detail: str) -> None:
        super().__init__(detail)
        self.answer = answer


@dataclass
class Trial:
    """One examination of a broker."""

    endpoint: Endpoint
    device: str
    """The checks use topics below ``devices/<device>/check/``, which nobody else has subscribed to."""
    client_id: str
    """The client ids are this one, and this one with a hyphen and a number."""
    granted: Granted = field(default_factory=Granted)
    """What the broker has announced to the first client."""
    receives: bool = True
    """Whether what this client publishes below the topic arrives at this client."""
    has_many_clients: bool = True
    """Whether a second client can be connected beside the first."""
    _with_session: set[int] = field(default_factory=set)
    """Clients whose last connection has asked for a session."""
    _number: str = field(default_factory=lambda: secrets.token_hex(4))

    def topic(self, *levels: str) -> str:
        """Return a topic or filter of this examination."""
        return topics.to_cloud(self.device, "/".join(("check", self._number, *levels)))

    def client(self, number: int, *filters: str, **options: Any) -> CheckClient:
        """Connect a client. The first one has the number 1.

        Raises:
            FacewireError: the broker cannot be reached, or refuses the connection or a subscription.
            CannotTell: the broker permits only one connection.
        """
        if number > 1 and not self.has_many_clients:
            raise CannotTell(Answer.NOT_PERMITTED, "needs a second client")
        if options.get("session_seconds"):
            self._with_session.add(number)
        else:
            self._with_session.discard(number)
        return CheckClient(self.endpoint, self.id_of(number), *filters, **options)

    def id_of(self, number: int) -> str:
        """Return the client id of a client."""
        return self.client_id if number == 1 else f"{self.client_id}-{number}"

    def forget_sessions(self) -> None:
        """Let the broker end the sessions that a failed check may have left."""
        for number in sorted(self._with_session):
            with contextlib.suppress(FacewireError, CannotTell):
                self.client(number).close()

    def require_reading(self) -> None:
        """Raise CannotTell if what is published cannot be received."""
        if not self.receives:
            raise CannotTell(Answer.NOT_PERMITTED, "this client receives nothing")

    def row(self, check: "Check") -> Row:
        """Carry out a check."""
        try:
            answer, detail, meaning = check.look(self)
        except CannotTell as error:
            meaning = check.failed if error.answer is Answer.NO else check.hidden
            return Row(check.name, error.answer, str(error), meaning, check.is_required)
        except Refused as error:
            answer = Answer.NOT_PERMITTED if error.reason_code in _NOT_PERMITTED else Answer.NO
            meaning = check.hidden if answer is Answer.NOT_PERMITTED else check.failed
            return Row(check.name, answer, str(error), meaning, check.is_required)
        except FacewireError as error:
            return Row(check.name, Answer.NO, str(error), check.failed, check.is_required)
        except TimeoutError:
            return Row(check.name, Answer.NO, "no answer", check.failed, check.is_required)
        return Row(check.name, answer, detail, meaning, check.is_required)


Finding = tuple[Answer, str, str]
"""The answer, what was seen, and what it means."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check."""

    name: str
    look: Callable[[Trial], Finding]
    """Examines the broker. Raises CannotTell, FacewireError or TimeoutError."""
    is_required: bool = False
    failed: str = ""
    """What it means if the broker refuses, ends the connection or does not answer."""
    hidden: str = "give this client the rights, and check again"
    """What to do if the answer is hidden."""
