// The calls on files of a failing table (support/failing.h): all of them are one kind of call there, call::file.
#pragma once

#include "support/calls.h"

namespace test {

// Around another table. failing.cc: counts one, and gives the error to fail with, or 0.
const mio::sys_files *failing_files_open(const mio::sys_files *base);
int failing_called(call which);

}
