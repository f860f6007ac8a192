/* admin.map: the whole state out and in. */
#include <stdio.h>

#include "placementd/admin_internal.h"

static void put_facts(struct buf *b, const struct cluster *c)
{
    char hex[33];
    for (unsigned i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", c->id[i]);
    mp_put_pair_str(b, "cluster", hex);
    mp_put_pair(b, "version", c->map_version);
    mp_put_pair(b, "nodes", c->n_nodes);
    mp_put_pair(b, "groups", c->n_groups);
}

static void export(const struct admin_world *w, struct admin_call *c)
{
    struct buf state = {0};
    cluster_encode(w->m.cluster, &state);
    mp_put_map(&c->result, 5);
    put_facts(&c->result, w->m.cluster);
    mp_put_str(&c->result, "state");
    mp_put_bin(&c->result, buf_slice(&state));
    buf_close(&state);
}

static enum err import(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_IMPORT, .state = buf_slice(&c->args.state)};
    struct cluster state;
    if (w->m.cluster->n_groups)
        return admin_refuse(why, ERR_REFUSED,
                            "this placementd has %u groups already: a map is imported only into "
                            "one that has none",
                            w->m.cluster->n_groups);
    /* Looked at here too, so that a plan says whether it would be taken. */
    if (cluster_decode(cmd.state, &state) != ERR_OK)
        return admin_refuse(why, ERR_BAD_REQUEST, "this is not an exported state of a cluster");
    mp_put_map(&c->result, 4);
    put_facts(&c->result, &state);
    cluster_close(&state);
    return c->args.plan ? ERR_OK : admin_propose(w, c, &cmd);
}

void admin_map_answer(const struct admin_world *w, struct admin_call *c)
{
    buf_clear(&c->result);
    mp_put_map(&c->result, 4);
    put_facts(&c->result, w->m.cluster);
}

enum err admin_map(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    if (admin_action(c, "import"))
        return import(w, c, why);
    if (!admin_action(c, "export"))
        return admin_refuse(why, ERR_BAD_REQUEST, "admin.map does not know '%s'", c->args.action);
    export(w, c);
    return ERR_OK;
}
