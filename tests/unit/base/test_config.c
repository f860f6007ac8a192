#include "common/base/config.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/rng.h"

struct sample {
    char *data_dir;
    uint64_t id;
    bool direct;
    uint64_t segment;
    uint64_t timeout;
    char *peers;
    char *name;
    uint64_t untouched; /* no key's place: must survive everything */
};

#define AT(field) offsetof(struct sample, field)
static const struct config_key keys[] = {
    {"", "name", CONFIG_STRING, AT(name), "n", 1, 8, "The node's name"},
    {"node", "data-dir", CONFIG_STRING, AT(data_dir), "/var/lib/x", 0, 0, "Where data lives"},
    {"node", "id", CONFIG_UINT, AT(id), "1", 1, 4096, "Number of the node"},
    {"wal", "direct", CONFIG_BOOL, AT(direct), "true", 0, 0, NULL},
    {"wal", "segment-size", CONFIG_SIZE, AT(segment), "64MiB", 1 << 20, 1 << 30, "Segment size"},
    {"raft.timing", "election-timeout", CONFIG_DURATION_MS, AT(timeout), "1s", 10, 60000, ""},
    {"cluster", "peers", CONFIG_STRING_LIST, AT(peers), "", 0, 0, "Addresses"},
};
#define N (sizeof(keys) / sizeof(keys[0]))

static struct sample cfg;
static char msg[256];

static void setup(void)
{
    cfg = (struct sample){.untouched = 0xabcdef};
    msg[0] = '\0';
    ck_assert_int_eq(config_defaults(keys, N, &cfg), ERR_OK);
}

static void teardown(void)
{
    ck_assert_uint_eq(cfg.untouched, 0xabcdef);
    config_free(keys, N, &cfg);
    ck_assert_ptr_null(cfg.data_dir);
}

static enum err parse(const char *text)
{
    return config_parse(keys, N, "f.toml", slice_str(text), &cfg, msg, sizeof(msg));
}

static void check_defaults(void)
{
    ck_assert_str_eq(cfg.name, "n");
    ck_assert_str_eq(cfg.data_dir, "/var/lib/x");
    ck_assert_uint_eq(cfg.id, 1);
    ck_assert(cfg.direct);
    ck_assert_uint_eq(cfg.segment, 64 << 20);
    ck_assert_uint_eq(cfg.timeout, 1000);
    ck_assert_str_eq(cfg.peers, "");
}

START_TEST(defaults)
{
    check_defaults();
}
END_TEST

START_TEST(whole_file)
{
    enum err err = parse("# a comment\r\n"
                         "name = 'n1'   # after a value\n"
                         "\n"
                         "[ node ]\n"
                         "data_dir = \"/a b/\\\"c\\\"\"\n"
                         "id = 1_000\n"
                         "[wal]\n"
                         "direct = false\n"
                         "segment-size = \"2MiB\"\n"
                         "[raft]\n"
                         "timing.election-timeout = \"2s\"\n"
                         "[cluster]\n"
                         "peers = [ \"a:1\", # first\n"
                         "  'b:2',\n"
                         "\n"
                         "]");
    ck_assert_msg(err == ERR_OK, "%s", msg);
    ck_assert_str_eq(cfg.name, "n1");
    ck_assert_str_eq(cfg.data_dir, "/a b/\"c\"");
    ck_assert_uint_eq(cfg.id, 1000);
    ck_assert(!cfg.direct);
    ck_assert_uint_eq(cfg.segment, 2 << 20);
    ck_assert_uint_eq(cfg.timeout, 2000);
    ck_assert_str_eq(cfg.peers, "a:1\nb:2");
    struct slice item;
    size_t it = 0;
    ck_assert(config_list_next(cfg.peers, &it, &item) && slice_eq(item, slice_str("a:1")));
    ck_assert(config_list_next(cfg.peers, &it, &item) && slice_eq(item, slice_str("b:2")));
    ck_assert(!config_list_next(cfg.peers, &it, &item));
}
END_TEST

