/* hardware, inside: what the rules of the advice share. A rule looks at the machine, writes two sentences
 * into `what` and `fix`, and pushes; a fix is tried out on a copy of the machine, with the same arithmetic.
 */
#ifndef SRN_HARDWARE_ADVICE_INTERNAL_H
#define SRN_HARDWARE_ADVICE_INTERNAL_H

#include "hardware/hardware_internal.h"

typedef struct srn__adviser {
    const srn_hw_machine *m;
    srn_hw_machine scratch; /* a copy whose pci and pairs may be changed; srn__advice_copy makes it fresh */
    srn_hw_advices *out;
    uint32_t cap;
    srn_buf what, fix;
    srn_err *err;
} srn__adviser;

typedef struct srn__gpu_set {
    uint32_t v[SRN_HW_MOST_GPUS], n;
} srn__gpu_set;
void srn__gpu_set_add(srn__gpu_set *s, uint32_t gpu); /* in order, once */

/* Takes the two sentences as they are in the buffers and clears these. */
int srn__advice_push(srn__adviser *a, srn_hw_advice v);
srn_hw_machine *srn__advice_copy(srn__adviser *a);

/* "GPU 0", "GPU 0 and 1", "GPU 0, 1 and 3" */
void srn__advice_gpus(srn_buf *b, const srn__gpu_set *s);
/* "the slot PCIEX16_2 (0000:00:03.2)", or the address alone */
void srn__advice_place(srn_buf *b, const srn_hw_machine *m, uint32_t i);
void srn__advice_rate(srn_buf *b, double bytes_per_s); /* "12.6 GB/s" */

/* The uppermost device of the GPU's card: cards with a switch of their own are more than one. */
uint32_t srn__advice_card(const srn_hw_machine *m, uint32_t gpu);
/* In the copy: puts the card below that port, at the most that both can do. */
void srn__advice_move(srn_hw_machine *copy, uint32_t card, uint32_t port);

/* The rules, in advice_pairs.c and advice_links.c. */
int srn__advise_crossing(srn__adviser *a);
int srn__advise_acs(srn__adviser *a);
int srn__advise_p2p(srn__adviser *a);
int srn__advise_iommu(srn__adviser *a);
int srn__advise_training(srn__adviser *a);
int srn__advise_slots(srn__adviser *a);
int srn__advise_chipset(srn__adviser *a);
int srn__advise_uplinks(srn__adviser *a);
int srn__advise_windows(srn__adviser *a);
int srn__advise_channels(srn__adviser *a);

#endif
