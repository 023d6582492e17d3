/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Payload for user space: what the kernel cannot finish goes through a ring of its own, in pieces, each with what the
 * kernel knew of the connection. Once handed over, a connection stays handed over (L7_USER): user space reads it, and
 * tells its L3/L4 flows too, because it learns of roles and names. Knows no protocol. */
#pragma once

#include "conn.h"

#define PIECE_SIZE 16384
#define MAX_PIECES 40		 /* of one packet: 640 KB, more than any there is */
#define HOLE_NS 20000000ULL	 /* pipeline.HOLE_NS */
#define DATAGRAM_PROBES 4	 /* conversation.DATAGRAM_PROBES */

struct piece {
	__u32 at;
	__u32 end;
	__u32 missing;
	__u16 tcp_flags;
	__u8 is_told;
	__u8 is_datagram;
	struct snapshot head;
	__u8 octets[PIECE_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct piece);
} pieces SEC(".maps");

struct piece_context {
	struct __sk_buff *skb;
	struct piece *piece;
};

static long push_piece(__u32 index, void *data)
{
	struct piece_context *context = data;
	struct piece *piece = context->piece;
	struct snapshot *head = &piece->head;
	__u32 size = piece->end - piece->at;
	int is_last;

	if (size > PIECE_SIZE)
		size = PIECE_SIZE;
	barrier_var(size);
	if (size > PIECE_SIZE)
		return 1;
	if (size && bpf_skb_load_bytes(context->skb, piece->at, piece->octets, size))
		return 1;
	piece->at += size;
	is_last = piece->at >= piece->end || piece->is_datagram;
	head->length = size;
	/* What stands behind the last octet comes with the last piece; and the packet is told once. */
	head->tcp_flags = index ? piece->tcp_flags & ~TCP_SYN : piece->tcp_flags;
	if (!is_last)
		head->tcp_flags &= ~TCP_FIN;
	head->missing = is_last ? piece->missing + (piece->end - piece->at) : 0;
	head->is_told = is_last && piece->is_told;
	/* Wakes the reader where it has read all: a fast stream fills the ring before a timer of its would be due. */
	if (bpf_ringbuf_output(&snapshots, head, sizeof(*head) + size, 0))
		count(COUNT_SNAPSHOTS_FULL);
	head->sequence += size;
	head->reason = SNAPSHOT_MORE;
	return is_last;
}

/* Give the octets from scratch.at to scratch.end to user space, and the telling of this packet where `is_told`. The
 * record is as begin_record made it. */
__noinline int push_snapshot(struct __sk_buff *skb, struct connection *c, __u32 reason, int is_told)
{
	__u32 zero = 0;
	struct piece *piece = bpf_map_lookup_elem(&pieces, &zero);
	struct scratch *s = scratch();
	struct piece_context context = { .skb = skb, .piece = piece };
	const struct direction *client, *server, *sender;
	const struct packet *packet;
	struct snapshot *head;

	if (!piece || !s || !c)
		return 0;
	packet = &s->packet;
	client = &c->directions[CLIENT];
	server = &c->directions[SERVER];
	sender = &c->directions[packet->sender & 1];
	piece->at = s->at;
	piece->end = s->end;
	piece->missing = packet->payload_missing;
	piece->tcp_flags = packet->tcp_flags;
	piece->is_told = is_told;
	piece->is_datagram = packet->protocol == IPPROTO_UDP;
	head = &piece->head;
	head->record = s->record;
	head->record.present |= has_mac(packet);
	__builtin_memcpy(head->record.source_mac, packet->source_mac, 6);
	__builtin_memcpy(head->record.destination_mac, packet->destination_mac, 6);
	head->record.bytes = sender->bytes;
	head->record.packets = sender->packets;
	head->left[CLIENT] = client->left;
	head->left[SERVER] = server->left;
	head->next_sequence[CLIENT] = client->next_sequence;
	head->next_sequence[SERVER] = server->next_sequence;
	head->initial_sequence[CLIENT] = client->initial_sequence;
	head->initial_sequence[SERVER] = server->initial_sequence;
	head->packets[CLIENT] = client->packets;
	head->packets[SERVER] = server->packets;
	__builtin_memcpy(head->parser[CLIENT], client->parser, sizeof(client->parser));
	__builtin_memcpy(head->parser[SERVER], server->parser, sizeof(server->parser));
	__builtin_memcpy(head->shared, c->parser, sizeof(head->shared));
	head->sequence = packet->sequence + !!(packet->tcp_flags & TCP_SYN) + (s->at - packet->payload);
	head->acknowledgment = packet->acknowledgment;
	head->tells = sender->tells;
	head->last_id = c->last_id;
	head->waiting = c->waiting;
	head->told[CLIENT] = client->told;
	head->told[SERVER] = server->told;
	head->side = packet->sender;
	head->reason = reason;
	head->l7 = c->l7;
	head->synced = client->synced | server->synced << SERVER;
	head->has_initial = client->has_initial | server->has_initial << SERVER;
	head->roles = c->roles;
	head->joined = c->joined;
	head->first = c->first;
	bpf_loop(MAX_PIECES, push_piece, &context, 0);
	return 0;
}

