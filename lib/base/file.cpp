#include "fscryptctl/base/file.h"
