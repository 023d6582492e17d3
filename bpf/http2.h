/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/2 as a passive observer reads it (RFC 9113): octets of both sides in, requests and responses out, gRPC among
 * them. The same rules as observer/l7/http2.py, http2_head.py, http2_streams.py and grpc.py, which say why.
 *
 * Frames are walked by their lengths; header blocks go through hpack.h, DATA is passed over. A connection is joined in
 * the middle where a segment begins with a frame. It refuses to know bodies: gRPC messages are not counted, and a
 * status that gRPC-Web puts into the body is unknown. Settings are not read: an encoder says itself how large its table
 * is. Where frames are lost only the end of DATA can be found again: else user space goes on, from what was known here
 * (observer/datapath/http2_state.py). What a server pushes is told without its request. */
#pragma once

#include "hpack.h"
#include "http2_streams.h"

#define MAX_BLOCKS 2048	    /* header blocks that are cut over segments or frames at one time */
#define MALFORMED_LIMIT 32  /* observer/l7/http2.py */
#define MAX_STEPS (1 << 20) /* more than a packet has octets */

/* What the next octet of a side belongs to. */
enum http2_state { STATE_START, STATE_PREFACE, STATE_FRAME, STATE_BLOCK, STATE_LAST };

/* Over direction.parser. */
struct http2_side {
	__u8 head[HEAD_SIZE]; /* of the frame, as far as it came; in STATE_BLOCK [0] is the padding's length */
	__u8 have;	      /* octets of it */
	__u8 state;
	__u8 bits;
	__u32 rest; /* STATE_BLOCK: octets of the fragment; STATE_LAST: the stream whose last octet comes */
};
enum { SIDE_LATE = 1 << 0, SIDE_HAS_TABLE = 1 << 1, SIDE_IN_BLOCK = 1 << 2 };

_Static_assert(sizeof(struct http2_side) == sizeof(((struct direction *)0)->parser), "http2_side");
_Static_assert(__builtin_offsetof(struct header_block, value) % 8 == 0, "value");

/* What a frame asks for; done by http2_step, because only so many calls may lie in one another. */
enum { DO_NOTHING, DO_SECTION, DO_END_STREAM, DO_GO_AWAY };

/* A header block as it waits for its next octets. */
struct kept_block {
	__u8 octets[BLOCK_KEPT];
};

/* Header blocks that are not complete, by connection and side. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_BLOCKS);
	__type(key, struct hpack_key);
	__type(value, struct kept_block);
} http2_blocks SEC(".maps");

/* What the callbacks need; all that changes is in map memory. */
struct http2 {
	struct __sk_buff *skb;
	struct scratch *s;
	struct connection *c;
	struct http2_work *work;
};

static __always_inline struct http2_side *http2_side(struct connection *c, __u8 sender)
{
	return (struct http2_side *)c->directions[sender & 1].parser;
}

/* Bytes that no sender may send: enough of them, and the connection is read no more. Where policy refuses requests,
 * what a client sends so does not pass, and the connection is read for ever. */
static __always_inline int http2_faulty(struct scratch *s, struct connection *c)
{
	struct http2_connection *state = (struct http2_connection *)c->parser;

	if (must_be_read(s, c)) {
		s->hand_over = SNAPSHOT_RULE;
		return s->packet.sender == CLIENT ? READ_HAND_OVER : READ;
	}
	return ++state->malformed >= MALFORMED_LIMIT ? READ_OPAQUE : READ;
}

/* The table of the side that sends; one that was pushed out is empty, and late. */
static __always_inline struct hpack_table *http2_table(struct scratch *s, struct connection *c,
						       struct http2_work *work)
{
	struct http2_side *side = http2_side(c, s->packet.sender);
	struct hpack_table *table = bpf_map_lookup_elem(&hpack_tables, &work->key);

	if (table && side->bits & SIDE_HAS_TABLE)
		return table;
	work->fresh.late = !!(side->bits & (SIDE_LATE | SIDE_HAS_TABLE));
	side->bits |= SIDE_HAS_TABLE;
	bpf_map_update_elem(&hpack_tables, &work->key, &work->fresh, BPF_ANY);
	return bpf_map_lookup_elem(&hpack_tables, &work->key);
}

