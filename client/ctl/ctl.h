/* kvctl: what all commands share.
 *
 * main.c parses the global options, finds the command in the table of commands.c and calls it with
 * its own arguments (argv[0]: "kvctl node list"). Commands print data on stdout and
 * everything else on stderr, and return the exit code.
 * Thread: main.  Depends on: kvclient.h, kvadmin.h. */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/kvclient.h"

enum ctl_output { CTL_PLAIN, CTL_TABLE, CTL_JSON };

enum ctl_exit {
    CTL_OK = 0,
    CTL_NEGATIVE = 1, /* not found, condition failed, unhealthy */
    CTL_USAGE = 2,
    CTL_UNREACHABLE = 3,
    CTL_UNKNOWN = 4, /* outcome unknown */
    CTL_REFUSED = 5,
    CTL_SERVER = 6,
};

struct ctl {
    const char *url;
    bool url_given; /* by --url or KV_URL: not the playground's default */
    enum ctl_output output;
    unsigned timeout_ms;
    bool timeout_given;
    bool yes, dry_run, color;
    const char *session; /* file (session_file.h), or NULL */
    kv_client *kv;       /* opened on first use by ctl_client() */
    bool in_shell;
};

struct ctl_command {
    const char *name; /* "get", "cluster init" */
    const char *args; /* "KEY VALUE|- [--if-absent]" */
    const char *what; /* one line */
    const char *more; /* paragraphs for --help; may be NULL */
    int (*run)(struct ctl *ctl, int argc, char **argv);
};
extern const struct ctl_command ctl_commands[];
extern const size_t ctl_n_commands;

#define CTL_PROGRAM "kvctl "

/* Runs one command line without the program's name. */
int ctl_dispatch(struct ctl *ctl, int argc, char **argv);

/* The handle, or NULL with the error printed and *code set. */
kv_client *ctl_client(struct ctl *ctl, int *code);

/* Prints an error (as JSON with -o json) on stderr and returns `code`. `hint` may be NULL. */
int ctl_fail(const struct ctl *ctl, int code, const char *name, const char *hint, const char *fmt,
             ...) __attribute__((format(printf, 5, 6)));
/* The same for an error of the library; `text` says more. */
int ctl_fail_kv(const struct ctl *ctl, kv_err e, bool maybe_applied, const char *text);
/* Wrong arguments: says how it goes. */
int ctl_usage(const struct ctl *ctl, const char *command, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int ctl_exit_code(kv_err e);

/* "30s", "500ms", "2m", "1h", "5" (seconds) into ms; a day at most. */
bool ctl_parse_duration(const char *text, unsigned *ms);
bool ctl_parse_u64(const char *text, unsigned long long *out);
/* Of the monotonic clock. */
uint64_t ctl_now_ms(void);
/* Asks for `word` to be typed; true with --yes. Never asks without a terminal. */
bool ctl_confirm(const struct ctl *ctl, const char *question, const char *word);

/* ---- commands ---- */
int cmd_get(struct ctl *ctl, int argc, char **argv);
int cmd_put(struct ctl *ctl, int argc, char **argv);
int cmd_del(struct ctl *ctl, int argc, char **argv);
int cmd_cas(struct ctl *ctl, int argc, char **argv);
int cmd_mget(struct ctl *ctl, int argc, char **argv);
int cmd_import(struct ctl *ctl, int argc, char **argv);
int cmd_export(struct ctl *ctl, int argc, char **argv);
int cmd_verify_linear(struct ctl *ctl, int argc, char **argv);
int cmd_incr(struct ctl *ctl, int argc, char **argv);
int cmd_touch(struct ctl *ctl, int argc, char **argv);
int cmd_persist(struct ctl *ctl, int argc, char **argv);
int cmd_locate(struct ctl *ctl, int argc, char **argv);
int cmd_status(struct ctl *ctl, int argc, char **argv);
int cmd_nodes(struct ctl *ctl, int argc, char **argv);
int cmd_groups(struct ctl *ctl, int argc, char **argv);
int cmd_cluster_init(struct ctl *ctl, int argc, char **argv);
int cmd_node_list(struct ctl *ctl, int argc, char **argv);
int cmd_node_show(struct ctl *ctl, int argc, char **argv);
int cmd_node_drain(struct ctl *ctl, int argc, char **argv);
int cmd_node_undrain(struct ctl *ctl, int argc, char **argv);
int cmd_node_remove(struct ctl *ctl, int argc, char **argv);
int cmd_node_maintenance(struct ctl *ctl, int argc, char **argv);
int cmd_group_list(struct ctl *ctl, int argc, char **argv);
int cmd_group_show(struct ctl *ctl, int argc, char **argv);
int cmd_group_split(struct ctl *ctl, int argc, char **argv);
int cmd_group_merge(struct ctl *ctl, int argc, char **argv);
int cmd_group_transfer(struct ctl *ctl, int argc, char **argv);
int cmd_group_move(struct ctl *ctl, int argc, char **argv);
int cmd_group_add(struct ctl *ctl, int argc, char **argv);
int cmd_group_remove(struct ctl *ctl, int argc, char **argv);
int cmd_rebalance_plan(struct ctl *ctl, int argc, char **argv);
int cmd_rebalance_apply(struct ctl *ctl, int argc, char **argv);
int cmd_rebalance_status(struct ctl *ctl, int argc, char **argv);
int cmd_rebalance_watch(struct ctl *ctl, int argc, char **argv);
int cmd_rebalance_pause(struct ctl *ctl, int argc, char **argv);
int cmd_rebalance_resume(struct ctl *ctl, int argc, char **argv);
int cmd_rebalance_cancel(struct ctl *ctl, int argc, char **argv);
int cmd_operator_list(struct ctl *ctl, int argc, char **argv);
int cmd_operator_cancel(struct ctl *ctl, int argc, char **argv);
int cmd_why(struct ctl *ctl, int argc, char **argv);
int cmd_hot(struct ctl *ctl, int argc, char **argv);
int cmd_cluster_members(struct ctl *ctl, int argc, char **argv);
int cmd_member_add(struct ctl *ctl, int argc, char **argv);
int cmd_member_remove(struct ctl *ctl, int argc, char **argv);
int cmd_map_export(struct ctl *ctl, int argc, char **argv);
int cmd_map_import(struct ctl *ctl, int argc, char **argv);
int cmd_cluster_recover(struct ctl *ctl, int argc, char **argv);
int cmd_rolling_restart(struct ctl *ctl, int argc, char **argv);
int cmd_doctor(struct ctl *ctl, int argc, char **argv);
int cmd_playground(struct ctl *ctl, int argc, char **argv);
int cmd_shell(struct ctl *ctl, int argc, char **argv);

#endif
