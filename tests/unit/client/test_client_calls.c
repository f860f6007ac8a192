/* The rest of the interface against the small server: many keys, sessions, expiry, levels, fork. */
#include "tests/unit/client/fake_server.h"

static void setup_sessions(void)
{
    with_sessions = true;
    setup();
}

START_TEST(single_keys)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_result *r;
    ck_assert_int_eq(kv_incr(kv, kv_str("n"), -7, NULL, &r), KV_OK);
    ck_assert_int_eq(kv_result_number(r), -7);
    ck_assert_uint_eq(kv_result_version(r), 43);
    kv_result_free(r);
    o.flags = KV_TTL;
    o.ttl_ms = 999;
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), &o, &r), KV_OK);
    ck_assert_uint_eq(kv_result_version(r), 999); /* the server tells what it was sent */
    kv_result_free(r);
    ck_assert_int_eq(kv_touch(kv, kv_str("k"), 777, &o, &r), KV_OK);
    ck_assert_uint_eq(kv_result_version(r), 777);
    kv_result_free(r);
    ck_assert_int_eq(kv_persist(kv, kv_str("k"), &o, &r), KV_OK);
    ck_assert_uint_eq(kv_result_version(r), 43);
    kv_result_free(r);
    ck_assert_int_eq(kv_touch(kv, kv_str("-"), 777, NULL, NULL), KV_NOT_FOUND);
    ck_assert_int_eq(kv_get(kv, kv_str("k"), NULL, &r), KV_OK);
    ck_assert_int_eq(kv_result_ttl_ms(r), -1);
    kv_result_free(r);
    o.read = KV_READ_ANY;
    ck_assert_int_eq(kv_get(kv, kv_str("k"), &o, &r), KV_OK);
    ck_assert_int_eq(kv_result_ttl_ms(r), 5000);
    kv_result_free(r);
    o.read = (kv_read)17;
    ck_assert_int_eq(kv_get(kv, kv_str("k"), &o, NULL), KV_BAD_REQUEST);
}
END_TEST

START_TEST(an_older_caller)
{
    /* Built when kv_callopts ended before `read`: the rest is not looked at. */
    kv_callopts o = KV_CALLOPTS_INIT;
    o.size = offsetof(kv_callopts, read);
    o.read = (kv_read)17;
    o.ttl_ms = 1;
    ck_assert_int_eq(kv_get(kv, kv_str("k"), &o, NULL), KV_OK);
    kv_stats s;
    memset(&s, 0x5a, sizeof(s));
    s.size = offsetof(kv_stats, retried);
    ck_assert_int_eq(kv_get_stats(kv, &s), KV_OK);
    ck_assert_uint_eq(s.ok, 1);
    ck_assert_uint_eq(s.retried, 0x5a5a5a5a5a5a5a5aULL);
}
END_TEST

START_TEST(a_lost_write_is_repeated)
{
    kv_result *r;
    atomic_store(&server.hang_ups, 3);
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), NULL, &r), KV_OK);
    ck_assert_int_eq(kv_result_maybe_applied(r), 0);
    kv_result_free(r);
    ck_assert_int_eq(atomic_load(&server.calls), 4);
    ck_assert_uint_eq(atomic_load(&server.last_seq), 1);
    ck_assert_int_eq(kv_delete(kv, kv_str("k"), NULL, NULL), KV_OK);
    ck_assert_uint_eq(atomic_load(&server.last_seq), 2);
    kv_stats s = {.size = sizeof(s)};
    kv_get_stats(kv, &s);
    ck_assert_uint_eq(s.retried, 1);
    ck_assert_uint_eq(s.retries_max, 3);
    kv_options o = KV_OPTIONS_INIT;
    kv_client *plain;
    o.flags = KV_OPEN_NO_SESSION;
    ck_assert_int_eq(kv_open(url, &o, &plain, NULL, 0), KV_OK);
    atomic_store(&server.hang_ups, 1);
    ck_assert_int_eq(kv_put(plain, kv_str("k"), kv_str("v"), NULL, NULL), KV_UNKNOWN_OUTCOME);
    kv_close(plain, 0);
}
END_TEST

