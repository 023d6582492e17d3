"""Compiled policies into the kernel, without a gap: made beside those that hold, then put in place by one word.

Contents of maps enter, as observer/policy/compile.py makes them. Each table of bpf/policy.h is an array of two;
the one at `revision & 1` is replaced here while packets are judged by the other. The caller then writes the revision
into `settings`, from where on it holds; a connection judged by an older one is judged again at its next packet.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from observer.datapath.libbpf import Object, Rows, new_map
from observer.policy.compile import MapKind, PolicyMaps, PolicyTable

_FLAGS: Final = {
    MapKind.HASH: 0,
    MapKind.ARRAY: 1 << 12,  # BPF_F_INNER_MAP: of any number of entries
    MapKind.LPM_TRIE: 1,  # BPF_F_NO_PREALLOC
}


def put_policy(datapath: Object, maps: PolicyMaps) -> None:
    """Put the tables of a revision in place; it must be one more than the revision that holds, and is never 0.

    DatapathError where the kernel refuses one; what holds is untouched then. The kernel itself waits here until no
    program uses a map that is replaced.
    """
    half = struct.pack("=I", maps.revision & 1)
    for name, table in maps.tables.items():
        entries = max(1, len(table.entries))
        with new_map(table.kind.value, name, table.key_size, table.value_size, entries, _FLAGS[table.kind]) as inner:
            inner.update_batch(*_rows(table))
            datapath.map(name).set(half, struct.pack("=I", inner.fd))
    states = datapath.map("policy_states")  # last: whoever walked through those of two revisions ago has ended by now
    states.set(half, maps.states.ljust(states.value_size, b"\0"))


def _rows(table: PolicyTable) -> tuple[Rows, Rows]:
    keys = np.frombuffer(b"".join(key for key, _ in table.entries), f"V{table.key_size}")
    values = np.frombuffer(b"".join(value for _, value in table.entries), f"V{table.value_size}")
    return keys, values
