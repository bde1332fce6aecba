/* result.c -- what a run leaves: a folder that diffusers loads and that carries its recipe; pictures from the same noise. */
#include "distill/sources.h"
#include "train/run.h"

#include "base/files.h"
#include "base/internal.h"
#include "model/classes.h"
#include "retort/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = RT_CONFIG_TEXT + 96 };

static const rt_net_info *deployed_net(const rt__run *run) { return rt_net_describe(rt__deployed(&run->task)->denoiser.net); }

static const rt_solver_info *deployed_solver(const rt__run *run) { return rt_solver_get_info(rt__deployed(&run->task)->denoiser.solver); }
static bool renoises(const rt__run *run) { return !strcmp(deployed_solver(run)->name, "renoise"); }

/* diffusers' DDIM steps by T // N: another grid where N does not divide T. */
static bool ddim_exact(int64_t T, const rt_student_recipe *r) { return r->steps == 0 || T % r->steps == 0; }

/* LCMScheduler takes c_skip x + c_out x0 for x0, with c_skip = 1/(1 + (20 t)^2), c_out = sqrt(1 - c_skip). */
static double lcm_skip(const rt_student_recipe *r) { return 1 / (1 + pow(20 * r->timesteps[r->steps - 1], 2)); }
static const double most_skip = 1e-6; /* a float's rounding or so */

static rt_status write_scheduler(rt__run *run, rt_scheduler_config *c, const char *folder, rt_error *err)
{
    const rt_task *t = &run->task;
    const rt_net_info *net = deployed_net(run);
    rt_student_recipe *r = &c->recipe;
    int T = rt_process_discrete_steps(t->process), steps = run->round.steps;
    *r = (rt_student_recipe){.version = 1,
                             .steps = steps,
                             .draws = net->draws,
                             .input_scale = t->plan.start > 0 ? rt__start_scale(t) : 0,
                             .has_range = net->guidance,
                             .guidance_low = t->plan.omega_low,
                             .guidance_high = t->plan.omega_high,
                             .guidance_default = rt__deployed(t)->plan->guidance,
                             .null_class = t->null_class,
                             .low = t->low,
                             .high = t->high};
    snprintf(r->method, sizeof r->method, "%s", run->config->method);
    snprintf(r->solver, sizeof r->solver, "%s", deployed_solver(run)->name);
    for (int k = 0; k < steps && k < RT_RECIPE_STEPS; k++)
        r->timesteps[k] = rt_process_network_time(t->process, t->grid[k * (t->plan.step_counts[0] / steps)]);
    /* diffusers has no continuous processes, nor networks that are told more than a time or see draws */
    bool same_steps = renoises(run) ? lcm_skip(r) <= most_skip : ddim_exact(T, r);
    r->exact_in_diffusers = T > 0 && same_steps && net->told == 1 && net->draws == 0 && t->plan.start == 0;
    if (run->teacher) snprintf(r->teacher_sha256, sizeof r->teacher_sha256, "%s", rt_model_get_info(run->teacher)->sha256);
    char path[PATH + 64];
    snprintf(path, sizeof path, "%s/scheduler", folder);
    RT_TRY(rt__make_folders(path, err));
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", folder);
    return rt_scheduler_config_write(c, path, err);
}

static void write_timesteps(FILE *f, const rt_student_recipe *r)
{
    for (int k = 0; k < r->steps; k++) fprintf(f, "%s%.0f", k ? ", " : "", r->timesteps[k]);
}

/* Ten times the tokens of the first prompt. */
static void prompt_tokens(const rt_words *w, char *out, size_t size)
{
    int64_t tokens[RT_WORDS_LENGTH];
    size_t at = (size_t)snprintf(out, size, ", class_labels=torch.tensor([[");
    rt_words_tokens(w, rt_words_prompts(w) > 0 ? rt_words_prompt(w, 0) : 0, tokens);
    for (int k = 0; k < rt_words_length(w) && at < size; k++)
        at += (size_t)snprintf(out + at, size - at, "%s%lld", k ? ", " : "", (long long)tokens[k]);
    if (at < size) snprintf(out + at, size - at, "]] * 10)");
}

