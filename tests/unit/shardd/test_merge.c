/* Merges of two groups on one node, over the real engine: copying under writes, restarts and
 * aborts at every stage, what is left behind. */
#include "tests/unit/shardd/core_world.h"

#include "common/meta/slot.h"
#include "shardd/merge.h"
#include "shardd/merge_copy.h"

#define SOURCE 1u
#define TARGET 2u
#define HALF (LIMIT_SLOTS / 2)
#define KEYS 600u

static struct world w;
static struct client c;
static unsigned generation; /* of the values */

struct expected {
    unsigned generation; /* 0: not there */
    uint64_t version;
    uint64_t seq;          /* of the last write, 0: none */
    uint64_t last_version; /* that it got */
};
static struct expected expected[KEYS];
static uint64_t next_seq;

/* ---- two groups ---- */

static struct shard_desc desc_of(uint64_t group)
{
    struct shard_desc d = {.group = group, .epoch = {1, 1}, .n_replicas = 1};
    d.first_slot = group == SOURCE ? 0 : HALF;
    d.last_slot = group == SOURCE ? HALF - 1 : LIMIT_SLOTS - 1;
    d.replica[0] = (struct shard_replica){.replica = group, .node = 1, .role = GROUP_VOTER};
    return d;
}

static void make_groups(struct world *world, void *arg)
{
    (void)arg;
    for (uint64_t g = SOURCE; g <= TARGET; g++) {
        struct shard_desc d = desc_of(g);
        replica_create(world->core, &d, g, true);
    }
    world->node.options.merge_chunk = 1000;
}

static void both_lead(struct world *world, void *arg)
{
    struct replica *s = core_find_replica(world->core, SOURCE);
    struct replica *t = core_find_replica(world->core, TARGET);
    *(bool *)arg = s && t && replica_is_leader(s) && replica_is_leader(t);
    world->node.options.merge_chunk = 1000;
}

static void wait_leaders(struct world *world)
{
    bool lead = false;
    for (unsigned i = 0; i < 1000 && !lead; i++) {
        world_call(world, both_lead, &lead);
        usleep(lead ? 0 : 10000);
    }
    ck_assert_msg(lead, "no leaders within 10 s");
}

static void setup(void)
{
    generation = 0;
    next_seq = 0;
    memset(expected, 0, sizeof expected);
    world_create(&w);
    world_call(&w, make_groups, NULL);
    wait_leaders(&w);
    world_connect(&w, &c);
}

static void teardown(void)
{
    world_end(&w, &c);
}

static void restart(void)
{
    world_restart(&w, &c, wait_leaders);
}

/* ---- keys ---- */

static const char *key_of(unsigned i)
{
    static char text[32];
    snprintf(text, sizeof text, "key-%u", i);
    return text;
}

static bool in_source(unsigned i)
{
    return slot_of_key(slice_str(key_of(i))) < HALF;
}

static void change(unsigned i)
{
    char value[64];
    bool gone = generation % 7 == i % 7;
    struct msg_kv_request m = {.method = KV_METHOD_DELETE, .key = slice_str(key_of(i))};
    snprintf(value, sizeof value, "value %u of %s", generation, key_of(i));
    if (!gone)
        m = put_of(key_of(i), value);
    struct answer_seen a = client_call(&c, in_session(m, ++next_seq));
    ck_assert_int_eq(a.err, ERR_OK);
    expected[i] = (struct expected){gone ? 0 : generation, a.version, next_seq, a.version};
}

/* The last write of each key again: it is known, by whoever has the key now, and changes nothing.
 */
static void repeat_all(void)
{
    for (unsigned i = 0; i < KEYS; i++) {
        if (expected[i].seq == 0)
            continue;
        struct msg_kv_request again = in_session(put_of(key_of(i), "twice"), expected[i].seq);
        struct answer_seen a = client_call(&c, again);
        ck_assert_int_eq(a.err, ERR_OK);
        ck_assert_uint_eq(a.version, expected[i].last_version);
    }
}

