/* Power cuts at every operation and every 512 bytes, bit flips, missing and foreign files. */
#include "common/wal/wal_format.h"
#include "tests/unit/wal/fake_owner.h"

static struct rng rng;

static void setup(void)
{
    fake_owner_begin();
    o.max_payload = 6000;
    o.window = 20;
    rng_seed(&rng, 7);
}

/* Stops early when the power goes. */
static void append_many(unsigned n, unsigned per_turn)
{
    for (unsigned i = 0; i < n && !fake.dead; i++) {
        owner_append(&o);
        if (i % per_turn == per_turn - 1) {
            wal_flush(o.wal);
            fake_turn(o.io);
        }
    }
    if (!fake.dead) {
        wal_flush(o.wal);
        drain();
    }
}

static void life(unsigned n, unsigned per_turn)
{
    owner_open(&o);
    append_many(n, per_turn);
    wal_close(o.wal);
}

/* A log that has been recycling, then a life that ends at the k-th operation that changes the disk.
 * False: the life came to its end. */
static bool crash_at(unsigned k, enum fake_keep keep, unsigned sectors)
{
    teardown();
    setup();
    life(150, 2);
    fake.crash_at = k;
    fake.mutations = 0;
    if (owner_try_open(&o) == ERR_OK) {
        const char *wrong = owner_judge(&o);
        ck_assert_msg(!wrong, "k=%u: %s", k, wrong);
        append_many(40, 2);
    }
    bool crashed = fake.dead;
    close_dead();
    fake_power_cut(keep, sectors, &rng);
    owner_open(&o);
    append_many(10, 3);
    close_dead();
    owner_open(&o);
    wal_close(o.wal);
    return crashed;
}

START_TEST(the_power_goes_at_every_operation)
{
    unsigned k = 1;
    while (crash_at(k, (enum fake_keep)_i, 0))
        k++;
    ck_assert_uint_gt(k, 40);
}
END_TEST

/* The first or last s sectors of what was on its way reach the disk. */
START_TEST(writes_are_torn_at_every_sector)
{
    for (unsigned k = 1; crash_at(k, KEEP_NONE, 0); k++) {
        for (unsigned s = 1; s < 28; s++) {
            crash_at(k, KEEP_FIRST, s);
            crash_at(k, KEEP_LAST, s);
        }
        for (unsigned i = 0; i < 6; i++)
            crash_at(k, KEEP_RANDOM, 0);
    }
}
END_TEST

START_TEST(many_lives_end_in_power_cuts)
{
    unsigned cuts = 0, lost = 0;
    for (unsigned seed = 1; seed <= 60; seed++) {
        teardown();
        setup();
        rng_seed(&rng, seed);
        o.window = 5 + rng_below(&rng, 200);
        for (unsigned l = 0; l < 25; l++) {
            fake.crash_at = rng_below(&rng, 10) ? 1 + (unsigned)rng_below(&rng, 150) : 0;
            fake.mutations = 0;
            enum err e = owner_try_open(&o);
            if (e == ERR_OK) {
                const char *wrong = owner_judge(&o);
                ck_assert_msg(!wrong, "seed %u life %u: %s", seed, l, wrong);
                append_many(1 + (unsigned)rng_below(&rng, 120), 1 + (unsigned)rng_below(&rng, 5));
            } else {
                ck_assert_msg(fake.dead, "seed %u life %u: %s", seed, l, o.msg);
            }
            cuts += fake.dead;
            lost += o.appended > o.acked;
            close_dead(); /* the power may also go while the closing mark is written */
            if (fake.dead)
                fake_power_cut(KEEP_RANDOM, 0, &rng);
            fake.crash_at = 0;
        }
        owner_open(&o);
        wal_close(o.wal);
    }
    ck_assert_uint_gt(cuts, 500);
    ck_assert_uint_gt(lost, 200);
}
END_TEST

/* A process is killed: its writes reach the disk's cache, nothing is lost until the power goes,
 * too. What was replayed in between counts as acknowledged. */
START_TEST(what_was_replayed_survives_a_power_cut)
{
    unsigned taken_up = 0;
    for (unsigned k = 5; k < 60; k++) {
        teardown();
        setup();
        owner_open(&o);
        append_many(k, 2);
        uint64_t acked = o.acked;
        owner_append(&o);
        wal_flush(o.wal); /* on its way */
        close_dead();
        owner_open(&o);
        taken_up += o.replayed > acked;
        close_dead();
        fake_power_cut(KEEP_NONE, 0, &rng);
        owner_open(&o);
        wal_close(o.wal);
    }
    ck_assert_uint_gt(taken_up, 50);
}
END_TEST

