"""Exceptions of boto3: what S3 answered, in a code, a status and one line."""

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

NO_USABLE_ANSWER = (ClientError, BotoCoreError, ResponseParserError, HTTPError, OSError)
"""Exceptions of boto3 for every answer other than success, including none and one that is cut in the middle."""


def code_of(error: Exception) -> str:
    """Return S3's error code, such as ``AccessDenied``; empty if there is none."""
    return str(_response_of(error).get("Error", {}).get("Code", ""))


def message_of(error: Exception) -> str:
    """Return S3's error message; empty if there is none."""
    return str(_response_of(error).get("Error", {}).get("Message", ""))


def status_of(error: Exception) -> int:
    """Return the HTTP status of the answer; 0 if there is none."""
    return int(_response_of(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def reason_of(error: Exception) -> str:
    """Return one line for the operator."""
    details = _response_of(error).get("Error", {})
    if details.get("Code"):
        return f"{details['Code']}: {details.get('Message') or f'HTTP status {status_of(error)}'}"
    return " ".join(str(error).split()) or type(error).__name__


def _response_of(error: Exception) -> dict[str, Any]:
    response: dict[str, Any] = dict(error.response) if isinstance(error, ClientError) else {}
    return response