/* Every `step`-th key of the source, or of both. */
static void change_some(unsigned step, bool all)
{
    generation++;
    for (unsigned i = generation % step; i < KEYS; i += step)
        if (all || in_source(i))
            change(i);
}

static void expect_all(void)
{
    repeat_all();
    for (unsigned i = 0; i < KEYS; i++) {
        char value[64];
        struct answer_seen a = client_call(&c, get_of(key_of(i)));
        snprintf(value, sizeof value, "value %u of %s", expected[i].generation, key_of(i));
        if (expected[i].generation == 0) {
            ck_assert_int_eq(a.err, ERR_NOT_FOUND);
            continue;
        }
        ck_assert_int_eq(a.err, ERR_OK);
        ck_assert_str_eq(a.value, value);
        ck_assert_uint_eq(a.version, expected[i].version);
    }
}

/* ---- steps ---- */

struct look {
    uint64_t op;
    struct shard source, target;
    uint8_t copy;
    enum replica_state state;
};

static void look_inside(struct world *world, void *arg)
{
    struct look *l = arg;
    const struct replica *s = core_find_replica(world->core, SOURCE);
    const struct replica *t = core_find_replica(world->core, TARGET);
    l->source = s->shard;
    l->target = t->shard;
    l->copy = merge_copy_state(t);
    l->state = t->state;
}

struct step_call {
    uint64_t group;
    struct msg_step step;
    enum err result;
};

static void step_inside(struct world *world, void *arg)
{
    struct step_call *s = arg;
    struct replica *r = core_find_replica(world->core, s->group);
    struct replica *other = core_find_replica(world->core, s->group == SOURCE ? TARGET : SOURCE);
    replica_describe(r, &s->step.shard);
    replica_describe(other, &s->step.other);
    s->result = merge_step(r, &s->step);
}

static enum err step_once(uint8_t kind, uint64_t op)
{
    bool at_target =
        kind == MSG_STEP_MERGE_TARGET || kind == MSG_STEP_MERGE_OWN || kind == MSG_STEP_MERGE_ABORT;
    struct step_call s = {.group = at_target ? TARGET : SOURCE, .step = {.kind = kind, .op = op}};
    world_call(&w, step_inside, &s);
    return s.result;
}

static bool shows(const struct look *l, uint8_t kind, uint64_t op)
{
    static const uint8_t phases[] = {
        [MSG_STEP_MERGE_TARGET] = SHARD_PHASE_TARGET, [MSG_STEP_MERGE_INTENT] = SHARD_PHASE_SOURCE,
        [MSG_STEP_MERGE_FREEZE] = SHARD_PHASE_FROZEN, [MSG_STEP_MERGE_OWN] = SHARD_PHASE_NONE,
        [MSG_STEP_MERGE_ABORT] = SHARD_PHASE_NONE,    [MSG_STEP_MERGE_UNFREEZE] = SHARD_PHASE_NONE,
    };
    bool at_source = kind == MSG_STEP_MERGE_INTENT || kind == MSG_STEP_MERGE_FREEZE ||
                     kind == MSG_STEP_MERGE_UNFREEZE;
    const struct shard *s = at_source ? &l->source : &l->target;
    return s->merge == op && s->phase == phases[kind];
}

/* Orders it until the shard shows it, as placementd does. */
static void step(uint8_t kind, uint64_t op)
{
    struct look l = {0};
    for (unsigned i = 0; i < 1000; i++) {
        ck_assert_int_ne(step_once(kind, op), ERR_REFUSED);
        world_call(&w, look_inside, &l);
        if (shows(&l, kind, op))
            return;
        usleep(10000);
    }
    ck_abort_msg("step %u never came about", kind);
}

static void wait_copy(uint8_t state)
{
    struct look l = {0};
    for (unsigned i = 0; i < 2000 && l.copy < state; i++) {
        world_call(&w, look_inside, &l);
        usleep(l.copy < state ? 5000 : 0);
    }
    ck_assert_uint_ge(l.copy, state);
}

enum stage { TAKEN, INTENDED, COPIED, FROZEN, COMPLETED, OWNED, STAGES };

