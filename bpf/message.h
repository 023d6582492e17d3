/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A request or response on its way out: the parser has filled the L7 fields and texts of scratch.record, here it is
 * judged, paired and written to the ring. Knows no protocol.
 *
 * A parser calls, for every message whose head it has read:
 *   begin_message(s)                        clears the L7 fields and texts of the record
 *   add_text(s, slot, source, length)       texts, in the order of record.TEXT[kind]; empty ones may be left out
 *   s->keep[]                               what it wants to find again in scratch.asked, if anything
 *   tell_request(s, c, id)                  judged by scratch.judgement; 1 where the packet must not pass
 *   tell_response(s, c, id, keep)           takes method, texts and verdict from the request that waits
 * and, where it moves scratch.at and wants to see more:
 *   load_payload(skb, s)                    the octets from `at` on, into scratch.payload
 */
#pragma once

#include "maps.h"
#include "pending.h"

#define TEXT_MAX 255

enum { FLOW_L3_L4 = 1, FLOW_L7 = 2 };
enum { EVENT_DROP = 1, EVENT_TRACE = 4, EVENT_L7 = 129 };
enum { VERDICT_UNKNOWN, VERDICT_FORWARDED, VERDICT_DROPPED, VERDICT_ERROR, VERDICT_AUDIT };
enum { DIRECTION_UNKNOWN, DIRECTION_INGRESS, DIRECTION_EGRESS };
enum { POLICY_DENIED = 133, INVALID_PACKET = 134 }; /* flow.DropReason */

/* User space looks at the ring by a timer: waking it for each record would cost more than the rest. */
static __always_inline void write_record(struct flow_record *record)
{
	if (bpf_ringbuf_output(&events, record, sizeof(*record), BPF_RB_NO_WAKEUP))
		count(COUNT_EVENTS_FULL);
	else
		count(COUNT_TOLD);
}

/* Tell scratch.record, with the time of the packet that made it known; a parser may have set an earlier one, by which
 * latency is reckoned. `id` is what a request is remembered under. */
static __always_inline void tell(struct scratch *s, __u32 id)
{
	__u64 message_ns = s->record.time_ns;
	struct held_record *held;

	s->record.time_ns = s->packet.time_ns;
	if (s->holds) {
		held = &s->held[s->held_count & (HELD - 1)];
		if (s->held_count++ >= HELD)
			write_record(&held->record);
		held->record = s->record;
		held->id = id;
	} else {
		write_record(&s->record);
	}
	s->record.time_ns = message_ns;
}

/* Whether what policy refuses must not pass: a capture's packets have passed already. */
static __always_inline int refuses(const struct scratch *s)
{
	return s->enforce && !s->replay;
}

/* Whether nothing of a connection may pass that was not read: policy refuses requests, and this one may be of them. */
static __always_inline int must_be_read(const struct scratch *s, const struct connection *c)
{
	return refuses(s) && (c->decision.egress_l7 | c->decision.ingress_l7);
}

/* On which side of the node's workloads a connection is judged. */
static __always_inline __u8 direction_of(const struct connection *c)
{
	if (c->ends[SERVER].flags & ENDPOINT_MANAGED)
		return DIRECTION_INGRESS;
	return c->ends[CLIENT].flags & ENDPOINT_MANAGED ? DIRECTION_EGRESS : DIRECTION_UNKNOWN;
}

/* What is judged next is judged by the connection's own verdict, unless policy says otherwise. */
static __always_inline void judge_by_connection(struct scratch *s, const struct connection *c)
{
	s->judgement.egress_rule = c->decision.egress_rule;
	s->judgement.ingress_rule = c->decision.ingress_rule;
	s->judgement.refused = c->decision.refused;
	s->judgement.match = c->decision.match;
	s->judgement.undecided = 0;
}

/* What is judged next comes where a direction was refused before, or what could not be read. */
static __always_inline void judge_by_refusal(struct scratch *s, const struct direction *d)
{
	if (d->has_refused && d->has_refused != UNREAD)
		s->judgement.refused = d->has_refused;
	else
		s->judgement.undecided = 1;
}