/* From now on user space reads this connection. */
static __always_inline void hand_over(struct __sk_buff *skb, struct connection *c, __u32 why, int is_told)
{
	push_snapshot(skb, c, why, is_told);
	c->l7 = L7_USER;
	c->directions[CLIENT].left = c->directions[SERVER].left = 0; /* from here on: when a hole was first seen */
}

/* Note up to where a direction is without holes; whether what this acknowledges lies behind one of the other's. */
static __always_inline int tells_of_hole(const struct packet *packet, struct connection *c)
{
	struct direction *d = &c->directions[packet->sender & 1];
	struct direction *other = &c->directions[!(packet->sender & 1)];
	__u32 size = packet->payload_length + packet->payload_missing;
	__u32 sequence = packet->sequence + !!(packet->tcp_flags & TCP_SYN);
	__s32 ahead;

	if (size)
		synchronise(d, sequence);
	ahead = sequence - d->next_sequence;
	if (size && ahead > 0 && !d->left)
		d->left = packet->time_ns;
	else if (ahead <= 0 && (__s32)(ahead + size) > 0)
		d->next_sequence += ahead + size;
	if (!other->left || !(packet->tcp_flags & TCP_ACK) ||
	    (__s32)(packet->acknowledgment - other->next_sequence) <= 0)
		return 0;
	if (packet->time_ns >= other->left + HOLE_NS) {
		other->next_sequence = packet->acknowledgment;
		other->left = 0;
	}
	return 1;
}

/* Give what a connection that was handed over says, and the packets of it that are told, to user space. */
static __noinline void pass_on(struct __sk_buff *skb, struct scratch *s, struct connection *c, int is_told)
{
	const struct packet *packet = &s->packet;
	__u8 *word;

	s->at = s->end = packet->payload;
	if (!c->quiet) {
		int is_hole = tells_of_hole(packet, c);

		if (packet->payload_length || packet->payload_missing) {
			word = bpf_map_lookup_elem(&let_go, &c->number);
			if (word) {
				c->quiet = *word == WORD_LET_GO;
				bpf_map_delete_elem(&let_go, &c->number);
			}
		}
		if (!c->quiet) {
			s->end += packet->payload_length;
			if (is_hole || s->end > s->at || packet->payload_missing ||
			    packet->tcp_flags & (TCP_FIN | TCP_RST))
				goto push;
		}
	}
	if (!is_told)
		return;
push:
	if (is_told)
		note_told(packet, &c->directions[packet->sender & 1]);
	begin_record(skb, s, c);
	push_snapshot(skb, c, SNAPSHOT_MORE, is_told);
}

static __always_inline int is_dns_port(__be16 port)
{
	return port == bpf_htons(53) || port == bpf_htons(5353) || port == bpf_htons(5355);
}

/* DNS is known by its port; else user space knows it when it sees the first datagrams of a pair, or nobody does. */
static __noinline int wants_datagram(const struct packet *packet, struct connection *c)
{
	__u8 *word;

	if (!packet->payload_length && !packet->payload_missing)
		return 0;
	if (c->l7 != L7_UNDECIDED)
		return c->l7 == L7_USER;
	if (is_dns_port(packet->source_port) || is_dns_port(packet->destination_port)) {
		c->l7 = L7_USER;
		return 1;
	}
	word = bpf_map_lookup_elem(&let_go, &c->number);
	if (word) {
		c->l7 = *word == WORD_WANTED ? L7_USER : L7_OPAQUE;
		bpf_map_delete_elem(&let_go, &c->number);
		return c->l7 == L7_USER;
	}
	if (c->parser[0]++ < DATAGRAM_PROBES)
		return 1;
	c->l7 = L7_OPAQUE;
	return 0;
}
