/* Stands between a node and its C library, and does what a page of orders says.

   The page is a file that is mapped here and in the test; tests/chaos/shim.py has the
   same names in the same order. It can fail, slow down and hold up syncs, fail writes,
   end the process at a point, keep what unsynced writes have overwritten, and bend the
   clocks. The library that carries RPCs waits in ways that only the kernel's own time
   fits, so it is never shown another.

   Source: RELIABILITY.md section 5 (kill -9 at points, slow and hung disk, fsync EIO,
   full disk, power loss, clocks). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct page {
    volatile int64_t process, sync_mode, sync_delay_us, sync_files, write_error,
        write_files, crash_point, crash_countdown, crashes, keeps_unsynced, version,
        wall_shift_ns, rate_ppm, rate_since_ns, clock_shift_ns, syncs_met;
};
enum { FAIL = 1, SLOW, HANG };
enum { LOG_WRITE = 1, LOG_SYNC = 3, STATE_WRITE = 5, STATE_SYNC = 7, PEER_SEND = 9,
       REPLY = 11, PEER_RECEIVE = 14 };
enum { LOG = 1, STATE = 2 };
#define HANG_POLL_US 5000
#define NS 1000000000LL

static struct page none, *page = &none;
static int kept = -1, peer_port, client_port;

#define REAL(type, name, ...)                                                   \
    static type (*real_##name)(__VA_ARGS__);                                    \
    if (!real_##name) real_##name = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

static int port_of(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : -1;
}

__attribute__((constructor)) static void begin(void) {
    const char *orders = getenv("CHAOS_ORDERS"), *unsynced = getenv("CHAOS_UNSYNCED");
    int file = orders ? open(orders, O_RDWR | O_CLOEXEC) : -1;
    if (file >= 0) {
        void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (map != MAP_FAILED) page = map;
        close(file);
    }
    if (unsynced && page->keeps_unsynced)
        kept = open(unsynced, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    peer_port = port_of("CHAOS_PEER_PORT");
    client_port = port_of("CHAOS_CLIENT_PORT");
}

static void crash(int point) {
    if (page->crash_point != point) return;
    if (__sync_sub_and_fetch((int64_t *)&page->crash_countdown, 1) != 0) return;
    __sync_add_and_fetch((int64_t *)&page->crashes, 1);
    if (page->process > 0) kill(page->process, SIGKILL);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int file_of(int fd, char *name, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t got = readlink(link, name, size - 1);
    if (got < 0) return 0;
    name[got] = 0;
    if (strstr(name, "-shm")) return 0;
    if (strstr(name, "/log.db")) return LOG;
    return strstr(name, "/state.db") ? STATE : 0;
}

/* --- What unsynced writes have overwritten, one record each ------------------------ */

enum { WRITTEN = 1, CUT, SYNC_BEGUN, SYNC_DONE, REMOVED };
struct record {
    uint32_t kind, name_size;
    uint64_t offset, size, file_size, number;
};

static void keep(struct record head, const char *name, const void *old) {
    head.name_size = strlen(name);
    struct iovec parts[] = {{&head, sizeof head},
                            {(void *)name, head.name_size},
                            {(void *)old, old ? head.size : 0}};
    if (!old) head.size = 0;
    if (syscall(SYS_writev, kept, parts, 3) < 0) kill(getpid(), SIGKILL);
}

/* Note what lies at a range before it is written over or cut off. */
static void keep_range(int kind, int fd, const char *name, off_t offset, size_t size) {
    struct stat now;
    if (kept < 0 || fstat(fd, &now)) return;
    size_t there = offset >= now.st_size ? 0 : now.st_size - offset;
    size_t old_size = there < size ? there : size;
    char *old = old_size ? malloc(old_size) : NULL;
    if (old) { /* by this descriptor: to close another one would end SQLite's locks */
        ssize_t got = pread(fd, old, old_size, offset);
        old_size = got > 0 ? got : 0;
    }
    struct record head = {kind, 0, offset, old_size, now.st_size, size};
    keep(head, name, old ? old : "");
    free(old);
}

static void keep_mark(int kind, const char *name, uint64_t number) {
    struct record head = {kind, 0, 0, 0, 0, number};
    if (kept >= 0) keep(head, name, NULL);
}

