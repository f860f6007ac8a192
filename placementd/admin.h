/* Methods that operators call (kvctl): what they ask, how they are answered. Leader only.
 *
 * Each takes one params map and answers a map that goes to JSON one to one (ids as integers; kvctl
 * makes strings of them). Nodes are named by name or id, groups by id. "plan": true only says what
 * would happen. A refusal (ERR_REFUSED) says why in the error's text.
 *
 *   admin.node       {"action":"drain"|"undrain"|"remove"|"maintenance", "node", "for_ms"?,
 * "plan"?}
 *       -> {"node","state","version","ops":[op...],"bytes","seconds","rate","at_a_time",
 *           "lowest_voters","nodes":[load...]}        for_ms 0: no maintenance any more
 *   admin.group      {"action":"split"|"merge"|"transfer-leader"|"move-replica"|"add-replica"|
 *                     "remove-replica", "group", "slot"?, "into"?, "from"?, "to"?, "plan"?}
 *       -> {"operators":[id...], "ops":[op...]}       slot absent: the middle of the range;
 *                                                     to absent: the best node
 *   admin.rebalance  {"action":"plan"|"apply"|"status"|"pause"|"resume"|"cancel", "plan"?}
 *       plan   -> {"plan":hex id,"version":map version,"ops":[op...],"bytes","seconds","rate",
 *                  "at_a_time","lowest_voters","nodes":[load...]}
 *       apply  -> {"operators":[id...],"refused":[text...]}  refused once the map's version has
 *                  changed; what a group can only do later is left out, in "refused"
 *       status -> {"paused":bool,"auto":bool,"balances":bool,"why_not":text,"running":n,"queued":n,
 *                  "bytes_left","rate","seconds_left","operators":[operator...]}
 *       cancel -> {"cancelled":n,"kept":n,"balances":bool}   those of balancing only; kept: too far
 *                  on to be taken back
 *   admin.operator   {"action":"list"|"cancel", "id"?, "all"?:bool}
 *       list   -> {"operators":[operator...], "finished":[{"id","kind","group","outcome":"done"|
 *                  "cancelled"|"failed","why","reason","ended_ms"}...]}
 *       cancel -> {"cancelled":n,"kept":n}
 *   admin.why        {"group"|"node"|"operator"|"slot"} -> {"lines":[text...]}: state, what is
 *                                       wanted, what it waits for, what the planner refused and why
 *   admin.map        {"action":"export"} -> {"state":bin,"version","nodes","groups","cluster":hex};
 *                    {"action":"import","state":bin,"plan"?} -> {"version","nodes","groups"}
 *
 *   admin.member     {"action":"add"|"remove"|"list", "id"?, "peer"?, "plan"?}
 *       -> {"text":what will happen,"note":what is under way,"next_id",
 *           "members":[{"id","peer","client","role"}...]}         placementd's own; membership.h
 *
 *   admin.recover    {"action":"plan"|"apply", "lost":[node...]}
 *       -> {"phase":"lost"|"adopt"|"rebuild", "ready":bool, "lines":[text...]}   what would be
 * done, or is; not ready: what is missing, and apply is refused. With groups in the map: the named
 *          nodes are given up, and groups that lost their majority go on with what is left
 *          (recover_lost.h). Without: the map is made from what the nodes have (recover_map.h):
 * first the id of their cluster is adopted, then, once all is heard, the map.
 *
 *   op:       {"kind","group","first_slot","last_slot","replica","from","to","slot","into","bytes",
 *              "why"}                                                    (node names, "": none)
 *   operator:
 * {"id","kind","group","state":"queued"|"running"|"cancelling","step":name,"at","steps",
 *              "from","to","bytes","moved","reason","origin","age_ms","waits_for":text}
 *   load:     {"node","before_percent","after_percent","peak_disk_percent"}
 *
 * Life of a call (request.c): admin_decode -> the leader proves that it leads -> admin_serve, which
 * answers, refuses, or proposes commands -> admin_on_result for each of them -> the answer.
 *
 * Owner: struct server.  Thread: the loop.  Depends on: driver, plan, cluster. */
