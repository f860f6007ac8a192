/* admin.* methods on a small cluster: what is answered, what is refused and with which words, what
 * is proposed. Commands are applied when the test says so. */
#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/raft/group.h"
#include "common/wire/mp.h"
#include "placementd/admin.h"
#include "placementd/membership.h"
#include "placementd/operator.h"

#define NODES 4u
#define GROUPS 4u
#define WALL 1000000u
#define NOW (1000 * NS_PER_S)

struct world {
    struct cluster c;
    struct liveness l;
    struct driver d;
    struct admin admin;
    struct group_conf conf;
    struct membership members;
    struct buf log[64];
    unsigned n_log;
    uint64_t index;
    struct admin_call call;
    char why[256];
};

static enum err on_propose(void *arg, const struct cluster_command *cmd, uint64_t *index,
                           uint64_t *term)
{
    struct world *w = arg;
    ck_assert_uint_lt(w->n_log, 64);
    cluster_command_encode(cmd, &w->log[w->n_log++]);
    *index = ++w->index;
    *term = 1;
    return ERR_OK;
}

static struct admin_world view_of(struct world *w)
{
    w->members = (struct membership){.c = &w->c, .conf = &w->conf, .self = 1, .n = 3};
    for (uint32_t i = 0; i < 3; i++)
        w->members.seen[i] = (struct membership_seen){.id = i + 1, .heard = true};
    return (struct admin_world){.admin = &w->admin,
                                .driver = &w->d,
                                .m = {&w->c, &w->l, NOW, WALL},
                                .rate = 100 * MIB,
                                .members = &w->members};
}

/* Groups of three on nodes 1 to 3, led by node g % 3 + 1; node 4 is empty. */
static void draw(struct world *w)
{
    for (uint32_t i = 1; i <= NODES; i++) {
        struct cluster_node n = {.id = i, .state = CLUSTER_NODE_IN, .incarnation = i, .cores = 1};
        snprintf(n.name, sizeof(n.name), "n%u", i);
        snprintf(n.host, sizeof(n.host), "h%u", i);
        cluster_add_node(&w->c, &n);
    }
    for (uint32_t g = 1; g <= GROUPS; g++) {
        struct shard_desc d = {.group = g,
                               .first_slot = (uint16_t)((g - 1) * 4096),
                               .last_slot = (uint16_t)(g * 4096 - 1),
                               .epoch = {1, 1},
                               .n_replicas = 3};
        for (uint32_t k = 0; k < 3; k++)
            d.replica[k] = (struct shard_replica){g * 10 + k + 1, k + 1, GROUP_VOTER};
        cluster_add_group(&w->c, &d)->created = 7;
    }
    w->c.founded = true;
    w->c.map_version = 50;
    w->c.next_node = 10;
    w->c.next_group = 10;
    w->c.next_replica = 100;
    w->c.next_operator = 1;
}

static void hear(struct world *w, uint32_t node)
{
    struct msg_group_status s[GROUPS];
    struct msg_heartbeat h = {.node = node,
                              .incarnation = node,
                              .disk_free = 900 * GIB,
                              .disk_size = 1000 * GIB,
                              .groups = s};
    for (uint32_t i = 0; i < w->c.n_groups && i < GROUPS && node <= 3; i++) {
        const struct shard_desc *d = &w->c.groups[i].desc;
        struct msg_group_status *g = &s[h.n_groups++];
        uint64_t leader = d->replica[d->group % 3].replica;
        *g = (struct msg_group_status){.group = d->group,
                                       .replica = d->replica[node - 1].replica,
                                       .role = GROUP_VOTER,
                                       .term = 2,
                                       .epoch = d->epoch,
                                       .first_slot = d->first_slot,
                                       .last_slot = d->last_slot,
                                       .leader = leader,
                                       .applied = 100,
                                       .bytes = GIB};
        if (leader != g->replica)
            continue;
        g->state = MSG_REPLICA_LEADER;
        g->n_members = 3;
        for (uint32_t k = 0; k < 3; k++)
            g->member[k] =
                (struct msg_member_status){d->replica[k].replica, k + 1, GROUP_VOTER, 100};
    }
    liveness_report(&w->l, &w->c, &h, NOW, NULL, NULL);
}

