/* recipe.c -- how a student carries its recipe: the object `_retort` of its scheduler_config.json, and the same as metadata of its weights. */
#include "format/scheduler_json.h"

#include "base/files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- reading */

static rt_status text_field(const rt_scheduler_config *c, const json_t *o, const char *key, size_t size, char *out, rt_error *err)
{
    const json_t *v = json_object_get(o, key);
    if (!v || json_is_null(v)) return RT_OK;
    if (!json_is_string(v) || json_string_length(v) >= size) return rt__json_wrong(c->name, key, v, "a short text", err);
    memcpy(out, json_string_value(v), json_string_length(v) + 1);
    return RT_OK;
}

static rt_status read_timesteps(const rt_scheduler_config *c, const json_t *o, rt_recipe *r, rt_error *err)
{
    const json_t *steps = json_object_get(o, "steps"), *list = json_object_get(o, "timesteps"), *item;
    size_t i;
    if (!steps || json_is_null(steps)) return RT_OK;
    if (!json_is_integer(steps) || json_integer_value(steps) < 1 || json_integer_value(steps) > RT_RECIPE_STEPS)
        return rt__json_wrong(c->name, "_retort.steps", steps, "a whole number from 1 to 4096", err);
    r->steps = (int)json_integer_value(steps);
    if (!json_is_array(list) || json_array_size(list) != (size_t)r->steps)
        return rt__json_wrong(c->name, "_retort.timesteps", list, "a list of `steps` numbers", err);
    json_array_foreach(list, i, item)
    {
        if (!json_is_number(item) || json_number_value(item) < 0 || (i && json_number_value(item) >= r->timesteps[i - 1]))
            return rt__json_wrong(c->name, "_retort.timesteps", list, "a list of falling numbers from 0 up", err);
        r->timesteps[i] = json_number_value(item);
    }
    return RT_OK;
}

static rt_status read_range(const rt_scheduler_config *c, const json_t *o, rt_recipe *r, rt_error *err)
{
    const json_t *v = json_object_get(o, "data_range"), *low = json_array_get(v, 0), *high = json_array_get(v, 1);
    if (!v || json_is_null(v)) return RT_OK;
    if (json_array_size(v) != 2 || !json_is_number(low) || !json_is_number(high) || !(json_number_value(low) < json_number_value(high)))
        return rt__json_wrong(c->name, "_retort.data_range", v, "[low, high] with low < high", err);
    r->low = json_number_value(low);
    r->high = json_number_value(high);
    return RT_OK;
}

rt_status rt_scheduler_config_recipe(const rt_scheduler_config *c, rt_recipe *r, bool *found, rt_error *err)
{
    const json_t *o = json_object_get(c->object, "_retort"), *v;
    *r = (rt_recipe){.null_class = -1, .low = -1, .high = 1};
    *found = o != NULL;
    if (!o) return RT_OK;
    if (!json_is_object(o)) return rt__json_wrong(c->name, "_retort", o, "an object", err);
    v = json_object_get(o, "version");
    if (!json_is_integer(v) || json_integer_value(v) != 1)
        return rt__json_wrong(c->name, "_retort.version", v, "1; a newer Retort reads others", err);
    RT_TRY(text_field(c, o, "method", sizeof r->method, r->method, err));
    RT_TRY(text_field(c, o, "solver", sizeof r->solver, r->solver, err));
    RT_TRY(text_field(c, o, "teacher_sha256", sizeof r->teacher_sha256, r->teacher_sha256, err));
    RT_TRY(read_timesteps(c, o, r, err));
    RT_TRY(read_range(c, o, r, err));
    v = json_object_get(o, "guidance");
    if (v && !json_is_null(v) && !json_is_number(v)) return rt__json_wrong(c->name, "_retort.guidance", v, "a number or null", err);
    r->has_guidance = json_is_number(v);
    r->guidance = r->has_guidance ? json_number_value(v) : 0;
    v = json_object_get(o, "null_class");
    if (v && !json_is_null(v) && (!json_is_integer(v) || json_integer_value(v) < 0))
        return rt__json_wrong(c->name, "_retort.null_class", v, "a class number or null", err);
    if (json_is_integer(v)) r->null_class = json_integer_value(v);
    r->exact_in_diffusers = json_is_true(json_object_get(o, "exact_in_diffusers"));
    return RT_OK;
}

