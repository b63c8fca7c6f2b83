/* Machines as fixtures: what is read is written again, links and paths against figures worked out by hand,
 * and for each fixture exactly the problems that are in it, gone once they are mended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "hardware_help.h"

static bool near(double a, double b) {
    return fabs(a - b) <= 1e-6 * fabs(b);
}

/* ---- links ---- */

static void a_link_carries_lanes_times_rate_less_coding_and_headers(void **state) {
    (void)state;
    double packet = 256.0 / 284;
    assert_true(near(srn_hw_link_bytes_per_s(3, 16), 16 * 8e9 / 8 * 128 / 130 * packet));
    assert_true(near(srn_hw_link_bytes_per_s(1, 1), 0.25e9 * packet));
    assert_true(near(srn_hw_link_bytes_per_s(2, 8), 4e9 * packet));
    assert_true(near(srn_hw_link_bytes_per_s(4, 4), srn_hw_link_bytes_per_s(3, 8)));
    assert_true(near(srn_hw_link_bytes_per_s(5, 16), 2 * srn_hw_link_bytes_per_s(4, 16)));
    assert_true(near(srn_hw_link_bytes_per_s(6, 16), 128e9 * 242 / 256 * packet));
    assert_true(srn_hw_link_bytes_per_s(0, 16) == 0 && srn_hw_link_bytes_per_s(3, 0) == 0);
    assert_true(srn_hw_link_bytes_per_s(8, 16) == 0);
}

static void a_link_is_at_most_what_both_its_ends_are(void **state) {
    (void)state;
    srn_hw_machine *m = hardware_load("consumer-board");
    uint32_t gen, width;
    srn_hw_link_most(m, m->gpus[0].pci, &gen, &width);
    assert_true(gen == 4 && width == 4); /* the card is x16, the port x4 */
    srn_hw_link_most(m, m->gpus[1].pci, &gen, &width);
    assert_true(gen == 4 && width == 16);
    srn_hw_link_most(m, 0, &gen, &width); /* a host */
    assert_true(gen == 0 && width == 0);
    srn_hw_machine_free(m);
}

static void a_link_read_at_rest_counts_with_what_it_can_be(void **state) {
    (void)state;
    srn_hw_machine *m = hardware_load("one-gpu");
    srn_hw_link *l = &m->pci[m->gpus[0].pci].link;
    l->gen = 1;
    assert_true(near(srn_hw_path_to_host(m, 0).bytes_per_s, srn_hw_link_bytes_per_s(1, 16)));
    l->idle = true;
    assert_true(near(srn_hw_path_to_host(m, 0).bytes_per_s, srn_hw_link_bytes_per_s(4, 16)));
    char found[128];
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "");
    l->idle = false;
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "down_trained");
    l->idle = true;
    l->width = 8; /* lanes do not rest */
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "down_trained");
    srn_hw_machine_free(m);
}

/* ---- paths ---- */

static void cards_below_one_switch_meet_there_unless_acs_sends_them_up(void **state) {
    (void)state;
    srn_hw_machine *m = hardware_load("four-v100");
    srn_hw_path p = srn_hw_path_of(m, 0, 3);
    assert_int_equal(p.route, SRN_HW_VIA_SWITCH);
    assert_string_equal(m->pci[p.meet].address, "0000:03:00.0");
    assert_string_equal(m->pci[p.acs].address, "0000:04:00.0");
    assert_true(p.through_cpu && !p.staged && p.hops == 4);
    for (uint32_t i = 0; i < m->n_pci; i++) m->pci[i].acs_redirect = SRN_HW_NO;
    p = srn_hw_path_of(m, 0, 3);
    assert_true(p.acs == SRN_HW_NONE && !p.through_cpu && p.hops == 2);
    assert_true(near(p.bytes_per_s, srn_hw_link_bytes_per_s(3, 16)));
    srn_hw_machine_free(m);
}

