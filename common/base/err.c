#include "common/base/err.h"

#include <errno.h>
#include <stddef.h>

struct err_row {
    enum err err;
    enum err_class cls;
    int exit_code;
    const char *name, *text;
};

#define ERR_ROW(name_, number, cls_, code, text_)                                                  \
    {name_, ERR_CLASS_##cls_, code, &#name_[sizeof("ERR_") - 1], text_},
static const struct err_row rows[] = {ERR_TABLE(ERR_ROW)};
#undef ERR_ROW

/* Errors are rare next to the work they end: a scan of forty rows is cheap enough. */
static const struct err_row *err_row(unsigned long long number)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if ((unsigned long long)rows[i].err == number)
            return &rows[i];
    return NULL;
}

const char *err_name(enum err e)
{
    const struct err_row *row = err_row((unsigned long long)e);
    return row ? row->name : "UNKNOWN";
}

const char *err_text(enum err e)
{
    const struct err_row *row = err_row((unsigned long long)e);
    return row ? row->text : "unknown error";
}

enum err_class err_class(enum err e)
{
    /* A number we do not know may mean anything, so it may have been applied. */
    const struct err_row *row = err_row((unsigned long long)e);
    return row ? row->cls : ERR_CLASS_UNKNOWN;
}

int err_exit_code(enum err e)
{
    const struct err_row *row = err_row((unsigned long long)e);
    return row ? row->exit_code : 6;
}

enum err err_from_wire(unsigned long long number)
{
    const struct err_row *row = err_row(number);
    return row ? row->err : ERR_INTERNAL;
}

enum err err_from_errno(int error)
{
    switch (error) {
    case 0:
        return ERR_OK;
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_FORBIDDEN;
    case EAGAIN:
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
        return ERR_BUSY;
    case EFBIG:
        return ERR_TOO_LARGE;
    case ETIMEDOUT:
        return ERR_TIMEOUT;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
        return ERR_UNREACHABLE;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
    case ENOTCONN:
    case ESHUTDOWN:
        return ERR_CLOSED;
    case EADDRINUSE:
        return ERR_ADDRESS_IN_USE;
    case ENOSYS:
    case EOPNOTSUPP:
        return ERR_UNSUPPORTED;
    case EINTR:
    case ECANCELED:
        return ERR_INTERRUPTED;
    default:
        return ERR_IO;
    }
}
