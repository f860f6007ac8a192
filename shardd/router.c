#include "shardd/router.h"

#include <stdlib.h>
#include <stdio.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/meta/slot.h"
#include "common/wal/wal.h"
#include "common/wire/rpc.h"
#include "shardd/core.h"
#include "shardd/merge.h"
#include "shardd/handover.h"
#include "shardd/session.h"

#define RETRY_NO_LEADER_MS 10u
#define RETRY_STARTING_MS 5u
#define RETRY_BUSY_MS 20u
#define RETRY_NO_SPACE_MS 1000u
#define RETRY_SESSIONS_MS 200u
#define SWEEP_TICKS 10u

static void claim(struct router *r, struct replica *replica, unsigned first, unsigned last)
{
    const struct shard *s = &replica->shard;
    if (first < s->first_slot)
        first = s->first_slot;
    if (last > s->last_slot)
        last = s->last_slot;
    for (unsigned i = first; i <= last; i++)
        if (!r->slot[i] || !shard_epoch_less(s->epoch, r->slot[i]->shard.epoch))
            r->slot[i] = replica;
}

static void release(struct router *r, const struct replica *replica, unsigned first, unsigned last)
{
    bool freed = false;
    for (unsigned i = first; i <= last; i++) {
        if (r->slot[i] == replica) {
            r->slot[i] = NULL;
            freed = true;
        }
    }
    size_t it = 0;
    void *value;
    while (freed && map_next(&replica->core->replicas, &it, NULL, &value)) {
        struct replica *other = value;
        if (other->routed && other != replica)
            claim(r, other, first, last);
    }
}

void router_add(struct router *r, struct replica *replica)
{
    replica->routed = true;
    claim(r, replica, 0, LIMIT_SLOTS - 1);
}

void router_remove(struct router *r, struct replica *replica)
{
    if (replica->routed)
        release(r, replica, 0, LIMIT_SLOTS - 1);
    replica->routed = false;
}

void router_moved(struct router *r, struct replica *replica, uint16_t first, uint16_t last)
{
    if (!replica->routed)
        return;
    release(r, replica, first, last);
    claim(r, replica, 0, LIMIT_SLOTS - 1);
}

void router_owner(const struct replica *replica, uint16_t slot, struct shard_desc *out)
{
    const struct shard_desc *other = shard_map_find(&replica->core->map, slot);
    if (!shard_owns(&replica->shard, slot) && other && other->group != replica->shard.group)
        *out = *other;
    else
        replica_describe(replica, out);
}

void router_refuse(const struct replica *replica, struct request *request)
{
    struct shard_desc desc;
    uint64_t retry_ms = 0;
    enum err e = ERR_WRONG_SHARD;
    if (replica->shard.phase == SHARD_PHASE_FROZEN)
        e = merge_frozen_answer(replica, request->slot, &desc, &retry_ms);
    else
        router_owner(replica, request->slot, &desc);
    request_reply_error(request, e, NULL, retry_ms, e == ERR_WRONG_SHARD ? &desc : NULL);
}

/* Where a request's answer goes. */
struct origin {
    struct session *session;
    uint32_t core;
    uint64_t remote_session;
    uint32_t msgid;
};

static void refuse(struct core *core, const struct origin *o, enum err e, const char *text,
                   uint64_t retry_ms, const struct shard_desc *desc)
{
    request_refuse(core, o->session, o->core, o->remote_session, o->msgid, e, text, retry_ms, desc);
}

/* A request on its way to the core that has the group. */
struct forward_mail {
    struct io_mail mail;
    uint32_t core;
    uint64_t session;
    struct buf message;
};

static void forward_deliver(struct io_mail *mail, void *receiver)
{
    struct forward_mail *f = CONTAINER_OF(mail, struct forward_mail, mail);
    struct core *core = receiver;
    struct rpc_message m;
    atomic_fetch_sub_explicit(&core->inbound, f->message.n, memory_order_relaxed);
    struct msg_kv_request kv;
    CHECK(rpc_decode(buf_slice(&f->message), &m) == ERR_OK);
    enum kv_method method;
    CHECK(request_method(m.method, &method));
    CHECK(msg_kv_decode(method, m.params, &kv) == ERR_OK); /* the sender's core has decoded it */
    router_dispatch(core, NULL, f->core, f->session, m.msgid, &kv, slice_of(NULL, 0));
    buf_close(&f->message);
    free(f);
}

