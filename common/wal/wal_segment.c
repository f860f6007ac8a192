/* Segment files: made by really writing zeros, used again by renaming.
 *
 * A write into blocks that were only allocated (fallocate), or into a hole, changes the file's
 * metadata, and its fdatasync has to commit the file system's journal: 2-3 times as slow. So a file
 * is written full of zeros once; afterwards commits overwrite blocks in place.
 *
 * New file:  new-N.tmp: header and first zeros written, synced -> renamed to wal-N.log, directory
 *            synced. It is then usable up to `ready` and zero-written further in steps, the one in
 *            use ahead of the commits.
 * Old file:  wal-M.log -> spare-M.log, directory synced. To use it: new header written and synced
 *            while it is still a spare, then renamed to wal-N.log, directory synced. So a wal-*.log
 *            always has its own header, whenever the power goes.
 *
 * Segments are given up strictly from the oldest on, one after the other, each made durable, so
 * that a record that revokes earlier ones (WAL_DROP) never goes before those. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/wal/wal_internal.h"

enum { ZEROS = 1 << 20 };
static _Alignas(WAL_BLOCK) uint8_t zeros[ZEROS]; /* never written */

void wal_path(const char *dir, enum wal_name kind, uint64_t number,
              char out[WAL_PATH_MAX + WAL_NAME_MAX])
{
    char name[WAL_NAME_MAX];
    wal_name_format(kind, number, name);
    snprintf(out, WAL_PATH_MAX + WAL_NAME_MAX, "%s/%s", dir, name);
}

enum err wal_write_zeros(struct fs_file *f, uint64_t begin, uint64_t end)
{
    while (begin < end) {
        uint64_t n = end - begin < ZEROS ? end - begin : ZEROS;
        enum err e = fs_write(f, zeros, n, begin);
        if (e != ERR_OK)
            return e;
        begin += n;
    }
    return ERR_OK;
}

/* ---- the list ---- */

struct wal_segment *wal_segment_create(struct wal *w, uint64_t number)
{
    struct wal_segment *s = mem_zalloc(sizeof *s);
    s->number = number;
    s->salt = io_random(w->o.io);
    struct wal_segment_header h = {number, w->size, w->log, s->salt};
    s->seed = wal_segment_seed(&h);
    s->end = WAL_BLOCK;
    list_push_back(&w->segments, &s->link);
    return s;
}

void wal_segment_destroy(struct wal_segment *s)
{
    list_remove(&s->link);
    fs_close(s->file);
    free(s);
}

struct wal_segment *wal_segment_next(struct wal *w, struct wal_segment *s)
{
    return s->link.next == &w->segments ? NULL : wal_segment_of(s->link.next);
}

void wal_segment_block(const struct wal *w, const struct wal_segment *s, uint8_t out[WAL_BLOCK])
{
    struct wal_segment_header h = {s->number, w->size, w->log, s->salt};
    wal_segment_header_encode(&h, out);
}

void wal_spare_add(struct wal *w, uint64_t number)
{
    w->spares = mem_realloc(w->spares, (w->spare_count + 1) * sizeof *w->spares);
    w->spares[w->spare_count++] = number;
}

/* ---- on the offload threads ---- */

static enum err prepare_spare(struct job *j)
{
    enum err e = fs_open(j->from, FS_READ | FS_WRITE | FS_DIRECT, &j->file);
    if (e == ERR_OK)
        e = fs_write(j->file, j->header, WAL_BLOCK, 0);
    if (e == ERR_OK)
        e = fs_sync(j->file);
    return e;
}

static enum err prepare_new(struct job *j)
{
    unsigned flags = FS_READ | FS_WRITE | FS_CREATE | FS_TRUNCATE | FS_DIRECT;
    enum err e = fs_open(j->from, flags, &j->file);
    if (e == ERR_OK)
        e = fs_write(j->file, j->header, WAL_BLOCK, 0);
    if (e == ERR_OK)
        e = wal_write_zeros(j->file, j->begin, j->end);
    j->no_space = e == ERR_NO_SPACE;
    return e == ERR_OK ? fs_sync(j->file) : e;
}