START_TEST(values)
{
    static const struct {
        const char *text;
        uint64_t want;
        bool size; /* else duration */
    } rows[] = {
        {"wal.segment-size = \"1MiB\"", 1 << 20, true},
        {"wal.segment-size = \"64 MiB\"", 64 << 20, true},
        {"wal.segment-size = \"1GiB\"", 1 << 30, true},
        {"wal.segment-size = \"2MB\"", 2000000, true},
        {"wal.segment-size = \"1048577B\"", (1 << 20) + 1, true},
        {"wal.segment-size = 0x100000", 1 << 20, true},
        {"wal.segment-size = 2_000_000", 2000000, true},
        {"raft.timing.election-timeout = \"500ms\"", 500, false},
        {"raft.timing.election-timeout = 500", 500, false},
        {"raft.timing.election-timeout = \"1m\"", 60000, false},
        {"raft . timing . election_timeout=\"10s\"", 10000, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ck_assert_msg(parse(rows[i].text) == ERR_OK, "%s", msg);
        ck_assert_uint_eq(rows[i].size ? cfg.segment : cfg.timeout, rows[i].want);
    }
}
END_TEST

START_TEST(mistakes_name_line_and_guess)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"\n[node]\ndata-dri = 'x'",
         "f.toml:3: unknown key 'node.data-dri'; did you mean 'node.data-dir'?"},
        {"[wal]\nelection-timeout = 1",
         "f.toml:2: unknown key 'wal.election-timeout'; did you mean "
         "'raft.timing.election-timeout'?"},
        {"[nodes]", "f.toml:1: unknown section 'nodes'; did you mean 'node'?"},
        {"[completely-else]", "f.toml:1: unknown section 'completely-else'"},
        {"zzzzzzzz = 1", "f.toml:1: unknown key 'zzzzzzzz'"},
        {"[node\n", "f.toml:1: ']' is missing after the section's name"},
        {"[[node]]", "f.toml:1: arrays of tables ('[[') are not supported"},
        {"node.id", "f.toml:1: '=' is missing after 'node.id'"},
        {"node.id =", "f.toml:1: node.id: a value is expected"},
        {"node.id = 1 2", "f.toml:1: unexpected text after the value"},
        {"node.id = 1\nnode.id = 2", "f.toml:2: 'node.id' is given twice"},
        {"node.id = -1", "f.toml:1: node.id: a whole number is expected, such as 8"},
        {"node.id = \"1\"", "f.toml:1: node.id: a whole number is expected, such as 8"},
        {"node.id = 1.5", "f.toml:1: node.id: a whole number is expected, such as 8"},
        {"node.id = 99999999999999999999",
         "f.toml:1: node.id: a whole number is expected, such as 8"},
        {"node.id = 0", "f.toml:1: node.id: it must be at least 1"},
        {"node.id = 4097", "f.toml:1: node.id: it must be at most 4096"},
        {"name = ''", "f.toml:1: name: it must be at least 1 characters long"},
        {"name = '123456789'", "f.toml:1: name: it must be at most 8 characters long"},
        {"name = n1", "f.toml:1: name: a quoted string is expected"},
        {"name = \"n", "f.toml:1: name: the string's closing quote is missing"},
        {"name = \"\\q\"", "f.toml:1: name: only \\\" \\\\ \\n \\t \\r may follow a backslash"},
        {"name = '''x'''", "f.toml:1: name: strings over several lines are not supported"},
        {"name = ['x']", "f.toml:1: name: one string is expected, not a list"},
        {"wal.direct = 1", "f.toml:1: wal.direct: true or false is expected"},
        {"wal.segment-size = \"64 bytes\"",
         "f.toml:1: wal.segment-size: a size is expected, such as \"64MiB\""},
        {"wal.segment-size = \"99999999999TiB\"",
         "f.toml:1: wal.segment-size: a size is expected, such as \"64MiB\""},
        {"wal.segment-size = \"1KiB\"", "f.toml:1: wal.segment-size: it must be at least 1MiB"},
        {"raft.timing.election-timeout = \"1x\"",
         "f.toml:1: raft.timing.election-timeout: a duration is expected, such as \"500ms\" or "
         "\"10s\""},
        {"raft.timing.election-timeout = \"1h\"",
         "f.toml:1: raft.timing.election-timeout: it must be at most 1m"},
        {"cluster.peers = ['a'\n'b']",
         "f.toml:2: cluster.peers: ',' or ']' is expected in the list"},
        {"cluster.peers = [1]", "f.toml:1: cluster.peers: the list's items must be quoted strings"},
        {"cluster.peers = ['']",
         "f.toml:1: cluster.peers: a list's item is empty or holds a line break"},
        {"cluster.peers = ['a'", "f.toml:1: cluster.peers: ',' or ']' is expected in the list"},
        {"= 3", "f.toml:1: a name of letters, digits, '-' and '_' is expected"},
        {"a..b = 3", "f.toml:1: a name of letters, digits, '-' and '_' is expected"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ck_assert_int_eq(parse(rows[i].text), ERR_CONFIG);
        ck_assert_str_eq(msg, rows[i].want);
        check_defaults();
    }
}
END_TEST

START_TEST(a_late_mistake_changes_nothing)
{
    ck_assert_int_eq(parse("name = 'x'\nnode.id = 7\nnode.data-dir = '/y'\nnode.oops = 1"),
                     ERR_CONFIG);
    check_defaults();
}
END_TEST

START_TEST(zero_byte_and_long_names)
{
    ck_assert_int_eq(config_parse(keys, N, "f", slice_of("name='a\0b'", 10), &cfg, msg, 256),
                     ERR_CONFIG);
    char text[2000];
    memset(text, 'a', sizeof(text));
    ck_assert_int_eq(config_parse(keys, N, "f", slice_of(text, sizeof(text)), &cfg, msg, 256),
                     ERR_CONFIG);
    ck_assert_str_eq(msg, "f:1: the name is too long");
    ck_assert_int_eq(config_parse(keys, N, "f", slice_str("x=1"), &cfg, NULL, 0), ERR_CONFIG);
    char tiny[4];
    ck_assert_int_eq(config_parse(keys, N, "f", slice_str("x=1"), &cfg, tiny, 4), ERR_CONFIG);
    ck_assert_uint_eq(strlen(tiny), 3);
    check_defaults();
}
END_TEST