/* --- Files ------------------------------------------------------------------------- */

static int is_idle(void) {
    return !page->crash_point && !page->write_error && kept < 0;
}

/* Returns the file if the call may go on, -1 if it has failed, 0 if it is not ours. */
static int before_write(int fd, off_t offset, size_t size, int kind) {
    char name[4096];
    if (is_idle()) return 0;
    int saved = errno, file = file_of(fd, name, sizeof name);
    errno = saved;
    if (!file) return 0;
    if (page->write_error && page->write_files & file) {
        errno = page->write_error;
        return -1;
    }
    crash(file == LOG ? LOG_WRITE : STATE_WRITE);
    keep_range(kind, fd, name, offset, size);
    errno = saved;
    return file;
}

static void after_write(int file) {
    if (file > 0) crash((file == LOG ? LOG_WRITE : STATE_WRITE) + 1);
}

#define PWRITE(name)                                                            \
    ssize_t name(int fd, const void *data, size_t size, off_t offset) {         \
        REAL(ssize_t, name, int, const void *, size_t, off_t);                  \
        int file = before_write(fd, offset, size, WRITTEN);                     \
        if (file < 0) return -1;                                                \
        ssize_t done = real_##name(fd, data, size, offset);                     \
        after_write(file);                                                      \
        return done;                                                            \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define TRUNCATE(name)                                                          \
    int name(int fd, off_t size) {                                              \
        REAL(int, name, int, off_t);                                            \
        int file = before_write(fd, size, INT64_MAX, CUT);                      \
        if (file < 0) return -1;                                                \
        int done = real_##name(fd, size);                                       \
        after_write(file);                                                      \
        return done;                                                            \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

int unlink(const char *path) {
    REAL(int, unlink, const char *);
    int done = real_unlink(path);
    if (!done) keep_mark(REMOVED, path, 0);
    return done;
}

static int sync_with(int (*real)(int), int fd) {
    static uint64_t numbers;
    char name[4096];
    int file = file_of(fd, name, sizeof name);
    if (!file) return real(fd);
    crash(file == LOG ? LOG_SYNC : STATE_SYNC);
    if (page->sync_files & file) {
        if (page->sync_mode == FAIL || page->sync_mode == HANG)
            __sync_add_and_fetch((int64_t *)&page->syncs_met, 1);
        if (page->sync_mode == FAIL) { errno = EIO; return -1; }
        if (page->sync_mode == SLOW) usleep(page->sync_delay_us);
        while (page->sync_mode == HANG) usleep(HANG_POLL_US);
    }
    uint64_t number = __sync_add_and_fetch(&numbers, 1) | (uint64_t)getpid() << 32;
    keep_mark(SYNC_BEGUN, name, number);
    int done = real(fd);
    if (!done) {
        keep_mark(SYNC_DONE, name, number);
        crash((file == LOG ? LOG_SYNC : STATE_SYNC) + 1);
    }
    return done;
}

int fdatasync(int fd) {
    REAL(int, fdatasync, int);
    return sync_with(real_fdatasync, fd);
}
int fsync(int fd) {
    REAL(int, fsync, int);
    return sync_with(real_fsync, fd);
}

/* --- Messages ---------------------------------------------------------------------- */

static int port_at(int fd, int (*ask)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    if (ask(fd, (struct sockaddr *)&at, &size)) return 0;
    if (at.ss_family == AF_INET) return ntohs(((struct sockaddr_in *)&at)->sin_port);
    if (at.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&at)->sin6_port);
    return 0;
}

/* Returns the point before sending there; 0 if none is of interest. */
static int message_of(int fd) {
    if (page->crash_point < PEER_SEND) return 0;
    int saved = errno, here = port_at(fd, getsockname), there = 0;
    if (here) there = port_at(fd, getpeername);
    errno = saved;
    if (!here) return 0;
    if (here == peer_port || there == peer_port) return PEER_SEND;
    return here == client_port ? REPLY : 0;
}

static int before_send(int fd) {
    int point = message_of(fd);
    if (point) crash(point);
    return point;
}

static ssize_t after_send(int point, ssize_t done) {
    if (point && done > 0) crash(point + 1);
    return done;
}

static ssize_t after_receive(int fd, ssize_t done) {
    if (done > 0 && message_of(fd) == PEER_SEND) crash(PEER_RECEIVE);
    return done;
}

#define SEND(name, parameters, ...)                                             \
    ssize_t name parameters {                                                   \
        static ssize_t(*real) parameters;                                       \
        if (!real) real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name);       \
        int point = before_send(fd);                                            \
        return after_send(point, real(__VA_ARGS__));                            \
    }
