/* hardware, inside: the words that the terminal's drawing and the SVG share. Pure. */
#ifndef SRN_HARDWARE_DRAW_INTERNAL_H
#define SRN_HARDWARE_DRAW_INTERNAL_H

#include "hardware/hardware_internal.h"

/* A piece of text that is gathered, put down and forgotten, over and over; `lost` stays once memory ran out.
 */
typedef struct srn__draw_piece {
    srn_buf b;
    bool lost;
} srn__draw_piece;
static inline const char *srn__draw_text(const srn__draw_piece *p) {
    return p->b.len ? p->b.data : "";
}
static inline void srn__draw_forget(srn__draw_piece *p) {
    p->lost = p->lost || p->b.failed;
    srn_buf_clear(&p->b);
}

/* Which devices are drawn: GPUs, disks, network, ports with a free slot, and all on the way to them; or all.
 * shown: [n_pci]. */
void srn__draw_choose(const srn_hw_machine *m, bool all, bool *shown);
/* "24 GiB", "256 MiB"; "unknown size" */
void srn__draw_bytes(srn_buf *b, uint64_t bytes);
/* "GPU 0", "root port", "switch": what stands first on a device's line. */
void srn__draw_kind(srn_buf *b, const srn_hw_machine *m, uint32_t i);
/* "Tesla V100-PCIE-16GB, 16 GiB"; of others their name, and the slot where there is one. */
void srn__draw_name(srn_buf *b, const srn_hw_machine *m, uint32_t i);
/* "gen3 x16", "gen3 x8, could be gen4 x16", "link unknown"; "free, up to gen4 x8" of a port with nothing
 * below; nothing where there is no link. */
void srn__draw_link(srn_buf *b, const srn_hw_machine *m, uint32_t i);
/* " !1 !3": the numbers of the advice that is about pci[i]; false: none is. */
bool srn__draw_marks(srn_buf *b, const srn_hw_machine *m, const srn_hw_advices *a, uint32_t i);
/* "14.2 switch", "14.2 root*" where it is copied by way of the host; true: it crosses the processor. */
bool srn__draw_pair(srn_buf *b, const srn_hw_machine *m, uint32_t x, uint32_t y);
/* "all to all at once: 3.6 GB/s from each GPU; the link above 0000:03:00.0 decides"; false and nothing where
 * it is unknown or there are no two. */
bool srn__draw_exchange(srn_buf *b, const srn_hw_machine *m);
/* "AMD EPYC 7302P: 1 socket, 16 cores, ..." */
void srn__draw_processor(srn_buf *b, const srn_hw_machine *m);
/* "node 0: 128 GiB DDR4-2666, 4 of 8 channels (85.3 GB/s at most)" */
void srn__draw_node(srn_buf *b, const srn_hw_node *n);
/* "IOMMU off" and, of a guest, that it is one. */
void srn__draw_state(srn_buf *b, const srn_hw_machine *m);
/* "3.5 GB/s now, 14.2 GB/s then: 4.0 times", and of what; false and nothing where no figure is known. */
bool srn__draw_gain(srn_buf *b, const srn_hw_advice *v);
/* Bytes of the next line of text, broken at spaces to at most `columns` characters; *ret_skip: spaces after
 * it. */
size_t srn__draw_wrap(const char *text, size_t columns, size_t *ret_skip);
/* Characters of well-formed UTF-8. */
size_t srn__draw_width(const char *text, size_t n);
/* Whether the GPU pair's way is worth a mark: it crosses the processor or is staged. */
bool srn__draw_is_crossing(const srn_hw_path *p);

#endif
