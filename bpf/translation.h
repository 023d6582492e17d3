/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Connections that the node translates on their way (a service's address, DNAT) pass two hooks with two tuples. Both
 * are told, but what is said over them is read once. That they are one shows in their first packet: it comes from the
 * same address and port, says the same, and is at the second hook at once. */
#pragma once

#include "message.h"
#include "packet.h"

#define MAX_FIRST_PACKETS 4096
#define FORWARDED_NS 1000000 /* how long a packet may take through the node */

struct first_packet {
	__u8 source_ip[16];
	__u32 says; /* TCP: the sequence number of the SYN, UDP: the first octets */
	__be16 source_port;
	__u8 protocol;
	__u8 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_FIRST_PACKETS);
	__type(key, struct first_packet);
	__type(value, struct tuple);
} first_packets SEC(".maps");

/* Whether nobody would miss what is said over a connection: it is read at another hook, and no rule asks for it here. */
static __always_inline int may_rest(const struct connection *c)
{
	return c->l7 == L7_UNDECIDED && !(c->decision.egress_l7 | c->decision.ingress_l7);
}

/* Look whether this new connection, still `fresh`, is another one behind a translation, and let one of both rest: of
 * TCP the first, because at the second stands the pod's own address; of UDP the second, because the first datagram has
 * been read already. A connection to a pod is never put to rest by somebody else's packet. */
static __noinline void link_translated(struct __sk_buff *skb, struct scratch *s)
{
	const struct packet *packet = &s->packet;
	struct first_packet key = { .source_port = packet->source_port, .protocol = packet->protocol };
	struct connection *c = &s->fresh, *other;
	struct tuple *tuple;

	if (packet->protocol == IPPROTO_TCP) {
		if ((packet->tcp_flags & (TCP_SYN | TCP_ACK)) != TCP_SYN)
			return;
		key.says = packet->sequence;
	} else if (packet->protocol != IPPROTO_UDP || packet->payload_length < sizeof(key.says) ||
		   bpf_skb_load_bytes(skb, packet->payload, &key.says, sizeof(key.says))) {
		return;
	}
	__builtin_memcpy(key.source_ip, packet->source_ip, 16);
	tuple = bpf_map_lookup_elem(&first_packets, &key);
	other = tuple ? bpf_map_lookup_elem(&connections, tuple) : NULL;
	if (!other || other->ifindex == c->ifindex || c->last_ns - other->last_ns > FORWARDED_NS) {
		bpf_map_update_elem(&first_packets, &key, &s->tuple, BPF_ANY);
		return;
	}
	if (packet->protocol == IPPROTO_UDP) {
		if (may_rest(c))
			c->l7 = L7_OPAQUE;
	} else if (may_rest(other) && !(other->ends[SERVER].flags & ENDPOINT_MANAGED)) {
		other->l7 = L7_OPAQUE;
	}
}