static void write_words(FILE *f, const rt_words *w)
{
    char text[RT_WORDS_TEXT];
    if (rt_words_prompts(w) > 0)
        fprintf(f, "\nIts class_labels are \"%s\": ", rt_words_text(w, rt_words_prompt(w, 0), text, sizeof text));
    else
        fprintf(f, "\nIts class_labels are no words: ");
    fprintf(f, "tokens of a prompt's words, whose embeddings are added, of 0 nothing. Word k of the vocabulary in unet/config.json "
               "(`_words`) is token k, the first is 1.\n");
}

/* How to draw from the folder, here and in diffusers (whose DDIMPipeline takes 50 steps and refuses classes). */
static rt_status write_readme(const rt__run *run, const char *folder, const rt_scheduler_config *c, rt_error *err)
{
    const rt_task *t = &run->task;
    const rt_net_info *net = deployed_net(run);
    int steps = run->round.steps;
    char path[PATH + 16];
    rt__file f;
    snprintf(path, sizeof path, "%s/README.md", folder);
    RT_TRY(rt__file_begin(&f, path, err));
    if (steps > 0)
        fprintf(f.stream, "# A student of %d step%s, by %s\n\nDraw from it by its own recipe:\n\n", steps, steps > 1 ? "s" : "",
                t->method->name);
    else
        fprintf(f.stream, "# A diffusion model\n\nDraw from it:\n\n");
    char text[RT_WORDS_TEXT], prompt[RT_WORDS_TEXT + 16] = "";
    if (t->words && rt_words_prompts(t->words) > 0)
        snprintf(prompt, sizeof prompt, " --prompt \"%s\"", rt_words_text(t->words, rt_words_prompt(t->words, 0), text, sizeof text));
    fprintf(f.stream, "    retort sample THIS-FOLDER --n 64%s%s --out grid.png\n", steps > 0 ? "" : " --steps 50", prompt);
    bool exact = c->recipe.exact_in_diffusers;
    if (!exact && steps > 0 && !strcmp(net->kind, "UNet2DModel"))
        fprintf(
            f.stream,
            "\ndiffusers draws other pictures from it: its schedulers have no grid of these steps, or its networks not these inputs.\n");
    if (exact && !strcmp(net->kind, "UNet2DModel")) {
        enum { SAMPLES = 10 };
        char labels[SAMPLES * 24 + 64] = "";
        if (t->words) prompt_tokens(t->words, labels, sizeof labels);
        for (int i = 0; i < SAMPLES && net->classes > 0 && !t->words; i++) {
            size_t at = strlen(labels);
            snprintf(labels + at, sizeof labels - at, "%s%lld%s", i ? ", " : ", class_labels=torch.tensor([",
                     (long long)rt__usual_class(net->classes, t->null_class, i), i + 1 < SAMPLES ? "" : "])");
        }
        fprintf(f.stream,
                "\nWith diffusers:\n\n"
                "    import torch\n"
                "    from diffusers import %s, UNet2DModel\n"
                "    unet = UNet2DModel.from_pretrained(\"THIS-FOLDER\", subfolder=\"unet\").eval()\n"
                "    scheduler = %s.from_pretrained(\"THIS-FOLDER\", subfolder=\"scheduler\")\n",
                c->class_name, c->class_name);
        if (t->words)
            fprintf(f.stream, "    unet.class_embedding = torch.nn.EmbeddingBag.from_pretrained(unet.class_embedding.weight, mode=\"sum\", "
                              "padding_idx=0)\n");
        if (renoises(run)) {
            fprintf(f.stream, "    scheduler.set_timesteps(timesteps=[");
            write_timesteps(f.stream, &c->recipe);
            fprintf(f.stream, "], original_inference_steps=%lld)\n", (long long)c->num_train_timesteps);
        } else {
            fprintf(f.stream, "    scheduler.set_timesteps(%d)\n", steps > 0 ? steps : 50);
        }
        fprintf(f.stream,
                "    x = torch.randn(10, %d, %d, %d)\n"
                "    for t in scheduler.timesteps:\n"
                "        with torch.no_grad(): out = unet(x, t%s).sample\n"
                "        x = scheduler.step(out, t, x).prev_sample\n\n"
                "x then holds pictures in %g..%g.\n",
                net->in_channels, net->height, net->width, labels, t->low, t->high);
        if (t->words) write_words(f.stream, t->words);
        if (renoises(run))
            fprintf(f.stream,
                    "\nLCMScheduler's own %d steps are at other times: timesteps= is needed. Between steps it adds noise of its own, as "
                    "Retort does (solver\n"
                    "renoise). It takes c_skip x + c_out x0 for x0, c_skip at most %.1e here: the same to a float's rounding.\n",
                    steps, lcm_skip(&c->recipe));
    }
    return rt__file_commit(&f, err);
}