static void routes_are_told_apart(void **state) {
    (void)state;
    static const struct {
        const char *fixture;
        uint32_t a, b;
        const char *route;
    } cases[] = {
        {"two-on-one-root", 0, 1, "root"}, {"two-switches", 0, 1, "switch"},
        {"two-switches", 1, 2, "sockets"}, {"consumer-board", 0, 1, "root"},
        {"eight-nvlink", 0, 7, "nvlink"},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_hw_machine *m = hardware_load(cases[i].fixture);
        srn_hw_path there = srn_hw_path_of(m, cases[i].a, cases[i].b);
        srn_hw_path back = srn_hw_path_of(m, cases[i].b, cases[i].a);
        assert_string_equal(srn_hw_route_name(there.route), cases[i].route);
        assert_true(back.route == there.route && back.meet == there.meet && back.hops == there.hops);
        assert_true(there.bytes_per_s > 0 && near(back.bytes_per_s, there.bytes_per_s));
        srn_hw_machine_free(m);
    }
}

static void the_narrowest_link_of_the_way_counts(void **state) {
    (void)state;
    srn_hw_machine *m = hardware_load("consumer-board");
    srn_hw_path p = srn_hw_path_of(m, 1, 0);
    assert_true(near(p.bytes_per_s, srn_hw_link_bytes_per_s(4, 4)) && p.hops == 3);
    assert_string_equal(m->pci[p.narrowest].address, "0000:05:00.0");
    m->pci[m->gpus[1].pci].link.width = 2;
    p = srn_hw_path_of(m, 1, 0);
    assert_true(near(p.bytes_per_s, srn_hw_link_bytes_per_s(4, 2)) && p.narrowest == m->gpus[1].pci);
    srn_hw_machine_free(m);
}

static void without_nvlink_the_tree_decides_also_between_hosts_of_one_socket(void **state) {
    (void)state;
    srn_hw_machine *m = hardware_load("eight-nvlink");
    for (uint32_t i = 0; i < 64; i++) m->pairs[i].nvlinks = 0;
    assert_int_equal(srn_hw_path_of(m, 0, 1).route, SRN_HW_VIA_SWITCH);
    assert_int_equal(srn_hw_path_of(m, 0, 2).route, SRN_HW_VIA_SOCKET);
    assert_int_equal(srn_hw_path_of(m, 0, 4).route, SRN_HW_VIA_SOCKETS);
    m->is_virtual = true; /* the tree is an invention */
    assert_int_equal(srn_hw_path_of(m, 0, 1).route, SRN_HW_VIA_UNKNOWN);
    srn_hw_machine_free(m);
}

static void one_unknown_link_makes_the_way_unknown(void **state) {
    (void)state;
    srn_hw_machine *m = hardware_load("four-v100");
    m->pci[m->gpus[2].pci].link.width = 0;
    assert_true(srn_hw_path_of(m, 2, 3).bytes_per_s == 0 && srn_hw_path_of(m, 0, 3).bytes_per_s > 0);
    assert_true(srn_hw_path_to_host(m, 2).bytes_per_s == 0);
    srn_hw_machine_free(m);
}

/* ---- all at once ---- */

static void what_all_send_at_once_shares_the_busiest_link(void **state) {
    (void)state;
    const uint32_t all[] = {0, 1, 2, 3};
    uint32_t busiest;
    double x16 = srn_hw_link_bytes_per_s(3, 16);
    srn_hw_machine *m = hardware_load("four-v100");
    /* Redirected, each of 12 flows goes up the switch's one link; below it each card has 3. */
    assert_true(near(srn_hw_exchange_bytes_per_s(m, all, 4, &busiest), 3 * x16 / 12));
    assert_string_equal(m->pci[busiest].address, "0000:03:00.0");
    for (uint32_t i = 0; i < m->n_pci; i++) m->pci[i].acs_redirect = SRN_HW_NO;
    assert_true(near(srn_hw_exchange_bytes_per_s(m, all, 4, &busiest), x16));
    assert_true(srn_hw_exchange_bytes_per_s(m, all, 1, NULL) == 0);
    srn_hw_machine_free(m);
    /* Across sockets: 8 of the 12 flows cross, 4 each way. */
    m = hardware_load("two-switches");
    assert_true(near(srn_hw_exchange_bytes_per_s(m, all, 4, NULL), 3 * x16 / 4));
    srn_hw_machine_free(m);
    /* Twelve links of 25 GB/s, shared by the seven others through the switch of NVLink. */
    m = hardware_load("eight-nvlink");
    const uint32_t eight[] = {0, 1, 2, 3, 4, 5, 6, 7};
    assert_true(near(srn_hw_exchange_bytes_per_s(m, eight, 8, NULL), 300e9));
    srn_hw_machine_free(m);
}

