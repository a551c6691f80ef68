// For any CPU.
#include "module.h"
