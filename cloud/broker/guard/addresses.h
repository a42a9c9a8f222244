/* Counts something per address, in little memory: the most frequent addresses are kept.
 *
 * Source: Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams",
 * ICDT 2005 ("Space-Saving"). A count is too high by at most the number of all divided by the number of slots. */
#pragma once

#include <netinet/in.h>
#include <stddef.h>

#define ADDRESS_BYTES 16 /* an IPv4 address is mapped into IPv6 */
#define ADDRESS_SLOTS 16

struct address_counts {
    struct {
        unsigned char address[ADDRESS_BYTES];
        size_t number;
    } slots[ADDRESS_SLOTS];
};

void count_address(struct address_counts *counts, const unsigned char address[ADDRESS_BYTES]);

/* Writes the most frequent address. If there is none, the text is empty. */
void most_frequent_address(const struct address_counts *counts, char text[INET6_ADDRSTRLEN]);
