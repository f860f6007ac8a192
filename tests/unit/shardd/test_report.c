/* The node's line to placementd against scripted members on loopback: registration, redirects,
 * steps, maps, refusals, lost members, hostile answers. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/wire/mp.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"
#include "shardd/report.h"

struct world;

/* A member of placementd as the script wants it. */
struct fake {
    struct world *w;
    struct io_listener *listener;
    char addr[64];
    struct io_addr at;
    bool redirect_to_other, garbage;
    unsigned registers, heartbeats, watches;
};

struct fake_conn {
    struct fake *f;
    struct conn *c;
};

struct world {
    struct io *io;
    struct conn_set *server, *client;
    struct fake fake[2];
    struct report *report;
    struct io_timer limit;
    bool (*until)(struct world *w);
    bool timed_out;
    /* the script */
    enum err refuse;   /* answer to node.register */
    unsigned forget;   /* heartbeats answered NOT_FOUND */
    unsigned steps;    /* steps left to hand out */
    uint32_t node;     /* given to whoever registers */
    bool slow_collect; /* report_fill() is called by the test */
    bool only_first;   /* the first fake alone is configured */
    unsigned n_told;   /* of the fakes, by the second one: the members */
    struct io_addr learned[2];
    unsigned n_learned;
    struct shard_map map;
    /* what was seen */
    unsigned registered, got_steps, maps, refused, collected, members, n_members;
    uint32_t got_node;
    enum err why;
    uint64_t map_version;
    struct conn *last;
};

/* ---- the fake member ---- */

static enum err on_split(void *arg, struct slice data, size_t *n)
{
    (void)arg;
    return rpc_split(data, LIMIT_FRAME, n);
}

static void answer_register(struct fake *f, const struct rpc_message *m, struct buf *out)
{
    struct msg_register r;
    struct msg_register_reply reply = {.cluster = {9}, .node = f->w->node, .version = 1};
    ck_assert_int_eq(msg_register_decode(m->params, &r), ERR_OK);
    ck_assert_str_eq(r.name, "n1");
    f->registers++;
    if (f->redirect_to_other)
        msg_placement_put_not_leader(out, m->msgid, 2, f->w->fake[1].addr);
    else if (f->w->refuse != ERR_OK)
        rpc_put_error_simple(out, m->msgid, f->w->refuse, "the name is in use");
    else
        msg_register_reply_encode(out, m->msgid, &reply);
}

static void answer_heartbeat(struct fake *f, const struct rpc_message *m, struct buf *out)
{
    struct msg_heartbeat h;
    ck_assert_int_eq(msg_heartbeat_decode(m->params, &h), ERR_OK);
    ck_assert_uint_eq(h.incarnation, 77);
    msg_heartbeat_close(&h);
    f->heartbeats++;
    if (f->w->forget) {
        f->w->forget--;
        rpc_put_error_simple(out, m->msgid, ERR_NOT_FOUND, "register again");
        return;
    }
    struct msg_step step = {.kind = MSG_STEP_CREATE_REPLICA, .replica = 3, .shard = {.group = 1}};
    struct msg_heartbeat_reply reply = {.version = f->w->map.version, .steps = &step};
    for (unsigned i = 0; i < f->w->n_told; i++)
        strcpy(reply.member[reply.n_members++], f->w->fake[1 - i].addr);
    if (f->w->steps) {
        f->w->steps--;
        reply.n_steps = 1;
    }
    msg_heartbeat_reply_encode(out, m->msgid, &reply);
}

static void on_request(void *arg, struct slice message)
{
    struct fake_conn *fc = arg;
    struct fake *f = fc->f;
    struct rpc_message m;
    struct buf *out = conn_out(fc->c);
    ck_assert_int_eq(rpc_decode(message, &m), ERR_OK);
    f->w->last = fc->c;
    if (f->garbage) {
        f->registers++;
        static const uint8_t bad[] = {0x81, 0xa1, 'x', 0x91, 1};
        if (f->registers % 2)
            buf_append(out, "\xff\xff", 2);
        rpc_put_result(out, m.msgid);
        buf_append(out, bad, sizeof(bad));
    } else if (slice_eq(m.method, slice_str("node.register"))) {
        answer_register(f, &m, out);
    } else if (slice_eq(m.method, slice_str("node.heartbeat"))) {
        answer_heartbeat(f, &m, out);
    } else {
        ck_assert(slice_eq(m.method, slice_str("map.watch")));
        f->watches++;
        rpc_put_result(out, m.msgid);
        msg_map_encode(out, &f->w->map);
    }
}

