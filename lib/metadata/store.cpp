#include "fscryptctl/metadata/store.h"
