#include "fscryptctl/metadata/yaml_codec.h"
