/* What 1,000 nodes' heartbeats cost the leader of placementd.
 *
 *   bench_placement [--nodes 1000] [--groups 5333] [--seconds 5] [--operators 100]
 *       in process: each heartbeat is split, decoded, taken down, judged and answered, as request.c
 *       does it, without sockets and the log
 *   bench_placement --connect IP:PORT --pid PID [...]
 *       senders on real connections to a placementd that runs alone and is empty: registers the
 *       nodes, lays the groups out, then reports once a second; its processor time is read from
 *       /proc
 *
 * Prints one JSON line: core_percent is the share of one core at one heartbeat a node a second. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/wire/msg_map.h"
#include "common/wire/msg_heartbeat.h"
#include "common/wire/msg_placement.h"
#include "common/wire/rpc.h"
#include "placementd/driver.h"
#include "placementd/heartbeat.h"

#define REPLICAS 3u

static uint32_t n_nodes = 1000, n_groups = 5333, n_operators = 100, seconds = 5;
static const char *connect_to;
static int pid;

static struct cluster cluster;
static struct msg_heartbeat *report; /* one a node */

static double now_s(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_placement: %s\n", what);
    exit(1);
}

/* ---- the cluster ---- */

static void describe(uint32_t i, struct shard_desc *d)
{
    *d =
        (struct shard_desc){.group = i + 1,
                            .first_slot = (uint16_t)((uint64_t)i * LIMIT_SLOTS / n_groups),
                            .last_slot = (uint16_t)((uint64_t)(i + 1) * LIMIT_SLOTS / n_groups - 1),
                            .epoch = {1, 1},
                            .n_replicas = REPLICAS};
    for (uint32_t k = 0; k < REPLICAS; k++)
        d->replica[k] = (struct shard_replica){(uint64_t)i * REPLICAS + k + 1,
                                               (i * REPLICAS + k * 7) % n_nodes + 1, 1};
}

static void register_of(uint32_t node, struct msg_register *r)
{
    *r = (struct msg_register){.incarnation = node, .cores = 2};
    snprintf(r->name, sizeof(r->name), "node-%u", node);
    snprintf(r->host, sizeof(r->host), "host-%u", node);
    snprintf(r->client_addr, sizeof(r->client_addr), "127.0.0.1:%u", node + 1000);
    snprintf(r->peer_addr, sizeof(r->peer_addr), "127.0.0.1:%u", node + 20000);
}

static void make_cluster(void)
{
    struct shard_desc d;
    cluster_init(&cluster);
    cluster.founded = true;
    for (uint32_t i = 1; i <= n_nodes; i++) {
        struct msg_register r;
        struct cluster_node n = {.id = i, .state = CLUSTER_NODE_IN, .incarnation = i};
        register_of(i, &r);
        memcpy(n.name, r.name, sizeof(n.name));
        memcpy(n.host, r.host, sizeof(n.host));
        cluster_add_node(&cluster, &n);
    }
    for (uint32_t i = 0; i < n_groups; i++) {
        describe(i, &d);
        cluster_add_group(&cluster, &d)->created = 7;
    }
    cluster.next_node = n_nodes + 1;
    cluster.next_group = n_groups + 1;
    cluster.next_replica = (uint64_t)n_groups * REPLICAS + 1;
}

static void add_status(const struct shard_desc *d, uint32_t k)
{
    struct msg_heartbeat *h = &report[d->replica[k].node];
    struct msg_group_status *s = &h->groups[h->n_groups++];
    *s = (struct msg_group_status){.group = d->group,
                                   .replica = d->replica[k].replica,
                                   .role = 1,
                                   .state = k ? MSG_REPLICA_FOLLOWER : MSG_REPLICA_LEADER,
                                   .term = 3,
                                   .epoch = d->epoch,
                                   .first_slot = d->first_slot,
                                   .last_slot = d->last_slot,
                                   .leader = d->replica[0].replica,
                                   .applied = 123456789,
                                   .bytes = 20 * GIB,
                                   .keys = 20000000};
    for (uint32_t i = 0; k == 0 && i < d->n_replicas; i++)
        s->member[s->n_members++] =
            (struct msg_member_status){d->replica[i].replica, d->replica[i].node, 1, 123456789};
}

static void make_reports(const struct cluster *c)
{
    report = mem_zalloc((n_nodes + 1) * sizeof(*report));
    for (uint32_t i = 1; i <= n_nodes; i++) {
        report[i] = (struct msg_heartbeat){.node = i,
                                           .incarnation = i,
                                           .disk_free = 700 * GIB,
                                           .disk_size = 1000 * GIB,
                                           .version = "0.1.0"};
        report[i].groups = mem_zalloc(4096 * sizeof(*report[i].groups));
    }
    for (uint32_t i = 0; i < c->n_groups; i++)
        for (uint32_t k = 0; k < c->groups[i].desc.n_replicas; k++)
            add_status(&c->groups[i].desc, k);
}

/* ---- in process ---- */

static uint64_t commands;

