/* The probe's matrix products with arm64's i8mm: smmla; the other loops are NEON's. */
#define DOT          vmmlaq_s32
#define DOT_PRODUCTS 32
#include "cpu/arm/probe_dot.h"

void srn__probe_i8mm(srn_probe_loops *l) {
    l->int8 = int8_dot;
}