static bool is_key(const kv_result *r, const char *key)
{
    kv_slice v = kv_result_value(r);
    return v.len == strlen(key) && memcmp(v.data, key, v.len) == 0;
}

START_TEST(mget)
{
    enum { N = 3000 };
    static char text[N][16];
    static kv_slice keys[N];
    kv_results *r;
    for (int i = 0; i < N; i++) {
        snprintf(text[i], sizeof(text[i]), "%skey%d", i % 10 ? "" : "-", i);
        keys[i] = kv_str(text[i]);
    }
    ck_assert_int_eq(kv_mget(kv, keys, N, NULL, &r), KV_OK);
    ck_assert_uint_eq(kv_results_count(r), N);
    for (int i = 0; i < N; i++) {
        const kv_result *one = kv_results_at(r, (size_t)i);
        ck_assert_int_eq(kv_result_err(one), i % 10 ? KV_OK : KV_NOT_FOUND);
        ck_assert(i % 10 == 0 || is_key(one, text[i]));
    }
    ck_assert_ptr_null(kv_results_at(r, N));
    kv_result *kept = kv_result_keep(kv_results_at(r, 1));
    kv_results_free(r);
    ck_assert(is_key(kept, "key1"));
    kv_result_free(kept);
    ck_assert_int_eq(atomic_load(&server.calls), 3);
    ck_assert_int_eq(kv_mget(kv, keys, 0, NULL, &r), KV_BAD_REQUEST);
    ck_assert_ptr_null(r);
    keys[7] = kv_str("");
    ck_assert_int_eq(kv_mget(kv, keys, N, NULL, NULL), KV_KEY_EMPTY);
    kv_results_free(NULL);
    ck_assert_uint_eq(kv_results_count(NULL), 0);
}
END_TEST

START_TEST(batches)
{
    kv_batch *b = kv_batch_create();
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_results *r;
    ck_assert_int_eq(kv_batch_run(kv, b, NULL, NULL), KV_BAD_REQUEST);
    ck_assert_int_eq(kv_batch_put(b, kv_str(""), kv_str("v"), NULL), KV_KEY_EMPTY);
    ck_assert_int_eq(kv_batch_put(b, kv_str("{a}1"), kv_str("v"), NULL), KV_OK);
    ck_assert_int_eq(kv_batch_delete(b, kv_str("{a}2"), NULL), KV_OK);
    ck_assert_int_eq(kv_batch_incr(b, kv_str("{a}3"), 12, NULL), KV_OK);
    ck_assert_int_eq(kv_batch_touch(b, kv_str("{a}3"), 100, NULL), KV_OK);
    ck_assert_int_eq(kv_batch_persist(b, kv_str("{a}3"), NULL), KV_OK);
    ck_assert_uint_eq(kv_batch_count(b), 5);
    for (int round = 0; round < 2; round++) { /* may be run again */
        ck_assert_int_eq(kv_batch_run(kv, b, &o, &r), KV_OK);
        ck_assert_uint_eq(kv_results_count(r), 5);
        ck_assert_int_eq(kv_result_number(kv_results_at(r, 2)), 12);
        kv_results_free(r);
        o.flags = KV_ATOMIC;
    }
    ck_assert_int_eq(kv_batch_put(b, kv_str("-other"), kv_str("v"), NULL), KV_OK);
    ck_assert_int_eq(kv_batch_run(kv, b, &o, NULL), KV_CROSS_SLOT);
    o.flags = 0;
    ck_assert_int_eq(kv_batch_run(kv, b, &o, &r), KV_OK); /* a definite answer is no failure */
    ck_assert_int_eq(kv_result_err(kv_results_at(r, 5)), KV_CONDITION_FAILED);
    kv_results_free(r);
    kv_batch_destroy(b);
    b = kv_batch_create();
    for (int i = 0; i < 1025; i++)
        ck_assert_int_eq(kv_batch_put(b, kv_str("k"), kv_str("v"), NULL), KV_OK);
    ck_assert_int_eq(kv_batch_run(kv, b, NULL, NULL), KV_OK);
    o.flags = KV_ATOMIC;
    ck_assert_int_eq(kv_batch_run(kv, b, &o, NULL), KV_TOO_LARGE);
    for (int i = 1025; i < 65536; i++)
        ck_assert_int_eq(kv_batch_delete(b, kv_str("k"), NULL), KV_OK);
    ck_assert_int_eq(kv_batch_delete(b, kv_str("k"), NULL), KV_BUSY);
    kv_batch_destroy(b);
    kv_batch_destroy(NULL);
}
END_TEST