/* Insertions of the side that sends were not seen. */
static __noinline int http2_lose(struct scratch *s, struct connection *c, struct http2_work *work)
{
	struct hpack_table *table = http2_table(s, c, work);

	if (table)
		hpack_lose(table);
	return 0;
}

/* A header block is complete, or `cut`. */
__noinline int http2_section(struct scratch *s, struct connection *c, struct http2_work *work, int cut)
{
	struct http2_side *side;
	struct header_block *b;

	if (!s || !c || !work)
		return READ;
	b = &work->block;
	side = http2_side(c, s->packet.sender);
	side->bits &= ~SIDE_IN_BLOCK;
	if (cut || b->step != STEP_FIELD)
		http2_lose(s, c, work);
	if (b->step == STEP_MALFORMED || (!cut && b->step != STEP_FIELD))
		return http2_faulty(s, c);
	if (cut) {
		b->cut = 1;
		b->begins_unknown |= !b->fields;
	}
	if (b->promises)
		return READ;
	return s->packet.sender == CLIENT ? http2_asked(s, c, b) : http2_answered(s, c, work);
}

/* The fragment of the block that this frame holds is over. */
static __always_inline void end_fragment(struct connection *c, struct http2_work *work, struct http2_side *side,
					 __u8 sender)
{
	side->state = STATE_FRAME;
	c->directions[sender & 1].left = side->head[0];
	if (work->block.last)
		work->to_do = DO_SECTION;
}

/* Octets of a header block, as many as there are. Global, so that the verifier reads it once. */
__noinline int http2_block(struct scratch *s, struct connection *c, struct http2_work *work, __u32 at)
{
	struct hpack h = { .s = s };
	struct header_block *b;
	struct http2_side *side;
	__u32 size;

	if (!s || !c || !work || at >= s->loaded || s->loaded > PAYLOAD_SIZE)
		return READ;
	h.table = http2_table(s, c, work);
	if (!h.table)
		return READ_OPAQUE;
	side = http2_side(c, s->packet.sender);
	h.block = b = &work->block;
	size = s->loaded - at;
	if (size > side->rest)
		size = side->rest;
	b->key = work->key;
	b->at = at;
	b->until = at + size;
	bpf_loop(size, hpack_octet, &h, 0);
	s->at += size;
	side->rest -= size;
	if (!side->rest)
		end_fragment(c, work, side, s->packet.sender);
	return READ;
}

/* Whether this frame is no CONTINUATION of the block that is not complete (6.2). */
static __always_inline int interrupts(struct http2 *h, const struct http2_side *side)
{
	const __u8 *head = h->work->head;

	return side->bits & SIDE_IN_BLOCK &&
	       (head[3] != FRAME_CONTINUATION || read_31(head + 5) != h->work->block.stream);
}

/* The server ends a stream with DATA: the last that a gRPC response has where no trailers follow. */
static __always_inline void http2_data_ends(struct http2 *h, struct http2_side *side, __u32 stream)
{
	struct direction *d = &h->c->directions[SERVER];
	struct pending *asked = &h->s->asked;
	struct http2_stream *state = (struct http2_stream *)asked->parser;

	if (!find_pending(h->c->number, stream))
		return;
	if (state->told || asked->l7_kind != KIND_GRPC) {
		drop_pending(h->c->number, stream);
		return;
	}
	if (state->web && !state->incomplete) {
		state->incomplete = 1;
		update_pending(h->c->number, stream);
	}
	if (!d->left) {
		h->work->to_do = DO_END_STREAM;
		return;
	}
	d->left--;
	side->state = STATE_LAST;
	side->rest = stream;
}

