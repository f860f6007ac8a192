/* See raft_node.h. */
#include "tests/sim/raft_node.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "common/lin/checker_lin.h"
#include "tests/sim/checker_raft.h"
#include "tests/sim/nemesis.h"
#include "tests/sim/violation.h"

/* A state being written to the group's file: a save of what was applied, or an installation. */
struct raft_save {
    struct io_work work;
    struct raft_replica *replica;
    struct machine machine;
    struct group_position position;
    struct buf bytes;
    bool install;
    enum err result;
};

/* ---- the state machine ---- */

static void state_encode(const struct machine *m, const struct group_position *p, struct buf *out)
{
    buf_u64(out, m->hash);
    for (unsigned i = 0; i < RAFT_NODE_KEYS; i++)
        buf_u32(out, m->value[i]);
    group_position_encode(p, out);
    buf_u32(out, crc32c(0, out->p, out->n));
}

static bool state_decode(struct slice s, struct machine *m, struct group_position *p)
{
    struct cursor c = cursor_of(s);

    m->hash = cursor_u64(&c);
    for (unsigned i = 0; i < RAFT_NODE_KEYS; i++)
        m->value[i] = cursor_u32(&c);
    if (group_position_decode(&c, p) != ERR_OK)
        return false;
    return cursor_u32(&c) == crc32c(0, s.p, s.n - 4 < s.n ? s.n - 4 : 0) && !c.bad;
}

static void command_encode(const struct machine_command *c, struct buf *out)
{
    buf_u64(out, c->op);
    buf_u8(out, c->kind);
    buf_u8(out, c->key);
    buf_u32(out, c->value);
    buf_u32(out, c->expected);
}

static enum err machine_apply(struct machine *m, uint64_t index, struct slice payload, uint64_t *op)
{
    struct cursor c = cursor_of(payload);
    struct machine_command cmd;
    enum err result = ERR_OK;
    uint32_t *v;

    cmd.op = cursor_u64(&c);
    cmd.kind = cursor_u8(&c);
    cmd.key = cursor_u8(&c);
    cmd.value = cursor_u32(&c);
    cmd.expected = cursor_u32(&c);
    CHECK(!c.bad && cmd.key < RAFT_NODE_KEYS);
    v = &m->value[cmd.key];
    if (cmd.kind == LIN_CAS && *v != cmd.expected)
        result = ERR_CONDITION_FAILED;
    else
        *v = cmd.kind == LIN_DEL ? LIN_ABSENT : cmd.value;
    m->hash = (m->hash ^ index ^ crc32c(0, payload.p, payload.n)) * 0x9e3779b97f4a7c15u;
    *op = cmd.op;
    return result;
}

/* ---- what the group asks ---- */

static void on_apply(void *arg, const struct group_entry *e)
{
    struct raft_replica *r = arg;
    uint64_t op;
    enum err result;
    struct list *first;

    if (e->index <= r->applied.index)
        sim_violation("n%u group %llu: index %llu applied after %llu", r->node->number,
                      (unsigned long long)r->id, (unsigned long long)e->index,
                      (unsigned long long)r->applied.index);
    checker_raft_apply(r->id, r->replica, e->index, e->term, e->payload);
    result = machine_apply(&r->machine, e->index, e->payload, &op);
    checker_raft_state(r->id, r->replica, e->index, r->machine.hash);
    r->applied.index = e->index;
    while ((first = list_first(&r->pending))) {
        struct raft_pending *p = CONTAINER_OF(first, struct raft_pending, link);
        if (p->index > e->index)
            break;
        list_remove(first);
        /* Our index with another term: surely not applied. */
        if (p->index == e->index && p->term == e->term) {
            CHECK(p->op == op);
            r->node->ops->done(p->op, result, 0);
        } else if (p->index == e->index) {
            r->node->ops->done(p->op, ERR_NOT_LEADER, 0);
        }
        free(p);
    }
}

