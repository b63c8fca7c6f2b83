/* A part of the activations' buffer: see act_tiles.h. */
#ifndef SRN_CPU_X86_ACT_PART_H
#define SRN_CPU_X86_ACT_PART_H

#include <stdint.h>

typedef struct act_part {
    uint32_t first, rows; /* dwords of act_codes that it has */
    uint32_t fields;      /* of these, before the scale */
    uint32_t before;      /* rows of the parts before it */
} act_part;

#endif
