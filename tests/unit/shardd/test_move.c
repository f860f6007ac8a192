/* Four nodes in one process, over loopback: a replica moves while a client writes. Placementd's
 * part is played by the test: it repeats each step until the group shows that it is done.
 *
 * What the client sees is measured: no definite failure, no lost write, and the longest time
 * without an answer. */
#include <dlfcn.h>
#include <errno.h>
#include <ftw.h>

#include "shardd/describe.h"
#include "tests/unit/shardd/nodes_world.h"

#define NODES 4u

/* In libc's place: lets the removal of what a snapshot has replaced fail. */
static _Atomic unsigned removals_fail;

int nftw(const char *dir, __nftw_func_t fn, int n, int flags)
{
    static int (*real)(const char *, __nftw_func_t, int, int);
    size_t at = strlen(dir);
    if (!real)
        real = (int (*)(const char *, __nftw_func_t, int, int))dlsym(RTLD_NEXT, "nftw");
    if (removals_fail > 0 && at > 7 && strcmp(dir + at - 7, "/db.old") == 0 &&
        access(dir, F_OK) == 0) {
        removals_fail--;
        errno = EIO;
        return -1;
    }
    return real(dir, fn, n, flags);
}

static void setup(void)
{
    nodes_open(NODES, "move");
}

static void teardown(void)
{
    nodes_close(NODES);
}

/* ---- the client ---- */

static struct {
    struct client c[NODES + 1];
    uint32_t at;
    _Atomic bool stop;
    _Atomic uint64_t done;
    uint64_t worst_ns, redirects, retries, last_version;
    enum err failed;
    pthread_t thread;
} writer;

static uint64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Until it is done; a redirect is followed at once. */
static void write_one(uint64_t n)
{
    char key[32], value[1100];
    snprintf(key, sizeof key, "key-%llu", (unsigned long long)n);
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    uint64_t from = clock_ns();
    for (;;) {
        struct answer_seen a = client_call(&writer.c[writer.at], put_of(key, value));
        if (a.err == ERR_OK)
            break;
        if (err_class(a.err) == ERR_CLASS_NEVER || err_class(a.err) == ERR_CLASS_UNKNOWN) {
            writer.failed = a.err;
            return;
        }
        if (a.leader) {
            writer.redirects++;
            writer.at = a.leader;
        } else {
            writer.retries++;
            usleep(1000);
            if (a.err == ERR_WRONG_SHARD)
                writer.at = writer.at % 3 + 1;
        }
    }
    uint64_t took = clock_ns() - from;
    writer.worst_ns = took > writer.worst_ns ? took : writer.worst_ns;
    writer.done++;
}

static void *write_on(void *arg)
{
    (void)arg;
    while (!writer.stop && !writer.failed)
        write_one(writer.done);
    return NULL;
}

static void writer_start(void)
{
    memset(&writer, 0, sizeof writer);
    for (unsigned i = 1; i <= NODES; i++)
        world_connect(&node[i], &writer.c[i]);
    writer.at = 1;
    write_one(0); /* the first election is not measured */
    writer.worst_ns = 0;
    ck_assert_int_eq(pthread_create(&writer.thread, NULL, write_on, NULL), 0);
}

static void writer_wait(uint64_t more)
{
    uint64_t want = writer.done + more;
    for (unsigned i = 0; i < 2000 && writer.done < want && !writer.failed; i++)
        usleep(10000);
    ck_assert_int_eq(writer.failed, ERR_OK);
    ck_assert_uint_ge(writer.done, want);
}

static void writer_end(void)
{
    writer.stop = true;
    pthread_join(writer.thread, NULL);
    ck_assert_int_eq(writer.failed, ERR_OK);
    for (uint64_t n = 0; n < writer.done; n++) {
        char key[32];
        snprintf(key, sizeof key, "key-%llu", (unsigned long long)n);
        struct answer_seen a = client_call(&writer.c[writer.at], get_of(key));
        ck_assert_msg(a.err == ERR_OK, "%s: %s", key, err_name(a.err));
    }
    for (unsigned i = 1; i <= NODES; i++)
        client_close(&writer.c[i]);
}

