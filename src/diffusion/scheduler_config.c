/* scheduler_config.c -- diffusers' scheduler_config.json: reading it strictly, writing it as diffusers reads it, the recipe of a student in it. */
#include "diffusion/scheduler.h"

#include "base/files.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE = 64 << 20, RECIPE_VERSION = 1 };

/* ---- classes */

#define PLAIN         1e-4, 0.02, "linear"
#define LATENT        0.00085, 0.012, "scaled_linear"
#define LATENT_LINEAR 0.00085, 0.012, "linear"

const rt__scheduler_class rt__scheduler_classes[] = {
    {"DDIMScheduler", "ddpm", PLAIN, RT__CLIPS, "leading", false, false, rt__ddim_path},
    {"DDPMScheduler", "ddpm", PLAIN, RT__CLIPS, "leading", false, false, rt__ddpm_path},
    {"FlowMatchEulerDiscreteScheduler", "flow", PLAIN, RT__NO_CLIP, "leading", false, false, rt__flow_path},
    {"EulerDiscreteScheduler", "ddpm", PLAIN, RT__NO_CLIP, "linspace", true, true, rt__sigma_path},
    {"EulerAncestralDiscreteScheduler", "ddpm", PLAIN, RT__NO_CLIP, "linspace", true, true, rt__sigma_path},
    {"HeunDiscreteScheduler", "ddpm", LATENT_LINEAR, RT__MAY_CLIP, "linspace", true, false, rt__sigma_path},
    {"DPMSolverMultistepScheduler", "ddpm", PLAIN, RT__NO_CLIP, "linspace", false, true, rt__sigma_path},
    {"DPMSolverSinglestepScheduler", "ddpm", PLAIN, RT__NO_CLIP, "linspace", false, false, rt__sigma_path},
    {"UniPCMultistepScheduler", "ddpm", PLAIN, RT__NO_CLIP, "linspace", false, true, rt__sigma_path},
    {"LCMScheduler", "ddpm", LATENT, RT__MAY_CLIP, "leading", false, false, NULL},
    {"TCDScheduler", "ddpm", LATENT, RT__MAY_CLIP, "leading", false, false, NULL},
    {"PNDMScheduler", "ddpm", PLAIN, RT__NO_CLIP, "leading", false, false, NULL},
    {"DEISMultistepScheduler", "ddpm", PLAIN, RT__NO_CLIP, "linspace", false, false, NULL},
    {"LMSDiscreteScheduler", "ddpm", PLAIN, RT__NO_CLIP, "linspace", true, false, NULL},
    {"KDPM2DiscreteScheduler", "ddpm", LATENT_LINEAR, RT__NO_CLIP, "linspace", true, false, NULL},
    {"KDPM2AncestralDiscreteScheduler", "ddpm", LATENT_LINEAR, RT__NO_CLIP, "linspace", true, false, NULL},
    {"FlowMatchHeunDiscreteScheduler", "flow", PLAIN, RT__NO_CLIP, "leading", false, false, NULL},
};
const size_t rt__n_scheduler_classes = RT_COUNT(rt__scheduler_classes);

/* Other classes of diffusers: their processes are others, so that no similar name stands for them. */
static const char *const strangers[] = {
    "AmusedScheduler",
    "BlockRefinementScheduler",
    "CMStochasticIterativeScheduler",
    "CogVideoXDDIMScheduler",
    "CogVideoXDPMScheduler",
    "ConsistencyDecoderScheduler",
    "CosineDPMSolverMultistepScheduler",
    "DDIMInverseScheduler",
    "DDIMParallelScheduler",
    "DDPMParallelScheduler",
    "DDPMWuerstchenScheduler",
    "DPMSolverMultistepInverseScheduler",
    "DPMSolverSDEScheduler",
    "EDMDPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "FlowMatchLCMScheduler",
    "IPNDMScheduler",
    "KarrasEDMScheduler",
    "KarrasVeScheduler",
    "LTXEulerAncestralRFScheduler",
    "RePaintScheduler",
    "SASolverScheduler",
    "SCMScheduler",
    "ScoreSdeVeScheduler",
    "ScoreSdeVpScheduler",
    "UnCLIPScheduler",
    "VQDiffusionScheduler",
};

