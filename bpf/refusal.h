/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* That our TC program has just refused a packet on this CPU. The kernel frees it at once and on the same CPU, so
 * drops.bpf.c knows by this mark that the refusal was told already. */
#pragma once

#include "maps.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} refusals SEC(".maps");

static __always_inline void mark_refusal(void)
{
	__u32 zero = 0, *mark = bpf_map_lookup_elem(&refusals, &zero);

	if (mark)
		*mark = 1;
}

/* Whether there was a mark; it is gone afterwards. */
static __always_inline int take_refusal(void)
{
	__u32 zero = 0, marked, *mark = bpf_map_lookup_elem(&refusals, &zero);

	if (!mark)
		return 0;
	marked = *mark;
	*mark = 0;
	return marked;
}
