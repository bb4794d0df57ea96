#include "fscryptctl/kernel/holders.h"
