"""Images over MQTT: the schema, what a device answers, and what the head-end makes of its answers."""

import asyncio
import base64
import hashlib
import json
from contextlib import asynccontextmanager
from importlib.resources import files
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from concentrator_sim.image import ImageStore, Troubles, simulated_image
from concentrator_sim.image_talk import ImageTalk
from concentrator_sim.meter import SimulatedMeter
from headend.drivers.commands.firmware import ImageStatus, Running, Upgradable
from headend.drivers.contract import Feature
from headend.drivers.mqtt.driver import Answer, MqttDriver
from protocols.errors import LinkTimeout, LocalProtocolError, PeerRefused, RemoteProtocolError
from protocols.mqtt import images, messages
from schemas.image_message import MAX_RANGES, ImageTold, json_schema
from schemas.model import ModelError
from schemas.mqtt_model import load_mqtt_model
from tests.contract.subjects import meter

CHUNK = 1024  # as the model says
SIZE = 10 * CHUNK + 17
IMAGE = simulated_image("2.0.0", SIZE)
SHA256 = hashlib.sha256(IMAGE).digest()
CHUNKS = [IMAGE[at : at + CHUNK] for at in range(0, SIZE, CHUNK)]
ASK = "headend/image/m"
TOLD = "headend/image-told/m"
WHOLE = {"identifier": "46", "size": 300, "chunk_size": 100, "sha256": "00" * 32}


class Line:
    """An `Exchange` with one simulated meter at its other end. What it hears and says passes ``spoil``."""

    def __init__(self) -> None:
        self.meter = SimulatedMeter(1, 1)
        self.talk = ImageTalk(self.meter)
        self.now = 0.0
        self.heard: list[dict[str, Any]] = []
        self.answers: list[Answer] = []
        self.spoil: Any = lambda answer: [answer]

    @property
    def store(self) -> ImageStore:
        return self.meter.part(ImageStore)

    @asynccontextmanager
    async def asking(self, *answers: str) -> Any:
        assert TOLD in answers
        yield self

    async def publish(self, topic: str, payload: bytes) -> None:
        assert topic == ASK
        self.heard.append(json.loads(payload))
        answer = self.talk.answer(payload, self.now)
        if answer is not None:
            self.answers += [Answer(TOLD, one, False) for one in self.spoil(answer)]

    async def next(self) -> Answer:
        if not self.answers:
            await asyncio.Event().wait()
        return self.answers.pop(0)


@asynccontextmanager
async def talking(line: Line) -> Any:
    driver = MqttDriver(line)
    target = meter(1, "headend-batch-meter", "mqtt:m")
    way = (await driver.prepare([target]))[1]
    async with driver.open(way, answer_s=0.05) as conversation:
        assert isinstance(conversation, Upgradable)
        yield conversation


def request(form: str, **told: Any) -> bytes:
    return json.dumps({"format": f"headend.image-{form}.1", "id": "a-request", **told}).encode()


