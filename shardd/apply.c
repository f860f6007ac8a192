/* An operation that depends on what is there must see the effect of every earlier one, also of
 * those in the same command, which are only in the batch yet. So a command with such operations
 * keeps a table of its effects, newest first in each bucket; what is not in it is read from the
 * engine. The effects of a run that fails are taken off the table again. Other commands, most by
 * far, keep none and go straight to the batch. */
#include "shardd/apply.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"
#include "shardd/engine_key.h"

#define NONE UINT32_MAX
#define DIGITS 24u

/* What an op does to its key. */
struct effect {
    struct slice key, value;
    uint16_t slot;
    bool present; /* else it is deleted */
    bool has_expiry;
    uint64_t version, expiry_ms;
    char digits[DIGITS]; /* incr: the value */
    void *copy;          /* touch: the value, owned; else NULL */
    uint32_t next;       /* older one in its bucket */
};

struct apply {
    struct shard *shard;
    struct dedupe *dedupe;
    struct engine_db *db;
    struct engine_batch *batch;
    apply_result_fn result;
    void *arg;

    /* Only if the command needs them. */
    struct effect *effects;
    uint32_t n_effects;
    uint32_t *bucket; /* index of the newest effect */
    uint32_t n_buckets;
};

/* The ops of a command, read some at a time: what they will touch is loaded together. */
struct source {
    struct command_reader reader;
    struct command_op op[DEDUPE_PREFETCH];
    uint32_t n, at;
    enum err err; /* behind the last one */
};

enum err apply_needs_engine(struct slice payload, bool *out)
{
    struct command_reader r;
    enum err e = command_open(payload, &r);
    if (e == ERR_OK)
        *out = r.depends;
    return e;
}

/* ---- the table of effects ---- */

static void table_open(struct apply *a, uint32_t n_ops)
{
    a->n_buckets = 16;
    while (a->n_buckets < n_ops)
        a->n_buckets *= 2;
    a->bucket = mem_alloc(a->n_buckets * sizeof *a->bucket);
    memset(a->bucket, 0xff, a->n_buckets * sizeof *a->bucket);
    a->effects = mem_alloc(n_ops * sizeof *a->effects);
}

static uint32_t *bucket_of(const struct apply *a, struct slice key)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.n; i++)
        h = (h ^ key.p[i]) * 0x100000001b3u;
    return &a->bucket[(h ^ h >> 32) & (a->n_buckets - 1)];
}

static void table_add(struct apply *a, const struct effect *effect)
{
    if (!a->effects)
        return;
    struct effect *e = &a->effects[a->n_effects];
    *e = *effect;
    if (effect->value.p == (const uint8_t *)effect->digits)
        e->value.p = (const uint8_t *)e->digits;
    uint32_t *at = bucket_of(a, e->key);
    e->next = *at;
    *at = a->n_effects++;
}

/* Back to the first `n`. */
static void table_undo(struct apply *a, uint32_t n)
{
    while (a->n_effects > n) {
        struct effect *e = &a->effects[--a->n_effects];
        *bucket_of(a, e->key) = e->next;
        free(e->copy);
    }
}

static void table_close(struct apply *a)
{
    for (uint32_t i = 0; i < a->n_effects; i++)
        free(a->effects[i].copy);
    free(a->effects);
    free(a->bucket);
}

/* ---- what is there ---- */

struct state {
    bool present, has_expiry;
    uint64_t version, expiry_ms;
    struct slice value; /* borrowed: from the table, the command, or `stored` */
    struct engine_value stored;
};

static void state_close(struct state *s)
{
    engine_value_close(&s->stored);
}

static enum err read_stored(struct apply *a, uint16_t slot, struct slice key, struct state *s)
{
    uint8_t raw[ENGINE_KEY_MAX];
    enum err e = engine_get(a->db, engine_key_data(raw, slot, key), false, &s->stored);
    if (e != ERR_OK)
        return e == ERR_NOT_FOUND ? ERR_OK : e;
    struct engine_value_head head;
    e = engine_value_decode(s->stored.data, &head, &s->value);
    if (e != ERR_OK) {
        state_close(s);
        return e;
    }
    s->present = true;
    s->version = head.version;
    s->has_expiry = head.has_expiry;
    s->expiry_ms = head.expiry_ms;
    return ERR_OK;
}

