/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* From a frame to scratch.packet: Ethernet with VLAN tags, IPv4, IPv6 with extension headers, the headers of TCP, UDP,
 * SCTP and ICMP (RFC 791, 8200, 9293). Reads headers by the rules of observer/decode.py and observer/ip.py. In replay
 * fragments and tunnels are left to them; live, the first fragment says with its ports whose all are. Knows nothing of
 * connections. */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "maps.h"

#define MAX_VLANS 4
#define MAX_EXTENSIONS 12
#define VLAN_ID 0x0fff
#define IP_MORE 0x2000
#define IP_OFFSET 0x1fff
#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16
#define TCP_URG 32
#define TCP_FLAG_BITS 0x01ff

enum { ICMP_ECHO_REPLY = 0, ICMP_ECHO_REQUEST = 8, ICMPV6_ECHO_REQUEST = 128, ICMPV6_ECHO_REPLY = 129 };

enum { NEXT_HOP_BY_HOP = 0, NEXT_ROUTING = 43, NEXT_FRAGMENT = 44, NEXT_AH = 51, NEXT_NONE = 59, NEXT_OPTIONS = 60,
       NEXT_MOBILITY = 135, NEXT_HIP = 139, NEXT_SHIM6 = 140 };

enum { PACKET_READ, PACKET_ELSEWHERE, PACKET_UNREADABLE, PACKET_TUNNEL };

/* Headers as they stand in the frame, without what nobody reads. */
struct ethernet {
	__u8 destination[6];
	__u8 source[6];
	__be16 type;
};

struct tag {
	__be16 control;
	__be16 type;
};

struct ipv4 {
	__u8 version;
	__u8 service;
	__be16 length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__be16 checksum;
	__u32 source;
	__u32 destination;
};

struct ipv6 {
	__be32 version;
	__be16 length;
	__u8 next;
	__u8 hops;
	__u64 source[2];
	__u64 destination[2];
};

struct extension {
	__u8 next;
	__u8 length;
	__be16 field;
	__be32 id;
};

struct tcp {
	__be16 source;
	__be16 destination;
	__be32 sequence;
	__be32 acknowledgment;
	__be16 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

struct udp {
	__be16 source;
	__be16 destination;
	__be16 length;
	__be16 checksum;
};

struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be16 id;
	__be16 sequence;
};

/* Where reading is: from which octet of the frame on, and what is there. */
struct cursor {
	__u32 at;
	__u32 ip_end;
	__u16 type;
	__u8 protocol;
};

static __always_inline int is_extension(__u8 family, __u8 protocol)
{
	switch (protocol) {
	case NEXT_HOP_BY_HOP:
	case NEXT_ROUTING:
	case NEXT_FRAGMENT:
	case NEXT_OPTIONS:
	case NEXT_MOBILITY:
	case NEXT_HIP:
	case NEXT_SHIM6:
		return family == 6;
	case NEXT_AH:
		return 1;
	default:
		return 0;
	}
}

/* What observer/tunnel.py may enter: the bytes decide, and it reads them. */
static __always_inline int announces_tunnel(__u8 protocol, __u16 port)
{
	switch (protocol) {
	case IPPROTO_IPIP:
	case IPPROTO_IPV6:
	case IPPROTO_GRE:
	case 137: /* MPLS in IP */
		return 1;
	case IPPROTO_UDP:
		return port == 4789 || port == 8472 || port == 4790 || port == 6081 || port == 2152 || port == 4754 ||
		       port == 6635;
	default:
		return 0;
	}
}

/* Ethernet and its tags, up to the IP header. */
static __always_inline int read_ethernet(struct __sk_buff *skb, struct packet *packet, struct cursor *cursor)
{
	struct ethernet ethernet;

	if (bpf_skb_load_bytes(skb, 0, &ethernet, sizeof(ethernet)))
		return PACKET_UNREADABLE;
	__builtin_memcpy(packet->source_mac, ethernet.source, 6);
	__builtin_memcpy(packet->destination_mac, ethernet.destination, 6);
	packet->vlan = skb->vlan_present ? skb->vlan_tci & VLAN_ID : 0;
	cursor->at = sizeof(ethernet);
	cursor->type = bpf_ntohs(ethernet.type);
	for (int depth = 0; depth < MAX_VLANS; depth++) {
		struct tag tag;

		if (cursor->type != ETH_P_8021Q && cursor->type != ETH_P_8021AD && cursor->type != 0x9100 &&
		    cursor->type != 0x9200)
			return PACKET_READ;
		if (bpf_skb_load_bytes(skb, cursor->at, &tag, sizeof(tag)))
			return PACKET_UNREADABLE;
		if (!depth && !skb->vlan_present)
			packet->vlan = bpf_ntohs(tag.control) & VLAN_ID; /* the outermost */
		cursor->at += sizeof(tag);
		cursor->type = bpf_ntohs(tag.type);
	}
	return PACKET_UNREADABLE;
}

