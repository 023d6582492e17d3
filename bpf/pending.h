/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Requests that wait for their responses, by connection and id: buckets of slots, each bucket under a lock of its own.
 * An LRU hash took half of what an HTTP request costs. Requests that follow one another in a connection share a bucket,
 * so where each is answered before the next is asked they all take one slot, which is in the processor's cache by then.
 * A bucket that is full lets its oldest request go.
 *
 * What is found is copied under the lock: it is never mixed with a request that takes its place. There are no calls
 * under a lock, so texts are copied by words. Knows no protocol. observer/datapath/pending.py finds requests so too. */
#pragma once

#include "maps.h"

#define PENDING_BITS 12 /* of a bucket's number */
#define PENDING_BUCKETS (1 << PENDING_BITS)
#define PENDING_WAYS 16
#define PENDING_NEAR 8	 /* ids that share a bucket */
#define PENDING_TRIES 64 /* to lock it */

struct pending_slot {
	struct pending head;
	char text[FLOW_TEXT_SIZE];
};

struct pending_bucket {
	__u32 lock;
	__u32 turn; /* of the slot that was taken last */
	__u32 tags[PENDING_WAYS]; /* of what the slots hold; no two are the same; 0: nothing */
	struct pending_slot slots[PENDING_WAYS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PENDING_BUCKETS);
	__type(key, __u32);
	__type(value, struct pending_bucket);
} pending_requests SEC(".maps");

/* The bucket that a request belongs to, and the tag of its slot there. */
static __always_inline struct pending_bucket *find_bucket(__u64 connection, __u32 id, __u32 *tag)
{
	__u64 hash = (connection + id / PENDING_NEAR * 0x9e3779b97f4a7c15ULL) * 0xd6e8feb86659fd93ULL;
	__u32 index = hash >> (64 - PENDING_BITS);

	*tag = ((__u32)hash ^ id) | 1U << 31;
	return bpf_map_lookup_elem(&pending_requests, &index);
}

/* The bucket, locked; NULL if it cannot be had. bpf_spin_lock turns interrupts off and on, which takes longer than all
 * that is done under it. No program of ours interrupts another, so a lock is held for some 50 ns; who waits in vain for
 * it does not know the request. */
static __always_inline struct pending_bucket *lock_bucket(__u64 connection, __u32 id, __u32 *tag)
{
	struct pending_bucket *b = find_bucket(connection, id, tag);

	if (!b)
		return NULL;
	for (int tries = 0; tries < PENDING_TRIES; tries++) {
		if (!__sync_val_compare_and_swap(&b->lock, 0, 1))
			return b;
	}
	return NULL;
}

static __always_inline void unlock_bucket(struct pending_bucket *b)
{
	__sync_lock_test_and_set(&b->lock, 0);
}

/* The slots with this tag, a bit for each. There are no branches, for the verifier would follow each. */
static __always_inline __u32 tagged(const struct pending_bucket *b, __u32 tag)
{
	__u32 ways = 0;

#pragma unroll
	for (int way = 0; way < PENDING_WAYS; way++) {
		__u64 difference = b->tags[way] ^ tag;

		barrier_var(difference); /* else the compiler makes a branch of it */
		ways |= (difference - 1) >> 63 << way;
	}
	return ways;
}

static __always_inline __u32 lowest(__u32 ways)
{
	__u32 way = 0;

#pragma unroll
	for (int half = PENDING_WAYS / 2; half; half /= 2) {
		if (ways & ((1 << half) - 1))
			continue;
		ways >>= half;
		way += half;
	}
	return way;
}

/* The slot at scratch.way: through memory, for the verifier to forget which it is. */
static __always_inline struct pending_slot *slot_at(const struct scratch *s, struct pending_bucket *b)
{
	return &b->slots[s->way & (PENDING_WAYS - 1)];
}

static __always_inline void set_tag(const struct scratch *s, struct pending_bucket *b, __u32 tag)
{
	b->tags[s->way & (PENDING_WAYS - 1)] = tag;
}

static __always_inline int is_of(const struct pending *head, __u64 connection, __u32 id)
{
	return head->connection == connection && head->id == id;
}

/* Under the lock: whether the request is there, and where: at scratch.way. */
static __always_inline int find_slot(struct scratch *s, struct pending_bucket *b, __u32 tag, __u64 connection, __u32 id)
{
	__u32 ways;

	s->way = 0;
	if (b->tags[0] != tag) {
		ways = tagged(b, tag);
		if (!ways)
			return 0;
		s->way = lowest(ways);
	}
	return is_of(&slot_at(s, b)->head, connection, id);
}

