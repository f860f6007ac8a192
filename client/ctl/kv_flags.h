/* Flags of the commands on keys, each allowed where it means something.
 * Thread: main.  Depends on: ctl.h. */
#ifndef CTL_KV_FLAGS_H
#define CTL_KV_FLAGS_H

#include "client/ctl/ctl.h"

enum kv_flag {
    FLAG_TTL = 1,        /* --ttl 30s */
    FLAG_IF_VERSION = 2, /* --if-version N */
    FLAG_IF_ABSENT = 4,  /* --if-absent */
    FLAG_READ = 8,       /* --read session|bounded:500ms|any|linearizable */
    FLAG_RAW = 16,       /* --raw */
};

struct kv_flags {
    kv_callopts opts;
    bool raw;
};

/* Reads the flags of `allowed`; the other arguments are argv[optind..]. False: printed. */
bool kv_flags_parse(struct ctl *ctl, const char *command, unsigned allowed, int argc, char **argv,
                    struct kv_flags *out);

/* "500ms", "30s", "2m", "1h", "7d", "30" (seconds): 1 ms to 100 years. */
bool kv_flags_ttl(const char *text, uint64_t *ms);
/* "linearizable", "session", "any", "bounded:500ms". */
bool kv_flags_read(const char *text, kv_callopts *opts);
/* A whole number that fits, with a sign or without. */
bool kv_flags_number(const char *text, int64_t *out);

#endif