static __always_inline int read_ipv4(struct __sk_buff *skb, struct scratch *s, struct cursor *cursor)
{
	struct packet *packet = &s->packet;
	static const __u8 mapped[12] = { [10] = 0xff, [11] = 0xff };
	struct ipv4 header;
	__u32 length, size;

	if (bpf_skb_load_bytes(skb, cursor->at, &header, sizeof(header)))
		return PACKET_UNREADABLE;
	size = (header.version & 15) * 4;
	length = bpf_ntohs(header.length);
	if (!length) /* segmentation left to the card, or more than 65,535 octets */
		length = skb->len - cursor->at;
	if (header.version >> 4 != 4 || size < sizeof(header) || cursor->at + size > skb->len || length < size)
		return PACKET_UNREADABLE;
	if (header.fragment & bpf_htons(IP_OFFSET) || (header.fragment & bpf_htons(IP_MORE) && s->replay))
		return PACKET_ELSEWHERE;
	packet->is_fragment = !!(header.fragment & bpf_htons(IP_MORE));
	packet->family = 4;
	packet->ip_length = length;
	__builtin_memcpy(packet->source_ip, mapped, 12);
	__builtin_memcpy(packet->source_ip + 12, &header.source, 4);
	__builtin_memcpy(packet->destination_ip, mapped, 12);
	__builtin_memcpy(packet->destination_ip + 12, &header.destination, 4);
	cursor->ip_end = cursor->at + length;
	cursor->at += size;
	cursor->protocol = header.protocol;
	return PACKET_READ;
}

static __always_inline int read_ipv6(struct __sk_buff *skb, struct scratch *s, struct cursor *cursor)
{
	struct packet *packet = &s->packet;
	struct ipv6 header;
	__u32 length;

	if (bpf_skb_load_bytes(skb, cursor->at, &header, sizeof(header)))
		return PACKET_UNREADABLE;
	if (bpf_ntohl(header.version) >> 28 != 6)
		return PACKET_UNREADABLE;
	length = bpf_ntohs(header.length) + sizeof(header);
	if (length == sizeof(header) && header.next != NEXT_NONE) {
		if (s->replay && !(packet->frame & FRAME_PLAIN))
			return PACKET_ELSEWHERE; /* a jumbogram's own length may be less than the frame's */
		length = skb->len - cursor->at;
	}
	packet->family = 6;
	packet->ip_length = length;
	__builtin_memcpy(packet->source_ip, header.source, 16);
	__builtin_memcpy(packet->destination_ip, header.destination, 16);
	cursor->ip_end = cursor->at + length;
	cursor->at += sizeof(header);
	cursor->protocol = header.next;
	return PACKET_READ;
}

/* Pass over extension headers. */
static __noinline int read_extensions(struct __sk_buff *skb, struct scratch *s, struct cursor *cursor)
{
	struct packet *packet = &s->packet;
	__u32 end = cursor->ip_end < skb->len ? cursor->ip_end : skb->len;

	for (int depth = 0; depth < MAX_EXTENSIONS; depth++) {
		struct extension header;

		if (!is_extension(packet->family, cursor->protocol))
			return PACKET_READ;
		if (cursor->at + sizeof(header) > end || bpf_skb_load_bytes(skb, cursor->at, &header, sizeof(header)))
			return PACKET_UNREADABLE;
		if (cursor->protocol == NEXT_AH)
			cursor->at += (header.length + 2) * 4;
		else if (cursor->protocol != NEXT_FRAGMENT)
			cursor->at += (header.length + 1) * 8;
		else if (header.field & bpf_htons(0xfff8) || (header.field & bpf_htons(1) && s->replay))
			return PACKET_ELSEWHERE;
		else
			cursor->at += sizeof(header);
		if (cursor->protocol == NEXT_FRAGMENT)
			packet->is_fragment |= !!(header.field & bpf_htons(1)); /* or all in one, RFC 6946 */
		cursor->protocol = header.next;
	}
	return is_extension(packet->family, cursor->protocol) ? PACKET_UNREADABLE : PACKET_READ;
}