bool rt_scheduler_describe(int i, rt_row_text *row)
{
    if (i < 0 || i >= (int)rt__n_scheduler_classes) return false;
    const rt__scheduler_class *c = &rt__scheduler_classes[i];
    *row = (rt_row_text){c->name, "diffusers", c->path ? "followed exactly" : "its process; sampled by another solver"};
    return true;
}

const rt__scheduler_class *rt__scheduler_class_find(const char *name, rt_error *err)
{
    for (size_t i = 0; i < RT_COUNT(strangers); i++)
        if (!strcmp(name, strangers[i])) {
            rt_error_set(
                err, RT_E_USAGE,
                "%s has a process or network of its own, which is not known here; 'retort list schedulers' names the classes that are",
                name);
            return NULL;
        }
    int index = rt__row_index("schedulers", name, rt__scheduler_classes, rt__n_scheduler_classes, sizeof *rt__scheduler_classes, err);
    return index < 0 ? NULL : &rt__scheduler_classes[index];
}

/* ---- fields */

typedef enum kind { WHOLE, REAL, TRUTH, TEXT, LIST } kind;

#define FIELD(kind, name, ...)                                                                                                             \
    {                                                                                                                                      \
#name, kind, offsetof(rt_scheduler_config, name), sizeof((rt_scheduler_config *)0)->name, __VA_ARGS__                              \
    }

/* `family`: who has the field: processes and beginnings of class names, NULL: all. Numbers lie in min..max. `nullable`: null stands for 0. */
static const struct field {
    const char *name;
    kind kind;
    size_t offset, size;
    const char *family;
    double min, max;
    bool nullable;
} fields[] = {
    FIELD(WHOLE, num_train_timesteps, NULL, 1, 1000000, false),
    FIELD(REAL, beta_start, "ddpm", 0, 1, false),
    FIELD(REAL, beta_end, "ddpm", 0, 1, false),
    FIELD(TEXT, beta_schedule, "ddpm", 0, 0, false),
    FIELD(LIST, trained_betas, "ddpm", 0, 1, true),
    FIELD(TRUTH, rescale_betas_zero_snr, "DDIM DDPM EulerDiscrete EulerAncestral DPMSolverMulti UniPC LCM TCD", 0, 0, false),
    FIELD(TEXT, prediction_type, "ddpm", 0, 0, false),
    FIELD(TEXT, timestep_spacing, "ddpm", 0, 0, false),
    FIELD(WHOLE, steps_offset, "ddpm", 0, 1000000, false),
    FIELD(TRUTH, set_alpha_to_one, "ddpm", 0, 0, false),
    FIELD(TRUTH, clip_sample, "ddpm", 0, 0, false),
    FIELD(REAL, clip_sample_range, "ddpm", 1e-6, 1e6, false),
    FIELD(REAL, shift, "flow", 1e-3, 1e3, false),
    FIELD(REAL, shift_terminal, "flow", 0, 0.999, true),
    FIELD(TRUTH, stochastic_sampling, "FlowMatchEuler", 0, 0, false),
    FIELD(TRUTH, use_karras_sigmas, "FlowMatchEuler EulerDiscrete Heun DPMSolver UniPC", 0, 0, false),
    FIELD(TRUTH, use_exponential_sigmas, "FlowMatchEuler EulerDiscrete Heun DPMSolver UniPC", 0, 0, false),
    FIELD(TRUTH, use_beta_sigmas, "FlowMatchEuler EulerDiscrete Heun DPMSolver UniPC", 0, 0, false),
    FIELD(REAL, sigma_min, "EulerDiscrete UniPC", 1e-9, 1e9, true),
    FIELD(REAL, sigma_max, "EulerDiscrete UniPC", 1e-9, 1e9, true),
    FIELD(TEXT, interpolation_type, "EulerDiscrete", 0, 0, false),
    FIELD(TEXT, timestep_type, "EulerDiscrete", 0, 0, false),
    FIELD(TEXT, final_sigmas_type, "EulerDiscrete DPMSolver UniPC", 0, 0, false),
    FIELD(TEXT, variance_type, "DDPM", 0, 0, false),
    FIELD(TEXT, algorithm_type, "DPMSolver", 0, 0, false),
    FIELD(TEXT, solver_type, "DPMSolver UniPC", 0, 0, false),
    FIELD(WHOLE, solver_order, "DPMSolver UniPC", 1, 3, false),
    FIELD(TRUTH, lower_order_final, "DPMSolver UniPC", 0, 0, false),
    FIELD(TRUTH, euler_at_final, "DPMSolverMultistep", 0, 0, false),
    FIELD(TRUTH, predict_x0, "UniPC", 0, 0, false),
    FIELD(REAL, lambda_min_clipped, "DPMSolver", -1.79e308, 100, false),
};

