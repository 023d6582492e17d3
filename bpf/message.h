/* SPDX-License-Identifier: Apache-2.0 */
/* A request or response on its way out: the parser has filled the L7 fields and texts of scratch.record, here it is
 * judged, paired and written to the ring. Knows no protocol.
 *
 * A parser calls, for every message whose head it has read:
 *   begin_message(s)                        clears the L7 fields and texts of the record
 *   add_text(s, slot, source, length)       texts, in the order of record.TEXT[kind]; each once, also where empty
 *   tell_request(s, c, id, judged)          1 where the packet must not pass
 *   tell_response(s, c, id, remember)       takes kind, method, texts and verdict from the request that waits
 */
#pragma once

#include "maps.h"

#define TEXT_MAX 255

static __always_inline void begin_message(struct scratch *s)
{
	struct flow_record *record = &s->record;

	record->latency_ns = 0;
	record->l7_id = 0;
	record->present &= ~(LATENCY | CODE | L7_ID | GRPC_STATUS | METHOD);
	record->flags = 0;
	record->l7_code = record->l7_version = record->l7_method = 0;
	record->l7_kind = record->l7_type = record->grpc_status = 0;
	__builtin_memset(record->text_length, 0, sizeof record->text_length);
}
