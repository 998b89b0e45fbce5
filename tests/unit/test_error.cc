// The table of errors: what each value promises, and that names, texts and values belong together.
#include "support/cmocka.h"

#include <mio/base.h>
#include <mio/error.h>

#include <stdio.h>
#include <string.h>

struct row {
    const char *name;
    int64_t value;
    const char *text;
};

static const row rows[] = {
#define ROW(name, value, text) {#name, name, text},
    MIO_ERRORS(ROW)
#undef ROW
};
static constexpr size_t ROWS = sizeof rows / sizeof rows[0];

static void test_every_error_is_negative(void **) {
    for (const row &r : rows) assert_true(r.value < 0);
    assert_int_equal(MIO_OK, 0);
}

static void test_what_the_system_lacks_is_below_4096(void **) {
    assert_true(MIO_EOF < -4096);
    assert_int_equal(MIO_ECONNRESET, -ECONNRESET);
    for (const row &r : rows)
        if (r.value >= -4096) assert_string_not_equal(strerror(static_cast<int>(-r.value)), "");
}

static void test_no_two_are_the_same(void **) {
    for (size_t i = 0; i < ROWS; i++) {
        for (size_t k = 0; k < i; k++) {
            assert_true(rows[i].value != rows[k].value);
            assert_string_not_equal(rows[i].name, rows[k].name);
            assert_string_not_equal(rows[i].text, rows[k].text);
        }
    }
}

static void test_each_has_its_name_and_text(void **) {
    for (const row &r : rows) {
        assert_string_equal(mio_error_name(r.value), r.name);
        assert_string_equal(mio_error_text(r.value), r.text);
        assert_int_equal(strncmp(r.name, "MIO_E", 5), 0);
        assert_true(strlen(r.text) > 3);
    }
}

static void test_other_values_have_none(void **) {
    const int64_t others[] = {0,         1,        EINVAL,  ECONNRESET, 4097,      -4096, -4098,
                              INT32_MIN, INT64_MIN, INT64_MAX, -5000, INT64_C(-4294967296) + MIO_EINVAL};
    for (int64_t value : others) {
        assert_string_equal(mio_error_name(value), "MIO_E?");
        assert_string_equal(mio_error_text(value), "unknown error");
    }
}

static void test_strings_are_constants(void **) {
    assert_ptr_equal(mio_error_name(MIO_EOF), mio_error_name(MIO_EOF));
    assert_ptr_equal(mio_error_text(12345), mio_error_text(54321));
}

static void test_version_is_that_of_the_headers(void **) {
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", MIO_VERSION_MAJOR, MIO_VERSION_MINOR, MIO_VERSION_PATCH);
    assert_string_equal(mio_version(), text);
}

int main() {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_error_is_negative),
        cmocka_unit_test(test_what_the_system_lacks_is_below_4096),
        cmocka_unit_test(test_no_two_are_the_same),
        cmocka_unit_test(test_each_has_its_name_and_text),
        cmocka_unit_test(test_other_values_have_none),
        cmocka_unit_test(test_strings_are_constants),
        cmocka_unit_test(test_version_is_that_of_the_headers),
    };
    return cmocka_run_group_tests_name("error", tests, nullptr, nullptr);
}
