/* kvbench's command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "client/kvclient.h"

struct bench_options {
    const char *url;
    unsigned clients, pipeline, connections;
    unsigned reads; /* percent */
    uint64_t keys;
    bool zipfian;
    unsigned key_size, value_size;
    double seconds, warmup;
    uint64_t ops; /* 0: by time */
    double rate;  /* operations a second, open loop; 0: closed loop */
    bool load, json;
    kv_read read;
    unsigned staleness_ms; /* bounded */
    unsigned mget, batch;  /* keys of each read, of each write; 0: one, by a call for one */
    bool no_session, if_version, incr;
    unsigned ttl_ms; /* 0: none */
    const char *history;
    unsigned gaps;     /* slot ranges watched for spans without a successful write; 0: none */
    unsigned interval; /* seconds between progress lines; 0: none */
    unsigned timeout_ms;
    uint64_t seed;
};

/* 0; or, with a message printed, the exit code (also for --help: then *exit_now with 0). */
int bench_options_parse(int argc, char **argv, struct bench_options *o, bool *exit_now);

#endif