/* ---- placementd's part ---- */

struct seen {
    bool there, leads, routed;
    struct msg_group_status s;
};

static void look(struct world *w, void *arg)
{
    struct seen *s = arg;
    struct replica *r = core_find_replica(w->core, GROUP);
    *s = (struct seen){0};
    if (!r || r->state == REPLICA_STARTING)
        return;
    s->there = true;
    s->leads = replica_is_leader(r);
    s->routed = r->routed;
    describe_replica(r, &s->s);
}

/* The leader's status; 0: there is none. */
static unsigned leader_among(unsigned from, struct seen *out)
{
    for (unsigned i = from; i <= NODES; i++) {
        world_call(&node[i], look, out);
        if (out->leads)
            return i;
    }
    return 0;
}

static unsigned leader_of(struct seen *out)
{
    return leader_among(1, out);
}

static const struct msg_member_status *member_of(const struct seen *s, uint64_t replica)
{
    for (uint32_t i = 0; i < s->s.n_members; i++)
        if (s->s.member[i].replica == replica)
            return &s->s.member[i];
    return NULL;
}

static bool proven(const struct msg_step *step, const struct seen *s)
{
    const struct msg_member_status *m = member_of(s, step->replica);
    switch (step->kind) {
    case MSG_STEP_ADD_STANDBY:
        return m != NULL;
    case MSG_STEP_PROMOTE:
        return m && m->role == GROUP_VOTER;
    case MSG_STEP_REMOVE:
        return !m;
    default:
        return s->s.replica == step->replica;
    }
}

static void carry_out(struct msg_step step)
{
    struct seen s;
    for (unsigned i = 0; i < 1000; i++) {
        unsigned at = leader_of(&s);
        if (at && proven(&step, &s))
            return;
        step.shard.epoch = s.s.epoch;
        if (at)
            world_call(&node[at], nodes_step, &step);
        usleep(10000);
    }
    ck_abort_msg("step %u was not done: op %llu %s", step.kind, (unsigned long long)s.s.refused_op,
                 err_name((enum err)s.s.refused_err));
}

static void wait_there(unsigned at, bool there)
{
    struct seen s;
    for (unsigned i = 0; i < 1000; i++) {
        world_call(&node[at], look, &s);
        if (s.there == there)
            return;
        usleep(10000);
    }
    ck_abort_msg("node %u: still %d", at, !there);
}

static void join_on(unsigned at, uint64_t replica)
{
    struct msg_step s = nodes_step_of(MSG_STEP_CREATE_REPLICA, replica, at);
    s.join = true;
    world_call(&node[at], nodes_step, &s);
    wait_there(at, true);
}

static void destroy_on(unsigned at, uint64_t replica)
{
    struct msg_step s = nodes_step_of(MSG_STEP_DESTROY_REPLICA, replica, at);
    world_call(&node[at], nodes_step, &s);
    wait_there(at, false);
}

/* ---- tests ---- */

START_TEST(move_of_the_leader)
{
    struct seen s;
    writer_start();
    writer_wait(300);
    ck_assert_uint_eq(leader_of(&s), 1);
    join_on(4, 13);
    carry_out(nodes_step_of(MSG_STEP_ADD_STANDBY, 13, 4));
    carry_out(nodes_step_of(MSG_STEP_PROMOTE, 13, 4));
    writer_wait(50);
    carry_out(nodes_step_of(MSG_STEP_REMOVE, 10, 1)); /* hands leadership over first */
    destroy_on(1, 10);
    writer_wait(300);
    unsigned at = leader_of(&s);
    ck_assert_uint_ne(at, 1);
    ck_assert_uint_eq(s.s.n_members, 3);
    ck_assert_uint_eq(s.s.epoch.members, 4);
    printf("move: %llu writes, worst %.1f ms, redirects %llu, retries %llu\n",
           (unsigned long long)writer.done, (double)writer.worst_ns / 1e6,
           (unsigned long long)writer.redirects, (unsigned long long)writer.retries);
    ck_assert_uint_lt(writer.worst_ns, 1000 * NS_PER_MS);
    writer_end();
    /* The order to make it comes late. */
    struct msg_step late = nodes_step_of(MSG_STEP_CREATE_REPLICA, 10, 1);
    world_call(&node[1], nodes_step, &late);
    usleep(300000);
    world_call(&node[1], look, &s);
    ck_assert(!s.there);
}
END_TEST

