/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/1 (RFC 9112): requests and responses of whole heads in one segment, bodies passed over by their length or chunk
 * by chunk, wherever segments cut them. Reads by the rules of observer/l7/http1_head.py, but strictly: what is spelled
 * in another way than nearly all the world spells it is handed over to that reader, at the beginning of the message.
 *
 * connection.parser: requests told, responses told. direction.parser: enum http_state, chunk size (two words), octets
 * of the line or section that is being read. observer/datapath/complete.py goes on from these. */
#pragma once

#include "message.h"
#include "packet.h"
#include "policy.h"

#define HTTP_WORDS 4		/* looked at for the end of a line, before it is tried again */
#define HTTP_LINES 4		/* looked for in one round of the scan */
#define HTTP_STEPS 8192		/* messages and octets between chunks read in one packet */
#define HTTP_WAITING 256	/* pairing.PENDING_LIMIT */
#define HTTP_HEADS_KNOWN 64	/* of the requests that wait, those of which HTTP_HEADS says it */
#define HTTP_METHOD_MAX 32	/* http1_head.METHOD_LIMIT */
#define HTTP_LINE_MAX 4096	/* http1.CHUNK_LINE_LIMIT */
#define HTTP_TRAILER_MAX 65536	/* http1.TRAILER_LIMIT */
#define HTTP_SPACE_MAX 8	/* white space around a value that is passed over here */
#define HTTP_DIGITS_MAX 18	/* http1_head._DIGITS_LIMIT */
#define HTTP_UNTIL_CLOSE (~0ULL)

enum { METHOD_UNKNOWN, METHOD_GET, METHOD_HEAD, METHOD_POST, METHOD_PUT, METHOD_DELETE, METHOD_CONNECT, METHOD_OPTIONS,
       METHOD_TRACE, METHOD_PATCH, METHOD_OTHER = 255 };

/* What the next octet of a direction belongs to; complete.py has the same list. */
enum http_state {
	HTTP_START,	   /* a message, behind `left` octets of body */
	HTTP_SIZE,	   /* a line with the size of a chunk */
	HTTP_SIZE_DIGITS,
	HTTP_SIZE_BLANK,
	HTTP_SIZE_EXTENSION,
	HTTP_SIZE_LF,
	HTTP_DATA,	   /* `left` octets of a chunk */
	HTTP_DATA_END,	   /* the line end behind it */
	HTTP_DATA_LF,
	HTTP_TRAILER,	   /* a line of the trailer section */
	HTTP_TRAILER_LF,
	HTTP_TRAILER_LINE,
	HTTP_CLOSE,	   /* a body that ends with the connection */
};

enum { HTTP_STATE, HTTP_CHUNK_LOW, HTTP_CHUNK_HIGH, HTTP_LINE_OCTETS }; /* of direction.parser */
enum { HTTP_TOLD, HTTP_ANSWERED, HTTP_HEADS };				/* of connection.parser */

/* A range of scratch.payload. */
struct span {
	__u32 at;
	__u32 end;
};

/* A head on its way through the scan; loop state, and so in map memory. */
struct http_head {
	__u32 base; /* where in the frame scratch.payload begins */
	__u32 at;   /* the next octet to look at, in scratch.payload as all that follows */
	__u32 start;
	__u32 line;	 /* of the line at hand */
	__u32 start_end; /* of the start line, without its line end */
	__u32 end;	 /* behind the head; 0: not seen yet */
	struct span host;
	struct span length;
	struct span coding;
	struct span target;
	struct span method;
	__u32 version;
	__u32 code;
	__u32 number; /* HttpMethod */
	__u32 result; /* of the whole packet: READ_* */
	__u8 only_start; /* look for the end of the start line only */
	__u8 hosts;
	__u8 lengths;
	__u8 codings;
	__u8 was_control; /* the line before was one of these: if this one continues it, user space reads it */
	__u8 is_odd;	  /* user space has to read this head */
	__u8 is_chunked;
	__u8 pad;
	__u64 body; /* its length, if the head tells it */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http_head);
} http_heads SEC(".maps");