START_TEST(a_batch_that_fails)
{
    kv_batch *b = kv_batch_create();
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_results *r;
    o.timeout_ms = 200;
    atomic_store(&server.mood, SILENT);
    kv_batch_put(b, kv_str("a"), kv_str("v"), NULL);
    kv_batch_put(b, kv_str("b"), kv_str("v"), NULL);
    ck_assert_int_eq(kv_batch_run(kv, b, &o, &r), KV_TIMEOUT);
    ck_assert_int_eq(kv_result_maybe_applied(kv_results_at(r, 1)), 1);
    ck_assert_uint_gt(strlen(kv_result_text(kv_results_at(r, 1))), 0);
    kv_results_free(r);
    kv_batch_destroy(b);
}
END_TEST

static atomic_int many_answered;

static void on_many(void *arg, kv_err e, const kv_results *r)
{
    (void)arg;
    ck_assert_int_eq(e, KV_OK);
    ck_assert_uint_eq(kv_results_count(r), 2);
    atomic_fetch_add(&many_answered, 1);
}

START_TEST(many_keys_without_waiting)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_slice keys[2] = {kv_str("a"), kv_str("b")};
    kv_batch *b = kv_batch_create();
    kv_event e;
    atomic_store(&many_answered, 0);
    kv_batch_put(b, kv_str("a"), kv_str("v"), NULL);
    kv_batch_incr(b, kv_str("b"), 5, NULL);
    ck_assert_int_eq(kv_mget_async(kv, keys, 2, NULL, NULL, NULL), KV_BAD_REQUEST);
    ck_assert_int_eq(kv_mget_async(kv, keys, 2, NULL, on_many, NULL), KV_OK);
    ck_assert_int_eq(kv_batch_run_async(kv, b, NULL, on_many, NULL), KV_OK);
    ck_assert_int_eq(kv_queue_create(&o.queue), KV_OK);
    ck_assert_int_eq(kv_batch_run_async(kv, b, &o, NULL, b), KV_OK);
    ck_assert_int_eq(kv_incr_async(kv, kv_str("n"), 3, &o, NULL, keys), KV_OK);
    kv_batch_destroy(b); /* it was copied */
    struct pollfd p = {.fd = kv_queue_fd(o.queue), .events = POLLIN};
    for (int got = 0; got < 2;) {
        ck_assert_int_eq(poll(&p, 1, 5000), 1);
        while (kv_queue_next(o.queue, &e)) {
            ck_assert_int_eq(e.err, KV_OK);
            ck_assert(!e.result == (e.arg != keys));
            ck_assert(e.arg == keys || kv_results_count(e.results) == 2);
            kv_result_free(e.result);
            kv_results_free(e.results);
            got++;
        }
    }
    ck_assert_int_eq(kv_mget_async(kv, keys, 2, &o, NULL, NULL), KV_OK);
    ck_assert_int_eq(kv_touch_async(kv, kv_str("n"), 3, &o, NULL, keys), KV_OK);
    ck_assert_int_eq(kv_persist_async(kv, kv_str("n"), &o, NULL, keys), KV_OK);
    ck_assert_int_eq(kv_close(kv, 5000), KV_OK);
    kv = NULL;
    ck_assert_int_eq(atomic_load(&many_answered), 2);
    kv_queue_destroy(o.queue); /* with events in it */
}
END_TEST

static atomic_int closed_calls, closed_items, closed_unknown;

