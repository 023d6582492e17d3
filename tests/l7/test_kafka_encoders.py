"""Every (API key, version) that kafka-python and kio can write, whole and byte by byte: each field exact, no loss."""

from collections.abc import Callable, Iterator

import pytest

from observer.l7.detect import Detected, stream
from observer.l7.kafka import Kafka
from observer.l7.message import Message
from observer.losses import Losses
from observer.record import L7Kind, L7Type
from tests.l7.kafka_encoders import CLIENT_ID, CORRELATION, Sample, kafka_python, kio_samples
from tests.l7.transcripts import CLIENT, SERVER

ENCODERS: dict[str, tuple[Callable[[str], Iterator[Sample]], int]] = {
    "kafka-python": (kafka_python, 262),  # (key, version) pairs that the version in hand writes; a newer one may more
    "kio": (kio_samples, 302),
}


def fed(parser: Kafka, side, frame: bytes, step: int) -> list[Message]:
    out = []
    for start in range(0, len(frame), step):
        out += parser.feed(side, frame[start : start + step], 5)
    return out


def request_fault(sample: Sample) -> str | None:
    """What of a request is read wrong."""
    topics = [str(topic) for topic in sample.topics]
    want = (sample.key, sample.version, CORRELATION, CLIENT_ID.encode(), topics)
    for step in (len(sample.frame), 1):
        losses = Losses()
        messages = fed(Kafka(losses), CLIENT, sample.frame, step)
        told = [
            (m.method, m.version, m.id, m.texts[1], (m.extension or {})["kafka"].get("topics", [])) for m in messages
        ]
        if told != [want] or losses.snapshot():
            return f"{sample} by {step}: {told}, not {want}; {losses.snapshot()}"
        first = topics[0].encode() if topics else b""
        unresolved = any(not isinstance(topic, str) for topic in sample.topics)
        if (messages[0].texts[0], messages[0].incomplete) != (first, unresolved):
            return f"{sample} by {step}: {messages[0]}"
    if stream(sample.frame, (40000, 5)).kind is not Detected.KAFKA:
        return f"{sample}: not detected"
    return None


def response_fault(sample: Sample) -> str | None:
    """What of a response is read wrong."""
    asked = Message(L7Kind.KAFKA, L7Type.REQUEST, CLIENT, 2, (b"t", b"c"), sample.key, sample.version, id=CORRELATION)
    for step in (len(sample.frame), 1):
        losses = Losses()
        parser = Kafka(losses)
        parser._ask(asked)
        told = [
            (m.method, m.version, m.id, m.code, m.latency_ns, m.request, m.incomplete)
            for m in fed(parser, SERVER, sample.frame, step)
        ]
        if told != [(sample.key, sample.version, CORRELATION, sample.error, 3, asked, False)] or losses.snapshot():
            return f"{sample} by {step}: {told}, error {sample.error}; {losses.snapshot()}"
    return None


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize(("wanted", "fault"), [("request", request_fault), ("response", response_fault)])
def test_every_version_of_every_message(encoder, wanted, fault):
    write, least = ENCODERS[encoder]
    samples = list(write(wanted))
    assert len({(sample.key, sample.version) for sample in samples}) == len(samples) >= least
    assert [found for found in map(fault, samples) if found] == []
