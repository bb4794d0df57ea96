#include "fscryptctl/metadata/config.h"
