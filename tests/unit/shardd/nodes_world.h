/* Some nodes in one process, each a core_world, over loopback: a group of three voters on the first
 * three of them, with the replicas 10, 11 and 12. Placementd's part is the test's.
 *
 * Owner: the test.  Thread: the test's.  Depends on: core_world. */
#ifndef UNIT_NODES_WORLD_H
#define UNIT_NODES_WORLD_H

#include "common/meta/shard_map.h"
#include "shardd/step.h"
#include "tests/unit/shardd/core_world.h"

#define NODES_MOST 4u
#define GROUP 1u

static struct world node[NODES_MOST + 1]; /* by number; so the next */
static struct io_listener *listener[NODES_MOST + 1];
static struct io_addr addr[NODES_MOST + 1];
static struct shard_map map;

static inline void nodes_on_peer(void *arg, int handle, const struct io_addr *from)
{
    (void)from;
    core_accept_peer(((struct world *)arg)->core, handle);
}

static inline void nodes_listen(struct world *w, void *arg)
{
    (void)arg;
    ck_assert_int_eq(io_listen(w->io, &addr[w->id], nodes_on_peer, w, &listener[w->id]), ERR_OK);
    io_listener_addr(listener[w->id], &addr[w->id]);
}

static inline void nodes_take_map(struct world *w, void *arg)
{
    core_set_map(w->core, arg);
}

static inline void nodes_unlisten(struct world *w, void *arg)
{
    (void)arg;
    io_listener_close(listener[w->id]);
}

/* The group as it is made. */
static inline struct shard_desc nodes_shard(void)
{
    struct shard_desc d = {.group = GROUP,
                           .first_slot = 0,
                           .last_slot = LIMIT_SLOTS - 1,
                           .epoch = {1, 1},
                           .n_replicas = 3};
    for (uint32_t i = 0; i < 3; i++)
        d.replica[i] = (struct shard_replica){10 + i, i + 1, GROUP_VOTER};
    return d;
}

/* Also: begins anew, at the same address. */
static inline void nodes_start(struct world *w)
{
    world_open(w);
    world_call(w, nodes_listen, NULL);
}

static inline void nodes_step(struct world *w, void *arg)
{
    step_run(w->core, arg);
}

static inline struct msg_step nodes_step_of(uint8_t kind, uint64_t replica, uint32_t on)
{
    return (struct msg_step){
        .kind = kind, .replica = replica, .node = on, .op = 5, .shard = nodes_shard()};
}

/* Starts `n` nodes in directories called `name`, and makes the group. */
static inline void nodes_open(unsigned n, const char *name)
{
    const char *tmp = getenv("TEST_TMP");
    shard_map_init(&map);
    map.version = 1;
    for (unsigned i = 1; i <= n; i++) {
        struct world *w = &node[i];
        *w = (struct world){.id = i};
        ck_assert_int_eq(io_addr_parse("127.0.0.1:0", &addr[i]), ERR_OK);
        snprintf(w->dir, sizeof w->dir, "%.400s/%s.XXXXXX", tmp ? tmp : "/tmp", name);
        ck_assert_ptr_nonnull(mkdtemp(w->dir));
        nodes_start(w);
        struct shard_node new = {.node = i, .cores = 1};
        io_addr_format(&addr[i], new.peer_addr);
        snprintf(new.name, sizeof new.name, "n%u", i);
        shard_map_put_node(&map, &new);
    }
    struct shard_desc d = nodes_shard();
    shard_map_put_shard(&map, &d);
    for (unsigned i = 1; i <= n; i++)
        world_call(&node[i], nodes_take_map, &map);
    for (unsigned i = 1; i <= d.n_replicas; i++) {
        struct msg_step s = nodes_step_of(MSG_STEP_CREATE_REPLICA, 9 + i, i);
        s.campaign = i == 1;
        world_call(&node[i], nodes_step, &s);
    }
}

static inline void nodes_close(unsigned n)
{
    for (unsigned i = 1; i <= n; i++)
        world_call(&node[i], nodes_unlisten, NULL);
    for (unsigned i = 1; i <= n; i++)
        world_destroy(&node[i]);
    shard_map_close(&map);
}

#endif
