/* admin.recover: nodes given up for good; or the map made anew where placementd was lost whole. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "placementd/admin_internal.h"
#include "placementd/recover_lost.h"
#include "placementd/recover_map.h"
#include "placementd/recovery.h"

#define LINES_MAX 200u
/* Nodes that are restarted meanwhile end, for they are of another cluster: they have knocked once.
 */
#define KNOCK_NS (600 * NS_PER_S)

struct lines {
    uint32_t n, more;
    struct buf text;
};

static void add_line(void *arg, const char *line)
{
    struct lines *l = arg;
    if (l->n == LINES_MAX) {
        l->more++;
        return;
    }
    mp_put_str(&l->text, line);
    l->n++;
}

__attribute__((format(printf, 2, 3))) static void say(struct lines *l, const char *fmt, ...)
{
    char line[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof(line), fmt, args);
    va_end(args);
    add_line(l, line);
}

/* Takes the lines. */
static void put_answer(struct admin_call *c, const char *phase, bool ready, struct lines *l)
{
    char more[64];
    buf_clear(&c->result);
    mp_put_map(&c->result, 3);
    mp_put_pair_str(&c->result, "phase", phase);
    mp_put_pair_bool(&c->result, "ready", ready);
    mp_put_str(&c->result, "lines");
    mp_put_array(&c->result, l->n + (l->more ? 1 : 0));
    buf_append(&c->result, l->text.p, l->text.n);
    if (l->more) {
        snprintf(more, sizeof(more), "... and %u lines more", l->more);
        mp_put_str(&c->result, more);
    }
    buf_close(&l->text);
}

static bool applies(const struct admin_call *c)
{
    return admin_action(c, "apply") && !c->args.plan;
}

/* The answer was made before the proposal: what is done. */
void admin_recover_answer(const struct admin_world *w, struct admin_call *c)
{
    (void)w;
    (void)c;
}

/* ---- nodes given up ---- */

static enum err lost(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    uint32_t *node = mem_alloc((c->args.n_lost + 1u) * sizeof(*node));
    struct lines lines = {0};
    struct cluster_command cmd;
    struct recover_lost r = {.c = w->m.cluster,
                             .live = w->m.live,
                             .now = w->m.now,
                             .node = node,
                             .arg = &lines,
                             .say = add_line};
    enum err e = ERR_OK;
    const char *name = (const char *)c->args.lost.p;
    for (uint32_t i = 0; i < c->args.n_lost && e == ERR_OK; i++, name += strlen(name) + 1) {
        const struct cluster_node *n;
        e = admin_find_node(w, name, &n, why);
        if (e == ERR_OK)
            node[r.n++] = n->id;
    }
    if (e == ERR_OK)
        e = recover_lost_plan(&r, &cmd, why.text, why.n);
    if (e == ERR_OK) {
        cmd.now_ms = w->m.wall_ms;
        put_answer(c, "lost", true, &lines);
        e = applies(c) ? admin_propose(w, c, &cmd) : ERR_OK;
        cluster_command_close(&cmd);
    }
    buf_close(&lines.text);
    free(node);
    return e;
}

/* ---- placementd lost whole ---- */

static bool is_knocking(const struct recovery_knock *k, uint64_t now)
{
    return now - k->heard < KNOCK_NS;
}

/* Whose nodes knock; NULL with `why` if none do, or those of several clusters. */
static const struct recovery_knock *the_cluster(const struct admin_world *w, struct admin_why why)
{
    const struct recovery *r = w->recovery;
    const struct recovery_knock *found = NULL;
    for (uint32_t i = 0; i < r->n_knocks; i++) {
        const struct recovery_knock *k = &r->knock[i];
        if (!is_knocking(k, w->m.now))
            continue;
        if (found && memcmp(found->cluster, k->cluster, 16) != 0) {
            admin_refuse(why, ERR_REFUSED,
                         "nodes of several clusters want to join: %s and %s are not of the same. "
                         "Stop those that do not belong here, and wait ten minutes",
                         found->name, k->name);
            return NULL;
        }
        found = k;
    }
    if (!found)
        admin_refuse(
            why, ERR_REFUSED,
            "there is no map, and no node of another cluster has knocked: there is nothing "
            "to recover. Nodes need this placementd's addresses (cluster.placement); for a "
            "new cluster: kvctl cluster init; from an export: kvctl cluster map import");
    return found;
}

