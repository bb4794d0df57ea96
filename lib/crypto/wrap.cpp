#include "fscryptctl/crypto/wrap.h"
