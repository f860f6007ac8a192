/* Reads: ReadIndex, the lease, and a follower's reads by its leader's word.
 *
 * The lease (raft.md, "Linearizable reads"). A follower that takes a leader's stamp promises not to
 * vote, nor to stand for election, for one election timeout of its own clock from then on, unless
 * the leader hands over (a vote that may disrupt). The driver keeps that promise itself, by
 * group_promised(), whatever made libraft forget its leader; after a start there is one as well
 * (HOLIDAY), for those of an earlier life. So once a majority has echoed stamps >= s nobody else
 * can lead before s + one election timeout of the fastest of their clocks, and nothing is committed
 * that this leader does not know of. By its own clock, which may be the slowest, that is
 * GROUP_LEASE_PERCENT of the timeout, less two ticks for what is rounded. The clock is
 * CLOCK_BOOTTIME, which goes on while a machine sleeps, read afresh: a process that was stopped in
 * the middle of a turn must not go by the turn's time. */
#include "common/base/mem.h"
#include "common/raft/group_internal.h"

/* ---- promises (a voter) ---- */

bool group_promised(const struct group *g)
{
    return g->promised_ms > now_ms(g->set);
}

static void promise(struct group *g)
{
    uint64_t until = io_now_exact(g->set->io) / NS_PER_MS + 1 + g->set->o.election_timeout_ms;
    if (until > g->promised_ms)
        g->promised_ms = until;
}

/* A candidate promises nothing: it may vote for itself at any time. It takes the stamp once libraft
 * has made it a follower (group_set_role). */
void group_take_stamp(struct group *g, uint64_t term, uint64_t stamp)
{
    if (term == g->r.current_term && g->r.state == RAFT_FOLLOWER) {
        if (stamp <= g->echo)
            return;
        g->echo = stamp;
        promise(g);
    } else if (term >= g->r.current_term) {
        g->next_echo = stamp;
        g->next_echo_term = term;
    }
}

/* ---- the lease (the leader) ---- */

static bool lease_holds(struct group *g)
{
    uint64_t timeout = g->set->o.election_timeout_ms;
    uint64_t length = timeout * GROUP_LEASE_PERCENT / 100;
    if (!g->set->o.read_lease || g->lease_over)
        return false;
    length = length > 2 * GROUP_TICK_MS ? length - 2 * GROUP_TICK_MS : 0;
    if (GROUP_BUG(BUG_LEASE_NO_MARGIN))
        length = timeout;
    uint64_t confirmed = group_confirmed(g);
    return confirmed == UINT64_MAX || /* it is alone */
           io_now_exact(g->set->io) < confirmed + length * NS_PER_MS;
}

/* ---- reads where it leads ---- */

/* Everything committed before now is at or below the commit index, or below the first entry of our
 * own term while that is not committed yet. */
static uint64_t index_to_see(const struct group *g)
{
    uint64_t floor = g->term_first ? g->term_first : group_last_index(g) + 1;
    if (GROUP_BUG(BUG_READ_NO_TERM) || !GUARD(BARRIER))
        floor = 0;
    if (GROUP_BUG(BUG_READ_LOCAL))
        return 0;
    return g->r.commit_index > floor ? g->r.commit_index : floor;
}

void group_read(struct group *g, struct group_read *r)
{
    list_init(&r->link);
    g->set->stats.reads++;
    group_dirty(g);
    if (g->broken || !group_is_leader(g)) {
        read_index_refuse(&g->reads, r, ERR_NOT_LEADER);
    } else if (lease_holds(g)) {
        g->set->stats.lease_reads++;
        read_index_add_sure(&g->reads, r, index_to_see(g));
    } else {
        read_index_add(&g->reads, r, io_now(g->set->io), index_to_see(g));
    }
}

void group_read_cancel(struct group_read *r)
{
    list_remove(&r->link);
}

/* ---- reads where it follows ---- */

