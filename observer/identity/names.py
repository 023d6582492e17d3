"""Names of addresses as each client learned them: DNS answers in, the names of a new connection's ends out.

An answer of one client names nothing for another. The TTL, and a grace behind it, decides for connections that begin;
what a connection was called when it began stays. Only who calls knows whether an answer was asked for: answers that
pair with no query have to stay outside. Bounded; knows no packets and no DNS format.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from socket import AF_INET6, inet_aton, inet_pton  # a tenth of what ipaddress takes; nothing else of sockets
from typing import Final

from observer.identity.endpoints import MAPPED
from observer.losses import Losses

MAX_ADDRESSES: Final = 65_536
"""Pairs of client and address that have names; beyond, those not used for longest are forgotten."""

MAX_NAMES: Final = 8
"""Names of one address for one client, the latest learned; a host behind a content network may collect more."""

GRACE_NS: Final = 60_000_000_000
"""How long past its TTL an answer still names a connection that begins: clients keep what they resolved."""

MAX_TTL: Final = 7 * 24 * 3600
"""Seconds that an answer is believed; resolvers do not keep one longer either."""

MEMO_LIMIT: Final = 4_096
"""Answers whose names are remembered in the form they are learned in, and names: as a rule all ask for the same few."""

SECOND: Final = 1_000_000_000


class Names:
    """What each client was told; a client is any bytes that say who and where, an address is 16 bytes."""

    def __init__(self, losses: Losses) -> None:
        self._losses = losses
        # By client and address in one; pairs of a name and when it ends. One small tuple each: there are many.
        self._learned: OrderedDict[bytes, tuple[tuple[str, int], ...]] = OrderedDict()

    def __len__(self) -> int:
        """Pairs of client and address held."""
        return len(self._learned)

    def learn(self, client: bytes, addresses: Sequence[str], names: Sequence[str], ttl: int, time_ns: int) -> None:
        """Remember that `client` was told that these `names` (the one asked for first) are at `addresses`."""
        if not addresses:
            return
        wanted = _wanted(tuple(names))
        if not wanted:
            return
        ends_ns = time_ns + min(ttl, MAX_TTL) * SECOND + GRACE_NS
        new = tuple([(name, ends_ns) for name in wanted[-MAX_NAMES:]])
        learned = self._learned
        for address in addresses:
            key = client + packed(address)
            known = learned.get(key)
            if known is None:
                if len(learned) >= MAX_ADDRESSES:
                    learned.popitem(last=False)
                    self._losses.count("names", "too many addresses with names")
                learned[key] = new
                continue
            learned.move_to_end(key)
            merged = dict(known)
            for name in wanted:
                merged[name] = max(ends_ns, merged.pop(name, 0))  # the latest learned goes last
            learned[key] = tuple(merged.items())[-MAX_NAMES:]

    def lookup(self, client: bytes, address: bytes, time_ns: int) -> tuple[str, ...]:
        """What `client` would call `address` in a connection that begins now, the last learned answer first."""
        key = client + address
        known = self._learned.get(key)
        if known is None:
            return ()
        left = tuple([each for each in known if each[1] >= time_ns])
        if not left:
            del self._learned[key]
            return ()
        self._learned[key] = left
        self._learned.move_to_end(key)
        return tuple([name for name, _ in left])


@lru_cache(maxsize=MEMO_LIMIT)
def _wanted(names: tuple[str, ...]) -> tuple[str, ...]:
    """What of the names of an answer is learned."""
    return tuple([name for name in dict.fromkeys(map(normal, names)) if name])


@lru_cache(maxsize=MEMO_LIMIT)  # one string for all that were told a name; sys.intern keeps it for ever in Python 3.12
def normal(name: str) -> str:
    """As Hubble writes names: without the last dot; lower case, because resolvers play with it."""
    return name.removesuffix(".").lower()


def packed(address: str) -> bytes:
    """16 bytes."""
    return inet_pton(AF_INET6, address) if ":" in address else MAPPED + inet_aton(address)
