"""Files and copies of flows: what observe prints, never over a file, quoted for a shell."""

import json
import resource
import shlex
import subprocess
from ipaddress import ip_address

import pytest
from google.protobuf.json_format import ParseDict

from observer.api import flow_pb2, observer_pb2
from observer.filters.expression import Expression
from observer.jsonpb import to_json
from observer.store import Store
from tests.tui.driving import PCAPS, shop
from tests.tui.flows import filled
from tests.tui.test_view import refused
from tui.export import ExportError, check_name, curl_of, json_of, write_flows, write_packets
from tui.matches import Matches, held

SIDES = ("source", "destination")


def test_flows_as_json_lines_and_as_compact_text(tmp_path):
    rows = held(filled(2500))
    assert write_flows(tmp_path / "f.jsonl", rows) == 2500
    lines = (tmp_path / "f.jsonl").read_text().splitlines()
    assert len(lines) == 2500
    assert json.loads(lines[0])["flow"]["verdict"] == "DROPPED"
    assert write_flows(tmp_path / "f.txt", rows) == 2500
    assert "shop/web-1:40000" in (tmp_path / "f.txt").read_text().splitlines()[0]


def test_writing_can_be_stopped(tmp_path):
    assert write_flows(tmp_path / "f.jsonl", held(filled(10)), stop=lambda: True) == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "a name, please"),
        ("flows", "the name says the format"),
        ("flows.pcap", "the name says the format: .jsonl, .json, .txt for flows, .pcapng"),
        ("here.jsonl", "here.jsonl is there already; choose another name"),
    ],
)
def test_names_that_cannot_be_used(name, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.jsonl").write_text("mine")
    with pytest.raises(ExportError, match=words):
        check_name(name)


def test_a_file_that_came_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text("mine")
    with pytest.raises(ExportError, match="File exists"):
        write_flows(path, held(filled(1)))
    assert path.read_text() == "mine"


def test_a_place_that_cannot_be_written_says_why(tmp_path):
    with pytest.raises(ExportError, match=r"cannot write .*: No such file or directory; choose another name"):
        write_flows(tmp_path / "no" / "f.jsonl", held(filled(1)))


def test_a_disk_that_takes_no_more_is_an_error_in_words(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ExportError, match=r"cannot write .*: File too large"):
            write_flows(tmp_path / "f.jsonl", held(filled(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_flow_as_json_is_that_of_observe():
    flow = refused()
    response = observer_pb2.GetFlowsResponse(flow=flow, node_name=flow.node_name, time=flow.time)
    assert json_of(flow) == to_json(response)


def http(**fields):
    return ParseDict({"l7": {"type": "REQUEST", "http": fields}}, flow_pb2.Flow())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"method": "GET", "url": "http://a/b"}, ["curl", "-i", "--", "http://a/b"]),
        (
            {
                "method": "POST",
                "url": "http://a/$(reboot)'; rm -rf /",
                "headers": [
                    {"key": "X-A", "value": "`id`"},
                    {"key": "Host", "value": "a"},
                    {"key": ":path", "value": "/"},
                ],
            },
            ["curl", "-i", "-X", "POST", "-H", "X-A: `id`", "--", "http://a/$(reboot)'; rm -rf /"],
        ),
        ({"method": "GET", "url": "-o/etc/passwd"}, ["curl", "-i", "--", "-o/etc/passwd"]),
    ],
)
def test_a_request_as_curl_is_quoted_for_a_shell(fields, words):
    assert shlex.split(curl_of(http(**fields))) == words


def test_what_is_no_request_is_no_curl():
    assert curl_of(flow_pb2.Flow()) == ""


def tshark(path, *fields):
    """What tshark reads: lines of fields, tab between them."""
    command = ["tshark", "-r", str(path), "-T", "fields", *(part for field in fields for part in ("-e", field))]
    return [
        line.split("\t")
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    ]


def test_packets_are_saved_with_what_is_known_of_them(tmp_path):
    source = shop()
    store = Store(4096)
    try:
        assert source.subscribe(store, observer_pb2.GetFlowsRequest(number=4096, follow=True)).wait(20)
        rows = Matches(store, Expression.parse("verdict=DROPPED and http and ip-version=v4"))
        while not rows.complete:
            rows.advance()
        written = write_packets(tmp_path / "drops.pcapng", rows, source)
    finally:
        source.close()
    fields = ("frame.time_epoch", "ip.src", "tcp.srcport", "ip.dst", "tcp.dstport")
    lines = tshark(tmp_path / "drops.pcapng", "frame.comment", *fields)
    comments = [line[0] for line in lines if line[0]]
    assert len(comments) == len(rows)  # each flow is of one packet
    assert any(
        comment.startswith("shop/order-service-7c9d8f6b5d-x2kqm:") and "DROPPED" in comment and "DELETE" in comment
        for comment in comments
    )
    # All packets of these connections, as they were captured, and no other.
    records, _, _, _ = store.take(rows.between(0, store.next))
    connections = {
        frozenset((str(ip_address(record[f"{side}_ip"].tobytes()[12:])), str(record[f"{side}_port"])) for side in SIDES)
        for record in records
    }
    whole = tshark(PCAPS / "shop.pcap", *fields)
    expected = [line for line in whole if frozenset([(line[1], line[2]), (line[3], line[4])]) in connections]
    assert [line[1:] for line in lines] == expected
    assert written == len(expected)


def test_a_server_has_no_packets_to_save(tmp_path):
    with pytest.raises(ExportError, match="only a capture can be saved"):
        write_packets(tmp_path / "f.pcapng", held(filled(1)), object())
    assert not (tmp_path / "f.pcapng").exists()
