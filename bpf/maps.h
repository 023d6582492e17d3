/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the datapath remembers and shares: connections, pending requests, addresses, the rings to user space, and the
 * per-CPU scratch memory in which one packet is worked on. Loop state lives there too, never on the stack: of the
 * stack the verifier follows every constant, and a bpf_loop over it is never done. */
#pragma once

#include <linux/bpf.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#include "record.h"

#define MAX_CONNECTIONS 131072
#define MAX_ADDRESSES 65536
#define EVENTS_SIZE (32 << 20)
#define SNAPSHOTS_SIZE (16 << 20)

#define PAYLOAD_SIZE 4096 /* octets of a segment's unread payload that a parser sees at once */
#define PAYLOAD_SLACK 512 /* behind them, so that bounded copies need no second check */
#define SHORT_TEXT 64      /* octets of a text that are copied at once */

enum side { CLIENT = 0, SERVER = 1, SIDES = 2 };

/* Enums of observer/record.py, by the same names and numbers. */
enum { IS_REPLY = 1 << 0, LATENCY = 1 << 1, CODE = 1 << 2, ICMP = 1 << 3, MAC = 1 << 4, VLAN = 1 << 5, L7_ID = 1 << 6,
       GRPC_STATUS = 1 << 7, TCP_FLAGS = 1 << 8, COUNTERS = 1 << 9, PROCESS = 1 << 10, METHOD = 1 << 11 };
enum { FLAG_EXTRA = 1 << 0, FLAG_TEXT_CUT = 1 << 1, FLAG_IMPORTED = 1 << 2, FLAG_L7_INCOMPLETE = 1 << 3 };
enum { KIND_NONE, KIND_HTTP, KIND_DNS, KIND_KAFKA, KIND_GRPC, KIND_TLS };
enum { TYPE_REQUEST = 1, TYPE_RESPONSE = 2 };

/* Losses, each counted once, where it happens; observer/datapath/losses.py names them by stage and reason. */
enum counter {
	COUNT_EVENTS_FULL,     /* a record found no room in `events` */
	COUNT_SNAPSHOTS_FULL,  /* payload found no room in `snapshots` */
	COUNT_UNREADABLE,      /* no Ethernet, no IP, or a header cut short */
	COUNT_PENDING_LOST,    /* a response whose request was pushed out of pending_requests */
	COUNT_CONNECTION_LOST, /* a connection that the table could not take */
	COUNT_SEEN,            /* packets looked at: no loss */
	COUNT_TOLD,            /* records written: no loss */
	COUNT_REFUSED,         /* packets refused in enforce mode: no loss */
	COUNT_PENDING_PUT,     /* requests that took a slot of pending_requests: no loss */
	COUNT_PENDING_TAKEN,   /* and those that gave it up */
	COUNTERS_SIZE,
};

/* What the ipcache says of an address. Policy knows it by classes of its own (policy.h). */
struct endpoint {
	__u32 number;
	__u32 identity;
	__u32 flags;
};
enum { ENDPOINT_MANAGED = 1 << 0, ENDPOINT_HOST = 1 << 1, ENDPOINT_OUTSIDE = 1 << 2 };

struct lpm_address {
	__u32 length; /* bits; IPv4 as ::ffff:a.b.c.d counts from 96 */
	__u8 address[16];
};

/* Policy's verdict on a connection: observer/policy/engine.py's Decision. */
struct decision {
	__u32 revision; /* of the policies that decided; 0: not decided */
	__u32 egress_rule;
	__u32 ingress_rule;
	__u32 egress_l7;  /* number of the set of L7 rules that requests have to pass; 0: none */
	__u32 ingress_l7;
	__u8 refused; /* 0, or the Direction that refuses: INGRESS 1, EGRESS 2 */
	__u8 match;
	__u8 pad[2];
};

/* Both directions of a connection have one key: end 0 is the one with the smaller address, or port where equal. */
struct tuple {
	__u8 ip[2][16];
	__be16 port[2]; /* ICMP echo: the identifier twice; other ICMP: type and code */
	__u16 vlan;
	__u8 protocol;
	__u8 family; /* 4, 6 */
};

/* What one side of a connection sends. */
struct direction {
	__u64 told_ns;
	__u64 bytes;
	__u64 left; /* octets of a body or frame to be passed over before the parser looks again; see also snapshot.h */
	__u32 packets;
	__u32 tells;
	__u32 initial_sequence;
	__u32 next_sequence;
	__u32 refused_sequence; /* TCP: from where on nothing passes; valid with `has_refused` */
	__u16 told;		/* TCP flags told */
	__u8 synced;		/* next_sequence is known */
	__u8 has_refused; /* 0, the Direction that refused a request, or UNREAD */
	__u8 has_initial; /* initial_sequence is known: its SYN was seen */
	__u8 pad[7];
	__u32 parser[6]; /* the L7 parser's own: http.h, kafka.h or http2.h say what */
};

