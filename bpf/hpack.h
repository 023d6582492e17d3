/* SPDX-License-Identifier: Apache-2.0 */
/* A passive HPACK decoder (RFC 7541): octets of header blocks in, the few fields that matter out.
 *
 * It reads an octet at a time and may stop after any of them, so blocks cut over segments and CONTINUATION frames need
 * no buffer. It may join in the middle: an entry inserted before is unknown, never guessed. It knows no evictions, since
 * an encoder never refers to what it evicted: of each direction the kinds of the last TABLE_SLOTS entries are kept, and
 * the texts of those that matter in an LRU map of their own; what was pushed out there is unknown too.
 */
#pragma once

#include "huffman.h"
#include "maps.h"

#define TABLE_SLOTS 128	 /* entries that fit into a table of 4,096 octets; older ones of a larger table are unknown */
#define TEXT_KEPT 256	 /* octets of an entry's value that are kept */
#define VALUE_SIZE 2048	 /* octets of a value that are read */
#define SHORT_TEXT 64	 /* octets of a text that are copied at once */
#define NAME_SIZE 12	 /* no name that matters is longer */
#define INDEX_LIMIT 65536 /* observer/l7/hpack.py */
#define TABLE_LIMIT 65536 /* likewise */
#define INTEGER_LIMIT 0x7fffffff
#define FIELDS_LIMIT 1024 /* likewise: fields behind it do not count */
#define HUFFMAN_OCTETS 4 /* of a string at once */
#define MAX_TABLES 32768
#define MAX_TEXTS 65536
#define STATIC_SIZE 61

/* The fields that matter; huffman.h has their names. */
enum field_kind {
	FIELD_UNKNOWN, /* inserted before we joined */
	FIELD_OTHER,
	FIELD_OTHER_PSEUDO,
	FIELD_METHOD,
	FIELD_PATH,
	FIELD_AUTHORITY,
	FIELD_SCHEME,
	FIELD_STATUS,
	FIELD_PROTOCOL,
	FIELD_HOST, /* from here on regular fields */
	FIELD_CONTENT_TYPE,
	FIELD_GRPC_STATUS,
	FIELD_GRPC_TIMEOUT,
};

enum { SCHEME_HTTP, SCHEME_HTTPS, SCHEME_OTHER };
enum { CONTENT_OTHER, CONTENT_GRPC, CONTENT_GRPC_WEB };
#define METHOD_OTHER 255      /* record.HttpMethod.OTHER */
#define STATUS_NONE 0xffff    /* a grpc-status that is none */

/* What is known of an entry without its text. */
struct hpack_slot {
	__u8 kind;
	__u8 bits;
	__u16 number; /* method, status code, scheme, content type, grpc-status */
};
enum { SLOT_TEXT = 1 << 0, /* hpack_texts has the value */
       SLOT_LEFT_OUT = 1 << 1, /* a value that would make a line of its own (RFC 9113, 8.2.1) */
       SLOT_EMPTY = 1 << 2 };

/* The dynamic table of one direction. */
struct hpack_table {
	__u32 inserted; /* entries since it was empty, or since we joined */
	__u32 late;	/* there are older ones */
	struct hpack_slot slots[TABLE_SLOTS];
};

struct hpack_key {
	__u64 connection;
	__u32 side;
	__u32 slot;
};

struct hpack_text {
	__u32 number; /* of the insertion: a slot is used again */
	__u32 length; /* also where more than TEXT_KEPT */
	__u8 text[TEXT_KEPT];
};

/* What the next octet belongs to; from STEP_USE_INTEGER on something is complete, and used before the next octet. */
enum hpack_step { STEP_FIELD, STEP_INTEGER, STEP_NAME_LENGTH, STEP_NAME, STEP_VALUE_LENGTH, STEP_SKIP_NAME,
		  STEP_SKIP_VALUE, STEP_COPY, STEP_OCTETS, STEP_HUFFMAN, STEP_MALFORMED, STEP_USE_INTEGER,
		  STEP_USE_INDEX, STEP_USE_VALUE };
