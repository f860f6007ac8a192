/* The commands of placementd's log as bytes (cluster_command.h). */
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "placementd/cluster_command.h"

#define DESC_MIN 21u
#define AT_TURNED 0x80u /* STEP: the step is one of an operator that takes back */

#ifdef SHARDKV_TEST_HOOKS
bool cluster_test_any_epoch;
#endif

/* ---- encoding ---- */

static void put_created(struct buf *out, const struct cluster_command *c)
{
    buf_u32(out, c->n_created);
    for (uint32_t i = 0; i < c->n_created; i++) {
        buf_u64(out, c->created[i].group);
        buf_u64(out, c->created[i].replica);
    }
}

/* Of the commands about operators. False: it is none of these. */
static bool put_operator_fields(const struct cluster_command *c, struct buf *out)
{
    switch (c->kind) {
    case CLUSTER_CMD_OPERATOR_ADD:
        cluster_put_operator(out, &c->op);
        return true;
    case CLUSTER_CMD_OPERATOR_STEP:
    case CLUSTER_CMD_OPERATOR_START:
        buf_u64(out, c->op.id);
        buf_u8(out, (uint8_t)(c->op.at | (c->op.cancelling ? AT_TURNED : 0)));
        buf_u64(out, c->op.deadline_ms);
        buf_u64(out, c->now_ms);
        return true;
    case CLUSTER_CMD_OPERATOR_END:
        buf_u64(out, c->op.id);
        buf_u64(out, c->now_ms);
        buf_u8(out, c->outcome);
        cluster_put_text(out, c->why);
        return true;
    default:
        return false;
    }
}

void cluster_command_encode(const struct cluster_command *c, struct buf *out)
{
    buf_u8(out, CLUSTER_COMMAND_VERSION);
    buf_u8(out, c->kind);
    if (put_operator_fields(c, out))
        return;
    switch (c->kind) {
    case CLUSTER_CMD_FOUND:
    case CLUSTER_CMD_ADOPT:
        buf_append(out, c->cluster, 16);
        break;
    case CLUSTER_CMD_MEMBER:
    case CLUSTER_CMD_MEMBER_ADD:
        cluster_put_member(out, &c->member);
        break;
    case CLUSTER_CMD_REJOIN:
        buf_u32(out, c->node.id);
        cluster_put_told(out, &c->node);
        break;
    case CLUSTER_CMD_LOST:
        buf_u32(out, c->n_lost);
        for (uint32_t i = 0; i < c->n_lost; i++)
            buf_u32(out, c->lost[i]);
        put_created(out, c);
        break;
    case CLUSTER_CMD_REGISTER:
        cluster_put_told(out, &c->node);
        break;
    case CLUSTER_CMD_LAYOUT:
    case CLUSTER_CMD_GROUP:
        buf_u32(out, c->n_groups);
        for (uint32_t i = 0; i < c->n_groups; i++)
            cluster_put_desc(out, &c->groups[i]);
        break;
    case CLUSTER_CMD_CREATED:
        put_created(out, c);
        break;
    case CLUSTER_CMD_NODE_STATE:
        buf_u32(out, c->node.id);
        buf_u8(out, c->node.state);
        buf_u64(out, c->node.maintenance_until_ms);
        break;
    case CLUSTER_CMD_PAUSE:
        buf_u8(out, c->paused);
        break;
    case CLUSTER_CMD_MEMBER_REMOVE:
    case CLUSTER_CMD_MEMBER_LEAVE:
        buf_u32(out, c->member.id);
        break;
    case CLUSTER_CMD_IMPORT:
        buf_u32(out, (uint32_t)c->state.n);
        buf_append(out, c->state.p, c->state.n);
        break;
    default:
        CHECK(!"known kind");
    }
}

static void get_node(struct cursor *c, struct cluster_node *n)
{
    cluster_get_told(c, n);
    if (n->incarnation == 0)
        c->bad = true;
}

static void get_groups(struct cursor *c, struct cluster_command *out)
{
    uint32_t n = cursor_u32(c);
    if (n == 0 || n > CLUSTER_GROUPS_MAX || n > c->left.n / DESC_MIN)
        c->bad = true;
    if (c->bad)
        return;
    out->groups = mem_alloc(n * sizeof(*out->groups));
    for (uint32_t i = 0; i < n && !c->bad; i++)
        cluster_get_desc(c, &out->groups[i]);
    out->n_groups = n;
}

