/* --session FILE: what one kvctl has written and read, kept for the next one (kvclient.h: tokens).
 *
 * The file has the token as one line of text; programs that use the library may read or write it.
 * It is read when the cluster is first talked to and written anew, by renaming, when kvctl ends.
 * Thread: main.  Depends on: ctl.h. */
#ifndef CTL_SESSION_FILE_H
#define CTL_SESSION_FILE_H

#include "client/ctl/ctl.h"

/* After the handle was opened; a file that is not there yet is none. CTL_OK, or what was printed.
 */
int session_file_load(const struct ctl *ctl);
/* Before the handle is closed. The same; nothing if there is no handle. */
int session_file_save(const struct ctl *ctl);

#endif
