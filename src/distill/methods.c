/* methods.c -- the table of methods, and the settings that each begins with. */
#include "distill/method.h"

#include "base/internal.h"

#include <string.h>

const rt_method *const rt__methods[] = {&rt__method_denoise, &rt__method_classify, &rt__method_kd, &rt__method_pd, &rt__method_map, NULL};

bool rt_method_describe(int i, rt_row_text *row)
{
    if (i < 0 || (size_t)i + 1 >= RT_COUNT(rt__methods)) return false;
    *row = (rt_row_text){.name = rt__methods[i]->name, .source = rt__methods[i]->source, .text = rt__methods[i]->title};
    return true;
}

rt_status rt_config_method(rt_config *c, const char *method, rt_error *err)
{
    const char *names[RT_COUNT(rt__methods)];
    size_t n = 0;
    for (; rt__methods[n]; n++) {
        names[n] = rt__methods[n]->name;
        if (strcmp(names[n], method) != 0) continue;
        rt_config_default(c);
        RT_TRY(rt_config_set(c, "method", method, err));
        for (const char *const *d = rt__methods[n]->defaults; d && d[0]; d += 2) RT_TRY(rt_config_set(c, d[0], d[1], err));
        return RT_OK;
    }
    const char *close = rt_closest(method, names, n);
    RT_RAISE(RT_E_USAGE, "unknown method '%s'%s%s%s; `retort list methods` prints all", method, close ? "; did you mean '" : "",
             close ? close : "", close ? "'?" : "");
}