#ifndef PLACEMENTD_ADMIN_H
#define PLACEMENTD_ADMIN_H

#include "placementd/driver.h"
#include "placementd/plan_view.h"

struct membership;
struct recovery;

#define ADMIN_PLANS_MAX 8u /* plans that `apply` still knows */

struct admin_plan {
    uint64_t version; /* of the map that it was made for; 0: none */
    char id[16];
    struct plan_list ops;
};

/* What the leader keeps between calls. Zeroed it is empty. */
struct admin {
    struct admin_plan plan[ADMIN_PLANS_MAX];
    uint32_t next;
};
void admin_close(struct admin *a);

/* Borrowed for one call. */
struct admin_world {
    struct admin *admin;
    struct driver *driver;
    struct driver_moment m;
    uint64_t rate; /* bytes/s that the moves of a node may take; 0: no limit */
    const struct membership *members;
    const struct recovery *recovery;
};

struct admin_args {
    struct slice method; /* a static text */
    char action[24];
    char node[LIMIT_NAME + 1], from[LIMIT_NAME + 1], to[LIMIT_NAME + 1]; /* "": not given */
    char plan_id[16];
    char peer[64];
    uint64_t group, into, id, for_ms;
    uint16_t slot;
    bool has_group, has_slot, has_id, has_for, plan, all;
    struct buf state; /* owned */
    struct buf lost;  /* names of nodes, each ends with NUL; owned */
    uint32_t n_lost;
};

/* A command that was proposed, in log order. */
struct admin_pending {
    uint64_t index, term;
    struct plan_op op; /* kind 0: none */
};

struct admin_call {
    struct admin_args args;
    struct admin_pending *pending; /* owned */
    uint32_t n_pending, done;      /* done: those whose results are there */
    bool many;                     /* a command that is refused does not fail the call */
    uint32_t kept;                 /* operators that could not be taken back */
    uint64_t *ids;                 /* of operators that were added; owned, n_ids */
    uint32_t n_ids;
    struct buf refused; /* texts, MessagePack; n_refused */
    uint32_t n_refused;
    struct buf result; /* the answer, once it is known; owned */
};

bool admin_is_method(struct slice method);
/* ERR_BAD_REQUEST, ERR_UNKNOWN_METHOD. On success admin_call_close(). */
MUST_USE enum err admin_decode(struct slice method, struct slice params, struct admin_call *out);
void admin_call_close(struct admin_call *c);

/* ERR_OK: with n_pending == 0 c->result is the answer; else pending[done] is the next result that
 * it waits for. ERR_NOT_LEADER; else the failure with `why`. */
MUST_USE enum err admin_serve(const struct admin_world *w, struct admin_call *c, char *why,
                              size_t n);
/* The result of pending[done]. As admin_serve(): once done == n_pending c->result is the answer. */
MUST_USE enum err admin_on_result(const struct admin_world *w, struct admin_call *c,
                                  const struct cluster_result *r, char *why, size_t n);

/* For status.c: the fields of an operator that its answer shares with admin.operator. */
void admin_put_operator(struct buf *b, const struct admin_world *w,
                        const struct cluster_operator *o);
/* What it waits for; "" if nothing is known. */
void admin_waits_for(const struct admin_world *w, const struct cluster_operator *o, char *out,
                     size_t n);
uint64_t admin_moved(const struct admin_world *w, const struct cluster_operator *o);
/* Where it moves a replica from and to, or (_now) leadership too; 0: nowhere. */
void admin_ends_now(const struct admin_world *w, const struct cluster_operator *o, uint32_t *from,
                    uint32_t *to);
/* "8m30s" */
const char *admin_time(uint64_t ms, char buf[24]);
const char *admin_node_name(const struct admin_world *w, uint32_t node, char buf[24]);
void admin_ends(const struct cluster_operator *o, uint32_t *from, uint32_t *to);

#endif
