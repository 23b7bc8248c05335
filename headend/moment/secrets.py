"""Secrets of webhooks: sealed before they are stored, opened only to sign."""

from typing import Final

from pydantic import SecretStr

from headend.keys.seal import Sealer, SealError
from headend.store.webhooks import NewWebhook, Webhook

#: Bytes of a secret.
SHORTEST: Final = 16
LONGEST: Final = 256


class NoSecret(ValueError):
    """There is nothing to sign with; the message says what to give."""


class WebhookSecrets:
    """``default`` is the one of the settings; ``sealer`` None: there is no master key, and none is taken."""

    def __init__(self, sealer: Sealer | None, default: SecretStr | None) -> None:
        self._sealer = sealer
        self._default = default

    def sealed(self, url: str, secret: SecretStr | None) -> NewWebhook:
        """What is stored of a webhook. Raises NoSecret."""
        if secret is None:
            if self._default is None:
                raise NoSecret("is needed: the settings have no webhook_secret to sign with")
            return NewWebhook(url)
        if self._sealer is None:
            raise NoSecret("cannot be kept without a master key; leave it out to sign with webhook_secret")
        sealed = self._sealer.seal_webhook_secret(secret.get_secret_value().encode())
        return NewWebhook(url, sealed, self._sealer.current_id)

    def opened(self, webhook: Webhook) -> str:
        """The secret of a stored webhook. Raises SealError."""
        if webhook.secret is None or webhook.sealed_by is None:
            if self._default is None:
                raise SealError("webhook_secret of the settings is gone")
            return self._default.get_secret_value()
        if self._sealer is None:
            raise SealError("there is no master key to open a webhook's secret with")
        return self._sealer.open_webhook_secret(webhook.secret, webhook.sealed_by).decode()
