/* membership.c: which change of placementd's own group comes next, what may be asked for. A row is
 * a picture in words: "1v 2v 3l 4s+" = ids with v voter, s standby, e expected (not in the group
 * yet); then l leaving (a voter), m leaving (a standby), x leaving and out; '+' caught up, '-' not
 * heard,
 * '!' has a state of its own. The first is ourselves. "changing", "leave-due": as the fields. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "placementd/membership.h"

struct picture {
    struct cluster c;
    struct group_conf conf;
    struct membership m;
};

static void put(struct picture *p, const char *word)
{
    struct membership_seen *s = &p->m.seen[p->m.n++];
    char *end;
    uint32_t id = (uint32_t)strtoul(word, &end, 10);
    char role = *end++;
    *s = (struct membership_seen){.id = id, .heard = true, .blank = role == 'e'};
    for (; *end; end++) {
        s->caught = s->caught || *end == '+';
        s->heard = s->heard && *end != '-';
        s->blank = s->blank && *end != '!';
    }
    if (p->m.self == 0)
        p->m.self = id;
    struct cluster_member *k = &p->c.member[p->c.n_members++];
    k->id = id;
    snprintf(k->peer_addr, sizeof(k->peer_addr), "127.0.0.1:%u", 7000 + id);
    k->leaving = strchr("lmx", role) != NULL;
    if (p->c.next_member <= id)
        p->c.next_member = id + 1;
    if (!strchr("ex", role))
        p->conf.member[p->conf.n++] =
            (struct group_member){id, id, strchr("vl", role) ? GROUP_VOTER : GROUP_STANDBY};
}

static void draw(struct picture *p, const char *words)
{
    char text[128], *save = NULL;
    memset(p, 0, sizeof(*p));
    snprintf(text, sizeof(text), "%s", words);
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        if (strcmp(w, "changing") == 0)
            p->m.changing = true;
        else if (strcmp(w, "leave-due") == 0)
            p->m.leave_due = true;
        else
            put(p, w);
    }
    p->m.c = &p->c;
    p->m.conf = &p->conf;
}

/* "1v 2v 3s", the configuration alone. */
static void conf_text(const struct group_conf *c, char *out, size_t n)
{
    out[0] = '\0';
    for (uint32_t i = 0; i < c->n; i++)
        snprintf(out + strlen(out), n - strlen(out), "%s%u%c", i ? " " : "", c->member[i].node,
                 c->member[i].role == GROUP_VOTER ? 'v' : 's');
}

static const struct {
    const char *before, *next; /* next: the new configuration, "handover", "forget ID" or "" */
} steps[] = {
    {"1v", ""},
    {"1v 2v 3v", ""},
    {"1v 2e-", ""},             /* not heard */
    {"1v 2e!", ""},             /* has a state of its own */
    {"1v 2e", "1v 2s"},         /* comes in */
    {"1v 2s", ""},              /* catches up */
    {"1v 2s+", ""},             /* two are no better than one */
    {"1v 2s+ 3e", "1v 2s 3s"},  /* the other one first comes in */
    {"1v 2s+ 3s", ""},          /* both have to be ready */
    {"1v 2s+ 3s+-", ""},        /* and heard */
    {"1v 2s+ 3s+", "1v 2v 3s"}, /* then one after the other */
    {"1v 2v 3s+", "1v 2v 3v"},
    {"1v 2v 3v 4s+", ""},
    {"1v 2v 3v 4s+ 5s+", "1v 2v 3v 4v 5s"},
    {"1v 2v 3v 4v 5s+", "1v 2v 3v 4v 5v"},
    {"1v 2v 3l", ""}, /* three never become two */
    {"1v 2v 3l-", ""},
    {"1v 2v 3l- 4s", ""},
    {"1v 2v 3l- 4s+", "1v 2v 3v 4v"}, /* first in ... */
    {"1v 2v 3l- 4v", "1v 2v 4v"},     /* ... then out */
    {"1v 2v 3v 4l 5v", "1v 2v 3v 5v"},
    {"1v 2v 3l 5v", "1v 2v 5v"},
    {"1l 2v 3v 4v", "handover"}, /* a leader that leaves */
    {"2v 1l 3v 4v", "2v 3v 4v"},
    {"1v 2v 3v 4m", "1v 2v 3v"},
    {"1v 2v 3v 4x", "forget 4"},
    {"1v 2v 3v 4x-", "forget 4"},
    {"1v 2l 3l 4s+ 5s+", "1v 2v 3v 4v 5s"},
    {"1v 2l 3l 4v 5s+", "1v 2v 3v 4v 5v"},
    {"1v 2l 3l 4v 5v", "1v 3v 4v 5v"},
    {"1v 3l 4v 5v", "1v 4v 5v"},
    {"1v 2s+ 3s+ leave-due", ""}, /* perhaps of one of them */
    {"1v 2s 3e changing", ""},
};

