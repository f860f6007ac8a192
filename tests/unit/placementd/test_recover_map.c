/* recover_map.c: the map from what nodes report. A report is drawn as words, a replica each:
 * "GROUP.REPLICA FIRST-LAST RANGE.MEMBERS [lN: leads, term N; tN: follows in term N] [MEMBERS]" in
 * one line for a node: "1: 1.11 0-8191 1.1 l2 11@1,12@2,13@3; 2.21 8192-16383 1.1 t2". Role: a
 * trailing s is a standby. phase: P1 target, P2 source, P3 frozen, then "MERGE>PEER". */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/raft/group.h"
#include "placementd/cluster_command.h"
#include "placementd/recover_map.h"
#include "placementd/restore_apply.h"

#define NOW (100 * NS_PER_S)

struct world {
    struct cluster c;
    struct recovery seen;
    char said[8000];
};

static void get_members(const char *list, struct msg_group_status *s)
{
    while (*list) {
        struct msg_member_status *m = &s->member[s->n_members++];
        char *end;
        m->replica = strtoull(list, &end, 10);
        ck_assert_int_eq(*end, '@');
        m->node = (uint32_t)strtoul(end + 1, &end, 10);
        m->role = *end == 's' ? GROUP_STANDBY : GROUP_VOTER;
        list = end + (*end == 's');
        list += *list == ',';
    }
}

static void get_replica(char *text, struct msg_group_status *s)
{
    unsigned first, last, range, members;
    unsigned long long group, replica;
    char role[16] = "", list[64] = "", phase[32] = "";
    memset(s, 0, sizeof(*s));
    ck_assert_int_ge(sscanf(text, "%llu.%llu %u-%u %u.%u %15s %63s %31s", &group, &replica, &first,
                            &last, &range, &members, role, list, phase),
                     7);
    *s = (struct msg_group_status){.group = group,
                                   .replica = replica,
                                   .role = GROUP_VOTER,
                                   .epoch = {range, members},
                                   .first_slot = (uint16_t)first,
                                   .last_slot = (uint16_t)last,
                                   .applied = 10,
                                   .state = role[0] == 'l'   ? MSG_REPLICA_LEADER
                                            : role[0] == 'b' ? MSG_REPLICA_BROKEN
                                                             : MSG_REPLICA_FOLLOWER,
                                   .term = strtoull(role + 1, NULL, 10)};
    if (s->state == MSG_REPLICA_LEADER)
        get_members(list, s);
    if (phase[0] == 'P') {
        char *end;
        s->phase = (uint8_t)(phase[1] - '0');
        s->merge = strtoull(phase + 2, &end, 10);
        s->peer = strtoull(end + 1, NULL, 10);
    }
}

/* "NODE: replica; replica"; an old report begins with '~'. */
static void hear(struct world *w, const char *line)
{
    struct msg_group_status s[16];
    struct msg_heartbeat h = {.groups = s, .have = 70};
    char text[1024], *save = NULL;
    bool old = *line == '~';
    snprintf(text, sizeof(text), "%s", line + old);
    char *p = strchr(text, ':');
    h.node = (uint32_t)strtoul(text, NULL, 10);
    for (char *r = strtok_r(p + 1, ";", &save); r; r = strtok_r(NULL, ";", &save))
        if (strspn(r, " ") < strlen(r))
            get_replica(r, &s[h.n_groups++]);
    struct cluster_node n = {
        .id = h.node, .state = CLUSTER_NODE_IN, .incarnation = h.node, .cores = 1};
    snprintf(n.name, sizeof(n.name), "n%u", h.node);
    cluster_add_node(&w->c, &n);
    recovery_heard(&w->seen, &h, old ? NOW - RECOVER_FRESH_NS : NOW);
}

static void on_line(void *arg, const char *line)
{
    struct world *w = arg;
    snprintf(w->said + strlen(w->said), sizeof(w->said) - strlen(w->said), "%s\n", line);
}

static void setup(struct world *w, const char *const *lines)
{
    memset(w, 0, sizeof(*w));
    cluster_init(&w->c);
    w->c.founded = w->c.recovering = true;
    memcpy(w->c.id, "the cluster's id", 16);
    w->c.map_version = 50;
    w->c.next_node = 1000;
    for (; *lines; lines++)
        hear(w, *lines);
}

static void teardown(struct world *w)
{
    cluster_close(&w->c);
    recovery_reset(&w->seen);
}

