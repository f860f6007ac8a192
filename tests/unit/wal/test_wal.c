/* Appending, group commit, rotation, recycling, errors, a full disk: on the fake disk. */
#include "tests/unit/wal/fake_owner.h"

static void append_many(unsigned n, unsigned per_turn)
{
    for (unsigned i = 0; i < n; i++) {
        owner_append(&o);
        if (i % per_turn == per_turn - 1) {
            wal_flush(o.wal);
            fake_turn(o.io);
        }
    }
    wal_flush(o.wal);
}

START_TEST(an_empty_log_opens_and_reopens)
{
    for (int i = 0; i < 5; i++) {
        owner_open(&o);
        ck_assert_uint_eq(o.replayed, 0);
        ck_assert(wal_idle(o.wal));
        ck_assert_uint_eq(wal_backlog(o.wal), 0);
        wal_close(o.wal);
    }
}
END_TEST

START_TEST(records_come_back_in_order)
{
    owner_open(&o);
    append_many(300, 3);
    drain();
    ck_assert_uint_eq(o.acked, 300);
    ck_assert_uint_eq(wal_backlog(o.wal), 0);
    ck_assert_uint_gt(wal_stats(o.wal)->rotations, 3);
    ck_assert_uint_eq(fake.writes_beyond, 0);
    wal_close(o.wal);
    owner_open(&o);
    ck_assert_uint_eq(o.replayed, 300);
    append_many(50, 1);
    drain();
    wal_close(o.wal);
    owner_open(&o);
    ck_assert_uint_eq(o.replayed, 350);
    wal_close(o.wal);
}
END_TEST

START_TEST(nothing_is_acknowledged_before_it_is_durable)
{
    owner_open(&o);
    owner_append(&o);
    ck_assert_uint_eq(o.acked, 0);
    ck_assert(!wal_idle(o.wal));
    uint64_t next = wal_next_lsn(o.wal);
    wal_flush(o.wal);
    ck_assert_uint_eq(o.acked, 0);
    ck_assert_uint_lt(wal_durable_lsn(o.wal), next);
    fake_turn(o.io);
    ck_assert_uint_eq(o.acked, 1);
    ck_assert_uint_ge(wal_durable_lsn(o.wal), next);
    drain();
    wal_close(o.wal);
}
END_TEST

START_TEST(appends_during_a_write_become_one_commit)
{
    owner_open(&o);
    owner_append(&o);
    wal_flush(o.wal);
    for (int i = 0; i < 20; i++) {
        struct wal_record r = {.type = WAL_STATE, .index = 1};
        wal_append(o.wal, &r, slice_of("x", 1), NULL);
        wal_flush(o.wal);
    }
    ck_assert_uint_gt(wal_backlog(o.wal), 20 * 40);
    /* No further flush: what was flushed during the write follows. */
    drain();
    ck_assert_uint_eq(wal_stats(o.wal)->commits, 2);
    ck_assert_uint_eq(wal_stats(o.wal)->records, 21);
    wal_close(o.wal);
}
END_TEST

START_TEST(what_is_not_flushed_is_not_written)
{
    owner_open(&o);
    owner_append(&o);
    for (int i = 0; i < 10; i++)
        fake_turn(o.io);
    ck_assert_uint_eq(o.acked, 0);
    wal_close(o.wal); /* not idle: as after a crash */
    o.io->op_count = 0;
    owner_open(&o);
    ck_assert_uint_eq(o.replayed, 0);
    wal_close(o.wal);
}
END_TEST

START_TEST(a_large_turn_is_split)
{
    owner_open(&o);
    for (int i = 0; i < 200; i++)
        owner_append(&o);
    wal_flush(o.wal);
    drain();
    ck_assert_uint_eq(o.acked, 200);
    ck_assert_uint_gt(wal_stats(o.wal)->commits, 10);
    wal_close(o.wal);
    owner_open(&o);
    ck_assert_uint_eq(o.replayed, 200);
    wal_close(o.wal);
}
END_TEST

START_TEST(the_largest_record_fits)
{
    o.segment_size = 1 << 20;
    owner_open(&o);
    size_t n = wal_record_max(o.wal);
    ck_assert_uint_gt(n, 900 * 1000);
    uint8_t *p = mem_zalloc(n);
    struct wal_record r = {.type = WAL_STATE, .index = 1};
    for (int i = 0; i < 4; i++) {
        wal_append(o.wal, &r, slice_of(p, n), NULL);
        owner_append(&o);
    }
    free(p);
    wal_flush(o.wal);
    drain();
    ck_assert_uint_eq(o.acked, 4);
    wal_close(o.wal);
    owner_open(&o);
    ck_assert_uint_eq(o.replayed, 4);
    wal_close(o.wal);
}
END_TEST

