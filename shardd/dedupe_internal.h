/* What the files of dedupe share: its table in memory, which dedupe.c keeps and dedupe_rows.c
 * writes and reads.
 *
 * Owner: dedupe.c.  Thread: as in dedupe.h.  Depends on: dedupe. */
#ifndef SHARDD_DEDUPE_INTERNAL_H
#define SHARDD_DEDUPE_INTERNAL_H

#include "common/base/limits.h"
#include "shardd/dedupe.h"

#define CACHE_LINE 64u
#define SESSION_LINES 4u
#define DEDUPE_INSIDE 5u        /* results in the session itself */
#define DEDUPE_HAS_NUMBER 0x80u /* with the error, in a row */
#define DEDUPE_CLEAN UINT32_MAX /* its row is as it is */
/* ms since 1970, in the year 2248: this or later, unknown */
#define DEDUPE_UNTIL_MAX ((1ull << 43) - 1)

struct dedupe_kept {
    uint64_t seq, version;
    int64_t number;
    uint64_t until_ms : 43, slot : 14, err : 7;
};
_Static_assert(LIMIT_SLOTS <= 1u << 14 && DEDUPE_HAS_NUMBER <= 1u << 7, "bits of a result");

/* A few cache lines, with the results of a client that does not have many writes under way: what a
 * write costs here is waiting for memory. */
struct dedupe_session {
    struct dedupe_session *next; /* in its bucket */
    uint8_t sid[COMMAND_SESSION_ID];
    uint64_t floor;     /* what is below is not kept */
    uint64_t until_max; /* of all its writes; past it the session is as if it had never been */
    /* Ascending by seq, from `first` on: they go at the front and come at the end. */
    struct dedupe_kept *kept; /* `inside`, or memory of its own */
    uint16_t first, n, cap;
    uint32_t changed_at; /* where it stands in dedupe.changed, or DEDUPE_CLEAN */
    struct dedupe_kept inside[DEDUPE_INSIDE];
};
_Static_assert(sizeof(struct dedupe_session) <= SESSION_LINES * CACHE_LINE, "see above");
/* While a row is loaded there may be twice as many, in room for twice that. */
_Static_assert(4 * LIMIT_SESSION_RESULTS <= UINT16_MAX, "counts of a session");

struct dedupe {
    struct dedupe_session **bucket;
    uint32_t n_buckets, n_sessions, n_results;
    uint32_t swept;
    uint64_t swept_ms;
    struct dedupe_session *last;     /* found last */
    struct dedupe_session **changed; /* since their rows were written */
    uint32_t n_changed, changed_cap;
    struct buf row;
};

/* Finds the session, or makes it. */
struct dedupe_session *dedupe_get(struct dedupe *d, const uint8_t *sid);

static inline struct dedupe_kept *dedupe_first(const struct dedupe_session *s)
{
    return s->kept + s->first;
}

void dedupe_set_kept(struct dedupe_kept *k, uint64_t until_ms, uint16_t slot, unsigned err);
/* Once there, a result stays as it is. */
void dedupe_insert(struct dedupe *d, struct dedupe_session *s, const struct dedupe_kept *new);
void dedupe_raise_floor(struct dedupe *d, struct dedupe_session *s, uint64_t floor);
/* Drops the oldest results beyond LIMIT_SESSION_RESULTS. */
void dedupe_bound(struct dedupe *d, struct dedupe_session *s, uint64_t time_ms);

typedef bool (*dedupe_kept_fn)(const struct dedupe_kept *k, const void *arg);
/* Keeps those for which `stays` is true. */
void dedupe_filter(struct dedupe *d, struct dedupe_session *s, dedupe_kept_fn stays,
                   const void *arg);
/* Not past its time; `arg`: that time, an uint64_t. */
bool dedupe_current(const struct dedupe_kept *k, const void *arg);

/* Takes it off the list of those whose rows are to be written. */
void dedupe_set_clean(struct dedupe *d, struct dedupe_session *s);

#endif
