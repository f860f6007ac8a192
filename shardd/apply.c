#include "shardd/apply.h"

#include "common/meta/slot.h"
#include "shardd/engine_key.h"

/* Why conditions need care: an operation must see the effect of every earlier one, also of those
 * in the same command, which are only in the batch yet. The earlier ones of the same key are found
 * by walking the command again from its start; that is quadratic only in conditional operations of
 * one command, and reads no memory but the command itself. */

enum err apply_needs_engine(struct slice payload, bool *out)
{
    struct command_reader r;
    enum err e = command_open(payload, &r);
    bool conditions = false;
    while (e == ERR_OK && r.left > 0 && !conditions) {
        struct command_op op;
        e = command_next(&r, &op);
        conditions = e == ERR_OK && op.flags != 0;
    }
    if (e == ERR_OK)
        *out = conditions;
    return e;
}

/* Outcomes of the command's operations so far: version given out, 0 for one that did nothing. */
struct outcome_log {
    struct buf versions; /* u64 each, native order; only kept if the command has conditions */
};

static uint64_t outcome(const struct outcome_log *log, uint32_t i)
{
    uint64_t v;
    memcpy(&v, log->versions.p + (size_t)i * sizeof v, sizeof v);
    return v;
}

/* The version of `key` as op number `at` of the command sees it; 0: absent. */
static enum err present_version(struct slice payload, uint32_t at, uint16_t slot, struct slice key,
                                struct engine_db *db, const struct outcome_log *log, uint64_t *out)
{
    struct command_reader r;
    enum err e = command_open(payload, &r);
    bool found = false;
    uint64_t version = 0;
    for (uint32_t i = 0; e == ERR_OK && i < at; i++) {
        struct command_op op;
        e = command_next(&r, &op);
        if (e == ERR_OK && outcome(log, i) != 0 && slice_eq(op.key, key)) {
            found = true;
            version = op.kind == COMMAND_PUT ? outcome(log, i) : 0;
        }
    }
    if (e != ERR_OK)
        return e;
    if (!found) {
        uint8_t raw[ENGINE_KEY_MAX];
        struct engine_value value;
        e = engine_get(db, engine_key_data(raw, slot, key), false, &value);
        if (e == ERR_OK) {
            struct engine_value_head head;
            struct slice body;
            e = engine_value_decode(value.data, &head, &body);
            version = head.version;
            engine_value_close(&value);
        } else if (e == ERR_NOT_FOUND) {
            e = ERR_OK;
        }
    }
    if (e == ERR_OK)
        *out = version;
    return e;
}

static void apply_op(struct shard *shard, const struct command_op *op, uint16_t slot,
                     struct engine_batch *batch, uint64_t *version)
{
    uint8_t raw[ENGINE_KEY_MAX];
    struct slice key = engine_key_data(raw, slot, op->key);
    *version = ++shard->version;
    if (shard->phase == SHARD_PHASE_SOURCE) {
        uint8_t change[ENGINE_CHANGE_MAX];
        engine_batch_put(batch, engine_key_change(change, *version, key), slice_of(NULL, 0));
    }
    if (op->kind == COMMAND_DELETE) {
        engine_batch_delete(batch, key);
        return;
    }
    uint8_t head[ENGINE_VALUE_HEAD_MAX];
    struct engine_value_head h = {.version = *version};
    engine_batch_put2(batch, key, engine_value_encode(head, &h), op->value);
}

enum err apply_command(struct shard *shard, struct slice payload, struct engine_db *db,
                       struct engine_batch *batch, apply_result_fn result, void *arg)
{
    struct command_reader r;
    bool conditions = false;
    enum err e = command_open(payload, &r);
    if (e == ERR_OK)
        e = apply_needs_engine(payload, &conditions);
    if (e != ERR_OK)
        return e;
    if (r.time_ms > shard->time_ms)
        shard->time_ms = r.time_ms;
    struct outcome_log log = {0};
    for (uint32_t i = 0; e == ERR_OK && r.left > 0; i++) {
        struct command_op op;
        e = command_next(&r, &op);
        if (e != ERR_OK)
            break;
        uint16_t slot = slot_of_key(op.key);
        uint64_t version = 0, given = 0;
        enum err verdict = shard_owns(shard, slot) ? ERR_OK : ERR_WRONG_SHARD;
        if (verdict == ERR_OK && op.flags != 0) {
            e = present_version(payload, i, slot, op.key, db, &log, &version);
            if (e != ERR_OK)
                break;
            if ((op.flags & COMMAND_IF_ABSENT && version != 0) ||
                (op.flags & COMMAND_IF_VERSION && version != op.if_version))
                verdict = ERR_CONDITION_FAILED;
        }
        if (verdict == ERR_OK) {
            apply_op(shard, &op, slot, batch, &given);
            version = given;
        }
        if (conditions)
            buf_append(&log.versions, &given, sizeof given);
        result(arg, i, verdict, version);
    }
    buf_close(&log.versions);
    return e;
}
