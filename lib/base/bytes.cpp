#include "fscryptctl/base/bytes.h"