/* What Retort does not do, and would have to: must be false or null where the family has it. Some stand in the code of other classes than those
 * that declare them: diffusers reads keys that a file brings along. */
static const struct refused {
    const char *name, *family;
} refused[] = {
    {"thresholding", "DDIM DDPM DPMSolver UniPC LCM TCD DEIS"},
    {"use_flow_sigmas", "DPMSolver UniPC DEIS"},
    {"use_dynamic_shifting", "FlowMatchEuler DPMSolver UniPC DEIS"},
    {"use_lu_lambdas", "DPMSolverMulti"},
    {"invert_sigmas", "FlowMatchEuler"},
    {"solver_p", "UniPC"},
    {"disable_corrector", "UniPC"},
    {"shift_terminal", "UniPC"},
    {"variance_type", "DPMSolver"},
    {"sigma_min", "FlowMatchEuler Heun DPMSolver"},
    {"sigma_max", "FlowMatchEuler Heun DPMSolver"},
};

/* Other keys of diffusers' classes, without influence on what is followed here. */
static const char *const ignored[] = {
    "base_image_seq_len",
    "base_shift",
    "correct_steps",
    "corrector_steps",
    "dynamic_thresholding_ratio",
    "editing_threshold",
    "eta",
    "flow_shift",
    "gamma",
    "max_image_seq_len",
    "max_shift",
    "noise_mode",
    "original_inference_steps",
    "predictor_order",
    "rho",
    "sample_max_value",
    "sigma_data",
    "sigma_schedule",
    "skip_prk_steps",
    "time_shift_type",
    "timestep_scaling",
    "use_lu_lambdas",
    "clip_denoised",
    "tensor_format",
};

/* ---- reading */

typedef struct reader {
    const json_t *root;
    const char *path;
} reader;

static rt_status wrong(const reader *r, const char *prefix, const char *field, const json_t *v, const char *must, rt_error *err)
{
    char *text = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    rt_status s =
        rt_error_set(err, RT_E_INVALID, "%s: field '%s%s' is %.80s; %s", r->path, prefix, field, v ? text ? text : "?" : "missing", must);
    free(text);
    return s;
}

/* One number, truth or text into the memory of its field. */
static rt_status read_value(const reader *r, const char *prefix, const struct field *f, const json_t *v, void *out, rt_error *err)
{
    char must[128];
    bool fits = false;
    switch (f->kind) {
    case WHOLE:
        snprintf(must, sizeof must, "must be a whole number from %.0f to %.0f", f->min, f->max);
        fits = json_is_integer(v) && (double)json_integer_value(v) >= f->min && (double)json_integer_value(v) <= f->max;
        if (fits) *(int64_t *)out = json_integer_value(v);
        break;
    case REAL:
        snprintf(must, sizeof must, "must be a number from %g to %g", f->min, f->max);
        fits = json_is_number(v) && json_number_value(v) >= f->min && json_number_value(v) <= f->max;
        if (fits) *(double *)out = json_number_value(v);
        break;
    case TRUTH:
        snprintf(must, sizeof must, "must be true or false");
        fits = json_is_boolean(v);
        if (fits) *(bool *)out = json_is_true(v);
        break;
    default:
        snprintf(must, sizeof must, "must be a string of at most %zu characters", f->size - 1);
        fits = json_is_string(v) && json_string_length(v) < f->size;
        if (fits) memcpy(out, json_string_value(v), json_string_length(v) + 1);
    }
    return fits ? RT_OK : wrong(r, prefix, f->name, v, must, err);
}

