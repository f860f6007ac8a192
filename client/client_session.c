#include "client/client_session.h"

#include <stdlib.h>

#include "common/base/limits.h"
#include "common/base/mem.h"

static const uint8_t none[16];

void client_session_init(struct client_session *s, const uint8_t *id, struct rng *rng)
{
    *s = (struct client_session){.next_seq = 1};
    list_init(&s->unanswered);
    for (unsigned i = 0; i < sizeof(s->id); i++)
        s->id[i] = id ? id[i] : (uint8_t)rng_next(rng);
}

void client_session_close(struct client_session *s)
{
    free(s->seen);
    s->seen = NULL;
}

void client_write_init(struct client_write *w)
{
    list_init(&w->link);
    w->seq = w->until_ms = 0;
}

void client_session_number(struct client_session *s, struct client_write *w)
{
    list_remove(&w->link);
    w->seq = s->next_seq++;
    list_push_back(&s->unanswered, &w->link);
}

void client_write_forget(struct client_write *w)
{
    list_remove(&w->link);
    w->seq = w->until_ms = 0;
}

uint64_t client_session_ack(const struct client_session *s)
{
    struct list *first = list_first(&s->unanswered);
    return first ? CONTAINER_OF(first, struct client_write, link)->seq : s->next_seq;
}

void client_session_saw(struct client_session *s, uint16_t slot, uint64_t version)
{
    if (version == 0)
        return;
    if (!s->seen)
        s->seen = mem_zalloc(LIMIT_SLOTS * sizeof(*s->seen));
    if (version > s->seen[slot])
        s->seen[slot] = version;
}

bool client_session_check(struct client_session *s, const uint8_t cluster[16])
{
    bool same = memcmp(s->cluster, none, 16) == 0 || memcmp(s->cluster, cluster, 16) == 0;
    memset(s->cluster, 0, 16);
    if (!same)
        client_session_close(s);
    return same;
}
