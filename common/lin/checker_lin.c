/* See checker_lin.h. Calls and returns are kept in one time-ordered linked list: "lifting" an
 * operation takes its two nodes out, backing out puts them back, both in constant time. */
#include "common/lin/checker_lin.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/mem.h"

struct node {
    struct node *next, *prev, *match; /* match: the return of a call; NULL for a return */
    size_t op;
};

/* Visited (set of operations taken, value): open addressing over 128-bit fingerprints. A false
 * match would need two equal fingerprints of different states: 2^-100 at the sizes in use. */
struct seen {
    uint64_t (*e)[2];
    size_t n, cap;
};

struct search {
    const struct lin_op *ops;
    size_t n;
    struct node *nodes;  /* 2n + 1, the first is the head */
    uint64_t (*keys)[2]; /* a random pair per operation: the fingerprint of a set is their xor */
    struct seen seen;
    uint32_t *before; /* the value before each operation taken */
    size_t depth;
    uint64_t print[2];
};

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void seen_grow(struct seen *s)
{
    struct seen old = *s;

    s->cap = old.cap ? old.cap * 2 : 1024;
    s->e = mem_zalloc(s->cap * sizeof *s->e);
    for (size_t i = 0; i < old.cap; i++) {
        size_t at;
        if (old.e[i][0] == 0)
            continue;
        for (at = old.e[i][0] & (s->cap - 1); s->e[at][0]; at = (at + 1) & (s->cap - 1))
            ;
        memcpy(s->e[at], old.e[i], sizeof old.e[i]);
    }
    free(old.e);
}

/* False if it was there already. */
static bool seen_add(struct seen *s, const uint64_t print[2], uint32_t value)
{
    uint64_t a = mix(print[0] ^ value) | 1, b = mix(print[1] + value);
    size_t at;

    if (s->n * 2 >= s->cap)
        seen_grow(s);
    for (at = a & (s->cap - 1); s->e[at][0]; at = (at + 1) & (s->cap - 1))
        if (s->e[at][0] == a && s->e[at][1] == b)
            return false;
    s->e[at][0] = a;
    s->e[at][1] = b;
    s->n++;
    return true;
}

/* The register's step: false if `op` could not have given its answer at this value. */
static bool step(const struct lin_op *op, uint32_t value, uint32_t *after)
{
    *after = value;
    switch (op->kind) {
    case LIN_PUT:
        *after = op->value;
        return true;
    case LIN_DEL:
        *after = LIN_ABSENT;
        return true;
    case LIN_GET:
        return op->value == value;
    case LIN_CAS:
        if (op->ret == LIN_FOREVER) {
            if (value == op->expected)
                *after = op->value;
            return true;
        }
        if (op->failed)
            return value != op->expected;
        *after = op->value;
        return value == op->expected;
    }
    return false;
}

static void lift(struct node *call)
{
    call->prev->next = call->next;
    if (call->next)
        call->next->prev = call->prev;
    call->match->prev->next = call->match->next;
    if (call->match->next)
        call->match->next->prev = call->match->prev;
}

static void unlift(struct node *call)
{
    call->match->prev->next = call->match;
    if (call->match->next)
        call->match->next->prev = call->match;
    call->prev->next = call;
    if (call->next)
        call->next->prev = call;
}

struct moment {
    uint64_t at;
    bool ret;
    size_t op;
};

/* Calls before returns at equal times: touching operations count as concurrent. */
static int moment_order(const void *pa, const void *pb)
{
    const struct moment *a = pa, *b = pb;

    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    if (a->ret != b->ret)
        return a->ret ? 1 : -1;
    return a->op < b->op ? -1 : a->op > b->op;
}

static void build(struct search *s)
{
    struct moment *m = mem_alloc((2 * s->n + 1) * sizeof *m);
    struct node **calls = mem_alloc((s->n + 1) * sizeof *calls);

    for (size_t i = 0; i < s->n; i++) {
        m[2 * i] = (struct moment){s->ops[i].call, false, i};
        m[2 * i + 1] = (struct moment){s->ops[i].ret, true, i};
    }
    qsort(m, 2 * s->n, sizeof *m, moment_order);
    s->nodes = mem_zalloc((2 * s->n + 1) * sizeof *s->nodes);
    for (size_t i = 0; i < 2 * s->n; i++) {
        struct node *x = &s->nodes[i + 1];
        x->op = m[i].op;
        x->prev = &s->nodes[i];
        s->nodes[i].next = x;
        if (m[i].ret)
            calls[m[i].op]->match = x;
        else
            calls[m[i].op] = x;
    }
    free(m);
    free(calls);
    s->keys = mem_alloc((s->n + 1) * sizeof *s->keys);
    for (size_t i = 0; i < s->n; i++) {
        s->keys[i][0] = mix(2 * i + 1);
        s->keys[i][1] = mix(mix(2 * i + 2));
    }
    s->before = mem_alloc((s->n + 1) * sizeof *s->before);
}

static void flip(struct search *s, size_t op)
{
    s->print[0] ^= s->keys[op][0];
    s->print[1] ^= s->keys[op][1];
}

static enum lin_verdict run(struct search *s, uint32_t value, uint64_t budget)
{
    struct node *head = &s->nodes[0], *x = head->next;
    struct node **taken = mem_alloc((s->n + 1) * sizeof(struct node *));
    enum lin_verdict verdict = LIN_OK;
    size_t open = 0; /* operations of known outcome that are not taken yet */

