/* The file is read line by line, except that an array may go on over lines. Every assignment is
 * first put into a scratch copy of the caller's struct (its strings duplicated), which replaces the
 * caller's only when the whole text was good: a reload with a mistake changes nothing. */
#include "common/base/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/config_value.h"
#include "common/base/mem.h"

#define NAME_MAX_BYTES 128u
#define GUESS_DISTANCE 3u /* edits up to which "did you mean" is offered */

struct config_parser {
    const struct config_key *keys;
    size_t n;
    const char *file; /* NULL: --set */
    unsigned line;
    struct slice left;
    char section[NAME_MAX_BYTES];
    bool *seen; /* by key: given in this file already */
    void *out;
    char *msg;
    size_t msgn;
};

/* Writes "file:line: " and the text; always gives ERR_CONFIG. */
__attribute__((format(printf, 2, 3))) static enum err fail(struct config_parser *p, const char *fmt,
                                                           ...)
{
    size_t n = 0;
    if (p->msgn == 0)
        return ERR_CONFIG;
    if (p->file) {
        int m = snprintf(p->msg, p->msgn, "%s:%u: ", p->file, p->line);
        n = m < 0 ? 0 : (size_t)m;
    }
    if (n >= p->msgn)
        return ERR_CONFIG;
    va_list args;
    va_start(args, fmt);
    vsnprintf(p->msg + n, p->msgn - n, fmt, args);
    va_end(args);
    return ERR_CONFIG;
}

/* ---- places in the caller's struct ---- */

static void *place(const struct config_key *k, void *out)
{
    return (char *)out + k->offset;
}

static bool is_text(const struct config_key *k)
{
    return k->type == CONFIG_STRING || k->type == CONFIG_STRING_LIST;
}

static size_t width_of(const struct config_key *k)
{
    return k->type == CONFIG_BOOL ? sizeof(bool) : sizeof(uint64_t);
}

static char *get_text(const struct config_key *k, const void *out)
{
    char *s;
    memcpy(&s, (const char *)out + k->offset, sizeof(s));
    return s;
}

/* Takes `s`; frees what was there. */
static void set_text(const struct config_key *k, void *out, char *s)
{
    free(get_text(k, out));
    memcpy(place(k, out), &s, sizeof(s));
}

void config_free(const struct config_key *keys, size_t n, void *out)
{
    for (size_t i = 0; i < n; i++)
        if (is_text(&keys[i]))
            set_text(&keys[i], out, NULL);
}

/* Stores a parsed value after checking type and bounds; `why` says what is wrong. */
static enum err store(const struct config_key *k, const struct config_value *v, void *out,
                      char *why, size_t whyn)
{
    char *text = NULL;
    uint64_t number = 0;
    enum err err = config_value_convert(k, v, &text, &number, why, whyn);
    if (err)
        return err;
    if (is_text(k)) {
        set_text(k, out, text);
    } else if (k->type == CONFIG_BOOL) {
        bool b = number != 0;
        memcpy(place(k, out), &b, sizeof(b));
    } else {
        memcpy(place(k, out), &number, sizeof(number));
    }
    return ERR_OK;
}

/* ---- names ---- */

/* Letters, digits, '-' and '_' are the same but for '_' = '-'. */
static char fold(char c)
{
    return c == '_' ? '-' : c;
}

static bool same_name(const char *a, const char *b)
{
    while (*a && fold(*a) == fold(*b)) {
        a++;
        b++;
    }
    return fold(*a) == fold(*b);
}

static void full_name(const struct config_key *k, char *out, size_t n)
{
    snprintf(out, n, "%s%s%s", k->section, k->section[0] ? "." : "", k->key);
}

static const struct config_key *find_key(const struct config_parser *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++) {
        char full[NAME_MAX_BYTES * 2];
        full_name(&p->keys[i], full, sizeof(full));
        if (same_name(name, full))
            return &p->keys[i];
    }
    return NULL;
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Levenshtein distance over one row; names are cut at NAME_MAX_BYTES. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[NAME_MAX_BYTES + 1];
    size_t n = strlen(b);
    if (n > NAME_MAX_BYTES)
        n = NAME_MAX_BYTES;
    for (unsigned j = 0; j <= n; j++)
        row[j] = j;
    for (unsigned i = 1; *a && i <= NAME_MAX_BYTES; i++, a++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= n; j++) {
            unsigned cost = fold(*a) != fold(b[j - 1]);
            unsigned best = least(row[j] + 1, row[j - 1] + 1, diagonal + cost);
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

/* The known name nearest to a wrong one; false if none is near. A key put under the wrong section
 * is found by its last part. */
static bool guess_key(const struct config_parser *p, const char *name, char *out, size_t n)
{
    const char *dot = strrchr(name, '.');
    const char *last = dot ? dot + 1 : name;
    unsigned best = GUESS_DISTANCE + 1;
    for (size_t i = 0; i < p->n; i++) {
        char full[NAME_MAX_BYTES * 2];
        full_name(&p->keys[i], full, sizeof(full));
        unsigned d = distance(name, full);
        if (same_name(last, p->keys[i].key) && d > 2)
            d = 2;
        if (d < best && d < strlen(full)) {
            best = d;
            snprintf(out, n, "%s", full);
        }
    }
    return best <= GUESS_DISTANCE;
}

static bool known_section(const struct config_parser *p, const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < p->n; i++) {
        const char *s = p->keys[i].section;
        if (same_name(name, s))
            return true;
        if (strlen(s) > n && s[n] == '.' && strncmp(s, name, n) == 0)
            return true;
    }
    return false;
}

