/* membership.c: which change of placementd's own group comes next, what may be asked for. A row is
 * a picture in words: "1v 2v 3l 4s+" = ids with v voter, s standby, e expected (not in the group
 * yet); then l leaving (a voter), m leaving (a standby), x leaving and out; '+' caught up, '-' not
 * heard,
 * '!' has a state of its own. The first is ourselves. */
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
    for (char *w = strtok_r(text, " ", &save); w; w = strtok_r(NULL, " ", &save))
        put(p, w);
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

/* From 1 to 3 to 5, all replaced, back to 1..: whatever comes in between, a change alters one
 * member, three never become two, and it ends where the list says. */
START_TEST(it_ends)
{
    static const char *const from[] = {"1v 2e 3e",       "1v 2v 3v 4e 5e", "1l 2v 3v 4e",
                                       "1v 2l 3l 4e 5e", "1l 2l 3v 4v 5v", "1v 2v 3v 4l 5l"};
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++) {
        struct picture p;
        struct membership_step step;
        draw(&p, from[i]);
        for (unsigned turn = 0;; turn++) {
            ck_assert_msg(turn < 40, "%s does not end", from[i]);
            for (uint32_t k = 0; k < p.m.n; k++)
                p.m.seen[k].caught = true;
            membership_next(&p.m, &step);
            if (step.kind == MEMBERSHIP_NOTHING)
                break;
            if (step.kind == MEMBERSHIP_CHANGE) {
                unsigned voters[2] = {0};
                for (uint32_t k = 0; k < p.conf.n; k++)
                    voters[0] += p.conf.member[k].role == GROUP_VOTER;
                for (uint32_t k = 0; k < step.conf.n; k++)
                    voters[1] += step.conf.member[k].role == GROUP_VOTER;
                ck_assert_uint_le(
                    voters[0] > voters[1] ? voters[0] - voters[1] : voters[1] - voters[0], 1);
                ck_assert(!(voters[0] == 3 && voters[1] == 2));
                p.conf = step.conf;
            } else if (step.kind == MEMBERSHIP_HANDOVER) {
                for (uint32_t k = 0; k < p.conf.n; k++)
                    if (p.conf.member[k].node != step.id && p.conf.member[k].role == GROUP_VOTER)
                        p.m.self = p.conf.member[k].node;
            } else {
                uint32_t at = 0;
                while (p.c.member[at].id != step.id)
                    at++;
                memmove(&p.c.member[at], &p.c.member[at + 1],
                        (--p.c.n_members - at) * sizeof(p.c.member[0]));
            }
        }
        ck_assert_msg(p.conf.n == p.c.n_members && p.conf.n % 2 == 1, "%s ends with %u of %u",
                      from[i], p.conf.n, p.c.n_members);
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
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
