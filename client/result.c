/* Results and the public error numbers. */
#include "client/result.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"

/* Wire numbers up to this one are definite answers and positive; larger ones are failures. */
#define LAST_ANSWER 4

_Static_assert((int)KV_CONDITION_FAILED == (int)ERR_CONDITION_FAILED, "public numbers");
_Static_assert((int)KV_NOT_APPLIED == (int)ERR_NOT_APPLIED, "public numbers");
_Static_assert(KV_CROSS_SLOT == -(int)ERR_CROSS_SLOT, "public numbers");
_Static_assert(KV_BUSY == -(int)ERR_BUSY && KV_TIMEOUT == -(int)ERR_TIMEOUT, "public numbers");
_Static_assert(KV_NO_LEADER == -(int)ERR_NO_LEADER && KV_CLOSED == -(int)ERR_CLOSED, "numbers");
_Static_assert(KV_NO_SPACE == -(int)ERR_NO_SPACE && KV_INTERNAL == -(int)ERR_INTERNAL, "numbers");
_Static_assert(KV_UNREACHABLE == -(int)ERR_UNREACHABLE, "public numbers");
_Static_assert(KV_UNKNOWN_OUTCOME == -(int)ERR_UNKNOWN_OUTCOME, "public numbers");

kv_err result_err_of(enum err e)
{
    return (kv_err)((int)e <= LAST_ANSWER ? (int)e : -(int)e);
}

static enum err err_of(kv_err e)
{
    return (enum err)((int)e < 0 ? -(int)e : (int)e);
}

const char *kv_err_name(kv_err e)
{
    if (e == KV_FORKED)
        return "FORKED";
    if (e == KV_NO_MEMORY)
        return "NO_MEMORY";
    return err_name(err_of(e));
}

const char *kv_err_str(kv_err e)
{
    if (e == KV_FORKED)
        return "the handle belongs to the parent process";
    if (e == KV_NO_MEMORY)
        return "out of memory, threads or file descriptors";
    return err_text(err_of(e));
}

int kv_err_retryable(kv_err e)
{
    if (e >= 0 || e == KV_FORKED || e == KV_NO_MEMORY)
        return 0;
    switch (err_class(err_of(e))) {
    case ERR_CLASS_BACKOFF:
    case ERR_CLASS_REFRESH:
    case ERR_CLASS_UNKNOWN:
        return 1;
    case ERR_CLASS_DONE:
    case ERR_CLASS_NEVER:
        break;
    }
    return 0;
}

kv_slice kv_bytes(const void *data, size_t len)
{
    return (kv_slice){data, len};
}

kv_slice kv_str(const char *s)
{
    return (kv_slice){s, strlen(s)};
}

struct kv_result result_borrow(const struct client_result *r)
{
    return (struct kv_result){
        .err = result_err_of(r->err),
        .maybe_applied = r->maybe_applied,
        .version = r->version,
        .number = r->number,
        .ttl_ms = r->has_ttl ? (r->ttl_ms < INT64_MAX ? (int64_t)r->ttl_ms : INT64_MAX) : -1,
        .value = {r->value.p, r->value.n},
        .text = r->text ? r->text : "",
    };
}

kv_result *kv_result_keep(const kv_result *r)
{
    if (!r)
        return NULL;
    size_t text = strlen(r->text) + 1;
    kv_result *copy = malloc(sizeof(*copy) + r->value.len + text);
    if (!copy)
        return NULL;
    uint8_t *bytes = (uint8_t *)(copy + 1);
    *copy = *r;
    if (r->value.len)
        memcpy(bytes, r->value.data, r->value.len);
    copy->value.data = bytes;
    memcpy(bytes + r->value.len, r->text, text);
    copy->text = (char *)bytes + r->value.len;
    return copy;
}

kv_result *result_of_error(kv_err e, const char *text)
{
    kv_result r = {.err = e, .ttl_ms = -1, .text = text};
    return kv_result_keep(&r);
}

kv_err kv_result_err(const kv_result *r)
{
    return r ? r->err : KV_NO_MEMORY;
}

kv_slice kv_result_value(const kv_result *r)
{
    return r ? r->value : (kv_slice){0};
}

uint64_t kv_result_version(const kv_result *r)
{
    return r ? r->version : 0;
}

int64_t kv_result_number(const kv_result *r)
{
    return r ? r->number : 0;
}

int64_t kv_result_ttl_ms(const kv_result *r)
{
    return r ? r->ttl_ms : -1;
}

int kv_result_maybe_applied(const kv_result *r)
{
    return r ? r->maybe_applied : 0;
}

const char *kv_result_text(const kv_result *r)
{
    return r ? r->text : "";
}

void kv_result_free(kv_result *r)
{
    free(r);
}

/* ---- many ---- */

kv_results *results_new(size_t n)
{
    kv_results *r = mem_zalloc(sizeof(*r) + n * sizeof(r->result[0]));
    r->n = n;
    return r;
}

kv_err results_err(const kv_results *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (kv_result_err(r->result[i]) < 0)
            return kv_result_err(r->result[i]);
    return KV_OK;
}

size_t kv_results_count(const kv_results *r)
{
    return r ? r->n : 0;
}

const kv_result *kv_results_at(const kv_results *r, size_t i)
{
    return r && i < r->n ? r->result[i] : NULL;
}

void kv_results_free(kv_results *r)
{
    for (size_t i = 0; r && i < r->n; i++)
        kv_result_free(r->result[i]);
    free(r);
}