/* The slot that was taken first. Times of packets do not tell: those of captures come in any order. */
static __always_inline __u32 oldest(const struct pending_bucket *b)
{
	__u64 most = 0;
	__u32 found = 0;

	for (__u32 way = 0; way < PENDING_WAYS; way++) {
		__u64 age = (__u16)(b->turn - b->slots[way].head.turn), is_older = (most - age) >> 63;

		barrier_var(is_older);
		most += is_older * (age - most);
		found += is_older * (way - found);
	}
	return found;
}

static __always_inline void copy_texts(char *target, const char *source, const __u8 *lengths)
{
	__u32 size = lengths[0] + lengths[1] + lengths[2] + lengths[3];

	for (__u32 at = 0; at < FLOW_TEXT_SIZE && at < size; at += 8)
		*(volatile __u64 *)(target + at) = *(const __u64 *)(source + at); /* else it becomes a call */
}

/* Remember scratch.asked, a request whose texts are in the record. Where one waits under its id already, nobody can say
 * any more which of the two a response answers. This and what follows are global for the verifier to read them once. */
__noinline int put_pending(__u64 connection, __u32 id)
{
	__u32 tag, ways;
	struct scratch *s = scratch();
	struct pending_bucket *b;
	struct pending_slot *slot;
	int is_known = 0, is_room = 0;

	if (!s || !(b = lock_bucket(connection, id, &tag)))
		return 0;
	if ((ways = tagged(b, tag))) {
		s->way = lowest(ways); /* another request with the same tag goes: that is as rare as it is random */
		is_known = is_of(&slot_at(s, b)->head, connection, id);
	} else if ((ways = tagged(b, 0))) {
		s->way = lowest(ways);
		is_room = 1;
	} else {
		s->way = oldest(b);
	}
	slot = slot_at(s, b);
	if (is_known) {
		slot->head.is_ambiguous = 1;
	} else {
		s->asked.connection = connection;
		s->asked.id = id;
		s->asked.turn = ++b->turn;
		slot->head = s->asked;
		copy_texts(slot->text, s->record.text, s->asked.text_length);
		set_tag(s, b, tag);
	}
	unlock_bucket(b);
	if (is_room)
		count(COUNT_PENDING_PUT);
	return 0;
}

/* Write what is known of a request anew, if it still waits. */
__noinline int update_pending(__u64 connection, __u32 id)
{
	__u32 tag;
	struct scratch *s = scratch();
	struct pending_bucket *b;
	struct pending *head;

	if (!s || !(b = lock_bucket(connection, id, &tag)))
		return 0;
	if (find_slot(s, b, tag, connection, id)) {
		head = &slot_at(s, b)->head;
		s->asked.is_ambiguous |= head->is_ambiguous;
		*head = s->asked;
	}
	unlock_bucket(b);
	return 0;
}

/* Find a request that waits: 1, and what is known of it but its texts in scratch.asked. */
__noinline int find_pending(__u64 connection, __u32 id)
{
	__u32 tag;
	struct scratch *s = scratch();
	struct pending_bucket *b;
	int is_known;

	if (!s || !(b = lock_bucket(connection, id, &tag)))
		return 0;
	is_known = find_slot(s, b, tag, connection, id);
	if (is_known)
		s->asked = slot_at(s, b)->head;
	unlock_bucket(b);
	return is_known;
}

/* Forget a request. */
__noinline int drop_pending(__u64 connection, __u32 id)
{
	__u32 tag;
	struct scratch *s = scratch();
	struct pending_bucket *b;
	int is_known;

	if (!s || !(b = lock_bucket(connection, id, &tag)))
		return 0;
	is_known = find_slot(s, b, tag, connection, id);
	if (is_known)
		set_tag(s, b, 0);
	unlock_bucket(b);
	if (is_known)
		count(COUNT_PENDING_TAKEN);
	return 0;
}

/* Find a request, and forget it unless it is to be kept: 1, and it in scratch.asked, its texts in the record. One that
 * is ambiguous answers nothing, and stays. Not global: the verifier lets calls lie in one another eight deep. */
static __always_inline int take_pending(struct scratch *s, __u64 connection, __u32 id, int keep)
{
	__u32 tag;
	struct pending_bucket *b = lock_bucket(connection, id, &tag);
	const struct pending_slot *slot;
	int is_known;

	if (!b)
		return 0;
	is_known = find_slot(s, b, tag, connection, id);
	slot = slot_at(s, b);
	if (slot->head.is_ambiguous)
		is_known = 0;
	if (is_known) {
		s->asked = slot->head;
		copy_texts(s->record.text, slot->text, s->asked.text_length);
		if (!keep)
			set_tag(s, b, 0);
	}
	unlock_bucket(b);
	if (is_known && !keep)
		count(COUNT_PENDING_TAKEN);
	return is_known;
}
