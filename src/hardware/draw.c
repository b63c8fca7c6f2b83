/* The drawing for a terminal: the machine in a few lines, the tree of what matters with its links, the table
 * of pairs, the advice. Pure; any thread. Colours and characters beyond ASCII only where they are asked for.
 */
#include "hardware/draw_internal.h"

#include <stdlib.h>

enum { LEAST_COLUMNS = 40, MOST_COLUMNS = 1000, CELL = 14 };

typedef enum style { PLAIN, BOLD, BAD, GOOD, FAINT } style;

typedef struct drawing {
    const srn_hw_machine *m;
    const srn_hw_advices *a;
    const srn_hw_draw_opts *o;
    srn_buf *out;
    bool *shown; /* [n_pci] */
    srn__draw_piece text;
    size_t columns, left; /* left: width of the tree's first column */
} drawing;

static void put(drawing *d, style s, const char *text, size_t n) {
    static const char *const codes[] = {"", "\033[1m", "\033[31;1m", "\033[32m", "\033[2m"};
    bool colored = d->o->color && s != PLAIN;
    if (colored) srn_buf_addz(d->out, codes[s]);
    for (size_t i = 0; i < n; i++) {
        uint8_t c = (uint8_t)text[i];
        if (!d->o->ascii || c < 0x80)
            srn_buf_addc(d->out, text[i]);
        else if ((c & 0xC0) != 0x80)
            srn_buf_addc(d->out, '?');
    }
    if (colored) srn_buf_addz(d->out, "\033[0m");
}

static void put_text(drawing *d, style s) {
    put(d, s, srn__draw_text(&d->text), d->text.b.len);
    srn__draw_forget(&d->text);
}

static void pad(drawing *d, size_t have, size_t want) {
    for (; have < want; have++) srn_buf_addc(d->out, ' ');
}

/* Text in lines of the terminal's width, each after `indent` spaces, the first after `head`. */
static void put_wrapped(drawing *d, style s, const char *head, size_t indent, const char *text) {
    size_t columns = d->columns > indent + 20 ? d->columns - indent : 20;
    put(d, BOLD, head, strlen(head));
    pad(d, srn__draw_width(head, strlen(head)), indent);
    for (bool first = true; *text || first; first = false) {
        size_t skip = 0, n = srn__draw_wrap(text, columns, &skip);
        if (!first) pad(d, 0, indent);
        put(d, s, text, n);
        srn_buf_addc(d->out, '\n');
        text += n + skip;
    }
}

/* ---- head ---- */

static void draw_head(drawing *d) {
    const srn_hw_machine *m = d->m;
    const char *const parts[] = {m->name[0] ? m->name : "this machine", m->board, m->os};
    for (size_t i = 0; i < SRN_LEN(parts); i++)
        if (parts[i][0]) srn_buf_addf(&d->text.b, "%s%s", i ? "; " : "", parts[i]);
    put_text(d, BOLD);
    srn_buf_addc(d->out, '\n');
    srn__draw_processor(&d->text.b, m);
    put_wrapped(d, PLAIN, "", 0, srn__draw_text(&d->text));
    srn__draw_forget(&d->text);
    for (uint32_t i = 0; i < m->n_nodes; i++) {
        srn__draw_node(&d->text.b, &m->nodes[i]);
        put_wrapped(d, PLAIN, "", 0, srn__draw_text(&d->text));
        srn__draw_forget(&d->text);
    }
    srn__draw_state(&d->text.b, m);
    put_wrapped(d, PLAIN, "", 0, srn__draw_text(&d->text));
    srn__draw_forget(&d->text);
}

/* ---- the tree ---- */

static bool is_last(const drawing *d, uint32_t i) {
    for (uint32_t k = i + 1; k < d->m->n_pci; k++)
        if (d->m->pci[k].parent == d->m->pci[i].parent && d->shown[k]) return false;
    return true;
}

/* The branches left of a device, three columns for each level below its host. */
static size_t put_branches(drawing *d, uint32_t i) {
    uint32_t way[SRN__HW_MOST_DEPTH + 1], n = 0;
    for (; d->m->pci[i].parent != SRN_HW_NONE && n < SRN_LEN(way); i = d->m->pci[i].parent) way[n++] = i;
    for (uint32_t k = n; k-- > 0;) {
        bool last = is_last(d, way[k]);
        const char *branch = k ? (last ? "   " : "\xE2\x94\x82  ")
                               : (last ? "\xE2\x94\x94\xE2\x94\x80 " : "\xE2\x94\x9C\xE2\x94\x80 ");
        if (d->o->ascii) branch = k ? (last ? "   " : "|  ") : (last ? "`- " : "|- ");
        srn_buf_addz(d->out, branch);
    }
    return 3 * (size_t)n;
}

