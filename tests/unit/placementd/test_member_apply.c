/* member_apply.c: the list of wanted members, one command a line. "told 2 20" = member 2 with
 * incarnation 20 tells of itself, "add 4", "leave 2", "gone 2". */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "placementd/member_apply.h"

static struct cluster_result run(struct cluster *c, const char *line)
{
    struct cluster_command cmd = {0}, back;
    struct cluster_result r;
    struct buf b = {0};
    char what[16];
    unsigned id = 0, incarnation = 0;
    ck_assert_int_ge(sscanf(line, "%15s %u %u", what, &id, &incarnation), 2);
    cmd.kind = what[0] == 't'   ? CLUSTER_CMD_MEMBER
               : what[0] == 'a' ? CLUSTER_CMD_MEMBER_ADD
               : what[0] == 'l' ? CLUSTER_CMD_MEMBER_LEAVE
                                : CLUSTER_CMD_MEMBER_REMOVE;
    cmd.member.id = id;
    cmd.member.incarnation = incarnation;
    snprintf(cmd.member.peer_addr, sizeof(cmd.member.peer_addr), "h:%u", id);
    cluster_command_encode(&cmd, &b);
    ck_assert_int_eq(cluster_command_decode(buf_slice(&b), &back), ERR_OK);
    cluster_apply(c, &back, NULL, &r);
    cluster_command_close(&back);
    buf_close(&b);
    return r;
}

/* "1 2 3* ~4 ^5": 3 leaves, 4 was removed, 5 is the next id. */
static void list(const struct cluster *c, char *out, size_t n)
{
    out[0] = '\0';
    for (uint32_t i = 0; i < c->n_members; i++)
        snprintf(out + strlen(out), n - strlen(out), "%u%s ", c->member[i].id,
                 c->member[i].leaving ? "*" : "");
    for (uint32_t i = 0; i < c->n_removed; i++)
        snprintf(out + strlen(out), n - strlen(out), "~%u ", c->removed[i].id);
    snprintf(out + strlen(out), n - strlen(out), "^%u", c->next_member);
}

static const struct {
    const char *line;
    enum err err;
    const char *says, *then;
} story[] = {
    {"told 1 10", ERR_OK, "", "1 ^2"},
    {"told 3 30", ERR_OK, "", "1 3 ^4"},
    {"told 2 20", ERR_OK, "", "1 2 3 ^4"},
    {"told 2 20", ERR_OK, "", "1 2 3 ^4"},
    {"told 2 21", ERR_FOREIGN, "another data directory", "1 2 3 ^4"},
    {"told 2 0", ERR_OK, "", "1 2 3 ^4"},
    {"add 3", ERR_REFUSED, "the address h:3 is that of member 3", "1 2 3 ^4"},
    {"add 5", ERR_OK, "", "1 2 3 5 ^6"},
    {"add 4", ERR_REFUSED, "ids are used once, the next free one is 6", "1 2 3 5 ^6"},
    {"told 5 50", ERR_OK, "", "1 2 3 5 ^6"},
    {"told 5 51", ERR_FOREIGN, "another data directory", "1 2 3 5 ^6"},
    {"add 6", ERR_OK, "", "1 2 3 5 6 ^7"},
    {"add 7", ERR_REFUSED, "5 members already", "1 2 3 5 6 ^7"},
    {"leave 9", ERR_NOT_FOUND, "there is no member 9", "1 2 3 5 6 ^7"},
    {"leave 2", ERR_OK, "", "1 2* 3 5 6 ^7"},
    {"leave 2", ERR_OK, "", "1 2* 3 5 6 ^7"},
    {"add 7", ERR_OK, "", "1 2* 3 5 6 7 ^8"},
    {"gone 2", ERR_OK, "", "1 3 5 6 7 ~2 ^8"},
    {"gone 2", ERR_OK, "", "1 3 5 6 7 ~2 ^8"},
    {"told 2 20", ERR_REFUSED, "was removed", "1 3 5 6 7 ~2 ^8"},
    {"leave 7", ERR_OK, "", "1 3 5 6 7* ~2 ^8"},
    {"gone 7", ERR_OK, "", "1 3 5 6 ~2 ~7 ^8"},
    {"add 7", ERR_REFUSED, "used before", "1 3 5 6 ~2 ~7 ^8"},
};

START_TEST(commands)
{
    struct cluster c;
    char now[128];
    cluster_init(&c);
    for (size_t i = 0; i < sizeof(story) / sizeof(story[0]); i++) {
        struct cluster_result r = run(&c, story[i].line);
        list(&c, now, sizeof(now));
        ck_assert_msg(r.err == story[i].err && strstr(r.text, story[i].says) &&
                          strcmp(now, story[i].then) == 0,
                      "%s: %s \"%s\", then %s", story[i].line, err_name(r.err), r.text, now);
        /* As it is, it goes through a snapshot. */
        struct buf b = {0};
        struct cluster back;
        cluster_encode(&c, &b);
        ck_assert_int_eq(cluster_decode(buf_slice(&b), &back), ERR_OK);
        list(&back, now, sizeof(now));
        ck_assert_str_eq(now, story[i].then);
        cluster_close(&back);
        buf_close(&b);
    }
    ck_assert_uint_eq(cluster_find_member(&c, 5)->incarnation, 50);
    cluster_close(&c);
}
END_TEST

/* Only the newest are still told that they were removed. */
START_TEST(removed_are_forgotten)
{
    struct cluster c;
    char line[32];
    cluster_init(&c);
    for (unsigned id = 1; id <= CLUSTER_REMOVED_MAX + 3; id++) {
        snprintf(line, sizeof(line), "add %u", id);
        ck_assert_int_eq(run(&c, line).err, ERR_OK);
        snprintf(line, sizeof(line), "gone %u", id);
        ck_assert_int_eq(run(&c, line).err, ERR_OK);
    }
    ck_assert_uint_eq(c.n_removed, CLUSTER_REMOVED_MAX);
    ck_assert_ptr_null(member_find_removed(&c, 3));
    ck_assert_ptr_nonnull(member_find_removed(&c, 4));
    ck_assert_int_eq(run(&c, "add 3").err, ERR_REFUSED); /* but never used again */
    cluster_close(&c);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("member_apply");
    TCase *t = tcase_create("member_apply");
    tcase_add_test(t, commands);
    tcase_add_test(t, removed_are_forgotten);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
