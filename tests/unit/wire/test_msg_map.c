#include "common/wire/msg_map.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/rng.h"
#include "common/wire/mp.h"

static struct buf b;
static struct shard_map m;

static void setup(void)
{
    b = (struct buf){0};
    shard_map_init(&m);
    m.version = 1ULL << 40;
    m.cluster[15] = 9;
    for (unsigned i = 0; i < 4; i++) {
        struct shard_desc s = {.group = i + 1,
                               .first_slot = (uint16_t)(i * 4096),
                               .last_slot = (uint16_t)(i * 4096 + 4095),
                               .epoch = {i, i + 1},
                               .leader = i * 10,
                               .n_replicas = 3,
                               .replica = {{1, 1, 1}, {2, 2, 1}, {3, 3, 0}}};
        struct shard_node n = {.node = i * 2 + 1, .cores = 4, .name = "n", .zone = "z"};
        snprintf(n.client_addr, sizeof(n.client_addr), "127.0.0.1:%u", 7000 + i);
        shard_map_put_shard(&m, &s);
        shard_map_put_node(&m, &n);
    }
}

static void teardown(void)
{
    buf_close(&b);
    shard_map_close(&m);
}

START_TEST(round_trip)
{
    struct shard_map out, fresh;
    struct buf again = {0};
    msg_map_encode(&b, &m);
    ck_assert_int_eq(msg_map_decode(buf_slice(&b), &out), ERR_OK);
    ck_assert_uint_eq(out.version, m.version);
    ck_assert_uint_eq(out.n_shards, 4);
    ck_assert_uint_eq(out.n_nodes, 4);
    ck_assert_str_eq(out.nodes[2].client_addr, "127.0.0.1:7002");
    msg_map_encode(&again, &out);
    ck_assert(slice_eq(buf_slice(&b), buf_slice(&again)));
    ck_assert(!shard_map_merge(&m, &out));
    shard_map_close(&out);

    shard_map_init(&fresh);
    buf_clear(&b);
    msg_map_encode(&b, &fresh);
    ck_assert_int_eq(msg_map_decode(buf_slice(&b), &out), ERR_OK);
    ck_assert_uint_eq(out.n_shards + out.n_nodes, 0);
    shard_map_close(&out);
    buf_close(&again);
}
END_TEST

/* Each row spoils one thing of a sound map. */
enum spoil { LAST_SLOT, BACKWARDS, OVERLAP, ORDER, REPLICAS, ROLE, NODE_ORDER, NODE_TWICE, SPOILS };

START_TEST(unsound_maps)
{
    for (int what = 0; what < SPOILS; what++) {
        struct shard_map bad, out;
        shard_map_copy(&bad, &m);
        switch (what) {
        case LAST_SLOT:
            bad.shards[3].last_slot = 16384;
            break;
        case BACKWARDS:
            bad.shards[1].last_slot = (uint16_t)(bad.shards[1].first_slot - 1);
            break;
        case OVERLAP:
            bad.shards[1].last_slot++;
            break;
        case ORDER: {
            struct shard_desc t = bad.shards[0];
            bad.shards[0] = bad.shards[1];
            bad.shards[1] = t;
            break;
        }
        case REPLICAS:
            break; /* below: the struct has no room for it */
        case ROLE:
            bad.shards[2].replica[0].role = 3;
            break;
        case NODE_ORDER:
            bad.nodes[0].node = 100;
            break;
        default:
            bad.nodes[1].node = bad.nodes[0].node;
        }
        buf_clear(&b);
        msg_map_encode(&b, &bad);
        if (what == REPLICAS) {
            buf_clear(&b);
            mp_put_map(&b, 2);
            mp_put_str(&b, "version");
            mp_put_uint(&b, 1);
            mp_put_str(&b, "shards");
            mp_put_array(&b, 1);
            mp_put_array(&b, 6);
            for (int i = 0; i < 3; i++)
                mp_put_uint(&b, 1);
            mp_put_array(&b, 2);
            mp_put_uint(&b, 1);
            mp_put_uint(&b, 1);
            mp_put_uint(&b, 1);
            mp_put_array(&b, LIMIT_GROUP_MEMBERS + 1);
            for (unsigned i = 0; i <= LIMIT_GROUP_MEMBERS; i++)
                buf_append(&b, "\x93\x01\x01\x01", 4);
        }
        ck_assert_msg(msg_map_decode(buf_slice(&b), &out) == ERR_BAD_REQUEST, "%d", what);
        shard_map_close(&bad);
    }
}
END_TEST

