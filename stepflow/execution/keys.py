"""STEPFLOW_SECRET_KEY: the keys that secrets are sealed with where they are stored."""

import binascii
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from importlib.util import find_spec
from typing import TYPE_CHECKING

from stepflow.errors import SecretKeyError

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

VARIABLE = "STEPFLOW_SECRET_KEY"

_KEY_BYTES = 32
_KEY_CHARACTERS = 44
_REMEDY = 'make one with: python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'


class SecretKeys:
    """Keys separated by commas: the first one seals, each of them opens what it has sealed.

    Raises:
        SecretKeyError: the text holds something else, or the package that seals is not installed.
    """

    def __init__(self, text: str) -> None:
        self._keys = [key.strip() for key in text.split(",")]
        for number, key in enumerate(self._keys, 1):
            if not _is_key(key):
                which = f"key {number} of {VARIABLE}" if len(self._keys) > 1 else VARIABLE
                raise SecretKeyError(f"{which} is not {_KEY_BYTES} bytes as URL-safe base64; {_REMEDY}")
        if find_spec("cryptography") is None:
            raise SecretKeyError(f"{VARIABLE} is set, and sealing needs: pip install 'stepflow-engine[secrets]'")

    @property
    def names(self) -> list[str]:
        """What each key may be called in public, the one that seals first."""
        return [sha256(key.encode()).hexdigest()[:16] for key in self._keys]

    def seal(self, content: bytes) -> str:
        return self._fernet.encrypt(content).decode()

    def open(self, token: str) -> bytes | None:
        """What was sealed; None: with another key, or the token was changed."""
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(token)
        except (InvalidToken, ValueError):
            return None

    @cached_property
    def _fernet(self) -> "MultiFernet":
        from cryptography.fernet import Fernet, MultiFernet  # heavy, and needed only where something is sealed

        return MultiFernet([Fernet(key) for key in self._keys])


def keys_of(environ: Mapping[str, str]) -> SecretKeys | None:
    """The keys that the environment holds; None: there are none. Raises: SecretKeyError."""
    text = environ.get(VARIABLE, "")
    return SecretKeys(text) if text.strip() else None


def _is_key(text: str) -> bool:
    try:
        return len(text) == _KEY_CHARACTERS and len(urlsafe_b64decode(text.encode())) == _KEY_BYTES
    except (ValueError, binascii.Error):
        return False
