/* An S3 server that stores nothing and costs next to no processor time: it answers each write at once.
 *
 *     fast_s3 <port> <file>
 *
 * It answers the requests that the sink makes, and counts its writes in the first eight bytes of the file.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNECTIONS 4096
#define MAX_HEAD 16384

struct connection {
    char head[MAX_HEAD + 1];
    size_t length; /* of what has been received of the head */
    size_t body;   /* bytes of the body that are still to be received */
};

static struct connection *connections[MAX_CONNECTIONS];
static volatile uint64_t *writes;
static bool is_checked; /* the store check's object has been written */

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void respond(int fd, const char *status, const char *body) {
    char response[1024];
    int size = snprintf(response, sizeof response,
                        "HTTP/1.1 %s\r\nContent-Type: application/xml\r\nContent-Length: %zu\r\nServer: fast\r\n"
                        "Date: Thu, 26 Nov 2026 12:00:00 GMT\r\nETag: \"0\"\r\nx-amz-request-id: 0\r\n\r\n%s",
                        status, strlen(body), body);
    if (write(fd, response, (size_t)size) != size) {
        shutdown(fd, SHUT_RDWR);
    }
}

static void answer(int fd, const char *head) {
    bool is_check = strstr(head, "store-check") != NULL;
    if (strncmp(head, "GET ", 4) == 0) {
        respond(fd, "200 OK", is_check && is_checked
            ? "<ListBucketResult><Name>faces</Name><KeyCount>1</KeyCount><Contents><Key>faces/store-check</Key>"
              "<Size>1</Size></Contents></ListBucketResult>"
            : "<ListBucketResult><Name>faces</Name><KeyCount>0</KeyCount></ListBucketResult>");
    } else if (!is_check) {
        ++*writes;
        respond(fd, "200 OK", "");
    } else if (strstr(head, "store-check-wrong") != NULL) {
        respond(fd, "400 Bad Request", "<Error><Code>BadDigest</Code></Error>");
    } else if (is_checked && strcasestr(head, "\r\nif-none-match:") != NULL) {
        respond(fd, "412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>");
    } else {
        is_checked = true;
        respond(fd, "200 OK", "");
    }
}

/* Handles what was received. Returns false if the connection is to be closed. */
static bool receive(int fd, struct connection *connection, const char *data, size_t size) {
    while (size > 0) {
        if (connection->body > 0) {
            size_t part = size < connection->body ? size : connection->body;
            connection->body -= part;
            data += part;
            size -= part;
        } else {
            size_t part = MAX_HEAD - connection->length < size ? MAX_HEAD - connection->length : size;
            size_t before = connection->length;
            memcpy(connection->head + before, data, part);
            connection->head[before + part] = '\0';
            char *end = strstr(connection->head, "\r\n\r\n");
            if (end == NULL) {
                connection->length += part;
                if (connection->length == MAX_HEAD) {
                    return false;
                }
                return true;
            }
            size_t used = (size_t)(end + 4 - connection->head) - before;
            data += used;
            size -= used;
            end[2] = '\0';
            const char *length = strcasestr(connection->head, "\r\ncontent-length:");
            connection->body = length != NULL ? strtoul(length + 17, NULL, 10) : 0;
            if (connection->body > size && strcasestr(connection->head, "\r\nexpect:") != NULL &&
                write(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25) != 25) {
                return false;
            }
            connection->length = strlen(connection->head);
        }
        if (connection->body == 0) {
            answer(fd, connection->head);
            connection->length = 0;
        }
    }
    return true;
}

int main(int count, char **arguments) {
    static char data[1 << 18];
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), one = 1;
    if (count != 3) {
        fprintf(stderr, "fast_s3: expected a port and a file\n");
        return 2;
    }
    int file = open(arguments[2], O_RDWR | O_CREAT, 0600);
    if (file < 0 || ftruncate(file, 8) != 0) {
        fail(arguments[2]);
    }
    void *memory = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
        fail("mmap");
    }
    writes = memory;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 512) != 0) {
        fail("listen");
    }
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    while (true) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll, events, 64, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
                if (fd >= MAX_CONNECTIONS || (fd >= 0 && (connections[fd] = calloc(1, sizeof **connections)) == NULL)) {
                    close(fd);
                } else if (fd >= 0) {
                    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
                }
                continue;
            }
            ssize_t size = read(fd, data, sizeof data);
            if (size <= 0 || !receive(fd, connections[fd], data, (size_t)size)) {
                free(connections[fd]);
                close(fd);
            }
        }
    }
}
