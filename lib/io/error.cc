// What the library says of itself: the names and texts of its errors, and its version.
//
// Everything is made from the one table in <mio/error.h>, so that an error that is added there has its name and its
// text at once. The strings are constants and nothing is locked: callable from any thread, in diagnostics, after the
// last loop is gone.

#include <mio/error.h>

const char *mio_error_name(int64_t error) {
    switch (error) {
#define NAME_OF(name, value, text) \
    case name: return #name;
        MIO_ERRORS(NAME_OF)
#undef NAME_OF
    }
    return "MIO_E?";
}

const char *mio_error_text(int64_t error) {
    switch (error) {
#define TEXT_OF(name, value, text) \
    case name: return text;
        MIO_ERRORS(TEXT_OF)
#undef TEXT_OF
    }
    return "unknown error";
}

#define TEXT_OF_NUMBER(number) #number
#define VERSION_OF(major, minor, patch) TEXT_OF_NUMBER(major) "." TEXT_OF_NUMBER(minor) "." TEXT_OF_NUMBER(patch)

const char *mio_version(void) { return VERSION_OF(MIO_VERSION_MAJOR, MIO_VERSION_MINOR, MIO_VERSION_PATCH); }
