/* What the kernel-facing half of the room knows of an open file.
 * Owner: whoever opened it.  Thread: any, one at a time.  Depends on: fs. */
#ifndef IO_FS_POSIX_H
#define IO_FS_POSIX_H

#include "common/io/fs.h"

struct fs_file {
    int fd;
};

#endif
