/* A snapshot goes MAKING -> LIVE -> REMOVING -> freed. While it is MAKING or REMOVING one offload
 * work is under way that owns its fields; everything else happens on the loop. MAKING is two works,
 * the owner's checkpoint and the reading of its files, which takes long and needs no engine. */
#include "common/raft/snapshot_store.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "common/raft/snapshot_scan.h"

#define MAX_LIVE_DEFAULT 4u
#define EXPIRE_DEFAULT (60 * NS_PER_S)
#define UNASKED_DEFAULT (5 * NS_PER_S)
#define SILENT_TIMES 4u /* a receiver that has begun may be silent for so many times as long */
#define PREFIX "snap-"

enum snapshot_state { SNAPSHOT_MAKING, SNAPSHOT_LIVE, SNAPSHOT_REMOVING };

struct waiter {
    struct list link;
    uint64_t min_index;
    snapshot_made_fn done;
    void *arg;
    enum err refused; /* on store.refused: the answer */
};

struct drop {
    struct list link;
    uint64_t group;
    void (*done)(void *arg);
    void *arg;
};

struct snapshot {
    struct list link; /* store.all */
    struct snapshot_store *s;
    enum snapshot_state state;
    uint64_t id, group;
    char *path;
    bool finished; /* a receiver has all of it */
    bool asked;    /* its receiver has begun */
    /* can no longer be had; removed when nothing holds it; read by scan_run(), too */
    atomic_bool dropped;
    unsigned pins;
    uint64_t used_at;
    uint64_t asked_at; /* by a receiver last, or it became theirs to ask for */
    struct list waiters;
    struct snapshot_manifest m;
    struct buf encoded;
    struct io_work work;
    snapshot_checkpoint_fn checkpoint;
    void *checkpoint_arg;
    enum err result;
};

struct snapshot_store {
    struct snapshot_store_options o;
    struct list all;    /* snapshot.link */
    struct list reused; /* waiter.link: to be answered from a live one in the next turn */
    struct list drops;  /* drop.link */
    struct io_timer timer;
    struct snapshot_store_stats stats;
    void (*destroyed)(void *arg); /* not NULL: going away */
    void *destroyed_arg;
};

static void step(struct snapshot_store *s);

/* ---- making, on an offload thread ---- */

static void checkpoint_run(struct io_work *w)
{
    struct snapshot *snap = CONTAINER_OF(w, struct snapshot, work);

    snap->result =
        snap->checkpoint(snap->checkpoint_arg, snap->path, &snap->m.index, &snap->m.note);
}

static void scan_run(struct io_work *w)
{
    struct snapshot *snap = CONTAINER_OF(w, struct snapshot, work);

    snap->result = snapshot_scan_dir(snap->path, &snap->m, &snap->dropped);
    if (snap->result == ERR_OK)
        snap->result = snapshot_manifest_encode(&snap->m, &snap->encoded);
}

/* ---- removing ---- */

static void remove_run(struct io_work *w)
{
    struct snapshot *snap = CONTAINER_OF(w, struct snapshot, work);

    snap->result = fs_rmdir_all(snap->path);
}

static void remove_done(struct io_work *w)
{
    struct snapshot *snap = CONTAINER_OF(w, struct snapshot, work);
    struct snapshot_store *s = snap->s;

    /* A directory that cannot be removed is removed by snapshot_store_clean() at the next start. */
    CHECK(list_empty(&snap->waiters));
    list_remove(&snap->link);
    snapshot_manifest_close(&snap->m);
    buf_close(&snap->encoded);
    free(snap->path);
    free(snap);
    step(s);
}

static void start_remove(struct snapshot *snap)
{
    CHECK(snap->state != SNAPSHOT_REMOVING && snap->pins == 0);
    snap->state = SNAPSHOT_REMOVING;
    snap->dropped = true;
    snap->work = (struct io_work){.run = remove_run, .done = remove_done, .class = IO_WORK_LONG};
    io_offload(snap->s->o.io, &snap->work);
}

/* Takes it out of reach; its files go once no read and no make is under way. */
static void drop_snapshot(struct snapshot *snap)
{
    snap->dropped = true;
    if (snap->state == SNAPSHOT_LIVE && snap->pins == 0)
        start_remove(snap);
}

/* ---- answers ---- */