struct http_context {
	struct __sk_buff *skb;
	struct connection *c;
	struct scratch *s;
	struct http_head *head;
};

static __always_inline struct http_head *http_head(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&http_heads, &zero);
}

/* Octets of the payload; behind `loaded` there is memory, but no meaning. */
static __always_inline __u8 http_octet(const struct scratch *s, __u32 at)
{
	barrier_var(at); /* else the compiler checks one register and uses another */
	return at < PAYLOAD_SIZE ? s->payload[at] : 0;
}

static __always_inline __u64 http_word(const struct scratch *s, __u32 at)
{
	barrier_var(at);
	return at <= PAYLOAD_SIZE ? *(const __u64 *)(s->payload + at) : 0;
}

static __always_inline int http_is_space(__u8 octet)
{
	return octet == ' ' || (octet >= '\t' && octet <= '\r');
}

/* Eight letters, small ones, as http_word gives them when they are in either case. */
#define HTTP_LETTERS(a, b, c, d, e, f, g, h)                                                                           \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | (__u64)(f) << 40 |    \
	 (__u64)(g) << 48 | (__u64)(h) << 56)
#define HTTP_SMALL 0x2020202020202020ULL
#define HTTP_SEVEN 0x00ffffffffffffffULL
#define HTTP_SIX 0x0000ffffffffffffULL

/* The fields that decide where a message ends and whom it is for, and those that only user space reads. */
static __always_inline void http_line(const struct scratch *s, struct http_head *h, __u32 at, __u32 end)
{
	__u64 word = http_word(s, at), small = word | HTTP_SMALL;
	__u8 was_control = h->was_control;
	struct span value = { .end = end };
	__u32 colon;

	h->was_control = 0;
	switch ((__u8)small) {
	case ' ': /* a space, or NUL */
	case ')': /* a tab, or such */
		if (was_control && ((__u8)word == ' ' || (__u8)word == '\t'))
			h->is_odd = 1; /* obs-fold */
		return;
	case 'h':
		if ((__u32)small != (__u32)HTTP_LETTERS('h', 'o', 's', 't', 0, 0, 0, 0))
			return;
		colon = at + 4;
		break;
	case 'c':
		if ((small & HTTP_SEVEN) != HTTP_LETTERS('c', 'o', 'n', 't', 'e', 'n', 't', 0) || word >> 56 != '-')
			return;
		word = http_word(s, at + 8) | HTTP_SMALL;
		if ((word & HTTP_SIX) == HTTP_LETTERS('l', 'e', 'n', 'g', 't', 'h', 0, 0)) {
			colon = at + 14;
			break;
		}
		if ((__u32)word != (__u32)HTTP_LETTERS('t', 'y', 'p', 'e', 0, 0, 0, 0))
			return;
		colon = at + 12;
		break;
	case 't':
		if (small != HTTP_LETTERS('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') || http_octet(s, at + 8) != '-' ||
		    (http_word(s, at + 9) | HTTP_SMALL) != HTTP_LETTERS('e', 'n', 'c', 'o', 'd', 'i', 'n', 'g'))
			return;
		colon = at + 17;
		break;
	case 'u':
		if ((small & HTTP_SEVEN) != HTTP_LETTERS('u', 'p', 'g', 'r', 'a', 'd', 'e', 0))
			return;
		colon = at + 7;
		break;
	default:
		return;
	}
	if (colon >= end)
		return;
	if (http_octet(s, colon) == ' ' || http_octet(s, colon) == '\t') {
		h->is_odd = 1; /* RFC 9112, 5.1 */
		return;
	}
	if (http_octet(s, colon) != ':')
		return;
	h->was_control = 1;
	value.at = colon + 1;
	switch (colon - at) {
	case 4:
		h->hosts++;
		h->host = value;
		return;
	case 14:
		h->lengths++;
		h->length = value;
		return;
	case 17:
		h->codings++;
		h->coding = value;
		return;
	case 12: /* gRPC-Web's content-type; nobody else's begins so */
		if (http_octet(s, value.at) == ' ')
			value.at++;
		if (http_is_space(http_octet(s, value.at)) && value.at + 1 < end)
			h->is_odd = 1;
		if ((http_word(s, value.at) | HTTP_SMALL) == HTTP_LETTERS('a', 'p', 'p', 'l', 'i', 'c', 'a', 't') &&
		    (http_octet(s, value.at + 12) | 0x20) == 'g' && (http_octet(s, value.at + 13) | 0x20) == 'r' &&
		    (http_octet(s, value.at + 14) | 0x20) == 'p' && (http_octet(s, value.at + 15) | 0x20) == 'c')
			h->is_odd = 1;
		return;
	default:
		h->is_odd = 1; /* upgrade */
	}
}

