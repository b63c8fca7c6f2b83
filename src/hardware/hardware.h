/* hardware: what a machine is made of and what it can do, and what follows from that for a model. Facts are
 * gathered once (discover.c: hwloc, sysfs, SMBIOS, NVML opened at run time) or read from a fixture; all that
 * is concluded from them (paths.c, advice.c, draw.c) is pure. docs/topo.md says what each fact is and where
 * it was read.
 *
 * A machine is filled by one thread and then immutable. Strings belong to its arena; none is NULL.
 */
#ifndef SRN_HARDWARE_HARDWARE_H
#define SRN_HARDWARE_HARDWARE_H

#include <jansson.h>

#include "base/base.h"

/* ---- a machine (machine.c) ---- */

#define SRN_HW_NONE    UINT32_MAX /* an index of nothing */
#define SRN_HW_UNKNOWN UINT64_MAX /* of bytes; other numbers are 0 where they are unknown */
enum { SRN_HW_MOST_GPUS = 64, SRN_HW_MOST_PCI = 4096, SRN_HW_MOST_NODES = 256 };

typedef enum srn_hw_is { SRN_HW_NO, SRN_HW_YES, SRN_HW_MAYBE /* unknown */ } srn_hw_is;

/* A fact that could not be read: "pci/0000:00:01.0/acs", "needs root". */
typedef struct srn_hw_unknown {
    const char *what, *why;
} srn_hw_unknown;

typedef struct srn_hw_cpu {
    const char *name;                 /* "AMD EPYC 7302P" */
    const char *isa;                  /* the best that this build uses of it: "avx512vnni", "avx2", "neon" */
    uint32_t sockets, cores, threads; /* of all; threads: that the process may run on */
    uint64_t l1d_bytes, l2_bytes, l3_bytes; /* of one such cache; 0: none */
    uint32_t n_l2, n_l3;
} srn_hw_cpu;

typedef struct srn_hw_node { /* a NUMA node */
    uint32_t os_index, socket;
    uint64_t bytes;         /* of its memory */
    const char *cpus;       /* "0-15,32-47" */
    uint32_t channels, mts; /* populated channels and megatransfers a second; as SMBIOS tells */
    uint32_t channels_most; /* channels that SMBIOS lists places for */
    const char *memory;     /* "DDR4", "DDR5", ""; */
} srn_hw_node;

typedef enum srn_hw_kind {
    SRN_HW_HOST,        /* a host bridge: where a socket's PCIe begins */
    SRN_HW_ROOT_PORT,   /* a port of the processor, or of a chipset that looks like one */
    SRN_HW_SWITCH_UP,   /* a switch's port towards the processor */
    SRN_HW_SWITCH_DOWN, /* its ports towards devices */
    SRN_HW_BRIDGE,      /* any other bridge */
    SRN_HW_DEVICE
} srn_hw_kind;
const char *srn_hw_kind_name(srn_hw_kind k); /* "host", "root_port", "switch_up", ... */

/* Between a device and its parent; of a root port and of a switch's port towards devices, whose way up lies
 * inside a chip, the link below it. Generation 1 to 7, lanes 1 to 32; 0: unknown. */
typedef struct srn_hw_link {
    uint32_t gen, width;         /* now; under load where it idles down and a load was put on it */
    uint32_t max_gen, max_width; /* of this end; srn_hw_link_most knows both ends */
    bool idle;                   /* read at rest: it may speed up */
} srn_hw_link;

typedef struct srn_hw_pci {
    char address[16]; /* "0000:03:00.0"; of a host "0000:00" */
    uint32_t parent;  /* index of what it hangs on, smaller than its own; SRN_HW_NONE of a host */
    srn_hw_kind kind;
    uint32_t vendor, device, class_code; /* 0x10de, 0x1db4, 0x030200 */
    const char *name;                    /* for people; "" */
    const char *slot;                    /* as the board labels it; "" */
    uint32_t node;                       /* index of its NUMA node, or SRN_HW_NONE */
    srn_hw_link link;                    /* towards the parent */
    srn_hw_is chipset;       /* it is, or hangs on, a chipset: its link to the processor is shared with disks,
                                network and USB */
    srn_hw_is acs_redirect;  /* a port: traffic between devices below it is sent up to the processor */
    uint64_t bar_bytes;      /* the largest window of a device that others can reach */
    const char *iommu_group; /* "14"; "" where there is none */
} srn_hw_pci;

typedef struct srn_hw_gpu {
    uint32_t pci; /* index, or SRN_HW_NONE where it is not known */
    const char *name, *uuid, *driver;
    uint64_t bytes, bar1_bytes;
    uint32_t cc_major, cc_minor; /* compute capability; 0: unknown, or not of NVIDIA */
    uint32_t sm;                 /* multiprocessors */
    uint32_t nvlink_version;
    double power_limit_w; /* 0: unknown */
} srn_hw_gpu;

