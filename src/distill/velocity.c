/* velocity.c -- see velocity.h. */
#include "distill/velocity.h"
#include "distill/score_objectives.h"

#include "base/internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { STEEP = 16 }; /* of half the range of what a network is told: beyond, one started by draws is worth a note */

/* ---- the path of a process */

static double angle(const rt_process *p, double t) { return t > 0 ? atan2(rt_process_beta(p, t), rt_process_alpha(p, t)) : 0; }

double rt__path_end(const rt_process *p) { return angle(p, rt_process_end(p)); }

/* The slope at knot i of a table of angles that rises with i, of i as a function of the angle: the harmonic mean of its neighbours' weighted as Fritsch &
 * Butland (1984) have it, which keeps the cubic monotone. */
static double knot_slope(const rt_process *p, int T, int i)
{
    double here = angle(p, i);
    if (i == 0) return 1 / (angle(p, 1) - here);
    if (i == T) return 1 / (here - angle(p, T - 1));
    double before = here - angle(p, i - 1), after = angle(p, i + 1) - here;
    double w1 = 2 * after + before, w2 = after + 2 * before;
    return (w1 + w2) / (w1 * before + w2 * after);
}

static void discrete_time(const rt_process *p, double phi, double *t, double *slope)
{
    int T = rt_process_discrete_steps(p), low = 0, high = T; /* angle(low) <= phi < angle(high) */
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (angle(p, middle) <= phi)
            low = middle;
        else
            high = middle;
    }
    double h = angle(p, high) - angle(p, low), u = (phi - angle(p, low)) / h, a = h * knot_slope(p, T, low), b = h * knot_slope(p, T, high);
    *t = low + u * (a + u * (3 - 2 * a - b + u * (a + b - 2)));
    *slope = (a + u * (2 * (3 - 2 * a - b) + u * 3 * (a + b - 2))) / h;
}

/* d network time/dt by differences within the process: rows have it linear, or smooth. */
static double network_rate(const rt_process *p, double t)
{
    double end = rt_process_end(p), d[2];
    t = fmin(t, (1 - 1e-6) * end);
    double h = fmin(fmin(1e-3 * end, t / 64), end - t);
    for (int i = 0; i < 2; i++, h /= 2) d[i] = (rt_process_network_time(p, t + h) - rt_process_network_time(p, t - h)) / (2 * h);
    return (4 * d[1] - d[0]) / 3;
}

rt_status rt__path_at(const rt_process *p, double phi, rt__path_point *at, rt_error *err)
{
    if (!(phi > 0 && phi <= rt__path_end(p) + 1e-12))
        RT_RAISE(RT_E_USAGE, "an angle of %g on the way to noise; must be above 0, at most %g", phi, rt__path_end(p));
    if (rt_process_discrete_steps(p)) {
        double t;
        discrete_time(p, phi, &t, &at->d_network);
        at->network = t + rt_process_network_time(p, 0);
        at->alpha = at->d_beta = cos(phi);
        at->beta = sin(phi);
        at->d_alpha = -at->beta;
        return RT_OK;
    }
    double t = rt_process_time(p, -2 * log(tan(phi))), a = at->alpha = rt_process_alpha(p, t), b = at->beta = rt_process_beta(p, t);
    double da = rt_process_alpha_rate(p, t), db = rt_process_beta_rate(p, t), pace = (a * db - b * da) / (a * a + b * b);
    at->network = rt_process_network_time(p, t);
    at->d_alpha = da / pace;
    at->d_beta = db / pace;
    at->d_network = network_rate(p, t) / pace;
    return RT_OK;
}

double rt__normal_quantile(int m, int n)
{
    double target = (m + 0.5) / n, low = -40, high = 40;
    for (double middle = 0; middle > low && middle < high; middle = (low + high) / 2) {
        if (erfc(-middle / sqrt(2)) / 2 < target)
            low = middle;
        else
            high = middle;
    }
    return high;
}

/* ---- nodes */

/* out = a x0 + b eps is linear in x0 and eps, and so in x and the velocity F: out = P x + D F, with
 *     circle  x0 = cos x - sin F, eps = sin x + cos F        line  x0 = z - t u, eps = z + (1 - t) u                                     */
rt_node *rt__read_velocity(const rt_prediction *p, rt_node *out, rt_node *x, rt_node *a, rt_node *b, bool circle, rt_node *alpha,
                           rt_node *beta)
{
    rt_node *one = rt_scalar(rt_node_graph(x), 1);
    rt_node *P = rt_predict_from(p, circle ? a : one, circle ? b : one, alpha, beta), *D = rt_predict_from(p, rt_neg(b), a, alpha, beta);
    return rt_div(rt_sub(out, rt_mul(P, x)), D);
}

rt_node *rt__velocity_towards(rt_node *x, rt_node *x0, rt_node *a, rt_node *b) { return rt_div(rt_sub(rt_mul(a, x), x0), b); }

rt_node *rt__scm_tangent(rt_node *F, rt_node *dF, rt_node *x, rt_node *dx, rt_node *cos, rt_node *sin, rt_node *r)
{
    const double least = 0.1;
    rt_node *first = rt_mul(rt_square(cos), rt_sub(F, dx)), *second = rt_mul(r, rt_add(rt_mul(rt_mul(cos, sin), x), dF));
    rt_node *g = rt_neg(rt_add(first, second));
    return rt_div(g, rt_per_sample(rt_offset(rt_sqrt(rt_norm2(g)), least), g));
}

