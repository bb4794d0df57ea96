#include "fscryptctl/kernel/linux_kernel.h"
