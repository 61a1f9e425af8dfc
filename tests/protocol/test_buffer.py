"""Buffer: what was fed comes out in order, none of it lost, whoever reads how much."""

from hypothesis import given
from hypothesis import strategies as st

from smtp_protocol.buffer import ReceiveBuffer


def test_a_segment_is_not_copied() -> None:
    buffer = ReceiveBuffer()
    segment = b"abc"
    buffer.feed(segment)
    assert buffer.data is segment


def test_what_arrives_meanwhile_stays_behind() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"abc")
    buffer.position = 1
    buffer.feed(b"de")
    buffer.feed(b"f")
    assert len(buffer) == 5
    assert (buffer.data, buffer.position) == (b"abc", 1)
    buffer.position = 3
    buffer.refill()
    assert (buffer.data, buffer.position) == (b"def", 0)
    buffer.position = 3
    assert not buffer.behind
    assert len(buffer) == 0


def test_clear() -> None:
    buffer = ReceiveBuffer()
    buffer.feed(b"abc")
    buffer.feed(b"def")
    buffer.clear()
    assert len(buffer) == 0
    assert not buffer.behind


@given(st.lists(st.tuples(st.binary(max_size=5), st.integers(0, 8))))
def test_nothing_is_lost(steps: list[tuple[bytes, int]]) -> None:
    buffer = ReceiveBuffer()
    fed = read = b""
    for segment, count in steps:
        buffer.feed(segment)
        fed += segment
        end = min(buffer.position + count, len(buffer.data))
        read += buffer.data[buffer.position : end]
        buffer.position = end
        if end == len(buffer.data) and buffer.behind:
            buffer.refill()
        assert len(buffer) == len(fed) - len(read)
        assert fed.startswith(read)
    read += buffer.data[buffer.position :] + buffer.behind
    assert read == fed
