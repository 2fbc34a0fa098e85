"""A container's log out of an engine's frames: whatever it wrote is bounded and does nothing."""

import pytest

from compute import log_lines
from compute.log_lines import MOST_BYTES, MOST_CHARACTERS, clean, read
from tests.fakes.engine import docker_frame

AT = 1_780_000_000_123_456_789


def stream(*texts: bytes) -> bytes:
    return b"".join(docker_frame((AT + n, text, False)) for n, text in enumerate(texts))


@pytest.mark.parametrize("size", [1, 3, 8, 1000])
def test_frames_may_come_in_pieces_of_any_size(size: int) -> None:
    whole = stream(b"one\n", "zwö\n".encode(), b"\n")

    found = read([whole[n : n + size] for n in range(0, len(whole), size)], 10)

    assert [line.text for line in found.lines] == ["one", "zwö", ""]
    assert [line.ns for line in found.lines] == [AT, AT + 1, AT + 2]
    assert not found.older


def test_a_line_in_several_frames_is_one_and_one_without_end_is_told() -> None:
    found = read([stream(b"begin, ", b"middle, ", b"end\n", b"no end")], 10)

    assert [line.text for line in found.lines] == ["begin, middle, end", "no end"]


def test_a_cut_off_frame_is_left_out() -> None:
    assert [line.text for line in read([stream(b"one\n", b"two\n")[:-2]], 10).lines] == ["one"]


def test_only_the_newest_lines_are_kept_and_it_says_so() -> None:
    found = read([stream(*[f"{n}\n".encode() for n in range(100)])], 3)

    assert ([line.text for line in found.lines], found.older) == (["97", "98", "99"], True)


def test_no_more_is_kept_than_fits() -> None:
    many = stream(*[b"x" * 5000 + b"\n"] * 1200)

    found = read([many], 10_000)

    assert sum(len(line.text) for line in found.lines) <= MOST_BYTES
    assert found.older


def test_an_endless_stream_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_lines, "MOST_READ", 10_000)
    taken = 0

    def endless() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield stream(b"again\n")

    read(endless(), 5)  # type: ignore[arg-type]

    assert taken < 1000


@pytest.mark.parametrize("garbage", [b"", b"\0" * 7, b"\xff" * 40, b"\1\0\0\0\xff\xff\xff\xffx"])
def test_what_is_no_frame_tells_nothing_or_harmless_text(garbage: bytes) -> None:
    read([garbage], 10)


def test_a_time_that_is_none_is_no_fault() -> None:
    body = b"9999-99-99T99:99:99.1Z text\n"

    assert [line.ns for line in read([b"\1\0\0\0" + len(body).to_bytes(4, "big") + body], 10).lines] == [0]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"\x1b[1;31mred\x1b[0m", "red"),
        (b"\x1b]8;;http://evil/\x1b\\link\x1b]8;;\x07", "link"),
        (b"\x1b]0;title", ""),
        (b"\x1bcreset\x1b(B", "reset"),
        ("\u009b31mred".encode(), "red"),
        (b"10 %\r50 %\r100 %", "100 %"),
        (b"line\r", "line"),
        (b"a\0b\x08c\x07\x7f", "abc"),
        (b"tab\tstays", "tab\tstays"),
        ("turned \u202eback\u2066".encode(), "turned back"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"<script>&", "<script>&"),
    ],
)
def test_what_a_terminal_or_a_page_would_obey_is_gone(raw: bytes, text: str) -> None:
    assert clean(raw) == text


def test_a_long_line_is_cut() -> None:
    assert len(clean("🦆".encode() * 100_000)) == MOST_CHARACTERS + 1
