/* The configuration parser: any text is taken or refused with a message; what is taken prints to a
 * text that is taken and prints the same. */
#include "common/base/check.h"
#include "common/base/config.h"
#include "common/base/mem.h"
#include "tests/fuzz/fuzz.h"

#include <stdlib.h>

struct sample {
    char *name, *dir, *peers;
    uint64_t id, size, wait;
    bool on;
};

static const struct config_key keys[] = {
    {"", "name", CONFIG_STRING, offsetof(struct sample, name), "n", 0, 16, "A name"},
    {"node", "dir", CONFIG_STRING, offsetof(struct sample, dir), "/", 0, 0, NULL},
    {"node", "id", CONFIG_UINT, offsetof(struct sample, id), "1", 1, 99, NULL},
    {"node", "on", CONFIG_BOOL, offsetof(struct sample, on), "true", 0, 0, NULL},
    {"a.b", "size", CONFIG_SIZE, offsetof(struct sample, size), "1MiB", 0, 0, NULL},
    {"a.b", "wait", CONFIG_DURATION_MS, offsetof(struct sample, wait), "1s", 0, 0, NULL},
    {"a", "peers", CONFIG_STRING_LIST, offsetof(struct sample, peers), "", 0, 0, NULL},
};
#define N (sizeof(keys) / sizeof(keys[0]))

static void print_and_read_back(const struct sample *cfg)
{
    struct buf a = {0}, b = {0};
    struct sample again = {0};
    char msg[256] = "";
    config_print(keys, N, cfg, &a);
    CHECK(config_defaults(keys, N, &again) == ERR_OK);
    CHECK(config_parse(keys, N, "p", buf_slice(&a), &again, msg, sizeof(msg)) == ERR_OK);
    config_print(keys, N, &again, &b);
    CHECK(slice_eq(buf_slice(&a), buf_slice(&b)));
    config_free(keys, N, &again);
    buf_close(&a);
    buf_close(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sample cfg = {0};
    char msg[256] = "";
    CHECK(config_defaults(keys, N, &cfg) == ERR_OK);
    if (config_parse(keys, N, "f", slice_of(data, size), &cfg, msg, sizeof(msg)) != ERR_OK)
        CHECK(msg[0] != '\0');
    print_and_read_back(&cfg);

    char *assignment = mem_alloc(size + 1);
    if (size)
        memcpy(assignment, data, size);
    assignment[size] = '\0';
    msg[0] = '\0';
    if (config_set(keys, N, assignment, &cfg, msg, sizeof(msg)) != ERR_OK)
        CHECK(msg[0] != '\0');
    print_and_read_back(&cfg);
    free(assignment);
    config_free(keys, N, &cfg);
    return 0;
}
