/* dataset.c -- the table of kinds, and items as the model sees them. */
#include "data/reader.h"

#include "base/files.h"
#include "format/picture.h"

#include <sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* The first that claims a path reads it. */
static const rt__reader *const readers[] = {&rt__reader_toy, &rt__reader_idx,         &rt__reader_cifar,
                                            &rt__reader_zip, &rt__reader_safetensors, &rt__reader_folder};

bool rt_dataset_list(int i, rt_row_text *row)
{
    int files = (int)RT_COUNT(readers) - 1;
    if (i < 0) return false;
    if (i >= files) return rt__toy_row(i - files, row);
    const rt__reader *r = readers[i + 1];
    *row = (rt_row_text){r->name, r->source, r->text};
    return true;
}

bool rt__ends(const char *name, const char *ending)
{
    size_t n = strlen(name), k = strlen(ending);
    return n >= k && strcasecmp(name + n - k, ending) == 0;
}

void rt__split_part(const char *data, char path[RT_DATA_PATH], const char **part)
{
    const char *colon = strrchr(data, ':');
    bool named = colon && (!strcmp(colon, ":train") || !strcmp(colon, ":test")) && !rt__file_exists(data);
    snprintf(path, RT_DATA_PATH, "%.*s", named ? (int)(colon - data) : (int)strlen(data), data);
    *part = rt__is_folder(path) ? named ? colon + 1 : "train" : NULL;
}

rt_status rt__check_label(const char *file, int64_t item, int64_t label, int64_t classes, rt_error *err)
{
    if (label < 0 || label >= classes)
        RT_RAISE(RT_E_INVALID, "%s: field 'label' of item %lld is %lld; must be 0 to %lld", file, (long long)item, (long long)label,
                 (long long)classes - 1);
    return RT_OK;
}

static rt_status unknown(const char *data, rt_error *err)
{
    char path[RT_DATA_PATH];
    const char *part;
    rt__split_part(data, path, &part);
    if (!rt__file_exists(path)) RT_RAISE(RT_E_IO, "%s: no such file or folder; give a data set (`retort list datasets`)", path);
    RT_RAISE(RT_E_INVALID, "%s: not a data set that is known; `retort list datasets` prints the kinds", data);
}

/* ---- life */

static rt_dataset *new_set(rt__items *items)
{
    rt_dataset *ds = calloc(1, sizeof *ds);
    if (!ds) return NULL;
    ds->items = items ? items : calloc(1, sizeof *items);
    if (!ds->items) {
        free(ds);
        return NULL;
    }
    atomic_fetch_add(&ds->items->users, 1);
    rt_dataset_range(ds, -1, 1, false);
    return ds;
}

void rt_dataset_free(rt_dataset *ds)
{
    if (!ds) return;
    rt__items *it = ds->items;
    if (atomic_fetch_sub(&it->users, 1) == 1) {
        for (int i = 0; it->classes && i < it->n_classes; i++) free(it->classes[i]);
        free(it->classes);
        for (int64_t i = 0; it->captions && i < it->n_captions; i++) free(it->captions[i]);
        free(it->captions);
        free(it->cameras);
        free(it->bytes);
        free(it->reals);
        free(it->labels);
        free(it);
    }
    free(ds->chosen);
    free(ds);
}

/* ---- pictures of another size */

/* Pictures that were read as one array, plane by plane. */
static rt_status fit_array(rt_dataset *ds, rt_error *err)
{
    rt_dataset_info *info = &ds->info;
    const char *name = ds->items->chosen;
    if (!info->pictures)
        RT_RAISE(RT_E_USAGE, "%s: its items are numbers, which are taken as they are, no pictures; leave --resize and --crop out", name);
    size_t plane = (size_t)(info->shape[1] * info->shape[2]), planes = (size_t)info->count * (size_t)info->shape[0], size = 0, total;
    int64_t height = 0, width = 0;
    uint8_t *bytes = NULL;
    rt_status status = RT_OK;
    for (size_t i = 0; i < planes && status == RT_OK; i++) {
        rt__picture p = {.width = (int)info->shape[2], .height = (int)info->shape[1], .channels = 1, .pixels = malloc(plane)};
        if (p.pixels) memcpy(p.pixels, ds->items->bytes + i * plane, plane);
        status = p.pixels ? rt__picture_fit(&p, name, ds->fit.resize, ds->fit.crop, RT_DATA_SIDE, err)
                          : rt_error_set(err, RT_E_MEMORY, "%s: out of memory for a picture", name);
        if (status == RT_OK && !bytes) { /* all are of one size */
            height = p.height, width = p.width, size = (size_t)height * (size_t)width;
            ds->fitted.smaller = p.resized < 0 ? info->count : 0;
            ds->fitted.larger = p.resized > 0 ? info->count : 0;
            ds->fitted.cut = p.cropped ? info->count : 0;
            bytes = rt__mul_size(size, planes, &total) && total <= RT_DATA_BYTES ? malloc(total) : NULL;
            if (!bytes)
                status = rt_error_set(err, RT_E_MEMORY, "%s: out of memory for %lld pictures of %dx%d", name, (long long)info->count,
                                      p.width, p.height);
        }
        if (status == RT_OK) memcpy(bytes + i * size, p.pixels, size);
        rt__picture_free(&p);
    }
    if (status != RT_OK) {
        free(bytes);
        return status;
    }
    free(ds->items->bytes);
    ds->items->bytes = bytes;
    info->shape[1] = height;
    info->shape[2] = width;
    return RT_OK;
}