static void on_applied(void *arg)
{
    struct raft_replica *r = arg;

    r->applied = *group_applied(r->group);
}

static void on_state(void *arg, enum group_state state, uint64_t term,
                     const struct group_member *leader)
{
    struct raft_replica *r = arg;

    (void)leader;
    if (state == GROUP_LEADER)
        checker_raft_leader(r->id, term, r->replica);
}

static void on_conf(void *arg, const struct group_conf *conf)
{
    (void)arg;
    (void)conf;
}

static void on_snapshot_wanted(void *arg, const struct group_member *to)
{
    struct raft_replica *r = arg;
    struct buf b = {0};

    state_encode(&r->machine, &r->applied, &b);
    group_offer_snapshot(r->group, to->replica, &r->applied, buf_slice(&b));
    buf_close(&b);
}

static void save_run(struct io_work *w)
{
    struct raft_save *s = CONTAINER_OF(w, struct raft_save, work);
    char path[64];

    snprintf(path, sizeof path, "/n%u/state-%llu", s->replica->node->number,
             (unsigned long long)s->replica->id);
    s->result = fs_write_file(path, buf_slice(&s->bytes));
}

static void save_done(struct io_work *w)
{
    struct raft_save *s = CONTAINER_OF(w, struct raft_save, work);
    struct raft_replica *r = s->replica;

    r->saving = false;
    if (s->result == ERR_NO_SPACE && !s->install) {
        buf_close(&s->bytes);
        free(s);
    } else if (s->result != ERR_OK) {
        sim_exit("its state could not be saved");
    } else if (s->install) {
        r->machine = s->machine;
        r->applied = s->position;
        r->installing = false;
        checker_raft_state(r->id, r->replica, s->position.index, r->machine.hash);
        group_installed(r->group, &s->position);
        buf_close(&s->bytes);
        free(s);
    } else {
        group_compact(r->group, &s->position);
        buf_close(&s->bytes);
        free(s);
    }
    if (r->install) {
        s = r->install;
        r->install = NULL;
        r->saving = true;
        io_offload(r->node->io, &s->work);
    }
}

static void save(struct raft_replica *r, const struct machine *m, const struct group_position *p,
                 bool install)
{
    struct raft_save *s = mem_zalloc(sizeof *s);

    s->work.run = save_run;
    s->work.done = save_done;
    s->replica = r;
    s->machine = *m;
    s->position = *p;
    s->install = install;
    state_encode(m, p, &s->bytes);
    if (r->saving) {
        CHECK(install && !r->install);
        r->install = s;
        return;
    }
    r->saving = true;
    io_offload(r->node->io, &s->work);
}

static void on_install(void *arg, const struct group_position *p, struct slice manifest,
                       const struct group_member *from)
{
    struct raft_replica *r = arg;
    struct machine m;
    struct group_position position;

    (void)from;
    CHECK(state_decode(manifest, &m, &position));
    CHECK(position.index == p->index);
    r->installing = true;
    save(r, &m, p, true);
}

static void on_broken(void *arg, enum err why, const char *text)
{
    struct raft_replica *r = arg;
    char text2[256];

    snprintf(text2, sizeof text2, "group %llu broken: %s", (unsigned long long)r->id, text);
    nemesis_cannot_start(r->node->number, why, text2, "it runs on damaged data");
}

static const struct group_ops group_ops = {
    .apply = on_apply,
    .applied = on_applied,
    .on_state = on_state,
    .on_conf = on_conf,
    .snapshot_wanted = on_snapshot_wanted,
    .install = on_install,
    .on_broken = on_broken,
};

/* ---- the process ---- */

static void on_send(void *arg, uint32_t node, uint64_t group, const struct slice *parts, unsigned n)
{
    struct raft_node *self = arg;

    peer_send(self->peers, node, group, parts, n);
}

