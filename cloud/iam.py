"""Statements of IAM policies, as JSON documents. Does no I/O."""

from collections.abc import Sequence
from typing import Any

Document = dict[str, Any]
"""A JSON document."""


def allow(sid: str, action: str | Sequence[str], resource: str) -> Document:
    """Return a statement that allows an action, or several, on a resource."""
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}


def literal(prefix: str) -> str:
    """Return a prefix of keys as it is written in a policy, where an asterisk is a wildcard."""
    return prefix.replace("*", "${*}")


def policy(*statements: Document) -> Document:
    """Return a policy with these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}
