"""The edges of the system, a module for each function: an event in, one call of a flow, its result out.

While a function's modules are loaded, a great many objects are made and hardly any become garbage, but the collector
looks through all of them again and again: a twentieth of the loading. So it pauses until the handler is defined, and
never looks at what was loaded by then (`observed` in runtime/observability.py).
"""

import gc

gc.disable()
