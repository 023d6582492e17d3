/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections: which packets belong together, who asked whom, and which packets are worth a flow. The same rules as
 * observer/conntrack.py, which says why; timeouts run on packet time. Knows TCP's flags and the sequence numbers of
 * SYNs (RFC 9293), nothing of payload.
 *
 * Packets of a connection come on one CPU for each direction as a rule, so nothing here is locked: what can go wrong
 * without is a packet too few in a count, or an L3/L4 flow told twice. */
#pragma once

#include "message.h"
#include "packet.h"
#include "translation.h"

#define SECOND 1000000000ULL
#define REPORT_NS (5 * SECOND)
#define TCP_NS (8000 * SECOND)
#define TCP_SYN_NS (60 * SECOND)
#define TCP_CLOSED_NS (10 * SECOND)
#define OTHER_NS (60 * SECOND)
#define TCP_TOLD (TCP_SYN | TCP_FIN | TCP_RST)

enum { REASON_UNKNOWN, REASON_NEW, REASON_ESTABLISHED, REASON_REPLY, REASON_RELATED };
enum { POINT_TO_ENDPOINT = 0, POINT_TO_STACK = 3, POINT_FROM_NETWORK = 10 };

/* What `look` says of a packet. */
enum { LOOK_TELL = 1, LOOK_ENDED = 2 };

static __always_inline int is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* Write both ends in the order that both directions share; which of them is the source. */
static __always_inline __u8 order_ends(struct tuple *tuple, const void *source, const void *destination,
				       __be16 source_port, __be16 destination_port, int sorted)
{
	__u64 one[2], two[2];
	__u8 end = 0;

	__builtin_memcpy(one, source, 16);
	__builtin_memcpy(two, destination, 16);
	if (sorted) {
		if (one[1] != two[1])
			end = one[1] > two[1];
		else if (one[0] != two[0])
			end = one[0] > two[0];
		else
			end = source_port > destination_port;
	}
	__builtin_memcpy(tuple->ip[0], end ? two : one, 16);
	__builtin_memcpy(tuple->ip[1], end ? one : two, 16);
	tuple->port[0] = end ? destination_port : source_port;
	tuple->port[1] = end ? source_port : destination_port;
	return end;
}

/* The packet's key; which of its ends sends. ICMP messages that have no reply have no other direction either. */
static __always_inline __u8 make_tuple(struct tuple *tuple, const struct packet *packet)
{
	tuple->vlan = packet->vlan;
	tuple->protocol = packet->protocol;
	tuple->family = packet->family;
	return order_ends(tuple, packet->source_ip, packet->destination_ip, packet->source_port,
			  packet->destination_port, !is_icmp(packet->protocol) || is_echo(packet));
}

static __always_inline int is_closed(const struct connection *c)
{
	__u16 client = c->directions[CLIENT].told, server = c->directions[SERVER].told;

	return (client | server) & TCP_RST || client & server & TCP_FIN;
}

static __always_inline __u64 timeout_ns(const struct connection *c, __u8 protocol)
{
	if (protocol != IPPROTO_TCP)
		return OTHER_NS;
	if (is_closed(c))
		return TCP_CLOSED_NS;
	return c->directions[CLIENT].packets && c->directions[SERVER].packets ? TCP_NS : TCP_SYN_NS;
}

/* Whether the packet needs more than counting: no timeout is shorter than REPORT_NS. */
static __always_inline int needs_look(const struct packet *packet, const struct direction *d)
{
	return packet->time_ns >= d->told_ns + REPORT_NS || packet->tcp_flags & (TCP_SYN | (TCP_TOLD & ~d->told)) ||
	       !d->tells;
}

/* Whether the packet ends the connection it seems to belong to, and else whether it is told. */
static __noinline int look(const struct packet *packet, struct connection *c)
{
	struct direction *d = &c->directions[packet->sender & 1];
	struct direction *other = &c->directions[!(packet->sender & 1)];
	__u16 flags = packet->tcp_flags;

	if (packet->time_ns >= c->last_ns + timeout_ns(c, packet->protocol))
		return LOOK_ENDED;
	if (flags & TCP_SYN) {
		int is_new = !d->has_initial || packet->sequence != d->initial_sequence;

		if (flags & TCP_ACK) {
			if (c->has_challenge && packet->acknowledgment - 1 == c->challenge && is_new)
				return LOOK_ENDED;
		} else if (is_new) {
			if (!d->has_initial && !d->packets && !is_closed(c)) {
				/* a simultaneous open (RFC 9293, 3.5) */
			} else if (is_closed(c) || !other->packets) {
				return LOOK_ENDED;
			} else if (!c->has_challenge || packet->sequence != c->challenge) {
				/* Forged, or the ports are used again and the end was not seen: the SYN-ACK will tell. */
				c->challenge = packet->sequence;
				c->has_challenge = 1;
				return LOOK_TELL;
			}
		}
		if (!d->has_initial) {
			d->initial_sequence = packet->sequence;
			d->has_initial = 1;
		}
	}
	if (!d->tells || flags & TCP_TOLD & ~d->told || packet->time_ns >= d->told_ns + REPORT_NS)
		return LOOK_TELL;
	return 0;
}

