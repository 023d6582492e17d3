/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Kafka in the kernel: frames, headers and pairing, as observer/l7/kafka.py and kafka_header.py read them (protocol
 * guide, KIP-482). In: in-order octets of a side. Out: requests, told when their topics are read, and responses, told when
 * their error codes are. Bodies are passed over by arithmetic. A message cut over segments waits in kafka_walks.
 *
 * directions[].parser: [0] flags of enum kafka_side, [1] correlation id, [2] API key and version, [3] octets left of the
 * frame, [4-5] time of the header: what is told of a message whose walk was pushed out of kafka_walks. User space reads
 * [0] when it goes on (observer/datapath/complete.py).
 * connection.parser: [0] flags of enum kafka_state, [1] SASL tokens of the client that were not answered. */
#pragma once

#include <stddef.h>

#include <bpf/bpf_endian.h>

#include "kafka_walk.h"
#include "message.h"

#define KAFKA_SIZE_LIMIT (1 << 28)   /* as in kafka_header.py */
#define KAFKA_CLIENT_ID_LIMIT 1024   /* as in kafka_header.py */
#define KAFKA_HEAD_LIMIT (14 + KAFKA_CLIENT_ID_LIMIT)
#define KAFKA_PROOF_LIMIT 1024	     /* as in kafka_header.py */
#define KAFKA_FIXED_SIZE 14	     /* of a request's header, up to its client id */
#define KAFKA_RESPONSE_SIZE 8
#define KAFKA_PACKET_ROUNDS (1 << 15) /* more than a packet has messages and topics */

enum { KAFKA_PRODUCE = 0, KAFKA_CONTROLLED_SHUTDOWN = 7, KAFKA_SASL_HANDSHAKE = 17 };

enum kafka_side { KAFKA_IS_CUT = 1 << 0, KAFKA_IS_LOST = 1 << 1 };
enum kafka_state {
	KAFKA_IS_SYNCED = 1 << 0,     /* a response was seen where it was waited for */
	KAFKA_IS_HANDSHAKE = 1 << 1,  /* raw SASL tokens may come: SaslHandshake v0 was asked */
};

struct kafka_walk_key {
	__u64 connection;
	__u64 side;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_KAFKA_WALKS);
	__type(key, struct kafka_walk_key);
	__type(value, struct kafka_walk);
} kafka_walks SEC(".maps");

static __always_inline struct kafka_work *kafka_work(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&kafka_works, &zero);
}

/* Where the program of a message stands; NULL for a key or version beyond the table. */
static __always_inline struct kafka_program *kafka_program(__u32 key, __u32 version, __u32 is_response)
{
	__u32 index = (key * 32 + version) * 2 + is_response;

	if (key >= 128 || version >= 32)
		return NULL;
	return bpf_map_lookup_elem(&kafka_programs, &index);
}

/* A new message: nothing of the one before is left. */
static __always_inline void kafka_begin(struct kafka_walk *w)
{
	__builtin_memset(w, 0, offsetof(struct kafka_walk, time_ns));
	w->left = 0;
	w->topic.length = 0;
}

/* Headers */

enum kafka_sign { KAFKA_NO, KAFKA_MORE, KAFKA_YES };

