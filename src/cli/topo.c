/* serin topo: what this machine, or a recorded one, is made of: its tree of PCIe devices with their links,
 * how GPUs reach each other, what stands in the way and what to do about it. Main thread. Refuses fixtures
 * that are none, naming file and field.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/cli.h"
#include "hardware/hardware.h"

#define MOST_TEXT ((size_t)64 << 20)

typedef struct request {
    const char *from, *record, *svg;
    bool json, all, ascii, no_load;
} request;

/* ---- where the machine comes from ---- */

static int get_machine(const request *r, srn_hw_machine **ret, srn_err *err) {
    srn_hw_discover_opts o = {.root = "", .no_load = r->no_load};
    return r->from ? srn_hw_machine_load(r->from, ret, err) : srn_hw_discover(&o, ret, err);
}

/* ---- what is written ---- */

static int write_file(const char *path, const char *text, size_t len, srn_err *err) {
    bool out = strcmp(path, "-") == 0;
    int fd = out ? STDOUT_FILENO : open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    int failed = fd < 0 || srn_write_all(fd, text, len), why = errno;
    if (fd >= 0 && !out && close(fd) && !failed) failed = 1, why = errno;
    if (failed) return srn_fail(err, SRN_EIO, "%s could not be written: %s", path, strerror(why));
    if (!out) {
        fputs("wrote ", stderr);
        srn_cli_put_text(stderr, srn_str_of(path), SIZE_MAX, false);
        fputc('\n', stderr);
    }
    return SRN_OK;
}

static int record(const request *r, const srn_hw_machine *m, srn_err *err) {
    json_t *o = srn_hw_machine_json(m);
    char *text = o ? json_dumps(o, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    int code = text ? write_file(r->record, text, strlen(text), err) : srn_fail_nomem(err, 0);
    free(text);
    return code;
}

static int draw_svg(const request *r, const srn_hw_machine *m, const srn_hw_advices *a, srn_err *err) {
    srn_buf out;
    srn_buf_init(&out, MOST_TEXT);
    int code = srn_hw_draw_svg(m, a, &out, err);
    if (!code) code = write_file(r->svg, out.data, out.len, err);
    srn_buf_done(&out);
    return code;
}

/* What each GPU sends when all send to all at once. */
static json_t *exchange_json(const srn_hw_machine *m) {
    uint32_t all[SRN_HW_MOST_GPUS], busiest = SRN_HW_NONE;
    for (uint32_t i = 0; i < m->n_gpus; i++) all[i] = i;
    double each = srn_hw_exchange_bytes_per_s(m, all, m->n_gpus, &busiest);
    if (each <= 0) return json_null();
    return json_pack("{s:f, s:s?}", "bytes_per_s", each, "busiest",
                     busiest == SRN_HW_NONE ? NULL : m->pci[busiest].address);
}

/* {"machine": ..., "paths": [...], "exchange": ..., "advice": [...]} */
static int print_json(const srn_hw_machine *m, const srn_hw_advices *a, srn_err *err) {
    json_t *paths = json_array();
    for (uint32_t x = 0; x < m->n_gpus; x++)
        for (uint32_t y = 0; y < m->n_gpus; y++) {
            srn_hw_path p = srn_hw_path_of(m, x, y);
            if (x == y) continue;
            json_array_append_new(
                paths, json_pack("{s:i, s:i, s:s, s:o, s:b, s:b, s:i, s:s?, s:s?, s:s?}", "from", (int)x,
                                 "to", (int)y, "route", srn_hw_route_name(p.route), "bytes_per_s",
                                 p.bytes_per_s > 0 ? json_real(p.bytes_per_s) : json_null(), "through_cpu",
                                 p.through_cpu, "staged", p.staged, "hops", (int)p.hops, "meet",
                                 p.meet == SRN_HW_NONE ? NULL : m->pci[p.meet].address, "narrowest",
                                 p.narrowest == SRN_HW_NONE ? NULL : m->pci[p.narrowest].address, "acs",
                                 p.acs == SRN_HW_NONE ? NULL : m->pci[p.acs].address));
        }
    json_t *o = json_pack("{s:o, s:o, s:o, s:o}", "machine", srn_hw_machine_json(m), "paths", paths,
                          "exchange", exchange_json(m), "advice", srn_hw_advices_json(m, a));
    char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(o);
    if (!text) return srn_fail(err, SRN_ENOMEM, "the machine cannot be written as JSON");
    puts(text);
    free(text);
    return SRN_OK;
}

static int print_drawing(const request *r, const srn_hw_machine *m, const srn_hw_advices *a, srn_err *err) {
    srn_hw_draw_opts o = {.ascii = r->ascii, .all = r->all};
    struct winsize size;
    o.color = srn_cli_shows_colour(STDOUT_FILENO);
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0) o.columns = size.ws_col;
    srn_buf out;
    srn_buf_init(&out, MOST_TEXT);
    int code = srn_hw_draw(m, a, &o, &out, err);
    if (!code) fwrite(out.data, 1, out.len, stdout); /* texts of a machine hold no control characters */
    srn_buf_done(&out);
    return code;
}

