/* result.c -- what a run leaves: a folder that diffusers loads and that carries its recipe; pictures from the same noise. */
#include "distill/rollout.h"
#include "train/run.h"

#include "base/files.h"
#include "base/internal.h"
#include "model/classes.h"
#include "retort/format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = RT_CONFIG_TEXT + 96 };

rt_status rt__show_student(rt__run *run, rt_error *err)
{
    return rt_params_copy(run->shown, RT_VALUE, run->student, run->config->train.ema > 0 ? RT_AVERAGE : RT_VALUE, err);
}

static rt_status write_scheduler(rt__run *run, rt_scheduler_config *c, const char *folder, rt_error *err)
{
    rt_distill *d = &run->d;
    rt_student_recipe *r = &c->recipe;
    /* diffusers' DDIM steps by T // N: another grid where N does not divide T; continuous processes it does not have, nor
     * networks of two times or that see draws */
    int T = rt_process_discrete_steps(d->process);
    bool exact =
        T > 0 && (d->steps == 0 || T % d->steps == 0) && rt_net_describe(run->net)->times == 1 && rt_net_describe(run->net)->draws == 0;
    *r = (rt_student_recipe){.version = 1,
                             .steps = d->steps,
                             .draws = rt_net_describe(run->net)->draws,
                             .null_class = d->null_class,
                             .low = run->low,
                             .high = run->high,
                             .exact_in_diffusers = exact};
    snprintf(r->method, sizeof r->method, "%s", run->config->method);
    snprintf(r->solver, sizeof r->solver, "ddim");
    for (int k = 0; k < d->steps && k < RT_RECIPE_STEPS; k++)
        r->timesteps[k] = rt_process_network_time(d->process, d->fine[k * (d->chain[0] / d->steps)]);
    if (run->origin) snprintf(r->teacher_sha256, sizeof r->teacher_sha256, "%s", rt_model_get_info(run->origin)->sha256);
    char path[PATH + 64];
    snprintf(path, sizeof path, "%s/scheduler", folder);
    RT_TRY(rt__make_folders(path, err));
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", folder);
    return rt_scheduler_config_write(c, path, err);
}

/* How to draw from the folder, here and in diffusers (whose DDIMPipeline takes 50 steps and refuses classes). */
static rt_status write_readme(const rt__run *run, const char *folder, bool exact, rt_error *err)
{
    const rt_distill *d = &run->d;
    const rt_net_info *net = rt_net_describe(run->net);
    char path[PATH + 16];
    rt__file f;
    snprintf(path, sizeof path, "%s/README.md", folder);
    RT_TRY(rt__file_begin(&f, path, err));
    if (d->steps > 0)
        fprintf(f.stream, "# A student of %d step%s, by %s\n\nDraw from it by its own recipe:\n\n", d->steps, d->steps > 1 ? "s" : "",
                d->method->name);
    else
        fprintf(f.stream, "# A diffusion model\n\nDraw from it:\n\n");
    fprintf(f.stream, "    retort sample THIS-FOLDER --n 64%s --out grid.png\n", d->steps > 0 ? "" : " --steps 50");
    if (exact && !strcmp(net->kind, "UNet2DModel")) {
        enum { SAMPLES = 10 };
        char labels[SAMPLES * 24 + 64] = "";
        for (int i = 0; i < SAMPLES && net->classes > 0; i++) {
            size_t at = strlen(labels);
            snprintf(labels + at, sizeof labels - at, "%s%lld%s", i ? ", " : ", class_labels=torch.tensor([",
                     (long long)rt__usual_class(net->classes, d->null_class, i), i + 1 < SAMPLES ? "" : "])");
        }
        fprintf(f.stream,
                "\nWith diffusers:\n\n"
                "    import torch\n"
                "    from diffusers import DDIMScheduler, UNet2DModel\n"
                "    unet = UNet2DModel.from_pretrained(\"THIS-FOLDER\", subfolder=\"unet\").eval()\n"
                "    scheduler = DDIMScheduler.from_pretrained(\"THIS-FOLDER\", subfolder=\"scheduler\")\n"
                "    scheduler.set_timesteps(%d)\n"
                "    x = torch.randn(10, %d, %d, %d)\n"
                "    for t in scheduler.timesteps:\n"
                "        with torch.no_grad(): out = unet(x, t%s).sample\n"
                "        x = scheduler.step(out, t, x).prev_sample\n\n"
                "x then holds pictures in %g..%g.\n",
                d->steps > 0 ? d->steps : 50, net->in_channels, net->height, net->width, labels, run->low, run->high);
    }
    return rt__file_commit(&f, err);
}

