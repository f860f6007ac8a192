/* fs.h on POSIX, the data directory and addresses. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/io/data_dir.h"
#include "common/io/fs.h"
#include "common/io/io.h"

static char tmp[512];
static unsigned made;

static void setup(void)
{
    const char *t = getenv("TEST_TMP");
    snprintf(tmp, sizeof tmp, "%s/fs%u.XXXXXX", t != NULL ? t : "/tmp", made++);
    ck_assert_ptr_nonnull(mkdtemp(tmp));
}

static void teardown(void)
{
    ck_assert_int_eq(fs_rmdir_all(tmp), ERR_OK);
    ck_assert(!fs_exists(tmp));
    ck_assert_int_eq(fs_rmdir_all(tmp), ERR_OK); /* absent is fine */
}

static const char *in_tmp(const char *name)
{
    static char path[4][1024];
    static unsigned next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", tmp, name);
    return p;
}

START_TEST(files)
{
    struct fs_file *f = NULL;
    uint64_t size;
    size_t got;
    char b[16];
    ck_assert_int_eq(fs_open(in_tmp("a"), FS_READ, &f), ERR_NOT_FOUND);
    ck_assert_str_eq(fs_last_error(), "No such file or directory");
    ck_assert_ptr_null(f);
    ck_assert_int_eq(fs_open(in_tmp("a"), FS_READ | FS_WRITE | FS_CREATE | FS_EXCLUSIVE, &f),
                     ERR_OK);
    ck_assert_int_eq(fs_write(f, "0123456789", 10, 5), ERR_OK);
    ck_assert_int_eq(fs_sync(f), ERR_OK);
    ck_assert_int_eq(fs_size(f, &size), ERR_OK);
    ck_assert_uint_eq(size, 15);
    ck_assert_int_eq(fs_read(f, b, 16, 12, &got), ERR_OK);
    ck_assert_uint_eq(got, 3);
    ck_assert_int_eq(memcmp(b, "789", 3), 0);
    ck_assert_int_eq(fs_truncate(f, 6), ERR_OK);
    ck_assert_int_eq(fs_read(f, b, 16, 0, &got), ERR_OK);
    ck_assert_uint_eq(got, 6);
    fs_close(f);
    fs_close(NULL);
    ck_assert_int_eq(fs_open(in_tmp("a"), FS_WRITE | FS_CREATE | FS_EXCLUSIVE, &f), ERR_EXISTS);
    ck_assert_int_eq(fs_open("/dev/full", FS_WRITE, &f), ERR_OK);
    ck_assert_int_eq(fs_write(f, "x", 1, 0), ERR_NO_SPACE);
    fs_close(f);
    ck_assert_int_eq(fs_rename(in_tmp("a"), in_tmp("b")), ERR_OK);
    ck_assert(!fs_exists(in_tmp("a")) && fs_exists(in_tmp("b")));
    ck_assert_int_eq(fs_unlink(in_tmp("b")), ERR_OK);
    ck_assert_int_eq(fs_unlink(in_tmp("b")), ERR_NOT_FOUND);
    ck_assert_int_eq(fs_sync_dir(tmp), ERR_OK);
    uint64_t free_bytes = 0, total = 0;
    ck_assert_int_eq(fs_space(tmp, &free_bytes, &total), ERR_OK);
    ck_assert_uint_gt(total, 0);
    ck_assert_uint_le(free_bytes, total);
}
END_TEST

static char names[256];
static void on_name(void *arg, const char *name, bool is_dir)
{
    (void)arg;
    strcat(names, name);
    strcat(names, is_dir ? "/ " : " ");
}

START_TEST(directories)
{
    names[0] = '\0';
    ck_assert_int_eq(fs_mkdir(in_tmp("d")), ERR_OK);
    ck_assert_int_eq(fs_mkdir(in_tmp("d")), ERR_OK);
    ck_assert_int_eq(fs_mkdir(in_tmp("d/e")), ERR_OK);
    ck_assert_int_eq(fs_write_file(in_tmp("d/b"), slice_str("x")), ERR_OK);
    ck_assert_int_eq(fs_write_file(in_tmp("d/B"), slice_str("x")), ERR_OK);
    ck_assert_int_eq(fs_write_file(in_tmp("d/e/x"), slice_str("x")), ERR_OK);
    ck_assert_int_eq(fs_list(in_tmp("d"), on_name, NULL), ERR_OK);
    ck_assert_str_eq(names, "B b e/ ");
    ck_assert_int_ne(fs_mkdir(in_tmp("d/b")), ERR_OK); /* a file */
    ck_assert_int_eq(fs_list(in_tmp("no"), on_name, NULL), ERR_NOT_FOUND);
    ck_assert_int_eq(fs_rmdir_all(in_tmp("d")), ERR_OK);
    ck_assert(!fs_exists(in_tmp("d")));
}
END_TEST

