"""What programs go by, written into the maps of a loaded `datapath`: addresses, policies, Kafka's layouts, settings.

An ipcache, an engine and settings enter; nothing leaves. Settings come last: with them everything holds at once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from observer.datapath import kafka_table
from observer.datapath.libbpf import Object
from observer.datapath.maps import ZERO, Settings, addresses
from observer.datapath.policy_maps import put_policy
from observer.identity.endpoints import IpCache
from observer.policy.compile import compile_policy
from observer.policy.engine import Engine


def fill(datapath: Object, endpoints: IpCache, policy: Engine | None, settings: Settings) -> Settings:
    """Write everything; the settings as they hold now. PolicyError where the kernel cannot hold a rule exactly.

    Called again with these settings it puts other identities and policies in the place of those that hold, without a
    gap: connections that policies judged before are judged again at their next packet.
    """
    revision = settings.revision + 1
    if policy is not None:
        put_policy(datapath, compile_policy(policy, endpoints, revision))
    ipcache = datapath.map("ipcache")
    held = dict(addresses(endpoints))
    for key, value in held.items():
        ipcache.set(key, value)
    for key in [key for key in ipcache.keys() if key not in held]:  # noqa: SIM118 - a map of the kernel is no dict
        ipcache.delete(key)
    fill_kafka(datapath)
    settings = replace(settings, has_policy=policy is not None, revision=revision)
    datapath.map("settings").set(ZERO, settings.pack())
    return settings


def fill_kafka(loaded: Object) -> None:
    """Write Kafka's layouts, for every key and version."""
    for name, values in zip(("kafka_programs", "kafka_steps"), kafka_table.tables(), strict=True):
        table = loaded.map(name)
        rows = np.frombuffer(values, f"V{table.value_size}")
        table.update_batch(np.arange(len(rows), dtype="=u4").view("V4"), rows)
