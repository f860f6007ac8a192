/* State and commands as bytes: there and back, the largest, hostile ones, equal replays. */
#include "tests/unit/placementd/cluster_world.h"

START_TEST(test_encode_decode)
{
    struct cluster c, back;
    fill(&c);
    struct cluster_command m = {.kind = CLUSTER_CMD_MEMBER, .member = {2, 20, "b:1", "b:2"}};
    run(&c, &m);
    struct cluster_command add = op_cmd(CLUSTER_CMD_OPERATOR_ADD, 3);
    run(&c, &add);
    struct buf a = {0}, b = {0};
    cluster_encode(&c, &a);
    ck_assert_int_eq(cluster_decode(buf_slice(&a), &back), ERR_OK);
    cluster_encode(&back, &b);
    ck_assert(slice_eq(buf_slice(&a), buf_slice(&b)));
    /* what it was laid out with counts, not the setting */
    ck_assert_uint_eq(cluster_replicas(&back, 9), c.groups[0].desc.n_replicas);
    /* cut anywhere it is refused, with no leak and no read past the end */
    for (size_t n = 0; n < a.n; n++) {
        struct cluster cut;
        uint8_t *copy = n ? mem_dup(a.p, n) : NULL;
        ck_assert_int_ne(cluster_decode(slice_of(copy, n), &cut), ERR_OK);
        free(copy);
    }
    buf_u8(&a, 0);
    ck_assert_int_eq(cluster_decode(buf_slice(&a), &back), ERR_CORRUPT);
    a.p[0] = 1;
    ck_assert_int_eq(cluster_decode(buf_slice(&a), &back), ERR_FORMAT);
    buf_close(&a);
    buf_close(&b);
    cluster_close(&c);
    cluster_close(&back);
}
END_TEST

/* The largest state must fit one manifest. */
START_TEST(test_largest_fits)
{
    struct cluster c;
    cluster_init(&c);
    char text[64];
    memset(text, 'x', sizeof(text) - 1);
    text[63] = 0;
    for (uint32_t i = 1; i <= LIMIT_NODES; i++) {
        struct cluster_node n = {.id = i, .state = CLUSTER_NODE_IN, .incarnation = i};
        memcpy(n.name, text, 64);
        memcpy(n.zone, text, 64);
        memcpy(n.host, text, 64);
        memcpy(n.client_addr, text, 64);
        memcpy(n.peer_addr, text, 64);
        cluster_add_node(&c, &n);
    }
    c.next_node = LIMIT_NODES + 1;
    for (uint32_t i = 1; i <= CLUSTER_GROUPS_MAX; i++) {
        struct shard_desc d = {.group = i, .n_replicas = CLUSTER_REPLICAS_MAX};
        for (uint32_t j = 0; j < CLUSTER_REPLICAS_MAX; j++)
            d.replica[j] = (struct shard_replica){i * 8 + j, j + 1, 1};
        cluster_add_group(&c, &d);
    }
    c.next_group = CLUSTER_GROUPS_MAX + 1;
    for (uint32_t i = 1; i <= CLUSTER_OPERATORS_MAX; i++) {
        struct cluster_command o = op_cmd(CLUSTER_CMD_OPERATOR_ADD, i);
        o.op.id = i;
        o.op.n_steps = CLUSTER_STEPS_MAX;
        for (uint32_t j = 0; j < CLUSTER_STEPS_MAX; j++)
            o.op.step[j].kind = CLUSTER_STEP_CREATE;
        memset(o.op.reason, 'r', sizeof(o.op.reason) - 1);
        memset(o.op.why, 'w', sizeof(o.op.why) - 1);
        cluster_add_operator(&c, &o.op);
    }
    c.next_operator = CLUSTER_OPERATORS_MAX + 1;
    for (uint32_t i = 0; i < CLUSTER_FINISHED_MAX; i++) {
        struct cluster_finished f = {.id = i + 1, .group = 1, .kind = CLUSTER_OP_MOVE};
        memset(f.reason, 'r', sizeof(f.reason) - 1);
        memset(f.why, 'w', sizeof(f.why) - 1);
        cluster_add_finished(&c, &f);
    }
    struct buf b = {0};
    cluster_encode(&c, &b);
    ck_assert_uint_le(b.n, LIMIT_MANIFEST);
    struct cluster back;
    ck_assert_int_eq(cluster_decode(buf_slice(&b), &back), ERR_OK);
    cluster_close(&back);
    cluster_close(&c);
    buf_close(&b);
}
END_TEST