START_TEST(whole_files)
{
    struct buf b = {0};
    ck_assert_int_eq(fs_read_file(in_tmp("w"), &b), ERR_NOT_FOUND);
    ck_assert_int_eq(fs_write_file(in_tmp("w"), slice_str("first, and longer")), ERR_OK);
    ck_assert_int_eq(fs_write_file(in_tmp("w"), slice_str("second")), ERR_OK);
    ck_assert_int_eq(fs_read_file(in_tmp("w"), &b), ERR_OK);
    ck_assert(slice_eq(buf_slice(&b), slice_str("second")));
    ck_assert(!fs_exists(in_tmp("w.tmp")));
    ck_assert_int_eq(fs_write_file(in_tmp("w"), slice_of(NULL, 0)), ERR_OK);
    ck_assert_int_eq(fs_read_file(in_tmp("w"), &b), ERR_OK);
    ck_assert_uint_eq(b.n, 0);
    ck_assert_int_eq(fs_write_file(in_tmp("no/w"), slice_str("x")), ERR_NOT_FOUND);
    buf_close(&b);
}
END_TEST

START_TEST(locks)
{
    struct fs_file *a, *b = NULL;
    ck_assert_int_eq(fs_lock(in_tmp("l"), &a), ERR_OK);
    ck_assert_int_eq(fs_lock(in_tmp("l"), &b), ERR_LOCKED);
    ck_assert_ptr_null(b);
    fs_close(a);
    ck_assert_int_eq(fs_lock(in_tmp("l"), &b), ERR_OK);
    fs_close(b);
}
END_TEST

/* ---- data directory ---- */

static enum err open_dir(const char *program, const char *name, struct data_dir *d, char *msg)
{
    msg[0] = '\0';
    return data_dir_open(in_tmp("data/n1"), program, name, 4711, 2, d, msg, 512);
}

