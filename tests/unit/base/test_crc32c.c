#include "common/base/crc32c.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/rng.h"

/* Bit by bit, as the definition goes. */
static uint32_t reference(uint32_t crc, const uint8_t *p, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

START_TEST(known_vectors)
{
    /* RFC 3720, B.4 */
    uint8_t zeros[32] = {0}, ones[32], up[32];
    for (unsigned i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
    }
    ck_assert_uint_eq(crc32c(0, zeros, 32), 0x8a9136aau);
    ck_assert_uint_eq(crc32c(0, ones, 32), 0x62a8ab43u);
    ck_assert_uint_eq(crc32c(0, up, 32), 0x46dd794eu);
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283u);
    ck_assert_uint_eq(crc32c(0, NULL, 0), 0);
    ck_assert_uint_eq(crc32c(5, NULL, 0), 5);
}
END_TEST

START_TEST(every_length_and_alignment)
{
    static uint8_t data[2048];
    struct rng rng;
    rng_seed(&rng, 2);
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)rng_next(&rng);
    for (size_t offset = 0; offset < 9; offset++)
        for (size_t n = 0; n < 600; n++)
            ck_assert_uint_eq(crc32c(7, data + offset, n), reference(7, data + offset, n));
    ck_assert_uint_eq(crc32c(0, data, sizeof(data)), reference(0, data, sizeof(data)));
}
END_TEST

START_TEST(chains_at_every_cut)
{
    static uint8_t data[1000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31);
    uint32_t whole = crc32c(0, data, sizeof(data));
    for (size_t cut = 0; cut <= sizeof(data); cut++)
        ck_assert_uint_eq(crc32c(crc32c(0, data, cut), data + cut, sizeof(data) - cut), whole);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("crc32c");
    TCase *t = tcase_create("crc32c");
    tcase_add_test(t, known_vectors);
    tcase_add_test(t, every_length_and_alignment);
    tcase_add_test(t, chains_at_every_cut);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
