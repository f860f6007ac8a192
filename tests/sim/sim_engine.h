/* What the world may ask the simulated engine besides engine.h. */
#ifndef SIM_SIM_ENGINE_H
#define SIM_SIM_ENGINE_H

#include "shardd/engine.h"

/* Over all pairs of [from, to): equal for equal contents. */
uint64_t sim_engine_hash(const struct engine_db *db, struct slice from, struct slice to,
                         uint64_t time_ms);

#endif
