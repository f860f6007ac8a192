/* kvctl: global options and help. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/ctl.h"
#include "client/ctl/playground_file.h"
#include "client/ctl/session_file.h"

#define CLOSE_MS 100u

static void print_help(void)
{
    printf("kvctl - look at and steer a shardkv cluster\n\nusage: kvctl [options] COMMAND ...\n\n");
    for (size_t i = 0; i < ctl_n_commands; i++)
        printf("  %-23s %s\n", ctl_commands[i].name, ctl_commands[i].what);
    printf("\noptions, before or after the command:\n"
           "  --url URL           kv://host:port,host:port (KV_URL; default: the playground in "
           "./run)\n"
           "  -o FORMAT           plain, table or json\n"
           "  --timeout T         of one call: 5s, 500ms\n"
           "  --session FILE      go on with what is kept there of a session: gets with --read "
           "session\n"
           "                      see what was written and read in it before; then keep it there\n"
           "  --yes               do not ask\n"
           "  --dry-run           only say what would be done\n"
           "  --color WHEN        auto, always or never (NO_COLOR is honoured)\n"
           "  --help, --version   kvctl COMMAND --help tells more of a command\n"
           "\nexit codes: 0 ok; 1 a negative answer; 2 usage; 3 unreachable; 4 outcome unknown;\n"
           "5 refused by a safety check; 6 server error\n");
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
    static const char *const names[] = {"--url", "-o", "--timeout", "--session", "--color"};
    enum { N_NAMES = 5 };
    const char *arg = argv[i], *value = NULL;
    size_t k = 0;
    int words = 1;
    if (strcmp(arg, "--yes") == 0 || strcmp(arg, "--dry-run") == 0) {
        *(arg[2] == 'y' ? &ctl->yes : &ctl->dry_run) = true;
        return 1;
    }
    for (; k < N_NAMES; k++) {
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
    if (k == N_NAMES)
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
    } else if (k == 3) {
        ok = value[0] != '\0';
        ctl->session = value;
    } else {
        ctl->color = want_color(value);
    }
    return ok ? words : (ctl_usage(ctl, "", "%s does not know '%s'", names[k], value), -1);
}

static void default_url(struct ctl *ctl)
{
    bool damaged = false;
    if (!ctl->url_given)
        ctl->url = playground_default_url(&damaged);
    if (damaged)
        ctl_fail(ctl, CTL_SERVER, "CORRUPT", NULL, "run/playground.json is damaged");
}

int main(int argc, char **argv)
{
    const char *url = getenv("KV_URL");
    struct ctl ctl = {
        .url = url, .url_given = url && url[0], .timeout_ms = 5000, .color = want_color("auto")};
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
    default_url(&ctl);
    if (n == 0 || strcmp(rest[0], "help") == 0 || strcmp(rest[0], "--help") == 0 ||
        strcmp(rest[0], "-h") == 0) {
        print_help();
        code = n == 0 ? CTL_USAGE : CTL_OK;
    } else if (strcmp(rest[0], "--version") == 0) {
        printf("kvctl %s\n", kv_version());
    } else {
        code = ctl_dispatch(&ctl, n, rest);
    }
    int kept = ctl.session ? session_file_save(&ctl) : CTL_OK;
    code = code == CTL_OK ? kept : code;
    kv_close(ctl.kv, CLOSE_MS);
    free(rest);
    if (fflush(stdout) != 0 && code == CTL_OK)
        code = CTL_SERVER;
    return code;
}