static void answer(struct waiter *w, enum err result, const struct snapshot *snap)
{
    snapshot_made_fn done = w->done;
    void *arg = w->arg;

    list_remove(&w->link);
    free(w);
    if (result == ERR_OK)
        done(arg, ERR_OK, &snap->m, buf_slice(&snap->encoded));
    else
        done(arg, result, NULL, slice_of(NULL, 0));
}

static void make_done(struct io_work *w)
{
    struct snapshot *snap = CONTAINER_OF(w, struct snapshot, work);
    struct snapshot_store *s = snap->s;
    struct list waiters;

    enum err failure = snap->dropped ? ERR_INTERRUPTED : snap->result;
    if (failure == ERR_OK) {
        snap->state = SNAPSHOT_LIVE;
        snap->used_at = snap->asked_at = io_now(s->o.io);
        s->stats.made++;
    } else {
        snap->dropped = true; /* nobody can join it any more */
        s->stats.failed += snap->result != ERR_OK;
    }
    list_init(&waiters);
    list_splice(&waiters, &snap->waiters);
    snap->pins++; /* the owner may drop it from its callback */
    while (!list_empty(&waiters)) {
        struct waiter *waiter = CONTAINER_OF(list_first(&waiters), struct waiter, link);
        enum err result = failure;
        if (result == ERR_OK && snap->dropped)
            result = ERR_INTERRUPTED;
        /* One that joined may want newer state than the checkpoint turned out to have. */
        if (result == ERR_OK && snap->m.index < waiter->min_index)
            result = ERR_BUSY;
        answer(waiter, result, snap);
    }
    snap->pins--;
    if (snap->dropped && snap->pins == 0)
        start_remove(snap);
    step(s);
}

static void checkpoint_done(struct io_work *w)
{
    struct snapshot *snap = CONTAINER_OF(w, struct snapshot, work);
    struct snapshot_store *s = snap->s;

    if (s->o.checkpointed)
        s->o.checkpointed(s->o.arg, snap->group);
    if (snap->result != ERR_OK || snap->dropped) {
        make_done(w);
        return;
    }
    snap->work = (struct io_work){.run = scan_run, .done = make_done, .class = IO_WORK_LONG};
    io_offload(s->o.io, &snap->work);
}

/* ---- the store ---- */

static void on_timer(struct io_timer *t)
{
    step(CONTAINER_OF(t, struct snapshot_store, timer));
}

struct snapshot_store *snapshot_store_create(const struct snapshot_store_options *o)
{
    struct snapshot_store *s = mem_zalloc(sizeof *s);

    s->o = *o;
    if (s->o.max_live == 0)
        s->o.max_live = MAX_LIVE_DEFAULT;
    if (s->o.expire_ns == 0)
        s->o.expire_ns = EXPIRE_DEFAULT;
    if (s->o.unasked_ns == 0)
        s->o.unasked_ns = UNASKED_DEFAULT;
    list_init(&s->all);
    list_init(&s->reused);
    list_init(&s->drops);
    s->timer.fn = on_timer;
    return s;
}

static void soon(struct snapshot_store *s)
{
    io_timer_set(s->o.io, &s->timer, io_now(s->o.io));
}

void snapshot_store_destroy(struct snapshot_store *s, void (*done)(void *arg), void *arg)
{
    CHECK(done != NULL && s->destroyed == NULL);
    s->destroyed = done;
    s->destroyed_arg = arg;
    LIST_FOR_SAFE(item, &s->all)
    drop_snapshot(CONTAINER_OF(item, struct snapshot, link));
    soon(s);
}

static struct snapshot *find_group(struct snapshot_store *s, uint64_t group,
                                   enum snapshot_state state, uint64_t min_index)
{
    struct snapshot *best = NULL;

    LIST_FOR(item, &s->all)
    {
        struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
        if (snap->group != group || snap->dropped || snap->state != state)
            continue;
        if (state == SNAPSHOT_LIVE && snap->m.index < min_index)
            continue;
        if (!best || snap->m.index > best->m.index)
            best = snap;
    }
    return best;
}

static unsigned count_taken(const struct snapshot_store *s)
{
    unsigned n = 0;

    LIST_FOR(item, &s->all)
    {
        struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
        n += snap->state == SNAPSHOT_MAKING || !snap->dropped;
    }
    return n;
}

/* Whether its place may be given up: a receiver has all of it, or none comes for it. To be offered
 * again, as a member that is down is, does not count: places would be held for ever. */
static bool may_go(const struct snapshot_store *s, const struct snapshot *snap)
{
    uint64_t patience = s->o.unasked_ns * (snap->asked ? SILENT_TIMES : 1);

    if (snap->state != SNAPSHOT_LIVE || snap->dropped || snap->pins > 0)
        return false;
    return snap->finished || io_now(s->o.io) - snap->asked_at >= patience;
}

