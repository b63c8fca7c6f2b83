/* What NVIDIA's driver says, through its management library, opened at run time: names, memory, windows,
 * links, NVLink, P2P. Any thread. The few functions and structures used are declared here as the library's
 * interface has them; a function that an older library lacks leaves its fact unknown. What the library
 * answers is checked like a file: texts are ended, indices and counts bounded.
 */
#include "hardware/discover_internal.h"

#include <dlfcn.h>

typedef void *device;
typedef struct pci_info { /* nvmlPciInfo_t, as _v3 of its getter fills it */
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_info;
typedef struct memory { /* nvmlMemory_t and nvmlBAR1Memory_t */
    unsigned long long total, free, used;
} memory;

enum {
    OK = 0,
    MOST_LINKS = 18,
    P2P_READ = 0,
    P2P_WRITE = 1,
    P2P_ATOMICS = 3,
    REMOTE_SWITCH = 2,
    TEXT_BYTES = 96,
    IS_ENABLED = 1
};

/* name in the library, arguments */
#define FUNCTIONS(X)                                                                                         \
    X(init, "nvmlInit_v2", (void))                                                                           \
    X(shutdown, "nvmlShutdown", (void))                                                                      \
    X(driver, "nvmlSystemGetDriverVersion", (char *, unsigned))                                              \
    X(count, "nvmlDeviceGetCount_v2", (unsigned *))                                                          \
    X(handle, "nvmlDeviceGetHandleByIndex_v2", (unsigned, device *))                                         \
    X(name, "nvmlDeviceGetName", (device, char *, unsigned))                                                 \
    X(uuid, "nvmlDeviceGetUUID", (device, char *, unsigned))                                                 \
    X(pci, "nvmlDeviceGetPciInfo_v3", (device, pci_info *))                                                  \
    X(memory, "nvmlDeviceGetMemoryInfo", (device, memory *))                                                 \
    X(bar1, "nvmlDeviceGetBAR1MemoryInfo", (device, memory *))                                               \
    X(capability, "nvmlDeviceGetCudaComputeCapability", (device, int *, int *))                              \
    X(cores, "nvmlDeviceGetNumGpuCores", (device, unsigned *))                                               \
    X(power, "nvmlDeviceGetPowerManagementLimit", (device, unsigned *))                                      \
    X(gen, "nvmlDeviceGetCurrPcieLinkGeneration", (device, unsigned *))                                      \
    X(width, "nvmlDeviceGetCurrPcieLinkWidth", (device, unsigned *))                                         \
    X(max_gen, "nvmlDeviceGetMaxPcieLinkGeneration", (device, unsigned *))                                   \
    X(max_width, "nvmlDeviceGetMaxPcieLinkWidth", (device, unsigned *))                                      \
    X(link_state, "nvmlDeviceGetNvLinkState", (device, unsigned, int *))                                     \
    X(link_version, "nvmlDeviceGetNvLinkVersion", (device, unsigned, unsigned *))                            \
    X(link_remote, "nvmlDeviceGetNvLinkRemotePciInfo_v2", (device, unsigned, pci_info *))                    \
    X(link_type, "nvmlDeviceGetNvLinkRemoteDeviceType", (device, unsigned, int *))                           \
    X(p2p, "nvmlDeviceGetP2PStatus", (device, device, int, int *))

typedef struct nvml {
    void *library;
#define X(name, symbol, args) int(*name) args;
    FUNCTIONS(X)
#undef X
} nvml;

/* Calls where the library has the function; else as if it were not supported. */
#define CALL(n, f, ...) ((n)->f ? (n)->f(__VA_ARGS__) : -1)

/* How long a load may take to wake a link. */
#define WAKE_US 500000u

typedef struct asked { /* one GPU, as far as pairs need it */
    device d;
    uint32_t gpu, to_switch; /* index in m->gpus; links to switches of NVLink */
} asked;

static int nomem(srn_err *err) {
    return srn_fail_nomem(err, TEXT_BYTES);
}

/* ---- the library ---- */

static void find_functions(nvml *n) {
#define X(name, symbol, args)                                                                                \
    {                                                                                                        \
        void *at = dlsym(n->library, symbol);                                                                \
        memcpy(&n->name, &at, sizeof at);                                                                    \
    }
    FUNCTIONS(X)
#undef X
}

/* Why the library cannot be used; NULL: it can, and is open. */
static const char *open_library(nvml *n, const char *path) {
    n->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!n->library) return "the library of NVIDIA's driver (libnvidia-ml.so.1) cannot be opened here";
    find_functions(n);
    if (!n->init || !n->shutdown || !n->count || !n->handle || !n->pci) {
        dlclose(n->library);
        return "the library of NVIDIA's driver is too old, or another one";
    }
    if (n->init() == OK) return NULL;
    dlclose(n->library);
    return "NVIDIA's driver does not answer its library";
}

