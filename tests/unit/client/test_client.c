/* The library as an application sees it, against a small server of our own on loopback. */
#include "tests/unit/client/fake_server.h"

/* ---- tests ---- */

START_TEST(sync_calls)
{
    kv_result *r;
    ck_assert_int_eq(kv_get(kv, kv_str("hello"), NULL, &r), KV_OK);
    ck_assert_uint_eq(kv_result_value(r).len, 5);
    ck_assert_int_eq(memcmp(kv_result_value(r).data, "hello", 5), 0);
    ck_assert_uint_eq(kv_result_version(r), 42);
    kv_result_free(r);
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), NULL, &r), KV_OK);
    ck_assert_uint_eq(kv_result_version(r), 43);
    kv_result_free(r);
    ck_assert_int_eq(kv_delete(kv, kv_str("k"), NULL, NULL), KV_OK);
    kv_stats s = {.size = sizeof(s)};
    ck_assert_int_eq(kv_get_stats(kv, &s), KV_OK);
    ck_assert_uint_eq(s.ok, 3);
    ck_assert_uint_eq(s.in_flight, 0);
}
END_TEST

START_TEST(a_large_value)
{
    size_t n = 4 * MIB;
    char *v = mem_zalloc(n);
    kv_result *r;
    ck_assert_int_eq(kv_put(kv, kv_str("big"), kv_bytes(v, n), NULL, &r), KV_OK);
    kv_result_free(r);
    free(v);
}
END_TEST

START_TEST(bad_arguments)
{
    static char big[LIMIT_KEY + 1];
    char msg[256];
    kv_client *c;
    kv_result *r;
    ck_assert_int_eq(kv_get(kv, kv_str(""), NULL, &r), KV_KEY_EMPTY);
    ck_assert_int_eq(kv_result_err(r), KV_KEY_EMPTY);
    kv_result_free(r);
    ck_assert_int_eq(kv_get(kv, kv_bytes(big, sizeof(big)), NULL, NULL), KV_KEY_TOO_LARGE);
    ck_assert_int_eq(kv_get_async(kv, kv_str("k"), NULL, NULL, NULL), KV_BAD_REQUEST);
    static const char *const urls[] = {"",          "http://a:1", "kv://",       "kv://host",
                                       "kv://:1",   "kv://h:x",   "kv://::1:80", "kv://[::1:80",
                                       "kv://h:1,:"};
    for (size_t i = 0; i < sizeof(urls) / sizeof(urls[0]); i++) {
        ck_assert_int_eq(kv_open(urls[i], NULL, &c, msg, sizeof(msg)), KV_BAD_REQUEST);
        ck_assert_uint_gt(strlen(msg), 0);
    }
    ck_assert_int_eq(kv_open(NULL, NULL, &c, NULL, 0), KV_BAD_REQUEST);
}
END_TEST

START_TEST(a_write_without_an_answer)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_result *r;
    o.timeout_ms = 200;
    atomic_store(&server.mood, SILENT);
    double t = seconds();
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), &o, &r), KV_TIMEOUT);
    ck_assert_int_eq(kv_result_maybe_applied(r), 1);
    ck_assert(seconds() - t >= 0.199 && seconds() - t < 2);
    kv_result_free(r);
    ck_assert_int_eq(kv_get(kv, kv_str("k"), &o, &r), KV_TIMEOUT);
    ck_assert_int_eq(kv_result_maybe_applied(r), 0);
    kv_result_free(r);
}
END_TEST

START_TEST(a_lost_connection)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_result *r;
    o.timeout_ms = 500;
    atomic_store(&server.mood, HANGS_UP);
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), &o, &r), KV_UNKNOWN_OUTCOME);
    ck_assert_int_eq(kv_result_maybe_applied(r), 1);
    ck_assert_int_eq(atomic_load(&server.calls), 1); /* never twice */
    kv_result_free(r);
    ck_assert_int_lt(kv_get(kv, kv_str("k"), &o, &r), 0);
    ck_assert_int_gt(atomic_load(&server.calls), 2); /* a read is tried again */
    kv_result_free(r);
    atomic_store(&server.mood, ANSWERS);
    ck_assert_int_eq(kv_get(kv, kv_str("k"), NULL, NULL), KV_OK);
}
END_TEST

