/* What a playground's directory says of it, for kvctl and kvbench. */
#include "client/ctl/playground_file.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/playground.h"

#define HERE "run"
#define USUAL_URL "kv://127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103"

bool playground_is_gone(const struct playground *pg, unsigned i)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/p%u/removed", pg->dir, i + 1);
    return i < pg->members && access(path, F_OK) == 0;
}

void playground_addresses(const struct playground *pg, unsigned offset, bool ids, unsigned of,
                          char out[PLAYGROUND_ADDRESSES])
{
    size_t at = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < of && at + 32 < PLAYGROUND_ADDRESSES; i++) {
        if (playground_is_gone(pg, i))
            continue;
        at += (size_t)snprintf(out + at, PLAYGROUND_ADDRESSES - at, "%s", at ? "," : "");
        if (ids)
            at += (size_t)snprintf(out + at, PLAYGROUND_ADDRESSES - at, "%u=", i + 1);
        at += (size_t)snprintf(out + at, PLAYGROUND_ADDRESSES - at, "127.0.0.1:%u",
                               pg->base_port + offset + i);
    }
}

void playground_set_url(struct playground *pg)
{
    char list[PLAYGROUND_ADDRESSES];
    playground_addresses(pg, 101, false, pg->members, list);
    snprintf(pg->url, sizeof(pg->url), "kv://%s", list);
}

bool playground_add_set(struct playground *pg, const char *text)
{
    const char *equals = strchr(text, '=');
    if (!equals || !strchr(text, '.') || strlen(text) >= sizeof(pg->sets[0]))
        return false;
    size_t key = (size_t)(equals - text) + 1;
    unsigned i = 0;
    while (i < pg->n_sets && strncmp(pg->sets[i], text, key) != 0)
        i++;
    if (i == PLAYGROUND_SETS_MAX)
        return false;
    snprintf(pg->sets[i], sizeof(pg->sets[i]), "%s", text);
    pg->n_sets += i == pg->n_sets;
    return true;
}

static void load_sets(struct playground *pg, const json_t *list)
{
    pg->n_sets = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (text)
            (void)playground_add_set(pg, text);
    }
}

bool playground_read(struct playground *pg)
{
    char path[600];
    json_error_t error;
    snprintf(path, sizeof(path), "%s/playground.json", pg->dir);
    pg->exists = access(path, F_OK) == 0;
    if (!pg->exists)
        return true;
    json_t *o = json_load_file(path, 0, &error);
    int base, nodes, groups, cores, members = PLAYGROUND_MEMBERS, founders = PLAYGROUND_MEMBERS;
    if (!o ||
        json_unpack(o, "{s:i,s:i,s:i,s:i,s?i,s?i}", "base_port", &base, "nodes", &nodes, "groups",
                    &groups, "cores", &cores, "placements", &members, "founders", &founders) != 0 ||
        base < 1 || nodes < 1 || nodes > (int)PLAYGROUND_NODES_MAX || groups < 1 || cores < 1 ||
        founders < 1 || members < founders || members > (int)PLAYGROUND_MEMBERS_MAX) {
        json_decref(o);
        return false;
    }
    pg->base_port = (unsigned)base;
    pg->nodes = (unsigned)nodes;
    pg->groups = (unsigned)groups;
    pg->cores = (unsigned)cores;
    pg->members = pg->old_members = (unsigned)members;
    pg->founders = (unsigned)founders;
    load_sets(pg, json_object_get(o, "set"));
    json_decref(o);
    playground_set_url(pg);
    return true;
}

bool playground_at(const char *dir, struct playground *pg)
{
    char real[PATH_MAX];
    *pg = (struct playground){0};
    if (!realpath(dir, real) || strlen(real) >= sizeof(pg->dir))
        return false;
    memcpy(pg->dir, real, strlen(real) + 1);
    return true;
}

const char *playground_default_url(bool *damaged)
{
    static struct playground here;
    const char *given = getenv("KV_URL");
    *damaged = false;
    if (given && given[0])
        return given;
    if (access(HERE "/playground.json", R_OK) != 0 || !playground_at(HERE, &here))
        return USUAL_URL;
    *damaged = !playground_read(&here);
    return *damaged || !here.exists ? USUAL_URL : here.url;
}
