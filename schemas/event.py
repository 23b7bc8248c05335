"""What meters, concentrators and brokers report, in the maker's code and in a common meaning."""

from dataclasses import dataclass
from enum import StrEnum


class EventLog(StrEnum):
    """Where an event came from: a log of the meter, an alarm, or somebody who speaks of the meter."""

    STANDARD = "standard"
    FRAUD = "fraud"
    QUALITY = "quality"  # power quality
    POWER_FAILURE = "power_failure"  # 1-0:99.97.0: the stamp is the end, with a duration
    CONTROL = "control"  # disconnect control
    COMMUNICATION = "communication"
    ALARM = "alarm"  # a bit of an alarm register, read or pushed
    LAST_GASP = "last_gasp"
    STATION = "station"  # the concentrator or gateway speaks of a meter
    PRESENCE = "presence"  # MQTT last will, availability
    HEADEND = "headend"  # we noticed it ourselves


class EventMeaning(StrEnum):
    """What happened, whoever says it. ``other``: the profile gives the maker's code no common meaning."""

    POWER_DOWN = "power_down"
    POWER_UP = "power_up"
    POWER_FAILURE = "power_failure"  # down and up in one, with a duration
    LAST_GASP = "last_gasp"
    COVER_OPENED = "cover_opened"
    COVER_CLOSED = "cover_closed"
    TERMINAL_COVER_OPENED = "terminal_cover_opened"
    TERMINAL_COVER_CLOSED = "terminal_cover_closed"
    MAGNET = "magnet"
    MAGNET_REMOVED = "magnet_removed"
    REVERSE_FLOW = "reverse_flow"
    PHASE_LOST = "phase_lost"
    PHASE_RESTORED = "phase_restored"
    PHASE_SEQUENCE = "phase_sequence"
    OVER_VOLTAGE = "over_voltage"
    UNDER_VOLTAGE = "under_voltage"
    VOLTAGE_NORMAL = "voltage_normal"
    OVER_CURRENT = "over_current"
    CLOCK_SET = "clock_set"
    CLOCK_INVALID = "clock_invalid"
    BATTERY_LOW = "battery_low"
    PROGRAM_CHANGED = "program_changed"
    TARIFF_CHANGED = "tariff_changed"
    FIRMWARE_CHANGED = "firmware_changed"
    LOG_CLEARED = "log_cleared"
    SWITCH_OPENED = "switch_opened"
    SWITCH_CLOSED = "switch_closed"
    ACCESS_DENIED = "access_denied"
    METER_FAULT = "meter_fault"
    LINK_LOST = "link_lost"
    LINK_RESTORED = "link_restored"
    METER_SILENT = "meter_silent"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """One event. Times are microseconds since 1970-01-01 UTC.

    ``meter_id`` is the meter it speaks of; None where it speaks of a node of the network (``node``, its
    code). ``code`` is the maker's, None where there is none (a last will). ``occurred_us`` is the meter's own
    time, None where it told none, ``received_us`` ours. ``duration_s`` where the thing had one: for a power
    failure of 1-0:99.97.0 the stamp is its END. ``source`` is where it came from, as batches tell it.
    ``standing``: a state met at ``received_us`` that began nobody knows when: to meet it again is no news.
    """

    meter_id: int | None
    log: EventLog
    meaning: EventMeaning
    code: int | None
    occurred_us: int | None
    received_us: int
    source: str
    duration_s: int | None = None
    text: str | None = None
    node: str | None = None
    standing: bool = False
