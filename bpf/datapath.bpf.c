// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Every packet of the node's workloads: parsed, tracked, judged, read at L7 and told. One program for both hooks of a
 * host-side interface, and for captures, which user space runs through it frame by frame (BPF_PROG_TEST_RUN). Needs no
 * kernel structures, so no BTF of the running kernel.
 *
 * A call costs some 6 ns where processors are kept from speculating behind returns, so what each packet does is inline:
 * __noinline is what is rare, or would take too much of the verifier's time, or of the stack: kernels that round each
 * frame up to 32 octets count 448 of 512 at the deepest, in Kafka's client id that policy asks for. */
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

/* What becomes of a segment that has to be read before it passes; UNREADABLE: refused, and nobody was told why. */
enum { SEGMENT_PASSES, SEGMENT_REFUSED, SEGMENT_UNREADABLE };

/* The largest window there is (RFC 7323, 2.3); what lies beyond it no receiver takes. */
#define MAX_AHEAD (1 << 30)

/* The sequence number behind the packet's octets. */
static __always_inline __u32 next_sequence(const struct packet *packet)
{
	return packet->sequence + !!(packet->tcp_flags & TCP_SYN) + packet->payload_length + packet->payload_missing;
}

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

#define PASSES 4 /* tries to pass over a segment while another CPU does the same */

