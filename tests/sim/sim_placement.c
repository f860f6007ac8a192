/* See sim_placement.h. Does what placementd/main.c does. */
#include "tests/sim/sim_placement.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "placementd/server.h"
#include "placementd/server_members.h"
#include "tests/sim/nemesis.h"
#include "tests/sim/sim.h"
#include "tests/sim/violation.h"

static void set(struct settings *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void set(struct settings *s, const char *fmt, ...)
{
    char text[1024], msg[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (config_set(settings_keys, settings_n_keys, text, s, msg, sizeof msg) != ERR_OK)
        sim_violation("placementd's settings: %s: %s", text, msg);
}

static void check(unsigned number, enum err e, const char *msg)
{
    if (e != ERR_OK)
        nemesis_cannot_start(number, e, "placementd", msg);
}

static struct server *servers[SIM_HOSTS];
static uint32_t ids[SIM_HOSTS]; /* 0: the host's number */
static bool removed[SIM_HOSTS];

uint32_t sim_placement_id(unsigned number)
{
    return ids[number] ? ids[number] : number; /* of a spare: none yet */
}

void sim_placement_rename(unsigned number, uint32_t id)
{
    ids[number] = id;
    removed[number] = false;
    servers[number] = NULL;
}

bool sim_placement_removed(unsigned number)
{
    if (servers[number] && servers[number]->removed)
        removed[number] = true;
    return removed[number];
}

void sim_placement_note(unsigned number, char *out, size_t n)
{
    const struct membership *m = server_membership(servers[number]);

    for (uint32_t i = 0; i < m->n; i++)
        sim_log("member %u: %s%s%s%s", m->seen[i].id, membership_role(m, m->seen[i].id),
                m->seen[i].heard ? ", heard" : "", m->seen[i].blank ? ", blank" : "",
                m->seen[i].caught ? ", caught up" : "");
    membership_note(m, out, n);
}

static void set_times(struct settings *to, const struct scenario *from)
{
    if (from->down_ms) {
        set(to, "placement.suspect-after=%ums", from->down_ms * 2 / 3);
        set(to, "placement.down-at=%ums", from->down_ms);
    }
    if (from->dead_ms)
        set(to, "placement.down-after=%ums", from->dead_ms);
    if (from->stall_ms)
        set(to, "placement.stall-after=%ums", from->stall_ms);
    if (from->split_bytes)
        set(to, "placement.split-size=%u", from->split_bytes);
    if (from->max_groups)
        set(to, "placement.max-groups=%u", from->max_groups);
}

void sim_placement_start(unsigned number, const struct scenario *from)
{
    struct settings *s = mem_zalloc(sizeof *s);
    struct data_dir *dir = mem_zalloc(sizeof *dir);
    struct server *server = mem_zalloc(sizeof *server);
    char members[512] = "", msg[512] = "", name[16];
    size_t used = 0;

    unsigned founders = from->founders ? from->founders : from->placements;
    uint32_t id = sim_placement_id(number);
    bool joins = number > founders || id != number;

    (void)sim_placement_removed(number);
    servers[number] = NULL;
    if (number > founders && !ids[number])
        return; /* a spare machine, with nothing on it yet */
    for (unsigned i = 1; i <= from->placements; i++)
        if (i == number || i <= founders)
            used +=
                (size_t)snprintf(members + used, sizeof members - used, "%s%u=127.0.0.%u:%u",
                                 used ? "," : "", i == number ? id : i, i, SIM_PLACEMENT_PEER_PORT);
    CHECK(config_defaults(settings_keys, settings_n_keys, s) == ERR_OK);
    set(s, "node.id=%u", id);
    set(s, "cluster.join=%s", joins ? "true" : "false");
    set(s, "node.data-dir=/n%u/data", number);
    set(s, "listen.client=127.0.0.%u:%u", number, SIM_PLACEMENT_CLIENT_PORT);
    set(s, "cluster.members=%s", members);
    set(s, "placement.groups=%u", from->groups);
    set(s, "placement.replicas=%u", from->nodes >= 3 ? 3 : 1);
    set_times(s, from);
    s->segment_size = from->segment_kib * KIB;
    check(number, settings_check(s, false, msg, sizeof msg), msg);
    snprintf(name, sizeof name, "p%u", id);
    check(number,
          data_dir_open(s->data_dir, "placementd", name, sim_random() | 1, 1, dir, msg, sizeof msg),
          msg);
    if (dir->stamp.node == 0) {
        dir->stamp.node = id;
        check(number, data_dir_save(dir), "its stamp");
    }
    enum err e = server_open(server, s, dir, msg, sizeof msg);
    if (e == ERR_REFUSED && removed[number])
        sim_exit("it was removed");
    check(number, e, msg);
    servers[number] = server;
}

const struct cluster *sim_placement_state(unsigned number, bool *leads)
{
    const struct server *s = servers[number];

    if (!s || !s->fsm_open)
        return NULL;
    *leads = server_leader(s) == s->self->id;
    return &s->fsm.cluster;
}

bool sim_placement_settled(unsigned number, uint64_t group)
{
    bool leads;
    const struct cluster *c = sim_placement_state(number, &leads);

    return c && cluster_find_group(c, group) && !cluster_operator_of(c, group);
}
