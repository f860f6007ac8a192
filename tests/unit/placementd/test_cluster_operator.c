/* Operators in the state: added, stepped on, cancelled, queued; splits and merges. */
#include "tests/unit/placementd/cluster_world.h"

static uint64_t add_op(struct cluster *c, const struct cluster_operator *o, enum err want)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_OPERATOR_ADD, .op = *o};
    struct cluster_result r = run(c, &cmd);
    ck_assert_msg(r.err == want, "%s: %s", err_name(r.err), r.text);
    return r.value;
}

START_TEST(test_operators)
{
    struct cluster c;
    fill(&c);
    struct cluster_command add = op_cmd(CLUSTER_CMD_OPERATOR_ADD, 3);
    ck_assert_uint_eq(run(&c, &add).value, 1);
    ck_assert_int_eq(run(&c, &add).err, ERR_BUSY);
    struct cluster_command stale = op_cmd(CLUSTER_CMD_OPERATOR_ADD, 4);
    stale.op.epoch.members = 2;
    ck_assert_int_eq(run(&c, &stale).err, ERR_WRONG_EPOCH);
    struct cluster_command none = op_cmd(CLUSTER_CMD_OPERATOR_ADD, 99);
    ck_assert_int_eq(run(&c, &none).err, ERR_NOT_FOUND);
    struct cluster_command step = op_cmd(CLUSTER_CMD_OPERATOR_STEP, 3);
    run(&c, &step);
    run(&c, &step); /* told twice: once is done */
    ck_assert_uint_eq(cluster_find_operator(&c, 1)->at, 1);
    step.op.at = 1;
    run(&c, &step);
    ck_assert_ptr_null(cluster_find_operator(&c, 1));
    ck_assert_uint_eq(run(&c, &add).value, 2);
    struct cluster_command end = op_cmd(CLUSTER_CMD_OPERATOR_END, 3);
    end.op.id = 2;
    end.outcome = ERR_SHUTTING_DOWN;
    snprintf(end.why, sizeof(end.why), "an operator said so");
    ck_assert_int_eq(run(&c, &end).err, ERR_OK);
    ck_assert_int_eq(run(&c, &end).err, ERR_OK);
    /* it may have listed the standby: that leaves first */
    const struct cluster_operator *o = cluster_find_operator(&c, 2);
    ck_assert(o->cancelling && o->turned == CLUSTER_STEP_ADD_STANDBY);
    ck_assert_uint_eq(o->n_steps, 2);
    step.op.id = 2;
    step.op.at = 0;
    run(&c, &step); /* on its way when the operator turned back: the proof of another step 0 */
    ck_assert_uint_eq(o->at, 0);
    step.op.cancelling = true;
    run(&c, &step);
    step.op.at = 1;
    step.now_ms = 77;
    run(&c, &step);
    ck_assert_uint_eq(c.n_operators, 0);
    ck_assert_uint_eq(c.n_finished, 2);
    ck_assert_int_eq(c.finished[0].outcome, ERR_OK);
    ck_assert_int_eq(c.finished[1].outcome, ERR_SHUTTING_DOWN);
    ck_assert_str_eq(c.finished[1].why, "an operator said so");
    ck_assert_uint_eq(c.finished[1].ended_ms, 77);
    cluster_close(&c);
}
END_TEST

/* The child comes with the parent's shrunk range, in one command. */
START_TEST(test_split_command)
{
    struct cluster c;
    fill(&c);
    struct cluster_operator o = {.id = 1,
                                 .kind = CLUSTER_OP_SPLIT,
                                 .group = 3,
                                 .epoch = {1, 1},
                                 .slot = 5000,
                                 .n_steps = 1,
                                 .step = {{.kind = CLUSTER_STEP_SPLIT}}};
    uint64_t id = add_op(&c, &o, ERR_OK);
    ck_assert_uint_eq(cluster_find_operator(&c, id)->child, 9);
    ck_assert_uint_eq(cluster_find_operator(&c, id)->child_replica, 25);
    ck_assert_uint_eq(c.next_group, 10);
    ck_assert_uint_eq(c.next_replica, 25 + LIMIT_GROUP_MEMBERS);
    ck_assert(!cluster_group_is_gone(&c, 9));
    /* the step is not believed before the child is there */
    struct cluster_command step = {.kind = CLUSTER_CMD_OPERATOR_STEP, .op = {.id = id}};
    run(&c, &step);
    ck_assert_ptr_nonnull(cluster_find_operator(&c, id));
    /* handed out: it cannot be taken back */
    struct cluster_command end = {
        .kind = CLUSTER_CMD_OPERATOR_END, .op = {.id = id}, .outcome = ERR_SHUTTING_DOWN};
    ck_assert_int_eq(run(&c, &end).err, ERR_BUSY);
    struct shard_desc before = c.groups[2].desc, d = before;
    d.last_slot = 4999;
    d.epoch.range = 2;
    ck_assert(told(&c, &d).map_changed);
    const struct cluster_group *child = cluster_find_group(&c, 9);
    ck_assert_ptr_nonnull(child);
    ck_assert_uint_eq(child->desc.first_slot, 5000);
    ck_assert_uint_eq(child->desc.last_slot, before.last_slot);
    ck_assert_uint_eq(child->desc.epoch.range, 2);
    ck_assert_uint_eq(child->desc.epoch.members, 1);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_uint_eq(child->desc.replica[i].node, before.replica[i].node);
        ck_assert_uint_eq(child->desc.replica[i].replica, 25 + i);
    }
    run(&c, &step);
    ck_assert_uint_eq(c.n_operators, 0);
    cluster_close(&c);
}
END_TEST

