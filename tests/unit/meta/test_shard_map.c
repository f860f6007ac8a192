#include "common/meta/shard_map.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/rng.h"

static struct shard_map m;

static void setup(void)
{
    shard_map_init(&m);
}

static void teardown(void)
{
    shard_map_close(&m);
}

static struct shard_desc desc(uint64_t group, unsigned first, unsigned last, uint32_t range)
{
    return (struct shard_desc){.group = group,
                               .first_slot = (uint16_t)first,
                               .last_slot = (uint16_t)last,
                               .epoch = {range, 1},
                               .n_replicas = 1,
                               .replica = {{group * 10, (uint32_t)group, 1}}};
}

static bool put(uint64_t group, unsigned first, unsigned last, uint32_t range)
{
    struct shard_desc d = desc(group, first, last, range);
    return shard_map_put_shard(&m, &d);
}

/* "group:first-last@range ..." */
static const char *show(void)
{
    static char text[4096];
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < m.n_shards; i++) {
        const struct shard_desc *s = &m.shards[i];
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%llu:%u-%u@%u", i ? " " : "",
                              (unsigned long long)s->group, s->first_slot, s->last_slot,
                              s->epoch.range);
    }
    return text;
}

static void check_sound(void)
{
    for (uint32_t i = 0; i < m.n_shards; i++) {
        ck_assert_uint_le(m.shards[i].first_slot, m.shards[i].last_slot);
        ck_assert_uint_lt(m.shards[i].last_slot, LIMIT_SLOTS);
        if (i)
            ck_assert_uint_gt(m.shards[i].first_slot, m.shards[i - 1].last_slot);
    }
    for (uint32_t i = 1; i < m.n_nodes; i++)
        ck_assert_uint_gt(m.nodes[i].node, m.nodes[i - 1].node);
}

START_TEST(finds)
{
    ck_assert_ptr_null(shard_map_find(&m, 0));
    put(1, 10, 19, 1);
    put(2, 30, 16383, 1);
    ck_assert_ptr_null(shard_map_find(&m, 9));
    ck_assert_uint_eq(shard_map_find(&m, 10)->group, 1);
    ck_assert_uint_eq(shard_map_find(&m, 19)->group, 1);
    ck_assert_ptr_null(shard_map_find(&m, 20));
    ck_assert_uint_eq(shard_map_find(&m, 16383)->group, 2);
    ck_assert_ptr_null(shard_map_find(&m, 65535));
    ck_assert_uint_eq(shard_map_find_group(&m, 2)->first_slot, 30);
    ck_assert_ptr_null(shard_map_find_group(&m, 3));
}
END_TEST

