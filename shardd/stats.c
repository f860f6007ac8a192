#include "shardd/stats.h"

#include "common/base/check.h"

enum stats_result stats_result_of(enum err e)
{
    switch (e) {
    case ERR_OK:
        return STATS_OK;
    case ERR_NOT_FOUND:
    case ERR_CONDITION_FAILED:
    case ERR_NOT_A_NUMBER:
    case ERR_NOT_APPLIED:
        return STATS_NEGATIVE;
    case ERR_WRONG_SHARD:
    case ERR_WRONG_EPOCH:
    case ERR_NOT_LEADER:
    case ERR_SHUTTING_DOWN:
        return STATS_REDIRECT;
    case ERR_BUSY:
    case ERR_NOT_READY:
        return STATS_BUSY;
    case ERR_NO_SPACE:
        return STATS_NO_SPACE;
    case ERR_NO_LEADER:
        return STATS_NO_LEADER;
    case ERR_TIMEOUT:
    case ERR_UNKNOWN_OUTCOME:
        return STATS_TIMEOUT;
    default:
        return err_class(e) == ERR_CLASS_NEVER && e < ERR_EXISTS ? STATS_INVALID : STATS_FAILED;
    }
}

const char *stats_result_name(enum stats_result r)
{
    static const char *const names[STATS_RESULTS] = {"ok",      "negative", "redirect",
                                                     "busy",    "no_space", "no_leader",
                                                     "timeout", "invalid",  "failed"};
    CHECK(r < STATS_RESULTS);
    return names[r];
}

const char *stats_method_name(unsigned method)
{
    CHECK(method < STATS_METHODS);
    return msg_kv_method_name((enum kv_method)method) + 3; /* without "kv." */
}

void stats_answered(struct core_stats *s, unsigned method, enum err e, uint64_t ns)
{
    CHECK(method < STATS_METHODS);
    s->answers[method][stats_result_of(e)]++;
    latency_add(msg_kv_is_read((enum kv_method)method) ? &s->read : &s->write, ns);
}
