/* student_folder.c -- see student_folder.h. */
#include "model/student_folder.h"

#include "base/files.h"
#include "base/internal.h"
#include "model/model_parts.h"
#include "retort/format.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH = RT_MODEL_TEXT + 128 };

static bool renoises(const rt_student_recipe *r) { return !strcmp(r->solver, "renoise"); }

/* diffusers' DDIM steps by T // N, back from the last timestep, T - 1. */
static bool ddim_exact(int64_t T, const rt_student_recipe *r)
{
    bool exact = r->steps == 0 || T % r->steps == 0;
    for (int k = 0; k < r->steps; k++) exact &= r->timesteps[k] == (double)(T - k * (T / r->steps) - 1);
    return exact;
}

/* LCMScheduler takes c_skip x + c_out x0 for x0, with c_skip = 1/(1 + (20 t)^2), c_out = sqrt(1 - c_skip). */
static double lcm_skip(const rt_student_recipe *r) { return 1 / (1 + pow(20 * r->timesteps[r->steps - 1], 2)); }
static const double most_skip = 1e-6; /* a float's rounding or so */

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
static rt_status write_readme(const rt__student_folder *s, const char *folder, rt_error *err)
{
    const rt_scheduler_config *c = s->scheduler;
    const rt_net_info *net = rt_net_describe(s->net);
    const rt_words *words = net->words;
    const rt_student_recipe *r = &c->recipe;
    int steps = r->steps;
    char path[PATH + 16];
    rt__file f;
    snprintf(path, sizeof path, "%s/README.md", folder);
    RT_TRY(rt__file_begin(&f, path, err));
    if (net->camera) {
        fprintf(f.stream,
                "# A score of a scene's pictures\n\nIts network is told a camera (`_camera` in unet/config.json), which only a scene gives "
                "it:\n\n"
                "    retort distill sds --teacher THIS-FOLDER --scene grid%s --out RUN\n",
                words ? " --prompt TEXT" : "");
        return rt__file_commit(&f, err);
    }
    if (steps > 0)
        fprintf(f.stream, "# A student of %d step%s, by %s\n\nDraw from it by its own recipe:\n\n", steps, steps > 1 ? "s" : "", r->method);
    else
        fprintf(f.stream, "# A diffusion model\n\nDraw from it:\n\n");
    char text[RT_WORDS_TEXT], prompt[RT_WORDS_TEXT + 16] = "";
    if (words && rt_words_prompts(words) > 0)
        snprintf(prompt, sizeof prompt, " --prompt \"%s\"", rt_words_text(words, rt_words_prompt(words, 0), text, sizeof text));
    fprintf(f.stream, "    retort sample THIS-FOLDER --n 64%s%s --out grid.png\n", steps > 0 ? "" : " --steps 50", prompt);
    bool exact = r->exact_in_diffusers;
    if (!exact && steps > 0 && !strcmp(net->kind, "UNet2DModel"))
        fprintf(
            f.stream,
            "\ndiffusers draws other pictures from it: its schedulers have no grid of these steps, or its networks not these inputs.\n");
    if (exact && !strcmp(net->kind, "UNet2DModel")) {
        enum { SAMPLES = 10 };
        char labels[SAMPLES * 24 + 64] = "";
        if (words) prompt_tokens(words, labels, sizeof labels);
        for (int i = 0; i < SAMPLES && net->classes > 0 && !words; i++) {
            size_t at = strlen(labels);
            snprintf(labels + at, sizeof labels - at, "%s%lld%s", i ? ", " : ", class_labels=torch.tensor([",
                     (long long)rt__usual_class(net->classes, (int)r->null_class, i), i + 1 < SAMPLES ? "" : "])");
        }
        fprintf(f.stream,
                "\nWith diffusers:\n\n"
                "    import torch\n"
                "    from diffusers import %s, UNet2DModel\n"
                "    unet = UNet2DModel.from_pretrained(\"THIS-FOLDER\", subfolder=\"unet\").eval()\n"
                "    scheduler = %s.from_pretrained(\"THIS-FOLDER\", subfolder=\"scheduler\")\n",
                c->class_name, c->class_name);
        if (words)
            fprintf(f.stream, "    unet.class_embedding = torch.nn.EmbeddingBag.from_pretrained(unet.class_embedding.weight, mode=\"sum\", "
                              "padding_idx=0)\n");
        if (renoises(r)) {
            fprintf(f.stream, "    scheduler.set_timesteps(timesteps=[");
            write_timesteps(f.stream, r);
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
                net->in_channels, net->height, net->width, labels, r->low, r->high);
        if (words) write_words(f.stream, words);
        if (renoises(r))
            fprintf(f.stream,
                    "\nLCMScheduler's own %d steps are at other times: timesteps= is needed. Between steps it adds noise of its own, as "
                    "Retort does (solver\n"
                    "renoise). It takes c_skip x + c_out x0 for x0, c_skip at most %.1e here: the same to a float's rounding.\n",
                    steps, lcm_skip(r));
    }
    return rt__file_commit(&f, err);
}

