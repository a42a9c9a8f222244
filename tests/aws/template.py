"""Reads the CloudFormation template, and resolves what its properties refer to."""

import re
from collections.abc import Mapping
from typing import Any

import yaml

from demo.program import ROOT

PATH = ROOT / "deploy" / "aws" / "facewire.yaml"


class _Loader(yaml.SafeLoader):
    """Reads the short forms of functions, such as ``!Ref``, as the long ones."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix == "Ref" else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


def load() -> dict[str, Any]:
    """Return the template, with functions in their long form."""
    parsed: dict[str, Any] = yaml.load(PATH.read_text(), Loader=_Loader)  # noqa: S506 (a SafeLoader)
    return parsed


def resolve(value: Any, names: Mapping[str, str]) -> Any:
    """Return ``value`` with each ``Ref`` and ``Fn::Sub`` replaced by what ``names`` has for it."""
    if isinstance(value, list):
        return [resolve(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"}:
        return names[value["Ref"]]
    if set(value) == {"Fn::Sub"}:
        text, own = value["Fn::Sub"], dict[str, str]()
        if isinstance(text, list):
            text, own = text[0], resolve(text[1], names)
        return re.sub(r"\$\{([A-Za-z:]+)\}", lambda found: {**names, **own}[found[1]], text)
    return {key: resolve(item, names) for key, item in value.items()}
