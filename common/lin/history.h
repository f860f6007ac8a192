/* What clients asked and were told, on one clock; checked key by key for linearizability. Written
 * and read as JSON lines (tests/README.md).
 *
 * Values should be unique to a write. Owner: the caller.  Thread: none of its own.
 * Depends on: checker_lin, base; history_json.c also on jansson. */
#ifndef LIN_HISTORY_H
#define LIN_HISTORY_H

#include <stdio.h>

#include "common/base/err.h"
#include "common/base/slice.h"
#include "common/lin/checker_lin.h"

struct history_text {
    char **e;
    size_t n, cap;
    uint32_t *index; /* open addressing: position + 1 */
    size_t index_cap;
};

enum history_state { HISTORY_OPEN, HISTORY_OK, HISTORY_FAIL, HISTORY_INFO };

struct history_op {
    struct lin_op op;
    uint32_t key;
    enum history_state state;
};

struct history {
    struct history_op *e;
    size_t n, cap;
    struct history_text keys, values; /* values[0] stands for "absent" */
};

void history_init(struct history *h);
void history_close(struct history *h);
uint32_t history_key(struct history *h, struct slice key);
uint32_t history_value(struct history *h, struct slice value);

/* A call at time t; gives its number. `value`: put, cas; `expected`: cas. */
size_t history_call(struct history *h, uint32_t client, enum lin_kind kind, uint32_t key,
                    uint32_t value, uint32_t expected, uint64_t t);
/* Its answer. `value`: what a get read. */
void history_ok(struct history *h, size_t op, uint32_t value, uint64_t t);
/* A cas whose condition did not hold. */
void history_refused(struct history *h, size_t op, uint64_t t);
void history_fail(struct history *h, size_t op, uint64_t t); /* surely not applied */
/* Unknown outcome; also what every operation without an answer counts as. */
void history_info(struct history *h, size_t op, uint64_t t);
unsigned history_count(const struct history *h, enum history_state state);

/* Checks all keys. The first that fails is explained in `why` (may be NULL). LIN_UNDECIDED only if
 * no key is LIN_BAD. */
enum lin_verdict history_check(const struct history *h, uint64_t budget, FILE *why);

void history_write(const struct history *h, FILE *out);
/* ERR_CORRUPT: `msg` has the line. */
MUST_USE enum err history_read(struct history *h, FILE *in, char *msg, size_t n);

#endif
