/* SPDX-License-Identifier: Apache-2.0 */
/* HTTP/2 as a passive observer reads it (RFC 9113): octets of both sides in, requests and responses out, gRPC among
 * them. The same rules as observer/l7/http2.py, http2_head.py, http2_streams.py and grpc.py, which say why.
 *
 * Frames are walked by their lengths; header blocks go through hpack.h, DATA is passed over. A connection is joined in
 * the middle where a segment begins with a frame. It refuses to know bodies: gRPC messages are not counted, and a
 * status that gRPC-Web puts into the body is unknown. Settings are not read: an encoder says itself how large its table
 * is. Where frames are lost user space goes on (core's business): only the end of DATA can be found again.
 */
#pragma once

#include "hpack.h"
#include "message.h"
#include "policy.h"

#define MAX_BLOCKS 2048	    /* header blocks that are cut over segments or frames at one time */
#define MALFORMED_LIMIT 32  /* observer/l7/http2.py */
#define GOAWAY_LIMIT 16	    /* observer/l7/http2_streams.py */
#define GOAWAY_STREAMS 64   /* streams that one GOAWAY ends; the newest */
#define MAX_STEPS (1 << 20) /* more than a packet has octets */
#define FRAME_HEADER_SIZE 9 /* 4.1 */
#define HEAD_SIZE 17	    /* of a frame, with what is read of it at once */
#define PREFACE_SIZE 24	    /* 3.4 */
#define SEARCH_FRAME_LIMIT 16384 /* observer/l7/http2_frames.py */
#define SEARCHED_FRAMES 4	    /* in which a header block is looked for that tells whose they are */
#define SEARCHED_FIELDS 6	    /* of that block */
#define HTTP2_VERSION 20
#define METHOD_CONNECT 6

enum { FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_RST_STREAM, FRAME_SETTINGS, FRAME_PUSH_PROMISE, FRAME_PING,
       FRAME_GOAWAY, FRAME_WINDOW_UPDATE, FRAME_CONTINUATION };
enum { END_STREAM = 0x1, END_HEADERS = 0x4, PADDED = 0x8, PRIORITY = 0x20 };

/* Longer than it, for its index needs no check; and of no size that a linker merges, which would be another section. */
static const char PREFACE[PREFACE_SIZE + 16] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* What the next octet of a side belongs to. */
enum http2_state { STATE_START, STATE_PREFACE, STATE_FRAME, STATE_BLOCK, STATE_LAST };

/* Over direction.parser. */
struct http2_side {
	__u8 head[HEAD_SIZE]; /* of the frame, as far as it came; in STATE_BLOCK its first octet is the padding's length */
	__u8 have;	      /* octets of it */
	__u8 state;
	__u8 bits;
	__u32 rest; /* STATE_BLOCK: octets of the fragment; STATE_LAST: the stream whose last octet comes */
};
enum { SIDE_LATE = 1 << 0, SIDE_HAS_TABLE = 1 << 1, SIDE_IN_BLOCK = 1 << 2 };

/* Over connection.parser. */
struct http2_connection {
	__u32 newest; /* stream that the client opened */
	__u16 malformed;
	__u16 goaways;
	__u32 pad[2];
};

/* Over pending.parser: the response, as far as it came. */
struct http2_stream {
	__u16 code;
	__u16 grpc_status;
	__u8 answered;
	__u8 told;
	__u8 incomplete;
	__u8 no_request; /* its request was not seen */
	__u8 web;	 /* gRPC-Web: the status may stand in the body */
	__u8 pad[7];
};

_Static_assert(sizeof(struct http2_side) == sizeof(((struct direction *)0)->parser), "http2_side");
_Static_assert(sizeof(struct http2_connection) == sizeof(((struct connection *)0)->parser), "http2_connection");
_Static_assert(sizeof(struct http2_stream) == sizeof(((struct pending *)0)->parser), "http2_stream");
_Static_assert(__builtin_offsetof(struct header_block, value) % 8 == 0, "value");

/* What a frame asks for; done by http2_step, because only so many calls may lie in one another. */
enum { DO_NOTHING, DO_SECTION, DO_END_STREAM, DO_GO_AWAY };

/* What one packet is worked on in. */
struct http2_work {
	__u32 base;   /* where in the frame scratch.payload begins */
	__u32 result; /* READ_* */
	__u32 to_do;  /* what came asks for */
	__u32 stream; /* of it */
	struct hpack_key key; /* of the side that sends, for tables and blocks; keys are here, for the stack is short */
	struct pending_key stream_key;
	__u8 head[HEAD_SIZE + 7];
	struct hpack_table fresh; /* empty */
	struct pending unseen;	  /* a request that was not seen */
	struct header_block block;
};