/* Any bytes: refused or taken, never more. What is taken can be applied and encoded again. */
START_TEST(test_hostile)
{
    struct cluster c;
    struct rng rng;
    struct buf good[3] = {0};
    fill(&c);
    rng_seed(&rng, 42);
    cluster_encode(&c, &good[0]);
    struct cluster_command reg = register_cmd("n9", 5, "127.0.0.1");
    cluster_command_encode(&reg, &good[1]);
    struct cluster_command add = op_cmd(CLUSTER_CMD_OPERATOR_ADD, 3);
    cluster_command_encode(&add, &good[2]);
    for (int i = 0; i < 60000; i++) {
        const struct buf *from = &good[i % 3];
        size_t n = i % 5 ? from->n : rng_below(&rng, from->n + 1);
        uint8_t *p = mem_alloc(n + 1);
        memcpy(p, from->p, n);
        for (uint64_t k = rng_below(&rng, 4) + (n ? 0 : 0); n && k > 0; k--)
            p[rng_below(&rng, n)] = (uint8_t)rng_next(&rng);
        struct cluster state;
        struct cluster_command cmd;
        struct cluster_result r;
        if (cluster_decode(slice_of(p, n), &state) == ERR_OK) {
            if (cluster_command_decode(buf_slice(&good[1 + i % 2]), &cmd) == ERR_OK) {
                cluster_apply(&state, &cmd, NULL, &r);
                cluster_command_close(&cmd);
            }
            cluster_close(&state);
        }
        if (cluster_command_decode(slice_of(p, n), &cmd) == ERR_OK) {
            cluster_apply(&c, &cmd, NULL, &r);
            cluster_command_close(&cmd);
        }
        free(p);
    }
    for (int i = 0; i < 3; i++)
        buf_close(&good[i]);
    cluster_close(&c);
}
END_TEST

/* The same log gives the same bytes, from the start or from any snapshot on the way. */
START_TEST(test_replay)
{
    struct rng rng;
    struct buf log[400] = {0}, want = {0}, got = {0}, snap = {0};
    struct cluster a, b;
    rng_seed(&rng, 7);
    cluster_init(&a);
    for (int i = 0; i < 400; i++) {
        struct cluster_command cmd = {0};
        struct cluster_created seen = {1 + rng_below(&rng, 8), 1 + rng_below(&rng, 24)};
        char name[8];
        snprintf(name, sizeof(name), "n%u", (unsigned)rng_below(&rng, 9));
        switch (i == 0 ? 0 : 1 + rng_below(&rng, 6)) {
        case 0:
            cmd.kind = CLUSTER_CMD_FOUND;
            break;
        case 1:
            cmd = op_cmd(CLUSTER_CMD_OPERATOR_ADD, 1 + rng_below(&rng, 8));
            break;
        case 2:
            cmd = op_cmd(CLUSTER_CMD_OPERATOR_STEP, 1);
            cmd.op.id = 1 + rng_below(&rng, 20);
            cmd.op.at = (uint8_t)rng_below(&rng, 2);
            break;
        case 3:
            cmd.kind = CLUSTER_CMD_CREATED;
            cmd.n_created = 1;
            cmd.created = &seen;
            break;
        default:
            cmd = register_cmd(name, 1 + rng_below(&rng, 3), "127.0.0.1");
        }
        cluster_command_encode(&cmd, &log[i]);
        struct cluster_command back;
        struct cluster_result r;
        ck_assert_int_eq(cluster_command_decode(buf_slice(&log[i]), &back), ERR_OK);
        cluster_apply(&a, &back, NULL, &r);
        cluster_command_close(&back);
        if (i == 50)
            lay_out(&a, 8);
        if (i == 200)
            cluster_encode(&a, &snap);
    }
    ck_assert_int_eq(cluster_decode(buf_slice(&snap), &b), ERR_OK);
    for (int i = 201; i < 400; i++) {
        struct cluster_command back;
        struct cluster_result r;
        ck_assert_int_eq(cluster_command_decode(buf_slice(&log[i]), &back), ERR_OK);
        cluster_apply(&b, &back, NULL, &r);
        cluster_command_close(&back);
    }
    cluster_encode(&a, &want);
    cluster_encode(&b, &got);
    ck_assert(slice_eq(buf_slice(&want), buf_slice(&got)));
    ck_assert_uint_gt(a.n_nodes, 9); /* some were wiped: the run was not empty */
    for (int i = 0; i < 400; i++)
        buf_close(&log[i]);
    buf_close(&want);
    buf_close(&got);
    buf_close(&snap);
    cluster_close(&a);
    cluster_close(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster_codec");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_encode_decode);
    tcase_add_test(t, test_largest_fits);
    tcase_add_test(t, test_hostile);
    tcase_add_test(t, test_replay);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
