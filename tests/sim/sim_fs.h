/* Inodes of simulated disks: what sim_fs.c (the calls of fs.h) and sim_disk.c (crashes, faults)
 * share.
 *
 * An inode has its contents as a running process sees them, and, of every 512-byte block changed
 * since the last sync, the old bytes: a power loss may put any of those back. A directory has the
 * names as seen and the names as durable; changes between the two wait in the host's list. */
#ifndef SIM_SIM_FS_H
#define SIM_SIM_FS_H

#include "common/io/fs.h"
#include "tests/sim/sim_internal.h"

#define FS_BLOCK 512u

struct fs_name {
    char *name;
    struct fs_inode *inode;
};

struct fs_names {
    struct fs_name *e; /* sorted by name */
    size_t n, cap;
};

/* The durable bytes of a block that has changed since the last sync. */
struct fs_old {
    uint64_t block;
    uint8_t *bytes; /* FS_BLOCK; NULL: zeros */
};

struct fs_inode {
    struct list link; /* sim_disk.inodes */
    struct sim_host *host;
    unsigned refs; /* names (seen and durable), handles, pending changes */
    bool dir;
    bool locked;
    uint32_t lock_life;
    struct fs_names seen, durable;
    struct buf data;
    uint64_t durable_size;
    uint64_t last_write; /* where the last asynchronous write that succeeded began */
    struct fs_old *old;  /* each block once, in the order of their first change */
    size_t n_old, old_cap;
    uint8_t *changed; /* a bit per block: it is in `old` */
    size_t changed_cap;
};

/* A change of one directory that fs_sync_dir() has not yet made durable. */
struct fs_name_op {
    struct list link; /* sim_disk.names */
    struct fs_inode *dir;
    char *name;
    struct fs_inode *inode; /* NULL: removed */
    uint64_t pair;          /* the two halves of a rename share it; 0: none */
    bool lost;
};

struct fs_file {
    struct list link; /* sim_disk.files */
    struct fs_inode *inode;
    struct sim_host *host;
    unsigned flags;
    bool lock;
};

struct fs_inode *fs_inode_create(struct sim_host *h, bool dir);
void fs_inode_unref(struct fs_inode *i); /* takes NULL */
struct fs_inode *fs_names_find(const struct fs_names *n, const char *name);
void fs_names_set(struct fs_names *n, const char *name, struct fs_inode *inode); /* NULL: removes */
void fs_names_clear(struct fs_names *n);
/* Makes the bytes of the file durable. */
void fs_inode_sync(struct fs_inode *i);
/* Changes the contents, keeping what a power loss may put back. ERR_NO_SPACE. */
enum err fs_inode_write(struct fs_inode *i, const void *p, size_t n, uint64_t offset);
void fs_inode_resize(struct fs_inode *i, uint64_t size);
/* True if the disk's injected fault strikes at this operation. */
bool sim_disk_strikes(struct sim_host *h, bool write);

#endif
