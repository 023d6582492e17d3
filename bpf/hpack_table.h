/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is kept of HPACK's dynamic tables, and of a header block while it is read (RFC 7541; RFC 9113, 8): of each
 * direction the kinds of the last TABLE_SLOTS entries, and in an LRU map of their own the texts of those that matter;
 * what was pushed out there is unknown. Nothing here reads octets. */
#pragma once

#include "huffman.h"
#include "maps.h"

#define TABLE_SLOTS 128	 /* entries that fit into 4,096 octets; older ones of a larger table are unknown */
#define TEXT_KEPT 256	 /* octets of an entry's value that are kept */
#define VALUE_SIZE 2048	 /* octets of a value that are read */
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

/* What was inserted is not known any more. */
static __always_inline void hpack_lose(struct hpack_table *table)
{
	table->inserted = 0;
	table->late = 1;
}
