/* cmd_predict.c -- retort predict MODEL: the network's output for tensors from a file. */
#include "models.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    {"inputs", 'i', "FILE", NULL, NULL, "tensors x [n,...], t [n] or one number, y [n] where there are classes", NULL},
    {"out", 'o', "FILE", NULL, NULL, "the file to write: tensor out", NULL},
    {"as", 0, "NAME", "predict.as", NULL, "convert the output to x0, epsilon, v or score", cli_prediction_words},
    {"batch", 'b', "N", "predict.batch", "64", "samples at a time", NULL},
    {0}};

typedef struct inputs {
    rt_tensor x, t, y;
    double *times; /* one per sample */
    int64_t n;
} inputs;

static void inputs_free(inputs *in)
{
    rt_tensor_free(&in->x);
    rt_tensor_free(&in->t);
    rt_tensor_free(&in->y);
    free(in->times);
}

static rt_status read_inputs(inputs *in, const char *path, const rt_model_info *info, rt_error *err)
{
    TRY(cli_read_rows(path, "x", info, 1, &in->x, err));
    in->n = in->x.shape[0];
    TRY(cli_read_tensor(path, "t", RT_F64, info->feature_dims > 0, &in->t, err));
    if (!info->feature_dims) TRY(cli_read_labels(path, in->n, info, &in->y, err)); /* a classifier is told none */
    int64_t count = in->t.data ? rt_tensor_count(&in->t) : 1;
    if (in->n < 1) return rt_error_set(err, RT_E_INVALID, "%s: tensor 'x' holds no sample", path);
    if (count != 1 && (in->t.rank != 1 || count != in->n))
        return rt_error_set(err, RT_E_INVALID, "%s: tensor 't' holds %lld numbers; must be one, or one for each of the %lld samples", path,
                            (long long)count, (long long)in->n);
    int64_t broken = 0, wrong = 0;
    for (int64_t i = 0, n = rt_tensor_count(&in->x); i < n; i++) broken += !isfinite(((float *)in->x.data)[i]);
    for (int64_t i = 0; in->t.data && i < count; i++) wrong += !isfinite(((double *)in->t.data)[i]);
    if (broken + wrong > 0)
        return rt_error_set(err, RT_E_INVALID, "%s: tensor '%s' holds %lld numbers that are NaN or infinite; take samples without them",
                            path, broken ? "x" : "t", (long long)(broken ? broken : wrong));
    if (info->classes && !info->feature_dims && !in->y.data)
        return rt_error_set(err, RT_E_INVALID, "%s: there is no tensor 'y'; this model needs a class (0 to %lld) for each sample", path,
                            (long long)info->classes - 1);
    in->times = malloc((size_t)in->n * sizeof *in->times);
    if (!in->times) return rt_error_set(err, RT_E_MEMORY, "%s: out of memory for %lld samples", path, (long long)in->n);
    for (int64_t i = 0; i < in->n; i++) in->times[i] = in->t.data ? ((double *)in->t.data)[count == 1 ? 0 : i] : 0;
    return RT_OK;
}

static rt_status predict(cli_call *c, rt_model *model, const inputs *in, const char *out, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(model);
    const char *as = cli_word(c, "as");
    int64_t batch = cli_int(c, "batch", 1, 65536), width = info->outputs;
    TRY(cli_ok(c, err));
    int64_t shape[RT_MAX_RANK] = {in->n, width};
    int rank = 2;
    if (width == info->features) {
        rank = info->rank + 1;
        memcpy(shape + 1, info->shape, (size_t)info->rank * sizeof *shape);
    } else if (info->condition) {
        rank = info->rank + 1;
        memcpy(shape + 1, info->shape, (size_t)info->rank * sizeof *shape);
        shape[1] -= info->condition;
    }
    float *values = malloc((size_t)(in->n * width) * sizeof *values), largest = 0;
    if (!values) return rt_error_set(err, RT_E_MEMORY, "out of memory for %lld outputs", (long long)in->n);
    const float *x = in->x.data;
    const int64_t *y = info->classes ? in->y.data : NULL;
    rt_status status = RT_OK;
    cli_progress p;
    cli_progress_start(&p, c, "predicting", "samples", (double)in->n, false);
    for (int64_t at = 0; at < in->n && status == RT_OK; at += batch) {
        int64_t n = in->n - at < batch ? in->n - at : batch;
        status = rt_model_predict(model, as, n, x + at * info->features, in->times + at, y ? y + at : NULL, values + at * width, err);
        cli_progress_at(&p, (double)(at + n));
    }
    cli_progress_end(&p, (double)in->n);
    for (int64_t i = 0; status == RT_OK && i < in->n * width; i++) largest = fmaxf(largest, fabsf(values[i]));
    const rt_named_tensor tensor = {"out", RT_F32, rank, shape, values};
    if (status == RT_OK) status = rt_tensors_write(out, &tensor, 1, NULL, err);
    free(values);
    cli_put(c, "largest", cli_json_real((double)largest));
    cli_put(c, "as", as ? json_string(as) : json_null());
    return status;
}

