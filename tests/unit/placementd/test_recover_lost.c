/* recover_lost.c: nodes 1 to 5; who is up, what a group has left, what is said and forced. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/raft/group.h"
#include "placementd/heartbeat.h"
#include "placementd/operator.h"
#include "placementd/recover_lost.h"

#define NOW (1000 * NS_PER_S)

struct world {
    struct cluster c;
    struct liveness l;
    char said[4000], why[300];
    struct cluster_command cmd;
};

/* Group 1; the replica on node k is 10 + k. `members` "123s": voters on 1 and 2, a standby on 3. */
static void setup(struct world *w, const char *members)
{
    struct shard_desc d = {.group = 1, .last_slot = 16383, .epoch = {1, 7}};
    memset(w, 0, sizeof(*w));
    cluster_init(&w->c);
    w->c.founded = true;
    w->c.next_node = 6;
    w->c.next_group = 2;
    w->c.next_replica = 20;
    for (uint32_t i = 1; i <= 5; i++) {
        struct cluster_node n = {.id = i, .state = CLUSTER_NODE_IN, .incarnation = i, .cores = 1};
        snprintf(n.name, sizeof(n.name), "n%u", i);
        cluster_add_node(&w->c, &n);
    }
    for (; *members; members++) {
        uint32_t node = (uint32_t)(*members - '0');
        bool standby = members[1] == 's';
        d.replica[d.n_replicas++] =
            (struct shard_replica){10 + node, node, standby ? GROUP_STANDBY : GROUP_VOTER};
        members += standby;
    }
    cluster_add_group(&w->c, &d)->created = 0x1f;
    liveness_init(&w->l, 0);
}

/* "N:TERM.INDEX" words: heard now, with that last entry; "N:b" broken; "N:" no replica. "~N": heard
 * long ago. */
static void hear(struct world *w, const char *words)
{
    char text[128], *save = NULL;
    snprintf(text, sizeof(text), "%s", words);
    for (char *p = strtok_r(text, " ", &save); p; p = strtok_r(NULL, " ", &save)) {
        bool old = *p == '~';
        p += old;
        uint32_t node = (uint32_t)(*p - '0');
        struct msg_group_status s = {.group = 1, .replica = 10 + node, .applied = 5, .term = 9};
        struct msg_heartbeat h = {.node = node, .incarnation = node, .groups = &s, .n_groups = 1};
        if (p[2] == '\0')
            h.n_groups = 0;
        else if (p[2] == 'b')
            s.state = MSG_REPLICA_BROKEN;
        else
            sscanf(p + 2, "%lu.%lu", &s.log_term, &s.log_index);
        liveness_report(&w->l, &w->c, &h, old ? NOW - 900 * NS_PER_S : NOW, NULL, NULL);
    }
}

static void on_line(void *arg, const char *line)
{
    struct world *w = arg;
    snprintf(w->said + strlen(w->said), sizeof(w->said) - strlen(w->said), "%s\n", line);
}

static enum err plan(struct world *w, const char *lost)
{
    uint32_t node[8];
    struct recover_lost r = {
        .c = &w->c, .live = &w->l, .now = NOW, .node = node, .arg = w, .say = on_line};
    for (; *lost; lost++)
        node[r.n++] = (uint32_t)(*lost - '0');
    return recover_lost_plan(&r, &w->cmd, w->why, sizeof(w->why));
}

static const struct {
    const char *members, *heard, *lost;
    enum err err;
    uint64_t forced; /* replica; 0: none */
    const char *says;
} table[] = {
    {"123", "1:3.50 ~2:3.50 ~3:3.50", "23", ERR_OK, 11, "on n1 alone, as of log entry 50"},
    {"123", "1:3.50 2:3.50 ~3:3.50", "3", ERR_OK, 0, "keep their majority"},
    {"123", "1:3.50 2:3.50 ~3:3.50", "23", ERR_REFUSED, 0, "n2 is not lost: it was heard"},
    {"123", "1:3.50 ~2:3.50 ~3:3.50", "3", ERR_REFUSED, 0, "only with n2, which is not heard"},
    {"123", "4: ~1:3.1 ~2:3.50 ~3:3.50", "123", ERR_OK, 0, "no replica survives"},
    {"123", "1:b ~2:3.50 ~3:3.50", "23", ERR_OK, 0, "no replica survives"},
    {"123", "1: ~2:3.50 ~3:3.50", "23", ERR_OK, 0, "no replica survives"},
    {"12345", "1:3.50 2:3.51 ~3:4.1 ~4:4.1 ~5:4.1", "345", ERR_OK, 12, "as of log entry 51"},
    {"12345", "1:4.10 2:3.51 ~3:4.1 ~4:4.1 ~5:4.1", "345", ERR_OK, 11, "as of log entry 10"},
    {"12345", "1:4.10 ~2:3.51 ~3:4.1 ~4:4.1 ~5:4.1", "345", ERR_REFUSED, 0,
     "n2, which has a replica of it, is not heard"},
    {"12345", "1:4.10 ~2:3.51 ~3:4.1 ~4:4.1 ~5:4.1", "2345", ERR_OK, 11,
     "that only n2, n3, n4, n5 had"},
    {"123s", "3:3.50 ~1:3.60 ~2:3.60", "12", ERR_OK, 13, "standby and has no vote"},
    {"1234s", "3:3.40 4:3.50 ~1:3.60 ~2:3.60", "12", ERR_OK, 13, "on n3 alone"},
    {"123", "4: 5: ~1:1.1", "1", ERR_REFUSED, 0, "not heard"},
};

