#include "shardd/shard.h"

#ifdef SHARDKV_TEST_HOOKS
unsigned shard_test_bugs;
unsigned long long shard_test_clock;
#endif

#define SHARD_FORMAT 2
#define SHARD_FORMAT_1 1 /* without the merge */

void shard_encode(const struct shard *s, struct buf *out)
{
    buf_u8(out, SHARD_FORMAT);
    buf_u64(out, s->group);
    buf_u64(out, s->replica);
    buf_u16(out, s->first_slot);
    buf_u16(out, s->last_slot);
    buf_u32(out, s->epoch.range);
    buf_u32(out, s->epoch.members);
    buf_u64(out, s->version);
    buf_u64(out, s->time_ms);
    buf_u8(out, s->phase);
    buf_u64(out, s->merge);
    buf_u64(out, s->merge_peer);
    buf_u16(out, s->peer_first);
    buf_u16(out, s->peer_last);
    buf_u64(out, s->frozen_index);
}

static bool merge_is_sound(const struct shard *s)
{
    bool under_way = s->phase != SHARD_PHASE_NONE;
    return s->phase <= SHARD_PHASE_FROZEN && under_way == (s->merge_peer != 0) &&
           (!under_way || s->merge != 0) && s->peer_first <= s->peer_last &&
           s->peer_last < LIMIT_SLOTS && (s->phase == SHARD_PHASE_FROZEN) == (s->frozen_index != 0);
}

enum err shard_decode(struct cursor *c, struct shard *out)
{
    struct shard s = {0};
    uint8_t format = cursor_u8(c);
    if (!c->bad && format != SHARD_FORMAT && format != SHARD_FORMAT_1)
        return ERR_FORMAT;
    s.group = cursor_u64(c);
    s.replica = cursor_u64(c);
    s.first_slot = cursor_u16(c);
    s.last_slot = cursor_u16(c);
    s.epoch.range = cursor_u32(c);
    s.epoch.members = cursor_u32(c);
    s.version = cursor_u64(c);
    s.time_ms = cursor_u64(c);
    if (format == SHARD_FORMAT) {
        s.phase = cursor_u8(c);
        s.merge = cursor_u64(c);
        s.merge_peer = cursor_u64(c);
        s.peer_first = cursor_u16(c);
        s.peer_last = cursor_u16(c);
        s.frozen_index = cursor_u64(c);
    }
    if (c->bad || s.group == 0 || s.replica == 0 || s.first_slot > s.last_slot ||
        s.last_slot >= LIMIT_SLOTS || !merge_is_sound(&s))
        return ERR_CORRUPT;
    *out = s;
    return ERR_OK;
}