START_TEST(shards_by_epoch)
{
    /* Steps on one map: what is put, whether it changes anything, what is there after. */
    static const struct {
        uint64_t group;
        unsigned first, last;
        uint32_t range;
        bool changed;
        const char *after;
    } rows[] = {
        {1, 0, 99, 1, true, "1:0-99@1"},
        {1, 0, 99, 1, false, "1:0-99@1"},
        {1, 0, 99, 0, false, "1:0-99@1"},
        /* a split, child first: the parent keeps what the child did not take */
        {2, 50, 99, 2, true, "1:0-49@1 2:50-99@2"},
        /* an old piece of the parent cannot take it back */
        {1, 0, 99, 1, false, "1:0-49@1 2:50-99@2"},
        {1, 0, 49, 2, true, "1:0-49@2 2:50-99@2"},
        /* a piece in the middle */
        {3, 10, 19, 3, true, "1:0-9@2 3:10-19@3 1:20-49@2 2:50-99@2"},
        /* the group's newer range wipes its older pieces */
        {1, 0, 9, 3, true, "1:0-9@3 3:10-19@3 2:50-99@2"},
        /* a merge over several */
        {3, 0, 99, 4, true, "3:0-99@4"},
        {1, 0, 9, 3, false, "3:0-99@4"},
        /* older news about free slots is better than none */
        {5, 90, 120, 1, true, "3:0-99@4 5:100-120@1"},
        {6, 16383, 16383, 1, true, "3:0-99@4 5:100-120@1 6:16383-16383@1"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ck_assert_int_eq(put(rows[i].group, rows[i].first, rows[i].last, rows[i].range),
                         rows[i].changed);
        ck_assert_str_eq(show(), rows[i].after);
        check_sound();
    }
}
END_TEST

START_TEST(leader_hints)
{
    struct shard_desc d = desc(1, 0, 99, 1);
    d.leader = 10;
    ck_assert(shard_map_put_shard(&m, &d));
    d.leader = 0; /* not knowing does not unlearn */
    ck_assert(!shard_map_put_shard(&m, &d));
    ck_assert_uint_eq(m.shards[0].leader, 10);
    d.leader = 11;
    ck_assert(shard_map_put_shard(&m, &d));
    ck_assert_uint_eq(m.shards[0].leader, 11);
    d.leader = 0;
    d.epoch.members = 2; /* a newer membership: the old leader may be gone */
    ck_assert(shard_map_put_shard(&m, &d));
    ck_assert_uint_eq(m.shards[0].leader, 0);
}
END_TEST

static struct shard_node node(uint32_t id, const char *addr)
{
    struct shard_node n = {.node = id, .cores = 1};
    snprintf(n.client_addr, sizeof(n.client_addr), "%s", addr);
    return n;
}

START_TEST(nodes)
{
    static const uint32_t ids[] = {5, 1, 9, 3};
    for (size_t i = 0; i < 4; i++) {
        struct shard_node n = node(ids[i], "a");
        ck_assert(shard_map_put_node(&m, &n));
        ck_assert(!shard_map_put_node(&m, &n));
    }
    check_sound();
    struct shard_node n = node(3, "b");
    ck_assert(shard_map_put_node(&m, &n));
    ck_assert_str_eq(shard_map_find_node(&m, 3)->client_addr, "b");
    ck_assert_ptr_null(shard_map_find_node(&m, 4));
    ck_assert_uint_eq(m.n_nodes, 4);
}
END_TEST

START_TEST(piece_and_merge)
{
    struct shard_map client, piece, copy;
    m.version = 9;
    m.cluster[0] = 7;
    for (uint32_t i = 1; i <= 3; i++) {
        struct shard_node n = node(i, "new");
        shard_map_put_node(&m, &n);
        put(i, (i - 1) * 100, i * 100 - 1, 2);
    }
    shard_map_piece(&m, shard_map_find(&m, 150), &piece);
    ck_assert_uint_eq(piece.n_shards, 1);
    ck_assert_uint_eq(piece.n_nodes, 1);
    ck_assert_uint_eq(piece.nodes[0].node, 2);
    ck_assert_uint_eq(piece.version, 0);

    shard_map_init(&client);
    ck_assert(shard_map_merge(&client, &piece));
    ck_assert_uint_eq(client.version, 0); /* a redirect does not stand for the whole map */
    ck_assert_uint_eq(client.cluster[0], 7);
    ck_assert(!shard_map_merge(&client, &piece));
    ck_assert(shard_map_merge(&client, &m));
    ck_assert_uint_eq(client.version, 9);
    ck_assert_uint_eq(client.n_shards, 3);
    ck_assert(!shard_map_merge(&client, &m));

    /* an older map's addresses do not replace newer ones */
    shard_map_copy(&copy, &m);
    copy.version = 8;
    snprintf(copy.nodes[0].client_addr, sizeof(copy.nodes[0].client_addr), "old");
    ck_assert(!shard_map_merge(&client, &copy));
    copy.version = 10;
    ck_assert(shard_map_merge(&client, &copy));
    ck_assert_str_eq(client.nodes[0].client_addr, "old");

    copy.cluster[0] = 8; /* another cluster's */
    copy.version = 11;
    ck_assert(!shard_map_merge(&client, &copy));
    ck_assert_uint_eq(client.version, 10);
    shard_map_close(&client);
    shard_map_close(&piece);
    shard_map_close(&copy);
}
END_TEST

/* Pieces of one history, merged in any order, give the newest map: a history of splits and leader
 * changes, delivered shuffled and with repeats. */
START_TEST(order_does_not_matter)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct rng rng;
        struct shard_desc now[64], past[256];
        unsigned n_now = 1, n_past = 0;
        rng_seed(&rng, seed);
        now[0] = past[n_past++] = desc(1, 0, LIMIT_SLOTS - 1, 1);
        while (n_past < 100) { /* a split: both halves get the next epoch */
            struct shard_desc *s = &now[rng_below(&rng, n_now)];
            if (s->first_slot == s->last_slot)
                continue;
            unsigned width = (unsigned)(s->last_slot - s->first_slot);
            uint16_t at = (uint16_t)(s->first_slot + rng_below(&rng, width));
            struct shard_desc child = desc(n_now + 1, at + 1u, s->last_slot, s->epoch.range + 1);
            s->last_slot = at;
            s->epoch.range++;
            past[n_past++] = *s;
            past[n_past++] = now[n_now++] = child;
        }
        struct shard_map want;
        shard_map_init(&want);
        for (unsigned i = 0; i < n_now; i++)
            shard_map_put_shard(&want, &now[i]);
        ck_assert_uint_eq(want.n_shards, n_now);
        setup();
        for (unsigned i = n_past; i > 1; i--) {
            unsigned j = (unsigned)rng_below(&rng, i);
            struct shard_desc t = past[i - 1];
            past[i - 1] = past[j];
            past[j] = t;
        }
        for (unsigned i = 0; i < n_past + 50; i++) {
            shard_map_put_shard(&m, &past[i < n_past ? i : rng_below(&rng, n_past)]);
            check_sound();
        }
        ck_assert(!shard_map_merge(&m, &want));
        ck_assert_uint_eq(m.n_shards, want.n_shards);
        shard_map_close(&want);
        teardown();
    }
    setup();
}
END_TEST

START_TEST(full_map)
{
    struct shard_map big, copy;
    shard_map_init(&big);
    big.n_shards = LIMIT_SLOTS;
    big.shards = calloc(LIMIT_SLOTS, sizeof(*big.shards));
    for (unsigned i = 0; i < LIMIT_SLOTS; i++)
        big.shards[i] = desc(i + 1, i, i, 1);
    ck_assert(shard_map_merge(&m, &big));
    ck_assert_uint_eq(m.n_shards, LIMIT_SLOTS);
    ck_assert(!shard_map_merge(&m, &big));
    shard_map_copy(&copy, &m);
    for (unsigned i = 0; i < LIMIT_SLOTS; i++)
        ck_assert_uint_eq(shard_map_find(&copy, (uint16_t)i)->group, i + 1);
    shard_map_close(&big);
    shard_map_close(&copy);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shard_map");
    TCase *t = tcase_create("shard_map");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, finds);
    tcase_add_test(t, shards_by_epoch);
    tcase_add_test(t, leader_hints);
    tcase_add_test(t, nodes);
    tcase_add_test(t, piece_and_merge);
    tcase_add_test(t, order_does_not_matter);
    tcase_add_test(t, full_map);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
