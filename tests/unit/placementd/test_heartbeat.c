/* Reports: which orders and commands follow, what liveness keeps, and the messages' encodings with
 * hostile bytes. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/wire/msg_heartbeat.h"
#include "common/wire/msg_placement.h"
#include "common/wire/rpc.h"
#include "common/wire/skim.h"
#include "placementd/heartbeat.h"
#include "placementd/liveness.h"

#define S NS_PER_S

/* Nodes 1..4; group 1 on 1,2,3 (replicas 10,11,12); group 2 on 2,3,4 (20,21,22), epoch 1.3. */
static void fill(struct cluster *c)
{
    cluster_init(c);
    c->founded = true;
    c->map_version = 9;
    for (uint32_t i = 1; i <= 4; i++) {
        struct cluster_node n = {.id = i, .state = CLUSTER_NODE_IN, .incarnation = i, .name = "n"};
        cluster_add_node(c, &n);
    }
    struct shard_desc a = {.group = 1,
                           .last_slot = 99,
                           .epoch = {1, 1},
                           .n_replicas = 3,
                           .replica = {{10, 1, 1}, {11, 2, 1}, {12, 3, 1}}};
    struct shard_desc b = {.group = 2,
                           .first_slot = 100,
                           .last_slot = 16383,
                           .epoch = {1, 3},
                           .n_replicas = 3,
                           .replica = {{20, 2, 1}, {21, 3, 1}, {22, 4, 1}}};
    cluster_add_group(c, &a);
    cluster_add_group(c, &b);
    c->next_group = 3;
    c->next_replica = 23;
    c->next_node = 5;
}

static struct msg_group_status status(uint64_t group, uint64_t replica, uint32_t members)
{
    return (struct msg_group_status){.group = group,
                                     .replica = replica,
                                     .role = 1,
                                     .term = 3,
                                     .epoch = {1, members},
                                     .last_slot = 99};
}

/* All groups were heard long ago. */
static uint32_t orders(const struct cluster *c, const struct msg_heartbeat *h,
                       struct msg_step *steps)
{
    struct liveness l;
    liveness_init(&l, 0);
    for (uint32_t i = 0; i < c->n_groups; i++) {
        struct msg_group_status s = {.group = c->groups[i].desc.group};
        struct msg_heartbeat first = {.node = 99, .n_groups = 1, .groups = &s};
        liveness_report(&l, c, &first, 1 * S, NULL, NULL);
    }
    uint32_t n = heartbeat_steps(c, &l, h, 100 * S, steps);
    liveness_close(&l);
    return n;
}

START_TEST(test_steps)
{
    struct cluster c;
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    fill(&c);
    /* nothing there yet: the preferred leader campaigns */
    struct msg_heartbeat h = {.node = 1, .incarnation = 1};
    ck_assert_uint_eq(orders(&c, &h, steps), 1);
    ck_assert_int_eq(steps[0].kind, MSG_STEP_CREATE_REPLICA);
    ck_assert_uint_eq(steps[0].replica, 10);
    ck_assert(steps[0].campaign && !steps[0].join);
    /* two groups; the one whose members have changed is joined, not begun */
    h.node = 2;
    ck_assert_uint_eq(orders(&c, &h, steps), 2);
    ck_assert(!steps[0].campaign && !steps[0].join);
    ck_assert(!steps[1].campaign && steps[1].join);
    /* held: nothing to do */
    struct msg_group_status held[] = {status(1, 11, 1), status(2, 20, 3)};
    h.groups = held;
    h.n_groups = 2;
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    /* seen before and gone now: never made again under the same id */
    c.groups[0].created = 2;
    h.groups = &held[1];
    h.n_groups = 1;
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    cluster_close(&c);
}
END_TEST