START_TEST(next)
{
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        struct picture p;
        struct membership_step step;
        char got[128] = "";
        draw(&p, steps[i].before);
        membership_next(&p.m, &step);
        if (step.kind == MEMBERSHIP_CHANGE)
            conf_text(&step.conf, got, sizeof(got));
        else if (step.kind == MEMBERSHIP_HANDOVER)
            snprintf(got, sizeof(got), "handover");
        else if (step.kind == MEMBERSHIP_FORGET)
            snprintf(got, sizeof(got), "forget %u", step.id);
        ck_assert_msg(strcmp(got, steps[i].next) == 0, "%s: \"%s\", not \"%s\"", steps[i].before,
                      got, steps[i].next);
    }
}
END_TEST

static const struct {
    const char *before;
    bool add;
    uint64_t id;
    enum err err;
    const char *says;
} asked[] = {
    {"1v", true, 2, ERR_OK, "stands by until one more is added"},
    {"1v 2e-", true, 3, ERR_OK, "together with the other"},
    {"1v 2v 3v", true, 0, ERR_BAD_REQUEST, "1 to 65535"},
    {"1v 2v 3v", true, 70000, ERR_BAD_REQUEST, "1 to 65535"},
    {"1v 2v 3v", true, 2, ERR_REFUSED, "is there already"},
    {"1v 3v 4v", true, 2, ERR_REFUSED, "used before"},
    {"1v 2v 3v 4v 5v", true, 6, ERR_REFUSED, "remove one first"},
    {"1v 2v 3v 4v 5l", true, 6, ERR_OK, "once it has caught up"},
    {"1v 2v 3v", false, 9, ERR_NOT_FOUND, "there are: 1, 2, 3"},
    {"1v 2v 3v", false, 3, ERR_REFUSED, "two survive no failure"},
    {"1v", false, 1, ERR_REFUSED, "add a member first"},
    {"1v 2v 3v 4e-", false, 4, ERR_OK, "no vote yet"},
    {"1v 2v 3v 4s+", false, 2, ERR_OK, "as soon as another has its place"},
    {"1v 2v- 3v 4s+", false, 2, ERR_OK, "as soon as another has its place"},
    {"1v 2v- 3v 4s+", false, 3, ERR_OK, "as soon as another"}, /* 1, 3 and 4 of four */
    {"1v 2v- 3v- 4s+", false, 3, ERR_REFUSED, "majority would be lost"},
    {"1v 2v 3v 4v 5v", false, 5, ERR_OK, "4 are left"},
    {"1v 2v 3v 4v", false, 4, ERR_OK, "member 4 leaves"},
    {"1v 2v- 3v- 4v 5v", false, 5, ERR_REFUSED, "majority would be lost"},
    {"1v 2v- 3v- 4v 5v", false, 3, ERR_OK, "4 are left"},
    {"1v 2v 3v- 4l 5l", false, 3, ERR_REFUSED, "add a member first"},
    /* one without a vote that somebody waits for */
    {"1v 2v 3l 4s+", false, 4, ERR_REFUSED, "a voter leaves as soon as another"},
    {"1v 2v 3l- 4e-", false, 4, ERR_REFUSED, "add a member first"},
    {"1v 2v 3l 4s+ changing", false, 4, ERR_REFUSED, "a voter leaves as soon as another"},
    {"1v 2v 3l 4s- 5s", false, 4, ERR_OK, "no vote yet"},
    {"1v 2v 3v 4l 5v 6s", false, 6, ERR_OK, "no vote yet"},
    {"1l 2s 3s 4s", false, 3, ERR_REFUSED, "a voter leaves as soon as another"},
    {"1v 2v 3s", false, 3, ERR_REFUSED, "two survive no failure"},
    {"1v 2v 3s- 4s", false, 3, ERR_OK, "no vote yet"},
    {"1v 2s 3s", false, 3, ERR_OK, "no vote yet"},
    {"1v 2s+ 3s+ changing", false, 3, ERR_REFUSED, "try again"},
    {"1v 2v 3v 4s+ changing", false, 3, ERR_OK, "as soon as another has its place"},
    {"1v 2v 3v 4s+ leave-due", false, 3, ERR_REFUSED, "try again"},
    {"1v 2v 3v 4s leave-due", false, 4, ERR_REFUSED, "try again"},
    {"1v 2v 3v leave-due", false, 9, ERR_NOT_FOUND, "there are: 1, 2, 3"},
};

