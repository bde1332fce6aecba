/* gallery.c -- pictures that come one by one become one array; their labels come from dataset.json or from the folders they lie in. */
#include "data/reader.h"

#include "base/json.h"
#include "format/picture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

rt_status rt__gallery_begin(rt__gallery *g, rt_dataset *ds, int64_t room, rt_error *err)
{
    *g = (rt__gallery){.ds = ds, .room = room};
    ds->fitted.done = true;
    ds->info = (rt_dataset_info){.rank = 3, .pictures = true};
    if (room > RT_DATA_COUNT) RT_RAISE(RT_E_INVALID, "%s: %lld pictures; at most 2^31 - 1", ds->items->chosen, (long long)room);
    return RT_OK;
}

/* The array for pictures of `channels`; the grey ones that are there become coloured. */
static rt_status make_room(rt__gallery *g, const char *name, int channels, rt_error *err)
{
    rt_dataset_info *info = &g->ds->info;
    size_t plane = (size_t)(info->shape[1] * info->shape[2]), total;
    if (!rt__mul_size(plane * (size_t)channels, (size_t)g->room, &total) || total > RT_DATA_BYTES)
        RT_RAISE(RT_E_INVALID, "%s: %lld pictures of its size (%lldx%lldx%d) exceed 2^36 bytes; use fewer or smaller ones", name,
                 (long long)g->room, (long long)info->shape[1], (long long)info->shape[2], channels);
    uint8_t *bytes = malloc(total);
    if (!bytes) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %zu bytes of pictures", name, total);
    for (int64_t i = 0; i < info->count; i++)
        for (int c = 0; c < channels; c++)
            memcpy(bytes + ((size_t)i * (size_t)channels + (size_t)c) * plane, g->ds->items->bytes + (size_t)i * plane, plane);
    free(g->ds->items->bytes);
    g->ds->items->bytes = bytes;
    info->shape[0] = channels;
    return RT_OK;
}

static rt_status fit_picture(rt_dataset *ds, rt__picture *p, const char *name, rt_error *err)
{
    RT_TRY(rt__picture_fit(p, name, ds->fit.resize, ds->fit.crop, RT_DATA_SIDE, err));
    ds->fitted.smaller += p->resized < 0;
    ds->fitted.larger += p->resized > 0;
    ds->fitted.cut += p->cropped;
    return RT_OK;
}

rt_status rt__gallery_add(rt__gallery *g, const char *name, const void *file, size_t size, rt_error *err)
{
    rt_dataset_info *info = &g->ds->info;
    const rt_fit *fit = &g->ds->fit;
    bool any = fit->resize || fit->crop; /* then sizes are compared behind it */
    rt__picture p;
    rt_error why = {0};
    rt_status read = rt__picture_decode(&p, name, file, size, any ? 0 : (int)info->shape[2], any ? 0 : (int)info->shape[1], RT_DATA_SIDE,
                                        fit->alpha, &why);
    if (read != RT_OK && p.damaged) {
        if (!g->damaged++) snprintf(g->example[0], sizeof g->example[0], "%.127s", why.text);
        return RT_OK;
    }
    if (read != RT_OK) RT_RAISE(read, "%s", why.text);
    g->turned += p.turned;
    rt_status status = fit_picture(g->ds, &p, name, err);
    if (status == RT_OK && info->count > 0 && (p.height != info->shape[1] || p.width != info->shape[2]))
        status = rt_error_set(err, RT_E_INVALID,
                              "%s: field 'size' is %dx%d after --resize %d, the pictures before it are %lldx%lld; add --crop %d", name,
                              p.width, p.height, fit->resize, (long long)info->shape[2], (long long)info->shape[1], fit->resize);
    if (status == RT_OK) {
        info->shape[1] = p.height;
        info->shape[2] = p.width;
        if (p.channels > info->shape[0]) status = make_room(g, name, p.channels, err);
    }
    if (status == RT_OK) {
        size_t c = (size_t)info->shape[0], plane = (size_t)p.height * (size_t)p.width, from = (size_t)p.channels;
        uint8_t *to = g->ds->items->bytes + (size_t)info->count++ * c * plane;
        for (size_t k = 0; k < c; k++)
            for (size_t i = 0; i < plane; i++) to[k * plane + i] = p.pixels[i * from + (from == 1 ? 0 : k)];
    }
    rt__picture_free(&p);
    return status;
}

bool rt__gallery_leave(rt__gallery *g, const char *name)
{
    bool other = rt__picture_name(name) == RT__OTHER_PICTURE;
    int64_t *count = other ? &g->others : &g->strangers;
    if (!(*count)++) snprintf(g->example[other ? 1 : 2], sizeof g->example[0], "%.100s", name);
    return other;
}

