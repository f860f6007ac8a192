/* A whole core with one replica: requests over a socket, restart, a replica that breaks, positions
 * in the engine, orders to destroy. */
#include "tests/unit/shardd/core_world.h"

#include "common/base/mem.h"
#include "shardd/command.h"
#include "shardd/replica_stamp.h"
#include "shardd/session.h"

static struct world w;
static struct client c;

static void setup(void)
{
    world_serve(&w, &c);
}

static void teardown(void)
{
    world_end(&w, &c);
}

static struct replica *the_replica(void)
{
    struct replica *r = core_find_replica(w.core, 1);
    ck_assert_ptr_nonnull(r);
    return r;
}

START_TEST(test_life)
{
    ck_assert_int_eq(client_call(&c, get_of("k")).err, ERR_NOT_FOUND);
    uint64_t first = client_call(&c, put_of("k", "one")).version;
    ck_assert_uint_gt(first, 0);
    struct msg_kv_request cas = put_of("k", "two");
    cas.has_if_version = true;
    cas.if_version = first;
    uint64_t second = client_call(&c, cas).version;
    ck_assert_uint_gt(second, first);
    ck_assert_int_eq(client_call(&c, cas).err, ERR_CONDITION_FAILED);
    world_restart(&w, &c, world_wait_leader);
    struct answer_seen a = client_call(&c, get_of("k"));
    ck_assert_str_eq(a.value, "two");
    ck_assert_uint_eq(a.version, second);
    ck_assert_uint_gt(client_call(&c, put_of("k", "three")).version, second);
}
END_TEST

/* ---- a replica that breaks ---- */

static void break_while_reading(struct world *world, void *arg)
{
    struct msg_kv_request m = get_of("k");
    struct session *s = CONTAINER_OF(list_first(&world->core->sessions), struct session, link);
    (void)arg;
    router_dispatch(world->core, s, 0, 0, 77, &m, slice_of(NULL, 0));
    read_path_flush(the_replica(), false); /* the ReadIndex is under way, */
    list_remove(&the_replica()->dirty);
    /* and as if the engine refused what is applied at this turn's end: */
    replica_set_broken(the_replica(), ERR_IO, "a test");
}

/* What broke may lack committed writes, however fresh the driver's ReadIndex is. */
START_TEST(test_broken_serves_no_read)
{
    ck_assert_int_eq(client_call(&c, put_of("k", "one")).err, ERR_OK);
    world_call(&w, break_while_reading, NULL);
    struct answer_seen a = client_take(&c, KV_METHOD_GET);
    ck_assert_uint_eq(a.msgid, 77);
    ck_assert_int_ne(a.err, ERR_OK);
}
END_TEST

static void break_with_offloaded(struct world *world, void *arg)
{
    struct msg_kv_request m = get_of("k");
    struct session *s = CONTAINER_OF(list_first(&world->core->sessions), struct session, link);
    (void)arg;
    router_dispatch(world->core, s, 0, 0, 78, &m, slice_of(NULL, 0));
    the_replica()->reads.offloaded++; /* as if another get were on an offload thread */
    replica_set_broken(the_replica(), ERR_IO, "a test");
}

static void end_offloaded(struct world *world, void *arg)
{
    (void)world;
    (void)arg;
    the_replica()->reads.offloaded--;
}

START_TEST(test_breaks_with_offloaded_read)
{
    world_call(&w, break_with_offloaded, NULL);
    struct answer_seen a = client_take(&c, KV_METHOD_GET);
    ck_assert_uint_eq(a.msgid, 78);
    ck_assert_int_eq(a.err, ERR_NO_LEADER);
    world_call(&w, end_offloaded, NULL);
}
END_TEST

static void break_by_disk(struct world *world, void *arg)
{
    (void)world;
    (void)arg;
    replica_set_broken(the_replica(), ERR_NO_SPACE, "a test");
}

/* Closed, opened, replayed from the log: nothing is lost that was acknowledged. */
START_TEST(test_heals)
{
    uint64_t version = 0;
    for (unsigned i = 0; i < 100; i++)
        version = client_call(&c, put_of("k", i < 99 ? "one" : "two")).version;
    world_call(&w, break_by_disk, NULL);
    ck_assert_int_eq(client_call(&c, get_of("k")).err, ERR_NO_LEADER);
    world_wait_leader(&w);
    struct answer_seen a = client_call(&c, get_of("k"));
    ck_assert_str_eq(a.value, "two");
    ck_assert_uint_eq(a.version, version);
    ck_assert_uint_gt(client_call(&c, put_of("k", "three")).version, version);
}
END_TEST

static void bury_unopened(struct world *world, void *arg)
{
    (void)arg;
    tombstones_add(&world->core->tombstones, 1, 1);
    break_by_disk(world, NULL);
}

