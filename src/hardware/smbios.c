/* The firmware's tables (SMBIOS): memory modules with their channels, kinds and rates, and the names of
 * slots. srn__smbios_parse is pure; any thread. Refuses nothing: a structure that does not fit ends the
 * tables. Which channel a module is in stands only in free text, so it is read from the two forms that boards
 * use and is unknown otherwise. Types 9 and 17 of the System Management BIOS Reference Specification.
 */
#include "hardware/discover_internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <strings.h>

enum { TYPE_SLOT = 9, TYPE_MEMORY = 17, TYPE_END = 127, MOST_TABLE = 1 << 20 };

typedef struct structure {
    const uint8_t *at;
    size_t formatted, whole; /* bytes without and with its texts */
} structure;

static uint32_t get(const structure *s, size_t at, size_t bytes) {
    uint32_t v = 0;
    if (at + bytes > s->formatted) return 0;
    for (size_t i = 0; i < bytes; i++) v |= (uint32_t)s->at[at + i] << (8 * i);
    return v;
}

/* The text whose number stands at an offset; "" where there is none. */
static void get_text(const structure *s, size_t at, char ret[SRN__SMBIOS_TEXT]) {
    uint32_t number = get(s, at, 1);
    size_t i = s->formatted;
    ret[0] = 0;
    if (!number) return;
    for (; number > 1 && i < s->whole; number--) {
        while (i < s->whole && s->at[i]) i++;
        i++;
    }
    size_t n = 0;
    for (; i < s->whole && s->at[i] && n + 1 < SRN__SMBIOS_TEXT; i++) ret[n++] = (char)s->at[i];
    while (n && ret[n - 1] == ' ') n--;
    ret[n] = 0;
}

/* ---- channels ---- */

/* "P0 CHANNEL A" of a text that has the word and a name after it. */
static bool take_channel_word(const char *text, char ret[SRN__SMBIOS_TEXT]) {
    for (const char *p = text; *p; p++) {
        if (strncasecmp(p, "channel", 7) != 0) continue;
        const char *end = p + 7 + strspn(p + 7, " _-");
        size_t name = 0;
        while (isalnum((uint8_t)end[name]) && name < 2) name++;
        if (!name) continue;
        snprintf(ret, SRN__SMBIOS_TEXT, "%.*s", (int)(end + name - text), text);
        return true;
    }
    return false;
}

/* "CPU1_DIMM_A" of "CPU1_DIMM_A2": a letter and the number of the place within its channel. */
static bool take_letter(const char *text, char ret[SRN__SMBIOS_TEXT]) {
    size_t n = strlen(text), end = n;
    while (end && isdigit((uint8_t)text[end - 1])) end--;
    if (end == n || !end || !isalpha((uint8_t)text[end - 1])) return false;
    /* The letter stands alone or after "DIMM"; of a longer word it is no channel. */
    bool alone = end == 1 || !isalpha((uint8_t)text[end - 2]);
    bool dimm = end >= 5 && strncasecmp(text + end - 5, "dimm", 4) == 0;
    if (!alone && !dimm) return false;
    snprintf(ret, SRN__SMBIOS_TEXT, "%.*s", (int)end, text);
    return true;
}

/* The first number in front of the channel's own name, as in "P0 CHANNEL A" and "CPU1_DIMM_A". */
static int32_t socket_in(const char *channel) {
    size_t i = 0;
    while (channel[i] && !isdigit((uint8_t)channel[i])) i++;
    bool before = channel[i] && strspn(channel + i, "0123456789") + i < strlen(channel);
    return before ? (int32_t)strtol(channel + i, NULL, 10) : -1;
}

static void take_module(const structure *s, srn__smbios *ret) {
    char device[SRN__SMBIOS_TEXT], bank[SRN__SMBIOS_TEXT];
    if (ret->n_modules == SRN__SMBIOS_MOST_MODULES) return;
    srn__smbios_module *m = &ret->modules[ret->n_modules++];
    *m = (srn__smbios_module){.socket = -1};
    get_text(s, 0x10, device);
    get_text(s, 0x11, bank);
    if (take_channel_word(bank, m->channel) || take_channel_word(device, m->channel) ||
        take_letter(device, m->channel))
        m->socket = socket_in(m->channel);
    uint32_t size = get(s, 0x0c, 2), configured = get(s, 0x20, 2), rated = get(s, 0x15, 2);
    if (configured == 0xffff) configured = get(s, 0x58, 4) & INT32_MAX;
    if (rated == 0xffff) rated = get(s, 0x54, 4) & INT32_MAX;
    m->filled = size != 0 && size != 0xffff;
    m->type = (uint8_t)get(s, 0x12, 1);
    m->mts = configured ? configured : rated;
    if (m->mts > 1u << 20) m->mts = 0;
}

static void take_slot(const structure *s, srn__smbios *ret) {
    if (ret->n_slots == SRN__SMBIOS_MOST_SLOTS || s->formatted < 0x11) return;
    srn__smbios_slot *t = &ret->slots[ret->n_slots];
    t->domain = get(s, 0x0d, 2);
    t->bus = get(s, 0x0f, 1);
    t->device = get(s, 0x10, 1) >> 3;
    get_text(s, 0x04, t->name);
    if (t->name[0] && t->bus != 0xff) ret->n_slots++;
}

