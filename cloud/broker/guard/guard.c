/* A plugin for Mosquitto 2.0 and 2.1 that admits the clients which the authority has registered, and limits each of them.
 *
 *     plugin /usr/lib/facewire/guard.so
 *     plugin_opt_clients /pki/broker/clients
 *
 * What Mosquitto itself lacks: it checks a certificate in the TLS handshake only, so that a client which was revoked
 * before it sends its CONNECT is admitted; it grants every subscription; and it counts the payloads in its queues, but
 * not their properties.
 *
 * The plugin must be used with `require_certificate true`, without `use_identity_as_username` (with it, Mosquitto does
 * not ask a plugin about a CONNECT) and without `acl_file`.
 */
#include <mosquitto.h>
#if LIBMOSQUITTO_VERSION_NUMBER < 2001000
#include <mosquitto_broker.h>
#include <mosquitto_plugin.h>
#include <mqtt_protocol.h>
#endif
#include <openssl/bn.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>

#include "clients.h"
#include "connections.h"
#include "log_limit.h"
#include "rights.h"
#include "traffic.h"

/* The three functions that Mosquitto looks up. */
#define EXPORTED __attribute__((visibility("default")))

#define READ_SECONDS 1.0
#define ENFORCE_MILLISECONDS 100
#define MAX_SUBSCRIPTIONS 16
#define MIN_ENDED_CONNECTIONS 10 /* in one interval, from which the log names their address */
#define MESSAGE_OVERHEAD 512 /* memory of a message in the broker without its texts, and of a property */
#define PROPERTY_OVERHEAD 128

static mosquitto_plugin_id_t *plugin;
static char *clients_path;
static double reread_at, enforced_at, reported_at, interval_seconds = 10;
static bool is_list_readable = true;
static bool is_reloading; /* since the last SIGHUP, Mosquitto has not handled packets yet */

static void kick(const char *name) {
    mosquitto_log_printf(MOSQ_LOG_NOTICE, "guard: a certificate of %s is no longer in force, disconnecting", name);
    connections_close(name);
}

/* Counts a refusal, and disconnects the client if there are too many. */
static void refuse(struct client *client, enum refusal kind) {
    if (count_refusal(&client->traffic, kind)) {
        mosquitto_log_printf(MOSQ_LOG_WARNING, "guard: %s is disconnected and shut out for a while", client->name);
        connections_close(client->name);
    }
}

/* Writes the serial number of a certificate as lower-case hex without leading zeros. */
static bool read_serial(const X509 *certificate, char *text, size_t size) {
    BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *hex = number ? BN_bn2hex(number) : NULL;
    bool is_read = false;
    if (hex != NULL) {
        const char *digits = hex;
        while (*digits == '0') {
            digits++;
        }
        is_read = strlen(digits) < size;
        for (size_t i = 0; is_read && (text[i] = digits[i]) != '\0'; i++) {
            text[i] |= text[i] >= 'A' ? 0x20 : 0;
        }
    }
    OPENSSL_free(hex);
    BN_free(number);
    return is_read;
}

/* Returns the client with this certificate, or NULL. */
static struct client *find_client(const X509 *certificate) {
    char serial[128] = "";
    struct client *client = NULL;
    if (certificate != NULL && read_serial(certificate, serial, sizeof serial)) {
        client = clients_with_serial(serial);
        if (client == NULL) {
            mosquitto_log_printf(MOSQ_LOG_WARNING, "guard: refused the certificate %s: it is not in force", serial);
        }
    }
    return client;
}

/* Decides about a client when its TLS handshake is complete. */
static bool admits(const X509 *certificate) {
    struct client *client = find_client(certificate);
    if (client == NULL) {
        return false;
    }
    if (is_shut_out(&client->traffic) || !take_connect(&client->traffic)) {
        refuse(client, REFUSED_CONNECT);
        return false;
    }
    return true;
}