    for (size_t i = 0; i < s->n; i++)
        open += s->ops[i].ret != LIN_FOREVER;
    while (open > 0) {
        uint32_t after;
        if (budget-- == 0) {
            verdict = LIN_UNDECIDED;
            break;
        }
        if (x && x->match) {
            if (step(&s->ops[x->op], value, &after)) {
                flip(s, x->op);
                if (seen_add(&s->seen, s->print, after)) {
                    taken[s->depth] = x;
                    s->before[s->depth++] = value;
                    value = after;
                    open -= s->ops[x->op].ret != LIN_FOREVER;
                    lift(x);
                    x = head->next;
                    continue;
                }
                flip(s, x->op);
            }
            x = x->next;
            continue;
        }
        /* A return: its operation had to come before. Back out. */
        if (s->depth == 0) {
            verdict = LIN_BAD;
            break;
        }
        x = taken[--s->depth];
        value = s->before[s->depth];
        open += s->ops[x->op].ret != LIN_FOREVER;
        flip(s, x->op);
        unlift(x);
        x = x->next;
    }
    free(taken);
    return verdict;
}

/* Writes of unknown outcome whose value nobody has seen change nothing that was observed (values
 * are unique to a write in our histories), unless an answer said "the condition does not hold". */
static size_t drop_unseen(struct lin_op *ops, size_t n)
{
    size_t kept = 0;

    for (size_t i = 0; i < n; i++)
        if (ops[i].kind == LIN_CAS && ops[i].failed)
            return n;
    for (size_t i = 0; i < n; i++) {
        struct lin_op op = ops[i];
        bool needed = op.ret != LIN_FOREVER || (op.kind != LIN_PUT && op.kind != LIN_CAS);
        for (size_t k = 0; k < n && !needed; k++)
            needed = k != i && (ops[k].kind == LIN_CAS
                                    ? ops[k].expected == op.value || ops[k].value == op.value
                                    : ops[k].kind != LIN_DEL && ops[k].value == op.value);
        /* Kept ones move to the front, dropped ones to the back: nothing is lost. */
        if (needed) {
            ops[i] = ops[kept];
            ops[kept++] = op;
        }
    }
    return kept;
}

enum lin_verdict lin_check(struct lin_op *ops, size_t n, uint32_t first, uint64_t budget)
{
    struct search s = {.ops = ops};
    enum lin_verdict verdict;

    s.n = drop_unseen(ops, n);
    build(&s);
    verdict = run(&s, first, budget);
    free(s.nodes);
    free(s.keys);
    free(s.seen.e);
    free(s.before);
    return verdict;
}

/* ---- explanation ---- */

static int by_ret(const void *pa, const void *pb)
{
    const struct lin_op *a = pa, *b = pb;

    return a->ret < b->ret ? -1 : a->ret > b->ret;
}

static bool refers(const struct lin_op *op, uint32_t value)
{
    return op->kind != LIN_DEL &&
           (op->value == value || (op->kind == LIN_CAS && op->expected == value));
}

/* The history as it was known at time t: later calls unborn, later returns unknown. */
static size_t cut_at(const struct lin_op *ops, size_t n, uint64_t t, struct lin_op *out)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        if (ops[i].call > t || (ops[i].ret > t && ops[i].kind == LIN_GET))
            continue;
        out[m] = ops[i];
        if (out[m].ret > t) {
            out[m].ret = LIN_FOREVER;
            out[m].failed = false;
        }
        m++;
    }
    return m;
}

static bool bad(const struct lin_op *ops, size_t n, uint32_t first, uint64_t budget)
{
    struct lin_op *copy = mem_dup(ops, (n + 1) * sizeof *ops);
    bool is = lin_check(copy, n, first, budget) == LIN_BAD;

    free(copy);
    return is;
}

size_t lin_minimize(struct lin_op *ops, size_t n, uint32_t first, uint64_t budget)
{
    struct lin_op *all = mem_alloc((n + 1) * sizeof *all), *cut = mem_zalloc((n + 1) * sizeof *cut);
    size_t low = 0, high = n, m;

    memcpy(all, ops, n * sizeof *all);
    qsort(all, n, sizeof *all, by_ret);
    while (high > 0 && all[high - 1].ret == LIN_FOREVER)
        high--;
    while (low + 1 < high) { /* the first return with which it fails lies in [low, high) */
        size_t mid = (low + high) / 2 - 1;
        m = cut_at(all, n, all[mid].ret, cut);
        if (bad(cut, m, first, budget))
            high = mid + 1;
        else
            low = mid + 1;
    }
    m = high > 0 ? cut_at(all, n, all[high - 1].ret, cut) : 0;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = m; i-- > 0;) {
            struct lin_op op = cut[i];
            bool seen = false;
            for (size_t k = 0; k < m && op.kind != LIN_GET; k++)
                seen = seen || (k != i && refers(&cut[k], op.value)) || op.kind == LIN_DEL;
            if (seen)
                continue;
            memmove(cut + i, cut + i + 1, (m - i - 1) * sizeof *cut);
            if (bad(cut, m - 1, first, budget)) {
                m--;
                changed = true;
            } else {
                memmove(cut + i + 1, cut + i, (m - i - 1) * sizeof *cut);
                cut[i] = op;
            }
        }
    }
    memcpy(ops, cut, m * sizeof *ops);
    free(all);
    free(cut);
    return m;
}
