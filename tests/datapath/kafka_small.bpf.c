/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The same with bounds so low that the frames of a test reach them. */
#define KAFKA_STEPS_LIMIT 300
#define KAFKA_PACKET_STEPS 100
#include "kafka.bpf.c"
