/* methods.c -- the table of methods. */
#include "distill/method.h"

#include "base/internal.h"

#include <string.h>

const rt_method *const rt__methods[] = {&rt__method_denoise, &rt__method_classify, &rt__method_kd,  &rt__method_pd,        &rt__method_map,
                                        &rt__method_guide,   &rt__method_vsd,      &rt__method_sid, &rt__method_dmd,       &rt__method_dmd2,
                                        &rt__method_f,       &rt__method_renyi,    &rt__method_cd,  &rt__method_ct,        &rt__method_ect,
                                        &rt__method_scm,     &rt__method_meanflow, &rt__method_sds, &rt__method_vsd_scene, NULL};

bool rt_method_describe(int i, rt_row_text *row)
{
    if (i < 0 || (size_t)i + 1 >= RT_COUNT(rt__methods)) return false;
    *row = (rt_row_text){.name = rt__methods[i]->name, .source = rt__methods[i]->source, .text = rt__methods[i]->title};
    return true;
}

const rt_method *rt__method_find(const char *name)
{
    for (int i = 0; rt__methods[i]; i++)
        if (!strcmp(rt__methods[i]->name, name)) return rt__methods[i];
    return NULL;
}

bool rt_method_needs_teacher(const char *method)
{
    const rt_method *m = rt__method_find(method);
    return m && m->needs_teacher;
}

bool rt_method_makes_scene(const char *method)
{
    const rt_method *m = rt__method_find(method);
    return m && m->showing;
}

const char *rt_method_with_scene(const char *method)
{
    for (int i = 0; rt__methods[i]; i++)
        if (rt__methods[i]->of && !strcmp(rt__methods[i]->of, method)) return rt__methods[i]->name;
    return NULL;
}

const char *rt_method_command(const char *method)
{
    const rt_method *m = rt__method_find(method);
    return m && m->of ? m->of : method;
}

const char *rt_method_called(const char *method)
{
    const rt_method *m = rt__method_find(method);
    return m && m->called ? m->called : method;
}

rt_status rt__method_unknown(const char *name, rt_error *err)
{
    const char *names[RT_COUNT(rt__methods)];
    size_t n = 0;
    for (; rt__methods[n]; n++) names[n] = rt__methods[n]->name;
    const char *close = rt_closest(name, names, n);
    RT_RAISE(RT_E_USAGE, "unknown method '%s'%s%s%s; `retort list methods` prints all", name, close ? "; did you mean '" : "",
             close ? close : "", close ? "'?" : "");
}
