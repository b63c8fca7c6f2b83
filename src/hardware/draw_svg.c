/* The drawing for a report: an SVG that needs nothing beside itself. Hosts and switches are boxes with their
 * ports along the lower edge, links are lines as thick as their lanes are many, what the advice is about is
 * red and bears its number; below stand the table of pairs and the advice. Pure; any thread.
 */
#include "hardware/draw_internal.h"

#include <stdlib.h>

/* Pixels. */
enum {
    MARGIN = 24,
    LEAF_W = 176,
    GAP = 14,
    BOX_H = 58,
    TAB_H = 20,
    LINK_H = 70,
    LEVEL_H = BOX_H + LINK_H,
    LEAST_W = 820,
    LINE_H = 17,
    CELL_W = 104
};
#define CHAR_W 6.9 /* of the text, in wide fonts */

typedef struct place {
    double x, y, w; /* of a box, or of a port's tab */
    bool shown, tab;
} place;

typedef struct svg {
    const srn_hw_machine *m;
    const srn_hw_advices *a;
    srn_buf *out;
    place *at; /* [n_pci] */
    bool *shown;
    srn__draw_piece text;
    double width, bottom;
} svg;

/* ---- primitives ---- */

static void add_escaped(srn_buf *b, const char *t, size_t n) {
    for (size_t i = 0; i < n; i++) switch (t[i]) {
        case '<':
            srn_buf_addz(b, "&lt;");
            break;
        case '>':
            srn_buf_addz(b, "&gt;");
            break;
        case '&':
            srn_buf_addz(b, "&amp;");
            break;
        case '"':
            srn_buf_addz(b, "&quot;");
            break;
        default:
            srn_buf_addc(b, t[i]);
        }
}

