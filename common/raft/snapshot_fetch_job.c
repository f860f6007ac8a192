#include "common/raft/snapshot_fetch_impl.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/io/fs.h"
#include "common/raft/snapshot_scan.h"

static int compare_name(const void *key, const void *file)
{
    return strcmp(key, ((const struct snapshot_file *)file)->name);
}

struct listing {
    const struct snapshot_manifest *m;
    struct buf unknown; /* { u8 is a directory, NUL-terminated name }... */
};

static void take_unknown(void *arg, const char *name, bool is_dir)
{
    struct listing *l = arg;

    if (is_dir || l->m->n == 0 ||
        !bsearch(name, l->m->files, l->m->n, sizeof *l->m->files, compare_name)) {
        buf_u8(&l->unknown, is_dir);
        buf_append(&l->unknown, name, strlen(name) + 1);
    }
}

/* Only files of the manifest may be in the directory that the owner will swap in. */
static enum err remove_unknown(struct snapshot_fetch *f)
{
    struct listing l = {.m = &f->m};
    enum err e = fs_list(f->path, take_unknown, &l);
    size_t at = 0;

    while (e == ERR_OK && at < l.unknown.n) {
        bool is_dir = l.unknown.p[at] != 0;
        const char *name = (const char *)l.unknown.p + at + 1;
        char *path = snapshot_join(f->path, name);
        e = is_dir ? fs_rmdir_all(path) : fs_unlink(path);
        free(path);
        at += strlen(name) + 2;
    }
    buf_close(&l.unknown);
    return e;
}

static enum err open_file(struct snapshot_fetch *f, uint32_t i, unsigned flags,
                          struct fs_file **out)
{
    char *path = snapshot_join(f->path, f->m.files[i].name);
    enum err e = fs_open(path, flags, out);

    free(path);
    return e;
}

/* What an earlier try has left of a file. Longer than it should be: not ours, begun anew. */
static enum err look_at_file(struct snapshot_fetch *f, uint32_t i)
{
    struct fs_file *file = NULL;
    uint64_t size = 0;
    enum err e = open_file(f, i, FS_READ | FS_WRITE, &file);

    if (e == ERR_NOT_FOUND)
        return ERR_OK;
    if (e == ERR_OK)
        e = fs_size(file, &size);
    if (e == ERR_OK && size > f->m.files[i].size) {
        e = fs_truncate(file, 0);
        size = 0;
    }
    fs_close(file);
    if (e == ERR_OK)
        f->files[i].requested = f->files[i].written = size;
    return e;
}

static enum err prepare(struct snapshot_fetch *f)
{
    enum err e = snapshot_remove_dirs(f->parent, FETCH_PREFIX, f->name);

    if (e == ERR_OK)
        e = fs_mkdir(f->path);
    if (e == ERR_OK)
        e = remove_unknown(f);
    for (uint32_t i = 0; i < f->m.n && e == ERR_OK; i++)
        e = look_at_file(f, i);
    return e;
}

static enum err write_chunks(struct snapshot_fetch *f)
{
    enum err e = ERR_OK;

    LIST_FOR(item, &f->job.chunks)
    {
        struct fetch_chunk *c = CONTAINER_OF(item, struct fetch_chunk, link);
        struct fs_file *file = NULL;
        e = open_file(f, c->file, FS_WRITE | FS_CREATE, &file);
        if (e == ERR_OK)
            e = fs_write(file, c->bytes, c->n, c->offset);
        if (e == ERR_OK)
            fs_write_out(file, c->offset, c->n);
        fs_close(file);
        if (e != ERR_OK)
            break;
    }
    return e;
}

static enum err verify(struct snapshot_fetch *f)
{
    const struct snapshot_file *want = &f->m.files[f->job.file];
    struct fs_file *file = NULL;
    uint64_t size = 0;
    uint32_t crc = 0;
    /* An empty file is made here: no chunk ever comes for it. */
    enum err e = open_file(f, f->job.file, FS_READ | FS_WRITE | FS_CREATE, &file);

    if (e == ERR_OK)
        e = snapshot_scan_file(file, &size, &crc);
    f->job.good = e == ERR_OK && size == want->size && crc == want->crc;
    if (e == ERR_OK)
        e = f->job.good ? fs_sync(file) : fs_truncate(file, 0);
    fs_close(file);
    return e;
}

static enum err sync_names(struct snapshot_fetch *f)
{
    enum err e = fs_sync_dir(f->path);

    return e == ERR_OK ? fs_sync_dir(f->parent) : e;
}

static void run(struct io_work *w)
{
    struct fetch_job *job = CONTAINER_OF(w, struct fetch_job, work);
    struct snapshot_fetch *f = CONTAINER_OF(job, struct snapshot_fetch, job);

    switch (job->kind) {
    case FETCH_PREPARE:
        job->result = prepare(f);
        break;
    case FETCH_WRITE:
        job->result = write_chunks(f);
        break;
    case FETCH_VERIFY:
        job->result = verify(f);
        break;
    case FETCH_FINISH:
        job->result = sync_names(f);
        break;
    }
}

static void done(struct io_work *w)
{
    struct fetch_job *job = CONTAINER_OF(w, struct fetch_job, work);
    struct snapshot_fetch *f = CONTAINER_OF(job, struct snapshot_fetch, job);

    f->busy = false;
    fetch_job_done(f);
}

void fetch_job_start(struct snapshot_fetch *f)
{
    CHECK(!f->busy);
    f->busy = true;
    f->job.work = (struct io_work){.run = run, .done = done};
    io_offload(f->o.io, &f->job.work);
}
