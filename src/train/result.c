/* result.c -- what a run leaves: a folder that diffusers loads and that carries its recipe; pictures from the same noise. */
#include "distill/sources.h"
#include "train/run.h"

#include "base/files.h"
#include "base/internal.h"
#include "model/student_folder.h"
#include "retort/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = RT_CONFIG_TEXT + 96 };

/* How samples are drawn from the deployed network. */
static rt_student_recipe recipe_of(const rt__run *run)
{
    const rt_task *t = &run->task;
    const rt_network *n = rt__deployed(t);
    const rt_net_info *net = rt_net_describe(n->denoiser.net);
    int steps = run->round.steps;
    rt_student_recipe r = {.version = 1,
                           .steps = steps,
                           .draws = net->draws,
                           .input_scale = t->plan.start > 0 ? rt__start_scale(t) : 0,
                           .has_range = net->guidance,
                           .guidance_low = t->plan.omega_low,
                           .guidance_high = t->plan.omega_high,
                           .guidance_default = n->plan->guidance,
                           .null_class = t->null_class,
                           .low = t->low,
                           .high = t->high};
    snprintf(r.method, sizeof r.method, "%s", run->config->method);
    snprintf(r.solver, sizeof r.solver, "%s", rt_solver_get_info(n->denoiser.solver)->name);
    for (int k = 0; k < steps && k < RT_RECIPE_STEPS; k++)
        r.timesteps[k] = rt_process_network_time(t->process, t->grid[k * (t->plan.step_counts[0] / steps)]);
    if (run->teacher) snprintf(r.teacher_sha256, sizeof r.teacher_sha256, "%s", rt_model_get_info(run->teacher)->sha256);
    return r;
}

static rt_status write_folder(rt__run *run, const char *name, rt_error *err)
{
    const rt_network *n = rt__deployed(&run->task);
    rt_denoiser used;
    rt_scheduler_config c;
    char folder[PATH], temporary[PATH];
    RT_TRY(rt__network_use(n, &used, err));
    snprintf(folder, sizeof folder, "%s/%s", run->config->out, name);
    snprintf(temporary, sizeof temporary, "%s/.writing-%s", run->config->out, name);
    bool selected = run->selected && run->at.watch.best_update > 0;
    rt__student_folder s = {.net = n->denoiser.net,
                            .values = selected ? run->selected : used.set,
                            .raw = n->average && !selected ? n->set : NULL,
                            .process = run->task.process,
                            .scheduler = &c};
    if (!s.process) return rt__student_folder_write(&s, folder, temporary, err);
    RT_TRY(rt_scheduler_config_student(&c, rt_scheduler_get_config(run->scheduler), n->denoiser.prediction, err));
    c.recipe = recipe_of(run);
    if (!strcmp(c.recipe.solver, "renoise")) rt_scheduler_config_renoise(&c);
    rt_status status = rt__student_folder_write(&s, folder, temporary, err);
    rt_scheduler_config_free(&c);
    return status;
}

/* Another network of the run as a folder beside the result, with the teacher's scheduler. */
static rt_status write_kept(const rt__run *run, const rt_network *n, rt_error *err)
{
    const rt_task *t = &run->task;
    char folder[PATH], temporary[PATH];
    rt_scheduler_config c;
    snprintf(folder, sizeof folder, "%s/%s", run->config->out, n->plan->name);
    snprintf(temporary, sizeof temporary, "%s/.writing-%s", run->config->out, n->plan->name);
    RT_TRY(rt_scheduler_config_student(&c, rt_scheduler_get_config(run->scheduler), n->denoiser.prediction, err));
    c.recipe = (rt_student_recipe){.version = 1, .null_class = t->null_class, .low = t->low, .high = t->high};
    snprintf(c.recipe.method, sizeof c.recipe.method, "%s", rt_method_called(run->config->method));
    rt__student_folder s = {.net = n->denoiser.net, .values = n->set, .process = t->process, .scheduler = &c};
    rt_status status = rt__student_folder_write(&s, folder, temporary, err);
    rt_scheduler_config_free(&c);
    return status;
}

static rt_status write_shown(rt__run *run, rt_error *err)
{
    const rt_task *t = &run->task;
    RT_TRY(t->method->showing->result(&run->round, err));
    for (int i = 0; i < t->plan.n_networks; i++)
        if (t->plan.networks[i].kept) RT_TRY(write_kept(run, &t->networks[i], err));
    return RT_OK;
}

rt_status rt__result_write(rt__run *run, rt_error *err)
{
    char name[64];
    const char *result = rt__deployed(&run->task)->plan->name;
    if (!rt__run_writes(run)) return RT_OK;
    if (run->task.method->showing) return write_shown(run, err);
    if (run->task.plan.n_rounds > 1) {
        snprintf(name, sizeof name, "%.40s-%d", result, run->round.steps);
        RT_TRY(write_folder(run, name, err));
    }
    return write_folder(run, result, err);
}

/* ---- pictures from the same noise through the run */

enum { STEPS = 16, TEACHER_STEPS = 32, COLUMNS = 10, POINTS = 16 }; /* POINTS: as many as one picture */

int64_t rt__pictures_every(const rt__run *run)
{
    int64_t n = rt__round_updates(run->config, run->at.round);
    if (run->config->run.sample_every > 0) return run->config->run.sample_every;
    return n / 8 > 100 ? n / 8 : 100;
}

