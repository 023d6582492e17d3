// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Packets that the kernel drops, with its own reason: what nftables, a closed port or a missing route refused, on any
 * node and with no policy of ours. The only program that reads kernel structures, so the only one that needs BTF; it
 * runs on drops alone. It shares `events`, `ipcache`, `settings` and `counters` with datapath.bpf.c. */
#include "maps.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>

#include "refusal.h"

#define MAX_REASONS 256
#define MAX_EXTENSION_HEADERS 4
#define DROP_EVENT 1
#define OTHER_DROP 1 /* sub_type of a drop that no reason of Cilium's fits */
#define TYPE_L3_L4 1
#define VERDICT_DROPPED 2

/* As much of the kernel's structures as is read; CO-RE finds the real offsets. */
struct ns_common {
	unsigned int inum;
} __attribute__((preserve_access_index));

struct net {
	struct ns_common ns;
} __attribute__((preserve_access_index));

typedef struct {
	struct net *net;
} possible_net_t;

struct net_device {
	int ifindex;
	possible_net_t nd_net;
} __attribute__((preserve_access_index));

struct sk_buff {
	struct net_device *dev;
	__be16 protocol;
	__u16 network_header;
	unsigned char *head;
	unsigned int len;
} __attribute__((preserve_access_index));

/* By the kernel's number of a reason: what observer/datapath/drops.py makes of its name in this kernel. */
struct reason {
	__u8 quiet;  /* not worth a flow: no packet was refused */
	__u8 by_tc;  /* a TC program refused it, perhaps ours, which has told it already */
	__u16 description; /* flow.DropReason; 0: none fits */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_REASONS);
	__type(key, __u32);
	__type(value, struct reason);
} reasons SEC(".maps");

struct headers {
	__u32 transport; /* octets behind the network header */
	__u32 ip_length;
};

static __always_inline int read_ipv4(struct flow_record *record, struct headers *headers, const void *at)
{
	__u8 ip[20];

	if (bpf_probe_read_kernel(ip, sizeof ip, at) || ip[0] >> 4 != 4)
		return -1;
	record->family = 4;
	record->protocol = ip[9];
	record->source_ip[10] = record->source_ip[11] = 0xff;
	record->destination_ip[10] = record->destination_ip[11] = 0xff;
	__builtin_memcpy(record->source_ip + 12, ip + 12, 4);
	__builtin_memcpy(record->destination_ip + 12, ip + 16, 4);
	headers->ip_length = ip[2] << 8 | ip[3];
	/* A later fragment has no ports. */
	headers->transport = (ip[6] & 0x1f) | ip[7] ? 0 : (ip[0] & 15) * 4;
	return 0;
}

static __always_inline int read_ipv6(struct flow_record *record, struct headers *headers, const void *at)
{
	__u32 offset = 40;
	__u8 ip[40], next[8];

	if (bpf_probe_read_kernel(ip, sizeof ip, at) || ip[0] >> 4 != 6)
		return -1;
	record->family = 6;
	record->protocol = ip[6];
	__builtin_memcpy(record->source_ip, ip + 8, 16);
	__builtin_memcpy(record->destination_ip, ip + 24, 16);
	headers->ip_length = (ip[4] << 8 | ip[5]) + 40;
	for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
		__u8 kind = record->protocol;

		if (kind != IPPROTO_HOPOPTS && kind != IPPROTO_ROUTING && kind != IPPROTO_DSTOPTS &&
		    kind != IPPROTO_FRAGMENT)
			break;
		if (bpf_probe_read_kernel(next, sizeof next, at + offset))
			return -1;
		record->protocol = next[0];
		if (kind == IPPROTO_FRAGMENT) {
			offset += 8;
			if (next[2] | (next[3] & 0xf8)) {
				offset = 0;
				break;
			}
		} else {
			offset += (next[1] + 1) * 8;
		}
	}
	headers->transport = offset;
	return 0;
}