static struct inode *segment(uint64_t number)
{
    char path[64];
    snprintf(path, sizeof path, "w/wal-%016llx.log", (unsigned long long)number);
    return fake_inode(path);
}

/* A process is killed with a write under way that the kernel finishes only after the log was opened
 * again. It must not be taken up: what came after the opening has its sequence numbers. */
START_TEST(a_write_that_lands_late_is_not_taken_up)
{
    owner_open(&o);
    append_many(10, 2);
    uint64_t at = o.durable % o.segment_size;
    struct inode *x = segment(o.durable / o.segment_size);
    owner_append(&o);
    wal_flush(o.wal);
    uint8_t *late = mem_dup(x->cur + at, WAL_BLOCK);
    memset(x->cur + at, 0, WAL_BLOCK);
    close_dead();
    owner_open(&o);
    ck_assert_uint_eq(o.replayed, 10);
    ck_assert_uint_eq(x->n, at); /* and truncation waits for direct writes */
    if (at + WAL_BLOCK <= x->n)
        memcpy(x->cur + at, late, WAL_BLOCK);
    free(late);
    append_many(10, 2);
    close_dead();
    owner_open(&o);
    ck_assert_uint_eq(o.replayed, 20);
    wal_close(o.wal);
}
END_TEST

/* The same for the first commit of a segment, which that process had prepared: its file must not be
 * where the next one begins. */
START_TEST(a_write_into_the_next_segment_lands_late)
{
    owner_open(&o);
    append_many(1, 1);
    uint64_t next = o.durable / o.segment_size + 1;
    for (unsigned i = 0; i < 200 && !segment(next); i++)
        append_many(1, 1);
    struct inode *x = segment(next);
    ck_assert(x && o.durable / o.segment_size < next);
    close_dead();
    owner_open(&o);
    ck_assert_uint_ge(x->n, 2 * WAL_BLOCK);
    memset(x->cur + WAL_BLOCK, 0xAB, WAL_BLOCK);
    append_many(10, 2);
    close_dead();
    owner_open(&o);
    wal_close(o.wal);
}
END_TEST

/* ---- damage ---- */

struct copy {
    struct names names;
    uint8_t *bytes[FAKE_NAMES];
    size_t n[FAKE_NAMES];
};

static struct copy saved;

static void save(void)
{
    saved.names = fake.cur;
    for (unsigned i = 0; i < saved.names.n; i++) {
        saved.n[i] = saved.names.at[i].inode->n;
        saved.bytes[i] = mem_alloc(saved.n[i] + 1);
        memcpy(saved.bytes[i], saved.names.at[i].inode->cur, saved.n[i]);
    }
}

static void restore(void)
{
    fake.cur = fake.dur = saved.names;
    fake.change_count = 0;
    for (unsigned i = 0; i < saved.names.n; i++) {
        struct inode *x = saved.names.at[i].inode;
        inode_resize(x, saved.n[i]);
        memcpy(x->cur, saved.bytes[i], saved.n[i]);
        inode_sync(x);
    }
}

static void drop_saved(void)
{
    for (unsigned i = 0; i < saved.names.n; i++)
        free(saved.bytes[i]);
}

/* Opens a log that may be damaged. True if it was refused; else what it gave must be right, but for
 * the last `may_lose` records. */
static bool refused(uint64_t may_lose, const char *where, uint64_t at)
{
    struct owner before = o;
    enum err e = owner_try_open(&o);
    if (e == ERR_OK) {
        o.acked -= may_lose;
        const char *wrong = owner_judge(&o);
        ck_assert_msg(!wrong, "%s at %llu: %s", where, (unsigned long long)at, wrong);
        wal_close(o.wal);
    } else {
        ck_assert_msg(e == ERR_CORRUPT || e == ERR_FORMAT || e == ERR_FOREIGN, "%s", err_name(e));
        ck_assert(o.msg[0]);
        ck_assert_msg(e != ERR_CORRUPT || (strstr(o.msg, "re-seeded") && strstr(o.msg, "w/wal-") &&
                                           strstr(o.msg, "offset")),
                      "%s", o.msg);
    }
    o = before;
    restore();
    return e != ERR_OK;
}

/* A log of several segments, some of them recycled, closed properly. */
static void make_log(void)
{
    life(200, 2);
    owner_open(&o);
    append_many(100, 2);
    wal_close(o.wal);
}

/* Flips bits all over the log. With a closing mark every flip is harmless or refused; without, only
 * the last commit may be lost. */
