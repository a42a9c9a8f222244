#include "traffic.h"

#include <string.h>
#include <time.h>

/* Refusals in one interval after which a client is disconnected. An honest device has none, except for
 * the rate: it may send faster than the limit for a moment when it empties a large outbox. */
static const size_t MAX_REFUSED[REFUSAL_KINDS] = {
    [REFUSED_RIGHTS] = 100,
    [REFUSED_PROPERTIES] = 20,
    [REFUSED_RATE] = 5000,
    [REFUSED_CONNECT] = (size_t)-1,
    [REFUSED_ID] = 3, /* each may cost the broker the memory of a last will, see connections_watch */
};
static const double SHUT_OUT_SECONDS = 30;

struct limits limits = {
    .messages_per_second = 500,
    .message_burst = 10000,
    .bytes_per_second = 8 << 20,
    .byte_burst = 64 << 20,
    .connects_per_second = 0.5,
    .connect_burst = 30,
    .max_properties = 64,
    .max_property_bytes = 8192,
};

double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void fill(struct bucket *bucket, double rate, double burst) {
    double time = now();
    bucket->level = bucket->filled_at > 0 ? bucket->level + (time - bucket->filled_at) * rate : burst;
    bucket->level = bucket->level > burst ? burst : bucket->level;
    bucket->filled_at = time;
}

bool take_connect(struct traffic *traffic) {
    fill(&traffic->connects, limits.connects_per_second, limits.connect_burst);
    if (traffic->connects.level < 1) {
        return false;
    }
    traffic->connects.level -= 1;
    return true;
}

bool take_message(struct traffic *traffic, size_t bytes) {
    fill(&traffic->messages, limits.messages_per_second, limits.message_burst);
    fill(&traffic->bytes, limits.bytes_per_second, limits.byte_burst);
    if (traffic->messages.level < 1 || traffic->bytes.level < (double)bytes) {
        return false;
    }
    traffic->messages.level -= 1;
    traffic->bytes.level -= (double)bytes;
    return true;
}

bool count_refusal(struct traffic *traffic, enum refusal kind) {
    if (++traffic->refused[kind] != MAX_REFUSED[kind]) {
        return false;
    }
    traffic->shut_out_until = now() + SHUT_OUT_SECONDS;
    return true;
}

bool is_shut_out(const struct traffic *traffic) {
    return traffic->shut_out_until > now();
}

size_t total_refused(const struct traffic *traffic) {
    size_t total = 0;
    for (size_t kind = 0; kind < REFUSAL_KINDS; kind++) {
        total += traffic->refused[kind];
    }
    return total;
}

void forget_refusals(struct traffic *traffic) {
    memset(traffic->refused, 0, sizeof traffic->refused);
}
