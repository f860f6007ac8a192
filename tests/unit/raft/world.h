/* A world of 1 ... 5 nodes with one group each: real driver, real WAL, fake disks and clocks, and a
 * queue of messages that the test controls. A toy engine applies commands to a hash; checkers watch
 * all the time: one leader a term, one vote a term, no two contents at an applied index, equal
 * states at equal indexes, no acknowledged entry missing at a new leader, reads that see what was
 * acknowledged before them.
 *
 * Included by one file of a test program. */
#ifndef TESTS_RAFT_WORLD_H
#define TESTS_RAFT_WORLD_H

#include <stdarg.h>

#include "common/raft/group_internal.h"
#include "tests/unit/raft/fake_io.h"

/* Not every test uses all of it. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define NODES 5
#define GROUP 7u
#define MAX_INDEX 20000u
#define MAX_TERM 4000u

struct engine { /* what survives a crash */
    bool exists;
    struct group_position at;
    uint64_t state;
};

struct node {
    unsigned id;
    char dir[16];
    struct io io;
    struct group_set *set;
    struct group *g;
    bool up;
    struct engine disk;
    uint64_t state;         /* in memory */
    uint64_t flush_every;   /* entries; 0: by hand */
    struct engine incoming; /* a snapshot on its way */
    uint64_t install_due;
    bool hold_install;
    unsigned installs, wanted, states, applies, broken;
    uint64_t wanted_by;
    uint64_t term_seen;
    bool was_leader;
};

struct packet {
    struct list link;
    unsigned from, to;
    uint64_t due;
    struct buf data;
};

struct world {
    struct node node[NODES + 1];
    struct list packets;
    uint64_t now;
    struct rng rng;
    unsigned n;
    uint64_t delay_min, delay_max; /* ns */
    unsigned drop, dup;            /* per mille */
    bool cut[NODES + 1][NODES + 1];
    bool (*filter)(const struct packet *p); /* false: lost */
    struct {
        uint64_t term, hash, state;
    } log[MAX_INDEX];
    uint64_t applied_max, acked_max;
    uint64_t leader[MAX_TERM], vote[MAX_TERM][NODES + 1];
    const char *violation; /* the first one */
    char text[256];
    uint64_t elections, reads_done, reads_refused, crashes, proposals, compactions;
    uint64_t log_memory, segment;
    bool vote_holiday, read_lease;
    uint64_t acked_at[MAX_INDEX]; /* when acked_max came to it */
};
static struct world W;