START_TEST(data_dir_life)
{
    struct data_dir d = {0}, other = {0};
    struct stat st;
    char msg[512];
    ck_assert_msg(open_dir("shardd", "n1", &d, msg) == ERR_OK, "%s", msg);
    ck_assert(d.fresh);
    ck_assert_uint_eq(d.stamp.incarnation, 4711);
    ck_assert_uint_eq(d.stamp.cores, 2);
    ck_assert_int_eq(stat(d.path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0700);
    ck_assert_int_eq(open_dir("shardd", "n1", &other, msg), ERR_LOCKED);
    ck_assert_ptr_nonnull(strstr(msg, "in use"));
    d.stamp.node = 12;
    d.stamp.cluster[3] = 9;
    ck_assert_int_eq(data_dir_save(&d), ERR_OK);
    data_dir_close(&d);
    ck_assert_int_eq(open_dir("placementd", "n1", &d, msg), ERR_FOREIGN);
    ck_assert_ptr_nonnull(strstr(msg, "shardd"));
    ck_assert_int_eq(open_dir("shardd", "n2", &d, msg), ERR_FOREIGN);
    ck_assert_ptr_nonnull(strstr(msg, "n1"));
    ck_assert_int_eq(open_dir("shardd", "n1", &d, msg), ERR_OK);
    ck_assert(!d.fresh);
    ck_assert_uint_eq(d.stamp.node, 12);
    ck_assert_uint_eq(d.stamp.cluster[3], 9);
    ck_assert_uint_eq(d.stamp.incarnation, 4711);
    data_dir_close(&d);
}
END_TEST

START_TEST(data_dir_damaged)
{
    struct data_dir d;
    struct buf good = {0};
    char msg[512];
    ck_assert_int_eq(open_dir("shardd", "n1", &d, msg), ERR_OK);
    data_dir_close(&d);
    const char *stamp = in_tmp("data/n1/stamp");
    char path[1024];
    snprintf(path, sizeof path, "%s", stamp);
    ck_assert_int_eq(fs_read_file(path, &good), ERR_OK);
    for (size_t i = 0; i < good.n; i++) {
        good.p[i] ^= 4;
        ck_assert_int_eq(fs_write_file(path, buf_slice(&good)), ERR_OK);
        enum err e = open_dir("shardd", "n1", &d, msg);
        ck_assert_int_eq(e, i >= 8 && i < 12 ? ERR_FORMAT : ERR_CORRUPT);
        ck_assert_uint_gt(strlen(msg), 0);
        good.p[i] ^= 4;
    }
    for (size_t n = 0; n < good.n; n += 13) {
        ck_assert_int_eq(fs_write_file(path, slice_of(good.p, n)), ERR_OK);
        ck_assert_int_eq(open_dir("shardd", "n1", &d, msg), ERR_CORRUPT);
    }
    buf_close(&good);
}
END_TEST

START_TEST(data_dir_of_strangers)
{
    struct data_dir d;
    char msg[512];
    ck_assert_int_eq(fs_mkdir(in_tmp("data")), ERR_OK);
    ck_assert_int_eq(fs_mkdir(in_tmp("data/n1")), ERR_OK);
    ck_assert_int_eq(fs_write_file(in_tmp("data/n1/thesis.tex"), slice_str("x")), ERR_OK);
    ck_assert_int_eq(open_dir("shardd", "n1", &d, msg), ERR_FOREIGN);
    ck_assert_ptr_nonnull(strstr(msg, "not empty"));
    ck_assert_int_eq(fs_unlink(in_tmp("data/n1/thesis.tex")), ERR_OK);
    /* A crash between directory and stamp: started again. */
    ck_assert_int_eq(fs_write_file(in_tmp("data/n1/stamp.tmp"), slice_str("x")), ERR_OK);
    ck_assert_int_eq(open_dir("shardd", "n1", &d, msg), ERR_OK);
    data_dir_close(&d);
    ck_assert_int_ne(data_dir_open("/proc/none", "shardd", "n1", 1, 1, &d, msg, sizeof msg),
                     ERR_OK);
}
END_TEST

/* ---- addresses ---- */

START_TEST(addresses)
{
    static const struct {
        const char *text, *back; /* back NULL: refused */
        bool loopback;
    } cases[] = {
        {"127.0.0.1:7000", "127.0.0.1:7000", true},
        {"10.1.2.3:0", "10.1.2.3:0", false},
        {"0.0.0.0:65535", "0.0.0.0:65535", false},
        {"[::1]:7000", "[::1]:7000", true},
        {"[fe80::1]:1", "[fe80::1]:1", false},
        {"[::ffff:127.0.0.1]:5", "127.0.0.1:5", true},
        {"", NULL, false},
        {":", NULL, false},
        {":7000", NULL, false},
        {"127.0.0.1", NULL, false},
        {"127.0.0.1:", NULL, false},
        {"127.0.0.1:65536", NULL, false},
        {"127.0.0.1:-1", NULL, false},
        {"127.0.0.1: 1", NULL, false},
        {"127.0.0.1:000080", NULL, false},
        {"127.0.0:80", NULL, false},
        {"localhost:80", NULL, false},
        {"::1:80", NULL, false},
        {"[::1:80", NULL, false},
        {"[::1]80", NULL, false},
        {"[]:80", NULL, false},
        {"[:80", NULL, false},
        {"[::1]x:80", NULL, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct io_addr a = {.port = 99};
        char back[64];
        enum err e = io_addr_parse(cases[i].text, &a);
        ck_assert_msg((e == ERR_OK) == (cases[i].back != NULL), "%s", cases[i].text);
        if (e != ERR_OK) {
            ck_assert_uint_eq(a.port, 99);
            continue;
        }
        io_addr_format(&a, back);
        ck_assert_str_eq(back, cases[i].back);
        ck_assert_int_eq(io_addr_is_loopback(&a), cases[i].loopback);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fs");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, files);
    tcase_add_test(t, directories);
    tcase_add_test(t, whole_files);
    tcase_add_test(t, locks);
    tcase_add_test(t, data_dir_life);
    tcase_add_test(t, data_dir_damaged);
    tcase_add_test(t, data_dir_of_strangers);
    tcase_add_test(t, addresses);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
