/* Encoding of a shard's state. */
#include <check.h>

#include "shardd/shard.h"

START_TEST(shard_round_trip)
{
    struct buf b = {0};
    struct shard out, in = {.group = 7,
                            .replica = 9,
                            .first_slot = 100,
                            .last_slot = 200,
                            .epoch = {3, 4},
                            .version = 12345,
                            .time_ms = 99};
    shard_encode(&in, &b);
    struct cursor c = cursor_of(buf_slice(&b));
    ck_assert_int_eq(shard_decode(&c, &out), ERR_OK);
    ck_assert(out.group == 7 && out.replica == 9 && out.first_slot == 100 && out.last_slot == 200 &&
              out.epoch.range == 3 && out.epoch.members == 4 && out.version == 12345 &&
              out.time_ms == 99);
    for (size_t n = 0; n < b.n; n++) {
        c = cursor_of(slice_of(b.p, n));
        ck_assert_int_ne(shard_decode(&c, &out), ERR_OK);
    }
    buf_close(&b);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("shard");
    TCase *t = tcase_create("all");
    tcase_add_test(t, shard_round_trip);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