/* Where the payload is, between the end of the L4 header and that of the packet. */
static __always_inline void bound_payload(struct __sk_buff *skb, struct packet *packet, __u32 start, __u32 ip_end)
{
	__u32 end = ip_end < skb->len ? ip_end : skb->len;
	__u32 known = end > start ? end : start;

	packet->payload_missing = ip_end > known ? ip_end - known : 0;
	packet->payload = start < end ? start : end;
	packet->payload_length = end - packet->payload;
}

static __always_inline int read_tcp(struct __sk_buff *skb, struct packet *packet, const struct cursor *cursor)
{
	struct tcp header;
	__u16 flags;
	__u32 size;

	if (cursor->at + sizeof(header) > cursor->ip_end || bpf_skb_load_bytes(skb, cursor->at, &header, sizeof(header)))
		return PACKET_UNREADABLE;
	flags = bpf_ntohs(header.flags);
	size = (flags >> 12) * 4;
	if (size < sizeof(header) || cursor->at + size > cursor->ip_end)
		return PACKET_UNREADABLE;
	packet->source_port = header.source;
	packet->destination_port = header.destination;
	packet->sequence = bpf_ntohl(header.sequence);
	packet->acknowledgment = bpf_ntohl(header.acknowledgment);
	packet->tcp_flags = flags & TCP_FLAG_BITS;
	bound_payload(skb, packet, cursor->at + size, cursor->ip_end);
	return PACKET_READ;
}

static __always_inline int read_udp(struct __sk_buff *skb, struct packet *packet, const struct cursor *cursor)
{
	__u32 ip_end = cursor->ip_end;
	struct udp header;
	__u16 length;

	if (cursor->at + sizeof(header) > ip_end || bpf_skb_load_bytes(skb, cursor->at, &header, sizeof(header)))
		return PACKET_UNREADABLE;
	length = bpf_ntohs(header.length);
	if (length && length < sizeof(header))
		return PACKET_UNREADABLE;
	if (length && cursor->at + length < ip_end) /* 0: a jumbogram, or segmentation left to the card */
		ip_end = cursor->at + length;
	packet->source_port = header.source;
	packet->destination_port = header.destination;
	bound_payload(skb, packet, cursor->at + sizeof(header), ip_end);
	return PACKET_READ;
}

static __always_inline int read_sctp(struct __sk_buff *skb, struct packet *packet, const struct cursor *cursor)
{
	struct udp header; /* ports stand at the same place; 12 octets in all */

	if (cursor->at + 12 > cursor->ip_end || cursor->at + 12 > skb->len ||
	    bpf_skb_load_bytes(skb, cursor->at, &header, sizeof(header)))
		return PACKET_UNREADABLE;
	packet->source_port = header.source;
	packet->destination_port = header.destination;
	bound_payload(skb, packet, cursor->at + 12, cursor->ip_end);
	return PACKET_READ;
}

static __always_inline int is_echo(const struct packet *packet)
{
	if (packet->protocol == IPPROTO_ICMP)
		return packet->icmp_type == ICMP_ECHO_REQUEST || packet->icmp_type == ICMP_ECHO_REPLY;
	return packet->protocol == IPPROTO_ICMPV6 && packet->icmp_type >> 1 == ICMPV6_ECHO_REQUEST >> 1;
}

/* Ports: the echo's identifier twice, else type and code, and their complement, so that it is no echo's. */
static __always_inline int read_icmp(struct __sk_buff *skb, struct packet *packet, const struct cursor *cursor)
{
	__u32 end = cursor->ip_end < skb->len ? cursor->ip_end : skb->len;
	struct icmp header = {};
	__u32 size = 8;

	if (cursor->at + 4 > end || bpf_skb_load_bytes(skb, cursor->at, &header, 4))
		return PACKET_UNREADABLE;
	if (cursor->at + 8 > end)
		size = end - cursor->at;
	else if (bpf_skb_load_bytes(skb, cursor->at, &header, sizeof(header)))
		return PACKET_UNREADABLE;
	packet->icmp_type = header.type;
	packet->icmp_code = header.code;
	if (is_echo(packet)) {
		packet->source_port = packet->destination_port = header.id;
	} else {
		packet->source_port = bpf_htons(header.type << 8 | header.code);
		packet->destination_port = ~packet->source_port;
	}
	bound_payload(skb, packet, cursor->at + size, cursor->ip_end);
	return PACKET_READ;
}

