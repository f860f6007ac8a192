/* See scenario.h. */
#include "tests/sim/scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const fault_names[] = {
#define FAULT_TEXT(name, text) text,
    FAULT_TABLE(FAULT_TEXT)
#undef FAULT_TEXT
};

const char *fault_name(enum fault f)
{
    return fault_names[f];
}

struct number_setting {
    const char *name;
    size_t offset;
    bool is_double;
};

#define UNSIGNED(text, member)                                                                     \
    {                                                                                              \
        text, offsetof(struct scenario, member), false                                             \
    }
#define DOUBLE(text, member)                                                                       \
    {                                                                                              \
        text, offsetof(struct scenario, member), true                                              \
    }
static const struct number_setting numbers[] = {
    UNSIGNED("nodes", nodes),
    UNSIGNED("members", members),
    UNSIGNED("groups", groups),
    UNSIGNED("placements", placements),
    UNSIGNED("clients", clients),
    UNSIGNED("keys", keys),
    UNSIGNED("reads", reads),
    UNSIGNED("segment-kib", segment_kib),
    UNSIGNED("damage", damage),
    UNSIGNED("operators", operators),
    UNSIGNED("hosts", hosts),
    UNSIGNED("zones", zones),
    UNSIGNED("down-ms", down_ms),
    UNSIGNED("dead-ms", dead_ms),
    UNSIGNED("stall-ms", stall_ms),
    UNSIGNED("split-bytes", split_bytes),
    UNSIGNED("max-groups", max_groups),
    UNSIGNED("replicas", replicas),
    UNSIGNED("removals", removals),
    UNSIGNED("lease", lease),
    UNSIGNED("apart", apart),
    UNSIGNED("levels", levels),
    UNSIGNED("sessions", sessions),
    UNSIGNED("retention-ms", retention_ms),
    DOUBLE("think-ms", think_ms),
    DOUBLE("begin", begin),
    DOUBLE("seconds", seconds),
    DOUBLE("healthy", healthy),
    DOUBLE("loss", loss),
};

static bool read_number(struct scenario *s, const char *word, const char *line)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char *at = (char *)s + numbers[i].offset;
        if (strcmp(word, numbers[i].name) != 0)
            continue;
        if (numbers[i].is_double)
            return sscanf(line, "%*s %lf", (double *)(void *)at) == 1;
        return sscanf(line, "%*s %u", (unsigned *)(void *)at) == 1;
    }
    return false;
}

static bool read_fault(struct scenario *s, const char *line)
{
    char name[32];
    struct scenario_fault f = {0, 0.2, 2.0};

    if (sscanf(line, "fault %31s every %lf for %lf %lf", name, &f.every, &f.min, &f.max) < 2)
        return false;
    for (int i = 0; i < FAULT_COUNT; i++)
        if (strcmp(name, fault_names[i]) == 0) {
            s->fault[i] = f;
            return f.max >= f.min && f.every > 0;
        }
    return false;
}

static bool read_setting(struct scenario *s, const char *word, const char *line)
{
    char value[32];

    if (strcmp(word, "world") == 0) {
        s->full = sscanf(line, "%*s %31s", value) == 1 && strcmp(value, "full") == 0;
        return s->full || strcmp(value, "raft") == 0;
    }
    if (strcmp(word, "swarm") == 0)
        return s->swarm = true;
    if (strcmp(word, "latency-us") == 0)
        return sscanf(line, "%*s %lf %lf", &s->latency_min_us, &s->latency_max_us) == 2;
    if (strcmp(word, "spike") == 0)
        return sscanf(line, "%*s %lf %lf", &s->spike, &s->spike_ms) == 2;
    if (strcmp(word, "fault") == 0)
        return read_fault(s, line);
    return read_number(s, word, line);
}

enum err scenario_load(const char *path, struct scenario *out, char *msg, size_t n)
{
    struct scenario s = {.nodes = 3,
                         .groups = 3,
                         .placements = 1,
                         .clients = 6,
                         .keys = 2,
                         .reads = 50,
                         .think_ms = 20,
                         .seconds = 6,
                         .healthy = 8,
                         .segment_kib = 256,
                         .damage = 1,
                         .zones = 1,
                         .latency_min_us = 50,
                         .latency_max_us = 500,
                         .spike = 0.002,
                         .spike_ms = 30};
    const char *base = strrchr(path, '/');
    FILE *f = fopen(path, "r");
    char line[256];
    unsigned number = 0;

    if (!f) {
        snprintf(msg, n, "%s: cannot be read", path);
        return ERR_NOT_FOUND;
    }
    snprintf(s.name, sizeof s.name, "%s", base ? base + 1 : path);
    while (fgets(line, sizeof line, f)) {
        char word[32];
        number++;
        line[strcspn(line, "#\n")] = 0;
        if (sscanf(line, "%31s", word) != 1)
            continue;
        if (!read_setting(&s, word, line)) {
            snprintf(msg, n, "%s:%u: not understood: %s", path, number, line);
            fclose(f);
            return ERR_CONFIG;
        }
    }
    fclose(f);
    *out = s;
    return ERR_OK;
}