START_TEST(the_default_segment_takes_the_largest_entry)
{
    o.segment_size = 0;
    owner_open(&o);
    ck_assert_uint_ge(wal_record_max(o.wal), LIMIT_ENTRY + 4096);
    ck_assert_uint_eq(wal_segment_end(o.wal, wal_next_lsn(o.wal)) % LIMIT_WAL_SEGMENT_DEFAULT, 0);
    size_t n = LIMIT_ENTRY;
    uint8_t *p = mem_zalloc(n);
    struct wal_record r = {.type = WAL_STATE, .index = 1};
    for (int i = 0; i < 3; i++)
        wal_append(o.wal, &r, slice_of(p, n), NULL);
    free(p);
    wal_flush(o.wal);
    drain();
    ck_assert(wal_idle(o.wal));
    ck_assert_uint_eq(fake.writes_beyond, 0);
    wal_close(o.wal);
    owner_open(&o);
    wal_close(o.wal);
}
END_TEST

static unsigned files(const char *prefix)
{
    unsigned n = 0;
    for (unsigned i = 0; i < fake.cur.n; i++)
        n += strncmp(fake.cur.at[i].path, prefix, strlen(prefix)) == 0;
    return n;
}

START_TEST(segments_are_recycled)
{
    o.window = 20;
    owner_open(&o);
    append_many(3000, 2);
    drain();
    unsigned segments;
    uint64_t bytes;
    wal_usage(o.wal, &segments, &bytes);
    ck_assert_uint_le(segments, 5);
    ck_assert_uint_eq(bytes, segments * (uint64_t)o.segment_size);
    ck_assert_uint_gt(wal_stats(o.wal)->rotations, 40);
    ck_assert_uint_le(fake.cur.n, 9);
    ck_assert_uint_le(files("w/spare-"), 2);
    ck_assert_uint_eq(fake.writes_beyond, 0);
    wal_close(o.wal);
    owner_open(&o);
    ck_assert_uint_gt(o.first, 2000);
    ck_assert_uint_eq(o.replayed, 3000);
    wal_close(o.wal);
}
END_TEST

START_TEST(what_is_needed_pins_segments)
{
    owner_open(&o); /* no window: all is needed */
    append_many(1000, 2);
    drain();
    unsigned segments;
    uint64_t bytes;
    wal_usage(o.wal, &segments, &bytes);
    ck_assert_uint_eq(segments, wal_stats(o.wal)->rotations + 1);
    wal_close(o.wal);
    owner_open(&o);
    ck_assert_uint_eq(o.first, 1);
    wal_close(o.wal);
}
END_TEST

START_TEST(many_short_lives_do_not_fill_the_disk)
{
    o.window = 20;
    for (int life = 0; life < 60; life++) {
        owner_open(&o);
        append_many(10, 2);
        drain();
        wal_close(o.wal);
    }
    ck_assert_uint_le(files("w/wal-"), 12);
    ck_assert_uint_le(files("w/"), 16);
}
END_TEST

/* ---- reading back ---- */

static struct wal_read rd;
static enum err rd_result;
static unsigned rd_count;
static bool rd_good;

static void on_read_done(struct wal_read *r, enum err e)
{
    rd_count++;
    rd_result = e;
    rd_good = e == ERR_OK && owner_matches(&o, r->record.index, &r->record, r->payload);
}

static void read_lsn(uint64_t lsn)
{
    memset(&rd, 0, sizeof rd);
    rd.lsn = lsn;
    rd.done = on_read_done;
    rd_count = 0;
    wal_read(o.wal, &rd);
    ck_assert_uint_eq(rd_count, 0); /* never from inside */
    for (int i = 0; i < 4 && rd_count == 0; i++)
        fake_turn(o.io);
    ck_assert_uint_eq(rd_count, 1);
}

START_TEST(every_record_can_be_read)
{
    o.max_payload = 30000;
    for (int life = 0; life < 2; life++) {
        owner_open(&o);
        append_many(300, 3);
        drain();
        for (uint64_t i = 1; i <= o.acked; i++) {
            read_lsn(o.lsn[i]);
            ck_assert_int_eq(rd_result, ERR_OK);
            ck_assert(rd_good);
            ck_assert_uint_eq(rd.record.index, i);
        }
        wal_close(o.wal);
    }
}
END_TEST