static bool build(struct world *w, const uint32_t *lost, uint32_t n, struct cluster *out)
{
    struct recover_map r = {.c = &w->c,
                            .seen = &w->seen,
                            .now = NOW,
                            .lost = lost,
                            .n_lost = n,
                            .arg = w,
                            .say = on_line};
    w->said[0] = '\0';
    return recover_map_build(&r, out);
}

/* "1:0-8191@11,12,13 2:..." */
static void map_text(const struct cluster *c, char *out, size_t n)
{
    out[0] = '\0';
    for (uint32_t i = 0; i < c->n_groups; i++) {
        const struct shard_desc *d = &c->groups[i].desc;
        snprintf(out + strlen(out), n - strlen(out), "%s%llu:%u-%u", i ? " " : "",
                 (unsigned long long)d->group, d->first_slot, d->last_slot);
        for (uint32_t k = 0; k < d->n_replicas; k++)
            snprintf(out + strlen(out), n - strlen(out), "%c%llu%s", k ? ',' : '@',
                     (unsigned long long)d->replica[k].replica,
                     d->replica[k].role == GROUP_VOTER ? "" : "s");
    }
}

#define M1 "11@1,12@2,13@3"
#define M2 "21@1,22@2,23@3"
#define ALL "0-16383"

static const struct {
    const char *name;
    const char *lines[6];
    uint32_t lost;   /* a node; 0: none */
    const char *map; /* NULL: none, and ... */
    const char *says;
} table[] = {
    {"nobody", {NULL}, 0, NULL, "slots 0-16383: no group"},
    {"one group",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 t2", "3: 1.13 " ALL " 1.1 t2"},
     0,
     "1:0-16383@11,12,13",
     "Every slot"},
    {"two of three are enough",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 t2", "3:"},
     0,
     "1:0-16383@11,12,13",
     ""},
    {"one of three is not",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2:", "3:"},
     0,
     NULL,
     "1 of its 3 voters are heard"},
    {"a leader of the past: the others are in a later term",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 t3", "3: 1.13 " ALL " 1.1 t3"},
     0,
     NULL,
     "1 of its 3 voters are heard"},
    {"two say they lead: the later term",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 l3 " M1, "3: 1.13 " ALL " 1.1 t3"},
     0,
     "1:0-16383@11,12,13",
     ""},
    {"no leader",
     {"1: 1.11 " ALL " 1.1 t2", "2: 1.12 " ALL " 1.1 t2", "3: 1.13 " ALL " 1.1 t2"},
     0,
     NULL,
     "g1 (slots 0-16383) has no leader that is heard; 3 of its replicas"},
    {"what was said long ago does not count",
     {"~1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 t2", "3: 1.13 " ALL " 1.1 t2"},
     0,
     NULL,
     "no leader"},
    {"somebody knows of a newer epoch",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.2 t2", "3: 1.13 " ALL " 1.1 t2"},
     0,
     NULL,
     "has not told its newest state"},
    {"followers behind do not matter",
     {"1: 1.11 " ALL " 1.3 l2 " M1, "2: 1.12 " ALL " 1.2 t2", "3: 1.13 " ALL " 1.1 t2"},
     0,
     "1:0-16383@11,12,13",
     ""},
    {"the forced one, not the old pair in its later term",
     {"1: 1.11 " ALL " 1.5001 l4 11@1", "2: 1.12 " ALL " 1.1 l9 " M1, "3: 1.13 " ALL " 1.1 t9"},
     0,
     "1:0-16383@11",
     ""},
    {"a split: parent and child",
     {"1: 1.11 0-8191 2.1 l2 " M1 "; 2.21 8192-16383 1.1 l2 " M2,
      "2: 1.12 0-8191 2.1 t2; 2.22 8192-16383 1.1 t2", "3: 1.13 0-8191 2.1 t2"},
     0,
     "1:0-8191@11,12,13 2:8192-16383@21,22,23",
     ""},
    {"a split: the child is not there yet",
     {"1: 1.11 0-8191 2.1 l2 " M1, "2: 1.12 0-8191 2.1 t2", "3: 1.13 " ALL " 1.1 t2"},
     0,
     NULL,
     "slots 8192-16383: no group"},
    {"a split: the parent has not told yet",
     {"1: 1.11 " ALL " 1.1 l2 " M1 "; 2.21 8192-16383 1.1 l2 " M2,
      "2: 1.12 " ALL " 1.1 t2; 2.22 8192-16383 1.1 t2", "3:"},
     0,
     NULL,
     "slots 8192-16383: both g1 and g2"},
    {"a gap in front and within",
     {"1: 1.11 5-10 1.1 l2 " M1 "; 2.21 20-16383 1.1 l2 " M2,
      "2: 1.12 5-10 1.1 t2; 2.22 20-16383 1.1 t2", "3:"},
     0,
     NULL,
     "slots 11-19: no group"},
    {"merged: the source is still on disk",
     {"1: 1.11 " ALL " 3.1 l2 " M1 "; 2.21 8192-16383 1.1 l2 " M2,
      "2: 1.12 " ALL " 3.1 t2; 2.22 8192-16383 1.1 t2", "3: 2.23 8192-16383 1.1 t2"},
     0,
     "1:0-16383@11,12,13",
     ""},
    {"a merge under way, told by the source",
     {"1: 1.11 0-8191 1.1 l2 " M1 "; 2.21 8192-16383 1.1 l2 " M2 " P3"
      "77>1",
      "2: 1.12 0-8191 1.1 t2; 2.22 8192-16383 1.1 t2", "3:"},
     0,
     "1:0-8191@11,12,13 2:8192-16383@21,22,23",
     "1 merges under way"},
    {"a merge under way, told by both",
     {"1: 1.11 0-8191 1.1 l2 " M1 " P1"
      "77>2; 2.21 8192-16383 1.1 l2 " M2 " P2"
      "77>1",
      "2: 1.12 0-8191 1.1 t2; 2.22 8192-16383 1.1 t2", "3:"},
     0,
     "1:0-8191@11,12,13 2:8192-16383@21,22,23",
     "1 merges under way"},
    {"a node with a replica is not heard",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 t2"},
     0,
     NULL,
     "node 3, which has a replica of g1, is not heard"},
    {"... and is given up",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 t2"},
     3,
     "1:0-16383@11,12,13",
     "1 are given up"},
    {"one that is heard is not lost",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 t2", "3: 1.13 " ALL " 1.1 t2"},
     3,
     NULL,
     "n3 is not lost"},
    {"a standby stays one",
     {"1: 1.11 " ALL " 1.4 l2 " M1 ",14@4s", "2: 1.12 " ALL " 1.4 t2", "3: 1.13 " ALL " 1.4 t2",
      "4:"},
     0,
     "1:0-16383@11,12,13,14s",
     ""},
    {"a broken one says nothing",
     {"1: 1.11 " ALL " 1.1 l2 " M1, "2: 1.12 " ALL " 1.1 t2", "3: 1.13 " ALL " 9.9 b0"},
     0,
     "1:0-16383@11,12,13",
     ""},
};

