#include "handshakes.h"

#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>

#include "traffic.h"

/* Mosquitto tells a plugin about a client only when its CONNECT is complete. OpenSSL calls these functions for each
 * connection from its beginning, whatever program it is used by. */

#define MAX_HANDSHAKES 65536

struct handshake {
    SSL *ssl;
    double began_at;
    unsigned char address[16]; /* an IPv4 address is mapped into IPv6 */
    bool has_address;
    bool is_complete; /* the TLS handshake */
    bool is_disconnected;
    size_t of_this_address;
    struct handshake *previous, *next;
};

struct handshake_limits handshake_limits = {.seconds = 30, .per_address = 32, .in_total = 512};

static struct handshake *oldest, *newest;
static size_t count;
static int ex_data_index = -1;
static bool (*admits_certificate)(const X509 *certificate);

static void unlink_handshake(struct handshake *handshake) {
    *(handshake->previous ? &handshake->previous->next : &oldest) = handshake->next;
    *(handshake->next ? &handshake->next->previous : &newest) = handshake->previous;
    free(handshake);
    count--;
}

static void disconnect(struct handshake *handshake) {
    /* OpenSSL returns no more data, not even what has arrived. Mosquitto notices the end of the connection and frees it. */
    SSL_set_shutdown(handshake->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    shutdown(SSL_get_rfd(handshake->ssl), SHUT_RDWR);
    handshake->is_disconnected = true;
}

static void on_progress(const SSL *ssl, int where, int result) {
    (void)result;
    struct handshake *handshake = SSL_get_ex_data(ssl, ex_data_index);
    if (!(where & SSL_CB_HANDSHAKE_DONE) || handshake == NULL || handshake->is_complete) {
        return;
    }
    handshake->is_complete = true;
    X509 *certificate = SSL_get_peer_certificate(ssl);
    if (certificate == NULL || !admits_certificate(certificate)) {
        disconnect(handshake);
    }
    X509_free(certificate);
}

static void on_new(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number, void *argument) {
    (void)pointer, (void)number, (void)argument;
    struct handshake *handshake = count < MAX_HANDSHAKES ? calloc(1, sizeof *handshake) : NULL;
    if (handshake == NULL || CRYPTO_set_ex_data(data, index, handshake) != 1) {
        free(handshake);
        return;
    }
    handshake->ssl = parent;
    handshake->began_at = now();
    handshake->previous = newest;
    *(newest ? &newest->next : &oldest) = handshake;
    newest = handshake;
    count++;
    SSL_set_info_callback(parent, on_progress);
}

static void on_free(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number, void *argument) {
    (void)parent, (void)data, (void)index, (void)number, (void)argument;
    if (pointer != NULL) {
        unlink_handshake(pointer);
    }
}

bool handshakes_watch(bool (*admits)(const X509 *certificate)) {
    admits_certificate = admits;
    if (ex_data_index < 0) {
        ex_data_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, on_new, NULL, on_free);
    }
    return ex_data_index >= 0;
}

void handshakes_accept(const X509 *certificate) {
    for (struct handshake *handshake = newest; handshake != NULL; handshake = handshake->previous) {
        X509 *own = SSL_get_peer_certificate(handshake->ssl);
        X509_free(own); /* the connection still holds it */
        if (own == certificate) {
            SSL_set_ex_data(handshake->ssl, ex_data_index, NULL);
            unlink_handshake(handshake);
            return;
        }
    }
}

static void find_address(struct handshake *handshake) {
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (handshake->has_address || getpeername(SSL_get_rfd(handshake->ssl), (struct sockaddr *)&peer, &size) != 0) {
        return;
    }
    if (peer.ss_family == AF_INET6) {
        memcpy(handshake->address, &((struct sockaddr_in6 *)&peer)->sin6_addr, 16);
    } else if (peer.ss_family == AF_INET) {
        memset(handshake->address, 0, 10);
        memset(handshake->address + 10, 0xff, 2);
        memcpy(handshake->address + 12, &((struct sockaddr_in *)&peer)->sin_addr, 4);
    } else {
        return;
    }
    handshake->has_address = true;
}

/* Counts the connections of the same address, this one and newer ones. */
static size_t count_newer(struct handshake *handshake) {
    size_t found = 0;
    for (struct handshake *other = handshake; other != NULL; other = other->next) {
        found += other->has_address && memcmp(other->address, handshake->address, 16) == 0;
    }
    return found;
}

/* Whether a connection is still to be judged: it has a socket, and is not being disconnected. */
static bool is_open(const struct handshake *handshake) {
    return !handshake->is_disconnected && SSL_get_rfd(handshake->ssl) >= 0;
}

/* Returns the oldest connection of the address that has the most. */
static struct handshake *find_most_frequent(void) {
    struct handshake *found = NULL;
    for (struct handshake *handshake = oldest; handshake != NULL; handshake = handshake->next) {
        if (is_open(handshake) && (found == NULL || handshake->of_this_address > found->of_this_address)) {
            found = handshake;
        }
    }
    return found;
}

size_t handshakes_enforce(void) {
    size_t disconnected = 0, open = 0;
    double began_before = now() - handshake_limits.seconds;
    for (struct handshake *handshake = oldest; handshake != NULL; handshake = handshake->next) {
        if (is_open(handshake)) {
            find_address(handshake);
            open++;
        }
    }
    bool are_many = open > handshake_limits.per_address || open > handshake_limits.in_total;
    for (struct handshake *handshake = oldest; handshake != NULL; handshake = handshake->next) {
        if (!is_open(handshake)) {
            continue;
        }
        handshake->of_this_address = are_many && handshake->has_address ? count_newer(handshake) : 0;
        if (handshake->began_at < began_before || handshake->of_this_address > handshake_limits.per_address) {
            disconnect(handshake);
            disconnected++;
        }
    }
    for (; open - disconnected > handshake_limits.in_total; disconnected++) {
        disconnect(find_most_frequent());
    }
    return disconnected;
}