/* The oldest time that is new enough, by a clock that may run slow. Never 0. */
static uint64_t oldest(uint64_t now, uint64_t max_age)
{
    uint64_t age = max_age / 100 * GROUP_SLOW_PERCENT;
    return now > age ? now - age : 1; /* 0 stands for "never proven" */
}

bool group_fresh(struct group *g, uint64_t max_age)
{
    uint64_t since = oldest(io_now_exact(g->set->io), max_age);
    if (g->broken || g->install.active)
        return false;
    if (group_is_leader(g) && group_confirmed(g) >= since && g->applied.index >= index_to_see(g))
        return true;
    return g->follower.proven >= since;
}

void group_follower_read(struct group *g, struct group_read *r, uint64_t max_age)
{
    uint64_t now = io_now(g->set->io), since = oldest(io_now_exact(g->set->io), max_age);
    if (group_is_leader(g) && !g->broken) {
        group_read(g, r);
        return;
    }
    list_init(&r->link);
    g->set->stats.reads++;
    group_dirty(g);
    /* A question asked at this turn's end is new enough, though it bears the turn's time. */
    follower_read_add(&g->follower, r, since < now ? since : now,
                      now_ms(g->set) + GROUP_FOLLOWER_READ_MS);
    if (g->broken)
        follower_read_fail(&g->follower, ERR_NOT_LEADER);
}

static void ask(struct group *g)
{
    const struct group_member *leader = group_leader(g);
    uint64_t to = leader && leader->replica != g->replica ? leader->replica : 0;
    uint64_t question = follower_read_question(&g->follower, to, io_now(g->set->io), GROUP_PING_MS);
    if (question == 0)
        return;
    struct group_msg m = {.type = MSG_ASK, .to = to};
    m.ask.question = question;
    g->set->stats.questions++;
    group_send(g, leader->node, &m, NULL);
}

void group_run_follower(struct group *g)
{
    struct list *item;
    while (!g->broken && group_is_leader(g) && (item = list_pop_front(&g->follower.waiting))) {
        struct group_read *r = (struct group_read *)CONTAINER_OF(item, struct group_read, link);
        read_index_add(&g->reads, r, io_now(g->set->io), index_to_see(g));
    }
    follower_read_run(&g->follower, g->applied.index, now_ms(g->set));
}

/* The turn's end, while anything is in g->follower. */
void group_ask(struct group *g)
{
    if (!g->broken && !group_is_leader(g))
        ask(g);
    group_schedule(g);
}

/* ---- the leader's answers ---- */

static void on_proven(struct group_read *r, enum err result)
{
    struct group_asked *a = CONTAINER_OF(r, struct group_asked, read);
    struct group_msg m = {.type = MSG_ANSWER, .to = a->replica};
    m.answer.question = a->question;
    m.answer.index = r->index;
    a->question = 0;
    if (result != ERR_OK)
        return;
    group_send(a->group, a->node, &m, NULL);
    struct group_peer *p = group_peer_find(a->group, a->replica);
    if (p)
        group_tell_commit(a->group, p, r->index);
}

void group_on_ask(struct group *g, uint32_t node, const struct group_msg *m)
{
    struct group_asked *a = NULL;
    if (!group_is_leader(g) || !group_peer_find(g, m->from))
        return; /* it asks again, whoever leads then */
    for (unsigned i = 0; i < LIMIT_GROUP_MEMBERS; i++) {
        if (g->asked[i].question && g->asked[i].replica == m->from) {
            a = &g->asked[i];
            break;
        }
        if (!a && g->asked[i].question == 0)
            a = &g->asked[i];
    }
    if (!a || a->question == m->ask.question)
        return;      /* asked again: the answer is on its way */
    if (a->question) /* of an earlier life */
        group_read_cancel(&a->read);
    *a = (struct group_asked){
        .group = g, .replica = m->from, .node = node, .question = m->ask.question};
    a->read.done = on_proven;
    group_read(g, &a->read);
}

void group_on_answer(struct group *g, const struct group_msg *m)
{
    follower_read_answer(&g->follower, m->answer.question, m->answer.index);
    group_dirty(g);
}
