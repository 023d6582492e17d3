"""What programs go by, written into the maps of a loaded `datapath`: addresses, policies, Kafka's layouts, settings.

An ipcache, an engine and settings enter; nothing leaves. Settings come last: with them everything holds at once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from observer.datapath import kafka_table
from observer.datapath.libbpf import Object
from observer.datapath.maps import ZERO, Settings, addresses
from observer.datapath.policy_maps import FIRST_REVISION, put_policy
from observer.identity.endpoints import IpCache
from observer.policy.compile import compile_policy
from observer.policy.engine import Engine


def fill(datapath: Object, endpoints: IpCache, policy: Engine | None, settings: Settings) -> Settings:
    """Write everything; the settings as they hold now. PolicyError where the kernel cannot hold a rule exactly."""
    ipcache = datapath.map("ipcache")
    for key, value in addresses(endpoints):
        ipcache.set(key, value)
    for name, values in zip(("kafka_programs", "kafka_steps"), kafka_table.tables(), strict=True):
        table = datapath.map(name)
        rows = np.frombuffer(values, f"V{table.value_size}")
        table.update_batch(np.arange(len(rows), dtype="=u4").view("V4"), rows)
    if policy is not None:
        put_policy(datapath, compile_policy(policy, endpoints, FIRST_REVISION))
        settings = replace(settings, has_policy=True, revision=FIRST_REVISION)
    datapath.map("settings").set(ZERO, settings.pack())
    return settings
