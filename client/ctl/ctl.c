/* What all commands share: errors, arguments, questions, the handle, dispatch. */
#include "client/ctl/ctl.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "client/ctl/output.h"
#include "client/ctl/session_file.h"
#include "client/kvadmin.h"

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
        snprintf(hint, sizeof(hint), "Usage: kvctl %s%s%s", c->name, c->args[0] ? " " : "",
                 c->args);
        print_error(ctl, CTL_USAGE, "USAGE", message, hint);
        return CTL_USAGE;
    }
    print_error(ctl, CTL_USAGE, "USAGE", message, "Try: kvctl --help");
    return CTL_USAGE;
}

uint64_t ctl_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
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
    else if (strcmp(end, "h") == 0)
        scale = 3600000;
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
    if (e != KV_OK) {
        *code = ctl_fail(ctl, ctl_exit_code(e), kv_err_name(e), NULL, "%s", msg);
        return NULL;
    }
    *code = ctl->session ? session_file_load(ctl) : CTL_OK;
    if (*code == CTL_OK)
        return ctl->kv;
    kv_close(ctl->kv, 0);
    ctl->kv = NULL; /* nothing to save: the file stays as it is */
    return NULL;
}

/* ---- dispatch ---- */

static void print_command_help(const struct ctl_command *c)
{
    printf("kvctl %s - %s\n\nusage: kvctl %s %s\n", c->name, c->what, c->name, c->args);
    if (c->more)
        printf("\n%s", c->more);
}

/* How many words of the command line make up the command's name; 0: another command. */
static int words_of(const struct ctl_command *c, int argc, char **argv)
{
    const char *name = c->name;
    for (int k = 0; k < argc; k++) {
        size_t n = strcspn(name, " ");
        if (strlen(argv[k]) != n || memcmp(argv[k], name, n) != 0)
            return 0;
        if (name[n] == '\0')
            return k + 1;
        name += n + 1;
    }
    return 0;
}

static bool begins_command(const char *words)
{
    size_t n = strlen(words);
    for (size_t i = 0; i < ctl_n_commands; i++)
        if (strncmp(ctl_commands[i].name, words, n) == 0 && ctl_commands[i].name[n] == ' ')
            return true;
    return false;
}

/* "cluster" of "cluster init": says what could follow. */
static int dispatch_unknown(struct ctl *ctl, int argc, char **argv)
{
    char list[400] = "", word[64];
    /* "cluster map": commands of three words */
    snprintf(word, sizeof(word), "%s%s%s", argv[0], argc > 1 ? " " : "", argc > 1 ? argv[1] : "");
    size_t n = strlen(word);
    if (!begins_command(word)) {
        n = strlen(argv[0]);
        snprintf(word, sizeof(word), "%s", argv[0]);
    }
    for (size_t i = 0; i < ctl_n_commands; i++) {
        const char *name = ctl_commands[i].name;
        if (strncmp(name, word, n) == 0 && name[n] == ' ') {
            size_t at = strlen(list);
            snprintf(list + at, sizeof(list) - at, "%skvctl %s", at ? ", " : "", name);
        }
    }
    const char *wrong =
        n == strlen(argv[0]) ? (argc > 1 ? argv[1] : NULL) : (argc > 2 ? argv[2] : NULL);
    if (list[0] && wrong)
        return ctl_usage(ctl, "", "there is no command '%s %s'; there are: %s", word, wrong, list);
    if (list[0])
        return ctl_usage(ctl, "", "'%s' is not complete: %s", word, list);
    return ctl_usage(ctl, "", "there is no command '%s'", word);
}

/* Commands that change something and cannot say beforehand what: better refused than done. */
static bool has_no_dry_run(const char *name)
{
    static const char *const names[] = {"put", "del", "cas", "cluster init", "playground"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
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
        if (ctl->dry_run && has_no_dry_run(c->name))
            return ctl_usage(ctl, c->name, "%s knows no --dry-run; nothing was done", c->name);
        optind = 0;    /* getopt_long starts afresh */
        char name[64]; /* it names the command in what it has to say */
        snprintf(name, sizeof(name), CTL_PROGRAM "%s", c->name);
        argv[words - 1] = name;
        return c->run(ctl, argc - words + 1, argv + words - 1);
    }
    return dispatch_unknown(ctl, argc, argv);
}
