#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/crc32c.h"
#include "common/raft/snapshot_manifest.h"
#include "common/raft/snapshot_wire.h"

static struct snapshot_manifest sample(void)
{
    struct snapshot_manifest m = {.id = 77, .group = 5, .index = 1000, .core = 3};

    buf_append(&m.note, "note", 4);
    ck_assert_int_eq(snapshot_manifest_add(&m, "000001.sst", 123456, 0xabcd), ERR_OK);
    ck_assert_int_eq(snapshot_manifest_add(&m, "CURRENT", 0, 0), ERR_OK);
    ck_assert_int_eq(snapshot_manifest_add(&m, "MANIFEST-000004", 17, 9), ERR_OK);
    return m;
}

/* Makes the closing checksum right again: what is behind it must be refused for itself. */
static void reseal(struct buf *b)
{
    uint32_t crc = crc32c(0, b->p, b->n - 4);

    for (unsigned i = 0; i < 4; i++)
        b->p[b->n - 4 + i] = (uint8_t)(crc >> (8 * i));
}

START_TEST(round_trip)
{
    struct snapshot_manifest m = sample(), got;
    struct buf b = {0};

    ck_assert_uint_eq(m.bytes, 123456 + 17);
    ck_assert_int_eq(snapshot_manifest_encode(&m, &b), ERR_OK);
    ck_assert_int_eq(snapshot_manifest_decode(buf_slice(&b), &got), ERR_OK);
    ck_assert_uint_eq(got.id, 77);
    ck_assert_uint_eq(got.group, 5);
    ck_assert_uint_eq(got.index, 1000);
    ck_assert_uint_eq(got.core, 3);
    ck_assert(slice_eq(buf_slice(&got.note), slice_str("note")));
    ck_assert_uint_eq(got.n, 3);
    ck_assert_uint_eq(got.bytes, m.bytes);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_str_eq(got.files[i].name, m.files[i].name);
        ck_assert_uint_eq(got.files[i].size, m.files[i].size);
        ck_assert_uint_eq(got.files[i].crc, m.files[i].crc);
    }
    snapshot_manifest_close(&got);
    snapshot_manifest_close(&m);
    buf_close(&b);
}
END_TEST

