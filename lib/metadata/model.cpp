#include "fscryptctl/metadata/model.h"