START_TEST(rows)
{
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct world w;
        struct cluster out;
        char text[512];
        setup(&w, table[i].lines);
        bool made = build(&w, &table[i].lost, table[i].lost ? 1 : 0, &out);
        ck_assert_msg(made == (table[i].map != NULL) && strstr(w.said, table[i].says), "%s: %s\n%s",
                      table[i].name, made ? "made" : "not made", w.said);
        if (made) {
            map_text(&out, text, sizeof(text));
            ck_assert_msg(strcmp(text, table[i].map) == 0, "%s: %s", table[i].name, text);
            cluster_close(&out);
        }
        teardown(&w);
    }
}
END_TEST

/* As it comes into the state: ids above all seen, nothing made again, a merge that is taken back.
 */
START_TEST(imported)
{
    static const char *const lines[] = {"1: 1.11 0-8191 1.1 l2 " M1 " P1"
                                        "77>2; 2.21 8192-16383 1.1 l2 " M2 " P3"
                                        "77>1",
                                        "2: 1.12 0-8191 1.1 t2; 2.22 8192-16383 1.1 t2", NULL};
    const uint32_t lost = 3;
    struct world w;
    struct cluster out;
    struct buf b = {0};
    struct cluster_result r;
    setup(&w, lines);
    ck_assert(build(&w, &lost, 1, &out));
    cluster_encode(&out, &b);
    cluster_close(&out);
    struct cluster_command cmd = {.kind = CLUSTER_CMD_IMPORT, .state = buf_slice(&b)};
    cluster_apply(&w.c, &cmd, NULL, &r);
    ck_assert_msg(r.err == ERR_OK, "%s", r.text);
    ck_assert(!w.c.recovering);
    ck_assert_uint_ge(w.c.map_version, 70 + RESTORE_GAP);
    ck_assert_uint_ge(w.c.next_group, 3 + RESTORE_GAP);
    ck_assert_uint_ge(w.c.next_replica, 24 + RESTORE_GAP);
    ck_assert_uint_ge(w.c.next_operator, 78 + RESTORE_GAP);
    ck_assert_uint_ge(w.c.next_node, 1000 + RESTORE_GAP);
    ck_assert_uint_eq(w.c.groups[0].created, 7);
    ck_assert_int_eq(cluster_find_node(&w.c, 3)->state, CLUSTER_NODE_LOST);
    ck_assert_uint_eq(w.c.n_operators, 1);
    const struct cluster_operator *o = &w.c.operators[0];
    ck_assert(o->id == 77 && o->group == 2 && o->peer == 1 && o->cancelling);
    ck_assert_int_eq(o->step[0].kind, CLUSTER_STEP_MERGE_ABORT);
    ck_assert(!cluster_group_is_gone(&w.c, w.c.next_group - 1));
    buf_close(&b);
    teardown(&w);
}
END_TEST

