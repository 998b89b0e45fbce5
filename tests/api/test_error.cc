// Errors: names, texts, and numbers that can be told apart.
#include "harness.h"

using namespace api;

struct row {
    const char *name;
    int64_t value;
    const char *text;
};

static const row table[] = {
#define ROW(name, value, text) {#name, name, text},
    MIO_ERRORS(ROW)
#undef ROW
};

TEST(every_error_has_its_name_and_text_and_is_negative) {
    for (const row &one : table) {
        ck_assert_int_lt(one.value, 0);
        ck_assert_str_eq(mio_error_name(one.value), one.name);
        ck_assert_str_eq(mio_error_text(one.value), one.text);
    }
}

TEST(no_two_errors_have_one_number) {
    for (const row &one : table)
        for (const row &other : table) ck_assert(&one == &other || one.value != other.value);
}

TEST(what_is_no_error_is_unknown) {
    const int64_t strangers[] = {0, 1, 42, -4096, -100000, -4098, INT64_MIN, INT64_MAX, -(1LL << 32) - 22, 1LL << 32};
    for (int64_t stranger : strangers) {
        ck_assert_str_eq(mio_error_name(stranger), "MIO_E?");
        ck_assert_str_eq(mio_error_text(stranger), "unknown error");
    }
}

TEST(errors_of_the_system_are_minus_errno_and_others_lie_below) {
    assert_is(MIO_ECONNRESET, -ECONNRESET);
    assert_is(MIO_EINVAL, -EINVAL);
    assert_is(MIO_ENOTSUP, -ENOTSUP);
    ck_assert_int_lt(MIO_EOF, -4096);
}
