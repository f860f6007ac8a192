/* The log of one group as this node holds it: metadata of every entry, payloads of recent ones.
 *
 * Appended entries go to the shared WAL at once and stay in memory while the pool (one per set) is
 * within its budget. The oldest durable payloads are evicted first and read back from the WAL by
 * lsn, asynchronously, in batches. Payloads of configuration entries are never evicted.
 *
 * Term and vote live here as well, as do the rules of recovery: an entry replaces everything at or
 * above its index; a state record with LOG_CUT drops all entries before it.
 *
 * Within a log lsns grow with the index, so "durable up to lsn" means a prefix of the log.
 *
 * Owner: struct group_set; borrowed by struct group while it runs.  Thread: one core.
 * Depends on: wal. */
#ifndef RAFT_GROUP_LOG_H
#define RAFT_GROUP_LOG_H

#include "common/base/list.h"
#include "common/base/slice.h"
#include "common/wal/wal.h"

#define LOG_LOADS 32u       /* read-backs of one group at a time */
#define LOG_POOL_READS 128u /* of all groups */

struct log_block; /* a payload in memory */

struct log_pool {
    struct list fifo; /* log_block, oldest first */
    uint64_t bytes, budget;
    uint64_t reads;    /* read-backs started, for the statistics */
    unsigned flying;   /* read-backs under way */
    unsigned locked;   /* eviction is put off: payloads are borrowed */
    struct list loads; /* batches under way */
};

struct log_entry {
    uint64_t term, lsn;
    struct log_block *block; /* NULL: only in the WAL */
    uint32_t n;
    uint8_t kind; /* libraft's entry type */
};

struct log_load;

struct group_log {
    struct log_pool *pool;
    struct wal *wal; /* NULL during recovery */
    uint64_t group;
    bool exists;  /* the WAL holds something of it */
    bool damaged; /* recovery found records that cannot be */
    uint64_t term, vote;
    uint64_t state_lsn;        /* of the last record with term and vote written in this run, or 0 */
    uint64_t base, base_term;  /* the position before the first entry; term 0: unknown */
    uint64_t stable;           /* applied to a durable engine up to here: preferred for eviction */
    struct log_entry *entries; /* of base + 1 ... base + n, at entries[start] */
    size_t start, n, cap;
    struct log_load *loads; /* the batch under way, or NULL */
    void (*on_loaded)(void *arg, enum err result, uint64_t index);
    void *arg;
};

void log_pool_init(struct log_pool *p, uint64_t budget);
void log_pool_close(struct log_pool *p); /* the WAL is closed, all logs are */
/* Frees payloads until the pool is within its budget, if it can. `durable`: what the WAL has. */
void log_pool_evict(struct log_pool *p, uint64_t durable);

void group_log_init(struct group_log *l, struct log_pool *pool, uint64_t group);
/* Batches under way are forgotten: freed when the WAL answers, or with the pool. */
void group_log_close(struct group_log *l);
/* The batch under way will not be reported. */
void group_log_forget_loads(struct group_log *l);

/* Recovery: one record in lsn order. */
void group_log_replay(struct group_log *l, const struct wal_record *r, struct slice payload,
                      uint64_t lsn);

static inline uint64_t group_log_first(const struct group_log *l)
{
    return l->base + 1;
}
static inline uint64_t group_log_last(const struct group_log *l)
{
    return l->base + l->n;
}
/* NULL if it is not there. */
const struct log_entry *group_log_find(const struct group_log *l, uint64_t index);
/* 0 if unknown. */
uint64_t group_log_term_of(const struct group_log *l, uint64_t index);
/* False if it is only in the WAL. */
bool group_log_payload(const struct group_log *l, uint64_t index, struct slice *out);
/* The last index whose record is durable, at least base. */
uint64_t group_log_durable(const struct group_log *l, uint64_t durable_lsn);

/* Appends at last + 1: to the WAL and to memory. */
void group_log_append(struct group_log *l, uint64_t term, uint8_t kind, struct slice payload);
/* Forgets everything at or above `index`; the WAL learns by the next append, which must follow. */
void group_log_truncate(struct group_log *l, uint64_t index);
/* Forgets everything up to `index`, in memory only: recovery may find it again. */
void group_log_drop(struct group_log *l, uint64_t index);
/* Writes term and vote; the lsn of the record. */
uint64_t group_log_save(struct group_log *l);
/* Drops all entries for good: the log goes on at base + 1. Writes term and vote too. */
uint64_t group_log_cut(struct group_log *l, uint64_t base, uint64_t base_term);

/* Starts reading the missing payloads of [from, to] back, at most LOG_LOADS of them; on_loaded
 * comes once when the whole batch is in memory (or with the failure and index of one). One batch at
 * a time: a call meanwhile does nothing. False if nothing could be started for want of room. */
bool group_log_load(struct group_log *l, uint64_t from, uint64_t to);

#endif
