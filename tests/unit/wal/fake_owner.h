/* One owner of a log on the fake disk. Defines functions, as fake_io.h does.
 *
 * Owner: the test.  Thread: the test's.  Depends on: fake_io, owner. */
#ifndef UNIT_WAL_FAKE_OWNER_H
#define UNIT_WAL_FAKE_OWNER_H

#include "tests/unit/wal/fake_io.h"
#include "tests/unit/wal/owner.h"

static struct owner o;

static inline void fake_owner_begin(void)
{
    fake_reset();
    memset(&o, 0, sizeof o);
    o.io = fake_io(1);
    o.dir = "w";
    o.segment_size = 64 * 1024;
}

static inline void teardown(void)
{
    free(o.io);
    o.io = NULL;
    fake_reset();
}

static inline void drain(void)
{
    for (unsigned i = 0; i < 10000 && !fake.dead && !(o.wal && wal_idle(o.wal)); i++)
        fake_turn(o.io);
}

/* After a power cut: nothing of the process is left. */
static inline void close_dead(void)
{
    if (o.wal)
        wal_close(o.wal);
    o.wal = NULL;
    o.io->op_count = 0;
    o.io->timer_count = 0;
    list_init(&o.io->work);
}

#endif