/* Go on to the next line end, eight octets at a time; 1 where there is nothing more to look for. */
static __always_inline int http_scan_line(struct http_context *context)
{
	struct http_head *h = context->head;
	struct scratch *s = context->s;
	__u32 at = h->at, line = h->line;
	__u64 word, found = 0;

	if (at >= s->loaded)
		return 1;
	for (int words = 0; words < HTTP_WORDS; words++) {
		word = http_word(s, at) ^ 0x0a0a0a0a0a0a0a0aULL;
		found = (word - 0x0101010101010101ULL) & ~word & 0x8080808080808080ULL;
		if (found)
			break;
		at += 8;
	}
	if (!found) {
		h->at = at;
		return 0;
	}
	/* Octets before the first that is marked: of those whose lowest bit is set below the mark, all but the last. */
	at += ((((found - 1) & ~found & 0x0101010101010101ULL) * 0x0101010101010101ULL) >> 56) - 1;
	if (at >= s->loaded)
		return 1;
	h->at = h->line = at + 1;
	if (line == h->start) {
		h->start_end = at;
		return h->only_start ? 1 : 0;
	}
	if (at == line || (at == line + 1 && http_octet(s, line) == '\r')) {
		h->end = at + 1;
		return 1;
	}
	http_line(s, h, line, at);
	return 0;
}

/* Some lines at once, because each round costs a call. */
static long http_scan(__u32 index, void *context)
{
	for (int lines = 0; lines < HTTP_LINES; lines++) {
		if (http_scan_line(context))
			return 1;
	}
	return 0;
}

/* Find the end of the head that begins at `start`, and the fields that matter. */
__noinline int http_find_end(__u32 start, int only_start)
{
	struct scratch *s = scratch();
	struct http_head *h = http_head();
	struct http_context context = { .s = s, .head = h };

	if (!s || !h)
		return 0;
	h->at = h->start = h->line = start;
	h->start_end = h->end = 0;
	h->only_start = only_start;
	h->hosts = h->lengths = h->codings = h->was_control = h->is_odd = 0;
	bpf_loop(PAYLOAD_SIZE, http_scan, &context, 0);
	return only_start ? h->start_end : h->end;
}

