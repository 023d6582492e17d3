/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Walks through the body of one Kafka message by the steps of its layout, however segments cut it: the kernel's
 * observer/l7/kafka_walk.py, whose words it keeps. The steps come from observer/datapath/kafka_table.py, and so from the
 * one table that both parsers read by. Every length is checked against what the frame has left; the steps of a packet and
 * of a message are bounded. Knows no frames, headers and connections; topics go to policy.h as they are read. */
#pragma once

#include "maps.h"
#include "policy.h"

#define KAFKA_PROGRAMS (128 * 32 * 2) /* by API key, version, and 0: request, 1: response */
#define KAFKA_STEPS 4096
#define KAFKA_DEPTH 4

#define KAFKA_TOPICS_LIMIT 1024	     /* as in kafka_walk.py */
#ifndef KAFKA_PACKET_STEPS /* tests reach these bounds by lower ones */
#define KAFKA_STEPS_LIMIT (1 << 17)  /* as in kafka_walk.py */
#define KAFKA_PACKET_STEPS (1 << 14) /* of one packet, whatever its messages: about 0.3 ms */
#endif
#define KAFKA_ID_SIZE 16
#define KAFKA_FIELD_SIZE 264 /* no field that is read is longer: a varint and a name */
#define KAFKA_WINDOW 1280    /* octets loaded at once behind those that core has loaded */

#define MAX_KAFKA_WALKS 8192
#define MAX_TOPIC_IDS 16384

/* observer.l7.kafka_program.Code */
enum kafka_code {
	KAFKA_SKIP = 1,
	KAFKA_STRING,
	KAFKA_BYTES,
	KAFKA_LIST,
	KAFKA_LOOP,
	KAFKA_NEXT,
	KAFKA_OPTIONAL,
	KAFKA_TAGS,
	KAFKA_TOPIC,
	KAFKA_ID,
	KAFKA_ACKS,
	KAFKA_ERROR,
	KAFKA_RESOURCE_KIND,
	KAFKA_RESOURCE,
};

#define KAFKA_TOPIC_RESOURCE 2

/* Flags of struct kafka_program and struct kafka_step: observer/datapath/kafka_table.py. */
enum { KAFKA_IS_API = 1 << 0, KAFKA_IS_TOLD = 1 << 1, KAFKA_IS_FLEXIBLE = 1 << 2, KAFKA_IS_LEARNED_FROM = 1 << 3 };
enum { KAFKA_IS_PAIRED = 1 << 0, KAFKA_IS_FINAL = 1 << 1, KAFKA_AFTER_TOPIC = 1 << 2, KAFKA_IS_FOLLOWED = 1 << 3 };

struct kafka_program {
	__u16 start;
	__u16 length;
	__u8 flags;
	__u8 pad[3];
};

struct kafka_step {
	__u8 code;
	__u8 flags;
	__u16 size;   /* of an array's element, at least */
	__u16 target; /* of a jump */
	__u16 skip;   /* octets before it */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KAFKA_PROGRAMS);
	__type(key, __u32);
	__type(value, struct kafka_program);
} kafka_programs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KAFKA_STEPS);
	__type(key, __u32);
	__type(value, struct kafka_step);
} kafka_steps SEC(".maps");

/* Names of topic ids, by the address that was told or that told it: observer/l7/kafka_topics.py. Filled here from the
 * responses that pass by, so that the next request already has its names. */
struct kafka_topic_id {
	__u8 address[16];
	__u8 id[KAFKA_ID_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_TOPIC_IDS);
	__type(key, struct kafka_topic_id);
	__type(value, struct kafka_name);
} kafka_topic_ids SEC(".maps");

enum kafka_phase { KAFKA_HEAD, KAFKA_CLIENT_ID, KAFKA_BODY };

/* One message on its way through its program. */
struct kafka_walk {
	/* Zero as it begins. */
	__u32 skip;  /* octets still to be passed over */
	__u32 tags;  /* tagged fields left of the struct; 0: their number comes next */
	__u32 steps; /* done so far */
	struct kafka_program program;
	__u16 key;
	__u16 version;
	__u16 at;
	__u16 topics;
	__u16 client_id_length;
	__u16 client_id_left;
	__u16 carried; /* octets in `carry` */
	__s16 error;
	__u8 has_error;
	__u8 is_response;
	__u8 is_found; /* of a response: its request waits for it */
	__u8 phase;    /* enum kafka_phase */
	__u8 depth;
	__u8 is_arrived; /* what is skipped before the step was added to `skip` */
	__u8 is_topic_resource;
	__u8 has_client_id;
	__u8 has_held;	    /* `held` is the id of the struct being read, whose name may follow */
	__u8 has_named;	    /* the struct being read has a name */
	__u8 has_topic;	    /* `topic` is the first of the request's; of a response, the name just read */
	__u8 is_unresolved; /* an id without a known name was among the topics */
	__u8 is_untold;	    /* some topics could not be told */
	__u8 is_malformed;
	__u8 is_done;

