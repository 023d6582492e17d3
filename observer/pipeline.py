"""From packets to records: the only module that knows every stage of the one-way street.

`Packets` enter; conntrack says which of them are worth a flow, streams put their payload in order, conversations read
it, the tagger adds identity and verdict, and a batch of records with extras goes into the store. A record's time is
that of the packet that made it known, so records keep the order of the capture.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

from observer.conntrack import ACKED, DATA, END, FIN, SYN, TELL, Connection, Conntrack, Half, Roles
from observer.decode import Decoder, Packets
from observer.extra import Extra
from observer.identity.endpoints import EndpointTable, IpCache
from observer.identity.names import Names
from observer.l7.conversation import Conversation
from observer.l7.detect import DNS_PORTS, Detected
from observer.l7.dns import DnsPair
from observer.l7.kafka_topics import TopicIds
from observer.l7.message import Message, Side
from observer.losses import Losses
from observer.notes import Notes, greet
from observer.policy.engine import Engine
from observer.record import L7Kind, L7Type, Records
from observer.record import Protocol as IpProtocol
from observer.rows import Batch, Rows
from observer.sources.pace import paced
from observer.sources.pcap import open_capture
from observer.stream import Assembly, Piece, Stream
from observer.tag import PolicyMode, Tag, Tagger
from observer.tuples import KEY, TCP

SYN_OR_FIN: Final = SYN | FIN

LANES: Final = {Detected.HTTP1: 1, Detected.HTTP2: 2, Detected.TLS: 3}
UNREAD: Final = 4
"""The lanes of connections whose conversations have nothing in common with others."""

HOLE_NS: Final = 20_000_000
"""How long a hole that the receiver has acknowledged is kept open: a capture may hold an ACK before what it answers."""

# Members of enums, most as plain numbers: looking them up in their class is slow, and done for every packet told.
UDP: Final = int(IpProtocol.UDP)
KNOWN: Final = Roles.KNOWN
REQUEST: Final = L7Type.REQUEST
CLIENT, SERVER = Side.CLIENT, Side.SERVER
TLS: Final = L7Kind.TLS
MORE: Final = Detected.MORE


class Sink(Protocol):
    """Who takes the flows: a store, or something in front of one."""

    @property
    def endpoints(self) -> EndpointTable:
        """The table that records are numbered by."""
        ...

    @property
    def losses(self) -> Losses:
        """Where is counted what was lost."""
        ...

    @property
    def nodes(self) -> list[str]:
        """Names of nodes, by the numbers that `append` is given."""
        ...

    def append(self, records: Records, extras: Sequence[tuple[int, Extra]], node: int) -> None:
        """Take a batch; `extras` by row."""
        ...


class Pipeline:
    """One packet source on its way into a store; used by one thread."""

    def __init__(
        self,
        *,
        store: Sink,
        endpoints: IpCache,
        policy: Engine | None = None,
        mode: PolicyMode = PolicyMode.ENFORCE,
        losses: Losses | None = None,
        node: str = "",
        conntrack: Conntrack | None = None,
    ) -> None:
        """`conntrack` is one of its own unless given: one that knows connections from elsewhere too."""
        if store.endpoints is not endpoints.table:
            raise ValueError("the store and the ipcache have to share one endpoint table")
        self.losses = store.losses if losses is None else losses
        self._store = store
        if node not in store.nodes:
            store.nodes.append(node)
        self._node = store.nodes.index(node)
        self._mode = mode
        self._tagger = Tagger(endpoints, policy, mode)
        self._conntrack = Conntrack(self.losses) if conntrack is None else conntrack
        self._assembly = Assembly(self.losses)
        self._topic_ids = TopicIds()
        self._names = Names(self.losses)
        self._time_ns = 0
        self._rows = Rows()

    def judge_by(self, endpoints: IpCache, policy: Engine | None) -> None:
        """Judge by these from the next packet on, connections that stand included."""
        if self._store.endpoints is not endpoints.table:
            raise ValueError("the store and the ipcache have to share one endpoint table")
        self._tagger = Tagger(endpoints, policy, self._mode)
        for connection in self._conntrack:
            connection.tag = None

    @property
    def names(self) -> Names:
        """What its clients learned of addresses."""
        return self._names

    def start(self, connection: Connection, starts: tuple[int | None, int | None]) -> None:
        """Expect these sequence numbers of the next byte of the client and of the server, where they are known."""
        for half, start in zip((connection.client, connection.server), starts, strict=True):
            if start is not None:
                half.stream = Stream(self._assembly)
                half.stream.start(start - 1)

    def take_over(self, connection: Connection, starts: tuple[int | None, int | None]) -> Conversation:
        """The conversation of a connection that was read elsewhere up to `starts`, by who is known to ask."""
        self.start(connection, starts)
        connection.asker = connection.client
        return self._meet(connection)

    def packets(self, packets: Packets) -> None:
        """Take the next packets and append the flows that they make."""
        batch = Batch(packets)
        times, flags, sequence = batch.time_ns, batch.tcp_flags, batch.sequence
        data, start, length = batch.data, batch.start, batch.length
        # Segments that are nothing but bytes, captured whole.
        plain = (((packets.tcp_flags & SYN_OR_FIN) == 0) & (packets.payload_missing == 0)).tobytes()
        rows, tell = self._rows, self._message
        for row, half, what in self._conntrack.track(packets, _lane):
            rows.place = row
            time_ns = times[row]
            connection = half.connection
            stream: Stream | None = half.stream
            # What the bytes say comes first: it may turn the roles that the packet's own flow tells.
            messages: list[Message] | tuple[()] = ()
            if what == DATA and stream is not None and plain[row] and stream.takes(sequence[row], size := length[row]):
                # Nearly every segment: the next of its stream.
                at = start[row]
                conversation: Conversation = connection.conversation or self._meet(connection)
                messages = conversation.feed(half.side, data[at : at + size], time_ns)
                if connection.asker is None or conversation.opaque:
                    _settle(connection, conversation)
            elif what == END:
                self._end(connection, time_ns)
                continue
            elif what != TELL or stream is not None:
                if connection.protocol == TCP:
                    messages = self._segment(batch, row, half, what, time_ns)
                elif connection.protocol == UDP:
                    messages = self._datagram(half, data[start[row] : start[row] + length[row]], time_ns)
                else:
                    half.wants_payload = False
            if messages and messages[-1].kind is TLS:
                # No flow of its own: Hubble has no kind for it. The packet is told, with what its hello says.
                what |= self._greet(half, messages.pop(), flags[row], what)
            if what & TELL:
                rows.packet(batch, row, half, connection.tag or self._tag(connection), time_ns)
            for message in messages:
                tell(connection, message, time_ns)
        if times:
            self._time_ns = max(self._time_ns, times[-1])
        rows.place = len(times)
        self.advance(self._time_ns)

    def advance(self, time_ns: int) -> None:
        """End the connections that were silent for too long at this packet time."""
        self._time_ns = max(self._time_ns, time_ns)
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
            self._store.append(*self._rows.take(), self._node)

    def _segment(self, batch: Batch, row: int, half: Half, what: int, time_ns: int) -> list[Message]:
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
            pieces = stream.segment(sequence & 0xFFFFFFFF, batch.data[start : start + length], missing)
            if pieces:
                messages += self._read(half, pieces, time_ns)
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
        return self._read(half.other, pieces, time_ns)

    def _read(self, half: Half, pieces: Sequence[Piece], time_ns: int) -> list[Message]:
        """Give the conversation what one side has said, gaps included."""
        conversation: Conversation = half.connection.conversation or self._meet(half.connection)
        messages: list[Message] = []
        for piece in pieces:
            if isinstance(piece, int):
                conversation.gap(half.side, piece)
            else:
                messages += conversation.feed(half.side, piece, time_ns)
        _settle(half.connection, conversation)
        return messages

    def _datagram(self, half: Half, data: bytes, time_ns: int) -> list[Message]:
        """Give the conversation one datagram."""
        connection = half.connection
        conversation: Conversation | DnsPair = connection.conversation or self._meet_pair(connection)
        messages = conversation.feed(half.side, data, time_ns)
        if connection.asker is None or conversation.opaque:
            _settle(connection, conversation)
        if conversation.idle:
            connection.conversation = None
        return messages

    def _meet_pair(self, connection: Connection) -> Conversation | DnsPair:
        key = connection.client.key
        source, destination = key[32] << 8 | key[33], key[34] << 8 | key[35]
        if source not in DNS_PORTS and destination not in DNS_PORTS:
            return self._meet(connection)
        # Who uses such a port on both ends asks and answers from it (RFC 6762, 6): the roles do not show.
        roles_known = connection.asker is not None or source == destination
        pair = connection.conversation = DnsPair(self.losses, roles_known=roles_known)
        asker = connection.asker or connection.client
        asker.side, asker.other.side = CLIENT, SERVER
        return pair

    def _meet(self, connection: Connection) -> Conversation:
        key = connection.client.key
        ports = key[32] << 8 | key[33], key[34] << 8 | key[35]
        asker = connection.asker or connection.client
        conversation = Conversation(
            self.losses,
            ports,
            is_datagram=connection.protocol == UDP,
            topic_ids=self._topic_ids,
            ends=(key[:16], key[16:32]),
            roles_known=connection.asker is not None,
            joined=connection.joined,
        )
        connection.conversation = conversation
        asker.side, asker.other.side = CLIENT, SERVER
        return conversation

    def _close(self, half: Half) -> list[Message]:
        """The side has sent its last byte."""
        if not half.wants_payload:
            return []
        _let_go(half)
        conversation: Conversation | DnsPair | None = half.connection.conversation
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
        client, server = connection.client, connection.server
        if connection.conversation is None and client.stream is None and server.stream is None:
            return  # as nearly all of the many that asked one name
        messages: list[Message] = []
        for half in (client, server):
            if half.stream is not None:
                messages += self._read(half, half.stream.flush(), time_ns)
            messages += self._close(half)
        for message in messages:
            if message.kind is not TLS:  # there is no packet any more to tell a hello with
                self._message(connection, message, time_ns)

    def _message(self, connection: Connection, message: Message, time_ns: int) -> None:
        """Add the L7 flow of one request or response."""
        tag: Tag = connection.tag or self._tag(connection)
        asker = connection.asker or connection.client
        half = asker if message.side is CLIENT else asker.other
        # An answer is not judged: its verdict is the request's.
        asked = message if message.type is REQUEST else message.request
        judgement = tag.judgement
        if asked is not None and tag.decision.l7 is not None:
            judgement = self._tagger.request(tag, asked)
        dns = message.dns
        if dns is not None and dns.ips and message.request is not None and not message.code:
            # Only what was asked for: anybody can send an answer.
            names = (message.texts[0].decode("ascii"), *dns.cnames)
            self._names.learn(_place(half.key) + half.key[16:32], dns.ips, names, dns.ttl, time_ns)
        self._rows.message(half, message, asked, tag, judgement, time_ns)

    def _tag(self, connection: Connection) -> Tag:
        tag: Tag = self._tagger.tag(connection)
        connection.tag = tag
        if self._names:
            key, time_ns = connection.client.key, connection.last_ns
            client, server, place = key[:16], key[16:32], _place(key)
            client_names = self._names.lookup(place + server, client, time_ns)
            server_names = self._names.lookup(place + client, server, time_ns)
            if client_names or server_names:
                connection.notes = Notes(client_names, server_names)
        return tag


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


def _lane(connection: Connection) -> int:
    """Where the connection's packets may be read apart from others (Conntrack.track): 0 is nowhere.

    Not before it is known what it speaks and to whom, nor where answers name addresses or topics to other connections.
    What begins to do so behind a CONNECT teaches the others from the next batch on.
    """
    conversation: Conversation | DnsPair | None = connection.conversation
    if connection.tag is None:
        return 0
    if conversation is None:
        return 0 if connection.client.wants_payload or connection.server.wants_payload else UNREAD
    return LANES.get(conversation.kind, 0)


def _settle(connection: Connection, conversation: Conversation | DnsPair) -> None:
    """Note what the bytes have said of the connection, and let go of what is read to its end."""
    if connection.asker is None and conversation.kind is not MORE:
        _learn(connection, conversation)
    if conversation.opaque:
        _let_go(connection.client)
        _let_go(connection.server)
        connection.conversation = None


def _learn(connection: Connection, conversation: Conversation | DnsPair) -> None:
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
    half.common = None
    if half.stream is not None:
        half.stream.drop()
        half.stream = None