static void on_fatal(void *arg, enum err why, const char *text)
{
    (void)arg;
    (void)why;
    sim_exit(text);
}

static bool on_resolve(void *arg, uint32_t node, struct io_addr *out)
{
    char text[64];

    (void)arg;
    snprintf(text, sizeof text, "127.0.0.%u:%u", node, RAFT_NODE_PORT);
    return io_addr_parse(text, out) == ERR_OK;
}

static void on_message(void *arg, uint32_t from, uint64_t group, struct slice message)
{
    struct raft_node *n = arg;

    if (group_set_receive(n->set, from, group, message) == ERR_CORRUPT)
        sim_violation("n%u refused a message of n%u as malformed", n->number, from);
}

static void on_hello(void *arg, struct conn *c, const struct peer_hello *hello)
{
    struct raft_node *n = arg;

    peer_take(n->peers, c, hello);
}

static void on_accept(void *arg, int handle, const struct io_addr *from)
{
    struct raft_node *n = arg;

    (void)from;
    peer_accept(n->peers, handle);
}

static void on_turn(void *arg)
{
    struct raft_node *n = arg;

    group_set_turn(n->set);
    peer_flush(n->peers);
    conn_set_flush(n->conns);
}

/* Now and then a replica saves its state and gives up the log before it. */
static void on_tick(struct io_timer *t)
{
    struct raft_node *n = CONTAINER_OF(t, struct raft_node, tick);
    uint64_t g = 1 + io_random(n->io) % n->scenario->groups;
    struct raft_replica *r = &n->replica[g];

    io_timer_set(n->io, t, io_now(n->io) + 20 * NS_PER_MS + io_random(n->io) % (200 * NS_PER_MS));
    if (r->group && !r->saving && !r->installing && !group_installing(r->group) &&
        r->applied.index > 0)
        save(r, &r->machine, &r->applied, false);
}

static void start_replica(struct raft_node *n, unsigned g, unsigned members)
{
    struct raft_replica *r = &n->replica[g];
    struct group_options o = {.group = g, .replica = n->number, .ops = &group_ops, .arg = r};
    struct buf b = {0};
    char path[64];
    enum err e;

    r->node = n;
    r->id = g;
    r->replica = n->number;
    list_init(&r->pending);
    snprintf(path, sizeof path, "/n%u/state-%u", n->number, g);
    e = fs_read_durable(path, &b);
    if (e == ERR_OK) {
        if (!state_decode(buf_slice(&b), &r->machine, &o.durable))
            nemesis_cannot_start(n->number, ERR_CORRUPT, "a group", "its saved state is damaged");
        buf_close(&b);
    } else if (e == ERR_NOT_FOUND) {
        /* A node that is not among the first members is blank until it is made one. */
        if (n->number <= members)
            o.durable = (struct group_position){.index = 1, .term = 1, .conf_index = 1};
        o.durable.conf.n = n->number <= members ? members : 0;
        for (unsigned i = 0; i < o.durable.conf.n; i++)
            o.durable.conf.member[i] = (struct group_member){i + 1, i + 1, GROUP_VOTER};
    } else {
        sim_exit("its state could not be read");
    }
    o.create = !group_set_has_log(n->set, g);
    if (o.create && o.durable.index > 1)
        sim_violation("n%u group %u: state up to %llu, but the WAL knows nothing of it", n->number,
                      g, (unsigned long long)o.durable.index);
    r->applied = o.durable;
    e = group_start(n->set, &o, &r->group);
    if (e != ERR_OK)
        nemesis_cannot_start(n->number, e, "a group", "its log does not fit its state");
    checker_raft_log(g, n->number,
                     o.durable.index > group_last_index(r->group) ? o.durable.index
                                                                  : group_last_index(r->group));
}

