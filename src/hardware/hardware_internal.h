/* hardware, inside: how a machine is filled, shared by the files that read one from somewhere. */
#ifndef SRN_HARDWARE_INTERNAL_H
#define SRN_HARDWARE_INTERNAL_H

#include "hardware/hardware.h"

enum {
    SRN__HW_MOST_TEXT = 256, /* bytes of one text; what is longer is cut */
    SRN__HW_MOST_DEPTH = 64, /* of the tree */
    SRN__HW_MOST_UNKNOWN = 8192
};
#define SRN__HW_MOST_FILE ((size_t)16 << 20)

/* A machine of which nothing is known; NULL: no memory. */
srn_hw_machine *srn__hw_machine_new(void);
/* n zeroed items of the machine's arena. */
void *srn__hw_items(srn_hw_machine *m, size_t n, size_t size);
/* An owned copy, cut to SRN__HW_MOST_TEXT; control and direction characters and malformed UTF-8 become '?',
 * so that what is drawn cannot steer a terminal. NULL: no memory. */
const char *srn__hw_text(srn_hw_machine *m, srn_str s);
/* Sets every field of fresh items to what stands for unknown, and texts to "". */
void srn__hw_pci_clear(srn_hw_pci *p);
void srn__hw_gpu_clear(srn_hw_gpu *g);
void srn__hw_node_clear(srn_hw_node *n);
/* n_gpus squared pairs of which nothing is known; false: no memory. */
bool srn__hw_pairs(srn_hw_machine *m);
/* false: no memory. Past the cap facts are dropped silently: the list has said enough. */
bool srn__hw_unknown(srn_hw_machine *m, const char *why, const char *fmt, ...) SRN_PRINTF(3, 4);
/* Fills m->id from what does not change between starts: processor, board, devices, GPUs. */
int srn__hw_identify(srn_hw_machine *m, srn_err *err);
/* Index of the device of that address ("0000:03:00.0"), or SRN_HW_NONE. */
uint32_t srn__hw_find(const srn_hw_machine *m, const char *address);
/* Links of the tree between pci[i] and its host; more than SRN__HW_MOST_DEPTH are never there. */
uint32_t srn__hw_depth(const srn_hw_machine *m, uint32_t i);
bool srn__hw_is_below(const srn_hw_machine *m, uint32_t i, uint32_t above);
/* Whether a device hangs directly on pci[i]. */
bool srn__hw_has_children(const srn_hw_machine *m, uint32_t i);
/* "NVIDIA" of 0x10de; "" where we do not know it. */
const char *srn__hw_vendor_name(uint32_t vendor);
/* ---- what follows from a tree as it was read (tree.c) ---- */

/* Names ports by where they stand: pci[i] that is a bridge and whose express[i] says that it speaks PCI
 * Express is a root port below a host, a switch's upper port below a port, if ports are below it, and a
 * switch's lower port below that. What is no bridge, or has another kind already, stays. */
void srn__hw_refine_kinds(srn_hw_machine *m, const bool *express);
/* Fills `chipset` from ids and places that are known to be a chipset's; unknown in a virtual machine. */
void srn__hw_find_chipset(srn_hw_machine *m);
/* "NVIDIA", "AMD PCIe switch": a name for people where nothing else gave one. NULL: no memory. */
bool srn__hw_name_devices(srn_hw_machine *m);
/* Whether that class is one of GPUs or of what computes like one: display and processing accelerators. */
bool srn__hw_is_gpu_class(uint32_t class_code);

/* ---- hwloc (hwloc.c) ---- */
struct hwloc_topology;
/* Processor, caches and NUMA nodes of a loaded topology. false: no memory. */
bool srn__hw_take_processor(srn_hw_machine *m, struct hwloc_topology *t);

/* An export of hwloc (hwloc_xml.c; pure); errors as srn_hw_machine_parse. */
int srn__hw_of_xml(srn_str text, const char *file, srn_hw_machine **ret, srn_err *err);

/* Index of the GPU at pci[i], or SRN_HW_NONE. */
uint32_t srn__hw_gpu_at(const srn_hw_machine *m, uint32_t i);

#endif
