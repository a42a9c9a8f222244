#include "rights.h"

#include <string.h>

#define MAX_FILTER_BYTES 256
#define MAX_SINK_NAME 48
#define MAX_GROUP 64

static const char ALL_FACES[] = "devices/+/faces/#";
static const char ALL_STORED[] = "devices/+/stored/#";
static const char ALL_STATUS[] = "devices/+/status/#";
static const char HEALTH[] = "health";
#define LETTERS_AND_DIGITS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
static const char IN_SINK_NAME[] = LETTERS_AND_DIGITS "-";
static const char IN_GROUP[] = LETTERS_AND_DIGITS "-_";

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

/* Whether a text consists of 1 to "maximum" of these characters. */
static bool consists_of(const char *characters, size_t maximum, const char *text) {
    size_t length = text != NULL ? strspn(text, characters) : 0;
    return length > 0 && length <= maximum && text[length] == '\0';
}

/* Whether a filter is $share/<group>/<filter>, which shares the messages among the members of the group. */
static bool is_shared(const char *filter, const char *shared) {
    char group[MAX_GROUP + 1] = "";
    const char *name = after(filter, "$share/");
    const char *end = name != NULL ? strchr(name, '/') : NULL;
    if (end == NULL || (size_t)(end - name) > MAX_GROUP) {
        return false;
    }
    memcpy(group, name, (size_t)(end - name));
    return consists_of(IN_GROUP, MAX_GROUP, group) && strcmp(end + 1, shared) == 0;
}

/* Each of several sinks has a name of its own: facewire-s3sink-<name>. */
static bool may_use_id_as_sink(const struct client *client, const char *id) {
    const char *checked = after(after(after(id, "facewire-check-"), client->name), "-");
    return strcmp(id, "facewire-s3sink") == 0 || consists_of(IN_SINK_NAME, MAX_SINK_NAME, checked) ||
           consists_of(IN_SINK_NAME, MAX_SINK_NAME, after(id, "facewire-s3sink-"));
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
    return (client->role == ROLE_SINK && may_use_id_as_sink(client, id)) ||
           (client->role == ROLE_GALLERY && strcmp(id, "facewire-gallery") == 0);
}

bool may_write(const struct client *client, const char *topic) {
    switch (client->role) {
        case ROLE_DEVICE:
            return is_below(topic, client->name, "faces/") || is_below(topic, client->name, "status/");
        case ROLE_SINK:
            return is_below_any(topic, "receipts/") || is_below_any(topic, "stored/");
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
        case ROLE_GALLERY:
            return is_below_any(topic, "stored/") || is_below_any(topic, "status/");
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
            return strcmp(filter, ALL_FACES) == 0 || is_shared(filter, ALL_FACES);
        case ROLE_GALLERY:
            return strcmp(filter, ALL_STORED) == 0 || strcmp(filter, ALL_STATUS) == 0;
        case ROLE_BROKER:
            return strcmp(filter, HEALTH) == 0;
        default:
            return false;
    }
}