static struct world *setup(void)
{
    struct world *w = mem_zalloc(sizeof(*w));
    struct driver_options o = {.plan = {.replicas = 3,
                                        .max_moves = 2,
                                        .hysteresis_percent = 5,
                                        .disk_full_percent = 80,
                                        .balance = true},
                               .down_after_ns = 600 * NS_PER_S,
                               .stall_ms = 120000,
                               .arg = w,
                               .propose = on_propose};
    cluster_init(&w->c);
    liveness_init(&w->l, NOW);
    draw(w);
    driver_init(&w->d, &o);
    driver_reset(&w->d, NOW);
    for (uint32_t i = 1; i <= NODES; i++)
        hear(w, i);
    return w;
}

static void teardown(struct world *w)
{
    admin_call_close(&w->call);
    admin_close(&w->admin);
    driver_close(&w->d);
    liveness_close(&w->l);
    cluster_close(&w->c);
    for (unsigned i = 0; i < 64; i++)
        buf_close(&w->log[i]);
    free(w);
}

/* Pairs: "s:name", text; "u:name", unsigned; "b:name", int; ends with NULL. */
static enum err ask(struct world *w, const char *method, ...)
{
    struct buf b = {0}, pairs = {0};
    struct admin_world view = view_of(w);
    uint32_t n = 0;
    va_list args;
    va_start(args, method);
    for (const char *key; (key = va_arg(args, const char *)) != NULL; n++) {
        mp_put_str(&pairs, key + 2);
        if (key[0] == 's')
            mp_put_str(&pairs, va_arg(args, const char *));
        else if (key[0] == 'u')
            mp_put_uint(&pairs, va_arg(args, unsigned));
        else
            mp_put_bool(&pairs, va_arg(args, int));
    }
    va_end(args);
    mp_put_array(&b, 1);
    mp_put_map(&b, n);
    buf_append(&b, pairs.p, pairs.n);
    admin_call_close(&w->call);
    ck_assert_int_eq(admin_decode(slice_str(method), buf_slice(&b), &w->call), ERR_OK);
    buf_close(&b);
    buf_close(&pairs);
    return admin_serve(&view, &w->call, w->why, sizeof(w->why));
}

/* Applies what was proposed and tells the call. The last error. */
static enum err settle(struct world *w)
{
    enum err e = ERR_OK;
    for (unsigned i = 0; i < w->n_log; i++) {
        struct admin_world view = view_of(w);
        struct cluster_command cmd;
        struct cluster_result r;
        ck_assert_int_eq(cluster_command_decode(buf_slice(&w->log[i]), &cmd), ERR_OK);
        cluster_apply(&w->c, &cmd, NULL, &r);
        cluster_command_close(&cmd);
        buf_clear(&w->log[i]);
        if (w->call.done < w->call.n_pending)
            e = admin_on_result(&view, &w->call, &r, w->why, sizeof(w->why));
    }
    w->n_log = 0;
    return e;
}

static bool find(struct slice map, const char *name, struct mp_reader *out)
{
    struct mp_reader r = mp_reader_of(map);
    for (uint32_t n = mp_get_map(&r); n > 0 && !r.bad; n--) {
        if (slice_eq(mp_get_str(&r), slice_str(name))) {
            *out = r;
            return true;
        }
        mp_skip(&r);
    }
    return false;
}

static uint64_t number(struct world *w, const char *name)
{
    struct mp_reader r;
    ck_assert_msg(find(buf_slice(&w->call.result), name, &r), "no %s in the answer", name);
    return mp_peek(&r) == MP_ARRAY ? mp_get_array(&r) : mp_get_uint(&r);
}

/* The whole answer is one well-formed value. */
static void check_whole(const struct world *w)
{
    struct mp_reader r = mp_reader_of(buf_slice(&w->call.result));
    mp_skip(&r);
    ck_assert(!r.bad);
    ck_assert_uint_eq(r.left.n, 0);
}

static bool says(const struct world *w, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= w->call.result.n; i++)
        if (memcmp(w->call.result.p + i, text, n) == 0)
            return true;
    return false;
}

/* ---- refusals ---- */

#define U(x) ((unsigned)(x))