static void go(enum stage to, uint64_t op)
{
    switch (to) {
    case TAKEN:
        step(MSG_STEP_MERGE_TARGET, op);
        break;
    case INTENDED:
        step(MSG_STEP_MERGE_INTENT, op);
        break;
    case COPIED:
        wait_copy(MSG_COPY_BULK);
        break;
    case FROZEN:
        step(MSG_STEP_MERGE_FREEZE, op);
        break;
    case COMPLETED:
        wait_copy(MSG_COPY_COMPLETE);
        break;
    default:
        step(MSG_STEP_MERGE_OWN, op);
    }
}

/* ---- what is in the databases ---- */

static bool count_pair(void *arg, struct slice key, struct slice value)
{
    (void)key;
    (void)value;
    ++*(unsigned *)arg;
    return true;
}

struct left {
    bool busy; /* an offload thread is at one of the engines: nothing was looked at */
    unsigned copied, changes, marks;
};

static void left_inside(struct world *world, void *arg)
{
    struct left *l = arg;
    struct replica *source = core_find_replica(world->core, SOURCE);
    struct replica *target = core_find_replica(world->core, TARGET);
    struct engine_db *s = source->db, *t = target->db;
    struct engine_key_range range;
    struct merge_mark mark = {0};
    l->busy = source->busy_offload || target->busy_offload;
    if (l->busy)
        return;
    replica_freeze(source);
    replica_freeze(target);
    ck_assert_int_eq(engine_flush_frozen(s), ERR_OK);
    ck_assert_int_eq(engine_flush_frozen(t), ERR_OK);
    engine_key_slots(0, HALF - 1, &range);
    ck_assert_int_eq(
        engine_scan(t, engine_key_from(&range), engine_key_to(&range), count_pair, &l->copied),
        ERR_OK);
    ck_assert_int_eq(engine_scan(s, slice_of("c", 1), slice_of("d", 1), count_pair, &l->changes),
                     ERR_OK);
    l->marks = merge_mark_load(t, &mark) == ERR_OK;
    merge_mark_close(&mark);
}

static struct left look_left(void)
{
    struct left left = {.busy = true};
    while (left.busy)
        world_call(&w, left_inside, &left);
    return left;
}

/* ---- tests ---- */

START_TEST(a_merge_under_writes)
{
    struct look l;
    change_some(1, true);
    go(TAKEN, 1);
    change_some(5, true);
    go(INTENDED, 1);
    change_some(3, true);
    change_some(4, true);
    go(COPIED, 1);
    change_some(6, true);
    go(FROZEN, 1);
    unsigned i = 0;
    while (!in_source(i))
        i++;
    struct answer_seen a = client_call(&c, put_of(key_of(i), "no"));
    ck_assert_int_eq(a.err, ERR_BUSY);
    ck_assert_int_eq(client_call(&c, get_of(key_of(i))).err, ERR_BUSY);
    go(COMPLETED, 1);
    world_call(&w, look_inside, &l);
    uint64_t highest = l.source.version > l.target.version ? l.source.version : l.target.version;
    go(OWNED, 1);
    world_call(&w, look_inside, &l);
    ck_assert(l.target.first_slot == 0 && l.target.last_slot == LIMIT_SLOTS - 1);
    ck_assert_uint_gt(l.target.epoch.range, l.source.epoch.range);
    ck_assert_uint_ge(l.target.version, highest);
    expect_all();
    a = client_call(&c, put_of(key_of(i), "yes"));
    ck_assert_int_eq(a.err, ERR_OK);
    ck_assert_uint_gt(a.version, highest);
    struct left left = look_left();
    ck_assert_uint_eq(left.marks, 0);
}
END_TEST

/* The process ends at the stage _i and comes back; once more at the end. */
START_TEST(a_restart_at_every_stage)
{
    change_some(1, true);
    for (enum stage s = TAKEN; s < STAGES; s++) {
        go(s, 1);
        if (s < FROZEN)
            change_some(4, true);
        if ((int)s == _i)
            restart();
        if (s < FROZEN)
            change_some(9, true);
    }
    expect_all();
    restart();
    expect_all();
}
END_TEST

