"""Concentrators and plugs that push with QoS 1 from threads of paho, as their makers' firmware does."""

import itertools
import json
import threading
import time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from .field import batch, tasmota

#: Seconds after which a concentrator sends again what nobody acknowledged, and how much at a time: who sends
#: everything again buries the head-end under it.
_RESEND_S = 15.0
_RESEND = 10


def client(port: int, name: str) -> paho.Client:
    """Connected, and again whenever the broker comes back; what was published meanwhile is sent then."""
    made = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
    made.reconnect_delay_set(0.1, 0.5)
    made.connect("127.0.0.1", port)
    return made


class Concentrator:
    """Keeps each batch until the head-end says that it has it."""

    def __init__(self, port: int, name: str, meters: list[str]) -> None:
        self.name = name
        self.sent = 0
        self._meters = meters
        self._kept: dict[int, tuple[bytes, float]] = {}
        self._lock = threading.Lock()
        self._client = client(port, name)
        self._client.on_connect = self._on_connect
        self._client.on_message = self._on_message
        self._client.loop_start()

    def push(self) -> None:
        """One more batch."""
        topic, payload = batch(self.sent, meters=self._meters, concentrator=self.name)
        with self._lock:
            self._kept[self.sent] = payload, time.monotonic()
        self.sent += 1
        self._client.publish(topic, payload, qos=1)

    @property
    def unacknowledged(self) -> int:
        return len(self._kept)

    def resend(self) -> None:
        """What is kept for too long."""
        with self._lock:
            old = [n for n, (_, at) in self._kept.items() if time.monotonic() - at > _RESEND_S]
        self._send(old[:_RESEND])

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(self, *_: Any) -> None:
        self._client.subscribe([(f"headend/ack/{self.name}", 1), (f"headend/request/{self.name}", 1)])

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        told = json.loads(message.payload)
        numbers = range(told["first"], told["last"] + 1)
        if told["format"] == "headend.batch-ack.1":
            with self._lock:
                for number in numbers:
                    self._kept.pop(number, None)
        else:
            self._send(numbers)

    def _send(self, numbers: Any) -> None:
        for number in numbers:
            with self._lock:
                kept = self._kept.get(number)
                if kept is not None:
                    self._kept[number] = kept[0], time.monotonic()
            if kept is not None:
                self._client.publish(f"headend/batch/{self.name}", kept[0], qos=1)


class Pushing:
    """Concentrators and plugs that push until they are stopped."""

    def __init__(self, port: int, *, concentrators: int = 3, plugs: int = 5, pause_s: float = 0.05) -> None:
        self.concentrators = [
            Concentrator(port, f"dc{n}", [f"m-{m}" for m in range(5 * n, 5 * n + 5)])
            for n in range(concentrators)
        ]
        self.minutes = 0
        self._plugs = plugs
        self._pause_s = pause_s
        self._client = client(port, "plugs")
        self._client.loop_start()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pushing")
        self._thread.start()

    @property
    def intervals(self) -> int:
        """Intervals that were sent: of each batch five, of each plug one a quarter-hour."""
        return 5 * sum(one.sent for one in self.concentrators) + self._plugs * (self.minutes // 15)

    @property
    def registers(self) -> int:
        """Readings of plugs that are no interval."""
        return self._plugs * (self.minutes - self.minutes // 15)

    @property
    def unacknowledged(self) -> int:
        return sum(one.unacknowledged for one in self.concentrators)

    def stop(self) -> None:
        """Push no more; concentrators send again what is not acknowledged."""
        self._stop.set()
        self._thread.join()

    def resend(self) -> None:
        for one in self.concentrators:
            one.resend()

    def close(self) -> None:
        self.stop()
        for one in self.concentrators:
            one.close()
        self._client.disconnect()
        self._client.loop_stop()

    def _run(self) -> None:
        for turn in itertools.count(1):
            if self._stop.wait(self._pause_s):
                return
            for one in self.concentrators:
                one.push()
                if turn % 50 == 0:
                    one.resend()
            self.minutes += 1
            for plug in range(self._plugs):
                self._client.publish(*tasmota(plug, self.minutes), qos=1)