/* diffusers has no continuous processes, nor networks that are told more than a time or see draws. */
static bool exact_in_diffusers(const rt__student_folder *s)
{
    const rt_student_recipe *r = &s->scheduler->recipe;
    const rt_net_info *net = rt_net_describe(s->net);
    int T = rt_process_discrete_steps(s->process);
    bool same_steps = renoises(r) ? lcm_skip(r) <= most_skip : ddim_exact(T, r);
    return T > 0 && same_steps && net->told == 1 && net->draws == 0 && !(r->input_scale > 0);
}

static rt_status write_scheduler(const rt__student_folder *s, const char *folder, rt_error *err)
{
    const rt_net_info *net = rt_net_describe(s->net);
    char path[PATH + 64];
    s->scheduler->recipe.exact_in_diffusers = exact_in_diffusers(s);
    snprintf(path, sizeof path, "%s/scheduler", folder);
    RT_TRY(rt__make_folders(path, err));
    snprintf(path, sizeof path, "%s/scheduler/scheduler_config.json", folder);
    RT_TRY(rt_scheduler_config_write(s->scheduler, path, err));
    RT_TRY(rt_model_index_write(folder, net->kind, s->scheduler->class_name, err));
    return write_readme(s, folder, err);
}

rt_status rt__student_folder_write(const rt__student_folder *s, const char *folder, const char *temporary, rt_error *err)
{
    char unet[PATH + 8];
    RT_TRY(rt__remove_tree(temporary, err));
    snprintf(unet, sizeof unet, "%s%s", temporary, s->process ? "/unet" : "");
    RT_TRY(rt__make_folders(unet, err));
    if (s->process) RT_TRY(write_scheduler(s, temporary, err));
    char *recipe = s->process ? rt_recipe_text(&s->scheduler->recipe) : NULL;
    const char *metadata[] = {recipe ? "retort" : NULL, recipe, NULL};
    rt_status status = rt_net_save(s->net, s->values, RT_VALUE, unet, NULL, metadata, err);
    if (status == RT_OK && s->raw) status = rt_net_save(s->net, s->raw, RT_VALUE, unet, "raw", metadata, err);
    free(recipe);
    return status == RT_OK ? rt__folder_commit(temporary, folder, err) : status;
}

rt_status rt_model_save_student(rt_model *m, const rt_sampling *s, const char *folder, rt_error *err)
{
    rt_sample_report plan;
    rt_scheduler_config c;
    char temporary[PATH + 16];
    if (!m->net || !m->info.recipe.version)
        RT_RAISE(RT_E_USAGE,
                 "%s: is no student: its folder has no recipe that could take other times; give a student that retort distilled",
                 m->info.chosen);
    if (strlen(folder) >= RT_MODEL_TEXT - 64)
        RT_RAISE(RT_E_USAGE, "%.60s...: the path is longer than %d bytes", folder, RT_MODEL_TEXT - 64);
    if (s->n_times == 0) RT_RAISE(RT_E_USAGE, "no times for the recipe of a student; give some");
    RT_TRY(rt_model_plan(m, s, &plan, err));
    RT_TRY(rt_scheduler_config_student(&c, rt_scheduler_get_config(m->scheduler), m->prediction, err));
    rt_student_recipe *r = &c.recipe;
    *r = m->info.recipe;
    r->steps = plan.steps;
    for (int k = 0; k < plan.steps; k++) r->timesteps[k] = rt_process_network_time(m->process, plan.times[k]);
    r->input_scale = 0; /* other times begin with the noise of the process */
    snprintf(r->solver, sizeof r->solver, "%s", plan.solver);
    if (r->has_range) r->guidance_default = m->omega;
    if (s->has_guidance && !r->has_range) r->has_guidance = s->guidance != 0, r->guidance = s->guidance;
    if (renoises(r)) rt_scheduler_config_renoise(&c);
    snprintf(temporary, sizeof temporary, "%s.writing", folder);
    rt_status status = rt__student_folder_write(
        &(rt__student_folder){.net = m->net, .values = m->params, .process = m->process, .scheduler = &c}, folder, temporary, err);
    rt_scheduler_config_free(&c);
    return status;
}