static void open_set(struct raft_node *n)
{
    char dir[32], msg[512] = "";
    struct group_set_options o = {
        .io = n->io,
        .wal_dir = dir,
        .wal_segment_size = n->scenario->segment_kib * KIB,
        .log_memory = 64 * KIB,
        .election_timeout_ms = 300,
        .heartbeat_ms = 50,
        .read_lease = n->scenario->lease,
        .vote_holiday = n->scenario->lease,
        .arg = n,
        .send = on_send,
        .on_fatal = on_fatal,
    };
    enum err e;

    snprintf(dir, sizeof dir, "/n%u/wal", n->number);
    e = group_set_open(&o, &n->set, msg, sizeof msg);
    if (e != ERR_OK)
        nemesis_cannot_start(n->number, e, "the WAL", msg);
}

struct raft_node *raft_node_start(unsigned number, const struct scenario *s,
                                  const struct raft_node_ops *ops, unsigned members)
{
    struct raft_node *n = mem_zalloc(sizeof *n);
    struct io_options io_options = {0};
    struct peer_set_options po = {.arg = n,
                                  .resolve = on_resolve,
                                  .on_message = on_message,
                                  .on_hello = on_hello,
                                  .self = {.cluster = "sim", .node = number}};
    struct io_addr addr;
    char msg[256];

    n->number = number;
    n->scenario = s;
    n->ops = ops;
    CHECK(io_create(&io_options, &n->io, msg, sizeof msg) == ERR_OK);
    n->conns = conn_set_create(n->io);
    po.io = n->io;
    po.conns = n->conns;
    po.self.incarnation = io_random(n->io);
    n->peers = peer_set_create(&po);
    open_set(n);
    for (unsigned g = 1; g <= s->groups; g++)
        start_replica(n, g, members);
    CHECK(on_resolve(NULL, number, &addr));
    CHECK(io_listen(n->io, &addr, on_accept, n, &n->listener) == ERR_OK);
    io_set_turn_hook(n->io, on_turn, n);
    n->tick.fn = on_tick;
    io_timer_set(n->io, &n->tick, io_now(n->io) + io_random(n->io) % (100 * NS_PER_MS));
    io_again(n->io);
    return n;
}

enum err raft_node_propose(struct raft_node *n, unsigned group, const struct machine_command *c)
{
    struct raft_replica *r = &n->replica[group];
    struct raft_pending *p;
    struct buf b = {0};
    uint64_t index, term;
    enum err e;

    command_encode(c, &b);
    e = group_propose(r->group, buf_slice(&b), &index, &term);
    buf_close(&b);
    if (e != ERR_OK)
        return e;
    p = mem_zalloc(sizeof *p);
    *p = (struct raft_pending){.index = index, .term = term, .op = c->op};
    /* A new leader may give out again an index that a deposed one had used. */
    while (!list_empty(&r->pending)) {
        struct raft_pending *last = CONTAINER_OF(r->pending.prev, struct raft_pending, link);
        if (last->index < index)
            break;
        list_remove(&last->link);
        free(last);
    }
    list_push_back(&r->pending, &p->link);
    io_again(n->io);
    return ERR_OK;
}

struct read_op {
    struct group_read read;
    struct raft_replica *replica;
    unsigned key;
    uint64_t op;
};

static void read_done(struct group_read *g, enum err result)
{
    struct read_op *o = CONTAINER_OF(g, struct read_op, read);
    struct raft_replica *r = o->replica;

    r->node->ops->done(o->op, result, result == ERR_OK ? r->machine.value[o->key] : 0);
    free(o);
}

void raft_node_read(struct raft_node *n, unsigned group, unsigned key, uint64_t op, bool follow)
{
    struct read_op *o = mem_zalloc(sizeof *o);

    o->read.done = read_done;
    o->replica = &n->replica[group];
    o->key = key;
    o->op = op;
    if (follow)
        group_follower_read(o->replica->group, &o->read, 0);
    else
        group_read(o->replica->group, &o->read);
    io_again(n->io);
}