struct kept_block {
	__u8 octets[BLOCK_KEPT];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http2_work);
} http2_works SEC(".maps");

/* Header blocks that are not complete, by connection and side. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_BLOCKS);
	__type(key, struct hpack_key);
	__type(value, struct kept_block);
} http2_blocks SEC(".maps");

/* What the callbacks need; all that changes is in map memory. */
struct http2 {
	struct __sk_buff *skb;
	struct scratch *s;
	struct connection *c;
	struct http2_work *work;
};

static __always_inline struct http2_side *http2_side(struct connection *c, __u8 sender)
{
	return (struct http2_side *)c->directions[sender & 1].parser;
}

static __always_inline __u32 read_24(const __u8 *octets)
{
	return (__u32)octets[0] << 16 | (__u32)octets[1] << 8 | octets[2];
}

static __always_inline __u32 read_31(const __u8 *octets)
{
	return ((__u32)octets[0] & 0x7f) << 24 | read_24(octets + 1);
}

/* Octets behind the frame header that are read with it. */
static __always_inline __u32 prefix_size(const __u8 *head)
{
	__u32 padded = head[4] & PADDED ? 1 : 0;

	switch (head[3]) {
	case FRAME_HEADERS:
		return padded + (head[4] & PRIORITY ? 5 : 0);
	case FRAME_PUSH_PROMISE:
		return padded + 4;
	case FRAME_RST_STREAM:
		return 4;
	case FRAME_GOAWAY:
		return 8;
	}
	return 0;
}

/* Whether a frame header breaks a rule on lengths or streams (6), as Http2._frame. */
static __always_inline int is_malformed(const __u8 *head)
{
	__u32 size = read_24(head), stream = read_31(head + 5);

	switch (head[3]) {
	case FRAME_DATA:
	case FRAME_HEADERS:
	case FRAME_PUSH_PROMISE:
	case FRAME_CONTINUATION:
		return !stream;
	case FRAME_PRIORITY:
		return !stream || size != 5;
	case FRAME_RST_STREAM:
		return !stream || size != 4;
	case FRAME_SETTINGS:
		return stream != 0;
	case FRAME_PING:
		return stream || size != 8;
	case FRAME_GOAWAY:
		return stream || size < 8;
	case FRAME_WINDOW_UPDATE:
		return size != 4;
	}
	return 0;
}

/* Whether a frame header looks like one, where nobody knows that it is one: http2_frames._PLAUSIBLE. */
static __always_inline int is_plausible(const __u8 *head)
{
	__u32 size = read_24(head);
	__u8 flags = head[4];

	if (is_malformed(head) || head[5] & 0x80 || size > SEARCH_FRAME_LIMIT)
		return 0;
	switch (head[3]) {
	case FRAME_DATA:
		return !(flags & ~(END_STREAM | PADDED)) && (size || flags & END_STREAM);
	case FRAME_HEADERS:
		return !(flags & ~(END_STREAM | END_HEADERS | PADDED | PRIORITY));
	case FRAME_SETTINGS:
		return flags <= 1 && size % 6 == 0 && (!flags || !size);
	case FRAME_PING:
		return flags <= 1;
	case FRAME_PRIORITY:
	case FRAME_RST_STREAM:
	case FRAME_GOAWAY:
	case FRAME_WINDOW_UPDATE:
		return !flags;
	}
	return 0;
}

/* Where the frame that begins there in scratch.payload ends, if another follows it or nothing does; else 0. Global, so
 * that the verifier reads it once. */
__noinline int plausible_end(struct scratch *s, __u32 at)
{
	const __u8 *head;
	__u32 end, size;

	if (!s)
		return 0;
	head = s->payload + (at & (PAYLOAD_SIZE - 1));
	size = s->end - s->at;
	if (at + FRAME_HEADER_SIZE > s->loaded || !is_plausible(head))
		return 0;
	end = at + FRAME_HEADER_SIZE + read_24(head);
	if (end == size)
		return end;
	if (end + FRAME_HEADER_SIZE > s->loaded)
		return 0;
	return is_plausible(s->payload + (end & (PAYLOAD_SIZE - 1))) ? end : 0;
}

/* Whose header block begins there: 1 the client's, 2 the server's, 0 cannot be told. Pseudo-fields come first (8.3), and
 * the first that is not of the dynamic table, of which nothing is known, tells. */
