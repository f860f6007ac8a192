/* libkvclient: the C client of shardkv.
 *
 *     kv_client *kv;
 *     char msg[256];
 *     if (kv_open("kv://127.0.0.1:7101,127.0.0.1:7001", NULL, &kv, msg, sizeof(msg)) != KV_OK)
 *         die(msg);
 *     kv_result *r;
 *     if (kv_get(kv, kv_str("greeting"), NULL, &r) == KV_OK)
 *         fwrite(kv_result_value(r).data, 1, kv_result_value(r).len, stdout);
 *     kv_result_free(r);
 *     kv_close(kv, 1000);
 *
 * How it works. A handle keeps the map of the cluster (which node leads the shard of a key), opens
 * one connection per node and core on first use, and follows redirects and elections by itself
 * until the deadline of the call. One I/O thread serves all handles of the process, so a handle is
 * cheap. A handle is a session: it numbers its writes, and the servers know a repeated one, so
 * that a write is tried again after a lost connection, a redirect or an election and still takes
 * effect once. Only when the deadline comes before an answer its outcome is unknown: KV_TIMEOUT or
 * KV_UNKNOWN_OUTCOME with kv_result_maybe_applied() != 0; trying again is then the application's
 * to decide, and a write of its own. A node that keeps failing is left alone for a while.
 *
 * Threads. Every function may be called from any thread, unless it says otherwise. Callbacks run
 * on the library's I/O thread: they must not block and must not call the synchronous functions,
 * kv_open() or kv_close(); the asynchronous ones are welcome there and cheapest there.
 *
 * fork(). Handles do not survive into a child: every call there gives KV_FORKED and touches
 * nothing. A child may open handles of its own.
 *
 * The library raises no signal (SIGPIPE never), prints nothing and sets no process-wide state.
 * Structs with a `size` field: set it to sizeof the struct (KV_OPTIONS_INIT does); newer fields
 * that an older caller does not know keep their defaults. */
#ifndef KVCLIENT_H
#define KVCLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define KV_API __attribute__((visibility("default")))
#else
#define KV_API
#endif

#define KV_VERSION "0.1.0"

/* 0: done. > 0: a definite negative answer. < 0: a failure. The numbers never change. */
typedef enum kv_err {
    KV_OK = 0,
    KV_NOT_FOUND = 1,        /* no such key */
    KV_CONDITION_FAILED = 2, /* if_version or if_absent does not hold; nothing was changed */
    KV_NOT_A_NUMBER = 3,     /* incr: the value is no whole number, or the sum would not fit */
    KV_NOT_APPLIED = 4,      /* KV_ATOMIC: not done, as another operation of the batch failed */
    KV_BAD_REQUEST = -10,
    KV_UNKNOWN_METHOD = -11, /* the server is older than this library */
    KV_KEY_EMPTY = -12,
    KV_KEY_TOO_LARGE = -13,   /* over 4 KiB */
    KV_VALUE_TOO_LARGE = -14, /* over the server's limit, 1 MiB unless configured */
    KV_TOO_LARGE = -15,
    KV_PROTOCOL_VERSION = -16,
    KV_FORBIDDEN = -17,
    KV_REFUSED = -18,
    KV_EXISTS = -19,
    KV_WRONG_SHARD = -20,
    KV_WRONG_EPOCH = -21,
    KV_NOT_LEADER = -22,
    KV_NO_LEADER = -23, /* no leader was found within the deadline; surely not applied */
    KV_BUSY = -24,      /* too much in flight, here or at the server; surely not applied */
    KV_SHUTTING_DOWN = -25,
    KV_NO_SPACE = -26,
    KV_NOT_READY = -27,       /* the cluster has no shards yet (kvctl cluster init) */
    KV_CROSS_SLOT = -28,      /* KV_ATOMIC: the keys are not all of one slot (use a {tag}) */
    KV_TIMEOUT = -30,         /* no answer within the deadline */
    KV_UNKNOWN_OUTCOME = -31, /* a write was sent, and nobody can tell whether it was applied */
    KV_UNREACHABLE = -32,     /* no node could be reached; surely not applied */
    KV_CLOSED = -33,          /* the handle is being closed */
    KV_INTERNAL = -40,
    KV_FORKED = -100,   /* the handle belongs to the parent process */
    KV_NO_MEMORY = -101 /* out of memory, threads or file descriptors */
} kv_err;

/* "NOT_FOUND" for KV_NOT_FOUND; "UNKNOWN" for other numbers. Static strings. */
KV_API const char *kv_err_name(kv_err e);
/* One sentence. Static strings. */
KV_API const char *kv_err_str(kv_err e);
/* 1 if a later try of the same call may succeed. For a write, look at kv_result_maybe_applied()
 * first: it may have been applied already. */
KV_API int kv_err_retryable(kv_err e);

