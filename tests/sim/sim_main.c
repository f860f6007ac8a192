/* The simulator's command line.
 *
 *   sim [--seeds N] [--seed S] [--scenario FILE]... [--jobs J] [--bug NAME] [--verbose]
 *       [--list FILE]
 *
 * Each seed runs in a process of its own: a crash of the code under test is a finding, and the
 * memory that crashed processes of the simulated world leave behind goes with it. Several
 * scenarios take turns by seed. A list ("SCENARIO SEED" lines, # comments) runs before. Exit code:
 * 0 all well (with --bug: it was caught), 1 not. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/raft/group_guard.h"
#include "common/wal/wal_format.h"
#include "placementd/cluster_command.h"
#include "placementd/operator.h"
#include "shardd/merge.h"
#include "shardd/shard_bug.h"
#include "tests/sim/sim.h"
#include "tests/sim/violation.h"
#include "tests/sim/world.h"

#define MAX_SCENARIOS 64
#define MAX_JOBS 64
#define MAX_LISTED 64
#define SEED_SECONDS 180

struct options {
    uint64_t seed, seeds;
    const char *path[MAX_SCENARIOS];
    unsigned n_paths, jobs;
    const char *bug, *list;
    bool verbose;
};

/* One seed of one scenario. */
struct job {
    const struct scenario *scenario;
    const char *path;
    uint64_t seed;
};

struct slot {
    pid_t pid;
    struct job job;
};

static struct scenario scenarios[MAX_SCENARIOS]; /* as options.path */

static struct {
    char path[MAX_LISTED][256];
    struct scenario scenario[MAX_LISTED];
    uint64_t seed[MAX_LISTED];
    unsigned n;
} listed;

struct totals {
    uint64_t seeds, failed, idle;
    struct world_result sum;
};

static const struct {
    const char *name;
    unsigned bits, wal_bits, shard_bits;
} bugs[] = {
    {"vote-not-held", BUG_VOTE_NOT_HELD, 0, 0},
    {"ack-early", BUG_ACK_EARLY, 0, 0},
    {"read-local", BUG_READ_LOCAL, 0, 0},
    {"apply-early", BUG_APPLY_EARLY, 0, 0},
    {"read-no-term", BUG_READ_NO_TERM, 0, 0},
    {"keep-log", BUG_KEEP_LOG, 0, 0},
    {"lease-no-margin", BUG_LEASE_NO_MARGIN, 0, 0},
    {"lease-transfer", BUG_LEASE_TRANSFER, 0, 0},
    {"fsync-lies", 0, 0, 0},
    {"no-crc", 0, WAL_BUG_NO_CRC, 0},
    {"torn-always", 0, WAL_BUG_TORN_ALWAYS, 0},
    {"torn-never", 0, WAL_BUG_TORN_NEVER, 0},
    {"merge-early", 0, 0, 0},
    {"epoch-ignored", 0, 0, SHARD_BUG_EPOCH},
    {"tombstone-ignored", 0, 0, SHARD_BUG_TOMBSTONE},
    {"freeze-ignored", 0, 0, SHARD_BUG_FREEZE},
    {"split-stale", 0, 0, SHARD_BUG_MIRROR},
    {"destroy-early", 0, 0, 0},
    {"map-goes-back", 0, 0, 0},
    {"read-moved", 0, 0, SHARD_BUG_READ_MOVED},
    {"follower-reads-local", 0, 0, SHARD_BUG_FOLLOWER_LOCAL},
    {"dedupe-off", 0, 0, SHARD_BUG_DEDUPE},
    {"rows-forgotten", 0, 0, SHARD_BUG_ROWS},
    {"rows-late", 0, 0, SHARD_BUG_ROWS_LATE},
    {"expiry-local-clock", 0, 0, SHARD_BUG_EXPIRY},
};

static bool plant(const char *name)
{
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++) {
        if (strcmp(name, bugs[i].name) != 0)
            continue;
        group_test_bugs = bugs[i].bits;
        wal_test_bugs = bugs[i].wal_bits;
        if (strcmp(name, "fsync-lies") == 0)
            sim_disk_all_lie(true);
        shard_test_bugs = bugs[i].shard_bits;
        merge_test_early = strcmp(name, "merge-early") == 0;
        cluster_test_any_epoch = strcmp(name, "map-goes-back") == 0;
        operator_test_destroy_early = strcmp(name, "destroy-early") == 0;
        return true;
    }
    return false;
}

/* ---- one seed, in a process of its own ---- */

static void configure(const struct scenario *s)
{
    struct sim_net_config net = {
        .latency_min = (uint64_t)(s->latency_min_us * 1e3),
        .latency_max = (uint64_t)(s->latency_max_us * 1e3),
        .spike = s->spike,
        .spike_max = (uint64_t)(s->spike_ms * 1e6),
        .loss = s->loss,
    };

    sim_net_configure(&net);
}