/* What the driver says of a pair; a grant and no proof: `serin probe` moves bytes. */
typedef struct srn_hw_pair {
    uint32_t nvlinks; /* between the two, directly or through a switch of NVLink */
    srn_hw_is read, write, atomics;
    const char *why_not; /* the driver's reason; "" */
} srn_hw_pair;

typedef enum srn_hw_iommu {
    SRN_HW_IOMMU_OFF,
    SRN_HW_IOMMU_PASS,
    SRN_HW_IOMMU_ON,
    SRN_HW_IOMMU_UNKNOWN
} srn_hw_iommu;

typedef struct srn_hw_machine {
    srn_arena arena;
    const char *name, *board, *os; /* of the fixture or host; the mainboard; kernel and system */
    const char *id;                /* keyed by nothing: a hash of what does not change between starts */
    uint64_t taken_us;             /* Unix time */
    bool is_virtual;               /* a guest: its PCIe tree is the hypervisor's invention */
    srn_hw_cpu cpu;
    srn_hw_iommu iommu;
    srn_hw_node *nodes;
    uint32_t n_nodes;
    srn_hw_pci *pci; /* parents before children; in order of address */
    uint32_t n_pci;
    srn_hw_gpu *gpus;
    uint32_t n_gpus;
    srn_hw_pair *pairs; /* [n_gpus, n_gpus]; of a GPU with itself zeros */
    srn_hw_unknown *unknown;
    uint32_t n_unknown;
} srn_hw_machine;
void srn_hw_machine_free(srn_hw_machine *m); /* NULL is fine */

/* A fixture: JSON {"serin_machine": 1, ...} as `serin topo --record` writes it (docs/topo.md). Counts are
 * capped and indices checked. file stands in messages. SRN_EFORMAT and SRN_EINVAL name the field. */
int srn_hw_machine_parse(srn_str text, const char *file, srn_hw_machine **ret, srn_err *err);
json_t *srn_hw_machine_json(const srn_hw_machine *m); /* NULL: no memory */
/* An hwloc XML export (version 2); what it does not have is unknown with that reason. */
int srn_hw_machine_of_hwloc(const char *path, srn_hw_machine **ret, srn_err *err);
/* A fixture or an export, whichever the file is. SRN_EIO, SRN_ENOENT too. */
int srn_hw_machine_load(const char *path, srn_hw_machine **ret, srn_err *err);

/* ---- discovery (discover.c) ---- */

typedef struct srn_hw_discover_opts {
    const char *root; /* where /sys, /proc are looked for: "" but in tests */
    const char *nvml; /* library to open; NULL: libnvidia-ml.so.1; "": none */
    const char *cuda; /* for the load; NULL: libcuda.so.1; "": none */
    bool no_load; /* links that idle down are read as they are; else 32 MiB are copied to each such GPU, over
                   * and over for up to half a second */
} srn_hw_discover_opts;
/* This machine. Nothing that is missing is an error: it is unknown. SRN_ENOMEM. */
int srn_hw_discover(const srn_hw_discover_opts *o, srn_hw_machine **ret, srn_err *err);

/* ---- links and paths (paths.c; pure) ---- */

/* Bytes per second one way that a PCIe link carries as payload, at packets of 256 bytes: lanes times rate
 * times coding (8b/10b, 128b/130b, from generation 6 on 242/256) times 256/(256 + 24 + 4). 0: unknown. */
double srn_hw_link_bytes_per_s(uint32_t gen, uint32_t width);
/* Whether a PCIe link lies above pci[i]: below a host bridge and inside a switch there is none. */
bool srn_hw_has_link(const srn_hw_machine *m, uint32_t i);
/* Most that both ends of the link above pci[i] can do; 0 where one is unknown. */
void srn_hw_link_most(const srn_hw_machine *m, uint32_t i, uint32_t *ret_gen, uint32_t *ret_width);
/* Bytes per second of the link above pci[i] as it is; one that was read at rest counts with the most of its
 * ends. 0: unknown. */
double srn_hw_link_now(const srn_hw_machine *m, uint32_t i);
/* Bytes per second one way of one NVLink of that version: 20e9, 25e9, 25e9, 25e9, 50e9; 0: unknown. */
double srn_hw_nvlink_bytes_per_s(uint32_t version);

typedef enum srn_hw_route { /* how two devices reach each other, nearest first */
                            SRN_HW_VIA_NVLINK,
                            SRN_HW_VIA_SWITCH,  /* through switches only, past the processor */
                            SRN_HW_VIA_CHIPSET, /* below one chipset */
                            SRN_HW_VIA_ROOT,    /* through the processor, between ports of one host bridge */
                            SRN_HW_VIA_SOCKET,  /* between host bridges of one socket */
                            SRN_HW_VIA_SOCKETS, /* across sockets */
                            SRN_HW_VIA_UNKNOWN
} srn_hw_route;
const char *srn_hw_route_name(srn_hw_route r); /* "nvlink", "switch", ... */
typedef struct srn_hw_path {
    srn_hw_route route;
    uint32_t meet;      /* index of the node where the ways of the two join; SRN_HW_NONE across hosts */
    uint32_t narrowest; /* index of the device whose link upwards is the narrowest one of the way */
    double bytes_per_s; /* one way, of that link, or of all NVLinks; 0: unknown */
    uint32_t acs;       /* index of a port below `meet` that redirects to the processor; SRN_HW_NONE */
    bool through_cpu;   /* the route is beyond a switch, ACS makes it so, or it is staged */
    bool staged;   /* the driver grants the pair nothing: its bytes are copied by way of the host's memory */
    uint32_t hops; /* PCIe links */
} srn_hw_path;
/* Between GPUs a and b (indices of m->gpus). In a virtual machine only NVLink is known: the tree says nothing
 * of the real way. */
