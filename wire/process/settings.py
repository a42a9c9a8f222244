"""Settings: environment variables, parsed once per process into one frozen object.

A settings class is the configuration. Each field is the environment variable of the same name in capitals. Its type
defines the allowed values, and its docstring is its documentation. All mistakes are reported at once, each with the
variable, its value and what was expected. A secret may also come from a file, named by the variable with ``_FILE``
appended.
"""

import ast
import inspect
import os
import textwrap
from collections import ChainMap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, FilePath, SecretStr, StringConstraints, ValidationError
from pydantic.fields import FieldInfo

from wire import topics
from wire.errors import ConfigurationError
from wire.process import log
from wire.process.credentials import STARS, without_credentials
from wire.process.log_text import quoted

# pydantic reads this when it builds a class. Otherwise it searches every installed package for plug-ins.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


@dataclass(frozen=True, slots=True)
class Expected:
    """What the value of a setting should be, in words for the operator."""

    words: str


@dataclass(frozen=True, slots=True)
class MayBeEmpty:
    """Marks a text for which an empty variable is a value of its own, and does not count as unset."""


@dataclass(frozen=True, slots=True)
class MayContainSecret:
    """Marks a text that may contain a secret, such as an address with a password. It may come from a file, too."""


Name = Annotated[
    str,
    StringConstraints(pattern=f"^{topics.NAME_PATTERN}$"),
    Expected("1 to 64 letters, digits, - or _, the first a letter or digit"),
]
Text = Annotated[str, StringConstraints(min_length=1), Expected("some text")]
Host = Annotated[str, StringConstraints(pattern=r"^[^\s/]+$"), Expected("a host name or address")]
Port = Annotated[int, Field(ge=1, le=65535), Expected("a port from 1 to 65535")]
Switch = Annotated[bool, Expected("true or false")]
Fraction = Annotated[float, Field(ge=0, le=1), Expected("a number from 0 to 1")]
Seconds = Annotated[float, Field(ge=0, le=86400), Expected("seconds, from 0 to 86400")]
File = Annotated[FilePath, Expected("an existing file")]
Secret = Annotated[SecretStr, Expected("a secret")]


class Settings(BaseModel):
    """The settings of every process."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    log_level: Annotated[Literal["debug", "info", "warning", "error"], Expected("debug, info, warning or error")] = (
        "info"
    )
    """Least severe level that is logged: debug, info, warning or error."""
    log_format: Annotated[Literal["console", "json"], Expected("console or json")] = "console"
    """Format of the log. console: text; json: one JSON object per line."""
    metrics_port: Port | None = None
    """Port on which Prometheus metrics are served. Default: they are not served."""
    metrics_host: Host = "127.0.0.1"
    """Address on which they are served. In the images it is 0.0.0.0, every network of the container."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Parse the settings from ``environ``. An empty variable counts as unset, except if its type is MayBeEmpty.

        Raises:
            ConfigurationError: one line for each mistake.
        """
        mistakes: list[str] = []
        values: dict[str, str] = {}
        from_files, may_be_empty = cls.from_files(), cls._marked(MayBeEmpty)
        for field in cls.model_fields:
            variable = field.upper()
            text = _read_secret(variable, environ, mistakes) if field in from_files else environ.get(variable)
            if text or (text is not None and field in may_be_empty):
                values[field] = text
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False)
            mistakes += [cls._describe_mistake(detail["loc"], detail["msg"], values) for detail in details]
        if mistakes:
            raise ConfigurationError("\n".join(mistakes))
        return settings

    def resolved(self) -> dict[str, str]:
        """Return every variable and its value as text, with secrets starred. This is logged at the start."""
        return {field.upper(): "" if value is None else without_credentials(str(value)) for field, value in self}

    def configure_logging(self) -> None:
        """Set up logging according to ``LOG_LEVEL`` and ``LOG_FORMAT``."""
        log.configure(self.log_level, self.log_format)

    @classmethod
    def secrets(cls) -> frozenset[str]:
        """Return the names of the fields that hold a secret."""
        return frozenset(
            field for field, info in cls.model_fields.items() if SecretStr in _parts(info.annotation, *info.metadata)
        )

    @classmethod
    def from_files(cls) -> frozenset[str]:
        """Return the names of the fields that may also come from a file: those that hold or may contain a secret."""
        return cls.secrets() | cls._marked(MayContainSecret)

    @classmethod
    def describe(cls) -> list[tuple[str, str, str]]:
        """Return variable, default and meaning of every setting."""
        owners = [owner for owner in cls.__mro__ if issubclass(owner, Settings)]
        meanings = ChainMap(*map(_attribute_docstrings, owners))
        return [
            (field.upper(), _default_text(info), " ".join(meanings[field].split()))
            for field, info in cls.model_fields.items()
        ]

    @classmethod
    def _marked(cls, mark: type) -> frozenset[str]:
        return frozenset(
            field
            for field, info in cls.model_fields.items()
            if any(isinstance(part, mark) for part in _parts(info.annotation, *info.metadata))
        )

    @classmethod
    def _describe_mistake(cls, location: tuple[int | str, ...], message: str, values: Mapping[str, str]) -> str:
        if not location:
            return message.removeprefix("Value error, ")
        field = str(location[0])
        info = cls.model_fields[field]
        descriptions = (part.words for part in _parts(info.annotation, *info.metadata) if isinstance(part, Expected))
        expected = next(descriptions, message)
        if field in values:
            value = STARS if field in cls.secrets() else quoted(values[field])
            return f"{field.upper()} is {value}: expected {expected}"
        if info.is_required():
            return f"{field.upper()} is not set: expected {expected}"
        default = info.get_default(call_default_factory=True)
        return f"{field.upper()} is not set, and its default {default!r} is not valid: expected {expected}"


def reveal(secret: SecretStr | None) -> str | None:
    """Return the value of a secret; None if it is not set."""
    return None if secret is None else secret.get_secret_value()


def _attribute_docstrings(cls: type) -> dict[str, str]:
    """Return the docstring under each field of a class.

    pydantic can do this, too, but for every class when it is defined: that takes a tenth of the detector's start.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    found = {}
    for statement, following in pairwise(getattr(definition, "body", ())):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = text
    return found


def _default_text(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if info.default_factory is not None or info.default is None:
        return "unset"
    return str(info.default).lower() if isinstance(info.default, bool) else str(info.default)


def _read_secret(variable: str, environ: Mapping[str, str], mistakes: list[str]) -> str:
    text, path = environ.get(variable, ""), environ.get(f"{variable}_FILE", "")
    if text and path:
        mistakes.append(f"{variable} and {variable}_FILE are both set: expected one of them")
    elif path:
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            mistakes.append(f"{variable}_FILE is {quoted(path)}: expected a file with the secret ({error})")
    return text


def _parts(annotation: Any, *metadata: Any) -> Iterator[Any]:
    """Yield a type, its metadata, and the same of every type within it, such as ``Name`` in ``Name | None``."""
    yield from metadata
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)
