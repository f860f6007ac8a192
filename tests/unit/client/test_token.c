/* Session tokens: round trip, and what strangers may send. */
#include "client/token.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/rng.h"

static uint64_t in[LIMIT_SLOTS], out[LIMIT_SLOTS];
static const uint8_t cluster[16] = {1, 2, 3, 255};

static void round_trip(size_t expected_max)
{
    struct buf b = {0};
    uint8_t of[16];
    token_encode(cluster, in, &b);
    ck_assert_uint_le(b.n, expected_max);
    ck_assert_int_eq(token_decode(buf_slice(&b), of, out), ERR_OK);
    ck_assert_mem_eq(of, cluster, 16);
    ck_assert_mem_eq(in, out, sizeof(in));
    buf_close(&b);
}

START_TEST(round_trips)
{
    struct rng rng;
    rng_seed(&rng, 3);
    memset(in, 0, sizeof(in));
    round_trip(64);
    in[0] = 1;
    in[LIMIT_SLOTS - 1] = UINT64_MAX;
    in[77] = 1ULL << 63;
    round_trip(128);
    for (unsigned i = 0; i < LIMIT_SLOTS; i++)
        in[i] = rng_next(&rng) >> rng_below(&rng, 64);
    round_trip(LIMIT_SLOTS * 15);
    for (unsigned i = 0; i < LIMIT_SLOTS; i++)
        in[i] = UINT64_MAX - i; /* the longest there is */
    round_trip(LIMIT_SLOTS * 15);
}
END_TEST

START_TEST(nothing_seen)
{
    struct buf b = {0};
    uint8_t of[16];
    token_encode(cluster, NULL, &b);
    ck_assert_int_eq(token_decode(buf_slice(&b), of, out), ERR_OK);
    for (unsigned i = 0; i < LIMIT_SLOTS; i++)
        ck_assert_uint_eq(out[i], 0);
    buf_close(&b);
}
END_TEST

START_TEST(hostile)
{
    static const char *const texts[] = {
        "",         "kv",       "kv1.",
        "kv1.AAAA", "kv2.AAAA", "kv1.!!!!",
        "hello",    "kv1.A",    "kv1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    uint8_t of[16];
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        ck_assert_int_eq(token_decode(slice_str(texts[i]), of, out), ERR_BAD_REQUEST);
    struct buf b = {0}, long_one = {0};
    memset(in, 0, sizeof(in));
    in[5] = 300;
    token_encode(cluster, in, &b);
    for (size_t n = 0; n < b.n; n++) /* cut anywhere */
        ck_assert_int_eq(token_decode(slice_of(b.p, n), of, out), ERR_BAD_REQUEST);
    for (size_t i = 4; i < b.n; i++) { /* any character changed */
        uint8_t was = b.p[i];
        b.p[i] = was == 'A' ? 'B' : 'A';
        /* The last character carries bits that are none of the bytes'. */
        enum err e = token_decode(buf_slice(&b), of, out);
        ck_assert(e == ERR_BAD_REQUEST || i == b.n - 1);
        b.p[i] = was;
    }
    buf_append(&long_one, "kv1.", 4);
    memset(buf_extend(&long_one, 4 * MIB), 'A', 4 * MIB);
    ck_assert_int_eq(token_decode(buf_slice(&long_one), of, out), ERR_BAD_REQUEST);
    buf_close(&b);
    buf_close(&long_one);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("token");
    TCase *t = tcase_create("all");
    tcase_add_test(t, round_trips);
    tcase_add_test(t, nothing_seen);
    tcase_add_test(t, hostile);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
