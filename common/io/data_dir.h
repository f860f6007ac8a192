/* A daemon's data directory: locked while in use, stamped with whose it is.
 *
 * `stamp` holds magic, format version, program, cluster id, node name, node id, incarnation, number
 * of cores, CRC32C. The incarnation is drawn at random when the directory is made: a wiped node is
 * known as such by its new one.
 *
 * Owner: the daemon's server.  Thread: the main one, at start.  Depends on: fs. */
#ifndef IO_DATA_DIR_H
#define IO_DATA_DIR_H

#include "common/base/limits.h"
#include "common/io/fs.h"

struct data_dir_stamp {
    char program[16];    /* "shardd" or "placementd" */
    uint8_t cluster[16]; /* all zero: not a member of a cluster yet */
    char name[LIMIT_NAME + 1];
    uint32_t node;  /* 0: not registered yet */
    uint32_t cores; /* number of WAL directories */
    uint64_t incarnation;
};

struct data_dir {
    char path[4096 - 256];
    struct fs_file *lock;
    struct data_dir_stamp stamp;
    bool fresh; /* made by this open */
};

/* Makes (mode 0700) or opens the directory, locks it, reads or writes the stamp. `name` and
 * `program` must be those of the stamp. ERR_LOCKED, ERR_FOREIGN, ERR_FORMAT, ERR_CORRUPT,
 * ERR_FORBIDDEN, ERR_NO_SPACE; `msg` says what is wrong and what to do. */
MUST_USE enum err data_dir_open(const char *path, const char *program, const char *name,
                                uint64_t random, uint32_t cores, struct data_dir *out, char *msg,
                                size_t n);
/* Makes the changed stamp (cluster, node, cores) durable. */
MUST_USE enum err data_dir_save(struct data_dir *d);
void data_dir_close(struct data_dir *d);

#endif
