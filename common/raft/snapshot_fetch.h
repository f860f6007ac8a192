/* Receiver's side of the snapshot stream: fetches the files of a manifest from another node.
 *
 * Everything goes into <dir>/incoming-<id>/. Files are asked for in order, a few chunks in flight;
 * each is written, and once complete read back, compared with its CRC32C and synced, on offload
 * threads. A lost connection, a silent or a busy sender is tried again after a back-off of 100 ms
 * to 5 s, going on from the bytes that are there; so does a new fetch of the same snapshot, also
 * after a restart of the process. A file whose checksum is wrong is fetched once more, then the
 * fetch fails. Incoming directories of other snapshots in `dir` are removed at the start.
 *
 * Owner: the replica that is being installed.  Thread: one core.
 * Depends on: conn, peer_hello, frame, fs, snapshot_manifest, snapshot_wire. */
#ifndef RAFT_SNAPSHOT_FETCH_H
#define RAFT_SNAPSHOT_FETCH_H

#include "common/net/peer.h"
#include "common/raft/snapshot_manifest.h"
#include "common/raft/snapshot_wire.h"

struct snapshot_fetch;

/* `path` is the directory with the complete, durable files (only with ERR_OK), borrowed until
 * return; the owner renames or removes it.
 * ERR_NOT_FOUND: the sender no longer has it (a new snapshot is needed: group_install_failed()).
 * ERR_CORRUPT: a file's checksum was wrong twice. ERR_TIMEOUT, ERR_UNREACHABLE, ERR_BUSY,
 * ERR_CLOSED: no progress for give_up_ns, with the last cause. ERR_NO_SPACE, ERR_IO: our disk.
 * ERR_INTERRUPTED: cancelled. What was fetched stays on disk unless it is known to be bad. */
typedef void (*snapshot_fetched_fn)(void *arg, enum err result, const char *path);

struct snapshot_fetch_options {
    struct io *io;
    struct conn_set *conns;
    struct peer_hello self; /* `to`, `core` and `purpose` are filled in */
    uint32_t from;          /* node that has it */
    const char *dir;        /* copied; exists */
    struct slice manifest;  /* encoded, untrusted, copied */
    void *arg;
    bool (*resolve)(void *arg, uint32_t node, struct io_addr *out); /* asked before each try */
    snapshot_fetched_fn done;
    struct snapshot_rate *rate; /* shared by the fetches of a core; NULL: no limit */
    uint32_t chunk;             /* bytes asked for at once; 0: 256 KiB; at most 1 MiB */
    unsigned window;            /* chunks in flight; 0: 4; at most SNAPSHOT_WINDOW */
    uint64_t timeout_ns;        /* no answer for so long: the connection is given up; 0: 10 s */
    uint64_t give_up_ns;        /* no progress for so long: the fetch fails; 0: 60 s */
};

/* Starts. Errors of snapshot_manifest_decode(): nothing was started, `done` will not be called.
 * Else `done` is called exactly once, from the loop, and *out is gone then. */
MUST_USE enum err snapshot_fetch(const struct snapshot_fetch_options *o,
                                 struct snapshot_fetch **out);
/* Ends it early: `done` comes with ERR_INTERRUPTED once no work is under way. */
void snapshot_fetch_cancel(struct snapshot_fetch *f);

/* Blocking, at start (or offload): removes all incoming-* directories in a replica's directory. */
MUST_USE enum err snapshot_fetch_clean(const char *dir);

struct snapshot_fetch_stats {
    uint64_t bytes_total, bytes_written; /* of this snapshot; written includes what was resumed */
    uint64_t bytes_received, bytes_resumed;
    uint32_t files, files_verified, files_refetched;
    unsigned tries; /* connections made */
};
void snapshot_fetch_stats(const struct snapshot_fetch *f, struct snapshot_fetch_stats *out);

#endif
