/* See history.h. */
#include "common/lin/history.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/mem.h"

#define ABSENT_TEXT "\x01 absent"

static void text_close(struct history_text *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->e[i]);
    free(t->e);
    free(t->index);
    *t = (struct history_text){0};
}

static size_t text_at(const struct history_text *t, struct slice s)
{
    size_t at = (size_t)crc32c(0, s.p, s.n) * 2654435761u;

    for (;; at++) {
        uint32_t found = t->index[at & (t->index_cap - 1)];
        if (found == 0 || slice_eq(slice_str(t->e[found - 1]), s))
            return at & (t->index_cap - 1);
    }
}

/* The number of a text, the same for equal ones. Texts with NUL bytes are not for histories. */
static uint32_t text_number(struct history_text *t, struct slice s)
{
    size_t at;

    if (t->n * 2 >= t->index_cap) {
        free(t->index);
        t->index_cap = t->index_cap ? t->index_cap * 2 : 256;
        t->index = mem_zalloc(t->index_cap * sizeof *t->index);
        for (size_t i = 0; i < t->n; i++)
            t->index[text_at(t, slice_str(t->e[i]))] = (uint32_t)i + 1;
    }
    at = text_at(t, s);
    if (t->index[at])
        return t->index[at] - 1;
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 64;
        t->e = mem_realloc(t->e, t->cap * sizeof *t->e);
    }
    t->e[t->n] = mem_alloc(s.n + 1);
    memcpy(t->e[t->n], s.p, s.n);
    t->e[t->n][s.n] = 0;
    t->index[at] = (uint32_t)++t->n;
    return (uint32_t)t->n - 1;
}

void history_init(struct history *h)
{
    *h = (struct history){0};
    CHECK(text_number(&h->values, slice_str(ABSENT_TEXT)) == LIN_ABSENT);
}

void history_close(struct history *h)
{
    text_close(&h->keys);
    text_close(&h->values);
    free(h->e);
    *h = (struct history){0};
}

uint32_t history_key(struct history *h, struct slice key)
{
    return text_number(&h->keys, key);
}

uint32_t history_value(struct history *h, struct slice value)
{
    return text_number(&h->values, value);
}

size_t history_call(struct history *h, uint32_t client, enum lin_kind kind, uint32_t key,
                    uint32_t value, uint32_t expected, uint64_t t)
{
    if (h->n == h->cap) {
        h->cap = h->cap ? h->cap * 2 : 256;
        h->e = mem_realloc(h->e, h->cap * sizeof *h->e);
    }
    h->e[h->n] = (struct history_op){
        .op = {client, kind, value, expected, false, t, LIN_FOREVER, h->n}, .key = key};
    return h->n++;
}

void history_ok(struct history *h, size_t op, uint32_t value, uint64_t t)
{
    struct history_op *o = &h->e[op];

    CHECK(o->state == HISTORY_OPEN);
    o->state = HISTORY_OK;
    o->op.ret = t;
    if (o->op.kind == LIN_GET)
        o->op.value = value;
}

void history_refused(struct history *h, size_t op, uint64_t t)
{
    history_ok(h, op, 0, t);
    h->e[op].op.failed = true;
}

void history_fail(struct history *h, size_t op, uint64_t t)
{
    (void)t;
    CHECK(h->e[op].state == HISTORY_OPEN);
    h->e[op].state = HISTORY_FAIL;
}

void history_info(struct history *h, size_t op, uint64_t t)
{
    (void)t;
    CHECK(h->e[op].state == HISTORY_OPEN);
    h->e[op].state = HISTORY_INFO;
}

unsigned history_count(const struct history *h, enum history_state state)
{
    unsigned n = 0;

    for (size_t i = 0; i < h->n; i++)
        n += h->e[i].state == state;
    return n;
}

/* ---- check ---- */

static bool counts(const struct history_op *o)
{
    if (o->state == HISTORY_FAIL)
        return false;
    return o->state == HISTORY_OK || o->op.kind != LIN_GET;
}

static void print_value(FILE *f, const struct history *h, uint32_t v)
{
    if (v == LIN_ABSENT)
        fprintf(f, "absent");
    else
        fprintf(f, "\"%s\"", h->values.e[v]);
}

static void print_op(FILE *f, const struct history *h, const struct lin_op *op)
{
    static const char *const names[] = {"put", "get", "del", "cas"};

    fprintf(f, "  op %-5zu client %-3u %s ", op->where, op->client, names[op->kind]);
    if (op->kind == LIN_CAS) {
        print_value(f, h, op->expected);
        fprintf(f, " -> ");
    }
    if (op->kind == LIN_GET)
        fprintf(f, "= ");
    if (op->kind != LIN_DEL)
        print_value(f, h, op->value);
    if (op->failed)
        fprintf(f, " refused");
    if (op->ret == LIN_FOREVER)
        fprintf(f, "   [%.6f, unknown]\n", (double)op->call / 1e9);
    else
        fprintf(f, "   [%.6f, %.6f]\n", (double)op->call / 1e9, (double)op->ret / 1e9);
}

static int by_call(const void *pa, const void *pb)
{
    const struct lin_op *a = pa, *b = pb;

    return a->call < b->call ? -1 : a->call > b->call;
}

static void explain(const struct history *h, uint32_t key, struct lin_op *ops, size_t n,
                    uint64_t budget, FILE *why)
{
    n = lin_minimize(ops, n, LIN_ABSENT, budget);
    qsort(ops, n, sizeof *ops, by_call);
    fprintf(why, "key \"%s\": no order of these %zu operations explains the answers:\n",
            h->keys.e[key], n);
    for (size_t i = 0; i < n; i++)
        print_op(why, h, &ops[i]);
}

enum lin_verdict history_check(const struct history *h, uint64_t budget, FILE *why)
{
    enum lin_verdict all = LIN_OK;
    struct lin_op *ops = mem_alloc((h->n + 1) * sizeof *ops);

    for (uint32_t key = 0; key < h->keys.n && all != LIN_BAD; key++) {
        enum lin_verdict v;
        size_t n = 0;
        for (size_t i = 0; i < h->n; i++)
            if (h->e[i].key == key && counts(&h->e[i]))
                ops[n++] = h->e[i].op;
        v = lin_check(ops, n, LIN_ABSENT, budget);
        if (v == LIN_BAD && why)
            explain(h, key, ops, n, budget, why);
        if (v == LIN_UNDECIDED && why)
            fprintf(why, "key \"%s\": undecided (%zu operations)\n", h->keys.e[key], n);
        all = v > all || v == LIN_BAD ? v : all;
    }
    free(ops);
    return all;
}
