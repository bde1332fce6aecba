/* next.c -- see next.h. */
#include "next.h"

#include "retort/nn.h"

#include <stdlib.h>
#include <string.h>

const char *cli_quoted(cli_call *c, const char *text)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:,=+@%-";
    if (*text && !text[strspn(text, plain)]) return text;
    char *word = malloc(4 * strlen(text) + 3), *to = word;
    if (!word) return text;
    *to++ = '\'';
    for (; *text; text++)
        if (*text == '\'')
            to = stpcpy(to, "'\\''");
        else
            *to++ = *text;
    stpcpy(to, "'");
    return cli_own(c, word);
}

const char *cli_data_words(cli_call *c, const char *option, const char *path, rt_fit fit)
{
    char alpha[32] = "", resize[32] = "", crop[32] = "", *words = NULL;
    if (fit.alpha) snprintf(alpha, sizeof alpha, " --alpha %s", rt_alpha_names[fit.alpha]);
    if (fit.resize) snprintf(resize, sizeof resize, " --resize %d", fit.resize);
    if (fit.crop) snprintf(crop, sizeof crop, " --crop %d", fit.crop);
    if (asprintf(&words, "%s %s%s%s%s", option, cli_quoted(c, path), alpha, resize, crop) < 0) return option;
    return cli_own(c, words);
}

/* Are the result's samples pictures? */
static bool draws_pictures(const rt_run_summary *s)
{
    char path[RT_CONFIG_TEXT + 8];
    rt_net *net;
    snprintf(path, sizeof path, "%s/unet", s->result);
    if (rt_net_open(&net, path, NULL) != RT_OK) return false;
    bool pictures = rt_net_describe(net)->height > 0;
    rt_net_free(net);
    return pictures;
}

/* Those of 8,4,2,1 steps that end on whole times of the model's process. */
static void student_steps(const rt_config *config, char steps[16])
{
    char T[RT_CONFIG_TEXT];
    long timesteps = rt_config_get(config, "diffusion.timesteps", T, sizeof T, NULL) == RT_OK ? strtol(T, NULL, 10) : 1;
    steps[0] = 0;
    for (int n = 8; n >= 1; n /= 2)
        if (timesteps % n == 0) snprintf(steps + strlen(steps), 16 - strlen(steps), "%s%d", *steps ? "," : "", n);
}

void cli_say_next(cli_call *c, const rt_config *config, const rt_run_summary *s)
{
    const char *out = cli_quoted(c, config->out), *method = rt_method_command(config->method), *data = config->data.path;
    bool distilled = rt_method_needs_teacher(method);
    char steps[16];
    if (!s->finished) {
        cli_say(c, "next: retort %s%s%s --out %s --resume", distilled ? "distill " : "train", distilled ? method : "",
                !distilled && strcmp(method, "denoise") != 0 ? " --objective classify" : "", out);
        return;
    }
    if (strcmp(method, "classify") == 0) {
        cli_say(c, "next: retort eval MODEL --features %s %s", out, cli_data_words(c, "--reference", data, rt_config_fit(config)));
        return;
    }
    if (rt_method_makes_scene(config->method)) {
        cli_say(c, "next: retort render %s --views 24 --out %s.png", out, out);
        return;
    }
    char *samples = NULL; /* beside the run */
    if (asprintf(&samples, "%s%s", config->out, draws_pictures(s) ? ".png" : ".safetensors") < 0) return;
    cli_say(c, "next: retort sample %s --n 64%s --out %s", out, distilled ? "" : " --steps 50", cli_quoted(c, samples));
    free(samples);
    student_steps(config, steps);
    if (!distilled) cli_say(c, "then: retort distill pd --teacher %s --out student --teacher-steps 64 --steps %s", out, steps);
}