SEND(write, (int fd, const void *data, size_t size), fd, data, size)
SEND(writev, (int fd, const struct iovec *parts, int count), fd, parts, count)
SEND(send, (int fd, const void *data, size_t size, int flags), fd, data, size, flags)
SEND(sendmsg, (int fd, const struct msghdr *message, int flags), fd, message, flags)

#define RECEIVE(name, parameters, ...)                                          \
    ssize_t name parameters {                                                   \
        static ssize_t(*real) parameters;                                       \
        if (!real) real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name);       \
        return after_receive(fd, real(__VA_ARGS__));                            \
    }
RECEIVE(read, (int fd, void *data, size_t size), fd, data, size)
RECEIVE(recv, (int fd, void *data, size_t size, int flags), fd, data, size, flags)
RECEIVE(recvmsg, (int fd, struct msghdr *message, int flags), fd, message, flags)

/* --- Clocks ------------------------------------------------------------------------ */

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
}

/* Whether a call comes from the library that carries RPCs; kept, as it takes long. */
static int is_for_calls(const void *caller) {
    static volatile uint64_t known[256];
    uint64_t address = (uint64_t)caller << 1;
    volatile uint64_t *place = &known[(uint64_t)caller % 251];
    uint64_t found = *place;
    if (found >> 1 != address >> 1) {
        Dl_info from;
        int is = dladdr(caller, &from) && from.dli_fname &&
                 strstr(from.dli_fname, "cygrpc") != NULL;
        *place = found = address | is;
    }
    return found & 1;
}

/* How far the clock that we show is ahead of the kernel's. */
static int64_t ahead_ns(clockid_t clock, const void *caller) {
    int64_t before, ahead;
    if (!page->version || is_for_calls(caller)) return 0;
    do {
        struct timespec now;
        before = page->version;
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
        int64_t passed = now.tv_sec * NS + now.tv_nsec - page->rate_since_ns;
        ahead = page->clock_shift_ns + passed / 1000000 * page->rate_ppm;
        if (is_wall(clock)) ahead += page->wall_shift_ns;
    } while (before & 1 || before != page->version);
    return ahead;
}

static void move(struct timespec *time, int64_t by_ns) {
    int64_t moved = time->tv_sec * NS + time->tv_nsec + by_ns;
    if (moved < 0) moved = 0;
    time->tv_sec = moved / NS;
    time->tv_nsec = moved % NS;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int done = real_clock_gettime(clock, time);
    int is_bent = is_wall(clock) || clock == CLOCK_MONOTONIC ||
                  clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_BOOTTIME;
    if (!done && is_bent) move(time, ahead_ns(clock, __builtin_return_address(0)));
    return done;
}

int gettimeofday(struct timeval *time, void *zone) {
    struct timespec now;
    (void)zone;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    move(&now, ahead_ns(CLOCK_REALTIME, __builtin_return_address(0)));
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
    move(&now, ahead_ns(CLOCK_REALTIME, __builtin_return_address(0)));
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}

/* The interpreter waits for locks until a time of the clock that it was shown. */
int sem_clockwait(sem_t *lock, clockid_t clock, const struct timespec *until) {
    REAL(int, sem_clockwait, sem_t *, clockid_t, const struct timespec *);
    struct timespec kernels = *until;
    move(&kernels, -ahead_ns(clock, __builtin_return_address(0)));
    return real_sem_clockwait(lock, clock, &kernels);
}

int sem_timedwait(sem_t *lock, const struct timespec *until) {
    REAL(int, sem_timedwait, sem_t *, const struct timespec *);
    struct timespec kernels = *until;
    move(&kernels, -ahead_ns(CLOCK_REALTIME, __builtin_return_address(0)));
    return real_sem_timedwait(lock, &kernels);
}