/* The most resident memory of the whole: one batch stands for all. An oracle is not asked. */
static rt_status rehearse(cli_call *c, rt_model *model, const inputs *in, rt_error *err)
{
    const rt_model_info *info = rt_model_get_info(model);
    int64_t batch = cli_int(c, "batch", 1, 65536), n = in->n < batch ? in->n : batch;
    TRY(cli_ok(c, err));
    rt_rehearsal_reserve(&c->rehearsal, in->n * info->outputs * (int64_t)sizeof(float));
    float *values = malloc((size_t)(n * info->outputs) * sizeof *values);
    if (!values) return rt_error_set(err, RT_E_MEMORY, "out of memory for %lld outputs", (long long)n);
    rt_status status = RT_OK;
    if (info->parameters > 0) status = rt_model_predict(model, NULL, n, in->x.data, in->times, in->y.data, values, err);
    free(values);
    return status;
}

static rt_status run(cli_call *c, rt_error *err)
{
    const char *path = cli_text(c, "inputs"), *out = cli_text(c, "out");
    if (!path) return rt_error_set(err, RT_E_USAGE, "--inputs is missing: a .safetensors file with x, t and, where there are classes, y");
    if (!out) return rt_error_set(err, RT_E_USAGE, "--out is missing: the .safetensors file to write");
    TRY(cli_claim_out(c, out, err));
    rt_model *model;
    TRY(cli_open_model(c, c->arguments[0], &model, err));
    const rt_model_info *info = rt_model_get_info(model);
    inputs in = {0};
    rt_status status = read_inputs(&in, path, info, err);
    cli_put(c, "model", cli_model_json(c->arguments[0], info));
    cli_put(c, "n", json_integer(in.n));
    cli_put(c, "out", json_string(out));
    if (status == RT_OK && c->dry_run) {
        status = rehearse(c, model, &in, err);
        cli_print_config(c, c->text);
        cli_say(c, "would write %s: the outputs for %lld samples, %.0f MiB of memory", out, (long long)in.n,
                (double)c->rehearsal.peak / 0x1p20);
        cli_put(c, "memory_bytes", json_integer((json_int_t)c->rehearsal.peak));
    } else if (status == RT_OK) {
        status = predict(c, model, &in, out, err);
        if (status == RT_OK) cli_say(c, "%s: the outputs for %lld samples", out, (long long)in.n);
    }
    inputs_free(&in);
    rt_model_free(model);
    return status;
}

const cli_command cli_predict_command = {
    .name = "predict",
    .arguments = "MODEL",
    .summary = "evaluate the network once on tensors from a file",
    .text = "Reads x [n,...], t (one number or [n], in the units that the network takes: diffusers timesteps 0..T-1) and y [n] where\n"
            "the model has classes, and writes the network's raw output as tensor `out`. --as converts it by the model's process.",
    .examples = "retort predict oracle:examples/gaussian.json --inputs examples/inputs.safetensors --out out.safetensors",
    .options = options,
    .shared = cli_model_options,
    .shared_title = "Options for models",
    .min_arguments = 1,
    .max_arguments = 1,
    .run = run,
    .unhashed = true,
};
