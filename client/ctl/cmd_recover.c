/* cluster recover: placementd says what would be done, phase by phase (placementd/admin.h). */
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"
#include "client/ctl/plan.h"

#define POLL_MS 250
/* All nodes knock again within two seconds, and then report every second. */
#define REPORTS_S 15

static json_t *split_names(const char *text)
{
    json_t *list = json_array();
    while (*text) {
        size_t n = strcspn(text, ",");
        if (n)
            json_array_append_new(list, json_stringn(text, n));
        text += n + (text[n] == ',');
    }
    return list;
}

static int ask(const struct ctl *ctl, const char *action, const char *lost, json_t **answer)
{
    bool apply = strcmp(action, "apply") == 0;
    return admin_call(ctl, "admin.recover", apply,
                      json_pack("{s:s,s:o}", "action", action, "lost", split_names(lost)), answer);
}

static void show(const struct ctl *ctl, const json_t *answer)
{
    json_t *line;
    size_t i;
    json_array_foreach(json_object_get(answer, "lines"), i, line)
    {
        const char *text = json_string_value(line);
        fprintf(ctl->output == CTL_JSON ? stderr : stdout, "%s\n", text ? text : "");
    }
}

static bool is_phase(const json_t *answer, const char *name)
{
    return strcmp(admin_str(answer, "phase"), name) == 0;
}

/* The id is adopted: until the nodes have come back and reported all. The last answer in any case.
 */
static int wait_reports(const struct ctl *ctl, const char *lost, json_t **answer)
{
    char msg[256];
    for (time_t until = time(NULL) + REPORTS_S;;) {
        json_t *now = NULL;
        kv_err e = admin_ask(ctl, "admin.recover",
                             json_pack("{s:s,s:o}", "action", "plan", "lost", split_names(lost)),
                             &now, msg, sizeof(msg));
        if (e == KV_OK) {
            json_decref(*answer);
            *answer = now;
        }
        if (e == KV_OK && is_phase(now, "rebuild") && admin_bool(now, "ready"))
            return CTL_OK;
        if (time(NULL) >= until)
            return e == KV_OK ? CTL_REFUSED : ctl_fail_kv(ctl, e, false, msg);
        poll(NULL, 0, POLL_MS);
    }
}

static int not_ready(const struct ctl *ctl)
{
    return ctl_fail(ctl, CTL_REFUSED, "REFUSED",
                    "Bring what is missing back, or give it up with --lost; then again: kvctl "
                    "cluster recover",
                    "the map cannot be made yet");
}

static int apply(struct ctl *ctl, const char *lost, json_t **answer)
{
    bool adopts = is_phase(*answer, "adopt"), gives_up = is_phase(*answer, "lost");
    if (!ctl_confirm(
            ctl,
            gives_up ? "This gives up what only the lost nodes had. There is no way back."
                     : "This makes placementd, which has no map, the one of the nodes' cluster.",
            "recover"))
        return CTL_REFUSED;
    json_decref(*answer);
    *answer = NULL;
    int code = ask(ctl, "apply", lost, answer);
    if (code != CTL_OK || !adopts)
        return code;
    code = wait_reports(ctl, lost, answer);
    show(ctl, *answer);
    if (code == CTL_REFUSED)
        return not_ready(ctl);
    if (code != CTL_OK)
        return code;
    json_decref(*answer);
    *answer = NULL;
    return ask(ctl, "apply", lost, answer);
}

static int recover(struct ctl *ctl, const char *lost, bool plan)
{
    json_t *answer = NULL;
    int code = ask(ctl, "plan", lost, &answer);
    if (code == CTL_OK && (ctl->output != CTL_JSON || !plan))
        show(ctl, answer);
    bool ready = code == CTL_OK && admin_bool(answer, "ready");
    if (code == CTL_OK && !plan)
        code = ready ? apply(ctl, lost, &answer) : not_ready(ctl);
    if (code == CTL_OK && ctl->output == CTL_JSON)
        out_json(json_incref(answer));
    else if (code == CTL_OK)
        printf("%s\n", plan ? "Nothing has changed." : "Done. How it goes on: kvctl status");
    json_decref(answer);
    return code == CTL_OK && plan && !ready ? CTL_NEGATIVE : code;
}

int cmd_cluster_recover(struct ctl *ctl, int argc, char **argv)
{
    static const struct option options[] = {
        {"lost", required_argument, NULL, 'l'}, {"plan", no_argument, NULL, 'p'}, {0}};
    bool plan = ctl->dry_run;
    const char *lost = "";
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == '?')
            return CTL_USAGE;
        if (c == 'l')
            lost = optarg;
        plan = plan || c == 'p';
    }
    if (optind < argc)
        return ctl_usage(ctl, "cluster recover", "what is '%s'?", argv[optind]);
    return recover(ctl, lost, plan);
}
