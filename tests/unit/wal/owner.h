/* Plays the WAL's owner in tests: appends records whose contents follow from their index, remembers
 * what was acknowledged, and checks what comes back. Works on any io.
 *
 * Rules checked at every open: what is replayed is a run of consecutive indexes, each record
 * exactly as it was appended, that begins no later than the oldest needed one and ends between the
 * last acknowledged and the last appended one; the last state replayed is at least the last
 * acknowledged. */
#ifndef TESTS_UNIT_WAL_OWNER_H
#define TESTS_UNIT_WAL_OWNER_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "common/io/io.h"
#include "common/wal/wal.h"

enum { OWNER_RECORDS = 1 << 16 };

struct owner {
    struct io *io;
    struct wal *wal;
    const char *dir;
    uint64_t segment_size;
    uint64_t window; /* so many of the newest entries are needed; 0: all */
    size_t max_payload;
    uint64_t appended, acked;    /* indexes of entries */
    uint64_t first, replayed;    /* in the last open */
    uint64_t lsn[OWNER_RECORDS]; /* of entry i */
    uint64_t state, state_lsn, state_acked, state_replayed;
    uint64_t durable;
    bool any_lsn; /* do not check where records stand */
    unsigned fatals, rotations;
    enum err fatal_why;
    char msg[1024];
    const char *wrong; /* what a replay found wrong */
};

static size_t owner_size(const struct owner *o, uint64_t index)
{
    struct rng r;
    rng_seed(&r, index * 77 + 1);
    uint64_t pick = rng_below(&r, 10);
    if (pick == 0)
        return 0;
    return (size_t)rng_below(&r, pick < 7 ? 200 : o->max_payload) + (index % 97 == 0 ? 0 : 1);
}

static void owner_fill(uint64_t index, uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(index * 31 + i * 7 + (i >> 8));
}

static bool owner_matches(const struct owner *o, uint64_t index, const struct wal_record *r,
                          struct slice payload)
{
    size_t n = owner_size(o, index);
    uint8_t *p = mem_alloc(n + 1);
    owner_fill(index, p, n);
    bool good = r->type == WAL_ENTRY && r->group == index % 5 && r->term == index / 10 + 1 &&
                r->index == index && r->kind == index % 3 && slice_eq(payload, slice_of(p, n));
    free(p);
    return good;
}

static void owner_replay(void *arg, const struct wal_record *r, struct slice payload, uint64_t lsn)
{
    struct owner *o = arg;
    if (r->type == WAL_STATE) {
        o->state_replayed = r->index;
        return;
    }
    if (o->first == 0)
        o->first = r->index;
    else if (r->index != o->replayed + 1)
        o->wrong = "indexes are not consecutive";
    if (!owner_matches(o, r->index, r, payload))
        o->wrong = "a record is not what was appended";
    if (o->any_lsn && r->index < OWNER_RECORDS)
        o->lsn[r->index] = lsn;
    if (r->index < OWNER_RECORDS && o->lsn[r->index] != lsn)
        o->wrong = "a record has another lsn than when it was appended";
    o->replayed = r->index;
}

static void owner_on_durable(void *arg, uint64_t lsn)
{
    struct owner *o = arg;
    CHECK(lsn >= o->durable && o->fatals == 0);
    o->durable = lsn;
    while (o->acked < o->appended && o->lsn[o->acked + 1] < lsn)
        o->acked++;
    if (o->state_lsn && o->state_lsn < lsn)
        o->state_acked = o->state;
}

static void owner_state(struct owner *o)
{
    struct wal_record r = {.group = 1, .type = WAL_STATE, .index = ++o->state};
    wal_append(o->wal, &r, slice_of("state", 5), &o->state_lsn);
}

static void owner_on_rotate(void *arg)
{
    struct owner *o = arg;
    o->rotations++;
    owner_state(o);
}

/* First entry still needed. */
static uint64_t owner_needed(const struct owner *o)
{
    return o->window && o->acked > o->window ? o->acked - o->window : 1;
}

static uint64_t owner_oldest_needed(void *arg)
{
    struct owner *o = arg;
    uint64_t index = owner_needed(o);
    if (index < o->first) /* not there any more */
        index = o->first;
    return index <= o->appended && index > 0 ? o->lsn[index] : UINT64_MAX;
}

static void owner_on_fatal(void *arg, enum err why, const char *text)
{
    struct owner *o = arg;
    CHECK(text[0]);
    o->fatals++;
    o->fatal_why = why;
}

static enum err owner_try_open(struct owner *o)
{
    struct wal_options w = {
        .io = o->io,
        .dir = o->dir,
        .segment_size = o->segment_size,
        .arg = o,
        .on_durable = owner_on_durable,
        .on_rotate = owner_on_rotate,
        .oldest_needed = owner_oldest_needed,
        .on_fatal = owner_on_fatal,
    };
    if (!o->max_payload)
        o->max_payload = 9000;
    o->first = o->replayed = o->state_replayed = 0;
    o->wrong = NULL;
    o->fatals = 0;
    o->wal = NULL;
    return wal_open(&w, owner_replay, o, &o->wal, o->msg, sizeof o->msg);
}

/* NULL: what was replayed is right; the owner goes on from there. */
static const char *owner_judge(struct owner *o)
{
    if (o->wrong)
        return o->wrong;
    if (o->replayed < o->acked)
        return "an acknowledged record is gone";
    if (o->replayed > o->appended)
        return "a record that was never appended";
    if (o->first > owner_needed(o))
        return "records still needed are gone";
    if (o->state_replayed < o->state_acked)
        return "an acknowledged state is gone";
    o->appended = o->acked = o->replayed; /* what was replayed counts as acknowledged */
    o->state_acked = o->state_replayed;
    o->state_lsn = 0;
    o->durable = 0;
    if (!o->first)
        o->first = 1;
    return NULL;
}

static void owner_open(struct owner *o)
{
    enum err e = owner_try_open(o);
    ck_assert_msg(e == ERR_OK, "open: %s: %s", err_name(e), o->msg);
    const char *wrong = owner_judge(o);
    ck_assert_msg(!wrong, "%s (first %llu replayed %llu acked %llu appended %llu)", wrong,
                  (unsigned long long)o->first, (unsigned long long)o->replayed,
                  (unsigned long long)o->acked, (unsigned long long)o->appended);
}

static void owner_append(struct owner *o)
{
    uint64_t i = ++o->appended;
    CHECK(i < OWNER_RECORDS);
    struct wal_record r = {.group = i % 5,
                           .index = i,
                           .term = i / 10 + 1,
                           .type = WAL_ENTRY,
                           .kind = (uint8_t)(i % 3)};
    size_t n = owner_size(o, i);
    uint8_t *p = mem_alloc(n + 1);
    owner_fill(i, p, n);
    wal_append(o->wal, &r, slice_of(p, n), &o->lsn[i]);
    free(p);
}

#endif
