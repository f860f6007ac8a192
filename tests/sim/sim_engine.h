/* What the world may ask the simulated engine besides engine.h. */
#ifndef SIM_SIM_ENGINE_H
#define SIM_SIM_ENGINE_H

#include "shardd/engine.h"

/* Over all pairs whose key begins with `prefix`: equal for equal contents. */
uint64_t sim_engine_hash(const struct engine_db *db, char prefix);

#endif
