// See pattern.h. The bytes come from a small generator of pseudo-random numbers (xorshift64*): a piece that is lost,
// doubled, moved or taken from another connection shows.
#include "load/pattern.h"

#include <cstdint>
#include <cstring>

namespace load {

void pattern_make(pattern *p, size_t longest) {
    p->bytes.resize(PATTERN_PERIOD + longest);
    uint64_t state = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < p->bytes.size(); i++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        const char fresh = static_cast<char>((state * 0x2545f4914f6cdd1du) >> 56);
        p->bytes[i] = i < PATTERN_PERIOD ? fresh : p->bytes[i - PATTERN_PERIOD];
    }
}

bool pattern_matches(const pattern *p, size_t position, const char *bytes, size_t len) {
    while (len > 0) {
        const size_t room = p->bytes.size() - position;
        const size_t part = len < room ? len : room;
        if (memcmp(pattern_at(p, position), bytes, part) != 0) return false;
        bytes += part;
        len -= part;
        position = pattern_next(position, part);
    }
    return true;
}

}