void srn__smbios_parse(const uint8_t *bytes, size_t n, srn__smbios *ret) {
    memset(ret, 0, sizeof *ret);
    for (size_t at = 0; at + 4 <= n;) {
        structure s = {.at = bytes + at, .formatted = bytes[at + 1]};
        size_t end = at + s.formatted;
        if (s.formatted < 4 || end > n || bytes[at] == TYPE_END) return;
        while (end + 1 < n && (bytes[end] || bytes[end + 1])) end++;
        if (end + 1 >= n) return;
        s.whole = end + 1 - at;
        if (bytes[at] == TYPE_MEMORY) take_module(&s, ret);
        if (bytes[at] == TYPE_SLOT) take_slot(&s, ret);
        at = end + 2;
    }
}

const char *srn__smbios_type_name(uint8_t type) {
    static const struct {
        uint8_t type;
        const char *name;
    } names[] = {
        {0x18, "DDR3"},   {0x1a, "DDR4"}, {0x1b, "LPDDR"}, {0x1c, "LPDDR2"}, {0x1d, "LPDDR3"},
        {0x1e, "LPDDR4"}, {0x20, "HBM"},  {0x21, "HBM2"},  {0x22, "DDR5"},   {0x23, "LPDDR5"},
    };
    for (size_t i = 0; i < SRN_LEN(names); i++)
        if (names[i].type == type) return names[i].name;
    return "";
}

/* ---- what they say of nodes ---- */

/* The how-manieth of the sockets' numbers this is; they begin at 0 or at 1. */
static uint32_t rank_of(const srn__smbios *s, int32_t socket) {
    int32_t below[64];
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_modules && n < SRN_LEN(below); i++) {
        int32_t v = s->modules[i].socket;
        bool known = v >= socket;
        for (uint32_t k = 0; k < n; k++) known = known || below[k] == v;
        if (!known) below[n++] = v;
    }
    return n;
}

static bool is_first_of_channel(const srn__smbios *s, uint32_t i, bool filled) {
    for (uint32_t k = 0; k < i; k++)
        if (strcmp(s->modules[k].channel, s->modules[i].channel) == 0 && (!filled || s->modules[k].filled))
            return false;
    return !filled || s->modules[i].filled;
}

/* Modules of the socket of a node, as one; shared evenly where a socket has several nodes. false: the names
 * do not tell, or the channels cannot be shared evenly. */
static bool take_node(srn_hw_machine *m, srn_hw_node *n, const srn__smbios *s) {
    uint32_t nodes = 0, channels = 0, most = 0, mts = 0;
    for (uint32_t i = 0; i < m->n_nodes; i++) nodes += m->nodes[i].socket == n->socket;
    for (uint32_t i = 0; i < s->n_modules; i++) {
        const srn__smbios_module *v = &s->modules[i];
        if (!v->channel[0] || (m->cpu.sockets > 1 && v->socket < 0)) return false;
        if (m->cpu.sockets > 1 && rank_of(s, v->socket) != n->socket) continue;
        most += is_first_of_channel(s, i, false);
        channels += is_first_of_channel(s, i, true);
        if (v->filled && v->mts && (!mts || v->mts < mts)) mts = v->mts;
        if (v->filled && !n->memory[0]) n->memory = srn__smbios_type_name(v->type);
    }
    n->mts = mts;
    if (!nodes || !channels || channels % nodes || most % nodes || most / nodes > 256) return false;
    n->channels = channels / nodes;
    n->channels_most = most / nodes;
    return true;
}

int srn__smbios_take(srn_hw_machine *m, const srn__smbios *s, srn_err *err) {
    bool ok = true;
    for (uint32_t i = 0; i < m->n_nodes && ok; i++)
        if (!take_node(m, &m->nodes[i], s))
            ok = srn__hw_unknown(m, "the firmware's tables do not name the channels of its memory modules",
                                 "nodes/%u/channels", m->nodes[i].os_index);
    for (uint32_t i = 0; i < s->n_slots && ok; i++) {
        char start[24];
        snprintf(start, sizeof start, "%04x:%02x:%02x.", s->slots[i].domain, s->slots[i].bus,
                 s->slots[i].device);
        for (uint32_t k = 0; k < m->n_pci && ok; k++) {
            srn_hw_pci *p = &m->pci[k];
            if (p->slot[0] || strncmp(p->address, start, strlen(start)) != 0) continue;
            /* A slot's name belongs to the port above it, which is there without a card too. */
            srn_hw_pci *to = p->parent != SRN_HW_NONE && srn_hw_has_link(m, k) ? &m->pci[p->parent] : p;
            if (!to->slot[0]) ok = (to->slot = srn__hw_text(m, srn_str_of(s->slots[i].name))) != NULL;
            break;
        }
    }
    return ok ? SRN_OK : srn_fail_nomem(err, SRN__HW_MOST_TEXT);
}

int srn__discover_smbios(srn_hw_machine *m, const char *root, srn_err *err) {
    uint8_t *bytes = srn_calloc(MOST_TABLE, 1);
    srn__smbios *s = srn_calloc(1, sizeof *s);
    int code = bytes && s ? SRN_OK : srn_fail_nomem(err, MOST_TABLE);
    long n = code ? 0 : srn__sysfs_read(root, "/sys/firmware/dmi/tables/DMI", bytes, MOST_TABLE);
    if (!code && n < 0) {
        const char *why = n == -EACCES ? "needs root" : "the firmware shows no SMBIOS tables here";
        if (!srn__hw_unknown(m, why, "nodes/channels")) code = srn_fail_nomem(err, SRN__HW_MOST_TEXT);
    } else if (!code) {
        srn__smbios_parse(bytes, (size_t)n, s);
        code = srn__smbios_take(m, s, err);
    }
    free(s);
    free(bytes);
    return code;
}
