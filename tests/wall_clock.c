/* Adds the seconds in the file named by WALL_CLOCK_ERROR to the wall clock of a process. The file is read at each call.

   Other clocks and all waits stay as they are. libfaketime 0.9.10 also changes the deadlines of waits on the monotonic
   clock, even with FAKETIME_DONT_FAKE_MONOTONIC, so that a wait of a Python process does not end. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NANOSECONDS 1000000000LL

static long long error_nanoseconds(void) {
    char text[32];
    const char *path = getenv("WALL_CLOCK_ERROR");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length > 0 ? length : 0] = 0;
    return (long long)(atof(text) * NANOSECONDS);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, id, now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        long long shown = now->tv_sec * NANOSECONDS + now->tv_nsec + error_nanoseconds();
        now->tv_sec = shown / NANOSECONDS;
        now->tv_nsec = shown % NANOSECONDS;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *seconds) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (seconds)
        *seconds = now.tv_sec;
    return now.tv_sec;
}
