/* Small clusters drawn up as text, for tests of the planner, and its answers as text.
 *
 *   "n1 za h1 100G/40G up; n2 - h2 100G/40G draining; ..."   nodes: zone ("-": none), host,
 *       size/used, then words: up suspect down dead draining maint in=N out=N inb=BYTES
 * downs=SECONDS "g1 n1* n2 n3 1G; ..."  groups: members (* leads, ~ lags, ! is missing, ? is a
 * standby), then bytes, r=N w=N keys=N busy unsettled. Slots are shared out evenly; replica i (from
 * 1) of group g has the id g * 10 + i "opt balance replicas=1 ..."  options answers: "move g1
 * n1>n4; replace g1 n3>n4; transfer g1 n1>n2; add g1 >n4; remove g1 n3; split g1 @8192; merge g1
 * into g2"
 *
 * Owner: the test. */
#ifndef TEST_PLAN_DRAW_H
#define TEST_PLAN_DRAW_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "placementd/plan/planner.h"

#define DRAW_MAX 32
#define DRAW_UNUSED __attribute__((unused))

struct drawing {
    char text[4096];
    struct plan_node nodes[DRAW_MAX];
    char names[DRAW_MAX][12];
    struct plan_group groups[DRAW_MAX];
    struct shard_desc descs[DRAW_MAX];
    struct plan_view v;
};

DRAW_UNUSED static uint64_t draw_bytes(const char *s, char **end)
{
    double x = strtod(s, end);
    switch (**end) {
    case 'T':
        x *= 1024;
        /* fall through */
    case 'G':
        x *= 1024;
        /* fall through */
    case 'M':
        x *= 1024;
        /* fall through */
    case 'K':
        x *= 1024;
        (*end)++;
    }
    return (uint64_t)x;
}

DRAW_UNUSED static bool draw_value(const char *word, const char *key, uint64_t *out)
{
    size_t n = strlen(key);
    char *end;
    if (strncmp(word, key, n) != 0 || word[n] != '=')
        return false;
    *out = draw_bytes(word + n + 1, &end);
    ck_assert_msg(*end == 0, "bad number: %s", word);
    return true;
}

DRAW_UNUSED static void draw_node_word(struct plan_node *n, const char *w)
{
    uint64_t x;
    if (strcmp(w, "suspect") == 0)
        n->state = PLAN_NODE_SUSPECT;
    else if (strcmp(w, "down") == 0)
        n->state = PLAN_NODE_DOWN;
    else if (strcmp(w, "dead") == 0)
        n->state = PLAN_NODE_DEAD;
    else if (strcmp(w, "draining") == 0)
        n->draining = true;
    else if (strcmp(w, "maint") == 0)
        n->maintenance = true;
    else if (draw_value(w, "in", &x))
        n->incoming = (uint32_t)x;
    else if (draw_value(w, "out", &x))
        n->outgoing = (uint32_t)x;
    else if (draw_value(w, "inb", &x))
        n->incoming_bytes = x;
    else if (draw_value(w, "downs", &x))
        n->down_ms = x * 1000;
    else
        ck_assert_msg(strcmp(w, "up") == 0, "unknown word of a node: %s", w);
}

/* words[0] is "n1". */
DRAW_UNUSED static void draw_node(struct drawing *d, char **words, int n)
{
    ck_assert_msg(n >= 4, "node %s: zone, host and size/used are missing", words[0]);
    struct plan_node *p = &d->nodes[d->v.n_nodes];
    snprintf(d->names[d->v.n_nodes], sizeof d->names[0], "%s", words[0]);
    p->name = d->names[d->v.n_nodes++];
    p->id = (uint32_t)strtoul(words[0] + 1, NULL, 10);
    p->zone = words[1][0] == '-' ? "" : words[1];
    p->host = words[2][0] == '-' ? "" : words[2];
    char *end;
    p->disk_size = draw_bytes(words[3], &end);
    ck_assert(*end == '/');
    p->disk_free = p->disk_size - draw_bytes(end + 1, &end);
    for (int i = 4; i < n; i++)
        draw_node_word(p, words[i]);
}

DRAW_UNUSED static void draw_member(struct plan_group *g, struct shard_desc *d, const char *w)
{
    char *end;
    uint32_t i = d->n_replicas++;
    d->replica[i].node = (uint32_t)strtoul(w + 1, &end, 10);
    d->replica[i].replica = d->group * 10 + i + 1;
    d->replica[i].role = 1;
    for (; *end; end++) {
        if (*end == '*')
            d->leader = d->replica[i].replica;
        else if (*end == '?')
            d->replica[i].role = 0;
        else if (*end == '~')
            g->lagging = (uint16_t)(g->lagging | 1u << i);
        else if (*end == '!')
            g->missing = (uint16_t)(g->missing | 1u << i);
        else
            ck_abort_msg("unknown mark: %s", w);
    }
}

