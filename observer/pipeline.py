"""From packets to records: the only module that knows every stage of the one-way street.

`Packets` enter; conntrack says which of them are worth a flow, streams put their payload in order, conversations read
it, the tagger adds identity and verdict, and a batch of records with extras goes into the store. A record's time is
that of the packet that made it known, so records keep the order of the capture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from observer.conntrack import ACKED, DATA, END, FIN, SYN, TELL, Connection, Conntrack, Half, Roles
from observer.decode import Decoder, Packets
from observer.extra import Extra
from observer.identity.endpoints import IpCache
from observer.identity.names import Names
from observer.l7.conversation import Conversation
from observer.l7.detect import Detected
from observer.l7.kafka_topics import TopicIds
from observer.l7.message import Message, Side
from observer.l7.traceparent import trace_id_of
from observer.losses import Losses
from observer.notes import Notes, annotate, greet
from observer.policy.engine import Engine
from observer.record import PACK, RECORD, EventType, Flags, FlowType, L7Kind, L7Type, Present, Protocol, pack_text
from observer.sources.pace import paced
from observer.sources.pcap import open_capture
from observer.store import Store
from observer.stream import Assembly, Piece, Stream
from observer.tag import PolicyMode, Tag, Tagger
from observer.tuples import KEY, TCP, Shape

HOLE_NS: Final = 20_000_000
"""How long a hole that the receiver has acknowledged is kept open: a capture may hold an ACK before what it answers."""

# Members of enums, most as plain numbers: looking them up in their class is slow, and done for every packet told.
UDP: Final = int(Protocol.UDP)
PORTS: Final = int(Shape.PORTS)
UNKNOWN, KNOWN = Roles.UNKNOWN, Roles.KNOWN
L3_L4: Final = int(FlowType.L3_L4)
L7: Final = int(FlowType.L7)
L7_EVENT: Final = int(EventType.L7)
REQUEST, RESPONSE = L7Type.REQUEST, L7Type.RESPONSE
CLIENT, SERVER = Side.CLIENT, Side.SERVER
TLS: Final = L7Kind.TLS
MORE: Final = Detected.MORE
IS_REPLY: Final = int(Present.IS_REPLY)
COUNTERS: Final = int(Present.COUNTERS)
IS_ICMP: Final = int(Present.ICMP)
HAS_FLAGS: Final = int(Present.TCP_FLAGS)
HAS_VLAN: Final = int(Present.VLAN)
HAS_MAC: Final = int(Present.MAC)
HAS_CODE: Final = int(Present.CODE)
HAS_METHOD: Final = int(Present.METHOD)
HAS_L7_ID: Final = int(Present.L7_ID)
HAS_LATENCY: Final = int(Present.LATENCY)
HAS_GRPC_STATUS: Final = int(Present.GRPC_STATUS)
GRPC: Final = L7Kind.GRPC
L7_INCOMPLETE: Final = int(Flags.L7_INCOMPLETE)
EXTRA: Final = int(Flags.EXTRA)
TEXT_CUT: Final = int(Flags.TEXT_CUT)


class _Batch:
    """The columns of a batch of packets as lists, because rows are read one by one."""

    __slots__ = (
        "acknowledgment", "data", "destination_mac", "has_mac", "icmp_code", "icmp_type", "length", "missing",
        "sequence", "source_mac", "start", "tcp_flags", "time_ns", "tunnel",
    )  # fmt: skip

    def __init__(self, packets: Packets) -> None:
        self.data = packets.data
        self.time_ns = packets.time_ns.tolist()
        self.tcp_flags = packets.tcp_flags.tolist()
        self.sequence = packets.sequence.tolist()
        self.acknowledgment = packets.acknowledgment.tolist()
        self.start = packets.payload_start.tolist()
        self.length = packets.payload_length.tolist()
        self.missing = packets.payload_missing.tolist()
        self.has_mac = packets.has_mac.tolist()
        self.source_mac = packets.source_mac.tobytes()
        self.destination_mac = packets.destination_mac.tobytes()
        self.icmp_type = packets.icmp_type
        self.icmp_code = packets.icmp_code
        self.tunnel = packets.tunnel


class Pipeline:
    """One packet source on its way into a store; used by one thread."""

    def __init__(
        self,
        *,
        store: Store,
        endpoints: IpCache,
        policy: Engine | None = None,
        mode: PolicyMode = PolicyMode.ENFORCE,
        losses: Losses | None = None,
        node: str = "",
    ) -> None:
        if store.endpoints is not endpoints.table:
            raise ValueError("the store and the ipcache have to share one endpoint table")
        self.losses = store.losses if losses is None else losses
        self._store = store
        if node not in store.nodes:
            store.nodes.append(node)
        self._node = store.nodes.index(node)
        self._tagger = Tagger(endpoints, policy, mode)
        self._conntrack = Conntrack(self.losses)
        self._assembly = Assembly(self.losses)
        self._topic_ids = TopicIds()
        self._names = Names(self.losses)
        self._time_ns = 0
        self._texts: tuple[bytes, ...] = ()
        self._packed = pack_text(())
        self._rows: list[bytes] = []
        self._extras: list[tuple[int, Extra]] = []

    def packets(self, packets: Packets) -> None:
        """Take the next packets and append the flows that they make."""
        batch = _Batch(packets)
        times = batch.time_ns
        for row, half, what in self._conntrack.track(packets):
            time_ns = times[row]
            if what == END:
                self._end(half.connection, time_ns)
                continue
            # What the bytes say comes first: it may turn the roles that the packet's own flow tells.
            messages: list[Message] | tuple[()] = ()
            if what != TELL or half.stream is not None:
                protocol = half.connection.protocol
                if protocol == TCP:
                    messages = self._segment(batch, row, half, what, time_ns)
                elif protocol == UDP:
                    start = batch.start[row]
                    datagram = bytes(batch.data[start : start + batch.length[row]])
                    messages = self._feed(half, (datagram,), time_ns)
                else:
                    half.wants_payload = False
                if messages and messages[-1].kind is TLS:
                    # No flow of its own: Hubble has no kind for it. The packet is told, with what its hello says.
                    what |= self._greet(half, messages.pop(), batch.tcp_flags[row], what)
            if what & TELL:
                self._tell(batch, row, half, time_ns)
            for message in messages:
                self._message(half.connection, message, time_ns)
        if times:
            self._time_ns = max(self._time_ns, times[-1])
        self.advance(self._time_ns)

    def advance(self, time_ns: int) -> None:
        """End the connections that were silent for too long at this packet time."""
        for connection in self._conntrack.advance(time_ns):
            self._end(connection, time_ns)
        self._append()

    def finish(self) -> None:
        """End every connection: the capture is over."""
        for connection in self._conntrack:
            self._end(connection, self._time_ns)
        self._conntrack.clear()
        self._append()

    def _append(self) -> None:
        if self._rows:
            rows, extras = self._rows, self._extras
            self._rows, self._extras = [], []
            self._store.append(np.frombuffer(b"".join(rows), RECORD), extras, self._node)

    def _segment(self, batch: _Batch, row: int, half: Half, what: int, time_ns: int) -> list[Message]:
        """The messages that a TCP segment completes."""
        messages = self._acknowledged(half, batch.acknowledgment[row], time_ns) if what & ACKED else []
        flags = batch.tcp_flags[row]
        sequence = batch.sequence[row] + (1 if flags & SYN else 0)
        stream = half.stream
        if what & DATA and half.wants_payload:
            if stream is None:
                stream = half.stream = Stream(self._assembly)
                if half.isn >= 0:
                    stream.start(half.isn)
            start, length, missing = batch.start[row], batch.length[row], batch.missing[row]
            pieces = stream.segment(sequence & 0xFFFFFFFF, bytes(batch.data[start : start + length]), missing)
            if pieces:
                messages += self._feed(half, pieces, time_ns)
            if stream.waits and (pieces or not half.other.wants_acks):
                stream.hole_ns = time_ns
                half.other.want_acks(True)
            sequence += length + missing
        if flags & FIN and stream is not None:
            stream.finish(sequence & 0xFFFFFFFF)
        if stream is not None and stream.ended:
            messages += self._close(half)
        return messages

    def _acknowledged(self, half: Half, acknowledgment: int, time_ns: int) -> list[Message]:
        """Look whether the hole in the other direction is one that will never be filled."""
        stream = half.other.stream
        if stream is None or not stream.waits:
            half.want_acks(False)
            return []
        if time_ns - stream.hole_ns < HOLE_NS:
            return []
        pieces = stream.acknowledged(acknowledgment)
        stream.hole_ns = time_ns if pieces else stream.hole_ns
        return self._feed(half.other, pieces, time_ns)

    def _feed(self, half: Half, pieces: Sequence[Piece], time_ns: int) -> list[Message]:
        """Give the conversation what one side has said."""
        connection = half.connection
        conversation: Conversation | None = connection.conversation
        if conversation is None:
            conversation = self._meet(connection)
        messages: list[Message] = []
        for piece in pieces:
            if isinstance(piece, int):
                conversation.gap(half.side, piece)
            elif messages:
                messages += conversation.feed(half.side, piece, time_ns)
            else:
                messages = conversation.feed(half.side, piece, time_ns)
        if connection.asker is None and conversation.kind is not MORE:
            _learn(connection, conversation)
        if conversation.opaque:
            _let_go(connection.client)
            _let_go(connection.server)
            connection.conversation = None
        elif conversation.is_datagram and conversation.idle:
            connection.conversation = None
        return messages

    def _meet(self, connection: Connection) -> Conversation:
        ports = connection.client_port, connection.server_port
        asker = connection.asker or connection.client
        conversation = Conversation(
            self.losses,
            ports,
            is_datagram=connection.protocol == UDP,
            topic_ids=self._topic_ids,
            ends=(connection.client_ip, connection.server_ip),
            roles_known=connection.asker is not None,
        )
        connection.conversation = conversation
        asker.side, asker.other.side = CLIENT, SERVER
        return conversation

    def _close(self, half: Half) -> list[Message]:
        """The side has sent its last byte."""
        if not half.wants_payload:
            return []
        _let_go(half)
        conversation: Conversation | None = half.connection.conversation
        if conversation is None:
            return []
        if not half.other.wants_payload:
            half.connection.conversation = None
        return conversation.close(half.side)

    def _greet(self, half: Half, hello: Message, flags: int, what: int) -> int:
        """Note a ClientHello; what its packet is good for now."""
        if half.connection.tag is None:
            self._tag(half.connection)
        greet(half, hello)
        return 0 if what & TELL else self._conntrack.tell(half, half.last_ns, flags)

    def _end(self, connection: Connection, time_ns: int) -> None:
        """Read what still waits behind holes; nothing more will come."""
        messages: list[Message] = []
        for half in (connection.client, connection.server):
            if half.stream is not None:
                messages += self._feed(half, half.stream.flush(), time_ns)
            messages += self._close(half)
        for message in messages:
            if message.kind is not TLS:  # there is no packet any more to tell a hello with
                self._message(connection, message, time_ns)

    def _tell(self, batch: _Batch, row: int, half: Half, time_ns: int) -> None:
        """Add the L3_L4 flow of one packet."""
        connection = half.connection
        tag: Tag = connection.tag or self._tag(connection)
        source_ip, destination_ip, source_port, destination_port, vlan, protocol, family, shape = KEY.unpack_from(
            half.key
        )
        present, icmp_type, icmp_code = COUNTERS, 0, 0
        if shape != PORTS:
            source_port = destination_port = 0
            present |= IS_ICMP
            icmp_type, icmp_code = int(batch.icmp_type[row]), int(batch.icmp_code[row])
        elif protocol == TCP:
            present |= HAS_FLAGS
        is_reply = half.is_reply
        ends = tag.server if is_reply else tag.client
        if connection.roles is not UNKNOWN:
            present |= IS_REPLY
        else:
            is_reply = False  # whoever was seen first counts as client; that is no knowledge to tell
        if vlan:
            present |= HAS_VLAN
        source_mac = destination_mac = b""
        if batch.has_mac[row]:
            present |= HAS_MAC
            source_mac = batch.source_mac[6 * row : 6 * row + 6]
            destination_mac = batch.destination_mac[6 * row : 6 * row + 6]
        verdict, event_type, drop_reason, direction, egress_rule, ingress_rule, match = tag.judgement
        flags = tunnel = vni = 0
        if batch.tunnel is not None:
            half.outer = batch.tunnel[row]
        if half.outer is not None or connection.notes is not None:
            flags = EXTRA
            tunnel, vni = self._annotate(Extra(), half)
        row_of = (
            time_ns, 0, half.bytes, 0, 0, connection.number,
            half.packets & 0xFFFFFFFF, 0, 0, ends[0], ends[1], ends[2], ends[3], egress_rule, ingress_rule, 0,
            present, flags, 0, vni,
            source_ip, destination_ip, source_mac, destination_mac,
            source_port, destination_port, vlan, batch.tcp_flags[row], drop_reason, 0, 0, 0,
            family, protocol, L3_L4, event_type, ends[4], verdict, direction, is_reply,
            0, 0, match, 0, half.reason, icmp_type, icmp_code, tunnel,
            0, 0, 0, 0, b"", b"",
        )  # fmt: skip
        self._rows.append(PACK.pack(*row_of))

    def _message(self, connection: Connection, message: Message, time_ns: int) -> None:
        """Add the L7 flow of one request or response."""
        tag: Tag = connection.tag or self._tag(connection)
        asker = connection.asker or connection.client
        half = asker if message.side is CLIENT else asker.other
        ends = tag.server if half.is_reply else tag.client
        # An answer is not judged: its verdict is the request's.
        asked = message if message.type is REQUEST else message.request
        judgement = tag.judgement if asked is None else self._tagger.request(tag, asked)
        verdict, _, drop_reason, direction, egress_rule, ingress_rule, match = judgement
        source_ip, destination_ip, source_port, destination_port, vlan, protocol, family, _ = KEY.unpack_from(half.key)
        if message.texts is not self._texts:  # a response has those of its request, and often comes next
            self._texts, self._packed = message.texts, pack_text(message.texts)
        lengths, text, cut = self._packed
        present, flags = IS_REPLY, L7_INCOMPLETE if message.incomplete else 0
        code, method, number, latency_ns = message.code, message.method, message.id, message.latency_ns
        if code is not None:
            present |= HAS_CODE
        if method is not None:
            present |= HAS_METHOD
        if number is not None:
            present |= HAS_L7_ID
        if latency_ns is not None:
            present |= HAS_LATENCY
        if vlan:
            present |= HAS_VLAN
        extra = None
        if cut or message.head or message.dns is not None or message.extension:
            flags |= EXTRA | (TEXT_CUT if cut else 0)
            texts = message.texts if cut else ()
            extra = Extra(texts=texts, head=message.head, dns=message.dns, extension=message.extension)
            if asked is not None and asked.head:
                extra.trace_id = trace_id_of(asked.head)
            if message.dns is not None and message.request is not None and not code:
                # Only what was asked for: anybody can send an answer.
                names = (message.texts[0].decode("ascii"), *message.dns.cnames)
                self._names.learn(_place(half.key) + half.key[16:32], message.dns.ips, names, message.dns.ttl, time_ns)
        grpc_status = None
        if message.kind is GRPC and message.extension:
            grpc_status = message.extension["grpc"].get("status")
            if grpc_status is not None:
                present |= HAS_GRPC_STATUS
        tunnel = vni = 0
        if half.outer is not None or connection.notes is not None:
            flags |= EXTRA
            tunnel, vni = self._annotate(extra or Extra(), half)
        elif extra is not None:
            self._extras.append((len(self._rows), extra))
        row_of = (
            time_ns, max(latency_ns or 0, 0), 0, 0, 0, connection.number,
            0, 0, 0, ends[0], ends[1], ends[2], ends[3], egress_rule, ingress_rule, (number or 0) & 0xFFFFFFFF,
            present, flags, 0, vni,
            source_ip, destination_ip, b"", b"",
            source_port, destination_port, vlan, 0, drop_reason,
            (code or 0) & 0xFFFF, message.version & 0xFFFF, (method or 0) & 0xFFFF,
            family, protocol, L7, L7_EVENT, 0, verdict, direction, message.type is RESPONSE,
            message.kind, message.type, match, grpc_status or 0, 0, 0, 0, tunnel,
            *lengths, b"", text,
        )  # fmt: skip
        self._rows.append(PACK.pack(*row_of))

    def _tag(self, connection: Connection) -> Tag:
        tag: Tag = self._tagger.tag(connection)
        connection.tag = tag
        if self._names:
            client, server, place = connection.client_ip, connection.server_ip, _place(connection.client.key)
            client_names = self._names.lookup(place + server, client, connection.last_ns)
            server_names = self._names.lookup(place + client, server, connection.last_ns)
            if client_names or server_names:
                connection.notes = Notes(client_names, server_names)
        return tag

    def _annotate(self, extra: Extra, half: Half) -> tuple[int, int]:
        """Add the extra of the next row, with what is noted of its connection; the record's tunnel and VNI."""
        self._extras.append((len(self._rows), annotate(extra, half)))
        return (0, 0) if extra.tunnel is None else (extra.tunnel.protocol, extra.tunnel.vni)


