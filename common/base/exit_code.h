/* Exit codes of the daemons: what a service manager decides by whether to start one again.
 *
 * The units in deploy/systemd name those that another start cannot heal in
 * RestartPreventExitStatus=. Depends on: err. */
#ifndef BASE_EXIT_CODE_H
#define BASE_EXIT_CODE_H

#include "common/base/err.h"

enum exit_code {
    EXIT_CODE_OK = 0,
    EXIT_CODE_FAILED = 1,   /* may pass: a port in use, a directory not mounted yet */
    EXIT_CODE_CONFIG = 2,   /* the command line or the configuration is wrong */
    EXIT_CODE_REMOVED = 3,  /* the cluster has removed or refused this node or member */
    EXIT_CODE_DATA = 4,     /* the data directory is damaged, another's or of a newer format */
    EXIT_CODE_STORAGE = 70, /* a running daemon could not make its log durable */
};

int exit_code_of(enum err e);

#endif
