#include "common/raft/snapshot_wire.h"

#include "common/base/check.h"
#include "common/wire/frame.h"

#define RATE_MIN (64 * KIB)

void snapshot_put_get(struct buf *b, const struct snapshot_get *g)
{
    size_t begin = frame_begin(b, FRAME_SNAPSHOT_GET);

    buf_u64(b, g->id);
    buf_u32(b, g->file);
    buf_u64(b, g->offset);
    buf_u32(b, g->length);
    frame_finish(b, begin);
}

void snapshot_put_data(struct buf *b, const struct snapshot_data *d)
{
    CHECK(d->bytes.n > 0 && d->bytes.n <= SNAPSHOT_CHUNK_MAX);
    size_t begin = frame_begin(b, FRAME_SNAPSHOT_DATA);

    buf_u64(b, d->id);
    buf_u32(b, d->file);
    buf_u64(b, d->offset);
    buf_append(b, d->bytes.p, d->bytes.n);
    frame_finish(b, begin);
}

void snapshot_put_end(struct buf *b, const struct snapshot_end *e)
{
    size_t begin = frame_begin(b, FRAME_SNAPSHOT_END);

    buf_u64(b, e->id);
    buf_u32(b, (uint32_t)e->err);
    frame_finish(b, begin);
}

enum err snapshot_get_decode(struct slice body, struct snapshot_get *out)
{
    struct cursor c = cursor_of(body);
    struct snapshot_get g = {.id = cursor_u64(&c)};

    g.file = cursor_u32(&c);
    g.offset = cursor_u64(&c);
    g.length = cursor_u32(&c);
    if (c.bad || c.left.n > 0 || g.id == 0 || g.length == 0 || g.length > SNAPSHOT_CHUNK_MAX)
        return ERR_BAD_REQUEST;
    *out = g;
    return ERR_OK;
}

enum err snapshot_data_decode(struct slice body, struct snapshot_data *out)
{
    struct cursor c = cursor_of(body);
    struct snapshot_data d = {.id = cursor_u64(&c)};

    d.file = cursor_u32(&c);
    d.offset = cursor_u64(&c);
    d.bytes = c.left;
    if (c.bad || d.id == 0 || d.bytes.n == 0 || d.bytes.n > SNAPSHOT_CHUNK_MAX)
        return ERR_BAD_REQUEST;
    *out = d;
    return ERR_OK;
}

enum err snapshot_end_decode(struct slice body, struct snapshot_end *out)
{
    struct cursor c = cursor_of(body);
    struct snapshot_end e = {.id = cursor_u64(&c)};

    e.err = err_from_wire(cursor_u32(&c));
    if (c.bad || c.left.n > 0)
        return ERR_BAD_REQUEST;
    *out = e;
    return ERR_OK;
}

void snapshot_rate_init(struct snapshot_rate *r, uint64_t bytes_per_s)
{
    *r = (struct snapshot_rate){0};
    if (bytes_per_s == 0)
        return;
    r->bytes_per_s = bytes_per_s < RATE_MIN ? RATE_MIN : bytes_per_s;
    /* A bound far above any disk or network keeps the arithmetic below from overflowing. */
    if (r->bytes_per_s > 1024 * GIB)
        r->bytes_per_s = 1024 * GIB;
    r->burst = r->bytes_per_s / 4;
    r->tokens = (int64_t)r->burst;
}

void snapshot_rate_set(struct snapshot_rate *r, uint64_t bytes_per_s)
{
    uint64_t taken = r->taken;
    snapshot_rate_init(r, bytes_per_s);
    r->taken = taken;
}

uint64_t snapshot_rate_wait(struct snapshot_rate *r, uint64_t now)
{
    if (r->bytes_per_s == 0)
        return 0;
    uint64_t since = r->at == 0 ? 0 : now - r->at;
    if (since > NS_PER_S)
        since = NS_PER_S;
    /* In us, so that 2^40 bytes a second times one second fits; the rest stays for the next time.
     */
    uint64_t us = since / NS_PER_US;
    r->at = since == NS_PER_S || r->at == 0 ? now : r->at + us * NS_PER_US;
    r->tokens += (int64_t)(us * r->bytes_per_s / (NS_PER_S / NS_PER_US));
    if (r->tokens > (int64_t)r->burst)
        r->tokens = (int64_t)r->burst;
    if (r->tokens > 0)
        return 0;
    uint64_t debt = (uint64_t)-r->tokens + 1;
    return debt * (NS_PER_S / NS_PER_US) / r->bytes_per_s * NS_PER_US + NS_PER_US;
}

void snapshot_rate_take(struct snapshot_rate *r, uint64_t bytes)
{
    r->taken += bytes;
    if (r->bytes_per_s != 0)
        r->tokens -= (int64_t)bytes;
}
