/* Splits on one node: nothing lost, each key in one database only, over restarts at any point. */
#include "tests/unit/shardd/core_world.h"

#include "common/base/mem.h"
#include "common/meta/slot.h"
#include "shardd/engine_key.h"
#include "shardd/session.h"
#include "shardd/split.h"

#define KEYS 200u
#define CUT 8192u /* the child's first slot */
#define NEVER UINT64_MAX

static struct world w;
static struct client c;
static uint64_t versions[KEYS], first[KEYS]; /* of the last put, of the first */

static struct replica *replica_of(uint64_t group)
{
    struct replica *r = core_find_replica(w.core, group);
    ck_assert_ptr_nonnull(r);
    return r;
}

static const char *key_name(unsigned i)
{
    static char name[32];
    snprintf(name, sizeof name, "key-%u", i);
    return name;
}

static bool goes(unsigned i)
{
    return slot_of_key(slice_str(key_name(i))) >= CUT;
}

static struct msg_kv_request nth_put(unsigned i)
{
    return in_session(put_of(key_name(i), key_name(i)), i + 1);
}

static void setup(void)
{
    world_serve(&w, &c);
    for (unsigned i = 0; i < KEYS; i++)
        versions[i] = first[i] = client_call(&c, nth_put(i)).version;
}

static void teardown(void)
{
    world_end(&w, &c);
}

static void restart(void)
{
    world_restart(&w, &c, world_wait_leader);
}

static struct msg_step step_of(void)
{
    struct msg_step s = {.kind = MSG_STEP_SPLIT, .op = 7};
    s.shard.group = 1;
    s.shard.epoch = (struct shard_epoch){1, 1};
    s.other = (struct shard_desc){.group = 2,
                                  .first_slot = CUT,
                                  .last_slot = LIMIT_SLOTS - 1,
                                  .n_replicas = 1,
                                  .replica = {{21, 1, GROUP_VOTER}}};
    return s;
}

static void order(struct world *world, void *arg)
{
    struct msg_step s = step_of();
    (void)world;
    *(enum err *)arg = split_step(replica_of(1), &s);
}

/* The job does not start. */
static void hold(struct world *world, void *arg)
{
    (void)world;
    replica_of(1)->split.retry_at = *(uint64_t *)arg;
}

static void split_now(uint64_t not_before)
{
    enum err e = ERR_INTERNAL;
    world_call(&w, hold, &not_before);
    world_call(&w, order, &e);
    ck_assert_int_eq(e, ERR_OK);
}

struct look {
    bool split, pending, child, child_leads;
    uint64_t child_version;
};

static void look_run(struct world *world, void *arg)
{
    struct look *l = arg;
    const struct replica *parent = replica_of(1), *child = core_find_replica(world->core, 2);
    l->split = parent->shard.last_slot == CUT - 1;
    l->pending = split_pending(parent) == 2;
    l->child = child != NULL;
    l->child_leads = child && replica_is_leader(child);
    l->child_version = child ? child->shard.version : 0;
}

static struct look look(void)
{
    struct look l;
    world_call(&w, look_run, &l);
    return l;
}

static void wait_made(void)
{
    struct look l = look();
    for (unsigned i = 0; i < 1000 && (!l.split || l.pending || !l.child_leads); i++) {
        usleep(10000);
        l = look();
    }
    ck_assert_msg(l.split && !l.pending && l.child_leads, "split=%d pending=%d leads=%d", l.split,
                  l.pending, l.child_leads);
}

static void wait_pending(void)
{
    struct look l = look();
    for (unsigned i = 0; i < 1000 && !l.pending; i++) {
        usleep(10000);
        l = look();
    }
    ck_assert(l.split && l.pending && !l.child);
}

/* Each key is in the database of its group and in no other. */
static void check_databases(struct world *world, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < KEYS; i++) {
        for (uint64_t group = 1; group <= 2; group++) {
            uint8_t raw[ENGINE_KEY_MAX];
            struct engine_value value;
            struct slice key = slice_str(key_name(i));
            enum err e = engine_get(core_find_replica(world->core, group)->db,
                                    engine_key_data(raw, slot_of_key(key), key), false, &value);
            ck_assert_int_eq(e, goes(i) == (group == 2) ? ERR_OK : ERR_NOT_FOUND);
            if (e == ERR_OK)
                engine_value_close(&value);
        }
    }
    for (uint64_t group = 1; group <= 2; group++) {
        uint8_t raw[32];
        struct engine_value value;
        ck_assert_int_eq(engine_get(core_find_replica(world->core, group)->db,
                                    engine_key_meta(raw, ENGINE_META_CHILDREN), false, &value),
                         ERR_NOT_FOUND);
    }
}

