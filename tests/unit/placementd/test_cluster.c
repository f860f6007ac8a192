/* The state: what commands are accepted about nodes, members, groups, and what they change. */
#include "tests/unit/placementd/cluster_world.h"

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
    tcase_add_test(t, test_maintenance_and_pause);
    tcase_add_test(t, test_import);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
