/* hardware, inside: the parts of discovery. Each reads one source and says of what it could not read why. */
#ifndef SRN_HARDWARE_DISCOVER_INTERNAL_H
#define SRN_HARDWARE_DISCOVER_INTERNAL_H

#include "hardware/hardware_internal.h"

/* ---- files below the root (sysfs.c) ---- */

/* First cap - 1 bytes of ROOT/path, NUL-terminated. Returns the bytes read, or -errno. */
long srn__sysfs_read(const char *root, const char *path, void *ret, size_t cap);
/* The same of a text, without the end of its line; "" on failure. */
long srn__sysfs_text(const char *root, const char *path, char *ret, size_t cap);
/* "needs root", "the system does not have it", or the system's words. */
const char *srn__sysfs_why(long error);
/* The last part of where a symbolic link points to; "" where there is none. */
void srn__sysfs_link(const char *root, const char *path, char *ret, size_t cap);

/* ---- devices (discover_pci.c) ---- */

/* Fills m->pci from ROOT/sys/bus/pci, with kinds, links, ACS, windows, groups, slots. SRN_ENOMEM. */
int srn__discover_pci(srn_hw_machine *m, const char *root, srn_err *err);
/* m->iommu, from the groups. */
int srn__discover_iommu(srn_hw_machine *m, const char *root, srn_err *err);
/* GPUs by the class of their device, of all vendors; fills m->gpus and empty pairs. SRN_ENOMEM. */
int srn__discover_gpus(srn_hw_machine *m, const char *root, srn_err *err);

/* ---- what NVIDIA's driver says (nvml.c) ---- */

/* Completes m->gpus and m->pairs. A link below the most of its ends is read under load, or is `idle`.
 * SRN_ENOMEM. */
int srn__discover_nvml(srn_hw_machine *m, const srn_hw_discover_opts *o, srn_err *err);
/* Marks the link above pci[i] as read at rest. false: no memory. */
bool srn__discover_idle(srn_hw_machine *m, uint32_t i, const char *why);

/* ---- a load on a GPU's link (cuda_load.c) ---- */

typedef struct srn__cuda_load srn__cuda_load;
/* Why there can be none, a sentence; NULL: *ret is one. */
const char *srn__cuda_load_begin(const char *library, const char *address, srn__cuda_load **ret);
bool srn__cuda_load_copy(srn__cuda_load *l); /* 32 MiB, some milliseconds; false: the GPU failed */
void srn__cuda_load_end(srn__cuda_load *l);

/* ---- bytes of devices and firmware (config_space.c, smbios.c); pure ---- */

typedef struct srn__config {
    bool bridge;           /* its header is that of a bridge */
    uint8_t secondary_bus; /* of a bridge */
    bool whole;            /* more than the 64 bytes that everybody may read were there */
    bool express;          /* it has the capability of PCI Express; only where whole */
    uint32_t port_type;    /* of that: 4 root port, 5 and 6 a switch's upper and lower port, ... */
    uint32_t max_gen, max_width, gen, width; /* of its link; 0: unknown */
    bool extended;                           /* the capabilities from 0x100 on were there */
    bool acs;                                /* it has Access Control Services */
    uint16_t acs_control;
} srn__config;
enum { SRN__ACS_REQUEST_REDIRECT = 1 << 2, SRN__ACS_COMPLETION_REDIRECT = 1 << 3 };
/* false: fewer than 64 bytes. Lists that run in circles or out of the bytes end there. */
bool srn__config_parse(const uint8_t *bytes, size_t n, srn__config *ret);

enum { SRN__SMBIOS_MOST_MODULES = 512, SRN__SMBIOS_MOST_SLOTS = 128, SRN__SMBIOS_TEXT = 64 };
typedef struct srn__smbios_module {
    char channel[SRN__SMBIOS_TEXT]; /* what names its channel: "P0 CHANNEL A"; "" where nothing does */
    int32_t socket;                 /* number in that name; -1: none */
    bool filled;
    uint8_t type; /* 0x1a DDR4, 0x22 DDR5, ... */
    uint32_t mts; /* as configured; else as rated; 0: unknown */
} srn__smbios_module;
typedef struct srn__smbios_slot {
    char name[SRN__SMBIOS_TEXT];
    uint32_t domain, bus, device;
} srn__smbios_slot;
typedef struct srn__smbios {
    srn__smbios_module modules[SRN__SMBIOS_MOST_MODULES];
    uint32_t n_modules;
    srn__smbios_slot slots[SRN__SMBIOS_MOST_SLOTS];
    uint32_t n_slots;
} srn__smbios;
/* The tables as /sys/firmware/dmi/tables/DMI has them; stops where a structure does not fit. */
void srn__smbios_parse(const uint8_t *bytes, size_t n, srn__smbios *ret);
/* "DDR4"; "" of a type that is none we know. */
const char *srn__smbios_type_name(uint8_t type);
/* Channels, kinds and rates of m->nodes out of the modules; what these do not say becomes unknown. */
int srn__smbios_take(srn_hw_machine *m, const srn__smbios *s, srn_err *err);
int srn__discover_smbios(srn_hw_machine *m, const char *root, srn_err *err);

#endif
