#include "fscryptctl/crypto/random.h"
