/* What each client may write, read and subscribe to. */
#pragma once

#include <stdbool.h>

#include "clients.h"

/* Whether a client may use this client id. A device has three sessions at most, whatever it does. All sinks have the same
 * certificate, and each has a session of its own. */
bool may_use_id(const struct client *client, const char *id);

bool may_write(const struct client *client, const char *topic);
bool may_read(const struct client *client, const char *topic);
bool may_subscribe(const struct client *client, const char *filter);
