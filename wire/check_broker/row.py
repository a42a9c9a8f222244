"""A row of the result: what was checked, the answer, and what it means."""

import enum
from dataclasses import dataclass


class Answer(enum.Enum):
    """The answer of a check."""

    YES = "yes"
    PARTLY = "partly"
    NO = "no"
    NOT_PERMITTED = "not permitted"
    """What the broker permits to this client hides the answer."""
    UNKNOWN = "not known"
    """The broker does not tell, or an earlier check has failed."""


@dataclass(frozen=True, slots=True)
class Row:
    """The result of one check."""

    check: str
    answer: Answer
    detail: str
    """What was seen, in a few words."""
    meaning: str
    """What it means for Facewire."""
    is_required: bool = False
    """Whether Facewire cannot be carried without it."""
