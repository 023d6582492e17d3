"""Files and copies of flows: what observe prints, never over a file, quoted for a shell."""

import json
import resource
import shlex

import pytest
from google.protobuf.json_format import ParseDict

from observer.api import flow_pb2, observer_pb2
from observer.jsonpb import to_json
from tests.tui.flows import filled
from tests.tui.test_view import refused
from tui.export import ExportError, check_name, curl_of, json_of, write_flows
from tui.matches import held


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
        ("flows.pcap", "the name says the format"),
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