static int on_connect(int event, void *data, void *unused) {
    (void)event, (void)unused;
    struct mosquitto *connecting = ((struct mosquitto_evt_basic_auth *)data)->client;
    const char *id = mosquitto_client_id(connecting), *address = mosquitto_client_address(connecting);
    X509 *certificate = mosquitto_client_certificate(connecting);
    struct client *client = find_client(certificate); /* it may have been revoked since the handshake */
    int result = MOSQ_ERR_AUTH;
    if (certificate == NULL && is_reloading) {
        /* After SIGHUP, Mosquitto asks about all clients again, also about absent ones. They cannot be disconnected:
         * Mosquitto 2.0.11 would enter their sessions twice into its list of sessions that expire, and crash later. */
        result = MOSQ_ERR_SUCCESS;
    } else if (client == NULL || is_shut_out(&client->traffic)) {
        result = MOSQ_ERR_AUTH;
    } else if (!may_use_id(client, id)) {
        refuse(client, REFUSED_ID);
        mosquitto_log_printf(MOSQ_LOG_WARNING, "guard: refused %s from %s: expected its name as the client id, not '%.64s'",
                             client->name, address, id);
    } else {
        result = mosquitto_set_username(connecting, client->name);
        connections_accept(certificate, client->name);
    }
    X509_free(certificate);
    return result;
}

/* Counts a filter like a message: the broker answers each of them, and keeps the answers if the client does not read. */
static bool take_filter(struct client *client) {
    return client->role != ROLE_DEVICE || take_message(&client->traffic, MESSAGE_OVERHEAD);
}

static int on_access(int event, void *data, void *unused) {
    (void)event, (void)unused;
    const struct mosquitto_evt_acl_check *check = data;
    const char *name = mosquitto_client_username(check->client);
    struct client *client = name ? clients_with_name(name) : NULL;
    bool is_permitted = false;
    if (client == NULL) {
        return MOSQ_ERR_ACL_DENIED;
    }
    switch (check->access) {
        case MOSQ_ACL_READ:
            return may_read(client, check->topic) ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
        case MOSQ_ACL_WRITE:
            is_permitted = may_write(client, check->topic);
            break;
        case MOSQ_ACL_SUBSCRIBE:
            is_permitted = may_subscribe(client, check->topic) &&
                           mosquitto_client_sub_count(check->client) < MAX_SUBSCRIPTIONS && take_filter(client);
            break;
        case MOSQ_ACL_UNSUBSCRIBE:
            is_permitted = may_subscribe(client, check->topic) && take_filter(client);
            break;
    }
    if (!is_permitted) {
        refuse(client, REFUSED_RIGHTS);
    }
    return is_permitted ? MOSQ_ERR_SUCCESS : MOSQ_ERR_ACL_DENIED;
}

/* Adds the sizes of the properties of a message. Returns false at the first one beyond the limits. */
static bool measure(const mosquitto_property *properties, size_t *bytes, size_t *count) {
    for (; properties != NULL; properties = mosquitto_property_next(properties)) {
        char *name = NULL, *text = NULL;
        void *binary = NULL;
        uint16_t size = 0;
        if (++*count > limits.max_properties) {
            return false;
        }
        switch (mosquitto_property_identifier(properties)) {
            case MQTT_PROP_USER_PROPERTY:
                mosquitto_property_read_string_pair(properties, MQTT_PROP_USER_PROPERTY, &name, &text, false);
                break;
            case MQTT_PROP_CONTENT_TYPE:
            case MQTT_PROP_RESPONSE_TOPIC:
                mosquitto_property_read_string(properties, mosquitto_property_identifier(properties), &text, false);
                break;
            case MQTT_PROP_CORRELATION_DATA:
                mosquitto_property_read_binary(properties, MQTT_PROP_CORRELATION_DATA, &binary, &size, false);
                break;
        }
        *bytes += (name ? strlen(name) : 0) + (text ? strlen(text) : 0) + size;
        mosquitto_free(name);
        mosquitto_free(text);
        mosquitto_free(binary);
        if (*bytes > limits.max_property_bytes) {
            return false;
        }
    }
    return true;
}

