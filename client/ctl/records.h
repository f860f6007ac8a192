/* Pairs in a file, for export and import: JSON lines, or MessagePack values one after the other.
 *
 *   {"key":"k","value":"v","version":"17","expires_ms":1790000000000}
 *   [key, value, version, expires_ms or nil]                      key and value: bin (or str)
 *
 * A key or value that is no UTF-8, or holds a NUL, is "key_base64" or "value_base64".
 * `expires_ms`: when it ends, ms since 1970; absent: never. `version`: for information. Reading,
 * "ttl_ms" (to live from now on) is taken too, and further fields are skipped.
 * Thread: main.  Depends on: jansson, wire/mp. */
#ifndef CTL_RECORDS_H
#define CTL_RECORDS_H

#include <stdio.h>

#include "client/ctl/output.h"
#include "common/base/slice.h"

enum records_format { RECORDS_JSON, RECORDS_MSGPACK };
/* "json", "msgpack". */
bool records_format_of(const char *name, enum records_format *out);
/* What a file of that name should be: by its end, ".msgpack" or ".mp". */
enum records_format records_format_by_name(const char *path);

struct record {
    struct slice key, value; /* borrowed */
    uint64_t version;
    uint64_t expires_ms; /* 0: never */
    uint64_t ttl_ms;     /* 0: not given */
};
void record_encode(struct buf *b, enum records_format format, const struct record *r);

/* What a decoded record borrows from; record_close() it. */
struct record_memory {
    json_t *json;
    void *key, *value;
};
/* One raw record. False: it is none, `msg` says why. */
bool record_decode(enum records_format format, struct slice raw, struct record *out,
                   struct record_memory *memory, char *msg, size_t n);
void record_close(struct record_memory *memory);

enum records_next {
    RECORDS_ONE,
    RECORDS_END,
    RECORDS_CUT, /* the input ends within a record */
    RECORDS_BAD, /* no record can be told apart */
    RECORDS_IO,
};
struct records_reader {
    FILE *in;
    bool known; /* the format; else the first byte tells */
    enum records_format format;
    uint64_t offset; /* of the next record in the input */
    struct buf buf;
    size_t at; /* of the next record in buf */
    bool end;
};
/* The next raw record, without looking into it; borrowed until the next call. Empty lines are
 * skipped. */
enum records_next records_read(struct records_reader *r, struct slice *raw);
void records_close(struct records_reader *r); /* not the file */

#endif