static enum err run_prepare(struct job *j)
{
    enum err e = j->spare ? prepare_spare(j) : prepare_new(j);
    if (e == ERR_OK)
        e = fs_rename(j->from, j->to);
    if (e == ERR_OK)
        e = fs_sync_dir(j->dir);
    return e;
}

static enum err run_grow(struct job *j)
{
    enum err e = wal_write_zeros(j->file, j->begin, j->end);
    j->no_space = e == ERR_NO_SPACE;
    return e == ERR_OK ? fs_sync(j->file) : e;
}

static void run(struct io_work *work)
{
    struct job *j = CONTAINER_OF(work, struct job, work);
    enum err e = ERR_INTERNAL;
    switch (j->kind) {
    case JOB_PREPARE:
        e = run_prepare(j);
        break;
    case JOB_GROW:
        e = run_grow(j);
        break;
    case JOB_TO_SPARE:
        fs_close(j->file);
        j->file = NULL;
        e = fs_rename(j->from, j->to);
        break;
    case JOB_REMOVE:
    case JOB_REMOVE_SPARE:
        fs_close(j->file);
        j->file = NULL;
        e = fs_unlink(j->from);
        break;
    }
    if (e == ERR_OK && j->kind != JOB_PREPARE && j->kind != JOB_GROW)
        e = fs_sync_dir(j->dir);
    j->result = e;
    if (e == ERR_OK)
        return;
    snprintf(j->text, sizeof j->text, "%.200s: %s", j->from, fs_last_error());
    if (j->kind == JOB_PREPARE) {
        fs_close(j->file);
        j->file = NULL;
        if (!j->spare && fs_unlink(j->from) != ERR_OK) {
            /* left over: removed when the log is opened next */
        }
    }
}

/* ---- on the loop ---- */

static void on_retry(struct io_timer *t)
{
    struct wal *w = CONTAINER_OF(t, struct wal, retry);
    if (w->failed)
        return;
    w->oldest_due = true;
    wal_review_oldest(w);
    if (!list_empty(&w->sealed))
        wal_publish_oldest(w);
    wal_maintain(w);
}

static void on_job_failed(struct wal *w, struct job *j)
{
    if (!j->no_space) {
        wal_fail(w, j->result, j->text);
        return;
    }
    /* Nothing was lost: what is there stays usable, and recycling or the operator may make room. */
    w->starved = true;
    w->retry.fn = on_retry;
    io_timer_set(w->o.io, &w->retry, io_now(w->o.io) + WAL_RETRY_NS);
}

static void on_job_done(struct io_work *work)
{
    struct job *j = CONTAINER_OF(work, struct job, work);
    struct wal *w = CONTAINER_OF(j, struct wal, job);
    j->running = false;
    bool makes = j->kind == JOB_PREPARE || j->kind == JOB_GROW;
    if (makes && j->result == ERR_OK) {
        j->segment->file = j->file;
        j->segment->ready = j->end;
        w->starved = false;
    } else if (!makes) {
        if (j->result == ERR_OK && j->kind == JOB_TO_SPARE)
            wal_spare_add(w, j->segment->number);
        free(j->segment);
    }
    if (j->result != ERR_OK)
        on_job_failed(w, j);
    if (w->failed)
        return;
    wal_start(w);
    wal_maintain(w); /* nothing while a retry is set */
}

void wal_job_drop(struct wal *w)
{
    struct job *j = &w->job;
    if (!j->running)
        return;
    if (j->kind != JOB_GROW)
        fs_close(j->file);
    if (j->kind != JOB_GROW && j->kind != JOB_PREPARE)
        free(j->segment);
}

static void start(struct wal *w, enum job_kind kind, struct wal_segment *s)
{
    struct job *j = &w->job;
    CHECK(!j->running);
    j->running = true;
    j->kind = kind;
    j->segment = s;
    j->result = ERR_OK;
    j->no_space = false;
    j->work.run = run;
    j->work.done = on_job_done;
    j->work.class = IO_WORK_URGENT; /* all groups of the core may come to wait for it */
    io_offload(w->o.io, &j->work);
}

