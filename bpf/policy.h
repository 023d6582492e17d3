/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Policy: may this source open this connection, and send this request over it. The tables are written by
 * observer/policy/compile.py, which asks observer/policy/engine.py for every verdict in them; here they are only read.
 * Texts (method, path, topic ...) are walked byte by byte through automata whose states say, as a mask, which of up to
 * 64 rules match. Knows no packets and no connections.
 *
 * Each table is an array of two maps or values: `revision & 1` says which is valid. User space fills the other, then
 * raises the revision. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>

#include "maps.h"

#define POLICY_RULES 64	    /* of an L7 set, one bit each */
#define POLICY_STATES 8192  /* of all automata together; a power of two */
#define POLICY_ANYBODY 0    /* every class of peers that has no entry of its own */
#define POLICY_ANY_STATE (~0U) /* no rule of the set asks for the field */
#define POLICY_DEAD_STATE 0 /* nothing matches any more */
#define POLICY_STRIDE 8	    /* octets of a text that are read at once */
#define POLICY_TEXT_SIZE 255 /* no topic or client of a rule is longer */

enum { CLASS_MANAGED = 1 << 0, CLASS_INGRESS = 1 << 1, CLASS_EGRESS = 1 << 2 }; /* a workload; selected by policies */
enum { POLICY_INGRESS = 1, POLICY_EGRESS = 2 }; /* record.Direction */
enum { POLICY_MATCH_NONE = 0, POLICY_MATCH_ALL = 4 }; /* record.PolicyMatch */
enum { POLICY_PASSES = 0, POLICY_REFUSES = 1, POLICY_UNREADABLE = 2 };
enum { KAFKA_FETCH = 1, KAFKA_FETCH_SESSIONS = 7 }; /* KIP-227: from then on no topics mean those of the session */

struct policy_address {
	__u32 length; /* bits: 32 of the family, then of the address */
	__u32 family;
	__u8 address[16];
};

/* Addresses that policies cannot tell apart. */
struct policy_class {
	__u32 number;
	__u32 flags;
};

struct policy_pair {
	__u32 subject;
	__u32 peer;
	__u32 direction;
};

struct policy_port {
	__u32 length; /* bits: 32 of the table, 8 of the protocol, up to 16 of the port */
	__u32 table;
	__u8 protocol;
	__u8 port[2]; /* network order; ICMP: the type */
	__u8 pad;
};

/* What the policies of one end say in one direction. */
struct policy_half {
	__u32 rule;
	__u32 l7;
	__u8 allowed;
	__u8 match;
	__u8 pad[2];
};

struct policy_owner {
	__u32 rule;
	__u32 match;
};

enum policy_field { POLICY_METHOD, POLICY_PATH, POLICY_HOST, POLICY_KEY, POLICY_VERSION, POLICY_CLIENT, POLICY_TOPIC,
		    POLICY_FIELDS };

/* The L7 rules of a half, in order; bit i of a mask is the i-th HTTP or Kafka rule. */
struct policy_set {
	__u64 http;	  /* all there are */
	__u64 kafka;
	__u64 http_open;  /* those that ask nothing */
	__u64 kafka_open; /* those that ask for no topic */
	__u64 topic_keys; /* API keys whose requests name topics */
	__u32 start[POLICY_FIELDS];
	__u32 revision;
	struct policy_owner first;
	struct policy_owner http_owner[POLICY_RULES];
	struct policy_owner kafka_owner[POLICY_RULES];
};

struct policy_states {
	struct {
		__u64 mask;
		__u16 next[256];
	} rows[POLICY_STATES];
};

struct policy_text {
	__u8 bytes[POLICY_TEXT_SIZE];
};

/* A Kafka request while its topics go by. */
struct kafka_judgement {
	struct decision decision; /* of the connection */
	__u64 admit[2];		  /* rules whose key, version and client hold: of egress, of ingress */
	__u64 named[2];		  /* of these, the ones whose topic came */
	__u16 key;
	__u16 version;
	__u8 topics;	 /* some came */
	__u8 missing[2]; /* one came that no such rule names */
	__u8 is_wanted;	 /* the connection has L7 rules */
};

