#define _GNU_SOURCE
#include "log_limit.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "traffic.h"

#define INTERVAL_SECONDS 10
#define MAX_LINES 100        /* in one interval */
#define MAX_ALIKE 10         /* lines that differ only in digits, in one interval */
#define MAX_LINE_BYTES 400
#define COMPARED_BYTES 80    /* lines are alike if they begin alike */
#define SLOTS 1024

static int original_stderr = -1, reading_end = -1;
static pthread_t thread;

static char line[MAX_LINE_BYTES + 1];
static size_t length, cut;
static uint16_t alike[SLOTS];
static size_t written, left_out;

/* Writes everything, unless the receiver is gone. */
static void write_all(const char *text, size_t size) {
    while (size > 0) {
        ssize_t done = write(original_stderr, text, size);
        if (done < 0 && errno != EINTR) {
            return;
        }
        if (done > 0) {
            text += done;
            size -= (size_t)done;
        }
    }
}

/* Returns the slot of a line: FNV-1a over its first bytes without digits. */
static size_t slot_of_line(void) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length && i < COMPARED_BYTES; i++) {
        if (!isdigit((unsigned char)line[i])) {
            hash = (hash ^ (unsigned char)line[i]) * 16777619u;
        }
    }
    return hash % SLOTS;
}

static void end_line(void) {
    uint16_t *of_its_kind = &alike[slot_of_line()];
    if (written >= MAX_LINES || *of_its_kind >= MAX_ALIKE) {
        left_out++;
    } else {
        char end[64];
        int size = cut ? snprintf(end, sizeof end, "... (%zu bytes more)\n", cut) : snprintf(end, sizeof end, "\n");
        ++*of_its_kind;
        written++;
        write_all(line, length);
        write_all(end, (size_t)size);
    }
    length = cut = 0;
}

static void add(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte == '\n') {
            end_line();
        } else if (length == MAX_LINE_BYTES) {
            cut++;
        } else {
            /* U+0080 to U+009F are control characters too: 0xC2 and one of these bytes. */
            bool is_control = byte < 0x20 || byte == 0x7f ||
                              (byte >= 0x80 && byte < 0xa0 && length > 0 && (unsigned char)line[length - 1] == 0xc2);
            line[length++] = is_control ? '?' : (char)byte;
        }
    }
}

static void end_interval(void) {
    if (left_out > 0) {
        char text[80];
        int size = snprintf(text, sizeof text, "guard: %zu log lines were left out in %d s\n", left_out, INTERVAL_SECONDS);
        write_all(text, (size_t)size);
    }
    memset(alike, 0, sizeof alike);
    written = left_out = 0;
}

static void *work(void *unused) {
    (void)unused;
    char buffer[65536];
    double began_at = now();
    while (true) {
        struct pollfd ready = {.fd = reading_end, .events = POLLIN};
        double left = began_at + INTERVAL_SECONDS - now();
        if (left > 0) {
            poll(&ready, 1, (int)(left * 1000) + 1);
        }
        if (now() - began_at >= INTERVAL_SECONDS) {
            end_interval();
            began_at = now();
        }
        if (ready.revents == 0) {
            continue;
        }
        ssize_t size = read(reading_end, buffer, sizeof buffer);
        if (size > 0) {
            add(buffer, (size_t)size);
        } else if (size == 0 || errno != EINTR) {
            break;
        }
    }
    if (length > 0) {
        end_line();
    }
    end_interval();
    return NULL;
}

bool log_limit_start(void) {
    int ends[2];
    sigset_t all, before;
    if (original_stderr >= 0 || pipe(ends) != 0) {
        return false;
    }
    original_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    reading_end = ends[0];
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
#ifdef F_SETPIPE_SZ
    fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
#endif
    /* If nobody takes the log, lines are lost. The broker does not wait. */
    fcntl(ends[1], F_SETFL, O_NONBLOCK);
    /* Signals are for the broker's own thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_started = original_stderr >= 0 && pthread_create(&thread, NULL, work, NULL) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (is_started) {
        dup2(ends[1], STDERR_FILENO);
    } else {
        close(ends[0]);
        close(original_stderr);
        original_stderr = -1;
    }
    close(ends[1]);
    return is_started;
}

/* Also runs when Mosquitto exits after an error. */
__attribute__((destructor)) void log_limit_stop(void) {
    if (original_stderr >= 0) {
        dup2(original_stderr, STDERR_FILENO); /* closes the writing end, so the thread ends */
        pthread_join(thread, NULL);
        close(reading_end);
        close(original_stderr);
        original_stderr = -1;
    }
}