/* The first puts are known as what they are, wherever their slots went, and change nothing. */
static void check_all(void)
{
    world_call(&w, check_databases, NULL);
    for (unsigned i = 0; i < KEYS; i++)
        ck_assert_uint_eq(client_call(&c, nth_put(i)).version, first[i]);
    for (unsigned i = 0; i < KEYS; i++) {
        struct answer_seen a = client_call(&c, get_of(key_name(i)));
        ck_assert_int_eq(a.err, ERR_OK);
        ck_assert_str_eq(a.value, key_name(i));
        ck_assert_uint_eq(a.version, versions[i]);
    }
}

START_TEST(a_child_has_all_that_left)
{
    uint64_t last = versions[KEYS - 1];
    split_now(0);
    wait_made();
    check_all();
    for (unsigned i = 0; i < 40; i++) { /* versions go on above those of the parent */
        versions[i] = client_call(&c, put_of(key_name(i), key_name(i))).version;
        ck_assert_uint_gt(versions[i], last);
    }
    restart();
    wait_made();
    check_all();
}
END_TEST

static void flush(struct world *world, void *arg)
{
    (void)world;
    (void)arg;
    replica_maintain(replica_of(1));
}

/* Before the child is made; the note is durable (1), or its entry comes again from the log (0). */
START_TEST(a_restart_goes_on_with_it)
{
    split_now(NEVER);
    wait_pending();
    for (unsigned i = 0; i < KEYS; i++) {
        struct answer_seen a = client_call(&c, get_of(key_name(i)));
        ck_assert_int_eq(a.err, goes(i) ? ERR_NO_LEADER : ERR_OK);
        ck_assert_uint_eq(a.hint, goes(i) ? 2 : 0);
    }
    if (_i == 1) {
        world_call(&w, flush, NULL);
        usleep(300000);
    }
    restart();
    wait_made();
    check_all();
}
END_TEST

static void make_child(struct world *world, void *arg)
{
    (void)arg;
    struct msg_step s = step_of();
    split_prep_drop(replica_of(1)); /* a database that is being prepared is in the way */
    replica_join(world->core, &s.other, 21);
}

/* One that placementd had join is there already: it gets its state from the others. */
START_TEST(a_child_that_is_there_stays)
{
    uint64_t now = 0;
    split_now(NEVER);
    wait_pending();
    world_call(&w, make_child, NULL);
    for (unsigned i = 0; i < 500 && !look().child; i++)
        usleep(10000);
    world_call(&w, hold, &now);
    for (unsigned i = 0; i < 500 && look().pending; i++)
        usleep(10000);
    struct look l = look();
    ck_assert(!l.pending && l.child && !l.child_leads);
    ck_assert_uint_eq(l.child_version, 0);
}
END_TEST

static void prepare(struct world *world, void *arg)
{
    struct shard_change change = {.kind = SHARD_PREPARE, .other = step_of().other};
    (void)world;
    (void)arg;
    split_prep_begin(replica_of(1), &change);
    split_continue(replica_of(1));
}

static void see_busy(struct world *world, void *arg)
{
    (void)world;
    *(bool *)arg = replica_of(1)->split.busy;
}

static void give_up(struct world *world, void *arg)
{
    (void)world;
    (void)arg;
    split_prep_drop(replica_of(1));
}

/* The directory of one that was prepared and given up could not get another name. */
START_TEST(what_was_given_up_is_in_no_childs_way)
{
    char path[600], in_the_way[700];
    bool busy = true;
    snprintf(path, sizeof path, "%s/groups/2", w.dir);
    world_call(&w, prepare, NULL);
    for (unsigned i = 0; i < 500 && (busy || !fs_exists(path)); i++) {
        usleep(10000);
        world_call(&w, see_busy, &busy);
    }
    for (unsigned i = 0; i < 10; i++) {
        snprintf(in_the_way, sizeof in_the_way, "%s.1.%u.gone", path, i);
        ck_assert_int_eq(fs_mkdir(in_the_way), ERR_OK);
        strcat(in_the_way, "/x");
        ck_assert_int_eq(fs_mkdir(in_the_way), ERR_OK);
    }
    world_call(&w, give_up, NULL);
    ck_assert(fs_exists(path));
    split_now(0);
    wait_made();
    check_all();
}
END_TEST

