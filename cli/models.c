/* models.c -- see models.h. */
#include "models.h"

#include "retort/diffusion.h"

#include <stdlib.h>
#include <string.h>

/* ---- names of rows */

enum { MOST_ROWS = 64 };

static const char *const *words(const char *names[MOST_ROWS], bool (*describe)(int, rt_row_text *))
{
    rt_row_text row;
    for (int i = 0; i < MOST_ROWS - 1 && describe(i, &row); i++) names[i] = row.name;
    return names;
}

const char *const *cli_solver_words(void)
{
    static const char *names[MOST_ROWS];
    return words(names, rt_solver_describe);
}

const char *const *cli_grid_words(void)
{
    static const char *names[MOST_ROWS];
    return words(names, rt_grid_describe);
}

const char *const *cli_prediction_words(void)
{
    static const char *names[MOST_ROWS];
    return words(names, rt_prediction_describe);
}

/* ---- models */

rt_status cli_open_model(cli_call *c, const char *path, rt_model **model, rt_error *err)
{
    double *range = NULL;
    int n = cli_reals(c, "data-range", -1e6, 1e6, &range);
    if (n && (n != 2 || range[0] >= range[1]))
        cli_wrong(c, "data-range", "'%s' is not LOW,HIGH with LOW < HIGH", cli_text(c, "data-range"));
    rt_model_spec spec = {.path = path,
                          .scheduler = cli_text(c, "scheduler"),
                          .weights = cli_word(c, "weights"),
                          .backend = c->backend,
                          .threads = c->threads,
                          .compute = cli_compute(c, c->backend, c->dtype),
                          .choices = cli_choices(c),
                          .range = range,
                          .has_null_class = cli_given(c, "null-class"),
                          .rehearsal = c->dry_run ? &c->rehearsal : NULL,
                          .unhashed = !c->json && c->command->unhashed};
    if (spec.has_null_class) spec.null_class = cli_int(c, "null-class", 0, 1 << 30);
    TRY(cli_ok(c, err));
    TRY(rt_model_open(model, &spec, err));
    cli_remark(c, rt_model_get_info(*model)->remark);
    return RT_OK;
}

static json_t *text_or_null(const char *text) { return *text ? json_string(text) : json_null(); }

json_t *cli_json_reals(const double *v, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_real(v[i]));
    return list;
}

static json_t *recipe_json(const rt_model_info *info)
{
    const rt_student_recipe *r = &info->recipe;
    if (!r->steps) return json_null();
    json_t *o = json_pack("{s:s, s:s, s:i, s:b}", "method", r->method, "solver", r->solver, "steps", r->steps, "exact_in_diffusers",
                          r->exact_in_diffusers);
    json_object_set_new(o, "times", cli_json_reals(info->recipe_times, r->steps + 1));
    json_object_set_new(o, "draws", json_integer(r->draws));
    json_object_set_new(o, "guidance", r->has_guidance ? json_real(r->guidance) : json_null());
    if (r->has_range) {
        json_object_set_new(o, "guidance_range", cli_json_reals((double[]){r->guidance_low, r->guidance_high}, 2));
        json_object_set_new(o, "guidance_default", json_real(r->guidance_default));
    }
    return o;
}

static json_t *words_json(const rt_words *w)
{
    if (!w) return json_null();
    json_t *vocabulary = json_array();
    for (int k = 1; k <= rt_words_count(w); k++) json_array_append_new(vocabulary, json_string(rt_words_word(w, k)));
    return json_pack("{s:i, s:o, s:I}", "length", rt_words_length(w), "vocabulary", vocabulary, "prompts", (json_int_t)rt_words_prompts(w));
}

json_t *cli_model_json(const char *path, const rt_model_info *info)
{
    json_t *shape = json_array(), *o = json_object();
    for (int i = 0; i < info->rank; i++) json_array_append_new(shape, json_integer(info->shape[i]));
    json_object_set_new(o, "path", json_string(path));
    json_object_set_new(o, "chosen", json_string(info->chosen));
    json_object_set_new(o, "network", json_string(info->network));
    json_object_set_new(o, "shape", shape);
    json_object_set_new(o, "features", json_integer(info->features));
    json_object_set_new(o, "parameters", json_integer(info->parameters));
    json_object_set_new(o, "classes", json_integer(info->classes));
    json_object_set_new(o, "null_class", info->null_class >= 0 ? json_integer(info->null_class) : json_null());
    json_object_set_new(o, "words", words_json(info->words));
    json_object_set_new(o, "camera", json_boolean(info->camera));
    json_object_set_new(o, "process", text_or_null(info->process));
    json_object_set_new(o, "prediction", text_or_null(info->prediction));
    json_object_set_new(o, "scheduler", text_or_null(info->scheduler));
    json_object_set_new(o, "timesteps", json_integer(info->timesteps));
    json_object_set_new(o, "range", cli_json_reals((double[]){info->low, info->high}, 2));
    json_object_set_new(o, "sha256", text_or_null(info->sha256));
    json_object_set_new(o, "recipe", recipe_json(info));
    return o;
}

/* ---- tensors from files */