START_TEST(test_refusals)
{
    struct world *w = setup();
    struct {
        enum err got, want;
        char why[256];
        const char *part;
    } table[24];
    unsigned n = 0;
#define CASE(want_, part_, ...)                                                                    \
    do {                                                                                           \
        table[n].want = want_;                                                                     \
        table[n].part = part_;                                                                     \
        table[n].got = ask(w, __VA_ARGS__, NULL);                                                  \
        memcpy(table[n++].why, w->why, sizeof(w->why));                                            \
    } while (0)
    CASE(ERR_NOT_FOUND, "there is no node 'n9'; there are: n1, n2, n3, n4", "admin.node",
         "s:action", "drain", "s:node", "n9");
    CASE(ERR_BAD_REQUEST, "does not know 'blow-up'", "admin.node", "s:action", "blow-up", "s:node",
         "n1");
    CASE(ERR_REFUSED, "n1 has 4 replicas: drain it first", "admin.node", "s:action", "remove",
         "s:node", "n1");
    CASE(ERR_BAD_REQUEST, "for_ms", "admin.node", "s:action", "maintenance", "s:node", "n1");
    CASE(ERR_NOT_FOUND, "there is no group g77; there are 4, from g1 to g4", "admin.group",
         "s:action", "split", "u:group", U(77));
    CASE(ERR_REFUSED, "slot 0", "admin.group", "s:action", "split", "u:group", U(1), "u:slot",
         U(0));
    CASE(ERR_REFUSED, "slot 9000", "admin.group", "s:action", "split", "u:group", U(1), "u:slot",
         U(9000));
    CASE(ERR_REFUSED, "not neighbours", "admin.group", "s:action", "merge", "u:group", U(1),
         "u:into", U(3));
    CASE(ERR_NOT_FOUND, "g78", "admin.group", "s:action", "merge", "u:group", U(1), "u:into",
         U(78));
    CASE(ERR_BAD_REQUEST, "no group is named", "admin.group", "s:action", "split");
    CASE(ERR_NOT_FOUND, "n8", "admin.group", "s:action", "move-replica", "u:group", U(1), "s:from",
         "n1", "s:to", "n8");
    CASE(ERR_NOT_FOUND, "there is no plan 'abc'", "admin.rebalance", "s:action", "apply", "s:plan",
         "abc");
    CASE(ERR_NOT_FOUND, "operator 5 is not under way", "admin.operator", "s:action", "cancel",
         "u:id", U(5));
    CASE(ERR_NOT_FOUND, "there is no operator 5", "admin.why", "u:operator", U(5));
    CASE(ERR_REFUSED, "has 4 groups already", "admin.map", "s:action", "import", "s:state", "x");
#undef CASE
    for (unsigned i = 0; i < n; i++) {
        ck_assert_msg(table[i].got == table[i].want, "%s: %s, not %s", table[i].part,
                      err_name(table[i].got), err_name(table[i].want));
        ck_assert_msg(strstr(table[i].why, table[i].part) != NULL, "\"%s\" does not say \"%s\"",
                      table[i].why, table[i].part);
    }
    ck_assert_uint_eq(w->n_log, 0);
    teardown(w);
}
END_TEST

/* ---- nodes ---- */

START_TEST(test_drain)
{
    struct world *w = setup();
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "drain", "s:node", "n1", "b:plan", 1, NULL),
                     ERR_OK);
    ck_assert_uint_eq(w->n_log, 0);
    check_whole(w);
    ck_assert_uint_ge(number(w, "ops"), 4);
    ck_assert_uint_eq(number(w, "bytes"), 4 * GIB);
    ck_assert_uint_eq(number(w, "lowest_voters"), 3);
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "drain", "s:node", "n1", NULL), ERR_OK);
    ck_assert_uint_eq(w->call.n_pending, 1);
    ck_assert_int_eq(settle(w), ERR_OK);
    check_whole(w);
    ck_assert_int_eq(cluster_find_node(&w->c, 1)->state, CLUSTER_NODE_DRAINING);
    /* Again: nothing more to propose, the rest is shown. */
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "drain", "s:node", "n1", NULL), ERR_OK);
    ck_assert_uint_eq(w->n_log, 0);
    check_whole(w);
    /* A second one would leave two nodes for three replicas. */
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "drain", "s:node", "n2", NULL), ERR_REFUSED);
    ck_assert_msg(w->why[0], "no reason");
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "undrain", "s:node", "n1", NULL), ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    ck_assert_int_eq(cluster_find_node(&w->c, 1)->state, CLUSTER_NODE_IN);
    teardown(w);
}
END_TEST