enum hpack_purpose { FOR_INDEX, FOR_NAME, FOR_NAME_LENGTH, FOR_VALUE_LENGTH, FOR_SIZE };

/* A header block while it is read: where in a field, and what its section said so far. */
struct header_block {
	struct hpack_key key; /* here, for the stack is short */
	__u32 at; /* in scratch.payload */
	__u32 until;
	__u8 step;
	__u8 purpose; /* of the integer */
	__u8 shift;
	__u8 insert;
	__u8 kind;
	__u8 huffman;
	__u8 breaks; /* the value has an octet that ends lines */
	__u8 begun;  /* a field was read: no size update any more (4.2) */
	__u32 left;  /* octets of the string */
	__u32 state; /* of the Huffman automaton: the last step */
	__u64 integer;
	__u64 name[2];
	__u32 name_length;
	__u32 fields;

	/* The section. */
	__u32 stream;
	__u32 seen; /* bits by field_kind */
	__u32 path_length;
	__u32 authority_length;
	__u32 host_length;
	__u32 scheme_length;
	__u32 method_length;
	__u16 method;
	__u16 code;
	__u16 grpc_status;
	__u8 scheme;
	__u8 content_type;
	__u8 regular; /* a regular field was read: pseudo-fields behind it do not count (RFC 9113, 8.3) */
	__u8 unknown;
	__u8 begins_unknown;
	__u8 cut; /* fields after these are missing */
	__u8 path_cut; /* the path is longer than what is kept of it */
	__u8 end_stream;
	__u8 promises; /* PUSH_PROMISE: read for its table only */
	__u8 last;     /* this frame ends it */
	__u8 pad[4];

	/* Nothing from here on is cleared. */
	__u8 path[VALUE_SIZE];
	__u8 authority[TEXT_KEPT];
	__u8 host[TEXT_KEPT];
	__u8 scheme_text[TEXT_KEPT];
	__u8 method_text[TEXT_KEPT];
	/* A struct hpack_text, as it is put into the map. */
	__u32 number;
	__u32 length;
	__u8 value[VALUE_SIZE];
	__u8 slack[VALUE_SIZE]; /* so that bounded copies need no second check; not part of what is kept of a block */
};

#define SECTION_SIZE __builtin_offsetof(struct header_block, path)
#define BLOCK_KEPT __builtin_offsetof(struct header_block, slack)

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_TABLES);
	__type(key, struct hpack_key); /* slot 0 */
	__type(value, struct hpack_table);
} hpack_tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_TEXTS);
	__type(key, struct hpack_key);
	__type(value, struct hpack_text);
} hpack_texts SEC(".maps");

/* Appendix A, as far as it matters. */
static const struct hpack_slot HPACK_STATIC[64] = {
	[1] = { FIELD_AUTHORITY, SLOT_EMPTY },
	[2] = { FIELD_METHOD, 0, 1 },
	[3] = { FIELD_METHOD, 0, 3 },
	[4] = { FIELD_PATH, 0, 4 },
	[5] = { FIELD_PATH, 0, 5 },
	[6] = { FIELD_SCHEME, 0, SCHEME_HTTP },
	[7] = { FIELD_SCHEME, 0, SCHEME_HTTPS },
	[8] = { FIELD_STATUS, 0, 200 },
	[9] = { FIELD_STATUS, 0, 204 },
	[10] = { FIELD_STATUS, 0, 206 },
	[11] = { FIELD_STATUS, 0, 304 },
	[12] = { FIELD_STATUS, 0, 400 },
	[13] = { FIELD_STATUS, 0, 404 },
	[14] = { FIELD_STATUS, 0, 500 },
	[15 ... 30] = { FIELD_OTHER },
	[31] = { FIELD_CONTENT_TYPE, SLOT_EMPTY },
	[32 ... 37] = { FIELD_OTHER },
	[38] = { FIELD_HOST, SLOT_EMPTY },
	[39 ... 61] = { FIELD_OTHER },
};
static const char STATIC_PATH[TEXT_KEPT] = "/index.html"; /* its first octet is the other one */

