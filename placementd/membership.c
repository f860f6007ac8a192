#include "placementd/membership.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/io/io.h"

/* What the configuration and the list make of it. */
struct count {
    unsigned voters, leaving; /* voters; those of them that are to leave */
    unsigned alive;           /* voters that stay and are heard */
    unsigned ready;           /* standbys that stay, are heard and caught up */
    unsigned coming;          /* wanted, no voter yet */
    unsigned coming_alive;    /* those of them that are heard */
    uint32_t ready_id;        /* the first of them */
};

static const struct membership_seen *seen(const struct membership *m, uint32_t id)
{
    static const struct membership_seen nothing = {0};
    for (uint32_t i = 0; i < m->n; i++)
        if (m->seen[i].id == id)
            return &m->seen[i];
    return &nothing;
}

static const struct cluster_member *listed(const struct membership *m, uint64_t id)
{
    for (uint32_t i = 0; i < m->c->n_members; i++)
        if (m->c->member[i].id == id)
            return &m->c->member[i];
    return NULL;
}

static bool heard(const struct membership *m, uint32_t id)
{
    return id == m->self || seen(m, id)->heard;
}

/* `without`: one that is looked at as if it were to leave; 0: none. */
static struct count count_all(const struct membership *m, uint64_t without)
{
    struct count n = {0};
    for (uint32_t i = 0; i < m->conf->n; i++) {
        const struct group_member *g = &m->conf->member[i];
        const struct cluster_member *known = listed(m, g->replica);
        bool stays = g->replica != without && !(known && known->leaving);
        if (g->role == GROUP_VOTER) {
            n.voters++;
            n.leaving += !stays;
            n.alive += stays && heard(m, g->node);
        } else if (stays && seen(m, g->node)->caught && seen(m, g->node)->heard) {
            if (n.ready++ == 0)
                n.ready_id = g->node;
        }
    }
    for (uint32_t i = 0; i < m->c->n_members; i++) {
        const struct cluster_member *k = &m->c->member[i];
        const struct group_member *g = group_conf_find(m->conf, k->id);
        bool coming = k->id != without && !k->leaving && !(g && g->role == GROUP_VOTER);
        n.coming += coming;
        n.coming_alive += coming && heard(m, k->id);
    }
    return n;
}

static void change_to(struct membership_step *out, uint32_t id, const struct group_conf *conf)
{
    *out = (struct membership_step){.kind = MEMBERSHIP_CHANGE, .id = id, .conf = *conf};
}

/* The first that is wanted, heard, blank and not there yet comes in as a standby. */
static bool next_standby(const struct membership *m, struct membership_step *out)
{
    struct group_conf conf = *m->conf;
    for (uint32_t i = 0; i < m->c->n_members; i++) {
        const struct cluster_member *k = &m->c->member[i];
        if (k->leaving || group_conf_find(m->conf, k->id) || conf.n == LIMIT_GROUP_MEMBERS)
            continue;
        if (!seen(m, k->id)->heard || !seen(m, k->id)->blank)
            continue;
        conf.member[conf.n++] = (struct group_member){k->id, k->id, GROUP_STANDBY};
        change_to(out, k->id, &conf);
        return true;
    }
    return false;
}

static bool may_promote(const struct count *n)
{
    if (n->ready == 0)
        return false;
    return n->voters % 2 == 0 || n->ready >= 2 || (n->leaving && n->voters >= 3);
}

static void promote(const struct membership *m, uint32_t id, struct membership_step *out)
{
    struct group_conf conf = *m->conf;
    for (uint32_t i = 0; i < conf.n; i++)
        if (conf.member[i].replica == id)
            conf.member[i].role = GROUP_VOTER;
    change_to(out, id, &conf);
}

static void take_out(const struct membership *m, uint32_t id, struct membership_step *out)
{
    struct group_conf conf = {0};
    for (uint32_t i = 0; i < m->conf->n; i++)
        if (m->conf->member[i].replica != id)
            conf.member[conf.n++] = m->conf->member[i];
    change_to(out, id, &conf);
}

