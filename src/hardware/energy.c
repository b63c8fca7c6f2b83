/* RAPL counters of the kernel's powercap (energy.h). Reads files only. Refuses machines without counters, and
 * says where they are for root alone, as they are since 2020.
 */
#include "hardware/energy.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

static bool read_number(const char *dir, const char *name, const char *file, uint64_t *ret, int *ret_errno) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%.64s/%s", dir, name, file);
    FILE *f = fopen(path, "re");
    if (!f) return *ret_errno = errno, false;
    bool good = fscanf(f, "%" SCNu64, ret) == 1;
    if (!good) *ret_errno = errno ? errno : EIO;
    fclose(f);
    return good;
}

/* "intel-rapl:0", and none of its parts, "intel-rapl:0:1". */
static bool is_package(const char *name) {
    const char *colon = strchr(name, ':');
    return strncmp(name, "intel-rapl:", 11) == 0 && !strchr(colon + 1, ':') && strlen(name) < 32;
}

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

int srn_energy_read(const char *root, srn_energy *ret, srn_err *err) {
    char dir[3000];
    srn_energy e = {0};
    int why = ENOENT;
    snprintf(dir, sizeof dir, "%.2900s%ssys/class/powercap", root, root[strlen(root) - 1] == '/' ? "" : "/");
    DIR *d = opendir(dir);
    for (struct dirent *f; d && e.n < SRN_ENERGY_PACKAGES && (f = readdir(d)) != NULL;) {
        if (!is_package(f->d_name)) continue;
        uint64_t range = UINT64_MAX;
        int none;
        if (!read_number(dir, f->d_name, "energy_uj", &e.packages[e.n].uj, &why)) continue;
        read_number(dir, f->d_name, "max_energy_range_uj", &range, &none);
        e.packages[e.n].range_uj = range;
        snprintf(e.packages[e.n].name, sizeof e.packages[e.n].name, "%s", f->d_name);
        e.n++;
    }
    if (d) closedir(d);
    if (!e.n)
        return srn_fail(err, SRN_EUNSUP,
                        why == EACCES ? "the processor's energy counters are for root alone (%s)"
                                      : "this machine shows no energy counters (%s)",
                        dir);
    qsort(e.packages, e.n, sizeof *e.packages, by_name);
    *ret = e;
    return SRN_OK;
}

double srn_energy_joules(const srn_energy *from, const srn_energy *to) {
    double uj = 0;
    if (from->n != to->n) return NAN;
    for (uint32_t i = 0; i < from->n; i++) {
        uint64_t a = from->packages[i].uj, b = to->packages[i].uj;
        if (strcmp(from->packages[i].name, to->packages[i].name) != 0) return NAN;
        uj += b >= a ? (double)(b - a) : (double)b + (double)from->packages[i].range_uj - (double)a;
    }
    return uj / 1e6;
}
