/* admin.member: placementd's own members. The list is changed here; the leader then brings the
 * group after it (server_members.c, membership.h). */
#include <stdio.h>

#include "placementd/admin_internal.h"
#include "placementd/membership.h"

static void put_members(struct buf *b, const struct membership *m)
{
    mp_put_str(b, "members");
    mp_put_array(b, m->c->n_members);
    for (uint32_t i = 0; i < m->c->n_members; i++) {
        const struct cluster_member *k = &m->c->member[i];
        mp_put_map(b, 4);
        mp_put_pair(b, "id", k->id);
        mp_put_pair_str(b, "peer", k->peer_addr);
        mp_put_pair_str(b, "client", k->client_addr);
        mp_put_pair_str(b, "role", membership_role(m, k->id));
    }
}

static void put_answer(struct admin_call *c, const struct membership *m, const char *text)
{
    char note[200];
    membership_note(m, note, sizeof(note));
    buf_clear(&c->result);
    mp_put_map(&c->result, 4);
    mp_put_pair_str(&c->result, "text", text);
    mp_put_pair_str(&c->result, "note", note);
    mp_put_pair(&c->result, "next_id", m->c->next_member);
    put_members(&c->result, m);
}

/* The answer was made before the proposal: what will happen. */
void admin_member_answer(const struct admin_world *w, struct admin_call *c)
{
    (void)w;
    (void)c;
}

static enum err change(const struct admin_world *w, struct admin_call *c, bool add,
                       struct admin_why why)
{
    const struct admin_args *a = &c->args;
    struct cluster_command cmd = {.kind = add ? CLUSTER_CMD_MEMBER_ADD : CLUSTER_CMD_MEMBER_LEAVE};
    const struct membership *m = w->members;
    char text[256];
    enum err e;
    if (!a->has_id)
        return admin_refuse(why, ERR_BAD_REQUEST, "give the member's id");
    if (add)
        e = membership_may_add(m, a->id, a->peer, text, sizeof(text));
    else
        e = membership_may_remove(m, a->id, text, sizeof(text));
    if (e != ERR_OK)
        return admin_refuse(why, e, "%s", text);
    put_answer(c, m, text);
    cmd.member.id = (uint32_t)a->id;
    memcpy(cmd.member.peer_addr, a->peer, sizeof(cmd.member.peer_addr));
    return a->plan ? ERR_OK : admin_propose(w, c, &cmd);
}

enum err admin_member(const struct admin_world *w, struct admin_call *c, struct admin_why why)
{
    if (admin_action(c, "add"))
        return change(w, c, true, why);
    if (admin_action(c, "remove"))
        return change(w, c, false, why);
    if (!admin_action(c, "list"))
        return admin_refuse(why, ERR_BAD_REQUEST, "admin.member does not know '%s'",
                            c->args.action);
    put_answer(c, w->members, "");
    return ERR_OK;
}