def test_the_published_schema_is_that_of_the_classes() -> None:
    published = json.loads((files("schemas") / "image.schema.json").read_text("utf-8"))
    assert published == json.loads(json.dumps(json_schema())), "run python -m schemas.image_message"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"{", "JSON"),
        (request("none"), "does not match"),
        (request("state", more=1), "more"),
        (request("begin", image={**WHOLE, "size": 1 << 31, "chunk_size": 64}), "larger ones are needed"),
        (request("begin", image={**WHOLE, "size": 0}), "size"),
        (request("chunk", number=-1, data="AAAA"), "number"),
        (request("chunk", number=0, data="?"), "data"),
        (request("told", status="initiated", version="1"), "without an image"),
        (
            request("told", status="initiated", version="1", image=WHOLE, missing=[[0, 3]]),
            "chunk 3 is missing",
        ),
        (request("told", status="initiated", version="1", image=WHOLE, missing=[[1, 0]]), "in order"),
        (request("told", status="initiated", version="1", image=WHOLE, missing=[[1, 1], [1, 2]]), "in order"),
    ],
)
def test_what_is_not_of_the_schema_says_why(payload: bytes, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        images.decode(payload)


@given(
    st.binary(max_size=80)
    | st.dictionaries(st.text(max_size=9), st.integers()).map(json.dumps).map(str.encode)
)
def test_any_payload_is_a_message_or_refused(payload: bytes) -> None:
    try:
        images.decode(payload)
    except RemoteProtocolError:
        assert ImageTalk(SimulatedMeter(1, 1)).answer(payload, 0) is None


@given(st.sets(st.integers(0, 500)))
def test_ranges_are_their_numbers(numbers: set[int]) -> None:
    found = list(images.ranges(sorted(numbers)))
    assert list(images.numbers(found)) == sorted(numbers)
    assert all(before[1] + 1 < after[0] for before, after in pairwise(found))


@given(st.binary(min_size=1, max_size=300))
def test_a_chunk_brings_its_bytes(value: bytes) -> None:
    found = images.decode(messages.encode(images.chunk("a-request", 7, value)))
    assert images.value_of(found) == value  # type: ignore[arg-type]


async def test_the_model_says_what_it_takes() -> None:
    driver = MqttDriver()
    assert driver.features("headend-batch-meter") == {Feature.FIRMWARE, Feature.TARIFF}
    assert Feature.FIRMWARE not in driver.features("tasmota")
    assert load_mqtt_model("headend-batch-meter").firmware.chunk_size == CHUNK  # type: ignore[union-attr]


def test_a_device_must_answer_elsewhere_than_it_listens(tmp_path: Any) -> None:
    (tmp_path / "mqtt").mkdir()
    (tmp_path / "mqtt/deaf.toml").write_text(
        'inherit = "headend-batch-meter"\ntitle = "deaf"\n[firmware]\nanswer = "headend/image/{identity}"\n'
    )
    with pytest.raises(ModelError, match="elsewhere"):
        load_mqtt_model("deaf", (tmp_path,))


async def test_from_nothing_to_another_version() -> None:
    line = Line()
    async with talking(line) as device:
        assert await device.read_running() == Running("1.0.0", "SIM-A")
        assert (await device.read_image_state()).status is ImageStatus.NONE
        await device.enable_images()
        await device.initiate_image(b"F", SIZE, SHA256)
        for number in (0, 1, 2, 5):
            await device.send_block(number, CHUNKS[number])
        state = await device.read_image_state()
        assert (state.block_size, state.count, state.missing) == (CHUNK, 11, (3, 4, 6, 7, 8, 9, 10))
        with pytest.raises(PeerRefused, match="chunks are missing"):
            await device.verify_image()
        for number in state.missing:
            await device.send_block(number, CHUNKS[number])
        assert await device.verify_image()
        (held,) = (await device.read_image_state()).held
        assert held == (SIZE, b"F", SHA256)
        await device.activate_image()
        with pytest.raises(LinkTimeout):  # it restarts
            await device.read_running()
        line.now = 100
        assert await device.read_running() == Running("2.0.0", "SIM-A")
        assert line.store.counts == (11, 0, 0, 1)
    assert len({one["id"] for one in line.heard}) == len(line.heard)


async def test_what_comes_twice_has_no_effect_and_another_image_begins_anew() -> None:
    line = Line()
    async with talking(line) as device:
        await device.initiate_image(b"F", SIZE, SHA256)
        await device.send_block(0, CHUNKS[0])
        await device.send_block(0, bytes(CHUNK))
        await device.initiate_image(b"F", SIZE, SHA256)
        assert line.store.counts == (2, 0, 1, 1)
        for number in range(1, 11):
            await device.send_block(number, CHUNKS[number])
        assert await device.verify_image()  # chunk 0 is what came first
        await device.initiate_image(b"F", SIZE, bytes(32))
        assert (await device.read_image_state()).missing == tuple(range(11))
        for number in range(11):
            await device.send_block(number, CHUNKS[number])
        with pytest.raises(PeerRefused, match="found the image wrong"):
            await device.verify_image()
        await device.initiate_image(b"F", SIZE, bytes(32))  # the same, after it failed: all of it anew
        assert len((await device.read_image_state()).missing) == 11


async def test_a_verification_that_takes_its_time() -> None:
    line = Line()
    line.store._plan = line.store._plan.model_copy(update={"verify_s": 5})
    async with talking(line) as device:
        await device.initiate_image(b"F", SIZE, SHA256)
        for number, chunk in enumerate(CHUNKS):
            await device.send_block(number, chunk)
        assert not await device.verify_image()
        assert (await device.read_image_state()).status is ImageStatus.VERIFYING
        line.now = 5
        assert await device.verify_image()


async def test_a_transfer_in_other_chunks_is_none() -> None:
    line = Line()
    other = {**WHOLE, "identifier": "46", "size": SIZE, "sha256": SHA256.hex(), "chunk_size": 512}
    line.talk.answer(request("begin", image=other), 0)
    async with talking(line) as device:
        assert (await device.read_image_state()).status is ImageStatus.NONE
        await device.initiate_image(b"F", SIZE, SHA256)
        assert (await device.read_image_state()).count == 11


async def test_another_answer_is_not_taken_for_ours() -> None:
    line = Line()
    async with talking(line) as device:
        await device.initiate_image(b"F", SIZE, SHA256)
        late = request("taken", number=0)
        line.spoil = lambda answer: [late]
        with pytest.raises(LinkTimeout):
            await device.send_block(0, CHUNKS[0])
        line.spoil = lambda answer: [late, late, answer]
        await device.send_block(1, CHUNKS[1])
        line.spoil = lambda answer: [answer.replace(b'"number":2', b'"number":3')]
        with pytest.raises(RemoteProtocolError, match="another one"):
            await device.send_block(2, CHUNKS[2])
        line.spoil = lambda answer: [b"\xff"]
        with pytest.raises(RemoteProtocolError):
            await device.read_image_state()


async def test_refusals_say_whose_and_why() -> None:
    line = Line()
    line.store.troubles = Troubles(flash_refuses=lambda now: True)
    async with talking(line) as device:
        with pytest.raises(PeerRefused, match="chunk 0: other reason"):
            await device.send_block(0, CHUNKS[0])
        await device.initiate_image(b"F", SIZE, SHA256)
        with pytest.raises(PeerRefused, match="chunk 0: hardware fault"):
            await device.send_block(0, CHUNKS[0])
        with pytest.raises(PeerRefused, match="nothing is verified"):
            await device.activate_image()
        with pytest.raises(LocalProtocolError, match="at most 1048576 chunks"):
            await device.initiate_image(b"F", (1 << 32) - 1, SHA256)
        with pytest.raises(LocalProtocolError, match="cannot be asked for registers"):
            await device.read_registers()
    assert not any("data" in one and base64.b64decode(one["data"]) != CHUNKS[0] for one in line.heard)


def test_a_torn_image_tells_its_first_holes() -> None:
    talk = ImageTalk(SimulatedMeter(1, 1))
    image = {**WHOLE, "size": 64 * 3000, "chunk_size": 64}
    talk.answer(request("begin", image=image), 0)
    for number in range(1, 3000, 2):
        talk.answer(messages.encode(images.chunk("a-request", number, bytes(64))), 0)
    told = images.decode(talk.answer(request("state"), 0) or b"")
    assert isinstance(told, ImageTold)
    assert told.missing == tuple((n, n) for n in range(0, 2 * MAX_RANGES, 2))
