/* kvctl: global options, help, dispatch, errors. */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "client/ctl/output.h"
#include "client/kvadmin.h"

#define DEFAULT_URL "kv://127.0.0.1:7101,127.0.0.1:7102,127.0.0.1:7103"
#define CLOSE_MS 100u

int ctl_exit_code(kv_err e)
{
    if (e >= 0)
        return e == KV_OK ? CTL_OK : CTL_NEGATIVE;
    switch (e) {
    case KV_BAD_REQUEST:
    case KV_UNKNOWN_METHOD:
    case KV_KEY_EMPTY:
    case KV_KEY_TOO_LARGE:
    case KV_VALUE_TOO_LARGE:
    case KV_TOO_LARGE:
        return CTL_USAGE;
    case KV_FORBIDDEN:
    case KV_REFUSED:
    case KV_EXISTS:
        return CTL_REFUSED;
    case KV_NO_LEADER:
    case KV_UNREACHABLE:
    case KV_CLOSED:
        return CTL_UNREACHABLE;
    case KV_TIMEOUT:
    case KV_UNKNOWN_OUTCOME:
        return CTL_UNKNOWN;
    default:
        return CTL_SERVER;
    }
}

static void print_error(const struct ctl *ctl, int number, const char *name, const char *message,
                        const char *hint)
{
    if (ctl->output == CTL_JSON) {
        json_t *o = json_object();
        json_object_set_new(o, "schema", json_integer(1));
        json_object_set_new(o, "error", json_integer(number));
        json_object_set_new(o, "name", json_string(name));
        json_object_set_new(o, "message", json_string(message));
        json_object_set_new(o, "hint", hint ? json_string(hint) : json_null());
        json_dumpf(o, stderr, JSON_COMPACT);
        fputc('\n', stderr);
        json_decref(o);
        return;
    }
    fprintf(stderr, "kvctl: %s\n", message);
    if (hint)
        fprintf(stderr, "%s\n", hint);
}

int ctl_fail(const struct ctl *ctl, int code, const char *name, const char *hint, const char *fmt,
             ...)
{
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    print_error(ctl, code, name, message, hint);
    return code;
}

static const char *hint_of(const struct ctl *ctl, kv_err e, bool maybe_applied)
{
    if (maybe_applied)
        return "The write may or may not have been applied: read the key before trying again.";
    switch (e) {
    case KV_UNREACHABLE:
        return ctl->url_given ? "Is the cluster running, and is the URL right?"
                              : "Start a local cluster: kvctl playground start. "
                                "Or name one: --url kv://host:port or KV_URL.";
    case KV_NOT_READY:
        return "If the cluster is new: kvctl cluster init";
    case KV_NO_LEADER:
        return "A majority of the group's replicas may be down: kvctl status";
    default:
        return NULL;
    }
}

int ctl_fail_kv(const struct ctl *ctl, kv_err e, bool maybe_applied, const char *text)
{
    char message[512];
    bool more = text && text[0] && strcmp(text, kv_err_str(e)) != 0;
    snprintf(message, sizeof(message), "%s%s%s%s", kv_err_str(e), more ? " (" : "",
             more ? text : "", more ? ")" : "");
    print_error(ctl, e, kv_err_name(e), message, hint_of(ctl, e, maybe_applied));
    return maybe_applied ? CTL_UNKNOWN : ctl_exit_code(e);
}

int ctl_usage(const struct ctl *ctl, const char *command, const char *fmt, ...)
{
    char message[512], hint[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof(message), fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < ctl_n_commands; i++) {
        const struct ctl_command *c = &ctl_commands[i];
        if (strcmp(c->name, command) != 0)
            continue;
        snprintf(hint, sizeof(hint), "Usage: kvctl %s %s", c->name, c->args);
        print_error(ctl, CTL_USAGE, "USAGE", message, hint);
        return CTL_USAGE;
    }
    print_error(ctl, CTL_USAGE, "USAGE", message, "Try: kvctl --help");
    return CTL_USAGE;
}

bool ctl_parse_u64(const char *text, unsigned long long *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == '\0';
}