rt_node *rt__scm_loss(rt_node *F, rt_node *tangent) { return rt_scale(rt__pull(F, rt_neg(tangent)), 2); }

rt_node *rt__meanflow_target(rt_node *v, rt_node *du, rt_node *t, rt_node *r) { return rt_stop_grad(rt_sub(v, rt_mul(rt_sub(t, r), du))); }

rt_node *rt__meanflow_loss(rt_node *u, rt_node *target, double p, double c)
{
    rt_node *e = rt_norm2(rt_sub(u, target));
    return p == 0 ? e : rt_div(e, rt_pow(rt_offset(rt_stop_grad(e), c), p));
}

/* ---- plans */

rt_status rt__velocity_of(const char *key, const char *name, bool *of_teacher, rt_error *err)
{
    *of_teacher = !strcmp(name, "teacher");
    if (!*of_teacher && strcmp(name, "data"))
        RT_RAISE(RT_E_USAGE, "%s.velocity: '%s'; give teacher (along its flow) or data (towards the data themselves)", key, name);
    return RT_OK;
}

/* Does it say a velocity everywhere? x0 says none at data, epsilon and the score none at noise. */
static bool says_velocity(const rt_prediction *p)
{
    return rt_prediction_check(p, 0, 1, NULL) == RT_OK && strcmp(rt_prediction_name(p), "x0") != 0;
}

/* The teacher's prediction, but a velocity where there is nothing to copy or the teacher's says none. */
static const rt_prediction *student_prediction(const rt_task *t, const char *key, const char *name, rt_error *err)
{
    const rt_prediction *of_teacher = t->teacher.prediction, *given = *name ? rt_prediction_find(name, err) : NULL;
    if (*name && given && !says_velocity(given)) {
        rt_error_set(err, RT_E_USAGE, "%s.prediction: %s says nothing of the velocity at an end of the path; give v or velocity", key,
                     name);
        return NULL;
    }
    if (*name) return given;
    bool keeps = t->teacher.net && says_velocity(of_teacher);
    double half = rt_process_end(t->process) / 2;
    bool straight = fabs(rt_process_alpha(t->process, half) + rt_process_beta(t->process, half) - 1) < 1e-6;
    return keeps ? of_teacher : rt_prediction_find(straight ? "velocity" : "v", err);
}

rt_status rt__plan_velocity(rt_plan *plan, const rt_task *t, const rt__velocity_plan *v, rt_error *err)
{
    const rt_net *net = t->net ? t->net : t->teacher.net;
    int times = net ? rt_net_describe(net)->times : 0;
    if (!t->data && !t->teacher.oracle)
        RT_RAISE(RT_E_USAGE, "%s: %s starts from data, and there are none; give --data", t->config->teacher, v->key);
    if (!v->of_teacher && v->guidance > 0)
        RT_RAISE(RT_E_USAGE, "%s.guidance: %g, but %s.velocity is data: nobody asks the teacher; leave it out", v->key, v->guidance,
                 v->key);
    if (times > 0 && times != (v->two_times ? 2 : 1))
        RT_RAISE(RT_E_USAGE, "%s: the network is told %d time%s, but %s asks for %s; give --net with \"_target_time\": %s in it",
                 *t->config->net ? t->config->net : t->config->teacher, times, times > 1 ? "s" : "", v->key, v->two_times ? "two" : "one",
                 v->two_times ? "true" : "false");
    if (v->two_times && !isfinite(rt_process_network_time(t->process, 0)))
        RT_RAISE(RT_E_USAGE, "%s: %s tells the network the time of data, which the process %s has not; give a teacher on another process",
                 t->config->teacher, v->key, rt_process_name(t->process));
    if (rt_config_compute(t->config) == RT_BF16)
        RT_RAISE(RT_E_USAGE, "dtype: bf16, but %s differentiates in time, for which bf16 has too few digits; give f32", v->key);
    if (v->teacher_steps % v->steps)
        RT_RAISE(RT_E_USAGE, "%s.steps: %d does not divide %d, the steps of the teacher", v->key, v->steps, v->teacher_steps);
    /* In what it is told a network started by draws has a derivative of about its own size, so one in time that is larger by this factor. */
    double told = fabs(rt_process_network_time(t->process, rt_process_end(t->process)) -
                       rt_process_network_time(t->process, rt_process_end(t->process) / 2));
    if (!t->teacher.net && !t->init.set && told > STEEP && t->note) {
        char line[256];
        snprintf(line, sizeof line,
                 "a network started by draws is told times up to %g, in which it is too steep for its derivative to mean much; give "
                 "--init, or an oracle whose process has few timesteps, such as 4",
                 rt_process_network_time(t->process, rt_process_end(t->process)));
        t->note(t->self, line);
    }
    const rt_prediction *prediction = student_prediction(t, v->key, v->prediction, err);
    if (!prediction) return RT_E_USAGE;
    plan->n_rounds = 1;
    plan->rounds[0].teacher_steps = plan->step_counts[0] = v->teacher_steps;
    plan->rounds[0].steps = plan->step_counts[1] = v->steps;
    plan->n_step_counts = v->steps < v->teacher_steps ? 2 : 1;
    rt_network_plan *student = rt__plan_student(plan, t);
    student->prediction = prediction;
    student->solver = rt_solver_find(v->solver, err);
    return rt__plan_teacher(plan, t, v->key, "dpmpp-2m", v->guidance, err);
}
