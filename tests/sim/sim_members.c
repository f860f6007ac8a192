/* See sim_members.h. */
#include "tests/sim/sim_members.h"

#include <stdio.h>

#include "common/base/check.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_placement.h"
#include "tests/sim/violation.h"

static struct {
    const struct scenario *s;
    struct sim_cluster_ops ops;
    uint32_t last_id;      /* given out; those of calls that were never answered stay used */
    bool asked[SIM_HOSTS]; /* the member that is there was asked for: it may be one of the group */
} M;

void sim_members_init(const struct scenario *s, const struct sim_cluster_ops *ops)
{
    M.s = s;
    M.ops = *ops;
    for (unsigned i = 1; i <= s->placements; i++)
        M.asked[i] = i <= s->founders;
}

/* An empty member under a new id. */
static void begin_member(unsigned host, uint32_t id)
{
    struct sim_host *h = sim_host_find(host);

    if (sim_host_up(h))
        sim_host_kill(h, SIM_KILL);
    sim_disk_wipe(h);
    sim_placement_rename(host, id);
    M.asked[host] = false;
    M.ops.start(h);
}

static void add(const struct cluster *c)
{
    unsigned host = 1 + (unsigned)sim_below(M.s->placements);
    struct sim_ask q = {.method = "admin.member", .action = "add"};

    for (unsigned i = 0; i < M.s->placements; i++, host = host % M.s->placements + 1)
        if (!M.asked[host] || sim_placement_removed(host))
            break;
    if (M.asked[host] && !sim_placement_removed(host))
        return;
    if (M.last_id < c->next_member)
        M.last_id = c->next_member - 1;
    begin_member(host, ++M.last_id);
    M.asked[host] = true;
    q.id = sim_placement_id(host);
    snprintf(q.peer, sizeof q.peer, "127.0.0.%u:%u", host, SIM_PLACEMENT_PEER_PORT);
    sim_log("member %u is put on n%u", M.last_id, host);
    M.ops.ask(&q);
}

static void leave(const struct cluster *c)
{
    struct sim_ask q = {.method = "admin.member", .action = "remove"};

    q.id = c->member[sim_below(c->n_members)].id;
    M.ops.ask(&q);
}

void sim_members_act(const struct cluster *c)
{
    if (c->n_members == 0)
        return;
    if (sim_chance(0.55))
        add(c);
    else
        leave(c);
}

void sim_members_judge(void)
{
    char note[256] = "";
    bool led = false;

    for (unsigned i = 1; i <= M.s->placements; i++) {
        bool leads = false;
        const struct cluster *c =
            sim_host_up(sim_host_find(i)) ? sim_placement_state(i, &leads) : NULL;
        if (!c || !leads)
            continue;
        led = true;
        sim_placement_note(i, note, sizeof note);
        if (c->n_members == 2)
            sim_violation("placementd has two members in peace");
    }
    if (!led)
        sim_violation("placementd has no leader in peace");
    /* An even number is what the operator wanted; nothing else is left to be done. */
    if (note[0] && !strstr(note, "stands by") && !strstr(note, "an even number"))
        sim_violation("in peace: %s", note);
}
