/* A stand-in for NVIDIA's management library, for tests of discovery: as many GPUs as SERIN_FAKE_GPUS says,
 * at 0000:05:00.0 and the buses after it, with what SERIN_FAKE_NVML asks for, a list of words: pairs     two
 * NVLinks of version 2.0 between neighbours 0-1, 2-3, ... switch    six NVLinks of version 3.0 from each GPU
 * to a switch denied    P2P is not supported by the GPU idle      the PCIe links are at generation 1 broken
 * answers that no library should give: texts without an end, huge numbers failing   nvmlInit_v2 fails
 *   elsewhere the GPUs are at addresses that sysfs does not show
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct pci_info {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
} pci_info;
typedef struct memory {
    unsigned long long total, free, used;
} memory;

static bool asked(const char *word) {
    const char *list = getenv("SERIN_FAKE_NVML");
    return list && strstr(list, word);
}
static unsigned count(void) {
    const char *n = getenv("SERIN_FAKE_GPUS");
    return n ? (unsigned)strtoul(n, NULL, 10) : 2;
}
static unsigned index_of(void *device) {
    return (unsigned)((uintptr_t)device - 1);
}
static void put_address(unsigned i, pci_info *p) {
    snprintf(p->bus_id, sizeof p->bus_id, "%08X:%02X:00.0", asked("elsewhere") ? 0x10u : 0u, 5 + i);
    if (asked("broken")) memset(p->bus_id + 16, 'x', sizeof p->bus_id - 16);
}
static int put_text(char *out, unsigned cap, const char *text) {
    if (asked("broken"))
        memset(out, 0x1b, cap);
    else
        snprintf(out, cap, "%s", text);
    return 0;
}

int nvmlInit_v2(void);
int nvmlInit_v2(void) {
    return asked("failing") ? 9 : 0;
}
int nvmlShutdown(void);
int nvmlShutdown(void) {
    return 0;
}
int nvmlSystemGetDriverVersion(char *out, unsigned cap);
int nvmlSystemGetDriverVersion(char *out, unsigned cap) {
    return put_text(out, cap, "550.54.14");
}
int nvmlDeviceGetCount_v2(unsigned *out);
int nvmlDeviceGetCount_v2(unsigned *out) {
    *out = asked("broken") ? 0xffffffffu : count();
    return 0;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **out);
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **out) {
    *out = (void *)(uintptr_t)(i + 1);
    return i < count() ? 0 : 2;
}
int nvmlDeviceGetName(void *d, char *out, unsigned cap);
int nvmlDeviceGetName(void *d, char *out, unsigned cap) {
    (void)d;
    return put_text(out, cap, "Tesla V100-PCIE-16GB");
}
int nvmlDeviceGetUUID(void *d, char *out, unsigned cap);
int nvmlDeviceGetUUID(void *d, char *out, unsigned cap) {
    char text[32];
    snprintf(text, sizeof text, "GPU-%u", index_of(d));
    return put_text(out, cap, text);
}
int nvmlDeviceGetPciInfo_v3(void *d, pci_info *out);
int nvmlDeviceGetPciInfo_v3(void *d, pci_info *out) {
    put_address(index_of(d), out);
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *d, memory *out);
int nvmlDeviceGetMemoryInfo(void *d, memory *out) {
    (void)d;
    out->total = asked("broken") ? ~0ull : 16ull << 30;
    return 0;
}
int nvmlDeviceGetBAR1MemoryInfo(void *d, memory *out);
int nvmlDeviceGetBAR1MemoryInfo(void *d, memory *out) {
    (void)d;
    out->total = 256ull << 20;
    return 0;
}
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor);
int nvmlDeviceGetCudaComputeCapability(void *d, int *major, int *minor) {
    (void)d;
    *major = asked("broken") ? -7 : 7;
    *minor = 0;
    return 0;
}
int nvmlDeviceGetNumGpuCores(void *d, unsigned *out);
int nvmlDeviceGetNumGpuCores(void *d, unsigned *out) {
    (void)d;
    *out = 5120;
    return 0;
}
int nvmlDeviceGetPowerManagementLimit(void *d, unsigned *out);
int nvmlDeviceGetPowerManagementLimit(void *d, unsigned *out) {
    (void)d;
    *out = 250000;
    return 0;
}
int nvmlDeviceGetCurrPcieLinkGeneration(void *d, unsigned *out);
int nvmlDeviceGetCurrPcieLinkGeneration(void *d, unsigned *out) {
    (void)d;
    *out = asked("broken")                               ? 4000000000u
           : asked("idle") && !getenv("SERIN_FAKE_BUSY") ? 1
           : asked("tired")                              ? 2
                                                         : 3;
    return 0;
}
int nvmlDeviceGetCurrPcieLinkWidth(void *d, unsigned *out);
int nvmlDeviceGetCurrPcieLinkWidth(void *d, unsigned *out) {
    (void)d;
    *out = 16;
    return 0;
}
int nvmlDeviceGetNvLinkState(void *d, unsigned link, int *out);
int nvmlDeviceGetNvLinkState(void *d, unsigned link, int *out) {
    (void)d;
    *out = link < (asked("switch") ? 6u : asked("pairs") ? 2u : 0u);
    return 0;
}
int nvmlDeviceGetNvLinkVersion(void *d, unsigned link, unsigned *out);
int nvmlDeviceGetNvLinkVersion(void *d, unsigned link, unsigned *out) {
    (void)d;
    (void)link;
    *out = asked("broken") ? 999 : asked("switch") ? 4 : 2;
    return asked("switch") || asked("pairs") || asked("broken") ? 0 : 3;
}
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *d, unsigned link, pci_info *out);
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void *d, unsigned link, pci_info *out) {
    (void)link;
    put_address(index_of(d) ^ 1, out);
    if (asked("switch")) snprintf(out->bus_id, sizeof out->bus_id, "00000000:C0:00.0");
    return 0;
}
int nvmlDeviceGetNvLinkRemoteDeviceType(void *d, unsigned link, int *out);
int nvmlDeviceGetNvLinkRemoteDeviceType(void *d, unsigned link, int *out) {
    (void)d;
    (void)link;
    *out = asked("switch") ? 2 : 0;
    return 0;
}
int nvmlDeviceGetP2PStatus(void *a, void *b, int what, int *out);
int nvmlDeviceGetP2PStatus(void *a, void *b, int what, int *out) {
    (void)a;
    (void)b;
    *out = asked("broken") ? 77 : asked("denied") || what == 3 ? 2 : 0;
    return 0;
}
