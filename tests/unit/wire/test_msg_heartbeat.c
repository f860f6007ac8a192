#include "common/wire/msg_heartbeat.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "common/wire/mp.h"
#include "common/wire/rpc.h"
#include "common/wire/skim.h"
#include "tests/unit/wire/message.h"

/* The one parameter or result of the message in `b`. */
static struct slice body(void)
{
    struct rpc_message m;
    ck_assert_int_eq(rpc_decode(buf_slice(&b), &m), ERR_OK);
    return m.type == RPC_REQUEST ? m.params : m.result;
}

static struct shard_desc shard_of(uint64_t group)
{
    return (struct shard_desc){.group = group,
                               .first_slot = 100,
                               .last_slot = 200,
                               .epoch = {3, 4},
                               .leader = 12,
                               .n_replicas = 2,
                               .replica = {{11, 1, 1}, {12, 2, 0}}};
}

static void check_shard(const struct shard_desc *s, uint64_t group)
{
    struct shard_desc want = shard_of(group);
    ck_assert_uint_eq(s->group, group);
    ck_assert_uint_eq(s->first_slot, want.first_slot);
    ck_assert_uint_eq(s->last_slot, want.last_slot);
    ck_assert_uint_eq(s->epoch.range, 3);
    ck_assert_uint_eq(s->epoch.members, 4);
    ck_assert_uint_eq(s->leader, 12);
    ck_assert_uint_eq(s->n_replicas, 2);
    ck_assert_uint_eq(s->replica[1].replica, 12);
    ck_assert_uint_eq(s->replica[1].node, 2);
}

START_TEST(heartbeat_round_trip)
{
    struct msg_group_status groups[2] = {
        {.group = 7,
         .replica = 11,
         .role = 1,
         .state = MSG_REPLICA_LEADER,
         .term = 5,
         .epoch = {1, 2},
         .first_slot = 3,
         .last_slot = 9,
         .leader = 11,
         .applied = 1000,
         .bytes = 1ULL << 40,
         .keys = 77,
         .reads = 101,
         .writes = 102,
         .phase = SHARD_PHASE_SOURCE,
         .copy = MSG_COPY_BULK,
         .merge = 55,
         .child = 66,
         .refused_op = 88,
         .refused_err = ERR_BUSY,
         .chunks = 99,
         .peer = 17,
         .log_term = 6,
         .log_index = 1ULL << 40,
         .n_members = 2,
         .member = {{11, 1, 1, 1000}, {12, 2, 0, 990}}},
        {.group = 8, .replica = 13},
    };
    struct msg_heartbeat h = {.node = 2,
                              .incarnation = 1ULL << 60,
                              .have = 9,
                              .disk_free = 10,
                              .disk_size = 20,
                              .write_p99_us = 1234,
                              .moving = 5678,
                              .version = "1.2.3",
                              .n_groups = 2,
                              .groups = groups};
    struct msg_heartbeat out;
    msg_heartbeat_encode(&b, 1, &h);
    ck_assert_int_eq(msg_heartbeat_decode(body(), &out), ERR_OK);
    ck_assert_uint_eq(out.node, 2);
    ck_assert_uint_eq(out.write_p99_us, 1234);
    ck_assert_uint_eq(out.moving, 5678);
    ck_assert_str_eq(out.version, "1.2.3");
    ck_assert_uint_eq(out.n_groups, 2);
    const struct msg_group_status *s = &out.groups[0];
    ck_assert_uint_eq(s->reads, 101);
    ck_assert_uint_eq(s->writes, 102);
    ck_assert_uint_eq(s->phase, SHARD_PHASE_SOURCE);
    ck_assert_uint_eq(s->copy, MSG_COPY_BULK);
    ck_assert_uint_eq(s->merge, 55);
    ck_assert_uint_eq(s->child, 66);
    ck_assert_uint_eq(s->refused_op, 88);
    ck_assert_uint_eq(s->refused_err, ERR_BUSY);
    ck_assert_uint_eq(s->chunks, 99);
    ck_assert_uint_eq(s->peer, 17);
    ck_assert_uint_eq(s->log_term, 6);
    ck_assert_uint_eq(s->log_index, 1ULL << 40);
    ck_assert_uint_eq(s->n_members, 2);
    ck_assert_uint_eq(s->member[1].match, 990);
    ck_assert_uint_eq(out.groups[1].replica, 13);
    ck_assert_uint_eq(out.groups[1].reads, 0);
    msg_heartbeat_close(&out);
}
END_TEST