/* Methods with a number of their own: their letters and the space behind them. */
static __always_inline __u32 http_known_method(__u64 word, __u32 *length)
{
	__u64 first;

#define HTTP_METHOD(name, size, ...)                                                                                   \
	first = HTTP_LETTERS(__VA_ARGS__);                                                                             \
	if ((word & (~0ULL >> (56 - 8 * (size)))) == first) {                                                          \
		*length = size;                                                                                        \
		return METHOD_##name;                                                                                  \
	}
	HTTP_METHOD(GET, 3, 'G', 'E', 'T', ' ', 0, 0, 0, 0)
	HTTP_METHOD(POST, 4, 'P', 'O', 'S', 'T', ' ', 0, 0, 0)
	HTTP_METHOD(HEAD, 4, 'H', 'E', 'A', 'D', ' ', 0, 0, 0)
	HTTP_METHOD(PUT, 3, 'P', 'U', 'T', ' ', 0, 0, 0, 0)
	HTTP_METHOD(DELETE, 6, 'D', 'E', 'L', 'E', 'T', 'E', ' ', 0)
	HTTP_METHOD(OPTIONS, 7, 'O', 'P', 'T', 'I', 'O', 'N', 'S', ' ')
	HTTP_METHOD(PATCH, 5, 'P', 'A', 'T', 'C', 'H', ' ', 0, 0)
	HTTP_METHOD(TRACE, 5, 'T', 'R', 'A', 'C', 'E', ' ', 0, 0)
	HTTP_METHOD(CONNECT, 7, 'C', 'O', 'N', 'N', 'E', 'C', 'T', ' ')
#undef HTTP_METHOD
	return METHOD_UNKNOWN;
}

static __always_inline int http_is_token(__u8 octet)
{
	if ((octet >= 'a' && octet <= 'z') || (octet >= 'A' && octet <= 'Z') || (octet >= '0' && octet <= '9'))
		return 1;
	switch (octet) {
	case '!': case '#': case '$': case '%': case '&': case '\'': case '*': case '+': case '-': case '.': case '^':
	case '_': case '`': case '|': case '~':
		return 1;
	default:
		return 0;
	}
}

/* Any other method (RFC 9110, 5.6.2 and 9.1): its length, 0 if it is none. Global for the verifier to read it once. */
__noinline int http_other_method(__u32 at)
{
	struct scratch *s = scratch();

	if (!s)
		return 0;
	for (__u32 size = 0; size <= HTTP_METHOD_MAX; size++) {
		__u8 octet = http_octet(s, at + size);

		if (octet == ' ')
			return size;
		if (!http_is_token(octet))
			return 0;
	}
	return 0;
}

/* Read a request line as http1_head.request_line does where single spaces part it; 0 where user space has to. */
static __always_inline int http_request_line(const struct scratch *s, struct http_head *h)
{
	__u32 at = h->start, end = h->start_end, size = 0;
	__u8 digit;

	if (end > at && http_octet(s, end - 1) == '\r')
		end--;
	h->number = http_known_method(http_word(s, at), &size);
	if (!h->number) {
		size = http_other_method(at);
		h->number = METHOD_OTHER;
	}
	if (!size || end - at < size + 11 || end - at > PAYLOAD_SIZE)
		return 0;
	digit = http_octet(s, end - 1) - '0';
	if (http_word(s, end - 9) != HTTP_LETTERS(' ', 'H', 'T', 'T', 'P', '/', '1', '.') || digit > 9)
		return 0;
	h->version = 10 + digit;
	h->method.at = at;
	h->method.end = at + size;
	h->target.at = at + size + 1;
	h->target.end = end - 9;
	return !http_is_space(http_octet(s, h->target.at)) && !http_is_space(http_octet(s, h->target.end - 1));
}

/* Read a status line as http1_head.status_line does where one space parts it; 0 where user space has to. */
static __always_inline int http_status_line(const struct scratch *s, struct http_head *h)
{
	__u32 at = h->start, size = h->start_end - at;
	__u64 word = http_word(s, at);
	__u32 code = 0;
	__u8 digit, behind;

	if (size < 12 || (word & HTTP_SEVEN) != HTTP_LETTERS('H', 'T', 'T', 'P', '/', '1', '.', 0) ||
	    http_octet(s, at + 8) != ' ')
		return 0;
	digit = (word >> 56) - '0';
	if (digit > 9)
		return 0;
	h->version = 10 + digit;
	for (__u32 place = 9; place < 12; place++) {
		digit = http_octet(s, at + place) - '0';
		if (digit > 9)
			return 0;
		code = code * 10 + digit;
	}
	h->code = code;
	behind = size > 12 ? http_octet(s, at + 12) : ' ';
	return behind == ' ' || behind == '\t' || behind == '\r';
}

