#include "client/ctl/session_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TOKEN_MAX (512u * 1024) /* 16384 slots, each with a version of its own, in base64 */

static int not_a_session(const struct ctl *ctl)
{
    return ctl_fail(ctl, CTL_USAGE, "BAD_SESSION",
                    "name another file, or remove this one to begin anew",
                    "%s does not hold a session of this cluster", ctl->session);
}

static int failed(const struct ctl *ctl, const char *what)
{
    return ctl_fail(ctl, CTL_USAGE, "BAD_SESSION", NULL, "%s cannot be %s: %s", ctl->session, what,
                    strerror(errno));
}

int session_file_load(const struct ctl *ctl)
{
    FILE *f = fopen(ctl->session, "re");
    if (!f)
        return errno == ENOENT ? CTL_OK : failed(ctl, "read");
    char *token = calloc(1, TOKEN_MAX + 1);
    size_t n = token ? fread(token, 1, TOKEN_MAX, f) : 0;
    bool bad = !token || ferror(f);
    fclose(f);
    int code = CTL_OK;
    if (bad) {
        code = failed(ctl, "read");
    } else {
        token[strcspn(token, "\r\n")] = '\0';
        kv_err e = n == TOKEN_MAX ? KV_BAD_REQUEST : kv_session_import(ctl->kv, token);
        if (e == KV_BAD_REQUEST)
            code = not_a_session(ctl);
        else if (e != KV_OK)
            code = ctl_fail_kv(ctl, e, false, "");
    }
    free(token);
    return code;
}

static bool write_line(const char *path, const char *token)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (!f) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    bool ok = fprintf(f, "%s\n", token) > 0;
    return fclose(f) == 0 && ok;
}

int session_file_save(const struct ctl *ctl)
{
    size_t n = 0;
    if (!ctl->kv)
        return CTL_OK;
    char *token = malloc(TOKEN_MAX);
    kv_err e = token ? kv_session_export(ctl->kv, token, TOKEN_MAX, &n) : KV_NO_MEMORY;
    if (e != KV_OK) {
        free(token);
        return ctl_fail_kv(ctl, e, false, "the session cannot be kept");
    }
    char *fresh = malloc(strlen(ctl->session) + sizeof ".new");
    int code = CTL_OK;
    if (fresh)
        sprintf(fresh, "%s.new", ctl->session);
    if (!fresh || !write_line(fresh, token) || rename(fresh, ctl->session) != 0)
        code = failed(ctl, "written");
    free(fresh);
    free(token);
    return code;
}