START_TEST(overrides)
{
    static const char *const good[] = {"node.id=7",          "node.data_dir=/tmp/x y",
                                       "wal.direct=false",   "wal.segment-size=2MiB",
                                       "cluster.peers=a, b", "raft.timing.election-timeout=20ms",
                                       "name=\"q\""};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ck_assert_msg(config_set(keys, N, good[i], &cfg, msg, sizeof(msg)) == ERR_OK, "%s", msg);
    ck_assert_uint_eq(cfg.id, 7);
    ck_assert_str_eq(cfg.data_dir, "/tmp/x y");
    ck_assert(!cfg.direct);
    ck_assert_uint_eq(cfg.segment, 2 << 20);
    ck_assert_str_eq(cfg.peers, "a\nb");
    ck_assert_uint_eq(cfg.timeout, 20);
    ck_assert_str_eq(cfg.name, "q");
    ck_assert_int_eq(config_set(keys, N, "cluster.peers=['c','d']", &cfg, msg, 256), ERR_OK);
    ck_assert_str_eq(cfg.peers, "c\nd");

    static const char *const bad[][2] = {
        {"node.idd=7", "unknown key 'node.idd'; did you mean 'node.id'?"},
        {"node.id", "'section.key=value' is expected, not 'node.id'"},
        {"node.id=", "node.id: a whole number is expected, such as 8"},
        {"name=\"q\"x", "name: unexpected text after the value"},
        {"", "a name of letters, digits, '-' and '_' is expected"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(config_set(keys, N, bad[i][0], &cfg, msg, sizeof(msg)), ERR_CONFIG);
        ck_assert_str_eq(msg, bad[i][1]);
    }
    ck_assert_uint_eq(cfg.id, 7);
}
END_TEST

START_TEST(printed_file_reads_back)
{
    struct buf a = {0}, b = {0};
    ck_assert_int_eq(config_set(keys, N, "node.data-dir=/q\"u\\o", &cfg, msg, 256), ERR_OK);
    ck_assert_int_eq(config_set(keys, N, "cluster.peers=a,b", &cfg, msg, 256), ERR_OK);
    ck_assert_int_eq(config_set(keys, N, "raft.timing.election-timeout=1500", &cfg, msg, 256),
                     ERR_OK);
    config_print(keys, N, &cfg, &a);
    config_free(keys, N, &cfg);
    ck_assert_int_eq(config_defaults(keys, N, &cfg), ERR_OK);
    ck_assert_msg(config_parse(keys, N, "p", buf_slice(&a), &cfg, msg, 256) == ERR_OK, "%s\n%.*s",
                  msg, (int)a.n, (char *)a.p);
    config_print(keys, N, &cfg, &b);
    ck_assert(slice_eq(buf_slice(&a), buf_slice(&b)));
    ck_assert_str_eq(cfg.data_dir, "/q\"u\\o");
    ck_assert_uint_eq(cfg.timeout, 1500);
    buf_u8(&a, 0);
    ck_assert_ptr_nonnull(strstr((char *)a.p, "segment-size = \"64MiB\"\n"));
    ck_assert_ptr_nonnull(strstr((char *)a.p, "election-timeout = \"1500ms\"\n"));
    buf_close(&a);
    buf_close(&b);
}
END_TEST

START_TEST(survives_mutations)
{
    static const char text[] = "name = 'n1'\n[node]\ndata-dir = \"/a\\tb\"\nid = 1_0\n[wal]\n"
                               "segment-size = \"2MiB\" # x\n[cluster]\npeers = ['a', 'b',\n]\n";
    struct rng rng;
    rng_seed(&rng, 11);
    for (int i = 0; i < 20000; i++) {
        char copy[sizeof(text)];
        memcpy(copy, text, sizeof(text));
        for (uint64_t k = rng_below(&rng, 4); k > 0; k--)
            copy[rng_below(&rng, sizeof(text) - 1)] = (char)rng_below(&rng, 128);
        size_t n = rng_below(&rng, 2) ? sizeof(text) - 1 : rng_below(&rng, sizeof(text));
        msg[0] = '\0';
        enum err err = config_parse(keys, N, "m", slice_of(copy, n), &cfg, msg, sizeof(msg));
        ck_assert(err == ERR_OK || msg[0] != '\0');
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("config");
    TCase *t = tcase_create("config");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, defaults);
    tcase_add_test(t, whole_file);
    tcase_add_test(t, values);
    tcase_add_test(t, mistakes_name_line_and_guess);
    tcase_add_test(t, a_late_mistake_changes_nothing);
    tcase_add_test(t, zero_byte_and_long_names);
    tcase_add_test(t, overrides);
    tcase_add_test(t, printed_file_reads_back);
    tcase_add_test(t, survives_mutations);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