START_TEST(test_remove_and_maintenance)
{
    struct world *w = setup();
    ck_assert_int_eq(
        ask(w, "admin.node", "s:action", "maintenance", "s:node", "n4", "u:for_ms", U(60000), NULL),
        ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    ck_assert_uint_eq(cluster_find_node(&w->c, 4)->maintenance_until_ms, WALL + 60000);
    ck_assert_int_eq(
        ask(w, "admin.node", "s:action", "maintenance", "s:node", "n4", "u:for_ms", U(0), NULL),
        ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    ck_assert_uint_eq(cluster_find_node(&w->c, 4)->maintenance_until_ms, 0);
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "remove", "s:node", "4", "b:plan", 1, NULL),
                     ERR_OK);
    ck_assert_uint_eq(w->n_log, 0);
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "remove", "s:node", "n4", NULL), ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    ck_assert_int_eq(cluster_find_node(&w->c, 4)->state, CLUSTER_NODE_REMOVED);
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "drain", "s:node", "n4", NULL), ERR_REFUSED);
    ck_assert_msg(strstr(w->why, "removed") != NULL, "%s", w->why);
    teardown(w);
}
END_TEST

/* ---- groups and operators ---- */

START_TEST(test_move_and_cancel)
{
    struct world *w = setup();
    ck_assert_int_eq(ask(w, "admin.group", "s:action", "move-replica", "u:group", U(2), "s:from",
                         "n1", "s:to", "n4", "b:plan", 1, NULL),
                     ERR_OK);
    ck_assert_uint_eq(w->n_log, 0);
    check_whole(w);
    ck_assert_uint_eq(number(w, "operators"), 0);
    ck_assert_int_eq(ask(w, "admin.group", "s:action", "move-replica", "u:group", U(2), "s:from",
                         "n1", "s:to", "n4", NULL),
                     ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "operators"), 1);
    ck_assert_uint_eq(w->c.n_operators, 1);
    ck_assert_int_eq(w->c.operators[0].origin, CLUSTER_ORIGIN_ADMIN);
    uint64_t id = w->c.operators[0].id;
    /* The group is busy now: refused, not to be tried again by the client. */
    ck_assert_int_eq(ask(w, "admin.group", "s:action", "split", "u:group", U(2), NULL),
                     ERR_REFUSED);
    ck_assert_msg(strstr(w->why, "kvctl operator cancel") != NULL, "%s", w->why);
    ck_assert_int_eq(ask(w, "admin.node", "s:action", "remove", "s:node", "n4", NULL), ERR_REFUSED);
    ck_assert_int_eq(ask(w, "admin.operator", "s:action", "list", NULL), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "operators"), 1);
    ck_assert(says(w, "n4 to make the replica"));
    ck_assert_int_eq(ask(w, "admin.why", "u:operator", U(id), NULL), ERR_OK);
    check_whole(w);
    ck_assert(says(w, "move of g2 from n1 to n4"));
    ck_assert_int_eq(ask(w, "admin.operator", "s:action", "cancel", "u:id", U(id), NULL), ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "cancelled"), 1);
    teardown(w);
}
END_TEST

/* Between the last step of a merge and its end the source is in the map no more. */
START_TEST(test_merged_away)
{
    struct world *w = setup();
    struct cluster_operator o = {.id = 1,
                                 .kind = CLUSTER_OP_MERGE,
                                 .group = 2,
                                 .peer = 1,
                                 .n_steps = 1,
                                 .step = {{CLUSTER_STEP_MERGE_OWN, 0, 0}}};
    cluster_add_operator(&w->c, &o);
    cluster_remove_group(&w->c, 2);
    ck_assert_int_eq(ask(w, "admin.operator", "s:action", "list", NULL), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "operators"), 1);
    ck_assert_int_eq(ask(w, "admin.rebalance", "s:action", "status", NULL), ERR_OK);
    check_whole(w);
    ck_assert_int_eq(ask(w, "admin.why", "u:operator", 1u, NULL), ERR_OK);
    check_whole(w);
    teardown(w);
}
END_TEST

