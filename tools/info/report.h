// The facts in words, or as one line of JSON; on standard output.
#pragma once

#include "info/facts.h"

namespace info {

void report_text(const facts *f);
void report_json(const facts *f);

}