/* Text of at most `most` characters; what is longer ends in dots. */
static void put_text(svg *s, double x, double y, const char *class, const char *t, size_t n, size_t most) {
    bool cut = srn__draw_width(t, n) > most;
    size_t end = 0, width = 0;
    while (end < n && (!cut || width < most || ((uint8_t)t[end] & 0xC0) == 0x80))
        width += ((uint8_t)t[end++] & 0xC0) != 0x80;
    while (cut && end && (((uint8_t)t[end] & 0xC0) == 0x80 || width >= most)) {
        end--;
        width -= ((uint8_t)t[end] & 0xC0) != 0x80;
    }
    srn_buf_addf(s->out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    add_escaped(s->out, t, end);
    if (cut) srn_buf_addz(s->out, "\xE2\x80\xA6");
    srn_buf_addz(s->out, "</text>\n");
}

/* What was gathered in s->text, which is cleared. */
static void put_gathered(svg *s, double x, double y, const char *class, size_t most) {
    put_text(s, x, y, class, srn__draw_text(&s->text), s->text.b.len, most);
    srn__draw_forget(&s->text);
}

static void put_box(svg *s, double x, double y, double w, double h, const char *class) {
    srn_buf_addf(s->out,
                 "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"5\" class=\"%s\"/>\n", x, y,
                 w, h, class);
}

/* ---- layout ---- */

static bool is_tab(const srn_hw_machine *m, uint32_t i) {
    const srn_hw_pci *p = &m->pci[i];
    if (p->parent == SRN_HW_NONE) return false;
    srn_hw_kind above = m->pci[p->parent].kind;
    return (p->kind == SRN_HW_ROOT_PORT && above == SRN_HW_HOST) ||
           (p->kind == SRN_HW_SWITCH_DOWN && above == SRN_HW_SWITCH_UP);
}

static uint32_t next_child(const svg *s, uint32_t parent, uint32_t after) {
    for (uint32_t i = after + 1; i < s->m->n_pci; i++)
        if (s->m->pci[i].parent == parent && s->shown[i]) return i;
    return SRN_HW_NONE;
}

/* Lays out pci[i] and what is below it from x on, boxes at y; returns the width taken. A tab takes its
 * children's width and lies in the lower edge of its parent's box. */
static double lay(svg *s, uint32_t i, double x, double y) {
    place *p = &s->at[i];
    p->shown = true;
    p->tab = is_tab(s->m, i);
    p->x = x;
    p->y = p->tab ? y - LINK_H - TAB_H / 2.0 : y;
    double width = 0;
    for (uint32_t c = next_child(s, i, i); c != SRN_HW_NONE; c = next_child(s, i, c)) {
        if (width > 0) width += GAP;
        width += lay(s, c, x + width, p->tab ? y : y + LEVEL_H);
    }
    p->w = width > LEAF_W ? width : LEAF_W;
    if (!p->tab)
        s->bottom = SRN_MAX(s->bottom, y + BOX_H);
    else
        s->bottom = SRN_MAX(s->bottom, y);
    return p->w;
}

/* ---- the tree ---- */

static const char *box_class(const svg *s, uint32_t i, bool bad) {
    const srn_hw_pci *p = &s->m->pci[i];
    if (srn__hw_gpu_at(s->m, i) != SRN_HW_NONE) return bad ? "gpu bad" : "gpu";
    if (p->kind == SRN_HW_HOST) return bad ? "host bad" : "host";
    if (p->kind == SRN_HW_SWITCH_UP)
        return p->chipset == SRN_HW_YES ? "chipset" : bad ? "switch bad" : "switch";
    return bad ? "device bad" : "device";
}

/* The link above a box, from the tab or box that it hangs on. */
static void draw_link(svg *s, uint32_t i, bool bad) {
    const place *p = &s->at[i], *up = &s->at[s->m->pci[i].parent];
    const srn_hw_link *l = &s->m->pci[i].link;
    double x = p->x + p->w / 2, top = up->tab ? up->y + TAB_H : up->y + BOX_H;
    bool known = l->width > 0;
    srn_buf_addf(s->out, "<path d=\"M%.1f %.1fV%.1f\" class=\"link%s%s\" stroke-width=\"%.1f\"/>\n", x, top,
                 p->y, bad ? " badline" : "", known ? "" : " dashed", known ? 1.5 + l->width * 0.35 : 1.5);
    srn__draw_link(&s->text.b, s->m, i);
    if (!s->text.b.len) return;
    /* What it could be, or the card is, stands in a second line. */
    size_t end = strcspn(s->text.b.data, ",(");
    double y = (top + p->y) / 2 + 4;
    if (s->text.b.data[end]) {
        char low[64];
        snprintf(low, sizeof low, "%s", s->text.b.data + end + (s->text.b.data[end] == ',' ? 2 : 0));
        s->text.b.data[end] = 0;
        s->text.b.len = end;
        put_text(s, x + 8, y + 8, bad ? "small badtext" : "small", low, strlen(low), 30);
        y -= 7;
    }
    put_gathered(s, x + 8, y, bad ? "label badtext" : "label", 24);
}

/* A port: its slot or address, and whether nothing is in it. */
static void draw_tab(svg *s, uint32_t i) {
    const place *p = &s->at[i];
    const srn_hw_pci *q = &s->m->pci[i];
    bool bad = srn__draw_marks(&s->text.b, s->m, s->a, i);
    char marks[32];
    snprintf(marks, sizeof marks, "%s", bad ? srn__draw_text(&s->text) : "");
    srn__draw_forget(&s->text);
    double w = p->w - 2 * GAP;
    w = SRN_MIN(w, 170);
    double x = p->x + (p->w - w) / 2;
    put_box(s, x, p->y, w, TAB_H, bad ? "tab bad" : "tab");
    srn_buf_addf(&s->text.b, "%s", q->slot[0] ? q->slot : q->address);
    if (bad) srn_buf_addf(&s->text.b, " %s", marks);
    put_gathered(s, x + w / 2, p->y + 14, bad ? "port badtext" : "port", (size_t)(w / CHAR_W));
    if (srn__hw_has_children(s->m, i) || !q->link.max_width) return;
    srn_buf_addf(&s->text.b, "free: gen%u x%u", q->link.max_gen, q->link.max_width);
    put_gathered(s, p->x + p->w / 2, p->y + TAB_H + 16, "free", 30);
}

static void draw_box(svg *s, uint32_t i) {
    const place *p = &s->at[i];
    size_t most = (size_t)((p->w - 20) / CHAR_W);
    char marks[64];
    bool bad = srn__draw_marks(&s->text.b, s->m, s->a, i);
    snprintf(marks, sizeof marks, "%s", bad ? srn__draw_text(&s->text) : "");
    srn__draw_forget(&s->text);
    if (srn_hw_has_link(s->m, i))
        draw_link(s, i, bad);
    else if (s->m->pci[i].parent != SRN_HW_NONE) /* inside a chip */
        srn_buf_addf(s->out, "<path d=\"M%.1f %.1fV%.1f\" class=\"link\"/>\n", p->x + p->w / 2, p->y - LINK_H,
                     p->y);
    put_box(s, p->x, p->y, p->w, BOX_H, box_class(s, i, bad));
    srn__draw_kind(&s->text.b, s->m, i);
    srn_buf_addf(&s->text.b, "  %s", s->m->pci[i].address);
    put_gathered(s, p->x + 10, p->y + 19, "name", most);
    uint32_t gpu = srn__hw_gpu_at(s->m, i);
    if (gpu != SRN_HW_NONE) {
        srn_buf_addz(&s->text.b, s->m->gpus[gpu].name);
        put_gathered(s, p->x + 10, p->y + 35, "small", most);
        srn__draw_bytes(&s->text.b, s->m->gpus[gpu].bytes);
        srn_buf_addf(&s->text.b, "  %s", s->m->pci[i].slot);
        put_gathered(s, p->x + 10, p->y + 50, "small", most);
    } else {
        srn__draw_name(&s->text.b, s->m, i);
        put_gathered(s, p->x + 10, p->y + 35, "small", most);
    }
    if (!bad) return;
    srn_buf_addf(&s->text.b, "%s", marks);
    put_gathered(s, p->x + p->w - 8, p->y + 19, "marks", 20);
}

static void draw_tree(svg *s, double y) {
    double x = MARGIN;
    srn__draw_choose(s->m, false, s->shown);
    s->bottom = y;
    for (uint32_t i = 0; i < s->m->n_pci; i++)
        if (s->m->pci[i].kind == SRN_HW_HOST && s->shown[i]) x += lay(s, i, x, y) + 2 * GAP;
    s->width = SRN_MAX(s->width, x - 2 * GAP + MARGIN);
    for (uint32_t i = 0; i < s->m->n_pci; i++)
        if (s->at[i].shown && !s->at[i].tab) draw_box(s, i);
    for (uint32_t i = 0; i < s->m->n_pci; i++)
        if (s->at[i].shown && s->at[i].tab) draw_tab(s, i);
}

/* ---- words above and below ---- */

static void line(svg *s, const char *class) {
    size_t most = (size_t)((s->width - 2 * MARGIN) / CHAR_W);
    const char *t = srn__draw_text(&s->text);
    do {
        size_t skip = 0, n = srn__draw_wrap(t, most, &skip);
        s->bottom += LINE_H;
        put_text(s, MARGIN, s->bottom, class, t, n, most + 1);
        t += n + skip;
    } while (*t);
    srn__draw_forget(&s->text);
}

static void draw_head(svg *s) {
    const srn_hw_machine *m = s->m;
    s->bottom = MARGIN + 4;
    srn_buf_addf(&s->text.b, "%s%s%s", m->name[0] ? m->name : "this machine", m->board[0] ? "; " : "",
                 m->board);
    put_gathered(s, MARGIN, s->bottom, "title", 90);
    srn__draw_processor(&s->text.b, m);
    line(s, "body");
    for (uint32_t i = 0; i < m->n_nodes && i < 16; i++)
        srn__draw_node(&s->text.b, &m->nodes[i]), line(s, "body");
    srn__draw_state(&s->text.b, m);
    line(s, m->is_virtual ? "body badtext" : "body");
}

static void draw_pairs(svg *s) {
    uint32_t n = s->m->n_gpus;
    if (n < 2) return;
    s->bottom += LINE_H;
    srn_buf_addz(&s->text.b, "From one GPU to another: GB/s at most, one way, and the route");
    line(s, "head");
    s->bottom += 6;
    double top = s->bottom;
    for (uint32_t y = 0; y < n; y++) {
        srn_buf_addf(&s->text.b, "GPU %u", y);
        put_gathered(s, MARGIN + 60 + CELL_W * (y + 0.5), top + 14, "cellhead", 10);
    }
    for (uint32_t x = 0; x < n; x++) {
        double row = top + 20 + 22.0 * x;
        srn_buf_addf(&s->text.b, "GPU %u", x);
        put_gathered(s, MARGIN, row + 15, "name", 10);
        for (uint32_t y = 0; y < n; y++) {
            double at = MARGIN + 60 + (double)CELL_W * y;
            bool bad = srn__draw_pair(&s->text.b, s->m, x, y);
            put_box(s, at, row, CELL_W - 3, 19, bad ? "cell badcell" : x == y ? "cell self" : "cell");
            put_gathered(s, at + CELL_W / 2.0, row + 14, bad ? "port badtext" : "port", 16);
        }
    }
    s->bottom = top + 20 + 22.0 * n;
    s->width = SRN_MAX(s->width, 2 * MARGIN + 60 + (double)CELL_W * n);
    if (srn__draw_exchange(&s->text.b, s->m)) line(s, "body");
    for (uint32_t i = 0; i < n * n; i++) {
        if (i / n == i % n || !srn_hw_path_of(s->m, i / n, i % n).staged) continue;
        srn_buf_addz(&s->text.b, "* copied by way of the host's memory: the driver grants no P2P");
        line(s, "small");
        break;
    }
}

static void draw_advice(svg *s) {
    if (!s->m->n_gpus && !s->a->n) return;
    s->bottom += LINE_H;
    srn_buf_addz(&s->text.b, s->a->n ? "Advice" : "Advice: no bottleneck was found");
    line(s, "head");
    for (uint32_t i = 0; i < s->a->n; i++) {
        const srn_hw_advice *v = &s->a->v[i];
        s->bottom += 5;
        srn_buf_addf(&s->text.b, "!%u  %s", i + 1, v->what);
        line(s, "body badtext");
        if (v->fix[0]) srn_buf_addz(&s->text.b, v->fix), line(s, "body");
        if (srn__draw_gain(&s->text.b, v)) line(s, v->then_bytes_per_s > 0 ? "body gain" : "body");
    }
}

static const char style[] =
    "<style>text{font-family:'Helvetica Neue',Helvetica,Arial,'Liberation Sans',sans-serif;font-size:12px;"
    "fill:#1f2933}.title{font-size:18px;font-weight:600}.head{font-size:14px;font-weight:600}.name{font-"
    "weight:600}"
    ".small{font-size:11px;fill:#52606d}.label{font-size:12px;font-weight:600}.free{font-size:11px;fill:#"
    "52606d;"
    "text-anchor:middle;font-style:italic}.port{font-size:11px;text-anchor:middle}.cellhead{text-anchor:"
    "middle;"
    "font-weight:600}.marks{fill:#c0392b;font-weight:700;text-anchor:end}.badtext{fill:#c0392b}.gain{fill:#"
    "1e7e46;"
    "font-weight:600}rect{stroke:#9aa5b1;stroke-width:1}.page{fill:#fff;stroke:none}.host{fill:#e4ebf5}."
    "switch{"
    "fill:#efe8f8}.chipset{fill:#fdf1dc}.gpu{fill:#e3f4e8}.device{fill:#f5f7fa}.tab{fill:#fff}.bad{stroke:#"
    "c0392b;"
    "stroke-width:2}.cell{fill:#f5f7fa;stroke:none}.self{fill:#fff}.badcell{fill:#fbe5e2}.link{stroke:#"
    "52606d;"
    "fill:none}.badline{stroke:#c0392b}.dashed{stroke-dasharray:4 3}</style>\n";

int srn_hw_draw_svg(const srn_hw_machine *m, const srn_hw_advices *a, srn_buf *out, srn_err *err) {
    srn_buf body;
    srn_buf_init(&body, out->max ? out->max : (size_t)64 << 20);
    svg s = {.m = m, .a = a, .out = &body, .width = LEAST_W};
    srn_buf_init(&s.text.b, 1 << 20);
    s.at = srn_calloc(m->n_pci, sizeof *s.at);
    s.shown = srn_calloc(m->n_pci, sizeof *s.shown);
    bool ok = s.at && s.shown;
    if (ok) {
        draw_head(&s);
        draw_tree(&s, s.bottom + LINE_H);
        s.bottom += GAP;
        draw_pairs(&s);
        draw_advice(&s);
        double height = s.bottom + MARGIN;
        srn_buf_addf(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f "
            "%.0f\" role=\"img\">\n<title>",
            s.width, height, s.width, height);
        add_escaped(out, m->name[0] ? m->name : "this machine",
                    strlen(m->name[0] ? m->name : "this machine"));
        srn_buf_addf(out,
                     "</title>\n%s<rect x=\"0\" y=\"0\" width=\"%.0f\" height=\"%.0f\" class=\"page\"/>\n",
                     style, s.width, height);
        srn_buf_add(out, body.data, body.len);
        srn_buf_addz(out, "</svg>\n");
    }
    ok = ok && !body.failed && !s.text.lost && !s.text.b.failed && !out->failed;
    srn_buf_done(&body);
    srn_buf_done(&s.text.b);
    free(s.at);
    free(s.shown);
    return ok ? SRN_OK
              : srn_fail(err, SRN_ENOMEM, "the drawing of %u devices does not fit in memory", m->n_pci);
}
