#include "client/bench/history.h"

static void put_text(FILE *f, const char *name, kv_slice s)
{
    const unsigned char *p = s.data;
    fprintf(f, "\"%s\":\"", name);
    for (size_t i = 0; i < s.len; i++) {
        if (p[i] < 0x20 || p[i] >= 0x7f || p[i] == '"' || p[i] == '\\')
            fprintf(f, "\\u%04x", p[i]);
        else
            fputc(p[i], f);
    }
    fputc('"', f);
}

void history_write(FILE *f, const struct history_event *e)
{
    static const char *const names[] = {"get", "put", "del"};
    bool unknown = e->op != HISTORY_GET && kv_result_maybe_applied(e->result);
    bool ok = e->err == KV_OK || (e->op == HISTORY_GET && e->err == KV_NOT_FOUND);
    fprintf(f, "{\"c\":%llu,", (unsigned long long)e->client);
    put_text(f, "k", e->key);
    fprintf(f, ",\"op\":\"%s\",", names[e->op]);
    if (e->op == HISTORY_PUT) {
        put_text(f, "v", e->value);
        fputc(',', f);
    } else if (e->op == HISTORY_GET && ok) {
        if (e->err == KV_OK)
            put_text(f, "out", kv_result_value(e->result));
        else
            fputs("\"out\":null", f);
        fputc(',', f);
    }
    fprintf(f, "\"t0\":%llu,", (unsigned long long)e->t0);
    if (!unknown)
        fprintf(f, "\"t1\":%llu,", (unsigned long long)e->t1);
    fprintf(f, "\"st\":\"%s\"}\n", ok ? "ok" : unknown ? "info" : "fail");
}