rt_status rt__gallery_end(rt__gallery *g, rt_error *err)
{
    char *out = g->ds->items->remark, *first = out;
    size_t size = sizeof g->ds->items->remark;
    const int64_t counts[] = {g->others, g->damaged, g->strangers}, left = g->others + g->damaged + g->strangers;
    static const int examples[] = {1, 0, 2};
    static const char *const one[] = {"is no PNG or JPEG", "is damaged", "is no picture"}, *const many[] = {"are no PNG or JPEG",
                                                                                                            "are damaged",
                                                                                                            "are no pictures"};
#define ADD(...)                                                                                                                           \
    do {                                                                                                                                   \
        size_t used = strlen(out);                                                                                                         \
        snprintf(out + used, size - used, __VA_ARGS__);                                                                                    \
    } while (0)
    if (*out) ADD("; ");
    if (left) ADD("%lld file%s left out: ", (long long)left, left > 1 ? "s" : "");
    for (int i = 0, said = 0; i < 3; i++)
        if (counts[i])
            ADD("%s%lld %s (%s)", said++ ? ", " : "", (long long)counts[i], counts[i] > 1 ? many[i] : one[i], g->example[examples[i]]);
    if (g->others) ADD("; convert them: mogrify -format png FILES");
    if (g->turned)
        ADD("%s%lld picture%s turned by %s EXIF orientation", left ? "; " : "", (long long)g->turned, g->turned > 1 ? "s" : "",
            g->turned > 1 ? "their" : "its");
#undef ADD
    if (!left && !g->turned && *first) out[strlen(out) - 2] = 0; /* the separator */
    if (g->ds->info.count < 1)
        RT_RAISE(RT_E_INVALID, "%s: no pictures (.png, .jpg, .jpeg) in it%s%s", g->ds->items->chosen, *out ? "; " : "", out);
    return RT_OK;
}

/* ---- labels */

static rt_status room_for_labels(rt_dataset *ds, int64_t n, rt_error *err)
{
    ds->items->labels = malloc((size_t)n * sizeof *ds->items->labels);
    if (!ds->items->labels) RT_RAISE(RT_E_MEMORY, "%s: out of memory for labels", ds->items->chosen);
    return RT_OK;
}

static size_t folder_length(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? (size_t)(slash - name) : 0;
}

static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Is the list laid out in numbered parts, as EDM's dataset tool does: picture k is K/imgNNNNNNNN.png, NNNNNNNN = k, K = k / 1000 in five digits? */
static bool in_numbered_parts(char *const *names, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        unsigned part, picture;
        int end = 0;
        const char *name = names[i] + folder_length(names[i]);
        while (name > names[i] && name[-1] != '/') name--;
        if (sscanf(name, "%5u/img%8u.%n", &part, &picture, &end) != 2 || end != 5 + 1 + 3 + 8 + 1 || part != picture / 1000) return false;
    }
    return true;
}

/* Class = the folder that a picture lies in; the folders in the order of their names. One folder for all means no classes, and so do numbered parts. */
static rt_status label_by_folder(rt_dataset *ds, const char *where, char *const *names, int64_t n, int64_t left, rt_error *err)
{
    rt__items *it = ds->items;
    if (in_numbered_parts(names, n + left)) {
        size_t used = strlen(it->remark);
        snprintf(it->remark + used, sizeof it->remark - used, "%sits numbered folders are parts of one list, no classes", used ? "; " : "");
        return RT_OK;
    }
    bool several = false;
    for (int64_t i = 1; i < n + left && !several; i++) {
        if (i >= n && folder_length(names[i]) == 0) continue; /* beside the folders, and left out */
        size_t k = folder_length(names[i]);
        several = k != folder_length(names[0]) || memcmp(names[i], names[0], k);
    }
    if (!several && folder_length(names[0]) == 0) return RT_OK;
    it->classes = calloc((size_t)(n + left), sizeof *it->classes);
    if (!it->classes) RT_RAISE(RT_E_MEMORY, "%s: out of memory for classes", where);
    for (int64_t i = 0; i < n + left; i++) { /* the distinct ones among neighbours, then sorted and distinct */
        size_t k = folder_length(names[i]);
        if (k == 0 && i >= n) continue;
        if (k == 0) RT_RAISE(RT_E_INVALID, "%s: %s lies beside the folders of the classes; move it into one of them", where, names[i]);
        if (it->n_classes && strlen(it->classes[it->n_classes - 1]) == k && !memcmp(it->classes[it->n_classes - 1], names[i], k)) continue;
        it->classes[it->n_classes] = strndup(names[i], k);
        if (!it->classes[it->n_classes]) RT_RAISE(RT_E_MEMORY, "%s: out of memory for classes", where);
        it->n_classes++;
    }
    qsort(it->classes, (size_t)it->n_classes, sizeof *it->classes, by_text);
    int distinct = 0;
    for (int i = 0; i < it->n_classes; i++) {
        if (distinct && !strcmp(it->classes[distinct - 1], it->classes[i]))
            free(it->classes[i]);
        else
            it->classes[distinct++] = it->classes[i];
    }
    it->n_classes = ds->info.classes = distinct;
    if (distinct > RT_DATA_CLASSES)
        RT_RAISE(RT_E_INVALID, "%s: %d folders are %d classes; at most %d", where, distinct, distinct, RT_DATA_CLASSES);
    RT_TRY(room_for_labels(ds, n, err));
    for (int64_t i = 0; i < n; i++) {
        char folder[4096], *key = folder;
        snprintf(folder, sizeof folder, "%.*s", (int)folder_length(names[i]), names[i]);
        char **at = bsearch(&key, it->classes, (size_t)distinct, sizeof *it->classes, by_text);
        if (!at) RT_RAISE(RT_E_INTERNAL, "%s: %s has no class", where, names[i]);
        it->labels[i] = at - it->classes;
    }
    return RT_OK;
}