static void bury(struct world *world, void *arg)
{
    (void)arg;
    tombstones_add(&world->core->tombstones, 2, 21);
}

START_TEST(a_child_that_was_destroyed_stays_away)
{
    char path[600];
    snprintf(path, sizeof path, "%s/groups/2", w.dir);
    world_call(&w, bury, NULL);
    split_now(0);
    for (unsigned i = 0; i < 500 && (!look().split || look().pending); i++)
        usleep(10000);
    for (unsigned i = 0; i < 500 && (look().child || fs_exists(path)); i++)
        usleep(10000);
    struct look l = look();
    ck_assert(l.split && !l.pending && !l.child && !fs_exists(path));
}
END_TEST

/* A write that was on its way when the slots left. */
static void split_and_put(struct world *world, void *arg)
{
    struct session *s = CONTAINER_OF(list_first(&world->core->sessions), struct session, link);
    struct msg_kv_request m = put_of(key_name(*(unsigned *)arg), "late");
    struct shard_change change = {.kind = SHARD_SPLIT, .op = 7, .other = step_of().other};
    change.other.epoch = (struct shard_epoch){2, 1};
    ck_assert_int_eq(replica_propose_change(replica_of(1), &change), ERR_OK);
    ck_assert_int_eq(replica_propose_change(replica_of(1), &change), ERR_BUSY);
    router_dispatch(world->core, s, 0, 0, 99, &m, slice_of(NULL, 0));
}

START_TEST(a_write_under_way_is_sent_on)
{
    unsigned i = 0;
    while (!goes(i))
        i++;
    world_call(&w, split_and_put, &i);
    struct answer_seen a = client_take(&c, KV_METHOD_PUT);
    ck_assert_uint_eq(a.msgid, 99);
    ck_assert_int_eq(a.err, ERR_WRONG_SHARD);
    ck_assert_uint_eq(a.hint, 2);
    wait_made();
    check_all(); /* it was not applied */
}
END_TEST

static void order_and_add(struct world *world, void *arg)
{
    struct replica *r = replica_of(1);
    struct group_conf conf = r->applied.conf;
    enum err e;
    order(world, &e);
    ck_assert_int_eq(e, ERR_OK);
    conf.member[conf.n++] = (struct group_member){99, 2, GROUP_STANDBY};
    ck_assert_int_eq(group_change(r->group, &conf), ERR_OK);
    (void)arg;
}

static void is_put_off(struct world *world, void *arg)
{
    const struct replica *r = replica_of(1);
    (void)world;
    *(bool *)arg = r->split.next.kind == 0 && r->shard.epoch.members == 2;
}

/* A late step of another operator changes the members between PREPARE and SPLIT: the child would
 * sit where the parent does not. */
START_TEST(members_that_change_put_it_off)
{
    bool off = false;
    world_call(&w, order_and_add, NULL);
    for (unsigned i = 0; i < 500 && !off; i++) {
        usleep(10000);
        world_call(&w, is_put_off, &off);
    }
    ck_assert(off);
    usleep(200000);
    struct look l = look();
    ck_assert(!l.split && !l.pending && !l.child);
}
END_TEST

