#include "rights.h"

#include <string.h>

#define MAX_FILTER_BYTES 256

static const char ALL_FACES[] = "devices/+/faces/#";
static const char HEALTH[] = "health";

/* Returns what follows "prefix", or NULL if the text does not begin with it. */
static const char *after(const char *text, const char *prefix) {
    size_t length = strlen(prefix);
    return text != NULL && strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

/* Whether a topic is devices/<name>/<branch>/... */
static bool is_below(const char *topic, const char *name, const char *branch) {
    return after(after(after(after(topic, "devices/"), name), "/"), branch) != NULL;
}

/* Whether a topic is devices/<any device>/<branch>/... */
static bool is_below_any(const char *topic, const char *branch) {
    const char *device = after(topic, "devices/");
    const char *rest = device != NULL ? strchr(device, '/') : NULL;
    return rest != NULL && rest != device && after(rest + 1, branch) != NULL;
}

bool may_use_id(const struct client *client, const char *id) {
    if (id == NULL) {
        return false;
    }
    const char *checked = after(id, "facewire-check-");
    if (strcmp(id, client->name) == 0 || (checked != NULL && strcmp(checked, client->name) == 0)) {
        return true;
    }
    if (client->role == ROLE_DEVICE) {
        const char *name = after(id, "facewire-forwarder-");
        return name != NULL && strcmp(name, client->name) == 0;
    }
    return client->role == ROLE_SINK && strcmp(id, "facewire-s3sink") == 0;
}

bool may_write(const struct client *client, const char *topic) {
    switch (client->role) {
        case ROLE_DEVICE:
            return is_below(topic, client->name, "faces/") || is_below(topic, client->name, "status/");
        case ROLE_SINK:
            return is_below_any(topic, "receipts/");
        default:
            return false;
    }
}

bool may_read(const struct client *client, const char *topic) {
    switch (client->role) {
        case ROLE_DEVICE:
            return is_below(topic, client->name, "receipts/");
        case ROLE_SINK:
            return is_below_any(topic, "faces/");
        default:
            return false;
    }
}

bool may_subscribe(const struct client *client, const char *filter) {
    if (strlen(filter) > MAX_FILTER_BYTES) {
        return false;
    }
    switch (client->role) {
        case ROLE_DEVICE:
            return is_below(filter, client->name, "receipts/");
        case ROLE_SINK:
            return strcmp(filter, ALL_FACES) == 0;
        case ROLE_BROKER:
            return strcmp(filter, HEALTH) == 0;
        default:
            return false;
    }
}
