/* The TLS connections of this process, each from its beginning to its end.
 *
 * A connection is unfinished until its client is accepted: it is idle, in the TLS handshake, or has not sent a whole
 * CONNECT. Mosquitto disconnects such a client after 90 s, or never if it sends a byte now and then. Here each has a
 * limited time, and each address a limited number of them. Beyond it, the oldest one is disconnected.
 *
 * Connections are closed as if the network had failed, so Mosquitto ends them in its usual way, at a moment of its own.
 */
#pragma once

#include <netinet/in.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

struct unfinished_limits {
    double seconds;      /* from the connection to the end of CONNECT */
    size_t per_address;
    size_t in_total;
};

extern struct unfinished_limits unfinished_limits;

/* Begins to watch the connections of this process. When a TLS handshake is complete, "admits" decides whether the
 * connection may go on. If not, nothing more is read from it: Mosquitto 2.0.11 never frees the last will of a CONNECT
 * that a plugin refuses. Returns false if OpenSSL does not allow it. */
bool connections_watch(bool (*admits)(const X509 *certificate));

/* Reports that the client with this certificate object is accepted, under a name. */
void connections_accept(const X509 *certificate, const char *name);

/* Disconnects all accepted clients of a name. */
void connections_close(const char *name);

/* Disconnects the unfinished ones beyond the limits. */
void connections_enforce(void);

/* Connections that have ended while they were unfinished, whoever ended them. */
struct ended_connections {
    size_t number;
    size_t by_guard;                /* of them */
    char address[INET6_ADDRSTRLEN]; /* the one with the most, or empty */
};

/* Returns what has ended since the last call. */
struct ended_connections connections_take_ended(void);
