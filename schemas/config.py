"""Settings: from environment variables ``HEADEND_*`` and a TOML file, in that order of precedence.

The file is ``HEADEND_CONFIG`` or ``./headend.toml`` where that exists; its keys are the field names below,
and each field ``x`` has the variable ``HEADEND_X``. Unknown keys of either are refused with their place.
Errors and `repr` never hold a value that came in, since it may be a secret.
"""

import itertools
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import SettingsError as UnreadableVariable

from schemas.network import LinkKind
from schemas.people import ROLES, Grant, Permission, Role

_PREFIX: Final = "HEADEND_"
_CONFIG: Final = "HEADEND_CONFIG"
#: Variables of the tests: not settings.
_TEST_PREFIX: Final = "HEADEND_TEST_"


class SettingsError(ValueError):
    """Settings that cannot be used; the message says where each wrong one stands."""


def _check_listener(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError("must be host:port, as in 127.0.0.1:4059 or [::1]:4059")
    return text


def _check_title(text: str) -> str:
    try:
        title = bytes.fromhex(text)
    except ValueError:
        title = b""
    if len(title) != 8:
        raise ValueError("must be 16 hexadecimal digits (8 bytes)")
    return text.upper()


def _check_broker(text: str) -> str:
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError("has no user and no password: mqtt_username and mqtt_password_file have them")
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError("must be mqtt://host:port or mqtts://host:port")
    return text


def _check_https(text: str) -> str:
    parts = urlsplit(text)
    is_local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and is_local)):
        raise ValueError("must be https://..., or http:// on this host")
    return text


def _check_grant(text: str) -> str:
    return str(Grant.parse(text))


