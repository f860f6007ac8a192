/* The bytes that a test of messages writes to and reads from.
 *
 * Owner: the test.  Thread: the test's.  Depends on: rpc. */
#ifndef UNIT_WIRE_MESSAGE_H
#define UNIT_WIRE_MESSAGE_H

#include <check.h>

#include "common/base/limits.h"
#include "common/wire/rpc.h"

#define B(s) slice_of(s, sizeof(s) - 1)

static struct buf b;

static inline void setup(void)
{
    b = (struct buf){0};
}

static inline void teardown(void)
{
    buf_close(&b);
}

/* The message in `b`, which holds nothing else. */
static inline struct rpc_message whole(void)
{
    struct rpc_message m;
    size_t n;
    ck_assert_int_eq(rpc_split(buf_slice(&b), LIMIT_FRAME, &n), ERR_OK);
    ck_assert_uint_eq(n, b.n);
    ck_assert_int_eq(rpc_decode(buf_slice(&b), &m), ERR_OK);
    return m;
}

#endif
