/* Opening: recovery of what is there, then a new segment to append to.
 *
 * Torn or damaged? One commit is written at a time and the next one begins only when it is durable,
 * so a crash can tear the very last commit and nothing else; that one was never acknowledged and is
 * cut off. Anything else that does not read right is damage to acknowledged records, and the log is
 * refused. Told apart like this:
 *  - commits are numbered without gaps through all segments. A segment is read up to its first bad
 *    commit; if the next good commit of a later segment has the next number, the segment simply
 *    ended there, if it has a higher one, commits are missing;
 *  - behind a bad commit the rest of the segment is searched, at every block, for a good one: there
 *    is none behind a torn one. But a mark with the next number may stand in the last block;
 *  - the last commit names the oldest segment in use: that file must be there;
 *  - closing and opening write a mark, so that the last record before is not the last commit.
 * What cannot be told: damage to the very last commit after a crash, before the next opening.
 *
 * The cut. The last segment is truncated to its last good commit and synced, and appending goes on
 * in a new segment whose first commit, a mark, is durable before wal_open() returns. So nothing
 * that was behind the tear can be taken up later, also not a write of the killed process that the
 * kernel had still under way (truncation waits for it).
 *
 * The sync matters for good commits, too: the last one may have been written but not yet flushed by
 * the disk when the process died. It is replayed, hence acknowledged, so it must be durable first.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/wal/wal_internal.h"

struct found {
    uint64_t number;
    enum wal_name kind;
};

struct recovery {
    struct wal *w;
    wal_replay_fn replay;
    void *replay_arg;
    char *msg;
    size_t n;
    struct found *found;
    unsigned count;
    uint64_t highest;         /* number of any file */
    uint8_t *image;           /* one segment */
    uint64_t next;            /* sequence expected; 0: any */
    uint64_t oldest;          /* of the last good commit */
    struct wal_segment *last; /* the last one with a good commit */
};

static enum err __attribute__((format(printf, 3, 4)))
refuse(const struct recovery *c, enum err e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->msg, c->n, fmt, ap);
    va_end(ap);
    return e;
}

/* A failed file operation. */
static enum err refuse_io(const struct recovery *c, enum err e, const char *what, const char *path)
{
    return refuse(c, e, "%s %s: %s", what, path, fs_last_error());
}

static enum err damaged(const struct recovery *c, const struct wal_segment *s, uint64_t offset,
                        const char *what)
{
    char name[WAL_NAME_MAX];
    wal_name_format(WAL_NAME_SEGMENT, s->number, name);
    return refuse(c, ERR_CORRUPT,
                  "%s/%s: damaged at offset %llu: %s. Acknowledged records are lost here: this "
                  "replica's log is damaged; remove the directory %s to have it re-seeded from the "
                  "other replicas",
                  c->w->dir, name, (unsigned long long)offset, what, c->w->dir);
}

/* ---- what is there ---- */

static void on_name(void *arg, const char *name, bool is_dir)
{
    struct recovery *c = arg;
    struct found f;
    f.kind = is_dir ? WAL_NAME_OTHER : wal_name_parse(name, &f.number);
    if (f.kind == WAL_NAME_OTHER)
        return; /* lost+found and the like */
    if (f.number > c->highest)
        c->highest = f.number;
    c->found = mem_realloc(c->found, (c->count + 1) * sizeof *c->found);
    c->found[c->count++] = f;
}

static enum err remove_file(struct recovery *c, enum wal_name kind, uint64_t number)
{
    char path[WAL_PATH_MAX + WAL_NAME_MAX];
    wal_path(c->w->dir, kind, number, path);
    enum err e = fs_unlink(path);
    return e == ERR_OK ? e : refuse_io(c, e, "cannot remove", path);
}

/* Reads a whole file into the image. */
static enum err read_image(struct recovery *c, struct wal_segment *s, const char *path)
{
    uint64_t done = 0;
    while (done < s->ready) {
        size_t n = s->ready - done < MIB ? (size_t)(s->ready - done) : (size_t)MIB, got;
        enum err e = fs_read(s->file, c->image + done, n, done, &got);
        if (e != ERR_OK)
            return refuse_io(c, e, "cannot read", path);
        if (got != n)
            return refuse(c, ERR_IO, "cannot read %s: it ends early", path);
        done += n;
    }
    return ERR_OK;
}

