/* fs.h on POSIX calls. */
#include "common/io/fs_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/mem.h"

static _Thread_local int last_errno;

/* Remembers errno for fs_last_error() and translates it. */
static enum err failed(void)
{
    last_errno = errno;
    return err_from_errno(errno);
}

const char *fs_last_error(void)
{
    static _Thread_local char text[128];
    return strerror_r(last_errno, text, sizeof text);
}

static int open_flags(unsigned flags)
{
    int f = O_CLOEXEC;
    if ((flags & FS_READ) && (flags & FS_WRITE))
        f |= O_RDWR;
    else
        f |= (flags & FS_WRITE) ? O_WRONLY : O_RDONLY;
    if (flags & FS_CREATE)
        f |= O_CREAT;
    if (flags & FS_EXCLUSIVE)
        f |= O_EXCL;
    if (flags & FS_TRUNCATE)
        f |= O_TRUNC;
    return f;
}

enum err fs_open(const char *path, unsigned flags, struct fs_file **out)
{
    int f = open_flags(flags);
    int fd = open(path, (flags & FS_DIRECT) ? f | O_DIRECT : f, 0600);
    /* A file system without O_DIRECT (some network and union ones) refuses it by EINVAL, after it
     * has made the file: it costs speed there, not safety, since every commit is synced anyway. */
    if (fd < 0 && errno == EINVAL && (flags & FS_DIRECT))
        fd = open(path, f & ~O_EXCL, 0600);
    if (fd < 0)
        return failed();
    struct fs_file *file = mem_alloc(sizeof *file);
    file->fd = fd;
    *out = file;
    return ERR_OK;
}

void fs_close(struct fs_file *f)
{
    if (f == NULL)
        return;
    close(f->fd);
    free(f);
}

enum err fs_size(struct fs_file *f, uint64_t *out)
{
    struct stat st;
    if (fstat(f->fd, &st) != 0)
        return failed();
    *out = (uint64_t)st.st_size;
    return ERR_OK;
}

enum err fs_read(struct fs_file *f, void *p, size_t n, uint64_t offset, size_t *got)
{
    size_t at = 0;
    while (at < n) {
        ssize_t rc = pread(f->fd, (char *)p + at, n - at, (off_t)(offset + at));
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc < 0)
            return failed();
        if (rc == 0)
            break;
        at += (size_t)rc;
    }
    *got = at;
    return ERR_OK;
}

enum err fs_write(struct fs_file *f, const void *p, size_t n, uint64_t offset)
{
    size_t at = 0;
    while (at < n) {
        ssize_t rc = pwrite(f->fd, (const char *)p + at, n - at, (off_t)(offset + at));
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc < 0)
            return failed();
        at += (size_t)rc;
    }
    return ERR_OK;
}

enum err fs_sync(struct fs_file *f)
{
    return fdatasync(f->fd) == 0 ? ERR_OK : failed();
}

void fs_write_out(struct fs_file *f, uint64_t offset, size_t n)
{
    /* An error of it is fs_sync's, too. */
    (void)sync_file_range(f->fd, (off_t)offset, (off_t)n, SYNC_FILE_RANGE_WRITE);
}

enum err fs_truncate(struct fs_file *f, uint64_t size)
{
    return ftruncate(f->fd, (off_t)size) == 0 ? ERR_OK : failed();
}

enum err fs_rename(const char *from, const char *to)
{
    return rename(from, to) == 0 ? ERR_OK : failed();
}

enum err fs_unlink(const char *path)
{
    return unlink(path) == 0 ? ERR_OK : failed();
}

enum err fs_mkdir(const char *path)
{
    struct stat st;
    if (mkdir(path, 0700) == 0)
        return ERR_OK;
    if (errno != EEXIST)
        return failed();
    if (stat(path, &st) != 0)
        return failed();
    if (S_ISDIR(st.st_mode))
        return ERR_OK;
    errno = ENOTDIR;
    return failed();
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

enum err fs_rmdir_all(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT)
        return ERR_OK;
    return failed();
}

enum err fs_sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return failed();
    enum err e = fsync(fd) == 0 ? ERR_OK : failed();
    close(fd);
    return e;
}

bool fs_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static bool is_directory(const char *dir, const struct dirent *entry)
{
    char path[8192];
    struct stat st;
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

enum err fs_list(const char *path, void (*fn)(void *arg, const char *name, bool is_dir), void *arg)
{
    struct dirent **entries;
    int n = scandir(path, &entries, NULL, by_bytes);
    if (n < 0)
        return failed();
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            fn(arg, name, is_directory(path, entries[i]));
        free(entries[i]);
    }
    free(entries);
    return ERR_OK;
}

enum err fs_lock(const char *path, struct fs_file **out)
{
    struct fs_file *f = NULL;
    enum err e = fs_open(path, FS_READ | FS_WRITE | FS_CREATE, &f);
    if (e != ERR_OK)
        return e;
    if (flock(f->fd, LOCK_EX | LOCK_NB) == 0) {
        *out = f;
        return ERR_OK;
    }
    e = errno == EWOULDBLOCK ? ERR_LOCKED : ERR_IO;
    last_errno = errno;
    fs_close(f);
    return e;
}

enum err fs_space(const char *path, uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct statvfs st;
    if (statvfs(path, &st) != 0)
        return failed();
    *free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    *total_bytes = (uint64_t)st.f_blocks * st.f_frsize;
    return ERR_OK;
}
