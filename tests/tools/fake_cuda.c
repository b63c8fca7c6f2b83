/* A stand-in for NVIDIA's driver library, for tests of discovery: copies wake the links of the stand-in for
 * the management library, by way of the environment. With SERIN_FAKE_CUDA=refuses no GPU is given. */
#include <stdlib.h>
#include <string.h>

int cuInit(unsigned flags);
int cuInit(unsigned flags) {
    (void)flags;
    return 0;
}
int cuDeviceGetByPCIBusId(int *out, const char *address);
int cuDeviceGetByPCIBusId(int *out, const char *address) {
    const char *mode = getenv("SERIN_FAKE_CUDA");
    *out = 0;
    return strlen(address) != 12 || (mode && strcmp(mode, "refuses") == 0);
}
int cuDevicePrimaryCtxRetain(void **out, int device);
int cuDevicePrimaryCtxRetain(void **out, int device) {
    (void)device;
    *out = malloc(16);
    return *out == NULL;
}
int cuDevicePrimaryCtxRelease_v2(int device);
int cuDevicePrimaryCtxRelease_v2(int device) {
    (void)device;
    unsetenv("SERIN_FAKE_BUSY");
    return 0;
}
int cuCtxSetCurrent(void *context);
int cuCtxSetCurrent(void *context) {
    static void *last;
    if (!context) free(last);
    last = context;
    return 0;
}
int cuMemAlloc_v2(unsigned long long *out, size_t bytes);
int cuMemAlloc_v2(unsigned long long *out, size_t bytes) {
    *out = (unsigned long long)(size_t)malloc(bytes);
    return *out == 0;
}
int cuMemFree_v2(unsigned long long at);
int cuMemFree_v2(unsigned long long at) {
    free((void *)(size_t)at);
    return 0;
}
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t bytes);
int cuMemcpyHtoD_v2(unsigned long long to, const void *from, size_t bytes) {
    memcpy((void *)(size_t)to, from, bytes);
    return setenv("SERIN_FAKE_BUSY", "1", 1);
}
