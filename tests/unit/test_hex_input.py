"""Hex in every dress that engineers paste."""

import pytest

from headend.cli.hex_input import read

DATA = bytes.fromhex("7ea00801020110378d7e")
GET = bytes.fromhex("c001c100080000010000ff0200")
ANSWER = bytes.fromhex("c401c1000600001391")


def joined(text: str) -> bytes:
    pieces, bad = read(text.encode())
    assert not bad
    assert len(pieces) == 1
    return pieces[0].data


@pytest.mark.parametrize(
    "text",
    [
        "7ea00801020110378d7e",
        "7E A0 08 01 02 01 10 37 8D 7E\n",
        "7EA008 010201\r\n10378D7E\r\n",
        "0x7E, 0xA0, 0x08, 0x01, 0x02, 0x01, 0x10, 0x37, 0x8D, 0x7E",
        "0x7ea00801020110378d7e",
        "{0x7e,0xa0,0x08,0x01,0x02,0x01,0x10,0x37,0x8d,0x7e}",
        "7e:a0:08:01:02:01:10:37:8d:7e",
        r"\x7e\xa0\x08\x01\x02\x01\x10\x37\x8d\x7e",
        "# a comment with words\n7ea008 ; the head\n// more\n01020110378d7e # the rest, ö\n",
        "00000000: 7ea0 0801 0201 1037 8d7e                 ~......7.~\n",
        "00000000  7e a0 08 01 02 01 10 37  8d 7e                    |~......7.~|\n",
        "0000   7e a0 08 01 02 01 10 37 8d 7e                     ~......7.~",
        "00000000: 7ea0 0801\n00000004: 0201 1037 8d7e\n",
        "00000000  7e a0 08 01 02 01 10 37  8d 7e                    |~......7.~|\n0000000a\n",
        "000000 7e a0 08 01 02 01  >~.....<\n000006 10 37 8d 7e  >.7.~<\n00000a\n",
        "09:30:01.000001 IP a.4059 > b.9: UDP, length 10\n\t0x0000:  7ea0 0801 0201 1037 8d7e  ~...\n",
        "fqAIAQIBEDeNfg==\n",
        "fqAIAQIB\nEDeNfg==",
    ],
)
def test_one_frame(text: str) -> None:
    assert joined(text) == DATA


def test_binary_by_itself() -> None:
    assert read(DATA) == ([(0, DATA)], [])
    assert read(b"") == ([], [])


def test_hex_is_no_base64_and_a_number_no_end_of_a_dump() -> None:
    assert joined("00000000") == bytes(4)
    assert joined("7ea0\n00000002").hex() == "7ea000000002"
    assert joined("7ea00801020110378d7e" * 4).startswith(DATA)
    pieces, bad = read(b"these are words and")
    assert (pieces, len(bad)) == ([], 1)


def test_digits_in_groups_of_four_are_no_offsets() -> None:
    assert joined("7ea0 0801\n0201 1037\n8d7e").hex() == DATA.hex()


def test_a_second_dump_begins_at_zero_again() -> None:
    first, second = "00000000: 7ea0 0801\n00000004: 0201", "00000000: 1037\n00000002: 8d7e\n"
    assert joined(f"{first}\n{second}") == DATA


def test_blank_lines_end_messages_and_comments_do_not() -> None:
    pieces, bad = read(f"{GET.hex()}\n\n{ANSWER.hex()[:6]}\n# in between\n{ANSWER.hex()[6:]}\n".encode())
    assert not bad
    assert pieces == [(0, GET), (len(GET), ANSWER)]


def test_lines_that_are_whole_apdus_are_messages() -> None:
    assert [piece.data for piece in read(f"{GET.hex()}\n{ANSWER.hex()}\n".encode())[0]] == [GET, ANSWER]


def test_frames_stay_together_over_blank_lines_for_their_segments() -> None:
    pieces, _ = read(f"{DATA.hex()}\n\n{DATA.hex()}\n\n{GET.hex()}".encode())
    assert pieces == [(0, DATA + DATA), (2 * len(DATA), GET)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [("7ea", "odd number"), ("hello", "'h' is no hex digit"), ("7e a", "odd number")],
)
def test_a_bad_line_is_told_and_the_rest_goes_on(line: str, reason: str) -> None:
    pieces, (bad,) = read(f"{GET.hex()}\n{line}\n{ANSWER.hex()}".encode())
    assert [piece.data for piece in pieces] == [GET, ANSWER]
    assert (bad.number, bad.offset) == (2, len(GET))
    assert reason in bad.reason