static void get_created(struct cursor *c, struct cluster_command *out)
{
    uint32_t n = cursor_u32(c);
    if ((n == 0 && out->kind == CLUSTER_CMD_CREATED) || n > c->left.n / 16)
        c->bad = true;
    if (c->bad || n == 0)
        return;
    out->created = mem_alloc(n * sizeof(*out->created));
    for (uint32_t i = 0; i < n; i++) {
        out->created[i].group = cursor_u64(c);
        out->created[i].replica = cursor_u64(c);
    }
    out->n_created = n;
}

static void get_lost(struct cursor *c, struct cluster_command *out)
{
    uint32_t n = cursor_u32(c);
    if (n == 0 || n > c->left.n / 4)
        c->bad = true;
    if (c->bad)
        return;
    out->lost = mem_alloc(n * sizeof(*out->lost));
    for (uint32_t i = 0; i < n; i++)
        out->lost[i] = cursor_u32(c);
    out->n_lost = n;
}

static bool get_operator_fields(struct cursor *c, struct cluster_command *out)
{
    switch (out->kind) {
    case CLUSTER_CMD_OPERATOR_ADD:
        cluster_get_operator(c, &out->op);
        return true;
    case CLUSTER_CMD_OPERATOR_STEP:
    case CLUSTER_CMD_OPERATOR_START:
        out->op.id = cursor_u64(c);
        out->op.at = cursor_u8(c);
        out->op.cancelling = (out->op.at & AT_TURNED) != 0;
        out->op.at &= AT_TURNED - 1;
        out->op.deadline_ms = cursor_u64(c);
        out->now_ms = cursor_u64(c);
        return true;
    case CLUSTER_CMD_OPERATOR_END:
        out->op.id = cursor_u64(c);
        out->now_ms = cursor_u64(c);
        out->outcome = cursor_u8(c);
        cluster_get_text(c, out->why, sizeof(out->why));
        return true;
    default:
        return false;
    }
}

static void get_fields(struct cursor *c, struct cluster_command *out)
{
    struct slice id;
    if (get_operator_fields(c, out))
        return;
    switch (out->kind) {
    case CLUSTER_CMD_FOUND:
    case CLUSTER_CMD_ADOPT:
        id = cursor_bytes(c, 16);
        if (!c->bad)
            memcpy(out->cluster, id.p, 16);
        break;
    case CLUSTER_CMD_MEMBER:
    case CLUSTER_CMD_MEMBER_ADD:
        cluster_get_member(c, &out->member);
        break;
    case CLUSTER_CMD_MEMBER_REMOVE:
    case CLUSTER_CMD_MEMBER_LEAVE:
        out->member.id = cursor_u32(c);
        break;
    case CLUSTER_CMD_PAUSE:
        out->paused = cursor_u8(c) != 0;
        break;
    case CLUSTER_CMD_IMPORT:
        out->state = cursor_bytes(c, cursor_u32(c));
        break;
    case CLUSTER_CMD_REJOIN:
        out->node.id = cursor_u32(c);
        get_node(c, &out->node);
        if (out->node.id == 0)
            c->bad = true;
        break;
    case CLUSTER_CMD_LOST:
        get_lost(c, out);
        get_created(c, out);
        break;
    case CLUSTER_CMD_REGISTER:
        get_node(c, &out->node);
        break;
    case CLUSTER_CMD_LAYOUT:
    case CLUSTER_CMD_GROUP:
        get_groups(c, out);
        if (out->kind == CLUSTER_CMD_GROUP && out->n_groups != 1)
            c->bad = true;
        break;
    case CLUSTER_CMD_CREATED:
        get_created(c, out);
        break;
    case CLUSTER_CMD_NODE_STATE:
        out->node.id = cursor_u32(c);
        out->node.state = cursor_u8(c);
        out->node.maintenance_until_ms = cursor_u64(c);
        break;
    default:
        c->bad = true;
    }
}

enum err cluster_command_decode(struct slice in, struct cluster_command *out)
{
    struct cursor c = cursor_of(in);
    struct cluster_command cmd = {0};
    uint8_t version = cursor_u8(&c);
    if (!c.bad && version != CLUSTER_COMMAND_VERSION)
        return ERR_FORMAT;
    cmd.kind = cursor_u8(&c);
    get_fields(&c, &cmd);
    if (c.bad || c.left.n != 0) {
        cluster_command_close(&cmd);
        return ERR_CORRUPT;
    }
    *out = cmd;
    return ERR_OK;
}

void cluster_command_close(struct cluster_command *c)
{
    free(c->groups);
    free(c->created);
    free(c->lost);
    c->groups = NULL;
    c->created = NULL;
    c->lost = NULL;
    c->n_groups = c->n_created = c->n_lost = 0;
}