static void give_up(uint64_t op)
{
    step(MSG_STEP_MERGE_ABORT, op);
    step(MSG_STEP_MERGE_UNFREEZE, op);
}

/* Given up after the stage _i, also over a restart; then it is merged after all. */
START_TEST(an_abort_at_every_stage)
{
    change_some(1, true);
    for (int s = TAKEN; s <= _i; s++) {
        go((enum stage)s, 1);
        if (s < FROZEN)
            change_some(4, true);
    }
    ck_assert_int_ne(step_once(MSG_STEP_MERGE_OWN, 7), ERR_OK);
    give_up(1);
    ck_assert_int_ne(step_once(MSG_STEP_MERGE_TARGET, 1), ERR_OK);
    struct left left = look_left();
    ck_assert_msg(left.copied == 0 && left.changes == 0 && left.marks == 0,
                  "copied %u changes %u marks %u", left.copied, left.changes, left.marks);
    if (_i % 2)
        restart();
    expect_all();
    change_some(2, true);
    for (enum stage s = TAKEN; s < STAGES; s++) {
        go(s, 2);
        if (s < FROZEN)
            change_some(5, true);
    }
    expect_all();
}
END_TEST

/* UNFREEZE waits for the target to let go; OWN for a copy that is complete. */
START_TEST(steps_keep_their_order)
{
    struct look l;
    change_some(1, true);
    ck_assert_int_eq(step_once(MSG_STEP_MERGE_OWN, 1), ERR_REFUSED);
    go(TAKEN, 1);
    ck_assert_int_eq(step_once(MSG_STEP_MERGE_OWN, 1), ERR_NOT_READY);
    go(INTENDED, 1);
    go(COPIED, 1);
    ck_assert_int_eq(step_once(MSG_STEP_MERGE_OWN, 1), ERR_NOT_READY);
    go(FROZEN, 1);
    for (unsigned i = 0; i < 20; i++) {
        (void)!step_once(MSG_STEP_MERGE_UNFREEZE, 1);
        usleep(2000);
    }
    world_call(&w, look_inside, &l);
    ck_assert_uint_eq(l.source.phase, SHARD_PHASE_FROZEN);
    go(COMPLETED, 1);
    go(OWNED, 1);
    (void)!step_once(MSG_STEP_MERGE_ABORT, 1);
    for (unsigned i = 0; i < 20; i++) {
        (void)!step_once(MSG_STEP_MERGE_UNFREEZE, 1);
        usleep(2000);
    }
    world_call(&w, look_inside, &l);
    ck_assert_uint_eq(l.source.phase, SHARD_PHASE_FROZEN);
    ck_assert_uint_eq(l.target.first_slot, 0);
    expect_all();
}
END_TEST

static void break_target(struct world *world, void *arg)
{
    (void)arg;
    replica_set_broken(core_find_replica(world->core, TARGET), ERR_CORRUPT, "by the test");
}

/* It never hears of its ABORT: that the others have logged it must be enough. */
START_TEST(a_broken_target_freezes_nobody)
{
    change_some(1, true);
    for (enum stage s = TAKEN; s <= FROZEN; s++)
        go(s, 1);
    world_call(&w, break_target, NULL);
    step(MSG_STEP_MERGE_UNFREEZE, 1);
    change_some(2, false);
}
END_TEST

static void destroy_source(struct world *world, void *arg)
{
    (void)arg;
    core_destroy_replica(world->core, SOURCE, SOURCE);
}

static void source_is_gone(struct world *world, void *arg)
{
    *(bool *)arg = core_find_replica(world->core, SOURCE) == NULL;
}

START_TEST(the_source_is_destroyed_afterwards)
{
    bool gone = false;
    change_some(1, true);
    for (enum stage s = TAKEN; s < STAGES; s++)
        go(s, 1);
    world_call(&w, destroy_source, NULL);
    for (unsigned i = 0; i < 500 && !gone; i++) {
        world_call(&w, source_is_gone, &gone);
        usleep(10000);
    }
    ck_assert(gone);
    expect_all();
    change_some(3, true);
    expect_all();
}
END_TEST

