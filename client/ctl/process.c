#include "client/ctl/process.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void path_of(const struct process *p, const char *kind, const char *suffix, char *out,
                    size_t n)
{
    snprintf(out, n, "%s/%s/%s%s", p->dir, kind, p->name, suffix);
}

static bool read_line(const char *path, char *out, size_t n)
{
    FILE *f = fopen(path, "re");
    bool ok = f && fgets(out, (int)n, f);
    if (f)
        fclose(f);
    if (ok)
        out[strcspn(out, "\n")] = '\0';
    return ok;
}

/* Field 22 of /proc/PID/stat, in ticks since boot. 0: no such process, or a zombie. */
static unsigned long long start_time(pid_t pid)
{
    char path[64], line[1024], state;
    unsigned long long t;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (!read_line(path, line, sizeof(line)))
        return 0;
    char *after = strrchr(line, ')'); /* the name may hold anything, also ") " */
    if (!after ||
        sscanf(after + 1,
               " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &state, &t) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : t;
}

static void boot_id(char out[64])
{
    if (!read_line("/proc/sys/kernel/random/boot_id", out, 64))
        snprintf(out, 64, "unknown");
}

pid_t process_pid(const struct process *p)
{
    char path[600], line[256], boot[64], noted_boot[64];
    int pid;
    unsigned long long noted;
    path_of(p, "pid", "", path, sizeof(path));
    if (!read_line(path, line, sizeof(line)) ||
        sscanf(line, "%d %llu %63s", &pid, &noted, noted_boot) != 3 || pid <= 1)
        return 0;
    boot_id(boot);
    /* Noted as 0: it had ended before that. */
    return noted && strcmp(boot, noted_boot) == 0 && start_time(pid) == noted ? (pid_t)pid : 0;
}

static bool note_pid(const struct process *p, pid_t pid)
{
    char path[600], boot[64];
    path_of(p, "pid", "", path, sizeof(path));
    boot_id(boot);
    FILE *f = fopen(path, "we");
    if (!f)
        return false;
    fprintf(f, "%d %llu %s\n", (int)pid, start_time(pid), boot);
    return fclose(f) == 0;
}

/* In the child: never returns. `report` tells the parent the errno of a failed exec. */
static void child(const char *path, char *const argv[], int log, int report)
{
    sigset_t none;
    int null = open("/dev/null", O_RDONLY);
    setsid(); /* ^C in the terminal is not for it */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (null >= 0)
        dup2(null, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(path, argv);
    int error = errno;
    ssize_t n = write(report, &error, sizeof(error));
    _exit(n == (ssize_t)sizeof(error) ? 127 : 126);
}

bool process_spawn(const struct process *p, const char *path, char *const argv[], char *msg,
                   size_t n)
{
    char log_path[600];
    int report[2], error = 0;
    path_of(p, "log", ".log", log_path, sizeof(log_path));
    int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0 || pipe2(report, O_CLOEXEC) != 0) {
        snprintf(msg, n, "%s: %s", log_path, strerror(errno));
        if (log >= 0)
            close(log);
        return false;
    }
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        child(path, argv, log, report[1]);
    close(log);
    close(report[1]);
    if (pid < 0)
        error = errno;
    else if (read(report[0], &error, sizeof(error)) != (ssize_t)sizeof(error))
        error = 0; /* closed by exec: it runs */
    close(report[0]);
    if (error) {
        snprintf(msg, n, "%s: %s", path, strerror(error));
        return false;
    }
    if (!note_pid(p, pid)) {
        snprintf(msg, n, "%s/pid: %s", p->dir, strerror(errno));
        kill(pid, SIGKILL); /* our own child, not reaped: the pid cannot be another's */
        return false;
    }
    return true;
}

bool process_try(const char *path, char *const argv[], char *said, size_t n)
{
    int out[2], status = -1;
    snprintf(said, n, "%s: %s", path, "it cannot be run");
    if (pipe2(out, O_CLOEXEC) != 0)
        return false;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(out[1], STDERR_FILENO);
        execv(path, argv);
        _exit(127);
    }
    close(out[1]);
    FILE *f = fdopen(out[0], "re");
    char line[512];
    while (f && fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        snprintf(said, n, "%s", line);
    }
    if (f)
        fclose(f);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

void process_signal(const struct process *p, bool hard)
{
    pid_t pid = process_pid(p);
    int fd = pid ? pidfd_open(pid, 0) : -1;
    if (fd < 0)
        return;
    if (process_pid(p) == pid) /* so the pidfd is of that very process */
        pidfd_send_signal(fd, hard ? SIGKILL : SIGTERM, NULL, 0);
    close(fd);
}

bool process_wait_end(const struct process *p, unsigned ms)
{
    for (unsigned waited = 0;; waited += 10) {
        pid_t pid = process_pid(p);
        if (!pid)
            return true;
        waitpid(pid, NULL, WNOHANG); /* it may be a child of this run */
        if (waited >= ms)
            return false;
        poll(NULL, 0, 10);
    }
}

void process_forget(const struct process *p)
{
    char path[600];
    path_of(p, "pid", "", path, sizeof(path));
    unlink(path);
}

/* ---- what went wrong ---- */

static const struct {
    const char *pattern, *fix;
} fixes[] = {
    {"io_uring", "io_uring is not allowed here: sysctl kernel.io_uring_disabled=0, or run the "
                 "container with a seccomp profile that allows it."},
    {"MEMLOCK", "Raise the limit of locked memory: ulimit -l unlimited."},
    {"address is in use", "Take other ports: --base-port N."},
    {"ADDRESS_IN_USE", "Take other ports: --base-port N."},
    {"No space left", "The disk is full: free some space, or use another --dir."},
    {"NO_SPACE", "The disk is full: free some space, or use another --dir."},
    {"in use by another process", "Another process uses that data directory: stop it first."},
    {"Permission denied", "The directory is not writable: use another --dir."},
    {"O_DIRECT", "That file system cannot do direct I/O (tmpfs, some overlays): another --dir."},
    {"Too many open files", "Raise the limit of open files: ulimit -n 65536."},
};

const char *process_explain(const struct process *p, int lines)
{
    char path[600], tail[8192];
    const char *fix = NULL;
    path_of(p, "log", ".log", path, sizeof(path));
    FILE *f = fopen(path, "re");
    if (!f)
        return NULL;
    if (fseek(f, -(long)(sizeof(tail) - 1), SEEK_END) != 0)
        rewind(f);
    size_t n = fread(tail, 1, sizeof(tail) - 1, f);
    fclose(f);
    tail[n] = '\0';
    char *start = tail + n;
    for (int seen = 0; start > tail; start--)
        if (start[-1] == '\n' && start < tail + n && ++seen == lines)
            break;
    fprintf(stderr, "last lines of %s:\n", path);
    char *save = NULL;
    for (size_t i = 0; i < sizeof(fixes) / sizeof(fixes[0]) && !fix; i++)
        if (strstr(start, fixes[i].pattern))
            fix = fixes[i].fix;
    for (char *line = strtok_r(start, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        fprintf(stderr, "    %s\n", line);
    return fix;
}

/* ---- ports ---- */

/* The inode of the socket that listens on the port, from /proc/net/tcp. */
static unsigned long listener_inode(unsigned port)
{
    char line[512];
    unsigned long found = 0;
    FILE *f = fopen("/proc/net/tcp", "re");
    while (f && !found && fgets(line, sizeof(line), f)) {
        unsigned local, state;
        unsigned long inode;
        if (sscanf(line, " %*d: %*x:%x %*x:%*x %x %*x:%*x %*x:%*x %*x %*d %*d %lu", &local, &state,
                   &inode) == 3 &&
            local == port && state == 10)
            found = inode;
    }
    if (f)
        fclose(f);
    return found;
}

static bool has_socket(const char *pid, unsigned long inode)
{
    char dir[64], path[600], link[128], want[64];
    bool found = false;
    snprintf(dir, sizeof(dir), "/proc/%.16s/fd", pid);
    snprintf(want, sizeof(want), "socket:[%lu]", inode);
    DIR *d = opendir(dir);
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        ssize_t n = readlink(path, link, sizeof(link) - 1);
        link[n > 0 ? n : 0] = '\0';
        found = strcmp(link, want) == 0;
    }
    if (d)
        closedir(d);
    return found;
}

static bool name_owner(unsigned port, char *who, size_t n)
{
    bool found = false;
    char path[64], name[64];
    unsigned long inode = listener_inode(port);
    snprintf(who, n, "another process");
    DIR *d = inode ? opendir("/proc") : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (!isdigit((unsigned char)e->d_name[0]) || !has_socket(e->d_name, inode))
            continue;
        snprintf(path, sizeof(path), "/proc/%.16s/comm", e->d_name);
        snprintf(who, n, "%s (pid %.16s)", read_line(path, name, sizeof(name)) ? name : "a process",
                 e->d_name);
        found = true;
        break;
    }
    if (d)
        closedir(d);
    return found;
}

bool process_port_taken(unsigned port, char *who, size_t n, bool *owned)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* TIME_WAIT does not count */
    bool taken = bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 1) != 0;
    close(fd);
    *owned = taken && name_owner(port, who, n);
    return taken;
}