START_TEST(transfers)
{
    struct seen s;
    uint64_t worst = 0;
    writer_start();
    for (unsigned i = 0; i < 12; i++) {
        writer_wait(100);
        writer.worst_ns = 0;
        uint32_t to = i % 3 + 1;
        carry_out(nodes_step_of(MSG_STEP_TRANSFER, 9 + to, 0));
        writer_wait(20);
        ck_assert_uint_eq(leader_of(&s), to);
        printf("transfer to %u: worst %.1f ms\n", to, (double)writer.worst_ns / 1e6);
        worst = writer.worst_ns > worst ? writer.worst_ns : worst;
    }
    printf("transfers: worst %.1f ms, redirects %llu, retries %llu\n", (double)worst / 1e6,
           (unsigned long long)writer.redirects, (unsigned long long)writer.retries);
    ck_assert_uint_lt(worst, 500 * NS_PER_MS); /* an election's timeout was not waited for */
    writer_end();
}
END_TEST

/* A joiner restarts before it is a member, and while it is behind. */
START_TEST(joiner_restarts)
{
    struct seen s;
    writer_start();
    writer_wait(200);
    join_on(4, 13);
    for (unsigned i = 0; i < 2; i++) {
        world_call(&node[4], nodes_unlisten, NULL);
        client_close(&writer.c[4]);
        world_close(&node[4]);
        nodes_start(&node[4]);
        world_call(&node[4], nodes_take_map, &map);
        world_connect(&node[4], &writer.c[4]);
        world_call(&node[4], look, &s);
        ck_assert(s.there);
        ck_assert_int_eq(s.routed, i > 0 && s.s.applied > 0);
        carry_out(nodes_step_of(MSG_STEP_ADD_STANDBY, 13, 4));
        writer_wait(i == 0 ? 5 : 100);
    }
    carry_out(nodes_step_of(MSG_STEP_PROMOTE, 13, 4));
    writer_end();
}
END_TEST

static sem_t gate;

static void gated_run(struct io_work *work)
{
    (void)work;
    while (sem_wait(&gate) != 0)
        ;
}

static void gated_done(struct io_work *work)
{
    (void)work;
}

static void hold_long_work(struct world *w, void *arg)
{
    struct io_work *work = arg;
    *work = (struct io_work){.run = gated_run, .done = gated_done, .class = IO_WORK_LONG};
    io_offload(w->io, work);
}

static void try_flush(struct world *w, void *arg)
{
    struct replica *r = core_find_replica(w->core, GROUP);
    if (r->checkpoints == 0 || r->checkpointing > 0 || r->busy_offload)
        return;
    replica_maintain(r);
    *(bool *)arg = r->busy_offload;
}

/* The files of a snapshot are many gigabytes: while they are read for their checksums the database
 * goes on, or its memory would fill and writes be refused. */
START_TEST(flushed_while_a_snapshot_is_read)
{
    struct io_work work;
    bool flushed = false;
    ck_assert_int_eq(sem_init(&gate, 0, 0), 0);
    writer_start();
    writer_wait(200);
    world_call(&node[1], hold_long_work, &work);
    join_on(4, 13);
    carry_out(nodes_step_of(MSG_STEP_ADD_STANDBY, 13, 4));
    for (unsigned i = 0; i < 300 && !flushed; i++) {
        world_call(&node[1], try_flush, &flushed);
        usleep(10000);
    }
    sem_post(&gate);
    ck_assert(flushed);
    carry_out(nodes_step_of(MSG_STEP_PROMOTE, 13, 4));
    writer_end();
    sem_destroy(&gate);
}
END_TEST

/* The snapshot is in place when the end of its installation fails: the replica goes on from it, and
 * serves what it has brought. */
