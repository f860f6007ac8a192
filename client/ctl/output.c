#include "client/ctl/output.h"

#include <libsmartcols/libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct out_table {
    struct libscols_table *table;
    struct libscols_line *line;
    unsigned column;
};

struct out_table *out_table_new(const struct ctl *ctl, const char *columns)
{
    struct out_table *t = calloc(1, sizeof(*t));
    char *copy = strdup(columns), *save = NULL;
    if (!t || !copy)
        abort();
    t->table = scols_new_table();
    if (!t->table)
        abort();
    scols_table_enable_colors(t->table, ctl->color);
    for (char *name = strtok_r(copy, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
        int right = name[0] == '>' ? SCOLS_FL_RIGHT : 0;
        scols_table_new_column(t->table, name + (right != 0), 0, right);
    }
    free(copy);
    return t;
}

void out_table_row(struct out_table *t)
{
    t->line = scols_table_new_line(t->table, NULL);
    t->column = 0;
}

void out_table_cell(struct out_table *t, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    scols_line_set_data(t->line, t->column++, text);
}

void out_table_end(struct out_table *t)
{
    scols_print_table(t->table);
    scols_unref_table(t->table);
    free(t);
}

void out_json(json_t *object)
{
    json_t *all = json_object();
    json_object_set_new(all, "schema", json_integer(1));
    json_object_update(all, object);
    json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(all);
    json_decref(object);
}

json_t *out_json_id(uint64_t id)
{
    char text[24];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)id);
    return json_string(text);
}

static char *base64(const unsigned char *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *out = malloc((n + 2) / 3 * 4 + 1), *o = out;
    if (!out)
        abort();
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)p[i] << 16 | (i + 1 < n ? (unsigned)p[i + 1] << 8 : 0u) |
                     (i + 2 < n ? p[i + 2] : 0u);
        *o++ = digits[v >> 18];
        *o++ = digits[v >> 12 & 63];
        *o++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
        *o++ = i + 2 < n ? digits[v & 63] : '=';
    }
    *o = '\0';
    return out;
}

void out_json_bytes(json_t *object, const char *name, const void *data, size_t n)
{
    json_t *text = json_stringn(n ? data : "", n); /* NULL: not UTF-8 */
    if (text && !memchr(n ? data : "", 0, n)) {
        json_object_set_new(object, name, text);
        return;
    }
    json_decref(text);
    char long_name[64];
    snprintf(long_name, sizeof(long_name), "%s_base64", name);
    out_json_base64(object, long_name, data, n);
}

void out_json_base64(json_t *object, const char *name, const void *data, size_t n)
{
    char *encoded = base64(data, n);
    json_object_set_new(object, name, json_string(encoded));
    free(encoded);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

void *out_from_base64(const char *text, size_t *n)
{
    size_t len = strlen(text), at = 0, pad = 0;
    if (len % 4 != 0)
        return NULL;
    while (len > 0 && pad < 2 && text[len - 1] == '=') {
        len--;
        pad++;
    }
    unsigned char *out = malloc(len / 4 * 3 + 4);
    if (!out)
        abort();
    unsigned bits = 0;
    for (size_t i = 0; i < len; i++) {
        int d = base64_digit(text[i]);
        if (d < 0) {
            free(out);
            return NULL;
        }
        bits = (bits << 6 | (unsigned)d) & 0xffffff;
        if (i % 4 != 0)
            out[at++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
    }
    *n = at;
    return out;
}

const char *out_size(uint64_t bytes, char buf[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    unsigned u = 0;
    while (v >= 1024 && u < 5) {
        v /= 1024;
        u++;
    }
    snprintf(buf, 16, u && v < 10 ? "%.1f%s" : "%.0f%s", v, units[u]);
    return buf;
}

const char *out_color(const struct ctl *ctl, char color)
{
    if (!ctl->color)
        return "";
    return color == 'r' ? "\033[31m" : color == 'g' ? "\033[32m" : "\033[33m";
}

const char *out_color_end(const struct ctl *ctl)
{
    return ctl->color ? "\033[0m" : "";
}
