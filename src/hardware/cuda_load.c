/* A load on a GPU's link, so that its speed can be read while it is in use: copies to the GPU through
 * NVIDIA's driver API, opened at run time. One thread at a time. Takes 32 MiB on either side for as long as
 * it lasts. The few functions used are declared here as the library's interface has them.
 */
#include "hardware/discover_internal.h"

#include <dlfcn.h>
#include <stdlib.h>

#define COPY_BYTES ((size_t)32 << 20)

/* name in the library, arguments */
#define FUNCTIONS(X)                                                                                         \
    X(init, "cuInit", (unsigned))                                                                            \
    X(device_at, "cuDeviceGetByPCIBusId", (int *, const char *))                                             \
    X(retain, "cuDevicePrimaryCtxRetain", (void **, int))                                                    \
    X(release, "cuDevicePrimaryCtxRelease_v2", (int))                                                        \
    X(current, "cuCtxSetCurrent", (void *))                                                                  \
    X(take, "cuMemAlloc_v2", (unsigned long long *, size_t))                                                 \
    X(give, "cuMemFree_v2", (unsigned long long))                                                            \
    X(copy, "cuMemcpyHtoD_v2", (unsigned long long, const void *, size_t))

struct srn__cuda_load {
    void *library, *host;
    int device;
    bool retained;
    unsigned long long memory;
#define X(name, symbol, args) int(*name) args;
    FUNCTIONS(X)
#undef X
};

static bool find_functions(srn__cuda_load *l) {
    bool all = true;
#define X(name, symbol, args)                                                                                \
    {                                                                                                        \
        void *at = dlsym(l->library, symbol);                                                                \
        memcpy(&l->name, &at, sizeof at);                                                                    \
        all = all && at;                                                                                     \
    }
    FUNCTIONS(X)
#undef X
    return all;
}

static const char *begin(srn__cuda_load *l, const char *library, const char *address) {
    void *context = NULL;
    l->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!l->library) return "read at rest: NVIDIA's driver library (libcuda.so.1) cannot be opened here";
    if (!find_functions(l)) return "read at rest: NVIDIA's driver library is too old, or another one";
    if (l->init(0) || l->device_at(&l->device, address) || l->retain(&context, l->device))
        return "read at rest: NVIDIA's driver gives no access to the GPU";
    l->retained = true;
    l->host = srn_aligned_calloc(COPY_BYTES, 1);
    if (!l->host || l->current(context) || l->take(&l->memory, COPY_BYTES))
        return "read at rest: the GPU has no 32 MiB left for a load";
    return NULL;
}

const char *srn__cuda_load_begin(const char *library, const char *address, srn__cuda_load **ret) {
    srn__cuda_load *l = srn_calloc(1, sizeof *l);
    if (!l) return "read at rest: no memory for a load";
    const char *why = begin(l, library, address);
    if (why)
        srn__cuda_load_end(l);
    else
        *ret = l;
    return why;
}

bool srn__cuda_load_copy(srn__cuda_load *l) {
    return l->copy(l->memory, l->host, COPY_BYTES) == 0;
}

void srn__cuda_load_end(srn__cuda_load *l) {
    if (!l) return;
    if (l->memory) l->give(l->memory);
    if (l->retained) l->current(NULL), l->release(l->device);
    if (l->library) dlclose(l->library);
    srn_aligned_free(l->host);
    free(l);
}