START_TEST(test_destroy)
{
    struct cluster c;
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    static const struct {
        uint64_t group, replica;
        uint32_t members;
        bool want;
    } rows[] = {
        {2, 5, 2, true},   /* removed */
        {2, 5, 3, true},   /* removed by this very change */
        {2, 5, 4, false},  /* knows more than we do */
        {7, 5, 1, false},  /* a group that we have not heard of */
        {2, 0, 1, false},  /* broken, does not know its id */
        {2, 22, 1, false}, /* listed */
    };
    fill(&c);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct msg_group_status s = status(rows[i].group, rows[i].replica, rows[i].members);
        struct msg_heartbeat h = {.node = 4, .incarnation = 4, .n_groups = 1, .groups = &s};
        uint32_t n = orders(&c, &h, steps);
        bool got = n && steps[0].kind == MSG_STEP_DESTROY_REPLICA;
        ck_assert_msg(got == rows[i].want, "row %zu", i);
    }
    /* an operator has just put it there */
    struct cluster_operator o = {.id = 1,
                                 .kind = CLUSTER_OP_MOVE,
                                 .group = 2,
                                 .n_steps = 1,
                                 .step = {{CLUSTER_STEP_ADD_STANDBY, 4, 5}}};
    cluster_add_operator(&c, &o);
    struct msg_group_status s = status(2, 5, 1);
    struct msg_heartbeat h = {.node = 4, .incarnation = 4, .n_groups = 1, .groups = &s};
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    cluster_close(&c);
}
END_TEST

struct proposed {
    unsigned created, group;
    struct shard_desc desc;
};

static void on_propose(void *arg, const struct cluster_command *cmd)
{
    struct proposed *p = arg;
    if (cmd->kind == CLUSTER_CMD_CREATED) {
        p->created += cmd->n_created;
    } else {
        p->group++;
        p->desc = cmd->groups[0];
    }
}

/* Groups that are gone: their replicas go too, unless they may still come. */
START_TEST(test_gone)
{
    struct cluster c;
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    fill(&c);
    c.next_group = 50;
    c.groups[0].created = c.groups[1].created = 7;
    struct msg_group_status s = status(7, 99, 1);
    struct msg_heartbeat h = {.node = 1, .incarnation = 1, .n_groups = 1, .groups = &s};
    ck_assert_uint_eq(orders(&c, &h, steps), 1);
    ck_assert_int_eq(steps[0].kind, MSG_STEP_DESTROY_REPLICA);
    ck_assert_uint_eq(steps[0].shard.group, 7);
    s.replica = 0; /* broken, and does not know which it is */
    s.state = MSG_REPLICA_BROKEN;
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    s.replica = 99;
    c.unsure_from = 6; /* may be newer than an imported state */
    c.unsure_to = 9;
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    c.unsure_from = c.unsure_to = 0;
    struct cluster_operator o = {.id = 1,
                                 .kind = CLUSTER_OP_SPLIT,
                                 .group = 1,
                                 .child = 7,
                                 .n_steps = 1,
                                 .step = {{.kind = CLUSTER_STEP_SPLIT}}};
    cluster_add_operator(&c, &o);
    ck_assert_uint_eq(orders(&c, &h, steps), 0);
    cluster_close(&c);
}
END_TEST

