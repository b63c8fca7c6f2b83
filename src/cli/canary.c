/* serin canary: roll-outs from the command line. The table of its words. */
#include "cli/canary.h"

#include "cli/cli.h"

static const srn_command words[] = {
    {"start", srn__canary_start, "begin the roll-out that a file declares"},
    {"list", srn__canary_list, "all roll-outs and how they stand"},
    {"status", srn__canary_status, "one of them, with its evidence"},
    {"pause", srn__canary_pause, "no new conversation gets the canary"},
    {"resume", srn__canary_resume, "let a paused one go on"},
    {"step", srn__canary_step, "go to a step by hand"},
    {"promote", srn__canary_promote, "end it in favour of the canary"},
    {"retire", srn__canary_retire, "end what a promotion does, once the configuration says it itself"},
    {"abort", srn__canary_abort, "end it; it may be started again"},
    {"rollback", srn__canary_rollback, "end it for good"},
    {"history", srn__canary_history, "what happened, who did it and why"},
    {"explain", srn__canary_explain, "the decisions, with their numbers, decided again"},
    {"freeze", srn__canary_freeze, "no share grows and no label moves"},
    {"thaw", srn__canary_thaw, "let them go on"},
    {"simulate", srn__canary_simulate, "what a policy would do on your traffic, before it starts"},
};

int srn__cmd_canary(int argc, char **argv) {
    const srn_cli_family f = {
        .name = "canary",
        .about =
            "Roll-outs: new weights, quantisations, settings or prompts get a share of the traffic, prove "
            "themselves, and are taken back by themselves where they do not.",
        .examples = "  serin canary start trial.yaml\n  serin canary status q8-trial\n"
                    "  serin canary abort q8-trial --why 'wrong file'\n",
        .words = words,
        .n = SRN_LEN(words)};
    return srn_cli_run_word(&f, argc, argv);
}