static void start_prepare(struct wal *w, struct wal_segment *s)
{
    struct job *j = &w->job;
    j->file = NULL;
    j->spare = w->spare_count ? w->spares[--w->spare_count] : 0;
    j->begin = WAL_BLOCK;
    if (j->spare) {
        j->end = w->size;
        wal_path(w->dir, WAL_NAME_SPARE, j->spare, j->from);
    } else {
        j->end = w->size < WAL_FIRST_STEP ? w->size : WAL_FIRST_STEP;
        wal_path(w->dir, WAL_NAME_NEW, s->number, j->from);
    }
    wal_path(w->dir, WAL_NAME_SEGMENT, s->number, j->to);
    wal_segment_block(w, s, j->header);
    start(w, JOB_PREPARE, s);
}

static void start_grow(struct wal *w, struct wal_segment *s)
{
    struct job *j = &w->job;
    j->file = s->file;
    wal_path(w->dir, WAL_NAME_SEGMENT, s->number, j->from);
    j->begin = s->ready;
    j->end = w->size - j->begin < WAL_STEP ? w->size : j->begin + WAL_STEP;
    start(w, JOB_GROW, s);
}

/* Puts the oldest segment aside if it is not needed any more; true if a job was started. */
static bool start_recycle(struct wal *w)
{
    struct wal_segment *s = wal_segment_of(list_first(&w->segments));
    if (s->number >= w->oldest_durable || s == w->writing || s->reads > 0)
        return false;
    struct job *j = &w->job;
    list_remove(&s->link);
    j->file = s->file;
    s->file = NULL;
    wal_path(w->dir, WAL_NAME_SEGMENT, s->number, j->from);
    wal_path(w->dir, WAL_NAME_SPARE, s->number, j->to);
    struct wal_segment *next = wal_segment_next(w, w->writing);
    bool useful = w->starved || w->tight ? next && !next->file && w->spare_count == 0 : true;
    bool keep = useful && s->ready == w->size && w->spare_count < w->o.spare_segments;
    start(w, keep ? JOB_TO_SPARE : JOB_REMOVE, s);
    return true;
}

/* The disk is full, or nearly: what is only kept for later goes now. */
static bool start_relief(struct wal *w)
{
    if (start_recycle(w))
        return true;
    struct wal_segment *next = wal_segment_next(w, w->writing);
    if (w->spare_count == 0 || (next && !next->file))
        return false; /* the spare will be the next segment */
    struct job *j = &w->job;
    j->file = NULL;
    wal_path(w->dir, WAL_NAME_SPARE, w->spares[--w->spare_count], j->from);
    start(w, JOB_REMOVE_SPARE, NULL);
    return true;
}

/* How far the segment in use should be zero-written by now. */
static uint64_t wanted_ready(const struct wal *w, const struct wal_segment *s)
{
    uint64_t used = s == w->filling ? w->offset : w->size;
    if (w->fill && w->fill->segment == s)
        used += w->fill->used;
    /* A log that is really used gets its whole segment at once; an idle one costs little. */
    if (used < WAL_FIRST_STEP && used + WAL_AHEAD_IDLE < w->size)
        return WAL_AHEAD_IDLE;
    return w->size;
}

void wal_maintain(struct wal *w)
{
    if (w->failed || w->job.running || io_timer_armed(&w->retry))
        return;
    if ((w->starved || w->tight) && start_relief(w))
        return;
    struct wal_segment *s = w->writing;
    struct wal_segment *next = wal_segment_next(w, s);
    if (s->ready < wanted_ready(w, s)) {
        start_grow(w, s);
        return;
    }
    /* The next segment is made in good time, but late enough that an old one may be free by then.
     */
    bool wanted = next || w->offset >= w->size / 4;
    if (wanted && (!next || !next->file)) {
        if (w->spare_count == 0 && start_recycle(w))
            return;
        start_prepare(w, next ? next : wal_segment_create(w, s->number + 1));
        return;
    }
    if (next && next->ready < w->size) {
        start_grow(w, next);
        return;
    }
    (void)start_recycle(w);
}
