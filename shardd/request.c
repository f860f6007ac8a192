#include "shardd/request.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/mem.h"
#include "common/wire/msg_map.h"
#include "common/wire/rpc.h"
#include "shardd/core.h"
#include "shardd/session.h"

#define DEADLINE_DEFAULT_MS 10000u
#define DEADLINE_MAX_MS 120000u

bool request_method(struct slice name, enum kv_method *out)
{
    for (unsigned m = 0; m < KV_METHODS; m++) {
        if (slice_eq(name, slice_str(msg_kv_method_name((enum kv_method)m)))) {
            *out = (enum kv_method)m;
            return true;
        }
    }
    return false;
}

/* With a thousand requests under way the allocator's own caches are too short: taking and giving
 * back two hundred bytes was 2 to 3 % of a put or get. Kept: what most requests fit in. */
#define SPARE_SIZE 256u
#ifdef __SANITIZE_ADDRESS__
#define SPARE_MAX 0u /* so that it sees who uses one that was answered */
#else
#define SPARE_MAX 4096u
#endif

static struct request *take_memory(struct core *core, size_t size)
{
    if (size > SPARE_SIZE)
        return mem_alloc(size);
    struct list *item = list_pop_front(&core->spare_requests);
    if (!item)
        return mem_alloc(SPARE_SIZE);
    core->n_spare_requests--;
    return CONTAINER_OF(item, struct request, link);
}

static void give_memory(struct core *core, struct request *r)
{
    if (sizeof *r + r->key_size > SPARE_SIZE || core->n_spare_requests + 1 > SPARE_MAX) {
        free(r);
        return;
    }
    list_push_front(&core->spare_requests, &r->link);
    core->n_spare_requests++;
}

void request_free_spare(struct core *core)
{
    struct list *item;
    while ((item = list_pop_front(&core->spare_requests)) != NULL)
        free(CONTAINER_OF(item, struct request, link));
    core->n_spare_requests = 0;
}

static struct request_items *items_create(uint32_t n)
{
    struct request_items *items = mem_zalloc(sizeof *items + n * sizeof items->item[0]);
    items->n = n;
    return items;
}

struct request *request_create(struct core *core, struct session *session, uint32_t msgid,
                               const struct msg_kv_request *m, uint16_t slot)
{
    uint32_t n_items = m->method == KV_METHOD_BATCH ? m->n : 0;
    struct slice kept = m->method == KV_METHOD_MGET ? m->items : m->key;
    size_t bytes = m->key.n + m->value.n + m->items.n + n_items * sizeof(struct msg_kv_item) +
                   sizeof(struct request);
    if (core->n_requests >= LIMIT_CORE_REQUESTS ||
        core->request_bytes + bytes > LIMIT_CORE_REQUEST_BYTES)
        return NULL;
    size_t key_size = msg_kv_is_read(m->method) ? kept.n : 0;
    struct request *r = take_memory(core, sizeof *r + key_size);
    *r = (struct request){.core = core,
                          .session = session,
                          .msgid = msgid,
                          .bytes = (uint32_t)bytes,
                          .slot = slot,
                          .method = (uint8_t)m->method,
                          .level = m->level,
                          .n = m->n,
                          .token = m->token,
                          .staleness_ms = m->staleness_ms,
                          .items = n_items ? items_create(n_items) : NULL,
                          .key_size = (uint32_t)key_size};
    if (key_size)
        memcpy(r->key, kept.p, key_size);
    uint64_t ms = m->deadline_ms ? m->deadline_ms : DEADLINE_DEFAULT_MS;
    r->born = io_now(core->io);
    r->deadline = r->born + (ms < DEADLINE_MAX_MS ? ms : DEADLINE_MAX_MS) * NS_PER_MS;
    if (r->deadline < core->next_deadline)
        core->next_deadline = r->deadline;
    list_init(&r->link);
    list_init(&r->in_session);
    list_push_back(&core->requests, &r->in_core);
    if (session) {
        list_push_back(&session->requests, &r->in_session);
        session->n_requests++;
    }
    core->n_requests++;
    core->request_bytes += bytes;
    core->stats.requests++;
    return r;
}

/* An answer on its way to the core that has the session. */
struct answer_mail {
    struct io_mail mail;
    uint64_t session;
    uint32_t msgid;
    bool value; /* it has a value, and may be replaced by BUSY */
    struct buf bytes;
};

/* A client that asks for large values and does not read them: without a limit (conn_full) its
 * unanswered requests could all become unsent answers. */
#define FULL_TEXT "too many answers of this connection are not read yet"
#define FULL_RETRY_MS 50u