/* Write scratch.judgement to the record; 1 where the packet must not pass. */
static __always_inline int put_judgement(struct scratch *s, const struct connection *c)
{
	struct flow_record *record = &s->record;
	const struct judgement *judgement = &s->judgement;

	record->egress_rule = judgement->egress_rule;
	record->ingress_rule = judgement->ingress_rule;
	record->policy_match = judgement->match;
	record->direction = direction_of(c);
	record->drop_reason_desc = 0;
	if (judgement->undecided) {
		/* Nobody can say that policy allows it. */
		record->egress_rule = record->ingress_rule = 0;
		record->policy_match = 0;
		record->verdict = VERDICT_UNKNOWN;
		if (!refuses(s))
			return 0;
		record->verdict = VERDICT_DROPPED;
		record->drop_reason_desc = INVALID_PACKET;
		return 1;
	}
	if (!judgement->refused) {
		record->verdict = VERDICT_FORWARDED;
		return 0;
	}
	record->verdict = s->enforce ? VERDICT_DROPPED : VERDICT_AUDIT;
	record->direction = judgement->refused;
	record->drop_reason_desc = POLICY_DENIED;
	return refuses(s);
}

/* Behind the texts there is nothing but zeros: what was written is what their lengths say. */
static __always_inline void clear_texts(struct flow_record *record)
{
	const __u8 *lengths = record->text_length;
	__u32 size = lengths[0] + lengths[1] + lengths[2] + lengths[3];

	for (__u32 at = 0; at < FLOW_TEXT_SIZE && at < size; at += 8)
		*(volatile __u64 *)(record->text + at) = 0; /* else it becomes a call */
	__builtin_memset(record->text_length, 0, sizeof(record->text_length));
}

static __always_inline void begin_message(struct scratch *s)
{
	struct flow_record *record = &s->record;

	record->latency_ns = 0;
	record->l7_id = 0;
	record->present &= ~(LATENCY | CODE | L7_ID | GRPC_STATUS | METHOD);
	record->flags = 0;
	record->l7_code = record->l7_version = record->l7_method = 0;
	record->l7_kind = record->l7_type = record->grpc_status = 0;
	clear_texts(record);
	__builtin_memset(s->keep, 0, sizeof(s->keep));
}

/* Add a text behind those added before: slots in ascending order. What does not fit is cut, as in record.pack_text. */
static __always_inline void add_text(struct scratch *s, __u32 slot, const void *source, __u32 length)
{
	struct flow_record *record = &s->record;
	const __u8 *lengths = record->text_length;
	__u32 used = lengths[0] + lengths[1] + lengths[2] + lengths[3];
	__u32 room = used < FLOW_TEXT_SIZE ? FLOW_TEXT_SIZE - used : 0;

	if (length > TEXT_MAX) {
		length = TEXT_MAX;
		record->flags |= FLAG_TEXT_CUT;
	}
	if (length > room) {
		length = room;
		record->flags |= FLAG_TEXT_CUT;
	}
	barrier_var(length);
	barrier_var(used);
	if (slot >= FLOW_TEXT_SLOTS || length < 1 || length > TEXT_MAX || used > FLOW_TEXT_SIZE)
		return;
	/* Behind `text` lies the rest of scratch, so the verifier needs no more than these two bounds. */
	bpf_probe_read_kernel(record->text + used, length, source);
	record->text_length[slot] = length;
}

/* The first octets of a word in memory, and zero behind them; every machine of ours is little-endian. */
static __always_inline __u64 first_octets(__u64 word, __u32 size)
{
	return size >= sizeof(word) ? word : word & ((1ULL << 8 * size) - 1);
}

/* The same where SHORT_TEXT octets may be read at `source`: a short text is copied by words, which takes a quarter of
 * what a call does. */
static __always_inline void add_short_text(struct scratch *s, __u32 slot, const void *source, __u32 length)
{
	struct flow_record *record = &s->record;
	const __u8 *lengths = record->text_length;
	__u32 used = lengths[0] + lengths[1] + lengths[2] + lengths[3];
	const __u64 *from = source;
	__u64 *to;

	if (slot >= FLOW_TEXT_SLOTS || length > SHORT_TEXT || used > FLOW_TEXT_SIZE - SHORT_TEXT) {
		add_text(s, slot, source, length);
		return;
	}
	to = (__u64 *)(record->text + used);
#pragma unroll
	for (int i = 0; i < SHORT_TEXT / 8; i++) {
		if (length > 8 * i)
			to[i] = first_octets(from[i], length - 8 * i);
	}
	record->text_length[slot] = length;
}

