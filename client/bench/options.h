/* kvbench's command line. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

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
    const char *history;
    unsigned gaps;     /* slot ranges watched for spans without a successful write; 0: none */
    unsigned interval; /* seconds between progress lines; 0: none */
    unsigned timeout_ms;
    uint64_t seed;
};

/* 0; or, with a message printed, the exit code (also for --help: then *exit_now with 0). */
int bench_options_parse(int argc, char **argv, struct bench_options *o, bool *exit_now);

#endif