START_TEST(may)
{
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        struct picture p;
        char why[256] = "";
        draw(&p, asked[i].before);
        enum err e = asked[i].add
                         ? membership_may_add(&p.m, asked[i].id, "127.0.0.1:9999", why, sizeof(why))
                         : membership_may_remove(&p.m, asked[i].id, why, sizeof(why));
        ck_assert_msg(e == asked[i].err && strstr(why, asked[i].says), "%s, %s %llu: %s \"%s\"",
                      asked[i].before, asked[i].add ? "add" : "remove",
                      (unsigned long long)asked[i].id, err_name(e), why);
    }
}
END_TEST

START_TEST(addresses)
{
    static const char *const bad[] = {"", "nowhere", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:7002"};
    struct picture p;
    char why[256];
    draw(&p, "1v 2v 3v");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_int_ne(membership_may_add(&p.m, 4, bad[i], why, sizeof(why)), ERR_OK);
}
END_TEST

static const struct {
    const char *now, *note;
} notes[] = {
    {"1v 2v 3v", ""},
    {"1v", ""},
    {"1v 2v", "2 voters, an even number"},
    {"1v 2v 3v-", "member 3 of placementd is not heard"},
    {"1v 2e-", "member 2 of placementd is not heard: start it with cluster.join=true"},
    {"1v 2e!", "has a state of its own"},
    {"1v 2s", "is catching up"},
    {"1v 2s+", "stands by"},
    {"1v 2v 3l 4s", "member 3 of placementd leaves once another has caught up"},
    {"1v 2v 3l", "member 3 of placementd leaves once one more was added"}, /* older logs */
    {"1l 2v 3v 4v", "member 1 of placementd leaves"},
};

START_TEST(note)
{
    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        struct picture p;
        char text[256];
        draw(&p, notes[i].now);
        membership_note(&p.m, text, sizeof(text));
        ck_assert_msg(notes[i].note[0] ? strstr(text, notes[i].note) != NULL : !text[0],
                      "%s: \"%s\"", notes[i].now, text);
    }
}
END_TEST

START_TEST(role)
{
    struct picture p;
    draw(&p, "1v 2l 3s 4e 5x");
    ck_assert_str_eq(membership_role(&p.m, 1), "voter");
    ck_assert_str_eq(membership_role(&p.m, 2), "leaving");
    ck_assert_str_eq(membership_role(&p.m, 3), "standby");
    ck_assert_str_eq(membership_role(&p.m, 4), "expected");
    ck_assert_str_eq(membership_role(&p.m, 5), "leaving");
    ck_assert_str_eq(membership_role(&p.m, 6), "");
}
END_TEST

static unsigned voters(const struct group_conf *c)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < c->n; i++)
        n += c->member[i].role == GROUP_VOTER;
    return n;
}

/* A change alters one member, three never become two. */
static void change(struct picture *p, const struct group_conf *to)
{
    unsigned was = voters(&p->conf), is = voters(to);
    ck_assert_uint_le(was > is ? was - is : is - was, 1);
    ck_assert(!(was == 3 && is == 2));
    p->conf = *to;
}

static void forget(struct picture *p, uint32_t id)
{
    uint32_t at = 0;
    while (p->c.member[at].id != id)
        at++;
    memmove(&p->c.member[at], &p->c.member[at + 1],
            (--p->c.n_members - at) * sizeof(p->c.member[0]));
    for (at = 0; p->m.seen[at].id != id;)
        at++;
    memmove(&p->m.seen[at], &p->m.seen[at + 1], (--p->m.n - at) * sizeof(p->m.seen[0]));
}

/* All but a change of the configuration. */
static void carry_out(struct picture *p, const struct membership_step *step)
{
    if (step->kind == MEMBERSHIP_FORGET)
        forget(p, step->id);
    for (uint32_t k = 0; step->kind == MEMBERSHIP_HANDOVER && k < p->conf.n; k++)
        if (p->conf.member[k].node != step->id && p->conf.member[k].role == GROUP_VOTER)
            p->m.self = p->conf.member[k].node;
}

/* All are there and nothing more is asked for. */
static void bring_to_end(struct picture *p, const char *from)
{
    struct membership_step step;
    for (unsigned turn = 0;; turn++) {
        ck_assert_msg(turn < 40, "%s does not end", from);
        for (uint32_t k = 0; k < p->m.n; k++)
            p->m.seen[k].heard = p->m.seen[k].caught = true;
        membership_next(&p->m, &step);
        if (step.kind == MEMBERSHIP_NOTHING)
            return;
        if (step.kind == MEMBERSHIP_CHANGE)
            change(p, &step.conf);
        else
            carry_out(p, &step);
    }
}

