/* Operators: the steps of each kind, what is refused and why, orders and proofs of single steps.
 * The whole way of each kind is test_driver.c's. */
#include <check.h>
#include <stdio.h>

#include "placementd/cluster_command.h"
#include "placementd/cluster_index.h"
#include "placementd/operator.h"

#define S NS_PER_S

/* Nodes 1..5, 5 draining; groups 1 {1,2,3}, 2 {1,2,3}, 3 {2,3,4}, 4 {1,2,3,4} with a standby. */
static void fill(struct cluster *c)
{
    uint64_t replica = 10;
    cluster_init(c);
    c->founded = true;
    for (uint32_t i = 1; i <= 5; i++) {
        struct cluster_node n = {.id = i, .state = CLUSTER_NODE_IN, .incarnation = i};
        n.state = i == 5 ? CLUSTER_NODE_DRAINING : CLUSTER_NODE_IN;
        snprintf(n.name, sizeof(n.name), "n%u", i);
        cluster_add_node(c, &n);
    }
    for (uint32_t i = 1; i <= 4; i++) {
        struct shard_desc d = {.group = i,
                               .first_slot = (uint16_t)(i * 1000),
                               .last_slot = (uint16_t)(i * 1000 + 999),
                               .epoch = {1, 2},
                               .n_replicas = i == 4 ? 4 : 3};
        for (uint32_t k = 0; k < d.n_replicas; k++)
            d.replica[k] = (struct shard_replica){replica++, k + (i == 3 ? 2 : 1), k != 3};
        cluster_add_group(c, &d)->created = 15;
    }
    c->next_node = 6;
    c->next_group = 5;
    c->next_replica = replica;
}

START_TEST(test_make)
{
    static const struct {
        struct plan_op op;
        enum err want;
        const char *steps; /* first letters of operator_step_name(), or part of the reason */
    } rows[] = {
        {{.kind = PLAN_MOVE, .group = 1, .from = 1, .to = 4}, ERR_OK, "cactrd"},
        {{.kind = PLAN_MOVE, .group = 1, .replica = 11, .to = 4}, ERR_OK, "cactrd"},
        {{.kind = PLAN_REPLACE, .group = 1, .from = 1, .to = 4}, ERR_OK, "cacr"},
        {{.kind = PLAN_TRANSFER, .group = 1, .to = 2}, ERR_OK, "t"},
        {{.kind = PLAN_ADD, .group = 1, .to = 4}, ERR_OK, "cac"},
        {{.kind = PLAN_REMOVE, .group = 1, .from = 2}, ERR_OK, "trd"},
        {{.kind = PLAN_REMOVE, .group = 4, .from = 4}, ERR_OK, "rd"},
        {{.kind = PLAN_SPLIT, .group = 1, .slot = 1500}, ERR_OK, "s"},
        {{.kind = PLAN_MERGE, .group = 1, .into = 2}, ERR_OK, "pcch"},
        {{.kind = PLAN_MERGE, .group = 2, .into = 3}, ERR_OK, "cacrdpcch"},
        {{.kind = PLAN_MERGE, .group = 3, .into = 2}, ERR_OK, "cacrdpcch"},
        {{.kind = PLAN_MOVE, .group = 9, .from = 1, .to = 4}, ERR_NOT_FOUND, "no group 9"},
        {{.kind = PLAN_MOVE, .group = 1, .from = 4, .to = 4}, ERR_NOT_FOUND, "no such replica"},
        {{.kind = PLAN_MOVE, .group = 1, .from = 1, .to = 2}, ERR_REFUSED, "n2 has a replica"},
        {{.kind = PLAN_MOVE, .group = 1, .from = 1, .to = 5}, ERR_REFUSED, "n5 does not take"},
        {{.kind = PLAN_MOVE, .group = 1, .from = 1, .to = 77}, ERR_NOT_FOUND, "no node 77"},
        {{.kind = PLAN_TRANSFER, .group = 4, .to = 4}, ERR_NOT_FOUND, "that votes"},
        {{.kind = PLAN_SPLIT, .group = 1, .slot = 1000}, ERR_REFUSED, "does not cut"},
        {{.kind = PLAN_SPLIT, .group = 1, .slot = 2000}, ERR_REFUSED, "does not cut"},
        {{.kind = PLAN_MERGE, .group = 1, .into = 3}, ERR_REFUSED, "not neighbours"},
        {{.kind = PLAN_MERGE, .group = 1, .into = 1}, ERR_NOT_FOUND, "no group 1"},
        {{.kind = PLAN_MERGE, .group = 3, .into = 4}, ERR_REFUSED, "same number"},
        {{.kind = 99, .group = 3}, ERR_BAD_REQUEST, "unknown"},
    };
    struct cluster c;
    fill(&c);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cluster_operator o;
        char why[160] = "", steps[CLUSTER_STEPS_MAX + 1] = "";
        enum err e = operator_make(&c, &rows[i].op, 5, CLUSTER_ORIGIN_ADMIN, &o, why, sizeof(why));
        ck_assert_msg(e == rows[i].want, "row %zu: %s (%s)", i, err_name(e), why);
        if (e != ERR_OK) {
            ck_assert_msg(strstr(why, rows[i].steps) != NULL, "row %zu: %s", i, why);
            continue;
        }
        for (uint32_t k = 0; k < o.n_steps; k++)
            steps[k] = operator_step_name(o.step[k].kind)[0];
        ck_assert_msg(strcmp(steps, rows[i].steps) == 0, "row %zu: %s", i, steps);
        ck_assert_uint_eq(o.epoch.members, 2);
    }
    cluster_close(&c);
}
END_TEST