/* Reads and checks the header; the first segment's tells the size and id of the log. */
static enum err read_header(struct recovery *c, struct wal_segment *s, const char *path, bool first)
{
    struct wal *w = c->w;
    uint8_t *block = mem_alloc_aligned(WAL_BLOCK, WAL_BLOCK);
    size_t got = 0;
    struct wal_segment_header h;
    const char *why;
    uint32_t version;
    enum err e = fs_read(s->file, block, WAL_BLOCK, 0, &got);
    if (e != ERR_OK) {
        free(block);
        return refuse_io(c, e, "cannot read", path);
    }
    e = wal_segment_header_decode(slice_of(block, got), &h, &why, &version);
    free(block);
    if (e == ERR_FORMAT && version != 0)
        return refuse(c, e, "%s: %s %u (this program knows version %u)", path, why, version,
                      (unsigned)WAL_VERSION);
    if (e == ERR_FORMAT)
        return refuse(c, e, "%s: %s", path, why);
    if (e != ERR_OK)
        return damaged(c, s, 0, why);
    if (h.number != s->number)
        return damaged(c, s, 0, "it is another segment under a wrong name");
    if (first) {
        w->size = h.size;
        w->log = h.log;
    } else if (h.log != w->log) {
        return refuse(c, ERR_FOREIGN, "%s belongs to another log than the segments before it",
                      path);
    } else if (h.size != w->size) {
        return damaged(c, s, 0, "its size differs from that of the segments before it");
    }
    if (s->ready > w->size)
        return damaged(c, s, w->size, "the file is too long");
    s->salt = h.salt;
    s->seed = wal_segment_seed(&h);
    return ERR_OK;
}

static enum err open_segment(struct recovery *c, uint64_t number)
{
    struct wal *w = c->w;
    bool first = list_empty(&w->segments);
    char path[WAL_PATH_MAX + WAL_NAME_MAX];
    wal_path(w->dir, WAL_NAME_SEGMENT, number, path);
    struct wal_segment *s = wal_segment_create(w, number);
    enum err e = fs_open(path, FS_READ | FS_WRITE | FS_DIRECT, &s->file);
    if (e != ERR_OK)
        return refuse_io(c, e, "cannot open", path);
    e = fs_size(s->file, &s->ready);
    if (e != ERR_OK)
        return refuse_io(c, e, "cannot get the size of", path);
    s->ready = s->ready / WAL_BLOCK * WAL_BLOCK;
    return read_header(c, s, path, first);
}

static enum err open_all(struct recovery *c)
{
    enum err e = fs_list(c->w->dir, on_name, c);
    if (e != ERR_OK)
        return refuse_io(c, e, "cannot list", c->w->dir);
    for (unsigned i = 0; i < c->count && e == ERR_OK; i++) { /* names sort by number */
        if (c->found[i].kind == WAL_NAME_SEGMENT)
            e = open_segment(c, c->found[i].number);
        else if (c->found[i].kind == WAL_NAME_NEW)
            e = remove_file(c, WAL_NAME_NEW, c->found[i].number);
    }
    return e;
}