bool ctl_parse_duration(const char *text, unsigned *ms)
{
    char *end;
    double v = strtod(text, &end), scale;
    if (end == text || !(v >= 0))
        return false;
    if (strcmp(end, "ms") == 0)
        scale = 1;
    else if (strcmp(end, "s") == 0 || *end == '\0')
        scale = 1000;
    else if (strcmp(end, "m") == 0)
        scale = 60000;
    else
        return false;
    if (v * scale > 86400000.0)
        return false;
    *ms = (unsigned)(v * scale);
    return true;
}

bool ctl_confirm(const struct ctl *ctl, const char *question, const char *word)
{
    char line[256];
    if (ctl->yes)
        return true;
    if (!isatty(STDIN_FILENO)) {
        ctl_fail(ctl, CTL_REFUSED, "REFUSED", "Give --yes to go on without being asked.", "%s",
                 question);
        return false;
    }
    fprintf(stderr, "%s\nType %s to go on: ", question, word);
    if (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, word) == 0)
            return true;
    }
    ctl_fail(ctl, CTL_REFUSED, "REFUSED", NULL, "not confirmed; nothing was changed");
    return false;
}

kv_client *ctl_client(struct ctl *ctl, int *code)
{
    if (ctl->kv)
        return ctl->kv;
    kv_options o = KV_OPTIONS_INIT;
    char msg[256] = "";
    /* The library waits for a cluster to come, up to the deadline; who types a command wants to
     * hear at once that nobody is there. */
    struct shard_map map;
    kv_err there = kvadmin_map(ctl->url, ctl->timeout_ms, &map, msg, sizeof(msg));
    if (there == KV_UNREACHABLE) {
        *code = ctl_fail_kv(ctl, there, false, msg);
        return NULL;
    }
    if (there == KV_OK)
        shard_map_close(&map);
    o.name = "kvctl";
    o.timeout_ms = ctl->timeout_ms;
    kv_err e = kv_open(ctl->url, &o, &ctl->kv, msg, sizeof(msg));
    if (e == KV_OK)
        return ctl->kv;
    *code = ctl_fail(ctl, ctl_exit_code(e), kv_err_name(e), NULL, "%s", msg);
    return NULL;
}

/* ---- help and dispatch ---- */

static void print_help(void)
{
    printf("kvctl - look at and steer a shardkv cluster\n\nusage: kvctl [options] COMMAND ...\n\n");
    for (size_t i = 0; i < ctl_n_commands; i++)
        printf("  %-13s %s\n", ctl_commands[i].name, ctl_commands[i].what);
    printf("\noptions, before or after the command:\n"
           "  --url URL           kv://host:port,host:port (KV_URL; default: the playground's)\n"
           "  -o FORMAT           plain, table or json\n"
           "  --timeout T         of one call: 5s, 500ms\n"
           "  --yes               do not ask\n"
           "  --color WHEN        auto, always or never (NO_COLOR is honoured)\n"
           "  --help, --version   kvctl COMMAND --help tells more of a command\n"
           "\nexit codes: 0 ok; 1 a negative answer; 2 usage; 3 unreachable; 4 outcome unknown;\n"
           "5 refused by a safety check; 6 server error\n");
}

static void print_command_help(const struct ctl_command *c)
{
    printf("kvctl %s - %s\n\nusage: kvctl %s %s\n", c->name, c->what, c->name, c->args);
    if (c->more)
        printf("\n%s", c->more);
}

/* How many words of the command line make up the command's name; 0: another command. */
static int words_of(const struct ctl_command *c, int argc, char **argv)
{
    const char *space = strchr(c->name, ' ');
    if (!space)
        return argc > 0 && strcmp(argv[0], c->name) == 0 ? 1 : 0;
    size_t n = (size_t)(space - c->name);
    return argc > 1 && strlen(argv[0]) == n && memcmp(argv[0], c->name, n) == 0 &&
                   strcmp(argv[1], space + 1) == 0
               ? 2
               : 0;
}

/* "cluster" of "cluster init": says what could follow. */
static int dispatch_unknown(struct ctl *ctl, const char *word)
{
    char list[256] = "";
    size_t n = strlen(word);
    for (size_t i = 0; i < ctl_n_commands; i++) {
        const char *name = ctl_commands[i].name;
        if (strncmp(name, word, n) == 0 && name[n] == ' ') {
            size_t at = strlen(list);
            snprintf(list + at, sizeof(list) - at, "%skvctl %s", at ? ", " : "", name);
        }
    }
    if (list[0])
        return ctl_usage(ctl, "", "'%s' is not complete: %s", word, list);
    return ctl_usage(ctl, "", "there is no command '%s'", word);
}