/* What the callback needs; all that changes is in the block. */
struct hpack {
	struct scratch *s;
	struct header_block *block;
	struct hpack_table *table;
};

/* Eight octets as a little-endian word. */
#define WORD(a, b, c, d, e, f, g, h)                                                                                   \
	((__u64)(a) | (__u64)(b) << 8 | (__u64)(c) << 16 | (__u64)(d) << 24 | (__u64)(e) << 32 | (__u64)(f) << 40 |    \
	 (__u64)(g) << 48 | (__u64)(h) << 56)

/* What was inserted is not known any more. */
static __always_inline void hpack_lose(struct hpack_table *table)
{
	table->inserted = 0;
	table->late = 1;
}

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

/* The entry of a dynamic index, NULL where it is unknown or none. */
static __always_inline struct hpack_slot *dynamic_slot(struct hpack *h, __u32 index)
{
	struct hpack_table *table = h->table;
	__u32 number = index - STATIC_SIZE; /* 1 is the newest */

	if (number > table->inserted) {
		if (!table->late || index > INDEX_LIMIT)
			h->block->step = STEP_MALFORMED;
		return NULL;
	}
	if (number > TABLE_SLOTS)
		return NULL;
	return &table->slots[(table->inserted - number) & (TABLE_SLOTS - 1)];
}

/* Whether an index means a field that does not matter: most do. */
static __always_inline int is_other(const struct hpack_table *table, __u32 index)
{
	__u32 number = index - STATIC_SIZE;

	return number - 1 < TABLE_SLOTS && number <= table->inserted &&
	       table->slots[(table->inserted - number) & (TABLE_SLOTS - 1)].kind == FIELD_OTHER;
}

/* The text of a dynamic entry, NULL where it was pushed out. */
static __always_inline struct hpack_text *dynamic_text(struct hpack *h, __u32 index)
{
	__u32 number = h->table->inserted - (index - STATIC_SIZE);
	struct hpack_text *text;

	h->block->key.slot = number & (TABLE_SLOTS - 1);
	text = bpf_map_lookup_elem(&hpack_texts, &h->block->key);
	return text && text->number == number ? text : NULL;
}

/* 6.1: a field of one of the tables. */
static __noinline int indexed_field(struct hpack *h)
{
	struct header_block *b = h->block;
	__u32 index = b->integer, length = 0;
	struct hpack_slot slot = {}, *entry;
	struct hpack_text *text;
	const void *value = NULL;

	b->step = index ? STEP_FIELD : STEP_MALFORMED;
	if (index <= STATIC_SIZE) {
		slot = HPACK_STATIC[index & 63];
		if (slot.kind == FIELD_PATH) {
			length = slot.number == 4 ? 1 : 11;
			value = STATIC_PATH;
		}
	} else if ((entry = dynamic_slot(h, index))) {
		slot = *entry;
		if (needs_text(&slot) && (text = dynamic_text(h, index))) {
			length = text->length;
			value = text->text;
		}
	}
	if (b->step == STEP_MALFORMED)
		return 0;
	return take_field(b, &slot, value, length, TEXT_KEPT);
}

/* 6.2: a literal whose name one of the tables has. */
static __always_inline void indexed_name(struct hpack *h, __u32 index)
{
	struct header_block *b = h->block;
	struct hpack_slot *entry;

	b->step = index ? STEP_VALUE_LENGTH : STEP_NAME_LENGTH;
	if (index <= STATIC_SIZE) {
		b->kind = HPACK_STATIC[index & 63].kind;
		return;
	}
	entry = dynamic_slot(h, index);
	b->kind = entry ? entry->kind : FIELD_UNKNOWN;
}