/* Without the domain where there is but one. */
static const char *short_address(const srn_hw_machine *m, uint32_t i) {
    bool one = true;
    for (uint32_t k = 0; k < m->n_pci && one; k++) one = strncmp(m->pci[k].address, "0000:", 5) == 0;
    return m->pci[i].address + (one && m->pci[i].kind != SRN_HW_HOST ? 5 : 0);
}

static void add_left(drawing *d, uint32_t i) {
    srn_buf_addf(&d->text.b, "%s ", short_address(d->m, i));
    srn__draw_kind(&d->text.b, d->m, i);
    srn_buf_addc(&d->text.b, ' ');
    srn__draw_name(&d->text.b, d->m, i);
    while (d->text.b.len && d->text.b.data[d->text.b.len - 1] == ' ') d->text.b.data[--d->text.b.len] = 0;
}

static void measure_left(drawing *d) {
    for (uint32_t i = 0; i < d->m->n_pci; i++) {
        if (!d->shown[i]) continue;
        add_left(d, i);
        size_t width = 3 * (size_t)srn__hw_depth(d->m, i) + srn__draw_width(d->text.b.data, d->text.b.len);
        d->left = SRN_MAX(d->left, width + 2);
        srn__draw_forget(&d->text);
    }
    d->left = SRN_MIN(d->left, d->columns > 40 ? d->columns - 30 : d->columns);
}

static void draw_device(drawing *d, uint32_t i) {
    size_t width = put_branches(d, i);
    add_left(d, i);
    width += srn__draw_width(d->text.b.data, d->text.b.len);
    put_text(d, srn__hw_gpu_at(d->m, i) != SRN_HW_NONE ? GOOD : PLAIN);
    bool marked = srn__draw_marks(&d->text.b, d->m, d->a, i);
    char marks[256];
    snprintf(marks, sizeof marks, "%s", marked ? srn__draw_text(&d->text) : "");
    srn__draw_forget(&d->text);
    srn__draw_link(&d->text.b, d->m, i);
    if (marked || d->text.b.len) pad(d, width, SRN_MAX(d->left, width + 2));
    bool link = d->text.b.len > 0;
    put_text(d, marked ? BAD : FAINT);
    if (marked && link) srn_buf_addz(d->out, "  ");
    if (marked) put(d, BAD, marks, strlen(marks));
    srn_buf_addc(d->out, '\n');
}

/* Devices come in the order of their tree: each with all that is below it. */
static void draw_below(drawing *d, uint32_t parent) {
    for (uint32_t i = parent == SRN_HW_NONE ? 0 : parent + 1; i < d->m->n_pci; i++) {
        if (d->m->pci[i].parent != parent || !d->shown[i]) continue;
        draw_device(d, i);
        draw_below(d, i);
    }
}

static void draw_tree(drawing *d) {
    bool any = false;
    srn__draw_choose(d->m, d->o->all, d->shown);
    for (uint32_t i = 0; i < d->m->n_pci; i++) any = any || d->shown[i];
    srn_buf_addc(d->out, '\n');
    if (!any) {
        put_wrapped(d, PLAIN, "", 0,
                    d->m->n_pci ? "no GPU, disk or network hangs on PCI here; --all shows what does"
                                : "no PCI devices are known");
        return;
    }
    measure_left(d);
    draw_below(d, SRN_HW_NONE);
}

/* ---- GPUs that have no place in the tree, and pairs ---- */

static void draw_placeless(drawing *d) {
    for (uint32_t g = 0; g < d->m->n_gpus; g++) {
        if (d->m->gpus[g].pci != SRN_HW_NONE) continue;
        srn_buf_addf(&d->text.b, "GPU %u %s, ", g, d->m->gpus[g].name);
        srn__draw_bytes(&d->text.b, d->m->gpus[g].bytes);
        srn_buf_addz(&d->text.b, ", where it hangs is unknown\n");
        put_text(d, GOOD);
    }
}

static void put_cell(drawing *d, style s, size_t want) {
    size_t width = srn__draw_width(d->text.b.data, d->text.b.len);
    pad(d, width, want);
    put_text(d, s);
}