/* Of direction.has_refused: what could not be read where policy judges requests. */
#define UNREAD 3

enum roles { ROLES_UNKNOWN, ROLES_PORTS, ROLES_KNOWN }; /* observer/conntrack.py */
enum l7 { L7_UNDECIDED, L7_HTTP1, L7_KAFKA, L7_HTTP2, L7_USER, L7_OPAQUE };

struct connection {
	__u64 number;
	__u64 last_ns;
	struct endpoint ends[SIDES]; /* by side */
	struct decision decision;
	struct direction directions[SIDES]; /* by side */
	__u32 ifindex;			    /* whose hooks tell and read this connection */
	__u32 challenge;		    /* sequence number of a SYN that came while the connection stood */
	__u32 parser[4];		    /* of the parser, for both sides */
	__u32 last_id;			    /* of the request that was told last */
	__u32 waiting;			    /* requests told and not answered */
	__u8 client;			    /* which end of the tuple */
	__u8 roles;			    /* enum roles */
	__u8 joined;			    /* its first packets were not seen */
	__u8 l7;			    /* enum l7 */
	__u8 first;			    /* side whose packet was seen first */
	__u8 related;			    /* an ICMP error: judged by the connection that it is about */
	__u8 has_challenge;
	__u8 icmp_type; /* of the request, also where its reply was seen first */
	__u8 quiet;	/* handed over, and user space reads nothing more in it */
	__u8 pad[3];
};

/* A request that waits for its response, but for its texts. */
struct pending {
	__u64 connection;
	__u64 time_ns;
	__u32 id; /* HTTP/1: its number in the connection; HTTP/2: stream; Kafka: correlation id */
	__u32 egress_rule;
	__u32 ingress_rule;
	__u16 present; /* METHOD */
	__u16 l7_method;
	__u16 l7_version;
	__u8 flags;
	__u8 l7_kind;
	__u8 verdict;
	__u8 direction;
	__u8 policy_match;
	__u8 drop_reason_desc;
	__u8 is_ambiguous; /* another request waits under the same id */
	__u8 pad;
	__u16 turn; /* pending.h */
	__u8 text_length[FLOW_TEXT_SLOTS];
	__u8 parser[16]; /* the parser's own */
};

/* What replay says of a frame, in skb->cb[1]: more of the same packet follows, which is counted and told then; its MAC
 * addresses are made up; it is no tunnel, whatever its port. */
enum frame { FRAME_PART = 1 << 0, FRAME_NO_MAC = 1 << 1, FRAME_PLAIN = 1 << 2 };

/* One packet, as bpf/packet.h reads it. */
struct packet {
	__u64 time_ns;
	__u32 sequence;
	__u32 acknowledgment;
	__u32 payload; /* where in the frame the payload begins */
	__u32 payload_length;
	__u32 payload_missing; /* octets that the IP header announces behind those in the frame: replay only */
	__u32 ip_length;
	__u16 tcp_flags;
	__u8 protocol;
	__u8 family;
	__u8 source_ip[16];
	__u8 destination_ip[16];
	__be16 source_port;
	__be16 destination_port;
	__u16 vlan;
	__u8 icmp_type;
	__u8 icmp_code;
	__u8 source_mac[6];
	__u8 destination_mac[6];
	__u8 sender;   /* enum side, once the connection is known */
	__u8 frame;    /* replay: enum frame */
	__u8 is_fragment; /* the first of several: the rest of its payload nobody sees */
	__u8 pad;
};

/* What policy looks at in an HTTP request; filled by a parser only where the connection has L7 rules. */
#define REQUEST_METHOD_SIZE 32
#define REQUEST_PATH_SIZE 2048
#define REQUEST_HOST_SIZE 256
struct http_request {
	__u16 method_length;
	__u16 path_length;
	__u16 host_length;
	__u16 unreadable; /* some of it did not fit, or could not be known */
	__u8 method[REQUEST_METHOD_SIZE];
	__u8 path[REQUEST_PATH_SIZE];
	__u8 host[REQUEST_HOST_SIZE];
};

/* And in a Kafka request: its topics, one after the other. */
#define KAFKA_NAME_LIMIT 255 /* as in observer/l7/kafka_walk.py */
struct kafka_name {
	__u8 length;
	char text[KAFKA_NAME_LIMIT];
};

/* Policy's word on a request. Before each packet core sets it to the connection's; policy_http and policy_kafka write
 * theirs; tell_request takes it and sets it back. */
struct judgement {
	__u32 egress_rule;
	__u32 ingress_rule;
	__u8 refused;	/* 0, or the Direction that refuses: INGRESS 1, EGRESS 2 */
	__u8 match;	/* PolicyMatch */
	__u8 undecided; /* too little of it could be read to judge it: verdict unknown; refused in enforce mode */
	__u8 pad;
};