START_TEST(test_rebalance)
{
    struct world *w = setup();
    struct mp_reader r;
    char id[16];
    ck_assert_int_eq(ask(w, "admin.rebalance", "s:action", "plan", NULL), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "version"), 50);
    ck_assert_uint_ge(number(w, "ops"), 1);
    ck_assert(find(buf_slice(&w->call.result), "plan", &r));
    mp_get_cstr(&r, id, sizeof(id));
    /* The map has changed: refused, and no operator made. */
    w->c.map_version++;
    ck_assert_int_eq(ask(w, "admin.rebalance", "s:action", "apply", "s:plan", id, NULL),
                     ERR_REFUSED);
    ck_assert_msg(strstr(w->why, "version 50, now 51") != NULL, "%s", w->why);
    w->c.map_version--;
    ck_assert_int_eq(ask(w, "admin.rebalance", "s:action", "apply", "s:plan", id, NULL), ERR_OK);
    ck_assert_uint_ge(w->call.n_pending, 1);
    ck_assert_int_eq(settle(w), ERR_OK);
    check_whole(w);
    ck_assert_uint_ge(number(w, "operators"), 1);
    ck_assert_uint_eq(w->c.n_operators, number(w, "operators"));
    ck_assert_int_eq(w->c.operators[0].origin, CLUSTER_ORIGIN_PLAN);
    uint32_t n = w->c.n_operators;
    ck_assert_int_eq(ask(w, "admin.rebalance", "s:action", "status", NULL), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "running") + number(w, "queued"), n);
    ck_assert_int_eq(ask(w, "admin.rebalance", "s:action", "pause", NULL), ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    ck_assert(w->c.paused);
    ck_assert_int_eq(ask(w, "admin.rebalance", "s:action", "resume", NULL), ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    ck_assert(!w->c.paused);
    ck_assert_int_eq(ask(w, "admin.rebalance", "s:action", "cancel", NULL), ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "cancelled") + number(w, "kept"), n);
    teardown(w);
}
END_TEST

START_TEST(test_why)
{
    struct world *w = setup();
    ck_assert_int_eq(ask(w, "admin.why", "u:slot", U(5000), NULL), ERR_OK);
    check_whole(w);
    ck_assert(says(w, "slot 5000 belongs to g2"));
    ck_assert_int_eq(ask(w, "admin.why", "s:node", "n1", NULL), ERR_OK);
    ck_assert(says(w, "n1 is up"));
    /* n3 is silent for 30 s: down, and replaced once ten minutes are over. */
    struct admin_world view = view_of(w);
    view.m.now += 30 * NS_PER_S;
    ck_assert_int_eq(ask(w, "admin.why", "s:node", "n3", NULL), ERR_OK);
    buf_clear(&w->call.result);
    ck_assert_int_eq(admin_serve(&view, &w->call, w->why, sizeof(w->why)), ERR_OK);
    check_whole(w);
    ck_assert(says(w, "n3 is down: not heard for 30s"));
    ck_assert(says(w, "replaced in 9m30s"));
    teardown(w);
}
END_TEST

START_TEST(test_map)
{
    struct world *w = setup(), *empty = setup();
    struct mp_reader r;
    ck_assert_int_eq(ask(w, "admin.map", "s:action", "export", NULL), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "groups"), GROUPS);
    ck_assert(find(buf_slice(&w->call.result), "state", &r));
    struct slice state = mp_get_bytes(&r);
    struct cluster back;
    ck_assert_int_eq(cluster_decode(state, &back), ERR_OK);
    ck_assert_uint_eq(back.n_nodes, NODES);
    cluster_close(&back);
    cluster_close(&empty->c);
    cluster_init(&empty->c);
    empty->c.founded = true;
    ck_assert_int_eq(ask(empty, "admin.map", "s:action", "import", "s:state", "nonsense", NULL),
                     ERR_BAD_REQUEST);
    buf_clear(&empty->call.args.state);
    buf_append(&empty->call.args.state, state.p, state.n);
    struct admin_world view = view_of(empty);
    ck_assert_int_eq(admin_serve(&view, &empty->call, empty->why, sizeof(empty->why)), ERR_OK);
    ck_assert_int_eq(settle(empty), ERR_OK);
    ck_assert_uint_eq(empty->c.n_groups, GROUPS);
    teardown(w);
    teardown(empty);
}
END_TEST