/* Read a frame of Ethernet, IPv4 without options and TCP where it lies: most are such, and calls cost more than that.
 * 0 where it is another, or where something about it is not as usual. */
static __always_inline int read_plain(struct __sk_buff *skb, struct packet *packet)
{
	const struct ethernet *ethernet = (void *)(long)skb->data;
	const struct ipv4 *ip = (void *)(ethernet + 1);
	const struct tcp *tcp = (void *)(ip + 1);
	__u32 length, size;
	__u16 flags;

	if ((void *)(tcp + 1) > (void *)(long)skb->data_end)
		return 0;
	length = bpf_ntohs(ip->length);
	flags = bpf_ntohs(tcp->flags);
	size = (flags >> 12) * 4;
	if (ethernet->type != bpf_htons(ETH_P_IP) || ip->version != 0x45 || skb->vlan_present ||
	    ip->protocol != IPPROTO_TCP || ip->fragment & bpf_htons(IP_OFFSET | IP_MORE) || size < sizeof(struct tcp) ||
	    length < sizeof(struct ipv4) + size)
		return 0;
	__builtin_memcpy(packet->source_mac, ethernet->source, 6);
	__builtin_memcpy(packet->destination_mac, ethernet->destination, 6);
	packet->vlan = 0;
	packet->is_fragment = 0;
	packet->family = 4;
	packet->protocol = IPPROTO_TCP;
	packet->ip_length = length;
	((__u64 *)packet->source_ip)[0] = ((__u64 *)packet->destination_ip)[0] = 0;
	((__u32 *)packet->source_ip)[2] = ((__u32 *)packet->destination_ip)[2] = bpf_htonl(0xffff);
	((__u32 *)packet->source_ip)[3] = ip->source;
	((__u32 *)packet->destination_ip)[3] = ip->destination;
	packet->source_port = tcp->source;
	packet->destination_port = tcp->destination;
	packet->sequence = bpf_ntohl(tcp->sequence);
	packet->acknowledgment = bpf_ntohl(tcp->acknowledgment);
	packet->tcp_flags = flags & TCP_FLAG_BITS;
	bound_payload(skb, packet, sizeof(struct ethernet) + sizeof(struct ipv4) + size,
		      sizeof(struct ethernet) + length);
	return 1;
}

/* Read any other frame. */
static __noinline int read_any(struct __sk_buff *skb, struct scratch *s)
{
	struct packet *packet = &s->packet;
	struct cursor cursor = {};
	int found;

	packet->sequence = packet->acknowledgment = 0;
	packet->tcp_flags = 0;
	packet->source_port = packet->destination_port = 0;
	packet->icmp_type = packet->icmp_code = 0;
	packet->is_fragment = 0;
	found = read_ethernet(skb, packet, &cursor);
	if (found)
		return found;
	if (cursor.type == ETH_P_IP)
		found = read_ipv4(skb, s, &cursor);
	else if (cursor.type == ETH_P_IPV6)
		found = read_ipv6(skb, s, &cursor);
	else
		return PACKET_ELSEWHERE; /* no IP, or behind a header that is rare */
	if (!found && is_extension(packet->family, cursor.protocol))
		found = read_extensions(skb, s, &cursor);
	if (found)
		return found;
	if (cursor.ip_end < cursor.at)
		return PACKET_UNREADABLE;
	packet->protocol = cursor.protocol;
	switch (cursor.protocol) {
	case IPPROTO_TCP:
		found = read_tcp(skb, packet, &cursor);
		break;
	case IPPROTO_UDP:
		found = read_udp(skb, packet, &cursor);
		break;
	case IPPROTO_SCTP:
		found = read_sctp(skb, packet, &cursor);
		break;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		found = read_icmp(skb, packet, &cursor);
		break;
	default:
		bound_payload(skb, packet, cursor.at, cursor.ip_end);
	}
	if (!found && s->replay && !(packet->frame & FRAME_PLAIN) &&
	    announces_tunnel(packet->protocol, bpf_ntohs(packet->destination_port)))
		return PACKET_TUNNEL;
	return found;
}

/* Read the frame into scratch.packet. */
static __always_inline int read_packet(struct __sk_buff *skb, struct scratch *s)
{
	return read_plain(skb, &s->packet) ? PACKET_READ : read_any(skb, s);
}