/* Pass over a body, also where a part of it is missing: nothing in it is looked at. 1 if all of the segment is in it. */
static __always_inline int pass_over(struct scratch *s, struct direction *d, int found)
{
	const struct packet *packet = &s->packet;
	__u32 next = next_sequence(packet);

	/* The sender may have moved, and two CPUs see this direction at once: each takes what the other has not. */
	for (int i = 0; i < PASSES; i++) {
		__u32 known = *(volatile __u32 *)&d->next_sequence;
		__s32 size = next - known;

		if (size <= 0)
			return 1;
		if ((__u64)size > d->left)
			break;
		if (__sync_val_compare_and_swap(&d->next_sequence, known, next) == known) {
			__sync_fetch_and_add(&d->left, -(__u64)size);
			return 1;
		}
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
		if (c->roles == ROLES_KNOWN || must_be_read(s, c)) {
			/* A server that asks over a connection that it was given: rare. Or a client that plays server. */
			c->l7 = L7_UNDECIDED;
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

/* Remember from where on nothing passes, and why: retransmissions are refused too. */
static __always_inline void refuse_from(struct direction *d, __u32 sequence, __u8 why)
{
	d->has_refused = why;
	d->refused_sequence = sequence;
	d->next_sequence = sequence;
}

/* Read a segment of a connection of which nothing passes unread. Octets that lie in pages that their sender can still
 * write to (sendfile) are copied first: what was judged is what arrives. What is refused is read again as if it had not
 * come when other policies hold (forget_refusals), so nothing of it may stay in the parser's state. */
static __always_inline int judge_segment(struct __sk_buff *skb, struct scratch *s, struct connection *c, int found)
{
	const struct packet *packet = &s->packet;
	struct direction *d = &c->directions[packet->sender & 1];
	__u32 start = d->next_sequence;
	int result;

	if (found == SEGMENT_NOTHING || (c->l7 != L7_UNDECIDED && pass_over(s, d, found)))
		return SEGMENT_PASSES;
	/* It comes again behind what is missing, and is read then. */
	if (found == SEGMENT_BEHIND_HOLE || packet->payload_missing || bpf_skb_pull_data(skb, s->end))
		return SEGMENT_REFUSED;
	s->fresh.directions[CLIENT] = *d;
	__builtin_memcpy(s->fresh.parser, c->parser, sizeof(c->parser));
	result = READ_HAND_OVER;
	if (c->l7 != L7_UNDECIDED) {
		load_payload(skb, s);
		result = read_l7(skb, s, c);
	}
	if (result == READ) {
		d->next_sequence = next_sequence(packet);
		return SEGMENT_PASSES;
	}
	*d = s->fresh.directions[CLIENT];
	__builtin_memcpy(c->parser, s->fresh.parser, sizeof(c->parser));
	if (result == READ_REFUSED && s->record.drop_reason_desc == POLICY_DENIED) {
		refuse_from(d, start, s->record.direction);
		return SEGMENT_REFUSED;
	}
	/* What cannot be read cannot be allowed; as a request it was told already where it was known to be one. */
	refuse_from(d, start, UNREAD);
	return result == READ_REFUSED ? SEGMENT_REFUSED : SEGMENT_UNREADABLE;
}

/* Read a TCP segment. */
static __always_inline void read_segment(struct __sk_buff *skb, struct scratch *s, struct connection *c, int found,
				   int is_told)
{
	const struct packet *packet = &s->packet;
	struct direction *d = &c->directions[packet->sender & 1];
	int result = READ_HAND_OVER;

	if (c->l7 != L7_UNDECIDED && pass_over(s, d, found))
		return;
	if (found == SEGMENT_BEHIND_HOLE || packet->payload_missing) {
		if (c->l7 == L7_KAFKA)
			kafka_abandon(s, c);
		s->at = packet->payload;
		hand_over(skb, c, SNAPSHOT_GAP, is_told);
		tells_of_hole(packet, c);
		return;
	}
	s->hand_over = SNAPSHOT_UNDECIDED;
	if (c->l7 != L7_UNDECIDED) {
		load_payload(skb, s);
		result = read_l7(skb, s, c);
	}
	d->next_sequence = next_sequence(packet);
	if (result == READ_OPAQUE)
		c->l7 = L7_OPAQUE;
	if (result != READ_HAND_OVER)
		return;
	d->next_sequence -= s->end - s->at;
	hand_over(skb, c, s->hand_over, is_told);
	d->next_sequence += s->end - s->at;
}

/* Another connection takes the place of one that was handed over. */
static __always_inline void push_end(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	s->at = s->end = s->packet.payload;
	begin_record(skb, s, c);
	push_snapshot(skb, c, SNAPSHOT_END, 0);
}

/* The connection of the packet, counted; NULL where there is no room for it. */
static __always_inline struct connection *track(struct __sk_buff *skb, struct scratch *s, int *told)
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

/* Other policies hold: what was refused may be judged again when it comes again. But what HTTP/2 has refused has changed
 * its tables: it stays refused, and is read no more where it may pass unread. */
static __always_inline void forget_refusals(const struct scratch *s, struct connection *c)
{
	if (!c->directions[CLIENT].has_refused && !c->directions[SERVER].has_refused)
		return;
	if (c->l7 == L7_HTTP2) {
		if (must_be_read(s, c))
			return;
		c->l7 = L7_OPAQUE;
	}
	c->directions[CLIENT].has_refused = c->directions[SERVER].has_refused = 0;
}

/* Routers and neighbours finding each other (RFC 4861): without them IPv6 has no link, whatever policy says; Cilium answers
 * them before it asks policy. */
static __always_inline int is_neighbour(const struct packet *packet)
{
	return packet->protocol == IPPROTO_ICMPV6 && packet->family == 6 && packet->icmp_type >= 133 &&
	       packet->icmp_type <= 136;
}

/* By the policies in force; an ICMP error is let through, or not, with the connection that it is about. */
static __noinline void judge(struct __sk_buff *skb, struct scratch *s, struct connection *c, __u32 revision)
{
	const struct packet *packet = &s->packet;
	struct decision guessed;

	if (c->related)
		return;
	if (!s->replay && is_neighbour(packet)) {
		c->decision = (struct decision){ .revision = revision };
		return;
	}
	policy_connection(skb, s, c);
	forget_refusals(s, c);
	if (!refuses(s) || c->roles == ROLES_KNOWN || packet->protocol != IPPROTO_TCP || must_be_read(s, c))
		return;
	/* Joined in the middle, who asks is a guess by ports, and those a client may have chosen: where policy judges the
	 * requests of either end, it is the client. */
	guessed = c->decision;
	swap_roles(s, c);
	policy_connection(skb, s, c);
	if (must_be_read(s, c) && !c->decision.refused)
		return;
	swap_roles(s, c);
	c->decision = guessed;
}

/* Whether the packet says what must be read first, and cannot be. */
static __always_inline int is_unreadable(const struct packet *packet, const struct connection *c)
{
	/* The octet that is urgent is taken out of what the receiver reads, or is not (RFC 6093). */
	if (packet->is_fragment || packet->tcp_flags & TCP_URG)
		return 1;
	return (packet->payload_length || packet->payload_missing) &&
	       (packet->protocol != IPPROTO_TCP || c->l7 >= L7_USER);
}

/* Whether it must not pass: by policy, or as what was refused before. A reset ends what waits for it, and says nothing. */
static __always_inline int is_refused(const struct packet *packet, const struct connection *c)
{
	const struct direction *d = &c->directions[packet->sender & 1];

	if (c->decision.refused)
		return 1;
	if (!d->has_refused || (packet->tcp_flags & TCP_RST && !packet->payload_length && !packet->is_fragment))
		return 0;
	return packet->protocol != IPPROTO_TCP || packet->is_fragment ||
	       (__s32)(next_sequence(packet) - d->refused_sequence) > 0;
}

/* Whether a client's octets come here before they come to the hook that reads them. */
static __always_inline int is_ahead(const struct packet *packet, const struct connection *c)
{
	const struct direction *d = &c->directions[CLIENT];

	return packet->sender == CLIENT && (packet->payload_length || packet->is_fragment) &&
	       (!d->synced || (__s32)(next_sequence(packet) - d->next_sequence) > 0);
}

/* Nothing more of this direction passes. */
static __always_inline int refuse_unreadable(const struct packet *packet, struct connection *c)
{
	refuse_from(&c->directions[packet->sender & 1], packet->sequence, UNREAD);
	return SEGMENT_UNREADABLE;
}

/* Tell the packet's flow, as one that was refused. */
static __noinline void tell_refusal(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	begin_record(skb, s, c);
	if (!c->decision.refused)
		judge_by_refusal(s, &c->directions[s->packet.sender & 1]);
	tell_packet(s, c);
}

struct held_context {
	struct scratch *s;
	struct connection *c;
	__u32 first;
	__u32 why; /* the DropReason of what refuses the packet; 0: it passes */
};

/* Tell a message whose packet was judged since: with one that is refused goes all that the packet holds. */
static long tell_held(__u32 index, void *data)
{
	struct held_context *context = data;
	struct held_record *held = &context->s->held[(context->first + index) & (HELD - 1)];
	struct flow_record *record = &held->record;

	if (context->why && !record->drop_reason_desc) {
		record->verdict = VERDICT_DROPPED;
		record->drop_reason_desc = context->why;
		record->egress_rule = record->ingress_rule = 0; /* they allowed it */
		record->policy_match = 0;
		if (record->l7_type == TYPE_REQUEST) {
			drop_pending(context->c->number, held->id);
			context->c->waiting--;
		}
	}
	write_record(record);
	return 0;
}

/* Let pass only what was read and allowed, and tell what became of it; 1 where it must not pass. */
static __always_inline int guard(struct __sk_buff *skb, struct scratch *s, struct connection *c, int found, int told)
{
	struct held_context held = { s, c };
	__u32 held_count;
	int result;

	begin_record(skb, s, c);
	s->holds = 1;
	s->held_count = 0;
	result = is_unreadable(&s->packet, c) ? refuse_unreadable(&s->packet, c) : judge_segment(skb, s, c, found);
	s->holds = 0;
	if (result != SEGMENT_PASSES)
		held.why = result == SEGMENT_REFUSED ? s->record.drop_reason_desc : INVALID_PACKET;
	held_count = s->held_count < HELD ? s->held_count : HELD;
	held.first = s->held_count - held_count;
	bpf_loop(held_count, tell_held, &held, 0);
	if (result == SEGMENT_PASSES && told)
		tell_packet(s, c);
	else if (result == SEGMENT_UNREADABLE || (result != SEGMENT_PASSES && told))
		tell_refusal(skb, s, c);
	return result != SEGMENT_PASSES;
}

/* Tell and read what passes. */
static __always_inline void watch(struct __sk_buff *skb, struct scratch *s, struct connection *c, int found, int told)
{
	struct packet *packet = &s->packet;

	if (packet->is_fragment)
		packet->payload_length = packet->payload_missing = 0;
	if (c->l7 == L7_USER || (packet->protocol == IPPROTO_UDP && wants_datagram(packet, c))) {
		pass_on(skb, s, c, told);
		return;
	}
	if (!told && found == SEGMENT_NOTHING)
		return;
	begin_record(skb, s, c);
	if (told && found != SEGMENT_NOTHING && c->l7 == L7_UNDECIDED)
		note_told(packet, &c->directions[packet->sender & 1]); /* user space tells it */
	else if (told)
		tell_packet(s, c);
	if (found != SEGMENT_NOTHING)
		read_segment(skb, s, c, found, told && c->l7 == L7_UNDECIDED);
}

static __always_inline int refuse(void)
{
	count(COUNT_REFUSED);
	mark_refusal();
	return TC_ACT_SHOT;
}

/* One packet from end to end. Attached at both hooks of an interface: which way a packet goes shows in its ends. */
SEC("tc")
int flowscope_tc(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct scratch *s = scratch();
	struct settings *set = bpf_map_lookup_elem(&settings, &zero);
	int told, found;
	struct connection *c;
	struct packet *packet;

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
		if (found != PACKET_UNREADABLE)
			return TC_ACT_UNSPEC;
		count(COUNT_UNREADABLE);
		if (!set->has_policy || !refuses(s))
			return TC_ACT_UNSPEC;
		/* Whose it is nobody knows, so the kernel's own words tell of it: drops.bpf.c. */
		count(COUNT_REFUSED);
		return TC_ACT_SHOT;
	}
	if (set->replay && skb->cb[0])
		packet->ip_length = skb->cb[0];
	c = track(skb, s, &told);
	if (!c)
		return set->has_policy && refuses(s) ? refuse() : TC_ACT_UNSPEC;
	if (c->decision.revision != set->revision)
		judge(skb, s, c, set->revision);
	if (c->ifindex != skb->ifindex) {
		/* Another hook reads and tells. */
		if (refuses(s) && is_refused(packet, c))
			return refuse();
		if (!must_be_read(s, c) || !is_ahead(packet, c))
			return TC_ACT_UNSPEC;
		c->ifindex = skb->ifindex;
	}
	found = SEGMENT_NOTHING;
	if (packet->protocol == IPPROTO_TCP && c->l7 < L7_USER && !packet->is_fragment) {
		found = find_unread(s, &c->directions[packet->sender & 1]);
		if (found == SEGMENT_IN_ORDER && c->l7 == L7_UNDECIDED && !packet->payload_missing) {
			decide(skb, s, c);
			if (c->decision.revision != set->revision)
				judge(skb, s, c, set->revision);
		}
	}
	if (!refuses(s)) {
		watch(skb, s, c, found, told);
	} else if (is_refused(packet, c)) {
		if (told)
			tell_refusal(skb, s, c);
		return refuse();
	} else if (!must_be_read(s, c)) {
		watch(skb, s, c, found, told);
	} else if (guard(skb, s, c, found, told)) {
		return refuse();
	}
	if (c->l7 == L7_KAFKA && packet->tcp_flags & (TCP_FIN | TCP_RST))
		kafka_abandon(s, c);
	return TC_ACT_UNSPEC;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
