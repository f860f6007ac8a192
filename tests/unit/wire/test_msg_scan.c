/* admin.scan on the wire: there and back, and what is refused. */
#include "common/wire/msg_scan.h"

#include <check.h>
#include <stdlib.h>

#include "common/base/limits.h"
#include "common/wire/rpc.h"
#include "tests/unit/wire/message.h"

START_TEST(test_request)
{
    struct msg_scan_request q = {.first_slot = 5,
                                 .last_slot = LIMIT_SLOTS - 1,
                                 .has_after = true,
                                 .after = slice_str(""),
                                 .max_bytes = 7,
                                 .group = 1ULL << 40,
                                 .position = 1ULL << 50};
    struct msg_scan_request out;
    msg_scan_encode(&b, 9, &q);
    struct rpc_message m = whole();
    ck_assert(slice_eq(m.method, slice_str(MSG_SCAN_METHOD)));
    ck_assert_int_eq(msg_scan_decode(m.params, &out), ERR_OK);
    ck_assert_uint_eq(out.first_slot, 5);
    ck_assert_uint_eq(out.last_slot, LIMIT_SLOTS - 1);
    ck_assert(out.has_after && out.after.n == 0);
    ck_assert_uint_eq(out.max_bytes, 7);
    ck_assert_uint_eq(out.group, 1ULL << 40);
    ck_assert_uint_eq(out.position, 1ULL << 50);
}
END_TEST

static enum err decode(const char *bytes, size_t n)
{
    struct msg_scan_request out;
    return msg_scan_decode(slice_of(bytes, n), &out);
}

START_TEST(test_refused)
{
    ck_assert_int_eq(decode("\x93\x01\x02\xc0", 4), ERR_OK);
    ck_assert_int_eq(decode("\x92\x01\x02", 3), ERR_BAD_REQUEST);
    ck_assert_int_eq(decode("\x93\x02\x01\xc0", 4), ERR_BAD_REQUEST);         /* backwards */
    ck_assert_int_eq(decode("\x93\x01\xcd\x40\x00\xc0", 6), ERR_BAD_REQUEST); /* slot 16384 */
    ck_assert_int_eq(decode("\x93\x01\x02\x03", 4), ERR_BAD_REQUEST);
    ck_assert_int_eq(decode("\x94\x01\x02\xc0\x81\xa1x\x07", 8), ERR_OK);
    ck_assert_int_eq(decode("\x94\x01\x02\xc0\x81\xa3max\xc0", 9), ERR_BAD_REQUEST);
    ck_assert_int_eq(decode("\x93\x01\x02\xc0\xc0", 5), ERR_BAD_REQUEST);
}
END_TEST

START_TEST(test_reply)
{
    struct buf items = {0};
    struct msg_scan_item item = {slice_str("k1"), slice_str("one"), 3, 0}, got;
    msg_scan_put_item(&items, &item);
    item = (struct msg_scan_item){slice_str("k2"), slice_of(NULL, 0), 1ULL << 60, 1700000000000};
    msg_scan_put_item(&items, &item);
    struct msg_scan_reply r = {.n = 2,
                               .items = buf_slice(&items),
                               .more = true,
                               .next_slot = 77,
                               .has_after = true,
                               .after = slice_str("k2"),
                               .group = 4,
                               .position = 12};
    struct msg_scan_reply out;
    msg_scan_put_reply(&b, 1, &r);
    struct slice raw = whole().result;
    ck_assert_int_eq(msg_scan_decode_reply(raw, &out), ERR_OK);
    ck_assert_uint_eq(out.n, 2);
    ck_assert(out.more && out.has_after);
    ck_assert_uint_eq(out.next_slot, 77);
    ck_assert(slice_eq(out.after, slice_str("k2")));
    ck_assert_uint_eq(out.group, 4);
    ck_assert_uint_eq(out.position, 12);
    struct mp_reader items_of = mp_reader_of(out.items);
    msg_scan_next_item(&items_of, &got);
    ck_assert(slice_eq(got.key, slice_str("k1")) && slice_eq(got.value, slice_str("one")));
    ck_assert_uint_eq(got.expiry_ms, 0);
    msg_scan_next_item(&items_of, &got);
    ck_assert(slice_eq(got.key, slice_str("k2")) && got.value.n == 0);
    ck_assert_uint_eq(got.version, 1ULL << 60);
    ck_assert_uint_eq(got.expiry_ms, 1700000000000);
    ck_assert(!items_of.bad && items_of.left.n == 0);
    /* Cut anywhere it is refused. */
    for (size_t n = 0; n < raw.n; n++)
        ck_assert_int_eq(msg_scan_decode_reply(slice_of(raw.p, n), &out), ERR_BAD_REQUEST);
    buf_close(&items);
}
END_TEST

START_TEST(test_last_page)
{
    struct msg_scan_reply r = {.group = 1, .has_after = true, .after = slice_str("x")}, out;
    msg_scan_put_reply(&b, 1, &r);
    ck_assert_int_eq(msg_scan_decode_reply(whole().result, &out), ERR_OK);
    ck_assert(!out.more && !out.has_after);
    ck_assert_uint_eq(out.n, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("msg_scan");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, test_request);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_reply);
    tcase_add_test(t, test_last_page);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