static int on_message(int event, void *data, void *unused) {
    (void)event, (void)unused;
    const struct mosquitto_evt_message *message = data;
    const char *name = mosquitto_client_username(message->client);
    struct client *client = name ? clients_with_name(name) : NULL;
    size_t bytes = 0, count = 0;
    if (client == NULL) {
        return MOSQ_ERR_ACL_DENIED;
    }
    if (client->role != ROLE_DEVICE) {
        return MOSQ_ERR_SUCCESS;
    }
    if (!measure(message->properties, &bytes, &count)) {
        refuse(client, REFUSED_PROPERTIES);
        return MOSQ_ERR_ACL_DENIED;
    }
    bytes += message->payloadlen + strlen(message->topic) + MESSAGE_OVERHEAD + count * PROPERTY_OVERHEAD;
    if (!take_message(&client->traffic, bytes)) {
        refuse(client, REFUSED_RATE);
        return MOSQ_ERR_ACL_DENIED;
    }
    return MOSQ_ERR_SUCCESS;
}

static struct client *loudest;

static void compare_loudness(struct client *client) {
    if (loudest == NULL || total_refused(&client->traffic) > total_refused(&loudest->traffic)) {
        loudest = client;
    }
}

static void forget(struct client *client) {
    forget_refusals(&client->traffic);
}

/* Names the client that was refused most in the last interval, and begins a new one. */
static void report(void) {
    loudest = NULL;
    clients_visit(compare_loudness);
    if (loudest != NULL && total_refused(&loudest->traffic) > 0) {
        const size_t *refused = loudest->traffic.refused;
        mosquitto_log_printf(MOSQ_LOG_WARNING,
                             "guard: in %.0f s, most was refused to %s: no right %zu, properties %zu, rate %zu, connections %zu, client ids %zu",
                             interval_seconds, loudest->name, refused[REFUSED_RIGHTS], refused[REFUSED_PROPERTIES],
                             refused[REFUSED_RATE], refused[REFUSED_CONNECT], refused[REFUSED_ID]);
    }
    clients_visit(forget);
    struct ended_connections ended = connections_take_ended();
    if (ended.by_guard > 0 || ended.number >= MIN_ENDED_CONNECTIONS) {
        mosquitto_log_printf(MOSQ_LOG_WARNING,
                             "guard: in %.0f s, %zu connections ended before a valid CONNECT, %zu of them by the guard, most from %s",
                             interval_seconds, ended.number, ended.by_guard,
                             ended.address[0] ? ended.address : "an unknown address");
    }
}

static void reread(void) {
    char problem[256] = "";
    bool is_read = clients_reread(clients_path, kick, problem, sizeof problem);
    if (!is_read && is_list_readable) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "guard: cannot read %s, the list before stays in force: %s", clients_path, problem);
    }
    is_list_readable = is_read;
}

static int on_reload(int event, void *data, void *unused) {
    (void)event, (void)data, (void)unused;
    is_reloading = true;
    return MOSQ_ERR_SUCCESS;
}

static int on_tick(int event, void *data, void *unused) {
    (void)event, (void)data, (void)unused;
#if LIBMOSQUITTO_VERSION_NUMBER >= 2001000
    /* Mosquitto 2.1 sleeps until something happens, unless it is told when to call again. */
    ((struct mosquitto_evt_tick *)data)->next_ms = ENFORCE_MILLISECONDS;
#endif
    is_reloading = false;
    double time = now();
    if (time - reread_at >= READ_SECONDS) {
        reread();
        reread_at = time;
    }
    if (time - enforced_at >= ENFORCE_MILLISECONDS / 1000.0) {
        connections_enforce();
        enforced_at = time;
    }
    if (time - reported_at >= interval_seconds) {
        report();
        reported_at = time;
    }
    return MOSQ_ERR_SUCCESS;
}

static const struct {
    const char *name;
    double *value;
} NUMBERS[] = {
    {"messages_per_second", &limits.messages_per_second}, {"message_burst", &limits.message_burst},
    {"bytes_per_second", &limits.bytes_per_second},       {"byte_burst", &limits.byte_burst},
    {"connects_per_second", &limits.connects_per_second}, {"connect_burst", &limits.connect_burst},
    {"connect_seconds", &unfinished_limits.seconds},       {"interval_seconds", &interval_seconds},
};

static const struct {
    const char *name;
    size_t *value;
} COUNTS[] = {
    {"max_properties", &limits.max_properties},
    {"max_property_bytes", &limits.max_property_bytes},
    {"unfinished_per_address", &unfinished_limits.per_address},
    {"unfinished_in_total", &unfinished_limits.in_total},
};