START_TEST(nonsense)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    o.timeout_ms = 300;
    atomic_store(&server.mood, NONSENSE);
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), &o, NULL), KV_UNKNOWN_OUTCOME);
    ck_assert_int_lt(kv_get(kv, kv_str("k"), &o, NULL), 0);
    atomic_store(&server.mood, ANSWERS);
    ck_assert_int_eq(kv_get(kv, kv_str("k"), NULL, NULL), KV_OK);
}
END_TEST

static atomic_int answered, closed;

static void count(void *arg, kv_err e, const kv_result *r)
{
    (void)arg;
    ck_assert_int_eq(kv_result_err(r), e);
    atomic_fetch_add(&answered, 1);
    if (e == KV_CLOSED)
        atomic_fetch_add(&closed, 1);
}

START_TEST(close_with_calls_pending)
{
    atomic_store(&answered, 0);
    atomic_store(&closed, 0);
    atomic_store(&server.mood, SILENT);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(kv_put_async(kv, kv_str("k"), kv_str("v"), NULL, count, NULL), KV_OK);
    double t = seconds();
    ck_assert_int_eq(kv_close(kv, 100), KV_TIMEOUT);
    ck_assert(seconds() - t < 2);
    kv = NULL;
    ck_assert_int_eq(atomic_load(&answered), 100);
    ck_assert_int_eq(atomic_load(&closed), 100);
}
END_TEST

START_TEST(close_waits_for_what_is_on_its_way)
{
    atomic_store(&answered, 0);
    atomic_store(&closed, 0);
    for (int i = 0; i < 5000; i++)
        ck_assert_int_eq(kv_get_async(kv, kv_str("k"), NULL, count, NULL), KV_OK);
    ck_assert_int_eq(kv_close(kv, 10000), KV_OK);
    kv = NULL;
    ck_assert_int_eq(atomic_load(&answered), 5000);
    ck_assert_int_eq(atomic_load(&closed), 0);
}
END_TEST

START_TEST(a_bound_on_calls_in_flight)
{
    kv_options o = KV_OPTIONS_INIT;
    kv_client *c;
    o.max_in_flight = 10;
    atomic_store(&server.mood, SILENT);
    ck_assert_int_eq(kv_open(url, &o, &c, NULL, 0), KV_OK);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(kv_get_async(c, kv_str("k"), NULL, count, NULL), KV_OK);
    ck_assert_int_eq(kv_get_async(c, kv_str("k"), NULL, count, NULL), KV_BUSY);
    ck_assert_int_eq(kv_get(c, kv_str("k"), NULL, NULL), KV_BUSY);
    ck_assert_int_eq(kv_close(c, 0), KV_TIMEOUT);
}
END_TEST

START_TEST(a_queue)
{
    enum { N = 1000 };
    kv_callopts o = KV_CALLOPTS_INIT;
    static char keys[N][16];
    bool seen[N] = {0};
    kv_event e;
    ck_assert_int_eq(kv_queue_create(&o.queue), KV_OK);
    for (int i = 0; i < N; i++) {
        snprintf(keys[i], sizeof(keys[i]), "key%d", i);
        ck_assert_int_eq(kv_get_async(kv, kv_str(keys[i]), &o, NULL, keys[i]), KV_OK);
    }
    struct pollfd p = {.fd = kv_queue_fd(o.queue), .events = POLLIN};
    for (int n = 0; n < N;) {
        ck_assert_int_eq(poll(&p, 1, 5000), 1);
        while (kv_queue_next(o.queue, &e)) {
            kv_slice v = kv_result_value(e.result);
            int i = (int)((char(*)[16])e.arg - keys);
            ck_assert(e.err == KV_OK && !seen[i]);
            ck_assert_uint_eq(v.len, strlen(keys[i]));
            ck_assert_int_eq(memcmp(v.data, keys[i], v.len), 0);
            seen[i] = true;
            kv_result_free(e.result);
            n++;
        }
    }
    ck_assert_int_eq(poll(&p, 1, 0), 0);
    kv_queue_destroy(o.queue);
}
END_TEST

static atomic_int in_callback;

