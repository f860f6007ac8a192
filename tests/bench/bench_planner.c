/* What a round of the planner costs with 500 nodes and 16384 groups, while 100 nodes are added, 20
 * drained and 10 lost: rounds played through until nothing is proposed any more.
 *
 *     bench_planner [nodes groups]
 *
 * Prints rounds, what was done, the longest and the mean round, what is left uneven, a preview of
 * the whole, and the peak of memory. Exit code 1 if a round takes a second, it does not come to
 * rest, or a replica is moved twice. */
#include <sys/resource.h>
#include <time.h>

#include "tests/unit/placementd/plan_play.h"

static double longest, total;
static bool failed;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void timed(struct played *p, struct plan_list *l)
{
    double begin = now_s();
    plan_round(&p->v, l);
    double took = now_s() - begin;
    longest = took > longest ? took : longest;
    total += took;
}

static void run(struct played *p, const char *what)
{
    unsigned lo, hi, leaders_lo, leaders_hi;
    longest = total = 0;
    bool rest = play_run(p, 2000, timed);
    play_levels(p, false, &lo, &hi);
    play_levels(p, true, &leaders_lo, &leaders_hi);
    printf(
        "%-22s %4u rounds %6u moves %5u replaced %6u transfers %3u twice   round: mean %6.1f ms, "
        "longest %6.1f ms   bytes %u..%u %%, leaders %u..%u %%\n",
        what, p->rounds, p->moves, p->replaced, p->transfers, p->twice,
        total * 1e3 / (p->rounds + 1), longest * 1e3, lo, hi, leaders_lo, leaders_hi);
    failed |= !rest || p->twice || longest >= 1;
    play_check_placed(p);
}

static void preview(const struct played *p)
{
    struct plan_preview w;
    double begin = now_s();
    plan_preview_balance(&p->v, 100 * MIB, &w);
    printf("%-22s %u operators, %.1f TiB, %.1f h, at least %u voters; made in %.0f ms\n",
           "preview of balancing", w.ops.n, (double)w.bytes / (double)(1024 * GIB),
           (double)w.seconds / 3600, w.lowest_voters, (now_s() - begin) * 1e3);
    plan_preview_close(&w);
}

int main(int argc, char **argv)
{
    uint32_t nodes = argc > 2 ? (uint32_t)strtoul(argv[1], NULL, 10) : 500;
    uint32_t groups = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 16384;
    static const char *const names[] = {"add 1/5", "drain 1/25", "lose 1/50", "all at once"};
    printf("%u nodes in 5 zones, %u groups of 12 to 36 GiB\n", nodes, groups);
    for (int phase = 0; phase < 4; phase++) {
        struct played p;
        play_open(&p, nodes, nodes / 5, groups, 5, 24 * GIB);
        run(&p, "(from the layout)");
        if (phase == 0 || phase == 3)
            play_add_nodes(&p, nodes / 5);
        for (uint32_t i = 3; (phase == 1 || phase == 3) && i < nodes; i += 25)
            p.nodes[i].draining = true;
        for (uint32_t i = 17; (phase == 2 || phase == 3) && i < nodes; i += 50)
            p.nodes[i].state = PLAN_NODE_DEAD;
        if (phase == 0)
            preview(&p);
        run(&p, names[phase]);
        play_close(&p);
    }
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("peak memory %.0f MiB\n", (double)u.ru_maxrss / 1024);
    return failed;
}