static __always_inline int side_of_block(const struct scratch *s, __u32 at)
{
	for (int i = 0; i < SEARCHED_FIELDS; i++) {
		__u8 octet = s->payload[(at + i) & (PAYLOAD_SIZE - 1)], index = octet & 0x0f;

		if (octet & 0x80)
			index = octet & 0x7f;
		else if (octet & 0x40)
			index = octet & 0x3f;
		if (octet & 0x80 && index > STATIC_SIZE && index < 0x7f)
			continue;
		if ((octet & 0xe0) == 0x20)
			return 0;
		if (index >= 1 && index <= 7)
			return CLIENT + 1;
		return index >= 8 && index <= 14 ? SERVER + 1 : 0;
	}
	return 0;
}

/* 1 the client's first octets, 2 the server's, 0: not HTTP/2, or user space decides. */
static __always_inline int http2_detect(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	const __u8 *payload = s->payload;
	const __u64 *words = (const __u64 *)payload, *preface = (const __u64 *)PREFACE;
	__u32 at = 0, end;

	if (s->loaded >= PREFACE_SIZE && words[0] == preface[0])
		return words[1] == preface[1] && words[2] == preface[2] ? CLIENT + 1 : 0;
	if (s->loaded < FRAME_HEADER_SIZE)
		return 0;
	if (!c->joined) /* some servers speak first; without preface from the client it was none */
		return payload[3] == FRAME_SETTINGS && !payload[4] && is_plausible(payload) ? SERVER + 1 : 0;
	for (int i = 0; i < SEARCHED_FRAMES; i++) {
		const __u8 *head = payload + (at & (PAYLOAD_SIZE - 1));

		end = plausible_end(s, at);
		if (!end)
			return 0;
		if (head[3] == FRAME_HEADERS && head[4] & END_HEADERS)
			return side_of_block(s, at + FRAME_HEADER_SIZE + prefix_size(head));
		at = end;
	}
	return 0;
}

/* Give the texts of a request to the record: http2_head.texts_of. */
static __noinline int add_texts(struct scratch *s, struct header_block *b)
{
	const __u8 *host = b->authority_length ? b->authority : b->host;
	__u32 host_length = b->authority_length ?: b->host_length;
	int has_protocol = b->seen >> FIELD_PROTOCOL & 1;

	if (b->method == METHOD_CONNECT && !b->path_length && !has_protocol && !b->unknown && !b->cut)
		add_text(s, 0, host, host_length); /* 8.5: as HTTP/1 has it, in authority-form */
	else
		add_text(s, 0, b->path, b->path_length);
	add_text(s, 1, host, host_length);
	if (b->method == METHOD_OTHER)
		add_text(s, 2, b->method_text, b->method_length);
	if (b->scheme == SCHEME_OTHER)
		add_text(s, 3, b->scheme_text, b->scheme_length);
	else if (b->scheme == SCHEME_HTTPS)
		add_text(s, 3, "https", 5);
	else if (has_protocol)
		add_text(s, 3, "http", 4);
	return 0;
}

/* record.HttpMethod, as they are sent. */
struct method_name {
	char name[8];
	__u8 length;
};
static const struct method_name METHOD_NAMES[10] = { { "", 0 },	      { "GET", 3 },	{ "HEAD", 4 },	  { "POST", 4 },
						     { "PUT", 3 },    { "DELETE", 6 },	{ "CONNECT", 7 }, { "OPTIONS", 7 },
						     { "TRACE", 5 },  { "PATCH", 5 } };

/* Copy a text for policy; 1 where it does not fit. */
static __always_inline int put_text(__u8 *target, __u16 *size, __u32 limit, const void *text, __u32 length)
{
	*size = length;
	if (length > limit) {
		*size = 0;
		return 1;
	}
	take_text(target, limit, text, length);
	return 0;
}

/* What policy looks at: Tagger.request. What was cut, or is needed and unknown, makes a request unreadable. */
static __noinline int fill_request(struct scratch *s, struct header_block *b)
{
	struct http_request *request = &s->request;
	__u32 host_length = b->authority_length ?: b->host_length, target_length = b->path_length, method = b->method;
	const __u8 *host = b->authority_length ? b->authority : b->host, *target = b->path;
	const struct method_name *name = &METHOD_NAMES[method < 10 ? method : 0];
	__u16 unreadable = b->path_cut;

	if (!s->record.text_length[0] || !target_length) {
		target = host; /* CONNECT, where it is known to have no path */
		target_length = s->record.text_length[0] ? host_length : 0;
	}
	if (method == METHOD_OTHER)
		unreadable |= put_text(request->method, &request->method_length, REQUEST_METHOD_SIZE, b->method_text,
				       b->method_length);
	else
		put_text(request->method, &request->method_length, 8, name->name, name->length);
	unreadable |= put_text(request->path, &request->path_length, REQUEST_PATH_SIZE, target, target_length);
	unreadable |= put_text(request->host, &request->host_length, REQUEST_HOST_SIZE, host, host_length);
	if (s->record.flags & FLAG_L7_INCOMPLETE && (!method || !target_length || !host_length))
		unreadable = 1;
	request->unreadable = unreadable;
	return 0;
}