static _Noreturn void run_seed(const struct options *o, const struct job *j,
                               struct world_result *out)
{
    const struct scenario *s = j->scenario;

    alarm(SEED_SECONDS);
    sim_set_verbose(o->verbose);
    sim_begin(j->seed);
    if (o->bug)
        CHECK(plant(o->bug));
    configure(s);
    if (s->full)
        full_world_run(s, out);
    else
        raft_world_run(s, out);
    fflush(stdout);
    _exit(0);
}

/* ---- many ---- */

static void add(struct totals *t, const struct world_result *r)
{
    struct world_result *s = &t->sum;

    s->events += r->events;
    s->ok += r->ok;
    s->failed += r->failed;
    s->unknown += r->unknown;
    s->leaderships += r->leaderships;
    s->entries += r->entries;
    s->crashes += r->crashes;
    s->lost_blocks += r->lost_blocks;
    s->lost_names += r->lost_names;
    s->io_errors += r->io_errors;
    s->resets += r->resets;
    s->faults += r->faults;
    s->no_space += r->no_space;
    s->flips += r->flips;
    s->refusals += r->refusals;
    s->damaged += r->damaged;
    s->seconds += r->seconds;
    for (unsigned k = 0; k < WORLD_KINDS; k++)
        for (unsigned e = 0; e < 3; e++)
            s->operators[k][e] += r->operators[k][e];
    t->idle += r->ok < 20 || r->idle;
}

/* The k-th of all: what is listed, then the seeds, the scenarios taking turns. */
static struct job job_of(const struct options *o, uint64_t k)
{
    if (k < listed.n)
        return (struct job){&listed.scenario[k], listed.path[k], listed.seed[k]};
    uint64_t seed = o->seed + k - listed.n;
    return (struct job){&scenarios[seed % o->n_paths], o->path[seed % o->n_paths], seed};
}

static void report_failure(const struct options *o, const struct job *j, int status)
{
    if (WIFSIGNALED(status))
        printf("seed %llu: ended by signal %d%s\n", (unsigned long long)j->seed, WTERMSIG(status),
               WTERMSIG(status) == SIGALRM ? " (it took too long)" : "");
    printf("FAILED seed %llu of %s\n  repeat: make sim SEED=%llu SCENARIO=%s%s%s\n",
           (unsigned long long)j->seed, j->path, (unsigned long long)j->seed, j->path,
           o->bug ? " BUG=" : "", o->bug ? o->bug : "");
    fflush(stdout);
}

static void print_totals(const struct totals *t)
{
    const struct world_result *s = &t->sum;

    printf(
        "sim: %llu seeds, %llu failed; %.0f simulated s, %llu events; operations: %llu ok, "
        "%llu failed, %llu unknown\n"
        "     %llu leaderships, %llu entries; %llu faults: %llu crashes, %llu blocks and %llu "
        "names lost, %llu I/O errors, %llu resets; %llu seeds with hardly any work\n"
        "     %llu writes without space, %llu bits flipped, %llu starts refused on damaged data, "
        "%llu hosts damaged\n",
        (unsigned long long)t->seeds, (unsigned long long)t->failed, s->seconds,
        (unsigned long long)s->events, (unsigned long long)s->ok, (unsigned long long)s->failed,
        (unsigned long long)s->unknown, (unsigned long long)s->leaderships,
        (unsigned long long)s->entries, (unsigned long long)s->faults,
        (unsigned long long)s->crashes, (unsigned long long)s->lost_blocks,
        (unsigned long long)s->lost_names, (unsigned long long)s->io_errors,
        (unsigned long long)s->resets, (unsigned long long)t->idle, (unsigned long long)s->no_space,
        (unsigned long long)s->flips, (unsigned long long)s->refusals,
        (unsigned long long)s->damaged);
}

static void print_operators(const struct world_result *s)
{
    static const char *const names[WORLD_KINDS] = {"",    "move",   "replace", "transfer",
                                                   "add", "remove", "split",   "merge"};
    uint64_t all = 0;

    for (unsigned k = 1; k < WORLD_KINDS; k++)
        all += s->operators[k][0] + s->operators[k][1] + s->operators[k][2];
    if (all == 0)
        return;
    printf("     operators done/cancelled/failed:");
    for (unsigned k = 1; k < WORLD_KINDS; k++)
        printf(" %s %llu/%llu/%llu", names[k], (unsigned long long)s->operators[k][0],
               (unsigned long long)s->operators[k][1], (unsigned long long)s->operators[k][2]);
    printf("\n");
}

