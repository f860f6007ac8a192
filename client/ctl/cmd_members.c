/* cluster members, member add, member remove, map export, map import, recover. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/admin.h"
#include "client/ctl/output.h"
#include "client/ctl/plan.h"
#include "common/wire/mp.h"

#define MAP_KIND "shardkv map"
#define MAP_FILE_MAX (64u << 20)

/* ---- members ---- */

int cmd_cluster_members(struct ctl *ctl, int argc, char **argv)
{
    struct kvadmin_status s;
    (void)argv;
    if (argc > 1)
        return ctl_usage(ctl, "cluster members", "cluster members takes no arguments");
    int code = admin_status(ctl, &s);
    if (code != CTL_OK)
        return code;
    /* Without a leader there is no more to be said than what the members told each other. */
    json_t *told = NULL;
    char msg[200];
    if (admin_ask(ctl, "admin.member", json_pack("{s:s}", "action", "list"), &told, msg,
                  sizeof(msg)) != KV_OK)
        told = NULL;
    if (ctl->output == CTL_JSON) {
        json_t *list = json_array();
        for (unsigned i = 0; i < s.n_members; i++) {
            const struct kvadmin_member *m = &s.member[i];
            json_array_append_new(
                list, json_pack("{s:o,s:s,s:s,s:s,s:b,s:o}", "id", out_json_id(m->id), "address",
                                m->client, "peer", m->peer, "role", m->role, "leader", m->leader,
                                "heard_ms",
                                m->heard ? json_integer((json_int_t)m->heard_ms) : json_null()));
        }
        out_json(json_pack("{s:o,s:s}", "members", list, "note", admin_str(told, "note")));
    } else {
        struct out_table *t = out_table_new(ctl, "MEMBER ADDRESS PEER ROLE STATE >HEARD");
        for (unsigned i = 0; i < s.n_members; i++) {
            const struct kvadmin_member *m = &s.member[i];
            bool here = m->heard && m->heard_ms < 2000;
            out_table_row(t);
            out_table_cell(t, "%u", m->id);
            out_table_cell(t, "%s", m->client[0] ? m->client : "-");
            out_table_cell(t, "%s", m->peer);
            out_table_cell(t, "%s", m->role[0] ? m->role : "-");
            out_table_cell(t, "%s", m->leader ? "leader" : here ? "follower" : "not heard");
            m->heard ? out_table_cell(t, "%llu ms ago", (unsigned long long)m->heard_ms)
                     : out_table_cell(t, "-");
        }
        out_table_end(t);
        if (admin_str(told, "note")[0])
            printf("%s\n", admin_str(told, "note"));
    }
    json_decref(told);
    kvadmin_status_close(&s);
    return CTL_OK;
}

/* The server says what will happen. */
static int member(struct ctl *ctl, json_t *p)
{
    json_t *answer;
    if (ctl->dry_run)
        json_object_set_new(p, "plan", json_true());
    int code = admin_call(ctl, "admin.member", !ctl->dry_run, p, &answer);
    if (code != CTL_OK)
        return code;
    if (ctl->output == CTL_JSON)
        out_json(answer);
    else
        printf("%s\n%s", admin_str(answer, "text"), ctl->dry_run ? "Nothing has changed.\n" : "");
    if (ctl->output != CTL_JSON)
        json_decref(answer);
    return CTL_OK;
}

int cmd_member_add(struct ctl *ctl, int argc, char **argv)
{
    unsigned long long id;
    if (argc != 3 || !ctl_parse_u64(argv[1], &id) || id == 0 || id > UINT32_MAX ||
        !strchr(argv[2], ':'))
        return ctl_usage(ctl, "cluster member add",
                         "give the new member's id (never used before) and its peer address");
    return member(
        ctl, json_pack("{s:s,s:I,s:s}", "action", "add", "id", (json_int_t)id, "peer", argv[2]));
}

int cmd_member_remove(struct ctl *ctl, int argc, char **argv)
{
    unsigned long long id;
    char question[200];
    if (argc != 2 || !ctl_parse_u64(argv[1], &id) || id == 0 || id > UINT32_MAX)
        return ctl_usage(ctl, "cluster member remove", "give the member's id");
    snprintf(question, sizeof(question),
             "This removes member %llu of placementd; its id can never be used again.", id);
    if (!ctl->dry_run && !ctl_confirm(ctl, question, argv[1]))
        return CTL_REFUSED;
    return member(ctl, json_pack("{s:s,s:I}", "action", "remove", "id", (json_int_t)id));
}

/* ---- the map ---- */