/* Sizes of the inner maps stand as numbers: clang tells of types behind a second pointer by name only. */
#define POLICY_TABLE(name, map_type, keys, held, flags)                                                                \
	struct name##_table {                                                                                         \
		__uint(type, map_type);                                                                                \
		__uint(max_entries, 1);                                                                                \
		__uint(map_flags, flags);                                                                              \
		__uint(key_size, sizeof(keys));                                                                        \
		__uint(value_size, sizeof(held));                                                                      \
	};                                                                                                             \
	struct {                                                                                                       \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);                                                              \
		__uint(max_entries, 2);                                                                                \
		__type(key, __u32);                                                                                    \
		__array(values, struct name##_table);                                                                  \
	} name SEC(".maps")

POLICY_TABLE(policy_addresses, BPF_MAP_TYPE_LPM_TRIE, struct policy_address, struct policy_class, BPF_F_NO_PREALLOC);
POLICY_TABLE(policy_pairs, BPF_MAP_TYPE_HASH, struct policy_pair, __u32, 0);
POLICY_TABLE(policy_ports, BPF_MAP_TYPE_LPM_TRIE, struct policy_port, struct policy_half, BPF_F_NO_PREALLOC);
POLICY_TABLE(policy_sets, BPF_MAP_TYPE_ARRAY, __u32, struct policy_set, BPF_F_INNER_MAP);
/* One value holds every state of a revision: a lookup for each octet would cost three times the walk. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, struct policy_states);
} policy_states SEC(".maps");

/* A walk through an automaton. It lives in map memory: of the stack the verifier would follow every state. */
struct policy_walk {
	__u32 revision;
	__u32 state;
	__u32 at;
	__u32 end;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct policy_walk);
} policy_walks SEC(".maps");

/* The class of an address. User space has an entry for every address there is; where it is not, the tables are not
 * those of the revision, and nobody may pass. */
static __always_inline struct policy_class policy_classify(__u32 revision, __u32 family, const __u8 *address)
{
	struct policy_address key = { .length = 32 + 128, .family = family };
	struct policy_class nobody = { .flags = CLASS_INGRESS | CLASS_EGRESS }, *found = NULL;
	__u32 half = revision & 1;
	void *table = bpf_map_lookup_elem(&policy_addresses, &half);

	__builtin_memcpy(key.address, address, sizeof(key.address));
	if (table)
		found = bpf_map_lookup_elem(table, &key);
	return found ? *found : nobody;
}

/* The verdict of the policies of `subject` in one direction; where none selects it, it is open. */
static __always_inline struct policy_half policy_judge_half(__u32 revision, struct policy_class subject,
							    struct policy_class peer, __u32 direction, __u32 what)
{
	struct policy_pair pair = { .subject = subject.number, .peer = peer.number, .direction = direction };
	struct policy_port port = { .length = 32 + 8 + 16, .protocol = what >> 16, .port = { what >> 8, what } };
	struct policy_half *found, verdict = { .allowed = 1 };
	__u32 half = revision & 1, *number;
	void *table;

	if (!(subject.flags & (direction == POLICY_INGRESS ? CLASS_INGRESS : CLASS_EGRESS))) {
		verdict.match = subject.flags & CLASS_MANAGED ? POLICY_MATCH_ALL : POLICY_MATCH_NONE;
		return verdict;
	}
	verdict.allowed = 0; /* tables that are not there let nobody pass */
	table = bpf_map_lookup_elem(&policy_pairs, &half);
	if (!table)
		return verdict;
	number = bpf_map_lookup_elem(table, &pair);
	if (!number) {
		pair.peer = POLICY_ANYBODY;
		number = bpf_map_lookup_elem(table, &pair);
	}
	table = bpf_map_lookup_elem(&policy_ports, &half);
	if (!number || !table)
		return verdict;
	port.table = *number;
	found = bpf_map_lookup_elem(table, &port);
	return found ? *found : verdict;
}

/* engine.Engine.connection: `tuple` from its end `source`; `what` is protocol << 16 | port of the destination, in host
 * order, or ICMP type. Returns the direction that refuses, or 0. */
__noinline int policy_judge(struct decision *d, const struct tuple *tuple, __u32 source, __u32 what, __u32 revision)
{
	struct policy_class from, to;
	struct policy_half egress, ingress;

	if (!d || !tuple)
		return 0;
	*d = (struct decision){ .revision = revision };
	from = policy_classify(revision, tuple->family, tuple->ip[source & 1]);
	to = policy_classify(revision, tuple->family, tuple->ip[!(source & 1)]);
	egress = policy_judge_half(revision, from, to, POLICY_EGRESS, what);
	d->egress_rule = egress.rule;
	d->match = egress.match;
	if (!egress.allowed)
		return d->refused = POLICY_EGRESS;
	ingress = policy_judge_half(revision, to, from, POLICY_INGRESS, what);
	d->ingress_rule = ingress.rule;
	if (!ingress.allowed) {
		d->match = ingress.match;
		return d->refused = POLICY_INGRESS;
	}
	if (to.flags & CLASS_MANAGED)
		d->match = ingress.match;
	d->egress_l7 = egress.l7;
	d->ingress_l7 = ingress.l7;
	return 0;
}

