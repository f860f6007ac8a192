/* Values of the configuration: the lexer's words and the conversion of a value to a key's type.
 * Part of config.c, apart from it because a value has rules of its own.
 * Thread: any, pure.  Depends on: config.h. */
#ifndef BASE_CONFIG_VALUE_H
#define BASE_CONFIG_VALUE_H

#include "common/base/config.h"

enum config_value_kind {
    CONFIG_VALUE_STRING, /* was quoted: not a number or boolean */
    CONFIG_VALUE_LIST,   /* of quoted strings, joined by '\n' */
    CONFIG_VALUE_BARE,   /* 12, 0x1f, true */
    CONFIG_VALUE_ANY,    /* of --set or a default: the key's type decides */
};

struct config_value {
    enum config_value_kind kind;
    struct buf text; /* without quotes */
};

/* Bytes of [A-Za-z0-9_-] from the front; may be empty. */
struct slice config_take_word(struct slice *s);
bool config_take_char(struct slice *s, char c);
void config_skip_blanks(struct slice *s); /* spaces and tabs */
/* At a newline, a comment or the end of the text. */
bool config_at_line_end(struct slice s);
/* Steps over a comment and the newline; false if something else is there. */
bool config_skip_line_end(struct slice *s);

/* Reads a value, for arrays over several lines (*line counts them). On failure nothing is to be
 * closed. */
MUST_USE enum err config_value_read(struct slice *s, unsigned *line, struct config_value *out,
                                    char *why, size_t whyn);
/* The right side of --set: quoted, an array, or bare text as it stands. */
MUST_USE enum err config_value_set(struct slice s, struct config_value *out, char *why,
                                   size_t whyn);
void config_value_bare(struct slice s, struct config_value *out);
void config_value_close(struct config_value *v);

/* For text types *text (caller frees), else *number. ERR_CONFIG: `why` says what is expected. */
MUST_USE enum err config_value_convert(const struct config_key *k, const struct config_value *v,
                                       char **text, uint64_t *number, char *why, size_t whyn);

/* The shortest exact text of a size or duration that reads back: "64MiB", "500ms". */
void config_value_print_size(uint64_t bytes, struct buf *b);
void config_value_print_duration(uint64_t ms, struct buf *b);

#endif
