/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What the fields that matter say: names to kinds, values to numbers, and both into the section of a block, by the
 * rules of observer/l7/http2_head.py and grpc.py. Knows no tables and no octets of blocks. */
#pragma once

#include "hpack_table.h"

/* Eight octets as a little-endian word. */
#define WORD(a, b, c, d, e, f, g, h)                                                                                   \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | (__u64)(f) << 40 |    \
	 (__u64)(g) << 48 | (__u64)(h) << 56)

/* Copy a text that matters into the section; what does not fit is cut. */
static __always_inline void take_text(__u8 *target, __u32 size, const void *text, __u32 length)
{
	if (length > size)
		length = size;
	barrier_var(length);
	if (length >= 1 && length <= size)
		bpf_probe_read_kernel(target, length, text);
}

/* Whether the number of a field does not say it all. */
static __always_inline int needs_text(const struct hpack_slot *slot)
{
	return slot->bits & SLOT_TEXT && slot->kind != FIELD_CONTENT_TYPE;
}

/* The section gets a field; `kept` octets of its `length` stand in `text`. As observer/l7/http2_head.py. */
static __always_inline int take_field(struct header_block *b, const struct hpack_slot *slot, const void *text,
				      __u32 length, __u32 kept)
{
	__u32 bit = 1u << (slot->kind & 31);
	__u8 *target = NULL;

	b->begun = 1;
	if (++b->fields > FIELDS_LIMIT) {
		b->cut = 1;
		return 0;
	}
	if (slot->kind == FIELD_UNKNOWN) {
		b->begins_unknown |= b->fields == 1;
		b->unknown = 1;
		return 0;
	}
	if (slot->kind == FIELD_OTHER || slot->kind >= FIELD_HOST) {
		b->regular = 1;
		if (slot->bits & SLOT_LEFT_OUT || slot->kind == FIELD_OTHER)
			return 0;
		if (slot->kind == FIELD_GRPC_STATUS) { /* of several the last one counts */
			if (!(slot->bits & SLOT_EMPTY))
				b->seen |= bit;
			b->grpc_status = slot->number;
			return 0;
		}
	} else if (b->regular) {
		return 0;
	}
	if (b->seen & bit)
		return 0;
	b->seen |= bit;
	if (needs_text(slot) && !text) {
		b->unknown = 1; /* its text was pushed out */
		return 0;
	}
	switch (slot->kind) {
	case FIELD_METHOD:
		b->method = slot->number;
		b->method_length = length;
		target = slot->number == METHOD_OTHER ? b->method_text : NULL;
		break;
	case FIELD_PATH:
		b->path_length = length;
		b->path_cut = length > kept;
		target = b->path;
		break;
	case FIELD_AUTHORITY:
		b->authority_length = length;
		target = b->authority;
		break;
	case FIELD_SCHEME:
		b->scheme = slot->number;
		b->scheme_length = length;
		target = slot->number == SCHEME_OTHER ? b->scheme_text : NULL;
		break;
	case FIELD_STATUS:
		b->code = slot->number;
		break;
	case FIELD_HOST:
		b->host_length = length;
		target = b->host;
		break;
	case FIELD_CONTENT_TYPE:
		b->content_type = slot->number;
		break;
	case FIELD_GRPC_TIMEOUT:
		if (slot->bits & SLOT_EMPTY)
			b->seen &= ~bit;
		break;
	}
	if (!target || !text)
		return 0;
	if (length > kept)
		length = kept;
	if (length <= SHORT_TEXT)
		__builtin_memcpy(target, text, SHORT_TEXT); /* cheaper than the call */
	else if (target == b->path)
		take_text(b->path, VALUE_SIZE, text, length);
	else
		take_text(target, TEXT_KEPT, text, length);
	return 0;
}

/* Which field a name is. There is but one Huffman coding of it, so nothing is decoded. */
static __always_inline __u8 kind_of_name(const struct header_block *b)
{
	__u8 first = b->name[0];

#define NAME(kind, length, low, high, coded_length, coded_low, coded_high)                                             \
	if (b->huffman ? b->name_length == coded_length && b->name[0] == coded_low && b->name[1] == coded_high :       \
			 b->name_length == length && b->name[0] == low && b->name[1] == high)                          \
		return kind;
	HPACK_NAMES(NAME)
#undef NAME
	/* ":" is seven bits long. */
	return (b->huffman ? (first & 0xfe) == 0xb8 : first == ':') ? FIELD_OTHER_PSEUDO : FIELD_OTHER;
}