/* Whether a packet seen in mid-connection comes from the server, by its ports, and how sure that is. */
static __always_inline int guess(const struct packet *packet, __u8 *roles)
{
	__u16 source = bpf_ntohs(packet->source_port), destination = bpf_ntohs(packet->destination_port);

	*roles = ROLES_PORTS;
	/* Privileged ports are servers'; Linux takes client ports from 32768 up. */
	if ((source < 1024) != (destination < 1024))
		return source < 1024;
	if ((source < 32768) != (destination < 32768))
		return source < 32768;
	*roles = ROLES_UNKNOWN;
	return 0;
}

/* Whether the first packet of a connection comes from the server; also how sure that is, and if it has joined. */
static __always_inline int is_answer(const struct packet *packet, struct connection *c)
{
	int answer = 0;

	c->roles = ROLES_KNOWN;
	if (packet->protocol == IPPROTO_TCP) {
		if (packet->tcp_flags & TCP_SYN)
			answer = !!(packet->tcp_flags & TCP_ACK);
		else
			answer = guess(packet, &c->roles);
		c->joined = !(packet->tcp_flags & TCP_SYN) || answer;
	} else if (is_icmp(packet->protocol)) {
		c->icmp_type = packet->icmp_type;
		if (packet->protocol == IPPROTO_ICMP && packet->icmp_type == ICMP_ECHO_REPLY) {
			answer = 1;
			c->icmp_type = ICMP_ECHO_REQUEST;
		} else if (packet->protocol == IPPROTO_ICMPV6 && packet->icmp_type == ICMPV6_ECHO_REPLY) {
			answer = 1;
			c->icmp_type = ICMPV6_ECHO_REQUEST;
		}
		c->joined = answer;
	} else {
		/* A datagram that comes first asks, unless it left a privileged port for an unprivileged one. */
		answer = bpf_ntohs(packet->source_port) < 1024 && bpf_ntohs(packet->destination_port) >= 1024 &&
			 packet->source_port;
		c->joined = answer;
		if (answer)
			c->roles = ROLES_PORTS;
	}
	return answer;
}

/* ICMP errors belong to the packet that they quote (RFC 792, RFC 4443). */
static __always_inline int is_error(const struct packet *packet)
{
	__u8 type = packet->icmp_type;

	if (packet->protocol == IPPROTO_ICMP)
		return type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
	return packet->protocol == IPPROTO_ICMPV6 && type >= 1 && type <= 4;
}

static __always_inline int is_address(const __u8 *one, const __u8 *two)
{
	__u64 first[2], second[2];

	__builtin_memcpy(first, one, 16);
	__builtin_memcpy(second, two, 16);
	return first[0] == second[0] && first[1] == second[1];
}