/* Gives up the place of a checkpoint that no receiver wants any more. */
static bool evict(struct snapshot_store *s)
{
    struct snapshot *oldest = NULL;

    LIST_FOR(item, &s->all)
    {
        struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
        if (may_go(s, snap) && (!oldest || snap->asked_at < oldest->asked_at))
            oldest = snap;
    }
    if (!oldest)
        return false;
    s->stats.evicted++;
    drop_snapshot(oldest);
    return true;
}

static uint64_t draw_id(struct snapshot_store *s)
{
    for (;;) {
        uint64_t id = io_random(s->o.io);
        bool used = id == 0;
        LIST_FOR(item, &s->all)
        used = used || CONTAINER_OF(item, struct snapshot, link)->id == id;
        if (!used)
            return id;
    }
}

static struct snapshot *start_make(struct snapshot_store *s, uint64_t group, const char *dir,
                                   snapshot_checkpoint_fn checkpoint, void *arg)
{
    struct snapshot *snap = mem_zalloc(sizeof *snap);
    struct buf path = {0};

    snap->s = s;
    snap->state = SNAPSHOT_MAKING;
    snap->id = draw_id(s);
    snap->group = group;
    buf_printf(&path, "%s/" PREFIX "%016" PRIx64, dir, snap->id);
    buf_u8(&path, 0);
    snap->path = (char *)path.p;
    snap->m.id = snap->id;
    snap->m.group = group;
    snap->m.core = s->o.core;
    list_init(&snap->waiters);
    snap->checkpoint = checkpoint;
    snap->checkpoint_arg = arg;
    snap->work = (struct io_work){.run = checkpoint_run, .done = checkpoint_done};
    list_push_back(&s->all, &snap->link);
    if (s->o.checkpointing)
        s->o.checkpointing(s->o.arg, group);
    io_offload(s->o.io, &snap->work);
    return snap;
}

bool snapshot_store_make(struct snapshot_store *s, uint64_t group, const char *dir,
                         uint64_t min_index, snapshot_checkpoint_fn checkpoint,
                         snapshot_made_fn done, void *arg)
{
    struct waiter *w = mem_zalloc(sizeof *w);
    struct snapshot *snap = find_group(s, group, SNAPSHOT_LIVE, min_index);
    struct list *where = &s->reused;
    bool begun = false;

    w->min_index = min_index;
    w->done = done;
    w->arg = arg;
    if (s->destroyed) {
        w->refused = ERR_INTERRUPTED;
    } else if (snap) {
        /* Pinned until it is answered, so that it cannot expire or be evicted in between. */
        snap->pins++;
        snap->used_at = io_now(s->o.io);
        if (snap->finished) { /* another receiver */
            snap->finished = snap->asked = false;
            snap->asked_at = snap->used_at;
        }
        s->stats.reused++;
        list_push_back(&snap->waiters, &w->link);
        soon(s);
        return false;
    } else if ((snap = find_group(s, group, SNAPSHOT_MAKING, 0)) != NULL) {
        where = &snap->waiters;
    } else if (count_taken(s) < s->o.max_live || evict(s)) {
        where = &start_make(s, group, dir, checkpoint, arg)->waiters;
        begun = true;
    } else {
        w->refused = ERR_BUSY;
    }
    list_push_back(where, &w->link);
    if (where == &s->reused)
        soon(s);
    return begun;
}

void snapshot_store_drop(struct snapshot_store *s, uint64_t group, void (*done)(void *arg),
                         void *arg)
{
    LIST_FOR_SAFE(item, &s->all)
    {
        struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
        if (snap->group == group)
            drop_snapshot(snap);
    }
    if (!done)
        return;
    struct drop *d = mem_zalloc(sizeof *d);
    d->group = group;
    d->done = done;
    d->arg = arg;
    list_push_back(&s->drops, &d->link);
    soon(s);
}

static bool group_gone(const struct snapshot_store *s, uint64_t group)
{
    LIST_FOR(item, &s->all)
    {
        if (CONTAINER_OF(item, struct snapshot, link)->group == group)
            return false;
    }
    return true;
}