static rt_status write_folder(rt__run *run, const char *name, rt_error *err)
{
    const rt_network *n = rt__deployed(&run->task);
    const rt_net *net = n->denoiser.net;
    rt_denoiser used;
    char folder[PATH], temporary[PATH], unet[PATH + 8];
    RT_TRY(rt__network_use(n, &used, err));
    snprintf(folder, sizeof folder, "%s/%s", run->config->out, name);
    snprintf(temporary, sizeof temporary, "%s/.writing-%s", run->config->out, name);
    RT_TRY(rt__remove_tree(temporary, err));
    RT_TRY(rt__make_folders(temporary, err));
    bool plain = !run->task.process;
    snprintf(unet, sizeof unet, "%s%s", temporary, plain ? "" : "/unet");
    RT_TRY(rt__make_folders(unet, err));
    char *recipe = NULL;
    if (!plain) {
        rt_scheduler_config c;
        RT_TRY(rt_scheduler_config_student(&c, rt_scheduler_get_config(run->scheduler), n->denoiser.prediction, err));
        if (renoises(run)) rt_scheduler_config_renoise(&c);
        rt_status s = write_scheduler(run, &c, temporary, err);
        recipe = rt_recipe_text(&c.recipe);
        if (s == RT_OK) s = rt_model_index_write(temporary, rt_net_describe(net)->kind, c.class_name, err);
        if (s == RT_OK) s = write_readme(run, temporary, &c, err);
        rt_scheduler_config_free(&c);
        RT_TRY(s);
    }
    const char *metadata[] = {recipe ? "retort" : NULL, recipe, NULL};
    bool selected = run->selected && run->at.watch.best_update > 0;
    rt_status s = rt_net_save(net, selected ? run->selected : used.set, RT_VALUE, unet, NULL, metadata, err);
    if (s == RT_OK && n->average && !selected) s = rt_net_save(net, n->set, RT_VALUE, unet, "raw", metadata, err);
    free(recipe);
    if (s == RT_OK) s = rt__folder_commit(temporary, folder, err);
    return s;
}

/* Another network of the run as a folder beside the result, with the teacher's scheduler. */
static rt_status write_kept(const rt__run *run, const rt_network *n, rt_error *err)
{
    char folder[PATH], temporary[PATH], path[PATH + 64];
    rt_scheduler_config c;
    snprintf(folder, sizeof folder, "%s/%s", run->config->out, n->plan->name);
    snprintf(temporary, sizeof temporary, "%s/.writing-%s", run->config->out, n->plan->name);
    RT_TRY(rt__remove_tree(temporary, err));
    snprintf(path, sizeof path, "%s/scheduler", temporary);
    RT_TRY(rt__make_folders(path, err));
    snprintf(path, sizeof path, "%s/unet", temporary);
    RT_TRY(rt__make_folders(path, err));
    RT_TRY(rt_scheduler_config_student(&c, rt_scheduler_get_config(run->scheduler), n->denoiser.prediction, err));
    c.recipe = (rt_student_recipe){.version = 1, .null_class = run->task.null_class, .low = run->task.low, .high = run->task.high};
    snprintf(c.recipe.method, sizeof c.recipe.method, "%s", run->config->method);
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", temporary);
    rt_status s = rt_scheduler_config_write(&c, path, err);
    if (s == RT_OK) s = rt_model_index_write(temporary, rt_net_describe(n->denoiser.net)->kind, c.class_name, err);
    rt_scheduler_config_free(&c);
    snprintf(path, sizeof path, "%s/unet", temporary);
    if (s == RT_OK) s = rt_net_save(n->denoiser.net, n->set, RT_VALUE, path, NULL, NULL, err);
    return s == RT_OK ? rt__folder_commit(temporary, folder, err) : s;
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
