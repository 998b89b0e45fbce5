// The end of a process whose invariants are broken. Decides how that is said: one line on descriptor 2, one write, so
// that lines of several threads do not mix; then abort, so that a debugger or a core dump sees the guilty stack.
//
// Must not trust anything: no allocation, no stdio, not even the table of system calls (a broken loop may be why we are
// here). Safe in signal handlers.
#include "base/assert.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

namespace mio {

struct panic_line {
    size_t used;
    char text[512];
};

static void line_add(panic_line *line, const char *what) {
    size_t n = strlen(what);
    const size_t room = sizeof(line->text) - line->used;
    if (n > room) n = room;
    memcpy(line->text + line->used, what, n);
    line->used += n;
}

static void line_add_number(panic_line *line, int number) {
    char digits[16];
    size_t at = sizeof(digits) - 1;
    digits[at] = '\0';
    unsigned rest = number < 0 ? 0u : static_cast<unsigned>(number);
    do {
        digits[--at] = static_cast<char>('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    line_add(line, digits + at);
}

void panic(const char *file, int line_number, const char *what) {
    panic_line line;
    line.used = 0;
    line_add(&line, "libmio: ");
    line_add(&line, file);
    line_add(&line, ":");
    line_add_number(&line, line_number);
    line_add(&line, ": ");
    line_add(&line, what);
    if (line.used == sizeof(line.text)) line.used--;
    line.text[line.used++] = '\n';
    const ssize_t written = write(STDERR_FILENO, line.text, line.used);
    static_cast<void>(written); // nobody is left to be told
    abort();
}

}
