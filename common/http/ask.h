/* A question that another thread puts to loops, with a bounded wait.
 *
 * The asker makes it with as many parts as there are loops, posts a mail to each, and waits. Each
 * loop fills in its part of `data` and calls ask_answer(). When the wait ends early the asker goes
 * on without the data; what is asked lives until the last loop has answered too.
 *
 *     struct ask *a = ask_create(cores, data, free);
 *     for each core: core_post(core, answer_fn, a);        // answer_fn ends with ask_answer(a)
 *     if (ask_wait(a, 1000)) ... read ask_data(a) ...
 *     ask_release(a);
 *
 * Thread: as said.  Depends on: base. */
#ifndef HTTP_ASK_H
#define HTTP_ASK_H

#include <stdbool.h>

struct ask;

/* Takes `data`; `release` (not NULL) frees it with the last of all holders. */
struct ask *ask_create(unsigned parts, void *data, void (*release)(void *data));
void *ask_data(struct ask *a);
/* On a loop: one part is filled in. `a` must not be touched afterwards. */
void ask_answer(struct ask *a);
/* On the asker's thread: true when all parts are there. */
bool ask_wait(struct ask *a, unsigned ms);
/* The asker is done. */
void ask_release(struct ask *a);

#endif