static void answer_deliver(struct io_mail *mail, void *receiver)
{
    struct answer_mail *a = CONTAINER_OF(mail, struct answer_mail, mail);
    struct core *core = receiver;
    struct session *s = map_find(&core->session_by_id, a->session);
    if (s) {
        if (s->conn && a->value && conn_full(s->conn, a->bytes.n))
            request_refuse(core, s, 0, 0, a->msgid, ERR_BUSY, FULL_TEXT, FULL_RETRY_MS, NULL);
        else if (s->conn)
            buf_append(conn_out(s->conn), a->bytes.p, a->bytes.n);
        if (s->conn)
            conn_count(s->conn);
        session_answered(s);
    }
    buf_close(&a->bytes);
    free(a);
}

/* Where an answer is written: the session's output, a mail, or nowhere. */
struct answer {
    struct buf *out;
    struct answer_mail *mail;
    struct buf nowhere;
};

static void answer_begin(struct answer *a, struct session *session, uint64_t remote_session)
{
    *a = (struct answer){0};
    if (session && session->conn) {
        a->out = conn_out(session->conn);
    } else if (remote_session) {
        a->mail = mem_zalloc(sizeof *a->mail);
        a->mail->mail.deliver = answer_deliver;
        a->mail->session = remote_session;
        a->out = &a->mail->bytes;
    } else {
        a->out = &a->nowhere;
    }
}

static void answer_end(struct answer *a, struct core *core, uint32_t remote_core)
{
    if (a->mail)
        io_post(core->node->core[remote_core]->io, &a->mail->mail);
    buf_close(&a->nowhere);
    core->stats.replies++;
}

static void request_free(struct request *r, enum err e)
{
    struct core *core = r->core;
    stats_answered(&core->stats, r->method, e, io_now(core->io) - r->born);
    CHECK(core->n_requests > 0 && core->request_bytes >= r->bytes);
    core->n_requests--;
    core->request_bytes -= r->bytes;
    if (r->holder)
        *r->holder = NULL;
    list_remove(&r->link);
    list_remove(&r->in_core);
    list_remove(&r->in_session);
    if (r->session)
        session_answered(r->session);
    free(r->items);
    give_memory(core, r);
}

/* For the answer to a read, with `size` bytes of values; false: it was answered BUSY. */
static bool values_begin(struct answer *a, struct request *r, size_t size)
{
    if (r->session && r->session->conn && conn_full(r->session->conn, size)) {
        request_reply_error(r, ERR_BUSY, FULL_TEXT, FULL_RETRY_MS, NULL);
        return false;
    }
    answer_begin(a, r->session, r->remote_session);
    if (a->mail) {
        a->mail->msgid = r->msgid;
        a->mail->value = true;
    }
    return true;
}

static void values_end(struct answer *a, struct request *r, size_t size)
{
    r->core->turn_values += size;
    if (r->session && r->session->conn)
        conn_count(r->session->conn);
    answer_end(a, r->core, r->remote_core);
    request_free(r, ERR_OK);
}

void request_reply_value(struct request *r, const struct msg_kv_result *value)
{
    struct answer a;
    if (!values_begin(&a, r, value->value.n))
        return;
    msg_kv_put_get_result(a.out, r->msgid, value);
    values_end(&a, r, value->value.n);
}

void request_reply_values(struct request *r, const struct msg_kv_item *items, uint32_t n,
                          uint64_t at)
{
    struct answer a;
    size_t size = 0;
    for (uint32_t i = 0; i < n; i++)
        size += items[i].result.value.n;
    if (!values_begin(&a, r, size))
        return;
    msg_kv_begin_items(a.out, r->msgid, n);
    for (uint32_t i = 0; i < n; i++)
        msg_kv_put_item(a.out, KV_METHOD_MGET, &items[i]);
    msg_kv_end_items(a.out, (struct msg_kv_extra){.at = at});
    values_end(&a, r, size);
}

static void written(struct request *r, struct answer *a)
{
    answer_end(a, r->core, r->remote_core);
    load_write(&r->core->load, io_now(r->core->io) - r->born);
    request_free(r, ERR_OK);
}

void request_reply_written(struct request *r, uint64_t version, int64_t number)
{
    struct answer a;
    answer_begin(&a, r->session, r->remote_session);
    if (r->method == KV_METHOD_INCR)
        msg_kv_put_number(a.out, r->msgid, version, number);
    else
        msg_kv_put_version(a.out, r->msgid, version);
    written(r, &a);
}

void request_reply_items(struct request *r)
{
    struct answer a;
    answer_begin(&a, r->session, r->remote_session);
    msg_kv_begin_items(a.out, r->msgid, r->items->n);
    for (uint32_t i = 0; i < r->items->n; i++)
        msg_kv_put_item(a.out, KV_METHOD_BATCH, &r->items->item[i]);
    msg_kv_end_items(a.out, (struct msg_kv_extra){.time_ms = r->items->late_ms});
    written(r, &a);
}