/* As many samples as cost an eighth of what the updates between two pictures cost forwards, at least a row, at most what the settings say. */
static int64_t count_samples(const rt__run *run, bool points, int steps)
{
    const rt_config *c = run->config;
    int64_t every = rt__pictures_every(run), updates = rt__round_updates(c, run->at.round), each = points ? POINTS : 1;
    int64_t n = (every < updates ? every : updates) * c->train.batch / (8 * steps), most = c->run.samples * each;
    if (n < COLUMNS * each) n = COLUMNS * each;
    return n < most ? n : most;
}

/* n samples x of a denoiser from noise of the name "pictures", along every stride-th of `times`. */
static rt_status draw(const rt_task *t, const rt_denoiser *m, const double *times, int stride, int steps, double scale, int64_t n, float *x,
                      const int64_t *y, rt_error *err)
{
    rt_solver_map e = {0};
    uint64_t seed = t->config->seed;
    for (int64_t i = 0; i < n; i++) rt__noise(seed, "pictures", 0, (uint32_t)i, scale, t->features, x + i * t->features);
    rt_status s = rt__map_open(&e, t, m, n < 64 ? n : 64, seed, err);
    if (s == RT_OK) s = rt__solver_map_roll(&e, times, stride, steps, n, x, 0, y, &(rt_frozen){"pictures draws", 0, 0}, err);
    rt__solver_map_close(&e);
    return s;
}

/* What points are held against: data, or without them the first teacher's samples. */
static rt_status draw_beside(const rt_task *t, int64_t n, float *x, int64_t *y, rt_error *err)
{
    for (int64_t i = 0; i < n && t->data; i++)
        rt_dataset_read(t->data, rt_permute_index(0, 0, rt_dataset_describe(t->data)->count, i % rt_dataset_describe(t->data)->count),
                        x + 2 * i, &y[i]);
    if (t->data) return RT_OK;
    rt_denoiser teacher = t->teacher;
    double times[TEACHER_STEPS + 1];
    teacher.solver = rt_solver_find("ddim", err);
    for (int64_t i = 0; i < n; i++) y[i] = rt__class_of(t, i);
    RT_TRY(rt_grid_build("uniform", t->process, TEACHER_STEPS, times, err));
    return draw(t, &teacher, times, 1, TEACHER_STEPS, rt_process_noise_scale(t->process), n, x, y, err);
}

static rt_status write_pictures(const rt__run *run, int64_t n, float *x, int64_t *y, float *beside, int64_t *labels, rt_error *err)
{
    const rt_task *t = &run->task;
    char path[PATH];
    snprintf(path, sizeof path, "%s/samples/update-%lld.png", run->config->out, (long long)run->at.updates);
    if (beside) RT_TRY(draw_beside(t, n, beside, labels, err));
    if (t->dry_run) return RT_OK;
    if (!beside) return rt_png_grid(path, n, x, (int)t->shape[1], (int)t->shape[2], (int)t->shape[3], t->low, t->high, COLUMNS, 2, err);
    const rt_point_panel panels[] = {{t->data ? "data" : "teacher", n, beside, t->classes > 0 ? labels : NULL},
                                     {rt__deployed(t)->plan->name, n, x, t->classes > 0 ? y : NULL}};
    return rt_png_points(path, panels, 2, err);
}

rt_status rt__run_pictures(rt__run *run, rt_error *err)
{
    rt_task *t = &run->task;
    rt_denoiser used;
    if (t->method->showing) return rt__run_writes(run) ? t->method->showing->pictures(&run->round, run->at.updates, err) : RT_OK;
    bool points = t->rank == 2 && t->features == 2, pictures = t->rank == 4 && (t->shape[1] == 1 || t->shape[1] == 3 || t->shape[1] == 4);
    if (!rt__run_writes(run) || !t->process || !(points || pictures)) return RT_OK;
    int own_steps = run->round.steps, steps = own_steps > 0 ? own_steps : STEPS,
        stride = own_steps > 0 ? t->plan.step_counts[0] / own_steps : 1;
    int64_t n = count_samples(run, points, steps + (points && !t->data ? TEACHER_STEPS : 0));
    double own[STEPS + 1], *times = own_steps > 0 ? t->grid : own,
                           scale = own_steps > 0 ? rt__start_scale(t) : rt_process_noise_scale(t->process);
    float *x = malloc((size_t)((points ? 2 : 1) * n * t->features) * sizeof *x), *beside = x && points ? x + n * t->features : NULL;
    int64_t *y = malloc((size_t)(2 * n) * sizeof *y);
    rt_status s = x && y ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %lld pictures", (long long)n);
    for (int64_t i = 0; i < n && s == RT_OK; i++) y[i] = rt__class_of(t, i);
    if (s == RT_OK && own_steps <= 0) s = rt_grid_build("uniform", t->process, STEPS, own, err);
    if (s == RT_OK) s = rt__network_use(rt__deployed(t), &used, err);
    if (s == RT_OK) s = draw(t, &used, times, stride, steps, scale, n, x, y, err);
    if (s == RT_OK) s = write_pictures(run, n, x, y, beside, y + n, err);
    free(x);
    free(y);
    return s;
}
