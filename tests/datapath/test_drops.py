"""The kernel's drops: which reasons are worth a flow, and the words that travel beside the record."""

import struct
from pathlib import Path

import numpy as np
import pytest

from observer.api import flow_pb2
from observer.datapath.btf import kernel_enum
from observer.datapath.drops import BY_TC, DESCRIPTIONS, MAX_REASONS, QUIET, REASON, DropWords, reason_entries
from observer.errors import DatapathError
from observer.record import EventType, Flags, empty

NAMES = {
    0: "SKB_NOT_DROPPED_YET",
    3: "SKB_DROP_REASON_NO_SOCKET",
    12: "SKB_DROP_REASON_NETFILTER_DROP",
    16: "SKB_DROP_REASON_IP_RPFILTER",
    73: "SKB_DROP_REASON_TC_INGRESS",
    104: "SKB_DROP_REASON_QUEUE_PURGE",
}


@pytest.mark.parametrize(
    ("number", "quiet", "by_tc", "description"),
    [
        (0, 1, 0, 0),
        (3, 0, 0, 0),
        (12, 0, 0, 0),
        (16, 0, 0, flow_pb2.INVALID_SOURCE_IP),
        (73, 0, 1, 0),
        (104, 1, 0, 0),
        (200, 0, 0, 0),  # a reason that this kernel does not have
    ],
)
def test_reasons_by_their_names(number, quiet, by_tc, description):
    entries = dict(reason_entries(NAMES))
    assert len(entries) == MAX_REASONS
    assert REASON.unpack(entries[number.to_bytes(4, "little")]) == (quiet, by_tc, description)


def test_descriptions_are_hubbles():
    assert set(DESCRIPTIONS.values()) <= set(flow_pb2.DropReason.values()) - {0}
    assert flow_pb2.DropReason.Name(DESCRIPTIONS["NEIGH_FAILED"]) == "LOCAL_HOST_IS_UNREACHABLE"


@pytest.mark.ebpf
def test_this_kernel_has_the_reasons_that_are_named_here():
    names = {name.removeprefix("SKB_DROP_REASON_") for name in kernel_enum("skb_drop_reason").values()}
    assert QUIET | BY_TC | set(DESCRIPTIONS) <= names
    assert {"NO_SOCKET", "NETFILTER_DROP"} <= names


@pytest.mark.ebpf
def test_an_enum_that_the_kernel_does_not_have():
    with pytest.raises(DatapathError, match="no enum flowscope_nothing"):
        kernel_enum("flowscope_nothing")


@pytest.fixture
def symbols(tmp_path: Path) -> Path:
    path = tmp_path / "kallsyms"
    path.write_text(
        "ffffffff81000000 T start\n"
        "ffffffff81000300 t nft_do_chain\t[nf_tables]\n"
        "ffffffff81000200 T tcp_v4_rcv\n"
        "ffffffff81000250 d data\n"
    )
    return path


def dropped(number: int, place: int, count: int = 1):
    records = empty(count)
    records["event_type"] = EventType.DROP
    records["drop_reason"] = number
    records["text_length"][:, 0] = 8
    records["text"][:, :8] = np.frombuffer(struct.pack("<Q", place), np.uint8)
    return records


@pytest.mark.parametrize(
    ("number", "place", "words"),
    [
        (12, 0xFFFFFFFF81000310, {"skb_drop_reason": "NETFILTER_DROP", "skb_drop_location": "nft_do_chain"}),
        (3, 0xFFFFFFFF81000255, {"skb_drop_reason": "NO_SOCKET", "skb_drop_location": "tcp_v4_rcv"}),
        (3, 0x1000, {"skb_drop_reason": "NO_SOCKET"}),
        (0x20007, 0x1000, {"skb_drop_reason": "subsystem 2 reason 7"}),
    ],
)
def test_words_of_a_drop(symbols, number, place, words):
    records = dropped(number, place)
    ((row, extra),) = DropWords(NAMES, symbols).annotate(records)
    assert (row, extra.extension) == (0, words)
    assert not records["text"].any()
    assert not records["text_length"].any()
    assert records["flags"][0] == Flags.EXTRA


def test_drops_of_one_reason_at_one_place_share_their_words(symbols):
    words = DropWords(NAMES, symbols)
    extras = [extra for _, extra in [*words.annotate(dropped(3, 0x81, 2)), *words.annotate(dropped(3, 0x81))]]
    assert len(extras) == 3
    assert len({id(extra) for extra in extras}) == 1


def test_refusals_of_policy_are_left_alone(symbols):
    records = empty(2)
    records["event_type"] = EventType.DROP
    records["text"][:, :8] = 1
    before = records.copy()
    assert DropWords(NAMES, symbols).annotate(records) == []
    assert (records == before).all()


def test_a_kernel_that_shows_no_symbols(tmp_path):
    ((_, extra),) = DropWords(NAMES, tmp_path / "none").annotate(dropped(3, 0xFFFFFFFF81000210))
    assert extra.extension == {"skb_drop_reason": "NO_SOCKET"}
