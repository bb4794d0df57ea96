#include "fscryptctl/base/mount_table.h"
