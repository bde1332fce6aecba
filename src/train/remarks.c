/* remarks.c -- what is allowed and seldom meant: said once, before a run begins. */
#include "distill/sources.h"
#include "train/run.h"

#include "base/internal.h"
#include "model/model_parts.h"
#include "retort/scene.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 2 * RT_CONFIG_TEXT };

static void say(const rt__run *run, const char *line)
{
    if (run->observer && run->observer->note) run->observer->note(run->observer->self, line);
}

/* A class table with more rows than the data's labels and one null class. */
static void class_table(const rt__run *run)
{
    const rt_task *t = &run->task;
    const rt_dataset_info *i = run->data ? rt_dataset_describe(run->data) : NULL;
    char line[LINE];
    if (!i || t->classes == 0 || (run->net && rt_net_describe(run->net)->words) ||
        (run->teacher && rt_model_get_info(run->teacher)->words) || rt__deployed(t)->denoiser.net == NULL ||
        rt_net_describe(rt__deployed(t)->denoiser.net)->classifier)
        return;
    int known = i->classes > 0 ? i->classes : 1, rows = t->classes - (t->null_class >= 0);
    if (rows <= known) return;
    if (i->classes == 0)
        snprintf(line, sizeof line, "%s has no labels, and the network a table of %d classes: everything is class 0",
                 run->config->data.path, t->classes);
    else
        snprintf(line, sizeof line, "%s has %d classes, the network's table %d%s: what is trained never sees the others",
                 run->config->data.path, known, t->classes,
                 t->null_class >= 0 ? " with the null class"
                 : run->teacher     ? ""
                                    : ", none of which is the null class");
    say(run, line);
}

/* A student as teacher knows the times of its own steps only. */
static void few_step_teacher(const rt__run *run)
{
    const rt_plan *plan = &run->task.plan;
    const rt_student_recipe *r = run->teacher ? &rt_model_get_info(run->teacher)->recipe : NULL;
    int steps = plan->held_out > 0 ? plan->rounds[0].teacher_steps : 0; /* 0: a method that asks the teacher at any time */
    char line[LINE], where[48] = "any time";
    if (!r || r->steps == 0 || r->steps == steps) return;
    if (steps > 0) snprintf(where, sizeof where, "the times of %d steps", steps);
    snprintf(line, sizeof line, "%s is a student of %d step%s, made for their times only, and is asked at %s here", run->config->teacher,
             r->steps, r->steps > 1 ? "s" : "", where);
    say(run, line);
}

/* At the noisiest time x is beta eps but for alpha/beta: a network of epsilon gives x back, those of v and x0 hardly depend on it. */
static const double faint = 0.1, half = 0.5;

/* <out, x>/<x, x> there, beta times which is near 1 or near 0. */
static rt_status share_of_noise(const rt__run *run, double *share, rt_error *err)
{
    enum { NUMBERS = 1024, FEWEST = 4 };
    const rt_task *t = &run->task;
    const rt_config *c = run->config;
    int64_t d = t->features, n = NUMBERS / d > FEWEST ? NUMBERS / d : FEWEST;
    double end = rt_process_end(t->process), beta = rt_process_beta(t->process, end), of_out = 0, of_x = 0;
    const rt_camera front = rt_camera_orbit(0, 0, 3.2, 36); /* one for all, of networks that are told a camera */
    rt_evaluator e = {0};
    float *x = malloc((size_t)(2 * n * d) * sizeof *x), *out = x + n * d;
    double *times = malloc((size_t)n * sizeof *times);
    int64_t *y = malloc((size_t)n * sizeof *y);
    rt_status s = x && times && y ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %lld samples", (long long)n);
    rt_evaluator_spec spec = {.denoiser = t->teacher,
                              .process = t->process,
                              .program = {.batch = n,
                                          .threads = c->threads,
                                          .choices = t->choices,
                                          .rehearsal = t->dry_run,
                                          .backend = *c->backend ? rt_backend_find(c->backend) : NULL,
                                          .compute = rt_config_compute(c)}};
    for (int64_t i = 0; i < n && s == RT_OK; i++) {
        rt__noise(c->seed, "recipe", 0, (uint32_t)i, beta, d, x + i * d);
        times[i] = rt_process_network_time(t->process, end);
        y[i] = rt__class_of(t, i);
    }
    if (s == RT_OK) s = rt__evaluator_open(&e, &spec, err);
    e.cameras = front.c2w, e.samples = 1;
    if (s == RT_OK) s = rt__evaluator_rows(&e, n, x, times, t->classes ? y : NULL, out, NULL, err);
    for (int64_t i = 0; i < n * d && s == RT_OK; i++) of_out += (double)out[i] * (double)x[i], of_x += (double)x[i] * (double)x[i];
    *share = beta * of_out / of_x;
    rt__evaluator_close(&e);
    free(x);
    free(times);
    free(y);
    return s;
}

/* prediction_type is the word of whoever wrote the folder: a wrong one trains, with losses of any size. */
static rt_status prediction(const rt__run *run, rt_error *err)
{
    const rt_task *t = &run->task;
    const char *name = t->teacher.prediction ? rt_prediction_name(t->teacher.prediction) : "";
    bool epsilon = !strcmp(name, "epsilon"), data = !strcmp(name, "v") || !strcmp(name, "x0");
    double end = t->process ? rt_process_end(t->process) : 0, share;
    char line[LINE];
    if (!t->teacher.net || rt_net_describe(t->teacher.net)->times != 1 || (!epsilon && !data)) return RT_OK;
    if (rt_process_alpha(t->process, end) > faint * rt_process_beta(t->process, end)) return RT_OK;
    RT_TRY(share_of_noise(run, &share, err));
    if (t->dry_run || (epsilon ? share > half : share < half)) return RT_OK;
    snprintf(
        line, sizeof line,
        "%s predicts %s by its scheduler, but at the noisiest time its output holds %.2g of the noise, where %s: is prediction_type right?",
        run->config->teacher, name, share, epsilon ? "epsilon is the noise, v and x0 hold next to none" : "it should hold next to none");
    say(run, line);
    return RT_OK;
}

rt_status rt__run_remarks(const rt__run *run, rt_error *err)
{
    class_table(run);
    few_step_teacher(run);
    return prediction(run, err);
}