static void on_server_end(void *arg, enum err why)
{
    struct fake_conn *fc = arg;
    (void)why;
    if (fc->f->w->last == fc->c)
        fc->f->w->last = NULL;
    free(fc);
}

static const struct conn_ops server_ops = {
    .split = on_split, .on_message = on_request, .on_end = on_server_end};

static void on_accept(void *arg, int handle, const struct io_addr *from)
{
    struct fake *f = arg;
    struct fake_conn *fc = mem_zalloc(sizeof(*fc));
    (void)from;
    fc->f = f;
    ck_assert_int_eq(conn_adopt(f->w->server, handle, &server_ops, fc, &fc->c), ERR_OK);
}

static void fake_up(struct world *w, unsigned i)
{
    struct fake *f = &w->fake[i];
    f->w = w;
    if (f->at.port == 0)
        ck_assert_int_eq(io_addr_parse("127.0.0.1:0", &f->at), ERR_OK);
    ck_assert_int_eq(io_listen(w->io, &f->at, on_accept, f, &f->listener), ERR_OK);
    io_listener_addr(f->listener, &f->at);
    io_addr_format(&f->at, f->addr);
}

static void fake_down(struct world *w, unsigned i)
{
    if (w->fake[i].listener)
        io_listener_close(w->fake[i].listener);
    w->fake[i].listener = NULL;
}

/* ---- the owner's side ---- */

static void on_registered(void *arg, const uint8_t cluster[16], uint32_t node)
{
    struct world *w = arg;
    ck_assert_uint_eq(cluster[0], 9);
    w->registered++;
    w->got_node = node;
}

static void fill(struct world *w)
{
    struct msg_heartbeat h = {.disk_free = 1, .disk_size = 2};
    report_fill(w->report, &h);
}

static void on_collect(void *arg, struct report *r)
{
    struct world *w = arg;
    (void)r;
    w->collected++;
    if (!w->slow_collect)
        fill(w);
}

static void on_step(void *arg, const struct msg_step *step)
{
    struct world *w = arg;
    ck_assert_uint_eq(step->replica, 3);
    w->got_steps++;
    report_kick(w->report);
}

static void on_map(void *arg, const struct shard_map *map)
{
    struct world *w = arg;
    ck_assert_uint_ge(map->version, w->map_version);
    w->map_version = map->version;
    w->maps++;
}

static void on_members(void *arg, const struct io_addr *addr, unsigned n)
{
    struct world *w = arg;
    w->members++;
    w->n_members = n;
    memcpy(w->learned, addr, n * sizeof *addr);
}

static void on_refused(void *arg, enum err why, const char *text)
{
    struct world *w = arg;
    ck_assert_str_eq(text, "the name is in use");
    w->why = why;
    w->refused++;
}

static void on_turn(void *arg)
{
    struct world *w = arg;
    conn_set_flush(w->server);
    conn_set_flush(w->client);
    if (w->until && w->until(w)) {
        w->until = NULL;
        io_stop(w->io);
    }
}

static void on_limit(struct io_timer *t)
{
    struct world *w = CONTAINER_OF(t, struct world, limit);
    w->timed_out = true;
    io_stop(w->io);
}

static void run_until(struct world *w, bool (*until)(struct world *w), const char *what)
{
    w->until = until;
    w->timed_out = false;
    io_timer_set(w->io, &w->limit, io_now_exact(w->io) + 8 * NS_PER_S);
    io_run(w->io);
    io_timer_cancel(w->io, &w->limit);
    w->until = NULL;
    ck_assert_msg(!w->timed_out, "waiting for: %s", what);
}

static void put_shard(struct shard_map *m, uint64_t version, uint64_t leader)
{
    struct shard_desc d = {.group = 1,
                           .last_slot = 16383,
                           .epoch = {1, 1},
                           .leader = leader,
                           .n_replicas = 1,
                           .replica = {{3, 5, 1}}};
    shard_map_put_shard(m, &d);
    m->version = version;
    m->cluster[0] = 9;
}

static void open_world(struct world *w, bool up)
{
    char msg[256];
    struct io_options o = {0};
    memset(w, 0, sizeof(*w));
    ck_assert_msg(io_create(&o, &w->io, msg, sizeof(msg)) == ERR_OK, "%s", msg);
    w->server = conn_set_create(w->io);
    w->client = conn_set_create(w->io);
    w->limit.fn = on_limit;
    w->node = 5;
    shard_map_init(&w->map);
    put_shard(&w->map, 4, 0);
    io_set_turn_hook(w->io, on_turn, w);
    fake_up(w, 0);
    fake_up(w, 1);
    if (!up) {
        fake_down(w, 0);
        fake_down(w, 1);
    }
}