START_TEST(test_member)
{
    struct world *w = setup();
    for (uint32_t i = 1; i <= 3; i++) {
        struct cluster_command cmd = {.kind = CLUSTER_CMD_MEMBER, .member = {.id = i}};
        struct cluster_result r;
        snprintf(cmd.member.peer_addr, sizeof(cmd.member.peer_addr), "127.0.0.1:%u", 7000 + i);
        cmd.member.incarnation = i;
        cluster_apply(&w->c, &cmd, NULL, &r);
        w->conf.member[w->conf.n++] = (struct group_member){i, i, GROUP_VOTER};
    }
    ck_assert_int_eq(ask(w, "admin.member", "s:action", "grow", NULL), ERR_BAD_REQUEST);
    ck_assert_int_eq(ask(w, "admin.member", "s:action", "add", NULL), ERR_BAD_REQUEST);
    ck_assert_int_eq(ask(w, "admin.member", "s:action", "add", "u:id", U(4), NULL),
                     ERR_BAD_REQUEST);
    ck_assert_int_eq(
        ask(w, "admin.member", "s:action", "add", "u:id", U(3), "s:peer", "127.0.0.1:9", NULL),
        ERR_REFUSED);
    ck_assert_int_eq(ask(w, "admin.member", "s:action", "remove", "u:id", U(3), NULL), ERR_REFUSED);
    ck_assert_ptr_nonnull(strstr(w->why, "add a member first"));
    /* A plan says the same and does nothing. */
    for (int plan = 1; plan >= 0; plan--) {
        ck_assert_int_eq(ask(w, "admin.member", "s:action", "add", "u:id", U(4), "s:peer",
                             "127.0.0.1:7004", "b:plan", plan, NULL),
                         ERR_OK);
        check_whole(w);
        ck_assert(says(w, "cluster.join=true"));
        ck_assert_uint_eq(w->n_log, !plan);
    }
    ck_assert_int_eq(settle(w), ERR_OK);
    ck_assert_str_eq(cluster_find_member(&w->c, 4)->peer_addr, "127.0.0.1:7004");
    ck_assert_int_eq(ask(w, "admin.member", "s:action", "list", NULL), ERR_OK);
    check_whole(w);
    ck_assert_uint_eq(number(w, "members"), 4);
    ck_assert_uint_eq(number(w, "next_id"), 5);
    ck_assert(says(w, "expected"));
    ck_assert(says(w, "member 4 of placementd is not heard"));
    ck_assert_int_eq(ask(w, "admin.member", "s:action", "remove", "u:id", U(4), NULL), ERR_OK);
    ck_assert_int_eq(settle(w), ERR_OK);
    ck_assert(cluster_find_member(&w->c, 4)->leaving);
    teardown(w);
}
END_TEST

/* Whatever bytes come: refused or understood, never more. */
START_TEST(test_hostile_params)
{
    struct buf b = {0};
    struct admin_call c;
    mp_put_array(&b, 1);
    mp_put_map(&b, 3);
    mp_put_str(&b, "node");
    mp_put_str(&b, "0123456789012345678901234567890123456789012345678901234567890123456789");
    ck_assert_int_eq(admin_decode(slice_str("admin.node"), buf_slice(&b), &c), ERR_BAD_REQUEST);
    for (size_t n = 0; n < b.n; n++)
        ck_assert_int_eq(admin_decode(slice_str("admin.node"), slice_of(b.p, n), &c),
                         ERR_BAD_REQUEST);
    buf_clear(&b);
    mp_put_array(&b, 0);
    ck_assert_int_eq(admin_decode(slice_str("admin.node"), buf_slice(&b), &c), ERR_BAD_REQUEST);
    ck_assert_int_eq(admin_decode(slice_str("admin.nothing"), buf_slice(&b), &c),
                     ERR_UNKNOWN_METHOD);
    buf_close(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("placementd/admin");
    TCase *t = tcase_create("admin");
    tcase_add_test(t, test_refusals);
    tcase_add_test(t, test_drain);
    tcase_add_test(t, test_remove_and_maintenance);
    tcase_add_test(t, test_move_and_cancel);
    tcase_add_test(t, test_merged_away);
    tcase_add_test(t, test_rebalance);
    tcase_add_test(t, test_why);
    tcase_add_test(t, test_map);
    tcase_add_test(t, test_member);
    tcase_add_test(t, test_hostile_params);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
