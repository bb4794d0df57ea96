#include "fscryptctl/base/fs_identity.h"