static rt_status read_betas(const reader *r, rt_scheduler_config *c, const json_t *list, rt_error *err)
{
    if (!json_is_array(list)) return wrong(r, "", "trained_betas", list, "must be an array of numbers, or null", err);
    size_t n = json_array_size(list);
    if (n != (size_t)c->num_train_timesteps)
        RT_RAISE(RT_E_INVALID, "%s: field 'trained_betas' has %zu numbers; must have num_train_timesteps = %lld", r->path, n,
                 (long long)c->num_train_timesteps);
    c->trained_betas = malloc(n * sizeof *c->trained_betas);
    if (!c->trained_betas) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %zu betas", r->path, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_number(v)) return wrong(r, "", "trained_betas", v, "every element must be a number", err);
        c->trained_betas[i] = json_number_value(v);
    }
    return RT_OK;
}

static bool concerns(const char *family, const rt__scheduler_class *class)
{
    for (const char *word = family; word; word = strchr(word, ' ') ? strchr(word, ' ') + 1 : NULL) {
        size_t n = strcspn(word, " ");
        if (!strncmp(word, class->process, n) && !class->process[n]) return true;
        if (!strncmp(word, class->name, n)) return true;
    }
    return !family;
}

static rt_status check_key(const reader *r, const rt__scheduler_class *class, const char *key, const json_t *v, rt_error *err)
{
    const char *names[RT_COUNT(fields) + RT_COUNT(refused) + RT_COUNT(ignored)];
    size_t n = 0;
    for (size_t i = 0; i < RT_COUNT(fields); i++) names[n++] = fields[i].name;
    for (size_t i = 0; i < RT_COUNT(refused); i++) names[n++] = refused[i].name;
    for (size_t i = 0; i < RT_COUNT(ignored); i++) names[n++] = ignored[i];
    for (size_t i = 0; i < RT_COUNT(refused); i++)
        if (!strcmp(key, refused[i].name) && concerns(refused[i].family, class) && !json_is_false(v) && !json_is_null(v) &&
            !(json_is_array(v) && json_array_size(v) == 0))
            return wrong(r, "", key, v, "Retort does not follow that, and without it the pictures are others: draw with diffusers", err);
    for (size_t i = 0; i < n; i++)
        if (!strcmp(key, names[i])) return RT_OK;
    const char *guess = rt__closest(key, names, n);
    if (guess) RT_RAISE(RT_E_INVALID, "%s: field '%s' is not known; did you mean '%s'?", r->path, key, guess);
    RT_RAISE(RT_E_INVALID, "%s: field '%s' is not known; no scheduler of diffusers has it: remove it", r->path, key);
}

/* Two numbers, the first not above the second. */
static bool read_range(const json_t *v, double *low, double *high)
{
    const json_t *a = json_array_get(v, 0), *b = json_array_get(v, 1);
    *low = json_number_value(a);
    *high = json_number_value(b);
    return json_array_size(v) == 2 && json_is_number(a) && json_is_number(b) && *low <= *high;
}

