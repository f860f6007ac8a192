/* One operation of a lane: which kind and keys, and the call of the library.
 *
 * Owner: struct lane, which uses it again and again; the library borrows its bytes while it is
 * under way.  Thread: the lane's.  Depends on: kvclient.h, options, keys. */
#ifndef BENCH_OP_H
#define BENCH_OP_H

#include <stdatomic.h>

#include "client/bench/keys.h"
#include "client/bench/options.h"
#include "client/kvclient.h"

enum op_kind { OP_GET, OP_MGET, OP_PUT, OP_DEL, OP_INCR, OP_BATCH };
static inline bool op_is_read(enum op_kind kind)
{
    return kind == OP_GET || kind == OP_MGET;
}

/* What all operations of a run share. */
struct op_run {
    const struct bench_options *o;
    const struct keys *keys;
    kv_slice value;              /* of puts */
    _Atomic(uint64_t) *versions; /* --if-version: of each key as last seen, 0: not known; or NULL */
    kv_callopts read, write;
    kv_done done;
    kv_many_done many_done;
};
void op_run_init(struct op_run *run, const struct bench_options *o, const struct keys *keys);
void op_run_close(struct op_run *run);

struct op {
    enum op_kind kind;
    unsigned n;      /* keys */
    uint64_t number; /* of the first one */
    uint8_t *bytes;
    kv_slice *key;
};
void op_init(struct op *op, const struct bench_options *o);
void op_close(struct op *op);
/* By the mix of the options. */
void op_choose(struct op *op, const struct op_run *run, struct rng *rng);
/* That key alone. */
void op_set(struct op *op, const struct op_run *run, enum op_kind kind, uint64_t number);
/* `value` of a put, else run->value. */
kv_err op_issue(struct op *op, const struct op_run *run, kv_client *kv, kv_slice value, void *arg);
/* What an answer says of the key's version. */
void op_answered(const struct op *op, const struct op_run *run, kv_err err, const kv_result *r);

#endif
