/* Steps on one core: replicas that are made, join and go, changes of the members, refusals, what of
 * it survives a restart. The group has one voter, so it commits by itself. */
#include "shardd/step.h"

#include "shardd/describe.h"
#include "shardd/replica_stamp.h"
#include "tests/unit/shardd/core_world.h"

static struct world w;

static void setup(void)
{
    world_begin(&w);
}

static void teardown(void)
{
    world_destroy(&w);
}

static void run_step(struct world *world, void *arg)
{
    step_run(world->core, arg);
}

struct seen {
    uint64_t group;
    bool there, routed, broken;
    char why[256];
    struct msg_group_status s;
};

static void look(struct world *world, void *arg)
{
    struct seen *s = arg;
    struct replica *r = core_find_replica(world->core, s->group);
    *s = (struct seen){.group = s->group};
    if (!r || r->state == REPLICA_STARTING)
        return;
    s->there = true;
    s->routed = r->routed;
    s->broken = r->state == REPLICA_BROKEN;
    snprintf(s->why, sizeof s->why, "%s", r->broken);
    describe_replica(r, &s->s);
}

static struct seen see(uint64_t group)
{
    struct seen s = {.group = group};
    world_call(&w, look, &s);
    return s;
}

/* Until the group is there (or gone). */
static struct seen wait_there(uint64_t group, bool there)
{
    struct seen s = see(group);
    for (unsigned i = 0; i < 500 && s.there != there; i++) {
        usleep(10000);
        s = see(group);
    }
    ck_assert_int_eq(s.there, there);
    return s;
}

static struct msg_step step_of(uint8_t kind, uint64_t replica)
{
    struct seen s = see(1);
    struct msg_step step = {.kind = kind, .replica = replica, .op = 70 + kind, .node = 2};
    step.shard = (struct shard_desc){
        .group = 1, .first_slot = 0, .last_slot = LIMIT_SLOTS - 1, .epoch = s.s.epoch};
    return step;
}

/* Carries it out, again and again as placementd would; the status once the epoch has moved by
 * `changes`. */
static struct seen do_step(struct msg_step step, unsigned changes)
{
    uint32_t want = see(1).s.epoch.members + changes;
    world_call(&w, run_step, &step);
    struct seen s = see(1);
    for (unsigned i = 0; i < 500 && s.s.epoch.members != want; i++) {
        usleep(10000);
        world_call(&w, run_step, &step);
        s = see(1);
    }
    ck_assert_uint_eq(s.s.epoch.members, want);
    return s;
}

START_TEST(members_come_and_go)
{
    struct seen s = do_step(step_of(MSG_STEP_ADD_STANDBY, 2), 1);
    ck_assert_uint_eq(s.s.n_members, 2);
    ck_assert_uint_eq(s.s.member[1].replica, 2);
    ck_assert_uint_eq(s.s.member[1].node, 2);
    ck_assert_uint_eq(s.s.member[1].role, GROUP_STANDBY);
    ck_assert_uint_eq(s.s.refused_op, 0);

    /* It is there: nothing changes. */
    s = do_step(step_of(MSG_STEP_ADD_STANDBY, 2), 0);
    ck_assert_uint_eq(s.s.n_members, 2);
    ck_assert_uint_eq(s.s.refused_op, 0);

    /* Another one on the same node: of an order that came late. A node has one of a group. */
    s = do_step(step_of(MSG_STEP_ADD_STANDBY, 3), 0);
    ck_assert_uint_eq(s.s.refused_err, ERR_EXISTS);
    ck_assert_uint_eq(s.s.n_members, 2);

    /* Node 2 does not exist: it never catches up. */
    s = do_step(step_of(MSG_STEP_PROMOTE, 2), 0);
    ck_assert_uint_eq(s.s.refused_op, 70 + MSG_STEP_PROMOTE);
    ck_assert_uint_eq(s.s.refused_err, ERR_BUSY);
    s = do_step(step_of(MSG_STEP_PROMOTE, 9), 0);
    ck_assert_uint_eq(s.s.refused_err, ERR_NOT_FOUND);
    s = do_step(step_of(MSG_STEP_TRANSFER, 2), 0);
    ck_assert_uint_eq(s.s.refused_err, ERR_REFUSED);
    ck_assert_uint_eq(s.s.refused_op, 70 + MSG_STEP_TRANSFER);

    s = do_step(step_of(MSG_STEP_REMOVE, 2), 1);
    ck_assert_uint_eq(s.s.n_members, 1);
    ck_assert_uint_eq(s.s.refused_op, 0); /* what is done clears it */
    s = do_step(step_of(MSG_STEP_REMOVE, 2), 0);
    ck_assert_uint_eq(s.s.refused_op, 0);
    /* There is nobody to hand leadership to. */
    s = do_step(step_of(MSG_STEP_REMOVE, 1), 0);
    ck_assert_uint_eq(s.s.refused_err, ERR_REFUSED);
}
END_TEST