static rt_status read_recipe(const reader *r, rt_student_recipe *recipe, const json_t *object, rt_error *err)
{
#define PART(kind, name, min, max)                                                                                                         \
    {                                                                                                                                      \
#name, kind, offsetof(rt_student_recipe, name), sizeof recipe->name, NULL, min, max, false                                         \
    }
    static const struct field parts[] = {
        PART(TEXT, method, 0, 0),         PART(TEXT, solver, 0, 0),
        PART(WHOLE, null_class, 0, 1e9),  PART(TRUTH, exact_in_diffusers, 0, 0),
        PART(TEXT, teacher_sha256, 0, 0), PART(REAL, guidance, -1e3, 1e3),
        PART(REAL, input_scale, 0, 1e9),  PART(REAL, guidance_default, 0, 1e9),
    };
#undef PART
    if (!json_is_object(object)) return wrong(r, "", "_retort", object, "must be an object", err);
    const json_t *v = json_object_get(object, "version");
    if (!json_is_integer(v) || json_integer_value(v) != RECIPE_VERSION)
        return wrong(r, "_retort.", "version", v, "must be 1: other versions need another Retort", err);
    recipe->version = RECIPE_VERSION;
    for (size_t i = 0; i < RT_COUNT(parts); i++) {
        v = json_object_get(object, parts[i].name);
        if (v && !json_is_null(v)) RT_TRY(read_value(r, "_retort.", &parts[i], v, (char *)recipe + parts[i].offset, err));
    }
    v = json_object_get(object, "draws");
    if (v && (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) > 4096))
        return wrong(r, "_retort.", "draws", v, "must be a whole number from 0 to 4096", err);
    recipe->draws = (int)json_integer_value(v);
    v = json_object_get(object, "guidance");
    recipe->has_guidance = v && !json_is_null(v);
    v = json_object_get(object, "data_range");
    if (v && !(read_range(v, &recipe->low, &recipe->high) && recipe->low < recipe->high))
        return wrong(r, "_retort.", "data_range", v, "must be two numbers, the lower one first", err);
    v = json_object_get(object, "guidance_range");
    recipe->has_range = v != NULL;
    if (v && !(read_range(v, &recipe->guidance_low, &recipe->guidance_high) && recipe->guidance_low >= 0))
        return wrong(r, "_retort.", "guidance_range", v, "must be two numbers, the lower one first and not negative", err);
    if (v && !(recipe->guidance_default >= recipe->guidance_low && recipe->guidance_default <= recipe->guidance_high))
        return wrong(r, "_retort.", "guidance_default", json_object_get(object, "guidance_default"), "must lie in guidance_range", err);
    v = json_object_get(object, "steps");
    const json_t *times = json_object_get(object, "timesteps");
    if (!v && !times) return RT_OK;
    if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > RT_RECIPE_STEPS)
        return wrong(r, "_retort.", "steps", v, "must be a whole number from 1 to 1024", err);
    recipe->steps = (int)json_integer_value(v);
    if (!json_is_array(times) || json_array_size(times) != (size_t)recipe->steps)
        return wrong(r, "_retort.", "timesteps", times, "must be an array of as many numbers as there are steps", err);
    for (int i = 0; i < recipe->steps; i++) {
        const json_t *e = json_array_get(times, (size_t)i);
        if (!json_is_number(e) || (i && !(json_number_value(e) < recipe->timesteps[i - 1])))
            return wrong(r, "_retort.", "timesteps", times, "must be falling numbers", err);
        recipe->timesteps[i] = json_number_value(e);
    }
    return RT_OK;
}

/* The rest of the field is 0: equal configurations are equal bytes. */
static void put_text(char *field, size_t size, const char *text)
{
    memset(field, 0, size);
    snprintf(field, size, "%s", text);
}
static const rt_student_recipe no_recipe = {.null_class = -1, .low = -1, .high = 1};

static void set_defaults(rt_scheduler_config *c, const rt__scheduler_class *class)
{
    *c = (rt_scheduler_config){.num_train_timesteps = 1000,
                               .beta_start = class->beta_start,
                               .beta_end = class->beta_end,
                               .prediction_type = "epsilon",
                               .variance_type = "fixed_small",
                               .solver_order = 2,
                               .algorithm_type = "dpmsolver++",
                               .final_sigmas_type = "zero",
                               .interpolation_type = "linear",
                               .timestep_type = "discrete",
                               .lower_order_final = strcmp(class->name, "DPMSolverSinglestepScheduler") != 0,
                               .predict_x0 = true,
                               .lambda_min_clipped = -1.79e308,
                               .set_alpha_to_one = true,
                               .clip_sample = class->clips == RT__CLIPS,
                               .clip_sample_range = 1,
                               .shift = 1,
                               .recipe = no_recipe};
    snprintf(c->class_name, sizeof c->class_name, "%s", class->name);
    snprintf(c->beta_schedule, sizeof c->beta_schedule, "%s", class->beta_schedule);
    snprintf(c->timestep_spacing, sizeof c->timestep_spacing, "%s", class->spacing);
    snprintf(c->solver_type, sizeof c->solver_type, "%s", strcmp(class->name, "UniPCMultistepScheduler") ? "midpoint" : "bh2");
}

/* Other names that diffusers takes for the same. */
static void resolve_aliases(rt_scheduler_config *c, const rt__scheduler_class *class)
{
    bool unipc = !strcmp(class->name, "UniPCMultistepScheduler");
    const char *const others[] = {"logrho", unipc ? "midpoint" : "bh1", unipc ? "heun" : "bh2"};
    for (size_t i = 0; i < RT_COUNT(others); i++)
        if (!strcmp(c->solver_type, others[i])) put_text(c->solver_type, sizeof c->solver_type, unipc ? "bh2" : "midpoint");
    if (!strcmp(c->algorithm_type, "deis")) put_text(c->algorithm_type, sizeof c->algorithm_type, "dpmsolver++");
}