/* A request, or its trailers: http2_streams.Streams._asked. */
static __always_inline int http2_asked(struct scratch *s, struct connection *c, struct header_block *b)
{
	struct http2_connection *state = (struct http2_connection *)c->parser;
	struct http2_stream *stream = (struct http2_stream *)s->pending.parser;
	struct flow_record *record = &s->record;
	const __u32 pseudo = 1 << FIELD_METHOD | 1 << FIELD_PATH | 1 << FIELD_AUTHORITY | 1 << FIELD_SCHEME |
			     1 << FIELD_PROTOCOL;
	int is_request = b->seen & pseudo && !(b->seen & 1 << FIELD_STATUS);

	if (!is_request) {
		if (b->stream <= state->newest || !b->begins_unknown)
			return READ;
		if (b->end_stream && !state->newest)
			return READ;
	}
	if (!(b->stream & 1)) /* 5.1.1 */
		return READ;
	if (b->stream > state->newest)
		state->newest = b->stream;
	begin_message(s);
	record->l7_kind = KIND_HTTP;
	if (b->content_type || (b->unknown && b->seen & 1 << FIELD_GRPC_TIMEOUT))
		record->l7_kind = KIND_GRPC;
	record->l7_version = HTTP2_VERSION;
	record->l7_id = b->stream;
	record->l7_method = b->method;
	record->present |= b->method ? L7_ID | METHOD : L7_ID;
	add_texts(s, b);
	if (b->unknown || b->cut || !b->method || !record->text_length[0])
		record->flags |= FLAG_L7_INCOMPLETE;
	__builtin_memset(stream, 0, sizeof(*stream));
	stream->grpc_status = STATUS_NONE;
	stream->web = b->content_type == CONTENT_GRPC_WEB;
	if (c->decision.egress_l7 | c->decision.ingress_l7) {
		fill_request(s, b);
		policy_http(&s->request, &c->decision, &s->judgement);
	}
	return tell_request(s, c, b->stream) ? READ_REFUSED : READ;
}

/* The request of a stream, if it waits; work.stream_key is its key. */
static __always_inline struct pending *find_pending(struct connection *c, struct http2_work *work, __u32 stream)
{
	work->stream_key.connection = c->number;
	work->stream_key.id = stream;
	return bpf_map_lookup_elem(&pending_requests, &work->stream_key);
}

/* Tell the response of a stream as far as it came; `keep`: more of it follows. */
static __always_inline void tell_answer(struct scratch *s, struct connection *c, struct http2_work *work,
					struct pending *pending, int keep)
{
	struct http2_stream *state = (struct http2_stream *)pending->parser;
	struct flow_record *record = &s->record;
	__u32 stream = work->stream_key.id;

	begin_message(s);
	record->l7_kind = pending->l7_kind;
	record->l7_version = HTTP2_VERSION;
	record->l7_id = stream;
	record->present |= L7_ID;
	if (state->code) {
		record->l7_code = state->code;
		record->present |= CODE;
	}
	if (pending->l7_kind == KIND_GRPC && state->grpc_status != STATUS_NONE) {
		record->grpc_status = state->grpc_status;
		record->present |= GRPC_STATUS;
	}
	record->flags |= pending->flags & FLAG_L7_INCOMPLETE;
	if (state->incomplete)
		record->flags |= FLAG_L7_INCOMPLETE;
	state->told = 1;
	if (state->no_request)
		bpf_map_delete_elem(&pending_requests, &work->stream_key);
	tell_response(s, c, stream, keep);
}

