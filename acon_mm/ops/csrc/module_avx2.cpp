// For CPUs with AVX2, FMA and F16C.
#include "module.h"