/* ---- advice ---- */

static void each_fixture_has_exactly_its_problems(void **state) {
    (void)state;
    static const struct {
        const char *fixture, *problems;
    } cases[] = {
        {"one-gpu", ""},
        {"two-on-one-root", "crosses_cpu down_trained small_bar no_p2p iommu_translates few_channels"},
        {"four-v100", "acs shared_uplink"},
        {"two-switches", "crosses_sockets shared_uplink shared_uplink"},
        {"consumer-board", "crosses_cpu narrow_slot on_chipset"},
        {"eight-nvlink", "shared_uplink shared_uplink shared_uplink shared_uplink"},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        char found[512];
        srn_hw_machine *m = hardware_load(cases[i].fixture);
        hardware_problems(m, found, sizeof found);
        if (strcmp(found, cases[i].problems) != 0) fail_msg("%s: %s", cases[i].fixture, found);
        srn_hw_machine_free(m);
    }
}

static void what_is_mended_is_no_longer_said(void **state) {
    (void)state;
    char found[512];
    srn_hw_machine *m = hardware_load("two-on-one-root");
    m->pci[m->gpus[1].pci].link.width = 16;
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "crosses_cpu small_bar no_p2p iommu_translates few_channels");
    m->gpus[1].bar1_bytes = m->gpus[1].bytes;
    m->iommu = SRN_HW_IOMMU_PASS;
    m->nodes[0].channels = m->nodes[0].channels_most;
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "crosses_cpu no_p2p");
    m->pairs[1].read = m->pairs[1].write = m->pairs[2].read = m->pairs[2].write = SRN_HW_YES;
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "crosses_cpu");
    m->pairs[1].nvlinks = m->pairs[2].nvlinks = 4;
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "");
    srn_hw_machine_free(m);
}

static void an_uplink_of_as_many_lanes_as_below_it_is_no_problem(void **state) {
    (void)state;
    char found[512];
    srn_hw_machine *m = hardware_load("four-v100");
    for (uint32_t i = 0; i < m->n_pci; i++) {
        m->pci[i].acs_redirect = SRN_HW_NO;
        if (m->pci[i].vendor == 0x10de) m->pci[i].link.width = m->pci[i].link.max_width = 4;
    }
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "");
    m->pci[m->gpus[0].pci].link.width = m->pci[m->gpus[0].pci].link.max_width = 8;
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "shared_uplink");
    srn_hw_machine_free(m);
}

static void what_is_unknown_is_no_problem(void **state) {
    (void)state;
    char found[512];
    srn_hw_machine *m = hardware_load("four-v100");
    for (uint32_t i = 0; i < m->n_pci; i++) {
        m->pci[i].acs_redirect = SRN_HW_MAYBE;
        m->pci[i].link = (srn_hw_link){0};
    }
    for (uint32_t i = 0; i < m->n_gpus; i++) m->gpus[i].bar1_bytes = SRN_HW_UNKNOWN;
    hardware_problems(m, found, sizeof found);
    assert_string_equal(found, "");
    srn_hw_machine_free(m);
}

static const srn_hw_advice *find(const srn_hw_advices *a, srn_hw_problem p) {
    for (uint32_t i = 0; i < a->n; i++)
        if (a->v[i].problem == p) return &a->v[i];
    fail_msg("%s was not found", srn_hw_problem_name(p));
    return NULL;
}

