/* A cluster and the commands that make it what it is: three nodes, eight groups. Every command is
 * applied as it comes out of its bytes.
 *
 * Owner: the test.  Thread: the test's.  Depends on: cluster_command, plan/layout. */
#ifndef UNIT_PLACEMENTD_CLUSTER_WORLD_H
#define UNIT_PLACEMENTD_CLUSTER_WORLD_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/rng.h"
#include "placementd/cluster_command.h"
#include "placementd/plan/layout.h"

static inline struct cluster_result run(struct cluster *c, const struct cluster_command *cmd)
{
    struct buf b = {0};
    struct cluster_command back;
    struct cluster_result r;
    cluster_command_encode(cmd, &b);
    ck_assert_int_eq(cluster_command_decode(buf_slice(&b), &back), ERR_OK);
    cluster_apply(c, &back, NULL, &r);
    cluster_command_close(&back);
    buf_close(&b);
    return r;
}

static inline struct cluster_result found(struct cluster *c, uint8_t first)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_FOUND, .cluster = {first, 2, 3}};
    return run(c, &cmd);
}

static inline struct cluster_command register_cmd(const char *name, uint64_t incarnation,
                                                  const char *addr)
{
    struct cluster_command cmd = {.kind = CLUSTER_CMD_REGISTER};
    cmd.node.incarnation = incarnation;
    cmd.node.cores = 2;
    snprintf(cmd.node.name, sizeof(cmd.node.name), "%s", name);
    snprintf(cmd.node.host, sizeof(cmd.node.host), "h-%s", name);
    snprintf(cmd.node.client_addr, sizeof(cmd.node.client_addr), "%s:1", addr);
    snprintf(cmd.node.peer_addr, sizeof(cmd.node.peer_addr), "%s:2", addr);
    return cmd;
}

static inline struct cluster_result add_node(struct cluster *c, const char *name,
                                             uint64_t incarnation)
{
    struct cluster_command cmd = register_cmd(name, incarnation, "127.0.0.1");
    return run(c, &cmd);
}

static inline struct cluster_result lay_out(struct cluster *c, uint32_t groups)
{
    struct layout_node nodes[8];
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_nodes && n < 8; i++)
        if (c->nodes[i].state == CLUSTER_NODE_IN)
            nodes[n++] = (struct layout_node){c->nodes[i].id, "", c->nodes[i].host};
    struct layout_request q = {.n_nodes = n,
                               .nodes = nodes,
                               .groups = groups,
                               .replicas = 3,
                               .first_group = c->next_group,
                               .first_replica = c->next_replica};
    struct cluster_command cmd = {.kind = CLUSTER_CMD_LAYOUT, .n_groups = groups};
    char msg[256];
    cmd.groups = mem_zalloc(groups * sizeof(*cmd.groups));
    ck_assert_int_eq(layout_plan(&q, cmd.groups, msg, sizeof(msg)), ERR_OK);
    struct cluster_result r = run(c, &cmd);
    cluster_command_close(&cmd);
    return r;
}

static inline void fill(struct cluster *c)
{
    cluster_init(c);
    found(c, 1);
    add_node(c, "n1", 11);
    add_node(c, "n2", 12);
    add_node(c, "n3", 13);
    ck_assert_int_eq(lay_out(c, 8).err, ERR_OK);
}

/* Of a move of `group`, to node 2. */
static inline struct cluster_command op_cmd(uint8_t kind, uint64_t group)
{
    struct cluster_command cmd = {.kind = kind};
    cmd.op = (struct cluster_operator){
        .id = 1,
        .kind = CLUSTER_OP_MOVE,
        .group = group,
        .epoch = {1, 1},
        .deadline_ms = 5,
        .reason = "n1 is 31% over the mean",
        .n_steps = 2,
        .step = {{CLUSTER_STEP_ADD_STANDBY, 2, 30}, {CLUSTER_STEP_PROMOTE, 2, 30}}};
    return cmd;
}

static inline struct cluster_result told(struct cluster *c, const struct shard_desc *d)
{
    struct shard_desc copy = *d;
    struct cluster_command cmd = {.kind = CLUSTER_CMD_GROUP, .n_groups = 1, .groups = &copy};
    return run(c, &cmd);
}

#endif