/* One that is too broken to know its number must not silence the node. */
START_TEST(replica_without_a_number)
{
    struct msg_group_status groups[2] = {{.group = 7, .replica = 11}, {.group = 8}};
    struct msg_heartbeat h = {.node = 2, .incarnation = 1, .n_groups = 2, .groups = groups};
    struct msg_heartbeat out;
    groups[1].state = MSG_REPLICA_BROKEN;
    msg_heartbeat_encode(&b, 1, &h);
    ck_assert_int_eq(msg_heartbeat_decode(body(), &out), ERR_OK);
    ck_assert_uint_eq(out.groups[1].replica, 0);
    msg_heartbeat_close(&out);
    groups[1].state = MSG_REPLICA_FOLLOWER;
    buf_clear(&b);
    msg_heartbeat_encode(&b, 1, &h);
    ck_assert_int_eq(msg_heartbeat_decode(body(), &out), ERR_BAD_REQUEST);
}
END_TEST

static void put_pair(const char *key, uint64_t v)
{
    mp_put_str(&b, key);
    mp_put_uint(&b, v);
}

/* A status of a sender that knows `n` of its elements; those after 22 are of one yet to come. */
static void put_status_of(uint32_t n)
{
    mp_put_array(&b, n);
    for (uint32_t i = 0; i < n; i++) {
        if (i == 5) {
            mp_put_array(&b, 2);
            mp_put_uint(&b, 1);
            mp_put_uint(&b, 1);
        } else if (i == 12) {
            mp_put_array(&b, 0);
        } else {
            mp_put_uint(&b, i == 4 ? 9 : i == 6 || i == 7 ? 5 : i == 15 || i == 16 ? 2 : 1);
        }
    }
}

START_TEST(heartbeat_of_other_versions)
{
    for (uint32_t n = 12; n <= 24; n++) {
        buf_clear(&b);
        mp_put_array(&b, 1);
        mp_put_map(&b, 4);
        put_pair("node", 3);
        put_pair("inc", 4);
        put_pair("not known yet", 5);
        mp_put_str(&b, "groups");
        mp_put_array(&b, 1);
        put_status_of(n);
        struct msg_heartbeat out;
        enum err e = msg_heartbeat_decode(buf_slice(&b), &out);
        if (n < 13) {
            ck_assert_int_eq(e, ERR_BAD_REQUEST);
            continue;
        }
        ck_assert_int_eq(e, ERR_OK);
        ck_assert_uint_eq(out.groups[0].term, 9);
        ck_assert_uint_eq(out.groups[0].reads, n > 13);
        ck_assert_uint_eq(out.groups[0].copy, n > 16 ? 2 : 0);
        ck_assert_uint_eq(out.groups[0].refused_err, n > 20);
        ck_assert_uint_eq(out.groups[0].chunks, n > 21);
        ck_assert_str_eq(out.version, "");
        msg_heartbeat_close(&out);
    }
}
END_TEST

START_TEST(reply_round_trip)
{
    struct msg_step steps[3] = {
        {.kind = MSG_STEP_CREATE_REPLICA, .replica = 12, .join = true, .shard = shard_of(5)},
        {.kind = MSG_STEP_ADD_STANDBY, .replica = 13, .op = 99, .node = 4, .shard = shard_of(6)},
        {.kind = MSG_STEP_SPLIT, .op = 100, .shard = shard_of(7), .other = shard_of(8)},
    };
    struct msg_heartbeat_reply r = {.version = 6,
                                    .move_rate = 1ULL << 30,
                                    .n_steps = 3,
                                    .steps = steps,
                                    .n_members = 2,
                                    .member = {"10.0.0.1:7001", "[::1]:7001"}};
    struct msg_heartbeat_reply out;
    msg_heartbeat_reply_encode(&b, 1, &r);
    ck_assert_int_eq(msg_heartbeat_reply_decode(body(), &out), ERR_OK);
    ck_assert_uint_eq(out.version, 6);
    ck_assert_uint_eq(out.move_rate, 1ULL << 30);
    ck_assert_uint_eq(out.n_steps, 3);
    ck_assert_uint_eq(out.n_members, 2);
    ck_assert_str_eq(out.member[1], "[::1]:7001");
    ck_assert(out.steps[0].join && !out.steps[0].campaign);
    ck_assert_uint_eq(out.steps[0].other.group, 0);
    check_shard(&out.steps[0].shard, 5);
    ck_assert_uint_eq(out.steps[1].op, 99);
    ck_assert_uint_eq(out.steps[1].node, 4);
    ck_assert_uint_eq(out.steps[2].kind, MSG_STEP_SPLIT);
    check_shard(&out.steps[2].shard, 7);
    check_shard(&out.steps[2].other, 8);
    msg_heartbeat_reply_close(&out);
}
END_TEST