static rt_status read_root(rt_scheduler_config *c, const reader *r, rt_error *err)
{
    if (!json_is_object(r->root)) RT_RAISE(RT_E_INVALID, "%s: must hold an object with a field '_class_name'", r->path);
    const json_t *name = json_object_get(r->root, "_class_name");
    if (!json_is_string(name))
        return wrong(r, "", "_class_name", name, "must name a scheduler of diffusers, such as \"DDIMScheduler\"", err);
    rt_error local = {0};
    const rt__scheduler_class *class = rt__scheduler_class_find(json_string_value(name), &local);
    if (!class) RT_RAISE(RT_E_INVALID, "%s: field '_class_name': %s", r->path, local.text);
    set_defaults(c, class);

    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)r->root, key, value)
    {
        if (*key != '_') RT_TRY(check_key(r, class, key, value, err));
    }
    for (size_t i = 0; i < RT_COUNT(fields); i++) {
        const json_t *v = json_object_get(r->root, fields[i].name);
        if (!v || !concerns(fields[i].family, class) || (fields[i].nullable && json_is_null(v))) continue;
        if (fields[i].kind == LIST)
            RT_TRY(read_betas(r, c, v, err));
        else
            RT_TRY(read_value(r, "", &fields[i], v, (char *)c + fields[i].offset, err));
    }
    resolve_aliases(c, class);
    if (!class->clips) c->clip_sample = false; /* the class has no such key and ignores it */
    value = json_object_get(r->root, "_retort");
    return value ? read_recipe(r, &c->recipe, value, err) : RT_OK;
}

/* Python writes infinities that JSON does not have; they read as the largest numbers, in as many characters. */
static void tame_infinity(char *text)
{
    bool quoted = false;
    for (char *p = text; *p; p++) {
        if (*p == '\\' && quoted && p[1]) {
            p++;
        } else if (*p == '"') {
            quoted = !quoted;
        } else if (!quoted && !strncmp(p, "Infinity", 8)) {
            memcpy(p, "1.79e308", 8);
        }
    }
}

rt_status rt__json_read(const char *path, size_t limit, json_t **root, rt_error *err)
{
    char *text;
    size_t size;
    *root = NULL;
    RT_TRY(rt__file_read(path, limit, &text, &size, err));
    tame_infinity(text);
    rt_status status = rt__json_parse(root, path, text, size, limit, err);
    free(text);
    return status;
}

rt_status rt__scheduler_config_parse(rt_scheduler_config *c, const json_t *root, const char *path, rt_error *err)
{
    *c = (rt_scheduler_config){0};
    json_t *own = json_is_object(root) ? json_copy((json_t *)(uintptr_t)root) : json_incref((json_t *)(uintptr_t)root);
    if (!own || json_object_size(own) != json_object_size(root)) {
        json_decref(own);
        RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    }
    rt__json_drop_defaults(own);
    rt_status status = read_root(c, &(reader){own, path}, err);
    json_decref(own);
    if (status != RT_OK) rt_scheduler_config_free(c);
    return status;
}

rt_status rt_scheduler_config_read(rt_scheduler_config *c, const char *path, rt_error *err)
{
    json_t *root;
    *c = (rt_scheduler_config){0};
    RT_TRY(rt__json_read(path, MAX_FILE, &root, err));
    rt_status status = rt__scheduler_config_parse(c, root, path, err);
    json_decref(root);
    return status;
}

void rt_scheduler_config_free(rt_scheduler_config *c)
{
    if (!c) return;
    free(c->trained_betas);
    c->trained_betas = NULL;
}

rt_status rt_scheduler_config_copy(rt_scheduler_config *to, const rt_scheduler_config *from, rt_error *err)
{
    *to = *from;
    if (!from->trained_betas) return RT_OK;
    size_t size = (size_t)from->num_train_timesteps * sizeof *from->trained_betas;
    to->trained_betas = malloc(size);
    if (!to->trained_betas) RT_RAISE(RT_E_MEMORY, "out of memory for %lld betas", (long long)from->num_train_timesteps);
    memcpy(to->trained_betas, from->trained_betas, size);
    return RT_OK;
}

/* ---- making */