/* A response, its trailers or an interim one: http2_streams.Streams._answered. */
static __always_inline int http2_answered(struct scratch *s, struct connection *c, struct http2_work *work)
{
	struct header_block *b = &work->block;
	struct pending *pending = find_pending(c, work, b->stream);
	int begins = b->seen >> FIELD_STATUS & 1, has_status = b->seen >> FIELD_GRPC_STATUS & 1, is_known = !!pending;
	struct http2_stream *state;

	if (b->code >= 100 && b->code < 200) /* 8.1: interim, the response is still to come */
		return READ;
	if (!begins && b->begins_unknown && !(pending && ((struct http2_stream *)pending->parser)->answered)) {
		if (!pending && b->end_stream)
			return READ; /* the first section or the last */
		begins = 1;
	}
	if (!pending) {
		if (!begins && !has_status)
			return READ; /* trailers of a response that was not seen */
		pending = &work->unseen;
		__builtin_memset(pending, 0, sizeof(*pending));
		pending->l7_kind = KIND_HTTP;
		pending->flags = FLAG_L7_INCOMPLETE;
		state = (struct http2_stream *)pending->parser;
		state->grpc_status = STATUS_NONE;
		state->no_request = 1;
	}
	state = (struct http2_stream *)pending->parser;
	if (begins && state->answered)
		return READ;
	state->incomplete |= b->unknown | b->cut;
	state->web |= b->content_type == CONTENT_GRPC_WEB;
	if (begins) {
		state->answered = 1;
		state->code = b->code;
	}
	if (!state->code)
		state->incomplete = 1;
	if (!state->told) {
		if ((b->content_type || has_status) && pending->flags & FLAG_L7_INCOMPLETE)
			pending->l7_kind = KIND_GRPC; /* its request could not say so */
		if (b->seen & 1 << FIELD_GRPC_STATUS || b->grpc_status != STATUS_NONE)
			state->grpc_status = b->grpc_status;
		if (b->end_stream || (begins && pending->l7_kind != KIND_GRPC)) {
			tell_answer(s, c, work, pending, !b->end_stream);
			if (is_known || b->end_stream)
				return READ;
		}
		if (!is_known)
			bpf_map_update_elem(&pending_requests, &work->stream_key, pending, BPF_ANY);
		return READ;
	}
	if (b->end_stream)
		bpf_map_delete_elem(&pending_requests, &work->stream_key);
	return READ;
}

/* The ends of the record as the server's side has them, or back. */
static __always_inline void swap_ends(struct flow_record *record)
{
	struct flow_record old;

#define SWAP(one, two)                                                                                                 \
	__builtin_memcpy(&old.one, &record->one, sizeof(old.one));                                                     \
	__builtin_memcpy(&record->one, &record->two, sizeof(old.one));                                                 \
	__builtin_memcpy(&record->two, &old.one, sizeof(old.one))
	SWAP(source_endpoint, destination_endpoint);
	SWAP(source_identity, destination_identity);
	SWAP(source_ip, destination_ip);
	SWAP(source_port, destination_port);
#undef SWAP
	record->is_reply = !record->is_reply;
}

/* A stream ends without (the rest of) its answer: a response is told all the same. */
static __noinline int end_stream(struct scratch *s, struct connection *c, struct http2_work *work, __u32 stream,
				 int unanswered_only)
{
	struct pending *pending = find_pending(c, work, stream);
	struct http2_stream *state;

	if (!pending)
		return 0;
	state = (struct http2_stream *)pending->parser;
	if (unanswered_only && state->answered)
		return 0;
	if (state->told) {
		bpf_map_delete_elem(&pending_requests, &work->stream_key);
		return 0;
	}
	if (s->packet.sender == CLIENT)
		swap_ends(&s->record);
	tell_answer(s, c, work, pending, 0);
	if (s->packet.sender == CLIENT)
		swap_ends(&s->record);
	return 0;
}

struct going_away {
	struct scratch *s;
	struct connection *c;
	struct http2_work *work;
	__u32 first;
};

static long end_unseen(__u32 i, void *context)
{
	struct going_away *g = context;

	end_stream(g->s, g->c, g->work, g->first + 2 * i, 1);
	return 0;
}

/* 6.8: the server will not look at the requests after `last`. */
static __noinline int http2_go_away(struct scratch *s, struct connection *c, struct http2_work *work, __u32 last)
{
	struct http2_connection *state = (struct http2_connection *)c->parser;
	struct going_away g = { s, c, work, (last + 1) | 1 };
	__u32 newest = state->newest;

	if (s->packet.sender == CLIENT) /* is about pushes */
		return 0;
	if (state->goaways >= GOAWAY_LIMIT)
		return 0;
	state->goaways++;
	if (!newest || g.first > newest)
		return 0;
	if (newest - g.first >= 2 * GOAWAY_STREAMS)
		g.first = newest - 2 * (GOAWAY_STREAMS - 1);
	bpf_loop((newest - g.first) / 2 + 1, end_unseen, &g, 0);
	return 0;
}

