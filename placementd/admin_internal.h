/* What the files of admin.c share: lookups with errors for people, pieces of answers, proposing.
 * Owner: none.  Thread: the loop.  Depends on: admin, wire/mp. */
#ifndef PLACEMENTD_ADMIN_INTERNAL_H
#define PLACEMENTD_ADMIN_INTERNAL_H

#include "common/wire/mp.h"
#include "placementd/admin.h"
#include "placementd/operator.h"

/* Why a call fails: text and error in one. */
struct admin_why {
    char *text;
    size_t n;
};
__attribute__((format(printf, 3, 4))) enum err admin_refuse(struct admin_why why, enum err e,
                                                            const char *fmt, ...);

/* By name or id; the one of that name that takes part comes first. ERR_NOT_FOUND says which ones
 * there are. */
MUST_USE enum err admin_find_node(const struct admin_world *w, const char *name,
                                  const struct cluster_node **out, struct admin_why why);
MUST_USE enum err admin_find_group(const struct admin_world *w, uint64_t id,
                                   const struct cluster_group **out, struct admin_why why);
/* "1.9 GiB" */
const char *admin_size(uint64_t bytes, char buf[24]);

/* The view of now; plan_view_close(). */
void admin_view(const struct admin_world *w, struct plan_picture *out);

void admin_put_op(struct buf *b, const struct admin_world *w, const struct plan_op *op);
/* Key "ops" and its list. */
void admin_put_ops(struct buf *b, const struct admin_world *w, const struct plan_list *ops);
/* The seven keys "ops" .. "nodes" of a preview. */
#define ADMIN_PREVIEW_KEYS 7u
void admin_put_preview(struct buf *b, const struct admin_world *w, const struct plan_preview *p);

/* Proposes, and notes that its result is waited for. */
MUST_USE enum err admin_propose(const struct admin_world *w, struct admin_call *c,
                                const struct cluster_command *cmd);
/* Proposes a checked operator. ERR_REFUSED, ERR_NOT_FOUND, ERR_BUSY with `why`. */
MUST_USE enum err admin_add(const struct admin_world *w, struct admin_call *c,
                            const struct plan_op *op, uint8_t origin, struct admin_why why);
/* Notes that the result of a proposed command is waited for. ERR_OK. */
enum err admin_await(struct admin_call *c, uint64_t index, uint64_t term);
MUST_USE enum err admin_cancel_one(const struct admin_world *w, struct admin_call *c, uint64_t id,
                                   struct admin_why why);
/* All that `wanted` wants (NULL: every one); those that cannot be cancelled any more are counted.
 */
typedef bool (*admin_operator_fn)(const struct admin_world *w, const struct cluster_operator *o);
MUST_USE enum err admin_cancel_all(const struct admin_world *w, struct admin_call *c,
                                   admin_operator_fn wanted, struct admin_why why);
void admin_note_refused(struct admin_call *c, const char *text);

/* The families. As admin_serve(). */
enum err admin_node(const struct admin_world *w, struct admin_call *c, struct admin_why why);
enum err admin_group(const struct admin_world *w, struct admin_call *c, struct admin_why why);
enum err admin_rebalance(const struct admin_world *w, struct admin_call *c, struct admin_why why);
enum err admin_operator(const struct admin_world *w, struct admin_call *c, struct admin_why why);
enum err admin_explain(const struct admin_world *w, struct admin_call *c, struct admin_why why);
enum err admin_map(const struct admin_world *w, struct admin_call *c, struct admin_why why);
enum err admin_recover(const struct admin_world *w, struct admin_call *c, struct admin_why why);
enum err admin_member(const struct admin_world *w, struct admin_call *c, struct admin_why why);
/* The answers of those that waited. */
void admin_node_answer(const struct admin_world *w, struct admin_call *c);
void admin_group_answer(const struct admin_world *w, struct admin_call *c);
void admin_rebalance_answer(const struct admin_world *w, struct admin_call *c);
void admin_operator_answer(const struct admin_world *w, struct admin_call *c);
void admin_map_answer(const struct admin_world *w, struct admin_call *c);
void admin_recover_answer(const struct admin_world *w, struct admin_call *c);
void admin_member_answer(const struct admin_world *w, struct admin_call *c);

static inline bool admin_action(const struct admin_call *c, const char *name)
{
    return strcmp(c->args.action, name) == 0;
}

#endif
