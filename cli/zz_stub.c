#include "retort/graph.h"
const char *const *rt_backend_names(void) { static const char *const n[]={"reference","onednn",NULL}; return n; }
