/* What the files of this room share. Nothing outside common/wal includes it.
 *
 * Segments. `segments` lists them by number: older ones, the one being written (`writing`), and
 * those to come. A segment to come is only a number and a salt at first (`file` is NULL): records
 * get their lsn and checksum when they are appended, before the file is there. Commits wait until
 * it is. `ready` is how far the file is zero-written and synced: nothing is written beyond it.
 *
 * Commits. Records are copied straight into the aligned buffer that will be written. `fill` takes
 * records; when full, or when it is its turn, it is sealed into `sealed`; the first of those gets
 * its header and is written (`flight`). Usually two buffers take turns.
 *
 * The last block of a segment is kept free of records for a mark: on closing, and when the disk is
 * full and only a newer `oldest` made durable allows an old segment to be used again.
 *
 * Jobs. One piece of blocking work at a time runs on the offload threads: preparing a segment,
 * zero-writing it further, putting an old one aside. wal_maintain() decides which is next.
 *
 * Thread: the core's, but for the run functions of jobs, which touch struct job alone. */
#ifndef WAL_WAL_INTERNAL_H
#define WAL_WAL_INTERNAL_H

#include "common/base/list.h"
#include "common/io/fs.h"
#include "common/wal/wal_format.h"

enum {
    WAL_PATH_MAX = 4096,
    WAL_BUFFERS_KEPT = 2, /* free commit buffers kept for reuse */
};

/* Zero-written when a segment is made, before it is used: quick enough for the start of a cluster.
 */
#define WAL_FIRST_STEP (1 * MIB)
/* Zero-written further by one job. */
#define WAL_STEP (8 * MIB)
/* A log that is hardly written to is kept this far zero-written ahead, not more. */
#define WAL_AHEAD_IDLE (8 * MIB)
/* On a small disk segments are smaller: this part of it, but not below the size that any entry fits
 * into. */
#define WAL_SEGMENTS_OF_DISK 128u
#define WAL_SEGMENT_SMALL (16 * MIB)
#define WAL_RETRY_NS (200 * NS_PER_MS) /* after a full disk */

struct wal_segment {
    struct list link;
    uint64_t number, salt;
    uint32_t seed;
    struct fs_file *file; /* NULL: not prepared yet */
    uint64_t ready;       /* zero-written and synced from the start: the file's size */
    uint64_t end;         /* of the last durable commit */
    uint64_t states_end;  /* lsn where every group's state ends that begins here; 0: none does */
    unsigned reads;       /* in flight: must not be recycled */
};

struct wal_commit {
    struct list link;
    struct wal_segment *segment;
    uint8_t *p; /* aligned; wal->buffer_size bytes */
    uint64_t offset;
    uint64_t used, limit; /* bytes with header; no more records beyond limit */
    uint64_t padded;      /* set when sealed */
    uint64_t oldest;      /* set when written */
    uint64_t started;     /* ns, when written */
    uint32_t count, records_crc;
};

enum job_kind { JOB_PREPARE, JOB_GROW, JOB_TO_SPARE, JOB_REMOVE, JOB_REMOVE_SPARE };

struct job {
    struct io_work work;
    bool running;
    enum job_kind kind;
    struct wal_segment *segment; /* PREPARE, GROW: of the list; else owned by the job or NULL */
    uint64_t spare;              /* PREPARE: number of the spare file used, 0: none */
    /* for run() */
    char dir[WAL_PATH_MAX], from[WAL_PATH_MAX + WAL_NAME_MAX], to[WAL_PATH_MAX + WAL_NAME_MAX];
    struct fs_file *file;
    uint64_t begin, end; /* to be zero-written */
    uint8_t *header;     /* aligned block */
    enum err result;
    bool no_space; /* the disk was full before anything was synced: may be tried again */
    char text[256];
};

struct wal {
    struct wal_options o;
    char dir[WAL_PATH_MAX];
    uint64_t size, log; /* of segments; the log's id */
    uint64_t limit;     /* records lie below this offset; a block for a mark follows */
    uint64_t buffer_size, soft_limit, record_max;

    struct list segments;        /* struct wal_segment */
    struct wal_segment *writing; /* the one the next commit to be written belongs to, or earlier */
    struct wal_segment *filling; /* the one `fill` (or the next fill) belongs to */
    uint64_t offset;             /* where the next fill begins in `filling` */
    uint64_t *spares;            /* numbers of spare files */
    unsigned spare_count;

    struct wal_commit *fill, *flight;
    struct list sealed, free; /* struct wal_commit */
    unsigned free_count;
    uint64_t backlog;
    uint64_t sequence; /* of the next commit written */
    uint64_t durable;
    bool flush_wanted; /* `fill` is to be written as soon as possible */
    struct io_op write;
    struct io_timer next; /* starts what was flushed during a write if nobody flushes again */

    /* recycling */
    bool in_rotate, states_due;
    uint64_t states_segment; /* every group's state is durable in this segment or later; 0: none */
    bool oldest_due;         /* ask oldest_needed() again */
    uint64_t oldest_asked;   /* durable lsn when it was asked last */
    uint64_t oldest;         /* goes into commits */
    uint64_t oldest_durable; /* stands in a durable commit: segments below may go */
    struct job job;
    struct io_timer retry;
    bool starved; /* no segment for want of disk space */
    bool tight;   /* wal_set_tight() */

    struct list reads; /* struct read */
    bool failed;
    struct wal_stats stats;
};

static inline struct wal_segment *wal_segment_of(struct list *link)
{
    return (struct wal_segment *)(void *)((char *)link - offsetof(struct wal_segment, link));
}

/* wal.c */
void wal_fail(struct wal *w, enum err why, const char *text);
void wal_start(struct wal *w); /* writes the next commit if that can be done now */
/* Asks the owner what is still needed, when there is reason to. */
void wal_review_oldest(struct wal *w);
/* Commits wait for a segment: makes a newer `oldest` durable by a mark, if there is one. */
void wal_publish_oldest(struct wal *w);
void wal_on_next(struct io_timer *t);
void wal_commits_free(struct wal *w); /* at close: all buffers */

/* wal_segment.c */
struct wal_segment *wal_segment_create(struct wal *w, uint64_t number);
void wal_segment_destroy(struct wal_segment *s);
struct wal_segment *wal_segment_next(struct wal *w, struct wal_segment *s); /* NULL: none */
void wal_segment_block(const struct wal *w, const struct wal_segment *s, uint8_t out[WAL_BLOCK]);
/* Starts the most needed job, if any and none is running. */
void wal_maintain(struct wal *w);
void wal_job_drop(struct wal *w); /* at close: what a job owns whose io is gone */
/* Blocking, any thread: zeros from begin to end, not synced. */
MUST_USE enum err wal_write_zeros(struct fs_file *f, uint64_t begin, uint64_t end);
void wal_path(const char *dir, enum wal_name kind, uint64_t number,
              char out[WAL_PATH_MAX + WAL_NAME_MAX]);
void wal_spare_add(struct wal *w, uint64_t number);

/* wal_read.c */
void wal_reads_drop(struct wal *w); /* at close: forgets reads whose io is gone */

#endif
