#include "client/bench/op.h"

#include <stdlib.h>

#include "common/base/mem.h"

void op_run_init(struct op_run *run, const struct bench_options *o, const struct keys *keys)
{
    *run =
        (struct op_run){.o = o, .keys = keys, .read = KV_CALLOPTS_INIT, .write = KV_CALLOPTS_INIT};
    run->read.flags = KV_BORROW;
    run->read.read = o->read;
    run->read.max_staleness_ms = o->staleness_ms;
    run->write.flags = KV_BORROW | (o->ttl_ms ? KV_TTL : 0);
    run->write.ttl_ms = o->ttl_ms;
    if (o->if_version)
        run->versions = mem_zalloc(o->keys * sizeof(*run->versions));
}

void op_run_close(struct op_run *run)
{
    free(run->versions);
    run->versions = NULL;
}

void op_init(struct op *op, const struct bench_options *o)
{
    unsigned most = o->mget > o->batch ? o->mget : o->batch;
    most = most ? most : 1;
    *op = (struct op){.bytes = mem_zalloc((size_t)most * o->key_size),
                      .key = mem_zalloc(most * sizeof(kv_slice))};
    for (unsigned i = 0; i < most; i++)
        op->key[i] = kv_bytes(op->bytes + (size_t)i * o->key_size, o->key_size);
}

void op_close(struct op *op)
{
    free(op->bytes);
    free(op->key);
}

void op_set(struct op *op, const struct op_run *run, enum op_kind kind, uint64_t number)
{
    op->kind = kind;
    op->n = 1;
    op->number = number;
    keys_format(run->keys, number, op->bytes);
}

void op_choose(struct op *op, const struct op_run *run, struct rng *rng)
{
    const struct bench_options *o = run->o;
    uint64_t number = keys_next(run->keys, rng);
    bool is_read = rng_below(rng, 100) < o->reads;
    op_set(op, run, is_read ? OP_GET : OP_PUT, number);
    unsigned n = is_read ? o->mget : o->batch;
    if (!is_read && o->incr)
        op->kind = OP_INCR;
    if (n == 0)
        return;
    op->kind = is_read ? OP_MGET : OP_BATCH;
    op->n = n;
    for (unsigned i = 1; i < n; i++)
        keys_format(run->keys, keys_next(run->keys, rng), op->bytes + (size_t)i * o->key_size);
}

static kv_err run_batch(struct op *op, const struct op_run *run, kv_client *kv, void *arg)
{
    kv_batch *b = kv_batch_create();
    kv_err e = b ? KV_OK : KV_NO_MEMORY;
    for (unsigned i = 0; i < op->n && e == KV_OK; i++)
        e = kv_batch_put(b, op->key[i], run->value, &run->write);
    if (e == KV_OK)
        e = kv_batch_run_async(kv, b, NULL, run->many_done, arg);
    kv_batch_destroy(b);
    return e;
}

kv_err op_issue(struct op *op, const struct op_run *run, kv_client *kv, kv_slice value, void *arg)
{
    kv_callopts opts = run->write;
    switch (op->kind) {
    case OP_GET:
        return kv_get_async(kv, op->key[0], &run->read, run->done, arg);
    case OP_MGET:
        return kv_mget_async(kv, op->key, op->n, &run->read, run->many_done, arg);
    case OP_DEL:
        return kv_delete_async(kv, op->key[0], &opts, run->done, arg);
    case OP_INCR:
        return kv_incr_async(kv, op->key[0], 1, &opts, run->done, arg);
    case OP_BATCH:
        return run_batch(op, run, kv, arg);
    case OP_PUT:
        break;
    }
    if (run->versions) {
        opts.if_version = atomic_load_explicit(&run->versions[op->number], memory_order_relaxed);
        opts.flags |= opts.if_version ? KV_IF_VERSION : 0;
    }
    return kv_put_async(kv, op->key[0], value, &opts, run->done, arg);
}

void op_answered(const struct op *op, const struct op_run *run, kv_err err, const kv_result *r)
{
    /* After an unknown outcome, and where a failed condition did not tell: not known. */
    uint64_t version = err == KV_OK || err == KV_CONDITION_FAILED ? kv_result_version(r) : 0;
    if (run->versions && op->n == 1)
        atomic_store_explicit(&run->versions[op->number], version, memory_order_relaxed);
}