const char *rt__schedule_owner(const char *beta_schedule)
{
    static const char *const own[][2] = {{"sigmoid", "DDPMScheduler"}, {"laplace", "DDPMScheduler"}, {"exp", "HeunDiscreteScheduler"}};
    for (size_t i = 0; i < RT_COUNT(own); i++)
        if (!strcmp(beta_schedule, own[i][0])) return own[i][1];
    return NULL;
}

/* The betas themselves in place of a schedule's name that the class does not have. */
static rt_status spell_betas(rt_scheduler_config *c, rt_error *err)
{
    rt_process_spec spec = rt_process_defaults("ddpm");
    spec.timesteps = c->num_train_timesteps;
    spec.betas = c->beta_schedule;
    spec.beta_start = c->beta_start;
    spec.beta_end = c->beta_end;
    spec.float32 = true;
    c->trained_betas = malloc((size_t)c->num_train_timesteps * sizeof *c->trained_betas);
    if (!c->trained_betas) RT_RAISE(RT_E_MEMORY, "out of memory for %lld betas", (long long)c->num_train_timesteps);
    RT_TRY(rt__betas(&spec, c->trained_betas, err));
    put_text(c->beta_schedule, sizeof c->beta_schedule, "linear");
    return RT_OK;
}

#define PUT(field, text) put_text(field, sizeof(field), text)

rt_status rt_scheduler_config_student(rt_scheduler_config *student, const rt_scheduler_config *teacher, const rt_prediction *prediction,
                                      rt_error *err)
{
    const rt__scheduler_class *class = rt__scheduler_class_find(teacher->class_name, err);
    if (!class) return RT_E_USAGE;
    bool flow = !strcmp(class->process, "flow");
    const char *name = rt_prediction_diffusers(prediction);
    if (!name || flow != !strcmp(name, "flow_prediction"))
        RT_RAISE(RT_E_INVALID, "%s has no %s-prediction; give %s", teacher->class_name, rt_prediction_name(prediction),
                 flow ? "velocity" : "v, x0 or epsilon");
    RT_TRY(rt_scheduler_config_copy(student, teacher, err));
    student->recipe = no_recipe;
    if (flow) {
        PUT(student->class_name, "FlowMatchEulerDiscreteScheduler");
        student->shift_terminal = 0;
        student->stochastic_sampling = false;
        student->use_karras_sigmas = false;
        return RT_OK;
    }
    PUT(student->class_name, "DDIMScheduler");
    PUT(student->prediction_type, name);
    PUT(student->timestep_spacing, "trailing");
    student->steps_offset = 0;
    student->set_alpha_to_one = true;
    student->clip_sample = false;
    if (!student->trained_betas && rt__schedule_owner(student->beta_schedule)) {
        rt_status status = spell_betas(student, err);
        if (status != RT_OK) rt_scheduler_config_free(student);
        return status;
    }
    return RT_OK;
}

void rt_scheduler_config_renoise(rt_scheduler_config *student)
{
    if (!strcmp(student->class_name, "FlowMatchEulerDiscreteScheduler"))
        student->stochastic_sampling = true;
    else
        PUT(student->class_name, "LCMScheduler");
}

rt_status rt_scheduler_config_from(rt_scheduler_config *c, const rt_process_spec *spec, const rt_prediction *prediction, rt_error *err)
{
    bool flow = !strcmp(spec->name, "flow");
    if (!flow && strcmp(spec->name, "ddpm"))
        RT_RAISE(RT_E_INVALID, "no scheduler of diffusers has the process %s; train on ddpm or flow to write a folder that it loads",
                 spec->name);
    rt_scheduler_config like;
    set_defaults(&like, rt__scheduler_class_find(flow ? "FlowMatchEulerDiscreteScheduler" : "DDIMScheduler", NULL));
    like.num_train_timesteps = spec->timesteps;
    like.shift = spec->shift;
    if (!flow) {
        PUT(like.beta_schedule, spec->betas ? spec->betas : "linear");
        like.beta_start = spec->beta_start;
        like.beta_end = spec->beta_end;
        like.rescale_betas_zero_snr = spec->zero_snr;
        like.trained_betas = (double *)(uintptr_t)spec->trained_betas; /* borrowed until it is copied */
    }
    return rt_scheduler_config_student(c, &like, prediction, err);
}

/* ---- writing */