/* From 1 to 3 to 5, all replaced, back to 1..: it ends where the list says. */
START_TEST(it_ends)
{
    static const char *const from[] = {"1v 2e 3e",       "1v 2v 3v 4e 5e", "1l 2v 3v 4e",
                                       "1v 2l 3l 4e 5e", "1l 2l 3v 4v 5v", "1v 2v 3v 4l 5l"};
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
        struct picture p;
        draw(&p, from[i]);
        bring_to_end(&p, from[i]);
        ck_assert_msg(p.conf.n == p.c.n_members && p.conf.n % 2 == 1, "%s ends with %u of %u",
                      from[i], p.conf.n, p.c.n_members);
    }
}
END_TEST

/* ---- whatever is granted ends, too ---- */

struct play {
    struct picture p;
    struct group_conf next; /* proposed: p.m.changing */
    uint32_t leaves;        /* proposed: p.m.leave_due */
    char log[4096];
};

static void note_down(struct play *g, const char *what, unsigned id)
{
    size_t n = strlen(g->log);
    snprintf(g->log + n, sizeof(g->log) - n, " %s %u", what, id);
}

static void ask_remove(struct play *g)
{
    char why[256];
    uint32_t id = g->p.c.member[(unsigned)rand() % g->p.c.n_members].id;
    if (membership_may_remove(&g->p.m, id, why, sizeof(why)) != ERR_OK)
        return;
    g->leaves = id;
    g->p.m.leave_due = true;
    note_down(g, "remove", id);
}

static void ask_add(struct play *g)
{
    char why[256], peer[32], word[16];
    uint32_t id = g->p.c.next_member;
    snprintf(peer, sizeof(peer), "127.0.0.1:%u", 7000 + id);
    if (g->p.c.n_members == CLUSTER_MEMBERS_MAX ||
        membership_may_add(&g->p.m, id, peer, why, sizeof(why)) != ERR_OK)
        return;
    snprintf(word, sizeof(word), "%ue%s", id, rand() % 2 ? "" : "-");
    put(&g->p, word);
    note_down(g, "add", id);
}

static void commit_change(struct play *g)
{
    if (g->p.m.changing)
        change(&g->p, &g->next);
    g->p.m.changing = false;
}

static void commit_leave(struct play *g)
{
    for (uint32_t i = 0; g->p.m.leave_due && i < g->p.c.n_members; i++)
        if (g->p.c.member[i].id == g->leaves)
            g->p.c.member[i].leaving = true;
    g->p.m.leave_due = false;
}

static void bring_on(struct play *g)
{
    struct membership_step step;
    membership_next(&g->p.m, &step);
    if (step.kind != MEMBERSHIP_NOTHING)
        note_down(g, "step", step.id);
    if (step.kind == MEMBERSHIP_CHANGE) {
        g->next = step.conf;
        g->p.m.changing = true;
    } else {
        carry_out(&g->p, &step);
    }
}

static void turn(struct play *g)
{
    struct membership_seen *s = &g->p.m.seen[(unsigned)rand() % g->p.m.n];
    switch (rand() % 8) {
    case 0:
        ask_remove(g);
        break;
    case 1:
        ask_add(g);
        break;
    case 2:
    case 3:
        commit_change(g);
        break;
    case 4:
        commit_leave(g);
        break;
    case 5:
        s->heard = !s->heard;
        break;
    case 6:
        s->caught = !s->caught;
        break;
    default:
        bring_on(g);
    }
}

START_TEST(what_is_granted_ends)
{
    static const char *const from[] = {"1v", "1v 2v 3v", "1v 2v 3v 4v 5v"};
    for (unsigned seed = 1; seed <= 5000; seed++) {
        struct play g = {.leaves = 0};
        char text[256];
        srand(seed);
        draw(&g.p, from[seed % 3]);
        for (unsigned i = 0; i < 60; i++)
            turn(&g);
        commit_change(&g);
        commit_leave(&g);
        bring_to_end(&g.p, g.log);
        membership_note(&g.p.m, text, sizeof(text));
        ck_assert_msg(voters(&g.p.conf) != 2 && g.p.c.n_members == g.p.conf.n &&
                          (!text[0] || strstr(text, "stands by") || strstr(text, "an even number")),
                      "seed %u ends with %u voters, \"%s\":%s", seed, voters(&g.p.conf), text,
                      g.log);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("membership");
    TCase *t = tcase_create("membership");
    tcase_add_test(t, next);
    tcase_add_test(t, may);
    tcase_add_test(t, addresses);
    tcase_add_test(t, note);
    tcase_add_test(t, role);
    tcase_add_test(t, it_ends);
    tcase_add_test(t, what_is_granted_ends);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
