#include "fscryptctl/crypto/kdf.h"