	__u64 time_ns; /* of its header */
	__u32 left;    /* octets of the frame that were not read */
	__u32 correlation;
	__u32 counts[KAFKA_DEPTH]; /* of the loops it is in: rounds left, this one included */
	struct kafka_judgement judgement;
	__u8 held[KAFKA_ID_SIZE];
	struct kafka_name topic;
	char client_id[KAFKA_NAME_LIMIT + 1];
	__u8 carry[KAFKA_FIELD_SIZE]; /* the beginning of a field, or of a header */
};

/* What a walk stops for, so that others look at it; it is called far from the top of the stack. */
enum kafka_event {
	KAFKA_NOTHING,
	KAFKA_NAMED,	  /* `name` is a topic of the request, and policy wants to see it */
	KAFKA_IDENTIFIED, /* `walk.held` is a topic of the request that has no other name */
	KAFKA_LEARNED,	  /* `walk.held` is the id of `walk.topic`, as a response tells */
};

/* The work on one packet. */
struct kafka_work {
	struct kafka_walk walk;
	/* The unread octets of the packet: in s->payload from `index` up to `loaded`, then in the frame from `next` on. */
	__u32 index;
	__u32 loaded;
	__u32 next;
	__u32 budget; /* steps left of KAFKA_PACKET_STEPS */
	/* Where in s->payload the client id and the first topic stand; 0: in the walk, if anywhere. */
	__u32 client_id_at;
	__u32 topic_at;
	__u8 is_proof;	/* detection walks: nothing is told */
	__u8 is_proven; /* a topic was read that can only be one */
	__u8 result;	/* READ_* */
	__u8 event;	/* enum kafka_event */
	__u32 count;
	struct kafka_topic_id topic_id;
	struct kafka_name name;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct kafka_work);
} kafka_works SEC(".maps");

struct kafka_context {
	struct __sk_buff *skb;
	struct scratch *s;
	struct connection *c;
	struct kafka_work *k;
};

static __always_inline __u32 kafka_unread(const struct scratch *s, const struct kafka_work *k)
{
	return k->loaded - k->index + (s->end - k->next);
}

/* The next unread octet; PAYLOAD_SLACK octets behind it may be looked at. */
static __always_inline const __u8 *kafka_at(const struct scratch *s, const struct kafka_work *k)
{
	return s->payload + (k->index & (PAYLOAD_SIZE - 1));
}