/* Judge a connection at its first packet, and again when the policies have changed. */
static __always_inline int policy_connection(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	__u32 zero = 0, what = bpf_ntohs(s->tuple.port[!(c->client & 1)]);
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);

	if (!set)
		return 0;
	if (!set->has_policy) {
		c->decision = (struct decision){ .revision = set->revision };
		return 0;
	}
	if (s->tuple.protocol == IPPROTO_ICMP || s->tuple.protocol == IPPROTO_ICMPV6)
		what = c->icmp_type; /* the request's */
	return policy_judge(&c->decision, &s->tuple, c->client, s->tuple.protocol << 16 | what, set->revision);
}

static __always_inline const struct policy_states *policy_states_of(__u32 revision)
{
	__u32 half = revision & 1;

	return bpf_map_lookup_elem(&policy_states, &half);
}

static __always_inline struct policy_walk *policy_walk(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&policy_walks, &zero);
}

/* Read the next octets of `bytes`, of which the verifier has to know the size. The context is one pointer: these run
 * at the bottom of deep stacks. */
static __always_inline long policy_stride(const __u8 *bytes, __u32 size)
{
	struct policy_walk *walk = policy_walk();
	const struct policy_states *states = walk ? policy_states_of(walk->revision) : NULL;
	__u32 state, at, end;

	if (!states)
		return 1;
	state = walk->state;
	at = walk->at;
	end = walk->end;
	for (int octet = 0; octet < POLICY_STRIDE; octet++) {
		if (at >= end || at >= size)
			break;
		state = states->rows[state & (POLICY_STATES - 1)].next[bytes[at]];
		at++;
	}
	walk->state = state;
	walk->at = at;
	return at >= end || state == POLICY_DEAD_STATE;
}

static long policy_text_step(__u32 index, const __u8 **bytes)
{
	return policy_stride(*bytes, sizeof(struct policy_text));
}

static long policy_request_step(__u32 index, const __u8 **bytes)
{
	return policy_stride(*bytes, sizeof(struct http_request));
}

/* Which rules match bytes[at .. at + length), of a text or of a request: an automaton's answer, as a mask. */
static __always_inline __u64 policy_matching(__u32 revision, __u32 start, const __u8 *bytes, bool is_request, __u32 at,
					     __u32 length)
{
	const struct policy_states *states;
	struct policy_walk *walk;

	if (start == POLICY_ANY_STATE)
		return ~0ULL;
	walk = policy_walk();
	if (!walk)
		return 0;
	walk->revision = revision;
	walk->state = start;
	walk->at = at;
	walk->end = at + length;
	length = (length + POLICY_STRIDE - 1) / POLICY_STRIDE;
	if (is_request)
		bpf_loop(length, policy_request_step, &bytes, 0);
	else
		bpf_loop(length, policy_text_step, &bytes, 0);
	walk = policy_walk();
	states = walk ? policy_states_of(walk->revision) : NULL;
	return states ? states->rows[walk->state & (POLICY_STATES - 1)].mask : 0;
}

/* The same for a number of 16 bits, as two bytes. */
static __always_inline __u64 policy_matching_number(__u32 revision, __u32 start, __u16 number)
{
	const struct policy_states *states = policy_states_of(revision);
	__u32 state = start;

	if (start == POLICY_ANY_STATE)
		return ~0ULL;
	if (!states)
		return 0;
	state = states->rows[state & (POLICY_STATES - 1)].next[number >> 8];
	state = states->rows[state & (POLICY_STATES - 1)].next[number & 255];
	return states->rows[state & (POLICY_STATES - 1)].mask;
}

/* A set of L7 rules; none where its half of the tables has been filled anew since the connection was judged. */
static __always_inline struct policy_set *policy_set(__u32 revision, __u32 number)
{
	__u32 half = revision & 1;
	struct policy_set *set;
	void *table = bpf_map_lookup_elem(&policy_sets, &half);

	if (!table)
		return NULL;
	set = bpf_map_lookup_elem(table, &number);
	return set && set->revision == revision ? set : NULL;
}

