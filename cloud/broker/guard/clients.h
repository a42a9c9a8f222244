/* The clients that are in force: which certificate has which name and role.
 *
 * The certificate authority writes them into a text file, one line for each certificate:
 *
 *     <serial number in lower-case hex> <name> <role>
 *
 * The last line is "end". Lines that begin with "#" are comments. The authority replaces the file as a whole.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "traffic.h"

enum role { ROLE_DEVICE, ROLE_SINK, ROLE_BROKER, ROLE_AUTHORITY, ROLE_GALLERY };

struct client {
    char *name;
    enum role role;
    struct traffic traffic;
    bool is_in_force; /* false while the file is read again, until its name is found */
    bool has_lost_certificate;
};

/* Reads the file. Returns false, and keeps the list that is in force, if the file is missing, damaged or incomplete;
 * "problem" then says why. Calls "removed" for each name that has lost a certificate. */
bool clients_read(const char *path, void (*removed)(const char *name), char *problem, size_t problem_size);

/* Reads the file if it has changed since it was read. */
bool clients_reread(const char *path, void (*removed)(const char *name), char *problem, size_t problem_size);

/* Returns the client with this certificate, or NULL. */
struct client *clients_with_serial(const char *serial);

/* Returns the client with this name, or NULL. */
struct client *clients_with_name(const char *name);

/* Calls "visit" for each client. */
void clients_visit(void (*visit)(struct client *client));

void clients_free(void);
