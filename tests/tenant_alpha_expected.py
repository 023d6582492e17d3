"""What tenant-alpha.policy.yaml says of each request of tenant-alpha.pcap, decided by hand.

A row stands for the requests of its source, key and topics: how often a client asks, and where, is chance.
"""

from typing import NamedTuple

ACCESS = "kafka-l7-access-control"
NOBODY = ""  # no rule names the source: the default of a selected endpoint


class Expected(NamedTuple):
    """Requests and their verdict; `policy` allowed them, or holds the Kafka rules that refused them."""

    source: str  # pod without the suffixes of its controller
    api_key: str
    topics: tuple[str, ...]
    verdict: str
    policy: str


INGESTION, PROCESSING, SHELL = (
    "tenant-alpha/ingestion-service",
    "tenant-alpha/processing-service",
    "tenant-alpha/debug-shell",
)
ALPHA, FORBIDDEN, NONE = ("alpha-telemetry",), ("forbidden-topic",), ()

TENANT_ALPHA = [
    # May produce, and ask what a producer has to: role produce is Produce, Metadata and ApiVersions.
    Expected(INGESTION, "apiversions", NONE, "FORWARDED", ACCESS),
    Expected(INGESTION, "metadata", ALPHA, "FORWARDED", ACCESS),
    Expected(INGESTION, "produce", ALPHA, "FORWARDED", ACCESS),
    Expected(INGESTION, "metadata", FORBIDDEN, "DROPPED", ACCESS),
    Expected(INGESTION, "produce", FORBIDDEN, "DROPPED", ACCESS),
    Expected(INGESTION, "metadata", NONE, "DROPPED", ACCESS),  # a rule with a topic covers none that names no topic
    Expected(INGESTION, "findcoordinator", NONE, "DROPPED", ACCESS),  # of role consume
    Expected(INGESTION, "fetch", ALPHA, "DROPPED", ACCESS),
    # May consume in a group.
    Expected(PROCESSING, "apiversions", NONE, "FORWARDED", ACCESS),
    Expected(PROCESSING, "metadata", ALPHA, "FORWARDED", ACCESS),
    Expected(PROCESSING, "findcoordinator", NONE, "FORWARDED", ACCESS),
    Expected(PROCESSING, "joingroup", NONE, "FORWARDED", ACCESS),
    Expected(PROCESSING, "syncgroup", NONE, "FORWARDED", ACCESS),
    Expected(PROCESSING, "heartbeat", NONE, "FORWARDED", ACCESS),
    Expected(PROCESSING, "offsetfetch", ALPHA, "FORWARDED", ACCESS),
    Expected(PROCESSING, "offsets", ALPHA, "FORWARDED", ACCESS),
    Expected(PROCESSING, "fetch", ALPHA, "FORWARDED", ACCESS),  # version 16 names it by its id alone
    Expected(PROCESSING, "offsetcommit", ALPHA, "FORWARDED", ACCESS),
    Expected(PROCESSING, "leavegroup", NONE, "FORWARDED", ACCESS),
    Expected(PROCESSING, "metadata", NONE, "DROPPED", ACCESS),
    Expected(PROCESSING, "produce", ALPHA, "DROPPED", ACCESS),
    # May not even connect.
    Expected(SHELL, "apiversions", NONE, "DROPPED", NOBODY),
    Expected(SHELL, "metadata", NONE, "DROPPED", NOBODY),
    Expected(SHELL, "metadata", ALPHA, "DROPPED", NOBODY),
    Expected(SHELL, "produce", ALPHA, "DROPPED", NOBODY),
]