/* To be closed if it is ERR_OK. */
static enum err look(struct apply *a, uint16_t slot, struct slice key, struct state *out)
{
    *out = (struct state){0};
    uint32_t i = *bucket_of(a, key);
    while (i != NONE && !slice_eq(a->effects[i].key, key))
        i = a->effects[i].next;
    if (i == NONE) {
        enum err e = read_stored(a, slot, key, out);
        if (e != ERR_OK)
            return e;
    } else {
        const struct effect *f = &a->effects[i];
        *out = (struct state){.present = f->present,
                              .has_expiry = f->has_expiry,
                              .version = f->version,
                              .expiry_ms = f->expiry_ms,
                              .value = f->value};
    }
    struct engine_value_head head = {.has_expiry = out->has_expiry, .expiry_ms = out->expiry_ms};
    if (!out->present || engine_value_expired(&head, shard_time(a->shard))) {
        out->present = out->has_expiry = false;
        out->version = 0;
        out->value = slice_of(NULL, 0);
    }
    return ERR_OK;
}

/* ---- one op ---- */

/* A whole number in decimal digits, as incr writes it. */
static bool parse_number(struct slice text, int64_t *out)
{
    bool negative = text.n > 0 && text.p[0] == '-';
    uint64_t v = 0, most = negative ? 1ULL << 63 : INT64_MAX;
    if (text.n == negative || text.n > 20)
        return false;
    for (size_t i = negative; i < text.n; i++) {
        if (text.p[i] < '0' || text.p[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(text.p[i] - '0');
        if (v > (most - digit) / 10)
            return false;
        v = v * 10 + digit;
    }
    *out = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

/* `f` has the key; what is missing is the value. */
static void plan_incr(const struct command_op *op, const struct state *s, struct effect *f,
                      struct apply_outcome *o)
{
    int64_t number = 0;
    if (s->present && !parse_number(s->value, &number))
        o->err = ERR_NOT_A_NUMBER;
    else if (__builtin_add_overflow(number, op->delta, &number))
        o->err = ERR_NOT_A_NUMBER;
    if (o->err != ERR_OK)
        return;
    int n = snprintf(f->digits, sizeof f->digits, "%lld", (long long)number);
    f->value = slice_of(f->digits, (size_t)n);
    o->number = number;
    if (s->present) {
        f->has_expiry = s->has_expiry;
        f->expiry_ms = s->expiry_ms;
    }
}

static void plan_touch(const struct state *s, struct effect *f, struct apply_outcome *o)
{
    if (!s->present) {
        o->err = ERR_NOT_FOUND;
        return;
    }
    f->copy = s->value.n ? mem_dup(s->value.p, s->value.n) : NULL;
    f->value = slice_of(f->copy, s->value.n);
}

static void check_condition(const struct command_op *op, const struct state *s,
                            struct apply_outcome *o)
{
    o->version = s->version;
    if ((op->flags & COMMAND_IF_ABSENT && s->present) ||
        (op->flags & COMMAND_IF_VERSION && s->version != op->if_version))
        o->err = ERR_CONDITION_FAILED;
}

/* What the op would do now. With o->err ERR_OK the version is given and *f is to be carried out. */
static enum err plan(struct apply *a, const struct command_op *op, uint16_t slot, struct effect *f,
                     struct apply_outcome *o)
{
    *o = (struct apply_outcome){.err = ERR_OK};
    *f = (struct effect){.key = op->key,
                         .value = op->value,
                         .slot = slot,
                         .present = op->kind != COMMAND_DELETE,
                         .has_expiry = (op->flags & COMMAND_EXPIRY) != 0,
                         .expiry_ms = op->expiry_ms};
    if (command_depends(op)) {
        struct state s;
        enum err e = look(a, slot, op->key, &s);
        if (e != ERR_OK)
            return e;
        check_condition(op, &s, o);
        if (o->err == ERR_OK && op->kind == COMMAND_INCR)
            plan_incr(op, &s, f, o);
        else if (o->err == ERR_OK && op->kind == COMMAND_TOUCH)
            plan_touch(&s, f, o);
        state_close(&s);
    }
    if (o->err == ERR_OK)
        o->version = f->version = ++a->shard->version;
    return ERR_OK;
}

static void carry_out(struct apply *a, const struct effect *f)
{
    uint8_t raw[ENGINE_KEY_MAX];
    struct slice key = engine_key_data(raw, f->slot, f->key);
    if (a->shard->phase == SHARD_PHASE_SOURCE) {
        uint8_t change[ENGINE_CHANGE_MAX];
        engine_batch_put(a->batch, engine_key_change(change, f->version, key), slice_of(NULL, 0));
    }
    if (!f->present) {
        engine_batch_delete(a->batch, key);
        return;
    }
    uint8_t head[ENGINE_VALUE_HEAD_MAX];
    struct engine_value_head h = {
        .version = f->version, .has_expiry = f->has_expiry, .expiry_ms = f->expiry_ms};
    engine_batch_put2(a->batch, key, engine_value_encode(head, &h), f->value);
}

/* True if it is settled without being looked at: not ours, known, or too late. */
static bool settled(struct apply *a, const struct command_op *op, uint16_t slot,
                    struct apply_outcome *o)
{
    struct dedupe_result known;
    *o = (struct apply_outcome){.err = ERR_WRONG_SHARD};
    if (!shard_owns(a->shard, slot))
        return true;
    if (!(op->flags & COMMAND_SESSION))
        return false;
    switch (dedupe_find(a->dedupe, op, a->shard->time_ms, &known)) {
    case DEDUPE_NEW:
        return false;
    case DEDUPE_KNOWN:
        *o = (struct apply_outcome){known.err, known.version, known.number, true};
        return true;
    case DEDUPE_LATE:
    default:
        o->err = ERR_UNKNOWN_OUTCOME;
        return true;
    }
}

static void remember(struct apply *a, const struct command_op *op, uint16_t slot,
                     const struct apply_outcome *o)
{
    struct dedupe_result result = {o->err, o->version, o->number};
    if (op->flags & COMMAND_SESSION)
        dedupe_record(a->dedupe, op, slot, a->shard->time_ms, &result);
}

static enum err apply_op(struct apply *a, uint32_t i, const struct command_op *op)
{
    uint16_t slot = slot_of_key(op->key);
    struct apply_outcome o;
    if (!settled(a, op, slot, &o)) {
        struct effect f;
        enum err e = plan(a, op, slot, &f, &o);
        if (e != ERR_OK)
            return e;
        if (o.err == ERR_OK) {
            carry_out(a, &f);
            table_add(a, &f);
        }
        remember(a, op, slot, &o);
    }
    a->result(a->arg, i, &o);
    return ERR_OK;
}

/* ---- reading ---- */

static void refill(struct apply *a, struct source *s)
{
    const uint8_t *sids[DEDUPE_PREFETCH];
    uint32_t n_sids = 0;
    s->n = s->at = 0;
    while (s->n < DEDUPE_PREFETCH && s->reader.left > 0 && s->err == ERR_OK) {
        struct command_op *op = &s->op[s->n];
        s->err = command_next(&s->reader, op);
        if (s->err != ERR_OK)
            break;
        s->n++;
        if (op->flags & COMMAND_SESSION && (n_sids == 0 || sids[n_sids - 1] != op->sid))
            sids[n_sids++] = op->sid;
    }
    dedupe_prefetch(a->dedupe, sids, n_sids);
}

/* The next op, valid until the next call; NULL at the end, which is good if s->err says so. */
static const struct command_op *next_op(struct apply *a, struct source *s)
{
    if (s->at == s->n)
        refill(a, s);
    return s->at < s->n ? &s->op[s->at++] : NULL;
}

/* ---- a run ---- */

struct run {
    struct command_op *ops;
    struct apply_outcome *outcomes;
    uint32_t n;
};

/* All of it is in one state, but for what the bounds of dedupe.h have dropped: that is late. */
static bool run_settled(struct apply *a, struct run *r)
{
    bool any = false, owned = true;
    for (uint32_t i = 0; i < r->n; i++) {
        uint16_t slot = slot_of_key(r->ops[i].key);
        owned = owned && shard_owns(a->shard, slot);
        if (settled(a, &r->ops[i], slot, &r->outcomes[i]))
            any = true;
        else
            r->outcomes[i] = (struct apply_outcome){.err = ERR_UNKNOWN_OUTCOME};
    }
    for (uint32_t i = 0; i < r->n && !owned; i++)
        r->outcomes[i] = (struct apply_outcome){.err = ERR_WRONG_SHARD};
    return any;
}

/* Nothing of it is done. Versions that its own ops would have given never were: those that tell one
 * are to tell the present one. */
static enum err run_undo(struct apply *a, struct run *r, uint32_t n_effects, uint64_t version)
{
    table_undo(a, n_effects);
    a->shard->version = version;
    for (uint32_t i = 0; i < r->n; i++) {
        struct apply_outcome *o = &r->outcomes[i];
        struct state s;
        *o = (struct apply_outcome){.err = o->err == ERR_OK ? ERR_NOT_APPLIED : o->err};
        if (o->err != ERR_CONDITION_FAILED)
            continue;
        enum err e = look(a, slot_of_key(r->ops[i].key), r->ops[i].key, &s);
        if (e != ERR_OK)
            return e;
        o->version = s.version;
        state_close(&s);
    }
    return ERR_OK;
}

static enum err run_do(struct apply *a, struct run *r)
{
    uint32_t n_effects = a->n_effects;
    uint64_t version = a->shard->version;
    bool failed = false;
    for (uint32_t i = 0; i < r->n; i++) {
        struct effect f;
        enum err e = plan(a, &r->ops[i], slot_of_key(r->ops[i].key), &f, &r->outcomes[i]);
        if (e != ERR_OK)
            return e;
        if (r->outcomes[i].err == ERR_OK)
            table_add(a, &f);
        failed = failed || r->outcomes[i].err != ERR_OK;
    }
    if (failed)
        return run_undo(a, r, n_effects, version);
    for (uint32_t i = n_effects; i < a->n_effects; i++)
        carry_out(a, &a->effects[i]);
    return ERR_OK;
}

static enum err apply_run(struct apply *a, uint32_t first, struct run *r)
{
    if (!run_settled(a, r)) {
        enum err e = run_do(a, r);
        if (e != ERR_OK)
            return e;
        for (uint32_t i = 0; i < r->n; i++)
            remember(a, &r->ops[i], slot_of_key(r->ops[i].key), &r->outcomes[i]);
    }
    for (uint32_t i = 0; i < r->n; i++)
        a->result(a->arg, first + i, &r->outcomes[i]);
    return ERR_OK;
}

/* `op` is its first one. */
static enum err gather_run(struct apply *a, struct source *s, uint32_t first,
                           const struct command_op *op, uint32_t *n)
{
    uint32_t cap = 16;
    struct run r = {.ops = mem_alloc(cap * sizeof(struct command_op))};
    r.ops[r.n++] = *op;
    while (r.ops[r.n - 1].flags & COMMAND_MORE && (op = next_op(a, s)) != NULL) {
        if (r.n == cap) {
            cap *= 2;
            r.ops = mem_realloc(r.ops, cap * sizeof(struct command_op));
        }
        r.ops[r.n++] = *op;
    }
    enum err e = op ? ERR_OK : s->err;
    if (e == ERR_OK) {
        r.outcomes = mem_zalloc(r.n * sizeof(struct apply_outcome));
        e = apply_run(a, first, &r);
    }
    *n = r.n;
    free(r.ops);
    free(r.outcomes);
    return e;
}

enum err apply_command(struct shard *shard, struct dedupe *dedupe, struct slice payload,
                       struct engine_db *db, struct engine_batch *batch, apply_result_fn result,
                       void *arg)
{
    struct source s;
    struct apply a = {shard, dedupe, db, batch, result, arg, NULL, 0, NULL, 0};
    const struct command_op *op;
    enum err e = command_open(payload, &s.reader);
    if (e != ERR_OK)
        return e;
    s.n = s.at = 0;
    s.err = ERR_OK;
    if (s.reader.time_ms > shard->time_ms)
        shard->time_ms = s.reader.time_ms;
    if (s.reader.depends && s.reader.left > 0)
        table_open(&a, s.reader.left);
    for (uint32_t i = 0; e == ERR_OK && (op = next_op(&a, &s)) != NULL;) {
        uint32_t n = 1;
        if (op->flags & COMMAND_MORE)
            e = gather_run(&a, &s, i, op, &n);
        else
            e = apply_op(&a, i, op);
        i += n;
    }
    table_close(&a);
    dedupe_age(dedupe, shard->time_ms);
    return e == ERR_OK ? s.err : e;
}
