/* State and commands: tables of what is accepted, encodings, hostile bytes, equal replays. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "placementd/cluster_command.h"
#include "placementd/plan/layout.h"

static struct cluster_result run(struct cluster *c, const struct cluster_command *cmd)
{
    struct buf b = {0};
    struct cluster_command back;
    struct cluster_result r;
    cluster_command_encode(cmd, &b);
    ck_assert_int_eq(cluster_command_decode(buf_slice(&b), &back), ERR_OK);
    cluster_apply(c, &back, NULL, &r);
    cluster_command_close(&back);
    buf_close(&b);
    return r;
}

static struct cluster_result found(struct cluster *c, uint8_t first)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_FOUND, .cluster = {first, 2, 3}};
    return run(c, &cmd);
}

static struct cluster_command register_cmd(const char *name, uint64_t incarnation, const char *addr)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_REGISTER};
    cmd.node.incarnation = incarnation;
    cmd.node.cores = 2;
    snprintf(cmd.node.name, sizeof(cmd.node.name), "%s", name);
    snprintf(cmd.node.host, sizeof(cmd.node.host), "h-%s", name);
    snprintf(cmd.node.client_addr, sizeof(cmd.node.client_addr), "%s:1", addr);
    snprintf(cmd.node.peer_addr, sizeof(cmd.node.peer_addr), "%s:2", addr);
    return cmd;
}

static struct cluster_result add_node(struct cluster *c, const char *name, uint64_t incarnation)
{
    struct cluster_command cmd = register_cmd(name, incarnation, "127.0.0.1");
    return run(c, &cmd);
}

static struct cluster_result lay_out(struct cluster *c, uint32_t groups)
{
    struct layout_node nodes[8];
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_nodes && n < 8; i++)
        if (c->nodes[i].state == CLUSTER_NODE_IN)
            nodes[n++] = (struct layout_node){c->nodes[i].id, "", c->nodes[i].host};
    struct layout_request q = {.n_nodes = n,
                               .nodes = nodes,
                               .groups = groups,
                               .replicas = 3,
                               .first_group = c->next_group,
                               .first_replica = c->next_replica};
    struct cluster_command cmd = {.kind = CLUSTER_CMD_LAYOUT, .n_groups = groups};
    char msg[256];
    cmd.groups = mem_zalloc(groups * sizeof(*cmd.groups));
    ck_assert_int_eq(layout_plan(&q, cmd.groups, msg, sizeof(msg)), ERR_OK);
    struct cluster_result r = run(c, &cmd);
    cluster_command_close(&cmd);
    return r;
}

static void fill(struct cluster *c)
{
    cluster_init(c);
    found(c, 1);
    add_node(c, "n1", 11);
    add_node(c, "n2", 12);
    add_node(c, "n3", 13);
    ck_assert_int_eq(lay_out(c, 8).err, ERR_OK);
}

START_TEST(test_found_once)
{
    struct cluster c;
    cluster_init(&c);
    ck_assert_int_eq(add_node(&c, "n1", 1).err, ERR_NOT_READY);
    ck_assert(found(&c, 7).map_changed);
    ck_assert(!found(&c, 9).map_changed);
    ck_assert_int_eq(c.id[0], 7);
    ck_assert_uint_eq(c.map_version, 1);
    cluster_close(&c);
}
END_TEST

START_TEST(test_register)
{
    struct cluster c;
    cluster_init(&c);
    found(&c, 1);
    ck_assert_uint_eq(add_node(&c, "n1", 11).value, 1);
    ck_assert_uint_eq(add_node(&c, "n2", 12).value, 2);
    uint64_t version = c.map_version;
    struct cluster_result again = add_node(&c, "n1", 11);
    ck_assert_uint_eq(again.value, 1);
    ck_assert(!again.map_changed);
    ck_assert_uint_eq(c.map_version, version);
    struct cluster_command moved = register_cmd("n1", 11, "127.0.0.9");
    ck_assert(run(&c, &moved).map_changed);
    ck_assert_str_eq(cluster_find_node(&c, 1)->peer_addr, "127.0.0.9:2");
    /* wiped: a new id, the old one lost for good */
    ck_assert_uint_eq(add_node(&c, "n1", 99).value, 3);
    ck_assert_int_eq(cluster_find_node(&c, 1)->state, CLUSTER_NODE_LOST);
    ck_assert_uint_eq(cluster_find_name(&c, "n1")->id, 3);
    struct cluster_result old = add_node(&c, "n1", 11);
    ck_assert_int_eq(old.err, ERR_REFUSED);
    ck_assert_ptr_nonnull(strstr(old.text, "lost"));
    ck_assert_uint_eq(add_node(&c, "n1", 99).value, 3);
    cluster_close(&c);
}
END_TEST