static void violate(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void violate(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (!W.violation)
        vsnprintf(W.text, sizeof W.text, fmt, args);
    va_end(args);
    W.violation = W.text;
}

static uint64_t mix(uint64_t s, const void *p, size_t n)
{
    const uint8_t *c = p;
    for (size_t i = 0; i < n; i++)
        s = (s ^ c[i]) * 1099511628211ULL;
    return s ^ (s >> 29);
}

/* ---- the owner's side ---- */

static void world_check_applied(struct node *x, uint64_t index, uint64_t term, uint64_t hash)
{
    CHECK(index < MAX_INDEX);
    if (W.log[index].term == 0) {
        W.log[index].term = term;
        W.log[index].hash = hash;
    } else if (W.log[index].term != term || W.log[index].hash != hash) {
        violate("node %u applied another entry %llu (term %llu, not %llu)", x->id,
                (unsigned long long)index, (unsigned long long)term,
                (unsigned long long)W.log[index].term);
    }
    if (index > W.applied_max)
        W.applied_max = index;
}

static void on_apply(void *arg, const struct group_entry *e)
{
    struct node *x = arg;
    x->applies++;
    world_check_applied(x, e->index, e->term, mix(1, e->payload.p, e->payload.n));
    x->state = mix(x->state + e->term, e->payload.p, e->payload.n);
    if (W.log[e->index].state && W.log[e->index].state != x->state)
        violate("node %u has another state at %llu", x->id, (unsigned long long)e->index);
    W.log[e->index].state = x->state;
    if (group_state_of(x->g) == GROUP_LEADER && e->index > W.acked_max) {
        for (uint64_t i = W.acked_max + 1; i <= e->index; i++)
            W.acked_at[i] = W.now;
        W.acked_max = e->index; /* a client may have been told */
    }
}

static void flush(struct node *x)
{
    x->disk.at = *group_applied(x->g);
    x->disk.state = x->state;
    W.compactions++;
    group_compact(x->g, &x->disk.at);
}

static void on_applied(void *arg)
{
    struct node *x = arg;
    if (x->flush_every && group_applied(x->g)->index >= x->disk.at.index + x->flush_every)
        flush(x);
}

static void on_state(void *arg, enum group_state state, uint64_t term,
                     const struct group_member *leader)
{
    struct node *x = arg;
    (void)leader;
    x->states++;
    if (term < x->term_seen)
        violate("node %u went back to term %llu", x->id, (unsigned long long)term);
    x->term_seen = term;
    if (state != GROUP_LEADER)
        return;
    CHECK(term < MAX_TERM);
    if (W.leader[term] != x->id)
        W.elections++;
    if (W.leader[term] && W.leader[term] != x->id)
        violate("two leaders in term %llu: %llu and %u", (unsigned long long)term,
                (unsigned long long)W.leader[term], x->id);
    W.leader[term] = x->id;
    if (group_last_index(x->g) < W.applied_max)
        violate("leader %u lacks applied entries", x->id);
}

static void on_conf(void *arg, const struct group_conf *conf)
{
    struct node *x = arg;
    const struct group_position *p = group_applied(x->g);
    struct buf b = {0};
    CHECK(p->conf_index == p->index && group_conf_equal(conf, &p->conf));
    raft_conf_encode(conf, &b);
    world_check_applied(x, p->index, p->term, mix(2, b.p, b.n));
    buf_close(&b);
}

static void on_wanted(void *arg, const struct group_member *to)
{
    struct node *x = arg;
    struct group_position p = *group_applied(x->g);
    x->wanted++;
    x->wanted_by = to->replica;
    group_offer_snapshot(x->g, to->replica, &p, slice_of(&x->state, sizeof x->state));
}

static void on_install(void *arg, const struct group_position *p, struct slice manifest,
                       const struct group_member *from)
{
    struct node *x = arg;
    (void)from;
    if (manifest.n != sizeof x->state) {
        violate("manifest of %zu bytes", manifest.n);
        return;
    }
    x->incoming = (struct engine){.exists = true, .at = *p};
    memcpy(&x->incoming.state, manifest.p, manifest.n);
    x->installs++;
    x->install_due = W.now + rng_below(&W.rng, 100 * NS_PER_MS);
}

static void on_broken(void *arg, enum err why, const char *text)
{
    struct node *x = arg;
    x->broken++;
    violate("node %u broken: %s: %s", x->id, err_name(why), text);
}

static const struct group_ops world_ops = {.apply = on_apply,
                                           .applied = on_applied,
                                           .on_state = on_state,
                                           .on_conf = on_conf,
                                           .snapshot_wanted = on_wanted,
                                           .install = on_install,
                                           .on_broken = on_broken};

/* ---- network ---- */

static void check_vote(unsigned from, struct slice message, unsigned to)
{
    static struct group_msg_entry entries[GROUP_MSG_ENTRIES];
    struct group_msg m;
    CHECK(group_msg_decode(message, &m, entries) == ERR_OK);
    if (m.type != MSG_VOTE_RESULT || !m.vote_result.granted || m.vote_result.pre_vote)
        return;
    CHECK(m.vote_result.term < MAX_TERM);
    uint64_t *v = &W.vote[m.vote_result.term][from];
    if (*v && *v != to)
        violate("node %u voted twice in term %llu", from, (unsigned long long)m.vote_result.term);
    *v = to;
}

static void packet_add(unsigned from, unsigned to, const void *p, size_t n)
{
    struct packet *k = mem_zalloc(sizeof *k);
    k->from = from;
    k->to = to;
    k->due = W.now + W.delay_min + rng_below(&W.rng, W.delay_max - W.delay_min + 1);
    buf_append(&k->data, p, n);
    list_push_back(&W.packets, &k->link);
}

static void on_send(void *arg, uint32_t node, uint64_t group, const struct slice *parts, unsigned n)
{
    struct node *x = arg;
    struct packet probe = {.from = x->id, .to = node};
    CHECK(group == GROUP && node >= 1 && node <= NODES);
    for (unsigned i = 0; i < n; i++)
        buf_append(&probe.data, parts[i].p, parts[i].n);
    check_vote(x->id, buf_slice(&probe.data), node);
    bool lost = W.cut[x->id][node] || rng_below(&W.rng, 1000) < W.drop;
    if (!lost && (!W.filter || W.filter(&probe))) {
        packet_add(x->id, node, probe.data.p, probe.data.n);
        if (rng_below(&W.rng, 1000) < W.dup)
            packet_add(x->id, node, probe.data.p, probe.data.n);
    }
    buf_close(&probe.data);
}

static void packet_free(struct packet *k)
{
    list_remove(&k->link);
    buf_close(&k->data);
    free(k);
}

static void on_fatal(void *arg, enum err why, const char *text)
{
    violate("node %u: WAL: %s %s", ((struct node *)arg)->id, err_name(why), text);
}

/* ---- nodes ---- */

static void node_open(struct node *x)
{
    char msg[256] = "";
    fake_io_init(&x->io, rng_next(&W.rng));
    x->io.now = W.now;
    struct group_set_options o = {.io = &x->io,
                                  .wal_dir = x->dir,
                                  .wal_segment_size = W.segment,
                                  .log_memory = W.log_memory,
                                  .election_timeout_ms = 200,
                                  .heartbeat_ms = 40,
                                  .vote_holiday = W.vote_holiday,
                                  .read_lease = W.read_lease,
                                  .arg = x,
                                  .send = on_send,
                                  .on_fatal = on_fatal};
    if (group_set_open(&o, &x->set, msg, sizeof msg) != ERR_OK) {
        violate("node %u: open: %s", x->id, msg);
        abort();
    }
    x->up = true;
}

static enum err node_start_group(struct node *x, bool create, bool campaign)
{
    struct group_options o = {.group = GROUP,
                              .replica = x->id,
                              .durable = x->disk.at,
                              .create = create,
                              .campaign = campaign,
                              .ops = &world_ops,
                              .arg = x};
    x->state = x->disk.state;
    x->disk.exists = true;
    x->install_due = 0;
    x->term_seen = 0; /* a term that was not durable is forgotten */
    enum err e = group_start(x->set, &o, &x->g);
    group_set_turn(x->set);
    return e;
}

/* Opens what the node has on disk. */
static void node_start(struct node *x)
{
    node_open(x);
    if (!x->disk.exists)
        return;
    enum err e = node_start_group(x, !group_set_has_log(x->set, GROUP), false);
    if (e != ERR_OK) {
        const struct group_log *l = &group_set_slot(x->set, GROUP)->log;
        violate("node %u: start: %s: log %llu(%llu) + %zu damaged %d, durable %llu(%llu)", x->id,
                err_name(e), (unsigned long long)l->base, (unsigned long long)l->base_term, l->n,
                l->damaged, (unsigned long long)x->disk.at.index,
                (unsigned long long)x->disk.at.term);
    }
}

static void node_close(struct node *x)
{
    if (x->g)
        group_stop(x->g);
    group_set_close(x->set);
    x->g = NULL;
    x->set = NULL;
    x->up = false;
    x->install_due = 0;
}

/* The process ends without warning: what is in flight to the disk gets there (keep) or not. The
 * memory is given back in order, but the disk is put back to what the crash left. */
static void node_crash(struct node *x, bool keep)
{
    static struct fs_file saved[FAKE_FILES];
    unsigned n = 0;
    size_t len = strlen(x->dir);
    W.crashes++;
    LIST_FOR(item, &x->io.ops)
    {
        struct fake_op *o = CONTAINER_OF(item, struct fake_op, link);
        if (o->write && keep)
            (void)!fs_write(o->f, o->p, o->n, o->offset);
    }
    for (unsigned i = 0; i < FAKE_FILES; i++) {
        struct fs_file *f = fake_files[i];
        if (!f || !f->named || strncmp(f->path, x->dir, len) != 0)
            continue;
        memset(&saved[n], 0, sizeof saved[n]);
        memcpy(saved[n].path, f->path, sizeof f->path);
        buf_append(&saved[n++].data, f->data.p, f->data.n);
    }
    fake_io_crash(&x->io, false);
    node_close(x);
    fake_disk_wipe(x->dir);
    for (unsigned i = 0; i < n; i++) {
        struct fs_file *f;
        CHECK(fs_open(saved[i].path, FS_CREATE, &f) == ERR_OK);
        CHECK(fs_write(f, saved[i].data.p, saved[i].data.n, 0) == ERR_OK);
        fs_close(f);
        buf_close(&saved[i].data);
    }
}

/* ---- the world ---- */

static void world_init(uint64_t seed)
{
    memset(&W, 0, sizeof W);
    group_test_guards_off = 0;
    rng_seed(&W.rng, seed);
    list_init(&W.packets);
    W.now = NS_PER_S;
    W.delay_min = NS_PER_MS / 10;
    W.delay_max = NS_PER_MS;
    W.segment = 256 * KIB;
    for (unsigned i = 1; i <= NODES; i++) {
        W.node[i].id = i;
        snprintf(W.node[i].dir, sizeof W.node[i].dir, "/n%u", i);
        fake_disk_wipe(W.node[i].dir); /* of a test that failed */
    }
}

static struct group_conf world_conf(unsigned voters)
{
    struct group_conf c = {.n = voters};
    for (unsigned i = 0; i < voters; i++)
        c.member[i] = (struct group_member){.replica = i + 1, .node = i + 1, .role = GROUP_VOTER};
    return c;
}

/* Nodes 1 ... voters with a new group; `campaigner` stands at once (0: nobody). */
static void world_create(unsigned voters, unsigned campaigner)
{
    for (unsigned i = 1; i <= voters; i++) {
        struct node *x = &W.node[i];
        node_open(x);
        x->disk = (struct engine){
            .exists = true, .at = {.index = 1, .term = 1, .conf_index = 1}, .state = 1};
        x->disk.at.conf = world_conf(voters);
        if (node_start_group(x, true, i == campaigner) != ERR_OK)
            violate("create");
    }
}

/* A node that holds an empty replica and waits to be added. */
static void world_join(unsigned id)
{
    struct node *x = &W.node[id];
    node_open(x);
    memset(&x->disk, 0, sizeof x->disk);
    if (node_start_group(x, true, false) != ERR_OK)
        violate("join");
}

static void node_turn(struct node *x)
{
    fake_io_turn(&x->io, W.now);
    if (x->install_due && x->install_due <= W.now && !x->hold_install && x->g) {
        x->install_due = 0;
        x->disk = x->incoming;
        x->state = x->disk.state;
        group_installed(x->g, &x->disk.at);
    }
}

static void node_end_turn(struct node *x)
{
    group_set_turn(x->set);
}

static uint64_t world_next(void)
{
    uint64_t next = UINT64_MAX;
    LIST_FOR(item, &W.packets)
    {
        struct packet *k = CONTAINER_OF(item, struct packet, link);
        if (k->due < next)
            next = k->due;
    }
    for (unsigned i = 1; i <= NODES; i++) {
        struct node *x = &W.node[i];
        if (!x->up)
            continue;
        uint64_t t = fake_io_next(&x->io);
        if (t < next)
            next = t;
        if (x->install_due && !x->hold_install && x->install_due < next)
            next = x->install_due;
    }
    return next;
}

/* All that is due at W.now, each node in one turn. */
static void world_turn(void)
{
    for (unsigned i = 1; i <= NODES; i++)
        if (W.node[i].up)
            node_turn(&W.node[i]);
    LIST_FOR_SAFE(item, &W.packets)
    {
        struct packet *k = CONTAINER_OF(item, struct packet, link);
        if (k->due > W.now)
            continue;
        struct node *x = &W.node[k->to];
        if (x->up && !W.cut[k->from][k->to]) {
            enum err e = group_set_receive(x->set, k->from, GROUP, buf_slice(&k->data));
            if (e == ERR_CORRUPT)
                violate("a message was refused");
        }
        packet_free(k);
    }
    for (unsigned i = 1; i <= NODES; i++)
        if (W.node[i].up)
            node_end_turn(&W.node[i]);
}

static void world_run_until(uint64_t t)
{
    while (!W.violation) {
        uint64_t next = world_next();
        if (next > t)
            break;
        W.now = next > W.now ? next : W.now + 1;
        world_turn();
    }
    if (W.now < t)
        W.now = t;
}

static void world_run(uint64_t ms)
{
    world_run_until(W.now + ms * NS_PER_MS);
}

/* The leader of the highest term, or NULL. */
static struct node *world_leader(void)
{
    struct node *best = NULL;
    for (unsigned i = 1; i <= NODES; i++) {
        struct node *x = &W.node[i];
        if (x->up && x->g && group_state_of(x->g) == GROUP_LEADER &&
            (!best || group_term(x->g) > group_term(best->g)))
            best = x;
    }
    return best;
}

static struct node *world_wait_leader(uint64_t ms)
{
    uint64_t end = W.now + ms * NS_PER_MS;
    while (W.now < end && !W.violation) {
        struct node *x = world_leader();
        if (x && group_commit_index(x->g) == group_last_index(x->g) && group_leader(x->g))
            return x;
        world_run(5);
    }
    return world_leader();
}

static enum err world_propose(struct node *x, const void *p, size_t n)
{
    uint64_t index, term;
    enum err e = group_propose(x->g, slice_of(p, n), &index, &term);
    if (e == ERR_OK) {
        W.proposals++;
        group_set_turn(x->set);
    }
    return e;
}

static bool world_all_applied(uint64_t index)
{
    for (unsigned i = 1; i <= NODES; i++)
        if (W.node[i].up && W.node[i].g && group_applied(W.node[i].g)->index < index)
            return false;
    return true;
}

static void world_close(void)
{
    for (unsigned i = 1; i <= NODES; i++)
        if (W.node[i].up) {
            fake_io_crash(&W.node[i].io, false);
            node_close(&W.node[i]);
        }
    while (!list_empty(&W.packets))
        packet_free(CONTAINER_OF(W.packets.next, struct packet, link));
    for (unsigned i = 1; i <= NODES; i++)
        fake_disk_wipe(W.node[i].dir);
    group_test_guards_off = 0;
}

#endif
