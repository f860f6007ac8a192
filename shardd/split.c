#include "shardd/split.h"

#include <inttypes.h>
#include <stdio.h>

#include "shardd/core.h"
#include "shardd/engine_key.h"

/* What is to be done for a child, kept in the parent's database until it is done: meta key
 * "child/<group>", value u8 format, u64 version and u64 time_ms of the parent at the entry, then
 * the entry. */
#define PENDING_FORMAT 1u
#define PENDING_NAME ENGINE_META_CHILD "%016" PRIx64
#define PENDING_KEY_MAX 40u

static struct slice pending_key(uint8_t out[PENDING_KEY_MAX], uint64_t group)
{
    char name[PENDING_KEY_MAX];
    snprintf(name, sizeof name, PENDING_NAME, group);
    return engine_key_meta(out, name);
}

void split_applied(struct replica *r, const struct shard_change *c, uint64_t index)
{
    struct buf value = {0};
    uint8_t key[PENDING_KEY_MAX];
    (void)index;
    buf_u8(&value, PENDING_FORMAT);
    buf_u64(&value, r->shard.version);
    buf_u64(&value, r->shard.time_ms);
    shard_change_encode(c, &value);
    engine_batch_put(r->batch, pending_key(key, c->other.group), buf_slice(&value));
    buf_close(&value);
}