static json_t *recipe_object(const rt_student_recipe *r)
{
    json_t *object = json_pack("{s:i, s:b, s:[f, f]}", "version", r->version, "exact_in_diffusers", r->exact_in_diffusers, "data_range",
                               r->low, r->high);
    if (!object) return NULL;
    json_object_set_new(object, "guidance", r->has_guidance ? json_real(r->guidance) : json_null());
    json_object_set_new(object, "null_class", r->null_class >= 0 ? json_integer(r->null_class) : json_null());
    if (*r->method) json_object_set_new(object, "method", json_string(r->method));
    if (*r->solver) json_object_set_new(object, "solver", json_string(r->solver));
    if (*r->teacher_sha256) json_object_set_new(object, "teacher_sha256", json_string(r->teacher_sha256));
    if (r->draws) json_object_set_new(object, "draws", json_integer(r->draws));
    if (r->has_range) {
        json_object_set_new(object, "guidance_range", json_pack("[f, f]", r->guidance_low, r->guidance_high));
        json_object_set_new(object, "guidance_default", json_real(r->guidance_default));
    }
    if (!r->steps) return object;
    json_t *times = json_array();
    for (int i = 0; i < r->steps; i++) {
        double t = r->timesteps[i];
        json_array_append_new(times, t == (double)(json_int_t)t ? json_integer((json_int_t)t) : json_real(t));
    }
    json_object_set_new(object, "steps", json_integer(r->steps));
    json_object_set_new(object, "timesteps", times);
    if (!(r->input_scale > 0)) return object;
    json_object_set_new(object, "input_scale", json_real(r->input_scale));
    json_object_set(object, "input_timestep", json_array_get(times, 0));
    return object;
}

/* With the fewest digits that bring every number back. */
static char *shortest(const json_t *object, size_t flags)
{
    char *text = NULL;
    for (int digits = 15; digits <= 17; digits++) {
        free(text);
        text = json_dumps(object, flags | JSON_SORT_KEYS | JSON_REAL_PRECISION((size_t)digits));
        json_t *back = text ? json_loads(text, 0, NULL) : NULL;
        bool same = back && json_equal(object, back);
        json_decref(back);
        if (same) break;
    }
    return text;
}

char *rt_recipe_text(const rt_student_recipe *recipe)
{
    json_t *object = recipe->version ? recipe_object(recipe) : NULL;
    char *text = object ? shortest(object, JSON_COMPACT) : NULL;
    json_decref(object);
    return text;
}

static json_t *field_value(const rt_scheduler_config *c, const struct field *f)
{
    const char *at = (const char *)c + f->offset;
    switch (f->kind) {
    case WHOLE: return json_integer(*(const int64_t *)(const void *)at);
    case REAL: {
        double v = *(const double *)(const void *)at;
        return f->nullable && v == 0 ? json_null() : json_real(v);
    }
    case TRUTH: return json_boolean(*(const bool *)at);
    case TEXT: return json_string(at);
    case LIST: break;
    }
    if (!c->trained_betas) return json_null();
    json_t *list = json_array();
    for (int64_t i = 0; i < c->num_train_timesteps; i++) json_array_append_new(list, json_real(c->trained_betas[i]));
    return list;
}

rt_status rt_scheduler_config_write(const rt_scheduler_config *c, const char *path, rt_error *err)
{
    const rt__scheduler_class *class = rt__scheduler_class_find(c->class_name, err);
    if (!class) return RT_E_USAGE;
    json_t *root = json_object();
    json_object_set_new(root, "_class_name", json_string(c->class_name));
    for (size_t i = 0; i < RT_COUNT(fields); i++) {
        bool clip = !strncmp(fields[i].name, "clip_sample", strlen("clip_sample"));
        if (concerns(fields[i].family, class) && (class->clips || !clip))
            json_object_set_new(root, fields[i].name, field_value(c, &fields[i]));
    }
    if (!strcmp(class->process, "ddpm")) json_object_set_new(root, "thresholding", json_false());
    if (c->recipe.version) json_object_set_new(root, "_retort", recipe_object(&c->recipe));
    char *text = shortest(root, JSON_INDENT(2));
    json_decref(root);
    if (!text) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a scheduler configuration", path);
    size_t size = strlen(text);
    text[size] = '\n'; /* in place of the NUL */
    rt_status status = rt__file_write(path, text, size + 1, err);
    free(text);
    return status;
}