/* ---- one GPU ---- */

static bool take_text(srn_hw_machine *m, char text[TEXT_BYTES], const char **to) {
    text[TEXT_BYTES - 1] = 0;
    const char *t = srn__hw_text(m, srn_str_of(text));
    if (t) *to = t;
    return t != NULL;
}

/* "0000:03:00.0" of "00000000:03:00.0" */
static void address_of(const pci_info *p, char ret[32]) {
    char id[33];
    snprintf(id, sizeof id, "%.32s", p->bus_id);
    for (char *c = id; *c; c++)
        if (*c >= 'A' && *c <= 'F') *c = (char)(*c - 'A' + 'a');
    size_t skip = 0, domain = strcspn(id, ":");
    while (domain - skip > 4 && id[skip] == '0') skip++;
    snprintf(ret, 32, "%.31s", id + skip);
}

/* The GPU that sysfs showed there, or a new one. */
static srn_hw_gpu *gpu_of(srn_hw_machine *m, const pci_info *p) {
    char address[32];
    address_of(p, address);
    uint32_t at = srn__hw_find(m, address), g = at == SRN_HW_NONE ? at : srn__hw_gpu_at(m, at);
    if (g != SRN_HW_NONE) return &m->gpus[g];
    if (m->n_gpus == SRN_HW_MOST_GPUS) return NULL;
    srn__hw_gpu_clear(&m->gpus[m->n_gpus]);
    m->gpus[m->n_gpus].pci = at;
    return &m->gpus[m->n_gpus++];
}

/* Lanes of f32 in a multiprocessor, by compute capability (CUDA C++ Programming Guide, arithmetic
 * throughput). */
static uint32_t lanes_of(uint32_t major, uint32_t minor) {
    if (major == 6) return minor == 0 ? 64 : 128;
    if (major == 7 || (major == 8 && minor == 0)) return 64;
    return major == 5 || major >= 8 ? 128 : 0;
}

static uint32_t nvlink_version(unsigned v) {
    static const uint32_t versions[] = {0, 1, 2, 2, 3, 3, 4, 5}; /* 1.0, 2.0, 2.2, 3.0, 3.1, 4.0, 5.0 */
    return v < SRN_LEN(versions) ? versions[v] : 0;
}

static void take_link(const nvml *n, device d, srn_hw_link *l) {
    unsigned gen = 0, width = 0, max_gen = 0, max_width = 0;
    CALL(n, gen, d, &gen);
    CALL(n, width, d, &width);
    CALL(n, max_gen, d, &max_gen);
    CALL(n, max_width, d, &max_width);
    if (gen && gen <= 7 && width && width <= 32) l->gen = gen, l->width = width;
    /* Its "max" is that of card and slot together: less than what sysfs says of the card alone. */
    if (!l->max_gen && max_gen <= 7) l->max_gen = max_gen;
    if (!l->max_width && max_width <= 32) l->max_width = max_width;
}