static void forward(struct core *core, unsigned to, const struct origin *o, struct slice raw)
{
    struct core *target = core->node->core[to];
    struct session *session = o->session;
    if (atomic_load_explicit(&target->inbound, memory_order_relaxed) + raw.n >
        LIMIT_CORE_REQUEST_BYTES) {
        core->stats.refused_busy++;
        refuse(core, o, ERR_BUSY, NULL, RETRY_BUSY_MS, NULL);
        return;
    }
    atomic_fetch_add_explicit(&target->inbound, raw.n, memory_order_relaxed);
    struct forward_mail *f = mem_zalloc(sizeof *f);
    f->mail.deliver = forward_deliver;
    f->core = core->number;
    f->session = session->id;
    buf_append(&f->message, raw.p, raw.n);
    session->n_requests++; /* session_answered() when its answer comes back */
    core->stats.forwarded++;
    io_post(target->io, &f->mail);
}

static bool check_key(struct core *core, const struct origin *o, struct slice key)
{
    char text[128];
    if (key.n == 0) {
        refuse(core, o, ERR_KEY_EMPTY, NULL, 0, NULL);
        return false;
    }
    if (key.n > core->key_max) {
        snprintf(text, sizeof text, "the key has %zu bytes, the limit is %llu", key.n,
                 (unsigned long long)core->key_max);
        refuse(core, o, ERR_KEY_TOO_LARGE, text, 0, NULL);
        return false;
    }
    return true;
}

static bool check_sizes(struct core *core, const struct origin *o, const struct msg_kv_request *m)
{
    char text[128];
    struct mp_reader keys = mp_reader_of(m->items);
    if (!check_key(core, o, m->key))
        return false;
    for (uint32_t i = 0; m->method == KV_METHOD_MGET && i < m->n; i++)
        if (!check_key(core, o, msg_kv_next_key(&keys)))
            return false;
    if (m->value.n > core->value_max) {
        snprintf(text, sizeof text, "the value has %zu bytes, the limit is %llu", m->value.n,
                 (unsigned long long)core->value_max);
        refuse(core, o, ERR_VALUE_TOO_LARGE, text, 0, NULL);
        return false;
    }
    return true;
}

static bool bad(struct core *core, const struct origin *o, enum err e, const char *text)
{
    refuse(core, o, e, text, 0, NULL);
    return false;
}

static bool seq_is_sound(const struct msg_kv_session *s, uint64_t seq)
{
    return s->id.n == 0 || (seq > 0 && s->ack <= seq && seq - s->ack <= COMMAND_ACK_BEHIND);
}
#define BAD_SEQ "each write of a session needs a \"seq\", not below \"ack\" nor far above it"

/* A batch: sizes and slots of its ops are looked at one by one (write_path.c), unless all depends
 * on all. */
static bool check_ops(struct core *core, const struct origin *o, const struct msg_kv_request *m)
{
    struct mp_reader items = mp_reader_of(m->items);
    uint16_t slot = slot_of_key(m->key);
    for (uint32_t i = 0; i < m->n; i++) {
        struct msg_kv_request op;
        msg_kv_next_op(&items, &op);
        if (!seq_is_sound(&m->session, op.seq))
            return bad(core, o, ERR_BAD_REQUEST, BAD_SEQ);
        if (m->all && (op.key.n == 0 || op.key.n > core->key_max || op.value.n > core->value_max))
            return check_sizes(core, o, &op);
        if (m->all && slot_of_key(op.key) != slot)
            return bad(core, o, ERR_CROSS_SLOT, NULL);
    }
    return true;
}

/* What a command can say of a session, and for how long results are kept. */
static bool check_session(struct core *core, const struct origin *o, const struct replica *r,
                          const struct msg_kv_request *m)
{
    uint64_t ahead = 2 * node_session_retention(core->node), until = m->session.until_ms;
    if (m->method != KV_METHOD_BATCH && !seq_is_sound(&m->session, m->seq))
        return bad(core, o, ERR_BAD_REQUEST, BAD_SEQ);
    if (until > r->shard.time_ms + ahead && until > replica_time_ms(r) + ahead)
        return bad(core, o, ERR_BAD_REQUEST,
                   "\"unt\" is too far in the future: the clocks of two nodes are wrong, or "
                   "limits.session-retention is not the same on all");
    return true;
}

/* Its results could not be kept. What is past its time goes first; by the log's time, which without
 * writes comes up only if it is told to. */
static bool admit_session(struct core *core, const struct origin *o, struct replica *r,
                          const struct msg_kv_request *m)
{
    if (!dedupe_full(r->dedupe, m->session.id.p))
        return true;
    if (core->ticks - r->swept_at >= SWEEP_TICKS) {
        uint64_t index, term;
        r->swept_at = core->ticks;
        dedupe_sweep(r->dedupe, r->shard.time_ms);
        if (!dedupe_full(r->dedupe, m->session.id.p))
            return true;
        if (replica_propose_clock(r, &index, &term) != ERR_OK)
            r->swept_at = 0;
    }
    core->stats.refused_busy++;
    refuse(core, o, ERR_BUSY, "this shard keeps as many results of sessions as it may",
           RETRY_SESSIONS_MS, NULL);
    return false;
}