START_TEST(a_recycled_record_is_not_found_and_a_bad_lsn_is_refused)
{
    o.window = 20;
    owner_open(&o);
    append_many(2000, 2);
    drain();
    read_lsn(o.lsn[1]);
    ck_assert_int_eq(rd_result, ERR_NOT_FOUND);
    read_lsn(o.lsn[o.acked] + 8);
    ck_assert_int_eq(rd_result, ERR_CORRUPT);
    read_lsn(o.lsn[o.acked] / o.segment_size * o.segment_size + 8); /* the segment's header */
    ck_assert_int_eq(rd_result, ERR_NOT_FOUND);
    wal_close(o.wal);
}
END_TEST

static void flip(uint64_t lsn, uint64_t more, uint8_t mask)
{
    char path[64];
    snprintf(path, sizeof path, "w/wal-%016llx.log", (unsigned long long)(lsn / o.segment_size));
    struct inode *i = fake_inode(path);
    CHECK(i);
    i->cur[lsn % o.segment_size + more] ^= mask;
    i->dur[lsn % o.segment_size + more] ^= mask;
}

START_TEST(a_damaged_record_is_noticed_when_read)
{
    owner_open(&o);
    append_many(20, 2);
    drain();
    uint64_t lsn = o.lsn[7];
    for (unsigned at = 0; at < 40 + owner_size(&o, 7); at++) {
        flip(lsn, at, 0x10);
        read_lsn(lsn);
        ck_assert_int_eq(rd_result, ERR_CORRUPT);
        flip(lsn, at, 0x10);
    }
    read_lsn(lsn);
    ck_assert(rd_good);
    wal_close(o.wal);
}
END_TEST

START_TEST(a_segment_being_read_is_not_recycled)
{
    o.window = 20;
    owner_open(&o);
    append_many(20, 2);
    drain();
    memset(&rd, 0, sizeof rd);
    rd.lsn = o.lsn[1];
    rd.done = on_read_done;
    rd_count = 0;
    wal_read(o.wal, &rd);
    struct fake_op held = o.io->ops[--o.io->op_count]; /* the disk is slow */
    append_many(1500, 2);
    drain();
    char path[64];
    snprintf(path, sizeof path, "w/wal-%016llx.log",
             (unsigned long long)(o.lsn[1] / o.segment_size));
    ck_assert(fake_inode(path));
    o.io->ops[o.io->op_count++] = held;
    drain();
    fake_turn(o.io);
    ck_assert(rd_good);
    drain();
    ck_assert(!fake_inode(path));
    wal_close(o.wal);
}
END_TEST

/* ---- errors ---- */

static void pass(unsigned ms)
{
    for (unsigned i = 0; i < ms; i++) {
        o.io->now += NS_PER_MS;
        fake_turn(o.io);
    }
}

/* Every operation in turn fails. Whatever happens, nothing acknowledged is lost and a failed commit
 * is never acknowledged. */
START_TEST(the_kth_operation_fails)
{
    unsigned fatal = 0, refused = 0, k = 1;
    for (;; k++) {
        teardown();
        fake_owner_begin();
        o.window = 20;
        owner_open(&o);
        append_many(100, 2);
        drain();
        wal_close(o.wal);
        fake.fail_at = k;
        fake.ops = 0;
        fake.fail_with = ERR_IO;
        fake.fail_on = _i == 1;
        enum err e = owner_try_open(&o);
        if (e == ERR_OK) {
            ck_assert_ptr_null(owner_judge(&o));
            append_many(150, 2);
            drain();
            ck_assert(wal_idle(o.wal));
            if (o.fatals) {
                fatal++;
                ck_assert_uint_eq(o.fatals, 1);
                uint64_t acked = o.acked;
                append_many(10, 1); /* the owner may not have noticed yet */
                for (int i = 0; i < 20; i++)
                    fake_turn(o.io);
                ck_assert_uint_eq(o.acked, acked);
                ck_assert_uint_eq(o.fatals, 1);
            }
            wal_close(o.wal);
        } else {
            ck_assert_int_eq(e, ERR_IO);
            ck_assert(o.msg[0]);
            refused++;
        }
        bool bitten = fake.ops >= k;
        fake.fail_at = 0;
        o.io->op_count = 0;
        list_init(&o.io->work);
        owner_open(&o);
        wal_close(o.wal);
        if (!bitten)
            break;
    }
    ck_assert_uint_gt(fatal, 80);
    ck_assert_uint_gt(refused, 10);
}
END_TEST