START_TEST(install_fails_late)
{
    struct seen s;
    writer_start();
    writer_wait(200);
    removals_fail = 1;
    join_on(4, 13);
    carry_out(nodes_step_of(MSG_STEP_ADD_STANDBY, 13, 4));
    carry_out(nodes_step_of(MSG_STEP_PROMOTE, 13, 4));
    ck_assert_uint_eq(removals_fail, 0);
    world_call(&node[4], look, &s);
    ck_assert_uint_gt(s.s.applied, 0);
    ck_assert(s.routed);
    carry_out(nodes_step_of(MSG_STEP_TRANSFER, 13, 0));
    writer_wait(100);
    ck_assert_uint_eq(leader_of(&s), 4);
    writer_end();
}
END_TEST

/* It was away when it was removed: it cannot disturb those that are left. */
START_TEST(removed_while_away)
{
    struct seen s;
    writer_start();
    join_on(4, 13);
    carry_out(nodes_step_of(MSG_STEP_ADD_STANDBY, 13, 4));
    carry_out(nodes_step_of(MSG_STEP_PROMOTE, 13, 4));
    writer_wait(100);
    world_call(&node[3], nodes_unlisten, NULL);
    client_close(&writer.c[3]);
    world_close(&node[3]);
    carry_out(nodes_step_of(MSG_STEP_REMOVE, 12, 3));
    writer_wait(50);
    unsigned before = leader_of(&s);
    uint64_t term = s.s.term;
    nodes_start(&node[3]);
    world_call(&node[3], nodes_take_map, &map);
    world_connect(&node[3], &writer.c[3]);
    sleep(3); /* several elections' worth */
    writer_wait(50);
    ck_assert_uint_eq(leader_of(&s), before);
    ck_assert_uint_eq(s.s.term, term);
    world_call(&node[3], look, &s);
    ck_assert(s.there && !s.leads);
    destroy_on(3, 12);
    writer_end();
}
END_TEST

/* Two of three are lost for good: the third goes on alone with all that was acknowledged. */
START_TEST(forced)
{
    struct seen s;
    writer_start();
    writer_wait(200);
    sleep(1); /* what was acknowledged is everywhere */
    writer.stop = true;
    pthread_join(writer.thread, NULL);
    uint64_t done = writer.done;
    usleep(300000);
    for (unsigned i = 1; i <= 2; i++) {
        world_call(&node[i], nodes_unlisten, NULL);
        client_close(&writer.c[i]);
        world_close(&node[i]);
    }
    struct msg_step step = nodes_step_of(MSG_STEP_FORCE, 12, 3);
    /* It may lead for a while yet, handed over to by those that stopped. */
    for (unsigned i = 0; i < 500 && (leader_among(3, &s) != 3 || s.s.n_members != 1); i++) {
        world_call(&node[3], nodes_step, &step);
        usleep(20000);
    }
    ck_assert_uint_eq(s.s.n_members, 1);
    ck_assert_uint_eq(s.s.epoch.members, 1001);
    world_call(&node[3], nodes_step, &step); /* late */
    leader_among(3, &s);
    ck_assert_uint_eq(s.s.refused_err, ERR_WRONG_EPOCH);
    for (uint64_t n = 0; n < done; n++) {
        char key[32];
        snprintf(key, sizeof key, "key-%llu", (unsigned long long)n);
        ck_assert_int_eq(client_call(&writer.c[3], get_of(key)).err, ERR_OK);
    }
    ck_assert_int_eq(client_call(&writer.c[3], put_of("after", "v")).err, ERR_OK);
    client_close(&writer.c[3]);
    client_close(&writer.c[4]);
    for (unsigned i = 1; i <= 2; i++) { /* for the teardown; they are of the past */
        nodes_start(&node[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("move");
    TCase *t = tcase_create("all");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 120);
    tcase_add_test(t, move_of_the_leader);
    tcase_add_test(t, transfers);
    tcase_add_test(t, joiner_restarts);
    tcase_add_test(t, flushed_while_a_snapshot_is_read);
    tcase_add_test(t, install_fails_late);
    tcase_add_test(t, removed_while_away);
    tcase_add_test(t, forced);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
