/* See sim_shardd.h. */
#include "tests/sim/sim_shardd.h"

#include <stdio.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "tests/sim/nemesis.h"
#include "tests/sim/sim.h"
#include "tests/sim/sim_placement.h"

static void check(unsigned number, enum err e, const char *msg)
{
    if (e != ERR_OK)
        nemesis_cannot_start(number, e, "shardd", msg);
}

static void on_fatal(void *arg, enum err why, const char *text)
{
    (void)arg;
    (void)why;
    sim_exit(text);
}

static void on_changed(void *arg, struct core *c)
{
    struct sim_shardd *s = arg;

    if (s->watch)
        s->watch(c);
    if (s->front)
        front_on_changed(s->front, c);
}

static struct io_addr address(unsigned host, unsigned port)
{
    char text[64];
    struct io_addr a;

    snprintf(text, sizeof text, "127.0.0.%u:%u", host, port);
    CHECK(io_addr_parse(text, &a) == ERR_OK);
    return a;
}

struct sim_shardd *sim_shardd_start(unsigned number, unsigned cores, const struct scenario *from)
{
    unsigned host = from->hosts ? (number - from->placements - 1) % from->hosts : number;
    struct sim_shardd *s = mem_zalloc(sizeof *s);
    struct front_options fo = {.node = &s->node, .data_dir = &s->dir};
    struct engine_options eo = {0};
    char path[32], msg[512] = "";

    s->number = number;
    snprintf(s->name, sizeof s->name, "s%u", number);
    snprintf(s->host, sizeof s->host, "h%u", host);
    snprintf(s->zone, sizeof s->zone, "z%u", host % (from->zones ? from->zones : 1));
    snprintf(path, sizeof path, "/n%u/data", number);
    check(number,
          data_dir_open(path, "shardd", s->name, sim_random() | 1, cores, &s->dir, msg, sizeof msg),
          msg);
    s->node = (struct node){
        .options = {.data_dir = s->dir.path,
                    .name = s->name,
                    .zone = s->zone,
                    .host = s->host,
                    .incarnation = s->dir.stamp.incarnation,
                    .cores = cores,
                    .key_max = LIMIT_KEY,
                    .value_max = LIMIT_VALUE_DEFAULT,
                    .wal_segment_size = from->segment_kib * KIB,
                    .log_memory = 256 * KIB,
                    .session_retention_ms = from->retention_ms,
                    .merge_chunk = 200,
                    .election_timeout_ms = 300,
                    .heartbeat_ms = 50,
                    .read_lease = from->lease != 0},
        .on_fatal = on_fatal,
        .on_changed = on_changed,
        .arg = s,
    };
    check(number, engine_create(&eo, &s->node.engine, msg, sizeof msg), msg);
    for (unsigned i = 0; i < cores; i++) {
        struct io_options io_options = {.core = i};
        struct io *io;
        CHECK(io_create(&io_options, &io, msg, sizeof msg) == ERR_OK);
        check(number,
              core_create(&s->node, i, io, s->dir.stamp.cluster, s->dir.stamp.node,
                          &s->node.core[i], msg, sizeof msg),
              msg);
    }
    check(number, front_load_map(&s->node, msg, sizeof msg), msg);
    fo.client = address(number, SIM_SHARDD_CLIENT_PORT);
    fo.peer = address(number, SIM_SHARDD_PEER_PORT);
    fo.n_placement = from->placements;
    for (unsigned i = 0; i < from->placements; i++)
        fo.placement[i] = address(i + 1, SIM_PLACEMENT_CLIENT_PORT);
    check(number, front_create(&fo, &s->front, msg, sizeof msg), msg);
    for (unsigned i = 0; i < cores; i++)
        io_again(s->node.core[i]->io);
    return s;
}