/* A split's child is made by its nodes: one that was never reported is ordered after a while. */
START_TEST(test_child_waits)
{
    struct cluster c;
    struct liveness l;
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    fill(&c);
    c.groups[0].desc.epoch = (struct shard_epoch){2, 1};
    c.groups[0].created = 2;
    liveness_init(&l, 1 * S);
    struct msg_group_status s = status(1, 11, 1);
    struct msg_heartbeat from = {.node = 2, .incarnation = 2, .n_groups = 1, .groups = &s};
    struct msg_heartbeat h = {.node = 1, .incarnation = 1};
    ck_assert_uint_eq(heartbeat_steps(&c, &l, &h, 50 * S, steps), 0); /* nobody has it */
    liveness_report(&l, &c, &from, 50 * S, NULL, NULL);
    ck_assert_uint_eq(heartbeat_steps(&c, &l, &h, 59 * S, steps), 0);
    ck_assert_uint_eq(heartbeat_steps(&c, &l, &h, 60 * S, steps), 1);
    ck_assert(steps[0].join && !steps[0].campaign);
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

START_TEST(test_commands)
{
    struct cluster c;
    struct proposed p = {0};
    fill(&c);
    c.groups[1].created = 1;
    struct msg_group_status s[] = {status(1, 11, 1), status(2, 20, 4)};
    s[1].state = MSG_REPLICA_LEADER;
    s[1].n_members = 2;
    s[1].member[0] = (struct msg_member_status){20, 2, 1, 7};
    s[1].member[1] = (struct msg_member_status){21, 3, 1, 7};
    struct msg_heartbeat h = {.node = 2, .incarnation = 2, .n_groups = 2, .groups = s};
    heartbeat_commands(&c, &h, on_propose, &p);
    ck_assert_uint_eq(p.created, 1);
    ck_assert_uint_eq(p.group, 1);
    ck_assert_uint_eq(p.desc.n_replicas, 2);
    ck_assert_uint_eq(p.desc.epoch.members, 4);
    /* not its leader, or not newer, or another node's replica: nothing */
    memset(&p, 0, sizeof(p));
    s[1].state = MSG_REPLICA_FOLLOWER;
    h.node = 3;
    heartbeat_commands(&c, &h, on_propose, &p);
    s[1].state = MSG_REPLICA_LEADER;
    s[1].epoch.members = 3;
    heartbeat_commands(&c, &h, on_propose, &p);
    s[1].epoch.members = 4;
    s[1].member[1].node = 2; /* two replicas on one node: nonsense */
    heartbeat_commands(&c, &h, on_propose, &p);
    ck_assert_uint_eq(p.created, 0);
    ck_assert_uint_eq(p.group, 0);
    cluster_close(&c);
}
END_TEST

static void count(void *arg, uint64_t group)
{
    (void)group;
    ++*(unsigned *)arg;
}

START_TEST(test_liveness)
{
    struct cluster c;
    struct liveness l;
    unsigned hints = 0;
    fill(&c);
    liveness_init(&l, 100 * S);
    struct msg_group_status s = status(1, 11, 1);
    struct msg_heartbeat h = {.node = 2, .incarnation = 2, .n_groups = 1, .groups = &s};
    s.leader = 10;
    s.bytes = 5;
    liveness_report(&l, &c, &h, 101 * S, count, &hints);
    ck_assert_uint_eq(hints, 1);
    ck_assert_uint_eq(liveness_leader(&l, &c.groups[0]), 10);
    ck_assert_uint_eq(liveness_node(&l, 2)->bytes, 5);
    /* the same again: no news; an older term: not believed; a newer one: is */
    liveness_report(&l, &c, &h, 101 * S, count, &hints);
    s.term = 2;
    s.leader = 12;
    liveness_report(&l, &c, &h, 101 * S, count, &hints);
    ck_assert_uint_eq(hints, 1);
    s.term = 4;
    s.state = MSG_REPLICA_LEADER;
    s.leader = 11;
    s.keys = 77;
    liveness_report(&l, &c, &h, 102 * S, count, &hints);
    ck_assert_uint_eq(hints, 2);
    ck_assert_uint_eq(liveness_leader(&l, &c.groups[0]), 11);
    ck_assert_uint_eq(liveness_group(&l, 1)->keys, 77);
    /* an election: a later term without a leader yet, then its leader's own word in that term */
    s.term = 5;
    s.state = MSG_REPLICA_FOLLOWER;
    s.leader = 0;
    liveness_report(&l, &c, &h, 102 * S, count, &hints);
    ck_assert_uint_eq(hints, 2);
    s.replica = 12;
    s.state = MSG_REPLICA_LEADER;
    s.leader = 12;
    liveness_report(&l, &c, &h, 102 * S, count, &hints);
    ck_assert_uint_eq(hints, 3);
    ck_assert_uint_eq(liveness_leader(&l, &c.groups[0]), 12);
    /* a replica that is not listed is no source */
    s.replica = 5;
    s.term = 9;
    liveness_report(&l, &c, &h, 102 * S, count, &hints);
    ck_assert_uint_eq(hints, 3);
    static const struct {
        uint32_t node;
        uint64_t at;
        enum liveness_state want;
    } rows[] = {
        {2, 102 * S, LIVE_UP},      {2, 106 * S, LIVE_UP},   {2, 107 * S, LIVE_SUSPECT},
        {2, 121 * S, LIVE_SUSPECT}, {2, 122 * S, LIVE_DOWN}, {1, 104 * S, LIVE_UNKNOWN},
        {1, 105 * S, LIVE_SUSPECT}, {1, 120 * S, LIVE_DOWN},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        ck_assert_msg(liveness_state(&l, rows[i].node, rows[i].at) == rows[i].want, "row %zu", i);
    /* a group that is gone is forgotten: splits and merges make new ones for ever */
    liveness_forget(&l, &c);
    ck_assert_ptr_nonnull(liveness_group(&l, 1));
    cluster_remove_group(&c, 1);
    liveness_forget(&l, &c);
    ck_assert_ptr_null(liveness_group(&l, 1));
    ck_assert_uint_eq(l.groups.n, 0);
    liveness_close(&l);
    cluster_close(&c);
}
END_TEST

/* ---- messages ---- */

static struct rpc_message whole(const struct buf *b)
{
    struct rpc_message m;
    size_t n;
    ck_assert_int_eq(rpc_split(buf_slice(b), LIMIT_FRAME, &n), ERR_OK);
    ck_assert_uint_eq(n, b->n);
    ck_assert_int_eq(rpc_decode(buf_slice(b), &m), ERR_OK);
    return m;
}

START_TEST(test_messages)
{
    struct buf b = {0};
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
    struct rpc_message m = whole(&b);
    ck_assert(slice_eq(m.method, slice_str("node.register")));
    ck_assert_int_eq(msg_register_decode(m.params, &reg2), ERR_OK);
    ck_assert_mem_eq(&reg, &reg2, sizeof(reg));

    static const char *const bad_names[] = {"", "a b", "a\"b", "a\\b", "a\nb", "\xee\x80", "\x7f"};
    for (size_t i = 0; i < sizeof(bad_names) / sizeof(bad_names[0]); i++) {
        struct msg_register bad = reg;
        snprintf(bad.name, sizeof(bad.name), "%s", bad_names[i]);
        buf_clear(&b);
        msg_register_encode(&b, 7, &bad);
        m = whole(&b);
        ck_assert_msg(msg_register_decode(m.params, &reg2) == ERR_BAD_REQUEST, "name %zu", i);
    }

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
    buf_clear(&b);
    msg_heartbeat_encode(&b, 8, &h);
    m = whole(&b);
    ck_assert_int_eq(msg_heartbeat_decode(m.params, &h2), ERR_OK);
    ck_assert_uint_eq(h2.n_groups, 2);
    ck_assert_mem_eq(h2.groups, s, sizeof(s));
    msg_heartbeat_close(&h2);

    struct msg_step step = {.kind = MSG_STEP_CREATE_REPLICA, .replica = 11, .campaign = true};
    step.shard = (struct shard_desc){.group = 1,
                                     .last_slot = 99,
                                     .epoch = {1, 1},
                                     .n_replicas = 2,
                                     .replica = {{10, 1, 1}, {11, 2, 1}}};
    struct msg_heartbeat_reply reply = {.version = 4, .n_steps = 1, .steps = &step}, reply2;
    buf_clear(&b);
    msg_heartbeat_reply_encode(&b, 8, &reply);
    m = whole(&b);
    ck_assert_int_eq(msg_heartbeat_reply_decode(m.result, &reply2), ERR_OK);
    ck_assert_uint_eq(reply2.version, 4);
    ck_assert_mem_eq(reply2.steps, &step, sizeof(step));
    msg_heartbeat_reply_close(&reply2);

    char addr[64];
    struct rpc_error e;
    buf_clear(&b);
    msg_placement_put_not_leader(&b, 9, 2, "127.0.0.1:7002");
    m = whole(&b);
    rpc_get_error(m.error, &e);
    ck_assert_int_eq(e.err, ERR_NOT_LEADER);
    ck_assert_uint_eq(e.leader, 2);
    ck_assert(msg_placement_leader_addr(m.error, addr));
    ck_assert_str_eq(addr, "127.0.0.1:7002");
    buf_clear(&b);
    msg_placement_put_not_leader(&b, 9, 0, "");
    m = whole(&b);
    rpc_get_error(m.error, &e);
    ck_assert_int_eq(e.err, ERR_NO_LEADER);
    ck_assert(!msg_placement_leader_addr(m.error, addr));
    buf_close(&b);
}
END_TEST

/* Flipped bytes that skim() lets pass: each decoder refuses or takes them, within bounds. */
START_TEST(test_hostile)
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
    Suite *suite = suite_create("heartbeat");
    TCase *t = tcase_create("all");
    tcase_add_test(t, test_steps);
    tcase_add_test(t, test_destroy);
    tcase_add_test(t, test_gone);
    tcase_add_test(t, test_child_waits);
    tcase_add_test(t, test_commands);
    tcase_add_test(t, test_liveness);
    tcase_add_test(t, test_messages);
    tcase_add_test(t, test_hostile);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