srn_hw_path srn_hw_path_of(const srn_hw_machine *m, uint32_t a, uint32_t b);
/* From a GPU to its processor's memory; meet: the host. */
srn_hw_path srn_hw_path_to_host(const srn_hw_machine *m, uint32_t gpu);

/* Bytes per second that each of these n GPUs sends in all when every one sends to every other at once, as an
 * all-reduce between them does: each link is shared by the flows that cross it in one direction, and the
 * slowest flow counts for all. 0: unknown, or n < 2. *ret_busiest (may be NULL): index of the device above
 * which the link lies that decides, SRN_HW_NONE for NVLink. */
double srn_hw_exchange_bytes_per_s(const srn_hw_machine *m, const uint32_t *gpus, uint32_t n,
                                   uint32_t *ret_busiest);

/* ---- advice (advice.c; pure) ---- */

typedef enum srn_hw_problem {
    SRN_HW_CROSSES_CPU,      /* a pair's traffic goes through the processor */
    SRN_HW_CROSSES_SOCKETS,  /* or from one socket to the other */
    SRN_HW_DOWN_TRAINED,     /* a link is slower or narrower than both its ends can be */
    SRN_HW_NARROW_SLOT,      /* a GPU's link is narrower than the GPU, for the port has no more lanes */
    SRN_HW_OLD_SLOT,         /* the same of the generation */
    SRN_HW_ACS,              /* a switch could pass traffic on, and is told to send it up */
    SRN_HW_ON_CHIPSET,       /* a GPU hangs on the chipset */
    SRN_HW_SHARED_UPLINK,    /* several GPUs below a switch have less upwards than together downwards */
    SRN_HW_SMALL_BAR,        /* others reach less than all of a GPU's memory */
    SRN_HW_NO_P2P,           /* the driver grants a pair nothing */
    SRN_HW_IOMMU_TRANSLATES, /* between devices, which P2P pays for or is refused by */
    SRN_HW_FEW_CHANNELS,     /* memory channels of a node are empty, as far as that is known */
    SRN_HW_PROBLEM_END
} srn_hw_problem;
const char *srn_hw_problem_name(srn_hw_problem p); /* "crosses_cpu", ... */
typedef struct srn_hw_advice {
    srn_hw_problem problem;
    uint32_t gpus[2]; /* that it is about, or SRN_HW_NONE */
    uint32_t pci;     /* where in the tree, or SRN_HW_NONE */
    const char *what; /* a sentence: what is so */
    const char *fix;  /* and what to do: move this card, disable ACS on these bridges */
    /* As it is and after the fix; 0: unknown, or there is none. Of pairs (CROSSES_*, ACS, NO_P2P):
     * srn_hw_exchange_bytes_per_s of the GPUs concerned. Of a link: that of the GPU's way to its processor,
     * or of the link alone where no GPU is below it. SHARED_UPLINK: a GPU's share when all load at once.
     * FEW_CHANNELS: of the node's memory. */
    double now_bytes_per_s, then_bytes_per_s;
} srn_hw_advice;
/* All there is, the greatest gain (then / now) first, pairs that the same fix mends together. The sentences
 * are in the list's arena. */
typedef struct srn_hw_advices {
    srn_arena arena;
    srn_hw_advice *v;
    uint32_t n;
} srn_hw_advices;
int srn_hw_advise(const srn_hw_machine *m, srn_hw_advices *ret, srn_err *err);
void srn_hw_advices_done(srn_hw_advices *a);
json_t *srn_hw_advices_json(const srn_hw_machine *m, const srn_hw_advices *a);

/* ---- drawings (draw.c, draw_svg.c; pure) ---- */

typedef struct srn_hw_draw_opts {
    uint32_t columns;  /* of the terminal; 0: 100 */
    bool color, ascii; /* ANSI colours; no characters beyond ASCII */
    bool all;          /* also devices that are no GPU, disk, network or on the way to one */
} srn_hw_draw_opts;
/* The tree, the table of pairs, and the advice. */
int srn_hw_draw(const srn_hw_machine *m, const srn_hw_advices *a, const srn_hw_draw_opts *o, srn_buf *out,
                srn_err *err);
/* The same as a self-contained SVG: bottlenecks are marked. */
int srn_hw_draw_svg(const srn_hw_machine *m, const srn_hw_advices *a, srn_buf *out, srn_err *err);

#endif