/* Borrowed bytes. data may be NULL when len is 0. */
typedef struct kv_slice {
    const void *data;
    size_t len;
} kv_slice;
KV_API kv_slice kv_bytes(const void *data, size_t len);
KV_API kv_slice kv_str(const char *s); /* without the terminating NUL */

typedef struct kv_client kv_client; /* a handle */
typedef struct kv_result kv_result; /* what a call gave; immutable */
typedef struct kv_queue kv_queue;   /* completions for the caller's own loop */

/* Level: 0 debug, 1 info, 2 warning. Called on the I/O thread; must not block. */
typedef void (*kv_log)(void *arg, int level, const char *text);

typedef struct kv_options {
    size_t size;
    uint32_t timeout_ms;    /* deadline of a call unless its callopts say otherwise; 0: 5000 */
    uint32_t max_in_flight; /* unfinished calls; one more gives KV_BUSY at once; 0: 65536 */
    uint64_t max_in_flight_bytes; /* their keys and values; 0: 256 MiB */
    const char *name;             /* shown by the servers; NULL: "libkvclient" */
    kv_log log;                   /* NULL: no messages */
    void *log_arg;
    const char *zone; /* where the caller is: its replicas are asked first for weaker reads */
    uint32_t flags;   /* KV_OPEN_* */
} kv_options;
#define KV_OPTIONS_INIT                                                                            \
    {                                                                                              \
        sizeof(kv_options), 0, 0, 0, 0, 0, 0, 0, 0                                                 \
    }
/* No session: a write whose fate is not known is not tried again, as it might take effect twice. */
#define KV_OPEN_NO_SESSION 1u

/* How new what is read must be. Writes are always fsynced by a majority. */
typedef enum kv_read {
    KV_READ_LINEARIZABLE = 0, /* nothing older than what anyone was told before the call */
    KV_READ_SESSION = 1,      /* nothing older than what this handle has written or read */
    KV_READ_BOUNDED = 2,      /* at most max_staleness_ms out of date */
    KV_READ_ANY = 3           /* whatever the fastest replica has */
} kv_read;

/* kv_callopts.flags */
#define KV_IF_VERSION 1u /* only if the key's version is if_version (writes) */
#define KV_IF_ABSENT 2u  /* only if there is no such key (put) */
#define KV_BORROW 4u     /* async: key and value stay as they are until completion: not copied */
#define KV_TTL 8u        /* the value lives ttl_ms (put; incr that makes the key) */
#define KV_ATOMIC 16u    /* kv_batch_run: all operations or none; all keys of one slot */

typedef struct kv_callopts {
    size_t size;
    uint32_t timeout_ms; /* 0: the handle's */
    uint32_t flags;
    uint64_t if_version;
    kv_queue *queue;           /* async: deliver there instead of calling `done` */
    kv_read read;              /* of gets */
    uint32_t max_staleness_ms; /* KV_READ_BOUNDED */
    uint64_t ttl_ms;           /* with KV_TTL */
} kv_callopts;
#define KV_CALLOPTS_INIT                                                                           \
    {                                                                                              \
        sizeof(kv_callopts), 0, 0, 0, 0, KV_READ_LINEARIZABLE, 0, 0                                \
    }

/* Opens a handle for "kv://host:port,host:port": addresses of placementd members or shardd nodes;
 * any one that answers will do. Names are resolved here, by the caller's thread. The cluster is
 * not waited for: calls wait for it within their deadlines. `options` may be NULL.
 * KV_BAD_REQUEST (malformed URL), KV_UNREACHABLE (no name could be resolved), KV_NO_MEMORY;
 * `msg` (may be NULL), of `n` bytes, then says what is wrong. */
KV_API kv_err kv_open(const char *url, const kv_options *options, kv_client **out, char *msg,
                      size_t n);
/* Refuses new calls, waits at most timeout_ms for those in flight, fails the rest with KV_CLOSED
 * (writes that were sent: maybe applied) and frees the handle. NULL is taken. Results and queues
 * live on. KV_TIMEOUT if some calls had to be failed. No other call may use the handle
 * meanwhile or afterwards. Not from a callback. */
KV_API kv_err kv_close(kv_client *kv, uint32_t timeout_ms);

/* ---- synchronous calls ---- */

/* *out (may be NULL) is set on every return but KV_FORKED and KV_NO_MEMORY, also on failures (it
 * then tells more); free it with kv_result_free(). `opts` may be NULL. */
KV_API kv_err kv_get(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_result **out);
KV_API kv_err kv_put(kv_client *kv, kv_slice key, kv_slice value, const kv_callopts *opts,
                     kv_result **out);
/* KV_OK also if there was no such key. */
KV_API kv_err kv_delete(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_result **out);
/* Adds to a whole number, decimal digits in the value; an absent key counts as 0. The sum is
 * kv_result_number(). The time to live of a key that is there stays as it is. KV_NOT_A_NUMBER. */
