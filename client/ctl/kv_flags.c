#include "client/ctl/kv_flags.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define DAY_MS 86400000.0
#define TTL_MAX_MS (36525 * DAY_MS)

bool kv_flags_ttl(const char *text, uint64_t *ms)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"m", 60000}, {"h", 3600000}, {"d", DAY_MS}};
    char *end;
    double v = strtod(text, &end);
    if (end == text || text[0] < '0' || text[0] > '9')
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].unit) != 0)
            continue;
        if (v * units[i].ms < 1 || v * units[i].ms > TTL_MAX_MS)
            return false;
        *ms = (uint64_t)(v * units[i].ms);
        return true;
    }
    return false;
}

bool kv_flags_read(const char *text, kv_callopts *opts)
{
    static const char bounded[] = "bounded:";
    if (strncmp(text, bounded, sizeof(bounded) - 1) == 0) {
        opts->read = KV_READ_BOUNDED;
        return ctl_parse_duration(text + sizeof(bounded) - 1, &opts->max_staleness_ms) &&
               opts->max_staleness_ms > 0;
    }
    if (strcmp(text, "linearizable") == 0)
        opts->read = KV_READ_LINEARIZABLE;
    else if (strcmp(text, "session") == 0)
        opts->read = KV_READ_SESSION;
    else if (strcmp(text, "any") == 0)
        opts->read = KV_READ_ANY;
    else
        return false;
    return true;
}

bool kv_flags_number(const char *text, int64_t *out)
{
    char *end;
    size_t sign = text[0] == '-' || text[0] == '+';
    if (text[sign] < '0' || text[sign] > '9')
        return false;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || *end)
        return false;
    *out = v;
    return true;
}

static bool set(struct ctl *ctl, const char *command, int flag, const char *text,
                struct kv_flags *f)
{
    unsigned long long version;
    switch (flag) {
    case FLAG_TTL:
        f->opts.flags |= KV_TTL;
        return kv_flags_ttl(text, &f->opts.ttl_ms) ||
               (ctl_usage(ctl, command, "'%s' is no time to live: 30s, 500ms, 2m, 1h, 7d", text),
                false);
    case FLAG_IF_VERSION:
        if (!ctl_parse_u64(text, &version))
            return ctl_usage(ctl, command, "'%s' is not a version", text), false;
        f->opts.flags |= KV_IF_VERSION;
        f->opts.if_version = version;
        return true;
    case FLAG_IF_ABSENT:
        f->opts.flags |= KV_IF_ABSENT;
        return true;
    case FLAG_READ:
        return kv_flags_read(text, &f->opts) ||
               (ctl_usage(ctl, command,
                          "'%s' is no read level: linearizable, session, bounded:500ms or any",
                          text),
                false);
    default:
        f->raw = true;
        return true;
    }
}

bool kv_flags_parse(struct ctl *ctl, const char *command, unsigned allowed, int argc, char **argv,
                    struct kv_flags *out)
{
    static const struct option all[] = {{"ttl", required_argument, NULL, FLAG_TTL},
                                        {"if-version", required_argument, NULL, FLAG_IF_VERSION},
                                        {"if-absent", no_argument, NULL, FLAG_IF_ABSENT},
                                        {"read", required_argument, NULL, FLAG_READ},
                                        {"raw", no_argument, NULL, FLAG_RAW}};
    struct option options[sizeof(all) / sizeof(all[0]) + 1] = {0};
    size_t n = 0;
    *out = (struct kv_flags){.opts = KV_CALLOPTS_INIT};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        if ((unsigned)all[i].val & allowed)
            options[n++] = all[i];
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;)
        if (o == '?' || !set(ctl, command, o, optarg, out))
            return false;
    if ((out->opts.flags & KV_IF_VERSION) && (out->opts.flags & KV_IF_ABSENT))
        return ctl_usage(ctl, command, "--if-version and --if-absent exclude each other"), false;
    return true;
}