def _check_slots(slots: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    for number, filters in enumerate(slots):
        for one in filters:
            levels = one.split("/")
            bad = any(("#" in level or "+" in level) and len(level) > 1 for level in levels)
            if not one or not one.isprintable() or bad or "#" in levels[:-1]:
                raise ValueError(f"slot {number}: {one!r} is no topic filter")
    if not slots or not all(slots):
        raise ValueError("each slot needs a topic filter")
    for number, filters in enumerate(slots):
        for other in slots[number + 1 :]:
            for one, two in itertools.product(filters, other):
                if _meet(one.split("/"), two.split("/")):
                    raise ValueError(f"{one} and {two} have topics in common and stand in two slots")
    return slots


def _meet(one: list[str], two: list[str]) -> bool:
    """Whether a topic fits both filters (MQTT 3.1.1, 4.7.1: # also stands for no level)."""
    if not one or not two:
        return one == two or (one or two) == ["#"]
    if "#" in (one[0], two[0]):
        return True
    return (one[0] == two[0] or "+" in (one[0], two[0])) and _meet(one[1:], two[1:])


def _none_if_empty(value: Any) -> Any:
    # an empty variable is how a service file or compose file says "not set"
    return None if value == "" else value


def _check_webhook_secret(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not 16 <= len(secret.get_secret_value().encode()) <= 256:
        raise ValueError("must have 16 to 256 bytes")
    return secret


Listener = Annotated[str, AfterValidator(_check_listener)]
_OptionalListener = Annotated[Listener | None, BeforeValidator(_none_if_empty)]
_OptionalSecret = Annotated[SecretStr | None, BeforeValidator(_none_if_empty)]
_OptionalBroker = Annotated[
    Annotated[str, AfterValidator(_check_broker)] | None, BeforeValidator(_none_if_empty)
]
#: What may be put under four eyes: `schemas.program.ProgramKind`, and changes of roles.
FourEyes = Literal["clock", "tariff", "firmware", "switch", "limit", "keys", "parameters", "role"]
_OptionalPath = Annotated[Path | None, BeforeValidator(_none_if_empty)]
Seconds = Annotated[float, Field(gt=0, le=86400, allow_inf_nan=False)]


def config_file() -> Path | None:
    """The settings file in use: HEADEND_CONFIG, else ./headend.toml where it exists, else None."""
    named = os.environ.get(_CONFIG)
    if named:
        return Path(named)
    usual = Path("headend.toml")
    return usual if usual.is_file() else None


class Settings(BaseSettings):
    """All settings. Names that end in ``_s`` are seconds: one of them bounds each wait of the service."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, env_ignore_empty=False
    )

    # -- database
    #: where PostgreSQL or TimescaleDB is, with user and password; none: the embedded PostgreSQL in data_dir
    database_url: _OptionalSecret = None
    #: folder for the embedded database and, in the demo, the master key
    data_dir: Path = Path(".data")
    #: connections that the service opens at most
    database_connections: int = Field(default=10, ge=1, le=1000)
    #: longest wait for a connection and for one statement
    database_timeout_s: Seconds = 30
    #: longest wait for the database at start, recovery after a crash included
    database_start_timeout_s: Seconds = 300

    # -- API
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65535)
    #: whether GET /metrics answers without a token
    metrics_public: bool = False

    # -- people
    #: a session of a browser or of `headend login` ends so long after it was last used, and so long after
    #: its log-in at the latest
    session_idle_s: Seconds = 3_600
    session_longest_s: Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False)] = 43_200
    #: whether browsers may log in over plain http from elsewhere than this host. Never on a network that
    #: others share: password and session are read on the way
    session_plain_http: bool = False
    #: roles that count only after a second factor: by default those that can ask for programs or approve of
    #: them. As a variable it is JSON: [] turns that off
    second_factor_roles: tuple[Role, ...] = tuple(one for one in Role if Permission.APPROVE in ROLES[one])
    #: the provider of identities (OpenID Connect), as it calls itself; our client id there, its secret (none:
    #: a public client), this server's .../api/v1/session/oidc/callback as browsers reach it
    oidc_issuer: Annotated[
        Annotated[str, AfterValidator(_check_https)] | None, BeforeValidator(_none_if_empty)
    ] = None
    oidc_client_id: Annotated[str | None, BeforeValidator(_none_if_empty)] = None
    oidc_client_secret: _OptionalSecret = None
    oidc_redirect_url: Annotated[
        Annotated[str, AfterValidator(_check_https)] | None, BeforeValidator(_none_if_empty)
    ] = None
    #: what the values of a claim are worth: {"headend-operators": ["operator:north", "viewer"]}. Then the
    #: provider gives the roles, at each log-in; empty: they are given here. As a variable it is JSON
    oidc_roles_claim: str = Field(default="groups", min_length=1, max_length=64)
    oidc_roles: dict[str, tuple[Annotated[str, AfterValidator(_check_grant)], ...]] = Field(
        default_factory=dict
    )
    #: whether a second factor was shown: as the claim amr says (RFC 8176), or always, by the provider
    oidc_second_factor: Literal["amr", "provider"] = "amr"
    #: who acts on the command line instead of the host itself: a token of `headend token create`
    token: _OptionalSecret = None

    #: requests to the API of one token or person, each second in the long run and at once; of one address
    #: twice as many; all of them in each process. 0: as many as come
    requests_per_s: float = Field(default=500, ge=0, le=1_000_000, allow_inf_nan=False)
    requests_at_once: int = Field(default=5_000, ge=1, le=10_000_000)

    # -- webhooks: who is told when a read on demand has ended
    #: where a request does not name one; none: nobody
    webhook_url: _OptionalSecret = None
    #: signs where a request brings no secret of its own; at least 16 characters
    webhook_secret: Annotated[_OptionalSecret, AfterValidator(_check_webhook_secret)] = None
    #: hosts (host or host:port) that may be called over http and outside of the public network. As a variable
    #: it is JSON: ["127.0.0.1:9000"]
    webhook_hosts: tuple[str, ...] = ()

    # -- four eyes
    #: what a second person approves before it is done: kinds of programs, and role. As a variable it is JSON:
    #: ["switch", "firmware"]; [] asks for nobody's approval
    four_eyes: tuple[FourEyes, ...] = ("switch", "limit", "firmware", "tariff", "keys", "role")
    #: hours that an approval is waited for
    approval_hours: int = Field(default=72, ge=1, le=24 * 366)

    # -- firmware
    #: public keys (Ed25519, 64 hexadecimal digits) of those who may sign firmware; none: no package is taken
    firmware_keys: tuple[Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$")], ...] = ()

    # -- switching
    #: customers that may be disconnected in any hour, over all campaigns; more need an approval of their own
    disconnections_per_hour: int = Field(default=50, ge=0, le=1_000_000)

    # -- keys
    #: the key that seals all meter keys: 64 hexadecimal digits, or a file that holds them; never both
    master_key: _OptionalSecret = None
    master_key_file: _OptionalPath = None
    #: former master keys, comma separated, under which keys may still be sealed after a rotation
    former_master_keys: _OptionalSecret = None
    #: unwraps the keys of an import file: 32 or 64 hexadecimal digits (AES key wrap)
    transport_key: _OptionalSecret = None
    #: our system title: the first three bytes are a maker's letters, here HED
    system_title: Annotated[str, AfterValidator(_check_title)] = "4845440000000001"
    #: keys of meters older than so many days are due: a campaign that changes them is proposed, one at a
    #: time, and waits for approval as any; 0: age is no reason
    keys_rotate_after_days: int = Field(default=0, ge=0, le=36_600)
    #: the same for keys whose invocation counters have come so far, of the 2**32 that a key has
    keys_rotate_at_counter: int = Field(default=2_000_000_000, ge=1_000_000, lt=2**32)
    #: meters of one such campaign, at most
    keys_rotate_meters: int = Field(default=10_000, ge=1, le=1_000_000)
    #: former keys are kept for so many days after their change
    keys_keep_former_days: int = Field(default=90, ge=1, le=3660)
    #: invocation counters reserved at once for one key
    counter_block: int = Field(default=1024, ge=1, le=1_000_000)

    # -- meter models
    #: folder with the operator's own profiles, looked at before the packaged ones
    profiles_dir: _OptionalPath = None

    # -- listeners
    #: meters that dial in and are then read
    listen_inbound: _OptionalListener = None
    #: pushed notifications (wrapper, HDLC or M-Bus frames)
    listen_push_tcp: _OptionalListener = None
    listen_push_udp: _OptionalListener = None

    # -- reading
    #: sessions with meters that are open at once, at most: fewer where their round trips become longer.
    #: A tenth of these and of the permits below, at least one of two, is kept for reads on demand
    collector_concurrency: int = Field(default=256, ge=1, le=10_000)
    #: how often load curves are collected; 0 turns periodic reading off
    read_period_s: float = Field(default=900, ge=0, le=366 * 86400, allow_inf_nan=False)
    #: how many days back load curves are collected where they are missing
    read_days: int = Field(default=7, ge=1, le=366)
    #: how often meters' event logs and alarm registers are read; 0 turns that off
    events_period_s: float = Field(default=21_600, ge=0, le=366 * 86400, allow_inf_nan=False)
    #: how often concentrators that store and forward are asked for what they keep; 0 turns that off
    stations_period_s: float = Field(default=900, ge=0, le=366 * 86400, allow_inf_nan=False)
    #: how long such a concentrator has to hand on an interval, until its meter is asked itself
    forwarded_within_s: float = Field(default=86_400, ge=0, le=366 * 86400, allow_inf_nan=False)
    #: how often it is looked what is missing, asked for again and to be reported; 0 turns that off
    completeness_period_s: float = Field(default=300, ge=0, le=86400, allow_inf_nan=False)
    #: an interval that is not there so long after its end is a gap, where no run of a schedule says it sooner
    gaps_after_s: float = Field(default=86_400, ge=0, le=30 * 86400, allow_inf_nan=False)
    #: attempts at one meter in one round, the first included; only transient failures are tried again
    read_attempts: int = Field(default=3, ge=1, le=100)
    #: first and longest pause between attempts; each pause is drawn at random below its bound
    retry_first_s: Seconds = 1
    retry_longest_s: Seconds = 60

    # -- jobs
    #: days that jobs are kept after their end, with each request and attempt
    jobs_keep_days: int = Field(default=14, ge=1, le=3660)
    #: a lane (what is behind one concentrator, on one line, a lot of direct meters) whose holder says nothing
    #: for so long is taken over by another process
    lane_lease_s: Annotated[float, Field(ge=1, le=600, allow_inf_nan=False)] = 15

    # -- meters without a load curve of their own: sampled, where their model does not say it otherwise
    #: the period of the curve that samples give them
    sample_period_s: int = Field(default=900, gt=0, le=86400)
    #: a sample counts for a boundary within so many seconds
    sample_tolerance_s: int = Field(default=30, ge=0, le=3600)

    # -- politeness to links
    #: conversations at once behind one concentrator or gateway, at most: fewer where its round trips become
    #: longer; in one cell: a transformer, else a feeder
    permits_station: int = Field(default=4, ge=1, le=10_000)
    permits_cell: int = Field(default=16, ge=1, le=10_000)
    #: conversations at once over all links of a kind, at most; a kind that is not named has the limit of all.
    #: As a variable it is JSON: {"plc_narrowband": 64}
    permits_links: dict[LinkKind, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    #: failures in a row after which a silent meter or concentrator is only probed
    breaker_failures: int = Field(default=3, ge=1, le=100)
    #: bounds of the first and of the longest pause between probes; each pause is drawn at random below it
    breaker_first_s: Seconds = 300
    breaker_longest_s: Seconds = 14_400
    #: bounds of a deadline for an answer that follows from measured answers
    answer_shortest_s: Seconds = 5
    answer_longest_s: Seconds = 120

    # -- MQTT
    #: the broker, mqtt://host:port or mqtts://host:port, without user and password; none: no MQTT
    mqtt_url: _OptionalBroker = None
    mqtt_username: str | None = None
    #: file that holds the password alone
    mqtt_password_file: _OptionalPath = None
    #: authorities that sign the broker's certificate (none: the system's), and a certificate of ours
    mqtt_ca_file: _OptionalPath = None
    mqtt_cert_file: _OptionalPath = None
    mqtt_key_file: _OptionalPath = None
    #: begins the client ids of all slots; the broker keeps a session for each, so it stays as it is
    mqtt_client_id: str = Field(default="headend", pattern=r"^[0-9A-Za-z_.-]{1,32}$")
    #: topic filters of each ingest slot; a slot is read by one worker at a time. As a variable it is JSON.
    mqtt_slots: Annotated[tuple[tuple[str, ...], ...], AfterValidator(_check_slots)] = (
        (
            "headend/batch/+", "headend/presence/+", "zigbee2mqtt/#", "zigbee/#", "dlms/#", "tele/#",
            "stat/#", "+/tele/#", "+/stat/#", "+/events/rpc", "+/status/+", "+/online",
        ),
    )  # fmt: skip
    #: a slot whose worker says nothing for so long is taken by another
    mqtt_lease_s: Seconds = 15
    #: messages in one transaction at most; the broker must let twice as many be on their way
    mqtt_bunch: int = Field(default=1_000, ge=1, le=100_000)
    #: first and longest pause between requests for a missing batch, and how many there are
    mqtt_gap_first_s: Seconds = 5
    mqtt_gap_longest_s: Seconds = 3_600
    mqtt_gap_attempts: int = Field(default=30, ge=1, le=1_000)

    # -- deadlines towards a meter
    #: TCP connect, or opening the serial line
    connect_timeout_s: Seconds = 10
    #: from a request to the end of its answer (each block has its own), where the network does not tell the
    #: way's length and nothing has been measured
    response_timeout_s: Seconds = 20
    #: from a request on a Modbus bus to its answer
    modbus_response_timeout_s: Seconds = 2
    #: a whole session, association to release
    session_timeout_s: Seconds = 300
    #: the polite end: release, disconnect, close
    release_timeout_s: Seconds = 5
    #: a dialled-in meter or a sender that says nothing is closed after this
    idle_timeout_s: Seconds = 600

    # -- service
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    #: longest wait for sessions and writes to end after Ctrl-C
    shutdown_timeout_s: Seconds = 20

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Given values, then environment, then file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=config_file())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.master_key is not None and self.master_key_file is not None:
            raise ValueError("master_key and master_key_file are both set: give one of them")
        oidc = (self.oidc_issuer, self.oidc_client_id, self.oidc_redirect_url)
        if any(oidc) and not all(oidc):
            raise ValueError(
                "oidc_issuer, oidc_client_id and oidc_redirect_url go together: give all of them"
            )
        if self.sample_tolerance_s * 2 >= self.sample_period_s:
            raise ValueError("sample_tolerance_s must be less than half of sample_period_s")
        for name in ("retry", "breaker"):
            if getattr(self, f"{name}_longest_s") < getattr(self, f"{name}_first_s"):
                raise ValueError(f"{name}_longest_s is less than {name}_first_s")
        if self.answer_longest_s < self.answer_shortest_s:
            raise ValueError("answer_longest_s is less than answer_shortest_s")
        return self

    @property
    def profile_folders(self) -> tuple[Path, ...]:
        """Folders for `schemas.model.load_model`."""
        return () if self.profiles_dir is None else (self.profiles_dir,)


def _check_variables() -> None:
    known = {_PREFIX + name.upper() for name in Settings.model_fields} | {_CONFIG}
    unknown = [
        name
        for name in sorted(os.environ)
        if name.startswith(_PREFIX) and not name.startswith(_TEST_PREFIX) and name not in known
    ]
    if unknown:
        raise SettingsError(f"unknown environment variables: {', '.join(unknown)}")


def _place(field: str, given: dict[str, Any]) -> str:
    if field in given:
        return field
    if field and _PREFIX + field.upper() in os.environ:
        return f"environment variable {_PREFIX}{field.upper()}"
    path = config_file()
    return f"{path}: {field or 'settings'}" if path is not None else field or "settings"


def load_settings(**given: Any) -> Settings:
    """Settings from ``given`` values (say, command line options), the environment and the file.

    Raises SettingsError with the place of everything that is wrong; no value is ever in the message.
    """
    _check_variables()
    path = config_file()
    if path is not None and not path.is_file():
        raise SettingsError(f"{_CONFIG} names {path}, which is no file")
    try:
        return Settings(**given)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path}: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error.__class__.__name__}") from None
    except UnreadableVariable as error:  # raised for the first; its message names the field, and no value
        told = re.search(r'field "(\w+)"', str(error))
        name = "" if told is None else told[1]
        raise SettingsError(
            f"{_place(name, given)}: lists and tables of the environment are written as JSON, as in "
            """'["one", "two"]'"""
        ) from None
    except ValidationError as error:
        wrong = []
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            field = str(item["loc"][0]) if item["loc"] else ""
            wrong.append(f"{_place(field, given)}: {item['msg'].removeprefix('Value error, ')}")
        raise SettingsError("; ".join(wrong)) from None
