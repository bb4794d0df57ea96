#include "fscryptctl/crypto/key_identifier.h"
