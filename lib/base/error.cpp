#include "fscryptctl/base/error.h"