/* Answers those that found a live snapshot, or none and no place. */
static void answer_waiting(struct snapshot_store *s)
{
    struct waiter *w;
    bool again = true;

    while (!list_empty(&s->reused)) {
        w = CONTAINER_OF(list_first(&s->reused), struct waiter, link);
        answer(w, w->refused, NULL);
    }
    while (again) {
        again = false;
        LIST_FOR(item, &s->all)
        {
            struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
            if (snap->state != SNAPSHOT_LIVE || list_empty(&snap->waiters))
                continue;
            w = CONTAINER_OF(list_first(&snap->waiters), struct waiter, link);
            answer(w, snap->dropped ? ERR_INTERRUPTED : ERR_OK, snap);
            snapshot_unpin(snap);
            again = true; /* the list may have changed under the callback */
            break;
        }
    }
}

static void answer_drops(struct snapshot_store *s)
{
    bool again = true;

    while (again) {
        again = false;
        LIST_FOR(item, &s->drops)
        {
            struct drop *d = CONTAINER_OF(item, struct drop, link);
            if (!group_gone(s, d->group))
                continue;
            list_remove(&d->link);
            d->done(d->arg);
            free(d);
            again = true;
            break;
        }
    }
}

/* Removes what has expired; gives the time when the next one will. */
static uint64_t expire(struct snapshot_store *s)
{
    uint64_t now = io_now(s->o.io), next = UINT64_MAX;

    LIST_FOR_SAFE(item, &s->all)
    {
        struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
        if (snap->state != SNAPSHOT_LIVE || snap->dropped || snap->pins > 0)
            continue;
        if (snap->used_at + s->o.expire_ns <= now) {
            s->stats.expired++;
            drop_snapshot(snap);
        } else if (snap->used_at + s->o.expire_ns < next) {
            next = snap->used_at + s->o.expire_ns;
        }
    }
    return next;
}

/* All that may be due. Callbacks may call back into the store, but not end it under our feet. */
static void step(struct snapshot_store *s)
{
    answer_waiting(s);
    answer_drops(s);
    uint64_t next = expire(s);
    if (s->destroyed && list_empty(&s->all) && list_empty(&s->reused) && list_empty(&s->drops)) {
        void (*done)(void *arg) = s->destroyed;
        void *arg = s->destroyed_arg;
        io_timer_cancel(s->o.io, &s->timer);
        free(s);
        done(arg);
        return;
    }
    if (!list_empty(&s->reused) || s->destroyed)
        return; /* whoever added them, or the works that are left, will call again */
    if (next != UINT64_MAX && (!io_timer_armed(&s->timer) || s->timer.at > next))
        io_timer_set(s->o.io, &s->timer, next);
}

/* ---- for the server ---- */

struct snapshot *snapshot_store_pin(struct snapshot_store *s, uint64_t id)
{
    LIST_FOR(item, &s->all)
    {
        struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
        if (snap->id != id || snap->dropped || snap->state != SNAPSHOT_LIVE)
            continue;
        snap->pins++;
        snap->used_at = snap->asked_at = io_now(s->o.io);
        snap->asked = true;
        snap->finished = false;
        return snap;
    }
    return NULL;
}

void snapshot_unpin(struct snapshot *snap)
{
    struct snapshot_store *s = snap->s;

    CHECK(snap->pins > 0);
    snap->pins--;
    snap->used_at = io_now(s->o.io);
    if (snap->pins > 0)
        return;
    if (snap->dropped)
        start_remove(snap);
    else if (!io_timer_armed(&s->timer))
        io_timer_set(s->o.io, &s->timer, snap->used_at + s->o.expire_ns);
}

const struct snapshot_manifest *snapshot_get_manifest(const struct snapshot *snap)
{
    return &snap->m;
}

const char *snapshot_path(const struct snapshot *snap)
{
    return snap->path;
}

void snapshot_store_finished(struct snapshot_store *s, uint64_t id)
{
    LIST_FOR(item, &s->all)
    {
        struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
        if (snap->id == id)
            snap->finished = true;
    }
}

void snapshot_store_stats(const struct snapshot_store *s, struct snapshot_store_stats *out)
{
    *out = s->stats;
    out->live = out->making = 0;
    LIST_FOR(item, &s->all)
    {
        struct snapshot *snap = CONTAINER_OF(item, struct snapshot, link);
        out->making += snap->state == SNAPSHOT_MAKING;
        out->live += snap->state == SNAPSHOT_LIVE && !snap->dropped;
    }
}

/* ---- at start ---- */

enum err snapshot_store_clean(const char *dir)
{
    return snapshot_remove_dirs(dir, PREFIX, NULL);
}