static void start(struct world *w)
{
    struct io_addr addr[2] = {w->fake[0].at, w->fake[1].at};
    struct report_options o = {.io = w->io,
                               .conns = w->client,
                               .n_placement = w->only_first ? 1 : 2,
                               .placement = addr,
                               .n_learned = w->n_learned,
                               .learned = w->learned,
                               .on_members = on_members,
                               .arg = w,
                               .on_registered = on_registered,
                               .collect = on_collect,
                               .on_step = on_step,
                               .on_map = on_map,
                               .on_refused = on_refused};
    o.self = (struct msg_register){.name = "n1",
                                   .incarnation = 77,
                                   .host = "h",
                                   .client_addr = "127.0.0.1:1",
                                   .peer_addr = "127.0.0.1:2",
                                   .cores = 1};
    w->report = report_create(&o);
}

static bool nobody(struct world *w)
{
    (void)w;
    return true;
}

static void close_world(struct world *w)
{
    report_destroy(w->report);
    fake_down(w, 0);
    fake_down(w, 1);
    run_until(w, nobody, "a turn");
    conn_set_destroy(w->client);
    conn_set_destroy(w->server);
    io_set_turn_hook(w->io, NULL, NULL);
    io_destroy(w->io);
    shard_map_close(&w->map);
}

static unsigned heartbeats(const struct world *w)
{
    return w->fake[0].heartbeats + w->fake[1].heartbeats;
}

static bool went_well(struct world *w)
{
    return w->registered && w->maps && heartbeats(w) >= 3 && w->got_steps == 2;
}

static bool newer_map(struct world *w)
{
    return w->map_version == 5;
}

START_TEST(test_life)
{
    struct world w;
    open_world(&w, true);
    w.steps = 2;
    start(&w);
    ck_assert(!report_connected(w.report));
    run_until(&w, went_well, "registration, map, heartbeats, steps");
    ck_assert_uint_eq(w.registered, 1);
    ck_assert_uint_eq(w.got_node, 5);
    ck_assert_uint_eq(w.map_version, 4);
    ck_assert(report_connected(w.report));
    /* a notification: the newer piece is merged */
    struct shard_map piece;
    shard_map_init(&piece);
    put_shard(&piece, 5, 3);
    struct buf *out = conn_out(w.last);
    rpc_put_notify(out, "map.changed");
    mp_put_array(out, 1);
    msg_map_encode(out, &piece);
    run_until(&w, newer_map, "the notification");
    ck_assert_uint_eq(report_map(w.report)->shards[0].leader, 3);
    shard_map_close(&piece);
    close_world(&w);
}
END_TEST

static bool missed_map(struct world *w)
{
    return w->map_version == 6;
}

/* No notification came, but the heartbeat's reply tells of a newer version: it is fetched. */
START_TEST(test_missed_notification)
{
    struct world w;
    open_world(&w, true);
    start(&w);
    w.steps = 2;
    run_until(&w, went_well, "a start");
    w.map.version = 6;
    run_until(&w, missed_map, "version 6");
    close_world(&w);
}
END_TEST

START_TEST(test_redirect)
{
    struct world w;
    open_world(&w, true);
    w.fake[0].redirect_to_other = true;
    w.steps = 2;
    start(&w);
    run_until(&w, went_well, "registration at the leader");
    ck_assert_uint_eq(w.fake[0].heartbeats, 0);
    ck_assert_uint_eq(w.refused, 0);
    close_world(&w);
}
END_TEST

static bool refused_twice(struct world *w)
{
    return w->fake[0].registers + w->fake[1].registers >= 2;
}

START_TEST(test_refused)
{
    struct world w;
    open_world(&w, true);
    w.refuse = ERR_EXISTS;
    start(&w);
    run_until(&w, refused_twice, "two refusals");
    ck_assert_uint_eq(w.refused, 1); /* told once */
    ck_assert_int_eq(w.why, ERR_EXISTS);
    w.refuse = ERR_OK;
    w.steps = 2;
    run_until(&w, went_well, "registration after all");
    close_world(&w);
}
END_TEST

static bool new_id(struct world *w)
{
    return w->got_node == 8 && w->forget == 0;
}

