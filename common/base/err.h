/* Errors: one table gives the enum, the wire number, the retry class, the CLI's exit code and text.
 *
 * Functions return enum err, marked MUST_USE; outputs come last and are untouched on failure.
 * Numbers go over the wire and into scripts: never renumber, only add.
 * Owner: nobody, constants.  Thread: any.  Depends on: nothing. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

#define MUST_USE __attribute__((warn_unused_result))

/* What a client may do with an error. "Surely not applied" holds for every class but UNKNOWN. */
enum err_class {
    ERR_CLASS_DONE,    /* a definite answer, nothing to retry */
    ERR_CLASS_NEVER,   /* surely not applied; the same request will fail again */
    ERR_CLASS_BACKOFF, /* surely not applied; try again later, retry_ms says when */
    ERR_CLASS_REFRESH, /* surely not applied; the map in use is old: take the newer piece, retry */
    ERR_CLASS_UNKNOWN, /* it may have been applied: the outcome is unknown */
};

/* X(name, wire number, class, exit code of kvctl, text) */
#define ERR_TABLE(X)                                                                               \
    X(ERR_OK, 0, DONE, 0, "ok")                                                                    \
    X(ERR_NOT_FOUND, 1, DONE, 1, "no such key")                                                    \
    X(ERR_CONDITION_FAILED, 2, DONE, 1, "the condition does not hold")                             \
    X(ERR_NOT_A_NUMBER, 3, DONE, 1, "the value is no whole number, or the sum would not fit")      \
    X(ERR_NOT_APPLIED, 4, DONE, 1, "not done, as another operation of the batch failed")           \
    X(ERR_BAD_REQUEST, 10, NEVER, 2, "the request is malformed")                                   \
    X(ERR_UNKNOWN_METHOD, 11, NEVER, 2, "no such method")                                          \
    X(ERR_KEY_EMPTY, 12, NEVER, 2, "the key is empty")                                             \
    X(ERR_KEY_TOO_LARGE, 13, NEVER, 2, "the key is larger than the limit")                         \
    X(ERR_VALUE_TOO_LARGE, 14, NEVER, 2, "the value is larger than the limit")                     \
    X(ERR_TOO_LARGE, 15, NEVER, 2, "the message is larger than the limit")                         \
    X(ERR_PROTOCOL_VERSION, 16, NEVER, 6, "no protocol version in common")                         \
    X(ERR_FORBIDDEN, 17, NEVER, 5, "not allowed")                                                  \
    X(ERR_REFUSED, 18, NEVER, 5, "refused by a safety check")                                      \
    X(ERR_EXISTS, 19, NEVER, 5, "it exists already")                                               \
    X(ERR_WRONG_SHARD, 20, REFRESH, 6, "this group does not own the key's slot")                   \
    X(ERR_WRONG_EPOCH, 21, REFRESH, 6, "the shard map in use is older than the shard's")           \
    X(ERR_NOT_LEADER, 22, REFRESH, 6, "this replica is not the leader")                            \
    X(ERR_NO_LEADER, 23, BACKOFF, 3, "the group has no leader at the moment")                      \
    X(ERR_BUSY, 24, BACKOFF, 6, "overloaded; try again later")                                     \
    X(ERR_SHUTTING_DOWN, 25, REFRESH, 6, "the node is shutting down")                              \
    X(ERR_NO_SPACE, 26, BACKOFF, 6, "the disk is full")                                            \
    X(ERR_NOT_READY, 27, BACKOFF, 6, "not ready yet")                                              \
    X(ERR_CROSS_SLOT, 28, NEVER, 2, "the keys of an all-or-nothing batch differ in their slots")   \
    X(ERR_TIMEOUT, 30, UNKNOWN, 4, "no answer within the deadline; the outcome is unknown")        \
    X(ERR_UNKNOWN_OUTCOME, 31, UNKNOWN, 4, "the connection or leader was lost; outcome unknown")   \
    X(ERR_UNREACHABLE, 32, BACKOFF, 3, "no node could be reached")                                 \
    X(ERR_CLOSED, 33, NEVER, 3, "it is closed")                                                    \
    X(ERR_INTERNAL, 40, UNKNOWN, 6, "internal error")                                              \
    X(ERR_IO, 50, NEVER, 6, "input/output error")                                                  \
    X(ERR_CORRUPT, 51, NEVER, 6, "damaged data")                                                   \
    X(ERR_FORMAT, 52, NEVER, 6, "unknown or newer file format")                                    \
    X(ERR_LOCKED, 53, NEVER, 5, "in use by another process")                                       \
    X(ERR_FOREIGN, 54, NEVER, 5, "belongs to another cluster or node")                             \
    X(ERR_INCOMPLETE, 55, BACKOFF, 6, "more input or work is needed first")                        \
    X(ERR_UNSUPPORTED, 56, NEVER, 6, "not supported by this system")                               \
    X(ERR_ADDRESS_IN_USE, 57, NEVER, 6, "the address is in use")                                   \
    X(ERR_CONFIG, 58, NEVER, 2, "the configuration is wrong")                                      \
    X(ERR_INTERRUPTED, 59, NEVER, 6, "given up before it was done")

#define ERR_ENUM(name, number, cls, code, text) name = number,
enum err { ERR_TABLE(ERR_ENUM) };
#undef ERR_ENUM

/* "NOT_FOUND" for ERR_NOT_FOUND; "UNKNOWN" for a number not in the table. Static strings. */
const char *err_name(enum err e);
const char *err_text(enum err e);
enum err_class err_class(enum err e);
/* Exit code of kvctl for this error. */
int err_exit_code(enum err e);
/* A number from the wire; one not in the table becomes ERR_INTERNAL. */
enum err err_from_wire(unsigned long long number);
/* The errno that a file or memory operation left, as one of ours (ENOSPC -> ERR_NO_SPACE, ...). */
enum err err_from_errno(int error);

#endif