START_TEST(orders_of_another_epoch_do_nothing)
{
    struct msg_step late = step_of(MSG_STEP_ADD_STANDBY, 2);
    late.shard.epoch.members--;
    struct seen s = do_step(late, 0);
    ck_assert_uint_eq(s.s.n_members, 1);
    late.shard.epoch.members += 2;
    s = do_step(late, 0);
    ck_assert_uint_eq(s.s.n_members, 1);
    late.shard.epoch.members--;
    late.shard.epoch.range++;
    s = do_step(late, 0);
    ck_assert_uint_eq(s.s.n_members, 1);
    ck_assert_uint_eq(s.s.refused_op, 0);
    /* Twice at once: the second meets a change that is under way. */
    struct msg_step step = step_of(MSG_STEP_ADD_STANDBY, 2);
    world_call(&w, run_step, &step);
    s = do_step(step, 1);
    ck_assert_uint_eq(s.s.n_members, 2);
    ck_assert_uint_eq(s.s.refused_op, 0);
}
END_TEST

static struct msg_step join_of(uint64_t group, uint64_t replica)
{
    struct msg_step step = {.kind = MSG_STEP_CREATE_REPLICA, .replica = replica, .join = true};
    step.shard = (struct shard_desc){.group = group,
                                     .first_slot = 0,
                                     .last_slot = 99,
                                     .epoch = {9, 9},
                                     .n_replicas = 1,
                                     .replica = {{replica + 1, 2, 1}}};
    return step;
}

static void check_joining(const struct seen *s, uint64_t replica)
{
    ck_assert_uint_eq(s->s.replica, replica);
    ck_assert_uint_eq(s->s.applied, 0);
    ck_assert_uint_eq(s->s.role, GROUP_SPARE);
    ck_assert_uint_eq(s->s.state, MSG_REPLICA_FOLLOWER);
    ck_assert_uint_eq(s->s.epoch.range + s->s.epoch.members, 0);
    ck_assert(!s->routed && !s->broken);
}

START_TEST(a_joiner_waits_over_restarts)
{
    struct client c;
    struct msg_step step = join_of(5, 50);
    world_call(&w, run_step, &step);
    struct seen s = wait_there(5, true);
    check_joining(&s, 50);
    world_connect(&w, &c); /* the slots are still those of group 1 */
    ck_assert_int_eq(client_call(&c, put_of("k", "v")).err, ERR_OK);
    client_close(&c);
    for (int i = 0; i < 2; i++) {
        world_close(&w);
        world_open(&w);
        world_wait_leader(&w);
        s = see(5);
        ck_assert(s.there);
        check_joining(&s, 50);
        world_call(&w, run_step, &step); /* the same order again, and one for another replica */
        struct msg_step other = join_of(5, 51);
        world_call(&w, run_step, &other);
        s = see(5);
        check_joining(&s, 50);
    }
}
END_TEST

