#include "common/raft/snapshot_manifest.h"

#include <stdlib.h>

#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/mem.h"

#define MAGIC 0x4d564b53u /* "SKVM" */
#define VERSION 1u
#define FILE_FIXED 13u /* bytes of a file's record but for its name */
#define HEAD 40u       /* bytes before the note's contents, with the count after it */

void snapshot_manifest_close(struct snapshot_manifest *m)
{
    buf_close(&m->note);
    free(m->files);
    *m = (struct snapshot_manifest){0};
}

bool snapshot_name_ok(struct slice name)
{
    if (name.n == 0 || name.n > SNAPSHOT_NAME_MAX || name.p[0] == '.')
        return false;
    for (size_t i = 0; i < name.n; i++) {
        uint8_t c = name.p[i];
        bool ok = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '_' || c == '-';
        if (!ok)
            return false;
    }
    return true;
}

static enum err add(struct snapshot_manifest *m, struct slice name, uint64_t size, uint32_t crc)
{
    if (!snapshot_name_ok(name))
        return ERR_UNSUPPORTED;
    if (m->n >= SNAPSHOT_FILES_MAX || size > SNAPSHOT_FILE_SIZE_MAX ||
        size > SNAPSHOT_SIZE_MAX - m->bytes)
        return ERR_TOO_LARGE;
    struct snapshot_file f = {.crc = crc, .size = size};
    memcpy(f.name, name.p, name.n);
    if (m->n > 0 && strcmp(m->files[m->n - 1].name, f.name) >= 0)
        return ERR_EXISTS;
    if (m->n == m->cap) {
        m->cap = m->cap ? 2 * m->cap : 16;
        m->files = mem_realloc(m->files, m->cap * sizeof *m->files);
    }
    m->files[m->n++] = f;
    m->bytes += size;
    return ERR_OK;
}

enum err snapshot_manifest_add(struct snapshot_manifest *m, const char *name, uint64_t size,
                               uint32_t crc)
{
    return add(m, slice_str(name), size, crc);
}

enum err snapshot_manifest_encode(const struct snapshot_manifest *m, struct buf *out)
{
    size_t need = HEAD + m->note.n + 4;

    if (m->note.n > SNAPSHOT_NOTE_MAX)
        return ERR_TOO_LARGE;
    for (uint32_t i = 0; i < m->n; i++)
        need += FILE_FIXED + strlen(m->files[i].name);
    if (need > LIMIT_MANIFEST)
        return ERR_TOO_LARGE;
    size_t begin = out->n;
    buf_reserve(out, need);
    buf_u32(out, MAGIC);
    buf_u16(out, VERSION);
    buf_u16(out, m->core);
    buf_u64(out, m->id);
    buf_u64(out, m->group);
    buf_u64(out, m->index);
    buf_u32(out, (uint32_t)m->note.n);
    buf_append(out, m->note.p, m->note.n);
    buf_u32(out, m->n);
    for (uint32_t i = 0; i < m->n; i++) {
        const struct snapshot_file *f = &m->files[i];
        size_t length = strlen(f->name);
        buf_u8(out, (uint8_t)length);
        buf_append(out, f->name, length);
        buf_u64(out, f->size);
        buf_u32(out, f->crc);
    }
    buf_u32(out, crc32c(0, out->p + begin, out->n - begin));
    CHECK(out->n - begin == need);
    return ERR_OK;
}

static enum err decode_files(struct cursor *c, struct snapshot_manifest *m)
{
    uint32_t n = cursor_u32(c);

    /* No more than could stand in the bytes that are left: nothing is allocated for a claim. */
    if (c->bad || n > SNAPSHOT_FILES_MAX || n > c->left.n / FILE_FIXED)
        return ERR_CORRUPT;
    for (uint32_t i = 0; i < n; i++) {
        struct slice name = cursor_bytes(c, cursor_u8(c));
        uint64_t size = cursor_u64(c);
        uint32_t crc = cursor_u32(c);
        if (c->bad || add(m, name, size, crc) != ERR_OK)
            return ERR_CORRUPT;
    }
    return c->left.n == 0 ? ERR_OK : ERR_CORRUPT;
}

enum err snapshot_manifest_decode(struct slice in, struct snapshot_manifest *out)
{
    if (in.n > LIMIT_MANIFEST)
        return ERR_TOO_LARGE;
    if (in.n < HEAD + 4)
        return ERR_CORRUPT;
    struct cursor c = cursor_of(slice_of(in.p, in.n - 4));
    struct cursor tail = cursor_of(slice_of(in.p + in.n - 4, 4));
    if (cursor_u32(&c) != MAGIC || cursor_u16(&c) != VERSION)
        return ERR_FORMAT;
    if (cursor_u32(&tail) != crc32c(0, in.p, in.n - 4))
        return ERR_CORRUPT;
    struct snapshot_manifest m = {.core = cursor_u16(&c)};
    m.id = cursor_u64(&c);
    m.group = cursor_u64(&c);
    m.index = cursor_u64(&c);
    uint32_t note = cursor_u32(&c);
    if (c.bad || m.id == 0 || note > SNAPSHOT_NOTE_MAX || note > c.left.n)
        return ERR_CORRUPT;
    struct slice bytes = cursor_bytes(&c, note);
    buf_append(&m.note, bytes.p, bytes.n);
    enum err e = decode_files(&c, &m);
    if (e != ERR_OK) {
        snapshot_manifest_close(&m);
        return e;
    }
    *out = m;
    return ERR_OK;
}
