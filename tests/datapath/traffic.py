"""Traffic made up: what two ends of a TCP connection say, cut into segments, and what networks do to those."""

from dataclasses import dataclass, replace

from hypothesis import strategies as st

from tests import captures
from tests.packets import START, Packet, ip_packet, tcp

CLIENT, SERVER = 0, 1


@dataclass(frozen=True)
class Segment:
    side: int
    offset: int
    data: bytes
    flags: str = "A"


@st.composite
def http_exchange(draw) -> tuple[bytes, bytes]:
    """A request and its response, as two programs would spell them; sometimes as nobody should."""
    method = draw(
        st.sampled_from(["GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PURGE", "REPORT-X", "CONNECT"])
    )
    target = draw(st.sampled_from(["/", "/a?b=c d", "/" + "x" * 300, "*", "http://h/x", "/é", "/end "]))
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0", "1.2"]))
    host = draw(
        st.sampled_from(["Host: web\r\n", "host:\tweb \r\n", "", "Host: a\r\nHost: b\r\n", "Host : c\r\n", "HOST:\r\n"])
    )
    request = f"{method} {target} HTTP/{version}\r\n{host}".encode("latin-1") + draw(filler())
    request += draw(body(is_request=True))
    status = draw(st.sampled_from([200, 200, 404, 500, 204, 304, 100, 999]))
    reason = draw(st.sampled_from([" OK", "", " Not Found", "\tx"]))
    response = draw(st.sampled_from([b"", b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    response += f"HTTP/{version} {status}{reason}\r\n".encode() + draw(filler()) + draw(body(is_request=False))
    return request, response


@st.composite
def filler(draw) -> bytes:
    """Fields that say nothing of where a message ends."""
    fields = [
        b"Accept: */*\r\n",
        b"X-Long: " + b"y" * 200 + b"\r\n",
        b"X: 1\r\n folded\r\n",
        b"Connection: keep-alive\r\n",
        b"content-type: text/plain\r\n",
        b"Content-Type: application/grpc-web\r\n",
        b"broken field\r\n",
        b"hosting: x\r\n",
        b"X-Huge: " + b"z" * 5000 + b"\r\n",
        b"Upgrade: h2c\r\n",
    ]
    return b"".join(draw(st.lists(st.sampled_from(fields[: draw(st.sampled_from([4, 5, len(fields)]))]), max_size=3)))


@st.composite
def body(draw, *, is_request: bool) -> bytes:
    content = draw(st.sampled_from([b"", b"x", b"GET / HTTP/1.1\r\nHost: in-body\r\n\r\n", b"b" * 700, b"\r\n"]))
    kind = draw(st.sampled_from(["length", "length", "chunked", "none", "odd"]))
    if kind == "length":
        return b"Content-Length: %d\r\n\r\n" % len(content) + content
    if kind == "chunked":
        size = draw(st.sampled_from([b"%x", b"%X ", b"%x;ext=1", b"0%x"]))
        end = draw(st.sampled_from([b"0\r\n\r\n", b"0\r\nTrailer: 1\r\n\r\n", b"00;x\n\n"]))
        chunk = size % len(content) + b"\r\n" + content + b"\r\n" if content else b""
        return b"Transfer-Encoding: chunked\r\n\r\n" + chunk * draw(st.integers(1, 3)) + end
    if kind == "odd":
        return draw(
            st.sampled_from(
                [
                    b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
                    b"Content-Length: 2, 2\r\n\r\nxx",
                    b"Content-Length: +1\r\n\r\nx",
                    b"Transfer-Encoding: gzip\r\n\r\nzz",
                    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
                    b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                    b"Content-Length:\r\n\r\n",
                ]
            )
        )
    return b"\r\n"


@st.composite
def cuts(draw, said: list[tuple[int, bytes]]) -> list[Segment]:
    """What was said, in segments."""
    offsets = [0, 0]
    segments = []
    for side, data in said:
        at = 0
        while at < len(data):
            size = draw(st.sampled_from([1, 2, 7, 60, 500, 1448, 1448, 3000]))
            piece = data[at : at + size]
            segments.append(Segment(side, offsets[side], piece))
            offsets[side] += len(piece)
            at += size
            if len(segments) > 60:  # the rest at a stretch
                segments.append(Segment(side, offsets[side], data[at : at + 3000]))
                offsets[side] += len(data[at : at + 3000])
                at += 3000
    return [segment for segment in segments if segment.data]


@st.composite
def disturbed(draw, segments: list[Segment]) -> list[Segment]:
    """Segments come twice, in another order, overlapping, or not at all."""
    segments = list(segments)
    for _ in range(draw(st.integers(0, 3))):
        if not segments:
            break
        at = draw(st.integers(0, len(segments) - 1))
        what = draw(st.sampled_from(["twice", "later", "swap", "lost", "overlap", "shifted"]))
        if what == "twice":
            segments.insert(at + 1, segments[at])
        elif what == "later":
            segments.insert(min(len(segments), at + draw(st.integers(1, 6))), segments[at])
        elif what == "swap" and at + 1 < len(segments):
            segments[at], segments[at + 1] = segments[at + 1], segments[at]
        elif what == "lost":
            del segments[at]
        elif what == "overlap":
            one = segments[at]
            behind = [each for each in segments if each.side == one.side and each.offset == one.offset + len(one.data)]
            if behind:
                segments.insert(at + 1, replace(one, data=(one.data + behind[0].data)[:3000]))
        elif what == "shifted":
            one = segments[at]
            segments.insert(
                at + 1, replace(one, offset=one.offset + len(one.data) // 2, data=one.data[len(one.data) // 2 :])
            )
    return segments


@st.composite
def packets(draw, segments: list[Segment], client: str, server: str) -> list[Packet]:
    """The packets of a connection, with its handshake and its end, or joined in the middle."""
    ends, starts = (client, server), draw(st.sampled_from([(1000, 5000), (0xFFFFFF00, 0xFFFFFFFF)]))
    rows: list[Packet] = []
    heard = [0, 0]  # octets of each side that the other has
    at = 0.0

    def send(side, flags, offset, data=b""):
        nonlocal at
        at += draw(st.sampled_from([0.0001, 0.001, 0.03]))
        rows.append(
            tcp(ends[side], ends[1 - side], flags, data, sequence=starts[side] + 1 + offset,
                acknowledgment=starts[1 - side] + 1 + heard[1 - side] if "A" in flags else 0, at=at)
        )  # fmt: skip

    joined = draw(st.booleans()) and draw(st.booleans())
    if not joined:
        send(CLIENT, "S", -1)
        send(SERVER, "SA", -1)
        send(CLIENT, "A", 0)
    for segment in segments:
        send(segment.side, "PA", segment.offset, segment.data)
        heard[segment.side] = max(heard[segment.side], segment.offset + len(segment.data))
        if draw(st.booleans()):
            send(1 - segment.side, "A", heard[1 - segment.side])
    if draw(st.booleans()):
        send(CLIENT, "FA", heard[CLIENT])
        heard[CLIENT] += 1
        send(SERVER, "FA", heard[SERVER])
        heard[SERVER] += 1
        send(CLIENT, "A", heard[CLIENT])
    return rows


def plainly(segments: list[Segment], client: str, server: str) -> list[Packet]:
    """The packets of a connection that begins and does not end."""
    ends, starts = (client, server), (1000, 5000)
    rows = [tcp(client, server, "S", sequence=1000), tcp(server, client, "SA", sequence=5000, at=0.001)]
    for number, segment in enumerate(segments, 2):
        sequence = starts[segment.side] + 1 + segment.offset
        way = ends[segment.side], ends[1 - segment.side]
        rows.append(tcp(*way, "PA", segment.data, sequence=sequence, acknowledgment=1, at=number / 1000))
    return rows


def frames_of(rows: list[Packet], shift_ns: int = 0):
    """A batch of Ethernet frames."""
    kinds = [0x86DD if ":" in row.source else 0x0800 for row in rows]
    times = [row.time_ns + shift_ns for row in rows]
    return captures.frames(
        [captures.ethernet(ip_packet(row), kind) for row, kind in zip(rows, kinds, strict=True)], times_ns=times
    )


__all__ = ["START", "Segment", "cuts", "disturbed", "frames_of", "http_exchange", "packets", "plainly"]