static rt_status class_names(rt_dataset *ds, const char *where, const json_t *classes, rt_error *err)
{
    rt__items *it = ds->items;
    if (!json_is_array(classes)) return RT_OK; /* Retort's own addition: others may use the key as they like */
    size_t n = json_array_size(classes);
    if (n < (size_t)ds->info.classes)
        RT_RAISE(RT_E_INVALID, "%s: field 'classes' has %zu names; the labels need %d", where, n, ds->info.classes);
    if (n > RT_DATA_CLASSES) RT_RAISE(RT_E_INVALID, "%s: field 'classes' has %zu names; at most %d", where, n, RT_DATA_CLASSES);
    it->classes = calloc(n ? n : 1, sizeof *it->classes);
    if (!it->classes) RT_RAISE(RT_E_MEMORY, "%s: out of memory for classes", where);
    it->n_classes = ds->info.classes = (int)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *name = json_array_get(classes, i);
        if (!json_is_string(name)) RT_RAISE(RT_E_INVALID, "%s: field 'classes', element %zu, is no string", where, i);
        it->classes[i] = strdup(json_string_value(name));
        if (!it->classes[i]) RT_RAISE(RT_E_MEMORY, "%s: out of memory for classes", where);
    }
    return RT_OK;
}

typedef struct place {
    const char *name;
    int64_t at;
} place;

static int by_name(const void *a, const void *b) { return strcmp(((const place *)a)->name, ((const place *)b)->name); }

/* One list of dataset.json: [["00000/img00000000.png", value], ...], in any order, one for each picture. `take` keeps the value of picture `at`. */
typedef struct field {
    const char *name, *must; /* must: what an element is */
    rt_status (*take)(rt_dataset *ds, const char *where, int64_t at, const json_t *value, rt_error *err);
    bool (*fits)(const json_t *value);
} field;

static bool is_whole(const json_t *v) { return json_is_integer(v); }
static bool is_text(const json_t *v) { return json_is_string(v); }

static rt_status take_label(rt_dataset *ds, const char *where, int64_t at, const json_t *value, rt_error *err)
{
    int64_t label = json_integer_value(value);
    RT_TRY(rt__check_label(where, at, label, RT_DATA_CLASSES, err));
    ds->items->labels[at] = label;
    if (label >= ds->info.classes) ds->info.classes = (int)label + 1;
    return RT_OK;
}

static rt_status take_camera(rt_dataset *ds, const char *where, int64_t at, const json_t *value, rt_error *err)
{
    json_int_t camera = json_integer_value(value);
    if (camera < 0 || camera >= RT_DATA_CLASSES)
        RT_RAISE(RT_E_INVALID, "%s: field 'camera' of item %lld is %lld; must be 0 to %d", where, (long long)at, (long long)camera,
                 RT_DATA_CLASSES - 1);
    ds->items->cameras[at] = (int32_t)camera;
    if (camera >= ds->info.cameras) ds->info.cameras = (int)camera + 1;
    return RT_OK;
}

static rt_status take_caption(rt_dataset *ds, const char *where, int64_t at, const json_t *value, rt_error *err)
{
    if (json_string_length(value) > RT_DATA_CAPTION)
        RT_RAISE(RT_E_INVALID, "%s: field 'captions': that of item %lld has %zu bytes; at most %d", where, (long long)at,
                 json_string_length(value), RT_DATA_CAPTION);
    free(ds->items->captions[at]);
    ds->items->captions[at] = strdup(json_string_value(value));
    if (!ds->items->captions[at]) RT_RAISE(RT_E_MEMORY, "%s: out of memory for captions", where);
    return RT_OK;
}