KV_API kv_err kv_incr(kv_client *kv, kv_slice key, int64_t delta, const kv_callopts *opts,
                      kv_result **out);
/* Lets the value live ttl_ms from now, whatever opts say of it. KV_NOT_FOUND. */
KV_API kv_err kv_touch(kv_client *kv, kv_slice key, uint64_t ttl_ms, const kv_callopts *opts,
                       kv_result **out);
/* Takes its time to live away. KV_NOT_FOUND. */
KV_API kv_err kv_persist(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_result **out);

/* ---- many keys at once ---- */

/* Results in the order of the keys or operations; immutable. */
typedef struct kv_results kv_results;
KV_API size_t kv_results_count(const kv_results *r);
/* Borrowed: lives as long as `r`; kv_result_keep() it to have it longer. NULL: no such one. */
KV_API const kv_result *kv_results_at(const kv_results *r, size_t i);
KV_API void kv_results_free(kv_results *r); /* NULL is taken */

/* Keys of any slots, 1 to 65536: asked for shard by shard at the same time. KV_OK: each result
 * is KV_OK or KV_NOT_FOUND; else the error of the first that failed, and *out has them all, unless
 * nothing was started: then it is NULL. One key's result is as good as a kv_get()'s; between keys
 * there is no order. Values beyond max_in_flight_bytes together are KV_TOO_LARGE. */
KV_API kv_err kv_mget(kv_client *kv, const kv_slice *keys, size_t n, const kv_callopts *opts,
                      kv_results **out);

/* Writes that are sent together. Keys and values are copied. Not thread-safe; may be run again. */
typedef struct kv_batch kv_batch;
KV_API kv_batch *kv_batch_create(void);    /* NULL: no memory */
KV_API void kv_batch_destroy(kv_batch *b); /* NULL is taken */
KV_API size_t kv_batch_count(const kv_batch *b);
/* `opts`: if_version, ttl_ms and their flags; NULL: none. KV_KEY_EMPTY, KV_KEY_TOO_LARGE,
 * KV_VALUE_TOO_LARGE, KV_BUSY (65536 operations or 1 GiB), KV_NO_MEMORY: it was not added. */
KV_API kv_err kv_batch_put(kv_batch *b, kv_slice key, kv_slice value, const kv_callopts *opts);
KV_API kv_err kv_batch_delete(kv_batch *b, kv_slice key, const kv_callopts *opts);
KV_API kv_err kv_batch_incr(kv_batch *b, kv_slice key, int64_t delta, const kv_callopts *opts);
KV_API kv_err kv_batch_touch(kv_batch *b, kv_slice key, uint64_t ttl_ms, const kv_callopts *opts);
KV_API kv_err kv_batch_persist(kv_batch *b, kv_slice key, const kv_callopts *opts);
/* Each operation is exactly once and has a result of its own; operations of one key take effect in
 * their order. With KV_ATOMIC in opts->flags all take effect in one moment or none does: keys of
 * one slot (KV_CROSS_SLOT), at most 1024 and 8 MiB (KV_TOO_LARGE); if one fails, those that did not
 * fail themselves are KV_NOT_APPLIED. KV_OK: each result is >= 0; else the error of the first that
 * failed, and *out has them all, unless nothing was started. An empty batch is a KV_BAD_REQUEST.
 * opts: timeout_ms, flags. */
KV_API kv_err kv_batch_run(kv_client *kv, const kv_batch *b, const kv_callopts *opts,
                           kv_results **out);

/* ---- asynchronous calls ---- */

/* Called exactly once for every call that was accepted, on the I/O thread, never from inside the
 * call itself. `result` is borrowed until it returns: kv_result_keep() it to have it longer. */
typedef void (*kv_done)(void *arg, kv_err err, const kv_result *result);

/* KV_OK: accepted, `done(arg, ...)` (or an event in opts->queue) will come within the deadline.
 * Anything else: nothing was started and nothing will come (KV_BUSY, KV_CLOSED, KV_FORKED,
 * KV_KEY_EMPTY, KV_KEY_TOO_LARGE, KV_VALUE_TOO_LARGE, KV_BAD_REQUEST). Key and value are copied,
 * unless flags say KV_BORROW. */
KV_API kv_err kv_get_async(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_done done,
                           void *arg);
KV_API kv_err kv_put_async(kv_client *kv, kv_slice key, kv_slice value, const kv_callopts *opts,
                           kv_done done, void *arg);
KV_API kv_err kv_delete_async(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_done done,
                              void *arg);
KV_API kv_err kv_incr_async(kv_client *kv, kv_slice key, int64_t delta, const kv_callopts *opts,
                            kv_done done, void *arg);