START_TEST(a_destroyed_replica_stays_gone)
{
    struct msg_step join = join_of(5, 50), gone = join;
    gone.kind = MSG_STEP_DESTROY_REPLICA;
    world_call(&w, run_step, &join);
    wait_there(5, true);
    gone.replica = 49; /* an earlier one of the group: not this */
    world_call(&w, run_step, &gone);
    usleep(300000);
    ck_assert(see(5).there);
    gone.replica = 50;
    world_call(&w, run_step, &gone);
    wait_there(5, false);
    for (int i = 0; i < 2; i++) {
        world_call(&w, run_step, &join);
        usleep(200000);
        ck_assert(!see(5).there);
        world_close(&w);
        world_open(&w);
        world_wait_leader(&w);
    }
    /* A later replica of the group is another one. */
    join.replica = 51;
    world_call(&w, run_step, &join);
    struct seen s = wait_there(5, true);
    check_joining(&s, 51);
    world_close(&w);
    world_open(&w);
    world_wait_leader(&w);
    ck_assert(see(5).there);
}
END_TEST

/* The order to destroy overtakes the one to make it. */
START_TEST(an_order_that_comes_late)
{
    struct msg_step join = join_of(5, 50), gone = join;
    gone.kind = MSG_STEP_DESTROY_REPLICA;
    world_call(&w, run_step, &gone);
    world_call(&w, run_step, &join);
    usleep(200000);
    ck_assert(!see(5).there);
}
END_TEST

/* As a split leaves it that was given up when the disk refused to rename it: a database without an
 * identity; *arg: with the file that says so. */
static void leave_unborn(struct world *world, void *arg)
{
    char dir[700], path[800], msg[256];
    struct engine_db *db;
    snprintf(dir, sizeof dir, "%s/groups/5", world->dir);
    ck_assert_int_eq(fs_mkdir(dir), ERR_OK);
    snprintf(path, sizeof path, "%s/db", dir);
    ck_assert_int_eq(engine_open(world->node.engine, path, true, &db, msg, sizeof msg), ERR_OK);
    struct engine_batch *b = engine_batch_create();
    engine_batch_put(b, slice_str("d-something"), slice_str("left"));
    ck_assert_int_eq(engine_write(db, b), ERR_OK);
    engine_batch_destroy(b);
    ck_assert_int_eq(engine_flush(db), ERR_OK);
    engine_close(db);
    ck_assert_int_eq(replica_stamp_write(dir, world->core->wal_id, 50), ERR_OK);
    snprintf(path, sizeof path, "%s/unborn", dir);
    if (*(bool *)arg)
        ck_assert_int_eq(fs_write_file(path, slice_of("", 0)), ERR_OK);
}

START_TEST(a_join_where_a_child_was_left_unborn)
{
    bool unborn = _i == 0;
    struct msg_step join = join_of(5, 50);
    world_call(&w, leave_unborn, &unborn);
    world_call(&w, run_step, &join);
    if (!unborn) { /* whatever it is, it is not for us to remove */
        usleep(300000);
        ck_assert(!see(5).there);
        return;
    }
    struct seen s = wait_there(5, true);
    check_joining(&s, 50);
    world_close(&w);
    world_open(&w);
    world_wait_leader(&w);
    s = see(5);
    ck_assert(s.there);
    check_joining(&s, 50);
}
END_TEST

static void rename_in(const char *from, const char *to)
{
    char a[700], b[700];
    snprintf(a, sizeof a, "%s/%s", w.dir, from);
    snprintf(b, sizeof b, "%s/%s", w.dir, to);
    ck_assert_int_eq(rename(a, b), 0);
}

/* The process ended between the tombstone and the removal. */
START_TEST(a_removal_that_was_cut_short)
{
    struct msg_step join = join_of(5, 50), gone = join;
    char cmd[1500];
    gone.kind = MSG_STEP_DESTROY_REPLICA;
    world_call(&w, run_step, &join);
    wait_there(5, true);
    world_close(&w);
    snprintf(cmd, sizeof cmd, "cp -r %s/groups/5 %s/kept", w.dir, w.dir);
    ck_assert_int_eq(system(cmd), 0);
    world_open(&w);
    world_call(&w, run_step, &gone);
    wait_there(5, false);
    world_close(&w);
    rename_in("kept", "groups/5");
    world_open(&w);
    wait_there(5, false);
    snprintf(cmd, sizeof cmd, "%s/groups/5", w.dir);
    for (int i = 0; i < 300 && fs_exists(cmd); i++)
        usleep(10000);
    ck_assert(!fs_exists(cmd));
}
END_TEST

