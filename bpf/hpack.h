/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* A passive HPACK decoder (RFC 7541): octets of header blocks in, the few fields that matter out.
 *
 * It reads octet by octet and may stop after any of them, so blocks cut over segments and CONTINUATION frames need no
 * buffer. It may join in the middle: an entry inserted before is unknown, never guessed. It knows no evictions, for an
 * encoder never refers to what it evicted. Strings of fields that do not matter are passed over without a look. */
#pragma once

#include "hpack_values.h"

/* What the callback needs; all that changes is in the block. */
struct hpack {
	struct scratch *s;
	struct header_block *block;
	struct hpack_table *table;
};

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

static __always_inline void end_name(struct header_block *b)
{
	b->kind = kind_of_name(b);
	b->step = STEP_VALUE_LENGTH;
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
	__u32 start = b->length < VALUE_SIZE ? b->length : VALUE_SIZE; /* behind that nothing is kept */
	__u32 step = b->state, seen = 0, size = 1, place = start;

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
