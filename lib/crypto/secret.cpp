#include "fscryptctl/crypto/secret.h"