static void the_fix_is_named_with_its_gain(void **state) {
    (void)state;
    static const struct {
        const char *fixture;
        srn_hw_problem problem;
        const char *what, *fix;
        uint32_t gen, width;
        double now, then; /* times the rate of gen and width */
    } cases[] = {
        {"four-v100", SRN_HW_ACS, "GPU 0, 1, 2 and 3", "setpci -s 0000:04:0c.0 ECAP_ACS+6.w=0000:001c", 3, 16,
         .25, 1},
        {"four-v100", SRN_HW_SHARED_UPLINK, "the switch at 0000:03:00.0", "", 3, 16, .25, 0},
        {"two-switches", SRN_HW_CROSSES_SOCKETS, "4 pairs of GPU 0, 1, 2 and 3",
         "Move GPU 2 to the slot CPU1 SLOT3 (0000:3c:08.0), which is free, and GPU 3 to the slot CPU1 SLOT4 "
         "(0000:3c:0c.0)",
         3, 16, .75, 1},
        {"consumer-board", SRN_HW_ON_CHIPSET, "GPU 0", "Move GPU 0 to the slot PCIEX16_2 (0000:00:03.2)", 4,
         8, .5, 1},
        {"consumer-board", SRN_HW_NARROW_SLOT, "This slot is x4, and GPU 0 could use x16",
         "Move GPU 0 to the slot PCIEX16_2", 4, 8, .5, 1},
        {"consumer-board", SRN_HW_CROSSES_CPU, "GPU 0 and GPU 1", "No switch", 4, 4, 1, 0},
        {"two-on-one-root", SRN_HW_DOWN_TRAINED,
         "GPU 1 (0000:02:00.0) runs at gen4 x8; both its ends can do gen4 x16", "seat the card", 4, 16, .5,
         1},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_hw_machine *m = hardware_load(cases[i].fixture);
        srn_hw_advices a;
        srn_err err = {0};
        assert_int_equal(srn_hw_advise(m, &a, &err), SRN_OK);
        const srn_hw_advice *v = find(&a, cases[i].problem);
        double rate = srn_hw_link_bytes_per_s(cases[i].gen, cases[i].width);
        if (!strstr(v->what, cases[i].what)) fail_msg("%s", v->what);
        if (!strstr(v->fix, cases[i].fix)) fail_msg("%s", v->fix);
        if (!near(v->now_bytes_per_s, cases[i].now * rate))
            fail_msg("%s: %g now", v->what, v->now_bytes_per_s);
        if (fabs(v->then_bytes_per_s - cases[i].then * rate) > 1)
            fail_msg("%s: %g", v->fix, v->then_bytes_per_s);
        srn_hw_advices_done(&a);
        srn_hw_machine_free(m);
    }
}

static void the_greatest_gain_comes_first(void **state) {
    (void)state;
    for (size_t i = 0; i < SRN_LEN(hardware_fixtures); i++) {
        srn_hw_machine *m = hardware_load(hardware_fixtures[i]);
        srn_hw_advices a;
        srn_err err = {0};
        double last = INFINITY;
        assert_int_equal(srn_hw_advise(m, &a, &err), SRN_OK);
        for (uint32_t k = 0; k < a.n; k++) {
            double now = a.v[k].now_bytes_per_s, then = a.v[k].then_bytes_per_s;
            double gain = now > 0 && then > now ? then / now : 1;
            assert_true(gain <= last);
            last = gain;
        }
        srn_hw_advices_done(&a);
        srn_hw_machine_free(m);
    }
}

/* ---- fixtures ---- */

static char *written(const srn_hw_machine *m) {
    json_t *o = srn_hw_machine_json(m);
    char *text = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(o);
    return text;
}

static void what_is_written_is_read_again(void **state) {
    (void)state;
    for (size_t i = 0; i < SRN_LEN(hardware_fixtures); i++) {
        srn_hw_machine *m = hardware_load(hardware_fixtures[i]), *again = NULL;
        srn_err err = {0};
        char *text = written(m);
        assert_int_equal(srn_hw_machine_parse(srn_str_of(text), "again", &again, &err), SRN_OK);
        char *text2 = written(again);
        assert_string_equal(text, text2);
        assert_true(strlen(m->id) == 32 && strcmp(m->id, again->id) == 0);
        free(text);
        free(text2);
        srn_hw_machine_free(again);
        srn_hw_machine_free(m);
    }
}

static void a_one_way_pair_is_one_way(void **state) {
    (void)state;
    static const char text[] = "{\"serin_machine\": 1, \"gpus\": [{}, {}], \"pairs\": [{\"a\": 1, \"b\": 0, "
                               "\"read\": true, \"one_way\": true}]}";
    srn_hw_machine *m;
    srn_err err = {0};
    assert_int_equal(srn_hw_machine_parse(srn_str_of(text), "x", &m, &err), SRN_OK);
    assert_true(m->pairs[2].read == SRN_HW_YES && m->pairs[1].read == SRN_HW_MAYBE);
    char *once = written(m);
    assert_non_null(strstr(once, "\"one_way\":true"));
    free(once);
    srn_hw_machine_free(m);
}