static void say_fit(const rt_dataset *ds)
{
    char *out = ds->items->remark;
    size_t size = sizeof ds->items->remark, used = strlen(out);
    int64_t resized = ds->fitted.smaller + ds->fitted.larger;
    if (resized) {
        used += (size_t)snprintf(out + used, size - used, "%s%lld picture%s resized to a shorter side of %d", used ? "; " : "",
                                 (long long)resized, resized > 1 ? "s" : "", ds->fit.resize);
        if (ds->fitted.larger && used < size)
            used += (size_t)snprintf(out + used, size - used, ", %lld of them from a smaller one", (long long)ds->fitted.larger);
    }
    if (ds->fitted.cut && used < size)
        snprintf(out + used, size - used, "%sof %lld the %dx%d in the middle %s kept", used ? "; " : "", (long long)ds->fitted.cut,
                 ds->fit.crop, ds->fit.crop, ds->fitted.cut > 1 ? "are" : "is");
}

rt_status rt_dataset_open(rt_dataset **out, const char *data, rt_error *err) { return rt_dataset_open_fit(out, data, (rt_fit){0}, err); }

rt_status rt_dataset_open_fit(rt_dataset **out, const char *data, rt_fit fit, rt_error *err)
{
    *out = NULL;
    if (strlen(data) >= RT_DATA_PATH)
        RT_RAISE(RT_E_USAGE, "%.60s...: the name of a data set has %zu bytes; at most %d", data, strlen(data), RT_DATA_PATH - 1);
    const rt__reader *reader = NULL;
    for (size_t i = 0; i < RT_COUNT(readers) && !reader; i++)
        if (readers[i]->claims(data)) reader = readers[i];
    if (!reader) return unknown(data, err);
    rt_dataset *ds = new_set(NULL);
    if (!ds) RT_RAISE(RT_E_MEMORY, "%s: out of memory", data);
    snprintf(ds->items->chosen, sizeof ds->items->chosen, "%s", data);
    ds->fit = fit;
    rt_status s = reader->read(ds, data, err);
    if (s == RT_OK && (fit.resize || fit.crop) && !ds->fitted.done) s = fit_array(ds, err);
    if (s != RT_OK) {
        rt_dataset_free(ds);
        return s;
    }
    say_fit(ds);
    if (!ds->info.kind) ds->info.kind = reader->name;
    ds->info.chosen = ds->items->chosen;
    ds->info.remark = ds->items->remark;
    ds->info.features = 1;
    for (int i = 0; i < ds->info.rank; i++) ds->info.features *= ds->info.shape[i];
    *out = ds;
    return RT_OK;
}

/* ---- parts */

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static rt_status choose(const rt_dataset *ds, int64_t from, int64_t to, int64_t **chosen, rt_error *err)
{
    int64_t n = ds->info.count;
    if (from < 0 || to > n || from >= to)
        RT_RAISE(RT_E_USAGE, "%s: items %lld to %lld of a set of %lld; give a range inside it that is not empty", ds->info.chosen,
                 (long long)from, (long long)to - 1, (long long)n);
    int64_t *c = malloc((size_t)(to - from) * sizeof *c);
    if (!c) RT_RAISE(RT_E_MEMORY, "%s: out of memory for the numbers of %lld items", ds->info.chosen, (long long)(to - from));
    for (int64_t i = from; i < to; i++) {
        int64_t at = rt_permute_index(0, UINT64_MAX, n, i); /* a permutation that no loader uses */
        c[i - from] = ds->chosen ? ds->chosen[at] : at;
    }
    qsort(c, (size_t)(to - from), sizeof *c, ascending);
    *chosen = c;
    return RT_OK;
}