static int take_gpu(const nvml *n, device d, srn_hw_machine *m, srn_hw_gpu *g, srn_err *err) {
    char text[TEXT_BYTES] = "";
    memory v = {0, 0, 0};
    int major = 0, minor = 0;
    unsigned number = 0;
    bool ok = true;
    if (CALL(n, name, d, text, sizeof text) == OK) ok = take_text(m, text, &g->name);
    if (ok && CALL(n, uuid, d, text, sizeof text) == OK) ok = take_text(m, text, &g->uuid);
    if (ok && CALL(n, driver, text, sizeof text) == OK) ok = take_text(m, text, &g->driver);
    if (CALL(n, memory, d, &v) == OK && v.total <= INT64_MAX) g->bytes = v.total;
    if (CALL(n, bar1, d, &v) == OK && v.total <= INT64_MAX) g->bar1_bytes = v.total;
    if (CALL(n, capability, d, &major, &minor) == OK && major > 0 && major < 99 && minor >= 0 && minor < 99)
        g->cc_major = (uint32_t)major, g->cc_minor = (uint32_t)minor;
    uint32_t lanes = lanes_of(g->cc_major, g->cc_minor);
    if (lanes && CALL(n, cores, d, &number) == OK && number < 1u << 22) g->sm = number / lanes;
    if (CALL(n, power, d, &number) == OK && number < 100000000) g->power_limit_w = number / 1000.0;
    if (CALL(n, link_version, d, 0, &number) == OK) g->nvlink_version = nvlink_version(number);
    if (g->pci != SRN_HW_NONE) take_link(n, d, &m->pci[g->pci].link);
    return ok ? SRN_OK : nomem(err);
}

/* ---- links at rest ---- */

/* Of a link that is slower than it could be: what it is while bytes go over it. */
static bool wake(const nvml *n, device d, srn_hw_machine *m, uint32_t pci, const srn_hw_discover_opts *o) {
    srn_hw_link *l = &m->pci[pci].link;
    srn__cuda_load *load = NULL;
    uint32_t gen, width;
    srn_hw_link_most(m, pci, &gen, &width);
    if (!gen || !l->gen || l->gen >= gen) return true;
    const char *library = o->cuda ? o->cuda : "libcuda.so.1";
    const char *why = o->no_load || !library[0] ? "read at rest, as it was asked for"
                                                : srn__cuda_load_begin(library, m->pci[pci].address, &load);
    uint64_t end = srn_now_us() + WAKE_US;
    bool copied = false;
    while (!why && l->gen < gen) {
        unsigned now = 0;
        if (!srn__cuda_load_copy(load)) break;
        copied = true;
        if (CALL(n, gen, d, &now) == OK && now > l->gen && now <= 7) l->gen = now;
        if (srn_now_us() > end) break;
    }
    srn__cuda_load_end(load);
    if (!why && !copied) why = "read at rest: the GPU does not take a load";
    return !why || srn__discover_idle(m, pci, why);
}

/* ---- pairs ---- */

static const char *why_not(int status) {
    static const char *const words[] = {"",
                                        "not supported by the chipset",
                                        "not supported by the GPU",
                                        "not supported by the way between them",
                                        "disabled by a setting",
                                        "not supported"};
    return status > 0 && (size_t)status < SRN_LEN(words) ? words[status] : "";
}

static srn_hw_is granted(const nvml *n, device a, device b, int what, const char **ret_why) {
    int status = 0;
    if (CALL(n, p2p, a, b, what, &status) != OK || status < 0 || status > 5) return SRN_HW_MAYBE;
    if (status) *ret_why = why_not(status);
    return status ? SRN_HW_NO : SRN_HW_YES;
}

