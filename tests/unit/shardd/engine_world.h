/* One database of the real engine, a batch for it, and the sessions' results that go with it.
 *
 * Owner: the test.  Thread: the test's.  Depends on: engine, dedupe. */
#ifndef UNIT_ENGINE_WORLD_H
#define UNIT_ENGINE_WORLD_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shardd/dedupe.h"
#include "shardd/engine.h"

static struct engine *engine;
static struct engine_db *db;
static struct engine_batch *batch;
static struct dedupe *dedupe;
static char path[512];

/* An empty database, in a directory called `name`. */
static inline void engine_world_open(const char *name)
{
    char msg[256];
    const char *tmp = getenv("TEST_TMP");
    snprintf(path, sizeof path, "%.400s/%s", tmp ? tmp : "/tmp", name);
    struct engine_options o = {0};
    ck_assert_int_eq(engine_create(&o, &engine, msg, sizeof msg), ERR_OK);
    (void)!engine_remove(engine, path);
    ck_assert_int_eq(engine_open(engine, path, true, &db, msg, sizeof msg), ERR_OK);
    batch = engine_batch_create();
    dedupe = dedupe_create();
}

static inline void engine_world_close(void)
{
    dedupe_destroy(dedupe);
    engine_batch_destroy(batch);
    engine_close(db);
    (void)!engine_remove(engine, path);
    engine_destroy(engine);
}

#endif
