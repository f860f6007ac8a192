/* Linearizability of one key: a register with put, get, delete and compare-and-set.
 *
 * The search of Wing and Gong, with Lowe's memoisation: take any operation that began before every
 * other pending one returned, apply it to the register, go on; back out where nothing fits; never
 * visit the same (set of operations taken, value) twice. Keys are independent (locality), so a
 * history is checked key by key.
 *
 * An operation of unknown outcome may take effect at any time after its call, or never: it gets an
 * infinite return time, and coming after everything else is as good as never.
 *
 * Thread: none of its own.  Depends on: base.
 * Source: Herlihy and Wing 1990; Lowe, "Testing for linearizability", 2017. */
#ifndef LIN_CHECKER_LIN_H
#define LIN_CHECKER_LIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIN_ABSENT 0u /* no value */
#define LIN_FOREVER UINT64_MAX

enum lin_kind { LIN_PUT, LIN_GET, LIN_DEL, LIN_CAS };

struct lin_op {
    uint32_t client;
    enum lin_kind kind;
    uint32_t value;     /* put, cas: what is written; get: what was read */
    uint32_t expected;  /* cas */
    bool failed;        /* cas: the answer was "the condition does not hold" */
    uint64_t call, ret; /* ret LIN_FOREVER: the outcome is unknown */
    size_t where;       /* the caller's, for explanations */
};

enum lin_verdict { LIN_OK, LIN_BAD, LIN_UNDECIDED };

/* Checks n operations on one key that begins with the value `first`. Reorders `ops`. Reads of
 * unknown outcome must be left out. LIN_UNDECIDED after `budget` steps. */
enum lin_verdict lin_check(struct lin_op *ops, size_t n, uint32_t first, uint64_t budget);

/* For a LIN_BAD history: reduces `ops` to few operations that are still not linearizable by
 * themselves, and returns their number: the shortest beginning in time that fails, then without
 * reads and writes that do not matter. A write goes only when nothing left has seen its value. */
size_t lin_minimize(struct lin_op *ops, size_t n, uint32_t first, uint64_t budget);

#endif