/* ---- the command ---- */

static int run(const request *r, srn_err *err) {
    srn_hw_machine *m;
    srn_hw_advices a;
    int code = get_machine(r, &m, err);
    if (code) return code;
    code = srn_hw_advise(m, &a, err);
    if (!code) {
        if (r->record) code = record(r, m, err);
        if (!code && r->svg) code = draw_svg(r, m, &a, err);
        if (!code && r->json)
            code = print_json(m, &a, err);
        else if (!code && !r->record && !r->svg)
            code = print_drawing(r, m, &a, err);
        srn_hw_advices_done(&a);
    }
    srn_hw_machine_free(m);
    return code;
}

int srn__cmd_topo(int argc, char **argv) {
    request r = {.from = NULL};
    const srn_opt opts[] = {
        {"json", 0, SRN_OPT_FLAG, &r.json, 0, 0, NULL, "print machine, paths and advice as JSON"},
        {"svg", 0, SRN_OPT_STR, &r.svg, 0, 0, "FILE", "write a drawing for a report ('-': standard output)"},
        {"record", 0, SRN_OPT_STR, &r.record, 0, 0, "FILE",
         "write the machine as a fixture, which --from reads"},
        {"from", 0, SRN_OPT_STR, &r.from, 0, 0, "FILE",
         "a fixture, or an hwloc XML export, in place of this machine"},
        {"all", 'a', SRN_OPT_FLAG, &r.all, 0, 0, NULL, "also devices that are no GPU, disk or network"},
        {"no-load", 0, SRN_OPT_FLAG, &r.no_load, 0, 0, NULL, "wake no GPU to read its link under load"},
        {"ascii", 0, SRN_OPT_FLAG, &r.ascii, 0, 0, NULL, "draw with ASCII characters only"},
    };
    const srn_cli_spec spec = {
        .usage =
            "serin topo [--json | --svg FILE | --record FILE] [--from FIXTURE] [--all] [--ascii] [--no-load]",
        .about = "Draws what the machine is made of: processors, memory, PCIe with the links as they are and "
                 "as they "
                 "could be,\nGPUs and how they reach each other; says where bytes take a detour and how to "
                 "mend it. "
                 "What cannot be read is\nsaid to be unknown, with the reason; as root more can be read. "
                 "docs/topo.md explains each fact.",
        .examples = "  serin topo\n"
                    "  sudo serin topo --record my-machine.json\n"
                    "  serin topo --from my-machine.json --svg my-machine.svg\n"
                    "  lstopo --of xml other.xml; serin topo --from other.xml\n"
                    "  serin topo --json | jq '.advice[] | {problem, fix}'\n",
        .opts = opts,
        .n_opts = SRN_LEN(opts)};
    int n, code = srn_cli_parse(&spec, argc, argv, NULL, &n);
    if (code >= 0) return code;
    srn_err err = {0};
    code = run(&r, &err);
    return code ? srn_cli_error("topo", &err) : srn_cli_flush("topo");
}
