/* Changes of a shard, from the WAL and from peers: what is accepted must be sound, must come back
 * the same after encoding, and leaves any shard that it is applied to sound. */
#include "common/base/check.h"
#include "shardd/shard_change.h"
#include "tests/fuzz/fuzz.h"

static void check_apply(const struct shard_change *c, struct shard s)
{
    s.epoch = c->epoch;
    struct shard before = s, read;
    if (shard_change_apply(&s, c, 7) != ERR_OK)
        s = before;
    else
        CHECK(c->kind == SHARD_MERGE_TARGET || c->kind == SHARD_MERGE_INTENT ||
              c->kind == SHARD_MERGE_ABORT || c->kind == SHARD_PREPARE ||
              s.epoch.range > before.epoch.range);
    struct buf bytes = {0};
    shard_encode(&s, &bytes);
    struct cursor cur = cursor_of(buf_slice(&bytes));
    CHECK(shard_decode(&cur, &read) == ERR_OK);
    CHECK(read.version >= before.version && read.time_ms >= before.time_ms);
    buf_close(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice raw = slice_of(data, size);
    struct shard_change c;
    enum err e = shard_change_decode(raw, &c);
    if (e != ERR_OK) {
        CHECK(e == ERR_CORRUPT || e == ERR_FORMAT);
        return 0;
    }
    struct buf again = {0};
    CHECK(shard_change_is(raw));
    shard_change_encode(&c, &again);
    CHECK(slice_eq(buf_slice(&again), raw));
    buf_close(&again);

    struct shard s = {.group = 1, .replica = 1, .first_slot = 100, .last_slot = 199};
    check_apply(&c, s);
    s.phase = SHARD_PHASE_TARGET;
    s.merge = c.op;
    s.merge_peer = c.other.group ? c.other.group : 2;
    s.peer_first = c.other.first_slot;
    s.peer_last = c.other.last_slot;
    check_apply(&c, s);
    s.phase = SHARD_PHASE_SOURCE;
    check_apply(&c, s);
    s.phase = SHARD_PHASE_FROZEN;
    s.frozen_index = 3;
    check_apply(&c, s);
    return 0;
}
