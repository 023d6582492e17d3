/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The least of everything that the loader handles: maps of each kind, a ring, programs that load and one that cannot. */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>

#define RECORD_SIZE 504

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 1024);
} numbers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, __u64);
	__type(value, __u32);
	__uint(max_entries, 64);
} recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 4);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} snapshots SEC(".maps");

enum { EVENTS_FULL, SNAPSHOTS_FULL, SEEN };

static __always_inline void count(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&counters, &what);

	if (counter)
		*counter += 1;
}

/* One record for each packet: its number, the time in its context, and its length. */
SEC("tc")
int flowscope_tc(struct __sk_buff *skb)
{
	__u32 seen = SEEN;
	__u64 *counter = bpf_map_lookup_elem(&counters, &seen);
	__u64 *slot;

	count(SEEN);
	slot = bpf_ringbuf_reserve(&events, RECORD_SIZE, 0);
	if (!slot) {
		count(EVENTS_FULL);
		return TC_ACT_UNSPEC;
	}
	__builtin_memset(slot, 0, RECORD_SIZE);
	slot[0] = skb->tstamp;
	slot[1] = counter ? *counter : 0;
	slot[2] = skb->len;
	bpf_ringbuf_submit(slot, 0);
	return TC_ACT_UNSPEC;
}

/* The length of the packet, counted in `numbers`. */
SEC("tc")
int length(struct __sk_buff *skb)
{
	__u32 key = skb->len;
	__u64 one = 1, *known = bpf_map_lookup_elem(&numbers, &key);

	bpf_map_update_elem(&numbers, &key, known ? &(__u64){ *known + 1 } : &one, BPF_ANY);
	return skb->len;
}

/* Every other record is given up after it was reserved. */
SEC("tc")
int discard(struct __sk_buff *skb)
{
	__u64 *slot = bpf_ringbuf_reserve(&events, RECORD_SIZE, 0);

	if (!slot)
		return TC_ACT_UNSPEC;
	__builtin_memset(slot, 0, RECORD_SIZE);
	slot[2] = skb->len;
	if (skb->len & 1)
		bpf_ringbuf_discard(slot, 0);
	else
		bpf_ringbuf_submit(slot, 0);
	return TC_ACT_UNSPEC;
}

/* The packet itself, in an item of one of two sizes. */
SEC("tc")
int snapshot(struct __sk_buff *skb)
{
	void *item;

	if (skb->len < 100) {
		item = bpf_ringbuf_reserve(&snapshots, 24, 0);
		if (!item)
			goto full;
		if (bpf_skb_load_bytes(skb, 0, item, 24))
			__builtin_memset(item, 0, 24);
	} else {
		item = bpf_ringbuf_reserve(&snapshots, 100, 0);
		if (!item)
			goto full;
		if (bpf_skb_load_bytes(skb, 0, item, 100))
			__builtin_memset(item, 0, 100);
	}
	bpf_ringbuf_submit(item, 0);
	return TC_ACT_UNSPEC;
full:
	count(SNAPSHOTS_FULL);
	return TC_ACT_UNSPEC;
}

/* Reads what it has not checked: the verifier refuses it. */
SEC("tc")
int unsafe(struct __sk_buff *skb)
{
	return *(volatile char *)(long)skb->data;
}

SEC("tp_btf/sched_process_exec")
int executed(void *ctx)
{
	count(SEEN);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