KV_API kv_err kv_touch_async(kv_client *kv, kv_slice key, uint64_t ttl_ms, const kv_callopts *opts,
                             kv_done done, void *arg);
KV_API kv_err kv_persist_async(kv_client *kv, kv_slice key, const kv_callopts *opts, kv_done done,
                               void *arg);
/* Of kv_mget() and kv_batch_run(); `results` is borrowed until it returns. */
typedef void (*kv_many_done)(void *arg, kv_err err, const kv_results *results);
KV_API kv_err kv_mget_async(kv_client *kv, const kv_slice *keys, size_t n, const kv_callopts *opts,
                            kv_many_done done, void *arg);
KV_API kv_err kv_batch_run_async(kv_client *kv, const kv_batch *b, const kv_callopts *opts,
                                 kv_many_done done, void *arg);

/* ---- completion queues: for epoll, libuv and other loops ---- */

typedef struct kv_event {
    void *arg; /* what the async call was given */
    kv_err err;
    kv_result *result;   /* the caller's: kv_result_free(); NULL for many keys */
    kv_results *results; /* the caller's: kv_results_free(); of kv_mget, kv_batch_run; else NULL */
} kv_event;

KV_API kv_err kv_queue_create(kv_queue **out);
/* Readable while events wait. Level-triggered; never read from it yourself. */
KV_API int kv_queue_fd(const kv_queue *q);
/* 1 and one event, or 0 if none waits. Never blocks. */
KV_API int kv_queue_next(kv_queue *q, kv_event *out);
/* Frees the queue and the events in it. NULL is taken. No call that will deliver to it may be in
 * flight (close the handles first). */
KV_API void kv_queue_destroy(kv_queue *q);

/* ---- results ---- */

/* NULL is taken everywhere. Any thread. */
KV_API kv_err kv_result_err(const kv_result *r);
/* The value of a get; empty otherwise. Lives as long as the result. */
KV_API kv_slice kv_result_value(const kv_result *r);
/* The key's version: of what was read, given by the write, or the present one where a condition
 * failed. 0 if there is none. */
KV_API uint64_t kv_result_version(const kv_result *r);
/* What kv_incr() made of it; else 0. */
KV_API int64_t kv_result_number(const kv_result *r);
/* ms that the value of a get has still to live; -1: for ever. */
KV_API int64_t kv_result_ttl_ms(const kv_result *r);
/* 1: the call failed, but the write may have been (or may yet be) applied. */
KV_API int kv_result_maybe_applied(const kv_result *r);
/* What the server or the library said about a failure; "" if nothing. */
KV_API const char *kv_result_text(const kv_result *r);
/* An owned copy of a result that a callback was lent. NULL if out of memory. */
KV_API kv_result *kv_result_keep(const kv_result *r);
KV_API void kv_result_free(kv_result *r);

/* ---- sessions across handles ---- */

/* What this handle has written and read so far, for another handle, also in another process: after
 * kv_session_import() its KV_READ_SESSION reads see that too. The token is text, at most `cap`
 * bytes with its NUL; *n is set to what it needs (KV_TOO_LARGE: more than cap). Tokens are of one
 * cluster and survive moves, splits and merges of shards. */
KV_API kv_err kv_session_export(kv_client *kv, char *token, size_t cap, size_t *n);
/* KV_BAD_REQUEST: it is none, or of another cluster. */
KV_API kv_err kv_session_import(kv_client *kv, const char *token);

/* ---- looking inside ---- */

typedef struct kv_stats {
    size_t size;
    uint64_t calls;       /* accepted */
    uint64_t ok;          /* KV_OK and definite answers */
    uint64_t failed;      /* surely not applied */
    uint64_t unknown;     /* outcome unknown */
    uint64_t retries;     /* requests sent again */
    uint64_t redirects;   /* "that is not the leader" and the like */
    uint64_t connects;    /* connections opened */
    uint64_t disconnects; /* connections lost */
    uint64_t map_updates; /* newer pieces of the map taken */
    uint64_t map_version;
    uint64_t in_flight;
    uint64_t bytes_sent, bytes_received;
    uint64_t retried;        /* calls that were sent more than once */
    uint64_t retries_max;    /* the most times that one call was sent again */
    uint64_t breaker_opens;  /* a node was left alone for a while, as it kept failing */
    uint64_t follower_reads; /* answered by a replica that does not lead */
} kv_stats;
/* Set stats->size first. Not from a callback. */
KV_API kv_err kv_get_stats(kv_client *kv, kv_stats *stats);

/* The slot of a key, 0..16383: CRC16/XMODEM of it or of its {tag}, Redis Cluster's rule. */
KV_API unsigned kv_slot(kv_slice key);
/* The version of the library that is linked, KV_VERSION of its header. */
KV_API const char *kv_version(void);

#ifdef __cplusplus
}
#endif
#endif