int ctl_dispatch(struct ctl *ctl, int argc, char **argv)
{
    for (size_t i = 0; i < ctl_n_commands; i++) {
        const struct ctl_command *c = &ctl_commands[i];
        int words = words_of(c, argc, argv);
        if (!words)
            continue;
        for (int k = words; k < argc; k++) {
            if (strcmp(argv[k], "--") == 0)
                break;
            if (strcmp(argv[k], "--help") == 0 || strcmp(argv[k], "-h") == 0) {
                print_command_help(c);
                return CTL_OK;
            }
        }
        optind = 0; /* getopt_long starts afresh */
        return c->run(ctl, argc - words + 1, argv + words - 1);
    }
    return dispatch_unknown(ctl, argv[0]);
}

static bool want_color(const char *when)
{
    if (strcmp(when, "always") == 0)
        return true;
    const char *no = getenv("NO_COLOR");
    return strcmp(when, "never") != 0 && !(no && no[0]) && isatty(STDOUT_FILENO);
}

/* Takes a global option at argv[i]: how many words it has; 0: it is none; -1: wrong, printed. */
static int global_option(struct ctl *ctl, int argc, char **argv, int i)
{
    static const char *const names[] = {"--url", "-o", "--timeout", "--color"};
    const char *arg = argv[i], *value = NULL;
    size_t k = 0;
    int words = 1;
    if (strcmp(arg, "--yes") == 0 || strcmp(arg, "--dry-run") == 0) {
        *(arg[2] == 'y' ? &ctl->yes : &ctl->dry_run) = true;
        return 1;
    }
    for (; k < 4; k++) {
        size_t n = strlen(names[k]);
        if (strcmp(arg, names[k]) == 0) {
            words = 2;
            value = i + 1 < argc ? argv[i + 1] : NULL;
            break;
        }
        if (k != 1 && strncmp(arg, names[k], n) == 0 && arg[n] == '=') {
            value = arg + n + 1;
            break;
        }
    }
    if (k == 4)
        return 0;
    if (!value)
        return ctl_usage(ctl, "", "%s wants a value", arg), -1;
    bool ok = true;
    if (k == 0) {
        ctl->url = value;
        ctl->url_given = true;
    } else if (k == 1) {
        ok = strcmp(value, "plain") == 0 || strcmp(value, "table") == 0 ||
             strcmp(value, "json") == 0;
        ctl->output = value[0] == 'j' ? CTL_JSON : value[0] == 't' ? CTL_TABLE : CTL_PLAIN;
    } else if (k == 2) {
        ok = ctl_parse_duration(value, &ctl->timeout_ms) && ctl->timeout_ms > 0;
        ctl->timeout_given = true;
    } else {
        ctl->color = want_color(value);
    }
    return ok ? words : (ctl_usage(ctl, "", "%s does not know '%s'", names[k], value), -1);
}

int main(int argc, char **argv)
{
    const char *url = getenv("KV_URL");
    struct ctl ctl = {.url = url && url[0] ? url : DEFAULT_URL,
                      .url_given = url && url[0],
                      .timeout_ms = 5000,
                      .color = want_color("auto")};
    char **rest = calloc((size_t)argc + 1, sizeof(char *));
    int n = 0;
    bool literal = false; /* after "--" */
    for (int i = 1; i < argc;) {
        int words = literal ? 0 : global_option(&ctl, argc, argv, i);
        if (words < 0)
            return free(rest), CTL_USAGE;
        literal = literal || strcmp(argv[i], "--") == 0;
        if (words == 0)
            rest[n++] = argv[i++];
        i += words;
    }
    int code = CTL_OK;
    if (n == 0 || strcmp(rest[0], "help") == 0 || strcmp(rest[0], "--help") == 0 ||
        strcmp(rest[0], "-h") == 0) {
        print_help();
        code = n == 0 ? CTL_USAGE : CTL_OK;
    } else if (strcmp(rest[0], "--version") == 0) {
        printf("kvctl %s\n", kv_version());
    } else {
        code = ctl_dispatch(&ctl, n, rest);
    }
    kv_close(ctl.kv, CLOSE_MS);
    free(rest);
    if (fflush(stdout) != 0 && code == CTL_OK)
        code = CTL_SERVER;
    return code;
}