START_TEST(a_full_disk_heals_by_itself)
{
    o.window = 1000000;
    owner_open(&o);
    append_many(10, 2);
    drain();
    fake.space = 6 * o.segment_size;
    append_many(600, 2);
    pass(2000);
    ck_assert(wal_starved(o.wal));
    ck_assert_uint_eq(o.fatals, 0);
    ck_assert_uint_gt(wal_backlog(o.wal), 0);
    uint64_t acked = o.acked;
    ck_assert_uint_gt(acked, 20);
    ck_assert_uint_lt(acked, 600);
    pass(2000);
    ck_assert_uint_eq(o.acked, acked);
    if (_i == 0)
        o.window = 5; /* the owner's records are not needed any more: segments are used again */
    else
        fake.space = 0; /* somebody else made room */
    pass(10000);
    ck_assert_uint_eq(o.acked, o.appended);
    ck_assert_uint_eq(o.fatals, 0);
    drain();
    ck_assert(!wal_starved(o.wal));
    wal_close(o.wal);
    owner_open(&o);
    wal_close(o.wal);
}
END_TEST

START_TEST(a_tight_log_keeps_no_spares)
{
    o.window = 20;
    owner_open(&o);
    append_many(800, 5);
    drain();
    ck_assert_uint_ge(files("w/spare-"), 1);
    wal_set_tight(o.wal, true);
    drain();
    ck_assert_uint_eq(files("w/spare-"), 0);
    append_many(800, 5);
    drain();
    ck_assert_uint_eq(files("w/spare-"), 0);
    ck_assert_uint_eq(o.acked, o.appended);
    wal_set_tight(o.wal, false);
    append_many(800, 5);
    drain();
    ck_assert_uint_ge(files("w/spare-"), 1);
    wal_close(o.wal);
    owner_open(&o);
    wal_close(o.wal);
}
END_TEST

START_TEST(a_small_disk_gets_small_segments)
{
    static const struct {
        uint64_t disk, wanted, size;
    } c[] = {{1200 * MIB, 64 * MIB, 16 * MIB},
             {6144 * MIB, 64 * MIB, 48 * MIB},
             {8192 * MIB, 64 * MIB, 64 * MIB},
             {1ull << 40, 64 * MIB, 64 * MIB},
             {100 * MIB, 1 * MIB, 1 * MIB}};
    fake.disk = c[_i].disk;
    o.segment_size = c[_i].wanted;
    owner_open(&o);
    ck_assert_uint_eq(wal_segment_size(o.wal), c[_i].size);
    drain();
    wal_close(o.wal);
}
END_TEST

START_TEST(sizes_that_make_no_sense_are_refused)
{
    static const uint64_t sizes[] = {1, 4096, 32768, 65537, 2ULL << 30};
    o.segment_size = sizes[_i];
    ck_assert_int_eq(owner_try_open(&o), ERR_CONFIG);
    ck_assert(o.msg[0]);
}
END_TEST

START_TEST(the_size_of_a_log_stays)
{
    owner_open(&o);
    append_many(50, 2);
    drain();
    wal_close(o.wal);
    o.segment_size = 1 << 20;
    uint64_t size = 64 * 1024;
    owner_open(&o);
    ck_assert_uint_eq(o.replayed, 50);
    ck_assert_uint_eq(wal_segment_end(o.wal, 5 * size + 1), 6 * size);
    wal_close(o.wal);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("wal");
    tcase_add_checked_fixture(t, fake_owner_begin, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, an_empty_log_opens_and_reopens);
    tcase_add_test(t, records_come_back_in_order);
    tcase_add_test(t, nothing_is_acknowledged_before_it_is_durable);
    tcase_add_test(t, appends_during_a_write_become_one_commit);
    tcase_add_test(t, what_is_not_flushed_is_not_written);
    tcase_add_test(t, a_large_turn_is_split);
    tcase_add_test(t, the_largest_record_fits);
    tcase_add_test(t, the_default_segment_takes_the_largest_entry);
    tcase_add_test(t, segments_are_recycled);
    tcase_add_test(t, what_is_needed_pins_segments);
    tcase_add_test(t, many_short_lives_do_not_fill_the_disk);
    tcase_add_test(t, every_record_can_be_read);
    tcase_add_test(t, a_recycled_record_is_not_found_and_a_bad_lsn_is_refused);
    tcase_add_test(t, a_damaged_record_is_noticed_when_read);
    tcase_add_test(t, a_segment_being_read_is_not_recycled);
    tcase_add_loop_test(t, the_kth_operation_fails, 0, 2);
    tcase_add_loop_test(t, a_full_disk_heals_by_itself, 0, 2);
    tcase_add_test(t, a_tight_log_keeps_no_spares);
    tcase_add_loop_test(t, a_small_disk_gets_small_segments, 0, 5);
    tcase_add_loop_test(t, sizes_that_make_no_sense_are_refused, 0, 5);
    tcase_add_test(t, the_size_of_a_log_stays);
    Suite *s = suite_create("wal");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
