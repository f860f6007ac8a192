#include "shardd/shard_change.h"

#include "common/base/check.h"

const char *shard_change_name(uint8_t kind)
{
    static const char *const names[] = {
        [SHARD_SPLIT] = "split",
        [SHARD_MERGE_TARGET] = "merge_target",
        [SHARD_MERGE_INTENT] = "merge_intent",
        [SHARD_MERGE_FREEZE] = "merge_freeze",
        [SHARD_MERGE_OWN] = "merge_own",
        [SHARD_MERGE_ABORT] = "merge_abort",
        [SHARD_MERGE_UNFREEZE] = "merge_unfreeze",
        [SHARD_PREPARE] = "split_prepare",
    };
    return kind >= SHARD_SPLIT && kind <= SHARD_PREPARE ? names[kind] : "unknown";
}

/* ---- bytes ---- */

static bool has_replicas(uint8_t kind)
{
    return kind == SHARD_SPLIT || kind == SHARD_PREPARE;
}

static bool has_other(uint8_t kind)
{
    return has_replicas(kind) || kind == SHARD_MERGE_TARGET || kind == SHARD_MERGE_INTENT ||
           kind == SHARD_MERGE_OWN;
}

bool shard_change_is(struct slice payload)
{
    return payload.n > 0 && payload.p[0] == COMMAND_CHANGE_FORMAT;
}

void shard_change_encode(const struct shard_change *c, struct buf *out)
{
    buf_u8(out, COMMAND_CHANGE_FORMAT);
    buf_u8(out, c->kind);
    buf_u64(out, c->op);
    buf_u32(out, c->epoch.range);
    buf_u32(out, c->epoch.members);
    buf_u64(out, c->time_ms);
    if (has_other(c->kind)) {
        buf_u64(out, c->other.group);
        buf_u16(out, c->other.first_slot);
        buf_u16(out, c->other.last_slot);
        buf_u32(out, c->other.epoch.range);
        buf_u32(out, c->other.epoch.members);
    }
    if (has_replicas(c->kind)) {
        CHECK(c->other.n_replicas <= LIMIT_GROUP_MEMBERS);
        buf_u8(out, (uint8_t)c->other.n_replicas);
        for (uint32_t i = 0; i < c->other.n_replicas; i++) {
            buf_u64(out, c->other.replica[i].replica);
            buf_u32(out, c->other.replica[i].node);
            buf_u8(out, c->other.replica[i].role);
        }
    }
    if (c->kind == SHARD_MERGE_OWN) {
        buf_u64(out, c->source_index);
        buf_u64(out, c->source_version);
        buf_u64(out, c->source_time_ms);
    }
}

#define ROLE_VOTER 1u /* enum group_role */
#define ROLE_LAST 2u

/* Replicas: all different, on different nodes, and at least one that votes. */
static bool replicas_are_sound(const struct shard_desc *d)
{
    bool voter = false;
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        const struct shard_replica *r = &d->replica[i];
        if (r->replica == 0 || r->node == 0 || r->role > ROLE_LAST)
            return false;
        for (uint32_t k = 0; k < i; k++)
            if (d->replica[k].replica == r->replica || d->replica[k].node == r->node)
                return false;
        voter = voter || r->role == ROLE_VOTER;
    }
    return voter;
}

static bool decode_other(struct cursor *c, uint8_t kind, struct shard_desc *d)
{
    d->group = cursor_u64(c);
    d->first_slot = cursor_u16(c);
    d->last_slot = cursor_u16(c);
    d->epoch.range = cursor_u32(c);
    d->epoch.members = cursor_u32(c);
    if (c->bad || d->group == 0 || d->first_slot > d->last_slot || d->last_slot >= LIMIT_SLOTS)
        return false;
    if (!has_replicas(kind))
        return true;
    d->n_replicas = cursor_u8(c);
    if (d->n_replicas > LIMIT_GROUP_MEMBERS)
        return false;
    for (uint32_t i = 0; i < d->n_replicas; i++) {
        d->replica[i].replica = cursor_u64(c);
        d->replica[i].node = cursor_u32(c);
        d->replica[i].role = cursor_u8(c);
    }
    return !c->bad && replicas_are_sound(d);
}

enum err shard_change_decode(struct slice payload, struct shard_change *out)
{
    struct cursor c = cursor_of(payload);
    struct shard_change s = {0};
    uint8_t format = cursor_u8(&c);
    if (!c.bad && format != COMMAND_CHANGE_FORMAT)
        return ERR_FORMAT;
    s.kind = cursor_u8(&c);
    s.op = cursor_u64(&c);
    s.epoch.range = cursor_u32(&c);
    s.epoch.members = cursor_u32(&c);
    s.time_ms = cursor_u64(&c);
    if (c.bad || s.kind < SHARD_SPLIT || s.op == 0)
        return ERR_CORRUPT;
    if (s.kind > SHARD_PREPARE)
        return ERR_FORMAT; /* of a newer release: nothing may go on without it */
    if (has_other(s.kind) && !decode_other(&c, s.kind, &s.other))
        return ERR_CORRUPT;
    if (s.kind == SHARD_MERGE_OWN) {
        s.source_index = cursor_u64(&c);
        s.source_version = cursor_u64(&c);
        s.source_time_ms = cursor_u64(&c);
    }
    if (c.bad || c.left.n > 0)
        return ERR_CORRUPT;
    *out = s;
    return ERR_OK;
}

