/* What the files of the simulated world share. Not for scenarios. */
#ifndef SIM_SIM_INTERNAL_H
#define SIM_SIM_INTERNAL_H

#include <setjmp.h>

#include "common/base/check.h"
#include "common/base/map.h"
#include "common/base/mem.h"
#include "common/base/rng.h"
#include "tests/sim/sim.h"

/* Work that waits for the next turn of an io. */
struct sim_ready {
    struct list link;
    void (*fn)(struct sim_ready *r);
};

struct sim_disk {
    uint64_t stalled_until;
    unsigned slow;
    unsigned fail_write, fail_read, crash_at; /* countdowns; 0: off */
    uint64_t capacity, used;
    bool lie;
    bool dead;          /* an I/O error has struck: no sync is good again before a restart */
    struct list inodes; /* every inode of the host */
    struct list names;  /* struct fs_name_op: changes of directories not yet durable */
    struct list files;  /* struct fs_file: open handles */
    struct list ops;    /* struct sim_fileop in flight */
    struct fs_inode *root;
};

struct sim_host {
    unsigned number;
    bool up;
    bool powered;       /* while not up: the machine runs, so its ports refuse */
    bool power_pending; /* crash_at_fs struck: the disk has to suffer once the stack is unwound */
    uint32_t life;      /* grows with each process */
    jmp_buf escape;
    const char *exit_why;
    uint64_t paused_until;
    double rate;
    uint64_t clock_base, clock_since; /* host clock = base + (now - since) * rate */
    int64_t wall_off;
    struct list ios;
    struct list listeners;
    struct sim_disk disk;
};

/* A place in the queue; at and order as in the event, so that a comparison needs no more. */
struct sim_slot {
    uint64_t at, order;
    struct sim_event *event;
};

struct sim {
    uint64_t now, order, trace, n_events;
    struct rng rng;
    struct sim_slot *heap; /* 1-based */
    size_t heap_n, heap_cap;
    bool stop, verbose;
    struct sim_host *current;
    struct sim_host *host[SIM_HOSTS];
    void (*on_exit)(struct sim_host *h, const char *why);
    struct sim_net_config net;
    bool cut[SIM_HOSTS][SIM_HOSTS];
    uint64_t clogged[SIM_HOSTS][SIM_HOSTS];
    struct list conns;
    struct map handles;
    int next_handle;
    uint16_t next_port;
    struct list graves; /* struct sim_grave: freed once no callback is on the stack */
    struct sim_stats stats;
};
extern struct sim sim_world;

/* Memory to free at top level. Embedded first. */
struct sim_grave {
    struct list link;
};
void sim_bury(struct sim_grave *g);

/* sim_core.c */
uint64_t sim_host_clock_now(const struct sim_host *h);
uint64_t sim_host_clock_to_sim(const struct sim_host *h, uint64_t host_ns);
/* Runs fn(arg) with `h` current; false if the process ended inside. */
bool sim_enter(struct sim_host *h, void (*fn)(void *arg), void *arg);

/* sim_io.c */
void sim_io_host_died(struct sim_host *h);
void sim_io_host_resumed(struct sim_host *h);
/* Queues r for the io's next turn; removed by list_remove(&r->link). */
void sim_io_ready(struct io *io, struct sim_ready *r);
struct sim_host *sim_io_host(const struct io *io);
bool sim_io_alive(const struct io *io);

/* sim_net.c */
void sim_net_begin(void);
void sim_net_host_died(struct sim_host *h, enum sim_death how);

/* sim_fs.c, sim_disk.c */
void sim_fs_host_init(struct sim_host *h);
void sim_fs_host_died(struct sim_host *h, enum sim_death how);

#endif
