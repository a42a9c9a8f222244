"""A visitor of the gallery, who has no browser."""

import re

import httpx

from tests.compose.shell import Failed

GALLERY_ADDRESS = "http://127.0.0.1:8080"
PASSWORD = re.compile(r"[a-z0-9]{4}(-[a-z0-9]{4}){4}")


class Visitor:
    """Signs in, and reads addresses of the gallery."""

    def __init__(self, address: str) -> None:
        headers = {"Origin": address, "X-Gallery": "1"}
        self._client = httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False)

    def sign_in(self, password: str) -> None:
        """Sign in.

        Raises:
            Failed: the gallery does not accept the password.
        """
        answer = self._client.post("/api/sign-in", json={"password": password})
        if answer.status_code != 204:
            raise Failed(f"the gallery does not accept its password: {answer.status_code} {answer.text}")

    def get(self, path: str) -> tuple[int, bytes]:
        """Return status and body of a path."""
        answer = self._client.get(path)
        return answer.status_code, answer.content