static void misuse(void *arg, kv_err e, const kv_result *r)
{
    kv_client *c = arg;
    (void)r;
    bool ok = e == KV_OK && kv_get(c, kv_str("k"), NULL, NULL) == KV_BAD_REQUEST &&
              kv_close(c, 0) == KV_BAD_REQUEST &&
              kv_get_async(c, kv_str("k"), NULL, count, NULL) == KV_OK;
    atomic_store(&in_callback, ok ? 1 : -1);
}

START_TEST(in_a_callback)
{
    atomic_store(&in_callback, 0);
    ck_assert_int_eq(kv_get_async(kv, kv_str("k"), NULL, misuse, kv), KV_OK);
    while (atomic_load(&in_callback) == 0)
        poll(NULL, 0, 1);
    ck_assert_int_eq(kv_close(kv, 5000), KV_OK);
    kv = NULL;
    ck_assert_int_eq(atomic_load(&in_callback), 1);
}
END_TEST

START_TEST(after_fork)
{
    ck_assert_int_eq(kv_get(kv, kv_str("k"), NULL, NULL), KV_OK);
    pid_t pid = fork();
    if (pid == 0) {
        kv_client *own;
        kv_result *r;
        bool ok = kv_get(kv, kv_str("k"), NULL, NULL) == KV_FORKED &&
                  kv_get_async(kv, kv_str("k"), NULL, count, NULL) == KV_FORKED &&
                  kv_close(kv, 10) == KV_FORKED && kv_open(url, NULL, &own, NULL, 0) == KV_OK &&
                  kv_get(own, kv_str("mine"), NULL, &r) == KV_OK && kv_close(own, 100) == KV_OK;
        _exit(ok ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert_int_eq(kv_get(kv, kv_str("k"), NULL, NULL), KV_OK); /* the parent's lives on */
}
END_TEST

static void *hammer(void *arg)
{
    kv_client *c = arg;
    for (int i = 0; i < 300; i++) {
        char key[32];
        kv_result *r;
        snprintf(key, sizeof(key), "%p-%d", (void *)&key, i);
        if (kv_get(c, kv_str(key), NULL, &r) != KV_OK || kv_result_value(r).len != strlen(key) ||
            memcmp(kv_result_value(r).data, key, strlen(key)) != 0)
            return "wrong";
        kv_result_free(r);
    }
    return NULL;
}

START_TEST(many_threads_and_handles)
{
    kv_client *c[4];
    pthread_t t[16];
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(kv_open(url, NULL, &c[i], NULL, 0), KV_OK);
    for (int i = 0; i < 16; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, hammer, c[i % 4]), 0);
    for (int i = 0; i < 16; i++) {
        void *wrong;
        pthread_join(t[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(kv_close(c[i], 1000), KV_OK);
}
END_TEST

START_TEST(error_table)
{
    ck_assert_str_eq(kv_err_name(KV_NOT_FOUND), "NOT_FOUND");
    ck_assert_str_eq(kv_err_name(KV_NO_LEADER), "NO_LEADER");
    ck_assert_str_eq(kv_err_name(KV_FORKED), "FORKED");
    ck_assert_str_eq(kv_err_name((kv_err)-9999), "UNKNOWN");
    ck_assert_int_eq(kv_err_retryable(KV_BUSY), 1);
    ck_assert_int_eq(kv_err_retryable(KV_TIMEOUT), 1);
    ck_assert_int_eq(kv_err_retryable(KV_VALUE_TOO_LARGE), 0);
    ck_assert_uint_eq(kv_slot(kv_str("123456789")), 0x31c3);
    ck_assert_uint_eq(kv_slot(kv_str("{user}a")), kv_slot(kv_str("{user}b")));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, sync_calls);
    tcase_add_test(t, a_large_value);
    tcase_add_test(t, bad_arguments);
    tcase_add_test(t, a_write_without_an_answer);
    tcase_add_test(t, a_lost_connection);
    tcase_add_test(t, nonsense);
    tcase_add_test(t, close_with_calls_pending);
    tcase_add_test(t, close_waits_for_what_is_on_its_way);
    tcase_add_test(t, a_bound_on_calls_in_flight);
    tcase_add_test(t, a_queue);
    tcase_add_test(t, in_a_callback);
#ifndef __SANITIZE_THREAD__ /* it cannot follow a fork of a process with threads */
    tcase_add_test(t, after_fork);
#else
    (void)after_fork;
#endif
    tcase_add_test(t, many_threads_and_handles);
    tcase_add_test(t, error_table);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
