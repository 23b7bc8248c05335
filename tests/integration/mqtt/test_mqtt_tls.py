"""A broker behind TLS that wants to know who we are: all arrives, and who is not let in is told why."""

import asyncio
import datetime as dt
import gc
import ipaddress
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion

from headend.mqtt.broker import Broker, BrokerRefused
from headend.mqtt.connection import connect
from protocols.errors import LinkError
from tests.integration.mqtt.conftest import Mosquitto

PASSWORD = "not-for-logs-7531"
COUNT = 1_500
GUARD_S = 60.0
_HERE = ipaddress.ip_address("127.0.0.1")


def _certificates(folder: Path) -> None:
    """An authority, and a broker at 127.0.0.1 that it vouches for."""
    now = dt.datetime.now(dt.UTC)

    def issue(name: str, signer: ec.EllipticCurvePrivateKey | None, issuer: x509.Name | None) -> x509.Name:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer or subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .sign(signer or key, hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        (folder / f"{name}.key").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        keys[name] = key
        return subject

    keys: dict[str, ec.EllipticCurvePrivateKey] = {}
    authority = issue("authority", None, None)
    issue("broker", keys["authority"], authority)


@pytest.fixture
def secured(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Mosquitto]:
    """Another mosquitto, with TLS and a user; the plain one only says that mosquitto is here."""
    folder = tmp_path / "tls"
    folder.mkdir()
    _certificates(folder)
    program = shutil.which("mosquitto_passwd")
    assert program is not None, "mosquitto_passwd comes with mosquitto"
    subprocess.run([program, "-b", "-c", str(folder / "users"), "headend", PASSWORD], check=True)
    (folder / "password").write_text(PASSWORD + "\n")
    broker = Mosquitto(
        folder,
        f"certfile {folder}/broker.pem\nkeyfile {folder}/broker.key\nallow_anonymous false\n"
        f"password_file {folder}/users",
    )
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def _broker(secured: Mosquitto, **other: object) -> Broker:
    folder = secured.folder
    settings = {
        "username": "headend",
        "password_file": folder / "password",
        "ca_file": folder / "authority.pem",
    }
    return Broker(f"mqtts://127.0.0.1:{secured.port}", **{**settings, **other})  # type: ignore[arg-type]


def _publish(secured: Mosquitto) -> None:
    """Many messages, some longer than a TLS record, from a client of its own."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="field")
    client.max_inflight_messages_set(COUNT)
    client.username_pw_set("headend", PASSWORD)
    client.tls_set(str(secured.folder / "authority.pem"))
    client.connect("127.0.0.1", secured.port)
    client.loop_start()
    sent = [client.publish("t", f"{n} ".encode() + b"x" * (n % 50 * 400), qos=1) for n in range(COUNT)]
    for one in sent:
        one.wait_for_publish(GUARD_S)
    client.disconnect()
    client.loop_stop()


async def test_everything_arrives_through_tls(secured: Mosquitto) -> None:
    numbers: list[int] = []
    async with asyncio.timeout(GUARD_S), connect(_broker(secured), "ingest") as connection:
        await connection.subscribe(["t"])
        publishing = asyncio.create_task(asyncio.to_thread(_publish, secured))
        while len(numbers) < COUNT:
            messages = await connection.take(500, 1 << 24, 1.0)
            numbers += [int(one.payload.split(b" ", 1)[0]) for one in messages]
            connection.acknowledge(messages)
        await publishing
    assert numbers == list(range(COUNT))


async def test_a_wrong_password_is_refused_and_not_told(secured: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "wrong").write_text("wrong-password-2468")
    with pytest.raises(BrokerRefused) as refused:
        async with connect(_broker(secured, password_file=tmp_path / "wrong"), "ingest"):
            pass
    assert "wrong-password" not in str(refused.value)
    assert "wrong-password" not in repr(_broker(secured, password_file=tmp_path / "wrong"))


# paho leaves the socket of a failed handshake to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_broker_that_nobody_vouches_for_gets_no_password(secured: Mosquitto) -> None:
    with pytest.raises((LinkError, BrokerRefused), match=r"(?i)certificate|ssl|tls"):
        async with connect(_broker(secured, ca_file=None), "ingest"):
            pass
    gc.collect()