START_TEST(test_forgotten)
{
    struct world w;
    open_world(&w, true);
    w.steps = 2;
    start(&w);
    run_until(&w, went_well, "a start");
    w.forget = 1;
    w.node = 8;
    run_until(&w, new_id, "a new id");
    ck_assert_uint_eq(w.registered, 2);
    close_world(&w);
}
END_TEST

static bool second_up(struct world *w)
{
    return heartbeats(w) >= 1;
}

static uint64_t nap_until;
static bool napped(struct world *w)
{
    return io_now_exact(w->io) >= nap_until;
}

static void on_nap(struct io_timer *t)
{
    (void)t;
}

START_TEST(test_all_down)
{
    struct world w;
    struct io_timer nap = {.fn = on_nap};
    open_world(&w, false);
    start(&w);
    nap_until = io_now_exact(w.io) + 700 * NS_PER_MS;
    io_timer_set(w.io, &nap, nap_until);
    run_until(&w, napped, "a while with nobody there");
    ck_assert_uint_eq(w.registered, 0);
    ck_assert_uint_le(conn_set_count(w.client), 1);
    fake_up(&w, 1);
    run_until(&w, second_up, "one is back");
    ck_assert_uint_eq(w.registered, 1);
    /* it goes, the other one comes */
    fake_down(&w, 1);
    fake_up(&w, 0);
    if (w.last)
        conn_abort(w.last);
    w.fake[1].heartbeats = 0;
    run_until(&w, second_up, "the other one");
    ck_assert_uint_ge(w.fake[0].heartbeats, 1);
    ck_assert_uint_eq(w.registered, 1); /* known already: nothing new to say */
    close_world(&w);
}
END_TEST

static bool three_beats(struct world *w)
{
    return heartbeats(w) >= 3;
}

/* All that were configured are gone: the next process begins with what this one was told. */
START_TEST(test_members_are_kept)
{
    struct world w;
    open_world(&w, true);
    w.only_first = true;
    w.n_told = 2;
    start(&w);
    run_until(&w, three_beats, "heartbeats");
    ck_assert_uint_eq(w.members, 1); /* not told again and again */
    ck_assert_uint_eq(w.n_members, 2);
    report_destroy(w.report);
    fake_down(&w, 0);
    w.fake[0].heartbeats = 0;
    w.n_learned = 2;
    w.members = 0;
    start(&w);
    run_until(&w, three_beats, "the one that was not configured");
    ck_assert_uint_eq(w.members, 0);
    w.n_told = 1; /* one has left */
    w.fake[1].heartbeats = 0;
    run_until(&w, three_beats, "more heartbeats");
    ck_assert_uint_eq(w.members, 1);
    ck_assert_uint_eq(w.n_members, 1);
    close_world(&w);
}
END_TEST

static bool many_garbage(struct world *w)
{
    return w->fake[0].registers + w->fake[1].registers >= 6;
}

START_TEST(test_garbage)
{
    struct world w;
    open_world(&w, true);
    w.fake[0].garbage = w.fake[1].garbage = true;
    start(&w);
    run_until(&w, many_garbage, "answers that make no sense");
    ck_assert_uint_eq(w.registered, 0);
    w.fake[0].garbage = w.fake[1].garbage = false;
    w.steps = 2;
    run_until(&w, went_well, "sense again");
    close_world(&w);
}
END_TEST

static bool collected(struct world *w)
{
    return w->collected == 1 && w->maps == 1;
}

static bool lost_and_found(struct world *w)
{
    return w->fake[0].watches + w->fake[1].watches >= 2;
}

/* The line is lost while the owner still gathers: its late answer is taken by the next line. */
START_TEST(test_late_fill)
{
    struct world w;
    open_world(&w, true);
    w.slow_collect = true;
    start(&w);
    run_until(&w, collected, "collect");
    conn_abort(w.last);
    run_until(&w, lost_and_found, "another line");
    ck_assert_uint_eq(w.collected, 1);
    ck_assert_uint_eq(heartbeats(&w), 0);
    w.slow_collect = false;
    fill(&w);
    run_until(&w, second_up, "a heartbeat");
    close_world(&w);
}
END_TEST

int main(void)
{
    log_set_level(LOG_SILENT);
    Suite *s = suite_create("report");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_life);
    tcase_add_test(t, test_missed_notification);
    tcase_add_test(t, test_redirect);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_forgotten);
    tcase_add_test(t, test_all_down);
    tcase_add_test(t, test_members_are_kept);
    tcase_add_test(t, test_garbage);
    tcase_add_test(t, test_late_fill);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
