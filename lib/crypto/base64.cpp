#include "fscryptctl/crypto/base64.h"