rt_status rt_dataset_part(rt_dataset **part, const rt_dataset *whole, int64_t from, int64_t to, rt_error *err)
{
    *part = NULL;
    int64_t *chosen;
    RT_TRY(choose(whole, from, to, &chosen, err));
    rt_dataset *ds = new_set(whole->items);
    if (!ds) {
        free(chosen);
        RT_RAISE(RT_E_MEMORY, "%s: out of memory for a part", whole->info.chosen);
    }
    ds->info = whole->info;
    ds->info.count = to - from;
    ds->chosen = chosen;
    rt_dataset_range(ds, whole->low, whole->high, whole->flip);
    *part = ds;
    return RT_OK;
}

rt_status rt_dataset_limit(rt_dataset *ds, int64_t count, rt_error *err)
{
    int64_t *chosen;
    if (count <= 0 || count >= ds->info.count) return RT_OK;
    RT_TRY(choose(ds, 0, count, &chosen, err));
    free(ds->chosen);
    ds->chosen = chosen;
    ds->info.count = count;
    return RT_OK;
}

/* ---- items */

const rt_dataset_info *rt_dataset_describe(const rt_dataset *ds) { return &ds->info; }

const char *rt_dataset_class(const rt_dataset *ds, int label)
{
    return ds->items->classes && label >= 0 && label < ds->items->n_classes ? ds->items->classes[label] : NULL;
}

static int64_t place(const rt_dataset *ds, int64_t index) { return ds->chosen ? ds->chosen[index] : index; }

const char *rt_dataset_caption(const rt_dataset *ds, int64_t index)
{
    return ds->items->captions ? ds->items->captions[place(ds, index)] : NULL;
}

int rt_dataset_camera(const rt_dataset *ds, int64_t index) { return ds->items->cameras ? ds->items->cameras[place(ds, index)] : -1; }

rt_status rt_dataset_relabel(rt_dataset *ds, const int64_t *label, int classes, rt_error *err)
{
    rt__items *it = ds->items;
    size_t n = (size_t)ds->info.count;
    if (ds->chosen) RT_RAISE(RT_E_INTERNAL, "%s: the items of a part keep the labels of the whole", ds->info.chosen);
    int64_t *labels = malloc(n * sizeof *labels);
    if (!labels) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %zu labels", ds->info.chosen, n);
    memcpy(labels, label, n * sizeof *labels);
    free(it->labels);
    it->labels = labels;
    it->relabelled = true;
    for (int i = 0; i < it->n_classes; i++) free(it->classes[i]);
    free(it->classes);
    it->classes = NULL;
    it->n_classes = 0;
    ds->info.classes = classes;
    return RT_OK;
}

void rt_dataset_range(rt_dataset *ds, double low, double high, bool flip)
{
    ds->low = low;
    ds->high = high;
    ds->flip = flip;
    for (int i = 0; i < 256; i++) ds->values[i] = (float)((low * (255 - i) + high * i) / 255); /* exact at both ends */
}

void rt_dataset_read(const rt_dataset *ds, int64_t index, float *x, int64_t *y)
{
    const rt__items *it = ds->items;
    int64_t d = ds->info.features, at = place(ds, index);
    if (it->bytes) {
        const uint8_t *from = it->bytes + at * d;
        for (int64_t i = 0; x && i < d; i++) x[i] = ds->values[from[i]];
    } else if (x) {
        memcpy(x, it->reals + at * d, (size_t)d * sizeof *x);
    }
    if (y) *y = it->labels ? it->labels[at] : 0;
}

void rt_dataset_sha256(const rt_dataset *ds, char hex[65])
{
    const rt__items *it = ds->items;
    const unsigned char *data = it->bytes ? it->bytes : (const unsigned char *)it->reals;
    size_t width = it->bytes ? 1 : sizeof *it->reals, item = (size_t)ds->info.features * width;
    char text[128], shape[80];
    rt_shape_text(shape, sizeof shape, ds->info.rank, ds->info.shape);
    int n = snprintf(text, sizeof text, "%s %lld %s %d\n", it->bytes ? "U8" : "F32", (long long)ds->info.count, shape, ds->info.classes);
    SHA2_CTX c;
    SHA256Init(&c);
    SHA256Update(&c, (const unsigned char *)text, (size_t)n);
    for (int64_t i = 0; i < ds->info.count; i++) SHA256Update(&c, data + (size_t)place(ds, i) * item, item);
    size_t label = it->relabelled ? sizeof *it->labels : sizeof(int32_t); /* of data 0 to 65535, whose first bytes are the least */
    for (int64_t i = 0; it->labels && i < ds->info.count; i++) SHA256Update(&c, (const unsigned char *)&it->labels[place(ds, i)], label);
    SHA256End(&c, hex);
}