/* The commands before that: an id is adopted only by what is empty; nodes keep their ids. */
START_TEST(adopted)
{
    struct cluster c;
    struct cluster_result r;
    struct cluster_command adopt = {.kind = CLUSTER_CMD_ADOPT};
    struct cluster_command rejoin = {.kind = CLUSTER_CMD_REJOIN};
    cluster_init(&c);
    memcpy(adopt.cluster, "another's id ...", 16);
    rejoin.node = (struct cluster_node){.id = 4, .incarnation = 40, .cores = 1, .name = "n4"};
    cluster_apply(&c, &rejoin, NULL, &r);
    ck_assert_int_eq(r.err, ERR_REFUSED); /* no such id was given out here */
    cluster_apply(&c, &adopt, NULL, &r);
    ck_assert_int_eq(r.err, ERR_OK);
    ck_assert(c.recovering && memcmp(c.id, adopt.cluster, 16) == 0);
    cluster_apply(&c, &rejoin, NULL, &r);
    ck_assert_int_eq(r.err, ERR_OK);
    ck_assert_uint_eq(r.value, 4);
    cluster_apply(&c, &adopt, NULL, &r);
    ck_assert_int_eq(r.err, ERR_OK); /* the same once more */
    adopt.cluster[0]++;
    cluster_apply(&c, &adopt, NULL, &r);
    ck_assert_int_eq(r.err, ERR_EXISTS);
    rejoin.node.incarnation = 41;
    cluster_apply(&c, &rejoin, NULL, &r);
    ck_assert_int_eq(r.err, ERR_REFUSED);
    rejoin.node.id = 2;
    cluster_apply(&c, &rejoin, NULL, &r);
    ck_assert_int_eq(r.err, ERR_REFUSED); /* the name is taken */
    rejoin.node.id = RESTORE_GAP * 3;     /* recovered before: ids above the gap */
    rejoin.node.name[1] = '7';
    cluster_apply(&c, &rejoin, NULL, &r);
    ck_assert_int_eq(r.err, ERR_OK);
    ck_assert_uint_gt(c.next_node, RESTORE_GAP * 3);
    ck_assert(!cluster_group_is_gone(&c, 1));
    struct shard_desc d = {.group = 1, .last_slot = 16383, .epoch = {1, 1}, .n_replicas = 1};
    d.replica[0] = (struct shard_replica){1, 4, GROUP_VOTER};
    struct cluster_command told = {.kind = CLUSTER_CMD_GROUP, .n_groups = 1, .groups = &d};
    cluster_apply(&c, &told, NULL, &r);
    ck_assert_uint_eq(c.n_groups, 0); /* not one by one */
    struct buf b = {0};
    struct cluster back;
    cluster_encode(&c, &b);
    ck_assert_int_eq(cluster_decode(buf_slice(&b), &back), ERR_OK);
    ck_assert(back.recovering);
    cluster_close(&back);
    buf_close(&b);
    cluster_close(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("recover_map");
    TCase *t = tcase_create("recover_map");
    tcase_add_test(t, rows);
    tcase_add_test(t, imported);
    tcase_add_test(t, adopted);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
