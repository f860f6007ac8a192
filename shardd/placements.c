#include "shardd/placements.h"

#include <stdio.h>
#include <string.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/fs.h"

#define FILE_MAX 4096u

/* False: this is not what save() writes. */
static bool parse(struct placements *p, char *text)
{
    for (char *line = text, *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        if (!end || p->n == LIMIT_GROUP_MEMBERS)
            return false;
        *end = '\0';
        if (io_addr_parse(line, &p->addr[p->n++]) != ERR_OK)
            return false;
    }
    return true;
}

void placements_open(struct placements *p, struct io *io, const char *data_dir)
{
    struct buf file = {0};
    *p = (struct placements){.io = io};
    snprintf(p->path, sizeof p->path, "%.2900s/placements", data_dir);
    enum err e = fs_read_file(p->path, &file);
    if (e == ERR_OK && file.n > FILE_MAX)
        e = ERR_CORRUPT;
    if (e == ERR_OK) {
        buf_u8(&file, 0);
        if (!parse(p, (char *)file.p))
            e = ERR_CORRUPT;
    }
    buf_close(&file);
    if (e == ERR_OK || e == ERR_NOT_FOUND)
        return;
    p->n = 0;
    log_warn("placements_not_read",
             "path=%s error=%s; placementd is looked for where the configuration says", p->path,
             err_name(e));
}

static void save(struct placements *p);

static void save_run(struct io_work *work)
{
    struct placements *p = CONTAINER_OF(work, struct placements, work);
    if (fs_write_file(p->path, buf_slice(&p->bytes)) != ERR_OK)
        log_warn("placements_not_saved", "path=%s error=\"%s\"", p->path, fs_last_error());
}

static void save_done(struct io_work *work)
{
    struct placements *p = CONTAINER_OF(work, struct placements, work);
    p->saving = false;
    if (p->again)
        save(p);
}

static void save(struct placements *p)
{
    p->again = p->saving;
    if (p->saving)
        return;
    p->saving = true;
    buf_clear(&p->bytes);
    for (unsigned i = 0; i < p->n; i++) {
        char text[64];
        io_addr_format(&p->addr[i], text);
        buf_printf(&p->bytes, "%s\n", text);
    }
    p->work = (struct io_work){.run = save_run, .done = save_done};
    io_offload(p->io, &p->work);
}

void placements_set(struct placements *p, const struct io_addr *addr, unsigned n)
{
    CHECK(n <= LIMIT_GROUP_MEMBERS);
    p->n = n;
    if (n)
        memcpy(p->addr, addr, n * sizeof *addr);
    save(p);
}