/* The owner of the first rule of a mask that is not empty. (clang 14 never ends over __builtin_ctzll for BPF.) */
static __always_inline struct policy_owner policy_first(const struct policy_owner *owners, __u64 mask)
{
	__u32 index = 0;

	for (__u32 bits = POLICY_RULES / 2; bits; bits /= 2) {
		if (!(mask & ((1ULL << bits) - 1))) {
			mask >>= bits;
			index += bits;
		}
	}
	return owners[index & (POLICY_RULES - 1)];
}

/* Put the verdict of one half on a request into the judgement, which began as the connection's: engine._requested. */
static __always_inline int policy_settle(struct judgement *out, __u32 direction, int verdict, struct policy_owner owner)
{
	if (direction == POLICY_EGRESS) {
		out->egress_rule = owner.rule;
		if (verdict == POLICY_REFUSES)
			out->ingress_rule = 0;
	} else {
		out->ingress_rule = owner.rule;
	}
	if (direction == POLICY_INGRESS || verdict == POLICY_REFUSES)
		out->match = owner.match;
	if (verdict == POLICY_REFUSES)
		out->refused = direction;
	return verdict;
}

static __always_inline int policy_undecided(struct judgement *out)
{
	out->undecided = 1;
	return POLICY_UNREADABLE;
}

static __always_inline void policy_begin(struct judgement *out, const struct decision *d)
{
	*out = (struct judgement){ .egress_rule = d->egress_rule,
				   .ingress_rule = d->ingress_rule,
				   .refused = d->refused,
				   .match = d->match };
}

static __noinline int policy_http_half(const struct http_request *r, __u32 revision, struct judgement *out,
				       __u32 number, __u32 direction)
{
	struct policy_set *set = policy_set(revision, number);
	const __u8 *bytes = (const __u8 *)r;
	__u64 mask;

	if (!set)
		return policy_undecided(out);
	mask = set->http;
	if (r->unreadable) {
		mask &= set->http_open;
	} else {
		mask &= policy_matching(revision, set->start[POLICY_METHOD], bytes, true,
					offsetof(struct http_request, method), r->method_length);
		if (mask)
			mask &= policy_matching(revision, set->start[POLICY_PATH], bytes, true,
						offsetof(struct http_request, path), r->path_length);
		if (mask)
			mask &= policy_matching(revision, set->start[POLICY_HOST], bytes, true,
						offsetof(struct http_request, host), r->host_length);
	}
	if (mask)
		return policy_settle(out, direction, POLICY_PASSES, policy_first(set->http_owner, mask));
	if (r->unreadable)
		return policy_undecided(out);
	return policy_settle(out, direction, POLICY_REFUSES, set->first);
}

/* Judge the request in scratch.request over a connection of decision `d`: engine.Engine.http. Its `path` is the target
 * as it was sent: the automata pass over scheme and authority. A request of which too little is known is undecided,
 * unless some rule allows every one. */
__noinline int policy_http(const struct http_request *r, const struct decision *d, struct judgement *out)
{
	int verdict = POLICY_PASSES;

	if (!r || !d || !out)
		return POLICY_UNREADABLE;
	policy_begin(out, d);
	if (d->refused)
		return POLICY_REFUSES;
	if (d->egress_l7)
		verdict = policy_http_half(r, d->revision, out, d->egress_l7, POLICY_EGRESS);
	if (verdict == POLICY_PASSES && d->ingress_l7)
		verdict = policy_http_half(r, d->revision, out, d->ingress_l7, POLICY_INGRESS);
	return verdict;
}

/* Judge something that could not be read: undecided where the connection has L7 rules. */
static __always_inline int policy_unreadable(const struct decision *d, struct judgement *out)
{
	policy_begin(out, d);
	if (d->refused)
		return POLICY_REFUSES;
	return d->egress_l7 || d->ingress_l7 ? policy_undecided(out) : POLICY_PASSES;
}

static __always_inline __u32 policy_l7_of(const struct decision *d, int half)
{
	return half ? d->ingress_l7 : d->egress_l7;
}

