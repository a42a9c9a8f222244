/* How much a client may send, and what it was refused. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum refusal {
    REFUSED_RIGHTS,     /* a topic or a filter that it has no right to */
    REFUSED_PROPERTIES, /* a message with too many properties, or too large ones */
    REFUSED_RATE,       /* more messages or bytes than the limit */
    REFUSED_CONNECT,    /* too many connections in a short time */
    REFUSED_ID,         /* a wrong client id */
    REFUSAL_KINDS
};

/* A token bucket: "burst" tokens at most, refilled continuously. Source: RFC 2697, section 3, with one colour. */
struct bucket {
    double level;
    double filled_at; /* 0: never, so the bucket is full */
};

struct limits {
    double messages_per_second, message_burst;
    double bytes_per_second, byte_burst;
    double connects_per_second, connect_burst;
    size_t max_properties, max_property_bytes;
};

struct traffic {
    struct bucket messages, bytes, connects;
    size_t refused[REFUSAL_KINDS]; /* in this interval */
    double shut_out_until;
};

extern struct limits limits;

/* Returns the time in seconds since some fixed moment. */
double now(void);

/* Take from the buckets. Return false, and take nothing, if there is not enough. */
bool take_connect(struct traffic *traffic);
bool take_message(struct traffic *traffic, size_t bytes);

/* Counts a refusal. Returns true if the client has had so many in this interval that it is to be disconnected. It is
 * then shut out for a while. */
bool count_refusal(struct traffic *traffic, enum refusal kind);

/* Whether the client is shut out. */
bool is_shut_out(const struct traffic *traffic);

/* Returns the number of refusals in this interval. */
size_t total_refused(const struct traffic *traffic);

/* Begins a new interval. */
void forget_refusals(struct traffic *traffic);