/* Steps as the first format had them: five elements. */
START_TEST(reply_of_an_older_sender)
{
    mp_put_map(&b, 2);
    put_pair("version", 4);
    mp_put_str(&b, "steps");
    mp_put_array(&b, 1);
    mp_put_array(&b, 5);
    mp_put_uint(&b, MSG_STEP_DESTROY_REPLICA);
    mp_put_uint(&b, 9);
    mp_put_bool(&b, false);
    mp_put_bool(&b, false);
    mp_put_array(&b, 6);
    mp_put_uint(&b, 5);
    mp_put_uint(&b, 1);
    mp_put_uint(&b, 2);
    mp_put_array(&b, 2);
    mp_put_uint(&b, 1);
    mp_put_uint(&b, 1);
    mp_put_uint(&b, 0);
    mp_put_array(&b, 0);
    struct msg_heartbeat_reply out;
    ck_assert_int_eq(msg_heartbeat_reply_decode(buf_slice(&b), &out), ERR_OK);
    ck_assert_uint_eq(out.n_steps, 1);
    ck_assert_uint_eq(out.steps[0].replica, 9);
    ck_assert_uint_eq(out.steps[0].op, 0);
    ck_assert_uint_eq(out.steps[0].other.group, 0);
    ck_assert_uint_eq(out.move_rate, 0);
    msg_heartbeat_reply_close(&out);
}
END_TEST

/* What a kind needs must be there. */
START_TEST(steps_that_do_not_fit)
{
    struct msg_step bad[] = {
        {.kind = MSG_STEP_CREATE_REPLICA},
        {.kind = MSG_STEP_ADD_STANDBY, .replica = 3},
        {.kind = MSG_STEP_PROMOTE},
        {.kind = MSG_STEP_SPLIT, .op = 1},
        {.kind = MSG_STEP_MERGE_OWN, .op = 1},
        {.kind = MSG_STEP_FORCE},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        bad[i].shard = shard_of(5);
        struct msg_heartbeat_reply r = {.version = 1, .n_steps = 1, .steps = &bad[i]}, out;
        buf_clear(&b);
        msg_heartbeat_reply_encode(&b, 1, &r);
        ck_assert_int_eq(msg_heartbeat_reply_decode(body(), &out), ERR_BAD_REQUEST);
    }
    struct msg_step later = {.kind = 200, .shard = shard_of(5)};
    struct msg_heartbeat_reply r = {.version = 1, .n_steps = 1, .steps = &later}, out;
    buf_clear(&b);
    msg_heartbeat_reply_encode(&b, 1, &r);
    ck_assert_int_eq(msg_heartbeat_reply_decode(body(), &out), ERR_OK);
    ck_assert_uint_eq(out.steps[0].kind, 200);
    msg_heartbeat_reply_close(&out);
}
END_TEST

static void decode_both(struct slice s)
{
    struct msg_heartbeat h;
    struct msg_heartbeat_reply r;
    size_t used = 0;
    if (skim(s, s.n, &used) != ERR_OK || used != s.n)
        return;
    if (msg_heartbeat_decode(s, &h) == ERR_OK) {
        ck_assert(h.node != 0 && h.n_groups <= LIMIT_GROUPS_PER_NODE);
        msg_heartbeat_close(&h);
    }
    if (msg_heartbeat_reply_decode(s, &r) == ERR_OK)
        msg_heartbeat_reply_close(&r);
}

/* Sound messages with bytes changed: read without fault, whatever comes of it. */
START_TEST(damaged_bytes)
{
    struct rng rng;
    rng_seed(&rng, 11);
    struct msg_group_status status = {
        .group = 7, .replica = 1, .n_members = 1, .member = {{11, 1, 1, 5}}};
    struct msg_heartbeat h = {.node = 2, .incarnation = 1, .n_groups = 1, .groups = &status};
    struct msg_step step = {
        .kind = MSG_STEP_SPLIT, .op = 100, .shard = shard_of(7), .other = shard_of(8)};
    struct msg_heartbeat_reply reply = {.version = 6, .n_steps = 1, .steps = &step};
    for (int i = 0; i < 40000; i++) {
        buf_clear(&b);
        if (i & 1)
            msg_heartbeat_encode(&b, 1, &h);
        else
            msg_heartbeat_reply_encode(&b, 1, &reply);
        struct slice s = body();
        uint8_t *copy = malloc(s.n);
        memcpy(copy, s.p, s.n);
        for (uint64_t k = rng_below(&rng, 4); k-- > 0;)
            copy[rng_below(&rng, s.n)] = (uint8_t)rng_next(&rng);
        decode_both(slice_of(copy, rng_below(&rng, 8) ? s.n : rng_below(&rng, s.n + 1)));
        free(copy);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("msg_heartbeat");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, heartbeat_round_trip);
    tcase_add_test(t, replica_without_a_number);
    tcase_add_test(t, heartbeat_of_other_versions);
    tcase_add_test(t, reply_round_trip);
    tcase_add_test(t, reply_of_an_older_sender);
    tcase_add_test(t, steps_that_do_not_fit);
    tcase_add_test(t, damaged_bytes);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
