/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* HTTP/2 frames as octets show them: their layout, and whether octets look like frames (RFC 9113, 3.4, 4.1 and 6), as
 * observer/l7/http2_frames.py. For the beginning of a connection, and for joining one in the middle. */
#pragma once

#include "hpack_table.h"

#define FRAME_HEADER_SIZE 9	 /* 4.1 */
#define HEAD_SIZE 17		 /* of a frame, with what is read of it at once */
#define PREFACE_SIZE 24		 /* 3.4 */
#define SEARCH_FRAME_LIMIT 16384 /* observer/l7/http2_frames.py */
#define SEARCHED_FRAMES 4	 /* in which a header block is looked for that tells whose they are */
#define SEARCHED_FIELDS 6	 /* of that block */

enum { FRAME_DATA, FRAME_HEADERS, FRAME_PRIORITY, FRAME_RST_STREAM, FRAME_SETTINGS, FRAME_PUSH_PROMISE, FRAME_PING,
       FRAME_GOAWAY, FRAME_WINDOW_UPDATE, FRAME_CONTINUATION };
enum { END_STREAM = 0x1, END_HEADERS = 0x4, PADDED = 0x8, PRIORITY = 0x20 };

/* Longer than it, for its index needs no check; and of no size that a linker merges, which would be another section. */
static const char PREFACE[PREFACE_SIZE + 16] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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

/* Whose header block begins there: 1 the client's, 2 the server's, 0 cannot be told. Pseudo-fields come first (8.3);
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
