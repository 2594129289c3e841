// What captures forbid.
#pragma once

#include "stand_in.h"

namespace stand_in {

/// Whether a call that may wait for the device is allowed in this thread now.
Result allowed_by_captures();

/// Whether a call that cannot be recorded is allowed on the stream now.
Result allowed_on(void* stream);

}  // namespace stand_in