static __always_inline void read_transport(struct flow_record *record, const struct headers *headers, const void *at)
{
	__u8 bytes[14];

	if (!headers->transport)
		return;
	at += headers->transport;
	switch (record->protocol) {
	case IPPROTO_TCP:
		if (!bpf_probe_read_kernel(bytes, 14, at)) {
			record->tcp_flags = bytes[13] | (bytes[12] & 1) << 8;
			record->present |= TCP_FLAGS;
			break;
		}
		return;
	case IPPROTO_UDP:
	case IPPROTO_SCTP:
		if (bpf_probe_read_kernel(bytes, 4, at))
			return;
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		if (!bpf_probe_read_kernel(bytes, 2, at)) {
			record->icmp_type = bytes[0];
			record->icmp_code = bytes[1];
			record->present |= ICMP;
		}
		return;
	default:
		return;
	}
	record->source_port = bytes[0] << 8 | bytes[1];
	record->destination_port = bytes[2] << 8 | bytes[3];
}

static __always_inline __u32 look_up(const __u8 *ip, __u32 *number, __u32 *identity)
{
	struct lpm_address address = {.length = 128};
	struct endpoint *endpoint;

	__builtin_memcpy(address.address, ip, 16);
	endpoint = bpf_map_lookup_elem(&ipcache, &address);
	if (!endpoint)
		return 0;
	*number = endpoint->number;
	*identity = endpoint->identity;
	return endpoint->flags;
}

static __always_inline void tell(struct sk_buff *skb, const void *location, __u32 number, const struct reason *reason)
{
	const void *network = skb->head + skb->network_header;
	struct flow_record *record = bpf_ringbuf_reserve(&events, sizeof *record, 0);
	__u32 zero = 0, source, destination;
	struct headers headers = {};
	struct settings *now;
	struct net_device *device;

	if (!record) {
		count(COUNT_EVENTS_FULL);
		return;
	}
	__builtin_memset(record, 0, sizeof *record);
	if (skb->protocol == bpf_htons(ETH_P_IP) ? read_ipv4(record, &headers, network)
						 : read_ipv6(record, &headers, network)) {
		bpf_ringbuf_discard(record, 0);
		return;
	}
	read_transport(record, &headers, network);
	now = bpf_map_lookup_elem(&settings, &zero);
	record->time_ns = bpf_ktime_get_ns() + (now ? now->wall_ns : 0);
	device = skb->dev;
	if (device)
		record->ifindex = device->ifindex;
	source = look_up(record->source_ip, &record->source_endpoint, &record->source_identity);
	destination = look_up(record->destination_ip, &record->destination_endpoint, &record->destination_identity);
	record->direction = destination & ENDPOINT_MANAGED ? 1 : source & ENDPOINT_MANAGED ? 2 : 0;
	record->bytes = headers.ip_length;
	record->packets = 1;
	record->present |= COUNTERS;
	record->type = TYPE_L3_L4;
	record->event_type = DROP_EVENT;
	record->verdict = VERDICT_DROPPED;
	record->drop_reason = number;
	record->drop_reason_desc = reason->description;
	record->sub_type = reason->description ? reason->description : OTHER_DROP;
	/* Where in the kernel, for its symbol: user space takes it out again. */
	record->text_length[0] = sizeof location;
	__builtin_memcpy(record->text, &location, sizeof location);
	bpf_ringbuf_submit(record, 0);
	count(COUNT_TOLD);
}

SEC("tp_btf/kfree_skb")
int BPF_PROG(flowscope_drop, struct sk_buff *skb, void *location, __u32 number)
{
	__u32 key = number & (MAX_REASONS - 1);
	struct reason *reason;

	if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
		return 0;
	/* Reasons of a subsystem of its own (Open vSwitch, 802.11) have its number in the upper half: named by nobody. */
	if (number >= MAX_REASONS)
		key = 0;
	reason = bpf_map_lookup_elem(&reasons, &key);
	if (!reason || (number < MAX_REASONS && reason->quiet))
		return 0;
	if (reason->by_tc && take_refusal())
		return 0;
	tell(skb, location, number, reason);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