/* The connection of the packet that an ICMP error quotes. */
static __noinline struct connection *find_quoted(struct __sk_buff *skb, const struct packet *packet)
{
	__u32 at = packet->payload, end = packet->payload + packet->payload_length;
	__u8 source[16] = {}, destination[16] = {};
	struct tuple tuple = { .vlan = packet->vlan, .family = packet->family };
	__be16 ports[4] = {};
	int is_ported;

	if (packet->family == 4) {
		struct ipv4 header;

		if (at + 28 > end || bpf_skb_load_bytes(skb, at, &header, sizeof(header)) || header.version >> 4 != 4)
			return NULL;
		source[10] = source[11] = destination[10] = destination[11] = 0xff;
		__builtin_memcpy(source + 12, &header.source, 4);
		__builtin_memcpy(destination + 12, &header.destination, 4);
		tuple.protocol = header.protocol;
		at += (header.version & 15) * 4;
	} else {
		struct ipv6 header;

		if (at + 48 > end || bpf_skb_load_bytes(skb, at, &header, sizeof(header)) ||
		    bpf_ntohl(header.version) >> 28 != 6)
			return NULL;
		__builtin_memcpy(source, header.source, 16);
		__builtin_memcpy(destination, header.destination, 16);
		tuple.protocol = header.next;
		at += sizeof(header);
	}
	if (at + sizeof(ports) > end || bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return NULL;
	if (!is_address(source, packet->destination_ip))
		return NULL; /* it goes to somebody who did not send what it quotes: no way around policy */
	is_ported = tuple.protocol == IPPROTO_TCP || tuple.protocol == IPPROTO_UDP || tuple.protocol == IPPROTO_SCTP;
	if (is_icmp(tuple.protocol))
		order_ends(&tuple, source, destination, ports[2], ports[2], 1);
	else
		order_ends(&tuple, source, destination, is_ported ? ports[0] : 0, is_ported ? ports[1] : 0, 1);
	return bpf_map_lookup_elem(&connections, &tuple);
}

static __always_inline void find_endpoint(struct endpoint *endpoint, const __u8 *address)
{
	struct lpm_address key = { .length = 128 };
	struct endpoint *found;

	__builtin_memcpy(key.address, address, 16);
	found = bpf_map_lookup_elem(&ipcache, &key);
	if (found)
		*endpoint = *found;
}

static __noinline struct connection *open_connection(struct __sk_buff *skb, struct scratch *s, __u8 end)
{
	struct packet *packet = &s->packet;
	struct connection *c = &s->fresh;
	struct direction *d;
	int answer;

	__builtin_memset(c, 0, sizeof(*c));
	s->numbered++;
	/* Above the numbers that user space gives (conntrack.py), and different on each CPU. */
	c->number = (__u64)(bpf_get_smp_processor_id() + 1) << 40 | s->numbered;
	c->ifindex = skb->ifindex;
	answer = is_answer(packet, c);
	packet->sender = answer ? SERVER : CLIENT;
	c->first = packet->sender;
	c->client = answer ? !end : end;
	find_endpoint(&c->ends[packet->sender & 1], packet->source_ip);
	find_endpoint(&c->ends[!(packet->sender & 1)], packet->destination_ip);
	d = &c->directions[packet->sender & 1];
	if (packet->tcp_flags & TCP_SYN) {
		d->initial_sequence = packet->sequence;
		d->has_initial = 1;
	}
	c->last_ns = packet->time_ns;
	if (is_error(packet)) {
		struct connection *about = find_quoted(skb, packet);

		if (about && packet->time_ns < about->last_ns + TCP_CLOSED_NS) {
			c->related = 1;
			c->decision = about->decision;
			c->decision.egress_l7 = c->decision.ingress_l7 = 0;
		}
	}
	if (!s->replay)
		link_translated(skb, s);
	if (bpf_map_update_elem(&connections, &s->tuple, c, BPF_ANY)) {
		count(COUNT_CONNECTION_LOST);
		return NULL;
	}
	return bpf_map_lookup_elem(&connections, &s->tuple);
}

/* Note that a flow of this packet is told. */
static __always_inline void note_told(const struct packet *packet, struct direction *d)
{
	d->tells++;
	d->told |= packet->tcp_flags & TCP_TOLD;
	d->told_ns = packet->time_ns;
}

/* With its first octets a direction begins: behind its SYN, or where it was joined. */
static __always_inline void synchronise(struct direction *d, __u32 sequence)
{
	if (d->synced)
		return;
	d->next_sequence = d->has_initial ? d->initial_sequence + 1 : sequence;
	d->synced = 1;
}

/* The client is the server: what was guessed in mid-connection was wrong. */
static __noinline void swap_roles(struct scratch *s, struct connection *c)
{
	struct endpoint end = c->ends[CLIENT];

	c->ends[CLIENT] = c->ends[SERVER];
	c->ends[SERVER] = end;
	s->fresh.directions[CLIENT] = c->directions[CLIENT];
	c->directions[CLIENT] = c->directions[SERVER];
	c->directions[SERVER] = s->fresh.directions[CLIENT];
	c->client ^= 1;
	c->first ^= 1;
	c->decision.revision = 0;
	s->packet.sender ^= 1;
}

/* Why the flow being told is told, in Cilium's terms. */
static __always_inline __u8 reason(const struct connection *c, __u8 sender)
{
	__u32 tells = c->directions[sender & 1].tells;

	if (c->related)
		return REASON_RELATED;
	if (c->roles == ROLES_UNKNOWN || (c->joined && c->first == sender && tells == 1))
		return REASON_ESTABLISHED;
	if (sender == SERVER)
		return REASON_REPLY;
	return tells == 1 && !c->joined ? REASON_NEW : REASON_ESTABLISHED;
}

/* Where a packet is observed: on its way into a workload, out of one, or from the wire. */
static __always_inline __u8 point(const struct endpoint *source, const struct endpoint *destination)
{
	if (destination->flags & ENDPOINT_MANAGED)
		return POINT_TO_ENDPOINT;
	return source->flags & ENDPOINT_MANAGED ? POINT_TO_STACK : POINT_FROM_NETWORK;
}

/* Fill the record with what all that is told of this packet has in common: an L7 flow without its L7 part. */
static __noinline void begin_record(struct __sk_buff *skb, struct scratch *s, const struct connection *c)
{
	struct flow_record *record = &s->record;
	const struct packet *packet = &s->packet;
	const struct endpoint *source = &c->ends[packet->sender & 1];
	const struct endpoint *destination = &c->ends[!(packet->sender & 1)];
	int has_ports = !is_icmp(packet->protocol);

	record->time_ns = packet->time_ns;
	record->connection = c->number;
	record->source_endpoint = source->number;
	record->destination_endpoint = destination->number;
	record->source_identity = source->identity;
	record->destination_identity = destination->identity;
	__builtin_memcpy(record->source_ip, packet->source_ip, 16);
	__builtin_memcpy(record->destination_ip, packet->destination_ip, 16);
	record->source_port = has_ports ? bpf_ntohs(packet->source_port) : 0;
	record->destination_port = has_ports ? bpf_ntohs(packet->destination_port) : 0;
	record->vlan = packet->vlan;
	record->family = packet->family;
	record->protocol = packet->protocol;
	record->type = FLOW_L7;
	record->event_type = EVENT_L7;
	record->is_reply = packet->sender == SERVER;
	record->present = IS_REPLY | (packet->vlan ? VLAN : 0);
	record->flags = 0;
	if (!s->replay) {
		record->ifindex = skb->ifindex;
		record->cookie = bpf_get_socket_cookie(skb);
	}
	judge_by_connection(s, c);
}

static __always_inline __u32 has_mac(const struct packet *packet)
{
	return packet->frame & FRAME_NO_MAC ? 0 : MAC;
}

/* Tell the L3/L4 flow of this packet; the record is left as begin_record made it. */
static __noinline void tell_packet(struct scratch *s, struct connection *c)
{
	struct flow_record *record = &s->record;
	const struct packet *packet = &s->packet;
	struct direction *d = &c->directions[packet->sender & 1];

	note_told(packet, d);
	begin_message(s);
	put_judgement(s, c);
	record->type = FLOW_L3_L4;
	record->event_type = record->drop_reason_desc ? EVENT_DROP : EVENT_TRACE;
	record->sub_type = record->drop_reason_desc ?: point(&c->ends[packet->sender & 1], &c->ends[!(packet->sender & 1)]);
	record->trace_reason = reason(c, packet->sender);
	record->present |= COUNTERS | has_mac(packet);
	record->bytes = d->bytes;
	record->packets = d->packets;
	__builtin_memcpy(record->source_mac, packet->source_mac, 6);
	__builtin_memcpy(record->destination_mac, packet->destination_mac, 6);
	if (is_icmp(packet->protocol)) {
		record->present |= ICMP;
		record->icmp_type = packet->icmp_type;
		record->icmp_code = packet->icmp_code;
	} else if (packet->protocol == IPPROTO_TCP) {
		record->present |= TCP_FLAGS;
		record->tcp_flags = packet->tcp_flags;
	}
	if (c->roles == ROLES_UNKNOWN) {
		/* Whoever was seen first counts as client; that is no knowledge to tell. */
		record->present &= ~IS_REPLY;
		record->is_reply = 0;
	}
	tell(s, 0);
	record->type = FLOW_L7;
	record->event_type = EVENT_L7;
	record->sub_type = record->trace_reason = 0;
	record->present = IS_REPLY | (packet->vlan ? VLAN : 0);
	record->is_reply = packet->sender == SERVER;
	record->bytes = 0;
	record->packets = 0;
	record->tcp_flags = 0;
	record->icmp_type = record->icmp_code = 0;
	__builtin_memset(record->source_mac, 0, 6);
	__builtin_memset(record->destination_mac, 0, 6);
}