/* The fixed part of a request's header: read_head of kafka_header.py. `left` counts from behind it. */
static __always_inline enum kafka_sign kafka_request_head(const __u8 *p, __u32 have, int strict, struct kafka_walk *w)
{
	struct kafka_program *program;
	__u32 size, key, version;
	__s32 length;

	if (have < 4)
		return strict && have && *p > KAFKA_SIZE_LIMIT >> 24 ? KAFKA_NO : KAFKA_MORE;
	size = kafka_u32(p);
	if (size < 8 || size > KAFKA_SIZE_LIMIT)
		return KAFKA_NO;
	key = have < 6 ? 0 : kafka_u16(p + 4);
	version = have < 8 ? 0 : kafka_u16(p + 6);
	program = kafka_program(key, version, 0);
	if (strict && (!program || !(program->flags & KAFKA_IS_API) ||
		       (have >= 8 && !(program->flags & KAFKA_IS_TOLD))))
		return KAFKA_NO;
	if (key > 0x7fff || version > 255)
		return KAFKA_NO;
	if (have < 12)
		return KAFKA_MORE;
	w->key = key;
	w->version = version;
	w->correlation = kafka_u32(p + 8);
	if (program)
		w->program = *program;
	if (key == KAFKA_CONTROLLED_SHUTDOWN && !version) { /* a header of its own */
		w->left = size - 8;
		return KAFKA_YES;
	}
	if (size < 10)
		return KAFKA_NO;
	if (have < KAFKA_FIXED_SIZE)
		return KAFKA_MORE;
	length = (__s16)kafka_u16(p + 12);
	if (length < -1 || length > KAFKA_CLIENT_ID_LIMIT || length > (__s64)size - 10)
		return KAFKA_NO;
	w->left = size - 10;
	w->client_id_length = w->client_id_left = length > 0 ? length : 0;
	w->has_client_id = length >= 0;
	return KAFKA_YES;
}

static __always_inline __u32 kafka_fixed_size(const struct kafka_walk *w)
{
	return w->key == KAFKA_CONTROLLED_SHUTDOWN && !w->version ? KAFKA_FIXED_SIZE - 2 : KAFKA_FIXED_SIZE;
}

/* [^\x00-\x1f\x7f]+ from `index` on: kafka_header.py's _PRINTABLE. */
static long kafka_client_octet(__u32 round, void *context)
{
	struct kafka_context *x = context;
	struct kafka_work *k = x->k;
	__u8 octet = x->s->payload[(k->index + round) & (PAYLOAD_SIZE - 1)];

	if (round >= k->count)
		return 1;
	if (octet >= 0x20 && octet != 0x7f)
		return 0;
	k->count = 0;
	return 1;
}

static __always_inline int kafka_is_printable(struct kafka_context *x, __u32 size)
{
	if (!size)
		return 1;
	x->k->count = size;
	bpf_loop(KAFKA_CLIENT_ID_LIMIT, kafka_client_octet, x, 0);
	return x->k->count != 0;
}

static __always_inline int kafka_is_port(__be16 port)
{
	return bpf_ntohs(port) >= 9092 && bpf_ntohs(port) <= 9094;
}

/* Are the first octets of a side a Kafka request? 1: the sender is a client. 0: they are not, or nobody can tell yet.
 * is_request of kafka_header.py. */
__noinline int kafka_detect(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	struct kafka_work *k = kafka_work();
	struct kafka_context x = { skb, s, c, k };
	struct kafka_walk *w;
	__u32 have, size, proof;

	if (!skb || !s || !c || !k)
		return 0;
	w = &k->walk;
	have = s->end - s->at;
	kafka_begin(w);
	if (kafka_request_head(s->payload, have, 1, w) != KAFKA_YES)
		return 0;
	size = kafka_fixed_size(w);
	k->index = size;
	k->loaded = s->loaded;
	if (have < size + w->client_id_length || k->loaded < size + w->client_id_length)
		return 0;
	if (!kafka_is_printable(&x, w->client_id_length))
		return 0;
	k->index += w->client_id_length;
	w->left -= w->client_id_length;
	proof = w->left < KAFKA_PROOF_LIMIT ? w->left : KAFKA_PROOF_LIMIT;
	if (k->loaded > k->index + proof)
		k->loaded = k->index + proof;
	size += w->client_id_length + w->left; /* of the frame */
	k->next = s->end;
	k->budget = KAFKA_PACKET_STEPS;
	k->is_proof = 1;
	k->is_proven = 0;
	kafka_walk(skb, s, c, k);
	k->is_proof = 0;
	if (w->is_malformed)
		return 0;
	/* A client id that is null or empty is many a protocol's zeros. */
	if (w->client_id_length || k->is_proven)
		return 1;
	return have == size && (!w->has_client_id || kafka_is_port(s->packet.source_port) ||
				kafka_is_port(s->packet.destination_port));
}

/* Messages */