/* ---- what they do ---- */

static bool are_neighbours(const struct shard *s, const struct shard_desc *d)
{
    return d->group != s->group &&
           (d->first_slot == s->last_slot + 1 || d->last_slot + 1 == s->first_slot);
}

static uint32_t next_range(uint32_t a, uint32_t b)
{
    return (a > b ? a : b) + 1;
}

static enum err apply_split(struct shard *s, const struct shard_desc *child)
{
    bool head = child->first_slot == s->first_slot && child->last_slot < s->last_slot;
    bool tail = child->last_slot == s->last_slot && child->first_slot > s->first_slot;
    if (s->phase != SHARD_PHASE_NONE || child->group == s->group || (!head && !tail) ||
        child->epoch.range != s->epoch.range + 1 || child->epoch.members != 1)
        return ERR_REFUSED;
    if (head)
        s->first_slot = (uint16_t)(child->last_slot + 1);
    else
        s->last_slot = (uint16_t)(child->first_slot - 1);
    s->epoch.range++;
    return ERR_OK;
}

static enum err apply_begin(struct shard *s, const struct shard_change *c)
{
    if (s->phase != SHARD_PHASE_NONE || c->op <= s->merge || !are_neighbours(s, &c->other))
        return ERR_REFUSED;
    s->phase = c->kind == SHARD_MERGE_TARGET ? SHARD_PHASE_TARGET : SHARD_PHASE_SOURCE;
    s->merge = c->op;
    s->merge_peer = c->other.group;
    s->peer_first = c->other.first_slot;
    s->peer_last = c->other.last_slot;
    return ERR_OK;
}

static void end_merge(struct shard *s, uint64_t op)
{
    s->phase = SHARD_PHASE_NONE;
    s->merge = op;
    s->merge_peer = 0;
    s->peer_first = s->peer_last = 0;
    s->frozen_index = 0;
}

static enum err apply_freeze(struct shard *s, const struct shard_change *c, uint64_t index)
{
    if (s->phase != SHARD_PHASE_SOURCE || s->merge != c->op)
        return ERR_REFUSED;
    s->phase = SHARD_PHASE_FROZEN;
    s->frozen_index = index;
    s->epoch.range++;
    return ERR_OK;
}

static enum err apply_own(struct shard *s, const struct shard_change *c)
{
    const struct shard_desc *source = &c->other;
    if (s->phase != SHARD_PHASE_TARGET || s->merge != c->op || source->group != s->merge_peer ||
        source->first_slot != s->peer_first || source->last_slot != s->peer_last ||
        !are_neighbours(s, source))
        return ERR_REFUSED;
    if (source->first_slot < s->first_slot)
        s->first_slot = source->first_slot;
    else
        s->last_slot = source->last_slot;
    s->epoch.range = next_range(s->epoch.range, source->epoch.range);
    if (c->source_version > s->version)
        s->version = c->source_version;
    if (c->source_time_ms > s->time_ms)
        s->time_ms = c->source_time_ms;
    end_merge(s, c->op);
    return ERR_OK;
}

/* An operator that this shard has not heard of yet is marked as over, too: its TARGET may still be
 * in the log of an old leader. */
static enum err apply_abort(struct shard *s, const struct shard_change *c)
{
    bool ours = s->phase == SHARD_PHASE_TARGET && s->merge == c->op;
    if (!ours && (s->phase != SHARD_PHASE_NONE || c->op <= s->merge))
        return ERR_REFUSED;
    end_merge(s, c->op);
    return ERR_OK;
}

static enum err apply_unfreeze(struct shard *s, const struct shard_change *c)
{
    bool ours =
        (s->phase == SHARD_PHASE_SOURCE || s->phase == SHARD_PHASE_FROZEN) && s->merge == c->op;
    if (!ours && (s->phase != SHARD_PHASE_NONE || c->op <= s->merge))
        return ERR_REFUSED;
    end_merge(s, c->op);
    s->epoch.range++;
    return ERR_OK;
}

static enum err apply_kind(struct shard *s, const struct shard_change *c, uint64_t index)
{
    struct shard copy = *s;
    switch (c->kind) {
    case SHARD_SPLIT:
        return apply_split(s, &c->other);
    case SHARD_MERGE_TARGET:
    case SHARD_MERGE_INTENT:
        return apply_begin(s, c);
    case SHARD_MERGE_FREEZE:
        return apply_freeze(s, c, index);
    case SHARD_MERGE_OWN:
        return apply_own(s, c);
    case SHARD_MERGE_ABORT:
        return apply_abort(s, c);
    case SHARD_MERGE_UNFREEZE:
        return apply_unfreeze(s, c);
    case SHARD_PREPARE:
        return apply_split(&copy, &c->other);
    default:
        return ERR_REFUSED;
    }
}

enum err shard_change_apply(struct shard *s, const struct shard_change *c, uint64_t index)
{
    CHECK(index > 0);
    if ((c->epoch.range != s->epoch.range || c->epoch.members != s->epoch.members) &&
        !SHARD_BUG(EPOCH))
        return ERR_WRONG_EPOCH;
    if (s->epoch.range == UINT32_MAX || c->other.epoch.range == UINT32_MAX)
        return ERR_REFUSED; /* the next one would be 0 */
    enum err e = apply_kind(s, c, index);
    if (e == ERR_OK && c->time_ms > s->time_ms)
        s->time_ms = c->time_ms;
    return e;
}
