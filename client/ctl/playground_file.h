/* Where a program that was not told looks for its cluster. The one thing of ctl that kvbench has,
 * too; playground_file.c depends on nothing else of it.
 * Thread: main, before others run. */
#ifndef CTL_PLAYGROUND_FILE_H
#define CTL_PLAYGROUND_FILE_H

#include <stdbool.h>

/* KV_URL, or the playground in ./run, wherever it listens, or the usual ports. Static. *damaged:
 * ./run/playground.json cannot be read, the usual ports are given. */
const char *playground_default_url(bool *damaged);

#endif