static __always_inline const char *kafka_client_id(struct scratch *s, struct kafka_work *k)
{
	if (k->client_id_at)
		return (const char *)s->payload + (k->client_id_at & (PAYLOAD_SIZE - 1));
	return k->walk.client_id;
}

static __always_inline void kafka_fill_record(struct scratch *s, const struct kafka_walk *w)
{
	struct flow_record *record = &s->record;

	begin_message(s);
	record->time_ns = w->time_ns;
	record->l7_kind = KIND_KAFKA;
	record->l7_id = w->correlation;
	record->present |= L7_ID;
}

/* Tell a request as far as it was read; not 0 where it must not pass. */
static __noinline int kafka_tell_request(struct scratch *s, struct connection *c, struct kafka_work *k)
{
	struct kafka_walk *w = &k->walk;
	struct flow_record *record = &s->record;
	__u64 time_ns = record->time_ns;
	int refused;

	if (!(w->program.flags & KAFKA_IS_TOLD))
		w->is_malformed = 1;
	if (w->judgement.is_wanted) {
		if (w->is_untold || w->is_malformed)
			kafka_tell_unknown(s, c, k);
		policy_kafka_end(s, c, &w->judgement);
	}
	kafka_fill_record(s, w);
	record->l7_type = TYPE_REQUEST;
	record->l7_method = w->key;
	record->l7_version = w->version;
	record->present |= METHOD;
	if (w->is_untold || w->is_malformed || w->is_unresolved)
		record->flags |= FLAG_L7_INCOMPLETE;
	if (k->topic_at)
		add_short_text(s, 0, s->payload + (k->topic_at & (PAYLOAD_SIZE - 1)), w->topic.length);
	else
		add_text(s, 0, w->topic.text, w->topic.length);
	if (k->client_id_at)
		add_short_text(s, 1, s->payload + (k->client_id_at & (PAYLOAD_SIZE - 1)), w->client_id_length);
	else
		add_text(s, 1, w->client_id, w->client_id_length);
	refused = tell_request(s, c, w->correlation);
	record->time_ns = time_ns;
	return refused;
}

static __noinline int kafka_tell_response(struct scratch *s, struct connection *c, struct kafka_work *k)
{
	struct kafka_walk *w = &k->walk;
	struct flow_record *record = &s->record;
	__u64 time_ns = record->time_ns;

	kafka_fill_record(s, w);
	record->l7_type = TYPE_RESPONSE;
	if (w->is_untold || w->is_malformed || !w->is_found)
		record->flags |= FLAG_L7_INCOMPLETE;
	/* Of what is incomplete a 0 says nothing of the errors behind it. */
	if (w->has_error && (w->error || !(record->flags & FLAG_L7_INCOMPLETE))) {
		record->l7_code = w->error;
		record->present |= CODE;
	}
	tell_response(s, c, w->correlation, 0);
	record->time_ns = time_ns;
	return 0;
}

/* The message was read, or will not be read to its end. */
static __always_inline int kafka_tell(struct scratch *s, struct connection *c, struct kafka_work *k)
{
	struct kafka_walk *w = &k->walk;

	w->phase = KAFKA_HEAD;
	if (w->is_response)
		return kafka_tell_response(s, c, k);
	return kafka_tell_request(s, c, k);
}

/* Frames */

/* The place of this side is lost. A response is looked for where a packet begins; requests are for user space. */
static __always_inline int kafka_lose(struct kafka_context *x, struct direction *d)
{
	struct kafka_work *k = x->k;

	d->parser[0] |= KAFKA_IS_LOST;
	if (x->s->packet.sender == CLIENT) {
		k->result = READ_HAND_OVER;
		x->s->hand_over = SNAPSHOT_GAP;
		return 1;
	}
	k->index = k->loaded = 0;
	k->next = x->s->end;
	return 1;
}

/* A frame that is no message, passed over. */
static __always_inline int kafka_pass_frame(struct kafka_work *k, struct direction *d, __u32 size)
{
	k->index += 4;
	d->left = size;
	return 0;
}