START_TEST(marks_round_trip)
{
    struct buf b = {0};
    struct merge_mark out = {0};
    struct merge_mark in = {.op = 9, .stage = MERGE_FOLLOW, .version = 1234, .frozen_index = 5};
    buf_append(&in.cursor, "abc", 3);
    merge_mark_encode(&in, &b);
    ck_assert_int_eq(merge_mark_decode(buf_slice(&b), &out), ERR_OK);
    ck_assert(out.op == 9 && out.stage == MERGE_FOLLOW && out.version == 1234 &&
              out.frozen_index == 5 && slice_eq(buf_slice(&out.cursor), slice_str("abc")));
    merge_mark_close(&out);
    for (size_t n = 0; n < b.n; n++)
        ck_assert_int_eq(merge_mark_decode(slice_of(b.p, n), &out), ERR_CORRUPT);
    b.p[0]++;
    ck_assert_int_eq(merge_mark_decode(buf_slice(&b), &out), ERR_FORMAT);
    b.p[0]--;
    b.p[9] = 4; /* no such stage */
    ck_assert_int_eq(merge_mark_decode(buf_slice(&b), &out), ERR_CORRUPT);
    buf_close(&b);
    merge_mark_close(&in);
}
END_TEST

struct promise_call {
    struct merge_promise promise;
    struct shard shard;
    bool keeps;
};

static void keeps_inside(struct world *world, void *arg)
{
    struct promise_call *p = arg;
    struct replica *t = core_find_replica(world->core, TARGET);
    if (p->promise.op == 0)
        p->promise = merge_promised(t);
    p->keeps = merge_keeps(&p->promise, &p->shard, t->db);
}

static bool keeps(const struct merge_promise *p, uint64_t merge, uint8_t phase)
{
    struct promise_call call = {.promise = *p, .shard = {.merge = merge, .phase = phase}};
    world_call(&w, keeps_inside, &call);
    return call.keeps;
}

/* A snapshot must not take back a copy that was reported as complete. */
START_TEST(promises_are_kept)
{
    struct promise_call call = {0};
    change_some(1, true);
    go(TAKEN, 5);
    world_call(&w, keeps_inside, &call);
    ck_assert(call.promise.op == 0 && call.keeps); /* nothing was promised */
    struct merge_promise p = {.op = 5, .frozen_index = 1};
    ck_assert(!keeps(&p, 5, SHARD_PHASE_TARGET)); /* not complete */
    ck_assert(!keeps(&p, 4, SHARD_PHASE_NONE));   /* from before */
    ck_assert(keeps(&p, 5, SHARD_PHASE_NONE));
    ck_assert(keeps(&p, 6, SHARD_PHASE_TARGET));
    for (enum stage s = INTENDED; s <= COMPLETED; s++)
        go(s, 5);
    call = (struct promise_call){.shard = {.merge = 5, .phase = SHARD_PHASE_TARGET}};
    world_call(&w, keeps_inside, &call);
    ck_assert(call.promise.op == 5 && call.keeps);
    p = call.promise;
    p.frozen_index++;
    ck_assert(!keeps(&p, 5, SHARD_PHASE_TARGET));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("merge");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, a_merge_under_writes);
    tcase_add_loop_test(t, a_restart_at_every_stage, TAKEN, STAGES);
    tcase_add_loop_test(t, an_abort_at_every_stage, TAKEN, OWNED);
    tcase_add_test(t, steps_keep_their_order);
    tcase_add_test(t, a_broken_target_freezes_nobody);
    tcase_add_test(t, the_source_is_destroyed_afterwards);
    tcase_add_test(t, promises_are_kept);
    suite_add_tcase(s, t);
    TCase *pure = tcase_create("pure");
    tcase_add_test(pure, marks_round_trip);
    suite_add_tcase(s, pure);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
