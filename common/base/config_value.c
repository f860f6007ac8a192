#include "common/base/config_value.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"

/* ---- words ---- */

static bool word_char(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static void step(struct slice *s, size_t n)
{
    if (n == 0)
        return;
    s->p += n;
    s->n -= n;
}

struct slice config_take_word(struct slice *s)
{
    size_t n = 0;
    while (n < s->n && word_char(s->p[n]))
        n++;
    struct slice word = {s->p, n};
    step(s, n);
    return word;
}

bool config_take_char(struct slice *s, char c)
{
    if (s->n == 0 || s->p[0] != (uint8_t)c)
        return false;
    step(s, 1);
    return true;
}

void config_skip_blanks(struct slice *s)
{
    while (s->n && (s->p[0] == ' ' || s->p[0] == '\t'))
        step(s, 1);
}

bool config_at_line_end(struct slice s)
{
    if (s.n == 0 || s.p[0] == '\n' || s.p[0] == '#')
        return true;
    return s.p[0] == '\r' && (s.n == 1 || s.p[1] == '\n');
}

bool config_skip_line_end(struct slice *s)
{
    if (!config_at_line_end(*s))
        return false;
    while (s->n && s->p[0] != '\n')
        step(s, 1);
    config_take_char(s, '\n');
    return true;
}

/* ---- reading a value ---- */

static enum err complain(char *why, size_t whyn, const char *text)
{
    snprintf(why, whyn, "%s", text);
    return ERR_CONFIG;
}

static enum err read_escape(struct slice *s, struct buf *out, char *why, size_t whyn)
{
    static const char from[] = "\"\\ntr", to[] = "\"\\\n\t\r";
    const char *at = s->n && s->p[0] ? strchr(from, s->p[0]) : NULL;
    if (!at)
        return complain(why, whyn, "only \\\" \\\\ \\n \\t \\r may follow a backslash");
    buf_u8(out, (uint8_t)to[at - from]);
    step(s, 1);
    return ERR_OK;
}

/* After the opening quote. Basic strings know escapes, literal ones ('...') do not. */
static enum err read_string(struct slice *s, char quote, struct buf *out, char *why, size_t whyn)
{
    for (;;) {
        if (s->n == 0 || s->p[0] == '\n')
            return complain(why, whyn, "the string's closing quote is missing");
        uint8_t c = s->p[0];
        step(s, 1);
        if (c == (uint8_t)quote)
            return ERR_OK;
        if (c == '\\' && quote == '"') {
            enum err err = read_escape(s, out, why, whyn);
            if (err)
                return err;
        } else {
            buf_u8(out, c);
        }
    }
}

/* Blanks, comments and newlines between the items of an array. */
static void skip_gap(struct slice *s, unsigned *line)
{
    for (;;) {
        config_skip_blanks(s);
        if (s->n == 0 || !config_at_line_end(*s))
            return;
        if (config_skip_line_end(s))
            (*line)++;
    }
}

/* After '['. Items must be strings. */
static enum err read_list(struct slice *s, unsigned *line, struct buf *out, char *why, size_t whyn)
{
    bool first = true;
    for (;; first = false) {
        skip_gap(s, line);
        if (config_take_char(s, ']'))
            return ERR_OK;
        if (!first && !config_take_char(s, ','))
            return complain(why, whyn, "',' or ']' is expected in the list");
        skip_gap(s, line);
        if (!first && config_take_char(s, ']')) /* a comma after the last item */
            return ERR_OK;
        char quote = config_take_char(s, '"') ? '"' : config_take_char(s, '\'') ? '\'' : '\0';
        if (!quote)
            return complain(why, whyn, "the list's items must be quoted strings");
        if (!first)
            buf_u8(out, '\n');
        size_t start = out->n;
        enum err err = read_string(s, quote, out, why, whyn);
        if (err)
            return err;
        if (out->n == start || memchr(out->p + start, '\n', out->n - start))
            return complain(why, whyn, "a list's item is empty or holds a line break");
    }
}

/* Numbers and booleans: up to a blank, a comment or the end of the line. */
static enum err read_bare(struct slice *s, struct buf *out, char *why, size_t whyn)
{
    size_t n = 0;
    while (n < s->n && (word_char(s->p[n]) || s->p[n] == '+' || s->p[n] == '.'))
        n++;
    if (n == 0)
        return complain(why, whyn, "a value is expected");
    buf_append(out, s->p, n);
    step(s, n);
    return ERR_OK;
}

enum err config_value_read(struct slice *s, unsigned *line, struct config_value *out, char *why,
                           size_t whyn)
{
    struct config_value v = {.kind = CONFIG_VALUE_STRING};
    enum err err;
    if (s->n >= 3 && (memcmp(s->p, "\"\"\"", 3) == 0 || memcmp(s->p, "'''", 3) == 0)) {
        return complain(why, whyn, "strings over several lines are not supported");
    } else if (config_take_char(s, '"')) {
        err = read_string(s, '"', &v.text, why, whyn);
    } else if (config_take_char(s, '\'')) {
        err = read_string(s, '\'', &v.text, why, whyn);
    } else if (config_take_char(s, '[')) {
        v.kind = CONFIG_VALUE_LIST;
        err = read_list(s, line, &v.text, why, whyn);
    } else {
        v.kind = CONFIG_VALUE_BARE;
        err = read_bare(s, &v.text, why, whyn);
    }
    if (err) {
        buf_close(&v.text);
        return err;
    }
    *out = v;
    return ERR_OK;
}

void config_value_bare(struct slice s, struct config_value *out)
{
    *out = (struct config_value){.kind = CONFIG_VALUE_ANY};
    buf_append(&out->text, s.p, s.n);
}

enum err config_value_set(struct slice s, struct config_value *out, char *why, size_t whyn)
{
    config_skip_blanks(&s);
    if (s.n == 0 || (s.p[0] != '"' && s.p[0] != '\'' && s.p[0] != '[')) {
        config_value_bare(s, out);
        return ERR_OK;
    }
    unsigned line = 0;
    enum err err = config_value_read(&s, &line, out, why, whyn);
    if (err)
        return err;
    config_skip_blanks(&s);
    if (s.n != 0) {
        config_value_close(out);
        return complain(why, whyn, "unexpected text after the value");
    }
    return ERR_OK;
}

void config_value_close(struct config_value *v)
{
    buf_close(&v->text);
}

/* ---- conversion ---- */

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit sizes[] = {{"B", 1},
                                    {"KiB", 1ULL << 10},
                                    {"MiB", 1ULL << 20},
                                    {"GiB", 1ULL << 30},
                                    {"TiB", 1ULL << 40},
                                    {"kB", 1000},
                                    {"KB", 1000},
                                    {"MB", 1000000},
                                    {"GB", 1000000000},
                                    {"TB", 1000000000000},
                                    {NULL, 0}};
static const struct unit durations[] = {{"ms", 1},      {"s", 1000},    {"m", 60000},
                                        {"min", 60000}, {"h", 3600000}, {"d", 86400000},
                                        {NULL, 0}};
static const struct unit none[] = {{NULL, 0}};

static int digit(uint8_t c, unsigned base)
{
    int d = c >= '0' && c <= '9' ? c - '0' : base == 16 && c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (base == 16 && c >= 'A' && c <= 'F')
        d = c - 'A' + 10;
    return d;
}

/* Digits with single underscores between them; leaves the rest in *s. */
static bool take_number(struct slice *s, uint64_t *out)
{
    unsigned base = 10;
    uint64_t v = 0;
    bool any = false;
    if (s->n > 2 && s->p[0] == '0' && s->p[1] == 'x') {
        base = 16;
        step(s, 2);
    }
    for (; s->n; step(s, 1)) {
        if (any && s->p[0] == '_' && s->n > 1 && digit(s->p[1], base) >= 0)
            continue;
        int d = digit(s->p[0], base);
        if (d < 0)
            break;
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, (uint64_t)d, &v))
            return false;
        any = true;
    }
    *out = v;
    return any;
}