/* The header of a request up to its client id; 1 where nothing more can be read. */
static __noinline int kafka_read_request(struct kafka_context *x, struct direction *d, const __u8 *p, __u32 have)
{
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;
	int strict = x->c->parser[0] & KAFKA_IS_HANDSHAKE;
	enum kafka_sign sign = kafka_request_head(p, have, strict, w);
	__u32 fixed = kafka_fixed_size(w), size = w->client_id_length;

	if (sign == KAFKA_YES && strict) {
		if (size > have - fixed) {
			size = have - fixed;
			sign = KAFKA_MORE;
		}
		k->index += fixed;
		if (!kafka_is_printable(x, size))
			sign = KAFKA_NO;
		k->index -= fixed;
	}
	if (sign == KAFKA_YES) {
		k->index += fixed;
		w->phase = KAFKA_CLIENT_ID;
		if (w->key == KAFKA_SASL_HANDSHAKE && !w->version)
			x->c->parser[0] |= KAFKA_IS_HANDSHAKE;
		return 0;
	}
	size = kafka_u32(p);
	if (have < 4 || (sign == KAFKA_MORE && (!strict || have < size + 4)))
		return 1;
	if (!strict || size > KAFKA_SIZE_LIMIT)
		return kafka_lose(x, d);
	x->c->parser[1]++;
	return kafka_pass_frame(k, d, size);
}

/* The client id of a request; 1 where more is needed. Only what a record holds of it is kept. */
static __noinline int kafka_read_client_id(struct kafka_context *x)
{
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;
	__u32 have, kept = w->client_id_length - w->client_id_left, size;

	kafka_fill(x->skb, x->s, k, w->client_id_left);
	have = k->loaded - k->index;
	if (have > w->client_id_left)
		have = w->client_id_left;
	if (!kept && have == w->client_id_left && k->index) { /* 0 says that it stands nowhere */
		k->client_id_at = k->index;
	} else if (kept < KAFKA_NAME_LIMIT) {
		size = have < KAFKA_NAME_LIMIT - kept ? have : KAFKA_NAME_LIMIT - kept;
		barrier_var(kept);
		if (kept < KAFKA_NAME_LIMIT)
			kafka_copy(w->client_id + kept, size, kafka_at(x->s, k));
	}
	kafka_take(k, have);
	w->client_id_left -= have;
	if (w->client_id_left)
		return 1;
	w->time_ns = x->s->record.time_ns;
	w->phase = KAFKA_BODY;
	policy_kafka_begin(x->s, x->c, &w->judgement, w->key, w->version, kafka_client_id(x->s, k),
			   w->client_id_length);
	return 0;
}

/* The header of a response; 1 where nothing more can be read. */
static __noinline int kafka_read_response(struct kafka_context *x, struct direction *d, const __u8 *p, __u32 have)
{
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;
	struct kafka_program *program;
	const struct pending *asked = &x->s->asked;
	int is_asked;
	__u32 size, *tokens = &x->c->parser[1];

	if (have < 4)
		return 1;
	size = kafka_u32(p);
	if (*tokens && size < 4) {
		--*tokens;
		return kafka_pass_frame(k, d, size);
	}
	if (size < 4 || size > KAFKA_SIZE_LIMIT)
		return kafka_lose(x, d);
	if (have < KAFKA_RESPONSE_SIZE)
		return 1;
	w->correlation = kafka_u32(p + 4);
	is_asked = find_pending(x->c->number, w->correlation);
	if (!is_asked && *tokens) {
		--*tokens;
		return kafka_pass_frame(k, d, size);
	}
	if (!is_asked && !x->c->joined)
		count(COUNT_PENDING_LOST);
	if (!is_asked && !(x->c->parser[0] & KAFKA_IS_SYNCED))
		return kafka_lose(x, d);
	x->c->parser[0] |= KAFKA_IS_SYNCED;
	k->index += KAFKA_RESPONSE_SIZE;
	w->left = size - 4;
	w->time_ns = x->s->record.time_ns;
	w->is_response = 1;
	w->phase = KAFKA_BODY;
	if (!is_asked || asked->is_ambiguous)
		return 0;
	w->is_found = 1;
	w->key = asked->l7_method;
	w->version = asked->l7_version;
	program = kafka_program(w->key, w->version, 1);
	if (program)
		w->program = *program;
	return 0;
}

