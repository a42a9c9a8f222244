/* Connections that have not been accepted yet: they are idle, in the TLS handshake, or have not sent a whole CONNECT.
 *
 * Mosquitto disconnects such a client after 90 s, or never if it sends a byte now and then. Here each has a limited time,
 * and each address a limited number of them. Beyond it, the oldest one is disconnected.
 */
#pragma once

#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>

struct handshake_limits {
    double seconds;      /* from the connection to the end of CONNECT */
    size_t per_address;
    size_t in_total;
};

extern struct handshake_limits handshake_limits;

/* Begins to watch the connections of this process. When a TLS handshake is complete, "admits" decides whether the
 * connection may go on. If not, nothing more is read from it: Mosquitto 2.0.11 never frees the last will of a CONNECT
 * that a plugin refuses. Returns false if OpenSSL does not allow it. */
bool handshakes_watch(bool (*admits)(const X509 *certificate));

/* Reports that the client with this certificate object is accepted. */
void handshakes_accept(const X509 *certificate);

/* Disconnects those beyond the limits. Returns their number. */
size_t handshakes_enforce(void);