static const field labels_field = {"labels", "[\"name\", whole number]; class vectors are not understood", take_label, is_whole},
                   captions_field = {"captions", "[\"name\", \"words\"]", take_caption, is_text},
                   camera_field = {"camera", "[\"name\", whole number]", take_camera, is_whole};

static rt_status read_list(rt_dataset *ds, const field *f, const char *where, const place *sorted, int64_t n, const json_t *list,
                           rt_error *err)
{
    if (!json_is_array(list))
        RT_RAISE(RT_E_INVALID, "%s: field '%s' must be null or an array of %.40s; make the data set again", where, f->name, f->must);
    size_t i;
    const json_t *pair;
    bool *seen = calloc((size_t)n, sizeof *seen);
    rt_status status = seen ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", where);
    json_array_foreach(list, i, pair)
    {
        const json_t *name = json_array_get(pair, 0), *value = json_array_get(pair, 1);
        if (status != RT_OK) break;
        if (!json_is_string(name) || !f->fits(value)) {
            status = rt_error_set(err, RT_E_INVALID, "%s: field '%s', element %zu, must be %s", where, f->name, i, f->must);
            break;
        }
        const place *p = bsearch(&(place){json_string_value(name), 0}, sorted, (size_t)n, sizeof *sorted, by_name);
        if (p) seen[p->at] = true;
        status = p ? f->take(ds, where, p->at, value, err)
                   : rt_error_set(err, RT_E_INVALID, "%s: field '%s' names '%.200s'; there is no such picture", where, f->name,
                                  json_string_value(name));
    }
    for (int64_t k = 0; k < n && status == RT_OK; k++)
        if (!seen[sorted[k].at])
            status = rt_error_set(err, RT_E_INVALID, "%s: field '%s' has none for '%s'; give every picture one, or set \"%s\": null", where,
                                  f->name, sorted[k].name, f->name);
    free(seen);
    return status;
}

static bool there(const json_t *root, const char *name)
{
    const json_t *v = json_object_get(root, name);
    return v && !json_is_null(v);
}

/* Captions and cameras are Retort's own additions; of other shapes, they are another tool's and are left alone. */
static bool ours(const json_t *root, const field *f)
{
    const json_t *list = json_object_get(root, f->name), *first = json_array_get(list, 0);
    return json_is_array(first) && json_array_size(first) == 2 && json_is_string(json_array_get(first, 0));
}

static rt_status read_lists(rt_dataset *ds, const char *where, const place *sorted, int64_t n, const json_t *root, rt_error *err)
{
    rt__items *it = ds->items;
    if (there(root, "labels")) {
        RT_TRY(room_for_labels(ds, n, err));
        RT_TRY(read_list(ds, &labels_field, where, sorted, n, json_object_get(root, "labels"), err));
        RT_TRY(class_names(ds, where, json_object_get(root, "classes"), err));
    }
    if (ours(root, &captions_field)) {
        it->captions = calloc((size_t)n, sizeof *it->captions);
        if (!it->captions) RT_RAISE(RT_E_MEMORY, "%s: out of memory for captions", where);
        it->n_captions = n;
        RT_TRY(read_list(ds, &captions_field, where, sorted, n, json_object_get(root, "captions"), err));
        ds->info.captions = true;
    }
    if (ours(root, &camera_field)) {
        it->cameras = calloc((size_t)n, sizeof *it->cameras);
        if (!it->cameras) RT_RAISE(RT_E_MEMORY, "%s: out of memory for cameras", where);
        RT_TRY(read_list(ds, &camera_field, where, sorted, n, json_object_get(root, "camera"), err));
    }
    return RT_OK;
}

rt_status rt__label_pictures(rt_dataset *ds, const char *where, char *const *names, int64_t n, int64_t left, const char *text, size_t size,
                             rt_error *err)
{
    if (!text) return label_by_folder(ds, where, names, n, left, err);
    char file[RT_DATA_PATH + 20];
    snprintf(file, sizeof file, "%s: dataset.json", where);
    json_t *root;
    RT_TRY(rt__json_parse(&root, file, text, size, 1 << 26, err)); /* a picture takes four values */
    place *sorted = malloc((size_t)n * sizeof *sorted);
    rt_status status = sorted ? RT_OK : rt_error_set(err, RT_E_MEMORY, "%s: out of memory", file);
    for (int64_t i = 0; sorted && i < n; i++) sorted[i] = (place){names[i], i};
    if (sorted) qsort(sorted, (size_t)n, sizeof *sorted, by_name);
    if (status == RT_OK) status = read_lists(ds, file, sorted, n, root, err);
    free(sorted);
    json_decref(root);
    return status;
}
