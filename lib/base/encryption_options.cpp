#include "fscryptctl/base/encryption_options.h"
