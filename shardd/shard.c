#include "shardd/shard.h"

#define SHARD_FORMAT 1

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
}

enum err shard_decode(struct cursor *c, struct shard *out)
{
    struct shard s = {0};
    uint8_t format = cursor_u8(c);
    if (!c->bad && format != SHARD_FORMAT)
        return ERR_FORMAT;
    s.group = cursor_u64(c);
    s.replica = cursor_u64(c);
    s.first_slot = cursor_u16(c);
    s.last_slot = cursor_u16(c);
    s.epoch.range = cursor_u32(c);
    s.epoch.members = cursor_u32(c);
    s.version = cursor_u64(c);
    s.time_ms = cursor_u64(c);
    if (c->bad || s.group == 0 || s.replica == 0 || s.first_slot > s.last_slot ||
        s.last_slot >= LIMIT_SLOTS)
        return ERR_CORRUPT;
    *out = s;
    return ERR_OK;
}
