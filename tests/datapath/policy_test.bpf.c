/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* bpf/policy.h by itself: what test_policy.py writes into `asked` is judged at a test run, the answer is in `told`. */
#include "policy.h"

#define TOPICS 4

struct asked {
	__u32 operation;
	__u32 revision;
	__u32 what;
	__u32 key_version;
	__u32 client_length;
	__u32 topics;
	struct tuple tuple; /* end 0 is the source */
	struct kafka_name client;
	struct kafka_name topic[TOPICS];
	struct http_request request;
};

struct told {
	__u32 verdict;
	struct decision connection;
	struct judgement request;
	struct kafka_judgement kafka;
};

enum { CONNECT, HTTP, KAFKA, UNREADABLE };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct asked);
} asked SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct told);
} told SEC(".maps");

SEC("tc")
int judge(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct asked *in = bpf_map_lookup_elem(&asked, &zero);
	struct told *out = bpf_map_lookup_elem(&told, &zero);
	struct scratch *s = scratch();

	if (!in || !out || !s)
		return -1;
	policy_judge(&out->connection, &in->tuple, 0, in->what, in->revision);
	if (in->operation == HTTP)
		out->verdict = policy_http(&in->request, &out->connection, &out->request);
	if (in->operation == UNREADABLE)
		out->verdict = policy_unreadable(&out->connection, &out->request);
	if (in->operation == KAFKA) {
		s->fresh.decision = out->connection;
		policy_begin(&s->judgement, &out->connection);
		policy_kafka_begin(s, &s->fresh, &out->kafka, in->key_version >> 16, in->key_version, in->client.text,
				   in->client_length);
		for (int i = 0; i < TOPICS; i++) {
			if (i < in->topics)
				policy_kafka_topic(s, &s->fresh, &out->kafka, &in->topic[i]);
		}
		policy_kafka_end(s, &s->fresh, &out->kafka);
		out->request = s->judgement;
		out->verdict = out->request.undecided ? POLICY_UNREADABLE : !!out->request.refused;
	}
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
