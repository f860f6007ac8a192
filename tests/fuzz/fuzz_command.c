/* The replicated command and the rows of sessions, from the WAL, from peers and from the disk.
 *
 * First byte 'c': a command. What is accepted lies in the input and comes back the same after
 * encoding; applied a second time it does nothing again for a session; the rows that it leaves tell
 * the same as the table. First byte 'r': rows, each u8 length of the key, key, u16 length of the
 * value, value. What is loaded of them is within bounds and comes back the same once it is written
 * anew. */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"
#include "shardd/apply.h"
#include "shardd/engine_key.h"
#include "tests/fuzz/fuzz.h"

#define GROUP 7u

/* ---- an engine of a few pairs; a batch is applied as it is gathered ---- */

struct pair {
    struct buf key, value;
};

struct engine_db {
    struct pair *pairs;
    uint32_t n, cap;
};

struct engine_batch {
    struct engine_db *db;
};

static int compare(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* Where the first one is that is not before `key`: they are in order. */
static uint32_t place_of(const struct engine_db *db, struct slice key)
{
    uint32_t i = 0;
    while (i < db->n && compare(buf_slice(&db->pairs[i].key), key) < 0)
        i++;
    return i;
}

static struct pair *find_pair(const struct engine_db *db, struct slice key)
{
    uint32_t i = place_of(db, key);
    return i < db->n && slice_eq(buf_slice(&db->pairs[i].key), key) ? &db->pairs[i] : NULL;
}

static void drop_pair(struct engine_db *db, struct pair *p)
{
    buf_close(&p->key);
    buf_close(&p->value);
    db->n--;
    memmove(p, p + 1, (size_t)(db->pairs + db->n - p) * sizeof *p);
}

void engine_batch_put2(struct engine_batch *b, struct slice key, struct slice head,
                       struct slice body)
{
    struct engine_db *db = b->db;
    struct pair *p = find_pair(db, key);
    if (!p) {
        if (db->n == db->cap) {
            db->cap = db->cap ? 2 * db->cap : 16;
            db->pairs = mem_realloc(db->pairs, db->cap * sizeof *db->pairs);
        }
        p = &db->pairs[place_of(db, key)];
        memmove(p + 1, p, (size_t)(db->pairs + db->n++ - p) * sizeof *p);
        *p = (struct pair){0};
        buf_append(&p->key, key.p, key.n);
    }
    buf_clear(&p->value);
    buf_append(&p->value, head.p, head.n);
    buf_append(&p->value, body.p, body.n);
}

void engine_batch_put(struct engine_batch *b, struct slice key, struct slice value)
{
    engine_batch_put2(b, key, value, slice_of(NULL, 0));
}

void engine_batch_delete(struct engine_batch *b, struct slice key)
{
    struct pair *p = find_pair(b->db, key);
    if (p)
        drop_pair(b->db, p);
}

static bool is_in(struct slice key, struct slice from, struct slice to)
{
    return compare(key, from) >= 0 && compare(key, to) < 0;
}

void engine_batch_delete_range(struct engine_batch *b, struct slice from, struct slice to)
{
    for (uint32_t i = b->db->n; i > 0; i--)
        if (is_in(buf_slice(&b->db->pairs[i - 1].key), from, to))
            drop_pair(b->db, &b->db->pairs[i - 1]);
}

enum err engine_get(struct engine_db *db, struct slice key, bool cached_only,
                    struct engine_value *out)
{
    (void)cached_only;
    const struct pair *p = find_pair(db, key);
    if (!p)
        return ERR_NOT_FOUND;
    *out = (struct engine_value){.data = buf_slice(&p->value)};
    return ERR_OK;
}

void engine_value_close(struct engine_value *v)
{
    *v = (struct engine_value){0};
}

enum err engine_scan(struct engine_db *db, struct slice from, struct slice to, engine_scan_fn each,
                     void *arg)
{
    for (uint32_t i = 0; i < db->n; i++) {
        struct slice key = buf_slice(&db->pairs[i].key);
        if (is_in(key, from, to) && !each(arg, key, buf_slice(&db->pairs[i].value)))
            break;
    }
    return ERR_OK;
}

static void close_db(struct engine_db *db)
{
    while (db->n > 0)
        drop_pair(db, &db->pairs[db->n - 1]);
    free(db->pairs);
    *db = (struct engine_db){0};
}

/* ---- commands ---- */

static bool inside(struct slice s, struct slice in)
{
    return s.n == 0 || (s.p >= in.p && s.p + s.n <= in.p + in.n);
}

static bool same_op(const struct command_op *a, const struct command_op *b)
{
    bool session = (a->flags & COMMAND_SESSION) != 0;
    return a->kind == b->kind && a->flags == b->flags && slice_eq(a->key, b->key) &&
           slice_eq(a->value, b->value) && a->if_version == b->if_version &&
           a->expiry_ms == b->expiry_ms && a->delta == b->delta && a->seq == b->seq &&
           a->ack == b->ack && a->until_ms == b->until_ms &&
           (!session || memcmp(a->sid, b->sid, COMMAND_SESSION_ID) == 0);
}

/* Walks through it; what it says, encoded anew. False: it is malformed. */
static bool walk(struct slice raw, struct buf *again)
{
    struct command_reader r;
    struct command_op op;
    const uint8_t *sid = NULL;
    uint32_t n = 0;
    enum err e = command_open(raw, &r);
    uint64_t time_ms = e == ERR_OK ? r.time_ms : 0;
    command_begin(again);
    for (; e == ERR_OK && r.left > 0; n++) {
        e = command_next(&r, &op);
        if (e != ERR_OK)
            break;
        CHECK(inside(op.key, raw) && inside(op.value, raw));
        command_put_op(again, &op, sid);
        if (op.flags & COMMAND_SESSION) {
            CHECK(inside(slice_of(op.sid, COMMAND_SESSION_ID), raw));
            sid = op.sid;
        }
    }
    CHECK(e == ERR_OK || e == ERR_CORRUPT || e == ERR_FORMAT);
    if (e == ERR_OK)
        command_finish(again, time_ms, n);
    return e == ERR_OK;
}

static void check_same(struct slice raw, struct slice again)
{
    struct command_reader a, b;
    struct command_op x, y;
    CHECK(command_open(raw, &a) == ERR_OK && command_open(again, &b) == ERR_OK);
    CHECK(a.time_ms == b.time_ms && a.left == b.left && (a.depends || !b.depends));
    while (a.left > 0) {
        CHECK(command_next(&a, &x) == ERR_OK && command_next(&b, &y) == ERR_OK);
        CHECK(same_op(&x, &y));
    }
    CHECK(b.left == 0);
}

/* One for each op, in order. */
static void on_first(void *arg, uint32_t i, const struct apply_outcome *o)
{
    uint32_t *n = arg;
    CHECK(i == (*n)++);
    CHECK(o->err != ERR_OK || o->version > 0);
}

/* What was done is not done again. */
static void on_second(void *arg, uint32_t i, const struct apply_outcome *o)
{
    struct command_op op;
    (void)i;
    CHECK(command_next(arg, &op) == ERR_OK);
    CHECK(!(op.flags & COMMAND_SESSION) || o->repeated || o->err == ERR_UNKNOWN_OUTCOME);
}

/* What no leader proposes: rows say until when a result is kept as a distance of 32 bits, before a
 * moment that is one later. */
static bool is_far(struct slice raw)
{
    struct command_reader r;
    struct command_op op;
    bool far = command_open(raw, &r) != ERR_OK;
    while (!far && r.left > 0)
        far = command_next(&r, &op) != ERR_OK || op.until_ms >> 31 > r.time_ms >> 31 ||
              op.until_ms == UINT64_MAX;
    return far;
}

/* The table that is loaded from the rows tells the same of each op. */
static void check_rows(struct slice raw, struct dedupe *d, struct engine_batch *batch,
                       uint64_t time_ms)
{
    struct dedupe *loaded = dedupe_create();
    struct command_reader r;
    struct command_op op;
    dedupe_store(d, GROUP, 0, batch);
    CHECK(dedupe_load(loaded, batch->db, GROUP, 0, time_ms) == ERR_OK);
    CHECK(command_open(raw, &r) == ERR_OK);
    while (r.left > 0) {
        struct dedupe_result a = {0}, b = {0};
        CHECK(command_next(&r, &op) == ERR_OK);
        if (!(op.flags & COMMAND_SESSION))
            continue;
        CHECK(dedupe_find(d, &op, time_ms, &a) == dedupe_find(loaded, &op, time_ms, &b));
        CHECK(a.err == b.err && a.version == b.version && a.number == b.number);
    }
    dedupe_destroy(loaded);
}

static void try_command(struct slice raw)
{
    struct buf again = {0};
    uint32_t n = 0;
    bool sound = walk(raw, &again);
    if (sound)
        check_same(raw, buf_slice(&again));
    buf_close(&again);
    struct shard shard = {.group = GROUP, .replica = 1, .last_slot = LIMIT_SLOTS - 1};
    struct engine_db db = {0};
    struct engine_batch batch = {&db};
    struct dedupe *d = dedupe_create();
    enum err e = apply_command(&shard, d, raw, &db, &batch, on_first, &n);
    CHECK((e == ERR_OK) == sound || (sound && e == ERR_CORRUPT)); /* a run that has no end */
    if (e == ERR_OK) {
        struct command_reader r;
        if (!is_far(raw))
            check_rows(raw, d, &batch, shard.time_ms);
        CHECK(command_open(raw, &r) == ERR_OK);
        CHECK(apply_command(&shard, d, raw, &db, &batch, on_second, &r) == ERR_OK);
    }
    dedupe_destroy(d);
    close_db(&db);
}

/* ---- rows ---- */

static void check_bounds(const struct dedupe *d)
{
    CHECK(dedupe_results(d) <= (uint64_t)dedupe_sessions(d) * LIMIT_SESSION_RESULTS);
}

static void try_rows(struct slice in)
{
    struct engine_db db = {0};
    struct engine_batch batch = {&db};
    struct cursor c = cursor_of(in);
    while (c.left.n > 0 && db.n < 64) {
        struct slice key = cursor_bytes(&c, cursor_u8(&c));
        struct slice value = cursor_bytes(&c, cursor_u16(&c));
        if (!c.bad)
            engine_batch_put(&batch, key, value);
        else
            break;
    }
    struct dedupe *d = dedupe_create(), *loaded = dedupe_create();
    enum err e = dedupe_load(d, &db, GROUP, 0, 1000);
    CHECK(e == ERR_OK || e == ERR_CORRUPT || e == ERR_FORMAT);
    check_bounds(d);
    if (e == ERR_OK) {
        dedupe_sweep(d, 1000);
        dedupe_rewrite(d, GROUP, 0, LIMIT_SLOTS - 1, &batch);
        CHECK(dedupe_load(loaded, &db, GROUP, 0, 1000) == ERR_OK);
        CHECK(dedupe_results(loaded) == dedupe_results(d));
        CHECK(dedupe_sessions(loaded) == dedupe_sessions(d));
    }
    dedupe_destroy(d);
    dedupe_destroy(loaded);
    close_db(&db);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0 && data[0] == 'c')
        try_command(slice_of(data + 1, size - 1));
    if (size > 0 && data[0] == 'r')
        try_rows(slice_of(data + 1, size - 1));
    return 0;
}
