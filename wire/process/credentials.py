"""Stars credentials in a text: in addresses of cameras and servers, in pipelines, and in messages that quote them.

Everything that is logged or printed for the operator passes it. There are more notations than can be told apart, so if
in doubt, more is starred than necessary.
"""

import re

STARS = "**********"

_IS_ADDRESS = re.compile(r"[A-Za-z][\w+.-]*(:[A-Za-z][\w+.-]*)?://")
_USER_INFO = r"(://){any}*@"
"""``user:password@`` after ``://``, up to the last @: a password may contain any character."""
_ENCODED_USER_INFO = re.compile(r"(%3A%2F%2F)\S*(%40)", re.IGNORECASE)
_BARE_USER_INFO = re.compile(r"(?<![^\s'\"=(,])(?!\S*://)[^\s'\"=/@:]+:[^\s'\"]*@")
"""The same without ``//``, as somebody may have mistyped it."""
_IS_SENSITIVE = (
    r"(?=[\w.$-]*(?:pass|pwd|psw|user|usr|login|account|token|secret|cred|signature|sess|private|auth|jwt|streamid)"
    r"|[\w.$-]*key(?![\w.$-])"
    r"|(?:[\w.$-]*[_.$-])?(?:pw|pas|sig|sign|sid|pin|nonce)(?![\w.$-]))"
)
_PARAMETER = rf"((?<![\w.$-]){_IS_SENSITIVE}[\w.$-]++(?:\s*=\s*|%3D))(?:\"[^\"]*\"|'[^']*'|(?:(?!%26){{any}})+)"
"""A parameter of a query, a path or a pipeline whose name says that it may be secret."""
_AUTHORIZATION = re.compile(
    r"(authorization\s*[:=]\s*(?:\(string\))?\W*(?:(?:basic|bearer|digest)\s+)?)[^\s'\"&\\]+", re.IGNORECASE
)
_RANDOM_LEVEL = re.compile(r"(?<=[^:/]/)(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*\d)[\w-]{16,}(?![^/?#\s'\"])", re.ASCII)
"""A level of a path that looks random, as in ``rtsps://host:7441/Vb7qCkXw2mJt9zRe``."""
_WORD_WITH_ADDRESS = re.compile(r"(?<!\S)\S+://\S+")


def _compile(any_in_text: str, pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.format(any=any_in_text), re.IGNORECASE)


_USER_INFO_IN_TEXT, _USER_INFO_IN_ADDRESS = _compile(r"\S", _USER_INFO), _compile(r"[\s\S]", _USER_INFO)
_PARAMETER_IN_TEXT, _PARAMETER_IN_ADDRESS = _compile(r"[^&\s'\"]", _PARAMETER), _compile(r"[^&]", _PARAMETER)


def without_credentials(text: str) -> str:
    """Return a text with everything starred that may be a credential."""
    is_address = _IS_ADDRESS.match(text) is not None  # as a whole, so its password may contain spaces
    text = _ENCODED_USER_INFO.sub(rf"\g<1>{STARS}\g<2>", text)
    text = (_USER_INFO_IN_ADDRESS if is_address else _USER_INFO_IN_TEXT).sub(rf"\g<1>{STARS}@", text)
    text = _BARE_USER_INFO.sub(f"{STARS}@", text)
    text = _AUTHORIZATION.sub(rf"\g<1>{STARS}", text)
    text = (_PARAMETER_IN_ADDRESS if is_address else _PARAMETER_IN_TEXT).sub(rf"\g<1>{STARS}", text)
    return _WORD_WITH_ADDRESS.sub(lambda found: _RANDOM_LEVEL.sub(STARS, found[0]), text)