static void is_there(struct world *world, void *arg)
{
    *(bool *)arg = core_find_replica(world->core, 1) != NULL;
}

/* At the start neither could be looked at, for the disk's sake: it must not come back by the way on
 * which others heal. */
START_TEST(test_destroyed_does_not_heal)
{
    bool there = true;
    world_call(&w, bury_unopened, NULL);
    for (unsigned i = 0; i < 300 && there; i++) {
        usleep(20000);
        world_call(&w, is_there, &there);
    }
    ck_assert(!there);
}
END_TEST

START_TEST(test_without_its_log_does_not_heal)
{
    char path[600];
    bool leads = false;
    snprintf(path, sizeof path, "%s/groups/1", w.dir);
    ck_assert_int_eq(replica_stamp_write(path, w.core->wal_id + 1, 1), ERR_OK);
    world_call(&w, break_by_disk, NULL);
    for (unsigned i = 0; i < 100 && !leads; i++) {
        usleep(30000);
        world_call(&w, world_leads, &leads);
    }
    ck_assert(!leads);
}
END_TEST

/* ---- position and data ---- */

/* One run of entries: a put, a change of the configuration, a command with a condition (what is in
 * the batch is written before it) that then turns out to be damaged, so that what was written in
 * the middle stays to be looked at. */
static void propose_run(struct world *world, void *arg)
{
    struct replica *r = the_replica();
    struct msg_kv_request m = put_of("a", "1");
    struct session *s = CONTAINER_OF(list_first(&world->core->sessions), struct session, link);
    struct command_op op = {.kind = COMMAND_PUT,
                            .flags = COMMAND_IF_ABSENT,
                            .key = slice_str("b"),
                            .value = slice_str("2")};
    struct buf b = {0};
    uint64_t index, term;
    router_dispatch(world->core, s, 0, 0, 79, &m, slice_of(NULL, 0));
    write_path_flush(r);
    struct group_conf conf = group_applied(r->group)->conf;
    conf.member[conf.n++] = (struct group_member){.replica = 2, .node = 2, .role = GROUP_SPARE};
    ck_assert_int_eq(group_change(r->group, &conf), ERR_OK);
    *(uint64_t *)arg = group_last_index(r->group);
    command_begin(&b);
    command_put_op(&b, &op, NULL);
    command_put_op(&b, &op, NULL);
    command_finish(&b, 1, 2);
    ck_assert_int_eq(group_propose(r->group, slice_of(b.p, b.n - 1), &index, &term), ERR_OK);
    buf_close(&b);
}

struct stored {
    bool broken;
    struct shard shard;
    struct group_position position;
};

static void load_stored(struct world *world, void *arg)
{
    struct stored *s = arg;
    struct replica *r = the_replica();
    (void)world;
    s->broken = r->state == REPLICA_BROKEN;
    ck_assert_int_eq(replica_load(r->db, false, &s->shard, &s->position), ERR_OK);
}

START_TEST(test_change_counted_once)
{
    uint64_t changed = 0;
    struct stored s = {0};
    ck_assert_int_eq(client_call(&c, put_of("a", "0")).err, ERR_OK); /* of its own term */
    world_call(&w, propose_run, &changed);
    for (unsigned i = 0; i < 500 && !s.broken; i++) {
        world_call(&w, load_stored, &s);
        usleep(10000);
    }
    ck_assert(s.broken);
    ck_assert_uint_eq(s.shard.epoch.members, 2);
    ck_assert_uint_eq(s.position.conf.n, 2);
    ck_assert_uint_ge(s.position.index, changed); /* else a replay counts it again */
    ck_assert_uint_eq(s.position.conf_index, changed);
}
END_TEST

/* ---- orders ---- */

static void order_destroy(struct world *world, void *arg)
{
    core_destroy_replica(world->core, 1, *(uint64_t *)arg);
}

static void count_replicas(struct world *world, void *arg)
{
    *(size_t *)arg = world->core->replicas.n;
}

static size_t replicas_after_order(uint64_t replica)
{
    size_t n = 1;
    world_call(&w, order_destroy, &replica);
    for (unsigned i = 0; i < 50 && n > 0; i++) {
        usleep(10000);
        world_call(&w, count_replicas, &n);
    }
    return n;
}

START_TEST(test_destroy_needs_its_number)
{
    char db[600], away[600];
    ck_assert_int_eq(client_call(&c, put_of("k", "one")).err, ERR_OK);
    ck_assert_uint_eq(replicas_after_order(9), 1);
    client_close(&c);
    world_close(&w);
    /* A database that cannot be opened for the moment: nobody knows which replica this is. */
    snprintf(db, sizeof db, "%s/groups/1/db/CURRENT", w.dir);
    snprintf(away, sizeof away, "%s/groups/1/db/CURRENT.away", w.dir);
    ck_assert_int_eq(fs_rename(db, away), ERR_OK);
    world_open(&w);
    ck_assert_uint_eq(replicas_after_order(0), 1);
    world_close(&w);
    ck_assert_int_eq(fs_rename(away, db), ERR_OK);
    world_open(&w);
    world_wait_leader(&w);
    world_connect(&w, &c);
    ck_assert_str_eq(client_call(&c, get_of("k")).value, "one");
}
END_TEST