static bool parse_number(struct slice s, const struct unit *units, uint64_t *out)
{
    uint64_t v;
    if (!take_number(&s, &v))
        return false;
    if (s.n == 0) {
        *out = v;
        return true;
    }
    config_skip_blanks(&s); /* "64 MiB" */
    for (const struct unit *u = units; u->name; u++)
        if (slice_eq(s, slice_str(u->name)))
            return !__builtin_mul_overflow(v, u->factor, out);
    return false;
}

static bool parse_bool(struct slice s, uint64_t *out)
{
    if (slice_eq(s, slice_str("true")))
        *out = 1;
    else if (slice_eq(s, slice_str("false")))
        *out = 0;
    else
        return false;
    return true;
}

static const struct unit *units_of(enum config_type type)
{
    return type == CONFIG_SIZE ? sizes : type == CONFIG_DURATION_MS ? durations : none;
}

static void print_number(enum config_type type, uint64_t v, struct buf *b)
{
    if (type == CONFIG_SIZE)
        config_value_print_size(v, b);
    else if (type == CONFIG_DURATION_MS)
        config_value_print_duration(v, b);
    else
        buf_printf(b, "%llu", (unsigned long long)v);
}

static enum err check_bounds(const struct config_key *k, uint64_t v, char *why, size_t whyn)
{
    bool low = v < k->min, high = k->max != 0 && v > k->max;
    if (!low && !high)
        return ERR_OK;
    struct buf bound = {0};
    print_number(k->type, low ? k->min : k->max, &bound);
    snprintf(why, whyn, "it must be %s %.*s%s", low ? "at least" : "at most", (int)bound.n,
             (const char *)bound.p, k->type == CONFIG_STRING ? " characters long" : "");
    buf_close(&bound);
    return ERR_CONFIG;
}

