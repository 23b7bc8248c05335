"""Broker and plan as the settings say."""

from headend.mqtt.broker import Broker
from headend.mqtt.slots import Plan
from schemas.config import Settings


def broker(settings: Settings) -> Broker:
    """Raises ValueError where the settings name none."""
    if settings.mqtt_url is None:
        raise ValueError("mqtt_url names no broker")
    return Broker(
        settings.mqtt_url,
        settings.mqtt_username,
        settings.mqtt_password_file,
        settings.mqtt_ca_file,
        settings.mqtt_cert_file,
        settings.mqtt_key_file,
        timeout_s=settings.connect_timeout_s,
    )


def plan(settings: Settings) -> Plan:
    """Slots are named by their place in the settings, from 0."""
    return Plan(
        {str(number): filters for number, filters in enumerate(settings.mqtt_slots)},
        client_id=settings.mqtt_client_id,
        lease_s=settings.mqtt_lease_s,
        retry_longest_s=settings.retry_longest_s,
        bunch=settings.mqtt_bunch,
        gap_first_s=settings.mqtt_gap_first_s,
        gap_longest_s=settings.mqtt_gap_longest_s,
        gap_attempts=settings.mqtt_gap_attempts,
    )