/* Take white space off both ends of a value; 0 where there is more of it than is usual. */
static __always_inline int http_strip(const struct scratch *s, struct span *value)
{
	for (int count = 0; count < HTTP_SPACE_MAX && value->at < value->end; count++) {
		if (!http_is_space(http_octet(s, value->at)))
			break;
		value->at++;
	}
	for (int count = 0; count < HTTP_SPACE_MAX && value->at < value->end; count++) {
		if (!http_is_space(http_octet(s, value->end - 1)))
			break;
		value->end--;
	}
	return value->at == value->end ||
	       (!http_is_space(http_octet(s, value->at)) && !http_is_space(http_octet(s, value->end - 1)));
}

static __always_inline int http_digits(const struct scratch *s, const struct span *value, __u64 *number)
{
	__u32 size = value->end - value->at;

	*number = 0;
	if (!size || size > HTTP_DIGITS_MAX)
		return 0;
	for (__u32 place = 0; place < HTTP_DIGITS_MAX; place++) {
		__u8 digit = http_octet(s, value->at + place) - '0';

		if (place >= size)
			break;
		if (digit > 9)
			return 0;
		*number = *number * 10 + digit;
	}
	return 1;
}

/* Where the body ends, as far as the head says: head.is_chunked, or head.body if there is a length. 0: user space
 * decides. Global, so that the verifier reads it once. */
__noinline int http_framing(void)
{
	struct scratch *s = scratch();
	struct http_head *h = http_head();
	struct span value;

	if (!s || !h)
		return 0;
	h->is_chunked = 0;
	h->body = 0;
	if (h->hosts > 1 || h->lengths > 1 || h->codings > 1 || h->lengths + h->codings > 1)
		return 0;
	if (h->hosts && !http_strip(s, &h->host))
		return 0;
	if (h->codings) {
		value = h->coding;
		if (!http_strip(s, &value) || value.end - value.at != 7 || h->version == 10 ||
		    ((http_word(s, value.at) | HTTP_SMALL) & HTTP_SEVEN) !=
			    HTTP_LETTERS('c', 'h', 'u', 'n', 'k', 'e', 'd', 0))
			return 0;
		h->is_chunked = 1;
	}
	if (h->lengths) {
		value = h->length;
		return http_strip(s, &value) && http_digits(s, &value, &h->body);
	}
	return 1;
}

/* A span, bounded for the verifier. */
static __always_inline const __u8 *http_text(const struct scratch *s, const struct span *span, __u32 *size)
{
	__u32 at = span->at;

	*size = span->end - at;
	barrier_var(at);
	if (at > PAYLOAD_SIZE) {
		*size = 0;
		at = 0;
	}
	return s->payload + at;
}

#define HTTP_COPY(s, request, name, limit, span)                                                                       \
	do {                                                                                                           \
		__u32 size;                                                                                            \
		const __u8 *text = http_text(s, span, &size);                                                          \
                                                                                                                       \
		(request)->name##_length = 0;                                                                          \
		if (size > (limit))                                                                                    \
			(request)->unreadable = 1;                                                                     \
		barrier_var(size);                                                                                     \
		if (size >= 1 && size <= (limit)) {                                                                    \
			bpf_probe_read_kernel((request)->name, size, text);                                            \
			(request)->name##_length = size;                                                               \
		}                                                                                                      \
	} while (0)

/* What policy looks at. */
static __noinline void http_fill_request(struct scratch *s, struct http_head *h)
{
	struct http_request *request = &s->request;

	request->unreadable = 0;
	HTTP_COPY(s, request, method, REQUEST_METHOD_SIZE, &h->method);
	HTTP_COPY(s, request, path, REQUEST_PATH_SIZE, &h->target);
	HTTP_COPY(s, request, host, REQUEST_HOST_SIZE, &h->host);
}

