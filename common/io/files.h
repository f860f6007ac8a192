/* How many files and sockets the process may have open, and how many of them clients may take.
 *
 * A log that cannot open its next segment ends the process, and a database that cannot open a file
 * breaks its replica: so clients, of whom there may be any number, get half of the files at most.
 *
 * Thread: any.  Depends on: base. */
#ifndef IO_FILES_H
#define IO_FILES_H

#include <stdint.h>

/* Raises the soft limit to the hard one; the limit then, UINT64_MAX if there is none. */
uint64_t files_raise(void);
/* Connections of clients to each of `loops`, at most `most` and at least 8. */
unsigned files_for_clients(uint64_t files, unsigned loops, unsigned most);

#endif