#define B(s) slice_of(s, sizeof(s) - 1)

START_TEST(keys)
{
    const struct {
        const char *name;
        struct slice in;
        enum err want;
    } rows[] = {
        {"version alone", B("\x81\xa7version\x05"), ERR_OK},
        {"no version", B("\x80"), ERR_BAD_REQUEST},
        {"unknown key", B("\x82\xa7version\x05\xa1z\x93\x01\x02\x03"), ERR_OK},
        {"short cluster",
         B("\x82\xa7version\x05\xa7"
           "cluster\xc4\x01x"),
         ERR_BAD_REQUEST},
        {"shards twice", B("\x83\xa7version\x05\xa6shards\x90\xa6shards\x90"), ERR_BAD_REQUEST},
        {"nodes twice", B("\x83\xa7version\x05\xa5nodes\x90\xa5nodes\x90"), ERR_BAD_REQUEST},
        {"longer inner arrays",
         B("\x83\xa7version\x05"
           "\xa6shards\x91\x97\x01\x00\x05\x93\x01\x01\x09\x00\x91\x94\x01\x01\x01\xc0\xa1x"
           "\xa5nodes\x91\x98\x01\xa1n\xa1z\xa1h\xa1"
           "c\xa1p\x04\x80"),
         ERR_OK},
        {"shorter inner array", B("\x82\xa7version\x05\xa6shards\x91\x92\x01\x00"),
         ERR_BAD_REQUEST},
        {"bytes after", B("\x81\xa7version\x05\x00"), ERR_BAD_REQUEST},
        {"nil", B("\xc0"), ERR_BAD_REQUEST},
        {"nothing", {0}, ERR_BAD_REQUEST},
        {"huge count", B("\x82\xa7version\x05\xa6shards\xdd\xff\xff\xff\xff"), ERR_BAD_REQUEST},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct shard_map out;
        enum err err = msg_map_decode(rows[i].in, &out);
        ck_assert_msg(err == rows[i].want, "%s: %s", rows[i].name, err_name(err));
        if (!err)
            shard_map_close(&out);
    }
}
END_TEST

START_TEST(truncated_and_mutated)
{
    struct rng r;
    struct shard_map out;
    rng_seed(&r, 14);
    msg_map_encode(&b, &m);
    uint8_t *copy = malloc(b.n);
    for (size_t cut = 0; cut < b.n; cut++)
        ck_assert_int_eq(msg_map_decode(slice_of(b.p, cut), &out), ERR_BAD_REQUEST);
    for (int i = 0; i < 30000; i++) {
        memcpy(copy, b.p, b.n);
        for (uint64_t k = 1 + rng_below(&r, 3); k > 0; k--)
            copy[rng_below(&r, b.n)] = (uint8_t)rng_next(&r);
        if (msg_map_decode(slice_of(copy, b.n), &out) != ERR_OK)
            continue;
        for (uint32_t k = 1; k < out.n_shards; k++)
            ck_assert_uint_gt(out.shards[k].first_slot, out.shards[k - 1].last_slot);
        shard_map_close(&out);
    }
    free(copy);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("msg_map");
    TCase *t = tcase_create("msg_map");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, unsound_maps);
    tcase_add_test(t, keys);
    tcase_add_test(t, truncated_and_mutated);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