static __always_inline __u16 method_number(__u64 word, __u32 length)
{
	if (length > 7)
		return METHOD_OTHER;
	word &= (1ULL << length * 8) - 1;
	switch (word) {
	case 0:
		return length ? METHOD_OTHER : 0;
	case WORD('G', 'E', 'T', 0, 0, 0, 0, 0):
		return 1;
	case WORD('H', 'E', 'A', 'D', 0, 0, 0, 0):
		return 2;
	case WORD('P', 'O', 'S', 'T', 0, 0, 0, 0):
		return 3;
	case WORD('P', 'U', 'T', 0, 0, 0, 0, 0):
		return 4;
	case WORD('D', 'E', 'L', 'E', 'T', 'E', 0, 0):
		return 5;
	case WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', 0):
		return 6;
	case WORD('O', 'P', 'T', 'I', 'O', 'N', 'S', 0):
		return 7;
	case WORD('T', 'R', 'A', 'C', 'E', 0, 0, 0):
		return 8;
	case WORD('P', 'A', 'T', 'C', 'H', 0, 0, 0):
		return 9;
	}
	return METHOD_OTHER;
}

static __always_inline __u16 scheme_number(__u64 word, __u32 length)
{
	if (length == 4 && (__u32)word == (__u32)WORD('h', 't', 't', 'p', 0, 0, 0, 0))
		return SCHEME_HTTP;
	if (length == 5 && (word & 0xffffffffffULL) == WORD('h', 't', 't', 'p', 's', 0, 0, 0))
		return SCHEME_HTTPS;
	return SCHEME_OTHER;
}

/* [1-5][0-9][0-9]; 0 is none. */
static __always_inline __u16 status_number(const __u8 *value, __u32 length)
{
	__u8 hundreds = value[0] - '0', tens = value[1] - '0', ones = value[2] - '0';

	if (length != 3 || hundreds < 1 || hundreds > 5 || tens > 9 || ones > 9)
		return 0;
	return hundreds * 100 + tens * 10 + ones;
}

/* [0-9]{1,3}, as far as it fits an octet. */
static __always_inline __u16 grpc_status_number(const __u8 *value, __u32 length)
{
	__u32 number = 0;

	if (length < 1 || length > 3)
		return STATUS_NONE;
	for (int i = 0; i < 3; i++) {
		__u8 digit = value[i] - '0';

		if (i >= length)
			break;
		if (digit > 9)
			return STATUS_NONE;
		number = number * 10 + digit;
	}
	return number < 256 ? number : STATUS_NONE;
}

static __always_inline int ends_type(const __u8 *value, __u32 at, __u32 length)
{
	return length == at || value[at] == '+' || value[at] == ';' || value[at] == ' ' || value[at] == '\t';
}

/* application/grpc(-web(-text)?)?, alone or before "+; \t"; letters of either case. */
static __always_inline __u16 content_type_number(const __u8 *value, __u32 length)
{
	const __u64 *words = (const __u64 *)value;
	const __u64 lower = 0x2020202020202020ULL;

	/* Of the octets that are not letters one bit more has to be right. */
	if (length < 16 || (words[0] | lower) != WORD('a', 'p', 'p', 'l', 'i', 'c', 'a', 't') ||
	    (words[1] | lower) != WORD('i', 'o', 'n', '/', 'g', 'r', 'p', 'c') || value[11] != '/')
		return CONTENT_OTHER;
	if (ends_type(value, 16, length))
		return CONTENT_GRPC;
	if (length < 20 || value[16] != '-' || (value[17] | 32) != 'w' || (value[18] | 32) != 'e' ||
	    (value[19] | 32) != 'b')
		return CONTENT_OTHER;
	if (ends_type(value, 20, length))
		return CONTENT_GRPC_WEB;
	if (length < 25 || value[20] != '-' || (value[21] | 32) != 't' || (value[22] | 32) != 'e' ||
	    (value[23] | 32) != 'x' || (value[24] | 32) != 't')
		return CONTENT_OTHER;
	return ends_type(value, 25, length) ? CONTENT_GRPC_WEB : CONTENT_OTHER;
}