START_TEST(test_layout_command)
{
    struct cluster c;
    fill(&c);
    ck_assert_uint_eq(c.n_groups, 8);
    ck_assert_uint_eq(c.next_group, 9);
    ck_assert_uint_eq(c.next_replica, 25);
    struct shard_map m;
    cluster_map(&c, &m);
    ck_assert_uint_eq(m.n_shards, 8);
    ck_assert_uint_eq(m.n_nodes, 3);
    ck_assert_ptr_nonnull(shard_map_find(&m, 0));
    ck_assert_ptr_nonnull(shard_map_find(&m, 16383));
    shard_map_close(&m);
    /* again: refused */
    struct cluster_command again = {.kind = CLUSTER_CMD_LAYOUT, .n_groups = 1};
    struct shard_desc d = c.groups[0].desc;
    again.groups = &d;
    ck_assert_int_eq(run(&c, &again).err, ERR_EXISTS);
    cluster_close(&c);
}
END_TEST

/* A layout made for another state must not pass. */
START_TEST(test_layout_stale)
{
    static const struct {
        const char *what;
        uint64_t group, replica;
        uint32_t node;
        uint16_t first, last;
        enum err want;
    } rows[] = {
        {"good", 1, 1, 1, 0, 16383, ERR_OK},
        {"group id", 2, 1, 1, 0, 16383, ERR_REFUSED},
        {"replica id", 1, 2, 1, 0, 16383, ERR_REFUSED},
        {"unknown node", 1, 1, 7, 0, 16383, ERR_REFUSED},
        {"lost node", 1, 1, 2, 0, 16383, ERR_REFUSED},
        {"hole at the start", 1, 1, 1, 1, 16383, ERR_REFUSED},
        {"hole at the end", 1, 1, 1, 0, 16382, ERR_REFUSED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cluster c;
        cluster_init(&c);
        found(&c, 1);
        add_node(&c, "n1", 11);
        add_node(&c, "n2", 12);
        add_node(&c, "n2", 13);
        struct shard_desc d = {.group = rows[i].group,
                               .first_slot = rows[i].first,
                               .last_slot = rows[i].last,
                               .epoch = {1, 1},
                               .n_replicas = 1,
                               .replica = {{rows[i].replica, rows[i].node, 1}}};
        struct cluster_command cmd = {.kind = CLUSTER_CMD_LAYOUT, .n_groups = 1, .groups = &d};
        ck_assert_msg(run(&c, &cmd).err == rows[i].want, "%s", rows[i].what);
        ck_assert_uint_eq(c.n_groups, rows[i].want == ERR_OK);
        cluster_close(&c);
    }
}
END_TEST

START_TEST(test_created_and_newer_epoch)
{
    struct cluster c;
    fill(&c);
    struct cluster_created seen[] = {{1, c.groups[0].desc.replica[1].replica}, {1, 777}, {99, 1}};
    struct cluster_command cmd = {.kind = CLUSTER_CMD_CREATED, .n_created = 3, .created = seen};
    struct cluster_result r = run(&c, &cmd);
    ck_assert_int_eq(r.err, ERR_OK);
    ck_assert(!r.map_changed);
    ck_assert_uint_eq(c.groups[0].created, 2);
    /* the leader tells a change of members: bits go with their replica ids */
    struct shard_desc d = c.groups[0].desc;
    d.replica[0] = d.replica[1];
    d.n_replicas = 1;
    struct cluster_command older = {.kind = CLUSTER_CMD_GROUP, .n_groups = 1, .groups = &d};
    ck_assert(!run(&c, &older).map_changed);
    d.epoch.members = 2;
    ck_assert(run(&c, &older).map_changed);
    ck_assert_uint_eq(c.groups[0].created, 1);
    ck_assert_uint_eq(c.groups[0].desc.n_replicas, 1);
    d.epoch.members = 3;
    d.replica[0].replica = 5000; /* never given out */
    ck_assert_int_eq(run(&c, &older).err, ERR_REFUSED);
    cluster_close(&c);
}
END_TEST

START_TEST(test_members)
{
    struct cluster c;
    cluster_init(&c);
    for (uint32_t id = 3; id >= 1; id--) {
        struct cluster_command cmd = {.kind = CLUSTER_CMD_MEMBER,
                                      .member = {id, id * 10, "a:1", ""}};
        ck_assert_int_eq(run(&c, &cmd).err, ERR_OK);
    }
    ck_assert_uint_eq(c.n_members, 3);
    ck_assert_uint_eq(c.member[0].id, 1);
    struct cluster_command moved = {.kind = CLUSTER_CMD_MEMBER, .member = {2, 20, "b:1", "b:2"}};
    ck_assert_int_eq(run(&c, &moved).err, ERR_OK);
    ck_assert_str_eq(cluster_find_member(&c, 2)->client_addr, "b:1");
    struct cluster_command wiped = {.kind = CLUSTER_CMD_MEMBER, .member = {2, 21, "c:1", ""}};
    ck_assert_int_eq(run(&c, &wiped).err, ERR_FOREIGN);
    ck_assert_str_eq(cluster_find_member(&c, 2)->client_addr, "b:1");
    cluster_close(&c);
}
END_TEST

START_TEST(test_node_state)
{
    struct cluster c;
    fill(&c);
    add_node(&c, "n4", 14);
    static const struct {
        uint32_t node;
        uint8_t to;
        enum err want;
    } rows[] = {
        {9, CLUSTER_NODE_DRAINING, ERR_NOT_FOUND}, {1, CLUSTER_NODE_DRAINING, ERR_OK},
        {1, CLUSTER_NODE_REMOVED, ERR_REFUSED},    {1, CLUSTER_NODE_IN, ERR_OK},
        {1, CLUSTER_NODE_LOST, ERR_REFUSED},       {4, CLUSTER_NODE_REMOVED, ERR_OK},
        {4, CLUSTER_NODE_IN, ERR_REFUSED},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cluster_command cmd = {.kind = CLUSTER_CMD_NODE_STATE,
                                      .node = {.id = rows[i].node, .state = rows[i].to}};
        ck_assert_msg(run(&c, &cmd).err == rows[i].want, "row %zu", i);
    }
    struct shard_map m;
    cluster_map(&c, &m);
    ck_assert_uint_eq(m.n_nodes, 3);
    shard_map_close(&m);
    cluster_close(&c);
}
END_TEST

static struct cluster_command op_cmd(uint8_t kind, uint64_t group)
{
    struct cluster_command cmd = {.kind = kind};
    cmd.op = (struct cluster_operator){
        .id = 1,
        .kind = CLUSTER_OP_MOVE,
        .group = group,
        .epoch = {1, 1},
        .deadline_ms = 5,
        .reason = "n1 is 31% over the mean",
        .n_steps = 2,
        .step = {{CLUSTER_STEP_ADD_STANDBY, 2, 30}, {CLUSTER_STEP_PROMOTE, 2, 30}}};
    return cmd;
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

static uint64_t add_op(struct cluster *c, const struct cluster_operator *o, enum err want)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_OPERATOR_ADD, .op = *o};
    struct cluster_result r = run(c, &cmd);
    ck_assert_msg(r.err == want, "%s: %s", err_name(r.err), r.text);
    return r.value;
}

