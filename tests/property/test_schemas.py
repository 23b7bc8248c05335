"""Any text gives an address or AddressError, a profile or ModelError; a written address reads back."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.address import AddressError, LinkAddress, Scheme
from schemas.model import ModelError, load_model
from schemas.obis_pattern import check_obis, check_pattern, matches

NUMBER = st.none() | st.integers(0, 0xFFFF)
HOST = st.from_regex(r"[a-z0-9]{1,9}(\.[a-z0-9]{1,9}){0,3}", fullmatch=True) | st.ip_addresses().map(str)
DEVICE = st.from_regex(r"(/[^/\s\x00-\x1f]{1,9}){1,3}", fullmatch=True).filter(str.isprintable)
ADDRESSES = st.one_of(
    st.builds(
        LinkAddress, st.sampled_from([Scheme.TCP, Scheme.UDP]), HOST, st.integers(1, 65535),
        server=NUMBER, client=NUMBER,
    ),
    st.builds(
        LinkAddress, st.just(Scheme.HDLC_TCP), HOST, st.integers(1, 65535), server=NUMBER, client=NUMBER,
        physical=st.none() | st.integers(0, 0x3FFF),
    ),
    st.builds(
        LinkAddress, st.just(Scheme.HDLC_SERIAL), device=DEVICE,
        server=NUMBER, baud=st.none() | st.integers(0, 115200),
    ),
    st.builds(LinkAddress, st.just(Scheme.INBOUND), server=NUMBER),
)  # fmt: skip


@given(ADDRESSES)
def test_addresses_read_back(address):
    assert LinkAddress.parse(str(address)) == address


@given(
    st.text(max_size=60), st.sampled_from(["", *(f"{scheme}:" for scheme in Scheme), "tcp://", "tcp://h?"])
)
def test_any_text_is_an_address_or_refused(text, head):
    try:
        address = LinkAddress.parse(head + text)
    except AddressError:
        return
    assert LinkAddress.parse(str(address)) == address


@given(st.text(max_size=30))
def test_any_name_is_a_model_or_refused(name):
    try:
        load_model(name)
    except ModelError:
        return
    assert load_model(name).name == name


@given(st.lists(st.integers(0, 255), min_size=6, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_pattern_matches_what_it_was_made_of(numbers, opened):
    form = "{}-{}:{}.{}.{}*{}"
    code = check_obis(form.format(*numbers))
    pattern = check_pattern(
        form.format(*("x" if leave else number for number, leave in zip(numbers, opened, strict=True)))
    )
    assert matches(pattern, code)
    other = form.format(*((number + 1) % 256 for number in numbers))
    assert matches(pattern, other) is all(opened)