/* The data was never flushed, so nothing in it says that this replica may have voted. */
START_TEST(a_wal_that_was_wiped)
{
    char wal[600];
    world_close(&w);
    snprintf(wal, sizeof wal, "%s/wal-0", w.dir);
    ck_assert_int_eq(fs_rmdir_all(wal), ERR_OK);
    world_open(&w);
    struct seen s = see(1);
    ck_assert(s.there && s.broken);
    ck_assert_msg(strstr(s.why, "WAL") != NULL, "%s", s.why);
}
END_TEST

static void ask_for_rate(struct world *world, void *arg)
{
    load_order(world->core, *(uint64_t *)arg);
    *(uint64_t *)arg = world->core->fetch_rate.bytes_per_s;
}

START_TEST(the_pace_of_snapshots)
{
    uint64_t rate = 5 * MIB;
    world_call(&w, ask_for_rate, &rate);
    ck_assert_uint_eq(rate, 5 * MIB);
    rate = 0;
    world_call(&w, ask_for_rate, &rate);
    ck_assert_uint_eq(rate, 0);

    /* pace, cap, moving, p99, baseline -> pace */
    ck_assert_uint_eq(load_pace(0, 0, 100 * MIB, 9000, 0), 0);
    ck_assert_uint_eq(load_pace(0, 0, 100 * MIB, 11000, 0), 50 * MIB);
    ck_assert_uint_eq(load_pace(0, 0, 100 * MIB, 11000, 6000), 0);
    ck_assert_uint_eq(load_pace(0, 0, 100 * MIB, 12001, 6000), 50 * MIB);
    ck_assert_uint_eq(load_pace(50 * MIB, 0, 50 * MIB, 20000, 6000), 25 * MIB);
    ck_assert_uint_eq(load_pace(1 * MIB, 0, 1 * MIB, 20000, 0), 1 * MIB); /* never stands still */
    ck_assert_uint_eq(load_pace(40 * MIB, 100 * MIB, 40 * MIB, 5000, 6000), 50 * MIB);
    ck_assert_uint_eq(load_pace(90 * MIB, 100 * MIB, 90 * MIB, 5000, 6000), 0);
}
END_TEST

static void get_p99(struct world *world, void *arg)
{
    *(uint64_t *)arg = load_write_p99(&world->core->load);
}

/* Counted where they are served, smoothed, and gone some seconds after the last. */
START_TEST(loads)
{
    struct client c;
    uint64_t p99 = 0;
    world_connect(&w, &c);
    for (unsigned i = 0; i < 300; i++) {
        ck_assert_int_eq(client_call(&c, put_of("k", "v")).err, ERR_OK);
        if (i % 3 == 0)
            ck_assert_int_eq(client_call(&c, get_of("k")).err, ERR_OK);
    }
    usleep(600000);
    struct seen s = see(1);
    ck_assert_uint_gt(s.s.writes, 10);
    ck_assert_uint_lt(s.s.writes, 300);
    ck_assert_uint_gt(s.s.reads, 3);
    ck_assert_uint_lt(s.s.reads, s.s.writes);
    world_call(&w, get_p99, &p99);
    ck_assert_uint_gt(p99, 0);
    usleep(2000000);
    ck_assert_uint_lt(see(1).s.writes, s.s.writes);
    client_close(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("step");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, members_come_and_go);
    tcase_add_test(t, orders_of_another_epoch_do_nothing);
    tcase_add_test(t, a_joiner_waits_over_restarts);
    tcase_add_test(t, a_destroyed_replica_stays_gone);
    tcase_add_test(t, an_order_that_comes_late);
    tcase_add_loop_test(t, a_join_where_a_child_was_left_unborn, 0, 2);
    tcase_add_test(t, a_removal_that_was_cut_short);
    tcase_add_test(t, a_wal_that_was_wiped);
    tcase_add_test(t, the_pace_of_snapshots);
    tcase_add_test(t, loads);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