static void on_closed(void *arg, kv_err e, const kv_results *r)
{
    (void)arg;
    ck_assert_int_eq(e, KV_CLOSED);
    atomic_fetch_add(&closed_calls, 1);
    for (size_t i = 0; i < kv_results_count(r); i++) {
        atomic_fetch_add(&closed_items, kv_result_err(kv_results_at(r, i)) == KV_CLOSED);
        atomic_fetch_add(&closed_unknown, kv_result_maybe_applied(kv_results_at(r, i)));
    }
}

START_TEST(close_with_many_keys_pending)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_slice keys[2] = {kv_str("a"), kv_str("b")};
    kv_batch *b = kv_batch_create();
    atomic_store(&closed_calls, 0);
    atomic_store(&closed_items, 0);
    atomic_store(&closed_unknown, 0);
    o.flags = KV_BORROW;
    for (int i = 0; i < 3000; i++) /* more than a request: some wait for others of their key */
        kv_batch_put(b, keys[i % 2], kv_str("v"), NULL);
    atomic_store(&server.mood, SILENT);
    ck_assert_int_eq(kv_mget_async(kv, keys, 2, &o, on_closed, NULL), KV_OK);
    ck_assert_int_eq(kv_batch_run_async(kv, b, &o, on_closed, NULL), KV_OK);
    while (atomic_load(&server.calls) < 2)
        poll(NULL, 0, 1);
    double t = seconds();
    ck_assert_int_eq(kv_close(kv, 50), KV_TIMEOUT);
    ck_assert(seconds() - t < 5);
    kv = NULL;
    ck_assert_int_eq(atomic_load(&closed_calls), 2);
    ck_assert_int_eq(atomic_load(&closed_items), 3002);
    ck_assert_int_eq(atomic_load(&closed_unknown), 1024); /* of the batch, what was sent */
    kv_batch_destroy(b);
}
END_TEST

START_TEST(bounds)
{
    kv_options o = KV_OPTIONS_INIT;
    kv_client *c;
    kv_slice keys[100];
    kv_batch *b = kv_batch_create();
    for (int i = 0; i < 100; i++) {
        keys[i] = kv_str("key");
        kv_batch_put(b, kv_str("key"), kv_str("v"), NULL);
    }
    o.max_in_flight_bytes = 1000;
    o.max_in_flight = 2;
    atomic_store(&server.mood, SILENT);
    ck_assert_int_eq(kv_open(url, &o, &c, NULL, 0), KV_OK);
    ck_assert_int_eq(kv_mget_async(c, keys, 1, NULL, on_closed, NULL), KV_OK);
    ck_assert_int_eq(kv_mget_async(c, keys, 100, NULL, on_closed, NULL), KV_BUSY);
    ck_assert_int_eq(kv_batch_run(c, b, NULL, NULL), KV_BUSY);
    ck_assert_int_eq(kv_mget_async(c, keys, 2, NULL, on_closed, NULL), KV_OK);
    ck_assert_int_eq(kv_get(c, keys[0], NULL, NULL), KV_BUSY);
    ck_assert_int_eq(kv_close(c, 0), KV_TIMEOUT);
    kv_batch_destroy(b);
}
END_TEST