/* One that is to leave and may. */
static bool next_leaving(const struct membership *m, const struct count *n,
                         struct membership_step *out)
{
    for (uint32_t i = 0; i < m->c->n_members; i++) {
        const struct cluster_member *k = &m->c->member[i];
        const struct group_member *g = group_conf_find(m->conf, k->id);
        if (!k->leaving)
            continue;
        if (!g) {
            *out = (struct membership_step){.kind = MEMBERSHIP_FORGET, .id = k->id};
        } else if (g->role != GROUP_VOTER) {
            take_out(m, k->id, out);
        } else if (n->voters < 4) {
            continue;
        } else if (k->id == m->self) {
            *out = (struct membership_step){.kind = MEMBERSHIP_HANDOVER, .id = k->id};
        } else {
            take_out(m, k->id, out);
        }
        return true;
    }
    return false;
}

void membership_next(const struct membership *m, struct membership_step *out)
{
    struct count n = count_all(m, 0);
    *out = (struct membership_step){0};
    if (m->changing || m->leave_due)
        return;
    if (next_standby(m, out))
        return;
    if (may_promote(&n))
        promote(m, n.ready_id, out);
    else
        (void)next_leaving(m, &n, out);
}

/* ---- what may be asked for ---- */

__attribute__((format(printf, 4, 5))) static enum err say(char *why, size_t n, enum err e,
                                                          const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, n, fmt, args);
    va_end(args);
    return e;
}

enum err membership_may_add(const struct membership *m, uint64_t id, const char *peer, char *why,
                            size_t n)
{
    struct io_addr addr;
    struct count now = count_all(m, 0);
    unsigned staying = now.voters - now.leaving + now.coming;
    if (id == 0 || id > 0xffff)
        return say(why, n, ERR_BAD_REQUEST, "a member's id is 1 to 65535");
    if (io_addr_parse(peer, &addr) != ERR_OK || addr.port == 0)
        return say(why, n, ERR_BAD_REQUEST, "\"%.40s\" is not IP:PORT: give the peer address",
                   peer);
    for (uint32_t i = 0; i < m->c->n_members; i++)
        if (m->c->member[i].id != id && strcmp(m->c->member[i].peer_addr, peer) == 0)
            return say(why, n, ERR_REFUSED, "the address %s is that of member %u", peer,
                       m->c->member[i].id);
    if (listed(m, id))
        return say(why, n, ERR_REFUSED, "member %u is there already", (unsigned)id);
    if (id < m->c->next_member)
        return say(why, n, ERR_REFUSED,
                   "the id %u was used before: ids are used once, as a member that comes back with "
                   "an older state would vote with it; the next free one is %u",
                   (unsigned)id, m->c->next_member);
    if (staying >= CLUSTER_MEMBERS_WANTED)
        return say(why, n, ERR_REFUSED,
                   "there are %u members already, and more make it slower, not safer: remove one "
                   "first",
                   staying);
    if ((staying + 1) % 2)
        return say(
            why, n, ERR_OK,
            "member %u is expected at %s: start it with cluster.join=true; it becomes a voter "
            "once it has caught up%s",
            (unsigned)id, peer, now.coming ? ", together with the other that was added" : "");
    return say(
        why, n, ERR_OK,
        "member %u is expected at %s: start it with cluster.join=true. That makes %u, and an "
        "even number survives no more failures than %u: it stands by until one more is "
        "added, or one is removed",
        (unsigned)id, peer, staying + 1, staying);
}

static enum err no_member(const struct membership *m, uint64_t id, char *why, size_t n)
{
    char list[80] = "";
    for (uint32_t i = 0; i < m->c->n_members && strlen(list) + 12 < sizeof(list); i++)
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%u", i ? ", " : "",
                 m->c->member[i].id);
    return say(why, n, ERR_NOT_FOUND, "there is no member %llu; there are: %s",
               (unsigned long long)id, list);
}

/* One without a vote. Whoever waits for it would wait for ever: a voter that leaves only once
 * another has its place, or the second of two voters. While one voter alone is all, nobody does,
 * unless somebody is about to get a vote. `now`: without it. */
