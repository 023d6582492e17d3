"""A client that knows the broker and the topic already: `kafka_knows.py ADDRESS:PORT CLIENT produce|fetch TOPIC`.

It sends one request, with nothing before it, and prints `answered` with the error code, or `silence` after two seconds.
"""

import socket
import struct
import sys
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # kafka-python reads its schemas by importlib's older way

from kafka.protocol.consumer import FetchRequest  # noqa: E402
from kafka.protocol.producer import ProduceRequest  # noqa: E402
from kafka.record import MemoryRecordsBuilder  # noqa: E402

SECONDS = 2


def produce(topic: str) -> ProduceRequest:
    builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1024)
    builder.append(timestamp=None, key=b"k", value=b"reading")
    builder.close()
    data = ProduceRequest.TopicProduceData
    return ProduceRequest(
        version=7,
        transactional_id=None,
        acks=1,
        timeout_ms=1000,
        topic_data=[
            data(
                version=7,
                name=topic,
                partition_data=[data.PartitionProduceData(version=7, index=0, records=builder.buffer())],
            )
        ],
    )


def fetch(topic: str) -> FetchRequest:
    data = FetchRequest.FetchTopic
    partition = data.FetchPartition(
        version=11,
        partition=0,
        current_leader_epoch=-1,
        fetch_offset=0,
        log_start_offset=-1,
        partition_max_bytes=1 << 20,
    )
    return FetchRequest(
        version=11,
        replica_id=-1,
        max_wait_ms=200,
        min_bytes=1,
        max_bytes=1 << 20,
        isolation_level=0,
        session_id=0,
        session_epoch=-1,
        topics=[data(version=11, topic=topic, partitions=[partition])],
        forgotten_topics_data=[],
        rack_id="",
    )


if __name__ == "__main__":
    address, client, what, topic = sys.argv[1:]
    host, _, port = address.rpartition(":")
    request = {"produce": produce, "fetch": fetch}[what](topic)
    request.with_header(correlation_id=7, client_id=client)
    with socket.create_connection((host, int(port)), timeout=SECONDS) as connection:
        connection.sendall(request.encode(header=True, framed=True))
        try:
            size, correlation = struct.unpack(">ii", connection.recv(8, socket.MSG_WAITALL))
        except TimeoutError:
            print("silence")
        else:
            assert correlation == 7
            print("answered", size)