/* 6.3: the encoder says how large its table is. */
static __always_inline void size_update(struct hpack *h, __u64 size)
{
	struct header_block *b = h->block;

	b->step = b->begun ? STEP_MALFORMED : STEP_FIELD;
	if (size > TABLE_LIMIT)
		h->table->late = 1;
	if (!size) /* emptied by both ends: from here on everything is known, even to a latecomer */
		h->table->inserted = h->table->late = 0;
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

static __always_inline void end_name(struct header_block *b)
{
	b->kind = kind_of_name(b);
	b->step = STEP_VALUE_LENGTH;
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
	if (length < 20 || value[16] != '-' || (value[17] | 32) != 'w' || (value[18] | 32) != 'e' || (value[19] | 32) != 'b')
		return CONTENT_OTHER;
	if (ends_type(value, 20, length))
		return CONTENT_GRPC_WEB;
	if (length < 25 || value[20] != '-' || (value[21] | 32) != 't' || (value[22] | 32) != 'e' ||
	    (value[23] | 32) != 'x' || (value[24] | 32) != 't')
		return CONTENT_OTHER;
	return ends_type(value, 25, length) ? CONTENT_GRPC_WEB : CONTENT_OTHER;
}

/* The literal is complete: into the table, and into the section. */
static __noinline int end_value(struct hpack *h)
{
	struct header_block *b = h->block;
	struct hpack_table *table = h->table;
	struct hpack_slot slot = { .kind = b->kind, .bits = b->length ? 0 : SLOT_EMPTY };
	__u64 word = *(__u64 *)b->value;

	if (!(b->state & HUFFMAN_ENDS)) {
		b->step = STEP_MALFORMED;
		return 0;
	}
	b->step = STEP_FIELD;
	if (b->kind >= FIELD_HOST && b->breaks)
		slot.bits |= SLOT_LEFT_OUT;
	switch (b->kind) {
	case FIELD_METHOD:
		slot.number = method_number(word, b->length);
		if (slot.number == METHOD_OTHER)
			slot.bits |= SLOT_TEXT;
		break;
	case FIELD_SCHEME:
		slot.number = scheme_number(word, b->length);
		if (slot.number == SCHEME_OTHER && b->length)
			slot.bits |= SLOT_TEXT;
		break;
	case FIELD_PATH:
	case FIELD_AUTHORITY:
	case FIELD_HOST:
		if (b->length)
			slot.bits |= SLOT_TEXT;
		break;
	case FIELD_STATUS:
		slot.number = status_number(b->value, b->length);
		break;
	case FIELD_CONTENT_TYPE:
		slot.number = content_type_number(b->value, b->length);
		slot.bits |= SLOT_TEXT; /* for user space, should it go on */
		break;
	case FIELD_GRPC_STATUS:
		slot.number = grpc_status_number(b->value, b->length);
		break;
	}
	if (b->insert) {
		__u32 number = table->inserted;

		table->slots[number & (TABLE_SLOTS - 1)] = slot;
		table->inserted = number + 1 ? number + 1 : TABLE_SLOTS * 2;
		if (slot.bits & SLOT_TEXT) {
			b->key.slot = number & (TABLE_SLOTS - 1);
			b->number = number;
			bpf_map_update_elem(&hpack_texts, &b->key, &b->number, BPF_ANY);
		}
	}
	return take_field(b, &slot, b->value, b->length, VALUE_SIZE);
}

static __always_inline void begin_name(struct header_block *b, __u64 length)
{
	b->name[0] = b->name[1] = 0;
	b->left = b->name_length = length;
	b->step = length > NAME_SIZE ? STEP_SKIP_NAME : STEP_NAME;
	b->kind = FIELD_OTHER;
	if (!length)
		b->step = STEP_VALUE_LENGTH;
}

/* A value of so many octets comes: those that matter are read, the rest passed over at once. */
static __always_inline void begin_value(struct header_block *b, __u64 length)
{
	b->left = length;
	b->length = 0;
	b->breaks = 0;
	b->state = HUFFMAN_ENDS;
	if (b->kind <= FIELD_OTHER_PSEUDO)
		b->step = STEP_SKIP_VALUE;
	else if (b->huffman)
		b->step = STEP_HUFFMAN;
	else
		b->step = b->kind >= FIELD_HOST ? STEP_OCTETS : STEP_COPY;
	if (!length)
		b->step = STEP_USE_VALUE;
}

/* An integer is complete (5.1). */
static __always_inline void use_integer(struct hpack *h)
{
	struct header_block *b = h->block;
	__u64 value = b->integer;

	if (value > INTEGER_LIMIT) {
		b->step = STEP_MALFORMED;
		return;
	}
	switch (b->purpose) {
	case FOR_INDEX:
		b->step = value > INDEX_LIMIT ? STEP_MALFORMED : STEP_USE_INDEX;
		break;
	case FOR_NAME:
		if (value > INDEX_LIMIT)
			b->step = STEP_MALFORMED;
		else
			indexed_name(h, value);
		break;
	case FOR_NAME_LENGTH:
		begin_name(b, value);
		break;
	case FOR_VALUE_LENGTH:
		begin_value(b, value);
		break;
	default:
		size_update(h, value);
	}
}

/* The prefix of an integer; those that it holds whole are most. */
static __always_inline void integer(struct header_block *b, __u8 purpose, __u8 value, __u8 mask)
{
	b->purpose = purpose;
	b->integer = value & mask;
	b->shift = 0;
	b->step = (value & mask) == mask ? STEP_INTEGER : STEP_USE_INTEGER;
}

/* The octet that begins a field (6). */
static __always_inline void begin_field(struct header_block *b, __u8 octet)
{
	if (octet & 0x80) {
		integer(b, FOR_INDEX, octet, 0x7f);
		return;
	}
	if ((octet & 0xe0) == 0x20) {
		integer(b, FOR_SIZE, octet, 0x1f);
		return;
	}
	b->insert = octet >> 6;
	integer(b, FOR_NAME, octet, octet & 0x40 ? 0x3f : 0x0f);
}

static __always_inline void put_octet(struct header_block *b, __u8 octet)
{
	__u32 length = b->length;

	if (length < VALUE_SIZE)
		b->value[length & (VALUE_SIZE - 1)] = octet;
	b->length = length + 1;
	b->breaks |= octet == '\r' || octet == '\n' || !octet;
}

/* Four bits of a Huffman string; without a branch, for nothing is done more often. */
#define HUFFMAN_NIBBLE(nibble)                                                                                         \
	step = HUFFMAN[(step & 0xff) << 4 | (nibble)];                                                                 \
	seen |= step;                                                                                                  \
	b->value[place & (2 * VALUE_SIZE - 1)] = step >> 8;                                                            \
	place += step >> 16 & 1

/* Octets of a Huffman string: the one that was read, or as many as HUFFMAN_OCTETS from it on. */
static __noinline int huffman_octets(struct hpack *h, __u32 at)
{
	struct header_block *b = h->block;
	const __u8 *octets = h->s->payload + (at & (PAYLOAD_SIZE - 1));
	__u32 step = b->state, seen = 0, size = 1, start = b->length < VALUE_SIZE ? b->length : VALUE_SIZE, place = start;

	HUFFMAN_NIBBLE(octets[0] >> 4);
	HUFFMAN_NIBBLE(octets[0] & 15);
	if (b->left >= HUFFMAN_OCTETS && b->until - at >= HUFFMAN_OCTETS) {
		for (int i = 1; i < HUFFMAN_OCTETS; i++) {
			HUFFMAN_NIBBLE(octets[i] >> 4);
			HUFFMAN_NIBBLE(octets[i] & 15);
		}
		size = HUFFMAN_OCTETS;
	}
	b->at = at + size;
	b->left -= size;
	b->state = step;
	b->breaks |= !!(seen & HUFFMAN_BREAKS);
	b->length += place - start;
	if (seen & HUFFMAN_FAILS)
		b->step = STEP_MALFORMED;
	else if (!b->left)
		b->step = STEP_USE_VALUE;
	return 0;
}
#undef HUFFMAN_NIBBLE

static __always_inline void name_octet(struct header_block *b, __u8 octet)
{
	__u32 place = b->name_length - b->left;

	b->name[place >> 3 & 1] |= (__u64)octet << (place & 7) * 8;
	if (!--b->left)
		end_name(b);
}

static __always_inline void integer_octet(struct header_block *b, __u8 octet)
{
	b->integer += (__u64)(octet & 0x7f) << (b->shift & 31);
	b->shift += 7;
	if (!(octet & 0x80))
		b->step = STEP_USE_INTEGER;
	else if (b->shift > 28)
		b->step = STEP_MALFORMED;
}

/* As many octets of the string as there are from `at` on, at once. */
static __always_inline void pass_string(struct hpack *h, __u32 at)
{
	struct header_block *b = h->block;
	__u32 size = b->until - at, length = b->length, copied;

	if (size > b->left)
		size = b->left;
	if (b->step == STEP_COPY) {
		copied = length < VALUE_SIZE ? VALUE_SIZE - length : 0;
		if (copied > size)
			copied = size;
		barrier_var(copied);
		if (copied >= 1 && copied <= VALUE_SIZE && length < VALUE_SIZE)
			bpf_probe_read_kernel(b->value + length, copied, h->s->payload + (at & (PAYLOAD_SIZE - 1)));
	}
	b->length = length + size;
	b->at = at + size;
	b->left -= size;
}

/* The callback of a bpf_loop over the octets from block.at to block.until in scratch.payload. */
static long hpack_octet(__u32 i, void *context)
{
	struct hpack *h = context;
	struct header_block *b = h->block;
	__u32 at = b->at;
	__u8 octet;

	if (at >= b->until)
		return 1;
	octet = h->s->payload[at & (PAYLOAD_SIZE - 1)];
	b->at = at + 1;
	/* Most octets are one of these three. */
	if (b->step == STEP_FIELD && octet > 0x80 && octet < 0xff) {
		if (is_other(h->table, octet & 0x7f)) {
			b->begun = b->regular = 1;
			b->cut |= ++b->fields > FIELDS_LIMIT;
			return 0;
		}
		b->integer = octet & 0x7f;
		indexed_field(h);
		return b->step == STEP_MALFORMED;
	}
	if (b->step == STEP_HUFFMAN) {
		huffman_octets(h, at);
		if (b->step == STEP_HUFFMAN)
			return 0;
	}
	switch (b->step) {
	case STEP_FIELD:
		begin_field(b, octet);
		break;
	case STEP_VALUE_LENGTH:
		b->huffman = octet >> 7;
		integer(b, FOR_VALUE_LENGTH, octet, 0x7f);
		break;
	case STEP_NAME_LENGTH:
		b->huffman = octet >> 7;
		integer(b, FOR_NAME_LENGTH, octet, 0x7f);
		break;
	case STEP_NAME:
		name_octet(b, octet);
		break;
	case STEP_INTEGER:
		integer_octet(b, octet);
		break;
	case STEP_OCTETS:
		put_octet(b, octet);
		if (!--b->left)
			b->step = STEP_USE_VALUE;
		break;
	case STEP_SKIP_NAME:
		if (b->left == b->name_length)
			b->name[0] = octet; /* may be ":" */
		pass_string(h, at);
		if (!b->left)
			end_name(b);
		break;
	case STEP_SKIP_VALUE:
	case STEP_COPY:
		pass_string(h, at);
		if (!b->left)
			b->step = STEP_USE_VALUE;
		break;
	}
	if (b->step == STEP_USE_INTEGER)
		use_integer(h);
	if (b->step == STEP_USE_INDEX)
		indexed_field(h);
	if (b->step == STEP_USE_VALUE)
		end_value(h);
	return b->step == STEP_MALFORMED;
}
