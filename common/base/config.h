/* Configuration: a subset of TOML read into a caller's struct, driven by a table of known keys.
 *
 * The table gives each key's section, type, place in the struct, default, bounds and help; the same
 * table serves the file, `--set section.key=value` and the printed defaults. An unknown key is an
 * error with file:line and "did you mean". Pure: it takes bytes, reads no file.
 *
 * Accepted: comments, [section] and [a.b] headers, `key = value`, dotted keys (`wal.io = "direct"`
 * outside a section), "basic" and 'literal' strings, integers (also 1_000 and 0x..), true/false,
 * arrays of strings over several lines. Sizes ("64MiB", "1KiB", "10MB" or bytes as an integer) and
 * durations ("500ms", "10s", "2m", "1h" or ms as an integer) are strings. Keys may use - or _.
 * A key given twice in one file is an error, as in TOML.
 *
 * Owner: the caller.  Thread: one (start-up, reload).  Depends on: err, slice. */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/err.h"
#include "common/base/slice.h"

/* What the key's place in the struct holds. */
enum config_type {
    CONFIG_STRING, /* char *, owned, never NULL after config_defaults(); min/max bound its length
                      in bytes (max 0: no bound) */
    CONFIG_UINT,   /* uint64_t */
    CONFIG_BOOL,   /* bool */
    CONFIG_SIZE,   /* uint64_t, bytes */
    CONFIG_DURATION_MS, /* uint64_t, milliseconds */
    CONFIG_STRING_LIST, /* char *, owned: the items joined by '\n', "" for none. Given as an array,
                           or as one string with commas */
};

struct config_key {
    const char *section; /* "" for a key at the top; may be dotted */
    const char *key;     /* spelled with '-' */
    enum config_type type;
    size_t offset;     /* offsetof() in the caller's struct */
    const char *def;   /* as the right side of --set; NULL: "" , 0 or false */
    uint64_t min, max; /* inclusive; max 0: no upper bound. Numbers, sizes, durations, lengths */
    const char *help;  /* one line */
};

/* Fills every key's default. Strings that `out` holds are not freed: for a struct not yet in use.
 * ERR_CONFIG: a default in the table does not parse (a mistake of ours; a test calls this). */
MUST_USE enum err config_defaults(const struct config_key *keys, size_t n, void *out);

/* Applies a file's text over what `out` holds. `file_name` is for messages only. On ERR_CONFIG
 * `msg` says "file:line: what; did you mean 'x'?" and `out` is as it was before. */
MUST_USE enum err config_parse(const struct config_key *keys, size_t n, const char *file_name,
                               struct slice text, void *out, char *msg, size_t msgn);

/* One override, "section.key=value"; the value is bare or quoted. ERR_CONFIG: `msg` says why and
 * `out` is as it was. */
MUST_USE enum err config_set(const struct config_key *keys, size_t n, const char *assignment,
                             void *out, char *msg, size_t msgn);

/* Frees the strings of `out` and sets them to NULL. */
void config_free(const struct config_key *keys, size_t n, void *out);

/* For a reload: does the key have the same value in both? */
bool config_same(const struct config_key *k, const void *a, const void *b);
/* The value of that key goes from one struct to the other, and the other's to the first. */
void config_swap(const struct config_key *k, void *a, void *b);

/* Appends a commented TOML file that holds every key of the table with its value in `out`: the
 * sample file, and `--check-config`'s view of what is in force. */
void config_print(const struct config_key *keys, size_t n, const void *out, struct buf *b);

/* Items of a string list: steps through, `*it` starts at 0. False at the end. */
bool config_list_next(const char *list, size_t *it, struct slice *item);

#endif