DRAW_UNUSED static void draw_group(struct drawing *d, char **words, int n)
{
    struct plan_group *g = &d->groups[d->v.n_groups];
    struct shard_desc *s = &d->descs[d->v.n_groups++];
    char *end;
    g->desc = s;
    g->keys = 1000;
    s->group = strtoull(words[0] + 1, NULL, 10);
    for (int i = 1; i < n; i++) {
        const char *w = words[i];
        if (w[0] == 'n')
            draw_member(g, s, w);
        else if (strcmp(w, "unsettled") == 0)
            g->unsettled = true;
        else if (strcmp(w, "busy") == 0)
            g->busy = true;
        else if (w[0] >= '0' && w[0] <= '9')
            g->bytes = draw_bytes(w, &end);
        else if (!draw_value(w, "r", &g->reads) && !draw_value(w, "w", &g->writes))
            ck_assert_msg(draw_value(w, "keys", &g->keys), "unknown word of a group: %s", w);
    }
    g->requests = g->reads + g->writes;
}

DRAW_UNUSED static void draw_option(struct plan_options *o, const char *w)
{
    uint64_t x;
    if (strcmp(w, "balance") == 0)
        o->balance = true;
    else if (draw_value(w, "replicas", &x))
        o->replicas = (uint32_t)x;
    else if (draw_value(w, "max_moves", &x))
        o->max_moves = (uint32_t)x;
    else if (draw_value(w, "max_operators", &x))
        o->max_operators = (uint32_t)x;
    else if (draw_value(w, "max_groups", &x))
        o->max_groups = (uint32_t)x;
    else if (!draw_value(w, "split_bytes", &o->split_bytes))
        ck_assert_msg(draw_value(w, "split_ops", &o->split_ops), "unknown option: %s", w);
}

DRAW_UNUSED static void draw(struct drawing *d, const char *text)
{
    memset(d, 0, sizeof(*d));
    d->v.options = (struct plan_options){.replicas = 3,
                                         .max_moves = 2,
                                         .max_groups = LIMIT_SLOTS,
                                         .hysteresis_percent = 5,
                                         .disk_full_percent = 80};
    d->v.nodes = d->nodes;
    d->v.groups = d->groups;
    ck_assert(strlen(text) < sizeof d->text);
    snprintf(d->text, sizeof d->text, "%s", text);
    char *rest_lines, *rest_words;
    for (char *l = strtok_r(d->text, ";", &rest_lines); l; l = strtok_r(NULL, ";", &rest_lines)) {
        char *words[32];
        int n = 0;
        for (char *w = strtok_r(l, " \n", &rest_words); w; w = strtok_r(NULL, " \n", &rest_words))
            words[n++] = w;
        if (n == 0)
            continue;
        ck_assert(d->v.n_nodes < DRAW_MAX && d->v.n_groups < DRAW_MAX);
        if (strcmp(words[0], "opt") == 0)
            for (int i = 1; i < n; i++)
                draw_option(&d->v.options, words[i]);
        else if (words[0][0] == 'n')
            draw_node(d, words, n);
        else
            draw_group(d, words, n);
    }
    for (uint32_t g = 0; g < d->v.n_groups; g++) {
        d->descs[g].first_slot = (uint16_t)(g * LIMIT_SLOTS / d->v.n_groups);
        d->descs[g].last_slot = (uint16_t)((g + 1) * LIMIT_SLOTS / d->v.n_groups - 1);
    }
}

DRAW_UNUSED static int draw_op(const struct plan_op *o, char *out, size_t n)
{
    unsigned long long g = (unsigned long long)o->group, into = (unsigned long long)o->into;
    switch (o->kind) {
    case PLAN_MOVE:
        return snprintf(out, n, "move g%llu n%u>n%u", g, o->from, o->to);
    case PLAN_REPLACE:
        return snprintf(out, n, "replace g%llu n%u>n%u", g, o->from, o->to);
    case PLAN_TRANSFER:
        return snprintf(out, n, "transfer g%llu n%u>n%u", g, o->from, o->to);
    case PLAN_ADD:
        return snprintf(out, n, "add g%llu >n%u", g, o->to);
    case PLAN_REMOVE:
        return snprintf(out, n, "remove g%llu n%u", g, o->from);
    case PLAN_SPLIT:
        return snprintf(out, n, "split g%llu @%u", g, o->slot);
    default:
        return snprintf(out, n, "merge g%llu into g%llu", g, into);
    }
}

DRAW_UNUSED static void draw_list(const struct plan_list *l, char *out, size_t n)
{
    size_t at = 0;
    out[0] = 0;
    for (uint32_t i = 0; i < l->n; i++) {
        if (i)
            at += (size_t)snprintf(out + at, n - at, "; ");
        at += (size_t)draw_op(&l->op[i], out + at, n - at);
        ck_assert(at < n);
    }
}

#endif