START_TEST(flipped_bits_are_noticed)
{
    owner_open(&o);
    append_many(200, 2);
    wal_close(o.wal);
    owner_open(&o);
    append_many(99, 2);
    uint64_t acked = o.acked;
    owner_append(&o);
    wal_flush(o.wal);
    drain();
    uint64_t last = 0;
    if (_i == 1) { /* killed: no mark */
        save();
        wal_close(o.wal);
        restore();
        last = o.acked - acked;
    } else {
        wal_close(o.wal);
        save();
    }
    unsigned noticed = 0, harmless = 0, in_records = 0;
    for (uint64_t number = o.lsn[o.acked - 21] / o.segment_size;; number++) {
        struct inode *x = segment(number);
        if (!x)
            break;
        for (size_t at = 0; at < x->n; at += at % 4096 < 128 ? 1 : 17) {
            x->cur[at] ^= (uint8_t)(1 << rng_below(&rng, 8));
            bool no = refused(last, "flip", number * o.segment_size + at);
            noticed += no;
            harmless += !no;
        }
    }
    for (uint64_t i = o.acked - 20; i <= o.acked - last; i++) {
        struct inode *x = segment(o.lsn[i] / o.segment_size);
        size_t n = WAL_RECORD_HEADER + owner_size(&o, i);
        for (size_t at = 0; at < n; at += at < 64 ? 1 : 97) {
            x->cur[o.lsn[i] % o.segment_size + at] ^= (uint8_t)(1 << rng_below(&rng, 8));
            ck_assert(refused(last, "record", i));
            in_records++;
        }
    }
    ck_assert_uint_gt(noticed, 1000);
    ck_assert_uint_gt(harmless, 100);
    ck_assert_uint_gt(in_records, 500);
    drop_saved();
}
END_TEST

START_TEST(a_missing_segment_is_noticed)
{
    o.window = 40;
    life(200, 2);
    life(200, 2);
    save();
    unsigned there = 0, noticed = 0;
    for (uint64_t number = 1; number < 100; number++) {
        if (!segment(number))
            continue;
        there++;
        char path[64];
        snprintf(path, sizeof path, "w/wal-%016llx.log", (unsigned long long)number);
        ck_assert_int_eq(fs_unlink(path), ERR_OK);
        struct owner before = o;
        enum err e = owner_try_open(&o);
        noticed += e == ERR_CORRUPT;
        if (e == ERR_OK)
            wal_close(o.wal);
        o = before;
        restore();
    }
    /* All but one prepared and never used, and the last one, which takes the last commits with it:
     * from the files that are left nobody can tell. */
    ck_assert_uint_ge(there, 4);
    ck_assert_uint_ge(noticed + 2, there);
    drop_saved();
}
END_TEST

static void rewrite_header(uint64_t number, uint64_t as, uint64_t size, uint64_t log)
{
    struct wal_segment_header h;
    const char *why;
    uint32_t version;
    struct inode *x = segment(number);
    ck_assert_int_eq(wal_segment_header_decode(slice_of(x->cur, WAL_BLOCK), &h, &why, &version),
                     ERR_OK);
    h.number = as ? as : h.number;
    h.size = size ? size : h.size;
    h.log = log ? log : h.log;
    wal_segment_header_encode(&h, x->cur);
}

static uint64_t oldest(void)
{
    uint64_t number = 1;
    while (!segment(number))
        number++;
    return number;
}

START_TEST(files_that_do_not_belong_are_refused)
{
    make_log();
    save();
    uint64_t n = oldest();
    segment(n)->cur[8] = 2; /* version */
    ck_assert_int_eq(owner_try_open(&o), ERR_FORMAT);
    ck_assert_msg(strstr(o.msg, "version 2") && strstr(o.msg, "version 1"), "%s", o.msg);
    restore();
    memset(segment(n)->cur, 'x', 4096);
    ck_assert_int_eq(owner_try_open(&o), ERR_FORMAT);
    ck_assert(strstr(o.msg, "w/wal-"));
    restore();
    memset(segment(n)->cur, 0, 4096);
    ck_assert_int_eq(owner_try_open(&o), ERR_FORMAT);
    restore();
    inode_resize(segment(n), 0);
    ck_assert_int_eq(owner_try_open(&o), ERR_CORRUPT);
    restore();
    rewrite_header(n, n + 1, 0, 0);
    ck_assert_int_eq(owner_try_open(&o), ERR_CORRUPT);
    ck_assert(strstr(o.msg, "wrong name"));
    restore();
    rewrite_header(n, 0, 0, 12345);
    ck_assert_int_eq(owner_try_open(&o), ERR_FOREIGN);
    restore();
    rewrite_header(n, 0, 128 * 1024, 0);
    ck_assert_int_eq(owner_try_open(&o), ERR_CORRUPT);
    restore();
    inode_resize(segment(n), o.segment_size + 4096);
    ck_assert_int_eq(owner_try_open(&o), ERR_CORRUPT);
    restore();
    struct fs_file *f;
    ck_assert_int_eq(fs_open("w/lost+found", FS_CREATE | FS_WRITE, &f), ERR_OK);
    fs_close(f);
    ck_assert_int_eq(fs_open("w/wal-1.log", FS_CREATE | FS_WRITE, &f), ERR_OK);
    fs_close(f);
    owner_open(&o); /* not ours: left alone */
    wal_close(o.wal);
    ck_assert(fake_inode("w/lost+found") && fake_inode("w/wal-1.log"));
    drop_saved();
}
END_TEST

