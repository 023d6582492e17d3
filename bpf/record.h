/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The fixed part of a flow: the same 504 bytes as RECORD in observer/record.py, which explains each field and holds
 * the enums. With the ring's 8-byte header a slot is 512 bytes, so user space reads the ring as an array in place. */
#pragma once

#include <linux/types.h>

#define FLOW_TEXT_SIZE 304
#define FLOW_TEXT_SLOTS 4

struct flow_record {
	__u64 time_ns;
	__u64 latency_ns;
	__u64 bytes;
	__u64 cookie;
	__u64 cgroup_id;
	__u64 connection;
	__u32 packets;
	__u32 pid;
	__u32 ifindex;
	__u32 source_endpoint;
	__u32 destination_endpoint;
	__u32 source_identity;
	__u32 destination_identity;
	__u32 egress_rule;
	__u32 ingress_rule;
	__u32 l7_id;
	__u32 present;
	__u32 flags;
	__u32 drop_reason;
	__u32 tunnel_id;
	__u8 source_ip[16];
	__u8 destination_ip[16];
	__u8 source_mac[6];
	__u8 destination_mac[6];
	__u16 source_port;
	__u16 destination_port;
	__u16 vlan;
	__u16 tcp_flags;
	__u16 drop_reason_desc;
	__u16 l7_code;
	__u16 l7_version;
	__u16 l7_method;
	__u8 family;
	__u8 protocol;
	__u8 type;
	__u8 event_type;
	__u8 sub_type;
	__u8 verdict;
	__u8 direction;
	__u8 is_reply;
	__u8 l7_kind;
	__u8 l7_type;
	__u8 policy_match;
	__u8 grpc_status;
	__u8 trace_reason;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 tunnel;
	__u8 text_length[FLOW_TEXT_SLOTS];
	char comm[16];
	char text[FLOW_TEXT_SIZE];
};
