"""AWS IoT Core policies: decides what a connection may do, from the documents in ``deploy/aws-iot-core``."""

import fnmatch
import json
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from demo.program import ROOT

REGION, ACCOUNT = "us-east-1", "123456789012"
_VARIABLE = re.compile(r"\$\{([A-Za-z0-9:.]+)\}")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is connected."""

    policy: str
    """Name of its policy: device, sink or gallery."""
    thing: str
    """Name of the thing that its certificate is attached to."""
    client_id: str

    def may(self, action: str, resource: str) -> bool:
        """Return whether the policy allows ``action``, such as ``iot:Publish``, for ``resource``, such as ``topic/a``.

        Where the client id is not the name of the thing, variables of the thing have no value.
        """
        is_attached = self.client_id == self.thing
        variables = {"iot:ClientId": self.client_id}
        if is_attached:
            variables["iot:Connection.Thing.ThingName"] = self.thing
        arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:{resource}"
        return any(
            action in _listed(statement["Action"])
            and _holds(statement.get("Condition", {}), is_attached=is_attached)
            and any(_matches(pattern, arn, variables) for pattern in _listed(statement["Resource"]))
            for statement in _statements(self.policy)
        )


@cache
def _statements(name: str) -> list[dict[str, Any]]:
    text = (ROOT / "deploy" / "aws-iot-core" / f"{name}-policy.json").read_text()
    statements: list[dict[str, Any]] = json.loads(text.replace("REGION", REGION).replace("ACCOUNT", ACCOUNT))[
        "Statement"
    ]
    assert all(statement["Effect"] == "Allow" for statement in statements)
    return statements


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _holds(condition: dict[str, dict[str, str]], *, is_attached: bool) -> bool:
    expected = {"Bool": {"iot:Connection.Thing.IsAttached": "true"}}
    assert condition in ({}, expected), f"condition {condition}: expected {expected}"
    return is_attached or not condition


def _matches(pattern: str, arn: str, variables: dict[str, str]) -> bool:
    """Return whether ``pattern``, in which * stands for any text, names ``arn``."""
    if any(name not in variables for name in _VARIABLE.findall(pattern)):
        return False
    filled = _VARIABLE.sub(lambda found: variables[found[1]], pattern)
    return fnmatch.fnmatchcase(arn, filled.replace("[", "[[]"))