/* Read one message, or one frame that is none; 1 where the packet has no more that can be read. */
static long kafka_message(__u32 round, void *context)
{
	struct kafka_context *x = context;
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;
	__u8 sender = x->s->packet.sender & 1;
	struct direction *d = &x->c->directions[sender];
	int stop;

	d->left -= kafka_pass(x->s, k, d->left < x->s->end ? d->left : x->s->end);
	if (d->left || k->result)
		return 1;
	if (w->phase == KAFKA_HEAD) {
		if (!kafka_unread(x->s, k))
			return 1;
		kafka_begin(w);
		k->client_id_at = k->topic_at = 0;
		kafka_fill(x->skb, x->s, k, KAFKA_HEAD_LIMIT);
		if (sender == CLIENT)
			stop = kafka_read_request(x, d, kafka_at(x->s, k), k->loaded - k->index);
		else
			stop = kafka_read_response(x, d, kafka_at(x->s, k), k->loaded - k->index);
		if (stop || w->phase == KAFKA_HEAD)
			return stop;
	}
	if (w->phase == KAFKA_CLIENT_ID && kafka_read_client_id(x))
		return 1;
	kafka_walk(x->skb, x->s, x->c, k);
	if (k->event)
		kafka_take_event(x->s, x->c, k);
	if (!w->is_done)
		return k->event ? 0 : 1;
	d->left = w->left;
	if (kafka_tell(x->s, x->c, k))
		k->result = READ_REFUSED;
	return 0;
}

/* Messages cut over segments */

/* Keep what was read of a message, and the octets that are the beginning of a field. */
static __noinline int kafka_suspend(struct kafka_context *x, struct direction *d)
{
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;
	struct kafka_walk_key key = { .connection = x->c->number, .side = x->s->packet.sender };
	__u32 size = kafka_unread(x->s, k);

	if (size > KAFKA_FIELD_SIZE) {
		x->s->hand_over = SNAPSHOT_LONG;
		return READ_HAND_OVER;
	}
	kafka_keep(x->s, k);
	w->carried = size;
	barrier_var(size);
	if (size >= 1 && size <= KAFKA_FIELD_SIZE)
		bpf_probe_read_kernel(w->carry, size, kafka_at(x->s, k));
	if (!w->carried) {
		/* Until then the next packets need not look at this. */
		d->left = w->skip;
		w->left -= w->skip;
		w->skip = 0;
	}
	d->parser[0] |= KAFKA_IS_CUT;
	d->parser[1] = w->correlation;
	d->parser[2] = (__u32)w->key << 16 | w->version;
	d->parser[3] = w->phase == KAFKA_HEAD ? -1 : w->left - w->carried;
	d->parser[4] = w->time_ns >> 32;
	d->parser[5] = w->time_ns;
	bpf_map_update_elem(&kafka_walks, &key, w, BPF_ANY);
	return READ;
}

/* Take a message up again; 0 where its header was pushed out of kafka_walks. */
static __noinline int kafka_resume(struct scratch *s, struct connection *c, struct kafka_work *k,
					struct direction *d)
{
	struct kafka_walk *w = &k->walk, *kept;
	struct kafka_walk_key key = { .connection = c->number, .side = s->packet.sender };

	d->parser[0] &= ~KAFKA_IS_CUT;
	kept = bpf_map_lookup_elem(&kafka_walks, &key);
	if (kept) {
		bpf_probe_read_kernel(w, sizeof(*w), kept);
		return 1;
	}
	kafka_begin(w);
	count(COUNT_PENDING_LOST);
	if (d->parser[3] == -1)
		return 0;
	w->is_response = w->is_found = s->packet.sender == SERVER;
	w->phase = KAFKA_BODY;
	w->correlation = d->parser[1];
	w->key = d->parser[2] >> 16;
	w->version = d->parser[2];
	w->left = d->parser[3];
	w->time_ns = (__u64)d->parser[4] << 32 | d->parser[5];
	w->is_malformed = w->is_done = 1;
	if (!w->is_response)
		policy_kafka_begin(s, c, &w->judgement, w->key, w->version, w->client_id, w->client_id_length);
	return 1;
}

