"""Let pytest run the examples in a single file of acon_mm.

pytest would execute such a file twice, on its own and with its package, and the second time its
classes are registered already.
"""

import acon_mm.models  # noqa: F401
