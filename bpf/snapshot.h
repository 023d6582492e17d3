/* SPDX-License-Identifier: Apache-2.0 */
/* Payload for user space: what the kernel cannot finish goes through a ring of its own, in pieces, each with what the
 * kernel knew of the connection. Once handed over, a connection stays handed over (L7_USER) until user space lets it
 * go. Knows no protocol. */
#pragma once

#include "conn.h"

#define PIECE_SIZE 16384
#define MAX_PIECES 40 /* of one packet: 640 KB, more than any there is */
#define HOLE_WAIT_NS 20000000ULL /* pipeline.HOLE_NS */

/* What user space says of a connection, in `let_go`. */
enum { WORD_LET_GO = 1, WORD_WANTED = 2 };

struct snapshot_scratch {
	__u32 at;
	__u32 end;
	__u32 reason;
	struct snapshot head;
	__u8 octets[PIECE_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct snapshot_scratch);
} snapshot_scratches SEC(".maps");

struct piece_context {
	struct __sk_buff *skb;
	struct snapshot_scratch *piece;
};

static long push_piece(__u32 index, void *data)
{
	struct piece_context *context = data;
	struct snapshot_scratch *piece = context->piece;
	__u32 size = piece->end - piece->at;

	if (size > PIECE_SIZE)
		size = PIECE_SIZE;
	barrier_var(size);
	if (size > PIECE_SIZE)
		return 1;
	if (size && bpf_skb_load_bytes(context->skb, piece->at, piece->octets, size))
		return 1;
	piece->at += size;
	piece->head.length = size;
	if (piece->at < piece->end) {
		/* The FIN, and what is missing, stand behind the last piece. */
		piece->head.tcp_flags &= ~TCP_FIN;
		piece->head.missing = 0;
	}
	if (bpf_ringbuf_output(&snapshots, &piece->head, sizeof(piece->head) + size, BPF_RB_NO_WAKEUP))
		count(COUNT_SNAPSHOTS_FULL);
	piece->head.sequence += size;
	piece->head.reason = SNAPSHOT_MORE;
	return piece->at >= piece->end;
}

/* Give the octets from `at` to `end` of the frame to user space. The record is as begin_record made it. */
static __noinline int push_snapshot(struct __sk_buff *skb, struct connection *c, __u32 reason)
{
	__u32 zero = 0;
	struct snapshot_scratch *piece = bpf_map_lookup_elem(&snapshot_scratches, &zero);
	struct scratch *s = scratch();
	struct piece_context context = { .skb = skb, .piece = piece };
	struct packet *packet;
	struct snapshot *head;

	if (!piece || !s || !c)
		return 0;
	packet = &s->packet;
	head = &piece->head;
	piece->at = s->at;
	piece->end = s->end;
	head->sequence = packet->sequence + !!(packet->tcp_flags & TCP_SYN) + (s->at - packet->payload);
	head->acknowledgment = packet->acknowledgment;
	head->tcp_flags = packet->tcp_flags;
	head->side = packet->sender;
	head->reason = reason;
	head->left[CLIENT] = c->directions[CLIENT].left;
	head->left[SERVER] = c->directions[SERVER].left;
	head->next_sequence[CLIENT] = c->directions[CLIENT].next_sequence;
	head->next_sequence[SERVER] = c->directions[SERVER].next_sequence;
	__builtin_memcpy(head->parser[CLIENT], c->directions[CLIENT].parser, sizeof(head->parser[CLIENT]));
	__builtin_memcpy(head->parser[SERVER], c->directions[SERVER].parser, sizeof(head->parser[SERVER]));
	__builtin_memcpy(head->shared, c->parser, sizeof(head->shared));
	head->missing = packet->payload_missing;
	head->l7 = c->l7;
	head->synced = c->directions[CLIENT].synced | c->directions[SERVER].synced << SERVER;
	head->roles = c->roles;
	head->record = s->record;
	bpf_loop(MAX_PIECES, push_piece, &context, 0);
	return 0;
}