/* Load the octets from `at` on; `loaded` of them stand in scratch.payload. */
static __always_inline void load_payload(struct __sk_buff *skb, struct scratch *s)
{
	__u32 size = s->at < s->end ? s->end - s->at : 0;

	s->loaded = 0;
	if (size > PAYLOAD_SIZE)
		size = PAYLOAD_SIZE;
	barrier_var(size);
	if (size < 1 || size > PAYLOAD_SIZE)
		return;
	if (!bpf_skb_load_bytes(skb, s->at, s->payload, size))
		s->loaded = size;
}

/* Remember the request in the record until its response comes. */
static __always_inline void remember(struct scratch *s, const struct connection *c, __u32 id)
{
	const struct flow_record *record = &s->record;
	struct pending *asked = &s->asked;

	asked->time_ns = record->time_ns;
	asked->egress_rule = record->egress_rule;
	asked->ingress_rule = record->ingress_rule;
	asked->flags = record->flags;
	asked->present = record->present & METHOD;
	asked->l7_method = record->l7_method;
	asked->l7_version = record->l7_version;
	asked->l7_kind = record->l7_kind;
	asked->verdict = record->verdict;
	asked->direction = record->direction;
	asked->policy_match = record->policy_match;
	asked->drop_reason_desc = record->drop_reason_desc;
	asked->is_ambiguous = 0;
	__builtin_memcpy(asked->text_length, record->text_length, sizeof(asked->text_length));
	__builtin_memcpy(asked->parser, s->keep, sizeof(asked->parser));
	put_pending(c->number, id);
}

/* Global, so that the verifier reads it once however many parsers call it. */
__noinline int put_request(struct connection *c, __u32 id)
{
	struct scratch *s = scratch();
	int refused;

	if (!s || !c)
		return 0;
	s->record.l7_type = TYPE_REQUEST;
	refused = put_judgement(s, c);
	tell(s, id);
	if (!refused) {
		remember(s, c, id);
		c->last_id = id;
		c->waiting++;
	}
	judge_by_connection(s, c);
	return refused;
}

__noinline int put_response(struct connection *c, __u32 id, int keep)
{
	struct scratch *s = scratch();
	struct flow_record *record;
	const struct pending *asked;

	if (!s || !c)
		return 0;
	record = &s->record;
	record->l7_type = TYPE_RESPONSE;
	if (!take_pending(s, c->number, id, keep)) {
		record->flags |= FLAG_L7_INCOMPLETE;
		put_judgement(s, c);
		tell(s, id);
		return 0;
	}
	asked = &s->asked;
	if (record->time_ns > asked->time_ns)
		record->latency_ns = record->time_ns - asked->time_ns;
	record->present |= LATENCY | asked->present;
	record->flags |= asked->flags & FLAG_TEXT_CUT;
	record->l7_method = asked->l7_method;
	if (!record->l7_version)
		record->l7_version = asked->l7_version;
	record->egress_rule = asked->egress_rule;
	record->ingress_rule = asked->ingress_rule;
	record->verdict = asked->verdict;
	record->direction = asked->direction;
	record->policy_match = asked->policy_match;
	record->drop_reason_desc = asked->drop_reason_desc;
	__builtin_memcpy(record->text_length, asked->text_length, sizeof(record->text_length));
	tell(s, id);
	if (!keep)
		c->waiting--;
	return 1;
}

/* Tell the request in the record, and remember it under `id`; 1 where the packet must not pass. */
static __always_inline int tell_request(struct scratch *s, struct connection *c, __u32 id)
{
	return put_request(c, id);
}

/* Tell the response in the record to the request `id`; 1 where that was seen. `keep`: more of the response follows. */
static __always_inline int tell_response(struct scratch *s, struct connection *c, __u32 id, int keep)
{
	return put_response(c, id, keep);
}
