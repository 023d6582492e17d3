"""What tests of stream parsers share: play a transcript cut in any way, and say briefly what came out."""

from collections.abc import Callable, Iterable
from itertools import pairwise
from random import Random

from observer.l7.message import Message, Parser, Side
from observer.losses import Losses
from observer.record import HttpMethod, L7Kind, L7Type, Present

CLIENT, SERVER = Side.CLIENT, Side.SERVER

Transcript = list[tuple[Side, bytes | int]]
"""Bytes of a side, or the size of a gap in them."""


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    bounds = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(bounds) if end > start]


def holed(transcript: Transcript, chance: Random) -> Transcript:
    """The same with a gap in about every fifth entry."""
    out: Transcript = []
    for side, said in transcript:
        assert isinstance(said, bytes)
        start, end = sorted(chance.randrange(len(said) + 1) for _ in range(2))
        if chance.random() < 0.8 or start == end:
            out.append((side, said))
        else:
            out += [(side, piece) for piece in (said[:start], end - start, said[end:]) if piece]
    return out


def play(parser: Parser, transcript: Transcript, cut: Callable[[bytes], list[bytes]] | None = None) -> list[Message]:
    """Feed a transcript, each entry whole or in the pieces that `cut` makes; entry n has the time n + 1."""
    messages: list[Message] = []
    for time_ns, (side, data) in enumerate(transcript, 1):
        if isinstance(data, int):
            parser.gap(side, data)
            continue
        for piece in cut(data) if cut else [data]:
            messages += parser.feed(side, piece, time_ns)
    for side in Side:
        messages += parser.close(side)
    return messages


def play_counted(
    make: Callable[[Losses], Parser], transcript: Transcript, cut: Callable[[bytes], list[bytes]] | None = None
) -> tuple[list[Message], dict[tuple[str, str], int]]:
    losses = Losses()
    return play(make(losses), transcript, cut), losses.snapshot()


def brief(message: Message) -> str:
    """`GET host target`, `200`, `200 to GET target`, `A? name`, `A! name rcode`."""
    if message.kind is L7Kind.DNS:
        names = ",".join(message.dns.qtypes if message.dns else ())
        if message.type is L7Type.REQUEST:
            return f"{names}? {message.texts[0].decode()}"
        return f"{names}! {message.texts[0].decode()} {message.code}"
    texts = [text.decode() for text in message.texts]
    method = ""
    if message.method is not None:
        method = texts[2] if message.method == HttpMethod.OTHER else HttpMethod(message.method).name
    if message.type is L7Type.REQUEST:
        return f"{method} {texts[1]} {texts[0]}"
    return f"{message.code} to {method} {texts[0]}" if message.request else f"{message.code}"


def known(message: Message) -> int:
    """Which optional columns of a record the message fills, as bits of Present."""
    values = {
        Present.CODE: message.code,
        Present.METHOD: message.method,
        Present.L7_ID: message.id,
        Present.LATENCY: message.latency_ns,
    }
    return sum(bit.value for bit, value in values.items() if value is not None)