/* Which rules of a half admit a request but for its topics: kafka_rules.deciding. */
__noinline int policy_kafka_admit(struct kafka_judgement *k, const struct policy_text *client, __u32 length, int half)
{
	struct policy_set *set;
	__u64 mask;

	if (!k || !client)
		return 0;
	set = policy_set(k->decision.revision, policy_l7_of(&k->decision, half));
	if (!set)
		return 0;
	mask = set->kafka & policy_matching_number(k->decision.revision, set->start[POLICY_KEY], k->key) &
	       policy_matching_number(k->decision.revision, set->start[POLICY_VERSION], k->version);
	if (length > POLICY_TEXT_SIZE)
		length = POLICY_TEXT_SIZE; /* one octet more than any rule's: none of them matches */
	if (mask)
		mask &= policy_matching(k->decision.revision, set->start[POLICY_CLIENT], client->bytes, false, 0,
					length);
	k->admit[half & 1] = mask;
	return 0;
}

/* A topic of the request, to one half. */
__noinline int policy_kafka_name(struct kafka_judgement *k, const struct policy_text *topic, __u32 length, int half)
{
	struct policy_set *set;
	__u64 mask;

	if (!k || !topic)
		return 0;
	set = policy_set(k->decision.revision, policy_l7_of(&k->decision, half));
	mask = set && length <= POLICY_TEXT_SIZE ? k->admit[half & 1] : 0;
	if (mask)
		mask &= policy_matching(k->decision.revision, set->start[POLICY_TOPIC], topic->bytes, false, 0, length);
	k->topics = 1;
	k->named[half & 1] |= mask;
	k->missing[half & 1] |= !mask;
	return 0;
}

static __noinline int policy_kafka_half(const struct kafka_judgement *k, struct judgement *out, int half)
{
	struct policy_set *set = policy_set(k->decision.revision, policy_l7_of(&k->decision, half));
	__u32 direction = half ? POLICY_INGRESS : POLICY_EGRESS;
	__u64 mask = k->admit[half & 1];
	bool session, bears;

	if (!set)
		return policy_undecided(out);
	session = k->key == KAFKA_FETCH && (__s16)k->version >= KAFKA_FETCH_SESSIONS && !k->topics;
	bears = k->key < 64 && set->topic_keys >> (k->key & 63) & 1;
	if (bears && !session) {
		if (mask & set->kafka_open)
			mask &= set->kafka_open;
		else
			mask = k->missing[half & 1] ? 0 : k->named[half & 1];
	}
	if (!mask)
		return policy_settle(out, direction, POLICY_REFUSES, set->first);
	return policy_settle(out, direction, POLICY_PASSES, policy_first(set->kafka_owner, mask));
}

/* The verdict on the request whose topics have all come. */
__noinline int policy_kafka_settle(const struct kafka_judgement *k, struct judgement *out)
{
	int verdict = POLICY_PASSES;

	if (!k || !out)
		return POLICY_UNREADABLE;
	policy_begin(out, &k->decision);
	if (k->decision.refused)
		return POLICY_REFUSES;
	if (k->decision.egress_l7)
		verdict = policy_kafka_half(k, out, 0);
	if (verdict == POLICY_PASSES && k->decision.ingress_l7)
		verdict = policy_kafka_half(k, out, 1);
	return verdict;
}

/* What kafka.h calls: begin, each topic as it is read, end; they may lie in different packets. A topic whose name is
 * not known is told as one that no rule can name. */
static __always_inline void policy_kafka_begin(struct scratch *s, struct connection *c, struct kafka_judgement *k,
					       __u16 key, __u16 version, const char *client_id, __u32 length)
{
	k->is_wanted = 0;
	if (!(c->decision.egress_l7 | c->decision.ingress_l7))
		return;
	*k = (struct kafka_judgement){ .decision = c->decision, .key = key, .version = version, .is_wanted = 1 };
	if (c->decision.egress_l7)
		policy_kafka_admit(k, (const struct policy_text *)client_id, length, 0);
	if (k->decision.ingress_l7)
		policy_kafka_admit(k, (const struct policy_text *)client_id, length, 1);
}

static __always_inline void policy_kafka_topic(struct scratch *s, struct connection *c, struct kafka_judgement *k,
					       const struct kafka_name *name)
{
	if (!k->is_wanted)
		return;
	if (k->decision.egress_l7)
		policy_kafka_name(k, (const struct policy_text *)name->text, name->length, 0);
	if (k->decision.ingress_l7)
		policy_kafka_name(k, (const struct policy_text *)name->text, name->length, 1);
}

static __always_inline void policy_kafka_end(struct scratch *s, struct connection *c, struct kafka_judgement *k)
{
	if (k->is_wanted)
		policy_kafka_settle(k, &s->judgement);
}