/* Links of a that end at b, or at switches. */
static uint32_t links_between(const nvml *n, const srn_hw_machine *m, const asked *a, const asked *b) {
    uint32_t links = 0;
    uint32_t at = m->gpus[b->gpu].pci;
    for (unsigned l = 0; l < MOST_LINKS; l++) {
        pci_info remote;
        char address[32];
        int state = 0;
        memset(&remote, 0, sizeof remote);
        if (CALL(n, link_state, a->d, l, &state) != OK || state != IS_ENABLED) continue;
        if (CALL(n, link_remote, a->d, l, &remote) != OK) continue;
        address_of(&remote, address);
        links += at != SRN_HW_NONE && strcmp(address, m->pci[at].address) == 0;
    }
    return links ? links : SRN_MIN(a->to_switch, b->to_switch);
}

static uint32_t links_to_switch(const nvml *n, device d) {
    uint32_t links = 0;
    for (unsigned l = 0; l < MOST_LINKS; l++) {
        int state = 0, type = -1;
        links += CALL(n, link_state, d, l, &state) == OK && state == IS_ENABLED &&
                 CALL(n, link_type, d, l, &type) == OK && type == REMOTE_SWITCH;
    }
    return links;
}

static void take_pairs(const nvml *n, srn_hw_machine *m, const asked *v, uint32_t count) {
    for (uint32_t a = 0; a < count; a++)
        for (uint32_t b = 0; b < count; b++) {
            if (v[a].gpu == v[b].gpu) continue;
            srn_hw_pair *p = &m->pairs[(size_t)v[a].gpu * m->n_gpus + v[b].gpu];
            p->nvlinks = links_between(n, m, &v[a], &v[b]);
            p->atomics = granted(n, v[a].d, v[b].d, P2P_ATOMICS, &p->why_not);
            p->why_not = "";
            p->write = granted(n, v[a].d, v[b].d, P2P_WRITE, &p->why_not);
            p->read = granted(n, v[a].d, v[b].d, P2P_READ, &p->why_not);
        }
}

static int take_all(const nvml *n, srn_hw_machine *m, const srn_hw_discover_opts *o, srn_err *err) {
    asked v[SRN_HW_MOST_GPUS];
    unsigned count = 0;
    uint32_t used = 0;
    if (n->count(&count) != OK) count = 0;
    for (unsigned i = 0; i < count && i < SRN_HW_MOST_GPUS; i++) {
        device d = NULL;
        pci_info p;
        memset(&p, 0, sizeof p);
        if (n->handle(i, &d) != OK || n->pci(d, &p) != OK) {
            if (!srn__hw_unknown(m, "NVIDIA's driver does not answer for it", "gpus/nvml/%u", i))
                return nomem(err);
            continue;
        }
        srn_hw_gpu *g = gpu_of(m, &p);
        if (!g) break;
        v[used] = (asked){.d = d, .gpu = (uint32_t)(g - m->gpus), .to_switch = links_to_switch(n, d)};
        int code = take_gpu(n, d, m, g, err);
        if (!code && g->pci != SRN_HW_NONE && !wake(n, d, m, g->pci, o)) code = nomem(err);
        if (code) return code;
        used++;
    }
    if (!srn__hw_pairs(m)) return nomem(err);
    take_pairs(n, m, v, used);
    return SRN_OK;
}

int srn__discover_nvml(srn_hw_machine *m, const srn_hw_discover_opts *o, srn_err *err) {
    const char *library = o->nvml;
    nvml n = {.library = NULL};
    bool wanted = false;
    if (library && !library[0]) return SRN_OK;
    for (uint32_t i = 0; i < m->n_pci; i++)
        wanted = wanted || (m->pci[i].vendor == 0x10de && srn__hw_is_gpu_class(m->pci[i].class_code));
    const char *why = open_library(&n, library ? library : "libnvidia-ml.so.1");
    if (why) return !wanted || srn__hw_unknown(m, why, "gpus/nvml") ? SRN_OK : nomem(err);
    int code = take_all(&n, m, o, err);
    n.shutdown();
    dlclose(n.library);
    return code;
}