/* A user stores bytes that are a commit for exactly the place they come to stand at; only the salt
 * of the segment is not theirs to know. */
START_TEST(commits_inside_values_are_not_taken_for_commits)
{
    o.max_payload = 100;
    owner_open(&o);
    append_many(7, 1);
    uint64_t number = o.durable / o.segment_size, at = o.durable % o.segment_size;
    struct wal_segment_header h;
    const char *why;
    uint32_t version;
    ck_assert_int_eq(
        wal_segment_header_decode(slice_of(segment(number)->cur, WAL_BLOCK), &h, &why, &version),
        ERR_OK);
    h.salt = 0;
    struct wal_commit_header forged = {.sequence = 1000, .length = WAL_COMMIT_HEADER};
    /* The payload begins 88 bytes into the commit; from its 4008th byte on it lies on a block. */
    enum { BEFORE = WAL_BLOCK - WAL_COMMIT_HEADER - WAL_RECORD_HEADER };
    uint8_t *p = mem_zalloc(BEFORE + 4096);
    wal_commit_encode(&forged, wal_segment_seed(&h), o.durable + WAL_BLOCK, p + BEFORE);
    struct wal_record r = {.type = WAL_STATE, .index = ++o.state};
    wal_append(o.wal, &r, slice_of(p, BEFORE + 4096), &o.state_lsn);
    wal_flush(o.wal);
    drain();
    ck_assert_uint_eq(o.state_acked, o.state);
    ck_assert_uint_eq(o.state_lsn % o.segment_size, at + WAL_COMMIT_HEADER);
    ck_assert_int_eq(memcmp(segment(number)->cur + at + WAL_BLOCK, p + BEFORE, 48), 0);
    free(p);
    uint64_t end = o.durable % o.segment_size;
    wal_close(o.wal);
    struct inode *x = segment(number);
    x->cur[at] ^= 1;                    /* torn: the value's bytes stand behind it */
    memset(x->cur + end, 0, WAL_BLOCK); /* and killed: no closing mark */
    o.state_acked = 0;
    owner_open(&o);
    wal_close(o.wal);
}
END_TEST

/* Behind the last commit of a recycled segment stand good commits of its former life. */
START_TEST(stale_commits_are_never_taken_up)
{
    o.max_payload = 100;
    owner_open(&o);
    append_many(4000, 1);
    uint64_t number = o.durable / o.segment_size, at = o.durable % o.segment_size;
    ck_assert_uint_gt(number, 20);
    struct inode *x = segment(number);
    ck_assert_uint_eq(x->n, o.segment_size);
    ck_assert_uint_lt(at + 4096, x->n);
    ck_assert_int_eq(memcmp(x->cur + at, "SKVWALCM", 8), 0); /* it is there */
    save();
    wal_close(o.wal);
    restore();
    owner_open(&o);
    wal_close(o.wal);
    drop_saved();
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("crash");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, the_power_goes_at_every_operation, KEEP_NONE, KEEP_RANDOM + 1);
    tcase_add_test(t, writes_are_torn_at_every_sector);
    tcase_add_test(t, many_lives_end_in_power_cuts);
    tcase_add_test(t, what_was_replayed_survives_a_power_cut);
    tcase_add_test(t, a_write_that_lands_late_is_not_taken_up);
    tcase_add_test(t, a_write_into_the_next_segment_lands_late);
    tcase_add_loop_test(t, flipped_bits_are_noticed, 0, 2);
    tcase_add_test(t, a_missing_segment_is_noticed);
    tcase_add_test(t, files_that_do_not_belong_are_refused);
    tcase_add_test(t, commits_inside_values_are_not_taken_for_commits);
    tcase_add_test(t, stale_commits_are_never_taken_up);
    Suite *s = suite_create("wal_crash");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
