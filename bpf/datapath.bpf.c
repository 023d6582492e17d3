// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Every packet of the node's workloads: parsed, tracked, judged, read at L7 and told. One path for both hooks of a
 * host-side interface, and for captures, which user space runs through it frame by frame (BPF_PROG_TEST_RUN). Needs no
 * kernel structures, so no BTF of the running kernel. */
#include "maps.h"

#include <linux/pkt_cls.h>

#include "conn.h"
#include "http.h"
#include "http2.h"
#include "kafka.h"
#include "message.h"
#include "packet.h"
#include "policy.h"
#include "refusal.h"
#include "snapshot.h"

/* What replay gets for a frame that user space has to read. */
#define REPLAY_ELSEWHERE 100
#define REPLAY_TUNNEL 101

/* Where the unread part of a segment lies, seen from what was read before. */
enum { SEGMENT_NOTHING, SEGMENT_IN_ORDER, SEGMENT_BEHIND_HOLE };

/* The largest window there is (RFC 7323, 2.3); what lies beyond it no receiver takes. */
#define MAX_AHEAD (1 << 30)

/* From scratch.at to scratch.end: the octets of this segment that were not read yet. What comes twice is passed over;
 * of an overlap the first copy counts. */
static __always_inline int find_unread(struct scratch *s, struct direction *d)
{
	const struct packet *packet = &s->packet;
	__u32 size = packet->payload_length + packet->payload_missing;
	__u32 sequence = packet->sequence + !!(packet->tcp_flags & TCP_SYN);
	__s32 ahead;

	s->at = packet->payload;
	s->end = packet->payload + packet->payload_length;
	if (!size)
		return SEGMENT_NOTHING;
	synchronise(d, sequence);
	ahead = sequence - d->next_sequence;
	if (ahead > 0)
		return ahead > MAX_AHEAD ? SEGMENT_NOTHING : SEGMENT_BEHIND_HOLE;
	if ((__u32)-ahead >= size)
		return SEGMENT_NOTHING;
	s->at += -ahead;
	if (s->at > s->end)
		s->at = s->end;
	return SEGMENT_IN_ORDER;
}

/* Pass over a body, also where a part of it is missing: nothing in it is looked at. 1 if all of the segment is in it. */
static __always_inline int pass_over(struct scratch *s, struct direction *d, int found)
{
	const struct packet *packet = &s->packet;
	__u32 next = packet->sequence + packet->payload_length + packet->payload_missing;
	__u64 size = next - d->next_sequence;

	if (size <= d->left) {
		d->left -= size;
		d->next_sequence = next;
		return 1;
	}
	if (found != SEGMENT_IN_ORDER || packet->payload_missing)
		return 0;
	s->at += d->left;
	d->left = 0;
	return 0;
}

/* Who speaks what, by the first octets of either side. What is not clear at once user space decides. */
static __noinline void decide(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	int side;

	load_payload(skb, s);
	if ((side = http_detect()))
		c->l7 = L7_HTTP1;
	else if ((side = http2_detect(skb, s, c)))
		c->l7 = L7_HTTP2;
	else if ((side = kafka_detect(skb, s, c)))
		c->l7 = L7_KAFKA;
	else
		return;
	if (side - 1 != s->packet.sender) {
		if (c->roles == ROLES_KNOWN) {
			c->l7 = L7_UNDECIDED; /* a server that asks over a connection that it was given: rare */
			return;
		}
		swap_roles(s, c);
	}
	c->roles = ROLES_KNOWN;
}

static __always_inline int read_l7(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	switch (c->l7) {
	case L7_HTTP1:
		return http_read(skb, c);
	case L7_KAFKA:
		return kafka_read(skb, s, c);
	case L7_HTTP2:
		return http2_read(skb, s, c);
	default:
		return READ_HAND_OVER;
	}
}

/* Remember where what must not pass begins: its retransmissions are refused too. */
static __always_inline int refuse_from(struct direction *d, __u32 sequence)
{
	d->has_refused = 1;
	d->refused_sequence = sequence;
	d->next_sequence = sequence;
	return 1;
}

/* Read a TCP segment; 1 where it must not pass. */
static __noinline int read_segment(struct __sk_buff *skb, struct scratch *s, struct connection *c, int found,
				   int is_told)
{
	const struct packet *packet = &s->packet;
	struct direction *d = &c->directions[packet->sender & 1];
	__u32 start = d->next_sequence;
	int result;

	if (found == SEGMENT_NOTHING)
		return 0;
	if (c->l7 != L7_UNDECIDED && pass_over(s, d, found))
		return 0;
	if (found == SEGMENT_BEHIND_HOLE || packet->payload_missing) {
		/* It comes again behind what is missing, and is read then: in user space nothing can be refused. */
		if (refuses(s) && (c->decision.egress_l7 | c->decision.ingress_l7))
			return 1;
		if (c->l7 == L7_KAFKA)
			kafka_abandon(s, c);
		s->at = packet->payload;
		hand_over(skb, c, SNAPSHOT_GAP, is_told);
		tells_of_hole(packet, c);
		return 0;
	}
	s->hand_over = SNAPSHOT_UNDECIDED;
	if (c->l7 == L7_UNDECIDED) {
		result = READ_HAND_OVER;
	} else {
		load_payload(skb, s);
		result = read_l7(skb, s, c);
	}
	d->next_sequence = packet->sequence + !!(packet->tcp_flags & TCP_SYN) + packet->payload_length;
	if (result == READ_REFUSED)
		return refuse_from(d, start);
	if (result == READ_OPAQUE)
		c->l7 = L7_OPAQUE;
	if (result != READ_HAND_OVER)
		return 0;
	if (refuses(s) && (c->decision.egress_l7 | c->decision.ingress_l7)) {
		/* What cannot be read cannot be allowed. */
		begin_message(s);
		s->judgement.undecided = 1;
		put_judgement(s, c);
		s->record.type = FLOW_L3_L4;
		s->record.event_type = EVENT_DROP;
		s->record.sub_type = INVALID_PACKET;
		tell(s);
		return refuse_from(d, start);
	}
	d->next_sequence -= s->end - s->at;
	hand_over(skb, c, s->hand_over, is_told);
	d->next_sequence += s->end - s->at;
	return 0;
}