/* Bytes that no sender may send: enough of them, and the connection is read no more. */
static __always_inline int http2_faulty(struct connection *c)
{
	struct http2_connection *state = (struct http2_connection *)c->parser;

	return ++state->malformed >= MALFORMED_LIMIT ? READ_OPAQUE : READ;
}

/* The table of the side that sends; one that was pushed out is empty, and late. */
static __always_inline struct hpack_table *http2_table(struct scratch *s, struct connection *c,
						       struct http2_work *work)
{
	struct http2_side *side = http2_side(c, s->packet.sender);
	struct hpack_table *table = bpf_map_lookup_elem(&hpack_tables, &work->key);

	if (table && side->bits & SIDE_HAS_TABLE)
		return table;
	work->fresh.late = !!(side->bits & (SIDE_LATE | SIDE_HAS_TABLE));
	side->bits |= SIDE_HAS_TABLE;
	bpf_map_update_elem(&hpack_tables, &work->key, &work->fresh, BPF_ANY);
	return bpf_map_lookup_elem(&hpack_tables, &work->key);
}

/* Insertions of the side that sends were not seen. */
static __noinline int http2_lose(struct scratch *s, struct connection *c, struct http2_work *work)
{
	struct hpack_table *table = http2_table(s, c, work);

	if (table)
		hpack_lose(table);
	return 0;
}

/* A header block is complete, or `cut`. */
__noinline int http2_section(struct scratch *s, struct connection *c, struct http2_work *work, int cut)
{
	struct http2_side *side;
	struct header_block *b;

	if (!s || !c || !work)
		return READ;
	b = &work->block;
	side = http2_side(c, s->packet.sender);
	side->bits &= ~SIDE_IN_BLOCK;
	if (cut || b->step != STEP_FIELD)
		http2_lose(s, c, work);
	if (b->step == STEP_MALFORMED || (!cut && b->step != STEP_FIELD))
		return http2_faulty(c);
	if (cut) {
		b->cut = 1;
		b->begins_unknown |= !b->fields;
	}
	if (b->promises)
		return READ;
	return s->packet.sender == CLIENT ? http2_asked(s, c, b) : http2_answered(s, c, work);
}

/* The fragment of the block that this frame holds is over. */
static __always_inline void end_fragment(struct connection *c, struct http2_work *work, struct http2_side *side,
					 __u8 sender)
{
	side->state = STATE_FRAME;
	c->directions[sender & 1].left = side->head[0];
	if (work->block.last)
		work->to_do = DO_SECTION;
}

/* Octets of a header block, as many as there are. Global, so that the verifier reads it once. */
__noinline int http2_block(struct scratch *s, struct connection *c, struct http2_work *work, __u32 at)
{
	struct hpack h = { .s = s };
	struct header_block *b;
	struct http2_side *side;
	__u32 size;

	if (!s || !c || !work || at >= s->loaded || s->loaded > PAYLOAD_SIZE)
		return READ;
	h.table = http2_table(s, c, work);
	if (!h.table)
		return READ_OPAQUE;
	side = http2_side(c, s->packet.sender);
	h.block = b = &work->block;
	size = s->loaded - at;
	if (size > side->rest)
		size = side->rest;
	b->key = work->key;
	b->at = at;
	b->until = at + size;
	bpf_loop(size, hpack_octet, &h, 0);
	s->at += size;
	side->rest -= size;
	if (!side->rest)
		end_fragment(c, work, side, s->packet.sender);
	return READ;
}

/* Whether this frame is no CONTINUATION of the block that is not complete (6.2). */
static __always_inline int interrupts(struct http2 *h, const struct http2_side *side)
{
	const __u8 *head = h->work->head;

	return side->bits & SIDE_IN_BLOCK &&
	       (head[3] != FRAME_CONTINUATION || read_31(head + 5) != h->work->block.stream);
}

/* The server ends a stream with DATA: the last that a gRPC response has where no trailers follow. */
static __always_inline void http2_data_ends(struct http2 *h, struct http2_side *side, __u32 stream)
{
	struct direction *d = &h->c->directions[SERVER];
	struct pending *pending = find_pending(h->c, h->work, stream);
	struct http2_stream *state;

	if (!pending)
		return;
	state = (struct http2_stream *)pending->parser;
	if (state->told || pending->l7_kind != KIND_GRPC) {
		bpf_map_delete_elem(&pending_requests, &h->work->stream_key);
		return;
	}
	state->incomplete |= state->web;
	if (!d->left) {
		h->work->to_do = DO_END_STREAM;
		return;
	}
	d->left--;
	side->state = STATE_LAST;
	side->rest = stream;
}

