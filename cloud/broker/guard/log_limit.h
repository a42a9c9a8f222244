/* Limits the log: Mosquitto writes client ids and addresses into it that an attacker chooses, as often as he likes.
 *
 * All lines on standard error pass through a thread. It cuts long lines, replaces control characters, and leaves lines
 * out that repeat too often. Every ten seconds it writes how many lines it has left out.
 */
#pragma once

#include <stdbool.h>

/* Begins. Returns false if it is not possible; the log then is not limited. */
bool log_limit_start(void);

/* Writes what is left, and ends. */
void log_limit_stop(void);