static struct cluster_operator *begin(struct cluster *c, const struct plan_op *op)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_OPERATOR_ADD};
    struct cluster_result r;
    char why[160];
    ck_assert_int_eq(operator_make(c, op, 5, CLUSTER_ORIGIN_ADMIN, &cmd.op, why, sizeof(why)),
                     ERR_OK);
    cmd.op.deadline_ms = 1000000;
    cluster_apply(c, &cmd, NULL, &r);
    ck_assert_int_eq(r.err, ERR_OK);
    return cluster_find_operator(c, r.value);
}

static struct msg_group_status status(const struct cluster *c, uint64_t group, uint32_t node)
{
    const struct shard_desc *d = &cluster_find_group(c, group)->desc;
    struct msg_group_status s = {.group = group,
                                 .term = 2,
                                 .epoch = d->epoch,
                                 .first_slot = d->first_slot,
                                 .last_slot = d->last_slot};
    for (uint32_t i = 0; i < d->n_replicas; i++)
        if (d->replica[i].node == node)
            s.replica = d->replica[i].replica;
    return s;
}

/* Orders go to the leader at the state's epoch, and to nobody else. */
START_TEST(test_orders)
{
    struct cluster c;
    struct liveness l;
    struct msg_step steps[8];
    struct plan_op split = {.kind = PLAN_SPLIT, .group = 1, .slot = 1500};
    fill(&c);
    liveness_init(&l, 0);
    struct cluster_operator *o = begin(&c, &split);
    struct msg_group_status s = status(&c, 1, 1);
    struct msg_heartbeat h = {.node = 1, .n_groups = 1, .groups = &s};
    ck_assert_uint_eq(operator_orders(&c, &h, &l, steps, 8), 0);
    s.state = MSG_REPLICA_LEADER;
    ck_assert_uint_eq(operator_orders(&c, &h, &l, steps, 8), 1);
    ck_assert_int_eq(steps[0].kind, MSG_STEP_SPLIT);
    ck_assert_uint_eq(steps[0].op, o->id);
    ck_assert_uint_eq(steps[0].other.first_slot, 1500);
    ck_assert_uint_eq(steps[0].other.epoch.range, 2);
    s.epoch.members = 3;
    /* an order that asks for nothing, so that it reports soon */
    ck_assert_uint_eq(operator_orders(&c, &h, &l, steps, 8), 1);
    ck_assert_int_eq(steps[0].kind, MSG_STEP_TRANSFER);
    ck_assert_uint_eq(steps[0].replica, s.replica);
    s.epoch.members = 2;
    s.replica = 999; /* removed, and does not know it */
    ck_assert_uint_eq(operator_orders(&c, &h, &l, steps, 8), 0);
    s.replica = 10;
    o->queued = true;
    ck_assert_uint_eq(operator_orders(&c, &h, &l, steps, 8), 0);
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

/* The replica of an operator that turned back: destroyed, unless the group may list it by now. */
/* What an operator before had made, and given up, came into the group after all. */
START_TEST(test_node_is_taken)
{
    struct cluster c;
    struct liveness l;
    struct plan_op op = {.kind = PLAN_ADD, .group = 1, .to = 4};
    char why[160];
    fill(&c);
    liveness_init(&l, 1 * S);
    struct cluster_operator *o = begin(&c, &op);
    for (uint8_t at = 0; at < 2; at++) {
        struct shard_desc *d = &cluster_find_group(&c, 1)->desc;
        o->at = at;
        d->n_replicas = 3;
        ck_assert_int_eq(operator_check(&c, o, &l, 1 * S, 6, why, sizeof(why)), OPERATOR_WAIT);
        d->replica[d->n_replicas++] = (struct shard_replica){99, 4, 0};
        ck_assert_int_eq(operator_check(&c, o, &l, 1 * S, 6, why, sizeof(why)), OPERATOR_FAILED);
        ck_assert_str_eq(why, "node 4 has replica 99 of the group");
    }
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

START_TEST(test_destroy_order)
{
    struct plan_op add = {.kind = PLAN_ADD, .group = 1, .to = 4};
    struct cluster c;
    struct cluster_result r;
    struct liveness l;
    struct msg_step steps[8];
    char why[160];
    fill(&c);
    liveness_init(&l, 90 * S);
    struct cluster_operator *o = begin(&c, &add);
    uint64_t replica = o->step[0].replica;
    struct cluster_command end = {
        .kind = CLUSTER_CMD_OPERATOR_END, .op = {.id = o->id}, .outcome = ERR_SHUTTING_DOWN};
    cluster_apply(&c, &end, NULL, &r);
    ck_assert_int_eq(o->step[o->at].kind, CLUSTER_STEP_DESTROY);
    struct msg_group_status s = status(&c, 1, 4);
    struct msg_heartbeat h = {.node = 4, .n_groups = 1, .groups = &s};
    s.replica = replica;
    ck_assert_uint_eq(operator_orders(&c, &h, &l, steps, 8), 1);
    ck_assert_int_eq(steps[0].kind, MSG_STEP_DESTROY_REPLICA);
    ck_assert_uint_eq(steps[0].replica, replica);
    s.epoch.members = 3;
    ck_assert_uint_eq(operator_orders(&c, &h, &l, steps, 8), 0);
    liveness_report(&l, &c, &h, 100 * S, NULL, NULL);
    ck_assert_int_eq(operator_check(&c, o, &l, 100 * S, 100, why, sizeof(why)), OPERATOR_WAIT);
    h.n_groups = 0;
    liveness_report(&l, &c, &h, 101 * S, NULL, NULL);
    ck_assert_int_eq(operator_check(&c, o, &l, 101 * S, 100, why, sizeof(why)), OPERATOR_PROVEN);
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

/* A merge's steps: each to the right one of the two leaders, and proven by the right report. */
START_TEST(test_merge_proofs)
{
    static const struct {
        uint8_t at;    /* index of the step */
        uint64_t to;   /* group whose leader gets the order */
        uint8_t order; /* enum msg_step_kind */
    } rows[] = {
        {0, 2, MSG_STEP_MERGE_TARGET},
        {1, 1, MSG_STEP_MERGE_INTENT},
        {2, 1, MSG_STEP_MERGE_FREEZE},
        {3, 2, MSG_STEP_MERGE_OWN},
    };
    struct plan_op merge = {.kind = PLAN_MERGE, .group = 1, .into = 2};
    struct cluster c;
    struct liveness l;
    char why[160];
    fill(&c);
    liveness_init(&l, 90 * S);
    struct cluster_operator *o = begin(&c, &merge);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct msg_step steps[8];
        struct msg_group_status s[2] = {status(&c, 1, 1), status(&c, 2, 1)};
        struct msg_heartbeat h = {.node = 1, .n_groups = 2, .groups = s};
        s[0].state = s[1].state = MSG_REPLICA_LEADER;
        o->at = rows[i].at;
        ck_assert_uint_eq(operator_orders(&c, &h, &l, steps, 8), 2);
        const struct msg_step *step = &steps[rows[i].to - 1], *idle = &steps[2 - rows[i].to];
        ck_assert_int_eq(step->kind, rows[i].order);
        ck_assert_uint_eq(step->shard.group, rows[i].to);
        ck_assert_uint_eq(step->other.group, 3 - rows[i].to);
        ck_assert_int_eq(idle->kind, MSG_STEP_TRANSFER);
    }
    /* FREEZE: proven only when every replica of the target has said COMPLETE */
    o->at = 2;
    o->deadline_ms = 110000;
    for (uint32_t node = 1; node <= 3; node++) {
        struct msg_group_status s[2] = {status(&c, 1, node), status(&c, 2, node)};
        struct msg_heartbeat h = {.node = node, .n_groups = 2, .groups = s};
        ck_assert_int_eq(operator_check(&c, o, &l, 100 * S, 100000, why, sizeof(why)),
                         OPERATOR_WAIT);
        s[0].state = node == 1 ? MSG_REPLICA_LEADER : MSG_REPLICA_FOLLOWER;
        s[0].phase = SHARD_PHASE_FROZEN;
        s[0].merge = s[1].merge = o->id;
        s[1].copy = MSG_COPY_COMPLETE;
        liveness_report(&l, &c, &h, 100 * S, NULL, NULL);
    }
    ck_assert_int_eq(operator_check(&c, o, &l, 100 * S, 100000, why, sizeof(why)), OPERATOR_PROVEN);
    /* a node that is not heard any more: wait, and give up at the deadline */
    ck_assert_int_eq(operator_check(&c, o, &l, 110 * S, 110000, why, sizeof(why)), OPERATOR_WAIT);
    ck_assert_int_eq(operator_check(&c, o, &l, 110 * S, 110001, why, sizeof(why)), OPERATOR_FAILED);
    /* a clock that goes back does not make it longer */
    ck_assert_int_eq(operator_check(&c, o, &l, 110 * S, 100000, why, sizeof(why)), OPERATOR_WAIT);
    ck_assert_int_eq(operator_check(&c, o, &l, 110 * S, 99999, why, sizeof(why)), OPERATOR_FAILED);
    ck_assert(!operator_may_cancel(&(struct cluster_operator){
        .kind = CLUSTER_OP_MERGE, .step = {{.kind = CLUSTER_STEP_MERGE_OWN}}, .n_steps = 1}));
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

/* What clients write to the target is no progress of the copying into it. */
START_TEST(test_merge_stalls)
{
    struct plan_op merge = {.kind = PLAN_MERGE, .group = 1, .into = 2};
    struct cluster c;
    struct liveness l;
    char why[160];
    fill(&c);
    liveness_init(&l, 90 * S);
    l.stall_ns = 5 * S;
    struct cluster_operator *o = begin(&c, &merge);
    o->at = 1;
    struct msg_group_status s = status(&c, 2, 1);
    struct msg_heartbeat h = {.node = 1, .n_groups = 1, .groups = &s};
    s.copy = MSG_COPY_RUNNING;
    for (uint64_t t = 100; t <= 120; t++) {
        s.applied++;
        s.bytes += 100;
        s.chunks += (unsigned)_i;
        liveness_report(&l, &c, &h, t * S, NULL, NULL);
    }
    ck_assert_int_eq(operator_check(&c, o, &l, 121 * S, o->deadline_ms + 1, why, sizeof(why)),
                     _i ? OPERATOR_WAIT : OPERATOR_FAILED);
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

/* ABORT is proven by this operator's mark alone: a new leader that has not applied it yet, or one
 * that has applied OWN, proves nothing. */
START_TEST(test_abort_proof)
{
    static const struct {
        uint8_t phase;
        bool mark, owns;
        enum operator_verdict want;
    } rows[] = {
        {SHARD_PHASE_TARGET, true, false, OPERATOR_WAIT},
        {SHARD_PHASE_NONE, false, false, OPERATOR_WAIT},
        {SHARD_PHASE_NONE, true, true, OPERATOR_WAIT},
        {SHARD_PHASE_NONE, true, false, OPERATOR_PROVEN},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct plan_op merge = {.kind = PLAN_MERGE, .group = 1, .into = 2};
        struct cluster c;
        struct cluster_result r;
        struct liveness l;
        char why[160];
        fill(&c);
        liveness_init(&l, 90 * S);
        struct cluster_operator *o = begin(&c, &merge);
        o->at = 3;
        struct cluster_command end = {
            .kind = CLUSTER_CMD_OPERATOR_END, .op = {.id = o->id}, .outcome = ERR_TIMEOUT};
        cluster_apply(&c, &end, NULL, &r);
        ck_assert_uint_eq(o->n_steps, 2);
        ck_assert_int_eq(o->turned, CLUSTER_STEP_MERGE_OWN);
        struct msg_group_status s = status(&c, 2, 1);
        struct msg_heartbeat h = {.node = 1, .n_groups = 1, .groups = &s};
        s.state = MSG_REPLICA_LEADER;
        s.phase = rows[i].phase;
        s.merge = rows[i].mark ? o->id : 0;
        if (rows[i].owns)
            s.first_slot = 1000;
        liveness_report(&l, &c, &h, 100 * S, NULL, NULL);
        ck_assert_msg(operator_check(&c, o, &l, 100 * S, 100000, why, sizeof(why)) == rows[i].want,
                      "row %zu", i);
        liveness_close(&l);
        cluster_close(&c);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("operator");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_make);
    tcase_add_test(t, test_orders);
    tcase_add_test(t, test_node_is_taken);
    tcase_add_test(t, test_destroy_order);
    tcase_add_test(t, test_merge_proofs);
    tcase_add_loop_test(t, test_merge_stalls, 0, 2);
    tcase_add_test(t, test_abort_proof);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
