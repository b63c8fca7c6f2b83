/* Fuzz target: the firmware's tables, and what a machine of two nodes learns from them. */
#include <stdlib.h>

#include "hardware/discover_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds) {
    if (!holds) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char machine[] =
        "{\"serin_machine\": 1, \"cpu\": {\"sockets\": 2}, \"nodes\": [{\"socket\": 0}, {\"socket\": 1}],"
        "\"pci\": [{\"address\": \"0000:00\", \"kind\": \"host\"},"
        "{\"address\": \"0000:00:01.0\", \"parent\": \"0000:00\", \"kind\": \"root_port\"},"
        "{\"address\": \"0000:01:00.0\", \"parent\": \"0000:00:01.0\", \"kind\": \"device\"}]}";
    srn_err err = {0};
    srn_hw_machine *m;
    if (size > 1u << 16) return 0;
    srn__smbios *s = malloc(sizeof *s);
    check(s != NULL);
    srn__smbios_parse(data, size, s);
    check(s->n_modules <= SRN__SMBIOS_MOST_MODULES && s->n_slots <= SRN__SMBIOS_MOST_SLOTS);
    for (uint32_t i = 0; i < s->n_modules; i++) {
        check(memchr(s->modules[i].channel, 0, SRN__SMBIOS_TEXT) && s->modules[i].mts <= 1u << 20);
        check(s->modules[i].channel[0] || s->modules[i].socket == -1);
    }
    for (uint32_t i = 0; i < s->n_slots; i++) check(memchr(s->slots[i].name, 0, SRN__SMBIOS_TEXT) != NULL);
    check(srn_hw_machine_parse(srn_str_of(machine), "machine", &m, &err) == SRN_OK);
    check(srn__smbios_take(m, s, &err) == SRN_OK);
    for (uint32_t i = 0; i < m->n_nodes; i++)
        check(m->nodes[i].channels <= m->nodes[i].channels_most && m->nodes[i].memory);
    srn_hw_machine_free(m);
    free(s);
    return 0;
}