/* Another connection takes the place of one that was handed over. */
static __always_inline void push_end(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	s->at = s->end = s->packet.payload;
	begin_record(skb, s, c);
	push_snapshot(skb, c, SNAPSHOT_END, 0);
}

/* The connection of the packet, counted; NULL where there is no room for it. */
static __noinline struct connection *track(struct __sk_buff *skb, struct scratch *s, int *told)
{
	struct packet *packet = &s->packet;
	__u8 end = make_tuple(&s->tuple, packet);
	struct connection *c = bpf_map_lookup_elem(&connections, &s->tuple);
	struct direction *d;

	*told = 0;
	if (c) {
		packet->sender = end == c->client ? CLIENT : SERVER;
		if (needs_look(packet, &c->directions[packet->sender & 1]))
			*told = look(packet, c);
		if (*told & LOOK_ENDED) {
			if (c->l7 == L7_USER && c->ifindex == skb->ifindex)
				push_end(skb, s, c);
			c = NULL;
		}
	}
	if (!c) {
		c = open_connection(skb, s, end);
		if (!c)
			return NULL;
		*told = LOOK_TELL;
	}
	if (c->ifindex != skb->ifindex)
		return c;
	d = &c->directions[packet->sender & 1];
	if (packet->time_ns > c->last_ns)
		c->last_ns = packet->time_ns;
	if (packet->frame & FRAME_PART) {
		*told = 0;
	} else {
		d->packets++;
		d->bytes += packet->ip_length;
	}
	return c;
}

/* By the policies in force; an ICMP error is let through, or not, with the connection that it is about. */
static __noinline void judge(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	if (!c->related)
		policy_connection(skb, s, c);
}

static __always_inline int refuse(void)
{
	count(COUNT_REFUSED);
	mark_refusal();
	return TC_ACT_SHOT;
}

/* One packet from end to end: the verdict of a TC program. */
static __always_inline int take_packet(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct scratch *s = scratch();
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	int told, found, refused = 0;
	struct connection *c;
	struct packet *packet;
	struct direction *d;

	if (!s || !set)
		return TC_ACT_UNSPEC;
	count(COUNT_SEEN);
	packet = &s->packet;
	s->replay = set->replay;
	s->enforce = set->enforce;
	packet->time_ns = set->replay ? skb->tstamp : bpf_ktime_get_ns() + set->wall_ns;
	packet->frame = set->replay ? skb->cb[1] : 0;
	found = read_packet(skb, s);
	if (found) {
		if (set->replay)
			return found == PACKET_TUNNEL ? REPLAY_TUNNEL : REPLAY_ELSEWHERE;
		if (found == PACKET_UNREADABLE)
			count(COUNT_UNREADABLE);
		return TC_ACT_UNSPEC;
	}
	if (set->replay && skb->cb[0])
		packet->ip_length = skb->cb[0];
	c = track(skb, s, &told);
	if (!c)
		return TC_ACT_UNSPEC;
	if (c->decision.revision != set->revision)
		judge(skb, s, c);
	if (set->enforce && !set->replay) {
		d = &c->directions[packet->sender & 1];
		if (d->has_refused &&
		    (__s32)(packet->sequence + packet->payload_length - d->refused_sequence) > 0)
			refused = 1;
		refused |= c->decision.refused;
	}
	if (c->ifindex != skb->ifindex)
		return refused ? refuse() : TC_ACT_UNSPEC; /* another hook tells */
	if (refused) {
		if (told) {
			begin_record(skb, s, c);
			tell_packet(s, c);
		}
		return refuse();
	}
	found = SEGMENT_NOTHING;
	if (packet->protocol == IPPROTO_TCP && c->l7 < L7_USER) {
		found = find_unread(s, &c->directions[packet->sender & 1]);
		if (found == SEGMENT_IN_ORDER && c->l7 == L7_UNDECIDED && !packet->payload_missing)
			decide(skb, s, c);
	}
	if (c->l7 == L7_USER || (packet->protocol == IPPROTO_UDP && wants_datagram(packet, c))) {
		pass_on(skb, s, c, told);
		return TC_ACT_UNSPEC;
	}
	if (!told && found == SEGMENT_NOTHING)
		return TC_ACT_UNSPEC;
	begin_record(skb, s, c);
	if (told && found != SEGMENT_NOTHING && c->l7 == L7_UNDECIDED)
		note_told(packet, &c->directions[packet->sender & 1]); /* user space tells it */
	else if (told)
		tell_packet(s, c);
	if (found != SEGMENT_NOTHING && read_segment(skb, s, c, found, told && c->l7 == L7_UNDECIDED))
		return refuse();
	if (c->l7 == L7_KAFKA && packet->tcp_flags & (TCP_FIN | TCP_RST))
		kafka_abandon(s, c);
	return TC_ACT_UNSPEC;
}

SEC("tc")
int flowscope_in(struct __sk_buff *skb)
{
	return take_packet(skb);
}

SEC("tc")
int flowscope_out(struct __sk_buff *skb)
{
	return take_packet(skb);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
