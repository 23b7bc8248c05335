"""Where a broker is, and who we are to it."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

_SCHEMES: Final = {"mqtt": (1883, False), "mqtts": (8883, True)}


class BrokerRefused(Exception):
    """The broker is there and will not have us: credentials, access, a client id. The message says what."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is, and who we are to it. Secrets are read when a connection is made, and not kept.

    ``url`` is ``mqtt://host:port`` or ``mqtts://host:port``, without user or password.
    """

    url: str
    username: str | None = None
    password_file: Path | None = field(default=None, repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    timeout_s: float = 10.0
    keepalive_s: int = 60

    @property
    def place(self) -> tuple[str, int, bool]:
        """Host, port, and whether TLS is spoken. Raises ValueError."""
        parts = urlsplit(self.url)
        known = _SCHEMES.get(parts.scheme)
        if known is None or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError("a broker is mqtt://host:port or mqtts://host:port")
        if parts.username is not None or parts.password is not None:
            raise ValueError("a broker's address has no user and no password: they are settings of their own")
        usual, tls = known
        return parts.hostname, parts.port or usual, tls

    def password(self) -> str | None:
        """The password of its file. Raises BrokerRefused where that cannot be read."""
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise BrokerRefused(f"the password file {self.password_file} cannot be read") from error

    def tls(self) -> ssl.SSLContext | None:
        """TLS as the settings say. Raises BrokerRefused where a file cannot be used."""
        if not self.place[2]:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except (OSError, ssl.SSLError) as error:
            raise BrokerRefused(f"the TLS files cannot be used: {error}") from error
        return context