static void what_is_wrong_is_named_with_its_place(void **state) {
    (void)state;
#define HOST                "{\"address\": \"0000:00\", \"kind\": \"host\"}"
#define AT(address, parent) "{\"address\": \"" address "\", \"kind\": \"device\", \"parent\": \"" parent "\"}"
#define MACHINE(rest)       "{\"serin_machine\": 1, " rest "}"
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\n\"serin_machine\": 1,\n nodes}", "x.json: line 3"},
        {"[]", "'serin_machine' is missing"},
        {"{\"serin_machine\": 2}", "must be 1"},
        {MACHINE("\"nods\": []"), "nods is no key"},
        {MACHINE("\"virtual\": 1"), "virtual must be true or false"},
        {MACHINE("\"iommu\": \"maybe\""), "iommu must be off, pass, on or unknown"},
        {MACHINE("\"cpu\": {\"cores\": -1}"), "cpu.cores must be a whole number from 0 to"},
        {MACHINE("\"cpu\": []"), "cpu must be an object"},
        {MACHINE("\"nodes\": {}"), "nodes must be a list"},
        {MACHINE("\"nodes\": [{}, {\"channels\": 99999}]"),
         "nodes[1].channels must be a whole number from 0 to 256"},
        {MACHINE("\"pci\": [{\"address\": \"00\", \"kind\": \"host\"}]"), "pci[0].address must be"},
        {MACHINE("\"pci\": [" AT("0000:01:00.0", "0000:00") "]"),
         "pci[0].parent must be null or the address"},
        {MACHINE("\"pci\": [" HOST ", " HOST "]"), "pci[1].address '0000:00' is there twice"},
        {MACHINE("\"pci\": [" HOST
                 ", " AT("0000:00:01.0", "0000:00") ", " AT("0000:01:00.0", "0000:00:01.0") "]"),
         "pci[2].parent is a device"},
        {MACHINE("\"pci\": [{\"address\": \"0000:00\", \"kind\": \"host\", \"node\": 0}]"),
         "there are 0 nodes"},
        {MACHINE("\"pci\": [{\"address\": \"0000:00\", \"kind\": \"host\", \"link\": {\"width\": 64}}]"),
         "pci[0].link.width must be a whole number from 0 to 32"},
        {MACHINE("\"pci\": [{\"address\": \"0000:00\", \"kind\": \"host\", \"vendor\": \"10DE\"}]"),
         "pci[0].vendor must"},
        {MACHINE("\"pci\": [{\"address\": \"0000:00:01.0\", \"kind\": \"device\"}]"),
         "pci[0].parent is missing"},
        {MACHINE("\"pci\": [" HOST "], \"gpus\": [{\"pci\": \"0000:00\"}]"), "gpus[0].pci is no device"},
        {MACHINE("\"pci\": [" HOST ", " AT(
             "0000:00:01.0",
             "0000:00") "], \"gpus\": [{\"pci\": \"0000:00:01.0\"}, {\"pci\": \"0000:00:01.0\"}]"),
         "gpus[1].pci is that of another GPU"},
        {MACHINE("\"gpus\": [{}], \"pairs\": [{\"a\": 0, \"b\": 1}]"),
         "pairs[0].b is 1, but there are 1 GPUs"},
        {MACHINE("\"gpus\": [{}], \"pairs\": [{\"a\": 0, \"b\": 0}]"), "pairs[0].b is the same GPU"},
        {MACHINE("\"gpus\": [{\"power_limit_w\": -1}]"), "gpus[0].power_limit_w must be a number"},
        {MACHINE("\"unknown\": [{\"what\": 1}]"), "unknown[0].what must be a text"},
    };
    for (size_t i = 0; i < SRN_LEN(cases); i++) {
        srn_hw_machine *m = NULL;
        srn_err err = {0};
        int code = srn_hw_machine_parse(srn_str_of(cases[i].text), "x.json", &m, &err);
        if (code != SRN_EFORMAT && code != SRN_EUNSUP) fail_msg("%s: %d", cases[i].text, code);
        assert_null(m);
        if (!strstr(err.text, cases[i].says) || strncmp(err.text, "x.json: ", 8) != 0)
            fail_msg("'%s' lacks '%s'", err.text, cases[i].says);
    }
}

