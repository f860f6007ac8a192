/* The replicated command: all writes of one group and turn, packed into one Raft entry.
 *
 *   u8 format (3)   u64 time_ms   u32 n_ops   u8 depends   then for each op:
 *   u8 kind   u8 flags   u16 key length   u32 value length
 *   [u64 if_version]  [u64 expiry_ms]  [session]  [i64 delta]   key   value
 *   session: [sid, 16 bytes, unless it is that of the last op that has one]
 *            u64 seq   u32 seq - ack   u64 until_ms
 *
 * time_ms is the log's time: max(last log time, the leader's wall clock), it never runs back. A
 * command without ops brings it up to the leader's clock.
 * "depends" is 1 if ops depend on what is there (command_depends()), so that nobody has to walk
 * through the command to find out.
 * A run is a sequence of ops of one slot that are all applied or none: all but its last one have
 * COMMAND_MORE. Format 1 (no sessions, no expiry) is read, too; 2 is shard_change.h's.
 * The bytes come from the WAL and from peers: decoding is bounds-checked.
 * Thread: any, pure.  Depends on: base. */
#ifndef SHARDD_COMMAND_H
#define SHARDD_COMMAND_H

#include "common/base/err.h"
#include "common/base/slice.h"

#define COMMAND_FORMAT 3
#define COMMAND_SESSION_ID 16u
/* What a command can say of `seq - ack`. */
#define COMMAND_ACK_BEHIND UINT32_MAX

enum command_kind { COMMAND_PUT = 1, COMMAND_DELETE = 2, COMMAND_INCR = 3, COMMAND_TOUCH = 4 };
enum {
    COMMAND_IF_VERSION = 1,
    COMMAND_IF_ABSENT = 2,
    COMMAND_EXPIRY = 4, /* put, touch; incr: of a key that it makes */
    COMMAND_SESSION = 8,
    COMMAND_SAME =
        16, /* in the bytes only: with COMMAND_SESSION, its sid is that of the one before */
    COMMAND_MORE = 32, /* the run goes on with the next op */
};

struct command_op {
    uint8_t kind, flags;
    struct slice key, value; /* borrowed; value: put only */
    uint64_t if_version;     /* with COMMAND_IF_VERSION */
    uint64_t expiry_ms;      /* with COMMAND_EXPIRY; the log's time */
    int64_t delta;           /* incr */
    /* with COMMAND_SESSION (msg_kv.h says what they mean) */
    const uint8_t *sid; /* borrowed */
    uint64_t seq, ack, until_ms;
};

/* Starts a command in an empty buf; ops follow; command_finish() fills in time and count. */
void command_begin(struct buf *b);
/* `last_sid`: of the last op of this command that has one (it must still be readable), NULL before
 * the first. */
void command_put_op(struct buf *b, const struct command_op *op, const uint8_t *last_sid);
void command_finish(struct buf *b, uint64_t time_ms, uint32_t n_ops);
/* What the op does is decided by what is there, or with others. */
static inline bool command_depends(const struct command_op *op)
{
    return (op->flags & (COMMAND_IF_VERSION | COMMAND_IF_ABSENT | COMMAND_MORE)) != 0 ||
           op->kind == COMMAND_INCR || op->kind == COMMAND_TOUCH;
}
#define COMMAND_OP_HEAD_MAX 68u
/* Bytes that an op takes in a command, at most; COMMAND_OP_HEAD_MAX without key and value. */
size_t command_op_size(const struct command_op *op);

struct command_reader {
    struct cursor cursor;
    uint64_t time_ms;
    uint32_t left;      /* ops still to come */
    bool depends;       /* some of them may; ERR_CORRUPT if not and one does */
    const uint8_t *sid; /* of the last op that has one */
};
/* ERR_FORMAT: a newer format; ERR_CORRUPT. */
MUST_USE enum err command_open(struct slice payload, struct command_reader *out);
/* The next op; ERR_CORRUPT if malformed, ERR_FORMAT if of a kind that is not known. Only while
 * left > 0. */
MUST_USE enum err command_next(struct command_reader *r, struct command_op *out);

#endif