static enum err adopt(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_ADOPT};
    const struct recovery_knock *k = the_cluster(w, why);
    struct lines lines = {0};
    char hex[33];
    if (!k)
        return ERR_REFUSED;
    if (w->m.cluster->n_nodes)
        return admin_refuse(why, ERR_REFUSED,
                            "%u nodes have joined this placementd as a new cluster: it cannot take "
                            "over another one. Make an empty one (new data directories)",
                            w->m.cluster->n_nodes);
    for (unsigned i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", k->cluster[i]);
    say(&lines, "this placementd, which has nothing yet, becomes that of the cluster %s", hex);
    for (uint32_t i = 0; i < w->recovery->n_knocks; i++)
        if (is_knocking(&w->recovery->knock[i], w->m.now))
            say(&lines, "  its node %s at %s has knocked", w->recovery->knock[i].name,
                w->recovery->knock[i].client_addr);
    say(&lines, "Make sure that the old placementd is gone for good: two of them would each order "
                "the nodes about");
    say(&lines, "Then the nodes report what they have, and the map is made from that");
    put_answer(c, "adopt", true, &lines);
    memcpy(cmd.cluster, k->cluster, 16);
    return applies(c) ? admin_propose(w, c, &cmd) : ERR_OK;
}

/* Nodes are named by their number here, as their names may be unknown; also "node 4", "n4" if
 * heard. */
static enum err lost_ids(const struct admin_world *w, const struct admin_call *c, uint32_t *node,
                         struct admin_why why)
{
    const char *name = (const char *)c->args.lost.p;
    for (uint32_t i = 0; i < c->args.n_lost; i++, name += strlen(name) + 1) {
        const struct cluster_node *known = cluster_find_name(w->m.cluster, name);
        char *end;
        unsigned long id = strtoul(name, &end, 10);
        if (!known && (*end || id == 0 || id > UINT32_MAX - 1))
            return admin_refuse(why, ERR_NOT_FOUND,
                                "no node '%s' is heard: name those that are missing by their "
                                "numbers, as the plan says them",
                                name);
        node[i] = known ? known->id : (uint32_t)id;
    }
    return ERR_OK;
}

static enum err rebuild(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    uint32_t *node = mem_alloc((c->args.n_lost + 1u) * sizeof(*node));
    struct lines lines = {0};
    struct cluster state;
    struct buf bytes = {0};
    struct recover_map r = {.c = w->m.cluster,
                            .seen = w->recovery,
                            .now = w->m.now,
                            .n_lost = c->args.n_lost,
                            .lost = node,
                            .arg = &lines,
                            .say = add_line};
    enum err e = lost_ids(w, c, node, why);
    bool ready = e == ERR_OK && recover_map_build(&r, &state);
    free(node);
    if (e == ERR_OK)
        put_answer(c, "rebuild", ready, &lines);
    if (!ready)
        return e == ERR_OK && applies(c)
                   ? admin_refuse(why, ERR_REFUSED,
                                  "the map cannot be made yet: kvctl cluster recover --plan says "
                                  "what is missing")
                   : e;
    cluster_encode(&state, &bytes);
    cluster_close(&state);
    struct cluster_command cmd = {.kind = CLUSTER_CMD_IMPORT, .state = buf_slice(&bytes)};
    e = applies(c) ? admin_propose(w, c, &cmd) : ERR_OK;
    buf_close(&bytes);
    return e;
}

enum err admin_recover(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    const struct cluster *cl = w->m.cluster;
    if (!admin_action(c, "plan") && !admin_action(c, "apply"))
        return admin_refuse(why, ERR_BAD_REQUEST, "admin.recover does not know '%s'",
                            c->args.action);
    if (cl->n_groups && c->args.n_lost)
        return lost(w, c, why);
    if (cl->n_groups)
        return admin_refuse(why, ERR_REFUSED,
                            "the map is there: %u groups. If nodes are lost for good, say which: "
                            "--lost n2,n3",
                            cl->n_groups);
    return cl->recovering ? rebuild(w, c, why) : adopt(w, c, why);
}