static enum err convert_number(const struct config_key *k, const struct config_value *v,
                               uint64_t *number, char *why, size_t whyn)
{
    static const char *const expected[] = {
        [CONFIG_UINT] = "a whole number is expected, such as 8",
        [CONFIG_BOOL] = "true or false is expected",
        [CONFIG_SIZE] = "a size is expected, such as \"64MiB\"",
        [CONFIG_DURATION_MS] = "a duration is expected, such as \"500ms\" or \"10s\""};
    struct slice s = buf_slice(&v->text);
    uint64_t n;
    bool quoted_plain =
        v->kind == CONFIG_VALUE_STRING && (k->type == CONFIG_UINT || k->type == CONFIG_BOOL);
    bool good = v->kind != CONFIG_VALUE_LIST && !quoted_plain;
    if (good)
        good = k->type == CONFIG_BOOL ? parse_bool(s, &n) : parse_number(s, units_of(k->type), &n);
    if (!good)
        return complain(why, whyn, expected[k->type]);
    if (k->type != CONFIG_BOOL) {
        enum err err = check_bounds(k, n, why, whyn);
        if (err)
            return err;
    }
    *number = n;
    return ERR_OK;
}

/* "a, b,c" -> "a\nb\nc". Empty items are dropped. */
static void split_commas(struct slice s, struct buf *out)
{
    while (s.n) {
        config_skip_blanks(&s);
        const uint8_t *comma = s.n ? memchr(s.p, ',', s.n) : NULL;
        size_t whole = comma ? (size_t)(comma - s.p) : s.n;
        size_t n = whole;
        while (n && (s.p[n - 1] == ' ' || s.p[n - 1] == '\t'))
            n--;
        if (n && out->n)
            buf_u8(out, '\n');
        buf_append(out, s.p, n);
        step(&s, whole + (comma != NULL));
    }
}

static char *to_cstr(struct slice s)
{
    char *text = mem_alloc(s.n + 1);
    if (s.n)
        memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    return text;
}

static enum err convert_text(const struct config_key *k, const struct config_value *v, char **text,
                             char *why, size_t whyn)
{
    struct slice s = buf_slice(&v->text);
    if (v->kind == CONFIG_VALUE_BARE)
        return complain(why, whyn, "a quoted string is expected");
    if (k->type == CONFIG_STRING) {
        if (v->kind == CONFIG_VALUE_LIST)
            return complain(why, whyn, "one string is expected, not a list");
        enum err err = check_bounds(k, s.n, why, whyn);
        if (err)
            return err;
        *text = to_cstr(s);
        return ERR_OK;
    }
    if (v->kind == CONFIG_VALUE_LIST) {
        *text = to_cstr(s);
        return ERR_OK;
    }
    if (s.n && memchr(s.p, '\n', s.n))
        return complain(why, whyn, "a list's item holds a line break");
    struct buf joined = {0};
    split_commas(s, &joined);
    *text = to_cstr(buf_slice(&joined));
    buf_close(&joined);
    return ERR_OK;
}

enum err config_value_convert(const struct config_key *k, const struct config_value *v, char **text,
                              uint64_t *number, char *why, size_t whyn)
{
    if (k->type == CONFIG_STRING || k->type == CONFIG_STRING_LIST)
        return convert_text(k, v, text, why, whyn);
    return convert_number(k, v, number, why, whyn);
}

/* ---- printing ---- */

static void print_with_unit(uint64_t v, const struct unit *units, unsigned n, struct buf *b)
{
    unsigned best = 0;
    for (unsigned i = 1; i < n; i++)
        if (v && v % units[i].factor == 0 && units[i].factor > units[best].factor)
            best = i;
    buf_printf(b, "%llu%s", (unsigned long long)(v / units[best].factor), units[best].name);
}

void config_value_print_size(uint64_t bytes, struct buf *b)
{
    print_with_unit(bytes, sizes, 5, b); /* the binary ones */
}

void config_value_print_duration(uint64_t ms, struct buf *b)
{
    print_with_unit(ms, durations, 6, b);
}
