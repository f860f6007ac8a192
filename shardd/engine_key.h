/* Layout of keys and values in a replica's database.
 *
 *   data key   'd'  slot as big-endian u16  the user's key    (so a range of slots is one range)
 *   meta key   'm'  name: "position" (Raft), "shard" (range, epoch, ...)
 *   session key 's'  slot as big-endian u16   session id, 16 bytes   u16 0
 *              (dedupe.h; value: the same head, its version and expiry as told there)
 *   change key 'c'  version as big-endian u64  a data key: what was put or deleted as that version
 *              while the shard is the source of a merge; empty value
 *   value      u8 format (1)  u8 flags (bit 0: has an expiry)  u64 version  [u64 expiry ms]
 *              the user's value      (little-endian)
 *
 * Thread: any, pure.  Depends on: base. */
#ifndef SHARDD_ENGINE_KEY_H
#define SHARDD_ENGINE_KEY_H

#include "common/base/err.h"
#include "common/base/limits.h"
#include "common/base/slice.h"

#define ENGINE_KEY_PREFIX 3u /* bytes before the user's key */
#define ENGINE_KEY_MAX (ENGINE_KEY_PREFIX + LIMIT_KEY)
#define ENGINE_CHANGE_PREFIX 9u /* bytes before the data key in a change key */
#define ENGINE_CHANGE_MAX (ENGINE_CHANGE_PREFIX + ENGINE_KEY_MAX)
#define ENGINE_SESSION_ID 16u
#define ENGINE_SESSION_KEY (3u + ENGINE_SESSION_ID + 2u)
#define ENGINE_SESSION_ROWS 16384u /* where 0 is written now, earlier releases numbered rows */
#define ENGINE_VALUE_FORMAT 1u
#define ENGINE_VALUE_HEAD_MAX 18u

/* Where the position of Raft and the shard's own state are kept. */
#define ENGINE_META_POSITION "position"
#define ENGINE_META_SHARD "shard"
/* Local to one replica, never part of what a snapshot means: children still to be made (split.c).
 */
#define ENGINE_META_CHILDREN "children"
/* Local too: how far the copy of a merge's source is (merge_copy.c). */
#define ENGINE_META_MERGE "merge"

/* Writes into `out`, which has room for ENGINE_KEY_PREFIX + key.n bytes, and gives a slice of it.
 */
struct slice engine_key_data(uint8_t *out, uint16_t slot, struct slice key);
/* out has room for 1 + strlen(name) bytes. */
struct slice engine_key_meta(uint8_t *out, const char *name);
/* A key from the database. ERR_CORRUPT: not a data key. `key` is borrowed from `raw`. */
MUST_USE enum err engine_key_split(struct slice raw, uint16_t *slot, struct slice *key);

/* `data` is a data key; out has room for ENGINE_CHANGE_PREFIX + data.n bytes. All changes lie in
 * [change key of 0, engine_key_changes_end()). */
struct slice engine_key_change(uint8_t *out, uint64_t version, struct slice data);
static inline struct slice engine_key_changes_end(void)
{
    return slice_of("d", 1);
}
/* ERR_CORRUPT: not a change key. `data` is borrowed from `raw`. */
MUST_USE enum err engine_key_change_split(struct slice raw, uint64_t *version, struct slice *data);

/* [from, to) holds all data keys of the slots first..last (inclusive). */
struct engine_key_range {
    uint8_t from[3], to[3];
    uint8_t to_len;
};
void engine_key_slots(uint16_t first, uint16_t last, struct engine_key_range *out);
static inline struct slice engine_key_from(const struct engine_key_range *r)
{
    return slice_of(r->from, sizeof r->from);
}
static inline struct slice engine_key_to(const struct engine_key_range *r)
{
    return slice_of(r->to, r->to_len);
}

struct slice engine_key_session(uint8_t out[ENGINE_SESSION_KEY], uint16_t slot, const uint8_t *sid);
/* ERR_CORRUPT: not a session key. `sid` is borrowed from `raw`. */
MUST_USE enum err engine_key_session_split(struct slice raw, const uint8_t **sid);
/* The session keys of the slots first..last. */
void engine_key_session_slots(uint16_t first, uint16_t last, struct engine_key_range *out);

struct engine_value_head {
    uint64_t version;
    bool has_expiry;
    uint64_t expiry_ms; /* wall clock, ms since 1970 */
};
/* Nobody sees it any more. `time_ms`: the log's time (shard.time_ms), never a clock's: so all
 * replicas see the same. */
static inline bool engine_value_expired(const struct engine_value_head *h, uint64_t time_ms)
{
    return h->has_expiry && h->expiry_ms <= time_ms;
}
/* Gives the bytes that stand before the user's value, for engine_batch_put2(). */
struct slice engine_value_encode(uint8_t out[ENGINE_VALUE_HEAD_MAX],
                                 const struct engine_value_head *h);
/* ERR_FORMAT: unknown format or flags; ERR_CORRUPT: too short. `body` is borrowed from `raw`. */
MUST_USE enum err engine_value_decode(struct slice raw, struct engine_value_head *h,
                                      struct slice *body);

#endif