static void try_steps(struct world *world, void *arg)
{
    static const struct {
        enum err want;
        uint16_t first, last;
        uint32_t node, range;
        uint8_t role;
    } t[] = {
        {ERR_REFUSED, 0, LIMIT_SLOTS - 1, 1, 1, GROUP_VOTER}, /* all of it */
        {ERR_REFUSED, 5, 9, 1, 1, GROUP_VOTER},               /* the middle */
        {ERR_REFUSED, CUT, LIMIT_SLOTS - 1, 2, 1, GROUP_VOTER},
        {ERR_REFUSED, CUT, LIMIT_SLOTS - 1, 1, 1, GROUP_STANDBY},
        {ERR_WRONG_EPOCH, CUT, LIMIT_SLOTS - 1, 1, 2, GROUP_VOTER},
        {ERR_WRONG_EPOCH, CUT, LIMIT_SLOTS - 1, 1, 0, GROUP_VOTER},
    };
    struct replica *r = replica_of(1);
    (void)arg;
    struct msg_step s;
    for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
        s = step_of();
        s.other.first_slot = t[i].first;
        s.other.last_slot = t[i].last;
        s.other.replica[0].node = t[i].node;
        s.other.replica[0].role = t[i].role;
        s.shard.epoch.range = t[i].range;
        ck_assert_msg(split_step(r, &s) == t[i].want, "step %zu", i);
    }
    s = step_of();
    s.other.n_replicas = 2;
    s.other.replica[1] = (struct shard_replica){22, 2, GROUP_VOTER};
    ck_assert_int_eq(split_step(r, &s), ERR_REFUSED);
    s = step_of();
    world->core->no_space = true;
    ck_assert_int_eq(split_step(r, &s), ERR_NO_SPACE);
    world->core->no_space = false;
    r->checkpoints++;
    r->checkpointing++;
    ck_assert_int_eq(split_step(r, &s), ERR_BUSY);
    r->checkpoints--;
    r->checkpointing--;
    ck_assert_uint_eq(r->split.next.kind, 0);
    ck_assert(!replica_change_unsettled(r));
}

START_TEST(steps_that_do_not_fit)
{
    world_call(&w, try_steps, NULL);
    struct look l = look();
    ck_assert(!l.split && !l.pending);
}
END_TEST

/* ---- pure ---- */

static bool has(struct engine_db *db, uint16_t slot)
{
    uint8_t raw[ENGINE_KEY_MAX];
    struct engine_value v;
    enum err e = engine_get(db, engine_key_data(raw, slot, slice_str("k")), false, &v);
    if (e == ERR_OK)
        engine_value_close(&v);
    return e == ERR_OK;
}

START_TEST(a_database_from_elsewhere)
{
    char path[600], msg[256];
    struct engine_db *db;
    uint8_t raw[64];
    struct engine_value v;
    struct shard s = {.group = 1, .replica = 1, .first_slot = 100, .last_slot = 199};
    snprintf(path, sizeof path, "%s/other", w.dir);
    ck_assert_int_eq(engine_open(w.node.engine, path, true, &db, msg, sizeof msg), ERR_OK);
    struct engine_batch *b = engine_batch_create();
    for (unsigned slot = 0; slot < LIMIT_SLOTS; slot += 99)
        engine_batch_put(b, engine_key_data(raw, (uint16_t)slot, slice_str("k")), slice_str("v"));
    engine_batch_put(b, engine_key_meta(raw, ENGINE_META_CHILDREN), slice_str("x"));
    ck_assert_int_eq(engine_write(db, b), ERR_OK);
    engine_batch_clear(b);
    if (_i == 1) { /* what a merge takes in stays */
        s.phase = SHARD_PHASE_TARGET;
        s.peer_first = 200;
        s.peer_last = 299;
    }
    split_adopt(b, &s);
    ck_assert_int_eq(engine_write(db, b), ERR_OK);
    for (unsigned slot = 0; slot < LIMIT_SLOTS; slot += 99)
        ck_assert_msg(has(db, (uint16_t)slot) == (slot == 198 || (slot == 297 && _i == 1)),
                      "slot %u", slot);
    ck_assert_int_eq(engine_get(db, engine_key_meta(raw, ENGINE_META_CHILDREN), false, &v),
                     ERR_NOT_FOUND);
    engine_batch_destroy(b);
    engine_close(db);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("split");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_child_has_all_that_left);
    tcase_add_loop_test(t, a_restart_goes_on_with_it, 0, 2);
    tcase_add_test(t, a_child_that_is_there_stays);
    tcase_add_test(t, what_was_given_up_is_in_no_childs_way);
    tcase_add_test(t, a_child_that_was_destroyed_stays_away);
    tcase_add_test(t, a_write_under_way_is_sent_on);
    tcase_add_test(t, members_that_change_put_it_off);
    tcase_add_test(t, steps_that_do_not_fit);
    tcase_add_loop_test(t, a_database_from_elsewhere, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
