// For the registry.
#pragma once

#include "core/backend.h"

namespace mio {

extern const backend backend_kqueue;

}