/* A frame header came, and what is read with it. */
static __noinline int http2_frame(struct http2 *h)
{
	struct http2_work *work = h->work;
	struct http2_side *side = http2_side(h->c, h->s->packet.sender);
	struct header_block *b = &work->block;
	struct scratch *s = h->s;
	struct connection *c = h->c;
	struct direction *d = &c->directions[s->packet.sender & 1];
	const __u8 *head = work->head;
	__u32 size = read_24(head), stream = read_31(head + 5), prefix = prefix_size(head), padding = 0;
	__u8 type = head[3], flags = head[4];

	if (is_malformed(head)) {
		s->hand_over = SNAPSHOT_RULE;
		return READ_HAND_OVER;
	}
	work->stream = stream;
	if (prefix > size)
		prefix = size;
	size -= prefix;
	d->left = size;
	switch (type) {
	case FRAME_HEADERS:
	case FRAME_PUSH_PROMISE:
		if (flags & PADDED)
			padding = head[FRAME_HEADER_SIZE];
		if (prefix < prefix_size(head) || padding > size) {
			http2_lose(s, c, work);
			return http2_faulty(c);
		}
		__builtin_memset(b, 0, SECTION_SIZE);
		b->stream = stream;
		b->grpc_status = STATUS_NONE;
		b->promises = type == FRAME_PUSH_PROMISE;
		b->end_stream = !b->promises && flags & END_STREAM;
		break;
	case FRAME_CONTINUATION:
		if (!(side->bits & SIDE_IN_BLOCK)) { /* of a block that began out of sight, or of nothing (6.10) */
			http2_lose(s, c, work);
			return side->bits & SIDE_LATE ? READ : http2_faulty(c);
		}
		break;
	case FRAME_DATA:
		if (flags & END_STREAM && s->packet.sender == SERVER)
			http2_data_ends(h, side, stream);
		return READ;
	case FRAME_RST_STREAM:
		work->to_do = DO_END_STREAM;
		return READ;
	case FRAME_GOAWAY:
		work->stream = read_31(head + FRAME_HEADER_SIZE);
		work->to_do = DO_GO_AWAY;
		return READ;
	default:
		return READ;
	}
	d->left = 0;
	side->bits |= SIDE_IN_BLOCK;
	side->state = STATE_BLOCK;
	side->head[0] = padding;
	side->rest = size - padding;
	b->last = !!(flags & END_HEADERS);
	if (!side->rest)
		end_fragment(c, work, side, s->packet.sender);
	return READ;
}

/* An octet of a frame header that is cut over segments, or all of one; 1 where there is enough of it to go on. */
static __noinline int gather_head(struct http2 *h, __u32 at)
{
	struct scratch *s = h->s;
	struct http2_side *side = http2_side(h->c, s->packet.sender);
	__u8 *head = h->work->head;
	const __u8 *payload = s->payload + (at & (PAYLOAD_SIZE - 1));
	__u32 available = s->loaded - at, have = side->have, size;

	if (have) {
		side->head[have < HEAD_SIZE ? have : 0] = *payload;
		side->have = ++have;
		s->at++;
		__builtin_memcpy(head, side->head, HEAD_SIZE);
	} else {
		__builtin_memcpy(head, payload, HEAD_SIZE);
		have = available;
	}
	if (have >= FRAME_HEADER_SIZE) {
		size = read_24(head);
		if (size > prefix_size(head))
			size = prefix_size(head);
		size += FRAME_HEADER_SIZE;
		if (have >= size) {
			if (!side->have)
				s->at += size;
			side->have = 0;
			return 1;
		}
	}
	if (side->have)
		return 0;
	if (s->at + available < s->end) { /* the rest is in this packet, but not loaded */
		h->work->base = 0;
		return 0;
	}
	__builtin_memcpy(side->head, head, HEAD_SIZE);
	side->have = available;
	s->at = s->end;
	return 0;
}

/* The first octets of a side (3.4), or the first that were seen. */
static __always_inline int http2_start(struct http2 *h, struct http2_side *side)
{
	struct scratch *s = h->s;
	struct connection *c = h->c;

	side->state = STATE_FRAME;
	if (s->packet.sender == CLIENT && (!c->joined || s->payload[0] == PREFACE[0])) {
		side->state = STATE_PREFACE;
		return READ;
	}
	if (!c->joined)
		return READ;
	side->bits |= SIDE_LATE;
	if (plausible_end(s, 0))
		return READ;
	s->hand_over = SNAPSHOT_UNDECIDED; /* it will have to look for a frame */
	return READ_HAND_OVER;
}