static rt_status write_folder(rt__run *run, const char *name, rt_error *err)
{
    char folder[PATH], temporary[PATH], unet[PATH + 8];
    snprintf(folder, sizeof folder, "%s/%s", run->config->out, name);
    snprintf(temporary, sizeof temporary, "%s/.writing-%s", run->config->out, name);
    RT_TRY(rt__remove_tree(temporary, err));
    RT_TRY(rt__make_folders(temporary, err));
    bool plain = !run->d.process;
    snprintf(unet, sizeof unet, "%s%s", temporary, plain ? "" : "/unet");
    RT_TRY(rt__make_folders(unet, err));
    char *recipe = NULL;
    if (!plain) {
        rt_scheduler_config c;
        RT_TRY(rt_scheduler_config_student(&c, rt_scheduler_get_config(run->scheduler), run->d.student.prediction, err));
        rt_status s = write_scheduler(run, &c, temporary, err);
        recipe = rt_recipe_text(&c.recipe);
        bool exact = c.recipe.exact_in_diffusers;
        rt_scheduler_config_free(&c);
        RT_TRY(s);
        RT_TRY(rt_model_index_write(temporary, rt_net_describe(run->net)->kind, "DDIMScheduler", err));
        RT_TRY(write_readme(run, temporary, exact, err));
    }
    const char *metadata[] = {recipe ? "retort" : NULL, recipe, NULL};
    rt_status s = rt_net_save(run->net, run->shown, RT_VALUE, unet, NULL, metadata, err);
    if (s == RT_OK && run->config->train.ema > 0) s = rt_net_save(run->net, run->student, RT_VALUE, unet, "raw", metadata, err);
    free(recipe);
    if (s == RT_OK) s = rt__folder_commit(temporary, folder, err);
    return s;
}

rt_status rt__result_write(rt__run *run, rt_error *err)
{
    char name[32];
    if (!run->origin) return write_folder(run, "model", err);
    if (run->d.n_rounds > 1) {
        snprintf(name, sizeof name, "student-%d", run->d.steps);
        RT_TRY(write_folder(run, name, err));
    }
    return write_folder(run, "student", err);
}

rt_status rt__run_pictures(rt__run *run, rt_error *err)
{
    rt_distill *d = &run->d;
    enum { STEPS = 16 };
    if (!d->process || d->rank != 4 || (d->shape[1] != 1 && d->shape[1] != 3)) return RT_OK;
    int64_t n = run->config->run.samples;
    int steps = d->steps > 0 ? d->steps : STEPS, stride = d->steps > 0 ? d->chain[0] / d->steps : 1;
    double *own = d->steps > 0 ? NULL : malloc((STEPS + 1) * sizeof *own), *times = d->steps > 0 ? d->fine : own;
    float *x = malloc((size_t)(n * d->features) * sizeof *x);
    int64_t *y = malloc((size_t)n * sizeof *y);
    rt_solver_map e = {0};
    rt_status s = x && y && times ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for %lld pictures", (long long)n);
    if (s == RT_OK && own) s = rt_grid_build("uniform", d->process, STEPS, own, err);
    if (s == RT_OK) s = rt__show_student(run, err);
    if (s == RT_OK) s = rt__map_open(&e, d, &d->shown, n < 64 ? n : 64, err);
    for (int64_t i = 0; i < n && s == RT_OK; i++) {
        rt__noise(d, "pictures", 0, (uint32_t)i, rt_process_noise_scale(d->process), x + i * d->features);
        y[i] = rt__class_of(d, i);
    }
    if (s == RT_OK) s = rt__solver_map_roll(&e, times, stride, steps, n, x, 0, y, &(rt_frozen){"pictures draws", 0, 0}, err);
    rt__solver_map_close(&e);
    char path[PATH];
    snprintf(path, sizeof path, "%s/samples/update-%lld.png", run->config->out, (long long)run->at.updates);
    if (s == RT_OK && !d->rehearsal)
        s = rt_png_grid(path, n, x, (int)d->shape[1], (int)d->shape[2], (int)d->shape[3], run->low, run->high, 10, 2, err);
    free(own);
    free(x);
    free(y);
    return s;
}
