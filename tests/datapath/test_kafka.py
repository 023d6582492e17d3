"""The kernel's Kafka parser beside the Python one: the same octets give the same columns, or it says that it does not
know. Every (API key, version) that kafka-python and kio can write, whole and cut; hostile bytes; every bound."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bpf.build import build
from observer.l7.kafka_topics import TopicIds
from observer.l7.message import Side
from tests.datapath.kafka_kernel import (
    DETECTED,
    FRAME_LIMIT,
    HAND_OVER,
    ORDER_DETECT,
    KernelKafka,
    Told,
    python,
    told,
)
from tests.l7.kafka_encoders import Sample
from tests.l7.test_kafka_encoders import ENCODERS
from tests.l7.transcripts import CLIENT, SERVER

pytestmark = pytest.mark.ebpf

Pieces = list[tuple[Side, bytes]]


@pytest.fixture(scope="session")
def image(tmp_path_factory) -> bytes:
    target = tmp_path_factory.mktemp("bpf") / "kafka.bpf.o"
    build(Path(__file__).parent / "kafka.bpf.c", target)
    return target.read_bytes()


@pytest.fixture(scope="module")
def kernel(image) -> Iterator[KernelKafka]:
    with KernelKafka(image) as one:
        yield one


def cut(transcript: Pieces, step: int) -> Pieces:
    return [(side, data[at : at + step]) for side, data in transcript for at in range(0, len(data), step)]


def both(kernel: KernelKafka, transcript: Pieces) -> tuple[list[Told], list[Told]]:
    """What the kernel and the Python parser tell of the same pieces, up to where the kernel hands over."""
    kernel.begin()
    parser = python(TopicIds())
    ours: list[Told] = []
    theirs: list[Told] = []
    for time_ns, (side, data) in enumerate(transcript, 10):
        if HAND_OVER not in kernel.results:
            ours += kernel.feed(side, data, time_ns)
        theirs += map(told, parser.feed(side, data, time_ns))
    if HAND_OVER in kernel.results:
        return ours, theirs[: len(ours)]
    for side in (CLIENT, SERVER):
        ours += kernel.close(side)
        theirs += map(told, parser.close(side))
    return ours, theirs


def known(transcript: object) -> Pieces:
    """A transcript of tests/l7/test_kafka.py without its gaps, which the kernel never sees."""
    return [(side, data) for side, data in transcript if not isinstance(data, int)]  # type: ignore[attr-defined]


# Every message


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_version_of_every_message(kernel, encoder):
    write, least = ENCODERS[encoder]
    answers = {(sample.key, sample.version): sample for sample in write("response")}
    asked: list[Sample] = list(write("request"))
    assert len(asked) >= least
    faults = []
    for sample in asked:
        answer = answers.pop((sample.key, sample.version))
        transcript = [(CLIENT, sample.frame), (SERVER, answer.frame)]
        for step in (FRAME_LIMIT, 7, 1):
            ours, theirs = both(kernel, cut(transcript, step))
            if ours != theirs or len(ours) != 2 or any(kernel.results):
                faults.append((str(sample), step, ours, theirs))
        if kernel.order(ORDER_DETECT, CLIENT, sample.frame) != DETECTED + 1:
            faults.append((str(sample), 0, [], []))
    assert faults == []
    assert not answers
