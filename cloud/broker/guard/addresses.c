#include "addresses.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

void count_address(struct address_counts *counts, const unsigned char address[ADDRESS_BYTES]) {
    size_t least = 0;
    for (size_t i = 0; i < ADDRESS_SLOTS; i++) {
        if (counts->slots[i].number > 0 && memcmp(counts->slots[i].address, address, ADDRESS_BYTES) == 0) {
            counts->slots[i].number++;
            return;
        }
        if (counts->slots[i].number < counts->slots[least].number) {
            least = i;
        }
    }
    memcpy(counts->slots[least].address, address, ADDRESS_BYTES);
    counts->slots[least].number++; /* it may have been counted before, and been forgotten */
}

void most_frequent_address(const struct address_counts *counts, char text[INET6_ADDRSTRLEN]) {
    size_t most = 0;
    for (size_t i = 1; i < ADDRESS_SLOTS; i++) {
        if (counts->slots[i].number > counts->slots[most].number) {
            most = i;
        }
    }
    text[0] = '\0';
    if (counts->slots[most].number > 0) {
        const unsigned char *address = counts->slots[most].address;
        bool is_ipv4 = IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)address);
        inet_ntop(is_ipv4 ? AF_INET : AF_INET6, address + (is_ipv4 ? 12 : 0), text, INET6_ADDRSTRLEN);
    }
}