static void set_text(struct rpc_error *error, const char *text)
{
    size_t n = strlen(text);
    if (n >= sizeof error->text)
        n = sizeof error->text - 1;
    memcpy(error->text, text, n);
}

void request_reply_condition(struct request *r, uint64_t version)
{
    struct rpc_error error = {.err = ERR_CONDITION_FAILED, .version = version};
    struct answer a;
    char text[96];
    snprintf(text, sizeof text, "the key's version is %llu", (unsigned long long)version);
    set_text(&error, version ? text : "there is no such key");
    answer_begin(&a, r->session, r->remote_session);
    rpc_put_error(a.out, r->msgid, &error);
    answer_end(&a, r->core, r->remote_core);
    request_free(r, ERR_CONDITION_FAILED);
}

void request_reply_late(struct request *r, uint64_t time_ms)
{
    struct rpc_error error = {
        .err = ERR_UNKNOWN_OUTCOME, .maybe_applied = true, .time_ms = time_ms};
    struct answer a;
    set_text(&error, "too late to be known as a repetition: whether an earlier try was applied "
                     "cannot be told");
    answer_begin(&a, r->session, r->remote_session);
    rpc_put_error(a.out, r->msgid, &error);
    answer_end(&a, r->core, r->remote_core);
    request_free(r, ERR_UNKNOWN_OUTCOME);
}

void request_reply_absent(struct request *r, uint64_t at)
{
    struct rpc_error error = {.err = ERR_NOT_FOUND, .at = at};
    struct answer a;
    set_text(&error, err_text(ERR_NOT_FOUND));
    answer_begin(&a, r->session, r->remote_session);
    rpc_put_error(a.out, r->msgid, &error);
    answer_end(&a, r->core, r->remote_core);
    request_free(r, ERR_NOT_FOUND);
}

static void put_error(struct core *core, struct buf *out, uint32_t msgid, enum err e,
                      const char *text, uint64_t retry_ms, const struct shard_desc *desc)
{
    struct rpc_error error = {
        .err = e, .retry_ms = retry_ms, .maybe_applied = err_class(e) == ERR_CLASS_UNKNOWN};
    struct buf map = {0};
    set_text(&error, text ? text : err_text(e));
    if (desc) {
        struct shard_map piece;
        shard_map_piece(&core->map, desc, &piece);
        msg_map_encode(&map, &piece);
        shard_map_close(&piece);
        error.map = buf_slice(&map);
        error.epoch_range = desc->epoch.range;
        error.epoch_members = desc->epoch.members;
        for (uint32_t i = 0; i < desc->n_replicas; i++)
            if (desc->leader != 0 && desc->replica[i].replica == desc->leader)
                error.leader = desc->replica[i].node;
    }
    rpc_put_error(out, msgid, &error);
    buf_close(&map);
}

void request_reply_error(struct request *r, enum err e, const char *text, uint64_t retry_ms,
                         const struct shard_desc *desc)
{
    struct answer a;
    answer_begin(&a, r->session, r->remote_session);
    put_error(r->core, a.out, r->msgid, e, text, retry_ms, desc);
    answer_end(&a, r->core, r->remote_core);
    request_free(r, e);
}

void request_refuse(struct core *core, struct session *session, uint32_t remote_core,
                    uint64_t remote_session, uint32_t msgid, enum err e, const char *text,
                    uint64_t retry_ms, const struct shard_desc *desc)
{
    struct answer a;
    core->stats.refused[stats_result_of(e)]++;
    answer_begin(&a, session, remote_session);
    put_error(core, a.out, msgid, e, text, retry_ms, desc);
    answer_end(&a, core, remote_core);
}

void request_expire(struct core *core, uint64_t now)
{
    if (now < core->next_deadline)
        return;
    uint64_t next = UINT64_MAX;
    LIST_FOR_SAFE(item, &core->requests)
    {
        struct request *r = CONTAINER_OF(item, struct request, in_core);
        if (r->deadline <= now && !r->pinned) {
            core->stats.expired++;
            request_reply_error(r, ERR_TIMEOUT,
                                msg_kv_is_read((enum kv_method)r->method)
                                    ? "no majority confirmed the read within the deadline"
                                    : "not committed within the deadline; the outcome is unknown",
                                0, NULL);
        } else if (r->deadline > now && r->deadline < next) {
            next = r->deadline;
        } else if (r->pinned) {
            next = now;
        }
    }
    core->next_deadline = next;
}