/* A record that waits for what becomes of its packet; of more than HELD the first are told before. */
#define HELD 16
struct held_record {
	struct flow_record record;
	__u64 id; /* of the request in pending_requests */
};

struct scratch {
	__u64 numbered; /* connections that this CPU has numbered */
	__u32 replay;	/* settings.replay */
	__u32 enforce;	/* settings.enforce */
	struct packet packet;
	struct tuple tuple;
	struct connection fresh; /* one that is being opened */
	/* In-order payload not yet read: from `at` to `end` in the frame; `loaded` octets of it, from `at` on, stand in
	 * `payload`. Parsers move `at`. */
	__u32 at;
	__u32 end;
	__u32 loaded;
	__u32 hand_over; /* enum snapshot_reason, set by a parser that returns L7_HAND_OVER */
	struct judgement judgement;
	struct http_request request;
	__u8 keep[16]; /* what a parser wants to find again in scratch.asked when the response comes */
	struct pending asked; /* the request that was found in, or is put into, pending_requests */
	__u32 way; /* where there: pending.h */
	__u32 pad;
	struct flow_record record; /* the next to be told: what both ends have in common is filled in already */
	__u8 payload[PAYLOAD_SIZE + PAYLOAD_SLACK];
	__u32 holds; /* records are held back until their packet was judged */
	__u32 held_count;
	struct held_record held[HELD];
};

/* What a parser returns. */
enum {
	READ = 0,	  /* all in-order payload was read, or remembered as `left` */
	READ_REFUSED = 1, /* policy refuses a request of it: the packet does not pass in enforce mode */
	READ_HAND_OVER = 2, /* user space has to read this connection from `at` on, with `left` octets to pass over */
	READ_OPAQUE = 3,  /* nothing more is read in this connection */
};

enum snapshot_reason {
	SNAPSHOT_UNDECIDED = 1, /* the kernel does not know the protocol */
	SNAPSHOT_DATAGRAM,	/* DNS */
	SNAPSHOT_GAP,		/* segments lost or out of order */
	SNAPSHOT_LONG,		/* a head longer than PAYLOAD_SIZE, or cut over segments */
	SNAPSHOT_RULE,		/* what the protocol allows and the kernel does not read */
	SNAPSHOT_MORE,		/* the connection was handed over before */
	SNAPSHOT_END,		/* another connection has taken the place of one that was handed over */
};

/* An item of `snapshots`: this, then `length` octets. observer/datapath/handed.py has the same layout. */
struct snapshot {
	struct flow_record record; /* as an L3/L4 flow of this packet, but for roles, reason and verdict */
	__u64 left[SIDES];	   /* at a hand-over: octets to be passed over before the next message */
	__u32 next_sequence[SIDES];
	__u32 initial_sequence[SIDES];
	__u32 packets[SIDES];
	__u32 parser[SIDES][6];
	__u32 shared[4]; /* connection.parser */
	__u32 length;
	__u32 missing;	/* octets behind these that are not in the frame */
	__u32 sequence; /* TCP: of the first octet */
	__u32 acknowledgment;
	__u32 tells; /* of this direction */
	__u32 last_id;
	__u32 waiting;
	__u16 told[SIDES];
	__u16 tcp_flags;
	__u8 side;
	__u8 reason;
	__u8 l7;	  /* what the kernel knew the connection to speak */
	__u8 synced;	  /* bits by side: next_sequence is known */
	__u8 has_initial; /* bits by side */
	__u8 roles;
	__u8 joined;
	__u8 first;
	__u8 is_told; /* the L3/L4 flow of this packet is user space's to tell: it may know more of it */
	__u8 pad[5];
};

struct settings {
	__u32 enforce;	     /* refuse in the kernel; else verdict AUDIT */
	__u32 has_policy;
	__u32 replay;	     /* BPF_PROG_TEST_RUN: time is the frame's, skb->tstamp */
	__u32 revision;	     /* of the policies; a connection judged by another one is judged again */
	__u64 wall_ns;	     /* to be added to bpf_ktime_get_ns() */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, EVENTS_SIZE);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SNAPSHOTS_SIZE);
} snapshots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS_SIZE);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, struct tuple);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_ADDRESSES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct lpm_address);
	__type(value, struct endpoint);
} ipcache SEC(".maps");

/* What user space says of connections that were handed over to it, by number. */
enum word { WORD_LET_GO = 1, WORD_WANTED = 2 }; /* it reads nothing more in it; datagrams on no known port are read */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u8);
} let_go SEC(".maps");

static __always_inline void count(enum counter which)
{
	__u32 key = which;
	__u64 *value = bpf_map_lookup_elem(&counters, &key);

	if (value)
		*value += 1;
}

static __always_inline struct scratch *scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}
