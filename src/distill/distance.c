/* distance.c -- the table of distances d of (1.10), per sample and, as losses are quoted, per feature. */
#include "distill/method.h"

#include "base/internal.h"
#include "distill/consistency.h"
#include "diffusion/diffusion_rows.h"

#include <math.h>

static rt_node *l2(const rt_task *t, rt_node *a, rt_node *b) { return rt__mean_square(t, a, b); }

static rt_node *l1(const rt_task *t, rt_node *a, rt_node *b)
{
    rt_node *apart = rt_abs(rt_sub(a, b));
    return rt_scale(rt_dot(apart, rt_offset(rt_zeros_like(apart), 1)), 1.0 / (double)t->features);
}

#define HUBER 0.00054 /* Song & Dhariwal 2023: c = 0.00054 sqrt(features) */
static rt_node *huber(const rt_task *t, rt_node *a, rt_node *b) { return rt__huber_sample(a, b, HUBER * sqrt((double)t->features)); }

#define HUBER_ELEMENT 0.001 /* Luo et al. 2023 */
static rt_node *huber_elements(const rt_task *t, rt_node *a, rt_node *b)
{
    return rt_scale(rt__huber_elements(a, b, HUBER_ELEMENT), 1.0 / (double)t->features);
}

static const struct {
    const char *name, *source, *formula;
    rt__distance of;
} rows[] = {
    {"l2", "(1.10)", "|a - b|^2 per feature", l2},
    {"l1", "Luhman & Luhman 2021", "sum of |a_i - b_i| per feature", l1},
    {"pseudo-huber", "Song & Dhariwal 2023", "sqrt(|a - b|^2 + c^2) - c, c = 0.00054 sqrt(features)", huber},
    {"huber-elements", "Luo et al. 2023, LCM", "sum of sqrt((a_i - b_i)^2 + c^2) - c per feature, c = 0.001", huber_elements},
};

bool rt_distance_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)RT_COUNT(rows)) return false;
    *row = (rt_row_text){rows[i].name, rows[i].source, rows[i].formula};
    return true;
}

rt__distance rt__distance_find(const char *key, const char *name, rt_error *err)
{
    int i = RT__FIND("distances", name, rows, err);
    if (i < 0) rt_error_prefix(err, "%s", key);
    return i < 0 ? NULL : rows[i].of;
}
