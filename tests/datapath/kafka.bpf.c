/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The Kafka parser alone: one connection in a map, and frames that are a side's octets behind an order to the test. */
#include <bpf/bpf_endian.h>

#include "kafka.h"

enum { ORDER_READ, ORDER_ABANDON, ORDER_LEFT, ORDER_DETECT, ORDER_DETECT_EXPECTED, DETECTED = 100 };

/* As long as an Ethernet header, which the kernel looks for. */
struct order {
	__u8 side;
	__u8 what;
	__u8 is_judged; /* the connection has L7 rules */
	__u8 is_enforced;
	__u8 client; /* last octet of its address, which is 10.20.0.x as in tests/policy/town.py */
	__u8 server;
	__u64 time_ns;
} __attribute__((packed));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct connection);
} tested SEC(".maps");

static __always_inline void write_address(__u8 *address, __u8 last)
{
	__u8 town[16] = { [10] = 0xff, 0xff, 10, 20, 0, last };

	__builtin_memcpy(address, town, sizeof(town));
}

SEC("tc")
int kafka(struct __sk_buff *skb)
{
	struct scratch *s = scratch();
	struct connection *c;
	struct order order;
	__u32 zero = 0;

	c = bpf_map_lookup_elem(&tested, &zero);
	if (!s || !c || bpf_skb_load_bytes(skb, 0, &order, sizeof(order)))
		return -1;
	s->enforce = order.is_enforced;
	s->packet.sender = order.side & 1;
	write_address(s->tuple.ip[CLIENT], order.client);
	write_address(s->tuple.ip[SERVER], order.server);
	__builtin_memcpy(s->packet.source_ip, s->tuple.ip[order.side & 1], 16);
	__builtin_memcpy(s->packet.destination_ip, s->tuple.ip[!(order.side & 1)], 16);
	s->tuple.family = 4;
	if (order.is_judged && !c->decision.revision)
		policy_judge(&c->decision, &s->tuple, CLIENT, IPPROTO_TCP << 16 | 9092, 1);
	judge_by_connection(s, c);
	s->record.time_ns = s->packet.time_ns = order.time_ns;
	s->at = sizeof(order);
	s->end = skb->len;
	load_payload(skb, s);
	if (order.what >= ORDER_DETECT) {
		s->packet.source_port = bpf_htons(order.what == ORDER_DETECT_EXPECTED ? 9092 : 40000);
		s->packet.destination_port = 0;
		return DETECTED + kafka_detect(skb, s, c);
	}
	if (order.what == ORDER_LEFT)
		return c->directions[order.side & 1].left;
	if (order.what == ORDER_ABANDON)
		return kafka_abandon(s, c);
	return kafka_read(skb, s, c);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