/* Whether a request is HEAD, in a bit of the connection's own: on that depends where its response ends, and that has to
 * be known also where others have pushed the request out. */
static __always_inline void http_note_head(struct connection *c, __u32 id, int is_head)
{
	__u32 *heads = &c->parser[HTTP_HEADS + (id >> 5 & 1)], bit = 1U << (id & 31);

	*heads = is_head ? *heads | bit : *heads & ~bit;
}

static __always_inline int http_was_head(const struct connection *c, __u32 id)
{
	return c->parser[HTTP_HEADS + (id >> 5 & 1)] >> (id & 31) & 1;
}

/* Tell the request of the head that was found; its body is what `left` or the chunks say. */
__noinline int http_request(struct connection *c)
{
	struct scratch *s = scratch();
	struct http_head *h = http_head();
	struct flow_record *record;
	struct direction *d;
	const __u8 *text;
	__u32 size;

	if (!c || !s || !h)
		return READ_HAND_OVER;
	if (h->is_odd || !http_request_line(s, h) || !http_framing())
		return READ_HAND_OVER;
	/* Forms of targets that say more than a path (RFC 9112, 3.2), and tunnels. */
	if (h->number == METHOD_CONNECT || (http_octet(s, h->target.at) != '/' && http_octet(s, h->target.at) != '*'))
		return READ_HAND_OVER;
	if (c->parser[HTTP_TOLD] - c->parser[HTTP_ANSWERED] >= HTTP_WAITING)
		return READ_HAND_OVER;
	record = &s->record;
	begin_message(s);
	record->l7_kind = KIND_HTTP;
	record->l7_method = h->number;
	record->l7_version = h->version;
	record->present |= METHOD;
	text = http_text(s, &h->target, &size);
	add_short_text(s, 0, text, size);
	if (h->hosts) {
		text = http_text(s, &h->host, &size);
		add_short_text(s, 1, text, size);
	}
	if (h->number == METHOD_OTHER) {
		text = http_text(s, &h->method, &size);
		add_text(s, 2, text, size);
	}
	if (c->decision.egress_l7 | c->decision.ingress_l7) {
		if (!h->hosts)
			h->host.at = h->host.end = h->start;
		http_fill_request(s, h);
		policy_http(&s->request, &c->decision, &s->judgement);
	}
	d = &c->directions[CLIENT];
	d->parser[HTTP_STATE] = h->is_chunked ? HTTP_SIZE : HTTP_START;
	d->parser[HTTP_CHUNK_LOW] = d->parser[HTTP_CHUNK_HIGH] = d->parser[HTTP_LINE_OCTETS] = 0;
	d->left = h->body;
	http_note_head(c, c->parser[HTTP_TOLD], h->number == METHOD_HEAD);
	return tell_request(s, c, c->parser[HTTP_TOLD]++) ? READ_REFUSED : READ;
}

