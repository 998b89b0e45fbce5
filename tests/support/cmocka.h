// cmocka for C++: its header (1.1.5) declares without extern "C" and wants these four before it.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

extern "C" {
#include <cmocka.h>
}
