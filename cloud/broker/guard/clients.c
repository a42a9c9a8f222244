#include "clients.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_LINE 512
#define MAX_CERTIFICATES 1000000

struct certificate {
    char *serial;
    char *name;
    enum role role;
    struct client *client;
};

struct list {
    struct certificate *certificates; /* sorted by serial number */
    size_t count, capacity;
};

static struct list in_force;
static struct client **clients; /* sorted by name */
static size_t client_count;
static struct stat read_state;

static const char *ROLES[] = {"device", "sink", "broker", "authority", "gallery"};

static int compare_serials(const void *left, const void *right) {
    return strcmp(((const struct certificate *)left)->serial, ((const struct certificate *)right)->serial);
}

static int compare_names(const void *left, const void *right) {
    return strcmp((*(struct client *const *)left)->name, (*(struct client *const *)right)->name);
}

static void free_list(struct list *list) {
    for (size_t i = 0; i < list->count; i++) {
        free(list->certificates[i].serial);
        free(list->certificates[i].name);
    }
    free(list->certificates);
    *list = (struct list){0};
}

static bool append(struct list *list, const char *serial, const char *name, enum role role) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 64;
        struct certificate *larger = realloc(list->certificates, capacity * sizeof *larger);
        if (larger == NULL) {
            return false;
        }
        list->certificates = larger;
        list->capacity = capacity;
    }
    struct certificate *added = &list->certificates[list->count++];
    *added = (struct certificate){strdup(serial), strdup(name), role, NULL};
    return added->serial != NULL && added->name != NULL;
}

static bool parse_role(const char *text, enum role *role) {
    for (size_t i = 0; i < sizeof ROLES / sizeof *ROLES; i++) {
        if (strcmp(text, ROLES[i]) == 0) {
            *role = (enum role)i;
            return true;
        }
    }
    return false;
}

/* Parses the lines of an open file up to "end". */
static bool parse(FILE *file, struct list *list, char *problem, size_t problem_size) {
    char line[MAX_LINE], serial[128], name[256], role_text[32], rest;
    for (size_t number = 1; fgets(line, sizeof line, file) != NULL; number++) {
        enum role role;
        if (strcmp(line, "end\n") == 0) {
            return true;
        }
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        if (sscanf(line, "%127[0-9a-f] %255s %31s %c", serial, name, role_text, &rest) != 3 ||
            !parse_role(role_text, &role)) {
            snprintf(problem, problem_size, "line %zu: expected a serial number, a name and a role", number);
            return false;
        }
        if (list->count >= MAX_CERTIFICATES || !append(list, serial, name, role)) {
            snprintf(problem, problem_size, "line %zu: too many certificates", number);
            return false;
        }
    }
    snprintf(problem, problem_size, "expected «end» in the last line");
    return false;
}

static struct client *find(struct client **sorted, size_t count, const char *name) {
    struct client wanted = {.name = (char *)name}, *pointer = &wanted;
    struct client **found = count ? bsearch(&pointer, sorted, count, sizeof *sorted, compare_names) : NULL;
    return found ? *found : NULL;
}

static const struct certificate *find_serial(const struct list *list, const char *serial) {
    struct certificate wanted = {.serial = (char *)serial};
    return list->count ? bsearch(&wanted, list->certificates, list->count, sizeof wanted, compare_serials) : NULL;
}

static void free_client(struct client *client) {
    free(client->name);
    free(client);
}

/* Puts a list in force. A client that is in both lists keeps its traffic. Returns false if there is no memory. */
static bool replace(struct list *list, void (*removed)(const char *name)) {
    struct client **newer = calloc(list->count + 1, sizeof *newer);
    size_t newer_count = 0;
    if (newer == NULL) {
        return false;
    }
    qsort(list->certificates, list->count, sizeof *list->certificates, compare_serials);
    for (size_t i = 0; i < client_count; i++) {
        clients[i]->is_in_force = clients[i]->has_lost_certificate = false;
    }
    for (size_t i = 0; i < list->count; i++) {
        struct certificate *certificate = &list->certificates[i];
        struct client *client = find(clients, client_count, certificate->name);
        if (client == NULL) {
            /* Two certificates of a new name are rare, so a linear search among the new ones is enough. */
            for (size_t j = 0; j < newer_count && client == NULL; j++) {
                client = strcmp(newer[j]->name, certificate->name) == 0 ? newer[j] : NULL;
            }
        }
        if (client == NULL) {
            client = calloc(1, sizeof *client);
            if (client == NULL || (client->name = strdup(certificate->name)) == NULL) {
                abort();
            }
        }
        if (!client->is_in_force) {
            client->is_in_force = true;
            client->role = certificate->role;
            newer[newer_count++] = client;
        }
        certificate->client = client;
    }
    for (size_t i = 0; i < in_force.count; i++) {
        const struct certificate *kept = find_serial(list, in_force.certificates[i].serial);
        if (kept == NULL || strcmp(kept->name, in_force.certificates[i].name) != 0) {
            in_force.certificates[i].client->has_lost_certificate = true;
        }
    }
    struct client **older = clients;
    size_t older_count = client_count;
    qsort(newer, newer_count, sizeof *newer, compare_names);
    clients = newer;
    client_count = newer_count;
    free_list(&in_force);
    in_force = *list;
    for (size_t i = 0; i < older_count; i++) {
        if (older[i]->has_lost_certificate || !older[i]->is_in_force) {
            removed(older[i]->name);
        }
        if (!older[i]->is_in_force) {
            free_client(older[i]);
        }
    }
    free(older);
    return true;
}

bool clients_read(const char *path, void (*removed)(const char *name), char *problem, size_t problem_size) {
    struct list list = {0};
    struct stat state;
    FILE *file = fopen(path, "r");
    if (file == NULL || fstat(fileno(file), &state) != 0) {
        snprintf(problem, problem_size, "%s", strerror(errno));
        if (file != NULL) {
            fclose(file);
        }
        return false;
    }
    bool is_complete = parse(file, &list, problem, problem_size);
    fclose(file);
    if (!is_complete || !replace(&list, removed)) {
        free_list(&list);
        return false;
    }
    read_state = state;
    return true;
}

bool clients_reread(const char *path, void (*removed)(const char *name), char *problem, size_t problem_size) {
    struct stat state;
    if (stat(path, &state) == 0 && state.st_ino == read_state.st_ino && state.st_size == read_state.st_size &&
        state.st_mtime == read_state.st_mtime && state.st_ctime == read_state.st_ctime) {
        return true;
    }
    return clients_read(path, removed, problem, problem_size);
}

struct client *clients_with_serial(const char *serial) {
    const struct certificate *certificate = find_serial(&in_force, serial);
    return certificate ? certificate->client : NULL;
}

struct client *clients_with_name(const char *name) {
    return find(clients, client_count, name);
}

void clients_visit(void (*visit)(struct client *client)) {
    for (size_t i = 0; i < client_count; i++) {
        visit(clients[i]);
    }
}

void clients_free(void) {
    for (size_t i = 0; i < client_count; i++) {
        free_client(clients[i]);
    }
    free(clients);
    clients = NULL;
    client_count = 0;
    free_list(&in_force);
}
