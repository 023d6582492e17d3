/* SPDX-License-Identifier: Apache-2.0 */
/* The Kafka parser alone: one connection in a map, and frames that are a side's octets behind an order to the test. */
#include <bpf/bpf_endian.h>

#include "kafka.h"

enum { ORDER_READ, ORDER_ABANDON, ORDER_DETECT, ORDER_DETECT_EXPECTED, DETECTED = 100 };

/* As long as an Ethernet header, which the kernel looks for. */
struct order {
	__u8 side;
	__u8 what;
	__u8 is_judged; /* the connection has L7 rules */
	__u8 is_fresh;	/* each time another connection, so that repeated runs do all the work */
	__u8 pad[2];
	__u64 time_ns;
} __attribute__((packed));

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct connection);
} tested SEC(".maps");

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
	c->decision.egress_l7 = order.is_judged;
	c->number += order.is_fresh;
	s->packet.sender = order.side & 1;
	__builtin_memset(s->packet.source_ip, order.side, sizeof(s->packet.source_ip));
	__builtin_memset(s->packet.destination_ip, !order.side, sizeof(s->packet.destination_ip));
	s->record.time_ns = order.time_ns;
	s->at = sizeof(order);
	s->end = skb->len;
	load_payload(skb, s);
	if (order.what >= ORDER_DETECT) {
		s->packet.source_port = bpf_htons(order.what == ORDER_DETECT_EXPECTED ? 9092 : 40000);
		s->packet.destination_port = 0;
		return DETECTED + kafka_detect(skb, s, c);
	}
	if (order.what == ORDER_ABANDON)
		return kafka_abandon(s, c);
	return kafka_read(skb, s, c);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