static void run_all(const struct options *o, struct totals *t)
{
    struct slot slots[MAX_JOBS] = {0};
    struct world_result *results = mmap(NULL, MAX_JOBS * sizeof *results, PROT_READ | PROT_WRITE,
                                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint64_t next = 0, end = listed.n + o->seeds;
    unsigned busy = 0;

    CHECK(results != MAP_FAILED);
    while (busy > 0 || next < end) {
        unsigned at = 0;
        int status;
        pid_t pid;
        if (next < end && busy < o->jobs) {
            while (slots[at].pid)
                at++;
            memset(&results[at], 0, sizeof results[at]);
            slots[at].job = job_of(o, next++);
            fflush(stdout);
            slots[at].pid = fork();
            CHECK(slots[at].pid >= 0);
            if (slots[at].pid == 0)
                run_seed(o, &slots[at].job, &results[at]);
            busy++;
            continue;
        }
        pid = wait(&status);
        while (at < o->jobs && slots[at].pid != pid)
            at++;
        CHECK(at < o->jobs);
        busy--;
        slots[at].pid = 0;
        t->seeds++;
        if (status != 0) {
            t->failed++;
            report_failure(o, &slots[at].job, status);
            if (o->bug || t->failed >= 5)
                end = next; /* enough is known */
        } else {
            add(t, &results[at]);
        }
        if (end == 1 && status == 0)
            printf("seed %llu of %s: trace %016llx\n", (unsigned long long)slots[at].job.seed,
                   slots[at].job.path, (unsigned long long)results[at].trace);
    }
    munmap(results, MAX_JOBS * sizeof *results);
}

static bool parse(int argc, char **argv, struct options *o)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--verbose") == 0) {
            o->verbose = true;
            continue;
        }
        if (!v)
            return false;
        i++;
        if (strcmp(a, "--seeds") == 0)
            o->seeds = strtoull(v, NULL, 10);
        else if (strcmp(a, "--seed") == 0)
            o->seed = strtoull(v, NULL, 10);
        else if (strcmp(a, "--jobs") == 0)
            o->jobs = (unsigned)atoi(v);
        else if (strcmp(a, "--bug") == 0)
            o->bug = v;
        else if (strcmp(a, "--list") == 0)
            o->list = v;
        else if (strcmp(a, "--scenario") == 0 && o->n_paths < MAX_SCENARIOS)
            o->path[o->n_paths++] = v;
        else
            return false;
    }
    return o->n_paths > 0 && o->jobs > 0 && o->jobs <= MAX_JOBS;
}

/* A line of a list; empty ones count. */
static bool load_line(const char *line)
{
    unsigned k = listed.n;
    unsigned long long seed;
    char msg[512];

    if (line[strspn(line, " \t")] == 0)
        return true;
    if (k == MAX_LISTED || sscanf(line, " %255s %llu", listed.path[k], &seed) != 2) {
        fprintf(stderr, "sim: not \"SCENARIO SEED\", or one too many: %s\n", line);
        return false;
    }
    if (scenario_load(listed.path[k], &listed.scenario[k], msg, sizeof msg) != ERR_OK) {
        fprintf(stderr, "sim: %s\n", msg);
        return false;
    }
    listed.seed[listed.n++] = seed;
    return true;
}

static bool load_list(const char *path)
{
    FILE *f = fopen(path, "r");
    char line[512];
    bool good = true;

    if (!f) {
        fprintf(stderr, "sim: cannot read %s\n", path);
        return false;
    }
    while (good && fgets(line, sizeof line, f)) {
        line[strcspn(line, "#\n")] = 0;
        good = load_line(line);
    }
    fclose(f);
    return good;
}

int main(int argc, char **argv)
{
    struct options o = {.seed = 1, .seeds = 1, .jobs = 2};
    struct totals t = {0};
    char msg[512];

    if (!parse(argc, argv, &o)) {
        fprintf(stderr, "usage: sim --scenario FILE... [--seeds N] [--seed S] [--jobs J] "
                        "[--bug NAME] [--list FILE] [--verbose]\n");
        return 2;
    }
    for (unsigned i = 0; i < o.n_paths; i++)
        if (scenario_load(o.path[i], &scenarios[i], msg, sizeof msg) != ERR_OK) {
            fprintf(stderr, "sim: %s\n", msg);
            return 2;
        }
    if (o.bug && !plant(o.bug)) {
        fprintf(stderr, "sim: no such bug: %s\n", o.bug);
        return 2;
    }
    if (o.list && !load_list(o.list))
        return 2;
    run_all(&o, &t);
    print_totals(&t);
    print_operators(&t.sum);
    if (o.bug) {
        printf("bug %s: %s\n", o.bug, t.failed ? "caught" : "NOT caught");
        return t.failed ? 0 : 1;
    }
    return t.failed ? 1 : 0;
}