/* Shed load before proposing: a committed entry must be applied, whatever the engine's state. */
static bool admit(struct core *core, const struct origin *o, struct replica *r,
                  const struct msg_kv_request *m)
{
    if (msg_kv_is_read(m->method))
        return true;
    if (m->method != KV_METHOD_DELETE &&
        (core->no_space || wal_starved(group_set_wal(core->groups)))) {
        refuse(core, o, ERR_NO_SPACE, "the node's disk is nearly full; deletes are still taken",
               RETRY_NO_SPACE_MS, NULL);
        return false;
    }
    if (core->over_memory || r->stats.stalled ||
        group_inflight_bytes(r->group) + r->writes.entry.n + m->value.n + m->items.n >
            LIMIT_GROUP_INFLIGHT_BYTES) {
        core->stats.refused_busy++;
        refuse(core, o, ERR_BUSY, NULL, RETRY_BUSY_MS, NULL);
        return false;
    }
    return m->session.id.n == 0 || (check_session(core, o, r, m) && admit_session(core, o, r, m));
}

static void not_leader(struct core *core, const struct origin *o, const struct replica *r)
{
    struct shard_desc desc;
    replica_describe(r, &desc);
    if (r->state == REPLICA_BROKEN)
        desc.leader = 0;
    if (desc.leader != 0 && desc.leader != r->shard.replica)
        refuse(core, o, ERR_NOT_LEADER, NULL, 0, &desc);
    else
        refuse(core, o, ERR_NO_LEADER, NULL, RETRY_NO_LEADER_MS, &desc);
}

/* No replica of this core claims the slot. */
static void not_here(struct core *core, const struct origin *o, uint16_t slot, struct slice raw)
{
    const struct shard_desc *desc = shard_map_find(&core->map, slot);
    unsigned to = desc ? core_of_group(core->node, desc->group) : core->number;
    bool ours = false, ours_leads = true;
    for (uint32_t i = 0; desc && i < desc->n_replicas; i++) {
        bool here = desc->replica[i].node == core->node_id;
        ours = ours || here;
        if (desc->replica[i].replica == desc->leader)
            ours_leads = here;
    }
    if (ours && to != core->number && o->session && raw.n > 0)
        forward(core, to, o, raw);
    else if (ours && ours_leads) /* not yet: it is being made */
        refuse(core, o, ERR_NO_LEADER, NULL, RETRY_STARTING_MS, desc);
    else
        refuse(core, o, ERR_WRONG_SHARD, NULL, 0, desc);
}

void router_dispatch(struct core *core, struct session *session, uint32_t remote_core,
                     uint64_t remote_session, uint32_t msgid, const struct msg_kv_request *m,
                     struct slice raw)
{
    struct origin o = {session, remote_core, remote_session, msgid};
    if (!(m->method == KV_METHOD_BATCH ? check_ops : check_sizes)(core, &o, m))
        return;
    uint16_t slot = slot_of_key(m->key);
    struct replica *r = core->router.slot[slot];
    if (!r) {
        not_here(core, &o, slot, raw);
        return;
    }
    bool frozen = r->shard.phase == SHARD_PHASE_FROZEN;
    if (frozen) {
        struct shard_desc desc;
        uint64_t retry_ms;
        enum err e = merge_frozen_answer(r, slot, &desc, &retry_ms);
        if (e == ERR_WRONG_SHARD || core->draining) {
            refuse(core, &o, e, NULL, retry_ms, e == ERR_WRONG_SHARD ? &desc : NULL);
            return;
        }
    }
    bool held = handover_holds(r);
    /* A weaker read is served by any replica that runs. */
    bool weak = msg_kv_is_read(m->method) && m->level != KV_LEVEL_LINEARIZABLE &&
                r->state == REPLICA_RUNNING;
    if (!replica_is_leader(r) && !held && !frozen && !weak) {
        not_leader(core, &o, r);
        return;
    }
    if (core->draining && !held) {
        refuse(core, &o, ERR_SHUTTING_DOWN, NULL, 0, NULL);
        return;
    }
    if (!frozen && !admit(core, &o, r, m))
        return;
    struct request *request = request_create(core, session, msgid, m, slot);
    if (!request) {
        core->stats.refused_busy++;
        refuse(core, &o, ERR_BUSY, NULL, RETRY_BUSY_MS, NULL);
        return;
    }
    request->remote_core = remote_core;
    request->remote_session = remote_session;
    if (frozen)
        merge_park(r, request);
    else if (msg_kv_is_read(m->method))
        read_path_add(r, request);
    else
        write_path_add(r, request, m);
}