/* Tell the response of the head that was found: to the oldest request that waits (RFC 9112, 9.3.2). */
__noinline int http_response(struct connection *c)
{
	struct scratch *s = scratch();
	struct http_head *h = http_head();
	struct flow_record *record;
	int is_bodyless, is_asked;
	struct direction *d;
	__u32 id;

	if (!c || !s || !h)
		return READ_HAND_OVER;
	if (h->is_odd || !http_status_line(s, h) || !http_framing() || h->code == 101)
		return READ_HAND_OVER;
	if (h->code >= 100 && h->code < 200)
		return READ; /* RFC 9110, 15.2: interim, the response is still to come */
	id = c->parser[HTTP_ANSWERED];
	is_asked = c->parser[HTTP_TOLD] != id;
	is_bodyless = h->code == 204 || h->code == 304;
	if (is_asked && c->parser[HTTP_TOLD] - id <= HTTP_HEADS_KNOWN) {
		is_bodyless |= http_was_head(c, id);
	} else if (is_asked) {
		if (!find_pending(c->number, id))
			return READ_HAND_OVER; /* user space counts it as lost */
		is_bodyless |= s->asked.l7_method == METHOD_HEAD;
	}
	record = &s->record;
	begin_message(s);
	record->l7_kind = KIND_HTTP;
	record->l7_version = h->version;
	record->l7_code = h->code;
	record->present |= CODE;
	if (!tell_response(s, c, id, 0) && is_asked)
		count(COUNT_PENDING_LOST);
	c->parser[HTTP_ANSWERED] += is_asked;
	d = &c->directions[SERVER];
	d->parser[HTTP_STATE] = HTTP_START;
	d->parser[HTTP_CHUNK_LOW] = d->parser[HTTP_CHUNK_HIGH] = d->parser[HTTP_LINE_OCTETS] = 0;
	d->left = 0;
	if (is_bodyless)
		return READ;
	if (h->is_chunked) {
		d->parser[HTTP_STATE] = HTTP_SIZE;
	} else if (h->lengths) {
		d->left = h->body;
	} else {
		d->parser[HTTP_STATE] = HTTP_CLOSE;
		d->left = HTTP_UNTIL_CLOSE;
	}
	return READ;
}

/* One octet between chunks, or of the trailer section (RFC 9112, 7.1). */
static __noinline int http_between(struct direction *d, __u8 octet)
{
	__u64 size = d->parser[HTTP_CHUNK_LOW] | (__u64)d->parser[HTTP_CHUNK_HIGH] << 32;
	__u32 state = d->parser[HTTP_STATE];
	__u8 digit = octet - '0';

	if (digit > 9)
		digit = (octet | 0x20) >= 'a' && (octet | 0x20) <= 'f' ? (octet | 0x20) - 'a' + 10 : 255;
	d->parser[HTTP_LINE_OCTETS]++;
	switch (state) {
	case HTTP_SIZE:
		if (digit == 255)
			return READ_HAND_OVER;
		state = HTTP_SIZE_DIGITS;
		size = digit;
		break;
	case HTTP_SIZE_DIGITS:
		if (digit != 255) {
			if (size >> 56)
				return READ_HAND_OVER;
			size = size << 4 | digit;
			break;
		}
		/* fall through */
	case HTTP_SIZE_BLANK:
		if (octet == ' ' || octet == '\t')
			state = HTTP_SIZE_BLANK;
		else if (octet == ';')
			state = HTTP_SIZE_EXTENSION;
		else if (octet == '\r')
			state = HTTP_SIZE_LF;
		else if (octet != '\n')
			return READ_HAND_OVER;
		break;
	case HTTP_SIZE_LF:
		if (octet != '\n')
			return READ_HAND_OVER;
		break;
	case HTTP_SIZE_EXTENSION:
		break;
	case HTTP_DATA_END:
		if (octet == '\r')
			state = HTTP_DATA_LF;
		else if (octet == '\n')
			state = HTTP_SIZE;
		else
			return READ_HAND_OVER;
		break;
	case HTTP_DATA_LF:
		if (octet != '\n')
			return READ_HAND_OVER;
		state = HTTP_SIZE;
		break;
	case HTTP_TRAILER:
		state = octet == '\n' ? HTTP_START : octet == '\r' ? HTTP_TRAILER_LF : HTTP_TRAILER_LINE;
		break;
	case HTTP_TRAILER_LF:
		state = octet == '\n' ? HTTP_START : HTTP_TRAILER_LINE;
		break;
	default:
		if (octet == '\n')
			state = HTTP_TRAILER;
	}
	if (octet == '\n' && state >= HTTP_SIZE_DIGITS && state <= HTTP_SIZE_LF) {
		state = size ? HTTP_DATA : HTTP_TRAILER;
		d->left = size;
		size = 0;
		d->parser[HTTP_LINE_OCTETS] = 0;
	} else if (state == HTTP_SIZE) {
		d->parser[HTTP_LINE_OCTETS] = 0;
	}
	d->parser[HTTP_STATE] = state;
	d->parser[HTTP_CHUNK_LOW] = size;
	d->parser[HTTP_CHUNK_HIGH] = size >> 32;
	if (d->parser[HTTP_LINE_OCTETS] > (state >= HTTP_TRAILER ? HTTP_TRAILER_MAX : HTTP_LINE_MAX))
		return READ_HAND_OVER;
	return READ;
}

