/* The probe's dot products with arm64's dot product extension: sdot; the other loops are NEON's. */
#define DOT          vdotq_s32
#define DOT_PRODUCTS 16
#include "cpu/arm/probe_dot.h"

void srn__probe_dotprod(srn_probe_loops *l) {
    l->int8 = int8_dot;
}