static struct cluster_result told(struct cluster *c, const struct shard_desc *d)
{
    struct shard_desc copy = *d;
    struct cluster_command cmd = {.kind = CLUSTER_CMD_GROUP, .n_groups = 1, .groups = &copy};
    return run(c, &cmd);
}

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

START_TEST(test_maintenance_and_pause)
{
    struct cluster c, back;
    fill(&c);
    struct cluster_command cmd = {
        .kind = CLUSTER_CMD_NODE_STATE,
        .node = {.id = 1, .state = CLUSTER_NODE_IN, .maintenance_until_ms = 77}};
    ck_assert_int_eq(run(&c, &cmd).err, ERR_OK);
    ck_assert_uint_eq(cluster_find_node(&c, 1)->maintenance_until_ms, 77);
    add_node(&c, "n1", 11); /* restarted */
    ck_assert_uint_eq(cluster_find_node(&c, 1)->maintenance_until_ms, 77);
    struct cluster_command pause = {.kind = CLUSTER_CMD_PAUSE, .paused = true};
    run(&c, &pause);
    struct cluster_command gone = {.kind = CLUSTER_CMD_MEMBER_REMOVE, .member = {.id = 2}};
    struct cluster_command member = {.kind = CLUSTER_CMD_MEMBER, .member = {2, 0, "", "p:2"}};
    run(&c, &member);
    member.member.incarnation = 20; /* heard for the first time */
    ck_assert_int_eq(run(&c, &member).err, ERR_OK);
    struct buf b = {0};
    cluster_encode(&c, &b);
    ck_assert_int_eq(cluster_decode(buf_slice(&b), &back), ERR_OK);
    ck_assert(back.paused);
    ck_assert_uint_eq(cluster_find_node(&back, 1)->maintenance_until_ms, 77);
    ck_assert_str_eq(cluster_find_member(&back, 2)->peer_addr, "p:2");
    run(&c, &gone);
    ck_assert_uint_eq(c.n_members, 0);
    buf_close(&b);
    cluster_close(&back);
    cluster_close(&c);
}
END_TEST