START_TEST(sessions_across_handles)
{
    kv_callopts o = KV_CALLOPTS_INIT;
    kv_client *other;
    kv_result *r;
    char *token;
    size_t n, again;
    o.read = KV_READ_SESSION;
    ck_assert_int_eq(kv_put(kv, kv_str("k"), kv_str("v"), NULL, NULL), KV_OK); /* version 43 */
    ck_assert_int_eq(kv_session_export(kv, NULL, 0, &n), KV_TOO_LARGE);
    token = malloc(n);
    ck_assert_int_eq(kv_session_export(kv, token, n - 1, &again), KV_TOO_LARGE);
    ck_assert_uint_eq(again, n);
    ck_assert_int_eq(kv_session_export(kv, token, n, NULL), KV_OK);
    ck_assert_uint_eq(strlen(token), n - 1);
    ck_assert_int_eq(kv_open(url, NULL, &other, NULL, 0), KV_OK);
    ck_assert_int_eq(kv_session_import(other, token), KV_OK);
    ck_assert_int_eq(kv_get(other, kv_str("k"), &o, &r), KV_OK);
    kv_result_free(r);
    ck_assert_int_eq(kv_session_import(other, "kv1.nonsense"), KV_BAD_REQUEST);
    ck_assert_int_eq(kv_session_import(other, NULL), KV_BAD_REQUEST);
    /* The server answered with 50 + the token that it was sent: 43. */
    char *seen = malloc(n + 100);
    ck_assert_int_eq(kv_session_export(other, seen, n + 100, NULL), KV_OK);
    ck_assert_int_eq(kv_session_import(kv, seen), KV_OK);
    char *back = malloc(n + 100);
    ck_assert_int_eq(kv_session_export(kv, back, n + 100, NULL), KV_OK);
    ck_assert_str_eq(seen, back);
    ck_assert_str_ne(token, back);
    kv_close(other, 100);
    free(token);
    free(seen);
    free(back);
}
END_TEST