/* A frame header came, and what is read with it. */
static __noinline int http2_frame(struct http2 *h)
{
	struct http2_work *work = h->work;
	struct http2_side *side = http2_side(h->c, h->s->packet.sender);
	struct header_block *b = &work->block;
	struct scratch *s = h->s;
	struct connection *c = h->c;
	struct direction *d = &c->directions[s->packet.sender & 1];
	const __u8 *head = work->head;
	__u32 size = read_24(head), stream = read_31(head + 5), prefix = prefix_size(head), padding = 0;
	__u8 type = head[3], flags = head[4];

	if (is_malformed(head)) {
		s->hand_over = SNAPSHOT_RULE;
		return READ_HAND_OVER;
	}
	work->stream = stream;
	if (prefix > size)
		prefix = size;
	size -= prefix;
	d->left = size;
	switch (type) {
	case FRAME_HEADERS:
	case FRAME_PUSH_PROMISE:
		if (flags & PADDED)
			padding = head[FRAME_HEADER_SIZE];
		if (prefix < prefix_size(head) || padding > size) {
			http2_lose(s, c, work);
			return http2_faulty(s, c);
		}
		__builtin_memset(b, 0, SECTION_SIZE);
		b->stream = stream;
		b->grpc_status = STATUS_NONE;
		b->promises = type == FRAME_PUSH_PROMISE;
		b->end_stream = !b->promises && flags & END_STREAM;
		break;
	case FRAME_CONTINUATION:
		if (!(side->bits & SIDE_IN_BLOCK)) { /* of a block that began out of sight, or of nothing (6.10) */
			http2_lose(s, c, work);
			return side->bits & SIDE_LATE ? READ : http2_faulty(s, c);
		}
		break;
	case FRAME_DATA:
		if (flags & END_STREAM && s->packet.sender == SERVER)
			http2_data_ends(h, side, stream);
		return READ;
	case FRAME_RST_STREAM:
		work->to_do = DO_END_STREAM;
		return READ;
	case FRAME_GOAWAY:
		work->stream = read_31(head + FRAME_HEADER_SIZE);
		work->to_do = DO_GO_AWAY;
		return READ;
	default:
		return READ;
	}
	d->left = 0;
	side->bits |= SIDE_IN_BLOCK;
	side->state = STATE_BLOCK;
	side->head[0] = padding;
	side->rest = size - padding;
	b->last = !!(flags & END_HEADERS);
	if (!side->rest)
		end_fragment(c, work, side, s->packet.sender);
	return READ;
}

/* An octet of a frame header that is cut over segments, or all of one; 1 where there is enough of it to go on. */
static __noinline int gather_head(struct http2 *h, __u32 at)
{
	struct scratch *s = h->s;
	struct http2_side *side = http2_side(h->c, s->packet.sender);
	__u8 *head = h->work->head;
	const __u8 *payload = s->payload + (at & (PAYLOAD_SIZE - 1));
	__u32 available = s->loaded - at, have = side->have, size;

	if (have) {
		side->head[have < HEAD_SIZE ? have : 0] = *payload;
		side->have = ++have;
		s->at++;
		__builtin_memcpy(head, side->head, HEAD_SIZE);
	} else {
		__builtin_memcpy(head, payload, HEAD_SIZE);
		have = available;
	}
	if (have >= FRAME_HEADER_SIZE) {
		size = read_24(head);
		if (size > prefix_size(head))
			size = prefix_size(head);
		size += FRAME_HEADER_SIZE;
		if (have >= size) {
			if (!side->have)
				s->at += size;
			side->have = 0;
			return 1;
		}
	}
	if (side->have)
		return 0;
	if (s->at + available < s->end) { /* the rest is in this packet, but not loaded */
		h->work->base = 0;
		return 0;
	}
	__builtin_memcpy(side->head, head, HEAD_SIZE);
	side->have = available;
	s->at = s->end;
	return 0;
}

/* The first octets of a side (3.4), or the first that were seen. */
static __always_inline int http2_start(struct http2 *h, struct http2_side *side)
{
	struct scratch *s = h->s;
	struct connection *c = h->c;

	side->state = STATE_FRAME;
	if (s->packet.sender == CLIENT && (!c->joined || s->payload[0] == PREFACE[0])) {
		side->state = STATE_PREFACE;
		return READ;
	}
	if (!c->joined)
		return READ;
	side->bits |= SIDE_LATE;
	if (plausible_end(s, 0))
		return READ;
	s->hand_over = SNAPSHOT_UNDECIDED; /* it will have to look for a frame */
	return READ_HAND_OVER;
}