static void draw_pairs_block(drawing *d, uint32_t first, uint32_t end) {
    pad(d, 0, 6);
    for (uint32_t y = first; y < end; y++) srn_buf_addf(&d->text.b, "GPU %u", y), put_cell(d, BOLD, CELL);
    srn_buf_addc(d->out, '\n');
    for (uint32_t x = 0; x < d->m->n_gpus; x++) {
        srn_buf_addf(&d->text.b, "GPU %u", x);
        size_t width = d->text.b.len;
        put_text(d, BOLD);
        pad(d, width, 6);
        for (uint32_t y = first; y < end; y++) {
            bool crosses = srn__draw_pair(&d->text.b, d->m, x, y);
            put_cell(d, crosses ? BAD : PLAIN, CELL);
        }
        srn_buf_addc(d->out, '\n');
    }
}

static void draw_pairs(drawing *d) {
    uint32_t each = (uint32_t)SRN_MAX((d->columns - 6) / CELL, (size_t)1);
    bool staged = false;
    if (d->m->n_gpus < 2) return;
    put_wrapped(d, BOLD, "", 0, "\nfrom one GPU to another: GB/s at most, one way, and the route");
    for (uint32_t i = 0; i < d->m->n_gpus; i += each) draw_pairs_block(d, i, SRN_MIN(d->m->n_gpus, i + each));
    for (uint32_t x = 0; x < d->m->n_gpus; x++)
        for (uint32_t y = 0; y < d->m->n_gpus; y++)
            staged = staged || (x != y && srn_hw_path_of(d->m, x, y).staged);
    if (srn__draw_exchange(&d->text.b, d->m)) put_wrapped(d, PLAIN, "", 0, srn__draw_text(&d->text));
    srn__draw_forget(&d->text);
    if (staged)
        put_wrapped(d, FAINT, "", 0, "* copied by way of the host's memory: the driver grants no P2P");
}

/* ---- advice and what is unknown ---- */

static void draw_advice(drawing *d) {
    if (!d->m->n_gpus && !d->a->n) return;
    put_wrapped(d, BOLD, "", 0, d->a->n ? "\nadvice" : "\nadvice: no bottleneck was found");
    for (uint32_t i = 0; i < d->a->n; i++) {
        const srn_hw_advice *v = &d->a->v[i];
        char head[16];
        snprintf(head, sizeof head, "!%u", i + 1);
        put_wrapped(d, PLAIN, head, 5, v->what);
        if (v->fix[0]) put_wrapped(d, PLAIN, "", 5, v->fix);
        if (srn__draw_gain(&d->text.b, v)) {
            put_wrapped(d, v->then_bytes_per_s > 0 ? GOOD : FAINT, "", 5, srn__draw_text(&d->text));
            srn__draw_forget(&d->text);
        }
    }
}

/* Facts of one reason together: the first three, and how many more. */
static void draw_unknown(drawing *d) {
    const srn_hw_machine *m = d->m;
    bool headed = false;
    for (uint32_t i = 0; i < m->n_unknown; i++) {
        uint32_t n = 0, k = 0;
        while (k < i && strcmp(m->unknown[k].why, m->unknown[i].why) != 0) k++;
        if (k < i) continue;
        if (!headed) put_wrapped(d, BOLD, "", 0, "\nunknown");
        headed = true;
        srn_buf_addf(&d->text.b, "%s: ", m->unknown[i].why);
        for (; k < m->n_unknown; k++) {
            if (strcmp(m->unknown[k].why, m->unknown[i].why) != 0) continue;
            if (n++ < 3) srn_buf_addf(&d->text.b, "%s%s", n > 1 ? ", " : "", m->unknown[k].what);
        }
        if (n > 3) srn_buf_addf(&d->text.b, " and %u more", n - 3);
        put_wrapped(d, FAINT, "", 2, srn__draw_text(&d->text));
        srn__draw_forget(&d->text);
    }
}

int srn_hw_draw(const srn_hw_machine *m, const srn_hw_advices *a, const srn_hw_draw_opts *o, srn_buf *out,
                srn_err *err) {
    drawing d = {.m = m, .a = a, .o = o, .out = out};
    d.columns = o->columns ? SRN_MAX(SRN_MIN(o->columns, MOST_COLUMNS), LEAST_COLUMNS) : 100;
    d.shown = srn_calloc(m->n_pci, sizeof *d.shown);
    if (!d.shown) return srn_fail_nomem(err, m->n_pci);
    srn_buf_init(&d.text.b, 1 << 20);
    draw_head(&d);
    draw_tree(&d);
    draw_placeless(&d);
    draw_pairs(&d);
    draw_advice(&d);
    draw_unknown(&d);
    bool failed = out->failed || d.text.lost || d.text.b.failed;
    srn_buf_done(&d.text.b);
    free(d.shown);
    return failed ? srn_fail(err, SRN_ENOMEM, "the drawing of %u devices does not fit in memory", m->n_pci)
                  : SRN_OK;
}
