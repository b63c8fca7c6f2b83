/* A device's PCI configuration space: what kind of port it is, its link, Access Control Services. Pure; any
 * thread. The bytes come from hardware, or from what a hypervisor makes up, so every offset is checked and
 * every list ends. Offsets and ids are those of the PCI Express Base Specification, chapter 7.
 */
#include "hardware/discover_internal.h"

enum {
    HEADER_BYTES = 64,
    BASIC_BYTES = 256,
    STATUS = 0x06,
    HEADER_TYPE = 0x0e,
    SECONDARY_BUS = 0x19,
    CAPABILITIES = 0x34,
    STATUS_HAS_LIST = 1 << 4,
    CAP_EXPRESS = 0x10,
    EXT_ACS = 0x000d,
    MOST_CAPS = 64
};

static uint32_t get(const uint8_t *b, size_t n, size_t at, size_t bytes) {
    uint32_t v = 0;
    for (size_t i = 0; i < bytes && at + i < n; i++) v |= (uint32_t)b[at + i] << (8 * i);
    return v;
}

/* Rates: 1 is 2.5 GT/s, 2 is 5, ... in both the capability and the status. */
static uint32_t gen_of(uint32_t speed) {
    return speed <= 7 ? speed : 0;
}
static uint32_t width_of(uint32_t width) {
    return width <= 32 ? width : 0;
}

static void take_express(const uint8_t *b, size_t n, size_t at, srn__config *c) {
    c->express = true;
    c->port_type = get(b, n, at + 2, 2) >> 4 & 15;
    uint32_t can = get(b, n, at + 0x0c, 4), is = get(b, n, at + 0x12, 2);
    c->max_gen = gen_of(can & 15);
    c->max_width = width_of(can >> 4 & 63);
    c->gen = gen_of(is & 15);
    c->width = width_of(is >> 4 & 63);
}

static void walk_list(const uint8_t *b, size_t n, srn__config *c) {
    if (!(get(b, n, STATUS, 2) & STATUS_HAS_LIST)) return;
    size_t at = b[CAPABILITIES] & ~3u;
    for (int i = 0; i < MOST_CAPS && at >= HEADER_BYTES && at + 2 <= n && at < BASIC_BYTES; i++) {
        if (b[at] == CAP_EXPRESS && at + 0x14 <= n) {
            take_express(b, n, at, c);
            return;
        }
        at = b[at + 1] & ~3u;
    }
}

static void walk_extended(const uint8_t *b, size_t n, srn__config *c) {
    size_t at = BASIC_BYTES;
    c->extended = true;
    for (int i = 0; i < MOST_CAPS && at >= BASIC_BYTES && at + 8 <= n; i++) {
        uint32_t head = get(b, n, at, 4);
        if (head == 0 || head == UINT32_MAX) return;
        if ((head & 0xffff) == EXT_ACS) {
            c->acs = true;
            c->acs_control = (uint16_t)get(b, n, at + 6, 2);
            return;
        }
        at = head >> 20 & ~3u;
    }
}

bool srn__config_parse(const uint8_t *bytes, size_t n, srn__config *ret) {
    srn__config c = {.bridge = false};
    if (n < HEADER_BYTES) return false;
    c.bridge = (bytes[HEADER_TYPE] & 0x7f) == 1;
    if (c.bridge) c.secondary_bus = bytes[SECONDARY_BUS];
    c.whole = n > HEADER_BYTES;
    if (c.whole) walk_list(bytes, n, &c);
    if (n >= BASIC_BYTES + 8) walk_extended(bytes, n, &c);
    *ret = c;
    return true;
}