int cmd_map_export(struct ctl *ctl, int argc, char **argv)
{
    json_t *answer;
    if (argc != 2)
        return ctl_usage(ctl, "cluster map export", "name the file to write; - is standard output");
    bool to_stdout = strcmp(argv[1], "-") == 0;
    int code = admin_call(ctl, "admin.map", false, json_pack("{s:s}", "action", "export"), &answer);
    if (code != CTL_OK)
        return code;
    json_t *file = json_pack("{s:i,s:s}", "schema", 1, "kind", MAP_KIND);
    json_object_update(file, answer);
    /* Whole or not at all: an older export of that name stays until the new one is there. */
    char part[4096];
    snprintf(part, sizeof(part), "%s.part", argv[1]);
    bool ok = to_stdout
                  ? json_dumpf(file, stdout, JSON_INDENT(1)) == 0 && putchar('\n') != EOF
                  : json_dump_file(file, part, JSON_INDENT(1)) == 0 && rename(part, argv[1]) == 0;
    if (!ok)
        code = ctl_fail(ctl, CTL_SERVER, "IO", NULL, "%s: %s", argv[1], strerror(errno));
    else if (!to_stdout && ctl->output == CTL_JSON)
        out_json(json_pack("{s:s,s:o}", "file", argv[1], "version",
                           out_json_id(admin_u64(answer, "version"))));
    else if (!to_stdout)
        printf("map version %llu: %llu nodes, %llu groups, written to %s\n",
               (unsigned long long)admin_u64(answer, "version"),
               (unsigned long long)admin_u64(answer, "nodes"),
               (unsigned long long)admin_u64(answer, "groups"), argv[1]);
    json_decref(file);
    json_decref(answer);
    return code;
}

/* The state's bytes of an export, malloc()ed; NULL: printed. */
static void *load_map(struct ctl *ctl, const char *path, size_t *n, json_t **file)
{
    json_error_t error;
    *file = strcmp(path, "-") == 0 ? json_loadf(stdin, 0, &error) : json_load_file(path, 0, &error);
    if (!*file || strcmp(admin_str(*file, "kind"), MAP_KIND) != 0) {
        ctl_fail(ctl, CTL_USAGE, "FORMAT", "It has to come from: kvctl cluster map export",
                 "%s is no export of a map%s%s", path, *file ? "" : ": ", *file ? "" : error.text);
        return NULL;
    }
    void *state = out_from_base64(admin_str(*file, "state"), n);
    if (!state || *n == 0) {
        ctl_fail(ctl, CTL_USAGE, "CORRUPT", NULL, "%s is damaged", path);
        free(state);
        return NULL;
    }
    return state;
}

static int import_state(struct ctl *ctl, const void *state, size_t n)
{
    struct buf p = {0}, answer = {0};
    char msg[512] = "";
    mp_put_map(&p, ctl->dry_run ? 3 : 2);
    mp_put_pair_str(&p, "action", "import");
    mp_put_str(&p, "state");
    mp_put_bin(&p, slice_of(state, n));
    if (ctl->dry_run)
        mp_put_pair_bool(&p, "plan", true);
    kv_err e = kvadmin_call(ctl->url, ctl->timeout_ms, "admin.map", buf_slice(&p), true, &answer,
                            msg, sizeof(msg));
    buf_close(&p);
    buf_close(&answer);
    if (e == KV_OK)
        return CTL_OK;
    return ctl_fail(ctl, ctl_exit_code(e), kv_err_name(e), NULL, "%s", msg);
}

int cmd_map_import(struct ctl *ctl, int argc, char **argv)
{
    char question[400];
    json_t *file;
    size_t n;
    if (argc != 2)
        return ctl_usage(ctl, "cluster map import", "name the file; - is standard input");
    void *state = load_map(ctl, argv[1], &n, &file);
    if (!state) {
        json_decref(file);
        return CTL_USAGE;
    }
    unsigned long long version = (unsigned long long)admin_u64(file, "version");
    snprintf(question, sizeof(question),
             "This makes placementd, which has no groups yet, take over the map of version %llu "
             "with %llu groups.",
             version, (unsigned long long)admin_u64(file, "groups"));
    int code = CTL_OK;
    if (!ctl->dry_run && !ctl_confirm(ctl, question, "import"))
        code = CTL_REFUSED;
    if (code == CTL_OK)
        code = import_state(ctl, state, n);
    if (code == CTL_OK && ctl->output == CTL_JSON)
        out_json(
            json_pack("{s:b,s:o}", "imported", !ctl->dry_run, "version", out_json_id(version)));
    else if (code == CTL_OK)
        printf("%s the map of version %llu\n", ctl->dry_run ? "would import" : "imported", version);
    json_decref(file);
    free(state);
    return code;
}