static __always_inline __u32 kafka_u32(const __u8 *p)
{
	return (__u32)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static __always_inline __u16 kafka_u16(const __u8 *p)
{
	return p[0] << 8 | p[1];
}

/* Pass over octets of the packet, as many as there are; give how many. */
static __always_inline __u32 kafka_pass(const struct scratch *s, struct kafka_work *k, __u32 size)
{
	__u32 have = k->loaded - k->index, rest = s->end - k->next;

	if (size <= have) {
		k->index += size;
		return size;
	}
	if (size > have + rest)
		size = have + rest;
	k->next += size - have;
	k->index = k->loaded = 0;
	return size;
}

static __always_inline void kafka_copy(void *to, __u32 size, const void *from)
{
	barrier_var(size);
	if (size >= 1 && size <= KAFKA_NAME_LIMIT)
		bpf_probe_read_kernel(to, size, from);
}

/* What stands in s->payload will not stay there. */
static __noinline int kafka_keep(struct scratch *s, struct kafka_work *k)
{
	struct kafka_walk *w = &k->walk;
	__u32 size = w->client_id_length < KAFKA_NAME_LIMIT ? w->client_id_length : KAFKA_NAME_LIMIT;

	if (k->client_id_at)
		kafka_copy(w->client_id, size, s->payload + (k->client_id_at & (PAYLOAD_SIZE - 1)));
	if (k->topic_at)
		kafka_copy(w->topic.text, w->topic.length, s->payload + (k->topic_at & (PAYLOAD_SIZE - 1)));
	k->client_id_at = k->topic_at = 0;
	return 0;
}

/* See to it that `need` octets are in s->payload, if the packet has them. */
static __always_inline void kafka_fill(struct __sk_buff *skb, struct scratch *s, struct kafka_work *k, __u32 need)
{
	__u32 have = k->loaded - k->index, from, size;

	if (have >= need || k->next >= s->end)
		return;
	kafka_keep(s, k);
	from = k->next - have;
	size = s->end - from;
	if (size > KAFKA_WINDOW)
		size = KAFKA_WINDOW;
	barrier_var(size);
	if (size < 1 || size > KAFKA_WINDOW)
		return;
	if (bpf_skb_load_bytes(skb, from, s->payload, size))
		return;
	k->index = 0;
	k->loaded = size;
	k->next = from + size;
}

static __always_inline void kafka_fail(struct kafka_walk *w)
{
	w->is_malformed = w->is_done = 1;
}

/* Go to another step. */
static __always_inline void kafka_go(struct kafka_walk *w, __u16 at)
{
	w->at = at;
	w->is_arrived = 0;
}

/* Something that is read was read: is it the last? */
static __always_inline void kafka_was_read(struct kafka_walk *w, const struct kafka_step *step)
{
	kafka_go(w, w->at + 1);
	if (!(step->flags & KAFKA_IS_FINAL))
		return;
	if ((w->depth > 0 && w->counts[0] != 1) || (w->depth > 1 && w->counts[1] != 1) ||
	    (w->depth > 2 && w->counts[2] != 1) || (w->depth > 3 && w->counts[3] != 1))
		return;
	w->is_done = 1;
}

/* An unsigned varint of up to five octets (KIP-482): how many it takes, or 0 where more are needed. */
static __always_inline __u32 kafka_varint(const __u8 *p, __u32 have, __u64 *number)
{
	__u64 value = 0;

#pragma unroll
	for (int i = 0; i < 5; i++) {
		if (i >= have)
			return 0;
		value |= (__u64)(p[i] & 0x7f) << 7 * i;
		if (p[i] < 0x80) {
			*number = value;
			return i + 1;
		}
	}
	*number = 1ULL << 40; /* more than a frame can hold */
	return 5;
}

/* [a-zA-Z0-9._-]{1,249}, from `index` on: kafka_header.py's _TOPIC. */
static long kafka_name_octet(__u32 round, void *context)
{
	struct kafka_context *x = context;
	struct kafka_work *k = x->k;
	__u8 octet = x->s->payload[(k->index + round) & (PAYLOAD_SIZE - 1)];

	if (round >= k->count)
		return 1;
	if ((octet | 0x20) >= 'a' && (octet | 0x20) <= 'z')
		return 0;
	if ((octet >= '0' && octet <= '9') || octet == '.' || octet == '_' || octet == '-')
		return 0;
	k->is_proven = 0;
	return 1;
}

static __always_inline int kafka_count_topic(struct kafka_walk *w)
{
	if (w->topics < KAFKA_TOPICS_LIMIT) {
		w->topics++;
		return 1;
	}
	w->is_untold = w->is_done = 1;
	return 0;
}

/* A name of a request at the next octets. */
static __always_inline void kafka_tell_name(struct kafka_context *x, __u32 size)
{
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;
	const __u8 *name = kafka_at(x->s, k);

	if (!kafka_count_topic(w))
		return;
	if (k->is_proof) {
		if (w->client_id_length || k->is_proven || size < 1 || size > 249)
			return;
		k->is_proven = 1;
		k->count = size;
		bpf_loop(KAFKA_NAME_LIMIT, kafka_name_octet, x, 0);
		return;
	}
	if (!w->has_topic) {
		w->has_topic = 1;
		w->topic.length = size;
		k->topic_at = k->index;
	}
	if (!w->judgement.is_wanted)
		return;
	k->name.length = size;
	kafka_copy(k->name.text, size, name);
	k->event = KAFKA_NAMED;
}

static __always_inline char kafka_digit(__u8 number)
{
	return number < 10 ? '0' + number : 'a' + number - 10;
}

/* An id as text, as Python's uuid writes it. */
static __noinline int kafka_write_id(struct kafka_work *k)
{
	char *to = k->walk.topic.text;

#pragma unroll
	for (int i = 0; i < KAFKA_ID_SIZE; i++) {
		__u8 octet = k->walk.held[i];

		if (i == 4 || i == 6 || i == 8 || i == 10)
			*to++ = '-';
		*to++ = kafka_digit(octet >> 4);
		*to++ = kafka_digit(octet & 15);
	}
	k->walk.topic.length = 36;
	return 0;
}

/* The name that one end of the connection was told for the held id, or told. */
static __always_inline struct kafka_name *kafka_resolve(struct scratch *s, struct kafka_work *k)
{
	struct kafka_name *name;

	__builtin_memcpy(k->topic_id.id, k->walk.held, KAFKA_ID_SIZE);
	__builtin_memcpy(k->topic_id.address, s->packet.source_ip, 16);
	name = bpf_map_lookup_elem(&kafka_topic_ids, &k->topic_id);
	if (name)
		return name;
	__builtin_memcpy(k->topic_id.address, s->packet.destination_ip, 16);
	return bpf_map_lookup_elem(&kafka_topic_ids, &k->topic_id);
}

/* Ask policy of a topic whose name is not known: none is called so, and no rule can name it (kafka.py). */
static __always_inline void kafka_tell_unknown(struct scratch *s, struct connection *c, struct kafka_work *k)
{
	k->name.length = 1;
	k->name.text[0] = '?';
	policy_kafka_topic(s, c, &k->walk.judgement, &k->name);
}

/* The held id of a request was no other than its topic. */
static __noinline int kafka_tell_id(struct scratch *s, struct connection *c, struct kafka_work *k)
{
	struct kafka_walk *w = &k->walk;
	struct kafka_name *name;

	name = kafka_resolve(s, k);
	if (!name)
		w->is_unresolved = 1;
	if (!w->has_topic) {
		w->has_topic = 1;
		if (name)
			bpf_probe_read_kernel(&w->topic, sizeof w->topic, name);
		else
			kafka_write_id(k);
	}
	if (!w->judgement.is_wanted)
		return 0;
	if (name)
		policy_kafka_topic(s, c, &w->judgement, name);
	else
		kafka_tell_unknown(s, c, k);
	return 0;
}

/* A response tells the name of an id: both ends know it now. */
static __noinline int kafka_learn(struct scratch *s, struct kafka_work *k)
{
	struct kafka_walk *w = &k->walk;

	__builtin_memcpy(k->topic_id.id, w->held, KAFKA_ID_SIZE);
	__builtin_memcpy(k->topic_id.address, s->packet.source_ip, 16);
	bpf_map_update_elem(&kafka_topic_ids, &k->topic_id, &w->topic, BPF_ANY);
	__builtin_memcpy(k->topic_id.address, s->packet.destination_ip, 16);
	bpf_map_update_elem(&kafka_topic_ids, &k->topic_id, &w->topic, BPF_ANY);
	return 0;
}

static __always_inline void kafka_take(struct kafka_work *k, __u32 size)
{
	k->index += size;
	k->walk.left -= size;
}

/* What a step did. */
enum { KAFKA_GO_ON, KAFKA_CUT };

static __always_inline int kafka_id_step(struct kafka_context *x, const struct kafka_step *step, const __u8 *p,
					 __u32 have)
{
	struct kafka_walk *w = &x->k->walk;
	__u64 *held = (__u64 *)w->held;

	if (have < KAFKA_ID_SIZE)
		return KAFKA_CUT;
	__builtin_memcpy(w->held, p, KAFKA_ID_SIZE);
	kafka_take(x->k, KAFKA_ID_SIZE);
	if (held[0] | held[1]) {
		if ((step->flags & KAFKA_IS_PAIRED) && (step->flags & KAFKA_AFTER_TOPIC) && w->has_named) {
			if (w->is_response)
				x->k->event = KAFKA_LEARNED;
		} else if (!w->is_response && kafka_count_topic(w)) {
			w->has_held = step->flags & KAFKA_IS_FOLLOWED ? 1 : 0;
			if (!w->has_held)
				x->k->event = KAFKA_IDENTIFIED;
		}
	}
	kafka_was_read(w, step);
	return KAFKA_GO_ON;
}

static __always_inline int kafka_name_step(struct kafka_context *x, const struct kafka_step *step, __u32 start,
					   __u32 have, __s64 size)
{
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;

	w->has_named = 0;
	if (size < 0) {
		kafka_take(k, start);
	} else if (size > KAFKA_NAME_LIMIT) {
		kafka_take(k, start);
		w->skip = size;
		w->is_untold = 1;
	} else {
		if (have - start < size)
			return KAFKA_CUT;
		kafka_take(k, start);
		w->has_named = 1;
		if (w->has_held) {
			w->has_held = 0; /* the name says more than the id before it */
			w->topics--;
		}
		if (!w->is_response) {
			kafka_tell_name(x, size);
		} else if (step->flags & KAFKA_IS_FOLLOWED) {
			w->topic.length = size;
			kafka_copy(w->topic.text, size, kafka_at(x->s, k));
		}
		kafka_take(k, size);
	}
	if (w->has_held) {
		w->has_held = 0;
		k->event = KAFKA_IDENTIFIED;
	}
	kafka_was_read(w, step);
	return KAFKA_GO_ON;
}

/* Steps that begin with a length or a number of elements, which may be null. */
static __always_inline int kafka_counted_step(struct kafka_context *x, const struct kafka_step *step, const __u8 *p,
					      __u32 have)
{
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;
	__u8 code = step->code;
	__u32 start;
	__s64 number;

	if (w->program.flags & KAFKA_IS_FLEXIBLE) {
		__u64 value = 0;

		start = kafka_varint(p, have, &value);
		number = (__s64)value - 1;
	} else if (code == KAFKA_STRING || code == KAFKA_TOPIC || code == KAFKA_RESOURCE) {
		start = have < 2 ? 0 : 2;
		number = (__s16)kafka_u16(p);
	} else {
		start = have < 4 ? 0 : 4;
		number = (__s32)kafka_u32(p);
	}
	if (!start)
		return KAFKA_CUT;
	if (number < -1 || number > (__s64)w->left - start) {
		kafka_take(k, start);
		kafka_fail(w);
		return KAFKA_GO_ON;
	}
	if (code == KAFKA_TOPIC || (code == KAFKA_RESOURCE && w->is_topic_resource))
		return kafka_name_step(x, step, start, have, number);
	kafka_take(k, start);
	if (code == KAFKA_LOOP) {
		if (number <= 0) {
			kafka_go(w, step->target);
		} else if (number * step->size > w->left || w->depth >= KAFKA_DEPTH) {
			kafka_fail(w);
		} else {
			w->counts[w->depth++ & (KAFKA_DEPTH - 1)] = number;
			kafka_go(w, w->at + 1);
		}
		return KAFKA_GO_ON;
	}
	if (number > 0) {
		if (code == KAFKA_LIST)
			number *= step->size;
		if (number > w->left)
			kafka_fail(w);
		else
			w->skip = number;
	}
	kafka_go(w, w->at + 1);
	return KAFKA_GO_ON;
}

/* Pass over one tagged field, or read how many there are (KIP-482). */
static __always_inline int kafka_tags_step(struct kafka_work *k, const __u8 *p, __u32 have)
{
	struct kafka_walk *w = &k->walk;
	__u64 number = 0;
	__u32 start, behind;

	start = kafka_varint(p, have, &number);
	if (!start)
		return KAFKA_CUT;
	if (!w->tags) {
		kafka_take(k, start);
		if (number > w->left / 2)
			kafka_fail(w);
		w->tags = number;
	} else {
		behind = kafka_varint(p + start, have - start, &number);
		if (!behind)
			return KAFKA_CUT;
		kafka_take(k, start + behind);
		if (number > w->left)
			kafka_fail(w);
		w->skip = number;
		w->tags--;
	}
	if (!w->tags)
		kafka_go(w, w->at + 1);
	return KAFKA_GO_ON;
}

/* Pass over what is to be skipped; 1 where the packet ends before. */
static __always_inline int kafka_skip(const struct scratch *s, struct kafka_work *k)
{
	__u32 size = kafka_pass(s, k, k->walk.skip);

	k->walk.skip -= size;
	k->walk.left -= size;
	return k->walk.skip ? 1 : 0;
}

static __always_inline int kafka_skip_fails(struct kafka_walk *w)
{
	if (w->skip <= w->left)
		return 0;
	kafka_fail(w);
	return 1;
}

/* Do one step; 1 where the walk is done or the packet has no more. */
static long kafka_walk_step(__u32 round, void *context)
{
	struct kafka_context *x = context;
	struct kafka_work *k = x->k;
	struct kafka_walk *w = &k->walk;
	struct kafka_step *step;
	const __u8 *p;
	__u32 at = w->program.start + w->at, have;
	int result;

	step = bpf_map_lookup_elem(&kafka_steps, &at);
	if (!step)
		w->is_done = 1;
	if (w->is_done || !step)
		return 1;
	if (++w->steps > KAFKA_STEPS_LIMIT) {
		w->is_untold = w->is_done = 1;
		return 1;
	}
	if (w->at >= w->program.length) {
		w->is_done = 1; /* also where something is still to be passed over: nothing follows it */
		return 1;
	}
	if (w->skip && kafka_skip(x->s, k))
		return 1;
	if (!w->is_arrived) {
		w->is_arrived = 1;
		w->skip = step->skip;
		if (w->skip && (kafka_skip_fails(w) || kafka_skip(x->s, k)))
			return 1;
	}
	if (step->code == KAFKA_NEXT) {
		__u32 *count = &w->counts[(w->depth - 1) & (KAFKA_DEPTH - 1)];

		if (--*count) {
			kafka_go(w, step->target);
		} else {
			w->depth--;
			kafka_go(w, w->at + 1);
		}
		return 0;
	}
	if (step->code == KAFKA_SKIP) {
		kafka_go(w, w->at + 1);
		return 0;
	}

	kafka_fill(x->skb, x->s, k, KAFKA_FIELD_SIZE);
	p = kafka_at(x->s, k);
	have = k->loaded - k->index;
	if (have > w->left)
		have = w->left;
	result = KAFKA_CUT;
	if (have) {
		switch (step->code) {
		case KAFKA_TAGS:
			result = kafka_tags_step(k, p, have);
			break;
		case KAFKA_ID:
			result = kafka_id_step(x, step, p, have);
			break;
		case KAFKA_ACKS:
		case KAFKA_ERROR:
			if (have < 2)
				break;
			if (step->code == KAFKA_ERROR) {
				if (!w->error)
					w->error = kafka_u16(p);
				w->has_error = 1;
			}
			kafka_take(k, 2);
			kafka_was_read(w, step);
			if (w->error && !(w->program.flags & KAFKA_IS_LEARNED_FROM))
				w->is_done = 1; /* what comes behind it is not read */
			result = KAFKA_GO_ON;
			break;
		case KAFKA_RESOURCE_KIND:
			w->is_topic_resource = *p == KAFKA_TOPIC_RESOURCE;
			kafka_take(k, 1);
			kafka_go(w, w->at + 1);
			result = KAFKA_GO_ON;
			break;
		case KAFKA_OPTIONAL:
			kafka_take(k, 1);
			kafka_go(w, *p > 0x7f ? step->target : w->at + 1);
			result = KAFKA_GO_ON;
			break;
		default:
			result = kafka_counted_step(x, step, p, have);
		}
	}
	if (result == KAFKA_GO_ON)
		return w->is_done || (k->event && !k->is_proof) ? 1 : 0;
	/* More is needed, but does anything more belong to the frame? */
	if (have == w->left)
		kafka_fail(w);
	return 1;
}

/* Read on in the message, until there is an event, the message is done, or the packet is. */
__noinline int kafka_walk(struct __sk_buff *skb, struct scratch *s, struct connection *c, struct kafka_work *k)
{
	struct kafka_context x = { skb, s, c, k };

	if (!skb || !s || !c || !k)
		return 0;
	if (k->budget > KAFKA_PACKET_STEPS)
		return 0;
	k->event = KAFKA_NOTHING;
	if (!k->walk.program.length) {
		k->walk.is_done = 1; /* told by its header */
		return 0;
	}
	k->budget -= bpf_loop(k->budget, kafka_walk_step, &x, 0);
	if (!k->walk.is_done && !k->budget)
		k->walk.is_untold = k->walk.is_done = 1;
	if (k->walk.is_done && k->walk.has_held) {
		k->walk.has_held = 0;
		k->event = KAFKA_IDENTIFIED;
	}
	return 0;
}

static __always_inline void kafka_take_event(struct scratch *s, struct connection *c, struct kafka_work *k)
{
	switch (k->event) {
	case KAFKA_NAMED:
		policy_kafka_topic(s, c, &k->walk.judgement, &k->name);
		break;
	case KAFKA_IDENTIFIED:
		kafka_tell_id(s, c, k);
		break;
	case KAFKA_LEARNED:
		kafka_learn(s, k);
		break;
	}
}