static rt_status read_one(const rt_tensors *file, const char *name, rt_dtype dtype, bool optional, rt_tensor *out, rt_error *err)
{
    int index = rt_tensors_find(file, name);
    if (index < 0 && optional) return RT_OK;
    if (index < 0) return rt_error_set(err, RT_E_INVALID, "there is no tensor '%s'", name);
    const rt_tensor_info *info = rt_tensors_info(file, index);
    bool real = info->dtype == RT_F32 || info->dtype == RT_F64 || info->dtype == RT_F16 || info->dtype == RT_BF16;
    if (dtype == RT_I64 && real)
        return rt_error_set(err, RT_E_INVALID, "tensor '%s' is %s; must hold whole numbers (I64)", name, rt_dtype_name(info->dtype));
    rt_tensor raw = {0};
    TRY(rt_tensors_read(file, index, &raw, err));
    rt_status status = rt_tensor_cast(out, &raw, dtype, err);
    rt_tensor_free(&raw);
    return status;
}

rt_status cli_read_tensor(const char *path, const char *name, rt_dtype dtype, bool optional, rt_tensor *out, rt_error *err)
{
    rt_tensors *file;
    TRY(rt_tensors_open(&file, path, err));
    rt_status status = read_one(file, name, dtype, optional, out, err);
    if (status != RT_OK) rt_error_prefix(err, "%s", path);
    rt_tensors_close(file);
    return status;
}

rt_status cli_read_rows(const char *path, const char *name, const rt_model_info *info, int leading, rt_tensor *out, rt_error *err)
{
    TRY(cli_read_tensor(path, name, RT_F32, false, out, err));
    bool fits = out->rank == leading + info->rank;
    for (int i = 0; fits && i < info->rank; i++) fits = out->shape[leading + i] == info->shape[i];
    if (fits) return RT_OK;
    char have[128], want[128];
    rt_shape_text(have, sizeof have, out->rank, out->shape);
    rt_shape_text(want, sizeof want, info->rank, info->shape);
    rt_tensor_free(out);
    return rt_error_set(err, RT_E_INVALID, "%s: tensor '%s' is %s; must be %s%s for this model", path, name, have,
                        leading == 2 ? "calls x n x " : "n x ", want);
}

/* Tokens [n,L] as n labels, in place. */
static rt_status labels_of_tokens(const char *path, const rt_words *words, rt_tensor *y, rt_error *err)
{
    int64_t *values = y->data, L = y->shape[1], label;
    for (int64_t i = 0; i < y->shape[0]; i++) {
        if (!rt_words_of_tokens(words, values + i * L, &label)) {
            rt_tensor_free(y);
            return rt_error_set(err, RT_E_INVALID, "%s: tensor 'y', row %lld, holds a token that there is not; must be 0 to %d", path,
                                (long long)i, rt_words_count(words));
        }
        values[i] = label;
    }
    return RT_OK;
}

rt_status cli_read_labels(const char *path, int64_t n, const rt_model_info *info, rt_tensor *out, rt_error *err)
{
    const rt_words *words = info->words;
    char have[128];
    TRY(cli_read_tensor(path, "y", RT_I64, true, out, err));
    if (!out->data && words) TRY(cli_read_tensor(path, "class_labels", RT_I64, true, out, err));
    if (!out->data || (!words && out->rank == 1 && out->shape[0] == n)) return RT_OK;
    if (words && out->rank == 2 && out->shape[0] == n && out->shape[1] == rt_words_length(words))
        return labels_of_tokens(path, words, out, err);
    if (words) {
        rt_shape_text(have, sizeof have, out->rank, out->shape);
        rt_tensor_free(out);
        return rt_error_set(err, RT_E_INVALID, "%s: tensor 'y' is %s; must be %lldx%d, tokens of a prompt for each sample", path, have,
                            (long long)n, rt_words_length(words));
    }
    rt_shape_text(have, sizeof have, out->rank, out->shape);
    rt_tensor_free(out);
    return rt_error_set(err, RT_E_INVALID, "%s: tensor 'y' is %s; must be %lld, one class for each sample", path, have, (long long)n);
}

/* ---- how to sample */

static void read_class(cli_call *c, rt_sampling *s)
{
    const char *text = cli_text(c, "class");
    if (strcmp(text, "all") == 0)
        s->choice = RT_CLASS_ALL;
    else if (strcmp(text, "null") == 0)
        s->choice = RT_CLASS_NULL;
    else {
        double k;
        s->choice = RT_CLASS_ONE;
        if (!cli_number(text, &k))
            cli_wrong(c, "class", "'%s' is neither a class number nor all nor null", text);
        else
            s->label = cli_int(c, "class", 0, 1 << 30);
    }
}

void cli_read_sampling(cli_call *c, rt_sampling *s)
{
    s->seed = c->seed;
    s->grid = cli_word(c, "grid");
    s->solver = cli_word(c, "solver");
    s->has_guidance = cli_given(c, "guidance");
    s->guidance = cli_real(c, "guidance", -1, 1e4);
    double *interval = NULL;
    if (cli_reals(c, "guidance-interval", 0, 1e9, &interval) == 2) {
        s->guidance_low = interval[0];
        s->guidance_high = interval[1];
    } else if (cli_given(c, "guidance-interval")) {
        cli_wrong(c, "guidance-interval", "'%s' is not LOW,HIGH", cli_text(c, "guidance-interval"));
    }
    s->guidance_rescale = cli_real(c, "guidance-rescale", 0, 1);
    s->options = (rt_solver_options){
        .eta = cli_real(c, "eta", 0, 1), .churn = cli_real(c, "churn", 0, 1e6), .tolerance = cli_real(c, "tolerance", 0, 1)};
    if (cli_text(c, "batch")) s->batch = cli_int(c, "batch", 1, 65536);
    read_class(c, s);
}

rt_status cli_open_guide(cli_call *c, rt_sampling *s, rt_error *err)
{
    const char *path = cli_text(c, "guide");
    return path ? cli_open_model(c, path, &s->guide, err) : RT_OK;
}