static enum err fail_unknown_section(struct config_parser *p, const char *name)
{
    const char *guess = NULL;
    unsigned best = GUESS_DISTANCE + 1;
    for (size_t i = 0; i < p->n; i++) {
        unsigned d = distance(name, p->keys[i].section);
        if (d < best && d < strlen(p->keys[i].section)) {
            best = d;
            guess = p->keys[i].section;
        }
    }
    if (guess)
        return fail(p, "unknown section '%s'; did you mean '%s'?", name, guess);
    return fail(p, "unknown section '%s'", name);
}

/* ---- the text ---- */

/* One value of key `name`, read at p->left. */
static enum err assign(struct config_parser *p, const char *name, const struct config_value *v)
{
    const struct config_key *k = find_key(p, name);
    if (!k) {
        char guess[NAME_MAX_BYTES * 2];
        if (guess_key(p, name, guess, sizeof(guess)))
            return fail(p, "unknown key '%s'; did you mean '%s'?", name, guess);
        return fail(p, "unknown key '%s'", name);
    }
    size_t i = (size_t)(k - p->keys);
    if (p->seen && p->seen[i])
        return fail(p, "'%s' is given twice", name);
    char why[256];
    if (store(k, v, p->out, why, sizeof(why)) != ERR_OK)
        return fail(p, "%s: %s", name, why);
    if (p->seen)
        p->seen[i] = true;
    return ERR_OK;
}

/* A dotted name of bare words, with blanks around the dots allowed: appended to `out`. */
static enum err read_name(struct config_parser *p, char *out, size_t cap)
{
    size_t n = strlen(out);
    for (;;) {
        struct slice word = config_take_word(&p->left);
        if (word.n == 0)
            return fail(p, "a name of letters, digits, '-' and '_' is expected");
        if (n + word.n + 2 > cap)
            return fail(p, "the name is too long");
        if (n)
            out[n++] = '.';
        memcpy(out + n, word.p, word.n);
        n += word.n;
        out[n] = '\0';
        config_skip_blanks(&p->left);
        if (!config_take_char(&p->left, '.'))
            return ERR_OK;
        config_skip_blanks(&p->left);
    }
}

static enum err read_section(struct config_parser *p)
{
    char name[NAME_MAX_BYTES] = "";
    if (config_take_char(&p->left, '['))
        return fail(p, "arrays of tables ('[[') are not supported");
    config_skip_blanks(&p->left);
    enum err err = read_name(p, name, sizeof(name));
    if (err)
        return err;
    if (!config_take_char(&p->left, ']'))
        return fail(p, "']' is missing after the section's name");
    if (!known_section(p, name))
        return fail_unknown_section(p, name);
    memcpy(p->section, name, sizeof(p->section));
    return ERR_OK;
}

static enum err read_assignment(struct config_parser *p)
{
    char name[NAME_MAX_BYTES * 2];
    struct config_value v;
    char why[256];
    memcpy(name, p->section, sizeof(p->section));
    enum err err = read_name(p, name, sizeof(name));
    if (err)
        return err;
    if (!config_take_char(&p->left, '='))
        return fail(p, "'=' is missing after '%s'", name);
    config_skip_blanks(&p->left);
    unsigned first_line = p->line;
    err = config_value_read(&p->left, &p->line, &v, why, sizeof(why));
    if (err)
        return fail(p, "%s: %s", name, why);
    unsigned last_line = p->line;
    p->line = first_line; /* complaints about an array point at its key */
    err = assign(p, name, &v);
    p->line = err ? first_line : last_line;
    config_value_close(&v);
    return err;
}

static enum err read_text(struct config_parser *p)
{
    for (p->line = 1; p->left.n > 0; p->line++) {
        config_skip_blanks(&p->left);
        enum err err = ERR_OK;
        if (config_take_char(&p->left, '['))
            err = read_section(p);
        else if (!config_at_line_end(p->left))
            err = read_assignment(p);
        if (err)
            return err;
        config_skip_blanks(&p->left);
        if (!config_skip_line_end(&p->left))
            return fail(p, "unexpected text after the value");
    }
    return ERR_OK;
}

