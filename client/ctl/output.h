/* Tables (libsmartcols), JSON (jansson) and sizes for people.
 * Thread: main.  Depends on: ctl.h. */
#ifndef CTL_OUTPUT_H
#define CTL_OUTPUT_H

#include <jansson.h>
#include <stdint.h>

#include "client/ctl/ctl.h"

struct out_table;
/* `columns`: names separated by spaces; a '>' before a name aligns it to the right. */
struct out_table *out_table_new(const struct ctl *ctl, const char *columns);
void out_table_row(struct out_table *t);
/* The next cell of the last row. */
void out_table_cell(struct out_table *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints and frees. */
void out_table_end(struct out_table *t);

/* Prints on stdout with "schema":1 in front; takes the object. */
void out_json(json_t *object);
/* Ids go as strings: they may exceed what JSON readers take as numbers. */
json_t *out_json_id(uint64_t id);
/* {name: text} or, if it is no UTF-8, {name_base64: ...}. */
void out_json_bytes(json_t *object, const char *name, const void *data, size_t n);
void out_json_base64(json_t *object, const char *name, const void *data, size_t n);
/* The bytes, malloc()ed, or NULL if it is no base64. */
void *out_from_base64(const char *text, size_t *n);
/* "1.9GiB" */
const char *out_size(uint64_t bytes, char buf[16]);
/* Text in a color if colors are on: 'r' red, 'g' green, 'y' yellow. */
const char *out_color(const struct ctl *ctl, char color);
const char *out_color_end(const struct ctl *ctl);

#endif
