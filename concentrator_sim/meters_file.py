"""Rows of the file that ``headend meters import --allow-plain-keys`` takes; the keys are simulated too."""

from typing import Final

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.security import MeterKeys

CSV_COLUMNS: Final = (
    "asset_id", "model", "address", "system_title", "logical_device_name", "feeder", "transformer", "point",
    "state", "encryption_key_plain", "authentication_key_plain", "master_key_plain", "lls_secret_plain",
    "hls_secret_plain",
)  # fmt: skip


def dlms_row(meter: SimulatedMeter, model: str, address: str) -> dict[str, str]:
    """What a DLMS meter's row says of who it is, where, and with which keys."""
    row = {
        "asset_id": meter.serial,
        "model": model,
        "address": address,
        "system_title": meter.system_title.hex().upper(),
        "logical_device_name": meter.name,
    }
    return row | _plain_keys(meter.keys)


def _plain_keys(keys: MeterKeys) -> dict[str, str]:
    secrets = {
        "encryption_key_plain": keys.encryption,
        "authentication_key_plain": keys.authentication,
        "master_key_plain": keys.master,
        "hls_secret_plain": keys.hls,
    }
    row = {name: key.reveal().hex() for name, key in secrets.items() if key is not None}
    if keys.lls is not None:
        row["lls_secret_plain"] = keys.lls.reveal().decode()
    return row