/* ---- the calls ---- */

/* A copy of the struct to write into: `out`'s strings duplicated. The struct's size is not known,
 * its last place is. */
static size_t struct_extent(const struct config_key *keys, size_t n)
{
    size_t end = 0;
    for (size_t i = 0; i < n; i++) {
        if (keys[i].offset + width_of(&keys[i]) > end)
            end = keys[i].offset + width_of(&keys[i]);
    }
    return end;
}

static void *scratch_copy(const struct config_key *keys, size_t n, const void *out)
{
    void *copy = mem_dup(out, struct_extent(keys, n));
    for (size_t i = 0; i < n; i++) {
        if (!is_text(&keys[i]))
            continue;
        char *s = get_text(&keys[i], out);
        s = s ? mem_strdup(s) : NULL;
        memcpy(place(&keys[i], copy), &s, sizeof(s));
    }
    return copy;
}

/* Moves the keys' places from the scratch copy into `out`, and nothing else of it. */
static void scratch_adopt(const struct config_key *keys, size_t n, void *copy, void *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct config_key *k = &keys[i];
        if (is_text(k))
            set_text(k, out, get_text(k, copy));
        else
            memcpy(place(k, out), place(k, copy), width_of(k));
    }
}

enum err config_defaults(const struct config_key *keys, size_t n, void *out)
{
    for (size_t i = 0; i < n; i++) {
        const struct config_key *k = &keys[i];
        if (is_text(k)) {
            char *empty = mem_strdup("");
            memcpy(place(k, out), &empty, sizeof(empty));
        } else {
            uint64_t zero = 0;
            memcpy(place(k, out), &zero, k->type == CONFIG_BOOL ? sizeof(bool) : sizeof(zero));
        }
    }
    for (size_t i = 0; i < n; i++) {
        char why[256];
        struct config_value v;
        if (!keys[i].def)
            continue;
        config_value_bare(slice_str(keys[i].def), &v);
        enum err err = store(&keys[i], &v, out, why, sizeof(why));
        config_value_close(&v);
        if (err)
            return err;
    }
    return ERR_OK;
}

enum err config_parse(const struct config_key *keys, size_t n, const char *file_name,
                      struct slice text, void *out, char *msg, size_t msgn)
{
    struct config_parser p = {.keys = keys,
                              .n = n,
                              .file = file_name,
                              .line = 1,
                              .left = text,
                              .seen = mem_zalloc(n),
                              .out = scratch_copy(keys, n, out),
                              .msg = msg,
                              .msgn = msgn};
    enum err err = ERR_OK;
    if (text.n && memchr(text.p, '\0', text.n))
        err = fail(&p, "not a text file: it holds a zero byte");
    if (!err)
        err = read_text(&p);
    if (err)
        config_free(keys, n, p.out);
    else
        scratch_adopt(keys, n, p.out, out);
    free(p.out);
    free(p.seen);
    return err;
}

enum err config_set(const struct config_key *keys, size_t n, const char *assignment, void *out,
                    char *msg, size_t msgn)
{
    struct config_parser p = {
        .keys = keys, .n = n, .left = slice_str(assignment), .out = out, .msg = msg, .msgn = msgn};
    char name[NAME_MAX_BYTES * 2] = "";
    struct config_value v;
    char why[256];
    enum err err = read_name(&p, name, sizeof(name));
    if (err)
        return err;
    if (!config_take_char(&p.left, '='))
        return fail(&p, "'section.key=value' is expected, not '%s'", assignment);
    err = config_value_set(p.left, &v, why, sizeof(why));
    if (err)
        return fail(&p, "%s: %s", name, why);
    err = assign(&p, name, &v);
    config_value_close(&v);
    return err;
}

bool config_same(const struct config_key *k, const void *a, const void *b)
{
    if (!is_text(k))
        return memcmp((const char *)a + k->offset, (const char *)b + k->offset, width_of(k)) == 0;
    const char *s = get_text(k, a), *t = get_text(k, b);
    return strcmp(s ? s : "", t ? t : "") == 0;
}

void config_swap(const struct config_key *k, void *a, void *b)
{
    char keep[sizeof(uint64_t)];
    memcpy(keep, place(k, a), width_of(k));
    memcpy(place(k, a), place(k, b), width_of(k));
    memcpy(place(k, b), keep, width_of(k));
}

bool config_list_next(const char *list, size_t *it, struct slice *item)
{
    const char *s = list + *it;
    if (!*s)
        return false;
    size_t n = strcspn(s, "\n");
    *item = slice_of(s, n);
    *it += n + (s[n] == '\n');
    return true;
}
