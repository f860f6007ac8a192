/* What placementd is told and answers: registrations, redirects, and each decoder of its messages,
 * reports too, over hostile bytes. */
#include "common/wire/msg_placement.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/wire/msg_heartbeat.h"
#include "common/wire/rpc.h"
#include "tests/unit/wire/message.h"

static struct msg_group_status status(uint64_t group, uint64_t replica, uint32_t members)
{
    return (struct msg_group_status){.group = group,
                                     .replica = replica,
                                     .role = 1,
                                     .term = 3,
                                     .epoch = {1, members},
                                     .last_slot = 99};
}

START_TEST(registrations)
{
    struct msg_register reg = {.name = "n1",
                               .incarnation = UINT64_MAX,
                               .zone = "z",
                               .host = "h",
                               .client_addr = "127.0.0.1:1",
                               .peer_addr = "127.0.0.1:2",
                               .cores = 4,
                               .has_cluster = true,
                               .cluster = {1, 2, 3}};
    struct msg_register reg2;
    msg_register_encode(&b, 7, &reg);
    struct rpc_message m = whole();
    ck_assert(slice_eq(m.method, slice_str("node.register")));
    ck_assert_int_eq(msg_register_decode(m.params, &reg2), ERR_OK);
    ck_assert_mem_eq(&reg, &reg2, sizeof(reg));

    static const char *const bad_names[] = {"", "a b", "a\"b", "a\\b", "a\nb", "\xee\x80", "\x7f"};
    for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++) {
        struct msg_register bad = reg;
        snprintf(bad.name, sizeof(bad.name), "%s", bad_names[i]);
        buf_clear(&b);
        msg_register_encode(&b, 7, &bad);
        m = whole();
        ck_assert_msg(msg_register_decode(m.params, &reg2) == ERR_BAD_REQUEST, "name %zu", i);
    }
}
END_TEST

/* To the byte: nothing beside what was sent. */
START_TEST(reports)
{
    struct msg_group_status s[2] = {status(1, 11, 1), status(2, 20, 4)};
    s[1].n_members = 2;
    s[1].member[0] = (struct msg_member_status){20, 2, 1, 7};
    s[1].member[1] = (struct msg_member_status){21, 3, 0, 0};
    struct msg_heartbeat h = {.node = 2,
                              .incarnation = 5,
                              .have = 6,
                              .disk_free = 1,
                              .disk_size = 2,
                              .n_groups = 2,
                              .groups = s};
    struct msg_heartbeat h2;
    msg_heartbeat_encode(&b, 8, &h);
    struct rpc_message m = whole();
    ck_assert_int_eq(msg_heartbeat_decode(m.params, &h2), ERR_OK);
    ck_assert_uint_eq(h2.n_groups, 2);
    ck_assert_mem_eq(h2.groups, s, sizeof(s));
    msg_heartbeat_close(&h2);
}
END_TEST

START_TEST(answers_to_reports)
{
    struct msg_step step = {.kind = MSG_STEP_CREATE_REPLICA, .replica = 11, .campaign = true};
    step.shard = (struct shard_desc){.group = 1,
                                     .last_slot = 99,
                                     .epoch = {1, 1},
                                     .n_replicas = 2,
                                     .replica = {{10, 1, 1}, {11, 2, 1}}};
    struct msg_heartbeat_reply reply = {.version = 4, .n_steps = 1, .steps = &step}, reply2;
    msg_heartbeat_reply_encode(&b, 8, &reply);
    struct rpc_message m = whole();
    ck_assert_int_eq(msg_heartbeat_reply_decode(m.result, &reply2), ERR_OK);
    ck_assert_uint_eq(reply2.version, 4);
    ck_assert_mem_eq(reply2.steps, &step, sizeof(step));
    msg_heartbeat_reply_close(&reply2);
}
END_TEST

START_TEST(redirects)
{
    char addr[64];
    struct rpc_error e;
    msg_placement_put_not_leader(&b, 9, 2, "127.0.0.1:7002");
    struct rpc_message m = whole();
    rpc_get_error(m.error, &e);
    ck_assert_int_eq(e.err, ERR_NOT_LEADER);
    ck_assert_uint_eq(e.leader, 2);
    ck_assert(msg_placement_leader_addr(m.error, addr));
    ck_assert_str_eq(addr, "127.0.0.1:7002");
    buf_clear(&b);
    msg_placement_put_not_leader(&b, 9, 0, "");
    m = whole();
    rpc_get_error(m.error, &e);
    ck_assert_int_eq(e.err, ERR_NO_LEADER);
    ck_assert(!msg_placement_leader_addr(m.error, addr));
}
END_TEST

/* Flipped bytes that skim() lets pass: each decoder refuses or takes them, within bounds. */
START_TEST(hostile_bytes)
{
    struct buf good[3] = {0};
    struct msg_register reg = {.name = "n1", .incarnation = 9, .client_addr = "a", .cores = 1};
    memcpy(reg.peer_addr, "b", 2);
    struct msg_group_status s[2] = {status(1, 11, 1), status(2, 20, 4)};
    s[1].n_members = 1;
    s[1].member[0] = (struct msg_member_status){20, 2, 1, 7};
    struct msg_heartbeat h = {.node = 2, .incarnation = 5, .n_groups = 2, .groups = s};
    struct msg_step step = {.kind = 1, .replica = 11, .shard = {.group = 1, .n_replicas = 1}};
    step.shard.replica[0] = (struct shard_replica){11, 1, 1};
    struct msg_heartbeat_reply reply = {.version = 4, .n_steps = 1, .steps = &step};
    msg_register_encode(&good[0], 1, &reg);
    msg_heartbeat_encode(&good[1], 1, &h);
    msg_heartbeat_reply_encode(&good[2], 1, &reply);
    struct rng rng;
    unsigned taken = 0;
    rng_seed(&rng, 3);
    for (int i = 0; i < 150000; i++) {
        const struct buf *from = &good[i % 3];
        uint8_t *p = mem_dup(from->p, from->n);
        for (uint64_t k = 1 + rng_below(&rng, 3); k > 0; k--)
            p[rng_below(&rng, from->n)] = (uint8_t)rng_next(&rng);
        size_t n;
        struct rpc_message m;
        if (rpc_split(slice_of(p, from->n), LIMIT_FRAME, &n) == ERR_OK &&
            rpc_decode(slice_of(p, n), &m) == ERR_OK) {
            struct msg_register r;
            struct msg_heartbeat hb;
            struct msg_heartbeat_reply rep;
            struct msg_init init;
            uint64_t have;
            char addr[64];
            taken += msg_register_decode(m.params, &r) == ERR_OK;
            taken += msg_init_decode(m.params, &init) == ERR_OK;
            taken += msg_map_request_decode(m.params, &have) == ERR_OK;
            taken += msg_placement_leader_addr(m.error, addr);
            if (msg_heartbeat_decode(m.params, &hb) == ERR_OK) {
                taken++;
                msg_heartbeat_close(&hb);
            }
            if (msg_heartbeat_reply_decode(m.result, &rep) == ERR_OK) {
                taken++;
                msg_heartbeat_reply_close(&rep);
            }
        }
        free(p);
    }
    ck_assert_uint_gt(taken, 1000); /* the run reached the decoders */
    for (int i = 0; i < 3; i++)
        buf_close(&good[i]);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("msg_placement");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, registrations);
    tcase_add_test(t, reports);
    tcase_add_test(t, answers_to_reports);
    tcase_add_test(t, redirects);
    tcase_add_test(t, hostile_bytes);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
