/* Inside of a fetch, shared by its two halves: snapshot_fetch.c (loop) and snapshot_fetch_job.c
 * (blocking work). Included by nobody else.
 *
 * While `busy` the job belongs to the offload thread, together with the manifest and the paths
 * (which do not change) and, for FETCH_PREPARE, files[].  Depends on: snapshot_fetch. */
#ifndef RAFT_SNAPSHOT_FETCH_IMPL_H
#define RAFT_SNAPSHOT_FETCH_IMPL_H

#include "common/base/list.h"
#include "common/raft/snapshot_fetch.h"

#define FETCH_PREFIX "incoming-"

struct fetch_file {
    uint64_t requested; /* bytes asked for or there */
    uint64_t written;   /* bytes on disk */
    bool refetched;     /* its checksum was wrong once */
};

struct fetch_chunk {
    struct list link;
    uint32_t file;
    uint64_t offset;
    size_t n;
    uint8_t bytes[];
};

enum fetch_job_kind {
    FETCH_PREPARE, /* make the directory, see what is there already */
    FETCH_WRITE,   /* the chunks */
    FETCH_VERIFY,  /* one whole file: checksum and sync; emptied if wrong */
    FETCH_FINISH,  /* sync the directories */
};

struct fetch_job {
    struct io_work work;
    enum fetch_job_kind kind;
    struct list chunks; /* FETCH_WRITE: fetch_chunk.link */
    uint32_t file;      /* FETCH_VERIFY */
    bool good;          /* its answer */
    enum err result;
};

struct snapshot_fetch {
    struct snapshot_fetch_options o;
    struct snapshot_manifest m;
    struct fetch_file *files;
    char *parent, *name, *path; /* path = parent/name */
    uint32_t next_request;      /* all files before it are asked for */
    uint32_t next_verify;       /* all files before it are verified */

    struct conn *c;
    bool connected;
    bool lost; /* aborted by us, its end is still to come */
    struct snapshot_get ask[SNAPSHOT_WINDOW];
    unsigned first_ask, asked;
    struct list chunks; /* received, not yet handed to a job */
    unsigned waiting_chunks, job_chunks;

    bool prepared, busy, ended, told;
    struct fetch_job job;
    enum err result;
    enum err cause;      /* why we aborted the connection */
    enum err last_error; /* why the last connection ended */

    struct io_timer timer;
    uint64_t connected_at, heard_at, progress_at, retry_at, backoff;
    struct snapshot_fetch_stats stats;
};

/* Runs f->job; fetch_job_done() follows on the loop. */
void fetch_job_start(struct snapshot_fetch *f);
void fetch_job_done(struct snapshot_fetch *f);

#endif