/* Read the head at `at`; where its end is not in what is loaded, load from there on and look again. */
static __always_inline int http_message(struct http_context *context, struct direction *d, __u32 at)
{
	struct http_head *h = context->head;
	struct scratch *s = context->s;
	int result;

	if (!http_find_end(at, 0)) {
		if (!at || h->base + s->loaded >= s->end) {
			s->hand_over = SNAPSHOT_LONG;
			return READ_HAND_OVER;
		}
		load_payload(context->skb, s);
		h->base = s->at;
		if (!http_find_end(0, 0)) {
			s->hand_over = SNAPSHOT_LONG;
			return READ_HAND_OVER;
		}
	}
	result = s->packet.sender == CLIENT ? http_request(context->c) : http_response(context->c);
	if (result == READ)
		s->at = h->base + h->end;
	return result;
}

/* Read one thing more: the rest of a body, an octet between chunks, a head. */
static long http_step(__u32 index, void *data)
{
	struct http_context *context = data;
	struct http_head *h = context->head;
	struct scratch *s = context->s;
	struct direction *d = &context->c->directions[s->packet.sender & 1];
	__u32 at;

	if (d->left) {
		__u64 size = s->end - s->at;

		if (size > d->left)
			size = d->left;
		s->at += size;
		if (d->left != HTTP_UNTIL_CLOSE)
			d->left -= size;
	}
	if (s->at >= s->end) {
		h->result = READ;
		return 1;
	}
	at = s->at - h->base;
	if (at >= s->loaded) {
		load_payload(context->skb, s);
		h->base = s->at;
		at = 0;
		if (!s->loaded)
			return 1;
	}
	if (d->parser[HTTP_STATE] == HTTP_DATA)
		d->parser[HTTP_STATE] = HTTP_DATA_END;
	if (d->parser[HTTP_STATE] != HTTP_START) {
		h->result = http_between(d, http_octet(s, at));
		if (h->result == READ)
			s->at++;
	} else if (http_octet(s, at) == '\r' || http_octet(s, at) == '\n') {
		s->at++; /* RFC 9112, 2.2 */
	} else {
		h->result = http_message(context, d, at);
	}
	if (h->result != READ)
		return 1;
	h->result = READ_HAND_OVER; /* if there are no more steps */
	return 0;
}

__noinline int http_read(struct __sk_buff *skb, struct connection *c)
{
	struct scratch *s = scratch();
	struct http_head *h = http_head();
	struct http_context context = { .skb = skb, .c = c, .s = s, .head = h };

	if (!s || !h || !c)
		return READ_HAND_OVER;
	s->hand_over = SNAPSHOT_RULE;
	h->base = s->at;
	h->result = READ_HAND_OVER;
	bpf_loop(HTTP_STEPS, http_step, &context, 0);
	return h->result;
}

/* Whose first octets these are, if they are a start line. */
__noinline int http_detect(void)
{
	struct scratch *s = scratch();
	struct http_head *h = http_head();

	if (!s || !h || !http_find_end(0, 1))
		return 0;
	if (http_status_line(s, h))
		return 1 + SERVER;
	return http_request_line(s, h) ? 1 + CLIENT : 0;
}