static bool set_option(const char *name, const char *text) {
    char *end = NULL;
    double number = strtod(text, &end);
    if (strcmp(name, "clients") == 0) {
        free(clients_path);
        return (clients_path = strdup(text)) != NULL;
    }
    if (end == text || *end != '\0' || !(number > 0 && number < 1e15)) {
        return false;
    }
    for (size_t i = 0; i < sizeof NUMBERS / sizeof *NUMBERS; i++) {
        if (strcmp(name, NUMBERS[i].name) == 0) {
            *NUMBERS[i].value = number;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof COUNTS / sizeof *COUNTS; i++) {
        if (strcmp(name, COUNTS[i].name) == 0) {
            *COUNTS[i].value = (size_t)number;
            return true;
        }
    }
    return false;
}

/* Allows as many connections as the system does, and no memory dump: the memory contains the broker's key. */
static void set_resource_limits(void) {
    struct rlimit files, none = {0, 0};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max == RLIM_INFINITY || files.rlim_max > 65536 ? 65536 : files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setrlimit(RLIMIT_CORE, &none);
}

static const struct {
    int event;
    MOSQ_FUNC_generic_callback callback;
} CALLBACKS[] = {
    {MOSQ_EVT_BASIC_AUTH, on_connect},
    {MOSQ_EVT_ACL_CHECK, on_access},
    {MOSQ_EVT_MESSAGE, on_message},
    {MOSQ_EVT_TICK, on_tick},
    {MOSQ_EVT_RELOAD, on_reload},
};

static void ignore(const char *name) {
    (void)name;
}

EXPORTED int mosquitto_plugin_version(int count, const int *versions) {
    for (int i = 0; i < count; i++) {
        if (versions[i] == 5) {
            return 5;
        }
    }
    return -1;
}

EXPORTED int mosquitto_plugin_init(mosquitto_plugin_id_t *identifier, void **data, struct mosquitto_opt *options, int count) {
    (void)data;
    char problem[256] = "";
    plugin = identifier;
    for (int i = 0; i < count; i++) {
        if (!set_option(options[i].key, options[i].value)) {
            mosquitto_log_printf(MOSQ_LOG_ERR, "guard: plugin_opt_%s is '%s': expected an option of the guard and a number above 0",
                                 options[i].key, options[i].value);
            return MOSQ_ERR_INVAL;
        }
    }
    if (clients_path == NULL) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "guard: plugin_opt_clients is not set: expected the authority's file «clients»");
        return MOSQ_ERR_INVAL;
    }
    if (!clients_read(clients_path, ignore, problem, sizeof problem)) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "guard: plugin_opt_clients is '%s': expected the authority's file «clients» (%s)",
                             clients_path, problem);
        return MOSQ_ERR_INVAL;
    }
    if (!connections_watch(admits)) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "guard: cannot watch the connections");
        return MOSQ_ERR_UNKNOWN;
    }
    set_resource_limits();
    if (!log_limit_start()) {
        mosquitto_log_printf(MOSQ_LOG_ERR, "guard: cannot limit the log");
        return MOSQ_ERR_UNKNOWN;
    }
    reread_at = enforced_at = reported_at = now();
    for (size_t i = 0; i < sizeof CALLBACKS / sizeof *CALLBACKS; i++) {
        int result = mosquitto_callback_register(plugin, CALLBACKS[i].event, CALLBACKS[i].callback, NULL, NULL);
        if (result != MOSQ_ERR_SUCCESS) {
            return result;
        }
    }
    return MOSQ_ERR_SUCCESS;
}

EXPORTED int mosquitto_plugin_cleanup(void *data, struct mosquitto_opt *options, int count) {
    (void)data, (void)options, (void)count;
    for (size_t i = 0; i < sizeof CALLBACKS / sizeof *CALLBACKS; i++) {
        mosquitto_callback_unregister(plugin, CALLBACKS[i].event, CALLBACKS[i].callback, NULL);
    }
    clients_free();
    free(clients_path);
    clients_path = NULL;
    log_limit_stop();
    return MOSQ_ERR_SUCCESS;
}