/* The source goes with the target's grown range; its id is gone for good then. */
START_TEST(test_merge_command)
{
    struct cluster c;
    fill(&c);
    struct cluster_operator o = {.id = 1,
                                 .kind = CLUSTER_OP_MERGE,
                                 .group = 3,
                                 .peer = 4,
                                 .epoch = {1, 1},
                                 .n_steps = 1,
                                 .step = {{.kind = CLUSTER_STEP_MERGE_OWN}}};
    uint64_t id = add_op(&c, &o, ERR_OK);
    struct cluster_operator other = o;
    other.group = 5;
    add_op(&c, &other, ERR_BUSY); /* the target is taken */
    struct cluster_command step = {.kind = CLUSTER_CMD_OPERATOR_STEP, .op = {.id = id}};
    run(&c, &step);
    ck_assert_uint_eq(c.n_operators, 1);
    struct shard_desc d = c.groups[3].desc;
    d.first_slot = c.groups[2].desc.first_slot;
    d.epoch.range = 3;
    ck_assert(told(&c, &d).map_changed);
    ck_assert_ptr_null(cluster_find_group(&c, 3));
    ck_assert(cluster_group_is_gone(&c, 3));
    ck_assert_uint_eq(c.n_groups, 7);
    run(&c, &step);
    ck_assert_uint_eq(c.n_operators, 0);
    ck_assert_int_eq(c.finished[0].outcome, ERR_OK);
    struct shard_map m;
    cluster_map(&c, &m);
    ck_assert_uint_eq(shard_map_find(&m, d.first_slot)->group, 4);
    shard_map_close(&m);
    cluster_close(&c);
}
END_TEST

START_TEST(test_queue)
{
    struct cluster c;
    fill(&c);
    add_node(&c, "n4", 14);
    struct cluster_operator o = {.id = 1,
                                 .kind = CLUSTER_OP_ADD_REPLICA,
                                 .group = 2,
                                 .queued = true,
                                 .epoch = {1, 1},
                                 .n_steps = 3,
                                 .step = {{CLUSTER_STEP_CREATE, 4, 0},
                                          {CLUSTER_STEP_ADD_STANDBY, 4, 0},
                                          {CLUSTER_STEP_PROMOTE, 4, 0}}};
    uint64_t id = add_op(&c, &o, ERR_OK);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq(cluster_find_operator(&c, id)->step[i].replica, 25);
    ck_assert_uint_eq(c.next_replica, 26);
    ck_assert(cluster_replica_is_coming(&c, 2, 25));
    struct cluster_command step = {.kind = CLUSTER_CMD_OPERATOR_STEP, .op = {.id = id}};
    run(&c, &step);
    ck_assert_uint_eq(cluster_find_operator(&c, id)->at, 0); /* it waits */
    /* a node that something is about to come to cannot go */
    struct cluster_command remove = {.kind = CLUSTER_CMD_NODE_STATE,
                                     .node = {.id = 4, .state = CLUSTER_NODE_REMOVED}};
    ck_assert_int_eq(run(&c, &remove).err, ERR_REFUSED);
    struct cluster_command start = {.kind = CLUSTER_CMD_OPERATOR_START,
                                    .op = {.id = id, .deadline_ms = 9}};
    run(&c, &start);
    ck_assert(!cluster_find_operator(&c, id)->queued);
    run(&c, &step);
    ck_assert_uint_eq(cluster_find_operator(&c, id)->at, 1);
    /* the replica was seen on its node: listed, it is not made again */
    struct shard_desc d = c.groups[1].desc;
    d.epoch.members = 2;
    d.replica[d.n_replicas++] = (struct shard_replica){25, 4, 0};
    ck_assert(told(&c, &d).map_changed);
    ck_assert_uint_eq(c.groups[1].created, 8);
    /* one that waits while its group changes does not begin */
    o.group = 5;
    id = add_op(&c, &o, ERR_OK);
    d = c.groups[4].desc;
    d.epoch.members = 2;
    told(&c, &d);
    start.op.id = id;
    run(&c, &start);
    ck_assert_ptr_null(cluster_find_operator(&c, id));
    ck_assert_int_eq(c.finished[0].outcome, ERR_WRONG_EPOCH);
    cluster_close(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cluster_operator");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_operators);
    tcase_add_test(t, test_split_command);
    tcase_add_test(t, test_merge_command);
    tcase_add_test(t, test_queue);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
