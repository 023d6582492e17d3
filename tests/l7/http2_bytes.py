"""HTTP/2 frames as bytes, for transcripts."""

import hpack

from observer.l7.http2_frames import END_HEADERS, END_STREAM, PREFACE, FrameType

GET = [(":method", "GET"), (":scheme", "http"), (":path", "/a"), (":authority", "h")]
OK = [(":status", "200"), ("server", "s")]
CALL = [
    (":method", "POST"), (":scheme", "http"), (":path", "/p.Svc/Do"), (":authority", "h"), ("te", "trailers"),
    ("content-type", "application/grpc"), ("grpc-timeout", "2S"),
]  # fmt: skip
GRPC_OK = [(":status", "200"), ("content-type", "application/grpc")]
GRPC_END = [("grpc-status", "0"), ("grpc-message", "")]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


SETTINGS = frame(FrameType.SETTINGS)
ACK = frame(FrameType.SETTINGS, 1)
HELLO = PREFACE + SETTINGS
PING = frame(FrameType.PING, payload=bytes(8))
WINDOW = frame(FrameType.WINDOW_UPDATE, payload=b"\0\1\0\0")


class Sender:
    """One side of a connection, with its table."""

    def __init__(self) -> None:
        self.encoder = hpack.Encoder()

    def headers(self, stream: int, fields, *, end: bool = False, pieces: int = 1, prefix: bytes = b"", flags: int = 0):
        """HEADERS and its CONTINUATION frames."""
        block = self.encoder.encode(fields)
        step = max(1, -(-len(block) // pieces))
        parts = [block[at : at + step] for at in range(0, len(block), step)] or [b""]
        parts[0] = prefix + parts[0]
        if flags & 0x8:
            parts[0] += bytes(prefix[0])
        out = b""
        for number, part in enumerate(parts):
            kind = FrameType.CONTINUATION if number else FrameType.HEADERS
            bits = (END_HEADERS if number == len(parts) - 1 else 0) | (
                0 if number else flags | (END_STREAM if end else 0)
            )
            out += frame(kind, bits, stream, part)
        return out

    def promise(self, stream: int, promised: int, fields) -> bytes:
        block = self.encoder.encode(fields)
        return frame(FrameType.PUSH_PROMISE, END_HEADERS, stream, promised.to_bytes(4, "big") + block)


def data(stream: int, payload: bytes, *, end: bool = False, padding: int | None = None) -> bytes:
    flags = END_STREAM if end else 0
    if padding is not None:
        return frame(FrameType.DATA, flags | 0x8, stream, bytes([padding]) + payload + bytes(padding))
    return frame(FrameType.DATA, flags, stream, payload)


def message(size: int = 3, flag: int = 0) -> bytes:
    """A length-prefixed gRPC message."""
    return bytes([flag]) + size.to_bytes(4, "big") + b"m" * size


def reset(stream: int, code: int = 8) -> bytes:
    return frame(FrameType.RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def go_away(last: int, code: int = 0) -> bytes:
    return frame(FrameType.GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big"))
