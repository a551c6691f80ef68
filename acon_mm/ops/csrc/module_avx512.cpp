// For CPUs with AVX-512 F, BW, DQ and VL.
#include "module.h"
