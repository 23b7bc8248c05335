"""What comes next with an image: a meter that takes ours is never told to begin anew."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from headend.drivers.commands.firmware import HeldImage, ImageState, ImageStatus
from headend.programs.firmware.plan import Record, Step, Wanted, blocks_in, next_step

WANTED = Wanted("ab" * 32, b"FW2", 1_000)
AT = datetime(2026, 11, 1, tzinfo=UTC)
OURS = Record(WANTED.package, 1_000, 100, AT, True)

records = st.none() | st.builds(
    Record,
    st.sampled_from([WANTED.package, "cd" * 32]),
    st.sampled_from([1_000, 2_000]),
    st.sampled_from([100, 200]),
    st.just(AT),
    st.booleans(),
)
states = st.builds(
    ImageState,
    st.sampled_from(ImageStatus),
    st.booleans(),
    st.sampled_from([100, 200]),
    st.sets(st.integers(0, 4)).map(lambda found: tuple(sorted(found))),
    st.sampled_from([5, 10, 20]),
    st.lists(
        st.builds(HeldImage, st.sampled_from([1_000, 7]), st.sampled_from([b"FW2", b"FW1"]), st.just(b"")),
        max_size=2,
    ).map(tuple),
)


@given(states, records)
def test_nothing_is_sent_verified_or_activated_that_is_not_ours(
    state: ImageState, record: Record | None
) -> None:
    step, why = next_step(state, WANTED, record)
    assert why
    ours = record == Record(WANTED.package, 1_000, state.block_size, AT, True)
    if step not in (Step.ENABLE, Step.INITIATE):
        assert ours
        assert state.enabled
    if step is Step.SEND:
        assert state.count == blocks_in(1_000, state.block_size)
    if step is Step.ACTIVATE:
        assert (1_000, b"FW2") in [(one.size, one.identification) for one in state.held]
    if step is Step.VERIFY:
        assert not state.missing


@given(st.sets(st.integers(0, 9)))
def test_an_interrupted_transfer_of_ours_is_gone_on_with(missing: set[int]) -> None:
    state = ImageState(ImageStatus.INITIATED, True, 100, tuple(sorted(missing)), 10)
    assert next_step(state, WANTED, OURS).step is (Step.SEND if missing else Step.VERIFY)


def test_each_state_of_our_own_image_has_its_step() -> None:
    held = (HeldImage(1_000, b"FW2", b""),)
    found = {
        status: next_step(ImageState(status, True, 100, (), 10, held), WANTED, OURS).step
        for status in ImageStatus
    }
    assert found == {
        ImageStatus.NONE: Step.INITIATE,
        ImageStatus.INITIATED: Step.VERIFY,
        ImageStatus.VERIFYING: Step.AWAIT_VERIFICATION,
        ImageStatus.VERIFIED: Step.ACTIVATE,
        ImageStatus.VERIFICATION_FAILED: Step.VERIFICATION_FAILED,
        ImageStatus.ACTIVATING: Step.AWAIT_ACTIVATION,
        ImageStatus.ACTIVATED: Step.INITIATE,
        ImageStatus.ACTIVATION_FAILED: Step.INITIATE,
    }
