#include "common/base/exit_code.h"

int exit_code_of(enum err e)
{
    switch (e) {
    case ERR_OK:
        return EXIT_CODE_OK;
    case ERR_CONFIG:
        return EXIT_CODE_CONFIG;
    case ERR_REFUSED:
        return EXIT_CODE_REMOVED;
    case ERR_CORRUPT:
    case ERR_FORMAT:
    case ERR_FOREIGN:
        return EXIT_CODE_DATA;
    default:
        return EXIT_CODE_FAILED;
    }
}