static enum err may_withdraw(const struct membership *m, uint32_t id, const struct count *now,
                             char *why, size_t n)
{
    unsigned stay = now->voters - now->leaving + now->coming;
    if (stay >= 3 || (now->voters == 1 && now->leaving == 0 && !m->changing))
        return say(why, n, ERR_OK, "member %u, which has no vote yet, leaves", id);
    if (now->leaving)
        return say(why, n, ERR_REFUSED,
                   "member %u is needed: a voter leaves as soon as another has its place, and "
                   "without it only %u stay: add a member first (kvctl cluster member add), then "
                   "remove member %u",
                   id, stay, id);
    if (now->voters == 1)
        return say(why, n, ERR_REFUSED,
                   "the members are changing at this moment: try again in a second");
    return say(why, n, ERR_REFUSED,
               "%u would be left, and two survive no failure at all: add a member first (kvctl "
               "cluster member add), then remove member %u",
               stay, id);
}

enum err membership_may_remove(const struct membership *m, uint64_t id, char *why, size_t n)
{
    struct count now = count_all(m, id);
    const struct cluster_member *k = listed(m, id);
    const struct group_member *g = group_conf_find(m->conf, id);
    unsigned stay = now.voters - now.leaving;
    if (!k)
        return no_member(m, id, why, n);
    if (m->leave_due)
        return say(why, n, ERR_REFUSED,
                   "another member is being removed at this moment: try again in a second");
    if (!g || g->role != GROUP_VOTER)
        return may_withdraw(m, k->id, &now, why, n);
    if (stay + now.coming < 3)
        return say(why, n, ERR_REFUSED,
                   "%u of %u would be left, and two survive no failure at all: add a member first "
                   "(kvctl cluster member add), then remove member %u",
                   stay + now.coming, now.voters, k->id);
    unsigned promoted = stay < 3 ? 3 - stay : 0;
    unsigned of = stay + promoted, alive = now.alive + now.coming_alive;
    /* While one that comes has a vote and this one still has its own, the majority is that of both.
     */
    unsigned need = promoted ? (now.voters + promoted) / 2 + 1 : of / 2 + 1;
    if (promoted && heard(m, k->id))
        alive++;
    if (alive < need)
        return say(why, n, ERR_REFUSED,
                   "the majority would be lost: %u of those that are needed are heard, %u have to "
                   "be; start the others first, or add a member",
                   alive, need);
    if (promoted)
        return say(why, n, ERR_OK, "member %u leaves as soon as another has its place", k->id);
    if (of % 2 == 0)
        return say(why, n, ERR_OK,
                   "member %u leaves. %u are left, and an even number survives no more failures "
                   "than %u: remove another, or add one",
                   k->id, of, of - 1);
    return say(why, n, ERR_OK, "member %u leaves", k->id);
}

const char *membership_role(const struct membership *m, uint32_t id)
{
    const struct cluster_member *k = listed(m, id);
    const struct group_member *g = group_conf_find(m->conf, id);
    if (k && k->leaving)
        return "leaving";
    if (!g)
        return k ? "expected" : "";
    return g->role == GROUP_VOTER ? "voter" : "standby";
}

void membership_note(const struct membership *m, char *out, size_t n)
{
    struct count now = count_all(m, 0);
    const char *first = now.coming ? " once another has caught up" : " once one more was added";
    out[0] = 0;
    for (uint32_t i = 0; i < m->c->n_members; i++) {
        const struct cluster_member *k = &m->c->member[i];
        const struct group_member *g = group_conf_find(m->conf, k->id);
        const struct membership_seen *s = seen(m, k->id);
        if (k->leaving)
            snprintf(out, n, "member %u of placementd leaves%s", k->id,
                     now.voters < 4 && g && g->role == GROUP_VOTER ? first : "");
        else if (!g && s->heard && !s->blank)
            snprintf(out, n,
                     "member %u of placementd has a state of its own: stop it, empty its data "
                     "directory, start it with cluster.join=true",
                     k->id);
        else if (!g || !s->heard)
            snprintf(out, n, "member %u of placementd is not heard%s", k->id,
                     g ? "" : ": start it with cluster.join=true");
        else if (g->role != GROUP_VOTER && !s->caught)
            snprintf(out, n, "member %u of placementd is catching up", k->id);
        else if (g->role != GROUP_VOTER)
            snprintf(out, n, "member %u of placementd stands by: add one more, or remove one",
                     k->id);
        else
            continue;
        if (k->id != m->self || k->leaving)
            return;
        out[0] = 0;
    }
    if (now.voters % 2 == 0 && now.voters)
        snprintf(out, n, "placementd has %u voters, an even number: add or remove one", now.voters);
}