/* A state comes back: what was made after it is not destroyed, its ids are not given out again. */
START_TEST(test_import)
{
    struct cluster old, c;
    struct buf b = {0};
    fill(&old);
    struct shard_desc later = old.groups[7].desc;
    cluster_encode(&old, &b);
    struct cluster_command import = {.kind = CLUSTER_CMD_IMPORT, .state = buf_slice(&b)};
    ck_assert_int_eq(run(&old, &import).err, ERR_EXISTS);
    cluster_init(&c);
    found(&c, 99);
    struct cluster_command member = {.kind = CLUSTER_CMD_MEMBER, .member = {5, 50, "m:1", ""}};
    run(&c, &member);
    struct cluster_command bad = {.kind = CLUSTER_CMD_IMPORT, .state = slice_of(b.p, b.n - 1)};
    ck_assert_int_eq(run(&c, &bad).err, ERR_BAD_REQUEST);
    ck_assert_int_eq(run(&c, &import).err, ERR_OK);
    ck_assert_uint_eq(c.n_groups, 8);
    ck_assert_int_eq(c.id[0], 1);
    ck_assert_ptr_nonnull(cluster_find_member(&c, 5));
    ck_assert_uint_gt(c.next_group, 1000);
    ck_assert_uint_gt(c.map_version, 1000);
    /* group 9 was split off group 8 after the export: it is taken in once group 8 has shrunk */
    struct shard_desc child = later;
    child.group = 9;
    child.first_slot = 16000;
    child.epoch.range = 2;
    ck_assert(!cluster_group_is_gone(&c, 9));
    ck_assert_int_eq(told(&c, &child).err, ERR_NOT_FOUND);
    later.last_slot = 15999;
    later.epoch.range = 2;
    ck_assert_int_eq(told(&c, &later).err, ERR_OK);
    ck_assert_int_eq(told(&c, &child).err, ERR_OK);
    ck_assert_uint_eq(c.n_groups, 9);
    buf_close(&b);
    cluster_close(&old);
    cluster_close(&c);
}
END_TEST

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
    Suite *s = suite_create("cluster");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_found_once);
    tcase_add_test(t, test_register);
    tcase_add_test(t, test_layout_command);
    tcase_add_test(t, test_layout_stale);
    tcase_add_test(t, test_created_and_newer_epoch);
    tcase_add_test(t, test_members);
    tcase_add_test(t, test_node_state);
    tcase_add_test(t, test_operators);
    tcase_add_test(t, test_split_command);
    tcase_add_test(t, test_merge_command);
    tcase_add_test(t, test_queue);
    tcase_add_test(t, test_maintenance_and_pause);
    tcase_add_test(t, test_import);
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