static enum err on_propose(void *arg, const struct cluster_command *cmd, uint64_t *index,
                           uint64_t *term)
{
    (void)arg;
    (void)cmd;
    *index = *term = ++commands;
    return ERR_OK;
}

static void count_command(void *arg, const struct cluster_command *cmd)
{
    uint64_t index, term;
    if (on_propose(arg, cmd, &index, &term) != ERR_OK)
        die("a command was refused");
}

static void serve(struct liveness *l, struct driver *d, struct slice in, uint64_t now,
                  struct buf *out)
{
    static struct msg_step steps[HEARTBEAT_STEPS_MAX];
    struct msg_heartbeat_reply reply = {.steps = steps};
    struct msg_heartbeat h;
    struct rpc_message m;
    size_t n;
    if (rpc_split(in, LIMIT_FRAME, &n) != ERR_OK || rpc_decode(slice_of(in.p, n), &m) != ERR_OK ||
        msg_heartbeat_decode(m.params, &h) != ERR_OK)
        die("a heartbeat does not decode");
    struct driver_moment moment = {&cluster, l, now, now / NS_PER_MS};
    liveness_report(l, &cluster, &h, now, NULL, NULL);
    heartbeat_commands(&cluster, &h, count_command, NULL);
    driver_report(d, &moment, &h);
    reply.n_steps = heartbeat_steps(&cluster, l, &h, now, steps);
    msg_heartbeat_reply_encode(out, m.msgid, &reply);
    msg_heartbeat_close(&h);
}

static void add_operators(void)
{
    for (uint32_t i = 0; i < n_operators; i++) {
        struct cluster_command cmd = {.kind = CLUSTER_CMD_OPERATOR_ADD};
        struct cluster_result r;
        const struct shard_desc *g = &cluster.groups[i * (n_groups / (n_operators + 1))].desc;
        cmd.op = (struct cluster_operator){.id = 1,
                                           .kind = CLUSTER_OP_TRANSFER_LEADER,
                                           .group = g->group,
                                           .epoch = g->epoch,
                                           .n_steps = 1};
        cmd.op.step[0] =
            (struct cluster_step){CLUSTER_STEP_TRANSFER_LEADER, 0, g->replica[1].replica};
        cluster_apply(&cluster, &cmd, NULL, &r);
        if (r.err != ERR_OK)
            die(r.text);
    }
}

static void in_process(void)
{
    struct liveness l;
    struct driver d;
    struct driver_options o = {.plan = {.replicas = 3, .max_moves = 2, .max_groups = LIMIT_SLOTS},
                               .down_after_ns = 600 * NS_PER_S,
                               .stall_ms = 120000,
                               .propose = on_propose};
    struct buf *in = mem_zalloc((n_nodes + 1) * sizeof(*in)), out = {0};
    uint64_t now = 1000 * NS_PER_S;
    size_t bytes = 0;
    make_cluster();
    make_reports(&cluster);
    liveness_init(&l, now);
    driver_init(&d, &o);
    driver_reset(&d, now);
    struct driver_moment m = {&cluster, &l, now, now / NS_PER_MS};
    add_operators();
    for (uint32_t i = 1; i <= n_nodes; i++) {
        msg_heartbeat_encode(&in[i], i, &report[i]);
        bytes += in[i].n;
    }
    double busy = 0, turns = 0;
    for (uint32_t s = 0; s < seconds; s++) {
        double from = now_s(CLOCK_PROCESS_CPUTIME_ID);
        for (uint32_t i = 1; i <= n_nodes; i++) {
            serve(&l, &d, buf_slice(&in[i]), now, &out);
            buf_clear(&out);
        }
        double mid = now_s(CLOCK_PROCESS_CPUTIME_ID);
        busy += mid - from;
        for (int tick = 0; tick < 10; tick++) {
            now += NS_PER_S / 10;
            m.now = now;
            m.wall_ms = now / NS_PER_MS;
            driver_turn(&d, &m);
        }
        driver_applied(&d, commands);
        turns += now_s(CLOCK_PROCESS_CPUTIME_ID) - mid;
    }
    printf("{\"nodes\": %u, \"groups\": %u, \"operators\": %u, \"heartbeat_bytes\": %zu, "
           "\"us_per_heartbeat\": %.1f, \"core_percent\": %.2f, \"driver_core_percent\": %.2f, "
           "\"rounds\": %llu}\n",
           n_nodes, n_groups, n_operators, bytes / n_nodes, busy / seconds / n_nodes * 1e6,
           busy / seconds * 100, turns / seconds * 100, (unsigned long long)d.rounds);
}

/* ---- a real placementd ---- */

