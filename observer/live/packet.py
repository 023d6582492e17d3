"""The tier `packet`: frames of a packet socket through the pipeline in user space, on a kernel that offers no more."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from observer.datapath.interfaces import Changes, Interface
from observer.datapath.rights import Capability
from observer.decode import Decoder
from observer.identity.endpoints import IpCache
from observer.live.loop import Pressures
from observer.pipeline import Pipeline
from observer.policy.engine import Engine
from observer.sources.packet import PacketSocket
from observer.vantage import Vantage


class PacketCapture:
    """A packet socket, the decoder and the pipeline."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._socket = PacketSocket(pipeline.losses)
        self._decoder = Decoder(pipeline.losses)
        self._vantage = Vantage()
        self._interfaces: dict[int, Interface] = {}
        self.descriptors = (self._socket.fd,)
        self.pressures: Pressures = ()
        self.needs: Collection[Capability] = ()  # a socket that is open asks for no rights

    @property
    def attached(self) -> Sequence[str]:
        """The interfaces' names."""
        return [f"{interface.name} (packet socket)" for interface in list(self._interfaces.values())]

    def take(self, changes: Changes) -> None:
        """Capture from what came; let go what went."""
        for interface in changes.went:
            del self._interfaces[interface.index]
        self._interfaces |= {interface.index: interface for interface in changes.came}
        self._socket.choose(self._interfaces)

    def judge_by(self, endpoints: IpCache, policy: Engine | None) -> None:
        """Judge flows by these from now on."""
        self._pipeline.judge_by(endpoints, policy)

    def drain(self) -> None:
        """Read what is in the ring."""
        for frames in self._socket.frames():
            packets = self._decoder.decode(frames)
            interfaces = frames.interfaces[packets.frame - int(frames.numbers[0])]
            self._pipeline.packets(self._vantage.keep(packets, interfaces))

    def tick(self, time_ns: int) -> None:
        """Count losses and end what was silent for too long."""
        self._socket.count_losses()
        self._pipeline.advance(time_ns)

    def close(self) -> None:
        """Close the socket; what is under way ends."""
        self._socket.close()
        self._decoder.finish()
        self._pipeline.finish()