/* Put the octets kept before those of the packet. */
static __always_inline void kafka_join(struct __sk_buff *skb, struct scratch *s, struct kafka_work *k)
{
	__u32 size = s->end - s->at, carried = k->walk.carried;

	if (size > PAYLOAD_SIZE - KAFKA_FIELD_SIZE)
		size = PAYLOAD_SIZE - KAFKA_FIELD_SIZE;
	barrier_var(size);
	barrier_var(carried);
	if (size < 1 || size > PAYLOAD_SIZE - KAFKA_FIELD_SIZE || carried > KAFKA_FIELD_SIZE)
		return;
	bpf_probe_read_kernel(s->payload, KAFKA_FIELD_SIZE, k->walk.carry);
	if (bpf_skb_load_bytes(skb, s->at, s->payload + carried, size))
		return;
	k->index = 0;
	k->loaded = carried + size;
	k->next = s->at + size;
}

/* A response begins where a packet does, and answers what is asked: correlation ids alone are small numbers. */
static __noinline int kafka_is_awaited(const struct scratch *s, const struct connection *c)
{
	__u32 size = kafka_u32(s->payload);

	return s->loaded >= KAFKA_RESPONSE_SIZE && size >= 4 && size <= KAFKA_SIZE_LIMIT &&
	       find_pending(c->number, kafka_u32(s->payload + 4));
}

/* Read the octets of a packet that were not read before; READ_*. */
__noinline int kafka_read(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	struct kafka_work *k = kafka_work();
	struct kafka_context x = { skb, s, c, k };
	struct direction *d;
	__u32 place;

	if (!skb || !s || !c || !k || s->at >= s->end)
		return READ;
	d = &c->directions[s->packet.sender & 1];
	k->index = 0;
	k->loaded = s->loaded;
	k->next = s->at + s->loaded;
	k->budget = KAFKA_PACKET_STEPS;
	k->client_id_at = k->topic_at = 0;
	k->is_proof = 0;
	k->result = READ;
	k->walk.phase = KAFKA_HEAD;
	if (d->parser[0] & KAFKA_IS_LOST) {
		if (!kafka_is_awaited(s, c))
			return READ;
		d->parser[0] &= ~KAFKA_IS_LOST;
	}
	d->left -= kafka_pass(s, k, d->left < s->end ? d->left : s->end);
	if (d->left)
		return READ;
	if (d->parser[0] & KAFKA_IS_CUT) {
		if (!kafka_resume(s, c, k, d))
			kafka_lose(&x, d);
		else if (k->walk.carried)
			kafka_join(skb, s, k);
	}
	bpf_loop(KAFKA_PACKET_ROUNDS, kafka_message, &x, 0);
	if (k->result == READ && (k->walk.phase != KAFKA_HEAD || kafka_unread(s, k)))
		k->result = kafka_suspend(&x, d);
	place = k->next - (k->loaded - k->index);
	if (place > s->at && place <= s->end)
		s->at = place;
	return k->result;
}

/* The sender's next octets will not be read: tell what is known of a message cut over segments, and pass over the rest
 * of its frame. READ_REFUSED where the packet must not pass. */
__noinline int kafka_abandon(struct scratch *s, struct connection *c)
{
	struct kafka_work *k = kafka_work();
	struct kafka_walk *w;
	struct direction *d;

	if (!s || !c || !k)
		return READ;
	w = &k->walk;
	d = &c->directions[s->packet.sender & 1];
	if (!(d->parser[0] & KAFKA_IS_CUT))
		return READ;
	if (!kafka_resume(s, c, k, d) || w->phase == KAFKA_HEAD) {
		d->parser[0] |= KAFKA_IS_LOST;
		return READ;
	}
	d->left += w->left - w->carried;
	if (w->phase == KAFKA_CLIENT_ID)
		return READ;
	w->is_malformed = 1;
	if (w->has_held)
		kafka_tell_id(s, c, k);
	return kafka_tell(s, c, k) ? READ_REFUSED : READ;
}
