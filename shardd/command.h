/* The replicated command: all writes of one group and turn, packed into one Raft entry.
 *
 *   u8 format (1)   u64 time_ms   u32 n_ops   then for each op:
 *   u8 kind   u8 flags   u16 key length   u32 value length   [u64 if_version]   key   value
 *
 * time_ms is the log's time: max(last log time, the leader's wall clock), it never runs back.
 * The bytes come from the WAL and from peers: decoding is bounds-checked.
 * Thread: any, pure.  Depends on: base. */
#ifndef SHARDD_COMMAND_H
#define SHARDD_COMMAND_H

#include "common/base/err.h"
#include "common/base/slice.h"

#define COMMAND_FORMAT 1

enum command_kind { COMMAND_PUT = 1, COMMAND_DELETE = 2 };
enum { COMMAND_IF_VERSION = 1, COMMAND_IF_ABSENT = 2 };

struct command_op {
    uint8_t kind, flags;
    struct slice key, value; /* borrowed */
    uint64_t if_version;     /* with COMMAND_IF_VERSION */
};

/* Starts a command in an empty buf; ops follow; command_finish() fills in time and count. */
void command_begin(struct buf *b);
void command_put_op(struct buf *b, const struct command_op *op);
void command_finish(struct buf *b, uint64_t time_ms, uint32_t n_ops);
/* Bytes that an op takes in a command. */
size_t command_op_size(const struct command_op *op);

struct command_reader {
    struct cursor cursor;
    uint64_t time_ms;
    uint32_t left; /* ops still to come */
};
/* ERR_FORMAT: a newer format; ERR_CORRUPT. */
MUST_USE enum err command_open(struct slice payload, struct command_reader *out);
/* The next op; ERR_CORRUPT if malformed. Only while left > 0. */
MUST_USE enum err command_next(struct command_reader *r, struct command_op *out);

#endif