START_TEST(every_cut_and_every_flip_is_refused)
{
    struct snapshot_manifest m = sample(), got;
    struct buf b = {0};

    ck_assert_int_eq(snapshot_manifest_encode(&m, &b), ERR_OK);
    for (size_t n = 0; n < b.n; n++)
        ck_assert_int_ne(snapshot_manifest_decode(slice_of(b.p, n), &got), ERR_OK);
    for (size_t bit = 0; bit < 8 * b.n; bit++) {
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert_int_ne(snapshot_manifest_decode(buf_slice(&b), &got), ERR_OK);
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    /* With a right checksum a flip either decodes to something sane or is refused. */
    for (size_t bit = 0; bit < 8 * (b.n - 4); bit++) {
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        reseal(&b);
        if (snapshot_manifest_decode(buf_slice(&b), &got) == ERR_OK) {
            ck_assert_uint_eq(got.n, 3);
            for (uint32_t i = 0; i < got.n; i++)
                ck_assert(snapshot_name_ok(slice_str(got.files[i].name)));
            snapshot_manifest_close(&got);
        }
        b.p[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    snapshot_manifest_close(&m);
    buf_close(&b);
}
END_TEST

struct raw_file {
    const char *name;
    uint64_t size;
};

/* A manifest as an attacker would write it. */
static enum err decode_raw(uint32_t count, const struct raw_file *files, size_t n)
{
    struct snapshot_manifest got;
    struct buf b = {0};

    buf_u32(&b, 0x4d564b53u);
    buf_u16(&b, 1);
    buf_u16(&b, 0);
    buf_u64(&b, 1);
    buf_u64(&b, 1);
    buf_u64(&b, 1);
    buf_u32(&b, 0);
    buf_u32(&b, count);
    for (size_t i = 0; i < n; i++) {
        buf_u8(&b, (uint8_t)strlen(files[i].name));
        buf_append(&b, files[i].name, strlen(files[i].name));
        buf_u64(&b, files[i].size);
        buf_u32(&b, 0);
    }
    buf_u32(&b, 0);
    reseal(&b);
    enum err e = snapshot_manifest_decode(buf_slice(&b), &got);
    if (e == ERR_OK)
        snapshot_manifest_close(&got);
    buf_close(&b);
    return e;
}

START_TEST(hostile_names_are_refused)
{
    static const char *const names[] = {
        "",
        ".",
        "..",
        "/etc/passwd",
        "../x",
        "a/b",
        "a\\b",
        ".ssh",
        "a b",
        "a\nb",
        "caf\xc3\xa9",
        "a%",
        "snap/../x",
        "~",
        "0123456789012345678901234567890123456789012345678901234567890123x",
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct raw_file f = {names[i], 1};
        ck_assert_msg(decode_raw(1, &f, 1) == ERR_CORRUPT, "name %zu", i);
        ck_assert(!snapshot_name_ok(slice_str(names[i])));
        struct snapshot_manifest m = {0};
        ck_assert_int_eq(snapshot_manifest_add(&m, names[i], 1, 1), ERR_UNSUPPORTED);
    }
    ck_assert(!snapshot_name_ok(slice_of("a\0b", 3)));
    struct raw_file good = {"000001.sst", 1};
    ck_assert_int_eq(decode_raw(1, &good, 1), ERR_OK);
}
END_TEST

START_TEST(hostile_counts_and_sizes_are_refused)
{
    struct raw_file twice[] = {{"a", 1}, {"a", 1}}, order[] = {{"b", 1}, {"a", 1}};
    struct raw_file huge[] = {{"a", SNAPSHOT_FILE_SIZE_MAX + 1}};
    struct raw_file wrap[] = {{"a", UINT64_MAX}, {"b", 2}};
    struct raw_file many[17];
    static const char *const letters[] = {"a", "b", "c", "d", "e", "f", "g", "h", "i",
                                          "j", "k", "l", "m", "n", "o", "p", "q"};

    ck_assert_int_eq(decode_raw(2, twice, 2), ERR_CORRUPT);
    ck_assert_int_eq(decode_raw(2, order, 2), ERR_CORRUPT);
    ck_assert_int_eq(decode_raw(1, huge, 1), ERR_CORRUPT);
    ck_assert_int_eq(decode_raw(2, wrap, 2), ERR_CORRUPT);
    ck_assert_int_eq(decode_raw(UINT32_MAX, NULL, 0), ERR_CORRUPT);
    ck_assert_int_eq(decode_raw(SNAPSHOT_FILES_MAX, twice, 1), ERR_CORRUPT);
    ck_assert_int_eq(decode_raw(2, huge, 1), ERR_CORRUPT);
    ck_assert_int_eq(decode_raw(0, twice, 1), ERR_CORRUPT);
    for (size_t i = 0; i < 17; i++)
        many[i] = (struct raw_file){letters[i], SNAPSHOT_FILE_SIZE_MAX};
    ck_assert_int_eq(decode_raw(16, many, 16), ERR_OK);
    ck_assert_int_eq(decode_raw(17, many, 17), ERR_CORRUPT); /* over SNAPSHOT_SIZE_MAX */
    ck_assert_int_eq(decode_raw(0, NULL, 0), ERR_OK);
}
END_TEST

START_TEST(limits_hold_when_encoding)
{
    struct snapshot_manifest m = {.id = 1}, got;
    struct buf b = {0};
    char name[64];

    /* The longest names: LIMIT_MANIFEST is met before SNAPSHOT_FILES_MAX. */
    for (uint32_t i = 0; i < SNAPSHOT_FILES_MAX; i++) {
        snprintf(name, sizeof name, "%063u", i);
        ck_assert_int_eq(snapshot_manifest_add(&m, name, 1, 1), ERR_OK);
    }
    ck_assert_int_eq(snapshot_manifest_add(&m, "x", 1, 1), ERR_TOO_LARGE);
    ck_assert_int_eq(snapshot_manifest_encode(&m, &b), ERR_TOO_LARGE);
    ck_assert_uint_eq(b.n, 0);
    m.n = 50000;
    ck_assert_int_eq(snapshot_manifest_encode(&m, &b), ERR_OK);
    ck_assert_int_eq(snapshot_manifest_decode(buf_slice(&b), &got), ERR_OK);
    ck_assert_uint_eq(got.n, 50000);
    snapshot_manifest_close(&got);
    buf_extend(&b, LIMIT_MANIFEST);
    ck_assert_int_eq(snapshot_manifest_decode(buf_slice(&b), &got), ERR_TOO_LARGE);
    buf_clear(&b);
    buf_extend(&m.note, SNAPSHOT_NOTE_MAX + 1);
    ck_assert_int_eq(snapshot_manifest_encode(&m, &b), ERR_TOO_LARGE);
    snapshot_manifest_close(&m);
    buf_close(&b);
}
END_TEST

START_TEST(another_format_is_told_from_damage)
{
    struct snapshot_manifest m = sample(), got;
    struct buf b = {0};

    ck_assert_int_eq(snapshot_manifest_encode(&m, &b), ERR_OK);
    b.p[4] = 2; /* a newer version */
    ck_assert_int_eq(snapshot_manifest_decode(buf_slice(&b), &got), ERR_FORMAT);
    b.p[4] = 1;
    b.p[0] = 'X';
    ck_assert_int_eq(snapshot_manifest_decode(buf_slice(&b), &got), ERR_FORMAT);
    snapshot_manifest_close(&m);
    buf_close(&b);
}
END_TEST

START_TEST(rate_holds_and_recovers)
{
    struct snapshot_rate r;
    uint64_t now = NS_PER_S, sent = 0;

    snapshot_rate_init(&r, 0);
    ck_assert_uint_eq(snapshot_rate_wait(&r, now), 0);
    snapshot_rate_init(&r, 1);
    ck_assert_uint_eq(r.bytes_per_s, 64 * KIB);
    snapshot_rate_init(&r, 10 * MIB);
    while (now < 11 * NS_PER_S) {
        uint64_t wait = snapshot_rate_wait(&r, now);
        if (wait > 0) {
            now += wait;
            continue;
        }
        snapshot_rate_take(&r, 256 * KIB);
        sent += 256 * KIB;
    }
    ck_assert_uint_ge(sent, 99 * MIB);
    ck_assert_uint_le(sent, 104 * MIB);
    /* However often it is asked, and after any pause, no more than the burst is saved up. */
    now += 1000 * NS_PER_S;
    (void)snapshot_rate_wait(&r, now);
    ck_assert_int_le(r.tokens, (int64_t)(10 * MIB / 4));
    snapshot_rate_init(&r, UINT64_MAX);
    ck_assert_uint_eq(snapshot_rate_wait(&r, now), 0);
    snapshot_rate_take(&r, SNAPSHOT_CHUNK_MAX);
    ck_assert_uint_eq(snapshot_rate_wait(&r, now + NS_PER_S), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("snapshot_manifest");
    TCase *t = tcase_create("all");

    tcase_add_test(t, round_trip);
    tcase_add_test(t, every_cut_and_every_flip_is_refused);
    tcase_add_test(t, hostile_names_are_refused);
    tcase_add_test(t, hostile_counts_and_sizes_are_refused);
    tcase_add_test(t, limits_hold_when_encoding);
    tcase_add_test(t, another_format_is_told_from_damage);
    tcase_add_test(t, rate_holds_and_recovers);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
