#include "connections.h"

#include <openssl/crypto.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "addresses.h"
#include "traffic.h"

/* Mosquitto tells a plugin about a client only when its CONNECT is complete. OpenSSL calls these functions for each
 * connection from its beginning, whatever program it is used by. */

#define MAX_CONNECTIONS 65536

struct connection {
    SSL *ssl;
    double began_at;
    unsigned char address[ADDRESS_BYTES];
    bool has_address;
    bool has_begun, is_complete; /* the TLS handshake */
    char *name;       /* of the client, when it is accepted */
    bool is_disconnected;
    size_t of_this_address;
    struct connection *previous, *next;
};

struct unfinished_limits unfinished_limits = {.seconds = 30, .per_address = 32, .in_total = 512};

static struct connection *oldest, *newest;
static size_t count;
static struct ended_connections ended;
static struct address_counts ended_per_address;
static int ex_data_index = -1;
static bool (*admits_certificate)(const X509 *certificate);

static void note_end(const struct connection *connection) {
    if (connection->name != NULL || !connection->has_begun) {
        return;
    }
    ended.number++;
    ended.by_guard += connection->is_disconnected;
    if (connection->has_address) {
        count_address(&ended_per_address, connection->address);
    }
}

static void forget_connection(struct connection *connection) {
    note_end(connection);
    *(connection->previous ? &connection->previous->next : &oldest) = connection->next;
    *(connection->next ? &connection->next->previous : &newest) = connection->previous;
    free(connection->name);
    free(connection);
    count--;
}

static void disconnect(struct connection *connection) {
    /* OpenSSL returns no more data, not even what has arrived. Mosquitto notices the end of the connection and frees it. */
    SSL_set_shutdown(connection->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    shutdown(SSL_get_rfd(connection->ssl), SHUT_RDWR);
    connection->is_disconnected = true;
}

static void find_address(struct connection *connection) {
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (connection->has_address || getpeername(SSL_get_rfd(connection->ssl), (struct sockaddr *)&peer, &size) != 0) {
        return;
    }
    if (peer.ss_family == AF_INET6) {
        memcpy(connection->address, &((struct sockaddr_in6 *)&peer)->sin6_addr, 16);
    } else if (peer.ss_family == AF_INET) {
        memset(connection->address, 0, 10);
        memset(connection->address + 10, 0xff, 2);
        memcpy(connection->address + 12, &((struct sockaddr_in *)&peer)->sin_addr, 4);
    } else {
        return;
    }
    connection->has_address = true;
}

static void on_progress(const SSL *ssl, int where, int result) {
    (void)result;
    struct connection *connection = SSL_get_ex_data(ssl, ex_data_index);
    if (connection == NULL || connection->is_complete) {
        return;
    }
    if (!connection->has_begun) {
        connection->has_begun = true;
        find_address(connection);
    }
    if (!(where & SSL_CB_HANDSHAKE_DONE)) {
        return;
    }
    connection->is_complete = true;
    X509 *certificate = SSL_get_peer_certificate(ssl);
    if (certificate == NULL || !admits_certificate(certificate)) {
        disconnect(connection);
    }
    X509_free(certificate);
}

static void on_new(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number, void *argument) {
    (void)pointer, (void)number, (void)argument;
    struct connection *connection = count < MAX_CONNECTIONS ? calloc(1, sizeof *connection) : NULL;
    if (connection == NULL || CRYPTO_set_ex_data(data, index, connection) != 1) {
        free(connection);
        return;
    }
    connection->ssl = parent;
    connection->began_at = now();
    connection->previous = newest;
    *(newest ? &newest->next : &oldest) = connection;
    newest = connection;
    count++;
    SSL_set_info_callback(parent, on_progress);
}

static void on_free(void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long number, void *argument) {
    (void)parent, (void)data, (void)index, (void)number, (void)argument;
    if (pointer != NULL) {
        forget_connection(pointer);
    }
}

bool connections_watch(bool (*admits)(const X509 *certificate)) {
    admits_certificate = admits;
    if (ex_data_index < 0) {
        ex_data_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, on_new, NULL, on_free);
    }
    return ex_data_index >= 0;
}

void connections_accept(const X509 *certificate, const char *name) {
    for (struct connection *connection = newest; connection != NULL; connection = connection->previous) {
        X509 *own = SSL_get_peer_certificate(connection->ssl);
        X509_free(own); /* the connection still holds it */
        if (own == certificate && connection->name == NULL) {
            connection->name = strdup(name);
            return;
        }
    }
}

void connections_close(const char *name) {
    for (struct connection *connection = oldest; connection != NULL; connection = connection->next) {
        if (connection->name != NULL && !connection->is_disconnected && strcmp(connection->name, name) == 0) {
            disconnect(connection);
        }
    }
}

/* Whether a connection is still to be judged: it has a socket, is not accepted, and is not being disconnected. */
static bool is_unfinished(const struct connection *connection) {
    return connection->name == NULL && !connection->is_disconnected && SSL_get_rfd(connection->ssl) >= 0;
}

/* Counts the unfinished connections of the same address, this one and newer ones. */
static size_t count_newer(struct connection *connection) {
    size_t found = 0;
    for (struct connection *other = connection; other != NULL; other = other->next) {
        found += is_unfinished(other) && other->has_address && memcmp(other->address, connection->address, 16) == 0;
    }
    return found;
}

/* Returns the oldest unfinished connection of the address that has the most. */
static struct connection *find_most_frequent(void) {
    struct connection *found = NULL;
    for (struct connection *connection = oldest; connection != NULL; connection = connection->next) {
        if (is_unfinished(connection) && (found == NULL || connection->of_this_address > found->of_this_address)) {
            found = connection;
        }
    }
    return found;
}

void connections_enforce(void) {
    size_t open = 0;
    double began_before = now() - unfinished_limits.seconds;
    for (struct connection *connection = oldest; connection != NULL; connection = connection->next) {
        if (is_unfinished(connection)) {
            find_address(connection);
            open++;
        }
    }
    bool are_many = open > unfinished_limits.per_address || open > unfinished_limits.in_total;
    for (struct connection *connection = oldest; connection != NULL; connection = connection->next) {
        if (!is_unfinished(connection)) {
            continue;
        }
        connection->of_this_address = are_many && connection->has_address ? count_newer(connection) : 0;
        if (connection->began_at < began_before || connection->of_this_address > unfinished_limits.per_address) {
            disconnect(connection);
            open--;
        }
    }
    for (; open > unfinished_limits.in_total; open--) {
        disconnect(find_most_frequent());
    }
}

struct ended_connections connections_take_ended(void) {
    struct ended_connections taken = ended;
    most_frequent_address(&ended_per_address, taken.address);
    memset(&ended, 0, sizeof ended);
    memset(&ended_per_address, 0, sizeof ended_per_address);
    return taken;
}
