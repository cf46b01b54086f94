/* Loaded before the C library (LD_PRELOAD): counts every call that changes a file below one folder, and makes the
   n-th of them fail. Python, Rust and C++ come through here; what glibc's own stdio writes does only where its file is
   opened. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) \
    static __typeof__(&name) real_##name; \
    if (!real_##name) real_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static char folder[PATH_MAX];
static atomic_long counted, target = -1;
static atomic_int error_number, lasting;
static char delivered[PATH_MAX + 64];

/* Count calls below `below` from now on; the nth one (from 1) fails with `error`, or ends the process where that is 0.
   `forever`: all later ones fail as well, as on a full disk. nth = 0: only count. */
void fault_arm(const char *below, long nth, int error, int forever) {
    snprintf(folder, sizeof folder, "%s", below);
    delivered[0] = 0;
    atomic_store(&counted, 0);
    atomic_store(&error_number, error);
    atomic_store(&lasting, forever);
    atomic_store(&target, nth);
}

long fault_count(void) { return atomic_load(&counted); }

/* The call that failed, and its path; "" where none did. */
const char *fault_delivered(void) { return delivered; }

static int inside(const char *path) {
    size_t length = strlen(folder);
    return length && !strncmp(path, folder, length) && (path[length] == '/' || path[length] == 0);
}

static int below(int at, const char *path) {
    char full[2 * PATH_MAX], start[PATH_MAX];
    if (!path || atomic_load(&target) < 0) return 0;
    if (path[0] == '/') return inside(path);
    if (at == AT_FDCWD) {
        if (!getcwd(start, sizeof start)) return 0;
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, start, sizeof start - 1);
        if (length < 0) return 0;
        start[length] = 0;
    }
    snprintf(full, sizeof full, "%s/%s", start, path);
    return inside(full);
}

static int open_below(int fd, char *path) {
    char link[64];
    if (atomic_load(&target) < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

/* Returns whether this call has to fail; a process that is to be killed does not come back unless `torn`. A full disk
   goes on failing what needs room; names are changed on it all the same. */
static int fails(const char *call, const char *path, int torn) {
    long nth = atomic_load(&target), now = atomic_fetch_add(&counted, 1) + 1;
    int more = atomic_load(&lasting) && !strstr(call, "rename");
    if (nth <= 0 || now < nth || (now > nth && !more)) return 0;
    if (now == nth) snprintf(delivered, sizeof delivered, "%s %s", call, path);
    errno = atomic_load(&error_number);
    if (!errno && !torn) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    return 1;
}

static int writes(int flags) { return (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC); }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
        if (writes(flags) && below(AT_FDCWD, path) && fails("open", path, 0)) return -1; \
        return real_##name(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
    int name(int at, const char *path, int flags, ...) { \
        REAL(name); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
        if (writes(flags) && below(at, path) && fails("open", path, 0)) return -1; \
        return real_##name(at, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

#define FOPEN(name) \
    FILE *name(const char *path, const char *mode) { \
        REAL(name); \
        if (strpbrk(mode, "wa+") && below(AT_FDCWD, path) && fails("fopen", path, 0)) return NULL; \
        return real_##name(path, mode); \
    }
FOPEN(fopen)
FOPEN(fopen64)

/* Half of what was to be written gets there. */
ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    char path[PATH_MAX];
    if (open_below(fd, path) && fails("write", path, 1)) {
        int error = errno;
        if (size > 1 && real_write(fd, data, size / 2) < 0) error = errno;
        if (!error) { kill(getpid(), SIGKILL); for (;;) pause(); }
        errno = error;
        return -1;
    }
    return real_write(fd, data, size);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    char path[PATH_MAX];
    if (open_below(fd, path) && fails("writev", path, 0)) return -1;
    return real_writev(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    char path[PATH_MAX];
    if (open_below(fd, path) && fails("pwrite", path, 0)) return -1;
    return real_pwrite64(fd, data, size, at);
}

#define ON_FILE(name) \
    int name(int fd) { \
        REAL(name); \
        char path[PATH_MAX]; \
        if (open_below(fd, path) && fails(#name, path, 0)) return -1; \
        return real_##name(fd); \
    }
ON_FILE(fsync)
ON_FILE(fdatasync)

#define RESIZE(name, type) \
    int name(int fd, type size) { \
        REAL(name); \
        char path[PATH_MAX]; \
        if (open_below(fd, path) && fails(#name, path, 0)) return -1; \
        return real_##name(fd, size); \
    }
RESIZE(ftruncate, off_t)
RESIZE(ftruncate64, off64_t)

#define TWO_PATHS(name) \
    int name(const char *from, const char *to) { \
        REAL(name); \
        if (below(AT_FDCWD, to) && fails(#name, to, 0)) return -1; \
        return real_##name(from, to); \
    }
TWO_PATHS(rename)
TWO_PATHS(link)
TWO_PATHS(symlink)

int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL(renameat);
    if (below(to_at, to) && fails("rename", to, 0)) return -1;
    return real_renameat(from_at, from, to_at, to);
}

#define MODE(name) \
    int name(const char *path, mode_t mode) { \
        REAL(name); \
        if (below(AT_FDCWD, path) && fails(#name, path, 0)) return -1; \
        return real_##name(path, mode); \
    }
MODE(mkdir)
MODE(chmod)

/* Removing needs no room: on a full disk it works, so of the errors only a passing one reaches it. */
#define REMOVE(name) \
    int name(const char *path) { \
        REAL(name); \
        if (!atomic_load(&lasting) && below(AT_FDCWD, path) && fails(#name, path, 0)) return -1; \
        return real_##name(path); \
    }
REMOVE(unlink)
REMOVE(rmdir)

int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    if (!atomic_load(&lasting) && below(at, path) && fails("unlinkat", path, 0)) return -1;
    return real_unlinkat(at, path, flags);
}