/* ---- writing. Whole numbers are written as such, so that timesteps read as people expect them. */

static json_t *number(double v) { return v == floor(v) && fabs(v) < 0x1p53 ? json_integer((json_int_t)v) : json_real(v); }

static json_t *recipe_object(const rt_recipe *r)
{
    json_t *o = json_object(), *list = json_array();
    for (int i = 0; i < r->steps; i++) json_array_append_new(list, number(r->timesteps[i]));
    json_object_set_new(o, "version", json_integer(1));
    json_object_set_new(o, "method", *r->method ? json_string(r->method) : json_null());
    json_object_set_new(o, "solver", *r->solver ? json_string(r->solver) : json_null());
    json_object_set_new(o, "steps", r->steps ? json_integer(r->steps) : json_null());
    json_object_set_new(o, "timesteps", list);
    json_object_set_new(o, "guidance", r->has_guidance ? json_real(r->guidance) : json_null());
    json_object_set_new(o, "null_class", r->null_class >= 0 ? json_integer(r->null_class) : json_null());
    json_object_set_new(o, "data_range", json_pack("[o, o]", number(r->low), number(r->high)));
    json_object_set_new(o, "exact_in_diffusers", json_boolean(r->exact_in_diffusers));
    json_object_set_new(o, "teacher_sha256", *r->teacher_sha256 ? json_string(r->teacher_sha256) : json_null());
    return o;
}

char *rt_recipe_text(const rt_recipe *r)
{
    json_t *o = recipe_object(r);
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

/* What never varies: the settings under which diffusers' DDIM makes exactly the transitions of a Retort student. */
static void set_constants(json_t *o, const rt_scheduler_spec *spec)
{
    json_object_set_new(o, "_class_name", json_string("DDIMScheduler"));
    json_object_set_new(o, "_diffusers_version", json_string("0.42.1"));
    json_object_set_new(o, "prediction_type", json_string(spec->prediction_type));
    json_object_set_new(o, "timestep_spacing", json_string("trailing"));
    json_object_set_new(o, "steps_offset", json_integer(0));
    json_object_set_new(o, "set_alpha_to_one", json_true());
    json_object_set_new(o, "clip_sample", json_false());
    json_object_set_new(o, "thresholding", json_false());
    if (spec->recipe) json_object_set_new(o, "_retort", recipe_object(spec->recipe));
}

static rt_status write_object(const char *path, json_t *o, rt_error *err)
{
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_SORT_KEYS);
    json_decref(o);
    if (!text) RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    size_t n = strlen(text);
    text[n] = '\n'; /* in place of the NUL, which the length replaces */
    rt_status status = rt__file_write(path, text, n + 1, err);
    free(text);
    return status;
}

rt_status rt_scheduler_write(const char *path, const rt_scheduler_spec *spec, rt_error *err)
{
    json_t *o = json_object(), *betas = spec->trained_betas ? json_array() : json_null();
    for (int i = 0; spec->trained_betas && i < spec->n_trained_betas; i++) json_array_append_new(betas, json_real(spec->trained_betas[i]));
    json_object_set_new(o, "num_train_timesteps", json_integer(spec->timesteps));
    json_object_set_new(o, "beta_schedule", json_string(spec->beta_schedule));
    json_object_set_new(o, "beta_start", json_real(spec->beta_start));
    json_object_set_new(o, "beta_end", json_real(spec->beta_end));
    json_object_set_new(o, "trained_betas", betas);
    json_object_set_new(o, "rescale_betas_zero_snr", json_boolean(spec->zero_snr));
    set_constants(o, spec);
    return write_object(path, o, err);
}

rt_status rt_scheduler_write_like(const char *path, const rt_scheduler_config *teacher, const rt_scheduler_spec *spec, rt_error *err)
{
    static const char *const process[] = {"num_train_timesteps", "beta_schedule",         "beta_start", "beta_end",
                                          "trained_betas",       "rescale_betas_zero_snr"};
    json_t *o = json_object();
    for (size_t i = 0; i < RT_COUNT(process); i++) {
        json_t *v = json_object_get(teacher->object, process[i]);
        if (v) json_object_set(o, process[i], v);
    }
    set_constants(o, spec);
    return write_object(path, o, err);
}