def replay(
    path: str | Path,
    pipeline: Pipeline,
    *,
    realtime: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run a capture through the pipeline; at the pace of its times if `realtime`; until `stop` is set.

    `progress` is called with bytes read and bytes in all after each batch. CaptureError where there is no capture.
    """
    for _ in replay_batches(path, pipeline, realtime=realtime, progress=progress, stop=stop):
        pass


def replay_batches(
    path: str | Path,
    pipeline: Pipeline,
    *,
    realtime: bool = False,
    progress: Callable[[int, int], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[None]:
    """The same, but hand over after each batch of frames, for who takes the flows out in the same thread."""
    stop = threading.Event() if stop is None else stop
    decoder = Decoder(pipeline.losses)
    with open_capture(path, pipeline.losses) as capture:
        batches = capture.frames()
        for frames in paced(batches, stop) if realtime else batches:
            if stop.is_set():
                return
            pipeline.packets(decoder.decode(frames))
            if progress is not None:
                progress(capture.position, capture.size)
            yield
    if not stop.is_set():
        decoder.finish()
        pipeline.finish()
        yield


def _learn(connection: Connection, conversation: Conversation) -> None:
    """The bytes have said who asks."""
    connection.asker = connection.client
    if conversation.roles_swapped:
        connection.asker = connection.server
        # A server may ask over a connection that it was given; only what was guessed before is put right.
        if connection.roles is not KNOWN:
            connection.swap_roles()
            connection.tag = None
    connection.roles = KNOWN


def _place(key: bytes) -> bytes:
    """Where the addresses of a key are: VLAN and tunnel."""
    return key[36:38] + key[KEY.size :]


def _let_go(half: Half) -> None:
    """Nobody wants what this side says any more."""
    half.wants_payload = False
    if half.stream is not None:
        half.stream.drop()
        half.stream = None
