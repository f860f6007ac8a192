/* One pass over the heads; payloads are stepped over by their lengths. Two counts are kept: values
 * still open on each level (at most LIMIT_MP_DEPTH levels), and `open`, their sum. Each open value
 * takes a byte at least, so position + open is a lower bound of the message's length: the check of
 * that bound against `max` is what refuses huge declared counts at once, and it is the bound handed
 * back for a message that is not all here yet. */
#include "common/wire/skim.h"

#include "common/base/limits.h"
#include "common/wire/mp_head.h"

struct skim_state {
    uint64_t pos;      /* bytes taken */
    uint64_t open;     /* values that are still to come */
    uint64_t elements; /* seen and declared */
    uint32_t depth;
    uint64_t level[LIMIT_MP_DEPTH]; /* values to come on each level, the current one's last */
};

/* Enters the array or map whose head was just read. */
static enum err skim_enter(struct skim_state *s, uint64_t children)
{
    if (s->depth == LIMIT_MP_DEPTH)
        return ERR_BAD_REQUEST;
    s->elements += children;
    if (s->elements > LIMIT_MP_ELEMENTS)
        return ERR_BAD_REQUEST;
    s->level[s->depth++] = children;
    s->open += children;
    return ERR_OK;
}

/* Leaves the levels of which nothing is to come. */
static void skim_leave(struct skim_state *s)
{
    while (s->depth && s->level[s->depth - 1] == 0)
        s->depth--;
}

/* Small whole numbers and short strings, most of what messages have: their size is in their first
 * byte. 0: something else. */
static size_t skim_small(uint8_t first)
{
    if (first < 0x80 || first >= 0xe0)
        return 1;
    return (first & 0xe0) == 0xa0 ? 1u + (first & 0x1fu) : 0;
}

/* One head and its payload. */
static enum err skim_value(struct skim_state *s, struct slice in, struct mp_head *h)
{
    size_t small = skim_small(in.p[s->pos]);
    if (small > 0) {
        s->pos += small;
        s->open--;
        if (s->depth)
            s->level[s->depth - 1]--;
        return ERR_OK;
    }
    enum err err = mp_head_read(in.p + s->pos, in.n - s->pos, h);
    if (err == ERR_BAD_REQUEST)
        return err;
    if (err == ERR_INCOMPLETE) {
        s->pos += h->size;
        s->open--;
        return err;
    }
    s->pos += h->size + mp_head_payload(h);
    s->open--;
    if (s->depth)
        s->level[s->depth - 1]--;
    if (h->type == MP_ARRAY || h->type == MP_MAP)
        return skim_enter(s, mp_head_children(h));
    return ERR_OK;
}

enum err skim(struct slice in, size_t max, size_t *n)
{
    struct skim_state s = {.open = 1, .elements = 1};
    while (s.open > 0) {
        if (s.pos + s.open > max)
            return ERR_TOO_LARGE;
        if (s.pos >= in.n) {
            *n = (size_t)(s.pos + s.open);
            return ERR_INCOMPLETE;
        }
        struct mp_head h;
        enum err err = skim_value(&s, in, &h);
        if (err == ERR_INCOMPLETE) {
            if (s.pos + s.open > max)
                return ERR_TOO_LARGE;
            *n = (size_t)(s.pos + s.open);
        }
        if (err)
            return err;
        skim_leave(&s);
    }
    if (s.pos > max)
        return ERR_TOO_LARGE;
    *n = (size_t)s.pos;
    return s.pos > in.n ? ERR_INCOMPLETE : ERR_OK;
}