START_TEST(rows)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct world w;
        setup(&w, table[i].members);
        hear(&w, table[i].heard);
        enum err e = plan(&w, table[i].lost);
        uint64_t forced = e == ERR_OK && w.cmd.n_created ? w.cmd.created[0].replica : 0;
        bool says = strstr(e == ERR_OK ? w.said : w.why, table[i].says) != NULL;
        ck_assert_msg(e == table[i].err && forced == table[i].forced && says, "%zu: %s %llu\n%s%s",
                      i, err_name(e), (unsigned long long)forced, w.said, w.why);
        if (e == ERR_OK)
            cluster_command_close(&w.cmd);
        liveness_close(&w.l);
        cluster_close(&w.c);
    }
}
END_TEST

/* A leader that has just begun has heard of nobody yet: that says nothing. */
START_TEST(a_new_leader_waits)
{
    struct world w;
    setup(&w, "123");
    liveness_reset(&w.l, NOW - 1);
    hear(&w, "1:3.50");
    ck_assert_int_eq(plan(&w, "23"), ERR_REFUSED);
    ck_assert_ptr_nonnull(strstr(w.why, "has just begun"));
    liveness_close(&w.l);
    cluster_close(&w.c);
}
END_TEST

/* Applied: nodes lost, the order given until the next epoch shows that it was carried out, what was
 * under way turned back. */
START_TEST(carried_out)
{
    struct world w;
    struct cluster_result r;
    struct cluster_command back;
    struct buf b = {0};
    setup(&w, "123");
    struct cluster_operator o = {.id = 3,
                                 .kind = CLUSTER_OP_ADD_REPLICA,
                                 .origin = CLUSTER_ORIGIN_PLANNER,
                                 .group = 1,
                                 .n_steps = 3,
                                 .at = 1,
                                 .step = {{CLUSTER_STEP_CREATE, 4, 14},
                                          {CLUSTER_STEP_ADD_STANDBY, 4, 14},
                                          {CLUSTER_STEP_PROMOTE, 4, 14}}};
    w.c.next_operator = 4;
    cluster_add_operator(&w.c, &o);
    hear(&w, "1:3.50 ~2:3.50 ~3:3.50");
    ck_assert_int_eq(plan(&w, "23"), ERR_OK);
    cluster_command_encode(&w.cmd, &b);
    cluster_command_close(&w.cmd);
    ck_assert_int_eq(cluster_command_decode(buf_slice(&b), &back), ERR_OK);
    cluster_apply(&w.c, &back, NULL, &r);
    cluster_command_close(&back);
    ck_assert_msg(r.err == ERR_OK, "%s", r.text);
    ck_assert_int_eq(w.c.nodes[1].state, CLUSTER_NODE_LOST);
    ck_assert_int_eq(w.c.nodes[2].state, CLUSTER_NODE_LOST);
    ck_assert_uint_eq(w.c.groups[0].force, 11);
    ck_assert(w.c.n_operators == 1 && w.c.operators[0].cancelling);
    struct msg_group_status s = {.group = 1, .replica = 11, .epoch = {1, 7}};
    struct msg_heartbeat h = {.node = 1, .incarnation = 1, .groups = &s, .n_groups = 1};
    struct msg_step steps[HEARTBEAT_STEPS_MAX];
    uint32_t n = heartbeat_steps(&w.c, &w.l, &h, NOW, steps);
    uint32_t forces = 0;
    for (uint32_t i = 0; i < n; i++)
        forces += steps[i].kind == MSG_STEP_FORCE && steps[i].replica == 11;
    ck_assert_uint_eq(forces, 1);
    struct shard_desc alone = w.c.groups[0].desc;
    alone.epoch.members = 5007;
    alone.n_replicas = 1;
    struct cluster_command told = {.kind = CLUSTER_CMD_GROUP, .n_groups = 1, .groups = &alone};
    cluster_apply(&w.c, &told, NULL, &r);
    ck_assert_int_eq(r.err, ERR_OK);
    ck_assert_uint_eq(w.c.groups[0].force, 0);
    ck_assert_uint_eq(w.c.groups[0].desc.n_replicas, 1);
    buf_close(&b);
    liveness_close(&w.l);
    cluster_close(&w.c);
}
END_TEST

/* What has changed since the plan was made is not done half. */
START_TEST(stale)
{
    struct world w;
    struct cluster_result r;
    setup(&w, "123");
    uint32_t lost[] = {2, 9};
    struct cluster_created force = {1, 99};
    struct cluster_command cmd = {.kind = CLUSTER_CMD_LOST, .lost = lost, .n_lost = 2};
    cluster_apply(&w.c, &cmd, NULL, &r);
    ck_assert_int_eq(r.err, ERR_NOT_FOUND);
    cmd.n_lost = 1;
    cmd.created = &force;
    cmd.n_created = 1;
    cluster_apply(&w.c, &cmd, NULL, &r);
    ck_assert_int_eq(r.err, ERR_WRONG_EPOCH);
    ck_assert_int_eq(w.c.nodes[1].state, CLUSTER_NODE_IN);
    liveness_close(&w.l);
    cluster_close(&w.c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("recover_lost");
    TCase *t = tcase_create("recover_lost");
    tcase_add_test(t, rows);
    tcase_add_test(t, a_new_leader_waits);
    tcase_add_test(t, carried_out);
    tcase_add_test(t, stale);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