static int dial(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    char host[64];
    const char *colon = strchr(connect_to, ':');
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (!colon || fd < 0)
        die("--connect IP:PORT");
    snprintf(host, sizeof(host), "%.*s", (int)(colon - connect_to), connect_to);
    a.sin_port = htons((uint16_t)atoi(colon + 1));
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1 ||
        connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        die("cannot connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static void put(int fd, const struct buf *b)
{
    for (size_t at = 0; at < b->n;) {
        ssize_t n = write(fd, b->p + at, b->n - at);
        if (n <= 0)
            die("the connection is gone");
        at += (size_t)n;
    }
}

static struct rpc_message get(int fd, struct buf *in)
{
    struct rpc_message m;
    size_t n;
    buf_clear(in);
    for (;;) {
        if (in->n && rpc_split(buf_slice(in), LIMIT_FRAME, &n) == ERR_OK && n) {
            if (rpc_decode(slice_of(in->p, n), &m) != ERR_OK)
                die("an answer does not decode");
            return m;
        }
        uint8_t bytes[16384];
        ssize_t got = read(fd, bytes, sizeof(bytes));
        if (got <= 0)
            die("the connection is gone");
        buf_append(in, bytes, (size_t)got);
    }
}

static double cpu_of(void)
{
    char path[64], line[1024];
    unsigned long user = 0, sys = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f || !fgets(line, sizeof(line), f))
        die("no such process: --pid");
    fclose(f);
    const char *p = strrchr(line, ')');
    if (!p ||
        sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &sys) != 2)
        die("/proc does not read");
    return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

/* Every answer has come, and none is an error. */
static void one_round(const int *fd, const struct buf *out, struct buf *in)
{
    for (uint32_t i = 1; i <= n_nodes; i++)
        put(fd[i], &out[i]);
    for (uint32_t i = 1; i <= n_nodes; i++)
        if (get(fd[i], in).error.n > 0)
            die("a heartbeat was refused");
}

static void lay_out(int fd, struct buf *b, struct buf *in)
{
    struct msg_init init = {.groups = n_groups, .replicas = REPLICAS};
    buf_clear(b);
    msg_init_encode(b, 1, &init);
    put(fd, b);
    if (get(fd, in).error.n > 0)
        die("cluster.init was refused");
}

static void take_map(int fd, struct buf *b, struct buf *in)
{
    struct shard_map map;
    buf_clear(b);
    msg_map_request_encode(b, 1, "map.get", 0);
    put(fd, b);
    struct rpc_message m = get(fd, in);
    if (msg_map_decode(m.result, &map) != ERR_OK)
        die("the map does not decode");
    struct cluster c;
    cluster_init(&c);
    c.n_groups = 0;
    c.groups = mem_zalloc(map.n_shards * sizeof(*c.groups));
    for (uint32_t i = 0; i < map.n_shards; i++)
        c.groups[c.n_groups++].desc = map.shards[i];
    make_reports(&c);
    cluster_close(&c);
    shard_map_close(&map);
}

static void over_sockets(void)
{
    int *fd = mem_zalloc((n_nodes + 1) * sizeof(*fd));
    struct buf *out = mem_zalloc((n_nodes + 1) * sizeof(*out)), in = {0};
    for (uint32_t i = 1; i <= n_nodes; i++) {
        struct msg_register r;
        struct msg_register_reply reply;
        fd[i] = dial();
        register_of(i, &r);
        msg_register_encode(&out[i], i, &r);
        put(fd[i], &out[i]);
        if (msg_register_reply_decode(get(fd[i], &in).result, &reply) != ERR_OK || reply.node != i)
            die("a node was not registered: start with an empty placementd");
        struct msg_heartbeat empty = {.node = i, .incarnation = i};
        buf_clear(&out[i]);
        msg_heartbeat_encode(&out[i], i, &empty);
    }
    one_round(fd, out, &in);
    struct buf b = {0};
    lay_out(fd[1], &b, &in);
    take_map(fd[1], &b, &in);
    for (uint32_t i = 1; i <= n_nodes; i++) {
        buf_clear(&out[i]);
        msg_heartbeat_encode(&out[i], i, &report[i]);
    }
    for (int i = 0; i < 3; i++) {
        one_round(fd, out, &in);
        sleep(1);
    }
    double from = cpu_of(), began = now_s(CLOCK_MONOTONIC);
    for (uint32_t s = 0; s < seconds; s++) {
        double next = began + s + 1;
        one_round(fd, out, &in);
        double left = next - now_s(CLOCK_MONOTONIC);
        if (left > 0)
            usleep((useconds_t)(left * 1e6));
    }
    double took = now_s(CLOCK_MONOTONIC) - began;
    printf("{\"nodes\": %u, \"groups\": %u, \"seconds\": %.1f, \"core_percent\": %.2f}\n", n_nodes,
           n_groups, took, (cpu_of() - from) / took * 100);
}

int main(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        uint32_t n = (uint32_t)atoi(argv[i + 1]);
        if (strcmp(argv[i], "--nodes") == 0)
            n_nodes = n;
        else if (strcmp(argv[i], "--groups") == 0)
            n_groups = n;
        else if (strcmp(argv[i], "--operators") == 0)
            n_operators = n;
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = n;
        else if (strcmp(argv[i], "--pid") == 0)
            pid = (int)n;
        else if (strcmp(argv[i], "--connect") == 0)
            connect_to = argv[i + 1];
        else
            die("unknown option");
    }
    if (connect_to)
        over_sockets();
    else
        in_process();
    return 0;
}