static void a_tree_too_deep_is_refused(void **state) {
    (void)state;
    srn_buf b;
    srn_buf_init(&b, 1 << 20);
    srn_buf_addz(&b, "{\"serin_machine\": 1, \"pci\": [" HOST);
    for (int i = 1; i < 70; i++)
        srn_buf_addf(&b,
                     ", {\"address\": \"0000:%02x:00.0\", \"kind\": \"bridge\", \"parent\": \"0000:%02x%s\"}",
                     i, i - 1, i > 1 ? ":00.0" : "");
    srn_buf_addz(&b, "]}");
    srn_hw_machine *m;
    srn_err err = {0};
    assert_int_equal(srn_hw_machine_parse((srn_str){b.data, b.len}, "x", &m, &err), SRN_EFORMAT);
    assert_non_null(strstr(err.text, "pci[64].parent is too deep"));
    srn_buf_done(&b);
}

static void texts_cannot_steer_a_terminal(void **state) {
    (void)state;
    srn_hw_machine *m;
    srn_err err = {0};
    static const char text[] = "{\"serin_machine\": 1, \"name\": \"a\\u001b[31mb\\u202ec\\nd\", \"gpus\": "
                               "[{\"name\": \"\\u009b\"}]}";
    assert_int_equal(srn_hw_machine_parse(srn_str_of(text), "x", &m, &err), SRN_OK);
    assert_string_equal(m->name, "a?[31mb?c?d");
    assert_string_equal(m->gpus[0].name, "?");
    srn_hw_machine_free(m);
}

static void the_id_is_of_what_does_not_change(void **state) {
    (void)state;
    srn_hw_machine *m = hardware_load("four-v100"), *other = hardware_load("two-switches"), *again = NULL;
    srn_err err = {0};
    assert_string_not_equal(m->id, other->id);
    char before[33];
    snprintf(before, sizeof before, "%s", m->id);
    m->id = "";
    m->taken_us++;
    m->cpu.threads = 1;
    m->pci[1].link.gen = 1;
    char *text = written(m);
    assert_int_equal(srn_hw_machine_parse(srn_str_of(text), "x", &again, &err), SRN_OK);
    assert_string_equal(again->id, before);
    free(text);
    srn_hw_machine_free(again);
    srn_hw_machine_free(other);
    srn_hw_machine_free(m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_link_carries_lanes_times_rate_less_coding_and_headers),
        cmocka_unit_test(a_link_is_at_most_what_both_its_ends_are),
        cmocka_unit_test(a_link_read_at_rest_counts_with_what_it_can_be),
        cmocka_unit_test(cards_below_one_switch_meet_there_unless_acs_sends_them_up),
        cmocka_unit_test(routes_are_told_apart),
        cmocka_unit_test(the_narrowest_link_of_the_way_counts),
        cmocka_unit_test(without_nvlink_the_tree_decides_also_between_hosts_of_one_socket),
        cmocka_unit_test(one_unknown_link_makes_the_way_unknown),
        cmocka_unit_test(what_all_send_at_once_shares_the_busiest_link),
        cmocka_unit_test(each_fixture_has_exactly_its_problems),
        cmocka_unit_test(what_is_mended_is_no_longer_said),
        cmocka_unit_test(an_uplink_of_as_many_lanes_as_below_it_is_no_problem),
        cmocka_unit_test(what_is_unknown_is_no_problem),
        cmocka_unit_test(the_fix_is_named_with_its_gain),
        cmocka_unit_test(the_greatest_gain_comes_first),
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(a_one_way_pair_is_one_way),
        cmocka_unit_test(what_is_wrong_is_named_with_its_place),
        cmocka_unit_test(a_tree_too_deep_is_refused),
        cmocka_unit_test(texts_cannot_steer_a_terminal),
        cmocka_unit_test(the_id_is_of_what_does_not_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