/* Spares of this log's segment size are kept, up to the limit. */
static enum err take_spares(struct recovery *c)
{
    struct wal *w = c->w;
    for (unsigned i = 0; i < c->count; i++) {
        if (c->found[i].kind != WAL_NAME_SPARE)
            continue;
        char path[WAL_PATH_MAX + WAL_NAME_MAX];
        wal_path(w->dir, WAL_NAME_SPARE, c->found[i].number, path);
        struct fs_file *f;
        uint64_t size = 0;
        enum err e = fs_open(path, FS_READ, &f);
        if (e == ERR_OK) {
            e = fs_size(f, &size);
            fs_close(f);
        }
        if (e != ERR_OK)
            return refuse_io(c, e, "cannot open", path);
        if (size == w->size && w->spare_count < w->o.spare_segments)
            wal_spare_add(w, c->found[i].number);
        else if ((e = remove_file(c, WAL_NAME_SPARE, c->found[i].number)) != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* ---- reading the commits ---- */

static void replay_commit(struct recovery *c, struct wal_segment *s,
                          const struct wal_commit_header *h)
{
    uint64_t at = s->end + WAL_COMMIT_HEADER;
    for (uint32_t i = 0; i < h->count; i++) {
        struct wal_record r;
        struct slice payload;
        wal_record_decode(slice_of(c->image + at, s->ready - at), &r, &payload);
        c->replay(c->replay_arg, &r, payload, s->number * c->w->size + at);
        at += wal_record_size(payload.n);
    }
}

/* The mark of a log that waited for disk space: it stands in the last block, after a gap that no
 * record fitted into. Its number tells that no commit is missing in the gap. */
static bool is_last_mark(const struct recovery *c, uint64_t offset,
                         const struct wal_commit_header *h)
{
    return offset == c->w->size - WAL_BLOCK && h->count == 0 && c->next && h->sequence == c->next;
}

static enum err scan_segment(struct recovery *c, struct wal_segment *s)
{
    uint64_t base = s->number * c->w->size;
    struct slice image = {c->image, s->ready};
    struct wal_commit_header h;
    while (s->end < s->ready) {
        struct slice rest = {image.p + s->end, image.n - s->end};
        if (!wal_commit_verify(rest, s->seed, base + s->end, &h)) {
            uint64_t later;
            if (WAL_BUG(WAL_BUG_TORN_NEVER) && c->image[s->end] != 0)
                return damaged(c, s, s->end, "a bad commit");
            if (WAL_BUG(WAL_BUG_TORN_ALWAYS) ||
                !wal_find_commit(image, s->end + WAL_BLOCK, s->seed, base, &later, &h))
                break;
            if (!is_last_mark(c, later, &h))
                return damaged(c, s, s->end, "a bad commit before a good one");
            s->end = later;
        }
        if (c->next && h.sequence < c->next)
            return damaged(c, s, s->end, "an earlier commit stands after a later one");
        if (c->next && h.sequence > c->next)
            return damaged(c, c->last, c->last->end, "commits are missing before a later segment");
        replay_commit(c, s, &h);
        s->end += wal_align(h.length, WAL_BLOCK);
        c->next = h.sequence + 1;
        c->oldest = h.oldest;
        c->last = s;
    }
    return ERR_OK;
}

static void tell_total(struct wal *w)
{
    uint64_t total = 0;
    LIST_FOR(item, &w->segments)
    {
        total += wal_segment_of(item)->ready;
    }
    if (w->o.on_replay)
        w->o.on_replay(w->o.arg, 0, total);
}

static enum err scan_all(struct recovery *c)
{
    struct wal *w = c->w;
    if (list_empty(&w->segments))
        return ERR_OK;
    c->image = mem_alloc_aligned(WAL_BLOCK, w->size);
    enum err e = ERR_OK;
    tell_total(w);
    LIST_FOR(item, &w->segments)
    {
        struct wal_segment *s = wal_segment_of(item);
        char path[WAL_PATH_MAX + WAL_NAME_MAX];
        wal_path(w->dir, WAL_NAME_SEGMENT, s->number, path);
        if ((e = read_image(c, s, path)) != ERR_OK || (e = scan_segment(c, s)) != ERR_OK)
            break;
        if (w->o.on_replay)
            w->o.on_replay(w->o.arg, s->ready, 0);
    }
    free(c->image);
    c->image = NULL;
    struct wal_segment *first = wal_segment_of(list_first(&w->segments));
    /* The first segment of a log gets its name with a commit in it. */
    if (e == ERR_OK && !c->last)
        e = damaged(c, first, WAL_BLOCK, "there is no good commit in the whole log");
    if (e == ERR_OK) {
        if (first->number > c->oldest)
            e = damaged(c, first, 0, "an older segment that is still needed is missing");
    }
    return e;
}

/* ---- making it ready for appending ---- */

/* Cuts the tail off and makes everything that was replayed durable. */
static enum err cut_tail(struct recovery *c)
{
    struct wal *w = c->w;
    enum err e;
    struct list *item;
    if (!c->last)
        return ERR_OK;
    /* Behind the last commit there are at most segments prepared but never used. They are not kept
     * as spares: a late write of the killed process may still be on its way into their first block.
     */
    while ((item = w->segments.prev) != &c->last->link) {
        uint64_t number = wal_segment_of(item)->number;
        wal_segment_destroy(wal_segment_of(item));
        if ((e = remove_file(c, WAL_NAME_SEGMENT, number)) != ERR_OK)
            return e;
    }
    e = fs_sync_dir(w->dir);
    if (e != ERR_OK)
        return refuse_io(c, e, "cannot sync the directory", w->dir);
    struct wal_segment *s = c->last;
    e = s->end < s->ready ? fs_truncate(s->file, s->end) : ERR_OK;
    if (e == ERR_OK)
        e = fs_sync(s->file);
    if (e != ERR_OK)
        return refuse_io(c, e, "cannot cut off the tail of the last segment in", w->dir);
    s->ready = s->end;
    return ERR_OK;
}

/* Header and opening mark, one write. */
static enum err write_beginning(struct recovery *c, struct wal_segment *s)
{
    struct wal *w = c->w;
    uint8_t *p = mem_alloc_aligned(WAL_BLOCK, 2 * (size_t)WAL_BLOCK);
    memset(p, 0, 2 * (size_t)WAL_BLOCK);
    wal_segment_block(w, s, p);
    struct wal_commit_header h = {
        .sequence = w->sequence++, .oldest = w->oldest, .length = WAL_COMMIT_HEADER};
    wal_commit_encode(&h, s->seed, s->number * w->size + WAL_BLOCK, p + WAL_BLOCK);
    enum err e = fs_write(s->file, p, 2 * (size_t)WAL_BLOCK, 0);
    free(p);
    s->end = 2 * (uint64_t)WAL_BLOCK;
    return e;
}

/* The segment that appending begins in. */
static enum err begin_segment(struct recovery *c)
{
    struct wal *w = c->w;
    char from[WAL_PATH_MAX + WAL_NAME_MAX], to[WAL_PATH_MAX + WAL_NAME_MAX];
    struct wal_segment *s = wal_segment_create(w, c->highest + 1);
    w->oldest = w->oldest_durable = wal_segment_of(list_first(&w->segments))->number;
    w->sequence = c->next ? c->next : 1;
    bool spare = w->spare_count > 0;
    unsigned flags = FS_READ | FS_WRITE | FS_DIRECT;
    if (spare)
        wal_path(w->dir, WAL_NAME_SPARE, w->spares[--w->spare_count], from);
    else
        wal_path(w->dir, WAL_NAME_NEW, s->number, from);
    wal_path(w->dir, WAL_NAME_SEGMENT, s->number, to);
    enum err e = fs_open(from, spare ? flags : flags | FS_CREATE | FS_TRUNCATE, &s->file);
    if (e == ERR_OK)
        e = write_beginning(c, s);
    s->ready = w->size;
    if (e == ERR_OK && !spare) {
        s->ready = w->size < WAL_FIRST_STEP ? w->size : WAL_FIRST_STEP;
        e = wal_write_zeros(s->file, s->end, s->ready);
    }
    if (e == ERR_OK)
        e = fs_sync(s->file);
    if (e == ERR_OK)
        e = fs_rename(from, to);
    if (e == ERR_OK)
        e = fs_sync_dir(w->dir);
    if (e != ERR_OK)
        return refuse_io(c, e, "cannot make the segment", to);
    w->writing = w->filling = s;
    w->offset = s->end;
    w->durable = s->number * w->size + s->end;
    return ERR_OK;
}

static enum err make_dir(struct recovery *c)
{
    struct wal *w = c->w;
    bool there = fs_exists(w->dir);
    enum err e = fs_mkdir(w->dir);
    if (e == ERR_OK && !there) {
        char parent[WAL_PATH_MAX];
        snprintf(parent, sizeof parent, "%s", w->dir);
        char *slash = strrchr(parent, '/');
        if (slash)
            slash[slash == parent] = 0;
        e = fs_sync_dir(slash ? parent : ".");
    }
    return e == ERR_OK ? e : refuse_io(c, e, "cannot make the directory", w->dir);
}

static enum err recover(struct recovery *c)
{
    struct wal *w = c->w;
    enum err e = make_dir(c);
    if (e == ERR_OK)
        e = open_all(c);
    if (e == ERR_OK)
        e = scan_all(c);
    if (e == ERR_OK)
        e = take_spares(c);
    if (e == ERR_OK)
        e = cut_tail(c);
    if (e != ERR_OK)
        return e;
    w->states_due = c->last != NULL;
    w->limit = w->size - WAL_BLOCK;
    uint64_t largest = w->limit - WAL_BLOCK;
    w->buffer_size = largest < LIMIT_WAL_COMMIT ? largest : LIMIT_WAL_COMMIT;
    w->soft_limit = w->size / 4 < w->buffer_size ? w->size / 4 : w->buffer_size;
    w->record_max = (w->buffer_size - WAL_COMMIT_HEADER - WAL_RECORD_HEADER) / 8 * 8;
    return begin_segment(c);
}

static void destroy(struct wal *w)
{
    struct list *item;
    while ((item = list_first(&w->segments)))
        wal_segment_destroy(wal_segment_of(item));
    free(w->spares);
    free(w->job.header);
    free(w);
}

/* Of a new log. */
static uint64_t segment_size(const struct wal_options *o)
{
    uint64_t size = o->segment_size ? o->segment_size : LIMIT_WAL_SEGMENT_DEFAULT;
    uint64_t free_bytes, total;
    char dir[WAL_PATH_MAX];
    snprintf(dir, sizeof dir, "%s", o->dir);
    char *slash = strrchr(dir, '/');
    if (!fs_exists(dir) && slash)
        slash[slash == dir] = 0; /* it is made in here */
    if (size <= WAL_SEGMENT_SMALL || fs_space(dir, &free_bytes, &total) != ERR_OK)
        return size;
    uint64_t most = total / WAL_SEGMENTS_OF_DISK / WAL_SEGMENT_SMALL * WAL_SEGMENT_SMALL;
    most = most > WAL_SEGMENT_SMALL ? most : WAL_SEGMENT_SMALL;
    return size < most ? size : most;
}

enum err wal_open(const struct wal_options *options, wal_replay_fn replay, void *replay_arg,
                  struct wal **out, char *msg, size_t n)
{
    const struct wal_options *o = options;
    CHECK(o->io && o->dir && o->on_durable && o->on_rotate && o->oldest_needed && o->on_fatal);
    struct wal *w = mem_zalloc(sizeof *w);
    w->o = *o;
    w->o.dir = w->dir;
    if (w->o.spare_segments == 0)
        w->o.spare_segments = 2;
    w->size = segment_size(o);
    w->log = io_random(o->io);
    list_init(&w->segments);
    list_init(&w->sealed);
    list_init(&w->free);
    list_init(&w->reads);
    w->next.fn = wal_on_next;
    w->job.header = mem_alloc_aligned(WAL_BLOCK, WAL_BLOCK);
    struct recovery c = {.w = w, .replay = replay, .replay_arg = replay_arg, .msg = msg, .n = n};
    enum err e;
    if (w->size < WAL_SEGMENT_MIN || w->size > WAL_SEGMENT_MAX || w->size % WAL_BLOCK != 0)
        e = refuse(&c, ERR_CONFIG,
                   "the size of a log segment must be 64 KiB to 1 GiB, a multiple "
                   "of 4 KiB");
    else if (strlen(o->dir) >= WAL_PATH_MAX)
        e = refuse(&c, ERR_CONFIG, "the path of the log directory is too long");
    else {
        strcpy(w->dir, o->dir);
        strcpy(w->job.dir, o->dir);
        e = recover(&c);
    }
    free(c.found);
    if (e != ERR_OK) {
        destroy(w);
        return e;
    }
    *out = w;
    return ERR_OK;
}

/* The closing mark. If it fails nothing is lost but its use. */
static void mark_closed(struct wal *w)
{
    struct wal_segment *s = w->writing;
    if (w->failed || !wal_idle(w) || s != w->filling || w->offset + WAL_BLOCK > s->ready)
        return;
    uint8_t *p = mem_alloc_aligned(WAL_BLOCK, WAL_BLOCK);
    memset(p, 0, WAL_BLOCK);
    struct wal_commit_header h = {
        .sequence = w->sequence, .oldest = w->oldest_durable, .length = WAL_COMMIT_HEADER};
    wal_commit_encode(&h, s->seed, s->number * w->size + w->offset, p);
    if (fs_write(s->file, p, WAL_BLOCK, w->offset) != ERR_OK || fs_sync(s->file) != ERR_OK) {
        /* recovery then ends at the last commit, as after a crash */
    }
    free(p);
}

void wal_close(struct wal *w)
{
    mark_closed(w);
    if (io_timer_armed(&w->next))
        io_timer_cancel(w->o.io, &w->next);
    if (io_timer_armed(&w->retry))
        io_timer_cancel(w->o.io, &w->retry);
    wal_reads_drop(w);
    wal_job_drop(w);
    wal_commits_free(w);
    destroy(w);
}
