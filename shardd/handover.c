#include "shardd/handover.h"

#include "shardd/core.h"

enum err handover_begin(struct replica *r, uint64_t to)
{
    if (!replica_is_leader(r))
        return ERR_NOT_LEADER;
    enum err e = group_transfer(r->group, to);
    if (e == ERR_OK)
        r->handover_until = io_now(r->core->io) + HANDOVER_HOLD_MS * NS_PER_MS;
    return e;
}

bool handover_holds(const struct replica *r)
{
    if (r->handover_until == 0 || r->state != REPLICA_RUNNING ||
        io_now(r->core->io) >= r->handover_until)
        return false;
    if (group_state_of(r->group) == GROUP_LEADER)
        return group_transferring(r->group);
    return group_leader(r->group) == NULL;
}

void handover_settle(struct replica *r)
{
    if (r->handover_until == 0 || handover_holds(r))
        return;
    r->handover_until = 0;
    if (r->writes.open || !list_empty(&r->reads.gathered)) {
        replica_mark_dirty(r);
        io_again(r->core->io); /* this turn's flush may be over */
    }
}