static __always_inline int http2_preface(struct http2 *h, struct http2_side *side, __u8 octet)
{
	struct http2_side *server = http2_side(h->c, SERVER);

	if (octet != (__u8)PREFACE[side->have & 31]) {
		h->s->hand_over = SNAPSHOT_UNDECIDED;
		return READ_HAND_OVER;
	}
	h->s->at++;
	if (++side->have < PREFACE_SIZE)
		return READ;
	side->have = 0;
	side->state = STATE_FRAME;
	if (server->state == STATE_START)
		server->state = STATE_FRAME;
	return READ;
}

/* A frame header, a piece of a header block, or what is passed over. */
static long http2_step(__u32 i, void *context)
{
	struct http2 *h = context;
	struct http2_work *work = h->work;
	struct scratch *s = h->s;
	struct direction *d = &h->c->directions[s->packet.sender & 1];
	struct http2_side *side = (struct http2_side *)d->parser;
	__u32 at, left = s->end - s->at;

	if (d->left) {
		if (left > d->left)
			left = d->left;
		s->at += left;
		d->left -= left;
	}
	if (s->at >= s->end)
		return 1;
	at = s->at - work->base;
	if (!work->base || at >= s->loaded) {
		load_payload(h->skb, s);
		work->base = s->at;
		at = 0;
		if (!s->loaded)
			return 1;
	}
	switch (side->state) {
	case STATE_FRAME:
		if (!gather_head(h, at))
			return 0;
		if (interrupts(h, side)) {
			work->result = http2_faulty(h->c) ?: http2_section(s, h->c, work, 1);
			if (work->result)
				return 1;
		}
		work->result = http2_frame(h);
		break;
	case STATE_BLOCK:
		work->result = http2_block(s, h->c, work, at);
		break;
	case STATE_LAST:
		s->at++;
		side->state = STATE_FRAME;
		work->stream = side->rest;
		work->to_do = DO_END_STREAM;
		break;
	case STATE_PREFACE:
		work->result = http2_preface(h, side, s->payload[at & (PAYLOAD_SIZE - 1)]);
		break;
	default:
		work->result = http2_start(h, side);
	}
	if (work->to_do == DO_SECTION)
		work->result = http2_section(s, h->c, work, 0);
	else if (work->to_do == DO_END_STREAM)
		end_stream(s, h->c, work, work->stream, 0);
	else if (work->to_do == DO_GO_AWAY)
		http2_go_away(s, h->c, work, work->stream);
	work->to_do = DO_NOTHING;
	return work->result != READ;
}

/* Go on with a header block that was cut; without what came before, the rest of it is passed over. */
static __noinline int restore_block(struct scratch *s, struct connection *c, struct http2_work *work)
{
	struct http2_side *side = http2_side(c, s->packet.sender);
	struct kept_block *kept = bpf_map_lookup_elem(&http2_blocks, &work->key);

	if (kept) {
		bpf_probe_read_kernel(&work->block, BLOCK_KEPT, kept);
		return 0;
	}
	side->bits &= ~SIDE_IN_BLOCK;
	if (side->state == STATE_BLOCK) {
		side->state = STATE_FRAME;
		c->directions[s->packet.sender & 1].left = side->rest + side->head[0];
	}
	return http2_lose(s, c, work);
}

__noinline int http2_read(struct __sk_buff *skb, struct scratch *s, struct connection *c)
{
	__u32 zero = 0;
	struct http2_work *work = bpf_map_lookup_elem(&http2_works, &zero);
	struct http2 h = { skb, s, c, work };

	if (!s || !c || !work)
		return READ_HAND_OVER;
	work->key.connection = c->number;
	work->key.side = s->packet.sender;
	work->base = s->at;
	work->result = READ;
	work->to_do = DO_NOTHING;
	if (http2_side(c, s->packet.sender)->bits & SIDE_IN_BLOCK)
		restore_block(s, c, work);
	bpf_loop(MAX_STEPS, http2_step, &h, 0);
	if (http2_side(c, s->packet.sender)->bits & SIDE_IN_BLOCK && work->result == READ)
		bpf_map_update_elem(&http2_blocks, &work->key, &work->block, BPF_ANY);
	return work->result;
}
