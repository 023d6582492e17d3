/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The streams of an HTTP/2 connection: header sections of both sides in, requests and responses out, gRPC among them,
 * by the rules of observer/l7/http2_streams.py. A request waits in pending_requests under its stream's number, and with
 * it what is known of its response; a gRPC response is told when its trailers have come. It knows no octets. */
#pragma once

#include "hpack_values.h"
#include "http2_frames.h"
#include "message.h"
#include "policy.h"

#define GOAWAY_LIMIT 16	  /* observer/l7/http2_streams.py */
#define GOAWAY_STREAMS 64 /* streams that one GOAWAY ends; the newest */
#define HTTP2_VERSION 20
#define METHOD_CONNECT 6

/* Over connection.parser. */
struct http2_connection {
	__u32 newest; /* stream that the client opened */
	__u16 malformed;
	__u16 goaways;
	__u32 pad[2];
};

/* Over scratch.keep and pending.parser: the response, as far as it came. */
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

_Static_assert(sizeof(struct http2_connection) == sizeof(((struct connection *)0)->parser), "http2_connection");
_Static_assert(sizeof(struct http2_stream) == sizeof(((struct pending *)0)->parser), "http2_stream");

/* What one packet is worked on in. */
struct http2_work {
	__u32 base;   /* where in the frame scratch.payload begins */
	__u32 result; /* READ_* */
	__u32 to_do;  /* what came asks for */
	__u32 stream; /* of it */
	struct hpack_key key; /* of the side that sends, for tables and blocks; keys are here, for the stack is short */
	__u8 head[HEAD_SIZE + 7];
	struct hpack_table fresh; /* empty */
	struct header_block block;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http2_work);
} http2_works SEC(".maps");

/* Give the texts of a request to the record: http2_head.texts_of. */
static __noinline int add_texts(struct scratch *s, struct header_block *b)
{
	const __u8 *host = b->authority_length ? b->authority : b->host;
	__u32 host_length = b->authority_length ?: b->host_length;
	int has_protocol = b->seen >> FIELD_PROTOCOL & 1;

	if (b->method == METHOD_CONNECT && !b->path_length && !has_protocol && !b->unknown && !b->cut)
		add_text(s, 0, host, host_length); /* 8.5: as HTTP/1 has it, in authority-form */
	else
		add_short_text(s, 0, b->path, b->path_length);
	add_short_text(s, 1, host, host_length);
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
static const struct method_name METHOD_NAMES[10] = {
	{ "", 0 },	 { "GET", 3 },	   { "HEAD", 4 },    { "POST", 4 },  { "PUT", 3 },
	{ "DELETE", 6 }, { "CONNECT", 7 }, { "OPTIONS", 7 }, { "TRACE", 5 }, { "PATCH", 5 },
};

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
	struct http2_stream *stream = (struct http2_stream *)s->keep;
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

/* Tell the response of the stream in scratch.asked as far as it came; `keep`: more of it follows. */
static __always_inline void tell_answer(struct scratch *s, struct connection *c, __u32 stream, int keep)
{
	struct pending *asked = &s->asked;
	struct http2_stream *state = (struct http2_stream *)asked->parser;
	struct flow_record *record = &s->record;

	begin_message(s);
	record->l7_kind = asked->l7_kind;
	record->l7_version = HTTP2_VERSION;
	record->l7_id = stream;
	record->present |= L7_ID;
	if (state->code) {
		record->l7_code = state->code;
		record->present |= CODE;
	}
	if (asked->l7_kind == KIND_GRPC && state->grpc_status != STATUS_NONE) {
		record->grpc_status = state->grpc_status;
		record->present |= GRPC_STATUS;
	}
	record->flags |= asked->flags & FLAG_L7_INCOMPLETE;
	if (state->incomplete)
		record->flags |= FLAG_L7_INCOMPLETE;
	state->told = 1;
	if (state->no_request)
		drop_pending(c->number, stream);
	else if (keep)
		update_pending(c->number, stream);
	tell_response(s, c, stream, keep);
}

/* Whether the request of a stream was seen. What a server answers twice counts as well. */
static __always_inline int http2_was_asked(const struct connection *c, __u32 stream)
{
	const struct http2_connection *state = (const struct http2_connection *)c->parser;

	return !c->joined && stream & 1 && stream <= state->newest;
}

/* A response, its trailers or an interim one: http2_streams.Streams._answered. */
static __always_inline int http2_answered(struct scratch *s, struct connection *c, struct http2_work *work)
{
	struct header_block *b = &work->block;
	struct pending *asked = &s->asked;
	struct http2_stream *state = (struct http2_stream *)asked->parser;
	int begins = b->seen >> FIELD_STATUS & 1, has_status = b->seen >> FIELD_GRPC_STATUS & 1;
	int is_known = find_pending(c->number, b->stream);

	if (b->code >= 100 && b->code < 200) /* 8.1: interim, the response is still to come */
		return READ;
	if (!begins && b->begins_unknown && !(is_known && state->answered)) {
		if (!is_known && b->end_stream)
			return READ; /* the first section or the last */
		begins = 1;
	}
	if (!is_known) {
		if (!begins && !has_status)
			return READ; /* trailers of a response that was not seen */
		if (begins && http2_was_asked(c, b->stream))
			count(COUNT_PENDING_LOST);
		__builtin_memset(asked, 0, sizeof(*asked));
		asked->l7_kind = KIND_HTTP;
		asked->flags = FLAG_L7_INCOMPLETE;
		state->grpc_status = STATUS_NONE;
		state->no_request = 1;
	}
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
		if ((b->content_type || has_status) && asked->flags & FLAG_L7_INCOMPLETE)
			asked->l7_kind = KIND_GRPC; /* its request could not say so */
		if (b->seen & 1 << FIELD_GRPC_STATUS || b->grpc_status != STATUS_NONE)
			state->grpc_status = b->grpc_status;
		if (b->end_stream || (begins && asked->l7_kind != KIND_GRPC)) {
			tell_answer(s, c, b->stream, !b->end_stream);
			if (is_known || b->end_stream)
				return READ;
		}
		if (is_known)
			update_pending(c->number, b->stream);
		else
			put_pending(c->number, b->stream);
		return READ;
	}
	if (b->end_stream)
		drop_pending(c->number, b->stream);
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
static __noinline int end_stream(struct scratch *s, struct connection *c, __u32 stream, int unanswered_only)
{
	struct http2_stream *state = (struct http2_stream *)s->asked.parser;

	if (!find_pending(c->number, stream))
		return 0;
	if (unanswered_only && state->answered)
		return 0;
	if (state->told) {
		drop_pending(c->number, stream);
		return 0;
	}
	if (s->packet.sender != CLIENT) {
		tell_answer(s, c, stream, 0);
		return 0;
	}
	/* Kept: the server may have answered before it hears of it, and that is not told once more (5.1). */
	swap_ends(&s->record);
	tell_answer(s, c, stream, 1);
	swap_ends(&s->record);
	return 0;
}

struct going_away {
	struct scratch *s;
	struct connection *c;
	__u32 first;
};

static long end_unseen(__u32 i, void *context)
{
	struct going_away *g = context;

	end_stream(g->s, g->c, g->first + 2 * i, 1);
	return 0;
}

/* 6.8: the server will not look at the requests after `last`. */
static __noinline int http2_go_away(struct scratch *s, struct connection *c, __u32 last)
{
	struct http2_connection *state = (struct http2_connection *)c->parser;
	struct going_away g = { s, c, (last + 1) | 1 };
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