static __always_inline int http2_preface(struct http2 *h, struct http2_side *side, __u8 octet)
{
	struct http2_side *server = http2_side(h->c, SERVER);

	if (octet != (__u8)PREFACE[side->have & 31]) {
		h->s->hand_over = SNAPSHOT_UNDECIDED;
		return READ_HAND_OVER;
	}
	h->s->at++;
	if (++side->have < PREFACE_SIZE)
		return READ;
	side->have = 0;
	side->state = STATE_FRAME;
	if (server->state == STATE_START)
		server->state = STATE_FRAME;
	return READ;
}

/* A frame header, a piece of a header block, or what is passed over. */
static long http2_step(__u32 i, void *context)
{
	struct http2 *h = context;
	struct http2_work *work = h->work;
	struct scratch *s = h->s;
	struct direction *d = &h->c->directions[s->packet.sender & 1];
	struct http2_side *side = (struct http2_side *)d->parser;
	__u32 at, left = s->end - s->at;

	if (d->left) {
		if (left > d->left)
			left = d->left;
		s->at += left;
		d->left -= left;
	}
	if (s->at >= s->end)
		return 1;
	at = s->at - work->base;
	if (!work->base || at >= s->loaded) {
		load_payload(h->skb, s);
		work->base = s->at;
		at = 0;
		if (!s->loaded)
			return 1;
	}
	switch (side->state) {
	case STATE_FRAME:
		if (!gather_head(h, at))
			return 0;
		if (interrupts(h, side)) {
			work->result = http2_faulty(s, h->c) ?: http2_section(s, h->c, work, 1);
			if (work->result)
				return 1;
		}
		work->result = http2_frame(h);
		break;
	case STATE_BLOCK:
		work->result = http2_block(s, h->c, work, at);
		break;
	case STATE_LAST:
		s->at++;
		side->state = STATE_FRAME;
		work->stream = side->rest;
		work->to_do = DO_END_STREAM;
		break;
	case STATE_PREFACE:
		work->result = http2_preface(h, side, s->payload[at & (PAYLOAD_SIZE - 1)]);
		break;
	default:
		work->result = http2_start(h, side);
	}
	if (work->to_do == DO_SECTION)
		work->result = http2_section(s, h->c, work, 0);
	else if (work->to_do == DO_END_STREAM)
		end_stream(s, h->c, work->stream, 0);
	else if (work->to_do == DO_GO_AWAY)
		http2_go_away(s, h->c, work->stream);
	work->to_do = DO_NOTHING;
	return work->result != READ;
}

/* Go on with a header block that was cut; without what came before, the rest of it is passed over. */
static __noinline int restore_block(struct scratch *s, struct connection *c, struct http2_work *work)
{
	struct http2_side *side = http2_side(c, s->packet.sender);
	struct kept_block *kept = bpf_map_lookup_elem(&http2_blocks, &work->key);

	if (kept) {
		bpf_probe_read_kernel(&work->block, BLOCK_KEPT, kept);
		return 0;
	}
	side->bits &= ~SIDE_IN_BLOCK;
	if (side->state == STATE_BLOCK) {
		side->state = STATE_FRAME;
		c->directions[s->packet.sender & 1].left = side->rest + side->head[0];
	}
	return http2_lose(s, c, work);
}

__noinline int http2_read(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	__u32 zero = 0;
	struct http2_work *work = bpf_map_lookup_elem(&http2_works, &zero);
	struct http2 h = { skb, s, c, work };

	if (!s || !c || !work)
		return READ_HAND_OVER;
	work->key.connection = c->number;
	work->key.side = s->packet.sender;
	work->base = s->at;
	work->result = READ;
	work->to_do = DO_NOTHING;
	if (http2_side(c, s->packet.sender)->bits & SIDE_IN_BLOCK)
		restore_block(s, c, work);
	bpf_loop(MAX_STEPS, http2_step, &h, 0);
	if (http2_side(c, s->packet.sender)->bits & SIDE_IN_BLOCK && work->result == READ)
		bpf_map_update_elem(&http2_blocks, &work->key, &work->block, BPF_ANY);
	return work->result;
}