START_TEST(after_fork)
{
    ck_assert_int_eq(kv_get(kv, kv_str("k"), NULL, NULL), KV_OK);
    kv_batch *b = kv_batch_create();
    kv_batch_put(b, kv_str("k"), kv_str("v"), NULL);
    pid_t pid = fork();
    if (pid == 0) {
        kv_slice key = kv_str("k");
        kv_stats s = {.size = sizeof(s)};
        kv_results *r = (kv_results *)&r;
        char token[8];
        size_t n;
        bool ok = kv_incr(kv, key, 1, NULL, NULL) == KV_FORKED &&
                  kv_touch(kv, key, 1, NULL, NULL) == KV_FORKED &&
                  kv_persist(kv, key, NULL, NULL) == KV_FORKED &&
                  kv_incr_async(kv, key, 1, NULL, NULL, NULL) == KV_FORKED &&
                  kv_mget(kv, &key, 1, NULL, &r) == KV_FORKED && r == NULL &&
                  kv_mget_async(kv, &key, 1, NULL, on_many, NULL) == KV_FORKED &&
                  kv_batch_run(kv, b, NULL, NULL) == KV_FORKED &&
                  kv_batch_run_async(kv, b, NULL, on_many, NULL) == KV_FORKED &&
                  kv_session_export(kv, token, 8, &n) == KV_FORKED &&
                  kv_session_import(kv, "x") == KV_FORKED && kv_get_stats(kv, &s) == KV_FORKED &&
                  kv_close(kv, 10) == KV_FORKED;
        _exit(ok ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ck_assert_int_eq(kv_batch_run(kv, b, NULL, NULL), KV_OK);
    kv_batch_destroy(b);
}
END_TEST

static atomic_int callback_state;

static void misuse(void *arg, kv_err e, const kv_results *r)
{
    kv_slice key = kv_str("k");
    char token[512];
    kv_batch *b = arg;
    bool ok = e == KV_OK && kv_results_count(r) == 1 &&
              kv_mget(kv, &key, 1, NULL, NULL) == KV_BAD_REQUEST &&
              kv_batch_run(kv, b, NULL, NULL) == KV_BAD_REQUEST &&
              kv_incr(kv, key, 1, NULL, NULL) == KV_BAD_REQUEST &&
              kv_session_export(kv, token, sizeof(token), NULL) == KV_OK && /* does not wait */
              kv_session_import(kv, token) == KV_OK;
    atomic_store(&callback_state, ok ? 1 : -1);
}

START_TEST(in_a_callback)
{
    kv_batch *b = kv_batch_create();
    kv_batch_put(b, kv_str("k"), kv_str("v"), NULL);
    atomic_store(&callback_state, 0);
    ck_assert_int_eq(kv_batch_run_async(kv, b, NULL, misuse, b), KV_OK);
    while (atomic_load(&callback_state) == 0)
        poll(NULL, 0, 1);
    ck_assert_int_eq(atomic_load(&callback_state), 1);
    kv_batch_destroy(b);
}
END_TEST

/* ---- 32 threads: for the thread sanitizer (MODE=tsan) ---- */

#define THREADS 32

static void count_one(void *arg, kv_err e, const kv_result *r)
{
    (void)r;
    if (e >= 0)
        atomic_fetch_add((atomic_int *)arg, 1);
}

static void *everything(void *arg)
{
    kv_client *c = arg;
    kv_callopts queued = KV_CALLOPTS_INIT;
    atomic_int done = 0;
    int events = 0;
    bool ok = kv_queue_create(&queued.queue) == KV_OK;
    for (int i = 0; i < 40; i++) {
        char key[32], token[4096];
        kv_result *r;
        kv_results *many;
        kv_event e;
        kv_stats s = {.size = sizeof(s)};
        snprintf(key, sizeof(key), "%p-%d", (void *)&key, i);
        kv_slice keys[3] = {kv_str(key), kv_str("other"), kv_str("-")};
        kv_batch *b = kv_batch_create();
        ok = ok && kv_get(c, keys[0], NULL, &r) == KV_OK && is_key(r, key);
        kv_result_free(r);
        ok = ok && kv_put(c, keys[0], keys[1], NULL, NULL) == KV_OK &&
             kv_incr(c, keys[1], i, NULL, NULL) == KV_OK &&
             kv_mget(c, keys, 3, NULL, &many) == KV_OK;
        ok = ok && is_key(kv_results_at(many, 0), key);
        kv_results_free(many);
        kv_batch_put(b, keys[0], keys[1], NULL);
        kv_batch_delete(b, keys[1], NULL);
        ok = ok && kv_batch_run(c, b, NULL, NULL) == KV_OK &&
             kv_get_async(c, keys[0], NULL, count_one, &done) == KV_OK &&
             kv_put_async(c, keys[0], keys[1], &queued, NULL, NULL) == KV_OK &&
             kv_batch_run_async(c, b, &queued, NULL, NULL) == KV_OK &&
             kv_session_export(c, token, sizeof(token), NULL) == KV_OK &&
             kv_session_import(c, token) == KV_OK && kv_get_stats(c, &s) == KV_OK;
        kv_batch_destroy(b);
        while (kv_queue_next(queued.queue, &e)) {
            kv_result_free(e.result);
            kv_results_free(e.results);
            events++;
        }
    }
    for (double until = seconds() + 30;
         (events < 80 || atomic_load(&done) < 40) && seconds() < until;) {
        kv_event e;
        struct pollfd p = {.fd = kv_queue_fd(queued.queue), .events = POLLIN};
        poll(&p, 1, 1);
        while (kv_queue_next(queued.queue, &e)) {
            kv_result_free(e.result);
            kv_results_free(e.results);
            events++;
        }
    }
    kv_queue_destroy(queued.queue);
    return ok && events == 80 && atomic_load(&done) == 40 ? NULL : "wrong";
}

START_TEST(many_threads)
{
    kv_client *c[3];
    pthread_t t[THREADS];
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(kv_open(url, NULL, &c[i], NULL, 0), KV_OK);
    atomic_store(&server.hang_ups, 5);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&t[i], NULL, everything, c[i % 3]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(t[i], &wrong);
        ck_assert_ptr_null(wrong);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(kv_close(c[i], 1000), KV_OK);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("client_calls");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup_sessions, teardown);
    tcase_add_test(t, single_keys);
    tcase_add_test(t, an_older_caller);
    tcase_add_test(t, a_lost_write_is_repeated);
    tcase_add_test(t, mget);
    tcase_add_test(t, batches);
    tcase_add_test(t, a_batch_that_fails);
    tcase_add_test(t, many_keys_without_waiting);
    tcase_add_test(t, close_with_many_keys_pending);
    tcase_add_test(t, bounds);
    tcase_add_test(t, sessions_across_handles);
#ifndef __SANITIZE_THREAD__ /* it cannot follow a fork of a process with threads */
    tcase_add_test(t, after_fork);
#else
    (void)after_fork;
#endif
    tcase_add_test(t, in_a_callback);
    tcase_add_test(t, many_threads);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
