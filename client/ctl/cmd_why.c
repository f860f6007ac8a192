/* why, hot: what goes on, and where the load is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"

#define HOT_ROWS 20u

/* "g7" is a group, "12" an operator, a node's name a node; all else is a key. */
static json_t *subject(struct ctl *ctl, const char *word, bool as_key, bool *guessed)
{
    struct kvadmin_status s;
    char msg[256] = "";
    unsigned long long id;
    uint64_t group;
    bool node = false;
    if (as_key)
        return json_pack("{s:i}", "slot", kv_slot(kv_str(word)));
    if (kvadmin_status(ctl->url, ctl->timeout_ms, &s, msg, sizeof(msg)) == KV_OK) {
        for (unsigned i = 0; i < s.n_nodes; i++)
            node = node || strcmp(s.nodes[i].name, word) == 0;
        kvadmin_status_close(&s);
    }
    if (node)
        return json_pack("{s:s}", "node", word);
    if (ctl_parse_u64(word, &id) && id <= INT64_MAX)
        return json_pack("{s:I}", "operator", (json_int_t)id);
    if (admin_group(word, &group) && group <= INT64_MAX)
        return json_pack("{s:I}", "group", (json_int_t)group);
    *guessed = true;
    return json_pack("{s:i}", "slot", kv_slot(kv_str(word)));
}

int cmd_why(struct ctl *ctl, int argc, char **argv)
{
    json_t *answer, *line;
    size_t i;
    bool guessed = false, as_key = argc == 3 && strcmp(argv[1], "--key") == 0;
    if (argc != 2 && !as_key)
        return ctl_usage(ctl, "why", "why wants one key, group (g7), operator (12) or node");
    int code = admin_call(ctl, "admin.why", false, subject(ctl, argv[argc - 1], as_key, &guessed),
                          &answer);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON) {
        out_json(answer);
        return CTL_OK;
    }
    if (guessed)
        printf("key '%s' (no node, g1 or operator number)\n", argv[argc - 1]);
    json_array_foreach(json_object_get(answer, "lines"), i, line)
        printf("%s\n", json_string_value(line) ? json_string_value(line) : "");
    json_decref(answer);
    return CTL_OK;
}

static int by_load(const void *a, const void *b)
{
    const struct kvadmin_group *x = a, *y = b;
    uint64_t lx = x->reads + x->writes, ly = y->reads + y->writes;
    if (lx != ly)
        return lx < ly ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

int cmd_hot(struct ctl *ctl, int argc, char **argv)
{
    struct kvadmin_status s;
    char buf[16], size[16];
    uint64_t all = 0;
    (void)argv;
    if (argc > 1)
        return ctl_usage(ctl, "hot", "hot takes no arguments");
    int code = admin_status(ctl, &s);
    if (code != CTL_OK)
        return code;
    if (s.n_groups)
        qsort(s.groups, s.n_groups, sizeof(*s.groups), by_load);
    for (unsigned i = 0; i < s.n_groups; i++)
        all += s.groups[i].reads + s.groups[i].writes;
    unsigned n = s.n_groups < HOT_ROWS ? s.n_groups : HOT_ROWS;
    json_t *list = json_array();
    struct out_table *t =
        ctl->output == CTL_JSON
            ? NULL
            : out_table_new(ctl, "GROUP SLOTS LEADER >READS/S >WRITES/S >SHARE >BYTES");
    for (unsigned i = 0; i < n; i++) {
        const struct kvadmin_group *g = &s.groups[i];
        uint64_t load = g->reads + g->writes;
        unsigned share = all ? (unsigned)(load * 100 / all) : 0;
        json_array_append_new(
            list,
            json_pack("{s:o,s:I,s:I,s:o,s:I,s:I,s:I,s:I}", "id", out_json_id(g->id), "first_slot",
                      (json_int_t)g->first_slot, "last_slot", (json_int_t)g->last_slot, "leader",
                      g->leader ? out_json_id(g->leader) : json_null(), "reads",
                      (json_int_t)g->reads, "writes", (json_int_t)g->writes, "share_percent",
                      (json_int_t)share, "bytes", (json_int_t)g->bytes));
        if (!t)
            continue;
        out_table_row(t);
        out_table_cell(t, "g%llu", (unsigned long long)g->id);
        out_table_cell(t, "%u-%u", g->first_slot, g->last_slot);
        out_table_cell(t, "%s", admin_node_name(&s, g->leader, buf));
        out_table_cell(t, "%llu", (unsigned long long)g->reads);
        out_table_cell(t, "%llu", (unsigned long long)g->writes);
        out_table_cell(t, "%u%%", share);
        out_table_cell(t, "%s", out_size(g->bytes, size));
    }
    if (t) {
        out_table_end(t);
        json_decref(list);
    } else {
        out_json(json_pack("{s:o}", "groups", list));
    }
    kvadmin_status_close(&s);
    return CTL_OK;
}
