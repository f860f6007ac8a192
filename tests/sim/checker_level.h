/* What the weaker read levels promise, judged at each answer:
 *
 *   all        a value that was once written to this key, under the version that it was given
 *   session    nothing older than what this process had written or read, of this key, when it asked
 *   bounded    nothing older than what had been acknowledged, or read by a linearizable read, the
 *              bound before it asked, by the world's true time
 *
 * Old and new are told by versions: they grow within a slot for ever. An answer "no such key" says
 * by its position how new it is.
 *
 * Owner: full_world.c.  Depends on: checker_lin's LIN_ABSENT. */
#ifndef SIM_CHECKER_LEVEL_H
#define SIM_CHECKER_LEVEL_H

#include <stdint.h>

#include "client/client_core.h"

#define LEVEL_PROCESSES 2u
#define LEVEL_KEYS 64u

/* A weaker read under way. */
struct level_read {
    uint8_t level; /* 0: it is none */
    unsigned process, key;
    uint64_t called, staleness; /* ns */
    uint64_t seen;              /* session: what it must not be older than */
};

void checker_level_begin(void);
/* `percent` of the gets are made weaker reads: fills in the op's level and *r. */
void checker_level_draw(struct level_read *r, struct client_op *op, unsigned percent,
                        unsigned process, unsigned key);
/* A put of this value begins. */
void checker_level_wrote(unsigned key, uint32_t value);
/* A write (LIN_ABSENT: a delete) or a linearizable read has succeeded. `version` 0: there is no
 * key; `at` then. */
void checker_level_saw(unsigned process, unsigned key, uint32_t value,
                       const struct client_result *result);
/* The answer, ERR_OK or ERR_NOT_FOUND; `value` as in the history. */
void checker_level_answered(const struct level_read *r, uint32_t value,
                            const struct client_result *result);
/* Answers that were judged, by level. */
uint64_t checker_level_judged(uint8_t level);

#endif