START_TEST(test_destroy_leaves_nothing)
{
    char path[600];
    ck_assert_int_eq(client_call(&c, put_of("k", "one")).err, ERR_OK);
    ck_assert_uint_eq(replicas_after_order(1), 0);
    snprintf(path, sizeof path, "%s/groups/1", w.dir);
    ck_assert(!fs_exists(path));
    /* The same group may come again. */
    world_call(&w, world_make_group, NULL);
    world_wait_leader(&w);
    ck_assert_int_eq(client_call(&c, get_of("k")).err, ERR_NOT_FOUND);
}
END_TEST

static void has_log(struct world *world, void *arg)
{
    *(bool *)arg = group_set_has_log(world->core->groups, 1);
}

/* The process ended when the replica's directory was gone and its log was not yet. */
START_TEST(test_log_without_replica)
{
    char path[600];
    bool log = true;
    ck_assert_int_eq(client_call(&c, put_of("k", "one")).err, ERR_OK);
    client_close(&c);
    world_close(&w);
    snprintf(path, sizeof path, "%s/groups/1", w.dir);
    ck_assert_int_eq(fs_rmdir_all(path), ERR_OK);
    snprintf(path, sizeof path, "%s/groups/1.7.gone", w.dir);
    ck_assert_int_eq(fs_mkdir(path), ERR_OK);
    world_open(&w);
    world_call(&w, has_log, &log);
    ck_assert(!log);
    ck_assert(!fs_exists(path));
    world_call(&w, world_make_group, NULL);
    world_wait_leader(&w);
    world_connect(&w, &c);
    ck_assert_int_eq(client_call(&c, get_of("k")).err, ERR_NOT_FOUND);
}
END_TEST

/* ---- bounds ---- */

START_TEST(test_unread_values)
{
    enum { GETS = 120 };
    static char big[1024 * 1024 - 64];
    unsigned busy = 0, values = 0;
    memset(big, 'x', sizeof big - 1);
    ck_assert_int_eq(client_call(&c, put_of("k", big)).err, ERR_OK);
    for (unsigned i = 0; i < GETS; i++)
        (void)client_add(&c, get_of("k"));
    client_send(&c);
    for (unsigned i = 0; i < GETS; i++) {
        struct answer_seen a = client_take(&c, KV_METHOD_GET);
        busy += a.err == ERR_BUSY;
        values += a.err == ERR_OK && a.value_size == sizeof big - 1;
    }
    ck_assert_uint_eq(busy + values, GETS);
    ck_assert_uint_gt(busy, 0);
    ck_assert_uint_ge(values, LIMIT_CONN_OUT / MIB);
    ck_assert_int_eq(client_call(&c, get_of("k")).err, ERR_OK);
}
END_TEST

/* All of one turn: each condition must see the effects of those before it. */
START_TEST(test_many_conditions)
{
    enum { PUTS = 900 * 4 };
    unsigned done = 0, failed = 0;
    struct msg_kv_request m = put_of("k", "v");
    m.if_absent = true;
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < PUTS / 4; i++)
            (void)client_add(&c, m);
    }
    client_send(&c);
    for (unsigned i = 0; i < PUTS; i++) {
        struct answer_seen a = client_take(&c, KV_METHOD_PUT);
        done += a.err == ERR_OK;
        failed += a.err == ERR_CONDITION_FAILED;
    }
    ck_assert_uint_eq(done, 1);
    ck_assert_uint_eq(failed, PUTS - 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core");
    TCase *t = tcase_create("core");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_life);
    tcase_add_test(t, test_broken_serves_no_read);
    tcase_add_test(t, test_breaks_with_offloaded_read);
    tcase_add_test(t, test_heals);
    tcase_add_test(t, test_destroyed_does_not_heal);
    tcase_add_test(t, test_without_its_log_does_not_heal);
    tcase_add_test(t, test_change_counted_once);
    tcase_add_test(t, test_destroy_needs_its_number);
    tcase_add_test(t, test_destroy_leaves_nothing);
    tcase_add_test(t, test_log_without_replica);
    tcase_add_test(t, test_unread_values);
    tcase_add_test(t, test_many_conditions);
    suite_add_tcase(s, t);
    SRunner *sr = srunner_create(s);
    srunner_set_fork_status(sr, CK_NOFORK);
    srunner_run_all(sr, CK_NORMAL);
    int failed = srunner_ntests_failed(sr);
    srunner_free(sr);
    return failed ? 1 : 0;
}
