/* Instructions of the calling thread between two points, by valgrind's callgrind; compiled and loaded by counting.py. */
#include <valgrind/callgrind.h>

void count_begin(void) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
    CALLGRIND_TOGGLE_COLLECT;
}

void count_toggle(void) {
    CALLGRIND_TOGGLE_COLLECT;
}

void count_end(const char *name) {
    CALLGRIND_TOGGLE_COLLECT;
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}
