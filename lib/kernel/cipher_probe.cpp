#include "fscryptctl/kernel/cipher_probe.h"
